/* SPDX-License-Identifier: GPL-2.0-or-later */
/* arrctl.c - looks into a running arrd, and steers it.
 *
 * Two tables say everything: the commands, and the options with the commands that take them. Parsing, help
 * and the daemon's arguments come from them. An option becomes the argument of the same name.
 */
#include "gateway/arrctl.h"
#include "gateway/gateway.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SOCKET_DEFAULT "/run/arrd/control.sock"
#define ROWS_DEFAULT   100 /* of a table of flows */

/* The commands that take options of their own. */
enum { FLOWS = 1, FLUSH = 2, TUNNELS = 4, STEER = 8, REKEY = 16 };

#define STARTED                                                                                              \
	"--tunnel must be given, one of type ipsec. It is begun at once and done by the key\n"               \
	"exchange afterwards: arrctl tunnels and the daemon's log show what came of it.\n"

static const struct command {
	const char *name;
	unsigned bit;
	const char *summary, *more;
	void (*result)(struct view *v, const json_t *result);
	void (*rows)(struct view *v, const json_t *rows);
} commands[] = {
	{"status", 0, "show the daemon, its configuration and totals", "", view_status, NULL},
	{"tunnels", TUNNELS, "list the tunnels, or show one in full",
		"RX is what came from the branch, TX what was sent to it: inner packets and their\n"
		"octets. DROPPED is followed by the most frequent reason. With --tunnel: all about it,\n"
		"with its IKE_SA and CHILD_SAs.\n",
		NULL, view_tunnels},
	{"flows", FLOWS, "list the flows",
		"Replies to a flow go to its TUNNEL, whatever their destination address. SEEN AS is\n"
		"the source that the other side sees, where another site had the flow's own.\n"
		"With --follow: what happens to flows from now on, until it is interrupted.\n",
		NULL, view_flows},
	{"stats", 0, "show counters and why packets were dropped", "", view_stats, NULL},
	{"reload", 0, "read the configuration again and apply what changed",
		"When there are errors in it nothing is changed, and the exit status is 78.\n", view_reload,
		NULL},
	{"flush", FLUSH, "end flows", "Exactly one of --tunnel, --site and --all must be given.\n",
		view_flush, NULL},
	{"initiate", STEER, "bring an ipsec tunnel up",
		"A tunnel with remote = any is called where its branch was last seen.\n" STARTED,
		view_started, NULL},
	{"rekey", REKEY, "renew the keys of an ipsec tunnel", "Without --ike: of its CHILD_SAs.\n" STARTED,
		view_started, NULL},
	{"terminate", STEER, "end an ipsec tunnel's IKE_SA, and tell its branch",
		"It stays down until either side begins anew: the branch, or arrctl initiate.\n" STARTED,
		view_started, NULL},
};

static const struct option_row {
	const char *name;
	const char *value; /* what it is called in help; NULL: it has none */
	int letter;        /* of global options; 0: an argument of the command */
	unsigned commands; /* that take it; 0: all */
	const char *help;
} options[] = {
	{"socket", "PATH", 's', 0, "the daemon's control socket (" SOCKET_DEFAULT ")"},
	{"json", NULL, 'j', 0, "print JSON: an object, or for listings an array"},
	{"help", NULL, 'h', 0, "print this, or of a command its own help"},
	{"version", NULL, 'V', 0, "print the version"},
	{"site", "SITE", 0, FLOWS | FLUSH, "only flows of this site"},
	{"tunnel", "TUNNEL", 0, FLOWS | FLUSH | TUNNELS | STEER | REKEY, "only this tunnel"},
	{"src", "ADDRESS[/LEN]", 0, FLOWS, "only flows that began there"},
	{"dst", "ADDRESS[/LEN]", 0, FLOWS, "only flows that go there"},
	{"proto", "PROTOCOL", 0, FLOWS, "only this protocol: tcp, udp, icmp, icmpv6, … or a number"},
	{"state", "STATE", 0, FLOWS, "only this state; quarantine shows what is listed by no other"},
	{"limit", "N", 0, FLOWS, "at most N rows, 0: all (100, with --json and --follow: all)"},
	{"follow", NULL, 0, FLOWS, "show what happens to them, not which there are; --json: a line each"},
	{"all", NULL, 0, FLUSH, "all flows"},
	{"ike", NULL, 0, REKEY, "the IKE_SA instead of the CHILD_SAs"},
};
#define NCOMMANDS (sizeof(commands) / sizeof(commands[0]))
#define NOPTIONS  (sizeof(options) / sizeof(options[0]))
_Static_assert(NOPTIONS <= 32, "a set of options is a word");

