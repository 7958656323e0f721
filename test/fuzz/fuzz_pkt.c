/* SPDX-License-Identifier: GPL-2.0-or-later */
/* fuzz_pkt.c - any octets as an inner packet, and through all that is done with one.
 *
 * The first twelve octets say what is to be done (switches, and a virtio-net header), the others are the packet. What a
 * fuzzer cannot guess, the checksums, is put right for it where the switches say so. Besides not crashing:
 *   - what the parser says lies within the packet, and parsing again says the same;
 *   - a packet whose checksum was right has a right one after each rewriting, and its tuple is the new one;
 *   - segments of a super-packet parse, have right checksums and the whole payload; joined, they are the super-packet.
 */
#include "gateway/base/be.h"
#include "gateway/base/csum.h"
#include "gateway/base/vnet.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CONTROL    12
#define FIX_IP     1 /* put the IPv4 header checksum right */
#define FIX_L4     2 /* put the L4 checksum right */
#define HALF_L4    4 /* make it a partial one */
#define ALIGN_MASK 0x30

static void must(bool holds)
{
	if (!holds)
		abort();
}

static bool same(const struct pkt *a, const struct pkt *b)
{
	return a->len == b->len && a->ver == b->ver && a->ttl == b->ttl && a->tos == b->tos &&
	       a->df == b->df && a->frag == b->frag && a->icmp_error == b->icmp_error &&
	       a->icmp_type == b->icmp_type && a->icmp_code == b->icmp_code && a->tcp_flags == b->tcp_flags &&
	       a->l4 == b->l4 && a->payload == b->payload && a->quote == b->quote &&
	       a->quote_l4 == b->quote_l4 && a->mss == b->mss && a->mss_off == b->mss_off &&
	       a->wscale == b->wscale && memcmp(&a->t, &b->t, sizeof(a->t)) == 0 &&
	       memcmp(&a->qt, &b->qt, sizeof(a->qt)) == 0;
}

static void check_parsed(const struct pkt *p, size_t given)
{
	must(p->len <= given && p->len <= PKT_MAX);
	must(p->ver == 4 || p->ver == 6);
	must(p->l4 >= (p->ver == 4 ? 20 : 40) && p->l4 <= p->payload && p->payload <= p->len);
	must(addr_is4(&p->t.src) == (p->ver == 4) && addr_is4(&p->t.dst) == (p->ver == 4));
	must(!p->frag || (p->payload == p->l4 && !p->t.sport && !p->t.dport && !p->icmp_error));
	must(!p->mss_off || (p->mss_off >= p->l4 + 20 && p->mss_off + 2 <= p->payload));
	if (p->icmp_error) {
		must(p->quote == p->l4 + 8 && p->quote_l4 >= p->quote + (p->ver == 4 ? 20 : 40));
		must(p->quote_l4 + 8u <= p->len);
		must(addr_is4(&p->qt.src) == (p->ver == 4) && addr_is4(&p->qt.dst) == (p->ver == 4));
	}
}

/* Parses again; what was said must still hold. */
static void check_again(const struct pkt *p)
{
	struct pkt q = *p;

	must(pkt_parse(&q) == DROP_NONE);
	must(same(p, &q));
}

/* Makes the L4 checksum complete and right, or a right partial one. */
static void fix_l4(const struct pkt *p, bool half)
{
	int off = pkt_csum_offset(p->ver, p->t.proto);
	uint8_t *l4 = p->data + p->l4;
	uint32_t n = p->len - p->l4;
	uint64_t sum = 0;

	if (p->frag || off < 0)
		return;
	if (p->t.proto == IPPROTO_UDP && !half)
		n = be16_get(l4 + 4);
	if (p->t.proto != IPPROTO_ICMP)
		sum = csum_pseudo(&p->t.src, &p->t.dst, p->t.proto, n);
	raw16_put(l4 + off, 0);
	raw16_put(l4 + off, half ? csum_fold(sum) : (uint16_t)~csum_fold(csum_add(sum, l4, n)));
	if (p->t.proto == IPPROTO_UDP && raw16_get(l4 + off) == 0)
		raw16_put(l4 + off, 0xffff);
}

/* An ICMP message of zeros alone: updating its checksum is ambiguous, see pkt_rewrite.c. */
static bool all_zero_icmp(const struct pkt *p)
{
	if (p->t.proto != IPPROTO_ICMP || p->ver != 4)
		return false;
	for (uint32_t i = p->l4; i < p->len; i++)
		if (p->data[i] && i != p->l4 + 2u && i != p->l4 + 3u)
			return false;
	return true;
}

static void rewrite(struct pkt *p, const uint8_t *control)
{
	struct addr a = addr_from4(be32_get(control));
	enum pkt_csum was = p->csum;
	uint16_t port = raw16_get(control + 4);
	bool quoted = p->icmp_error && (control[6] & 1);
	struct addr *changed;

	if (p->ver == 6) {
		a = addr_from6("\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0");
		memcpy(a.b + 12, control, 4);
	}
	if (control[6] & 2) {
		(quoted ? pkt_set_quote_src : pkt_set_src)(p, &a, port);
		changed = quoted ? &p->qt.src : &p->t.src;
	} else {
		(quoted ? pkt_set_quote_dst : pkt_set_dst)(p, &a, port);
		changed = quoted ? &p->qt.dst : &p->t.dst;
	}
	must(addr_eq(changed, &a));
	if (p->ttl > 0)
		pkt_decrement_ttl(p);
	pkt_set_tos(p, control[7]);
	(void)pkt_clamp_mss(p, be16_get(control + 8));
	check_again(p);
	if (was == PKT_CSUM_UNKNOWN ||
		all_zero_icmp(p)) /* then there is no checksum, or none that can be told */
		return;
	p->csum = PKT_CSUM_UNKNOWN;
	must(pkt_check_csum(p) == DROP_NONE);
	/* a partial checksum may happen to be a complete one */
	must(p->csum == was || was == PKT_CSUM_PARTIAL);
	p->csum = (uint8_t)was;
}

