/* SPDX-License-Identifier: GPL-2.0-or-later */
/* rx_ipsec.c - from the branches by IPsec: socket → IKE, or ESP opened → inner packet or GRE → flow step.
 *
 * Read top to bottom at rx_ipsec. Packets are opened a batch at a time, in the socket's buffers. What the key exchange has
 * to tell is asked for when an SPI is unknown, and only between two batches, since SAs may go by it.
 *
 * References: RFC 4303 3.4, 4301 5.2 (selectors), 6040 4.2 (ECN), 7296 2.23 (addresses behind a NAT).
 */
#include "gateway/ipsec_private.h"
#include "gateway/rx.h"

#define MAPPING_MS 1000 /* until another end is reported again, if the key exchange did nothing about it */

/* A branch behind a NAT speaks from another port, or another address, all of a sudden: the key exchange decides what that
 * means. Only the newest packet, by its number, says where the branch is now: one that was kept back on its way, by somebody
 * or by a NAT that is gone, passes the window, too, and so does any where replay_window is 0. */
static void note_end(
	struct ipsec *s, struct tunnel *t, const struct sa *sa, const struct ipsec_rx *rx, uint64_t now)
{
	if (rx->remote.port == sa->remote.port && addr_eq(&rx->remote.a, &sa->remote.a))
		return;
	if (!rx->remote.port || now < t->ipsec->mapping_until_ms)
		return;
	t->ipsec->mapping_until_ms = now + MAPPING_MS;
	ike_mapping(s->ike, sa, &rx->remote);
}

/* Is it GRE of a tunnel that says over = this one? Otherwise it is an inner packet like others. Where transport mode was asked
 * for, and the peer did not agree, the ends are the SA's all the same, and the selectors hold them. */
static bool is_gre_inside(struct path *path, const struct tunnel *t, const struct pkt *p, struct gre_rx *g)
{
	if (!t->carries || p->t.proto != IPPROTO_GRE || p->frag)
		return false;
	*g = (struct gre_rx){
		.over = t->index + 1, .ttl = p->ttl, .payload = p->data + p->l4, .len = p->len - p->l4};
	if (t->conf->ike.mode == IPSEC_TUNNEL) {
		g->remote = p->t.src;
		g->local = p->t.dst;
	}
	g->drop = gre_decode(g->payload, g->len, &g->hdr);
	if (g->drop || !rx_gre_tunnel(path, g))
		return false;
	g->payload += g->hdr.len;
	g->len -= g->hdr.len;
	return true;
}

/* An ICMP error comes from whatever router had to report; it is an answer to the packet that it quotes, and travels where
 * that one's answers do (RFC 4301 6.2). Whose flow it quotes, and whether that is this tunnel's, the flow step finds out. */
static bool may_travel(const struct sa *sa, const struct pkt *p)
{
	struct tuple answered;

	if (sa_selects(sa, &p->t, !p->frag))
		return true;
	if (!p->icmp_error)
		return false;
	answered = tuple_turned(&p->qt);
	return sa_selects(sa, &answered, true);
}

enum drop rx_ipsec_inner(struct path *path, struct item *it, struct tunnel *t, uint8_t tos, bool *is_item)
{
	struct gre_rx g;
	enum drop d;

	if (is_gre_inside(path, t, &it->p, &g)) {
		d = rx_decap_ecn(&it->p, tos); /* from header to header, inwards */
		if (d)
			return d;
		g.tos = it->p.tos;
		*is_item = rx_take_gre(path, it, &g);
		return DROP_NONE;
	}
	it->from = t;
	return rx_take_parsed(path, it, tos, is_item);
}

/* Tunnel mode: an IP packet. */
static enum drop take_tunnel_mode(struct path *path, struct item *it, struct tunnel *t,
	const struct esp_in *in, uint8_t tos, bool *is_item)
{
	struct pkt *p = &it->p;
	enum drop d;

	*p = (struct pkt){.data = in->inner, .len = in->inner_len};
	d = pkt_parse(p);
	if (d)
		return d;
	if (p->ver != (in->next == ESP_NEXT_IPV4 ? 4 : 6))
		return DROP_INNER_MALFORMED;
	if (!may_travel(in->sa, p))
		return DROP_ESP_SELECTOR;
	t->count.rx_packets++;
	t->count.rx_bytes += p->len;
	return rx_ipsec_inner(path, it, t, tos, is_item);
}

/* Transport mode: what the ESP header stands for the IP header of. Only GRE is carried so, and its ends are the SA's. */
static enum drop take_transport_mode(struct path *path, struct item *it, struct tunnel *t,
	const struct esp_in *in, uint8_t tos, bool *is_item)
{
	struct gre_rx g = {
		.over = t->index + 1, .ttl = 0, .tos = tos, .payload = in->inner, .len = in->inner_len};

	if (in->next != IPPROTO_GRE)
		return DROP_ESP_NEXT_HEADER;
	t->count.rx_packets++;
	t->count.rx_bytes += g.len;
	g.drop = gre_decode(g.payload, g.len, &g.hdr);
	if (g.drop)
		return g.drop;
	g.payload += g.hdr.len;
	g.len -= g.hdr.len;
	*is_item = rx_take_gre(path, it, &g);
	return DROP_NONE;
}

