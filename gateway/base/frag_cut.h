/* SPDX-License-Identifier: GPL-2.0-or-later */
/* frag_cut.h - cuts an inner packet into fragments (RFC 791 3.2, RFC 8200 4.5).
 *
 * The first fragment carries the packet's headers up to the payload, the others nothing but what has to be in each: so a
 * fragment is always one header and one piece of payload, which is not copied.
 */
#ifndef ARRD_BASE_FRAG_CUT_H
#define ARRD_BASE_FRAG_CUT_H

#include "gateway/base/pkt.h"

#define FRAG_HDR_MAX 264 /* headers of a first fragment: the packet's, and a fragment header */

struct frag_cut {
	const uint8_t *payload;
	uint32_t id, limit;
	uint32_t each;      /* octets of hdr that every fragment has */
	uint32_t first;     /* octets of headers behind these, in the first one */
	uint32_t at, total; /* of the fragmentable part */
	uint8_t ver, next_header;
	bool df;
	uint8_t hdr[FRAG_HDR_MAX];
};

/* hdr, hlen: headers of a whole packet up to its payload; checksums are complete. limit: octets of a fragment at most. id:
 * in host order, of which IPv4 takes the low 16 bits. df: IPv4 fragments say so. payload must stay; hdr is copied. False:
 * the headers are too long for it. */
bool frag_cut_start(struct frag_cut *c, uint8_t ver, const uint8_t *hdr, uint32_t hlen,
	const uint8_t *payload, uint32_t plen, uint32_t limit, uint32_t id, bool df);
/* The next fragment: its header into hdr (FRAG_HDR_MAX), and where its payload is. Returns the header's length; 0: that was
 * all. */
uint32_t frag_cut_next(struct frag_cut *c, uint8_t *hdr, const uint8_t **payload, uint32_t *plen);

#endif
