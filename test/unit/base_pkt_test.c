/* SPDX-License-Identifier: GPL-2.0-or-later */
/* base_pkt_test.c - the parser: what it takes, what it refuses and why, what it says of a packet. */
#include "gateway/base/pkt.h"
#include "test/unit/packet.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

/* A packet, changed in up to six octets. */
struct patch {
	uint16_t off;
	uint8_t value;
};
#define PATCHES 6

/* Parses a copy of exactly len octets, so that a sanitizer sees every octet read behind it. */
static enum drop parse_exact(const uint8_t *b, uint32_t len, struct pkt *p)
{
	uint8_t *copy = malloc(len ? len : 1);
	enum drop d;

	assert_non_null(copy);
	memcpy(copy, b, len);
	*p = (struct pkt){.data = copy, .len = len};
	d = pkt_parse(p);
	free(copy);
	p->data = NULL;
	return d;
}

/* Makes the packet of s and parses it. */
static enum drop parse_spec(const struct spec *s, struct pkt *p)
{
	static uint8_t b[70000];
	uint32_t len = packet_make(b, s);

	return parse_exact(b, len, p);
}

/* ---- what is refused ------------------------------------------------------------------------------------ */

#define IHL_PLUS(n)                                                                                          \
	{                                                                                                    \
		0, 0x45 + (n)                                                                                \
	}

