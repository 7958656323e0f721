/* SPDX-License-Identifier: GPL-2.0-or-later */
/* pkt_rewrite.c - changes header fields of a parsed packet, or of the packet that an ICMP error quotes.
 *
 * The change is carried into every checksum that covers it (RFC 1624), never by summing anew: damage stays visible. The
 * one sum that updating gets wrong is that of octets that are all zero, 0 instead of ffff in ones' complement: of all
 * that is rewritten here only an ICMP echo reply with id 0, sequence number 0 and nothing or zeros behind can be that.
 */
#include "gateway/base/be.h"
#include "gateway/base/crc32c.h"
#include "gateway/base/csum.h"
#include "gateway/base/pkt.h"

#include <netinet/icmp6.h>
#include <netinet/ip_icmp.h>

#define IP4_CSUM 10

/* One IP header and what follows it: the packet itself, or a quoted one. */
struct view {
	uint8_t *ip;
	uint32_t l4, len; /* octets from ip: of the L4 header, and that exist at all */
	struct tuple *t;
	uint8_t ver;
	bool partial; /* the L4 checksum is a partial one: covers the addresses, and is not inverted */
	bool quoted;
	bool opaque; /* what stands behind the IP header is not an L4 header (a fragment) */
};

enum side { SRC, DST };

/* Offset of the L4 checksum field, or 0 when there is none to keep right. */
static uint32_t csum_field(const struct view *v)
{
	int off = pkt_csum_offset(v->ver, v->t->proto);
	uint32_t field = v->l4 + (uint32_t)off;

	if (v->opaque || off < 0 || field + 2 > v->len)
		return 0;
	if (v->t->proto == IPPROTO_UDP && !v->partial && raw16_get(v->ip + field) == 0)
		return 0; /* the sender gave none, RFC 768 */
	return field;
}

/* Offset of the port or echo id of that side, or 0. Eight octets of L4 header are there, pkt_parse saw to it. */
static uint32_t port_field(const struct view *v, enum side side)
{
	uint8_t request = v->ver == 4 ? ICMP_ECHO : ICMP6_ECHO_REQUEST;
	uint8_t reply = v->ver == 4 ? ICMP_ECHOREPLY : ICMP6_ECHO_REPLY;

	if (v->opaque)
		return 0;
	if (proto_has_ports(v->t->proto))
		return v->l4 + (side == SRC ? 0 : 2);
	if (v->t->proto == (v->ver == 4 ? IPPROTO_ICMP : IPPROTO_ICMPV6) &&
		v->ip[v->l4] == (side == SRC ? request : reply))
		return v->l4 + 4;
	return 0;
}

static bool zero_means_none(uint8_t proto)
{
	return proto == IPPROTO_UDP || proto == IPPROTO_UDPLITE;
}

/* Every checksum but a partial one is the inverted sum. */
static uint16_t updated(uint16_t field, bool partial, const void *old, const void *new_, size_t n)
{
	return partial ? (uint16_t)~csum_update((uint16_t)~field, old, new_, n)
		       : csum_update(field, old, new_, n);
}

/* SCTP's covers ports, and no addresses (RFC 9260 6.8). That of a quoted packet is over octets that are not here, and
 * nobody checks it. */
static void update_crc(const struct view *v, uint32_t field, uint16_t old, uint16_t new_)
{
	uint8_t *crc = v->ip + v->l4 + 8, diff[2];
	uint16_t bits = old ^ new_;

	if (v->t->proto != IPPROTO_SCTP || v->quoted)
		return;
	raw16_put(diff, bits);
	le32_put(crc, le32_get(crc) ^ crc32c_zeros(crc32c(0, diff, 2), v->len - field - 2));
}

static void replace(const struct view *v, enum side side, const struct addr *a, uint16_t port)
{
	uint32_t n = v->ver == 4 ? 4 : 16;
	const uint8_t *new_ = a->b + 16 - n;
	uint8_t *field = v->ip + (v->ver == 4 ? 12 : 8) + (side == SRC ? 0 : n);
	uint32_t csum = csum_field(v), pf = port_field(v, side);
	uint16_t sum = csum ? raw16_get(v->ip + csum) : 0;

	if (csum && v->t->proto != IPPROTO_ICMP) /* ICMP alone has no pseudo-header */
		sum = updated(sum, v->partial, field, new_, n);
	if (v->ver == 4)
		raw16_put(v->ip + IP4_CSUM, csum_update(raw16_get(v->ip + IP4_CSUM), field, new_, n));
	memcpy(field, new_, n);
	*(side == SRC ? &v->t->src : &v->t->dst) = *a;

	if (pf) {
		if (csum && !v->partial)
			sum = csum_update16(sum, raw16_get(v->ip + pf), port);
		update_crc(v, pf, raw16_get(v->ip + pf), port);
		raw16_put(v->ip + pf, port);
		*(side == SRC ? &v->t->sport : &v->t->dport) = port;
	}
	if (csum)
		raw16_put(v->ip + csum, zero_means_none(v->t->proto) && sum == 0 ? 0xffff : sum);
}

