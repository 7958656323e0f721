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

/* Nobody has its tuples yet, nor do its own halves share one. */
static bool alone(const struct flowstate *fs, uint32_t i)
{
	const struct flow_head *h = head_of(fs, i);
	struct tuple orig, reply;
	record_tuple(h, FS_ORIG, &orig);
	record_tuple(h, FS_REPLY, &reply);
	if (lookup(fs, h->realm[FS_REPLY], &reply) != REF_NONE)
		return false;
	if (!is_live(h))
		return true;
	if (h->realm[0] == h->realm[1] && memcmp(&orig, &reply, sizeof(orig)) == 0)
		return false;
	return lookup(fs, h->realm[FS_ORIG], &orig) == REF_NONE;
}

static void erase(struct flowstate *fs, uint32_t i)
{
	mark_clear(&body_of(fs, i)->mark);
	head_of(fs, i)->state = FS_FREE;
}

/* Times that lie ahead come from damage: they would keep the record for ever. */
static void mend_times(const struct flowstate *fs, uint32_t i)
{
	struct flow_body *b = body_of(fs, i);
	if (b->seen > fs->now)
		b->seen = fs->now;
	if (b->created > b->seen)
		b->created = b->seen;
}

static bool empty(const struct flowstate *fs, uint32_t i)
{
	return head_of(fs, i)->state == FS_FREE && !body_of(fs, i)->mark;
}

static bool adopt_one(struct flowstate *fs, uint32_t i, struct fs_open_report *rep)
{
	if (empty(fs, i))
		return false;
	if (!whole(fs, i) || !alone(fs, i)) {
		erase(fs, i);
		rep->torn++;
		return false;
	}
	return true;
}

int adopt_records(struct flowstate *fs, struct fs_open_report *rep)
{
	struct arena_header *header = fs->arena.header;
	uint32_t max = fs->arena.max, high = header->high;

	for (uint32_t i = 0; i < high && i < max; i++) {
		if (adopt_one(fs, i, rep)) {
			mend_times(fs, i);
			record_enter(fs, i);
		}
	}
	for (uint32_t i = high < max ? high : max; i-- > 0;) {
		if (empty(fs, i))
			record_list_free(fs, i);
	}
	/* flows.max is lower than it was: what lies above it moves down. Killed in between, the file has the
	 * record twice, and the next start drops one. */
	for (uint32_t i = max; i < high; i++) {
		if (!adopt_one(fs, i, rep))
			continue;
		uint32_t to = record_take(fs);
		if (to == FS_NONE)
			return -ENOSPC;
		struct flow_body body = *body_of(fs, i);
		body.mark = 0;
		record_write(fs, to, head_of(fs, i), &body);
		erase(fs, i);
		mend_times(fs, to);
		record_enter(fs, to);
	}
	if (high > max) {
		header->high = max;
		arena_trim(&fs->arena);
	}
	rep->flows = fs->stats.used;
	names_drop_unused(&fs->names);
	expire_sweep(fs);
	return 0;
}
