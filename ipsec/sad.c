/* SPDX-License-Identifier: GPL-2.0-or-later */
/* sad.c - the SA database: slots, adding and taking, lifetimes.
 *
 * Inbound. An SPI is (slot, generation). A slot that becomes free goes to the end of a queue, and slots that were never
 * used come first, so that it is used again as late as possible; its generation is then another one. Where slots and
 * generations begin is random, so that the SPIs of an earlier process name nothing in this one.
 *
 *	free ──sad_reserve──► reserved ──sad_add──► live ──sad_take_in──► free
 *	       (any thread)      └────────sad_release─────────────────────► free
 *
 * Only sad_reserve takes slots, under the lock; only the loop gives them back, and only the loop looks at what a slot
 * holds. What it reads without the lock is the slot's SPI, which is atomic.
 *
 * Outbound. Which SA a tunnel sends by is the matter of sad_choice.c, what is held for SAs to come, that of sad_hold.c, and
 * who sends to an end, that of sad_ends.c.
 *
 * Tunnels lie in an array by the low half of their id, which is a slot of the flow table's. A slot's next tunnel may
 * come while SAs of the one before wait for their deletion, hence a list, nearly always of one.
 *
 * Invariants: an SA is in the list of its tunnel and direction and in the list of all; an inbound one is in the slot that
 * its SPI names. Twins name each other or nobody.
 *
 * References: RFC 4301 4.4.2 (SAD), 4303 3.3.3 (the sequence number must not cycle).
 */
#include "ipsec/sad.h"

#include "ipsec/sad_private.h"

#include <errno.h>
#include <sodium.h>
#include <stdlib.h>

/* Without extended sequence numbers 2^32 - 1 packets are the end; a quarter of them is left to renew the SA: nearly two
 * minutes at ten million packets a second. */
#define SEQ_HARD UINT32_MAX
#define SEQ_SOFT (3u << 30)

#define MS 1000u

/* ---- life --------------------------------------------------------------------------------------------- */

int sad_new(struct sad **out)
{
	struct sad *d = calloc(1, sizeof(*d));

	if (!d)
		return -ENOMEM;
	/* Large, but only pages that are used take memory. */
	d->slot = calloc(SAD_SLOTS, sizeof(*d->slot));
	d->tunnel = calloc(SAD_TUNNELS, sizeof(struct sad_tunnel *));
	d->end = calloc(SAD_ENDS, sizeof(struct sa *));
	d->held_of = calloc(SAD_TUNNELS, sizeof(*d->held_of));
	if (!d->slot || !d->tunnel || !d->end || !d->held_of) {
		free(d->held_of);
		free(d->end);
		free(d->tunnel);
		free(d->slot);
		free(d);
		return -ENOMEM;
	}
	pthread_mutex_init(&d->lock, NULL);
	randombytes_buf(&d->seed, sizeof(d->seed));
	randombytes_buf(d->ends_key, sizeof(d->ends_key));
	d->first_fresh = randombytes_uniform(SAD_SLOTS - 1);
	*out = d;
	return 0;
}

void sad_free(struct sad *d)
{
	if (!d)
		return;
	while (d->holds)
		sad_hold_drop(d, sad_slot_of(d, d->holds->spi));
	for (struct sa *sa = d->all, *next; sa; sa = next) {
		next = sa->all_next;
		sa_free(sa);
	}
	for (uint32_t i = 0; i < SAD_TUNNELS; i++) {
		for (struct sad_tunnel *t = d->tunnel[i], *next; t; t = next) {
			next = t->next;
			free(t);
		}
	}
	pthread_mutex_destroy(&d->lock);
	free(d->held_of);
	free(d->end);
	free(d->tunnel);
	free(d->slot);
	free(d);
}

/* ---- slots -------------------------------------------------------------------------------------------- */

/* The generation before a slot's first one: any, but another one in each process (the finalizer of MurmurHash3). */
static uint16_t first_gen(const struct sad *d, uint32_t slot)
{
	uint64_t x = d->seed + slot;

	x = (x ^ x >> 33) * 0xff51afd7ed558ccdu;
	x = (x ^ x >> 33) * 0xc4ceb9fe1a85ec53u;
	return (uint16_t)((x ^ x >> 33) & SAD_GEN_MASK);
}

/* With the lock. 0: there is none. Slot 0 is never used, so that SPIs are above 255. */
static uint32_t take_slot(struct sad *d)
{
	uint32_t i;

	if (d->fresh < SAD_SLOTS - 1)
		return 1 + (d->first_fresh + d->fresh++) % (SAD_SLOTS - 1);
	i = d->free_first;
	if (i) {
		d->free_first = d->slot[i].next_free;
		if (!d->free_first)
			d->free_last = 0;
	}
	return i;
}

