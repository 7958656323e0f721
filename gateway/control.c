/* SPDX-License-Identifier: GPL-2.0-or-later */
/* control.c - the control socket: listener, clients, lines in and out.
 *
 * Theory. A client is in one of four phases:
 *
 *	READING  its input buffer holds no whole line; the loop reads from it
 *	READY    a whole line, or a listing that goes on, is waiting for its turn; nothing is read
 *	WRITING  an answer or a page is being sent; nothing is read
 *	CLOSING  uv_close() was called
 *
 * Packets come first. READY clients take turns, and all of them together get one step a turn of the loop: one
 * request, or one page of a listing (CONTROL_PAGE_NS). So neither thirty listings of a million flows nor a
 * buffer full of requests holds a packet up for longer than one step.
 *
 * Who follows flows (control_follow.c) is READING while it waits: each FOLLOW_MS it is READY if there is something to
 * tell, and again behind each page while there is much. So events go out in bundles, and a flood of them takes one
 * step a turn, like any listing. Another request ends the following, and has its turn behind it.
 *
 * Memory is bounded: a client owns one input and one output buffer and nothing grows. Output is made only when the
 * output before it is gone, and input is read only when the requests before it are answered; a client that sends
 * without reading is held back by its own socket.
 *
 * Time is bounded: output that makes no progress for STALL_MS, and silence for IDLE_MS, end a connection, so
 * that dead clients cannot keep the places of others. Some places are for administrators alone.
 *
 * The process ignores SIGPIPE: libuv writes to clients that went away without saying MSG_NOSIGNAL.
 *
 * Access is decided once, from what the kernel says of the peer at connect(): SO_PEERCRED, SO_PEERGROUPS.
 */
#include "gateway/control.h"
#include "gateway/control_private.h"
#include "gateway/gateway.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <uv.h>

#define CLIENTS_MAX 32
#define READERS_MAX 24 /* of which without administrator's rights */
#define BACKLOG     16
#define STALL_MS    30000
#define IDLE_MS     300000
#define SWEEP_MS    1000
#define FOLLOW_MS   50
#define FOLLOW_MUCH 64 /* events that are worth a page of their own */

enum phase { READING, READY, WRITING, CLOSING };

struct client {
	struct control *ctl;
	uv_pipe_t pipe;
	uv_write_t write;
	enum phase phase;
	bool last_words;      /* close when what is being written is out */
	uint64_t since_ms;    /* of the last progress: input, or output taken */
	size_t queued;        /* octets of output not taken then */
	size_t in_at, in_len; /* in[in_at..in_len) is not handled yet */
	struct control_request req;
	char in[CONTROL_LINE_MAX];
	char out[CONTROL_OUT_MAX];
};

struct control {
	struct gateway *gw;
	int fd; /* listens */
	uv_poll_t listener;
	uv_timer_t sweep;
	uv_timer_t follow; /* runs while a client follows */
	uv_idle_t turn;    /* runs while a client is READY */
	unsigned handles;  /* that are not closed yet; the last one frees */
	char path[sizeof(((struct sockaddr_un *)0)->sun_path)];
	dev_t dev; /* of the socket file that we made */
	ino_t ino;
	bool has_group;
	gid_t group;
	struct log_limit refusals;
	struct client *clients[CLIENTS_MAX];
	unsigned next; /* whose turn it is to be looked at first */
};

/* ---- clients: life ---------------------------------------------------------------------------------- */

static void handle_gone(struct control *ctl)
{
	if (--ctl->handles == 0)
		free(ctl);
}

static void on_client_closed(uv_handle_t *h)
{
	struct client *c = h->data;
	struct control *ctl = c->ctl;

	free(c);
	handle_gone(ctl);
}

static void client_close(struct client *c)
{
	struct control *ctl = c->ctl;

	if (c->phase == CLOSING)
		return;
	c->phase = CLOSING;
	control_follow_leave(&c->req);
	for (unsigned i = 0; i < CLIENTS_MAX; i++)
		if (ctl->clients[i] == c)
			ctl->clients[i] = NULL;
	uv_close((uv_handle_t *)&c->pipe, on_client_closed);
}

/* ---- clients: input --------------------------------------------------------------------------------- */

static void on_turn(uv_idle_t *h);
static void client_send(struct client *c, size_t len);

static char *line_end(struct client *c, size_t from)
{
	return memchr(c->in + from, '\n', c->in_len - from);
}

static void client_ready(struct client *c)
{
	c->phase = READY;
	uv_idle_start(&c->ctl->turn, on_turn);
}

