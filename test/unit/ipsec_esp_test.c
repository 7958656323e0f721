/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ipsec_esp_test.c - ESP packets there and back, and all the ways in which one may be wrong. */
#include "gateway/base/be.h"
#include "ipsec/esp.h"
#include "test/unit/ipsec_esp_help.h"

#define ROOM 2048
#define T32  (UINT64_C(1) << 32)

/* Two ends of one SA. */
struct link {
	struct party *p;
	struct sa out, in;
	uint32_t at; /* of the text */
};

static void link_begin(struct link *l, struct party *p, const struct suite *s, bool esn, uint32_t window)
{
	struct rnd r = {s->id + 1u};
	struct material m = material_of(&r);
	l->p = p;
	sa_begin(&l->out, p, s, &m, esn, 0);
	sa_begin(&l->in, p, s, &m, esn, window);
	l->in.inbound = true;
	l->at = esp_inner_at(&l->out);
}

static void link_end(struct link *l)
{
	sa_end_(&l->out);
	sa_end_(&l->in);
}

/* Both ends begin at the same number. */
static void link_at(struct link *l, uint64_t seq)
{
	uint32_t window = l->in.replay.window;
	l->out.seq = seq;
	replay_init(&l->in.replay, window, l->in.esn);
	if (seq)
		assert_true(replay_accept(&l->in.replay, seq));
}

static uint8_t octet(uint32_t i)
{
	return (uint8_t)(i * 7 + 3);
}

static void fill(uint8_t *p, uint32_t len)
{
	for (uint32_t i = 0; i < len; i++)
		p[i] = octet(i);
}

static bool is_filled(const uint8_t *p, uint32_t len)
{
	for (uint32_t i = 0; i < len; i++)
		if (p[i] != octet(i))
			return false;
	return true;
}

/* Seals len octets into buf; returns the length of the packet. */
static uint32_t seal_one(struct link *l, uint8_t *buf, uint32_t len, uint8_t next)
{
	struct esp_out o = {.sa = &l->out, .data = buf, .inner_len = len, .next = next, .drop = DROP_COUNT};
	fill(buf + l->at, len);
	esp_seal(l->p->c, &o, 1);
	assert_int_equal(o.drop, DROP_NONE);
	return o.len;
}

static struct esp_in open_one(struct link *l, uint8_t *buf, uint32_t len)
{
	struct esp_in in = {.sa = &l->in, .data = buf, .len = len, .drop = DROP_COUNT};
	esp_open(l->p->c, &in, 1);
	return in;
}

/* The test for each provider, suite, and with and without ESN. */
static void for_all(void (*test)(struct link *l))
{
	struct party p[PARTIES];
	unsigned n = parties_begin(p);
	for (unsigned i = 0; i < n * SUITE_COUNT * 2; i++) {
		struct link l;
		link_begin(&l, &p[i % n], &suites[i / n / 2], i / n % 2, 256);
		test(&l);
		link_end(&l);
	}
	parties_end(p, n);
}

/* ---- there and back --------------------------------------------------------------------------------- */

static void round_trip(struct link *l, uint32_t len)
{
	static uint8_t buf[70000];
	const struct suite *s = l->out.suite;
	uint32_t whole = esp_sealed_len(s, len), got;
	struct esp_in in;
	memset(buf, 0xee, whole + 64);
	got = seal_one(l, buf, len, ESP_NEXT_IPV4);
	assert_int_equal(got, whole);
	assert_in_range(got, len + l->at + 2 + s->icv_len, len + ESP_OVERHEAD_MAX);
	for (uint32_t i = whole; i < whole + 64; i++)
		assert_int_equal(buf[i], 0xee);
	assert_int_equal(esp_spi(buf, got), l->out.spi);
	assert_int_equal(be32_get(buf + 4), (uint32_t)l->out.seq);
	if (s->salt_len) {
		assert_int_equal(be32_get(buf + 8), (uint32_t)(l->out.seq >> 32));
		assert_int_equal(be32_get(buf + 12), (uint32_t)l->out.seq);
	}
	if (len >= 8)
		assert_false(is_filled(buf + l->at, len));
	in = open_one(l, buf, got);
	assert_int_equal(in.drop, DROP_NONE);
	assert_int_equal(in.next, ESP_NEXT_IPV4);
	assert_ptr_equal(in.inner, buf + l->at);
	assert_int_equal(in.inner_len, len);
	assert_true(is_filled(in.inner, len));
	assert_int_equal(l->in.replay.top, l->out.seq);
}

