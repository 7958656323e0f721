/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ipsec_sockerr_test.c - the IPsec sockets: what ICMP says of packets that were sent. Needs root. */
#include "test/unit/ipsec_sock_help.h"

struct told {
	struct ipsec_error e[8];
	unsigned n;
};

static void tell(void *arg, const struct ipsec_error *e)
{
	struct told *t = arg;

	assert_in_range(t->n, 0, 7);
	t->e[t->n++] = *e;
}

#define PEER_PORT 40123

/* An ICMP error about a packet of the port's, of whose payload n octets are quoted. */
static void report(const struct family *f, enum ipsec_port port, const uint8_t type[2], const uint8_t code[2],
	uint32_t mtu, const uint8_t *payload, uint32_t n)
{
	uint8_t q[64] = {0};
	unsigned v6 = f->af == AF_INET6, hdr = port == IPSEC_RAW ? 0 : 8;

	if (hdr) {
		be16_put(q, numbers[port]);
		be16_put(q + 2, PEER_PORT);
		be16_put(q + 4, 1300);
	}
	memcpy(q + hdr, payload, n);
	send_icmp(f, type[v6], code[v6], mtu, port == IPSEC_RAW ? IPPROTO_ESP : IPPROTO_UDP, q, hdr + n);
}

static const uint8_t too_big[2][2] = {{3, 2}, {4, 0}}, no_route[2][2] = {{3, 1}, {1, 3}},
		     no_port[2][2] = {{3, 1}, {3, 4}};

static void test_errors(void **state)
{
	static const uint8_t esp[] = {1, 2, 3, 4, 0, 0, 0, 1}, zeros[40] = {0}, ff[] = {0xff};
	static const struct {
		enum ipsec_port port;
		const uint8_t (*what)[2];
		uint32_t mtu;
		const uint8_t *payload;
		uint32_t len;
		int err;
		bool is_esp;
		uint32_t spi;
	} rows[] = {
		{IPSEC_UDP_4500, too_big, 1400, esp, 8, EMSGSIZE, true, 0x01020304},
		{IPSEC_UDP_4500, too_big, 1400, esp, 4, EMSGSIZE, true, 0x01020304},
		{IPSEC_UDP_4500, too_big, 1300, esp, 0, EMSGSIZE, true, 0},
		{IPSEC_UDP_4500, too_big, 1300, zeros, 40, EMSGSIZE, false, 0},
		{IPSEC_UDP_4500, no_route, 0, esp, 8, EHOSTUNREACH, true, 0x01020304},
		{IPSEC_UDP_4500, no_port, 0, esp, 8, ECONNREFUSED, true, 0x01020304},
		{IPSEC_UDP_4500, no_port, 0, ff, 1, ECONNREFUSED, false, 0},
		{IPSEC_UDP_500, too_big, 1400, esp, 8, EMSGSIZE, false, 0},
		{IPSEC_UDP_500, no_port, 0, zeros, 28, ECONNREFUSED, false, 0},
		{IPSEC_RAW, too_big, 1400, esp, 8, EMSGSIZE, true, 0x01020304},
		{IPSEC_RAW, no_route, 0, esp, 8, EHOSTUNREACH, true, 0x01020304},
	};

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		const struct family *f = &families[i];
		struct addr local = test_addr(f->local), remote = test_addr(f->remote);
		struct addr reporter = test_addr(f->reporter);

		for (size_t k = 0; k < sizeof(rows) / sizeof(rows[0]); k++) {
			struct ipsec_sock *s = open_sock(rows[k].port, f);
			struct pollfd pfd = {.fd = ipsec_sock_fd(s)};
			struct told t = {.n = 0};

			/* where it is not about size, the field has no meaning */
			report(f, rows[k].port, rows[k].what[0], rows[k].what[1],
				rows[k].mtu ? rows[k].mtu : 77, rows[k].payload, rows[k].len);
			assert_int_equal(poll(&pfd, 1, 1000), 1);
			assert_true(pfd.revents & POLLERR);
			assert_int_equal(ipsec_sock_errors(s, tell, &t), 1);
			assert_int_equal(t.n, 1);
			assert_int_equal(t.e[0].err, rows[k].err);
			assert_int_equal(t.e[0].mtu, rows[k].mtu);
			assert_int_equal(t.e[0].is_esp, rows[k].is_esp);
			assert_int_equal(t.e[0].spi, rows[k].spi);
			assert_true(addr_eq(&t.e[0].local.a, &local));
			assert_true(addr_eq(&t.e[0].remote.a, &remote));
			assert_true(addr_eq(&t.e[0].reporter, &reporter));
			assert_int_equal(t.e[0].local.port, numbers[rows[k].port]);
			assert_int_equal(t.e[0].remote.port, rows[k].port == IPSEC_RAW ? 0 : PEER_PORT);
			assert_int_equal(ipsec_sock_errors(s, tell, &t), 0);
			ipsec_sock_close(s);
		}
	}
}

