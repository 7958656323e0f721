/* SPDX-License-Identifier: GPL-2.0-or-later */
/* flows.h - what the benchmarks of the flow table share: whose flows they are, flows without an end, time. */
#ifndef ARRD_TEST_BENCH_FLOWS_H
#define ARRD_TEST_BENCH_FLOWS_H

#include "flowstate/flowstate.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define SITES 64u
#define T0_MS 1000000ull

/* A site has one tunnel. */
struct owners {
	fs_id egress, site[SITES], tunnel[SITES];
};

static inline void owners_bind(struct owners *o, struct flowstate *fs)
{
	char name[16];

	o->egress = fs_bind(fs, FS_EGRESS, "default", FS_ID_NONE, 0);
	for (unsigned s = 0; s < SITES; s++) {
		snprintf(name, sizeof(name), "s%u", s);
		o->site[s] = fs_bind(fs, FS_SITE, name, FS_ID_NONE, 0);
		o->tunnel[s] = fs_bind(fs, FS_TUNNEL, name, o->site[s], 0);
	}
	fs_unbind_rest(fs);
}

static inline uint64_t clock_ns(clockid_t which)
{
	struct timespec t;

	clock_gettime(which, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

/* Time of this thread on a processor: the machine has other things to do, too. */
static inline uint64_t cpu_ns(void)
{
	return clock_ns(CLOCK_THREAD_CPUTIME_ID);
}

static inline uint64_t next_random(uint64_t *s)
{
	*s ^= *s << 13;
	*s ^= *s >> 7;
	*s ^= *s << 17;
	return *s * 0x9e3779b97f4a7c15;
}

static inline uint64_t mix(uint64_t x)
{
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
	x = (x ^ x >> 27) * 0x94d049bb133111eb;
	return x ^ x >> 31;
}

/* Flow i as its site sends it: UDP, three of four over IPv4. The source is another one for each i, below 2^24. Returns the
 * number of the site. */
static inline unsigned flow_tuple(uint32_t i, struct tuple *t)
{
	uint64_t m = mix(i + 1);

	memset(t, 0, sizeof(*t));
	t->proto = IPPROTO_UDP;
	t->sport = (uint16_t)(m >> 8);
	t->dport = htons(m >> 24 & 1 ? 443 : 53);
	if (m >> 25 & 3) {
		t->src = addr_from4(htonl(0x0a000000 | i));
		t->dst = addr_from4((uint32_t)(m >> 32));
	} else {
		memcpy(t->src.b, "\x20\x01\x0d\xb8", 4);
		memcpy(t->src.b + 12, &i, 4);
		memcpy(t->dst.b, "\x26\x06\x28\x00", 4);
		memcpy(t->dst.b + 12, &m, 4);
	}
	return (unsigned)(m % SITES);
}

#endif
