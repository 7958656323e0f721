/* SPDX-License-Identifier: GPL-2.0-or-later */
/* gateway_path_test.c - packets in, packets out: whose they are, where they go, what is changed on the way. */
#include "test/unit/path_rig.h"

#include <netinet/ip_icmp.h>

/* ---- home -------------------------------------------------------------------------------------------- */

/* Two sites send the same packet of each kind; each gets its own answer, as if it were alone. */
static void replies_go_home(void **state)
{
	(void)state;
	for (unsigned kind = 0; kind < KINDS; kind++) {
		struct spec s = kind_spec(kind), back, answer[2];
		struct pkt seen[2], home;

		s.flags = TCP_SYN;
		for (unsigned i = 0; i < 2; i++) {
			rig_forget();
			s.fill = i;
			from_branch(i ? B1 : A1, &s);
			seen[i] = only_out(TO_TUN);
			assert_same_payload(&seen[i], &s);
			answer[i] = answer_to(&seen[i]);
		}
		assert_true(addr_eq(&seen[0].t.src, &s.src));
		assert_memory_not_equal(&seen[0].t, &seen[1].t, sizeof(seen[0].t));
		if (has_ports(kind)) /* translated as little as possible */
			assert_true(addr_eq(&seen[1].t.src, &s.src));
		for (unsigned i = 0; i < 2; i++) {
			rig_forget();
			back = answer[i];
			back.fill = 100 + i;
			from_egress(&back);
			home = only_out(i ? B1 : A1);
			assert_int_equal(rig.out[0].tx.hdr.has_key, i);
			assert_true(addr_eq(&home.t.dst, &s.src));
			assert_same_payload(&home, &back);
			if (has_ports(kind))
				assert_int_equal(home.t.dport, htons(s.sport));
			else if (kind == ICMP4 || kind == ICMP6)
				assert_int_equal(home.t.dport, htons(s.sport));
		}
	}
}

/* A batch of many flows of two sites, each with a tag in it: the same, all at once. */
static void a_batch_is_not_mixed_up(void **state)
{
	static uint8_t b[2000];

	(void)state;
	for (unsigned round = 0; round < 20; round++) {
		for (unsigned i = 0; i < GRE_BATCH; i++) {
			struct spec s = kind_spec(i % 4 < 2 ? UDP4 : UDP6);

			s.sport = (uint16_t)(5000 + round * 8 + i / 16);
			s.fill = i % 2;
			put_branch(i % 2 ? B1 : A1, b, packet_make(b, &s));
		}
		rig_forget();
		run_branch();
	}
	assert_int_equal(rig_drops(DROP_OTHER_SITE), 0);
	for (unsigned i = 0; i < rig.nout; i++) {
		struct pkt p = out_pkt(i, TO_TUN);
		struct spec back = answer_to(&p);
		unsigned tag = p.data[p.payload] % 251, before = rig.nout;

		assert_true(tag < 2);
		from_egress(&back);
		out_pkt(before, tag ? B1 : A1);
		rig.nout = before;
	}
}

static void nobody_elses_packet_begins_or_finds_a_flow(void **state)
{
	static const struct {
		const char *what;
		unsigned kind;
		uint8_t flags, icmp_type;
		enum drop want;
	} rows[] = {
		{"segment without SYN", TCP4, TCP_ACK, 0, DROP_NOT_A_BEGINNING},
		{"SYN, ACK", TCP4, TCP_SYN | TCP_ACK, 0, DROP_NOT_A_BEGINNING},
		{"RST", TCP6, TCP_RST, 0, DROP_NOT_A_BEGINNING},
		{"SYN to nobody's prefix", TCP4, TCP_SYN, 0, DROP_NO_FLOW},
		{"datagram", UDP4, 0, 0, DROP_NO_FLOW},
		{"datagram", UDP6, 0, 0, DROP_NO_FLOW},
		{"echo reply", ICMP4, 0, ICMP_ECHOREPLY, DROP_NOT_A_BEGINNING},
		{"redirect", ICMP4, 0, ICMP_REDIRECT, DROP_NOT_A_BEGINNING},
		{"neighbour solicitation", ICMP6, 0, 135, DROP_NOT_A_BEGINNING},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct spec s = kind_spec(rows[i].kind);
		uint64_t before = rig_drops(rows[i].want);

		s.dst = s.src;
		s.src = test_addr(s.ver == 4 ? "198.51.100.7" : "2001:db8::7");
		s.flags = rows[i].flags;
		s.icmp_type = rows[i].icmp_type;
		from_egress(&s);
		if (rig.nout || rig_drops(rows[i].want) != before + 1)
			fail_msg("%s: %u came out", rows[i].what, rig.nout);
	}
}

