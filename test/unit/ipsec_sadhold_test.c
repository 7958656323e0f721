/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ipsec_sadhold_test.c - the SA database: packets that came before their SA. */
#include "ipsec/sad_private.h"
#include "test/unit/ipsec_sad_help.h"

static const struct sa_end here = {.port = 4500}, there = {.port = 4501};

static bool hold(struct sad *d, uint32_t spi, uint32_t len, uint64_t now)
{
	static uint8_t data[65536];

	data[0] = (uint8_t)now;
	return sad_hold(d, spi, &here, &there, 3, data, len, now);
}

static unsigned length(const struct sad_held *h)
{
	unsigned n = 0;

	for (; h; h = h->next)
		n++;
	return n;
}

static void test_hold_and_play(void **state)
{
	struct sad *d = test_sad();
	uint32_t spi = test_reserve(d), expired;
	struct sad_held *h, *list;

	(void)state;
	for (unsigned i = 0; i < 3; i++)
		assert_true(hold(d, spi, 100 + i, 50 + i));
	assert_int_equal(sad_add(d, test_sa(true, spi, T1, 1, false), 60), 0);
	assert_false(hold(d, spi, 100, 60)); /* the SA is there */
	h = list = sad_held_take(d, spi, 60, &expired);
	assert_int_equal(expired, 0);
	for (unsigned i = 0; i < 3; i++, h = h->next) {
		assert_int_equal(h->len, 100 + i);
		assert_int_equal(h->data[0], 50 + i);
		assert_int_equal(h->at_ms, 50 + i);
		assert_int_equal(h->tos, 3);
		assert_int_equal(h->local.port, 4500);
		assert_int_equal(h->remote.port, 4501);
	}
	assert_null(h);
	sad_held_free(list);
	assert_null(sad_held_take(d, spi, 60, &expired));
	assert_int_equal(d->held_octets, 0);
	assert_int_equal(sad_held_dropped(d), 0);
	assert_false(hold(d, spi ^ 1, 100, 0)); /* nobody's */
	assert_null(sad_held_take(d, spi ^ 1, 60, &expired));
	sad_free(d);
}

static void test_hold_limits(void **state)
{
	struct sad *d = test_sad();
	uint32_t a = test_reserve(d), b = test_reserve(d), expired, spi[2000];
	unsigned n = 0, of_one = 0;
	struct sad_held *list;

	(void)state;
	for (unsigned i = 0; i < SAD_HOLD_MAX; i++)
		assert_true(hold(d, a, 10, 0));
	assert_false(hold(d, a, 10, 0));
	assert_true(hold(d, b, 10, 0)); /* each SPI its own */
	list = sad_held_take(d, a, 0, &expired);
	assert_int_equal(length(list), SAD_HOLD_MAX);
	sad_held_free(list);
	assert_true(hold(d, a, 10, 0));
	/* octets of one tunnel, on however many SPIs: the others have theirs */
	for (unsigned i = 0; i < 300; i++)
		of_one += hold(d, test_reserve_of(d, T1), 65000, 0);
	assert_in_range(of_one, SAD_HOLD_TUNNEL / 66000, SAD_HOLD_TUNNEL / 65000);
	assert_true(hold(d, test_reserve_of(d, T1 + 1), 65000, 0));
	n += of_one + 1;
	/* octets of all together */
	for (unsigned i = 0; i < 2000; i++) {
		spi[i] = test_reserve_of(d, 1000 + i);
		n += hold(d, spi[i], 65000, 0);
	}
	assert_in_range(n, SAD_HOLD_OCTETS / 66000, SAD_HOLD_OCTETS / 65000);
	assert_in_range(d->held_octets, 1, SAD_HOLD_OCTETS);
	/* what is given back may be used again */
	sad_release(d, spi[0]);
	assert_int_equal(sad_held_dropped(d), 1);
	assert_int_equal(sad_held_dropped(d), 0);
	assert_true(hold(d, spi[1999], 65000, 0));
	sad_free(d);
}