struct call {
	const struct command *command;
	const char *socket;
	bool json, help, version;
	json_t *args;
};

/* ---- help ------------------------------------------------------------------------------------------- */

static void help_options(FILE *f, unsigned bit)
{
	for (size_t i = 0; i < NOPTIONS; i++) {
		const struct option_row *o = &options[i];
		char text[64];

		if (o->commands != 0 ? !(o->commands & bit) : bit != 0)
			continue;
		snprintf(text, sizeof(text), "--%s%s%s", o->name, o->value ? " " : "",
			o->value ? o->value : "");
		if (o->letter)
			fprintf(f, "  -%c, %-18s %s\n", o->letter, text, o->help);
		else
			fprintf(f, "  %-22s %s\n", text, o->help);
	}
}

static void help(FILE *f, const struct command *c)
{
	if (c) {
		fprintf(f, "usage: arrctl [-s PATH] [--json] %s%s\n\n%s\n%s", c->name,
			c->bit ? " [OPTION...]" : "", c->summary, c->more);
		if (c->bit) {
			fprintf(f, "\n");
			help_options(f, c->bit);
		}
		return;
	}
	fprintf(f, "usage: arrctl [-s PATH] [--json] COMMAND [OPTION...]\n\n");
	for (size_t i = 0; i < NCOMMANDS; i++)
		fprintf(f, "  %-22s %s\n", commands[i].name, commands[i].summary);
	fprintf(f, "  %-22s %s\n\n", "help [COMMAND]", "explain a command");
	help_options(f, 0);
}

/* ---- the command line ------------------------------------------------------------------------------- */

static const struct command *command_by_name(const char *name)
{
	for (size_t i = 0; i < NCOMMANDS; i++)
		if (strcmp(commands[i].name, name) == 0)
			return &commands[i];
	return NULL;
}

static int usage_error(const char *what, const char *about)
{
	fprintf(stderr, "arrctl: %s%s; see arrctl help\n", about, what);
	return EX_USAGE;
}

/* An option that is an argument of the command. */
static int take_argument(struct call *call, const struct option_row *o, const char *value)
{
	json_t *v;

	if (!o->value) {
		v = json_true();
	} else if (strcmp(o->name, "limit") == 0) {
		char *end;
		long long n;

		errno = 0;
		n = strtoll(value, &end, 10);
		if (errno || *end || end == value || n < 0)
			return usage_error(": must be a number of 0 or more", "--limit");
		v = json_integer(n);
	} else {
		v = json_string(value);
	}
	if (!v)
		return usage_error(": the value is not UTF-8", o->name);
	json_object_set_new(call->args, o->name, v);
	return EX_OK;
}

static void take_global(struct call *call, int letter, const char *value)
{
	switch (letter) {
	case 's':
		call->socket = value;
		break;
	case 'j':
		call->json = true;
		break;
	case 'h':
		call->help = true;
		break;
	default:
		call->version = true;
		break;
	}
}

