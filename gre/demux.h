/* SPDX-License-Identifier: GPL-2.0-or-later */
/* demux.h - which tunnel a GRE packet belongs to: (how it came, local, remote, key or none) → a number of the caller's. */
#ifndef ARRD_GRE_DEMUX_H
#define ARRD_GRE_DEMUX_H

#include "gateway/base/addr.h"

#include <stdbool.h>
#include <stdint.h>

struct gre_endpoint {
	uint32_t over; /* what it came in, a number of the caller's; 0: in the clear */
	struct addr local, remote;
	bool has_key; /* a tunnel without a key takes only packets without one */
	uint32_t key;
};

struct gre_demux;
int gre_demux_new(struct gre_demux **out);
void gre_demux_free(struct gre_demux *d);

/* Adds an endpoint. value is any number but GRE_DEMUX_NONE. Returns 0, -EEXIST or -ENOMEM. */
#define GRE_DEMUX_NONE UINT32_MAX
int gre_demux_add(struct gre_demux *d, const struct gre_endpoint *e, uint32_t value);
/* Returns 0 or -ENOENT. */
int gre_demux_del(struct gre_demux *d, const struct gre_endpoint *e);
/* The value, or GRE_DEMUX_NONE. O(1), keyed hash: the packets that ask come from anybody. */
uint32_t gre_demux_find(const struct gre_demux *d, const struct gre_endpoint *e);

#endif
