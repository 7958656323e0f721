/* SPDX-License-Identifier: GPL-2.0-or-later */
/* gre_sock_test.c - the GRE sockets on the loopback device of a network namespace of their own. Needs root. */
#include "gateway/base/msg.h"
#include "gre/sock.h"
#include "test/unit/loopback.h"

#include <poll.h>

static bool usable; /* we are root, in our own namespace */

static int group_setup(void **state)
{
	(void)state;
	usable = loopback_make("gre_sock_test");
	return 0;
}

static struct gre_sock *open_sock(const struct family *f)
{
	struct gre_sock *s;

	if (!usable)
		skip();
	assert_int_equal(gre_sock_open(&s, f->af, 4 << 20), 0);
	return s;
}

/* A packet of n octets, taken from body, out of the first address for the second. */
static struct gre_tx tx_of(const struct family *f, const uint8_t *body, uint32_t n)
{
	return (struct gre_tx){
		.local = test_addr(f->local),
		.remote = test_addr(f->remote),
		.hdr = {.proto = GRE_PROTO_IPV4},
		.ttl = 64,
		.df = true,
		.nparts = 1,
		.part = {{(void *)(uintptr_t)body, n}},
		.err = -1,
	};
}

/* The packets of a batch, as soon as there are any; waits a second at most. */
static int recv_some(struct gre_sock *s, struct gre_rx rx[static GRE_BATCH])
{
	struct pollfd pfd = {.fd = gre_sock_fd(s), .events = POLLIN};

	(void)poll(&pfd, 1, 1000);
	return gre_sock_recv(s, rx);
}

static uint8_t body[70000];

static void fill_body(void)
{
	for (unsigned i = 0; i < sizeof(body); i++)
		body[i] = (uint8_t)(i * 7 % 251);
}

/* Headers, TTL, TOS and payload in parts arrive as they were sent. */
static void test_there_and_back(void **state)
{
	(void)state;
	fill_body();
	for (unsigned i = 0; i < 2; i++) {
		struct gre_sock *s = open_sock(&families[i]);

		for (unsigned bits = 0; bits < 8; bits++) {
			struct gre_tx tx = tx_of(&families[i], body, 100);
			struct gre_rx rx[GRE_BATCH];

			tx.hdr = (struct gre_hdr){.has_csum = bits & 1,
				.has_key = bits & 2,
				.has_seq = bits & 4,
				.proto = bits & 1 ? GRE_PROTO_IPV6 : GRE_PROTO_NONE,
				.key = bits & 2 ? 0xfedcba98 : 0,
				.seq = bits & 4 ? 7 : 0};
			tx.ttl = (uint8_t)(255 - bits);
			tx.tos = (uint8_t)(0xb8 | bits % 4);
			tx.nparts = 3;
			tx.part[0].iov_len = 60;
			tx.part[1] = (struct iovec){body + 60, 0};
			tx.part[2] = (struct iovec){body + 60, bits % 2 ? 33 : 40};
			assert_int_equal(gre_sock_send(s, &tx, 1), 1);
			assert_int_equal(tx.err, 0);
			assert_int_equal(recv_some(s, rx), 1);
			assert_int_equal(rx[0].drop, DROP_NONE);
			assert_true(addr_eq(&rx[0].local, &tx.remote));
			assert_true(addr_eq(&rx[0].remote, &tx.local));
			assert_int_equal(rx[0].ttl, tx.ttl);
			assert_int_equal(rx[0].tos, tx.tos);
			assert_int_equal(rx[0].hdr.proto, tx.hdr.proto);
			assert_int_equal(rx[0].hdr.has_csum, tx.hdr.has_csum);
			assert_int_equal(rx[0].hdr.has_key, tx.hdr.has_key);
			assert_int_equal(rx[0].hdr.has_seq, tx.hdr.has_seq);
			assert_int_equal(rx[0].hdr.key, tx.hdr.key);
			assert_int_equal(rx[0].hdr.seq, tx.hdr.seq);
			assert_int_equal(rx[0].len, 60 + tx.part[2].iov_len);
			assert_memory_equal(rx[0].payload, body, rx[0].len);
			memset(rx[0].payload - GRE_HEADROOM, 1, GRE_HEADROOM); /* is ours to write */
		}
		gre_sock_close(s);
	}
	gre_sock_close(NULL);
}

static void test_nothing_there(void **state)
{
	struct gre_rx rx[GRE_BATCH];

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		struct gre_sock *s = open_sock(&families[i]);

		assert_int_equal(gre_sock_recv(s, rx), 0);
		assert_int_equal(gre_sock_send(s, NULL, 0), 0);
		gre_sock_close(s);
	}
}

