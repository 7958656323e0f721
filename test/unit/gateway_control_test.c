/* SPDX-License-Identifier: GPL-2.0-or-later */
/* gateway_control_test.c - requests and answers of the control socket, without the socket. */
#include "test/unit/control_ask.h"

static void test_requests(void **state)
{
	/* request, by whom, what is at the path of the answer */
	static const struct {
		const char *line;
		enum control_access access;
		const char *path, *want;
	} cases[] = {
		{"{\"id\":7,\"command\":\"status\"}", CONTROL_READ, "id", "7"},
		{"{\"command\":\"status\"}", CONTROL_READ, "result.pid", NULL},
		{" {\"command\":\"status\",\"args\":{}}\r", CONTROL_READ, "result.tun", "arr0"},
		/* form */
		{"{", CONTROL_ADMIN, "error.code", "invalid_json"},
		{"{} {}", CONTROL_ADMIN, "error.code", "invalid_json"},
		{"\x80", CONTROL_ADMIN, "error.code", "invalid_json"},
		{"{\"command\":\"status\",\"command\":\"stats\"}", CONTROL_ADMIN, "error.code",
			"invalid_json"},
		{"[]", CONTROL_ADMIN, "error.code", "invalid_request"},
		{"17", CONTROL_ADMIN, "error.code", "invalid_json"},
		{"{}", CONTROL_ADMIN, "error.code", "invalid_request"},
		{"{\"command\":1}", CONTROL_ADMIN, "error.code", "invalid_request"},
		{"{\"id\":\"x\",\"command\":\"status\"}", CONTROL_ADMIN, "error.code", "invalid_request"},
		{"{\"id\":-1,\"command\":\"status\"}", CONTROL_ADMIN, "error.code", "invalid_request"},
		{"{\"id\":1.5,\"command\":\"status\"}", CONTROL_ADMIN, "error.code", "invalid_request"},
		{"{\"command\":\"status\",\"args\":[]}", CONTROL_ADMIN, "error.code", "invalid_request"},
		{"{\"command\":\"status\",\"arg\":{}}", CONTROL_ADMIN, "error.code", "invalid_request"},
		{"{\"id\":3,\"command\":\"halt\"}", CONTROL_ADMIN, "error.code", "unknown_command"},
		{"{\"id\":3,\"command\":\"halt\"}", CONTROL_ADMIN, "id", "3"},
		/* arguments */
		{"{\"command\":\"status\",\"args\":{\"site\":\"x\"}}", CONTROL_ADMIN, "error.code",
			"invalid_argument"},
		{"{\"command\":\"flows\",\"args\":{\"sit\":\"x\"}}", CONTROL_ADMIN, "error.code",
			"invalid_argument"},
		{"{\"command\":\"flows\",\"args\":{\"site\":1}}", CONTROL_ADMIN, "error.code",
			"invalid_argument"},
		{"{\"command\":\"flows\",\"args\":{\"site\":\"x\"}}", CONTROL_ADMIN, "error.code",
			"not_found"},
		{"{\"command\":\"flows\",\"args\":{\"site\":\"branch-a\"}}", CONTROL_ADMIN, "error.code",
			"not_found"},
		{"{\"command\":\"flows\",\"args\":{\"tunnel\":\"acme-berlin\"}}", CONTROL_ADMIN, "error.code",
			"not_found"},
		{"{\"command\":\"flows\",\"args\":{\"src\":\"10.0.0.1/8\"}}", CONTROL_ADMIN, "error.code",
			"invalid_argument"},
		{"{\"command\":\"flows\",\"args\":{\"dst\":\"\"}}", CONTROL_ADMIN, "error.code",
			"invalid_argument"},
		{"{\"command\":\"flows\",\"args\":{\"proto\":\"256\"}}", CONTROL_ADMIN, "error.code",
			"invalid_argument"},
		{"{\"command\":\"flows\",\"args\":{\"proto\":\"-1\"}}", CONTROL_ADMIN, "error.code",
			"invalid_argument"},
		{"{\"command\":\"flows\",\"args\":{\"proto\":\"6x\"}}", CONTROL_ADMIN, "error.code",
			"invalid_argument"},
		{"{\"command\":\"flows\",\"args\":{\"state\":\"free\"}}", CONTROL_ADMIN, "error.code",
			"invalid_argument"},
		{"{\"command\":\"flows\",\"args\":{\"limit\":-1}}", CONTROL_ADMIN, "error.code",
			"invalid_argument"},
		{"{\"command\":\"flows\",\"args\":{\"limit\":\"1\"}}", CONTROL_ADMIN, "error.code",
			"invalid_argument"},
		{"{\"command\":\"flows\"}", CONTROL_READ, "more", "false"},
		{"{\"command\":\"flows\"}", CONTROL_READ, "matched", "0"},
		/* rights */
		{"{\"command\":\"reload\"}", CONTROL_READ, "error.code", "access"},
		{"{\"command\":\"flush\",\"args\":{\"all\":true}}", CONTROL_READ, "error.code", "access"},
		{"{\"command\":\"status\"}", CONTROL_REFUSED, "error.code", "access"},
		{"{\"command\":\"tunnels\"}", CONTROL_READ, "matched", "3"},
		{"{\"command\":\"stats\"}", CONTROL_READ, "result.flows.max", "100000"},
		/* flush: exactly one */
		{"{\"command\":\"flush\"}", CONTROL_ADMIN, "error.code", "invalid_argument"},
		{"{\"command\":\"flush\",\"args\":{}}", CONTROL_ADMIN, "error.code", "invalid_argument"},
		{"{\"command\":\"flush\",\"args\":{\"all\":false}}", CONTROL_ADMIN, "error.code",
			"invalid_argument"},
		{"{\"command\":\"flush\",\"args\":{\"all\":1}}", CONTROL_ADMIN, "error.code",
			"invalid_argument"},
		{"{\"command\":\"flush\",\"args\":{\"tunnel\":\"branch-a\",\"all\":true}}", CONTROL_ADMIN,
			"error.code", "invalid_argument"},
		{"{\"command\":\"flush\",\"args\":{\"tunnel\":\"x\"}}", CONTROL_ADMIN, "error.code",
			"not_found"},
		{"{\"command\":\"flush\",\"args\":{\"site\":\"x\"}}", CONTROL_ADMIN, "error.code",
			"not_found"},
	};
	struct toy *t = *state;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		json_t *a = ask_as(t, cases[i].access, cases[i].line);
		const char *got = at(a, cases[i].path);

		if (cases[i].want ? strcmp(got, cases[i].want) != 0 : !*got)
			fail_msg("%s: %s is \"%s\", not \"%s\"", cases[i].line, cases[i].path, got,
				cases[i].want);
		json_decref(a);
	}
	assert_int_equal(t->reloads, 0);
	assert_int_equal(t->flushes, 0);
	assert_null(ask(t, ""));
	assert_null(ask(t, " \t\r"));
}

