/* SPDX-License-Identifier: GPL-2.0-or-later */
/* flowstate_event_test.c - what is told of flows: once each, of the kinds that were asked for, with the record at hand. */
#include "test/unit/flowstate_help.h"

#define WEB "203.0.113.80"
#define ALL (FS_EVENT_BIT(FS_EVENT_COUNT) - 1)

/* What was told, in order. */
struct told {
	struct world w;
	unsigned n;
	struct fs_event e[64];
	struct fs_info info[64];
};

static void on_event(void *arg, const struct fs_event *e)
{
	struct told *t = arg;

	assert_true(t->n < 64);
	/* The record is one of a live flow, also of one that ends. */
	assert_true(is_live(head_of(t->w.fs, e->flow)));
	fs_describe(t->w.fs, e->flow, &t->info[t->n]);
	t->e[t->n++] = *e;
}

static void open_told(struct told *t, unsigned kinds)
{
	t->n = 0;
	world_new(&t->w, NULL, 1000);
	fs_on_event(t->w.fs, kinds, on_event, t);
}

static struct tuple udp(uint16_t port)
{
	return tup(IPPROTO_UDP, "10.0.1.5", port, WEB, 53);
}

static enum drop pass(struct told *t, fs_id site, fs_id via, struct tuple tuple)
{
	struct fs_packet pk = packet(site, via, tuple, 0);

	return fs_pass(t->w.fs, find(&t->w, site, tuple), &pk, t->w.now);
}

/* Two sites begin with equal tuples: each is told with its own, and with what the other side sees. */
static void test_begin(void **state)
{
	static struct told t;
	uint32_t a, b;
	enum drop d;

	(void)state;
	open_told(&t, ALL);
	a = begin(&t.w, t.w.site_a, t.w.a1, udp(1000), NULL);
	b = begin(&t.w, t.w.site_b, t.w.b1, udp(1000), NULL);
	begin(&t.w, t.w.site_a, t.w.a1, udp(1000), NULL); /* is there already */
	t.w.cfg.max_per_site = 1;
	fs_reconfigure(t.w.fs, &t.w.cfg);
	begin(&t.w, t.w.site_a, t.w.a1, udp(1001), &d);
	assert_int_equal(d, DROP_SITE_LIMIT);

	assert_int_equal(t.n, 2);
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(t.e[i].kind, FS_EVENT_BEGIN);
		assert_int_equal(t.e[i].flow, i ? b : a);
		assert_int_equal(t.info[i].half[FS_ORIG].realm, i ? t.w.site_b : t.w.site_a);
		assert_int_equal(t.info[i].half[FS_ORIG].via, i ? t.w.b1 : t.w.a1);
		assert_int_equal(t.info[i].half[FS_REPLY].realm, t.w.egress);
		assert_tuple(t.info[i].half[FS_ORIG].t, udp(1000));
		assert_int_equal(t.info[i].packets[FS_ORIG], 0);
	}
	assert_false(t.info[0].translated);
	assert_true(t.info[1].translated);
	assert_int_not_equal(t.info[0].half[FS_REPLY].t.dport, t.info[1].half[FS_REPLY].t.dport);
	world_close(&t.w);
}

static void test_move(void **state)
{
	static struct told t;
	struct fs_stats stats;

	(void)state;
	open_told(&t, ALL);
	begin(&t.w, t.w.site_a, t.w.a1, udp(1), NULL);
	assert_int_equal(pass(&t, t.w.site_a, t.w.a1, udp(1)), DROP_NONE);
	assert_int_equal(t.n, 1);
	assert_int_equal(pass(&t, t.w.site_a, t.w.a2, udp(1)), DROP_NONE);
	assert_int_equal(pass(&t, t.w.site_a, t.w.a2, udp(1)), DROP_NONE);
	assert_int_equal(t.n, 2);
	assert_int_equal(t.e[1].kind, FS_EVENT_MOVE);
	assert_int_equal(t.e[1].dir, FS_ORIG);
	assert_int_equal(t.e[1].from, t.w.a1);
	assert_int_equal(t.info[1].half[FS_ORIG].via, t.w.a2);
	/* by another site's tunnel: it neither passes nor moves */
	assert_int_equal(pass(&t, t.w.site_a, t.w.b1, udp(1)), DROP_OTHER_SITE);
	assert_int_equal(t.n, 2);
	fs_get_stats(t.w.fs, &stats);
	assert_int_equal(stats.moved, 1);
	world_close(&t.w);
}

static void expect_end(const struct told *t, unsigned i, enum fs_event_kind kind, enum fs_end_why why)
{
	assert_true(t->n > i);
	assert_int_equal(t->e[i].kind, kind);
	assert_int_equal(t->e[i].why, why);
}

