/* SPDX-License-Identifier: GPL-2.0-or-later */
/* gateway_pathipsec_test.c - ESP in, ESP out: whose packets they are, by which security association they go, and what
 * becomes of them around a change of keys. */
#include "test/unit/ipsec_rig.h"

#include <netinet/ip_icmp.h>

/* Sites with the same addresses, each by another kind of tunnel. */
static const unsigned sites[] = {P1, Q1, B1, X2, Y2};
#define SITES (sizeof(sites) / sizeof(sites[0]))

/* Native and in UDP, IPv4 and IPv6 outside, several suites. */
static void mixed_up(void)
{
	struct child *c;

	c = child_begin(P1);
	c->suite = &suites[SUITE_AES_CBC_256_SHA512];
	c->local.port = c->remote.port = 0;
	child_up(c);
	c = child_begin(Q1);
	c->suite = &suites[SUITE_CHACHA20_POLY1305];
	c->local.a = test_addr("2001:db8::1");
	c->remote.a = test_addr("2001:db8::2");
	c->initiator = true;
	child_up(c);
	c = child_begin(X1);
	c->esn = true;
	child_up(c);
	c = child_begin(Y1);
	c->suite = &suites[SUITE_AES_CBC_128_SHA256];
	c->local.a = test_addr("2001:db8::1");
	c->remote.a = test_addr("2001:db8::3");
	c->local.port = c->remote.port = 0;
	child_up(c);
}

/* ---- home ---------------------------------------------------------------------------------------------- */

static void replies_go_home(void **state)
{
	(void)state;
	mixed_up();
	for (unsigned kind = 0; kind < KINDS; kind++) {
		struct spec s = kind_spec(kind), back;
		struct pkt seen[SITES], home;
		static uint8_t b[SITES][512];

		s.flags = TCP_SYN;
		for (unsigned i = 0; i < SITES; i++) {
			rig_forget();
			s.fill = i;
			from_any(sites[i], &s);
			seen[i] = only_out(TO_TUN);
			assert_same_payload(&seen[i], &s);
			memcpy(b[i], seen[i].data, seen[i].len);
			seen[i].data = b[i];
			for (unsigned k = 0; k < i; k++)
				assert_memory_not_equal(&seen[k].t, &seen[i].t, sizeof(seen[k].t));
		}
		for (unsigned i = 0; i < SITES; i++) {
			rig_forget();
			back = answer_to(&seen[i]);
			back.fill = 100 + i;
			from_egress(&back);
			home = only_out((int)sites[i]);
			assert_true(addr_eq(&home.t.dst, &s.src));
			assert_same_payload(&home, &back);
			if (has_ports(kind))
				assert_int_equal(home.t.dport, htons(s.sport));
		}
	}
	for (unsigned i = 0; i < SITES; i++) {
		assert_int_equal(rig_at(sites[i])->count.rx_packets, KINDS);
		assert_int_equal(rig_at(sites[i])->count.tx_packets, KINDS);
	}
	assert_int_equal(rig_drops(DROP_OTHER_SITE), 0);
}

/* Batches of all sites' packets, each with a tag in it, received and sent. */
static void batches_are_not_mixed_up(void **state)
{
	static uint8_t b[2000];
	static struct spec back[OUTS];
	static unsigned tag[OUTS];
	unsigned n = 0;

	(void)state;
	mixed_up();
	for (unsigned round = 0; round < 4; round++) {
		for (unsigned i = 0; i < 100; i++) {
			struct spec s = kind_spec(i / SITES % 2 ? UDP4 : UDP6);
			unsigned from = sites[i % SITES];

			s.sport = (uint16_t)(5000 + round * 10 + i / 10);
			s.fill = i % SITES;
			if (is_plain_gre(from))
				put_branch(from, b, packet_make(b, &s));
			else
				put_ipsec(from, b, packet_make(b, &s));
		}
		run_branch();
		run_ipsec();
	}
	assert_int_equal(rig.nout, 400);
	for (; n < rig.nout; n++) {
		struct pkt p = out_pkt(n, TO_TUN);

		back[n] = answer_to(&p);
		tag[n] = p.data[p.payload] % 251;
		assert_true(tag[n] < SITES);
		back[n].fill = 100 + tag[n];
	}
	for (unsigned at = 0; at < n; at += TUN_BATCH) {
		rig_forget();
		for (unsigned i = 0; i < TUN_BATCH && at + i < n; i++) {
			uint8_t *to = rig.in_buf + (size_t)i * 4096;

			rig.in_tun[rig.nin_tun++] =
				(struct tun_rx){.data = to, .len = packet_make(to, &back[at + i])};
		}
		tx_tun(rig.gw.path);
		for (unsigned i = 0; i < rig.nout; i++) {
			const struct out *o = &rig.out[i];
			struct pkt p = out_pkt(i, o->to);

			assert_int_equal(sites[p.data[p.payload] - 100], o->to);
		}
		assert_int_equal(rig.nout, n - at < TUN_BATCH ? n - at : TUN_BATCH);
	}
	assert_int_equal(rig_drops(DROP_OTHER_SITE), 0);
}