/* Nothing that is sent nests deeper than the parser's own bound, and that is an error, not a crash. */
static void test_deep(void **state)
{
	static char line[CONTROL_LINE_MAX];
	json_t *a;

	memset(line, '[', sizeof(line) - 1);
	a = ask(*state, line);
	assert_string_equal(at(a, "error.code"), "invalid_json");
	json_decref(a);
}

static void test_flush(void **state)
{
	struct toy *t = *state;
	const struct tunnel *b = tunnels_by_name(t->gw.tunnels, "branch-b");
	json_t *a = ask(t, "{\"command\":\"flush\",\"args\":{\"all\":true}}"); /* in two turns */

	assert_string_equal(at(a, "result.flushed"), "42");
	assert_true(t->flushed_tunnel == FS_ID_NONE && t->flushed_site == FS_ID_NONE);
	json_decref(a);
	json_decref(ask(t, "{\"command\":\"flush\",\"args\":{\"tunnel\":\"branch-b\"}}"));
	assert_true(t->flushed_tunnel == b->id && t->flushed_site == FS_ID_NONE);
	json_decref(ask(t, "{\"command\":\"flush\",\"args\":{\"site\":\"branch-b\"}}"));
	assert_true(t->flushed_tunnel == FS_ID_NONE && t->flushed_site == b->site);
	assert_int_equal(t->flushes, 3);
}