/* More than one batch, in order, each packet its own. */
static void test_batches(void **state)
{
	enum { N = 150 };

	(void)state;
	fill_body();
	for (unsigned i = 0; i < 2; i++) {
		struct gre_sock *s = open_sock(&families[i]);
		struct gre_tx tx[N];
		unsigned got = 0;

		for (unsigned k = 0; k < N; k++) {
			tx[k] = tx_of(&families[i], body + k, 50 + k);
			tx[k].hdr.has_key = true;
			tx[k].hdr.key = k;
		}
		assert_int_equal(gre_sock_send(s, tx, N), N);
		while (got < N) {
			struct gre_rx rx[GRE_BATCH];
			int n = recv_some(s, rx);

			assert_in_range(n, 1, GRE_BATCH);
			for (int k = 0; k < n; k++, got++) {
				assert_int_equal(rx[k].hdr.key, got);
				assert_int_equal(rx[k].len, 50 + got);
				assert_memory_equal(rx[k].payload, body + got, rx[k].len);
			}
		}
		gre_sock_close(s);
	}
}

/* With df the device's MTU is the limit, to the octet; without, the packet is fragmented, and comes whole. */
static void test_sizes(void **state)
{
	(void)state;
	fill_body();
	for (unsigned i = 0; i < 2; i++) {
		struct gre_sock *s = open_sock(&families[i]);
		uint32_t fits = MTU - families[i].overhead - 4;
		struct gre_rx rx[GRE_BATCH];
		struct gre_tx tx[5];

		tx[0] = tx_of(&families[i], body, fits);
		tx[1] = tx_of(&families[i], body, fits + 1);
		tx[2] = tx[1];
		tx[2].df = false;
		tx[3] = tx_of(&families[i], body, 65535 - families[i].overhead % 40 - 4);
		tx[3].df = false;
		tx[4] = tx[1];
		assert_int_equal(gre_sock_send(s, tx, 5), 3);
		assert_int_equal(tx[0].err, 0);
		assert_int_equal(tx[1].err, EMSGSIZE);
		assert_int_equal(tx[2].err, 0);
		assert_int_equal(tx[3].err, 0);
		assert_int_equal(tx[4].err, EMSGSIZE); /* the option is back */
		assert_int_equal(recv_some(s, rx), 3);
		for (unsigned k = 0; k < 3; k++) {
			const struct gre_tx *t = &tx[k ? k + 1 : 0];

			assert_int_equal(rx[k].drop, DROP_NONE);
			assert_int_equal(rx[k].len, t->part[0].iov_len);
			assert_memory_equal(rx[k].payload, body, rx[k].len);
		}
		gre_sock_close(s);
	}
}

/* A packet that cannot be sent has its error, and those around it go. */
static void test_one_fails(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		struct gre_sock *s = open_sock(&families[i]);
		struct gre_rx rx[GRE_BATCH];
		struct gre_tx tx[7];

		for (unsigned k = 0; k < 7; k++)
			tx[k] = tx_of(&families[i], body, 10 + k);
		tx[0].remote = test_addr(families[i].unreachable);
		tx[2].remote = test_addr(families[i].unreachable);
		tx[3].local = test_addr(families[i].foreign); /* not an address of this machine */
		tx[6].part[0].iov_len = MTU;
		assert_int_equal(gre_sock_send(s, tx, 7), 3);
		for (unsigned k = 0; k < 7; k++)
			assert_int_equal(tx[k].err != 0, k == 0 || k == 2 || k == 3 || k == 6);
		assert_int_equal(tx[6].err, EMSGSIZE);
		assert_int_equal(recv_some(s, rx), 3);
		assert_true(rx[0].len == 11 && rx[1].len == 14 && rx[2].len == 15);
		gre_sock_close(s);
	}
}

/* ---- bad GRE ------------------------------------------------------------------------------------------------- */

static void test_drops(void **state)
{
	static const struct {
		uint8_t n, b[8];
		enum drop drop;
	} rows[] = {
		{0, {0}, DROP_GRE_TRUNCATED},
		{3, {0, 0, 8}, DROP_GRE_TRUNCATED},
		{4, {0x20, 0, 8, 0}, DROP_GRE_TRUNCATED},
		{8, {0, 1, 0x88, 0x0b}, DROP_GRE_VERSION},
		{8, {0x40, 0, 8, 0}, DROP_GRE_FLAGS},
		{8, {0x80, 0, 8, 0, 1, 2, 0, 0}, DROP_GRE_CHECKSUM},
		{4, {0, 0, 8, 0}, DROP_NONE},
	};

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		struct gre_sock *s = open_sock(&families[i]);

		for (size_t k = 0; k < sizeof(rows) / sizeof(rows[0]); k++) {
			struct gre_rx rx[GRE_BATCH];

			send_raw(&families[i], IPPROTO_GRE, rows[k].b, rows[k].n);
			assert_int_equal(recv_some(s, rx), 1);
			assert_int_equal(rx[0].drop, rows[k].drop);
			assert_int_equal(rx[0].len, rows[k].drop ? rx[0].len : 0);
		}
		gre_sock_close(s);
	}
}