static void on_alloc(uv_handle_t *h, size_t suggested, uv_buf_t *buf)
{
	struct client *c = h->data;

	(void)suggested;
	*buf = uv_buf_init(c->in + c->in_len, (unsigned)(sizeof(c->in) - c->in_len));
}

static void on_read(uv_stream_t *s, ssize_t n, const uv_buf_t *buf)
{
	struct client *c = s->data;
	size_t from = c->in_len;

	(void)buf;
	if (n == 0)
		return;
	if (n < 0) { /* the end, or an error; what is left in the buffer is no whole line */
		client_close(c);
		return;
	}
	c->in_len += (size_t)n;
	c->since_ms = uv_now(s->loop);
	if (line_end(c, from)) {
		uv_read_stop(s);
		client_ready(c);
	} else if (c->in_len == sizeof(c->in)) {
		struct jsonw w;

		uv_read_stop(s);
		jw_init(&w, c->out, sizeof(c->out));
		c->req.has_id = false;
		control_error(&c->req, &w, "too_long", "a request has at most %u octets", CONTROL_LINE_MAX);
		c->last_words = true;
		client_send(c, w.len);
	}
}

/* The client is through with one thing: what is next? */
static void client_next(struct client *c)
{
	int err;

	if (control_goes_on(&c->req) || line_end(c, c->in_at) ||
		control_follow_waiting(&c->req) >= FOLLOW_MUCH) {
		client_ready(c);
		return;
	}
	memmove(c->in, c->in + c->in_at, c->in_len - c->in_at);
	c->in_len -= c->in_at;
	c->in_at = 0;
	c->phase = READING;
	err = uv_read_start((uv_stream_t *)&c->pipe, on_alloc, on_read);
	if (err)
		client_close(c);
}

/* ---- clients: output -------------------------------------------------------------------------------- */

static void on_written(uv_write_t *req, int status)
{
	struct client *c = req->data;

	if (c->phase == CLOSING)
		return;
	if (status < 0 || c->last_words) {
		client_close(c);
		return;
	}
	c->since_ms = uv_now(c->pipe.loop);
	client_next(c);
}

/* Sends out[0..len) and a newline, for which there must be room. */
static void client_send(struct client *c, size_t len)
{
	uv_buf_t buf;
	int err;

	c->out[len++] = '\n';
	buf = uv_buf_init(c->out, (unsigned)len);
	c->phase = WRITING;
	c->since_ms = uv_now(c->pipe.loop);
	c->queued = len;
	c->write.data = c;
	err = uv_write(&c->write, (uv_stream_t *)&c->pipe, &buf, 1, on_written);
	if (err)
		client_close(c);
}

static void on_follow(uv_timer_t *h)
{
	struct control *ctl = h->data;
	unsigned followers = 0;

	for (unsigned i = 0; i < CLIENTS_MAX; i++) {
		struct client *c = ctl->clients[i];

		if (!c || !c->req.following)
			continue;
		followers++;
		if (c->phase == READING && control_follow_waiting(&c->req)) {
			uv_read_stop((uv_stream_t *)&c->pipe);
			client_ready(c);
		}
	}
	if (!followers)
		uv_timer_stop(h);
}

/* One step of a READY client. */
static void client_step(struct client *c)
{
	char *line = c->in + c->in_at, *end = line_end(c, c->in_at);
	struct jsonw w;

	jw_init(&w, c->out, sizeof(c->out) - 1);
	if (control_goes_on(&c->req)) {
		control_page(&c->req, &w);
	} else if (c->req.following && end) {
		control_follow_end(&c->req, &w);
	} else if (c->req.following) {
		control_follow_page(&c->req, &w);
	} else {
		c->in_at = (size_t)(end - c->in) + 1;
		control_dispatch(&c->req, line, (size_t)(end - line), &w);
		if (c->req.following)
			uv_timer_start(&c->ctl->follow, on_follow, FOLLOW_MS, FOLLOW_MS);
	}
	if (w.full) { /* cannot be: see CONTROL_ROW_MAX */
		log_error(c->ctl->gw->log, "control", NULL, "an answer is larger than its buffer");
		client_close(c);
	} else if (w.len) {
		client_send(c, w.len);
	} else {
		client_next(c);
	}
}

/* A turn of the loop: one step for the next READY client. */
static void on_turn(uv_idle_t *h)
{
	struct control *ctl = h->data;

	for (unsigned n = 0; n < CLIENTS_MAX; n++) {
		unsigned i = (ctl->next + n) % CLIENTS_MAX;
		struct client *c = ctl->clients[i];

		if (c && c->phase == READY) {
			ctl->next = i + 1;
			client_step(c);
			return;
		}
	}
	uv_idle_stop(h);
}

static void listen_on(struct control *ctl);

