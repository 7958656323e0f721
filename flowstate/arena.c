/* SPDX-License-Identifier: GPL-2.0-or-later */
/* arena.c - the file of flow records: opened or made, judged as a whole, locked, mapped.
 *
 * The file is ours alone while we hold its lock (flock, which the kernel drops with the process). It is
 * judged before it is mapped; what is mapped is exactly as long as the file. It lies on a tmpfs, usually: its
 * pages are asked for (fallocate) before they are written to, since a full tmpfs answers a store with SIGBUS.
 */
#include "flowstate/arena.h"

#include "flowstate/closed.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define HEADER_OCTETS 4096
#define NAMES_OCTETS  ((size_t)FS_SLOTS * sizeof(struct name_entry))
#define CLOSED_OCTETS (2 * CLOSED_FILTER_OCTETS)
#define HUGE_OCTETS   ((size_t)2 << 20)
/* Records that memory is asked for at a time: 640 KiB. */
#define BACK_STEP 4096u

_Static_assert(sizeof(struct arena_header) <= HEADER_OCTETS, "header fits its page");
_Static_assert(NAMES_OCTETS % HEADER_OCTETS == 0, "blocks begin on a page");

static size_t octets_for(uint32_t records)
{
	size_t blocks = ((size_t)records + PER_BLOCK - 1) / PER_BLOCK;
	return HEADER_OCTETS + NAMES_OCTETS + CLOSED_OCTETS + blocks * sizeof(struct block);
}

static uint64_t header_check(const struct arena_header *h)
{
	uint64_t m = 0;
	const uint8_t *p = (const uint8_t *)h;
	for (size_t i = 0; i < offsetof(struct arena_header, check); i += 8) {
		uint64_t w;
		memcpy(&w, p + i, 8);
		m = mark_mix(m, w);
	}
	return m;
}
_Static_assert(offsetof(struct arena_header, check) % 8 == 0, "summed as words");

static void header_fill(struct arena_header *h, const struct fs_config *cfg)
{
	memset(h, 0, sizeof(*h));
	memcpy(h->magic, ARENA_MAGIC, sizeof(h->magic));
	h->layout = ARENA_LAYOUT;
	h->record_octets = sizeof(struct flow_head) + sizeof(struct flow_body);
	h->name_octets = sizeof(struct name_entry);
	h->names = FS_SLOTS;
	h->per_block = PER_BLOCK;
	memcpy(h->boot_id, cfg->boot_id, sizeof(h->boot_id));
	h->nat = cfg->nat;
	randombytes_buf(h->pool_key, sizeof(h->pool_key));
	h->check = header_check(h);
}

/* Why a header cannot be adopted, or NULL. octets: length of the file. */
static const char *header_fault(const struct arena_header *h, const struct fs_config *cfg, size_t octets)
{
	if (memcmp(h->magic, ARENA_MAGIC, sizeof(h->magic)) != 0)
		return "not a flow arena";
	if (h->layout != ARENA_LAYOUT)
		return "written by another version";
	if (h->record_octets != sizeof(struct flow_head) + sizeof(struct flow_body) ||
		h->name_octets != sizeof(struct name_entry) || h->names != FS_SLOTS ||
		h->per_block != PER_BLOCK)
		return "of another layout";
	if (h->check != header_check(h))
		return "header is damaged";
	if (memcmp(h->boot_id, cfg->boot_id, sizeof(h->boot_id)) != 0)
		return "of another boot";
	if (h->ready != 1)
		return "of a start that was not finished";
	if (h->names_high > FS_SLOTS || h->nat > FS_NAT_POOL || h->high > INT32_MAX ||
		(h->high_again && h->high_again != h->high && h->high_again + 1 != h->high))
		return "header is damaged";
	if (octets < octets_for(h->high))
		return "truncated";
	return NULL;
}

static const char *file_fault(const struct stat *st)
{
	if (!S_ISREG(st->st_mode))
		return "not a regular file";
	if (st->st_uid != geteuid())
		return "belongs to another user";
	if (st->st_mode & (S_IRWXG | S_IRWXO))
		return "open to other users";
	if (st->st_nlink != 1)
		return "has another name (hard link)";
	return NULL;
}

/* Opens the file and locks it. what we may not use is taken away from its name, and why is set. Returns the
 * descriptor, or -errno; *made when the file is empty and new. */
static int open_locked(const char *path, const char **why, bool *made)
{
	for (int tries = 0; tries < 8; tries++) {
		struct stat st, named;
		*made = false;
		int fd = open(path, O_RDWR | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
		if (fd < 0 && errno == ENOENT) {
			*made = true;
			fd = open(
				path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, S_IRUSR | S_IWUSR);
			if (fd < 0 && errno == EEXIST)
				continue;
		}
		if (fd < 0 && errno == ELOOP) {
			*why = "is a symbolic link";
			if (unlink(path) < 0)
				return -errno;
			continue;
		}
		if (fd < 0)
			return -errno;
		if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
			int err = errno == EWOULDBLOCK ? EBUSY : errno;
			close(fd);
			return -err;
		}
		if (fstat(fd, &st) < 0 || lstat(path, &named) < 0 || st.st_ino != named.st_ino ||
			st.st_dev != named.st_dev) {
			/* Somebody replaced it before we had the lock. */
			close(fd);
			continue;
		}
		const char *fault = file_fault(&st);
		if (fault) {
			*why = fault;
			close(fd);
			if (unlink(path) < 0)
				return -errno;
			continue;
		}
		return fd;
	}
	return -EAGAIN;
}

