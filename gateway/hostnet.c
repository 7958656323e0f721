/* SPDX-License-Identifier: GPL-2.0-or-later */
/* hostnet.c - what addresses and networks the machine itself has.
 *
 * Three sorted arrays: own addresses, directed broadcast addresses, and connected networks merged to disjoint
 * ranges, so that each question is one binary search. Any event about an address or a link leads to a fresh
 * dump that replaces them; so does a lost event (ENOBUFS). Events are not applied one by one: a second copy
 * of the kernel's rules for adding and removing addresses would be a second source of errors, and a dump
 * costs well under a millisecond.
 *
 * References: RFC 3549 (netlink), RFC 919 (broadcast addresses), RFC 3021 (a /31 has none).
 */
#include "gateway/hostnet.h"

#include "gateway/rtnl.h"

#include <errno.h>
#include <linux/if_addr.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>

#define EVENT_BUF 32768

struct range {
	struct addr first, last;
};

struct addr_list {
	struct addr *a;
	size_t n, room;
};

struct range_list {
	struct range *r;
	size_t n, room;
};

struct nets {
	struct addr_list own, broadcast;
	struct range_list connected;
};

struct hostnet {
	struct mnl_socket *events;
	struct rtnl *rtnl;
	struct log *log;
	char tun[IFNAMSIZ];
	struct nets nets;
};

/* ---- the arrays ------------------------------------------------------------------------------------- */

/* Room for one more of size octets. Returns 0 or -ENOMEM. */
static int grow(void **p, size_t n, size_t *room, size_t size)
{
	size_t want = *room ? *room * 2 : 16;
	void *q;

	if (n < *room)
		return 0;
	q = reallocarray(*p, want, size);
	if (!q)
		return -ENOMEM;
	*p = q;
	*room = want;
	return 0;
}

static int add_addr(struct addr_list *l, const struct addr *a)
{
	if (grow((void **)&l->a, l->n, &l->room, sizeof(*l->a)))
		return -ENOMEM;
	l->a[l->n++] = *a;
	return 0;
}

static int add_range(struct range_list *l, const struct range *r)
{
	if (grow((void **)&l->r, l->n, &l->room, sizeof(*l->r)))
		return -ENOMEM;
	l->r[l->n++] = *r;
	return 0;
}

static int cmp_addr(const void *a, const void *b)
{
	return memcmp(a, b, sizeof(struct addr));
}

static int cmp_range(const void *a, const void *b)
{
	return cmp_addr(&((const struct range *)a)->first, &((const struct range *)b)->first);
}

/* For bsearch in disjoint ranges: the key is an address. */
static int cmp_in_range(const void *key, const void *r)
{
	if (cmp_addr(key, &((const struct range *)r)->first) < 0)
		return -1;
	return cmp_addr(key, &((const struct range *)r)->last) > 0;
}

static void sort_addrs(struct addr_list *l)
{
	size_t n = 0;

	if (!l->n)
		return;
	qsort(l->a, l->n, sizeof(*l->a), cmp_addr);
	for (size_t i = 1; i < l->n; i++)
		if (!addr_eq(&l->a[n], &l->a[i]))
			l->a[++n] = l->a[i];
	l->n = n + 1;
}

/* Sorts, and merges ranges that overlap: networks lie within each other (a /24 and an address' /32). */
static void sort_ranges(struct range_list *l)
{
	size_t n = 0;

	if (!l->n)
		return;
	qsort(l->r, l->n, sizeof(*l->r), cmp_range);
	for (size_t i = 1; i < l->n; i++) {
		if (cmp_addr(&l->r[i].first, &l->r[n].last) > 0)
			l->r[++n] = l->r[i];
		else if (cmp_addr(&l->r[i].last, &l->r[n].last) > 0)
			l->r[n].last = l->r[i].last;
	}
	l->n = n + 1;
}

static bool has_addr(const struct addr_list *l, const struct addr *a)
{
	return l->n && bsearch(a, l->a, l->n, sizeof(*l->a), cmp_addr);
}

static void nets_clear(struct nets *n)
{
	free(n->own.a);
	free(n->broadcast.a);
	free(n->connected.r);
	*n = (struct nets){0};
}

static bool nets_eq(const struct nets *a, const struct nets *b)
{
	if (a->own.n != b->own.n || a->broadcast.n != b->broadcast.n || a->connected.n != b->connected.n)
		return false;
	for (size_t i = 0; i < a->own.n; i++)
		if (!addr_eq(&a->own.a[i], &b->own.a[i]))
			return false;
	for (size_t i = 0; i < a->broadcast.n; i++)
		if (!addr_eq(&a->broadcast.a[i], &b->broadcast.a[i]))
			return false;
	for (size_t i = 0; i < a->connected.n; i++)
		if (memcmp(&a->connected.r[i], &b->connected.r[i], sizeof(struct range)) != 0)
			return false;
	return true;
}

