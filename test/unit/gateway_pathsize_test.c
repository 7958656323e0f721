/* SPDX-License-Identifier: GPL-2.0-or-later */
/* gateway_pathsize_test.c - packets that change their size on the way: super-packets, fragments, checksums that are still
 * to be completed. */
#include "test/unit/path_rig.h"

/* A datagram without DF that is too long for the tunnel arrives as fragments that make up the original. */
static void fragments_make_up_the_original(void **state)
{
	static uint8_t whole[PKT_MAX], b[PKT_MAX];

	(void)state;
	rig.ct[A1].mtu = 576;
	for (unsigned i = 0; i < 2; i++) {
		struct spec s = kind_spec(i ? GRE4 : UDP4), back;
		uint32_t end = 0, len;
		struct pkt p;

		rig_forget();
		from_branch(A1, &s);
		p = only_out(TO_TUN);
		back = answer_to(&p);
		back.df = false;
		back.payload_len = 1400 + i;
		len = packet_make(b, &back);
		be16_put(b + 4, (uint16_t)(1000 + i));
		packet_ip_csum(b);
		rig_forget();
		raw_from_egress(NULL, b, len);
		assert_true(rig.nout >= 3);
		for (unsigned k = 0; k < rig.nout; k++) {
			uint32_t off;

			p = out_pkt(k, A1);
			off = (be16_get(p.data + 6) & 0x1fffu) * 8;
			assert_true(p.len <= 576);
			assert_int_equal(off, end);
			assert_int_equal(!!(be16_get(p.data + 6) & 0x2000), k + 1 < rig.nout);
			assert_int_equal(be16_get(p.data + 4), 1000 + i);
			memcpy(whole + off, p.data + 20, p.len - 20);
			end = off + p.len - 20;
		}
		assert_int_equal(end, len - 20);
		assert_memory_equal(whole, b + 20, end);
	}
}

/* Where somebody has cleared DF all datagrams of a server may have the Identification 0: their fragments do not. */
static void without_identification(void **state)
{
	struct spec s = kind_spec(UDP4), back;
	static uint8_t b[PKT_MAX];
	struct pkt p;

	(void)state;
	rig.ct[A1].mtu = 576;
	from_branch(A1, &s);
	p = only_out(TO_TUN);
	back = answer_to(&p);
	back.df = false;
	back.payload_len = 1000;
	for (unsigned i = 0, last = 0; i < 4; i++) {
		uint32_t len = packet_make(b, &back);

		be16_put(b + 4, 0);
		packet_ip_csum(b);
		rig_forget();
		raw_from_egress(NULL, b, len);
		assert_int_equal(rig.nout, 2);
		assert_int_equal(be16_get(rig.out[0].data + 4), be16_get(rig.out[1].data + 4));
		if (i)
			assert_int_not_equal(be16_get(rig.out[0].data + 4), last);
		last = be16_get(rig.out[0].data + 4);
	}
}

/* A super-packet from the TUN becomes segments of the size that it says. */
static void super_packet_to_a_tunnel(void **state)
{
	static uint8_t b[PKT_MAX];

	(void)state;
	for (unsigned kind = TCP4; kind <= TCP6; kind++) {
		struct virtio_net_hdr h = {.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
			.gso_type = kind == TCP4 ? VIRTIO_NET_HDR_GSO_TCPV4 : VIRTIO_NET_HDR_GSO_TCPV6,
			.gso_size = 1300,
			.csum_start = kind == TCP4 ? 20 : 40,
			.csum_offset = 16};
		struct spec s = kind_spec(kind), back;
		uint32_t done = 0;
		struct pkt p;

		rig_forget();
		s.flags = TCP_SYN;
		from_branch(B1, &s);
		p = only_out(TO_TUN);
		back = answer_to(&p);
		back = server_next(&back);
		back.payload_len = 20000;
		back.csum = CSUM_HALF;
		rig_forget();
		raw_from_egress(&h, b, packet_make(b, &back));
		assert_int_equal(rig.nout, 16);
		for (unsigned i = 0; i < rig.nout; i++) {
			p = out_pkt(i, B1);
			assert_int_equal(p.len - p.payload, i < 15 ? 1300 : 500);
			assert_int_equal(be32_get(p.data + p.l4 + 4), back.seq + done);
			done += p.len - p.payload;
		}
		assert_int_equal(rig_at(B1)->count.tx_packets, 17u * (kind - TCP4 + 1));
	}
}

/* What the kernel leaves to be done by hardware is done before it goes into a tunnel. */
static void partial_checksum_to_a_tunnel(void **state)
{
	uint8_t b[256] = {0};

	(void)state;
	for (unsigned kind = TCP4; kind <= UDP6; kind++) {
		struct virtio_net_hdr h = {.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM};
		struct spec s = kind_spec(kind), back;
		struct pkt p;

		for (unsigned i = 0; i < 2; i++) { /* as it is, and translated */
			rig_forget();
			s.flags = TCP_SYN;
			from_branch(i ? B1 : A1, &s);
			p = only_out(TO_TUN);
			back = answer_to(&p);
			back.csum = CSUM_HALF;
			h.csum_start = p.l4;
			h.csum_offset = (uint16_t)pkt_csum_offset(p.ver, p.t.proto);
			rig_forget();
			raw_from_egress(&h, b, packet_make(b, &back));
			p = only_out(i ? B1 : A1);
			assert_same_payload(&p, &back);
		}
	}
}

/* Input that the kernel merged: cut at what the receiver announced, and never into crumbs. */
static void merged_input(void **state)
{
	static const struct {
		uint16_t mss; /* that the server announced; 0: none */
		uint32_t payload_len;
		uint16_t want; /* gso_size */
	} rows[] = {
		{1436, 30000, 1436}, {1400, 30000, 1400}, {0, 30000, 1436}, {1436, 1436, 0}, {1, 60000, 64}};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct spec s = kind_spec(TCP4), back;
		struct pkt p;

		rig_forget();
		s.sport = (uint16_t)(8000 + i);
		s.flags = TCP_SYN;
		s.payload_len = 0;
		from_branch(A1, &s);
		p = only_out(TO_TUN);
		back = answer_to(&p);
		back.flags = TCP_SYN | TCP_ACK;
		back.payload_len = 0;
		if (rows[i].mss) {
			back.options[0] = 2;
			back.options[1] = 4;
			be16_put(back.options + 2, rows[i].mss);
			back.noptions = 4;
		}
		from_egress(&back);
		rig_forget();
		s.flags = TCP_ACK;
		s.payload_len = rows[i].payload_len;
		s.csum = CSUM_HALF;
		from_branch(A1, &s);
		p = only_out(TO_TUN);
		assert_int_equal(rig.out[0].vnet.flags, VIRTIO_NET_HDR_F_NEEDS_CSUM);
		assert_int_equal(rig.out[0].vnet.gso_size, rows[i].want);
		assert_int_equal(p.len - p.payload, rows[i].payload_len);
	}
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, rig_up, rig_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(fragments_make_up_the_original),
		CASE(without_identification),
		CASE(super_packet_to_a_tunnel),
		CASE(partial_checksum_to_a_tunnel),
		CASE(merged_input),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
