/* SPDX-License-Identifier: GPL-2.0-or-later */
/* flow_events.c - what happens to flows: log records, and a ring that followers read.
 *
 * Theory. An event comes up in the middle of a batch of packets, and there may be a million of them a second. So
 * nothing is done there but to copy the flow into the next place of a ring: no allocation, no text, no system call.
 * The ring belongs to no reader. Each of them (control_follow.c) has the number of the event that it reads next, and
 * makes lines of them between batches; who is slower than the ring is long finds its next event overwritten, and
 * learns how many it has missed. A reader can therefore never hold up the path, nor another reader, nor have memory
 * grow.
 *
 * The flow table tells only of what somebody wants to hear: everything while there is a follower, else what the level
 * of the log asks for. Of each kind the log has its own limit, so that a flood of one does not hide another.
 */
#include "gateway/flow_events.h"

#include "gateway/flow_text.h"
#include "gateway/gateway.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define ALL_KINDS (FS_EVENT_BIT(FS_EVENT_COUNT) - 1)

_Static_assert((FLOW_EVENTS_KEPT & (FLOW_EVENTS_KEPT - 1)) == 0, "a place is a number's low bits");

struct flow_events {
	struct gateway *gw;
	unsigned followers;
	uint64_t next;           /* number of the next event */
	struct flow_event *ring; /* NULL: nobody has followed yet */
	struct log_limit limit[FS_EVENT_COUNT + FS_END_COUNT];
};

/* ---- the log ---------------------------------------------------------------------------------------- */

/* Each flow's begin and end are for those who look for something; so are the ends that somebody asked for. */
static enum log_level level_of(const struct fs_event *e)
{
	switch (e->kind) {
	case FS_EVENT_MOVE:
		return LOG_LEVEL_INFO;
	case FS_EVENT_EVICT:
		return e->why == FS_END_SITE_LIMIT || e->why == FS_END_TABLE_FULL ? LOG_LEVEL_NOTICE
										  : LOG_LEVEL_DEBUG;
	default:
		return LOG_LEVEL_DEBUG;
	}
}

static void log_event(struct flow_events *ev, const struct fs_event *e)
{
	struct log_limit *limit = &ev->limit[e->kind == FS_EVENT_EVICT ? FS_EVENT_COUNT + e->why : e->kind];
	const struct gateway *gw = ev->gw;
	enum log_level level = level_of(e);
	const struct fs_half *home;
	char text[FLOW_STRLEN], held[48] = "";
	struct fs_info f;

	/* log_limited() would want the text first. */
	if (!log_wants(gw->log, level) || !log_limit_ok(limit, gateway_now()))
		return;
	if (limit->held)
		snprintf(held, sizeof(held), " (%u more records held back)", limit->held);
	limit->held = 0;
	fs_describe(gw->fs, e->flow, &f);
	home = &f.half[f.half[FS_ORIG].realm == gw->egress_id ? FS_REPLY : FS_ORIG];
	if (e->kind == FS_EVENT_MOVE)
		home = &f.half[e->dir];
	flow_text(&f, text);
	if (e->kind == FS_EVENT_MOVE)
		log_msg(gw->log, level, "tunnel", fs_name(gw->fs, home->via),
			"flow of site %s has moved here from tunnel %s: %s%s", fs_name(gw->fs, home->realm),
			fs_last_name(gw->fs, e->from), text, held);
	else if (e->kind == FS_EVENT_BEGIN)
		log_msg(gw->log, level, "tunnel", fs_name(gw->fs, home->via), "flow of site %s begins: %s%s",
			fs_name(gw->fs, home->realm), text, held);
	else
		log_msg(gw->log, level, "tunnel", fs_name(gw->fs, home->via),
			"flow of site %s ends, %s: %s%s", fs_name(gw->fs, home->realm), fs_end_name(e->why),
			text, held);
}

/* ---- the ring --------------------------------------------------------------------------------------- */

static void keep(struct flow_events *ev, const struct fs_event *e)
{
	struct flow_event *f = &ev->ring[ev->next++ % FLOW_EVENTS_KEPT];
	struct timespec t;

	/* The time of the last timer interrupt: a fifth of the cost of the precise one. */
	clock_gettime(CLOCK_REALTIME_COARSE, &t);
	f->time_ms = (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
	f->e = *e;
	fs_describe(ev->gw->fs, e->flow, &f->flow);
}

static void on_event(void *arg, const struct fs_event *e)
{
	struct flow_events *ev = arg;

	if (ev->followers)
		keep(ev, e);
	log_event(ev, e);
}

void flow_events_level(struct flow_events *ev)
{
	const struct log *log = ev->gw->log;
	unsigned kinds = 0;

	if (log_wants(log, LOG_LEVEL_NOTICE))
		kinds |= FS_EVENT_BIT(FS_EVENT_EVICT);
	if (log_wants(log, LOG_LEVEL_INFO))
		kinds |= FS_EVENT_BIT(FS_EVENT_MOVE);
	if (log_wants(log, LOG_LEVEL_DEBUG) || ev->followers)
		kinds = ALL_KINDS;
	fs_on_event(ev->gw->fs, kinds, on_event, ev);
}

/* ---- life ------------------------------------------------------------------------------------------- */

int flow_events_open(struct flow_events **out, struct gateway *gw)
{
	struct flow_events *ev = calloc(1, sizeof(*ev));

	*out = ev;
	if (!ev)
		return -ENOMEM;
	ev->gw = gw;
	flow_events_level(ev);
	return 0;
}

void flow_events_close(struct flow_events *ev)
{
	if (!ev)
		return;
	fs_on_event(ev->gw->fs, 0, NULL, NULL);
	free(ev->ring);
	free(ev);
}

/* ---- followers -------------------------------------------------------------------------------------- */

int flow_events_join(struct flow_events *ev, uint64_t *at)
{
	if (ev->followers == FLOW_FOLLOWERS_MAX)
		return -EBUSY;
	if (!ev->ring)
		ev->ring = calloc(FLOW_EVENTS_KEPT, sizeof(*ev->ring));
	if (!ev->ring)
		return -ENOMEM;
	ev->followers++;
	flow_events_level(ev);
	*at = ev->next;
	return 0;
}

void flow_events_leave(struct flow_events *ev)
{
	if (--ev->followers)
		return;
	free(ev->ring);
	ev->ring = NULL;
	flow_events_level(ev);
}

uint64_t flow_events_waiting(const struct flow_events *ev, uint64_t at)
{
	return ev->next - at;
}

const struct flow_event *flow_events_next(const struct flow_events *ev, uint64_t *at, uint64_t *lost)
{
	uint64_t oldest = ev->next > FLOW_EVENTS_KEPT ? ev->next - FLOW_EVENTS_KEPT : 0;

	if (*at == ev->next)
		return NULL;
	if (*at < oldest) {
		*lost += oldest - *at;
		*at = oldest;
	}
	return &ev->ring[(*at)++ % FLOW_EVENTS_KEPT];
}
