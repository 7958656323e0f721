/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ipsec_hmac_test.c - the ICVs of HMAC-SHA-2 against RFC 4868.
 *
 * Its test cases have lengths that no ESP packet has, and the ICV of a packet is all that a provider gives away. So there
 * are two steps: OpenSSL's HMAC(), which no provider uses, gives the RFC's figures; and every provider gives what it does,
 * for packets of each length up to several blocks of the hash, under the RFC's keys.
 *
 * The figures are those of RFC 4868 2.7.2, with erratum 1785 for the key of AUTH512-4; recomputed with Python's hmac and
 * with `openssl dgst`.
 */
#include "gateway/base/be.h"
#include "test/unit/ipsec_esp_help.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>

enum { LENGTHS = 400 };

/* The keys of AUTH*-4; the one for SHA-384 goes on otherwise than the others. */
#define KEY_32                                                                                               \
	"\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x10"                                   \
	"\x11\x12\x13\x14\x15\x16\x17\x18\x19\x1a\x1b\x1c\x1d\x1e\x1f\x20"
#define KEY_48 KEY_32 "\x0a\x0b\x0c\x0d\x0e\x0f\x10\x11\x12\x13\x14\x15\x16\x17\x18\x19"
#define KEY_64                                                                                               \
	KEY_32 "\x21\x22\x23\x24\x25\x26\x27\x28\x29\x2a\x2b\x2c\x2d\x2e\x2f\x30"                            \
	       "\x31\x32\x33\x34\x35\x36\x37\x38\x39\x3a\x3b\x3c\x3d\x3e\x3f\x40"

static const struct figure {
	enum suite_id suite;
	unsigned bits;
	const char *key;   /* repeated up to the digest's length */
	const char *data;  /* repeated ... */
	unsigned data_len; /* ... up to here */
	const char *icv;
} figures[] = {
	/* 2.7.2.1 */
	{SUITE_AES_CBC_128_SHA256, 256, "\x0b", "Hi There", 8, "198a607eb44bfbc69903a0f1cf2bbdc5"},
	{SUITE_AES_CBC_128_SHA256, 256, "Jefe", "what do ya want for nothing?", 28,
		"167f928588c5cc2eef8e3093caa0e87c"},
	{SUITE_AES_CBC_128_SHA256, 256, "\xaa", "\xdd", 50, "cdcb1220d1ecccea91e53aba3092f962"},
	{SUITE_AES_CBC_128_SHA256, 256, KEY_32, "\xcd", 50, "372efcf9b40b35c2115b1346903d2ef4"},
	/* 2.7.2.2 */
	{SUITE_AES_CBC_128_SHA384, 384, "\x0b", "Hi There", 8,
		"b6a8d5636f5c6a7224f9977dcf7ee6c7fb6d0c48cbdee973"},
	{SUITE_AES_CBC_128_SHA384, 384, "Jefe", "what do ya want for nothing?", 28,
		"2c7353974f1842fd66d53c452ca42122b28c0b594cfb184d"},
	{SUITE_AES_CBC_128_SHA384, 384, "\xaa", "\xdd", 50,
		"809f439be00274321d4a538652164b53554a508184a0c316"},
	{SUITE_AES_CBC_128_SHA384, 384, KEY_48, "\xcd", 50,
		"5b540085c6e6358096532b2493609ed1cb298f774f87bb5c"},
	/* 2.7.2.3 */
	{SUITE_AES_CBC_128_SHA512, 512, "\x0b", "Hi There", 8,
		"637edc6e01dce7e6742a99451aae82df23da3e92439e590e43e761b33e910fb8"},
	{SUITE_AES_CBC_128_SHA512, 512, "Jefe", "what do ya want for nothing?", 28,
		"cb370917ae8a7ce28cfd1d8f4705d6141c173b2a9362c15df235dfb251b15454"},
	{SUITE_AES_CBC_128_SHA512, 512, "\xaa", "\xdd", 50,
		"2ee7acd783624ca9398710f3ee05ae41b9f9b0510c87e49e586cc9bf961733d8"},
	{SUITE_AES_CBC_128_SHA512, 512, KEY_64, "\xcd", 50,
		"5e6688e5a3daec826ca32eaea224eff5e700628947470e13ad01302561bab108"},
};
#define NFIGURES (sizeof(figures) / sizeof(figures[0]))