static const struct {
	const char *name;
	unsigned kind;
	int cut; /* octets taken off the end */
	bool fix_ip_csum;
	struct patch patch[PATCHES]; /* ended by {0, 0} */
	enum drop drop;
} refusals[] = {
	{"whole 4", TCP4, 0, false, {{0, 0}}, DROP_NONE},
	{"whole 6", TCP6, 0, false, {{0, 0}}, DROP_NONE},
	{"empty", TCP4, 140, false, {{0, 0}}, DROP_INNER_TRUNCATED},
	{"one octet", TCP4, 139, false, {{0, 0}}, DROP_INNER_TRUNCATED},
	{"19 octets", TCP4, 121, false, {{0, 0}}, DROP_INNER_TRUNCATED},
	{"39 octets", TCP6, 121, false, {{0, 0}}, DROP_INNER_TRUNCATED},
	{"version 0", TCP4, 0, true, {{0, 0x05}}, DROP_INNER_MALFORMED},
	{"version 5", TCP4, 0, true, {{0, 0x55}}, DROP_INNER_MALFORMED},
	{"version 6 in IPv4's clothes", TCP4, 0, false, {{0, 0x65}}, DROP_INNER_TRUNCATED},
	{"header of 16 octets", TCP4, 0, true, {{0, 0x44}}, DROP_INNER_MALFORMED},
	{"header longer than the total", TCP4, 0, true, {{0, 0x4f}, {3, 59}}, DROP_INNER_MALFORMED},
	{"total below the header", TCP4, 0, true, {{2, 0}, {3, 19}}, DROP_INNER_MALFORMED},
	{"total of 0", TCP4, 0, true, {{2, 0}, {3, 0}}, DROP_INNER_MALFORMED},
	{"total above what is there", TCP4, 1, false, {{0, 0}}, DROP_INNER_TRUNCATED},
	{"header checksum", TCP4, 0, false, {{10, 0x77}}, DROP_INNER_MALFORMED},
	{"payload length above what is there", TCP6, 1, false, {{0, 0}}, DROP_INNER_TRUNCATED},
	{"NOPs and end of options", GRE4, 0, true, {IHL_PLUS(1), {20, 1}, {21, 1}, {22, 0}}, DROP_NONE},
	{"loose source route", UDP4, 0, true, {IHL_PLUS(1), {20, 131}, {21, 3}, {22, 4}}, DROP_SOURCE_ROUTE},
	{"strict source route", UDP4, 0, true, {IHL_PLUS(1), {20, 1}, {21, 137}, {22, 2}}, DROP_SOURCE_ROUTE},
	{"source route of no length", UDP4, 0, true, {IHL_PLUS(1), {20, 1}, {21, 1}, {22, 1}, {23, 131}},
		DROP_SOURCE_ROUTE},
	{"source route behind the end", GRE4, 0, true, {IHL_PLUS(1), {20, 0}, {21, 131}}, DROP_NONE},
	{"option length 0", UDP4, 0, true, {IHL_PLUS(1), {20, 7}, {21, 0}}, DROP_INNER_MALFORMED},
	{"option length 1", UDP4, 0, true, {IHL_PLUS(1), {20, 7}, {21, 1}}, DROP_INNER_MALFORMED},
	{"option longer than the header", UDP4, 0, true, {IHL_PLUS(1), {20, 7}, {21, 5}},
		DROP_INNER_MALFORMED},
	{"second option longer than the rest", UDP4, 0, true, {IHL_PLUS(1), {20, 1}, {21, 7}, {22, 4}},
		DROP_INNER_MALFORMED},
	{"option without length", UDP4, 0, true, {IHL_PLUS(1), {20, 1}, {21, 1}, {22, 1}, {23, 7}},
		DROP_INNER_MALFORMED},
	{"fragment beyond the largest datagram", TCP4, 0, true, {{6, 0x1f}, {7, 0xff}}, DROP_INNER_MALFORMED},
	{"TCP header of 16 octets", TCP4, 0, false, {{32, 0x40}}, DROP_INNER_L4},
	{"TCP header longer than the packet", TCP4, 0, true, {{2, 0}, {3, 59}, {32, 0xa0}}, DROP_INNER_L4},
	{"19 octets of TCP", TCP4, 0, true, {{2, 0}, {3, 39}}, DROP_INNER_L4},
	{"20 octets of TCP", TCP4, 0, true, {{2, 0}, {3, 40}}, DROP_NONE},
	{"19 octets of TCP 6", TCP6, 0, false, {{4, 0}, {5, 19}}, DROP_INNER_L4},
	{"no L4 at all", TCP4, 0, true, {{2, 0}, {3, 20}}, DROP_INNER_L4},
	{"no L4 at all 6", TCP6, 0, false, {{4, 0}, {5, 0}}, DROP_INNER_L4},
	{"7 octets of UDP", UDP4, 0, true, {{2, 0}, {3, 27}}, DROP_INNER_L4},
	{"UDP length 7", UDP4, 0, false, {{24, 0}, {25, 7}}, DROP_INNER_L4},
	{"UDP length 0", UDP6, 0, false, {{44, 0}, {45, 0}}, DROP_INNER_L4},
	{"UDP length too large", UDP4, 0, false, {{25, 109}}, DROP_INNER_L4},
	{"UDP length smaller: options behind", UDP4, 0, false, {{25, 107}}, DROP_NONE},
	{"7 octets of ICMP", ICMP4, 0, true, {{2, 0}, {3, 27}}, DROP_INNER_L4},
	{"7 octets of ICMPv6", ICMP6, 0, false, {{4, 0}, {5, 7}}, DROP_INNER_L4},
	{"ICMPv6 in IPv4 is not looked into", ICMP4, 0, true, {{9, 58}, {2, 0}, {3, 20}}, DROP_NONE},
	{"ICMP in IPv6 is not looked into", ICMP6, 0, false, {{6, 1}, {4, 0}, {5, 0}}, DROP_NONE},
	{"jumbogram", UDP6, 0, false, {{6, 0}, {4, 0}, {5, 0}}, DROP_INNER_MALFORMED},
	{"protocol without ports, empty", GRE4, 0, true, {{2, 0}, {3, 20}}, DROP_NONE},
	{"no next header", ESP6, 0, false, {{6, 59}, {4, 0}, {5, 0}}, DROP_NONE},
};

