/* SPDX-License-Identifier: GPL-2.0-or-later */
/* pressure.c - who makes room when there is none.
 *
 * A table that is full is no reason for one site to be shut out by another. Whoever has less than its fair share
 * (flows.max by the number of sites that have any) gets a record of the greediest site, in this order:
 *
 *   1. one in quarantine, the oldest: no conversation is harmed. What it closes goes to the filter of closed.c;
 *   2. a flow that nobody has answered, the oldest of the site that has most such flows, if it is above its share, too:
 *      floods and scans are of this kind;
 *   3. of the answered ones, of a few that are looked at, that which is nearest to its idle timeout.
 *
 * A site that has its share or more must make room itself, by 1 and 2: its conversations are not ended for what may be
 * its own flood. It may do so for half of the filter's entries, so that the other half is there for others.
 *
 * For its own site a flow that is a second old at most makes no room: at a flood's rate the oldest would be so young that no
 * handshake were ever finished.
 *
 * Before it comes to that, from three quarters of flows.max on, what has not been answered or is closing already waits
 * shorter, down to an eighth of its time, if it belongs to a site above its share.
 *
 * Beginning a flow is what costs most, and there is one processor for all: so each site may begin only so many a second
 * (flows.max_new_per_site), and so may all that is outside together: a stranger's scan uses up no site's own. What a flood
 * sends above that is dropped for the price of a look-up.
 *
 * An answered queue is in no strict order, since a packet does not move its flow: whoever is looked at and spared goes to
 * the end ("second chance").
 */
#include "flowstate/closed.h"
#include "flowstate/state.h"

#include <assert.h>
#include <errno.h>

#define YOUNG      UNITS_A_SECOND
#define CANDIDATES 16u

int pressure_open(struct pressure *p, uint32_t max)
{
	*p = (struct pressure){.max = max};
	p->link = arena_map_private(max * sizeof(*p->link));
	p->of = arena_map_private(FS_SLOTS * sizeof(*p->of));
	return p->link && p->of ? 0 : -ENOMEM;
}

void pressure_close(struct pressure *p)
{
	arena_unmap_private(p->link, p->max * sizeof(*p->link));
	arena_unmap_private(p->of, FS_SLOTS * sizeof(*p->of));
}

/* ---- queues --------------------------------------------------------------------------------------------- */

enum queue_kind pressure_kind(const struct flow_head *h, const struct flow_body *b)
{
	if (h->state == FS_QUARANTINE)
		return QUEUE_QUARANTINED;
	if (h->proto == IPPROTO_TCP)
		return h->state == FS_TCP_OPENING ? QUEUE_UNANSWERED : QUEUE_ANSWERED;
	return b->packets[FS_REPLY] ? QUEUE_ANSWERED : QUEUE_UNANSWERED;
}

static void push(struct pressure *p, struct queue *q, uint32_t i)
{
	p->link[i] = (struct queue_link){.prev = q->last};
	*(q->last ? &p->link[q->last - 1].next : &q->first) = i + 1;
	q->last = i + 1;
	q->n++;
}

static void unlink_from(struct pressure *p, struct queue *q, uint32_t i)
{
	struct queue_link l = p->link[i];
	assert(q->n > 0);
	*(l.prev ? &p->link[l.prev - 1].next : &q->first) = l.next;
	*(l.next ? &p->link[l.next - 1].prev : &q->last) = l.prev;
	q->n--;
}

void pressure_in(struct flowstate *fs, uint32_t i)
{
	struct pressure *p = &fs->pressure;
	const struct flow_head *h = head_of(fs, i);
	uint16_t s = names_charged(&fs->names, h);

	p->active += !pressure_total(p, s);
	push(p, &p->of[s][pressure_kind(h, body_of(fs, i))], i);
	if (pressure_total(p, s) > pressure_total(p, p->greediest))
		p->greediest = s;
	if (p->of[s][QUEUE_UNANSWERED].n > p->of[p->loudest][QUEUE_UNANSWERED].n)
		p->loudest = s;
}

void pressure_out(struct flowstate *fs, uint32_t i, enum queue_kind kind)
{
	struct pressure *p = &fs->pressure;
	uint16_t s = names_charged(&fs->names, head_of(fs, i));

	unlink_from(p, &p->of[s][kind], i);
	p->active -= !pressure_total(p, s);
}

