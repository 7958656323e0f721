/* SPDX-License-Identifier: GPL-2.0-or-later */
/* gateway_tunnel_test.c - what a reload keeps of tunnels and their flows, and what a tunnel knows of its path. */
#include "gateway/tunnel.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define MAX 4

struct side {
	struct config conf;
	struct conf_tunnel ct[MAX];
	struct tunnels *t;
};

static struct addr adr(const char *s)
{
	struct addr a;

	assert_int_equal(addr_parse(s, &a), 0);
	return a;
}

/* rows "name site remote", in order of name */
static struct side *side_new(const char *const (*rows)[3])
{
	struct side *s = calloc(1, sizeof(*s));

	assert_non_null(s);
	s->conf.tunnels = s->ct;
	for (; (*rows)[0]; rows++)
		s->ct[s->conf.ntunnels++] = (struct conf_tunnel){.name = (char *)(uintptr_t)(*rows)[0],
			.site = (char *)(uintptr_t)(*rows)[1],
			.local = adr(strchr((*rows)[2], ':') ? "2001:db8::1" : "198.51.100.1"),
			.remote = adr((*rows)[2]),
			.mtu = 1476,
			.priority = 100};
	return s;
}

static struct flowstate *table(void)
{
	struct fs_config c = {.max = 1024, .nshards = 1};
	struct fs_open_report rep;
	struct flowstate *fs;

	for (int i = 0; i < FS_STATE_COUNT; i++)
		c.timeout_s[i] = 100;
	assert_int_equal(fs_open(&fs, &c, 1000, &rep), 0);
	return fs;
}

static uint32_t begin(struct flowstate *fs, const struct tunnel *from, fs_id egress, uint16_t port)
{
	struct fs_packet pk = {.key = {.t = {.src = adr("10.0.1.5"),
					       .dst = adr("192.0.2.1"),
					       .sport = port,
					       .dport = 80,
					       .proto = IPPROTO_UDP},
				       .realm = from->site},
		.via = from->id,
		.packets = 1,
		.octets = 100};
	struct fs_hit hit;

	assert_int_equal(fs_begin(fs, &pk, egress, egress, false, 0, 1000, &hit), DROP_NONE);
	assert_int_equal(fs_pass(fs, hit, &pk, 1000), DROP_NONE);
	return hit.flow;
}

static bool lives(struct flowstate *fs, fs_id realm, uint16_t port)
{
	struct fs_key k = {.t = {.src = adr("10.0.1.5"),
				   .dst = adr("192.0.2.1"),
				   .sport = port,
				   .dport = 80,
				   .proto = IPPROTO_UDP},
		.realm = realm};
	struct fs_hit hit;

	fs_find(fs, &k, 1, &hit);
	return hit.flow != FS_NONE;
}

/* What becomes of tunnel "a", whose flow was begun before the reload, for each way that it can change. */
static void reload_rows(void **state)
{
	static const struct {
		const char *what;
		const char *after[3][3];
		bool same_struct, flow_lives;
	} row[] = {
		{"nothing", {{"a", "sa", "203.0.113.1"}, {"b", "sb", "203.0.113.2"}, {NULL}}, true, true},
		{"another tunnel came", {{"a", "sa", "203.0.113.1"}, {"b", "sb", "203.0.113.3"}, {NULL}},
			true, true},
		{"other site", {{"a", "sx", "203.0.113.1"}, {"b", "sb", "203.0.113.2"}, {NULL}}, false,
			false},
		{"other remote", {{"a", "sa", "203.0.113.9"}, {"b", "sb", "203.0.113.2"}, {NULL}}, false,
			false},
		{"swapped remotes", {{"a", "sa", "203.0.113.2"}, {"b", "sb", "203.0.113.1"}, {NULL}}, false,
			false},
		{"swapped sites", {{"a", "sb", "203.0.113.1"}, {"b", "sa", "203.0.113.2"}, {NULL}}, false,
			false},
		{"swapped names", {{"a", "sb", "203.0.113.2"}, {"b", "sa", "203.0.113.1"}, {NULL}}, false,
			false},
		{"removed", {{"b", "sb", "203.0.113.2"}, {NULL}, {NULL}}, false, false},
	};
	static const char *const before[3][3] = {
		{"a", "sa", "203.0.113.1"}, {"b", "sb", "203.0.113.2"}, {NULL}};

	(void)state;
	for (size_t i = 0; i < sizeof(row) / sizeof(row[0]); i++) {
		struct flowstate *fs = table();
		fs_id egress = fs_bind(fs, FS_EGRESS, "default", FS_ID_NONE, 0);
		struct side *o = side_new(before), *n = side_new(row[i].after);
		struct tunnel *a, *a2;
		fs_id sa;

		print_message("  %s\n", row[i].what);
		assert_int_equal(tunnels_new(&o->t, &o->conf, NULL), 0);
		assert_int_equal(tunnels_commit(o->t, NULL, fs), 0);
		a = tunnels_by_name(o->t, "a");
		sa = a->site;
		a->count.rx_packets = 7;
		begin(fs, a, egress, 1234);
		assert_int_equal(fs_attach_flows(fs, a->id), 1);

		assert_int_equal(tunnels_new(&n->t, &n->conf, o->t), 0);
		assert_ptr_equal(a->conf, &o->ct[0]); /* nothing changed yet */
		assert_int_equal(tunnels_commit(n->t, o->t, fs), 0);
		a2 = tunnels_by_name(n->t, "a");
		assert_int_equal(a2 == a, row[i].same_struct);
		assert_int_equal(lives(fs, sa, 1234), row[i].flow_lives);
		if (a2 == a) {
			assert_int_equal(a2->count.rx_packets, 7);
			assert_ptr_equal(a2->conf, &n->ct[0]);
		} else if (a2) {
			assert_int_equal(a2->count.rx_packets, 0);
			assert_int_equal(fs_attach_flows(fs, a2->id), 0);
		}
		tunnels_free(o->t);
		tunnels_free(n->t);
		assert_null(fs_check(fs));
		fs_close(fs);
		free(o);
		free(n);
	}
}

