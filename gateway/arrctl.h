/* SPDX-License-Identifier: GPL-2.0-or-later */
/* arrctl.h - between the parts of arrctl: conversation with the daemon, tables, views. */
#ifndef ARRD_ARRCTL_H
#define ARRD_ARRCTL_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sysexits.h>

/* ---- the conversation (arrctl_conn.c). Failures are told on stderr; the exit status is returned
 * (sysexits.h). */

struct conn;

/* Connects and reads the hello. EX_OK, EX_UNAVAILABLE, EX_NOPERM or EX_PROTOCOL. */
int conn_open(struct conn **out, const char *path);
void conn_close(struct conn *c);

/* Sends a command; args may be NULL. */
int conn_ask(struct conn *c, const char *command, json_t *args);

/* A line of the answer. Either result is set, or rows: the text between the brackets, unread, or event: the object
 * without the id, unread. Both are valid until the next call. */
struct reply {
	json_t *result; /* json_decref it */
	const char *event;
	size_t event_len;
	const char *rows;
	size_t rows_len;
	bool more;
	uint64_t matched; /* with more false: rows that there are in all */
};
int conn_answer(struct conn *c, struct reply *a);

/* Whether an answer is there already, and where it comes from otherwise. */
bool conn_has_answer(const struct conn *c);
int conn_fd(const struct conn *c);

/* Says that an answer makes no sense, returns EX_PROTOCOL. */
int conn_not_understood(void);

/* ---- tables (arrctl_table.c) ------------------------------------------------------------------------ */

/* Cells are added in order and printed by table_print(). The first call also prints the header and settles
 * the widths, by what there is until then; so a long listing can be printed as it comes. */
struct column {
	const char *title;
	bool right; /* aligned to the right */
	int least;  /* it is at least so wide */
};
enum colour { PLAIN, GOOD, BAD, MARKED };
struct table;
struct table *table_new(const struct column *columns, unsigned n, bool colours);
void table_cell(struct table *t, enum colour colour, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
void table_print(struct table *t);
void table_free(struct table *t);

/* Text for people: 1.5k, 1.5KiB, 2h03m. They return buf. */
#define HUMAN_LEN 32
const char *human_count(uint64_t n, char buf[static HUMAN_LEN]);
const char *human_octets(uint64_t n, char buf[static HUMAN_LEN]);
const char *human_seconds(uint64_t s, char buf[static HUMAN_LEN]);

/* ---- views (arrctl_view.c, arrctl_tunnel.c) --------------------------------------------------------- */

/* Members of an object; of a missing one, "" and 0: an older daemon may not send it. */
const char *member_text(const json_t *o, const char *key);
uint64_t member_number(const json_t *o, const char *key);

struct view {
	bool colours;
	bool whole; /* one tunnel was asked for: all about it */
	struct table *table;
	uint64_t listed;
};

/* For commands with one result. */
void view_status(struct view *v, const json_t *result);
void view_stats(struct view *v, const json_t *result);
void view_reload(struct view *v, const json_t *result);
void view_flush(struct view *v, const json_t *result);
void view_started(struct view *v, const json_t *result);
/* For a page of a listing: an array. */
void view_tunnels(struct view *v, const json_t *rows);
void view_flows(struct view *v, const json_t *rows);
/* An event of a flow, NULL: the title line only. */
void view_event(struct view *v, const json_t *event);

/* Parts of those: a tunnel as a block of lines, the member drops as a table. */
void view_tunnel(const struct view *v, const json_t *tunnel);
void view_drops(const struct view *v, json_t *drops);

/* ---- following (arrctl_follow.c) -------------------------------------------------------------------- */

/* Prints events, as lines of JSON or for people, until the daemon is through with them or SIGINT or SIGTERM comes. */
int follow(struct conn *c, struct view *v, bool json);

#endif