static int back(const struct arena *a, size_t from, size_t to)
{
	if (a->fd < 0 || from == to)
		return 0;
	if (fallocate(a->fd, 0, (off_t)from, (off_t)(to - from)) == 0)
		return 0;
	/* A file system that does not know how has to do without the guarantee. */
	return errno == EOPNOTSUPP ? 0 : -errno;
}

static void set_parts(struct arena *a)
{
	uint8_t *p = a->map;
	a->header = a->map;
	a->name = (void *)(p + HEADER_OCTETS);
	for (size_t f = 0; f < 2; f++)
		a->closed[f] = (void *)(p + HEADER_OCTETS + NAMES_OCTETS + f * CLOSED_FILTER_OCTETS);
	a->block = (void *)(p + HEADER_OCTETS + NAMES_OCTETS + CLOSED_OCTETS);
}

/* Maps the file, which is made at least as long as its records and max need. */
static int map_file(struct arena *a, uint32_t records)
{
	a->map_octets = octets_for(records);
	if (ftruncate(a->fd, (off_t)a->map_octets) < 0)
		return -errno;
	int err = back(a, 0, HEADER_OCTETS);
	if (err)
		return err;
	a->map = mmap(NULL, a->map_octets, PROT_READ | PROT_WRITE, MAP_SHARED, a->fd, 0);
	if (a->map == MAP_FAILED) {
		a->map = NULL;
		return -errno;
	}
	/* Taken up where the tmpfs is mounted with huge=advise. */
	madvise(a->map, a->map_octets, MADV_HUGEPAGE);
	set_parts(a);
	return 0;
}

static int map_memory(struct arena *a)
{
	a->map_octets = octets_for(a->max);
	a->map = arena_map_private(a->map_octets);
	if (!a->map)
		return -ENOMEM;
	set_parts(a);
	return 0;
}

int arena_open(
	struct arena *a, const struct fs_config *cfg, enum fs_open_kind *kind, char *why, size_t why_len)
{
	const char *fault = NULL;
	struct arena_header h = {};
	struct stat st;
	bool made;
	int err;

	memset(a, 0, sizeof(*a));
	a->fd = -1;
	a->max = cfg->max;
	*kind = FS_OPEN_NEW;
	if (why_len)
		why[0] = 0;
	if (!cfg->path) {
		err = map_memory(a);
		if (!err)
			header_fill(a->header, cfg);
		return err;
	}

	a->fd = open_locked(cfg->path, &fault, &made);
	if (a->fd < 0)
		return a->fd;
	if (fstat(a->fd, &st) < 0) {
		err = -errno;
		goto fail;
	}
	if (!made && st.st_size > 0) {
		*kind = FS_OPEN_ADOPTED;
		if (pread(a->fd, &h, sizeof(h), 0) != (ssize_t)sizeof(h))
			fault = "truncated";
		else
			fault = header_fault(&h, cfg, (size_t)st.st_size);
	}
	if (*kind == FS_OPEN_ADOPTED && !fault) {
		err = map_file(a, h.high > cfg->max ? h.high : cfg->max);
		if (err)
			goto fail;
		if (arena_back_names(a, h.names_high) && (closed_none(a) || arena_back_closed(a)) &&
			back(a, octets_for(0), octets_for(h.high)) == 0) {
			a->backed = h.high;
			return 0;
		}
		fault = "no memory for all of it";
		munmap(a->map, a->map_octets);
		a->map = NULL;
	}
	if (fault) {
		*kind = FS_OPEN_REFUSED;
		snprintf(why, why_len, "%s", fault);
	}
	if (ftruncate(a->fd, 0) < 0) {
		err = -errno;
		goto fail;
	}
	err = map_file(a, cfg->max);
	if (err)
		goto fail;
	header_fill(a->header, cfg);
	return 0;
fail:
	arena_close(a);
	return err;
}

void arena_trim(struct arena *a)
{
	/* The mapping may be longer than the file now; nothing behind max is touched any more. */
	if (a->fd >= 0 && a->map_octets > octets_for(a->max) &&
		ftruncate(a->fd, (off_t)octets_for(a->max)) < 0)
		return; /* then the file stays long, which costs memory and nothing else */
}

void arena_close(struct arena *a)
{
	if (a->map)
		munmap(a->map, a->map_octets);
	if (a->fd >= 0)
		close(a->fd);
	a->map = NULL;
	a->fd = -1;
}

bool arena_back(struct arena *a, uint32_t n)
{
	if (n <= a->backed)
		return true;
	if (a->starved)
		return false;
	uint32_t to = n > a->max - BACK_STEP || a->max < BACK_STEP ? a->max : n + BACK_STEP - 1;
	if (n > to)
		to = n;
	if (back(a, octets_for(a->backed), octets_for(to)) < 0) {
		a->starved = true;
		return false;
	}
	a->backed = to;
	return true;
}

bool arena_back_names(struct arena *a, uint32_t n)
{
	return back(a, 0, HEADER_OCTETS + n * sizeof(struct name_entry)) == 0;
}

bool arena_back_closed(struct arena *a)
{
	if (!a->closed_backed)
		a->closed_backed = back(a, HEADER_OCTETS + NAMES_OCTETS, octets_for(0)) == 0;
	return a->closed_backed;
}

void *arena_map_private(size_t octets)
{
	void *p = mmap(
		NULL, octets, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p == MAP_FAILED)
		return NULL;
	if (octets >= 2 * HUGE_OCTETS)
		madvise(p, octets, MADV_HUGEPAGE);
	return p;
}

void arena_unmap_private(void *p, size_t octets)
{
	if (p)
		munmap(p, octets);
}
