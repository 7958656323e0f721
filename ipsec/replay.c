/* SPDX-License-Identifier: GPL-2.0-or-later */
/* replay.c - the anti-replay window.
 *
 * A ring of words, each for 64 numbers (RFC 6479). The window moves by clearing the words that it enters; nothing is
 * shifted. The ring has a word more than the largest window, so that the word that the top lies in is never the one that
 * the bottom lies in. Smaller windows use the same ring: what is below them is refused by number.
 */
#include "ipsec/replay.h"

#include <string.h>

/* Without a window the high half must still be guessed: the nearest number is taken. */
#define NEAREST (UINT64_C(1) << 31)

void replay_init(struct replay *r, uint32_t window, bool esn)
{
	memset(r, 0, sizeof(*r));
	if (window > REPLAY_MAX)
		window = REPLAY_MAX;
	r->window = (window + 63) / 64 * 64;
	r->esn = esn;
}

/* RFC 4303 A2.1. The bottom of the window, or what lies half of the number space below, tells the two apart. */
static bool extend(const struct replay *r, uint32_t seq_lo, uint64_t *seq)
{
	uint64_t reach = r->window ? r->window : NEAREST;
	uint64_t bottom = r->top >= reach ? r->top - reach + 1 : 0;
	uint64_t whole = (bottom & ~(uint64_t)UINT32_MAX) | seq_lo;
	if (whole < bottom && __builtin_add_overflow(whole, UINT64_C(1) << 32, &whole))
		return false;
	*seq = whole;
	return true;
}

static uint64_t *word_of(const struct replay *r, uint64_t seq)
{
	return (uint64_t *)&r->bits[seq / 64 % REPLAY_WORDS];
}

static uint64_t bit_of(uint64_t seq)
{
	return UINT64_C(1) << (seq % 64);
}

static bool is_new(const struct replay *r, uint64_t seq)
{
	if (!r->window || seq > r->top)
		return true;
	return r->top - seq < r->window && !(*word_of(r, seq) & bit_of(seq));
}

bool replay_check(const struct replay *r, uint32_t seq_lo, uint64_t *seq)
{
	*seq = seq_lo;
	if (r->esn && !extend(r, seq_lo, seq))
		return false;
	return *seq != 0 && is_new(r, *seq);
}

bool replay_accept(struct replay *r, uint64_t seq)
{
	if (!is_new(r, seq))
		return false;
	if (seq > r->top) {
		uint64_t words = seq / 64 - r->top / 64;
		if (words > REPLAY_WORDS)
			words = REPLAY_WORDS;
		for (uint64_t i = 0; i < words; i++)
			*word_of(r, seq - i * 64) = 0;
		r->top = seq;
	}
	*word_of(r, seq) |= bit_of(seq);
	return true;
}
