/* SPDX-License-Identifier: GPL-2.0-or-later */
/* flowstate_flow_test.c - flows begun, found, translated, moved, ended; limits; shards. */
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

/* Tags are short: an entry may lead to a record that has nothing to do with the key. Each part of a key counts. */
static void test_false_entries(void **state)
{
	(void)state;
	struct world w;
	world_new(&w, NULL, 100);
	struct tuple t = tup(IPPROTO_TCP, "10.0.1.5", 40000, WEB, 443);
	uint32_t f = begin(&w, w.site_a, w.a1, t, NULL);
	for (int part = 0; part < 7; part++) {
		struct tuple u = t;
		fs_id realm = w.site_a;
		switch (part) {
		case 0:
			realm = w.site_b;
			break;
		case 1:
			u.src.b[15] ^= 1;
			break;
		case 2:
			u.dst.b[12] ^= 1;
			break;
		case 3:
			u.sport ^= htons(1);
			break;
		case 4:
			u.dport ^= htons(1);
			break;
		case 5:
			u.proto = IPPROTO_UDP;
			break;
		default:
			u = tuple_turned(&t);
		}
		uint64_t hash = lookup_hash(w.fs, FS_SLOT(realm), &u, false);
		index_in(&w.fs->index, hash, REF(f, FS_ORIG));
		assert_int_equal(find(&w, realm, u).flow, FS_NONE);
		index_out(&w.fs->index, hash, REF(f, FS_ORIG));
	}
	assert_int_equal(find(&w, w.site_a, t).flow, f);
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

static enum drop begin_between(struct world *w, fs_id realm, fs_id via, struct tuple t, fs_id to,
	fs_id to_via, unsigned flags, uint32_t *flow)
{
	struct fs_packet pk = packet(realm, via, t, FLAG_SYN);
	struct fs_hit hit;
	enum drop d = fs_begin(w->fs, &pk, to, to_via, realm == w->egress, flags, w->now, &hit);
	*flow = hit.flow;
	return d;
}

static void test_quarantine(void **state)
{
	(void)state;
	struct world w;
	world_new(&w, NULL, 100);
	struct tuple t = tup(IPPROTO_UDP, "10.0.1.5", 5000, WEB, 53), r = tuple_turned(&t);
	uint32_t f = begin(&w, w.site_a, w.a1, t, NULL), g;
	fs_end(w.fs, f, w.now);
	assert_int_equal(find(&w, w.site_a, t).flow, FS_NONE);
	assert_int_equal(find(&w, w.egress, r).flow, FS_NONE);
	check(&w);

	/* Another site is told to use another port; a late answer is nobody's, not even by a route. */
	g = begin(&w, w.site_b, w.b1, t, NULL);
	assert_true(fs_translated(w.fs, g));
	fs_end(w.fs, g, w.now);
	assert_int_equal(
		begin_between(&w, w.egress, w.egress, r, w.site_b, w.b1, 0, &g), DROP_TUPLE_COLLISION);
	assert_int_equal(begin_between(&w, w.egress, w.egress, r, w.site_a, w.a1, 0, &g), DROP_NONE);
	assert_int_equal(fs_site_flows(w.fs, w.site_a), 1);
	fs_end(w.fs, g, w.now);
	check(&w);

	/* The site itself has its tuple again at once, and the record of before is gone for good. */
	f = begin(&w, w.site_a, w.a1, t, NULL);
	fs_end(w.fs, f, w.now);
	struct fs_stats before, after;
	fs_get_stats(w.fs, &before);
	f = begin(&w, w.site_a, w.a2, t, NULL);
	assert_false(fs_translated(w.fs, f));
	fs_get_stats(w.fs, &after);
	assert_int_equal(after.quarantined, before.quarantined - 1);
	fs_end(w.fs, f, w.now);

	/* Over for all after its time, which began when the flow ended. */
	sleep_s(&w, 238);
	assert_true(fs_translated(w.fs, g = begin(&w, w.site_b, w.b1, t, NULL)));
	fs_end(w.fs, g, w.now);
	sleep_s(&w, 3);
	assert_false(fs_translated(w.fs, g = begin(&w, w.site_b, w.b1, t, NULL)));
	fs_end(w.fs, g, w.now);
	sleep_s(&w, 242);
	fs_get_stats(w.fs, &after);
	assert_int_equal(after.quarantined + after.used, 0);

	/* No quarantine, if that is configured. */
	w.cfg.timeout_s[FS_QUARANTINE] = 0;
	fs_reconfigure(w.fs, &w.cfg);
	fs_end(w.fs, begin(&w, w.site_a, w.a1, t, NULL), w.now);
	assert_false(fs_translated(w.fs, begin(&w, w.site_b, w.b1, t, NULL)));
	world_close(&w);
}

static void test_limits(void **state)
{
	(void)state;
	struct world w;
	enum drop d;
	struct fs_stats st;
	world_new(&w, NULL, 100);
	w.cfg.max_per_site = 30;
	fs_reconfigure(w.fs, &w.cfg);
	fs_set_site_limit(w.fs, w.site_b, 20);
	for (uint16_t p = 1; p <= 40; p++) {
		begin(&w, w.site_a, w.a1, tup(IPPROTO_UDP, "10.0.1.5", p, WEB, 53), &d);
		assert_int_equal(d, p <= 30 ? DROP_NONE : DROP_SITE_LIMIT);
		begin(&w, w.site_b, w.b1, tup(IPPROTO_UDP, "10.0.1.5", p, WEB, 53), &d);
		assert_int_equal(d, p <= 20 ? DROP_NONE : DROP_SITE_LIMIT);
	}
	assert_int_equal(fs_site_flows(w.fs, w.site_a), 30);
	assert_int_equal(fs_site_flows(w.fs, w.site_b), 20);
	assert_int_equal(fs_attach_flows(w.fs, w.a1), 30);
	assert_int_equal(fs_attach_flows(w.fs, w.a2), 0);
	assert_int_equal(fs_attach_flows(w.fs, w.egress), 50);
	assert_int_equal(fs_site_flows(w.fs, w.a1), 0);
	assert_int_equal(fs_attach_flows(w.fs, w.site_a), 0);

	/* What begins at the egress is charged to the site, too. */
	uint32_t f;
	assert_int_equal(begin_between(&w, w.egress, w.egress, tup(IPPROTO_UDP, WEB, 1, "10.0.1.5", 9),
				 w.site_a, w.a1, 0, &f),
		DROP_SITE_LIMIT);
	fs_get_stats(w.fs, &st);
	assert_int_equal(st.refused, 31);

	/* The table: quarantined ones count, and the site's own quarantine is room for the same tuple again. */
	fs_set_site_limit(w.fs, w.site_a, 1000);
	for (uint16_t p = 100; p < 150; p++)
		begin(&w, w.site_a, w.a1, tup(IPPROTO_UDP, "10.0.1.5", p, WEB, 53), NULL);
	begin(&w, w.site_a, w.a1, tup(IPPROTO_UDP, "10.0.1.5", 200, WEB, 53), &d);
	assert_int_equal(d, DROP_FLOW_TABLE_FULL); /* all are young */
	fs_end(w.fs, find(&w, w.site_a, tup(IPPROTO_UDP, "10.0.1.5", 100, WEB, 53)).flow, w.now);
	begin(&w, w.site_a, w.a1, tup(IPPROTO_UDP, "10.0.1.5", 100, WEB, 53), &d);
	assert_int_equal(d, DROP_NONE);
	fs_get_stats(w.fs, &st);
	assert_int_equal(st.used, 100);
	assert_int_equal(st.max, 100);
	assert_int_equal(st.refused, 32);
	assert_int_equal(st.created, 101);
	assert_int_equal(st.translated, 20);
	world_close(&w);
}

static void test_pool(void **state)
{
	(void)state;
	struct world w;
	uint32_t f, g;
	world_new(&w, NULL, 1000);
	/* Readdressed: always from the pool, the own port, the same address for all flows of a host. */
	struct tuple t = tup(IPPROTO_TCP, "10.0.1.5", 40000, WEB, 443),
		     u = tup(IPPROTO_TCP, "10.0.1.5", 40001, WEB, 80);
	assert_int_equal(
		begin_between(&w, w.site_a, w.a1, t, w.egress, w.egress, FS_BEGIN_READDRESS, &f), DROP_NONE);
	assert_int_equal(
		begin_between(&w, w.site_a, w.a1, u, w.egress, w.egress, FS_BEGIN_READDRESS, &g), DROP_NONE);
	struct tuple rf = half(&w, f, FS_REPLY), rg = half(&w, g, FS_REPLY);
	assert_true(prefix_has(&w.cfg.pool4, &rf.dst));
	assert_true(addr_eq(&rf.dst, &rg.dst));
	assert_int_equal(rf.dport, t.sport);
	assert_int_equal(rg.dport, u.sport);
	world_close(&w);

	/* A small pool runs out for a protocol without ports; ports make it last longer. Two of four addresses are
	 * usable in a /30, both of a /31, the one of a /32. */
	static const struct {
		const char *pool;
		unsigned addresses;
	} pools[] = {{"100.64.9.0/30", 2}, {"100.64.9.0/31", 2}, {"100.64.9.9/32", 1}, {"100.64.9.0/29", 6}};
	for (size_t k = 0; k < sizeof(pools) / sizeof(pools[0]); k++) {
		world_new(&w, NULL, 1000);
		fs_close(w.fs);
		w.cfg.pool4 = net(pools[k].pool);
		world_open(&w);
		bind_all(&w);
		unsigned got = 0;
		for (unsigned i = 0; i < 10; i++) {
			char name[8];
			snprintf(name, sizeof(name), "s%u", i);
			fs_id site = fs_bind(w.fs, FS_SITE, name, 0, 0),
			      via = fs_bind(w.fs, FS_TUNNEL, name, site, 0);
			enum drop d = begin_between(
				&w, site, via, tup(47, "10.0.1.5", 0, WEB, 0), w.egress, w.egress, 0, &f);
			got += d == DROP_NONE;
			assert_int_equal(d, i <= pools[k].addresses ? DROP_NONE : DROP_TUPLE_COLLISION);
			assert_int_equal(
				begin_between(&w, site, via, t, w.egress, w.egress, FS_BEGIN_READDRESS, &f),
				DROP_NONE);
		}
		assert_int_equal(got, 1 + pools[k].addresses);
		world_close(&w);
	}

	/* No pool at all. */
	w.cfg.pool4 = (struct prefix){};
	world_open(&w);
	bind_all(&w);
	begin(&w, w.site_a, w.a1, tup(47, "10.0.1.5", 0, WEB, 0), NULL);
	enum drop d;
	begin(&w, w.site_b, w.b1, tup(47, "10.0.1.5", 0, WEB, 0), &d);
	assert_int_equal(d, DROP_TUPLE_COLLISION);
	world_close(&w);
}

static void test_same_realm(void **state)
{
	(void)state;
	struct world w;
	uint32_t f;
	world_new(&w, NULL, 100);
	/* From one tunnel of a site to another of it: both halves in one realm. */
	struct tuple t = tup(IPPROTO_UDP, "10.0.1.5", 5000, "10.0.2.5", 53);
	assert_int_equal(begin_between(&w, w.site_a, w.a1, t, w.site_a, w.a2, 0, &f), DROP_NONE);
	assert_int_equal(find(&w, w.site_a, t).dir, FS_ORIG);
	assert_int_equal(find(&w, w.site_a, tuple_turned(&t)).dir, FS_REPLY);
	/* To itself: a tuple that is its own answer must become two. */
	t = tup(IPPROTO_UDP, "10.0.1.5", 5000, "10.0.1.5", 5000);
	assert_int_equal(begin_between(&w, w.site_a, w.a1, t, w.site_a, w.a2, 0, &f), DROP_NONE);
	assert_true(fs_translated(w.fs, f));
	check(&w);
	/* Branch to branch: the other's answer comes in its realm, by its own tunnel. */
	t = tup(IPPROTO_UDP, "10.0.1.5", 5000, "10.0.1.5", 53);
	assert_int_equal(begin_between(&w, w.site_a, w.a1, t, w.site_b, w.b1, 0, &f), DROP_NONE);
	assert_false(fs_translated(w.fs, f));
	assert_int_equal(find(&w, w.site_b, tuple_turned(&t)).flow, f);
	assert_int_equal(find(&w, w.site_b, t).flow, FS_NONE);
	assert_int_equal(fs_site_flows(w.fs, w.site_b), 0);
	assert_int_equal(fs_attach_flows(w.fs, w.b1), 1);
	world_close(&w);
}

static void test_moves(void **state)
{
	(void)state;
	struct world w;
	struct fs_half h;
	world_new(&w, NULL, 100);
	struct tuple t = tup(IPPROTO_TCP, "10.0.1.5", 40000, WEB, 443), r = tuple_turned(&t);
	uint32_t f = begin(&w, w.site_a, w.a1, t, NULL);
	struct fs_hit orig = {.flow = f, .dir = FS_ORIG}, reply = {.flow = f, .dir = FS_REPLY};

	struct fs_packet pk = packet(w.site_a, w.a2, t, FLAG_ACK);
	assert_int_equal(fs_pass(w.fs, orig, &pk, w.now), DROP_NONE);
	fs_half(w.fs, f, FS_ORIG, &h);
	assert_int_equal(h.via, w.a2);
	assert_int_equal(fs_attach_flows(w.fs, w.a1), 0);
	assert_int_equal(fs_attach_flows(w.fs, w.a2), 1);
	check(&w);

	/* What must not touch it: another site's packet, another site's tunnel, an egress, stale ids. */
	const struct fs_packet wrong[] = {
		packet(w.site_b, w.b1, t, FLAG_ACK),
		packet(w.site_a, w.b1, t, FLAG_ACK),
		packet(w.site_b, w.a1, t, FLAG_ACK),
		packet(w.site_a, w.egress, t, FLAG_ACK),
		packet(w.egress, w.egress, t, FLAG_ACK),
		packet(w.site_a, w.a2 + 0x10000, t, FLAG_ACK),
		packet(w.site_a + 0x10000, w.a2, t, FLAG_ACK),
		packet(FS_ID_NONE, FS_ID_NONE, t, FLAG_ACK),
	};
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		assert_int_equal(fs_pass(w.fs, orig, &wrong[i], w.now), DROP_OTHER_SITE);
		struct fs_hit hit;
		struct fs_packet other = wrong[i];
		other.key.t.sport = htons(777);
		if (other.key.realm == w.site_b && other.via == w.b1)
			continue;
		if (other.key.realm == w.egress)
			continue;
		assert_int_equal(
			fs_begin(w.fs, &other, w.egress, w.egress, false, 0, w.now, &hit), DROP_OTHER_SITE);
		assert_int_equal(hit.flow, FS_NONE);
	}
	pk = packet(w.site_a, w.a1, r, FLAG_ACK);
	assert_int_equal(fs_pass(w.fs, reply, &pk, w.now), DROP_OTHER_SITE);
	fs_half(w.fs, f, FS_ORIG, &h);
	assert_int_equal(h.via, w.a2);

	/* Counters, time, MSS, state, as a listing shows them. */
	w.now += 5000;
	pk = packet(w.egress, w.egress, r, FLAG_SYN | FLAG_ACK);
	next_segment(&w, f, FS_REPLY, &pk);
	pk.packets = 3;
	pk.octets = 4000;
	pk.mss = 1460;
	assert_int_equal(fs_pass(w.fs, reply, &pk, w.now), DROP_NONE);
	assert_int_equal(fs_mss(w.fs, f, FS_ORIG), 1460);
	assert_int_equal(fs_mss(w.fs, f, FS_REPLY), 0);
	fs_clamp_mss(w.fs, f, FS_REPLY, 1400);
	fs_clamp_mss(w.fs, f, FS_REPLY, 1420);
	assert_int_equal(fs_mss(w.fs, f, FS_ORIG), 1400);
	fs_clamp_mss(w.fs, f, FS_ORIG, 1300);
	assert_int_equal(fs_mss(w.fs, f, FS_REPLY), 1300);
	uint32_t cursor = 0, flow;
	struct fs_info info;
	assert_int_equal(fs_next(w.fs, &cursor, 10, &flow, &info), 1);
	assert_int_equal(flow, f);
	assert_int_equal(info.state, FS_TCP_OPENING);
	assert_int_equal(info.packets[FS_ORIG], 1);
	assert_int_equal(info.packets[FS_REPLY], 3);
	assert_int_equal(info.octets[FS_ORIG], 100);
	assert_int_equal(info.octets[FS_REPLY], 4000);
	assert_int_equal(info.created_ms, w.now - 5000);
	assert_int_equal(info.seen_ms, w.now);
	assert_int_equal(info.expires_ms, w.now + 240000);
	assert_int_equal(info.half[FS_ORIG].via, w.a2);
	assert_tuple(info.half[FS_REPLY].t, r);
	assert_int_equal(fs_next(w.fs, &cursor, 10, &flow, &info), -1);

	/* Not of a flow that has ended, or never was. */
	fs_end(w.fs, f, w.now);
	assert_int_equal(fs_pass(w.fs, reply, &pk, w.now), DROP_NO_FLOW);
	assert_int_equal(fs_pass(w.fs, (struct fs_hit){.flow = 99}, &pk, w.now), DROP_NO_FLOW);
	assert_int_equal(fs_pass(w.fs, (struct fs_hit){.flow = FS_NONE}, &pk, w.now), DROP_NO_FLOW);
	world_close(&w);
}

