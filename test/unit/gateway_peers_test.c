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

#define NOW 1000

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

static struct peer_place at(uint16_t local_port, const char *address, uint16_t port)
{
	struct peer_place p = {
		.identity = 0x0123456789abcdef, .local_port = local_port, .remote.port = port, .seen_s = 77};

	assert_int_equal(addr_parse(address, &p.remote.a), 0);
	return p;
}

static struct peers *opened(void)
{
	struct peers *p;

	assert_int_equal(peers_open(&p, dir, NOW), 0);
	return p;
}

static void assert_at(
	const struct peers *p, const char *name, uint16_t local_port, const char *address, uint16_t port)
{
	struct peer_place want = at(local_port, address, port), got;

	assert_true(peers_find(p, name, &got));
	assert_int_equal(got.identity, want.identity);
	assert_int_equal(got.seen_s, 77);
	assert_int_equal(got.local_port, local_port);
	assert_int_equal(got.remote.port, port);
	assert_true(addr_eq(&got.remote.a, &want.remote.a));
}

static bool has(const struct peers *p, const char *name)
{
	struct peer_place got;

	return peers_find(p, name, &got);
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
	struct peer_place a = at(500, "203.0.113.10", 500), b = at(4500, "2001:db8::7", 61234),
			  c = at(4500, "203.0.113.12", 4500);
	struct peers *p = opened();
	struct stat st;

	(void)state;
	peers_set(p, "branch-b", &b);
	peers_set(p, "branch-a", &a);
	peers_set(p, "branch-c", &c);
	peers_forget(p, "branch-c");
	peers_forget(p, "never-there");
	assert_int_equal(peers_write(p), 0);
	peers_free(p);
	assert_int_equal(stat(in_dir("peers"), &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_int_not_equal(access(in_dir("peers.new"), F_OK), 0);

	p = opened();
	assert_at(p, "branch-a", 500, "203.0.113.10", 500);
	assert_at(p, "branch-b", 4500, "2001:db8::7", 61234);
	assert_false(has(p, "branch-c"));
	peers_free(p);
}

static void writes_only_what_changed(void **state)
{
	struct peer_place a = at(500, "203.0.113.10", 500);
	struct peers *p = opened();

	(void)state;
	assert_int_equal(peers_write(p), 0);
	assert_int_not_equal(access(in_dir("peers"), F_OK), 0);
	peers_set(p, "x", &a);
	assert_int_equal(peers_write(p), 0);
	assert_int_equal(unlink(in_dir("peers")), 0);
	peers_set(p, "x", &a); /* as it is */
	assert_int_equal(peers_write(p), 0);
	assert_int_not_equal(access(in_dir("peers"), F_OK), 0);
	for (unsigned i = 0; i < 5; i++) {
		a.remote.port += i == 0;
		a.local_port += i == 1;
		a.identity += i == 2;
		a.remote.a.b[15] ^= i == 3;
		a.seen_s += i == 4;
		peers_set(p, "x", &a);
		assert_int_equal(peers_write(p), 0);
		assert_int_equal(unlink(in_dir("peers")), 0);
	}
	peers_free(p);
}

static void many_in_any_order(void **state)
{
	struct peers *p = opened();
	char name[16];

	(void)state;
	for (unsigned i = 0; i < 1000; i++) {
		struct peer_place e = at(4500, "192.0.2.1", (uint16_t)(i * 7919 % 1000 + 1));

		snprintf(name, sizeof(name), "t%u", i * 7919 % 1000);
		peers_set(p, name, &e);
	}
	for (unsigned i = 0; i < 1000; i += 2) {
		snprintf(name, sizeof(name), "t%u", i);
		peers_forget(p, name);
	}
	assert_int_equal(peers_write(p), 0);
	peers_free(p);
	p = opened();
	for (unsigned i = 0; i < 1000; i++) {
		snprintf(name, sizeof(name), "t%u", i);
		if (i % 2)
			assert_at(p, name, 4500, "192.0.2.1", (uint16_t)(i + 1));
		else
			assert_false(has(p, name));
	}
	peers_free(p);
}

static bool is_odd(void *arg, const char *tunnel, const struct peer_place *p)
{
	++*(unsigned *)arg;
	assert_int_equal(p->remote.port, atoi(tunnel + 1) + 1);
	return atoi(tunnel + 1) % 2;
}

static void sifting(void **state)
{
	struct peers *p = opened();
	unsigned asked = 0;
	char name[16];

	(void)state;
	peers_sift(p, is_odd, &asked); /* of none */
	assert_false(peers_changed(p));
	for (unsigned i = 0; i < 100; i++) {
		struct peer_place e = at(4500, "192.0.2.1", (uint16_t)(i + 1));

		snprintf(name, sizeof(name), "t%u", i);
		peers_set(p, name, &e);
	}
	assert_int_equal(peers_write(p), 0);
	for (unsigned round = 0; round < 2; round++) {
		peers_sift(p, is_odd, &asked);
		assert_int_equal(asked, round ? 150 : 100);
		assert_int_equal(peers_changed(p), round == 0);
		assert_int_equal(peers_write(p), 0);
	}
	for (unsigned i = 0; i < 100; i++) {
		snprintf(name, sizeof(name), "t%u", i);
		assert_int_equal(has(p, name), i % 2);
	}
	peers_free(p);
}

#define ID "0123456789abcdef"

static void damaged_lines_are_left_out(void **state)
{
	struct peers *p;

	(void)state;
	write_text("good " ID " 4500 192.0.2.1 4500 77\n"
		   "\n"
		   "short " ID " 4500 192.0.2.1 4500\n"
		   "no-identity 4500 192.0.2.1 4500 77\n"
		   "short-identity 123456789abcdef 4500 192.0.2.1 4500 77\n"
		   "long-identity " ID "0 4500 192.0.2.1 4500 77\n"
		   "odd-identity 0x23456789abcdef 4500 192.0.2.1 4500 77\n"
		   "no-address " ID " 4500 192.0.2 4500 77\n"
		   "no-port " ID " 4500 192.0.2.1 0 77\n"
		   "large-port " ID " 4500 192.0.2.1 65536 77\n"
		   "large-local " ID " 70000 192.0.2.1 500 77\n"
		   "no-time " ID " 4500 192.0.2.1 4500 now\n"
		   "odd-time " ID " 4500 192.0.2.1 4500 77s\n"
		   "long-time " ID " 4500 192.0.2.1 4500 18446744073709551693\n"
		   "to-come " ID " 4500 192.0.2.1 4500 1001\n"
		   "more " ID " 4500 192.0.2.1 4500 x 77\n"
		   "a-name-that-is-longer-than-a-name-of-a-tunnel-can-ever-be-in-a-configuration " ID " 4500 "
		   "192.0.2.1 4500 77\n"
		   "last " ID " 500 2001:db8::1 500 1000");
	p = opened();
	assert_at(p, "good", 4500, "192.0.2.1", 4500);
	assert_true(has(p, "last"));
	for (const char *const *n = (const char *const[]){"short", "no-identity", "short-identity",
		     "long-identity", "odd-identity", "no-address", "no-port", "large-port", "large-local",
		     "no-time", "odd-time", "long-time", "to-come", "more", NULL};
		*n; n++)
		assert_false(has(p, *n));
	peers_free(p);
}

static void a_directory_that_is_gone(void **state)
{
	struct peer_place a = at(500, "203.0.113.10", 500);
	struct peers *p;

	(void)state;
	assert_int_equal(peers_open(&p, "/nowhere/at/all", NOW), 0);
	peers_set(p, "x", &a);
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
		cmocka_unit_test_setup_teardown(sifting, make_dir, remove_dir),
		cmocka_unit_test_setup_teardown(damaged_lines_are_left_out, make_dir, remove_dir),
		cmocka_unit_test(a_directory_that_is_gone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
