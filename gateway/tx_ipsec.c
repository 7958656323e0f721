/* SPDX-License-Identifier: GPL-2.0-or-later */
/* tx_ipsec.c - to the branches by IPsec: wire packet → SA → sealed → runs of equal length → socket.
 *
 * A packet is copied once, into the place where it will be sealed, right behind the one before. At the end of the batch all
 * are sealed together. Then what lies side by side, goes to the same end and is of equal length is one run, which the
 * kernel gets as a single super-datagram (UDP_SEGMENT). The segments of a super-packet of the TUN make just that.
 *
 * References: RFC 4303 3.3, 3948 (UDP), 4301 5.1.2 (outer header), 6040 4.1 (ECN).
 */
#include "gateway/base/msg.h"
#include "gateway/ipsec_private.h"

#include <errno.h>

#define RUN_OCTETS 65000

static uint32_t outer_headers(const struct sa *sa)
{
	return (addr_is4(&sa->remote.a) ? 20u : 40u) + (sa->remote.port ? 8u : 0u);
}

/* TFC (RFC 4303 2.7): octets inside, never more than fit the path. */
static uint32_t padded_to(const struct tunnel *t, const struct sa *sa, uint64_t now)
{
	uint32_t mtu;

	if (!sa->tfc || sa->transport)
		return 0;
	mtu = tunnel_mtu(t, 4, now);
	return sa->tfc < mtu ? sa->tfc : mtu;
}

/* The SA that a packet leaves by; NULL: there is none for it. */
static struct sa *choose_sa(const struct path *path, struct tunnel *t, const struct ipsec_what *what)
{
	struct ipsec *s = path->gw->ipsec;

	struct sa *sa;

	if (!s || !t->ipsec->conn)
		return NULL;
	sa = sad_out(s->sad, t->ipsec->conn, path->now);
	if (sa != t->ipsec->sa) /* a packet, or time alone, has changed the choice */
		ipsec_refresh(s, t, path->now);
	if (!what)
		return sa;
	return sad_out_for(s->sad, t->ipsec->conn, &what->t, what->ports_known, path->now);
}

enum drop tx_ipsec(struct path *path, struct tunnel *t, struct tunnel *inner, const struct ipsec_what *what,
	uint8_t next, const struct iovec *part, unsigned nparts, uint8_t tos, uint32_t octets)
{
	struct ipsec *s = path->gw->ipsec;
	struct sa *sa = choose_sa(path, t, what);
	uint32_t len = 0, room, pmtu, pad_to;
	struct esp_out *o;
	struct espq *q;
	uint8_t *to;

	if (!sa)
		return t->ipsec->suite ? DROP_ESP_SELECTOR : DROP_TUNNEL_DOWN;
	if (sa->transport !=
		!what) /* the choice has changed, to one of the other mode, since the packet was made */
		return DROP_ESP_NEXT_HEADER;
	q = &s->q;
	for (unsigned i = 0; i < nparts; i++)
		len += (uint32_t)part[i].iov_len;
	pad_to = padded_to(t, sa, path->now);
	room = esp_sealed_len(sa->suite, len > pad_to ? len : pad_to);
	if (room + outer_headers(sa) > UINT16_MAX)
		return DROP_TOO_BIG;
	if (q->n == ESPQ_LEN || q->used + room > ESPQ_OCTETS)
		tx_ipsec_flush(path);
	o = &q->out[q->n];
	*o = (struct esp_out){
		.sa = sa, .data = q->buf + q->used, .inner_len = len, .pad_to = pad_to, .next = next};
	to = o->data + esp_inner_at(sa);
	for (unsigned i = 0; i < nparts; i++) {
		memcpy(to, part[i].iov_base, part[i].iov_len);
		to += part[i].iov_len;
	}
	/* Where even 1280 octets of IPv6 do not fit the path, the outer packet is fragmented. */
	pmtu = tunnel_known_pmtu(t, path->now);
	q->df[q->n] = !(pmtu && room + outer_headers(sa) > pmtu);
	q->tos[q->n] = tos;
	q->tunnel[q->n] = t;
	q->inner[q->n] = inner;
	q->octets[q->n] = octets;
	q->n++;
	q->used += room;
	return DROP_NONE;
}

/* ---- sending ---------------------------------------------------------------------------------------- */

/* May out[i] be the next segment of the run that begins with out[first] and has len octets so far? */
static bool joins(const struct espq *q, unsigned first, unsigned i, uint32_t len)
{
	const struct esp_out *a = &q->out[first], *b = &q->out[i];

	return !b->drop && a->sa == b->sa && a->sa->remote.port && q->tos[first] == q->tos[i] &&
	       q->df[first] == q->df[i] && a->data + len == b->data && b->len <= a->len &&
	       q->out[i - 1].len == a->len && i - first < IPSEC_SEGMENTS && len + b->len <= RUN_OCTETS;
}

