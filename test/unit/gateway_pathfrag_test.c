/* SPDX-License-Identifier: GPL-2.0-or-later */
/* gateway_pathfrag_test.c - inner fragments through the gateway: put together, translated, cut anew, and never mixed. */
#include "test/unit/path_rig.h"

#include "gateway/base/frag_cut.h"
#include "gateway/base/reass.h"

/* What a host puts together of the packets that came out to where; it knows no sites. Returns the last whole datagram. */
static bool host_reassembles(int to, uint8_t *buf, struct pkt *whole, unsigned *n)
{
	const struct reass_limits limits = {64, 64, 1 << 20, 1 << 20, 30000};
	uint32_t realm, via, packets;
	struct reass *r;

	*n = 0;
	assert_int_equal(reass_new(&r, &limits), 0);
	for (unsigned i = 0; i < rig.nout; i++) {
		struct pkt p;

		if (rig.out[i].to != to)
			continue;
		p = out_pkt(i, to);
		assert_true(p.frag);
		assert_int_equal(reass_take(r, 1, 1, &p, 0), DROP_NONE);
		*n += reass_next(r, buf, whole, &realm, &via, &packets);
	}
	assert_int_equal(reass_waiting(r), 0);
	reass_free(r);
	if (!*n)
		return false;
	assert_int_equal(pkt_parse(whole), DROP_NONE);
	assert_int_equal(pkt_check_csum(whole), DROP_NONE);
	return true;
}

struct pieces {
	unsigned n;
	uint32_t len[64];
	uint8_t b[64][1500];
};

static void cut(struct pieces *c, const struct spec *s, uint32_t limit, uint32_t id)
{
	static uint8_t b[PKT_MAX];
	struct pkt p = {.data = b, .len = packet_make(b, s)};
	const uint8_t *payload;
	struct frag_cut f;
	uint32_t hlen, plen;

	c->n = 0;
	assert_int_equal(pkt_parse(&p), DROP_NONE);
	assert_true(frag_cut_start(
		&f, p.ver, b, p.payload, b + p.payload, p.len - p.payload, limit, id, s->ver == 4 && s->df));
	while ((hlen = frag_cut_next(&f, c->b[c->n], &payload, &plen))) {
		memcpy(c->b[c->n] + hlen, payload, plen);
		c->len[c->n++] = hlen + plen;
	}
}

/* Two sites, equal addresses, ports and Identifications, their fragments by turns, in order and the other way round. Each is
 * answered by a datagram of fragments, too. */
static void sites_are_not_spliced(void **state)
{
	static const unsigned sites[2] = {A1, B1};
	static struct pieces in[2], back[2];
	static uint8_t buf[PKT_MAX];

	(void)state;
	for (unsigned round = 0; round < 4; round++) {
		unsigned kind = round % 2 ? UDP6 : UDP4, n = 0;
		struct spec s[2], answer[2];
		struct pkt whole;

		for (unsigned i = 0; i < 2; i++) {
			s[i] = kind_spec(kind);
			s[i].df = false;
			s[i].sport = (uint16_t)(5000 + round);
			s[i].payload_len = 4000;
			s[i].fill = 10 + i;
			cut(&in[i], &s[i], 1280, 77);
		}
		rig_forget();
		for (unsigned k = 0; k < in[0].n; k++)
			for (unsigned i = 0; i < 2; i++) {
				unsigned at = round < 2 ? k : in[0].n - 1 - k;

				raw_from_branch(sites[i], in[i].b[at], in[i].len[at]);
				if (k + 1 < in[0].n)
					assert_int_equal(rig.nout, 0);
				else
					assert_int_equal(rig.nout, in[0].n * (i + 1));
			}
		for (unsigned i = 0; i < rig.nout; i++)
			assert_true(rig.out[i].len <= 1280);
		/* as one reassembler behind us sees it, fragments of both by turns */
		for (unsigned i = 0; i < in[0].n; i += 2) {
			struct out x = rig.out[i];

			rig.out[i] = rig.out[in[0].n + i];
			rig.out[in[0].n + i] = x;
		}
		assert_true(host_reassembles(TO_TUN, buf, &whole, &n));
		assert_int_equal(n, 2);

		/* one after the other, to see what each became */
		for (unsigned i = 0; i < 2; i++) {
			rig_forget();
			for (unsigned k = 0; k < in[i].n; k++)
				raw_from_branch(sites[i], in[i].b[k], in[i].len[k]);
			assert_true(host_reassembles(TO_TUN, buf, &whole, &n));
			assert_same_payload(&whole, &s[i]);
			answer[i] = answer_to(&whole);
			answer[i].df = false;
			answer[i].payload_len = 3000;
			answer[i].fill = 20 + i;
			cut(&back[i], &answer[i], 1400, 99 + i);
		}
		assert_memory_not_equal(&answer[0].dport, &answer[1].dport, sizeof(answer[0].dport));
		rig_forget();
		for (unsigned k = back[0].n; k-- > 0;)
			for (unsigned i = 0; i < 2; i++)
				raw_from_egress(NULL, back[i].b[k], back[i].len[k]);
		for (unsigned i = 0; i < 2; i++) {
			assert_true(host_reassembles((int)sites[i], buf, &whole, &n));
			assert_int_equal(n, 1);
			assert_same_payload(&whole, &answer[i]);
			assert_int_equal(whole.t.dport, htons(s[i].sport));
			assert_true(addr_eq(&whole.t.dst, &s[i].src));
		}
	}
	assert_int_equal(rig_drops(DROP_OTHER_SITE), 0);
}

