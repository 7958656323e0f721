/* SPDX-License-Identifier: GPL-2.0-or-later */
/* siphash.c - SipHash-2-4 (Aumasson, Bernstein: "SipHash: a fast short-input PRF", 2012).
 *
 * The rounds are written once, for any type that can be added, shifted and xored: a word, or a vector of
 * four. The compiler is given the vector body anew for each instruction set; which one runs is decided at
 * start.
 */
#include "flowstate/siphash.h"

#include <sodium.h>
#include <string.h>

#define ROTL(x, b) ((x) << (b) | (x) >> (64 - (b)))

#define SIP_ROUND(v0, v1, v2, v3)                                                                            \
	do {                                                                                                 \
		(v0) += (v1);                                                                                \
		(v2) += (v3);                                                                                \
		(v1) = ROTL(v1, 13) ^ (v0);                                                                  \
		(v3) = ROTL(v3, 16) ^ (v2);                                                                  \
		(v0) = ROTL(v0, 32);                                                                         \
		(v2) += (v1);                                                                                \
		(v0) += (v3);                                                                                \
		(v1) = ROTL(v1, 17) ^ (v2);                                                                  \
		(v3) = ROTL(v3, 21) ^ (v0);                                                                  \
		(v2) = ROTL(v2, 32);                                                                         \
	} while (0)

/* Takes in one word; closes and gives the hash. */
#define SIP_WORD(v0, v1, v2, v3, w)                                                                          \
	do {                                                                                                 \
		(v3) ^= (w);                                                                                 \
		SIP_ROUND(v0, v1, v2, v3);                                                                   \
		SIP_ROUND(v0, v1, v2, v3);                                                                   \
		(v0) ^= (w);                                                                                 \
	} while (0)
#define SIP_CLOSE(v0, v1, v2, v3, hash)                                                                      \
	do {                                                                                                 \
		(v2) ^= 0xff;                                                                                \
		SIP_ROUND(v0, v1, v2, v3);                                                                   \
		SIP_ROUND(v0, v1, v2, v3);                                                                   \
		SIP_ROUND(v0, v1, v2, v3);                                                                   \
		SIP_ROUND(v0, v1, v2, v3);                                                                   \
		(hash) = (v0) ^ (v1) ^ (v2) ^ (v3);                                                          \
	} while (0)

/* The initial state: "somepseudorandomlygeneratedbytes". */
static const uint64_t start[4] = {
	0x736f6d6570736575, 0x646f72616e646f6d, 0x6c7967656e657261, 0x7465646279746573};

void sip_key_random(struct sip_key *key)
{
	randombytes_buf(key, sizeof(*key));
}

void sip_key_from(struct sip_key *key, const uint8_t sixteen[static 16])
{
	memcpy(key, sixteen, sizeof(*key));
}

uint64_t sip_words(const struct sip_key *key, const uint64_t *w, unsigned n)
{
	uint64_t v0 = key->k[0] ^ start[0], v1 = key->k[1] ^ start[1];
	uint64_t v2 = key->k[0] ^ start[2], v3 = key->k[1] ^ start[3];
	uint64_t hash;
	for (unsigned i = 0; i < n; i++)
		SIP_WORD(v0, v1, v2, v3, w[i]);
	SIP_CLOSE(v0, v1, v2, v3, hash);
	return hash;
}

static void many_plain(
	const struct sip_key *key, const uint64_t *w, unsigned nwords, unsigned count, uint64_t *out)
{
	for (unsigned i = 0; i < count; i++) {
		uint64_t one[8];
		for (unsigned j = 0; j < nwords; j++)
			one[j] = w[j * SIP_MANY + i];
		out[i] = sip_words(key, one, nwords);
	}
}

#if defined(__x86_64__)
#define LANES 4
typedef uint64_t lanes __attribute__((vector_size(LANES * sizeof(uint64_t)), aligned(8), may_alias));

static inline __attribute__((always_inline)) void many_lanes(
	const struct sip_key *key, const uint64_t *w, unsigned nwords, unsigned count, uint64_t *out)
{
	for (unsigned i = 0; i < count; i += LANES) {
		lanes v0 = (lanes){} + (key->k[0] ^ start[0]);
		lanes v1 = (lanes){} + (key->k[1] ^ start[1]);
		lanes v2 = (lanes){} + (key->k[0] ^ start[2]);
		lanes v3 = (lanes){} + (key->k[1] ^ start[3]);
		for (unsigned j = 0; j < nwords; j++)
			SIP_WORD(v0, v1, v2, v3, *(const lanes *)(w + j * SIP_MANY + i));
		SIP_CLOSE(v0, v1, v2, v3, *(lanes *)(out + i));
	}
}

__attribute__((target("avx2"))) static void many_avx2(
	const struct sip_key *key, const uint64_t *w, unsigned nwords, unsigned count, uint64_t *out)
{
	many_lanes(key, w, nwords, count, out);
}

__attribute__((target("avx512f,avx512vl"))) static void many_avx512(
	const struct sip_key *key, const uint64_t *w, unsigned nwords, unsigned count, uint64_t *out)
{
	many_lanes(key, w, nwords, count, out);
}
#endif

sip_many_fn *sip_many_nth(unsigned i)
{
	sip_many_fn *can[4] = {many_plain};
	unsigned n = 1;
#if defined(__x86_64__)
	if (__builtin_cpu_supports("avx2"))
		can[n++] = many_avx2;
	if (__builtin_cpu_supports("avx512vl"))
		can[n++] = many_avx512;
#endif
	return i < n ? can[i] : NULL;
}

sip_many_fn *sip_many_best(void)
{
	sip_many_fn *best = many_plain;
	for (unsigned i = 0; sip_many_nth(i); i++)
		best = sip_many_nth(i);
	return best;
}
