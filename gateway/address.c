/* SPDX-License-Identifier: GPL-2.0-or-later */
/* address.c - which addresses a branch may send from, and which it may never reach.
 *
 * RFC 6890 (special-purpose addresses), RFC 1918, RFC 4193, RFC 6598, RFC 3927, RFC 4291.
 */
#include "gateway/address.h"

#include "gateway/hostnet.h"

#include <stddef.h>

/* A prefix of the 16-octet form; IPv4 ones start behind the mapped prefix. */
#define P4(w, x, y, z, len)                                                                                  \
	{                                                                                                    \
		{.b = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, w, x, y, z}}, 96 + (len)                    \
	}
#define P6(w, x, len)                                                                                        \
	{                                                                                                    \
		{.b = {w, x}}, len                                                                           \
	}

static const struct prefix bad_source[] = {P4(0, 0, 0, 0, 8), P4(127, 0, 0, 0, 8), P4(169, 254, 0, 0, 16),
	P4(224, 0, 0, 0, 3), /* multicast and above */
	{{.b = {0}}, 127},   /* :: and ::1 */
	P6(0xfe, 0x80, 10), P6(0xff, 0, 8)};

static const struct {
	struct prefix p;
	enum drop d;
} bad_destination[] = {
	/* first match counts: the metadata services lie in link-local, shared and public space */
	{P4(169, 254, 169, 254, 32), DROP_DST_METADATA},
	{P4(100, 100, 100, 200, 32), DROP_DST_METADATA},
	{P4(168, 63, 129, 16, 32), DROP_DST_METADATA},
	{{{.b = {0xfd, 0, 0x0e, 0xc2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0x54}}, 128}, DROP_DST_METADATA},
	{P4(127, 0, 0, 0, 8), DROP_DST_LOOPBACK},
	{{{.b = {[15] = 1}}, 128}, DROP_DST_LOOPBACK},
	{P4(169, 254, 0, 0, 16), DROP_DST_LINK_LOCAL},
	{P6(0xfe, 0x80, 10), DROP_DST_LINK_LOCAL},
	{P4(224, 0, 0, 0, 4), DROP_DST_MULTICAST},
	{P6(0xff, 0, 8), DROP_DST_MULTICAST},
	{P4(255, 255, 255, 255, 32), DROP_DST_BROADCAST},
	{P4(240, 0, 0, 0, 4), DROP_DST_INVALID},
	{P4(0, 0, 0, 0, 8), DROP_DST_INVALID},
	{{{.b = {0}}, 128}, DROP_DST_INVALID},
};

static const struct prefix private_space[] = {P4(10, 0, 0, 0, 8), P4(172, 16, 0, 0, 12),
	P4(192, 168, 0, 0, 16), P4(100, 64, 0, 0, 10), P6(0xfc, 0, 7), P6(0xfe, 0xc0, 10)};

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static bool list_has(const struct prefix *p, size_t n, const struct addr *a)
{
	for (size_t i = 0; i < n; i++)
		if (prefix_has(&p[i], a))
			return true;
	return false;
}

enum drop source_check(const struct addr *src)
{
	return list_has(bad_source, COUNT(bad_source), src) ? DROP_SOURCE_INVALID : DROP_NONE;
}

enum drop destination_check(const struct gateway *gw, const struct addr *dst)
{
	for (size_t i = 0; i < COUNT(bad_destination); i++)
		if (prefix_has(&bad_destination[i].p, dst))
			return bad_destination[i].d;
	return hostnet_broadcast(gw->hostnet, dst) ? DROP_DST_BROADCAST : DROP_NONE;
}

static bool is_service(const struct conf_egress *e, const struct tuple *t)
{
	for (size_t i = 0; i < e->nlocal_services; i++) {
		const struct conf_service *s = &e->local_services[i];

		if (s->proto == 0)
			return true;
		/* "icmp" stands for that of either family */
		if (s->proto == IPPROTO_ICMP && (t->proto == IPPROTO_ICMP || t->proto == IPPROTO_ICMPV6))
			return true;
		if (s->proto == t->proto && (s->port == 0 || s->port == ntohs(t->dport)))
			return true;
	}
	return false;
}

/* The machine's NAT may give a branch's packet the very address that tunnels have as local. GRE says nothing else of where it
 * comes from: the branch at the other end would take what is inside for ours, and one site would reach another. Also the
 * remote of a tunnel that says over: nobody knows what its device takes in the clear. All tunnels are gone over, but only
 * for GRE that begins a flow. */
static bool is_gre_peer(const struct config *c, const struct addr *a)
{
	for (size_t i = 0; i < c->ntunnels; i++)
		if (c->tunnels[i].type == TUNNEL_GRE && addr_eq(&c->tunnels[i].remote, a))
			return true;
	return false;
}

enum drop egress_check(const struct gateway *gw, const struct tuple *t)
{
	const struct conf_egress *e = &gw->conf->egress;

	/* Whatever the services are: a packet of a tunnel inside a tunnel, to ourselves, could carry another branch's
	 * outer address. */
	if (t->proto == IPPROTO_GRE && hostnet_own(gw->hostnet, &t->dst))
		return DROP_DST_GATEWAY;
	if (t->proto == IPPROTO_GRE && is_gre_peer(gw->conf, &t->dst))
		return DROP_DST_TUNNEL;
	if (hostnet_own(gw->hostnet, &t->dst))
		return is_service(e, t) ? DROP_NONE : DROP_DST_GATEWAY;
	if (!list_has(private_space, COUNT(private_space), &t->dst) &&
		!hostnet_connected(gw->hostnet, &t->dst))
		return DROP_NONE;
	return list_has(e->private_destinations.p, e->private_destinations.n, &t->dst) ? DROP_NONE
										       : DROP_DST_PRIVATE;
}
