/* SPDX-License-Identifier: GPL-2.0-or-later */
/* flowstate_track_test.c - states by packets, timeouts by states, the wheel. */
#include "test/unit/flowstate_help.h"

#define WEB "203.0.113.80"
#define S   FLAG_SYN
#define A   FLAG_ACK
#define F   (FLAG_FIN | FLAG_ACK)
#define R   FLAG_RST
#define SA  (FLAG_SYN | FLAG_ACK)
#define O   FS_ORIG
#define P   FS_REPLY

static enum fs_state state_of(struct world *w, uint32_t flow)
{
	return head_of(w->fs, flow)->state;
}

static void pass(struct world *w, uint32_t flow, enum fs_dir dir, uint8_t flags)
{
	struct fs_half h;
	fs_half(w->fs, flow, dir, &h);
	struct fs_packet pk = packet(h.realm, h.via, h.t, flags);
	if (h.t.proto == IPPROTO_TCP)
		next_segment(w, flow, dir, &pk);
	enum drop d = fs_pass(w->fs, (struct fs_hit){.flow = flow, .dir = dir}, &pk, w->now);
	if (d)
		fail_msg("%s: direction %d, flags %02x, seq %u, ack %u", drop_name(d), dir, flags, pk.seq,
			pk.ack);
}

struct step {
	enum fs_dir dir;
	uint8_t flags;
	enum fs_state then;
};

static const struct {
	const char *name;
	uint8_t first; /* flags of the packet that begins it; it passes, too */
	struct step step[10];
} tcp[] = {
	{"handshake and orderly close", S,
		{{O, S, FS_TCP_OPENING}, {P, SA, FS_TCP_OPENING}, {O, A, FS_TCP_ESTABLISHED},
			{P, A, FS_TCP_ESTABLISHED}, {O, F, FS_TCP_HALF_CLOSED}, {P, A, FS_TCP_HALF_CLOSED},
			{P, F, FS_TCP_CLOSING}, {O, A, FS_TCP_CLOSING}}},
	{"server closes first", S,
		{{P, SA, FS_TCP_OPENING}, {O, A, FS_TCP_ESTABLISHED}, {P, F, FS_TCP_HALF_CLOSED},
			{O, A, FS_TCP_HALF_CLOSED}, {P, F, FS_TCP_HALF_CLOSED}, {O, F, FS_TCP_CLOSING}}},
	{"simultaneous open", S,
		{{P, S, FS_TCP_OPENING}, {O, SA, FS_TCP_OPENING}, {P, SA, FS_TCP_ESTABLISHED}}},
	{"simultaneous close", S,
		{{P, SA, FS_TCP_OPENING}, {O, A, FS_TCP_ESTABLISHED}, {O, F, FS_TCP_HALF_CLOSED},
			{P, F, FS_TCP_CLOSING}}},
	{"never answered", S, {{O, S, FS_TCP_OPENING}, {O, S, FS_TCP_OPENING}, {O, A, FS_TCP_OPENING}}},
	{"refused", S, {{P, R | A, FS_TCP_RESET}, {P, R | A, FS_TCP_RESET}}},
	{"refused, tried again", S,
		{{P, R | A, FS_TCP_RESET}, {O, S, FS_TCP_OPENING}, {P, SA, FS_TCP_OPENING},
			{O, A, FS_TCP_ESTABLISHED}}},
	{"picked up in mid-stream", A, {{O, A, FS_TCP_OPENING}, {P, A, FS_TCP_ESTABLISHED}}},
	{"picked up at its end", F, {{P, F, FS_TCP_CLOSING}}},
	{"reset, and dead", S,
		{{P, SA, FS_TCP_OPENING}, {O, A, FS_TCP_ESTABLISHED}, {O, R, FS_TCP_RESET},
			{P, A, FS_TCP_RESET}, {P, A, FS_TCP_RESET}, {P, F, FS_TCP_RESET}}},
	{"a blind RST, the session lives on", S,
		{{P, SA, FS_TCP_OPENING}, {O, A, FS_TCP_ESTABLISHED}, {P, R, FS_TCP_RESET},
			{O, A, FS_TCP_RESET}, {P, A, FS_TCP_ESTABLISHED}}},
	{"a second RST asks for proof again", S,
		{{P, SA, FS_TCP_OPENING}, {O, A, FS_TCP_ESTABLISHED}, {P, R, FS_TCP_RESET},
			{O, A, FS_TCP_RESET}, {P, R, FS_TCP_RESET}, {P, A, FS_TCP_RESET},
			{O, A, FS_TCP_ESTABLISHED}}},
	{"a blind RST while half closed", S,
		{{P, SA, FS_TCP_OPENING}, {O, A, FS_TCP_ESTABLISHED}, {O, F, FS_TCP_HALF_CLOSED},
			{P, R, FS_TCP_RESET}, {O, A, FS_TCP_RESET}, {P, A, FS_TCP_HALF_CLOSED}}},
	{"SYN reopens what is closing", S,
		{{P, SA, FS_TCP_OPENING}, {O, F, FS_TCP_HALF_CLOSED}, {P, F, FS_TCP_CLOSING},
			{O, S, FS_TCP_OPENING}, {P, SA, FS_TCP_OPENING}, {O, A, FS_TCP_ESTABLISHED}}},
	{"SYN in an established flow changes nothing", S,
		{{P, SA, FS_TCP_OPENING}, {O, A, FS_TCP_ESTABLISHED}, {O, S, FS_TCP_ESTABLISHED},
			{P, A, FS_TCP_ESTABLISHED}, {O, F, FS_TCP_HALF_CLOSED}, {O, S, FS_TCP_HALF_CLOSED}}},
	{"SYN|ACK of a reset connection does not revive it", S,
		{{P, SA, FS_TCP_OPENING}, {P, R, FS_TCP_RESET}, {P, SA, FS_TCP_RESET}, {O, A, FS_TCP_RESET},
			{P, SA, FS_TCP_RESET}}},
	{"SYN with RST is a RST", S, {{O, S | R, FS_TCP_RESET}}},
	{"no flags at all", S,
		{{P, SA, FS_TCP_OPENING}, {O, A, FS_TCP_ESTABLISHED}, {O, 0, FS_TCP_ESTABLISHED}}},
};

