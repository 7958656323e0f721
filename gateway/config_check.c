/* SPDX-License-Identifier: GPL-2.0-or-later */
/* config_check.c - what more than one option has a say in: within a section, and between sections.
 *
 * Works on the items sorted by section and name. Comparisons of all with all are done by sorting, so that ten
 * thousand tunnels load in a moment. A value that was refused is left at "none" and not complained of again.
 */
#include "flowstate/flowstate.h"
#include "gateway/config_private.h"
#include "gre/gre.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PATH_MTU  1500           /* of the way to a branch, which "mtu = auto" assumes */
#define MTU_MIN   576            /* of a tunnel, given or worked out */
#define NAMES_MAX (FS_SLOTS - 2) /* of tunnels and sites: a slot of the flow table each; one is the egress' */

static struct conf_tunnel *tunnel_of(const struct item *it)
{
	return it->obj;
}

/* ---- one section --------------------------------------------------------------------------------- */

static void check_required(struct loader *l, const struct item *it)
{
	size_t n;
	const struct option *o = options_of(it->section, &n);
	char expected[256];

	for (size_t i = 0; i < n; i++)
		if (o[i].required && !it->key_line[i])
			config_error(l, it, o[i].key, "is missing; expected %s",
				value_describe(o[i].type, &o[i].range, expected, sizeof(expected)));
}

static void check_floors(struct loader *l, struct item *flows)
{
	size_t n;
	const struct option *o = options_of(SECTION_FLOWS, &n);

	for (size_t i = 0; i < n; i++) {
		uint32_t v;

		if (!o[i].floor)
			continue;
		memcpy(&v, (char *)flows->obj + o[i].offset, sizeof(v));
		if (v && v < o[i].floor)
			config_warning(l, flows, o[i].key,
				"%u is below the %u seconds of %s; applications may lose connections", v,
				o[i].floor, o[i].rfc);
	}
}

/* An address of the pool comes back by the TUN, whoever else has it. */
static void check_nat_tunnel(struct loader *l, const struct item *it)
{
	const struct conf_egress *e = &l->c->egress;
	const struct conf_tunnel *t = tunnel_of(it);
	char text[ADDR_STRLEN];

	for (int k = 0; k < 2 && e->nat == NAT_POOL; k++) {
		if (addr_range_has(&e->nat_pool[k], &t->local))
			config_error(l, it, "local", "\"%s\" is an address of [egress] nat; expected another",
				addr_str(&t->local, text));
		if (!t->remote_any && addr_range_has(&e->nat_pool[k], &t->remote))
			config_error(l, it, "remote",
				"\"%s\" is an address of [egress] nat; expected another",
				addr_str(&t->remote, text));
		if (addr_range_has(&e->nat_pool[k], &t->interface_address[k].a))
			config_error(l, it, "interface_address",
				"\"%s\" is an address of [egress] nat; expected another",
				addr_str(&t->interface_address[k].a, text));
	}
}

static void check_machine(struct loader *l)
{
	const struct conf_gateway *g = &l->c->gateway;
	const struct conf_egress *e = &l->c->egress;

	if (g->tun && e->interface && strcmp(g->tun, e->interface) == 0)
		config_error(l, l->items[SECTION_EGRESS], "interface",
			"\"%s\" is arrd's own TUN; expected another interface", e->interface);
	for (int k = 0; k < 2 && e->nat == NAT_POOL; k++)
		if (addr_range_has(&e->nat_pool[k], &g->tun_address[k].a))
			config_error(l, l->items[SECTION_GATEWAY], "tun_address",
				"is an address of [egress] nat; expected another");
	if (e->table >= 253 && e->table <= 255)
		config_error(l, l->items[SECTION_EGRESS], "table",
			"\"%u\" is one of the system's own tables; expected another", e->table);
	if (!g->offload_checksum && (g->offload_tso4 || g->offload_tso6 || g->offload_uso) &&
		(item_has(l->items[SECTION_GATEWAY], "offload_tso4") ||
			item_has(l->items[SECTION_GATEWAY], "offload_tso6") ||
			item_has(l->items[SECTION_GATEWAY], "offload_uso")))
		config_warning(l, l->items[SECTION_GATEWAY], "offload_checksum",
			"without checksum offload the TUN has no segmentation offload either");
}

uint32_t config_ip_len(const struct conf_tunnel *t)
{
	return addr_is4(&t->local) ? 20 : 40;
}

uint32_t conf_tunnel_overhead(const struct conf_tunnel *t)
{
	const struct gre_hdr h = {
		.has_csum = t->gre_checksum, .has_key = t->gre_has_key, .has_seq = t->gre_sequence};

	return gre_hdr_len(&h) + config_ip_len(t);
}

