/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ipsec_replay_test.c - the replay window: numbered tables, and a naive model of it fed at random. */
#include "ipsec/replay.h"
#include "test/unit/ipsec_esp_help.h"

#define LO(n) ((uint32_t)(n))
#define T32   (UINT64_C(1) << 32)

/* ---- tables ----------------------------------------------------------------------------------------- */

/* What comes, whether it is taken, and which number it is held for (0: not said). */
struct step {
	uint32_t lo;
	bool good;
	uint64_t seq;
};

enum { GOOD = true, BAD = false };

struct table {
	const char *name;
	uint32_t window;
	bool esn;
	uint64_t top; /* to begin with */
	const struct step *steps;
	unsigned n;
};

/* As a packet goes: checked, found authentic, marked. */
static bool take(struct replay *r, uint32_t lo, uint64_t *seq)
{
	return replay_check(r, lo, seq) && replay_accept(r, *seq);
}

static void run(const struct table *t)
{
	struct replay r;
	replay_init(&r, t->window, t->esn);
	if (t->top)
		assert_true(replay_accept(&r, t->top));
	for (unsigned i = 0; i < t->n; i++) {
		const struct step *s = &t->steps[i];
		uint64_t seq;
		bool good = take(&r, s->lo, &seq);
		if (good != s->good || (s->seq && s->seq != seq))
			fail_msg("%s, step %u: %x is %s, held for %llx", t->name, i + 1, s->lo,
				good ? "taken" : "refused", (unsigned long long)seq);
	}
}

