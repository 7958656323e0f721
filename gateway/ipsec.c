/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ipsec.c - IPsec in the gateway: opening, connections, and what the key exchange tells.
 *
 * The key exchange has threads of its own. Everything that they decide reaches the loop by the mailbox, and is done in
 * ipsec_drain, between batches, so that no packet under way refers to an SA that goes.
 *
 * A connection is known by a number whose low 16 bits are its tunnel's slot in the flow table; the high 16 count up with
 * each connection. So what comes late of a connection that was removed or changed (an SA, a state) finds no tunnel.
 */
#include "gateway/ipsec_private.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

#define TICK_BUDGET  4096 /* SAs looked at ten times a second */
#define WRITE_MS     100  /* between two times that the peers' file is written */
#define UNPROVEN_MTU 1280 /* what an ICMP error that quotes no SPI can lower the path's MTU to */

static const char *const port_names[IPSEC_PORTS] = {"UDP port 500", "UDP port 4500", "ESP"};

struct tunnel *ipsec_tunnel(const struct ipsec *s, uint32_t conn)
{
	return tunnels_by_conn(s->gw->tunnels, conn);
}

/* ---- what the key exchange tells -------------------------------------------------------------------- */

void ipsec_refresh(struct ipsec *s, struct tunnel *t, uint64_t now)
{
	const struct sa *sa = sad_out(s->sad, t->ipsec->conn, now);
	bool was_up = t->ipsec->suite;

	t->ipsec->sa = sa;
	t->ipsec->suite = sa ? sa->suite : NULL;
	if (sa) {
		t->ipsec->transport = sa->transport;
		if (t->pmtu && !addr_eq(&t->ipsec->remote.a, &sa->remote.a))
			t->pmtu = 0; /* another path */
		t->ipsec->local = sa->local;
		t->ipsec->remote = sa->remote;
		t->down_until_ms = 0;
	}
	if (was_up != (sa != NULL))
		log_notice(s->gw->log, "tunnel", t->conf->name, sa ? "up, %s%s" : "down%s%s",
			sa ? sa->suite->name : "", sa && sa->remote.port ? " in UDP" : "");
}

static void on_add(struct ipsec *s, struct ike_event *e, uint64_t now)
{
	struct tunnel *t = ipsec_tunnel(s, e->tunnel);
	struct sa *sa = e->sa;
	struct sad_held *held;
	uint32_t expired = 0;

	if (!t || sad_add(s->sad, sa, now) < 0) {
		if (sa->inbound)
			sad_release(s->sad, sa->spi);
		return;
	}
	e->sa = NULL; /* the database's now */
	ipsec_refresh(s, t, now);
	if (!sa->inbound)
		return;
	held = sad_held_take(s->sad, sa->spi, now, &expired);
	path_drop(s->gw->path, t, DROP_ESP_HELD, expired);
	if (held)
		rx_ipsec_held(s, sa, held);
}

static void on_delete(struct ipsec *s, const struct ike_event *e, uint64_t now)
{
	struct tunnel *t = ipsec_tunnel(s, e->tunnel);
	struct sa *sa = e->inbound ? sad_take_in(s->sad, e->spi) : sad_take_out(s->sad, e->spi, e->tunnel);

	if (!sa && e->inbound)
		sad_release(s->sad, e->spi);
	sa_free(sa);
	if (t)
		ipsec_refresh(s, t, now);
}

static void on_update(struct ipsec *s, const struct ike_event *e, uint64_t now)
{
	struct tunnel *t = ipsec_tunnel(s, e->tunnel);

	if (sad_move(s->sad, e->inbound, e->spi, e->tunnel, &e->local, &e->remote) == 0 && t)
		ipsec_refresh(s, t, now);
}

static void on_status(struct ipsec *s, const struct ike_event *e, uint64_t now)
{
	struct tunnel *t = ipsec_tunnel(s, e->tunnel);
	struct ike_status *st = e->status;
	char text[ADDR_STRLEN];

	if (!t)
		return;
	if (st->state == IKE_STATE_UP) {
		sad_ike_current(s->sad, e->tunnel, st->ike, e->old);
		peers_set(s->peers, t->conf->name, st->local.port, &st->remote);
		if (st->ike != t->ipsec->status.ike)
			log_notice(s->gw->log, "tunnel", t->conf->name, "%s with %s at %s port %u, %s",
				e->old ? "IKE_SA renewed" : "IKE_SA established", st->remote_id,
				addr_str(&st->remote.a, text), st->remote.port, st->algorithms);
	} else if (st->state == IKE_STATE_DOWN && t->ipsec->status.state == IKE_STATE_UP) {
		log_notice(s->gw->log, "tunnel", t->conf->name, "IKE_SA ended");
	}
	t->ipsec->status = *st;
	t->ipsec->status_ms = now;
	ipsec_refresh(s, t, now);
}

