/* SPDX-License-Identifier: GPL-2.0-or-later */
/* gateway_pathsa_test.c - security associations come, change and go under traffic: which one a packet is sent by, what came
 * too early, what came in the middle of a batch, another end.
 */
#include "test/unit/ipsec_rig.h"

/* ---- keys come and go ------------------------------------------------------------------------------------ */

static void rekeying(void **state)
{
	struct child *a = child_up(child_begin(P1)), *b, *c;
	struct spec s = kind_spec(UDP4), back = begin_flow(P1);

	(void)state;
	assert_ptr_equal(sends_by(&back), a);
	/* the peer rekeys: until it is heard on the new one, the old one is used */
	b = child_keyed(child_begin(P1));
	say_add(b, true);
	say_add(b, false);
	heard();
	assert_ptr_equal(sends_by(&back), a);
	from_any(P1, &s); /* by b */
	assert_ptr_equal(sends_by(&back), b);
	say_delete(a, false);
	say_delete(a, true);
	heard();
	assert_ptr_equal(sends_by(&back), b);
	/* we rekey */
	c = child_begin(P1);
	c->initiator = true;
	child_keyed(c);
	say_add(c, true);
	say_add(c, false);
	heard();
	assert_ptr_equal(sends_by(&back), c);
	/* what is under way by the old one still counts */
	ir.of[P1] = b;
	rig_forget();
	from_any(P1, &s);
	only_out(TO_TUN);
	assert_ptr_equal(sends_by(&back), c);
	ir.of[P1] = c;
	say_delete(b, true);
	say_delete(b, false);
	say_delete(c, true);
	say_delete(c, false);
	heard();
	assert_int_equal(tunnel_state(rig_at(P1), rig.now), TUNNEL_DOWN);
	assert_int_equal(crypto_keys_count(stub.o.keys), 0);
}

/* The peer has deleted the old one, though nothing has come by the new one. */
static void the_old_one_is_deleted_first(void **state)
{
	struct child *a = child_up(child_begin(P1)), *b;
	struct spec back = begin_flow(P1);

	(void)state;
	b = child_keyed(child_begin(P1));
	say_add(b, true);
	say_add(b, false);
	heard();
	assert_ptr_equal(sends_by(&back), a);
	say_delete(a, false);
	heard();
	assert_ptr_equal(sends_by(&back), b);
}

/* What the tunnel says of the SA that it sends by is true also when the choice changes by a packet or by time alone. */
static void the_tunnel_knows_its_sa(void **state)
{
	struct child *b;
	struct spec s = kind_spec(UDP4), back;

	(void)state;
	child_up(child_begin(P1));
	back = begin_flow(P1);
	for (unsigned i = 0; i < 2; i++) {
		rig_at(P1)->pmtu = 0;
		tunnel_path_mtu(rig_at(P1), 1400, rig.now);
		b = child_begin(P1);
		b->suite = &suites[i ? SUITE_CHACHA20_POLY1305 : SUITE_AES_CBC_256_SHA512];
		b->remote = (struct sa_end){test_addr(i ? "2001:db8::5" : "203.0.113.99"), 4501};
		if (i)
			b->local.a = test_addr("2001:db8::1");
		child_keyed(b);
		say_add(b, true);
		say_add(b, false);
		heard();
		assert_ptr_not_equal(sends_by(&back), b);
		if (i)
			rig.now += SAD_CONFIRM_MS;
		else
			from_any(P1, &s);
		assert_ptr_equal(sends_by(&back), b);
		assert_ptr_equal(rig_at(P1)->ipsec->suite, b->suite);
		assert_true(addr_eq(&rig_at(P1)->ipsec->remote.a, &b->remote.a));
		assert_int_equal(rig_at(P1)->ipsec->remote.port, 4501);
		assert_int_equal(rig_at(P1)->pmtu, 0); /* another path */
	}
}

