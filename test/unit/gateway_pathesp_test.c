/* SPDX-License-Identifier: GPL-2.0-or-later */
/* gateway_pathesp_test.c - how packets leave by ESP: in which runs, how large, padded to what, and what becomes of those that
 * cannot be sent.
 */
#include "test/unit/ipsec_rig.h"

/* ---- runs ------------------------------------------------------------------------------------------------- */

/* A super-packet of the TUN for a branch that began a TCP flow. */
static void super_packet(const struct spec *back, uint16_t gso, uint32_t payload_len)
{
	static uint8_t b[PKT_MAX];
	struct virtio_net_hdr h = {.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
		.gso_type = VIRTIO_NET_HDR_GSO_TCPV4,
		.gso_size = gso,
		.csum_start = 20,
		.csum_offset = 16};
	struct spec s = *back;

	s.payload_len = payload_len;
	s.csum = CSUM_HALF;
	rig_forget();
	stub.nsent = stub.sends = 0;
	raw_from_egress(&h, b, packet_make(b, &s));
}

static struct spec begin_tcp(unsigned from)
{
	struct spec s = kind_spec(TCP4);
	struct pkt p;

	s.flags = TCP_SYN;
	rig_forget();
	from_any(from, &s);
	p = only_out(TO_TUN);
	s = answer_to(&p);
	return server_next(&s);
}

static uint32_t packets_of(const struct stub_sent *s)
{
	return s->tx.segment ? (s->tx.len + s->tx.segment - 1) / s->tx.segment : 1;
}

/* What is cut from one super-packet is few runs, whose packets are all there and in order. */
static void a_super_packet_is_few_runs(void **state)
{
	static const struct {
		bool native;
		uint16_t gso;
		uint32_t len;
		unsigned runs, packets;
		uint32_t first; /* packets of the first run */
	} rows[] = {
		{false, 1300, 20000, 1, 16, 16},                               /* the last one is shorter */
		{false, 1300, 19500, 1, 15, 15},                               /* all are equal */
		{false, 1300, 1301, 1, 2, 2}, {false, 1398, 63000, 2, 46, 44}, /* octets of a run */
		{false, 500, 60000, 2, 120, 64},                               /* packets of a run */
		{false, 300, 60000, 4, 200, 64}, /* more than are queued: 128 in between */
		{true, 1300, 20000, 16, 16, 1},  /* protocol 50 has no such thing */
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		uint32_t packets = 0, done = 0;
		struct child *c = child_begin(P1);
		struct spec back;

		if (rows[i].native)
			c->local.port = c->remote.port = 0;
		c->initiator = true;
		child_up(c);
		back = begin_tcp(P1);
		super_packet(&back, rows[i].gso, rows[i].len);
		for (unsigned k = 0; k < stub.nsent; k++)
			packets += packets_of(&stub.sent[k]);
		if (stub.nsent != rows[i].runs || packets != rows[i].packets ||
			packets_of(&stub.sent[0]) != rows[i].first)
			fail_msg("row %zu: %u runs, %u packets, %u in the first", i, stub.nsent, packets,
				packets_of(&stub.sent[0]));
		assert_int_equal(rig.nout, packets);
		for (unsigned k = 0; k < rig.nout; k++) {
			struct pkt p = out_pkt(k, P1);

			assert_int_equal(be32_get(p.data + p.l4 + 4), back.seq + done);
			done += p.len - p.payload;
		}
		assert_int_equal(done, rows[i].len);
		say_delete(c, true);
		say_delete(c, false);
		heard();
	}
}

