/* SPDX-License-Identifier: GPL-2.0-or-later */
/* flowlife.c - how long the flow table holds its process up: at a start, and tick by tick. The method is in
 * flowtable.md. */
#include "flowstate/state.h"
#include "test/bench/flows.h"

#include <unistd.h>

#define RUNS         5
#define OUT          "build/bench/flowlife.json"
#define TWO_WAY      300
#define ONE_WAY      120
#define QUARANTINE_S 240

struct life {
	uint32_t n; /* flows */
	struct fs_config cfg;
	struct flowstate *fs;
	struct owners o;
	uint64_t now;
	uint64_t random;
	char path[64];
};

static FILE *out;
static unsigned nresults;

static void die(const char *what)
{
	fprintf(stderr, "flowlife: %s\n", what);
	exit(1);
}

/* ---- a table of flows ------------------------------------------------------------------------------------- */

static struct fs_open_report life_open(struct life *l)
{
	struct fs_open_report rep;
	if (fs_open(&l->fs, &l->cfg, l->now, &rep) < 0)
		die("cannot open the flow table");
	return rep;
}

static uint32_t begin(struct life *l, uint32_t i)
{
	struct fs_packet pk = {.packets = 1, .octets = 100};
	struct fs_hit hit;
	unsigned site = flow_tuple(i, &pk.key.t);
	pk.key.realm = l->o.site[site];
	pk.via = l->o.tunnel[site];
	if (fs_begin(l->fs, &pk, l->o.egress, l->o.egress, false, 0, l->now, &hit) != DROP_NONE)
		die("a flow was not begun");
	return hit.flow;
}

static void pass(struct life *l, uint32_t flow, enum fs_dir dir)
{
	struct fs_packet pk = {.packets = 1, .octets = 100};
	struct fs_half half;
	fs_half(l->fs, flow, dir, &half);
	pk.key = (struct fs_key){.t = half.t, .realm = half.realm};
	pk.via = half.via;
	if (fs_pass(l->fs, (struct fs_hit){.flow = flow, .dir = dir}, &pk, l->now) != DROP_NONE)
		die("a packet did not pass");
}

static void heard(struct life *l, uint32_t flow)
{
	pass(l, flow, FS_ORIG);
}

static void answer(struct life *l, uint32_t flow)
{
	pass(l, flow, FS_REPLY);
}

static void life_new(struct life *l, uint32_t n, uint32_t max)
{
	*l = (struct life){.n = n, .now = T0_MS, .random = 88172645463325252ull};
	snprintf(l->path, sizeof(l->path), "/dev/shm/arrd-bench-flows.%d", (int)getpid());
	unlink(l->path);
	l->cfg = (struct fs_config){.path = l->path, .max = max, .nshards = 1};
	for (int s = 0; s < FS_STATE_COUNT; s++)
		l->cfg.timeout_s[s] = fs_state_default_s((enum fs_state)s);
	life_open(l);
	owners_bind(&l->o, l->fs);
}

static void life_end(struct life *l)
{
	fs_close(l->fs);
	unlink(l->path);
}

/* ---- results ------------------------------------------------------------------------------------------------ */

