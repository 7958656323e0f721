/* SPDX-License-Identifier: GPL-2.0-or-later */
/* base_vnet_test.c - the virtio-net header of the TUN device, and cutting of super-packets. */
#include "gateway/base/vnet.h"
#include "test/unit/super.h"

/* ---- the virtio-net header ----------------------------------------------------------------------------- */

#define NEEDS VIRTIO_NET_HDR_F_NEEDS_CSUM
#define VALID VIRTIO_NET_HDR_F_DATA_VALID
#define G_NO  VIRTIO_NET_HDR_GSO_NONE
#define G_T4  VIRTIO_NET_HDR_GSO_TCPV4
#define G_T6  VIRTIO_NET_HDR_GSO_TCPV6
#define G_UDP VIRTIO_NET_HDR_GSO_UDP
#define G_U   VIRTIO_NET_HDR_GSO_UDP_L4
#define G_ECN VIRTIO_NET_HDR_GSO_ECN

static const struct {
	const char *name;
	unsigned kind;
	uint8_t flags, gso_type; /* TCP flags of the packet: */
	uint8_t tcp;
	uint16_t gso_size, start, offset;
	enum drop drop;
	uint16_t out_gso;
	enum pkt_csum out_csum;
} headers[] = {
	{"nothing said", TCP4, 0, G_NO, 0, 0, 0, 0, DROP_NONE, 0, PKT_CSUM_UNKNOWN},
	{"data valid is not relied on", TCP4, VALID, G_NO, 0, 0, 0, 0, DROP_NONE, 0, PKT_CSUM_UNKNOWN},
	{"partial", TCP4, NEEDS, G_NO, 0, 0, 20, 16, DROP_NONE, 0, PKT_CSUM_PARTIAL},
	{"partial 6", TCP6, NEEDS, G_NO, 0, 0, 40, 16, DROP_NONE, 0, PKT_CSUM_PARTIAL},
	{"partial UDP", UDP4, NEEDS, G_NO, 0, 0, 20, 6, DROP_NONE, 0, PKT_CSUM_PARTIAL},
	{"gso size without gso", TCP4, 0, G_NO, 0, 100, 0, 0, DROP_NONE, 0, PKT_CSUM_UNKNOWN},
	{"TSO 4", TCP4, NEEDS, G_T4, 0, 400, 20, 16, DROP_NONE, 400, PKT_CSUM_PARTIAL},
	{"TSO 6", TCP6, NEEDS, G_T6, 0, 400, 40, 16, DROP_NONE, 400, PKT_CSUM_PARTIAL},
	{"TSO with ECN", TCP4, NEEDS, G_T4 | G_ECN, TCP_CWR, 400, 20, 16, DROP_NONE, 400, PKT_CSUM_PARTIAL},
	{"USO 4", UDP4, NEEDS, G_U, 0, 400, 20, 6, DROP_NONE, 400, PKT_CSUM_PARTIAL},
	{"USO 6", UDP6, NEEDS, G_U, 0, 400, 40, 6, DROP_NONE, 400, PKT_CSUM_PARTIAL},
	{"one segment", TCP4, NEEDS, G_T4, 0, 1000, 20, 16, DROP_NONE, 0, PKT_CSUM_PARTIAL},
	{"two segments", TCP4, NEEDS, G_T4, 0, 999, 20, 16, DROP_NONE, 999, PKT_CSUM_PARTIAL},
	{"larger than the packet", TCP4, NEEDS, G_T4, 0, 65535, 20, 16, DROP_NONE, 0, PKT_CSUM_PARTIAL},
	{"start elsewhere", TCP4, NEEDS, G_NO, 0, 0, 24, 16, DROP_GSO_INVALID, 0, 0},
	{"start behind the end", TCP4, NEEDS, G_NO, 0, 0, 65535, 16, DROP_GSO_INVALID, 0, 0},
	{"offset elsewhere", TCP4, NEEDS, G_NO, 0, 0, 20, 6, DROP_GSO_INVALID, 0, 0},
	{"partial ICMP", ICMP4, NEEDS, G_NO, 0, 0, 20, 2, DROP_GSO_INVALID, 0, 0},
	{"TSO without partial", TCP4, 0, G_T4, 0, 400, 20, 16, DROP_GSO_INVALID, 0, 0},
	{"TSO of size 0", TCP4, NEEDS, G_T4, 0, 0, 20, 16, DROP_GSO_INVALID, 0, 0},
	{"TSO 6 of IPv4", TCP4, NEEDS, G_T6, 0, 400, 20, 16, DROP_GSO_INVALID, 0, 0},
	{"TSO 4 of IPv6", TCP6, NEEDS, G_T4, 0, 400, 40, 16, DROP_GSO_INVALID, 0, 0},
	{"TSO of UDP", UDP4, NEEDS, G_T4, 0, 400, 20, 6, DROP_GSO_INVALID, 0, 0},
	{"USO of TCP", TCP4, NEEDS, G_U, 0, 400, 20, 16, DROP_GSO_INVALID, 0, 0},
	{"USO with ECN", UDP4, NEEDS, G_U | G_ECN, 0, 400, 20, 6, DROP_GSO_INVALID, 0, 0},
	{"UFO", UDP4, NEEDS, G_UDP, 0, 400, 20, 6, DROP_GSO_INVALID, 0, 0},
	{"ECN alone", TCP4, NEEDS, G_ECN, 0, 400, 20, 16, DROP_GSO_INVALID, 0, 0},
	{"unknown type", TCP4, NEEDS, 77, 0, 400, 20, 16, DROP_GSO_INVALID, 0, 0},
	{"SYN", TCP4, NEEDS, G_T4, TCP_SYN, 400, 20, 16, DROP_GSO_INVALID, 0, 0},
	{"RST", TCP4, NEEDS, G_T4, TCP_RST, 400, 20, 16, DROP_GSO_INVALID, 0, 0},
};

