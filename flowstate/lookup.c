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

uint64_t lookup_hash(const struct flowstate *fs, uint16_t realm, const struct tuple *t)
{
	uint64_t w[WORDS6];
	if (words_are4(t)) {
		words4(t, realm, w, 1);
		return sip_words(&fs->index_key, w, WORDS4);
	}
	words6(t, realm, w, 1);
	return sip_words(&fs->index_key, w, WORDS6);
}

uint64_t lookup_record_hash(const struct flowstate *fs, const struct flow_head *h, enum fs_dir dir)
{
	struct tuple t;
	record_tuple(h, dir, &t);
	return lookup_hash(fs, h->realm[dir], &t);
}

static inline bool half_is(const struct flow_head *h, unsigned dir, uint16_t realm, const struct tuple *t)
{
	return memcmp(&h->addr[dir], t, 2 * sizeof(struct addr)) == 0 &&
	       memcmp(&h->port[dir], &t->sport, 4) == 0 && h->proto == t->proto && h->realm[dir] == realm;
}

/* The entry of bucket b, among those that match says, that really has the tuple. */
static inline uint32_t in_bucket(const struct flowstate *fs, const struct bucket *b, uint64_t match,
	uint16_t realm, const struct tuple *t)
{
	for (; match; match &= match - 1) {
		uint32_t ref = b->ref[index_entry(match)];
		if (half_is(head_of(fs, REF_RECORD(ref)), REF_DIR(ref), realm, t))
			return ref;
	}
	return REF_NONE;
}

/* Goes on behind the home bucket, in which it was not. */
static uint32_t behind_home(
	const struct flowstate *fs, uint32_t home, uint16_t realm, const struct tuple *t, uint64_t hash)
{
	const struct index *x = &fs->index;
	unsigned class = index_class(hash);
	for (uint32_t b = home; x->bucket[b].passed[class];) {
		b = index_next(x, b);
		if (b == home)
			break;
		uint64_t match = index_match(&x->bucket[b], index_tag(hash));
		uint32_t ref = in_bucket(fs, &x->bucket[b], match, realm, t);
		if (ref != REF_NONE)
			return ref;
	}
	return REF_NONE;
}

uint32_t lookup_ref(const struct flowstate *fs, uint16_t realm, const struct tuple *t, uint64_t hash)
{
	uint32_t home = index_home(&fs->index, hash);
	const struct bucket *b = &fs->index.bucket[home];
	uint32_t ref = in_bucket(fs, b, index_match(b, index_tag(hash)), realm, t);
	return ref != REF_NONE ? ref : behind_home(fs, home, realm, t, hash);
}

static void hash_batch(const struct flowstate *fs, const struct fs_key *keys, unsigned n, uint64_t *hash)
{
	uint64_t w4[WORDS4 * BATCH], w6[WORDS6 * BATCH], h4[BATCH], h6[BATCH];
	uint8_t at4[BATCH], at6[BATCH];
	unsigned n4 = 0, n6 = 0;

	for (unsigned i = 0; i < n; i++) {
		const struct tuple *t = &keys[i].t;
		uint16_t realm = FS_SLOT(keys[i].realm);
		if (words_are4(t)) {
			words4(t, realm, w4 + n4, BATCH);
			at4[n4++] = (uint8_t)i;
		} else {
			words6(t, realm, w6 + n6, BATCH);
			at6[n6++] = (uint8_t)i;
		}
	}
	if (n4)
		fs->sip_many(&fs->index_key, w4, WORDS4, n4, h4);
	if (n6)
		fs->sip_many(&fs->index_key, w6, WORDS6, n6, h6);
	for (unsigned i = 0; i < n4; i++)
		hash[at4[i]] = h4[i];
	for (unsigned i = 0; i < n6; i++)
		hash[at6[i]] = h6[i];
}

static void find_batch(const struct flowstate *fs, const struct fs_key *keys, unsigned n, struct fs_hit *out)
{
	const struct index *x = &fs->index;
	uint64_t hash[BATCH], match[BATCH];
	uint32_t home[BATCH];

	hash_batch(fs, keys, n, hash);
	for (unsigned i = 0; i < n; i++) {
		home[i] = index_home(x, hash[i]);
		__builtin_prefetch(&x->bucket[home[i]]);
	}
	for (unsigned i = 0; i < n; i++) {
		const struct bucket *b = &x->bucket[home[i]];
		match[i] = index_match(b, index_tag(hash[i]));
		if (match[i])
			__builtin_prefetch(head_of(fs, REF_RECORD(b->ref[index_entry(match[i])])));
	}
	for (unsigned i = 0; i < n; i++) {
		uint16_t realm = FS_SLOT(keys[i].realm);
		const struct tuple *t = &keys[i].t;
		uint32_t ref = in_bucket(fs, &x->bucket[home[i]], match[i], realm, t);
		if (ref == REF_NONE)
			ref = behind_home(fs, home[i], realm, t, hash[i]);
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

void fs_find(struct flowstate *fs, const struct fs_key *keys, unsigned n, struct fs_hit *out)
{
	while (n) {
		unsigned m = n < BATCH ? n : BATCH;
		find_batch(fs, keys, m, out);
		keys += m;
		out += m;
		n -= m;
	}
}
