/* SPDX-License-Identifier: GPL-2.0-or-later */
/* egress_netlink.c - policy rules, the routing table of replies, installed routes, addresses of the TUN.
 *
 * Everything is done by comparing with what the kernel has, so that each call may be repeated, after a crash
 * too. What is ours is known by RTNL_PROTO_ARRD.
 */
#include "gateway/conntrack.h"
#include "gateway/egress_private.h"
#include "gateway/rtnl.h"

#include <errno.h>
#include <linux/fib_rules.h>
#include <linux/if_addr.h>
#include <linux/rtnetlink.h>
#include <stdio.h>
#include <stdlib.h>

#define METRIC_LAST UINT32_MAX /* of the blackhole: behind the device's route, whatever its metric */

static const uint8_t families[] = {AF_INET, AF_INET6};

static const char *family_name(uint8_t family)
{
	return family == AF_INET ? "IPv4" : "IPv6";
}

static size_t nfamilies(bool have6)
{
	return have6 ? 2 : 1;
}

/* ---- collecting what the kernel has of ours ----------------------------------------------------------- */

struct rule {
	uint8_t family;
	uint32_t priority, mark, mask, table;
	struct prefix dst; /* len 0: any */
};

struct route {
	uint8_t family, type, scope;
	uint32_t table, metric, oif;
	struct prefix dst;
};

struct found {
	struct rule *rules;
	struct route *routes;
	size_t nrules, nroutes;
};

static void found_clear(void *arg)
{
	struct found *f = arg;

	free(f->rules);
	free(f->routes);
	*f = (struct found){0};
}

static uint32_t u32_of(const struct nlattr *at)
{
	return mnl_attr_get_payload_len(at) == sizeof(uint32_t) ? mnl_attr_get_u32(at) : 0;
}

static int on_rule(const struct nlmsghdr *nlh, void *arg)
{
	struct found *f = arg;
	const struct fib_rule_hdr *h = mnl_nlmsg_get_payload(nlh);
	const struct nlattr *at;
	struct rule r = {0}, *more;
	uint8_t proto = 0;

	if (nlh->nlmsg_type != RTM_NEWRULE || mnl_nlmsg_get_payload_len(nlh) < sizeof(*h))
		return MNL_CB_OK;
	r.family = h->family;
	r.table = h->table;
	mnl_attr_for_each(at, nlh, sizeof(*h))
	{
		switch (mnl_attr_get_type(at)) {
		case FRA_PROTOCOL:
			proto = mnl_attr_get_payload_len(at) == 1 ? mnl_attr_get_u8(at) : 0;
			break;
		case FRA_PRIORITY:
			r.priority = u32_of(at);
			break;
		case FRA_FWMARK:
			r.mark = u32_of(at);
			break;
		case FRA_FWMASK:
			r.mask = u32_of(at);
			break;
		case FRA_TABLE:
			r.table = u32_of(at);
			break;
		case FRA_DST:
			if (rtnl_get_addr(at, h->family, &r.dst.a))
				r.dst.len = (uint8_t)(h->dst_len + (h->family == AF_INET ? 96 : 0));
			break;
		default:
			break;
		}
	}
	if (proto != RTNL_PROTO_ARRD)
		return MNL_CB_OK;
	more = reallocarray(f->rules, f->nrules + 1, sizeof(*more));
	if (!more)
		return MNL_CB_ERROR;
	f->rules = more;
	f->rules[f->nrules++] = r;
	return MNL_CB_OK;
}