static void test_to_pkt(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(headers) / sizeof(headers[0]); i++) {
		struct spec s = kind_spec(headers[i].kind);
		struct virtio_net_hdr h = {.flags = headers[i].flags,
			.gso_type = headers[i].gso_type,
			.hdr_len = 9999, /* must not matter */
			.gso_size = headers[i].gso_size,
			.csum_start = headers[i].start,
			.csum_offset = headers[i].offset};
		uint8_t b[2048];
		struct pkt p = {.data = b};
		enum drop d;

		s.payload_len = 1000;
		s.flags |= headers[i].tcp;
		p.len = packet_make(b, &s);
		assert_int_equal(pkt_parse(&p), DROP_NONE);
		d = vnet_to_pkt(&h, &p);
		if (d != headers[i].drop)
			fail_msg("%s: drop %d", headers[i].name, d);
		if (d)
			continue;
		if (p.gso_size != headers[i].out_gso || p.csum != headers[i].out_csum)
			fail_msg("%s: gso %u csum %u", headers[i].name, p.gso_size, p.csum);
		/* what is written again means the same */
		vnet_from_pkt(&p, &h);
		assert_int_equal(h.flags, p.csum == PKT_CSUM_PARTIAL ? NEEDS : 0);
		assert_int_equal(h.gso_type, p.gso_size ? headers[i].gso_type : G_NO);
		assert_int_equal(h.gso_size, p.gso_size);
		assert_int_equal(h.hdr_len, p.gso_size ? p.payload : 0);
		assert_int_equal(h.csum_start, p.csum == PKT_CSUM_PARTIAL ? headers[i].start : 0);
		assert_int_equal(h.csum_offset, p.csum == PKT_CSUM_PARTIAL ? headers[i].offset : 0);
	}
}

/* A UDP length that ends before the packet, a fragment: no checksum up to the end is meant. */
static void test_to_pkt_contradictions(void **state)
{
	struct virtio_net_hdr h = {.flags = NEEDS, .csum_start = 20, .csum_offset = 6};
	struct spec s = kind_spec(UDP4);
	uint8_t b[2048];
	struct pkt p = {.data = b, .len = packet_make(b, &s)};

	(void)state;
	be16_put(b + 24, 50);
	assert_int_equal(pkt_parse(&p), DROP_NONE);
	assert_int_equal(vnet_to_pkt(&h, &p), DROP_GSO_INVALID);
	packet_make(b, &s);
	be16_put(b + 6, 0x2000);
	packet_ip_csum(b);
	assert_int_equal(pkt_parse(&p), DROP_NONE);
	assert_int_equal(vnet_to_pkt(&h, &p), DROP_GSO_INVALID);
}

/* The checksum of a header inside the payload (VXLAN from a container) is completed, the rest is left as it is. */
static void test_inner_checksum(void **state)
{
	struct virtio_net_hdr h = {.flags = NEEDS, .csum_start = 28 + 40, .csum_offset = 6};
	struct spec s = kind_spec(UDP4);
	uint8_t b[2048], before[2048];
	struct pkt p = {.data = b};
	uint32_t sum = 0;

	(void)state;
	s.payload_len = 101; /* odd */
	p.len = packet_make(b, &s);
	be16_put(b + 28 + 46, 0x1234); /* as the kernel leaves it: the pseudo-header's sum */
	memcpy(before, b, sizeof(b));
	assert_int_equal(pkt_parse(&p), DROP_NONE);
	assert_int_equal(vnet_to_pkt(&h, &p), DROP_NONE);
	assert_int_equal(p.csum, PKT_CSUM_UNKNOWN);
	for (uint32_t i = 28 + 40; i < p.len; i++)
		sum += before[i] << ((i - 28) % 2 ? 0 : 8);
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	assert_int_equal(be16_get(b + 28 + 46), (uint16_t)~sum);
	memcpy(before + 28 + 46, b + 28 + 46, 2);
	assert_memory_equal(b, before, p.len);
	h.csum_offset = 61; /* the field would end behind the packet */
	assert_int_equal(vnet_to_pkt(&h, &p), DROP_GSO_INVALID);
}

