/* SPDX-License-Identifier: GPL-2.0-or-later */
/* sad_hold.c - the SA database: packets that came before their SA.
 *
 * A peer that has our answer sends at once, and its packets can be here before our side of the key exchange has handed
 * over the keys. Their SPI is known as reserved; they are copied, and played again when the SA comes. SPIs are not secret,
 * so anybody on the path can send for one: packets for one SPI, octets of
 * a tunnel and of all, and time are bounded.
 */
#include "ipsec/sad_private.h"

#include <stdlib.h>

/* What a packet costs, so that tiny ones are bounded, too. */
static uint64_t cost(const struct sad_held *h)
{
	return sizeof(*h) + h->len;
}

static void forget(struct sad *d, const struct sad_held *h)
{
	d->held_octets -= cost(h);
	d->held_of[h->holder] -= (uint32_t)cost(h);
}

static void free_held(struct sad *d, struct sad_held *h)
{
	forget(d, h);
	free(h);
}

/* Takes the hold off its slot; its packets are the caller's. */
static struct sad_held *take_off(struct sad *d, struct sad_slot *s)
{
	struct sad_hold *hold = s->hold;
	struct sad_held *list = hold->first;

	if (hold->prev)
		hold->prev->next = hold->next;
	else
		d->holds = hold->next;
	if (hold->next)
		hold->next->prev = hold->prev;
	else
		d->holds_last = hold->prev;
	s->hold = NULL;
	free(hold);
	return list;
}

static void append(struct sad *d, struct sad_hold *hold)
{
	hold->next = NULL;
	hold->prev = d->holds_last;
	if (d->holds_last)
		d->holds_last->next = hold;
	else
		d->holds = hold;
	d->holds_last = hold;
}

void sad_hold_drop(struct sad *d, struct sad_slot *s)
{
	struct sad_held *h = s->hold ? take_off(d, s) : NULL;

	for (struct sad_held *next; h; h = next, d->held_dropped++) {
		next = h->next;
		free_held(d, h);
	}
}

static struct sad_hold *hold_of(struct sad *d, struct sad_slot *s, uint32_t spi)
{
	struct sad_hold *hold = s->hold;

	if (hold)
		return hold;
	hold = calloc(1, sizeof(*hold));
	if (!hold)
		return NULL;
	hold->spi = spi;
	hold->last = &hold->first;
	append(d, hold);
	s->hold = hold;
	return hold;
}

bool sad_hold(struct sad *d, uint32_t spi, const struct sa_end *local, const struct sa_end *remote,
	uint8_t tos, const uint8_t *data, uint32_t len, uint64_t now_ms)
{
	struct sad_slot *s = sad_slot_of(d, spi);
	struct sad_hold *hold;
	struct sad_held *h;

	if (!s || s->sa || (s->hold && s->hold->count == SAD_HOLD_MAX) ||
		d->held_of[s->holder] + sizeof(*h) + len > SAD_HOLD_TUNNEL ||
		d->held_octets + sizeof(*h) + len > SAD_HOLD_OCTETS)
		return false;
	h = malloc(sizeof(*h) + len);
	if (!h)
		return false;
	hold = hold_of(d, s, spi);
	if (!hold) {
		free(h);
		return false;
	}
	*h = (struct sad_held){.local = *local,
		.remote = *remote,
		.tos = tos,
		.len = len,
		.holder = s->holder,
		.data = (uint8_t *)(h + 1),
		.at_ms = now_ms};
	memcpy(h->data, data, len);
	*hold->last = h;
	hold->last = &h->next;
	hold->count++;
	d->held_octets += cost(h);
	d->held_of[s->holder] += (uint32_t)cost(h);
	return true;
}

static bool too_old(const struct sad_held *h, uint64_t now_ms)
{
	return now_ms > h->at_ms + SAD_HOLD_MS;
}

struct sad_held *sad_held_take(struct sad *d, uint32_t spi, uint64_t now_ms, uint32_t *expired)
{
	struct sad_slot *s = sad_slot_of(d, spi);
	struct sad_held *list = s && s->hold ? take_off(d, s) : NULL;

	*expired = 0;
	while (list && too_old(list, now_ms)) {
		struct sad_held *next = list->next;

		free_held(d, list);
		list = next;
		(*expired)++;
	}
	for (const struct sad_held *h = list; h; h = h->next)
		forget(d, h);
	return list;
}

void sad_held_free(struct sad_held *list)
{
	for (struct sad_held *next; list; list = next) {
		next = list->next;
		free(list);
	}
}

uint32_t sad_held_dropped(struct sad *d)
{
	uint32_t n = d->held_dropped;

	d->held_dropped = 0;
	return n;
}

/* Those that were looked at go to the end, so that each has its turn. */
void sad_hold_tick(struct sad *d, uint64_t now_ms, unsigned budget)
{
	const struct sad_hold *end = d->holds_last;

	for (struct sad_hold *hold = d->holds, *next; hold && budget--; hold = next) {
		struct sad_slot *s = sad_slot_of(d, hold->spi);
		bool was_last = hold == end;

		next = was_last ? NULL : hold->next;
		while (hold->first && too_old(hold->first, now_ms)) {
			struct sad_held *h = hold->first;

			hold->first = h->next;
			hold->count--;
			d->held_dropped++;
			free_held(d, h);
		}
		if (!hold->first) {
			hold->last = &hold->first;
			(void)take_off(d, s);
			continue;
		}
		/* to the end */
		if (hold == d->holds_last)
			continue;
		d->holds = hold->next;
		d->holds->prev = NULL;
		append(d, hold);
	}
}
