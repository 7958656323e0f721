/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ipsec.c - IPsec in the gateway: opening and closing, sockets, the clock.
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

#define TICK_BUDGET 4096 /* SAs looked at ten times a second */
#define SEEN_MS                                                                                              \
	300000 /* between two times that it is noted who is up: so wrong the file may be after a kill */
#define UNPROVEN_MTU 1280 /* what an ICMP error that quotes no SPI can lower the path's MTU to */

static const char *const port_names[IPSEC_PORTS] = {"UDP port 500", "UDP port 4500", "ESP"};

/* ---- the mailbox -------------------------------------------------------------------------------------- */

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

void ipsec_used(struct ipsec *s, struct sa *sa)
{
	sad_used(sa, on_expire, s);
}

static const struct addr *ipsec_source(const struct tunnel *t, int family)
{
	const struct tunnel *carrier = t->over ? t->over : t;
	bool is4 = family == AF_INET;

	if (!carrier->ipsec || addr_is_none(&carrier->ipsec->remote.a) ||
		addr_is4(&carrier->ipsec->remote.a) != is4)
		return NULL;
	return &carrier->ipsec->remote.a;
}

static void police(struct ipsec *s)
{
	static const bool udp[] = {true, false};

	for (int f = 0; f < 2; f++) {
		struct ipsec_sock *sock[] = {s->sock[IPSEC_UDP_4500][f], s->sock[IPSEC_RAW][f]};
		int fd[2];

		for (int i = 0; i < 2; i++)
			fd[i] = sock[i] ? ipsec_sock_fd(sock[i]) : -1;
		police_tick(s->gw, &s->police[f], ipsec_source, f ? AF_INET6 : AF_INET, fd, 2, udp);
	}
}

void ipsec_tick(struct ipsec *s)
{
	uint64_t now = gateway_now();

	police(s);
	sad_tick(s->sad, now, TICK_BUDGET, on_expire, s);
	path_drop(s->gw->path, NULL, DROP_ESP_HELD, sad_held_dropped(s->sad));
	ipsec_write_peers(s, now);
}

void ipsec_second(struct ipsec *s)
{
	uint64_t now = gateway_now();

	if (now >= s->seen_ms + SEEN_MS) {
		s->seen_ms = now;
		ipsec_seen_all(s, now);
	}
	ipsec_call_again(s, now);
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
		r = peers_open(&s->peers, gw->conf->gateway.state_dir, gateway_now() / 1000);
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
	if (s->peers) {
		ipsec_seen_all(s, gateway_now());
		(void)peers_write(s->peers);
	}
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

void ipsec_log_level(struct ipsec *s, enum log_level level)
{
	ike_log_level(s->ike, level);
}

const char *ipsec_crypto(const struct ipsec *s)
{
	enum conf_crypto c = s->gw->conf->ipsec.crypto;

	return crypto_provider_name(c == CRYPTO_PROVIDER_MB        ? CRYPTO_MB
				    : c == CRYPTO_PROVIDER_OPENSSL ? CRYPTO_OPENSSL
								   : CRYPTO_AUTO);
}
