/* SPDX-License-Identifier: GPL-2.0-or-later */
/* address.h - which addresses a branch may send from, and which it may never reach. */
#ifndef ARRD_ADDRESS_H
#define ARRD_ADDRESS_H

#include "gateway/gateway.h"

/* A source that no host may have (RFC 6890, RFC 1122 3.2.1.3). DROP_NONE or DROP_SOURCE_INVALID. */
enum drop source_check(const struct addr *src);

/* A destination that is reached neither through the egress nor through a tunnel: loopback, link-local,
 * multicast, broadcast, reserved, the cloud's metadata service. DROP_NONE or DROP_DST_*. */
enum drop destination_check(const struct gateway *gw, const struct addr *dst);

/* An address of the egress's own NAT. */
static inline bool address_of_nat(const struct conf_egress *e, const struct addr *a)
{
	return e->nat == NAT_POOL && addr_range_has(&e->nat_pool[!addr_is4(a)], a);
}

/* For a packet that is to begin a flow to the egress: private space and the machine's own networks need
 * private_destinations, the machine itself needs local_services. */
enum drop egress_check(const struct gateway *gw, const struct tuple *t);

#endif
