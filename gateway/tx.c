/* SPDX-License-Identifier: GPL-2.0-or-later */
/* tx.c - to the branches: TUN → flow step → tunnel → wire packets → GRE socket.
 *
 * tx_tun brings what the kernel routed to the TUN to the flow step; tx_tunnel is where every packet for a
 * tunnel leaves, whether it came from the TUN, from another tunnel, or was made here. Super-packets are cut
 * here, as late as possible: segments share the payload that was read, only headers are copied.
 *
 * References: RFC 6040 4.1 (ECN), RFC 2983 (DSCP), RFC 791 (fragmentation), RFC 7676.
 */
#include "gateway/base/be.h"
#include "gateway/base/csum.h"
#include "gateway/base/frag_cut.h"
#include "gateway/base/msg.h"
#include "gateway/frag.h"
#include "gateway/ipsec.h"
#include "ipsec/esp.h"

#include <errno.h>
#include <netinet/ip.h>

#define ECN_MASK 3

unsigned tx_tun(struct path *path)
{
	int got = tun_read(path->tun, path->tun_rx);
	unsigned n = 0;

	if (got <= 0)
		return 0;
	path->now = gateway_now();
	for (int i = 0; i < got; i++) {
		struct item *it = &path->item[n];
		enum drop d;

		it->from = NULL;
		it->p = (struct pkt){.data = path->tun_rx[i].data, .len = path->tun_rx[i].len};
		d = pkt_parse(&it->p);
		if (!d && it->p.frag) {
			d = frag_take(path, it);
			if (!d)
				continue;
		}
		if (!d)
			d = vnet_to_pkt(&path->tun_rx[i].vnet, &it->p);
		if (d)
			path_drop(path, NULL, d, 1);
		else
			n++;
	}
	forward_batch(path, n);
	path_flush(path);
	return (unsigned)got;
}

/* The next free place in the queue of t's family; sends what is there when it is full. */
static struct gre_tx *next_tx(
	struct path *path, struct tunnel *t, const struct gre_hdr *h, uint8_t **hdr, uint32_t octets)
{
	const struct conf_tunnel *c = t->conf;
	struct txq *q = &path->txq[addr_is4(&c->local) ? 0 : 1];
	struct gre_tx *tx;

	if (q->n == TXQ_LEN)
		tx_flush(path);
	tx = &q->tx[q->n];
	q->tunnel[q->n] = t;
	q->octets[q->n] = octets;
	if (hdr)
		*hdr = q->hdr[q->n];
	q->n++;
	tx->local = c->local;
	tx->remote = c->remote;
	tx->hdr = *h;
	tx->ttl = c->ttl;
	tx->tos = 0;
	tx->df = true;
	tx->nparts = 0;
	return tx;
}

/* The IP header of a GRE packet that travels in an ipsec tunnel: nobody else makes it. */
static uint32_t outer_header(uint8_t *h, const struct conf_tunnel *c, uint8_t tos, uint32_t len)
{
	uint16_t sum;

	if (addr_is4(&c->local)) {
		memset(h, 0, 20);
		h[0] = 0x45;
		h[1] = tos;
		be16_put(h + 2, (uint16_t)(20 + len));
		h[6] = 0x40; /* DF: with it the identification means nothing (RFC 6864) */
		h[8] = c->ttl;
		h[9] = IPPROTO_GRE;
		memcpy(h + 12, &c->local.w[3], 4);
		memcpy(h + 16, &c->remote.w[3], 4);
		sum = (uint16_t)~csum_fold(csum_add(0, h, 20));
		memcpy(h + 10, &sum, 2);
		return 20;
	}
	be32_put(h, 6u << 28 | (uint32_t)tos << 20);
	be16_put(h + 4, (uint16_t)len);
	h[6] = IPPROTO_GRE;
	h[7] = c->ttl;
	memcpy(h + 8, &c->local, 16);
	memcpy(h + 24, &c->remote, 16);
	return 40;
}