/* ---- what a reload leaves -------------------------------------------------------------------------------- */

/* A packet that was sealed before, by an SA of a tunnel that the reload removed, moved to another site, or gave another
 * secret. */
static void packets_of_before_a_reload(void **state)
{
	static struct rig_next next[3];
	static uint8_t b[512];

	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		struct spec s = kind_spec(UDP4), back;
		uint64_t unknown;
		struct child *old, *other;
		struct pkt p;

		if (i) {
			ipsec_rig_down(state);
			ipsec_rig_up(state);
		}
		unknown = rig_drops(DROP_ESP_UNKNOWN_SPI);
		old = child_up(child_begin(P1));
		other = child_up(child_begin(Q1));
		from_any(P1, &s);
		p = only_out(TO_TUN);
		back = answer_to(&p);
		put_esp(old, ESP_NEXT_IPV4, b, packet_make(b, &s), 0);
		rig_next_begin(&next[i]);
		if (i == 0)
			rig_next_remove(&next[i], "p1");
		else if (i == 1)
			rig_next_at(&next[i], "p1")->site = (char *)(uintptr_t) "Q";
		else
			rig_next_at(&next[i], "p1")->ike.psk = (char *)(uintptr_t) "new";
		say_delete(old, true); /* what the key exchange says of it comes late */
		say_delete(old, false);
		ipsec_rig_reload(&next[i]);
		rig_forget();
		run_ipsec();
		assert_int_equal(rig.nout, 0);
		assert_int_equal(rig_drops(DROP_ESP_UNKNOWN_SPI), unknown + 1);
		from_egress(&back); /* the site has another way, or none of its own any more; never Q's */
		if (i == 2)
			only_out(P2);
		for (unsigned k = 0; k < rig.nout; k++)
			assert_int_not_equal(rig.out[k].to, Q1);
		rig_forget();
		put_esp(other, ESP_NEXT_IPV4, b, packet_make(b, &s), 0);
		run_ipsec();
		only_out(TO_TUN); /* nobody else has noticed */
	}
}

/* ---- what is not let in ---------------------------------------------------------------------------------- */