/* Fragments that must not be cut smaller: IPv6, and IPv4 with DF. Their sender is told of the MTU. */
static void too_big(void **state)
{
	static struct pieces in;

	(void)state;
	for (unsigned v6 = 0; v6 < 2; v6++) {
		struct spec s = kind_spec(v6 ? UDP6 : UDP4), back;
		struct pkt p;

		rig_forget();
		from_branch(C1, &s); /* MTU 1400 */
		p = only_out(TO_TUN);
		back = answer_to(&p);
		back.payload_len = 2000;
		back.df = true;
		cut(&in, &back, 1480, 5);
		rig_forget();
		for (unsigned k = 0; k < in.n; k++)
			raw_from_egress(NULL, in.b[k], in.len[k]);
		p = only_out(TO_TUN);
		assert_true(p.icmp_error);
		assert_int_equal(v6 ? be32_get(p.data + p.l4 + 4) : be16_get(p.data + p.l4 + 6), 1400);
		assert_int_equal(rig_drops(DROP_TOO_BIG), v6 + 1);
		/* small enough as they came: they pass, though the whole is longer than the MTU */
		cut(&in, &back, 1280, 6);
		rig_forget();
		for (unsigned k = 0; k < in.n; k++)
			raw_from_egress(NULL, in.b[k], in.len[k]);
		assert_int_equal(rig.nout, in.n);
		for (unsigned k = 0; k < rig.nout; k++) {
			p = out_pkt(k, C1);
			assert_int_equal(p.df, true);
			assert_true(p.len <= 1280);
		}
	}
}

/* A large ping to the gateway's own address, and what is not finished is counted on its tunnel. */
static void own_address_and_time(void **state)
{
	static struct pieces in;
	static uint8_t buf[PKT_MAX];
	struct spec s = kind_spec(ICMP4);
	struct pkt whole;
	unsigned n;

	(void)state;
	s.dst = test_addr("10.213.0.1");
	s.payload_len = 5000;
	s.df = false;
	cut(&in, &s, 1476, 3);
	for (unsigned k = 0; k < in.n; k++)
		raw_from_branch(A1, in.b[k], in.len[k]);
	assert_true(host_reassembles(A1, buf, &whole, &n));
	assert_same_payload(&whole, &s);
	assert_int_equal(whole.icmp_type, 0);

	raw_from_branch(A1, in.b[0], in.len[0]);
	raw_from_branch(A1, in.b[2], in.len[2]);
	rig.now += 29999;
	path_second(rig.gw.path);
	assert_int_equal(rig_drops(DROP_FRAGMENT_TIMEOUT), 0);
	rig.now += 1;
	path_second(rig.gw.path);
	assert_int_equal(rig_at(A1)->count.drops[DROP_FRAGMENT_TIMEOUT], 2);
}

