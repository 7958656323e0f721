/* SPDX-License-Identifier: GPL-2.0-or-later */
/* base_join_test.c - joining of packets into super-packets, each rule of it. */
#include "test/unit/join.h"

#define NEEDS VIRTIO_NET_HDR_F_NEEDS_CSUM

/* Two packets that would join but for one thing. */
struct rule {
	const char *name;
	unsigned kind;
	void (*change)(struct spec *first, struct spec *second);
	bool joins;
};

static void none(struct spec *a, struct spec *b)
{
	(void)a, (void)b;
}
#define CHANGE(name, code)                                                                                   \
	static void name(struct spec *a, struct spec *b)                                                     \
	{                                                                                                    \
		(void)a, (void)b;                                                                            \
		code;                                                                                        \
	}
CHANGE(second_psh, b->flags |= TCP_PSH)
CHANGE(first_psh, a->flags |= TCP_PSH)
CHANGE(second_fin, b->flags |= TCP_FIN)
CHANGE(first_fin, a->flags |= TCP_FIN)
CHANGE(second_syn, b->flags |= TCP_SYN)
CHANGE(second_rst, b->flags |= TCP_RST)
CHANGE(second_urg, b->flags |= TCP_URG)
CHANGE(second_ece, b->flags |= TCP_ECE)
CHANGE(second_cwr, b->flags |= TCP_CWR)
CHANGE(both_ece, a->flags |= TCP_ECE; b->flags |= TCP_ECE)
CHANGE(no_ack, a->flags = TCP_RST; b->flags = TCP_RST)
CHANGE(seq_gap, b->seq++)
CHANGE(seq_again, b->seq = a->seq)
CHANGE(seq_wraps, a->seq = 0xffffffff - 49; b->seq = 50)
CHANGE(ack_differs, b->ack++)
CHANGE(window_differs, b->window++)
CHANGE(ttl_differs, b->ttl--)
CHANGE(tos_differs, b->tos = 0x10)
CHANGE(ecn_differs, b->tos = 3)
CHANGE(tos_equal, a->tos = b->tos = 0x12)
CHANGE(df_differs, b->df = false)
CHANGE(no_df_id_next, a->df = b->df = false)
CHANGE(no_df_id_gap, a->df = b->df = false; b->id += 1)
CHANGE(no_df_id_wraps, a->df = b->df = false; a->id = 0xffff; b->id = 0)
CHANGE(df_id_any, b->id = 7)
CHANGE(label_differs, b->flow_label = 1)
CHANGE(label_equal, a->flow_label = b->flow_label = 77)
CHANGE(src_differs, b->src.b[15]++)
CHANGE(dst_differs, b->dst.b[15]++)
CHANGE(sport_differs, b->sport++)
CHANGE(dport_differs, b->dport++)
CHANGE(options_equal, a->noptions = b->noptions = 12; memset(a->options, 1, 12); memset(b->options, 1, 12))
CHANGE(options_differ, options_equal(a, b); b->options[11] = 0)
CHANGE(options_length, a->noptions = 4; memset(a->options, 1, 4))
CHANGE(second_shorter, b->payload_len = 1)
CHANGE(second_longer, b->payload_len = 101)
CHANGE(second_empty, b->payload_len = 0)
CHANGE(first_empty, a->payload_len = 0; b->seq = a->seq)
CHANGE(second_bad_csum, b->csum = CSUM_BAD)
CHANGE(first_bad_csum, a->csum = CSUM_BAD)
CHANGE(both_partial, a->csum = b->csum = CSUM_HALF)
CHANGE(second_partial, b->csum = CSUM_HALF)
CHANGE(udp_absent, a->csum = b->csum = CSUM_NONE)
CHANGE(udp_first_absent, a->csum = CSUM_NONE)
CHANGE(udp_second_absent, b->csum = CSUM_NONE)

