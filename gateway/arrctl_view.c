/* SPDX-License-Identifier: GPL-2.0-or-later */
/* arrctl_view.c - what each command shows to people. */
#include "gateway/arrctl.h"
#include "gateway/base/drop.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define COLUMNS(c) (c), sizeof(c) / sizeof((c)[0])

const char *member_text(const json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));

	return s ? s : "";
}

uint64_t member_number(const json_t *o, const char *key)
{
	return (uint64_t)json_integer_value(json_object_get(o, key));
}

static void view_egress(const json_t *egress)
{
	const json_t *pool = json_object_get(egress, "nat_pool");

	printf("egress    %s, nat %s", member_text(egress, "interface"),
		pool ? "" : member_text(egress, "nat"));
	for (size_t i = 0; i < json_array_size(pool); i++)
		printf("%s%s", i ? ", " : "", json_string_value(json_array_get(pool, i)));
	printf("\n");
	if (!pool)
		return;
	printf("nat       %" PRIu64 " flows", member_number(egress, "nat_flows"));
	if (json_object_get(egress, "nat_busiest_site"))
		printf(", the most of site %s: %" PRIu64, member_text(egress, "nat_busiest_site"),
			member_number(egress, "nat_busiest_site_flows"));
	printf("\n");
}

void view_status(struct view *v, const json_t *r)
{
	const json_t *egress = json_object_get(r, "egress"), *tunnels = json_object_get(r, "tunnels");
	const json_t *flows = json_object_get(r, "flows"), *ipsec = json_object_get(r, "ipsec");
	char up[HUMAN_LEN];

	(void)v;
	printf("arrd      %s, pid %" PRIu64 ", up %s\n", member_text(r, "version"), member_number(r, "pid"),
		human_seconds(member_number(r, "uptime_s"), up));
	printf("config    %s, reloads: %" PRIu64 " good, %" PRIu64 " failed\n", member_text(r, "config"),
		member_number(r, "reloads"), member_number(r, "failed_reloads"));
	printf("tun       %s\n", member_text(r, "tun"));
	view_egress(egress);
	printf("tunnels   %" PRIu64 " up, %" PRIu64 " down, of %" PRIu64 " sites\n",
		member_number(tunnels, "up"), member_number(tunnels, "down"), member_number(r, "sites"));
	printf("flows     %" PRIu64 " of at most %" PRIu64 "\n", member_number(flows, "used"),
		member_number(flows, "max"));
	if (ipsec)
		printf("ipsec     %" PRIu64 " established, %" PRIu64
		       " connecting, strongSwan %s, ciphers of %s\n",
			member_number(ipsec, "established"), member_number(ipsec, "connecting"),
			member_text(ipsec, "strongswan"), member_text(ipsec, "crypto"));
}

/* The sentence of a drop reason; "" for one that this program does not know. */
static const char *drop_sentence(const char *name)
{
	for (unsigned d = DROP_NONE + 1; d < DROP_COUNT; d++)
		if (strcmp(drop_name((enum drop)d), name) == 0)
			return drop_text((enum drop)d);
	return "";
}

void view_drops(const struct view *v, json_t *drops)
{
	static const struct column columns[] = {{"DROPPED", true}, {"REASON", false}, {"MEANING", false}};
	struct table *t;
	const char *name;
	json_t *count;

	if (!json_object_size(drops)) {
		printf("no packet was dropped\n");
		return;
	}
	t = table_new(COLUMNS(columns), v->colours);
	json_object_foreach(drops, name, count)
	{
		table_cell(t, PLAIN, "%" JSON_INTEGER_FORMAT, json_integer_value(count));
		table_cell(t, PLAIN, "%s", name);
		table_cell(t, PLAIN, "%s", drop_sentence(name));
	}
	table_print(t);
	table_free(t);
}

void view_stats(struct view *v, const json_t *r)
{
	static const char *const flow_keys[] = {"used", "max", "quarantined", "created", "moved", "expired",
		"evicted", "translated", "refused"};
	json_t *flows = json_object_get(r, "flows"), *count;
	const char *why;
	char p[HUMAN_LEN], o[HUMAN_LEN];

	printf("from branches  %s packets, %s\n", human_count(member_number(r, "rx_packets"), p),
		human_octets(member_number(r, "rx_bytes"), o));
	printf("to branches    %s packets, %s\n\n", human_count(member_number(r, "tx_packets"), p),
		human_octets(member_number(r, "tx_bytes"), o));
	for (size_t i = 0; i < sizeof(flow_keys) / sizeof(flow_keys[0]); i++)
		printf("flows %-11s  %" PRIu64 "\n", flow_keys[i], member_number(flows, flow_keys[i]));
	json_object_foreach(json_object_get(flows, "evicted_by"), why, count)
	{
		if (json_integer_value(count))
			printf("evicted, %-10s  %" JSON_INTEGER_FORMAT "\n", why, json_integer_value(count));
	}
	printf("\n");
	view_drops(v, json_object_get(r, "drops"));
}