/* Prepared and then given up: the running table is as it was. */
static void abandoned_reload(void **state)
{
	static const char *const one[3][3] = {{"a", "sa", "203.0.113.1"}, {NULL}};
	static const char *const two[3][3] = {{"a", "sa", "203.0.113.1"}, {"b", "sb", "203.0.113.2"}, {NULL}};
	struct flowstate *fs = table();
	struct side *o = side_new(one), *n = side_new(two);
	struct tunnel *a;

	(void)state;
	assert_int_equal(tunnels_new(&o->t, &o->conf, NULL), 0);
	assert_int_equal(tunnels_commit(o->t, NULL, fs), 0);
	a = tunnels_by_name(o->t, "a");
	assert_int_equal(tunnels_new(&n->t, &n->conf, o->t), 0);
	tunnels_free(n->t);
	assert_ptr_equal(tunnels_by_id(o->t, a->id), a);
	assert_int_equal(tunnels_count(o->t), 1);
	tunnels_free(o->t);
	fs_close(fs);
	free(o);
	free(n);
}

/* The flow table has no slot for a new tunnel: that one has no ids, and all others are as they should be. */
static void reload_without_slots(void **state)
{
	static const char *const one[3][3] = {{"a", "sa", "203.0.113.1"}, {NULL}};
	static const char *const three[4][3] = {
		{"a", "sa", "203.0.113.1"}, {"b", "sa", "203.0.113.2"}, {"c", "sc", "203.0.113.3"}, {NULL}};
	struct flowstate *fs = table();
	struct side *o = side_new(one), *n = side_new(three);
	char name[16] = "";
	struct tunnel *a;

	(void)state;
	assert_int_equal(tunnels_new(&o->t, &o->conf, NULL), 0);
	assert_int_equal(tunnels_commit(o->t, NULL, fs), 0);
	for (unsigned i = 0; i == 0 || fs_lookup_name(fs, FS_SITE, name) != FS_ID_NONE; i++) {
		snprintf(name, sizeof(name), "filler%u", i);
		(void)fs_bind(fs, FS_SITE, name, FS_ID_NONE, 0);
	}
	assert_int_equal(tunnels_new(&n->t, &n->conf, o->t), 0);
	assert_int_equal(tunnels_commit(n->t, o->t, fs), -ENOSPC);
	tunnels_free(o->t);
	free(o);
	a = tunnels_at(n->t, 0);
	assert_ptr_equal(a->conf, &n->ct[0]);
	assert_ptr_equal(tunnels_by_id(n->t, a->id), a);
	assert_ptr_equal(tunnels_of_site(n->t, a->site, 1000), a);
	for (uint32_t i = 1; i < 3; i++) {
		struct tunnel *t = tunnels_at(n->t, i);

		assert_ptr_equal(t->conf, &n->ct[i]);
		assert_int_equal(t->index, i);
		assert_int_equal(t->id, FS_ID_NONE);
		assert_int_equal(t->site, FS_ID_NONE);
		assert_int_equal(tunnel_state(t, 1000), TUNNEL_DOWN);
	}
	assert_int_equal(tunnel_state(a, 1000), TUNNEL_UP);
	assert_null(tunnels_by_id(n->t, FS_ID_NONE));
	assert_null(fs_check(fs));
	tunnels_free(n->t);
	fs_close(fs);
	free(n);
}