static int on_route(const struct nlmsghdr *nlh, void *arg)
{
	struct found *f = arg;
	const struct rtmsg *rtm = mnl_nlmsg_get_payload(nlh);
	const struct nlattr *at;
	struct route r = {0}, *more;

	if (nlh->nlmsg_type != RTM_NEWROUTE || mnl_nlmsg_get_payload_len(nlh) < sizeof(*rtm) ||
		rtm->rtm_protocol != RTNL_PROTO_ARRD || (rtm->rtm_flags & RTM_F_CLONED))
		return MNL_CB_OK;
	r.family = rtm->rtm_family;
	r.type = rtm->rtm_type;
	r.scope = rtm->rtm_scope;
	r.table = rtm->rtm_table;
	r.dst.len = (uint8_t)(rtm->rtm_dst_len + (rtm->rtm_family == AF_INET ? 96 : 0));
	if (rtm->rtm_family == AF_INET)
		r.dst.a = addr_from4(0);
	mnl_attr_for_each(at, nlh, sizeof(*rtm))
	{
		switch (mnl_attr_get_type(at)) {
		case RTA_DST:
			(void)rtnl_get_addr(at, rtm->rtm_family, &r.dst.a);
			break;
		case RTA_TABLE:
			r.table = u32_of(at);
			break;
		case RTA_PRIORITY:
			r.metric = u32_of(at);
			break;
		case RTA_OIF:
			r.oif = u32_of(at);
			break;
		default:
			break;
		}
	}
	more = reallocarray(f->routes, f->nroutes + 1, sizeof(*more));
	if (!more)
		return MNL_CB_ERROR;
	f->routes = more;
	f->routes[f->nroutes++] = r;
	return MNL_CB_OK;
}

static int find_rules(struct rtnl *nl, uint8_t family, struct found *f)
{
	char buf[RTNL_BUF];
	struct nlmsghdr *nlh = rtnl_msg(buf, RTM_GETRULE, 0, sizeof(struct fib_rule_hdr));

	((struct fib_rule_hdr *)mnl_nlmsg_get_payload(nlh))->family = family;
	return rtnl_dump(nl, nlh, on_rule, found_clear, f);
}

static int find_routes(struct rtnl *nl, uint8_t family, struct found *f)
{
	char buf[RTNL_BUF];
	struct nlmsghdr *nlh = rtnl_msg(buf, RTM_GETROUTE, 0, sizeof(struct rtmsg));

	((struct rtmsg *)mnl_nlmsg_get_payload(nlh))->rtm_family = family;
	return rtnl_dump(nl, nlh, on_route, found_clear, f);
}

/* ---- changing ----------------------------------------------------------------------------------------- */

static int change_rule(struct rtnl *nl, uint16_t type, uint16_t flags, const struct rule *r)
{
	char buf[RTNL_BUF];
	struct nlmsghdr *nlh = rtnl_msg(buf, type, flags, sizeof(struct fib_rule_hdr));
	struct fib_rule_hdr *h = mnl_nlmsg_get_payload(nlh);

	h->family = r->family;
	h->action = FR_ACT_TO_TBL;
	mnl_attr_put_u8(nlh, FRA_PROTOCOL, RTNL_PROTO_ARRD);
	mnl_attr_put_u32(nlh, FRA_PRIORITY, r->priority);
	if (r->mark) {
		mnl_attr_put_u32(nlh, FRA_FWMARK, r->mark);
		mnl_attr_put_u32(nlh, FRA_FWMASK, r->mask);
	}
	if (r->dst.len) {
		h->dst_len = (uint8_t)(r->dst.len - (r->family == AF_INET ? 96 : 0));
		rtnl_put_addr(nlh, FRA_DST, &r->dst.a);
	}
	mnl_attr_put_u32(nlh, FRA_TABLE, r->table);
	return rtnl_talk(nl, nlh);
}

static int change_route(struct rtnl *nl, uint16_t type, uint16_t flags, const struct route *r)
{
	char buf[RTNL_BUF];
	struct nlmsghdr *nlh = rtnl_msg(buf, type, flags, sizeof(struct rtmsg));
	struct rtmsg *rtm = mnl_nlmsg_get_payload(nlh);

	rtm->rtm_family = r->family;
	rtm->rtm_dst_len = (uint8_t)(r->dst.len - (r->family == AF_INET ? 96 : 0));
	rtm->rtm_protocol = RTNL_PROTO_ARRD;
	rtm->rtm_scope = r->scope;
	rtm->rtm_type = r->type;
	mnl_attr_put_u32(nlh, RTA_TABLE, r->table);
	mnl_attr_put_u32(nlh, RTA_PRIORITY, r->metric);
	if (rtm->rtm_dst_len)
		rtnl_put_addr(nlh, RTA_DST, &r->dst.a);
	if (r->oif)
		mnl_attr_put_u32(nlh, RTA_OIF, r->oif);
	return rtnl_talk(nl, nlh);
}

