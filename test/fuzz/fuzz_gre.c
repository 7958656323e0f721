/* SPDX-License-Identifier: GPL-2.0-or-later */
/* fuzz_gre.c - any octets as a GRE packet, and what is inside as a keepalive.
 *
 * Besides not crashing: a header that was read lies within the packet, and written again, around the same payload, it
 * reads the same.
 */
#include "gateway/base/be.h"
#include "gateway/base/csum.h"
#include "gre/gre.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool holds)
{
	if (!holds)
		abort();
}

static bool same(const struct gre_hdr *a, const struct gre_hdr *b)
{
	return a->has_csum == b->has_csum && a->has_key == b->has_key && a->has_seq == b->has_seq &&
	       a->proto == b->proto && a->len == b->len && a->key == b->key && a->seq == b->seq;
}

static void check_header(uint8_t *b, uint32_t len, const struct gre_hdr *h)
{
	uint8_t copy[GRE_HDR_MAX];
	struct iovec rest = {b + h->len, len - h->len};
	struct gre_hdr again;
	uint32_t key;
	bool has_key;

	must(h->len <= len && h->len == gre_hdr_len(h));
	must(gre_encode(copy, h, &rest, 1) == h->len);
	memcpy(b, copy, h->len);
	must(gre_decode(b, len, &again) == DROP_NONE);
	must(same(h, &again));
	must(gre_peek_key(b, len, &has_key, &key));
	must(has_key == h->has_key && key == h->key);
}

/* The fuzzer does not guess a checksum, nor the tunnel's addresses: they are taken from the packet. */
static void check_keepalive(uint8_t *inner, uint32_t len)
{
	uint32_t local, remote, off, hlen;
	struct gre_hdr h;

	if (len < 20)
		return;
	hlen = (inner[0] & 0xfu) * 4;
	if (hlen <= len) {
		raw16_put(inner + 10, 0);
		raw16_put(inner + 10, (uint16_t)~csum_fold(csum_add(0, inner, hlen)));
	}
	memcpy(&local, inner + 12, 4);
	memcpy(&remote, inner + 16, 4);
	if (!gre_is_keepalive(inner, len, local, remote, &off))
		return;
	must(off >= 20 && off + 4 <= len);
	must(gre_decode(inner + off, be16_get(inner + 2) - off, &h) == DROP_NONE &&
		h.proto == GRE_PROTO_NONE);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t *b = malloc(size + 1);
	struct gre_hdr h;
	enum drop d;
	uint32_t key;
	bool has_key;

	must(b != NULL);
	memcpy(b, data, size);
	(void)gre_peek_key(b, (uint32_t)size, &has_key, &key);
	d = gre_decode(b, (uint32_t)size, &h);
	if (d == DROP_NONE || d == DROP_GRE_CHECKSUM) {
		check_header(b, (uint32_t)size, &h);
		check_keepalive(b + h.len, (uint32_t)size - h.len);
	}
	free(b);
	return 0;
}