/* ---- reading ---------------------------------------------------------------------------------------- */

struct dump {
	struct nets nets;
	uint32_t tun; /* its index, 0 while there is none */
};

/* First and last address of the network of a with that many bits (of the 16-octet form). */
static struct range range_of(const struct addr *a, unsigned len)
{
	struct range r = {*a, *a};

	for (unsigned i = len; i < 128; i++) {
		uint8_t bit = (uint8_t)(0x80 >> (i % 8));

		r.first.b[i / 8] &= (uint8_t)~bit;
		r.last.b[i / 8] |= bit;
	}
	return r;
}

/* One address of the dump. IPv4: IFA_LOCAL is ours, IFA_ADDRESS the peer's on a point-to-point link and else
 * the same. IPv6: IFA_LOCAL is there only with a peer. */
static int on_addr(const struct nlmsghdr *nlh, void *arg)
{
	struct dump *d = arg;
	const struct ifaddrmsg *ifa = mnl_nlmsg_get_payload(nlh);
	const struct nlattr *at;
	struct addr local, net, bcast;
	bool has_local = false, has_net = false, has_bcast = false;
	unsigned len;
	struct range r;

	if (nlh->nlmsg_type != RTM_NEWADDR || mnl_nlmsg_get_payload_len(nlh) < sizeof(*ifa))
		return MNL_CB_OK;
	if (ifa->ifa_family != AF_INET && ifa->ifa_family != AF_INET6)
		return MNL_CB_OK;
	mnl_attr_for_each(at, nlh, sizeof(*ifa))
	{
		switch (mnl_attr_get_type(at)) {
		case IFA_LOCAL:
			has_local = rtnl_get_addr(at, ifa->ifa_family, &local);
			break;
		case IFA_ADDRESS:
			has_net = rtnl_get_addr(at, ifa->ifa_family, &net);
			break;
		case IFA_BROADCAST:
			has_bcast = rtnl_get_addr(at, ifa->ifa_family, &bcast);
			break;
		default:
			break;
		}
	}
	if (!has_net || ifa->ifa_prefixlen > (ifa->ifa_family == AF_INET ? 32 : 128))
		return MNL_CB_OK;
	if (add_addr(&d->nets.own, has_local ? &local : &net))
		return MNL_CB_ERROR;
	if (ifa->ifa_index == d->tun)
		return MNL_CB_OK;

	len = ifa->ifa_prefixlen + (ifa->ifa_family == AF_INET ? 96u : 0u);
	r = range_of(&net, len);
	if (add_range(&d->nets.connected, &r))
		return MNL_CB_ERROR;
	/* The kernel takes the network's last address for broadcast whatever IFA_BROADCAST says, and IPv6 has
	 * none. */
	if (has_bcast && add_addr(&d->nets.broadcast, &bcast))
		return MNL_CB_ERROR;
	if (ifa->ifa_family == AF_INET && len <= 126 && add_addr(&d->nets.broadcast, &r.last))
		return MNL_CB_ERROR;
	return MNL_CB_OK;
}

static void on_restart(void *arg)
{
	nets_clear(&((struct dump *)arg)->nets);
}

/* Reads the present state. Returns 1 when it differs from what was known, 0 when not, or -errno. */
static int refresh(struct hostnet *h)
{
	struct dump d = {.tun = if_nametoindex(h->tun)};
	char buf[RTNL_BUF];
	struct nlmsghdr *nlh = rtnl_msg(buf, RTM_GETADDR, 0, sizeof(struct ifaddrmsg));
	int rc = rtnl_dump(h->rtnl, nlh, on_addr, on_restart, &d);

	if (rc) {
		nets_clear(&d.nets);
		return rc;
	}
	sort_addrs(&d.nets.own);
	sort_addrs(&d.nets.broadcast);
	sort_ranges(&d.nets.connected);
	if (nets_eq(&d.nets, &h->nets)) {
		nets_clear(&d.nets);
		return 0;
	}
	nets_clear(&h->nets);
	h->nets = d.nets;
	return 1;
}

