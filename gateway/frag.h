/* SPDX-License-Identifier: GPL-2.0-or-later */
/* frag.h - inner fragments: put together before the flow step, and cut again behind it.
 *
 * The kernel behind the TUN, and every host, puts together what has equal addresses, protocol and Identification. Two sites
 * may send just that at the same time, and NAT makes equal what was not. So a datagram of fragments crosses the gateway as
 * one packet, which has a flow and ports like any other; it is cut anew, with an Identification that no other site's
 * datagram to that destination has had for as long as anybody would wait for the rest of it (frag_id.h).
 */
#ifndef ARRD_FRAG_H
#define ARRD_FRAG_H

#include "gateway/path.h"

struct frag;

/* Memory is taken as fragments come. Returns 0, -ENOMEM or -ENOSYS. */
int frag_new(struct frag **out, struct path *path);
void frag_free(struct frag *f);

/* A fragment, parsed as it->p. It is copied: the batch may end. Returns DROP_NONE or why it is not kept. */
enum drop frag_take(struct path *path, const struct item *it);
/* Sends the next datagram that is complete through the flow step, as path->item[0]: call it when these are free, and
 * path_flush's work behind it. False: there is none. */
bool frag_forward(struct path *path);
/* How long the fragments may be that a datagram which was put together is cut into: as long as they came, and no longer than mtu.
 * Tiny ones, whose headers would not find room in any, become longer: 576 octets, or 1280 for IPv6, every link takes. */
static inline uint32_t frag_limit(const struct pkt *p, uint32_t mtu)
{
	uint32_t least = p->ver == 4 ? 576 : 1280, limit = p->frag_max > least ? p->frag_max : least;

	return limit < mtu ? limit : mtu;
}

/* A packet of a site leaves, translated, into another realm: with an Identification for it. Returns DROP_NONE or
 * DROP_FRAGMENT_ID. */
enum drop frag_number(struct path *path, struct pkt *p, fs_id site, fs_id realm);
/* A datagram that was put together leaves for the egress. Returns DROP_NONE or why not. */
enum drop frag_to_tun(struct path *path, const struct pkt *p);
/* About once a second: what is too old. */
void frag_tick(struct path *path);

#endif