/* Returns 1 if it was missing, 0 if it was there, or -errno. */
static int add_route(struct rtnl *nl, const struct route *r)
{
	int rc = change_route(nl, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, r);

	return rc == -EEXIST ? 0 : rc ? rc : 1;
}

static struct prefix everything(uint8_t family)
{
	struct prefix p = {0};

	if (family == AF_INET)
		p = (struct prefix){.a = addr_from4(0), .len = 96};
	return p;
}

static bool rule_eq(const struct rule *a, const struct rule *b)
{
	return a->family == b->family && a->priority == b->priority && a->mark == b->mark &&
	       a->mask == b->mask && a->table == b->table && prefix_eq(&a->dst, &b->dst);
}

/* Without its rule a mark means nothing, and answers that still get it would fall to the machine's own networks: the
 * connections that carry it go first, unless it is the mark in use. */
static int remove_rule(struct rtnl *nl, const struct rule *r, uint32_t in_use)
{
	int n = r->mark && r->mark != in_use ? conntrack_forget_marked(r->mark) : 0;

	return n < 0 ? n : change_rule(nl, RTM_DELRULE, 0, r);
}

static bool is_among(const struct rule *r, const struct rule *list, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (rule_eq(r, &list[i]))
			return true;
	return false;
}

/* A range of 64 bits is at most this many prefixes; one more for the mark. */
#define RULES_MAX 127u

/* What is to lead to T: what carries the mark, and what is addressed to the NAT that is ours. Returns their number. */
static size_t rules_wanted(const struct conf_egress *c, uint8_t family, struct rule want[static RULES_MAX])
{
	const struct rule marked = {.family = family,
		.priority = c->rule_priority,
		.mark = c->mark,
		.mask = c->mark,
		.table = c->table};
	struct addr_range pool = c->nat_pool[family == AF_INET6];
	bool more = c->nat == NAT_POOL && addr_range_count(&pool) > 0;
	size_t n = 0;

	want[n++] = marked;
	while (more && n < RULES_MAX) {
		want[n] = (struct rule){.family = family, .priority = c->rule_priority, .table = c->table};
		more = addr_range_next_prefix(&pool, &want[n++].dst);
	}
	return n;
}

/* The blackhole stands before the rules do, so that such a packet never goes on to the next rule, which
 * would find the machine's own network of the same addresses. */
static int policy_up_family(struct rtnl *nl, const struct conf_egress *c, uint8_t family)
{
	struct route hole = {.family = family,
		.type = RTN_BLACKHOLE,
		.scope = RT_SCOPE_UNIVERSE,
		.table = c->table,
		.metric = METRIC_LAST,
		.dst = everything(family)};
	struct rule want[RULES_MAX];
	size_t n = rules_wanted(c, family, want);
	struct found f = {0};
	bool new = false;
	int missing = add_route(nl, &hole);
	int rc = missing < 0 ? missing : find_rules(nl, family, &f);

	for (size_t i = 0; i < n && !rc; i++)
		if (!is_among(&want[i], f.rules, f.nrules)) {
			rc = change_rule(nl, RTM_NEWRULE, NLM_F_CREATE | NLM_F_EXCL, &want[i]);
			new = true;
		}
	for (size_t i = 0; i < f.nrules && !rc; i++)
		if (!is_among(&f.rules[i], want, n))
			rc = remove_rule(nl, &f.rules[i], c->mark);
	found_clear(&f);
	return rc ? rc : missing || new;
}

int policy_up(const struct conf_egress *c, bool have6, char *err, size_t errlen)
{
	struct rtnl *nl;
	int missing = 0, rc = rtnl_open(&nl);

	if (rc) {
		snprintf(err, errlen, "route netlink: %s", strerror(-rc));
		return rc;
	}
	for (size_t i = 0; i < nfamilies(have6) && rc >= 0; i++) {
		rc = policy_up_family(nl, c, families[i]);
		missing |= rc > 0;
		if (rc < 0)
			snprintf(err, errlen, "%s rule for mark 0x%x and blackhole in table %u: %s",
				family_name(families[i]), c->mark, c->table, strerror(-rc));
	}
	rtnl_close(nl);
	return rc < 0 ? rc : missing;
}