static void on_failed(struct ipsec *s, const struct ike_event *e, uint64_t now)
{
	struct tunnel *t = ipsec_tunnel(s, e->tunnel);

	if (!t) {
		log_limited(s->gw->log, &s->unknown_log, now, LOG_LEVEL_WARNING, "ike", NULL, "%s", e->text);
		return;
	}
	t->ipsec->failures++;
	snprintf(t->ipsec->last_failure, sizeof(t->ipsec->last_failure), "%s", e->text);
	log_limited(s->gw->log, &t->loglim, now, LOG_LEVEL_WARNING, "tunnel", t->conf->name,
		"handshake failed: %s", e->text);
}

static void on_log(struct ipsec *s, const struct ike_event *e)
{
	const struct tunnel *t = ipsec_tunnel(s, e->tunnel);

	log_msg(s->gw->log, e->level, t ? "tunnel" : "ike", t ? t->conf->name : NULL, "%s%s",
		t ? "ike: " : "", e->text);
}

/* A branch that is not in the file when the gateway is killed is not called back, and a stock one would wait for good: so
 * it is written as soon as something changed, but not for each of many that come at once. */
static void write_peers(struct ipsec *s, uint64_t now)
{
	int r;

	if (!peers_changed(s->peers) || now < s->written_ms + WRITE_MS)
		return;
	s->written_ms = now;
	r = peers_write(s->peers);
	if (r < 0)
		log_limited(s->gw->log, &s->unknown_log, now, LOG_LEVEL_WARNING, "ipsec", NULL,
			"cannot write where branches are: %s", strerror(-r));
}

void ipsec_drain(struct ipsec *s)
{
	uint64_t now = gateway_now();
	struct mail *next;

	for (struct mail *m = mailbox_take(s->box); m; m = next) {
		struct ike_event *e = (struct ike_event *)m;

		_Static_assert(offsetof(struct ike_event, mail) == 0, "a mail is the event that it begins");
		next = m->next;
		switch (s->closing ? IKE_EVENT_LOG : e->kind) {
		case IKE_EVENT_SA_ADD:
			on_add(s, e, now);
			break;
		case IKE_EVENT_SA_UPDATE:
			on_update(s, e, now);
			break;
		case IKE_EVENT_SA_DELETE:
			on_delete(s, e, now);
			break;
		case IKE_EVENT_STATUS:
			on_status(s, e, now);
			break;
		case IKE_EVENT_FAILED:
			on_failed(s, e, now);
			break;
		case IKE_EVENT_LOG:
			if (e->kind == IKE_EVENT_LOG)
				on_log(s, e);
			break;
		}
		ike_event_free(e);
	}
	if (!s->closing)
		write_peers(s, now);
}

static void on_wake(uv_async_t *h)
{
	ipsec_drain(h->data);
}

static void wake(void *arg)
{
	struct ipsec *s = arg;

	uv_async_send(&s->wake);
}

/* ---- lifetimes, errors, clock ----------------------------------------------------------------------- */

static void on_expire(void *arg, const struct sa *sa, bool hard)
{
	struct ipsec *s = arg;
	struct tunnel *t = ipsec_tunnel(s, sa->tunnel);

	ike_expire(s->ike, sa, hard);
	if (t && hard)
		ipsec_refresh(s, t, gateway_now());
}

void ipsec_tick(struct ipsec *s)
{
	uint64_t now = gateway_now();

	sad_tick(s->sad, now, TICK_BUDGET, on_expire, s);
	path_drop(s->gw->path, NULL, DROP_ESP_HELD, sad_held_dropped(s->sad));
	write_peers(s, now);
}

void ipsec_second(struct ipsec *s)
{
	if (!s->unlocked_told && !crypto_keys_locked(s->keys)) {
		s->unlocked_told = true;
		log_warning(s->gw->log, "ipsec", NULL,
			"keys may be swapped out: the limit of locked memory (RLIMIT_MEMLOCK) is too low");
	}
	for (int p = 0; p < IPSEC_PORTS; p++) {
		for (int f = 0; f < 2; f++) {
			uint32_t lost = s->sock[p][f] ? ipsec_sock_lost(s->sock[p][f]) : 0;

			path_drop(s->gw->path, NULL, DROP_RX_QUEUE, lost - s->lost[p][f]);
			s->lost[p][f] = lost;
		}
	}
}