/* An error that waits is of an earlier packet, and keeps none from being sent or received. */
static void test_errors_pending(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 2 * IPSEC_PORTS; i++) {
		const struct family *f = &families[i % 2];
		enum ipsec_port port = i / 2;
		struct ipsec_sock *s = open_sock(port, f);
		struct ipsec_tx tx[3];
		struct told t = {.n = 0};

		for (unsigned k = 0; k < 3; k++)
			tx[k] = tx_of(port, f, body, 40);
		tx[0].segment = port == IPSEC_UDP_4500 ? 20 : 0;
		report(f, port, no_route[0], no_route[1], 0, body, 8);
		report(f, port, no_route[0], no_route[1], 0, body, 8);
		assert_int_equal(ipsec_sock_send(s, tx, 3), 3);
		assert_int_equal(s->apart, 0);
		report(f, port, no_route[0], no_route[1], 0, body, 8);
		assert_int_equal(ipsec_sock_recv(s), 3);
		assert_int_equal(ipsec_sock_errors(s, tell, &t), 3);
		ipsec_sock_close(s);
	}
}

/* What the kernel learned of the path's MTU does not matter with df, and does without, and for IKE. */
static void test_path_mtu_is_ours(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		const struct family *f = &families[i];
		struct ipsec_sock *s = open_sock(IPSEC_UDP_4500, f);
		struct ipsec_tx tx[3];
		struct told t = {.n = 0};
		uint8_t ike[1400] = {0};

		report(f, IPSEC_UDP_4500, too_big[0], too_big[1], 1300, body, 8);
		assert_int_equal(ipsec_sock_errors(s, tell, &t), 1);
		tx[0] = tx_of(IPSEC_UDP_4500, f, body, 1400);
		tx[1] = tx[0];
		tx[1].df = false;
		tx[2] = tx_of(IPSEC_UDP_4500, f, body, 1400 * 3);
		tx[2].segment = 1400;
		assert_int_equal(ipsec_sock_send(s, tx, 3), 3);
		for (unsigned k = 0; k < 2; k++)
			must_come(s, IPSEC_RX_ESP, body, 1400);
		for (unsigned k = 0; k < 3; k++)
			must_come(s, IPSEC_RX_ESP, body + k * 1400, 1400);
		assert_int_equal(ipsec_sock_send_ike(s, &tx[0].local, &tx[0].remote, ike, sizeof(ike)), 0);
		must_come(s, IPSEC_RX_IKE, ike, sizeof(ike));
		assert_int_equal(ipsec_sock_errors(s, tell, &t), 0);
		ipsec_sock_close(s);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_errors),
		cmocka_unit_test(test_errors_pending),
		cmocka_unit_test(test_path_mtu_is_ours),
	};

	return cmocka_run_group_tests(tests, group_setup, NULL);
}
