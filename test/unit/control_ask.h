/* SPDX-License-Identifier: GPL-2.0-or-later */
/* control_ask.h - asking a toy gateway by the control protocol, without the socket. For one file of a program. */
#ifndef ARRD_TEST_CONTROL_ASK_H
#define ARRD_TEST_CONTROL_ASK_H

#include "gateway/control_private.h"
#include "test/tools/toy_gateway.h"

#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

static char out[CONTROL_OUT_MAX];

static int setup(void **state)
{
	struct toy *t = malloc(sizeof(*t));

	if (!t || toy_open(t, 100000))
		return -1;
	*state = t;
	return 0;
}

static int teardown(void **state)
{
	toy_close(*state);
	free(*state);
	return 0;
}

/* The whole answer to a request: of a listing, the pages put together ("rows", "matched", "pages"). */
static json_t *ask_as(struct toy *t, enum control_access access, const char *line)
{
	struct control_request r = {.gw = &t->gw, .peer = {.access = access}};
	json_t *all = NULL, *rows = NULL;
	unsigned pages = 0;
	struct jsonw w;

	jw_init(&w, out, sizeof(out) - 1);
	control_dispatch(&r, line, strlen(line), &w);
	for (;;) {
		if (w.len) {
			json_error_t e;
			json_t *a = json_loadb(w.buf, w.len, JSON_REJECT_DUPLICATES, &e), *page;

			if (!a)
				fail_msg("%s: answered with no JSON: %.*s: %s", line, (int)w.len, w.buf,
					e.text);
			page = json_object_get(a, "rows");
			if (!page) {
				assert_null(all);
				return a;
			}
			pages++;
			rows = rows ? rows : json_array();
			json_array_extend(rows, page);
			assert_int_equal(json_is_true(json_object_get(a, "more")), r.rows != NULL);
			json_decref(all);
			all = a;
		}
		if (!control_goes_on(&r))
			break;
		jw_init(&w, out, sizeof(out) - 1);
		control_page(&r, &w);
	}
	if (all) {
		json_object_set_new(all, "rows", rows);
		json_object_set_new(all, "pages", json_integer(pages));
	}
	return all;
}

static inline json_t *ask(struct toy *t, const char *line)
{
	return ask_as(t, CONTROL_ADMIN, line);
}

/* Text at a path such as "error.code" or "rows.0.orig.src", "" if there is none. Numbers as text, too. */
static const char *at(const json_t *j, const char *path)
{
	static char number[32];
	char key[32];

	while (j && *path) {
		size_t n = strcspn(path, ".");

		snprintf(key, sizeof(key), "%.*s", (int)n, path);
		j = json_is_array(j) ? json_array_get(j, strtoul(key, NULL, 10)) : json_object_get(j, key);
		path += n + (path[n] == '.');
	}
	if (json_is_integer(j)) {
		snprintf(number, sizeof(number), "%" JSON_INTEGER_FORMAT, json_integer_value(j));
		return number;
	}
	if (json_is_boolean(j))
		return json_is_true(j) ? "true" : "false";
	return json_is_string(j) ? json_string_value(j) : "";
}

/* The number at a path, 0 if there is none. */
static inline unsigned number_at(const json_t *j, const char *path)
{
	return (unsigned)strtoul(at(j, path), NULL, 10);
}

/* What is at a path is this text. */
static void expect(const json_t *a, const char *path, const char *want)
{
	const char *got = at(a, path);

	if (strcmp(got, want) != 0)
		fail_msg("%s is \"%s\", not \"%s\"", path, got, want);
}

#endif