/* GRE into the ipsec tunnel that carries it: with an IP header in tunnel mode, by itself in transport mode. */
static void queue_over(struct path *path, struct tunnel *t, const struct gre_hdr *h,
	const struct iovec *payload, unsigned n, uint8_t tos)
{
	uint8_t ip[40], gre[GRE_HDR_MAX];
	struct iovec part[2 + GRE_TX_PARTS] = {{ip, 0}, {gre, 0}};
	const struct ipsec_what what = {
		.t = {.src = t->conf->local, .dst = t->conf->remote, .proto = IPPROTO_GRE},
		.ports_known = true};
	bool has_header = !tunnel_is_transport(t->over);
	uint8_t dscp = t->over->conf->dscp,
		outer_tos = dscp == DSCP_INHERIT ? tos : (uint8_t)(dscp << 2 | (tos & ECN_MASK));
	uint8_t next = IPPROTO_GRE;
	uint32_t octets = 0;
	enum drop d;

	part[1].iov_len = gre_encode(gre, h, payload, n);
	for (unsigned i = 0; i < n; i++) {
		part[2 + i] = payload[i];
		octets += (uint32_t)payload[i].iov_len;
	}
	if (has_header) {
		part[0].iov_len = outer_header(ip, t->conf, tos, (uint32_t)part[1].iov_len + octets);
		next = addr_is4(&t->conf->local) ? ESP_NEXT_IPV4 : ESP_NEXT_IPV6;
	}
	d = tx_ipsec(path, t->over, t, has_header ? &what : NULL, next, part, 2 + n, outer_tos, octets);
	if (d)
		path_drop_out(path, t, d, 1);
}

void tx_gre_header(struct path *path, struct tunnel *t, const struct gre_hdr *h)
{
	if (t->over)
		queue_over(path, t, h, NULL, 0, 0);
	else
		next_tx(path, t, h, NULL, 0);
}

static void queue_ipsec(struct path *path, const struct pkt *p, struct tunnel *t, const struct iovec *part,
	unsigned n, uint8_t tos, uint32_t octets)
{
	struct ipsec_what what = {.t = p->t, .ports_known = !p->frag};
	uint8_t next = p->ver == 4 ? ESP_NEXT_IPV4 : ESP_NEXT_IPV6;
	enum drop d = tx_ipsec(path, t, t, &what, next, part, n, tos, octets);

	/* A router on the way is in no selector: its ICMP error travels as an answer to what it quotes (RFC 4301 6.2). */
	if (d == DROP_ESP_SELECTOR && p->icmp_error) {
		what.t = tuple_turned(&p->qt);
		d = tx_ipsec(path, t, t, &what, next, part, n, tos, octets);
	}
	if (d)
		path_drop_out(path, t, d, 1);
}

/* One wire packet: hlen octets at hdr, plen at payload. */
static void queue(struct path *path, const struct pkt *p, struct tunnel *t, const uint8_t *hdr, uint32_t hlen,
	const uint8_t *payload, uint32_t plen)
{
	const struct conf_tunnel *c = t->conf;
	struct gre_hdr h = {.proto = p->ver == 4 ? GRE_PROTO_IPV4 : GRE_PROTO_IPV6,
		.has_key = c->gre_has_key,
		.key = c->gre_key,
		.has_csum = c->gre_checksum,
		.has_seq = c->gre_sequence};
	uint8_t tos = (uint8_t)((c->dscp == DSCP_INHERIT ? p->tos & ~ECN_MASK : c->dscp << 2) |
				(p->tos & ECN_MASK));
	struct iovec part[2] = {{(void *)(uintptr_t)hdr, hlen}, {(void *)(uintptr_t)payload, plen}};
	unsigned first = hlen ? 0 : 1;
	struct gre_tx *tx;
	uint8_t *copy;

	if (t->ipsec) {
		queue_ipsec(path, p, t, part + first, 2 - first, tos, hlen + plen);
		return;
	}
	if (h.has_seq)
		h.seq = t->tx_seq++;
	if (t->over) {
		queue_over(path, t, &h, part + first, 2 - first, tos);
		return;
	}
	tx = next_tx(path, t, &h, &copy, hlen + plen);
	tx->tos = tos;
	/* Where even 1280 octets of IPv6 do not fit the path, the outer packet is fragmented. */
	tx->df = !(tunnel_known_pmtu(t, path->now) &&
		   hlen + plen + conf_tunnel_overhead(t->conf) > tunnel_known_pmtu(t, path->now));
	if (hlen) {
		if (hdr != copy)
			memcpy(copy, hdr, hlen);
		part[0].iov_base = copy;
	}
	tx->nparts = (uint8_t)(2 - first);
	memcpy(tx->part, part + first, tx->nparts * sizeof(part[0]));
}

/* Cuts a wire packet (headers hdr, then payload) into fragments of at most limit octets. The inner packet is fragmented rather
 * than the outer one, so that the branch's hosts reassemble and not its router. */