void view_reload(struct view *v, const json_t *r)
{
	(void)v;
	printf("%sreloaded, %" PRIu64 " tunnels\n", member_text(r, "warnings"), member_number(r, "tunnels"));
}

void view_started(struct view *v, const json_t *r)
{
	(void)v;
	(void)r;
	printf("started; what comes of it, arrctl tunnels shows\n");
}

void view_flush(struct view *v, const json_t *r)
{
	(void)v;
	printf("%" PRIu64 " flows ended\n", member_number(r, "flushed"));
}

/* How many packets a tunnel dropped, and the most frequent reason. */
static void drops_cell(struct table *t, json_t *drops)
{
	json_int_t sum = 0, most = 0;
	const char *name, *why = "";
	char b[HUMAN_LEN];
	json_t *count;

	json_object_foreach(drops, name, count)
	{
		json_int_t n = json_integer_value(count);

		sum += n;
		if (n > most) {
			most = n;
			why = name;
		}
	}
	table_cell(t, sum ? MARKED : PLAIN, "%s%s%s", human_count((uint64_t)sum, b), *why ? " " : "", why);
}

static void counter_cells(struct table *t, const json_t *o, const char *packets, const char *octets)
{
	char b[HUMAN_LEN];

	table_cell(t, PLAIN, "%s", human_count(member_number(o, packets), b));
	table_cell(t, PLAIN, "%s", human_octets(member_number(o, octets), b));
}

static void state_cell(struct table *t, const json_t *tunnel)
{
	const char *state = member_text(tunnel, "state");
	const char *ike = member_text(json_object_get(tunnel, "ike"), "state");

	if (strcmp(state, "up") == 0)
		table_cell(t, GOOD, "%s", state);
	else if (strcmp(ike, "connecting") == 0)
		table_cell(t, MARKED, "%s", ike);
	else
		table_cell(t, BAD, "%s", state);
}

/* Where the branch is: of one that may come from anywhere, or that has moved, what the IKE_SA says. */
static const char *remote(const json_t *tunnel)
{
	const json_t *ike = json_object_get(tunnel, "ike");
	const char *at = member_text(json_object_get(ike, "remote"), "address");

	return *at && strcmp(member_text(ike, "state"), "established") == 0 ? at
									    : member_text(tunnel, "remote");
}

static void tunnel_cells(struct table *t, const json_t *tunnel)
{
	const json_t *key = json_object_get(tunnel, "gre_key");

	table_cell(t, PLAIN, "%s", member_text(tunnel, "name"));
	table_cell(t, PLAIN, "%s", member_text(tunnel, "site"));
	table_cell(t, PLAIN, "%s", member_text(tunnel, "type"));
	state_cell(t, tunnel);
	table_cell(t, PLAIN, "%s", member_text(tunnel, "local"));
	table_cell(t, PLAIN, "%s", remote(tunnel));
	if (key)
		table_cell(t, PLAIN, "%" JSON_INTEGER_FORMAT, json_integer_value(key));
	else
		table_cell(t, PLAIN, "-");
	table_cell(t, PLAIN, "%" PRIu64, member_number(tunnel, "flows"));
	counter_cells(t, tunnel, "rx_packets", "rx_bytes");
	counter_cells(t, tunnel, "tx_packets", "tx_bytes");
	drops_cell(t, json_object_get(tunnel, "drops"));
}

void view_tunnels(struct view *v, const json_t *rows)
{
	static const struct column columns[] = {{"TUNNEL", false}, {"SITE", false}, {"TYPE", false},
		{"STATE", false}, {"LOCAL", false}, {"REMOTE", false}, {"KEY", true}, {"FLOWS", true},
		{"RX", true}, {"", true}, {"TX", true}, {"", true}, {"DROPPED", false}};
	size_t i;
	json_t *t;

	if (!v->whole && !v->table)
		v->table = table_new(COLUMNS(columns), v->colours);
	json_array_foreach(rows, i, t)
	{
		if (v->whole)
			view_tunnel(v, t);
		else
			tunnel_cells(v->table, t);
		v->listed++;
	}
	if (v->table)
		table_print(v->table);
}

/* ---- flows ------------------------------------------------------------------------------------------ */

#define END_LEN 64