int sad_reserve(struct sad *d, uint32_t tunnel, uint32_t *spi)
{
	struct sad_slot *s;
	uint32_t i;

	pthread_mutex_lock(&d->lock);
	i = take_slot(d);
	if (i) {
		s = &d->slot[i];
		s->gen = (uint16_t)(((s->used ? s->gen : first_gen(d, i)) + 1u) & SAD_GEN_MASK);
		s->used = true;
		s->holder = (uint16_t)(tunnel % SAD_TUNNELS);
		*spi = i << SAD_GEN_BITS | s->gen;
		atomic_store_explicit(&s->spi, *spi, memory_order_release);
	}
	pthread_mutex_unlock(&d->lock);
	return i ? 0 : -ENOSPC;
}

/* The slot is empty, and free from now on. */
static void give_slot(struct sad *d, struct sad_slot *s)
{
	uint32_t i = (uint32_t)(s - d->slot);

	sad_hold_drop(d, s);
	pthread_mutex_lock(&d->lock);
	atomic_store_explicit(&s->spi, 0, memory_order_relaxed);
	s->next_free = 0;
	if (d->free_last)
		d->slot[d->free_last].next_free = i;
	else
		d->free_first = i;
	d->free_last = i;
	pthread_mutex_unlock(&d->lock);
}

struct sad_slot *sad_slot_of(const struct sad *d, uint32_t spi)
{
	struct sad_slot *s = &d->slot[spi >> SAD_GEN_BITS];

	/* 0 is what a free slot has. */
	return spi && atomic_load_explicit(&s->spi, memory_order_acquire) == spi ? s : NULL;
}

void sad_release(struct sad *d, uint32_t spi)
{
	struct sad_slot *s = sad_slot_of(d, spi);

	if (s && !s->sa)
		give_slot(d, s);
}

struct sa *sad_in(const struct sad *d, uint32_t spi)
{
	const struct sad_slot *s = sad_slot_of(d, spi);

	return s ? s->sa : NULL;
}

bool sad_is_reserved(const struct sad *d, uint32_t spi)
{
	const struct sad_slot *s = sad_slot_of(d, spi);

	return s && !s->sa;
}

/* ---- tunnels ------------------------------------------------------------------------------------------ */

struct sad_tunnel *sad_tunnel_of(const struct sad *d, uint32_t id)
{
	struct sad_tunnel *t = d->tunnel[id % SAD_TUNNELS];

	while (t && t->id != id)
		t = t->next;
	return t;
}

struct sad_tunnel *sad_tunnel_make(struct sad *d, uint32_t id)
{
	struct sad_tunnel **at = &d->tunnel[id % SAD_TUNNELS], *t = sad_tunnel_of(d, id);

	if (t)
		return t;
	t = calloc(1, sizeof(*t));
	if (!t)
		return NULL;
	/* A number is never given to another tunnel: whose place this was is gone, or goes with its last SA. */
	while (*at) {
		struct sad_tunnel *old = *at;

		if (old->in || old->out) {
			at = &old->next;
			continue;
		}
		*at = old->next;
		free(old);
	}
	t->id = id;
	*at = t;
	return t;
}

static struct sa **list_of(struct sad_tunnel *t, bool inbound)
{
	return inbound ? &t->in : &t->out;
}

const struct sa *sad_first(const struct sad *d, uint32_t tunnel, bool inbound)
{
	struct sad_tunnel *t = sad_tunnel_of(d, tunnel);

	return t ? *list_of(t, inbound) : NULL;
}

/* ---- adding and taking -------------------------------------------------------------------------------- */

static uint64_t lower(uint64_t limit, uint64_t most)
{
	return limit && limit < most ? limit : most;
}

static bool is_double(const struct sad_tunnel *t, const struct sa *sa)
{
	for (const struct sa *o = t ? t->out : NULL; o; o = o->next)
		if (o->spi == sa->spi && o->ike == sa->ike)
			return true;
	return false;
}

int sad_add(struct sad *d, struct sa *sa, uint64_t now_ms)
{
	struct sad_slot *s = sa->inbound ? sad_slot_of(d, sa->spi) : NULL;
	struct sad_tunnel *t;

	if (sa->inbound && !s)
		return -ENOENT;
	if (sa->inbound ? s->sa != NULL : is_double(sad_tunnel_of(d, sa->tunnel), sa))
		return -EEXIST;
	t = sad_tunnel_make(d, sa->tunnel);
	if (!t)
		return -ENOMEM;
	if (!sa->esn) {
		sa->packets.soft = lower(sa->packets.soft, SEQ_SOFT);
		sa->packets.hard = lower(sa->packets.hard, SEQ_HARD);
	}
	sa->born_ms = now_ms;
	sa->next = *list_of(t, sa->inbound);
	*list_of(t, sa->inbound) = sa;
	sa->all_prev = NULL;
	sa->all_next = d->all;
	if (d->all)
		d->all->all_prev = sa;
	d->all = sa;
	d->count++;
	if (s)
		s->sa = sa;
	else
		sad_ends_add(d, sa);
	sad_choice_added(t, sa);
	return 0;
}