static void counted_where_it_belongs(void **state)
{
	static uint8_t b[512];
	struct spec s = kind_spec(UDP4);
	struct ipsec_rx *rx, copy;
	uint8_t sealed[512];
	uint32_t len;
	const struct sa *in;

	(void)state;
	all_up();
	in = ipsec_sas(rig.gw.ipsec, rig_at(P1), true);
	rx = put_ipsec(P1, b, packet_make(b, &s));
	memcpy(sealed, rx->data, rx->len);
	copy = *rx;
	run_ipsec();
	only_out(TO_TUN);
	/* the same once more; twice in one batch; and damaged */
	stub_put(IPSEC_RX_ESP, &copy.local, &copy.remote, sealed, copy.len);
	run_ipsec();
	rx = put_ipsec(P1, b, packet_make(b, &s));
	memcpy(sealed, rx->data, rx->len);
	stub_put(IPSEC_RX_ESP, &copy.local, &copy.remote, sealed, copy.len);
	put_ipsec(P1, b, packet_make(b, &s))->data[30] ^= 1;
	rx = put_ipsec(P1, b, packet_make(b, &s));
	rx->len -= 1;
	run_ipsec();
	assert_int_equal(rig.nout, 2);
	assert_int_equal(rig_at(P1)->count.drops[DROP_ESP_REPLAY], 2);
	assert_int_equal(rig_at(P1)->count.drops[DROP_ESP_AUTH], 1);
	assert_int_equal(rig_at(P1)->count.drops[DROP_ESP_TRUNCATED], 1);
	assert_int_equal(in->replayed, 2);
	assert_int_equal(in->bad_icv, 1);
	assert_int_equal(rig_at(P1)->count.rx_packets, 2);
	assert_int_equal(rig_at(P1)->count.rx_bytes, 2 * packet_make(b, &s));
	assert_int_equal(atomic_load(&in->use->packets), 2);
	/* another's SPI in front of what P has sealed */
	rx = put_ipsec(P1, b, packet_make(b, &s));
	be32_put(rx->data, ir.of[Q1]->in_spi);
	run_ipsec();
	assert_int_equal(rig_at(Q1)->count.drops[DROP_ESP_AUTH], 1);
	assert_int_equal(rig_at(P1)->count.drops[DROP_ESP_AUTH], 1);
	/* inside is not what the header says; nothing; what is no IP */
	len = packet_make(b, &s);
	put_esp(ir.of[P1], ESP_NEXT_IPV6, b, len, 0);
	put_esp(ir.of[P1], ESP_NEXT_IPV4, b, 0, 0);
	put_esp(ir.of[P1], IPPROTO_GRE, b, len, 0);
	put_esp(ir.of[Y1], ESP_NEXT_IPV4, b, len, 0); /* transport mode */
	run_ipsec();
	assert_int_equal(rig_at(P1)->count.drops[DROP_INNER_MALFORMED], 1);
	assert_int_equal(rig_at(P1)->count.drops[DROP_INNER_TRUNCATED], 1);
	assert_int_equal(rig_at(P1)->count.drops[DROP_ESP_NEXT_HEADER], 1);
	assert_int_equal(rig_at(Y1)->count.drops[DROP_ESP_NEXT_HEADER], 1);
	/* too short for an SPI; the socket's own judgement; IKE that finds no room */
	stub_put(IPSEC_RX_ESP, &copy.local, &copy.remote, b, 3);
	stub_put(IPSEC_RX_ESP, &copy.local, &copy.remote, b, 9)->drop = DROP_IPSEC_MALFORMED;
	stub_put(IPSEC_RX_KEEPALIVE, &copy.local, &copy.remote, b, 1);
	stub_put(IPSEC_RX_IKE, &copy.local, &copy.remote, b, 28);
	run_ipsec();
	stub.receive_drop = DROP_IKE_QUEUE;
	stub_put(IPSEC_RX_IKE, &copy.local, &copy.remote, b, 30);
	run_ipsec();
	assert_int_equal(rig.gw.count.drops[DROP_ESP_UNKNOWN_SPI], 1);
	assert_int_equal(rig.gw.count.drops[DROP_IPSEC_MALFORMED], 1);
	assert_int_equal(rig.gw.count.drops[DROP_IKE_QUEUE], 1);
	assert_int_equal(did_count(DID_RECEIVE, 0), 2);
	assert_int_equal(did_last(DID_RECEIVE)->len, 30);
	assert_int_equal(rig.nout, 2);
}

/* Another destination for an ICMP error over IPv4. Returns len. */
static uint32_t error_to(uint8_t *b, const struct addr *dst, uint32_t len)
{
	memcpy(b + 16, &dst->w[3], 4);
	packet_ip_csum(b);
	return len;
}

/* RFC 4301 5.2: what was negotiated, both ways. */
static void selectors_are_enforced(void **state)
{
	struct spec s = kind_spec(UDP4), back;
	struct child *c = child_begin(P1);
	struct pkt p;

	(void)state;
	c->local_ts[0] = "198.51.100.0";
	c->local_ts[1] = "198.51.100.255";
	c->remote_ts[0] = "10.0.1.0";
	c->remote_ts[1] = "10.0.1.255";
	child_up(c);
	s.dst = test_addr("192.0.2.1");
	from_any(P1, &s);
	s = kind_spec(UDP4);
	s.src = test_addr("10.0.2.2");
	from_any(P1, &s);
	s = kind_spec(UDP6);
	from_any(P1, &s);
	assert_int_equal(rig.nout, 0);
	assert_int_equal(rig_at(P1)->count.drops[DROP_ESP_SELECTOR], 3);
	assert_int_equal(rig_at(P1)->count.rx_packets, 0);
	s = kind_spec(UDP4);
	from_any(P1, &s);
	p = only_out(TO_TUN);
	back = answer_to(&p);
	assert_ptr_equal(sends_by(&back), c);
	/* a flow that came by the other tunnel of the site, and would leave by this one */
	s.dst = test_addr("192.0.2.1");
	rig_forget();
	from_any(P2, &s);
	p = only_out(TO_TUN);
	back = answer_to(&p);
	rig_at(P2)->down_until_ms = rig.now + 1000;
	assert_null(sends_by(&back));
	assert_int_equal(rig.nout, 0);
	assert_int_equal(rig_at(P1)->count.drops[DROP_ESP_SELECTOR], 4);
	assert_int_equal(rig_at(P1)->count.tx_packets, 1);
}

