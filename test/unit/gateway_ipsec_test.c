/* SPDX-License-Identifier: GPL-2.0-or-later */
/* gateway_ipsec_test.c - IPsec's life in the gateway: opening and closing, connections at a start, what the key exchange
 * tells, lifetimes, errors of the outer path.
 */
#include "test/unit/ipsec_rig.h"

#include <inttypes.h>

/* ---- start ----------------------------------------------------------------------------------------------- */

static void numbers_of_connections(void **state)
{
	(void)state;
	assert_int_equal(stub.ncalls, NIPSEC);
	for (size_t i = 0; i < NIPSEC; i++) {
		const struct tunnel *t = rig_at(ipsec_tunnels[i]);

		assert_int_equal(did_count(DID_ADD, t->ipsec->conn), 1);
		assert_int_equal(t->ipsec->conn & 0xffff, FS_SLOT(t->id));
		assert_true(t->ipsec->conn >> 16);
		assert_ptr_equal(tunnels_by_conn(rig.gw.tunnels, t->ipsec->conn), t);
		assert_null(tunnels_by_conn(rig.gw.tunnels, t->ipsec->conn + 0x10000));
		assert_int_equal(tunnel_state(t, rig.now), TUNNEL_DOWN);
	}
	assert_null(tunnels_by_conn(rig.gw.tunnels, 0));
	assert_null(tunnels_by_conn(rig.gw.tunnels, 0x10000u | FS_SLOT(rig_at(A1)->id))); /* GRE has none */
}

/* This process ends. */
static void stop(void)
{
	ipsec_end();
	for (size_t i = 0; i < NIPSEC; i++)
		*rig_at(ipsec_tunnels[i])->ipsec = (struct tunnel_ipsec){.conn = 0};
	stub.ncalls = 0;
}

/* Another process begins, with the peers' file that the last one left. */
static void start_again(const char *name, uint64_t identity, const char *where, uint64_t seen_s)
{
	FILE *f;

	stop();
	f = fopen(peers_path(), "w");
	assert_non_null(f);
	fprintf(f, "%s %016" PRIx64 " %s %" PRIu64 "\n", name, identity, where, seen_s);
	fclose(f);
	ipsec_begin();
}

/* Branches of the last run are called, where they were: but for those that are called anyway. One whose tunnel is another's
 * now is called where that one's is configured to be, if it is. What is of no tunnel any more is forgotten. */
static void branches_are_called_back(void **state)
{
	enum { SAME, ANOTHER };
	static const struct {
		const char *what, *name;
		unsigned tunnel; /* that is called */
		int identity;
		const char *where;
		const char *remote; /* that is called; NULL: as configured */
		uint16_t port, local_port;
		bool calls, keeps;
	} rows[] = {
		{"from anywhere", "p1", P1, SAME, "4500 203.0.113.77 1024", "203.0.113.77", 1024, 4500, true,
			true},
		{"from anywhere, IPv6", "p1", P1, SAME, "500 2001:db8::2 500", "2001:db8::2", 500, 500, true,
			true},
		{"from anywhere, and another's", "p1", P1, ANOTHER, "4500 203.0.113.77 1024", NULL, 0, 0,
			false, false},
		{"where it is configured to be", "x1", X1, SAME, "4500 203.0.113.8 1024", "203.0.113.8", 1024,
			4500, true, true},
		{"moved", "x1", X1, SAME, "4500 2001:db8::2 4500", "2001:db8::2", 4500, 4500, true, true},
		{"configured anew", "x1", X1, ANOTHER, "4500 203.0.113.77 1024", NULL, 0, IKE_PORT, true,
			false},
		{"configured anew, to where it was", "x1", X1, ANOTHER, "4500 203.0.113.8 1024",
			"203.0.113.8", 1024, 4500, true, false},
		{"called anyway", "q1", Q1, SAME, "500 203.0.113.7 500", NULL, 0, 0, false, true},
		{"not of IPsec", "p2", P2, SAME, "500 203.0.113.7 500", NULL, 0, 0, false, false},
		{"gone", "p0", P1, SAME, "500 203.0.113.7 500", NULL, 0, 0, false, false},
	};

	(void)state;
	rig.ct[Q1].ike.initiate = true;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const struct conf_tunnel *t = &rig.ct[rows[i].tunnel];
		uint64_t identity = tunnel_identity(t) + (rows[i].identity == ANOTHER);
		struct addr remote;
		const struct stub_call *c;

		print_message("  %s\n", rows[i].what);
		start_again(rows[i].name, identity, rows[i].where, rig.now / 1000);
		assert_int_equal(did_count(DID_ADD, 0), NIPSEC);
		assert_int_equal(did_count(DID_INITIATE, 0), rows[i].calls);
		assert_int_equal(peers_has(rows[i].name, rows[i].where), rows[i].keeps);
		assert_int_equal(peers_has(rows[i].name, ""), rows[i].keeps);
		if (!rows[i].calls)
			continue;
		c = did_last(DID_INITIATE);
		assert_int_equal(c->id, conn_of(rows[i].tunnel));
		assert_int_equal(c->has_remote, rows[i].remote != NULL);
		assert_int_equal(c->local_port, rows[i].local_port);
		if (!rows[i].remote)
			continue;
		remote = test_addr(rows[i].remote);
		assert_true(addr_eq(&c->remote.a, &remote));
		assert_int_equal(c->remote.port, rows[i].port);
	}
}

