/* SPDX-License-Identifier: GPL-2.0-or-later */
/* flowstate_names_test.c - sites, tunnels and egresses: bound, unbound, and what becomes of their flows. */
#include "test/unit/flowstate_help.h"

#define WEB "203.0.113.80"

static unsigned early;
static uint32_t early_flow;

static void on_early_end(void *arg, uint32_t flow, bool at_once)
{
	(void)at_once;
	struct world *w = arg;
	/* The record is still as it was. */
	assert_true(is_live(head_of(w->fs, flow)));
	early++;
	early_flow = flow;
}

static void test_names(void **state)
{
	(void)state;
	struct world w;
	world_new(&w, NULL, 1000);
	early = 0;
	fs_on_end(w.fs, on_early_end, &w);
	assert_string_equal(fs_name(w.fs, w.a1), "a1");
	assert_string_equal(fs_name(w.fs, FS_ID_NONE), "");
	assert_string_equal(fs_name(w.fs, w.a1 + 0x10000), "");
	assert_int_equal(fs_lookup_name(w.fs, FS_TUNNEL, "a1"), w.a1);
	assert_int_equal(fs_lookup_name(w.fs, FS_SITE, "a1"), FS_ID_NONE);
	assert_int_equal(fs_lookup_name(w.fs, FS_SITE, "a"), w.site_a);
	assert_int_equal(fs_bind(w.fs, FS_TUNNEL, "a1", w.site_a, 11), w.a1);
	/* Another site, or another identity: another one. Bad ones are refused. */
	fs_id elsewhere = fs_bind(w.fs, FS_TUNNEL, "a1", w.site_b, 11);
	fs_id other = fs_bind(w.fs, FS_TUNNEL, "a1", w.site_a, 99);
	assert_int_not_equal(elsewhere, w.a1);
	assert_int_not_equal(other, w.a1);
	assert_int_not_equal(other, elsewhere);
	fs_unbind(w.fs, elsewhere);
	fs_unbind(w.fs, other);
	assert_int_equal(fs_lookup_name(w.fs, FS_TUNNEL, "a1"), w.a1);
	assert_int_equal(fs_bind(w.fs, FS_TUNNEL, "x", FS_ID_NONE, 0), FS_ID_NONE);
	assert_int_equal(fs_bind(w.fs, FS_TUNNEL, "x", w.a1, 0), FS_ID_NONE);
	assert_int_equal(fs_bind(w.fs, FS_SITE, "", FS_ID_NONE, 0), FS_ID_NONE);
	char text[FS_NAME_MAX + 2];
	memset(text, 'n', sizeof(text));
	text[FS_NAME_MAX + 1] = 0;
	assert_int_equal(fs_bind(w.fs, FS_SITE, text, FS_ID_NONE, 0), FS_ID_NONE);
	text[FS_NAME_MAX] = 0;
	assert_int_not_equal(fs_bind(w.fs, FS_SITE, text, FS_ID_NONE, 0), FS_ID_NONE);
	check(&w);

	/* A tunnel goes: its flows are dead at once, and in quarantine soon; those of the other one live. */
	for (uint16_t p = 1; p <= 200; p++)
		begin(&w, w.site_a, p % 2 ? w.a1 : w.a2, tup(IPPROTO_UDP, "10.0.1.5", p, WEB, 53), NULL);
	struct tuple t1 = tup(IPPROTO_UDP, "10.0.1.5", 1, WEB, 53),
		     t2 = tup(IPPROTO_UDP, "10.0.1.5", 2, WEB, 53);
	uint32_t f1 = find(&w, w.site_a, t1).flow;
	fs_unbind(w.fs, w.a1);
	assert_int_equal(find(&w, w.site_a, t1).flow, FS_NONE);
	assert_int_equal(find(&w, w.egress, tuple_turned(&t1)).flow, FS_NONE);
	assert_int_not_equal(find(&w, w.site_a, t2).flow, FS_NONE);
	assert_int_equal(fs_lookup_name(w.fs, FS_TUNNEL, "a1"), FS_ID_NONE);
	assert_int_equal(early, 0);
	/* The host goes on by the other tunnel, before the sweep came by: same tuple, new flow. */
	uint32_t f = begin(&w, w.site_a, w.a2, t1, NULL);
	assert_false(fs_translated(w.fs, f));
	assert_int_equal(early, 1);
	assert_int_equal(early_flow, f1);
	/* The name comes back, and is another one. */
	fs_id a1 = fs_bind(w.fs, FS_TUNNEL, "a1", w.site_a, 11);
	assert_int_not_equal(a1, w.a1);
	check(&w);
	unsigned ended = 0;
	for (int i = 0; i < 100; i++) {
		unsigned n = fs_tick(w.fs, w.now, 20);
		assert_true(n <= 20);
		ended += n;
	}
	assert_int_equal(ended, 99);
	assert_int_equal(early, 100);
	check(&w);

	/* Its slot is used again when the last quarantine is over, with another generation. */
	uint16_t slot = FS_SLOT(w.a1);
	for (int k = 0; k < 20; k++) {
		char name[8];
		snprintf(name, sizeof(name), "k%d", k);
		assert_int_not_equal(FS_SLOT(fs_bind(w.fs, FS_SITE, name, 0, 0)), slot);
	}
	sleep_s(&w, 242);
	fs_id again = fs_bind(w.fs, FS_SITE, "again", 0, 0);
	assert_int_equal(FS_SLOT(again), slot);
	assert_int_not_equal(again, w.a1);
	assert_string_equal(fs_name(w.fs, w.a1), "");

	/* A site goes with its tunnels; all of its flows end. */
	fs_unbind(w.fs, w.site_a);
	fs_unbind(w.fs, w.site_a);
	assert_int_equal(fs_lookup_name(w.fs, FS_TUNNEL, "a2"), FS_ID_NONE);
	assert_int_equal(find(&w, w.site_a, t2).flow, FS_NONE);
	check(&w);
	fs_tick(w.fs, w.now, 100000);
	struct fs_stats st;
	fs_get_stats(w.fs, &st);
	assert_int_equal(st.used, 0);
	world_close(&w);
}

/* Every slot taken, given back, and taken again. */
static void test_all_slots(void **state)
{
	(void)state;
	struct world w;
	char name[16];
	world_new(&w, NULL, 10);
	fs_id first = FS_ID_NONE, last = FS_ID_NONE;
	unsigned n = 0;
	for (;; n++) {
		snprintf(name, sizeof(name), "n%u", n);
		fs_id id = fs_bind(w.fs, FS_EGRESS, name, 0, 0);
		if (!id)
			break;
		last = id;
		if (!first)
			first = id;
	}
	assert_int_equal(n, FS_SLOTS - 1 - 6);
	fs_unbind(w.fs, first);
	fs_unbind(w.fs, last);
	fs_id a = fs_bind(w.fs, FS_EGRESS, "x", 0, 0), b = fs_bind(w.fs, FS_EGRESS, "y", 0, 0);
	assert_int_equal(FS_SLOT(a), FS_SLOT(first));
	assert_int_equal(FS_SLOT(b), FS_SLOT(last));
	assert_int_equal(fs_bind(w.fs, FS_EGRESS, "z", 0, 0), FS_ID_NONE);
	assert_int_equal(fs_lookup_name(w.fs, FS_EGRESS, "n100"), fs_bind(w.fs, FS_EGRESS, "n100", 0, 0));
	world_close(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_all_slots),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
