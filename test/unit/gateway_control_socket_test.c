/* SPDX-License-Identifier: GPL-2.0-or-later */
/* gateway_control_socket_test.c - the control socket: who gets in, lines in pieces, clients that misbehave. */
#include "test/unit/control_rig.h"

#include <signal.h>
#include <sys/wait.h>

#define NOBODY 65534

/* ---- lines ------------------------------------------------------------------------------------------ */

static void test_pieces(void **state)
{
	const char *req = "{\"id\":1,\"command\":\"stats\"}\n";
	struct rig *r = *state;
	int fd = dial_hello(r);

	for (size_t i = 0; req[i]; i++) {
		assert_int_equal(send(fd, req + i, 1, 0), 1);
		loop(r);
	}
	expect_line(r, fd, "{\"id\":1,\"result\":{\"flows\":{");
	close(fd);
}

static void test_pipelined(void **state)
{
	struct rig *r = *state;
	int fd = dial_hello(r);

	say(fd, "{\"id\":1,\"command\":\"status\"}\n\n{\"id\":2,\"command\":\"flows\",\"args\":{\"tunnel\":"
		"\"branch-b\"}}"
		"\nnonsense\n"
		"{\"id\":4,\"command\":\"stats\"}\n{\"id\":5,");
	expect_line(r, fd, "{\"id\":1,\"result\":");
	expect_line(r, fd, "{\"id\":2,\"rows\":[],\"more\":false,\"matched\":0}\n");
	expect_line(r, fd, "{\"id\":null,\"error\":{\"code\":\"invalid_json\"");
	expect_line(r, fd, "{\"id\":4,\"result\":{");
	say(fd, "\"command\":\"status\"}\n");
	expect_line(r, fd, "{\"id\":5,\"result\":");
	close(fd);
}

/* What is asked before the end of input is answered. */
static void test_half_closed(void **state)
{
	struct rig *r = *state;
	int fd = dial_hello(r);

	say(fd, "{\"id\":1,\"command\":\"status\"}\n{\"id\":2,\"command\":\"status\"}\nhalf");
	shutdown(fd, SHUT_WR);
	expect_line(r, fd, "{\"id\":1,\"result\":");
	expect_line(r, fd, "{\"id\":2,\"result\":");
	expect_closed(r, fd);
}

static void test_too_long(void **state)
{
	static const char req[] = "{\"id\":1,\"command\":\"status\"}";
	static char big[CONTROL_LINE_MAX];
	struct rig *r = *state;
	int fd = dial_hello(r);
	size_t sent = 0;

	/* a line of exactly the limit is read, */
	memset(big, ' ', sizeof(big));
	memcpy(big, req, sizeof(req) - 1);
	big[sizeof(big) - 1] = '\n';
	while (sent < sizeof(big)) {
		ssize_t n = send(fd, big + sent, sizeof(big) - sent, MSG_NOSIGNAL);
		if (n > 0)
			sent += (size_t)n;
		loop(r);
	}
	expect_line(r, fd, "{\"id\":1,\"result\":");
	/* one more octet is an error, and the end */
	big[sizeof(big) - 1] = ' ';
	for (sent = 0; sent < sizeof(big);) {
		ssize_t n = send(fd, big + sent, sizeof(big) - sent, MSG_NOSIGNAL);
		if (n > 0)
			sent += (size_t)n;
		loop(r);
	}
	expect_line(r, fd, "\"code\":\"too_long\"");
	expect_closed(r, fd);
}

/* ---- clients that misbehave ------------------------------------------------------------------------- */

/* A client that asks and asks and never reads: the server takes in and holds no more than its buffers. */
static void test_never_reads(void **state)
{
	static const char req[] = "{\"command\":\"flows\"}\n";
	struct rig *r = *state;
	int fd = dial_hello(r);
	size_t sent = 0;
	struct client *c;

	for (unsigned idle = 0; idle < 200;) {
		ssize_t n = send(fd, req, sizeof(req) - 1, MSG_NOSIGNAL);

		if (n > 0)
			sent += (size_t)n;
		idle = n > 0 ? 0 : idle + 1;
		loop(r);
	}
	assert_true(sent < 2 * 1024 * 1024);
	assert_int_equal(nclients(r), 1);
	c = r->ctl->clients[CLIENTS_MAX - 1];
	assert_int_equal(c->phase, WRITING);

	/* not yet */
	c->since_ms = uv_now(&r->uv) - STALL_MS + 1000;
	on_sweep(&r->ctl->sweep);
	on_sweep(&r->ctl->sweep);
	assert_int_equal(nclients(r), 1);
	/* it reads a little: that is progress */
	c->queued = uv_stream_get_write_queue_size((uv_stream_t *)&c->pipe) + 1;
	c->since_ms = uv_now(&r->uv) - STALL_MS;
	on_sweep(&r->ctl->sweep);
	assert_int_equal(nclients(r), 1);
	/* nothing for too long */
	c->since_ms = uv_now(&r->uv) - STALL_MS;
	on_sweep(&r->ctl->sweep);
	assert_int_equal(nclients(r), 0);
	loop(r);
	close(fd);
}