/* Packets of several branches in one batch. rows: to, length, TOS; a run: to the same, one behind the other. */
static void what_makes_a_run(void **state)
{
	static const struct {
		unsigned to;
		uint32_t len;
		uint8_t tos;
		bool begins; /* a run */
	} rows[] = {
		{P1, 100, 0, true},
		{P1, 100, 0, false},
		{P1, 100, 0, false},
		{Q1, 100, 0, true}, /* another SA */
		{P1, 100, 0, true},
		{P1, 50, 0, false},
		{P1, 50, 0, true},   /* behind a shorter one comes none */
		{P1, 300, 0, true},  /* a longer one */
		{P1, 300, 4, true},  /* another header */
		{B1, 300, 4, false}, /* GRE is in nobody's way */
		{P1, 300, 4, false},
	};
	enum { N = sizeof(rows) / sizeof(rows[0]) };
	struct spec back[TUNNELS];
	unsigned runs = 0;
	size_t esp = 0;

	(void)state;
	child_up(child_begin(P1));
	child_up(child_begin(Q1));
	back[P1] = begin_flow(P1);
	back[Q1] = begin_flow(Q1);
	back[B1] = begin_flow(B1);
	for (size_t i = 0; i < N; i++) {
		uint8_t *b = rig.in_buf + i * 2048;
		struct spec s = back[rows[i].to];

		s.payload_len = rows[i].len;
		s.tos = rows[i].tos;
		rig.in_tun[rig.nin_tun++] = (struct tun_rx){.data = b, .len = packet_make(b, &s)};
		runs += rows[i].begins;
		esp += rows[i].to != B1;
	}
	rig_forget();
	stub.nsent = stub.sends = 0;
	tx_tun(rig.gw.path);
	assert_int_equal(stub.nsent, runs);
	assert_int_equal(stub.sends, 1); /* all by one call */
	assert_int_equal(rig.nout, N);
	for (size_t i = 0, run = 0, left = 0; i < N; i++) { /* as the rows say, GRE before all */
		if (rows[i].to == B1)
			continue;
		if (!left)
			left = packets_of(&stub.sent[run++]);
		left--;
		if (i + 1 < N)
			assert_int_equal(left == 0, rows[i + 1].to == B1 ? false : rows[i + 1].begins);
	}
	assert_int_equal(rig_at(P1)->count.tx_packets, esp - 1);
	assert_int_equal(rig_at(Q1)->count.tx_packets, 1);
}

/* IPv4, IPv6 and native in one batch: each by its socket, and none is left. */
static void every_socket_gets_its_own(void **state)
{
	static const unsigned to[] = {P1, Q1, P1, X1, Q1, Q1};
	struct spec back[TUNNELS];
	struct child *c;

	(void)state;
	c = child_begin(P1);
	c->local.port = c->remote.port = 0;
	child_up(c);
	c = child_begin(Q1);
	c->local.a = test_addr("2001:db8::1");
	c->remote.a = test_addr("2001:db8::2");
	child_up(c);
	child_up(child_begin(X1));
	for (size_t i = 0; i < 4; i++)
		back[to[i]] = begin_flow(to[i]);
	for (size_t i = 0; i < 6; i++) {
		uint8_t *b = rig.in_buf + i * 2048;

		rig.in_tun[rig.nin_tun++] = (struct tun_rx){.data = b, .len = packet_make(b, &back[to[i]])};
	}
	rig_forget();
	stub.nsent = 0;
	tx_tun(rig.gw.path);
	assert_int_equal(rig.nout, 6);
	for (unsigned i = 0; i < 6; i++)
		out_pkt(i, (int)to[i]);
	assert_int_equal(stub.nsent, 5); /* the last two are a run */
	/* a machine that has no such socket */
	{
		struct ipsec_sock *s = rig.gw.ipsec->sock[IPSEC_UDP_4500][1];

		rig.gw.ipsec->sock[IPSEC_UDP_4500][1] = NULL;
		rig_forget();
		from_egress(&back[Q1]);
		assert_int_equal(rig.nout, 0);
		assert_int_equal(rig_at(Q1)->count.drops[DROP_SEND_ERROR], 1);
		rig.gw.ipsec->sock[IPSEC_UDP_4500][1] = s;
	}
}

/* ---- what cannot be sent ---------------------------------------------------------------------------------- */