static void test_reload(void **state)
{
	static char errors[200000];
	struct toy *t = *state;
	json_t *a = ask(t, "{\"command\":\"reload\"}");

	assert_string_equal(at(a, "result.tunnels"), "3");
	json_decref(a);

	t->reload_result = -EINVAL;
	t->reload_errors = "arrd.conf:3: [gateway] tun: \"x y\"\n";
	a = ask(t, "{\"command\":\"reload\"}");
	assert_string_equal(at(a, "error.code"), "config");
	assert_string_equal(at(a, "error.message"), t->reload_errors);
	json_decref(a);

	/* more errors than an answer holds, and all of them to be escaped: the first ones, whole lines */
	for (size_t i = 0; i < sizeof(errors) - 1; i++)
		errors[i] = i % 10 == 9 ? '\n' : '\x01';
	t->reload_errors = errors;
	a = ask(t, "{\"command\":\"reload\"}");
	assert_string_equal(at(a, "error.code"), "config");
	assert_int_equal(strlen(at(a, "error.message")) % 10, 0);
	assert_in_range(strlen(at(a, "error.message")), 10000, CONTROL_OUT_MAX);
	json_decref(a);

	t->reload_result = -ENOMEM;
	t->reload_errors = NULL;
	a = ask(t, "{\"command\":\"reload\"}");
	assert_string_equal(at(a, "error.code"), "failed");
	assert_true(*at(a, "error.message"));
	json_decref(a);
	assert_int_equal(t->reloads, 4);
}

/* ---- listings --------------------------------------------------------------------------------------- */

static void test_status(void **state)
{
	struct toy *t = *state;
	json_t *a;

	toy_flow(t, 0, IPPROTO_TCP, 40000);
	tunnels_at(t->gw.tunnels, 1)->down_until_ms = toy_now_ms + 5000;
	a = ask(t, "{\"command\":\"status\"}");
	expect(a, "result.version", ARRD_VERSION);
	expect(a, "result.uptime_s", "90061");
	expect(a, "result.config", "/etc/arrd/arrd.conf");
	expect(a, "result.egress.interface", "eth0");
	expect(a, "result.egress.nat", "masquerade");
	expect(a, "result.tunnels.up", "2");
	expect(a, "result.tunnels.down", "1");
	expect(a, "result.sites", "2");
	expect(a, "result.flows.used", "1");
	expect(a, "result.flows.max", "100000");
	json_decref(a);

	t->gw.conf->egress.nat = NAT_POOL;
	assert_int_equal(addr_parse("192.0.2.8", &t->gw.conf->egress.nat_pool[0].first), 0);
	assert_int_equal(addr_parse("192.0.2.9", &t->gw.conf->egress.nat_pool[0].last), 0);
	assert_int_equal(addr_parse("2001:db8::8", &t->gw.conf->egress.nat_pool[1].first), 0);
	t->gw.conf->egress.nat_pool[1].last = t->gw.conf->egress.nat_pool[1].first;
	a = ask(t, "{\"command\":\"status\"}");
	expect(a, "result.egress.nat", "pool");
	expect(a, "result.egress.nat_pool.0", "192.0.2.8-192.0.2.9");
	expect(a, "result.egress.nat_pool.1", "2001:db8::8");
	expect(a, "result.egress.nat_flows", "1");
	json_decref(a);
}