/* Who was there too long ago is not called, unless by the operator; a time to come is of before the machine was started. */
static void calling_back_has_an_end(void **state)
{
	static const struct {
		uint64_t ago_s;
		bool calls, keeps;
	} rows[] = {{0, true, true}, {3600, true, true}, {3601, false, true}, {9000, false, true},
		{UINT64_MAX, false, false}};

	(void)state;
	rig.now = 10000000;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		print_message("  %" PRIu64 " s ago\n", rows[i].ago_s);
		start_again("p1", tunnel_identity(&rig.ct[P1]), "4500 203.0.113.77 1024",
			rig.now / 1000 - rows[i].ago_s);
		assert_int_equal(did_count(DID_INITIATE, 0), rows[i].calls);
		assert_int_equal(ipsec_steer(rig.gw.ipsec, rig_at(P1), IPSEC_INITIATE),
			rows[i].keeps ? 0 : -EDESTADDRREQ);
	}
}

static void assert_seen(const char *where, uint64_t at_s)
{
	char line[128];

	snprintf(line, sizeof(line), "%s %" PRIu64, where, at_s);
	assert_true(peers_has("p1", line));
}

/* It is noted every five minutes that a branch is up, and once more at the end. */
static void when_it_was_up(void **state)
{
	const char *where = "4500 203.0.113.5 4500";
	struct child *c;
	uint64_t up_s, then_s;

	(void)state;
	ipsec_second(rig.gw.ipsec);
	child_up(child_begin(P1));
	up_s = rig.now / 1000;
	for (unsigned i = 0; i < 299; i++) {
		rig.now += 1000;
		ipsec_second(rig.gw.ipsec);
	}
	assert_seen(where, up_s);
	rig.now += 1000;
	then_s = rig.now / 1000;
	ipsec_second(rig.gw.ipsec);
	assert_seen(where, then_s);
	rig.now += 100000;
	then_s = rig.now / 1000;
	stop();
	ipsec_begin();
	assert_seen(where, then_s);
	assert_int_equal(did_count(DID_INITIATE, conn_of(P1)), 1);

	c = child_up(child_begin(P1));
	then_s = rig.now / 1000;
	say_status(c, IKE_STATE_DOWN, c->ike, 0);
	heard();
	rig.now += 400000;
	ipsec_second(rig.gw.ipsec);
	stop();
	ipsec_begin();
	assert_seen(where, then_s);
}

/* A reload that ends a connection leaves a stock branch without one: it is called back, too, and again while it does not
 * come; but not one that could not be added, which is forgotten with its tunnel. */