#define TABLE(name_, window_, esn_, top_, ...)                                                               \
	static const struct step name_##_steps[] = {__VA_ARGS__};                                            \
	static const struct table name_ = {                                                                  \
		#name_, window_, esn_, top_, name_##_steps, sizeof(name_##_steps) / sizeof(struct step)}

/* 64 is the least; the window is exactly as wide as it says. */
TABLE(plain64, 64, false, 0,
	/* 1 */ {0, BAD},
	/* 2 */ {1, GOOD, 1},
	/* 3 */ {1, BAD},
	/* 4 */ {9, GOOD, 9},
	/* 5 */ {8, GOOD},
	/* 6 */ {7, GOOD},
	/* 7 */ {7, BAD},
	/* 8 */ {64, GOOD},
	/* 9 */ {64, BAD},
	/* 10 */ {2, GOOD},
	/* 11 */ {65, GOOD},
	/* 12: the oldest within */ {3, GOOD},
	/* 13: just seen */ {2, BAD},
	/* 14: outside, though never seen */ {66, GOOD},
	/* 15 */ {1, BAD},
	/* 16 */ {67, GOOD},
	/* 17: has just fallen out */ {3, BAD},
	/* 18: never seen and within */ {4, GOOD},
	/* 19: a jump */ {67 + 64, GOOD},
	/* 20: all that was is out */ {67, BAD},
	/* 21 */ {68, GOOD},
	/* 22 */ {68, BAD},
	/* 23: a jump over the ring */ {1000000, GOOD},
	/* 24 */ {999936, BAD},
	/* 25 */ {999937, GOOD},
	/* 26 */ {999937, BAD},
	/* 27 */ {999999, GOOD},
	/* 28 */ {1000000, BAD}, );

/* Words that the window entered are cleared, whatever stood in them a round of the ring before. */
TABLE(ring1024, 1024, false, 1,
	/* 1 */ {64, GOOD},
	/* 2 */ {65 * 64, GOOD},
	/* 3: same place in a ring of 65 words, as is 1 */ {65 * 64 + 64, GOOD},
	/* 4 */ {65 * 64 + 1, GOOD},
	/* 5 */ {65 * 64 + 64 - 1024, BAD},
	/* 6 */ {65 * 64 + 64 - 1023, GOOD},
	/* 7 */ {65 * 64 + 64 - 1023, BAD},
	/* 8 */ {65 * 64 * 2 + 64, GOOD},
	/* 9 */ {65 * 64 * 2 + 1, GOOD},
	/* 10 */ {65 * 64 * 2 + 1, BAD}, );

TABLE(full4096, 4096, false, 4096,
	/* 1 */ {1, GOOD},
	/* 2 */ {1, BAD},
	/* 3 */ {4097, GOOD},
	/* 4: out by one */ {1, BAD},
	/* 5 */ {2, GOOD},
	/* 6 */ {4097 + 4096, GOOD},
	/* 7 */ {4097, BAD},
	/* 8 */ {4098, GOOD},
	/* 9 */ {4098 + 63, GOOD},
	/* 10 */ {4098 + 63, BAD},
	/* 11 */ {4098 + 64, GOOD}, );

TABLE(rounded, 100 /* 128 */, false, 1000,
	/* 1 */ {1000 - 128, BAD},
	/* 2 */ {1000 - 127, GOOD},
	/* 3 */ {1000 - 127, BAD}, );

TABLE(too_large, 100000 /* 4096 */, false, 10000,
	/* 1 */ {10000 - 4096, BAD},
	/* 2 */ {10000 - 4095, GOOD}, );

/* The edges of each width, with nothing seen but the top: the oldest that is within, and the one before it; then the window
 * moves on by one, by its width less one, by its width, and by more than the ring, and each time the edge is looked at again. */
#define EDGES(name_, w_)                                                                                     \
	TABLE(name_, w_, false, 100000, /* 1 */ {100000, BAD}, /* 2 */ {100000 - (w_), BAD},                 \
		/* 3 */ {100000 - (w_) + 1, GOOD}, /* 4 */ {100000 - (w_) + 1, BAD}, /* 5 */ {99999, GOOD},  \
		/* 6 */ {99999, BAD}, /* 7: on by one */ {100001, GOOD}, /* 8 */ {100001 - (w_), BAD},       \
		/* 9 */ {100001 - (w_) + 1, GOOD}, /* 10: the old top */ {100000, BAD},                      \
		/* 11: by its width less one */ {100000 + (w_), GOOD}, /* 12: seen */ {100001, BAD},         \
		/* 13: seen, and out */ {100000, BAD}, /* 14 */ {100002, GOOD},                              \
		/* 15: by its width: nothing of before is within */ {100000 + 2 * (w_), GOOD},               \
		/* 16 */ {100000 + (w_), BAD}, /* 17 */ {100001 + (w_), GOOD}, /* 18: over the ring */       \
		{100000 + 2 * (w_) + 64 * REPLAY_WORDS,                                                      \
			GOOD}, /* 19: its place in the ring was the old top's */                             \
		{100000 + 2 * (w_) + 64 * REPLAY_WORDS, BAD},                                                \
		/* 20 */ {100000 + (w_) + 64 * REPLAY_WORDS, BAD},                                           \
		/* 21 */ {100001 + (w_) + 64 * REPLAY_WORDS, GOOD},                                          \
		/* 22 */ {100001 + (w_) + 64 * REPLAY_WORDS, BAD}, )

EDGES(edges64, 64);
EDGES(edges1024, 1024);
EDGES(edges4096, 4096);

/* The last number there is without ESN; it does not begin again. */
TABLE(end32, 128, false, UINT32_MAX - 1,
	/* 1 */ {UINT32_MAX, GOOD, UINT32_MAX},
	/* 2 */ {UINT32_MAX, BAD},
	/* 3 */ {0, BAD},
	/* 4 */ {1, BAD},
	/* 5 */ {UINT32_MAX - 127, GOOD}, );

TABLE(off, 0, false, 0,
	/* 1: no number of any sender's */ {0, BAD},
	/* 2 */ {5, GOOD},
	/* 3 */ {5, GOOD},
	/* 4 */ {1, GOOD},
	/* 5 */ {UINT32_MAX, GOOD},
	/* 6 */ {1, GOOD, 1}, );

/* RFC 4303 A2.1, both cases, over the boundary and back. */
TABLE(esn_roll, 64, true, T32 - 3,
	/* 1 */ {UINT32_MAX - 1, GOOD, T32 - 2},
	/* 2: below the bottom: it can only be the next round */ {UINT32_MAX - 100, GOOD, 2 * T32 - 101}, );

TABLE(esn_over, 64, true, T32 - 3,
	/* 1 */ {UINT32_MAX - 1, GOOD, T32 - 2},
	/* 2: the boundary */ {0, GOOD, T32},
	/* 3: from before it */ {UINT32_MAX, GOOD, T32 - 1},
	/* 4 */ {UINT32_MAX, BAD, T32 - 1},
	/* 5 */ {0, BAD, T32},
	/* 6 */ {1, GOOD, T32 + 1},
	/* 7: the bottom is 2^32 + 1 - 63 */ {UINT32_MAX - 61, GOOD, T32 - 62},
	/* 8: now case A: the window is wholly above the boundary */ {63, GOOD, T32 + 63},
	/* 9 */ {0, BAD, T32},
	/* 10: so what was before the boundary is now a round later */ {64, GOOD, T32 + 64},
	/* 11: just under the bottom, 2^32 + 1 */ {0, GOOD, 2 * T32},
	/* 12: the window is around 2^33 */ {UINT32_MAX, GOOD, 2 * T32 - 1},
	/* 13 */ {62, GOOD, 2 * T32 + 62},
	/* 14: the last one below */ {UINT32_MAX, BAD, 2 * T32 - 1},
	/* 15 */ {63, GOOD, 2 * T32 + 63}, );

/* What goes by the boundary is lost: up to a whole window of it, and more. */
TABLE(esn_loss, 64, true, T32 - 3,
	/* 1: 53 are lost, the boundary among them */ {50, GOOD, T32 + 50},
	/* 2: the oldest that may still come is of before it: the bottom is 2^32 - 13 */
	{UINT32_MAX - 12, GOOD, T32 - 13},
	/* 3: a number too old can only be meant for the next round, and its ICV will say no */
	{UINT32_MAX - 13, GOOD, 2 * T32 - 14}, );

TABLE(esn_loss_of_a_window, 64, true, T32 - 3,
	/* 1: below the bottom: 2^31 and more of loss are still told rightly */
	{0x80000000, GOOD, T32 + 0x80000000},
	/* 2 */ {0x80000000 - 63, GOOD, T32 + 0x80000000 - 63},
	/* 3: the whole of this round is behind */ {0x80000000 - 64, GOOD, 2 * T32 + 0x80000000 - 64}, );

TABLE(esn_loss_of_a_round, 4096, true, T32 + 1,
	/* 1: the window reaches over the boundary: what is just under its bottom is ahead */
	{UINT32_MAX - 4096 + 3, GOOD, T32 - 4096 + 2},
	/* 2 */ {UINT32_MAX - 4096 + 2, GOOD, 2 * T32 - 4096 + 1}, );

/* There is nothing below 0: such a number lies ahead, and the ICV will tell. */
TABLE(esn_start, 1024, true, 0,
	/* 1 */ {0, BAD, 0},
	/* 2 */ {1, GOOD, 1},
	/* 3 */ {3, GOOD, 3},
	/* 4 */ {0, BAD, 0},
	/* 5 */ {3, BAD, 3},
	/* 6 */ {0xfffffff0, GOOD, 0xfffffff0},
	/* 7 */ {5, GOOD, T32 + 5}, );

TABLE(esn_end, 64, true, UINT64_MAX - 1,
	/* 1 */ {UINT32_MAX, GOOD, UINT64_MAX},
	/* 2 */ {UINT32_MAX, BAD, UINT64_MAX},
	/* 3: after the end of all numbers there is none */ {5, BAD},
	/* 4 */ {UINT32_MAX - 63, GOOD, UINT64_MAX - 63}, );

/* The window is off, but the high half must be right: the nearest number. */
TABLE(esn_off, 0, true, T32 - 1,
	/* 1 */ {UINT32_MAX, GOOD, T32 - 1},
	/* 2 */ {3, GOOD, T32 + 3},
	/* 3 */ {UINT32_MAX, GOOD, T32 - 1},
	/* 4 */ {3, GOOD, T32 + 3},
	/* 5 */ {0x70000000, GOOD, T32 + 0x70000000},
	/* 6 */ {0xe0000000, GOOD, T32 + 0xe0000000},
	/* 7 */ {0x10000000, GOOD, 2 * T32 + 0x10000000}, );

TABLE(esn_off_end, 0, true, UINT64_MAX - 1,
	/* 1 */ {UINT32_MAX, GOOD, UINT64_MAX},
	/* 2 */ {5, BAD},
	/* 3 */ {UINT32_MAX - 5, GOOD, UINT64_MAX - 5}, );

static void test_tables(void **state)
{
	(void)state;
	static const struct table *const all[] = {&plain64, &ring1024, &full4096, &rounded, &too_large,
		&edges64, &edges1024, &edges4096, &end32, &off, &esn_roll, &esn_over, &esn_loss,
		&esn_loss_of_a_window, &esn_loss_of_a_round, &esn_start, &esn_end, &esn_off, &esn_off_end};
	for (unsigned i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		run(all[i]);
}

/* ---- every place of the window ----------------------------------------------------------------------- */

static const uint32_t widths[] = {64, 128, 192, 1024, 2048, 4032, 4096};
#define NWIDTHS (sizeof(widths) / sizeof(widths[0]))

/* At a top of each remainder, each number from above the window to below it: once, and not twice. */
static void test_edges(void **state)
{
	(void)state;
	for (unsigned w = 0; w < NWIDTHS; w++) {
		for (uint64_t top = 3 * T32 - 70; top<3 * T32 + 70; top += ROUNDS(8)> 2 ? 1 : 13) {
			struct replay r;
			uint64_t seq;
			replay_init(&r, widths[w], true);
			assert_true(replay_accept(&r, top));
			for (uint64_t n = top - 1; n > top - widths[w]; n--) {
				assert_true(take(&r, LO(n), &seq));
				assert_true(seq == n);
			}
			for (uint64_t n = top; n > top - widths[w]; n--) {
				assert_false(replay_check(&r, LO(n), &seq));
				assert_true(seq == n);
				assert_false(replay_accept(&r, n));
			}
			/* Out of the window: the check holds it for one of the next round; marking it is refused. */
			assert_true(replay_check(&r, LO(top - widths[w]), &seq));
			assert_true(seq == top - widths[w] + T32);
			assert_false(replay_accept(&r, top - widths[w]));
			assert_true(r.top == top);
		}
	}
}

/* What was checked may be too old when it is marked: others of its batch were ahead. */
static void test_check_then_accept(void **state)
{
	(void)state;
	struct replay r;
	uint64_t a, b, c;
	replay_init(&r, 64, false);
	assert_true(replay_check(&r, 10, &a));
	assert_true(replay_check(&r, 10, &b));
	assert_true(replay_check(&r, 100, &c));
	assert_true(replay_accept(&r, a));
	assert_false(replay_accept(&r, b));
	assert_true(replay_check(&r, 11, &a));
	assert_true(replay_accept(&r, c));
	assert_false(replay_accept(&r, a));
	assert_true(replay_accept(&r, 37));
	assert_false(replay_accept(&r, 36));
}

/* A check alone changes nothing. */
static void test_check_is_free(void **state)
{
	(void)state;
	struct replay r, was;
	struct rnd x = {7};
	replay_init(&r, 256, true);
	assert_true(replay_accept(&r, 5 * T32 + 12345));
	was = r;
	for (unsigned i = 0; i < 10000; i++) {
		uint64_t seq;
		(void)replay_check(&r, (uint32_t)rnd64(&x), &seq);
		assert_true(LO(seq) == seq % T32);
	}
	assert_memory_equal(&r, &was, sizeof(r));
}

/* ---- the model -------------------------------------------------------------------------------------- */

#define SEEN 65536

/* Remembers each number by itself. */
struct model {
	uint64_t top;
	uint32_t window;
	bool esn;
	uint64_t seen[SEEN];
	unsigned n;
};

/* RFC 4303 A2.1, word for word: Tl, Th, W. */
static bool model_whole(const struct model *m, uint32_t lo, uint64_t *seq)
{
	uint32_t tl = LO(m->top), th = (uint32_t)(m->top >> 32), w = m->window, bl = tl - w + 1;
	uint32_t hi;
	if (!m->esn)
		hi = 0;
	else if (tl >= w - 1)
		hi = lo >= bl ? th : th + 1;
	else
		hi = lo >= bl && th > 0 ? th - 1 : th;
	*seq = (uint64_t)hi << 32 | lo;
	return !(m->esn && tl >= w - 1 && lo < bl && th == UINT32_MAX);
}

static bool model_take(struct model *m, uint32_t lo, uint64_t *seq)
{
	if (!model_whole(m, lo, seq) || *seq == 0 || (*seq <= m->top && m->top - *seq >= m->window))
		return false;
	for (unsigned i = 0; i < m->n; i++)
		if (m->seen[i] == *seq)
			return false;
	assert_true(m->n < SEEN);
	m->seen[m->n++] = *seq;
	if (*seq > m->top)
		m->top = *seq;
	return true;
}

/* Near the top mostly: ahead by little, behind by up to two windows, now and then a leap. */
static uint64_t next_number(struct rnd *x, const struct model *m)
{
	switch (rnd_to(x, 16)) {
	case 0:
		return m->top + rnd_to(x, 3 * REPLAY_MAX);
	case 1:
		return m->top - rnd_to(x, 2 * m->window + 2);
	case 2:
		return m->top ^ UINT64_C(1) << rnd_to(x, 32);
	case 3:
	case 4:
	case 5:
	case 6:
		return m->top - m->window + rnd_to(x, 5) - 2; /* the bottom */
	default:
		return m->top + rnd_to(x, 70) - 32;
	}
}

static void test_model(void **state)
{
	(void)state;
	static struct model m;
	static const uint64_t from[] = {
		0, 1, 63, T32 - 200, T32 - 1, T32, 9 * T32 - 5000, UINT64_MAX - 3 * T32, UINT64_MAX - 40000};
	struct rnd x = {8};
	unsigned good = 0, bad = 0;
	for (unsigned i = 0; i < NWIDTHS * 2 * (sizeof(from) / sizeof(from[0])); i++) {
		struct replay r;
		bool esn = i / NWIDTHS % 2;
		m.window = widths[i % NWIDTHS];
		m.esn = esn;
		m.n = 0;
		m.top = esn ? from[i / NWIDTHS / 2] : LO(from[i / NWIDTHS / 2]);
		replay_init(&r, m.window, esn);
		if (m.top) {
			assert_true(replay_accept(&r, m.top));
			m.seen[m.n++] = m.top;
		}
		for (unsigned k = 0; k < ROUNDS(3000); k++) {
			uint32_t lo = LO(next_number(&x, &m));
			uint64_t ours, theirs;
			bool want = model_take(&m, lo, &theirs), got = take(&r, lo, &ours);
			if (want != got || (want && ours != theirs) || r.top != m.top)
				fail_msg("window %u esn %d: %x at top %llx: %d, held for %llx, not %d, %llx",
					m.window, esn, lo, (unsigned long long)m.top, got,
					(unsigned long long)ours, want, (unsigned long long)theirs);
			good += got;
			bad += !got;
		}
	}
	print_message("%u taken, %u refused\n", good, bad);
	assert_true(good > 1000 && bad > 1000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_tables),
		cmocka_unit_test(test_edges),
		cmocka_unit_test(test_check_then_accept),
		cmocka_unit_test(test_check_is_free),
		cmocka_unit_test(test_model),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