/* Ends connections that do not move. */
static void on_sweep(uv_timer_t *h)
{
	struct control *ctl = h->data;
	uint64_t now = uv_now(h->loop);

	listen_on(ctl);
	for (unsigned i = 0; i < CLIENTS_MAX; i++) {
		struct client *c = ctl->clients[i];

		/* Who follows has nothing to ask; if it is gone, its socket says so. */
		if (!c || c->phase == READY || (c->phase == READING && c->req.following))
			continue;
		if (c->phase == WRITING) {
			size_t queued = uv_stream_get_write_queue_size((uv_stream_t *)&c->pipe);
			if (queued < c->queued) {
				c->queued = queued;
				c->since_ms = now;
			}
		}
		if (now - c->since_ms >= (c->phase == WRITING ? STALL_MS : IDLE_MS)) {
			log_info(ctl->gw->log, "control", NULL, "pid %d cut off: %s", (int)c->req.peer.pid,
				c->phase == WRITING ? "does not read" : "asks nothing");
			client_close(c);
		}
	}
}

/* ---- accepting -------------------------------------------------------------------------------------- */

/* A free place that this client may have, or -1. */
static int place_for(const struct control *ctl, enum control_access access)
{
	unsigned readers = 0;
	int at = -1;

	for (unsigned i = 0; i < CLIENTS_MAX; i++) {
		if (!ctl->clients[i])
			at = (int)i;
		else if (ctl->clients[i]->req.peer.access != CONTROL_ADMIN)
			readers++;
	}
	return access != CONTROL_ADMIN && readers >= READERS_MAX ? -1 : at;
}

/* Makes a client of the connection fd, which it then owns, and says hello. Returns 0 or -errno. */
static int client_open(struct control *ctl, int at, int fd, const struct control_peer *peer)
{
	struct client *c = calloc(1, sizeof(*c));
	struct jsonw w;
	int err;

	if (!c)
		return -ENOMEM;
	c->ctl = ctl;
	c->req.gw = ctl->gw;
	c->req.peer = *peer;
	c->pipe.data = c;
	err = uv_pipe_init(ctl->gw->loop, &c->pipe, 0);
	if (err) {
		free(c);
		return err;
	}
	ctl->handles++;
	err = uv_pipe_open(&c->pipe, fd);
	if (err) {
		client_close(c);
		return err;
	}
	ctl->clients[at] = c;
	jw_init(&w, c->out, sizeof(c->out) - 1);
	control_hello(peer, true, &w);
	client_send(c, w.len);
	return 0;
}

/* Says why not, as far as the socket takes it at once, and closes. */
static void turn_away(int fd, const struct control_peer *peer)
{
	char out[512];
	struct jsonw w;

	jw_init(&w, out, sizeof(out));
	control_hello(peer, false, &w);
	jw_octet(&w, '\n');
	(void)!send(fd, out, w.len, MSG_NOSIGNAL | MSG_DONTWAIT);
	close(fd);
}

static void on_connection(uv_poll_t *h, int status, int events)
{
	struct control *ctl = h->data;
	struct log *log = ctl->gw->log;
	struct control_peer peer;
	int fd, at, err;

	(void)status;
	(void)events;
	fd = accept4(ctl->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (fd < 0) {
		/* Out of descriptors or memory: the connection keeps waiting, and so do we, until the next
		 * sweep. */
		if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED)
			uv_poll_stop(h);
		return;
	}
	peer = control_peer_of(fd, ctl->has_group, ctl->group);
	at = place_for(ctl, peer.access);
	if (peer.access == CONTROL_REFUSED || at < 0) {
		log_limited(log, &ctl->refusals, uv_now(h->loop), LOG_LEVEL_NOTICE, "control", NULL,
			"uid %u, pid %d refused: %s", (unsigned)peer.uid, (int)peer.pid,
			peer.access == CONTROL_REFUSED ? "no access" : "too many clients");
		turn_away(fd, &peer);
		return;
	}
	err = client_open(ctl, at, fd, &peer);
	if (err) {
		log_warning(log, "control", NULL, "client of pid %d: %s", (int)peer.pid, uv_strerror(err));
		close(fd);
	}
}

static void listen_on(struct control *ctl)
{
	uv_poll_start(&ctl->listener, UV_READABLE, on_connection);
}

/* ---- the listener ----------------------------------------------------------------------------------- */

/* Removes what an earlier run left at the path. Returns 0; -EADDRINUSE when somebody listens there, or it is
 * no socket; or -errno. (Two arrds that start at once are told apart by the flow arena's lock, not here.) */
