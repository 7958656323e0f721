/* SPDX-License-Identifier: GPL-2.0-or-later */
/* path_model.h - what a naive observer of the packet path knows: whose each octet is, who was seen behind a tuple, and how a
 * host puts fragments together.
 *
 * Every payload is made of units of eight octets that say which site they are from and for. Nothing here asks the gateway.
 */
#ifndef ARRD_TEST_PATH_MODEL_H
#define ARRD_TEST_PATH_MODEL_H

#include "test/unit/path_rig.h"

#include "flowstate/state.h"
#include "gateway/base/frag_cut.h"

/* Whose packets are. NOBODY: they must reach no tunnel. */
enum { SITE_A, SITE_B, SITE_C, SITE_D, SITE_E, SITES, EGRESS = SITES, NOBODY };

#define MODEL_ROOM 8192u /* octets of a datagram */
#define UNIT       8u

/* ---- tags ---------------------------------------------------------------------------------------------- */

struct tag {
	uint8_t from, to;
	uint32_t sent; /* tuple_number() of the packet as it was sent */
};
#define ANSWER 0x80 /* in from */

static inline uint32_t tuple_number(const struct tuple *t)
{
	uint32_t h = 2166136261u; /* FNV-1a */

	for (size_t i = 0; i < sizeof(*t); i++)
		h = (h ^ ((const uint8_t *)t)[i]) * 16777619u;
	return h;
}

static inline void tag_write(uint8_t *b, uint32_t n, struct tag t)
{
	for (uint32_t i = 0; i < n; i += UNIT) {
		b[i] = t.from;
		b[i + 1] = t.to;
		be32_put(b + i + 2, t.sent);
		be16_put(b + i + 6, (uint16_t)(i / UNIT));
	}
}

/* Reads the tag of n octets; all of them must be of the same two, and in their places. */
static inline struct tag tag_read(const uint8_t *b, uint32_t n)
{
	struct tag t;

	assert_true(n >= UNIT);
	t = (struct tag){b[0], b[1], be32_get(b + 2)};
	for (uint32_t i = 0; i + UNIT <= n; i += UNIT)
		if (b[i] != t.from || b[i + 1] != t.to || be16_get(b + i + 6) != i / UNIT)
			fail_msg("octets %u to %u of a datagram from %u for %u are from %u for %u, its "
				 "number %u",
				i, i + 7, t.from, t.to, b[i], b[i + 1], be16_get(b + i + 6));
	return t;
}

/* ---- packets ------------------------------------------------------------------------------------------- */

static inline uint32_t slow_crc(const uint8_t *p, size_t n)
{
	uint32_t r = UINT32_MAX;

	for (size_t i = 0; i < n; i++)
		for (int bit = 0; bit < 8; bit++)
			r = r >> 1 ^ ((r ^ p[i] >> bit) & 1 ? 0x82f63b78u : 0);
	return ~r;
}

/* A packet with this tuple; ICMP: request or reply, as the tuple says. */
static inline struct spec spec_of(const struct tuple *t)
{
	struct spec s = packet_spec(addr_is4(&t->src) ? 4 : 6, t->proto);

	s.src = t->src;
	s.dst = t->dst;
	s.sport = ntohs(t->sport);
	s.dport = ntohs(t->dport);
	s.df = false;
	s.window = UINT16_MAX;
	s.options[0] = 0;
	if (t->proto == IPPROTO_ICMP || t->proto == IPPROTO_ICMPV6) {
		bool request = t->dport == 0;

		s.icmp_type = s.ver == 4 ? (request ? 8 : 0) : (request ? 128 : 129);
		s.sport = request ? s.sport : s.dport;
	}
	return s;
}

#define SCTP_FRONT 20u /* header, and that of a chunk, whose type is icmp_type here */

/* Writes it with n octets of tags; returns its length. */
static inline uint32_t tagged_make(uint8_t *b, struct spec *s, uint32_t n, struct tag t)
{
	static uint8_t body[MODEL_ROOM + SCTP_FRONT];
	uint32_t front = s->proto == IPPROTO_SCTP ? SCTP_FRONT : 0, l4 = s->ver == 4 ? 20 : 40, len, crc;

	memset(body, 0, front);
	if (front) {
		be16_put(body, s->sport);
		be16_put(body + 2, s->dport);
		body[12] = s->icmp_type;
		be16_put(body + 14, (uint16_t)(8 + n));
	}
	tag_write(body + front, n, t);
	s->body = body;
	s->payload_len = front + n;
	len = packet_make(b, s);
	s->body = NULL;
	if (front) {
		crc = slow_crc(b + l4, len - l4);
		for (unsigned i = 0; i < 4; i++)
			b[l4 + 8 + i] = (uint8_t)(crc >> 8 * i);
	}
	return len;
}

