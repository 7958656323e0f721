/* SPDX-License-Identifier: GPL-2.0-or-later */
/* index.h - from a hash to the halves that have it.
 *
 * A bucket is one cache line: eight entries, each a tag (16 bits of the hash) and a ref (record and
 * direction), and eight counters. An entry that finds its home bucket full goes to the next one with room;
 * each full bucket that it passes counts it, in the counter that three more bits of its hash name. A look-up
 * goes on to the next bucket only while that counter is not zero: nearly always it reads one line. Taking an
 * entry out counts down again: no tombstones, no rehashing, and the order of events does not matter.
 *
 * The number of buckets is any (the hash is scaled, not masked), so memory follows flows.max: two entries a
 * flow at a load of 3/4 are 22 octets a flow.
 */
#ifndef ARRD_FLOWSTATE_INDEX_H
#define ARRD_FLOWSTATE_INDEX_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define BUCKET_ENTRIES 8
#define REF_NONE       UINT32_MAX
#define REF(i, dir)    ((i) << 1 | (uint32_t)(dir))
#define REF_RECORD(r)  ((r) >> 1)
#define REF_DIR(r)     ((r)&1)

struct bucket {
	uint16_t tag[BUCKET_ENTRIES]; /* 0: empty */
	uint32_t ref[BUCKET_ENTRIES];
	uint16_t passed[BUCKET_ENTRIES];
} __attribute__((aligned(64)));
_Static_assert(sizeof(struct bucket) == 64, "one cache line");
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "tags are compared four at a time, lowest first");

struct index {
	struct bucket *bucket;
	uint32_t n;
	size_t octets;
};

int index_open(struct index *x, uint32_t max_records); /* 0 or -ENOMEM */
void index_close(struct index *x);

void index_in(struct index *x, uint64_t hash, uint32_t ref);
/* The entry must be there. */
void index_out(struct index *x, uint64_t hash, uint32_t ref);

static inline uint32_t index_home(const struct index *x, uint64_t hash)
{
	return (uint32_t)((hash >> 32) * x->n >> 32);
}

static inline uint32_t index_next(const struct index *x, uint32_t b)
{
	return b + 1 == x->n ? 0 : b + 1;
}

static inline uint16_t index_tag(uint64_t hash)
{
	uint16_t t = (uint16_t)hash;
	return t ? t : 1;
}

static inline unsigned index_class(uint64_t hash)
{
	return (unsigned)(hash >> 16) % BUCKET_ENTRIES;
}

/* One bit (the top one of each octet) for each entry of b with that tag. There may be false ones: the caller
 * compares what the ref leads to. No true one is missed. */
static inline uint64_t index_match(const struct bucket *b, uint16_t tag)
{
	const uint64_t each = 0x0001000100010001, top = 0x8000800080008000;
	uint64_t lo, hi;
	memcpy(&lo, b->tag, 8);
	memcpy(&hi, b->tag + 4, 8);
	lo ^= tag * each;
	hi ^= tag * each;
	lo = (lo - each) & ~lo & top;
	hi = (hi - each) & ~hi & top;
	/* Octet 2k + 1 of lo is entry k, moved to octet 2k; of hi entry k + 4, left in octet 2k + 1. */
	return lo >> 8 | hi;
}

/* The lowest entry of a match. */
static inline unsigned index_entry(uint64_t match)
{
	unsigned octet = (unsigned)__builtin_ctzll(match) / 8;
	return octet / 2 + octet % 2 * 4;
}

#endif
