/* SPDX-License-Identifier: GPL-2.0-or-later */
/* siphash.h - SipHash-2-4 of short keys, one at a time and many side by side.
 *
 * Used by the index (keys that strangers choose), the pool and the shard function. The values are those of
 * libsodium's crypto_shorthash; the point of having it here is to hash a batch in the lanes of wide
 * registers.
 */
#ifndef ARRD_FLOWSTATE_SIPHASH_H
#define ARRD_FLOWSTATE_SIPHASH_H

#include <stdint.h>

struct sip_key {
	uint64_t k[2];
};

void sip_key_random(struct sip_key *key);
void sip_key_from(struct sip_key *key, const uint8_t sixteen[static 16]);

/* Hash of a message given as n little-endian words. The last word is SipHash's closing word: up to seven
 * octets, and the message's length in octets in its top octet (SIP_LAST). n is at least 1. */
uint64_t sip_words(const struct sip_key *key, const uint64_t *w, unsigned n);
#define SIP_LAST(octets, length) ((uint64_t)(octets) | (uint64_t)(length) << 56)

/* The same for many messages of equal length: word j of message i is w[j * SIP_MANY + i]. count is at most
 * SIP_MANY; the words behind it, up to a multiple of four, are read and their hashes written, but mean
 * nothing. */
#define SIP_MANY 64
typedef void sip_many_fn(
	const struct sip_key *key, const uint64_t *w, unsigned nwords, unsigned count, uint64_t *out);

/* The fastest that this processor has. Each gives the same values. */
sip_many_fn *sip_many_best(void);

/* All that this processor can run, for tests: 0 is the plain one; NULL behind the last. */
sip_many_fn *sip_many_nth(unsigned i);

#endif
