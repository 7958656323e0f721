/* SPDX-License-Identifier: GPL-2.0-or-later */
/* sad.h - the SA database: inbound by SPI, outbound by tunnel.
 *
 * Inbound SPIs are ours, so they say where the SA lies: slot in the upper bits, generation in the lower ones; a look-up is
 * an array access and a comparison. sad_reserve may be called by any thread; everything else is the loop's.
 *
 * A peer may send on a new SA before our side of the key exchange is done. Its SPI is reserved then, and packets for it
 * are held (up to SAD_HOLD_MAX, for SAD_HOLD_MS) and played again when the SA is added.
 *
 * Outbound, a tunnel uses the newest SA of its newest IKE_SA that the peer is known to have in use: one whose exchange we
 * began (the peer answered, so it has it), or one on whose inbound twin something has come. Until then, and only while an
 * older one is there, the older one is used. sad_choice.c has the rules.
 */
#ifndef ARRD_IPSEC_SAD_H
#define ARRD_IPSEC_SAD_H

#include "ipsec/sa.h"

#define SAD_HOLD_MAX 2048 /* packets held for one SPI */
#define SAD_HOLD_MS  1000
#define SAD_HOLD_TUNNEL                                                                                      \
	(4u << 20) /* octets of one tunnel's SPIs: 30 ms at 1 Gb/s; a key exchange takes less */
#define SAD_HOLD_OCTETS (64u << 20) /* of all together */
#define SAD_CONFIRM_MS  10000       /* longer than until a lost answer is sent a second time */
#define SAD_TAKEOVER_MS 250
#define SAD_HEARD_MS    1000
#define SAD_SLOT_BITS   18 /* 262,143 inbound SAs */

struct sad;

int sad_new(struct sad **out); /* 0 or -ENOMEM */
void sad_free(struct sad *d);  /* with everything in it */

/* Any thread: reserves an SPI (host order, above 255) for an inbound SA of a tunnel to come (0: not known whose). Returns 0 or
 * -ENOSPC. */
int sad_reserve(struct sad *d, uint32_t tunnel, uint32_t *spi);
/* The reservation was for nothing. Loop only; packets held are dropped. Unknown SPIs are ignored. */
void sad_release(struct sad *d, uint32_t spi);

/* Takes sa over. An inbound one must have been reserved (-ENOENT), an outbound one's SPI must not be in use by the same
 * IKE_SA (-EEXIST). Without ESN the limits of packets are lowered to what sequence numbers allow. Returns 0, or also
 * -ENOMEM; sa stays the caller's then. */
int sad_add(struct sad *d, struct sa *sa, uint64_t now_ms);
/* Takes the SA out and hands it back, to be freed; NULL if there is none (a reservation is none: sad_release). An inbound slot
 * is free again from then on. Outbound SPIs are the peers' choice, and unique for a peer only. */
struct sa *sad_take_in(struct sad *d, uint32_t spi);
struct sa *sad_take_out(struct sad *d, uint32_t spi, uint32_t tunnel);
/* New ends of an SA (a NAT's mapping, MOBIKE). Returns 0 or -ENOENT. */
int sad_move(struct sad *d, bool inbound, uint32_t spi, uint32_t tunnel, const struct sa_end *local,
	const struct sa_end *remote);

/* The inbound SA of an SPI, or NULL. It may be past its hard limit (hard_done): that is the caller's to check. */
struct sa *sad_in(const struct sad *d, uint32_t spi);
/* Of an SPI that sad_in does not know: is it reserved? Then packets for it are to be held. */
bool sad_is_reserved(const struct sad *d, uint32_t spi);

/* What the holder needs to play a packet again. tos is that of the outer header. */
struct sad_held {
	struct sa_end local, remote;
	uint8_t tos;
	uint16_t holder; /* the database's */
	uint32_t len;
	uint8_t *data;  /* a copy of the ESP packet */
	uint64_t at_ms; /* when it came */
	struct sad_held *next;
};
/* Copies a packet for later. Returns false when it cannot be held (too many, no memory, not reserved). */
bool sad_hold(struct sad *d, uint32_t spi, const struct sa_end *local, const struct sa_end *remote,
	uint8_t tos, const uint8_t *data, uint32_t len, uint64_t now_ms);
/* What was held for an SPI, the oldest first; those that are too old are left out (and freed, *expired counts them). The
 * list is the caller's, to be freed with sad_held_free. To be called when the SA was added. */
struct sad_held *sad_held_take(struct sad *d, uint32_t spi, uint64_t now_ms, uint32_t *expired);
void sad_held_free(struct sad_held *list);

/* The SA to send by, or NULL: the tunnel has none. O(1) on the path. */
struct sa *sad_out(struct sad *d, uint32_t tunnel, uint64_t now_ms);
/* The same for a tunnel whose SAs may have narrow selectors: one that the packet may travel in; NULL: there is none. O(1)
 * when the one of sad_out will do. */
struct sa *sad_out_for(
	struct sad *d, uint32_t tunnel, const struct tuple *t, bool ports_known, uint64_t now_ms);
/* Something good came on an inbound SA: its twin may be used for sending. Cheap; call it for each packet. */
void sad_confirm(struct sad *d, struct sa *inbound);
/* The tunnel's newest IKE_SA is this one from now on (established; or it replaced the IKE_SA old by a rekey and inherited its
 * SAs; old 0: it did not). May be told again of the same ones. */
void sad_ike_current(struct sad *d, uint32_t tunnel, uint32_t ike, uint32_t old);

/* An outbound SA that sends from local (its address none: whichever) to remote and has this SPI (0: whichever); NULL: there is
 * none. O(1), but for SAs of the same remote end. */
const struct sa *sad_out_to(
	struct sad *d, const struct sa_end *local, const struct sa_end *remote, uint32_t spi);

/* Lists for operators: the SAs of a tunnel, newest first. */
const struct sa *sad_first(const struct sad *d, uint32_t tunnel, bool inbound);

/* Looks at up to budget SAs for limits of time, octets and packets, and at up to budget SPIs for held packets that are too
 * old. cb is told once of each soft and each hard limit (of a hard one alone when both are reached at once), and may take the
 * SA out; after a hard one sad_out does not choose it any more. Call it ten times a second. */
typedef void sad_expire_cb(void *arg, const struct sa *sa, bool hard);
void sad_tick(struct sad *d, uint64_t now_ms, unsigned budget, sad_expire_cb *cb, void *arg);
/* sa has carried more: if it reached a soft limit of octets or packets by that, cb is told now. At a high rate a tenth of a second
 * is a long way to the hard one. Cheap; call it for each packet that is counted in sa->use. */
void sad_used(struct sa *sa, sad_expire_cb *cb, void *arg);
/* Packets that were held and dropped, for age or because their SPI was released, since the last call; without those that
 * sad_held_take counts. */
uint32_t sad_held_dropped(struct sad *d);

#endif
