/* SPDX-License-Identifier: GPL-2.0-or-later */
/* crc32c.h - the checksum of SCTP (RFC 9260, appendix A): CRC-32C, and its update.
 *
 * A register is what the remainder is worked out in: all ones before the first octet, inverted behind the last one. A CRC is
 * linear but for that: two packets of equal length differ in their checksums by the CRC, from a register of zero, of what
 * they differ in.
 */
#ifndef ARRD_BASE_CRC32C_H
#define ARRD_BASE_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* The register behind n more octets. */
uint32_t crc32c(uint32_t reg, const void *p, size_t n);
/* The same for n octets that are zero. */
uint32_t crc32c_zeros(uint32_t reg, size_t n);

#endif