static void test_tcp(void **state)
{
	(void)state;
	struct world w;
	world_new(&w, NULL, 100);
	for (size_t r = 0; r < sizeof(tcp) / sizeof(tcp[0]); r++) {
		struct tuple t = tup(IPPROTO_TCP, "10.0.1.5", (uint16_t)(1000 + r), WEB, 443);
		struct fs_packet pk = packet(w.site_a, w.a1, t, tcp[r].first);
		struct fs_hit hit;
		assert_int_equal(fs_begin(w.fs, &pk, w.egress, w.egress, false, 0, w.now, &hit), DROP_NONE);
		assert_int_equal(state_of(&w, hit.flow), FS_TCP_OPENING);
		assert_int_equal(fs_pass(w.fs, hit, &pk, w.now), DROP_NONE);
		for (unsigned i = 0; i < 10 && tcp[r].step[i].then; i++) {
			const struct step *s = &tcp[r].step[i];
			pass(&w, hit.flow, s->dir, s->flags);
			if (state_of(&w, hit.flow) != s->then)
				fail_msg("%s, step %u: %s, not %s", tcp[r].name, i + 1,
					fs_state_name(state_of(&w, hit.flow)), fs_state_name(s->then));
		}
		check(&w);
	}
	world_close(&w);
}

/* Which TCP flags may begin a flow: from a site, loose and strict, and from an egress. */
static void test_beginnings(void **state)
{
	(void)state;
	static const struct {
		uint8_t flags;
		bool loose, strict;
	} rows[] = {
		{S, true, true},
		{S | 0xc0, true, true},
		{A, true, false},
		{A | 0x08, true, false},
		{F, true, false},
		{SA, false, false},
		{R, false, false},
		{R | A, false, false},
		{S | R, false, false},
		{0, false, false},
		{FLAG_FIN, false, false},
		{S | FLAG_FIN, false, false},
		{0xff, false, false},
	};
	struct world w;
	for (int loose = 0; loose < 2; loose++) {
		world_new(&w, NULL, 100);
		w.cfg.tcp_loose = loose;
		fs_reconfigure(w.fs, &w.cfg);
		for (size_t r = 0; r < sizeof(rows) / sizeof(rows[0]); r++) {
			struct fs_hit hit;
			struct tuple t = tup(IPPROTO_TCP, "10.0.1.5", (uint16_t)(1000 + r), WEB, 443);
			struct fs_packet pk = packet(w.site_a, w.a1, t, rows[r].flags);
			bool may = loose ? rows[r].loose : rows[r].strict;
			assert_int_equal(fs_begin(w.fs, &pk, w.egress, w.egress, false, 0, w.now, &hit),
				may ? DROP_NONE : DROP_NOT_A_BEGINNING);
			assert_int_equal(hit.flow != FS_NONE, may);
			/* From an egress never loose. */
			t = tup(IPPROTO_TCP, WEB, (uint16_t)(1000 + r), "10.0.1.6", 22);
			pk = packet(w.egress, w.egress, t, rows[r].flags);
			assert_int_equal(fs_begin(w.fs, &pk, w.site_a, w.a1, true, 0, w.now, &hit),
				rows[r].strict ? DROP_NONE : DROP_NOT_A_BEGINNING);
		}
		world_close(&w);
	}
}

