/* SPDX-License-Identifier: GPL-2.0-or-later */
/* flowstate_pressure_test.c - who makes room in a full table, and what stays closed of it. */
#include "flowstate/closed.h"
#include "test/unit/flowstate_help.h"

#define WEB "203.0.113.80"

static struct tuple udp(unsigned n)
{
	struct tuple t = tup(IPPROTO_UDP, "10.0.1.5", (uint16_t)(1024 + n % 60000), WEB, 53);
	t.src.b[15] = (uint8_t)(5 + n / 60000);
	return t;
}

static void answer(struct world *w, uint32_t flow)
{
	struct fs_packet ask = packet(w->site_a, w->a1, half(w, flow, FS_ORIG), 0),
			 pk = packet(w->egress, w->egress, half(w, flow, FS_REPLY), 0);
	struct fs_half h;
	fs_half(w->fs, flow, FS_ORIG, &h);
	ask.key.realm = h.realm;
	ask.via = h.via;
	assert_int_equal(fs_pass(w->fs, (struct fs_hit){flow, FS_ORIG}, &ask, w->now), DROP_NONE);
	assert_int_equal(fs_pass(w->fs, (struct fs_hit){flow, FS_REPLY}, &pk, w->now), DROP_NONE);
}

/* Site a takes all of the table. */
static void a_takes_all(struct world *w, bool answered)
{
	struct fs_stats st;
	fs_get_stats(w->fs, &st);
	for (unsigned i = st.used + st.quarantined; i < st.max; i++) {
		uint32_t f = begin(w, w->site_a, w->a1, udp(i), NULL);
		if (answered)
			answer(w, f);
	}
}

static bool lives(struct world *w, unsigned n)
{
	return find(w, w->site_a, udp(n)).flow != FS_NONE;
}

/* In this order: quarantine, the oldest without an answer, the longest idle. */
static void test_order(void **state)
{
	struct world w;
	enum drop d;
	(void)state;

	world_new(&w, NULL, 100);
	a_takes_all(&w, false);
	for (unsigned i = 0; i < 40; i++) {
		answer(&w, find(&w, w.site_a, udp(i)).flow);
		w.now += 100;
	}
	fs_end(w.fs, find(&w, w.site_a, udp(7)).flow, w.now);
	fs_end(w.fs, find(&w, w.site_a, udp(8)).flow, w.now);
	w.now += 5000;
	uint32_t before = fs_site_flows(w.fs, w.site_a);
	for (unsigned i = 0; i < 2; i++)
		begin(&w, w.site_b, w.b1, udp(1000 + i), NULL);
	assert_int_equal(fs_site_flows(w.fs, w.site_a), before); /* those in quarantine */
	for (unsigned i = 0; i < 48; i++) {
		begin(&w, w.site_b, w.b1, udp(2000 + i), NULL);
		assert_false(lives(&w, 40 + i)); /* without an answer, from the first on */
		assert_true(lives(&w, 40 + i + 1));
	}
	check(&w);
	/* b has its half now: it must make room itself, of what is not young */
	begin(&w, w.site_b, w.b1, udp(3000), &d);
	assert_int_equal(d, DROP_FLOW_TABLE_FULL);
	w.now += 2000;
	begin(&w, w.site_b, w.b1, udp(3000), NULL);
	assert_int_equal(find(&w, w.site_b, udp(1000)).flow, FS_NONE);
	assert_int_equal(fs_site_flows(w.fs, w.site_b), 50);
	assert_int_equal(fs_site_flows(w.fs, w.site_a), 50);
	world_close(&w);
}

/* Answered flows go for a site below its share, those first that are nearest to their end; down to the share and no
 * further. */
