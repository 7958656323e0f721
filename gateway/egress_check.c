/* SPDX-License-Identifier: GPL-2.0-or-later */
/* egress_check.c - what of the machine's own addresses and settings does not go with the configuration. */
#include "gateway/egress_private.h"

#include <errno.h>
#include <ifaddrs.h>
#include <stdio.h>
#include <string.h>

static bool addr_of(const struct sockaddr *sa, struct addr *a)
{
	if (sa && sa->sa_family == AF_INET)
		*a = addr_from4(((const struct sockaddr_in *)(const void *)sa)->sin_addr.s_addr);
	else if (sa && sa->sa_family == AF_INET6)
		*a = addr_from6(&((const struct sockaddr_in6 *)(const void *)sa)->sin6_addr);
	else
		return false;
	return true;
}

/* Is it the local end of a tunnel, in IPv4? */
static bool is_underlay(const struct config *c, const struct addr *a)
{
	for (size_t i = 0; i < c->ntunnels; i++)
		if (addr_is4(a) && addr_eq(&c->tunnels[i].local, a))
			return true;
	return false;
}

void check_underlay(const struct config *c, struct log *log)
{
	struct ifaddrs *list;
	char text[ADDR_STRLEN];
	struct addr a;

	if (getifaddrs(&list))
		return;
	for (const struct ifaddrs *i = list; i; i = i->ifa_next) {
		if (!addr_of(i->ifa_addr, &a) || !is_underlay(c, &a) || sysctl_rp_filter(i->ifa_name) != 1)
			continue;
		log_notice(log, "egress", NULL,
			"%s (%s): rp_filter is strict; a branch whose way back leaves by another interface "
			"is not heard",
			i->ifa_name, addr_str(&a, text));
	}
	freeifaddrs(list);
}

/* How many leading bits are set in a netmask, of the 16-octet form. */
static unsigned mask_len(const struct addr *mask)
{
	unsigned n = addr_is4(mask) ? 96 : 0;

	while (n < 128 && mask->b[n / 8] & (0x80 >> n % 8))
		n++;
	return n;
}

/* What is addressed to the machine itself never comes to the TUN; and on a network that it is connected to nobody answers
 * for the pool's addresses: they have to be routed here. */
int check_pool(const struct config *c, struct log *log, char *err, size_t errlen)
{
	struct ifaddrs *list;
	char text[ADDR_STRLEN];
	int rc = 0;

	if (c->egress.nat != NAT_POOL || getifaddrs(&list))
		return 0;
	for (const struct ifaddrs *i = list; i && !rc; i = i->ifa_next) {
		const struct addr_range *pool;
		struct addr a, mask;

		if (!addr_of(i->ifa_addr, &a) || strcmp(i->ifa_name, c->gateway.tun) == 0)
			continue;
		pool = &c->egress.nat_pool[!addr_is4(&a)];
		if (addr_range_has(pool, &a)) {
			snprintf(err, errlen,
				"[egress] nat: %s is the machine's own address, on %s; leave it out",
				addr_str(&a, text), i->ifa_name);
			rc = -EINVAL;
		} else if (addr_range_count(pool) && addr_of(i->ifa_netmask, &mask)) {
			struct prefix net = {.a = a, .len = (uint8_t)mask_len(&mask)};

			if (prefix_has(&net, &pool->first) || prefix_has(&net, &pool->last))
				log_warning(log, "egress", NULL,
					"[egress] nat: its addresses are in the network of %s, where nobody "
					"answers "
					"for them; route them here, or: ip neigh add proxy %s dev %s, for "
					"each",
					i->ifa_name, addr_str(&pool->first, text), i->ifa_name);
		}
	}
	freeifaddrs(list);
	return rc;
}
