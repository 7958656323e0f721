/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ipsec_ike_test.c - the key exchange as far as it goes without a peer: which library is taken, start and stop, connections
 * added and removed, octets that are no IKE. Certificates: ipsec_ikecerts_test.c. Handshakes are in
 * test/netns. */
#include "ipsec/ike_admit.h"
#include "ipsec/ike_version.h"
#include "test/unit/ipsec_ike_help.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

/* ---- the library's version ----------------------------------------------------------------------------- */

static void versions_are_compared(void **state)
{
	static const struct {
		const char *package;
		bool equal;
	} table[] = {
		{"5.9.8-5+deb12u6", true},
		{"5.9.8-5", true},
		{"5.9.8", true},
		{"1:5.9.8-1", true},
		{"5.9.8-1~bpo11+1", true},
		{"5.9.80-1", false},
		{"5.9.9-1", false},
		{"5.9-8", false},
		{"15.9.8-1", false},
		{"6.0.1-6", false},
		{"5.9.8+dfsg-1", false},
		{"", false},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
		if (ike_version_equal("5.9.8", table[i].package) != table[i].equal)
			fail_msg("%s", table[i].package);
}

#define STANZA(name, status, version)                                                                        \
	"Package: " name "\nStatus: install ok " status "\nArchitecture: amd64\nVersion: " version           \
	"\nDescription: x\n Version: 1\n\n"

static void package_is_found(void **state)
{
	static const struct {
		const char *text;
		int ret;
		const char *says;
	} table[] = {
		{STANZA("a", "installed", "1") STANZA("strongswan-libcharon", "installed", "5.9.8-5"), 0, ""},
		{"Package: strongswan-libcharon\nStatus: install ok installed\nVersion: 5.9.8-5", 0, ""},
		{STANZA("strongswan-libcharon", "installed", "5.9.14-1"), -ENOTSUP,
			"of version 5.9.14-1; built for 5.9.8"},
		{STANZA("strongswan-libcharon", "config-files", "5.9.8-5"), -ENOTSUP,
			"no package strongswan-libcharon"},
		{STANZA("strongswan-libcharon-x", "installed", "5.9.8-5"), -ENOTSUP, "no package"},
		{STANZA("a", "installed", "5.9.8-5"), -ENOTSUP, "no package"},
		{"", -ENOTSUP, "no package"},
	};
	char path[] = "/tmp/ike-version-XXXXXX", err[256];
	int fd = mkstemp(path);

	(void)state;
	assert_true(fd >= 0);
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		size_t len = strlen(table[i].text);
		int ret;

		assert_int_equal(ftruncate(fd, 0), 0);
		assert_int_equal(pwrite(fd, table[i].text, len, 0), len);
		err[0] = '\0';
		ret = ike_version_check_file(path, "5.9.8", err, sizeof(err));
		if (ret != table[i].ret || !strstr(err, table[i].says))
			fail_msg("%zu: %d '%s'", i, ret, err);
	}
	close(fd);
	unlink(path);
	assert_int_equal(ike_version_check_file(path, "5.9.8", err, sizeof(err)), -ENOTSUP);
	assert_non_null(strstr(err, "5.9.8 was expected"));
}

/* ---- start and stop -------------------------------------------------------------------------------------- */

static void starts_and_stops_again_and_again(void **state)
{
	(void)state;
	for (int i = 0; i < 5; i++) {
		assert_int_equal(set_up(state), 0);
		assert_int_equal(tear_down(state), 0);
	}
}

static void is_there_once(void **state)
{
	char err[512] = "";
	struct ike *second;
	struct rig *r = *state;

	assert_int_equal(ike_start(&second, &r->o, err, sizeof(err)), -EALREADY);
	assert_non_null(strstr(err, "already"));
}

static volatile sig_atomic_t taken;

static void take_signal(int sig)
{
	(void)sig;
	taken = 1;
}

