/* SPDX-License-Identifier: GPL-2.0-or-later */
/* gateway_flowevents_test.c - following flows, without the socket: what the lines say, filters, the ring's end, the log. */
#include "test/unit/control_ask.h"

#include <fcntl.h>
#include <unistd.h>

#define LINES_MAX 4096

/* A follower: the lines that it got. */
struct follower {
	struct control_request r;
	json_t *line[LINES_MAX];
	unsigned n;
};

static void take_lines(struct follower *f, struct jsonw *w)
{
	size_t from = 0;

	assert_false(w->full);
	while (from < w->len) {
		const char *end = memchr(w->buf + from, '\n', w->len - from);
		size_t len = end ? (size_t)(end - w->buf) - from : w->len - from;

		assert_true(f->n < LINES_MAX);
		f->line[f->n] = json_loadb(w->buf + from, len, JSON_REJECT_DUPLICATES, NULL);
		if (!f->line[f->n++])
			fail_msg("no JSON: %.*s", (int)len, w->buf + from);
		from += len + 1;
	}
	assert_true(w->len == 0 || w->buf[w->len - 1] == '}');
}

/* Its error code, "" if it follows. */
static const char *follow_as(struct toy *t, struct follower *f, const char *args)
{
	char line[256];
	struct jsonw w;

	*f = (struct follower){.r = {.gw = &t->gw, .peer = {.access = CONTROL_READ}}};
	snprintf(line, sizeof(line), "{\"id\":7,\"command\":\"flows\",\"args\":{\"follow\":true%s%s}}",
		*args ? "," : "", args);
	jw_init(&w, out, sizeof(out) - 1);
	control_dispatch(&f->r, line, strlen(line), &w);
	take_lines(f, &w);
	assert_int_equal(f->n, 1);
	assert_int_equal(number_at(f->line[0], "id"), 7);
	return at(f->line[0], "error.code");
}

static void follow(struct toy *t, struct follower *f, const char *args)
{
	assert_string_equal(follow_as(t, f, args), "");
	expect(f->line[0], "event", "follow");
	assert_true(f->r.following);
}

/* Takes what there is, page by page. */
static void drain(struct follower *f)
{
	while (f->r.following && control_follow_waiting(&f->r)) {
		struct jsonw w;

		jw_init(&w, out, sizeof(out) - 1);
		control_follow_page(&f->r, &w);
		take_lines(f, &w);
	}
}

static void leave(struct follower *f)
{
	control_follow_leave(&f->r);
	for (unsigned i = 0; i < f->n; i++)
		json_decref(f->line[i]);
	f->n = 0;
}

static struct fs_packet packet_of(struct toy *t, unsigned tn, uint16_t port)
{
	const struct tunnel *tunnel = tunnels_at(t->gw.tunnels, tn);
	struct fs_packet pk = {.via = tunnel->id, .octets = 100, .packets = 1};

	pk.key.realm = tunnel->site;
	pk.key.t = (struct tuple){.src = addr_from4(htonl(0x0a000105)),
		.dst = addr_from4(htonl(0x5db8d822)),
		.sport = htons(port),
		.dport = htons(80),
		.proto = IPPROTO_UDP};
	return pk;
}

/* A packet of the flow that toy_flow() began with this port, by tunnel number tn. */
static void pass(struct toy *t, uint32_t flow, unsigned tn, uint16_t port)
{
	struct fs_packet pk = packet_of(t, tn, port);

	assert_int_equal(fs_pass(t->gw.fs, (struct fs_hit){.flow = flow}, &pk, toy_now_ms), DROP_NONE);
}

static void expect_time(const json_t *line, const char *key, int64_t want_ms)
{
	const char *text = at(line, key);
	struct tm tm = {0};
	const char *rest = strptime(text, "%Y-%m-%dT%H:%M:%S", &tm);
	int64_t ms;

	if (!rest || strlen(text) != 24 || rest[0] != '.' || rest[4] != 'Z')
		fail_msg("%s is \"%s\"", key, text);
	ms = (int64_t)timegm(&tm) * 1000 + strtol(rest + 1, NULL, 10);
	if (llabs(ms - want_ms) > 10000) /* a sanitizer takes its time */
		fail_msg("%s is \"%s\", %lld ms off", key, text, (long long)(ms - want_ms));
}

static int64_t wall_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* ---- what the lines say ----------------------------------------------------------------------------- */