/* Fragments too small for a header's worth are not handed on as such; and a checksum that only an offload may leave is none. */
static void odd_ones(void **state)
{
	static struct pieces in;
	struct spec s = kind_spec(UDP4), back;
	struct pkt p;
	uint8_t b[3][28];

	(void)state;
	s.df = false;
	s.payload_len = 16; /* with the UDP header three times 8 octets */
	packet_make(in.b[0], &s);
	for (unsigned k = 0; k < 3; k++) {
		memcpy(b[k], in.b[0], 20);
		memcpy(b[k] + 20, in.b[0] + 20 + k * 8, 8);
		be16_put(b[k] + 2, 28);
		be16_put(b[k] + 6, (uint16_t)(k | (k < 2 ? 0x2000 : 0)));
		packet_ip_csum(b[k]);
		raw_from_branch(A1, b[k], 28);
	}
	p = only_out(TO_TUN);
	assert_false(p.frag);
	assert_same_payload(&p, &s);
	back = answer_to(&p);
	back.df = s.df;
	for (unsigned branch = 0; branch < 2; branch++) {
		struct spec bad = branch ? s : back;

		bad.csum = CSUM_HALF;
		bad.payload_len = 3000;
		cut(&in, &bad, 1280, 4 + branch);
		rig_forget();
		for (unsigned k = 0; k < in.n; k++) {
			if (branch)
				raw_from_branch(A1, in.b[k], in.len[k]);
			else
				raw_from_egress(NULL, in.b[k], in.len[k]);
		}
		assert_int_equal(rig.nout, 0);
		assert_int_equal(rig_drops(DROP_INNER_CHECKSUM), in.n * (branch + 1));
	}
}

/* Datagrams of two sites that came whole, with the same Identification, leave with two; but those that may not be fragmented,
 * whose Identification says nothing. From outside they keep what they have. */
static void whole_ones_are_numbered(void **state)
{
	(void)state;
	for (int df = 0; df < 2; df++) {
		uint8_t b[256];
		struct spec s = kind_spec(UDP4);
		uint32_t n;

		s.df = df;
		n = packet_make(b, &s);
		be16_put(b + 4, 0x1234);
		packet_ip_csum(b);
		rig_forget();
		for (unsigned k = 0; k < 4; k++)
			raw_from_branch(k % 2 ? B1 : A1, b, n);
		assert_int_equal(rig.nout, 4);
		for (unsigned k = 0; k < 4; k++) {
			out_pkt(k, TO_TUN);
			if (df)
				assert_int_equal(be16_get(rig.out[k].data + 4), 0x1234);
			for (unsigned i = 0; i < k && !df; i++)
				assert_int_not_equal(
					be16_get(rig.out[i].data + 4), be16_get(rig.out[k].data + 4));
		}
	}
}

/* Two fragments whose whole is the first fragment of something else: it has no ports that a flow could have. */
static void fragment_of_a_fragment(void **state)
{
	struct spec s = kind_spec(UDP6);
	uint8_t whole[256], b[128];
	uint32_t len;

	(void)state;
	s.payload_len = 24;
	len = packet_make(whole, &s); /* 40 octets of header, and 32 */
	assert_int_equal(len, 72);
	for (unsigned branch = 0; branch < 2; branch++) {
		rig_forget();
		for (unsigned k = 0; k < 2; k++) {
			/* The inner one: 8 octets of its header and 32 of payload, cut behind 16. */
			uint32_t n = k ? 24 : 16;

			memcpy(b, whole, 40);
			be16_put(b + 4, (uint16_t)(8 + n));
			b[6] = IPPROTO_FRAGMENT;
			memset(b + 40, 0, 8);
			b[40] = IPPROTO_FRAGMENT;
			be16_put(b + 42, (uint16_t)(k ? 16 : 1));
			be32_put(b + 44, 5 + branch);
			if (k) {
				memcpy(b + 48, whole + 48, 24);
			} else {
				memset(b + 48, 0, 8);
				b[48] = IPPROTO_UDP;
				be16_put(b + 50, 1); /* more follow */
				be32_put(b + 52, 9);
				memcpy(b + 56, whole + 40, 8);
			}
			if (branch)
				raw_from_branch(A1, b, 48 + n);
			else
				raw_from_egress(NULL, b, 48 + n);
		}
		assert_int_equal(rig.nout, 0);
		assert_int_equal(rig_drops(DROP_FRAGMENT_INVALID), 2 * (branch + 1));
	}
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, rig_up, rig_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(sites_are_not_spliced),
		CASE(too_big),
		CASE(own_address_and_time),
		CASE(odd_ones),
		CASE(whole_ones_are_numbered),
		CASE(fragment_of_a_fragment),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
