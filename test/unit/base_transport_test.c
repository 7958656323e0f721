/* SPDX-License-Identifier: GPL-2.0-or-later */
/* base_transport_test.c - SCTP, DCCP and UDP-Lite: read, checked, rewritten; and the CRC of SCTP. */
#include "gateway/base/be.h"
#include "gateway/base/crc32c.h"
#include "gateway/base/pkt.h"
#include "test/unit/packet.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

/* ---- CRC -------------------------------------------------------------------------------------------- */

static uint32_t slow_crc(const uint8_t *p, size_t n)
{
	uint32_t r = UINT32_MAX;

	for (size_t i = 0; i < n; i++)
		for (int bit = 0; bit < 8; bit++) {
			uint32_t low = (r ^ p[i] >> bit) & 1;

			r = r >> 1 ^ (low ? 0x82f63b78u : 0);
		}
	return ~r;
}

static void test_crc(void **state)
{
	/* RFC 3720 B.4, and the usual check value */
	static const struct {
		uint8_t first;
		int step;
		uint32_t crc;
	} rows[] = {{0, 0, 0x8a9136aa}, {0xff, 0, 0x62a8ab43}, {0, 1, 0x46dd794e}, {31, -1, 0x113fdb5c}};
	uint8_t b[300];
	uint64_t random = 7;

	(void)state;
	for (size_t r = 0; r < sizeof(rows) / sizeof(rows[0]); r++) {
		for (int i = 0; i < 32; i++)
			b[i] = (uint8_t)(rows[r].first + i * rows[r].step);
		assert_int_equal(~crc32c(UINT32_MAX, b, 32), rows[r].crc);
		assert_int_equal(slow_crc(b, 32), rows[r].crc);
	}
	assert_int_equal(~crc32c(UINT32_MAX, "123456789", 9), 0xe3069283);
	for (size_t n = 0; n < sizeof(b); n++) {
		size_t cut = n ? rnd(&random) % n : 0;

		b[n] = (uint8_t)rnd(&random);
		assert_int_equal(~crc32c(UINT32_MAX, b, n), slow_crc(b, n));
		assert_int_equal(~crc32c(crc32c(UINT32_MAX, b, cut), b + cut, n - cut), slow_crc(b, n));
	}
	memset(b, 0, sizeof(b));
	for (size_t n = 0; n < sizeof(b); n++)
		assert_int_equal(crc32c_zeros(12345, n), crc32c(12345, b, n));
}

/* ---- packets ---------------------------------------------------------------------------------------- */

/* A packet of one of the three, whose L4 header and payload are body; the checksum is put in. */
static uint32_t make(uint8_t *b, uint8_t ver, uint8_t proto, const uint8_t *body, uint32_t n)
{
	struct spec s = packet_spec(ver, proto);
	uint32_t l4 = ver == 4 ? 20 : 40, len, covered = n, sum;

	s.body = body;
	s.payload_len = n;
	len = packet_make(b, &s);
	if (proto == IPPROTO_SCTP) {
		memset(b + l4 + 8, 0, 4);
		le32_put(b + l4 + 8, slow_crc(b + l4, n));
		return len;
	}
	if (proto == IPPROTO_UDPLITE && be16_get(body + 4))
		covered = be16_get(body + 4);
	if (proto == IPPROTO_DCCP && body[5] & 15)
		covered = body[4] * 4u + ((body[5] & 15u) - 1) * 4;
	if (covered > n)
		covered = n;
	be16_put(b + l4 + 6, 0);
	sum = slow_sum(slow_pseudo(&s, n), b + l4, covered);
	sum = ~sum & 0xffff;
	be16_put(b + l4 + 6, (uint16_t)(sum ? sum : 0xffff));
	return len;
}

