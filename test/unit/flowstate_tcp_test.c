/* SPDX-License-Identifier: GPL-2.0-or-later */
/* flowstate_tcp_test.c - which TCP segments fit their connection.
 *
 * Each case is a conversation in numbers relative to both initial sequence numbers. It runs with several pairs of those,
 * also such that the numbers go over 2^32 and over 2^31 in its midst.
 */
#include "test/unit/flowstate_help.h"

#define WEB "203.0.113.80"
#define S   FLAG_SYN
#define A   FLAG_ACK
#define F   (FLAG_FIN | FLAG_ACK)
#define R   FLAG_RST
#define RA  (FLAG_RST | FLAG_ACK)
#define SA  (FLAG_SYN | FLAG_ACK)
#define O   FS_ORIG
#define P   FS_REPLY

enum { END, PASS, DROP, LIBERAL /* passes by grace: it is dropped where the tunnel is not liberal */ };

struct seg {
	enum fs_dir dir;
	uint8_t flags;
	int64_t seq, ack; /* relative: the SYN is 0 */
	uint32_t len;
	uint16_t win;
	uint8_t wscale; /* shift + 1 */
	int64_t sack;   /* relative to the other's; 0: none */
	int then;
	enum fs_state state; /* FS_FREE: not looked at */
};

/* A handshake, both windows 1000, no scaling. */
#define SHAKE                                                                                                \
	{O, S, 0, 0, 0, 1000, 0, 0, PASS, FS_TCP_OPENING},                                                   \
		{P, SA, 0, 1, 0, 1000, 0, 0, PASS, FS_TCP_OPENING},                                          \
	{                                                                                                    \
		O, A, 1, 1, 0, 1000, 0, 0, PASS, FS_TCP_ESTABLISHED                                          \
	}
/* The same with shifts of 7 and 2, and windows of 128,000 and 4,000. */
#define SCALED                                                                                               \
	{O, S, 0, 0, 0, 1000, 8, 0, PASS, FS_FREE}, {P, SA, 0, 1, 0, 1000, 3, 0, PASS, FS_FREE},             \
		{O, A, 1, 1, 0, 1000, 0, 0, PASS, FS_FREE},                                                  \
	{                                                                                                    \
		P, A, 1, 1, 0, 1000, 0, 0, PASS, FS_TCP_ESTABLISHED                                          \
	}

