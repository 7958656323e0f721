/* SPDX-License-Identifier: GPL-2.0-or-later */
/* csum.h - the Internet checksum (RFC 1071), and its incremental update (RFC 1624).
 *
 * Sums are kept as uint64_t, unfolded, in the byte order of memory, so that parts of any even length can be
 * added up. A part of odd length may only be the last one.
 */
#ifndef ARRD_BASE_CSUM_H
#define ARRD_BASE_CSUM_H

#include "gateway/base/addr.h"

#include <stddef.h>
#include <stdint.h>

/* Adds len octets at p to sum. */
uint64_t csum_add(uint64_t sum, const void *p, size_t len);

/* Folds to 16 bit, not inverted. */
static inline uint16_t csum_fold(uint64_t sum)
{
	sum = (sum >> 32) + (sum & 0xffffffff);
	sum = (sum >> 32) + (sum & 0xffffffff);
	sum = (sum >> 16) + (sum & 0xffff);
	sum = (sum >> 16) + (sum & 0xffff);
	return (uint16_t)sum;
}

/* Sum of the pseudo-header for IPv4 (RFC 9293) or IPv6 (RFC 8200 8.1), not folded. l4_len in octets. */
uint64_t csum_pseudo(const struct addr *src, const struct addr *dst, uint8_t proto, uint32_t l4_len);

/* Replaces old by new (both 16 bit, as in memory) in a checksum field, RFC 1624 eqn. 3. */
static inline uint16_t csum_update16(uint16_t field, uint16_t old, uint16_t new_)
{
	uint32_t s = (uint16_t)~field + (uint32_t)(uint16_t)~old + new_;
	s = (s >> 16) + (s & 0xffff);
	s = (s >> 16) + (s & 0xffff);
	return (uint16_t)~s;
}

/* The same for len octets (even). */
uint16_t csum_update(uint16_t field, const void *old, const void *new_, size_t len);

#endif
