/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ike_kernel.c - libcharon's "kernel" for ESP: SAs become events to the loop.
 *
 * libcharon names an SA by SPI and destination. A table of what it has here answers for use (query_sa), tells inbound from
 * outbound, and lets a connection's SAs be taken away at once when it is removed, before the peer has answered anything.
 *
 * An SA is only made for an IKE_SA whose connection is still configured. That is looked up under the lock under which the
 * event is posted too, so that no SA of a removed connection comes after the events that took its SAs away.
 *
 * There are no policies: which packets go where is the gateway's affair, and it holds what comes to the selectors.
 */
#include "ipsec/ike_private.h"

#include <stdlib.h>

/* An SA, or an SPI that was reserved for one. SPIs in host order. */
struct ike_entry {
	uint32_t spi;
	struct addr dst;
	uint32_t tunnel;  /* 0: reserved only */
	uint32_t counted; /* the connection whose children it is one of; 0: none's */
	bool inbound;
	bool gone;          /* the loop has been told already */
	struct sa_use *use; /* NULL: reserved only */
	struct conn *conn;  /* NULL: reserved only, or removed */
	struct ike_entry *next, *next_of_conn;
};

struct ike_kernel {
	kernel_ipsec_t public;
	struct ike *ike;
};

static struct ike *owner(kernel_ipsec_t *public)
{
	return ((struct ike_kernel *)public)->ike;
}

/* ---- the table, with the lock held --------------------------------------------------------------------- */

/* SPIs of ours count up in their lower bits or their upper ones; peers' are random. */
static struct ike_entry **bucket(struct ike *ike, uint32_t spi)
{
	return &ike->entries[(spi ^ spi >> 13 ^ spi >> 19) & (IKE_BUCKETS - 1)];
}

/* A reservation's destination may have changed meanwhile (MOBIKE); but what comes from there is no inbound SA. */
static struct ike_entry **find(struct ike *ike, kernel_ipsec_sa_id_t *id)
{
	uint32_t spi = ntohl(id->spi);
	struct addr src = ike_addr_from_chunk(id->src->get_address(id->src));
	struct addr dst = ike_addr_from_chunk(id->dst->get_address(id->dst));
	struct ike_entry **reserved = NULL;

	for (struct ike_entry **p = bucket(ike, spi); *p; p = &(*p)->next) {
		if ((*p)->spi != spi)
			continue;
		if ((*p)->tunnel == id->if_id && addr_eq(&(*p)->dst, &dst))
			return p;
		if (!(*p)->tunnel && !addr_eq(&(*p)->dst, &src))
			reserved = p;
	}
	return reserved;
}

static void unlink_from_conn(struct ike_entry *e)
{
	struct ike_entry **p;

	if (!e->conn)
		return;
	for (p = &e->conn->entries; *p != e; p = &(*p)->next_of_conn)
		;
	*p = e->next_of_conn;
	e->conn = NULL;
}

static void link_to_conn(struct ike_entry *e, struct conn *c)
{
	e->conn = c;
	e->next_of_conn = c->entries;
	c->entries = e;
}

static void post_delete(struct ike *ike, const struct ike_entry *e)
{
	struct ike_event *v = ike_event_new(IKE_EVENT_SA_DELETE, e->tunnel);

	if (!v)
		return;
	v->inbound = e->inbound;
	v->spi = e->spi;
	if (e->inbound)
		v->local.a = e->dst;
	else
		v->remote.a = e->dst;
	ike_post(ike, v);
}

void ike_kernel_forget(struct ike *ike, struct conn *c)
{
	struct ike_entry *e;

	while ((e = c->entries)) {
		if (!e->gone)
			post_delete(ike, e);
		e->gone = true;
		unlink_from_conn(e);
	}
}

void ike_kernel_forget_children(struct ike *ike, struct conn *c, ike_sa_t *sa)
{
	enumerator_t *each = sa->create_child_sa_enumerator(sa);
	child_sa_t *child;

	while (each->enumerate(each, &child)) {
		uint32_t in = ntohl(child->get_spi(child, TRUE)), out = ntohl(child->get_spi(child, FALSE));

		for (struct ike_entry **p = &c->entries; *p;) {
			struct ike_entry *e = *p;

			if (e->spi != (e->inbound ? in : out)) {
				p = &e->next_of_conn;
				continue;
			}
			if (!e->gone)
				post_delete(ike, e);
			e->gone = true;
			unlink_from_conn(e);
		}
	}
	each->destroy(each);
}

void ike_kernel_free(struct ike *ike)
{
	for (unsigned i = 0; i < IKE_BUCKETS; i++) {
		struct ike_entry *e;

		while ((e = ike->entries[i])) {
			ike->entries[i] = e->next;
			unlink_from_conn(e);
			sa_use_put(e->use);
			free(e);
		}
	}
}