static void test_tunnels_and_stats(void **state)
{
	struct toy *t = *state;
	struct tunnel *tn = tunnels_at(t->gw.tunnels, 0);
	json_t *a;

	tn->count = (struct counters){
		.rx_packets = 1, .rx_bytes = 2, .tx_packets = 3, .tx_bytes = UINT64_C(1) << 40};
	tn->count.drops[DROP_DST_PRIVATE] = 7;
	tunnels_at(t->gw.tunnels, 2)->count.drops[DROP_DST_PRIVATE] = 1;
	t->gw.count.drops[DROP_UNKNOWN_SENDER] = 9;
	tn->pmtu = 1400;
	tn->pmtu_until_ms = toy_now_ms + 1;
	toy_flow(t, 0, IPPROTO_TCP, 40000);
	toy_flow(t, 0, IPPROTO_UDP, 40000);

	a = ask(t, "{\"command\":\"tunnels\"}");
	expect(a, "matched", "3");
	expect(a, "rows.0.name", "branch-a");
	expect(a, "rows.0.type", "gre");
	expect(a, "rows.0.site", "acme-berlin");
	expect(a, "rows.0.state", "up");
	expect(a, "rows.0.local", "198.51.100.1");
	expect(a, "rows.0.remote", "203.0.113.0");
	expect(a, "rows.0.gre_key", "101");
	expect(a, "rows.0.mtu", "1476");
	expect(a, "rows.0.pmtu", "1400");
	expect(a, "rows.0.priority", "100");
	expect(a, "rows.0.flows", "2");
	expect(a, "rows.0.rx_packets", "1");
	expect(a, "rows.0.rx_bytes", "2");
	expect(a, "rows.0.tx_packets", "3");
	expect(a, "rows.0.tx_bytes", "1099511627776");
	expect(a, "rows.0.drops.dst_private", "7");
	expect(a, "rows.0.drops.unknown_sender", "");
	expect(a, "rows.1.name", "branch-b");
	expect(a, "rows.1.gre_key", "");
	expect(a, "rows.1.pmtu", "");
	assert_true(json_is_object(json_object_get(json_array_get(json_object_get(a, "rows"), 1), "drops")));
	json_decref(a);

	a = ask(t, "{\"command\":\"stats\"}");
	expect(a, "result.flows.used", "2");
	expect(a, "result.flows.created", "2");
	expect(a, "result.flows.quarantined", "0");
	expect(a, "result.flows.expired", "0");
	expect(a, "result.flows.evicted", "0");
	expect(a, "result.flows.translated", "0");
	expect(a, "result.flows.refused", "0");
	expect(a, "result.rx_packets", "1");
	expect(a, "result.tx_bytes", "1099511627776");
	expect(a, "result.drops.dst_private", "8");
	expect(a, "result.drops.unknown_sender", "9");
	json_decref(a);
}

/* A page that ends behind a tunnel goes on behind its name, also when a reload has moved the indexes. */
static void test_tunnels_paged(void **state)
{
	struct toy *t = *state;
	struct config shorter = t->conf;
	struct tunnels *all = t->gw.tunnels, *without_a;
	struct control_request r = {.gw = &t->gw};
	struct jsonw w;

	shorter.tunnels++;
	shorter.ntunnels--;
	assert_int_equal(tunnels_new(&without_a, &shorter, NULL), 0);
	control_list_tunnels(&r, NULL, &w);
	for (unsigned i = 0; i < TOY_TUNNELS; i++) {
		char name[32];

		jw_init(&w, out, sizeof(out));
		assert_false(r.rows(&r, &w, 0)); /* no time for a second row */
		snprintf(name, sizeof(name), "{\"name\":\"branch-%c\"", (int)('a' + i));
		assert_int_equal(strncmp(out, name, strlen(name)), 0);
		t->gw.tunnels = without_a;
	}
	w.len = 0;
	assert_true(r.rows(&r, &w, 0));
	assert_int_equal(w.len, 0);
	assert_int_equal(*r.matched, TOY_TUNNELS);
	t->gw.tunnels = all;
	tunnels_free(without_a);
}

