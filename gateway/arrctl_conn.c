/* SPDX-License-Identifier: GPL-2.0-or-later */
/* arrctl_conn.c - arrctl's side of the control protocol (doc/control-protocol.md). */
#include "gateway/arrctl.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#define PROTOCOL  1
#define LINE_MAX_ (1024u * 1024) /* the daemon's lines are shorter */
#define WAIT_S    60

struct conn {
	int fd;
	size_t at, len; /* buf[at..len) is not handed out yet */
	char buf[LINE_MAX_];
};

static int lost(const char *what)
{
	fprintf(stderr, "arrctl: %s\n", what);
	return EX_UNAVAILABLE;
}

/* The next line, without its newline, valid until the next call. */
static int next_line(struct conn *c, char **line, size_t *len)
{
	size_t from = c->at;
	char *end;

	while (!(end = memchr(c->buf + from, '\n', c->len - from))) {
		ssize_t n;

		memmove(c->buf, c->buf + c->at, c->len - c->at);
		c->len -= c->at;
		c->at = 0;
		from = c->len;
		if (c->len == sizeof(c->buf)) {
			fprintf(stderr, "arrctl: the daemon sent a line that is too long\n");
			return EX_PROTOCOL;
		}
		n = recv(c->fd, c->buf + c->len, sizeof(c->buf) - c->len, 0);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return lost(errno == EAGAIN ? "the daemon does not answer" : strerror(errno));
		if (n == 0)
			return lost("the daemon closed the connection");
		c->len += (size_t)n;
	}
	*line = c->buf + c->at;
	*len = (size_t)(end - *line);
	c->at += *len + 1;
	return EX_OK;
}

/* Tells of the error that an answer carries; the exit status for it. */
static int failed(const json_t *error)
{
	static const struct {
		const char *code;
		int status;
	} known[] = {{"access", EX_NOPERM}, {"busy", EX_UNAVAILABLE}, {"config", EX_CONFIG},
		{"invalid_argument", EX_USAGE}, {"not_found", EX_USAGE}, {"unknown_command", EX_USAGE}};
	const char *code = json_string_value(json_object_get(error, "code"));
	const char *message = json_string_value(json_object_get(error, "message"));
	size_t n = message ? strlen(message) : 0;

	fprintf(stderr, "arrctl: %s%s", n && strchr(message, '\n') ? "refused:\n" : "",
		n ? message : "error");
	if (!n || message[n - 1] != '\n')
		fputc('\n', stderr);
	for (size_t i = 0; code && i < sizeof(known) / sizeof(known[0]); i++)
		if (strcmp(known[i].code, code) == 0)
			return known[i].status;
	return EX_SOFTWARE;
}

int conn_not_understood(void)
{
	fprintf(stderr, "arrctl: the daemon's answer is not understood\n");
	return EX_PROTOCOL;
}

static int hello(struct conn *c)
{
	json_t *msg, *error;
	char *line;
	size_t len;
	int status = next_line(c, &line, &len);

	if (status)
		return status;
	msg = json_loadb(line, len, 0, NULL);
	error = json_object_get(msg, "error");
	if (error) {
		status = failed(error);
	} else if (json_integer_value(json_object_get(msg, "protocol")) != PROTOCOL) {
		fprintf(stderr, "arrctl: the daemon does not speak protocol %d\n", PROTOCOL);
		status = EX_PROTOCOL;
	}
	json_decref(msg);
	return status;
}