static const struct rule rules[] = {
	{"alike 4", TCP4, none, true},
	{"alike 6", TCP6, none, true},
	{"alike UDP 4", UDP4, none, true},
	{"alike UDP 6", UDP6, none, true},
	{"echo", ICMP4, none, false},
	{"PSH on the second", TCP4, second_psh, true},
	{"PSH on the first", TCP4, first_psh, false},
	{"FIN on the second", TCP4, second_fin, false},
	{"FIN on the first", TCP4, first_fin, false},
	{"SYN", TCP4, second_syn, false},
	{"RST", TCP4, second_rst, false},
	{"URG", TCP4, second_urg, false},
	{"ECE", TCP4, second_ece, false},
	{"CWR", TCP4, second_cwr, false},
	{"ECE on both", TCP4, both_ece, false},
	{"no ACK", TCP4, no_ack, false},
	{"gap", TCP4, seq_gap, false},
	{"sent again", TCP4, seq_again, false},
	{"sequence number wraps", TCP4, seq_wraps, true},
	{"acknowledgment number", TCP4, ack_differs, false},
	{"window", TCP4, window_differs, false},
	{"TTL", TCP4, ttl_differs, false},
	{"hop limit", TCP6, ttl_differs, false},
	{"TOS", TCP4, tos_differs, false},
	{"traffic class", TCP6, tos_differs, false},
	{"ECN", TCP4, ecn_differs, false},
	{"ECN 6", TCP6, ecn_differs, false},
	{"equal TOS", TCP4, tos_equal, true},
	{"equal traffic class", TCP6, tos_equal, true},
	{"DF", TCP4, df_differs, false},
	{"no DF, ID counts up", TCP4, no_df_id_next, true},
	{"no DF, ID does not", TCP4, no_df_id_gap, false},
	{"no DF, ID wraps", TCP4, no_df_id_wraps, true},
	{"no DF, ID, UDP", UDP4, no_df_id_gap, false},
	{"DF, any ID", TCP4, df_id_any, true},
	{"flow label", TCP6, label_differs, false},
	{"equal flow label", TCP6, label_equal, true},
	{"source", TCP4, src_differs, false},
	{"destination", TCP6, dst_differs, false},
	{"source port", TCP4, sport_differs, false},
	{"destination port", UDP4, dport_differs, false},
	{"equal options", TCP4, options_equal, true},
	{"options", TCP4, options_differ, false},
	{"length of options", TCP4, options_length, false},
	{"second shorter", TCP4, second_shorter, true},
	{"second longer", TCP4, second_longer, false},
	{"second without payload", TCP4, second_empty, false},
	{"first without payload", TCP4, first_empty, false},
	{"UDP second shorter", UDP4, second_shorter, true},
	{"UDP second longer", UDP4, second_longer, false},
	{"UDP second without payload", UDP4, second_empty, false},
	{"wrong checksum on the second", TCP4, second_bad_csum, false},
	{"wrong checksum on the first", TCP4, first_bad_csum, false},
	{"partial", TCP4, both_partial, true},
	{"second partial", TCP6, second_partial, true},
	{"UDP partial", UDP6, both_partial, true},
	{"UDP without checksum", UDP4, udp_absent, false},
	{"UDP first without checksum", UDP4, udp_first_absent, false},
	{"UDP second without checksum", UDP4, udp_second_absent, false},
};

static void test_join_rules(void **state)
{
	struct vnet_join *j;

	(void)state;
	assert_int_equal(vnet_join_new(&j, &all_on), 0);
	for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]); i++) {
		struct spec a = kind_spec(rules[i].kind), b = a;
		uint8_t buf[2][2048];
		struct pkt p[2], q;

		b.seq += a.payload_len;
		b.id++;
		rules[i].change(&a, &b);
		p[0] = make_pkt(buf[0], &a);
		p[1] = make_pkt(buf[1], &b);
		out.n = 0;
		assert_true(vnet_join_add(j, &p[0], 1));
		assert_true(vnet_join_add(j, &p[1], 1));
		vnet_join_flush(j, collect, &out);
		if (out.n != (rules[i].joins ? 1 : 2))
			fail_msg("%s: %u groups", rules[i].name, out.n);
		if (!rules[i].joins)
			continue;
		reread(&out.w[0], &q);
		assert_int_equal(q.gso_size, a.payload_len);
		assert_int_equal(q.len, p[0].len + b.payload_len);
	}
	vnet_join_free(j);
}

