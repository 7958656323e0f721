/* SPDX-License-Identifier: GPL-2.0-or-later */
/* peers.c - where the branches of IPsec tunnels were last seen. */
#include "gateway/peers.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define NAME_MAX_LEN 63
#define LINE_LEN     256
#define PEERS_MAX    65536u
#define WORDS        6 /* of a line */

struct peer {
	char name[NAME_MAX_LEN + 1];
	struct peer_place at;
};

struct peers {
	char *path, *fresh; /* the file, and what becomes it */
	struct peer *v;     /* in order of name */
	size_t n, room;
	bool changed;
};

/* The place of a name: where it stands, or where it belongs. */
static size_t place(const struct peers *p, const char *name, bool *found)
{
	size_t lo = 0, hi = p->n;

	*found = false;
	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;
		int c = strcmp(name, p->v[mid].name);

		if (c == 0) {
			*found = true;
			return mid;
		}
		if (c < 0)
			hi = mid;
		else
			lo = mid + 1;
	}
	return lo;
}

bool peers_find(const struct peers *p, const char *tunnel, struct peer_place *at)
{
	bool found;
	size_t i = place(p, tunnel, &found);

	if (found)
		*at = p->v[i].at;
	return found;
}

void peers_forget(struct peers *p, const char *tunnel)
{
	bool found;
	size_t i = place(p, tunnel, &found);

	if (!found)
		return;
	memmove(&p->v[i], &p->v[i + 1], (p->n - i - 1) * sizeof(p->v[0]));
	p->n--;
	p->changed = true;
}

void peers_sift(struct peers *p, peers_keep_cb *keep, void *arg)
{
	size_t n = 0;

	for (size_t i = 0; i < p->n; i++)
		if (keep(arg, p->v[i].name, &p->v[i].at))
			p->v[n++] = p->v[i];
	p->changed |= n != p->n;
	p->n = n;
}

static bool make_room(struct peers *p)
{
	size_t room = p->room ? p->room * 2 : 64;
	struct peer *v;

	if (p->n < p->room)
		return true;
	if (p->n >= PEERS_MAX)
		return false;
	v = reallocarray(p->v, room, sizeof(*v));
	if (!v)
		return false;
	p->v = v;
	p->room = room;
	return true;
}

static bool is_same(const struct peer_place *a, const struct peer_place *b)
{
	return a->identity == b->identity && a->local_port == b->local_port && a->seen_s == b->seen_s &&
	       a->remote.port == b->remote.port && addr_eq(&a->remote.a, &b->remote.a);
}

void peers_set(struct peers *p, const char *tunnel, const struct peer_place *at)
{
	bool found;
	size_t i = place(p, tunnel, &found);

	if (found && is_same(&p->v[i].at, at))
		return;
	if (!found) {
		if (strlen(tunnel) > NAME_MAX_LEN || !make_room(p))
			return;
		memmove(&p->v[i + 1], &p->v[i], (p->n - i) * sizeof(p->v[0]));
		p->n++;
		snprintf(p->v[i].name, sizeof(p->v[i].name), "%s", tunnel);
	}
	p->v[i].at = *at;
	p->changed = true;
}

/* A port, 1 to 65535, and nothing behind it; 0: it is none. */
static uint16_t port_of(const char *s)
{
	char *end;
	unsigned long n;

	if (!s || *s < '0' || *s > '9')
		return 0;
	n = strtoul(s, &end, 10);
	return *end || n > UINT16_MAX ? 0 : (uint16_t)n;
}

/* Sixteen hexadecimal digits, and nothing else. */
static bool identity_of(const char *s, uint64_t *out)
{
	if (strlen(s) != 16 || strspn(s, "0123456789abcdef") != 16)
		return false;
	*out = strtoull(s, NULL, 16);
	return true;
}

static bool time_of(const char *s, uint64_t *out)
{
	size_t n = strspn(s, "0123456789");

	*out = strtoull(s, NULL, 10);
	return n > 0 && n < 19 && !s[n];
}

/* A line that is not one of ours is left out. */
static void take_line(struct peers *p, char *line, uint64_t now_s)
{
	char *rest = line, *word[WORDS + 1] = {NULL};
	struct peer_place at;
	unsigned n = 0;

	while (n < WORDS + 1 && (word[n] = strtok_r(n ? NULL : line, " \n", &rest)))
		n++;
	if (n != WORDS || !identity_of(word[1], &at.identity) || addr_parse(word[3], &at.remote.a) < 0 ||
		!time_of(word[5], &at.seen_s) || at.seen_s > now_s)
		return;
	at.local_port = port_of(word[2]);
	at.remote.port = port_of(word[4]);
	if (at.local_port && at.remote.port)
		peers_set(p, word[0], &at);
}

static void read_file(struct peers *p, uint64_t now_s)
{
	char line[LINE_LEN];
	FILE *f = fopen(p->path, "re");

	if (!f)
		return;
	while (fgets(line, sizeof(line), f))
		take_line(p, line, now_s);
	fclose(f);
	p->changed = false;
}

int peers_open(struct peers **out, const char *dir, uint64_t now_s)
{
	struct peers *p = calloc(1, sizeof(*p));

	if (!p)
		return -ENOMEM;
	if (asprintf(&p->path, "%s/peers", dir) < 0)
		p->path = NULL;
	if (asprintf(&p->fresh, "%s/peers.new", dir) < 0)
		p->fresh = NULL;
	if (!p->path || !p->fresh) {
		peers_free(p);
		return -ENOMEM;
	}
	read_file(p, now_s);
	*out = p;
	return 0;
}

void peers_free(struct peers *p)
{
	if (!p)
		return;
	free(p->path);
	free(p->fresh);
	free(p->v);
	free(p);
}

bool peers_changed(const struct peers *p)
{
	return p->changed;
}

/* Whole or not at all: a kill in between leaves the file of before. */
int peers_write(struct peers *p)
{
	char text[ADDR_STRLEN];
	int fd, r = 0;
	FILE *f;

	if (!p->changed)
		return 0;
	fd = open(p->fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return -errno;
	f = fdopen(fd, "w");
	if (!f) {
		r = -errno;
		close(fd);
		return r;
	}
	for (size_t i = 0; i < p->n; i++) {
		const struct peer_place *at = &p->v[i].at;

		fprintf(f, "%s %016" PRIx64 " %u %s %u %" PRIu64 "\n", p->v[i].name, at->identity,
			at->local_port, addr_str(&at->remote.a, text), at->remote.port, at->seen_s);
	}
	if (ferror(f))
		r = -EIO;
	if (fclose(f) != 0 && !r)
		r = -errno;
	if (!r && rename(p->fresh, p->path) < 0)
		r = -errno;
	p->changed = r != 0;
	return r;
}