static void a_reload_calls_back(void **state)
{
	static struct rig_next next[3];
	unsigned calls = 2;

	(void)state;
	start_again("p1", tunnel_identity(&rig.ct[P1]), "4500 203.0.113.77 1024", rig.now / 1000);
	rig_next_begin(&next[0]);
	for (size_t i = 0; i < NIPSEC; i++)
		next[0].ct[ipsec_tunnels[i]].ike.psk = (char *)(uintptr_t) "new";
	stub.add_err = -ENOENT;
	ipsec_rig_reload(&next[0]);
	stub.add_err = 0;
	assert_int_equal(did_count(DID_ADD, 0), 2 * NIPSEC);
	assert_int_equal(did_count(DID_INITIATE, 0), 1);
	assert_true(peers_has("p1", "4500 203.0.113.77 1024"));
	next[1] = next[0];
	next[1].conf.tunnels = next[1].ct;
	next[1].ct[P1].ike.psk = (char *)(uintptr_t) "newer";
	ipsec_rig_reload(&next[1]);
	assert_int_equal(did_count(DID_INITIATE, conn_of(P1)), 1);
	assert_int_equal(did_last(DID_INITIATE)->remote.port, 1024);
	for (unsigned s = 1; s <= 3600; s++) { /* after 15, 45, 105, 225 seconds, and then each 120 */
		bool due = s == 15 || s == 45 || s == 105 || (s > 105 && (s - 105) % 120 == 0);

		rig.now += 1000;
		ipsec_second(rig.gw.ipsec);
		calls += due;
		assert_int_equal(did_count(DID_INITIATE, 0), calls);
	}
	rig.now += 1000000; /* nobody is called who was up an hour ago */
	ipsec_second(rig.gw.ipsec);
	assert_int_equal(did_count(DID_INITIATE, 0), calls);
	next[2] = next[1];
	next[2].conf.tunnels = next[2].ct;
	rig_next_remove(&next[2], "p1");
	ipsec_rig_reload(&next[2]);
	assert_false(peers_has("p1", ""));
}

/* A machine without IPv6 does without; any other socket that cannot be had is the end, and nothing is left open. */
static void opening(void **state)
{
	char err[256];

	(void)state;
	for (unsigned i = 0; i < 14; i++) {
		struct ipsec *s = NULL;
		bool no_v6 = i < 6 && i % 2;

		ipsec_end();
		stub.opens = 0;
		stub.open_err = i < 6 ? -EAFNOSUPPORT : i < 12 ? -EADDRINUSE : 0;
		stub.open_err_at = i % 6;
		stub.start_err = i == 12 ? -ENOTSUP : 0;
		err[0] = 0;
		assert_int_equal(ipsec_open(&s, &rig.gw, err, sizeof(err)), no_v6 || i == 13 ? 0
									    : i == 12        ? -ENOTSUP
											     : stub.open_err);
		if (i >= 6 && i < 12)
			assert_non_null(strstr(err, "another key daemon"));
		if (i == 12)
			assert_string_equal(err, "no library");
		rig.gw.ipsec = s;
	}
}

/* ---- what the key exchange tells --------------------------------------------------------------------------- */

static void states(void **state)
{
	struct sa_end moved = {test_addr("2001:db8::77"), 4500};
	struct child *c;
	struct ike_event *e;
	struct tunnel *t = rig_at(P1);

	(void)state;
	assert_false(peers_has("p1", ""));
	c = child_begin(P1);
	say_status(c, IKE_STATE_CONNECTING, 0, 0);
	heard();
	assert_int_equal(t->ipsec->status.state, IKE_STATE_CONNECTING);
	assert_int_equal(tunnel_state(t, rig.now), TUNNEL_DOWN);
	child_keyed(c);
	say_add(c, true);
	heard();
	assert_int_equal(tunnel_state(t, rig.now), TUNNEL_DOWN); /* nothing to send by yet */
	say_add(c, false);
	heard();
	assert_int_equal(tunnel_state(t, rig.now), TUNNEL_UP);
	rig.now += 10;
	say_status(c, IKE_STATE_UP, c->ike, 0);
	heard();
	assert_int_equal(t->ipsec->status_ms, rig.now);
	assert_true(
		peers_file_has("p1", "4500 203.0.113.5 4500")); /* at once: the next moment may be a kill */
	say_moved(c, &moved);
	say_status(c, IKE_STATE_UP, c->ike, 0);
	heard();
	assert_true(peers_file_has(
		"p1", "4500 203.0.113.5 4500")); /* but not for each of many that come at once */
	assert_true(peers_has("p1", "4500 2001:db8::77 4500"));
	assert_true(addr_eq(&t->ipsec->remote.a, &moved.a));
	for (unsigned i = 0; i < 3; i++) {
		e = event(IKE_EVENT_FAILED, i < 2 ? c->conn : 0);
		e->count = 1 + i * 10; /* those that were held back count, too */
		e->text = strdup(i ? "AUTHENTICATION_FAILED" : "no proposal chosen");
		say(e);
	}
	heard();
	assert_int_equal(t->ipsec->failures, 12);
	assert_string_equal(t->ipsec->last_failure, "AUTHENTICATION_FAILED");
	say_delete(c, false);
	heard();
	assert_int_equal(tunnel_state(t, rig.now), TUNNEL_DOWN);
	say_delete(c, true);
	say_status(c, IKE_STATE_DOWN, c->ike, 0);
	heard();
	assert_int_equal(t->ipsec->status.state, IKE_STATE_DOWN);
	assert_true(peers_has("p1", "")); /* to be called back after a restart */
}

