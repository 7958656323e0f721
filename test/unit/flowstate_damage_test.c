/* SPDX-License-Identifier: GPL-2.0-or-later */
/* flowstate_damage_test.c - random damage to the arena file, and processes killed while they write to it. */
#include "test/unit/flowstate_arena_help.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <time.h>

/* ---- random damage --------------------------------------------------------------------------------------------- */

enum { KEPT = 256 };
struct kept {
	struct tuple t[2];
	char site[FS_NAME_MAX + 1], other[FS_NAME_MAX + 1];
	bool live;
};

/* Whatever is in the table now was there before, under the same names. */
static void assert_nothing_new(struct world *w, const struct kept *kept)
{
	uint32_t cursor = 0, flow;
	struct fs_info info;
	while (fs_next(w->fs, &cursor, 100000, &flow, &info) == 1) {
		assert_true(flow < KEPT);
		assert_string_equal(fs_name(w->fs, info.half[0].realm), kept[flow].site);
		assert_string_equal(fs_name(w->fs, info.half[1].realm), kept[flow].other);
		assert_tuple(info.half[0].t, kept[flow].t[0]);
		assert_tuple(info.half[1].t, kept[flow].t[1]);
	}
}

static void test_damage(void **state)
{
	(void)state;
	struct world w;
	static struct kept kept[KEPT];
	uint32_t cursor = 0, flow, high;
	struct fs_info info;
	uint64_t seed = (uint64_t)time(NULL);
	const char *env = getenv("ARRD_SEED");
	if (env)
		seed = strtoull(env, NULL, 0);
	print_message("ARRD_SEED=%llu\n", (unsigned long long)seed);
	srandom((unsigned)seed);

	world_new(&w, path, 300);
	fill(&w);
	high = w.fs->arena.header->high;
	assert_true(high <= KEPT);
	while (fs_next(w.fs, &cursor, 100000, &flow, &info) == 1) {
		kept[flow].t[0] = info.half[0].t;
		kept[flow].t[1] = info.half[1].t;
		snprintf(kept[flow].site, sizeof(kept[flow].site), "%s", fs_name(w.fs, info.half[0].realm));
		snprintf(kept[flow].other, sizeof(kept[flow].other), "%s", fs_name(w.fs, info.half[1].realm));
	}
	size_t size = w.fs->arena.map_octets;
	uint8_t *good = malloc(size);
	memcpy(good, w.fs->arena.map, size);
	world_close(&w);

	unsigned adopted = 0, refused = 0;
	size_t names = 10 * sizeof(struct name_entry), blocks = (size_t)high * 160;
	for (unsigned round = 0; round < ROUNDS(4000); round++) {
		int fd = open(path, O_RDWR | O_CLOEXEC);
		/* Only the parts in use differ from round to round. */
		assert_int_equal(ftruncate(fd, (off_t)size), 0);
		assert_int_equal(pwrite(fd, good, NAMES_AT + names, 0), NAMES_AT + names);
		assert_int_equal(pwrite(fd, good + BLOCKS_AT, size - BLOCKS_AT, BLOCKS_AT), size - BLOCKS_AT);
		unsigned flips = 1u << random() % 10;
		for (unsigned k = 0; k < flips; k++) {
			size_t r = (size_t)random(), at;
			uint8_t v = (uint8_t)random();
			switch (round % 8) {
			case 0:
				at = r % 88; /* the header: refused, mostly */
				break;
			case 1:
			case 2:
				at = NAMES_AT + r % names;
				break;
			case 3:
				at = offsetof(struct arena_header, high) + r % 8;
				break;
			default:
				at = BLOCKS_AT + r % blocks;
			}
			/* A bit, or an octet. */
			if (k % 2)
				v = good[at] ^ (uint8_t)(1 << r % 8);
			assert_int_equal(pwrite(fd, &v, 1, (off_t)at), 1);
		}
		if (random() % 50 == 0)
			assert_int_equal(ftruncate(fd, random() % (long)size), 0);
		close(fd);
		world_open(&w);
		*(w.rep.kind == FS_OPEN_ADOPTED ? &adopted : &refused) += 1;
		check(&w);
		assert_nothing_new(&w, kept);
		bind_all(&w);
		assert_nothing_new(&w, kept);
		fs_unbind_rest(w.fs);
		if (round % 16 == 0) {
			fill(&w);
			check(&w);
			sleep_s(&w, 5);
			check(&w);
		}
		fs_close(w.fs);
	}
	print_message("adopted %u, refused %u\n", adopted, refused);
	assert_true(adopted > ROUNDS(4000) / 2 && refused > ROUNDS(4000) / 50);

	/* Noise from end to end; with a header that is believed, too. */
	for (unsigned round = 0; round < ROUNDS(60); round++) {
		uint8_t *noise = malloc(size);
		for (size_t i = 0; i + 4 <= size; i += 4) {
			long r = random() ^ random() << 16;
			memcpy(noise + i, &r, 4);
		}
		int fd = open(path, O_RDWR | O_CLOEXEC);
		assert_int_equal(ftruncate(fd, (off_t)size), 0);
		assert_int_equal(pwrite(fd, noise, size, 0), size);
		if (round % 2)
			assert_int_equal(pwrite(fd, good, 4096, 0), 4096);
		close(fd);
		free(noise);
		world_open(&w);
		assert_int_equal(w.rep.kind, round % 2 ? FS_OPEN_ADOPTED : FS_OPEN_REFUSED);
		assert_int_equal(w.rep.flows, 0);
		world_close(&w);
	}
	free(good);
}