static void errors_of_sending(void **state)
{
	static const struct {
		int err;
		enum drop want;
	} rows[] = {{EAGAIN, DROP_QUEUE_FULL}, {ENOBUFS, DROP_QUEUE_FULL}, {EMSGSIZE, DROP_TOO_BIG},
		{ENETUNREACH, DROP_SEND_ERROR}, {EPERM, DROP_SEND_ERROR}};
	struct child *c = child_up(child_begin(P1));
	struct spec back = begin_tcp(P1);
	const struct sa *sa = ipsec_sas(rig.gw.ipsec, rig_at(P1), false);
	uint64_t sent = rig_at(P1)->count.tx_packets;

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		uint64_t before = rig_at(P1)->count.drops[rows[i].want], seq = sa->seq;

		stub.send_err = rows[i].err;
		stub.send_err_at = 1; /* the first run goes: 44 packets of 46 */
		super_packet(&back, 1398, 63000);
		sent += 44;
		assert_int_equal(rig.nout, 44);
		assert_int_equal(rig_at(P1)->count.drops[rows[i].want], before + 2);
		assert_int_equal(rig_at(P1)->count.tx_packets, sent);
		assert_int_equal(atomic_load(&sa->use->packets), sent);
		assert_int_equal(sa->seq, seq + 46); /* never used again: branch_got would see a replay */
		assert_int_equal(tunnel_state(rig_at(P1), rig.now),
			rows[i].want == DROP_SEND_ERROR ? TUNNEL_DOWN : TUNNEL_UP);
		rig_at(P1)->down_until_ms = 0;
	}
	/* of a run some went: they count, and the others do */
	stub.send_err = EMSGSIZE;
	stub.send_err_at = 0;
	stub.send_failed = 1u << 2 | 1u << 5;
	sent += 10 - 2;
	super_packet(&back, 1398, 10 * 1398);
	assert_int_equal(rig.nout, 8);
	assert_int_equal(rig_at(P1)->count.tx_packets, sent);
	assert_int_equal(atomic_load(&sa->use->packets), sent);
	stub.send_err = 0;
	assert_ptr_equal(sends_by(&back), c);
}

/* By a tunnel that cannot be sent by there is no way for a while, and the site's other one is taken. Where ICMP's word can have
 * made sending fail, the kernel is asked. */
static void no_way_for_a_while(void **state)
{
	enum { SOMEWHERE, HERE }; /* the machine has no address of 198.51.100.0/24, but 127.0.0.1 */
	static const struct {
		int err, where;
		uint16_t port;
		bool down;
	} rows[] = {
		{EHOSTUNREACH, SOMEWHERE, IKE_PORT_NATT, true},
		{ENETUNREACH, SOMEWHERE, IKE_PORT_NATT, true},
		{EHOSTUNREACH, HERE, IKE_PORT_NATT, false},
		{ECONNREFUSED, HERE, IKE_PORT_NATT, false},
		{EPERM, HERE, IKE_PORT_NATT, true},
		{EINVAL, HERE, IKE_PORT_NATT, true},
		{EHOSTUNREACH, HERE, 0, true},
		{ENOBUFS, SOMEWHERE, 0, false},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct spec back, s = kind_spec(UDP4);
		struct child *c;

		if (i) {
			ipsec_rig_down(state);
			ipsec_rig_up(state);
		}
		c = child_begin(P1);
		if (rows[i].where == HERE)
			c->local.a = c->remote.a = test_addr("127.0.0.1");
		c->local.port = c->remote.port = rows[i].port;
		child_up(c);
		back = begin_flow(P1);
		stub.send_err = rows[i].err;
		assert_null(sends_by(&back));
		stub.send_err = 0;
		assert_int_equal(tunnel_state(rig_at(P1), rig.now), rows[i].down ? TUNNEL_DOWN : TUNNEL_UP);
		if (!rows[i].down) {
			assert_ptr_equal(sends_by(&back), c);
			continue;
		}
		rig.now += TUNNEL_DOWN_MS - 1;
		from_any(P1, &s); /* that it comes says nothing of the way back */
		rig_forget();
		from_egress(&back);
		(void)only_out(P2);
		rig.now += 1;
		assert_ptr_equal(sends_by(&back), c);
	}
}

/* What a device's MTU is, the kernel is asked for, at most once a second. */
static void too_big_for_the_device(void **state)
{
	struct child *c = child_begin(P1);
	struct spec back;

	(void)state;
	c->local.a = c->remote.a = test_addr("127.0.0.1");
	child_up(c);
	back = begin_flow(P1);
	stub.send_err = EMSGSIZE;
	from_egress(&back);
	stub.send_err = 0;
	assert_int_equal(rig_at(P1)->count.drops[DROP_TOO_BIG], 1);
	assert_in_range(rig_at(P1)->pmtu, 1280, 65536); /* of lo */
	assert_int_equal(rig_at(P1)->pmtu_until_ms, rig.now + TUNNEL_PMTU_MS);
}

