/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ipsec_sad_test.c - the SA database: slots, SPIs, lists, lifetimes, threads. Packets that are held: ipsec_sadhold_test.c. Which
 * SA is chosen for sending: ipsec_sadchoice_test.c. */
#include "ipsec/sad_private.h"
#include "test/unit/ipsec_sad_help.h"

#include <pthread.h>
#include <sched.h>

/* ---- slots ------------------------------------------------------------------------------------------------- */

static void test_spis(void **state)
{
	enum { N = 1000 };
	struct sad *d = test_sad();
	uint32_t spi[N];
	bool seen[1 << 18] = {false};

	(void)state;
	for (unsigned i = 0; i < N; i++) {
		spi[i] = test_reserve(d);
		assert_true(spi[i] > 255);
		assert_false(seen[spi[i] >> 14]);
		seen[spi[i] >> 14] = true;
		assert_true(sad_is_reserved(d, spi[i]));
		assert_null(sad_in(d, spi[i]));
		/* any other generation of that slot is nobody */
		assert_false(sad_is_reserved(d, spi[i] ^ 1));
		assert_false(sad_is_reserved(d, spi[i] ^ 0x2000));
	}
	for (uint32_t s = 0; s < 256; s++)
		assert_false(sad_is_reserved(d, s) || sad_in(d, s));
	assert_false(sad_is_reserved(d, UINT32_MAX) || sad_in(d, UINT32_MAX));
	for (unsigned i = 0; i < N; i++) {
		struct sa *sa = test_sa(true, spi[i], T1, 1, true);

		assert_int_equal(sad_add(d, sa, 0), 0);
		assert_ptr_equal(sad_in(d, spi[i]), sa);
		assert_false(sad_is_reserved(d, spi[i]));
		assert_null(sad_in(d, spi[i] ^ 1));
	}
	sad_release(d, spi[7]); /* it is in use */
	assert_non_null(sad_in(d, spi[7]));
	for (unsigned i = 0; i < N; i += 2) {
		struct sa *sa = sad_take_in(d, spi[i]);

		assert_int_equal(sa->spi, spi[i]);
		sa_free(sa);
		assert_null(sad_in(d, spi[i]));
		assert_null(sad_take_in(d, spi[i]));
		assert_false(sad_is_reserved(d, spi[i]));
	}
	sad_free(d); /* with what is in it */
	sad_free(NULL);
}

/* All slots, then those given back, the longest ago first, with another generation; nothing twice. */
static void test_slots_run_out(void **state)
{
	enum { ALL = (1 << 18) - 1, BACK = 1000 };
	struct sad *d = test_sad();
	uint32_t *spi = calloc(ALL, sizeof(*spi)), more;
	uint8_t *seen = calloc(1 << 18, 1);

	(void)state;
	assert_true(spi && seen);
	for (unsigned i = 0; i < ALL; i++) {
		spi[i] = test_reserve(d);
		assert_int_equal(seen[spi[i] >> 14]++, 0);
	}
	assert_int_equal(seen[0], 0);
	assert_int_equal(sad_reserve(d, 0, &more), -ENOSPC);
	for (unsigned i = 0; i < BACK; i++) {
		sad_release(d, spi[i * 7]);
		sad_release(d, spi[i * 7]); /* once is enough */
	}
	for (unsigned i = 0; i < BACK; i++) {
		more = test_reserve(d);
		assert_int_equal(more >> 14, spi[i * 7] >> 14);
		assert_int_equal(more & 0x3fff, (spi[i * 7] + 1) & 0x3fff);
		assert_true(sad_is_reserved(d, more));
		assert_false(sad_is_reserved(d, spi[i * 7]));
		assert_int_equal(sad_add(d, test_sa(true, more, T1, 1, true), 0), 0);
		assert_null(sad_in(d, spi[i * 7]));
	}
	assert_int_equal(sad_reserve(d, 0, &more), -ENOSPC);
	sad_free(d);
	free(spi);
	free(seen);
}