int policy_attach(const struct conf_egress *c, const char *tun, bool have6, char *err, size_t errlen)
{
	struct rtnl *nl;
	struct route r = {.type = RTN_UNICAST, .table = c->table, .oif = if_nametoindex(tun)};
	int missing = 0, rc = r.oif ? rtnl_open(&nl) : -ENODEV;

	if (rc) {
		snprintf(err, errlen, "%s: %s", tun, strerror(-rc));
		return rc;
	}
	for (size_t i = 0; i < nfamilies(have6) && rc >= 0; i++) {
		r.family = families[i];
		r.dst = everything(r.family);
		r.scope = r.family == AF_INET ? RT_SCOPE_LINK : RT_SCOPE_UNIVERSE;
		rc = add_route(nl, &r);
		missing |= rc > 0;
		if (rc < 0)
			snprintf(err, errlen, "%s default route dev %s in table %u: %s",
				family_name(r.family), tun, c->table, strerror(-rc));
	}
	rtnl_close(nl);
	return rc < 0 ? rc : missing;
}

/* ---- install_routes ------------------------------------------------------------------------------------ */

static bool route_wanted(const struct config *c, const struct prefix *p)
{
	for (size_t i = 0; i < c->ntunnels; i++)
		for (size_t k = 0; c->tunnels[i].install_routes && k < c->tunnels[i].routes.n; k++)
			if (prefix_eq(&c->tunnels[i].routes.p[k], p))
				return true;
	return false;
}

static bool prefix_is4(const struct prefix *p)
{
	return p->len >= 96 && addr_is4(&p->a);
}

static int drop_unwanted_routes(struct rtnl *nl, const struct config *c, uint8_t family)
{
	struct found f = {0};
	int rc = find_routes(nl, family, &f);

	for (size_t i = 0; i < f.nroutes && !rc; i++)
		if (f.routes[i].table == RT_TABLE_MAIN && !route_wanted(c, &f.routes[i].dst))
			rc = change_route(nl, RTM_DELROUTE, 0, &f.routes[i]);
	found_clear(&f);
	return rc;
}

int policy_install_routes(
	const struct config *c, const char *tun, bool have6, struct log *log, char *err, size_t errlen)
{
	struct rtnl *nl;
	struct route r = {.type = RTN_UNICAST,
		.table = RT_TABLE_MAIN,
		.metric = EGRESS_ROUTE_METRIC,
		.oif = if_nametoindex(tun)};
	char text[PREFIX_STRLEN];
	int rc = r.oif ? rtnl_open(&nl) : -ENODEV;

	if (rc) {
		snprintf(err, errlen, "%s: %s", tun, strerror(-rc));
		return rc;
	}
	for (size_t i = 0; i < nfamilies(have6) && !rc; i++)
		rc = drop_unwanted_routes(nl, c, families[i]);
	if (rc)
		snprintf(err, errlen, "installed routes: %s", strerror(-rc));
	for (size_t i = 0; i < c->ntunnels && rc >= 0; i++) {
		const struct conf_tunnel *t = &c->tunnels[i];

		for (size_t k = 0; t->install_routes && k < t->routes.n && rc >= 0; k++) {
			r.dst = t->routes.p[k];
			r.family = prefix_is4(&r.dst) ? AF_INET : AF_INET6;
			r.scope = r.family == AF_INET ? RT_SCOPE_LINK : RT_SCOPE_UNIVERSE;
			if (r.family == AF_INET6 && !have6) {
				log_warning(log, "tunnel", t->name, "route %s not installed: no IPv6 here",
					prefix_str(&r.dst, text));
				continue;
			}
			rc = add_route(nl, &r);
			if (rc < 0)
				snprintf(err, errlen, "tunnel %s: route %s: %s", t->name,
					prefix_str(&r.dst, text), strerror(-rc));
		}
	}
	rtnl_close(nl);
	return rc < 0 ? rc : 0;
}