struct item *config_find_tunnel(struct item *const *tunnels, size_t n, const char *name)
{
	size_t first = 0;

	while (n > first) {
		size_t middle = first + (n - first) / 2;
		int order = strcmp(name, tunnels[middle]->name);

		if (order == 0)
			return tunnels[middle];
		if (order < 0)
			n = middle;
		else
			first = middle + 1;
	}
	return NULL;
}

static bool has_ipv6(const struct prefix_list *list)
{
	for (size_t i = 0; i < list->n; i++)
		if (!(list->p[i].len >= 96 && addr_is4(&list->p[i].a)))
			return true;
	return false;
}

/* What fits into the path, or into the tunnel that it travels in, which has its mtu already. */
static void fill_mtu(struct loader *l, struct item *const *tunnels, size_t n, const struct item *it)
{
	struct conf_tunnel *t = tunnel_of(it);
	const struct item *over = t->over ? config_find_tunnel(tunnels, n, t->over) : NULL;
	uint32_t around = conf_tunnel_overhead(t), path = PATH_MTU;

	if (t->type == TUNNEL_IPSEC) {
		if (t->mtu == MTU_AUTO)
			t->mtu = conf_esp_mtu(t, PATH_MTU);
		return;
	}
	if (over && tunnel_of(over)->type == TUNNEL_IPSEC) {
		path = tunnel_of(over)->mtu;
		if (tunnel_of(over)->ike.mode == IPSEC_TRANSPORT)
			around -= config_ip_len(t);
	}
	if (t->mtu != MTU_AUTO && over && t->mtu > path - around)
		config_warning(l, it, "mtu",
			"%u octets and their headers do not fit into the mtu of tunnel \"%s\"", t->mtu,
			t->over);
	if (t->mtu != MTU_AUTO)
		return;
	t->mtu = path - around;
	if (t->mtu < MTU_MIN)
		config_error(l, it, "over",
			"the mtu of \"%s\" leaves %u octets for inner packets; expected at least %d", t->over,
			t->mtu, MTU_MIN);
}

static void check_mtu(struct loader *l, const struct item *it)
{
	const struct conf_tunnel *t = tunnel_of(it);

	if (t->mtu < 1280 && (!addr_is_none(&t->interface_address[1].a) || has_ipv6(&t->routes)))
		config_warning(l, it, "mtu",
			"%u is too small for IPv6, whose packets of up to 1280 octets are sent all the same",
			t->mtu);
	if (t->ike.tfc_padding != TFC_MTU && t->ike.tfc_padding > t->mtu)
		config_warning(l, it, "tfc_padding", "packets of %u octets do not fit into the mtu of %u",
			t->ike.tfc_padding, t->mtu);
	if (t->mss != MSS_AUTO && t->mss != MSS_OFF && t->mss > t->mtu - 40)
		config_warning(
			l, it, "mss", "segments of %u octets do not fit into the mtu of %u", t->mss, t->mtu);
}

/* Options of another type of tunnel. */
static void check_type(struct loader *l, const struct item *it)
{
	size_t n;
	const struct option *o = options_of(SECTION_TUNNEL, &n);
	const struct conf_tunnel *t = it->obj;

	if (!item_has(it, "type"))
		return;
	for (size_t i = 0; i < n; i++)
		if (it->key_line[i] && !option_applies(&o[i], t))
			config_error(l, it, o[i].key,
				"is no option of a tunnel of type %s; expected it with type = %s",
				t->type == TUNNEL_IPSEC ? "ipsec" : "gre",
				o[i].only == ONLY_IPSEC ? "ipsec" : "gre");
	if (t->remote_any && t->type == TUNNEL_GRE)
		config_error(l, it, "remote", "\"any\" needs type = ipsec; expected an IPv4 or IPv6 address");
}

static void check_tunnel(struct loader *l, struct item *it)
{
	struct conf_tunnel *t = tunnel_of(it);
	char buf[ADDR_STRLEN];

	check_required(l, it);
	if (!t->site) {
		t->site = strdup(t->name);
		if (!t->site)
			l->nomem = true;
	}
	if (!addr_is_none(&t->local) && !addr_is_none(&t->remote)) {
		if (addr_is4(&t->local) != addr_is4(&t->remote))
			config_error(l, it, "remote",
				"\"%s\" and the local address are of different families; expected an %s "
				"address",
				addr_str(&t->remote, buf), addr_is4(&t->local) ? "IPv4" : "IPv6");
		else if (addr_eq(&t->local, &t->remote))
			config_error(l, it, "remote",
				"\"%s\" is the local address too; expected that of the branch",
				addr_str(&t->remote, buf));
	}
	check_nat_tunnel(l, it);
	check_type(l, it);
	if (!t->automatic_return_routing && t->routes.n == 0)
		config_warning(l, it, "automatic_return_routing",
			"replies follow routes, and this tunnel has none: nothing returns to it");
}

