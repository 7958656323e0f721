/* SPDX-License-Identifier: GPL-2.0-or-later */
/* sad_private.h - what the files of the SA database share: sad.c (slots, adding, taking), sad_choice.c (which one to send by),
 * sad_hold.c (packets that came too early), sad_ends.c (who sends to an end). */
#ifndef ARRD_IPSEC_SAD_PRIVATE_H
#define ARRD_IPSEC_SAD_PRIVATE_H

#include "ipsec/sad.h"

#include <pthread.h>

#define SAD_SLOTS    (1u << SAD_SLOT_BITS)
#define SAD_GEN_BITS (32 - SAD_SLOT_BITS)
#define SAD_GEN_MASK ((1u << SAD_GEN_BITS) - 1)
#define SAD_TUNNELS  65536u /* the low half of a tunnel's id is where it lies */
#define SAD_IKES     8      /* IKE_SAs that a tunnel remembers */
#define SAD_ENDS     16384u /* places in the table of peers' ends */

/* Packets that wait for their SA. */
struct sad_hold {
	uint32_t spi, count;
	struct sad_held *first, **last;
	struct sad_hold *next, *prev; /* of all */
};

/* Where an inbound SA lies. spi is written under the lock, and read by the loop without. */
struct sad_slot {
	_Atomic uint32_t spi; /* 0: free */
	uint32_t next_free;
	uint16_t gen;    /* of spi, or of the last one */
	bool used;       /* has been reserved once: gen is valid */
	uint16_t holder; /* whose share of the memory its held packets are of: a place of tunnels */
	struct sa *sa;
	struct sad_hold *hold;
};

/* An IKE_SA, as far as a tunnel has heard of it. */
struct sad_ike {
	uint32_t id; /* 0: none */
	uint32_t era;
	bool told; /* sad_ike_current has named it */
};

struct sad_tunnel {
	uint32_t id;
	struct sad_tunnel *next; /* of the same place */
	struct sa *in, *out;     /* newest first */
	struct sa *chosen;       /* the one to send by, until then: */
	uint64_t until_ms;
	uint32_t era; /* the newest */
	struct sad_ike ike[SAD_IKES];
};

struct sad {
	pthread_mutex_t lock; /* holds: free list, gen, used, fresh */
	uint64_t seed;
	uint32_t fresh, first_fresh;    /* slots never used: how many have been taken, and where they begin */
	uint32_t free_first, free_last; /* slots used before, the longest ago first; 0: none */

	/* The loop's. */
	struct sad_slot *slot;
	struct sad_tunnel **tunnel;
	struct sa **end; /* SAD_ENDS lists of outbound SAs: sad_ends.c */
	unsigned char ends_key[16];
	struct sa *all;    /* every SA */
	struct sa *cursor; /* the next one that sad_tick looks at; NULL: the first */
	uint32_t count;
	struct sad_hold *holds, *holds_last; /* in the order in which sad_tick looks at them */
	uint64_t held_octets;
	uint32_t *held_of; /* the same of each place of tunnels */
	uint32_t held_dropped;
};

/* sad.c: the slot of an SPI that is reserved or has an SA; NULL: neither. */
struct sad_slot *sad_slot_of(const struct sad *d, uint32_t spi);
struct sad_tunnel *sad_tunnel_of(const struct sad *d, uint32_t id);
/* The same, made when it is not there; NULL: no memory. */
struct sad_tunnel *sad_tunnel_make(struct sad *d, uint32_t id);

/* sad_choice.c: an SA has come (it is in its list), is about to go (it is no more), or has reached its end. */
void sad_choice_added(struct sad_tunnel *t, struct sa *sa);
void sad_choice_gone(struct sad_tunnel *t, struct sa *sa);

/* sad_ends.c: an outbound SA is there, is about to go; around a change of its end: both. */
void sad_ends_add(struct sad *d, struct sa *sa);
void sad_ends_remove(struct sad *d, struct sa *sa);

/* sad_hold.c: drops what a slot holds. */
void sad_hold_drop(struct sad *d, struct sad_slot *s);
/* Drops what has waited too long, of up to budget SPIs. */
void sad_hold_tick(struct sad *d, uint64_t now_ms, unsigned budget);

#endif