static void repeat(uint8_t *out, size_t len, const char *s)
{
	for (size_t i = 0; i < len; i++)
		out[i] = (uint8_t)s[i % strlen(s)];
}

/* What is sent of HMAC-SHA-2: the first half of it (RFC 4868 2.1.2). Returns its octets. */
static unsigned reference(const struct figure *f, const uint8_t *data, size_t len, uint8_t *icv)
{
	const EVP_MD *md = f->bits == 256 ? EVP_sha256() : f->bits == 384 ? EVP_sha384() : EVP_sha512();
	uint8_t key[64];
	unsigned n = 0;
	repeat(key, f->bits / 8, f->key);
	assert_non_null(HMAC(md, key, (int)f->bits / 8, data, len, icv, &n));
	assert_int_equal(n, f->bits / 8);
	return n / 2;
}

/* The figures themselves. */
static void test_figures(void **state)
{
	(void)state;
	for (unsigned i = 0; i < NFIGURES; i++) {
		const struct figure *f = &figures[i];
		uint8_t data[64], icv[EVP_MAX_MD_SIZE];
		char hex[2 * EVP_MAX_MD_SIZE + 1];
		unsigned n;
		repeat(data, f->data_len, f->data);
		n = reference(f, data, f->data_len, icv);
		for (unsigned k = 0; k < n; k++)
			snprintf(hex + (size_t)2 * k, 3, "%02x", icv[k]);
		assert_string_equal(hex, f->icv);
		assert_int_equal(n, suites[f->suite].icv_len);
		assert_int_equal(f->bits / 8, suites[f->suite].integ_len);
	}
}

/* A packet of each length, whose cleartext is the RFC's data, over and over. */
static void packets_of(struct party *p, const struct figure *f, bool esn)
{
	const struct suite *s = &suites[f->suite];
	uint8_t integ[64], encr[16] = {0x10, 0x32, 0x54}, pkt[LENGTHS + 64], want[EVP_MAX_MD_SIZE];
	struct crypto_key *key = NULL;
	repeat(integ, s->integ_len, f->key);
	assert_int_equal(crypto_key_new(&key, p->keys, s, encr, sizeof(encr), integ, s->integ_len), 0);
	for (uint32_t len = 16; len <= LENGTHS; len += 16) {
		struct crypto_job j = {
			.key = key, .pkt = pkt, .text_len = len, .seq_hi = 0xcdcdcdcd, .esn = esn};
		uint32_t whole = 8u + s->iv_len + len;
		uint8_t *copy = malloc(whole + 4u);
		assert_non_null(copy);
		repeat(pkt, whole, f->data);
		crypto_seal(p->c, &j, 1);
		assert_true(j.ok);
		memcpy(copy, pkt, whole);
		be32_put(copy + whole, j.seq_hi); /* RFC 4303 3.3.3.2.1 */
		assert_int_equal(reference(f, copy, whole + (esn ? 4u : 0u), want), s->icv_len);
		assert_memory_equal(pkt + whole, want, s->icv_len);
		crypto_open(p->c, &j, 1);
		assert_true(j.ok);
		free(copy);
	}
	crypto_key_free(key);
}

static void test_packets(void **state)
{
	(void)state;
	struct party p[PARTIES];
	unsigned n = parties_begin(p);
	for (unsigned i = 0; i < NFIGURES * n * 2; i++)
		packets_of(&p[i % n], &figures[i / n / 2], i / n % 2);
	parties_end(p, n);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_figures),
		cmocka_unit_test(test_packets),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
