/* SPDX-License-Identifier: GPL-2.0-or-later */
/* police.h - who fills a receive queue loses his own packets first. */
#ifndef ARRD_POLICE_H
#define ARRD_POLICE_H

#include "gateway/base/msg.h"
#include "gateway/gateway.h"

/* Sockets that the same branches come by, of one family; and whom the kernel holds back on them. Zero at the beginning. */
struct police {
	struct msg_police entry[MSG_POLICED];
	unsigned n;
	bool looked;
};

/* The outer source of a tunnel that comes by the sockets; NULL: it does not. */
typedef const struct addr *police_source_fn(const struct tunnel *t, int family);

/* Looks at the queues of sockets fd[nfds] (-1: there is none), and says to the kernel whom to thin out. To be called about ten
 * times a second. family: AF_INET, AF_INET6. udp: messages of IKE on them always pass (RFC 3948 2.2). */
void police_tick(struct gateway *gw, struct police *p, police_source_fn *source, int family, const int *fd,
	unsigned nfds, const bool *udp);

#endif
