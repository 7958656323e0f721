/* SPDX-License-Identifier: GPL-2.0-or-later */
/* wheel.c - the timing wheel: its memory. */
#include "flowstate/wheel.h"

#include "flowstate/arena.h"

#include <errno.h>

int wheel_open(struct wheel *w, uint32_t max, uint32_t now)
{
	w->link = arena_map_private((size_t)max * sizeof(*w->link));
	if (!w->link)
		return -ENOMEM;
	w->max = max;
	w->now = now;
	for (unsigned i = 0; i < WHEEL_SECONDS; i++)
		w->head[i] = WHEEL_NONE;
	return 0;
}

void wheel_close(struct wheel *w)
{
	arena_unmap_private(w->link, (size_t)w->max * sizeof(*w->link));
	w->link = NULL;
}
