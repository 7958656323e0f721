/* SPDX-License-Identifier: GPL-2.0-or-later */
/* adopt.c - taking over the records of an earlier run.
 *
 * Nothing in a record is believed: a value that cannot be makes it torn, and a torn record is dropped. That
 * is no loss for one that was being written, since no packet of its flow had been sent. A record that is
 * whole but shares a tuple with an earlier one is dropped, too.
 */
#include "flowstate/state.h"

#include <errno.h>
#include <string.h>

static bool addresses_sane(const struct flow_head *h)
{
	bool is4 = addr_is4(&h->addr[0]);
	for (int k = 0; k < 3; k++) {
		if (addr_is_none(&h->addr[k]) || addr_is4(&h->addr[k]) != is4)
			return false;
	}
	return true;
}

static bool whole(const struct flowstate *fs, uint32_t i)
{
	const struct flow_head *h = head_of(fs, i);
	uint32_t mark = body_of(fs, i)->mark;
	if (!mark || mark != record_mark(fs, h))
		return false;
	if (h->state == FS_FREE || h->state >= FS_STATE_COUNT || !track_fits(h->proto, h->state))
		return false;
	for (int d = 0; d < 2; d++) {
		if (!names_plausible(&fs->names, h->realm[d], h->via[d]))
			return false;
	}
	return addresses_sane(h);
}

static void erase(struct flowstate *fs, uint32_t i)
{
	mark_clear(&body_of(fs, i)->mark);
	head_of(fs, i)->state = FS_FREE;
}

/* Times that lie ahead come from damage: they would keep the record for ever. So do window scales that no SYN can ask for. */
static void mend(const struct flowstate *fs, uint32_t i)
{
	struct flow_body *b = body_of(fs, i);
	if (b->seen > fs->now)
		b->seen = fs->now;
	if (b->created > b->seen)
		b->created = b->seen;
	for (int d = 0; d < 2; d++)
		if (b->window[d].scale > TCP_SCALE_MAX)
			b->window[d].scale = TCP_SCALE_MAX;
	if (b->syn_wscale > TCP_SCALE_MAX + 1)
		b->syn_wscale = TCP_SCALE_MAX + 1;
}

/* Nobody has it, or an original half in quarantine, which had given way. */
static bool to_be_had(const struct flowstate *fs, struct place *p)
{
	lookup(fs, p);
	uint32_t across = lookup_across(fs, p);
	if (across != REF_NONE && place_is(fs, p, across)) {
		if (p->ref != REF_NONE)
			return false;
		p->ref = across;
	}
	return p->ref == REF_NONE ||
	       (REF_DIR(p->ref) == FS_ORIG && !is_live(head_of(fs, REF_RECORD(p->ref))));
}

/* Nobody has its tuples yet, nor do its own halves share one. */
static bool alone(const struct flowstate *fs, uint32_t i, struct place half[2])
{
	if (!to_be_had(fs, &half[FS_REPLY]))
		return false;
	bool same = half[0].realm == half[1].realm && memcmp(&half[0].t, &half[1].t, sizeof(half[0].t)) == 0;
	bool orig = to_be_had(fs, &half[FS_ORIG]) && !same;
	return orig || !is_live(head_of(fs, i));
}

/* One that is alone. An original half in quarantine comes back if nobody has it. */
static void enter(struct flowstate *fs, uint32_t i, struct place half[2])
{
	const struct flow_head *h = head_of(fs, i);
	bool both = is_live(h) || (record_closes(fs, h, FS_ORIG) && half[FS_ORIG].ref == REF_NONE);
	record_yield(fs, half[FS_REPLY].ref, FS_ORIG);
	if (is_live(h))
		record_yield(fs, half[FS_ORIG].ref, FS_ORIG);
	mend(fs, i);
	record_enter(fs, i, half[FS_ORIG].hash, half[FS_REPLY].hash, both);
}

static bool empty(const struct flowstate *fs, uint32_t i)
{
	return head_of(fs, i)->state == FS_FREE && !body_of(fs, i)->mark;
}

/* ---- many at a time ---------------------------------------------------------------------------------- */

/* Records that are whole by themselves go through in groups: while one is compared with what was entered before, the
 * buckets that the next one will need are on their way to the cache. */