static void test_refusals(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++) {
		struct spec s = kind_spec(refusals[i].kind);
		uint8_t b[2048];
		struct pkt p;
		uint32_t len;
		enum drop d;

		len = packet_make(b, &s);
		for (const struct patch *x = refusals[i].patch; x->off || x->value; x++)
			b[x->off] = x->value;
		if (refusals[i].fix_ip_csum)
			packet_ip_csum(b);
		d = parse_exact(b, len - (uint32_t)refusals[i].cut, &p);
		if (d != refusals[i].drop)
			fail_msg("%s: drop %d instead of %d", refusals[i].name, d, refusals[i].drop);
	}
}

/* Every packet, cut at every length: refused, and nothing is read behind the end. */
static void test_every_length(void **state)
{
	(void)state;
	for (unsigned kind = 0; kind < KINDS; kind++) {
		struct spec s = kind_spec(kind);
		uint8_t b[2048];
		uint32_t len = packet_make(b, &s);
		struct pkt p;

		for (uint32_t n = 0; n < len; n++)
			assert_int_equal(parse_exact(b, n, &p), DROP_INNER_TRUNCATED);
		assert_int_equal(parse_exact(b, len, &p), DROP_NONE);
		/* padding behind the packet is cut off */
		assert_int_equal(parse_exact(b, len + 30, &p), DROP_NONE);
		assert_int_equal(p.len, len);
	}
}

static void test_largest(void **state)
{
	struct spec s = kind_spec(TCP4);
	struct pkt p;

	(void)state;
	s.payload_len = PKT_MAX - 40;
	assert_int_equal(parse_spec(&s, &p), DROP_NONE);
	assert_int_equal(p.len, PKT_MAX);
	s = kind_spec(UDP6);
	s.payload_len = PKT_MAX - 48;
	assert_int_equal(parse_spec(&s, &p), DROP_NONE);
	s.payload_len++; /* fits its 16-bit length, but is no longer a super-packet that anything here holds */
	assert_int_equal(parse_spec(&s, &p), DROP_INNER_MALFORMED);
}

/* ---- IPv6 extension headers ------------------------------------------------------------------------------ */

#define H 0
#define D 60
#define R 43
#define F 44
#define T IPPROTO_TCP
#define X 59

/* Each header of the chain: its type, and octets 1 to 3; its successor is put in by the test. */
struct ext {
	uint8_t type, b1, b2, b3;
};
static const struct {
	const char *name;
	struct ext chain[12]; /* up to the first that is not an extension header */
	enum drop drop;
	bool frag;
	uint8_t proto;
} chains[] = {
	{"none", {{T}}, DROP_NONE, false, T},
	{"hop-by-hop", {{H}, {T}}, DROP_NONE, false, T},
	{"destination options", {{D}, {T}}, DROP_NONE, false, T},
	{"long destination options", {{D, 3}, {T}}, DROP_NONE, false, T},
	{"both", {{H}, {D}, {T}}, DROP_NONE, false, T},
	{"hop-by-hop second", {{D}, {H}, {T}}, DROP_EXTENSION_HEADERS, false, 0},
	{"hop-by-hop twice", {{H}, {H}, {T}}, DROP_EXTENSION_HEADERS, false, 0},
	{"eight", {{D}, {D}, {D}, {D}, {D}, {D}, {D}, {D}, {T}}, DROP_NONE, false, T},
	{"nine", {{D}, {D}, {D}, {D}, {D}, {D}, {D}, {D}, {D}, {T}}, DROP_EXTENSION_HEADERS, false, 0},
	{"routing type 0", {{R, 0, 0, 0}, {T}}, DROP_SOURCE_ROUTE, false, 0},
	{"routing type 2, arrived", {{R, 0, 2, 0}, {T}}, DROP_NONE, false, T},
	{"routing type 2, on its way", {{R, 0, 2, 1}, {T}}, DROP_SOURCE_ROUTE, false, 0},
	{"routing type 4, on its way", {{H}, {R, 2, 4, 255}, {T}}, DROP_SOURCE_ROUTE, false, 0},
	{"longer than the packet", {{D, 255}, {T}}, DROP_INNER_TRUNCATED, false, 0},
	{"atomic fragment", {{F, 0, 0, 0}, {T}}, DROP_NONE, false, T},
	{"atomic fragment, reserved bits", {{F, 0xff, 0, 6}, {T}}, DROP_NONE, false, T},
	{"atomic fragment twice", {{F, 0, 0, 0}, {F, 0, 0, 0}, {T}}, DROP_EXTENSION_HEADERS, false, 0},
	{"first fragment", {{F, 0, 0, 1}, {T}}, DROP_NONE, true, T},
	{"last fragment", {{F, 0, 0, 8}, {T}}, DROP_NONE, true, T},
	{"fragment of options", {{H}, {F, 0, 0, 8}, {D}, {T}}, DROP_NONE, true, D},
	{"nothing behind", {{H}, {X}}, DROP_NONE, false, X},
};

