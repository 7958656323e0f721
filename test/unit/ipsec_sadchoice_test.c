/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ipsec_sadchoice_test.c - the SA database: which SA a tunnel sends by. Orders of events as numbered steps, and a naive model
 * against random ones. */
#include "ipsec/sad_private.h"
#include "test/unit/ipsec_sad_help.h"

/* ---- steps ------------------------------------------------------------------------------------------------- */

#define PAIRS 4
#define STEPS 24

/* A pair of SAs, A to D. */
struct pair {
	uint32_t ike;
	bool initiator;
	struct sa *in, *out;
};

/*	i, o	the inbound, the outbound one is added
 *	I, O	it is taken out
 *	h	a good packet comes on the inbound one
 *	x	the outbound one reaches its hard limit
 *	t	a milliseconds pass
 *	c	IKE_SA a is the current one, and has replaced b
 * and which pair's outbound one is then used; 0: none. */
struct step {
	char op, pair;
	uint32_t a, b;
	char used;
};

struct scenario {
	const char *name;
	struct pair pair[PAIRS];
	struct step step[STEPS];
};

#define C SAD_CONFIRM_MS
#define T SAD_TAKEOVER_MS
#define H SAD_HEARD_MS

static const struct scenario scenarios[] = {
	{"the first one is used at once, whoever began", {{1, false}},
		{{'i', 'A', 0, 0, 0}, {'o', 'A', 0, 0, 'A'}, {'c', 0, 1, 0, 'A'}, {'O', 'A', 0, 0, 0}}},
	{"we rekey", {{1, true}, {1, true}},
		{{'i', 'A', 0, 0, 0}, {'o', 'A', 0, 0, 'A'}, {'c', 0, 1, 0, 'A'}, {'i', 'B', 0, 0, 'A'},
			{'o', 'B', 0, 0, 'B'}, {'O', 'A', 0, 0, 'B'}, {'h', 'A', 0, 0, 'B'},
			{'I', 'A', 0, 0, 'B'}}},
	{"the peer rekeys, and sends", {{1, false}, {1, false}},
		{{'i', 'A', 0, 0, 0}, {'o', 'A', 0, 0, 'A'}, {'h', 'A', 0, 0, 'A'}, {'i', 'B', 0, 0, 'A'},
			{'o', 'B', 0, 0, 'A'}, {'h', 'A', 0, 0, 'A'}, {'h', 'B', 0, 0, 'B'},
			{'h', 'A', 0, 0, 'B'}, {'O', 'A', 0, 0, 'B'}, {'I', 'A', 0, 0, 'B'}}},
	{"the peer rekeys, and had sent already", {{1, false}, {1, false}},
		{{'i', 'A', 0, 0, 0}, {'o', 'A', 0, 0, 'A'}, {'h', 'A', 0, 0, 'A'}, {'i', 'B', 0, 0, 'A'},
			{'h', 'B', 0, 0, 'A'}, {'o', 'B', 0, 0, 'B'}}},
	{"the peer rekeys, and is idle: when the old one goes", {{1, true}, {1, false}},
		{{'i', 'A', 0, 0, 0}, {'o', 'A', 0, 0, 'A'}, {'i', 'B', 0, 0, 'A'}, {'o', 'B', 0, 0, 'A'},
			{'t', 0, C - 1, 0, 'A'}, {'O', 'A', 0, 0, 'B'}, {'I', 'A', 0, 0, 'B'}}},
	{"the peer rekeys, and is idle: after a while", {{1, true}, {1, false}},
		{{'i', 'A', 0, 0, 0}, {'o', 'A', 0, 0, 'A'}, {'i', 'B', 0, 0, 'A'}, {'o', 'B', 0, 0, 'A'},
			{'t', 0, C - 1, 0, 'A'}, {'t', 0, 1, 0, 'B'}, {'O', 'A', 0, 0, 'B'}}},
	{"the peer rekeys, as charon tells it", {{1, false}, {1, false}},
		{{'i', 'A', 0, 0, 0}, {'o', 'A', 0, 0, 'A'}, {'h', 'A', 0, 0, 'A'}, {'i', 'B', 0, 0, 'A'},
			{'t', 0, 50, 0, 'A'}, {'o', 'B', 0, 0, 'A'}, {'O', 'A', 0, 0, 'B'},
			{'h', 'A', 0, 0, 'B'}, {'I', 'A', 0, 0, 'B'}}},
	{"the peer rekeys three times", {{1, false}, {1, false}, {1, false}, {1, false}},
		{{'i', 'A', 0, 0, 0}, {'o', 'A', 0, 0, 'A'}, {'h', 'A', 0, 0, 'A'}, {'i', 'B', 0, 0, 'A'},
			{'o', 'B', 0, 0, 'A'}, {'h', 'B', 0, 0, 'B'}, {'O', 'A', 0, 0, 'B'},
			{'I', 'A', 0, 0, 'B'}, {'i', 'C', 0, 0, 'B'}, {'o', 'C', 0, 0, 'B'},
			{'O', 'B', 0, 0, 'C'}, {'i', 'D', 0, 0, 'C'}, {'o', 'D', 0, 0, 'C'},
			{'h', 'D', 0, 0, 'D'}}},
	{"both rekey, ours stays", {{1, true}, {1, true}, {1, false}},
		{{'i', 'A', 0, 0, 0}, {'o', 'A', 0, 0, 'A'}, {'h', 'A', 0, 0, 'A'}, {'i', 'C', 0, 0, 'A'},
			{'i', 'B', 0, 0, 'A'}, {'o', 'B', 0, 0, 'B'}, {'O', 'A', 0, 0, 'B'},
			{'h', 'C', 0, 0, 'B'}, {'I', 'C', 0, 0, 'B'}, {'I', 'A', 0, 0, 'B'}}},
	{"both rekey, the peer's stays", {{1, true}, {1, true}, {1, false}},
		{{'i', 'A', 0, 0, 0}, {'o', 'A', 0, 0, 'A'}, {'i', 'B', 0, 0, 'A'}, {'i', 'C', 0, 0, 'A'},
			{'o', 'B', 0, 0, 'B'}, {'o', 'C', 0, 0, 'B'}, {'h', 'C', 0, 0, 'C'},
			{'O', 'B', 0, 0, 'C'}, {'I', 'B', 0, 0, 'C'}, {'O', 'A', 0, 0, 'C'}}},
	{"both rekey, the peer's came first and stays", {{1, true}, {1, true}, {1, false}},
		{{'i', 'A', 0, 0, 0}, {'o', 'A', 0, 0, 'A'}, {'i', 'C', 0, 0, 'A'}, {'o', 'C', 0, 0, 'A'},
			{'i', 'B', 0, 0, 'A'}, {'o', 'B', 0, 0, 'B'}, {'h', 'C', 0, 0, 'B'},
			{'O', 'B', 0, 0, 'C'}, {'I', 'B', 0, 0, 'C'}, {'O', 'A', 0, 0, 'C'}}},
	{"the newest goes: the one before is used again", {{1, true}, {1, true}, {1, true}},
		{{'o', 'A', 0, 0, 'A'}, {'o', 'B', 0, 0, 'B'}, {'o', 'C', 0, 0, 'C'}, {'O', 'C', 0, 0, 'B'},
			{'O', 'B', 0, 0, 'A'}, {'O', 'A', 0, 0, 0}}},
	{"IKE is rekeyed: its SAs go on, and the next one waits", {{1, false}, {2, false}},
		{{'i', 'A', 0, 0, 0}, {'o', 'A', 0, 0, 'A'}, {'c', 0, 1, 0, 'A'}, {'h', 'A', 0, 0, 'A'},
			{'c', 0, 2, 1, 'A'}, {'t', 0, H + 1, 0, 'A'}, {'i', 'B', 0, 0, 'A'},
			{'o', 'B', 0, 0, 'A'}, {'t', 0, C - 1, 0, 'A'}, {'h', 'B', 0, 0, 'B'}}},
	{"IKE is rekeyed, and a rekeying by the new one is heard of first",
		{{1, false}, {2, false}, {2, false}},
		{{'i', 'A', 0, 0, 0}, {'o', 'A', 0, 0, 'A'}, {'c', 0, 1, 0, 'A'}, {'h', 'A', 0, 0, 'A'},
			{'i', 'B', 0, 0, 'A'}, {'o', 'B', 0, 0, 'A'}, {'c', 0, 2, 1, 'A'},
			{'h', 'B', 0, 0, 'B'}, {'i', 'C', 0, 0, 'B'}, {'o', 'C', 0, 0, 'B'},
			{'t', 0, C - 1, 0, 'B'}, {'t', 0, 1, 0, 'C'}}},
	{"IKE is rekeyed twice", {{1, true}, {3, true}, {4, false}},
		{{'i', 'A', 0, 0, 0}, {'o', 'A', 0, 0, 'A'}, {'c', 0, 1, 0, 'A'}, {'c', 0, 2, 1, 'A'},
			{'c', 0, 3, 2, 'A'}, {'i', 'B', 0, 0, 'A'}, {'o', 'B', 0, 0, 'B'},
			{'O', 'A', 0, 0, 'B'}, {'i', 'C', 0, 0, 'B'}, {'t', 0, H + 1, 0, 'B'},
			{'o', 'C', 0, 0, 'C'}}},
	{"the peer has restarted: the old one has been silent", {{1, false}, {2, false}},
		{{'i', 'A', 0, 0, 0}, {'o', 'A', 0, 0, 'A'}, {'c', 0, 1, 0, 'A'}, {'h', 'A', 0, 0, 'A'},
			{'t', 0, H + 1, 0, 'A'}, {'i', 'B', 0, 0, 'A'}, {'o', 'B', 0, 0, 'B'},
			{'c', 0, 2, 0, 'B'}, {'t', 0, 60000, 0, 'B'}, {'O', 'A', 0, 0, 'B'}}},
	{"the peer has restarted at once: a quarter of a second", {{1, false}, {2, false}},
		{{'i', 'A', 0, 0, 0}, {'o', 'A', 0, 0, 'A'}, {'c', 0, 1, 0, 'A'}, {'h', 'A', 0, 0, 'A'},
			{'t', 0, H, 0, 'A'}, {'i', 'B', 0, 0, 'A'}, {'o', 'B', 0, 0, 'A'},
			{'c', 0, 2, 0, 'A'}, {'t', 0, T - 1, 0, 'A'}, {'t', 0, 1, 0, 'B'}}},
	{"the peer has restarted at once, and sends", {{1, false}, {2, false}},
		{{'i', 'A', 0, 0, 0}, {'o', 'A', 0, 0, 'A'}, {'c', 0, 1, 0, 'A'}, {'h', 'A', 0, 0, 'A'},
			{'i', 'B', 0, 0, 'A'}, {'c', 0, 2, 0, 'A'}, {'h', 'B', 0, 0, 'A'},
			{'o', 'B', 0, 0, 'B'}}},
	{"the peer authenticates itself anew, make before break", {{1, false}, {2, false}},
		{{'i', 'A', 0, 0, 0}, {'o', 'A', 0, 0, 'A'}, {'c', 0, 1, 0, 'A'}, {'h', 'A', 0, 0, 'A'},
			{'i', 'B', 0, 0, 'A'}, {'o', 'B', 0, 0, 'A'}, {'c', 0, 2, 0, 'A'},
			{'t', 0, 20, 0, 'A'}, {'h', 'A', 0, 0, 'A'}, {'t', 0, T, 0, 'A'},
			{'t', 0, 4000, 0, 'A'}, {'h', 'B', 0, 0, 'B'}, {'h', 'A', 0, 0, 'B'},
			{'O', 'A', 0, 0, 'B'}}},
	{"the same, and only the old one is ever heard", {{1, false}, {2, false}},
		{{'i', 'A', 0, 0, 0}, {'o', 'A', 0, 0, 'A'}, {'c', 0, 1, 0, 'A'}, {'i', 'B', 0, 0, 'A'},
			{'h', 'A', 0, 0, 'A'}, {'o', 'B', 0, 0, 'A'}, {'h', 'A', 0, 0, 'A'},
			{'t', 0, C - 1, 0, 'A'}, {'h', 'A', 0, 0, 'A'}, {'t', 0, 1, 0, 'B'}}},
	{"we authenticate ourselves anew, break before make", {{1, true}, {2, true}},
		{{'i', 'A', 0, 0, 0}, {'o', 'A', 0, 0, 'A'}, {'O', 'A', 0, 0, 0}, {'I', 'A', 0, 0, 0},
			{'i', 'B', 0, 0, 0}, {'o', 'B', 0, 0, 'B'}, {'c', 0, 2, 0, 'B'}}},
	{"both begin an IKE_SA: the one that came up last", {{1, true}, {2, false}},
		{{'i', 'A', 0, 0, 0}, {'o', 'A', 0, 0, 'A'}, {'i', 'B', 0, 0, 'A'}, {'o', 'B', 0, 0, 'B'},
			{'c', 0, 2, 0, 'B'}, {'h', 'B', 0, 0, 'B'}, {'h', 'A', 0, 0, 'B'},
			{'c', 0, 1, 0, 'A'}, {'c', 0, 2, 0, 'A'}, {'c', 0, 1, 0, 'A'},
			{'O', 'A', 0, 0, 'B'}}},
	{"an IKE_SA that had its time rekeys a child: it does not come back",
		{{1, true}, {2, true}, {1, true}},
		{{'i', 'A', 0, 0, 0}, {'o', 'A', 0, 0, 'A'}, {'c', 0, 1, 0, 'A'}, {'i', 'B', 0, 0, 'A'},
			{'o', 'B', 0, 0, 'B'}, {'c', 0, 2, 0, 'B'}, {'i', 'C', 0, 0, 'B'},
			{'o', 'C', 0, 0, 'B'}, {'c', 0, 1, 0, 'B'}, {'h', 'C', 0, 0, 'B'},
			{'O', 'B', 0, 0, 'C'}}},
	{"an IKE_SA that had its time is rekeyed: it does not come back", {{1, true}, {2, true}, {3, true}},
		{{'i', 'A', 0, 0, 0}, {'o', 'A', 0, 0, 'A'}, {'c', 0, 1, 0, 'A'}, {'i', 'B', 0, 0, 'A'},
			{'o', 'B', 0, 0, 'B'}, {'c', 0, 2, 0, 'B'}, {'c', 0, 3, 1, 'B'},
			{'i', 'C', 0, 0, 'B'}, {'o', 'C', 0, 0, 'B'}, {'O', 'B', 0, 0, 'C'}}},
	{"the end comes: not used any more, the older one if there is", {{1, true}, {1, true}},
		{{'o', 'A', 0, 0, 'A'}, {'o', 'B', 0, 0, 'B'}, {'x', 'B', 0, 0, 'A'}, {'x', 'A', 0, 0, 0},
			{'O', 'A', 0, 0, 0}}},
	{"the end comes to the one that is good", {{1, true}, {1, false}},
		{{'i', 'A', 0, 0, 0}, {'o', 'A', 0, 0, 'A'}, {'i', 'B', 0, 0, 'A'}, {'o', 'B', 0, 0, 'A'},
			{'x', 'A', 0, 0, 'B'}}},
	{"a twin that lost its own is nobody else's", {{1, false}, {1, false}, {1, false}},
		{{'i', 'A', 0, 0, 0}, {'o', 'A', 0, 0, 'A'}, {'i', 'B', 0, 0, 'A'}, {'o', 'B', 0, 0, 'A'},
			{'h', 'B', 0, 0, 'B'}, {'O', 'A', 0, 0, 'B'}, {'o', 'C', 0, 0, 'B'},
			{'h', 'A', 0, 0, 'B'}, {'i', 'C', 0, 0, 'B'}, {'h', 'C', 0, 0, 'C'}}},
	{"inbound comes last", {{1, true}, {1, false}},
		{{'o', 'A', 0, 0, 'A'}, {'i', 'A', 0, 0, 'A'}, {'o', 'B', 0, 0, 'A'}, {'i', 'B', 0, 0, 'A'},
			{'h', 'B', 0, 0, 'B'}}},
	{"two who are not one: a packet on one proves the other nothing", {{1, true}, {1, false}, {1, true}},
		{{'i', 'A', 0, 0, 0}, {'o', 'A', 0, 0, 'A'}, {'o', 'B', 0, 0, 'A'}, {'i', 'C', 0, 0, 'A'},
			{'h', 'C', 0, 0, 'A'}}},
};