/* A GRE checksum that is wrong is forgiven where the inner TCP checksum says that GRO has merged the packet. */
static void test_merged(void **state)
{
	static const struct {
		uint8_t proto;
		enum spec_csum csum;
		enum drop drop;
	} rows[] = {
		{IPPROTO_TCP, CSUM_HALF, DROP_NONE},
		{IPPROTO_TCP, CSUM_FULL, DROP_GRE_CHECKSUM},
		{IPPROTO_TCP, CSUM_BAD, DROP_GRE_CHECKSUM},
		{IPPROTO_UDP, CSUM_HALF, DROP_GRE_CHECKSUM},
		{IPPROTO_UDP, CSUM_NONE, DROP_GRE_CHECKSUM},
	};
	struct gre_sock *s = open_sock(&families[0]);

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct spec inner = packet_spec(4, rows[i].proto);
		uint8_t b[1000] = {0x80, 0, 8, 0, 0x12, 0x34, 0, 0};
		struct gre_rx rx[GRE_BATCH];
		uint32_t len;

		inner.payload_len = 800;
		inner.csum = rows[i].csum;
		len = packet_make(b + 8, &inner);
		send_raw(&families[0], IPPROTO_GRE, b, 8 + len);
		assert_int_equal(recv_some(s, rx), 1);
		assert_int_equal(rx[0].drop, rows[i].drop);
		if (rx[0].drop == DROP_NONE) {
			assert_int_equal(rx[0].len, len);
			assert_memory_equal(rx[0].payload, b + 8, len);
		}
	}
	gre_sock_close(s);
}

/* ---- what ICMP says ---------------------------------------------------------------------------------------- */

struct told {
	struct gre_error e[8];
	unsigned n;
};

static void tell(void *arg, const struct gre_error *e)
{
	struct told *t = arg;

	assert_in_range(t->n, 0, 7);
	t->e[t->n++] = *e;
}

static const uint8_t keyed[] = {0x20, 0, 8, 0, 0, 0, 1, 2}, keyless[] = {0, 0, 8, 0, 0x45, 0, 0, 0},
		     key_cut_off[] = {0xa0, 0, 8, 0, 1, 2, 0, 0};

static void test_errors(void **state)
{
	static const struct {
		uint8_t type[2], code[2];
		uint32_t mtu;
		const uint8_t *gre;
		int err[2];
		bool known, has;
	} rows[] = {
		{{3, 2}, {4, 0}, 1400, keyed, {EMSGSIZE, EMSGSIZE}, true, true},
		{{3, 2}, {4, 0}, 1300, keyless, {EMSGSIZE, EMSGSIZE}, true, false},
		{{3, 2}, {4, 0}, 1399, key_cut_off, {EMSGSIZE, EMSGSIZE}, false, false},
		{{3, 1}, {1, 3}, 0, keyed, {EHOSTUNREACH, EHOSTUNREACH}, true, true},
		{{3, 1}, {2, 4}, 0, keyless, {ENOPROTOOPT, ECONNREFUSED}, true, false},
		{{11, 3}, {0, 0}, 0, keyed, {EHOSTUNREACH, EHOSTUNREACH}, true, true},
	};

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		const struct family *f = &families[i];
		struct addr local = test_addr(f->local), remote = test_addr(f->remote);
		struct addr reporter = test_addr(f->reporter);
		struct gre_sock *s = open_sock(f);

		for (size_t k = 0; k < sizeof(rows) / sizeof(rows[0]); k++) {
			struct pollfd pfd = {.fd = gre_sock_fd(s)};
			struct told t = {.n = 0};

			send_icmp(f, rows[k].type[i], rows[k].code[i], rows[k].mtu, IPPROTO_GRE, rows[k].gre,
				8);
			assert_int_equal(poll(&pfd, 1, 1000), 1);
			assert_true(pfd.revents & POLLERR);
			assert_int_equal(gre_sock_errors(s, tell, &t), 1);
			assert_int_equal(t.n, 1);
			assert_int_equal(t.e[0].err, rows[k].err[i]);
			assert_int_equal(t.e[0].mtu, rows[k].mtu);
			assert_true(addr_eq(&t.e[0].local, &local));
			assert_true(addr_eq(&t.e[0].remote, &remote));
			assert_true(addr_eq(&t.e[0].reporter, &reporter));
			assert_int_equal(t.e[0].key_known, rows[k].known);
			assert_int_equal(t.e[0].has_key, rows[k].has);
			assert_int_equal(t.e[0].key, rows[k].has ? 258 : 0);
			assert_int_equal(gre_sock_errors(s, tell, &t), 0);
		}
		gre_sock_close(s);
	}
}