/* Equal tuples of two sites: by what the server saw of each, its line is found, and it names the right site. */
static void test_begin(void **state)
{
	static struct follower f;
	struct toy *t = *state;
	uint32_t a;

	follow(t, &f, "");
	expect_time(f.line[0], "time", wall_now());
	a = toy_flow(t, 0, IPPROTO_TCP, 40000);
	toy_flow(t, 1, IPPROTO_TCP, 40000);
	drain(&f);
	assert_int_equal(f.n, 3);
	for (unsigned i = 1; i <= 2; i++) {
		const json_t *l = f.line[i];

		expect(l, "id", "7");
		expect(l, "event", "begin");
		expect_time(l, "time", wall_now());
		expect(l, "site", i == 1 ? "acme-berlin" : "branch-b");
		expect(l, "tunnel", i == 1 ? "branch-a" : "branch-b");
		expect(l, "proto", "tcp");
		expect(l, "state", "opening");
		expect(l, "orig.src", "10.0.1.5");
		expect(l, "orig.sport", "40000");
		expect(l, "orig.dst", "93.184.216.34");
		expect(l, "orig.dport", "80");
		expect(l, "reply.src", "93.184.216.34");
		expect(l, "reply.sport", "80");
		expect(l, "reply.dst", "10.0.1.5");
		expect(l, "translated", i == 1 ? "false" : "true");
		expect(l, "orig_realm", i == 1 ? "acme-berlin" : "branch-b");
		expect(l, "orig_via", i == 1 ? "branch-a" : "branch-b");
		expect(l, "reply_realm", "default");
		expect(l, "reply_via", "default");
		assert_null(json_object_get(l, "reason"));
		assert_null(json_object_get(l, "orig_packets"));
	}
	assert_int_equal(number_at(f.line[1], "flow"), a);
	expect(f.line[1], "reply.dport", "40000");
	assert_string_not_equal(at(f.line[2], "reply.dport"), "40000");
	leave(&f);
}

static void test_move_and_ends(void **state)
{
	static struct follower f;
	struct toy *t = *state;
	uint32_t moved, flushed;

	moved = toy_flow(t, 0, IPPROTO_UDP, 1);
	flushed = toy_flow(t, 1, IPPROTO_UDP, 2);
	follow(t, &f, "");
	toy_now_ms += 30000;
	pass(t, moved, 2, 1);
	drain(&f);
	assert_int_equal(f.n, 2);
	expect(f.line[1], "event", "move");
	expect(f.line[1], "site", "acme-berlin");
	expect(f.line[1], "tunnel", "branch-c");
	expect(f.line[1], "half", "orig");
	expect(f.line[1], "from", "branch-a");
	expect(f.line[1], "to", "branch-c");
	expect(f.line[1], "orig_via", "branch-c");
	expect(f.line[1], "orig_packets", "1");
	expect_time(f.line[1], "begun", wall_now() - 30000);

	fs_end(t->gw.fs, flushed, toy_now_ms);
	toy_now_ms += 125000;
	fs_tick(t->gw.fs, toy_now_ms, 100000);
	drain(&f);
	assert_int_equal(f.n, 4);
	expect(f.line[2], "event", "evict");
	expect(f.line[2], "reason", "flushed");
	expect(f.line[2], "site", "branch-b");
	expect(f.line[3], "event", "expire");
	expect(f.line[3], "state", "one-way");
	expect(f.line[3], "orig_packets", "2");
	expect(f.line[3], "orig_bytes", "200");
	expect(f.line[3], "reply_packets", "0");
	expect(f.line[3], "reply_bytes", "0");
	expect_time(f.line[3], "begun", wall_now() - 155000);
	expect_time(f.line[3], "last", wall_now() - 125000);
	assert_null(json_object_get(f.line[3], "reason"));
	leave(&f);
}

/* A tunnel's name is told though the tunnel, and every record that referred to it, is gone when the line is made. */
static void test_name_of_what_is_gone(void **state)
{
	static struct follower f;
	struct toy *t = *state;
	fs_id b = tunnels_at(t->gw.tunnels, 1)->id;

	follow(t, &f, "\"tunnel\":\"branch-b\"");
	toy_flow(t, 1, IPPROTO_UDP, 1);
	fs_unbind(t->gw.fs, b);
	for (unsigned i = 0; i < 400; i++)
		fs_tick(t->gw.fs, toy_now_ms += 1000, 100000);
	assert_string_equal(fs_name(t->gw.fs, b), "");
	drain(&f);
	assert_int_equal(f.n, 3);
	expect(f.line[2], "event", "evict");
	expect(f.line[2], "reason", "removed");
	expect(f.line[2], "tunnel", "branch-b");
	expect(f.line[2], "site", "branch-b");
	/* It comes again, with another identity: the filter means it, too. */
	b = fs_bind(t->gw.fs, FS_TUNNEL, "branch-b", tunnels_at(t->gw.tunnels, 1)->site, 4711);
	tunnels_at(t->gw.tunnels, 1)->id = b;
	toy_flow(t, 1, IPPROTO_UDP, 2);
	drain(&f);
	assert_int_equal(f.n, 4);
	expect(f.line[3], "event", "begin");
	expect(f.line[3], "tunnel", "branch-b");
	leave(&f);
}