/* Its threads take no signals, which are the loop's; and the caller's mask is as before. */
static void leaves_signals_alone(void **state)
{
	static const struct timespec second = {.tv_sec = 1};
	struct sigaction act = {.sa_handler = take_signal}, before;
	sigset_t mask, one, after;

	pthread_sigmask(SIG_SETMASK, NULL, &mask);
	assert_int_equal(set_up(state), 0);
	pthread_sigmask(SIG_SETMASK, NULL, &after);
	for (int s = 1; s < SIGRTMIN; s++)
		assert_int_equal(sigismember(&mask, s), sigismember(&after, s));

	sigemptyset(&one);
	sigaddset(&one, SIGUSR1);
	sigaction(SIGUSR1, &act, &before);
	pthread_sigmask(SIG_BLOCK, &one, NULL);
	assert_int_equal(kill(getpid(), SIGUSR1), 0);
	assert_int_equal(sigtimedwait(&one, NULL, &second), SIGUSR1);
	assert_int_equal(taken, 0);
	pthread_sigmask(SIG_SETMASK, &mask, NULL);
	sigaction(SIGUSR1, &before, NULL);
	assert_int_equal(tear_down(state), 0);
}

/* ---- connections --------------------------------------------------------------------------------------------- */

static void identities_of_every_kind(void **state)
{
	static const char *const good[] = {"branch-b", "branch.example.net", "@branch2.example.net",
		"b@example.net", "192.0.2.77", "2001:db8::77", "@#0badcafe", "CN=branch, O=Example",
		"C=DE, O=Example, CN=branch", "fqdn:x", "keyid:y"};
	static const char *const bad[] = {"%any", "*", "*.example.net", "*@example.net", "10.0.0.0/8",
		"CN=*, O=Example", "0.0.0.0", "", "10.0.0.1-10.0.0.9"};
	struct rig *r = *state;

	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		struct ike_conn c = conn_of((uint32_t)i + 1, good[i]);

		expect_add(r, &c, 0, "");
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct ike_conn c = conn_of(1000, bad[i]);

		expect_add(r, &c, -EINVAL, "is not the identity of one peer");
	}
}

static void peers_are_told_apart(void **state)
{
	struct ike_conn a = conn_of(1, "branch.example.net"), b;
	struct rig *r = *state;

	expect_add(r, &a, 0, "");
	expect_add(r, &a, -EEXIST, "connection 1 is there already");

	b = conn_of(2, "BRANCH.example.net"); /* names have no case */
	expect_add(r, &b, -EEXIST, "those of 'branch' too");
	assert_int_equal(addr_parse("192.0.2.2", &b.local), 0);
	expect_add(r, &b, -EEXIST, "those of 'branch' too");
	b.local_id = NULL; /* the address: another one */
	expect_add(r, &b, 0, "");

	b = conn_of(3, NULL);
	expect_add(r, &b, -EINVAL, "remote_id is missing");
	assert_int_equal(addr_parse("198.51.100.7", &b.remote), 0);
	expect_add(r, &b, 0, "");
	b = conn_of(4, "198.51.100.7");
	expect_add(r, &b, -EEXIST, "too");

	/* Removed, it may come again at once, with another key. */
	ike_remove(r->ike, 1);
	a.psk = (const uint8_t *)"other";
	a.psk_len = 5;
	expect_add(r, &a, 0, "");
	ike_remove(r->ike, 77); /* nobody */
}

static void credentials_are_checked(void **state)
{
	struct ike_conn c = conn_of(1, "branch");
	struct rig *r = *state;

	c.psk = NULL;
	expect_add(r, &c, -EINVAL, "neither a psk");
	c.cert_file = "/nonexistent/cert";
	c.key_file = "/nonexistent/key";
	c.ca_file = "/nonexistent/ca";
	expect_add(r, &c, -ENOENT, "cert_file '/nonexistent/cert'");
	c.cert_file = c.key_file = "/etc/passwd";
	expect_add(r, &c, -EINVAL, "not a certificate");
	c.cert_file = "/dev/zero";
	expect_add(r, &c, -EFBIG, "cert_file '/dev/zero'");
}

static void steering_finds_connections(void **state)
{
	struct ike_conn c = conn_of(5, "branch");
	struct rig *r = *state;

	expect_add(r, &c, 0, "");
	assert_int_equal(ike_initiate(r->ike, 6, NULL, 500), -ENOENT);
	assert_int_equal(ike_initiate(r->ike, 5, NULL, 500), -EDESTADDRREQ);
	assert_int_equal(ike_rekey(r->ike, 6, true), -ENOENT);
	assert_int_equal(ike_rekey(r->ike, 5, false), 0);
	assert_int_equal(ike_terminate(r->ike, 6), -ENOENT);
	assert_int_equal(ike_terminate(r->ike, 5), 0);
}