static void do_step(struct sad *d, struct pair *p, unsigned number, const struct step *s, uint64_t *now)
{
	uint32_t spi = 5000 + number;

	switch (s->op) {
	case 'i':
		p->in = test_add_in(d, T1, p->ike, p->initiator, *now);
		break;
	case 'o':
		p->out = test_add_out(d, spi, T1, p->ike, p->initiator, *now);
		break;
	case 'I':
		assert_ptr_equal(sad_take_in(d, p->in->spi), p->in);
		sa_free(p->in);
		break;
	case 'O':
		assert_ptr_equal(sad_take_out(d, spi, T1), p->out);
		sa_free(p->out);
		break;
	case 'h':
		test_hear(d, p->in, *now);
		break;
	case 'x':
		p->out->octets.hard = 1;
		atomic_store(&p->out->use->octets, 1);
		break;
	case 't':
		*now += s->a;
		break;
	case 'c':
		sad_ike_current(d, T1, s->a, s->b);
		break;
	default:
		fail();
	}
}

static void ignore(void *arg, const struct sa *sa, bool hard)
{
	(void)arg;
	(void)sa;
	(void)hard;
}

static void test_steps(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(scenarios) / sizeof(scenarios[0]); i++) {
		struct scenario sc = scenarios[i];
		struct sad *d = test_sad();
		uint64_t now = 1000000;

		for (unsigned k = 0; k < STEPS && sc.step[k].op; k++) {
			const struct step *s = &sc.step[k];
			unsigned number = s->pair ? (unsigned)(s->pair - 'A') : 0;
			const struct sa *out;
			char used;

			do_step(d, &sc.pair[number], number, s, &now);
			if (s->op == 'x')
				sad_tick(d, now, 100, ignore, NULL);
			out = sad_out(d, T1, now);
			used = out ? (char)('A' + (out->spi - 5000)) : 0;
			if (used != s->used)
				fail_msg("%s: step %u (%c%c): %c is used, not %c", sc.name, k + 1, s->op,
					s->pair, used ? used : '-', s->used ? s->used : '-');
			assert_ptr_equal(sad_out(d, T1, now), out);
		}
		sad_free(d);
	}
}

