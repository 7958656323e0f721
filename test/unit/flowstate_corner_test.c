/* SPDX-License-Identifier: GPL-2.0-or-later */
/* flowstate_corner_test.c - what happens once in a very long time, or only if somebody wants it to. */
#include "test/unit/flowstate_help.h"

#include <errno.h>

#define WEB "203.0.113.80"

static struct fs_hit begin_from(
	struct world *w, fs_id realm, fs_id via, struct tuple t, fs_id to, fs_id to_via)
{
	struct fs_packet pk = packet(realm, via, t, FLAG_SYN);
	struct fs_hit hit;
	assert_int_equal(fs_begin(w->fs, &pk, to, to_via, realm == w->egress, 0, w->now, &hit), DROP_NONE);
	return hit;
}

static void no_quarantine(struct world *w)
{
	w->cfg.timeout_s[FS_QUARANTINE] = 0;
	fs_reconfigure(w->fs, &w->cfg);
}

/* A hit outlives its flow, and the record is another site's when the packet is accounted. */
static void test_stale_hit(void **state)
{
	(void)state;
	struct world w;
	world_new(&w, NULL, 100);
	no_quarantine(&w);
	struct tuple ta = tup(IPPROTO_UDP, "10.0.1.5", 5000, WEB, 53), ra = tuple_turned(&ta);
	struct tuple tb = tup(IPPROTO_UDP, "10.0.1.6", 5000, WEB, 53);
	uint32_t a = begin(&w, w.site_a, w.a1, ta, NULL);
	struct fs_hit hit = find(&w, w.egress, ra);
	assert_int_equal(hit.flow, a);
	fs_end(w.fs, a, w.now);
	assert_int_equal(begin(&w, w.site_b, w.b1, tb, NULL), a); /* the very record */
	struct fs_packet pk = packet(w.egress, w.egress, ra, 0);
	assert_int_equal(fs_pass(w.fs, hit, &pk, w.now), DROP_NO_FLOW);
	/* Nor is it another flow of the same site. */
	fs_end(w.fs, a, w.now);
	ta.sport = htons(5001);
	assert_int_equal(begin(&w, w.site_a, w.a1, ta, NULL), a);
	assert_int_equal(fs_pass(w.fs, hit, &pk, w.now), DROP_NO_FLOW);
	world_close(&w);
}

/* A conversation of a host with itself, in one realm: whichever port is drawn, its halves must differ. */
static void test_own_answer(void **state)
{
	(void)state;
	struct world w;
	world_new(&w, NULL, 100);
	no_quarantine(&w);
	static const char *hosts[] = {"10.0.1.5", "100.64.0.1"};
	for (unsigned h = 0; h < 2; h++) {
		uint64_t drawn = w.fs->random_count;
		struct tuple t = tup(IPPROTO_UDP, hosts[h], 5000, hosts[h], 5000);
		struct fs_hit hit = begin_from(&w, w.site_a, w.a1, t, w.site_a, w.a2);
		uint16_t port = half(&w, hit.flow, FS_REPLY).dport;
		fs_end(w.fs, hit.flow, w.now);
		/* The same draw again, for a host that talks from that port to that port. */
		w.fs->random_count = drawn;
		t.sport = t.dport = port;
		hit = begin_from(&w, w.site_a, w.a1, t, w.site_a, w.a2);
		struct tuple a = half(&w, hit.flow, FS_ORIG), b = half(&w, hit.flow, FS_REPLY);
		assert_memory_not_equal(&a, &b, sizeof(a));
		check(&w);
		fs_end(w.fs, hit.flow, w.now);
	}
	world_close(&w);
}

/* Echo with the id 0 looks the same as request and as reply: nobody is translated to it. */
static void test_echo_id(void **state)
{
	(void)state;
	struct world w;
	world_new(&w, NULL, 100);
	struct tuple t = tup(IPPROTO_ICMP, "10.0.1.5", 77, WEB, 0);
	begin(&w, w.site_a, w.a1, t, NULL);
	/* The draw that gives the lowest id. */
	for (;; w.fs->random_count++) {
		uint64_t word[2] = {w.fs->random_count, SIP_LAST(0, 8)};
		if (sip_words(&w.fs->random_key, word, 2) >> 48 == 0)
			break;
	}
	struct tuple r = half(&w, begin(&w, w.site_b, w.b1, t, NULL), FS_REPLY);
	assert_int_equal(ntohs(r.dport), 1);
	world_close(&w);
}

