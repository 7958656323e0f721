/* SPDX-License-Identifier: GPL-2.0-or-later */
/* events.c - what it costs the flow step that somebody follows the flows. The method is in README.md.
 *
 * usage: events [FILE]      writes its results there [build/bench/events.json]
 */
#include "gateway/control_private.h"
#include "gateway/flow_events.h"
#include "gateway/gateway.h"
#include "test/bench/flows.h"

#define RUNS  5
#define FLOWS 1000000u
#define BATCH 64u
#define A_TURN                                                                                               \
	8u /* batches between two pages: what one descriptor may take before the loop looks at the others */
#define ONE_WAY 120u

enum { ALONE, KEPT, READ, MODES }; /* nobody follows; somebody does and does not read; somebody reads */
enum { BEGIN, PASS, EXPIRE, STEPS };
static const char *const steps[] = {"begin", "pass", "expire"};

static char page[CONTROL_OUT_MAX];

/* ns an event or packet: of the flow step by itself, and with the lines that were made meanwhile */
struct cost {
	double path[RUNS], all[RUNS];
};
static struct cost cost[MODES][STEPS];
static uint64_t lines_made[RUNS], lost[RUNS];

static void die(const char *what)
{
	fprintf(stderr, "events: %s\n", what);
	exit(1);
}

struct bench {
	struct gateway gw;
	struct control_request follower;
	struct owners o;
	uint64_t pages_ns;
	struct fs_key key[BATCH];
	struct fs_hit hit[BATCH];
};

static void open_bench(struct bench *b, int mode)
{
	struct fs_config c = {.max = FLOWS, .nshards = 1};
	struct fs_open_report rep;
	struct jsonw w;

	for (int s = 0; s < FS_STATE_COUNT; s++)
		c.timeout_s[s] = fs_state_default_s(s);
	if (fs_open(&b->gw.fs, &c, T0_MS, &rep) < 0)
		die("cannot open the flow table");
	owners_bind(&b->o, b->gw.fs);
	b->gw.egress_id = b->o.egress;
	if (flow_events_open(&b->gw.events, &b->gw) < 0)
		die("no memory");
	b->follower = (struct control_request){.gw = &b->gw, .flows = {.proto = -1}};
	jw_init(&w, page, sizeof(page));
	if (mode != ALONE)
		control_follow(&b->follower, &w);
}

static void close_bench(struct bench *b, int run)
{
	lines_made[run] += b->follower.flows.listed;
	lost[run] += b->follower.flows.lost;
	control_follow_leave(&b->follower);
	flow_events_close(b->gw.events);
	fs_close(b->gw.fs);
}

/* The end of a turn of the loop: a page, if there is somebody to read it. */
static void turn(struct bench *b, int mode)
{
	uint64_t t = cpu_ns();
	struct jsonw w;

	if (mode != READ)
		return;
	jw_init(&w, page, sizeof(page));
	control_follow_page(&b->follower, &w);
	b->pages_ns += cpu_ns() - t;
}

static void flow_packet(const struct bench *b, uint32_t i, struct fs_packet *pk)
{
	unsigned site = i * 2654435761u >> 26;

	*pk = (struct fs_packet){.packets = 1, .octets = 100, .via = b->o.tunnel[site]};
	pk->key.realm = b->o.site[site];
	pk->key.t = (struct tuple){.src = addr_from4(htonl(0x0a000000 | i)),
		.dst = addr_from4(htonl(0x5db8d822)),
		.sport = htons(40000),
		.dport = htons(443),
		.proto = IPPROTO_UDP};
}