/* The generations of one slot come round, and are never 0 in all bits of the SPI. */
static void test_generations(void **state)
{
	enum { ALL = (1 << 18) - 1 };
	struct sad *d = test_sad();
	uint32_t one, last, rounds = 0;

	(void)state;
	for (unsigned i = 1; i < ALL; i++)
		test_reserve(d);
	one = last = test_reserve(d);
	do {
		uint32_t next;

		sad_release(d, last);
		next = test_reserve(d);
		assert_int_equal(next >> 14, one >> 14);
		assert_int_not_equal(next, last);
		last = next;
		rounds++;
	} while (last != one);
	assert_int_equal(rounds, 1 << 14);
	sad_free(d);
}

/* What one process gave out names nothing in the next. */
static void test_next_process(void **state)
{
	enum { ALL = (1 << 18) - 1, FEW = 2000 };
	struct sad *a = test_sad(), *b = test_sad();
	uint32_t *spi = calloc(ALL, sizeof(*spi));
	unsigned known = 0;

	(void)state;
	assert_non_null(spi);
	for (unsigned i = 0; i < ALL; i++) {
		spi[i] = test_reserve(a);
		if (i < FEW)
			test_reserve(b);
	}
	for (unsigned i = 0; i < FEW; i++)
		known += sad_is_reserved(b, spi[i]);
	assert_in_range(known, 0, 8);
	/* if all are in use in both, by chance one in 16,384 */
	for (unsigned i = FEW; i < ALL; i++)
		test_reserve(b);
	known = 0;
	for (unsigned i = 0; i < ALL; i++)
		known += sad_is_reserved(b, spi[i]);
	assert_in_range(known, 0, 100);
	sad_free(a);
	sad_free(b);
	free(spi);
}

/* ---- adding and taking ------------------------------------------------------------------------------------- */

static void test_add_refused(void **state)
{
	struct sad *d = test_sad();
	uint32_t spi = test_reserve(d);
	struct sa *sa = test_sa(true, spi, T1, 1, true), *twice = test_sa(true, spi, T1, 1, true);
	struct sa *out = test_sa(false, 500, T1, 1, true);

	(void)state;
	assert_int_equal(sad_add(d, sa, 0), 0);
	assert_int_equal(sad_add(d, twice, 0), -EEXIST);
	twice->spi = spi ^ 1;
	assert_int_equal(sad_add(d, twice, 0), -ENOENT);
	twice->spi = 0;
	assert_int_equal(sad_add(d, twice, 0), -ENOENT);
	assert_int_equal(sad_add(d, out, 0), 0);
	twice->inbound = false;
	twice->spi = 500;
	assert_int_equal(sad_add(d, twice, 0), -EEXIST);
	assert_ptr_equal(sad_first(d, T1, true), sa);
	assert_ptr_equal(sad_first(d, T1, false), out);
	assert_null(out->next);
	/* Another IKE_SA's peer may have chosen the same. The older one goes first. */
	twice->ike = 2;
	assert_int_equal(sad_add(d, twice, 0), 0);
	assert_ptr_equal(sad_take_out(d, 500, T1), out);
	assert_ptr_equal(sad_take_out(d, 500, T1), twice);
	assert_null(sad_take_out(d, 500, T1));
	sa_free(out);
	sa_free(twice);
	sad_free(d);
}

