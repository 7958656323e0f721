/* SPDX-License-Identifier: GPL-2.0-or-later */
/* gateway_patherr_test.c - ICMP errors through the path, and those that it sends itself.
 *
 * An error must look to its receiver as if nothing on the way had been translated: its destination, what it quotes, and
 * every checksum. Each row is tried with and without translation, by port and by address.
 */
#include "test/unit/path_rig.h"

#include <fcntl.h>
#include <netinet/ip_icmp.h>

/* What the error says, and who says it. */
static const struct {
	uint8_t type4, type6;
	bool by_receiver; /* of the quoted packet, not by a router */
} errors[] = {{ICMP_DEST_UNREACH, 1, true}, {ICMP_DEST_UNREACH, 1, false}, {ICMP_TIME_EXCEEDED, 3, false},
	{ICMP_DEST_UNREACH, 2, false}};

/* An error about the n octets at q, from src to the quoted packet's sender. */
static uint32_t make_error(uint8_t *b, const struct pkt *about, unsigned row, const uint8_t *q, uint32_t n,
	const struct addr *src)
{
	struct spec s = packet_spec(about->ver, about->ver == 4 ? IPPROTO_ICMP : IPPROTO_ICMPV6);

	s.src = *src;
	s.dst = about->t.src;
	s.icmp_type = about->ver == 4 ? errors[row].type4 : errors[row].type6;
	s.icmp_code = 3;
	s.sport = 0;
	s.body = q;
	s.payload_len = n;
	return packet_make(b, &s);
}

/* The quoted packet in p is q, but for the TTL. */
static void assert_quotes(const struct pkt *p, const uint8_t *q, uint32_t n)
{
	uint8_t want[200], got[200];

	assert_true(n <= sizeof(want));
	assert_int_equal(p->len - p->quote, n);
	memcpy(want, q, n);
	memcpy(got, p->data + p->quote, n);
	want[p->ver == 4 ? 8 : 7] = got[p->ver == 4 ? 8 : 7] = 0;
	if (p->ver == 4) {
		assert_int_equal(slow_sum(0, p->data + p->quote, 20), 0xffff);
		packet_ip_csum(want);
		packet_ip_csum(got);
	}
	assert_memory_equal(got, want, n);
}

/* Flows of A and, translated, of B: the same packet of that kind. sent: as the branches sent it; seen: as it left. */
struct pair {
	struct spec sent;
	uint8_t b[2][256], seen_b[2][256];
	struct pkt seen[2];
};

static void begin_pair(struct pair *pr, unsigned kind, uint16_t port)
{
	pr->sent = kind_spec(kind);
	pr->sent.flags = TCP_SYN;
	pr->sent.sport = port;
	for (unsigned i = 0; i < 2; i++) {
		rig_forget();
		packet_make(pr->b[i], &pr->sent);
		from_branch(i ? B1 : A1, &pr->sent);
		pr->seen[i] = only_out(TO_TUN);
		memcpy(pr->seen_b[i], pr->seen[i].data, pr->seen[i].len);
		pr->seen[i].data = pr->seen_b[i];
	}
	assert_memory_not_equal(&pr->seen[0].t, &pr->seen[1].t, sizeof(pr->seen[0].t));
}

/* From the egress, about what a branch sent. */
static void errors_from_the_egress(void **state)
{
	(void)state;
	for (unsigned kind = 0; kind < KINDS; kind++) {
		struct addr router = test_addr(kind_spec(kind).ver == 4 ? "192.0.2.77" : "2001:db8:9::77");
		struct pair pr;

		begin_pair(&pr, kind, 41000);
		for (unsigned k = 0; k < 2 * sizeof(errors) / sizeof(errors[0]); k++) {
			unsigned i = k % 2, row = k / 2;
			struct pkt *about = &pr.seen[i];
			/* as much as RFC 792 asks for, and all of it */
			uint32_t n = row % 2 ? about->l4 + 8u : about->len;
			const struct addr *src = errors[row].by_receiver ? &about->t.dst : &router;
			uint8_t b[512] = {0};
			struct pkt p;

			rig_forget();
			raw_from_egress(NULL, b, make_error(b, about, row, about->data, n, src));
			p = only_out(i ? B1 : A1);
			assert_true(p.icmp_error);
			assert_true(addr_eq(&p.t.src, src));
			assert_true(addr_eq(&p.t.dst, &pr.sent.src));
			assert_quotes(&p, pr.b[i], n);
		}
	}
}

