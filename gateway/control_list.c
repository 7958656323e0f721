/* SPDX-License-Identifier: GPL-2.0-or-later */
/* control_list.c - listings of the control socket: tunnels and flows, a page at a time.
 *
 * Packets move between two pages, and so flows come and go and a reload may happen. Nothing is kept from one
 * page to the next but a cursor that stays valid: the index of a flow record (fs_next), the name of a
 * tunnel. Ids in a query carry a generation: one that is gone matches nothing.
 */
#include "gateway/control_private.h"
#include "gateway/flow_text.h"
#include "gateway/gateway.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <uv.h>

_Static_assert(CONTROL_PAGE_MAX + CONTROL_ROW_MAX < CONTROL_OUT_MAX, "the last row of a page fits");

#define SCAN 64 /* records that are looked at between two looks at the clock */

/* ---- tunnels ---------------------------------------------------------------------------------------- */

void control_put_counters(struct jsonw *w, const struct counters *c)
{
	jw_u64(w, "rx_packets", c->rx_packets);
	jw_u64(w, "rx_bytes", c->rx_bytes);
	jw_u64(w, "tx_packets", c->tx_packets);
	jw_u64(w, "tx_bytes", c->tx_bytes);
	jw_open(w, "drops", '{');
	for (unsigned d = DROP_NONE + 1; d < DROP_COUNT; d++)
		if (c->drops[d])
			jw_u64(w, drop_name((enum drop)d), c->drops[d]);
	jw_close(w, '}');
}

static void put_tunnel(const struct gateway *gw, const struct tunnel *t, uint64_t now, struct jsonw *w)
{
	const struct conf_tunnel *c = t->conf;

	jw_open(w, NULL, '{');
	jw_str(w, "name", c->name);
	jw_str(w, "type", c->type == TUNNEL_IPSEC ? "ipsec" : "gre");
	jw_str(w, "site", c->site);
	jw_str(w, "state", tunnel_state(t, now) == TUNNEL_UP ? "up" : "down");
	jw_addr(w, "local", &c->local);
	if (addr_is_none(&c->remote))
		jw_str(w, "remote", "any");
	else
		jw_addr(w, "remote", &c->remote);
	if (c->gre_has_key)
		jw_u64(w, "gre_key", c->gre_key);
	if (c->over)
		jw_str(w, "over", c->over);
	jw_u64(w, "mtu", c->mtu);
	if (t->pmtu && t->pmtu_until_ms > now)
		jw_u64(w, "pmtu", t->pmtu);
	jw_u64(w, "priority", c->priority);
	jw_bool(w, "automatic_return_routing", c->automatic_return_routing);
	jw_u64(w, "flows", fs_attach_flows(gw->fs, t->id));
	if (t->rx_last_ms)
		jw_u64(w, "rx_last_s", control_seconds(t->rx_last_ms, now));
	control_put_counters(w, &t->count);
	if (t->ipsec)
		control_put_ipsec(w, gw, t, now);
	jw_close(w, '}');
}

/* Index of the first tunnel whose name comes behind name. */
static uint32_t tunnel_behind(const struct tunnels *ts, const char *name)
{
	uint32_t lo = 0, hi = tunnels_count(ts);

	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;
		if (strcmp(tunnels_at(ts, mid)->conf->name, name) > 0)
			hi = mid;
		else
			lo = mid + 1;
	}
	return lo;
}

static bool tunnel_rows(struct control_request *r, struct jsonw *w, uint64_t deadline_ns)
{
	struct tunnel_query *q = &r->tunnels;
	uint32_t i = tunnel_behind(r->gw->tunnels, q->last);
	uint64_t now = gateway_now();
	const struct tunnel *t;

	if (*q->only) {
		t = tunnels_by_name(r->gw->tunnels, q->only);
		if (t)
			put_tunnel(r->gw, t, now, w);
		q->matched = t != NULL;
		return true;
	}
	while ((t = tunnels_at(r->gw->tunnels, i++))) {
		put_tunnel(r->gw, t, now, w);
		q->matched++;
		snprintf(q->last, sizeof(q->last), "%s", t->conf->name);
		if (w->len >= CONTROL_PAGE_MAX || uv_hrtime() >= deadline_ns)
			return false;
	}
	return true;
}

