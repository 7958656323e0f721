/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ike_bus.c - what becomes of IKE_SAs: libcharon's listener, which keeps the list of each connection's IKE_SAs and tells
 * the loop.
 *
 * The IKE_SA that a connection established last is the one that counts; while there is none, the connection is connecting
 * or down. Whatever changes that is told by tell(), and by nothing else.
 *
 * An IKE_SA whose connection was removed meanwhile is refused at its authentication, and ended wherever else it shows up.
 */
#include "ipsec/ike_private.h"

#include <stdio.h>
#include <stdlib.h>

static struct ike *of_listener(listener_t *l)
{
	return (struct ike *)(void *)((char *)l - offsetof(struct ike, listener));
}

/* ---- the list of a connection's IKE_SAs, with the lock held --------------------------------------------- */

static struct ike_sa_ref **find(struct conn *c, uint32_t unique)
{
	struct ike_sa_ref **p;

	for (p = &c->sas; *p && (*p)->status.ike != unique; p = &(*p)->next)
		;
	return p;
}

static void ref_free(struct ike_sa_ref *r)
{
	r->id->destroy(r->id);
	free(r);
}

void ike_bus_drop(struct conn *c)
{
	struct ike_sa_ref *r;

	while ((r = c->sas)) {
		c->sas = r->next;
		ref_free(r);
	}
}

static const struct ike_sa_ref *current(const struct conn *c)
{
	const struct ike_sa_ref *best = NULL;

	for (const struct ike_sa_ref *r = c->sas; r; r = r->next) {
		if (r->status.state == IKE_STATE_DOWN)
			continue;
		if (!best || r->status.state > best->status.state ||
			(r->status.state == best->status.state && r->since_ms > best->since_ms))
			best = r;
	}
	return best;
}

static void tell(struct ike *ike, struct conn *c, uint32_t old)
{
	struct ike_event *v = ike_event_new(IKE_EVENT_STATUS, c->id);
	const struct ike_sa_ref *r = current(c);

	if (!v)
		return;
	v->status = calloc(1, sizeof(*v->status));
	if (!v->status) {
		ike_event_free(v);
		return;
	}
	if (r) {
		*v->status = r->status;
		if (r->since_ms)
			v->status->established_s_ago = (ike_now_ms() - r->since_ms) / 1000;
	}
	v->old = old;
	if (c->told == IKE_STATE_UP && v->status->state != IKE_STATE_UP)
		ike_steer_is_down(c);
	c->told = v->status->state;
	c->told_ike = v->status->ike;
	ike_post(ike, v);
}

static void tell_if_new(struct ike *ike, struct conn *c)
{
	const struct ike_sa_ref *r = current(c);

	if (c->told != (r ? r->status.state : IKE_STATE_DOWN) || c->told_ike != (r ? r->status.ike : 0))
		tell(ike, c, 0);
}

/* ---- what an IKE_SA says of itself: by the thread that works on it, no lock -------------------------------- */

static uint64_t seconds_until(ike_sa_t *sa, statistic_t what)
{
	uint32_t at = sa->get_statistic(sa, what), now = (uint32_t)time_monotonic(NULL);
	return at > now ? at - now : 0;
}

static void describe(ike_sa_t *sa, struct ike_status *s)
{
	proposal_t *proposal = sa->get_proposal(sa);
	char text[sizeof(s->algorithms)] = "";

	s->ike = sa->get_unique_id(sa);
	s->initiator = sa->has_condition(sa, COND_ORIGINAL_INITIATOR);
	s->nat_local = sa->has_condition(sa, COND_NAT_HERE);
	s->nat_remote = sa->has_condition(sa, COND_NAT_THERE);
	s->local = ike_end_from_host(sa->get_my_host(sa));
	s->remote = ike_end_from_host(sa->get_other_host(sa));
	ike_print(s->local_id, sizeof(s->local_id), "%Y", sa->get_my_id(sa));
	ike_print(s->remote_id, sizeof(s->remote_id), "%Y", sa->get_other_id(sa));
	if (proposal)
		ike_print(text, sizeof(text), "%P", proposal);
	snprintf(s->algorithms, sizeof(s->algorithms), "%s", strncmp(text, "IKE:", 4) ? text : text + 4);
	s->rekey_in_s = seconds_until(sa, STAT_REKEY);
	s->reauth_in_s = seconds_until(sa, STAT_REAUTH);
}

