/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ike_conn.c - the connections: their tables, and how libcharon finds one (backend_t).
 *
 * libcharon asks twice for a handshake as responder. By addresses, for IKE_SA_INIT: it is shown the few shared ike_cfgs of
 * the peer's address and of "any". By identities, for IKE_AUTH: it is shown the connections of that remote identity, by a
 * hash. So a handshake costs the same with one connection as with thousands.
 *
 * A connection's pair of identities is its own. libcharon ends every IKE_SA of the same pair when a peer says
 * INITIAL_CONTACT, whichever connection it is of.
 */
#include "ipsec/ike_private.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- tables, with the lock held ------------------------------------------------------------------------- */

static struct conn **bucket_id(struct ike *ike, uint32_t id)
{
	return &ike->by_id[id & (IKE_BUCKETS - 1)];
}

static struct conn **bucket_cfg(struct ike *ike, peer_cfg_t *cfg)
{
	return &ike->by_cfg[chunk_hash(chunk_from_thing(cfg)) & (IKE_BUCKETS - 1)];
}

/* Whatever identification_t.equals() takes for equal has the same hash: names are the same in upper and lower case, and so
 * are the strings within distinguished names, whatever their ASN.1 type. */
uint32_t ike_hash_identity(identification_t *id)
{
	chunk_t c = id->get_encoding(id);
	id_type_t type = id->get_type(id);
	uint32_t h = (uint32_t)type;
	enumerator_t *parts;
	id_part_t part;

	switch (type) {
	case ID_FQDN:
	case ID_RFC822_ADDR:
		for (size_t i = 0; i < c.len; i++) {
			u_char lower = (u_char)tolower(c.ptr[i]);
			h = chunk_hash_inc(chunk_from_thing(lower), h);
		}
		return h;
	case ID_DER_ASN1_DN:
		parts = id->create_part_enumerator(id);
		while (parts->enumerate(parts, &part, &c))
			for (size_t i = 0; i < c.len; i++) {
				u_char lower = (u_char)tolower(c.ptr[i]);
				h = chunk_hash_inc(chunk_from_thing(lower), h);
			}
		parts->destroy(parts);
		return h;
	default:
		return chunk_hash_inc(c, h);
	}
}

static struct conn **bucket_peer(struct ike *ike, identification_t *id)
{
	return &ike->by_peer[ike_hash_identity(id) & (IKE_BUCKETS - 1)];
}

struct conn *ike_conn_by_id(struct ike *ike, uint32_t id)
{
	struct conn *c;

	for (c = *bucket_id(ike, id); c && c->id != id; c = c->next_id)
		;
	return c;
}

struct conn *ike_conn_by_cfg(struct ike *ike, peer_cfg_t *cfg)
{
	struct conn *c;

	if (!cfg)
		return NULL;
	for (c = *bucket_cfg(ike, cfg); c && c->peer_cfg != cfg; c = c->next_cfg)
		;
	return c;
}

struct conn *ike_conn_current(struct ike *ike)
{
	ike_sa_t *sa = charon->bus->get_sa(charon->bus);
	struct conn *c;

	if (!sa)
		return NULL;
	pthread_mutex_lock(&ike->lock);
	c = ike_conn_by_cfg(ike, sa->get_peer_cfg(sa));
	if (c)
		c->refs++;
	pthread_mutex_unlock(&ike->lock);
	return c;
}

static void link_conn(struct ike *ike, struct conn *c)
{
	struct conn **p;

	p = bucket_id(ike, c->id);
	c->next_id = *p;
	*p = c;
	p = bucket_cfg(ike, c->peer_cfg);
	c->next_cfg = *p;
	*p = c;
	p = bucket_peer(ike, c->remote_id);
	c->next_peer = *p;
	*p = c;
	if (c->initiate) {
		c->next_initiating = ike->initiating;
		ike->initiating = c;
	}
}

static void unlink_conn(struct ike *ike, struct conn *c)
{
	struct conn **p;

	for (p = bucket_id(ike, c->id); *p != c; p = &(*p)->next_id)
		;
	*p = c->next_id;
	for (p = bucket_cfg(ike, c->peer_cfg); *p != c; p = &(*p)->next_cfg)
		;
	*p = c->next_cfg;
	for (p = bucket_peer(ike, c->remote_id); *p != c; p = &(*p)->next_peer)
		;
	*p = c->next_peer;
	for (p = &ike->initiating; *p && *p != c; p = &(*p)->next_initiating)
		;
	if (*p)
		*p = c->next_initiating;
}

