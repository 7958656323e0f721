/* SPDX-License-Identifier: GPL-2.0-or-later */
/* gateway_controlipsec_test.c - what the control socket says of IPsec, and steering by it. */
#include "test/unit/control_ask.h"

#define D TOY_TUNNELS /* branch-d */

static int setup_ipsec(void **state)
{
	return setup(state) || toy_ipsec(*state) ? -1 : 0;
}

static struct tunnel *d_of(struct toy *t)
{
	return tunnels_at(t->gw.tunnels, D);
}

/* The row of branch-d as text of its answer: rows.0. */
static json_t *ask_d(struct toy *t)
{
	return ask_as(t, CONTROL_READ, "{\"command\":\"tunnels\",\"args\":{\"tunnel\":\"branch-d\"}}");
}

struct want {
	const char *path, *text;
};

static void expect_all(const json_t *a, const struct want *w)
{
	for (; w->path; w++)
		expect(a, w->path, w->text);
}

/* ---- rows ------------------------------------------------------------------------------------------- */

static void test_types(void **state)
{
	static const struct want want[] = {{"matched", "5"}, {"rows.0.type", "gre"}, {"rows.0.over", ""},
		{"rows.0.ike.state", ""}, {"rows.3.name", "branch-d"}, {"rows.3.type", "ipsec"},
		{"rows.3.state", "down"}, {"rows.3.local", "198.51.100.1"}, {"rows.3.remote", "any"},
		{"rows.3.over", ""}, {"rows.3.mtu", "1400"}, {"rows.4.name", "branch-e"},
		{"rows.4.type", "gre"}, {"rows.4.over", "branch-d"}, {"rows.4.state", "down"},
		{"rows.4.remote", "192.0.2.2"}, {"rows.4.ike.state", ""}, {NULL, NULL}};
	struct toy *t = *state;
	json_t *a;

	a = ask(t, "{\"command\":\"tunnels\"}");
	expect_all(a, want);
	json_decref(a);
	toy_ike_up(t);
	a = ask(t, "{\"command\":\"tunnels\"}");
	expect(a, "rows.3.state", "up");
	expect(a, "rows.4.state", "up");
	json_decref(a);
}

/* One by name: that one, whatever its place, and an error where there is none. */
static void test_one(void **state)
{
	static const char *const names[] = {"branch-a", "branch-b", "branch-c", "branch-d", "branch-e"};
	struct toy *t = *state;
	char line[128];
	json_t *a;

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		snprintf(line, sizeof(line), "{\"command\":\"tunnels\",\"args\":{\"tunnel\":\"%s\"}}",
			names[i]);
		a = ask(t, line);
		expect(a, "rows.0.name", names[i]);
		expect(a, "matched", "1");
		assert_int_equal(json_array_size(json_object_get(a, "rows")), 1);
		json_decref(a);
	}
	a = ask(t, "{\"command\":\"tunnels\",\"args\":{\"tunnel\":\"branch\"}}");
	expect(a, "error.code", "not_found");
	json_decref(a);
	a = ask(t, "{\"command\":\"tunnels\",\"args\":{\"tunnel\":\"\"}}");
	expect(a, "error.code", "not_found");
	json_decref(a);
	a = ask(t, "{\"command\":\"tunnels\",\"args\":{\"tunnel\":4}}");
	expect(a, "error.code", "invalid_argument");
	json_decref(a);
	a = ask(t, "{\"command\":\"tunnels\",\"args\":{\"site\":\"acme-rome\"}}");
	expect(a, "error.code", "invalid_argument");
	json_decref(a);
}

