/* SPDX-License-Identifier: GPL-2.0-or-later */
/* rtnl.h - requests to the kernel's route netlink: one at a time, answered before the call returns. */
#ifndef ARRD_RTNL_H
#define ARRD_RTNL_H

#include "gateway/base/addr.h"

#include <libmnl/libmnl.h>

/* Everything that arrd adds (policy rules, routes) carries this protocol number, so that it is told from what
 * others added, also by a later run, and by `ip route show proto 164`. */
#define RTNL_PROTO_ARRD 164

#define RTNL_BUF 8192 /* room for one request, and the least that libmnl wants for an answer */

struct rtnl;

/* Opens a socket that hears no events. Returns 0 or -errno. */
int rtnl_open(struct rtnl **out);
void rtnl_close(struct rtnl *r);

/* Begins a request in buf (RTNL_BUF octets): flags without NLM_F_REQUEST; the family header of size octets
 * is zero, and mnl_nlmsg_get_payload() of the result is it. */
struct nlmsghdr *rtnl_msg(void *buf, uint16_t type, uint16_t flags, size_t size);

/* Adds an address attribute, 4 or 16 octets long by its family. */
void rtnl_put_addr(struct nlmsghdr *nlh, uint16_t type, const struct addr *a);

/* Reads an address attribute of that family. Returns false when its length does not fit. */
bool rtnl_get_addr(const struct nlattr *at, uint8_t family, struct addr *out);

/* Sends a request and waits for its acknowledgement: 0, or -errno as the kernel says. */
int rtnl_talk(struct rtnl *r, struct nlmsghdr *nlh);

/* Sends a dump request and calls cb (MNL_CB_OK or MNL_CB_ERROR) for each message; once more from the start
 * when the kernel says that the dump was disturbed, after restart() (may be NULL) told the caller to
 * forget what it has. Returns 0 or -errno. */
int rtnl_dump(struct rtnl *r, struct nlmsghdr *nlh, mnl_cb_t cb, void (*restart)(void *arg), void *arg);

#endif
