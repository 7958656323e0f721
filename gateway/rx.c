/* SPDX-License-Identifier: GPL-2.0-or-later */
/* rx.c - from the branches: GRE socket → tunnel → valid inner packet → flow step.
 *
 * Read from rx_gre at the end: each step either passes the packet on or names the reason why not.
 *
 * References: RFC 2784, 2890 (GRE), 6040 (ECN of the outer header), 7676 (IPv6 in GRE).
 */
#include "gateway/rx.h"

#include "gateway/address.h"
#include "gateway/frag.h"
#include "gateway/hostnet.h"

#include <arpa/inet.h>

#define ECN_MASK    3
#define ECN_NOT_ECT 0
#define ECN_ECT1    1
#define ECN_ECT0    2
#define ECN_CE      3

/* Old numbers that follow each other: so many more than one, and the peer has begun anew. */
#define SEQ_ANEW 4

/* RFC 2890 2.2: a number not above the last one is a packet out of order; we do not wait to put it right. A peer that
 * was restarted counts from 0 again, and must not be deaf to us until it is where it was. */
static enum drop check_sequence(struct tunnel *t, const struct gre_hdr *h)
{
	if (!t->conf->gre_sequence)
		return DROP_NONE;
	if (!h->has_seq)
		return DROP_GRE_SEQUENCE;
	if (t->rx_seq_valid && (int32_t)(h->seq - t->rx_seq) <= 0) {
		t->rx_seq_olds = h->seq == t->rx_seq_old + 1 ? t->rx_seq_olds + 1 : 0;
		t->rx_seq_old = h->seq;
		if (t->rx_seq_olds < SEQ_ANEW)
			return DROP_GRE_SEQUENCE;
	}
	t->rx_seq = h->seq;
	t->rx_seq_olds = 0;
	t->rx_seq_valid = true;
	return DROP_NONE;
}

/* Figure 4 of RFC 6040. DSCP: the inner one stands (RFC 2983, pipe model). */
enum drop rx_decap_ecn(struct pkt *p, uint8_t outer_tos)
{
	uint8_t outer = outer_tos & ECN_MASK, inner = p->tos & ECN_MASK;

	if (outer == ECN_CE) {
		if (inner == ECN_NOT_ECT)
			return DROP_ECN_CE_NOT_ECT;
		if (inner != ECN_CE)
			pkt_set_tos(p, p->tos | ECN_CE);
	} else if (outer == ECN_ECT1 && inner == ECN_ECT0) {
		pkt_set_tos(p, (uint8_t)((p->tos & ~ECN_MASK) | ECN_ECT1));
	}
	return DROP_NONE;
}

static enum drop check_source(const struct conf_tunnel *c, const struct addr *src)
{
	enum drop d = source_check(src);

	if (d || c->allowed_sources.n == 0)
		return d;
	for (size_t i = 0; i < c->allowed_sources.n; i++)
		if (prefix_has(&c->allowed_sources.p[i], src))
			return DROP_NONE;
	return DROP_SOURCE_NOT_ALLOWED;
}

static bool is_interface_address(const struct conf_tunnel *c, const struct pkt *p)
{
	const struct conf_ifaddr *i = &c->interface_address[p->ver == 6];

	return !addr_is_none(&i->a) && addr_eq(&i->a, &p->t.dst);
}

enum drop rx_take_parsed(struct path *path, struct item *it, uint8_t outer_tos, bool *is_item)
{
	struct tunnel *t = it->from;
	enum drop d;

	d = pkt_check_csum(&it->p);
	if (d)
		return d;
	/* What was sealed, or came in fragments, no offload of ours has left unfinished: the peer sent it so. */
	if (it->p.csum == PKT_CSUM_PARTIAL && (t->ipsec || t->over || it->p.frag_max))
		return DROP_INNER_CHECKSUM;
	d = rx_decap_ecn(&it->p, outer_tos);
	if (d)
		return d;
	if (it->p.frag) /* the whole of it comes here again */
		return frag_take(path, it);
	d = check_source(t->conf, &it->p.t.src);
	if (d)
		return d;
	if (is_interface_address(t->conf, &it->p))
		return answer_own(path, it);
	/* The kernel behind the TUN would answer with an address of the machine's own LAN. */
	if (it->p.ttl <= 1 && !hostnet_own(path->gw->hostnet, &it->p.t.dst)) {
		answer_error(path, it, ANSWER_TTL, 0);
		return DROP_TTL_EXPIRED;
	}
	*is_item = true;
	return DROP_NONE;
}

/* What GRE carries, from its octets. */
static enum drop take_inner(struct path *path, struct item *it, const struct gre_rx *rx, bool *is_item)
{
	enum drop d;