static void lengths(struct link *l)
{
	for (uint32_t len = 0; len <= 300; len++)
		round_trip(l, len);
	round_trip(l, 1400);
	round_trip(l, 9000);
	round_trip(l, 65000);
	round_trip(l, esp_inner_max(l->out.suite, CRYPTO_PKT_MAX));
	assert_int_equal(l->out.seq, 305);
}

static void test_round_trip(void **state)
{
	(void)state;
	for_all(lengths);
}

/* Every length that a packet may have, and the largest inside that it can hold. */
static void test_sizes(void **state)
{
	(void)state;
	for (unsigned i = 0; i < SUITE_COUNT; i++) {
		const struct suite *s = &suites[i];
		uint32_t most = 0; /* the largest inside that fits so far */
		for (uint32_t len = 0; len < 700; len++) {
			while (esp_sealed_len(s, most + 1) <= len)
				most++;
			assert_int_equal(esp_inner_max(s, len), most);
			assert_int_equal((esp_sealed_len(s, len) - 8 - s->iv_len - s->icv_len) % s->align, 0);
		}
	}
	/* by hand: 8 + 8 + 1402 → 1404 + 16; 8 + 16 + 1402 → 1408 + 16 */
	assert_int_equal(esp_sealed_len(&suites[SUITE_AES_GCM_256], 1400), 1436);
	assert_int_equal(esp_sealed_len(&suites[SUITE_AES_CBC_128_SHA256], 1400), 1448);
	assert_int_equal(esp_spi((const uint8_t[]){1, 2, 3, 4}, 4), 0x01020304);
	assert_int_equal(esp_spi((const uint8_t[]){1, 2, 3, 4}, 3), 0);
	assert_int_equal(esp_spi(NULL, 0), 0);
}

/* One behind the other without a gap, as for UDP_SEGMENT, any SAs together, more than a batch. */
static void test_side_by_side(void **state)
{
	(void)state;
	enum { N = 150 };
	static uint8_t buf[N * 1600];
	struct party p[PARTIES];
	unsigned n = parties_begin(p);
	struct rnd r = {11};
	for (unsigned i = 0; i < n; i++) {
		struct link l[SUITE_COUNT];
		struct esp_out out[N];
		struct esp_in in[N];
		uint8_t *at = buf;
		for (unsigned s = 0; s < SUITE_COUNT; s++)
			link_begin(&l[s], &p[i], &suites[s], s % 2, 64);
		for (unsigned k = 0; k < N; k++) {
			struct link *q = &l[rnd_to(&r, SUITE_COUNT)];
			out[k] = (struct esp_out){.sa = &q->out,
				.data = at,
				.inner_len = rnd_to(&r, 1400),
				.next = ESP_NEXT_IPV6};
			in[k] = (struct esp_in){.sa = &q->in, .data = at};
			fill(at + q->at, out[k].inner_len);
			at += esp_sealed_len(q->out.suite, out[k].inner_len);
		}
		esp_seal(p[i].c, out, N);
		for (unsigned k = 0; k < N; k++) {
			assert_int_equal(out[k].drop, DROP_NONE);
			in[k].len = out[k].len;
		}
		esp_open(p[i].c, in, N);
		for (unsigned k = 0; k < N; k++) {
			assert_int_equal(in[k].drop, DROP_NONE);
			assert_int_equal(in[k].inner_len, out[k].inner_len);
			assert_int_equal(in[k].next, ESP_NEXT_IPV6);
			assert_true(is_filled(in[k].inner, in[k].inner_len));
		}
		for (unsigned s = 0; s < SUITE_COUNT; s++)
			link_end(&l[s]);
	}
	parties_end(p, n);
}