/* ---- what libcharon asks for ----------------------------------------------------------------------------- */

static kernel_feature_t get_features(kernel_ipsec_t *public)
{
	return KERNEL_ESP_V3_TFC | KERNEL_NO_POLICY_UPDATES;
}

/* An authenticated branch may ask for one CHILD_SA after the other. Counts one more of the IKE_SA that the calling thread works
 * on, with the lock held. False: it has as many as it may. */
static bool count_child(struct ike *ike, struct ike_entry *e)
{
	ike_sa_t *sa = charon->bus->get_sa(charon->bus);
	struct conn *c = sa ? ike_conn_by_cfg(ike, sa->get_peer_cfg(sa)) : NULL;

	if (!c)
		return true;
	if (c->children >= IKE_CHILDREN_MAX) {
		ike_post_failure(ike, c, "the peer has as many CHILD_SAs as it may: another one is refused");
		return false;
	}
	c->children++;
	e->counted = c->id;
	return true;
}

static void uncount_child(struct ike *ike, struct ike_entry *e)
{
	struct conn *c = e->counted ? ike_conn_by_id(ike, e->counted) : NULL;

	if (c)
		c->children--;
	e->counted = 0;
}

static status_t get_spi(kernel_ipsec_t *public, host_t *src, host_t *dst, uint8_t protocol, uint32_t *spi)
{
	struct ike *ike = owner(public);
	struct ike_entry *e;
	bool may;

	if (protocol != IPPROTO_ESP)
		return NOT_SUPPORTED;
	e = calloc(1, sizeof(*e));
	if (!e)
		return FAILED;
	e->inbound = true;
	e->dst = ike_addr_from_chunk(dst->get_address(dst));

	pthread_mutex_lock(&ike->lock);
	may = count_child(ike, e);
	if (may && sad_reserve(ike->sad, e->counted, &e->spi)) {
		uncount_child(ike, e);
		ike_post_failure(
			ike, NULL, "no SPI is left: the gateway has as many CHILD_SAs as it can have");
		may = false;
	}
	if (may) {
		e->next = *bucket(ike, e->spi);
		*bucket(ike, e->spi) = e;
		*spi = htonl(e->spi);
	}
	pthread_mutex_unlock(&ike->lock);
	if (may)
		return SUCCESS;
	free(e);
	return FAILED;
}

static status_t get_cpi(kernel_ipsec_t *public, host_t *src, host_t *dst, uint16_t *cpi)
{
	return NOT_SUPPORTED;
}

/* Selectors of one side into a new array. Returns their number, or -1. */
static int selectors(linked_list_t *list, struct sa_selector **out)
{
	enumerator_t *each = list->create_enumerator(list);
	int max = list->get_count(list), n = 0;
	traffic_selector_t *ts;

	*out = calloc((size_t)max + 1, sizeof(**out));
	while (*out && n < max && each->enumerate(each, &ts)) {
		struct sa_selector *s = &(*out)[n++];

		s->from = ike_addr_from_chunk(ts->get_from_address(ts));
		s->to = ike_addr_from_chunk(ts->get_to_address(ts));
		s->port_from = ts->get_from_port(ts);
		s->port_to = ts->get_to_port(ts);
		s->proto = ts->get_protocol(ts);
	}
	each->destroy(each);
	return *out ? n : -1;
}

static const struct suite *suite_of(const kernel_ipsec_add_sa_t *data)
{
	bool aead = data->enc_alg == ENCR_AES_GCM_ICV16 || data->enc_alg == ENCR_CHACHA20_POLY1305;
	size_t len = data->enc_key.len;

	if (aead && len < 4)
		return NULL;
	return suite_find(data->enc_alg, (uint16_t)(aead ? len - 4 : len), aead ? 0 : data->int_alg);
}

/* The SA, complete but for its use. NULL: not one of ours, or no memory. */
static struct sa *make_sa(struct ike *ike, kernel_ipsec_sa_id_t *id, kernel_ipsec_add_sa_t *data)
{
	const struct suite *suite = suite_of(data);
	ike_sa_t *ike_sa = charon->bus->get_sa(charon->bus);
	struct sa *sa;
	int nlocal, nremote;

