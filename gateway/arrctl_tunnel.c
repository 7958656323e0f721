/* SPDX-License-Identifier: GPL-2.0-or-later */
/* arrctl_tunnel.c - all about one tunnel, as a block of lines. */
#include "gateway/arrctl.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A line; what is in it may come from a peer: octets that steer a terminal are not handed on. */
static void put_line(const char *label, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void put_line(const char *label, const char *fmt, ...)
{
	char *text;
	va_list ap;

	va_start(ap, fmt);
	if (vasprintf(&text, fmt, ap) < 0)
		abort();
	va_end(ap);
	for (char *p = text; *p; p++) {
		unsigned char c = (unsigned char)*p, next = (unsigned char)p[1];

		if (c < 0x20 || c == 0x7f) {
			*p = '?';
		} else if (c == 0xc2 && next >= 0x80 && next < 0xa0) { /* C1 controls in UTF-8 */
			p[0] = p[1] = '?';
		}
	}
	printf("%-11s %s\n", label, text);
	free(text);
}

/* ---- the tunnel itself ------------------------------------------------------------------------------ */

static void traffic(
	const char *label, const json_t *t, const char *packets, const char *octets, const char *more)
{
	char p[HUMAN_LEN], o[HUMAN_LEN];

	put_line(label, "%s packets, %s%s", human_count(member_number(t, packets), p),
		human_octets(member_number(t, octets), o), more);
}

static void general(const json_t *t)
{
	char ago[HUMAN_LEN], last[HUMAN_LEN + 16] = "";

	put_line("tunnel", "%s of site %s, %s", member_text(t, "name"), member_text(t, "site"),
		member_text(t, "state"));
	put_line("type", "%s", member_text(t, "type"));
	if (json_object_get(t, "over"))
		put_line("over", "%s", member_text(t, "over"));
	put_line("local", "%s", member_text(t, "local"));
	put_line("remote", "%s", member_text(t, "remote"));
	if (json_object_get(t, "gre_key"))
		put_line("key", "%" PRIu64, member_number(t, "gre_key"));
	put_line("mtu", "%" PRIu64, member_number(t, "mtu"));
	if (json_object_get(t, "pmtu"))
		put_line("path mtu", "%" PRIu64, member_number(t, "pmtu"));
	put_line("priority", "%" PRIu64, member_number(t, "priority"));
	put_line("flows", "%" PRIu64, member_number(t, "flows"));
	if (json_object_get(t, "rx_last_s"))
		snprintf(last, sizeof(last), ", the last %s ago",
			human_seconds(member_number(t, "rx_last_s"), ago));
	traffic("received", t, "rx_packets", "rx_bytes", last);
	traffic("sent", t, "tx_packets", "tx_bytes", "");
}

/* ---- IKE -------------------------------------------------------------------------------------------- */

#define PLACE_LEN 80

static const char *place_str(const json_t *end, char buf[static PLACE_LEN])
{
	const char *a = member_text(end, "address");

	snprintf(buf, PLACE_LEN, strchr(a, ':') ? "[%s]:%" PRIu64 : "%s:%" PRIu64, a,
		member_number(end, "port"));
	return buf;
}

static void who(const char *label, const json_t *ike, const char *end, const char *id)
{
	const json_t *e = json_object_get(ike, end);
	const char *name = member_text(ike, id);
	char b[PLACE_LEN];

	if (e)
		put_line(label, "%s%s%s", name, *name ? " at " : "", place_str(e, b));
}

static void due(const char *label, const json_t *o, const char *key)
{
	char b[HUMAN_LEN];

	if (json_object_get(o, key))
		put_line(label, "in %s", human_seconds(member_number(o, key), b));
	else
		put_line(label, "never");
}

static const char *nat_text(const char *nat)
{
	static const char *const texts[][2] = {{"none", "none"}, {"local", "before the gateway"},
		{"remote", "before the branch"}, {"both", "before the gateway and before the branch"}};

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		if (strcmp(texts[i][0], nat) == 0)
			return texts[i][1];
	return nat;
}

static void ike_part(const json_t *ike)
{
	const char *state = member_text(ike, "state"), *role = member_text(ike, "role");
	const char *failure = member_text(ike, "last_failure");
	char b[HUMAN_LEN];

	printf("\n");
	if (strcmp(state, "established") == 0) {
		put_line("IKE_SA", "%s for %s, as %s", state, human_seconds(member_number(ike, "age_s"), b),
			role);
		who("branch", ike, "remote", "remote_id");
		who("gateway", ike, "local", "local_id");
		put_line("NAT", "%s", nat_text(member_text(ike, "nat")));
		put_line("algorithms", "%s", member_text(ike, "algorithms"));
		due("rekey", ike, "rekey_in_s");
		due("reauth", ike, "reauth_in_s");
	} else {
		put_line("IKE_SA", "%s%s%s", state, *role ? ", as " : "", role);
		who("branch", ike, "remote", "remote_id");
		who("gateway", ike, "local", "local_id");
	}
	put_line("failures", "%" PRIu64 "%s%s", member_number(ike, "failures"),
		*failure ? ", the last: " : "", failure);
}

/* ---- security associations -------------------------------------------------------------------------- */

static void time_cell(struct table *t, const json_t *sa, const char *key)
{
	char b[HUMAN_LEN];

	table_cell(t, PLAIN, "%s",
		json_object_get(sa, key) ? human_seconds(member_number(sa, key), b) : "never");
}

/* A number that only inbound SAs have. */
static void inbound_cell(struct table *t, const json_t *sa, const char *key, bool bad)
{
	uint64_t n = member_number(sa, key);

	if (json_object_get(sa, key))
		table_cell(t, bad && n ? MARKED : PLAIN, "%" PRIu64, n);
	else
		table_cell(t, PLAIN, "-");
}

static void sa_cells(struct table *t, const json_t *sa)
{
	bool current = json_is_true(json_object_get(sa, "current"));
	char b[HUMAN_LEN];

	table_cell(
		t, current ? GOOD : PLAIN, "%s%s", member_text(sa, "direction"), current ? ", in use" : "");
	table_cell(t, PLAIN, "%s", member_text(sa, "spi"));
	table_cell(t, PLAIN, "%s%s", member_text(sa, "suite"),
		json_is_true(json_object_get(sa, "esn")) ? ", ESN" : "");
	table_cell(t, PLAIN, "%s%s", member_text(sa, "mode"),
		json_is_true(json_object_get(sa, "udp")) ? " in UDP" : "");
	time_cell(t, sa, "age_s");
	time_cell(t, sa, "rekey_in_s");
	time_cell(t, sa, "expires_in_s");
	table_cell(t, PLAIN, "%s", human_count(member_number(sa, "packets"), b));
	table_cell(t, PLAIN, "%s", human_octets(member_number(sa, "bytes"), b));
	inbound_cell(t, sa, "replay_window", false);
	inbound_cell(t, sa, "replayed", true);
	inbound_cell(t, sa, "bad_icv", true);
}

static void children_part(const struct view *v, const json_t *tunnel)
{
	static const struct column columns[] = {{"SA", false}, {"SPI", false}, {"ALGORITHMS", false},
		{"MODE", false}, {"AGE", true}, {"REKEY IN", true}, {"ENDS IN", true}, {"PACKETS", true},
		{"", true}, {"WINDOW", true}, {"REPLAYED", true}, {"BAD ICV", true}};
	const json_t *children = json_object_get(tunnel, "children");
	uint64_t more = member_number(tunnel, "children_more");
	struct table *t;
	size_t i;
	json_t *sa;

	printf("\n");
	if (!json_array_size(children)) {
		printf("no CHILD_SA\n");
		return;
	}
	t = table_new(columns, sizeof(columns) / sizeof(columns[0]), v->colours);
	json_array_foreach(children, i, sa)
	{
		sa_cells(t, sa);
	}
	table_print(t);
	table_free(t);
	if (more)
		printf("… and %" PRIu64 " more\n", more);
}

void view_tunnel(const struct view *v, const json_t *tunnel)
{
	const json_t *ike = json_object_get(tunnel, "ike");

	general(tunnel);
	if (ike) {
		ike_part(ike);
		children_part(v, tunnel);
	}
	printf("\n");
	view_drops(v, json_object_get(tunnel, "drops"));
}