/* ---- filters ---------------------------------------------------------------------------------------- */

static void test_filters(void **state)
{
	/* Flows: a 4 tcp, b 3 udp, c 2 tcp from the address above, a 1 icmpv6 */
	static const struct {
		const char *args;
		unsigned want;
	} rows[] = {{"", 10}, {"\"site\":\"acme-berlin\"", 7}, {"\"site\":\"branch-b\"", 3},
		{"\"tunnel\":\"branch-a\"", 5}, {"\"proto\":\"tcp\"", 6}, {"\"proto\":\"58\"", 1},
		{"\"src\":\"10.0.1.6\"", 2}, {"\"src\":\"10.0.0.0/16\"", 9}, {"\"dst\":\"93.184.216.34\"", 9},
		{"\"dst\":\"10.0.1.5\"", 0}, {"\"state\":\"one-way\"", 3}, {"\"state\":\"quarantine\"", 0},
		{"\"site\":\"acme-berlin\",\"proto\":\"tcp\",\"src\":\"10.0.1.5\"", 4}};
	static struct follower f[FLOW_FOLLOWERS_MAX];
	enum { ROWS = sizeof(rows) / sizeof(rows[0]) };
	struct toy *t = *state;

	for (unsigned first = 0; first < ROWS; first += FLOW_FOLLOWERS_MAX) {
		unsigned n = ROWS - first < FLOW_FOLLOWERS_MAX ? ROWS - first : FLOW_FOLLOWERS_MAX;

		for (unsigned i = 0; i < n; i++)
			follow(t, &f[i], rows[first + i].args);
		for (uint32_t p = 1; p <= 4; p++) {
			toy_flow(t, 0, IPPROTO_TCP, first * 10 + p);
			if (p <= 3)
				toy_flow(t, 1, IPPROTO_UDP, first * 10 + p);
			if (p <= 2)
				toy_flow(t, 2, IPPROTO_TCP, 0x10000 + first * 10 + p);
			if (p <= 1)
				toy_flow(t, 0, IPPROTO_ICMPV6, first * 10 + p);
		}
		for (unsigned i = 0; i < n; i++) {
			drain(&f[i]);
			if (f[i].n - 1 != rows[first + i].want)
				fail_msg("%s: %u events, not %u", rows[first + i].args, f[i].n - 1,
					rows[first + i].want);
			leave(&f[i]);
		}
	}
}

static void test_refused(void **state)
{
	static const char *const rows[][2] = {{"\"site\":\"nobody\"", "not_found"},
		{"\"tunnel\":\"x\"", "not_found"}, {"\"proto\":\"x\"", "invalid_argument"},
		{"\"src\":\"x\"", "invalid_argument"}, {"\"limit\":-1", "invalid_argument"},
		{"\"event\":\"x\"", "invalid_argument"}};
	static struct follower f, many[FLOW_FOLLOWERS_MAX];
	struct toy *t = *state;
	json_t *a = ask(t, "{\"command\":\"flows\",\"args\":{\"follow\":1}}");

	expect(a, "error.code", "invalid_argument");
	json_decref(a);
	a = ask(t, "{\"command\":\"flows\",\"args\":{\"follow\":false}}");
	expect(a, "matched", "0");
	json_decref(a);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		assert_string_equal(follow_as(t, &f, rows[i][0]), rows[i][1]);
		assert_false(f.r.following);
		leave(&f);
	}
	for (unsigned i = 0; i < FLOW_FOLLOWERS_MAX; i++)
		follow(t, &many[i], "");
	assert_string_equal(follow_as(t, &f, ""), "busy");
	leave(&f);
	leave(&many[3]);
	follow(t, &f, "");
	toy_flow(t, 0, IPPROTO_UDP, 1);
	drain(&f);
	assert_int_equal(f.n, 2);
	leave(&f);
	for (unsigned i = 0; i < FLOW_FOLLOWERS_MAX; i++)
		leave(&many[i]);
}

