/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ike_steer.c - what the loop asks of libcharon, as jobs for its threads; and the job that keeps connections up.
 *
 * A connection that is to be up is looked at once a second. Whatever brought it down (the peer's DELETE, silence, a refused
 * handshake, a key that was wrong for a while), it is tried again, at first after a second, then less and less often. That
 * replaces libcharon's own restarts, which give up after a refusal.
 */
#include "ipsec/ike_private.h"

#include <processing/jobs/callback_job.h>
#include <stdlib.h>

#define RETRY_MIN_S   1
#define RETRY_MAX_S   60
#define CHILD_WAIT_MS 10000 /* an IKE_SA without a CHILD_SA after that long is asked for one */
#define STEADY_MS     60000 /* what was up for less goes on being tried less and less often */
#define DUPLICATE_S   10

/* ---- jobs ------------------------------------------------------------------------------------------- */

enum order_kind {
	ORDER_END,
	ORDER_END_ONE,
	ORDER_INITIATE,
	ORDER_CHILD,
	ORDER_REKEY,
	ORDER_REKEY_CHILD,
	ORDER_EXPIRE,
	ORDER_MAPPING
};

struct order {
	enum order_kind kind;
	struct ike *ike;
	ike_sa_id_t *sa;        /* END, END_ONE (the one), CHILD, REKEY */
	ike_sa_id_t *other;     /* END_ONE */
	struct conn *conn;      /* INITIATE, CHILD; referenced */
	host_t *local, *remote; /* INITIATE, MAPPING; EXPIRE: local is the destination */
	uint32_t spi;           /* EXPIRE, MAPPING; host order */
	bool hard;
};

static void order_free(void *arg)
{
	struct order *o = arg;

	if (o->conn) {
		pthread_mutex_lock(&o->ike->lock);
		o->conn->ordered = false;
		pthread_mutex_unlock(&o->ike->lock);
	}
	if (o->sa)
		o->sa->destroy(o->sa);
	if (o->other)
		o->other->destroy(o->other);
	if (o->local)
		o->local->destroy(o->local);
	if (o->remote)
		o->remote->destroy(o->remote);
	ike_conn_put(o->ike, o->conn);
	free(o);
}

static struct order *order_new(struct ike *ike, enum order_kind kind)
{
	struct order *o = calloc(1, sizeof(*o));

	if (o) {
		o->kind = kind;
		o->ike = ike;
	}
	return o;
}

static ike_sa_t *checkout(ike_sa_id_t *id)
{
	return charon->ike_sa_manager->checkout(charon->ike_sa_manager, id);
}

static void checkin(ike_sa_t *sa, status_t status)
{
	if (status == DESTROY_ME)
		charon->ike_sa_manager->checkin_and_destroy(charon->ike_sa_manager, sa);
	else
		charon->ike_sa_manager->checkin(charon->ike_sa_manager, sa);
}

/* With a DELETE that is repeated until it is answered; one that is not established yet goes at once. */
static void end(ike_sa_id_t *id)
{
	ike_sa_t *sa = checkout(id);

	if (sa)
		checkin(sa, sa->get_state(sa) == IKE_DELETING ? SUCCESS : sa->delete (sa, FALSE));
}

/* Two IKE_SAs were begun from both ends at the same time. Both ends have to choose the same one: that whose initiator's SPI
 * is the smaller goes, if the other one still stands. */
static void end_one(ike_sa_id_t *a, ike_sa_id_t *b)
{
	bool a_goes = be64toh(a->get_initiator_spi(a)) < be64toh(b->get_initiator_spi(b));
	ike_sa_t *stays = checkout(a_goes ? b : a);
	bool is_up;

	if (!stays)
		return;
	is_up = stays->get_state(stays) == IKE_ESTABLISHED;
	checkin(stays, SUCCESS);
	if (is_up)
		end(a_goes ? a : b);
}

static void initiate(struct order *o)
{
	struct conn *c = o->conn;
	child_cfg_t *child = c->child_cfg->get_ref(c->child_cfg);
	ike_sa_t *sa;

	sa = charon->ike_sa_manager->create_new(charon->ike_sa_manager, IKEV2, TRUE);
	if (!sa) {
		child->destroy(child);
		return;
	}
	sa->set_peer_cfg(sa, c->peer_cfg);
	sa->set_my_host(sa, o->local->clone(o->local));
	sa->set_other_host(sa, o->remote->clone(o->remote));
	charon->ike_sa_manager->checkout_new(charon->ike_sa_manager, sa);
	charon->bus->set_sa(charon->bus, sa);
	checkin(sa, sa->initiate(sa, child, NULL));
}

static void add_child(struct order *o)
{
	ike_sa_t *sa = checkout(o->sa);
	struct conn *c = o->conn;

	if (!sa)
		return;
	if (sa->get_state(sa) == IKE_ESTABLISHED && sa->get_child_count(sa) == 0)
		checkin(sa, sa->initiate(sa, c->child_cfg->get_ref(c->child_cfg), NULL));
	else
		checkin(sa, SUCCESS);
}

