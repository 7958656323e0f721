/* SPDX-License-Identifier: GPL-2.0-or-later */
/* pressure.h - whose records they are, in the order in which they would make room. */
#ifndef ARRD_FLOWSTATE_PRESSURE_H
#define ARRD_FLOWSTATE_PRESSURE_H

#include "flowstate/wheel.h"

#include <stdbool.h>

/* A record is in one queue of the site that it is charged to; what no site is charged for, in those of slot 0. */
enum queue_kind { QUEUE_UNANSWERED, QUEUE_ANSWERED, QUEUE_QUARANTINED, QUEUES };

struct queue {
	uint32_t first, last; /* record + 1, 0: none */
	uint32_t n;
};

struct queue_link {
	uint32_t next, prev; /* record + 1, 0: none */
};

struct pressure {
	struct queue_link *link;    /* of each record */
	struct queue (*of)[QUEUES]; /* of each slot of the name table */
	uint32_t max;
	uint32_t active;    /* slots that have records */
	uint16_t greediest; /* the slot that has most, or had when it was last looked for */
	uint16_t loudest;   /* the same of flows without an answer */
	uint32_t looked;    /* slots, for these two, since the last tick */
	bool adapts;        /* times are shorter for now */
};

int pressure_open(struct pressure *p, uint32_t max); /* 0 or -ENOMEM */
void pressure_close(struct pressure *p);

static inline uint32_t pressure_total(const struct pressure *p, uint16_t slot)
{
	return p->of[slot][QUEUE_UNANSWERED].n + p->of[slot][QUEUE_ANSWERED].n +
	       p->of[slot][QUEUE_QUARANTINED].n;
}

#endif
