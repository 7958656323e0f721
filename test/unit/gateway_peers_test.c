/* SPDX-License-Identifier: GPL-2.0-or-later */
/* gateway_peers_test.c - where the branches of IPsec tunnels were last seen. */
#include "gateway/peers.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char dir[64];

static int make_dir(void **state)
{
	(void)state;
	snprintf(dir, sizeof(dir), "/tmp/arrd-peers-XXXXXX");
	return mkdtemp(dir) ? 0 : -1;
}

static const char *in_dir(const char *name)
{
	static char path[128];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	return path;
}

static int remove_dir(void **state)
{
	(void)state;
	(void)unlink(in_dir("peers"));
	(void)unlink(in_dir("peers.new"));
	return rmdir(dir);
}

static struct sa_end end(const char *address, uint16_t port)
{
	struct sa_end e = {.port = port};

	assert_int_equal(addr_parse(address, &e.a), 0);
	return e;
}

static struct peers *opened(void)
{
	struct peers *p;

	assert_int_equal(peers_open(&p, dir), 0);
	return p;
}

static void assert_at(
	const struct peers *p, const char *name, uint16_t local_port, const char *address, uint16_t port)
{
	struct sa_end want = end(address, port), got;
	uint16_t local;

	assert_true(peers_find(p, name, &local, &got));
	assert_int_equal(local, local_port);
	assert_int_equal(got.port, port);
	assert_true(addr_eq(&got.a, &want.a));
}

static void write_text(const char *text)
{
	FILE *f = fopen(in_dir("peers"), "w");

	assert_non_null(f);
	fputs(text, f);
	fclose(f);
}

static void outlives_the_process(void **state)
{
	struct sa_end a = end("203.0.113.10", 500), b = end("2001:db8::7", 61234),
		      c = end("203.0.113.12", 4500);
	struct peers *p = opened();
	struct stat st;

	(void)state;
	peers_set(p, "branch-b", 4500, &b);
	peers_set(p, "branch-a", 500, &a);
	peers_set(p, "branch-c", 4500, &c);
	peers_set(p, "branch-c", 4500, NULL);
	peers_set(p, "never-there", 4500, NULL);
	assert_int_equal(peers_write(p), 0);
	peers_free(p);
	assert_int_equal(stat(in_dir("peers"), &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_int_not_equal(access(in_dir("peers.new"), F_OK), 0);

	p = opened();
	assert_at(p, "branch-a", 500, "203.0.113.10", 500);
	assert_at(p, "branch-b", 4500, "2001:db8::7", 61234);
	assert_false(peers_find(p, "branch-c", &(uint16_t){0}, &a));
	peers_free(p);
}

static void writes_only_what_changed(void **state)
{
	struct sa_end a = end("203.0.113.10", 500);
	struct peers *p = opened();

	(void)state;
	assert_int_equal(peers_write(p), 0);
	assert_int_not_equal(access(in_dir("peers"), F_OK), 0);
	peers_set(p, "x", 500, &a);
	assert_int_equal(peers_write(p), 0);
	assert_int_equal(unlink(in_dir("peers")), 0);
	peers_set(p, "x", 500, &a); /* as it is */
	assert_int_equal(peers_write(p), 0);
	assert_int_not_equal(access(in_dir("peers"), F_OK), 0);
	a.port = 501;
	peers_set(p, "x", 500, &a);
	assert_int_equal(peers_write(p), 0);
	assert_int_equal(access(in_dir("peers"), F_OK), 0);
	peers_free(p);
}

static void many_in_any_order(void **state)
{
	struct peers *p = opened();
	char name[16];

	(void)state;
	for (unsigned i = 0; i < 1000; i++) {
		struct sa_end e = end("192.0.2.1", (uint16_t)(i * 7919 % 1000 + 1));

		snprintf(name, sizeof(name), "t%u", i * 7919 % 1000);
		peers_set(p, name, 4500, &e);
	}
	for (unsigned i = 0; i < 1000; i += 2) {
		snprintf(name, sizeof(name), "t%u", i);
		peers_set(p, name, 0, NULL);
	}
	assert_int_equal(peers_write(p), 0);
	peers_free(p);
	p = opened();
	for (unsigned i = 0; i < 1000; i++) {
		snprintf(name, sizeof(name), "t%u", i);
		if (i % 2)
			assert_at(p, name, 4500, "192.0.2.1", (uint16_t)(i + 1));
		else
			assert_false(peers_find(p, name, &(uint16_t){0}, &(struct sa_end){.port = 0}));
	}
	peers_free(p);
}

static void damaged_lines_are_left_out(void **state)
{
	struct peers *p;
	struct sa_end e;
	uint16_t port;

	(void)state;
	write_text("good 4500 192.0.2.1 4500\n"
		   "\n"
		   "short 4500 192.0.2.1\n"
		   "no-address 4500 192.0.2 4500\n"
		   "no-port 4500 192.0.2.1 0\n"
		   "large-port 4500 192.0.2.1 65536\n"
		   "large-local 70000 192.0.2.1 500\n"
		   "more 4500 192.0.2.1 4500 x\n"
		   "a-name-that-is-longer-than-a-name-of-a-tunnel-can-ever-be-in-a-configuration 4500 "
		   "192.0.2.1 4500\n"
		   "last 500 2001:db8::1 500");
	p = opened();
	assert_at(p, "good", 4500, "192.0.2.1", 4500);
	assert_at(p, "last", 500, "2001:db8::1", 500);
	for (const char *const *n = (const char *const[]){"short", "no-address", "no-port", "large-port",
		     "large-local", "more", NULL};
		*n; n++)
		assert_false(peers_find(p, *n, &port, &e));
	peers_free(p);
}

static void a_directory_that_is_gone(void **state)
{
	struct sa_end a = end("203.0.113.10", 500);
	struct peers *p;

	(void)state;
	assert_int_equal(peers_open(&p, "/nowhere/at/all"), 0);
	peers_set(p, "x", 500, &a);
	assert_true(peers_write(p) < 0);
	assert_true(peers_write(p) < 0); /* still to be written */
	peers_free(p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(outlives_the_process, make_dir, remove_dir),
		cmocka_unit_test_setup_teardown(writes_only_what_changed, make_dir, remove_dir),
		cmocka_unit_test_setup_teardown(many_in_any_order, make_dir, remove_dir),
		cmocka_unit_test_setup_teardown(damaged_lines_are_left_out, make_dir, remove_dir),
		cmocka_unit_test(a_directory_that_is_gone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