static void test_extension_headers(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(chains) / sizeof(chains[0]); i++) {
		const struct ext *e = chains[i].chain;
		struct spec s = kind_spec(TCP6);
		uint8_t b[2048], tcp[2048];
		uint32_t at = 40, n = packet_make(tcp, &s) - 40;
		struct pkt p;
		enum drop d;

		memcpy(b, tcp, 40);
		b[6] = e->type;
		for (; e->type == H || e->type == D || e->type == R || e->type == F; e++) {
			uint32_t size = e->type == F ? 8 : (e->b1 == 255 ? 8 : (e->b1 + 1u) * 8);

			memset(b + at, 0, size);
			b[at] = e[1].type;
			b[at + 1] = e->b1;
			b[at + 2] = e->b2;
			b[at + 3] = e->b3;
			at += size;
		}
		memcpy(b + at, tcp + 40, n);
		be16_put(b + 4, (uint16_t)(at - 40 + n));
		d = parse_exact(b, at + n, &p);
		if (d != chains[i].drop)
			fail_msg("%s: drop %d", chains[i].name, d);
		if (d)
			continue;
		if (p.frag != chains[i].frag || p.t.proto != chains[i].proto)
			fail_msg("%s: frag %d proto %d", chains[i].name, p.frag, p.t.proto);
		if (p.frag || p.t.proto != T) {
			assert_true(p.t.sport == 0 && p.t.dport == 0 && p.payload == p.l4);
		} else {
			assert_int_equal(p.l4, at);
			assert_int_equal(ntohs(p.t.sport), s.sport);
		}
	}
}

static void test_mapped_addresses(void **state)
{
	static const uint8_t mapped[16] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 1, 2};
	struct spec s = kind_spec(UDP6);
	uint8_t b[2048];
	uint32_t len = packet_make(b, &s);
	struct pkt p;

	(void)state;
	memcpy(b + 24, mapped, 16);
	assert_int_equal(parse_exact(b, len, &p), DROP_DST_INVALID);
	memcpy(b + 8, mapped, 16);
	assert_int_equal(parse_exact(b, len, &p), DROP_SOURCE_INVALID);
}

static void test_mapped_addresses_quoted(void **state)
{
	static const uint8_t mapped[16] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 1, 2};
	struct spec s = kind_spec(UDP6);
	uint8_t b[2048], q[2048];
	struct pkt p;
	uint32_t len;

	(void)state;
	for (unsigned off = 8; off <= 24; off += 16) {
		len = packet_make(q, &s);
		memcpy(q + off, mapped, 16);
		len = packet_error(b, &s, 1, 0, q, len);
		assert_int_equal(parse_exact(b, len, &p), DROP_INNER_L4);
	}
}

/* ---- what is said of a packet ------------------------------------------------------------------------------ */

