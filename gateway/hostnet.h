/* SPDX-License-Identifier: GPL-2.0-or-later */
/* hostnet.h - what addresses and networks the machine itself has, kept current by rtnetlink. */
#ifndef ARRD_HOSTNET_H
#define ARRD_HOSTNET_H

#include "gateway/base/addr.h"
#include "gateway/base/log.h"

#include <stddef.h>

struct hostnet;

/* Opens a route netlink socket, subscribes to address and link events, reads the present state. tun is left
 * out: its networks are not the machine's own. The addresses of tun itself do count as own. */
int hostnet_open(struct hostnet **out, const char *tun, struct log *log);
void hostnet_close(struct hostnet *h);
int hostnet_fd(const struct hostnet *h);

/* Reads the events that are waiting (a lost one leads to a fresh dump). Returns true if anything changed. */
bool hostnet_read(struct hostnet *h);

/* Is it an address of this machine? A directed broadcast address of a connected network? In a connected
 * network? Called for packets that begin a flow. */
bool hostnet_own(const struct hostnet *h, const struct addr *a);
bool hostnet_broadcast(const struct hostnet *h, const struct addr *a);
bool hostnet_connected(const struct hostnet *h, const struct addr *a);

/* Name of the interface of the default route (IPv4, else IPv6) into buf; returns 0 or -ENOENT. */
int hostnet_default_interface(char *buf, size_t len);

#endif
