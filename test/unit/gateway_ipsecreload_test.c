/* SPDX-License-Identifier: GPL-2.0-or-later */
/* gateway_ipsecreload_test.c - what a reload leaves of IPsec's connections, and what the key exchange says late. */
#include "test/unit/ipsec_rig.h"

static struct tunnel *named(const char *name)
{
	return tunnels_by_name(rig.gw.tunnels, name);
}

static void only_the_path(struct conf_tunnel *c)
{
	c->ttl = 9;
	c->dscp = 46;
	c->mtu = 1300;
	c->priority = 7;
	c->allowed_sources = (struct prefix_list){rig.private_ok, 1};
}

static void secret(struct conf_tunnel *c)
{
	c->ike.psk = (char *)(uintptr_t) "new";
	c->ike.psk_len = 3;
}

static void certificate(struct conf_tunnel *c)
{
	c->ike.files_hash[7] = 1;
}

static void padding(struct conf_tunnel *c)
{
	c->ike.tfc_padding = TFC_MTU;
}

static void branch(struct conf_tunnel *c)
{
	c->ike.remote_id = (char *)(uintptr_t) "another";
}

static void identity_is_ours_now(struct conf_tunnel *c)
{
	c->ike.local_id = c->ike.remote_id;
	c->ike.remote_id = NULL;
}

static void address(struct conf_tunnel *c)
{
	c->remote = test_addr("203.0.113.200");
	c->remote_any = false;
}

static void site(struct conf_tunnel *c)
{
	c->site = (char *)(uintptr_t) "Q";
}

static void type(struct conf_tunnel *c)
{
	c->type = TUNNEL_GRE;
	c->remote = test_addr("203.0.113.5");
	c->remote_any = false;
	c->ike = (struct conf_ike){NULL};
}

static void nothing(struct conf_tunnel *c)
{
	(void)c;
}

/* What becomes of p1, its SAs, its flows, and where its branch was. */
static void reloads(void **state)
{
	static const struct {
		const char *what;
		void (*change)(struct conf_tunnel *c); /* NULL: removed */
		bool keeps_sas, keeps_flows, is_ipsec, is_remembered;
	} rows[] = {
		{"nothing", nothing, true, true, true, true},
		{"what only the path uses", only_the_path, true, true, true, true},
		{"its secret", secret, false, true, true, true},
		{"a certificate", certificate, false, true, true, true},
		{"padding", padding, false, true, true, true},
		{"the branch", branch, false, false, true, false},
		{"an identity from one side to the other", identity_is_ours_now, false, false, true, false},
		{"its address", address, false, false, true, false},
		{"its site", site, false, false, true, false},
		{"its type", type, false, false, false, false},
		{"removed", NULL, false, false, false, false},
	};
	static struct rig_next next[sizeof(rows) / sizeof(rows[0])];

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct tunnel *t;
		uint32_t conn, conn_q;
		fs_id id;

		if (i) {
			ipsec_rig_down(state);
			ipsec_rig_up(state);
		}
		print_message("  %s\n", rows[i].what);
		child_up(child_begin(P1));
		child_up(child_begin(Q1));
		conn = conn_of(P1);
		conn_q = conn_of(Q1);
		id = rig_at(P1)->id;
		begin_flow(P1);
		assert_int_equal(fs_attach_flows(rig.gw.fs, id), 1);
		assert_true(peers_has("p1", "4500 203.0.113.5 4500"));
		rig_next_begin(&next[i]);
		if (rows[i].change)
			rows[i].change(rig_next_at(&next[i], "p1"));
		else
			rig_next_remove(&next[i], "p1");
		ipsec_rig_reload(&next[i]);
		t = named("p1");
		assert_int_equal(did_count(DID_REMOVE, conn), !rows[i].keeps_sas);
		assert_int_equal(did_count(DID_REMOVE, 0), !rows[i].keeps_sas);
		assert_int_equal(sad_first(stub.o.sad, conn, true) != NULL, rows[i].keeps_sas);
		assert_int_equal(sad_first(stub.o.sad, conn, false) != NULL, rows[i].keeps_sas);
		assert_int_equal(crypto_keys_count(stub.o.keys), rows[i].keeps_sas ? 4 : 2);
		assert_int_equal(fs_attach_flows(rig.gw.fs, id), rows[i].keeps_flows);
		assert_int_equal(peers_has("p1", ""), rows[i].is_remembered);
		assert_int_equal(t && t->ipsec, rows[i].is_ipsec);
		assert_int_equal(did_count(DID_ADD, 0), NIPSEC + (rows[i].is_ipsec && !rows[i].keeps_sas));
		if (rows[i].is_ipsec)
			assert_int_equal(t->ipsec->conn == conn, rows[i].keeps_sas);
		if (t && !rows[i].keeps_sas && t->ipsec)
			assert_int_equal(t->ipsec->status.state, IKE_STATE_DOWN);
		/* nobody else noticed */
		assert_int_equal(named("q1")->ipsec->conn, conn_q);
		assert_int_equal(tunnel_state(named("q1"), rig.now), TUNNEL_UP);
	}
}