static void test_listing_is_bounded(void **state)
{
	(void)state;
	struct world w;
	uint32_t cursor = 0, flow, seen = 0;
	struct fs_info info;
	world_new(&w, NULL, 1000);
	for (uint16_t p = 1; p <= 900; p++)
		begin(&w, w.site_a, w.a1, tup(IPPROTO_UDP, "10.0.1.5", p, WEB, 53), NULL);
	w.cfg.timeout_s[FS_QUARANTINE] = 0;
	fs_reconfigure(w.fs, &w.cfg);
	for (uint32_t i = 0; i < 890; i++)
		fs_end(w.fs, i, w.now);
	unsigned calls = 0;
	for (int r; (r = fs_next(w.fs, &cursor, 100, &flow, &info)) >= 0; calls++)
		seen += r > 0;
	assert_int_equal(seen, 10);
	assert_int_equal(calls, 8 + 10);
	world_close(&w);
}

static void test_shards(void **state)
{
	(void)state;
	enum { SHARDS = 4 };
	struct world w[SHARDS];
	unsigned each[SHARDS] = {};
	for (int s = 0; s < SHARDS; s++) {
		w[s] = (struct world){.cfg = config(NULL, 1000), .now = 1000000};
		w[s].cfg.nshards = SHARDS;
		w[s].cfg.shard = (uint16_t)s;
		memcpy(w[s].cfg.shard_key, "shardshardshard", 16);
		world_open(&w[s]);
		bind_all(&w[s]);
	}
	const uint8_t *key = w[0].cfg.shard_key;
	static const uint8_t protos[] = {IPPROTO_TCP, IPPROTO_UDP, IPPROTO_ICMP, 47};
	for (unsigned i = 0; i < 800; i++) {
		uint8_t proto = protos[i % 4];
		char src[16];
		snprintf(src, sizeof(src), "10.0.1.%u", i / 4 % 250 + 1);
		struct tuple t = tup(proto, src, proto == 47 ? 0 : (uint16_t)(5000 + i), WEB,
			proto < 2 || proto == 47 ? 0 : 53);
		struct tuple r = tuple_turned(&t);
		uint16_t s = fs_shard_of(key, SHARDS, &t);
		assert_true(s < SHARDS);
		assert_int_equal(fs_shard_of(key, SHARDS, &r), s);
		assert_int_equal(fs_shard_of(key, 1, &t), 0);
		each[s]++;
		assert_false(fs_translated(w[s].fs, begin(&w[s], w[s].site_a, w[s].a1, t, NULL)));
		uint32_t f = begin(&w[s], w[s].site_b, w[s].b1, t, NULL);
		assert_true(fs_translated(w[s].fs, f));
		r = half(&w[s], f, FS_REPLY);
		assert_int_equal(fs_shard_of(key, SHARDS, &r), s);
	}
	for (int s = 0; s < SHARDS; s++) {
		assert_true(each[s] > 120 && each[s] < 280);
		world_close(&w[s]);
	}
}

