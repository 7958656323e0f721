/* SPDX-License-Identifier: GPL-2.0-or-later */
/* base_log_test.c - records on stderr and in the journal, levels, and the limit of records on the packet
 * path. */
#include "gateway/base/log.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

/* Stderr goes to a file in memory between capture() and captured(). */
struct capture {
	int saved, fd;
	char text[8192];
};

static void capture(struct capture *c)
{
	c->fd = memfd_create("stderr", 0);
	assert_true(c->fd >= 0);
	c->saved = dup(STDERR_FILENO);
	assert_true(c->saved >= 0);
	assert_true(dup2(c->fd, STDERR_FILENO) >= 0);
}

static const char *captured(struct capture *c)
{
	ssize_t n;

	dup2(c->saved, STDERR_FILENO);
	close(c->saved);
	n = pread(c->fd, c->text, sizeof(c->text) - 1, 0);
	close(c->fd);
	assert_true(n >= 0);
	c->text[n] = '\0';
	return c->text;
}

/* What stands behind the time stamp of the first line, whose form is checked. */
static const char *behind_stamp(const char *line)
{
	static const char form[] = "dddd-dd-ddTdd:dd:dd.dddZ ";

	for (size_t i = 0; i < sizeof(form) - 1; i++) {
		if (form[i] == 'd')
			assert_in_range(line[i], '0', '9');
		else
			assert_int_equal(line[i], form[i]);
	}
	return line + sizeof(form) - 1;
}

