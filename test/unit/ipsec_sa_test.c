/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ipsec_sa_test.c - security associations: selectors, use counters, their end. */
#include "ipsec/sa.h"
#include "test/unit/packet.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define ALL 0, UINT16_MAX

struct ts {
	const char *from, *to;
	uint16_t port_from, port_to;
	uint8_t proto;
};

static struct sa_selector selector(const struct ts *ts)
{
	return (struct sa_selector){
		test_addr(ts->from), test_addr(ts->to), ts->port_from, ts->port_to, ts->proto};
}

static void test_selectors(void **state)
{
	static const struct {
		struct ts local, remote;
		const char *src, *dst; /* outbound */
		uint16_t sport, dport;
		uint8_t proto;
		bool known, selects;
	} rows[] = {
#define ANY4 {"0.0.0.0", "255.255.255.255", ALL, 0}
#define ANY6                                                                                                 \
	{                                                                                                    \
		"::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", ALL, 0                                      \
	}
		{ANY4, ANY4, "0.0.0.0", "255.255.255.255", 1, 2, 6, true, true},
		{ANY4, ANY4, "10.0.0.1", "10.0.0.2", 0, 0, 50, false, true},
		{ANY6, ANY6, "::1", "2001:db8::1", 1, 2, 6, true, true},
		/* ::/0 is IPv6 and has no IPv4 address in it */
		{ANY6, ANY6, "10.0.0.1", "10.0.0.2", 1, 2, 6, true, false},
		{ANY4, ANY4, "::1", "2001:db8::1", 1, 2, 6, true, false},
		{ANY4, ANY6, "10.0.0.1", "10.0.0.2", 1, 2, 6, true, false},
		/* ends are included */
		{{"10.0.0.4", "10.0.0.7", ALL, 0}, ANY4, "10.0.0.3", "1.1.1.1", 0, 0, 17, true, false},
		{{"10.0.0.4", "10.0.0.7", ALL, 0}, ANY4, "10.0.0.4", "1.1.1.1", 0, 0, 17, true, true},
		{{"10.0.0.4", "10.0.0.7", ALL, 0}, ANY4, "10.0.0.7", "1.1.1.1", 0, 0, 17, true, true},
		{{"10.0.0.4", "10.0.0.7", ALL, 0}, ANY4, "10.0.0.8", "1.1.1.1", 0, 0, 17, true, false},
		{{"10.0.0.4", "10.0.0.7", ALL, 0}, ANY4, "11.0.0.5", "1.1.1.1", 0, 0, 17, true, false},
		{ANY4, {"10.0.0.4", "10.0.0.7", ALL, 0}, "10.0.0.4", "1.1.1.1", 0, 0, 17, true, false},
		{{"fd00::", "fd00::ffff", ALL, 0}, ANY6, "fd00::ffff", "::1", 0, 0, 17, true, true},
		{{"fd00::", "fd00::ffff", ALL, 0}, ANY6, "fd00::1:0", "::1", 0, 0, 17, true, false},
		/* protocols */
		{{"0.0.0.0", "255.255.255.255", ALL, 47}, ANY4, "1.1.1.1", "1.1.1.2", 0, 0, 47, true, true},
		{{"0.0.0.0", "255.255.255.255", ALL, 47}, ANY4, "1.1.1.1", "1.1.1.2", 0, 0, 6, true, false},
		{ANY4, {"0.0.0.0", "255.255.255.255", ALL, 6}, "1.1.1.1", "1.1.1.2", 0, 0, 17, true, false},
		/* ports, each on its side */
		{{"0.0.0.0", "255.255.255.255", 80, 443, 6}, ANY4, "1.1.1.1", "1.1.1.2", 80, 9, 6, true,
			true},
		{{"0.0.0.0", "255.255.255.255", 80, 443, 6}, ANY4, "1.1.1.1", "1.1.1.2", 443, 9, 6, true,
			true},
		{{"0.0.0.0", "255.255.255.255", 80, 443, 6}, ANY4, "1.1.1.1", "1.1.1.2", 79, 80, 6, true,
			false},
		{{"0.0.0.0", "255.255.255.255", 80, 443, 6}, ANY4, "1.1.1.1", "1.1.1.2", 444, 80, 6, true,
			false},
		{ANY4, {"0.0.0.0", "255.255.255.255", 80, 80, 17}, "1.1.1.1", "1.1.1.2", 9, 80, 17, true,
			true},
		{ANY4, {"0.0.0.0", "255.255.255.255", 80, 80, 17}, "1.1.1.1", "1.1.1.2", 80, 9, 17, true,
			false},
		/* a fragment does not say its ports */
		{ANY4, {"0.0.0.0", "255.255.255.255", 0, 80, 17}, "1.1.1.1", "1.1.1.2", 0, 0, 17, false,
			false},
		{ANY4, {"0.0.0.0", "255.255.255.255", ALL, 17}, "1.1.1.1", "1.1.1.2", 0, 0, 17, false, true},
		/* neither do protocols without */
		{ANY4, {"0.0.0.0", "255.255.255.255", 0, 80, 0}, "1.1.1.1", "1.1.1.2", 0, 0, 47, true, false},
		{ANY4, {"0.0.0.0", "255.255.255.255", 0, 2048, 1}, "1.1.1.1", "1.1.1.2", 0, 0, 1, true,
			false},
		/* OPAQUE */
		{ANY4, {"0.0.0.0", "255.255.255.255", 65535, 0, 17}, "1.1.1.1", "1.1.1.2", 0, 0, 17, false,
			true},
		{ANY4, {"0.0.0.0", "255.255.255.255", 65535, 0, 17}, "1.1.1.1", "1.1.1.2", 1, 2, 17, true,
			false},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct sa_selector local = selector(&rows[i].local), remote = selector(&rows[i].remote);
		struct sa sa = {.local_ts = &local, .remote_ts = &remote, .nlocal_ts = 1, .nremote_ts = 1};
		struct tuple t = {.src = test_addr(rows[i].src),
			.dst = test_addr(rows[i].dst),
			.sport = htons(rows[i].sport),
			.dport = htons(rows[i].dport),
			.proto = rows[i].proto};

		assert_int_equal(sa_selects(&sa, &t, rows[i].known), rows[i].selects);
		/* inbound it is the other way round */
		sa.inbound = true;
		t = tuple_turned(&t);
		assert_int_equal(sa_selects(&sa, &t, rows[i].known), rows[i].selects);
	}
}