/* A batch of any length and mix gives what single look-ups give. */
static void test_batches(void **state)
{
	(void)state;
	enum { N = 300 };
	static struct fs_key keys[N];
	static struct fs_hit hits[N];
	struct world w;
	world_new(&w, NULL, 1000);
	for (unsigned i = 0; i < N; i++) {
		struct tuple t = i % 3 ? tup(IPPROTO_UDP, "10.0.1.5", (uint16_t)i, WEB, 53)
				       : tup(IPPROTO_UDP, "2001:db8::5", (uint16_t)i, "2001:db8::53", 53);
		if (i % 5)
			begin(&w, i % 2 ? w.site_a : w.site_b, i % 2 ? w.a1 : w.b1, t, NULL);
		keys[i] = (struct fs_key){
			.t = i % 7 ? t : tuple_turned(&t), .realm = i % 2 ? w.site_a : w.site_b};
		if (i % 7 == 0)
			keys[i].realm = w.egress;
	}
	for (unsigned n = 0; n <= N; n++) {
		memset(hits, 0xee, sizeof(hits));
		fs_find(w.fs, keys, n, hits);
		for (unsigned i = 0; i < n; i++) {
			struct fs_hit one = find(&w, keys[i].realm, keys[i].t);
			assert_int_equal(hits[i].flow, one.flow);
			assert_int_equal(hits[i].dir, one.dir);
			assert_int_equal(hits[i].flow != FS_NONE, i % 5 != 0);
		}
		if (n < N)
			assert_int_equal(hits[n].flow, 0xeeeeeeee);
	}
	world_close(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_halves),
		cmocka_unit_test(test_false_entries),
		cmocka_unit_test(test_collision),
		cmocka_unit_test(test_quarantine),
		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_pool),
		cmocka_unit_test(test_same_realm),
		cmocka_unit_test(test_moves),
		cmocka_unit_test(test_listing_is_bounded),
		cmocka_unit_test(test_shards),
		cmocka_unit_test(test_batches),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
