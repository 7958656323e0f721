/* SPDX-License-Identifier: GPL-2.0-or-later */
/* pkt_parse.c - reads an inner packet's headers, once, for everybody who comes later.
 *
 * Every octet is reached through octets(), which checks the length; what it refuses is a drop. The order is
 * that of the packet: IP header and its options or extension headers, then one L4 header, and for ICMP errors
 * the headers of the packet that they quote.
 */
#include "gateway/base/be.h"
#include "gateway/base/csum.h"
#include "gateway/base/pkt.h"

#include <netinet/icmp6.h>
#include <netinet/ip_icmp.h>

#define IP4_HDR       20
#define IP6_HDR       40
#define TCP_HDR       20
#define UDP_HDR       8
#define UDPLITE_HDR   8
#define SCTP_HDR      12
#define DCCP_HDR      12 /* of the shorter form */
#define ICMP_HDR      8
#define QUOTED_L4     8 /* octets of L4 header that an ICMP error must quote, RFC 792 */
#define IP6_EXT_MAX   8 /* extension headers; RFC 8200 4.1 would need 7 for one of each and two of one */
#define IP4_LSRR      131
#define IP4_SSRR      137
#define IP4_OFFMASK   0x1fff
#define IP4_MF        0x2000
#define IP4_DF        0x4000
#define IP6_OFFMASK   0xfff8
#define IP6_MF        0x0001
#define TCPOPT_EOL    0
#define TCPOPT_NOP    1
#define TCPOPT_MSS    2
#define TCPOPT_WSCALE 3
#define TCPOPT_SACK   5
#define WSCALE_MAX    14 /* RFC 7323 2.3: a larger shift is taken as 14 */

/* The n octets at off, or NULL when the packet does not have them. */
static inline const uint8_t *octets(const struct pkt *p, uint32_t off, uint32_t n)
{
	return n <= p->len && off <= p->len - n ? p->data + off : NULL;
}

/* RFC 791 3.1: the options between the fixed header and ihl. */
static enum drop check_options4(const uint8_t *opt, uint32_t n)
{
	for (uint32_t i = 0; i < n && opt[i] != IPOPT_EOL;) {
		if (opt[i] == IP4_LSRR || opt[i] == IP4_SSRR)
			return DROP_SOURCE_ROUTE;
		if (opt[i] == IPOPT_NOP) {
			i++;
			continue;
		}
		if (n - i < 2 || opt[i + 1] < 2 || opt[i + 1] > n - i)
			return DROP_INNER_MALFORMED;
		i += opt[i + 1];
	}
	return DROP_NONE;
}

static enum drop parse4(struct pkt *p)
{
	const uint8_t *ip = octets(p, 0, IP4_HDR);
	uint32_t hlen, total, fragment;
	enum drop d;

	if (!ip)
		return DROP_INNER_TRUNCATED;
	p->ver = 4;
	p->tos = ip[1];
	p->ttl = ip[8];
	p->t.proto = ip[9];
	memcpy(&p->t.src, &(struct addr){.w = {0, 0, htonl(0xffff), 0}}, 12);
	p->t.dst = p->t.src;
	memcpy(&p->t.src.w[3], ip + 12, 4);
	memcpy(&p->t.dst.w[3], ip + 16, 4);

	hlen = (ip[0] & 0xfu) * 4;
	total = be16_get(ip + 2);
	if (hlen < IP4_HDR || total < hlen)
		return DROP_INNER_MALFORMED;
	if (total > p->len)
		return DROP_INNER_TRUNCATED;
	p->len = total;
	if (csum_fold(csum_add(0, ip, hlen)) != 0xffff)
		return DROP_INNER_MALFORMED;
	d = check_options4(ip + IP4_HDR, hlen - IP4_HDR);
	if (d)
		return d;

