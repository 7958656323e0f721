/* SPDX-License-Identifier: GPL-2.0-or-later */
/* values_net.c - option values that speak of networks: addresses, prefixes, services. */
#include "gateway/config.h"
#include "gateway/values.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const struct prefix never_hosts[] = {
	{{.w = {0, 0, 0, 0}}, 128},                                  /* :: */
	{{.b = {[15] = 1}}, 128},                                    /* ::1 */
	{{.b = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0}}, 104}, /* 0.0.0.0/8 */
	{{.b = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 127}}, 104},
	{{.b = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 224}},
		99},               /* 224.0.0.0/3: multicast, reserved, broadcast */
	{{.b = {0xff}}, 8},        /* ff00::/8 */
	{{.b = {0xfe, 0x80}}, 10}, /* fe80::/10 */
};

/* Inside, branches may neither send from nor to it (address.c); outside it is as good as any. */
static const struct prefix link_local4 = {
	{.b = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 169, 254}}, 96 + 16};

static const char not_host[] = VALUE_SHOWN
	" cannot be a host's address; expected a unicast address, neither loopback nor link-local";

bool value_is_host(const struct addr *a)
{
	for (size_t i = 0; i < sizeof(never_hosts) / sizeof(never_hosts[0]); i++)
		if (prefix_has(&never_hosts[i], a))
			return false;
	return true;
}

static int parse_addr(void *field, const char *s, const struct value_type *t, const struct value_range *r,
	const struct complaint *c)
{
	struct addr a;

	(void)r;
	if (addr_parse(s, &a) < 0)
		return value_bad(c, VALUE_SHOWN " is not an address; expected %s", s, t->what);
	if (!value_is_host(&a))
		return value_bad(c, not_host, s);
	*(struct addr *)field = a;
	return 0;
}

/* field is the struct conf_tunnel. */
static int parse_remote(void *field, const char *s, const struct value_type *t, const struct value_range *r,
	const struct complaint *c)
{
	struct conf_tunnel *tunnel = field;

	if (strcmp(s, "any") != 0)
		return parse_addr(&tunnel->remote, s, t, r, c);
	tunnel->remote_any = true;
	return 0;
}

static bool eq_remote(const void *a, const void *b)
{
	const struct conf_tunnel *x = a, *y = b;

	return addr_eq(&x->remote, &y->remote) && x->remote_any == y->remote_any;
}

static bool eq_addr(const void *a, const void *b)
{
	return addr_eq(a, b);
}

/* Complains of what prefix_parse and prefix_parse_host return. */
static int bad_prefix(int err, const char *s, const struct prefix *p, const struct complaint *c)
{
	char buf[PREFIX_STRLEN];

	if (err == -ERANGE)
		return value_bad(c,
			VALUE_SHOWN " has a prefix length that its family does not know; expected 0 to 32 "
				    "for IPv4, 0 to 128 for IPv6",
			s);
	if (err == -EDOM)
		return value_bad(c, VALUE_SHOWN " has bits set beyond its prefix length; expected %s", s,
			prefix_str(p, buf));
	return value_bad(c, VALUE_SHOWN " is not an address with a prefix length; expected ADDRESS/LEN", s);
}

/* Whether a is the network's own (all host bits 0; for IPv6 the routers' anycast, RFC 4291 2.6.1) or, in
 * IPv4, its broadcast address. Networks of one or two addresses have neither (RFC 3021, RFC 6164). */
static bool is_network_address(const struct addr *a, const struct prefix *net)
{
	struct addr last = net->a;

	if (net->len >= 127)
		return false;
	if (addr_eq(a, &net->a))
		return true;
	for (unsigned bit = net->len; bit < 128; bit++)
		last.b[bit / 8] |= (uint8_t)(0x80 >> bit % 8);
	return addr_is4(a) && addr_eq(a, &last);
}

/* field is struct conf_ifaddr[2]: IPv4, IPv6. */
static int parse_ifaddr(void *field, const char *s, const struct value_type *t, const struct value_range *r,
	const struct complaint *c)
{
	struct conf_ifaddr *slot = field, new;
	int err = prefix_parse_host(s, &new.a, &new.net);

	(void)t;
	(void)r;
	if (err)
		return bad_prefix(err, s, &new.net, c);
	if (!value_is_host(&new.a) || prefix_has(&link_local4, &new.a))
		return value_bad(c, not_host, s);
	if (is_network_address(&new.a, &new.net))
		return value_bad(c,
			VALUE_SHOWN " is the address of the network itself, or its broadcast address; "
				    "expected one of a host in it",
			s);
	slot += addr_is4(&new.a) ? 0 : 1;
	if (!addr_is_none(&slot->a))
		return -EEXIST;
	*slot = new;
	return 0;
}

static bool eq_ifaddrs(const void *a, const void *b)
{
	const struct conf_ifaddr *x = a, *y = b;

	for (int i = 0; i < 2; i++)
		if (!addr_eq(&x[i].a, &y[i].a) || !prefix_eq(&x[i].net, &y[i].net))
			return false;
	return true;
}

