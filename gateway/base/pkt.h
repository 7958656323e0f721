/* SPDX-License-Identifier: GPL-2.0-or-later */
/* pkt.h - an inner packet and what was read from its headers.
 *
 * A struct pkt does not own its octets: they lie in the buffer that they were received into, which outlives
 * the batch. pkt_parse() is the only reader of raw inner packets; whoever comes later relies on the offsets
 * that it checked. A super-packet (gso_size > 0) is one TCP or UDP flow's run of segments under one header.
 *
 *   data          data+l4            data+payload            data+len
 *   | IP header(s) | TCP/UDP/ICMP … | payload               |
 *
 * References: RFC 791, 8200, 9293, 768, 792, 4443, 1122; virtio 1.1, 5.1.6 for gso and partial checksums.
 */
#ifndef ARRD_BASE_PKT_H
#define ARRD_BASE_PKT_H

#include "gateway/base/addr.h"
#include "gateway/base/drop.h"

#include <stdbool.h>
#include <stdint.h>

#define PKT_MAX 65535 /* octets of the largest inner packet, super-packets included */

/* How far the L4 checksum can be trusted. Protocols without one that we know, and fragments, stay UNKNOWN. */
enum pkt_csum {
	PKT_CSUM_UNKNOWN, /* not looked at */
	PKT_CSUM_GOOD,    /* complete and right (UDP over IPv4: or absent) */
	PKT_CSUM_PARTIAL, /* the field holds the folded pseudo-header sum, the rest is still to be added */
};

struct pkt {
	uint8_t *data;
	uint32_t len;      /* octets from data; pkt_parse trims what lies behind the IP length */
	uint16_t gso_size; /* payload octets of each segment but the last; 0: an ordinary packet */
	uint8_t csum;      /* enum pkt_csum */
	uint8_t ver;       /* 4 or 6 */
	uint8_t ttl;
	uint8_t tos;     /* DSCP and ECN */
	bool df;         /* IPv4 DF; always true for IPv6 */
	bool frag;       /* a fragment, first or later */
	bool icmp_error; /* t is the packet's own (no ports), quote_* tell the packet that it quotes */
	uint8_t icmp_type;
	uint8_t icmp_code;
	uint8_t tcp_flags; /* of a TCP packet */
	uint8_t l4_type;   /* SCTP: of the first chunk; DCCP: of the packet */
	uint16_t l4;       /* offset of the L4 header (IPv6: behind the extension headers) */
	uint16_t payload; /* offset behind the L4 header (ICMP: behind its 8 octets); == l4 where the protocol
			   * is not looked into: fragments, and all but those with ports, ICMP over IPv4 and
			   * ICMPv6 over IPv6 */
	uint16_t quote;   /* ICMP error: offset of the quoted IP header */
	uint16_t quote_l4; /* offset of the quoted L4 header; at least 8 octets are there */
	/* Of a fragment: its place in the fragmentable part, whether more follows, Identification in host order (also of a
	 * packet that was put together); IPv6: where the fragment header stands. l4 is where its piece begins. */
	uint16_t frag_off, frag_hdr;
	bool frag_more;
	uint32_t frag_id;
	uint16_t frag_max; /* of a packet that was put together: length of its largest fragment; else 0 */
	uint16_t mss;      /* MSS option of a SYN, host order, 0: none */
	uint16_t mss_off;  /* where its value stands */
	uint8_t wscale;    /* window scale option of a SYN: shift + 1, 0: none */
	uint32_t sack;     /* highest right edge of SACK of a segment without SYN, host order, 0: none */
	struct tuple t;
	struct tuple qt; /* of the quoted packet, as quoted */
};

#define TCP_FIN 0x01
#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_PSH 0x08
#define TCP_ACK 0x10
#define TCP_URG 0x20
#define TCP_ECE 0x40
#define TCP_CWR 0x80

#define SCTP_INIT    1
#define DCCP_REQUEST 0

/* Offset of the checksum field in the L4 header of the protocols with an Internet checksum that we know, else -1. SCTP has
 * another one (crc32c.h). */