/* Each class of timeout: how a flow comes into the state, and that it ends in time: not before, and at most a
 * second and the step of the ticks late. */
static const struct {
	enum fs_state in;
	uint8_t proto;
	struct step step[6];
} classes[] = {
	{FS_TCP_OPENING, IPPROTO_TCP, {{O, S, FS_TCP_OPENING}}},
	{FS_TCP_ESTABLISHED, IPPROTO_TCP, {{P, SA, FS_TCP_OPENING}, {O, A, FS_TCP_ESTABLISHED}}},
	{FS_TCP_HALF_CLOSED, IPPROTO_TCP,
		{{P, SA, FS_TCP_OPENING}, {O, A, FS_TCP_ESTABLISHED}, {O, F, FS_TCP_HALF_CLOSED}}},
	{FS_TCP_CLOSING, IPPROTO_TCP,
		{{P, SA, FS_TCP_OPENING}, {O, A, FS_TCP_ESTABLISHED}, {O, F, FS_TCP_HALF_CLOSED},
			{P, F, FS_TCP_CLOSING}}},
	{FS_TCP_RESET, IPPROTO_TCP,
		{{P, SA, FS_TCP_OPENING}, {O, A, FS_TCP_ESTABLISHED}, {O, R, FS_TCP_RESET}}},
	{FS_UDP_ONE_WAY, IPPROTO_UDP, {{O, 0, FS_UDP_ONE_WAY}}},
	{FS_UDP_TWO_WAY, IPPROTO_UDP, {{O, 0, FS_UDP_ONE_WAY}, {P, 0, FS_UDP_TWO_WAY}}},
	{FS_ICMP_ECHO, IPPROTO_ICMP, {{O, 0, FS_ICMP_ECHO}, {P, 0, FS_ICMP_ECHO}}},
	{FS_OTHER, 47, {{O, 0, FS_OTHER}, {P, 0, FS_OTHER}}},
};

static void test_timeouts(void **state)
{
	(void)state;
	/* Starts at odd times, too: rounding must never end a flow early. */
	for (unsigned ms = 0; ms < 1000; ms += 300) {
		for (size_t c = 0; c < sizeof(classes) / sizeof(classes[0]); c++) {
			struct world w;
			world_new(&w, NULL, 10);
			w.now += ms;
			struct tuple t =
				tup(classes[c].proto, "10.0.1.5", classes[c].proto == 47 ? 0 : 9, WEB, 0);
			uint32_t f = begin(&w, w.site_a, w.a1, t, NULL);
			for (unsigned i = 0; i < 6 && classes[c].step[i].then; i++) {
				pass(&w, f, classes[c].step[i].dir, classes[c].step[i].flags);
				assert_int_equal(state_of(&w, f), classes[c].step[i].then);
			}
			assert_int_equal(state_of(&w, f), classes[c].in);
			/* In the midst of its time a packet comes: it counts from then. */
			uint64_t timeout = fs_state_default_s(classes[c].in) * 1000ull;
			for (uint64_t until = w.now + timeout / 2; w.now < until; w.now += 100)
				assert_int_equal(fs_tick(w.fs, w.now, 1000), 0);
			if (classes[c].in != FS_TCP_RESET)
				pass(&w, f, FS_ORIG, classes[c].proto == IPPROTO_TCP ? A : 0);
			else
				pass(&w, f, FS_ORIG, R);
			uint64_t last = w.now;
			while (fs_tick(w.fs, w.now, 1000) == 0)
				w.now += 100;
			/* A unit of time less, since the last packet's time is cut to units. */
			assert_true(w.now + 100 > last + timeout);
			assert_true(w.now <= last + timeout + 1100);
			assert_int_equal(state_of(&w, f), FS_QUARANTINE);
			assert_int_equal(find(&w, w.site_a, t).flow, FS_NONE);
			last = w.now;
			timeout = fs_state_default_s(FS_QUARANTINE) * 1000ull;
			while (state_of(&w, f) == FS_QUARANTINE) {
				w.now += 100;
				fs_tick(w.fs, w.now, 1000);
			}
			assert_int_equal(state_of(&w, f), FS_FREE);
			assert_true(w.now + 100 > last + timeout);
			assert_true(w.now <= last + timeout + 1100);
			world_close(&w);
		}
	}
}

