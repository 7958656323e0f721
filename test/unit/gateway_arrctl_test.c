/* SPDX-License-Identifier: GPL-2.0-or-later */
/* gateway_arrctl_test.c - arrctl as a whole, against the control socket of a toy gateway. */
#include "test/unit/arrctl_rig.h"

static void test_command_lines(void **state)
{
	/* words, exit status, in stdout, in stderr; "": nothing is there */
	static const struct {
		const char *line;
		int want;
		const char *out, *err;
	} cases[] = {
		{"status", EX_OK, "\nflows     3000 of at most 10000\n", ""},
		{"status --json", EX_OK, "\"version\": \"" ARRD_VERSION "\"", ""},
		{"--json status", EX_OK, "\"used\": 3000", ""},
		{"tunnels", EX_OK,
			"branch-b  branch-b     gre   up     198.51.100.1  203.0.113.1    -   1500", ""},
		{"tunnels", EX_OK, "  12 dst_private\n", ""},
		{"stats", EX_OK, "     12  dst_private  private destination", ""},
		{"flows", EX_OK, "… and 2900 more, by --limit 0\n", ""},
		{"flows --limit 5 --tunnel branch-b", EX_OK, "… and 1495 more", ""},
		{"flows --limit 5 --src 10.9.9.9", EX_OK, "SEEN AS", ""},
		{"flows --json --src 10.9.9.9", EX_OK, "[]\n", ""},
		{"flush --all", EX_OK, "42 flows ended\n", ""},
		{"flush --site branch-b --json", EX_OK, "\"flushed\": 42", ""},
		{"reload", EX_OK, "reloaded, 3 tunnels\n", ""},
		{"help", EX_OK, "  flows  ", ""},
		{"flows --help", EX_OK, "--state STATE", ""},
		{"help flush", EX_OK, "--all", ""},
		{"--version", EX_OK, "arrctl " ARRD_VERSION "\n", ""},
		/* wrong */
		{"", EX_USAGE, "", "a command is missing"},
		{"halt", EX_USAGE, "", "halt: there is no such command"},
		{"status now", EX_USAGE, "", "now: one word too many"},
		{"status --limit 1", EX_USAGE, "", "limit: not an option of this command"},
		{"flush --all --src 10.0.0.1", EX_USAGE, "", "src: not an option of this command"},
		{"flows --limit x", EX_USAGE, "", "--limit: must be a number"},
		{"flows --limit -1", EX_USAGE, "", "--limit: must be a number"},
		{"flows --limit", EX_USAGE, "", "requires an argument"},
		{"flows --sit x", EX_USAGE, "", "no site has this name"}, /* getopt completes it */
		{"flows --bogus", EX_USAGE, "", "unrecognized option"},
		{"flows --proto x", EX_USAGE, "", "proto: must be"},
		{"flush", EX_USAGE, "", "exactly one of"},
		{"flush --tunnel x", EX_USAGE, "", "no tunnel has this name"},
		{"-s /nonexistent/sock status", EX_UNAVAILABLE, "", "is arrd running?"},
		/* steering: what the daemon has no ipsec tunnel for */
		{"help rekey", EX_OK, "--ike", ""},
		{"initiate", EX_USAGE, "", "tunnel: must be given"},
		{"initiate --tunnel branch-a", EX_USAGE, "", "must be one of type ipsec"},
		{"terminate --tunnel x", EX_USAGE, "", "no tunnel has this name"},
		{"terminate --tunnel branch-a --ike", EX_USAGE, "", "ike: not an option of this command"},
		{"tunnels --tunnel x", EX_USAGE, "", "no tunnel has this name"},
		{"tunnels --site branch-b", EX_USAGE, "", "site: not an option of this command"},
	};
	struct rig *r = *state;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const char *const want[] = {cases[i].out, cases[i].err};
		int status = arrctl(r, cases[i].line);

		if (status != cases[i].want)
			fail_msg("arrctl %s: exit status %d, not %d: %s", cases[i].line, status,
				cases[i].want, r->text[1]);
		for (unsigned f = 0; f < 2; f++)
			if (*want[f] ? !strstr(r->text[f], want[f]) : *r->text[f])
				fail_msg("arrctl %s: \"%s\" is not in: %.400s", cases[i].line, want[f],
					r->text[f]);
	}
}