/* Options may stand anywhere; the first other word is the command. */
static int parse(struct call *call, int argc, char **argv)
{
	struct option longs[NOPTIONS + 1] = {{NULL}};
	uint32_t taken = 0; /* a bit an option */
	int status = EX_OK, c, at;

	for (size_t i = 0; i < NOPTIONS; i++)
		longs[i] = (struct option){options[i].name,
			options[i].value ? required_argument : no_argument, NULL, options[i].letter};
	while (status == EX_OK && (c = getopt_long(argc, argv, "s:jhV", longs, &at)) != -1) {
		if (c == '?')
			return EX_USAGE;
		if (c) {
			take_global(call, c, optarg);
			continue;
		}
		status = take_argument(call, &options[at], optarg);
		taken |= 1u << at;
	}
	if (status || call->version)
		return status;
	if (optind < argc && strcmp(argv[optind], "help") == 0) {
		call->help = true;
		optind++;
	}
	if (optind == argc)
		return call->help ? EX_OK : usage_error("a command is missing", "");
	call->command = command_by_name(argv[optind]);
	if (!call->command)
		return usage_error(": there is no such command", argv[optind]);
	if (optind + 1 < argc)
		return usage_error(": one word too many", argv[optind + 1]);
	for (size_t i = 0; i < NOPTIONS; i++)
		if (taken & 1u << i && !(options[i].commands & call->command->bit))
			return usage_error(": not an option of this command", options[i].name);
	return EX_OK;
}

/* ---- running a command ------------------------------------------------------------------------------ */

/* A page to people: read and drawn. */
static int draw_page(const struct command *c, struct view *v, const struct reply *a)
{
	/* There is an octet before and one behind the rows: the brackets. */
	json_t *rows = json_loadb(a->rows - 1, a->rows_len + 2, 0, NULL);

	if (!rows)
		return conn_not_understood();
	c->rows(v, rows);
	json_decref(rows);
	return EX_OK;
}

static int list(const struct call *call, struct conn *conn, struct view *v)
{
	struct reply a;
	bool any = false;
	int status;

	do {
		status = conn_answer(conn, &a);
		if (status)
			return status;
		if (!a.rows) {
			json_decref(a.result);
			return conn_not_understood();
		}
		if (!call->json) {
			status = draw_page(call->command, v, &a);
			if (status)
				return status;
		} else if (a.rows_len) {
			fputs(any ? ",\n" : "[", stdout);
			fwrite(a.rows, 1, a.rows_len, stdout);
			any = true;
		}
	} while (a.more);
	if (call->json)
		fputs(any ? "]\n" : "[]\n", stdout);
	else if (a.matched > v->listed)
		printf("… and %" PRIu64 " more, by --limit 0\n", a.matched - v->listed);
	return EX_OK;
}

static int show(const struct call *call, struct conn *conn, struct view *v)
{
	struct reply a;
	int status = conn_answer(conn, &a);

	if (status)
		return status;
	if (!a.result)
		return conn_not_understood();
	if (call->json) {
		json_dumpf(a.result, stdout, JSON_INDENT(2));
		fputc('\n', stdout);
	} else {
		call->command->result(v, a.result);
	}
	json_decref(a.result);
	return EX_OK;
}

static int run(const struct call *call)
{
	struct view v = {.colours = isatty(STDOUT_FILENO) && !getenv("NO_COLOR"),
		.whole = call->command->bit == TUNNELS && json_object_get(call->args, "tunnel")};
	struct conn *conn;
	bool follows = json_object_get(call->args, "follow");
	int status = conn_open(&conn, call->socket);

	if (status)
		return status;
	if (call->command->bit == FLOWS && !call->json && !follows && !json_object_get(call->args, "limit"))
		json_object_set_new(call->args, "limit", json_integer(ROWS_DEFAULT));
	status = conn_ask(conn, call->command->name, call->args);
	if (status == EX_OK && follows)
		status = follow(conn, &v, call->json);
	else if (status == EX_OK)
		status = call->command->rows ? list(call, conn, &v) : show(call, conn, &v);
	table_free(v.table);
	conn_close(conn);
	return status;
}

int main(int argc, char **argv)
{
	struct call call = {.socket = SOCKET_DEFAULT, .args = json_object()};
	int status = parse(&call, argc, argv);

	if (status == EX_OK) {
		if (call.version)
			printf("arrctl %s\n", ARRD_VERSION);
		else if (call.help)
			help(stdout, call.command);
		else
			status = run(&call);
	}
	json_decref(call.args);
	if (fflush(stdout) || ferror(stdout)) {
		fprintf(stderr, "arrctl: standard output: %s\n", strerror(errno));
		return status ? status : EX_IOERR;
	}
	return status;
}
