/* SPDX-License-Identifier: GPL-2.0-or-later */
/* gre_demux_test.c - the table of endpoints against a plain array, through many additions and removals. */
#include "gre/demux.h"
#include "test/unit/packet.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static struct gre_endpoint endpoint(const char *local, const char *remote, bool has_key, uint32_t key)
{
	return (struct gre_endpoint){
		.local = test_addr(local), .remote = test_addr(remote), .has_key = has_key, .key = key};
}

static struct gre_endpoint over(struct gre_endpoint e, uint32_t by)
{
	e.over = by;
	return e;
}

static void test_told_apart(void **state)
{
	/* all different, and each found as itself */
	const struct gre_endpoint e[] = {
		endpoint("192.0.2.1", "192.0.2.2", false, 0),
		endpoint("192.0.2.1", "192.0.2.2", true, 0),
		endpoint("192.0.2.1", "192.0.2.2", true, 1),
		endpoint("192.0.2.1", "192.0.2.3", false, 0),
		endpoint("192.0.2.9", "192.0.2.2", false, 0),
		endpoint("192.0.2.2", "192.0.2.1", false, 0),
		endpoint("2001:db8::1", "2001:db8::2", false, 0),
		endpoint("2001:db8::1", "2001:db8::2", true, 0xffffffff),
		/* what comes by a tunnel is not what comes in the clear, nor by another one */
		over(endpoint("192.0.2.1", "192.0.2.2", false, 0), 1),
		over(endpoint("192.0.2.1", "192.0.2.2", false, 0), 2),
		over(endpoint("192.0.2.1", "192.0.2.2", true, 0), 1),
		over(endpoint("::", "::", false, 0), 1),
		over(endpoint("::", "::", false, 0), 0xffffffff),
		endpoint("::", "::", false, 0),
	};
	const uint32_t n = sizeof(e) / sizeof(e[0]);
	struct gre_endpoint odd = e[0];
	struct gre_demux *d;

	(void)state;
	assert_int_equal(gre_demux_new(&d), 0);
	for (uint32_t i = 0; i < n; i++) {
		assert_int_equal(gre_demux_find(d, &e[i]), GRE_DEMUX_NONE);
		assert_int_equal(gre_demux_add(d, &e[i], i), 0);
		assert_int_equal(gre_demux_add(d, &e[i], 77), -EEXIST);
	}
	for (uint32_t i = 0; i < n; i++)
		assert_int_equal(gre_demux_find(d, &e[i]), i);
	/* without a key its value means nothing */
	odd.key = 12345;
	assert_int_equal(gre_demux_find(d, &odd), 0);
	assert_int_equal(gre_demux_del(d, &odd), 0);
	assert_int_equal(gre_demux_del(d, &e[0]), -ENOENT);
	assert_int_equal(gre_demux_find(d, &e[0]), GRE_DEMUX_NONE);
	for (uint32_t i = 1; i < n; i++)
		assert_int_equal(gre_demux_find(d, &e[i]), i);
	gre_demux_free(d);
	gre_demux_free(NULL);
}

#define MANY 10000

static struct gre_endpoint many(uint32_t i)
{
	struct gre_endpoint e = over(endpoint("192.0.2.1", "192.0.2.2", true, i / 12), i / 4 % 3);

	e.local.b[15] = (uint8_t)(i % 4);
	return e;
}

static void test_many(void **state)
{
	static bool in[MANY];
	uint64_t seed = 60;
	struct gre_demux *d;

	(void)state;
	assert_int_equal(gre_demux_new(&d), 0);
	for (uint32_t round = 0; round < 20 * MANY; round++) {
		uint32_t i = rnd(&seed) % MANY;
		/* few addresses, many keys: tunnels of one pair of gateways; in the clear and by two others */
		struct gre_endpoint e = many(i);

		switch (rnd(&seed) % (round < 10 * MANY ? 4 : 3)) {
		case 0:
			assert_int_equal(gre_demux_del(d, &e), in[i] ? 0 : -ENOENT);
			in[i] = false;
			break;
		case 1:
			assert_int_equal(gre_demux_find(d, &e), in[i] ? i : GRE_DEMUX_NONE);
			break;
		default:
			assert_int_equal(gre_demux_add(d, &e, i), in[i] ? -EEXIST : 0);
			in[i] = true;
		}
	}
	for (uint32_t i = 0; i < MANY; i++) {
		struct gre_endpoint e = many(i);

		assert_int_equal(gre_demux_find(d, &e), in[i] ? i : GRE_DEMUX_NONE);
		if (in[i])
			assert_int_equal(gre_demux_del(d, &e), 0);
	}
	for (uint32_t i = 0; i < MANY; i++) {
		struct gre_endpoint e = many(i);

		assert_int_equal(gre_demux_find(d, &e), GRE_DEMUX_NONE);
	}
	gre_demux_free(d);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_told_apart),
		cmocka_unit_test(test_many),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
