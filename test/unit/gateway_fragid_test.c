/* SPDX-License-Identifier: GPL-2.0-or-later */
/* gateway_fragid_test.c - Identifications of IPv4 datagrams, beside a table of who had which, and when. */
#include "gateway/frag_id.h"

#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#define EGRESS  7u
#define SITE(k) ((fs_id)(100 + (k)))

static struct {
	struct frag_ids *ids;
	struct addr dst;
	uint64_t now;
	struct {
		fs_id site;
		uint64_t at;
	} had[65536];
	unsigned again; /* of the own site */
} t;

static int up(void **state)
{
	(void)state;
	memset(&t, 0, sizeof(t));
	t.now = UINT32_MAX - 100000u; /* the low bits of the clock come round on the way */
	t.dst = addr_from4(htonl(0xc0000207));
	return frag_ids_new(&t.ids);
}

static int down(void **state)
{
	(void)state;
	frag_ids_free(t.ids);
	return 0;
}

/* One more of the site's; false: none. */
static bool take(fs_id site)
{
	uint16_t id;

	if (!frag_ids_take(t.ids, EGRESS, &t.dst, IPPROTO_UDP, site, t.now, &id))
		return false;
	assert_true(id < 0x8000);
	if (t.had[id].site && t.now - t.had[id].at < FRAG_ID_WAIT_MS) {
		if (t.had[id].site != site)
			fail_msg("%u is of site %u, %u ms ago of site %u", id, site,
				(unsigned)(t.now - t.had[id].at), t.had[id].site);
		t.again++;
	}
	t.had[id].site = site;
	t.had[id].at = t.now;
	return true;
}

/* Sites at random rates, some much, with pauses. */
static void nobody_has_anothers(void **state)
{
	const char *seed = getenv("ARRD_SEED");
	unsigned start = seed ? (unsigned)strtoul(seed, NULL, 0) : (unsigned)time(NULL), refused = 0, n = 0;

	(void)state;
	print_message("ARRD_SEED=%u\n", start);
	srandom(start);
	for (unsigned k = 0; k < 1000000; k++) {
		unsigned site = (unsigned)(random() % 1000 < 700 ? random() % 3 : random() % 3000);

		t.now += random() % 100 == 0 ? (unsigned)random() % 100 : 0;
		if (random() % 200000 == 0)
			t.now += (unsigned)random() % 60000;
		n++;
		refused += !take(SITE(site));
	}
	print_message("%u, refused %u, own again %u\n", n, refused, t.again);
	assert_true(refused && refused < n / 2 && t.again);
}

/* Who sends without end has most of them at last, and never all: others get theirs at once, and each some. */
static void nobody_has_all(void **state)
{
	(void)state;
	for (unsigned k = 0; k < 200000; k++)
		assert_true(take(SITE(0)));
	for (unsigned site = 1; site <= 40; site++)
		for (unsigned k = 0; k < 100; k++)
			assert_true(take(SITE(site)));
	for (unsigned site = 1; site <= 8; site++)
		for (unsigned k = 0; k < 50000; k++)
			assert_true(take(SITE(site)));
	for (unsigned site = 41; site < 500; site++)
		assert_true(take(SITE(site)));
	/* One that is alone goes through as many as half of all before one comes again. */
	t.now += FRAG_ID_WAIT_MS;
	t.again = 0;
	for (unsigned k = 0; k < 16384; k++)
		assert_true(take(SITE(999)));
	assert_int_equal(t.again, 0);
}

/* Many who need few. */
static void each_gets_some(void **state)
{
	unsigned got = 0;

	(void)state;
	for (unsigned site = 0; site < 3000; site++)
		got += take(SITE(site));
	assert_int_equal(got, 2048);
	t.now += FRAG_ID_WAIT_MS - 1;
	assert_false(take(SITE(2999)));
	t.now++;
	for (unsigned site = 1000; site < 3000; site++)
		assert_true(take(SITE(site)));
}

/* Those of whole datagrams are others, follow each other, and come round. */
static void whole_ones(void **state)
{
	static uint8_t seen[65536];
	uint16_t before = 0;
	struct addr other = addr_from4(htonl(0xc0000208));
	unsigned offsets = 0;

	(void)state;
	for (unsigned k = 0; k < 32768; k++) {
		uint16_t id = frag_ids_next(t.ids, EGRESS, &t.dst, IPPROTO_UDP, 1);

		assert_true(id >= 0x8000 && !seen[id]);
		assert_true(!k || id == (uint16_t)(before + 1) || (before == 0xffff && id == 0x8000));
		seen[id] = 1;
		before = id;
	}
	for (unsigned k = 0; k < 10000; k++) {
		unsigned n = 1 + k % 50;
		uint16_t id = frag_ids_next(t.ids, EGRESS, &t.dst, IPPROTO_UDP, n);

		assert_true(id >= 0x8000 && id + n - 1 <= 0xffff);
	}
	/* Of another realm, destination or protocol nobody knows them from these. */
	for (unsigned k = 0; k < 8; k++) {
		uint16_t a = frag_ids_next(t.ids, EGRESS + k, &t.dst, IPPROTO_UDP, 1),
			 b = frag_ids_next(t.ids, EGRESS + k, &other, IPPROTO_UDP, 1),
			 c = frag_ids_next(t.ids, EGRESS + k, &t.dst, IPPROTO_ICMP, 1);

		offsets += a != b && b != c && a != c;
	}
	assert_true(offsets > 4);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(nobody_has_anothers, up, down),
		cmocka_unit_test_setup_teardown(nobody_has_all, up, down),
		cmocka_unit_test_setup_teardown(each_gets_some, up, down),
		cmocka_unit_test_setup_teardown(whole_ones, up, down),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