static int remove_stale(const struct sockaddr_un *sun)
{
	struct stat st;
	int fd, err = 0;

	if (lstat(sun->sun_path, &st) < 0)
		return errno == ENOENT ? 0 : -errno;
	if (!S_ISSOCK(st.st_mode))
		return -EADDRINUSE;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	if (connect(fd, (const struct sockaddr *)sun, sizeof(*sun)) == 0 || errno != ECONNREFUSED)
		err = -EADDRINUSE;
	else if (unlink(sun->sun_path) < 0)
		err = -errno;
	close(fd);
	return err;
}

/* Binds a socket whose file nobody but its owner, and then the group, can ever have opened: Linux gives the
 * file the mode of the unbound socket. Sets fd, dev and ino. Returns 0 or -errno. */
static int bind_socket(struct control *ctl)
{
	struct sockaddr_un sun = {.sun_family = AF_UNIX};
	struct stat st;
	int fd, err;

	memcpy(sun.sun_path, ctl->path, sizeof(sun.sun_path));
	err = remove_stale(&sun);
	if (err)
		return err;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	if (fchmod(fd, 0600) < 0 || bind(fd, (const struct sockaddr *)&sun, sizeof(sun)) < 0) {
		err = -errno;
		goto fail;
	}
	if (ctl->has_group && lchown(ctl->path, (uid_t)-1, ctl->group) < 0) {
		err = -errno;
		if (err == -EPERM)
			log_error(ctl->gw->log, "control", NULL,
				"control_group: uid %u, which arrd runs as, is not in group %s and cannot "
				"give it the socket",
				(unsigned)geteuid(), ctl->gw->conf->gateway.control_group);
		goto fail_bound;
	}
	if ((ctl->has_group && chmod(ctl->path, 0660) < 0) || lstat(ctl->path, &st) < 0) {
		err = -errno;
		goto fail_bound;
	}
	ctl->dev = st.st_dev;
	ctl->ino = st.st_ino;
	ctl->fd = fd;
	return 0;
fail_bound:
	unlink(ctl->path);
fail:
	close(fd);
	return err;
}

/* Removes the socket file, unless it is another's by now. */
static void unlink_socket(const struct control *ctl)
{
	struct stat st;

	if (lstat(ctl->path, &st) == 0 && st.st_dev == ctl->dev && st.st_ino == ctl->ino)
		unlink(ctl->path);
}

static void on_closed(uv_handle_t *h)
{
	handle_gone(h->data);
}

int control_open(struct control **out, struct gateway *gw)
{
	const struct conf_gateway *conf = &gw->conf->gateway;
	struct control *ctl;
	int err;

	*out = NULL;
	if (strlen(conf->control_socket) >= sizeof(ctl->path))
		return -ENAMETOOLONG;
	ctl = calloc(1, sizeof(*ctl));
	if (!ctl)
		return -ENOMEM;
	ctl->gw = gw;
	strcpy(ctl->path, conf->control_socket);
	if (conf->control_group) {
		const struct group *g = getgrnam(conf->control_group);
		if (!g) {
			log_error(gw->log, "control", NULL, "control_group: there is no group %s",
				conf->control_group);
			err = -ENOENT;
			goto fail;
		}
		ctl->has_group = true;
		ctl->group = g->gr_gid;
	}
	err = bind_socket(ctl);
	if (err)
		goto fail;
	err = listen(ctl->fd, BACKLOG) < 0 ? -errno : uv_poll_init(gw->loop, &ctl->listener, ctl->fd);
	if (err)
		goto fail_bound;
	uv_timer_init(gw->loop, &ctl->sweep);
	uv_timer_init(gw->loop, &ctl->follow);
	uv_idle_init(gw->loop, &ctl->turn);
	ctl->handles = 4;
	ctl->listener.data = ctl->sweep.data = ctl->follow.data = ctl->turn.data = ctl;
	listen_on(ctl);
	uv_timer_start(&ctl->sweep, on_sweep, SWEEP_MS, SWEEP_MS);
	*out = ctl;
	return 0;
fail_bound:
	unlink_socket(ctl);
	close(ctl->fd);
fail:
	log_error(gw->log, "control", NULL, "%s: %s", conf->control_socket, strerror(-err));
	free(ctl);
	return err;
}

void control_close(struct control *ctl)
{
	if (!ctl)
		return;
	unlink_socket(ctl);
	for (unsigned i = 0; i < CLIENTS_MAX; i++)
		if (ctl->clients[i])
			client_close(ctl->clients[i]);
	uv_close((uv_handle_t *)&ctl->listener, on_closed);
	close(ctl->fd);
	uv_close((uv_handle_t *)&ctl->sweep, on_closed);
	uv_close((uv_handle_t *)&ctl->follow, on_closed);
	uv_close((uv_handle_t *)&ctl->turn, on_closed);
}
