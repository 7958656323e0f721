/* SPDX-License-Identifier: GPL-2.0-or-later */
/* check.c - every invariant, by brute force; for tests. */
#include "flowstate/state.h"

#include <stdlib.h>
#include <string.h>

struct tally {
	struct flowstate expect; /* only its names' counts, stats and crowd are used */
	uint64_t entries;
};

#define WRONG_IF(condition)                                                                                  \
	do {                                                                                                 \
		if (condition)                                                                               \
			return "wrong: " #condition;                                                         \
	} while (0)

/* How many entries of the index that lie by the hash have this half's tuple, and are masked or not; *own: this half's own is
 * among them. */
static unsigned holders_by(
	const struct flowstate *fs, uint32_t i, enum fs_dir dir, uint64_t hash, bool masked, bool *own)
{
	const struct flow_head *h = head_of(fs, i);
	const struct index *x = &fs->index;
	struct tuple t, u;
	unsigned n = 0;
	record_tuple(h, dir, &t);
	uint32_t home = index_home(x, hash), b = home;
	do {
		for (int e = 0; e < BUCKET_ENTRIES; e++) {
			uint32_t ref = x->bucket[b].ref[e];
			if (x->bucket[b].tag[e] != index_tag(hash))
				continue;
			const struct flow_head *o = head_of(fs, REF_RECORD(ref));
			record_tuple(o, REF_DIR(ref), &u);
			if (masked != half_masked(fs, o, REF_DIR(ref)))
				continue;
			if (masked && half_masked(fs, h, dir))
				u.dst = t.dst;
			if (o->realm[REF_DIR(ref)] != h->realm[dir] || memcmp(&t, &u, sizeof(t)) != 0)
				continue;
			n++;
			*own |= ref == REF(i, dir);
		}
		if (!x->bucket[b].passed[index_class(hash)])
			break;
		b = index_next(x, b);
	} while (b != home);
	return n;
}

static unsigned holders(const struct flowstate *fs, uint32_t i, enum fs_dir dir, bool *own)
{
	const struct flow_head *h = head_of(fs, i);
	struct tuple t;
	unsigned n = 0;
	record_tuple(h, dir, &t);
	*own = false;
	for (int masked = 0; masked < 2; masked++) {
		uint64_t hash = lookup_hash(fs, h->realm[dir], &t, masked);
		n += holders_by(fs, i, dir, hash, masked, own);
	}
	return n;
}

static const char *check_record(const struct flowstate *fs, uint32_t i, struct tally *t)
{
	const struct flow_head *h = head_of(fs, i);
	const struct flow_body *b = body_of(fs, i);
	bool own;

	WRONG_IF(h->state >= FS_STATE_COUNT);
	if (h->state == FS_FREE) {
		WRONG_IF(b->mark != 0);
		return NULL;
	}
	WRONG_IF(b->mark != record_mark(fs, h));
	WRONG_IF(!track_fits(h->proto, h->state));
	WRONG_IF(b->seen > fs->now || b->created > b->seen);
	for (int d = 0; d < 2; d++) {
		WRONG_IF(!names_plausible(&fs->names, h->realm[d], h->via[d]));
		t->expect.names.slot[h->realm[d]].refs++;
		t->expect.names.slot[h->via[d]].refs++;
	}
	struct crowd_at at;
	if (translate_crowded(fs, h, &at))
		crowd_count(&t->expect.crowd, at, is_live(h), 1);
	WRONG_IF(holders(fs, i, FS_REPLY, &own) != 1);
	WRONG_IF(!own);
	t->entries++;
	t->expect.from_outside += names_begins_outside(&fs->names, h);
	if (!is_live(h)) {
		WRONG_IF(holders(fs, i, FS_ORIG, &own) > 1);
		WRONG_IF(own && !record_closes(fs, h, FS_ORIG));
		t->entries += own;
		t->expect.stats.quarantined++;
		return NULL;
	}
	WRONG_IF(holders(fs, i, FS_ORIG, &own) != 1);
	WRONG_IF(!own);
	t->entries++;
	t->expect.stats.used++;
	uint16_t site = names_charged(&fs->names, h);
	if (site)
		t->expect.names.slot[site].flows++;
	t->expect.names.slot[h->via[0]].flows++;
	if (h->via[1] != h->via[0])
		t->expect.names.slot[h->via[1]].flows++;
	if (record_translated(h) && names_outward(&fs->names, h))
		t->expect.names.slot[h->realm[0]].translated++;
	return NULL;
}