void control_list_tunnels(struct control_request *r, const json_t *args, struct jsonw *w)
{
	const char *only = NULL;

	if (!control_arg_str(r, w, args, "tunnel", &only))
		return;
	if (only && !tunnels_by_name(r->gw->tunnels, only)) {
		control_error(r, w, "not_found", "no tunnel has this name");
		return;
	}
	r->tunnels = (struct tunnel_query){.matched = 0};
	if (only)
		snprintf(r->tunnels.only, sizeof(r->tunnels.only), "%s", only);
	r->matched = &r->tunnels.matched;
	r->rows = tunnel_rows;
}

/* ---- flows ------------------------------------------------------------------------------------------ */

static void put_tuple(struct jsonw *w, const char *key, const struct tuple *t)
{
	jw_open(w, key, '{');
	jw_addr(w, "src", &t->src);
	jw_u64(w, "sport", ntohs(t->sport));
	jw_addr(w, "dst", &t->dst);
	jw_u64(w, "dport", ntohs(t->dport));
	jw_close(w, '}');
}

void control_put_flow(struct jsonw *w, const struct gateway *gw, const struct fs_info *f)
{
	const struct fs_half *orig = &f->half[FS_ORIG], *reply = &f->half[FS_REPLY];
	const struct fs_half *home = orig->realm != gw->egress_id ? orig : reply;
	char proto[PROTO_STRLEN];

	jw_str(w, "site", fs_last_name(gw->fs, home->realm));
	jw_str(w, "tunnel", fs_last_name(gw->fs, home->via));
	jw_str(w, "proto", proto_name(orig->t.proto, proto));
	jw_str(w, "state", fs_state_name(f->state));
	put_tuple(w, "orig", &orig->t);
	put_tuple(w, "reply", &reply->t);
	jw_bool(w, "translated", f->translated);
}

void control_put_flow_counters(struct jsonw *w, const struct fs_info *f)
{
	jw_u64(w, "orig_packets", f->packets[FS_ORIG]);
	jw_u64(w, "orig_bytes", f->octets[FS_ORIG]);
	jw_u64(w, "reply_packets", f->packets[FS_REPLY]);
	jw_u64(w, "reply_bytes", f->octets[FS_REPLY]);
}

void control_put_flow_realms(struct jsonw *w, const struct gateway *gw, const struct fs_info *f)
{
	const struct fs_half *orig = &f->half[FS_ORIG], *reply = &f->half[FS_REPLY];

	jw_str(w, "orig_realm", fs_last_name(gw->fs, orig->realm));
	jw_str(w, "orig_via", fs_last_name(gw->fs, orig->via));
	jw_str(w, "reply_realm", fs_last_name(gw->fs, reply->realm));
	jw_str(w, "reply_via", fs_last_name(gw->fs, reply->via));
}

static void put_row(const struct gateway *gw, const struct fs_info *f, uint64_t now, struct jsonw *w)
{
	jw_open(w, NULL, '{');
	control_put_flow(w, gw, f);
	jw_u64(w, "age_s", control_seconds(f->created_ms, now));
	jw_u64(w, "idle_s", control_seconds(f->seen_ms, now));
	jw_u64(w, "expires_s", control_seconds(now, f->expires_ms));
	control_put_flow_counters(w, f);
	control_put_flow_realms(w, gw, f);
	jw_close(w, '}');
}

static bool either(fs_id want, fs_id a, fs_id b)
{
	return want == FS_ID_NONE || want == a || want == b;
}

bool control_flow_matches(const struct flow_query *q, const struct fs_info *f)
{
	const struct fs_half *orig = &f->half[FS_ORIG], *reply = &f->half[FS_REPLY];

	if (q->state == FS_FREE ? f->state == FS_QUARANTINE : f->state != q->state)
		return false;
	return (q->proto < 0 || q->proto == orig->t.proto) && either(q->site, orig->realm, reply->realm) &&
	       either(q->tunnel, orig->via, reply->via) &&
	       (!q->by_src || prefix_has(&q->src, &orig->t.src)) &&
	       (!q->by_dst || prefix_has(&q->dst, &orig->t.dst));
}