/* SAs that the database does not take are gone, and nothing else is; the key exchange is told to end them. */
static void sas_that_are_not_taken(void **state)
{
	struct child *c = child_up(child_begin(P1)), *d;
	struct spec back;

	(void)state;
	say_add(c, true); /* twice */
	say_add(c, false);
	d = child_keyed(child_begin(P1));
	d->in_spi ^= 1; /* an SPI that nobody has reserved */
	say_add(d, true);
	heard();
	assert_int_equal(crypto_keys_count(stub.o.keys), 2);
	assert_int_equal(did_count(DID_HARD, c->conn), 3);
	assert_int_equal(did_last(DID_HARD)->spi, d->in_spi);
	assert_int_equal(rig_at(P1)->ipsec->failures, 3);
	assert_int_equal(tunnel_state(rig_at(P1), rig.now), TUNNEL_UP);
	ir.of[P1] = c;
	back = begin_flow(P1);
	assert_ptr_equal(sends_by(&back), c);
}

static void lifetimes(void **state)
{
	struct child *c = child_begin(P1);
	struct spec s = kind_spec(UDP4);

	(void)state;
	c->time_s = (struct sa_limit){10, 20};
	child_up(c);
	rig.now += 9999;
	ipsec_tick(rig.gw.ipsec);
	assert_int_equal(did_count(DID_SOFT, 0) + did_count(DID_HARD, 0), 0);
	rig.now += 1;
	for (unsigned i = 0; i < 3; i++)
		ipsec_tick(rig.gw.ipsec);
	assert_int_equal(did_count(DID_SOFT, c->conn), 2); /* each direction once */
	assert_int_equal(tunnel_state(rig_at(P1), rig.now), TUNNEL_UP);
	rig.now += 10000;
	ipsec_tick(rig.gw.ipsec);
	assert_int_equal(did_count(DID_HARD, c->conn), 2);
	assert_int_equal(tunnel_state(rig_at(P1), rig.now), TUNNEL_DOWN);
	from_any(P1, &s);
	assert_int_equal(rig.nout, 0);
	assert_int_equal(rig_at(P1)->count.drops[DROP_ESP_EXPIRED], 1);
}

/* Limits of packets and octets are told of with the packet that reaches them, not at the next tick; once a direction. */
static void limits_by_volume(void **state)
{
	struct spec s = kind_spec(UDP4), back;

	(void)state;
	for (unsigned octets = 0; octets < 2; octets++) {
		struct child *c = child_begin(P1);
		unsigned before = did_count(DID_SOFT, 0);

		if (octets)
			c->octets = (struct sa_limit){3 * 128, 10 * 128};
		else
			c->packets = (struct sa_limit){3, 10};
		child_up(c);
		back = begin_flow(P1); /* the first packet in */
		for (unsigned i = 0; i < 3; i++) {
			assert_int_equal(did_count(DID_SOFT, c->conn), before + (i > 1));
			from_any(P1, &s);
		}
		assert_int_equal(did_last(DID_SOFT)->spi, c->in_spi);
		for (unsigned i = 0; i < 4; i++) {
			assert_int_equal(did_count(DID_SOFT, c->conn), before + 1 + (i > 2));
			from_egress(&back);
		}
		ipsec_tick(rig.gw.ipsec);
		assert_int_equal(did_count(DID_SOFT, c->conn), before + 2);
		assert_int_equal(did_count(DID_HARD, c->conn), 0);
		say_delete(c, true);
		say_delete(c, false);
		heard();
	}
}