/* One end of a tuple: ADDRESS, ADDRESS:PORT or [ADDRESS]:PORT. port is the name of the port's member. */
static const char *end_str(const json_t *tuple, const char *addr, const char *port, bool ports, char *buf)
{
	const char *a = member_text(tuple, addr);

	if (!ports)
		snprintf(buf, END_LEN, "%s", a);
	else
		snprintf(buf, END_LEN, strchr(a, ':') ? "[%s]:%" PRIu64 : "%s:%" PRIu64, a,
			member_number(tuple, port));
	return buf;
}

static void flow_cells(struct table *t, const json_t *f)
{
	const json_t *orig = json_object_get(f, "orig"), *reply = json_object_get(f, "reply");
	bool echo = strncmp(member_text(f, "proto"), "icmp", 4) == 0;
	bool translated = json_is_true(json_object_get(f, "translated"));
	bool ports = !echo && (member_number(orig, "sport") || member_number(orig, "dport"));
	char a[END_LEN], b[END_LEN];

	end_str(orig, "src", "sport", ports, a);
	end_str(orig, "dst", "dport", ports, b);
	if (echo) /* the identifier stands where a port would */
		table_cell(t, PLAIN, "%s > %s id %" PRIu64, a, b, member_number(orig, "sport"));
	else
		table_cell(t, PLAIN, "%s > %s", a, b);
	if (!translated)
		table_cell(t, PLAIN, "-");
	else if (echo)
		table_cell(t, MARKED, "%s id %" PRIu64, member_text(reply, "dst"),
			member_number(reply, "dport"));
	else
		table_cell(t, MARKED, "%s", end_str(reply, "dst", "dport", ports, a));
}

void view_flows(struct view *v, const json_t *rows)
{
	static const struct column columns[] = {{"SITE", false}, {"TUNNEL", false}, {"PROTO", false},
		{"STATE", false}, {"FLOW", false}, {"SEEN AS", false}, {"IDLE", true}, {"EXPIRES", true},
		{"SENT", true}, {"", true}, {"REPLIED", true}, {"", true}};
	char b[HUMAN_LEN];
	size_t i;
	json_t *f;

	if (!v->table)
		v->table = table_new(COLUMNS(columns), v->colours);
	json_array_foreach(rows, i, f)
	{
		table_cell(v->table, PLAIN, "%s", member_text(f, "site"));
		table_cell(v->table, PLAIN, "%s", member_text(f, "tunnel"));
		table_cell(v->table, PLAIN, "%s", member_text(f, "proto"));
		table_cell(v->table, PLAIN, "%s", member_text(f, "state"));
		flow_cells(v->table, f);
		table_cell(v->table, PLAIN, "%s", human_seconds(member_number(f, "idle_s"), b));
		table_cell(v->table, PLAIN, "%s", human_seconds(member_number(f, "expires_s"), b));
		counter_cells(v->table, f, "orig_packets", "orig_bytes");
		counter_cells(v->table, f, "reply_packets", "reply_bytes");
		v->listed++;
	}
	table_print(v->table);
}

/* ---- events ----------------------------------------------------------------------------------------- */

void view_event(struct view *v, const json_t *e)
{
	/* The first line is printed before there is another one to settle the widths by. */
	static const struct column columns[] = {{"TIME", false, 24}, {"EVENT", false, 6}, {"SITE", false, 12},
		{"TUNNEL", false, 12}, {"PROTO", false, 6}, {"FLOW", false, 40}, {"SEEN AS", false, 20},
		{"SENT", true, 4}, {"", true, 6}, {"REPLIED", true, 4}, {"", true, 6}, {"WHY", false}};
	const char *event = member_text(e, "event"), *from = member_text(e, "from");

	if (!v->table)
		v->table = table_new(COLUMNS(columns), v->colours);
	if (!e || strcmp(event, "follow") == 0)
		return;
	table_cell(v->table, PLAIN, "%s", member_text(e, "time"));
	if (strcmp(event, "lost") == 0) {
		table_cell(v->table, BAD, "%s", event);
		for (int i = 0; i < 9; i++)
			table_cell(v->table, PLAIN, "%s", "");
		table_cell(v->table, BAD, "%" PRIu64 " events, not read in time", member_number(e, "count"));
		return;
	}
	table_cell(v->table, strcmp(event, "evict") == 0 ? MARKED : PLAIN, "%s", event);
	table_cell(v->table, PLAIN, "%s", member_text(e, "site"));
	table_cell(v->table, PLAIN, "%s", member_text(e, "tunnel"));
	table_cell(v->table, PLAIN, "%s", member_text(e, "proto"));
	flow_cells(v->table, e);
	counter_cells(v->table, e, "orig_packets", "orig_bytes");
	counter_cells(v->table, e, "reply_packets", "reply_bytes");
	table_cell(v->table, PLAIN, "%s%s", *from ? "from " : member_text(e, "reason"), from);
	v->listed++;
}
