/* SPDX-License-Identifier: GPL-2.0-or-later */
/* flowstate_late_test.c - what comes late, of flows that did not go from a site to an egress: the tuple that they began with
 * is closed to others, too. */
#include "test/unit/flowstate_help.h"

#define PEER "203.0.113.80"

/* As the peer outside sends it to a host of a site, or the host of a site to one of another. */
static struct tuple inward(uint8_t proto)
{
	uint16_t port = proto == IPPROTO_UDP ? 5060 : 0;

	return tup(proto, PEER, port, "10.0.1.5", port);
}

static enum drop try(struct world *w, fs_id from, fs_id from_via, struct tuple t, fs_id to, fs_id to_via,
	struct fs_hit *hit)
{
	struct fs_packet pk = packet(from, from_via, t, FLAG_SYN);

	return fs_begin(w->fs, &pk, to, to_via, from == w->egress, 0, w->now, hit);
}

/* B asks the peer as A's host would answer it: it must get another tuple. */
static void assert_closed_to_b(struct world *w, bool closed)
{
	struct tuple in = inward(IPPROTO_UDP);
	struct fs_hit hit;

	assert_int_equal(try(w, w->site_b, w->b1, tuple_turned(&in), w->egress, w->egress, &hit), DROP_NONE);
	assert_int_equal(fs_translated(w->fs, hit.flow), closed);
	/* Nor is it taken for a question to B. */
	if (closed)
		assert_int_equal(
			try(w, w->egress, w->egress, in, w->site_b, w->b1, &hit), DROP_TUPLE_COLLISION);
	check(w);
}

/* The peer's own flow to A ended. */
static void test_from_outside(void **state)
{
	struct tuple in = inward(IPPROTO_UDP), out = tuple_turned(&in);
	struct world w;
	struct fs_hit hit, again;
	(void)state;

	world_new(&w, NULL, 1024);
	assert_int_equal(try(&w, w.egress, w.egress, in, w.site_a, w.a1, &hit), DROP_NONE);
	fs_end(w.fs, hit.flow, w.now);
	assert_closed_to_b(&w, true);
	/* The peer may begin again, and so may A. */
	assert_int_equal(try(&w, w.egress, w.egress, in, w.site_a, w.a1, &again), DROP_NONE);
	assert_false(fs_translated(w.fs, again.flow));
	fs_end(w.fs, again.flow, w.now);
	assert_int_equal(try(&w, w.site_a, w.a1, out, w.egress, w.egress, &again), DROP_NONE);
	assert_false(fs_translated(w.fs, again.flow));
	check(&w);
	world_close(&w);

	world_new(&w, NULL, 1024);
	assert_int_equal(try(&w, w.egress, w.egress, in, w.site_a, w.a1, &hit), DROP_NONE);
	fs_end(w.fs, hit.flow, w.now);
	sleep_s(&w, fs_state_default_s(FS_QUARANTINE) + 2);
	assert_closed_to_b(&w, false);
	world_close(&w);
}

/* A's flow ended, a late packet of the peer's began one from outside in its place, and that one ends, too. */
static void test_begun_anew(void **state)
{
	struct tuple in = inward(IPPROTO_UDP), out = tuple_turned(&in);
	struct world w;
	struct fs_hit hit;
	(void)state;

	world_new(&w, NULL, 1024);
	fs_end(w.fs, begin(&w, w.site_a, w.a1, out, NULL), w.now);
	assert_int_equal(try(&w, w.egress, w.egress, in, w.site_a, w.a1, &hit), DROP_NONE);
	assert_int_equal(hit.dir, FS_ORIG);
	fs_end(w.fs, hit.flow, w.now);
	assert_closed_to_b(&w, true);
	world_close(&w);
}

static void restart(struct world *w)
{
	fs_close(w->fs);
	world_open(w);
	bind_all(w);
	fs_unbind_rest(w->fs);
	assert_int_equal(w->rep.kind, FS_OPEN_ADOPTED);
	assert_int_equal(w->rep.torn, 0);
	check(w);
}

static void test_restart(void **state)
{
	struct tuple in = inward(IPPROTO_UDP);
	char path[64];
	struct world w;
	struct fs_hit hit;
	(void)state;

	snprintf(path, sizeof(path), "/dev/shm/arrd-late-%d", getpid());
	world_new(&w, path, 1024);
	assert_int_equal(try(&w, w.egress, w.egress, in, w.site_a, w.a1, &hit), DROP_NONE);
	fs_end(w.fs, hit.flow, w.now);
	restart(&w);
	assert_closed_to_b(&w, true);
	world_close(&w);
	unlink(path);
}

