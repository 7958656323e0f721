/* SPDX-License-Identifier: GPL-2.0-or-later */
/* config_text.h - for tests of the configuration: texts of tunnels, and a load that must succeed or fail. */
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

#endif