/* ---- narrow selectors -------------------------------------------------------------------------------------- */

static struct sa *narrow(struct sa *sa, const char *from, const char *to)
{
	sa->remote_ts->from = test_addr(from);
	sa->remote_ts->to = test_addr(to);
	return sa;
}

/* Several CHILD_SAs of one IKE_SA: each packet goes where it may, and each child is rekeyed by itself. */
static void test_narrow(void **state)
{
	static const char *const nets[][2] = {{"10.1.0.0", "10.1.255.255"}, {"10.2.0.0", "10.2.255.255"}};
	struct tuple t[3] = {{.src = test_addr("1.1.1.1"), .dst = test_addr("10.1.0.1"), .proto = 17},
		{.src = test_addr("1.1.1.1"), .dst = test_addr("10.2.0.1"), .proto = 17},
		{.src = test_addr("1.1.1.1"), .dst = test_addr("10.3.0.1"), .proto = 17}};
	struct sad *d = test_sad();
	struct sa *in[4], *out[4];
	uint64_t now = 5000;

	(void)state;
	assert_null(sad_out_for(d, T1, &t[0], true, now));
	for (unsigned i = 0; i < 4; i++) {
		in[i] = narrow(test_sa(true, test_reserve(d), T1, 1, false), nets[i % 2][0], nets[i % 2][1]);
		out[i] = narrow(test_sa(false, 5000 + i, T1, 1, false), nets[i % 2][0], nets[i % 2][1]);
	}
	/* both inbound ones first: selectors say who is whose */
	assert_int_equal(sad_add(d, in[0], now), 0);
	assert_int_equal(sad_add(d, in[1], now), 0);
	assert_int_equal(sad_add(d, out[0], now), 0);
	assert_int_equal(sad_add(d, out[1], now), 0);
	assert_ptr_equal(in[0]->twin, out[0]);
	assert_ptr_equal(in[1]->twin, out[1]);
	for (unsigned i = 0; i < 2; i++) {
		assert_ptr_equal(sad_out_for(d, T1, &t[i], true, now), out[i]);
		test_hear(d, in[i], now);
	}
	assert_null(sad_out_for(d, T1, &t[2], true, now));
	/* the peer rekeys the first one: of the second nothing changes */
	assert_int_equal(sad_add(d, in[2], now), 0);
	assert_int_equal(sad_add(d, out[2], now), 0);
	assert_ptr_equal(sad_out_for(d, T1, &t[0], true, now), out[0]);
	assert_ptr_equal(sad_out_for(d, T1, &t[1], true, now), out[1]);
	test_hear(d, in[2], now);
	assert_ptr_equal(sad_out_for(d, T1, &t[0], true, now), out[2]);
	assert_ptr_equal(sad_out_for(d, T1, &t[1], true, now), out[1]);
	/* and the second one, which says nothing */
	assert_int_equal(sad_add(d, in[3], now), 0);
	assert_int_equal(sad_add(d, out[3], now), 0);
	assert_ptr_equal(sad_out_for(d, T1, &t[1], true, now + SAD_CONFIRM_MS - 1), out[1]);
	assert_ptr_equal(sad_out_for(d, T1, &t[1], true, now + SAD_CONFIRM_MS), out[3]);
	assert_ptr_equal(sad_out_for(d, T1, &t[0], true, now + SAD_CONFIRM_MS), out[2]);
	sad_free(d);
}