/* ---- addresses ----------------------------------------------------------------------------------------- */

static int change_addr(
	struct rtnl *nl, uint16_t type, uint16_t flags, uint32_t oif, const struct conf_ifaddr *ia)
{
	char buf[RTNL_BUF];
	struct nlmsghdr *nlh = rtnl_msg(buf, type, flags, sizeof(struct ifaddrmsg));
	struct ifaddrmsg *ifa = mnl_nlmsg_get_payload(nlh);
	bool is4 = addr_is4(&ia->a);

	ifa->ifa_family = is4 ? AF_INET : AF_INET6;
	ifa->ifa_prefixlen = (uint8_t)(ia->net.len - (is4 ? 96 : 0));
	ifa->ifa_flags = is4 ? 0 : IFA_F_NODAD; /* nobody else is there to ask */
	ifa->ifa_scope = RT_SCOPE_UNIVERSE;
	ifa->ifa_index = oif;
	rtnl_put_addr(nlh, IFA_LOCAL, &ia->a);
	rtnl_put_addr(nlh, IFA_ADDRESS, &ia->a);
	return rtnl_talk(nl, nlh);
}

static bool ifaddr_eq(const struct conf_ifaddr *a, const struct conf_ifaddr *b)
{
	return addr_eq(&a->a, &b->a) && prefix_eq(&a->net, &b->net);
}

int policy_addresses(const char *tun, const struct conf_ifaddr before[2], const struct conf_ifaddr now[2],
	bool have6, char *err, size_t errlen)
{
	char text[ADDR_STRLEN];
	uint32_t oif = if_nametoindex(tun);
	struct rtnl *nl;
	int rc = oif ? rtnl_open(&nl) : -ENODEV;

	if (rc) {
		snprintf(err, errlen, "%s: %s", tun, strerror(-rc));
		return rc;
	}
	for (size_t i = 0; i < nfamilies(have6) && !rc; i++) {
		if (!addr_is_none(&before[i].a) && !ifaddr_eq(&before[i], &now[i])) {
			rc = change_addr(nl, RTM_DELADDR, 0, oif, &before[i]);
			if (rc == -EADDRNOTAVAIL)
				rc = 0;
		}
		if (!rc && !addr_is_none(&now[i].a)) {
			rc = change_addr(nl, RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, oif, &now[i]);
			if (rc == -EEXIST)
				rc = 0;
		}
		if (rc)
			snprintf(err, errlen, "%s: address %s: %s", tun, addr_str(&now[i].a, text),
				strerror(-rc));
	}
	rtnl_close(nl);
	return rc;
}

/* ---- the end ------------------------------------------------------------------------------------------- */

/* Rules before routes: a marked packet without a rule is forwarded as if arrd were not there, but one with a
 * rule and an empty table would be too. */
static int policy_down_family(struct rtnl *nl, uint8_t family)
{
	struct found f = {0};
	int first = 0, rc;

	rc = find_rules(nl, family, &f);
	for (size_t i = 0; i < f.nrules && !rc; i++) {
		int e = remove_rule(nl, &f.rules[i], 0);

		first = first ? first : e;
	}
	found_clear(&f);
	first = first ? first : rc;

	rc = find_routes(nl, family, &f);
	for (size_t i = 0; i < f.nroutes && !rc; i++) {
		int e = change_route(nl, RTM_DELROUTE, 0, &f.routes[i]);

		if (e != -ESRCH) /* went with its device meanwhile */
			first = first ? first : e;
	}
	found_clear(&f);
	return first ? first : rc;
}

int policy_down(void)
{
	struct rtnl *nl;
	int first = 0, rc = rtnl_open(&nl);

	if (rc)
		return rc;
	for (size_t i = 0; i < 2; i++) {
		rc = policy_down_family(nl, families[i]);
		/* A kernel without IPv6 has nothing of ours there. */
		if (rc != -EAFNOSUPPORT && rc != -EOPNOTSUPP)
			first = first ? first : rc;
	}
	rtnl_close(nl);
	return first;
}