static void best_of_site(void **state)
{
	static const char *const rows[4][3] = {
		{"a", "s", "203.0.113.1"}, {"b", "s", "203.0.113.2"}, {"c", "other", "203.0.113.3"}, {NULL}};
	struct flowstate *fs = table();
	struct side *o = side_new(rows);
	struct tunnel *a, *b;

	(void)state;
	o->ct[1].priority = 50;
	assert_int_equal(tunnels_new(&o->t, &o->conf, NULL), 0);
	assert_int_equal(tunnels_commit(o->t, NULL, fs), 0);
	a = tunnels_by_name(o->t, "a");
	b = tunnels_by_name(o->t, "b");
	assert_int_equal(a->site, b->site);
	assert_ptr_equal(tunnels_of_site(o->t, a->site, 1000), b);
	b->down_until_ms = 2000;
	assert_ptr_equal(tunnels_of_site(o->t, a->site, 1000), a);
	a->down_until_ms = 2000;
	assert_ptr_equal(tunnels_of_site(o->t, a->site, 1000), b);
	assert_ptr_equal(tunnels_of_site(o->t, a->site, 2000), b);
	assert_null(tunnels_of_site(o->t, FS_ID_NONE, 1000));
	assert_null(tunnels_by_id(o->t, a->id + 0x10000)); /* same slot, another generation */
	tunnels_free(o->t);
	fs_close(fs);
	free(o);
}

static void path_mtu(void **state)
{
	static const char *const rows[3][3] = {{"a", "s", "203.0.113.1"}, {"b", "s", "2001:db8::2"}, {NULL}};
	struct side *o = side_new(rows);
	struct tunnel *a, *b;

	(void)state;
	o->ct[0].gre_has_key = true;
	assert_int_equal(tunnels_new(&o->t, &o->conf, NULL), 0);
	a = tunnels_at(o->t, 0);
	b = tunnels_at(o->t, 1);
	assert_int_equal(conf_tunnel_overhead(a->conf), 28);
	assert_int_equal(conf_tunnel_overhead(b->conf), 44);
	assert_int_equal(tunnel_mtu(a, 4, 1000), 1476);
	assert_true(tunnel_path_mtu(a, 1428, 1000));
	assert_false(tunnel_path_mtu(a, 1428, 1001));
	assert_int_equal(tunnel_mtu(a, 4, 1000), 1400);
	tunnel_path_mtu(a, 1450, 1000); /* a larger one is no news */
	assert_int_equal(tunnel_mtu(a, 4, 1000), 1400);
	tunnel_path_mtu(a, 68, 1000); /* a forged one */
	assert_int_equal(tunnel_mtu(a, 4, 1000), 576 - 28);
	assert_int_equal(tunnel_mtu(a, 6, 1000), 1280);
	tunnel_path_mtu(b, 68, 1000);
	assert_int_equal(tunnel_mtu(b, 4, 1000), 1280 - 44);
	assert_int_equal(tunnel_mtu(b, 6, 1000), 1280);
	assert_int_equal(tunnel_mtu(a, 4, 1000 + TUNNEL_PMTU_MS), 1476); /* it ages */
	tunnels_free(o->t);
	free(o);
}