static bool wait_for(struct rig *r, enum ike_event_kind kind, const char *says)
{
	static const struct timespec tick = {.tv_nsec = 10000000};

	for (int i = 0; i < 1000; i++) {
		if (drain(r, kind, says))
			return true;
		nanosleep(&tick, NULL);
	}
	return false;
}

/* Without sockets nothing can be sent; the connection is begun all the same, and ends with the rest. */
static void initiates_by_itself(void **state)
{
	struct ike_conn c = conn_of(5, "branch");
	struct rig *r = *state;

	c.initiate = true;
	assert_int_equal(addr_parse("192.0.2.9", &c.remote), 0);
	expect_add(r, &c, 0, "");
	assert_true(wait_for(r, IKE_EVENT_STATUS, NULL));
	ike_remove(r->ike, 5);
}

/* ---- what is no IKE ------------------------------------------------------------------------------------------ */

/* The header of an IKE_SA_INIT request; what follows it makes no sense. */
static void first_request(uint8_t *data, uint32_t len)
{
	for (uint32_t i = 0; i < len; i++)
		data[i] = (uint8_t)(i * 7 + 1);
	memset(data + 8, 0, 8); /* the responder's SPI */
	data[16] = 33;          /* SA */
	data[17] = 0x20;        /* IKEv2 */
	data[18] = 34;          /* IKE_SA_INIT */
	data[19] = 0x08;        /* from an initiator */
	memset(data + 20, 0, 4);
	data[24] = data[25] = 0;
	data[26] = (uint8_t)(len >> 8);
	data[27] = (uint8_t)len;
}

static void headers_are_looked_at(void **state)
{
	static const struct {
		const char *what;
		int at, value; /* one octet, besides those that follow */
		uint8_t payload, exchange, flags;
		bool admitted;
	} table[] = {
		{"IKE_SA_INIT request", 1, 8, 33, 34, 0x08, true},
		{"with a minor version", 17, 0x21, 33, 34, 0x08, true},
		{"of IKEv1", 17, 0x10, 33, 34, 0x08, false},
		{"of IKEv3", 17, 0x30, 33, 34, 0x08, true},
		{"of version 0", 17, 0x00, 33, 34, 0x08, false},
		{"from a responder", 1, 8, 33, 34, 0x00, false},
		{"with a responder's SPI", 15, 1, 33, 34, 0x08, false},
		{"with a message id", 23, 1, 33, 34, 0x08, false},
		{"longer than it is", 27, 101, 33, 34, 0x08, false},
		{"shorter than it is", 27, 99, 33, 34, 0x08, false},
		{"IKE_SA_INIT response", 15, 1, 33, 34, 0x20, true},
		{"response of an initiator", 15, 1, 33, 34, 0x28, false},
		{"IKE_AUTH", 23, 1, 46, 35, 0x08, true},
		{"IKE_AUTH in fragments", 23, 1, 53, 35, 0x08, true},
		{"IKE_AUTH in the clear", 23, 1, 35, 35, 0x08, false},
		{"CREATE_CHILD_SA", 23, 9, 46, 36, 0x20, true},
		{"INFORMATIONAL", 23, 9, 46, 37, 0x00, true},
		{"INFORMATIONAL in the clear", 23, 9, 41, 37, 0x00, false},
		{"IKE_SESSION_RESUME", 23, 0, 46, 38, 0x08, false},
		{"ME_CONNECT", 23, 0, 46, 240, 0x08, false},
		{"main mode", 17, 0x10, 1, 2, 0x00, false},
	};
	uint8_t data[100];

	(void)state;
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		first_request(data, sizeof(data));
		data[16] = table[i].payload;
		data[18] = table[i].exchange;
		data[19] = table[i].flags;
		data[table[i].at] = (uint8_t)table[i].value;
		if (ike_admit(data, sizeof(data)) != table[i].admitted)
			fail_msg("%s", table[i].what);
	}
	first_request(data, sizeof(data));
	memset(data, 0, 8);
	assert_false(ike_admit(data, sizeof(data)));
	for (uint32_t len = 0; len < 28; len++) {
		first_request(data, sizeof(data));
		data[27] = (uint8_t)len;
		assert_false(ike_admit(data, len));
	}
}