static void steering(void **state)
{
	struct ipsec *s = rig.gw.ipsec;

	(void)state;
	assert_int_equal(ipsec_steer(s, rig_at(A1), IPSEC_INITIATE), -ENOENT);
	assert_int_equal(ipsec_steer(s, rig_at(P1), IPSEC_INITIATE),
		-EDESTADDRREQ); /* from anywhere, and never seen */
	assert_int_equal(ipsec_steer(s, rig_at(Q1), IPSEC_INITIATE), 0);
	assert_false(did_last(DID_INITIATE)->has_remote);
	child_up(child_begin(P1));
	assert_int_equal(ipsec_steer(s, rig_at(P1), IPSEC_INITIATE), 0);
	assert_int_equal(did_last(DID_INITIATE)->remote.port, 4500);
	assert_int_equal(ipsec_steer(s, rig_at(P1), IPSEC_REKEY_IKE), 0);
	assert_int_equal(ipsec_steer(s, rig_at(P1), IPSEC_REKEY_CHILD), 0);
	assert_int_equal(ipsec_steer(s, rig_at(P1), IPSEC_TERMINATE), 0);
	assert_int_equal(did_count(DID_REKEY_IKE, conn_of(P1)), 1);
	assert_int_equal(did_count(DID_REKEY_CHILD, conn_of(P1)), 1);
	assert_int_equal(did_count(DID_TERMINATE, conn_of(P1)), 1);
}

static void what_the_kernel_lost_is_counted_once(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		stub.sock[IPSEC_UDP_4500][0]->lost = 5 * i;
		stub.sock[IPSEC_RAW][1]->lost = 7 * i;
		ipsec_second(rig.gw.ipsec);
		assert_int_equal(rig_drops(DROP_RX_QUEUE), 12 * i);
	}
}

/* ---- errors of the outer path ------------------------------------------------------------------------------ */

/* What ICMP says of sizes is believed when it quotes an SA that is there, and where it leads. */
static void news_of_the_outer_path(void **state)
{
	enum { LIVE, TWIN, GONE, OTHERS, NONE };
	static const struct {
		const char *what, *remote;
		uint16_t port;
		unsigned spi;
		int err;
		uint32_t mtu;
		bool not_esp;
		uint32_t later_ms;
		uint32_t pmtu; /* of p1 afterwards */
	} rows[] = {
		{"no ESP", "203.0.113.5", 4500, LIVE, EMSGSIZE, 1300, true, 10, 0},
		{"the inbound SPI", "203.0.113.5", 4500, TWIN, EMSGSIZE, 1300, false, 10, 0},
		{"an SPI of before", "203.0.113.5", 4500, GONE, EMSGSIZE, 1300, false, 10, 0},
		{"another's SPI", "203.0.113.5", 4500, OTHERS, EMSGSIZE, 1300, false, 10, 0},
		{"to somebody else", "203.0.113.6", 4500, LIVE, EMSGSIZE, 1300, false, 10, 0},
		{"to another port", "203.0.113.5", 4501, LIVE, EMSGSIZE, 1300, false, 10, 0},
		{"unreachable", "203.0.113.5", 4500, LIVE, EHOSTUNREACH, 0, false, 10, 0},
		{"no SPI, to somebody else", "203.0.113.6", 4500, NONE, EMSGSIZE, 1300, false, 10, 0},
		{"no SPI, to another port", "203.0.113.5", 4501, NONE, EMSGSIZE, 1300, false, 10, 0},
		{"no SPI, unreachable", "203.0.113.5", 4500, NONE, EHOSTUNREACH, 0, false, 10, 0},
		{"too big", "203.0.113.5", 4500, LIVE, EMSGSIZE, 1400, false, 10, 1400},
		{"at once after it", "203.0.113.5", 4500, LIVE, EMSGSIZE, 1390, false, 0, 1390},
		{"larger", "203.0.113.5", 4500, LIVE, EMSGSIZE, 1450, false, 10, 1390},
		{"smaller", "203.0.113.5", 4500, LIVE, EMSGSIZE, 1340, false, 10, 1340},
		{"no SPI", "203.0.113.5", 4500, NONE, EMSGSIZE, 1300, false, 10, 1300},
		{"no SPI, forged", "203.0.113.5", 4500, NONE, EMSGSIZE, 68, false, 10, 1280},
		{"forged", "203.0.113.5", 4500, LIVE, EMSGSIZE, 68, false, 10, 576},
		{"unknown size", "203.0.113.5", 4500, LIVE, EMSGSIZE, 0, false, TUNNEL_PMTU_MS, 576},
		{"after a while", "203.0.113.5", 4500, LIVE, EMSGSIZE, 1480, false, TUNNEL_PMTU_MS, 1480},
	};
	struct child *c, *gone, *other;
	struct ipsec_sock *s = stub.sock[IPSEC_UDP_4500][0];

	(void)state;
	gone = child_up(child_begin(P1));
	c = child_begin(P1);
	c->initiator = true;
	child_keyed(c);
	say_add(c, true);
	say_add(c, false);
	say_delete(gone, true);
	say_delete(gone, false);
	other = child_up(child_begin(Q1));
	close(s->reader); /* now the other end says POLLERR */
	s->reader = -1;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		uint32_t spis[] = {c->out_spi, c->in_spi, gone->out_spi, other->out_spi, 0};

		rig.now += rows[i].later_ms;
		s->errors[s->nerrors++] = (struct ipsec_error){.local = c->local,
			.remote = {test_addr(rows[i].remote), rows[i].port},
			.err = rows[i].err,
			.mtu = rows[i].mtu,
			.is_esp = !rows[i].not_esp,
			.spi = spis[rows[i].spi]};
		heard();
		assert_int_equal(s->nerrors, 0);
		if (tunnel_known_pmtu(rig_at(P1), rig.now) != rows[i].pmtu)
			fail_msg("%s: %u", rows[i].what, tunnel_known_pmtu(rig_at(P1), rig.now));
		assert_int_equal(tunnel_known_pmtu(rig_at(Q1), rig.now), 0);
		assert_int_equal(tunnel_state(rig_at(P1), rig.now), TUNNEL_UP);
	}
}