static void test_silent(void **state)
{
	struct rig *r = *state;
	int fd = dial_hello(r), half = dial_hello(r), busy = dial_hello(r);

	say(half, "{\"id\":");
	loop(r);
	assert_int_equal(nclients(r), 3);
	for (unsigned i = 0; i < CLIENTS_MAX; i++)
		if (r->ctl->clients[i])
			r->ctl->clients[i]->since_ms = uv_now(&r->uv) - IDLE_MS;
	say(busy, "{\"command\":\"status\"}\n");
	expect_line(r, busy, "result");
	on_sweep(&r->ctl->sweep);
	assert_int_equal(nclients(r), 1);
	expect_closed(r, fd);
	expect_closed(r, half);
	close(busy);
}

/* Disconnects at every point of a listing. */
static void test_leaves_in_mid_listing(void **state)
{
	struct rig *r = *state;
	static char buf[50000];

	for (unsigned i = 0; i < 60; i++) {
		int fd = dial_hello(r);

		say(fd, "{\"command\":\"flows\"}\n{\"command\":\"flows\"}\n");
		for (unsigned turns = 0; turns < i; turns++) {
			loop(r);
			if (recv(fd, buf, sizeof(buf), 0) == 0)
				fail();
		}
		close(fd);
		for (unsigned turns = 0; turns < 10000 && nclients(r); turns++)
			loop(r);
		assert_int_equal(nclients(r), 0);
	}
}

/* The teardown closes the control socket while some list, some have stalled and some have just come. */
static void test_close_in_mid_listing(void **state)
{
	struct rig *r = *state;
	int fds[12];

	for (unsigned i = 0; i < 12; i++) {
		fds[i] = i < 10 ? dial_hello(r) : dial(r);
		if (i < 10)
			say(fds[i], "{\"command\":\"flows\"}\n{\"command\":\"flows\"}\n");
	}
	for (unsigned turns = 0; turns < 20; turns++)
		loop(r);
	assert_true(nclients(r) >= 10);
	control_close(r->ctl);
	r->ctl = NULL;
	loop(r);
	for (unsigned i = 0; i < 12; i++)
		close(fds[i]);
	assert_int_equal(access(r->path, F_OK), -1);
}

static void test_too_many(void **state)
{
	struct rig *r = *state;
	int fds[CLIENTS_MAX], fd;

	for (unsigned i = 0; i < CLIENTS_MAX; i++)
		fds[i] = dial_hello(r);
	fd = dial(r);
	expect_line(r, fd, "\"code\":\"busy\"");
	expect_closed(r, fd);
	close(fds[7]);
	for (unsigned turns = 0; turns < 100 && nclients(r) == CLIENTS_MAX; turns++)
		loop(r);
	fds[7] = dial_hello(r);
	for (unsigned i = 0; i < CLIENTS_MAX; i++)
		close(fds[i]);
}

/* While two clients list without end, a third is answered soon, and no turn of the loop is long. */
static void test_takes_turns(void **state)
{
	static const char listings[] =
		"{\"command\":\"flows\"}\n{\"command\":\"flows\"}\n{\"command\":\"flows\"}\n";
	static char buf[1 << 20];
	struct rig *r = *state;
	int before = dial_hello(r), fd = dial_hello(r), behind = dial_hello(r);
	uint64_t longest = 0;

	say(before, listings);
	say(behind, listings);
	say(fd, "{\"id\":1,\"command\":\"status\"}\n");
	for (unsigned turns = 0; turns < 40; turns++) {
		uint64_t t0 = uv_hrtime(), took;

		loop(r);
		took = uv_hrtime() - t0;
		longest = took > longest ? took : longest;
		if (recv(before, buf, sizeof(buf), 0) == 0 || recv(behind, buf, sizeof(buf), 0) == 0)
			fail();
	}
	assert_true(recv(fd, buf, sizeof(buf), 0) > 0);
	assert_memory_equal(buf, "{\"id\":1,\"result\":", 17);
	for (unsigned i = 0, listing = 0; i < CLIENTS_MAX; i++) {
		listing += r->ctl->clients[i] && r->ctl->clients[i]->req.rows;
		assert_true(i < CLIENTS_MAX - 1 || listing == 2);
	}
	/* 0.1 ms a page, and the sending; the rest is room for a busy machine under a sanitizer */
	assert_true(longest < 100 * UINT64_C(1000000));
	close(fd);
	close(before);
	close(behind);
}

