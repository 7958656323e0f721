/* SPDX-License-Identifier: GPL-2.0-or-later */
/* crypto_keys.c - locked memory for keys.
 *
 * A key of its own pages, as sodium_malloc gives it, would be 16 KiB; with thousands of tunnels that is beyond what may
 * be locked. So chunks of locked pages are cut into slots of one size each. Slots are wiped when they are given back, and
 * chunks stay until the arena ends: there are at most as many as were needed at once.
 */
#include "ipsec/crypto_private.h"

#include <errno.h>
#include <sodium.h>
#include <stdlib.h>
#include <sys/mman.h>

#if defined(__SANITIZE_ADDRESS__)
#define HAVE_ASAN
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define HAVE_ASAN
#endif
#endif

/* A use of a key after its end is found out as with malloc. */
#ifdef HAVE_ASAN
#include <sanitizer/asan_interface.h>
#define POISON(p, n)   __asan_poison_memory_region(p, n)
#define UNPOISON(p, n) __asan_unpoison_memory_region(p, n)
#else
#define POISON(p, n)   ((void)(p), (void)(n))
#define UNPOISON(p, n) ((void)(p), (void)(n))
#endif

#define CHUNK   65536
#define CLASSES (KEY_MAX / KEY_ALIGN)

struct slot {
	struct slot *next;
};

struct chunk {
	struct chunk *next;
	void *pages;
};

struct key_arena {
	struct slot *spare[CLASSES]; /* slots of (i + 1) * KEY_ALIGN octets */
	struct chunk *chunks;
	unsigned count; /* slots in use */
	bool unlocked;  /* a chunk could not be locked */
};

static size_t slot_size(unsigned class)
{
	return (class + 1) * (size_t)KEY_ALIGN;
}

static unsigned class_of(size_t size)
{
	return (unsigned)((size + KEY_ALIGN - 1) / KEY_ALIGN) - 1;
}

int key_arena_new(struct key_arena **out)
{
	struct key_arena *a = calloc(1, sizeof(*a));
	if (!a)
		return -ENOMEM;
	*out = a;
	return 0;
}

void key_arena_free(struct key_arena *a)
{
	while (a->chunks) {
		struct chunk *c = a->chunks;
		a->chunks = c->next;
		UNPOISON(c->pages, CHUNK);
		sodium_memzero(c->pages, CHUNK);
		munmap(c->pages, CHUNK);
		free(c);
	}
	free(a);
}

static bool grow(struct key_arena *a, unsigned class)
{
	struct chunk *c = malloc(sizeof(*c));
	size_t size = slot_size(class);
	if (!c)
		return false;
	c->pages = mmap(NULL, CHUNK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (c->pages == MAP_FAILED) {
		free(c);
		return false;
	}
	if (mlock2(c->pages, CHUNK, 0) < 0) /* mlock; sanitizers leave this one alone */
		a->unlocked = true;
	(void)madvise(
		c->pages, CHUNK, MADV_DONTDUMP); /* not in a core file; a kernel without it is none of ours */
	for (size_t at = 0; at + size <= CHUNK; at += size) {
		struct slot *s = (void *)((uint8_t *)c->pages + at);
		s->next = a->spare[class];
		a->spare[class] = s;
	}
	POISON(c->pages, CHUNK);
	c->next = a->chunks;
	a->chunks = c;
	return true;
}

void *key_arena_get(struct key_arena *a, size_t size)
{
	unsigned class = class_of(size);
	struct slot *s;
	if (!a->spare[class] && !grow(a, class))
		return NULL;
	s = a->spare[class];
	UNPOISON(s, slot_size(class));
	a->spare[class] = s->next;
	s->next = NULL; /* the rest was wiped */
	a->count++;
	return s;
}

void key_arena_put(struct key_arena *a, void *p, size_t size)
{
	unsigned class = class_of(size);
	struct slot *s = p;
	sodium_memzero(p, slot_size(class));
	s->next = a->spare[class];
	a->spare[class] = s;
	POISON(p, slot_size(class));
	a->count--;
}

bool key_arena_locked(const struct key_arena *a)
{
	return !a->unlocked;
}

unsigned key_arena_count(const struct key_arena *a)
{
	return a->count;
}
