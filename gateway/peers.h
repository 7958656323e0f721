/* SPDX-License-Identifier: GPL-2.0-or-later */
/* peers.h - where the branches of IPsec tunnels were last seen, in a file below state_dir.
 *
 * A gateway that was restarted, upgraded or killed has lost its keys; branches would go on sending to SAs that are no more,
 * until they notice. So it calls them back, from where and to where they last spoke. The file holds no secrets, and nobody
 * is trusted for being in it: who is called has to prove who it is.
 *
 * One line a tunnel: NAME LOCAL-PORT REMOTE-ADDRESS REMOTE-PORT.
 */
#ifndef ARRD_GATEWAY_PEERS_H
#define ARRD_GATEWAY_PEERS_H

#include "ipsec/sa.h"

struct peers;

/* Reads the file in dir; one that is not there or makes no sense is an empty one. Returns 0 or -ENOMEM. */
int peers_open(struct peers **out, const char *dir);
void peers_free(struct peers *p); /* NULL is allowed */

/* Where the tunnel's branch was last seen. False: never. */
bool peers_find(const struct peers *p, const char *tunnel, uint16_t *local_port, struct sa_end *remote);
/* It is there now; remote NULL: it is to be forgotten. Memory that is out means that it is not called back. */
void peers_set(struct peers *p, const char *tunnel, uint16_t local_port, const struct sa_end *remote);
/* Whether the file is not what it should be. */
bool peers_changed(const struct peers *p);
/* Writes the file if anything changed. Returns 0 or -errno. */
int peers_write(struct peers *p);

#endif
