/* SPDX-License-Identifier: GPL-2.0-or-later */
/* lookup.c - which half has this tuple: one at a time, and in batches.
 *
 * A batch goes through four steps, each for all of its keys before the next one begins, so that the memory
 * that a step needs was asked for while the others were at the step before: hash, compare tags in the home
 * bucket, compare the record that the first tag leads to, and only for the few that need it the rest.
 */
#include "flowstate/state.h"

#include <string.h>

#define BATCH SIP_MANY

/* What is hashed: 15 octets for IPv4, 39 for IPv6, so that neither is ever the other.
 *	source, destination (4 or 16 octets each), source port, destination port, slot of the realm, protocol
 */
#define WORDS4 2
#define WORDS6 5

static inline bool words_are4(const struct tuple *t)
{
	return addr_is4(&t->src) && addr_is4(&t->dst);
}

static inline uint64_t word_last(const struct tuple *t, uint16_t realm, unsigned octets)
{
	return SIP_LAST((uint64_t)t->sport | (uint64_t)t->dport << 16 | (uint64_t)realm << 32 |
				(uint64_t)t->proto << 48,
		octets);
}

static inline void words4(const struct tuple *t, uint16_t realm, uint64_t *w, size_t step)
{
	w[0] = (uint64_t)t->src.w[3] | (uint64_t)t->dst.w[3] << 32;
	w[step] = word_last(t, realm, 15);
}

static inline void words6(const struct tuple *t, uint16_t realm, uint64_t *w, size_t step)
{
	uint64_t a[4];
	memcpy(a, t, sizeof(a));
	for (unsigned j = 0; j < 4; j++)
		w[j * step] = a[j];
	w[4 * step] = word_last(t, realm, 39);
}

static uint64_t hash_by(const struct sip_key *key, uint16_t realm, const struct tuple *t)
{
	uint64_t w[WORDS6];
	if (words_are4(t)) {
		words4(t, realm, w, 1);
		return sip_words(key, w, WORDS4);
	}
	words6(t, realm, w, 1);
	return sip_words(key, w, WORDS6);
}

uint64_t lookup_hash(const struct flowstate *fs, uint16_t realm, const struct tuple *t)
{
	return hash_by(&fs->index_key, realm, t);
}

uint64_t lookup_closed_hash(const struct flowstate *fs, uint16_t realm, const struct tuple *t)
{
	return hash_by(&fs->pool_key, realm, t);
}

uint64_t lookup_record_hash(const struct flowstate *fs, const struct flow_head *h, enum fs_dir dir)
{
	struct tuple t;
	record_tuple(h, dir, &t);
	return lookup_hash(fs, h->realm[dir], &t);
}

/* Up to LANES tuples that are hashed together, each family's side by side. */
#define LANES 16
struct messages {
	uint64_t w4[WORDS4 * SIP_MANY], w6[WORDS6 * SIP_MANY];
	uint8_t at4[LANES], at6[LANES]; /* whose hash it is */
};
struct lanes {
	unsigned n4, n6;
};

static inline void message_in(
	struct messages *m, struct lanes *n, const struct tuple *t, uint16_t realm, unsigned at)
{
	if (words_are4(t)) {
		words4(t, realm, m->w4 + n->n4, SIP_MANY);
		m->at4[n->n4++] = (uint8_t)at;
	} else {
		words6(t, realm, m->w6 + n->n6, SIP_MANY);
		m->at6[n->n6++] = (uint8_t)at;
	}
}

static inline void messages_hash(
	const struct flowstate *fs, const struct messages *m, const struct lanes *n, uint64_t *hash)
{
	uint64_t h[SIP_MANY];
	if (n->n4) {
		fs->sip_many(&fs->index_key, m->w4, WORDS4, n->n4, h);
		for (unsigned i = 0; i < n->n4; i++)
			hash[m->at4[i]] = h[i];
	}
	if (n->n6) {
		fs->sip_many(&fs->index_key, m->w6, WORDS6, n->n6, h);
		for (unsigned i = 0; i < n->n6; i++)
			hash[m->at6[i]] = h[i];
	}
}

/* The entry of bucket b, among those that match says, that really has the tuple. */
static inline uint32_t in_bucket(const struct flowstate *fs, const struct bucket *b, uint64_t match,
	uint16_t realm, const struct tuple *t)
{
	for (; match; match &= match - 1) {
		uint32_t ref = b->ref[index_entry(match)];
		if (record_half_is(head_of(fs, REF_RECORD(ref)), REF_DIR(ref), realm, t))
			return ref;
	}
	return REF_NONE;
}

/* Goes on behind the bucket at, in which it was not. */
static uint32_t behind(
	const struct flowstate *fs, uint32_t at, uint16_t realm, const struct tuple *t, uint64_t hash)
{
	const struct index *x = &fs->index;
	unsigned class = index_class(hash);
	for (uint32_t b = at; x->bucket[b].passed[class];) {
		b = index_next(x, b);
		if (b == at)
			break;
		uint64_t match = index_match(&x->bucket[b], index_tag(hash));
		uint32_t ref = in_bucket(fs, &x->bucket[b], match, realm, t);
		if (ref != REF_NONE)
			return ref;
	}
	return REF_NONE;
}

void lookup_aim(const struct flowstate *fs, struct place *p, uint16_t realm, const struct tuple *t)
{
	p->t = *t;
	p->realm = realm;
	p->hash = lookup_hash(fs, realm, t);
	p->ref = REF_NONE;
	__builtin_prefetch(&fs->index.bucket[index_home(&fs->index, p->hash)], 1);
}