static void records_name_their_object(void **state)
{
	static const struct {
		const char *kind, *name, *text, *expected;
	} cases[] = {
		{"tunnel", "branch-a", "is up", "warning tunnel branch-a: is up\n"},
		{"egress", NULL, "is up", "warning egress: is up\n"},
		{"config", NULL, "two\nlines\tand \x1b[31mcolour\x7f",
			"warning config: two lines and ?[31mcolour?\n"},
		{"config", NULL, "", "warning config: \n"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct log *l = log_open(LOG_LEVEL_INFO);
		struct capture c;

		assert_non_null(l);
		capture(&c);
		log_warning(l, cases[i].kind, cases[i].name, "%s", cases[i].text);
		assert_string_equal(behind_stamp(captured(&c)), cases[i].expected);
		log_close(l);
	}
}

static void levels(void **state)
{
	static const char *const names[] = {"error", "warning", "notice", "info", "debug"};

	(void)state;
	for (int limit = 0; limit < 5; limit++) {
		struct log *l = log_open(LOG_LEVEL_ERROR);

		assert_non_null(l);
		log_set_level(l, (enum log_level)limit);
		for (int level = 0; level < 5; level++) {
			struct capture c;
			const char *text;

			capture(&c);
			log_msg(l, (enum log_level)level, "test", NULL, "x");
			text = captured(&c);
			assert_int_equal(log_wants(l, (enum log_level)level), level <= limit);
			assert_int_equal(*text != '\0', level <= limit);
			if (*text)
				assert_memory_equal(behind_stamp(text), names[level], strlen(names[level]));
		}
		log_close(l);
	}
	for (int level = 0; level < 5; level++) {
		assert_int_equal(log_level_parse(names[level]), level);
		assert_string_equal(log_level_name((enum log_level)level), names[level]);
	}
	assert_int_equal(log_level_parse("warn"), -1);
	assert_int_equal(log_level_parse(""), -1);
}

static void lines_are_records(void **state)
{
	struct log *l = log_open(LOG_LEVEL_INFO);
	struct capture c;
	const char *text;

	(void)state;
	assert_non_null(l);
	capture(&c);
	log_lines(l, LOG_LEVEL_ERROR, "config", NULL, "a: one\n\nb: two\nthree");
	log_lines(l, LOG_LEVEL_DEBUG, "config", NULL, "not wanted\n");
	text = captured(&c);
	assert_memory_equal(behind_stamp(text), "error config: a: one\n", 21);
	assert_non_null(strstr(text, "error config: b: two\n"));
	assert_non_null(strstr(text, "error config: three\n"));
	assert_null(strstr(text, "not wanted"));
	log_close(l);
}

static void no_log_swallows(void **state)
{
	struct log_limit lim = {0};
	struct capture c;

	(void)state;
	capture(&c);
	log_error(NULL, "test", NULL, "x");
	log_limited(NULL, &lim, 1, LOG_LEVEL_ERROR, "test", NULL, "x");
	log_set_level(NULL, LOG_LEVEL_DEBUG);
	log_close(NULL);
	assert_string_equal(captured(&c), "");
	assert_false(log_wants(NULL, LOG_LEVEL_ERROR));
}

/* A record of any length is one line, and its end is where it should be. */
static void long_records_are_cut(void **state)
{
	static char longer[4000];
	struct log *l = log_open(LOG_LEVEL_INFO);
	struct capture c;
	const char *text;

	(void)state;
	assert_non_null(l);
	memset(longer, 'x', sizeof(longer) - 1);
	capture(&c);
	log_info(l, "tunnel", longer, "%s", longer);
	text = captured(&c);
	assert_true(strlen(text) > 1000 && strlen(text) < 2000);
	assert_ptr_equal(strchr(text, '\n'), text + strlen(text) - 1);
	log_close(l);
}

static void limit_is_burst_then_rate(void **state)
{
	/* At each time, how many of 30 attempts pass. */
	static const struct {
		uint64_t now_ms;
		int passed;
	} steps[] = {
		{5000, 10}, /* the burst */
		{5000, 0},  /* used up */
		{5999, 0},  /* almost a second */
		{6000, 1},  /* one a second */
		{8500, 2},  /* two and a half: the half is not lost ... */
		{9000, 1},  /* ... */
		{1000, 0},  /* a clock that ran backwards gives nothing */
		{9999, 0},
		{100000, 10}, /* no more than the burst */
		{100999, 0},
	};
	struct log_limit lim = {0};

	(void)state;
	for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
		int passed = 0;

		for (int k = 0; k < 30; k++)
			passed += log_limit_ok(&lim, steps[i].now_ms);
		if (passed != steps[i].passed)
			fail_msg("step %zu: %d passed, expected %d", i, passed, steps[i].passed);
	}
	lim = (struct log_limit){0};
	assert_true(log_limit_ok(&lim, 0)); /* the clock may begin at 0 */
}

static void held_back_records_are_counted(void **state)
{
	struct log *l = log_open(LOG_LEVEL_INFO);
	struct log_limit lim = {0};
	struct capture c;
	const char *text;
	int lines = 0;

	(void)state;
	assert_non_null(l);
	capture(&c);
	for (int i = 0; i < 17; i++)
		log_limited(l, &lim, 1000, LOG_LEVEL_INFO, "gateway", NULL, "n %d", i);
	/* what is not wanted costs no token and is not counted */
	log_limited(l, &lim, 1000, LOG_LEVEL_DEBUG, "gateway", NULL, "quiet");
	log_limited(l, &lim, 2000, LOG_LEVEL_INFO, "gateway", NULL, "again");
	log_limited(l, &lim, 3000, LOG_LEVEL_INFO, "gateway", NULL, "and again");
	text = captured(&c);
	for (const char *p = text; (p = strchr(p, '\n')); p++)
		lines++;
	assert_int_equal(lines, 12);
	assert_non_null(strstr(text, "gateway: n 9\n"));
	assert_null(strstr(text, "gateway: n 10\n"));
	assert_non_null(strstr(text, "gateway: again (7 more records held back)\n"));
	assert_non_null(strstr(text, "gateway: and again\n"));
	log_close(l);
}

