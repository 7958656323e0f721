/* SPDX-License-Identifier: GPL-2.0-or-later */
/* gateway_followsocket_test.c - followers on the control socket: bundles, rights, those that do not read or go away. */
#define NFLOWS 0
#define ROOM   100000
#include "test/unit/control_rig.h"

#define FOLLOW "{\"id\":3,\"command\":\"flows\",\"args\":{\"follow\":true}}\n"

static int dial_follow(struct rig *r)
{
	int fd = dial_hello(r);

	say(fd, FOLLOW);
	expect_line(r, fd, "{\"id\":3,\"event\":\"follow\",\"time\":\"2");
	return fd;
}

static struct client *follower(const struct rig *r)
{
	for (unsigned i = 0; i < CLIENTS_MAX; i++)
		if (r->ctl->clients[i] && r->ctl->clients[i]->req.following)
			return r->ctl->clients[i];
	return NULL;
}

static unsigned nfollowers(const struct rig *r)
{
	unsigned n = 0;

	for (unsigned i = 0; i < CLIENTS_MAX; i++)
		n += r->ctl->clients[i] && r->ctl->clients[i]->req.following;
	return n;
}

static void begin_flows(struct rig *r, uint32_t from, uint32_t n)
{
	for (uint32_t i = from; i < from + n; i++)
		assert_int_not_equal(toy_flow(&r->toy, 1, IPPROTO_TCP, i), FS_NONE);
}

/* Events come in bundles, in order; in between the server does not turn idly. Silence cuts nobody off who follows. */
static void test_bundles(void **state)
{
	struct rig *r = *state;
	int fd = dial_follow(r);
	char want[64];

	for (uint32_t bundle = 0; bundle < 3; bundle++) {
		begin_flows(r, 1 + bundle * 10, 10);
		for (uint32_t i = 0; i < 10; i++) {
			snprintf(want, sizeof(want), "\"orig\":{\"src\":\"10.0.1.5\",\"sport\":%u,",
				1 + bundle * 10 + i);
			expect_line(r, fd, want);
		}
		loop(r);
		assert_int_equal(follower(r)->phase, READING);
		assert_false(uv_is_active((uv_handle_t *)&r->ctl->turn));
		follower(r)->since_ms = uv_now(&r->uv) - IDLE_MS;
		on_sweep(&r->ctl->sweep);
		assert_int_equal(nfollowers(r), 1);
	}
	close(fd);
}

/* Whoever asks for something else has followed; that is answered behind the result. Then it may follow again. */
static void test_asks_meanwhile(void **state)
{
	struct rig *r = *state;
	int fd = dial_follow(r);

	begin_flows(r, 1, 1);
	expect_line(r, fd, "\"event\":\"begin\"");
	say(fd, "{\"id\":4,\"command\":\"status\"}\n" FOLLOW);
	expect_line(r, fd, "{\"id\":3,\"result\":{\"events\":1,\"lost\":0}}\n");
	expect_line(r, fd, "{\"id\":4,\"result\":{");
	expect_line(r, fd, "{\"id\":3,\"event\":\"follow\"");
	begin_flows(r, 2, 1);
	expect_line(r, fd, "\"sport\":2,");
	say(fd, "\n");
	expect_line(r, fd, "{\"id\":3,\"result\":{\"events\":1,\"lost\":0}}\n");
	for (unsigned turns = 0; turns < 10; turns++)
		loop(r);
	assert_int_equal(nfollowers(r), 0);
	assert_int_equal(nclients(r), 1);
	/* it is cut off like any other client again */
	r->ctl->clients[CLIENTS_MAX - 1]->since_ms = uv_now(&r->uv) - IDLE_MS;
	on_sweep(&r->ctl->sweep);
	expect_closed(r, fd);
}

/* So many flows begin, and end: there is room for others. */
static void flood(struct rig *r, uint32_t n)
{
	begin_flows(r, 1, n);
	for (unsigned i = 0; i < 2; i++)
		fs_tick(r->toy.gw.fs, toy_now_ms += 300000, UINT32_MAX);
}

/* Until the server waits for the client to read. */
static void wait_stuck(struct rig *r, const struct client *c)
{
	unsigned writing = 0;

	for (unsigned turns = 0; turns < 10000 && writing < 100; turns++) {
		if (control_follow_waiting(&c->req) < 1000)
			flood(r, 1000);
		loop(r);
		usleep(100);
		writing = c->phase == WRITING ? writing + 1 : 0;
	}
	assert_int_equal(writing, 100);
}

/* Reads events up to the one with this text. Counts them, and those that are said to be lost. */
static void read_until(struct rig *r, int fd, const char *last, uint64_t *got, uint64_t *lost)
{
	static char buf[1 << 20];
	char *line, *end, *count;
	size_t len = 0;

	for (;;) {
		ssize_t n = recv(fd, buf + len, sizeof(buf) - len, 0);

		assert_true(n != 0);
		if (n < 0) {
			loop(r);
			continue;
		}
		len += (size_t)n;
		for (line = buf; (end = memchr(line, '\n', len - (size_t)(line - buf))); line = end + 1) {
			*end = '\0';
			count = strstr(line, "\"event\":\"lost\"") ? strstr(line, "\"count\":") : NULL;
			*lost += count ? strtoull(count + 8, NULL, 10) : 0;
			*got += !count;
			if (strstr(line, last))
				return;
		}
		len -= (size_t)(line - buf);
		memmove(buf, line, len);
	}
}