/* ---- a naive model ----------------------------------------------------------------------------------------- */

#define MODEL 40

/* What the model knows of an SA. */
struct known {
	struct sa *sa; /* NULL: free */
	unsigned order, era, ike;
	bool in, initiator, proven, paired;
	int twin;
	uint64_t born, heard;
};

struct model {
	struct known k[MODEL];
	unsigned order, era, eras[64]; /* eras: by IKE_SA; 0: none */
	bool told[64];
	uint64_t now;
};

static uint64_t rng_state;

static uint32_t rng(uint32_t below)
{
	rng_state = rng_state * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(rng_state >> 33) % below;
}

static bool better(const struct known *a, const struct known *b)
{
	return a->era != b->era ? a->era > b->era : a->order > b->order;
}

static const struct sa *model_out(struct model *m)
{
	struct known *proven = NULL, *best = NULL;

	for (struct known *k = m->k; k < m->k + MODEL; k++)
		if (k->sa && !k->in && k->proven && (!proven || better(k, proven)))
			proven = k;
	for (struct known *k = m->k; k < m->k + MODEL; k++) {
		uint64_t heard = 0, wait = 0;

		if (!k->sa || k->in)
			continue;
		if (proven && !k->proven) {
			for (const struct known *i = m->k; i < m->k + MODEL; i++)
				if (i->sa && i->in && i->era == proven->era && i->heard > heard)
					heard = i->heard;
			if (proven->era >= k->era || heard >= k->born)
				wait = SAD_CONFIRM_MS;
			else if (heard && heard + SAD_HEARD_MS >= k->born)
				wait = SAD_TAKEOVER_MS;
		}
		if (m->now >= k->born + wait && (!best || better(k, best)))
			best = k;
	}
	if (best)
		best->proven = true;
	return best ? best->sa : NULL;
}

