/* SPDX-License-Identifier: GPL-2.0-or-later */
/* branch.c - a GRE router as two BPF programs, for kernels without a GRE device: what leaves is wrapped, what comes is
 * unwrapped, in the kernel, so that the benchmark does not measure its branch. Compiled for bpf, loaded by tc. */
#include <linux/bpf.h>
#include <linux/pkt_cls.h>

#define OUTER         24 /* IPv4, and GRE without any option (RFC 2784) */
#define SECTION(name) __attribute__((section(name), used))

static long (*const store)(struct __sk_buff *, __u32 at, const void *, __u32 len, __u64 flags) = (void *)9;
static long (*const load)(const struct __sk_buff *, __u32 at, void *, __u32 len) = (void *)26;
static long (*const adjust_room)(struct __sk_buff *, __s32 len, __u32 mode, __u64 flags) = (void *)50;

#define ETHERNET 14
#define IPV4     0x0008 /* network order, as are the rest */

struct outer {
	__u8 version, tos;
	__u16 len, id, fragment;
	__u8 ttl, protocol;
	__u16 csum;
	__u8 from[4], to[4];
	__u16 gre, inner;
};

SECTION("out") int wrap(struct __sk_buff *skb)
{
	struct outer o = {.version = 0x45,
		.len = __builtin_bswap16((__u16)(skb->len - ETHERNET + OUTER)),
		.fragment = 0x0040,
		.ttl = 64,
		.protocol = 47,
		.from = {10, 96, 0, 1},
		.to = {10, 96, 0, 2},
		.inner = IPV4};
	const __u16 *w = (const __u16 *)&o;
	__u32 sum = 0;

	if (skb->protocol != IPV4)
		return TC_ACT_OK;
	for (int i = 0; i < 10; i++)
		sum += w[i];
	sum = (sum & 0xffff) + (sum >> 16);
	o.csum = (__u16) ~(sum + (sum >> 16));
	if (adjust_room(skb, OUTER, BPF_ADJ_ROOM_MAC,
		    BPF_F_ADJ_ROOM_ENCAP_L3_IPV4 | BPF_F_ADJ_ROOM_ENCAP_L4_GRE) < 0 ||
		store(skb, ETHERNET, &o, OUTER, 0) < 0)
		return TC_ACT_SHOT;
	return TC_ACT_OK;
}

SECTION("in") int unwrap(struct __sk_buff *skb)
{
	__u8 protocol;

	if (skb->protocol != IPV4 || load(skb, ETHERNET + 9, &protocol, 1) < 0 || protocol != 47)
		return TC_ACT_OK;
	return adjust_room(skb, -OUTER, BPF_ADJ_ROOM_MAC, 0) < 0 ? TC_ACT_SHOT : TC_ACT_OK;
}