/* Sets what an IKE_SA is now, in its connection's list. With the lock held. False: no memory. */
static bool note(struct conn *c, ike_sa_t *sa, const struct ike_status *s)
{
	struct ike_sa_ref *r = *find(c, s->ike);
	ike_sa_id_t *id = sa->get_id(sa);

	if (!r) {
		r = calloc(1, sizeof(*r));
		if (!r)
			return false;
		r->id = id->clone(id);
		r->next = c->sas;
		c->sas = r;
	}
	r->id->replace_values(r->id, id);
	r->status = *s;
	if (s->state == IKE_STATE_UP && !r->since_ms)
		r->since_ms = ike_now_ms();
	return true;
}

/* One peer a connection. libcharon sees to that among peers of one address family, but for two handshakes that were begun
 * from both sides at the same time. With the lock held. */
static void end_others(struct ike *ike, struct conn *c, const struct ike_status *s, ike_sa_id_t *id)
{
	const struct ike_sa_ref *mine = *find(c, s->ike);

	for (struct ike_sa_ref *r = c->sas; r; r = r->next) {
		bool at_once = mine->since_ms - r->since_ms < 2000;

		if (r == mine || r->status.state != IKE_STATE_UP)
			continue;
		if (addr_is4(&r->status.remote.a) != addr_is4(&s->remote.a)) {
			r->replaced = true;
			ike_steer_end(ike, r->id);
		} else if (r->status.initiator != s->initiator && at_once) {
			ike_steer_end_one(ike, r->id, id);
		}
	}
}

/* ---- what libcharon tells -------------------------------------------------------------------------------- */

/* A peer may begin one after the other without CHILD_SAs, or renew one again and again: libcharon ends what is replaced, but
 * some time later. With the lock held. */
static unsigned count_sas(const struct conn *c)
{
	unsigned n = 0;

	for (const struct ike_sa_ref *r = c->sas; r; r = r->next)
		n++;
	return n;
}

/* The newest stay. With the lock held. */
static void end_surplus(struct ike *ike, struct conn *c)
{
	unsigned n = 0;

	for (struct ike_sa_ref *r = c->sas; r; r = r->next)
		if (++n > IKE_SAS_MAX)
			ike_steer_end(ike, r->id);
}

static bool on_authorize(listener_t *l, ike_sa_t *sa, bool final, bool *success)
{
	struct ike *ike = of_listener(l);
	struct ike_status s = {.state = IKE_STATE_CONNECTING};
	struct conn *c;

	if (!final)
		return true;
	describe(sa, &s);
	pthread_mutex_lock(&ike->lock);
	c = ike_conn_by_cfg(ike, sa->get_peer_cfg(sa));
	if (c && count_sas(c) >= IKE_SAS_MAX) {
		ike_post_failure(ike, c, "the peer has as many IKE_SAs as it may: another one is refused");
		*success = false;
	} else if (!c || !note(c, sa, &s)) {
		*success = false;
	}
	pthread_mutex_unlock(&ike->lock);
	return true;
}

static void forget(struct ike *ike, ike_sa_t *sa)
{
	struct ike_sa_ref **p, *r;
	struct conn *c;

	pthread_mutex_lock(&ike->lock);
	c = ike_conn_by_cfg(ike, sa->get_peer_cfg(sa));
	p = c ? find(c, sa->get_unique_id(sa)) : NULL;
	r = p ? *p : NULL;
	if (r) {
		*p = r->next;
		ref_free(r);
		tell_if_new(ike, c);
	}
	pthread_mutex_unlock(&ike->lock);
}