/* Each way to end, with the counters that the flow had until then. */
static void test_ends(void **state)
{
	static struct told t;
	struct fs_stats stats;
	uint32_t f;

	(void)state;
	open_told(&t, ALL & ~FS_EVENT_BIT(FS_EVENT_BEGIN));
	begin(&t.w, t.w.site_a, t.w.a1, udp(1), NULL);
	for (unsigned i = 0; i < 3; i++)
		pass(&t, t.w.site_a, t.w.a1, udp(1));
	sleep_s(&t.w, 119);
	assert_int_equal(t.n, 0);
	sleep_s(&t.w, 2);
	assert_int_equal(t.n, 1);
	expect_end(&t, 0, FS_EVENT_EXPIRE, FS_END_EXPIRED);
	assert_int_equal(t.info[0].packets[FS_ORIG], 3);
	assert_int_equal(t.info[0].octets[FS_ORIG], 300);
	assert_int_equal(t.info[0].state, FS_UDP_ONE_WAY);

	f = begin(&t.w, t.w.site_a, t.w.a1, udp(2), NULL);
	fs_end(t.w.fs, f, t.w.now);
	fs_end(t.w.fs, f, t.w.now); /* has ended */
	assert_int_equal(t.n, 2);
	expect_end(&t, 1, FS_EVENT_EVICT, FS_END_FLUSHED);

	/* the tunnel goes: one flow ends by its successor, before the sweep comes by, the other one by the sweep */
	begin(&t.w, t.w.site_a, t.w.a1, udp(3), NULL);
	begin(&t.w, t.w.site_a, t.w.a1, udp(4), NULL);
	fs_unbind(t.w.fs, t.w.a1);
	assert_int_equal(t.n, 2);
	begin(&t.w, t.w.site_a, t.w.a2, udp(3), NULL);
	assert_int_equal(t.n, 3);
	expect_end(&t, 2, FS_EVENT_EVICT, FS_END_REMOVED);
	assert_int_equal(t.info[2].half[FS_ORIG].via, t.w.a1);
	sleep_s(&t.w, 1);
	assert_int_equal(t.n, 4);
	expect_end(&t, 3, FS_EVENT_EVICT, FS_END_REMOVED);

	fs_get_stats(t.w.fs, &stats);
	assert_int_equal(stats.ended[FS_END_EXPIRED], 1);
	assert_int_equal(stats.ended[FS_END_FLUSHED], 1);
	assert_int_equal(stats.ended[FS_END_REMOVED], 2);
	assert_int_equal(stats.expired, 1);
	assert_int_equal(stats.evicted, 3);
	/* The end of quarantine is no event. Then nobody refers to the tunnel, and who asks for its name by habit gets
	 * none; who tells what was, gets it until the slot is another's. */
	sleep_s(&t.w, 1000);
	assert_int_equal(t.n, 5); /* udp(3) of a2 */
	assert_string_equal(fs_name(t.w.fs, t.w.a1), "");
	assert_string_equal(fs_last_name(t.w.fs, t.w.a1), "a1");
	fs_bind(t.w.fs, FS_TUNNEL, "successor", t.w.site_a, 1);
	assert_string_equal(fs_last_name(t.w.fs, t.w.a1), "");
	assert_string_equal(fs_last_name(t.w.fs, t.w.a2), "a2");
	assert_string_equal(fs_last_name(t.w.fs, FS_ID_NONE), "");
	assert_string_equal(fs_last_name(t.w.fs, 0x1ffff), "");
	world_close(&t.w);
}

/* Of each kind alone, and of none. */
static void test_kinds(void **state)
{
	static struct told t;

	(void)state;
	for (unsigned kinds = 0; kinds <= ALL; kinds++) {
		unsigned want = 0, mask = 0;

		open_told(&t, kinds);
		begin(&t.w, t.w.site_a, t.w.a1, udp(1), NULL);
		pass(&t, t.w.site_a, t.w.a2, udp(1));
		begin(&t.w, t.w.site_a, t.w.a1, udp(2), NULL);
		fs_end(t.w.fs, find(&t.w, t.w.site_a, udp(2)).flow, t.w.now);
		sleep_s(&t.w, 130);
		for (unsigned k = 0; k < FS_EVENT_COUNT; k++)
			want += kinds & FS_EVENT_BIT(k) ? 1 + (k == FS_EVENT_BEGIN) : 0;
		for (unsigned i = 0; i < t.n; i++)
			mask |= FS_EVENT_BIT(t.e[i].kind);
		assert_int_equal(t.n, want);
		assert_int_equal(mask, kinds);
		fs_on_event(t.w.fs, ALL, NULL, NULL);
		begin(&t.w, t.w.site_a, t.w.a1, udp(3), NULL);
		assert_int_equal(t.n, want);
		world_close(&t.w);
	}
}

static void test_names(void **state)
{
	(void)state;
	assert_string_equal(fs_end_name(FS_END_EXPIRED), "expired");
	assert_string_equal(fs_end_name(FS_END_REMOVED), "removed");
	assert_string_equal(fs_end_name(FS_END_TABLE_FULL), "table_full");
	assert_string_equal(fs_end_name(FS_END_COUNT), "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_begin),
		cmocka_unit_test(test_move),
		cmocka_unit_test(test_ends),
		cmocka_unit_test(test_kinds),
		cmocka_unit_test(test_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