/* The counters of buckets that were passed stay at their top once they are there: slower, never wrong. */
static void test_passed_is_full(void **state)
{
	(void)state;
	struct world w;
	world_new(&w, NULL, 200);
	no_quarantine(&w);
	for (uint32_t b = 0; b < w.fs->index.n; b++)
		memset(w.fs->index.bucket[b].passed, 0xff, sizeof(w.fs->index.bucket[b].passed));
	for (int turn = 0; turn < 3; turn++) {
		for (uint16_t p = 1; p <= 200; p++)
			begin(&w, w.site_a, w.a1, tup(IPPROTO_UDP, "10.0.1.5", p, WEB, 53), NULL);
		for (uint16_t p = 1; p <= 400; p++) {
			struct tuple t = tup(IPPROTO_UDP, "10.0.1.5", p, WEB, 53);
			struct fs_hit hit = find(&w, w.site_a, t);
			assert_int_equal(hit.flow != FS_NONE, p <= 200);
			if (p <= 200)
				fs_end(w.fs, hit.flow, w.now);
		}
	}
	for (uint32_t b = 0; b < w.fs->index.n; b++) {
		for (int e = 0; e < BUCKET_ENTRIES; e++)
			assert_int_equal(w.fs->index.bucket[b].tag[e], 0);
	}
	fs_close(w.fs);
}

/* Timeouts of 0: the flow lives until the next tick that sees it, and nothing goes round in circles. */
static void test_no_time(void **state)
{
	(void)state;
	struct world w;
	struct fs_stats st;
	world_new(&w, NULL, 100);
	memset(w.cfg.timeout_s, 0, sizeof(w.cfg.timeout_s));
	fs_reconfigure(w.fs, &w.cfg);
	for (uint16_t p = 1; p <= 50; p++) {
		struct tuple t = tup(IPPROTO_TCP, "10.0.1.5", p, WEB, 80);
		struct fs_packet pk = packet(w.site_a, w.a1, t, FLAG_RST);
		struct fs_hit hit = {.flow = begin(&w, w.site_a, w.a1, t, NULL), .dir = FS_ORIG};
		next_segment(&w, hit.flow, FS_ORIG, &pk);
		assert_int_equal(fs_pass(w.fs, hit, &pk, w.now), DROP_NONE);
	}
	check(&w);
	assert_int_equal(sleep_s(&w, 2), 50);
	fs_get_stats(w.fs, &st);
	assert_int_equal(st.used + st.quarantined, 0);
	world_close(&w);
}

/* The last second that a clock of 2^32 tenths of a second can tell, and what comes behind it. */
static void test_end_of_time(void **state)
{
	(void)state;
	struct world w = {.cfg = config(NULL, 100), .now = (uint64_t)UINT32_MAX * UNIT_MS - 130 * 1000};
	world_open(&w);
	bind_all(&w);
	fs_unbind_rest(w.fs);
	begin(&w, w.site_a, w.a1, tup(IPPROTO_UDP, "10.0.1.5", 1, WEB, 53), NULL);
	assert_int_equal(sleep_s(&w, 125), 1);
	uint32_t f = begin(&w, w.site_a, w.a1, tup(IPPROTO_UDP, "10.0.1.5", 2, WEB, 53), NULL);
	assert_int_equal(sleep_s(&w, 20), 0); /* time stands still: no flow ends that should not */
	assert_int_equal(find(&w, w.site_a, tup(IPPROTO_UDP, "10.0.1.5", 2, WEB, 53)).flow, f);
	world_close(&w);
}

static char path[64];

/* Killed after the arena was made and before what earlier flows left in the kernel was forgotten: the next start must
 * not take it for one that was taken over in order. */
static void test_unfinished_start(void **state)
{
	(void)state;
	struct world w = {.now = 1000000};
	snprintf(path, sizeof(path), "/dev/shm/arrd-flowstate-corner.%d", (int)getpid());
	unlink(path);
	w.cfg = config(path, 100);
	static const struct {
		bool finish;
		enum fs_open_kind kind;
	} rows[] = {{false, FS_OPEN_NEW}, {false, FS_OPEN_REFUSED}, {true, FS_OPEN_REFUSED},
		{false, FS_OPEN_ADOPTED}, {true, FS_OPEN_ADOPTED}};
	for (size_t r = 0; r < sizeof(rows) / sizeof(rows[0]); r++) {
		world_open(&w);
		assert_int_equal(w.rep.kind, rows[r].kind);
		bind_all(&w);
		if (rows[r].finish)
			fs_unbind_rest(w.fs);
		fs_close(w.fs);
	}
	unlink(path);
}