/* Header details that a spec cannot say. */
static void test_join_odd_headers(void **state)
{
	static const struct {
		const char *name;
		unsigned kind, off; /* of an octet of the second packet */
		uint8_t flip;
		bool both, joins;
	} rows[] = {
		{"urgent pointer", TCP4, 20 + 19, 1, false, false},
		{"urgent pointer on both", TCP4, 20 + 19, 1, true, true},
		{"reserved TCP bits", TCP4, 20 + 12, 1, false, false},
		{"reserved TCP bits on both", TCP4, 20 + 12, 1, true, true},
		{"reserved IPv4 flag", TCP4, 6, 0x80, false, false},
		{"more fragments", TCP4, 6, 0x20, true, false},
		{"UDP length too small", UDP4, 20 + 5, 1, true, false},
	};
	struct vnet_join *j;

	(void)state;
	assert_int_equal(vnet_join_new(&j, &all_on), 0);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct spec s = kind_spec(rows[i].kind);
		uint8_t buf[2][2048];
		struct pkt p[2];

		if (s.proto == IPPROTO_UDP)
			s.payload_len = 101; /* so that clearing the lowest bit of the length shortens it */
		for (unsigned k = 0; k < 2; k++) {
			uint8_t *l4 = buf[k] + 20;
			uint32_t len = packet_make(buf[k], &s);

			if (k || rows[i].both)
				buf[k][rows[i].off] ^= rows[i].flip;
			raw16_put(l4 + (s.proto == IPPROTO_TCP ? 16 : 6), 0);
			packet_l4_csum(&s, l4, s.proto == IPPROTO_UDP ? be16_get(l4 + 4) : len - 20);
			packet_ip_csum(buf[k]);
			p[k] = (struct pkt){.data = buf[k], .len = len};
			assert_int_equal(pkt_parse(&p[k]), DROP_NONE);
			assert_int_equal(pkt_check_csum(&p[k]), DROP_NONE);
			s.seq += s.payload_len;
			s.id++;
		}
		out.n = 0;
		assert_true(vnet_join_add(j, &p[0], 1) && vnet_join_add(j, &p[1], 1));
		vnet_join_flush(j, collect, &out);
		if (out.n != (rows[i].joins ? 1 : 2))
			fail_msg("%s: %u groups", rows[i].name, out.n);
	}
	vnet_join_free(j);
}

/* IPv4 options and IPv6 extension headers keep a packet alone. */
static void test_join_long_headers(void **state)
{
	struct vnet_join *j;
	struct spec s = kind_spec(UDP4);
	uint8_t buf[2][256];
	struct pkt p[2];

	(void)state;
	assert_int_equal(vnet_join_new(&j, &all_on), 0);
	for (unsigned ver = 4; ver <= 6; ver += 2) {
		for (unsigned k = 0; k < 2; k++) {
			uint8_t *b = buf[k];
			uint32_t len, ip = ver == 4 ? 20 : 40, more = ver == 4 ? 4 : 8;

			s = kind_spec(ver == 4 ? UDP4 : UDP6);
			len = packet_make(b, &s);
			memmove(b + ip + more, b + ip, len - ip);
			memset(b + ip, 1, more); /* IPv4: NOPs */
			if (ver == 4) {
				b[0] = 0x46;
				be16_put(b + 2, (uint16_t)(len + more));
				packet_ip_csum(b);
			} else {
				const uint8_t dstopts[8] = {IPPROTO_UDP, 0, 1, 4, 0, 0, 0, 0};

				memcpy(b + ip, dstopts, 8);
				b[6] = IPPROTO_DSTOPTS;
				be16_put(b + 4, (uint16_t)(len + more - 40));
			}
			p[k] = (struct pkt){.data = b, .len = len + more};
			assert_int_equal(pkt_parse(&p[k]), DROP_NONE);
			assert_int_equal(pkt_check_csum(&p[k]), DROP_NONE);
			assert_int_equal(p[k].csum, PKT_CSUM_GOOD);
		}
		out.n = 0;
		assert_true(vnet_join_add(j, &p[0], 1) && vnet_join_add(j, &p[1], 1));
		vnet_join_flush(j, collect, &out);
		assert_int_equal(out.n, 2);
	}
	vnet_join_free(j);
}

