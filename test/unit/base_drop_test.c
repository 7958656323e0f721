/* SPDX-License-Identifier: GPL-2.0-or-later */
/* base_drop_test.c - every drop reason has a name and a sentence of its own. */
#include "gateway/base/drop.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static void names_are_unique_and_plain(void **state)
{
	(void)state;
	for (int i = 0; i < DROP_COUNT; i++) {
		const char *name = drop_name((enum drop)i);

		assert_int_equal(strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_"), strlen(name));
		assert_true(strlen(name) > 0);
		for (int k = 0; k < i; k++)
			assert_string_not_equal(name, drop_name((enum drop)k));
	}
}

static void sentences_are_unique(void **state)
{
	(void)state;
	for (int i = DROP_NONE + 1; i < DROP_COUNT; i++) {
		assert_true(strlen(drop_text((enum drop)i)) > 0);
		for (int k = 0; k < i; k++)
			assert_string_not_equal(drop_text((enum drop)i), drop_text((enum drop)k));
	}
}

static void none_and_beyond(void **state)
{
	(void)state;
	assert_string_equal(drop_name(DROP_NONE), "none");
	assert_string_equal(drop_text(DROP_NONE), "");
	assert_string_equal(drop_name(DROP_COUNT), "unknown");
	assert_string_equal(drop_text(DROP_COUNT), "");
	assert_string_equal(drop_name(DROP_GRE_TRUNCATED), "gre_truncated");
	assert_string_equal(drop_name(DROP_RATE_LIMITED), "rate_limited");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names_are_unique_and_plain),
		cmocka_unit_test(sentences_are_unique),
		cmocka_unit_test(none_and_beyond),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