static void model_add(struct model *m, struct sad *d, unsigned at, uint32_t ike, bool in, bool initiator)
{
	struct known *k = &m->k[at];
	int twin = -1;

	*k = (struct known){
		.order = ++m->order, .ike = ike, .in = in, .initiator = initiator, .born = m->now};
	if (!m->eras[ike])
		m->eras[ike] = ++m->era;
	k->era = m->eras[ike];
	for (int i = 0; i < MODEL; i++) {
		const struct known *o = &m->k[i];

		if (o->sa && o->in != in && !o->paired && o->ike == ike && o->initiator == initiator &&
			(twin < 0 || o->order > m->k[twin].order))
			twin = i;
	}
	k->twin = twin;
	k->paired = twin >= 0;
	if (twin >= 0) {
		m->k[twin].twin = (int)at;
		m->k[twin].paired = true;
	}
	k->proven = !in && (initiator || (twin >= 0 && m->k[twin].proven));
	k->sa = in ? test_add_in(d, T1, ike, initiator, m->now)
		   : test_add_out(d, 70000 + m->order, T1, ike, initiator, m->now);
}

static void model_take(struct model *m, struct sad *d, struct known *k)
{
	assert_ptr_equal(k->in ? sad_take_in(d, k->sa->spi) : sad_take_out(d, k->sa->spi, T1), k->sa);
	sa_free(k->sa);
	k->sa = NULL;
	if (k->twin >= 0)
		m->k[k->twin].twin = -1;
}