/* ---- the socket file -------------------------------------------------------------------------------- */

static void reopen(struct rig *r, int want)
{
	if (r->ctl)
		control_close(r->ctl);
	loop(r);
	assert_int_equal(control_open(&r->ctl, &r->toy.gw), want);
}

static void test_socket_file(void **state)
{
	struct rig *r = *state;
	struct control *second;
	struct stat st;
	int fd;

	assert_int_equal(stat(r->path, &st), 0);
	assert_true(S_ISSOCK(st.st_mode));
	assert_int_equal(st.st_mode & 0777, 0600);
	/* somebody listens there: it stays his */
	assert_int_equal(control_open(&second, &r->toy.gw), -EADDRINUSE);
	assert_null(second);
	fd = dial_hello(r);
	close(fd);
	/* left behind by a process that is dead: replaced */
	control_close(r->ctl);
	r->ctl = NULL;
	loop(r);
	fd = socket(AF_UNIX, SOCK_STREAM, 0);
	{
		struct sockaddr_un sun = {.sun_family = AF_UNIX};

		snprintf(sun.sun_path, sizeof(sun.sun_path), "%s", r->path);
		assert_int_equal(bind(fd, (const struct sockaddr *)&sun, sizeof(sun)), 0);
	}
	close(fd);
	reopen(r, 0);
	fd = dial_hello(r);
	close(fd);
}

