/* SPDX-License-Identifier: GPL-2.0-or-later */
/* flowstate_flow_test.c - flows begun, found, translated, moved, ended; names; limits. */
#include "test/unit/flowstate_help.h"

#define WEB "203.0.113.80"

static void test_halves(void **state)
{
	(void)state;
	struct world w;
	world_new(&w, NULL, 100);
	struct tuple t = tup(IPPROTO_TCP, "10.0.1.5", 40000, WEB, 443);
	uint32_t f = begin(&w, w.site_a, w.a1, t, NULL);

	struct fs_half h;
	fs_half(w.fs, f, FS_ORIG, &h);
	assert_tuple(h.t, t);
	assert_int_equal(h.realm, w.site_a);
	assert_int_equal(h.via, w.a1);
	fs_half(w.fs, f, FS_REPLY, &h);
	assert_tuple(h.t, tuple_turned(&t));
	assert_int_equal(h.realm, w.egress);
	assert_int_equal(h.via, w.egress);
	assert_false(fs_translated(w.fs, f));

	struct fs_hit hit = find(&w, w.site_a, t);
	assert_int_equal(hit.flow, f);
	assert_int_equal(hit.dir, FS_ORIG);
	hit = find(&w, w.egress, tuple_turned(&t));
	assert_int_equal(hit.flow, f);
	assert_int_equal(hit.dir, FS_REPLY);
	/* The same tuples in other realms are nobody's. */
	assert_int_equal(find(&w, w.site_b, t).flow, FS_NONE);
	assert_int_equal(find(&w, w.egress, t).flow, FS_NONE);
	assert_int_equal(find(&w, w.site_a, tuple_turned(&t)).flow, FS_NONE);
	assert_int_equal(find(&w, FS_ID_NONE, t).flow, FS_NONE);
	/* An id of another generation is not this one. */
	assert_int_equal(find(&w, w.site_a + 0x10000, t).flow, FS_NONE);
	world_close(&w);
}

static void test_collision(void **state)
{
	(void)state;
	struct world w;
	static const struct {
		uint8_t proto;
		const char *src;
		uint16_t sport;
		const char *dst;
		uint16_t dport;
		bool other_port, other_address;
	} rows[] = {
		{IPPROTO_TCP, "10.0.1.5", 40000, WEB, 443, true, false},
		{IPPROTO_UDP, "10.0.1.5", 53, WEB, 53, true, false},
		{IPPROTO_ICMP, "10.0.1.5", 77, WEB, 0, true, false},
		{IPPROTO_ICMP, "10.0.1.5", 0, WEB, 77, false, true},
		{47, "10.0.1.5", 0, WEB, 0, false, true},
		{IPPROTO_TCP, "2001:db8::5", 40000, "2001:db8:1::80", 443, true, false},
		{IPPROTO_ICMPV6, "2001:db8::5", 77, "2001:db8:1::80", 0, true, false},
		{50, "2001:db8::5", 0, "2001:db8:1::80", 0, false, true},
	};
	world_new(&w, NULL, 100);
	for (size_t r = 0; r < sizeof(rows) / sizeof(rows[0]); r++) {
		struct tuple t = tup(rows[r].proto, rows[r].src, rows[r].sport, rows[r].dst, rows[r].dport);
		uint32_t fa = begin(&w, w.site_a, w.a1, t, NULL);
		uint32_t fb = begin(&w, w.site_b, w.b1, t, NULL);
		assert_int_not_equal(fa, fb);
		assert_false(fs_translated(w.fs, fa));
		assert_true(fs_translated(w.fs, fb));
		struct tuple ra = half(&w, fa, FS_REPLY), rb = half(&w, fb, FS_REPLY);
		assert_tuple(ra, tuple_turned(&t));
		assert_true(addr_eq(&rb.src, &t.dst));
		assert_int_equal(rb.sport, t.dport);
		assert_int_equal(rb.dport != t.sport, rows[r].other_port);
		assert_int_equal(!addr_eq(&rb.dst, &t.src), rows[r].other_address);
		if (rows[r].other_address)
			assert_true(prefix_has(addr_is4(&t.src) ? &w.cfg.pool4 : &w.cfg.pool6, &rb.dst));
		else if (rows[r].proto == IPPROTO_TCP || rows[r].proto == IPPROTO_UDP)
			assert_true(ntohs(rb.dport) >= 1024);
		assert_int_equal(find(&w, w.egress, ra).flow, fa);
		assert_int_equal(find(&w, w.egress, rb).flow, fb);
		assert_int_equal(find(&w, w.site_a, t).flow, fa);
		assert_int_equal(find(&w, w.site_b, t).flow, fb);
		/* Begun again, it is the same one. */
		assert_int_equal(begin(&w, w.site_b, w.b1, t, NULL), fb);
	}
	world_close(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_halves),
		cmocka_unit_test(test_collision),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