/* After so many events it ends by itself, with a result; or by being told to. */
static void test_limit(void **state)
{
	static struct follower f;
	struct toy *t = *state;
	struct jsonw w;

	follow(t, &f, "\"limit\":3,\"proto\":\"udp\"");
	for (uint32_t n = 1; n <= 5; n++) {
		toy_flow(t, 0, IPPROTO_TCP, n);
		toy_flow(t, 0, IPPROTO_UDP, n);
	}
	drain(&f);
	assert_false(f.r.following);
	assert_int_equal(f.n, 5);
	expect(f.line[3], "orig.sport", "3");
	expect(f.line[4], "result.events", "3");
	expect(f.line[4], "result.lost", "0");
	leave(&f);

	follow(t, &f, "");
	toy_flow(t, 0, IPPROTO_TCP, 10);
	drain(&f);
	jw_init(&w, out, sizeof(out) - 1);
	control_follow_end(&f.r, &w);
	take_lines(&f, &w);
	expect(f.line[2], "id", "7");
	expect(f.line[2], "result.events", "1");
	assert_false(f.r.following);
	leave(&f);
}

/* ---- the ring --------------------------------------------------------------------------------------- */

/* One reads as it comes, one waits: the second has lost what did not fit, is told how much, and where; and the first
 * has everything. Neither changes what the other gets. */
static void test_overflow(void **state)
{
	enum { MORE = 1000, ALL = FLOW_EVENTS_KEPT + MORE };
	static struct follower quick, slow;
	struct toy *t = *state;
	unsigned got = 0;

	follow(t, &slow, "\"src\":\"10.0.1.5\"");
	follow(t, &quick, "");
	json_decref(quick.line[--quick.n]);
	for (uint32_t n = 1; n <= ALL; n++) {
		assert_int_not_equal(toy_flow(t, 0, IPPROTO_UDP, n), FS_NONE);
		if (n % 500 == 0 || n == ALL) {
			drain(&quick);
			for (unsigned i = 0; i < quick.n; i++) {
				expect(quick.line[i], "event", "begin");
				if (number_at(quick.line[i], "orig.sport") != ++got)
					fail_msg("%s comes as number %u", at(quick.line[i], "orig.sport"),
						got);
				json_decref(quick.line[i]);
			}
			quick.n = 0;
		}
	}
	assert_int_equal(got, ALL);
	assert_int_equal(control_follow_waiting(&slow.r), ALL);
	while (slow.n < 3) { /* the first page */
		struct jsonw w;

		jw_init(&w, out, sizeof(out) - 1);
		control_follow_page(&slow.r, &w);
		take_lines(&slow, &w);
	}
	expect(slow.line[1], "event", "lost");
	expect(slow.line[1], "count", "1000");
	expect_time(slow.line[1], "time", wall_now());
	expect(slow.line[2], "event", "begin");
	expect(slow.line[2], "orig.sport", "1001");
	/* and once more, in the middle: nothing is told twice, nothing is left out */
	for (unsigned i = 0; i < slow.n; i++)
		json_decref(slow.line[i]);
	got = 1000 + slow.n - 2;
	slow.n = 0;
	for (uint32_t n = 1; n <= 100; n++)
		toy_flow(t, 1, IPPROTO_TCP, n);
	while (control_follow_waiting(&slow.r) > 100) {
		struct jsonw w;

		jw_init(&w, out, sizeof(out) - 1);
		control_follow_page(&slow.r, &w);
		take_lines(&slow, &w);
		for (unsigned i = 0; i < slow.n; i++) {
			if (strcmp(at(slow.line[i], "event"), "lost") == 0)
				got += number_at(slow.line[i], "count");
			else if (strcmp(at(slow.line[i], "proto"), "udp") == 0 &&
				 number_at(slow.line[i], "orig.sport") != ++got)
				fail_msg("%s comes as number %u", at(slow.line[i], "orig.sport"), got);
			json_decref(slow.line[i]);
		}
		slow.n = 0;
	}
	assert_int_equal(got, ALL);
	leave(&slow);
	leave(&quick);
}

/* As many as there is room for, and one more. */
static void test_just_full(void **state)
{
	static struct follower f;
	struct toy *t = *state;

	for (uint32_t more = 0; more < 2; more++) {
		struct jsonw w;

		follow(t, &f, "");
		for (uint32_t n = 1; n <= FLOW_EVENTS_KEPT + more; n++)
			toy_flow(t, more, IPPROTO_UDP, n);
		jw_init(&w, out, sizeof(out) - 1);
		control_follow_page(&f.r, &w);
		take_lines(&f, &w);
		expect(f.line[1], "event", more ? "lost" : "begin");
		expect(f.line[1], "count", more ? "1" : "");
		expect(f.line[2], "orig.sport", "2");
		leave(&f);
	}
}