/* ---- killed at any moment --------------------------------------------------------------------------------------- */

/* The port tells the site, so that the parent knows whose a flow must be. */
static void work_until_killed(const struct fs_config *cfg, uint64_t now, unsigned seed)
{
	struct world w = {.cfg = *cfg, .now = now};
	srandom(seed);
	if (fs_open(&w.fs, &w.cfg, w.now, &w.rep) < 0)
		_exit(2);
	bind_all(&w);
	fs_unbind_rest(w.fs);
	for (;;) {
		bool b = random() % 2;
		uint16_t port = (uint16_t)(random() % 100 * 2 + b);
		struct tuple t = tup(random() % 2 ? IPPROTO_TCP : IPPROTO_UDP, "10.0.1.5", port, WEB, 53);
		fs_id site = b ? w.site_b : w.site_a, via = b ? w.b1 : random() % 2 ? w.a1 : w.a2;
		struct fs_packet pk = packet(site, via, t, random() % 4 ? FLAG_SYN : FLAG_RST);
		struct fs_hit hit;
		long what = random() % 100;
		if (what < 60) {
			/* Half of them through the pool and other ports, so that all kinds of records are written. */
			if (fs_begin(w.fs, &pk, w.egress, w.egress, false, random() % 2, w.now, &hit) ==
				DROP_NONE)
				fs_pass(w.fs, hit, &pk, w.now);
		} else if (what < 90) {
			hit = find(&w, site, t);
			if (hit.flow != FS_NONE)
				fs_end(w.fs, hit.flow, w.now);
		} else if (what < 97) {
			w.now += (uint64_t)(random() % 20000);
			fs_tick(w.fs, w.now, 50);
		} else if (what < 99) {
			fs_unbind(w.fs, random() % 2 ? w.a1 : w.b1);
			bind_all(&w);
		} else {
			fs_unbind(w.fs, random() % 2 ? w.site_a : w.egress);
			bind_all(&w);
		}
	}
}