/* RFC 4301 6.2: who reports is in no selector; what he quotes is. */
static void errors_pass_narrow_selectors(void **state)
{
	static const struct virtio_net_hdr plain;
	struct spec s = kind_spec(UDP4), back;
	struct child *c = child_begin(P1);
	uint8_t q[256] = {0}, b[512] = {0};
	struct pkt p;

	(void)state;
	c->local_ts[0] = "198.51.100.0";
	c->local_ts[1] = "198.51.100.255";
	c->remote_ts[0] = "10.0.1.0";
	c->remote_ts[1] = "10.0.1.255";
	child_up(c);
	s.payload_len = 32;
	from_any(P1, &s);
	p = only_out(TO_TUN);
	back = answer_to(&p);
	/* the Internet about what the branch sent */
	rig_forget();
	ir.last.child = NULL;
	raw_from_egress(&plain, b, packet_error(b, &s, 11, 0, q, packet_make(q, &s)));
	assert_ptr_equal(ir.last.child, c);
	/* the branch about what it got */
	rig_forget();
	put_ipsec(P1, b, packet_error(b, &back, 3, 0, q, packet_make(q, &back)));
	run_ipsec();
	assert_int_equal(rig.nout, 0); /* to the server, of what it sent: not to the branch's own host */
	assert_int_equal(rig_at(P1)->count.drops[DROP_ICMP_NO_FLOW], 1);
	put_ipsec(P1, b, error_to(b, &back.src, packet_error(b, &back, 3, 0, q, packet_make(q, &back))));
	run_ipsec();
	p = only_out(TO_TUN);
	assert_true(p.icmp_error);
	assert_int_equal(rig_at(P1)->count.drops[DROP_ESP_SELECTOR], 0);
	/* about what the selectors do not let through either */
	back.dst = test_addr("10.0.2.2");
	put_ipsec(P1, b, error_to(b, &back.src, packet_error(b, &back, 3, 0, q, packet_make(q, &back))));
	run_ipsec();
	assert_int_equal(rig_at(P1)->count.drops[DROP_ESP_SELECTOR], 1);
}

/* A peer that has a CHILD_SA for each family gets each packet by the right one. */
static void narrow_sas_side_by_side(void **state)
{
	struct child *c[2];
	struct spec back[2];

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		c[i] = child_begin(P1);
		c[i]->local_ts[0] = i ? "::" : "0.0.0.0";
		c[i]->local_ts[1] = i ? "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff" : "255.255.255.255";
		memcpy(c[i]->remote_ts, c[i]->local_ts, sizeof(c[i]->remote_ts));
		child_up(c[i]);
	}
	for (unsigned i = 0; i < 2; i++) {
		struct spec s = kind_spec(i ? TCP6 : TCP4);
		struct pkt p;

		s.flags = TCP_SYN;
		ir.of[P1] = c[i];
		rig_forget();
		from_any(P1, &s);
		p = only_out(TO_TUN);
		back[i] = answer_to(&p);
		back[i].flags = TCP_SYN | TCP_ACK;
	}
	for (unsigned i = 0; i < 6; i++)
		assert_ptr_equal(sends_by(&back[i % 2]), c[i % 2]);
	assert_int_equal(rig_at(P1)->count.drops[DROP_ESP_SELECTOR], 0);
}

/* ---- headers --------------------------------------------------------------------------------------------- */