/* From a branch, about what a server answered. */
static void errors_from_a_branch(void **state)
{
	(void)state;
	for (unsigned kind = 0; kind < KINDS; kind++) {
		struct addr router = test_addr(kind_spec(kind).ver == 4 ? "10.0.1.1" : "fd00:1::1");
		struct pair pr;

		begin_pair(&pr, kind, 42000);
		for (unsigned k = 0; k < 2 * sizeof(errors) / sizeof(errors[0]); k++) {
			unsigned i = k % 2, row = k / 2;
			struct spec back = answer_to(&pr.seen[i]);
			uint8_t answer[256], b[512] = {0}, home[256];
			struct pkt about, p;
			uint32_t n;

			back.flags = TCP_SYN | TCP_ACK;
			packet_make(answer, &back);
			rig_forget();
			from_egress(&back);
			about = only_out(i ? B1 : A1);
			memcpy(home, about.data, about.len);
			n = row % 2 ? about.l4 + 8u : about.len;
			rig_forget();
			raw_from_branch(i ? B1 : A1, b,
				make_error(b, &about, row, home, n,
					errors[row].by_receiver ? &about.t.dst : &router));
			p = only_out(TO_TUN);
			assert_true(p.icmp_error);
			assert_true(addr_eq(&p.t.dst, &back.src));
			assert_true(addr_eq(&p.t.src, errors[row].by_receiver ? &pr.seen[i].t.src : &router));
			assert_quotes(&p, answer, n);
		}
	}
}

/* An error from branch to branch crosses a hop. */
static void errors_between_branches(void **state)
{
	struct spec s = kind_spec(UDP4);
	struct pkt about, p;
	uint8_t b[512] = {0}, q[256];

	(void)state;
	s.dst = test_addr("10.9.0.1");
	from_branch(A1, &s);
	about = only_out(C1);
	memcpy(q, about.data, about.len);
	rig_forget();
	raw_from_branch(C1, b, make_error(b, &about, 0, q, about.len, &s.dst));
	p = only_out(A1);
	assert_int_equal(p.ttl, 63);
	assert_true(addr_eq(&p.t.dst, &s.src));
}

static void errors_about_nobodys_flow(void **state)
{
	struct spec s = kind_spec(UDP4), other = kind_spec(UDP4);
	struct addr server = s.dst, router = test_addr("192.0.2.77");
	uint8_t b[512] = {0}, q[256];
	struct pkt about;

	(void)state;
	from_branch(A1, &s);
	about = only_out(TO_TUN);
	memcpy(q, about.data, about.len);
	rig_forget();
	/* from another site, which has no such flow */
	raw_from_branch(B1, b, make_error(b, &about, 0, q, about.len, &server));
	/* about a packet that A did not send */
	other.sport++;
	packet_make(q, &other);
	raw_from_egress(NULL, b, make_error(b, &about, 0, q, about.len, &router));
	/* about one that it did, but to somebody else */
	packet_make(q, &s);
	about.t.src = test_addr("10.0.1.3");
	raw_from_egress(NULL, b, make_error(b, &about, 0, q, about.len, &router));
	assert_int_equal(rig.nout, 0);
	assert_int_equal(rig_drops(DROP_ICMP_NO_FLOW), 3);
}

/* ---- the gateway's own ------------------------------------------------------------------------------- */

