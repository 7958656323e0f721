/* SPDX-License-Identifier: GPL-2.0-or-later */
/* gre.c - the GRE header, version 0.
 *
 *	 0                   1                   2                   3
 *	|C|R|K|S|s|Recur|  Flags  | Ver |         Protocol Type         |   RFC 2784: C; RFC 2890: K, S
 *	|      Checksum (C)             |           Reserved            |   the others: RFC 1701, not spoken here
 *	|                            Key (K)                            |
 *	|                      Sequence Number (S)                      |
 */
#include "gre/gre.h"

#include "gateway/base/be.h"
#include "gateway/base/csum.h"

#define BIT_CSUM     0x8000
#define BIT_KEY      0x2000
#define BIT_SEQ      0x1000
#define BITS_NOT_OUR 0x4c00 /* of bits 1 to 5, which must be zero: R, s and the first one of Recur */
#define BITS_VERSION 0x0007

#define IP4_HDR 20

enum drop gre_decode(const uint8_t *p, uint32_t len, struct gre_hdr *h)
{
	uint32_t off = 4;
	uint16_t bits;

	if (len < off)
		return DROP_GRE_TRUNCATED;
	bits = be16_get(p);
	if (bits & BITS_VERSION)
		return DROP_GRE_VERSION;
	if (bits & BITS_NOT_OUR)
		return DROP_GRE_FLAGS;
	*h = (struct gre_hdr){
		.has_csum = bits & BIT_CSUM,
		.has_key = bits & BIT_KEY,
		.has_seq = bits & BIT_SEQ,
		.proto = be16_get(p + 2),
	};
	h->len = (uint16_t)gre_hdr_len(h);
	if (len < h->len)
		return DROP_GRE_TRUNCATED;
	if (h->has_csum)
		off += 4;
	if (h->has_key) {
		h->key = be32_get(p + off);
		off += 4;
	}
	if (h->has_seq)
		h->seq = be32_get(p + off);
	if (h->has_csum && csum_fold(csum_add(0, p, len)) != 0xffff)
		return DROP_GRE_CHECKSUM;
	return DROP_NONE;
}

uint32_t gre_encode(
	uint8_t buf[static GRE_HDR_MAX], const struct gre_hdr *h, const struct iovec *payload, unsigned n)
{
	uint32_t off = 4;
	uint64_t sum;

	be16_put(buf, (uint16_t)((h->has_csum ? BIT_CSUM : 0) | (h->has_key ? BIT_KEY : 0) |
				 (h->has_seq ? BIT_SEQ : 0)));
	be16_put(buf + 2, h->proto);
	if (h->has_csum) {
		be32_put(buf + off, 0);
		off += 4;
	}
	if (h->has_key) {
		be32_put(buf + off, h->key);
		off += 4;
	}
	if (h->has_seq) {
		be32_put(buf + off, h->seq);
		off += 4;
	}
	if (h->has_csum) {
		sum = csum_add(0, buf, off);
		for (unsigned i = 0; i < n; i++)
			sum = csum_add(sum, payload[i].iov_base, payload[i].iov_len);
		raw16_put(buf + 4, (uint16_t)~csum_fold(sum));
	}
	return off;
}

bool gre_peek_key(const uint8_t *p, uint32_t len, bool *has_key, uint32_t *key)
{
	uint32_t off;

	*has_key = false;
	*key = 0;
	if (len < 4)
		return false;
	if (!(be16_get(p) & BIT_KEY))
		return true;
	off = be16_get(p) & BIT_CSUM ? 8 : 4;
	if (len < off + 4)
		return false;
	*has_key = true;
	*key = be32_get(p + off);
	return true;
}

bool gre_is_keepalive(const uint8_t *inner, uint32_t len, uint32_t local, uint32_t remote, uint32_t *off)
{
	struct gre_hdr h;
	uint32_t hlen, total;

	if (len < IP4_HDR || inner[0] >> 4 != 4)
		return false;
	hlen = (inner[0] & 0xfu) * 4;
	total = be16_get(inner + 2);
	if (hlen < IP4_HDR || total < hlen || total > len)
		return false;
	if (inner[9] != IPPROTO_GRE || (be16_get(inner + 6) & 0x3fff)) /* a whole one: no MF, no offset */
		return false;
	if (memcmp(inner + 12, &local, 4) != 0 || memcmp(inner + 16, &remote, 4) != 0)
		return false;
	if (csum_fold(csum_add(0, inner, hlen)) != 0xffff)
		return false;
	if (gre_decode(inner + hlen, total - hlen, &h) != DROP_NONE || h.proto != GRE_PROTO_NONE)
		return false;
	*off = hlen;
	return true;
}
