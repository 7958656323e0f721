/* SPDX-License-Identifier: GPL-2.0-or-later */
/* gateway_pathover_test.c - GRE over IPsec, in tunnel mode (x2 over x1) and in transport mode (y2 over y1): accepted from
 * there only, and what the two headers have to say to each other.
 */
#include "test/unit/ipsec_rig.h"

/* x1 and y1 with IPv4 or IPv6 in and outside; the answer to a packet that has come by each. */
static void over_up(bool v6_outside)
{
	static const unsigned on[] = {X1, Y1};

	for (unsigned i = 0; i < 2; i++) {
		struct child *c = child_begin(on[i]);

		if (v6_outside) {
			c->local.a = test_addr("2001:db8::1");
			c->remote.a = test_addr(i ? "2001:db8::3" : "2001:db8::2");
		}
		child_up(c);
	}
}

static int ipv6_rig_up(void **state)
{
	rig_x2_v6 = true;
	return ipsec_rig_up(state);
}

static int ipv6_rig_down(void **state)
{
	rig_x2_v6 = false;
	return ipsec_rig_down(state);
}

/* ---- home ---------------------------------------------------------------------------------------------- */

/* Each packet is counted by both: by the GRE tunnel as its inner packet, by what carries it with the headers. */
static void there_and_back(void **state)
{
	static const struct {
		unsigned gre, by;
		uint32_t around;
	} rows[] = {{X2, X1, 24}, {Y2, Y1, 8}};

	(void)state;
	over_up(rig_x2_v6);
	for (size_t i = 0; i < 2; i++) {
		uint32_t around = rows[i].around + (rows[i].gre == X2 && rig_x2_v6 ? 20 : 0);
		const struct counters *g = &rig_at(rows[i].gre)->count, *e = &rig_at(rows[i].by)->count;

		for (unsigned kind = 0; kind < KINDS; kind++) {
			struct spec s = kind_spec(kind), back;
			struct pkt p;

			s.flags = TCP_SYN;
			s.sport = (uint16_t)(4000 + i);
			rig_forget();
			from_any(rows[i].gre, &s);
			p = only_out(TO_TUN);
			assert_same_payload(&p, &s);
			back = answer_to(&p);
			back.flags = TCP_SYN | TCP_ACK;
			rig_forget();
			from_egress(&back);
			p = only_out((int)rows[i].gre);
			assert_same_payload(&p, &back);
			assert_true(addr_eq(&p.t.dst, &s.src));
		}
		assert_int_equal(g->rx_packets, KINDS);
		assert_int_equal(g->tx_packets, KINDS);
		assert_int_equal(e->rx_packets, KINDS);
		assert_int_equal(e->tx_packets, KINDS);
		assert_int_equal(e->rx_bytes, g->rx_bytes + KINDS * around);
		assert_int_equal(e->tx_bytes, g->tx_bytes + KINDS * around);
		assert_int_equal(rig_at(rows[i].gre)->rx_last_ms, rig.now);
		assert_int_equal(rig_at(rows[i].by)->rx_last_ms, rig.now);
	}
}

/* What is not GRE of x2 is a packet of x1, another site. */
static void beside_the_gre(void **state)
{
	struct spec s = kind_spec(UDP4), back[2];
	static const unsigned from[] = {X1, X2};
	struct pkt p;

	(void)state;
	over_up(false);
	for (unsigned i = 0; i < 2; i++) {
		rig_forget();
		from_any(from[i], &s);
		p = only_out(TO_TUN);
		back[i] = answer_to(&p);
	}
	for (unsigned i = 0; i < 2; i++) {
		rig_forget();
		from_egress(&back[i]);
		only_out((int)from[i]);
	}
}

/* ---- from there only --------------------------------------------------------------------------------------- */

static void not_in_the_clear(void **state)
{
	static const unsigned gre[] = {X2, Y2};
	struct spec s = kind_spec(UDP4);

	(void)state;
	for (unsigned up = 0; up < 2; up++) {
		for (unsigned i = 0; i < 2; i++) {
			from_branch(gre[i], &s);
			assert_int_equal(rig_at(gre[i])->count.drops[DROP_GRE_ELSEWHERE], up + 1);
			assert_int_equal(rig_at(gre[i])->count.rx_packets, 0);
		}
		over_up(false);
	}
	assert_int_equal(rig.nout, 0);
	assert_int_equal(rig_drops(DROP_UNKNOWN_SENDER), 0);
}