static enum drop queue_fragments(struct path *path, const struct pkt *p, struct tunnel *t, uint32_t id,
	const uint8_t *hdr, uint32_t hlen, const uint8_t *payload, uint32_t plen, uint32_t limit)
{
	uint8_t h[FRAG_HDR_MAX];
	const uint8_t *piece;
	struct frag_cut c;
	uint32_t n;

	if (!frag_cut_start(&c, p->ver, hdr, hlen, payload, plen, limit, id, p->ver == 4 && p->df))
		return DROP_FRAGMENT_INVALID;
	while ((hlen = frag_cut_next(&c, h, &piece, &n)))
		queue(path, p, t, h, hlen, piece, n);
	return DROP_NONE;
}

/* The Identification of a datagram that came whole: its own. Who clears DF on the way may leave 0 in all of them. */
static uint16_t whole_id(struct path *path, const uint8_t *hdr)
{
	uint16_t id = be16_get(hdr + 4);

	return id ? id : path->next_id++;
}

enum drop tx_tunnel(struct path *path, struct pkt *p, struct tunnel *t)
{
	uint32_t mtu = tunnel_mtu(t, p->ver, path->now);
	const uint8_t *payload;
	struct vnet_cut cut;
	uint32_t hlen, plen;
	uint8_t hdr[TX_HDR_MAX];
	bool fits = pkt_wire_len(p) <= mtu;
	enum drop d = DROP_NONE;

	if (!p->gso_size && !p->frag_max && fits) {
		if (p->csum == PKT_CSUM_PARTIAL)
			pkt_complete_csum(p);
		queue(path, p, t, NULL, 0, p->data, p->len);
		return DROP_NONE;
	}
	if (p->payload > TX_HDR_MAX)
		return DROP_GSO_INVALID;
	if (p->frag_max)
		return queue_fragments(path, p, t, p->frag_id, p->data, p->payload, p->data + p->payload,
			p->len - p->payload, frag_limit(p, mtu));
	vnet_cut_start(&cut, p);
	while ((hlen = vnet_cut_next(&cut, hdr, &payload, &plen)) > 0) {
		if (hlen + plen <= mtu || p->ver == 6)
			queue(path, p, t, hdr, hlen, payload, plen);
		else if (d == DROP_NONE)
			d = queue_fragments(path, p, t, whole_id(path, hdr), hdr, hlen, payload, plen, mtu);
	}
	return d;
}

/* EMSGSIZE: larger than the MTU of the device that it would leave by. The kernel knows that MTU only for a
 * connected socket, so one is asked; the next packet's sender will be told. */
void tx_ask_mtu(struct path *path, struct tunnel *t, const struct addr *local, const struct addr *remote)
{
	uint32_t mtu;

	if (tunnel_known_pmtu(t, path->now) && path->now - (t->pmtu_until_ms - TUNNEL_PMTU_MS) < 1000)
		return; /* asked within the last second */
	if (msg_way(local, remote, &mtu) == 0 && mtu)
		(void)tunnel_path_mtu(t, mtu, path->now);
}

static void sent(struct path *path, struct txq *q, unsigned i)
{
	struct tunnel *t = q->tunnel[i];

	switch (q->tx[i].err) {
	case 0:
		if (q->octets[i]) {
			t->count.tx_packets++;
			t->count.tx_bytes += q->octets[i];
		}
		return;
	case EAGAIN:
	case ENOBUFS:
		path_drop_out(path, t, DROP_QUEUE_FULL, 1);
		return;
	case EMSGSIZE:
		tx_ask_mtu(path, t, &t->conf->local, &t->conf->remote);
		path_drop_out(path, t, DROP_TOO_BIG, 1);
		return;
	default:
		t->down_until_ms = path->now + TUNNEL_DOWN_MS;
		path_drop_out(path, t, DROP_SEND_ERROR, 1);
		log_limited(path->gw->log, &t->loglim, path->now, LOG_LEVEL_WARNING, "tunnel", t->conf->name,
			"cannot send: %s", strerror(q->tx[i].err));
	}
}

void tx_flush(struct path *path)
{
	for (int f = 0; f < 2; f++) {
		struct txq *q = &path->txq[f];

		if (!q->n)
			continue;
		gre_sock_send(path->gre[f], q->tx, q->n);
		for (unsigned i = 0; i < q->n; i++)
			sent(path, q, i);
		q->n = 0;
	}
	tx_ipsec_flush(path);
}
