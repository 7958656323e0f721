/* SPDX-License-Identifier: GPL-2.0-or-later */
/* control_private.h - between the control socket (control.c), which moves lines, and the commands
 * (control_cmd.c, control_list.c, control_ipsec.c), which read and answer them and know nothing of sockets. */
#ifndef ARRD_CONTROL_PRIVATE_H
#define ARRD_CONTROL_PRIVATE_H

#include "flowstate/flowstate.h"
#include "gateway/base/addr.h"
#include "gateway/jsonw.h"
#include "gateway/tunnel.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define CONTROL_PROTOCOL 1
#define CONTROL_LINE_MAX (64u * 1024)  /* octets of a request, newline included */
#define CONTROL_OUT_MAX  (128u * 1024) /* octets of an answer */
#define CONTROL_PAGE_MAX (40u * 1024)  /* a page with this many has no further row: copying out costs, too */
#define CONTROL_ROW_MAX  (16u * 1024)  /* no row is longer */
#define CONTROL_PAGE_NS  100000u /* that filling a page may take of the loop; sending takes as long again */

struct gateway;

enum control_access { CONTROL_REFUSED, CONTROL_READ, CONTROL_ADMIN };

struct control_peer {
	enum control_access access;
	uid_t uid;
	pid_t pid;
};

struct flow_query {
	uint32_t cursor;
	uint64_t limit; /* rows; 0: all */
	uint64_t listed, matched;
	fs_id site, tunnel; /* FS_ID_NONE: any */
	bool by_src, by_dst;
	struct prefix src, dst; /* of the original half */
	int proto;              /* -1: any */
	enum fs_state state;    /* FS_FREE: any but quarantined */
};

struct tunnel_query {
	char only[FS_NAME_MAX + 1]; /* the one asked for; "": all */
	char last[FS_NAME_MAX +
		  1]; /* name of the last one listed: a reload in between moves indexes, not names */
	uint64_t matched;
};

/* A client's request: who asks, and how far a listing has got. */
struct control_request {
	struct gateway *gw;
	struct control_peer peer;
	bool has_id;
	json_int_t id;
	/* Writes rows until the page is full. Returns true when there are no more. NULL: no listing under
	 * way. */
	bool (*rows)(struct control_request *r, struct jsonw *w, uint64_t deadline_ns);
	uint64_t *matched; /* for the last page */
	union {
		struct flow_query flows;
		struct tunnel_query tunnels;
	};
};

/* Reads the request in line (len octets, without its newline; any octets) and writes the answer, or the first
 * page of a listing, one line without its newline. w has room for CONTROL_OUT_MAX octets. Nothing is written
 * for a blank line. While r->rows is set afterwards, the listing goes on by control_page(). */
void control_dispatch(struct control_request *r, const char *line, size_t len, struct jsonw *w);

/* The next page. Writes nothing when a step came to its end without a row: call again, a turn of the loop
 * later. */
void control_page(struct control_request *r, struct jsonw *w);

/* What a client is told first: hello, or why not. place: whether there is one for it. */
void control_hello(const struct control_peer *peer, bool place, struct jsonw *w);

/* Writes an error line. code: a word that programs know (doc/control-protocol.md). */
void control_error(const struct control_request *r, struct jsonw *w, const char *code, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));

/* Around the members of an answer with one result. */
void control_result_begin(const struct control_request *r, struct jsonw *w);
void control_result_end(struct jsonw *w);

/* The string args[key] into *out, which stays as it is when there is none. Returns false, with an error
 * written, if it is not a string. */
bool control_arg_str(const struct control_request *r, struct jsonw *w, const json_t *args, const char *key,
	const char **out);

/* The members rx_packets … tx_bytes, and drops: an object of the reasons that are not 0. */
void control_put_counters(struct jsonw *w, const struct counters *c);

/* Whole seconds from one time to another; 0 if that is before it. */
static inline uint64_t control_seconds(uint64_t from_ms, uint64_t to_ms)
{
	return to_ms > from_ms ? (to_ms - from_ms) / 1000 : 0;
}

/* ---- IPsec (control_ipsec.c) ------------------------------------------------------------------------ */

/* Of a tunnel of type ipsec: the members ike, children, and children_more if there are more than a row has room for. */
void control_put_ipsec(struct jsonw *w, const struct gateway *gw, const struct tunnel *t, uint64_t now_ms);
/* Of the process: the member ipsec, when IPsec is open. */
void control_put_ipsec_status(struct jsonw *w, const struct gateway *gw);

/* Commands: {"tunnel": NAME}. */
void control_initiate(struct control_request *r, const json_t *args, struct jsonw *w);
void control_rekey(struct control_request *r, const json_t *args, struct jsonw *w);
void control_terminate(struct control_request *r, const json_t *args, struct jsonw *w);

/* Begin listings: read args, set r->rows; or write an error. */
void control_list_tunnels(struct control_request *r, const json_t *args, struct jsonw *w);
void control_list_flows(struct control_request *r, const json_t *args, struct jsonw *w);

#endif
