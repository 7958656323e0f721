/* SPDX-License-Identifier: GPL-2.0-or-later */
/* crypto.c - providers, keys and engines. */
#include "ipsec/crypto.h"
#include "gateway/base/be.h"
#include "ipsec/crypto_private.h"

#include <errno.h>
#include <pthread.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

struct crypto_keys {
	const struct crypto_ops *ops;
	pthread_mutex_t lock; /* of arena and engine */
	struct key_arena *arena;
	void *engine;
};

/* IVs are the octets of a stream cipher, whose key is replaced by its own first octets each time: what was handed out
 * cannot be worked out again later. */
#define IVS 64

struct crypto {
	const struct crypto_ops *ops;
	void *engine;
	unsigned ivs_used;
	struct {
		uint8_t next[randombytes_SEEDBYTES];
		uint8_t iv[IVS][CRYPTO_IV_MAX];
	} pool;
};

/* ---- providers -------------------------------------------------------------------------------------- */

static const struct crypto_ops *provider(enum crypto_provider p)
{
#ifdef HAVE_IPSEC_MB
	if (p != CRYPTO_OPENSSL && crypto_mb.there())
		return &crypto_mb;
#endif
	return p == CRYPTO_MB ? NULL : &crypto_openssl;
}

bool crypto_has(enum crypto_provider p)
{
	const struct crypto_ops *ops = provider(p);
	return ops && ops->there();
}

const char *crypto_provider_name(enum crypto_provider p)
{
	return p == CRYPTO_AUTO ? provider(p)->name : p == CRYPTO_MB ? "ipsec-mb" : "openssl";
}

/* ---- keys ------------------------------------------------------------------------------------------- */

int crypto_keys_new(struct crypto_keys **out, enum crypto_provider p)
{
	struct crypto_keys *ks;
	int err = -ENOMEM;
	if (sodium_init() < 0 || !crypto_has(p))
		return -ENOTSUP;
	ks = calloc(1, sizeof(*ks));
	if (!ks)
		return -ENOMEM;
	ks->ops = provider(p);
	ks->engine = ks->ops->engine_new();
	if (!ks->engine)
		goto fail;
	err = key_arena_new(&ks->arena);
	if (err < 0)
		goto fail_engine;
	err = -pthread_mutex_init(&ks->lock, NULL);
	if (err < 0)
		goto fail_arena;
	*out = ks;
	return 0;
fail_arena:
	key_arena_free(ks->arena);
fail_engine:
	ks->ops->engine_free(ks->engine);
fail:
	free(ks);
	return err;
}

void crypto_keys_free(struct crypto_keys *ks)
{
	if (!ks)
		return;
	pthread_mutex_destroy(&ks->lock);
	key_arena_free(ks->arena);
	ks->ops->engine_free(ks->engine);
	free(ks);
}

bool crypto_keys_locked(struct crypto_keys *ks)
{
	bool locked;
	pthread_mutex_lock(&ks->lock);
	locked = key_arena_locked(ks->arena);
	pthread_mutex_unlock(&ks->lock);
	return locked;
}

unsigned crypto_keys_count(struct crypto_keys *ks)
{
	unsigned count;
	pthread_mutex_lock(&ks->lock);
	count = key_arena_count(ks->arena);
	pthread_mutex_unlock(&ks->lock);
	return count;
}

int crypto_key_new(struct crypto_key **out, struct crypto_keys *ks, const struct suite *s,
	const uint8_t *encr, uint32_t encr_len, const uint8_t *integ, uint32_t integ_len)
{
	size_t size = ks->ops->key_size(s);
	struct crypto_key *k;
	int err = -ENOMEM;
	if (encr_len != (uint32_t)s->key_len + s->salt_len || integ_len != s->integ_len)
		return -EINVAL;
	pthread_mutex_lock(&ks->lock);
	k = key_arena_get(ks->arena, size);
	if (k) {
		k->suite = s;
		k->keys = ks;
		memcpy(k->salt, encr + s->key_len, s->salt_len);
		err = ks->ops->key_begin(ks->engine, k, encr, integ);
		if (err < 0)
			key_arena_put(ks->arena, k, size);
		else
			*out = k;
	}
	pthread_mutex_unlock(&ks->lock);
	return err;
}

void crypto_key_free(struct crypto_key *k)
{
	struct crypto_keys *ks;
	if (!k)
		return;
	ks = k->keys;
	pthread_mutex_lock(&ks->lock);
	ks->ops->key_end(k);
	key_arena_put(ks->arena, k, ks->ops->key_size(k->suite));
	pthread_mutex_unlock(&ks->lock);
}

/* ---- packets ---------------------------------------------------------------------------------------- */

int crypto_new(struct crypto **out, const struct crypto_keys *ks)
{
	struct crypto *c = calloc(1, sizeof(*c));
	if (!c)
		return -ENOMEM;
	c->ops = ks->ops;
	c->engine = c->ops->engine_new();
	if (!c->engine) {
		free(c);
		return -ENOMEM;
	}
	c->ivs_used = IVS;
	randombytes_buf(c->pool.next, sizeof(c->pool.next));
	*out = c;
	return 0;
}

void crypto_free(struct crypto *c)
{
	if (!c)
		return;
	c->ops->engine_free(c->engine);
	sodium_memzero(&c->pool, sizeof(c->pool));
	free(c);
}

void crypto_iv(struct crypto *c, uint8_t *iv)
{
	uint8_t seed[randombytes_SEEDBYTES];
	if (c->ivs_used == IVS) {
		memcpy(seed, c->pool.next, sizeof(seed));
		randombytes_buf_deterministic(&c->pool, sizeof(c->pool), seed);
		sodium_memzero(seed, sizeof(seed));
		c->ivs_used = 0;
	}
	memcpy(iv, c->pool.iv[c->ivs_used++], CRYPTO_IV_MAX);
}

void crypto_seal(struct crypto *c, struct crypto_job *jobs, unsigned n)
{
	c->ops->seal(c->engine, jobs, n);
}

void crypto_open(struct crypto *c, struct crypto_job *jobs, unsigned n)
{
	c->ops->open(c->engine, jobs, n);
}

void job_nonce(const struct crypto_job *j, uint8_t nonce[NONCE_LEN])
{
	memcpy(nonce, j->key->salt, 4);
	memcpy(nonce + 4, j->pkt + HDR_LEN, 8);
}

uint32_t job_aad(const struct crypto_job *j, uint8_t aad[AAD_MAX])
{
	if (!j->esn) {
		memcpy(aad, j->pkt, 8);
		return 8;
	}
	memcpy(aad, j->pkt, 4);
	be32_put(aad + 4, j->seq_hi);
	memcpy(aad + 8, j->pkt + 4, 4);
	return 12;
}
