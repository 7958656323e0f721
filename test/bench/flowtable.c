/* SPDX-License-Identifier: GPL-2.0-or-later */
/* flowtable.c - how fast the flow table is, beside DPDK's rte_hash in the same run. The method is in flowtable.md. */
#include "flowstate/state.h"
#include "test/bench/flows.h"

#include <rte_eal.h>
#include <rte_hash.h>
#include <rte_malloc.h>
#include <sys/mman.h>

#define RUNS         5
#define BATCH        64
#define LOOKUPS      (4u << 20)
#define HUGE         ((size_t)2 << 20)
#define OUT          "build/bench/flowtable.json"
#define ONE_WAY_S    120
#define QUARANTINE_S 240
#define WINDOW_MS    10000u /* in which the flows of one run of the expiry fall due */

/* The peer's key: ours, padded to a length that it has a fast comparison for. */
struct peer_key {
	struct fs_key k;
	uint32_t zero;
};

struct bench {
	uint32_t n; /* flows */
	struct flowstate *fs;
	struct owners o;
	struct rte_hash *hash;
	char heap_name[16];
	int socket;
	void *heap;
	size_t heap_octets;
	struct fs_key *ours; /* LOOKUPS keys of live flows in random order */
	struct peer_key *peer;
	uint32_t *order; /* a random order of the flows */
	uint64_t rehang_ns;
	uint64_t random;
};

struct result {
	char name[48];
	const char *unit, *limit_name;
	double ours[RUNS], peer[RUNS], limit;
	unsigned runs;
	bool less_is_better;
};

static struct result results[16];
static unsigned nresults;

static void die(const char *what)
{
	fprintf(stderr, "flowtable: %s\n", what);
	exit(1);
}

static void *map(size_t octets)
{
	void *p = arena_map_private(octets);
	if (!p)
		die("no memory");
	return p;
}

/* ---- keys ------------------------------------------------------------------------------------------------- */

static void flow_key(const struct bench *b, uint32_t i, enum fs_dir dir, struct fs_key *k)
{
	unsigned site = flow_tuple(i, &k->t);
	k->realm = b->o.site[site];
	if (dir == FS_REPLY) {
		k->t = tuple_turned(&k->t);
		k->realm = b->o.egress;
	}
}

/* ---- both tables -------------------------------------------------------------------------------------------- */

static void ours_open(struct bench *b, uint32_t max)
{
	struct fs_config c = {.max = max, .nshards = 1};
	struct fs_open_report rep;
	c.timeout_s[FS_UDP_ONE_WAY] = ONE_WAY_S;
	c.timeout_s[FS_UDP_TWO_WAY] = 1000000;
	c.timeout_s[FS_QUARANTINE] = QUARANTINE_S;
	if (fs_open(&b->fs, &c, T0_MS, &rep) < 0)
		die("cannot open the flow table");
	owners_bind(&b->o, b->fs);
}

/* A hash table in memory of its own: anonymous, and in large pages as ours. */
static void peer_open(struct bench *b, uint32_t slots)
{
	b->heap_octets = ((size_t)slots * 90 + (64u << 20)) & ~(HUGE - 1);
	uint8_t *p = map(b->heap_octets + HUGE);
	b->heap = (void *)(((uintptr_t)p + HUGE - 1) & ~(HUGE - 1));
	snprintf(b->heap_name, sizeof(b->heap_name), "bench%u", slots);
	if (rte_malloc_heap_create(b->heap_name) < 0 ||
		rte_malloc_heap_memory_add(b->heap_name, b->heap, b->heap_octets, NULL,
			(unsigned)(b->heap_octets / HUGE), HUGE) < 0)
		die("cannot make a heap for rte_hash");
	b->socket = rte_malloc_heap_get_socket(b->heap_name);
	struct rte_hash_parameters p2 = {.name = b->heap_name,
		.entries = slots,
		.key_len = sizeof(struct peer_key),
		.socket_id = b->socket};
	b->hash = rte_hash_create(&p2);
	if (!b->hash)
		die("cannot create the rte_hash");
}

static void close_both(struct bench *b)
{
	fs_close(b->fs);
	rte_hash_free(b->hash);
	if (rte_malloc_heap_memory_remove(b->heap_name, b->heap, b->heap_octets) == 0)
		munmap(b->heap, b->heap_octets);
	rte_malloc_heap_destroy(b->heap_name);
	munmap(b->ours, LOOKUPS * sizeof(*b->ours));
	munmap(b->peer, LOOKUPS * sizeof(*b->peer));
	munmap(b->order, b->n * sizeof(*b->order));
}