static void news_for_ipv6(void **state)
{
	struct child *c = child_begin(X1);
	struct ipsec_sock *s = stub.sock[IPSEC_RAW][1];

	(void)state;
	c->local = (struct sa_end){test_addr("2001:db8::1"), 0};
	c->remote = (struct sa_end){test_addr("2001:db8::2"), 0};
	child_up(c);
	close(s->reader);
	s->reader = -1;
	s->errors[s->nerrors++] = (struct ipsec_error){.local = c->local,
		.remote = c->remote,
		.err = EMSGSIZE,
		.mtu = 576,
		.is_esp = true,
		.spi = c->out_spi};
	heard();
	assert_int_equal(rig_at(X1)->pmtu, 1280);
	assert_int_equal(tunnel_mtu(rig_at(X1), 4, rig.now), 1280 - 40 - 32 - 2);
	assert_int_equal(tunnel_mtu(rig_at(X2), 4, rig.now), 1280 - 40 - 32 - 2 - 24);
}

/* ---- closing ------------------------------------------------------------------------------------------------ */

/* Whatever lies in the mailbox, before or while it ends, is freed: the sanitizers look. */
static void closing_with_events_untaken(void **state)
{
	struct child *c = child_up(child_begin(P1)), *d = child_keyed(child_begin(Q1));
	struct spec s = kind_spec(UDP4);
	static uint8_t b[512];
	struct ike_event *e;

	(void)state;
	put_esp(d, ESP_NEXT_IPV4, b, packet_make(b, &s), 0);
	run_ipsec(); /* is held */
	say_delete(c, true);
	say_add(d, true);
	say_add(d, false);
	say_status(d, IKE_STATE_UP, d->ike, 0);
	e = event(IKE_EVENT_FAILED, 0);
	e->count = 1;
	e->text = strdup("gone");
	say(e);
	e = event(IKE_EVENT_LOG, 0);
	e->text = strdup("closing");
	say(e);
	stub.at_stop = event(IKE_EVENT_SA_ADD, c->conn);
	stub.at_stop->sa = child_sa(c, false);
	put_ipsec(P1, b, packet_make(b, &s)); /* and what nobody reads */
	ipsec_end();
	assert_int_equal(rig.nout, 0);                              /* nor is anything of it done any more */
	assert_true(peers_file_has("q1", "4500 203.0.113.7 4500")); /* but who came up is called back */
	assert_int_equal(crypto_keys_count(ir.keys), 4);
	ipsec_begin();
}

#define CASE(f) IPSEC_CASE(f)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(numbers_of_connections),
		CASE(branches_are_called_back),
		CASE(calling_back_has_an_end),
		CASE(when_it_was_up),
		CASE(a_reload_calls_back),
		CASE(opening),
		CASE(states),
		CASE(sas_that_are_not_taken),
		CASE(lifetimes),
		CASE(limits_by_volume),
		CASE(steering),
		CASE(what_the_kernel_lost_is_counted_once),
		CASE(news_of_the_outer_path),
		CASE(news_for_ipv6),
		CASE(closing_with_events_untaken),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