	if (!suite || !ike_sa || id->proto != IPPROTO_ESP || data->ipcomp != IPCOMP_NONE ||
		(data->mode != MODE_TUNNEL && data->mode != MODE_TRANSPORT))
		return NULL;
	sa = calloc(1, sizeof(*sa));
	if (!sa)
		return NULL;
	sa->spi = ntohl(id->spi);
	sa->tunnel = id->if_id;
	sa->ike = ike_sa->get_unique_id(ike_sa);
	sa->inbound = data->inbound;
	sa->initiator = data->initiator;
	sa->esn = data->esn;
	sa->transport = data->mode == MODE_TRANSPORT;
	sa->tfc = data->tfc > UINT16_MAX ? UINT16_MAX : (uint16_t)data->tfc;
	sa->suite = suite;
	sa->time_s = (struct sa_limit){data->lifetime->time.rekey, data->lifetime->time.life};
	sa->octets = (struct sa_limit){data->lifetime->bytes.rekey, data->lifetime->bytes.life};
	sa->packets = (struct sa_limit){data->lifetime->packets.rekey, data->lifetime->packets.life};
	sa->local = ike_end_from_host(data->inbound ? id->dst : id->src);
	sa->remote = ike_end_from_host(data->inbound ? id->src : id->dst);
	if (!data->encap)
		sa->local.port = sa->remote.port = 0;
	if (sa->inbound)
		replay_init(&sa->replay, data->replay_window, data->esn);
	nlocal = selectors(data->inbound ? data->dst_ts : data->src_ts, &sa->local_ts);
	nremote = selectors(data->inbound ? data->src_ts : data->dst_ts, &sa->remote_ts);
	sa->use = sa_use_new();
	if (nlocal < 0 || nremote < 0 || !sa->use)
		goto fail;
	sa->nlocal_ts = (uint16_t)nlocal;
	sa->nremote_ts = (uint16_t)nremote;
	if (crypto_key_new(&sa->key, ike->keys, suite, data->enc_key.ptr, (uint32_t)data->enc_key.len,
		    suite->integ_len ? data->int_key.ptr : NULL,
		    suite->integ_len ? (uint32_t)data->int_key.len : 0))
		goto fail;
	return sa;

fail:
	sa_free(sa);
	return NULL;
}

/* libcharon knows an SA by SPI and destination, and what it then does to it would meet another branch's, where two are behind
 * one address: SPIs are their choice, and no secret. With the lock held. */
static bool is_of_another(struct ike *ike, const struct ike_entry *e, uint32_t tunnel, const struct addr *dst)
{
	for (const struct ike_entry *o = *bucket(ike, e->spi); o; o = o->next)
		if (o != e && o->spi == e->spi && !o->inbound && !o->gone && o->tunnel != tunnel &&
			addr_eq(&o->dst, dst))
			return true;
	return false;
}

static status_t add_sa(kernel_ipsec_t *public, kernel_ipsec_sa_id_t *id, kernel_ipsec_add_sa_t *data)
{
	struct ike *ike = owner(public);
	struct sa *sa = make_sa(ike, id, data);
	ike_sa_t *ike_sa = charon->bus->get_sa(charon->bus);
	struct ike_event *v = ike_event_new(IKE_EVENT_SA_ADD, id->if_id);
	struct ike_entry *e = NULL, **p;
	struct conn *c;

	if (!sa || !v)
		goto fail;
	if (!data->inbound && !(e = calloc(1, sizeof(*e))))
		goto fail;

	pthread_mutex_lock(&ike->lock);
	c = ike_conn_by_cfg(ike, ike_sa->get_peer_cfg(ike_sa));
	if (data->inbound) {
		p = find(ike, id);
		e = p && !(*p)->tunnel ? *p : NULL;
	} else {
		e->spi = sa->spi;
		e->next = *bucket(ike, sa->spi);
	}
	if (e && !data->inbound && is_of_another(ike, e, id->if_id, &sa->remote.a)) {
		ike_post_failure(ike, c, "the peer chose an SPI that another branch at its address has");
		c = NULL;
	}
	if (!c || c->id != id->if_id || !e) {
		pthread_mutex_unlock(&ike->lock);
		if (!data->inbound)
			free(e);
		goto fail;
	}
	if (!data->inbound)
		*bucket(ike, sa->spi) = e;
	e->inbound = data->inbound;
	e->tunnel = id->if_id;
	e->dst = data->inbound ? sa->local.a : sa->remote.a;
	e->use = sa_use_get(sa->use);
	link_to_conn(e, c);
	v->sa = sa;
	ike_post(ike, v);
	pthread_mutex_unlock(&ike->lock);
	return SUCCESS;

fail:
	sa_free(sa);
	ike_event_free(v);
	return FAILED;
}

