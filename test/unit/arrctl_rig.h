/* SPDX-License-Identifier: GPL-2.0-or-later */
/* arrctl_rig.h - the control socket of a toy gateway, and arrctl to talk to it. For one file of a program.
 *
 * arrctl runs in a child process, its main() under another name; the parent is the daemon.
 */
#ifndef ARRD_TEST_ARRCTL_RIG_H
#define ARRD_TEST_ARRCTL_RIG_H

#include "gateway/control.h"
#include "test/tools/toy_gateway.h"
int arrctl_main(int argc, char **argv);
#define main arrctl_main
#include "gateway/arrctl.c" /* NOLINT(bugprone-suspicious-include) */
#undef main
#include "gateway/arrctl_conn.c"   /* NOLINT(bugprone-suspicious-include) */
#include "gateway/arrctl_follow.c" /* NOLINT(bugprone-suspicious-include) */
#include "gateway/arrctl_table.c"  /* NOLINT(bugprone-suspicious-include) */
#include "gateway/arrctl_tunnel.c" /* NOLINT(bugprone-suspicious-include) */
#include "gateway/arrctl_view.c"   /* NOLINT(bugprone-suspicious-include) */

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cmocka.h>

#define NFLOWS 3000

struct rig {
	struct toy toy;
	uv_loop_t uv;
	char dir[32], sock[64], out[64], err[64];
	char text[2][4 << 20]; /* what arrctl printed to stdout, stderr */
};

static int setup(void **state)
{
	struct rig *r = calloc(1, sizeof(*r));

	if (!r || toy_open(&r->toy, 10000))
		return -1;
	strcpy(r->dir, "/tmp/arrd-arrctl-XXXXXX");
	if (!mkdtemp(r->dir))
		return -1;
	snprintf(r->sock, sizeof(r->sock), "%s/sock", r->dir);
	snprintf(r->out, sizeof(r->out), "%s/out", r->dir);
	snprintf(r->err, sizeof(r->err), "%s/err", r->dir);
	r->toy.conf.gateway.control_socket = r->sock;
	uv_loop_init(&r->uv);
	r->toy.gw.loop = &r->uv;
	for (uint32_t n = 1; n <= NFLOWS / 2; n++) {
		toy_flow(&r->toy, 0, IPPROTO_TCP, n);
		toy_flow(&r->toy, 1, IPPROTO_TCP, n);
	}
	tunnels_at(r->toy.gw.tunnels, 1)->count.drops[DROP_DST_PRIVATE] = 12;
	*state = r;
	return control_open(&r->toy.gw.control, &r->toy.gw);
}

static int teardown(void **state)
{
	struct rig *r = *state;

	control_close(r->toy.gw.control);
	uv_run(&r->uv, UV_RUN_DEFAULT);
	uv_loop_close(&r->uv);
	toy_close(&r->toy);
	unlink(r->out);
	unlink(r->err);
	rmdir(r->dir);
	free(r);
	return 0;
}

static void slurp(const char *path, char *buf, size_t max)
{
	FILE *f = fopen(path, "re");
	size_t n;

	assert_non_null(f);
	n = fread(buf, 1, max - 1, f);
	buf[n] = '\0';
	fclose(f);
}

/* Begins arrctl in a child, with -s SOCKET and the words of line. */
static inline pid_t arrctl_begin(struct rig *r, const char *line)
{
	char words[256], *argv[16] = {(char[]){"arrctl"}, (char[]){"-s"}, r->sock};
	int argc = 3;
	pid_t pid;

	snprintf(words, sizeof(words), "%s", line);
	for (char *w = strtok(words, " "); w && argc < 15; w = strtok(NULL, " "))
		argv[argc++] = w;
	fflush(NULL);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		if (!freopen(r->out, "we", stdout) || !freopen(r->err, "we", stderr))
			_exit(99);
		_exit(arrctl_main(argc, argv) | fflush(NULL));
	}
	return pid;
}

/* The same to its end. Its exit status. */
static inline int arrctl(struct rig *r, const char *line)
{
	pid_t pid = arrctl_begin(r, line);
	int status;

	while (waitpid(pid, &status, WNOHANG) == 0) {
		uv_run(&r->uv, UV_RUN_NOWAIT);
		usleep(50);
	}
	assert_true(WIFEXITED(status));
	slurp(r->out, r->text[0], sizeof(r->text[0]));
	slurp(r->err, r->text[1], sizeof(r->text[1]));
	return WEXITSTATUS(status);
}

#endif
