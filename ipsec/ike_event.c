/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ike_event.c - what IKE tells the loop. Needs nothing of strongSwan's. */
#include "ipsec/ike_private.h"

#include <stdlib.h>
#include <string.h>

struct ike_event *ike_event_new(enum ike_event_kind kind, uint32_t tunnel)
{
	struct ike_event *e = calloc(1, sizeof(*e));

	if (!e)
		return NULL;
	e->kind = kind;
	e->tunnel = tunnel;
	return e;
}

void ike_post(struct ike *ike, struct ike_event *e)
{
	mailbox_put(ike->box, &e->mail);
}

void ike_post_text(
	struct ike *ike, enum ike_event_kind kind, uint32_t tunnel, enum log_level level, const char *text)
{
	struct ike_event *e = ike_event_new(kind, tunnel);

	if (!e)
		return;
	e->level = level;
	e->text = strdup(text);
	if (!e->text)
		ike_event_free(e);
	else
		ike_post(ike, e);
}

void ike_post_failure(struct ike *ike, struct conn *c, const char *text)
{
	struct log_limit *l = c ? &c->failed : &ike->failed;
	struct ike_event *e;

	if (!log_limit_ok(l, ike_now_ms()))
		return;
	e = ike_event_new(IKE_EVENT_FAILED, c ? c->id : 0);
	if (!e)
		return;
	e->count = 1 + l->held;
	l->held = 0;
	e->text = strdup(text);
	if (e->text)
		ike_post(ike, e);
	else
		ike_event_free(e);
}

void ike_event_free(struct ike_event *e)
{
	if (!e)
		return;
	sa_free(e->sa);
	free(e->status);
	free(e->text);
	free(e);
}