/* Anybody can send ICMP; who quotes the SPI of an SA that is in use saw a packet of it (RFC 4301 8.2.1). Who quotes addresses
 * and ports only, as routers do that know no more than RFC 792, may have guessed them: that makes no path smaller than any
 * link of today is. Only what is said about sizes is believed: that a branch is gone, DPD finds out. */
static void on_error(void *arg, const struct ipsec_error *e)
{
	struct ipsec *s = arg;
	uint64_t now = gateway_now();
	char who[ADDR_STRLEN];
	uint32_t mtu = e->spi || e->mtu > UNPROVEN_MTU ? e->mtu : UNPROVEN_MTU;
	const struct sa *sa;
	struct tunnel *t;

	if (!e->is_esp || e->err != EMSGSIZE)
		return;
	sa = sad_out_to(s->sad, &e->local, &e->remote, e->spi);
	t = sa ? ipsec_tunnel(s, sa->tunnel) : NULL;
	if (t && tunnel_path_mtu(t, mtu, now))
		log_limited(s->gw->log, &t->loglim, now, LOG_LEVEL_INFO, "tunnel", t->conf->name,
			"path MTU %u, says %s", t->pmtu, addr_str(&e->reporter, who));
}

static void on_socket(uv_poll_t *h, int status, int events)
{
	struct ipsec *s = h->data;
	size_t at = (size_t)(h - &s->poll[0][0]);
	struct ipsec_sock *sock = s->sock[at / 2][at % 2];

	(void)events;
	if (status < 0) {
		ipsec_sock_errors(sock, on_error, s);
		if (!s->closing)
			uv_poll_start(h, UV_READABLE, on_socket);
	}
	for (int i = 0; i < ROUNDS && rx_ipsec(s, sock) > 0; i++)
		;
}

/* ---- opening and closing ---------------------------------------------------------------------------- */

static int open_sockets(struct ipsec *s, char *err, size_t errlen)
{
	for (int p = 0; p < IPSEC_PORTS; p++) {
		for (int f = 0; f < 2; f++) {
			int r = ipsec_sock_open(&s->sock[p][f], (enum ipsec_port)p, f ? AF_INET6 : AF_INET,
				s->gw->conf->gateway.socket_buffer);

			if (f && (r == -EAFNOSUPPORT || r == -EADDRNOTAVAIL))
				continue; /* a machine without IPv6 */
			if (r == 0) {
				s->poll[p][f].data = s;
				r = uv_poll_init(s->gw->loop, &s->poll[p][f], ipsec_sock_fd(s->sock[p][f]));
				if (r < 0)
					s->poll[p][f].data = NULL;
				else
					s->handles++;
			}
			if (r == 0)
				r = uv_poll_start(&s->poll[p][f], UV_READABLE, on_socket);
			if (r < 0) {
				snprintf(err, errlen, "%s for %s: %s%s", port_names[p], f ? "IPv6" : "IPv4",
					strerror(-r),
					r == -EADDRINUSE ? " (does another key daemon run here?)" : "");
				return r;
			}
		}
	}
	return 0;
}

static int start_ike(struct ipsec *s, char *err, size_t errlen)
{
	const struct conf_ipsec *c = &s->gw->conf->ipsec;
	struct ike_options o = {.log = s->gw->log,
		.log_level = s->gw->conf->gateway.log_level,
		.box = s->box,
		.sad = s->sad,
		.keys = s->keys,
		.threads = c->threads,
		.cookie_threshold = c->cookie_threshold,
		.block_threshold = c->block_threshold,
		.half_open_max = c->half_open_max};

	for (int p = IPSEC_UDP_500; p <= IPSEC_UDP_4500; p++)
		for (int f = 0; f < 2; f++)
			o.sock[p][f] = s->sock[p][f];
	return ike_start(&s->ike, &o, err, errlen);
}