/* What is said in each state, and what is not. */
static void test_ike_states(void **state)
{
	static const struct want down[] = {{"rows.0.ike.state", "down"}, {"rows.0.ike.role", ""},
		{"rows.0.ike.remote.address", ""}, {"rows.0.ike.remote_id", ""}, {"rows.0.ike.nat", ""},
		{"rows.0.ike.age_s", ""}, {"rows.0.ike.rekey_in_s", ""}, {"rows.0.ike.failures", "0"},
		{"rows.0.ike.last_failure", ""}, {NULL, NULL}};
	static const struct want connecting[] = {{"rows.0.ike.state", "connecting"},
		{"rows.0.ike.role", "initiator"}, {"rows.0.ike.remote.address", "203.0.113.77"},
		{"rows.0.ike.remote.port", "1024"}, {"rows.0.ike.remote_id", ""}, {"rows.0.ike.nat", ""},
		{"rows.0.ike.failures", "3"}, {"rows.0.ike.last_failure", "peer says \"NO\""}, {NULL, NULL}};
	static const struct want up[] = {{"rows.0.ike.state", "established"},
		{"rows.0.ike.role", "responder"}, {"rows.0.ike.local.address", "198.51.100.1"},
		{"rows.0.ike.local.port", "4500"}, {"rows.0.ike.remote.address", "203.0.113.77"},
		{"rows.0.ike.remote.port", "1024"}, {"rows.0.ike.local_id", "gw.example"},
		{"rows.0.ike.remote_id", "branch-d@example"},
		{"rows.0.ike.algorithms", "AES_GCM_16_256/PRF_HMAC_SHA2_384/ECP_384"},
		{"rows.0.ike.nat", "remote"}, {"rows.0.ike.age_s", "15"}, {"rows.0.ike.rekey_in_s", "13995"},
		{"rows.0.ike.reauth_in_s", ""}, {NULL, NULL}};
	struct toy *t = *state;
	struct tunnel_ipsec *i = d_of(t)->ipsec;
	json_t *a = ask_d(t);

	expect_all(a, down);
	json_decref(a);

	toy_ike_up(t);
	i->status.state = IKE_STATE_CONNECTING;
	i->status.initiator = true;
	i->failures = 3;
	strcpy(i->last_failure, "peer says \"NO\"");
	a = ask_d(t);
	expect_all(a, connecting);
	json_decref(a);

	toy_ike_up(t);
	toy_now_ms += 5999;
	a = ask_d(t);
	expect_all(a, up);
	json_decref(a);

	i->status.reauth_in_s = 5; /* due, and under way */
	a = ask_d(t);
	expect(a, "rows.0.ike.reauth_in_s", "0");
	json_decref(a);
}

static void test_nat(void **state)
{
	static const struct {
		bool local, remote;
		const char *want;
	} cases[] = {{false, false, "none"}, {true, false, "local"}, {false, true, "remote"},
		{true, true, "both"}};
	struct toy *t = *state;

	toy_ike_up(t);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		json_t *a;

		d_of(t)->ipsec->status.nat_local = cases[i].local;
		d_of(t)->ipsec->status.nat_remote = cases[i].remote;
		a = ask_d(t);
		expect(a, "rows.0.ike.nat", cases[i].want);
		json_decref(a);
	}
}

/* Who a peer says that it is comes from outside. */
static void test_identities(void **state)
{
	static const struct {
		const char *id, *want;
	} cases[] = {
		{"C=DE, O=\"Acme\", CN=b", "C=DE, O=\"Acme\", CN=b"},
		{"a\\b\"},{\"c", "a\\b\"},{\"c"},
		{"\x1b[31mred\n", "\x1b[31mred\n"},
		{"M\xc3\xbcller", "M\xc3\xbcller"},
		{"\xff\xfe", "\xef\xbf\xbd\xef\xbf\xbd"},
	};
	struct toy *t = *state;

	toy_ike_up(t);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		json_t *a;

		strcpy(d_of(t)->ipsec->status.remote_id, cases[i].id);
		a = ask_d(t);
		expect(a, "rows.0.ike.remote_id", cases[i].want);
		json_decref(a);
	}
}

/* ---- SAs -------------------------------------------------------------------------------------------- */