/* Two tunnels with one endpoint: in the clear the one, inside the other. */
static void the_same_endpoint_twice(void **state)
{
	static struct rig_next next;
	struct conf_tunnel *b;
	struct spec s = kind_spec(UDP4), back;
	struct pkt p;

	(void)state;
	over_up(false);
	rig_next_begin(&next);
	b = rig_next_at(&next, "b1");
	b->local = rig.ct[X2].local;
	b->remote = rig.ct[X2].remote;
	b->gre_has_key = false;
	b->gre_key = 0;
	ipsec_rig_reload(&next);
	from_branch(X2, &s); /* in the clear */
	p = only_out(TO_TUN);
	assert_int_equal(rig_at(B1)->count.rx_packets, 1);
	back = answer_to(&p);
	rig_forget();
	from_egress(&back);
	assert_int_equal(rig_at(B1)->count.tx_packets, 1);
	rig_forget();
	from_any(X2, &s);
	p = only_out(TO_TUN);
	assert_int_equal(rig_at(X2)->count.rx_packets, 1);
	back = answer_to(&p);
	rig_forget();
	from_egress(&back);
	only_out(X2);
	assert_int_equal(rig_drops(DROP_GRE_ELSEWHERE), 0);
}

/* GRE inside that is not quite that of the tunnel over it. */
static void other_gre_inside(void **state)
{
	static const struct {
		const char *what, *remote;
		unsigned of; /* its configuration ... */
		unsigned by; /* ... and by which tunnel it comes */
		bool has_key;
		uint32_t key;
		bool fragment;
		enum drop want; /* DROP_NONE: it goes on as an inner packet */
		unsigned on;    /* who counts it */
	} rows[] = {
		{"with a key", NULL, X2, X1, true, 0, false, DROP_NONE, X1},
		{"of another address", "203.0.113.200", X2, X1, false, 0, false, DROP_NONE, X1},
		{"a fragment whose rest does not come", NULL, X2, X1, true, 0, true, DROP_FRAGMENT_TIMEOUT,
			X1},
		{"y2's by x1", NULL, Y2, X1, true, 9, false, DROP_DST_GATEWAY, X1},
		{"a1's by x1", NULL, A1, X1, false, 0, false, DROP_DST_GATEWAY, X1},
		{"x2's by q1", NULL, X2, Q1, false, 0, false, DROP_NONE, Q1},
		{"without a key", NULL, Y2, Y1, false, 0, false, DROP_UNKNOWN_SENDER, TUNNELS},
		{"of another key", NULL, Y2, Y1, true, 8, false, DROP_UNKNOWN_SENDER, TUNNELS},
	};
	static uint8_t in[512], b[1000];
	struct spec s = kind_spec(UDP4);

	(void)state;
	all_up();
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct conf_tunnel c = rig.ct[rows[i].of];
		bool transport = rows[i].by == Y1;
		uint32_t len = packet_make(in, &s);
		struct gre_hdr h = gre_hdr_of(&c, in);
		const struct counters *on;
		uint64_t before;

		if (rows[i].remote)
			c.remote = test_addr(rows[i].remote);
		h.has_key = rows[i].has_key;
		h.key = rows[i].key;
		len = gre_make(b, &c, !transport, &h, in, len);
		if (rows[i].fragment) {
			be16_put(b + 6, 0x2000);
			packet_ip_csum(b);
		}
		on = rows[i].on == TUNNELS ? &rig.gw.count : &rig_at(rows[i].on)->count;
		before = on->drops[rows[i].want];
		rig_forget();
		put_esp(ir.of[rows[i].by], transport ? IPPROTO_GRE : ESP_NEXT_IPV4, b, len, 0);
		run_ipsec();
		rig.now += rows[i].fragment ? 30000 : 0;
		path_second(rig.gw.path);
		if (rig.nout != (rows[i].want == DROP_NONE) ||
			(rows[i].want && on->drops[rows[i].want] != before + 1))
			fail_msg("%s: %u came out", rows[i].what, rig.nout);
		if (rig.nout)
			assert_int_equal(out_pkt(0, TO_TUN).t.proto, IPPROTO_GRE);
		assert_int_equal(rig_at(X2)->count.rx_packets + rig_at(Y2)->count.rx_packets, 0);
	}
	/* no GRE at all, and what is cut off */
	put_esp(ir.of[Y1], IPPROTO_UDP, in, 20, 0);
	put_esp(ir.of[Y1], IPPROTO_GRE, in, 3, 0);
	run_ipsec();
	assert_int_equal(rig_at(Y1)->count.drops[DROP_ESP_NEXT_HEADER], 1);
	assert_int_equal(rig_at(Y1)->count.drops[DROP_GRE_TRUNCATED], 1);
}

