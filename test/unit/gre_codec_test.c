/* SPDX-License-Identifier: GPL-2.0-or-later */
/* gre_codec_test.c - the GRE header against octets written by hand from RFC 2784 and 2890; Cisco keepalives. */
#include "gateway/base/be.h"
#include "gre/gre.h"
#include "test/unit/packet.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

/* The payload of all vectors: five octets, an odd number. */
static const uint8_t payload[] = {0x45, 0x00, 0x12, 0x34, 0xab};

/* Sum of the payload: 4500 + 1234 + ab00 = 10234 → 0235. */
static const struct {
	const char *name;
	uint8_t n, b[16];
	struct gre_hdr h;
} vectors[] = {
	{"plain", 4, {0x00, 0x00, 0x08, 0x00}, {.proto = 0x0800}},
	{"IPv6", 4, {0x00, 0x00, 0x86, 0xdd}, {.proto = 0x86dd}},
	{"nothing inside", 4, {0, 0, 0, 0}, {.proto = 0}},
	/* 8000 + 0800 + 0235 = 8a35, inverted 75ca */
	{"C", 8, {0x80, 0x00, 0x08, 0x00, 0x75, 0xca, 0, 0}, {.has_csum = true, .proto = 0x0800}},
	{"K", 8, {0x20, 0x00, 0x08, 0x00, 0x01, 0x02, 0x03, 0x04},
		{.has_key = true, .proto = 0x0800, .key = 0x01020304}},
	{"S", 8, {0x10, 0x00, 0x08, 0x00, 0xff, 0xff, 0xff, 0xfe},
		{.has_seq = true, .proto = 0x0800, .seq = 0xfffffffe}},
	{"K S", 12, {0x30, 0x00, 0x08, 0x00, 0, 0, 0, 101, 0, 0, 0, 9},
		{.has_key = true, .has_seq = true, .proto = 0x0800, .key = 101, .seq = 9}},
	/* a000 + 0800 + 0235 + 0065 = aa9a → 5565 */
	{"C K", 12, {0xa0, 0x00, 0x08, 0x00, 0x55, 0x65, 0, 0, 0, 0, 0, 101},
		{.has_csum = true, .has_key = true, .proto = 0x0800, .key = 101}},
	/* 9000 + 0800 + 0235 + 0009 = 9a3e → 65c1 */
	{"C S", 12, {0x90, 0x00, 0x08, 0x00, 0x65, 0xc1, 0, 0, 0, 0, 0, 9},
		{.has_csum = true, .has_seq = true, .proto = 0x0800, .seq = 9}},
	/* b000 + 86dd + 0235 = 13912 → 3913; + 0065 + 0009 = 3981 → c67e */
	{"C K S", 16, {0xb0, 0x00, 0x86, 0xdd, 0xc6, 0x7e, 0, 0, 0, 0, 0, 101, 0, 0, 0, 9},
		{.has_csum = true, .has_key = true, .has_seq = true, .proto = 0x86dd, .key = 101, .seq = 9}},
};
#define VECTORS (sizeof(vectors) / sizeof(vectors[0]))

static void assert_same_hdr(const char *name, const struct gre_hdr *a, const struct gre_hdr *b)
{
	if (a->has_csum != b->has_csum || a->has_key != b->has_key || a->has_seq != b->has_seq ||
		a->proto != b->proto || a->key != b->key || a->seq != b->seq)
		fail_msg("%s: read otherwise", name);
}

/* Decodes a copy of exactly len octets, so that a sanitizer sees what is read behind. */
static enum drop decode_exact(const uint8_t *b, uint32_t len, struct gre_hdr *h)
{
	uint8_t *copy = malloc(len ? len : 1);
	enum drop d;

	assert_non_null(copy);
	memcpy(copy, b, len);
	d = gre_decode(copy, len, h);
	free(copy);
	return d;
}

