/* SPDX-License-Identifier: GPL-2.0-or-later */
/* flowstate_kill_test.c - processes killed while they work on an arena file: at random moments, and after each single
 * instruction of each kind of operation. Whatever they had been promised has to be in the file.
 *
 * ARRD_SEED repeats a run's operations (not its moments); ARRD_KILLS says how many are killed. */
#include "test/unit/flowstate_kill_help.h"

#include "flowstate/closed.h"

#include <malloc.h>
#include <sched.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/user.h>
#include <time.h>

/* ---- at random moments ------------------------------------------------------------------------------------------ */

static void random_operation(struct worker *k)
{
	int site = (int)(random() % SITES), via = site ? 0 : (int)(random() % 2);
	unsigned n = (unsigned)random() % TUPLES;
	struct pledge *p = &k->sh->pledge[site][n];
	long what = random() % 1000;
	struct fs_stats st;

	fs_get_stats(k->w.fs, &st);
	uint32_t used = st.used + st.quarantined;
	if (what < 700) {
		if (p->promise == NONE)
			work_begin(k, site, n, via, random() % 4 == 0 ? FS_BEGIN_READDRESS : 0);
		else
			work_pass(k, site, n, via);
	} else if (what < 900) {
		if (p->promise != NONE)
			work_end(k, site, n);
	} else if (what < 980) {
		work_tick(k, (uint64_t)random() % 5000, 1u << random() % 8);
	} else if (what < 985) {
		work_reconfigure(k, random() % 2 ? QUARANTINE_S : 2 * QUARANTINE_S, random() % 2 ? 40 : 0);
	} else if (what < 987) {
		work_nat(k, (enum fs_nat)(random() % 3), (uint8_t)(random() % 3));
	} else if (what < 992) {
		work_unbind(k, site, site ? -1 : (int)(random() % 3) - 1);
	} else if (what < 994) {
		work_unbind(k, -1, 0);
	} else {
		work_restart(k, used <= 100 && random() % 2 ? 100 : used < 400 && random() % 2 ? 600 : 5000);
	}
	k->sh->operations++;
}

static void work_until_killed(struct shared *sh, unsigned seed)
{
	struct worker k = {.sh = sh};
	srandom(seed);
	work_open(&k);
	if (k.w.rep.kind != FS_OPEN_ADOPTED || k.w.rep.torn)
		work_fails(&k, "what the judge had seen was not taken over");
	for (;;)
		random_operation(&k);
}

/* What was doubtful is known now, and what is not in the file any more need not be remembered. */
static void settle(struct world *w, struct shared *sh)
{
	uint32_t cursor = 0, flow;
	struct fs_info info;
	static struct grant old[GRANTS];
	memcpy(old, sh->grant, sizeof(old));
	memset(sh->grant, 0, sizeof(sh->grant));
	while (fs_next(w->fs, &cursor, UINT32_MAX, &flow, &info) == 1)
		grant(sh, &info.half[1].t, info.half[1].realm, fs_name(w->fs, info.half[0].realm)[0] - 'a');
	for (unsigned i = 0; i < GRANTS; i++) {
		if (old[i].realm && old[i].closed_ms > w->now)
			grant_of(sh, &old[i].reply, old[i].realm)->closed_ms = old[i].closed_ms;
	}
	for (int site = 0; site < SITES; site++) {
		for (unsigned n = 0; n < TUPLES; n++) {
			struct pledge *p = &sh->pledge[site][n];
			struct fs_half h;
			flow = find(w, site_id(w, site), any_of(n)).flow;
			if (flow == FS_NONE) {
				p->promise = NONE;
				continue;
			}
			fs_half(w->fs, flow, FS_REPLY, &h);
			p->reply = h.t;
			fs_half(w->fs, flow, FS_ORIG, &h);
			p->via = p->moves_to = fs_name(w->fs, h.via)[1] - '1';
			if (p->promise == DOUBTFUL)
				p->promise = BEGUN;
			/* The worker may have been killed before it could note the time. */
			p->seen_ms = (uint64_t)body_of(w->fs, flow)->seen * UNIT_MS;
		}
	}
	sh->ticks = false;
	sh->begins = -1;
}

