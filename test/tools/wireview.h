/* SPDX-License-Identifier: GPL-2.0-or-later */
/* wireview.h - an IP packet as it stands on the wire, read for judging. */
#ifndef TEST_WIREVIEW_H
#define TEST_WIREVIEW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FIN 0x01
#define SYN 0x02
#define RST 0x04
#define ACK 0x10

/* Addresses in 16 octets, IPv4 mapped; the pointers lie in the packet. */
struct view {
	uint8_t src[16], dst[16];
	uint8_t proto;
	bool fragment; /* not the whole datagram */
	uint16_t sport, dport;
	const uint8_t *ip, *l4;
	size_t ip_len, l4_len; /* by the IP header, no more than captured */
	uint8_t flags;
	uint32_t seq, ack;
	const uint8_t *payload;
	size_t payload_len;
};

/* Reads a packet of n octets captured. quoted: an ICMP error may have cut it, but eight octets behind the IP
 * header are there; payload is not set then. Returns false when it cannot be read. */
bool view_ip(struct view *v, const uint8_t *p, size_t n, bool quoted);

bool is_echo(const struct view *v, bool reply);
bool is_icmp_error(const struct view *v);
/* Destination unreachable, but not for size. */
bool is_unreachable(const struct view *v);
/* Neighbour discovery (RFC 4861): never forwarded. */
bool is_neighbour(const struct view *v);
bool is_multicast(const struct view *v);
/* IPv4 header and TCP, UDP, ICMP. */
bool checksums_right(const struct view *v);

void map4(uint8_t out[16], const uint8_t *four);

#endif
