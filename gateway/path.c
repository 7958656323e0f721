/* SPDX-License-Identifier: GPL-2.0-or-later */
/* path.c - the packet path's descriptors, tables and batch ends.
 *
 * libuv says which descriptor is ready; each takes up to ROUNDS batches and then lets the loop look at the
 * others, so that a flood from the branches cannot keep replies waiting, nor control.
 *
 * A pending ICMP error on a tunnel socket shows as POLLERR, which uv_poll reports as EBADF and stops at: the
 * error queue is drained and polling begins anew.
 */
#include "gateway/path.h"

#include "gateway/egress.h"
#include "gateway/frag.h"
#include "gateway/rx.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

struct path_tables {
	struct gre_demux *demux;
	struct routes *routes;
	struct gre_sock *gre[2]; /* opened for these tables; NULL: as before, or not needed */
};

void path_drop(struct path *path, struct tunnel *t, enum drop d, uint32_t segs)
{
	struct counters *c = t ? &t->count : &path->gw->count;

	c->drops[d] += segs;
}

void path_drop_out(struct path *path, struct tunnel *t, enum drop d, uint32_t segs)
{
	path_drop(path, t, d, segs);
	t->dropped_out += segs;
}

static const struct addr *gre_source(const struct tunnel *t, int family)
{
	bool is4 = family == AF_INET;

	return t->conf->type == TUNNEL_GRE && !t->over && addr_is4(&t->conf->local) == is4 ? &t->conf->remote
											   : NULL;
}

void path_tick(struct path *path)
{
	static const bool no = false;

	for (int f = 0; f < 2; f++) {
		int fd = path->gre[f] ? gre_sock_fd(path->gre[f]) : -1;

		police_tick(path->gw, &path->police[f], gre_source, f ? AF_INET6 : AF_INET, &fd, 1, &no);
	}
}

void path_second(struct path *path)
{
	uint64_t tun = tun_lost(path->tun);

	path->now = gateway_now();
	frag_tick(path);

	for (int f = 0; f < 2; f++) {
		uint32_t lost = path->gre[f] ? gre_sock_lost(path->gre[f]) : 0;

		path->gw->count.drops[DROP_RX_QUEUE] += lost - path->gre_lost[f];
		path->gre_lost[f] = lost;
	}
	path->gw->count.drops[DROP_TUN_QUEUE] += tun - path->tun_lost;
	path->tun_lost = tun;
}

/* ---- to the TUN -------------------------------------------------------------------------------------- */

static void write_group(void *arg, struct iovec *iov, unsigned n, struct pkt *const *pkts, unsigned npkts)
{
	struct path *path = arg;
	uint32_t segs = 0;

	if (tun_write(path->tun, iov, n) == 0)
		return;
	for (unsigned i = 0; i < npkts; i++)
		segs += pkt_segs(pkts[i]);
	path_drop(path, NULL, DROP_TUN_WRITE, segs);
}

/* A super-packet for a TUN that does not take such, in wire packets. */
static void write_cut(struct path *path, struct pkt *p)
{
	struct virtio_net_hdr vnet = {0};
	uint8_t hdr[TX_HDR_MAX];
	const uint8_t *payload;
	struct vnet_cut cut;
	uint32_t hlen, plen;

	if (p->payload > TX_HDR_MAX) {
		path_drop(path, NULL, DROP_GSO_INVALID, pkt_segs(p));
		return;
	}
	vnet_cut_start(&cut, p);
	while ((hlen = vnet_cut_next(&cut, hdr, &payload, &plen)) > 0) {
		struct iovec iov[3] = {
			{&vnet, VNET_HDR_LEN}, {hdr, hlen}, {(void *)(uintptr_t)payload, plen}};

		if (tun_write(path->tun, iov, 3) < 0)
			path_drop(path, NULL, DROP_TUN_WRITE, 1);
	}
}

static bool tun_takes(const struct path *path, const struct pkt *p)
{
	const struct vnet_offloads *o = tun_write_offloads(path->tun);

	if (!p->gso_size)
		return p->csum != PKT_CSUM_PARTIAL || o->csum;
	if (p->t.proto == IPPROTO_UDP)
		return o->udp;
	return p->ver == 4 ? o->tcp4 : o->tcp6;
}

void path_to_tun(struct path *path, struct pkt *p, uint64_t owner)
{
	if (!tun_takes(path, p)) {
		if (p->gso_size) {
			vnet_join_flush(
				path->join, write_group, path); /* what came before it goes before it */
			write_cut(path, p);
			return;
		}
		pkt_complete_csum(p);
	}
	if (vnet_join_add(path->join, p, owner))
		return;
	vnet_join_flush(path->join, write_group, path);
	(void)vnet_join_add(path->join, p, owner); /* there is room now */
}

