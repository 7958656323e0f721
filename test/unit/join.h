/* SPDX-License-Identifier: GPL-2.0-or-later */
/* join.h - collects and reads back what joining hands out. */
#ifndef ARRD_TEST_JOIN_H
#define ARRD_TEST_JOIN_H

#include "test/unit/super.h"

/* What a flush handed out, as the TUN would see it. */
struct written {
	struct virtio_net_hdr h;
	uint8_t b[65536];
	uint32_t len;
	unsigned npkts;
	struct pkt *first;
};
struct log {
	struct written w[VNET_JOIN_GROUPS];
	unsigned n;
};
static struct log out;

static inline void collect(void *arg, struct iovec *iov, unsigned n, struct pkt *const *pkts, unsigned npkts)
{
	struct log *l = arg;
	struct written *w = &l->w[l->n++];

	assert_int_equal(n, npkts + 1);
	assert_int_equal(iov[0].iov_len, VNET_HDR_LEN);
	memcpy(&w->h, iov[0].iov_base, VNET_HDR_LEN);
	w->len = 0;
	for (unsigned i = 1; i < n; i++) {
		assert_in_range(w->len + iov[i].iov_len, 1, PKT_MAX);
		memcpy(w->b + w->len, iov[i].iov_base, iov[i].iov_len);
		w->len += (uint32_t)iov[i].iov_len;
	}
	w->npkts = npkts;
	w->first = pkts[0];
}

static const struct vnet_offloads all_on = {.tcp4 = true, .tcp6 = true, .udp = true, .csum = true};

/* Reads back what was written: it must parse, and as a super-packet its checksum must be a right partial one. */
static inline void reread(struct written *w, struct pkt *p)
{
	*p = (struct pkt){.data = w->b, .len = w->len};
	assert_int_equal(pkt_parse(p), DROP_NONE);
	assert_int_equal(p->len, w->len);
	assert_int_equal(vnet_to_pkt(&w->h, p), DROP_NONE);
	if (p->csum == PKT_CSUM_PARTIAL) {
		struct pkt q = {.data = w->b, .len = w->len};

		assert_int_equal(pkt_parse(&q), DROP_NONE);
		assert_int_equal(pkt_check_csum(&q), DROP_NONE);
		assert_int_equal(q.csum, PKT_CSUM_PARTIAL);
	}
}

/* Makes, parses and checks the packet of s in b. */
static inline struct pkt make_pkt(uint8_t *b, const struct spec *s)
{
	struct pkt p = {.data = b, .len = packet_make(b, s)};

	assert_int_equal(pkt_parse(&p), DROP_NONE);
	(void)pkt_check_csum(&p);
	return p;
}

#endif