/* ---- life ------------------------------------------------------------------------------------------- */

static void conn_free(struct ike *ike, struct conn *c)
{
	if (c->peer_cfg)
		c->peer_cfg->destroy(c->peer_cfg);
	if (c->child_cfg)
		c->child_cfg->destroy(c->child_cfg);
	if (c->local_id)
		c->local_id->destroy(c->local_id);
	if (c->remote_id)
		c->remote_id->destroy(c->remote_id);
	ike_creds_drop(ike, c);
	free(c->name);
	free(c);
}

void ike_conn_put(struct ike *ike, struct conn *c)
{
	bool last;

	if (!c)
		return;
	pthread_mutex_lock(&ike->lock);
	last = --c->refs == 0;
	pthread_mutex_unlock(&ike->lock);
	if (last)
		conn_free(ike, c);
}

void ike_conns_free(struct ike *ike)
{
	for (unsigned i = 0; i < IKE_BUCKETS; i++) {
		struct conn *c;

		while ((c = ike->by_id[i])) {
			unlink_conn(ike, c);
			ike_bus_drop(c);
			ike_cfg_drop(ike, c);
			conn_free(ike, c);
		}
	}
	ike_cfg_free(ike);
}

/* ---- adding and removing ---------------------------------------------------------------------------- */

static bool is_single(identification_t *id)
{
	switch (id->get_type(id)) {
	case ID_IPV4_ADDR:
	case ID_IPV6_ADDR:
	case ID_FQDN:
	case ID_RFC822_ADDR:
	case ID_DER_ASN1_DN:
	case ID_DER_ASN1_GN:
	case ID_KEY_ID:
		return id->get_encoding(id).len > 0 && !id->contains_wildcards(id);
	default:
		return false;
	}
}

static int make_identity(identification_t **out, const char *text, const struct addr *a, const char *what,
	char *err, size_t errlen)
{
	char buf[ADDR_STRLEN];

	if (!text && addr_is_none(a)) {
		snprintf(err, errlen, "%s is missing; there is no address that could stand for it", what);
		return -EINVAL;
	}
	if (!text)
		text = addr_str(a, buf);
	*out = identification_create_from_string((char *)(uintptr_t)text);
	if (*out && is_single(*out))
		return 0;
	snprintf(err, errlen,
		"%s '%s' is not the identity of one peer; an address, name, key id or distinguished name "
		"without wildcards was expected",
		what, text);
	return -EINVAL;
}

static const struct conn *same_identities(struct ike *ike, const struct conn *c)
{
	for (const struct conn *o = *bucket_peer(ike, c->remote_id); o; o = o->next_peer)
		if (o->remote_id->equals(o->remote_id, c->remote_id) &&
			o->local_id->equals(o->local_id, c->local_id))
			return o;
	return NULL;
}

static int conn_new(struct ike *ike, struct conn **out, const struct ike_conn *want, char *err, size_t errlen)
{
	struct conn *c = calloc(1, sizeof(*c));
	int ret = -ENOMEM;

	if (!c)
		return ret;
	c->refs = 1;
	c->id = want->id;
	c->local = want->local;
	c->remote = want->remote;
	c->initiate = want->initiate;
	c->name = strdup(want->name);
	if (!c->name)
		goto fail;
	ret = make_identity(&c->local_id, want->local_id, &want->local, "local_id", err, errlen);
	if (!ret)
		ret = make_identity(&c->remote_id, want->remote_id, &want->remote, "remote_id", err, errlen);
	if (ret)
		goto fail;
	*out = c;
	return 0;

fail:
	conn_free(ike, c);
	return ret;
}

int ike_add(struct ike *ike, const struct ike_conn *want, char *err, size_t errlen)
{
	const struct conn *other;
	struct conn *c;
	int ret;

	err[0] = '\0';
	ret = conn_new(ike, &c, want, err, errlen);
	if (ret)
		return ret;
	ret = ike_creds_load(ike, c, want, err, errlen);
	if (ret)
		goto fail;

	pthread_mutex_lock(&ike->lock);
	if (ike_conn_by_id(ike, c->id)) {
		snprintf(err, errlen, "connection %u is there already", c->id);
		ret = -EEXIST;
	} else if ((other = same_identities(ike, c))) {
		snprintf(err, errlen,
			"local_id and remote_id are those of '%s' too; peers are told apart by them",
			other->name);
		ret = -EEXIST;
	} else {
		ret = ike_cfg_build(ike, c, want, err, errlen);
	}
	if (ret) {
		ike_cfg_drop(ike, c);
		pthread_mutex_unlock(&ike->lock);
		goto fail;
	}
	link_conn(ike, c);
	pthread_mutex_unlock(&ike->lock);
	if (want->initiate && !addr_is_none(&want->remote))
		(void)ike_initiate(ike, want->id, NULL, IKE_PORT);
	return 0;

fail:
	if (!err[0])
		snprintf(err, errlen, "no memory");
	conn_free(ike, c);
	return ret;
}