static const struct {
	const char *name;
	struct seg seg[14];
} cases[] = {
	/* ---- windows */
	{"data within the window, and not beyond",
		{SHAKE, {O, A, 1, 1, 1000, 1000, 0, 0, PASS, 0}, {O, A, 1002, 1, 10, 1000, 0, 0, DROP, 0},
			{O, A, 2001, 1, 10, 1000, 0, 0, DROP, 0}, {P, A, 1, 1001, 0, 1000, 0, 0, PASS, 0},
			{O, A, 1001, 1, 1000, 1000, 0, 0, PASS, 0}}},
	{"a probe of one octet into a closed window",
		{SHAKE, {O, A, 1, 1, 1000, 1000, 0, 0, PASS, 0}, {P, A, 1, 1001, 0, 0, 0, 0, PASS, 0},
			{O, A, 1001, 1, 1, 1000, 0, 0, PASS, 0}, {P, A, 1, 1001, 0, 0, 0, 0, PASS, 0},
			{P, A, 1, 1001, 0, 500, 0, 0, PASS, 0}, {O, A, 1001, 1, 500, 1000, 0, 0, PASS, 0},
			{O, A, 1600, 1, 1, 1000, 0, 0, DROP, 0}}},
	{"keepalive: one octet before what was acknowledged",
		{SHAKE, {O, A, 1, 1, 500, 1000, 0, 0, PASS, 0}, {P, A, 1, 501, 0, 1000, 0, 0, PASS, 0},
			{O, A, 500, 1, 0, 1000, 0, 0, PASS, 0}, {O, A, 500, 1, 1, 1000, 0, 0, PASS, 0}}},
	{"retransmission of what the window holds, not of what is long past",
		{SHAKE, {O, A, 1, 1, 1000, 1000, 0, 0, PASS, 0}, {P, A, 1, 1001, 0, 1000, 0, 0, PASS, 0},
			{O, A, 1001, 1, 1000, 1000, 0, 0, PASS, 0}, {O, A, 501, 1, 500, 1000, 0, 0, PASS, 0},
			{O, A, 401, 1, 500, 1000, 0, 0, DROP, 0}}},
	{"an acknowledgment of what was never sent",
		{SHAKE, {P, A, 1, 2, 0, 1000, 0, 0, DROP, 0}, {P, A, 1, 70000, 100, 1000, 0, 0, DROP, 0},
			{P, A, 1, 1, 100, 1000, 0, 0, PASS, 0}}},
	{"an acknowledgment of what is long past",
		{SCALED, {P, A, 1, 1, 60000, 1000, 0, 0, PASS, 0}, {O, A, 1, 60001, 0, 1000, 0, 0, PASS, 0},
			{P, A, 60001, 1, 60000, 1000, 0, 0, PASS, 0},
			{O, A, 1, 120001, 0, 1000, 0, 0, PASS, 0},
			{P, A, 120001, 1, 60000, 1000, 0, 0, PASS, 0},
			{O, A, 1, 60001, 0, 1000, 0, 0, PASS, 0}, {O, A, 1, 50001, 0, 1000, 0, 0, DROP, 0},
			{O, A, 1, 50001, 0, 1000, 0, 180001, PASS, 0}}},
	{"a hole: SACK does not move the window",
		{SHAKE, {P, A, 501, 1, 500, 1000, 0, 0, PASS, 0}, {O, A, 1, 1, 0, 1000, 0, 1001, PASS, 0},
			{P, A, 1002, 1, 1, 1000, 0, 0, DROP, 0}, {P, A, 1, 1, 500, 1000, 0, 0, PASS, 0},
			{O, A, 1, 1001, 0, 1000, 0, 0, PASS, 0}, {P, A, 1001, 1, 500, 1000, 0, 0, PASS, 0}}},
	{"far off in both directions",
		{SHAKE, {O, A, 1 + (1LL << 31), 1, 1, 1000, 0, 0, DROP, 0},
			{O, A, -70000, 1, 1, 1000, 0, 0, DROP, 0},
			{P, A, 1LL << 30, 1, 1, 1000, 0, 0, DROP, 0}, {O, A, 1, 1, 1, 1000, 0, 0, PASS, 0}}},
	{"a super-packet moves the window as its segments would",
		{SCALED, {P, A, 1, 1, 64000, 1000, 0, 0, PASS, 0},
			{P, A, 64001, 1, 64000, 1000, 0, 0, PASS, 0},
			{P, A, 128003, 1, 1000, 1000, 0, 0, DROP, 0},
			{O, A, 1, 128001, 0, 1000, 0, 0, PASS, 0},
			{P, A, 128001, 1, 64000, 1000, 0, 0, PASS, 0}}},
	/* ---- scaling */
	{"scaled windows", /* the server's 4,000 */
		{SCALED, {O, A, 1, 1, 4000, 1000, 0, 0, PASS, 0}, {O, A, 4002, 1, 1, 1000, 0, 0, DROP, 0}}},
	{"one side does not scale: nobody does",
		{{O, S, 0, 0, 0, 1000, 8, 0, PASS, 0}, {P, SA, 0, 1, 0, 1000, 0, 0, PASS, 0},
			{O, A, 1, 1, 0, 1000, 0, 0, PASS, 0}, {P, A, 1, 1, 1000, 1000, 0, 0, PASS, 0},
			{P, A, 1002, 1, 1, 1000, 0, 0, DROP, 0}}},
	/* ---- beginnings */
	{"SYN|ACK must acknowledge the SYN",
		{{O, S, 0, 0, 0, 1000, 0, 0, PASS, 0}, {P, SA, 0, 0, 0, 1000, 0, 0, DROP, FS_TCP_OPENING},
			{P, SA, 0, 2, 0, 1000, 0, 0, DROP, FS_TCP_OPENING},
			{P, SA, 0, 1, 0, 1000, 0, 0, PASS, FS_TCP_OPENING},
			{O, A, 1, 1, 0, 1000, 0, 0, PASS, FS_TCP_ESTABLISHED}}},
	{"data does not answer a SYN; a bare challenge passes, and says nothing",
		{{O, S, 0, 0, 0, 1000, 0, 0, PASS, 0}, {P, A, 777, 555, 10, 1000, 0, 0, DROP, 0},
			{P, A, 777, 555, 0, 1000, 0, 0, PASS, FS_TCP_OPENING},
			{O, R, 554, 0, 0, 0, 0, 0, DROP, FS_TCP_OPENING},
			{O, S, 0, 0, 0, 1000, 0, 0, PASS, FS_TCP_OPENING}}},
	{"a server still has the last connection, of which nobody else knows: SYN, challenge, RST, SYN",
		{{O, S, 0, 0, 0, 1000, 0, 0, PASS, 0}, {O, R, -5000, 0, 0, 0, 0, 0, DROP, FS_TCP_OPENING},
			{P, A, 777, -5000, 0, 1000, 0, 0, PASS, FS_TCP_OPENING},
			{O, R, -5000, 0, 0, 0, 0, 0, PASS, FS_TCP_OPENING},
			{O, S, 0, 0, 0, 1000, 0, 0, PASS, FS_TCP_OPENING},
			{P, SA, 0, 1, 0, 1000, 0, 0, PASS, FS_TCP_OPENING},
			{O, R, -5000, 0, 0, 0, 0, 0, DROP, FS_TCP_OPENING},
			{O, A, 1, 1, 0, 1000, 0, 0, PASS, FS_TCP_ESTABLISHED}}},
	{"refused", {{O, S, 0, 0, 0, 1000, 0, 0, PASS, 0}, {P, RA, 0, 2, 0, 0, 0, 0, DROP, FS_TCP_OPENING},
			    {P, R, 0, 0, 0, 0, 0, 0, DROP, FS_TCP_OPENING},
			    {P, RA, 0, 1, 0, 0, 0, 0, PASS, FS_TCP_RESET}}},
	{"taken back", {{O, S, 0, 0, 0, 1000, 0, 0, PASS, 0}, {O, R, 5, 0, 0, 0, 0, 0, DROP, FS_TCP_OPENING},
			       {O, R, 1, 0, 0, 0, 0, 0, PASS, FS_TCP_RESET}}},
	{"the SYN once more, and another one instead of it",
		{{O, S, 0, 0, 0, 1000, 0, 0, PASS, 0}, {O, S, 0, 0, 0, 1000, 0, 0, PASS, 0},
			{O, S, 5000, 0, 0, 1000, 0, 0, PASS, 0}, {P, SA, 0, 1, 0, 1000, 0, 0, DROP, 0},
			{P, SA, 0, 5001, 0, 1000, 0, 0, PASS, 0},
			{O, A, 5001, 1, 0, 1000, 0, 0, PASS, FS_TCP_ESTABLISHED}}},
	{"data in the SYN, acknowledged or not (RFC 7413)",
		{{O, S, 0, 0, 100, 1000, 0, 0, PASS, 0}, {P, SA, 0, 1, 0, 1000, 0, 0, PASS, 0},
			{O, A, 1, 1, 100, 1000, 0, 0, PASS, FS_TCP_ESTABLISHED},
			{P, A, 1, 101, 0, 1000, 0, 0, PASS, 0}}},
	{"data right behind SYN|ACK",
		{{O, S, 0, 0, 100, 1000, 0, 0, PASS, 0}, {P, SA, 0, 101, 0, 1000, 0, 0, PASS, 0},
			{P, A, 1, 101, 500, 1000, 0, 0, PASS, 0}, {P, A, 501, 101, 500, 1000, 0, 0, PASS, 0},
			{P, A, 1002, 101, 1, 1000, 0, 0, DROP, 0},
			{O, A, 101, 501, 0, 1000, 0, 0, PASS, FS_TCP_ESTABLISHED}}},
	{"both open at once (RFC 9293 3.5)",
		{{O, S, 0, 0, 0, 1000, 0, 0, PASS, 0}, {P, S, 0, 0, 0, 1000, 0, 0, PASS, FS_TCP_OPENING},
			{O, SA, 0, 1, 0, 1000, 0, 0, PASS, FS_TCP_OPENING},
			{P, SA, 0, 1, 0, 1000, 0, 0, PASS, FS_TCP_ESTABLISHED},
			{O, A, 1, 1, 1000, 1000, 0, 0, PASS, 0}, {O, A, 1002, 1, 1, 1000, 0, 0, DROP, 0}}},
	{"SYN|ACK by a cookie is another one the second time",
		{{O, S, 0, 0, 0, 1000, 0, 0, PASS, 0}, {P, SA, 0, 1, 0, 1000, 0, 0, PASS, 0},
			{O, S, 0, 0, 0, 1000, 0, 0, PASS, 0}, {P, SA, 500000, 1, 0, 1000, 0, 0, PASS, 0},
			{O, A, 1, 500001, 0, 1000, 0, 0, PASS, FS_TCP_ESTABLISHED}}},
	/* ---- SYN within a connection */
	{"a blind SYN, and the challenge", {SHAKE, {P, S, 12345, 0, 0, 1000, 0, 0, PASS, FS_TCP_ESTABLISHED},
						   {O, A, 1, 1, 0, 1000, 0, 0, PASS, FS_TCP_ESTABLISHED},
						   {P, A, 1, 1, 10, 1000, 0, 0, PASS, FS_TCP_ESTABLISHED}}},
	{"the client was switched off: SYN, challenge, RST, SYN",
		{SHAKE, {O, S, 900000, 0, 0, 1000, 0, 0, PASS, FS_TCP_ESTABLISHED},
			{P, A, 1, 1, 0, 1000, 0, 0, PASS, FS_TCP_ESTABLISHED},
			{O, R, 1, 0, 0, 0, 0, 0, PASS, FS_TCP_RESET},
			{O, S, 900000, 0, 0, 1000, 0, 0, PASS, FS_TCP_OPENING},
			{P, SA, 3000000, 900001, 0, 1000, 0, 0, PASS, FS_TCP_OPENING},
			{O, A, 900001, 3000001, 0, 1000, 0, 0, PASS, FS_TCP_ESTABLISHED}}},
	{"both were switched off: SYN, SYN|ACK",
		{SHAKE, {O, S, 900000, 0, 0, 1000, 0, 0, PASS, FS_TCP_ESTABLISHED},
			{P, SA, 3000000, 900002, 0, 1000, 0, 0, DROP, FS_TCP_ESTABLISHED},
			{P, SA, 3000000, 900001, 0, 1000, 0, 0, PASS, FS_TCP_OPENING},
			{O, A, 900001, 3000001, 0, 1000, 0, 0, PASS, FS_TCP_ESTABLISHED},
			{O, A, 1, 1, 10, 1000, 0, 0, DROP, 0}}},
	{"both were switched off, and nobody listens",
		{SHAKE, {O, S, 900000, 0, 0, 1000, 0, 0, PASS, FS_TCP_ESTABLISHED},
			{P, RA, 900000, 900001, 0, 0, 0, 0, PASS, FS_TCP_RESET}}},
	{"SYN|ACK in the midst tells nothing", /* but for its acknowledging, the second would not fit */
		{SHAKE, {P, SA, 500, 1, 0, 1, 0, 0, PASS, FS_TCP_ESTABLISHED},
			{O, A, 1, 501, 0, 1000, 0, 0, DROP, 0}, {P, SA, 0, 1, 0, 1000, 0, 0, PASS, 0},
			{O, A, 1, 1, 1000, 1000, 0, 0, PASS, 0}}},
	{"nobody answers his own SYN",
		{SHAKE, {O, S, 900000, 0, 0, 1000, 0, 0, PASS, 0},
			{O, SA, 3000000, 900001, 0, 1000, 0, 0, DROP, FS_TCP_ESTABLISHED}}},
	/* ---- RST */
	{"a reset beside the window ends nothing",
		{SHAKE, {O, A, 1, 1, 500, 1000, 0, 0, PASS, 0}, {P, A, 1, 501, 0, 1000, 0, 0, PASS, 0},
			{O, R, 500, 0, 0, 0, 0, 0, PASS, FS_TCP_ESTABLISHED}, /* for the host to see */
			{O, R, -500, 0, 0, 0, 0, 0, DROP, FS_TCP_ESTABLISHED},
			{O, R, 1502, 0, 0, 0, 0, 0, DROP, FS_TCP_ESTABLISHED},
			{O, R, 501 + (1LL << 31), 0, 0, 0, 0, 0, DROP, FS_TCP_ESTABLISHED},
			{O, R, 501, 0, 0, 0, 0, 0, PASS, FS_TCP_RESET}}},
	{"a reset in answer to data: at the place that the data acknowledged",
		{SHAKE, {P, A, 1, 1, 100, 1000, 0, 0, PASS, 0},
			{O, R, 1, 0, 0, 0, 0, 0, PASS, FS_TCP_RESET}}},
	{"one that fits, but was blind: both go on",
		{SHAKE, {P, R, 500, 0, 0, 0, 0, 0, PASS, FS_TCP_RESET},
			{O, A, 1, 1, 10, 1000, 0, 0, PASS, FS_TCP_RESET},
			{P, A, 1, 11, 0, 1000, 0, 0, PASS, FS_TCP_ESTABLISHED}}},
	/* ---- ends */
	{"FIN counts as an octet",
		{SHAKE, {O, F, 1, 1, 10, 1000, 0, 0, PASS, FS_TCP_HALF_CLOSED},
			{P, A, 1, 13, 0, 1000, 0, 0, DROP, 0}, {P, A, 1, 12, 500, 1000, 0, 0, PASS, 0},
			{P, F, 501, 12, 0, 1000, 0, 0, PASS, FS_TCP_CLOSING},
			{O, A, 12, 502, 0, 1000, 0, 0, PASS, FS_TCP_CLOSING}}},
	{"a FIN beside the window closes nothing",
		{SHAKE, {P, F, 5000, 1, 0, 1000, 0, 0, DROP, FS_TCP_ESTABLISHED}}},
	{"a SYN in TIME-WAIT begins anew, and what was sent late before is not of it",
		{SHAKE, {O, F, 1, 1, 0, 1000, 0, 0, PASS, 0},
			{P, F, 1, 2, 0, 1000, 0, 0, PASS, FS_TCP_CLOSING},
			{O, A, 2, 2, 0, 1000, 0, 0, PASS, FS_TCP_CLOSING},
			{O, S, 70000, 0, 0, 1000, 0, 0, PASS, FS_TCP_OPENING},
			{P, F, 1, 2, 10, 1000, 0, 0, DROP, FS_TCP_OPENING},
			{P, SA, 80000, 70001, 0, 1000, 0, 0, PASS, FS_TCP_OPENING},
			{O, A, 70001, 80001, 0, 1000, 0, 0, PASS, FS_TCP_ESTABLISHED}}},
	/* ---- stalled */
	{"three retransmissions without an answer, and an answer",
		{SHAKE, {O, A, 1, 1, 100, 1000, 0, 0, PASS, FS_TCP_ESTABLISHED},
			{O, A, 1, 1, 100, 1000, 0, 0, PASS, FS_TCP_ESTABLISHED},
			{O, A, 1, 1, 100, 1000, 0, 0, PASS, FS_TCP_ESTABLISHED},
			{O, A, 1, 1, 100, 1000, 0, 0, PASS, FS_TCP_STALLED},
			{P, A, 1, 101, 0, 1000, 0, 0, PASS, FS_TCP_ESTABLISHED}}},
	{"retransmission of what was acknowledged is none",
		{SHAKE, {O, A, 1, 1, 100, 1000, 0, 0, PASS, 0}, {P, A, 1, 101, 0, 1000, 0, 0, PASS, 0},
			{O, A, 1, 1, 100, 1000, 0, 0, PASS, 0}, {O, A, 1, 1, 100, 1000, 0, 0, PASS, 0},
			{O, A, 1, 1, 100, 1000, 0, 0, PASS, FS_TCP_ESTABLISHED}}},
	/* ---- liberal */
	{"a liberal tunnel: all but resets pass, and say nothing",
		{SHAKE, {O, A, 100000, 1, 10, 1000, 0, 0, LIBERAL, 0},
			{P, A, 1, 500000, 0, 1000, 0, 0, LIBERAL, 0},
			{P, F, 700000, 1, 0, 1000, 0, 0, LIBERAL, FS_TCP_ESTABLISHED},
			{P, R, 700000, 0, 0, 0, 0, 0, DROP, FS_TCP_ESTABLISHED}}},
};