static void no_iv_twice(struct link *l)
{
	enum { N = 100 };
	static uint8_t buf[N][64 + ESP_OVERHEAD_MAX];
	uint32_t iv_len = l->out.suite->iv_len;
	for (unsigned i = 0; i < N; i++) {
		seal_one(l, buf[i], 64, 4);
		for (unsigned k = 0; k < i; k++)
			assert_memory_not_equal(buf[i] + ESP_HDR, buf[k] + ESP_HDR, iv_len);
	}
}

static void test_ivs(void **state)
{
	(void)state;
	for_all(no_iv_twice);
}

/* ---- what is wrong with a packet -------------------------------------------------------------------- */

static void truncated(struct link *l)
{
	const struct suite *s = l->in.suite;
	uint32_t around = l->at + s->icv_len;
	uint8_t pkt[512], buf[512] = {0};
	uint32_t whole = seal_one(l, pkt, 100, ESP_NEXT_IPV4);
	for (uint32_t len = 0; len < whole + 40; len++) {
		bool fits = len >= around + s->align && (len - around) % s->align == 0;
		enum drop want = len == whole ? DROP_NONE : fits ? DROP_ESP_AUTH : DROP_ESP_TRUNCATED;
		/* exactly as large, so that sanitizers see what lies behind */
		uint8_t *exact = malloc(len + 1);
		assert_non_null(exact);
		memcpy(buf, pkt, whole);
		memcpy(exact, buf, len);
		replay_init(&l->in.replay, 64, l->in.esn);
		assert_int_equal(open_one(l, exact, len).drop, want);
		assert_int_equal(l->in.replay.top, len == whole ? 1 : 0);
		free(exact);
	}
	assert_int_equal(l->in.replayed, 0);
}

static void test_truncated(void **state)
{
	(void)state;
	struct party p;
	struct link l;
	static uint8_t huge[CRYPTO_PKT_MAX + 64];
	for_all(truncated);
	party_begin(&p, CRYPTO_AUTO);
	link_begin(&l, &p, &suites[SUITE_AES_GCM_128], false, 64);
	be32_put(huge + 4, 1);
	assert_int_equal(open_one(&l, huge, CRYPTO_PKT_MAX + 1).drop, DROP_ESP_TRUNCATED);
	assert_int_equal(open_one(&l, huge, CRYPTO_PKT_MAX + 5).drop, DROP_ESP_TRUNCATED);
	assert_int_equal(open_one(&l, huge, CRYPTO_PKT_MAX - 3).drop, DROP_ESP_AUTH);
	link_end(&l);
	party_end(&p);
}

/* A flipped bit anywhere, and the window stays; the number's own bits too, which may make an old one of it. */
static void flipped(struct link *l)
{
	uint8_t pkt[256], buf[256];
	uint32_t whole, n = 0;
	link_at(l, 1000);
	whole = seal_one(l, pkt, 60, ESP_NEXT_IPV4);
	for (uint32_t bit = 0; bit < whole * 8; bit++) {
		enum drop d;
		memcpy(buf, pkt, whole);
		buf[bit / 8] ^= (uint8_t)(1u << bit % 8);
		d = open_one(l, buf, whole).drop;
		if (bit / 8 < 4 || bit / 8 >= 8)
			assert_int_equal(d, DROP_ESP_AUTH);
		else
			assert_true(d == DROP_ESP_AUTH || d == DROP_ESP_REPLAY);
		n += d == DROP_ESP_AUTH;
		assert_int_equal(l->in.replay.top, 1000);
	}
	assert_int_equal(l->in.bad_icv, n);
	assert_int_equal(l->in.replayed, whole * 8 - n);
	assert_int_equal(open_one(l, pkt, whole).drop, DROP_NONE);
	assert_int_equal(l->in.replay.top, 1001);
}

static void test_flipped(void **state)
{
	(void)state;
	for_all(flipped);
}

