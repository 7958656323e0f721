/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ipsec_conns.c - connections: told to the key exchange at a start and a reload, called back, steered by the operator. */
#include "gateway/ipsec_private.h"

#include <errno.h>
#include <stdio.h>

/* A branch that was up longer ago has found out, and another may have its address by now (RFC 7296 2.15: whoever is called
 * gets what is needed to guess a weak key). */
#define CALL_BACK_S 3600
/* A branch that cannot be reached just now, or whose key is changed a little later than ours, is tried again within that hour. */
#define CALL_AGAIN_MIN_S 15u
#define CALL_AGAIN_MAX_S 120u

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
			peers_forget(s->peers, t->conf->name);
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

/* ---- calling back --------------------------------------------------------------------------------------- */

void ipsec_seen(struct ipsec *s, const struct tunnel *t, const struct ike_status *st, uint64_t now)
{
	const struct peer_place at = {tunnel_identity(t->conf), st->local.port, st->remote, now / 1000};

	peers_set(s->peers, t->conf->name, &at);
}

void ipsec_seen_all(struct ipsec *s, uint64_t now)
{
	struct tunnel *t;

	for (uint32_t i = 0; (t = tunnels_at(s->gw->tunnels, i)); i++)
		if (t->ipsec && t->ipsec->status.state == IKE_STATE_UP)
			ipsec_seen(s, t, &t->ipsec->status, now);
}

/* A branch of the last run, or whose connection a reload has ended, where it was seen last: a stock one would wait for good.
 * Unless we call it anyway. If the tunnel has become another's meanwhile,
 * its branch is where the configuration says, and nowhere else; through a NAT, by the mapping that was known. */
static void call_back(struct ipsec *s, struct tunnel *t)
{
	const struct addr *configured = &t->conf->remote;
	struct peer_place at;

	t->ipsec->call_wait_s = 0;
	if (!peers_find(s->peers, t->conf->name, &at) || gateway_now() / 1000 - at.seen_s > CALL_BACK_S)
		return;
	if (!addr_is_none(configured) && t->conf->ike.initiate)
		return;
	if (at.identity == tunnel_identity(t->conf) || addr_eq(&at.remote.a, configured))
		(void)ike_initiate(s->ike, t->ipsec->conn, &at.remote, at.local_port);
	else if (!addr_is_none(configured))
		(void)ike_initiate(s->ike, t->ipsec->conn, NULL, IKE_PORT);
	else
		return;
	t->ipsec->call_wait_s = CALL_AGAIN_MIN_S;
	t->ipsec->call_ms = gateway_now() + CALL_AGAIN_MIN_S * 1000;
}

void ipsec_call_again(struct ipsec *s, uint64_t now)
{
	struct tunnel *t;

	for (uint32_t i = 0; (t = tunnels_at(s->gw->tunnels, i)); i++) {
		uint32_t wait = t->ipsec ? t->ipsec->call_wait_s : 0;

		if (!wait || now < t->ipsec->call_ms || t->ipsec->status.state == IKE_STATE_CONNECTING)
			continue;
		if (t->ipsec->status.state == IKE_STATE_UP) {
			t->ipsec->call_wait_s = 0;
			continue;
		}
		call_back(s, t);
		if (!t->ipsec->call_wait_s)
			continue;
		t->ipsec->call_wait_s = wait * 2 < CALL_AGAIN_MAX_S ? wait * 2 : CALL_AGAIN_MAX_S;
		t->ipsec->call_ms = now + t->ipsec->call_wait_s * UINT64_C(1000);
	}
}

/* Is it where this tunnel's branch was? Another one may have the name now, after a start with another configuration. */
static bool is_of_tunnel(void *arg, const char *name, const struct peer_place *at)
{
	const struct ipsec *s = arg;
	const struct tunnel *t = tunnels_by_name(s->gw->tunnels, name);

	return t && t->ipsec && at->identity == tunnel_identity(t->conf);
}

/* ---- at a start and a reload ------------------------------------------------------------------------------ */

void ipsec_enter(struct ipsec *s)
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
		} else {
			call_back(s, t);
		}
	}
	peers_sift(s->peers, is_of_tunnel, s);
}

/* ---- steering and looking --------------------------------------------------------------------------- */

int ipsec_steer(struct ipsec *s, const struct tunnel *t, enum ipsec_steer what)
{
	struct peer_place at;

	if (!t->ipsec || !t->ipsec->conn)
		return -ENOENT;
	switch (what) {
	case IPSEC_INITIATE:
		if (!addr_is_none(&t->conf->remote))
			return ike_initiate(s->ike, t->ipsec->conn, NULL, IKE_PORT);
		if (!peers_find(s->peers, t->conf->name, &at))
			return -EDESTADDRREQ;
		return ike_initiate(s->ike, t->ipsec->conn, &at.remote, at.local_port);
	case IPSEC_REKEY_IKE:
		return ike_rekey(s->ike, t->ipsec->conn, false);
	case IPSEC_REKEY_CHILD:
		return ike_rekey(s->ike, t->ipsec->conn, true);
	case IPSEC_TERMINATE:
		t->ipsec->call_wait_s = 0;
		return ike_terminate(s->ike, t->ipsec->conn);
	}
	return -EINVAL;
}

const struct sa *ipsec_sas(const struct ipsec *s, const struct tunnel *t, bool inbound)
{
	return t->ipsec && t->ipsec->conn ? sad_first(s->sad, t->ipsec->conn, inbound) : NULL;
}
