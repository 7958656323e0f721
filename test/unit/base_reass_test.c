/* SPDX-License-Identifier: GPL-2.0-or-later */
/* base_reass_test.c - packets cut into fragments, and put together again: in any order, of many at once, and never mixed. */
#include "gateway/base/be.h"
#include "gateway/base/frag_cut.h"
#include "gateway/base/reass.h"
#include "test/unit/packet.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define LIMITS                                                                                               \
	{                                                                                                    \
		.datagrams = 64, .datagrams_a_realm = 16, .octets = 1 << 20, .octets_a_realm = 1 << 19,      \
		.timeout_ms = 30000                                                                          \
	}

struct lost {
	uint32_t n[DROP_COUNT], via[DROP_COUNT];
};

static void on_lost(void *arg, uint32_t via, enum drop why, uint32_t packets)
{
	struct lost *l = arg;

	l->n[why] += packets;
	l->via[why] = via;
}

static struct reass *open_with(const struct reass_limits *l, struct lost *lost)
{
	struct reass *r;

	assert_int_equal(reass_new(&r, l), 0);
	memset(lost, 0, sizeof(*lost));
	reass_on_lost(r, on_lost, lost);
	return r;
}

struct fragment {
	uint32_t realm, len;
	uint8_t b[1500];
};

/* Cuts the packet at b. Returns how many fragments. */
static unsigned cut(
	struct fragment *out, uint32_t realm, const uint8_t *b, uint32_t len, uint32_t limit, uint32_t id)
{
	struct pkt p = {.data = (uint8_t *)(uintptr_t)b, .len = len};
	const uint8_t *payload;
	struct frag_cut c;
	uint32_t hlen, plen;
	unsigned n = 0;

	assert_int_equal(pkt_parse(&p), DROP_NONE);
	assert_true(frag_cut_start(
		&c, p.ver, b, p.payload, b + p.payload, len - p.payload, limit, id, p.ver == 4 && p.df));
	while ((hlen = frag_cut_next(&c, out[n].b, &payload, &plen))) {
		struct pkt f = {.data = out[n].b, .len = hlen + plen};

		assert_true(hlen + plen <= limit);
		memcpy(out[n].b + hlen, payload, plen);
		out[n].len = hlen + plen;
		out[n].realm = realm;
		assert_int_equal(pkt_parse(&f), DROP_NONE);
		assert_int_equal(f.frag_id, p.ver == 4 ? (id & 0xffff) : id);
		n++;
	}
	return n;
}

static enum drop give(struct reass *r, const struct fragment *f, uint64_t now)
{
	struct pkt p = {.data = (uint8_t *)(uintptr_t)f->b, .len = f->len};

	assert_int_equal(pkt_parse(&p), DROP_NONE);
	assert_true(p.frag);
	return reass_take(r, f->realm, f->realm + 1000, &p, now);
}

/* The packet but for what cutting changes: Identification, and the checksum over it. */
static void assert_same(const uint8_t *a, uint32_t alen, const uint8_t *b, uint32_t blen)
{
	uint8_t x[2][70000];

	assert_int_equal(alen, blen);
	memcpy(x[0], a, alen);
	memcpy(x[1], b, blen);
	if (a[0] >> 4 == 4) {
		memset(x[0] + 4, 0, 2);
		memset(x[1] + 4, 0, 2);
		memset(x[0] + 10, 0, 2);
		memset(x[1] + 10, 0, 2);
	}
	assert_memory_equal(x[0], x[1], alen);
}

/* An IPv6 packet gets extension headers before the UDP header: hop-by-hop, destination options, routing that has arrived,
 * destination options; those of mask. */