/* A state with a shorter timeout counts at once, however far away the flow was due before. */
static void test_shorter_state(void **state)
{
	(void)state;
	static const uint8_t ends[][2] = {{F, F}, {R, R}};
	for (size_t k = 0; k < 2; k++) {
		struct world w;
		world_new(&w, NULL, 10);
		uint32_t f = begin(&w, w.site_a, w.a1, tup(IPPROTO_TCP, "10.0.1.5", 1000, WEB, 443), NULL);
		pass(&w, f, P, SA);
		pass(&w, f, O, A);
		/* Long enough that the wheel has looked at it, and knows that it is established. */
		assert_int_equal(sleep_s(&w, 600), 0);
		pass(&w, f, O, ends[k][0]);
		pass(&w, f, P, ends[k][1]);
		assert_int_equal(sleep_s(&w, 239), 0);
		assert_int_equal(sleep_s(&w, 3), 1);
		world_close(&w);
	}
}

/* A timeout that becomes shorter by configuration takes effect; so does a very long one, and a pause. */
static void test_wheel(void **state)
{
	(void)state;
	struct world w;
	struct fs_stats st;
	world_new(&w, NULL, 1000);
	for (uint16_t p = 1; p <= 100; p++)
		begin(&w, w.site_a, w.a1, tup(IPPROTO_UDP, "10.0.1.5", p, WEB, 53), NULL);
	w.cfg.timeout_s[FS_UDP_ONE_WAY] = 5;
	fs_reconfigure(w.fs, &w.cfg);
	assert_int_equal(sleep_s(&w, 4), 0);
	assert_int_equal(sleep_s(&w, 3), 100);
	check(&w);

	/* Longer than the wheel's horizon; 30 h in ticks of a minute. */
	w.cfg.timeout_s[FS_UDP_ONE_WAY] = 30 * 3600;
	fs_reconfigure(w.fs, &w.cfg);
	begin(&w, w.site_a, w.a1, tup(IPPROTO_UDP, "10.0.1.5", 1000, WEB, 53), NULL);
	for (int minute = 0; minute < 30 * 60 - 1; minute++) {
		w.now += 60000;
		assert_int_equal(fs_tick(w.fs, w.now, 1000), 0);
		if (minute % 100 == 0)
			check(&w);
	}
	w.now += 62000;
	assert_int_equal(fs_tick(w.fs, w.now, 1000), 1);

	/* The loop stood still for a week, and for half a turn. */
	for (int k = 0; k < 2; k++) {
		w.cfg.timeout_s[FS_UDP_ONE_WAY] = 120;
		fs_reconfigure(w.fs, &w.cfg);
		for (uint16_t p = 2000; p < 2100; p++)
			begin(&w, w.site_a, w.a1, tup(IPPROTO_UDP, "10.0.1.5", p, WEB, 53), NULL);
		w.now += k ? 4096 * 1000 : 7 * 86400 * 1000ull;
		unsigned ended = 0, calls = 0;
		while (ended < 100 && calls++ < 40)
			ended += fs_tick(w.fs, w.now, 10);
		assert_int_equal(ended, 100);
		assert_true(calls >= 10); /* the budget was kept */
		check(&w);
	}
	fs_get_stats(w.fs, &st);
	assert_int_equal(st.used, 0);
	assert_int_equal(st.expired, 301);
	assert_int_equal(st.evicted, 0);
	world_close(&w);
}

/* A flow picked up in mid-stream (ACK, seq 5000000, 100 octets, ack 7000000) is the site's only when the other side
 * acknowledges what the site sent. Each row is the next packet of a flow of its own, and what becomes of it; the last
 * column: whether the trial is over after it. An answer to nothing never passes. */
