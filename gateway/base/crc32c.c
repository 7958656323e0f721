/* SPDX-License-Identifier: GPL-2.0-or-later */
/* crc32c.c - CRC-32C: by the processor's instruction where it has one, else four bits a time. */
#include "gateway/base/crc32c.h"

#include <string.h>

#define POLYNOMIAL 0x82f63b78u /* of Castagnoli, reflected */

static uint32_t by_bits(uint32_t reg, const uint8_t *p, size_t n)
{
	uint32_t table[16];

	for (uint32_t i = 0; i < 16; i++) {
		table[i] = i;
		for (int bit = 0; bit < 4; bit++)
			table[i] = table[i] >> 1 ^ (table[i] & 1 ? POLYNOMIAL : 0);
	}
	for (size_t i = 0; i < n; i++) {
		reg ^= p ? p[i] : 0;
		reg = reg >> 4 ^ table[reg & 15];
		reg = reg >> 4 ^ table[reg & 15];
	}
	return reg;
}

#ifdef __x86_64__
__attribute__((target("sse4.2"))) static uint32_t by_instruction(uint32_t reg, const uint8_t *p, size_t n)
{
	uint64_t r = reg, w = 0;

	for (; n >= sizeof(w); n -= sizeof(w)) {
		if (p) {
			memcpy(&w, p, sizeof(w));
			p += sizeof(w);
		}
		r = __builtin_ia32_crc32di(r, w);
	}
	for (reg = (uint32_t)r; n; n--)
		reg = __builtin_ia32_crc32qi(reg, p ? *p++ : 0);
	return reg;
}
#endif

/* p NULL: zeros. */
static uint32_t any(uint32_t reg, const uint8_t *p, size_t n)
{
#ifdef __x86_64__
	if (__builtin_cpu_supports("sse4.2"))
		return by_instruction(reg, p, n);
#endif
	return by_bits(reg, p, n);
}

uint32_t crc32c(uint32_t reg, const void *p, size_t n)
{
	return any(reg, p, n);
}

uint32_t crc32c_zeros(uint32_t reg, size_t n)
{
	return any(reg, NULL, n);
}