static void test_killed(void **state)
{
	(void)state;
	struct world w;
	uint64_t flows = 0, torn = 0;
	world_new(&w, path, 150);
	world_close(&w);
	for (unsigned round = 0; round < 150; round++) {
		pid_t pid = fork();
		assert_true(pid >= 0);
		if (pid == 0)
			work_until_killed(&w.cfg, w.now, round);
		usleep((useconds_t)(1000 + random() % 12000));
		kill(pid, SIGKILL);
		int status;
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFSIGNALED(status));
		/* The child's clock ran on; ours must not be behind. */
		w.now += 100000;
		world_open(&w);
		assert_int_equal(w.rep.kind, FS_OPEN_ADOPTED);
		/* One at most was in the making or being freed. */
		assert_true(w.rep.torn <= 1);
		flows += w.rep.flows;
		torn += w.rep.torn;
		check(&w);
		uint32_t cursor = 0, flow;
		struct fs_info info;
		while (fs_next(w.fs, &cursor, 100000, &flow, &info) == 1) {
			bool b = ntohs(info.half[0].t.sport) % 2;
			assert_string_equal(fs_name(w.fs, info.half[0].realm), b ? "b" : "a");
			assert_int_equal(fs_name(w.fs, info.half[0].via)[0], b ? 'b' : 'a');
			assert_string_equal(fs_name(w.fs, info.half[1].realm), "default");
		}
		bind_all(&w);
		fs_unbind_rest(w.fs);
		fs_tick(w.fs, w.now, 1000);
		world_close(&w);
	}
	print_message("adopted %llu flows, %llu torn\n", (unsigned long long)flows, (unsigned long long)torn);
	assert_true(flows > 150);
}

/* ---- killed after each single instruction ----------------------------------------------------------------------- */

/* What the child is at; it tells before it begins. */
enum phase { READY, BEGIN, MOVE, END, BEGIN_AGAIN, FREE, BIND, UNBIND, DONE };

static void step_through(struct world *w, volatile int *phase)
{
	struct tuple t = tup(IPPROTO_UDP, "10.0.1.5", 2, WEB, 53);
	uint32_t f;
	raise(SIGSTOP);
	*phase = BEGIN;
	f = begin(w, w->site_a, w->a1, t, NULL);
	*phase = MOVE;
	struct fs_packet pk = packet(w->site_a, w->a2, t, 0);
	fs_pass(w->fs, (struct fs_hit){.flow = f}, &pk, w->now);
	*phase = END;
	fs_end(w->fs, f, w->now);
	*phase = BEGIN_AGAIN;
	f = begin(w, w->site_a, w->a1, t, NULL);
	fs_end(w->fs, f, w->now);
	*phase = FREE;
	record_free(w->fs, f);
	*phase = BIND;
	fs_bind(w->fs, FS_TUNNEL, "another", w->site_b, 5);
	*phase = UNBIND;
	fs_unbind(w->fs, w->b1);
	*phase = DONE;
	raise(SIGSTOP);
}

/* A process that had been killed right now would have left this file. */
static void look_at_copy(const uint8_t *map, size_t size, const char *copy, struct world *child, int phase)
{
	/* How many flows there may be, and records with them: at least, at most. */
	static const uint8_t flows[][2] = {[READY] = {0, 0},
		[BEGIN] = {0, 1},
		[MOVE] = {1, 1},
		[END] = {0, 1},
		[BEGIN_AGAIN] = {0, 1},
		[FREE] = {0, 0},
		[BIND] = {0, 0},
		[UNBIND] = {0, 0},
		[DONE] = {0, 0}};
	static const uint8_t records[][2] = {[READY] = {0, 0},
		[BEGIN] = {0, 1},
		[MOVE] = {1, 1},
		[END] = {1, 1},
		[BEGIN_AGAIN] = {0, 1},
		[FREE] = {0, 1},
		[BIND] = {0, 0},
		[UNBIND] = {0, 0},
		[DONE] = {0, 0}};
	struct world w = {.cfg = child->cfg, .now = child->now};
	uint32_t cursor = 0, flow;
	struct fs_info info;
	int fd = open(copy, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, map, 3 * 4096, 0), 3 * 4096);
	assert_int_equal(pwrite(fd, map + BLOCKS_AT, size - BLOCKS_AT, BLOCKS_AT), size - BLOCKS_AT);
	close(fd);
	w.cfg.path = copy;
	world_open(&w);
	assert_int_equal(w.rep.kind, FS_OPEN_ADOPTED);
	check(&w);
	assert_true(w.rep.torn <= 1);
	assert_in_range(w.fs->stats.used, flows[phase][0], flows[phase][1]);
	assert_in_range(w.fs->stats.used + w.fs->stats.quarantined, records[phase][0], records[phase][1]);
	while (fs_next(w.fs, &cursor, 100, &flow, &info) == 1) {
		assert_string_equal(fs_name(w.fs, info.half[0].realm), "a");
		assert_int_equal(fs_name(w.fs, info.half[0].via)[0], 'a');
		assert_int_equal(ntohs(info.half[0].t.sport), 2);
	}
	fs_close(w.fs);
}