static status_t update_sa(kernel_ipsec_t *public, kernel_ipsec_sa_id_t *id, kernel_ipsec_update_sa_t *data)
{
	struct ike *ike = owner(public);
	struct ike_event *v = ike_event_new(IKE_EVENT_SA_UPDATE, id->if_id);
	struct sa_end src = ike_end_from_host(data->new_src), dst = ike_end_from_host(data->new_dst);
	struct ike_entry **p, *e;
	bool found = false;

	if (!v)
		return FAILED;
	if (!data->new_encap)
		src.port = dst.port = 0;
	pthread_mutex_lock(&ike->lock);
	p = find(ike, id);
	e = p ? *p : NULL;
	if (e && e->tunnel) {
		found = true;
		e->dst = dst.a;
		v->spi = e->spi;
		v->inbound = e->inbound;
		v->local = e->inbound ? dst : src;
		v->remote = e->inbound ? src : dst;
	}
	if (found && !e->gone) {
		ike_post(ike, v);
		v = NULL;
	}
	pthread_mutex_unlock(&ike->lock);
	ike_event_free(v);
	return found ? SUCCESS : NOT_FOUND;
}

/* libcharon's clock is CLOCK_MONOTONIC; ours stamps by CLOCK_BOOTTIME. Only the distance to now means the same. */
static time_t monotonic_from_boot(uint64_t ms)
{
	struct timespec t;
	uint64_t now;

	if (!ms)
		return 0;
	clock_gettime(CLOCK_BOOTTIME, &t);
	now = (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
	return time_monotonic(NULL) - (time_t)((now > ms ? now - ms : 0) / 1000);
}

static status_t query_sa(kernel_ipsec_t *public, kernel_ipsec_sa_id_t *id, kernel_ipsec_query_sa_t *data,
	uint64_t *bytes, uint64_t *packets, time_t *last)
{
	struct ike *ike = owner(public);
	struct sa_use *use = NULL;
	struct ike_entry **p;

	pthread_mutex_lock(&ike->lock);
	p = find(ike, id);
	if (p && (*p)->use)
		use = sa_use_get((*p)->use);
	pthread_mutex_unlock(&ike->lock);
	if (!use)
		return NOT_FOUND;
	if (bytes)
		*bytes = atomic_load_explicit(&use->octets, memory_order_relaxed);
	if (packets)
		*packets = atomic_load_explicit(&use->packets, memory_order_relaxed);
	if (last)
		*last = monotonic_from_boot(atomic_load_explicit(&use->last_ms, memory_order_relaxed));
	sa_use_put(use);
	return SUCCESS;
}

static status_t del_sa(kernel_ipsec_t *public, kernel_ipsec_sa_id_t *id, kernel_ipsec_del_sa_t *data)
{
	struct ike *ike = owner(public);
	struct ike_entry **p, *e = NULL;

	pthread_mutex_lock(&ike->lock);
	p = find(ike, id);
	if (p) {
		struct conn *c = (*p)->conn;

		e = *p;
		*p = e->next;
		unlink_from_conn(e);
		uncount_child(ike, e);
		if (c && !c->entries)
			ike_steer_is_down(c);
		if (!e->gone)
			post_delete(ike, e);
	}
	pthread_mutex_unlock(&ike->lock);
	if (!e)
		return NOT_FOUND;
	sa_use_put(e->use);
	free(e);
	return SUCCESS;
}

/* ---- what there is none of ------------------------------------------------------------------------------- */

static status_t flush(kernel_ipsec_t *public)
{
	return SUCCESS;
}

static status_t manage_policy(
	kernel_ipsec_t *public, kernel_ipsec_policy_id_t *id, kernel_ipsec_manage_policy_t *data)
{
	return SUCCESS;
}

static status_t query_policy(kernel_ipsec_t *public, kernel_ipsec_policy_id_t *id,
	kernel_ipsec_query_policy_t *data, time_t *use_time)
{
	return NOT_SUPPORTED;
}

static bool bypass_socket(kernel_ipsec_t *public, int fd, int family)
{
	return true;
}

static bool enable_udp_decap(kernel_ipsec_t *public, int fd, int family, uint16_t port)
{
	return true;
}

static void destroy(kernel_ipsec_t *public)
{
	free(public);
}

kernel_ipsec_t *ike_kernel_create(void)
{
	struct ike_kernel *k = calloc(1, sizeof(*k));

	if (!k)
		return NULL;
	k->public = (kernel_ipsec_t){
		.get_features = get_features,
		.get_spi = get_spi,
		.get_cpi = get_cpi,
		.add_sa = add_sa,
		.update_sa = update_sa,
		.query_sa = query_sa,
		.del_sa = del_sa,
		.flush_sas = flush,
		.add_policy = manage_policy,
		.query_policy = query_policy,
		.del_policy = manage_policy,
		.flush_policies = flush,
		.bypass_socket = bypass_socket,
		.enable_udp_decap = enable_udp_decap,
		.destroy = destroy,
	};
	k->ike = ike_self();
	return &k->public;
}