int conn_open(struct conn **out, const char *path)
{
	struct sockaddr_un sun = {.sun_family = AF_UNIX};
	struct timeval wait = {.tv_sec = WAIT_S};
	struct conn *c;
	int status;

	*out = NULL;
	if (strlen(path) >= sizeof(sun.sun_path)) {
		fprintf(stderr, "arrctl: %s: the path is too long\n", path);
		return EX_USAGE;
	}
	strcpy(sun.sun_path, path);
	c = malloc(sizeof(*c));
	if (!c)
		return lost(strerror(ENOMEM));
	c->at = c->len = 0;
	c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (c->fd < 0) {
		free(c);
		return lost(strerror(errno));
	}
	setsockopt(c->fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait));
	setsockopt(c->fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof(wait));
	if (connect(c->fd, (const struct sockaddr *)&sun, sizeof(sun)) < 0) {
		bool denied = errno == EACCES || errno == EPERM;

		fprintf(stderr, "arrctl: %s: %s%s\n", path, strerror(errno),
			errno == ENOENT || errno == ECONNREFUSED ? " (is arrd running?)" : "");
		status = denied ? EX_NOPERM : EX_UNAVAILABLE;
	} else {
		status = hello(c);
	}
	if (status) {
		conn_close(c);
		return status;
	}
	*out = c;
	return EX_OK;
}

void conn_close(struct conn *c)
{
	if (!c)
		return;
	close(c->fd);
	free(c);
}

int conn_ask(struct conn *c, const char *command, json_t *args)
{
	json_t *req = json_pack("{s:i, s:s, s:O*}", "id", 1, "command", command, "args", args);
	char *text = req ? json_dumps(req, JSON_COMPACT) : NULL;
	size_t len = text ? strlen(text) : 0, sent = 0;
	int status = EX_OK;

	json_decref(req);
	if (!text)
		return lost(strerror(ENOMEM));
	text[len++] = '\n'; /* in the place of the NUL */
	while (sent < len && status == EX_OK) {
		ssize_t n = send(c->fd, text + sent, len - sent, MSG_NOSIGNAL);

		if (n >= 0)
			sent += (size_t)n;
		else if (errno != EINTR)
			status = lost(strerror(errno));
	}
	free(text);
	return status;
}

/* A page is {"id":1,"rows":[…],"more":…}, in this order: the rows of a long listing are handed on unread. */
static bool page(char *line, size_t len, struct reply *a)
{
	static const char head[] = "{\"id\":1,\"rows\":[";
	size_t h = sizeof(head) - 1;
	const json_t *more;
	char *tail;
	json_t *end;
	bool ok;

	if (len < h || memcmp(line, head, h) != 0)
		return false;
	tail = memrchr(line + h, ']', len - h);
	if (!tail || line + len - tail < 2)
		return false;
	a->rows = line + h;
	a->rows_len = (size_t)(tail - a->rows);
	tail[1] = '{'; /* was the comma: what is left is an object of its own */
	end = json_loadb(tail + 1, (size_t)(line + len - tail) - 1, 0, NULL);
	more = json_object_get(end, "more");
	ok = json_is_boolean(more);
	a->more = json_is_true(more);
	a->matched = (uint64_t)json_integer_value(json_object_get(end, "matched"));
	json_decref(end);
	return ok;
}

/* {"id":1,"event":…}: handed on unread, too, but for the id. */
static bool event(char *line, size_t len, struct reply *a)
{
	static const char head[] = "{\"id\":1,\"event\":";
	size_t id = sizeof("{\"id\":1") - 1;

	if (len < sizeof(head) - 1 || memcmp(line, head, sizeof(head) - 1) != 0)
		return false;
	line[id] = '{'; /* was the comma */
	a->event = line + id;
	a->event_len = len - id;
	return true;
}

bool conn_has_answer(const struct conn *c)
{
	return memchr(c->buf + c->at, '\n', c->len - c->at) != NULL;
}

int conn_fd(const struct conn *c)
{
	return c->fd;
}

int conn_answer(struct conn *c, struct reply *a)
{
	json_t *msg, *error;
	char *line;
	size_t len;
	int status = next_line(c, &line, &len);

	*a = (struct reply){.result = NULL};
	if (status || page(line, len, a) || event(line, len, a))
		return status;
	msg = json_loadb(line, len, 0, NULL);
	error = json_object_get(msg, "error");
	a->result = json_incref(json_object_get(msg, "result"));
	if (error)
		status = failed(error);
	else if (!a->result)
		status = conn_not_understood();
	json_decref(msg);
	return status;
}