	fragment = be16_get(ip + 6);
	p->df = fragment & IP4_DF;
	p->frag = fragment & (IP4_MF | IP4_OFFMASK);
	p->frag_off = (uint16_t)((fragment & IP4_OFFMASK) * 8);
	p->frag_more = fragment & IP4_MF;
	p->frag_id = be16_get(ip + 4);
	if ((fragment & IP4_OFFMASK) * 8 + total > PKT_MAX) /* would end behind the largest datagram */
		return DROP_INNER_MALFORMED;
	p->l4 = (uint16_t)hlen;
	return DROP_NONE;
}

/* Where a chain of IPv6 extension headers ended. */
struct chain {
	uint32_t off;
	uint8_t proto;
	bool frag, later;  /* ended at a fragment header; not that of a first fragment */
	uint32_t frag_hdr; /* where that stands */
};

/* Follows the chain from c, which is the first next header, to the upper-layer header, RFC 8200 4. */
static enum drop walk6(const struct pkt *p, struct chain *c)
{
	bool fragment_seen = false;

	for (unsigned n = 0;; n++) {
		bool ext = c->proto == IPPROTO_HOPOPTS || c->proto == IPPROTO_ROUTING ||
			   c->proto == IPPROTO_FRAGMENT || c->proto == IPPROTO_DSTOPTS;
		const uint8_t *h;
		uint32_t size, fragment;

		if (!ext)
			return DROP_NONE;
		if (n == IP6_EXT_MAX || (c->proto == IPPROTO_HOPOPTS && n > 0))
			return DROP_EXTENSION_HEADERS;
		h = octets(p, c->off, 8);
		if (!h)
			return DROP_INNER_TRUNCATED;
		size = c->proto == IPPROTO_FRAGMENT ? 8 : (h[1] + 1u) * 8;
		if (!octets(p, c->off, size))
			return DROP_INNER_TRUNCATED;
		/* Type 0 is deprecated (RFC 5095); of the others only those that have arrived are harmless.
		 */
		if (c->proto == IPPROTO_ROUTING && (h[2] == 0 || h[3] > 0))
			return DROP_SOURCE_ROUTE;
		c->off += size;
		if (c->proto == IPPROTO_FRAGMENT) {
			if (fragment_seen)
				return DROP_EXTENSION_HEADERS;
			fragment_seen = true;
			fragment = be16_get(h + 2);
			c->frag = fragment & (IP6_OFFMASK | IP6_MF);
			c->later = fragment & IP6_OFFMASK;
			c->frag_hdr = c->off - size;
		}
		c->proto = h[0];
		if (c->frag)
			return DROP_NONE;
	}
}

static enum drop parse6(struct pkt *p)
{
	const uint8_t *ip = octets(p, 0, IP6_HDR);
	struct chain c = {.off = IP6_HDR};
	uint32_t total;
	enum drop d;

	if (!ip)
		return DROP_INNER_TRUNCATED;
	p->ver = 6;
	p->df = true;
	p->tos = (uint8_t)(be16_get(ip) >> 4);
	p->ttl = ip[7];
	p->t.src = addr_from6(ip + 8);
	p->t.dst = addr_from6(ip + 24);
	if (addr_is4(&p->t.src))
		return DROP_SOURCE_INVALID;
	if (addr_is4(&p->t.dst))
		return DROP_DST_INVALID;

	total = IP6_HDR + be16_get(ip + 4);
	c.proto = ip[6];
	/* A length of 0 with a hop-by-hop header is a jumbogram (RFC 2675), which no tunnel here can carry.
	 */
	if (total > PKT_MAX || (total == IP6_HDR && c.proto == IPPROTO_HOPOPTS))
		return DROP_INNER_MALFORMED;
	if (total > p->len)
		return DROP_INNER_TRUNCATED;
	p->len = total;
	d = walk6(p, &c);
	if (d)
		return d;
	p->l4 = (uint16_t)c.off;
	p->t.proto = c.proto;
	p->frag = c.frag;
	if (c.frag) {
		const uint8_t *h = p->data + c.frag_hdr;

		p->frag_hdr = (uint16_t)c.frag_hdr;
		p->frag_off = be16_get(h + 2) & IP6_OFFMASK;
		p->frag_more = be16_get(h + 2) & IP6_MF;
		p->frag_id = be32_get(h + 4);
	}
	return DROP_NONE;
}

