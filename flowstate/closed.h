/* SPDX-License-Identifier: GPL-2.0-or-later */
/* closed.h - reply tuples that stay closed although their record is gone.
 *
 * Quarantine costs a record. When there is none left for a site that has few, one in quarantine is taken before its time
 * (pressure.c), and what must not be forgotten of it comes here: two Bloom filters (Bloom 1970), in the arena, since a
 * restart must not open what is closed. One takes what comes, for as long as a quarantine lasts; then they change
 * places, and the older one is emptied, a piece a tick. So a tuple is closed for one to two quarantines, to all sites (the filter knows of
 * no site; an entry besides may say whom it is open to), and now and then one that never was in it. By mistake open is
 * none: an entry that says so has so many bits that no mixture of others has them all. The number of entries is bounded:
 * full, it takes no more.
 */
#ifndef ARRD_FLOWSTATE_CLOSED_H
#define ARRD_FLOWSTATE_CLOSED_H

#include "flowstate/arena.h"
#include "flowstate/siphash.h"

/* Entries of one filter. With two of them full, one tuple in 700 is closed that need not be. */
#define CLOSED_MAX (1u << 22)

/* Whether there is room for another one, below a number of entries that is CLOSED_MAX at most. May reserve memory. */
bool closed_room(struct arena *a, uint32_t below);
/* now, quarantine: in units of 100 ms. */
void closed_add(struct arena *a, uint64_t hash, uint32_t now);
/* The same, but it stays open to flows to or from a realm. */
void closed_add_but(struct arena *a, uint64_t hash, uint32_t realm, uint32_t now);
/* Is it closed to flows to or from a realm? */
bool closed_to(const struct arena *a, uint64_t hash, uint32_t realm);
/* Changes places when it is time. To be called with every tick. */
void closed_tick(struct arena *a, uint32_t now, uint32_t quarantine);

/* Both are empty: nobody needs to ask. */
static inline bool closed_none(const struct arena *a)
{
	return !(a->header->closed_count[0] | a->header->closed_count[1]);
}

#endif
