/* SPDX-License-Identifier: GPL-2.0-or-later */
/* peers.h - where the branches of IPsec tunnels were last seen, in a file below state_dir.
 *
 * A gateway that was restarted, upgraded or killed has lost its keys; branches would go on sending to SAs that are no more,
 * until they notice. So it calls them back, from where and to where they last spoke. The file holds no secrets, and nobody
 * is trusted for being in it: who is called has to prove who it is.
 *
 * One line a tunnel: NAME IDENTITY LOCAL-PORT REMOTE-ADDRESS REMOTE-PORT SEEN. The identity is that of tunnel_identity(), by
 * which a later start tells whether the tunnel of that name is still the same branch's. Seen is when it was last up, in
 * seconds since the machine started (CLOCK_BOOTTIME), as nothing sets that clock; a time to come is of before a reboot.
 */
#ifndef ARRD_GATEWAY_PEERS_H
#define ARRD_GATEWAY_PEERS_H

#include "ipsec/sa.h"

struct peers;

struct peer_place {
	uint64_t identity;
	uint16_t local_port; /* of ours */
	struct sa_end remote;
	uint64_t seen_s; /* when it was last up there, CLOCK_BOOTTIME */
};

/* Reads the file in dir; one that is not there or makes no sense is an empty one. now_s: CLOCK_BOOTTIME. Returns 0 or
 * -ENOMEM. */
int peers_open(struct peers **out, const char *dir, uint64_t now_s);
void peers_free(struct peers *p); /* NULL is allowed */

/* Where the tunnel's branch was last seen. False: never. */
bool peers_find(const struct peers *p, const char *tunnel, struct peer_place *at);
/* It is there now. Memory that is out means that it is not called back. */
void peers_set(struct peers *p, const char *tunnel, const struct peer_place *at);
void peers_forget(struct peers *p, const char *tunnel);
/* Forgets all that keep says false of. */
typedef bool peers_keep_cb(void *arg, const char *tunnel, const struct peer_place *at);
void peers_sift(struct peers *p, peers_keep_cb *keep, void *arg);
/* Whether the file is not what it should be. */
bool peers_changed(const struct peers *p);
/* Writes the file if anything changed. Returns 0 or -errno. */
int peers_write(struct peers *p);

#endif
