/* SPDX-License-Identifier: GPL-2.0-or-later */
/* frag_cut.c - cuts an inner packet into fragments. */
#include "gateway/base/frag_cut.h"

#include "gateway/base/be.h"
#include "gateway/base/csum.h"

#include <netinet/ip.h>
#include <string.h>

#define IP6_HDR  40
#define FRAG_HDR 8

/* Options for later fragments: those with the copied flag (RFC 791 3.1), padded. Returns the header's length. */
static uint32_t copied_options(uint8_t *to, const uint8_t *from, uint32_t hlen)
{
	uint32_t n = 20;

	memcpy(to, from, 20);
	for (uint32_t i = 20; i < hlen && from[i] != IPOPT_EOL;) {
		uint32_t len = from[i] == IPOPT_NOP ? 1 : i + 1 < hlen ? from[i + 1] : 0;

		if (len == 0 || (from[i] != IPOPT_NOP && len < 2) || i + len > hlen)
			break;
		if (from[i] & 0x80) {
			memcpy(to + n, from + i, len);
			n += len;
		}
		i += len;
	}
	while (n % 4)
		to[n++] = IPOPT_EOL;
	to[0] = (uint8_t)(4 << 4 | n / 4);
	return n;
}

/* What every fragment of an IPv6 packet has (RFC 8200 4.5): the headers up to a routing header, and a hop-by-hop one. */
static uint32_t unfragmentable(const uint8_t *ip, uint32_t hlen, uint32_t *next_at)
{
	uint32_t at = IP6_HDR, end = IP6_HDR, next = 6, end_next = 6;
	uint8_t proto = ip[6];

	while ((proto == IPPROTO_HOPOPTS || proto == IPPROTO_ROUTING || proto == IPPROTO_DSTOPTS) &&
		at + 8 <= hlen) {
		uint32_t size = (ip[at + 1] + 1u) * 8;

		if (at + size > hlen)
			break;
		next = at;
		at += size;
		if (proto != IPPROTO_DSTOPTS) {
			end = at;
			end_next = next;
		}
		proto = ip[next];
	}
	*next_at = end_next;
	return end;
}

bool frag_cut_start(struct frag_cut *c, uint8_t ver, const uint8_t *hdr, uint32_t hlen,
	const uint8_t *payload, uint32_t plen, uint32_t limit, uint32_t id, bool df)
{
	uint32_t next_at, own = ver == 4 ? 0 : FRAG_HDR;

	if (hlen + own > FRAG_HDR_MAX)
		return false;
	c->ver = ver;
	c->payload = payload;
	c->id = id;
	c->limit = limit;
	c->df = df;
	c->at = 0;
	memcpy(c->hdr, hdr, hlen);
	c->each = ver == 4 ? (hdr[0] & 0xfu) * 4 : unfragmentable(hdr, hlen, &next_at);
	c->first = hlen - c->each;
	c->total = c->first + plen;
	if (ver == 6) {
		c->next_header = hdr[next_at];
		c->hdr[next_at] = IPPROTO_FRAGMENT;
	}
	/* Each takes on the whole of the headers, and at least 8 octets more. */
	return limit >= hlen + own + 8 + 60;
}

static uint32_t finish4(const struct frag_cut *c, uint8_t *h, uint32_t hlen, uint32_t plen, bool more)
{
	uint32_t ihl = (h[0] & 0xfu) * 4;

	be16_put(h + 2, (uint16_t)(hlen + plen));
	be16_put(h + 4, (uint16_t)c->id);
	be16_put(h + 6, (uint16_t)(c->at / 8 | (more ? IP_MF : 0) | (c->df ? IP_DF : 0)));
	be16_put(h + 10, 0);
	raw16_put(h + 10, (uint16_t)~csum_fold(csum_add(0, h, ihl)));
	return hlen;
}

static uint32_t finish6(const struct frag_cut *c, uint8_t *h, uint32_t hlen, uint32_t plen, bool more)
{
	uint8_t *f = h + c->each;

	be16_put(h + 4, (uint16_t)(hlen + plen - IP6_HDR));
	f[0] = c->next_header;
	f[1] = 0;
	be16_put(f + 2, (uint16_t)(c->at | more));
	be32_put(f + 4, c->id);
	return hlen;
}

uint32_t frag_cut_next(struct frag_cut *c, uint8_t *hdr, const uint8_t **payload, uint32_t *plen)
{
	uint32_t own = c->ver == 4 ? 0 : FRAG_HDR, each = c->each, first = c->at ? 0 : c->first, n;
	bool more;

	if (c->at == c->total)
		return 0;
	if (c->at && c->ver == 4)
		each = copied_options(hdr, c->hdr, c->each);
	else
		memcpy(hdr, c->hdr, each);
	memcpy(hdr + each + own, c->hdr + c->each, first);
	n = c->total - c->at;
	more = each + own + n > c->limit;
	if (more)
		n = (c->limit - each - own) & ~7u;
	*payload = c->payload + (c->at ? c->at - c->first : 0);
	*plen = n - first;
	n = c->ver == 4 ? finish4(c, hdr, each + first, *plen, more)
			: finish6(c, hdr, each + own + first, *plen, more);
	c->at += *plen + first;
	return n;
}