static struct iovec whole;
static unsigned groups;
static uint8_t joined[PKT_MAX];

static void take_group(void *arg, struct iovec *iov, unsigned n, struct pkt *const *pkts, unsigned npkts)
{
	uint32_t len = 0;
	struct pkt p;

	(void)arg;
	must(n == npkts + 1 && iov[0].iov_len == VNET_HDR_LEN && pkts[0] != NULL);
	for (unsigned i = 1; i < n; i++) {
		must(iov[i].iov_len <= sizeof(joined) - len);
		memcpy(joined + len, iov[i].iov_base, iov[i].iov_len);
		len += (uint32_t)iov[i].iov_len;
	}
	whole = (struct iovec){joined, len};
	p = (struct pkt){.data = joined, .len = len};
	must(pkt_parse(&p) == DROP_NONE && p.len == len);
	must(vnet_to_pkt(iov[0].iov_base, &p) == DROP_NONE);
	groups++;
}

/* Cuts p, checks each segment, and joins them again. */
static void cut_and_join(const struct pkt *p)
{
	static const struct vnet_offloads on = {.tcp4 = true, .tcp6 = true, .udp = true, .csum = true};
	uint32_t hlen, plen, at = p->payload, segs = pkt_segs(p);
	bool few = segs <= VNET_JOIN_SEGS;
	struct vnet_join *j = NULL;
	struct pkt part[VNET_JOIN_SEGS];
	uint8_t *seg = malloc((size_t)segs * pkt_wire_len(p)), *next = seg;
	const uint8_t *payload;
	struct vnet_cut c;
	unsigned n = 0;

	must(seg && vnet_join_new(&j, &on) == 0);
	groups = 0;
	vnet_cut_start(&c, p);
	while ((hlen = vnet_cut_next(&c, next, &payload, &plen)) > 0) {
		struct pkt q = {.data = next, .len = hlen + plen};

		must(hlen == p->payload && payload == p->data + at && q.len <= pkt_wire_len(p));
		memcpy(next + hlen, payload, plen);
		next += q.len;
		at += plen;
		n++;
		must(pkt_parse(&q) == DROP_NONE && q.len == hlen + plen);
		if (p->csum != PKT_CSUM_UNKNOWN)
			must(pkt_check_csum(&q) == DROP_NONE);
		must(p->csum != PKT_CSUM_PARTIAL || q.csum == PKT_CSUM_GOOD);
		if (few) {
			part[n - 1] = q;
			must(vnet_join_add(j, &part[n - 1], 1));
		}
	}
	must(n == segs && at == p->len);
	if (few) {
		vnet_join_flush(j, take_group, NULL);
		must(groups >= 1 && groups <= segs);
		/* plain headers and flags: then it is one again, the same to the octet */
		if (p->gso_size && p->l4 == (p->ver == 4 ? 20 : 40) &&
			(p->t.proto == IPPROTO_UDP || (p->tcp_flags & ~TCP_PSH) == TCP_ACK)) {
			must(groups == 1 && whole.iov_len == p->len);
			must(memcmp(whole.iov_base, p->data, p->len) == 0);
		}
	}
	vnet_join_free(j);
	free(seg);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct virtio_net_hdr h;
	struct pkt p = {0};
	uint8_t *buf;
	size_t shift;

	if (size < CONTROL || size - CONTROL > PKT_MAX)
		return 0;
	shift = (data[0] & ALIGN_MASK) >> 4; /* packets begin at any address */
	p.len = (uint32_t)(size - CONTROL);
	buf = malloc(shift + p.len + 1);
	must(buf != NULL);
	p.data = buf + shift + 1;
	memcpy(p.data, data + CONTROL, p.len);
	if ((data[0] & FIX_IP) && p.len >= 20 && p.data[0] >> 4 == 4) {
		uint32_t n = (p.data[0] & 0xfu) * 4;

		raw16_put(p.data + 10, 0);
		raw16_put(p.data + 10, (uint16_t)~csum_fold(csum_add(0, p.data, n < p.len ? n : p.len)));
	}
	if (pkt_parse(&p) != DROP_NONE)
		goto out;
	check_parsed(&p, size - CONTROL);
	check_again(&p);
	if (data[0] & FIX_L4)
		fix_l4(&p, data[0] & HALF_L4);

	memcpy(&h, data + 2, sizeof(h));
	if (data[0] & HALF_L4 && data[0] & FIX_L4 && vnet_to_pkt(&h, &p) != DROP_NONE)
		goto out;
	if (pkt_check_csum(&p) != DROP_NONE)
		goto out;
	rewrite(&p, data + 2);
	if (all_zero_icmp(&p))
		goto out;
	cut_and_join(&p);
	pkt_complete_csum(&p);
	check_again(&p);
out:
	free(buf);
	return 0;
}