static int parse_prefix(void *field, const char *s, const struct value_type *t, const struct value_range *r,
	const struct complaint *c)
{
	struct prefix_list *list = field;
	struct prefix p;
	int err = prefix_parse(s, &p);

	(void)t;
	(void)r;
	if (err)
		return bad_prefix(err, s, &p, c);
	err = value_grow((void **)&list->p, list->n, sizeof(*list->p));
	if (!err)
		list->p[list->n++] = p;
	return err;
}

static int by_prefix(const void *a, const void *b)
{
	const struct prefix *x = a, *y = b;
	int order = memcmp(&x->a, &y->a, sizeof(x->a));

	return order ? order : (int)x->len - (int)y->len;
}

/* Sorted and each once: the order in the file is no difference between two configurations. */
static void finish_prefixes(void *field)
{
	struct prefix_list *list = field;
	size_t n = 0;

	if (list->n < 2)
		return;
	qsort(list->p, list->n, sizeof(*list->p), by_prefix);
	for (size_t i = 0; i < list->n; i++)
		if (n == 0 || !prefix_eq(&list->p[n - 1], &list->p[i]))
			list->p[n++] = list->p[i];
	list->n = n;
}

static bool eq_prefixes(const void *a, const void *b)
{
	const struct prefix_list *x = a, *y = b;

	if (x->n != y->n)
		return false;
	for (size_t i = 0; i < x->n; i++)
		if (!prefix_eq(&x->p[i], &y->p[i]))
			return false;
	return true;
}

static void free_prefixes(void *field)
{
	free(((struct prefix_list *)field)->p);
}

/* field is the struct conf_egress. The least and greatest lengths keep a pool useful and away from all of the
 * address space. */
static int parse_pool(void *field, const char *s, const struct value_type *t, const struct value_range *r,
	const struct complaint *c)
{
	struct conf_egress *e = field;
	struct prefix p, *slot;
	int err = prefix_parse(s, &p);
	bool is4;

	(void)t;
	(void)r;
	if (err)
		return bad_prefix(err, s, &p, c);
	is4 = p.len >= 96 && addr_is4(&p.a);
	if (is4 ? p.len < 96 + 8 || p.len > 96 + 30 : p.len < 16 || p.len > 120)
		return value_bad(c,
			VALUE_SHOWN " is too large or too small; expected a length of 8 to 30 for IPv4, 16 "
				    "to 120 for IPv6",
			s);
	if (!value_is_host(&p.a))
		return value_bad(c, VALUE_SHOWN " holds no addresses of hosts; expected a unicast prefix", s);
	slot = is4 ? &e->overlap_pool4 : &e->overlap_pool6;
	if (slot->len)
		return -EEXIST;
	*slot = p;
	return 0;
}

/* ---- nat ----------------------------------------------------------------------------------------- */

/* All of the range, which may reach over what is in between. */
static bool range_is_hosts(struct addr_range r)
{
	struct prefix p;
	bool more = true;

	while (more) {
		more = addr_range_next_prefix(&r, &p);
		for (size_t i = 0; i < sizeof(never_hosts) / sizeof(never_hosts[0]); i++)
			if (prefix_overlap(&never_hosts[i], &p))
				return false;
	}
	return true;
}

#define NAT_POOL_MAX 65536u

static int parse_nat_pool(struct addr_range *out, const char *s, const struct complaint *c)
{
	const char *dash = strchr(s, '-');
	char first[ADDR_STRLEN] = "";

	if ((size_t)(dash ? dash - s : 0) >= sizeof(first))
		dash = NULL;
	snprintf(first, sizeof(first), "%.*s", dash ? (int)(dash - s) : (int)sizeof(first) - 1, s);
	if (addr_parse(dash ? first : s, &out->first) || addr_parse(dash ? dash + 1 : s, &out->last))
		return value_bad(
			c, VALUE_SHOWN " is not valid; expected masquerade, none, or ADDRESS[-ADDRESS]", s);
	if (addr_is4(&out->first) != addr_is4(&out->last))
		return value_bad(c, VALUE_SHOWN " has ends of two families; expected a range of one", s);
	if (memcmp(out->first.b, out->last.b, sizeof(out->first.b)) > 0)
		return value_bad(c, VALUE_SHOWN " ends before it begins; expected FIRST-LAST", s);
	if (memcmp(out->first.b, out->last.b, 8) != 0 || addr_range_count(out) > NAT_POOL_MAX)
		return value_bad(c, VALUE_SHOWN " is too large; expected at most 65536 addresses", s);
	if (!range_is_hosts(*out))
		return value_bad(c, not_host, s);
	return 0;
}

