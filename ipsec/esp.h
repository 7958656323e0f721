/* SPDX-License-Identifier: GPL-2.0-or-later */
/* esp.h - the ESP codec: ESP packets ↔ what they carry, in batches. Pure: no I/O, no clock.
 *
 * References: RFC 4303 (packet format 2, outbound 3.3, inbound 3.4), 4304 (ESN), 4106, 7634, 3602, 4868.
 */
#ifndef ARRD_IPSEC_ESP_H
#define ARRD_IPSEC_ESP_H

#include "gateway/base/drop.h"
#include "ipsec/crypto.h"
#include "ipsec/sa.h"

#define ESP_BATCH        CRYPTO_BATCH
#define ESP_HDR          8 /* SPI and sequence number */
#define ESP_OVERHEAD_MAX (ESP_HDR + CRYPTO_IV_MAX + 15 + 2 + CRYPTO_ICV_MAX)

/* RFC 4303 2.6 */
#define ESP_NEXT_IPV4  4
#define ESP_NEXT_IPV6  41
#define ESP_NEXT_DUMMY 59

/* ---- opening ---------------------------------------------------------------------------------------- */

struct esp_in {
	struct sa *sa; /* inbound */
	uint8_t *data; /* the SPI */
	uint32_t len;  /* up to the end of the ICV */
	/* set by esp_open */
	enum drop drop; /* DROP_NONE, or why it was not opened; one of DROP_ESP_* */
	bool newest;    /* of what is good: no packet of the SA before it had so high a number */
	uint8_t next;   /* next header */
	uint8_t *inner; /* in data */
	/* Octets up to the padding. TFC padding is still among them: the inner length field says where the packet ends
	 * (RFC 4303 2.7). */
	uint32_t inner_len;
};

/* The SPI of a packet of len octets (host order); 0 when it is too short to have one. */
uint32_t esp_spi(const uint8_t *data, uint32_t len);

/* Checks lengths and replay window, verifies and decrypts in place, marks the sequence number, checks the padding, and
 * says what is inside. Dummy packets give DROP_ESP_DUMMY; they have their place in the window as others do. In tunnel
 * mode the next header is IPv4 or IPv6. In transport mode it is any: 4 and 41 are then IP in IP, and whether it is one
 * that is to come here is the caller's question, by the selectors. Counts on the SA (replayed, bad_icv), but not sa->use:
 * that is the caller's, who knows the time and whether the inside was good. Any n, any SAs together, in order.
 *
 * With a drop reason neither next nor inner is to be used, and of data only SPI and sequence number are as they came. */
void esp_open(struct crypto *c, struct esp_in *p, unsigned n);

/* ---- sealing ---------------------------------------------------------------------------------------- */

struct esp_out {
	struct sa *sa; /* outbound */
	uint8_t *data; /* where the SPI goes; what is to be carried stands at data + esp_inner_at(sa) */
	uint32_t inner_len;
	uint32_t pad_to; /* TFC, tunnel mode only: with zeros up to so many octets inside; 0: no */
	uint8_t next;
	/* set by esp_seal */
	/* DROP_NONE; DROP_ESP_SEQUENCE: no number is left; DROP_ESP_EXPIRED: hard_done is set; DROP_TOO_BIG: not to be had
	 * in one IP packet; DROP_SEND_ERROR: the provider failed */
	enum drop drop;
	uint32_t len; /* of the ESP packet; 0 when dropped. What lies in data then may be readable */
};

uint32_t esp_inner_at(const struct sa *sa);
/* Octets of the ESP packet around inner_len octets (TFC included). */
uint32_t esp_sealed_len(const struct suite *s, uint32_t inner_len);
/* The largest inner_len whose ESP packet has no more than len octets; 0 when none fits. */
uint32_t esp_inner_max(const struct suite *s, uint32_t len);

/* Numbers, pads, encrypts and signs in place. data has room for esp_sealed_len octets (of pad_to, where that is more);
 * nothing behind them is touched, so that packets may lie one right behind the other. IVs: for counter modes the sequence
 * number, for CBC unpredictable.
 * Any n, any SAs together; numbers are given in order. */
void esp_seal(struct crypto *c, struct esp_out *p, unsigned n);

#endif