static void test_children(void **state)
{
	static const struct want out_sa[] = {{"rows.0.children.0.direction", "out"},
		{"rows.0.children.0.spi", "000abcde"}, {"rows.0.children.0.suite", "AES-GCM-16-256"},
		{"rows.0.children.0.esn", "true"}, {"rows.0.children.0.mode", "tunnel"},
		{"rows.0.children.0.udp", "true"}, {"rows.0.children.0.age_s", "7"},
		{"rows.0.children.0.rekey_in_s", "2993"}, {"rows.0.children.0.expires_in_s", "3293"},
		{"rows.0.children.0.packets", "4"}, {"rows.0.children.0.bytes", "5000"},
		{"rows.0.children.0.replayed", ""}, {"rows.0.children.0.replay_window", ""},
		{"rows.0.children.0.current", "true"}, {NULL, NULL}};
	static const struct want in_sa[] = {{"rows.0.children.1.direction", "in"},
		{"rows.0.children.1.esn", "false"}, {"rows.0.children.1.mode", "transport"},
		{"rows.0.children.1.udp", "false"}, {"rows.0.children.1.rekey_in_s", ""},
		{"rows.0.children.1.expires_in_s", ""}, {"rows.0.children.1.replay_window", "1024"},
		{"rows.0.children.1.replayed", "2"}, {"rows.0.children.1.bad_icv", "3"},
		{"rows.0.children.1.current", ""}, {"rows.0.children_more", ""}, {NULL, NULL}};
	struct toy *t = *state;
	struct sa *in, *o;
	char spi[9];
	json_t *a;

	toy_ike_up(t);
	in = toy_sa(t, true, 0, true);
	o = toy_sa(t, false, 0xabcde, true);
	assert_true(in && o);
	o->use->packets = 4;
	o->use->octets = 5000;
	in->esn = false;
	in->transport = true;
	in->remote.port = in->local.port = 0;
	in->time_s = (struct sa_limit){0, 0};
	in->replayed = 2;
	in->bad_icv = 3;
	toy_now_ms += 7000;
	a = ask_d(t);
	assert_int_equal(
		json_array_size(json_object_get(json_array_get(json_object_get(a, "rows"), 0), "children")),
		2);
	expect_all(a, out_sa);
	expect_all(a, in_sa);
	snprintf(spi, sizeof(spi), "%08x", in->spi);
	expect(a, "rows.0.children.1.spi", spi);
	json_decref(a);

	toy_now_ms += 2994 * 1000; /* to be renewed a second ago */
	a = ask_d(t);
	expect(a, "rows.0.children.0.rekey_in_s", "0");
	expect(a, "rows.0.children.0.expires_in_s", "299");
	json_decref(a);
}

/* More than fit: the one that is sent by is there all the same, although it is the oldest; then the newest of both
 * directions, and how many are not shown. */
static void test_many_children(void **state)
{
	struct toy *t = *state;
	unsigned n[2] = {0, 0};
	size_t i;
	json_t *a, *sa;

	toy_ike_up(t);
	for (uint32_t k = 0; k < 10; k++) {
		assert_non_null(toy_sa(t, true, 0, k == 0));
		assert_non_null(toy_sa(t, false, 0x1000 + k, k == 0));
	}
	a = ask_d(t);
	expect(a, "rows.0.children_more", "12");
	expect(a, "rows.0.children.0.spi", "00001000");
	expect(a, "rows.0.children.0.current", "true");
	expect(a, "rows.0.children.2.spi", "00001009");
	expect(a, "rows.0.children.6.spi", "00001007");
	json_array_foreach(json_object_get(json_array_get(json_object_get(a, "rows"), 0), "children"), i, sa)
	{
		n[strcmp(at(sa, "direction"), "in") == 0]++;
		if (i)
			assert_string_not_equal(at(sa, "current"), "true");
	}
	assert_int_equal(n[0], 4);
	assert_int_equal(n[1], 4);
	json_decref(a);
}

/* The same when the newest is the one that is sent by: its turn among the others is another one's. */
static void test_many_newest(void **state)
{
	static const struct want want[] = {{"rows.0.children.0.spi", "00001009"},
		{"rows.0.children.1.direction", "in"}, {"rows.0.children.2.spi", "00001008"},
		{"rows.0.children.3.direction", "in"}, {"rows.0.children.6.spi", "00001006"},
		{"rows.0.children_more", "12"}, {NULL, NULL}};
	struct toy *t = *state;
	json_t *a;

	toy_ike_up(t);
	for (uint32_t k = 0; k < 10; k++) {
		assert_non_null(toy_sa(t, true, 0, true));
		assert_non_null(toy_sa(t, false, 0x1000 + k, true));
	}
	a = ask_d(t);
	expect_all(a, want);
	json_decref(a);
}