/* JOURNAL_STREAM that names another file than stderr: somebody redirected it, records follow. */
static void journal_only_where_stderr_is_it(void **state)
{
	static const char *const others[] = {"1:1", "", "x", "12", "12:", ":", "99999999999999999999:1"};

	(void)state;
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
		struct capture c;
		struct log *l;

		setenv("JOURNAL_STREAM", others[i], 1);
		capture(&c);
		l = log_open(LOG_LEVEL_INFO);
		log_info(l, "test", NULL, "x");
		log_close(l);
		assert_string_equal(behind_stamp(captured(&c)), "info test: x\n");
	}
	unsetenv("JOURNAL_STREAM");
}

/* In a child with a mount namespace of its own: a socket plays the journal. Exit status 0: all as expected.
 */
static int journal_child(void)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX, .sun_path = "/run/systemd/journal/socket"};
	char stream[64], buf[4096];
	struct log *l;
	struct stat st;
	ssize_t n;
	int s;

	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
		mount("tmpfs", "/run", "tmpfs", 0, NULL) < 0)
		return 77;
	mkdir("/run/systemd", 0755);
	mkdir("/run/systemd/journal", 0755);
	s = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0);
	if (s < 0 || bind(s, (struct sockaddr *)&sa, sizeof(sa)) < 0 || fstat(STDERR_FILENO, &st) < 0)
		return 78;
	snprintf(stream, sizeof(stream), "%llu:%llu", (unsigned long long)st.st_dev,
		(unsigned long long)st.st_ino);
	setenv("JOURNAL_STREAM", stream, 1);
	l = log_open(LOG_LEVEL_DEBUG);
	log_error(l, "tunnel", "branch-a", "is down: %d", 7);
	n = recv(s, buf, sizeof(buf) - 1, 0);
	buf[n > 0 ? n : 0] = '\0';
	if (!strstr(buf, "PRIORITY=3\n") || !strstr(buf, "MESSAGE=tunnel branch-a: is down: 7\n") ||
		!strstr(buf, "ARRD_TUNNEL=branch-a\n") || strstr(buf, "ARRD_SITE") ||
		strstr(buf, "CODE_FILE"))
		return 1;
	log_debug(l, "site", "acme", "x");
	n = recv(s, buf, sizeof(buf) - 1, 0);
	buf[n > 0 ? n : 0] = '\0';
	if (!strstr(buf, "PRIORITY=7\n") || !strstr(buf, "ARRD_SITE=acme\n") || strstr(buf, "ARRD_TUNNEL"))
		return 2;
	log_info(l, "egress", "wan", "x");
	n = recv(s, buf, sizeof(buf) - 1, 0);
	buf[n > 0 ? n : 0] = '\0';
	if (!strstr(buf, "PRIORITY=6\n") || !strstr(buf, "MESSAGE=egress wan: x\n") || strstr(buf, "ARRD_"))
		return 3;
	log_close(l);
	return 0;
}

static void journal_has_fields(void **state)
{
	struct capture c;
	int status = 0;
	pid_t pid;

	(void)state;
	capture(&c);
	pid = fork();
	if (pid == 0)
		_exit(journal_child());
	assert_true(pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status));
	if (WEXITSTATUS(status) == 77) {
		captured(&c);
		skip(); /* needs CAP_SYS_ADMIN */
	}
	assert_string_equal(captured(&c), ""); /* nothing on stderr besides */
	assert_int_equal(WEXITSTATUS(status), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(records_name_their_object),
		cmocka_unit_test(levels),
		cmocka_unit_test(lines_are_records),
		cmocka_unit_test(no_log_swallows),
		cmocka_unit_test(long_records_are_cut),
		cmocka_unit_test(limit_is_burst_then_rate),
		cmocka_unit_test(held_back_records_are_counted),
		cmocka_unit_test(journal_only_where_stderr_is_it),
		cmocka_unit_test(journal_has_fields),
	};

	unsetenv("JOURNAL_STREAM");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
