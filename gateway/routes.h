/* SPDX-License-Identifier: GPL-2.0-or-later */
/* routes.h - prefix → tunnel, consulted only for a packet without a flow (and for the replies of tunnels that
 * have automatic_return_routing off). */
#ifndef ARRD_ROUTES_H
#define ARRD_ROUTES_H

#include "gateway/tunnel.h"

struct routes;

/* Builds the table from the routes of c's tunnels; t are the tunnels that stand for them, in the same order,
 * and need not be running yet. Returns 0 or -ENOMEM. */
int routes_new(struct routes **out, const struct tunnels *t, const struct config *c);
void routes_free(struct routes *r);

/* The tunnel of the longest prefix that has a; among equal prefixes one that is up, then the lowest priority.
 * Only tunnels of site when that is not FS_ID_NONE. NULL: no route. */
struct tunnel *routes_find(const struct routes *r, const struct addr *a, fs_id site, uint64_t now_ms);

#endif