static void test_killed(void **state)
{
	(void)state;
	const char *env = getenv("ARRD_KILLS"), *seed_env = getenv("ARRD_SEED");
	unsigned kills = env ? (unsigned)strtoul(env, NULL, 0) : ROUNDS(1000);
	unsigned seed = seed_env ? (unsigned)strtoul(seed_env, NULL, 0) : (unsigned)time(NULL);
	uint64_t flows = 0, torn = 0, filters = 0;
	struct shared *sh = shared_new(100);
	struct worker k = {.sh = sh};
	struct world w;
	print_message("ARRD_SEED=%u\n", seed);
	unlink(path);
	work_open(&k);
	fs_close(k.w.fs);
	for (unsigned round = 0; round < kills; round++) {
		int status;
		pid_t pid = fork();
		assert_true(pid >= 0);
		if (pid == 0)
			work_until_killed(sh, seed + round);
		/* A start takes some of it, most with the filters in use; the rest is for operations. */
		usleep((useconds_t)(random() % 30000));
		kill(pid, SIGKILL);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL)
			fail_msg("the worker ended by itself: %s", sh->error);
		judge(&w, sh, path, sh->cfg.max);
		flows += w.rep.flows;
		torn += w.rep.torn;
		filters += !closed_none(&w.fs->arena);
		settle(&w, sh);
		fs_close(w.fs);
	}
	print_message("%u kills, %llu operations, %llu flows taken over, %llu torn\n", kills,
		(unsigned long long)sh->operations, (unsigned long long)flows, (unsigned long long)torn);
	print_message(
		"%llu flows made room, %llu did not fit another NAT, %llu starts with a filter in use\n",
		(unsigned long long)sh->made_room, (unsigned long long)sh->other_nat,
		(unsigned long long)filters);
	assert_true(sh->made_room && sh->other_nat && filters);
	assert_true(flows > 10ull * kills);
	munmap(sh, sizeof(*sh));
}

/* ---- after each single instruction ------------------------------------------------------------------------------- */

/* A sanitizer's shadow memory takes millions of steps for each start. */
#if defined(__SANITIZE_ADDRESS__)
#define STEP_STARTS false
#else
#define STEP_STARTS true
#endif

static void start_again(struct worker *k, uint32_t max)
{
	k->sh->quick = !STEP_STARTS;
	work_restart(k, max);
	if (k->sh->quick) {
		k->sh->quick = false;
		raise(SIGSTOP);
	}
}

/* Every kind of store that there is, in few operations. Tuples 0 and 1 are TCP and UDP over IPv4, 3 has no ports. */
static void each_kind(struct shared *sh)
{
	struct worker k = {.sh = sh};
	/* Large memory comes zeroed from the kernel each time, instead of by a million single steps. */
	mallopt(M_MMAP_THRESHOLD, 65536);
	raise(SIGSTOP);
	work_open(&k); /* a new file */
	sh->opens = false;
	work_begin(&k, 0, 0, 0, 0);
	work_pass(&k, 0, 0, 0);
	work_pass(&k, 0, 0, 1);     /* moves */
	work_begin(&k, 1, 0, 0, 0); /* by another port */
	work_begin(&k, 0, 3, 0, 0);
	work_begin(&k, 1, 3, 0, 0); /* by an address of the pool */
	work_begin(&k, 0, 1, 0, FS_BEGIN_READDRESS);
	work_tick(&k, 25000, 100);
	work_end(&k, 0, 0);
	work_begin(&k, 0, 0, 0, 0); /* takes its own place back from quarantine */
	work_unbind(&k, 0, 0);
	work_tick(&k, 0, 100);     /* ends what went by that tunnel */
	work_tick(&k, 30000, 100); /* free, and so is the name's slot */
	work_unbind(&k, 1, -1);    /* takes slots that were used before */
	work_begin(&k, 1, 1, 0, 0);
	work_tick(&k, 700000, 100); /* time ends the rest */
	work_tick(&k, 30000, 100);
	for (unsigned n = 0; n < 12; n++)
		work_begin(&k, 0, n, 1, 0);
	for (unsigned n = 0; n < 8; n++)
		work_end(&k, 0, n);
	work_tick(&k, 30000, 100);
	start_again(&k, 8); /* what lies above comes down */
	for (unsigned n = 0; n < 4; n++)
		work_begin(&k, 0, n, 1, 0);
	work_tick(&k, 2000, 100);
	work_end(&k, 0, 8);
	for (unsigned n = 0; n < 3;
		n++) /* somebody makes room: who is in quarantine, and who was not answered */
		work_begin(&k, 1, n, 0, 0);
	start_again(&k, 64);
	work_nat(&k, FS_NAT_POOL, 1); /* all end */
	for (unsigned n = 0; n < 4; n++)
		work_begin(&k, 1, n, 0, 0);
	work_nat(&k, FS_NAT_KERNEL, 0);
	work_begin(&k, 1, 3, 0, 0);
	work_begin(&k, 0, 0, 1, 0);
	work_begin(&k, 1, 8, 0, 0); /* another host, the same port */
	work_end(&k, 0, 0);
	work_nat(&k, FS_NAT_NONE, 0);
	work_begin(&k, 1, 0, 0, 0);
	sh->done = true;
	raise(SIGSTOP);
}

struct snapshot {
	size_t size;
	uint8_t names[3 * 4096], blocks[2 * sizeof(struct block)];
};

/* The parts of the file that are written to here. */
static void take(int fd, struct snapshot *s)
{
	struct stat st;
	assert_int_equal(fstat(fd, &st), 0);
	s->size = (size_t)st.st_size;
	ssize_t a = pread(fd, s->names, sizeof(s->names), 0);
	ssize_t b = pread(fd, s->blocks, sizeof(s->blocks), BLOCKS_AT);
	assert_true(a >= 0 && b >= 0);
	memset(s->names + a, 0, sizeof(s->names) - (size_t)a);
	memset(s->blocks + b, 0, sizeof(s->blocks) - (size_t)b);
}