/* Where its tags begin. */
static inline uint32_t tags_at(const struct pkt *p)
{
	return p->t.proto == IPPROTO_SCTP ? p->l4 + SCTP_FRONT : p->payload;
}

static inline struct addr addr4_at(const uint8_t *b)
{
	uint32_t a;

	memcpy(&a, b, sizeof(a));
	return addr_from4(a);
}

/* All checksums of a whole packet without options or extension headers, by slow arithmetic. */
static inline void slow_check(const uint8_t *b, uint32_t len)
{
	struct spec s = {.ver = b[0] >> 4};
	uint32_t l4 = s.ver == 4 ? 20 : 40, sum = 0, n = len - l4;

	if (s.ver == 4) {
		assert_int_equal(slow_sum(0, b, 20), 0xffff);
		assert_int_equal(be16_get(b + 2), len);
		s.src = addr4_at(b + 12);
		s.dst = addr4_at(b + 16);
	} else {
		assert_int_equal(be16_get(b + 4) + 40, len);
		s.src = addr_from6(b + 8);
		s.dst = addr_from6(b + 24);
	}
	s.proto = s.ver == 4 ? b[9] : b[6];
	if (s.proto == IPPROTO_SCTP) {
		uint8_t copy[MODEL_ROOM + SCTP_FRONT];
		uint32_t crc = 0;

		memcpy(copy, b + l4, n);
		memset(copy + 8, 0, 4);
		for (unsigned i = 0; i < 4; i++)
			crc |= (uint32_t)b[l4 + 8 + i] << 8 * i;
		assert_int_equal(slow_crc(copy, n), crc);
		return;
	}
	if (pkt_csum_offset(s.ver, s.proto) < 0)
		return;
	/* Fragments of two datagrams of a host's, and the first says how long its own was. */
	if (s.proto == IPPROTO_UDP && be16_get(b + l4 + 4) < n)
		n = be16_get(b + l4 + 4);
	if (s.proto != IPPROTO_ICMP)
		sum = slow_pseudo(&s, n);
	assert_int_equal(slow_sum(sum, b + l4, n), 0xffff);
}

/* ---- fragments ----------------------------------------------------------------------------------------- */

/* What a fragment's header says. */
struct piece {
	struct addr src, dst;
	uint32_t id, off, hlen, len; /* hlen: octets before its piece */
	uint8_t proto, ver;
	bool more, frag;
};

static inline struct piece piece_read(const uint8_t *b, uint32_t len)
{
	struct piece f = {.ver = b[0] >> 4, .proto = b[0] >> 4 == 4 ? b[9] : b[6]};

	if (f.ver == 4) {
		f.src = addr4_at(b + 12);
		f.dst = addr4_at(b + 16);
		f.id = be16_get(b + 4);
		f.off = (be16_get(b + 6) & 0x1fffu) * 8;
		f.more = be16_get(b + 6) & 0x2000;
		f.hlen = 20;
		f.frag = f.more || f.off;
	} else {
		f.src = addr_from6(b + 8);
		f.dst = addr_from6(b + 24);
		f.frag = f.proto == IPPROTO_FRAGMENT;
		f.hlen = 40;
		if (f.frag) {
			f.off = be16_get(b + 42) & 0xfff8u;
			f.more = be16_get(b + 42) & 1;
			f.id = be32_get(b + 44);
			f.hlen = 48;
			f.proto = b[40];
		}
	}
	f.len = len - f.hlen;
	return f;
}

/* Moves it by units of 8 octets. */
static inline void piece_shift(uint8_t *b, int units)
{
	if (b[0] >> 4 == 4) {
		be16_put(b + 6, (uint16_t)(be16_get(b + 6) + units));
		packet_ip_csum(b);
	} else {
		be16_put(b + 42, (uint16_t)(be16_get(b + 42) + units * 8));
	}
}

#define WHOLES 128
#define WHOLE_WAITS_MS                                                                                       \
	25000u /* and as long as fragments may be on their way, it is what the gateway counts with */