static void test_join_owners(void **state)
{
	static const struct {
		const char *name;
		uint64_t owner[6];
		unsigned first[6]; /* in the order of the groups: number of packets, 0 ends */
	} rows[] = {
		{"one flow", {1, 1, 1, 1, 1, 1}, {6}},
		{"nobody's packets", {0, 0, 0, 0, 0, 0}, {1, 1, 1, 1, 1, 1}},
		{"two flows in turn", {1, 2, 1, 2, 1, 2}, {3, 3}},
		{"one in between", {1, 1, 2, 1, 1, 1}, {5, 1}},
		{"large numbers", {1, 1ull << 32 | 1, 1, 1ull << 32 | 1, 1, 1}, {4, 2}},
	};
	struct vnet_join *j;

	(void)state;
	assert_int_equal(vnet_join_new(&j, &all_on), 0);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		uint8_t buf[6][256];
		struct pkt p[6];

		for (unsigned k = 0; k < 6; k++) {
			struct spec s = kind_spec(UDP4); /* equal tuples: overlapping sites */

			p[k] = make_pkt(buf[k], &s);
			assert_true(vnet_join_add(j, &p[k], rows[i].owner[k]));
		}
		out.n = 0;
		vnet_join_flush(j, collect, &out);
		for (unsigned k = 0; k < out.n; k++)
			if (out.w[k].npkts != rows[i].first[k])
				fail_msg("%s: group %u has %u", rows[i].name, k, out.w[k].npkts);
		assert_true(out.n == 6 || rows[i].first[out.n] == 0);
	}
	vnet_join_free(j);
}

/* Order: what does not join closes what was before, also when a later packet would fit there. */
static void test_join_keeps_order(void **state)
{
	struct spec s = kind_spec(TCP4);
	uint8_t buf[3][256];
	struct vnet_join *j;
	struct pkt p[3];

	(void)state;
	assert_int_equal(vnet_join_new(&j, &all_on), 0);
	p[0] = make_pkt(buf[0], &s);
	s.ack++;
	s.payload_len = 0; /* a bare acknowledgment in between */
	s.seq += 100;
	p[1] = make_pkt(buf[1], &s);
	s.ack--;
	s.payload_len = 100;
	p[2] = make_pkt(buf[2], &s);
	for (unsigned k = 0; k < 3; k++)
		assert_true(vnet_join_add(j, &p[k], 9));
	out.n = 0;
	vnet_join_flush(j, collect, &out);
	assert_int_equal(out.n, 3);
	for (unsigned k = 0; k < 3; k++)
		assert_ptr_equal(out.w[k].first, &p[k]);
	vnet_join_free(j);
}

