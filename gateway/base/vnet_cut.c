/* SPDX-License-Identifier: GPL-2.0-or-later */
/* vnet_cut.c - cuts a super-packet into wire packets.
 *
 * All segments share one header but for a few fields: IP length, IPv4 ID, TCP sequence number and flags, UDP
 * length, checksums. The sums over the rest are taken once; a segment adds its own fields, as it has written
 * them, and its payload.
 */
#include "gateway/base/be.h"
#include "gateway/base/csum.h"
#include "gateway/base/vnet.h"

/* Offsets of the 16-bit fields that differ, the checksum last. */
static const uint8_t ip4_fields[] = {2, 4, 10}, tcp_fields[] = {4, 6, 12, 16}, udp_fields[] = {4, 6};
enum { IP4_FIELDS = sizeof(ip4_fields), TCP_FIELDS = sizeof(tcp_fields), UDP_FIELDS = sizeof(udp_fields) };

static uint64_t sum_fields(const uint8_t *h, const uint8_t *field, unsigned n)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < n; i++)
		sum += raw16_get(h + field[i]);
	return sum;
}

void vnet_cut_start(struct vnet_cut *c, const struct pkt *p)
{
	const uint8_t *l4 = p->data + p->l4;

	*c = (struct vnet_cut){.p = p, .at = p->payload};
	if (!p->gso_size || p->len - p->payload <= p->gso_size)
		return;
	c->size = p->gso_size;
	/* A field may be taken out of a sum that added it with a higher weight: only the rest by 0xffff
	 * counts. */
	if (p->ver == 4)
		c->ip_sum = csum_add(0, p->data, p->l4) - sum_fields(p->data, ip4_fields, IP4_FIELDS);
	c->l4_sum = csum_add(csum_pseudo(&p->t.src, &p->t.dst, p->t.proto, 0), l4, p->payload - p->l4);
	if (p->t.proto == IPPROTO_TCP)
		c->l4_sum -= sum_fields(l4, tcp_fields, TCP_FIELDS);
	else
		c->l4_sum -= sum_fields(l4, udp_fields, UDP_FIELDS);
}

static void finish_ip(const struct vnet_cut *c, uint8_t *ip, uint32_t len)
{
	if (c->p->ver == 6) {
		be16_put(ip + 4, (uint16_t)(len - 40));
		return;
	}
	be16_put(ip + 2, (uint16_t)len);
	be16_put(ip + 4, (uint16_t)(be16_get(ip + 4) + c->n));
	raw16_put(ip + 10, (uint16_t)~csum_fold(c->ip_sum + sum_fields(ip, ip4_fields, IP4_FIELDS - 1)));
}

static void finish_tcp(
	const struct vnet_cut *c, uint8_t *tcp, uint32_t l4_len, uint64_t payload_sum, bool last)
{
	be32_put(tcp + 4, be32_get(tcp + 4) + (c->at - c->p->payload));
	if (c->n > 0)
		tcp[13] &= (uint8_t)~TCP_CWR;
	if (!last)
		tcp[13] &= (uint8_t) ~(TCP_FIN | TCP_PSH);
	raw16_put(tcp + 16, (uint16_t)~csum_fold(c->l4_sum + payload_sum + htonl(l4_len) +
						 sum_fields(tcp, tcp_fields, TCP_FIELDS - 1)));
}

static void finish_udp(const struct vnet_cut *c, uint8_t *udp, uint32_t l4_len, uint64_t payload_sum)
{
	uint16_t sum;

	be16_put(udp + 4, (uint16_t)l4_len);
	sum = (uint16_t)~csum_fold(
		c->l4_sum + payload_sum + htonl(l4_len) + sum_fields(udp, udp_fields, UDP_FIELDS - 1));
	raw16_put(udp + 6, sum ? sum : 0xffff); /* zero would mean "none", RFC 768 */
}

/* The only packet of a cut that is none: its headers are copied, a partial checksum is completed in the copy.
 */
static uint32_t whole(struct vnet_cut *c, uint8_t *hdr, const uint8_t **payload, uint32_t *payload_len)
{
	const struct pkt *p = c->p;
	uint16_t sum;

	c->done = true;
	memcpy(hdr, p->data, p->payload);
	*payload = p->data + p->payload;
	*payload_len = p->len - p->payload;
	if (p->csum == PKT_CSUM_PARTIAL) {
		sum = (uint16_t)~csum_fold(csum_add(0, p->data + p->l4, p->len - p->l4));
		raw16_put(hdr + p->l4 + pkt_csum_offset(p->ver, p->t.proto),
			p->t.proto == IPPROTO_UDP && sum == 0 ? 0xffff : sum);
	}
	return p->payload;
}

uint32_t vnet_cut_next(struct vnet_cut *c, uint8_t *hdr, const uint8_t **payload, uint32_t *payload_len)
{
	const struct pkt *p = c->p;
	uint32_t n = p->len - c->at, l4_len;
	uint64_t payload_sum;
	bool last = n <= c->size;

	if (c->done)
		return 0;
	if (!c->size)
		return whole(c, hdr, payload, payload_len);
	if (!last)
		n = c->size;
	*payload = p->data + c->at;
	*payload_len = n;
	memcpy(hdr, p->data, p->payload);
	l4_len = p->payload - p->l4 + n;
	payload_sum = csum_add(0, *payload, n);
	finish_ip(c, hdr, p->payload + n);
	if (p->t.proto == IPPROTO_TCP)
		finish_tcp(c, hdr + p->l4, l4_len, payload_sum, last);
	else
		finish_udp(c, hdr + p->l4, l4_len, payload_sum);
	c->at += n;
	c->n++;
	c->done = last;
	return p->payload;
}
