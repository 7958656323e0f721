/* SPDX-License-Identifier: GPL-2.0-or-later */
/* closed.h - reply tuples that stay closed although their record is gone.
 *
 * Quarantine costs a record. When there is none left for a site that has few, one in quarantine is taken before its time
 * (pressure.c), and what must not be forgotten of it comes here: two Bloom filters (Bloom 1970), in the arena, since a
 * restart must not open what is closed. One takes what comes, for as long as a quarantine lasts; then they change
 * places, and the older one is emptied, a piece a tick. So a tuple is closed for one to two quarantines, to all sites (the filter knows of
 * no site; an entry besides may say whom it is open to), and now and then one that never was in it. The number of entries
 * is bounded: full, it takes no more.
 */
#ifndef ARRD_FLOWSTATE_CLOSED_H
#define ARRD_FLOWSTATE_CLOSED_H

#include "flowstate/arena.h"
#include "flowstate/siphash.h"

/* Entries of one filter. With two of them full, one tuple in 800 is closed that need not be. */
#define CLOSED_MAX (1u << 22)

/* The entry that says of another one that it is not closed to flows to or from a realm. */
static inline uint64_t closed_but_to(uint64_t hash, uint32_t realm)
{
	return hash ^ (realm * (uint64_t)0x9e3779b97f4a7c15);
}

/* Whether there is room for another one, below a number of entries that is CLOSED_MAX at most. May reserve memory. */
bool closed_room(struct arena *a, uint32_t below);
/* now, quarantine: in units of 100 ms. */
void closed_add(struct arena *a, uint64_t hash, uint32_t now);
bool closed_has(const struct arena *a, uint64_t hash);
/* Changes places when it is time. To be called with every tick. */
void closed_tick(struct arena *a, uint32_t now, uint32_t quarantine);

/* Both are empty: nobody needs to ask. */
static inline bool closed_none(const struct arena *a)
{
	return !(a->header->closed_count[0] | a->header->closed_count[1]);
}

#endif