static void test_flow_members(void **state)
{
	struct toy *t = *state;
	json_t *a;

	assert_int_not_equal(toy_flow(t, 0, IPPROTO_TCP, 40000), FS_NONE);
	toy_now_ms += 5000;
	a = ask(t, "{\"command\":\"flows\"}");
	expect(a, "matched", "1");
	expect(a, "rows.0.site", "acme-berlin");
	expect(a, "rows.0.tunnel", "branch-a");
	expect(a, "rows.0.proto", "tcp");
	expect(a, "rows.0.state", "opening");
	expect(a, "rows.0.orig.src", "10.0.1.5");
	expect(a, "rows.0.orig.sport", "40000");
	expect(a, "rows.0.orig.dst", "93.184.216.34");
	expect(a, "rows.0.orig.dport", "80");
	expect(a, "rows.0.reply.src", "93.184.216.34");
	expect(a, "rows.0.reply.sport", "80");
	expect(a, "rows.0.reply.dst", "10.0.1.5");
	expect(a, "rows.0.reply.dport", "40000");
	expect(a, "rows.0.translated", "false");
	expect(a, "rows.0.age_s", "5");
	expect(a, "rows.0.idle_s", "5");
	expect(a, "rows.0.expires_s", "235");
	expect(a, "rows.0.orig_packets", "1");
	expect(a, "rows.0.orig_bytes", "100");
	expect(a, "rows.0.reply_packets", "0");
	expect(a, "rows.0.reply_bytes", "0");
	expect(a, "rows.0.orig_realm", "acme-berlin");
	expect(a, "rows.0.orig_via", "branch-a");
	expect(a, "rows.0.reply_realm", "default");
	expect(a, "rows.0.reply_via", "default");
	json_decref(a);
}

/* The same 5-tuple of another site is there, too, translated, and belongs to its own tunnel. */
static void test_flow_collision(void **state)
{
	struct toy *t = *state;
	json_t *a;

	toy_flow(t, 0, IPPROTO_TCP, 40000);
	toy_flow(t, 1, IPPROTO_TCP, 40000);
	a = ask(t, "{\"command\":\"flows\",\"args\":{\"tunnel\":\"branch-b\"}}");
	expect(a, "matched", "1");
	expect(a, "rows.0.site", "branch-b");
	expect(a, "rows.0.tunnel", "branch-b");
	expect(a, "rows.0.orig.sport", "40000");
	expect(a, "rows.0.translated", "true");
	assert_string_not_equal(at(a, "rows.0.reply.dport"), "40000");
	json_decref(a);
}

static void test_flow_filters(void **state)
{
	/* Flows: a 40 tcp, b 30 udp, c 20 tcp from the address above, a 10 icmpv6 */
	static const struct {
		const char *args;
		unsigned want;
	} cases[] = {
		{"", 100},
		{"\"site\":\"acme-berlin\"", 70},
		{"\"site\":\"branch-b\"", 30},
		{"\"tunnel\":\"branch-a\"", 50},
		{"\"tunnel\":\"branch-c\"", 20},
		{"\"tunnel\":\"branch-c\",\"site\":\"branch-b\"", 0},
		{"\"proto\":\"tcp\"", 60},
		{"\"proto\":\"6\"", 60},
		{"\"proto\":\"icmpv6\"", 10},
		{"\"proto\":\"17\",\"site\":\"acme-berlin\"", 0},
		{"\"src\":\"10.0.1.6\"", 20},
		{"\"src\":\"10.0.0.0/16\"", 90},
		{"\"src\":\"10.0.1.5/32\"", 70},
		{"\"src\":\"2001:db8::/32\"", 10},
		{"\"dst\":\"10.0.1.5\"", 0},
		{"\"dst\":\"93.184.216.34\",\"proto\":\"udp\"", 30},
		{"\"state\":\"opening\"", 60},
		{"\"state\":\"one-way\"", 30},
		{"\"state\":\"echo\"", 10},
		{"\"state\":\"established\"", 0},
		{"\"state\":\"quarantine\"", 0},
	};
	struct toy *t = *state;

	for (uint32_t n = 1; n <= 40; n++) {
		toy_flow(t, 0, IPPROTO_TCP, n);
		if (n <= 30)
			toy_flow(t, 1, IPPROTO_UDP, n);
		if (n <= 20)
			toy_flow(t, 2, IPPROTO_TCP, 0x10000 + n);
		if (n <= 10)
			toy_flow(t, 0, IPPROTO_ICMPV6, n);
	}
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char line[256], limited[256];
		json_t *a;

		snprintf(line, sizeof(line), "{\"command\":\"flows\",\"args\":{%s}}", cases[i].args);
		a = ask(t, line);
		if (json_array_size(json_object_get(a, "rows")) != cases[i].want ||
			number_at(a, "matched") != cases[i].want)
			fail_msg("%s: matched %s, not %u", cases[i].args, at(a, "matched"), cases[i].want);
		json_decref(a);

		snprintf(limited, sizeof(limited), "{\"command\":\"flows\",\"args\":{\"limit\":15%s%s}}",
			*cases[i].args ? "," : "", cases[i].args);
		a = ask(t, limited);
		assert_int_equal(
			json_array_size(json_object_get(a, "rows")), cases[i].want < 15 ? cases[i].want : 15);
		assert_int_equal(number_at(a, "matched"), cases[i].want);
		json_decref(a);
	}
}

