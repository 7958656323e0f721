/* SPDX-License-Identifier: GPL-2.0-or-later */
/* frag_id.c - Identifications of IPv4 datagrams that sites send. */
#include "gateway/frag_id.h"

#include <errno.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#define DESTINATIONS 1024u /* a power of two: those of one hash share what there is */
#define WHOLE        0x8000u
#define BLOCK        16u /* Identifications, and so many blocks below WHOLE: */
#define BLOCKS       (WHOLE / BLOCK)
#define RECENT       64u
/* A site gets another block when there is a free one and it has less than A_SITE, or most are free; but a quarter is for who
 * has none. Else it begins anew with the one that it used longest ago: what it mixes up then is its own. */
#define A_SITE    (BLOCKS / 8)
#define FOR_OTHER (BLOCKS / 4)

struct destination {
	fs_id owner[BLOCKS];     /* FS_ID_NONE: nobody yet */
	uint32_t last[BLOCKS];   /* when one was given out, in ms: the low bits of the clock */
	uint8_t given[BLOCKS];   /* of the block, since its owner has it, or began anew */
	uint16_t recent[RECENT]; /* which block a site had last, by its slot: a guess */
	uint16_t whole;
};

struct frag_ids {
	uint8_t key[crypto_shorthash_KEYBYTES];
	struct destination destination[DESTINATIONS];
};

int frag_ids_new(struct frag_ids **out)
{
	struct frag_ids *ids;

	if (sodium_init() < 0)
		return -ENOSYS;
	ids = calloc(1, sizeof(*ids));
	if (!ids)
		return -ENOMEM;
	randombytes_buf(ids->key, sizeof(ids->key));
	*out = ids;
	return 0;
}

void frag_ids_free(struct frag_ids *ids)
{
	free(ids);
}

/* *more: the rest of the hash. */
static struct destination *destination_of(
	struct frag_ids *ids, fs_id realm, const struct addr *dst, uint8_t proto, uint64_t *more)
{
	struct {
		struct addr dst;
		uint32_t realm, proto;
	} k = {*dst, realm, proto};
	uint64_t h;

	crypto_shorthash((uint8_t *)&h, (const uint8_t *)&k, sizeof(k), ids->key);
	*more = h / DESTINATIONS;
	return &ids->destination[h & (DESTINATIONS - 1)];
}

/* Nobody can still wait for a datagram with one of them. A clock that comes round after 50 days makes it wait once more. */
static bool is_free(const struct destination *d, unsigned b, uint32_t now)
{
	return d->owner[b] == FS_ID_NONE || now - d->last[b] >= FRAG_ID_WAIT_MS;
}

/* The block that the site's next one is of; BLOCKS: there is none. from: where to look first. */
static unsigned block_for(struct destination *d, fs_id site, uint32_t now, unsigned from)
{
	unsigned own = 0, vacant = 0, found = BLOCKS, oldest = BLOCKS, recent = d->recent[site % RECENT];

	if (d->owner[recent] == site && d->given[recent] < BLOCK)
		return recent;
	for (unsigned k = 0; k < BLOCKS; k++) {
		unsigned b = (from + k) % BLOCKS;

		if (d->owner[b] == site && d->given[b] < BLOCK)
			return b;
		if (d->owner[b] == site && !is_free(d, b, now)) {
			own++;
			if (oldest == BLOCKS || now - d->last[b] > now - d->last[oldest])
				oldest = b;
		} else if (is_free(d, b, now)) {
			vacant++;
			if (found == BLOCKS)
				found = b;
		}
	}
	if (own && (vacant <= FOR_OTHER || (own >= A_SITE && vacant <= BLOCKS / 2)))
		found = oldest;
	if (found != BLOCKS) {
		d->owner[found] = site;
		d->given[found] = 0;
	}
	return found;
}

bool frag_ids_take(struct frag_ids *ids, fs_id realm, const struct addr *dst, uint8_t proto, fs_id site,
	uint64_t now_ms, uint16_t *id)
{
	uint64_t more;
	struct destination *d = destination_of(ids, realm, dst, proto, &more);
	unsigned b = block_for(d, site, (uint32_t)now_ms, (unsigned)(more % BLOCKS));

	if (b == BLOCKS)
		return false;
	d->recent[site % RECENT] = (uint16_t)b;
	d->last[b] = (uint32_t)now_ms;
	*id = (uint16_t)(b * BLOCK + d->given[b]++);
	return true;
}

uint16_t frag_ids_next(struct frag_ids *ids, fs_id realm, const struct addr *dst, uint8_t proto, uint32_t n)
{
	uint64_t more;
	struct destination *d = destination_of(ids, realm, dst, proto, &more);
	uint16_t first =
		(uint16_t)(d->whole + more); /* not the same for all, so that strangers do not know them */

	/* The n lie together: a super-packet's segments count on from its own. */
	if ((first & (WHOLE - 1)) + n > WHOLE) {
		d->whole = (uint16_t)(d->whole + WHOLE - (first & (WHOLE - 1)));
		first = 0;
	}
	d->whole = (uint16_t)(d->whole + n);
	return first | WHOLE;
}
