/* SPDX-License-Identifier: GPL-2.0-or-later */
/* flowstate_siphash_test.c - the hash against libsodium's, one at a time and side by side; the index by itself. */
#include "test/unit/flowstate_help.h"

#include <sodium.h>
#include <stdlib.h>

/* Splits a message into words as siphash.h asks for. */
static unsigned words_of(const uint8_t *m, size_t len, uint64_t *w)
{
	unsigned n = (unsigned)(len / 8);
	uint64_t rest = 0;
	memcpy(w, m, n * 8u);
	memcpy(&rest, m + n * 8u, len - n * 8u);
	w[n] = SIP_LAST(rest, len);
	return n + 1;
}

static uint64_t sodium_hash(const struct sip_key *key, const uint8_t *m, size_t len)
{
	uint8_t out[crypto_shorthash_BYTES];
	uint64_t h;
	crypto_shorthash(out, m, len, (const uint8_t *)key);
	memcpy(&h, out, 8);
	return h;
}

static void test_single(void **state)
{
	(void)state;
	uint8_t m[64];
	uint64_t w[9];
	struct sip_key key;
	/* The vector of the paper's appendix A: key 00..0f, message 00..0e. */
	for (unsigned i = 0; i < 16; i++)
		((uint8_t *)&key)[i] = (uint8_t)i;
	for (unsigned i = 0; i < 15; i++)
		m[i] = (uint8_t)i;
	assert_true(sip_words(&key, w, words_of(m, 15, w)) == 0xa129ca6149be45e5);
	for (int round = 0; round < 200; round++) {
		randombytes_buf(m, sizeof(m));
		sip_key_random(&key);
		for (size_t len = 0; len < sizeof(m); len++)
			assert_true(sip_words(&key, w, words_of(m, len, w)) == sodium_hash(&key, m, len));
	}
}

static void test_many(void **state)
{
	(void)state;
	struct sip_key key;
	uint64_t w[5 * SIP_MANY], out[SIP_MANY];
	unsigned kinds = 0;
	for (sip_many_fn *fn; (fn = sip_many_nth(kinds)); kinds++) {
		for (unsigned nwords = 1; nwords <= 5; nwords++) {
			for (unsigned count = 1; count <= SIP_MANY; count++) {
				sip_key_random(&key);
				randombytes_buf(w, sizeof(w));
				fn(&key, w, nwords, count, out);
				for (unsigned i = 0; i < count; i++) {
					uint64_t one[5];
					for (unsigned j = 0; j < nwords; j++)
						one[j] = w[j * SIP_MANY + i];
					assert_true(out[i] == sip_words(&key, one, nwords));
				}
			}
		}
	}
	print_message("%u kinds\n", kinds);
	assert_true(kinds >= 1);
	assert_non_null(sip_many_best());
}

/* The octets that a key stands for, written down independently of lookup.c. */
static size_t octets_of(const struct tuple *t, uint16_t slot, uint8_t *m)
{
	bool is4 = addr_is4(&t->src);
	size_t n = 0, skip = is4 ? 12 : 0;
	memcpy(m + n, t->src.b + skip, 16 - skip);
	n += 16 - skip;
	memcpy(m + n, t->dst.b + skip, 16 - skip);
	n += 16 - skip;
	memcpy(m + n, &t->sport, 2);
	memcpy(m + n + 2, &t->dport, 2);
	m[n + 4] = (uint8_t)slot;
	m[n + 5] = (uint8_t)(slot >> 8);
	m[n + 6] = t->proto;
	return n + 7;
}

static void test_keys(void **state)
{
	(void)state;
	struct world w;
	uint8_t m[64];
	world_new(&w, NULL, 10);
	struct tuple ts[] = {
		tup(IPPROTO_TCP, "10.0.1.5", 40000, "203.0.113.80", 443),
		tup(IPPROTO_UDP, "10.0.1.5", 1, "203.0.113.80", 65535),
		tup(IPPROTO_TCP, "2001:db8::5", 40000, "2001:db8::80", 443),
		tup(58, "fd00::1", 77, "fd00::2", 0),
	};
	for (size_t i = 0; i < sizeof(ts) / sizeof(ts[0]); i++) {
		size_t len = octets_of(&ts[i], 0x1234, m);
		assert_int_equal(len, addr_is4(&ts[i].src) ? 15 : 39);
		assert_true(
			lookup_hash(w.fs, 0x1234, &ts[i], false) == sodium_hash(&w.fs->index_key, m, len));
	}
	world_close(&w);
}

/* Entries in and out at random, up to a table that is full; each is found until it is taken out. */
static void test_index(void **state)
{
	(void)state;
	enum { RECORDS = 500, ENTRIES = 2 * RECORDS };
	static uint64_t hash[ENTRIES];
	static bool in[ENTRIES];
	struct index x;
	memset(in, 0, sizeof(in));
	assert_int_equal(index_open(&x, RECORDS), 0);
	unsigned n = 0;
	for (unsigned round = 0; round < ROUNDS(400000); round++) {
		uint32_t k = randombytes_uniform(ENTRIES);
		/* Waves: mostly in, then mostly out. */
		if (in[k] && (round / 4000 % 2 || n == ENTRIES)) {
			index_out(&x, hash[k], k);
			in[k] = false;
			n--;
		} else if (!in[k]) {
			randombytes_buf(&hash[k], sizeof(hash[k]));
			/* A few homes get far more than their share, as if somebody had aimed. */
			if (k % 4 == 0)
				hash[k] = (hash[k] & 0x00ffffffffffffff) | (uint64_t)0x42 << 56;
			index_in(&x, hash[k], k);
			in[k] = true;
			n++;
		}
		k = randombytes_uniform(ENTRIES);
		if (!in[k])
			continue;
		bool found = false;
		for (uint32_t b = index_home(&x, hash[k]);; b = index_next(&x, b)) {
			const struct bucket *u = &x.bucket[b];
			for (uint64_t m = index_match(u, index_tag(hash[k])); m; m &= m - 1)
				found |= u->ref[index_entry(m)] == k && u->tag[index_entry(m)];
			if (found || !u->passed[index_class(hash[k])])
				break;
		}
		assert_true(found);
	}
	for (uint32_t k = 0; k < ENTRIES; k++) {
		if (in[k])
			index_out(&x, hash[k], k);
	}
	/* Empty again, and no bucket thinks that somebody passed it. */
	for (uint32_t b = 0; b < x.n; b++) {
		for (int e = 0; e < BUCKET_ENTRIES; e++) {
			assert_int_equal(x.bucket[b].tag[e], 0);
			assert_int_equal(x.bucket[b].passed[e], 0);
		}
	}
	index_close(&x);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_single),
		cmocka_unit_test(test_many),
		cmocka_unit_test(test_keys),
		cmocka_unit_test(test_index),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
