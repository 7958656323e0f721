/* SPDX-License-Identifier: GPL-2.0-or-later */
/* wireview.c - an IP packet as it stands on the wire, read for judging. */
#include "test/tools/wireview.h"

#include "test/tools/tool.h"

#include <netinet/icmp6.h>
#include <netinet/ip_icmp.h>
#include <string.h>

void map4(uint8_t out[16], const uint8_t *four)
{
	memset(out, 0, 10);
	out[10] = out[11] = 0xff;
	memcpy(out + 12, four, 4);
}

static bool view_l4(struct view *v)
{
	if (v->fragment)
		return true;
	const uint8_t *p = v->l4;
	size_t n = v->l4_len, hdr = 0;
	switch (v->proto) {
	case IPPROTO_TCP:
		if (n < 20 || (hdr = (size_t)(p[12] >> 4) * 4) < 20 || hdr > n)
			return false;
		v->seq = get32(p + 4);
		v->ack = get32(p + 8);
		v->flags = p[13];
		break;
	case IPPROTO_UDP:
	case IPPROTO_ICMP:
	case IPPROTO_ICMPV6:
		if (n < 8)
			return false;
		hdr = 8;
		break;
	default:
		break;
	}
	if (v->proto == IPPROTO_TCP || v->proto == IPPROTO_UDP) {
		v->sport = get16(p);
		v->dport = get16(p + 2);
	}
	v->payload = p + hdr;
	v->payload_len = n - hdr;
	return true;
}

/* Reads what is there of a packet; quoted: an ICMP error may have cut it, eight octets behind the IP header
 * do. */
bool view_ip(struct view *v, const uint8_t *p, size_t n, bool quoted)
{
	size_t at, total;

	memset(v, 0, sizeof(*v));
	v->ip = p;
	if (n >= 20 && p[0] >> 4 == 4) {
		at = (p[0] & 15u) * 4;
		total = get16(p + 2);
		map4(v->src, p + 12);
		map4(v->dst, p + 16);
		v->proto = p[9];
		v->fragment = get16(p + 6) & 0x3fff;
	} else if (n >= 40 && p[0] >> 4 == 6) {
		at = 40;
		total = 40u + get16(p + 4);
		memcpy(v->src, p + 8, 16);
		memcpy(v->dst, p + 24, 16);
		v->proto = p[6];
		while ((v->proto == IPPROTO_HOPOPTS || v->proto == IPPROTO_DSTOPTS ||
			       v->proto == IPPROTO_FRAGMENT) &&
			at + 8 <= n) {
			v->fragment |= v->proto == IPPROTO_FRAGMENT;
			v->proto = p[at];
			at += p[at] == IPPROTO_FRAGMENT ? 8 : (p[at + 1] + 1u) * 8;
		}
	} else {
		return false;
	}
	if (quoted) {
		if (at + 8 > n)
			return false;
		v->l4 = p + at;
		v->l4_len = n - at;
		if (v->proto == IPPROTO_TCP || v->proto == IPPROTO_UDP) {
			v->sport = get16(v->l4);
			v->dport = get16(v->l4 + 2);
			v->seq = get32(v->l4 + 4);
		}
		return true;
	}
	if (total > n || at > total)
		return false;
	v->ip_len = total;
	v->l4 = p + at;
	v->l4_len = total - at;
	return view_l4(v);
}

bool is_echo(const struct view *v, bool reply)
{
	if (v->fragment)
		return false;
	if (v->proto == IPPROTO_ICMP)
		return v->l4[0] == (reply ? ICMP_ECHOREPLY : ICMP_ECHO);
	return v->proto == IPPROTO_ICMPV6 && v->l4[0] == (reply ? ICMP6_ECHO_REPLY : ICMP6_ECHO_REQUEST);
}

bool is_icmp_error(const struct view *v)
{
	if (v->fragment)
		return false;
	if (v->proto == IPPROTO_ICMPV6)
		return v->l4[0] < ICMP6_ECHO_REQUEST;
	return v->proto == IPPROTO_ICMP &&
	       (v->l4[0] == ICMP_DEST_UNREACH || v->l4[0] == ICMP_SOURCE_QUENCH ||
		       v->l4[0] == ICMP_TIME_EXCEEDED || v->l4[0] == ICMP_PARAMETERPROB);
}

bool is_unreachable(const struct view *v)
{
	return is_icmp_error(v) &&
	       v->l4[0] == (v->proto == IPPROTO_ICMP ? ICMP_DEST_UNREACH : ICMP6_DST_UNREACH) &&
	       !(v->proto == IPPROTO_ICMP && v->l4[1] == ICMP_FRAG_NEEDED);
}

bool is_neighbour(const struct view *v)
{
	return v->proto == IPPROTO_ICMPV6 && !v->fragment && v->ip[7] == 255 &&
	       v->l4[0] >= ND_ROUTER_SOLICIT && v->l4[0] <= ND_REDIRECT;
}

bool is_multicast(const struct view *v)
{
	static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};

	return v->dst[0] == 0xff || (!memcmp(v->dst, mapped, 12) && v->dst[12] >> 4 == 14);
}

bool checksums_right(const struct view *v)
{
	bool v4 = v->ip[0] >> 4 == 4;

	if (v4 && fold16(sum16(v->ip, (v->ip[0] & 15u) * 4)) != 0xffff)
		return false;
	if (v->fragment)
		return true;
	if (v->proto == IPPROTO_ICMP)
		return fold16(sum16(v->l4, v->l4_len)) == 0xffff;
	if (v->proto != IPPROTO_TCP && v->proto != IPPROTO_UDP && v->proto != IPPROTO_ICMPV6)
		return true;
	if (v->proto == IPPROTO_UDP && v4 && get16(v->l4 + 6) == 0)
		return true;
	uint64_t pseudo = v->proto + v->l4_len + (v4 ? sum16(v->ip + 12, 8) : sum16(v->ip + 8, 32));
	return fold16(pseudo + sum16(v->l4, v->l4_len)) == 0xffff;
}