static int ascending(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

static void result(const char *name, const char *size, const char *unit, double limit, const char *limit_name,
	const double *v, unsigned n)
{
	double s[RUNS];
	memcpy(s, v, n * sizeof(*s));
	qsort(s, n, sizeof(*s), ascending);
	fprintf(out,
		"%s  {\"name\": \"flowlife_%s_%s\", \"unit\": \"%s\", \"ours\": %.3f, \"limit\": %.3f, "
		"\"limit_name\": \"%s\", \"runs\": [",
		nresults++ ? ",\n" : "", name, size, unit, s[n / 2], limit, limit_name);
	for (unsigned i = 0; i < n; i++)
		fprintf(out, "%s%.3f", i ? ", " : "", v[i]);
	fprintf(out, "]}");
}

/* Resident octets of the process: private memory, its page tables, and the file's pages that it has mapped. */
static double resident(void)
{
	FILE *f = fopen("/proc/self/status", "re");
	char line[128];
	double kib = 0;
	if (!f)
		die("cannot read /proc/self/status");
	while (fgets(line, sizeof(line), f)) {
		if (strncmp(line, "VmRSS:", 6) == 0 || strncmp(line, "VmPTE:", 6) == 0)
			kib += strtod(line + 6, NULL);
	}
	fclose(f);
	return kib * 1024;
}

/* ---- start -------------------------------------------------------------------------------------------------- */

/* A tenth of the records is in quarantine. Wall-clock time: what a packet would wait for. */
static void measure_start(uint32_t n, const char *size)
{
	struct life l;
	double ms[RUNS] = {}, before = resident();
	life_new(&l, n, n);
	for (uint32_t i = 0; i < n; i++)
		begin(&l, i);
	double octets = (resident() - before) / n;
	result("octets_a_flow", size, "B", 200, "budget", &octets, 1);
	for (uint32_t i = 0; i < n; i += 10)
		fs_end(l.fs, i, l.now);
	fs_close(l.fs);
	for (unsigned run = 0; run < RUNS; run++) {
		uint64_t t = clock_ns(CLOCK_MONOTONIC);
		struct fs_open_report rep = life_open(&l);
		owners_bind(&l.o, l.fs);
		ms[run] = (double)(clock_ns(CLOCK_MONOTONIC) - t) / 1e6;
		if (rep.kind != FS_OPEN_ADOPTED || rep.torn || rep.flows != n - (n + 9) / 10)
			die("not all flows were taken over");
		if (run + 1 < RUNS)
			fs_close(l.fs);
	}
	result("start", size, "ms", 1000, "what may be", ms, RUNS);
	life_end(&l);
}

/* ---- ticks -------------------------------------------------------------------------------------------------- */

#define SAMPLES (1u << 20)
struct ticks {
	double us[SAMPLES];
	uint32_t n, ended;
	double sum_ms, worst;
};

/* What a loop does every 100 ms: a call, and more while there is more to do. */
static void tick(struct life *l, struct ticks *t)
{
	do {
		uint64_t ns = cpu_ns();
		t->ended += fs_tick(l->fs, l->now, FS_TICK_BUDGET);
		double us = (double)(cpu_ns() - ns) / 1e3;
		if (t->n < SAMPLES)
			t->us[t->n++] = us;
		t->sum_ms += us / 1e3;
		t->worst = us > t->worst ? us : t->worst;
	} while (fs_behind(l->fs));
}

static void ticks_begin(struct ticks *t)
{
	t->n = t->ended = 0;
	t->sum_ms = t->worst = 0;
}

static double percentile(struct ticks *t, double p)
{
	qsort(t->us, t->n, sizeof(*t->us), ascending);
	return t->us[(uint32_t)((t->n - 1) * p)];
}

static double say(struct ticks *t, const char *what, unsigned run)
{
	double p = percentile(t, 0.999);
	fprintf(stderr,
		"flowlife: %s %u: %u calls, median %.1f us, 99.9th percentile %.1f us, worst %.1f us; %u "
		"flows ended, %.0f ms\n",
		what, run + 1, t->n, percentile(t, 0.5), p, t->worst, t->ended, t->sum_ms);
	return p;
}

/* Flows come at an even rate, are answered, and go after TWO_WAY and the quarantine: as many of each as the table
 * holds. */
static void measure_steady(struct ticks *t, uint32_t max)
{
	uint32_t rate = max / (TWO_WAY + QUARANTINE_S + 2), next = 0;
	double us[RUNS] = {};
	struct life l;
	life_new(&l, max, max);
	for (unsigned s = 0; s < TWO_WAY + QUARANTINE_S + 10 * RUNS; s++) {
		if (s >= TWO_WAY + QUARANTINE_S && (s - TWO_WAY - QUARANTINE_S) % 10 == 0)
			ticks_begin(t);
		for (unsigned k = 0; k < 10; k++) {
			for (uint32_t i = 0; i < rate / 10; i++) {
				uint32_t f = begin(&l, next++);
				answer(&l, f);
			}
			l.now += 100;
			tick(&l, t);
		}
		if (s >= TWO_WAY + QUARANTINE_S && (s - TWO_WAY - QUARANTINE_S) % 10 == 9) {
			unsigned run = (s - TWO_WAY - QUARANTINE_S) / 10;
			us[run] = say(t, "steady", run);
		}
	}
	result("tick_steady", "10m", "us", 100, "what may be", us, RUNS);
	life_end(&l);
}

/* A tenth of the flows falls due in one second, five times; later it leaves quarantine in one second. What stays comes up
 * in one second, too, before them. There is room for more: a table that is nearly full has flows wait shorter. */
static void measure_bursts(struct ticks *t, uint32_t n)
{
	double us[RUNS] = {}, ms[RUNS] = {}, unbind[RUNS] = {};
	struct life l;
	life_new(&l, n, n + n / 5 * 2);
	l.cfg.timeout_s[FS_UDP_ONE_WAY] = ONE_WAY;
	l.cfg.timeout_s[FS_UDP_TWO_WAY] = 1000000;
	fs_reconfigure(l.fs, &l.cfg);
	/* One in two is answered, and stays. The others are heard of in random order, a tenth each second. */
	uint32_t *order = arena_map_private(n * sizeof(*order));
	if (!order)
		die("no memory");
	for (uint32_t i = 0; i < n; i++) {
		uint32_t k = (uint32_t)((next_random(&l.random) >> 32) * (i + 1) >> 32);
		order[i] = order[k];
		order[k] = i;
		begin(&l, i);
	}
	for (uint32_t i = n / 2; i < n; i++)
		answer(&l, order[i]);
	for (uint32_t i = 0; i < n / 2; i++) {
		l.now = T0_MS + 10000 + 1000 * (i / (n / 10));
		heard(&l, order[i]);
	}
	ticks_begin(t);
	l.now = T0_MS + ONE_WAY * 1000 + 1000;
	tick(&l, t);
	say(t, "come up", 0);
	for (unsigned run = 0; run < RUNS; run++) {
		ticks_begin(t);
		l.now = T0_MS + 10000 + 1000 * run + ONE_WAY * 1000;
		tick(&l, t);
		if (t->ended != n / 10)
			die("other flows than these ended");
		ms[run] = t->sum_ms;
		us[run] = say(t, "burst", run);
	}
	for (unsigned run = 0; run < RUNS; run++) {
		struct fs_stats before, after;
		fs_get_stats(l.fs, &before);
		ticks_begin(t);
		l.now = T0_MS + 10000 + 1000 * run + (ONE_WAY + QUARANTINE_S) * 1000;
		tick(&l, t);
		fs_get_stats(l.fs, &after);
		if (before.quarantined - after.quarantined != n / 10)
			die("other flows than these left quarantine");
		ms[run] += t->sum_ms;
		double p = say(t, "quarantine", run);
		us[run] = p > us[run] ? p : us[run];
	}
	for (unsigned run = 0; run < RUNS; run++) {
		ticks_begin(t);
		fs_unbind(l.fs, l.o.tunnel[run]);
		tick(&l, t);
		unbind[run] = say(t, "unbind", run);
	}
	result("tick_million_due", "10m", "us", 100, "what may be", us, RUNS);
	result("million_due", "10m", "ms", 1000, "the second in which they are due", ms, RUNS);
	result("tick_unbind", "10m", "us", 100, "what may be", unbind, RUNS);
	arena_unmap_private(order, n * sizeof(*order));
	life_end(&l);
}

int main(int argc, char **argv)
{
	out = fopen(argc > 1 ? argv[1] : OUT, "w");
	if (!out)
		die("cannot write the results");
	fprintf(out, "[\n");
	struct ticks *t = arena_map_private(sizeof(*t));
	if (!t)
		die("no memory");
	measure_start(1000000, "1m");
	measure_start(10000000, "10m");
	measure_steady(t, 10000000);
	measure_bursts(t, 10000000);
	arena_unmap_private(t, sizeof(*t));
	fprintf(out, "\n]\n");
	if (fclose(out) != 0)
		die("cannot write the results");
	return 0;
}