/* Another SA's packet, with the same SPI. */
static void foreign(struct link *l)
{
	struct link other;
	struct rnd r = {99};
	struct material m = material_of(&r);
	uint8_t buf[256];
	other = *l;
	sa_begin(&other.out, l->p, l->out.suite, &m, l->out.esn, 0);
	assert_int_equal(open_one(l, buf, seal_one(&other, buf, 60, 4)).drop, DROP_ESP_AUTH);
	sa_end_(&other.out);
}

static void test_foreign(void **state)
{
	(void)state;
	for_all(foreign);
}

/* ---- numbers ---------------------------------------------------------------------------------------- */

/* Copies and late ones, in one batch and in the next. */
static void replayed(struct link *l)
{
	static uint8_t pkt[600][128], buf[600][128];
	static struct esp_in in[600];
	uint32_t len = 0;
	unsigned good = 0;
	for (unsigned i = 0; i < 300; i++)
		len = seal_one(l, pkt[i], 40, ESP_NEXT_IPV4);
	/* The newest first: numbers 45 to 300 are in the window. Then 32, and these 32 again, and so on. */
	for (unsigned i = 0; i < 600; i++) {
		unsigned which = i == 0 ? 299 : (i / 64 * 32 + i % 32) % 300;
		memcpy(buf[i], pkt[which], len);
		in[i] = (struct esp_in){.sa = &l->in, .data = buf[i], .len = len};
	}
	esp_open(l->p->c, in, 1);
	assert_int_equal(in[0].drop, DROP_NONE);
	esp_open(l->p->c, in + 1, 599);
	for (unsigned i = 1; i < 600; i++) {
		uint32_t number = be32_get(in[i].data + 4);
		bool seen = number == 300;
		for (unsigned k = 1; k < i && !seen; k++)
			seen = be32_get(in[k].data + 4) == number;
		if (number <= 300 - 256)
			/* With ESN it is held for one of the next round, and its ICV does not say so. */
			assert_int_equal(in[i].drop, l->in.esn ? DROP_ESP_AUTH : DROP_ESP_REPLAY);
		else
			assert_int_equal(in[i].drop, seen ? DROP_ESP_REPLAY : DROP_NONE);
		good += in[i].drop == DROP_NONE;
	}
	assert_in_range(good, 200, 256);
	assert_int_equal(l->in.replayed + l->in.bad_icv, 599 - good);
	assert_int_equal(l->in.bad_icv != 0, l->in.esn);
}

static void test_replayed(void **state)
{
	(void)state;
	for_all(replayed);
}

/* Copies of one packet in one batch: one is taken, the first. */
static void copies(struct link *l)
{
	static uint8_t buf[ESP_BATCH][128];
	struct esp_in in[ESP_BATCH];
	uint32_t len = seal_one(l, buf[0], 40, ESP_NEXT_IPV4);
	for (unsigned i = 0; i < ESP_BATCH; i++) {
		memcpy(buf[i], buf[0], len);
		in[i] = (struct esp_in){.sa = &l->in, .data = buf[i], .len = len};
	}
	buf[0][len - 1] ^= 1; /* a damaged one does not count */
	esp_open(l->p->c, in, ESP_BATCH);
	assert_int_equal(in[0].drop, DROP_ESP_AUTH);
	assert_int_equal(in[1].drop, DROP_NONE);
	for (unsigned i = 2; i < ESP_BATCH; i++)
		assert_int_equal(in[i].drop, DROP_ESP_REPLAY);
	assert_int_equal(l->in.replayed, ESP_BATCH - 2);
	assert_int_equal(l->in.bad_icv, 1);
}

static void test_copies(void **state)
{
	(void)state;
	for_all(copies);
}

/* The window is asked before the ICV: what was seen, and what is too old, costs no look at its octets, good or forged, and
 * nothing of it is changed. What is new is only marked when it is good. */
