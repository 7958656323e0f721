/* SPDX-License-Identifier: GPL-2.0-or-later */
/* crypto.h - sealing and opening ESP packets' octets, in batches, by one of several providers.
 *
 * A provider is a table of functions. Each passes the same vectors. "mb" (ipsec-mb, x86-64) is the fast one,
 * "openssl" works everywhere. Keys lie in locked memory (sodium_malloc or the like) and are wiped when freed.
 *
 * Threads: crypto_key_new and crypto_key_free may be called by any; a struct crypto (the batch engine with its scratch
 * memory) belongs to one thread.
 */
#ifndef ARRD_IPSEC_CRYPTO_H
#define ARRD_IPSEC_CRYPTO_H

#include "ipsec/suite.h"

#include <stdbool.h>
#include <stdint.h>

#define CRYPTO_IV_MAX  16
#define CRYPTO_ICV_MAX 32
#define CRYPTO_BATCH   64

enum crypto_provider { CRYPTO_AUTO, CRYPTO_MB, CRYPTO_OPENSSL };

struct crypto;     /* an engine */
struct crypto_key; /* the expanded key of one SA */

/* Whether this machine and build have it. "mb" or "openssl" for names. */
bool crypto_has(enum crypto_provider p);
const char *crypto_provider_name(enum crypto_provider p); /* of AUTO: the one that it stands for */

/* Returns 0, -ENOMEM, or -ENOTSUP when the provider is not there. Both are freed by the caller. */
int crypto_new(struct crypto **out, enum crypto_provider p);
void crypto_free(struct crypto *c);

/* encr: key_len octets of key, then salt_len of salt, as IKE hands them over. integ: integ_len octets (NULL where that
 * is 0). Returns 0, -EINVAL on wrong lengths, -ENOMEM (also when memory cannot be locked), -ENOTSUP. */
int crypto_key_new(struct crypto_key **out, enum crypto_provider p, const struct suite *s, const uint8_t *encr,
	uint32_t encr_len, const uint8_t *integ, uint32_t integ_len);
void crypto_key_free(struct crypto_key *k);

/* One packet. pkt points at the SPI; the layout is SPI, sequence number, IV (suite's iv_len), then text_len octets to
 * encrypt or decrypt in place (padding included, a multiple of the suite's align), then the ICV. Nothing outside of that
 * is touched. (Where the high half of an extended sequence number must follow the text for a digest, it may stand for
 * the while where the ICV goes.) */
struct crypto_job {
	const struct crypto_key *key;
	uint8_t *pkt;
	uint32_t text_len;
	uint32_t seq_hi; /* high half of the extended sequence number, when esn */
	bool esn;
	bool ok; /* set by crypto_open: the ICV is right; then, and only then, the text is the plaintext */
};

/* The IV is in its place already. Writes ciphertext and ICV. n is any number; jobs of any suites and keys together, all
 * keys of c's provider. crypto_open compares ICVs in constant time. */
void crypto_seal(struct crypto *c, struct crypto_job *jobs, unsigned n);
void crypto_open(struct crypto *c, struct crypto_job *jobs, unsigned n);

#endif