/* One of several is enough, on each side; none selects nothing. */
static void test_several_selectors(void **state)
{
	static const struct ts nets[] = {{"10.0.0.0", "10.0.0.255", ALL, 0},
		{"10.2.0.0", "10.2.0.255", ALL, 0}, {"fd00::", "fd00::ffff", ALL, 0}};
	struct sa_selector local[3], remote[2];
	struct sa sa = {.local_ts = local, .remote_ts = remote, .nlocal_ts = 3, .nremote_ts = 2};
	struct tuple t = {.src = test_addr("10.2.0.9"), .dst = test_addr("10.0.0.1"), .proto = 17};

	(void)state;
	for (unsigned i = 0; i < 3; i++)
		local[i] = selector(&nets[i]);
	remote[0] = selector(&nets[2]);
	remote[1] = selector(&nets[0]);
	assert_true(sa_selects(&sa, &t, true));
	t.dst = test_addr("10.2.0.1");
	assert_false(sa_selects(&sa, &t, true));
	t = (struct tuple){.src = test_addr("fd00::1"), .dst = test_addr("fd00::2"), .proto = 17};
	assert_true(sa_selects(&sa, &t, true));
	sa.nremote_ts = 0;
	assert_false(sa_selects(&sa, &t, true));
}

/* ---- use --------------------------------------------------------------------------------------------------- */

#define ROUNDS 20000

static void *use_it(void *arg)
{
	struct sa_use *u = arg;

	for (unsigned i = 0; i < ROUNDS; i++) {
		struct sa_use *mine = sa_use_get(u);

		atomic_fetch_add(&mine->packets, 1);
		sa_use_put(mine);
	}
	sa_use_put(u);
	return NULL;
}

/* Whoever lets go last frees it: the leak checker and the address checker are the judges. */
static void test_use(void **state)
{
	struct sa_use *u = sa_use_new();
	pthread_t th[4];

	(void)state;
	assert_non_null(u);
	assert_int_equal(u->packets, 0);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&th[i], NULL, use_it, sa_use_get(u)), 0);
	for (unsigned i = 0; i < 4; i++)
		pthread_join(th[i], NULL);
	assert_int_equal(u->refs, 1);
	assert_int_equal(u->packets, 4 * ROUNDS);
	sa_use_put(u);
	sa_use_put(NULL);
}

static void test_end(void **state)
{
	struct sa *sa = calloc(1, sizeof(*sa));
	struct sa_use *u = sa_use_new();

	(void)state;
	assert_true(sa && u);
	sa->use = sa_use_get(u);
	sa->local_ts = calloc(2, sizeof(*sa->local_ts));
	sa->remote_ts = calloc(2, sizeof(*sa->remote_ts));
	sa_free(sa);
	assert_int_equal(u->refs, 1);
	sa_use_put(u);
	sa_free(calloc(1, sizeof(*sa))); /* half made */
	sa_free(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_selectors),
		cmocka_unit_test(test_several_selectors),
		cmocka_unit_test(test_use),
		cmocka_unit_test(test_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