static uint32_t extend6(uint8_t *b, uint32_t len, unsigned mask)
{
	static const uint8_t kind[4] = {IPPROTO_HOPOPTS, IPPROTO_DSTOPTS, IPPROTO_ROUTING, IPPROTO_DSTOPTS};
	uint32_t at = 40, next = 6;

	for (unsigned k = 0; k < 4; k++) {
		static const uint8_t options[8] = {0, 0, 1, 4, 0, 0, 0, 0},
				     routing[8] = {0, 0, 4, 0, 0, 0, 0, 0};

		if (!(mask & 1u << k))
			continue;
		memmove(b + at + 8, b + at, len - at);
		memcpy(b + at, k == 2 ? routing : options, 8);
		b[at] = b[next];
		b[next] = kind[k];
		next = at;
		at += 8;
		len += 8;
	}
	be16_put(b + 4, (uint16_t)(len - 40));
	return len;
}

enum { PACKETS = 12 };

/* Several realms' packets with equal addresses and Identifications, cut, shuffled, some fragments twice. */
static void test_round_trips(void **state)
{
	static uint8_t packet[PACKETS][70000], whole[PKT_MAX];
	static struct fragment f[PACKETS * 80];
	const struct reass_limits limits = LIMITS;
	uint64_t random = 4711;
	struct lost lost;
	struct reass *r = open_with(&limits, &lost);

	(void)state;
	for (unsigned round = 0; round < 300; round++) {
		uint32_t len[PACKETS], limit = 576 + rnd(&random) % 900, left = PACKETS;
		bool came[PACKETS] = {false};
		unsigned n = 0;

		for (unsigned i = 0; i < PACKETS; i++) {
			struct spec s = packet_spec(i % 2 ? 6 : 4, IPPROTO_UDP);

			s.tos = (uint8_t)(i % 3 ? 2 : 0);
			s.df = i % 4 == 0;
			s.fill = rnd(&random);
			s.payload_len = limit + rnd(&random) % (round % 10 ? 4000 : 30000);
			len[i] = packet_make(packet[i], &s);
			if (i % 2)
				len[i] = extend6(packet[i], len[i], rnd(&random) % 16);
			n += cut(f + n, i, packet[i], len[i], limit, 7 + i / 6);
		}
		for (unsigned i = n; i > 1; i--) {
			unsigned k = rnd(&random) % i;
			struct fragment x = f[i - 1];

			f[i - 1] = f[k];
			f[k] = x;
		}
		for (unsigned i = 0; i < n; i++) {
			uint32_t realm, via, packets;
			struct pkt p;

			assert_int_equal(give(r, &f[i], round), DROP_NONE);
			while (reass_next(r, whole, &p, &realm, &via, &packets)) {
				assert_int_equal(via, realm + 1000);
				assert_false(came[realm]);
				came[realm] = true;
				left--;
				assert_same(p.data, p.len, packet[realm], len[realm]);
				assert_int_equal(pkt_parse(&p), DROP_NONE);
				assert_int_equal(pkt_check_csum(&p), DROP_NONE);
				assert_true(p.frag_max <= limit && p.frag_max > limit - 8);
			}
			if (rnd(&random) % 8 == 0 && !came[f[i].realm])
				assert_int_equal(give(r, &f[i], round), DROP_FRAGMENT_DUPLICATE);
		}
		assert_int_equal(left, 0);
		assert_int_equal(reass_waiting(r), 0);
		assert_int_equal(reass_octets(r), 0);
	}
	reass_free(r);
}

