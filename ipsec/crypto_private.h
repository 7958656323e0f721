/* SPDX-License-Identifier: GPL-2.0-or-later */
/* crypto_private.h - what crypto.c, the memory of keys and the providers share. */
#ifndef ARRD_IPSEC_CRYPTO_PRIVATE_H
#define ARRD_IPSEC_CRYPTO_PRIVATE_H

#include "ipsec/crypto.h"

#include <stddef.h>

#define HDR_LEN   8  /* SPI and sequence number */
#define NONCE_LEN 12 /* salt and IV of combined modes */
#define AAD_MAX   12 /* SPI and extended sequence number: RFC 4106 5, RFC 7634 2.1 */
#define TAG_LEN   16 /* of combined modes */
#define KEY_ALIGN 64 /* of keys */
#define KEY_MAX   (20 * KEY_ALIGN)

/* What each provider's key begins with. */
struct crypto_key {
	const struct suite *suite;
	struct crypto_keys *keys;
	uint8_t salt[4];
};

/* A provider. An engine is its scratch memory for one thread; crypto_keys has one more, that keys are expanded with by
 * any thread, under its lock. */
struct crypto_ops {
	const char *name;
	bool (*there)(void);
	void *(*engine_new)(void); /* NULL: no memory */
	void (*engine_free)(void *engine);
	size_t (*key_size)(const struct suite *s); /* octets of a key, not above KEY_MAX */
	/* Fills in what follows the head. The memory is zero before, and is wiped by the caller. Returns 0 or -ENOMEM; then
	 * key_end is not called. */
	int (*key_begin)(void *engine, struct crypto_key *k, const uint8_t *encr, const uint8_t *integ);
	void (*key_end)(struct crypto_key *k);
	void (*seal)(void *engine, struct crypto_job *jobs, unsigned n);
	void (*open)(void *engine, struct crypto_job *jobs, unsigned n);
};

extern const struct crypto_ops crypto_openssl;
#ifdef HAVE_IPSEC_MB
extern const struct crypto_ops crypto_mb;
#endif

/* ---- crypto_keys.c: locked memory ------------------------------------------------------------------- */

struct key_arena;
int key_arena_new(struct key_arena **out); /* 0 or -ENOMEM */
void key_arena_free(struct key_arena *a);
/* Zeroed octets at a multiple of KEY_ALIGN; size up to KEY_MAX. Not thread-safe, as the rest is not. */
void *key_arena_get(struct key_arena *a, size_t size);
void key_arena_put(struct key_arena *a, void *p, size_t size); /* wipes them */
bool key_arena_locked(const struct key_arena *a);
unsigned key_arena_count(const struct key_arena *a);

/* ---- parts of a packet ------------------------------------------------------------------------------ */

static inline uint8_t *job_text(const struct crypto_job *j)
{
	return j->pkt + HDR_LEN + j->key->suite->iv_len;
}

static inline uint8_t *job_icv(const struct crypto_job *j)
{
	return job_text(j) + j->text_len;
}

/* Combined modes: salt, then the IV from the packet (RFC 4106 4, RFC 7634 2). */
void job_nonce(const struct crypto_job *j, uint8_t nonce[NONCE_LEN]);
/* SPI and sequence number, the extended one's high half between them. Returns its length. */
uint32_t job_aad(const struct crypto_job *j, uint8_t aad[AAD_MAX]);

#endif
