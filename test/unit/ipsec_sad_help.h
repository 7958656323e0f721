/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ipsec_sad_help.h - security associations without keys, for tests of the SA database. */
#ifndef ARRD_TEST_IPSEC_SAD_HELP_H
#define ARRD_TEST_IPSEC_SAD_HELP_H

#include "ipsec/sad.h"
#include "test/unit/packet.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define T1 0x00010007u
#define T2 0x00020007u /* of the same place */
#define T3 0x00010008u

static inline struct sa_selector *test_selector(const char *from, const char *to)
{
	struct sa_selector *ts = calloc(1, sizeof(*ts));

	assert_non_null(ts);
	*ts = (struct sa_selector){test_addr(from), test_addr(to), 0, UINT16_MAX, 0};
	return ts;
}

static inline struct sa *test_sa(bool inbound, uint32_t spi, uint32_t tunnel, uint32_t ike, bool initiator)
{
	struct sa *sa = calloc(1, sizeof(*sa));

	assert_non_null(sa);
	sa->inbound = inbound;
	sa->spi = spi;
	sa->tunnel = tunnel;
	sa->ike = ike;
	sa->initiator = initiator;
	sa->suite = &suites[0];
	sa->use = sa_use_new();
	assert_non_null(sa->use);
	sa->local_ts = test_selector("0.0.0.0", "255.255.255.255");
	sa->remote_ts = test_selector("0.0.0.0", "255.255.255.255");
	sa->nlocal_ts = sa->nremote_ts = 1;
	return sa;
}

static inline struct sad *test_sad(void)
{
	struct sad *d;

	assert_int_equal(sad_new(&d), 0);
	return d;
}

static inline uint32_t test_reserve_of(struct sad *d, uint32_t tunnel)
{
	uint32_t spi;

	assert_int_equal(sad_reserve(d, tunnel, &spi), 0);
	return spi;
}

static inline uint32_t test_reserve(struct sad *d)
{
	return test_reserve_of(d, 0);
}

static inline struct sa *test_add_in(
	struct sad *d, uint32_t tunnel, uint32_t ike, bool initiator, uint64_t now)
{
	struct sa *sa = test_sa(true, test_reserve(d), tunnel, ike, initiator);

	assert_int_equal(sad_add(d, sa, now), 0);
	return sa;
}

static inline struct sa *test_add_out(
	struct sad *d, uint32_t spi, uint32_t tunnel, uint32_t ike, bool initiator, uint64_t now)
{
	struct sa *sa = test_sa(false, spi, tunnel, ike, initiator);

	assert_int_equal(sad_add(d, sa, now), 0);
	return sa;
}

/* A good packet has come. */
static inline void test_hear(struct sad *d, struct sa *in, uint64_t now)
{
	atomic_store(&in->use->last_ms, now);
	sad_confirm(d, in);
}

#endif