/* What makes a tunnel another one, and one over it with it: "a" and "b" over "a" are the tunnels of before. */
static void identities(void **state)
{
	static const struct {
		const char *what;
		const char *local_id, *remote_id, *over; /* of a; of b */
		bool a_kept, b_kept;
	} rows[] = {
		{"nothing", "us", "branch", "a", true, true},
		{"another branch", "us", "other", "a", false, false},
		{"another of ours", "we", "branch", "a", false, false},
		{"any of ours", NULL, "branch", "a", false, false},
		{"the other way round", "branch", "us", "a", false, false},
		{"on the other side", "branch", NULL, "a", false, false},
		{"in the clear", "us", "branch", NULL, true, false},
		{"over another", "us", "branch", "c", true, false},
	};
	static const char *const three[4][3] = {
		{"a", "sa", "203.0.113.1"}, {"b", "sb", "203.0.113.2"}, {"c", "sc", "203.0.113.3"}, {NULL}};

	(void)state;
	for (size_t i = 0; i < 2 * sizeof(rows) / sizeof(rows[0]); i++) {
		size_t r = i / 2;
		struct flowstate *fs = table();
		fs_id egress = fs_bind(fs, FS_EGRESS, "default", FS_ID_NONE, 0);
		struct side *o = side_new(three), *n = side_new(three);
		struct side *side[] = {o, n};
		struct tunnel *a, *b;

		for (unsigned k = 0; k < 2; k++) {
			side[k]->ct[0].type = side[k]->ct[2].type = TUNNEL_IPSEC;
			side[k]->ct[0].ike.local_id = (char *)(uintptr_t)(k ? rows[r].local_id : "us");
			side[k]->ct[0].ike.remote_id = (char *)(uintptr_t)(k ? rows[r].remote_id : "branch");
			side[k]->ct[1].over = (char *)(uintptr_t)(k ? rows[r].over : "a");
		}
		assert_int_equal(tunnels_new(&o->t, &o->conf, NULL), 0);
		assert_int_equal(tunnels_commit(o->t, NULL, fs), 0);
		a = tunnels_by_name(o->t, "a");
		b = tunnels_by_name(o->t, "b");
		assert_ptr_equal(b->over, a);
		assert_true(a->carries && !tunnels_by_name(o->t, "c")->carries);
		begin(fs, a, egress, 1000);
		begin(fs, b, egress, 1000);
		if (i % 2) { /* a restart: by what the flow table remembers */
			tunnels_free(o->t);
			o->t = NULL;
		}
		assert_int_equal(tunnels_new(&n->t, &n->conf, o->t), 0);
		assert_int_equal(tunnels_commit(n->t, o->t, fs), 0);
		if (!o->t)
			fs_unbind_rest(fs);
		if (fs_attach_flows(fs, tunnels_by_name(n->t, "a")->id) != rows[r].a_kept ||
			fs_attach_flows(fs, tunnels_by_name(n->t, "b")->id) != rows[r].b_kept)
			fail_msg("%s", rows[r].what);
		if (o->t) {
			assert_int_equal(tunnels_by_name(n->t, "a") == a, rows[r].a_kept);
			assert_int_equal(tunnels_by_name(n->t, "b") == b, rows[r].b_kept);
		}
		tunnels_free(o->t);
		tunnels_free(n->t);
		assert_null(fs_check(fs));
		fs_close(fs);
		free(o);
		free(n);
	}
}

/* Inner packets of IPsec, and of GRE over it. Octets around: IPv4 20, IPv6 40, UDP 8, GRE 4 and 4 for a key; ESP of GCM 8 + 8 + 16
 * and 2 of trailer in blocks of 4, of CBC with SHA-512 8 + 16 + 32 and 2 in blocks of 16. */