/* ---- IPsec ------------------------------------------------------------------------------------------ */

static struct tunnel *d_of(struct rig *r)
{
	return tunnels_at(r->toy.gw.tunnels, TOY_TUNNELS);
}

/* The whole of what arrctl prints for a command that succeeds. */
static void golden(struct rig *r, const char *line, const char *want)
{
	assert_int_equal(arrctl(r, line), EX_OK);
	assert_string_equal(r->text[1], "");
	if (strcmp(r->text[0], want) != 0)
		fail_msg("arrctl %s:\n%s\nnot:\n%s", line, r->text[0], want);
}

static void test_ipsec_down(void **state)
{
	struct rig *r = *state;

	assert_int_equal(toy_ipsec(&r->toy), 0);
	d_of(r)->ipsec->failures = 2;
	strcpy(d_of(r)->ipsec->last_failure, "no \x1b[31mred\xc2\x9b proposal");
	golden(r, "tunnels --tunnel branch-d",
		"tunnel      branch-d of site acme-rome, down\n"
		"type        ipsec\n"
		"local       198.51.100.1\n"
		"remote      any\n"
		"mtu         1400\n"
		"priority    100\n"
		"flows       0\n"
		"received    0 packets, 0B\n"
		"sent        0 packets, 0B\n"
		"\n"
		"IKE_SA      down\n"
		"failures    2, the last: no ?[31mred?? proposal\n"
		"\n"
		"no CHILD_SA\n"
		"\n"
		"no packet was dropped\n");
}

static void test_ipsec_up(void **state)
{
	struct rig *r = *state;
	struct sa *in, *o;
	char want[4096];

	assert_int_equal(toy_ipsec(&r->toy), 0);
	toy_ike_up(&r->toy);
	in = toy_sa(&r->toy, true, 0, true);
	o = toy_sa(&r->toy, false, 0xc0ffee, true);
	assert_true(in && o);
	in->replayed = 3;
	in->bad_icv = 1;
	in->use->packets = 12345;
	in->use->octets = 20 << 20;
	o->esn = false;
	d_of(r)->rx_last_ms = toy_now_ms;
	d_of(r)->count.drops[DROP_ESP_REPLAY] = 3;
	toy_now_ms += 75000;
	snprintf(want, sizeof(want),
		"tunnel      branch-d of site acme-rome, up\n"
		"type        ipsec\n"
		"local       198.51.100.1\n"
		"remote      any\n"
		"mtu         1400\n"
		"priority    100\n"
		"flows       0\n"
		"received    0 packets, 0B, the last 1m15s ago\n"
		"sent        0 packets, 0B\n"
		"\n"
		"IKE_SA      established for 1m25s, as responder\n"
		"branch      branch-d@example at 203.0.113.77:1024\n"
		"gateway     gw.example at 198.51.100.1:4500\n"
		"NAT         before the branch\n"
		"algorithms  AES_GCM_16_256/PRF_HMAC_SHA2_384/ECP_384\n"
		"rekey       in 3h52m\n"
		"reauth      never\n"
		"failures    0\n"
		"\n"
		"SA           SPI       ALGORITHMS           MODE             AGE  REKEY IN  ENDS IN  PACKETS"
		"         WINDOW  REPLAYED  BAD ICV\n"
		"out, in use  00c0ffee  AES-GCM-16-256       tunnel in UDP  1m15s    48m45s   53m45s        0"
		"     0B       -         -        -\n"
		"in           %08x  AES-GCM-16-256, ESN  tunnel in UDP  1m15s    48m45s   53m45s      12k"
		"  20MiB    1024         3        1\n"
		"\n"
		"DROPPED  REASON      MEANING\n"
		"      3  esp_replay  %s\n",
		in->spi, drop_text(DROP_ESP_REPLAY));
	golden(r, "tunnels --tunnel branch-d", want);
	golden(r, "tunnels --tunnel branch-e",
		"tunnel      branch-e of site acme-rome, up\n"
		"type        gre\n"
		"over        branch-d\n"
		"local       192.0.2.1\n"
		"remote      192.0.2.2\n"
		"mtu         1400\n"
		"priority    100\n"
		"flows       0\n"
		"received    0 packets, 0B\n"
		"sent        0 packets, 0B\n"
		"\n"
		"no packet was dropped\n");
	assert_int_equal(arrctl(r, "tunnels --tunnel branch-d --json"), EX_OK);
	assert_non_null(strstr(r->text[0], "[{\"name\":\"branch-d\""));
	assert_int_equal(arrctl(r, "status"), EX_OK);
	assert_non_null(strstr(r->text[0],
		"\nipsec     1 established, 0 connecting, strongSwan 5.9.8, ciphers of toy-cipher\n"));
}

