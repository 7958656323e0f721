/* SPDX-License-Identifier: GPL-2.0-or-later */
/* control_rig.h - the control socket of a toy gateway, and clients of it. For one file of a program.
 *
 * The file under test is included: its clock stamps are set back by tests instead of waiting for half a minute.
 * Server and client share a thread; loop() gives the server turns while a client waits.
 */
#ifndef ARRD_TEST_CONTROL_RIG_H
#define ARRD_TEST_CONTROL_RIG_H

#include "gateway/control.c" /* NOLINT(bugprone-suspicious-include) */
#include "test/tools/toy_gateway.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#ifndef NFLOWS
#define NFLOWS 30000 /* that there are from the beginning, */
#define ROOM   1000  /* and how many more there may be */
#endif

struct rig {
	struct toy toy;
	uv_loop_t uv;
	struct control *ctl;
	char dir[32], path[64];
};

static int setup(void **state)
{
	struct rig *r = calloc(1, sizeof(*r));

	if (!r || toy_open(&r->toy, NFLOWS + ROOM))
		return -1;
	strcpy(r->dir, "/tmp/arrd-control-XXXXXX");
	if (!mkdtemp(r->dir) || chmod(r->dir, 0755) < 0)
		return -1;
	snprintf(r->path, sizeof(r->path), "%s/sock", r->dir);
	r->toy.conf.gateway.control_socket = r->path;
	uv_loop_init(&r->uv);
	r->toy.gw.loop = &r->uv;
	for (uint32_t n = 1; n <= NFLOWS; n++)
		toy_flow(&r->toy, 0, IPPROTO_UDP, n);
	*state = r;
	return control_open(&r->ctl, &r->toy.gw);
}

static int teardown(void **state)
{
	struct rig *r = *state;

	control_close(r->ctl);
	uv_run(&r->uv, UV_RUN_DEFAULT);
	assert_int_equal(uv_loop_close(&r->uv), 0);
	toy_close(&r->toy);
	unlink(r->path);
	assert_int_equal(rmdir(r->dir), 0);
	free(r);
	return 0;
}

/* A turn of the server's loop, or as many as it is at once busy with. */
static void loop(struct rig *r)
{
	uv_run(&r->uv, UV_RUN_NOWAIT);
}

static int dial(const struct rig *r)
{
	struct sockaddr_un sun = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	snprintf(sun.sun_path, sizeof(sun.sun_path), "%s", r->path);
	assert_int_equal(connect(fd, (const struct sockaddr *)&sun, sizeof(sun)), 0);
	return fd;
}

/* The next line from the server into buf (with its newline); its length, 0 when the server closed. */
static size_t read_line(struct rig *r, int fd, char *buf, size_t max)
{
	size_t len = 0;

	for (unsigned turns = 0; turns < 100000; turns++) {
		ssize_t n = recv(fd, buf + len, 1, 0);

		if (n == 0 || (n < 0 && errno == ECONNRESET))
			return 0;
		if (n < 0) {
			loop(r);
			if (turns > 1000) /* it waits for a timer */
				usleep(10);
			continue;
		}
		turns = 0;
		assert_true(++len < max);
		if (buf[len - 1] == '\n') {
			buf[len] = '\0';
			return len;
		}
	}
	fail_msg("no line came");
	return 0;
}

static void expect_line(struct rig *r, int fd, const char *part)
{
	static char line[CONTROL_OUT_MAX + 2];

	assert_true(read_line(r, fd, line, sizeof(line)) > 0);
	if (!strstr(line, part))
		fail_msg("\"%s\" is not in: %.300s", part, line);
}

static void expect_closed(struct rig *r, int fd)
{
	static char line[CONTROL_OUT_MAX + 2];

	assert_int_equal(read_line(r, fd, line, sizeof(line)), 0);
	close(fd);
}

static int dial_hello(struct rig *r)
{
	int fd = dial(r);

	expect_line(r, fd, "{\"arrd\":\"" ARRD_VERSION "\",\"protocol\":1,\"access\":\"admin\"}\n");
	return fd;
}

static void say(int fd, const char *s)
{
	assert_int_equal(send(fd, s, strlen(s), MSG_NOSIGNAL), strlen(s));
}

static unsigned nclients(const struct rig *r)
{
	unsigned n = 0;

	for (unsigned i = 0; i < CLIENTS_MAX; i++)
		n += r->ctl->clients[i] != NULL;
	return n;
}

#endif
