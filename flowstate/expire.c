/* SPDX-License-Identifier: GPL-2.0-or-later */
/* expire.c - when flows end, and what becomes of them.
 *
 * A flow ends by time, or early by command. Either way its record stays, in quarantine: only its reply tuple (both, but of
 * a flow from a site to an egress) is in the index then, closed to every site but the one that the flow was of. When that
 * time is over, the record is free. fs_tick does both, in bounded steps:
 *
 *   - the wheel names the records that may be due;
 *   - a sweep over all records follows when names were unbound (flows with such an attachment end) or
 *     timeouts became shorter (records are hung in anew). A new reason while one is under way begins it anew.
 *
 * Nearly all of a tick would be waiting for memory: records fall due in another order than they lie in. So whatever
 * the next ones will need is asked for some records ahead of work. Those are guesses: work on a record goes by the
 * lists as they are then.
 *
 * Only when NAT changes are flows ended all at once: whatever they would still send carries an address that is not to be used
 * any more.
 */
#include "flowstate/state.h"

#include <assert.h>

uint64_t expire_due(const struct flowstate *fs, uint32_t i)
{
	return (uint64_t)body_of(fs, i)->seen + pressure_timeout(fs, i);
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
	enum queue_kind queue = pressure_kind(h, body_of(fs, i));
	bool early = why != FS_END_EXPIRED;
	assert(is_live(h));
	tell(fs, &(struct fs_event){.kind = early ? FS_EVENT_EVICT : FS_EVENT_EXPIRE, .why = why, .flow = i});
	if (fs->on_end)
		fs->on_end(fs->on_end_arg, i, why == FS_END_TABLE_FULL);
	if (early)
		fs->stats.evicted++;
	else
		fs->stats.expired++;
	fs->stats.ended[why]++;
	if (!record_closes(fs, h, FS_ORIG))
		index_out(&fs->index, lookup_record_hash(fs, h, FS_ORIG), REF(i, FS_ORIG));
	record_count(fs, h, -1);
	record_crowd(fs, h, -1, 0);
	fs->stats.quarantined++;
	/* The time first: killed in between, this is a live flow for a while longer, and not a quarantine
	 * that is over already. */
	__atomic_store_n(&body_of(fs, i)->seen, fs->now, __ATOMIC_RELEASE);
	expire_set_state(fs, i, FS_QUARANTINE);
	pressure_move(fs, i, queue);
	if (!fs->timeout[FS_QUARANTINE])
		record_free(fs, i);
}

void expire_release(struct flowstate *fs, uint32_t i)
{
	/* Of an earlier run, which may have been killed between the end of the flow and what the owner had to do. */
	if (body_of(fs, i)->seen <= fs->adopted && fs->on_end)
		fs->on_end(fs->on_end_arg, i, true);
	record_free(fs, i);
}

void expire_sweep(struct flowstate *fs, bool shorter)
{
	fs->sweep_left = fs->arena.header->high;
	fs->sweep_rehangs |= shorter;
}

/* Masked or not from now on. What is in quarantine and was masked stays, by itself. What was not says nothing of who had a port,
 * so the filters take it; what they have no room for stays, if it is alone behind the mask. */
static void mask_quarantined(struct flowstate *fs, bool masks)
{
	uint32_t high = fs->arena.header->high;
	struct place p;
	for (uint32_t i = 0; i < high; i++) {
		const struct flow_head *h = head_of(fs, i);
		if (h->state != FS_QUARANTINE || !names_outward(&fs->names, h))
			continue;
		if (!masks || !pressure_release(fs, i))
			index_out(&fs->index, lookup_record_hash(fs, h, FS_REPLY), REF(i, FS_REPLY));
	}
	fs->masks = masks;
	__atomic_store_n(&fs->arena.header->masks_since, fs->now, __ATOMIC_RELEASE);
	for (uint32_t i = 0; i < high; i++) {
		const struct flow_head *h = head_of(fs, i);
		if (h->state != FS_QUARANTINE || !names_outward(&fs->names, h))
			continue;
		struct tuple t;
		record_tuple(h, FS_REPLY, &t);
		lookup_aim(fs, &p, h->realm[FS_REPLY], &t, masks);
		lookup(fs, &p);
		index_in(&fs->index, p.hash, REF(i, FS_REPLY));
		if (p.ref != REF_NONE)
			expire_release(fs, i);
	}
}

void expire_stale(struct flowstate *fs)
{
	bool masks = fs->nat == FS_NAT_KERNEL;
	for (uint32_t i = 0; i < fs->arena.header->high; i++) {
		const struct flow_head *h = head_of(fs, i);
		if (is_live(h) && names_outward(&fs->names, h) &&
			(masks != fs->masks || translate_stale(fs, h)))
			expire_end(fs, i, FS_END_NAT);
	}
	if (masks != fs->masks)
		mask_quarantined(fs, masks);
	__atomic_store_n(&fs->arena.header->nat, fs->nat, __ATOMIC_RELEASE);
}

/* ---- a tick --------------------------------------------------------------------------------------------- */

/* What things cost, in records of a budget: one that comes up by the wheel is four lines of memory at random places.
 * One that a sweep passes by lies beside the one before. What the owner does when one ends is a request to
 * the kernel, of a microsecond. */
#define SWEPT_A_RECORD 8
#define END_COSTS      7

struct work {
	unsigned left;  /* of the budget */
	unsigned ended; /* flows */
};

static void spend(struct work *w, unsigned cost)
{
	w->left -= cost < w->left ? cost : w->left;
}

static void fetch_link(const struct flowstate *fs, uint32_t i)
{
	if (i < fs->wheel.max) /* neither the end of a list nor its head */
		__builtin_prefetch(&fs->wheel.link[i], 1);
}