/* A line a tunnel: where the branch is that may come from anywhere, and what is on its way. */
static void test_ipsec_table(void **state)
{
	/* of branch-d: state of the IKE_SA, is there an SA to send by; its line from TYPE to KEY */
	static const struct {
		enum ike_state ike;
		bool up;
		const char *want;
	} cases[] = {
		{IKE_STATE_DOWN, false, "  ipsec  down   198.51.100.1  any            -"},
		{IKE_STATE_CONNECTING, false, "  ipsec  connecting  198.51.100.1  any            -"},
		{IKE_STATE_UP, true, "  ipsec  up     198.51.100.1  203.0.113.77    -"},
		{IKE_STATE_UP, false, "  ipsec  down   198.51.100.1  203.0.113.77    -"},
	};
	struct rig *r = *state;

	assert_int_equal(toy_ipsec(&r->toy), 0);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		toy_ike_up(&r->toy);
		d_of(r)->ipsec->status.state = cases[i].ike;
		if (!cases[i].up)
			d_of(r)->ipsec->suite = NULL;
		assert_int_equal(arrctl(r, "tunnels"), EX_OK);
		if (!strstr(r->text[0], cases[i].want))
			fail_msg("case %zu: %s", i, r->text[0]);
	}
}

static void test_steering(void **state)
{
	static const struct {
		const char *line;
		int result, want;
		enum ipsec_steer what;
	} cases[] = {
		{"initiate --tunnel branch-d", 0, EX_OK, IPSEC_INITIATE},
		{"rekey --tunnel branch-d", 0, EX_OK, IPSEC_REKEY_CHILD},
		{"rekey --ike --tunnel branch-d", 0, EX_OK, IPSEC_REKEY_IKE},
		{"terminate --tunnel branch-d", 0, EX_OK, IPSEC_TERMINATE},
		{"initiate --tunnel branch-d", -EDESTADDRREQ, EX_SOFTWARE, IPSEC_INITIATE},
	};
	struct rig *r = *state;

	assert_int_equal(toy_ipsec(&r->toy), 0);
	toy_ike_up(&r->toy);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		r->toy.steer_result = cases[i].result;
		assert_int_equal(arrctl(r, cases[i].line), cases[i].want);
		assert_int_equal(r->toy.steers, i + 1);
		assert_ptr_equal(r->toy.steered, d_of(r));
		assert_int_equal(r->toy.steered_what, cases[i].what);
		assert_non_null(strstr(
			r->text[cases[i].want != EX_OK], cases[i].want == EX_OK ? "started" : "never seen"));
	}
	assert_int_equal(arrctl(r, "rekey --json --tunnel branch-d"), EX_SOFTWARE);
	r->toy.steer_result = 0;
	assert_int_equal(arrctl(r, "rekey --json --tunnel branch-d"), EX_OK);
	assert_non_null(strstr(r->text[0], "\"started\": true"));
}

