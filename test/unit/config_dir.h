/* SPDX-License-Identifier: GPL-2.0-or-later */
/* config_dir.h - for tests of a configuration that is more than one file: a directory of its own, and loads from it. */
#ifndef ARRD_TEST_CONFIG_DIR_H
#define ARRD_TEST_CONFIG_DIR_H

#include "gateway/config.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

/* An ipsec tunnel that lacks a secret, in four lines. */
#define BARE "[tunnel a]\ntype = ipsec\nlocal = 198.51.100.1\nremote = 203.0.113.1\n"

#define EVERYBODY "can be read or written by everybody; expected mode 0600, or 0640 and arrd's group"

static char dir[64];

static inline const char *at(const char *name)
{
	static char path[256];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	return path;
}

static inline void write_octets(const char *name, const void *octets, size_t n, mode_t mode)
{
	int fd = open(at(name), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, octets, n), n);
	assert_int_equal(fchmod(fd, mode), 0);
	close(fd);
}

static inline void write_text(const char *name, const char *text)
{
	write_octets(name, text, strlen(text), 0600);
}

static inline int remove_files(void **state)
{
	char command[128];

	(void)state;
	snprintf(command, sizeof(command), "rm -rf %s/*", dir);
	return system(command); /* NOLINT(cert-env33-c): a directory of our own */
}

/* Loads dir/x.conf; ~ in expected stands for dir. errors NULL: it is good, and has these warnings. */
static inline struct config *load(const char *errors, const char *warnings)
{
	const char *expected = errors ? errors : warnings ? warnings : "";
	char text[4096], *got;
	size_t n = 0;
	struct config *c;
	int err = config_load(at("x.conf"), &c, &got);

	text[0] = '\0';
	for (const char *p = expected; *p; p++)
		n += (size_t)snprintf(
			text + n, sizeof(text) - n, *p == '~' ? "%s" : "%.1s", *p == '~' ? dir : p);
	if ((err != 0) != (errors != NULL) || (err && strcmp(got, text) != 0) ||
		(!err && strcmp(c->warnings ? c->warnings : "", text) != 0))
		fail_msg("%d:\n%s--- expected\n%s", err, err ? got : c->warnings ? c->warnings : "\n", text);
	free(got);
	return c;
}

static inline void load_bad(const char *errors)
{
	assert_null(load(errors, NULL));
}

/* Whether what is loaded now differs in its first tunnel. */
static inline void assert_change(struct config *before, bool changed)
{
	struct config *now = load(NULL, NULL);

	assert_int_equal(conf_tunnel_eq(before->tunnels, now->tunnels), !changed);
	config_free(now);
}

/* How long a load takes. */
static inline long load_ms(size_t tunnels)
{
	struct timespec t0, t1;
	struct config *c;

	clock_gettime(CLOCK_MONOTONIC, &t0);
	c = load(NULL, NULL);
	clock_gettime(CLOCK_MONOTONIC, &t1);
	assert_int_equal(c->ntunnels, tunnels);
	config_free(c);
	return (t1.tv_sec - t0.tv_sec) * 1000 + (t1.tv_nsec - t0.tv_nsec) / 1000000;
}

/* As main() of such a test. */
#define RUN_IN_DIRECTORY(tests)                                                                              \
	do {                                                                                                 \
		int failed;                                                                                  \
                                                                                                             \
		snprintf(dir, sizeof(dir), "/tmp/arrd-config-XXXXXX");                                       \
		if (!mkdtemp(dir))                                                                           \
			return 1;                                                                            \
		failed = cmocka_run_group_tests(tests, NULL, NULL);                                          \
		rmdir(dir);                                                                                  \
		return failed;                                                                               \
	} while (0)

#endif
