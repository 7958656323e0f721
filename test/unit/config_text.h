/* SPDX-License-Identifier: GPL-2.0-or-later */
/* config_text.h - for tests of the configuration: texts of tunnels, loads that must succeed or fail, and tables of
 * them. */
#ifndef ARRD_TEST_CONFIG_TEXT_H
#define ARRD_TEST_CONFIG_TEXT_H

#include "gateway/config.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* A tunnel that lacks nothing, in four lines. */
#define T(name, remote) "[tunnel " name "]\ntype = gre\nlocal = 198.51.100.1\nremote = " remote "\n"
#define A               T("a", "203.0.113.1")
#define B               T("b", "203.0.113.2")
/* Its replies follow routes. */
#define RELIES "automatic_return_routing = no\n"

#define KEY "1234567890123456789012" /* of a length that is not warned of */

/* An ipsec tunnel that lacks nothing, in five lines. */
#define K(name, remote)                                                                                      \
	"[tunnel " name "]\ntype = ipsec\nlocal = 198.51.100.1\nremote = " remote "\npsk = " KEY "\n"
#define I         K("a", "203.0.113.1")
#define J         K("b", "203.0.113.2")
#define ANY(name) K(name, "any")
/* A GRE tunnel in the one called a, in five. */
#define OVER_A           "over = a\n"
#define G(local, remote) "[tunnel g]\ntype = gre\nlocal = " local "\nremote = " remote "\n" OVER_A

static inline void load_text(const char *text, size_t len, struct config **c, char **errors, int expected)
{
	int err = config_parse_text("x.conf", text, len, c, errors);

	if (err != expected)
		fail_msg("returned %d, expected %d, for:\n%s\nerrors:\n%s", err, expected, text,
			*errors ? *errors : "none");
	assert_int_equal(*c != NULL, err == 0);
	assert_int_equal(*errors != NULL, err == -EINVAL);
}

static inline struct config *good(const char *text)
{
	struct config *c;
	char *errors;

	load_text(text, strlen(text), &c, &errors, 0);
	return c;
}

struct bad_case {
	const char *text;
	const char *
		errors; /* the whole text, without the last line's end; "..." at its end: only the beginning */
};

static inline void check_bad(const struct bad_case *cases, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		const char *expected = cases[i].errors;
		size_t len = strlen(expected);
		struct config *c;
		char *errors;
		bool same;

		load_text(cases[i].text, strlen(cases[i].text), &c, &errors, -EINVAL);
		if (len > 3 && strcmp(expected + len - 3, "...") == 0)
			same = strncmp(errors, expected, len - 3) == 0;
		else
			same = strncmp(errors, expected, len) == 0 && strcmp(errors + len, "\n") == 0;
		if (!same)
			fail_msg("%s\n--- has the errors\n%s--- expected\n%s\n", cases[i].text, errors,
				expected);
		free(errors);
	}
}
#define CHECK_BAD(cases) check_bad(cases, sizeof(cases) / sizeof((cases)[0]))

/* Texts that are good, and the warnings that they have; NULL: none. */
struct good_case {
	const char *text, *warnings;
};

static inline void check_good(const struct good_case *cases, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		struct config *c = good(cases[i].text);

		if (cases[i].warnings ? !c->warnings || strcmp(c->warnings, cases[i].warnings) != 0
				      : c->warnings != NULL)
			fail_msg("%s\n--- has the warnings\n%s\n", cases[i].text,
				c->warnings ? c->warnings : "none");
		config_free(c);
	}
}
#define CHECK_GOOD(cases) check_good(cases, sizeof(cases) / sizeof((cases)[0]))

#endif
