/* SPDX-License-Identifier: GPL-2.0-or-later */
/* frag_id.h - Identifications of IPv4 datagrams that sites send (RFC 791, RFC 6864).
 *
 * Whoever puts fragments together goes by addresses, protocol and Identification. Sites have addresses in common, and NAT
 * makes equal what was not, so the Identification must tell their datagrams apart:
 *
 *   - a datagram that came in fragments gets one that no datagram of another site to that destination had within
 *     FRAG_ID_WAIT_MS, but for a restart in between. There are few of them, so a site gets them in blocks, and never all;
 *   - one that came whole, and may be fragmented further on, gets the next of the others: equal ones are about 32768
 *     datagrams apart, of those to destinations of one hash, and what a site chose itself says nothing.
 */
#ifndef ARRD_FRAG_ID_H
#define ARRD_FRAG_ID_H

#include "flowstate/flowstate.h"

#define FRAG_ID_WAIT_MS 30000u /* for so long somebody may wait for the rest of a datagram */

struct frag_ids;

/* 20 MiB, of which is used what destinations are sent to. Returns 0, -ENOMEM or -ENOSYS. */
int frag_ids_new(struct frag_ids **out);
void frag_ids_free(struct frag_ids *ids);

/* For a datagram of fragments, of a site, to dst as it is in a realm. Returns false when other sites have
 * all: 512 of them at least, who each have sent one. */
bool frag_ids_take(struct frag_ids *ids, fs_id realm, const struct addr *dst, uint8_t proto, fs_id site,
	uint64_t now_ms, uint16_t *id);
/* The first of n following ones, for n whole datagrams. */
uint16_t frag_ids_next(struct frag_ids *ids, fs_id realm, const struct addr *dst, uint8_t proto, uint32_t n);

#endif