static void test_no_socket_at_path(void **state)
{
	struct rig *r = *state;
	char link_to[80], too_long[200] = "/", group[] = "no-such-group-here";
	int fd;

	/* a file, a link to a file that does not exist: not ours to remove */
	control_close(r->ctl);
	r->ctl = NULL;
	fd = open(r->path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	close(fd);
	reopen(r, -EADDRINUSE);
	assert_int_equal(unlink(r->path), 0);
	snprintf(link_to, sizeof(link_to), "%s/elsewhere", r->dir);
	assert_int_equal(symlink(link_to, r->path), 0);
	reopen(r, -EADDRINUSE);
	assert_int_equal(unlink(r->path), 0);
	/* no directory, too long a path, no such group */
	snprintf(r->path, sizeof(r->path), "%s/no/sock", r->dir);
	reopen(r, -ENOENT);
	snprintf(r->path, sizeof(r->path), "%s/sock", r->dir);
	memset(too_long + 1, 'x', sizeof(too_long) - 2);
	r->toy.conf.gateway.control_socket = too_long;
	reopen(r, -ENAMETOOLONG);
	r->toy.conf.gateway.control_socket = r->path;
	r->toy.conf.gateway.control_group = group;
	reopen(r, -ENOENT);
	r->toy.conf.gateway.control_group = NULL;
	reopen(r, 0);
}

/* The file that another process put in the place of ours is left alone at the end. */
static void test_unlinks_only_its_own(void **state)
{
	struct rig *r = *state;
	struct control *first = r->ctl;

	assert_int_equal(unlink(r->path), 0);
	assert_int_equal(control_open(&r->ctl, &r->toy.gw), 0);
	control_close(first);
	loop(r);
	close(dial_hello(r));
}

/* ---- rights ----------------------------------------------------------------------------------------- */

/* A process with these ids connects, says req if it is let in, and looks for two texts in what it hears. Exit
 * status 0: both were there. */
static void as_user(struct rig *r, uid_t uid, gid_t gid, gid_t other, const char *hello, const char *req,
	const char *answer)
{
	int status;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		struct sockaddr_un sun = {.sun_family = AF_UNIX};
		int fd = socket(AF_UNIX, SOCK_STREAM, 0);
		char buf[4096] = "";
		ssize_t n;

		snprintf(sun.sun_path, sizeof(sun.sun_path), "%s", r->path);
		if (setgroups(other ? 1 : 0, &other) || setgid(gid) || setuid(uid) ||
			connect(fd, (const struct sockaddr *)&sun, sizeof(sun)))
			_exit(1);
		n = recv(fd, buf, sizeof(buf) - 1, 0);
		if (n <= 0 || !strstr(buf, hello))
			_exit(2);
		if (!req)
			_exit(recv(fd, buf, sizeof(buf), 0) == 0 ? 0 : 3);
		memset(buf, 0, sizeof(buf));
		if (send(fd, req, strlen(req), MSG_NOSIGNAL) < 0 || recv(fd, buf, sizeof(buf) - 1, 0) <= 0)
			_exit(4);
		_exit(strstr(buf, answer) ? 0 : 5);
	}
	while (waitpid(pid, &status, WNOHANG) == 0) {
		loop(r);
		usleep(100);
	}
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

static void test_rights(void **state)
{
	static const char status[] = "{\"command\":\"status\"}\n", reload[] = "{\"command\":\"reload\"}\n";
	struct rig *r = *state;
	char name[] = "daemon";
	const struct group *g = getgrnam(name);
	struct stat st;
	gid_t gid;

	if (geteuid() != 0 || !g) {
		skip();
		return;
	}
	gid = g->gr_gid;
	r->toy.conf.gateway.control_group = name;
	reopen(r, 0);
	assert_int_equal(stat(r->path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0660);
	assert_int_equal(st.st_gid, gid);
	/* The mode of the file keeps strangers out before they are looked at; here it shall not. */
	assert_int_equal(chmod(r->path, 0666), 0);

	as_user(r, 0, 0, 0, "\"access\":\"admin\"", reload, "\"result\"");
	assert_int_equal(r->toy.reloads, 1);
	/* by primary, and by supplementary group */
	as_user(r, NOBODY, gid, 0, "\"access\":\"read\"", status, "\"result\"");
	as_user(r, NOBODY, NOBODY, gid, "\"access\":\"read\"", status, "\"result\"");
	as_user(r, NOBODY, NOBODY, gid, "\"access\":\"read\"", reload, "\"code\":\"access\"");
	as_user(r, NOBODY, gid, 0, "\"access\":\"read\"", "{\"command\":\"flush\",\"args\":{\"all\":true}}\n",
		"\"code\":\"access\"");
	as_user(r, NOBODY, NOBODY, 0, "\"code\":\"access\"", NULL, NULL);
	as_user(r, NOBODY, 0, NOBODY, "\"code\":\"access\"", NULL, NULL);
	assert_int_equal(r->toy.reloads, 1);
	assert_int_equal(r->toy.flushes, 0);

	/* without a group: nobody else */
	r->toy.conf.gateway.control_group = NULL;
	reopen(r, 0);
	assert_int_equal(chmod(r->path, 0666), 0);
	as_user(r, NOBODY, gid, gid, "\"code\":\"access\"", NULL, NULL);
	as_user(r, 0, 0, 0, "\"access\":\"admin\"", status, "\"result\"");
}

/* Readers cannot take the places of administrators. */
static void test_places_for_admins(void **state)
{
	struct rig *r = *state;
	int fds[READERS_MAX];

	for (unsigned i = 0; i < READERS_MAX; i++) {
		assert_true(place_for(r->ctl, CONTROL_READ) >= 0);
		fds[i] = dial_hello(r);
		for (unsigned at = 0; at < CLIENTS_MAX; at++)
			if (r->ctl->clients[at])
				r->ctl->clients[at]->req.peer.access = CONTROL_READ;
	}
	assert_int_equal(place_for(r->ctl, CONTROL_READ), -1);
	assert_true(place_for(r->ctl, CONTROL_ADMIN) >= 0);
	for (unsigned i = 0; i < READERS_MAX; i++)
		close(fds[i]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_pieces, setup, teardown),
		cmocka_unit_test_setup_teardown(test_pipelined, setup, teardown),
		cmocka_unit_test_setup_teardown(test_half_closed, setup, teardown),
		cmocka_unit_test_setup_teardown(test_too_long, setup, teardown),
		cmocka_unit_test_setup_teardown(test_never_reads, setup, teardown),
		cmocka_unit_test_setup_teardown(test_silent, setup, teardown),
		cmocka_unit_test_setup_teardown(test_leaves_in_mid_listing, setup, teardown),
		cmocka_unit_test_setup_teardown(test_close_in_mid_listing, setup, teardown),
		cmocka_unit_test_setup_teardown(test_too_many, setup, teardown),
		cmocka_unit_test_setup_teardown(test_takes_turns, setup, teardown),
		cmocka_unit_test_setup_teardown(test_socket_file, setup, teardown),
		cmocka_unit_test_setup_teardown(test_no_socket_at_path, setup, teardown),
		cmocka_unit_test_setup_teardown(test_unlinks_only_its_own, setup, teardown),
		cmocka_unit_test_setup_teardown(test_rights, setup, teardown),
		cmocka_unit_test_setup_teardown(test_places_for_admins, setup, teardown),
	};

	signal(SIGPIPE, SIG_IGN); /* as the daemon does */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