void pressure_move(struct flowstate *fs, uint32_t i, enum queue_kind from)
{
	struct pressure *p = &fs->pressure;
	const struct flow_head *h = head_of(fs, i);
	struct queue *q = p->of[names_charged(&fs->names, h)];

	unlink_from(p, &q[from], i);
	push(p, &q[pressure_kind(h, body_of(fs, i))], i);
}

/* ---- room ----------------------------------------------------------------------------------------------- */

/* Of all sites, who has most records, and who has most flows without an answer. Reads every slot: as often as LOOKS lets it
 * until the next tick. */
#define LOOKS 262144u /* slots: half a millisecond */

static void look_around(struct flowstate *fs)
{
	struct pressure *p = &fs->pressure;
	uint32_t slots = fs->arena.header->names_high;

	if (p->looked + slots > LOOKS && p->looked)
		return;
	p->looked += slots;
	for (uint32_t s = 0; s < slots; s++) {
		if (pressure_total(p, (uint16_t)s) > pressure_total(p, p->greediest))
			p->greediest = (uint16_t)s;
		if (p->of[s][QUEUE_UNANSWERED].n > p->of[p->loudest][QUEUE_UNANSWERED].n)
			p->loudest = (uint16_t)s;
	}
}

static uint32_t share(const struct flowstate *fs, uint16_t site)
{
	const struct pressure *p = &fs->pressure;
	uint32_t sites = p->active + !pressure_total(p, site);

	return fs->arena.max / (sites ? sites : 1);
}

/* How much of its idle timeout has passed, in 65536ths. */
static uint64_t age_of(const struct flowstate *fs, uint32_t i)
{
	uint32_t timeout = fs->timeout[head_of(fs, i)->state];

	return ((uint64_t)(fs->now - body_of(fs, i)->seen) << 16) / (timeout ? timeout : 1);
}

static uint32_t answered_victim(struct flowstate *fs, struct queue *q)
{
	uint32_t best = FS_NONE;

	for (unsigned k = 0; k < CANDIDATES && k < q->n; k++) {
		uint32_t i = q->first - 1;
		if (best == FS_NONE || age_of(fs, i) > age_of(fs, best))
			best = i;
		unlink_from(&fs->pressure, q, i);
		push(&fs->pressure, q, i);
	}
	return best;
}

static uint32_t unanswered_victim(const struct flowstate *fs, const struct queue *q, bool young_too)
{
	if (!q->n || (!young_too && fs->now - body_of(fs, q->first - 1)->created <= YOUNG))
		return FS_NONE;
	return q->first - 1;
}

/* Of the site itself: nothing that was answered, and nothing young. */
static uint32_t own_victim(struct flowstate *fs, uint16_t site)
{
	struct queue *q = fs->pressure.of[site];

	if (q[QUEUE_QUARANTINED].n)
		return q[QUEUE_QUARANTINED].first - 1;
	return unanswered_victim(fs, &q[QUEUE_UNANSWERED], false);
}

static bool above(const struct flowstate *fs, uint16_t slot, uint16_t site, uint32_t fair)
{
	return slot != site && pressure_total(&fs->pressure, slot) > fair;
}

/* For a site that has less than its share: of another one that has more. */
static uint32_t others_victim(struct flowstate *fs, uint16_t site, uint32_t fair)
{
	struct pressure *p = &fs->pressure;

	bool loud = above(fs, p->loudest, site, fair) && p->of[p->loudest][QUEUE_UNANSWERED].n;
	if (!above(fs, p->greediest, site, fair) || (!loud && !p->looked))
		look_around(fs);
	if (!above(fs, p->greediest, site, fair))
		return FS_NONE;
	struct queue *q = p->of[p->greediest];
	if (q[QUEUE_QUARANTINED].n)
		return q[QUEUE_QUARANTINED].first - 1;
	uint32_t i = FS_NONE;
	if (above(fs, p->loudest, site, fair))
		i = unanswered_victim(fs, &p->of[p->loudest][QUEUE_UNANSWERED], true);
	if (i == FS_NONE)
		i = unanswered_victim(fs, &q[QUEUE_UNANSWERED], true);
	return i == FS_NONE ? answered_victim(fs, &q[QUEUE_ANSWERED]) : i;
}