void ike_remove(struct ike *ike, uint32_t id)
{
	array_t *ends = array_create(0, 0);
	ike_sa_id_t *sa;
	struct conn *c;

	pthread_mutex_lock(&ike->lock);
	c = ike_conn_by_id(ike, id);
	if (c) {
		unlink_conn(ike, c);
		for (struct ike_sa_ref *r = c->sas; r; r = r->next)
			array_insert(ends, ARRAY_TAIL, r->id->clone(r->id));
		ike_kernel_forget(ike, c);
		ike_bus_drop(c);
		ike_cfg_drop(ike, c);
	}
	pthread_mutex_unlock(&ike->lock);
	ike_conn_put(ike, c);
	while (array_remove(ends, ARRAY_TAIL, &sa)) {
		ike_steer_end(ike, sa);
		sa->destroy(sa);
	}
	array_destroy(ends);
}

/* ---- backend_t -------------------------------------------------------------------------------------- */

static struct ike *of_backend(backend_t *b)
{
	return (struct ike *)(void *)((char *)b - offsetof(struct ike, backend));
}

/* Enumerators run without the lock, over references. */
static void ike_cfgs_free(void *list)
{
	linked_list_t *l = list;
	l->destroy_offset(l, offsetof(ike_cfg_t, destroy));
}

static void peer_cfgs_free(void *list)
{
	linked_list_t *l = list;
	l->destroy_offset(l, offsetof(peer_cfg_t, destroy));
}

static void collect_shares(
	struct ike *ike, const struct addr *remote, const struct addr *peer, linked_list_t *list)
{
	u_int hash = chunk_hash(chunk_create((u_char *)(uintptr_t)remote->b, 16));

	for (struct ike_share *s = ike->shares[hash & (IKE_BUCKETS - 1)]; s; s = s->next)
		if (addr_eq(&s->remote, remote) && addr_is4(&s->local) == addr_is4(peer))
			list->insert_last(list, s->cfg->get_ref(s->cfg));
}

static enumerator_t *create_ike_cfg_enumerator(backend_t *b, host_t *me, host_t *other)
{
	struct ike *ike = of_backend(b);
	struct addr remote, any = {0};
	linked_list_t *list;

	if (!other)
		return enumerator_create_empty();
	remote = ike_addr_from_chunk(other->get_address(other));
	list = linked_list_create();
	pthread_mutex_lock(&ike->lock);
	collect_shares(ike, &remote, &remote, list);
	collect_shares(ike, &any, &remote, list);
	pthread_mutex_unlock(&ike->lock);
	return enumerator_create_cleaner(list->create_enumerator(list), ike_cfgs_free, list);
}

static enumerator_t *create_peer_cfg_enumerator(backend_t *b, identification_t *me, identification_t *other)
{
	struct ike *ike = of_backend(b);
	linked_list_t *list;

	/* Nobody is found who does not say who he is. */
	if (!other || other->get_type(other) == ID_ANY)
		return enumerator_create_empty();
	list = linked_list_create();
	pthread_mutex_lock(&ike->lock);
	for (struct conn *c = *bucket_peer(ike, other); c; c = c->next_peer)
		if (c->remote_id->equals(c->remote_id, other))
			list->insert_last(list, c->peer_cfg->get_ref(c->peer_cfg));
	pthread_mutex_unlock(&ike->lock);
	return enumerator_create_cleaner(list->create_enumerator(list), peer_cfgs_free, list);
}

static peer_cfg_t *get_peer_cfg_by_name(backend_t *b, char *name)
{
	return NULL;
}

void ike_backend_init(struct ike *ike)
{
	ike->backend = (backend_t){
		.create_ike_cfg_enumerator = create_ike_cfg_enumerator,
		.create_peer_cfg_enumerator = create_peer_cfg_enumerator,
		.get_peer_cfg_by_name = get_peer_cfg_by_name,
	};
}
