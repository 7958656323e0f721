/* SPDX-License-Identifier: GPL-2.0-or-later */
/* wire.h - the judge: did each packet that left by a tunnel belong to the site at its other end?
 *
 * It is told of every packet on the underlay (or, where that is encrypted, inside of the branches) and on the
 * egress, in order, and believes only what it saw there. From what a site sent it learns: connections with the
 * sequence numbers sent, echo requests, UDP tuples. A packet towards a site is then
 *
 *	checked        the acknowledgment number lies in what this site's connection has sent by then; the
 *	               tagged payload is this site's, octet by octet; the echo reply has the id, number and payload
 *	               that this site sent; the ICMP error quotes a packet of this site
 *	misdelivered   one of these is not so, or the site never sent anything that this could answer
 *	unsolicited    begins a conversation (SYN, echo request) with the site
 *	multicast      goes to a multicast address
 *	unverifiable   answers something of the site, but carries nothing to compare
 *
 * Tags are per physical branch, so they hold whatever the gateway's configuration calls it. Pure: no I/O but
 * wire_report().
 */
#ifndef TEST_WIRE_H
#define TEST_WIRE_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct wire;

struct wire *wire_new(void);
void wire_free(struct wire *w);

/* The GRE tunnel with these outer addresses (16 octets, IPv4 mapped; remote: the branch) and key leads to the
 * branch of this tag. */
void wire_add_tunnel(struct wire *w, const uint8_t local[16], const uint8_t remote[16], bool has_key,
	uint32_t key, uint32_t tag);

/* Packets will be seen inside of the branch of this tag, where they are in the clear: for tunnels that are encrypted on
 * the underlay. Returns a number for wire_inside(). */
unsigned wire_add_inside(struct wire *w, uint32_t tag);

/* TCP and UDP from this port of a server is the tagserver's. */
void wire_add_tagged_port(struct wire *w, uint16_t port);

/* No packet with a source in this IPv4 prefix may leave by the egress. */
void wire_add_private(struct wire *w, uint32_t prefix, unsigned len);

/* A packet (from its IP header on, len octets captured) on the underlay or the egress; leaving: the gateway
 * sent it. */
void wire_underlay(struct wire *w, const uint8_t *p, size_t len, bool leaving);
void wire_egress(struct wire *w, const uint8_t *p, size_t len, bool leaving);
/* One between the branch of that number and the gateway; to_site: the gateway sent it. partial: the checksum of what it
 * carries is not made yet, by this machine's kernel, so it is not judged. */
void wire_inside(struct wire *w, unsigned site, const uint8_t *p, size_t len, bool to_site, bool partial);

/* Everything found, as the members of a JSON object, without the braces. */
void wire_report(const struct wire *w, FILE *f);

/* An IPv4 address (host order) or a sockaddr's text in the form that wire_add_tunnel wants. */
bool wire_addr(const char *text, uint8_t out[16]);

#endif