static void unlink_sa(struct sad *d, struct sad_tunnel *t, struct sa *sa)
{
	struct sa **at = list_of(t, sa->inbound);

	while (*at != sa)
		at = &(*at)->next;
	*at = sa->next;
	if (d->cursor == sa)
		d->cursor = sa->all_next;
	if (sa->all_prev)
		sa->all_prev->all_next = sa->all_next;
	else
		d->all = sa->all_next;
	if (sa->all_next)
		sa->all_next->all_prev = sa->all_prev;
	d->count--;
	if (!sa->inbound)
		sad_ends_remove(d, sa);
	sad_choice_gone(t, sa);
	sa->next = sa->all_next = sa->all_prev = NULL;
}

struct sa *sad_take_in(struct sad *d, uint32_t spi)
{
	struct sad_slot *s = sad_slot_of(d, spi);
	struct sa *sa = s ? s->sa : NULL;

	if (!sa)
		return NULL;
	unlink_sa(d, sad_tunnel_of(d, sa->tunnel), sa);
	s->sa = NULL;
	give_slot(d, s);
	return sa;
}

/* A peer that came back may use an SPI again that it had before: then the older SA is the one that ends first. */
struct sa *sad_take_out(struct sad *d, uint32_t spi, uint32_t tunnel)
{
	struct sad_tunnel *t = sad_tunnel_of(d, tunnel);
	struct sa *found = NULL;

	for (struct sa *sa = t ? t->out : NULL; sa; sa = sa->next)
		if (sa->spi == spi)
			found = sa;
	if (found)
		unlink_sa(d, t, found);
	return found;
}

int sad_move(struct sad *d, bool inbound, uint32_t spi, uint32_t tunnel, const struct sa_end *local,
	const struct sa_end *remote)
{
	struct sad_tunnel *t = sad_tunnel_of(d, tunnel);
	struct sa *sa = t ? *list_of(t, inbound) : NULL;

	while (sa && sa->spi != spi)
		sa = sa->next;
	if (!sa)
		return -ENOENT;
	if (!inbound)
		sad_ends_remove(d, sa);
	sa->local = *local;
	sa->remote = *remote;
	if (!inbound)
		sad_ends_add(d, sa);
	return 0;
}

/* ---- lifetimes ---------------------------------------------------------------------------------------- */

/* Sequence numbers are used up by what is not counted as use, too. Inbound, it is the peer's numbers that run out. */
static uint64_t packets_of(const struct sa *sa)
{
	uint64_t used = atomic_load_explicit(&sa->use->packets, memory_order_relaxed);
	uint64_t seq = sa->inbound ? sa->replay.top : sa->seq;

	return used > seq ? used : seq;
}

static bool reached(uint64_t is, uint64_t limit)
{
	return limit && is >= limit;
}

/* The clock may have been read before the SA was added. */
static void check_limits(struct sad *d, struct sa *sa, uint64_t now_ms, sad_expire_cb *cb, void *arg)
{
	uint64_t s = now_ms > sa->born_ms ? (now_ms - sa->born_ms) / MS : 0, packets = packets_of(sa);
	uint64_t octets = atomic_load_explicit(&sa->use->octets, memory_order_relaxed);

	if (!sa->hard_done && (reached(s, sa->time_s.hard) || reached(octets, sa->octets.hard) ||
				      reached(packets, sa->packets.hard))) {
		sa->soft_done = sa->hard_done = true;
		sad_tunnel_of(d, sa->tunnel)->until_ms = 0;
		cb(arg, sa, true);
	} else if (!sa->soft_done && (reached(s, sa->time_s.soft) || reached(octets, sa->octets.soft) ||
					     reached(packets, sa->packets.soft))) {
		sa->soft_done = true;
		cb(arg, sa, false);
	}
}

void sad_used(struct sa *sa, sad_expire_cb *cb, void *arg)
{
	if (sa->soft_done || (!reached(packets_of(sa), sa->packets.soft) &&
				     !reached(atomic_load_explicit(&sa->use->octets, memory_order_relaxed),
					     sa->octets.soft)))
		return;
	sa->soft_done = true;
	cb(arg, sa, false);
}

void sad_tick(struct sad *d, uint64_t now_ms, unsigned budget, sad_expire_cb *cb, void *arg)
{
	unsigned n = budget < d->count ? budget : d->count;

	sad_hold_tick(d, now_ms, budget);
	while (n-- && d->all) {
		struct sa *sa = d->cursor ? d->cursor : d->all;

		d->cursor = sa->all_next; /* cb may take it out */
		check_limits(d, sa, now_ms, cb, arg);
	}
}
