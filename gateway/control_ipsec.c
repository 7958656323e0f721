/* SPDX-License-Identifier: GPL-2.0-or-later */
/* control_ipsec.c - what the control socket says of IPsec, and the commands that steer it.
 *
 * Times that the key exchange told with a state count on from when it told them. A member that does not apply is left
 * out: a connection that is down has no peer, one that is never renewed has no time until then.
 *
 * References: RFC 7296, 4301.
 */
#include "gateway/control_private.h"
#include "gateway/gateway.h"
#include "gateway/ipsec_private.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <uv.h>

#define SAS_MAX 8 /* of a tunnel, in a row: two pairs that are being renewed, and those before them */

/* ---- the IKE_SA ------------------------------------------------------------------------------------- */

static void put_end(struct jsonw *w, const char *key, const struct sa_end *e)
{
	if (addr_is_none(&e->a))
		return;
	jw_open(w, key, '{');
	jw_addr(w, "address", &e->a);
	jw_u64(w, "port", e->port);
	jw_close(w, '}');
}

static void put_text(struct jsonw *w, const char *key, const char *s)
{
	if (*s)
		jw_str(w, key, s);
}

/* What was left of a time passed seconds ago; 0 stands for "none". */
static void put_left(struct jsonw *w, const char *key, uint64_t left, uint64_t passed)
{
	if (left)
		jw_u64(w, key, left > passed ? left - passed : 0);
}

static const char *nat(const struct ike_status *st)
{
	if (st->nat_local)
		return st->nat_remote ? "both" : "local";
	return st->nat_remote ? "remote" : "none";
}

static void put_ike(struct jsonw *w, const struct tunnel_ipsec *t, uint64_t now)
{
	static const char *const states[] = {[IKE_STATE_DOWN] = "down",
		[IKE_STATE_CONNECTING] = "connecting",
		[IKE_STATE_UP] = "established"};
	const struct ike_status *st = &t->status;
	uint64_t passed = control_seconds(t->status_ms, now);

	jw_open(w, "ike", '{');
	jw_str(w, "state", states[st->state]);
	if (st->state != IKE_STATE_DOWN) {
		jw_str(w, "role", st->initiator ? "initiator" : "responder");
		put_end(w, "local", &st->local);
		put_end(w, "remote", &st->remote);
	}
	if (st->state == IKE_STATE_UP) {
		put_text(w, "local_id", st->local_id);
		put_text(w, "remote_id", st->remote_id);
		put_text(w, "algorithms", st->algorithms);
		jw_str(w, "nat", nat(st));
		jw_u64(w, "age_s", st->established_s_ago + passed);
		put_left(w, "rekey_in_s", st->rekey_in_s, passed);
		put_left(w, "reauth_in_s", st->reauth_in_s, passed);
	}
	jw_u64(w, "failures", t->failures);
	put_text(w, "last_failure", t->last_failure);
	jw_close(w, '}');
}

/* ---- security associations -------------------------------------------------------------------------- */

static void put_sa(struct jsonw *w, const struct sa *sa, bool current, uint64_t now)
{
	uint64_t age = control_seconds(sa->born_ms, now);
	char spi[9];

	snprintf(spi, sizeof(spi), "%08" PRIx32, sa->spi);
	jw_open(w, NULL, '{');
	jw_str(w, "direction", sa->inbound ? "in" : "out");
	jw_str(w, "spi", spi);
	jw_str(w, "suite", sa->suite->name);
	jw_bool(w, "esn", sa->esn);
	jw_str(w, "mode", sa->transport ? "transport" : "tunnel");
	jw_bool(w, "udp", sa->remote.port != 0);
	jw_u64(w, "age_s", age);
	put_left(w, "rekey_in_s", sa->time_s.soft, age);
	put_left(w, "expires_in_s", sa->time_s.hard, age);
	jw_u64(w, "packets", atomic_load_explicit(&sa->use->packets, memory_order_relaxed));
	jw_u64(w, "bytes", atomic_load_explicit(&sa->use->octets, memory_order_relaxed));
	if (sa->inbound) {
		jw_u64(w, "replay_window", sa->replay.window);
		jw_u64(w, "replayed", sa->replayed);
		jw_u64(w, "bad_icv", sa->bad_icv);
	} else {
		jw_bool(w, "current", current);
	}
	jw_close(w, '}');
}

/* The one that is sent by first, then the newest of each direction in turn, so that a row that cannot have all of them has
 * those that matter. */
static void put_sas(struct jsonw *w, const struct gateway *gw, const struct tunnel *t, uint64_t now)
{
	const struct sa *current = sad_out(gw->ipsec->sad, t->ipsec->conn, now);
	const struct sa *next[2] = {ipsec_sas(gw->ipsec, t, false), ipsec_sas(gw->ipsec, t, true)};
	uint64_t listed = 0, more = 0;
	bool in = current != NULL;

	jw_open(w, "children", '[');
	if (current) {
		put_sa(w, current, true, now);
		listed++;
	}
	for (; next[0] || next[1]; in = !in) {
		const struct sa *sa = next[in];

		if (!sa)
			continue;
		next[in] = sa->next;
		if (sa == current)
			in = !in; /* it had its turn */
		else if (listed == SAS_MAX)
			more++;
		else {
			put_sa(w, sa, false, now);
			listed++;
		}
	}
	jw_close(w, ']');
	if (more)
		jw_u64(w, "children_more", more);
}

