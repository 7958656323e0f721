/* SPDX-License-Identifier: GPL-2.0-or-later */
/* routes.c - longest-prefix match over the routes of all tunnels.
 *
 * One array sorted by (address, length, priority). The prefixes that hold an address form a chain: each is
 * inside the next wider one. So the search finds the last entry not above (address, 128) and follows `wider`
 * from there until one holds the address: O(log n) and the depth of nesting. It runs once a flow, not once a
 * packet.
 */
#include "gateway/routes.h"

#include <errno.h>
#include <stdlib.h>

#define NONE UINT32_MAX

struct route {
	struct prefix p;
	uint32_t wider; /* first entry of the next wider prefix that holds this one, or NONE */
	uint32_t priority;
	uint32_t order; /* of the tunnel's name */
	struct tunnel *tunnel;
};

struct routes {
	uint32_t n;
	struct route r[];
};

/* IPv6 first: in the 16-octet form ::/0 lies around all of IPv4, but holds none of it, and prefixes of one family
 * must nest. */
static int addr_cmp(const struct addr *a, const struct addr *b)
{
	if (addr_is4(a) != addr_is4(b))
		return addr_is4(a) ? 1 : -1;
	return memcmp(a, b, sizeof(*a));
}

static int route_cmp(const void *a, const void *b)
{
	const struct route *x = a, *y = b;
	int c = addr_cmp(&x->p.a, &y->p.a);

	if (c)
		return c;
	if (x->p.len != y->p.len)
		return x->p.len < y->p.len ? -1 : 1;
	if (x->priority != y->priority)
		return x->priority < y->priority ? -1 : 1;
	return x->order < y->order ? -1 : x->order > y->order;
}

int routes_new(struct routes **out, const struct tunnels *t, const struct config *c)
{
	struct routes *r;
	size_t total = 0;

	for (size_t i = 0; i < c->ntunnels; i++)
		total += c->tunnels[i].routes.n;
	r = malloc(sizeof(*r) + total * sizeof(r->r[0]));
	if (!r)
		return -ENOMEM;
	r->n = 0;
	for (uint32_t i = 0; i < c->ntunnels; i++)
		for (size_t k = 0; k < c->tunnels[i].routes.n; k++)
			r->r[r->n++] = (struct route){.p = c->tunnels[i].routes.p[k],
				.wider = NONE,
				.priority = c->tunnels[i].priority,
				.order = i,
				.tunnel = tunnels_at(t, i)};
	qsort(r->r, r->n, sizeof(r->r[0]), route_cmp);
	for (uint32_t i = 1; i < r->n; i++) {
		uint32_t w = i - 1;

		if (prefix_eq(&r->r[i].p, &r->r[w].p)) { /* same prefix, next tunnel */
			r->r[i].wider = r->r[w].wider;
			continue;
		}
		while (w != NONE && !prefix_has(&r->r[w].p, &r->r[i].p.a))
			w = r->r[w].wider;
		while (w != NONE && w > 0 && prefix_eq(&r->r[w].p, &r->r[w - 1].p))
			w--;
		r->r[i].wider = w;
	}
	*out = r;
	return 0;
}

void routes_free(struct routes *r)
{
	free(r);
}

/* Of the entries with the prefix of entry i (the first of them): the best tunnel of site. */
static struct tunnel *best(const struct routes *r, uint32_t i, fs_id site, uint64_t now_ms)
{
	struct tunnel *down = NULL;

	for (uint32_t k = i; k < r->n && prefix_eq(&r->r[k].p, &r->r[i].p); k++) {
		struct tunnel *t = r->r[k].tunnel;

		if (site != FS_ID_NONE && t->site != site)
			continue;
		if (tunnel_state(t, now_ms) == TUNNEL_UP)
			return t;
		if (!down)
			down = t;
	}
	return down;
}

struct tunnel *routes_find(const struct routes *r, const struct addr *a, fs_id site, uint64_t now_ms)
{
	uint32_t lo = 0, hi = r->n;

	while (lo < hi) { /* first entry whose address is above a */
		uint32_t mid = lo + (hi - lo) / 2;

		if (addr_cmp(&r->r[mid].p.a, a) <= 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	if (lo == 0)
		return NULL;
	lo--;
	while (lo > 0 && prefix_eq(&r->r[lo].p, &r->r[lo - 1].p))
		lo--;
	for (uint32_t i = lo; i != NONE; i = r->r[i].wider) {
		struct tunnel *t;

		if (!prefix_has(&r->r[i].p, a))
			continue;
		t = best(r, i, site, now_ms);
		if (t)
			return t;
	}
	return NULL;
}