/* ---- cutting -------------------------------------------------------------------------------------------- */

/* Each segment must be what a host would have sent: made by itself, with the slow checksum. */
static void test_cut(void **state)
{
	static uint8_t super[65536], want[65536], got[65536];
	uint64_t seed = 10;

	(void)state;
	for (unsigned round = 0; round < 3000; round++) {
		unsigned kind = round % (UDP6 + 1);
		uint32_t mss = rnd(&seed) % 2000 + 1, hlen, plen, at = 0, n = 0;
		const uint8_t flags[] = {TCP_ACK, TCP_ACK | TCP_PSH, TCP_ACK | TCP_FIN | TCP_PSH,
			TCP_ACK | TCP_CWR | TCP_ECE, TCP_ACK | TCP_URG};
		const uint8_t *payload;
		struct vnet_cut c;
		struct spec s, seg;
		struct pkt p;

		random_super(&seed, super, &p, &s, kind, mss);
		s.flags = flags[rnd(&seed) % sizeof(flags)];
		packet_make(super, &s);
		p.tcp_flags = s.flags;
		vnet_cut_start(&c, &p);
		while ((hlen = vnet_cut_next(&c, got, &payload, &plen)) > 0) {
			seg = s;
			seg.csum = CSUM_FULL;
			seg.payload_len = s.payload_len - at < mss ? s.payload_len - at : mss;
			seg.body = super + p.payload + at;
			seg.seq += at;
			seg.id = (uint16_t)(s.id + n);
			if (at + seg.payload_len < s.payload_len)
				seg.flags &= (uint8_t) ~(TCP_FIN | TCP_PSH);
			if (n > 0)
				seg.flags &= (uint8_t)~TCP_CWR;
			assert_int_equal(hlen + plen, packet_make(want, &seg));
			assert_ptr_equal(payload, seg.body);
			assert_memory_equal(got, want, hlen);
			at += plen;
			n++;
		}
		assert_int_equal(at, s.payload_len);
		assert_int_equal(n, pkt_segs(&p));
		assert_int_equal(vnet_cut_next(&c, got, &payload, &plen), 0);
	}
}

static void test_cut_ordinary(void **state)
{
	static const enum spec_csum in[] = {CSUM_FULL, CSUM_HALF, CSUM_NONE, CSUM_BAD};

	(void)state;
	for (unsigned kind = 0; kind < KINDS; kind++) {
		for (unsigned i = 0; i < 4; i++) {
			struct spec s = kind_spec(kind);
			uint8_t b[2048], want[2048], hdr[128];
			struct pkt p = {.data = b};
			const uint8_t *payload;
			struct vnet_cut c;
			uint32_t hlen, plen;

			if (in[i] == CSUM_HALF && !has_ports(kind))
				continue;
			s.csum = in[i];
			p.len = packet_make(b, &s);
			assert_int_equal(pkt_parse(&p), DROP_NONE);
			if (in[i] == CSUM_HALF) { /* completed; anything else goes out as it came in */
				s.csum = CSUM_FULL;
				p.csum = PKT_CSUM_PARTIAL;
				p.gso_size = kind == TCP4 ? 100 : 0; /* its only segment */
			}
			packet_make(want, &s);
			vnet_cut_start(&c, &p);
			hlen = vnet_cut_next(&c, hdr, &payload, &plen);
			assert_int_equal(hlen, p.payload);
			assert_int_equal(hlen + plen, p.len);
			assert_ptr_equal(payload, b + hlen);
			assert_memory_equal(hdr, want, hlen);
			assert_int_equal(vnet_cut_next(&c, hdr, &payload, &plen), 0);
		}
	}
}

/* A UDP checksum that comes out as zero is sent as ffff, of an ordinary packet and of a segment. */
static void test_cut_udp_zero(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		struct spec s = kind_spec(i % 2 ? UDP4 : UDP6);
		uint8_t b[2048], hdr[128], body[200] = {0};
		const uint8_t *payload;
		struct pkt p = {.data = b};
		struct vnet_cut c;
		uint32_t plen;

		packet_zero_sum(&s, body); /* of the first 100 octets */
		s.csum = CSUM_HALF;
		if (i >= 2)
			s.payload_len = 200;
		p.len = packet_make(b, &s);
		assert_int_equal(pkt_parse(&p), DROP_NONE);
		p.csum = PKT_CSUM_PARTIAL;
		p.gso_size = i >= 2 ? 100 : 0;
		vnet_cut_start(&c, &p);
		assert_int_equal(vnet_cut_next(&c, hdr, &payload, &plen), p.payload);
		assert_int_equal(raw16_get(hdr + p.l4 + 6), 0xffff);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_to_pkt),
		cmocka_unit_test(test_to_pkt_contradictions),
		cmocka_unit_test(test_inner_checksum),
		cmocka_unit_test(test_cut),
		cmocka_unit_test(test_cut_ordinary),
		cmocka_unit_test(test_cut_udp_zero),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