static void test_fair(void **state)
{
	struct world w;
	struct fs_stats st;
	enum drop d;
	unsigned alive = 0;
	(void)state;

	world_new(&w, NULL, 100);
	a_takes_all(&w, true);
	w.now += 30000;
	for (unsigned i = 0; i < 100; i += 2) /* half of them speak again */
		answer(&w, find(&w, w.site_a, udp(i)).flow);
	w.now += 30000;
	for (unsigned i = 0; i < 30; i++)
		answer(&w, begin(&w, w.site_b, w.b1, udp(1000 + i), NULL));
	for (unsigned i = 0; i < 100; i += 2)
		alive += lives(&w, i);
	assert_int_equal(alive, 50);
	for (unsigned i = 30; i < 50; i++)
		answer(&w, begin(&w, w.site_b, w.b1, udp(1000 + i), NULL));
	assert_int_equal(fs_site_flows(w.fs, w.site_a), 50);
	begin(&w, w.site_b, w.b1, udp(2000), &d);
	assert_int_equal(d, DROP_FLOW_TABLE_FULL);
	begin(&w, w.site_a, w.a1, udp(2000), &d);
	assert_int_equal(d, DROP_FLOW_TABLE_FULL);
	fs_get_stats(w.fs, &st);
	assert_int_equal(st.ended[FS_END_TABLE_FULL], 50);
	world_close(&w);
}

/* What made room stays closed to others for a quarantine, over a restart too, and is open after two. */
static void test_closed(void **state)
{
	struct world w;
	char path[64];
	struct fs_hit hit;
	(void)state;

	snprintf(path, sizeof(path), "/dev/shm/arrd-pressure-%d", getpid());
	world_new(&w, path, 100);
	a_takes_all(&w, true);
	w.now += 2000;
	for (unsigned i = 0; i < 10; i++)
		answer(&w, begin(&w, w.site_b, w.b1, udp(1000 + i), NULL));
	for (int restart = 0; restart < 2; restart++) {
		unsigned closed = 0;
		for (unsigned i = 0; i < 100; i++) {
			struct tuple t = tuple_turned(&(struct tuple){
				udp(i).src, udp(i).dst, udp(i).sport, udp(i).dport, IPPROTO_UDP, {0}});
			struct fs_packet pk = packet(w.egress, w.egress, t, 0);
			if (lives(&w, i))
				continue;
			/* neither a late answer to it may begin anything, nor the other site get it */
			assert_int_equal(fs_begin(w.fs, &pk, w.site_b, w.b1, true, 0, w.now, &hit),
				DROP_TUPLE_COLLISION);
			uint32_t f = begin(&w, w.site_b, w.b1, udp(i), NULL);
			assert_true(fs_translated(w.fs, f));
			fs_end(w.fs, f, w.now);
			closed++;
		}
		assert_true(closed >= 10);
		check(&w);
		fs_close(w.fs);
		world_open(&w);
		assert_int_equal(w.rep.kind, FS_OPEN_ADOPTED);
		bind_all(&w);
		fs_unbind_rest(w.fs);
	}
	sleep_s(&w, 230);
	assert_false(closed_none(&w.fs->arena));
	sleep_s(&w, 570);
	assert_true(closed_none(&w.fs->arena));
	for (unsigned i = 0; i < 50; i++)
		assert_false(fs_translated(w.fs, begin(&w, w.site_b, w.b1, udp(i), NULL)));
	world_close(&w);
	unlink(path);
}

/* A flood's flows may all be young: for another site they make room nevertheless. */
static void test_young(void **state)
{
	struct world w;
	(void)state;

	world_new(&w, NULL, 100);
	a_takes_all(&w, false);
	for (unsigned i = 0; i < 50; i++)
		begin(&w, w.site_b, w.b1, udp(1000 + i), NULL);
	world_close(&w);
}

