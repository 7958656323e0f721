/* SPDX-License-Identifier: GPL-2.0-or-later */
/* wheel.h - the timing wheel: which records to look at in which second.
 *
 * A record hangs in the second in which it is due at the earliest. Packets do not move it: they stamp a time,
 * and a record that comes up too early is hung in again. Only a shorter timeout must move it at once.
 * A record that is due beyond the horizon comes up once a horizon.
 *
 * Links are by index, and private memory: eight octets a record, which the list of free records shares.
 */
#ifndef ARRD_FLOWSTATE_WHEEL_H
#define ARRD_FLOWSTATE_WHEEL_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#define WHEEL_SECONDS 8192u /* horizon; the default timeouts lie within */
#define WHEEL_NONE    UINT32_MAX
#define WHEEL_HEAD    0x80000000u /* prev: first of the second in the low bits */

struct wheel_link {
	uint32_t next, prev;
};

struct wheel {
	struct wheel_link *link;
	uint32_t max;
	uint32_t now; /* the next second to be worked off; nothing hangs in an earlier one */
	uint32_t head[WHEEL_SECONDS];
};

int wheel_open(struct wheel *w, uint32_t max, uint32_t now); /* 0 or -ENOMEM */
void wheel_close(struct wheel *w);

static inline void wheel_in(struct wheel *w, uint32_t i, uint32_t second)
{
	if (second < w->now)
		second = w->now;
	if (second - w->now >= WHEEL_SECONDS)
		second = w->now + WHEEL_SECONDS - 1;
	uint32_t *head = &w->head[second % WHEEL_SECONDS];
	w->link[i] = (struct wheel_link){.next = *head, .prev = WHEEL_HEAD | second % WHEEL_SECONDS};
	if (*head != WHEEL_NONE)
		w->link[*head].prev = i;
	*head = i;
}

static inline void wheel_out(struct wheel *w, uint32_t i)
{
	struct wheel_link l = w->link[i];
	if (l.prev & WHEEL_HEAD)
		w->head[l.prev & ~WHEEL_HEAD] = l.next;
	else
		w->link[l.prev].next = l.next;
	if (l.next != WHEEL_NONE)
		w->link[l.next].prev = l.prev;
}

/* First record of the second that is to be worked off, or WHEEL_NONE. */
static inline uint32_t wheel_first(const struct wheel *w)
{
	return w->head[w->now % WHEEL_SECONDS];
}

#endif
