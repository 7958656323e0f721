/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ipsec_esp_help.h - what the tests of crypto and ESP share: providers, keys, SAs, pseudo-random numbers. */
#ifndef ARRD_TEST_IPSEC_ESP_HELP_H
#define ARRD_TEST_IPSEC_ESP_HELP_H

#include "ipsec/esp.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#if defined(__SANITIZE_ADDRESS__)
#define ROUNDS(n) ((n) / 8 + 1)
#else
#define ROUNDS(n) (n)
#endif

/* The same numbers each time, so that what fails fails again. */
struct rnd {
	uint64_t s;
};

static inline uint64_t rnd64(struct rnd *r)
{
	uint64_t z = (r->s += 0x9e3779b97f4a7c15);
	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}

/* Below n. */
static inline uint32_t rnd_to(struct rnd *r, uint32_t n)
{
	return (uint32_t)(rnd64(r) % n);
}

static inline void rnd_fill(struct rnd *r, uint8_t *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		p[i] = (uint8_t)rnd64(r);
}

/* A provider with its keys and an engine. */
struct party {
	struct crypto_keys *keys;
	struct crypto *c;
};

#define PARTIES 2
static const enum crypto_provider party_providers[PARTIES] = {CRYPTO_OPENSSL, CRYPTO_MB};

static inline void party_begin(struct party *p, enum crypto_provider provider)
{
	assert_int_equal(crypto_keys_new(&p->keys, provider), 0);
	assert_int_equal(crypto_new(&p->c, p->keys), 0);
}

static inline void party_end(struct party *p)
{
	assert_int_equal(crypto_keys_count(p->keys), 0);
	crypto_free(p->c);
	crypto_keys_free(p->keys);
}

/* Those that this machine has; returns how many. */
static inline unsigned parties_begin(struct party *p)
{
	unsigned n = 0;
	for (unsigned i = 0; i < PARTIES; i++)
		if (crypto_has(party_providers[i]))
			party_begin(&p[n++], party_providers[i]);
	print_message("%u providers\n", n);
	assert_true(n >= 1);
	return n;
}

static inline void parties_end(struct party *p, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		party_end(&p[i]);
}

struct material {
	uint8_t encr[36], integ[64];
};

static inline struct material material_of(struct rnd *r)
{
	struct material m = {{0}, {0}};
	rnd_fill(r, m.encr, sizeof(m.encr));
	rnd_fill(r, m.integ, sizeof(m.integ));
	return m;
}

static inline struct crypto_key *key_of(struct party *p, const struct suite *s, const struct material *m)
{
	struct crypto_key *k = NULL;
	assert_int_equal(crypto_key_new(&k, p->keys, s, m->encr, (uint32_t)s->key_len + s->salt_len,
				 s->integ_len ? m->integ : NULL, s->integ_len),
		0);
	return k;
}

/* An SA made by hand. window counts for inbound ones. */
static inline void sa_begin(struct sa *sa, struct party *p, const struct suite *s, const struct material *m,
	bool esn, uint32_t window)
{
	memset(sa, 0, sizeof(*sa));
	sa->spi = 0xc0ffee01;
	sa->suite = s;
	sa->esn = esn;
	sa->key = key_of(p, s, m);
	replay_init(&sa->replay, window, esn);
}

static inline void sa_end_(struct sa *sa)
{
	crypto_key_free(sa->key);
}

#endif