static void test_each_instruction(void **state)
{
	(void)state;
	struct world w;
	char copy[sizeof(path) + 8];
	int status;
	world_new(&w, path, 64);
	size_t size = w.fs->arena.map_octets, used = 3 * 4096;
	volatile int *phase = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	uint8_t *last = malloc(size);
	const uint8_t *map = w.fs->arena.map;
	assert_non_null(last);
	assert_true(phase != MAP_FAILED);
	snprintf(copy, sizeof(copy), "%s.copy", path);
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) < 0)
			_exit(77);
		step_through(&w, phase);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
		skip();
	unsigned steps = 0, states = 0;
	memset(last, 0xff, size);
	while (*phase != DONE) {
		/* The names and the one block: the part of the file that it writes to. */
		if (memcmp(map, last, used) != 0 ||
			memcmp(map + BLOCKS_AT, last + BLOCKS_AT, size - BLOCKS_AT) != 0) {
			memcpy(last, map, used);
			memcpy(last + BLOCKS_AT, map + BLOCKS_AT, size - BLOCKS_AT);
			look_at_copy(last, size, copy, &w, *phase);
			states++;
		}
		assert_int_equal(ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL), 0);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFSTOPPED(status));
		steps++;
	}
	print_message("%u instructions, %u states of the file\n", steps, states);
	assert_true(states >= 20);
	kill(pid, SIGKILL);
	waitpid(pid, &status, 0);
	munmap((void *)(uintptr_t)phase, 4096);
	free(last);
	unlink(copy);
	fs_close(w.fs);
}

/* What is outside of a record's checksum may be anything: a window's scale is a shift. */
static void test_windows(void **state)
{
	struct tuple t = tup(IPPROTO_TCP, "10.0.1.5", 2, WEB, 443);
	struct world w;
	uint32_t f;

	(void)state;
	world_new(&w, path, 100);
	f = begin(&w, w.site_a, w.a1, t, NULL);
	for (int d = 0; d < 2; d++)
		body_of(w.fs, f)->window[d].scale = (uint8_t)(15 + d * 240);
	body_of(w.fs, f)->syn_wscale = 255;
	fs_close(w.fs);
	world_open(&w);
	bind_all(&w);
	fs_unbind_rest(w.fs);
	assert_int_equal(w.rep.flows, 1);
	for (int d = 0; d < 2; d++)
		assert_int_equal(body_of(w.fs, f)->window[d].scale, TCP_SCALE_MAX);
	assert_int_equal(body_of(w.fs, f)->syn_wscale, TCP_SCALE_MAX + 1);
	world_close(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_damage),
		cmocka_unit_test(test_windows),
		cmocka_unit_test(test_killed),
		cmocka_unit_test(test_each_instruction),
	};
	return cmocka_run_group_tests(tests, arena_setup, arena_teardown);
}