/* No row is longer than it may be, with everything at its longest. */
static void test_longest_row(void **state)
{
	struct toy *t = *state;
	struct control_request r = {.gw = &t->gw};
	struct tunnel *d = d_of(t);
	char name[FS_NAME_MAX + 1];
	struct jsonw w;

	memset(name, 'x', FS_NAME_MAX);
	memcpy(name, "branch-d", 8); /* tunnels are in order of name */
	name[FS_NAME_MAX] = '\0';
	toy_ike_up(t);
	for (uint32_t k = 1; k <= 10; k++) {
		struct sa *sa[2] = {toy_sa(t, true, 0, true), toy_sa(t, false, 0xffff0000 + k, true)};

		for (int i = 0; i < 2; i++) {
			assert_non_null(sa[i]);
			sa[i]->suite = &suites[SUITE_AES_CBC_256_SHA512];
			sa[i]->transport = true;
			sa[i]->use->packets = sa[i]->use->octets = UINT64_MAX;
			sa[i]->time_s = (struct sa_limit){UINT64_MAX, UINT64_MAX};
			sa[i]->replayed = sa[i]->bad_icv = UINT64_MAX;
			sa[i]->born_ms = 1;
		}
	}
	t->tunnels[D].name = name;
	t->tunnels[D].site = name;
	t->tunnels[D].mtu = UINT32_MAX;
	for (int i = 0; i < 16; i++)
		t->tunnels[D].local.b[i] = t->tunnels[D].remote.b[i] = d->ipsec->status.local.a.b[i] =
			d->ipsec->status.remote.a.b[i] = 0xfe;
	d->rx_last_ms = 1;
	d->ipsec->status.rekey_in_s = d->ipsec->status.reauth_in_s = UINT64_MAX;
	d->ipsec->status.established_s_ago = UINT64_MAX / 2;
	memset(d->ipsec->status.local_id, '\x01', sizeof(d->ipsec->status.local_id) - 1);
	memset(d->ipsec->status.remote_id, '\xff', sizeof(d->ipsec->status.remote_id) - 1);
	memset(d->ipsec->status.algorithms, '\x02', sizeof(d->ipsec->status.algorithms) - 1);
	memset(d->ipsec->last_failure, '\x03', sizeof(d->ipsec->last_failure) - 1);
	d->ipsec->failures = UINT64_MAX;
	memset(&d->count, 0xff, sizeof(d->count));

	jw_init(&w, out, sizeof(out));
	control_list_tunnels(&r, NULL, &w);
	snprintf(r.tunnels.only, sizeof(r.tunnels.only), "%s", name);
	assert_true(r.rows(&r, &w, 0));
	assert_int_equal(*r.matched, 1);
	assert_in_range(w.len, 10000, CONTROL_ROW_MAX); /* below: something was left out of this test */
	assert_false(w.full);
}

/* A tunnel without a connection (a certificate could not be read) has a row. */
static void test_no_connection(void **state)
{
	struct toy *t = *state;
	json_t *a;

	d_of(t)->ipsec->conn = 0;
	a = ask_d(t);
	expect(a, "rows.0.ike.state", "down");
	assert_true(
		json_is_array(json_object_get(json_array_get(json_object_get(a, "rows"), 0), "children")));
	json_decref(a);
}

/* ---- status and steering ---------------------------------------------------------------------------- */