/* One stops reading in a flood. The flood goes on, another follower has all of its own, and in the end the one that did
 * not read learns how much it has missed; or, if it does nothing at all for too long, is cut off. */
static void test_does_not_read(void **state)
{
	struct rig *r = *state;
	int stuck = dial_follow(r), quick;
	uint64_t got = 0, lost = 0;
	struct client *c = follower(r);
	struct fs_stats stats;

	wait_stuck(r, c);
	flood(r, 20000);
	assert_true(control_follow_waiting(&c->req) > FLOW_EVENTS_KEPT);
	quick = dial_follow(r);
	begin_flows(r, 50000, 1);
	expect_line(r, quick, "\"sport\":50000,");
	/* now it reads: everything is there, or said to be lost */
	read_until(r, stuck, "\"sport\":50000,", &got, &lost);
	fs_get_stats(r->toy.gw.fs, &stats);
	assert_true(lost > 0);
	assert_int_equal(got + lost, stats.created + stats.expired);

	wait_stuck(r, c);
	c->queued = uv_stream_get_write_queue_size((uv_stream_t *)&c->pipe);
	c->since_ms = uv_now(&r->uv) - STALL_MS;
	on_sweep(&r->ctl->sweep);
	assert_int_equal(nfollowers(r), 1);
	close(stuck);
	close(quick);
}

/* Followers that vanish, waiting or in the middle of a flood, leave nothing behind. */
static void test_vanishes(void **state)
{
	struct rig *r = *state;
	int fds[FLOW_FOLLOWERS_MAX], fd;

	for (unsigned round = 0; round < 4; round++) {
		for (unsigned i = 0; i < FLOW_FOLLOWERS_MAX; i++)
			fds[i] = dial_follow(r);
		fd = dial_hello(r);
		say(fd, FOLLOW);
		expect_line(r, fd, "\"code\":\"busy\"");
		close(fd);
		for (unsigned i = 0; i < FLOW_FOLLOWERS_MAX; i++) {
			if (round % 2)
				begin_flows(r, round * 10000 + 1000 * i, 1000);
			for (unsigned turns = 0; turns < 3 * i; turns++)
				loop(r);
			close(fds[i]);
		}
		for (unsigned turns = 0; turns < 2000 && nclients(r); turns++) {
			loop(r);
			usleep(100);
		}
		assert_int_equal(nclients(r), 0);
	}
	for (unsigned turns = 0; turns < 2000 && uv_is_active((uv_handle_t *)&r->ctl->follow); turns++) {
		loop(r);
		usleep(100);
	}
	assert_false(uv_is_active((uv_handle_t *)&r->ctl->follow));
}

/* The teardown closes the socket under them. */
static void test_close_under_followers(void **state)
{
	struct rig *r = *state;

	for (unsigned i = 0; i < FLOW_FOLLOWERS_MAX; i++)
		dial_follow(r); /* their descriptors are left to the end of the process */
	begin_flows(r, 1, 500);
	for (unsigned turns = 0; turns < 5; turns++)
		loop(r);
}

/* In a flood with followers a turn of the loop stays short, and another client has its answer. */
static void test_takes_turns(void **state)
{
	static char buf[1 << 20];
	struct rig *r = *state;
	int fds[FLOW_FOLLOWERS_MAX], fd;
	uint64_t longest = 0;

	for (unsigned i = 0; i < FLOW_FOLLOWERS_MAX; i++)
		fds[i] = dial_follow(r);
	fd = dial_hello(r);
	begin_flows(r, 1, 20000);
	usleep(60000);
	say(fd, "{\"id\":1,\"command\":\"status\"}\n");
	for (unsigned turns = 0; turns < 60; turns++) {
		uint64_t t0 = uv_hrtime(), took;

		loop(r);
		took = uv_hrtime() - t0;
		longest = took > longest ? took : longest;
		for (unsigned i = 0; i < FLOW_FOLLOWERS_MAX; i++)
			if (recv(fds[i], buf, sizeof(buf), 0) == 0)
				fail();
	}
	assert_true(recv(fd, buf, sizeof(buf), 0) > 0);
	assert_memory_equal(buf, "{\"id\":1,\"result\":", 17);
	assert_true(longest < 100 * UINT64_C(1000000));
	for (unsigned i = 0; i < FLOW_FOLLOWERS_MAX; i++)
		close(fds[i]);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_bundles, setup, teardown),
		cmocka_unit_test_setup_teardown(test_asks_meanwhile, setup, teardown),
		cmocka_unit_test_setup_teardown(test_does_not_read, setup, teardown),
		cmocka_unit_test_setup_teardown(test_vanishes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_close_under_followers, setup, teardown),
		cmocka_unit_test_setup_teardown(test_takes_turns, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
