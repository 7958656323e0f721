/* SPDX-License-Identifier: GPL-2.0-or-later */
/* vnet.c - between a packet and the virtio-net header that goes with it through the TUN device. */
#include "gateway/base/vnet.h"

#include "gateway/base/be.h"
#include "gateway/base/csum.h"

#include <stddef.h>

_Static_assert(sizeof(struct virtio_net_hdr) == VNET_HDR_LEN, "the TUN device's default header size");

static bool csum_fits(const struct virtio_net_hdr *h, const struct pkt *p)
{
	if (p->frag || (p->t.proto != IPPROTO_TCP && p->t.proto != IPPROTO_UDP))
		return false;
	/* Partial means: up to the end of the packet. */
	if (p->t.proto == IPPROTO_UDP && be16_get(p->data + p->l4 + 4) != p->len - p->l4)
		return false;
	return h->csum_start == p->l4 && h->csum_offset == pkt_csum_offset(p->ver, p->t.proto);
}

/* A partial checksum somewhere else: that of an inner header (VXLAN, IP in IP), or of a protocol that is not looked
 * into. It is completed here, since nobody later would know where it is. */
static bool complete_elsewhere(const struct virtio_net_hdr *h, struct pkt *p)
{
	uint32_t field = (uint32_t)h->csum_start + h->csum_offset;
	uint16_t sum;

	/* behind the headers that we know: there it would have fitted, or contradicts them */
	if (h->gso_type != VIRTIO_NET_HDR_GSO_NONE || p->frag || h->csum_start < p->payload ||
		field + 2 > p->len)
		return false;
	sum = (uint16_t)~csum_fold(csum_add(0, p->data + h->csum_start, p->len - h->csum_start));
	raw16_put(p->data + field, sum ? sum : 0xffff);
	return true;
}

static bool gso_fits(const struct virtio_net_hdr *h, const struct pkt *p)
{
	if (p->csum != PKT_CSUM_PARTIAL || h->gso_size == 0 || (p->tcp_flags & (TCP_SYN | TCP_RST)))
		return false;
	switch (h->gso_type & ~VIRTIO_NET_HDR_GSO_ECN) {
	case VIRTIO_NET_HDR_GSO_TCPV4:
		return p->ver == 4 && p->t.proto == IPPROTO_TCP;
	case VIRTIO_NET_HDR_GSO_TCPV6:
		return p->ver == 6 && p->t.proto == IPPROTO_TCP;
	case VIRTIO_NET_HDR_GSO_UDP_L4:
		return p->t.proto == IPPROTO_UDP && h->gso_type == VIRTIO_NET_HDR_GSO_UDP_L4;
	default:
		return false;
	}
}

enum drop vnet_to_pkt(const struct virtio_net_hdr *h, struct pkt *p)
{
	if (h->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) {
		if (csum_fits(h, p))
			p->csum = PKT_CSUM_PARTIAL;
		else if (!complete_elsewhere(h, p))
			return DROP_GSO_INVALID;
	}
	if (h->gso_type == VIRTIO_NET_HDR_GSO_NONE)
		return DROP_NONE;
	if (!gso_fits(h, p))
		return DROP_GSO_INVALID;
	if (h->gso_size < p->len - p->payload)
		p->gso_size = h->gso_size;
	return DROP_NONE;
}

void vnet_from_pkt(const struct pkt *p, struct virtio_net_hdr *h)
{
	*h = (struct virtio_net_hdr){.gso_type = VIRTIO_NET_HDR_GSO_NONE};
	if (p->csum == PKT_CSUM_PARTIAL) {
		h->flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
		h->csum_start = p->l4;
		h->csum_offset = (uint16_t)pkt_csum_offset(p->ver, p->t.proto);
	}
	if (!p->gso_size)
		return;
	if (p->t.proto == IPPROTO_UDP)
		h->gso_type = VIRTIO_NET_HDR_GSO_UDP_L4;
	else
		h->gso_type = p->ver == 4 ? VIRTIO_NET_HDR_GSO_TCPV4 : VIRTIO_NET_HDR_GSO_TCPV6;
	if (p->tcp_flags & TCP_CWR) /* the flag belongs to the first segment only */
		h->gso_type |= VIRTIO_NET_HDR_GSO_ECN;
	h->gso_size = p->gso_size;
	h->hdr_len = p->payload;
}