static void count_end(void *arg, uint32_t flow, bool at_once)
{
	(void)at_once;
	(void)flow;
	++*(unsigned *)arg;
}

/* Killed between the end of a flow and what its owner had to do about it: the owner is told again, in the next run,
 * before another site may have the tuple. */
static void test_end_is_told_again(void **state)
{
	(void)state;
	struct world w;
	unsigned told = 0;
	struct tuple t = tup(IPPROTO_UDP, "10.0.1.5", 1, WEB, 53);
	snprintf(path, sizeof(path), "/dev/shm/arrd-flowstate-corner.%d", (int)getpid());
	world_new(&w, path, 100);
	fs_end(w.fs, begin(&w, w.site_a, w.a1, t, NULL), w.now);
	fs_close(w.fs);
	w.now += 1000;
	world_open(&w);
	assert_int_equal(w.rep.kind, FS_OPEN_ADOPTED);
	fs_on_end(w.fs, count_end, &told);
	bind_all(&w);
	fs_unbind_rest(w.fs);
	w.now += 1000;
	while (!told) {
		struct fs_key k = {.t = t, .realm = w.site_b};
		struct fs_packet pk = {.key = k, .via = w.b1, .octets = 1, .packets = 1};
		struct fs_hit hit;
		assert_int_equal(fs_begin(w.fs, &pk, w.egress, w.egress, false, 0, w.now, &hit), DROP_NONE);
		assert_true(fs_translated(w.fs, hit.flow));
		assert_int_equal(fs_pass(w.fs, hit, &pk, w.now), DROP_NONE); /* it does not end */
		sleep_s(&w, 1);
		assert_true(w.now < 1300000);
	}
	assert_int_equal(told, 1);
	sleep_s(&w, 1000);
	assert_int_equal(told, 2); /* the other one */
	world_close(&w);
	unlink(path);
}

/* A flow on trial: whatever the site sends, a stranger's acknowledgment is none of the site's. */
static void test_trial_is_narrow(void **state)
{
	(void)state;
	static const struct {
		const char *what;
		uint32_t seq[4]; /* what the site sends; 0: no more */
		uint32_t ack;    /* of the other side */
		bool passes;
	} rows[] = {
		{"far ahead", {5000000, 5000000 + 0x7fffffffu}, 5000000 + 0x40000000, false},
		{"all round", {5000000, 0x40000000, 0x80000000, 0xc0000000}, 0x60000000, false},
		{"all round, and its last", {5000000, 0x40000000, 0x80000000, 0xc0000000}, 0xc0000064, true},
		{"a lot", {50000000, 52000000, 54000000, 56000000}, 55000000, true},
		{"what was lost before", {50000000, 40000000}, 40000100, true},
		{"what was never sent", {50000000, 40000000}, 39999999, false},
		{"what was given up", {50000000, 40000000}, 49999999, false},
	};
	struct world w;
	world_new(&w, NULL, 100);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct tuple t = tup(IPPROTO_TCP, "10.0.1.5", (uint16_t)(1000 + i), WEB, 80);
		struct fs_packet pk = packet(w.site_a, w.a1, t, FLAG_ACK);
		struct fs_hit hit = {.flow = FS_NONE};
		pk.tcp_len = 100;
		for (unsigned k = 0; k < 4 && rows[i].seq[k]; k++) {
			pk.seq = rows[i].seq[k];
			if (!k)
				assert_int_equal(
					fs_begin(w.fs, &pk, w.egress, w.egress, false, 0, w.now, &hit),
					DROP_NONE);
			assert_int_equal(fs_pass(w.fs, hit, &pk, w.now), DROP_NONE);
		}
		hit.dir = FS_REPLY;
		pk = packet(w.egress, w.egress, tuple_turned(&t), FLAG_ACK);
		pk.ack = rows[i].ack;
		if (fs_pass(w.fs, hit, &pk, w.now) != (rows[i].passes ? DROP_NONE : DROP_TCP_UNPROVEN))
			fail_msg("%s", rows[i].what);
	}
	world_close(&w);
}