/* The filter takes only so many: half of them for a site that is above its share, the rest for those below. */
static void test_filter_is_bounded(void **state)
{
	struct world w;
	enum drop d = DROP_NONE;
	unsigned n = 0;
	(void)state;

	world_new(&w, NULL, 2000);
	a_takes_all(&w, false);
	for (unsigned i = 2000; d == DROP_NONE; i++) {
		if (i % 500 == 0)
			w.now += 2000;
		begin(&w, w.site_a, w.a1, udp(i), &d);
		n += d == DROP_NONE;
	}
	assert_int_equal(d, DROP_FLOW_TABLE_FULL);
	assert_int_equal(n, CLOSED_MAX / 2);
	for (unsigned i = 0; i < 900; i++)
		begin(&w, w.site_b, w.b1, udp(i), NULL);
	begin(&w, w.site_a, w.a1, udp(1), &d);
	assert_int_equal(d, DROP_FLOW_TABLE_FULL);
	world_close(&w);
}

/* At a site's own limit what nobody answered makes room, if it is more than a second old. */
static void test_site_limit(void **state)
{
	struct world w;
	enum drop d;
	struct fs_stats st;
	(void)state;

	world_new(&w, NULL, 1000);
	fs_set_site_limit(w.fs, w.site_a, 10);
	for (unsigned i = 0; i < 10; i++)
		begin(&w, w.site_a, w.a1, udp(i), NULL);
	answer(&w, find(&w, w.site_a, udp(0)).flow);
	begin(&w, w.site_a, w.a1, udp(10), &d);
	assert_int_equal(d, DROP_SITE_LIMIT);
	w.now += 1100;
	for (unsigned i = 10; i < 19; i++)
		begin(&w, w.site_a, w.a1, udp(i), NULL);
	begin(&w, w.site_a, w.a1, udp(19), &d);
	assert_int_equal(d, DROP_SITE_LIMIT);
	assert_true(lives(&w, 0));
	assert_false(lives(&w, 1));
	fs_get_stats(w.fs, &st);
	assert_int_equal(st.ended[FS_END_SITE_LIMIT], 9);
	assert_int_equal(st.quarantined, 9);
	world_close(&w);
}

/* From three quarters on, unanswered flows of a site above its share wait shorter; those of others and answered ones do
 * not. */
static void test_adaptive(void **state)
{
	struct world w;
	(void)state;

	world_new(&w, NULL, 1000);
	begin(&w, w.site_b, w.b1, udp(5000), NULL);
	for (unsigned i = 0; i < 950; i++)
		begin(&w, w.site_a, w.a1, udp(i), NULL);
	answer(&w, find(&w, w.site_a, udp(949)).flow);
	/* 951 of 1000: a fifth of the 120 seconds */
	sleep_s(&w, 23);
	assert_int_equal(fs_site_flows(w.fs, w.site_a), 950);
	sleep_s(&w, 3);
	assert_int_equal(fs_site_flows(w.fs, w.site_a), 1);
	assert_true(lives(&w, 949));
	assert_int_not_equal(find(&w, w.site_b, udp(5000)).flow, FS_NONE);
	check(&w);
	sleep_s(&w, 90);
	assert_int_not_equal(find(&w, w.site_b, udp(5000)).flow, FS_NONE);
	sleep_s(&w, 10);
	assert_int_equal(find(&w, w.site_b, udp(5000)).flow, FS_NONE);
	world_close(&w);
}

static unsigned ends, at_once;

static void count_end(void *arg, uint32_t flow, bool now)
{
	(void)arg;
	(void)flow;
	ends++;
	at_once += now;
}

/* The owner is told, once and at once, of whoever makes room: before the record is another flow's. */
static void test_owner_is_told_at_once(void **state)
{
	struct world w;
	(void)state;

	world_new(&w, NULL, 100);
	ends = at_once = 0;
	fs_on_end(w.fs, count_end, NULL);
	a_takes_all(&w, false);
	fs_end(w.fs, find(&w, w.site_a, udp(0)).flow, w.now);
	assert_true(ends == 1 && at_once == 0);
	begin(&w, w.site_b, w.b1, udp(1000), NULL); /* the one in quarantine */
	assert_true(ends == 2 && at_once == 1);
	begin(&w, w.site_b, w.b1, udp(1001), NULL); /* a live one */
	assert_true(ends == 3 && at_once == 2);
	world_close(&w);
}