#define GROUP 16
/* So far ahead is a record asked for: the processor's own guesses end with the page. */
#define AHEAD 16
struct group {
	unsigned n;
	uint32_t record[GROUP];
	struct place half[GROUP][2];
};

struct adoption {
	struct flowstate *fs;
	struct fs_open_report *rep;
	struct group group[2];
	unsigned fills; /* which group is being filled; the other one waits to be entered */
	uint32_t free_last;
};

/* Behind the other free ones, so that the first are used first. */
static void list_free(struct adoption *a, uint32_t i)
{
	struct wheel_link *link = a->fs->wheel.link;
	link[i].next = FS_NONE;
	*(a->free_last == FS_NONE ? &a->fs->free_first : &link[a->free_last].next) = i;
	a->free_last = i;
}

static void drop(struct adoption *a, uint32_t i)
{
	/* A kill leaves the mark at 0. */
	a->rep->damaged += body_of(a->fs, i)->mark != 0;
	a->rep->torn++;
	erase(a->fs, i);
	if (i < a->fs->arena.max)
		list_free(a, i);
}

static void enter_group(struct adoption *a, struct group *g)
{
	for (unsigned k = 0; k < g->n; k++) {
		uint32_t i = g->record[k];
		if (alone(a->fs, i, g->half[k]))
			enter(a->fs, i, g->half[k]);
		else
			drop(a, i);
	}
	g->n = 0;
}

/* The group that was filled waits now, and the one that waited is entered. */
static void next_group(struct adoption *a)
{
	struct group *g = &a->group[a->fills];
	lookup_aim_records(a->fs, g->record, g->n, g->half);
	a->fills = !a->fills;
	enter_group(a, &a->group[a->fills]);
}

static void take_over(struct adoption *a, uint32_t end)
{
	struct flowstate *fs = a->fs;
	for (uint32_t i = 0; i < end; i++) {
		fs_prefetch(fs, i + AHEAD);
		if (empty(fs, i)) {
			list_free(a, i);
		} else if (whole(fs, i)) {
			struct group *g = &a->group[a->fills];
			g->record[g->n++] = i;
			if (g->n == GROUP)
				next_group(a);
		} else {
			drop(a, i);
		}
	}
	next_group(a);
	next_group(a);
}

/* flows.max is lower than it was: what lies above it moves down. Killed in between, the file has the record twice, and
 * the next start drops one. Returns 0; -ENOSPC when there is no room. */
static int move_down(struct adoption *a, uint32_t from, uint32_t end)
{
	struct flowstate *fs = a->fs;
	struct place half[1][2];
	for (uint32_t i = from; i < end; i++) {
		if (empty(fs, i))
			continue;
		bool good = whole(fs, i);
		if (good) {
			lookup_aim_records(fs, &i, 1, half);
			good = alone(fs, i, half[0]);
		}
		if (!good) {
			drop(a, i);
			continue;
		}
		uint32_t to = record_take(fs);
		if (to == FS_NONE)
			return -ENOSPC;
		struct flow_body body = *body_of(fs, i);
		body.mark = 0;
		record_write(fs, to, head_of(fs, i), &body);
		erase(fs, i);
		enter(fs, to, half[0]);
	}
	return 0;
}

int adopt_records(struct flowstate *fs, struct fs_open_report *rep)
{
	struct arena_header *header = fs->arena.header;
	uint32_t max = fs->arena.max, high = header->high;
	struct adoption a = {.fs = fs, .rep = rep, .free_last = FS_NONE};

	take_over(&a, high < max ? high : max);
	if (high > max) {
		int err = move_down(&a, max, high);
		if (err)
			return err;
		__atomic_store_n(&header->high_again, 0, __ATOMIC_RELEASE); /* it is being lowered */
		__atomic_store_n(&header->high, max, __ATOMIC_RELEASE);
		__atomic_store_n(&header->high_again, max, __ATOMIC_RELEASE);
		arena_trim(&fs->arena);
	}
	if (header->masks_since > fs->now) /* damage */
		header->masks_since = fs->now;
	rep->flows = fs->stats.used;
	names_drop_unused(&fs->names);
	expire_sweep(fs, false);
	return 0;
}