static void test_reload_refused(void **state)
{
	struct rig *r = *state;

	r->toy.reload_result = -EINVAL;
	r->toy.reload_errors = "arrd.conf:3: one\narrd.conf:4: two\n";
	assert_int_equal(arrctl(r, "reload"), EX_CONFIG);
	assert_string_equal(r->text[1], "arrctl: refused:\narrd.conf:3: one\narrd.conf:4: two\n");
	r->toy.reload_result = -ENOMEM;
	r->toy.reload_errors = NULL;
	assert_int_equal(arrctl(r, "reload"), EX_SOFTWARE);
}

/* The pages put together are one array of all the flows. */
static void test_json_array(void **state)
{
	struct rig *r = *state;
	json_t *all;

	assert_int_equal(arrctl(r, "flows --json"), EX_OK);
	all = json_loads(r->text[0], 0, NULL);
	assert_int_equal(json_array_size(all), NFLOWS);
	json_decref(all);
	assert_int_equal(arrctl(r, "flows --json --limit 7"), EX_OK);
	all = json_loads(r->text[0], 0, NULL);
	assert_int_equal(json_array_size(all), 7);
	json_decref(all);
	assert_int_equal(arrctl(r, "tunnels --json"), EX_OK);
	all = json_loads(r->text[0], 0, NULL);
	assert_int_equal(json_array_size(all), TOY_TUNNELS);
	json_decref(all);
}

static void test_table_of_all(void **state)
{
	struct rig *r = *state;
	unsigned lines = 0;

	assert_int_equal(arrctl(r, "flows --limit 0"), EX_OK);
	for (const char *p = r->text[0]; (p = strchr(p, '\n')); p++)
		lines++;
	assert_int_equal(lines, 1 + NFLOWS);
	assert_null(strchr(r->text[0], '\033')); /* no colours in a file */
}

static void test_human(void **state)
{
	static const struct {
		uint64_t n;
		const char *count, *octets, *seconds;
	} cases[] = {
		{0, "0", "0B", "0s"},
		{59, "59", "59B", "59s"},
		{60, "60", "60B", "1m00s"},
		{999, "999", "999B", "16m39s"},
		{1500, "1.5k", "1.5KiB", "25m00s"},
		{3600, "3.6k", "3.5KiB", "1h00m"},
		{99999, "100k", "98KiB", "1d03h"},
		{UINT64_C(5) << 30, "5.4G", "5.0GiB", "62137d20h"},
		{UINT64_MAX, "18E", "16EiB", "213503982334601d07h"},
	};
	char b[HUMAN_LEN];
	(void)state;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		assert_string_equal(human_count(cases[i].n, b), cases[i].count);
		assert_string_equal(human_octets(cases[i].n, b), cases[i].octets);
		assert_string_equal(human_seconds(cases[i].n, b), cases[i].seconds);
	}
}

/* Lines that no daemon of ours sends: each is refused, none is read beyond. */
static void test_bad_pages(void **state)
{
	static const char *const bad[] = {"", "{\"id\":1,\"rows\":[", "{\"id\":1,\"rows\":[]",
		"{\"id\":1,\"rows\":[]}", "{\"id\":1,\"rows\":[],", "{\"id\":1,\"rows\":[],\"more\":1}",
		"{\"id\":2,\"rows\":[],\"more\":true}", "{\"id\":1,\"rows\":[],\"more\":true"};
	(void)state;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		size_t len = strlen(bad[i]);
		char *line = malloc(len + 1); /* no NUL: the sanitizer sees who reads on */
		struct reply a;

		memcpy(line, bad[i], len);
		assert_false(page(line, len, &a));
		free(line);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_command_lines, setup, teardown),
		cmocka_unit_test_setup_teardown(test_ipsec_down, setup, teardown),
		cmocka_unit_test_setup_teardown(test_ipsec_up, setup, teardown),
		cmocka_unit_test_setup_teardown(test_ipsec_table, setup, teardown),
		cmocka_unit_test_setup_teardown(test_steering, setup, teardown),
		cmocka_unit_test_setup_teardown(test_reload_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(test_json_array, setup, teardown),
		cmocka_unit_test_setup_teardown(test_table_of_all, setup, teardown),
		cmocka_unit_test(test_human),
		cmocka_unit_test(test_bad_pages),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