/* And, once, of whoever expires, in this run or the next. */
static void test_owner_is_told_of_each_end(void **state)
{
	struct world w;
	char path[64];
	(void)state;

	snprintf(path, sizeof(path), "/dev/shm/arrd-pressure-%d", getpid());
	world_new(&w, path, 1000);
	ends = 0;
	fs_on_end(w.fs, count_end, NULL);
	begin(&w, w.site_a, w.a1, udp(0), NULL);
	sleep_s(&w, 119);
	assert_int_equal(ends, 0);
	sleep_s(&w, 3);
	assert_int_equal(ends, 1);
	sleep_s(&w, 1000);
	assert_int_equal(ends, 1);
	begin(&w, w.site_a, w.a1, udp(1), NULL);
	fs_close(w.fs);
	w.now += 1000;
	world_open(&w);
	bind_all(&w);
	fs_unbind_rest(w.fs);
	fs_on_end(w.fs, count_end, NULL);
	sleep_s(&w, 122);
	assert_int_equal(ends, 2);
	/* Under pressure: test_adaptive's flood. */
	sleep_s(&w, 500);
	begin(&w, w.site_b, w.b1, udp(5000), NULL);
	ends = 0;
	for (unsigned i = 0; i < 950; i++)
		begin(&w, w.site_a, w.a1, udp(i), NULL);
	sleep_s(&w, 30);
	assert_int_equal(ends, 950);
	world_close(&w);
	unlink(path);
}

/* So many a second in the long run, a second's worth at once; what begins outside is nobody's own. */
static void test_rate(void **state)
{
	struct world w;
	struct fs_hit hit;
	enum drop d;
	unsigned n = 0, outside = 0;
	(void)state;

	world_new(&w, NULL, 10000);
	w.cfg.max_new_per_site = 15;
	fs_reconfigure(w.fs, &w.cfg);
	for (unsigned i = 0; i < 40; i++) {
		begin(&w, w.site_a, w.a1, udp(i), &d);
		n += d == DROP_NONE;
	}
	assert_int_equal(d, DROP_SITE_RATE);
	assert_int_equal(n, 15);
	for (unsigned k = 1; k <= 100; k++) { /* ten seconds */
		w.now += 100;
		for (unsigned i = 0; i < 5; i++) {
			struct fs_packet pk = packet(w.egress, w.egress,
				tup(IPPROTO_UDP, WEB, (uint16_t)(5 * k + i), "10.0.1.5", 9), 0);
			outside += fs_begin(w.fs, &pk, w.site_a, w.a1, true, 0, w.now, &hit) == DROP_NONE;
			begin(&w, w.site_a, w.a1, udp(100 + 5 * k + i), &d);
			n += d == DROP_NONE;
		}
	}
	assert_int_equal(n, 15 + 150);
	assert_in_range(outside, 150, 165);
	/* what is there already is no beginning */
	begin(&w, w.site_a, w.a1, udp(0), NULL);
	w.cfg.max_new_per_site = 0;
	fs_reconfigure(w.fs, &w.cfg);
	for (unsigned i = 0; i < 100; i++)
		begin(&w, w.site_a, w.a1, udp(5000 + i), NULL);
	world_close(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_order),
		cmocka_unit_test(test_fair),
		cmocka_unit_test(test_closed),
		cmocka_unit_test(test_young),
		cmocka_unit_test(test_filter_is_bounded),
		cmocka_unit_test(test_site_limit),
		cmocka_unit_test(test_adaptive),
		cmocka_unit_test(test_owner_is_told_at_once),
		cmocka_unit_test(test_owner_is_told_of_each_end),
		cmocka_unit_test(test_rate),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
