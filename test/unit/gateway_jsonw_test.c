/* SPDX-License-Identifier: GPL-2.0-or-later */
/* gateway_jsonw_test.c - the JSON writer: escapes, commas, and that it stays in its buffer. */
#include "gateway/jsonw.h"

#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static char out[1024];

static void test_text(void **state)
{
	static const struct {
		const char *in, *want;
	} cases[] = {
		{"", "\"\""},
		{"branch-a_1.x", "\"branch-a_1.x\""},
		{"a\"b\\c", "\"a\\\"b\\\\c\""},
		{"two\nlines\t", "\"two\\nlines\\u0009\""},
		{"\x01\x1f\x7f", "\"\\u0001\\u001f\\u007f\""},
		{"gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x98\x80",
			"\"gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x98\x80\""},
		{"\xff", "\"\\ufffd\""},
		{"\xc3", "\"\\ufffd\""},                       /* cut short */
		{"\xc0\xaf", "\"\\ufffd\\ufffd\""},            /* overlong */
		{"\xed\xa0\x80", "\"\\ufffd\\ufffd\\ufffd\""}, /* surrogate */
		{"\xf4\x90\x80\x80z", "\"\\ufffd\\ufffd\\ufffd\\ufffdz\""},
	};
	(void)state;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct jsonw w;
		json_t *read;

		jw_init(&w, out, sizeof(out));
		jw_str(&w, NULL, cases[i].in);
		jw_octet(&w, '\0');
		assert_string_equal(out, cases[i].want);
		read = json_loadb(out, w.len - 1, JSON_DECODE_ANY, NULL);
		assert_non_null(read);
		json_decref(read);
	}
}

static void test_form(void **state)
{
	struct addr a4, a6;
	struct jsonw w;
	(void)state;

	addr_parse("10.0.200.255", &a4);
	addr_parse("2001:db8::1", &a6);
	jw_init(&w, out, sizeof(out));
	jw_open(&w, NULL, '{');
	jw_u64(&w, "zero", 0);
	jw_u64(&w, "most", UINT64_MAX);
	jw_open(&w, "list", '[');
	jw_addr(&w, NULL, &a4);
	jw_addr(&w, NULL, &a6);
	jw_open(&w, NULL, '{');
	jw_close(&w, '}');
	jw_bool(&w, NULL, true);
	jw_close(&w, ']');
	jw_null(&w, "n");
	jw_text(&w, "cut", "one\ntwo\nthree", 9);
	jw_text(&w, "whole", "one\ntwo", 7);
	jw_close(&w, '}');
	jw_octet(&w, '\0');
	assert_false(w.full);
	assert_string_equal(out, "{\"zero\":0,\"most\":18446744073709551615,\"list\":[\"10.0.200.255\","
				 "\"2001:db8::1\",{},true],"
				 "\"n\":null,\"cut\":\"one\\ntwo\\n\",\"whole\":\"one\\ntwo\"}");
}

/* Whatever the size, nothing is written behind it, and full says so. */
static void test_bounds(void **state)
{
	char small[40];
	(void)state;

	for (size_t max = 0; max < 32; max++) {
		struct jsonw w;

		memset(small, 'x', sizeof(small));
		jw_init(&w, small, max);
		jw_open(&w, NULL, '{');
		jw_str(&w, "key", "value\n\xff and more");
		jw_u64(&w, "n", 12345);
		jw_close(&w, '}');
		assert_true(w.len <= max);
		assert_true(w.full);
		assert_int_equal(small[max], 'x');
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_text),
		cmocka_unit_test(test_form),
		cmocka_unit_test(test_bounds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