static void set_down(struct ike *ike, ike_sa_t *sa, bool quiet)
{
	struct ike_sa_ref *r;
	struct conn *c;

	pthread_mutex_lock(&ike->lock);
	c = ike_conn_by_cfg(ike, sa->get_peer_cfg(sa));
	r = c ? *find(c, sa->get_unique_id(sa)) : NULL;
	if (r) {
		r->status.state = IKE_STATE_DOWN;
		if (r->replaced)
			ike_kernel_forget_children(ike, c, sa);
		if (!quiet)
			tell_if_new(ike, c);
	}
	pthread_mutex_unlock(&ike->lock);
}

static void set_connecting(struct ike *ike, ike_sa_t *sa)
{
	struct ike_status s = {.state = IKE_STATE_CONNECTING};
	struct conn *c;

	describe(sa, &s);
	pthread_mutex_lock(&ike->lock);
	c = ike_conn_by_cfg(ike, sa->get_peer_cfg(sa));
	if (c && note(c, sa, &s))
		tell_if_new(ike, c);
	pthread_mutex_unlock(&ike->lock);
}

/* Established, or renewed: old is the predecessor's number then. */
static void set_up(struct ike *ike, ike_sa_t *sa, uint32_t old)
{
	struct ike_status s = {.state = IKE_STATE_UP};
	struct conn *c;

	describe(sa, &s);
	pthread_mutex_lock(&ike->lock);
	c = ike_conn_by_cfg(ike, sa->get_peer_cfg(sa));
	if (c && note(c, sa, &s)) {
		if (old)
			(*find(c, s.ike))->since_ms = ike_now_ms();
		else
			end_others(ike, c, &s, sa->get_id(sa));
		end_surplus(ike, c);
		ike_steer_is_up(c);
		tell(ike, c, old);
	}
	pthread_mutex_unlock(&ike->lock);
	if (!c)
		ike_steer_end(ike, sa->get_id(sa));
}

static bool on_ike_state_change(listener_t *l, ike_sa_t *sa, ike_sa_state_t state)
{
	struct ike *ike = of_listener(l);

	switch (state) {
	case IKE_CONNECTING:
		set_connecting(ike, sa);
		break;
	case IKE_REKEYED:
		set_down(ike, sa, true); /* its successor has been told of */
		break;
	case IKE_DELETING:
		set_down(ike, sa, false);
		break;
	case IKE_DESTROYING:
		forget(ike, sa);
		break;
	default:
		break;
	}
	return true;
}

static bool on_ike_updown(listener_t *l, ike_sa_t *sa, bool up)
{
	if (up)
		set_up(of_listener(l), sa, 0);
	else
		set_down(of_listener(l), sa, false);
	return true;
}

static bool on_ike_rekey(listener_t *l, ike_sa_t *old, ike_sa_t *new)
{
	set_up(of_listener(l), new, old->get_unique_id(old));
	return true;
}

static bool on_ike_update(listener_t *l, ike_sa_t *sa, host_t *local, host_t *remote)
{
	struct ike *ike = of_listener(l);
	struct ike_sa_ref *r;
	struct conn *c;

	pthread_mutex_lock(&ike->lock);
	c = ike_conn_by_cfg(ike, sa->get_peer_cfg(sa));
	r = c ? *find(c, sa->get_unique_id(sa)) : NULL;
	if (r) {
		r->status.local = ike_end_from_host(local);
		r->status.remote = ike_end_from_host(remote);
		if (r == current(c))
			tell(ike, c, 0);
	}
	pthread_mutex_unlock(&ike->lock);
	return true;
}

/* ---- failures ---------------------------------------------------------------------------------------- */