static void ours_insert(struct bench *b, uint32_t from, uint32_t to)
{
	for (uint32_t i = from; i < to; i++) {
		struct fs_packet pk = {.packets = 1, .octets = 100};
		struct fs_hit hit;
		unsigned site = flow_tuple(i, &pk.key.t);
		pk.key.realm = b->o.site[site];
		pk.via = b->o.tunnel[site];
		if (fs_begin(b->fs, &pk, b->o.egress, b->o.egress, false, 0, T0_MS, &hit) != DROP_NONE ||
			hit.flow != i)
			die("a flow was not begun");
	}
}

static void peer_insert(struct bench *b, uint32_t from, uint32_t to)
{
	for (uint32_t i = from; i < to; i++) {
		for (int d = 0; d < 2; d++) {
			struct peer_key k = {};
			flow_key(b, i, (enum fs_dir)d, &k.k);
			if (rte_hash_add_key_data(b->hash, &k, (void *)(uintptr_t)(i * 2u + (unsigned)d)) !=
				0)
				die("a key was not added");
		}
	}
}

/* ---- measuring ------------------------------------------------------------------------------------------------ */

static struct result *result(
	const char *what, const char *size, const char *unit, double limit, const char *limit_name)
{
	struct result *r = &results[nresults++];
	snprintf(r->name, sizeof(r->name), "flowtable_%s%s%s", what, *size ? "_" : "", size);
	r->unit = unit;
	r->limit = limit;
	r->limit_name = limit_name;
	r->runs = RUNS;
	return r;
}

static double millions(uint64_t count, uint64_t ns)
{
	return (double)count * 1000.0 / (double)(ns ? ns : 1);
}

static uint64_t ours_lookups(struct bench *b)
{
	struct fs_hit hits[BATCH];
	uint32_t found = 0;
	uint64_t t = cpu_ns();
	for (uint32_t i = 0; i < LOOKUPS; i += BATCH) {
		fs_find(b->fs, b->ours + i, BATCH, hits);
		for (unsigned k = 0; k < BATCH; k++)
			found += hits[k].flow != FS_NONE;
	}
	t = cpu_ns() - t;
	if (found != LOOKUPS)
		die("a flow was not found");
	return t;
}

static uint64_t peer_lookups(struct bench *b)
{
	int32_t positions[BATCH];
	const void *keys[BATCH];
	uint32_t found = 0;
	uint64_t t = cpu_ns();
	for (uint32_t i = 0; i < LOOKUPS; i += BATCH) {
		for (unsigned k = 0; k < BATCH; k++)
			keys[k] = b->peer + i + k;
		rte_hash_lookup_bulk(b->hash, keys, BATCH, positions);
		for (unsigned k = 0; k < BATCH; k++)
			found += positions[k] >= 0;
	}
	t = cpu_ns() - t;
	if (found != LOOKUPS)
		die("a key was not found");
	return t;
}

/* ns for one cache line at a random place of that much memory, when many are asked for at once. */
static double line_ns(struct bench *b, size_t octets)
{
	uint8_t *p = map(octets);
	uint32_t *at = map(LOOKUPS * sizeof(*at)), lines = (uint32_t)(octets / 64);
	uint64_t sum = 0, best = UINT64_MAX;
	memset(p, 1, octets);
	for (uint32_t i = 0; i < LOOKUPS; i++)
		at[i] = (uint32_t)((next_random(&b->random) >> 32) * lines >> 32);
	for (int run = 0; run < 3; run++) {
		uint64_t t = cpu_ns();
		for (uint32_t i = 0; i < LOOKUPS; i++)
			sum += p[(size_t)at[i] * 64];
		t = cpu_ns() - t;
		best = t < best ? t : best;
	}
	if (!sum)
		die("memory that was written reads as zero");
	munmap(at, LOOKUPS * sizeof(*at));
	munmap(p, octets);
	return (double)best / LOOKUPS;
}

static void make_keys(struct bench *b)
{
	b->ours = map(LOOKUPS * sizeof(*b->ours));
	b->peer = map(LOOKUPS * sizeof(*b->peer));
	b->order = map(b->n * sizeof(*b->order));
	for (uint32_t i = 0; i < LOOKUPS; i++) {
		uint64_t r = next_random(&b->random);
		flow_key(b, (uint32_t)((r >> 32) * b->n >> 32), r & 1 ? FS_REPLY : FS_ORIG, &b->ours[i]);
		b->peer[i] = (struct peer_key){.k = b->ours[i]};
	}
	for (uint32_t i = 0; i < b->n; i++) {
		uint32_t k = (uint32_t)((next_random(&b->random) >> 32) * (i + 1) >> 32);
		b->order[i] = b->order[k];
		b->order[k] = i;
	}
}

