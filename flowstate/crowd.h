/* SPDX-License-Identifier: GPL-2.0-or-later */
/* crowd.h - how many flows share a destination.
 *
 * A NAT tells flows to one destination (protocol, address, port) apart by its own ports, so that it is the flows of one
 * destination that use them up. They are counted, of all sites and of each, in tables of counters that a keyed hash
 * points into: a counter is never less than what it counts, and greater by what else falls on it, which is 30 for
 * each million of flows. Derived from the records, like the index.
 */
#ifndef ARRD_FLOWSTATE_CROWD_H
#define ARRD_FLOWSTATE_CROWD_H

#include "flowstate/siphash.h"
#include "gateway/base/addr.h"

struct crowd {
	uint32_t *all, *site;      /* live flows: of all, of each site */
	uint32_t *all_held, *held; /* those in quarantine too */
};

/* Which counters a destination has. */
struct crowd_at {
	uint32_t all, site;
};

int crowd_open(struct crowd *c); /* 0 or -ENOMEM */
void crowd_close(struct crowd *c);

/* site: a slot of the name table. */
struct crowd_at crowd_at(
	const struct sip_key *key, const struct addr *dst, uint16_t dport, uint8_t proto, uint16_t site);

bool crowd_eq(const struct crowd *a, const struct crowd *b);

static inline void crowd_count(struct crowd *c, struct crowd_at at, int live, int held)
{
	c->all[at.all] += (uint32_t)live;
	c->site[at.site] += (uint32_t)live;
	c->all_held[at.all] += (uint32_t)held;
	c->held[at.site] += (uint32_t)held;
}

#endif