static void model_hear(struct model *m, struct sad *d, struct known *k)
{
	k->heard = m->now;
	k->proven = true;
	if (k->twin >= 0)
		m->k[k->twin].proven = true;
	test_hear(d, k->sa, m->now);
}

static void model_current(struct model *m, struct sad *d, uint32_t ike, uint32_t old)
{
	if (m->eras[old]) { /* never of 0 */
		m->eras[ike] = m->eras[ike] > m->eras[old] ? m->eras[ike] : m->eras[old];
		m->told[ike] |= m->told[old];
		m->eras[old] = 0;
		m->told[old] = false;
		for (struct known *k = m->k; k < m->k + MODEL; k++)
			k->ike = k->ike == old ? ike : k->ike;
	}
	if (!m->eras[ike] || (!m->told[ike] && m->eras[ike] != m->era))
		m->eras[ike] = ++m->era;
	m->told[ike] = true;
	for (struct known *k = m->k; k < m->k + MODEL; k++)
		if (k->ike == ike)
			k->era = m->eras[ike];
	sad_ike_current(d, T1, ike, old);
}

static void model_step(struct model *m, struct sad *d, uint32_t *ike)
{
	struct known *k = &m->k[rng(MODEL)];
	uint32_t now, was;

	switch (rng(10)) {
	case 0:
	case 1:
	case 2:
		if (!k->sa)
			model_add(m, d, (unsigned)(k - m->k), *ike - rng(*ike > 1 ? 2 : 1), rng(2), rng(2));
		break;
	case 3:
	case 4:
		if (k->sa)
			model_take(m, d, k);
		break;
	case 5:
	case 6:
		if (k->sa && k->in)
			model_hear(m, d, k);
		break;
	case 7:
		m->now += rng(4) ? rng(300) : rng(SAD_CONFIRM_MS);
		break;
	case 8:
		if (*ike < SAD_IKES - 1 && !rng(20))
			++*ike;
		break;
	default:
		now = 1 + rng(*ike);
		was = rng(4) ? 0 : 1 + rng(*ike);
		if (now != was)
			model_current(m, d, now, was);
	}
}