/* ---- headers ------------------------------------------------------------------------------------------------ */

/* Congestion that the outermost header says goes inwards, header by header. */
static void ecn(void **state)
{
	static const struct {
		uint8_t outer, gre, inner;
		int want[2]; /* tunnel mode, transport mode; -1: dropped */
	} rows[] = {
		{3, 2, 2, {3, 3}},
		{0, 3, 2, {3, 2}},
		{3, 0, 2, {-1, 3}},
		{3, 2, 0, {-1, -1}},
		{0, 0, 0, {0, 0}},
		{2, 2, 1, {1, 1}},
	};
	static uint8_t in[512], b[1000];

	(void)state;
	over_up(false);
	for (size_t k = 0; k < 2 * sizeof(rows) / sizeof(rows[0]); k++) {
		size_t i = k / 2;
		unsigned mode = k % 2;
		const struct conf_tunnel *c = &rig.ct[mode ? Y2 : X2];
		struct spec s = kind_spec(UDP4);
		struct gre_hdr h;
		uint32_t len;

		s.tos = rows[i].inner;
		s.sport = (uint16_t)(6000 + k);
		len = packet_make(in, &s);
		h = gre_hdr_of(c, in);
		len = gre_make(b, c, !mode, &h, in, len);
		if (!mode) {
			b[1] = rows[i].gre;
			packet_ip_csum(b);
		}
		rig_forget();
		put_esp(ir.of[mode ? Y1 : X1], mode ? IPPROTO_GRE : ESP_NEXT_IPV4, b, len, 0)->tos =
			rows[i].outer;
		run_ipsec();
		if (rig.nout != (rows[i].want[mode] >= 0))
			fail_msg("row %zu, mode %u: %u came out", i, mode, rig.nout);
		if (rig.nout)
			assert_int_equal(out_pkt(0, TO_TUN).tos, rows[i].want[mode]);
	}
	assert_int_equal(rig_drops(DROP_ECN_CE_NOT_ECT), 3);
}

/* DSCP of the outermost header is a matter of the tunnel that it is of; TTL, too. */
static void outer_headers(void **state)
{
	static const struct {
		uint8_t gre, by, want_gre, want_outer;
	} rows[] = {{DSCP_INHERIT, DSCP_INHERIT, 10, 10}, {46, DSCP_INHERIT, 46, 46},
		{DSCP_INHERIT, 34, 10, 34}, {46, 34, 46, 34}};
	static const unsigned gre[] = {X2, Y2}, by[] = {X1, Y1};

	(void)state;
	over_up(false);
	for (size_t k = 0; k < 2 * sizeof(rows) / sizeof(rows[0]); k++) {
		unsigned mode = k % 2;
		struct spec back = begin_flow(gre[mode]);

		rig.ct[gre[mode]].dscp = rows[k / 2].gre;
		rig.ct[by[mode]].dscp = rows[k / 2].by;
		rig.ct[gre[mode]].ttl = 33;
		rig.ct[by[mode]].ttl = 44;
		back.tos = 10 << 2 | 2;
		rig_forget();
		from_egress(&back);
		only_out((int)gre[mode]);
		assert_int_equal(rig.out[0].tx.tos, rows[k / 2].want_outer << 2 | 2);
		assert_int_equal(stub.sent[stub.nsent - 1].tx.ttl, 44);
		if (!mode) {
			assert_int_equal(rig.out[0].gre_tos, rows[k / 2].want_gre << 2 | 2);
			assert_int_equal(rig.out[0].tx.ttl, 33);
		}
	}
}

static void keepalives(void **state)
{
	static const unsigned gre[] = {X2, Y2};
	uint8_t b[128];

	(void)state;
	over_up(false);
	for (unsigned i = 0; i < 2; i++) {
		const struct conf_tunnel *c = &rig.ct[gre[i]];
		struct spec inner = packet_spec(4, IPPROTO_GRE);
		struct gre_hdr answer = {
			.proto = GRE_PROTO_NONE, .has_key = c->gre_has_key, .key = c->gre_key};
		uint8_t body[GRE_HDR_MAX];
		uint32_t len;

		inner.payload_len = gre_encode(body, &answer, NULL, 0);
		inner.body = body;
		inner.src = c->local;
		inner.dst = c->remote;
		len = packet_make(b, &inner);
		rig_forget();
		put_ipsec(gre[i], b, len);
		run_ipsec();
		assert_int_equal(rig.nout, 1);
		assert_int_equal(rig.out[0].to, gre[i]);
		assert_int_equal(rig.out[0].len, 0);
		assert_int_equal(rig.out[0].tx.hdr.proto, GRE_PROTO_NONE);
	}
}