/* Lists are by tunnel and direction, the newest first; tunnels whose ids share a place do not share anything else. */
static void test_lists(void **state)
{
	static const uint32_t tunnels[] = {T1, T2, T3};
	struct sad *d = test_sad();
	struct sa *in[9], *out[9];

	(void)state;
	assert_null(sad_first(d, T1, true));
	assert_null(sad_out(d, T1, 0));
	assert_null(sad_take_out(d, 1, T1));
	for (unsigned i = 0; i < 9; i++) {
		in[i] = test_add_in(d, tunnels[i % 3], 1 + i % 3, true, 0);
		out[i] = test_add_out(d, 1000 + i / 3, tunnels[i % 3], 1 + i % 3, true, 0);
	}
	for (unsigned t = 0; t < 3; t++) {
		const struct sa *a = sad_first(d, tunnels[t], true), *b = sad_first(d, tunnels[t], false);

		for (unsigned i = 9; i-- > 0;) {
			if (i % 3 != t)
				continue;
			assert_ptr_equal(a, in[i]);
			assert_ptr_equal(b, out[i]);
			a = a->next;
			b = b->next;
		}
		assert_true(!a && !b);
	}
	for (unsigned i = 0; i < 9; i++)
		assert_ptr_equal(sad_out(d, tunnels[i % 3], 0), out[6 + i % 3]);
	/* the middle one, the last, the first */
	for (unsigned k = 0; k < 3; k++) {
		static const unsigned order[] = {1, 0, 2};

		for (unsigned t = 0; t < 3; t++) {
			unsigned i = order[k] * 3 + t;

			assert_ptr_equal(sad_take_out(d, 1000 + i / 3, tunnels[t]), out[i]);
			assert_ptr_equal(sad_take_in(d, in[i]->spi), in[i]);
			sa_free(in[i]);
			sa_free(out[i]);
			assert_int_equal(!sad_first(d, tunnels[t], false), k == 2);
			assert_int_equal(!sad_out(d, tunnels[t], 0), k == 2);
		}
	}
	sad_free(d);
}

static void test_move(void **state)
{
	struct sad *d = test_sad();
	struct sa *in = test_add_in(d, T1, 1, true, 0), *out = test_add_out(d, 7000, T1, 1, true, 0);
	struct sa *other = test_add_out(d, 7000, T3, 2, true, 0);
	struct sa_end a = {test_addr("192.0.2.1"), 4500}, b = {test_addr("2001:db8::7"), 0};

	(void)state;
	assert_int_equal(sad_move(d, true, in->spi, T1, &a, &b), 0);
	assert_int_equal(sad_move(d, false, 7000, T1, &b, &a), 0);
	assert_true(addr_eq(&in->local.a, &a.a) && in->local.port == 4500 && addr_eq(&in->remote.a, &b.a));
	assert_true(
		addr_eq(&out->local.a, &b.a) && out->remote.port == 4500 && addr_eq(&out->remote.a, &a.a));
	assert_true(addr_is_none(&other->local.a));
	assert_int_equal(sad_move(d, true, in->spi, T3, &a, &b), -ENOENT);
	assert_int_equal(sad_move(d, true, in->spi ^ 1, T1, &a, &b), -ENOENT);
	assert_int_equal(sad_move(d, false, 7001, T1, &a, &b), -ENOENT);
	assert_int_equal(sad_move(d, false, 7000, T2, &a, &b), -ENOENT);
	sad_free(d);
}

/* ---- lifetimes --------------------------------------------------------------------------------------------- */

struct told {
	unsigned soft, hard;
	const struct sa *last;
	struct sad *take; /* out of here, what is hard */
};

static void tell(void *arg, const struct sa *sa, bool hard)
{
	struct told *t = arg;

	if (hard)
		t->hard++;
	else
		t->soft++;
	t->last = sa;
	if (hard && t->take)
		sa_free(sa->inbound ? sad_take_in(t->take, sa->spi)
				    : sad_take_out(t->take, sa->spi, sa->tunnel));
}

