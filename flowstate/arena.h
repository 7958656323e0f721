/* SPDX-License-Identifier: GPL-2.0-or-later */
/* arena.h - the file of flow records: opened or made, judged as a whole, locked, mapped. Used by fs_open. */
#ifndef ARRD_FLOWSTATE_ARENA_H
#define ARRD_FLOWSTATE_ARENA_H

#include "flowstate/record.h"

#include <stddef.h>

struct arena {
	struct arena_header *header;
	struct name_entry *name; /* FS_SLOTS */
	uint64_t *closed[2];     /* filters of closed.h */
	struct block *block;
	uint32_t max;    /* records */
	uint32_t backed; /* records that have memory behind them */
	bool closed_backed;
	size_t closed_cleared; /* octets of the older filter, so far */
	bool starved;          /* the file system had no room for more */
	int fd;                /* -1: memory of the process */
	void *map;
	size_t map_octets;
};

/* Opens cfg->path, or makes it. kind tells which; for FS_OPEN_REFUSED why (NUL-terminated) says the reason,
 * and the arena is a new one. Of an adopted arena nothing but the header has been judged: see adopt.c. It may
 * have been used above max, by a run with a larger one: those records are mapped too, until arena_trim.
 * Returns 0 or -errno, -EBUSY when another process holds the file. */
int arena_open(
	struct arena *a, const struct fs_config *cfg, enum fs_open_kind *kind, char *why, size_t why_len);
void arena_close(struct arena *a);

/* Gives back what lies above max. Nothing there may be touched from now on. */
void arena_trim(struct arena *a);

/* Sees to it that records below n, at most max, can be written to: on a full tmpfs a store would be a SIGBUS.
 * Returns false if there is no memory; does not ask again until arena_retry. */
bool arena_back(struct arena *a, uint32_t n);
static inline void arena_retry(struct arena *a)
{
	a->starved = false;
}

/* The same for the first n names. */
bool arena_back_names(struct arena *a, uint32_t n);

/* The same for the filters. */
bool arena_back_closed(struct arena *a);

/* Private memory, zero, in large pages where it is large; or NULL. */
void *arena_map_private(size_t octets);
void arena_unmap_private(void *p, size_t octets);

static inline struct flow_head *arena_head(const struct arena *a, uint32_t i)
{
	return &a->block[i / PER_BLOCK].head[i % PER_BLOCK];
}

static inline struct flow_body *arena_body(const struct arena *a, uint32_t i)
{
	return &a->block[i / PER_BLOCK].body[i % PER_BLOCK];
}

#endif