int hostnet_open(struct hostnet **out, const char *tun, struct log *log)
{
	static const int groups[] = {RTNLGRP_LINK, RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV6_IFADDR};
	struct hostnet *h = calloc(1, sizeof(*h));
	int rc;

	if (!h)
		return -ENOMEM;
	h->log = log;
	snprintf(h->tun, sizeof(h->tun), "%s", tun);
	rc = rtnl_open(&h->rtnl);
	if (rc)
		goto fail;
	/* The events' socket first, then the dump: what changes in between is seen as an event. */
	h->events = mnl_socket_open2(NETLINK_ROUTE, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (!h->events || mnl_socket_bind(h->events, 0, MNL_SOCKET_AUTOPID) < 0)
		goto fail_errno;
	for (size_t i = 0; i < sizeof(groups) / sizeof(groups[0]); i++)
		if (mnl_socket_setsockopt(
			    h->events, NETLINK_ADD_MEMBERSHIP, (void *)&groups[i], sizeof(int)) < 0)
			goto fail_errno;
	rc = refresh(h);
	if (rc < 0)
		goto fail;
	*out = h;
	return 0;

fail_errno:
	rc = -errno;
fail:
	hostnet_close(h);
	return rc;
}

void hostnet_close(struct hostnet *h)
{
	if (!h)
		return;
	nets_clear(&h->nets);
	if (h->events)
		mnl_socket_close(h->events);
	rtnl_close(h->rtnl);
	free(h);
}

int hostnet_fd(const struct hostnet *h)
{
	return mnl_socket_get_fd(h->events);
}

bool hostnet_read(struct hostnet *h)
{
	char buf[EVENT_BUF];
	bool any = false;
	ssize_t n;
	int rc;

	/* ENOBUFS says that events were lost: as good a reason for a fresh look as an event. */
	while ((n = mnl_socket_recvfrom(h->events, buf, sizeof(buf))) > 0 || (n < 0 && errno == ENOBUFS))
		any = true;
	if (!any)
		return false;
	rc = refresh(h);
	if (rc == -EINTR) /* changes disturb each try: the last one's event is still to be read */
		return false;
	if (rc < 0)
		log_warning(h->log, "hostnet", NULL,
			"cannot read the machine's addresses: %s; the last known are kept", strerror(-rc));
	return rc == 1;
}

/* ---- asking ----------------------------------------------------------------------------------------- */

bool hostnet_own(const struct hostnet *h, const struct addr *a)
{
	return has_addr(&h->nets.own, a);
}

bool hostnet_broadcast(const struct hostnet *h, const struct addr *a)
{
	return has_addr(&h->nets.broadcast, a);
}

bool hostnet_connected(const struct hostnet *h, const struct addr *a)
{
	const struct range_list *l = &h->nets.connected;

	return l->n && bsearch(a, l->r, l->n, sizeof(*l->r), cmp_in_range);
}

struct best_route {
	uint32_t oif, metric;
};

static int on_route(const struct nlmsghdr *nlh, void *arg)
{
	struct best_route *best = arg;
	const struct rtmsg *rtm = mnl_nlmsg_get_payload(nlh);
	const struct nlattr *at;
	uint32_t oif = 0, metric = 0;

	if (nlh->nlmsg_type != RTM_NEWROUTE || mnl_nlmsg_get_payload_len(nlh) < sizeof(*rtm))
		return MNL_CB_OK;
	if (rtm->rtm_dst_len || rtm->rtm_table != RT_TABLE_MAIN || rtm->rtm_type != RTN_UNICAST ||
		rtm->rtm_protocol == RTNL_PROTO_ARRD)
		return MNL_CB_OK;
	mnl_attr_for_each(at, nlh, sizeof(*rtm))
	{
		if (mnl_attr_get_type(at) == RTA_OIF && mnl_attr_get_payload_len(at) == sizeof(uint32_t))
			oif = mnl_attr_get_u32(at);
		if (mnl_attr_get_type(at) == RTA_PRIORITY && mnl_attr_get_payload_len(at) == sizeof(uint32_t))
			metric = mnl_attr_get_u32(at);
		/* Several next hops: the first stands for all. */
		if (mnl_attr_get_type(at) == RTA_MULTIPATH && !oif &&
			mnl_attr_get_payload_len(at) >= sizeof(struct rtnexthop))
			oif = (uint32_t)((const struct rtnexthop *)mnl_attr_get_payload(at))->rtnh_ifindex;
	}
	if (oif && (!best->oif || metric < best->metric))
		*best = (struct best_route){oif, metric};
	return MNL_CB_OK;
}

static void on_route_restart(void *arg)
{
	*(struct best_route *)arg = (struct best_route){0};
}

int hostnet_default_interface(char *buf, size_t len)
{
	static const uint8_t families[] = {AF_INET, AF_INET6};
	char name[IFNAMSIZ], msg[RTNL_BUF];
	struct rtnl *r;
	int rc = rtnl_open(&r);

	if (rc)
		return rc;
	rc = -ENOENT;
	for (size_t i = 0; i < 2 && rc; i++) {
		struct best_route best = {0};
		struct nlmsghdr *nlh = rtnl_msg(msg, RTM_GETROUTE, 0, sizeof(struct rtmsg));

		((struct rtmsg *)mnl_nlmsg_get_payload(nlh))->rtm_family = families[i];
		if (rtnl_dump(r, nlh, on_route, on_route_restart, &best) || !best.oif)
			continue;
		if (if_indextoname(best.oif, name)) {
			snprintf(buf, len, "%s", name);
			rc = 0;
		}
	}
	rtnl_close(r);
	return rc;
}