/* Fragments of one datagram by hand: offset and length in octets, more to come, and what becomes of each. */
static void test_what_does_not_fit(void **state)
{
	static const struct {
		const char *name;
		struct {
			uint16_t off, len, more;
			uint8_t tos;
			enum drop drop;
		} f[4];
		bool whole;
	} rows[] = {
		{"in order", {{0, 16, 1, 0, 0}, {16, 8, 0, 0, 0}}, true},
		{"overlaps what came before",
			{{0, 16, 1, 0, 0}, {8, 16, 0, 0, DROP_FRAGMENT_OVERLAP},
				{16, 8, 0, 0, DROP_FRAGMENT_OVERLAP}},
			false},
		{"overlaps what comes behind",
			{{16, 16, 0, 0, 0}, {8, 16, 1, 0, DROP_FRAGMENT_OVERLAP},
				{0, 16, 1, 0, DROP_FRAGMENT_OVERLAP}},
			false},
		{"encloses", {{8, 8, 1, 0, 0}, {0, 24, 1, 0, DROP_FRAGMENT_OVERLAP}}, false},
		{"is enclosed", {{0, 24, 1, 0, 0}, {8, 8, 1, 0, DROP_FRAGMENT_OVERLAP}}, false},
		{"same place, shorter", {{0, 16, 1, 0, 0}, {0, 8, 1, 0, DROP_FRAGMENT_OVERLAP}}, false},
		{"twice the same",
			{{0, 16, 1, 0, 0}, {0, 16, 1, 0, DROP_FRAGMENT_DUPLICATE}, {16, 8, 0, 0, 0}}, true},
		{"behind the last",
			{{16, 8, 0, 0, 0}, {24, 8, 1, 0, DROP_FRAGMENT_INVALID}, {0, 16, 1, 0, 0}}, true},
		{"a last one before what is there",
			{{16, 16, 1, 0, 0}, {8, 8, 0, 0, DROP_FRAGMENT_INVALID}, {0, 16, 1, 0, 0},
				{32, 8, 0, 0, 0}},
			true},
		{"two last ones", {{16, 8, 0, 0, 0}, {32, 8, 0, 0, DROP_FRAGMENT_INVALID}, {0, 16, 1, 0, 0}},
			true},
		{"not of whole units",
			{{0, 15, 1, 0, DROP_FRAGMENT_INVALID}, {0, 16, 1, 0, 0}, {16, 3, 0, 0, 0}}, true},
		{"empty", {{0, 16, 1, 0, 0}, {16, 0, 0, 0, DROP_FRAGMENT_INVALID}, {16, 1, 0, 0, 0}}, true},
		{"one is marked CE", {{0, 16, 1, 2, 0}, {16, 8, 0, 3, 0}}, true},
		{"ECT and not ECT", {{0, 16, 1, 2, 0}, {16, 8, 0, 0, DROP_FRAGMENT_INVALID}}, false},
	};
	const struct reass_limits limits = LIMITS;
	struct lost lost;

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct reass *r = open_with(&limits, &lost);
		static uint8_t buf[PKT_MAX];
		uint32_t realm, via, packets;
		struct pkt whole;

		for (unsigned k = 0; k < 4 && (rows[i].f[k].len || rows[i].f[k].off || rows[i].f[k].drop);
			k++) {
			struct spec s = packet_spec(4, 200);
			struct fragment f = {.realm = 5};

			s.tos = rows[i].f[k].tos;
			s.payload_len = rows[i].f[k].len;
			f.len = packet_make(f.b, &s);
			be16_put(
				f.b + 6, (uint16_t)(rows[i].f[k].off / 8 | (rows[i].f[k].more ? 0x2000 : 0)));
			packet_ip_csum(f.b);
			if (give(r, &f, 0) != rows[i].f[k].drop)
				fail_msg("%s, fragment %u", rows[i].name, k + 1);
		}
		if (reass_next(r, buf, &whole, &realm, &via, &packets) != rows[i].whole)
			fail_msg("%s: whole or not", rows[i].name);
		if (rows[i].whole) {
			assert_int_equal(pkt_parse(&whole), DROP_NONE);
			assert_int_equal(whole.tos, rows[i].f[1].tos);
		}
		reass_free(r);
	}
}

static struct fragment first_of(uint32_t realm, uint16_t id, uint32_t len)
{
	struct spec s = packet_spec(4, 200);
	struct fragment f = {.realm = realm};

	s.id = id;
	s.payload_len = len;
	f.len = packet_make(f.b, &s);
	be16_put(f.b + 6, 0x2000);
	packet_ip_csum(f.b);
	return f;
}