static void test_fields(void **state)
{
	(void)state;
	for (unsigned kind = 0; kind < KINDS; kind++) {
		struct spec s = kind_spec(kind);
		uint32_t hlen[KINDS] = {20, 20, 8, 8, 8, 8, 0, 0}, len;
		bool ports = s.proto == IPPROTO_TCP || s.proto == IPPROTO_UDP;
		bool echo = s.proto == IPPROTO_ICMP || s.proto == IPPROTO_ICMPV6;
		uint8_t b[2048];
		struct pkt p;

		s.ttl = 17;
		s.tos = 0xb9;
		s.flow_label = 0xfffff;
		s.df = kind % 2;
		s.flags = TCP_ACK | TCP_PSH | TCP_ECE;
		len = packet_make(b, &s);
		assert_int_equal(parse_exact(b, len, &p), DROP_NONE);
		assert_int_equal(p.len, len);
		assert_int_equal(p.ver, s.ver);
		assert_int_equal(p.ttl, 17);
		assert_int_equal(p.tos, 0xb9);
		assert_int_equal(p.df, s.ver == 6 || s.df);
		assert_false(p.frag);
		assert_false(p.icmp_error);
		assert_true(addr_eq(&p.t.src, &s.src) && addr_eq(&p.t.dst, &s.dst));
		assert_int_equal(p.t.proto, s.proto);
		assert_int_equal(ntohs(p.t.sport), ports || echo ? s.sport : 0);
		assert_int_equal(ntohs(p.t.dport), ports ? s.dport : 0);
		assert_int_equal(p.l4, s.ver == 4 ? 20 : 40);
		assert_int_equal(p.payload, p.l4 + hlen[kind]);
		assert_int_equal(p.tcp_flags, s.proto == IPPROTO_TCP ? s.flags : 0);
		assert_int_equal(p.icmp_type, echo ? s.icmp_type : 0);
		assert_true(p.t.pad[0] == 0 && p.t.pad[1] == 0 && p.t.pad[2] == 0);
	}
}

static void test_fragment4(void **state)
{
	static const struct {
		uint16_t field;
		bool frag, df;
	} rows[] = {{0, false, false}, {0x4000, false, true}, {0x2000, true, false}, {0x0001, true, false},
		{0x2001, true, false}, {0x8000, false, false}, {0x6000, true, true}};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct spec s = kind_spec(UDP4);
		uint8_t b[2048];
		uint32_t len = packet_make(b, &s);
		struct pkt p;

		be16_put(b + 6, rows[i].field);
		packet_ip_csum(b);
		assert_int_equal(parse_exact(b, len, &p), DROP_NONE);
		assert_int_equal(p.frag, rows[i].frag);
		assert_int_equal(p.df, rows[i].df);
		assert_int_equal(p.t.sport, rows[i].frag ? 0 : htons(s.sport));
		assert_int_equal(p.payload, rows[i].frag ? p.l4 : p.l4 + 8);
		assert_int_equal(p.t.proto, IPPROTO_UDP);
	}
}

/* Echo ids by side; other messages of ICMP have no ports and are no errors. */
static void test_icmp_types(void **state)
{
	static const struct {
		unsigned kind;
		uint8_t type;
		bool sport, dport;
	} rows[] = {{ICMP4, 8, true, false}, {ICMP4, 0, false, true}, {ICMP4, 13, false, false},
		{ICMP4, 5, false, false}, {ICMP4, 9, false, false}, {ICMP4, 128, false, false},
		{ICMP6, 128, true, false}, {ICMP6, 129, false, true}, {ICMP6, 135, false, false},
		{ICMP6, 8, false, false}, {ICMP6, 0, false, false}, {ICMP6, 127, false, false}};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct spec s = kind_spec(rows[i].kind);
		struct pkt p;

		s.icmp_type = rows[i].type;
		s.icmp_code = 3;
		assert_int_equal(parse_spec(&s, &p), DROP_NONE);
		assert_int_equal(p.icmp_type, rows[i].type);
		assert_int_equal(p.icmp_code, 3);
		assert_int_equal(ntohs(p.t.sport), rows[i].sport ? s.sport : 0);
		assert_int_equal(ntohs(p.t.dport), rows[i].dport ? s.sport : 0);
		assert_false(p.icmp_error);
	}
}