static void run(struct world *w, size_t c, uint16_t port, uint32_t iss, uint32_t irs, bool liberal)
{
	struct tuple t = tup(IPPROTO_TCP, "10.0.1.5", port, WEB, 443);
	struct fs_hit hit = {.flow = FS_NONE};

	for (unsigned i = 0; i < 14 && cases[c].seg[i].then; i++) {
		const struct seg *s = &cases[c].seg[i];
		uint32_t mine = s->dir == O ? iss : irs, other = s->dir == O ? irs : iss;
		struct flow_body before;
		bool passes = s->then == PASS || (s->then == LIBERAL && liberal);
		struct fs_packet pk = packet(w->site_a, w->a1, t, s->flags);
		enum drop d;

		if (s->dir == P) {
			struct fs_half h;
			fs_half(w->fs, hit.flow, P, &h);
			pk = packet(h.realm, h.via, h.t, s->flags);
		}
		pk.seq = mine + (uint32_t)s->seq;
		pk.ack = s->flags & A ? other + (uint32_t)s->ack : 0;
		pk.tcp_len = s->len;
		pk.window = s->win;
		pk.wscale = s->wscale;
		pk.sack = s->sack ? other + (uint32_t)s->sack : 0;
		pk.liberal = liberal;
		if (i == 0)
			assert_int_equal(fs_begin(w->fs, &pk, w->egress, w->egress, false, 0, w->now, &hit),
				DROP_NONE);
		hit.dir = s->dir;
		before = *body_of(w->fs, hit.flow);
		d = fs_pass(w->fs, hit, &pk, w->now);
		if (d != (passes ? DROP_NONE : DROP_TCP_WINDOW))
			fail_msg("%s, segment %u: %s (numbers %08x, %08x)", cases[c].name, i + 1,
				drop_name(d), iss, irs);
		if (!passes) /* it has changed nothing */
			assert_memory_equal(&before, body_of(w->fs, hit.flow), sizeof(before));
		if (s->state && head_of(w->fs, hit.flow)->state != s->state)
			fail_msg("%s, segment %u: %s, not %s", cases[c].name, i + 1,
				fs_state_name(head_of(w->fs, hit.flow)->state), fs_state_name(s->state));
	}
}