/* More is due in one second than a tick takes: each call does its share, and says that there is more. */
static void test_behind(void **state)
{
	enum { FLOWS = 2000 };
	struct world w;
	struct fs_stats st;
	unsigned calls;
	(void)state;
	world_new(&w, NULL, 2 * FLOWS);
	for (unsigned p = 0; p < FLOWS; p++)
		begin(&w, p % 2 ? w.site_a : w.site_b, p % 2 ? w.a1 : w.b1,
			tup(IPPROTO_UDP, "10.0.1.5", (uint16_t)p, WEB, 53), NULL);
	fs_tick(w.fs, w.now, FS_TICK_BUDGET);
	assert_false(fs_behind(w.fs));
	/* Twice the longest time, all at once: ended in one second, free in another. */
	for (int twice = 0; twice < 2; twice++) {
		w.now += 250000;
		for (calls = 1; fs_tick(w.fs, w.now, FS_TICK_BUDGET), fs_behind(w.fs); calls++)
			check(&w);
		assert_in_range(calls, FLOWS / FS_TICK_BUDGET, 3 * FLOWS / FS_TICK_BUDGET);
		fs_get_stats(w.fs, &st);
		assert_int_equal(st.used, 0);
		assert_int_equal(st.quarantined, twice ? 0 : FLOWS);
	}

	/* Names that go, and timeouts that become shorter, are worked off likewise; longer ones cost nothing. */
	for (unsigned p = 0; p < FLOWS; p++)
		begin(&w, p % 2 ? w.site_a : w.site_b, p % 2 ? w.a1 : w.b1,
			tup(IPPROTO_UDP, "10.0.1.5", (uint16_t)p, WEB, 53), NULL);
	fs_tick(w.fs, w.now, FS_TICK_BUDGET);
	w.cfg.timeout_s[FS_UDP_ONE_WAY] = 200;
	fs_reconfigure(w.fs, &w.cfg);
	assert_false(fs_behind(w.fs));
	w.cfg.timeout_s[FS_UDP_ONE_WAY] = 100;
	fs_reconfigure(w.fs, &w.cfg);
	fs_unbind(w.fs, w.b1);
	assert_true(fs_behind(w.fs));
	unsigned ended = 0;
	for (calls = 0; fs_behind(w.fs); calls++) {
		unsigned n = fs_tick(w.fs, w.now, FS_TICK_BUDGET);
		assert_true(n <= FS_TICK_BUDGET / 8); /* what its owner does for an early end costs, too */
		ended += n;
		check(&w);
	}
	assert_int_equal(ended, FLOWS / 2);
	assert_true(calls > FLOWS / FS_TICK_BUDGET);
	w.now += 101000;
	assert_true(fs_tick(w.fs, w.now, UINT32_MAX) == FLOWS / 2);
	world_close(&w);
}

/* What a site has in quarantine of a NAT before is not given to its flows again, however few ports are left. */
static void test_other_pool(void **state)
{
	struct world w;
	(void)state;

	world_new(&w, NULL, 100000);
	for (int k = 0; k < 2; k++) {
		w.cfg.nat = FS_NAT_POOL;
		w.cfg.nat_pool[0] = (struct addr_range){
			ip(k ? "198.51.100.9" : "198.51.100.8"), ip(k ? "198.51.100.9" : "198.51.100.8")};
		fs_reconfigure(w.fs, &w.cfg);
		for (uint16_t i = 0; i < 40000; i++) {
			uint32_t f = begin(&w, w.site_a, w.a1,
				tup(IPPROTO_UDP, "10.0.0.5", (uint16_t)(1024 + i), "192.0.2.9", 53), NULL);
			struct tuple r = half(&w, f, FS_REPLY);
			assert_true(addr_eq(&r.dst, &w.cfg.nat_pool[0].first));
			fs_end(w.fs, f, w.now);
		}
	}
	world_close(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_stale_hit),
		cmocka_unit_test(test_own_answer),
		cmocka_unit_test(test_echo_id),
		cmocka_unit_test(test_passed_is_full),
		cmocka_unit_test(test_no_time),
		cmocka_unit_test(test_end_of_time),
		cmocka_unit_test(test_unfinished_start),
		cmocka_unit_test(test_end_is_told_again),
		cmocka_unit_test(test_trial_is_narrow),
		cmocka_unit_test(test_behind),
		cmocka_unit_test(test_other_pool),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