static void test_model(void **state)
{
	(void)state;
	for (unsigned round = 0; round < 300; round++) {
		struct sad *d = test_sad();
		struct model *m = calloc(1, sizeof(*m));
		uint32_t ike = 1;

		assert_non_null(m);
		m->now = 100000;
		rng_state = round;
		for (unsigned i = 0; i < 400; i++) {
			const struct sa *want, *is;

			model_step(m, d, &ike);
			want = model_out(m);
			is = sad_out(d, T1, m->now);
			if (is != want)
				fail_msg("round %u, step %u", round, i);
		}
		free(m);
		sad_free(d);
	}
}

/* More IKE_SAs than a tunnel remembers: the newest one is still the newest. */
static void test_many_ikes(void **state)
{
	struct sad *d = test_sad();
	struct sa *last = NULL;

	(void)state;
	for (uint32_t ike = 1; ike < 50; ike++) {
		last = test_add_out(d, 1000 + ike, T1, ike, true, 1000);
		assert_ptr_equal(sad_out(d, T1, 1000), last);
		sad_ike_current(d, T1, ike, 0);
		assert_ptr_equal(sad_out(d, T1, 1000), last);
	}
	/* and one that is remembered is no newer for another SA */
	for (uint32_t ike = 48; ike > 49 - SAD_IKES; ike--) {
		test_add_out(d, 2000 + ike, T1, ike, true, 1000);
		assert_ptr_equal(sad_out(d, T1, 1000), last);
	}
	sad_ike_current(d, T1, 0, 0);
	assert_ptr_equal(sad_out(d, T1, 1000), last);
	/* the newest of what it inherits */
	sad_ike_current(d, T1, 49, 48);
	assert_int_equal(sad_out(d, T1, 1000)->spi, 2048);
	sad_free(d);
}

/* A tunnel that is gone leaves its place to the next, though its last SAs come and go late. */
static void test_next_tunnel(void **state)
{
	struct sad *d = test_sad();
	struct sa *old = test_add_out(d, 1, T1, 1, true, 0), *new;

	(void)state;
	sad_ike_current(d, T2, 2, 0);
	new = test_add_out(d, 1, T2, 2, true, 0);
	assert_ptr_equal(sad_out(d, T1, 0), old);
	assert_ptr_equal(sad_out(d, T2, 0), new);
	sa_free(sad_take_out(d, 1, T1));
	assert_null(sad_out(d, T1, 0));
	assert_ptr_equal(sad_out(d, T2, 0), new);
	sad_ike_current(d, T1, 1, 0); /* too late */
	assert_ptr_equal(sad_out(d, T2, 0), new);
	sad_free(d);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_steps),
		cmocka_unit_test(test_narrow),
		cmocka_unit_test(test_model),
		cmocka_unit_test(test_many_ikes),
		cmocka_unit_test(test_next_tunnel),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