/* What the key exchange still has to say of a connection that was replaced is nothing to the new one. */
static void late_events(void **state)
{
	static struct rig_next next;
	struct child *old = child_up(child_begin(P1)), *more, *fresh;
	struct ike_event *e;
	struct tunnel *t;

	(void)state;
	more = child_keyed(child_begin(P1));
	rig_next_begin(&next);
	secret(rig_next_at(&next, "p1"));
	say_add(more, true); /* before the reload, and not heard yet */
	say_add(more, false);
	ipsec_rig_reload(&next);
	t = rig_at(P1);
	assert_int_not_equal(t->ipsec->conn, old->conn);
	assert_int_equal(crypto_keys_count(stub.o.keys), 0);
	more = child_begin(P1);
	more->conn = old->conn;
	child_keyed(more);
	fresh = child_begin(P1);
	child_up(fresh);
	say_add(more, true);
	say_add(more, false);
	say_moved(fresh, &fresh->remote);
	say_status(old, IKE_STATE_UP, 77, 0);
	say_status(old, IKE_STATE_DOWN, old->ike, 0);
	say_delete(old, true);
	say_delete(old, false);
	e = event(IKE_EVENT_SA_DELETE, old->conn); /* the peer has used the same SPI again */
	e->spi = fresh->out_spi;
	say(e);
	e = event(IKE_EVENT_FAILED, old->conn);
	e->count = 1;
	e->text = strdup("no proposal chosen");
	say(e);
	e = event(IKE_EVENT_LOG, old->conn);
	e->text = strdup("closing");
	say(e);
	heard();
	assert_int_equal(crypto_keys_count(stub.o.keys), 2);
	assert_false(sad_is_reserved(stub.o.sad, more->in_spi));
	assert_int_equal(t->ipsec->failures, 0);
	assert_int_equal(t->ipsec->status.ike, fresh->ike);
	assert_int_equal(t->ipsec->status.state, IKE_STATE_UP);
	assert_int_equal(tunnel_state(t, rig.now), TUNNEL_UP);
	assert_false(peers_has("p1", "4500 203.0.113.5 4501"));
}

/* Numbers begin anew after 65,535 connections, and none is 0. */
static void numbers_begin_anew(void **state)
{
	static struct rig_next next[2];

	(void)state;
	rig.gw.ipsec->generation = 65534;
	rig_next_begin(&next[0]);
	for (size_t i = 0; i < NIPSEC; i++)
		secret(&next[0].ct[ipsec_tunnels[i]]);
	ipsec_rig_reload(&next[0]);
	for (size_t i = 0; i < NIPSEC; i++) {
		static const uint32_t want[] = {65535, 1, 2, 3};

		assert_int_equal(conn_of(ipsec_tunnels[i]) >> 16, want[i]);
		child_up(child_begin(ipsec_tunnels[i]));
		assert_int_equal(tunnel_state(rig_at(ipsec_tunnels[i]), rig.now), TUNNEL_UP);
	}
}

static void one_that_cannot_be_added(void **state)
{
	static struct rig_next next;
	uint32_t before = conn_of(P1);

	(void)state;
	child_up(child_begin(Q1));
	rig_next_begin(&next);
	rig_next_at(&next, "p1")->ike.psk = (char *)(uintptr_t) "new";
	stub.add_err = -ENOENT;
	ipsec_rig_reload(&next);
	stub.add_err = 0;
	assert_int_equal(conn_of(P1), 0);
	assert_int_equal(tunnel_state(rig_at(P1), rig.now), TUNNEL_DOWN);
	assert_int_equal(tunnel_state(rig_at(Q1), rig.now), TUNNEL_UP);
	assert_null(ipsec_sas(rig.gw.ipsec, rig_at(P1), true));
	assert_int_equal(ipsec_steer(rig.gw.ipsec, rig_at(P1), IPSEC_INITIATE), -ENOENT);
	ipsec_rig_reload(&next); /* the next one tries again, by another number */
	assert_int_not_equal(conn_of(P1), 0);
	assert_int_not_equal(conn_of(P1), before);
}

#define CASE(f) IPSEC_CASE(f)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(reloads),
		CASE(late_events),
		CASE(numbers_begin_anew),
		CASE(one_that_cannot_be_added),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