/* Too big, in each direction: to whom, what MTU, what it quotes. */
static void too_big(void **state)
{
	static const struct {
		unsigned kind;
		int from; /* a tunnel or TO_TUN: the answer to a packet that A sent */
		const char *dst;
		uint32_t len, mtu; /* mtu 0: it fits */
	} rows[] = {
		{UDP4, TO_TUN, NULL, 1477, 1476},
		{UDP6, TO_TUN, NULL, 1477, 1476},
		{UDP4, TO_TUN, NULL, 1476, 0},
		{UDP6, TO_TUN, NULL, 1476, 0},
		{UDP4, A1, "10.9.0.1", 1401, 1400},
		{UDP6, A1, "fd00:9::1", 1401, 1400},
		{UDP4, A1, "10.9.0.1", 1400, 0},
		{UDP4, A1, "198.51.100.7", 1501, 1500},
		{UDP6, A1, "2001:db8::7", 1501, 1500},
	};
	static uint8_t b[2000];

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct spec s = kind_spec(rows[i].kind);
		bool from_tun = rows[i].from == TO_TUN;
		struct pkt p;
		uint32_t len;

		rig_forget();
		rig.now += 1000;
		s.sport = (uint16_t)(9000 + i);
		if (from_tun) {
			from_branch(A1, &s);
			p = only_out(TO_TUN);
			s = answer_to(&p);
			rig_forget();
		} else {
			s.dst = test_addr(rows[i].dst);
		}
		s.payload_len = rows[i].len - (s.ver == 4 ? 28 : 48);
		len = packet_make(b, &s);
		if (from_tun)
			raw_from_egress(NULL, b, len);
		else
			raw_from_branch((unsigned)rows[i].from, b, len);
		assert_int_equal(rig.nout, 1);
		if (!rows[i].mtu) {
			assert_int_equal(rig.out[0].to, from_tun ? A1 : C1);
			continue;
		}
		p = out_pkt(0, rows[i].from);
		assert_int_equal(p.icmp_type, s.ver == 4 ? ICMP_DEST_UNREACH : 2);
		assert_int_equal(p.icmp_code, s.ver == 4 ? ICMP_FRAG_NEEDED : 0);
		if (s.ver == 4)
			assert_int_equal(be16_get(p.data + p.l4 + 6), rows[i].mtu);
		else
			assert_int_equal(be32_get(p.data + p.l4 + 4), rows[i].mtu);
		assert_true(addr_eq(&p.t.dst, &s.src));
		/* to the egress in the receiver's name, so that NAT knows it; into a tunnel in the gateway's */
		assert_true(
			addr_eq(&p.t.src, from_tun ? &s.dst : &rig.ct[A1].interface_address[s.ver == 6].a));
		assert_int_equal(p.len, s.ver == 4 ? 576 : 1280);
		assert_memory_equal(p.data + p.quote, b, p.len - p.quote); /* as it was sent */
	}
}

static void nothing_is_said_of_these(void **state)
{
	static const struct {
		const char *src, *dst;
	} rows[] = {{"10.0.1.2", "224.0.0.9"}, {"240.0.0.1", "192.0.2.1"}, {"255.255.255.255", "192.0.2.1"},
		{"0.0.0.0", "192.0.2.1"}, {"::", "2001:db8::1"}, {"ff02::1", "2001:db8::1"},
		{"fd00:1::2", "ff02::9"}};
	uint8_t b[512] = {0}, q[256];
	struct spec s;
	struct pkt p = {.data = q};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		s = kind_spec(strchr(rows[i].src, ':') ? UDP6 : UDP4);
		s.src = test_addr(rows[i].src);
		s.dst = test_addr(rows[i].dst);
		s.ttl = 1;
		from_branch(A1, &s);
		assert_int_equal(rig.nout, 0);
	}
	/* an error with TTL 1 */
	s = kind_spec(UDP4);
	p.len = packet_make(q, &s);
	assert_int_equal(pkt_parse(&p), DROP_NONE);
	p.len = make_error(b, &p, 2, q, p.len, &s.src);
	b[8] = 1;
	packet_ip_csum(b);
	raw_from_branch(A1, b, p.len);
	assert_int_equal(rig.nout, 0);
}

