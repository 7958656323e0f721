/* SPDX-License-Identifier: GPL-2.0-or-later */
/* index.c - from a hash to the halves that have it: entries in and out. */
#include "flowstate/index.h"

#include "flowstate/arena.h"

#include <assert.h>
#include <errno.h>

int index_open(struct index *x, uint32_t max_records)
{
	/* 2 entries a record, 8 a bucket, 3/4 of them used: a bucket for 3 records, rounded up. */
	uint64_t n = ((uint64_t)max_records + 2) / 3 + 1;
	x->n = (uint32_t)n;
	x->octets = n * sizeof(struct bucket);
	x->bucket = arena_map_private(x->octets);
	return x->bucket ? 0 : -ENOMEM;
}

void index_close(struct index *x)
{
	arena_unmap_private(x->bucket, x->octets);
	x->bucket = NULL;
}

static int entry_free(const struct bucket *b)
{
	for (int e = 0; e < BUCKET_ENTRIES; e++) {
		if (!b->tag[e])
			return e;
	}
	return -1;
}

static int entry_of(const struct bucket *b, uint16_t tag, uint32_t ref)
{
	for (int e = 0; e < BUCKET_ENTRIES; e++) {
		if (b->tag[e] == tag && b->ref[e] == ref)
			return e;
	}
	return -1;
}

void index_in(struct index *x, uint64_t hash, uint32_t ref)
{
	unsigned class = index_class(hash);
	uint32_t b = index_home(x, hash);
	int e;
	/* Ends: there are more entries in the table than two a record. */
	while ((e = entry_free(&x->bucket[b])) < 0) {
		/* A counter that ever reached its top stays there. */
		if (x->bucket[b].passed[class] != UINT16_MAX)
			x->bucket[b].passed[class]++;
		b = index_next(x, b);
	}
	x->bucket[b].tag[e] = index_tag(hash);
	x->bucket[b].ref[e] = ref;
}

void index_out(struct index *x, uint64_t hash, uint32_t ref)
{
	unsigned class = index_class(hash);
	uint16_t tag = index_tag(hash);
	uint32_t b = index_home(x, hash);
	int e;
	while ((e = entry_of(&x->bucket[b], tag, ref)) < 0) {
		assert(x->bucket[b].passed[class] > 0);
		if (x->bucket[b].passed[class] != UINT16_MAX)
			x->bucket[b].passed[class]--;
		b = index_next(x, b);
	}
	x->bucket[b].tag[e] = 0;
}
