/* SPDX-License-Identifier: GPL-2.0-or-later */
/* arrctl_view.c - what each command shows to people. */
#include "gateway/arrctl.h"
#include "gateway/base/drop.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define COLUMNS(c) (c), sizeof(c) / sizeof((c)[0])

/* Members of an object; of a missing one, "" and 0: an older daemon may not send it. */
static const char *text(const json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));

	return s ? s : "";
}

static uint64_t number(const json_t *o, const char *key)
{
	return (uint64_t)json_integer_value(json_object_get(o, key));
}

void view_status(struct view *v, const json_t *r)
{
	const json_t *egress = json_object_get(r, "egress"), *tunnels = json_object_get(r, "tunnels");
	const json_t *flows = json_object_get(r, "flows");
	char up[HUMAN_LEN];

	(void)v;
	printf("arrd      %s, pid %" PRIu64 ", up %s\n", text(r, "version"), number(r, "pid"),
		human_seconds(number(r, "uptime_s"), up));
	printf("config    %s, reloads: %" PRIu64 " good, %" PRIu64 " failed\n", text(r, "config"),
		number(r, "reloads"), number(r, "failed_reloads"));
	printf("tun       %s\n", text(r, "tun"));
	printf("egress    %s, nat %s\n", text(egress, "interface"), text(egress, "nat"));
	printf("tunnels   %" PRIu64 " up, %" PRIu64 " down, of %" PRIu64 " sites\n", number(tunnels, "up"),
		number(tunnels, "down"), number(r, "sites"));
	printf("flows     %" PRIu64 " of at most %" PRIu64 "\n", number(flows, "used"), number(flows, "max"));
}

/* The sentence of a drop reason; "" for one that this program does not know. */
static const char *drop_sentence(const char *name)
{
	for (unsigned d = DROP_NONE + 1; d < DROP_COUNT; d++)
		if (strcmp(drop_name((enum drop)d), name) == 0)
			return drop_text((enum drop)d);
	return "";
}

void view_stats(struct view *v, const json_t *r)
{
	static const struct column columns[] = {{"DROPPED", true}, {"REASON", false}, {"MEANING", false}};
	static const char *const flow_keys[] = {
		"used", "max", "quarantined", "created", "expired", "evicted", "translated", "refused"};
	json_t *flows = json_object_get(r, "flows"), *drops = json_object_get(r, "drops"), *count;
	char p[HUMAN_LEN], o[HUMAN_LEN];
	const char *name;

	printf("from branches  %s packets, %s\n", human_count(number(r, "rx_packets"), p),
		human_octets(number(r, "rx_bytes"), o));
	printf("to branches    %s packets, %s\n\n", human_count(number(r, "tx_packets"), p),
		human_octets(number(r, "tx_bytes"), o));
	for (size_t i = 0; i < sizeof(flow_keys) / sizeof(flow_keys[0]); i++)
		printf("flows %-11s  %" PRIu64 "\n", flow_keys[i], number(flows, flow_keys[i]));
	printf("\n");
	if (!json_object_size(drops)) {
		printf("no packet was dropped\n");
		return;
	}
	v->table = table_new(COLUMNS(columns), v->colours);
	json_object_foreach(drops, name, count)
	{
		table_cell(v->table, PLAIN, "%" JSON_INTEGER_FORMAT, json_integer_value(count));
		table_cell(v->table, PLAIN, "%s", name);
		table_cell(v->table, PLAIN, "%s", drop_sentence(name));
	}
	table_print(v->table);
}

void view_reload(struct view *v, const json_t *r)
{
	(void)v;
	printf("%sreloaded, %" PRIu64 " tunnels\n", text(r, "warnings"), number(r, "tunnels"));
}

void view_flush(struct view *v, const json_t *r)
{
	(void)v;
	printf("%" PRIu64 " flows ended\n", number(r, "flushed"));
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

	table_cell(t, PLAIN, "%s", human_count(number(o, packets), b));
	table_cell(t, PLAIN, "%s", human_octets(number(o, octets), b));
}