/* A flood is answered at a bounded rate, each tunnel's by itself; the first burst at once. */
static void answers_are_bounded(void **state)
{
	struct spec s = kind_spec(UDP4), back;
	struct pkt p;

	(void)state;
	from_branch(A1, &s);
	p = only_out(TO_TUN);
	back = answer_to(&p);
	back.payload_len = 1460;
	for (unsigned i = 0; i < 1200; i++) {
		rig_forget();
		from_egress(&back);
		assert_int_equal(rig.nout, i < 1000);
	}
	s.ttl = 1;
	for (unsigned i = 0; i < 150; i++) {
		rig_forget();
		from_branch(A1, &s);
		assert_int_equal(rig.nout, i < 100);
	}
	rig_forget();
	from_branch(B1, &s);
	(void)only_out(B1);
	rig.now += 500;
	rig_forget();
	for (unsigned i = 0; i < 150; i++)
		from_branch(A1, &s);
	assert_int_equal(rig.nout, 50);
}

/* ---- ICMP about outer packets ------------------------------------------------------------------------ */

static void news_of_the_outer_path(void **state)
{
	static const struct {
		int err;
		uint32_t mtu;
		unsigned about;
		bool key;
		uint32_t a1, b1; /* tunnel_mtu afterwards */
		bool a1_down;
	} rows[] = {
		{EMSGSIZE, 1400, A1, false, 1376, 1472, false},
		{EMSGSIZE, 1450, A1, false, 1376, 1472, false}, /* a later router's is no narrower */
		{EMSGSIZE, 1300, B1, false, 1376, 1472, false}, /* quote without the key: nobody's */
		{EMSGSIZE, 1300, B1, true, 1376, 1272, false},
		{EMSGSIZE, 100, A1, false, 552, 1272, false},
		{EMSGSIZE, 0, B1, true, 552, 548, false}, /* size unknown */
		{EHOSTUNREACH, 0, A1, false, 552, 548, true},
	};
	int broken[2];

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const struct conf_tunnel *c = &rig.ct[rows[i].about];

		rig.errors[rig.nerrors++] = (struct gre_error){.local = c->local,
			.remote = c->remote,
			.err = rows[i].err,
			.mtu = rows[i].mtu,
			.has_key = rows[i].key,
			.key = 7};
		if (i == 0) { /* the writing end of a pipe that nobody reads says POLLERR */
			assert_int_equal(pipe(broken), 0);
			dup2(broken[1], gre_sock_fd(rig.gw.path->gre[0]));
			close(broken[0]);
			close(broken[1]);
		}
		uv_run(&rig.loop, UV_RUN_NOWAIT);
		assert_int_equal(rig.nerrors, 0);
		assert_int_equal(tunnel_mtu(rig_at(A1), 4, rig.now), rows[i].a1);
		assert_int_equal(tunnel_mtu(rig_at(B1), 4, rig.now), rows[i].b1);
		assert_int_equal(tunnel_state(rig_at(A1), rig.now) == TUNNEL_DOWN, rows[i].a1_down);
		assert_int_equal(tunnel_mtu(rig_at(A1), 6, rig.now), rows[i].a1 < 1280 ? 1280 : rows[i].a1);
	}
	rig.now += TUNNEL_PMTU_MS; /* it ages */
	assert_int_equal(tunnel_mtu(rig_at(A1), 4, rig.now), 1476);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, rig_up, rig_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(errors_from_the_egress),
		CASE(errors_from_a_branch),
		CASE(errors_between_branches),
		CASE(errors_about_nobodys_flow),
		CASE(too_big),
		CASE(nothing_is_said_of_these),
		CASE(answers_are_bounded),
		CASE(news_of_the_outer_path),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
