/* SPDX-License-Identifier: GPL-2.0-or-later */
/* sa.h - one ESP security association, one direction.
 *
 * Life. IKE's threads make it (ike_kernel.c) and put it into the mailbox; from then on it is the loop's alone, but for
 * struct sa_use, which IKE reads. It is freed by who takes it out of the SA database, through sa_free.
 *
 * References: RFC 4301 (4.4.2), 4303.
 */
#ifndef ARRD_IPSEC_SA_H
#define ARRD_IPSEC_SA_H

#include "gateway/base/addr.h"
#include "ipsec/crypto.h"
#include "ipsec/replay.h"

#include <stdatomic.h>

/* An end outside. port (host order) is 0 where ESP travels as protocol 50. */
struct sa_end {
	struct addr a;
	uint16_t port;
};

/* A traffic selector (RFC 7296 3.13.1): ranges, both ends included. proto 0: any. Ports in host order. */
struct sa_selector {
	struct addr from, to;
	uint16_t port_from, port_to;
	uint8_t proto;
};

/* What IKE may ask at any time. Counted by: 1 for the loop, 1 for IKE's own table. */
struct sa_use {
	_Atomic uint32_t refs;
	_Atomic uint64_t packets, octets; /* of inner packets, dummies left out */
	_Atomic uint64_t last_ms;         /* CLOCK_BOOTTIME of the last packet that was good; 0: none */
};
struct sa_use *sa_use_new(void); /* with one reference; NULL: no memory */
struct sa_use *sa_use_get(struct sa_use *u);
void sa_use_put(struct sa_use *u); /* NULL is allowed */

/* Limits of an SA's life; 0: none. soft: time to renew it, hard: it must not be used any more. */
struct sa_limit {
	uint64_t soft, hard;
};

struct sa {
	/* Fixed when it is made. */
	uint32_t spi;    /* host order; inbound: ours, outbound: the peer's */
	uint32_t tunnel; /* the id that the connection was configured with (ike.h) */
	bool inbound;
	bool initiator; /* we began the exchange that made it */
	bool esn;
	bool transport; /* transport mode: no inner IP header */
	/* outbound: pad inner packets up to this many octets; UINT16_MAX: to the tunnel's MTU; 0: no */
	uint16_t tfc;
	const struct suite *suite;
	struct crypto_key *key;                   /* owned */
	struct sa_selector *local_ts, *remote_ts; /* owned */
	uint16_t nlocal_ts, nremote_ts;
	struct sa_limit time_s, octets, packets; /* time_s: seconds since born_ms */
	struct sa_use *use;                      /* owned reference */

	/* Changed by the loop only. */
	uint32_t ike;                /* unique id of the IKE_SA that made it, or has inherited it */
	struct sa_end local, remote; /* both ports 0: protocol 50 */
	uint64_t born_ms;            /* CLOCK_BOOTTIME, set by sad_add */
	uint64_t seq;                /* outbound: the last number used */
	struct replay replay;        /* inbound */
	bool soft_done, hard_done;   /* IKE has been told */
	uint64_t replayed, bad_icv;  /* packets */
	struct sa *next;             /* of the same tunnel and direction, the newest first */

	/* The SA database's: sad_private.h. */
	struct sa *twin; /* of the same CHILD_SA, the other direction; NULL: not there (yet, or any more) */
	bool paired;     /* has, or had, a twin */
	uint32_t era;    /* that of its IKE_SA */
	bool proven;     /* inbound: something good has come; outbound: the peer has it, as far as we know */
	struct sa *all_next, *all_prev;
	struct sa *end_next; /* outbound: of those that may send to the same end */
};

/* Releases everything of it; keys are wiped. NULL is allowed. */
void sa_free(struct sa *sa);

/* Whether a packet may travel in the SA: inner source and destination, protocol and ports (0 where there are none).
 * Inbound: source in remote_ts, destination in local_ts; outbound the other way round. ports_known: false for fragments
 * behind the first, which, as ICMP and protocols without ports, match only selectors of all ports. */
bool sa_selects(const struct sa *sa, const struct tuple *t, bool ports_known);

#endif
