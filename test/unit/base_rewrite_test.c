/* SPDX-License-Identifier: GPL-2.0-or-later */
/* base_rewrite_test.c - a packet rewritten is the packet that its new sender would have made: every case is compared
 * with a packet built from nothing, checksums summed the slow way.
 */
#include "gateway/base/pkt.h"
#include "test/unit/packet.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define ROUNDS 2000

/* What can be rewritten: family, protocol, ICMP type, and where the id or ports are. */
static const struct {
	uint8_t ver, proto, type;
	bool sport, dport; /* there is one on that side */
} sorts[] = {
	{4, IPPROTO_TCP, 0, true, true},
	{4, IPPROTO_UDP, 0, true, true},
	{4, IPPROTO_ICMP, 8, true, false},
	{4, IPPROTO_ICMP, 0, false, true},
	{4, IPPROTO_ICMP, 13, false, false},
	{4, IPPROTO_GRE, 0, false, false},
	{4, 89, 0, false, false},
	{6, IPPROTO_TCP, 0, true, true},
	{6, IPPROTO_UDP, 0, true, true},
	{6, IPPROTO_ICMPV6, 128, true, false},
	{6, IPPROTO_ICMPV6, 129, false, true},
	{6, IPPROTO_ICMPV6, 135, false, false},
	{6, IPPROTO_ESP, 0, false, false},
};
#define SORTS (sizeof(sorts) / sizeof(sorts[0]))

/* Mostly random; sometimes all zeros or all ones, where ones' complement has its corners. */
static void random_octets(uint64_t *seed, uint8_t *b, size_t n)
{
	uint32_t kind = rnd(seed) % 8;

	for (size_t i = 0; i < n; i++)
		b[i] = kind == 0 ? 0 : kind == 1 ? 0xff : (uint8_t)rnd(seed);
}

static struct addr random_addr(uint64_t *seed, uint8_t ver)
{
	struct addr a = addr_from4(0);

	do
		random_octets(seed, a.b + (ver == 4 ? 12 : 0), ver == 4 ? 4 : 16);
	while (ver == 6 && addr_is4(&a));
	return a;
}

static uint16_t random_port(uint64_t *seed)
{
	uint8_t b[2];

	random_octets(seed, b, 2);
	return be16_get(b);
}

static struct spec random_spec(uint64_t *seed, unsigned sort)
{
	struct spec s = packet_spec(sorts[sort].ver, sorts[sort].proto);

	s.icmp_type = sorts[sort].type;
	s.src = random_addr(seed, s.ver);
	s.dst = random_addr(seed, s.ver);
	s.sport = random_port(seed);
	s.dport = random_port(seed);
	s.ttl = (uint8_t)(rnd(seed) % 255 + 1);
	s.tos = (uint8_t)rnd(seed);
	s.flow_label = rnd(seed) & 0xfffff;
	s.id = (uint16_t)rnd(seed);
	/* At least an octet that is not zero: an ICMP message of zeros alone is the one whose sum is zero and not
	 * ffff, which updating cannot tell apart (RFC 1624 4). */
	s.fill = rnd(seed) % 250 + 1;
	s.payload_len = rnd(seed) % 200 + 1;
	return s;
}

/* Changes s and p alike: an address and port of one side. */
static void change(uint64_t *seed, unsigned sort, struct spec *s, struct pkt *p,
	void (*set)(struct pkt *, const struct addr *, uint16_t), bool src)
{
	struct addr a = random_addr(seed, s->ver);
	uint16_t port = random_port(seed);
	bool echo = s->proto == IPPROTO_ICMP || s->proto == IPPROTO_ICMPV6;

	set(p, &a, htons(port));
	*(src ? &s->src : &s->dst) = a;
	if (!(src ? sorts[sort].sport : sorts[sort].dport))
		return;
	if (src || echo) /* the id is in the spec's sport */
		s->sport = port;
	else
		s->dport = port;
}

static void assert_same(const uint8_t *got, const uint8_t *want, uint32_t len)
{
	for (uint32_t i = 0; i < len; i++)
		if (got[i] != want[i])
			fail_msg("octet %u is %02x instead of %02x", i, got[i], want[i]);
}

