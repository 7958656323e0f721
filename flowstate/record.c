/* SPDX-License-Identifier: GPL-2.0-or-later */
/* record.c - records, from taking a free one to giving it back: file, index, wheel and counts in step. */
#include "flowstate/state.h"

#include <assert.h>
#include <string.h>

void record_tuple(const struct flow_head *h, enum fs_dir dir, struct tuple *t)
{
	*t = (struct tuple){.src = h->addr[dir],
		.dst = h->addr[dir + 1],
		.sport = h->port[dir],
		.dport = h->port[dir + 1],
		.proto = h->proto};
}

bool record_translated(const struct flow_head *h)
{
	return h->port[2] != h->port[0] || !addr_eq(&h->addr[2], &h->addr[0]);
}

uint32_t record_mark(const struct flowstate *fs, const struct flow_head *h)
{
	uint64_t w[6], m = 0;
	memcpy(w, h->addr, sizeof(w));
	for (unsigned i = 0; i < 6; i++)
		m = mark_mix(m, w[i]);
	m = mark_mix(m, (uint64_t)h->port[0] | (uint64_t)h->port[1] << 16 | (uint64_t)h->port[2] << 32 |
				(uint64_t)h->proto << 48);
	m = mark_mix(
		m, (uint64_t)names_id(&fs->names, h->realm[0]) << 32 | names_id(&fs->names, h->realm[1]));
	return mark_end(m);
}

void record_list_free(struct flowstate *fs, uint32_t i)
{
	fs->wheel.link[i].next = fs->free_first;
	fs->free_first = i;
}

uint32_t record_take(struct flowstate *fs)
{
	uint32_t i = fs->free_first;
	if (i != FS_NONE) {
		fs->free_first = fs->wheel.link[i].next;
		return i;
	}
	i = fs->arena.header->high;
	if (i >= fs->arena.max || !arena_back(&fs->arena, i + 1))
		return FS_NONE;
	/* Whatever a damaged file may hold up there must not become a record by the raised mark. */
	mark_clear(&body_of(fs, i)->mark);
	head_of(fs, i)->state = FS_FREE;
	__atomic_store_n(&fs->arena.header->high, i + 1, __ATOMIC_RELEASE);
	__atomic_store_n(&fs->arena.header->high_again, i + 1, __ATOMIC_RELEASE);
	return i;
}

void record_write(struct flowstate *fs, uint32_t i, const struct flow_head *h, const struct flow_body *b)
{
	struct flow_body *body = body_of(fs, i);
	assert(body->mark == 0 && b->mark == 0);
	*head_of(fs, i) = *h;
	*body = *b;
	mark_set(&body->mark, record_mark(fs, h));
}

void record_count(struct flowstate *fs, const struct flow_head *h, int delta)
{
	names_count(&fs->names, h, delta);
	fs->stats.used += (uint32_t)delta;
	if (record_translated(h) && names_outward(&fs->names, h))
		fs->names.slot[h->realm[FS_ORIG]].translated += (uint32_t)delta;
}

void record_crowd(struct flowstate *fs, const struct flow_head *h, int live, int held)
{
	struct crowd_at at;

	if (translate_crowded(fs, h, &at))
		crowd_count(&fs->crowd, at, live, held);
}

bool record_holds(const struct flowstate *fs, uint32_t i, enum fs_dir dir)
{
	const struct flow_head *h = head_of(fs, i);
	struct place p;
	struct tuple t;
	record_tuple(h, dir, &t);
	lookup_aim(fs, &p, h->realm[dir], &t, half_masked(fs, h, dir));
	lookup(fs, &p);
	return p.ref == REF(i, dir);
}

void record_enter(struct flowstate *fs, uint32_t i, uint64_t orig, uint64_t reply, bool both)
{
	const struct flow_head *h = head_of(fs, i);
	names_ref(&fs->names, h);
	fs->from_outside += names_begins_outside(&fs->names, h);
	index_in(&fs->index, reply, REF(i, FS_REPLY));
	if (both)
		index_in(&fs->index, orig, REF(i, FS_ORIG));
	if (is_live(h))
		record_count(fs, h, 1);
	else
		fs->stats.quarantined++;
	record_crowd(fs, h, is_live(h), 1);
	pressure_in(fs, i);
	wheel_in(&fs->wheel, i, expire_second(fs, i));
}

void record_free(struct flowstate *fs, uint32_t i)
{
	struct flow_head *h = head_of(fs, i);
	assert(h->state == FS_QUARANTINE);
	index_out(&fs->index, lookup_record_hash(fs, h, FS_REPLY), REF(i, FS_REPLY));
	if (record_closes(fs, h, FS_ORIG) && record_holds(fs, i, FS_ORIG))
		index_out(&fs->index, lookup_record_hash(fs, h, FS_ORIG), REF(i, FS_ORIG));
	wheel_out(&fs->wheel, i);
	pressure_out(fs, i, QUEUE_QUARANTINED);
	record_crowd(fs, h, 0, -1);
	fs->from_outside -= names_begins_outside(&fs->names, h);
	mark_clear(&body_of(fs, i)->mark);
	h->state = FS_FREE;
	names_unref(&fs->names, h);
	fs->stats.quarantined--;
	record_list_free(fs, i);
}

void record_yield(struct flowstate *fs, uint32_t ref, enum fs_dir dir)
{
	if (ref == REF_NONE || REF_DIR(ref) != dir)
		return;
	uint32_t i = REF_RECORD(ref);
	const struct flow_head *h = head_of(fs, i);
	if (h->state == FS_FREE) /* it went with its other half, or made room */
		return;
	assert(h->state == FS_QUARANTINE);
	if (dir == FS_REPLY)
		expire_release(fs, i);
	else
		index_out(&fs->index, lookup_record_hash(fs, h, FS_ORIG), ref);
}