static const char *check_index(const struct flowstate *fs, const struct tally *t)
{
	uint64_t entries = 0;
	for (uint32_t b = 0; b < fs->index.n; b++) {
		for (int e = 0; e < BUCKET_ENTRIES; e++) {
			const struct bucket *k = &fs->index.bucket[b];
			if (!k->tag[e])
				continue;
			WRONG_IF(REF_RECORD(k->ref[e]) >= fs->arena.header->high);
			WRONG_IF(head_of(fs, REF_RECORD(k->ref[e]))->state == FS_FREE);
			entries++;
		}
	}
	WRONG_IF(entries != t->entries);
	return NULL;
}

/* Each bucket has counted exactly the entries that passed it. */
static const char *check_passed(const struct flowstate *fs)
{
	const struct index *x = &fs->index;
	uint16_t(*passed)[BUCKET_ENTRIES] = calloc(x->n, sizeof(*passed));
	const char *wrong = NULL;
	if (!passed)
		return "no memory to check the index";
	for (uint32_t b = 0; b < x->n; b++) {
		for (int e = 0; e < BUCKET_ENTRIES; e++) {
			uint32_t ref = x->bucket[b].ref[e];
			if (!x->bucket[b].tag[e])
				continue;
			uint64_t hash = lookup_record_hash(fs, head_of(fs, REF_RECORD(ref)), REF_DIR(ref));
			for (uint32_t p = index_home(x, hash); p != b; p = index_next(x, p))
				passed[p][index_class(hash)]++;
		}
	}
	for (uint32_t b = 0; b < x->n && !wrong; b++) {
		if (memcmp(passed[b], x->bucket[b].passed, sizeof(passed[b])) != 0)
			wrong = "wrong: counters of a bucket";
	}
	free(passed);
	return wrong;
}

static const char *check_wheel(const struct flowstate *fs)
{
	const struct wheel *w = &fs->wheel;
	uint64_t hung = 0;
	for (uint32_t k = 0; k < WHEEL_SECONDS; k++) {
		uint32_t second = w->now + (k - w->now) % WHEEL_SECONDS;
		uint32_t prev = WHEEL_HEAD | k;
		for (uint32_t i = w->head[k]; i != WHEEL_NONE; prev = i, i = w->link[i].next) {
			WRONG_IF(i >= fs->arena.header->high);
			WRONG_IF(w->link[i].prev != prev);
			WRONG_IF(head_of(fs, i)->state == FS_FREE);
			/* Not later than it is due; unless a sweep has still to see to that. */
			uint64_t due = (uint64_t)body_of(fs, i)->seen + fs->timeout[head_of(fs, i)->state];
			WRONG_IF(!fs->sweep_left && second > w->now &&
				 second > (due + UNITS_A_SECOND - 1) / UNITS_A_SECOND);
			WRONG_IF(++hung > fs->arena.header->high);
		}
	}
	WRONG_IF(hung != (uint64_t)fs->stats.used + fs->stats.quarantined);
	return NULL;
}

static const char *check_free(const struct flowstate *fs)
{
	uint64_t n = 0;
	for (uint32_t i = fs->free_first; i != FS_NONE; i = fs->wheel.link[i].next) {
		WRONG_IF(i >= fs->arena.header->high);
		WRONG_IF(head_of(fs, i)->state != FS_FREE);
		WRONG_IF(++n > fs->arena.header->high);
	}
	WRONG_IF(n + fs->stats.used + fs->stats.quarantined != fs->arena.header->high);
	return NULL;
}