/* ---- addresses --------------------------------------------------------------------------------------- */

static void addresses_that_are_refused(void **state)
{
	static const struct {
		const char *src, *dst;
		enum drop want;
	} rows[] = {
		{"127.0.0.1", "192.0.2.1", DROP_SOURCE_INVALID},
		{"224.0.0.1", "192.0.2.1", DROP_SOURCE_INVALID},
		{"169.254.1.1", "192.0.2.1", DROP_SOURCE_INVALID},
		{"::1", "2001:db8::7", DROP_SOURCE_INVALID},
		{"fe80::1", "2001:db8::7", DROP_SOURCE_INVALID},
		{"10.0.1.5", "127.0.0.53", DROP_DST_LOOPBACK},
		{"10.0.1.5", "169.254.169.254", DROP_DST_METADATA},
		{"10.0.1.5", "169.254.7.7", DROP_DST_LINK_LOCAL},
		{"10.0.1.5", "224.0.0.251", DROP_DST_MULTICAST},
		{"10.0.1.5", "255.255.255.255", DROP_DST_BROADCAST},
		{"10.0.1.5", "0.0.0.0", DROP_DST_INVALID},
		{"10.0.1.5", "10.7.7.7", DROP_DST_PRIVATE},
		{"10.0.1.5", "100.64.0.1", DROP_DST_PRIVATE},
		{"10.0.1.5", "198.51.100.1", DROP_DST_GATEWAY},
		{"10.0.1.5", "10.213.0.1", DROP_DST_GATEWAY}, /* TCP to the interface_address */
		{"fd00:1::2", "::1", DROP_DST_LOOPBACK},
		{"fd00:1::2", "fe80::1", DROP_DST_LINK_LOCAL},
		{"fd00:1::2", "ff02::1", DROP_DST_MULTICAST},
		{"fd00:1::2", "fd00:ec2::254", DROP_DST_METADATA},
		{"fd00:1::2", "fd00:77::1", DROP_DST_PRIVATE},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct spec s = kind_spec(strchr(rows[i].src, ':') ? TCP6 : TCP4);
		uint64_t before = rig_drops(rows[i].want);

		s.src = test_addr(rows[i].src);
		s.dst = test_addr(rows[i].dst);
		s.flags = TCP_SYN;
		from_branch(A1, &s);
		if (rig.nout || rig_drops(rows[i].want) != before + 1)
			fail_msg("%s to %s is not dropped by name", rows[i].src, rows[i].dst);
	}
}

static void a_source_of_the_machine_is_replaced(void **state)
{
	struct spec s = kind_spec(UDP4), back;
	struct pkt p, home;

	(void)state;
	s.src = rig.own[0];
	from_branch(A1, &s);
	p = only_out(TO_TUN);
	assert_int_equal(ntohl(p.t.src.w[3]) >> 16, 0x6440);
	back = answer_to(&p);
	rig_forget();
	from_egress(&back);
	home = only_out(A1);
	assert_true(addr_eq(&home.t.dst, &rig.own[0]));
}

/* ---- headers on the way ------------------------------------------------------------------------------ */

/* RFC 6040, figure 4: rows by the inner field, columns by the outer one; -1: dropped. */
static void ecn(void **state)
{
	static const int want[4][4] = {{0, 0, 0, -1}, {1, 1, 1, 3}, {2, 1, 2, 3}, {3, 3, 3, 3}};
	static uint8_t b[2000];

	(void)state;
	for (unsigned kind = UDP4; kind <= UDP6; kind++) {
		for (unsigned k = 0; k < 16; k++) {
			struct spec s = kind_spec(kind), back;
			unsigned inner = k / 4, outer = k % 4;
			struct pkt p;

			rig_forget();
			s.tos = (uint8_t)(0x28 | inner);
			s.sport = (uint16_t)(6000 + k);
			put_branch(A1, b, packet_make(b, &s))->tos = (uint8_t)(0xb8 | outer);
			run_branch();
			if (want[inner][outer] < 0) {
				assert_int_equal(rig.nout, 0);
				continue;
			}
			p = only_out(TO_TUN);
			assert_int_equal(p.tos, 0x28 | want[inner][outer]);
			back = answer_to(&p);
			back.tos = (uint8_t)(0x48 | inner);
			rig_forget();
			from_egress(&back);
			only_out(A1);
			assert_int_equal(rig.out[0].tx.tos, 0x48 | inner);
		}
		assert_int_equal(rig_drops(DROP_ECN_CE_NOT_ECT), kind - UDP4 + 1);
	}
}