/* A half that gave way: its record stays, with the other half. */
static void test_gives_way(void **state)
{
	struct tuple in = inward(IPPROTO_UDP);
	char path[64];
	struct world w;
	struct fs_hit b, first, second;
	struct fs_stats st;
	(void)state;

	snprintf(path, sizeof(path), "/dev/shm/arrd-late-%d", getpid());
	world_new(&w, path, 1024);
	/* B sends to A as the peer does: the peer's flow gets another tuple in A. */
	assert_int_equal(try(&w, w.site_b, w.b1, in, w.site_a, w.a1, &b), DROP_NONE);
	assert_int_equal(try(&w, w.egress, w.egress, in, w.site_a, w.a1, &first), DROP_NONE);
	assert_true(fs_translated(w.fs, first.flow));
	struct tuple reply = half(&w, first.flow, FS_REPLY);
	fs_end(w.fs, first.flow, w.now);
	fs_end(w.fs, b.flow, w.now);
	assert_int_equal(try(&w, w.egress, w.egress, in, w.site_a, w.a1, &second), DROP_NONE);
	struct tuple reply2 = half(&w, second.flow, FS_REPLY);
	assert_memory_not_equal(&reply, &reply2, sizeof(reply));
	for (int after = 0; after < 2; after++) {
		fs_get_stats(w.fs, &st);
		assert_int_equal(st.quarantined, 2);
		/* What A still says to the first goes to nobody. */
		assert_int_equal(find(&w, w.site_a, reply).flow, FS_NONE);
		assert_int_equal(try(&w, w.site_a, w.a1, reply, w.site_b, w.b1, &b), DROP_TUPLE_COLLISION);
		assert_int_equal(find(&w, w.egress, in).flow, second.flow);
		restart(&w);
	}
	sleep_s(&w, fs_state_default_s(FS_QUARANTINE) + 2);
	world_close(&w);
	unlink(path);
}

/* A full table: what made room is closed by the filter, to all but to him whom it was open to. */
static void test_made_room(void **state)
{
	struct world w;
	struct fs_hit hit;
	fs_id site_c, c1;
	enum drop d;
	struct tuple ask = inward(IPPROTO_ESP), answer = tuple_turned(&ask), in = inward(IPPROTO_UDP);
	(void)state;

	world_new(&w, NULL, 64);
	site_c = fs_bind(w.fs, FS_SITE, "c", FS_ID_NONE, 0);
	c1 = fs_bind(w.fs, FS_TUNNEL, "c1", site_c, 1);
	/* A asks B, the peer outside asks A; then A fills the table, and C, who has nothing, needs room. */
	assert_int_equal(try(&w, w.site_a, w.a1, ask, w.site_b, w.b1, &hit), DROP_NONE);
	fs_end(w.fs, hit.flow, w.now);
	assert_int_equal(try(&w, w.egress, w.egress, in, w.site_a, w.a1, &hit), DROP_NONE);
	fs_end(w.fs, hit.flow, w.now);
	for (uint16_t p = 1; p <= 62; p++)
		begin(&w, w.site_a, w.a1, tup(IPPROTO_UDP, "10.0.1.9", p, PEER, 53), NULL);
	for (uint16_t p = 1; p <= 2; p++)
		begin(&w, site_c, c1, tup(IPPROTO_UDP, "10.0.1.9", (uint16_t)(100 + p), PEER, 53), NULL);
	struct fs_stats st;
	fs_get_stats(w.fs, &st);
	assert_int_equal(st.quarantined, 0);
	/* B's late answer does not become a question to C; nor does the peer's, or A's own question, to anybody else. */
	assert_int_equal(try(&w, w.site_b, w.b1, answer, site_c, c1, &hit), DROP_TUPLE_COLLISION);
	assert_int_equal(try(&w, w.egress, w.egress, in, w.site_b, w.b1, &hit), DROP_TUPLE_COLLISION);
	assert_int_equal(try(&w, w.site_a, w.a1, ask, site_c, c1, &hit), DROP_TUPLE_COLLISION);
	w.now += 5000;
	begin(&w, w.site_b, w.b1, tuple_turned(&in), &d);
	assert_int_equal(d, DROP_NONE);
	assert_int_equal(find(&w, w.egress, in).flow, FS_NONE);
	/* Whoever began may begin again. */
	assert_int_equal(try(&w, w.egress, w.egress, in, w.site_a, w.a1, &hit), DROP_NONE);
	assert_int_equal(find(&w, w.egress, in).flow, hit.flow);
	world_close(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_from_outside),
		cmocka_unit_test(test_begun_anew),
		cmocka_unit_test(test_restart),
		cmocka_unit_test(test_gives_way),
		cmocka_unit_test(test_made_room),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
