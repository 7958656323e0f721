/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ipsec.h - IPsec in the gateway: its life, its connections, and its part of the packet path.
 *
 *	ipsec.c         opening and closing, sockets, lifetimes
 *	ipsec_events.c  what the key exchange tells
 *	ipsec_conns.c   connections at a start and a reload, calling back, steering
 *	rx_ipsec.c      socket → ESP opened → inner packet, or GRE inside → flow step
 *	tx_ipsec.c      wire packet → sealed → runs of equal length → socket
 *	peers.c         where branches were last seen, so that a start can call them back
 *
 * It is opened with the first tunnel of type ipsec, and then stays as long as the process.
 */
#ifndef ARRD_GATEWAY_IPSEC_H
#define ARRD_GATEWAY_IPSEC_H

#include "gateway/path.h"

struct ipsec;

/* Sockets, SA database, libcharon with its threads. Returns 0, or -errno with a message in err; *out is to be closed then,
 * too. */
int ipsec_open(struct ipsec **out, struct gateway *gw, char *err, size_t errlen);
/* Ends the key exchange; peers are not told, so that the next start can take them up again. Frees s, but for handles of the
 * loop, which go when it runs next. NULL is allowed. */
void ipsec_close(struct ipsec *s);

/* A reload, before the new tunnels are committed: connections that next does not have, or has otherwise, end with their SAs. */
void ipsec_leave(
	struct ipsec *s, const struct tunnels *now, const struct tunnels *next, const struct config *conf);
/* After the commit, and at the start: adds the connections of tunnels that have none yet. Branches that were there in the last
 * run, or before their connection changed, are called back. */
void ipsec_enter(struct ipsec *s);

/* What the key exchange says from here on. */
void ipsec_log_level(struct ipsec *s, enum log_level level);

/* Ten times a second: lifetimes, packets held too long, endpoints to the file. */
void ipsec_tick(struct ipsec *s);
/* About once a second: what the kernel threw away. */
void ipsec_second(struct ipsec *s);

/* What the operator asks for; done by the key exchange some time later. Returns 0 or -ENOENT. */
enum ipsec_steer { IPSEC_INITIATE, IPSEC_REKEY_IKE, IPSEC_REKEY_CHILD, IPSEC_TERMINATE };
int ipsec_steer(struct ipsec *s, const struct tunnel *t, enum ipsec_steer what);

/* For listings: the SAs of a tunnel, the newest first. */
const struct sa *ipsec_sas(const struct ipsec *s, const struct tunnel *t, bool inbound);
/* "ipsec-mb", "openssl": what the ciphers run on. */
const char *ipsec_crypto(const struct ipsec *s);

/* ---- the packet path -------------------------------------------------------------------------------- */

/* One packet for the SA of an ipsec tunnel: parts one behind the other are what it carries, next says what that is. Copied.
 * inner: the tunnel whose packet it is (the same, or a GRE tunnel over it); octets: of the inner packet, for counting (0:
 * not counted). what: by which SA it may travel, where selectors are narrow; NULL: by any, in transport mode. Returns
 * DROP_NONE, or why not: nothing was counted then. */
struct ipsec_what {
	struct tuple t;
	bool ports_known; /* false: a fragment behind the first */
};
enum drop tx_ipsec(struct path *path, struct tunnel *t, struct tunnel *inner, const struct ipsec_what *what,
	uint8_t next, const struct iovec *part, unsigned nparts, uint8_t tos, uint32_t octets);
/* Seals and sends what is queued. */
void tx_ipsec_flush(struct path *path);

#endif