static void take_syn_option(struct pkt *p, const uint8_t *tcp, uint32_t i)
{
	if (tcp[i] == TCPOPT_MSS && tcp[i + 1] == 4) {
		p->mss = be16_get(tcp + i + 2);
		p->mss_off = (uint16_t)(p->l4 + i + 2);
	} else if (tcp[i] == TCPOPT_WSCALE && tcp[i + 1] == 3) {
		p->wscale = (tcp[i + 2] < WSCALE_MAX ? tcp[i + 2] : WSCALE_MAX) + 1;
	}
}

/* RFC 2018 3: left and right edges. The right one that lies farthest ahead of the acknowledgment is kept. */
static void take_sack(struct pkt *p, const uint8_t *tcp, uint32_t i)
{
	uint32_t ack = be32_get(tcp + 8);

	if (tcp[i] != TCPOPT_SACK)
		return;
	for (uint32_t edge = i + 6; edge + 4 <= i + tcp[i + 1]; edge += 8) {
		uint32_t right = be32_get(tcp + edge);

		if ((int32_t)(right - ack) > 0 && (!p->sack || (int32_t)(right - p->sack) > 0))
			p->sack = right;
	}
}

/* RFC 9293 3.1. Where an option comes twice, the last one counts, as for most receivers. What makes no sense is refused in
 * a SYN, which is changed here; elsewhere it is the receiver's affair. */
static enum drop parse_options(struct pkt *p, const uint8_t *tcp, uint32_t n)
{
	bool syn = p->tcp_flags & TCP_SYN;

	for (uint32_t i = TCP_HDR; i < n && tcp[i] != TCPOPT_EOL;) {
		if (tcp[i] == TCPOPT_NOP) {
			i++;
			continue;
		}
		if (n - i < 2 || tcp[i + 1] < 2 || tcp[i + 1] > n - i)
			return syn ? DROP_INNER_L4 : DROP_NONE;
		if (syn)
			take_syn_option(p, tcp, i);
		else
			take_sack(p, tcp, i);
		i += tcp[i + 1];
	}
	return DROP_NONE;
}

/* Timestamps and nothing else: most segments (RFC 7323, appendix A). */
static bool is_usual(const uint8_t *tcp, uint32_t n)
{
	return n == TCP_HDR || (n == TCP_HDR + 12 && be32_get(tcp + TCP_HDR) == 0x0101080a);
}

/* Where there are any, they stand first. */
static void take_ports(struct tuple *t, const uint8_t *l4)
{
	t->sport = raw16_get(l4);
	t->dport = raw16_get(l4 + 2);
}

/* RFC 9293 3.10: what is neither SYN, RST nor acknowledges something is not looked at by any receiver, and a SYN neither
 * ends nor resets. */
static bool tcp_flags_contradict(uint8_t flags)
{
	switch (flags & (TCP_SYN | TCP_RST | TCP_FIN)) {
	case 0:
	case TCP_FIN:
		return !(flags & TCP_ACK);
	case TCP_SYN:
	case TCP_RST:
		return false;
	default:
		return true;
	}
}

static enum drop parse_tcp(struct pkt *p)
{
	const uint8_t *tcp = octets(p, p->l4, TCP_HDR);
	uint32_t hlen;

	if (!tcp)
		return DROP_INNER_L4;
	hlen = (tcp[12] >> 4) * 4u;
	if (hlen < TCP_HDR || !octets(p, p->l4, hlen))
		return DROP_INNER_L4;
	take_ports(&p->t, tcp);
	p->tcp_flags = tcp[13];
	if (tcp_flags_contradict(p->tcp_flags))
		return DROP_INNER_L4;
	p->payload = (uint16_t)(p->l4 + hlen);
	return is_usual(tcp, hlen) ? DROP_NONE : parse_options(p, tcp, hlen);
}

