/* SPDX-License-Identifier: GPL-2.0-or-later */
/* flow_events.h - what happens to flows: log records, and a ring that followers read. */
#ifndef ARRD_FLOW_EVENTS_H
#define ARRD_FLOW_EVENTS_H

#include "flowstate/flowstate.h"

struct flow_events;
struct gateway;

/* An event, and the flow as it was then. */
struct flow_event {
	uint64_t time_ms; /* CLOCK_REALTIME, to a few milliseconds */
	struct fs_event e;
	struct fs_info flow;
};

/* The last so many events are kept while somebody follows: 6 MiB. */
#define FLOW_EVENTS_KEPT 32768u
/* Those who read are held to be few: each of them has lines made of all events. */
#define FLOW_FOLLOWERS_MAX 8u

/* Listens to gw->fs, which must be open. Returns 0 or -ENOMEM. */
int flow_events_open(struct flow_events **out, struct gateway *gw);
/* NULL is none. Nobody may follow any more. */
void flow_events_close(struct flow_events *ev);
/* The level of the log has changed: that decides what is listened to when nobody follows. */
void flow_events_level(struct flow_events *ev);

/* Somebody follows from here on: *at is the number of the next event. Returns 0; -EBUSY: too many do; -ENOMEM. */
int flow_events_join(struct flow_events *ev, uint64_t *at);
void flow_events_leave(struct flow_events *ev);
/* How many events there are from number at on. */
uint64_t flow_events_waiting(const struct flow_events *ev, uint64_t at);
/* The event with number *at, valid until the next packet; NULL: there is none yet. Counts *at up. Events that were
 * overwritten meanwhile are skipped, and their number added to *lost. */
const struct flow_event *flow_events_next(const struct flow_events *ev, uint64_t *at, uint64_t *lost);

#endif
