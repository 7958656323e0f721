/* SPDX-License-Identifier: GPL-2.0-or-later */
/* control_cmd.c - requests of the control socket: reading them, and the commands that answer at once.
 *
 * doc/control-protocol.md is the specification. One table names each command, who may give it, and the
 * arguments that it knows; a request with anything else in it is refused, since a filter that is misspelled
 * must not become "all of them".
 */
#include "gateway/control_private.h"
#include "gateway/egress.h"
#include "gateway/gateway.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <uv.h>

#define ERRORS_MAX (16u * 1024) /* octets of configuration errors that are handed on; six each when escaped */
_Static_assert(6 * ERRORS_MAX + CONTROL_ROW_MAX <= CONTROL_OUT_MAX, "the errors of a reload fit one answer");

void control_answer_begin(const struct control_request *r, struct jsonw *w)
{
	jw_open(w, NULL, '{');
	if (r->has_id)
		jw_u64(w, "id", (uint64_t)r->id);
	else
		jw_null(w, "id");
}

void control_result_begin(const struct control_request *r, struct jsonw *w)
{
	control_answer_begin(r, w);
	jw_open(w, "result", '{');
}

void control_result_end(struct jsonw *w)
{
	jw_close(w, '}');
	jw_close(w, '}');
}

static void put_error(struct jsonw *w, const char *code, const char *message, size_t max)
{
	jw_open(w, "error", '{');
	jw_str(w, "code", code);
	jw_text(w, "message", message, max);
	jw_close(w, '}');
	jw_close(w, '}');
}

void control_error(const struct control_request *r, struct jsonw *w, const char *code, const char *fmt, ...)
{
	char message[256];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(message, sizeof(message), fmt, ap);
	va_end(ap);
	control_answer_begin(r, w);
	put_error(w, code, message, sizeof(message));
}

void control_hello(const struct control_peer *peer, bool place, struct jsonw *w)
{
	jw_open(w, NULL, '{');
	if (peer->access == CONTROL_REFUSED) {
		put_error(w, "access", "neither root, arrd's own user, nor in gateway.control_group", 128);
		return;
	}
	if (!place) {
		put_error(w, "busy", "too many clients", 128);
		return;
	}
	jw_str(w, "arrd", ARRD_VERSION);
	jw_u64(w, "protocol", CONTROL_PROTOCOL);
	jw_str(w, "access", peer->access == CONTROL_ADMIN ? "admin" : "read");
	jw_close(w, '}');
}

bool control_arg_str(const struct control_request *r, struct jsonw *w, const json_t *args, const char *key,
	const char **out)
{
	const json_t *v = json_object_get(args, key);

	if (!v)
		return true;
	if (!json_is_string(v)) {
		control_error(r, w, "invalid_argument", "%s: must be a string", key);
		return false;
	}
	*out = json_string_value(v);
	return true;
}

/* ---- commands --------------------------------------------------------------------------------------- */

static const char *range_text(const struct addr_range *r, char *buf, size_t len)
{
	char first[ADDR_STRLEN], last[ADDR_STRLEN];

	snprintf(buf, len, "%s-%s", addr_str(&r->first, first), addr_str(&r->last, last));
	if (addr_eq(&r->first, &r->last))
		snprintf(buf, len, "%s", first);
	return buf;
}

/* nat, its addresses, and which site has the most flows of them. */
static void put_nat(struct jsonw *w, const struct gateway *gw)
{
	static const char *const kinds[] = {
		[NAT_NONE] = "none", [NAT_MASQUERADE] = "masquerade", [NAT_POOL] = "pool"};
	const struct conf_egress *e = &gw->conf->egress;
	char text[2 * ADDR_STRLEN + 1];
	uint32_t most = 0;
	fs_id site = FS_ID_NONE;
	struct tunnel *t;

	jw_str(w, "nat", kinds[e->nat]);
	if (e->nat != NAT_POOL)
		return;
	jw_open(w, "nat_pool", '[');
	for (int k = 0; k < 2; k++)
		if (addr_range_count(&e->nat_pool[k]))
			jw_str(w, NULL, range_text(&e->nat_pool[k], text, sizeof(text)));
	jw_close(w, ']');
	for (uint32_t i = 0; (t = tunnels_at(gw->tunnels, i)); i++) {
		uint32_t n = fs_site_translated(gw->fs, t->site);

		if (n > most) {
			most = n;
			site = t->site;
		}
	}
	jw_u64(w, "nat_flows", fs_attach_flows(gw->fs, gw->egress_id));
	if (site != FS_ID_NONE) {
		jw_str(w, "nat_busiest_site", fs_name(gw->fs, site));
		jw_u64(w, "nat_busiest_site_flows", most);
	}
}

