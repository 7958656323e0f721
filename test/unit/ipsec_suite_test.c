/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ipsec_suite_test.c - the table of transforms against the numbers of IANA and the RFCs, written down once more. */
#include "ipsec/crypto.h"
#include "ipsec/suite.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static const struct known {
	uint16_t encr, key_len, integ; /* as IKE names them */
	enum suite_id id;
	unsigned salt, iv, integ_key, icv, align;
} known[] = {
	/* RFC 4106 8: 4 octets of salt; 3.1: IV of 8. RFC 4303 2.4: at least 4-octet boundaries */
	{20, 16, 0, SUITE_AES_GCM_128, 4, 8, 0, 16, 4},
	{20, 24, 0, SUITE_AES_GCM_192, 4, 8, 0, 16, 4},
	{20, 32, 0, SUITE_AES_GCM_256, 4, 8, 0, 16, 4},
	/* RFC 7634 2, 4 */
	{28, 32, 0, SUITE_CHACHA20_POLY1305, 4, 8, 0, 16, 4},
	/* RFC 3602 3 with 2404 (SHA-1), 4868 2.6 (SHA-2: keys as long as the digest, ICVs half of it) */
	{12, 16, 12, SUITE_AES_CBC_128_SHA256, 0, 16, 32, 16, 16},
	{12, 16, 13, SUITE_AES_CBC_128_SHA384, 0, 16, 48, 24, 16},
	{12, 16, 14, SUITE_AES_CBC_128_SHA512, 0, 16, 64, 32, 16},
	{12, 16, 2, SUITE_AES_CBC_128_SHA1, 0, 16, 20, 12, 16},
	{12, 32, 12, SUITE_AES_CBC_256_SHA256, 0, 16, 32, 16, 16},
	{12, 32, 13, SUITE_AES_CBC_256_SHA384, 0, 16, 48, 24, 16},
	{12, 32, 14, SUITE_AES_CBC_256_SHA512, 0, 16, 64, 32, 16},
	{12, 32, 2, SUITE_AES_CBC_256_SHA1, 0, 16, 20, 12, 16},
};
#define NKNOWN (sizeof(known) / sizeof(known[0]))

static void test_table(void **state)
{
	(void)state;
	assert_int_equal(NKNOWN, SUITE_COUNT);
	for (unsigned i = 0; i < NKNOWN; i++) {
		const struct known *k = &known[i];
		const struct suite *s = suite_find(k->encr, k->key_len, k->integ);
		assert_ptr_equal(s, &suites[k->id]);
		assert_int_equal(s->id, k->id);
		assert_int_equal(s->encr, k->encr);
		assert_int_equal(s->integ, k->integ);
		assert_int_equal(s->key_len, k->key_len);
		assert_int_equal(s->salt_len, k->salt);
		assert_int_equal(s->iv_len, k->iv);
		assert_int_equal(s->integ_len, k->integ_key);
		assert_int_equal(s->icv_len, k->icv);
		assert_int_equal(s->align, k->align);
		assert_in_range(s->iv_len, 1, CRYPTO_IV_MAX);
		assert_in_range(s->icv_len, 1, CRYPTO_ICV_MAX);
		for (unsigned j = 0; j < i; j++)
			assert_string_not_equal(suites[i].name, suites[j].name);
	}
}

/* Nothing else is found, NULL encryption and ciphers without integrity least of all. */
static void test_others(void **state)
{
	(void)state;
	unsigned found = 0;
	for (uint16_t encr = 0; encr < 64; encr++)
		for (uint16_t len = 0; len <= 64; len++)
			for (uint16_t integ = 0; integ < 32; integ++)
				found += suite_find(encr, len, integ) != NULL;
	assert_int_equal(found, NKNOWN);
	assert_null(suite_find(11, 0, 12));  /* NULL */
	assert_null(suite_find(12, 16, 0));  /* CBC alone */
	assert_null(suite_find(20, 16, 12)); /* GCM with an ICV of its own needs none */
	assert_null(suite_find(20, 20, 0));  /* the salt is not counted */
	assert_null(suite_find(3, 24, 12));  /* 3DES */
	assert_null(suite_find(UINT16_MAX, UINT16_MAX, UINT16_MAX));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_table),
		cmocka_unit_test(test_others),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
