/* SPDX-License-Identifier: GPL-2.0-or-later */
/* gateway_patherrkind_test.c - ICMP errors of every type and code through translated flows, and quotes of every form.
 *
 * Whatever an error says, and whichever way it goes: its receiver sees the packet quoted that it sent, its checksums are right,
 * the rest of it is as it came, and the flow is neither refreshed nor ended (RFC 5508 4).
 */
#include "test/unit/path_rig.h"

#define ROUTER4 "192.0.2.77"
#define ROUTER6 "2001:db8:9::77"
#define NO_TAIL (const uint8_t *)""

/* A flow of B, whose source is translated since A has one with the same tuple. out: how its first packet left; home: how
 * that packet was sent; in, answer: how an answer was sent and came to B. */
struct flow {
	struct spec sent;
	uint8_t home[512], out[512], in[512], answer[512];
	uint32_t home_len, in_len;
	struct pkt seen, came; /* out and answer, parsed */
};

static void flow_begin(struct flow *f, unsigned kind, uint16_t port)
{
	struct spec back;

	f->sent = kind_spec(kind);
	f->sent.flags = TCP_SYN;
	f->sent.sport = port;
	rig_forget();
	from_branch(A1, &f->sent);
	rig_forget();
	f->home_len = packet_make(f->home, &f->sent);
	from_branch(B1, &f->sent);
	f->seen = only_out(TO_TUN);
	memcpy(f->out, f->seen.data, f->seen.len);
	f->seen.data = f->out;
	assert_false(addr_eq(&f->seen.t.src, &f->sent.src) && f->seen.t.sport == htons(port));

	back = answer_to(&f->seen);
	f->in_len = packet_make(f->in, &back);
	rig_forget();
	from_egress(&back);
	f->came = only_out(B1);
	memcpy(f->answer, f->came.data, f->came.len);
	f->came.data = f->answer;
	rig_forget();
}

/* All that is known of the flows. */
static unsigned flows(struct fs_info *out, unsigned max)
{
	uint32_t cursor = 0, flow;
	unsigned n = 0;

	while (n < max && fs_next(rig.gw.fs, &cursor, UINT32_MAX, &flow, &out[n]) == 1)
		n++;
	return n;
}

/* Sends an error about f and looks at what comes out. n: how much of the packet it quotes. tail: what
 * stands behind the quote. */
static void error_crosses(
	struct flow *f, bool from_egress, struct error e, uint32_t n, const uint8_t *tail, uint32_t ntail)
{
	static struct fs_info before[64], after[64];
	const struct pkt *about = from_egress ? &f->seen : &f->came;
	const uint8_t *original = from_egress ? f->home : f->in;
	unsigned nflows = flows(before, 64);
	uint8_t b[1024] = {0}, quote[512], want[512], got[512];
	struct pkt p;

	e.dst = about->t.src;
	memcpy(quote, about->data, n);
	memcpy(quote + n, tail, ntail);
	rig_forget();
	rig.now += 10;
	if (from_egress)
		raw_from_egress(NULL, b, error_make(b, &e, quote, n + ntail));
	else
		raw_from_branch(B1, b, error_make(b, &e, quote, n + ntail));
	p = only_out(from_egress ? B1 : TO_TUN);
	assert_true(p.icmp_error);
	assert_int_equal(p.icmp_type, e.type);
	assert_int_equal(p.icmp_code, e.code);
	assert_int_equal(be32_get(p.data + p.l4 + 4), e.rest);
	assert_true(addr_eq(&p.t.dst, from_egress ? &f->sent.src : &f->seen.t.dst));
	assert_true(addr_eq(&p.t.src, &e.src));
	assert_int_equal(p.len - p.quote, n + ntail);
	memcpy(want, original, n);
	memcpy(got, p.data + p.quote, n);
	want[e.ver == 4 ? 8 : 7] = got[e.ver == 4 ? 8 : 7] = 0; /* TTL */
	if (e.ver == 4) {
		assert_int_equal(slow_sum(0, p.data + p.quote, (p.data[p.quote] & 0xfu) * 4), 0xffff);
		packet_ip_csum(want);
		packet_ip_csum(got);
	}
	assert_memory_equal(got, want, n);
	assert_memory_equal(p.data + p.quote + n, tail, ntail);
	assert_int_equal(flows(after, 64), nflows);
	assert_memory_equal(after, before, nflows * sizeof(*before));
}