/* One opened packet, up to the flow step. Returns true when it is the item now. */
static bool take_esp(struct ipsec *s, struct item *it, const struct esp_in *in, const struct ipsec_rx *rx)
{
	struct path *path = s->gw->path;
	struct tunnel *t = ipsec_tunnel(s, in->sa->tunnel);
	bool is_item = false;
	enum drop d = in->drop;

	if (!t) { /* it went with a reload; its SAs are about to */
		path_drop(path, NULL, DROP_ESP_UNKNOWN_SPI, 1);
		return false;
	}
	/* Without a window, old packets are good, too; but they say nothing of the branch. */
	if ((!d || d == DROP_ESP_DUMMY) && (in->newest || in->sa->replay.window)) {
		t->rx_last_ms = path->now;
		atomic_store_explicit(&in->sa->use->last_ms, path->now, memory_order_relaxed);
		sad_confirm(s->sad, in->sa);
	}
	if ((!d || d == DROP_ESP_DUMMY) && in->newest)
		note_end(s, t, in->sa, rx, path->now);
	if (!d) {
		atomic_fetch_add_explicit(&in->sa->use->packets, 1, memory_order_relaxed);
		atomic_fetch_add_explicit(&in->sa->use->octets, in->inner_len, memory_order_relaxed);
		ipsec_used(s, in->sa);
		d = in->sa->transport ? take_transport_mode(path, it, t, in, rx->tos, &is_item)
				      : take_tunnel_mode(path, it, t, in, rx->tos, &is_item);
	}
	if (d)
		path_drop(path, t, d, 1);
	return is_item && !d;
}

_Static_assert(ESP_BATCH <= BATCH, "what is opened together crosses the flow step together");

/* Opens the n packets of s->in, which came as s->rx, and brings them to the flow step. */
static void take_batch(struct ipsec *s, unsigned n)
{
	struct path *path = s->gw->path;
	unsigned items = 0;

	if (!n)
		return;
	esp_open(s->crypto, s->in, n);
	for (unsigned i = 0; i < n; i++)
		if (take_esp(s, &path->item[items], &s->in[i], &s->rx[i]))
			items++;
	forward_batch(path, items);
	path_flush(path);
}

static void unknown_spi(struct ipsec *s, const struct ipsec_rx *rx, uint32_t spi)
{
	char who[ADDR_STRLEN];

	path_drop(s->gw->path, NULL, DROP_ESP_UNKNOWN_SPI, 1);
	if (log_wants(s->gw->log, LOG_LEVEL_INFO))
		log_limited(s->gw->log, &s->unknown_log, s->gw->path->now, LOG_LEVEL_INFO, "esp", NULL,
			"no security association with SPI %08x, from %s", spi, addr_str(&rx->remote.a, who));
}

/* An SPI that the table does not have. It may be of an SA that is to come: then the packet waits for it. */
static void hold(struct ipsec *s, const struct ipsec_rx *rx, uint32_t spi)
{
	if (!sad_is_reserved(s->sad, spi))
		unknown_spi(s, rx, spi);
	else if (!sad_hold(
			 s->sad, spi, &rx->local, &rx->remote, rx->tos, rx->data, rx->len, s->gw->path->now))
		path_drop(s->gw->path, NULL, DROP_ESP_HELD, 1);
}

/* What is not ESP. Returns true if that was it. */
static bool take_other(struct ipsec *s, const struct ipsec_rx *rx)
{
	if (rx->drop) {
		path_drop(s->gw->path, NULL, rx->drop, 1);
		return true;
	}
	if (rx->kind == IPSEC_RX_IKE) {
		enum drop drop = ike_receive(s->ike, &rx->local, &rx->remote, rx->data, rx->len);

		if (drop)
			path_drop(s->gw->path, NULL, drop, 1);
	}
	return rx->kind != IPSEC_RX_ESP;
}

unsigned rx_ipsec(struct ipsec *s, struct ipsec_sock *sock)
{
	int got = ipsec_sock_recv(sock);
	bool drained = false;
	struct ipsec_rx rx;
	unsigned n = 0;

	if (got <= 0)
		return 0;
	s->gw->path->now = gateway_now();
	while (ipsec_sock_next(sock, &rx)) {
		uint32_t spi;
		struct sa *sa;

		if (take_other(s, &rx))
			continue;
		spi = esp_spi(rx.data, rx.len);
		sa = sad_in(s->sad, spi);
		if (!sa && !drained) {
			take_batch(s, n);
			n = 0;
			ipsec_drain(s);
			drained = true;
			sa = sad_in(s->sad, spi);
		}
		if (!sa) {
			hold(s, &rx, spi);
			continue;
		}
		s->rx[n] = rx;
		s->in[n++] = (struct esp_in){.sa = sa, .data = rx.data, .len = rx.len};
		if (n == ESP_BATCH) {
			take_batch(s, n);
			n = 0;
		}
	}
	take_batch(s, n);
	return (unsigned)got;
}

void rx_ipsec_held(struct ipsec *s, struct sa *sa, struct sad_held *list)
{
	unsigned n = 0;

	s->gw->path->now = gateway_now();
	for (struct sad_held *h = list; h; h = h->next) {
		s->rx[n] = (struct ipsec_rx){.kind = IPSEC_RX_ESP,
			.local = h->local,
			.remote = h->remote,
			.tos = h->tos,
			.data = h->data,
			.len = h->len};
		s->in[n++] = (struct esp_in){.sa = sa, .data = h->data, .len = h->len};
		if (n == ESP_BATCH) {
			take_batch(s, n);
			n = 0;
		}
	}
	take_batch(s, n);
	sad_held_free(list);
}
