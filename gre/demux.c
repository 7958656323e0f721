/* SPDX-License-Identifier: GPL-2.0-or-later */
/* demux.c - the table of endpoints: open addressing, linear probing, at most half full.
 *
 * Whoever sends GRE to this machine chooses what is looked up, so the hash is keyed (SipHash-2-4, key random
 * for each table). Removing moves later entries of the run back, so that there are no tombstones and a
 * look-up ends at the first free slot.
 */
#include "gre/demux.h"

#include <errno.h>
#include <sodium.h>
#include <stdlib.h>

#define SLOTS_MIN 16

_Static_assert(crypto_shorthash_BYTES == sizeof(uint64_t), "a hash is one number");

/* An endpoint without holes, so that it hashes and compares as memory. */
struct key {
	struct addr local, remote;
	uint32_t over, has_key, key, pad;
};
_Static_assert(sizeof(struct key) == 48, "no padding");

struct slot {
	struct key k;
	uint32_t value; /* GRE_DEMUX_NONE: the slot is free */
	uint32_t hash;
};

struct gre_demux {
	uint32_t nslots, used; /* nslots is a power of two */
	struct slot *slot;
	uint8_t secret[crypto_shorthash_KEYBYTES];
};

static struct key key_of(const struct gre_endpoint *e)
{
	return (struct key){
		.local = e->local,
		.remote = e->remote,
		.over = e->over,
		.has_key = e->has_key,
		.key = e->has_key ? e->key : 0,
	};
}

static uint32_t hash_of(const struct gre_demux *d, const struct key *k)
{
	uint64_t h;

	crypto_shorthash((unsigned char *)&h, (const unsigned char *)k, sizeof(*k), d->secret);
	return (uint32_t)h;
}

static struct slot *slots_new(uint32_t n)
{
	struct slot *s = calloc(n, sizeof(*s));

	for (uint32_t i = 0; s && i < n; i++)
		s[i].value = GRE_DEMUX_NONE;
	return s;
}

int gre_demux_new(struct gre_demux **out)
{
	struct gre_demux *d;

	if (sodium_init() < 0)
		return -EIO;
	d = calloc(1, sizeof(*d));
	if (!d)
		return -ENOMEM;
	d->nslots = SLOTS_MIN;
	d->slot = slots_new(d->nslots);
	if (!d->slot) {
		free(d);
		return -ENOMEM;
	}
	randombytes_buf(d->secret, sizeof(d->secret));
	*out = d;
	return 0;
}

void gre_demux_free(struct gre_demux *d)
{
	if (!d)
		return;
	free(d->slot);
	free(d);
}

/* The slot that holds k, or the free one where it belongs. */
static struct slot *locate(const struct gre_demux *d, const struct key *k, uint32_t hash)
{
	uint32_t i = hash & (d->nslots - 1);

	while (d->slot[i].value != GRE_DEMUX_NONE &&
		(d->slot[i].hash != hash || memcmp(&d->slot[i].k, k, sizeof(*k)) != 0))
		i = (i + 1) & (d->nslots - 1);
	return &d->slot[i];
}

static int grow(struct gre_demux *d)
{
	struct gre_demux bigger = {.nslots = d->nslots * 2};

	bigger.slot = slots_new(bigger.nslots);
	if (!bigger.slot)
		return -ENOMEM;
	for (uint32_t i = 0; i < d->nslots; i++)
		if (d->slot[i].value != GRE_DEMUX_NONE)
			*locate(&bigger, &d->slot[i].k, d->slot[i].hash) = d->slot[i];
	free(d->slot);
	d->slot = bigger.slot;
	d->nslots = bigger.nslots;
	return 0;
}

int gre_demux_add(struct gre_demux *d, const struct gre_endpoint *e, uint32_t value)
{
	struct key k = key_of(e);
	uint32_t hash = hash_of(d, &k);
	struct slot *s = locate(d, &k, hash);

	if (s->value != GRE_DEMUX_NONE)
		return -EEXIST;
	if ((d->used + 1) * 2 > d->nslots) {
		int err = grow(d);

		if (err)
			return err;
		s = locate(d, &k, hash);
	}
	*s = (struct slot){.k = k, .value = value, .hash = hash};
	d->used++;
	return 0;
}

int gre_demux_del(struct gre_demux *d, const struct gre_endpoint *e)
{
	struct key k = key_of(e);
	uint32_t mask = d->nslots - 1, hole, i;
	struct slot *s = locate(d, &k, hash_of(d, &k));

	if (s->value == GRE_DEMUX_NONE)
		return -ENOENT;
	/* Every later entry of the run whose place is not behind the hole moves into it. */
	hole = (uint32_t)(s - d->slot);
	for (i = (hole + 1) & mask; d->slot[i].value != GRE_DEMUX_NONE; i = (i + 1) & mask) {
		uint32_t home = d->slot[i].hash & mask;

		if (((i - home) & mask) >= ((i - hole) & mask)) {
			d->slot[hole] = d->slot[i];
			hole = i;
		}
	}
	d->slot[hole].value = GRE_DEMUX_NONE;
	d->used--;
	return 0;
}

uint32_t gre_demux_find(const struct gre_demux *d, const struct gre_endpoint *e)
{
	struct key k = key_of(e);

	return locate(d, &k, hash_of(d, &k))->value;
}