/* Each flow's packet through the flow step, in batches as they come; new flows begin. */
static uint64_t packets(struct bench *b, int mode, uint64_t now_ms)
{
	struct fs_packet pk[BATCH];
	uint64_t t = cpu_ns();

	for (uint32_t i = 0; i < FLOWS; i += BATCH) {
		for (unsigned k = 0; k < BATCH; k++) {
			flow_packet(b, i + k, &pk[k]);
			b->key[k] = pk[k].key;
		}
		fs_find(b->gw.fs, b->key, BATCH, b->hit);
		for (unsigned k = 0; k < BATCH; k++)
			if (b->hit[k].flow != FS_NONE)
				fs_prefetch(b->gw.fs, b->hit[k].flow);
		for (unsigned k = 0; k < BATCH; k++) {
			struct fs_hit hit = b->hit[k];

			if (hit.flow == FS_NONE &&
				fs_begin(b->gw.fs, &pk[k], b->gw.egress_id, b->gw.egress_id, false, 0, now_ms,
					&hit) != DROP_NONE)
				die("a flow was not begun");
			if (fs_pass(b->gw.fs, hit, &pk[k], now_ms) != DROP_NONE)
				die("a packet did not pass");
		}
		if (i / BATCH % A_TURN == A_TURN - 1)
			turn(b, mode);
	}
	return cpu_ns() - t;
}

/* All of them fall due, and end by ticks as the gateway makes them. */
static uint64_t expire(struct bench *b, int mode, uint64_t now_ms)
{
	uint64_t t = cpu_ns();

	for (uint32_t ended = 0; ended < FLOWS; now_ms += 100) {
		ended += fs_tick(b->gw.fs, now_ms, 4096);
		turn(b, mode);
	}
	return cpu_ns() - t;
}

static void run_mode(int mode, int run)
{
	static struct bench b;

	b = (struct bench){.pages_ns = 0};
	open_bench(&b, mode);
	for (int step = 0; step < STEPS; step++) {
		uint64_t all, before = b.pages_ns;

		all = step == EXPIRE ? expire(&b, mode, T0_MS + ONE_WAY * 1000 + 2000)
				     : packets(&b, mode, T0_MS + (uint64_t)step * 1000);
		cost[mode][step].all[run] = (double)all / FLOWS;
		cost[mode][step].path[run] = (double)(all - (b.pages_ns - before)) / FLOWS;
	}
	close_bench(&b, run);
}

static int ascending(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double median(const double *v)
{
	double s[RUNS];

	memcpy(s, v, sizeof(s));
	qsort(s, RUNS, sizeof(*s), ascending);
	return s[RUNS / 2];
}

static void print_runs(FILE *f, const char *name, const double *v)
{
	fprintf(f, "\"%s\": [", name);
	for (unsigned i = 0; i < RUNS; i++)
		fprintf(f, "%s%.1f", i ? ", " : "", v[i]);
	fprintf(f, "]");
}

static void result(
	FILE *f, const char *step, const char *what, const double *with, const double *without, bool last)
{
	fprintf(f,
		"  {\"name\": \"events_%s_%s\", \"unit\": \"ns\", \"ours\": %.1f, \"peer\": %.1f, "
		"\"peer_name\": \"the same, and nobody follows\", \"ratio\": %.3f, ",
		step, what, median(with), median(without), median(without) / median(with));
	print_runs(f, "runs", with);
	fprintf(f, ", ");
	print_runs(f, "peer_runs", without);
	fprintf(f, "}%s\n", last ? "" : ",");
}

int main(int argc, char **argv)
{
	FILE *f = fopen(argc > 1 ? argv[1] : "build/bench/events.json", "w");

	if (!f)
		die("cannot write the results");
	for (int run = 0; run < RUNS; run++) {
		for (int m = 0; m < MODES; m++) /* who comes first changes */
			run_mode((m + run) % MODES, run);
		printf("run %d: %lu lines were made, %lu events lost by who reads and who does not\n",
			run + 1, (unsigned long)lines_made[run], (unsigned long)lost[run]);
	}
	fprintf(f, "[\n");
	for (int s = 0; s < STEPS; s++) {
		result(f, steps[s], "kept", cost[KEPT][s].path, cost[ALONE][s].path, false);
		result(f, steps[s], "read", cost[READ][s].path, cost[ALONE][s].path, false);
		result(f, steps[s], "read_all", cost[READ][s].all, cost[ALONE][s].all, s == STEPS - 1);
	}
	fprintf(f, "]\n");
	return fclose(f) == 0 ? 0 : 1;
}
