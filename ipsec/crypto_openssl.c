/* SPDX-License-Identifier: GPL-2.0-or-later */
/* crypto_openssl.c - ciphers by OpenSSL's EVP, with contexts that are kept as long as the key.
 *
 * A kept context has its key expanded; a packet only gives it another IV, and nothing is allocated. That is not to be had of
 * EVP's HMAC, which copies states on the heap for each message. So HMAC is made of the plain hash functions here, from two
 * states that have taken the key's pads in (RFC 2104 4). They are deprecated since 3.0, but not replaced.
 *
 * HMAC's states lie in our locked memory. What EVP expands lies on OpenSSL's heap: it is not locked, and wiped by
 * EVP_CIPHER_CTX_free.
 */
#define OPENSSL_SUPPRESS_DEPRECATED
#include "gateway/base/be.h"
#include "ipsec/crypto_private.h"

#include <errno.h>
#include <openssl/evp.h>
#include <openssl/sha.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#define BLOCK_MAX 128 /* of a hash function */

union hash {
	SHA_CTX sha1;
	SHA256_CTX sha256;
	SHA512_CTX sha512; /* and SHA-384 */
};

struct ossl_key {
	struct crypto_key head;
	EVP_CIPHER_CTX *enc, *dec; /* one and the same for combined modes */
	union hash inner, outer;
};
_Static_assert(sizeof(struct ossl_key) <= KEY_MAX, "a key fits its slot");

static struct ossl_key *key_of(const struct crypto_job *j)
{
	/* The key is const to the job, but EVP notes in its context where in a packet it is. */
	return (struct ossl_key *)(uintptr_t)j->key;
}

/* ---- HMAC ------------------------------------------------------------------------------------------- */

static void hash_begin(const struct suite *s, union hash *h)
{
	switch (s->integ_len) {
	case 20:
		SHA1_Init(&h->sha1);
		break;
	case 32:
		SHA256_Init(&h->sha256);
		break;
	case 48:
		SHA384_Init(&h->sha512);
		break;
	default:
		SHA512_Init(&h->sha512);
	}
}

static void hash_add(const struct suite *s, union hash *h, const void *data, size_t len)
{
	switch (s->integ_len) {
	case 20:
		SHA1_Update(&h->sha1, data, len);
		break;
	case 32:
		SHA256_Update(&h->sha256, data, len);
		break;
	case 48:
		SHA384_Update(&h->sha512, data, len);
		break;
	default:
		SHA512_Update(&h->sha512, data, len);
	}
}

static void hash_end(const struct suite *s, union hash *h, uint8_t *digest)
{
	switch (s->integ_len) {
	case 20:
		SHA1_Final(digest, &h->sha1);
		break;
	case 32:
		SHA256_Final(digest, &h->sha256);
		break;
	case 48:
		SHA384_Final(digest, &h->sha512);
		break;
	default:
		SHA512_Final(digest, &h->sha512);
	}
}

/* The state after the key, padded to a block, xor octets of pad. Keys are digest-sized here, so never above a block. */
static void hash_pad(const struct suite *s, union hash *h, const uint8_t *key, uint8_t pad)
{
	uint8_t block[BLOCK_MAX];
	unsigned size = s->integ_len <= 32 ? 64 : 128;
	memset(block, pad, sizeof(block));
	for (unsigned i = 0; i < s->integ_len; i++)
		block[i] ^= key[i];
	hash_begin(s, h);
	hash_add(s, h, block, size);
	sodium_memzero(block, sizeof(block));
}

/* digest: SHA512_DIGEST_LENGTH octets; its first icv_len are the ICV (RFC 4868 2.1.2). */
static void hmac(const struct ossl_key *k, const struct crypto_job *j, uint8_t *digest)
{
	const struct suite *s = k->head.suite;
	union hash h = k->inner;
	uint8_t hi[4];
	hash_add(s, &h, j->pkt, HDR_LEN + s->iv_len + j->text_len);
	if (j->esn) { /* RFC 4303 3.3.3.2.1 */
		be32_put(hi, j->seq_hi);
		hash_add(s, &h, hi, sizeof(hi));
	}
	hash_end(s, &h, digest);
	h = k->outer;
	hash_add(s, &h, digest, s->integ_len);
	hash_end(s, &h, digest);
	sodium_memzero(&h, sizeof(h)); /* as good as the key */
}

/* ---- keys ------------------------------------------------------------------------------------------- */

static const EVP_CIPHER *cipher_of(const struct suite *s)
{
	switch (s->encr) {
	case 20:
		return s->key_len == 16   ? EVP_aes_128_gcm()
		       : s->key_len == 24 ? EVP_aes_192_gcm()
					  : EVP_aes_256_gcm();
	case 28:
		return EVP_chacha20_poly1305();
	default:
		return s->key_len == 16 ? EVP_aes_128_cbc() : EVP_aes_256_cbc();
	}
}