static inline int pkt_csum_offset(uint8_t ver, uint8_t proto)
{
	switch (proto) {
	case IPPROTO_TCP:
		return 16;
	case IPPROTO_UDP:
	case IPPROTO_UDPLITE:
	case IPPROTO_DCCP:
		return 6;
	case IPPROTO_ICMP:
		return ver == 4 ? 2 : -1;
	case IPPROTO_ICMPV6:
		return ver == 6 ? 2 : -1;
	default:
		return -1;
	}
}

/* Reads the headers of p->data[0..len) and fills everything but data, gso_size and csum. Never reads beyond
 * len. Returns DROP_NONE, or why the packet is not one to forward (then p's other fields mean nothing, but
 * ver, ttl, tos and t's addresses where they could be read).
 *
 * Fragments parse (frag is set, ports are 0, nothing behind the IP headers is read): the caller decides. An
 * IPv6 atomic fragment (offset 0, no more to come) is a whole packet, RFC 6946. ICMP messages that are
 * neither echo nor a known error (redirects, neighbour discovery, …) have icmp_type and no ports: the caller
 * judges them. An ICMP error whose quote does not reach to 8 octets of L4 header, or quotes a later fragment
 * or another ICMP error, is DROP_INNER_L4. Addresses are not judged but for IPv4-mapped ones in IPv6. */
enum drop pkt_parse(struct pkt *p);

/* Looks at the L4 checksum of a parsed packet of a protocol with ports, ICMP or ICMPv6 and sets p->csum. A field that holds
 * just the pseudo-header sum is PARTIAL: that is how the kernel's GRO and checksum offload leave inner
 * packets. Returns DROP_NONE or DROP_INNER_CHECKSUM. Packets that say gso_size or PARTIAL already are not
 * looked at. */
enum drop pkt_check_csum(struct pkt *p);

/* Completes a PARTIAL checksum of an ordinary packet (gso_size 0). */
void pkt_complete_csum(struct pkt *p);

/* How many packets a super-packet stands for; 1 for an ordinary one. */
static inline uint32_t pkt_segs(const struct pkt *p)
{
	if (!p->gso_size || p->len <= p->payload)
		return 1;
	return (p->len - p->payload + p->gso_size - 1) / p->gso_size;
}

/* Length of the largest IP packet that p becomes when it is segmented, or was when it came in fragments. */
static inline uint32_t pkt_wire_len(const struct pkt *p)
{
	uint32_t one = (uint32_t)p->payload + p->gso_size;

	if (p->frag_max)
		return p->frag_max;
	return p->gso_size && one < p->len ? one : p->len;
}

/* Rewriting, checksums (complete or partial) kept right by RFC 1624: one that was wrong stays wrong, an
 * absent one stays absent. a is of the packet's family; port is in network order, for ICMP echo the id; it is
 * ignored where p->t has none on that side. Not for fragments: theirs is a checksum over octets that are not
 * here. */
void pkt_set_src(struct pkt *p, const struct addr *a, uint16_t port);
void pkt_set_dst(struct pkt *p, const struct addr *a, uint16_t port);

/* Rewrites the quoted packet of an ICMP error: its source or destination address and port, its IPv4 header
 * checksum, and its L4 checksum where that is quoted; and the error's own checksum. */
void pkt_set_quote_src(struct pkt *p, const struct addr *a, uint16_t port);
void pkt_set_quote_dst(struct pkt *p, const struct addr *a, uint16_t port);

/* Lowers the TTL or hop limit by one. It must be above 0. */
void pkt_decrement_ttl(struct pkt *p);
/* Replaces the TTL or hop limit. */
void pkt_set_ttl(struct pkt *p, uint8_t ttl);
/* Replaces the Identification of an IPv4 header, host order. */
void pkt_set_id(struct pkt *p, uint16_t id);
/* Replaces DSCP and ECN. */
void pkt_set_tos(struct pkt *p, uint8_t tos);
/* Lowers the MSS option of a SYN to at most mss; leaves a smaller one. Returns true if it changed. */
bool pkt_clamp_mss(struct pkt *p, uint16_t mss);

#endif
