/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ipsec_events.c - what the key exchange tells the loop: security associations, states, failures, log lines. */
#include "gateway/ipsec_private.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define WRITE_MS 100 /* between two times that the peers' file is written */

struct tunnel *ipsec_tunnel(const struct ipsec *s, uint32_t conn)
{
	return tunnels_by_conn(s->gw->tunnels, conn);
}

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

/* The peer believes in it, and so does the key exchange: they must not go on doing so. */
static void refused(struct ipsec *s, struct tunnel *t, const struct sa *sa, int why, uint64_t now)
{
	t->ipsec->failures++;
	snprintf(t->ipsec->last_failure, sizeof(t->ipsec->last_failure),
		"security association with SPI %08x could not be taken: %s", sa->spi, strerror(-why));
	log_limited(s->gw->log, &t->loglim, now, LOG_LEVEL_ERROR, "tunnel", t->conf->name, "%s",
		t->ipsec->last_failure);
	ike_expire(s->ike, sa, true);
}

static void on_add(struct ipsec *s, struct ike_event *e, uint64_t now)
{
	struct tunnel *t = ipsec_tunnel(s, e->tunnel);
	struct sa *sa = e->sa;
	struct sad_held *held;
	uint32_t expired = 0;
	int r = t ? sad_add(s->sad, sa, now) : -ENOENT;

	if (r < 0) {
		if (t)
			refused(s, t, sa, r, now);
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

	if (sad_move(s->sad, e->inbound, e->spi, e->tunnel, &e->local, &e->remote) < 0 || !t)
		return;
	t->ipsec->mapping_until_ms = 0; /* it followed; perhaps it has to follow back */
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
		ipsec_seen(s, t, st, now);
		if (st->ike != t->ipsec->status.ike || t->ipsec->status.state != IKE_STATE_UP)
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
	char more[48] = "";

	if (e->count > 1)
		snprintf(more, sizeof(more), " (and %u more since the last one told)", e->count - 1);
	if (!t) {
		log_limited(s->gw->log, &s->unknown_log, now, LOG_LEVEL_WARNING, "ike", NULL, "%s%s", e->text,
			more);
		return;
	}
	t->ipsec->failures += e->count;
	snprintf(t->ipsec->last_failure, sizeof(t->ipsec->last_failure), "%s", e->text);
	log_limited(s->gw->log, &t->loglim, now, LOG_LEVEL_WARNING, "tunnel", t->conf->name,
		"handshake failed: %s%s", e->text, more);
}

static void on_log(struct ipsec *s, const struct ike_event *e)
{
	const struct tunnel *t = ipsec_tunnel(s, e->tunnel);

	log_msg(s->gw->log, e->level, t ? "tunnel" : "ike", t ? t->conf->name : NULL, "%s%s",
		t ? "ike: " : "", e->text);
}

/* A branch that is not in the file when the gateway is killed is not called back, and a stock one would wait for good: so
 * it is written as soon as something changed, but not for each of many that come at once. */
void ipsec_write_peers(struct ipsec *s, uint64_t now)
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

/* Of what comes while IPsec is closed only this is of use: what is said, and who has just come up, to be called back. */
static void on_closing(struct ipsec *s, const struct ike_event *e, uint64_t now)
{
	struct tunnel *t = e->kind == IKE_EVENT_STATUS ? ipsec_tunnel(s, e->tunnel) : NULL;

	if (e->kind == IKE_EVENT_LOG)
		on_log(s, e);
	if (t && e->status->state == IKE_STATE_UP) {
		ipsec_seen(s, t, e->status, now);
		t->ipsec->status = *e->status;
	}
}

static void on_event(struct ipsec *s, struct ike_event *e, uint64_t now)
{
	switch (e->kind) {
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
		on_log(s, e);
		break;
	}
}

void ipsec_drain(struct ipsec *s)
{
	uint64_t now = gateway_now();
	struct mail *next;

	for (struct mail *m = mailbox_take(s->box); m; m = next) {
		struct ike_event *e = (struct ike_event *)m;

		_Static_assert(offsetof(struct ike_event, mail) == 0, "a mail is the event that it begins");
		next = m->next;
		if (s->closing)
			on_closing(s, e, now);
		else
			on_event(s, e, now);
		ike_event_free(e);
	}
	if (!s->closing)
		ipsec_write_peers(s, now);
}