static void numbers_run_out(void **state)
{
	struct child *c = child_up(child_begin(P1));
	struct spec back = begin_flow(P1);
	struct sa *sa = sad_out(stub.o.sad, c->conn, rig.now);

	(void)state;
	/* Long before, and once, the peer is asked for another SA. */
	sa->seq = (UINT64_C(3) << 30) - 1;
	ipsec_tick(rig.gw.ipsec);
	assert_int_equal(did_count(DID_SOFT, c->conn), 0);
	c->recv.replay.top = sa->seq;
	assert_ptr_equal(sends_by(&back), c);
	ipsec_tick(rig.gw.ipsec);
	ipsec_tick(rig.gw.ipsec);
	assert_int_equal(did_count(DID_SOFT, c->conn), 1);
	assert_int_equal(did_count(DID_HARD, c->conn), 0);
	sa->seq = UINT32_MAX - 1;
	c->recv.replay.top = UINT32_MAX - 1;
	assert_ptr_equal(sends_by(&back), c);
	assert_null(sends_by(&back));
	assert_int_equal(rig_at(P1)->count.drops[DROP_ESP_SEQUENCE], 1);
	assert_true(sa->seq == UINT32_MAX);
	ipsec_tick(rig.gw.ipsec);
	assert_int_equal(did_count(DID_HARD, c->conn), 1);
	assert_null(sends_by(&back));
	only_out(P2);
	assert_true(sa->seq == UINT32_MAX); /* neither 0 nor any other one again */
}

/* ---- size ------------------------------------------------------------------------------------------------- */

/* Where the path takes less: IPv4 hears of it or is cut inside, IPv6 is told down to 1280 octets, and then the outer packet
 * may be cut. */
static void smaller_paths(void **state)
{
	static const struct {
		uint32_t pmtu;
		unsigned kind;
		uint32_t len;
		bool df;       /* of the inner one */
		unsigned want; /* packets that come out at the branch; 0: its sender is told ... */
		uint32_t told; /* ... this MTU */
		bool outer_df;
	} rows[] = {
		{0, UDP4, 1438, true, 1, 0, true},
		{0, UDP4, 1439, true, 0, 1438, true},
		{0, UDP4, 1439, false, 2, 0, true},
		{1400, UDP4, 1338, true, 1, 0, true},
		{1400, UDP4, 1339, true, 0, 1338, true},
		{1400, UDP4, 1339, false, 2, 0, true},
		{1400, UDP6, 1339, true, 0, 1338, true},
		{1000, UDP6, 1280, true, 1, 0, false},
		{1000, UDP6, 1281, true, 0, 1280, true},
		{1000, UDP4, 938, true, 1, 0, true},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct spec s = kind_spec(rows[i].kind), back;
		struct child *c = child_up(child_begin(P1));
		struct pkt p;

		rig.now += 1000;
		rig_at(P1)->pmtu = 0;
		if (rows[i].pmtu)
			tunnel_path_mtu(rig_at(P1), rows[i].pmtu, rig.now);
		s.sport = (uint16_t)(7000 + i);
		rig_forget();
		from_any(P1, &s);
		p = only_out(TO_TUN);
		back = answer_to(&p);
		back.df = rows[i].df;
		back.payload_len = rows[i].len - (s.ver == 4 ? 28 : 48);
		rig_forget();
		from_egress(&back);
		if (!rows[i].want) {
			p = only_out(TO_TUN);
			assert_int_equal(
				s.ver == 4 ? be16_get(p.data + p.l4 + 6) : be32_get(p.data + p.l4 + 4),
				rows[i].told);
		} else {
			assert_int_equal(rig.nout, rows[i].want);
			for (unsigned k = 0; k < rig.nout; k++) {
				out_pkt(k, P1);
				assert_int_equal(rig.out[k].tx.df, rows[i].outer_df);
			}
		}
		say_delete(c, true);
		say_delete(c, false);
		heard();
	}
}

/* ---- against traffic analysis ---------------------------------------------------------------------------- */

static void padding_and_dummies(void **state)
{
	static uint8_t b[512];
	struct child *c = child_up(child_begin(P1)), *new;
	struct spec s = kind_spec(UDP4), back;
	struct pkt p;

	(void)state;
	rig.now += 5000;
	put_esp(c, ESP_NEXT_IPV4, b, packet_make(b, &s), 1200);
	run_ipsec();
	p = only_out(TO_TUN);
	assert_int_equal(p.len, 128);
	assert_same_payload(&p, &s);
	assert_int_equal(rig_at(P1)->count.rx_bytes, 128);
	back = answer_to(&p);
	/* a dummy is no packet, but it proves that the peer has the new SA */
	new = child_keyed(child_begin(P1));
	say_add(new, true);
	say_add(new, false);
	heard();
	assert_ptr_equal(sends_by(&back), c);
	rig_forget();
	rig.now += 100;
	put_esp(new, ESP_NEXT_DUMMY, b, 200, 0);
	run_ipsec();
	assert_int_equal(rig.nout, 0);
	assert_int_equal(rig_at(P1)->count.drops[DROP_ESP_DUMMY], 1);
	assert_int_equal(rig_at(P1)->rx_last_ms, rig.now);
	assert_ptr_equal(sends_by(&back), new);
}