static void run_status(struct control_request *r, const json_t *args, struct jsonw *w)
{
	const struct gateway *gw = r->gw;
	const struct config *c = gw->conf;
	uint64_t now = gateway_now(), seen[FS_SLOTS / 64] = {0};
	uint32_t up = 0, down = 0, sites = 0;
	struct fs_stats fs;
	struct tunnel *t;

	(void)args;
	for (uint32_t i = 0; (t = tunnels_at(gw->tunnels, i)); i++) {
		uint64_t bit = UINT64_C(1) << (FS_SLOT(t->site) % 64), *word = &seen[FS_SLOT(t->site) / 64];

		sites += t->site != FS_ID_NONE && !(*word & bit);
		*word |= bit;
		if (tunnel_state(t, now) == TUNNEL_UP)
			up++;
		else
			down++;
	}
	fs_get_stats(gw->fs, &fs);

	control_result_begin(r, w);
	jw_str(w, "version", ARRD_VERSION);
	jw_u64(w, "pid", (uint64_t)getpid());
	jw_u64(w, "uptime_s", (now - gw->started_ms) / 1000);
	jw_str(w, "config", c->path);
	jw_u64(w, "reloads", gw->reloads);
	jw_u64(w, "failed_reloads", gw->failed_reloads);
	jw_str(w, "tun", c->gateway.tun);
	jw_open(w, "egress", '{');
	jw_str(w, "interface", gw->egress ? egress_interface(gw->egress) : c->egress.interface);
	put_nat(w, gw);
	jw_close(w, '}');
	jw_open(w, "tunnels", '{');
	jw_u64(w, "up", up);
	jw_u64(w, "down", down);
	jw_close(w, '}');
	jw_u64(w, "sites", sites);
	jw_open(w, "flows", '{');
	jw_u64(w, "used", fs.used);
	jw_u64(w, "max", fs.max);
	jw_close(w, '}');
	control_put_ipsec_status(w, gw);
	control_result_end(w);
}

static void count_add(struct counters *sum, const struct counters *c)
{
	sum->rx_packets += c->rx_packets;
	sum->rx_bytes += c->rx_bytes;
	sum->tx_packets += c->tx_packets;
	sum->tx_bytes += c->tx_bytes;
	for (unsigned d = 0; d < DROP_COUNT; d++)
		sum->drops[d] += c->drops[d];
}

static void run_stats(struct control_request *r, const json_t *args, struct jsonw *w)
{
	struct counters sum = r->gw->count;
	struct fs_stats fs;
	struct tunnel *t;

	(void)args;
	for (uint32_t i = 0; (t = tunnels_at(r->gw->tunnels, i)); i++)
		count_add(&sum, &t->count);
	fs_get_stats(r->gw->fs, &fs);

	control_result_begin(r, w);
	jw_open(w, "flows", '{');
	jw_u64(w, "used", fs.used);
	jw_u64(w, "max", fs.max);
	jw_u64(w, "quarantined", fs.quarantined);
	jw_u64(w, "created", fs.created);
	jw_u64(w, "expired", fs.expired);
	jw_u64(w, "evicted", fs.evicted);
	jw_u64(w, "translated", fs.translated);
	jw_u64(w, "refused", fs.refused);
	jw_u64(w, "moved", fs.moved);
	jw_open(w, "evicted_by", '{');
	for (unsigned why = FS_END_EXPIRED + 1; why < FS_END_COUNT; why++)
		jw_u64(w, fs_end_name((enum fs_end_why)why), fs.ended[why]);
	jw_close(w, '}');
	jw_close(w, '}');
	control_put_counters(w, &sum);
	control_result_end(w);
}