static void test_syn_options(void **state)
{
	static const struct {
		const char *name;
		uint8_t flags, n, options[12];
		enum drop drop;
		uint16_t mss, mss_at; /* in the TCP header */
		uint8_t wscale;
	} rows[] = {
		{"none", TCP_SYN, 0, {0}, DROP_NONE, 0, 0, 0},
		{"MSS", TCP_SYN, 4, {2, 4, 5, 0xb4}, DROP_NONE, 1460, 22, 0},
		{"MSS of a SYN ACK", TCP_SYN | TCP_ACK, 4, {2, 4, 5, 0xb4}, DROP_NONE, 1460, 22, 0},
		{"not a SYN", TCP_ACK, 4, {2, 4, 5, 0xb4}, DROP_NONE, 0, 0, 0},
		{"not a SYN, nonsense", TCP_ACK, 4, {2, 0, 5, 0xb4}, DROP_NONE, 0, 0, 0},
		{"MSS at an odd place", TCP_SYN, 8, {1, 2, 4, 5, 0xb4, 0}, DROP_NONE, 1460, 23, 0},
		{"window scale", TCP_SYN, 8, {2, 4, 5, 0xb4, 1, 3, 3, 7}, DROP_NONE, 1460, 22, 8},
		{"window scale 0", TCP_SYN, 4, {1, 3, 3, 0}, DROP_NONE, 0, 0, 1},
		{"window scale above 14", TCP_SYN, 4, {1, 3, 3, 200}, DROP_NONE, 0, 0, 15},
		{"MSS of wrong length", TCP_SYN, 8, {2, 3, 5, 1, 1, 1, 1, 1}, DROP_NONE, 0, 0, 0},
		{"the last of two counts", TCP_SYN, 8, {2, 4, 1, 1, 2, 4, 2, 2}, DROP_NONE, 0x202, 26, 0},
		{"behind the end", TCP_SYN, 8, {0, 0, 0, 0, 2, 4, 5, 0xb4}, DROP_NONE, 0, 0, 0},
		{"length 0", TCP_SYN, 4, {2, 0, 0, 0}, DROP_INNER_L4, 0, 0, 0},
		{"length 1", TCP_SYN, 4, {8, 1, 0, 0}, DROP_INNER_L4, 0, 0, 0},
		{"beyond the header", TCP_SYN, 4, {1, 2, 4, 5}, DROP_INNER_L4, 0, 0, 0},
		{"no length", TCP_SYN, 4, {1, 1, 1, 2}, DROP_INNER_L4, 0, 0, 0},
	};

	(void)state;
	for (unsigned kind = TCP4; kind <= TCP6; kind += TCP6 - TCP4) {
		for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
			struct spec s = kind_spec(kind);
			struct pkt p;
			enum drop d;

			s.flags = rows[i].flags;
			s.noptions = rows[i].n;
			memcpy(s.options, rows[i].options, sizeof(rows[i].options));
			s.payload_len = 0;
			d = parse_spec(&s, &p);
			if (d != rows[i].drop)
				fail_msg("%s: drop %d", rows[i].name, d);
			if (d)
				continue;
			if (p.mss != rows[i].mss || p.wscale != rows[i].wscale)
				fail_msg("%s: mss %u wscale %u", rows[i].name, p.mss, p.wscale);
			assert_int_equal(p.mss_off, rows[i].mss ? p.l4 + rows[i].mss_at : 0);
		}
	}
}

