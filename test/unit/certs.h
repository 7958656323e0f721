/* SPDX-License-Identifier: GPL-2.0-or-later */
/* certs.h - for tests: private keys and certificates, made on the spot and saved to files. */
#ifndef ARRD_TEST_CERTS_H
#define ARRD_TEST_CERTS_H

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include <cmocka.h>

#define DAY 86400L

enum key_type { EC_KEY_TYPE, ED_KEY_TYPE, RSA_KEY_TYPE };

static inline EVP_PKEY *new_key(enum key_type type)
{
	EVP_PKEY *k = type == ED_KEY_TYPE   ? EVP_PKEY_Q_keygen(NULL, NULL, "ED25519")
		      : type == EC_KEY_TYPE ? EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256")
					    : EVP_PKEY_Q_keygen(NULL, NULL, "RSA", (size_t)2048);

	assert_non_null(k);
	return k;
}

static inline void extend(X509 *x, int nid, const char *value)
{
	X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, NULL, nid, value);

	assert_non_null(e);
	assert_int_equal(X509_add_ext(x, e, -1), 1);
	X509_EXTENSION_free(e);
}

/* A certificate that is valid from now + from to now + until seconds. san NULL: none. */
static inline X509 *new_cert(EVP_PKEY *key, const char *cn, const char *san, bool ca, long from, long until)
{
	X509 *x = X509_new();
	X509_NAME *name = X509_get_subject_name(x);

	X509_set_version(x, 2);
	ASN1_INTEGER_set(X509_get_serialNumber(x), 1);
	X509_gmtime_adj(X509_getm_notBefore(x), from);
	X509_gmtime_adj(X509_getm_notAfter(x), until);
	X509_set_pubkey(x, key);
	X509_NAME_add_entry_by_txt(name, "C", MBSTRING_ASC, (const unsigned char *)"DE", -1, -1, 0);
	X509_NAME_add_entry_by_txt(name, "O", MBSTRING_ASC, (const unsigned char *)"Example, Ltd", -1, -1, 0);
	X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)cn, -1, -1, 0);
	X509_set_issuer_name(x, name);
	extend(x, NID_basic_constraints, ca ? "critical,CA:TRUE" : "CA:FALSE");
	if (san)
		extend(x, NID_subject_alt_name, san);
	assert_true(X509_sign(x, key, EVP_PKEY_id(key) == EVP_PKEY_ED25519 ? NULL : EVP_sha256()) > 0);
	return x;
}

static inline void save_cert(const char *path, X509 *x, bool der)
{
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	assert_int_equal(der ? i2d_X509_fp(f, x) : PEM_write_X509(f, x), 1);
	assert_int_equal(fclose(f), 0);
	X509_free(x);
}

static inline void save_key(const char *path, EVP_PKEY *k, bool der, const char *passphrase)
{
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	assert_int_equal(der ? i2d_PrivateKey_fp(f, k)
			     : PEM_write_PrivateKey(f, k, passphrase ? EVP_aes_128_cbc() : NULL, NULL, 0,
				       NULL, (void *)(uintptr_t)passphrase),
		1);
	assert_int_equal(fclose(f), 0);
	assert_int_equal(chmod(path, 0600), 0);
}

#endif
