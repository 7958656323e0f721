/* SPDX-License-Identifier: GPL-2.0-or-later */
/* suite.c - the table of ESP transforms. */
#include "ipsec/suite.h"

#include <stddef.h>

#define X(id_, name_, encr_, integ_, key_, salt_, iv_, ikey_, icv_, align_)                                  \
	[SUITE_##id_] = {.id = SUITE_##id_,                                                                  \
		.name = (name_),                                                                             \
		.encr = (encr_),                                                                             \
		.integ = (integ_),                                                                           \
		.key_len = (key_),                                                                           \
		.salt_len = (salt_),                                                                         \
		.iv_len = (iv_),                                                                             \
		.integ_len = (ikey_),                                                                        \
		.icv_len = (icv_),                                                                           \
		.align = (align_)},

const struct suite suites[SUITE_COUNT] = {SUITES(X)};

const struct suite *suite_find(uint16_t encr, uint16_t key_len, uint16_t integ)
{
	for (unsigned i = 0; i < SUITE_COUNT; i++)
		if (suites[i].encr == encr && suites[i].key_len == key_len && suites[i].integ == integ)
			return &suites[i];
	return NULL;
}