/* Steps: what has been reached, and what is told. */
static void test_limits(void **state)
{
	enum { S, OCT, PKT, SEQ };
	static const struct {
		unsigned what;
		struct sa_limit limit;
		uint64_t at[5];
		unsigned soft[5], hard[5]; /* told in all */
		bool esn;
	} rows[] = {
		{S, {10, 20}, {9, 10, 11, 19, 20}, {0, 1, 1, 1, 1}, {0, 0, 0, 0, 1}, true},
		{S, {0, 20}, {9, 10, 19, 20, 21}, {0}, {0, 0, 0, 1, 1}, true},
		{S, {10, 0}, {9, 10, 19, 20, 1 << 30}, {0, 1, 1, 1, 1}, {0}, true},
		{S, {10, 20}, {9, 30, 31, 32, 33}, {0}, {0, 1, 1, 1, 1}, true},
		{S, {0, 0}, {9, 30, 31, 32, 1 << 30}, {0}, {0}, true},
		{OCT, {1ull << 40, 2ull << 40}, {1, (1ull << 40) - 1, 1ull << 40, 2ull << 40, UINT64_MAX},
			{0, 0, 1, 1, 1}, {0, 0, 0, 1, 1}, true},
		{PKT, {5, 7}, {4, 5, 6, 7, 8}, {0, 1, 1, 1, 1}, {0, 0, 0, 1, 1}, true},
		{PKT, {5, 7}, {4, 5, 6, 7, 8}, {0, 1, 1, 1, 1}, {0, 0, 0, 1, 1}, false},
		{SEQ, {5, 7}, {4, 5, 6, 7, 8}, {0, 1, 1, 1, 1}, {0, 0, 0, 1, 1}, false},
		/* without ESN there is an end that nobody had to set */
		{SEQ, {0, 0}, {1, (3ull << 30) - 1, 3ull << 30, UINT32_MAX - 1, UINT32_MAX}, {0, 0, 1, 1, 1},
			{0, 0, 0, 0, 1}, false},
		{SEQ, {UINT64_MAX, UINT64_MAX}, {1, (3ull << 30) - 1, 3ull << 30, UINT32_MAX - 1, UINT32_MAX},
			{0, 0, 1, 1, 1}, {0, 0, 0, 0, 1}, false},
		{SEQ, {0, 0}, {1, 3ull << 30, UINT32_MAX, 1ull << 40, 1ull << 60}, {0}, {0}, true},
	};

	(void)state;
	for (size_t i = 0; i < 2 * sizeof(rows) / sizeof(rows[0]); i++) {
		bool inbound = i % 2;
		size_t r = i / 2;
		struct sad *d = test_sad();
		struct sa *sa = test_sa(inbound, inbound ? test_reserve(d) : 5000, T1, 1, true);
		struct told t = {.soft = 0};
		uint64_t now = 123456;

		sa->esn = rows[r].esn;
		*(rows[r].what == S           ? &sa->time_s
			: rows[r].what == OCT ? &sa->octets
					      : &sa->packets) = rows[r].limit;
		assert_int_equal(sad_add(d, sa, now), 0);
		sad_tick(d, now - 1, 10, tell, &t); /* a clock that was read before */
		for (unsigned k = 0; k < 5; k++) {
			uint64_t at = rows[r].at[k];

			if (rows[r].what == S) { /* not a millisecond too early */
				sad_tick(d, now + at * 1000 - 1, 10, tell, &t);
				assert_int_equal(t.hard > 0, rows[r].limit.hard && at > rows[r].limit.hard);
			}
			if (rows[r].what == OCT)
				atomic_store(&sa->use->octets, at);
			else if (rows[r].what == PKT)
				atomic_store(&sa->use->packets, at);
			else if (rows[r].what == SEQ && inbound)
				sa->replay.top = at;
			else if (rows[r].what == SEQ)
				sa->seq = at;
			sad_tick(d, rows[r].what == S ? now + at * 1000 : now, 10, tell, &t);
			assert_int_equal(t.soft, rows[r].soft[k]);
			assert_int_equal(t.hard, rows[r].hard[k]);
			assert_int_equal(sa->hard_done, rows[r].hard[k] > 0);
			if (!inbound)
				assert_ptr_equal(sad_out(d, T1, now), t.hard ? NULL : sa);
			else
				assert_ptr_equal(sad_in(d, sa->spi), sa);
		}
		sad_free(d);
	}
}