/* Packets that are there before their SA: played in order when it comes; dropped when they are late. */
static void held_packets(void **state)
{
	static uint8_t b[512];
	struct spec s = kind_spec(UDP4);
	struct child *c;

	(void)state;
	child_up(child_begin(Q1));
	for (unsigned late = 0; late < 3; late++) {
		rig_forget();
		c = child_keyed(child_begin(P1));
		ir.of[P1] = c;
		for (unsigned i = 0; i < 70; i++) { /* more than a batch */
			s.sport = (uint16_t)(3000 + i);
			put_esp(c, ESP_NEXT_IPV4, b, packet_make(b, &s), 0);
		}
		run_ipsec();
		assert_int_equal(rig.nout, 0);
		assert_int_equal(rig_drops(DROP_ESP_UNKNOWN_SPI), 0);
		rig.now += late ? SAD_HOLD_MS + 1 : SAD_HOLD_MS;
		if (late == 2) {
			ipsec_tick(rig.gw.ipsec);
			assert_int_equal(
				rig.gw.count.drops[DROP_ESP_HELD], 70); /* whose they were is not known */
		}
		say_add(c, true);
		s.sport = 2999;
		put_esp(c, ESP_NEXT_IPV4, b, packet_make(b, &s), 0);
		run_ipsec(); /* an SPI that is not known: what was said is heard first */
		assert_int_equal(rig.nout, late ? 1 : 71);
		for (unsigned i = 0; i < rig.nout; i++)
			assert_int_equal(
				ntohs(out_pkt(i, TO_TUN).t.sport), i + 1 < rig.nout ? 3000 + i : 2999);
	}
	assert_int_equal(rig_at(P1)->count.drops[DROP_ESP_HELD], 70);
	assert_int_equal(rig_drops(DROP_ESP_HELD), 140);
}

/* More than may be held; and a reservation that came to nothing. */
static void held_in_vain(void **state)
{
	static uint8_t b[512];
	struct spec s = kind_spec(UDP4);
	struct child *c = child_keyed(child_begin(P1));

	(void)state;
	for (unsigned i = 0; i < SAD_HOLD_MAX + 4; i++) {
		put_esp(c, ESP_NEXT_IPV4, b, packet_make(b, &s), 0);
		run_ipsec();
	}
	assert_int_equal(rig_drops(DROP_ESP_HELD), 4);
	say_delete(c, true);
	heard();
	ipsec_tick(rig.gw.ipsec);
	assert_int_equal(rig_drops(DROP_ESP_HELD), SAD_HOLD_MAX + 4);
	put_esp(c, ESP_NEXT_IPV4, b, packet_make(b, &s), 0);
	run_ipsec();
	assert_int_equal(rig_drops(DROP_ESP_UNKNOWN_SPI), 1);
	assert_int_equal(rig.nout, 0);
}

/* In the middle of what was read, an unknown SPI has the mailbox emptied: SAs of packets before it may go by that. */
static void sas_change_in_the_middle_of_a_batch(void **state)
{
	static uint8_t b[512];
	struct child *old = child_up(child_begin(P1)), *new = child_keyed(child_begin(P1)), *q;
	static const unsigned order[] = {0, 0, 1, 0, 1, 2};
	struct spec s = kind_spec(UDP4);

	(void)state;
	q = child_up(child_begin(Q1));
	say_add(new, true);
	say_add(new, false);
	say_delete(old, true);
	say_delete(old, false);
	for (size_t i = 0; i < sizeof(order) / sizeof(order[0]); i++) {
		s.sport = (uint16_t)(3000 + i);
		put_esp(order[i] == 0   ? old
			: order[i] == 1 ? new
					: q,
			ESP_NEXT_IPV4, b, packet_make(b, &s), 0);
	}
	run_ipsec();
	assert_int_equal(rig.nout, 5);
	for (unsigned i = 0; i < 5; i++) /* the one behind it that is too late: gone */
		assert_int_equal(ntohs(out_pkt(i, TO_TUN).t.sport), 3000 + i + (i > 2));
	assert_int_equal(rig_drops(DROP_ESP_UNKNOWN_SPI), 1);
}