/* What a peer pads with is its own affair (RFC 4303 2.7): the inner length says where the packet ends, and of what lies
 * behind it not an octet goes on, whatever it looks like. A packet that says to be longer than what came is none. */
static void padding_of_the_peer(void **state)
{
	static const uint16_t behind[] = {1, 2, 3, 15, 16, 64, 255, 256, 1000};
	static uint8_t b[2048], padding[1024];
	struct child *c = child_up(child_begin(P1));

	(void)state;
	for (unsigned i = 0; i < sizeof(behind) / sizeof(behind[0]) * 12; i++) {
		unsigned kind = i % 4, with = i / 4 % 3, n = behind[i / 12];
		struct spec s = kind_spec(kind);
		uint32_t len = packet_make(b, &s);
		uint64_t octets = rig_at(P1)->count.rx_bytes;
		struct pkt p;

		/* zeros; what is no packet; another packet, of another kind */
		struct spec other = kind_spec((kind + 1) % 4);
		memset(padding, with == 0 ? 0 : 0xa5, sizeof(padding));
		if (with == 2)
			packet_make(padding, &other);
		memcpy(b + len, padding, n);
		rig_forget();
		put_esp(c, s.ver == 4 ? ESP_NEXT_IPV4 : ESP_NEXT_IPV6, b, len + n, 0);
		run_ipsec();
		p = only_out(TO_TUN);
		assert_int_equal(p.len, len);
		assert_same_payload(&p, &s);
		assert_int_equal(rig_at(P1)->count.rx_bytes - octets, len);
	}
	for (unsigned kind = UDP4; kind <= UDP6; kind++) {
		struct spec s = kind_spec(kind);
		uint32_t len = packet_make(b, &s);
		uint64_t before = rig_at(P1)->count.drops[DROP_INNER_TRUNCATED];

		rig_forget();
		put_esp(c, s.ver == 4 ? ESP_NEXT_IPV4 : ESP_NEXT_IPV6, b, len - 1, 0);
		run_ipsec();
		assert_int_equal(rig.nout, 0);
		assert_int_equal(rig_at(P1)->count.drops[DROP_INNER_TRUNCATED], before + 1);
	}
}

/* What we pad to: never above what fits the path. */
static void padding_of_ours(void **state)
{
	static const struct {
		uint16_t tfc;
		uint32_t pmtu, want; /* octets inside */
	} rows[] = {{1000, 0, 1000}, {100, 0, 128}, {UINT16_MAX, 0, 1438}, {UINT16_MAX, 1400, 1338},
		{1400, 1400, 1338}, {1000, 1400, 1000}};
	struct child *c = child_up(child_begin(P1));
	struct spec back = begin_flow(P1);

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		rig_at(P1)->pmtu = 0;
		if (rows[i].pmtu)
			tunnel_path_mtu(rig_at(P1), rows[i].pmtu, rig.now);
		say_delete(c, true);
		say_delete(c, false);
		c = child_begin(P1);
		c->tfc = rows[i].tfc;
		child_keyed(c);
		say_add(c, true);
		say_add(c, false);
		heard();
		assert_ptr_equal(sends_by(&back), c);
		only_out(P1);
		assert_int_equal(ir.last.inner_len, rows[i].want);
		assert_true(rig.out[0].tx.df);
		assert_int_equal(rig_at(P1)->count.tx_bytes, 128 * (i + 1));
	}
}

#define CASE(f) IPSEC_CASE(f)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(a_super_packet_is_few_runs),
		CASE(what_makes_a_run),
		CASE(every_socket_gets_its_own),
		CASE(errors_of_sending),
		CASE(no_way_for_a_while),
		CASE(too_big_for_the_device),
		CASE(numbers_run_out),
		CASE(smaller_paths),
		CASE(padding_and_dummies),
		CASE(padding_of_the_peer),
		CASE(padding_of_ours),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