/* An original half stays open to whom it was open: he who begins begins again by the same tuple, not by another one. */
static void close_halves(struct flowstate *fs, uint32_t i)
{
	const struct flow_head *h = head_of(fs, i);
	struct tuple t;

	/* Not long after a change it may have been masked before, and may be again: to be masked closes more. */
	bool masked =
		names_outward(&fs->names, h) && (fs->masks || masks_changed(fs, fs->timeout[FS_QUARANTINE]));
	record_tuple(h, FS_REPLY, &t);
	closed_add(&fs->arena, lookup_closed_hash(fs, h->realm[FS_REPLY], &t, masked), fs->now);
	if (!record_closes(fs, h, FS_ORIG) || !record_holds(fs, i, FS_ORIG))
		return;
	record_tuple(h, FS_ORIG, &t);
	closed_add_but(&fs->arena, lookup_closed_hash(fs, h->realm[FS_ORIG], &t, false),
		names_id(&fs->names, h->realm[FS_REPLY]), fs->now);
}

bool pressure_release(struct flowstate *fs, uint32_t i)
{
	if (!closed_room(&fs->arena, CLOSED_MAX))
		return false;
	close_halves(fs, i);
	expire_release(fs, i);
	return true;
}

bool pressure_make_room(struct flowstate *fs, uint16_t site)
{
	uint32_t fair = share(fs, site), i;
	bool itself = pressure_total(&fs->pressure, site) >= fair;

	if (!closed_room(&fs->arena, itself ? CLOSED_MAX / 2 : CLOSED_MAX))
		return false;
	i = itself ? own_victim(fs, site) : others_victim(fs, site, fair);
	if (i == FS_NONE)
		return false;
	if (is_live(head_of(fs, i)))
		expire_end(fs, i, FS_END_TABLE_FULL);
	else if (fs->on_end) /* what was asked of the kernel when it ended may still be waiting */
		fs->on_end(fs->on_end_arg, i, true);
	if (head_of(fs, i)->state == FS_QUARANTINE) { /* it is free where there is no quarantine */
		close_halves(fs, i);
		record_free(fs, i);
	}
	return true;
}

bool pressure_begins(struct flowstate *fs, uint16_t realm)
{
	struct slot *s = &fs->names.slot[realm];
	uint64_t rate = fs->max_new_per_site, most = rate * UNITS_A_SECOND; /* a second's worth at once */
	uint64_t credit = s->credit + (uint64_t)(fs->now - s->credit_at) * rate;

	if (!rate)
		return true;
	if (credit > most)
		credit = most;
	bool may = credit >= UNITS_A_SECOND;
	s->credit = (uint32_t)(may ? credit - UNITS_A_SECOND : credit);
	s->credit_at = fs->now;
	return may;
}

bool pressure_site_room(struct flowstate *fs, uint16_t site)
{
	uint32_t i = unanswered_victim(fs, &fs->pressure.of[site][QUEUE_UNANSWERED], false);

	if (i == FS_NONE)
		return false;
	expire_end(fs, i, FS_END_SITE_LIMIT);
	return true;
}

/* ---- adaptive timeouts ---------------------------------------------------------------------------------- */

uint32_t pressure_timeout(const struct flowstate *fs, uint32_t i)
{
	const struct flow_head *h = head_of(fs, i);
	uint32_t timeout = fs->timeout[h->state];
	uint64_t max = fs->arena.max, used = (uint64_t)fs->stats.used + fs->stats.quarantined;

	if (!fs->pressure.adapts || h->state == FS_QUARANTINE)
		return timeout;
	if (h->state != FS_TCP_CLOSING && h->state != FS_TCP_RESET &&
		pressure_kind(h, body_of(fs, i)) != QUEUE_UNANSWERED)
		return timeout;
	uint16_t site = names_charged(&fs->names, h);
	if (pressure_total(&fs->pressure, site) < share(fs, site))
		return timeout;
	/* From all of it at three quarters full to nothing at full, but an eighth. */
	uint64_t left = max > used ? (max - used) * 4 : 0, least = max / 8;
	return (uint32_t)(timeout * (left > max ? max : left < least ? least : left) / max);
}

void pressure_tick(struct flowstate *fs)
{
	struct pressure *p = &fs->pressure;
	uint64_t used = (uint64_t)fs->stats.used + fs->stats.quarantined;

	p->looked = 0;
	closed_tick(&fs->arena, fs->now, fs->timeout[FS_QUARANTINE]);
	if (!p->adapts && used * 4 >= (uint64_t)fs->arena.max * 3) {
		p->adapts = true;
		expire_sweep(fs, true); /* what hangs by its longer time already */
	} else if (p->adapts && used * 8 < (uint64_t)fs->arena.max * 5) {
		p->adapts = false;
	}
}