static void run_reload(struct control_request *r, const json_t *args, struct jsonw *w)
{
	char *errors = NULL;
	int err;

	(void)args;
	log_notice(r->gw->log, "control", NULL, "reload asked for by uid %u, pid %d", (unsigned)r->peer.uid,
		(int)r->peer.pid);
	err = gateway_reload(r->gw, &errors);
	if (err) {
		control_answer_begin(r, w);
		put_error(w, err == -EINVAL ? "config" : "failed", errors ? errors : uv_strerror(err),
			ERRORS_MAX);
	} else {
		control_result_begin(r, w);
		jw_u64(w, "tunnels", tunnels_count(r->gw->tunnels));
		jw_u64(w, "reloads", r->gw->reloads);
		if (r->gw->conf->warnings)
			jw_text(w, "warnings", r->gw->conf->warnings, ERRORS_MAX);
		control_result_end(w);
	}
	free(errors);
}

/* Flows that begin meanwhile may be among them, or not. */
static bool flush_step(struct control_request *r, struct jsonw *w, uint64_t deadline_ns)
{
	struct flush_query *q = &r->flush;

	while (gateway_flush(r->gw, q->tunnel, q->site, &q->cursor, &q->ended))
		if (uv_hrtime() >= deadline_ns)
			return false;
	log_notice(r->gw->log, "control", NULL, "%u flows of %s ended, asked for by uid %u, pid %d", q->ended,
		q->what, (unsigned)r->peer.uid, (int)r->peer.pid);
	control_result_begin(r, w);
	jw_u64(w, "flushed", q->ended);
	control_result_end(w);
	return true;
}

/* Ends flows. Exactly one of the three arguments says whose: "all" is never meant by leaving something out. */
static void run_flush(struct control_request *r, const json_t *args, struct jsonw *w)
{
	const char *tunnel = NULL, *site = NULL;
	bool all = json_is_true(json_object_get(args, "all"));
	fs_id tunnel_id = FS_ID_NONE, site_id = FS_ID_NONE;

	if (!control_arg_str(r, w, args, "tunnel", &tunnel) || !control_arg_str(r, w, args, "site", &site))
		return;
	if (json_object_size(args) != 1 || !(tunnel || site || all)) {
		control_error(
			r, w, "invalid_argument", "exactly one of tunnel, site, all (true) must be given");
		return;
	}
	if (tunnel) {
		const struct tunnel *t = tunnels_by_name(r->gw->tunnels, tunnel);
		if (t)
			tunnel_id = t->id;
	} else if (site) {
		site_id = fs_lookup_name(r->gw->fs, FS_SITE, site);
	}
	if (!all && tunnel_id == FS_ID_NONE && site_id == FS_ID_NONE) {
		control_error(r, w, "not_found", "no %s has this name", tunnel ? "tunnel" : "site");
		return;
	}
	r->flush = (struct flush_query){.tunnel = tunnel_id, .site = site_id};
	snprintf(r->flush.what, sizeof(r->flush.what), "%s%s",
		tunnel ? "tunnel "
		: site ? "site "
		       : "all tunnels",
		tunnel ? tunnel
		: site ? site
		       : "");
	r->work = flush_step;
}

/* ---- the table, and reading requests ---------------------------------------------------------------- */

static const struct command {
	const char *name;
	enum control_access access;
	const char *args[9]; /* the last one is NULL */
	void (*run)(struct control_request *r, const json_t *args, struct jsonw *w);
} commands[] = {
	{"status", CONTROL_READ, {NULL}, run_status},
	{"tunnels", CONTROL_READ, {"tunnel", NULL}, control_list_tunnels},
	{"flows", CONTROL_READ, {"site", "tunnel", "src", "dst", "proto", "state", "limit", "follow", NULL},
		control_list_flows},
	{"stats", CONTROL_READ, {NULL}, run_stats},
	{"reload", CONTROL_ADMIN, {NULL}, run_reload},
	{"flush", CONTROL_ADMIN, {"tunnel", "site", "all", NULL}, run_flush},
	{"initiate", CONTROL_ADMIN, {"tunnel", NULL}, control_initiate},
	{"rekey", CONTROL_ADMIN, {"tunnel", "ike", NULL}, control_rekey},
	{"terminate", CONTROL_ADMIN, {"tunnel", NULL}, control_terminate},
};