/* For rehang: the neighbours, and whom it will come to hang before. */
static void fetch_for_rehang(const struct flowstate *fs, uint32_t i)
{
	const struct wheel_link *l = &fs->wheel.link[i];
	fetch_link(fs, l->next);
	fetch_link(fs, l->prev);
	if (head_of(fs, i)->state != FS_FREE)
		fetch_link(fs, fs->wheel.head[expire_second(fs, i) % WHEEL_SECONDS]);
}

#define SWEEP_AHEAD 8

static void sweep(struct flowstate *fs, struct work *w)
{
	unsigned swept = 0;
	while (w->left && fs->sweep_left) {
		uint32_t i = --fs->sweep_left;
		const struct flow_head *h = head_of(fs, i);
		bool rehangs = fs->sweep_rehangs;
		if (i >= SWEEP_AHEAD) {
			if (rehangs)
				fetch_for_rehang(fs, i - SWEEP_AHEAD);
			else
				__builtin_prefetch(head_of(fs, i - SWEEP_AHEAD));
		}
		if (++swept % SWEPT_A_RECORD == 0)
			spend(w, 1);
		if (h->state == FS_FREE)
			continue;
		if (is_live(h) && names_gone(&fs->names, h)) {
			expire_end(fs, i, FS_END_REMOVED);
			w->ended++;
			spend(w, 1 + END_COSTS);
		} else if (rehangs) {
			rehang(fs, i);
			spend(w, 1);
		}
	}
	if (!fs->sweep_left)
		fs->sweep_rehangs = false;
}

/* A record has come up. */
static void examine(struct flowstate *fs, uint32_t i, struct work *w)
{
	spend(w, 1);
	if (expire_due(fs, i) > fs->now) {
		rehang(fs, i);
		return;
	}
	if (is_live(head_of(fs, i))) {
		if (fs->on_end)
			spend(w, END_COSTS);
		expire_end(fs, i, FS_END_EXPIRED);
		w->ended++;
		return;
	}
	if (body_of(fs, i)->seen <= fs->adopted)
		spend(w, END_COSTS);
	expire_release(fs, i);
}

/* Goes ahead of the work along a list of the wheel: first fetches records, and when they have come the buckets
 * that they will be taken from. */
#define SCOUT_AHEAD 16
struct scout {
	uint32_t at; /* the link of this one has been asked for */
	uint32_t seen[SCOUT_AHEAD];
	unsigned n;
};

static void fetch_for_examine(const struct flowstate *fs, uint32_t i)
{
	const struct flow_head *h = head_of(fs, i);
	if (h->state == FS_FREE)
		return;
	if (expire_due(fs, i) > fs->now) {
		fetch_for_rehang(fs, i);
		return;
	}
	enum fs_dir dir = is_live(h) ? FS_ORIG : FS_REPLY;
	uint32_t home = index_home(&fs->index, lookup_record_hash(fs, h, dir));
	__builtin_prefetch(&fs->index.bucket[home], 1);
}

static void scout_step(const struct flowstate *fs, struct scout *s)
{
	uint32_t *slot = &s->seen[s->n++ % SCOUT_AHEAD], i = s->at;
	*slot = i;
	if (i != WHEEL_NONE) {
		fs_prefetch(fs, i);
		s->at = fs->wheel.link[i].next;
		fetch_link(fs, s->at);
	}
	if (s->n > SCOUT_AHEAD / 2) {
		uint32_t there = s->seen[(s->n - 1 - SCOUT_AHEAD / 2) % SCOUT_AHEAD];
		if (there != WHEEL_NONE)
			fetch_for_examine(fs, there);
	}
}

/* Works off the second that the wheel is at. Returns false when the budget did not last. */
static bool second_done(struct flowstate *fs, struct work *work)
{
	struct wheel *w = &fs->wheel;
	struct scout s = {.at = wheel_first(w)};
	if (s.at == WHEEL_NONE)
		return true;
	for (unsigned k = 0; k < SCOUT_AHEAD && k < work->left; k++)
		scout_step(fs, &s);
	for (uint32_t i; (i = wheel_first(w)) != WHEEL_NONE;) {
		if (!work->left)
			return false;
		if (work->left > SCOUT_AHEAD)
			scout_step(fs, &s);
		examine(fs, i, work);
	}
	return true;
}

unsigned fs_tick(struct flowstate *fs, uint64_t now_ms, unsigned budget)
{
	struct wheel *w = &fs->wheel;
	struct work work = {.left = (budget + 1) / 2};

	clock_set(fs, now_ms);
	arena_retry(&fs->arena);
	pressure_tick(fs);
	sweep(fs, &work);
	work.left += budget / 2;

	uint32_t second = fs->now / UNITS_A_SECOND;
	/* After a long pause one turn of the wheel is enough to meet every record. */
	if (second >= w->now && second - w->now >= WHEEL_SECONDS)
		w->now = second - WHEEL_SECONDS + 1;
	while (w->now <= second && second_done(fs, &work))
		w->now++;
	fs->behind = w->now <= second;
	return work.ended;
}

bool fs_behind(const struct flowstate *fs)
{
	return fs->behind || fs->sweep_left;
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

void fs_on_end(struct flowstate *fs, fs_end_cb *cb, void *arg)
{
	fs->on_end = cb;
	fs->on_end_arg = arg;
}

void fs_on_event(struct flowstate *fs, unsigned kinds, fs_event_cb *cb, void *arg)
{
	fs->event_kinds = cb ? kinds : 0;
	fs->event = cb;
	fs->event_arg = arg;
}