/* When nobody follows any more nothing is kept; who comes later gets nothing of what was before. */
static void test_comes_and_goes(void **state)
{
	static struct follower f;
	struct toy *t = *state;

	for (unsigned round = 1; round <= 3; round++) {
		toy_flow(t, 0, IPPROTO_UDP, round);
		follow(t, &f, "");
		toy_flow(t, 0, IPPROTO_UDP, 100 + round);
		drain(&f);
		assert_int_equal(f.n, 2);
		assert_int_equal(number_at(f.line[1], "orig.sport"), 100 + round);
		toy_flow(t, 0, IPPROTO_UDP, 200 + round);
		leave(&f);
		assert_int_equal(control_follow_waiting(&f.r), 0);
	}
}

/* ---- the log ---------------------------------------------------------------------------------------- */

/* What stands on stderr of it at each level, for a begin, a move, and a flush. */
static void test_log(void **state)
{
	static const struct {
		enum log_level level;
		bool begin, move;
	} rows[] = {{LOG_LEVEL_WARNING, false, false}, {LOG_LEVEL_NOTICE, false, false},
		{LOG_LEVEL_INFO, false, true}, {LOG_LEVEL_DEBUG, true, true}};
	static char text[1 << 16];
	struct toy *t = *state;

	unsetenv("JOURNAL_STREAM");
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		FILE *f = tmpfile();
		int keep = dup(STDERR_FILENO);
		uint32_t flow;
		size_t n;

		assert_true(f && keep >= 0);
		toy_now_ms += 60000; /* the limits have their bursts again */
		t->gw.log = log_open(LOG_LEVEL_ERROR);
		log_set_level(t->gw.log, rows[i].level);
		flow_events_level(t->gw.events);
		dup2(fileno(f), STDERR_FILENO);
		flow = toy_flow(t, 1, IPPROTO_UDP, 1000 + (uint32_t)i);
		assert_int_not_equal(flow, FS_NONE);
		fs_end(t->gw.fs, flow, toy_now_ms);
		flow = toy_flow(t, 0, IPPROTO_UDP, 1000 + (uint32_t)i);
		pass(t, flow, 2, (uint16_t)(1000 + i));
		for (unsigned k = 0; k < 101; k++) /* a flood of them */
			pass(t, flow, k % 2 ? 2 : 0, (uint16_t)(1000 + i));
		toy_now_ms += 1000;
		pass(t, flow, 2, (uint16_t)(1000 + i));
		dup2(keep, STDERR_FILENO);
		close(keep);
		rewind(f);
		n = fread(text, 1, sizeof(text) - 1, f);
		text[n] = '\0';
		fclose(f);
		log_close(t->gw.log);
		t->gw.log = NULL;
		flow_events_level(t->gw.events);

		assert_int_equal(
			rows[i].begin, strstr(text, " debug tunnel branch-b: flow of site branch-b begins: "
						    "udp 10.0.1.5:") != NULL);
		assert_int_equal(rows[i].begin, strstr(text, "ends, flushed: udp 10.0.1.5:") != NULL);
		assert_int_equal(rows[i].move, strstr(text, ":80, seen as 10.0.1.5:") != NULL);
		assert_int_equal(rows[i].move,
			strstr(text, " info tunnel branch-c: flow of site acme-berlin has moved here from "
				     "tunnel branch-a: udp 10.0.1.5:") != NULL);
		assert_int_equal(rows[i].move, strstr(text, " (92 more records held back)") != NULL);
		n = 0;
		for (const char *p = text; (p = strstr(p, "has moved")); p++)
			n++;
		assert_int_equal(n, rows[i].move ? 11 : 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_begin, setup, teardown),
		cmocka_unit_test_setup_teardown(test_move_and_ends, setup, teardown),
		cmocka_unit_test_setup_teardown(test_name_of_what_is_gone, setup, teardown),
		cmocka_unit_test_setup_teardown(test_filters, setup, teardown),
		cmocka_unit_test_setup_teardown(test_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(test_limit, setup, teardown),
		cmocka_unit_test_setup_teardown(test_overflow, setup, teardown),
		cmocka_unit_test_setup_teardown(test_just_full, setup, teardown),
		cmocka_unit_test_setup_teardown(test_comes_and_goes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_log, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