/* The filters are too large to be compared at each step, but stand still while they are copied. */
static void copy_filters(int from, int to, const struct snapshot *s)
{
	static uint8_t b[2 * CLOSED_FILTER_OCTETS];
	off_t at = BLOCKS_AT - (off_t)sizeof(b);
	struct arena_header h;
	memcpy(&h, s->names, sizeof(h));
	if (s->size < BLOCKS_AT || !(h.closed_count[0] | h.closed_count[1]))
		return;
	assert_int_equal(pread(from, b, sizeof(b), at), sizeof(b));
	assert_int_equal(pwrite(to, b, sizeof(b), at), sizeof(b));
}

/* A process that had been killed right now would have left this file. */
static uint32_t judge_copy(int original, const struct snapshot *s, struct shared *sh, uint32_t max)
{
	char copy[sizeof(path) + 8];
	struct world w;
	snprintf(copy, sizeof(copy), "%s.copy", path);
	int fd = open(copy, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, s->names, sizeof(s->names), 0), sizeof(s->names));
	assert_int_equal(pwrite(fd, s->blocks, sizeof(s->blocks), BLOCKS_AT), sizeof(s->blocks));
	copy_filters(original, fd, s);
	assert_int_equal(ftruncate(fd, (off_t)s->size), 0);
	close(fd);
	judge(&w, sh, copy, max);
	fs_close(w.fs);
	unlink(copy);
	return w.rep.torn;
}

/* A filter is cleared by millions of instructions, and of filters nothing is compared. If the process is about to, it does so in
 * one go, and stops behind it. */
static bool through_memset(pid_t pid)
{
#ifdef __x86_64__
	struct user_regs_struct r;
	long back, code;
	int status;

	if ((uintptr_t)ptrace(PTRACE_PEEKUSER, pid, offsetof(struct user, regs.rip), NULL) !=
		(uintptr_t)memset)
		return false;
	assert_int_equal(ptrace(PTRACE_GETREGS, pid, NULL, &r), 0);
	if (r.rdx < CLOSED_FILTER_OCTETS / 64)
		return false;
	back = ptrace(PTRACE_PEEKTEXT, pid, r.rsp, NULL);
	code = ptrace(PTRACE_PEEKTEXT, pid, back, NULL);
	assert_int_equal(ptrace(PTRACE_POKETEXT, pid, back, (code & ~0xffL) | 0xcc), 0);
	assert_int_equal(ptrace(PTRACE_CONT, pid, NULL, NULL), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSTOPPED(status) && WSTOPSIG(status) == SIGTRAP);
	assert_int_equal(ptrace(PTRACE_POKETEXT, pid, back, code), 0);
	assert_int_equal(ptrace(PTRACE_GETREGS, pid, NULL, &r), 0);
	r.rip = (unsigned long)back;
	assert_int_equal(ptrace(PTRACE_SETREGS, pid, NULL, &r), 0);
	return true;
#else
	(void)pid;
	return false;
#endif
}

static void test_each_instruction(void **state)
{
	(void)state;
	struct shared *sh = shared_new(64);
	struct snapshot *now = calloc(2, sizeof(*now)), *last = now + 1;
	uint64_t steps = 0, states = 0, torn = 0;
	int status;
	assert_non_null(now);
	sh->opens = true;
	unlink(path);
	int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	/* Both on one processor: they take turns, and each turn would wake up another one. */
	cpu_set_t before, one;
	assert_int_equal(sched_getaffinity(0, sizeof(before), &before), 0);
	CPU_ZERO(&one);
	CPU_SET((size_t)sched_getcpu(), &one);
	assert_int_equal(sched_setaffinity(0, sizeof(one), &one), 0);
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) < 0)
			_exit(77);
		each_kind(sh);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
		skip();
	while (!sh->done) {
		take(fd, now);
		if (memcmp(now, last, sizeof(*now)) != 0) {
			memcpy(last, now, sizeof(*now));
			torn += judge_copy(fd, last, sh, sh->cfg.max);
			if (sh->cfg.max < 64)
				judge_copy(fd, last, sh, 64);
			states++;
		}
		if (!sh->quick && through_memset(pid))
			continue;
		assert_int_equal(ptrace(sh->quick ? PTRACE_CONT : PTRACE_SINGLESTEP, pid, NULL, NULL), 0);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		if (!WIFSTOPPED(status))
			fail_msg("the worker ended by itself: %s", sh->error);
		steps++;
	}
	print_message("%llu instructions, %llu states of the file, %llu with a torn record\n",
		(unsigned long long)steps, (unsigned long long)states, (unsigned long long)torn);
	assert_true(states > (STEP_STARTS ? 200 : 150) && torn > 10);
	kill(pid, SIGKILL);
	waitpid(pid, &status, 0);
	assert_int_equal(sched_setaffinity(0, sizeof(before), &before), 0);
	close(fd);
	free(now);
	munmap(sh, sizeof(*sh));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_killed),
		cmocka_unit_test(test_each_instruction),
	};
	return cmocka_run_group_tests(tests, arena_setup, arena_teardown);
}
