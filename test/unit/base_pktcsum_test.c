/* SPDX-License-Identifier: GPL-2.0-or-later */
/* base_pktcsum_test.c - L4 checksums of packets: right, partial, absent, wrong; completing them. */
#include "gateway/base/pkt.h"
#include "test/unit/packet.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static void test_check_csum(void **state)
{
	static const struct {
		unsigned kind;
		enum spec_csum in;
		enum drop drop;
		enum pkt_csum out;
	} rows[] = {
		{TCP4, CSUM_FULL, DROP_NONE, PKT_CSUM_GOOD},
		{TCP6, CSUM_FULL, DROP_NONE, PKT_CSUM_GOOD},
		{UDP4, CSUM_FULL, DROP_NONE, PKT_CSUM_GOOD},
		{UDP6, CSUM_FULL, DROP_NONE, PKT_CSUM_GOOD},
		{ICMP4, CSUM_FULL, DROP_NONE, PKT_CSUM_GOOD},
		{ICMP6, CSUM_FULL, DROP_NONE, PKT_CSUM_GOOD},
		{TCP4, CSUM_HALF, DROP_NONE, PKT_CSUM_PARTIAL},
		{TCP6, CSUM_HALF, DROP_NONE, PKT_CSUM_PARTIAL},
		{UDP4, CSUM_HALF, DROP_NONE, PKT_CSUM_PARTIAL},
		{UDP6, CSUM_HALF, DROP_NONE, PKT_CSUM_PARTIAL},
		{ICMP6, CSUM_HALF, DROP_INNER_CHECKSUM, 0},
		{TCP4, CSUM_BAD, DROP_INNER_CHECKSUM, 0},
		{TCP6, CSUM_BAD, DROP_INNER_CHECKSUM, 0},
		{UDP4, CSUM_BAD, DROP_INNER_CHECKSUM, 0},
		{UDP6, CSUM_BAD, DROP_INNER_CHECKSUM, 0},
		{ICMP4, CSUM_BAD, DROP_INNER_CHECKSUM, 0},
		{ICMP6, CSUM_BAD, DROP_INNER_CHECKSUM, 0},
		{UDP4, CSUM_NONE, DROP_NONE, PKT_CSUM_GOOD},
		{UDP6, CSUM_NONE, DROP_INNER_CHECKSUM, 0},
		{TCP4, CSUM_NONE, DROP_INNER_CHECKSUM, 0},
		{ICMP4, CSUM_NONE, DROP_INNER_CHECKSUM, 0},
		{GRE4, CSUM_NONE, DROP_NONE, PKT_CSUM_UNKNOWN},
		{ESP6, CSUM_NONE, DROP_NONE, PKT_CSUM_UNKNOWN},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		for (uint32_t n = 90; n < 110; n++) { /* odd and even, long and short */
			struct spec s = kind_spec(rows[i].kind);
			uint8_t b[2048], want[2048];
			struct pkt p = {.data = b};

			s.csum = rows[i].in;
			s.payload_len = n;
			p.len = packet_make(b, &s);
			assert_int_equal(pkt_parse(&p), DROP_NONE);
			assert_int_equal(pkt_check_csum(&p), rows[i].drop);
			if (rows[i].drop)
				continue;
			assert_int_equal(p.csum, rows[i].out);
			/* completed, a partial one is the full one; any other stays as it is */
			if (s.csum == CSUM_HALF)
				s.csum = CSUM_FULL;
			packet_make(want, &s);
			pkt_complete_csum(&p);
			assert_memory_equal(b, want, p.len);
			assert_int_not_equal(p.csum, PKT_CSUM_PARTIAL);
		}
	}
}