static void window_before_icv(struct link *l)
{
	static const uint32_t old[] = {1000, 999, 745, 744, 1};
	uint8_t pkt[128], was[128];
	uint32_t len;
	link_at(l, 1000);
	for (unsigned i = 0; i < sizeof(old) / sizeof(old[0]) * 2; i++) {
		uint32_t number = old[i / 2];
		bool seen = number == 1000 || number == 999, forged = i % 2;
		/* Within the window (256) and not seen it is looked at; and with ESN what is below the window, as one of the
		 * next round. */
		bool looked_at = (number > 1000 - 256 && !seen) || (l->in.esn && number <= 1000 - 256);
		enum drop want = !looked_at                       ? DROP_ESP_REPLAY
				 : forged || number <= 1000 - 256 ? DROP_ESP_AUTH
								  : DROP_NONE;
		uint64_t replayed = l->in.replayed, bad_icv = l->in.bad_icv;
		replay_init(&l->in.replay, 256, l->in.esn);
		assert_true(replay_accept(&l->in.replay, 1000) && replay_accept(&l->in.replay, 999));
		l->out.seq = number - 1;
		len = seal_one(l, pkt, 40, ESP_NEXT_IPV4);
		pkt[len - 1] ^= forged;
		memcpy(was, pkt, len);
		assert_int_equal(open_one(l, pkt, len).drop, want);
		assert_int_equal(l->in.replayed - replayed, want == DROP_ESP_REPLAY);
		assert_int_equal(l->in.bad_icv - bad_icv, want == DROP_ESP_AUTH);
		assert_true(l->in.replay.top == 1000);
		if (want == DROP_ESP_REPLAY)
			assert_memory_equal(pkt, was, len);
	}
}

static void test_window_before_icv(void **state)
{
	(void)state;
	for_all(window_before_icv);
}

/* The last number is used, then none. */
static void last_number(struct link *l)
{
	static uint8_t buf[6][128];
	struct esp_out out[6];
	struct esp_in in;
	uint64_t last = l->out.esn ? UINT64_MAX : UINT32_MAX;
	link_at(l, last - 2);
	for (unsigned i = 0; i < 6; i++)
		out[i] = (struct esp_out){.sa = &l->out, .data = buf[i], .inner_len = 50, .next = 4};
	esp_seal(l->p->c, out, 6);
	for (unsigned i = 0; i < 6; i++) {
		assert_int_equal(out[i].drop, i < 2 ? DROP_NONE : DROP_ESP_SEQUENCE);
		assert_int_equal(out[i].len, i < 2 ? esp_sealed_len(l->out.suite, 50) : 0);
	}
	assert_false(l->out.hard_done); /* sad_tick sets it, and tells IKE */
	assert_true(l->out.seq == last);
	esp_seal(l->p->c, out, 1);
	assert_int_equal(out[0].drop, DROP_ESP_SEQUENCE);
	assert_true(l->out.seq == last);
	for (unsigned i = 0; i < 2; i++) {
		in = open_one(l, buf[i], esp_sealed_len(l->out.suite, 50));
		assert_int_equal(in.drop, DROP_NONE);
		assert_true(l->in.replay.top == last - 1 + i);
	}
}

static void test_last_number(void **state)
{
	(void)state;
	for_all(last_number);
}

/* Over 2^32 with ESN: the high half is not sent, and both sides know it, also for what comes late. */
static void over_the_boundary(struct link *l)
{
	enum { N = 40 };
	static uint8_t buf[N][128], copy[128];
	struct esp_in in[N];
	uint32_t len = 0;
	if (!l->out.esn)
		return;
	link_at(l, T32 - N / 2 - 1);
	for (unsigned i = 0; i < N; i++)
		len = seal_one(l, buf[i], 33, 4);
	assert_int_equal(be32_get(buf[N / 2] + 4), 0);
	if (l->out.suite->salt_len) /* the IV must not begin again when the low half does */
		assert_int_equal(be32_get(buf[N / 2] + 8), 1);
	assert_true(l->out.seq == T32 + N / 2 - 1);
	memcpy(copy, buf[N - 1], len);
	/* the newest first, the oldest last */
	for (unsigned i = 0; i < N; i++)
		in[i] = (struct esp_in){.sa = &l->in, .data = buf[N - 1 - i], .len = len};
	esp_open(l->p->c, in, N);
	for (unsigned i = 0; i < N; i++)
		assert_int_equal(in[i].drop, DROP_NONE);
	assert_true(l->in.replay.top == l->out.seq);
	assert_int_equal(open_one(l, copy, len).drop, DROP_ESP_REPLAY);
	/* A whole round too early: authentic only with its own high half. */
	link_at(l, T32 - N / 2 - 1);
	l->out.seq = 2 * T32 + 5;
	len = seal_one(l, copy, 33, 4);
	assert_int_equal(open_one(l, copy, len).drop, DROP_ESP_AUTH);
	assert_true(l->in.replay.top == T32 - N / 2 - 1);
}

