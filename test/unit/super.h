/* SPDX-License-Identifier: GPL-2.0-or-later */
/* super.h - super-packets for tests. */
#ifndef ARRD_TEST_SUPER_H
#define ARRD_TEST_SUPER_H

#include "gateway/base/vnet.h"
#include "test/unit/packet.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

/* A random super-packet (or, with segs 1, an ordinary packet): its spec, and in *p the parsed packet. */
static inline void random_super(
	uint64_t *seed, uint8_t *b, struct pkt *p, struct spec *s, unsigned kind, uint32_t mss)
{
	*s = kind_spec(kind);
	s->payload_len = mss + 1 + rnd(seed) % 20000;
	s->fill = rnd(seed);
	s->id = (uint16_t)rnd(seed);
	s->df = rnd(seed) % 2;
	s->tos = (uint8_t)rnd(seed);
	s->ttl = (uint8_t)(rnd(seed) % 255 + 1);
	s->flow_label = rnd(seed) & 0xfffff;
	s->seq = rnd(seed) % 3 ? rnd(seed) : 0u - rnd(seed) % 5000; /* wraps now and then */
	s->ack = rnd(seed);
	s->window = (uint16_t)rnd(seed);
	s->noptions = (uint8_t)(rnd(seed) % 11 * 4);
	for (unsigned i = 0; i < s->noptions; i++)
		s->options[i] = (uint8_t)rnd(seed);
	s->csum = CSUM_HALF;
	*p = (struct pkt){.data = b, .len = packet_make(b, s)};
	assert_int_equal(pkt_parse(p), DROP_NONE);
	p->gso_size = (uint16_t)mss;
	p->csum = PKT_CSUM_PARTIAL;
}

#endif
