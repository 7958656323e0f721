/* SPDX-License-Identifier: GPL-2.0-or-later */
/* gateway_arrctlfollow_test.c - arrctl flows --follow: what it prints, and the ways in which it ends. */
#include "test/unit/arrctl_rig.h"

/* Once it follows, what is done to flows is told. */
static pid_t follow_begin(struct rig *r, const char *args)
{
	char line[160];

	snprintf(line, sizeof(line), "flows --follow %s", args);
	unlink(r->out);
	return arrctl_begin(r, line);
}

/* Turns of the loop until arrctl has printed this. */
static void wait_text(struct rig *r, const char *part)
{
	for (unsigned i = 0; i < 100000; i++) {
		uv_run(&r->uv, UV_RUN_NOWAIT);
		if (access(r->out, F_OK) == 0)
			slurp(r->out, r->text[0], sizeof(r->text[0]));
		if (strstr(r->text[0], part))
			return;
		usleep(50);
	}
	fail_msg("\"%s\" is not in: %.400s", part, r->text[0]);
}

static int follow_end(struct rig *r, pid_t pid)
{
	int status;

	while (waitpid(pid, &status, WNOHANG) == 0) {
		uv_run(&r->uv, UV_RUN_NOWAIT);
		usleep(50);
	}
	slurp(r->out, r->text[0], sizeof(r->text[0]));
	slurp(r->err, r->text[1], sizeof(r->text[1]));
	return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

/* As JSON: a line an event, and the end by a signal is a good one, with all that came before it. */
static void test_follow_json(void **state)
{
	static const int signals_[] = {SIGINT, SIGTERM};
	struct rig *r = *state;

	for (unsigned i = 0; i < 2; i++) {
		pid_t pid = follow_begin(r, "--json --tunnel branch-a");
		char *line, *next;
		unsigned n = 0;

		r->text[0][0] = '\0';
		wait_text(r, "{\"event\":\"follow\",\"time\":\"2");
		toy_flow(&r->toy, 0, IPPROTO_UDP, 60000 + i);
		toy_flow(&r->toy, 1, IPPROTO_UDP, 60000 + i); /* not asked for */
		wait_text(r, "{\"event\":\"begin\",\"time\":\"2");
		kill(pid, signals_[i]);
		assert_int_equal(follow_end(r, pid), EX_OK);
		assert_string_equal(r->text[1], "");
		for (line = r->text[0]; *line; line = next + 1, n++) {
			json_t *j;

			next = strchr(line, '\n');
			assert_non_null(next);
			j = json_loadb(line, (size_t)(next - line), JSON_REJECT_DUPLICATES, NULL);
			assert_non_null(j);
			if (n == 1)
				assert_string_equal(member_text(j, "site"), "acme-berlin");
			json_decref(j);
		}
		assert_int_equal(n, 2);
	}
}

/* For people: the title comes at once, and a flow that ended has its counters. */
static void test_follow_text(void **state)
{
	struct rig *r = *state;
	pid_t pid = follow_begin(r, "--limit 2");
	uint32_t flow;

	r->text[0][0] = '\0';
	wait_text(r, "TIME                      EVENT   SITE          TUNNEL        PROTO   FLOW");
	toy_flow(&r->toy, 0, IPPROTO_UDP, 60000);
	flow = toy_flow(&r->toy, 1, IPPROTO_UDP, 60000);
	assert_int_equal(follow_end(r, pid), EX_OK);
	assert_non_null(strstr(r->text[0], "Z  begin   acme-berlin   branch-a      udp     10.0.1.5:60000 > "
					   "93.184.216.34:80         -  "));
	assert_non_null(strstr(r->text[0], "Z  begin   branch-b      branch-b      udp     10.0.1.5:60000 > "
					   "93.184.216.34:80         10.0.1.5:"));
	assert_string_equal(r->text[1], "");

	pid = follow_begin(r, "--limit 1");
	r->text[0][0] = '\0';
	wait_text(r, "TIME");
	fs_end(r->toy.gw.fs, flow, toy_now_ms);
	assert_int_equal(follow_end(r, pid), EX_OK);
	assert_non_null(strstr(r->text[0], "Z  evict   branch-b "));
	assert_non_null(strstr(r->text[0], "     1    100B        0      0B  flushed\n"));
}

/* The daemon goes away: that is no good end. Nor is a reader that goes away, though nothing happens. */
static void test_follow_is_left(void **state)
{
	struct rig *r = *state;
	pid_t pid = follow_begin(r, "--json");
	int pipe_fd[2], status;

	r->text[0][0] = '\0';
	wait_text(r, "follow");
	control_close(r->toy.gw.control);
	assert_int_equal(follow_end(r, pid), EX_UNAVAILABLE);
	assert_non_null(strstr(r->text[1], "the daemon closed the connection"));

	assert_int_equal(control_open(&r->toy.gw.control, &r->toy.gw), 0);
	assert_int_equal(pipe2(pipe_fd, O_CLOEXEC), 0);
	fflush(NULL);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		char *argv[] = {(char[]){"arrctl"}, (char[]){"-s"}, r->sock, (char[]){"flows"},
			(char[]){"--follow"}, NULL};

		dup2(pipe_fd[1], STDOUT_FILENO);
		close(pipe_fd[0]);
		close(pipe_fd[1]);
		_exit(arrctl_main(5, argv));
	}
	close(pipe_fd[1]);
	for (char c = 0; c != '\n';) {
		struct pollfd p = {pipe_fd[0], POLLIN, 0};

		uv_run(&r->uv, UV_RUN_NOWAIT);
		if (poll(&p, 1, 0) == 1)
			assert_int_equal(read(pipe_fd[0], &c, 1), 1);
	}
	close(pipe_fd[0]);
	while (waitpid(pid, &status, WNOHANG) == 0) {
		uv_run(&r->uv, UV_RUN_NOWAIT);
		usleep(50);
	}
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), EX_IOERR);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_follow_json, setup, teardown),
		cmocka_unit_test_setup_teardown(test_follow_text, setup, teardown),
		cmocka_unit_test_setup_teardown(test_follow_is_left, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