static void measure_inserts(struct bench *b, struct result *r, uint32_t slice)
{
	uint32_t at = b->n - RUNS * slice;
	ours_insert(b, 0, at);
	peer_insert(b, 0, at);
	for (unsigned run = 0; run < RUNS; run++, at += slice) {
		uint64_t t = cpu_ns();
		ours_insert(b, at, at + slice);
		uint64_t u = cpu_ns();
		peer_insert(b, at, at + slice);
		r->ours[run] = millions(slice, u - t);
		r->peer[run] = millions(slice, cpu_ns() - u);
	}
}

static void measure_lookups(struct bench *b, struct result *r)
{
	for (unsigned run = 0; run < RUNS; run++) {
		/* Who comes first changes. */
		if (run % 2)
			r->peer[run] = millions(LOOKUPS, peer_lookups(b));
		r->ours[run] = millions(LOOKUPS, ours_lookups(b));
		if (run % 2 == 0)
			r->peer[run] = millions(LOOKUPS, peer_lookups(b));
	}
}

static void stamp(struct bench *b, uint32_t i, enum fs_dir dir, uint64_t now_ms)
{
	struct fs_packet pk = {.packets = 1, .octets = 100};
	struct fs_half half;
	fs_half(b->fs, i, dir, &half);
	pk.key = (struct fs_key){.t = half.t, .realm = half.realm};
	pk.via = half.via;
	if (fs_pass(b->fs, (struct fs_hit){.flow = i, .dir = dir}, &pk, now_ms) != DROP_NONE)
		die("a packet did not pass");
}

/* Ticks every 100 ms of a window; returns the time that they took. */
static uint64_t tick_window(struct bench *b, uint64_t from_ms)
{
	uint64_t t = cpu_ns();
	for (uint64_t now = from_ms; now <= from_ms + WINDOW_MS; now += 100)
		fs_tick(b->fs, now, UINT32_MAX);
	return cpu_ns() - t;
}

static void measure_expiry(struct bench *b, struct result *r, uint32_t slice)
{
	uint64_t first_ms = T0_MS + WINDOW_MS, due_ms = first_ms + ONE_WAY_S * 1000u;
	uint64_t ns[RUNS];
	uint32_t ended[RUNS];
	struct fs_stats before, after;

	/* The flows of run g are last heard of in random order, in window g; all others are answered, and stay. */
	for (uint32_t k = 0; k < b->n; k++) {
		uint32_t g = k / slice;
		if (g < RUNS)
			stamp(b, b->order[k], FS_ORIG,
				first_ms + g * WINDOW_MS + (uint64_t)(k % slice) * WINDOW_MS / slice);
		else
			stamp(b, b->order[k], FS_REPLY, first_ms + RUNS * WINDOW_MS);
	}
	uint64_t t = cpu_ns();
	fs_tick(b->fs, T0_MS + ONE_WAY_S * 1000u + 1000, UINT32_MAX);
	uint64_t rehang = cpu_ns() - t;
	for (unsigned g = 0; g < RUNS; g++) {
		fs_get_stats(b->fs, &before);
		ns[g] = tick_window(b, due_ms + g * WINDOW_MS);
		fs_get_stats(b->fs, &after);
		ended[g] = before.used - after.used;
	}
	for (unsigned g = 0; g < RUNS; g++) {
		fs_get_stats(b->fs, &before);
		ns[g] += tick_window(b, due_ms + QUARANTINE_S * 1000u + g * WINDOW_MS);
		fs_get_stats(b->fs, &after);
		if (before.quarantined - after.quarantined < ended[g] / 10 * 9)
			die("quarantine did not end");
		ns[g] += rehang / b->n * ended[g];
		r->ours[g] = millions(ended[g], ns[g]);

		t = cpu_ns();
		for (uint32_t k = g * slice; k < (g + 1) * slice; k++) {
			for (int d = 0; d < 2; d++) {
				struct peer_key key = {};
				flow_key(b, b->order[k], (enum fs_dir)d, &key.k);
				if (rte_hash_del_key(b->hash, &key) < 0)
					die("a key was not deleted");
			}
		}
		r->peer[g] = millions(slice, cpu_ns() - t);
	}
}