void view_tunnels(struct view *v, const json_t *rows)
{
	static const struct column columns[] = {{"TUNNEL", false}, {"SITE", false}, {"TYPE", false},
		{"STATE", false}, {"LOCAL", false}, {"REMOTE", false}, {"KEY", true}, {"FLOWS", true},
		{"RX", true}, {"", true}, {"TX", true}, {"", true}, {"DROPPED", false}};
	size_t i;
	json_t *t;

	if (!v->table)
		v->table = table_new(COLUMNS(columns), v->colours);
	json_array_foreach(rows, i, t)
	{
		const char *state = text(t, "state");
		const json_t *key = json_object_get(t, "gre_key");

		table_cell(v->table, PLAIN, "%s", text(t, "name"));
		table_cell(v->table, PLAIN, "%s", text(t, "site"));
		table_cell(v->table, PLAIN, "%s", text(t, "type"));
		table_cell(v->table, strcmp(state, "up") == 0 ? GOOD : BAD, "%s", state);
		table_cell(v->table, PLAIN, "%s", text(t, "local"));
		table_cell(v->table, PLAIN, "%s", text(t, "remote"));
		if (key)
			table_cell(v->table, PLAIN, "%" JSON_INTEGER_FORMAT, json_integer_value(key));
		else
			table_cell(v->table, PLAIN, "-");
		table_cell(v->table, PLAIN, "%" PRIu64, number(t, "flows"));
		counter_cells(v->table, t, "rx_packets", "rx_bytes");
		counter_cells(v->table, t, "tx_packets", "tx_bytes");
		drops_cell(v->table, json_object_get(t, "drops"));
		v->listed++;
	}
	table_print(v->table);
}

/* ---- flows ------------------------------------------------------------------------------------------ */

#define END_LEN 64

/* One end of a tuple: ADDRESS, ADDRESS:PORT or [ADDRESS]:PORT. port is the name of the port's member. */
static const char *end_str(const json_t *tuple, const char *addr, const char *port, bool ports, char *buf)
{
	const char *a = text(tuple, addr);

	if (!ports)
		snprintf(buf, END_LEN, "%s", a);
	else
		snprintf(buf, END_LEN, strchr(a, ':') ? "[%s]:%" PRIu64 : "%s:%" PRIu64, a,
			number(tuple, port));
	return buf;
}

static void flow_cells(struct table *t, const json_t *f)
{
	const json_t *orig = json_object_get(f, "orig"), *reply = json_object_get(f, "reply");
	bool echo = strncmp(text(f, "proto"), "icmp", 4) == 0;
	bool translated = json_is_true(json_object_get(f, "translated"));
	bool ports = !echo && (number(orig, "sport") || number(orig, "dport"));
	char a[END_LEN], b[END_LEN];

	end_str(orig, "src", "sport", ports, a);
	end_str(orig, "dst", "dport", ports, b);
	if (echo) /* the identifier stands where a port would */
		table_cell(t, PLAIN, "%s > %s id %" PRIu64, a, b, number(orig, "sport"));
	else
		table_cell(t, PLAIN, "%s > %s", a, b);
	if (!translated)
		table_cell(t, PLAIN, "-");
	else if (echo)
		table_cell(t, MARKED, "%s id %" PRIu64, text(reply, "dst"), number(reply, "dport"));
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
		table_cell(v->table, PLAIN, "%s", text(f, "site"));
		table_cell(v->table, PLAIN, "%s", text(f, "tunnel"));
		table_cell(v->table, PLAIN, "%s", text(f, "proto"));
		table_cell(v->table, PLAIN, "%s", text(f, "state"));
		flow_cells(v->table, f);
		table_cell(v->table, PLAIN, "%s", human_seconds(number(f, "idle_s"), b));
		table_cell(v->table, PLAIN, "%s", human_seconds(number(f, "expires_s"), b));
		counter_cells(v->table, f, "orig_packets", "orig_bytes");
		counter_cells(v->table, f, "reply_packets", "reply_bytes");
		v->listed++;
	}
	table_print(v->table);
}