static void test_own(void **state)
{
	static const enum spec_csum csums[] = {CSUM_FULL, CSUM_HALF, CSUM_NONE, CSUM_BAD};
	uint64_t seed = 40;

	(void)state;
	for (unsigned round = 0; round < ROUNDS * SORTS; round++) {
		unsigned sort = round % SORTS;
		struct spec s = random_spec(&seed, sort);
		bool halvable = s.proto == IPPROTO_TCP || s.proto == IPPROTO_UDP;
		uint8_t b[512], want[512];
		struct pkt p = {.data = b};
		struct tuple t;

		s.csum = csums[rnd(&seed) % 3]; /* what is wrong: below */
		if ((s.csum == CSUM_HALF && !halvable) || (s.csum == CSUM_NONE && s.proto != IPPROTO_UDP))
			s.csum = CSUM_FULL;
		p.len = packet_make(b, &s);
		assert_int_equal(pkt_parse(&p), DROP_NONE);
		if (s.csum == CSUM_HALF)
			p.csum = PKT_CSUM_PARTIAL;
		for (unsigned n = rnd(&seed) % 3 + 1; n; n--) {
			if (rnd(&seed) % 2)
				change(&seed, sort, &s, &p, pkt_set_src, true);
			else
				change(&seed, sort, &s, &p, pkt_set_dst, false);
		}
		assert_int_equal(p.len, packet_make(want, &s));
		assert_same(b, want, p.len);
		/* the tuple says what the octets say */
		t = p.t;
		assert_int_equal(pkt_parse(&p), DROP_NONE);
		assert_memory_equal(&t, &p.t, sizeof(t));
	}
}

/* What was wrong stays wrong, by as much. */
static void test_own_damage_stays(void **state)
{
	uint64_t seed = 41;

	(void)state;
	for (unsigned round = 0; round < ROUNDS; round++) {
		struct spec s = random_spec(&seed, round % SORTS);
		uint8_t b[512];
		struct pkt p = {.data = b};

		s.csum = CSUM_BAD;
		p.len = packet_make(b, &s);
		assert_int_equal(pkt_parse(&p), DROP_NONE);
		change(&seed, round % SORTS, &s, &p, pkt_set_src, true);
		change(&seed, round % SORTS, &s, &p, pkt_set_dst, false);
		if (pkt_csum_offset(s.ver, s.proto) >= 0)
			assert_int_equal(pkt_check_csum(&p), DROP_INNER_CHECKSUM);
	}
}

/* A UDP checksum that becomes zero is written as ffff, own and quoted. */
static void test_udp_zero(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		struct spec s = kind_spec(i % 2 ? UDP4 : UDP6);
		uint8_t b[1024], q[1024], body[100] = {0};
		struct pkt p = {.data = b};
		uint32_t len;

		packet_zero_sum(&s, body); /* with this source port … */
		s.sport ^= 0x1234;         /* … but it has another one */
		len = packet_make(q, &s);
		if (i < 2) {
			memcpy(b, q, len);
			p.len = len;
		} else {
			p.len = packet_error(b, &s, s.ver == 4 ? 3 : 1, 0, q, len);
		}
		assert_int_equal(pkt_parse(&p), DROP_NONE);
		s.sport ^= 0x1234;
		if (i < 2)
			pkt_set_src(&p, &s.src, htons(s.sport));
		else
			pkt_set_quote_src(&p, &s.src, htons(s.sport));
		assert_int_equal(raw16_get(b + (i < 2 ? p.l4 : p.quote_l4) + 6), 0xffff);
		assert_int_equal(pkt_check_csum(&p), DROP_NONE);
	}
}

static void test_fragments_address_only(void **state)
{
	uint64_t seed = 42;

	(void)state;
	for (unsigned round = 0; round < ROUNDS; round++) {
		struct spec s = random_spec(&seed, 1);
		struct addr a = random_addr(&seed, 4);
		uint8_t b[512], before[512];
		struct pkt p = {.data = b};

		p.len = packet_make(b, &s);
		be16_put(b + 6, 0x2000);
		packet_ip_csum(b);
		memcpy(before, b, p.len);
		assert_int_equal(pkt_parse(&p), DROP_NONE);
		pkt_set_src(&p, &a, 1);
		assert_memory_equal(b + 20, before + 20, p.len - 20);
		assert_int_equal(pkt_parse(&p), DROP_NONE);
		assert_true(addr_eq(&p.t.src, &a));
	}
}

/* ---- quotes ---------------------------------------------------------------------------------------------- */

/* An ICMP error that quotes the first n octets, or all, of the packet of q. */
static uint32_t make_error(uint8_t *b, const struct spec *q, uint32_t n, uint32_t rest)
{
	uint8_t quoted[512];
	uint32_t len = packet_make(quoted, q);

	return packet_error(b, q, q->ver == 4 ? 3 : 1, (uint16_t)rest, quoted, n < len ? n : len);
}

