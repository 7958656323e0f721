/* SPDX-License-Identifier: GPL-2.0-or-later */
/* crowd.c - how many flows share a destination. */
#include "flowstate/crowd.h"

#include "flowstate/arena.h"

#include <errno.h>

#define COUNTERS 32768u /* a power of two */
#define OCTETS   (COUNTERS * sizeof(uint32_t))

int crowd_open(struct crowd *c)
{
	c->all = arena_map_private(OCTETS);
	c->site = arena_map_private(OCTETS);
	c->all_held = arena_map_private(OCTETS);
	c->held = arena_map_private(OCTETS);
	return c->all && c->site && c->all_held && c->held ? 0 : -ENOMEM;
}

void crowd_close(struct crowd *c)
{
	arena_unmap_private(c->all, OCTETS);
	arena_unmap_private(c->site, OCTETS);
	arena_unmap_private(c->all_held, OCTETS);
	arena_unmap_private(c->held, OCTETS);
}

struct crowd_at crowd_at(
	const struct sip_key *key, const struct addr *dst, uint16_t dport, uint8_t proto, uint16_t site)
{
	uint64_t w[3], hash;

	memcpy(w, dst, sizeof(*dst));
	w[2] = SIP_LAST((uint64_t)dport | (uint64_t)proto << 16, 19);
	hash = sip_words(key, w, 3);
	/* The site decides by how far the second counter lies from where the destination alone would have it: no other
	 * hash, and whoever does not know the first does not know the second. */
	return (struct crowd_at){.all = (uint32_t)hash & (COUNTERS - 1),
		.site = (uint32_t)((hash >> 32) + site * (uint64_t)0x9e3779b1) & (COUNTERS - 1)};
}

bool crowd_eq(const struct crowd *a, const struct crowd *b)
{
	return memcmp(a->all, b->all, OCTETS) == 0 && memcmp(a->site, b->site, OCTETS) == 0 &&
	       memcmp(a->all_held, b->all_held, OCTETS) == 0 && memcmp(a->held, b->held, OCTETS) == 0;
}
