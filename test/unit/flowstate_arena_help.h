/* SPDX-License-Identifier: GPL-2.0-or-later */
/* flowstate_arena_help.h - what the tests of the arena file share: a file of flows, and a way to spoil it. */
#ifndef ARRD_TEST_FLOWSTATE_ARENA_HELP_H
#define ARRD_TEST_FLOWSTATE_ARENA_HELP_H

#include "test/unit/flowstate_help.h"

#include <fcntl.h>

#define WEB       "203.0.113.80"
#define NAMES_AT  4096
#define BLOCKS_AT (NAMES_AT + FS_SLOTS * sizeof(struct name_entry) + 2 * CLOSED_FILTER_OCTETS)
#define HEAD_AT(i)                                                                                           \
	(BLOCKS_AT + (i) / PER_BLOCK * sizeof(struct block) + (i) % PER_BLOCK * sizeof(struct flow_head))
#define BODY_AT(i)                                                                                           \
	(BLOCKS_AT + (i) / PER_BLOCK * sizeof(struct block) + offsetof(struct block, body) +                 \
		(i) % PER_BLOCK * sizeof(struct flow_body))

/* Of the arena; another one each process. */
static char path[64];

static inline void edit(size_t at, const void *p, size_t n)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, p, n, (off_t)at), n);
	close(fd);
}

/* Flows of both sites, equal ones, quarantined ones, and a few records that are free again. */
static inline void fill(struct world *w)
{
	for (uint16_t p = 1; p <= 100; p++) {
		struct tuple t = p % 3 ? tup(IPPROTO_TCP, "10.0.1.5", p, WEB, 443)
				       : tup(IPPROTO_UDP, "2001:db8::5", p, "2001:db8:1::80", 53);
		uint32_t a = begin(w, w->site_a, p % 2 ? w->a1 : w->a2, t, NULL);
		uint32_t b = begin(w, w->site_b, w->b1, t, NULL);
		if (p % 5 == 0)
			fs_end(w->fs, a, w->now);
		if (p % 7 == 0)
			fs_end(w->fs, b, w->now);
	}
}

static inline void reopen(struct world *w)
{
	fs_close(w->fs);
	world_open(w);
}

static inline int arena_setup(void **state)
{
	(void)state;
	snprintf(path, sizeof(path), "/dev/shm/arrd-flowstate-arena.%d", (int)getpid());
	return 0;
}

static inline int arena_teardown(void **state)
{
	(void)state;
	unlink(path);
	return 0;
}

#endif