static struct error error_of(uint8_t ver, uint8_t type, uint8_t code, uint32_t rest)
{
	return (struct error){.ver = ver,
		.type = type,
		.code = code,
		.rest = rest,
		.src = test_addr(ver == 4 ? ROUTER4 : ROUTER6)};
}

/* Types, and the highest code of each. */
static const struct {
	uint8_t ver, type, codes;
} kinds[] = {{4, 3, 15}, {4, 4, 0}, {4, 11, 1}, {4, 12, 2}, {6, 1, 8}, {6, 2, 0}, {6, 3, 1}, {6, 4, 10}};

static void every_kind(void **state)
{
	(void)state;
	for (unsigned kind = 0; kind < KINDS; kind++) {
		struct flow f;

		flow_begin(&f, kind, 41000);
		for (size_t k = 0; k < sizeof(kinds) / sizeof(kinds[0]); k++)
			for (unsigned code = 0; kinds[k].ver == f.sent.ver && code <= kinds[k].codes; code++)
				for (unsigned way = 0; way < 4; way++) {
					const struct pkt *about = way % 2 ? &f.seen : &f.came;

					error_crosses(&f, way % 2,
						error_of(f.sent.ver, kinds[k].type, (uint8_t)code, 1400),
						way < 2 ? about->l4 + 8u : about->len, NO_TAIL, 0);
				}
	}
}

/* The L4 header cut off everywhere: what 8 octets do not reach is not believed. */
static void quotes_cut_short(void **state)
{
	(void)state;
	for (unsigned kind = 0; kind < KINDS; kind++) {
		struct flow f;

		flow_begin(&f, kind, 42000);
		for (unsigned way = 0; way < 2; way++) {
			const struct pkt *about = way ? &f.seen : &f.came;
			struct error e = error_of(f.sent.ver, f.sent.ver == 4 ? 3 : 1, 3, 0);

			for (uint32_t n = about->l4 + 8u; n <= about->len; n++)
				if (n != about->l4 + 17u) /* half of TCP's checksum cannot be put right */
					error_crosses(&f, way, e, n, NO_TAIL, 0);
			e.dst = about->t.src;
			for (uint32_t n = 0; n < about->l4 + 8u; n++) {
				uint64_t before = rig_drops(DROP_INNER_L4);
				uint8_t b[512] = {0}, q[512] = {0};

				memcpy(q, about->data, about->len);
				rig_forget();
				if (way)
					raw_from_egress(NULL, b, error_make(b, &e, q, n));
				else
					raw_from_branch(B1, b, error_make(b, &e, q, n));
				assert_int_equal(rig.nout, 0);
				assert_int_equal(rig_drops(DROP_INNER_L4), before + 1);
			}
		}
	}
}

/* RFC 4884, 4950: the quote is filled up to 128 octets, and an extension structure with a checksum of its own follows. */
static void extensions_survive(void **state)
{
	static const uint8_t mpls[] = {0x20, 0, 0xdd, 0x53, 0, 8, 1, 1, 0x12, 0x34, 0x51, 0x01};

	(void)state;
	for (unsigned kind = 0; kind < KINDS; kind++) {
		struct flow f;
		uint8_t tail[128 + sizeof(mpls)];

		flow_begin(&f, kind, 43000);
		for (unsigned way = 0; way < 2; way++) {
			const struct pkt *about = way ? &f.seen : &f.came;
			uint32_t n = about->len < 128 ? about->len : 128, fill = 128 - n;
			bool is4 = f.sent.ver == 4;

			memset(tail, 0, fill);
			memcpy(tail + fill, mpls, sizeof(mpls));
			/* length of the quote: in words of 4 octets, or of 8 */
			error_crosses(&f, way,
				error_of(f.sent.ver, is4 ? 11 : 3, 0, is4 ? 32u << 16 : 16u << 24), n, tail,
				fill + sizeof(mpls));
		}
	}
}

/* Puts n octets into a packet at off, for options and extension headers, and returns its new length. */
static uint32_t insert(uint8_t *b, uint32_t len, uint32_t off, const uint8_t *what, uint32_t n)
{
	memmove(b + off + n, b + off, len - off);
	memcpy(b + off, what, n);
	return len + n;
}