/* From branch to branch the gateway is a hop; and 0 is never taken down to 255. */
static void ttl(void **state)
{
	static const struct {
		const char *dst;
		uint8_t ttl;
		int want; /* that comes out; -1: the sender is told */
		int to;
	} rows[] = {
		{"198.51.100.7", 64, 64, TO_TUN}, /* the kernel takes it down */
		{"198.51.100.7", 1, -1, 0},
		{"198.51.100.7", 0, -1, 0},
		{"10.9.0.1", 64, 63, C1},
		{"10.9.0.1", 2, 1, C1},
		{"10.9.0.1", 1, -1, 0},
		{"10.9.0.99", 2, 1, C1}, /* one of the machine's own, but the route is before it */
		{"10.9.0.99", 1, -1, 0},
		{"10.9.0.99", 0, -1, 0},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct spec s = kind_spec(UDP4);
		struct pkt p;

		rig_forget();
		s.dst = test_addr(rows[i].dst);
		s.ttl = rows[i].ttl;
		from_branch(A1, &s);
		p = only_out(rows[i].want < 0 ? A1 : rows[i].to);
		if (rows[i].want < 0) {
			assert_int_equal(p.icmp_type, ICMP_TIME_EXCEEDED);
			assert_true(addr_eq(&p.t.src, &rig.ct[A1].interface_address[0].a));
			assert_int_equal(p.data[p.quote + 8], rows[i].ttl); /* as it was sent */
		} else {
			assert_int_equal(p.ttl, rows[i].want);
		}
	}
}

static void mss(void **state)
{
	static const struct {
		unsigned kind;
		bool to_c;
		uint32_t conf;
		uint16_t offered, want;
	} rows[] = {
		{TCP4, false, MSS_AUTO, 1460, 1436},
		{TCP4, false, MSS_AUTO, 1400, 1400},
		{TCP6, false, MSS_AUTO, 1440, 1416},
		{TCP4, true, MSS_AUTO, 1460, 1360}, /* both tunnels count */
		{TCP6, true, MSS_AUTO, 1440, 1340},
		{TCP4, false, MSS_OFF, 1460, 1460},
		{TCP4, false, 1200, 1460, 1200},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct spec s = kind_spec(rows[i].kind), back;
		struct pkt p;

		rig_forget();
		rig.ct[A1].mss = rows[i].conf;
		s.sport = (uint16_t)(7000 + i);
		s.flags = TCP_SYN;
		s.options[0] = 2;
		s.options[1] = 4;
		be16_put(s.options + 2, rows[i].offered);
		s.noptions = 4;
		if (rows[i].to_c)
			s.dst = test_addr(s.ver == 4 ? "10.9.0.1" : "fd00:9::1");
		from_branch(A1, &s);
		p = only_out(rows[i].to_c ? C1 : TO_TUN);
		assert_int_equal(p.mss, rows[i].want);
		back = answer_to(&p);
		back.flags = TCP_SYN | TCP_ACK;
		memcpy(back.options, s.options, 4);
		back.noptions = 4;
		rig_forget();
		if (rows[i].to_c)
			from_branch(C1, &back);
		else
			from_egress(&back);
		assert_int_equal(only_out(A1).mss, rows[i].want);
	}
}

/* ---- the tunnel's own -------------------------------------------------------------------------------- */

static void interface_address_answers(void **state)
{
	(void)state;
	for (unsigned kind = ICMP4; kind <= ICMP6; kind++) {
		for (unsigned t = 0; t < 2; t++) { /* two tunnels have the same one */
			struct spec s = kind_spec(kind);
			struct pkt p;

			rig_forget();
			s.dst = rig.ct[A1].interface_address[kind == ICMP6].a;
			s.fill = t;
			from_branch(t ? B1 : A1, &s);
			p = only_out(t ? B1 : A1);
			assert_int_equal(p.icmp_type, kind == ICMP4 ? 0 : 129);
			assert_true(addr_eq(&p.t.dst, &s.src) && addr_eq(&p.t.src, &s.dst));
			assert_same_payload(&p, &s);
			s.proto = IPPROTO_UDP;
			rig_forget();
			from_branch(t ? B1 : A1, &s);
			p = only_out(t ? B1 : A1);
			assert_int_equal(p.icmp_type, kind == ICMP4 ? ICMP_DEST_UNREACH : 1);
			assert_int_equal(p.icmp_code, kind == ICMP4 ? ICMP_PORT_UNREACH : 4);
		}
	}
}