static void rekey(ike_sa_id_t *id, bool child)
{
	ike_sa_t *sa = checkout(id);
	status_t status = SUCCESS;

	if (!sa)
		return;
	if (sa->get_state(sa) == IKE_ESTABLISHED && !child) {
		status = sa->rekey(sa);
	} else if (sa->get_state(sa) == IKE_ESTABLISHED) {
		enumerator_t *each = sa->create_child_sa_enumerator(sa);
		array_t *spis = array_create(sizeof(uint32_t), 0);
		child_sa_t *c;
		uint32_t spi;

		while (each->enumerate(each, &c)) {
			spi = c->get_spi(c, TRUE);
			if (c->get_state(c) == CHILD_INSTALLED)
				array_insert(spis, ARRAY_TAIL, &spi);
		}
		each->destroy(each);
		while (status != DESTROY_ME && array_remove(spis, ARRAY_HEAD, &spi))
			status = sa->rekey_child_sa(sa, PROTO_ESP, spi);
		array_destroy(spis);
	}
	checkin(sa, status);
}

/* The end of a peer behind a NAT is another one: good packets come from there. For one that is behind none that means nothing
 * (RFC 7296 2.23), but for MOBIKE, which tells. libcharon would not follow either where it has begun the IKE_SA and sees
 * itself behind a NAT, which may be what has changed. A gateway's NAT is a static one, or branches would not find it. */
static void follow(const struct order *o)
{
	ike_sa_t *sa = charon->child_sa_manager->checkout(
		charon->child_sa_manager, PROTO_ESP, htonl(o->spi), o->local, NULL);

	if (!sa)
		return;
	if (sa->has_condition(sa, COND_NAT_THERE))
		sa->update_hosts(sa, NULL, o->remote, UPDATE_HOSTS_FORCE_REMOTE);
	checkin(sa, SUCCESS);
}

static job_requeue_t carry_out(void *arg)
{
	struct order *o = arg;

	if (atomic_load(&o->ike->stopping))
		return JOB_REQUEUE_NONE;
	switch (o->kind) {
	case ORDER_END:
		end(o->sa);
		break;
	case ORDER_END_ONE:
		end_one(o->sa, o->other);
		break;
	case ORDER_INITIATE:
		initiate(o);
		break;
	case ORDER_CHILD:
		add_child(o);
		break;
	case ORDER_REKEY:
	case ORDER_REKEY_CHILD:
		rekey(o->sa, o->kind == ORDER_REKEY_CHILD);
		break;
	case ORDER_EXPIRE:
		charon->kernel->expire(charon->kernel, IPPROTO_ESP, htonl(o->spi), o->local, o->hard);
		break;
	case ORDER_MAPPING:
		follow(o);
		break;
	}
	return JOB_REQUEUE_NONE;
}

static job_t *job_of(struct order *o)
{
	return &callback_job_create_with_prio(carry_out, o, order_free, NULL, JOB_PRIO_MEDIUM)->job;
}

static void queue(struct order *o)
{
	if (o)
		lib->processor->queue_job(lib->processor, job_of(o));
}

/* Half again, at random: both ends of a connection may be trying. */
static uint64_t jittered_ms(uint32_t s)
{
	return (uint64_t)s * 1000 + (uint64_t)(random() % (long)(s * 500 + 1));
}

/* ---- from the listener -------------------------------------------------------------------------------- */

void ike_steer_end(struct ike *ike, ike_sa_id_t *id)
{
	struct order *o = order_new(ike, ORDER_END);

	if (o)
		o->sa = id->clone(id);
	queue(o);
}

void ike_steer_end_one(struct ike *ike, ike_sa_id_t *a, ike_sa_id_t *b)
{
	struct order *o = order_new(ike, ORDER_END_ONE);

	if (!o)
		return;
	o->sa = a->clone(a);
	o->other = b->clone(b);
	lib->scheduler->schedule_job(lib->scheduler, job_of(o), DUPLICATE_S);
}

void ike_steer_is_up(struct conn *c)
{
	c->up_ms = ike_now_ms();
	c->child_ms = c->next_try_ms = c->up_ms + CHILD_WAIT_MS;
}

/* Soon, when it stood for a while. */
void ike_steer_is_down(struct conn *c)
{
	uint64_t now_ms = ike_now_ms();

	if (c->up_ms && now_ms - c->up_ms >= STEADY_MS)
		c->backoff_s = 0;
	c->up_ms = 0;
	c->child_ms = 0;
	c->next_try_ms = now_ms + jittered_ms(c->backoff_s ? c->backoff_s : RETRY_MIN_S);
}

/* ---- from the loop ---------------------------------------------------------------------------------- */

/* What has to be done to bring c up, or NULL: it is, or is on its way. With the lock held. */
static struct order *order_up(
	struct ike *ike, struct conn *c, const struct sa_end *remote, uint16_t local_port)
{
	uint64_t now_ms = ike_now_ms();
	struct ike_sa_ref *up = NULL;
	struct order *o;