	it->p = (struct pkt){.data = rx->payload, .len = rx->len};
	d = pkt_parse(&it->p);
	if (d)
		return d;
	if (it->p.ver != (rx->hdr.proto == GRE_PROTO_IPV4 ? 4 : 6))
		return DROP_INNER_MALFORMED;
	return rx_take_parsed(path, it, rx->tos, is_item);
}

/* A keepalive's inside is the answer to it: a bare GRE header on its way back to the sender. It is no larger than what
 * asked for it, and without it the peer takes the tunnel for dead: so it is not among the answers whose rate is bound. */
static bool take_keepalive(struct path *path, struct tunnel *t, const struct gre_rx *rx)
{
	struct gre_hdr h;
	uint32_t off;

	if (rx->hdr.proto != GRE_PROTO_IPV4 || !addr_is4(&t->conf->local))
		return false;
	if (!gre_is_keepalive(rx->payload, rx->len, t->conf->local.w[3], t->conf->remote.w[3], &off))
		return false;
	if (gre_decode(rx->payload + off, rx->len - off, &h) == DROP_NONE)
		tx_gre_header(path, t, &h);
	return true;
}

static uint32_t find_tunnel(const struct path *path, const struct gre_rx *rx)
{
	struct gre_endpoint e = {.over = rx->over,
		.local = rx->local,
		.remote = rx->remote,
		.has_key = rx->hdr.has_key,
		.key = rx->hdr.has_key ? rx->hdr.key : 0};

	return gre_demux_find(path->demux, &e);
}

struct tunnel *rx_gre_tunnel(struct path *path, const struct gre_rx *rx)
{
	uint32_t i = find_tunnel(path, rx);

	return i == GRE_DEMUX_NONE || (i & GRE_ELSEWHERE) ? NULL : tunnels_at(path->gw->tunnels, i);
}

static void unknown_sender(struct path *path, const struct gre_rx *rx)
{
	char r[ADDR_STRLEN], l[ADDR_STRLEN];

	path_drop(path, NULL, DROP_UNKNOWN_SENDER, 1);
	if (!log_wants(path->gw->log, LOG_LEVEL_NOTICE))
		return;
	if (rx->hdr.has_key)
		log_limited(path->gw->log, &path->unknown_log, path->now, LOG_LEVEL_NOTICE, "gre", NULL,
			"no tunnel from %s to %s with key %u", addr_str(&rx->remote, r),
			addr_str(&rx->local, l), rx->hdr.key);
	else
		log_limited(path->gw->log, &path->unknown_log, path->now, LOG_LEVEL_NOTICE, "gre", NULL,
			"no tunnel from %s to %s without a key", addr_str(&rx->remote, r),
			addr_str(&rx->local, l));
}

bool rx_take_gre(struct path *path, struct item *it, const struct gre_rx *rx)
{
	uint32_t i = find_tunnel(path, rx);
	bool is_item = false;
	struct tunnel *t;
	enum drop d;

	t = i == GRE_DEMUX_NONE ? NULL : tunnels_at(path->gw->tunnels, i & ~GRE_ELSEWHERE);
	if (!t) {
		unknown_sender(path, rx);
		return false;
	}
	if (i & GRE_ELSEWHERE) {
		d = DROP_GRE_ELSEWHERE;
		goto drop;
	}
	d = check_sequence(t, &rx->hdr);
	if (!d && rx->hdr.proto == GRE_PROTO_NONE) {
		/* The answer to a keepalive that we did not send: harmless, says that the peer lives. */
		t->rx_last_ms = path->now;
		return false;
	}
	if (!d && rx->hdr.proto != GRE_PROTO_IPV4 && rx->hdr.proto != GRE_PROTO_IPV6)
		d = DROP_GRE_PROTOCOL;
	if (d)
		goto drop;
	t->rx_last_ms = path->now;
	if (take_keepalive(path, t, rx))
		return false;
	it->from = t;
	d = take_inner(path, it, rx, &is_item);
	/* Counted whether it goes on or not: what came by the tunnel. */
	t->count.rx_packets++;
	t->count.rx_bytes += rx->len;
	if (!d)
		return is_item;
drop:
	path_drop(path, t, d, 1);
	return false;
}

static bool take_gre(struct path *path, struct item *it, const struct gre_rx *rx)
{
	if (!rx->drop)
		return rx_take_gre(path, it, rx);
	path_drop(path, NULL, rx->drop, 1);
	return false;
}

unsigned rx_gre(struct path *path, struct gre_sock *s)
{
	int got = gre_sock_recv(s, path->gre_rx);
	unsigned n = 0;

	if (got <= 0)
		return 0;
	path->now = gateway_now();
	for (int i = 0; i < got; i++)
		if (take_gre(path, &path->item[n], &path->gre_rx[i]))
			n++;
	forward_batch(path, n);
	path_flush(path);
	return (unsigned)got;
}
