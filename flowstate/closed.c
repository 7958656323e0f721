/* SPDX-License-Identifier: GPL-2.0-or-later */
/* closed.c - reply tuples that stay closed although their record is gone. */
#include "flowstate/closed.h"

#include <string.h>

#define BITS   (CLOSED_FILTER_OCTETS * 8)
#define PROBES 3u
/* Of a full filter one bit in eleven is set, in six if it is full of these: twelve of them are so by chance once in 10^9. */
#define PROBES_OPEN 12u

#define CLEARED_A_TICK ((size_t)256 << 10) /* 25 µs */

/* Kirsch and Mitzenmacher 2006: two hashes do for any number of probes. */
static size_t bit_of(uint64_t hash, unsigned probe)
{
	return (size_t)((hash + probe * (hash >> 32 | 1)) % BITS);
}

bool closed_room(struct arena *a, uint32_t below)
{
	struct arena_header *h = a->header;

	return h->closed_count[h->closed_now & 1] < below && arena_back_closed(a);
}

static void add(struct arena *a, uint64_t hash, unsigned probes, uint32_t now)
{
	struct arena_header *h = a->header;
	unsigned f = h->closed_now & 1;

	if (closed_none(a))
		h->closed_since = now;
	/* The number first: killed in between, the filter is not taken for empty. */
	h->closed_count[f]++;
	for (unsigned k = 0; k < probes; k++) {
		size_t bit = bit_of(hash, k);
		a->closed[f][bit / 64] |= (uint64_t)1 << bit % 64;
	}
}

static bool has(const struct arena *a, uint64_t hash, unsigned probes)
{
	for (unsigned f = 0; f < 2; f++) {
		unsigned k = 0;
		if (!a->header->closed_count[f])
			continue;
		for (size_t bit; k < probes; k++) {
			bit = bit_of(hash, k);
			if (!(a->closed[f][bit / 64] >> bit % 64 & 1))
				break;
		}
		if (k == probes)
			return true;
	}
	return false;
}

static uint64_t open_to(uint64_t hash, uint32_t realm)
{
	return hash ^ (realm * (uint64_t)0x9e3779b97f4a7c15);
}

void closed_add(struct arena *a, uint64_t hash, uint32_t now)
{
	add(a, hash, PROBES, now);
}

/* What it is open to first: killed in between, it is closed to nobody yet, and its record is there. */
void closed_add_but(struct arena *a, uint64_t hash, uint32_t realm, uint32_t now)
{
	add(a, open_to(hash, realm), PROBES_OPEN, now);
	add(a, hash, PROBES, now);
}

bool closed_to(const struct arena *a, uint64_t hash, uint32_t realm)
{
	return has(a, hash, PROBES) && !has(a, open_to(hash, realm), PROBES_OPEN);
}

void closed_tick(struct arena *a, uint32_t now, uint32_t quarantine)
{
	struct arena_header *h = a->header;
	unsigned f = h->closed_now & 1;

	if (closed_none(a))
		return;
	if (h->closed_since > now) /* damage: it would be for ever */
		h->closed_since = now;
	if (now - h->closed_since < quarantine)
		return;
	/* Emptied before anything new is put into it. Killed in between, it is emptied again, or stays a while longer. */
	if (h->closed_count[!f]) {
		/* After a long pause, all at once. */
		size_t left = CLOSED_FILTER_OCTETS - a->closed_cleared,
		       now_cleared = now - h->closed_since < 2 * (uint64_t)quarantine ? CLEARED_A_TICK : left;
		memset((uint8_t *)a->closed[!f] + a->closed_cleared, 0, now_cleared);
		a->closed_cleared += now_cleared;
		if (a->closed_cleared < CLOSED_FILTER_OCTETS)
			return;
		a->closed_cleared = 0;
		h->closed_count[!f] = 0;
	}
	h->closed_since = now;
	__atomic_store_n(&h->closed_now, !f, __ATOMIC_RELEASE);
}
