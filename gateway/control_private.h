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

/* Who connected by fd. Members of group, if there is one, may read. (control_peer.c) */
struct control_peer control_peer_of(int fd, bool has_group, gid_t group);

struct flow_query {
	uint32_t cursor;
	uint64_t limit; /* rows; 0: all */
	uint64_t listed, matched;
	uint64_t lost;                                                 /* events, of a follower */
	fs_id site, tunnel;                                            /* FS_ID_NONE: any */
	char site_name[FS_NAME_MAX + 1], tunnel_name[FS_NAME_MAX + 1]; /* theirs, or "" */
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

struct flush_query {
	uint32_t cursor, ended;
	fs_id site, tunnel;
	char what[FS_NAME_MAX + 16]; /* for the log */
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
	/* Goes on with what takes many turns, until the deadline. Returns true when it is done and the answer
	 * written. NULL: there is nothing of the kind. */
	bool (*work)(struct control_request *r, struct jsonw *w, uint64_t deadline_ns);
	bool following; /* flows are followed (control_follow.c), from this event on: */
	uint64_t follow_at;
	union {
		struct flow_query flows;
		struct tunnel_query tunnels;
		struct flush_query flush;
	};
};

/* The request is not answered yet. */
static inline bool control_goes_on(const struct control_request *r)
{
	return r->rows || r->work;
}

/* Reads the request in line (len octets, without its newline; any octets) and writes the answer, or the first
 * page of a listing, one line without its newline. w has room for CONTROL_OUT_MAX octets. Nothing is written
 * for a blank line. While control_goes_on() says so afterwards, it goes on by control_page(); while r->following is, by
 * control_follow_page(), until control_follow_end() or control_follow_leave(). Neither may be set before. */
void control_dispatch(struct control_request *r, const char *line, size_t len, struct jsonw *w);

/* The next page. Writes nothing when a step came to its end without a row: call again, a turn of the loop
 * later. */
void control_page(struct control_request *r, struct jsonw *w);

/* What a client is told first: hello, or why not. place: whether there is one for it. */
void control_hello(const struct control_peer *peer, bool place, struct jsonw *w);

/* Writes an error line. code: a word that programs know (doc/control-protocol.md). */
void control_error(const struct control_request *r, struct jsonw *w, const char *code, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));

/* An object, with the id; the caller closes it. */
void control_answer_begin(const struct control_request *r, struct jsonw *w);
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

/* Of a flow: the members site … translated; orig_packets … reply_bytes; orig_realm … reply_via. */
void control_put_flow(struct jsonw *w, const struct gateway *gw, const struct fs_info *f);
void control_put_flow_counters(struct jsonw *w, const struct fs_info *f);
void control_put_flow_realms(struct jsonw *w, const struct gateway *gw, const struct fs_info *f);
/* Does a filter let a flow pass? */
bool control_flow_matches(const struct flow_query *q, const struct fs_info *f);

/* ---- following (control_follow.c) ------------------------------------------------------------------- */

/* Begins to follow what r->flows lets pass: writes the first line, or an error. */
void control_follow(struct control_request *r, struct jsonw *w);
/* How many events wait to be written or passed over; 0 of who does not follow. */
uint64_t control_follow_waiting(const struct control_request *r);
/* Writes lines of those, with newlines between them and none at the end, as far as a page goes; nothing, if the filter
 * lets none of them pass. Behind the last one that was asked for stands the result, and r->following is not set. */
void control_follow_page(struct control_request *r, struct jsonw *w);
/* Ends it by its result; or without a word, when the client is gone. The second may be called of anybody. */
void control_follow_end(struct control_request *r, struct jsonw *w);
void control_follow_leave(struct control_request *r);

#endif