void path_write_joined(struct path *path)
{
	if (!path || !vnet_join_waits(path->join))
		return;
	/* A flow that ended in this batch and whose tuple another one took: the kernel forgets the first before it sees
	 * a packet of the second. */
	egress_flush(path->gw->egress);
	vnet_join_flush(path->join, write_group, path);
}

/* ---- batches ----------------------------------------------------------------------------------------- */

static void flush(struct path *path)
{
	path_write_joined(path);
	egress_flush(path->gw->egress);
	tx_flush(path);
	path->answers = 0;
}

/* What became complete in a batch follows it, one by one. */
void path_flush(struct path *path)
{
	flush(path);
	while (frag_forward(path))
		flush(path);
}

static void on_tun(uv_poll_t *h, int status, int events)
{
	struct path *path = h->data;

	(void)events;
	if (status < 0) {
		log_error(path->gw->log, "tun", tun_name(path->tun), "the device is gone: stopping");
		path->gw->failed = true;
		uv_stop(path->gw->loop);
		return;
	}
	for (int i = 0; i < ROUNDS && tx_tun(path) == TUN_BATCH; i++)
		;
}

/* Which tunnel an ICMP error is about. A quote may be too short for the key: then a tunnel without one, if
 * any. */
static struct tunnel *error_tunnel(struct path *path, const struct gre_error *e)
{
	struct gre_endpoint ep = {
		.local = e->local, .remote = e->remote, .has_key = e->has_key, .key = e->key};
	uint32_t i = gre_demux_find(path->demux, &ep);

	return i == GRE_DEMUX_NONE || (i & GRE_ELSEWHERE) ? NULL : tunnels_at(path->gw->tunnels, i);
}

static void on_gre_error(void *arg, const struct gre_error *e)
{
	struct path *path = arg;
	struct tunnel *t = error_tunnel(path, e);
	char who[ADDR_STRLEN];

	if (!t)
		return;
	if (e->err == EMSGSIZE) { /* from a router of before RFC 1191 with an MTU of 0: then the least */
		if (!tunnel_path_mtu(t, e->mtu, path->now))
			return;
		log_limited(path->gw->log, &t->loglim, path->now, LOG_LEVEL_INFO, "tunnel", t->conf->name,
			"path MTU %u, says %s", t->pmtu, addr_str(&e->reporter, who));
		return;
	}
	t->down_until_ms = path->now + TUNNEL_DOWN_MS;
	log_limited(path->gw->log, &t->loglim, path->now, LOG_LEVEL_WARNING, "tunnel", t->conf->name,
		"%s says: %s", addr_str(&e->reporter, who), strerror(e->err));
}

static void on_gre(uv_poll_t *h, int status, int events)
{
	struct path *path = h->data;
	struct gre_sock *s = path->gre[h == &path->gre_poll[1]];

	(void)events;
	if (status < 0) {
		path->now = gateway_now();
		gre_sock_errors(s, on_gre_error, path);
		if (!path->closing)
			uv_poll_start(h, UV_READABLE, on_gre);
	}
	for (int i = 0; i < ROUNDS && rx_gre(path, s) == GRE_BATCH; i++)
		;
}

/* ---- opening, reload, closing ------------------------------------------------------------------------ */

static int start_poll(struct path *path, uv_poll_t *h, int fd, uv_poll_cb cb)
{
	int r = uv_poll_init(path->gw->loop, h, fd);

	if (r < 0)
		return r;
	h->data = path;
	return uv_poll_start(h, UV_READABLE, cb);
}

void path_abandon(struct path_tables *tb)
{
	if (!tb)
		return;
	gre_demux_free(tb->demux);
	routes_free(tb->routes);
	for (int f = 0; f < 2; f++)
		if (tb->gre[f])
			gre_sock_close(tb->gre[f]);
	free(tb);
}

/* Where the packets of GRE tunnel i come from. In transport mode the ends are those of the SA, and only the key tells tunnels
 * apart that travel in it. */
static int add_endpoint(struct gre_demux *d, const struct config *conf, uint32_t i)
{
	const struct conf_tunnel *c = &conf->tunnels[i];
	const struct conf_tunnel *over = c->over ? config_tunnel(conf, c->over) : NULL;
	struct gre_endpoint e = {.local = c->local,
		.remote = c->remote,
		.has_key = c->gre_has_key,
		.key = c->gre_has_key ? c->gre_key : 0};

	if (over)
		e.over = (uint32_t)(over - conf->tunnels) + 1;
	if (over && over->ike.mode == IPSEC_TRANSPORT)
		e.local = e.remote = (struct addr){0};
	return gre_demux_add(d, &e, i);
}