/* RFC 2018: the right edge that lies farthest ahead; not one that lies behind the acknowledgment (RFC 2883). */
static void test_sack(void **state)
{
	static const struct {
		const char *name;
		uint8_t flags, n, options[40];
		uint32_t sack;
	} rows[] = {
		{"one block", TCP_ACK, 12, {1, 1, 5, 10, 0, 0, 0x20, 0, 0, 0, 0x30, 0}, 0x3000},
		{"two blocks, the first is the later one", TCP_ACK, 20,
			{1, 1, 5, 18, 0, 0, 0x40, 0, 0, 0, 0x50, 0, 0, 0, 0x20, 0, 0, 0, 0x30, 0}, 0x5000},
		{"two blocks, the second is", TCP_ACK, 20,
			{1, 1, 5, 18, 0, 0, 0x20, 0, 0, 0, 0x30, 0, 0, 0, 0x40, 0, 0, 0, 0x50, 0}, 0x5000},
		{"behind timestamps", TCP_ACK, 24,
			{1, 1, 8, 10, 9, 9, 9, 9, 8, 8, 8, 8, 1, 1, 5, 10, 0, 0, 0x20, 0, 0, 0, 0x30, 0},
			0x3000},
		{"timestamps alone", TCP_ACK, 12, {1, 1, 8, 10, 0, 0, 0x20, 0, 0, 0, 0x30, 0}, 0},
		{"of what is acknowledged already", TCP_ACK, 12, {1, 1, 5, 10, 0, 0, 0, 5, 0, 0, 0, 9}, 0},
		{"cut short", TCP_ACK, 12, {1, 1, 5, 9, 0, 0, 0x20, 0, 0, 0, 0x30, 0}, 0},
		{"longer than the header", TCP_ACK, 12, {1, 1, 5, 18, 0, 0, 0x20, 0, 0, 0, 0x30, 0}, 0},
		{"empty", TCP_ACK, 4, {1, 1, 5, 2}, 0},
		{"of a SYN", TCP_SYN, 12, {1, 1, 5, 10, 0, 0, 0x20, 0, 0, 0, 0x30, 0}, 0},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct spec s = kind_spec(TCP4);
		struct pkt p;

		s.flags = rows[i].flags;
		s.ack = 0x1000;
		s.noptions = rows[i].n;
		memcpy(s.options, rows[i].options, rows[i].n);
		assert_int_equal(parse_spec(&s, &p), DROP_NONE);
		if (p.sack != rows[i].sack)
			fail_msg("%s: %08x", rows[i].name, p.sack);
	}
}

/* Which flags go together: PSH, URG, ECE and CWR with everything. */
static void test_flags_that_contradict(void **state)
{
	static const uint8_t sound[] = {
		TCP_SYN, TCP_SYN | TCP_ACK, TCP_RST, TCP_RST | TCP_ACK, TCP_ACK, TCP_FIN | TCP_ACK};

	(void)state;
	for (unsigned flags = 0; flags < 256; flags++) {
		struct spec s = kind_spec(flags % 2 ? TCP4 : TCP6);
		uint8_t b[256];
		struct pkt p = {.data = b};
		bool is_sound = false;

		for (size_t i = 0; i < sizeof(sound); i++)
			is_sound |= (flags & (TCP_SYN | TCP_ACK | TCP_RST | TCP_FIN)) == sound[i];
		s.flags = (uint8_t)flags;
		p.len = packet_make(b, &s);
		assert_int_equal(pkt_parse(&p), is_sound ? DROP_NONE : DROP_INNER_L4);
	}
}

/* ---- ICMP errors --------------------------------------------------------------------------------------------- */

/* Parses an ICMP error about the packet of quoted, changed by patch, of which at most n octets are quoted. */
static enum drop parse_error(
	const struct spec *quoted, uint8_t type, uint32_t n, const struct patch *patch, struct pkt *p)
{
	uint8_t b[2048], q[2048];
	uint32_t len = packet_make(q, quoted);

	for (const struct patch *x = patch; x && (x->off || x->value); x++)
		q[x->off] = x->value;
	len = packet_error(b, quoted, type, 0, q, n < len ? n : len);
	return parse_exact(b, len, p);
}

