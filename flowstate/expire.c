/* SPDX-License-Identifier: GPL-2.0-or-later */
/* expire.c - when flows end, and what becomes of them.
 *
 * A flow ends by time, or early by command. Either way its record stays, in quarantine: only its reply tuple
 * is in the index then, closed to every site but the one that the flow was of. When that time is over, the
 * record is free. fs_tick does both, in bounded steps:
 *
 *   - the wheel names the records that may be due;
 *   - a sweep over all records follows when names were unbound (flows with such an attachment end) or
 *     timeouts changed (records are hung in anew). A new reason while one is under way begins it anew.
 *
 * Only when NAT changes are flows ended all at once: whatever they would still send carries an address that is not to be used
 * any more.
 */
#include "flowstate/state.h"

#include <assert.h>

uint64_t expire_due(const struct flowstate *fs, uint32_t i)
{
	return (uint64_t)body_of(fs, i)->seen + fs->timeout[head_of(fs, i)->state];
}

/* Rounded up: at the beginning of that second it is really due. */
uint32_t expire_second(const struct flowstate *fs, uint32_t i)
{
	uint64_t second = (expire_due(fs, i) + UNITS_A_SECOND - 1) / UNITS_A_SECOND;
	return second > UINT32_MAX ? UINT32_MAX : (uint32_t)second;
}

static void rehang(struct flowstate *fs, uint32_t i)
{
	wheel_out(&fs->wheel, i);
	wheel_in(&fs->wheel, i, expire_second(fs, i));
}

void expire_set_state(struct flowstate *fs, uint32_t i, enum fs_state next)
{
	struct flow_head *h = head_of(fs, i);
	assert(is_live(h) && next != FS_FREE && track_fits(h->proto, (uint8_t)next));
	uint32_t before = fs->timeout[h->state];
	__atomic_store_n(&h->state, (uint8_t)next, __ATOMIC_RELEASE);
	if (fs->timeout[next] < before || next == FS_QUARANTINE)
		rehang(fs, i);
}

void expire_end(struct flowstate *fs, uint32_t i, enum fs_end_why why)
{
	struct flow_head *h = head_of(fs, i);
	bool early = why != FS_END_EXPIRED;
	assert(is_live(h));
	tell(fs, &(struct fs_event){.kind = early ? FS_EVENT_EVICT : FS_EVENT_EXPIRE, .why = why, .flow = i});
	if (early && fs->early_end)
		fs->early_end(fs->early_end_arg, i);
	if (early)
		fs->stats.evicted++;
	else
		fs->stats.expired++;
	fs->stats.ended[why]++;
	index_out(&fs->index, lookup_record_hash(fs, h, FS_ORIG), REF(i, FS_ORIG));
	record_count(fs, h, -1);
	fs->stats.quarantined++;
	/* The time first: killed in between, this is a live flow for a while longer, and not a quarantine
	 * that is over already. */
	__atomic_store_n(&body_of(fs, i)->seen, fs->now, __ATOMIC_RELEASE);
	expire_set_state(fs, i, FS_QUARANTINE);
	if (!fs->timeout[FS_QUARANTINE])
		record_free(fs, i);
}

void expire_sweep(struct flowstate *fs)
{
	fs->sweep_left = fs->arena.header->high;
}

void expire_stale(struct flowstate *fs)
{
	for (uint32_t i = 0; i < fs->arena.header->high; i++) {
		const struct flow_head *h = head_of(fs, i);
		if (is_live(h) && translate_stale(fs, h))
			expire_end(fs, i, FS_END_NAT);
	}
}

static unsigned sweep(struct flowstate *fs, unsigned *budget)
{
	unsigned ended = 0;
	for (; *budget && fs->sweep_left; --*budget) {
		uint32_t i = --fs->sweep_left;
		const struct flow_head *h = head_of(fs, i);
		if (h->state == FS_FREE)
			continue;
		if (is_live(h) && names_gone(&fs->names, h)) {
			expire_end(fs, i, FS_END_REMOVED);
			ended++;
		} else {
			rehang(fs, i);
		}
	}
	return ended;
}

/* A record has come up. Returns whether a flow ended. */
static bool examine(struct flowstate *fs, uint32_t i)
{
	if (expire_due(fs, i) > fs->now) {
		rehang(fs, i);
		return false;
	}
	if (is_live(head_of(fs, i))) {
		expire_end(fs, i, FS_END_EXPIRED);
		return true;
	}
	/* Of an earlier run, which may have been killed between the end of the flow and what the owner had to do. */
	if (body_of(fs, i)->seen <= fs->adopted && fs->early_end)
		fs->early_end(fs->early_end_arg, i);
	record_free(fs, i);
	return false;
}

unsigned fs_tick(struct flowstate *fs, uint64_t now_ms, unsigned budget)
{
	struct wheel *w = &fs->wheel;
	unsigned ended, for_sweep = budget / 2;

	clock_set(fs, now_ms);
	arena_retry(&fs->arena);
	budget -= for_sweep;
	ended = sweep(fs, &for_sweep);
	budget += for_sweep;

	uint32_t second = fs->now / UNITS_A_SECOND;
	/* After a long pause one turn of the wheel is enough to meet every record. */
	if (second >= w->now && second - w->now >= WHEEL_SECONDS)
		w->now = second - WHEEL_SECONDS + 1;
	for (; w->now <= second; w->now++) {
		for (uint32_t i; (i = wheel_first(w)) != WHEEL_NONE; budget--) {
			if (!budget)
				return ended;
			/* The memory of the next one comes while this one is worked on. */
			fs_prefetch(fs, w->link[i].next);
			ended += examine(fs, i);
		}
	}
	return ended;
}

void fs_end(struct flowstate *fs, uint32_t flow, uint64_t now_ms)
{
	clock_set(fs, now_ms);
	if (flow < fs->arena.header->high && is_live(head_of(fs, flow)))
		expire_end(fs, flow, FS_END_FLUSHED);
}

static const char *const end_names[] = {[FS_END_EXPIRED] = "expired",
#define X(id, name, text) [FS_END_##id] = (name),
	FS_EVICTIONS(X)
#undef X
};

const char *fs_end_name(enum fs_end_why why)
{
	return why < FS_END_COUNT ? end_names[why] : "";
}

void fs_on_early_end(struct flowstate *fs, fs_end_cb *cb, void *arg)
{
	fs->early_end = cb;
	fs->early_end_arg = arg;
}

void fs_on_event(struct flowstate *fs, unsigned kinds, fs_event_cb *cb, void *arg)
{
	fs->event_kinds = cb ? kinds : 0;
	fs->event = cb;
	fs->event_arg = arg;
}