static void garbage_does_no_harm(void **state)
{
	struct sa_end local = {.port = 500}, remote = {.port = 500};
	struct rig *r = *state;
	struct ike_conn c = conn_of(1, "branch.example.net");
	uint8_t data[2000] = {0};

	expect_add(r, &c, 0, "");
	local.a = c.local;
	assert_int_equal(addr_parse("192.0.2.2", &remote.a), 0);
	for (uint32_t len = 0; len < 64; len++)
		assert_int_equal(ike_receive(r->ike, &local, &remote, data, len), DROP_IKE_MALFORMED);
	first_request(data, sizeof(data));
	assert_int_equal(ike_receive(r->ike, &local, &remote, data, sizeof(data)), DROP_NONE);
	assert_true(wait_for(r, IKE_EVENT_LOG, "could not be parsed"));

	/* On 4500 with four zero octets before it, from whatever port. */
	local.port = 4500;
	for (int i = 0; i < 2; i++) {
		remote.port = i ? 4500 : 500;
		first_request(data, sizeof(data));
		assert_int_equal(
			ike_receive(r->ike, &local, &remote, data, sizeof(data)), DROP_IKE_MALFORMED);
		assert_int_equal(ike_receive(r->ike, &local, &remote, data, 3), DROP_IKE_MALFORMED);
		memset(data, 0, 4);
		first_request(data + 4, 100 + (uint32_t)i);
		assert_int_equal(ike_receive(r->ike, &local, &remote, data, 104 + (uint32_t)i), DROP_NONE);
		assert_true(wait_for(r, IKE_EVENT_LOG, "could not be parsed"));
	}
}

/* Only to addresses that connections have; or had, since an IKE_SA that ends is answered there. */
static void addresses_that_are_spoken_to(void **state)
{
	struct ike_conn a = conn_of(1, "a.example.net"), b = conn_of(2, "b.example.net");
	struct sa_end local[3] = {{.port = 500}, {.port = 500}, {.port = 500}}, remote = {.port = 500};
	struct rig *r = *state;
	uint8_t data[100] = {0};

	assert_int_equal(addr_parse("2001:db8::1", &b.local), 0);
	local[0].a = a.local;
	local[1].a = b.local;
	assert_int_equal(addr_parse("192.0.2.9", &local[2].a), 0);
	assert_int_equal(addr_parse("192.0.2.2", &remote.a), 0);
	/* Of an IKE_SA that nobody has: nothing is begun by it that would still be under way at the end. */
	first_request(data, sizeof(data));
	data[8] = 1;
	data[16] = 46; /* SK */
	data[18] = 37; /* INFORMATIONAL */
	for (unsigned had = 0;; had++) {
		for (unsigned i = 0; i < 3; i++)
			assert_int_equal(ike_receive(r->ike, &local[i], &remote, data, sizeof(data)),
				i < had ? DROP_NONE : DROP_IKE_LOCAL);
		if (had == 0)
			expect_add(r, &a, 0, "");
		else if (had == 1)
			expect_add(r, &b, 0, "");
		else
			break;
	}
	ike_remove(r->ike, 1);
	ike_remove(r->ike, 2);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(ike_receive(r->ike, &local[i], &remote, data, sizeof(data)),
			i < 2 ? DROP_NONE : DROP_IKE_LOCAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(versions_are_compared),
		cmocka_unit_test(package_is_found),
		cmocka_unit_test(starts_and_stops_again_and_again),
		cmocka_unit_test_setup_teardown(is_there_once, set_up, tear_down),
		cmocka_unit_test(leaves_signals_alone),
		cmocka_unit_test_setup_teardown(identities_of_every_kind, set_up, tear_down),
		cmocka_unit_test_setup_teardown(peers_are_told_apart, set_up, tear_down),
		cmocka_unit_test_setup_teardown(credentials_are_checked, set_up, tear_down),
		cmocka_unit_test_setup_teardown(steering_finds_connections, set_up, tear_down),
		cmocka_unit_test_setup_teardown(initiates_by_itself, set_up, tear_down),
		cmocka_unit_test(headers_are_looked_at),
		cmocka_unit_test_setup_teardown(garbage_does_no_harm, set_up, tear_down),
		cmocka_unit_test_setup_teardown(addresses_that_are_spoken_to, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