void control_put_ipsec(struct jsonw *w, const struct gateway *gw, const struct tunnel *t, uint64_t now_ms)
{
	put_ike(w, t->ipsec, now_ms);
	if (gw->ipsec && t->ipsec->conn) {
		put_sas(w, gw, t, now_ms);
		return;
	}
	jw_open(w, "children", '[');
	jw_close(w, ']');
}

void control_put_ipsec_status(struct jsonw *w, const struct gateway *gw)
{
	uint64_t n[IKE_STATE_UP + 1] = {0};
	const struct tunnel *t;

	if (!gw->ipsec)
		return;
	for (uint32_t i = 0; (t = tunnels_at(gw->tunnels, i)); i++)
		if (t->ipsec)
			n[t->ipsec->status.state]++;
	jw_open(w, "ipsec", '{');
	jw_str(w, "strongswan", ike_version());
	jw_str(w, "crypto", ipsec_crypto(gw->ipsec));
	jw_u64(w, "established", n[IKE_STATE_UP]);
	jw_u64(w, "connecting", n[IKE_STATE_CONNECTING]);
	jw_close(w, '}');
}

/* ---- steering --------------------------------------------------------------------------------------- */

/* The ipsec tunnel that args name; NULL: an error was written. */
static const struct tunnel *arg_tunnel(const struct control_request *r, const json_t *args, struct jsonw *w)
{
	const struct tunnel *t;
	const char *name = NULL;

	if (!control_arg_str(r, w, args, "tunnel", &name))
		return NULL;
	if (!name) {
		control_error(r, w, "invalid_argument", "tunnel: must be given");
		return NULL;
	}
	t = tunnels_by_name(r->gw->tunnels, name);
	if (!t)
		control_error(r, w, "not_found", "no tunnel has this name");
	else if (!t->ipsec)
		control_error(r, w, "invalid_argument", "tunnel: must be one of type ipsec");
	return t && t->ipsec ? t : NULL;
}

static const char *steer_error(int err)
{
	switch (err) {
	case -ENOENT:
		return "its connection could not be set up; arrd's log says why";
	case -EDESTADDRREQ:
		return "remote = any, and its branch was never seen: nobody knows where to call";
	default:
		return uv_strerror(err);
	}
}

/* What comes of it shows later, in the tunnel's state and in the log: the key exchange does it, and its peer has a say. */
static void steer(struct control_request *r, struct jsonw *w, const struct tunnel *t, enum ipsec_steer what)
{
	static const char *const words[] = {[IPSEC_INITIATE] = "to be brought up",
		[IPSEC_REKEY_IKE] = "to renew its IKE_SA",
		[IPSEC_REKEY_CHILD] = "to renew its CHILD_SAs",
		[IPSEC_TERMINATE] = "to be ended"};
	int err = r->gw->ipsec ? ipsec_steer(r->gw->ipsec, t, what) : -ENOENT;

	if (err) {
		control_error(r, w, "failed", "%s", steer_error(err));
		return;
	}
	log_notice(r->gw->log, "tunnel", t->conf->name, "%s, asked for by uid %u, pid %d", words[what],
		(unsigned)r->peer.uid, (int)r->peer.pid);
	control_result_begin(r, w);
	jw_bool(w, "started", true);
	control_result_end(w);
}

void control_initiate(struct control_request *r, const json_t *args, struct jsonw *w)
{
	const struct tunnel *t = arg_tunnel(r, args, w);

	if (t)
		steer(r, w, t, IPSEC_INITIATE);
}

void control_rekey(struct control_request *r, const json_t *args, struct jsonw *w)
{
	const json_t *ike = json_object_get(args, "ike");
	const struct tunnel *t = arg_tunnel(r, args, w);

	if (!t)
		return;
	if (ike && !json_is_boolean(ike)) {
		control_error(r, w, "invalid_argument", "ike: must be true or false");
		return;
	}
	if (t->ipsec->status.state != IKE_STATE_UP || (!json_is_true(ike) && !t->ipsec->suite)) {
		control_error(r, w, "failed", "it is down: there is nothing to renew");
		return;
	}
	steer(r, w, t, json_is_true(ike) ? IPSEC_REKEY_IKE : IPSEC_REKEY_CHILD);
}

void control_terminate(struct control_request *r, const json_t *args, struct jsonw *w)
{
	const struct tunnel *t = arg_tunnel(r, args, w);

	if (t)
		steer(r, w, t, IPSEC_TERMINATE);
}