/* What comes in the clear for a tunnel that says over is told apart from what is for none, unless the endpoint is also that of
 * another tunnel. */
static int add_elsewhere(struct gre_demux *d, const struct config *conf, uint32_t i)
{
	const struct conf_tunnel *c = &conf->tunnels[i];
	struct gre_endpoint e = {.local = c->local,
		.remote = c->remote,
		.has_key = c->gre_has_key,
		.key = c->gre_has_key ? c->gre_key : 0};
	int r = gre_demux_add(d, &e, i | GRE_ELSEWHERE);

	return r == -EEXIST ? 0 : r;
}

int path_prepare(struct path *path, const struct tunnels *t, const struct config *conf,
	struct path_tables **out, char *err, size_t errlen)
{
	struct path_tables *tb = calloc(1, sizeof(*tb));
	bool need[2] = {false, false};
	int r;

	if (!tb)
		return -ENOMEM;
	r = gre_demux_new(&tb->demux);
	if (r < 0)
		goto fail;
	r = routes_new(&tb->routes, t, conf);
	if (r < 0)
		goto fail;
	for (uint32_t i = 0; i < conf->ntunnels; i++) {
		const struct conf_tunnel *c = &conf->tunnels[i];

		if (c->type != TUNNEL_GRE)
			continue;
		r = add_endpoint(tb->demux, conf, i);
		if (r < 0)
			goto fail;
		if (!c->over)
			need[addr_is4(&c->local) ? 0 : 1] = true;
	}
	for (uint32_t i = 0; i < conf->ntunnels; i++) {
		r = conf->tunnels[i].over ? add_elsewhere(tb->demux, conf, i) : 0;
		if (r < 0)
			goto fail;
	}
	for (int f = 0; f < 2; f++) {
		if (!need[f] || path->gre[f])
			continue;
		r = gre_sock_open(&tb->gre[f], f ? AF_INET6 : AF_INET, conf->gateway.socket_buffer);
		if (r < 0) {
			snprintf(err, errlen, "GRE socket for %s: %s", f ? "IPv6" : "IPv4", strerror(-r));
			goto fail;
		}
	}
	*out = tb;
	return 0;
fail:
	if (!err[0])
		snprintf(err, errlen, "tables of tunnels: %s", strerror(-r));
	path_abandon(tb);
	return r;
}

void path_commit(struct path *path, struct path_tables *tb)
{
	gre_demux_free(path->demux);
	routes_free(path->routes);
	path->demux = tb->demux;
	path->routes = tb->routes;
	for (int f = 0; f < 2; f++) {
		if (!tb->gre[f])
			continue;
		path->gre[f] = tb->gre[f];
		if (start_poll(path, &path->gre_poll[f], gre_sock_fd(path->gre[f]), on_gre) < 0)
			log_error(path->gw->log, "gre", NULL, "cannot poll the socket");
	}
	free(tb);
}

int path_open(struct path **out, struct gateway *gw, struct tun *tun, char *err, size_t errlen)
{
	struct path *path = calloc(1, sizeof(*path));
	int r;

	if (!path)
		return -ENOMEM;
	path->gw = gw;
	path->now = gateway_now();
	path->tun_mtu = gw->conf->gateway.tun_mtu;
	r = frag_new(&path->frag, path);
	if (r == 0)
		r = vnet_join_new(&path->join, tun_write_offloads(tun));
	if (r < 0)
		goto fail;
	path->tun = tun;
	r = start_poll(path, &path->tun_poll, tun_fd(tun), on_tun);
	if (r < 0) {
		snprintf(err, errlen, "cannot poll %s: %s", tun_name(tun), uv_strerror(r));
		path->tun = NULL;
		goto fail;
	}
	*out = path;
	return 0;
fail:
	vnet_join_free(path->join);
	frag_free(path->frag);
	free(path);
	return r;
}

void path_close(struct path *path)
{
	path->closing = true;
	uv_close((uv_handle_t *)&path->tun_poll, NULL);
	for (int f = 0; f < 2; f++)
		if (path->gre_poll[f].data) /* it was initialised */
			uv_close((uv_handle_t *)&path->gre_poll[f], NULL);
}

void path_free(struct path *path)
{
	if (!path)
		return;
	for (int f = 0; f < 2; f++)
		if (path->gre[f])
			gre_sock_close(path->gre[f]);
	tun_close(path->tun);
	gre_demux_free(path->demux);
	routes_free(path->routes);
	vnet_join_free(path->join);
	frag_free(path->frag);
	free(path);
}