static void test_quoted(void **state)
{
	static const enum spec_csum csums[] = {CSUM_FULL, CSUM_NONE};
	uint64_t seed = 43;

	(void)state;
	for (unsigned round = 0; round < ROUNDS * SORTS; round++) {
		unsigned sort = round % SORTS;
		struct spec q = random_spec(&seed, sort);
		uint32_t least = (q.ver == 4 ? 20 : 40) + 8, fill = rnd(&seed), n, len;
		uint8_t b[1024], want[1024];
		struct pkt p = {.data = b};
		struct tuple t;

		q.csum = csums[rnd(&seed) % 2];
		if (q.csum == CSUM_NONE && q.proto != IPPROTO_UDP)
			q.csum = CSUM_FULL;
		q.payload_len += 8;
		/* from the least that must be quoted, through where the TCP checksum is cut off, to all of it */
		n = least + rnd(&seed) % (rnd(&seed) % 2 ? 16 : 300);
		if (q.proto == IPPROTO_TCP && n == least - 8 + 17)
			n--; /* half of a checksum cannot be kept right */
		p.len = make_error(b, &q, n, fill);
		assert_int_equal(pkt_parse(&p), DROP_NONE);
		assert_int_equal(pkt_check_csum(&p), DROP_NONE);
		if (rnd(&seed) % 2)
			change(&seed, sort, &q, &p, pkt_set_quote_src, true);
		else
			change(&seed, sort, &q, &p, pkt_set_quote_dst, false);
		len = make_error(want, &q, n, fill);
		assert_int_equal(p.len, len);
		assert_same(b, want, len);
		t = p.qt;
		assert_int_equal(pkt_parse(&p), DROP_NONE);
		assert_memory_equal(&t, &p.qt, sizeof(t));
	}
}

/* An error whose checksum is wrong is not made right by rewriting its quote. */
static void test_quoted_damage_stays(void **state)
{
	uint64_t seed = 44;

	(void)state;
	for (unsigned round = 0; round < ROUNDS; round++) {
		struct spec q = random_spec(&seed, 0);
		struct addr a = random_addr(&seed, 4);
		uint8_t b[1024];
		struct pkt p = {.data = b, .len = make_error(b, &q, 60, 0)};

		b[p.len - 1] ^= 1;
		assert_int_equal(pkt_parse(&p), DROP_NONE);
		pkt_set_quote_src(&p, &a, 7);
		pkt_set_quote_dst(&p, &a, 8);
		assert_int_equal(pkt_check_csum(&p), DROP_INNER_CHECKSUM);
	}
}

/* ---- single fields ------------------------------------------------------------------------------------------ */

static void test_ttl_and_tos(void **state)
{
	uint64_t seed = 45;

	(void)state;
	for (unsigned round = 0; round < ROUNDS * SORTS; round++) {
		struct spec s = random_spec(&seed, round % SORTS);
		uint8_t b[512], want[512];
		struct pkt p = {.data = b};

		p.len = packet_make(b, &s);
		assert_int_equal(pkt_parse(&p), DROP_NONE);
		s.ttl--;
		s.tos = (uint8_t)rnd(&seed);
		pkt_decrement_ttl(&p);
		pkt_set_tos(&p, s.tos);
		packet_make(want, &s);
		assert_same(b, want, p.len);
		assert_int_equal(p.ttl, s.ttl);
		assert_int_equal(p.tos, s.tos);
	}
}

static void test_clamp_mss(void **state)
{
	uint64_t seed = 46;

	(void)state;
	for (unsigned round = 0; round < ROUNDS * 4; round++) {
		struct spec s = random_spec(&seed, round % 2 ? 0 : 7);
		uint16_t mss = random_port(&seed), to = random_port(&seed);
		unsigned at = rnd(&seed) % 5; /* NOPs before it: the value stands at even and odd places */
		bool lower = mss > to;
		uint8_t b[512], want[512];
		struct pkt p = {.data = b};

		s.flags = TCP_SYN;
		s.noptions = 12;
		memset(s.options, 1, 12);
		s.options[at] = 2;
		s.options[at + 1] = 4;
		be16_put(s.options + at + 2, mss);
		s.csum = rnd(&seed) % 2 ? CSUM_FULL : CSUM_HALF;
		p.len = packet_make(b, &s);
		p.csum = s.csum == CSUM_HALF ? PKT_CSUM_PARTIAL : PKT_CSUM_UNKNOWN;
		assert_int_equal(pkt_parse(&p), DROP_NONE);
		assert_int_equal(pkt_clamp_mss(&p, to), lower);
		if (lower)
			be16_put(s.options + at + 2, to);
		packet_make(want, &s);
		assert_same(b, want, p.len);
		assert_int_equal(p.mss, lower ? to : mss);
	}
}

static void test_clamp_mss_nothing_there(void **state)
{
	static const uint8_t flags[] = {TCP_SYN, TCP_ACK};

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		struct spec s = packet_spec(4, IPPROTO_TCP);
		uint8_t b[512], before[512];
		struct pkt p = {.data = b};

		s.flags = flags[i];
		p.len = packet_make(b, &s);
		memcpy(before, b, p.len);
		assert_int_equal(pkt_parse(&p), DROP_NONE);
		assert_false(pkt_clamp_mss(&p, 1));
		assert_memory_equal(b, before, p.len);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_own),
		cmocka_unit_test(test_own_damage_stays),
		cmocka_unit_test(test_udp_zero),
		cmocka_unit_test(test_fragments_address_only),
		cmocka_unit_test(test_quoted),
		cmocka_unit_test(test_quoted_damage_stays),
		cmocka_unit_test(test_ttl_and_tos),
		cmocka_unit_test(test_clamp_mss),
		cmocka_unit_test(test_clamp_mss_nothing_there),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