static const struct command *command_by_name(const char *name)
{
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
		if (strcmp(commands[i].name, name) == 0)
			return &commands[i];
	return NULL;
}

static bool known(const char *const *names, const char *name)
{
	while (*names && strcmp(*names, name) != 0)
		names++;
	return *names != NULL;
}

/* The first key of obj that names does not have, or NULL. */
static const char *unknown_key(json_t *obj, const char *const *names)
{
	const char *key;
	json_t *v;

	json_object_foreach(obj, key, v) if (!known(names, key)) return key;
	return NULL;
}

/* Checks the form of a request and runs its command. */
static void handle(struct control_request *r, json_t *req, struct jsonw *w)
{
	static const char *const keys[] = {"id", "command", "args", NULL};
	const char *name = json_string_value(json_object_get(req, "command")), *bad;
	const json_t *id = json_object_get(req, "id");
	json_t *args = json_object_get(req, "args");
	const struct command *cmd;

	if (json_is_integer(id) && json_integer_value(id) >= 0) {
		r->has_id = true;
		r->id = json_integer_value(id);
	} else if (id) {
		control_error(r, w, "invalid_request", "id: must be an integer of 0 or more");
		return;
	}
	if (!name || (args && !json_is_object(args))) {
		control_error(
			r, w, "invalid_request", "must be {\"id\": N, \"command\": \"NAME\", \"args\": {…}}");
		return;
	}
	bad = unknown_key(req, keys);
	if (bad) {
		control_error(r, w, "invalid_request", "%.64s: is not a member of a request", bad);
		return;
	}
	cmd = command_by_name(name);
	if (!cmd) {
		control_error(r, w, "unknown_command", "%.64s: there is no such command", name);
		return;
	}
	if (r->peer.access < cmd->access) {
		control_error(r, w, "access", "%s: only root and arrd's own user may do this", cmd->name);
		return;
	}
	bad = unknown_key(args, cmd->args);
	if (bad) {
		control_error(r, w, "invalid_argument", "%.64s: %s has no such argument", bad, cmd->name);
		return;
	}
	cmd->run(r, args, w);
}

static bool blank(const char *s, size_t len)
{
	while (len && (*s == ' ' || *s == '\t' || *s == '\r')) {
		s++;
		len--;
	}
	return len == 0;
}

void control_dispatch(struct control_request *r, const char *line, size_t len, struct jsonw *w)
{
	json_error_t err;
	json_t *req;

	r->has_id = false;
	r->rows = NULL;
	r->work = NULL;
	if (blank(line, len))
		return;
	/* Bounded: len by the caller, depth by JSON_PARSER_MAX_DEPTH (2048) of the library. */
	req = json_loadb(line, len, JSON_REJECT_DUPLICATES, &err);
	if (json_is_object(req))
		handle(r, req, w);
	else if (req)
		control_error(r, w, "invalid_request", "must be an object");
	else
		control_error(r, w, "invalid_json", "octet %d: %s", err.position, err.text);
	json_decref(req);
	if (control_goes_on(r))
		control_page(r, w);
}

void control_page(struct control_request *r, struct jsonw *w)
{
	uint64_t deadline_ns = uv_hrtime() + CONTROL_PAGE_NS;
	size_t start;
	bool done;

	if (r->work) {
		if (r->work(r, w, deadline_ns))
			r->work = NULL;
		return;
	}
	control_answer_begin(r, w);
	jw_open(w, "rows", '[');
	start = w->len;
	done = r->rows(r, w, deadline_ns);
	if (!done && w->len == start) {
		w->len = 0;
		return;
	}
	jw_close(w, ']');
	jw_bool(w, "more", !done);
	if (done) {
		jw_u64(w, "matched", *r->matched);
		r->rows = NULL;
	}
	jw_close(w, '}');
}