static void test_cases(void **state)
{
	static const uint32_t numbers[][2] = {{0, 0}, {1000, 2000}, {UINT32_MAX - 500, 77},
		{77, UINT32_MAX - 500}, {INT32_MAX - 500, INT32_MAX - 900}};
	struct world w;

	(void)state;
	world_new(&w, NULL, 1000);
	for (size_t c = 0; c < sizeof(cases) / sizeof(cases[0]); c++)
		for (size_t n = 0; n < sizeof(numbers) / sizeof(numbers[0]); n++) {
			uint16_t port = (uint16_t)(1000 + c * 10 + n);

			run(&w, c, port, numbers[n][0], numbers[n][1], false);
		}
	check(&w);
	world_close(&w);
}

/* The one case that says LIBERAL, where the tunnel is. */
static void test_liberal(void **state)
{
	size_t last = sizeof(cases) / sizeof(cases[0]) - 1;
	struct world w;

	(void)state;
	world_new(&w, NULL, 10);
	run(&w, last, 1, 1000, 2000, true);
	world_close(&w);
}

/* Picked up in mid-stream: until the trial is over what the site sends passes; then windows of any scale are allowed for,
 * but nothing from elsewhere in the sequence space. */
static void test_learning(void **state)
{
	static const struct {
		enum fs_dir dir;
		uint32_t seq, ack, len;
		bool passes;
	} rows[] = {
		{P, 7000000, 5000100, 1000, true},
		{O, 5000100, 7001000, 1000000, true},
		{P, 7001000, 6000100, 900000000, true},
		{O, 6000100, 907001000, 100, true},
		{P, 907001000u + 0x7fff0000u, 6000200, 1, false},
		{P, 907001000, 6000201, 1, false},
		{O, 6000200, 907001001, 1, false},
		{O, 6000200u - 0x7fff0000u, 907001000, 1, false},
		{P, 907001000, 6000200, 1, true},
	};
	struct fs_packet pk;
	struct fs_hit hit;
	struct world w;

	(void)state;
	world_new(&w, NULL, 10);
	pk = packet(w.site_a, w.a1, tup(IPPROTO_TCP, "10.0.1.5", 1, WEB, 443), A);
	pk.seq = 5000000;
	pk.ack = 7000000;
	pk.tcp_len = 100;
	assert_int_equal(fs_begin(w.fs, &pk, w.egress, w.egress, false, 0, w.now, &hit), DROP_NONE);
	assert_int_equal(fs_pass(w.fs, hit, &pk, w.now), DROP_NONE);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct fs_half h;

		hit.dir = rows[i].dir;
		fs_half(w.fs, hit.flow, hit.dir, &h);
		pk = packet(h.realm, h.via, h.t, A);
		pk.seq = rows[i].seq;
		pk.ack = rows[i].ack;
		pk.tcp_len = rows[i].len;
		pk.window = 1000;
		if (fs_pass(w.fs, hit, &pk, w.now) != (rows[i].passes ? DROP_NONE : DROP_TCP_WINDOW))
			fail_msg("row %zu", i + 1);
	}
	world_close(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cases),
		cmocka_unit_test(test_liberal),
		cmocka_unit_test(test_learning),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
