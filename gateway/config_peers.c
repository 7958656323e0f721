/* SPDX-License-Identifier: GPL-2.0-or-later */
/* config_peers.c - whether ipsec tunnels can be told apart.
 *
 * By what a responder gets to know: IKE_SA_INIT shows the two addresses; IKE_AUTH the identity that the branch has, and only
 * if it wants the one that it expects of us (RFC 7296 2.9, 3.5). So local, remote and remote_id must differ.
 *
 * And by what a peer is: one that begins anew says so for its pair of identities (INITIAL_CONTACT, RFC 7296 2.4), which ends
 * whatever else that pair has. So local_id and remote_id must differ, too.
 */
#include "gateway/config_private.h"

#include <stdlib.h>
#include <string.h>

struct peer {
	const struct item *it;
	char *local_id, *remote_id; /* in canonical form */
};

static int by_order(const struct peer *x, const struct peer *y)
{
	return x->it->order < y->it->order ? -1 : x->it->order > y->it->order;
}

static int by_place(const struct peer *x, const struct peer *y)
{
	const struct conf_tunnel *a = x->it->obj, *b = y->it->obj;
	int order = strcmp(x->remote_id, y->remote_id);

	if (!order)
		order = memcmp(&a->local, &b->local, sizeof(a->local));
	return order ? order : memcmp(&a->remote, &b->remote, sizeof(a->remote));
}

static int by_place_and_order(const void *a, const void *b)
{
	int order = by_place(a, b);

	return order ? order : by_order(a, b);
}

static int by_pair(const struct peer *x, const struct peer *y)
{
	int order = strcmp(x->remote_id, y->remote_id);

	return order ? order : strcmp(x->local_id, y->local_id);
}

static int by_pair_and_order(const void *a, const void *b)
{
	int order = by_pair(a, b);

	return order ? order : by_order(a, b);
}

/* NULL: it was refused, or memory is out. */
static char *canon_of(
	struct loader *l, const struct item *it, const char *key, const char *id, const struct addr *a)
{
	char canon[VALUE_IDENTITY_CANON], text[ADDR_STRLEN], *copy;

	if (!id && (addr_is_none(a) || item_has(it, key)))
		return NULL;
	if (value_identity_canon(id ? id : addr_str(a, text), canon, NULL))
		return NULL;
	copy = strdup(canon);
	if (!copy)
		l->nomem = true;
	return copy;
}

/* False where something of it was refused. */
static bool peer_of(struct loader *l, const struct item *it, struct peer *p)
{
	const struct conf_tunnel *t = it->obj;

	*p = (struct peer){.it = it};
	if (t->type != TUNNEL_IPSEC || addr_is_none(&t->local) || addr_is_none(&t->remote) != t->remote_any)
		return false;
	p->local_id = canon_of(l, it, "local_id", t->ike.local_id, &t->local);
	p->remote_id = canon_of(l, it, "remote_id", t->ike.remote_id, &t->remote);
	if (p->local_id && p->remote_id)
		return true;
	free(p->local_id);
	free(p->remote_id);
	return false;
}

static void check_places(struct loader *l, struct peer *peers, size_t n)
{
	qsort(peers, n, sizeof(*peers), by_place_and_order);
	for (size_t i = 1; i < n; i++) {
		const struct item *it = peers[i].it, *before = peers[i - 1].it;

		if (by_place(&peers[i - 1], &peers[i]) == 0)
			config_error(l, it, item_has(it, "remote_id") ? "remote_id" : "remote",
				"local, remote and remote_id are those of tunnel %s at %s:%d; expected a "
				"remote_id that tells them apart",
				before->name, before->file, before->line);
	}
}

static void check_pairs(struct loader *l, struct peer *peers, size_t n)
{
	qsort(peers, n, sizeof(*peers), by_pair_and_order);
	for (size_t i = 1; i < n; i++) {
		const struct item *it = peers[i].it, *before = peers[i - 1].it;

		if (by_pair(&peers[i - 1], &peers[i]) == 0 && by_place(&peers[i - 1], &peers[i]) != 0)
			config_error(l, it, item_has(it, "remote_id") ? "remote_id" : "local_id",
				"local_id and remote_id are those of tunnel %s at %s:%d; expected another of "
				"one of them, or each would end the other's connections",
				before->name, before->file, before->line);
	}
}

void config_check_peers(struct loader *l, struct item *const *tunnels, size_t n)
{
	struct peer *peers = calloc(n + 1, sizeof(*peers));
	size_t npeers = 0;

	if (!peers) {
		l->nomem = true;
		return;
	}
	for (size_t i = 0; i < n; i++)
		npeers += peer_of(l, tunnels[i], &peers[npeers]);
	check_places(l, peers, npeers);
	check_pairs(l, peers, npeers);
	for (size_t i = 0; i < npeers; i++) {
		free(peers[i].local_id);
		free(peers[i].remote_id);
	}
	free(peers);
}