/* A UDP length below the IP length is legal: what lies behind are UDP options (RFC 9868), which are forwarded
 * as they are. */
static enum drop parse_udp(struct pkt *p)
{
	const uint8_t *udp = octets(p, p->l4, UDP_HDR);
	uint32_t length;

	if (!udp)
		return DROP_INNER_L4;
	length = be16_get(udp + 4);
	if (length < UDP_HDR || length > p->len - p->l4)
		return DROP_INNER_L4;
	take_ports(&p->t, udp);
	p->payload = p->l4 + UDP_HDR;
	return DROP_NONE;
}

/* RFC 3828 3.1: how much the checksum covers, 0 for all. */
static enum drop parse_udplite(struct pkt *p)
{
	const uint8_t *udp = octets(p, p->l4, UDPLITE_HDR);
	uint32_t coverage;

	if (!udp)
		return DROP_INNER_L4;
	coverage = be16_get(udp + 4);
	if (coverage && (coverage < UDPLITE_HDR || coverage > p->len - p->l4))
		return DROP_INNER_L4;
	take_ports(&p->t, udp);
	p->payload = p->l4 + UDPLITE_HDR;
	return DROP_NONE;
}

/* RFC 9260 3: a common header, and at least one chunk. */
static enum drop parse_sctp(struct pkt *p)
{
	const uint8_t *sctp = octets(p, p->l4, SCTP_HDR + 4);

	if (!sctp)
		return DROP_INNER_L4;
	take_ports(&p->t, sctp);
	p->l4_type = sctp[SCTP_HDR];
	p->payload = p->l4 + SCTP_HDR;
	return DROP_NONE;
}

/* RFC 4340 5.1. */
static enum drop parse_dccp(struct pkt *p)
{
	const uint8_t *dccp = octets(p, p->l4, DCCP_HDR);
	uint32_t hlen, coverage;

	if (!dccp)
		return DROP_INNER_L4;
	hlen = dccp[4] * 4u;
	coverage = dccp[5] & 15;
	if (hlen < DCCP_HDR + (dccp[8] & 1 ? 4u : 0u) || !octets(p, p->l4, hlen) ||
		(coverage && hlen + (coverage - 1) * 4 > p->len - p->l4))
		return DROP_INNER_L4;
	take_ports(&p->t, dccp);
	p->l4_type = dccp[8] >> 1 & 15;
	p->payload = (uint16_t)(p->l4 + hlen);
	return DROP_NONE;
}

static bool is_icmp(uint8_t ver, uint8_t proto)
{
	return proto == (ver == 4 ? IPPROTO_ICMP : IPPROTO_ICMPV6);
}

static bool is_icmp_error(uint8_t ver, uint8_t type)
{
	if (ver == 4)
		return type == ICMP_DEST_UNREACH || type == ICMP_SOURCE_QUENCH ||
		       type == ICMP_TIME_EXCEEDED || type == ICMP_PARAMETERPROB;
	return type >= ICMP6_DST_UNREACH && type <= ICMP6_PARAM_PROB;
}

/* The id of an echo message takes the port's place on the side of the one who asked, see struct tuple. */
static void echo_ports(struct tuple *t, uint8_t ver, const uint8_t *icmp)
{
	if (icmp[0] == (ver == 4 ? ICMP_ECHO : ICMP6_ECHO_REQUEST))
		t->sport = raw16_get(icmp + 4);
	else if (icmp[0] == (ver == 4 ? ICMP_ECHOREPLY : ICMP6_ECHO_REPLY))
		t->dport = raw16_get(icmp + 4);
}