/* Bounded work: each has its turn, also while SAs come and go, and when the callback takes them out. */
static void test_tick_budget(void **state)
{
	enum { N = 100 };
	struct sad *d = test_sad();
	struct told t = {.take = d};
	struct sa *sa[N];

	(void)state;
	for (unsigned i = 0; i < N; i++) {
		sa[i] = i % 2 ? test_add_in(d, T1, 1, true, 0) : test_add_out(d, 9000 + i, T1, 1, true, 0);
		sa[i]->time_s = (struct sa_limit){1, i % 5 ? 0 : 3};
	}
	for (unsigned i = 1; i <= 10; i++) {
		sad_tick(d, 1000, 10, tell, &t);
		assert_int_equal(t.soft, i * 10);
	}
	sad_tick(d, 1000, 1000, tell, &t);
	assert_int_equal(t.soft, N);
	/* The one that is next goes, and each of the others still has its turn within one round. */
	sad_tick(d, 1000, 3, tell, &t);
	assert_ptr_equal(d->cursor, sa[N - 4]);
	sa_free(sad_take_out(d, sa[N - 4]->spi, T1));
	assert_ptr_equal(d->cursor, sa[N - 5]);
	for (unsigned i = 0; i < 10; i++)
		sad_tick(d, 3000, 10, tell, &t);
	assert_int_equal(t.hard, N / 5);
	assert_int_equal(d->count, N - 1 - N / 5);
	sad_tick(d, 3000, 0, tell, &t);
	sad_free(d);
	d = test_sad();
	sad_tick(d, 3000, 10, tell, &t); /* nothing there */
	assert_int_equal(t.hard, N / 5);
	/* the only one takes itself out */
	t.take = d;
	test_add_out(d, 1, T1, 1, true, 0)->time_s.hard = 1;
	sad_tick(d, 3000, 10, tell, &t);
	assert_int_equal(d->count, 0);
	sad_free(d);
}

/* ---- threads ----------------------------------------------------------------------------------------------- */

#define THREADS 3
#define ROUNDS  20000

/* A ring by which a thread hands over what it has reserved. */
struct giver {
	struct sad *d;
	_Atomic uint32_t ring[64];
	unsigned failed;
};

static void *give(void *arg)
{
	struct giver *g = arg;

	for (unsigned i = 0; i < ROUNDS; i++) {
		uint32_t spi;

		g->failed += sad_reserve(g->d, 0, &spi) != 0;
		while (atomic_load(&g->ring[i % 64]) != 0)
			sched_yield();
		atomic_store(&g->ring[i % 64], spi);
	}
	return NULL;
}

/* Threads reserve while the loop adds, holds, releases and takes. */
static void test_threads(void **state)
{
	struct sad *d = test_sad();
	struct giver g[THREADS];
	pthread_t th[THREADS];
	unsigned at[THREADS] = {0}, done = 0;
	struct sa_end end = {.port = 4500};

	(void)state;
	for (unsigned i = 0; i < THREADS; i++) {
		g[i] = (struct giver){.d = d};
		assert_int_equal(pthread_create(&th[i], NULL, give, &g[i]), 0);
	}
	while (done < THREADS * ROUNDS) {
		for (unsigned i = 0; i < THREADS; i++) {
			uint32_t spi = atomic_load(&g[i].ring[at[i] % 64]);

			if (!spi) {
				sched_yield();
				continue;
			}
			atomic_store(&g[i].ring[at[i]++ % 64], 0);
			assert_true(sad_is_reserved(d, spi));
			if (done % 3 == 0)
				assert_true(sad_hold(d, spi, &end, &end, 0, (const uint8_t *)&spi, 4, 0));
			if (done % 2) {
				sad_release(d, spi);
			} else {
				struct sa *sa = test_sa(true, spi, done, 1, true);

				assert_int_equal(sad_add(d, sa, 0), 0);
				assert_ptr_equal(sad_in(d, spi), sa);
				assert_ptr_equal(sad_take_in(d, spi), sa);
				sa_free(sa);
			}
			assert_false(sad_is_reserved(d, spi));
			done++;
		}
	}
	for (unsigned i = 0; i < THREADS; i++) {
		pthread_join(th[i], NULL);
		assert_int_equal(g[i].failed, 0);
	}
	sad_free(d);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_spis),
		cmocka_unit_test(test_slots_run_out),
		cmocka_unit_test(test_generations),
		cmocka_unit_test(test_next_process),
		cmocka_unit_test(test_add_refused),
		cmocka_unit_test(test_lists),
		cmocka_unit_test(test_move),
		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_tick_budget),
		cmocka_unit_test(test_threads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
