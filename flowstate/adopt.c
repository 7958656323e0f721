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

/* Where its halves are to be. */
static void aim(const struct flowstate *fs, uint32_t i, struct place half[2])
{
	const struct flow_head *h = head_of(fs, i);
	struct tuple t;
	for (int d = 0; d < 2; d++) {
		record_tuple(h, (enum fs_dir)d, &t);
		lookup_aim(fs, &half[d], h->realm[d], &t);
	}
}

/* Nobody has its tuples yet, nor do its own halves share one. */
static bool alone(const struct flowstate *fs, uint32_t i, struct place half[2])
{
	lookup(fs, &half[FS_REPLY]);
	if (half[FS_REPLY].ref != REF_NONE)
		return false;
	if (!is_live(head_of(fs, i)))
		return true;
	if (half[0].realm == half[1].realm && memcmp(&half[0].t, &half[1].t, sizeof(half[0].t)) == 0)
		return false;
	lookup(fs, &half[FS_ORIG]);
	return half[FS_ORIG].ref == REF_NONE;
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

static bool empty(const struct flowstate *fs, uint32_t i)
{
	return head_of(fs, i)->state == FS_FREE && !body_of(fs, i)->mark;
}

/* Judges a record. Returns whether it is to be entered, with its halves there. */
static bool judge(struct flowstate *fs, uint32_t i, struct place half[2], struct fs_open_report *rep)
{
	if (empty(fs, i))
		return false;
	if (whole(fs, i)) {
		aim(fs, i, half);
		if (alone(fs, i, half))
			return true;
	}
	erase(fs, i);
	rep->torn++;
	return false;
}

static void enter(struct flowstate *fs, uint32_t i, const struct place half[2])
{
	mend(fs, i);
	record_enter(fs, i, half[FS_ORIG].hash, half[FS_REPLY].hash);
}

int adopt_records(struct flowstate *fs, struct fs_open_report *rep)
{
	struct arena_header *header = fs->arena.header;
	uint32_t max = fs->arena.max, high = header->high;
	struct place half[2];

	for (uint32_t i = 0; i < high && i < max; i++) {
		if (judge(fs, i, half, rep))
			enter(fs, i, half);
	}
	for (uint32_t i = high < max ? high : max; i-- > 0;) {
		if (empty(fs, i))
			record_list_free(fs, i);
	}
	/* flows.max is lower than it was: what lies above it moves down. Killed in between, the file has the
	 * record twice, and the next start drops one. */
	for (uint32_t i = max; i < high; i++) {
		if (!judge(fs, i, half, rep))
			continue;
		uint32_t to = record_take(fs);
		if (to == FS_NONE)
			return -ENOSPC;
		struct flow_body body = *body_of(fs, i);
		body.mark = 0;
		record_write(fs, to, head_of(fs, i), &body);
		erase(fs, i);
		enter(fs, to, half);
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