void lookup_aim_records(
	const struct flowstate *fs, const uint32_t *records, unsigned n, struct place (*half)[2])
{
	uint64_t hash[LANES];
	for (unsigned from = 0; from < n; from += LANES / 2) {
		unsigned count = n - from < LANES / 2 ? n - from : LANES / 2;
		struct messages m;
		struct lanes lanes = {};
		for (unsigned i = 0; i < 2 * count; i++) {
			const struct flow_head *h = head_of(fs, records[from + i / 2]);
			struct place *p = &half[from + i / 2][i % 2];
			record_tuple(h, (enum fs_dir)(i % 2), &p->t);
			p->realm = h->realm[i % 2];
			p->ref = REF_NONE;
			message_in(&m, &lanes, &p->t, p->realm, i);
		}
		messages_hash(fs, &m, &lanes, hash);
		for (unsigned i = 0; i < 2 * count; i++) {
			half[from + i / 2][i % 2].hash = hash[i];
			__builtin_prefetch(&fs->index.bucket[index_home(&fs->index, hash[i])], 1);
		}
	}
}

void lookup(const struct flowstate *fs, struct place *p)
{
	uint32_t home = index_home(&fs->index, p->hash);
	const struct bucket *b = &fs->index.bucket[home];
	p->ref = in_bucket(fs, b, index_match(b, index_tag(p->hash)), p->realm, &p->t);
	if (p->ref == REF_NONE)
		p->ref = behind(fs, home, p->realm, &p->t, p->hash);
}

/* A part of a batch on its way: as many as the processor can wait for at once. */
#define GROUP 8
struct group {
	uint64_t hash[GROUP], match[GROUP];
	uint32_t at[GROUP]; /* the bucket to look into */
	uint32_t second;    /* a bit for each that is to look into a second one */
};

static void step_hash(const struct flowstate *fs, const struct fs_key *keys, unsigned n, struct group *g)
{
	struct messages m;
	struct lanes lanes = {};
	for (unsigned i = 0; i < n; i++)
		message_in(&m, &lanes, &keys[i].t, FS_SLOT(keys[i].realm), i);
	messages_hash(fs, &m, &lanes, g->hash);
	for (unsigned i = 0; i < n; i++) {
		g->at[i] = index_home(&fs->index, g->hash[i]);
		__builtin_prefetch(&fs->index.bucket[g->at[i]]);
	}
}

/* Compares tags in one bucket, and asks for the record that the first equal one leads to. */
static inline void match_one(const struct flowstate *fs, struct group *g, unsigned i)
{
	const struct bucket *b = &fs->index.bucket[g->at[i]];
	g->match[i] = index_match(b, index_tag(g->hash[i]));
	if (g->match[i])
		__builtin_prefetch(head_of(fs, REF_RECORD(b->ref[index_entry(g->match[i])])));
}

static void step_match(const struct flowstate *fs, unsigned n, struct group *g)
{
	const struct index *x = &fs->index;
	g->second = 0;
	for (unsigned i = 0; i < n; i++) {
		match_one(fs, g, i);
		if (g->match[i] || !x->bucket[g->at[i]].passed[index_class(g->hash[i])])
			continue;
		g->at[i] = index_next(x, g->at[i]);
		g->second |= 1u << i;
		__builtin_prefetch(&x->bucket[g->at[i]]);
	}
}

static void step_second(const struct flowstate *fs, struct group *g)
{
	for (uint32_t left = g->second; left; left &= left - 1)
		match_one(fs, g, (unsigned)__builtin_ctz(left));
}

static void step_compare(const struct flowstate *fs, const struct fs_key *keys, unsigned n,
	const struct group *g, struct fs_hit *out)
{
	for (unsigned i = 0; i < n; i++) {
		uint16_t realm = FS_SLOT(keys[i].realm);
		const struct tuple *t = &keys[i].t;
		uint32_t ref = in_bucket(fs, &fs->index.bucket[g->at[i]], g->match[i], realm, t);
		if (ref == REF_NONE)
			ref = behind(fs, g->at[i], realm, t, g->hash[i]);
		out[i].flow = FS_NONE;
		out[i].dir = FS_ORIG;
		if (ref == REF_NONE || fs->names.bound[realm] != keys[i].realm)
			continue;
		const struct flow_head *h = head_of(fs, REF_RECORD(ref));
		if (h->state == FS_QUARANTINE || !names_alive(&fs->names, h))
			continue;
		out[i].flow = REF_RECORD(ref);
		out[i].dir = REF_DIR(ref);
	}
}

static inline unsigned group_size(unsigned n, unsigned k)
{
	return n - k * GROUP < GROUP ? n - k * GROUP : GROUP;
}

void fs_find(struct flowstate *fs, const struct fs_key *keys, unsigned n, struct fs_hit *out)
{
	enum { STEPS = 4 };
	struct group g[STEPS];
	unsigned groups = (n + GROUP - 1) / GROUP;
	for (unsigned k = 0; k < groups + STEPS - 1; k++) {
		if (k < groups)
			step_hash(fs, keys + k * GROUP, group_size(n, k), &g[k % STEPS]);
		if (k >= 1 && k - 1 < groups)
			step_match(fs, group_size(n, k - 1), &g[(k - 1) % STEPS]);
		if (k >= 2 && k - 2 < groups)
			step_second(fs, &g[(k - 2) % STEPS]);
		if (k >= 3)
			step_compare(fs, keys + (k - 3) * GROUP, group_size(n, k - 3), &g[(k - 3) % STEPS],
				out + (k - 3) * GROUP);
	}
}