/* ---- names --------------------------------------------------------------------------------------- */

/* Equal names are neighbours; what is first in reading order keeps the name. */
static void check_names(struct loader *l)
{
	for (size_t i = 1; i < l->nitems; i++) {
		struct item *it = l->items[i];
		const struct item *before = l->items[i - 1];

		if (!it->name || !before->name || it->section != before->section ||
			strcmp(it->name, before->name) != 0)
			continue;
		it->twice = true;
		config_error(l, it, NULL,
			"the name is taken by the section at %s:%d; expected each name once", before->file,
			before->line);
	}
}

static int by_site(const void *a, const void *b)
{
	return strcmp(tunnel_of(*(struct item *const *)a)->site, tunnel_of(*(struct item *const *)b)->site);
}

static int by_site_and_order(const void *a, const void *b)
{
	const struct item *x = *(struct item *const *)a, *y = *(struct item *const *)b;
	int order = by_site(a, b);

	return order ? order : x->order < y->order ? -1 : x->order > y->order;
}

static int site_to_tunnel(const void *name, const void *tunnel)
{
	return strcmp(name, tunnel_of(*(struct item *const *)tunnel)->site);
}

static bool is_clear(const struct item *it)
{
	return tunnel_of(it)->type == TUNNEL_GRE && !tunnel_of(it)->over;
}

/* t[0..n) are the tunnels of one site. One in the clear opens to whoever forges its addresses what the others protect: replies
 * go where the last packet of a flow came from. */
static void check_one_site(struct loader *l, struct item *const *t, size_t n)
{
	const struct item *safe = NULL;

	for (size_t i = 0; i < n && !safe; i++)
		if (!is_clear(t[i]))
			safe = t[i];
	for (size_t i = 0; safe && i < n; i++)
		if (is_clear(t[i]))
			config_warning(l, t[i], item_has(t[i], "site") ? "site" : NULL,
				"site \"%s\" has IPsec, by tunnel %s at %s:%d, and this tunnel is in the "
				"clear: "
				"who forges its packets is in the site, and gets its replies",
				tunnel_of(t[i])->site, safe->name, safe->file, safe->line);
}

static void check_sites(struct loader *l, struct item **tunnels, size_t n)
{
	size_t sites = 0, end;

	qsort((void *)tunnels, n, sizeof(struct item *), by_site_and_order);
	for (size_t i = 0; i < n; i = end, sites++) {
		for (end = i + 1; end < n && by_site(&tunnels[i], &tunnels[end]) == 0; end++)
			;
		check_one_site(l, tunnels + i, end - i);
	}
	if (n + sites > NAMES_MAX)
		config_error(l, tunnels[n - 1], NULL,
			"with it there are %zu tunnels of %zu sites; expected at most %d of both together", n,
			sites, NAMES_MAX);
	for (size_t i = 0; i < l->nitems; i++) {
		const struct item *it = l->items[i];

		if (it->section == SECTION_SITE && !it->twice &&
			!bsearch(it->name, (void *)tunnels, n, sizeof(struct item *), site_to_tunnel))
			config_warning(l, it, NULL, "no tunnel belongs to this site");
	}
}

/* ---- endpoints ----------------------------------------------------------------------------------- */

/* Within each ipsec tunnel, and outside of them, endpoints are a world of their own. In transport mode the ends are those of
 * the security association, whatever local and remote say: the table that packets are told apart by (path.c) has none. */
static int by_endpoint(const struct item *a, const struct item *b)
{
	const struct conf_tunnel *x = a->obj, *y = b->obj;
	int order = strcmp(x->over ? x->over : "", y->over ? y->over : "");

	if (!order)
		order = (int)a->by_key - (int)b->by_key;
	if (!order && !a->by_key)
		order = memcmp(&x->local, &y->local, sizeof(x->local));
	if (!order && !a->by_key)
		order = memcmp(&x->remote, &y->remote, sizeof(x->remote));
	if (!order)
		order = (int)x->gre_has_key - (int)y->gre_has_key;
	if (!order && x->gre_has_key && x->gre_key != y->gre_key)
		order = x->gre_key < y->gre_key ? -1 : 1;
	return order;
}

static int by_endpoint_and_order(const void *a, const void *b)
{
	const struct item *x = *(struct item *const *)a, *y = *(struct item *const *)b;
	int order = by_endpoint(x, y);

	return order ? order : x->order < y->order ? -1 : x->order > y->order;
}

/* Whether nothing of the endpoint was refused. */
static bool is_endpoint(const struct item *it)
{
	const struct conf_tunnel *t = it->obj;

	return t->type == TUNNEL_GRE && !addr_is_none(&t->local) && !addr_is_none(&t->remote) &&
	       t->gre_has_key == item_has(it, "gre_key");
}