/* Makes runs of what was sealed. Returns how many. */
static unsigned make_runs(struct espq *q)
{
	unsigned runs = 0, end;

	for (unsigned i = 0; i < q->n; i = end) {
		const struct esp_out *o = &q->out[i];
		const struct conf_tunnel *c = q->tunnel[i]->conf;
		uint32_t len = o->len;

		end = i + 1;
		if (o->drop)
			continue;
		while (end < q->n && joins(q, i, end, len))
			len += q->out[end++].len;
		q->first[runs] = i;
		q->tx[runs++] = (struct ipsec_tx){.local = o->sa->local,
			.remote = o->sa->remote,
			.ttl = c->ttl,
			.tos = q->tos[i],
			.df = q->df[i],
			.segment = end - i > 1 ? (uint16_t)o->len : 0,
			.data = o->data,
			.len = len};
	}
	q->first[runs] = q->n;
	return runs;
}

static unsigned port_of(const struct ipsec_tx *tx)
{
	if (!tx->remote.port)
		return IPSEC_RAW;
	return tx->local.port == IKE_PORT ? IPSEC_UDP_500 : IPSEC_UDP_4500;
}

static void count_sent(struct ipsec *s, unsigned i, uint64_t now)
{
	const struct espq *q = &s->q;
	struct sa *sa = q->out[i].sa;
	struct tunnel *t = q->tunnel[i], *inner = q->inner[i];

	atomic_fetch_add_explicit(&sa->use->packets, 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&sa->use->octets, q->out[i].inner_len, memory_order_relaxed);
	atomic_store_explicit(&sa->use->last_ms, now, memory_order_relaxed);
	ipsec_used(s, sa);
	if (q->octets[i]) {
		inner->count.tx_packets++;
		inner->count.tx_bytes += q->octets[i];
	}
	if (inner != t) { /* a packet of GRE is a packet of what carries it */
		t->count.tx_packets++;
		t->count.tx_bytes += q->out[i].inner_len;
	}
}

static enum drop drop_of(int err)
{
	switch (err) {
	case EAGAIN:
	case ENOBUFS:
		return DROP_QUEUE_FULL;
	case EMSGSIZE:
		return DROP_TOO_BIG;
	default:
		return DROP_SEND_ERROR;
	}
}

/* A packet could not be sent: by this tunnel there is no way for a while, as with GRE. But whoever forges ICMP errors for a UDP
 * socket can have sending fail that would not (msg_send), so where that may be it the kernel is asked. */
static void failed(struct path *path, struct tunnel *t, const struct ipsec_tx *tx)
{
	uint32_t mtu;

	if (path->now < t->down_until_ms)
		return;
	if (tx->remote.port && msg_may_be_report(tx->err) && msg_way(&tx->local.a, &tx->remote.a, &mtu) == 0)
		return;
	t->down_until_ms = path->now + TUNNEL_DOWN_MS;
	log_limited(path->gw->log, &t->loglim, path->now, LOG_LEVEL_WARNING, "tunnel", t->conf->name,
		"cannot send: %s", strerror(tx->err));
}

/* What became of run r. What was lost, the tunnel lost whose packet it is: with GRE inside, that one. */
static void sent(struct path *path, struct espq *q, unsigned r)
{
	const struct ipsec_tx *tx = &q->tx[r];
	struct tunnel *t = q->tunnel[q->first[r]];
	unsigned nth = 0; /* of the run's packets; what could not be sealed is none */

	for (unsigned i = q->first[r]; i < q->first[r + 1]; i++) {
		if (q->out[i].drop)
			continue;
		if (tx->failed >> nth++ & 1)
			path_drop_out(path, q->inner[i], drop_of(tx->err), 1);
		else
			count_sent(path->gw->ipsec, i, path->now);
	}
	if (tx->err == EMSGSIZE)
		tx_ask_mtu(path, t, &tx->local.a, &tx->remote.a);
	else if (tx->err && drop_of(tx->err) == DROP_SEND_ERROR)
		failed(path, t, tx);
}

void tx_ipsec_flush(struct path *path)
{
	struct ipsec *s = path->gw->ipsec;
	struct espq *q = s ? &s->q : NULL;
	unsigned runs, end;

	if (!q || !q->n)
		return;
	esp_seal(s->crypto, q->out, q->n);
	for (unsigned i = 0; i < q->n; i++)
		if (q->out[i].drop)
			path_drop_out(path, q->inner[i], q->out[i].drop, 1);
	runs = make_runs(q);
	for (unsigned r = 0; r < runs; r = end) {
		unsigned port = port_of(&q->tx[r]), family = addr_is4(&q->tx[r].remote.a) ? 0 : 1;
		struct ipsec_sock *sock = s->sock[port][family];

		for (end = r + 1; end < runs && port_of(&q->tx[end]) == port &&
				  (addr_is4(&q->tx[end].remote.a) ? 0u : 1u) == family;
			end++)
			;
		for (unsigned i = r; !sock && i < end; i++) {
			q->tx[i].err = EAFNOSUPPORT;
			q->tx[i].failed = UINT64_MAX;
		}
		if (sock)
			ipsec_sock_send(sock, q->tx + r, end - r);
	}
	for (unsigned r = 0; r < runs; r++)
		sent(path, q, r);
	q->n = 0;
	q->used = 0;
}