static void test_trial(void **state)
{
	static const struct {
		const char *what;
		enum fs_dir dir;
		uint8_t flags;
		uint32_t seq, ack;
		bool passes, over;
	} rows[] = {
		{"acknowledges all of it", P, A, 7000000, 5000100, true, true},
		{"acknowledges half of it", P, A, 7000000, 5000050, true, true},
		{"acknowledges what was in flight before", P, A, 7000000, 4900000, true, true},
		{"acknowledges what was never sent", P, A, 7000000, 5000101, false, false},
		{"acknowledges what is long past", P, A, 7000000, 3900000, false, false},
		{"data of another's connection", P, A, 1234, 99, false, false},
		{"half of the sequence space away", P, A, 7000000, 5000100u + 0x80000000u, false, false},
		{"SYN|ACK of another's", P, SA, 1234, 99, false, false},
		{"a reset at the place", P, R, 7000000, 0, true, false},
		{"a reset elsewhere", P, R, 7200000, 0, false, false},
		{"a reset that acknowledges another's data", P, R | A, 7000000, 99, false, false},
		{"a SYN from the other side", P, S, 1, 0, false, false},
		{"the site goes on", O, A, 5000100, 7000000, true, false},
		{"the site begins anew", O, S, 42, 0, true, true},
	};
	struct world w;

	(void)state;
	world_new(&w, NULL, 1000);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct tuple t = tup(IPPROTO_TCP, "10.0.1.5", (uint16_t)(1000 + i), WEB, 80);
		struct fs_packet pk = packet(w.site_a, w.a1, t, A);
		struct fs_half h;
		struct fs_hit hit;
		uint64_t seen;

		pk.seq = 5000000;
		pk.ack = 7000000;
		pk.tcp_len = 100;
		assert_int_equal(fs_begin(w.fs, &pk, w.egress, w.egress, false, 0, w.now, &hit), DROP_NONE);
		assert_int_equal(fs_pass(w.fs, hit, &pk, w.now), DROP_NONE);
		seen = body_of(w.fs, hit.flow)->seen;

		hit.dir = rows[i].dir;
		fs_half(w.fs, hit.flow, hit.dir, &h);
		pk = packet(h.realm, h.via, h.t, rows[i].flags);
		pk.seq = rows[i].seq;
		pk.ack = rows[i].ack;
		w.now += 1000;
		if (fs_pass(w.fs, hit, &pk, w.now) != (rows[i].passes ? DROP_NONE : DROP_TCP_UNPROVEN))
			fail_msg("%s", rows[i].what);
		if (!rows[i].passes) /* and is nothing that has happened */
			assert_int_equal(body_of(w.fs, hit.flow)->seen, seen);

		hit.dir = P;
		fs_half(w.fs, hit.flow, P, &h);
		pk = packet(h.realm, h.via, h.t, A);
		pk.ack = 0x70000000;
		pk.tcp_len = 1;
		if (fs_pass(w.fs, hit, &pk, w.now) != (rows[i].over ? DROP_TCP_WINDOW : DROP_TCP_UNPROVEN))
			fail_msg("%s: afterwards", rows[i].what);
	}
	/* The site's SYN is what must be acknowledged then, and just that. */
	struct fs_packet pk = packet(w.site_a, w.a1, tup(IPPROTO_TCP, "10.0.1.5", 999, WEB, 80), A);
	struct fs_hit hit;
	struct fs_half h;
	pk.seq = 5000000;
	assert_int_equal(fs_begin(w.fs, &pk, w.egress, w.egress, false, 0, w.now, &hit), DROP_NONE);
	pk.tcp_flags = S;
	pk.seq = 41;
	assert_int_equal(fs_pass(w.fs, hit, &pk, w.now), DROP_NONE);
	fs_half(w.fs, hit.flow, P, &h);
	hit.dir = P;
	pk = packet(h.realm, h.via, h.t, SA);
	pk.ack = 41;
	assert_int_equal(fs_pass(w.fs, hit, &pk, w.now), DROP_TCP_WINDOW);
	pk.ack = 42;
	assert_int_equal(fs_pass(w.fs, hit, &pk, w.now), DROP_NONE);
	check(&w);
	world_close(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_tcp),
		cmocka_unit_test(test_trial),
		cmocka_unit_test(test_beginnings),
		cmocka_unit_test(test_timeouts),
		cmocka_unit_test(test_shorter_state),
		cmocka_unit_test(test_wheel),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