static const char *check_names(const struct flowstate *fs, struct tally *t)
{
	const struct names *n = &fs->names;
	for (uint32_t s = 1; s < fs->arena.header->names_high; s++) {
		if (n->slot[s].status != SLOT_FREE && n->slot[s].kind == FS_TUNNEL)
			t->expect.names.slot[n->slot[s].site].refs++;
	}
	for (uint32_t s = 1; s < fs->arena.header->names_high; s++) {
		const struct slot *slot = &n->slot[s];
		WRONG_IF(slot->refs != t->expect.names.slot[s].refs);
		WRONG_IF(slot->flows != t->expect.names.slot[s].flows);
		WRONG_IF(slot->translated != t->expect.names.slot[s].translated);
		WRONG_IF((slot->status == SLOT_BOUND) != (n->bound[s] != FS_ID_NONE));
		WRONG_IF(slot->status == SLOT_BOUND && n->bound[s] != n->arena->name[s].id);
		WRONG_IF(slot->status == SLOT_GONE && slot->refs == 0);
		WRONG_IF(slot->status == SLOT_BOUND && slot->kind == FS_TUNNEL && !n->bound[slot->site]);
		WRONG_IF(slot->status != SLOT_FREE && FS_SLOT(n->arena->name[s].id) != s);
	}
	return NULL;
}

/* Each record is in the queue that it belongs into. */
static const char *check_queues(const struct flowstate *fs)
{
	const struct pressure *p = &fs->pressure;
	uint64_t all = 0, active = 0;
	for (uint32_t s = 0; s < fs->arena.header->names_high || s == 0; s++) {
		active += pressure_total(p, (uint16_t)s) != 0;
		for (unsigned k = 0; k < QUEUES; k++) {
			const struct queue *q = &p->of[s][k];
			uint32_t n = 0, prev = 0;
			for (uint32_t i = q->first; i; prev = i, i = p->link[i - 1].next, n++) {
				const struct flow_head *h = head_of(fs, i - 1);
				WRONG_IF(h->state == FS_FREE || p->link[i - 1].prev != prev || n > q->n);
				WRONG_IF(names_charged(&fs->names, h) != s);
				WRONG_IF(pressure_kind(h, body_of(fs, i - 1)) != k);
			}
			WRONG_IF(n != q->n || q->last != prev);
			all += n;
		}
	}
	WRONG_IF(all != (uint64_t)fs->stats.used + fs->stats.quarantined);
	WRONG_IF(active != p->active);
	return NULL;
}

const char *fs_check(const struct flowstate *fs)
{
	const char *wrong = NULL;
	struct tally *t = calloc(1, sizeof(*t));
	if (!t)
		return "no memory to check";
	if (crowd_open(&t->expect.crowd))
		wrong = "no memory to check";
	for (uint32_t i = 0; i < fs->arena.header->high && !wrong; i++)
		wrong = check_record(fs, i, t);
	if (!wrong && (t->expect.stats.used != fs->stats.used ||
			      t->expect.stats.quarantined != fs->stats.quarantined))
		wrong = "wrong: numbers of live and quarantined flows";
	if (!wrong && t->expect.from_outside != fs->from_outside)
		wrong = "wrong: number of flows that began at an egress";
	if (!wrong)
		wrong = check_index(fs, t);
	if (!wrong)
		wrong = check_passed(fs);
	if (!wrong)
		wrong = check_wheel(fs);
	if (!wrong)
		wrong = check_queues(fs);
	if (!wrong)
		wrong = check_free(fs);
	if (!wrong)
		wrong = check_names(fs, t);
	if (!wrong && !crowd_eq(&fs->crowd, &t->expect.crowd))
		wrong = "wrong: numbers of flows that share a destination";
	crowd_close(&t->expect.crowd);
	free(t);
	return wrong;
}