static void test_status(void **state)
{
	struct toy *t = *state;
	json_t *a = ask(t, "{\"command\":\"status\"}");

	expect(a, "result.ipsec.strongswan", "5.9.8");
	expect(a, "result.ipsec.crypto", "toy-cipher");
	expect(a, "result.ipsec.established", "0");
	expect(a, "result.ipsec.connecting", "0");
	expect(a, "result.tunnels.down", "2");
	json_decref(a);
	toy_ike_up(t);
	a = ask(t, "{\"command\":\"status\"}");
	expect(a, "result.ipsec.established", "1");
	expect(a, "result.ipsec.connecting", "0");
	expect(a, "result.tunnels.down", "0");
	json_decref(a);
	d_of(t)->ipsec->status.state = IKE_STATE_CONNECTING;
	a = ask(t, "{\"command\":\"status\"}");
	expect(a, "result.ipsec.established", "0");
	expect(a, "result.ipsec.connecting", "1");
	json_decref(a);
}

static void test_status_without(void **state)
{
	json_t *a = ask(*state, "{\"command\":\"status\"}");

	assert_true(json_is_object(json_object_get(a, "result")));
	assert_null(json_object_get(json_object_get(a, "result"), "ipsec"));
	json_decref(a);
}

static void test_steering(void **state)
{
	enum { NONE = -1 };
	/* command, arguments, by whom, is it up, what steering answers; what is steered, what is at the path of the answer */
	static const struct {
		const char *command, *args;
		enum control_access access;
		bool up;
		int result, what;
		const char *path, *want;
	} cases[] = {
		{"initiate", "\"tunnel\":\"branch-d\"", CONTROL_ADMIN, false, 0, IPSEC_INITIATE,
			"result.started", "true"},
		{"initiate", "\"tunnel\":\"branch-d\"", CONTROL_ADMIN, true, 0, IPSEC_INITIATE,
			"result.started", "true"},
		{"terminate", "\"tunnel\":\"branch-d\"", CONTROL_ADMIN, true, 0, IPSEC_TERMINATE,
			"result.started", "true"},
		{"terminate", "\"tunnel\":\"branch-d\"", CONTROL_ADMIN, false, 0, IPSEC_TERMINATE,
			"result.started", "true"},
		{"rekey", "\"tunnel\":\"branch-d\"", CONTROL_ADMIN, true, 0, IPSEC_REKEY_CHILD,
			"result.started", "true"},
		{"rekey", "\"tunnel\":\"branch-d\",\"ike\":false", CONTROL_ADMIN, true, 0, IPSEC_REKEY_CHILD,
			"result.started", "true"},
		{"rekey", "\"tunnel\":\"branch-d\",\"ike\":true", CONTROL_ADMIN, true, 0, IPSEC_REKEY_IKE,
			"result.started", "true"},
		{"rekey", "\"tunnel\":\"branch-d\"", CONTROL_ADMIN, false, 0, NONE, "error.code", "failed"},
		{"rekey", "\"tunnel\":\"branch-d\",\"ike\":1", CONTROL_ADMIN, true, 0, NONE, "error.code",
			"invalid_argument"},
		{"initiate", "\"tunnel\":\"branch-d\",\"ike\":true", CONTROL_ADMIN, true, 0, NONE,
			"error.code", "invalid_argument"},
		/* which tunnel */
		{"initiate", "", CONTROL_ADMIN, true, 0, NONE, "error.code", "invalid_argument"},
		{"rekey", "", CONTROL_ADMIN, true, 0, NONE, "error.code", "invalid_argument"},
		{"terminate", "", CONTROL_ADMIN, true, 0, NONE, "error.code", "invalid_argument"},
		{"terminate", "\"tunnel\":true", CONTROL_ADMIN, true, 0, NONE, "error.code",
			"invalid_argument"},
		{"terminate", "\"tunnel\":\"branch-a\"", CONTROL_ADMIN, true, 0, NONE, "error.code",
			"invalid_argument"},
		{"initiate", "\"tunnel\":\"branch-e\"", CONTROL_ADMIN, true, 0, NONE, "error.code",
			"invalid_argument"},
		{"initiate", "\"tunnel\":\"acme-rome\"", CONTROL_ADMIN, true, 0, NONE, "error.code",
			"not_found"},
		/* what the gateway answers */
		{"initiate", "\"tunnel\":\"branch-d\"", CONTROL_ADMIN, false, -EDESTADDRREQ, IPSEC_INITIATE,
			"error.code", "failed"},
		{"initiate", "\"tunnel\":\"branch-d\"", CONTROL_ADMIN, false, -EDESTADDRREQ, IPSEC_INITIATE,
			"error.message",
			"remote = any, and its branch was never seen: nobody knows where to call"},
		{"terminate", "\"tunnel\":\"branch-d\"", CONTROL_ADMIN, true, -ENOENT, IPSEC_TERMINATE,
			"error.code", "failed"},
		{"terminate", "\"tunnel\":\"branch-d\"", CONTROL_ADMIN, true, -ENOMEM, IPSEC_TERMINATE,
			"error.message", "not enough memory"},
		/* rights */
		{"initiate", "\"tunnel\":\"branch-d\"", CONTROL_READ, true, 0, NONE, "error.code", "access"},
		{"rekey", "\"tunnel\":\"branch-d\"", CONTROL_READ, true, 0, NONE, "error.code", "access"},
		{"terminate", "\"tunnel\":\"branch-d\"", CONTROL_READ, true, 0, NONE, "error.code", "access"},
	};
	struct toy *t = *state;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char line[128];
		json_t *a;

		toy_ike_up(t);
		if (!cases[i].up) {
			d_of(t)->ipsec->status.state = IKE_STATE_DOWN;
			d_of(t)->ipsec->suite = NULL;
		}
		t->steers = 0;
		t->steer_result = cases[i].result;
		snprintf(line, sizeof(line), "{\"command\":\"%s\",\"args\":{%s}}", cases[i].command,
			cases[i].args);
		a = ask_as(t, cases[i].access, line);
		if (strcmp(at(a, cases[i].path), cases[i].want) != 0)
			fail_msg("case %zu, %s: %s is \"%s\"", i, line, cases[i].path, at(a, cases[i].path));
		if (t->steers != (cases[i].what != NONE) ||
			(t->steers && (t->steered != d_of(t) || (int)t->steered_what != cases[i].what)))
			fail_msg("case %zu, %s: steered %u times, %d", i, line, t->steers,
				(int)t->steered_what);
		json_decref(a);
	}
}