static void replace_own(struct pkt *p, enum side side, const struct addr *a, uint16_t port)
{
	struct view v = {
		.ip = p->data,
		.l4 = p->l4,
		.len = p->len,
		.t = &p->t,
		.ver = p->ver,
		.partial = p->csum == PKT_CSUM_PARTIAL,
		.opaque = p->frag,
	};

	replace(&v, side, a, port);
}

void pkt_set_src(struct pkt *p, const struct addr *a, uint16_t port)
{
	replace_own(p, SRC, a, port);
}

void pkt_set_dst(struct pkt *p, const struct addr *a, uint16_t port)
{
	replace_own(p, DST, a, port);
}

static void replace_quoted(struct pkt *p, enum side side, const struct addr *a, uint16_t port)
{
	struct view v = {
		.ip = p->data + p->quote,
		.l4 = p->quote_l4 - p->quote,
		.len = p->len - p->quote,
		.t = &p->qt,
		.ver = p->ver,
		.quoted = true,
	};
	uint8_t *csum = p->data + p->l4 + pkt_csum_offset(p->ver, p->t.proto);
	uint32_t touched =
		v.l4 + 18 < v.len ? v.l4 + 18 : v.len; /* a TCP checksum is the last that may change */
	uint16_t before = csum_fold(csum_add(0, v.ip, touched));

	replace(&v, side, a, port);
	raw16_put(csum, csum_update16(raw16_get(csum), before, csum_fold(csum_add(0, v.ip, touched))));
}

void pkt_set_quote_src(struct pkt *p, const struct addr *a, uint16_t port)
{
	replace_quoted(p, SRC, a, port);
}

void pkt_set_quote_dst(struct pkt *p, const struct addr *a, uint16_t port)
{
	replace_quoted(p, DST, a, port);
}

/* Writes the 16-bit word at off of an IPv4 header. */
static void put_word4(struct pkt *p, uint32_t off, uint16_t v)
{
	uint8_t *w = p->data + off, *csum = p->data + IP4_CSUM;

	raw16_put(csum, csum_update16(raw16_get(csum), raw16_get(w), htons(v)));
	be16_put(w, v);
}

void pkt_decrement_ttl(struct pkt *p)
{
	pkt_set_ttl(p, p->ttl - 1);
}

void pkt_set_ttl(struct pkt *p, uint8_t ttl)
{
	p->ttl = ttl;
	if (p->ver == 4)
		put_word4(p, 8, (uint16_t)(p->ttl << 8 | p->t.proto));
	else
		p->data[7] = p->ttl;
}

void pkt_set_tos(struct pkt *p, uint8_t tos)
{
	p->tos = tos;
	if (p->ver == 4)
		put_word4(p, 0, (uint16_t)(p->data[0] << 8 | tos));
	else
		be16_put(p->data, (uint16_t)((be16_get(p->data) & 0xf00f) | tos << 4));
}

void pkt_set_id(struct pkt *p, uint16_t id)
{
	put_word4(p, 4, id);
}

bool pkt_clamp_mss(struct pkt *p, uint16_t mss)
{
	uint8_t *v = p->data + p->mss_off, *csum = p->data + p->l4 + pkt_csum_offset(p->ver, IPPROTO_TCP);
	uint16_t old, new_;

	if (!p->mss_off || p->mss <= mss)
		return false;
	old = raw16_get(v);
	new_ = htons(mss);
	be16_put(v, mss);
	p->mss = mss;
	if (p->csum == PKT_CSUM_PARTIAL) /* covers the addresses only */
		return true;
	if ((p->mss_off - p->l4) & 1) { /* the option straddles two words of the sum: RFC 1071 2 (B) */
		old = (uint16_t)(old << 8 | old >> 8);
		new_ = (uint16_t)(new_ << 8 | new_ >> 8);
	}
	raw16_put(csum, csum_update16(raw16_get(csum), old, new_));
	return true;
}