/* Finds the L4 header of the quoted packet. Only what is needed to be safe is checked: it was changed on its
 * way, and is cut off. */
static bool locate_quoted_l4(struct pkt *p)
{
	const uint8_t *ip = octets(p, p->quote, p->ver == 4 ? IP4_HDR : IP6_HDR);
	struct chain c;

	if (!ip || ip[0] >> 4 != p->ver)
		return false;
	if (p->ver == 4) {
		uint32_t hlen = (ip[0] & 0xfu) * 4;
		uint32_t src, dst;

		if (hlen < IP4_HDR || (be16_get(ip + 6) & IP4_OFFMASK))
			return false;
		memcpy(&src, ip + 12, 4);
		memcpy(&dst, ip + 16, 4);
		p->qt = (struct tuple){.src = addr_from4(src), .dst = addr_from4(dst), .proto = ip[9]};
		p->quote_l4 = (uint16_t)(p->quote + hlen);
		return true;
	}
	c = (struct chain){.off = p->quote + IP6_HDR, .proto = ip[6]};
	if (walk6(p, &c) || c.later)
		return false;
	p->qt = (struct tuple){.src = addr_from6(ip + 8), .dst = addr_from6(ip + 24), .proto = c.proto};
	p->quote_l4 = (uint16_t)c.off;
	return !addr_is4(&p->qt.src) && !addr_is4(&p->qt.dst);
}

static enum drop parse_quote(struct pkt *p)
{
	const uint8_t *l4;

	p->quote = p->l4 + ICMP_HDR;
	if (!locate_quoted_l4(p))
		return DROP_INNER_L4;
	l4 = octets(p, p->quote_l4, QUOTED_L4);
	if (!l4)
		return DROP_INNER_L4;
	if (proto_has_ports(p->qt.proto)) {
		take_ports(&p->qt, l4);
	} else if (is_icmp(p->ver, p->qt.proto)) {
		if (is_icmp_error(
			    p->ver, l4[0])) /* nobody may answer an error with an error, RFC 1122 3.2.2 */
			return DROP_INNER_L4;
		echo_ports(&p->qt, p->ver, l4);
	}
	p->icmp_error = true;
	return DROP_NONE;
}

static enum drop parse_icmp(struct pkt *p)
{
	const uint8_t *icmp = octets(p, p->l4, ICMP_HDR);

	if (!icmp)
		return DROP_INNER_L4;
	p->icmp_type = icmp[0];
	p->icmp_code = icmp[1];
	p->payload = p->l4 + ICMP_HDR;
	echo_ports(&p->t, p->ver, icmp);
	return is_icmp_error(p->ver, p->icmp_type) ? parse_quote(p) : DROP_NONE;
}

enum drop pkt_parse(struct pkt *p)
{
	const uint8_t *first;
	enum drop d;

	*p = (struct pkt){.data = p->data,
		.len = p->len,
		.gso_size = p->gso_size,
		.csum = p->csum,
		.frag_max = p->frag_max,
		.frag_id = p->frag_max ? p->frag_id : 0};
	first = octets(p, 0, 1);
	if (!first)
		return DROP_INNER_TRUNCATED;
	switch (*first >> 4) {
	case 4:
		d = parse4(p);
		break;
	case 6:
		d = parse6(p);
		break;
	default:
		d = DROP_INNER_MALFORMED;
	}
	if (d)
		return d;

	p->payload = p->l4;
	if (p->frag)
		return DROP_NONE;
	switch (p->t.proto) {
	case IPPROTO_TCP:
		return parse_tcp(p);
	case IPPROTO_UDP:
		return parse_udp(p);
	case IPPROTO_UDPLITE:
		return parse_udplite(p);
	case IPPROTO_SCTP:
		return parse_sctp(p);
	case IPPROTO_DCCP:
		return parse_dccp(p);
	default:
		return is_icmp(p->ver, p->t.proto) ? parse_icmp(p) : DROP_NONE;
	}
}
