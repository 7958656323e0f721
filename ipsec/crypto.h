/* SPDX-License-Identifier: GPL-2.0-or-later */
/* crypto.h - sealing and opening ESP packets' octets, in batches, by one of several providers.
 *
 * A provider is a table of functions. Each passes the same vectors. "mb" (ipsec-mb, x86-64) is the fast one,
 * "openssl" works everywhere.
 *
 * Threads: crypto_key_new and crypto_key_free may be called by any. A struct crypto (the batch engine with its scratch
 * memory) belongs to one thread, and so does a key from its first packet on: it is one SA's.
 */
#ifndef ARRD_IPSEC_CRYPTO_H
#define ARRD_IPSEC_CRYPTO_H

#include "ipsec/suite.h"

#include <stdbool.h>
#include <stdint.h>

#define CRYPTO_IV_MAX  16
#define CRYPTO_ICV_MAX 32
#define CRYPTO_BATCH   64
#define CRYPTO_PKT_MAX 65535 /* octets from SPI to ICV: ipsec-mb counts with 16 bits */

enum crypto_provider { CRYPTO_AUTO, CRYPTO_MB, CRYPTO_OPENSSL };

struct crypto_keys; /* the locked memory that keys lie in; all of one provider */
struct crypto_key;  /* the expanded key of one SA */
struct crypto;      /* an engine */

/* Whether this machine and build have it. "ipsec-mb" or "openssl" for names. */
bool crypto_has(enum crypto_provider p);
const char *crypto_provider_name(enum crypto_provider p); /* of AUTO: the one that it stands for */

/* ---- keys ------------------------------------------------------------------------------------------- */

/* Returns 0, -ENOMEM, or -ENOTSUP when the provider is not there. Freed by the caller, after the last key and engine. */
int crypto_keys_new(struct crypto_keys **out, enum crypto_provider p);
void crypto_keys_free(struct crypto_keys *ks); /* NULL is allowed */

/* Whether every key so far lies in memory that is never swapped out. False when RLIMIT_MEMLOCK was too small (GCM keys of
 * mb take about 1.1 KiB each): keys work all the same, and the operator ought to hear of it once. Any thread. */
bool crypto_keys_locked(struct crypto_keys *ks);
unsigned crypto_keys_count(struct crypto_keys *ks); /* that were made and not freed */

/* encr: key_len octets of key, then salt_len of salt, as IKE hands them over. integ: integ_len octets (NULL where that
 * is 0). Both are copied. Returns 0, -EINVAL on wrong lengths, -ENOMEM. Any thread. */
int crypto_key_new(struct crypto_key **out, struct crypto_keys *ks, const struct suite *s,
	const uint8_t *encr, uint32_t encr_len, const uint8_t *integ, uint32_t integ_len);
void crypto_key_free(struct crypto_key *k); /* wipes it. NULL is allowed. Any thread */

/* ---- packets ---------------------------------------------------------------------------------------- */

/* An engine for these keys. Returns 0 or -ENOMEM. */
int crypto_new(struct crypto **out, const struct crypto_keys *ks);
void crypto_free(struct crypto *c); /* NULL is allowed */

/* An unpredictable IV, as CBC needs it (RFC 3602 3), of CRYPTO_IV_MAX octets. */
void crypto_iv(struct crypto *c, uint8_t *iv);

/* One packet. pkt points at the SPI; the layout is SPI, sequence number, IV (suite's iv_len), then text_len octets to
 * encrypt or decrypt in place (padding included, a multiple of the suite's align, not 0), then the ICV; CRYPTO_PKT_MAX
 * in all. Nothing outside of that is touched. (Where the high half of an extended sequence number must follow the text
 * for a digest, it may stand for the while where the ICV goes.) */
struct crypto_job {
	const struct crypto_key *key;
	uint8_t *pkt;
	uint32_t text_len;
	uint32_t seq_hi; /* high half of the extended sequence number, when esn */
	bool esn;
	bool ok; /* set by crypto_open: the ICV is right; then, and only then, the text is the plaintext. Set by
		  * crypto_seal: it was sealed; otherwise the provider failed, and the packet must not be sent */
};

/* The IV is in its place already. Writes ciphertext and ICV. n is any number; jobs of any suites and keys together, all
 * keys from what c was made for. crypto_open compares ICVs in constant time. */
void crypto_seal(struct crypto *c, struct crypto_job *jobs, unsigned n);
void crypto_open(struct crypto *c, struct crypto_job *jobs, unsigned n);

#endif