/* One flipped bit anywhere in the L4 part is noticed. */
static void test_check_csum_bits(void **state)
{
	static const unsigned kinds[] = {TCP4, UDP4, ICMP4, TCP6, UDP6, ICMP6};

	(void)state;
	for (unsigned i = 0; i < 6; i++) {
		struct spec s = kind_spec(kinds[i]);
		uint32_t l4 = s.ver == 4 ? 20 : 40;
		uint8_t b[2048];
		struct pkt p = {.data = b};

		p.len = packet_make(b, &s);
		assert_int_equal(pkt_parse(&p), DROP_NONE);
		for (uint32_t bit = l4 * 8; bit < p.len * 8; bit++) {
			struct pkt q = p;

			if (s.proto == IPPROTO_UDP && bit / 8 - l4 >= 4 && bit / 8 - l4 < 6)
				continue; /* its length is the parser's */
			b[bit / 8] ^= (uint8_t)(1 << bit % 8);
			assert_int_equal(pkt_check_csum(&q), DROP_INNER_CHECKSUM);
			b[bit / 8] ^= (uint8_t)(1 << bit % 8);
		}
	}
}

/* UDP with octets behind it: the checksum ends with the datagram, and no partial one is believed. */
static void test_check_csum_udp_surplus(void **state)
{
	struct spec s = kind_spec(UDP4);
	uint8_t b[2048];
	struct pkt p = {.data = b};

	(void)state;
	for (unsigned half = 0; half < 2; half++) {
		s.csum = half ? CSUM_HALF : CSUM_FULL;
		p.len = packet_make(b, &s) + 12;
		memset(b + p.len - 12, 0xaa, 12);
		be16_put(b + 2, (uint16_t)p.len);
		packet_ip_csum(b);
		assert_int_equal(pkt_parse(&p), DROP_NONE);
		p.csum = PKT_CSUM_UNKNOWN;
		assert_int_equal(pkt_check_csum(&p), half ? DROP_INNER_CHECKSUM : DROP_NONE);
	}
}

/* Packets that say what they are, and fragments, are not looked at. */
static void test_check_csum_not_looked_at(void **state)
{
	struct spec s = kind_spec(TCP4);
	uint8_t b[2048];
	struct pkt p = {.data = b};

	(void)state;
	s.csum = CSUM_BAD;
	p.len = packet_make(b, &s);
	assert_int_equal(pkt_parse(&p), DROP_NONE);
	p.csum = PKT_CSUM_PARTIAL;
	assert_int_equal(pkt_check_csum(&p), DROP_NONE);
	p.csum = PKT_CSUM_UNKNOWN;
	p.gso_size = 50;
	assert_int_equal(pkt_check_csum(&p), DROP_NONE);
	p.gso_size = 0;
	be16_put(b + 6, 0x2000);
	packet_ip_csum(b);
	assert_int_equal(pkt_parse(&p), DROP_NONE);
	assert_int_equal(pkt_check_csum(&p), DROP_NONE);
	assert_int_equal(p.csum, PKT_CSUM_UNKNOWN);
}

/* A UDP checksum that comes out as zero is sent as ffff: zero would mean "none" (RFC 768). */
static void test_complete_udp_zero(void **state)
{
	(void)state;
	for (unsigned kind = UDP4; kind <= UDP6; kind++) {
		struct spec s = kind_spec(kind);
		uint8_t b[2048], body[100] = {0};
		struct pkt p = {.data = b};

		packet_zero_sum(&s, body);
		s.csum = CSUM_HALF;
		p.len = packet_make(b, &s);
		assert_int_equal(pkt_parse(&p), DROP_NONE);
		p.csum = PKT_CSUM_PARTIAL;
		pkt_complete_csum(&p);
		assert_int_equal(raw16_get(b + p.l4 + 6), 0xffff);
		p.csum = PKT_CSUM_UNKNOWN;
		assert_int_equal(pkt_check_csum(&p), DROP_NONE);
		assert_int_equal(p.csum, PKT_CSUM_GOOD);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_check_csum),
		cmocka_unit_test(test_check_csum_bits),
		cmocka_unit_test(test_check_csum_udp_surplus),
		cmocka_unit_test(test_complete_udp_zero),
		cmocka_unit_test(test_check_csum_not_looked_at),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