/* An error that waits is of an earlier packet, and neither keeps the next from being sent nor from being received. */
static void test_errors_pending(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		const struct family *f = &families[i];
		struct gre_sock *s = open_sock(f);
		struct gre_tx tx[3];
		struct gre_rx rx[GRE_BATCH];
		struct told t = {.n = 0};

		for (unsigned k = 0; k < 3; k++)
			tx[k] = tx_of(f, body, 20);
		send_icmp(f, i ? 1 : 3, 1, 0, IPPROTO_GRE, keyless, 8);
		send_icmp(f, i ? 1 : 3, 1, 0, IPPROTO_GRE, keyed, 8);
		assert_int_equal(gre_sock_send(s, tx, 3), 3);
		send_icmp(f, i ? 1 : 3, 1, 0, IPPROTO_GRE, keyed, 8);
		assert_int_equal(gre_sock_recv(s, rx), 3);
		assert_int_equal(gre_sock_errors(s, tell, &t), 3);
		gre_sock_close(s);
	}
}

/* What the kernel learned of the path's MTU does not matter with df, and does without. */
static void test_path_mtu_is_ours(void **state)
{
	(void)state;
	fill_body();
	for (unsigned i = 0; i < 2; i++) {
		const struct family *f = &families[i];
		struct gre_sock *s = open_sock(f);
		struct told t = {.n = 0};
		struct gre_rx rx[GRE_BATCH];
		struct gre_tx tx[2];

		send_icmp(f, i ? 2 : 3, i ? 0 : 4, 1300, IPPROTO_GRE, keyless, 8);
		assert_int_equal(gre_sock_errors(s, tell, &t), 1);
		tx[0] = tx_of(f, body, 1400);
		tx[1] = tx[0];
		tx[1].df = false;
		assert_int_equal(gre_sock_send(s, tx, 2), 2);
		assert_int_equal(recv_some(s, rx), 2);
		assert_true(rx[0].len == 1400 && rx[1].len == 1400);
		assert_int_equal(gre_sock_errors(s, tell, &t), 0);
		gre_sock_close(s);
	}
}

/* How many of a thousand packets pass, by how many are to be kept of their source's. */
static unsigned passed(struct gre_sock *s, const struct family *f)
{
	struct gre_rx rx[GRE_BATCH];
	unsigned n = 0;

	for (unsigned i = 0; i < 1000; i++) {
		struct gre_tx tx = tx_of(f, body, 100);

		(void)gre_sock_send(s, &tx, 1);
		for (int got; (got = gre_sock_recv(s, rx)) > 0;)
			n += (unsigned)got;
	}
	return n;
}

/* The kernel holds back one source's packets, and nobody else's; until it is told not to. */
static void test_policed(void **state)
{
	(void)state;
	fill_body();
	for (unsigned i = 0; i < 2; i++) {
		const struct family *f = &families[i];
		struct gre_sock *s = open_sock(f);
		struct msg_police p[MSG_POLICED];
		struct addr other = test_addr(i ? "fd00::9" : "127.0.0.9");

		assert_int_equal(msg_police(gre_sock_fd(s), p, 0, false), 0);
		for (unsigned k = 0; k < MSG_POLICED; k++)
			p[k] = (struct msg_police){other, 0};
		assert_int_equal(msg_police(gre_sock_fd(s), p, MSG_POLICED, false), 0);
		assert_int_equal(passed(s, f), 1000);
		p[MSG_POLICED - 1] = (struct msg_police){test_addr(f->local), 16384};
		assert_int_equal(msg_police(gre_sock_fd(s), p, MSG_POLICED, false), 0);
		assert_in_range(passed(s, f), 170, 330); /* a quarter, by five deviations and more */
		p[0] = (struct msg_police){test_addr(f->local), 0};
		assert_int_equal(msg_police(gre_sock_fd(s), p, 1, false), 0);
		assert_int_equal(passed(s, f), 0);
		assert_int_equal(msg_queued(gre_sock_fd(s)), 0);
		assert_int_equal(msg_police(gre_sock_fd(s), p, 0, false), 0);
		assert_int_equal(passed(s, f), 1000);
		gre_sock_close(s);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_there_and_back),
		cmocka_unit_test(test_nothing_there),
		cmocka_unit_test(test_batches),
		cmocka_unit_test(test_sizes),
		cmocka_unit_test(test_one_fails),
		cmocka_unit_test(test_drops),
		cmocka_unit_test(test_merged),
		cmocka_unit_test(test_errors),
		cmocka_unit_test(test_errors_pending),
		cmocka_unit_test(test_path_mtu_is_ours),
		cmocka_unit_test(test_policed),
	};

	return cmocka_run_group_tests(tests, group_setup, NULL);
}
