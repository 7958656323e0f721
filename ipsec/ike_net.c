/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ike_net.c - libcharon's "kernel" for addresses and routes.
 *
 * Which address to send from is configured, and the kernel's routes are not touched. What remains is which other addresses
 * a peer may move to (MOBIKE, RFC 4555 3.4): those that some connection has as its local one, and that are there. What else
 * the machine has is nobody's business, and nothing around the gateway (packet filters, its own rules) expects tunnels there.
 */
#include "ipsec/ike_private.h"

#include <ifaddrs.h>
#include <net/if.h>
#include <stdlib.h>

/* NULL, or the list of the machine's addresses, to be freed by freeifaddrs. */
static struct ifaddrs *addresses(void)
{
	struct ifaddrs *list;

	return getifaddrs(&list) ? NULL : list;
}

static bool is_usable(const struct ifaddrs *i)
{
	if (!i->ifa_addr || !(i->ifa_flags & IFF_UP))
		return false;
	if (i->ifa_addr->sa_family == AF_INET6) {
		const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)(const void *)i->ifa_addr;

		return !IN6_IS_ADDR_LINKLOCAL(&in6->sin6_addr);
	}
	return i->ifa_addr->sa_family == AF_INET;
}

static host_t *host_of(const struct ifaddrs *i)
{
	return host_create_from_sockaddr(i->ifa_addr);
}

/* ---- where peers may move to ---------------------------------------------------------------------------- */

static bool is_local_of_connection(struct ike *ike, host_t *h)
{
	struct addr a = ike_addr_from_chunk(h->get_address(h));
	bool found;

	pthread_mutex_lock(&ike->lock);
	found = ike_cfg_is_local(ike, &a);
	pthread_mutex_unlock(&ike->lock);
	return found;
}

static void hosts_free(void *list)
{
	linked_list_t *l = list;
	l->destroy_offset(l, offsetof(host_t, destroy));
}

static enumerator_t *create_address_enumerator(kernel_net_t *public, kernel_address_type_t which)
{
	struct ike *ike = ike_self();
	linked_list_t *list = linked_list_create();
	struct ifaddrs *all = addresses();

	for (const struct ifaddrs *i = all; i; i = i->ifa_next) {
		host_t *h = is_usable(i) ? host_of(i) : NULL;

		if (h && is_local_of_connection(ike, h))
			list->insert_last(list, h);
		else if (h)
			h->destroy(h);
	}
	if (all)
		freeifaddrs(all);
	return enumerator_create_cleaner(list->create_enumerator(list), hosts_free, list);
}

/* ---- what is simple ------------------------------------------------------------------------------------- */

static kernel_feature_t get_features(kernel_net_t *public)
{
	return 0;
}

static bool get_interface(kernel_net_t *public, host_t *host, char **name)
{
	struct ifaddrs *all = addresses();
	bool found = false;

	for (const struct ifaddrs *i = all; i && !found; i = i->ifa_next) {
		host_t *h = is_usable(i) ? host_of(i) : NULL;

		found = h && h->ip_equals(h, host);
		if (h)
			h->destroy(h);
		if (found && name)
			*name = strdup(i->ifa_name);
	}
	if (all)
		freeifaddrs(all);
	return found;
}

/* The configured one, or none: the kernel is not asked. */
static host_t *get_source_addr(kernel_net_t *public, host_t *dest, host_t *src)
{
	return src && !src->is_anyaddr(src) ? src->clone(src) : NULL;
}

static host_t *get_nexthop(kernel_net_t *public, host_t *dest, int prefix, host_t *src, char **iface)
{
	if (iface)
		*iface = NULL;
	return NULL;
}

static enumerator_t *create_local_subnet_enumerator(kernel_net_t *public)
{
	return enumerator_create_empty();
}

static status_t add_ip(kernel_net_t *public, host_t *ip, int prefix, char *iface)
{
	return NOT_SUPPORTED;
}

static status_t del_ip(kernel_net_t *public, host_t *ip, int prefix, bool wait)
{
	return NOT_SUPPORTED;
}

static status_t route(
	kernel_net_t *public, chunk_t net, uint8_t len, host_t *gateway, host_t *src, char *iface, bool pass)
{
	return NOT_SUPPORTED;
}

static void destroy(kernel_net_t *public)
{
	free(public);
}

kernel_net_t *ike_net_create(void)
{
	kernel_net_t *n = calloc(1, sizeof(*n));

	if (!n)
		return NULL;
	*n = (kernel_net_t){
		.get_features = get_features,
		.get_source_addr = get_source_addr,
		.get_nexthop = get_nexthop,
		.get_interface = get_interface,
		.create_address_enumerator = create_address_enumerator,
		.create_local_subnet_enumerator = create_local_subnet_enumerator,
		.add_ip = add_ip,
		.del_ip = del_ip,
		.add_route = route,
		.del_route = route,
		.destroy = destroy,
	};
	return n;
}
