/* SPDX-License-Identifier: GPL-2.0-or-later */
/* conntrack.h - forgetting connections in the kernel's table. Needs CAP_NET_ADMIN. */
#ifndef ARRD_CONNTRACK_H
#define ARRD_CONNTRACK_H

#include "gateway/base/addr.h"

struct conntrack;

/* Returns 0 or -errno. */
int conntrack_open(struct conntrack **out);
/* Flushes and frees. */
void conntrack_close(struct conntrack *ct);

/* Queues the deletion of the connection with this original tuple, in that zone. One that does not exist is no
 * error. */
void conntrack_forget(struct conntrack *ct, const struct tuple *orig, uint16_t zone);
/* Sends what is queued: about two hundred to a system call, 1 µs each. */
void conntrack_flush(struct conntrack *ct);

/* Deletes every connection whose mark has that bit. Returns their number or -errno. */
int conntrack_forget_marked(uint32_t mark);

#endif
