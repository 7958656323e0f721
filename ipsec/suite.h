/* SPDX-License-Identifier: GPL-2.0-or-later */
/* suite.h - the ESP transforms that arrd knows: one table, by which proposals are checked, keys are cut, packets are
 * laid out and algorithms are named.
 *
 * References: RFC 4303 (ESP), 4106 (AES-GCM), 7634 (ChaCha20-Poly1305), 3602 (AES-CBC), 4868 (HMAC-SHA2), 2404
 * (HMAC-SHA1-96), 8221 (what is to be used).
 */
#ifndef ARRD_IPSEC_SUITE_H
#define ARRD_IPSEC_SUITE_H

#include <stdbool.h>
#include <stdint.h>

/* id, name for operators, IKEv2 transform ids (IANA) of cipher and integrity (0: combined mode), octets of: cipher key
 * (without salt), salt, IV on the wire, integrity key, ICV, alignment of the ciphertext */
#define SUITES(X)                                                                                            \
	X(AES_GCM_128, "AES-GCM-16-128", 20, 0, 16, 4, 8, 0, 16, 4)                                          \
	X(AES_GCM_192, "AES-GCM-16-192", 20, 0, 24, 4, 8, 0, 16, 4)                                          \
	X(AES_GCM_256, "AES-GCM-16-256", 20, 0, 32, 4, 8, 0, 16, 4)                                          \
	X(CHACHA20_POLY1305, "ChaCha20-Poly1305", 28, 0, 32, 4, 8, 0, 16, 4)                                 \
	X(AES_CBC_128_SHA256, "AES-CBC-128/HMAC-SHA2-256-128", 12, 12, 16, 0, 16, 32, 16, 16)                \
	X(AES_CBC_128_SHA384, "AES-CBC-128/HMAC-SHA2-384-192", 12, 13, 16, 0, 16, 48, 24, 16)                \
	X(AES_CBC_128_SHA512, "AES-CBC-128/HMAC-SHA2-512-256", 12, 14, 16, 0, 16, 64, 32, 16)                \
	X(AES_CBC_128_SHA1, "AES-CBC-128/HMAC-SHA1-96", 12, 2, 16, 0, 16, 20, 12, 16)                        \
	X(AES_CBC_256_SHA256, "AES-CBC-256/HMAC-SHA2-256-128", 12, 12, 32, 0, 16, 32, 16, 16)                \
	X(AES_CBC_256_SHA384, "AES-CBC-256/HMAC-SHA2-384-192", 12, 13, 32, 0, 16, 48, 24, 16)                \
	X(AES_CBC_256_SHA512, "AES-CBC-256/HMAC-SHA2-512-256", 12, 14, 32, 0, 16, 64, 32, 16)                \
	X(AES_CBC_256_SHA1, "AES-CBC-256/HMAC-SHA1-96", 12, 2, 32, 0, 16, 20, 12, 16)

/* clang-format off */
enum suite_id {
#define X(id, ...) SUITE_##id,
	SUITES(X)
#undef X
	SUITE_COUNT
};
/* clang-format on */

struct suite {
	enum suite_id id;
	const char *name;
	uint16_t encr, integ; /* IKEv2 transform ids */
	uint8_t key_len, salt_len, iv_len, integ_len, icv_len, align;
};

extern const struct suite suites[SUITE_COUNT];

/* The suite of these IKEv2 transforms; key_len in octets without salt. NULL: not one of ours (NULL encryption and
 * encryption without integrity are none). */
const struct suite *suite_find(uint16_t encr, uint16_t key_len, uint16_t integ);

#endif