static void test_vectors(void **state)
{
	(void)state;
	for (size_t i = 0; i < VECTORS; i++) {
		/* the same payload in one piece, and in two of which the first is even */
		const struct iovec whole = {(void *)(uintptr_t)payload, 5},
				   parts[2] = {{(void *)(uintptr_t)payload, 2},
					   {(void *)(uintptr_t)(payload + 2), 3}};
		uint8_t b[32], out[GRE_HDR_MAX];
		struct gre_hdr h;

		assert_int_equal(gre_hdr_len(&vectors[i].h), vectors[i].n);
		assert_int_equal(gre_encode(out, &vectors[i].h, &whole, 1), vectors[i].n);
		assert_memory_equal(out, vectors[i].b, vectors[i].n);
		memset(out, 0xee, sizeof(out));
		assert_int_equal(gre_encode(out, &vectors[i].h, parts, 2), vectors[i].n);
		assert_memory_equal(out, vectors[i].b, vectors[i].n);

		memcpy(b, vectors[i].b, vectors[i].n);
		memcpy(b + vectors[i].n, payload, 5);
		assert_int_equal(decode_exact(b, vectors[i].n + 5u, &h), DROP_NONE);
		assert_int_equal(h.len, vectors[i].n);
		assert_same_hdr(vectors[i].name, &h, &vectors[i].h);
		for (uint32_t len = 0; len < vectors[i].n; len++)
			assert_int_equal(decode_exact(b, len, &h), DROP_GRE_TRUNCATED);
	}
}

/* All sixteen bits in front, one at a time, with room for every field. */
static void test_bits(void **state)
{
	static const enum drop expected[16] = {
		DROP_GRE_VERSION,  /* 15: version 1, PPTP */
		DROP_GRE_VERSION,  /* 14 */
		DROP_GRE_VERSION,  /* 13 */
		DROP_NONE,         /* 12: ignored on receipt, RFC 2784 2.3, as are the next */
		DROP_NONE,         /* 11 */
		DROP_NONE,         /* 10 */
		DROP_NONE,         /* 9 */
		DROP_NONE,         /* 8 */
		DROP_NONE,         /* 7 */
		DROP_NONE,         /* 6 */
		DROP_GRE_FLAGS,    /* 5: recursion control */
		DROP_GRE_FLAGS,    /* 4: strict source route */
		DROP_NONE,         /* 3: sequence number */
		DROP_NONE,         /* 2: key */
		DROP_GRE_FLAGS,    /* 1: routing */
		DROP_GRE_CHECKSUM, /* 0: checksum, which is not right here */
	};

	(void)state;
	for (unsigned bit = 0; bit < 16; bit++) {
		uint8_t b[24] = {0, 0, 8, 0, 1};
		struct gre_hdr h;

		be16_put(b, (uint16_t)(1u << bit));
		if (decode_exact(b, sizeof(b), &h) != expected[bit])
			fail_msg("bit %u", 15 - bit);
	}
}

static void test_checksum(void **state)
{
	uint64_t seed = 50;

	(void)state;
	for (uint32_t len = 0; len < 300; len++) {
		struct gre_hdr h = {.has_csum = true, .has_key = len % 2, .proto = 0x0800, .key = rnd(&seed)},
			       got;
		uint8_t b[400];
		uint32_t n = gre_hdr_len(&h);
		struct iovec iov[2];

		for (uint32_t i = 0; i < len; i++)
			b[n + i] = (uint8_t)rnd(&seed);
		iov[0] = (struct iovec){b + n, len / 3 * 2};
		iov[1] = (struct iovec){b + n + iov[0].iov_len, len - iov[0].iov_len};
		gre_encode(b, &h, iov, 2);
		assert_int_equal(slow_sum(0, b, n + len), 0xffff);
		assert_int_equal(decode_exact(b, n + len, &got), DROP_NONE);
		for (uint32_t bit = 32; bit < (n + len) * 8; bit++) {
			b[bit / 8] ^= (uint8_t)(1 << bit % 8);
			assert_int_equal(gre_decode(b, n + len, &got), DROP_GRE_CHECKSUM);
			b[bit / 8] ^= (uint8_t)(1 << bit % 8);
		}
	}
}

