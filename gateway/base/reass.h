/* SPDX-License-Identifier: GPL-2.0-or-later */
/* reass.h - puts fragments together, so that a datagram of many is judged, translated and sent as one packet.
 *
 * Whose fragments they are is part of the key: sites with equal addresses may use equal Identifications at the same time,
 * and nobody puts one site's fragment to another's. Memory, datagrams and time are bounded, for all and for each realm; who
 * asks for more than his share loses his own oldest.
 *
 * Overlapping fragments end their datagram, and what comes of it later is dropped (RFC 5722); an exact duplicate is left out
 * (RFC 8200 4.5).
 *
 * References: RFC 791 3.2, RFC 815, RFC 8200 4.5, RFC 5722, RFC 3168 5.3 (ECN), RFC 1858.
 */
#ifndef ARRD_BASE_REASS_H
#define ARRD_BASE_REASS_H

#include "gateway/base/drop.h"
#include "gateway/base/pkt.h"

struct reass;

#define REASS_PIECES 128 /* fragments of a datagram at most: 65,535 octets by an MTU of 576 need 119 */

struct reass_limits {
	uint32_t datagrams, datagrams_a_realm;
	uint32_t octets, octets_a_realm; /* of memory; rounded up to chunks of 2 KiB */
	uint32_t timeout_ms;             /* from the first fragment that came */
};

/* realm and via are numbers of the caller's (fs_id); realm's low 16 bits are what its share is counted by. */
int reass_new(struct reass **out, const struct reass_limits *l);
void reass_free(struct reass *r);

/* Called for fragments that will not become a datagram, though they were taken; packets: how many. */
typedef void reass_lost_cb(void *arg, uint32_t via, enum drop why, uint32_t packets);
void reass_on_lost(struct reass *r, reass_lost_cb *cb, void *arg);

/* Takes a fragment (p->frag), which is copied. Returns DROP_NONE, or why it is not kept. now_ms must not run backwards. */
enum drop reass_take(struct reass *r, uint32_t realm, uint32_t via, const struct pkt *p, uint64_t now_ms);

/* The next datagram that is complete, into buf (PKT_MAX octets): data, len, frag_max and frag_id of p, where data is buf; and how
 * it came. False: there is none. The caller parses it. */
bool reass_next(
	struct reass *r, uint8_t *buf, struct pkt *p, uint32_t *realm, uint32_t *via, uint32_t *packets);

/* Gives up what is too old. */
void reass_tick(struct reass *r, uint64_t now_ms);

/* Datagrams that wait, and octets of memory that they hold. */
uint32_t reass_waiting(const struct reass *r);
uint32_t reass_octets(const struct reass *r);

#endif
