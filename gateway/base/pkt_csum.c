/* SPDX-License-Identifier: GPL-2.0-or-later */
/* pkt_csum.c - the L4 checksum of a packet: is it right, is it partial, complete it.
 *
 * A partial checksum is what offloading leaves (virtio 1.1, 5.1.6.2): the field holds the folded sum of the
 * pseudo-header, not inverted, and whoever sends the packet at last adds the rest. An inner packet can be in
 * that state with nothing that says so, since the kernel's GRO and checksum offload work below GRE; see
 * pkt_check_csum.
 */
#include "gateway/base/be.h"
#include "gateway/base/crc32c.h"
#include "gateway/base/csum.h"
#include "gateway/base/pkt.h"

/* Octets that the L4 checksum covers: UDP has a length of its own, UDP-Lite and DCCP a coverage. pkt_parse has seen to it
 * that they are there. */
static uint32_t covered(const struct pkt *p)
{
	const uint8_t *l4 = p->data + p->l4;
	uint32_t all = p->len - p->l4;

	switch (p->t.proto) {
	case IPPROTO_UDP:
		return be16_get(l4 + 4);
	case IPPROTO_UDPLITE:
		return be16_get(l4 + 4) ? be16_get(l4 + 4) : all;
	case IPPROTO_DCCP:
		return l4[5] & 15 ? l4[4] * 4u + ((l4[5] & 15u) - 1) * 4 : all;
	default:
		return all;
	}
}

/* RFC 9260 6.8: the field counts as zero; the remainder's octets stand in the order of a little-endian number. */
static bool sctp_is_good(const uint8_t *l4, uint32_t len)
{
	uint32_t reg = crc32c_zeros(crc32c(UINT32_MAX, l4, 8), 4);

	return ~crc32c(reg, l4 + 12, len - 12) == le32_get(l4 + 8);
}

enum drop pkt_check_csum(struct pkt *p)
{
	int off = pkt_csum_offset(p->ver, p->t.proto);
	const uint8_t *l4 = p->data + p->l4;
	uint64_t pseudo = 0;
	uint32_t n;
	uint16_t field;

	if (p->gso_size || p->csum == PKT_CSUM_PARTIAL || p->frag)
		return DROP_NONE;
	if (p->t.proto == IPPROTO_SCTP) {
		if (!sctp_is_good(l4, p->len - p->l4))
			return DROP_INNER_CHECKSUM;
		p->csum = PKT_CSUM_GOOD;
		return DROP_NONE;
	}
	if (off < 0)
		return DROP_NONE;
	field = raw16_get(l4 + off);
	if (p->t.proto == IPPROTO_UDPLITE && field == 0) /* not allowed, RFC 3828 3.1 */
		return DROP_INNER_CHECKSUM;
	if (p->t.proto == IPPROTO_UDP && field == 0) {
		/* None given: legal in IPv4 (RFC 768); in IPv6 only where the receiver agreed (RFC 6935),
		 * which a gateway cannot know. */
		if (p->ver == 6)
			return DROP_INNER_CHECKSUM;
		p->csum = PKT_CSUM_GOOD;
		return DROP_NONE;
	}
	n = covered(p);
	/* What UDP-Lite and DCCP say of their length there is the whole (RFC 3828 3.2, RFC 4340 9.1). */
	if (p->t.proto != IPPROTO_ICMP)
		pseudo = csum_pseudo(
			&p->t.src, &p->t.dst, p->t.proto, p->t.proto == IPPROTO_UDP ? n : p->len - p->l4);
	if (csum_fold(csum_add(pseudo, l4, n)) == 0xffff) {
		p->csum = PKT_CSUM_GOOD;
		return DROP_NONE;
	}
	/* Whoever completes it adds up everything to the packet's end: nothing may lie behind the datagram.
	 */
	if ((p->t.proto == IPPROTO_TCP || p->t.proto == IPPROTO_UDP) && field == csum_fold(pseudo) &&
		n == p->len - p->l4) {
		p->csum = PKT_CSUM_PARTIAL;
		return DROP_NONE;
	}
	return DROP_INNER_CHECKSUM;
}

void pkt_complete_csum(struct pkt *p)
{
	uint8_t *l4 = p->data + p->l4;
	uint16_t sum;

	if (p->csum != PKT_CSUM_PARTIAL)
		return;
	sum = (uint16_t)~csum_fold(csum_add(0, l4, p->len - p->l4));
	if (p->t.proto == IPPROTO_UDP && sum == 0) /* zero would mean "none", RFC 768 */
		sum = 0xffff;
	raw16_put(l4 + pkt_csum_offset(p->ver, p->t.proto), sum);
	p->csum = PKT_CSUM_GOOD;
}