/* ---- another end ------------------------------------------------------------------------------------------ */

/* The branch speaks from another end. It is reported once a second, and only when it is the branch, and now. */
static void a_nats_new_mapping(void **state)
{
	static const struct {
		uint32_t after_ms;
		bool forged, replayed, native;
		unsigned want; /* reports by then */
	} rows[] = {{0, true, false, false, 0}, {0, false, true, false, 0}, {0, false, false, true, 0},
		{0, false, false, false, 1}, {0, false, false, false, 1}, {999, false, false, false, 1},
		{1, true, false, false, 1}, {0, false, false, false, 2}};
	static uint8_t b[512], before[512];
	struct sa_end moved = {test_addr("203.0.113.77"), 1024}, native = {test_addr("203.0.113.77"), 0};
	struct child *c = child_up(child_begin(P1));
	struct spec s = kind_spec(UDP4), back = begin_flow(P1);
	struct ipsec_rx *rx = put_ipsec(P1, b, packet_make(b, &s));

	(void)state;
	memcpy(before, rx->data, rx->len);
	run_ipsec();
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		rx = put_ipsec(P1, b, packet_make(b, &s));
		rx->remote = rows[i].native ? native : moved;
		if (rows[i].forged)
			rx->data[20] ^= 1;
		if (rows[i].replayed)
			memcpy(rx->data, before, rx->len);
		rig.now += rows[i].after_ms;
		run_ipsec();
		if (did_count(DID_MAPPING, 0) != rows[i].want)
			fail_msg("row %zu: %u reports", i, did_count(DID_MAPPING, 0));
	}
	assert_int_equal(did_count(DID_MAPPING, c->conn), 2);
	assert_int_equal(did_last(DID_MAPPING)->spi, c->in_spi);
	assert_int_equal(did_last(DID_MAPPING)->remote.port, 1024);
	assert_ptr_equal(
		sends_by(&back), c); /* still where it was: whether it moved, the key exchange says */
	say_moved(c, &moved);
	heard();
	assert_ptr_equal(sends_by(&back), c); /* branch_got looks at the address */
	assert_int_equal(rig_at(P1)->ipsec->remote.port, 1024);
	rig.now += 1000;
	put_ipsec(P1, b, packet_make(b, &s));
	run_ipsec();
	assert_int_equal(did_count(DID_MAPPING, 0), 2);
}

/* A packet that somebody kept back, or a NAT that is gone did, and that passes the window, says nothing of where the branch is
 * now; without a window old ones do not even say that it is there. Where the key exchange followed, it may follow back at once. */
static void old_packets_move_nothing(void **state)
{
	static uint8_t b[512], kept[512];
	struct sa_end home, moved = {test_addr("203.0.113.77"), 1024};
	struct child *c = child_up(child_begin(P1));
	struct spec s = kind_spec(UDP4);
	struct ipsec_rx *rx;
	const struct sa *in;
	uint64_t heard_ms;
	uint32_t len = packet_make(b, &s);

	(void)state;
	for (unsigned windowless = 0; windowless < 2; windowless++) {
		if (windowless)
			((struct sa *)(uintptr_t)sad_in(stub.o.sad, c->in_spi))->replay.window = 0;
		in = sad_in(stub.o.sad, c->in_spi);
		home = c->remote;
		/* one that does not arrive, and the next one */
		struct esp_out out = {.sa = &c->send, .data = kept, .inner_len = len, .next = ESP_NEXT_IPV4};
		memcpy(kept + esp_inner_at(&c->send), b, len);
		esp_seal(ir.crypto, &out, 1);
		put_ipsec(P1, b, len);
		run_ipsec();
		heard_ms = atomic_load(&in->use->last_ms);
		rig.now += 5000;
		rx = stub_put(IPSEC_RX_ESP, &c->local, &moved, kept, out.len);
		rx->remote = moved;
		rig_forget();
		run_ipsec();
		assert_int_equal(rig.nout, 1);                               /* it is good, */
		assert_int_equal(did_count(DID_MAPPING, 0), windowless * 2); /* but old */
		assert_int_equal(atomic_load(&in->use->last_ms), windowless ? heard_ms : rig.now);

		/* the newest, and then the branch itself from where it was */
		for (unsigned back = 0; back < 2; back++) {
			rx = put_ipsec(P1, b, len);
			rx->remote = back ? home : moved;
			run_ipsec();
			assert_int_equal(did_count(DID_MAPPING, 0), windowless * 2 + back + 1);
			say_moved(c, back ? &home : &moved);
			heard();
		}
	}
}