static void mtu_of_ipsec(void **state)
{
	static const struct {
		uint32_t conf, conf_over; /* MTU of the ipsec tunnel and of GRE over it */
		uint32_t pmtu;            /* 0: nothing is known */
		enum suite_id suite;
		bool down, v6, native, transport_asked, transport, key;
		uint32_t want[2], want_over[2]; /* IPv4, IPv6 */
	} rows[] = {
		{1438, 1414, 0, SUITE_AES_GCM_256, false, false, false, false, false, false, {1438, 1438},
			{1414, 1414}},
		/* what the file says is the most, and what does not fit into what carries it is less */
		{1438, 1500, 0, SUITE_AES_GCM_256, false, false, false, false, false, false, {1438, 1438},
			{1414, 1414}},
		{1300, 1414, 0, SUITE_AES_GCM_256, false, false, false, false, false, true, {1300, 1300},
			{1272, 1280}},
		{1438, 1434, 0, SUITE_AES_GCM_256, false, false, false, true, true, false, {1438, 1438},
			{1434, 1434}},
		{1438, 1434, 0, SUITE_AES_GCM_256, false, false, false, true, true, true, {1438, 1438},
			{1430, 1430}},
		/* transport mode that was not given; and before it is known */
		{1438, 1434, 0, SUITE_AES_GCM_256, false, false, false, true, false, false, {1438, 1438},
			{1414, 1414}},
		{1438, 1434, 0, SUITE_AES_GCM_256, true, false, false, true, false, false, {1438, 1438},
			{1434, 1434}},
		/* the path, by family, encapsulation, suite */
		{1438, 1414, 1400, SUITE_AES_GCM_256, false, false, false, false, false, false, {1338, 1338},
			{1314, 1314}},
		{1438, 1414, 1400, SUITE_AES_GCM_256, false, false, true, false, false, false, {1346, 1346},
			{1322, 1322}},
		{1438, 1414, 1400, SUITE_AES_GCM_256, false, true, false, false, false, false, {1318, 1318},
			{1294, 1294}},
		{1438, 1414, 1400, SUITE_AES_GCM_256, false, true, true, false, false, false, {1326, 1326},
			{1302, 1302}},
		{1438, 1414, 1400, SUITE_AES_CBC_256_SHA512, false, false, false, false, false, false,
			{1310, 1310}, {1286, 1286}},
		{1438, 1434, 1400, SUITE_AES_CBC_256_SHA512, false, false, false, true, true, true,
			{1310, 1310}, {1302, 1302}},
		/* a path that takes more than the file says */
		{1438, 1414, 9000, SUITE_AES_GCM_256, false, false, false, false, false, false, {1438, 1438},
			{1414, 1414}},
		/* down: nobody knows what will be around */
		{1438, 1414, 1400, SUITE_AES_GCM_256, true, false, false, false, false, false, {1438, 1438},
			{1414, 1414}},
		/* not below what a host must take, and what RFC 7676 says of IPv6 */
		{1438, 1414, 576, SUITE_AES_GCM_256, false, false, false, false, false, true, {514, 1280},
			{486, 1280}},
		{1438, 1414, 576, SUITE_AES_CBC_256_SHA512, false, false, false, false, false, true,
			{478, 1280}, {450, 1280}},
		{1438, 1414, 1280, SUITE_AES_GCM_256, false, true, false, false, false, false, {1198, 1280},
			{1174, 1280}},
	};
	static const char *const two[3][3] = {{"a", "sa", "203.0.113.1"}, {"b", "sb", "203.0.113.2"}, {NULL}};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct flowstate *fs = table();
		struct side *o = side_new(two);
		struct tunnel *a, *b;

		o->ct[0].type = TUNNEL_IPSEC;
		o->ct[0].mtu = rows[i].conf;
		o->ct[0].ike.mode = rows[i].transport_asked ? IPSEC_TRANSPORT : IPSEC_TUNNEL;
		o->ct[1].over = (char *)(uintptr_t) "a";
		o->ct[1].mtu = rows[i].conf_over;
		o->ct[1].gre_has_key = rows[i].key;
		assert_int_equal(tunnels_new(&o->t, &o->conf, NULL), 0);
		assert_int_equal(tunnels_commit(o->t, NULL, fs), 0);
		a = tunnels_at(o->t, 0);
		b = tunnels_at(o->t, 1);
		a->ipsec->remote = (struct sa_end){
			adr(rows[i].v6 ? "2001:db8::2" : "203.0.113.1"), rows[i].native ? 0 : 4500};
		a->ipsec->suite = rows[i].down ? NULL : &suites[rows[i].suite];
		a->ipsec->transport = rows[i].transport;
		if (rows[i].pmtu)
			tunnel_path_mtu(a, rows[i].pmtu, 1000);
		assert_int_equal(tunnel_state(a, 1000), rows[i].down ? TUNNEL_DOWN : TUNNEL_UP);
		assert_int_equal(tunnel_state(b, 1000), rows[i].down ? TUNNEL_DOWN : TUNNEL_UP);
		for (unsigned k = 0; k < 2; k++) {
			uint8_t ver = k ? 6 : 4;

			if (tunnel_mtu(a, ver, 1000) != rows[i].want[k] ||
				tunnel_mtu(b, ver, 1000) != rows[i].want_over[k])
				fail_msg("row %zu, IPv%u: %u, over it %u", i, ver, tunnel_mtu(a, ver, 1000),
					tunnel_mtu(b, ver, 1000));
			assert_int_equal(
				tunnel_mtu(a, ver, 1000 + TUNNEL_PMTU_MS), rows[i].conf); /* it ages */
		}
		tunnels_free(o->t);
		fs_close(fs);
		free(o);
	}
}

static void answers_are_bounded(void **state)
{
	struct tunnel t = {0};
	int n = 0;

	(void)state;
	for (uint64_t now = 100000; now < 110000; now++) /* asked once a millisecond, for 10 s */
		n += tunnel_may_answer(&t, now);
	assert_in_range(n, 1000, 1100);
	n = 0;
	for (int i = 0; i < 1000; i++)
		n += tunnel_may_answer(&t, 200000);
	assert_int_equal(n, 100);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(reload_rows), cmocka_unit_test(abandoned_reload),
		cmocka_unit_test(reload_without_slots), cmocka_unit_test(best_of_site),
		cmocka_unit_test(path_mtu), cmocka_unit_test(identities), cmocka_unit_test(mtu_of_ipsec),
		cmocka_unit_test(answers_are_bounded)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