static void test_over_the_boundary(void **state)
{
	(void)state;
	for_all(over_the_boundary);
}

/* Over 2^32 with ESN where what went by the boundary never came: fewer than the window, as many, and more; and what of it
 * comes late, after all. */
static void lost_at_the_boundary(struct link *l)
{
	static const uint32_t lost[] = {1, 30, 254, 255, 256, 257, 5000};
	uint8_t late[128], pkt[128];
	if (!l->out.esn)
		return;
	for (unsigned i = 0; i < sizeof(lost) / sizeof(lost[0]); i++) {
		uint32_t len;
		struct esp_in in;
		link_at(l, T32 - 10);
		len = seal_one(l, late, 33, 4); /* 2^32 - 9 */
		l->out.seq += lost[i] - 1;
		seal_one(l, pkt, 33, 4);
		in = open_one(l, pkt, len);
		assert_int_equal(in.drop, DROP_NONE);
		assert_true(is_filled(in.inner, 33));
		assert_true(l->in.replay.top == T32 - 9 + lost[i]);
		/* Below the window its number is held for one of the next round. */
		assert_int_equal(open_one(l, late, len).drop, lost[i] < 256 ? DROP_NONE : DROP_ESP_AUTH);
		assert_true(l->in.replay.top == T32 - 9 + lost[i]);
	}
}

static void test_lost_at_the_boundary(void **state)
{
	(void)state;
	for_all(lost_at_the_boundary);
}

/* Past its hard limit an SA neither sends nor takes, and uses no number. */
static void expired(struct link *l)
{
	uint8_t buf[128], copy[128];
	struct esp_out o = {.sa = &l->out, .data = copy, .inner_len = 20, .next = 4};
	uint32_t len = seal_one(l, buf, 20, 4);
	l->out.hard_done = l->in.hard_done = true;
	esp_seal(l->p->c, &o, 1);
	assert_int_equal(o.drop, DROP_ESP_EXPIRED);
	assert_int_equal(o.len, 0);
	assert_int_equal(l->out.seq, 1);
	assert_int_equal(open_one(l, buf, len).drop, DROP_ESP_EXPIRED);
	assert_int_equal(l->in.replay.top, 0);
	l->in.hard_done = false;
	assert_int_equal(open_one(l, buf, len).drop, DROP_NONE);
}

static void test_expired(void **state)
{
	(void)state;
	for_all(expired);
}

static void too_big(struct link *l)
{
	struct esp_out o = {.sa = &l->out, .inner_len = esp_inner_max(l->out.suite, CRYPTO_PKT_MAX) + 1};
	esp_seal(l->p->c, &o, 1);
	assert_int_equal(o.drop, DROP_TOO_BIG);
	o.inner_len = 20;
	o.pad_to = CRYPTO_PKT_MAX;
	esp_seal(l->p->c, &o, 1);
	assert_int_equal(o.drop, DROP_TOO_BIG);
	assert_int_equal(l->out.seq, 0);
}

static void test_too_big(void **state)
{
	(void)state;
	for_all(too_big);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_sizes),
		cmocka_unit_test(test_side_by_side),
		cmocka_unit_test(test_ivs),
		cmocka_unit_test(test_truncated),
		cmocka_unit_test(test_flipped),
		cmocka_unit_test(test_foreign),
		cmocka_unit_test(test_replayed),
		cmocka_unit_test(test_copies),
		cmocka_unit_test(test_window_before_icv),
		cmocka_unit_test(test_last_number),
		cmocka_unit_test(test_over_the_boundary),
		cmocka_unit_test(test_lost_at_the_boundary),
		cmocka_unit_test(test_expired),
		cmocka_unit_test(test_too_big),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