/* Behind the limit the flows that match are only counted, so that a reader learns how many it was not shown. */
static bool flow_rows(struct control_request *r, struct jsonw *w, uint64_t deadline_ns)
{
	struct flow_query *q = &r->flows;
	uint64_t now = gateway_now();
	uint32_t flow, looked = 0;
	struct fs_info f;
	int found;

	while ((found = fs_next(r->gw->fs, &q->cursor, SCAN, &flow, &f)) >= 0) {
		if (found && control_flow_matches(q, &f)) {
			q->matched++;
			if (!q->limit || q->listed < q->limit) {
				q->listed++;
				put_row(r->gw, &f, now, w);
				if (w->len >= CONTROL_PAGE_MAX)
					return false;
			}
		}
		if ((!found || ++looked % 8 == 0) && uv_hrtime() >= deadline_ns)
			return false;
	}
	return true;
}

/* args[key], an address or a prefix, into p; given says whether there is one. */
static bool arg_prefix(const struct control_request *r, struct jsonw *w, const json_t *args, const char *key,
	bool *given, struct prefix *p)
{
	const char *s = NULL;

	if (!control_arg_str(r, w, args, key, &s))
		return false;
	*given = s != NULL;
	if (!s || prefix_parse(s, p) == 0)
		return true;
	p->len = 128;
	if (addr_parse(s, &p->a) == 0)
		return true;
	control_error(r, w, "invalid_argument", "%s: must be an address or a prefix such as 10.0.0.0/8", key);
	return false;
}

/* site, tunnel, proto and state, which are names. */
static bool arg_names(
	const struct control_request *r, struct jsonw *w, const json_t *args, struct flow_query *q)
{
	const char *site = NULL, *tunnel = NULL, *proto = NULL, *state = NULL;

	if (!control_arg_str(r, w, args, "site", &site) || !control_arg_str(r, w, args, "tunnel", &tunnel) ||
		!control_arg_str(r, w, args, "proto", &proto) ||
		!control_arg_str(r, w, args, "state", &state))
		return false;
	if (site) {
		q->site = fs_lookup_name(r->gw->fs, FS_SITE, site);
		if (q->site == FS_ID_NONE) {
			control_error(r, w, "not_found", "no site has this name");
			return false;
		}
		snprintf(q->site_name, sizeof(q->site_name), "%s", site);
	}
	if (tunnel) {
		const struct tunnel *t = tunnels_by_name(r->gw->tunnels, tunnel);
		if (!t) {
			control_error(r, w, "not_found", "no tunnel has this name");
			return false;
		}
		q->tunnel = t->id;
		snprintf(q->tunnel_name, sizeof(q->tunnel_name), "%s", tunnel);
	}
	if (proto) {
		q->proto = proto_parse(proto);
		if (q->proto < 0) {
			control_error(r, w, "invalid_argument", "proto: must be a protocol's name or number");
			return false;
		}
	}
	if (state) {
		q->state = FS_FREE + 1;
		while (q->state < FS_STATE_COUNT && strcmp(fs_state_name(q->state), state) != 0)
			q->state++;
		if (q->state == FS_STATE_COUNT) {
			control_error(r, w, "invalid_argument", "state: there is no such state");
			return false;
		}
	}
	return true;
}

void control_list_flows(struct control_request *r, const json_t *args, struct jsonw *w)
{
	const json_t *limit = json_object_get(args, "limit"), *follow = json_object_get(args, "follow");
	struct flow_query *q = &r->flows;

	*q = (struct flow_query){.proto = -1};
	if (!arg_names(r, w, args, q) || !arg_prefix(r, w, args, "src", &q->by_src, &q->src) ||
		!arg_prefix(r, w, args, "dst", &q->by_dst, &q->dst))
		return;
	if (limit && (!json_is_integer(limit) || json_integer_value(limit) < 0)) {
		control_error(r, w, "invalid_argument", "limit: must be an integer of 0 (all) or more");
		return;
	}
	if (follow && !json_is_boolean(follow)) {
		control_error(r, w, "invalid_argument", "follow: must be true or false");
		return;
	}
	q->limit = (uint64_t)json_integer_value(limit);
	if (json_is_true(follow)) {
		control_follow(r, w);
		return;
	}
	r->matched = &q->matched;
	r->rows = flow_rows;
}