static void ignore(void *arg, const struct sa *sa, bool hard)
{
	(void)arg;
	(void)sa;
	(void)hard;
}

static void test_hold_ages(void **state)
{
	struct sad *d = test_sad();
	uint32_t spi[20], expired;
	struct sad_held *list;

	(void)state;
	/* when they are taken */
	spi[0] = test_reserve(d);
	for (unsigned i = 0; i < 10; i++)
		assert_true(hold(d, spi[0], 10, 1000 + i * 100));
	list = sad_held_take(d, spi[0], 1400 + SAD_HOLD_MS, &expired);
	assert_int_equal(expired, 4);
	assert_int_equal(length(list), 6);
	assert_int_equal(list->at_ms, 1400);
	sad_held_free(list);
	assert_int_equal(sad_held_dropped(d), 0);
	/* by ticks, some SPIs each: twenty SPIs with two packets each, the second of them a bit later */
	for (unsigned i = 0; i < 20; i++) {
		if (i)
			spi[i] = test_reserve(d);
		assert_true(hold(d, spi[i], 10, 3000));
		assert_true(hold(d, spi[i], 10, 3000 + (i % 2) * 500));
	}
	sad_tick(d, 3000 + SAD_HOLD_MS, 100, ignore, NULL);
	assert_int_equal(sad_held_dropped(d), 0);
	for (unsigned i = 0; i < 4; i++) {
		sad_tick(d, 3001 + SAD_HOLD_MS, 5, ignore, NULL);
		assert_in_range(sad_held_dropped(d), 7, 8);
	}
	sad_tick(d, 3001 + SAD_HOLD_MS, 100, ignore, NULL);
	assert_int_equal(sad_held_dropped(d), 0);
	/* one that is younger can still be added to, and one that is empty begins anew */
	assert_true(hold(d, spi[1], 10, 4100));
	assert_true(hold(d, spi[0], 10, 4100));
	sad_tick(d, 3501 + SAD_HOLD_MS, 100, ignore, NULL);
	assert_int_equal(sad_held_dropped(d), 10);
	list = sad_held_take(d, spi[1], 4100, &expired);
	assert_int_equal(length(list), 1);
	sad_held_free(list);
	/* and what has gone makes room */
	spi[1] = test_reserve(d);
	for (unsigned i = 0; i < SAD_HOLD_MAX; i++)
		assert_true(hold(d, spi[1], 10, i < 56 ? 5000 : 5500));
	assert_false(hold(d, spi[1], 10, 5500));
	sad_tick(d, 5001 + SAD_HOLD_MS, 100, ignore, NULL);
	assert_int_equal(sad_held_dropped(d), 57); /* spi[0]'s, too */
	for (unsigned i = 0; i < 56; i++)
		assert_true(hold(d, spi[1], 10, 5500));
	assert_false(hold(d, spi[1], 10, 5500));
	list = sad_held_take(d, spi[1], 5500, &expired);
	assert_int_equal(length(list), SAD_HOLD_MAX);
	sad_held_free(list);
	assert_true(hold(d, spi[0], 10, 5500));
	/* with the slot */
	sad_release(d, spi[0]);
	assert_int_equal(sad_held_dropped(d), 1);
	assert_int_equal(d->held_octets, 0);
	assert_null(d->holds);
	assert_null(d->holds_last);
	sad_free(d);
}

/* Held, the SA comes, nobody asks, it goes: nothing is left for the slot's next one. */
static void test_hold_forgotten(void **state)
{
	struct sad *d = test_sad();
	uint32_t spi = test_reserve(d), expired;

	(void)state;
	assert_true(hold(d, spi, 10, 0));
	assert_int_equal(sad_add(d, test_sa(true, spi, T1, 1, false), 0), 0);
	sa_free(sad_take_in(d, spi));
	assert_int_equal(sad_held_dropped(d), 1);
	assert_null(sad_held_take(d, spi, 0, &expired));
	sad_free(d);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_hold_and_play),
		cmocka_unit_test(test_hold_limits),
		cmocka_unit_test(test_hold_ages),
		cmocka_unit_test(test_hold_forgotten),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