static void sequence_numbers(void **state)
{
	struct spec s = kind_spec(UDP4), back;

	(void)state;
	over_up(false);
	back = begin_flow(X2);
	rig.ct[X2].gre_sequence = true;
	for (unsigned i = 0; i < 3; i++) {
		rig_forget();
		from_egress(&back);
		only_out(X2);
		assert_true(rig.out[0].tx.hdr.has_seq);
		assert_int_equal(rig.out[0].tx.hdr.seq, i);
	}
	rig_forget();
	from_any(X2, &s); /* without one */
	assert_int_equal(rig.nout, 0);
	assert_int_equal(rig_at(X2)->count.drops[DROP_GRE_SEQUENCE], 1);
}

/* ---- what is asked for and what is given --------------------------------------------------------------------- */

/* A peer that does not agree to transport mode: GRE has its IP header then, and room for it. */
static void tunnel_mode_instead(void **state)
{
	struct spec s = kind_spec(UDP4), back;
	struct child *c = child_begin(Y1);
	char text[ADDR_STRLEN];
	struct pkt p;

	(void)state;
	c->transport = false;
	c->ts_proto = IPPROTO_GRE;
	c->local_ts[0] = c->local_ts[1] = "198.51.100.1";
	c->remote_ts[0] = c->remote_ts[1] = addr_str(&rig.ct[Y1].remote, text);
	assert_int_equal(tunnel_mtu(rig_at(Y2), 4, rig.now), 1430);
	child_up(c);
	assert_int_equal(tunnel_mtu(rig_at(Y2), 4, rig.now), 1410);
	from_any(Y2, &s);
	p = only_out(TO_TUN);
	back = answer_to(&p);
	rig_forget();
	from_egress(&back);
	only_out(Y2);
	assert_int_equal(ir.last.next, ESP_NEXT_IPV4);
}

static void as_up_as_what_carries_it(void **state)
{
	struct spec back;
	struct child *c;

	(void)state;
	assert_int_equal(tunnel_state(rig_at(X2), rig.now), TUNNEL_DOWN);
	c = child_up(child_begin(X1));
	assert_int_equal(tunnel_state(rig_at(X2), rig.now), TUNNEL_UP);
	assert_int_equal(tunnel_state(rig_at(Y2), rig.now), TUNNEL_DOWN);
	back = begin_flow(X2);
	say_delete(c, true);
	say_delete(c, false);
	heard();
	assert_int_equal(tunnel_state(rig_at(X2), rig.now), TUNNEL_DOWN);
	from_egress(&back);
	assert_int_equal(rig.nout, 0);
	assert_int_equal(rig_at(X2)->count.drops[DROP_TUNNEL_DOWN], 1);
	child_up(child_begin(X1));
	from_egress(&back);
	only_out(X2);
}

/* What is lost on the wire is the GRE tunnel's loss, whose packet it was; and a checksum that is half done nobody's offload left
 * so in a sealed packet. */
static void losses_are_its_own(void **state)
{
	struct spec back, half = kind_spec(UDP4);

	(void)state;
	child_up(child_begin(X1));
	back = begin_flow(X2);
	stub.send_err = ENOBUFS;
	from_egress(&back);
	stub.send_err = 0;
	assert_int_equal(rig_at(X2)->count.drops[DROP_QUEUE_FULL], 1);
	assert_int_equal(rig_at(X1)->count.drops[DROP_QUEUE_FULL], 0);
	half.csum = CSUM_HALF;
	rig_forget();
	from_any(X2, &half);
	assert_int_equal(rig.nout, 0);
	assert_int_equal(rig_at(X2)->count.drops[DROP_INNER_CHECKSUM], 1);
	from_any(B1, &half);
	only_out(TO_TUN);
}