/* An IKE_SA alone can be renewed; what it has not, cannot. */
static void test_rekey_childless(void **state)
{
	struct toy *t = *state;
	json_t *a;

	toy_ike_up(t);
	d_of(t)->ipsec->suite = NULL;
	a = ask(t, "{\"command\":\"rekey\",\"args\":{\"tunnel\":\"branch-d\"}}");
	expect(a, "error.code", "failed");
	json_decref(a);
	a = ask(t, "{\"command\":\"rekey\",\"args\":{\"tunnel\":\"branch-d\",\"ike\":true}}");
	expect(a, "result.started", "true");
	json_decref(a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_types, setup_ipsec, teardown),
		cmocka_unit_test_setup_teardown(test_one, setup_ipsec, teardown),
		cmocka_unit_test_setup_teardown(test_ike_states, setup_ipsec, teardown),
		cmocka_unit_test_setup_teardown(test_nat, setup_ipsec, teardown),
		cmocka_unit_test_setup_teardown(test_identities, setup_ipsec, teardown),
		cmocka_unit_test_setup_teardown(test_children, setup_ipsec, teardown),
		cmocka_unit_test_setup_teardown(test_many_children, setup_ipsec, teardown),
		cmocka_unit_test_setup_teardown(test_many_newest, setup_ipsec, teardown),
		cmocka_unit_test_setup_teardown(test_longest_row, setup_ipsec, teardown),
		cmocka_unit_test_setup_teardown(test_no_connection, setup_ipsec, teardown),
		cmocka_unit_test_setup_teardown(test_status, setup_ipsec, teardown),
		cmocka_unit_test_setup_teardown(test_status_without, setup, teardown),
		cmocka_unit_test_setup_teardown(test_steering, setup_ipsec, teardown),
		cmocka_unit_test_setup_teardown(test_rekey_childless, setup_ipsec, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