static EVP_CIPHER_CTX *context(const struct suite *s, const uint8_t *key, int enc)
{
	EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
	if (!c)
		return NULL;
	/* The IV comes with each packet, and padding is ESP's, not the cipher's. */
	if (EVP_CipherInit_ex(c, cipher_of(s), NULL, key, NULL, enc) == 1 &&
		EVP_CIPHER_CTX_set_padding(c, 0) == 1)
		return c;
	EVP_CIPHER_CTX_free(c);
	return NULL;
}

static void key_end(struct crypto_key *key)
{
	struct ossl_key *k = (struct ossl_key *)key;
	if (k->dec != k->enc)
		EVP_CIPHER_CTX_free(k->dec);
	EVP_CIPHER_CTX_free(k->enc);
}

static int key_begin(void *engine, struct crypto_key *key, const uint8_t *encr, const uint8_t *integ)
{
	struct ossl_key *k = (struct ossl_key *)key;
	const struct suite *s = key->suite;
	(void)engine;
	k->enc = context(s, encr, 1);
	k->dec = s->integ_len ? context(s, encr, 0) : k->enc;
	if (!k->enc || !k->dec) {
		key_end(key);
		return -ENOMEM;
	}
	if (s->integ_len) {
		hash_pad(s, &k->inner, integ, 0x36);
		hash_pad(s, &k->outer, integ, 0x5c);
	}
	return 0;
}

static size_t key_size(const struct suite *s)
{
	return s->integ_len ? sizeof(struct ossl_key) : offsetof(struct ossl_key, inner);
}

/* ---- packets ---------------------------------------------------------------------------------------- */

static bool run_cbc(EVP_CIPHER_CTX *c, const struct crypto_job *j)
{
	uint8_t *text = job_text(j);
	int n;
	return EVP_CipherInit_ex(c, NULL, NULL, NULL, j->pkt + HDR_LEN, -1) == 1 &&
	       EVP_CipherUpdate(c, text, &n, text, (int)j->text_len) == 1;
}

static bool run_aead(EVP_CIPHER_CTX *c, const struct crypto_job *j, int enc)
{
	uint8_t nonce[NONCE_LEN], aad[AAD_MAX], *text = job_text(j);
	int n, aad_len = (int)job_aad(j, aad), icv_len = j->key->suite->icv_len;
	job_nonce(j, nonce);
	if (EVP_CipherInit_ex(c, NULL, NULL, NULL, nonce, enc) != 1)
		return false;
	if (!enc && EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_AEAD_SET_TAG, icv_len, job_icv(j)) != 1)
		return false;
	/* The tag is compared in constant time by the last call. */
	if (EVP_CipherUpdate(c, NULL, &n, aad, aad_len) != 1 ||
		EVP_CipherUpdate(c, text, &n, text, (int)j->text_len) != 1 ||
		EVP_CipherFinal_ex(c, text + n, &n) != 1)
		return false;
	return !enc || EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_AEAD_GET_TAG, icv_len, job_icv(j)) == 1;
}

static void seal(void *engine, struct crypto_job *jobs, unsigned n)
{
	uint8_t digest[SHA512_DIGEST_LENGTH];
	(void)engine;
	for (struct crypto_job *j = jobs; j < jobs + n; j++) {
		const struct ossl_key *k = key_of(j);
		if (!k->head.suite->integ_len) {
			j->ok = run_aead(k->enc, j, 1);
			continue;
		}
		j->ok = run_cbc(k->enc, j);
		hmac(k, j, digest);
		memcpy(job_icv(j), digest, k->head.suite->icv_len);
	}
}

static void open_(void *engine, struct crypto_job *jobs, unsigned n)
{
	uint8_t digest[SHA512_DIGEST_LENGTH];
	(void)engine;
	for (struct crypto_job *j = jobs; j < jobs + n; j++) {
		const struct ossl_key *k = key_of(j);
		if (!k->head.suite->integ_len) {
			j->ok = run_aead(k->dec, j, 0);
			continue;
		}
		hmac(k, j, digest);
		j->ok = sodium_memcmp(digest, job_icv(j), k->head.suite->icv_len) == 0 && run_cbc(k->dec, j);
	}
}

static bool there(void)
{
	return true;
}

/* Everything is in the keys; but NULL would say that there is no memory. */
static void *engine_new(void)
{
	return malloc(1);
}

const struct crypto_ops crypto_openssl = {
	.name = "openssl",
	.there = there,
	.engine_new = engine_new,
	.engine_free = free,
	.key_size = key_size,
	.key_begin = key_begin,
	.key_end = key_end,
	.seal = seal,
	.open = open_,
};