/* What the sender sent with options, extension headers or as a first fragment is quoted with these. */
static void quotes_with_more_headers(void **state)
{
	static const uint8_t router_alert[] = {0x94, 4, 0, 0},
			     nothing6[] = {IPPROTO_UDP, 0, 1, 4, 0, 0, 0, 0},
			     fragment6[] = {IPPROTO_UDP, 0, 0, 1, 1, 2, 3, 4};
	static const struct {
		const char *what;
		unsigned kind;
		const uint8_t *put;
		uint32_t n;
		uint8_t at, value; /* an octet that says so */
	} rows[] = {
		{"options", UDP4, router_alert, 4, 0, 0x46},
		{"first fragment", UDP4, NULL, 0, 6, 0x20},
		{"hop-by-hop options", UDP6, nothing6, 8, 6, 0},
		{"destination options", UDP6, nothing6, 8, 6, 60},
		{"first fragment 6", UDP6, fragment6, 8, 6, 44},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct flow f;
		uint8_t *each[4] = {f.home, f.out, f.in, f.answer};

		flow_begin(&f, rows[i].kind, (uint16_t)(44000 + i));
		for (unsigned k = 0; k < 4; k++) {
			uint32_t len = rows[i].n ? insert(each[k], f.home_len, f.sent.ver == 4 ? 20 : 40,
							   rows[i].put, rows[i].n)
						 : f.home_len;

			each[k][rows[i].at] = rows[i].value;
			be16_put(each[k] + (f.sent.ver == 4 ? 2 : 4),
				(uint16_t)(f.sent.ver == 4 ? len : len - 40));
			if (f.sent.ver == 4)
				packet_ip_csum(each[k]);
		}
		for (unsigned way = 0; way < 2; way++)
			error_crosses(&f, way, error_of(f.sent.ver, f.sent.ver == 4 ? 3 : 1, 1, 0),
				f.home_len + rows[i].n, NO_TAIL, 0);
	}
}

/* Nobody may say anything of an error, and of a later fragment nobody knows whose it is. */
static void quotes_of_nothing(void **state)
{
	static const struct {
		unsigned kind;
		uint8_t at, value;
	} rows[] = {{ICMP4, 20, 3}, {ICMP4, 20, 4}, {ICMP4, 20, 11}, {ICMP4, 20, 12}, {ICMP6, 40, 1},
		{ICMP6, 40, 2}, {ICMP6, 40, 3}, {ICMP6, 40, 4}, {UDP4, 7, 0xb9}};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		for (unsigned k = 0; k < sizeof(kinds) / sizeof(kinds[0]); k++) {
			struct flow f;
			struct error e;
			uint8_t b[512] = {0};
			uint64_t before;

			flow_begin(&f, rows[i].kind, (uint16_t)(45000 + i * 16 + k));
			if (f.sent.ver != kinds[k].ver)
				continue;
			e = error_of(f.sent.ver, kinds[k].type, 0, 1300);
			e.dst = f.seen.t.src;
			f.out[rows[i].at] = rows[i].value;
			before = rig_drops(DROP_INNER_L4);
			raw_from_egress(NULL, b, error_make(b, &e, f.out, f.seen.len));
			assert_int_equal(rig.nout, 0);
			assert_int_equal(rig_drops(DROP_INNER_L4), before + 1);
		}
}

/* One that quotes no live flow, of every kind. */
static void no_flow(void **state)
{
	(void)state;
	for (size_t k = 0; k < sizeof(kinds) / sizeof(kinds[0]); k++)
		for (unsigned code = 0; code <= kinds[k].codes; code++)
			for (unsigned way = 0; way < 2; way++) {
				struct spec s = kind_spec(kinds[k].ver == 4 ? UDP4 : UDP6);
				struct error e = error_of(kinds[k].ver, kinds[k].type, (uint8_t)code, 1300);
				uint64_t before = rig_drops(DROP_ICMP_NO_FLOW);
				uint8_t b[512] = {0}, q[256] = {0};
				uint32_t n = packet_make(q, &s);

				e.dst = s.src;
				if (way)
					raw_from_egress(NULL, b, error_make(b, &e, q, n));
				else
					raw_from_branch(B1, b, error_make(b, &e, q, n));
				assert_int_equal(rig.nout, 0);
				assert_int_equal(rig_drops(DROP_ICMP_NO_FLOW), before + 1);
			}
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, rig_up, rig_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(every_kind),
		CASE(quotes_cut_short),
		CASE(extensions_survive),
		CASE(quotes_with_more_headers),
		CASE(quotes_of_nothing),
		CASE(no_flow),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
