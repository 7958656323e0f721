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

/* What is hashed of a masked half: no tuple of a packet, since nothing has that destination. */
static struct tuple mask(const struct tuple *t)
{
	struct tuple m = *t;
	m.dst = addr_is4(&t->dst) ? addr_from4(0) : (struct addr){};
	return m;
}

static uint64_t hash_by(const struct sip_key *key, uint16_t realm, const struct tuple *t, bool masked)
{
	struct tuple m = masked ? mask(t) : *t;
	uint64_t w[WORDS6];
	if (words_are4(&m)) {
		words4(&m, realm, w, 1);
		return sip_words(key, w, WORDS4);
	}
	words6(&m, realm, w, 1);
	return sip_words(key, w, WORDS6);
}

uint64_t lookup_hash(const struct flowstate *fs, uint16_t realm, const struct tuple *t, bool masked)
{
	return hash_by(&fs->index_key, realm, t, masked);
}

uint64_t lookup_closed_hash(const struct flowstate *fs, uint16_t realm, const struct tuple *t, bool masked)
{
	return hash_by(&fs->pool_key, realm, t, masked);
}

uint64_t lookup_record_hash(const struct flowstate *fs, const struct flow_head *h, enum fs_dir dir)
{
	struct tuple t;
	record_tuple(h, dir, &t);
	return lookup_hash(fs, h->realm[dir], &t, half_masked(fs, h, dir));
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

void lookup_aim(
	const struct flowstate *fs, struct place *p, uint16_t realm, const struct tuple *t, bool masked)
{
	p->t = *t;
	p->realm = realm;
	p->masked = masked;
	p->hash = lookup_hash(fs, realm, t, masked);
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
			p->masked = half_masked(fs, h, (enum fs_dir)(i % 2));
			p->ref = REF_NONE;
			struct tuple t = p->masked ? mask(&p->t) : p->t;
			message_in(&m, &lanes, &t, p->realm, i);
		}
		messages_hash(fs, &m, &lanes, hash);
		for (unsigned i = 0; i < 2 * count; i++) {
			half[from + i / 2][i % 2].hash = hash[i];
			__builtin_prefetch(&fs->index.bucket[index_home(&fs->index, hash[i])], 1);
		}
	}
}

static uint32_t exactly(const struct flowstate *fs, uint16_t realm, const struct tuple *t, uint64_t hash)
{
	uint32_t home = index_home(&fs->index, hash);
	const struct bucket *b = &fs->index.bucket[home];
	uint32_t ref = in_bucket(fs, b, index_match(b, index_tag(hash)), realm, t);
	return ref == REF_NONE ? behind(fs, home, realm, t, hash) : ref;
}

static bool is_mask(const struct flowstate *fs, uint32_t ref, uint16_t realm, const struct tuple *t)
{
	const struct flow_head *h = head_of(fs, REF_RECORD(ref));
	return addr_eq(&h->addr[FS_REPLY], &t->src) && memcmp(&h->port[FS_REPLY], &t->sport, 4) == 0 &&
	       h->proto == t->proto && h->realm[FS_REPLY] == realm && half_masked(fs, h, REF_DIR(ref));
}

static uint32_t by_mask(const struct flowstate *fs, uint16_t realm, const struct tuple *t, uint64_t hash)
{
	const struct index *x = &fs->index;
	uint32_t home = index_home(x, hash), at = home;
	do {
		const struct bucket *b = &x->bucket[at];
		for (uint64_t match = index_match(b, index_tag(hash)); match; match &= match - 1)
			if (is_mask(fs, b->ref[index_entry(match)], realm, t))
				return b->ref[index_entry(match)];
		if (!b->passed[index_class(hash)])
			break;
		at = index_next(x, at);
	} while (at != home);
	return REF_NONE;
}

static bool is_egress(const struct flowstate *fs, uint16_t realm)
{
	return fs->names.slot[realm].kind == FS_EGRESS;
}

uint32_t lookup_across(const struct flowstate *fs, const struct place *p)
{
	if (!fs->masks || !is_egress(fs, p->realm) || (p->masked && !fs->from_outside))
		return REF_NONE;
	uint64_t hash = lookup_hash(fs, p->realm, &p->t, !p->masked);
	return p->masked ? exactly(fs, p->realm, &p->t, hash) : by_mask(fs, p->realm, &p->t, hash);
}

void lookup(const struct flowstate *fs, struct place *p)
{
	p->ref = p->masked ? by_mask(fs, p->realm, &p->t, p->hash) : exactly(fs, p->realm, &p->t, p->hash);
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
	for (unsigned i = 0; i < n; i++) {
		uint16_t realm = FS_SLOT(keys[i].realm);
		/* Most of what comes from there are answers. */
		if (fs->masks && is_egress(fs, realm)) {
			struct tuple t = mask(&keys[i].t);
			message_in(&m, &lanes, &t, realm, i);
		} else {
			message_in(&m, &lanes, &keys[i].t, realm, i);
		}
	}
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
		if (ref == REF_NONE && fs->masks && fs->from_outside && is_egress(fs, realm))
			ref = exactly(fs, realm, t, lookup_hash(fs, realm, t, false));
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
