/* SPDX-License-Identifier: GPL-2.0-or-later */
/* base_csum_test.c - the fast checksum against the slow one, updating against summing anew. */
#include "gateway/base/csum.h"
#include "test/unit/packet.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static void fill(uint8_t *b, size_t n, uint64_t *seed, unsigned kind)
{
	for (size_t i = 0; i < n; i++)
		b[i] = kind == 0 ? 0 : kind == 1 ? 0xff : (uint8_t)rnd(seed);
}

/* Equal as ones' complement numbers; that is all that two ways of summing owe each other. */
static bool same_sum(uint64_t fast, uint32_t slow)
{
	return ntohs(csum_fold(fast)) % 0xffff == slow % 0xffff;
}

static void test_against_slow(void **state)
{
	static uint8_t buf[1600];
	uint64_t seed = 1;

	(void)state;
	for (unsigned kind = 0; kind < 3; kind++) {
		fill(buf, sizeof(buf), &seed, kind);
		for (size_t len = 0; len <= 1500; len++) {
			const uint8_t *p = buf + rnd(&seed) % 64;
			uint64_t sum = csum_add(0, p, len);

			assert_true(same_sum(sum, slow_sum(0, p, len)));
			/* all zero is the only sum that folds to zero: callers compare folded sums */
			assert_int_equal(csum_fold(sum) == 0, kind == 0 || len == 0);
		}
	}
}

static void test_large(void **state)
{
	uint8_t *b = malloc(1 << 20);
	uint64_t seed = 2;

	(void)state;
	assert_non_null(b);
	for (unsigned kind = 1; kind < 3; kind++) {
		fill(b, 1 << 20, &seed, kind);
		assert_true(same_sum(csum_add(0, b, 1 << 20), slow_sum(0, b, 1 << 20)));
		assert_true(same_sum(csum_add(0, b + 1, 65535), slow_sum(0, b + 1, 65535)));
	}
	free(b);
}

/* Parts of even length add up to the whole. */
static void test_parts(void **state)
{
	uint8_t buf[3000];
	uint64_t seed = 3;

	(void)state;
	fill(buf, sizeof(buf), &seed, 2);
	for (unsigned i = 0; i < 2000; i++) {
		uint32_t a = rnd(&seed) % 700 * 2, b = rnd(&seed) % 700 * 2, c = rnd(&seed) % 200;
		uint64_t sum = csum_add(csum_add(csum_add(0, buf, a), buf + a, b), buf + a + b, c);

		assert_int_equal(csum_fold(sum), csum_fold(csum_add(0, buf, a + b + c)));
	}
}

static void test_pseudo(void **state)
{
	uint64_t seed = 4;

	(void)state;
	for (unsigned i = 0; i < 2000; i++) {
		struct spec s = packet_spec(i % 2 ? 4 : 6, (uint8_t)rnd(&seed));
		uint32_t len = rnd(&seed) % (i % 2 ? 65536 : 100000);

		for (unsigned k = i % 2 ? 12 : 0; k < 16; k++) {
			s.src.b[k] = (uint8_t)rnd(&seed);
			s.dst.b[k] = (uint8_t)rnd(&seed);
		}
		if (s.proto == 0)
			s.proto = 1;
		assert_int_equal(
			ntohs(csum_fold(csum_pseudo(&s.src, &s.dst, s.proto, len))), slow_pseudo(&s, len));
	}
}

/* Changing octets and updating the field gives what summing anew gives. The changed words are random, all
 * zero or all one on either side, where ones' complement has its two zeros (RFC 1624 4). */
static void test_update(void **state)
{
	uint64_t seed = 5;

	(void)state;
	for (unsigned i = 0; i < 20000; i++) {
		uint8_t b[64], old[16];
		size_t n = rnd(&seed) % 8 * 2 + 2, at = rnd(&seed) % 20 * 2;
		uint16_t field, anew;

		fill(b, sizeof(b), &seed, 2);
		b[63] |= 1; /* not all zero: no header is */
		fill(b + at, n, &seed, rnd(&seed) % 3);
		memcpy(old, b + at, n);
		field = (uint16_t)~csum_fold(csum_add(0, b, sizeof(b)));
		fill(b + at, n, &seed, rnd(&seed) % 3);
		anew = (uint16_t)~csum_fold(csum_add(0, b, sizeof(b)));
		assert_int_equal(csum_update(field, old, b + at, n), anew);
		if (n == 2)
			assert_int_equal(csum_update16(field, raw16_get(old), raw16_get(b + at)), anew);
	}
}

/* The example of RFC 1624 4: the new checksum is 0, not ffff. */
static void test_rfc1624_example(void **state)
{
	(void)state;
	assert_int_equal(ntohs(csum_update16(htons(0xdd2f), htons(0x5555), htons(0x3285))), 0x0000);
}

/* The words of the example of RFC 1071 3: their sum is ddf2. */
static void test_rfc1071_example(void **state)
{
	const uint8_t b[] = {0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7};

	(void)state;
	assert_int_equal(ntohs(csum_fold(csum_add(0, b, sizeof(b)))), 0xddf2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_against_slow),
		cmocka_unit_test(test_large),
		cmocka_unit_test(test_parts),
		cmocka_unit_test(test_pseudo),
		cmocka_unit_test(test_update),
		cmocka_unit_test(test_rfc1624_example),
		cmocka_unit_test(test_rfc1071_example),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