	if (c->ordered || (c->entries && c->told == IKE_STATE_UP))
		return NULL;
	for (struct ike_sa_ref *r = c->sas; r; r = r->next) {
		if (r->status.state == IKE_STATE_CONNECTING)
			return NULL;
		if (r->status.state == IKE_STATE_UP && !up)
			up = r;
	}
	if (up && now_ms < c->child_ms)
		return NULL;
	o = order_new(ike, up ? ORDER_CHILD : ORDER_INITIATE);
	if (!o)
		return NULL;
	o->conn = c;
	c->refs++;
	c->ordered = true;
	if (up) {
		c->child_ms = now_ms + CHILD_WAIT_MS;
		o->sa = up->id->clone(up->id);
		return o;
	}
	o->local = ike_host(&c->local, local_port);
	o->remote = ike_host(&remote->a, remote->port ? remote->port : local_port);
	return o;
}

int ike_initiate(struct ike *ike, uint32_t id, const struct sa_end *remote_end, uint16_t local_port)
{
	struct sa_end configured = {.port = 0};
	struct order *o = NULL;
	struct conn *c;
	int ret = 0;

	pthread_mutex_lock(&ike->lock);
	c = ike_conn_by_id(ike, id);
	if (c)
		configured.a = c->remote;
	if (!remote_end)
		remote_end = &configured;
	if (!c) {
		ret = -ENOENT;
	} else if (addr_is_none(&remote_end->a)) {
		ret = -EDESTADDRREQ;
	} else {
		c->held = false;
		o = order_up(ike, c, remote_end, local_port);
	}
	pthread_mutex_unlock(&ike->lock);
	queue(o);
	return ret;
}

/* The same order for each of a connection's IKE_SAs. */
static int order_each(struct ike *ike, uint32_t id, enum order_kind kind, bool hold)
{
	array_t *orders = array_create(0, 0);
	struct order *o;
	struct conn *c;

	pthread_mutex_lock(&ike->lock);
	c = ike_conn_by_id(ike, id);
	if (c && hold) {
		c->held = true;
		ike_kernel_forget(ike, c);
	}
	for (struct ike_sa_ref *r = c ? c->sas : NULL; r; r = r->next) {
		if ((o = order_new(ike, kind))) {
			o->sa = r->id->clone(r->id);
			array_insert(orders, ARRAY_TAIL, o);
		}
	}
	pthread_mutex_unlock(&ike->lock);
	while (array_remove(orders, ARRAY_HEAD, &o))
		queue(o);
	array_destroy(orders);
	return c ? 0 : -ENOENT;
}

int ike_rekey(struct ike *ike, uint32_t id, bool child)
{
	return order_each(ike, id, child ? ORDER_REKEY_CHILD : ORDER_REKEY, false);
}

int ike_terminate(struct ike *ike, uint32_t id)
{
	return order_each(ike, id, ORDER_END, true);
}

void ike_expire(struct ike *ike, const struct sa *sa, bool hard)
{
	struct order *o = order_new(ike, ORDER_EXPIRE);

	if (!o)
		return;
	/* By the inbound SPI, which is ours and nobody else's, where the other direction is there still. */
	if (!sa->inbound && sa->twin)
		sa = sa->twin;
	o->spi = sa->spi;
	o->hard = hard;
	o->local = ike_host(sa->inbound ? &sa->local.a : &sa->remote.a, 0);
	queue(o);
}

void ike_mapping(struct ike *ike, const struct sa *inbound, const struct sa_end *remote)
{
	struct order *o = order_new(ike, ORDER_MAPPING);

	if (!o)
		return;
	o->spi = inbound->spi;
	o->local = ike_host(&inbound->local.a, inbound->local.port);
	o->remote = ike_host(&remote->a, remote->port);
	queue(o);
}

/* ---- keeping connections up --------------------------------------------------------------------------- */

static bool is_due(const struct conn *c, uint64_t now_ms)
{
	return !c->held && !addr_is_none(&c->remote) && now_ms >= c->next_try_ms;
}

static job_requeue_t look_after(void *arg)
{
	struct ike *ike = arg;
	uint64_t now_ms = ike_now_ms();
	array_t *orders = array_create(0, 0);
	struct order *o;

	pthread_mutex_lock(&ike->lock);
	for (struct conn *c = ike->initiating; c; c = c->next_initiating) {
		struct sa_end remote = {c->remote, 0};

		o = is_due(c, now_ms) ? order_up(ike, c, &remote, IKE_PORT) : NULL;
		if (!o)
			continue;
		c->backoff_s = c->backoff_s ? c->backoff_s * 2 : RETRY_MIN_S;
		if (c->backoff_s > RETRY_MAX_S)
			c->backoff_s = RETRY_MAX_S;
		c->next_try_ms = now_ms + jittered_ms(c->backoff_s);
		array_insert(orders, ARRAY_TAIL, o);
	}
	pthread_mutex_unlock(&ike->lock);
	while (array_remove(orders, ARRAY_HEAD, &o))
		queue(o);
	array_destroy(orders);
	return JOB_RESCHEDULE(1);
}

void ike_steer_start(struct ike *ike)
{
	callback_job_t *job = callback_job_create_with_prio(look_after, ike, NULL, NULL, JOB_PRIO_MEDIUM);

	lib->processor->queue_job(lib->processor, &job->job);
}