static void test_join_limits(void **state)
{
	static uint8_t buf[VNET_JOIN_GROUPS + 1][2048];
	static const unsigned kinds[] = {TCP4, TCP6, UDP4, UDP6};
	struct pkt p[VNET_JOIN_GROUPS + 1], q;
	struct vnet_join *j;

	(void)state;
	assert_int_equal(vnet_join_new(&j, &all_on), 0);
	for (unsigned i = 0; i < 4; i++) {
		struct spec s = kind_spec(kinds[i]);
		unsigned fit, left;

		s.payload_len = 1400;
		for (unsigned k = 0; k <= VNET_JOIN_GROUPS; k++) {
			p[k] = make_pkt(buf[k], &s);
			s.seq += s.payload_len;
			assert_int_equal(vnet_join_add(j, &p[k], 1), k < VNET_JOIN_GROUPS);
		}
		fit = (PKT_MAX - p[0].payload) / 1400;
		left = VNET_JOIN_GROUPS - fit;
		out.n = 0;
		vnet_join_flush(j, collect, &out);
		assert_int_equal(out.n, 2);
		assert_int_equal(out.w[0].npkts, fit);
		assert_int_equal(out.w[1].npkts, left);
		for (unsigned k = 0; k < 2; k++)
			reread(&out.w[k], &q);
		/* and it is empty */
		out.n = 0;
		vnet_join_flush(j, collect, &out);
		assert_int_equal(out.n, 0);
	}
	vnet_join_free(j);
}

/* Each switch keeps its kind apart and no other; without csum nothing joins, and partial checksums are completed. */
static void test_join_offloads(void **state)
{
	static const struct {
		struct vnet_offloads off;
		bool joins[4]; /* TCP4, TCP6, UDP4, UDP6 */
	} rows[] = {
		{{true, true, true, true}, {true, true, true, true}},
		{{false, true, true, true}, {false, true, true, true}},
		{{true, false, true, true}, {true, false, true, true}},
		{{true, true, false, true}, {true, true, false, false}},
		{{true, true, true, false}, {false, false, false, false}},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct vnet_join *j;

		assert_int_equal(vnet_join_new(&j, &rows[i].off), 0);
		for (unsigned kind = 0; has_ports(kind); kind++) {
			struct spec s = kind_spec(kind);
			uint8_t buf[2][256], want[256];
			struct pkt p[2];

			for (unsigned k = 0; k < 2; k++) {
				s.csum = CSUM_HALF;
				p[k] = make_pkt(buf[k], &s);
				assert_int_equal(p[k].csum, PKT_CSUM_PARTIAL);
				assert_true(vnet_join_add(j, &p[k], 1));
				s.csum = CSUM_FULL;
				if (k == 0)
					packet_make(want, &s);
				s.seq += s.payload_len;
			}
			out.n = 0;
			vnet_join_flush(j, collect, &out);
			assert_int_equal(out.n, rows[i].joins[kind] ? 1 : 2);
			assert_int_equal(out.w[0].h.flags, rows[i].off.csum ? NEEDS : 0);
			if (!rows[i].off.csum)
				assert_memory_equal(out.w[0].b, want, out.w[0].len);
		}
		vnet_join_free(j);
	}
}

static void test_join_super_alone(void **state)
{
	static uint8_t buf[2][65536];
	struct spec s = kind_spec(TCP4);
	struct vnet_join *j;
	struct pkt p[2], q;

	(void)state;
	assert_int_equal(vnet_join_new(&j, &all_on), 0);
	for (unsigned k = 0; k < 2; k++) {
		s.payload_len = 5000;
		s.csum = CSUM_HALF;
		p[k] = make_pkt(buf[k], &s);
		p[k].gso_size = 1000;
		s.seq += s.payload_len;
		assert_true(vnet_join_add(j, &p[k], 1));
	}
	out.n = 0;
	vnet_join_flush(j, collect, &out);
	assert_int_equal(out.n, 2);
	for (unsigned k = 0; k < 2; k++) {
		reread(&out.w[k], &q);
		assert_int_equal(q.gso_size, 1000);
		assert_memory_equal(out.w[k].b, buf[k], p[k].len);
	}
	vnet_join_free(j);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_join_rules),
		cmocka_unit_test(test_join_odd_headers),
		cmocka_unit_test(test_join_long_headers),
		cmocka_unit_test(test_join_owners),
		cmocka_unit_test(test_join_keeps_order),
		cmocka_unit_test(test_join_limits),
		cmocka_unit_test(test_join_offloads),
		cmocka_unit_test(test_join_super_alone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