/* RFC 6040 and 2983, as with GRE. Rows by the inner field, columns by the outer one; -1: dropped. */
static void ecn_and_dscp(void **state)
{
	static const int want[4][4] = {{0, 0, 0, -1}, {1, 1, 1, 3}, {2, 1, 2, 3}, {3, 3, 3, 3}};
	static uint8_t b[512];

	(void)state;
	all_up();
	for (unsigned k = 0; k < 32; k++) {
		unsigned inner = k / 4 % 4, outer = k % 4;
		struct spec s = kind_spec(k / 16 ? UDP6 : UDP4), back;
		struct pkt p;

		rig_forget();
		s.tos = (uint8_t)(0x28 | inner);
		s.sport = (uint16_t)(6000 + k);
		put_ipsec(P1, b, packet_make(b, &s))->tos = (uint8_t)(0xb8 | outer);
		run_ipsec();
		if (want[inner][outer] < 0) {
			assert_int_equal(rig.nout, 0);
			continue;
		}
		p = only_out(TO_TUN);
		assert_int_equal(p.tos, 0x28 | want[inner][outer]);
		back = answer_to(&p);
		back.tos = (uint8_t)(0x48 | inner);
		rig_forget();
		rig.ct[P1].dscp = k % 2 ? 46 : DSCP_INHERIT;
		from_egress(&back);
		only_out(P1);
		assert_int_equal(rig.out[0].tx.tos, k % 2 ? 46u << 2 | inner : 0x48 | inner);
	}
	assert_int_equal(rig_at(P1)->count.drops[DROP_ECN_CE_NOT_ECT], 2);
}

/* GRE and ESP with other tunnels' outer addresses, inside of a tunnel: packets like others. */
static void tunnels_packets_inside(void **state)
{
	static uint8_t b[1000], in[512];
	struct spec s = kind_spec(UDP4), outer = packet_spec(4, IPPROTO_GRE);
	uint64_t rx_x2 = 0;
	struct pkt p;

	(void)state;
	all_up();
	for (unsigned i = 0; i < 3; i++) {
		static const unsigned as[] = {A1, X2, Y2};
		const struct conf_tunnel *c = &rig.ct[as[i]];
		uint32_t len = packet_make(in, &s);
		struct gre_hdr h = gre_hdr_of(c, in);

		rig_forget();
		len = gre_make(b, c, true, &h, in, len);
		put_esp(ir.of[P1], ESP_NEXT_IPV4, b, len, 0);
		put_esp(ir.of[Q1], ESP_NEXT_IPV4, b, len, 0);
		run_ipsec();
		if (i == 1) { /* to an address that is not the gateway's */
			assert_int_equal(rig.nout, 2);
			p = out_pkt(0, TO_TUN);
			assert_int_equal(p.t.proto, IPPROTO_GRE);
			assert_true(addr_eq(&p.t.dst, &c->local));
			continue;
		}
		assert_int_equal(rig.nout, 0);
	}
	assert_int_equal(rig_drops(DROP_DST_GATEWAY), 4);
	assert_int_equal(rig_at(X2)->count.rx_packets, rx_x2);
	assert_int_equal(rig_at(Y2)->count.rx_packets, 0);
	assert_int_equal(rig_at(A1)->count.rx_packets, 0);
	/* Q's own ESP packet, as P has caught it somewhere */
	rig_forget();
	{
		struct ipsec_rx *rx = put_ipsec(Q1, b, packet_make(b, &s));

		outer.proto = IPPROTO_ESP;
		outer.src = ir.of[Q1]->remote.a;
		outer.dst = test_addr("192.0.2.50");
		outer.body = rx->data;
		outer.payload_len = rx->len;
		put_esp(ir.of[P1], ESP_NEXT_IPV4, b, packet_make(b, &outer), 0);
		rx->kind = IPSEC_RX_KEEPALIVE; /* it has not come to us */
	}
	run_ipsec();
	p = only_out(TO_TUN);
	assert_int_equal(p.t.proto, IPPROTO_ESP);
	assert_int_equal(rig_at(Q1)->count.rx_packets, 3);
}

#define CASE(f) IPSEC_CASE(f)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(replies_go_home),
		CASE(batches_are_not_mixed_up),
		CASE(packets_of_before_a_reload),
		CASE(counted_where_it_belongs),
		CASE(selectors_are_enforced),
		CASE(errors_pass_narrow_selectors),
		CASE(narrow_sas_side_by_side),
		CASE(ecn_and_dscp),
		CASE(tunnels_packets_inside),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