static void test_peek_key(void **state)
{
	static const struct {
		uint8_t n, b[12];
		bool known, has;
		uint32_t key;
	} rows[] = {
		{0, {0}, false, false, 0},
		{3, {0, 0, 8}, false, false, 0},
		{4, {0, 0, 8, 0}, true, false, 0},
		{4, {0x20, 0, 8, 0}, false, false, 0},
		{7, {0x20, 0, 8, 0, 0, 0, 0}, false, false, 0},
		{8, {0x20, 0, 8, 0, 0, 0, 0, 7}, true, true, 7},
		{8, {0xa0, 0, 8, 0, 1, 2, 0, 0}, false, false, 0},
		{12, {0xa0, 0, 8, 0, 1, 2, 0, 0, 0, 0, 1, 0}, true, true, 256},
		{8, {0x80, 0, 8, 0, 1, 2, 0, 0}, true, false, 0},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		bool has;
		uint32_t key;

		assert_int_equal(gre_peek_key(rows[i].b, rows[i].n, &has, &key), rows[i].known);
		assert_int_equal(has, rows[i].has);
		assert_int_equal(key, rows[i].key);
	}
}

/* The inside of a keepalive as a router sends it: 24 octets, or 28 with a key; changed in up to two octets. */
static void test_keepalive(void **state)
{
	static const struct {
		const char *name;
		bool key, fix; /* fix: the IP checksum is made right again */
		struct {
			uint8_t off, value;
		} patch[2];
		int cut;
		bool yes;
	} rows[] = {
		{"as it is", false, true, {{0}}, 0, true},
		{"with a key", true, true, {{0}}, 0, true},
		{"padded", false, true, {{0}}, -10, true},
		{"cut", false, true, {{0}}, 1, false},
		{"cut key", true, true, {{0}}, 1, false},
		{"half a header", false, true, {{0}}, 10, false},
		{"IPv6", false, true, {{0, 0x65}}, 0, false},
		{"short header", false, true, {{0, 0x44}}, 0, false},
		{"long header", false, true, {{0, 0x4f}}, 0, false},
		{"total too short", false, true, {{3, 23}}, 0, false},
		{"not GRE", false, true, {{9, 17}}, 0, false},
		{"fragment", false, true, {{6, 0x20}}, 0, false},
		{"later fragment", false, true, {{7, 1}}, 0, false},
		{"DF", false, true, {{6, 0x40}}, 0, true},
		{"from somebody else", false, true, {{15, 99}}, 0, false},
		{"to somebody else", false, true, {{19, 99}}, 0, false},
		{"IP checksum", false, false, {{10, 0xde}}, 0, false},
		{"with a packet inside", false, true, {{22, 8}}, 0, false},
		{"GRE version 1", false, true, {{21, 1}}, 0, false},
		{"GRE checksum missing", false, true, {{20, 0x80}}, 0, false},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		/* the tunnel is local 192.0.2.1, remote 192.0.2.2; the inside goes back to the remote */
		uint8_t b[64] = {0x45, 0, 0, 24, 0, 1, 0, 0, 255, 47, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2};
		uint32_t len = rows[i].key ? 28 : 24, off = 0, local, remote;
		uint8_t *copy;

		memcpy(&local, b + 12, 4);
		memcpy(&remote, b + 16, 4);
		b[3] = (uint8_t)len;
		if (rows[i].key) {
			b[20] = 0x20;
			b[27] = 101;
		}
		packet_ip_csum(b);
		for (unsigned k = 0; k < 2; k++)
			if (rows[i].patch[k].off || rows[i].patch[k].value)
				b[rows[i].patch[k].off] = rows[i].patch[k].value;
		if (rows[i].fix)
			packet_ip_csum(b);
		len = (uint32_t)((int)len - rows[i].cut);
		copy = malloc(len);
		assert_non_null(copy);
		memcpy(copy, b, len);
		if (gre_is_keepalive(copy, len, local, remote, &off) != rows[i].yes)
			fail_msg("%s", rows[i].name);
		if (rows[i].yes) {
			assert_int_equal(off, 20);
			/* it is for this side only */
			assert_false(gre_is_keepalive(copy, len, remote, local, &off));
		}
		free(copy);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_vectors),
		cmocka_unit_test(test_bits),
		cmocka_unit_test(test_checksum),
		cmocka_unit_test(test_peek_key),
		cmocka_unit_test(test_keepalive),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