/* A datagram that some host is waiting for the rest of; where: any number, of a place where it is done. */
struct whole {
	bool used, has_first;
	unsigned where;
	struct piece key;
	uint64_t since;
	uint32_t total;
	uint8_t hdr[40], data[MODEL_ROOM + 64], got[(MODEL_ROOM + 64) / UNIT + 1];
};

static struct whole wholes[WHOLES];

static inline struct whole *whole_find(unsigned where, const struct piece *f)
{
	struct whole *free_one = NULL, *oldest = wholes;

	for (struct whole *w = wholes; w < wholes + WHOLES; w++) {
		if (w->used && rig.now - w->since >= WHOLE_WAITS_MS)
			w->used = false;
		if (w->used && w->where == where && w->key.id == f->id && w->key.proto == f->proto &&
			w->key.ver == f->ver && addr_eq(&w->key.src, &f->src) &&
			addr_eq(&w->key.dst, &f->dst))
			return w;
		if (!w->used)
			free_one = w;
		else if (w->since < oldest->since)
			oldest = w;
	}
	if (!free_one)
		free_one = oldest;
	memset(free_one, 0, sizeof(*free_one));
	free_one->used = true;
	free_one->where = where;
	free_one->key = *f;
	free_one->since = rig.now;
	return free_one;
}

/* Puts a fragment to the others as an unsuspecting host does. any_src: sources are not told apart. Returns the length of a
 * datagram that is complete by it, in out; else 0. */
static inline uint32_t reassemble(unsigned where, bool any_src, const uint8_t *b, uint32_t len, uint8_t *out)
{
	struct piece f = piece_read(b, len);
	struct whole *w;
	uint32_t hlen = f.ver == 4 ? 20 : 40;

	if (any_src)
		memset(&f.src, 0, sizeof(f.src));
	w = whole_find(where, &f);
	assert_true(f.off + f.len <= MODEL_ROOM + 64);
	memcpy(w->data + f.off, b + f.hlen, f.len);
	memset(w->got + f.off / UNIT, 1, (f.len + UNIT - 1) / UNIT);
	if (!f.more)
		w->total = f.off + f.len;
	if (f.off == 0) {
		memcpy(w->hdr, b, hlen);
		w->has_first = true;
	}
	if (!w->total || !w->has_first)
		return 0;
	for (uint32_t i = 0; i < (w->total + UNIT - 1) / UNIT; i++)
		if (!w->got[i])
			return 0;
	memcpy(out, w->hdr, hlen);
	memcpy(out + hlen, w->data, w->total);
	if (f.ver == 4) {
		be16_put(out + 2, (uint16_t)(hlen + w->total));
		be16_put(out + 6, 0);
		packet_ip_csum(out);
	} else {
		be16_put(out + 4, (uint16_t)w->total);
		out[6] = f.proto;
	}
	w->used = false;
	return hlen + w->total;
}

/* ---- who was seen behind a tuple ------------------------------------------------------------------------- */

/* A tuple that answers must have, in a site or at the egress, and whom they are for. */
struct seen {
	bool used;
	unsigned where, site;
	struct tuple
		t; /* of his answers; as he knows it: behind the kernel's masquerade without the destination */
	struct tuple inner; /* with it */
	bool masked;
	uint64_t last;
	struct spec answer;
	uint8_t raw[1500]; /* as it came: of a datagram of fragments, the first */
	uint32_t raw_len;
};

#define SEENS 4096
static struct seen seens[SEENS];
static unsigned nseens; /* those behind were never used */

/* The entry of a tuple, or a free one for it. What is older than for_ms is forgotten. */
static inline struct seen *seen_find(unsigned where, const struct tuple *inner, bool masked, uint64_t for_ms)
{
	struct seen *at = NULL;
	struct tuple t = *inner;

	if (masked)
		t.dst = addr_is4(&t.dst) ? addr_from4(0) : (struct addr){};

	for (struct seen *s = seens; s < seens + nseens; s++) {
		if (s->used && rig.now - s->last >= for_ms)
			s->used = false;
		if (s->used && s->where == where && memcmp(&s->t, &t, sizeof(t)) == 0)
			return s;
		if (!s->used && !at)
			at = s;
	}
	if (!at) {
		assert_true(nseens < SEENS);
		at = &seens[nseens++];
	}
	at->used = false;
	at->last = 0;
	at->t = t;
	at->masked = masked;
	at->where = where;
	return at;
}

#endif