static void check_endpoints(struct loader *l, struct item **tunnels, size_t n)
{
	qsort((void *)tunnels, n, sizeof(struct item *), by_endpoint_and_order);
	for (size_t i = 1; i < n; i++) {
		const struct item *it = tunnels[i], *other = tunnels[i - 1];
		const struct conf_tunnel *t = it->obj, *before = other->obj;

		if (!is_endpoint(it) || !is_endpoint(other) || by_endpoint(it, other) != 0)
			continue;
		config_error(l, it, it->by_key ? "over" : "remote",
			"%s%s %s of tunnel %s at %s:%d; expected a gre_key that tells them apart",
			it->by_key ? "in transport mode only keys differ, and " : "local, remote and ",
			t->gre_has_key ? "gre_key" : "the missing gre_key",
			it->by_key ? "is that" : "are those", before->name, before->file, before->line);
	}
}

/* ---- routes -------------------------------------------------------------------------------------- */

struct named_route {
	struct prefix p;
	const struct item *it;
};

static int by_prefix(const struct named_route *x, const struct named_route *y)
{
	int order = memcmp(&x->p.a, &y->p.a, sizeof(x->p.a));

	return order ? order : (int)x->p.len - (int)y->p.len;
}

static int by_prefix_and_order(const void *a, const void *b)
{
	const struct named_route *x = a, *y = b;
	int order = by_prefix(x, y);

	return order ? order : x->it->order < y->it->order ? -1 : x->it->order > y->it->order;
}

/* r[0..n) are all the routes with one prefix. A tunnel without automatic return routing gets its replies by
 * routes: then the prefix must not lead to another site. */
static void check_one_prefix(struct loader *l, const struct named_route *r, size_t n)
{
	const struct item *relying = NULL;
	char buf[PREFIX_STRLEN];

	for (size_t i = 0; i < n && !relying; i++)
		if (!tunnel_of(r[i].it)->automatic_return_routing)
			relying = r[i].it;
	for (size_t i = 0; relying && i < n; i++)
		if (strcmp(tunnel_of(r[i].it)->site, tunnel_of(relying)->site) != 0)
			config_error(l, r[i].it, "routes",
				"%s is also a route of tunnel %s of site %s at %s:%d, whose replies follow "
				"routes; "
				"expected it in one site, or automatic_return_routing = yes in both",
				prefix_str(&r[i].p, buf), relying->name, tunnel_of(relying)->site,
				tunnel_of(relying)->file, relying->line);
}

static void check_routes(struct loader *l, struct item *const *tunnels, size_t n)
{
	struct named_route *r;
	size_t total = 0, k = 0, end;

	for (size_t i = 0; i < n; i++)
		total += tunnel_of(tunnels[i])->routes.n;
	r = calloc(total + 1, sizeof(*r));
	if (!r) {
		l->nomem = true;
		return;
	}
	for (size_t i = 0; i < n; i++)
		for (size_t j = 0; j < tunnel_of(tunnels[i])->routes.n; j++)
			r[k++] = (struct named_route){tunnel_of(tunnels[i])->routes.p[j], tunnels[i]};
	qsort(r, total, sizeof(*r), by_prefix_and_order);
	for (size_t i = 0; i < total; i = end) {
		for (end = i + 1; end < total && by_prefix(&r[i], &r[end]) == 0; end++)
			;
		check_one_prefix(l, r + i, end - i);
	}
	free(r);
}

/* ---- all ----------------------------------------------------------------------------------------- */

void config_check(struct loader *l)
{
	struct item **tunnels = calloc(l->nitems, sizeof(struct item *));
	size_t n = 0;

	if (!tunnels) {
		l->nomem = true;
		return;
	}
	check_floors(l, l->items[SECTION_FLOWS]);
	check_machine(l);
	check_names(l);
	for (size_t i = 0; i < l->nitems; i++) {
		struct item *it = l->items[i];

		if (it->section != SECTION_TUNNEL || it->twice)
			continue;
		check_tunnel(l, it);
		tunnels[n++] = it;
	}
	config_check_ipsec(l, tunnels, n);
	for (int type = TUNNEL_IPSEC; type >= TUNNEL_GRE; type--)
		for (size_t i = 0; i < n; i++)
			if ((int)tunnel_of(tunnels[i])->type == type)
				fill_mtu(l, tunnels, n, tunnels[i]);
	for (size_t i = 0; i < n; i++)
		check_mtu(l, tunnels[i]);
	if (!l->nomem) {
		check_endpoints(l, tunnels, n);
		check_routes(l, tunnels, n);
		check_sites(l, tunnels, n);
	}
	free((void *)tunnels);
}