static void test_quotes(void **state)
{
	static const uint8_t errors4[] = {3, 4, 11, 12}, errors6[] = {1, 2, 3, 4};

	(void)state;
	for (unsigned kind = 0; kind < KINDS; kind++) {
		for (unsigned e = 0; e < 4; e++) {
			struct spec s = kind_spec(kind);
			bool ports = s.proto == IPPROTO_TCP || s.proto == IPPROTO_UDP;
			bool echo = s.proto == IPPROTO_ICMP || s.proto == IPPROTO_ICMPV6;
			uint32_t ip = s.ver == 4 ? 20 : 40, full = ip + 8;
			uint8_t type = s.ver == 4 ? errors4[e] : errors6[e];
			struct pkt p;

			for (uint32_t n = 0; n < full; n++)
				assert_int_equal(parse_error(&s, type, n, NULL, &p), DROP_INNER_L4);
			assert_int_equal(parse_error(&s, type, full, NULL, &p), DROP_NONE);
			assert_true(p.icmp_error);
			assert_int_equal(p.icmp_type, type);
			assert_true(p.t.sport == 0 && p.t.dport == 0);
			assert_int_equal(p.quote, p.l4 + 8);
			assert_int_equal(p.quote_l4, p.quote + ip);
			assert_true(addr_eq(&p.qt.src, &s.src) && addr_eq(&p.qt.dst, &s.dst));
			assert_int_equal(p.qt.proto, s.proto);
			assert_int_equal(ntohs(p.qt.sport), ports || echo ? s.sport : 0);
			assert_int_equal(ntohs(p.qt.dport), ports ? s.dport : 0);
		}
	}
}

static void test_quote_refusals(void **state)
{
	static const struct {
		const char *name;
		unsigned kind;
		struct patch patch[PATCHES];
		enum drop drop;
	} rows[] = {
		{"header checksum does not matter", UDP4, {{10, 1}}, DROP_NONE},
		{"total length does not matter", UDP4, {{2, 0xff}}, DROP_NONE},
		{"TTL 0", UDP4, {{8, 0}, {1, 1}}, DROP_NONE},
		{"other version", UDP4, {{0, 0x65}}, DROP_INNER_L4},
		{"other version 6", UDP6, {{0, 0x45}}, DROP_INNER_L4},
		{"header of 16 octets", UDP4, {{0, 0x44}}, DROP_INNER_L4},
		{"header longer than the quote", UDP4, {{0, 0x4f}}, DROP_INNER_L4},
		{"first fragment", UDP4, {{6, 0x20}}, DROP_NONE},
		{"later fragment", UDP4, {{7, 1}}, DROP_INNER_L4},
		{"an error", ICMP4, {{20, 3}}, DROP_INNER_L4},
		{"an error 6", ICMP6, {{40, 1}}, DROP_INNER_L4},
		{"routing header", UDP6, {{6, 43}, {40, 17}, {41, 0}, {42, 0}}, DROP_INNER_L4},
		{"later fragment 6", UDP6, {{6, 44}, {40, 17}, {43, 8}}, DROP_INNER_L4},
		{"first fragment 6", UDP6, {{6, 44}, {40, 17}, {42, 0}, {43, 1}}, DROP_NONE},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct spec s = kind_spec(rows[i].kind);
		struct pkt p;
		enum drop d;

		if (rows[i].kind == UDP4)
			s.payload_len = 20;
		d = parse_error(&s, s.ver == 4 ? 3 : 1, 2000, rows[i].patch, &p);
		if (d != rows[i].drop)
			fail_msg("%s: drop %d", rows[i].name, d);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_every_length),
		cmocka_unit_test(test_largest),
		cmocka_unit_test(test_extension_headers),
		cmocka_unit_test(test_mapped_addresses),
		cmocka_unit_test(test_mapped_addresses_quoted),
		cmocka_unit_test(test_fields),
		cmocka_unit_test(test_fragment4),
		cmocka_unit_test(test_icmp_types),
		cmocka_unit_test(test_syn_options),
		cmocka_unit_test(test_sack),
		cmocka_unit_test(test_flags_that_contradict),
		cmocka_unit_test(test_quotes),
		cmocka_unit_test(test_quote_refusals),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