static const struct {
	const char *name;
	uint8_t proto, n, body[32];
	enum drop drop;
	uint8_t type, payload; /* where that begins, from the L4 header */
} rows[] = {
	{"SCTP INIT", IPPROTO_SCTP, 20, {0x9c, 0x40, 1, 0xbb, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 8}, DROP_NONE,
		1, 12},
	{"SCTP DATA", IPPROTO_SCTP, 29, {0x9c, 0x40, 1, 0xbb, 9, 9, 9, 9, 0, 0, 0, 0, 0, 3, 0, 17, 7},
		DROP_NONE, 0, 12},
	{"SCTP without a chunk", IPPROTO_SCTP, 12, {0x9c, 0x40, 1, 0xbb}, DROP_INNER_L4, 0, 0},
	{"SCTP of 11 octets", IPPROTO_SCTP, 11, {0x9c, 0x40, 1, 0xbb}, DROP_INNER_L4, 0, 0},
	{"UDP-Lite, all", IPPROTO_UDPLITE, 20, {0x9c, 0x40, 1, 0xbb, 0, 0, 0, 0, 5, 6, 7}, DROP_NONE, 0, 8},
	{"UDP-Lite, the header", IPPROTO_UDPLITE, 20, {0x9c, 0x40, 1, 0xbb, 0, 8, 0, 0, 5, 6, 7}, DROP_NONE,
		0, 8},
	{"UDP-Lite, an odd part", IPPROTO_UDPLITE, 21, {0x9c, 0x40, 1, 0xbb, 0, 11, 0, 0, 5, 6, 7, 8},
		DROP_NONE, 0, 8},
	{"UDP-Lite, exactly all", IPPROTO_UDPLITE, 20, {0x9c, 0x40, 1, 0xbb, 0, 20, 0, 0, 5}, DROP_NONE, 0,
		8},
	{"UDP-Lite, more than is there", IPPROTO_UDPLITE, 20, {0x9c, 0x40, 1, 0xbb, 0, 21}, DROP_INNER_L4, 0,
		0},
	{"UDP-Lite, less than the header", IPPROTO_UDPLITE, 20, {0x9c, 0x40, 1, 0xbb, 0, 7}, DROP_INNER_L4, 0,
		0},
	{"UDP-Lite of 7 octets", IPPROTO_UDPLITE, 7, {0x9c, 0x40, 1, 0xbb}, DROP_INNER_L4, 0, 0},
	{"DCCP Request", IPPROTO_DCCP, 24, {0x9c, 0x40, 1, 0xbb, 5, 0, 0, 0, 0x01, 0, 1, 2}, DROP_NONE, 0,
		20},
	{"DCCP Data, short form", IPPROTO_DCCP, 24, {0x9c, 0x40, 1, 0xbb, 3, 0, 0, 0, 0x04, 1, 2, 3, 9, 9},
		DROP_NONE, 2, 12},
	{"DCCP, the header only", IPPROTO_DCCP, 24, {0x9c, 0x40, 1, 0xbb, 3, 1, 0, 0, 0x04, 1, 2, 3, 9},
		DROP_NONE, 2, 12},
	{"DCCP, a part", IPPROTO_DCCP, 24, {0x9c, 0x40, 1, 0xbb, 3, 3, 0, 0, 0x04, 1, 2, 3, 9}, DROP_NONE, 2,
		12},
	{"DCCP, more than is there", IPPROTO_DCCP, 24, {0x9c, 0x40, 1, 0xbb, 3, 5, 0, 0, 0x04}, DROP_INNER_L4,
		0, 0},
	{"DCCP, header longer than the packet", IPPROTO_DCCP, 24, {0x9c, 0x40, 1, 0xbb, 7, 0, 0, 0, 4},
		DROP_INNER_L4, 0, 0},
	{"DCCP, long form in a short header", IPPROTO_DCCP, 24, {0x9c, 0x40, 1, 0xbb, 3, 0, 0, 0, 5},
		DROP_INNER_L4, 0, 0},
	{"DCCP, no header", IPPROTO_DCCP, 24, {0x9c, 0x40, 1, 0xbb, 0}, DROP_INNER_L4, 0, 0},
};

static void test_packets(void **state)
{
	(void)state;
	for (uint8_t ver = 4; ver <= 6; ver += 2) {
		for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
			uint8_t b[128];
			uint32_t len = make(b, ver, rows[i].proto, rows[i].body, rows[i].n),
				 l4 = ver == 4 ? 20 : 40;
			struct pkt p = {.data = b, .len = len};
			enum drop d = pkt_parse(&p);

			if (d != rows[i].drop)
				fail_msg("%s: %s", rows[i].name, drop_name(d));
			if (d)
				continue;
			assert_int_equal(p.t.sport, htons(40000));
			assert_int_equal(p.t.dport, htons(443));
			if (p.l4_type != rows[i].type || p.payload != l4 + rows[i].payload)
				fail_msg("%s: type %u, payload at %u", rows[i].name, p.l4_type,
					p.payload - l4);
			if (pkt_check_csum(&p) || p.csum != PKT_CSUM_GOOD)
				fail_msg("%s: checksum", rows[i].name);
			for (uint32_t at = l4; at < len; at++) { /* damage of what is covered is seen */
				bool covered = at < l4 + 8;

				b[at] ^= 4;
				p = (struct pkt){.data = b, .len = len};
				if (!pkt_parse(&p) && covered && !pkt_check_csum(&p))
					fail_msg("%s: damage at %u", rows[i].name, at - l4);
				b[at] ^= 4;
			}
		}
	}
}

/* Other addresses and ports: the checksum that a slow method gives; and one that was wrong stays wrong. */
static void test_rewriting(void **state)
{
	static const uint16_t ports[] = {0, 1, 443, 40000, 65535};

	(void)state;
	for (uint8_t ver = 4; ver <= 6; ver += 2) {
		struct addr src = test_addr(ver == 4 ? "100.64.7.9" : "fd00:a44::9"),
			    dst = test_addr(ver == 4 ? "192.0.2.255" : "2001:db8:ffff::1");

		for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
			for (size_t k = 0; k < 2 * sizeof(ports) / sizeof(ports[0]); k++) {
				uint8_t b[128];
				struct pkt p = {.data = b,
					.len = make(b, ver, rows[i].proto, rows[i].body, rows[i].n)};
				bool damaged = k % 2;

				if (rows[i].drop)
					continue;
				b[(ver == 4 ? 20 : 40) + 3] ^= damaged;
				assert_int_equal(pkt_parse(&p), DROP_NONE);
				pkt_set_src(&p, &src, htons(ports[k / 2]));
				pkt_set_dst(&p, &dst, htons(ports[k / 2] ^ 77));
				p = (struct pkt){.data = b, .len = p.len};
				assert_int_equal(pkt_parse(&p), DROP_NONE);
				assert_int_equal(p.t.sport, htons(ports[k / 2]));
				assert_int_equal(p.t.dport, htons(ports[k / 2] ^ 77));
				assert_true(addr_eq(&p.t.src, &src) && addr_eq(&p.t.dst, &dst));
				if ((pkt_check_csum(&p) == DROP_NONE) == damaged)
					fail_msg("%s, ports %u", rows[i].name, ports[k / 2]);
			}
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_crc),
		cmocka_unit_test(test_packets),
		cmocka_unit_test(test_rewriting),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