/* Resident octets of the process, page tables included. */
static double resident(void)
{
	FILE *f = fopen("/proc/self/status", "r");
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

static double peer_octets(const struct bench *b)
{
	struct rte_malloc_socket_stats st;
	if (rte_malloc_get_socket_stats(b->socket, &st) < 0)
		die("no statistics of the heap");
	return (double)st.heap_allocsz_bytes;
}

/* At equal loads: our table is made with as many slots for entries as rte_hash has. */
static void measure(uint32_t n, const char *size, uint32_t slots, uint32_t slice)
{
	struct bench b = {.n = n, .random = 88172645463325252ull};
	uint32_t max = (uint32_t)(((uint64_t)slots / 8 - 1) * 14 / 5);
	ours_open(&b, max);
	peer_open(&b, slots);
	make_keys(&b);
	double line = line_ns(&b, b.fs->index.octets + (size_t)n * 160);
	double rate = 1000.0 / line;
	measure_inserts(
		&b, result("insert", size, "Mflow/s", rate / 2, "two random cache lines, overlapped"), slice);
	measure_lookups(
		&b, result("lookup", size, "Mlookup/s", rate / 2, "two random cache lines, overlapped"));
	measure_expiry(
		&b, result("expire", size, "Mflow/s", rate / 6, "six random cache lines, overlapped"), slice);
	printf("%u flows, load %.3f in both; a random cache line %.1f ns\n", n, 2.0 * n / slots, line);
	close_both(&b);
}

/* As full as each can be: our table at flows.max, rte_hash in the fewest slots; and what a flow takes of memory. */
static void measure_full(uint32_t n, uint32_t slots)
{
	struct bench b = {.n = n, .random = 88172645463325252ull};
	double before = resident();
	ours_open(&b, n);
	ours_insert(&b, 0, n);
	double octets = (resident() - before) / n;
	peer_open(&b, slots);
	peer_insert(&b, 0, n);
	make_keys(&b);
	double line = line_ns(&b, b.fs->index.octets + (size_t)n * 160);
	measure_lookups(&b, result("lookup", "1m_full", "Mlookup/s", 1000.0 / line / 2,
				    "two random cache lines, overlapped"));
	struct result *r = result("bytes_per_flow", "", "B", 200, "budget");
	r->runs = 1;
	r->less_is_better = true;
	r->ours[0] = octets;
	r->peer[0] = peer_octets(&b) / n;
	close_both(&b);
}

/* ---- reporting --------------------------------------------------------------------------------------------------- */

static int ascending(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

static double median(const double *v, unsigned n)
{
	double s[RUNS];
	memcpy(s, v, n * sizeof(*s));
	qsort(s, n, sizeof(*s), ascending);
	return s[n / 2];
}

static void print_runs(FILE *f, const char *name, const double *v, unsigned n)
{
	fprintf(f, "\"%s\": [", name);
	for (unsigned i = 0; i < n; i++)
		fprintf(f, "%s%.3f", i ? ", " : "", v[i]);
	fprintf(f, "]");
}

static void report(const char *path)
{
	FILE *f = fopen(path, "w");
	if (!f)
		die("cannot write the results");
	fprintf(f, "[\n");
	for (unsigned i = 0; i < nresults; i++) {
		const struct result *r = &results[i];
		double ours = median(r->ours, r->runs), peer = median(r->peer, r->runs);
		double ratio = r->less_is_better ? peer / ours : ours / peer;
		fprintf(f,
			"  {\"name\": \"%s\", \"unit\": \"%s\", \"ours\": %.3f, \"peer\": %.3f, "
			"\"peer_name\": \"DPDK rte_hash\", \"limit\": %.3f, \"limit_name\": \"%s\", "
			"\"ratio\": %.3f, ",
			r->name, r->unit, ours, peer, r->limit, r->limit_name, ratio);
		print_runs(f, "runs", r->ours, r->runs);
		fprintf(f, ", ");
		print_runs(f, "peer_runs", r->peer, r->runs);
		fprintf(f, "}%s\n", i + 1 < nresults ? "," : "");
	}
	fprintf(f, "]\n");
	if (fclose(f) != 0)
		die("cannot write the results");
}

int main(int argc, char **argv)
{
	/* rte_eal_init may write to its arguments. */
	char args[][32] = {"flowtable", "--no-huge", "-m", "64", "--no-pci", "--no-shconf", "--no-telemetry",
		"--log-level=lib.eal:error", "--lcores=0@(0-1)"};
	enum { NARGS = sizeof(args) / sizeof(args[0]) };
	char *eal[NARGS + 1] = {NULL};
	for (int i = 0; i < NARGS; i++)
		eal[i] = args[i];
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (rte_eal_init(NARGS, eal) < 0)
		die("no DPDK environment");
	measure_full(1000000, 1u << 21);
	measure(1000000, "1m", 1u << 22, 100000);
	measure(10000000, "10m", 1u << 25, 400000);
	report(argc > 1 ? argv[1] : "build/bench/flowtable.json");
	rte_eal_cleanup();
	return 0;
}