int ipsec_open(struct ipsec **out, struct gateway *gw, char *err, size_t errlen)
{
	static const enum crypto_provider provider[] = {[CRYPTO_PROVIDER_AUTO] = CRYPTO_AUTO,
		[CRYPTO_PROVIDER_MB] = CRYPTO_MB,
		[CRYPTO_PROVIDER_OPENSSL] = CRYPTO_OPENSSL};
	struct ipsec *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return -ENOMEM;
	s->gw = gw;
	*out = s; /* whatever comes of it: the caller closes it */
	s->q.buf = malloc(ESPQ_OCTETS);
	if (!s->q.buf)
		return -ENOMEM;
	r = crypto_keys_new(&s->keys, provider[gw->conf->ipsec.crypto]);
	if (r == -ENOTSUP)
		snprintf(err, errlen, "[ipsec] crypto: this machine does not have it");
	if (r == 0)
		r = crypto_new(&s->crypto, s->keys);
	if (r == 0)
		r = sad_new(&s->sad);
	if (r == 0)
		r = peers_open(&s->peers, gw->conf->gateway.state_dir);
	if (r == 0)
		r = mailbox_new(&s->box, wake, s);
	if (r == 0)
		r = uv_async_init(gw->loop, &s->wake, on_wake);
	if (r < 0)
		return r;
	s->handles++;
	s->wake.data = s;
	r = open_sockets(s, err, errlen);
	if (r == 0)
		r = start_ike(s, err, errlen);
	if (r == 0)
		log_info(gw->log, "ipsec", NULL, "strongSwan %s, ciphers of %s", ike_version(),
			ipsec_crypto(s));
	return r;
}

static void ipsec_free(struct ipsec *s)
{
	mailbox_free(s->box);
	peers_free(s->peers);
	if (s->sad)
		sad_free(s->sad);
	crypto_free(s->crypto);
	crypto_keys_free(s->keys);
	free(s->q.buf);
	free(s);
}

static void on_closed(uv_handle_t *h)
{
	struct ipsec *s = h->data;

	if (--s->handles == 0)
		ipsec_free(s);
}

void ipsec_close(struct ipsec *s)
{
	if (!s)
		return;
	s->closing = true;
	if (s->ike)
		ike_stop(s->ike);
	if (s->box)
		ipsec_drain(s);
	if (s->peers)
		(void)peers_write(s->peers);
	if (!s->handles) {
		ipsec_free(s);
		return;
	}
	for (int p = 0; p < IPSEC_PORTS; p++) {
		for (int f = 0; f < 2; f++) {
			if (s->poll[p][f].data)
				uv_close((uv_handle_t *)&s->poll[p][f], on_closed);
			ipsec_sock_close(
				s->sock[p][f]); /* after uv_close, which takes it out of the poll set */
		}
	}
	uv_close((uv_handle_t *)&s->wake, on_closed);
}

/* ---- connections ------------------------------------------------------------------------------------ */

/* The connection and all of its SAs: none is used from here on, whatever the key exchange still has to say to the peer. */
static void end_connection(struct ipsec *s, struct tunnel *t)
{
	const struct sa *sa;

	ike_remove(s->ike, t->ipsec->conn);
	while ((sa = sad_first(s->sad, t->ipsec->conn, true)))
		sa_free(sad_take_in(s->sad, sa->spi));
	while ((sa = sad_first(s->sad, t->ipsec->conn, false)))
		sa_free(sad_take_out(s->sad, sa->spi, t->ipsec->conn));
	*t->ipsec = (struct tunnel_ipsec){.conn = 0};
}

void ipsec_leave(
	struct ipsec *s, const struct tunnels *now, const struct tunnels *next, const struct config *conf)
{
	struct tunnel *t;

	ipsec_drain(s);
	for (uint32_t i = 0; (t = tunnels_at(now, i)); i++) {
		const struct conf_tunnel *c;

		if (!t->ipsec || !t->ipsec->conn)
			continue;
		c = tunnels_keeps(next, t) ? config_tunnel(conf, t->conf->name) : NULL;
		if (c && conf_connection_eq(t->conf, c))
			continue;
		log_notice(s->gw->log, "tunnel", t->conf->name,
			c ? "changed: its security associations end" : "removed");
		end_connection(s, t);
		if (!c)
			peers_set(s->peers, t->conf->name, 0, NULL);
	}
}