/* A full packet by each suite and mode is within the path's MTU, and one octet more would not be, or would pad no more. */
static void full_packets(void **state)
{
	static const unsigned on[] = {P1, X1, Y1}, by[] = {P1, X2, Y2};

	(void)state;
	for (unsigned k = 0; k < 3 * SUITE_COUNT; k++) {
		unsigned i = k % 3;
		uint32_t pmtu = 1400 + k, headers, mtu, len;
		struct child *c = child_begin(on[i]);
		struct spec back;

		c->suite = &suites[k / 3];
		c->local.port = c->remote.port = k / 3 % 2 ? 0 : IKE_PORT_NATT;
		c->initiator = true;
		child_up(c);
		rig_at(on[i])->pmtu = 0;
		tunnel_path_mtu(rig_at(on[i]), pmtu, rig.now);
		headers = c->remote.port ? 28 : 20;
		mtu = tunnel_mtu(rig_at(by[i]), 4, rig.now);
		back = begin_flow(by[i]);
		back.payload_len = mtu - 28;
		stub.nsent = 0;
		from_egress(&back);
		only_out((int)by[i]);
		assert_true(rig.out[0].tx.df);
		len = stub.sent[0].tx.len + headers;
		if (len > pmtu || len + c->suite->align <= pmtu)
			fail_msg("%s by %u: %u octets inside, %u outside of %u", c->suite->name, by[i], mtu,
				len, pmtu);
		assert_int_equal(mtu, esp_inner_max(c->suite, pmtu - headers) - (i == 0          ? 0
											: i == 1 ? 24
												 : 8));
		say_delete(c, true);
		say_delete(c, false);
		heard();
	}
}

/* ---- reload ------------------------------------------------------------------------------------------------- */

static void another_device_below(struct rig_next *n)
{
	rig_next_at(n, "x1")->ike.remote_id = (char *)(uintptr_t) "somebody else";
}

static void another_secret_below(struct rig_next *n)
{
	rig_next_at(n, "x1")->ike.psk = (char *)(uintptr_t) "new";
}

static void another_order(struct rig_next *n)
{
	rig_next_remove(n, "a1");
	rig_next_remove(n, "c1");
}

static void in_the_clear_now(struct rig_next *n)
{
	rig_next_at(n, "x2")->over = NULL;
}

static void over_another(struct rig_next *n)
{
	rig_next_at(n, "x2")->over = (char *)(uintptr_t) "q1";
}

static void reloads(void **state)
{
	static const struct {
		void (*change)(struct rig_next *n);
		bool keeps_sas;   /* of x1 */
		bool keeps_flows; /* of x2 */
	} rows[] = {{another_order, true, true}, {another_secret_below, false, true},
		{another_device_below, false, false}, {in_the_clear_now, true, false},
		{over_another, true, false}};
	static struct rig_next next[sizeof(rows) / sizeof(rows[0])];

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		static uint8_t b[512];
		struct spec back, s = kind_spec(UDP4);
		struct tunnel *x1, *x2;
		uint64_t none;

		if (i) {
			ipsec_rig_down(state);
			ipsec_rig_up(state);
		}
		all_up();
		back = begin_flow(X2);
		none = rig_drops(DROP_NO_FLOW);
		rig_next_begin(&next[i]);
		rows[i].change(&next[i]);
		put_ipsec(X2, b, packet_make(b, &s)); /* sealed before */
		ipsec_rig_reload(&next[i]);
		x1 = tunnels_by_name(rig.gw.tunnels, "x1");
		x2 = tunnels_by_name(rig.gw.tunnels, "x2");
		assert_int_equal(x1->ipsec->suite != NULL, rows[i].keeps_sas);
		assert_ptr_equal(x2->over, i == 3   ? NULL
					   : i == 4 ? tunnels_by_name(rig.gw.tunnels, "q1")
						    : x1);
		assert_int_equal(x1->carries, i < 3);
		rig_forget();
		run_ipsec();
		if (rows[i].keeps_sas && rows[i].keeps_flows)
			only_out(TO_TUN);
		else if (rows[i].keeps_sas) { /* x2 is not there any more: a packet like others */
			assert_int_equal(out_pkt(0, TO_TUN).t.proto, IPPROTO_GRE);
			assert_int_equal(x2->count.rx_packets, 0);
		} else
			assert_int_equal(rig.nout, 0);
		rig_forget();
		from_egress(&back);
		assert_int_equal(rig_drops(DROP_NO_FLOW) - none, !rows[i].keeps_flows);
		if (rows[i].keeps_sas && rows[i].keeps_flows)
			assert_int_equal(rig.nout, 1);
		else
			assert_int_equal(rig.nout, 0);
	}
}

#define CASE(f)      IPSEC_CASE(f)
#define CASE_IPV6(f) cmocka_unit_test_setup_teardown(f, ipv6_rig_up, ipv6_rig_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(there_and_back),
		CASE_IPV6(there_and_back),
		CASE(beside_the_gre),
		CASE(not_in_the_clear),
		CASE(the_same_endpoint_twice),
		CASE(other_gre_inside),
		CASE(ecn),
		CASE(outer_headers),
		CASE(keepalives),
		CASE(sequence_numbers),
		CASE(tunnel_mode_instead),
		CASE(as_up_as_what_carries_it),
		CASE(losses_are_its_own),
		CASE(full_packets),
		CASE(reloads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