/* IPv4 to IPv6, as MOBIKE does it, and out of UDP. */
static void another_family(void **state)
{
	struct child *c = child_up(child_begin(P1));
	struct spec s = kind_spec(UDP4), back = begin_flow(P1);
	struct sa_end v6 = {test_addr("2001:db8::9"), 4500};

	(void)state;
	tunnel_path_mtu(rig_at(P1), 1300, rig.now);
	c->local.a = test_addr("2001:db8::1");
	say_moved(c, &v6);
	heard();
	assert_ptr_equal(sends_by(&back), c);
	assert_int_equal(stub.sent[stub.nsent - 1].family, AF_INET6);
	assert_int_equal(rig_at(P1)->pmtu, 0);
	c->local = (struct sa_end){test_addr("198.51.100.1"), 0};
	say_moved(c, &(struct sa_end){test_addr("203.0.113.78"), 0});
	heard();
	assert_ptr_equal(sends_by(&back), c);
	assert_int_equal(stub.sent[stub.nsent - 1].port, IPSEC_RAW);
	rig_forget();
	from_any(P1, &s);
	only_out(TO_TUN);
}

/* ---- ways into a site ------------------------------------------------------------------------------------- */

static void ipsec_and_gre_into_one_site(void **state)
{
	struct spec back, s = kind_spec(UDP4);
	struct child *c;

	(void)state;
	child_up(child_begin(Q1));
	assert_int_equal(tunnel_state(rig_at(P1), rig.now), TUNNEL_DOWN);
	c = child_up(child_begin(P1));
	back = begin_flow(P1);
	assert_ptr_equal(sends_by(&back), c);
	say_delete(c, true);
	say_delete(c, false);
	say_status(c, IKE_STATE_DOWN, c->ike, 0);
	heard();
	assert_null(sends_by(&back));
	only_out(P2); /* at once by the other */
	c = child_up(child_begin(P1));
	assert_ptr_equal(sends_by(&back), c);
	only_out(P1); /* it is the flow's own way */
	rig_forget();
	from_any(P2, &s); /* the branch has moved */
	rig_forget();
	from_egress(&back);
	only_out(P2);
	rig_forget();
	from_any(Q1, &s); /* another site's equal packet moves nothing */
	rig_forget();
	from_egress(&back);
	only_out(P2);
	rig_at(P2)->down_until_ms = rig.now + 1000;
	assert_ptr_equal(sends_by(&back), c);
	only_out(P1);
	/* all down: nothing goes, to nobody */
	say_delete(c, true);
	say_delete(c, false);
	heard();
	assert_null(sends_by(&back));
	if (rig.nout) /* GRE may be tried all the same */
		only_out(P2);
	else
		assert_int_equal(rig_at(P1)->count.drops[DROP_TUNNEL_DOWN], 1);
}

#define CASE(f) IPSEC_CASE(f)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(rekeying),
		CASE(the_old_one_is_deleted_first),
		CASE(the_tunnel_knows_its_sa),
		CASE(held_packets),
		CASE(held_in_vain),
		CASE(sas_change_in_the_middle_of_a_batch),
		CASE(a_nats_new_mapping),
		CASE(old_packets_move_nothing),
		CASE(another_family),
		CASE(ipsec_and_gre_into_one_site),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