static void fill_connection(struct ike_conn *k, const struct tunnel *t)
{
	const struct conf_tunnel *c = t->conf;
	const struct conf_ike *i = &c->ike;

	*k = (struct ike_conn){.id = t->ipsec->conn,
		.name = c->name,
		.local = c->local,
		.remote = c->remote,
		.local_id = i->local_id,
		.remote_id = i->remote_id,
		.psk = (const uint8_t *)i->psk,
		.psk_len = i->psk_len,
		.cert_file = i->cert_file,
		.key_file = i->key_file,
		.ca_file = i->ca_file,
		.ike_proposals = (const char *const *)i->ike_proposals.s,
		.nike_proposals = (uint32_t)i->ike_proposals.n,
		.esp_proposals = (const char *const *)i->esp_proposals.s,
		.nesp_proposals = (uint32_t)i->esp_proposals.n,
		.local_ts = i->local_ts.p,
		.nlocal_ts = (uint32_t)i->local_ts.n,
		.remote_ts = i->remote_ts.p,
		.nremote_ts = (uint32_t)i->remote_ts.n,
		.transport = i->mode == IPSEC_TRANSPORT,
		.ts_proto = i->mode == IPSEC_TRANSPORT ? IPPROTO_GRE : 0,
		.initiate = i->initiate,
		.mobike = i->mobike,
		.fragmentation = i->fragmentation,
		.force_encap = i->force_encap,
		.ike_rekey_s = i->ike_rekey,
		.ike_reauth_s = i->ike_reauth,
		.child_rekey_s = i->child_rekey,
		.child_rekey_octets = i->child_rekey_bytes,
		.child_rekey_packets = i->child_rekey_packets,
		.dpd_s = i->dpd_delay,
		.replay_window = i->replay_window,
		.tfc = (uint16_t)i->tfc_padding};
}

/* A branch of the last run, where it was seen last: unless we call it anyway, at the address that the file says. */
static void call_back(struct ipsec *s, const struct tunnel *t)
{
	struct sa_end remote;
	uint16_t local_port;

	if (!peers_find(s->peers, t->conf->name, &local_port, &remote))
		return;
	if (!addr_is_none(&t->conf->remote) && t->conf->ike.initiate)
		return;
	(void)ike_initiate(s->ike, t->ipsec->conn, &remote, local_port);
}

void ipsec_enter(struct ipsec *s, bool first)
{
	struct tunnel *t;

	for (uint32_t i = 0; (t = tunnels_at(s->gw->tunnels, i)); i++) {
		struct ike_conn k;
		char err[256] = "";
		int r;

		if (!t->ipsec || t->ipsec->conn || t->id == FS_ID_NONE)
			continue;
		if (++s->generation == 0)
			s->generation = 1;
		t->ipsec->conn = (uint32_t)s->generation << 16 | FS_SLOT(t->id);
		fill_connection(&k, t);
		r = ike_add(s->ike, &k, err, sizeof(err));
		if (r < 0) {
			log_error(s->gw->log, "tunnel", t->conf->name, "stays down: %s",
				err[0] ? err : strerror(-r));
			t->ipsec->conn = 0;
		} else if (first) {
			call_back(s, t);
		}
	}
}

/* ---- steering and looking --------------------------------------------------------------------------- */

int ipsec_steer(struct ipsec *s, const struct tunnel *t, enum ipsec_steer what)
{
	struct sa_end remote;
	uint16_t local_port;

	if (!t->ipsec || !t->ipsec->conn)
		return -ENOENT;
	switch (what) {
	case IPSEC_INITIATE:
		if (!addr_is_none(&t->conf->remote))
			return ike_initiate(s->ike, t->ipsec->conn, NULL, IKE_PORT);
		if (!peers_find(s->peers, t->conf->name, &local_port, &remote))
			return -EDESTADDRREQ;
		return ike_initiate(s->ike, t->ipsec->conn, &remote, local_port);
	case IPSEC_REKEY_IKE:
		return ike_rekey(s->ike, t->ipsec->conn, false);
	case IPSEC_REKEY_CHILD:
		return ike_rekey(s->ike, t->ipsec->conn, true);
	case IPSEC_TERMINATE:
		return ike_terminate(s->ike, t->ipsec->conn);
	}
	return -EINVAL;
}

const struct sa *ipsec_sas(const struct ipsec *s, const struct tunnel *t, bool inbound)
{
	return t->ipsec && t->ipsec->conn ? sad_first(s->sad, t->ipsec->conn, inbound) : NULL;
}

const char *ipsec_crypto(const struct ipsec *s)
{
	enum conf_crypto c = s->gw->conf->ipsec.crypto;

	return crypto_provider_name(c == CRYPTO_PROVIDER_MB        ? CRYPTO_MB
				    : c == CRYPTO_PROVIDER_OPENSSL ? CRYPTO_OPENSSL
								   : CRYPTO_AUTO);
}
