/* SPDX-License-Identifier: GPL-2.0-or-later */
/* gre.h - the GRE header (RFC 2784, RFC 2890): pure reading and writing. */
#ifndef ARRD_GRE_GRE_H
#define ARRD_GRE_GRE_H

#include "gateway/base/drop.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#define GRE_HDR_MAX    16 /* base, checksum, key, sequence */
#define GRE_PROTO_IPV4 0x0800
#define GRE_PROTO_IPV6 0x86dd
#define GRE_PROTO_NONE 0 /* the answer to a Cisco keepalive */

struct gre_hdr {
	bool has_csum, has_key, has_seq;
	uint16_t proto; /* host order */
	uint16_t len;   /* of the header, octets; set by gre_decode */
	uint32_t key;   /* host order */
	uint32_t seq;
};

/* Reads the header of a GRE packet of len octets; with the C bit the checksum over all of it is verified.
 * Returns DROP_NONE or one of DROP_GRE_*; with DROP_GRE_CHECKSUM h is filled in, too. Of the bits that RFC
 * 2784 reserves, 1 to 5 without K and S must be zero; 6 to 12 and the field behind the checksum are ignored,
 * as its 2.3 says. The protocol is reported, not judged. */
enum drop gre_decode(const uint8_t *p, uint32_t len, struct gre_hdr *h);

/* Length of the header that gre_encode will write for h. */
static inline uint32_t gre_hdr_len(const struct gre_hdr *h)
{
	return 4u + (h->has_csum ? 4 : 0) + (h->has_key ? 4 : 0) + (h->has_seq ? 4 : 0);
}

/* Writes the header; payload (n parts; only the last may be of odd length) is what will follow, and is read
 * only when the checksum is wanted. Returns the header's length. */
uint32_t gre_encode(
	uint8_t buf[static GRE_HDR_MAX], const struct gre_hdr *h, const struct iovec *payload, unsigned n);

/* Reads the key of a header that is cut off, as an ICMP error quotes it. Returns false when it ends before
 * one can tell whether there is a key, and which. */
bool gre_peek_key(const uint8_t *p, uint32_t len, bool *has_key, uint32_t *key);

/* A Cisco keepalive is a GRE packet around an IPv4 packet from the receiver to the sender around a GRE header
 * of protocol 0: forwarding its inside answers it. Returns true when inner (len octets) is one for the tunnel
 * with these outer addresses (network order), and sets off to where the inner GRE header begins. That one is
 * whole, its checksum right if it has one; on a keyed tunnel it carries the key again. */
bool gre_is_keepalive(const uint8_t *inner, uint32_t len, uint32_t local, uint32_t remote, uint32_t *off);

#endif