/* field is the struct conf_egress. */
static int parse_nat(void *field, const char *s, const struct value_type *t, const struct value_range *r,
	const struct complaint *c)
{
	struct conf_egress *e = field;
	struct addr_range new, *slot;
	int err;

	(void)t;
	(void)r;
	if (strcmp(s, "masquerade") == 0 || strcmp(s, "none") == 0) {
		if (e->nat_word || e->nat == NAT_POOL)
			return value_bad(c, VALUE_SHOWN " stands beside another; expected it alone", s);
		e->nat_word = true;
		e->nat = *s == 'm' ? NAT_MASQUERADE : NAT_NONE;
		return 0;
	}
	err = parse_nat_pool(&new, s, c);
	if (err)
		return err;
	if (e->nat_word)
		return value_bad(
			c, VALUE_SHOWN " stands beside masquerade or none; expected one or the other", s);
	slot = &e->nat_pool[!addr_is4(&new.first)];
	if (!addr_is_none(&slot->first))
		return -EEXIST;
	*slot = new;
	e->nat = NAT_POOL;
	return 0;
}

static bool eq_nat(const void *a, const void *b)
{
	const struct conf_egress *x = a, *y = b;

	return x->nat == y->nat && addr_range_eq(&x->nat_pool[0], &y->nat_pool[0]) &&
	       addr_range_eq(&x->nat_pool[1], &y->nat_pool[1]);
}

static bool eq_pools(const void *a, const void *b)
{
	const struct conf_egress *x = a, *y = b;

	return prefix_eq(&x->overlap_pool4, &y->overlap_pool4) &&
	       prefix_eq(&x->overlap_pool6, &y->overlap_pool6);
}

/* field is the struct conf_egress. */
static int parse_service(void *field, const char *s, const struct value_type *t, const struct value_range *r,
	const struct complaint *c)
{
	struct conf_egress *e = field;
	struct conf_service new = {0};
	const char *end;
	uint64_t port = 0;
	int err;

	(void)t;
	(void)r;
	if (strcmp(s, "icmp") == 0) {
		new.proto = IPPROTO_ICMP;
	} else if (strncmp(s, "tcp/", 4) == 0 || strncmp(s, "udp/", 4) == 0) {
		if (!value_number(s + 4, &end, &port) || *end || port < 1 || port > 65535)
			return value_bad(c,
				VALUE_SHOWN " names no port; expected a number, 1 to 65535, behind the slash",
				s);
		new.proto = *s == 't' ? IPPROTO_TCP : IPPROTO_UDP;
		new.port = (uint16_t)port;
	} else if (strcmp(s, "any") != 0) {
		return value_bad(
			c, VALUE_SHOWN " is not a service; expected icmp, tcp/PORT, udp/PORT or any", s);
	}
	err = value_grow((void **)&e->local_services, e->nlocal_services, sizeof(*e->local_services));
	if (!err)
		e->local_services[e->nlocal_services++] = new;
	return err;
}

static int by_service(const void *a, const void *b)
{
	const struct conf_service *x = a, *y = b;

	return x->proto != y->proto ? (int)x->proto - y->proto : (int)x->port - y->port;
}

static void finish_services(void *field)
{
	struct conf_egress *e = field;
	size_t n = 0;

	if (e->nlocal_services < 2)
		return;
	qsort(e->local_services, e->nlocal_services, sizeof(*e->local_services), by_service);
	for (size_t i = 0; i < e->nlocal_services; i++)
		if (n == 0 || by_service(&e->local_services[n - 1], &e->local_services[i]) != 0)
			e->local_services[n++] = e->local_services[i];
	e->nlocal_services = n;
}

static bool eq_services(const void *a, const void *b)
{
	const struct conf_egress *x = a, *y = b;

	if (x->nlocal_services != y->nlocal_services)
		return false;
	for (size_t i = 0; i < x->nlocal_services; i++)
		if (by_service(&x->local_services[i], &y->local_services[i]) != 0)
			return false;
	return true;
}

static void free_services(void *field)
{
	free(((struct conf_egress *)field)->local_services);
}

const struct value_type value_addr = {.what = "an IPv4 or IPv6 address", .parse = parse_addr, .eq = eq_addr};
const struct value_type value_remote = {
	.what = "any, or an IPv4 or IPv6 address", .parse = parse_remote, .eq = eq_remote};
const struct value_type value_ifaddrs = {.what = "a list of at most one IPv4 and one IPv6 ADDRESS/LEN",
	.list = true,
	.parse = parse_ifaddr,
	.eq = eq_ifaddrs};
const struct value_type value_prefixes = {.what = "a list of prefixes ADDRESS/LEN",
	.list = true,
	.parse = parse_prefix,
	.eq = eq_prefixes,
	.finish = finish_prefixes,
	.free = free_prefixes};
const struct value_type value_pools = {.what = "a list of at most one IPv4 and one IPv6 prefix ADDRESS/LEN",
	.list = true,
	.fills = true,
	.parse = parse_pool,
	.eq = eq_pools};
const struct value_type value_nat = {
	.what = "masquerade, none, or a list of at most one IPv4 and one IPv6 ADDRESS[-ADDRESS]",
	.list = true,
	.needs_one = true,
	.parse = parse_nat,
	.eq = eq_nat};
const struct value_type value_services = {.what = "a list of icmp, tcp/PORT, udp/PORT or any",
	.list = true,
	.parse = parse_service,
	.eq = eq_services,
	.finish = finish_services,
	.free = free_services};