/* A datagram that stays unfinished goes when its time is over, not before; what is said of it names who sent it. */
static void test_time(void **state)
{
	const struct reass_limits limits = LIMITS;
	struct lost lost;
	struct reass *r = open_with(&limits, &lost);
	struct fragment f = first_of(3, 1, 800);

	(void)state;
	assert_int_equal(give(r, &f, 1000), DROP_NONE);
	reass_tick(r, 30999);
	assert_int_equal(reass_waiting(r), 1);
	reass_tick(r, 31000);
	assert_int_equal(reass_waiting(r), 0);
	assert_int_equal(reass_octets(r), 0);
	assert_int_equal(lost.n[DROP_FRAGMENT_TIMEOUT], 1);
	assert_int_equal(lost.via[DROP_FRAGMENT_TIMEOUT], 1003);
	reass_free(r);
}

/* One realm that never completes anything, in number and in octets, and then many of them: who sends little loses nothing. */
static void test_shares(void **state)
{
	static const struct {
		unsigned attackers;
		uint32_t len;
	} rows[] = {{1, 8}, {1, 1400}, {6, 8}, {6, 1400}, {40, 8}, {40, 1400}};
	const struct reass_limits limits = LIMITS;

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		static uint8_t packet[2000], buf[PKT_MAX];
		struct lost lost;
		struct reass *r = open_with(&limits, &lost);
		struct spec s = packet_spec(4, IPPROTO_UDP);
		struct fragment f[8];
		uint32_t realm, via, packets;
		struct pkt whole;
		unsigned n;

		s.payload_len = 1600;
		n = cut(f, 77, packet, packet_make(packet, &s), 600, 9);
		assert_int_equal(n, 3);
		for (unsigned k = 0; k < 20000; k++) {
			struct fragment bad = first_of(100 + k % rows[i].attackers, (uint16_t)k, rows[i].len);

			assert_int_equal(give(r, &bad, 0), DROP_NONE);
			if (k % 1000 < 3)
				assert_int_equal(give(r, &f[k % 1000], 0), DROP_NONE);
			if (k % 1000 == 3) {
				assert_true(reass_next(r, buf, &whole, &realm, &via, &packets));
				assert_int_equal(realm, 77);
				assert_int_equal(packets, 3);
			}
			assert_true(reass_waiting(r) <= limits.datagrams && reass_octets(r) <= limits.octets);
		}
		assert_true(lost.n[DROP_FRAGMENT_LIMIT] > 0);
		reass_free(r);
	}
}

/* More pieces than a datagram may have; a piece that nobody has room for. */
static void test_limits(void **state)
{
	struct reass_limits limits = LIMITS;
	struct lost lost;
	struct reass *r = open_with(&limits, &lost);

	(void)state;
	for (unsigned i = 0; i < REASS_PIECES + 1; i++) {
		struct fragment f = first_of(1, 1, 8);

		be16_put(f.b + 6, (uint16_t)(0x2000 | i * 2));
		packet_ip_csum(f.b);
		assert_int_equal(give(r, &f, 0), i < REASS_PIECES ? DROP_NONE : DROP_FRAGMENT_LIMIT);
	}
	reass_free(r);
	limits.octets_a_realm = 4096;
	r = open_with(&limits, &lost);
	for (unsigned i = 0; i < 3; i++) {
		struct fragment f = first_of(1, 1, 8);

		be16_put(f.b + 6, (uint16_t)(0x2000 | i));
		packet_ip_csum(f.b);
		assert_int_equal(give(r, &f, 0), i < 2 ? DROP_NONE : DROP_FRAGMENT_LIMIT);
	}
	reass_free(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trips),
		cmocka_unit_test(test_what_does_not_fit),
		cmocka_unit_test(test_time),
		cmocka_unit_test(test_shares),
		cmocka_unit_test(test_limits),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