/* A keepalive is answered however many answers the branch's hosts have asked for. */
static void keepalives(void **state)
{
	uint8_t k[24] = {0x45, 0, 0, 24, 0, 0, 0, 0, 255, IPPROTO_GRE};
	struct spec s = kind_spec(ICMP4);

	(void)state;
	memcpy(k + 12, &rig.ct[A1].local.w[3], 4);
	memcpy(k + 16, &rig.ct[A1].remote.w[3], 4);
	packet_ip_csum(k);
	s.dst = rig.ct[A1].interface_address[0].a;
	for (unsigned i = 0; i < 200; i++)
		from_branch(A1, &s);
	assert_int_equal(rig_drops(DROP_RATE_LIMITED), 100);
	rig_forget();
	raw_from_branch(A1, k, sizeof(k));
	assert_int_equal(rig.nout, 1);
	assert_int_equal(rig.out[0].to, A1);
	assert_int_equal(rig.out[0].len, 0);
	assert_int_equal(rig.out[0].tx.hdr.proto, GRE_PROTO_NONE);
}

/* RFC 2890 2.2; and a peer that began anew is heard again. */
static void sequence_numbers(void **state)
{
	static const struct {
		uint32_t seq;
		bool passes;
	} rows[] = {{5, true}, {6, true}, {6, false}, {4, false}, {9, true}, {8, false}, {0xfffffff0, false},
		{10, true}, {0, false}, {1, false}, {2, false}, {3, false}, {4, true}, {5, true}, {4, false}};
	static uint8_t b[2000];

	(void)state;
	rig.ct[A1].gre_sequence = true;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct spec s = kind_spec(UDP4);
		struct gre_rx *rx = put_branch(A1, b, packet_make(b, &s));

		rx->hdr.has_seq = true;
		rx->hdr.seq = rows[i].seq;
		rig_forget();
		run_branch();
		if (rig.nout != rows[i].passes)
			fail_msg("row %zu", i);
	}
}

/* ---- ways into a site -------------------------------------------------------------------------------- */

static void ways_into_a_site(void **state)
{
	struct spec s = kind_spec(UDP4), back;
	struct pkt p;

	(void)state;
	from_branch(A1, &s);
	p = only_out(TO_TUN);
	back = answer_to(&p);
	rig_forget();
	rig_at(A1)->down_until_ms = rig.now + 5000;
	from_egress(&back);
	(void)only_out(A2); /* the other way into the site at once */
	rig_forget();
	rig.now += 5000;
	from_egress(&back);
	(void)only_out(A1);
	from_branch(A2, &s); /* the branch has moved */
	rig_forget();
	from_egress(&back);
	(void)only_out(A2);
	rig_forget();
	from_branch(B1, &s); /* another site's equal packet moves nothing */
	rig_forget();
	from_egress(&back);
	(void)only_out(A2);
	rig_forget();
	rig_at(A1)->down_until_ms = rig_at(A2)->down_until_ms = rig.now + 5000;
	from_egress(&back); /* all are down: it is tried, but never elsewhere */
	assert_int_equal(rig.nout, 1);
	assert_true(rig.out[0].to == A1 || rig.out[0].to == A2);
}

static void without_automatic_return_routing(void **state)
{
	struct spec s = kind_spec(UDP4), back;
	struct pkt p;

	(void)state;
	rig.ct[A1].automatic_return_routing = false;
	from_branch(A1, &s);
	p = only_out(TO_TUN);
	back = answer_to(&p);
	rig_forget();
	from_egress(&back); /* no route */
	assert_int_equal(rig.nout, 0);
	assert_int_equal(rig_drops(DROP_NO_FLOW), 1);
	s.src = test_addr("10.9.0.5"); /* where the route leads to another site */
	from_branch(A1, &s);
	p = only_out(TO_TUN);
	back = answer_to(&p);
	rig_forget();
	from_egress(&back);
	assert_int_equal(rig.nout, 0);
	assert_int_equal(rig_drops(DROP_OTHER_SITE), 1);
}

static void what_the_kernel_lost_is_counted_once(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		rig.lost = i ? 5 + i : 0;
		path_second(rig.gw.path);
		assert_int_equal(rig_drops(DROP_RX_QUEUE), rig.lost);
		assert_int_equal(rig_drops(DROP_TUN_QUEUE), rig.lost);
	}
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, rig_up, rig_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(replies_go_home),
		CASE(a_batch_is_not_mixed_up),
		CASE(nobody_elses_packet_begins_or_finds_a_flow),
		CASE(addresses_that_are_refused),
		CASE(a_source_of_the_machine_is_replaced),
		CASE(ecn),
		CASE(ttl),
		CASE(mss),
		CASE(interface_address_answers),
		CASE(keepalives),
		CASE(sequence_numbers),
		CASE(ways_into_a_site),
		CASE(without_automatic_return_routing),
		CASE(what_the_kernel_lost_is_counted_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
