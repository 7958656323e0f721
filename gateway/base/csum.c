/* SPDX-License-Identifier: GPL-2.0-or-later */
/* csum.c - the Internet checksum (RFC 1071), summed as 64-bit words in vectors.
 *
 * The ones' complement sum does not care how its 16-bit words are grouped, nor about byte order (RFC 1071,
 * 2). Eight octets at once would need the carry of each addition. So two sums are kept: of the whole words
 * modulo 2^64, and of their upper halves, which cannot overflow. Together they say what the sum of the lower
 * halves was: all - upper * 2^32 modulo 2^64, exact as long as that sum is below 2^64, which takes 16 GiB.
 */
#include "gateway/base/csum.h"

/* What every 64-bit machine of today has as one register (SSE2, NEON). */
typedef uint64_t lanes __attribute__((vector_size(16)));

static inline lanes load(const uint8_t *b)
{
	lanes v;

	memcpy(&v, b, sizeof(v));
	return v;
}

/* The sum over n blocks of 64 octets. */
static uint64_t sum_blocks(const uint8_t *b, size_t n)
{
	lanes all0 = {0}, all1 = {0}, upper0 = {0}, upper1 = {0}, lower;

	for (; n; n--, b += 64) {
		lanes v0 = load(b), v1 = load(b + 16), v2 = load(b + 32), v3 = load(b + 48);

		all0 += v0 + v2;
		all1 += v1 + v3;
		upper0 += (v0 >> 32) + (v2 >> 32);
		upper1 += (v1 >> 32) + (v3 >> 32);
	}
	upper0 += upper1;
	lower = all0 + all1 - (upper0 << 32);
	return lower[0] + lower[1] + upper0[0] + upper0[1];
}

uint64_t csum_add(uint64_t sum, const void *p, size_t len)
{
	const uint8_t *b = p;
	size_t blocks = len / 64;
	uint32_t w;

	if (blocks) {
		sum += sum_blocks(b, blocks);
		b += blocks * 64;
		len -= blocks * 64;
	}
	for (; len >= sizeof(w); len -= sizeof(w), b += sizeof(w)) {
		memcpy(&w, b, sizeof(w));
		sum += w;
	}
	if (len) { /* an odd octet at the end is the first of its word, in either byte order */
		w = 0;
		memcpy(&w, b, len);
		sum += w;
	}
	return sum;
}

uint64_t csum_pseudo(const struct addr *src, const struct addr *dst, uint8_t proto, uint32_t l4_len)
{
	uint64_t sum = (uint64_t)htonl(l4_len) + htonl(proto);

	/* The ffff in front of an IPv4 address is zero in ones' complement: both families are summed alike.
	 */
	for (unsigned i = 0; i < 4; i++)
		sum += (uint64_t)src->w[i] + dst->w[i];
	return sum;
}

uint16_t csum_update(uint16_t field, const void *old, const void *new_, size_t len)
{
	return csum_update16(field, csum_fold(csum_add(0, old, len)), csum_fold(csum_add(0, new_, len)));
}