/* Ended flows are listed when quarantine is asked for, and only then. */
static void test_flow_quarantine(void **state)
{
	struct toy *t = *state;
	uint32_t flow = toy_flow(t, 0, IPPROTO_TCP, 40000);
	json_t *a;

	toy_flow(t, 0, IPPROTO_TCP, 40001);
	fs_end(t->gw.fs, flow, toy_now_ms);
	a = ask(t, "{\"command\":\"flows\"}");
	expect(a, "matched", "1");
	expect(a, "rows.0.orig.sport", "40001");
	json_decref(a);
	a = ask(t, "{\"command\":\"flows\",\"args\":{\"state\":\"quarantine\"}}");
	expect(a, "matched", "1");
	expect(a, "rows.0.state", "quarantine");
	json_decref(a);
}

/* Many pages: every flow is in exactly one. */
static void test_flow_pages(void **state)
{
	enum { N = 20000 };
	struct toy *t = *state;
	static unsigned char seen[N + 1];
	json_t *a, *f;
	size_t i;

	for (uint32_t n = 1; n <= N; n++)
		assert_int_not_equal(toy_flow(t, 0, IPPROTO_UDP, n), FS_NONE);
	a = ask(t, "{\"command\":\"flows\"}");
	assert_int_equal(number_at(a, "matched"), N);
	assert_true(number_at(a, "pages") > 20);
	json_array_foreach(json_object_get(a, "rows"), i, f)
	{
		unsigned port = number_at(f, "orig.sport");

		assert_in_range(port, 1, N);
		assert_int_equal(seen[port], 0);
		seen[port] = 1;
	}
	assert_int_equal(i, N);
	json_decref(a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_requests, setup, teardown),
		cmocka_unit_test_setup_teardown(test_deep, setup, teardown),
		cmocka_unit_test_setup_teardown(test_flush, setup, teardown),
		cmocka_unit_test_setup_teardown(test_reload, setup, teardown),
		cmocka_unit_test_setup_teardown(test_status, setup, teardown),
		cmocka_unit_test_setup_teardown(test_tunnels_and_stats, setup, teardown),
		cmocka_unit_test_setup_teardown(test_tunnels_paged, setup, teardown),
		cmocka_unit_test_setup_teardown(test_flow_members, setup, teardown),
		cmocka_unit_test_setup_teardown(test_flow_collision, setup, teardown),
		cmocka_unit_test_setup_teardown(test_flow_filters, setup, teardown),
		cmocka_unit_test_setup_teardown(test_flow_quarantine, setup, teardown),
		cmocka_unit_test_setup_teardown(test_flow_pages, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