/* Alerts that tell why, or what; the failure itself is told by another one. */
static bool is_remark(alert_t alert, enum log_level *level)
{
	switch (alert) {
	case ALERT_UNIQUE_REPLACE:
		*level = LOG_LEVEL_NOTICE;
		return true;
	case ALERT_CERT_EXPIRED:
	case ALERT_CERT_REVOKED:
	case ALERT_CERT_NO_ISSUER:
	case ALERT_CERT_UNTRUSTED_ROOT:
	case ALERT_CERT_EXCEEDED_PATH_LEN:
	case ALERT_CERT_POLICY_VIOLATION:
		*level = LOG_LEVEL_WARNING;
		return true;
	default:
		return false;
	}
}

/* What is said of an alert, or NULL. The peer's address and identity are put behind it. */
static const char *sentence(alert_t alert, ike_sa_t *sa)
{
	bool known = sa && sa->get_peer_cfg(sa);

	switch (alert) {
	case ALERT_KEEP_ON_CHILD_SA_FAILURE:
		/* As responder we have said why already. */
		return sa && sa->has_condition(sa, COND_ORIGINAL_INITIATOR) ? "the peer refused the CHILD_SA"
									    : NULL;
	case ALERT_LOCAL_AUTH_FAILED:
		return "our authentication failed, or the peer refused it";
	case ALERT_PEER_AUTH_FAILED:
		return known ? "the peer could not authenticate itself"
			     : "nobody of that identity is expected from there";
	case ALERT_RETRANSMIT_SEND_TIMEOUT:
		return "the peer does not answer";
	case ALERT_PROPOSAL_MISMATCH_IKE:
		return "no IKE proposal in common";
	case ALERT_PROPOSAL_MISMATCH_CHILD:
		return "no ESP proposal in common";
	case ALERT_TS_MISMATCH:
		return "no traffic selectors in common";
	case ALERT_INSTALL_CHILD_SA_FAILED:
		return "the security association could not be set up";
	case ALERT_IKE_SA_EXPIRED:
		return "the IKE_SA reached its end before it was renewed";
	case ALERT_CERT_EXPIRED:
		return "the peer's certificate is not valid now";
	case ALERT_CERT_REVOKED:
		return "the peer's certificate was revoked";
	case ALERT_CERT_NO_ISSUER:
	case ALERT_CERT_UNTRUSTED_ROOT:
		return "the peer's certificate does not come from ca_file";
	case ALERT_CERT_EXCEEDED_PATH_LEN:
	case ALERT_CERT_POLICY_VIOLATION:
		return "the peer's certificate is not acceptable";
	case ALERT_UNIQUE_REPLACE:
		return "a second peer of the same identity takes the place of";
	default:
		return NULL;
	}
}

static bool on_alert(listener_t *l, ike_sa_t *sa, alert_t what, va_list args)
{
	struct ike *ike = of_listener(l);
	const char *text = sentence(what, sa);
	char line[512], peer[320] = "";
	enum log_level level;
	struct ike_sa_ref *r;
	struct conn *c;

	if (!text)
		return true;
	if (sa)
		ike_print(peer, sizeof(peer), ": %#H, '%Y'", sa->get_other_host(sa), sa->get_other_id(sa));
	snprintf(line, sizeof(line), "%s%s", text, peer);
	pthread_mutex_lock(&ike->lock);
	c = sa ? ike_conn_by_cfg(ike, sa->get_peer_cfg(sa)) : NULL;
	r = c ? *find(c, sa->get_unique_id(sa)) : NULL;
	if (r && what == ALERT_UNIQUE_REPLACE)
		r->replaced = true;
	if (!is_remark(what, &level))
		ike_post_failure(ike, c, line);
	else if (log_limit_ok(c ? &c->remarked : &ike->remarked, ike_now_ms()))
		ike_post_text(ike, IKE_EVENT_LOG, c ? c->id : 0, level, line);
	pthread_mutex_unlock(&ike->lock);
	return true;
}

void ike_bus_init(struct ike *ike)
{
	ike->listener = (listener_t){
		.alert = on_alert,
		.authorize = on_authorize,
		.ike_state_change = on_ike_state_change,
		.ike_updown = on_ike_updown,
		.ike_rekey = on_ike_rekey,
		.ike_update = on_ike_update,
	};
}
