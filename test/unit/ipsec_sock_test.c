/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ipsec_sock_test.c - the IPsec sockets: receiving and sending. Needs root. What ICMP says: ipsec_sockerr_test.c. */
#include "test/unit/ipsec_sock_help.h"

#include <fcntl.h>
#include <linux/if_tun.h>
#include <pthread.h>

/* ---- there and back ---------------------------------------------------------------------------------------- */

static void test_there_and_back(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 2 * IPSEC_PORTS; i++) {
		const struct family *f = &families[i % 2];
		enum ipsec_port port = i / 2;
		struct ipsec_sock *s = open_sock(port, f);

		for (unsigned k = 0; k < 4; k++) {
			struct ipsec_tx tx = tx_of(port, f, body + k, 100 + k);
			struct ipsec_rx rx;

			tx.tos = (uint8_t)(0xb8 | k);
			assert_int_equal(ipsec_sock_send(s, &tx, 1), 1);
			assert_int_equal(tx.err, 0);
			rx = must_come(
				s, port == IPSEC_UDP_500 ? IPSEC_RX_IKE : IPSEC_RX_ESP, body + k, 100 + k);
			assert_true(addr_eq(&rx.local.a, &tx.remote.a));
			assert_true(addr_eq(&rx.remote.a, &tx.local.a));
			assert_int_equal(rx.local.port, numbers[port]);
			assert_int_equal(rx.remote.port, numbers[port]);
			assert_int_equal(rx.tos, tx.tos);
			memset(rx.data, 1, rx.len); /* is ours to write */
		}
		must_be_empty(s);
		assert_int_equal(ipsec_sock_send(s, NULL, 0), 0);
		assert_int_equal(ipsec_sock_lost(s), 0);
		ipsec_sock_close(s);
	}
	ipsec_sock_close(NULL);
}

/* TTL, DF and the checksum, as a witness below the sockets sees them. */
static void test_outer_header(void **state)
{
	struct ipsec_sock *s = open_sock(IPSEC_UDP_4500, &families[0]);
	int witness = socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_UDP);

	(void)state;
	assert_true(witness >= 0);
	for (unsigned df = 0; df < 2; df++) {
		struct ipsec_tx tx = tx_of(IPSEC_UDP_4500, &families[0], body, 50);
		uint8_t b[200];

		tx.ttl = 77;
		tx.tos = 0x28;
		tx.df = df;
		assert_int_equal(ipsec_sock_send(s, &tx, 1), 1);
		assert_int_equal(recv(witness, b, sizeof(b), 0), 20 + 8 + 50);
		assert_int_equal(b[8], 77);
		assert_int_equal(b[1], 0x28);
		assert_int_equal(be16_get(b + 6) & 0x4000, df ? 0x4000 : 0);
		assert_int_not_equal(raw16_get(b + 26), 0);
	}
	/* IKE may be fragmented on the way */
	for (unsigned k = 0; k < 2; k++) {
		struct ipsec_tx tx = tx_of(IPSEC_UDP_4500, &families[0], body, 50);
		uint8_t b[200];

		assert_int_equal(ipsec_sock_send_ike(s, &tx.local, &tx.remote, body, 50), 0);
		assert_int_equal(recv(witness, b, sizeof(b), 0), 20 + 8 + 50);
		assert_int_equal(b[1], 0);
		assert_int_equal(be16_get(b + 6) & 0x4000, 0);
		assert_int_equal(be16_get(b + 20), 4500);
	}
	close(witness);
	ipsec_sock_close(s);
}

/* A run goes as one message and is taken apart again; the last packet is shorter. */
static void test_merged(void **state)
{
	static const struct {
		uint16_t segment;
		uint32_t len;
	} rows[] = {{1000, 10000}, {1000, 9001}, {1400, 64400}, {1016, 65000}, {100, 6400}, {8, 9},
		{500, 500}, {500, 499}};

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		struct ipsec_sock *s = open_sock(IPSEC_UDP_4500, &families[i]);

		for (size_t k = 0; k < sizeof(rows) / sizeof(rows[0]); k++) {
			struct ipsec_tx tx = tx_of(IPSEC_UDP_4500, &families[i], body, rows[k].len);
			uint32_t at = 0;

			tx.segment = rows[k].segment;
			tx.tos = 0x11;
			assert_int_equal(ipsec_sock_send(s, &tx, 1), 1);
			assert_int_equal(recv_some(s), 1);
			for (; at < tx.len && tx.len - at >= 8; at += tx.segment) {
				uint32_t left = tx.len - at;
				struct ipsec_rx rx = must_come(
					s, IPSEC_RX_ESP, body + at, left < tx.segment ? left : tx.segment);

				assert_int_equal(rx.tos, 0x11);
				assert_true(addr_eq(&rx.remote.a, &tx.local.a));
			}
			if (tx.len > at) {
				struct ipsec_rx rx;

				assert_true(ipsec_sock_next(s, &rx));
				assert_int_equal(rx.drop, DROP_IPSEC_MALFORMED);
				assert_int_equal(rx.len, 1);
			}
			must_be_empty(s);
		}
		ipsec_sock_close(s);
	}
}

/* IKE and ESP of one peer may share a buffer, and a keepalive may be its end. */
static void test_mixed(void **state)
{
	struct ipsec_sock *s = open_sock(IPSEC_UDP_4500, &families[0]);
	uint8_t b[40 * 4 + 1];
	struct ipsec_tx tx = tx_of(IPSEC_UDP_4500, &families[0], b, sizeof(b));

	(void)state;
	memcpy(b, body, sizeof(b));
	memset(b + 40, 0, 4);
	memset(b + 120, 0, 4);
	b[160] = 0xff;
	tx.segment = 40;
	assert_int_equal(ipsec_sock_send(s, &tx, 1), 1);
	assert_int_equal(recv_some(s), 1);
	must_come(s, IPSEC_RX_ESP, b, 40);
	must_come(s, IPSEC_RX_IKE, b + 40, 40);
	must_come(s, IPSEC_RX_ESP, b + 80, 40);
	must_come(s, IPSEC_RX_IKE, b + 120, 40);
	must_come(s, IPSEC_RX_KEEPALIVE, b + 160, 1);
	must_be_empty(s);
	ipsec_sock_close(s);
}

/* More than one batch, merged and not, with and without df, in order, each packet its own. */
static void test_batches(void **state)
{
	enum { N = 200 };

	(void)state;
	for (unsigned i = 0; i < 2 * IPSEC_PORTS; i++) {
		enum ipsec_port port = i / 2;
		struct ipsec_sock *s = open_sock(port, &families[i % 2]);
		struct ipsec_tx tx[N];

		for (unsigned k = 0; k < N; k++) {
			tx[k] = tx_of(port, &families[i % 2], body + k, 50 + k);
			tx[k].df = k % 50 < 40;
			if (port == IPSEC_UDP_4500 && k % 3 == 0)
				tx[k].segment = 20;
		}
		assert_int_equal(ipsec_sock_send(s, tx, N), N);
		for (unsigned k = 0; k < N; k++) {
			const uint8_t *data = tx[k].data;
			uint32_t len = tx[k].len, part = tx[k].segment ? tx[k].segment : len;

			assert_int_equal(tx[k].err, 0);
			for (; len >= 8; len -= part < len ? part : len, data += part)
				must_come(s, port == IPSEC_UDP_500 ? IPSEC_RX_IKE : IPSEC_RX_ESP, data,
					part < len ? part : len);
			if (len) {
				struct ipsec_rx rx;

				assert_true(ipsec_sock_next(s, &rx));
				assert_int_equal(rx.drop, DROP_IPSEC_MALFORMED);
			}
		}
		must_be_empty(s);
		ipsec_sock_close(s);
	}
}

/* With df the device's MTU is the limit, to the octet; without, packets are fragmented, and come whole. Merged ones, too. */
static void test_sizes(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 2 * IPSEC_PORTS; i++) {
		const struct family *f = &families[i % 2];
		enum ipsec_port port = i / 2;
		enum ipsec_rx_kind kind = port == IPSEC_UDP_500 ? IPSEC_RX_IKE : IPSEC_RX_ESP;
		struct ipsec_sock *s = open_sock(port, f);
		uint32_t fits = MTU - f->overhead - (port == IPSEC_RAW ? 0 : 8);
		struct ipsec_tx tx[6];

		tx[0] = tx_of(port, f, body, fits);
		tx[1] = tx_of(port, f, body, fits + 1);
		tx[2] = tx[1];
		tx[2].df = false;
		tx[3] = tx_of(port, f, body, 60000);
		tx[3].df = false;
		tx[4] = tx[1];
		tx[5] = tx[0];
		assert_int_equal(ipsec_sock_send(s, tx, 6), 4);
		for (unsigned k = 0; k < 6; k++) {
			assert_int_equal(tx[k].err, k == 1 || k == 4 ? EMSGSIZE : 0);
			if (!tx[k].err)
				must_come(s, kind, tx[k].data, tx[k].len);
		}
		must_be_empty(s);
		if (port == IPSEC_UDP_4500) {
			tx[0] = tx_of(port, f, body, 4 * fits);
			tx[0].segment = (uint16_t)fits;
			tx[1] = tx_of(port, f, body + 1, 4 * (fits + 1));
			tx[1].segment = (uint16_t)(fits + 1);
			tx[2] = tx[1];
			tx[2].df = false;
			tx[3] = tx_of(port, f, body, 100);
			assert_int_equal(ipsec_sock_send(s, tx, 4), 3);
			assert_int_equal(tx[1].err, EMSGSIZE);
			assert_int_equal(tx[1].failed, 0xf);
			assert_int_equal(tx[0].failed | tx[2].failed | tx[3].failed, 0);
			for (unsigned k = 0; k < 4; k++)
				must_come(s, kind, body + k * fits, fits);
			for (unsigned k = 0; k < 4; k++)
				must_come(s, kind, body + 1 + k * (fits + 1), fits + 1);
			must_come(s, kind, body, 100);
			must_be_empty(s);
			tx[0] = tx_of(port, f, body, 3 * (fits + 1) + 70);
			tx[0].segment = (uint16_t)(fits + 1);
			assert_int_equal(ipsec_sock_send(s, tx, 1), 0);
			assert_int_equal(tx[0].err, EMSGSIZE);
			assert_int_equal(tx[0].failed, 7); /* but the last, which is small enough */
			must_come(s, kind, body + 3 * (fits + 1), 70);
			must_be_empty(s);
			assert_int_equal(s->apart, 0); /* it was no fault of the device's */
		}
		ipsec_sock_close(s);
	}
}

/* Where merging is refused, the packets go one by one, in order, and merging is tried again after a while. */
static void test_refused(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		const struct family *f = &families[i];
		struct ipsec_sock *s = open_sock(IPSEC_UDP_4500, f);
		struct ipsec_tx tx[3];

		for (unsigned k = 0; k < 3; k++) {
			tx[k] = tx_of(IPSEC_UDP_4500, f, body + k, 950);
			tx[k].segment = 100;
		}
		tx[1].segment = 0;
		/* The kernel does not segment what it is not to compute a checksum for. */
		if (f->af == AF_INET)
			assert_int_equal(msg_option(ipsec_sock_fd(s), SOL_SOCKET, SO_NO_CHECK, 1), 0);
		else
			s->apart = 3;
		assert_int_equal(ipsec_sock_send(s, tx, 3), 3);
		assert_true(s->apart > 0);
		for (unsigned k = 0, n = 0; k < 3; k++) {
			uint32_t part = tx[k].segment ? tx[k].segment : tx[k].len;

			assert_int_equal(tx[k].err, 0);
			for (uint32_t at = 0; at < 950; at += part, n++) {
				must_come(s, IPSEC_RX_ESP, body + k + at, at + part > 950 ? 950 - at : part);
				assert_int_equal(s->rx_cut.segment, 0);
			}
		}
		must_be_empty(s);
		if (f->af == AF_INET)
			assert_int_equal(msg_option(ipsec_sock_fd(s), SOL_SOCKET, SO_NO_CHECK, 0), 0);
		s->apart = 1;
		assert_int_equal(ipsec_sock_send(s, tx, 3), 3);
		assert_int_equal(s->apart, 0);
		assert_int_equal(recv_some(s), 12); /* ten apart, one alone, one merged */
		ipsec_sock_close(s);
	}
}

/* A packet that cannot be sent has its error, and those around it go; a merged one fails as a whole. */
static void test_one_fails(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 2 * IPSEC_PORTS; i++) {
		const struct family *f = &families[i % 2];
		enum ipsec_port port = i / 2;
		struct ipsec_sock *s = open_sock(port, f);
		struct ipsec_tx tx[7];

		for (unsigned k = 0; k < 7; k++)
			tx[k] = tx_of(port, f, body, 40 + k);
		tx[0].remote.a = test_addr(f->unreachable);
		tx[2].remote.a = test_addr(f->unreachable);
		tx[2].segment = port == IPSEC_UDP_4500 ? 10 : 0;
		tx[3].local.a = test_addr(f->foreign); /* not an address of this machine */
		tx[6].len = MTU;
		assert_int_equal(ipsec_sock_send(s, tx, 7), 3);
		for (unsigned k = 0; k < 7; k++) {
			bool bad = k == 0 || k == 2 || k == 3 || k == 6;

			assert_int_equal(tx[k].err > 0, bad);
			assert_int_equal(tx[k].failed, !bad ? 0 : tx[k].segment ? 0x1f : 1);
			if (!bad)
				must_come(
					s, port == IPSEC_UDP_500 ? IPSEC_RX_IKE : IPSEC_RX_ESP, body, 40 + k);
		}
		assert_int_equal(tx[6].err, EMSGSIZE);
		must_be_empty(s);
		ipsec_sock_close(s);
	}
}

/* ---- queues ------------------------------------------------------------------------------------------------ */

static void test_receive_queue_full(void **state)
{
	struct ipsec_sock *s = open_sock(IPSEC_UDP_4500, &families[0]);
	struct ipsec_tx tx[100];
	unsigned got = 0;
	struct ipsec_rx rx;

	(void)state;
	assert_int_equal(msg_option(ipsec_sock_fd(s), SOL_SOCKET, SO_RCVBUF, 20000), 0);
	for (unsigned k = 0; k < 100; k++)
		tx[k] = tx_of(IPSEC_UDP_4500, &families[0], body, 1000);
	assert_int_equal(ipsec_sock_send(s, tx, 100), 100);
	while (ipsec_sock_recv(s) > 0)
		while (ipsec_sock_next(s, &rx))
			got++;
	assert_in_range(got, 1, 99);
	assert_int_equal(got + ipsec_sock_lost(s), 100);
	ipsec_sock_close(s);
}

/* An interface whose neighbours do not answer: what is for them waits, and stays in the sender's buffer. */
static int make_tap(void)
{
	struct ifreq ifr = {.ifr_name = "tap-test", .ifr_flags = IFF_TAP | IFF_NO_PI};
	struct sockaddr_in sin = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(0xc6120001)};
	int tap = open("/dev/net/tun", O_RDWR | O_CLOEXEC), s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	assert_true(tap >= 0 && s >= 0);
	assert_int_equal(ioctl(tap, TUNSETIFF, &ifr), 0);
	memcpy(&ifr.ifr_addr, &sin, sizeof(sin));
	assert_int_equal(ioctl(s, SIOCSIFADDR, &ifr), 0);
	sin.sin_addr.s_addr = htonl(0xffffff00);
	memcpy(&ifr.ifr_netmask, &sin, sizeof(sin));
	assert_int_equal(ioctl(s, SIOCSIFNETMASK, &ifr), 0);
	ifr.ifr_flags = IFF_UP | IFF_RUNNING;
	assert_int_equal(ioctl(s, SIOCSIFFLAGS, &ifr), 0);
	close(s);
	return tap;
}

static void test_send_queue_full(void **state)
{
	struct ipsec_sock *s = open_sock(IPSEC_UDP_4500, &families[0]);
	int tap = make_tap();

	(void)state;
	assert_int_equal(msg_option(ipsec_sock_fd(s), SOL_SOCKET, SO_SNDBUF, 8000), 0);
	for (unsigned merged = 0; merged < 2; merged++) {
		struct ipsec_tx tx[100];
		unsigned sent;

		for (unsigned k = 0; k < 100; k++) {
			tx[k] = tx_of(IPSEC_UDP_4500, &families[0], body, 1000);
			tx[k].remote.a = test_addr(merged ? "198.18.0.3" : "198.18.0.2");
			tx[k].local.a = test_addr("198.18.0.1");
			tx[k].segment = merged && k > 3 ? 200 : 0;
		}
		s->apart = merged ? 1000 : 0;
		sent = ipsec_sock_send(s, tx, 100);
		assert_in_range(sent, merged ? 0 : 1, 99);
		for (unsigned k = 0; k < 100; k++)
			assert_int_equal(tx[k].err, k < sent ? 0 : EAGAIN);
		for (unsigned k = 0; k < 100; k++) {
			uint64_t all = tx[k].segment ? 0x1f : 1;

			/* of the first that failed, some may have gone */
			assert_int_equal(tx[k].failed & ~all, 0);
			if (k != sent)
				assert_int_equal(tx[k].failed, k < sent ? 0 : all);
			else
				assert_true(tx[k].failed >> (tx[k].segment ? 4 : 0) & 1);
		}
	}
	close(tap);
	ipsec_sock_close(s);
}

/* ---- IKE -------------------------------------------------------------------------------------------------- */

/* A large message goes in fragments although ESP's packets must not be fragmented. */
static void test_send_ike(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		const struct family *f = &families[i % 2];
		enum ipsec_port port = i / 2;
		struct ipsec_sock *s = open_sock(port, f);
		struct ipsec_tx big = tx_of(port, f, body, 1480);
		struct addr nobody = test_addr(i % 2 ? "100::1" : "127.255.255.254");
		uint8_t b[5000] = {0};

		memset(b + 4, 7, sizeof(b) - 4);
		for (unsigned k = 0; k < 3; k++) {
			struct sa_end local = {test_addr(f->local), numbers[port]};
			struct sa_end remote = {test_addr(f->remote), numbers[port]};
			uint32_t len = k == 1 ? sizeof(b) : 200;
			struct ipsec_rx rx;

			if (k == 2)
				local.a = (struct addr){0};
			assert_int_equal(ipsec_sock_send_ike(s, &local, &remote, b, len), 0);
			rx = must_come(s, IPSEC_RX_IKE, b, len);
			assert_true(addr_eq(&rx.local.a, &remote.a));
			assert_int_equal(addr_eq(&rx.remote.a, &local.a), k < 2);
			assert_false(addr_eq(&rx.remote.a, &nobody));
			assert_int_equal(rx.remote.port, numbers[port]);
			remote.a = test_addr(f->unreachable);
			assert_true(ipsec_sock_send_ike(s, &local, &remote, b, len) < 0);
			/* and ESP's option is as it was */
			assert_int_equal(ipsec_sock_send(s, &big, 1), 0);
			assert_int_equal(big.err, EMSGSIZE);
		}
		must_be_empty(s);
		ipsec_sock_close(s);
	}
}

struct talker {
	struct ipsec_sock *s;
	unsigned failed;
};

#define TALK 500

static void *talk(void *arg)
{
	struct talker *t = arg;
	struct sa_end local = {test_addr("127.0.0.1"), 4500}, remote = {test_addr("127.0.0.2"), 4500};
	uint8_t b[3000] = {0};

	for (unsigned i = 0; i < TALK; i++)
		t->failed += ipsec_sock_send_ike(t->s, &local, &remote, b, sizeof(b)) != 0;
	return NULL;
}

/* Two threads send IKE while the loop sends ESP and switches df. */
static void test_threads(void **state)
{
	struct ipsec_sock *s = open_sock(IPSEC_UDP_4500, &families[0]);
	struct talker t[2] = {{.s = s}, {.s = s}};
	pthread_t th[2];
	unsigned ike = 0, esp = 0, want = 0;

	(void)state;
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&th[i], NULL, talk, &t[i]), 0);
	for (unsigned i = 0; ike < 2 * TALK || esp < want; i++) {
		struct ipsec_tx tx[2] = {tx_of(IPSEC_UDP_4500, &families[0], body, 1480),
			tx_of(IPSEC_UDP_4500, &families[0], body, 1480)};
		struct ipsec_rx rx;

		tx[1].df = false;
		if (i < TALK) {
			assert_int_equal(ipsec_sock_send(s, tx, 2), 1);
			assert_int_equal(tx[0].err, EMSGSIZE);
			want++;
		}
		if (!recv_some(s))
			break;
		while (ipsec_sock_next(s, &rx)) {
			assert_int_equal(rx.drop, DROP_NONE);
			ike += rx.kind == IPSEC_RX_IKE;
			esp += rx.kind == IPSEC_RX_ESP;
		}
	}
	for (unsigned i = 0; i < 2; i++) {
		pthread_join(th[i], NULL);
		assert_int_equal(t[i].failed, 0);
	}
	assert_int_equal(ike + ipsec_sock_lost(s), 2 * TALK + (want - esp));
	ipsec_sock_close(s);
}

/* Each port once, for both families at the same time; another key daemon is refused, also one that would share. */
static void test_ports(void **state)
{
	struct ipsec_sock *s[2][2], *again;

	(void)state;
	for (unsigned i = 0; i < 4; i++)
		s[i / 2][i % 2] = open_sock(i / 2, &families[i % 2]);
	for (unsigned i = 0; i < 4; i++) {
		assert_int_equal(ipsec_sock_open(&again, i / 2, families[i % 2].af, 0), -EADDRINUSE);
		for (unsigned one = 0; one < 2; one++) {
			union msg_name name = {.sa.sa_family = (sa_family_t)families[i % 2].af};
			struct addr a = test_addr(families[i % 2].local);
			int other = socket(families[i % 2].af, SOCK_DGRAM | SOCK_CLOEXEC, 0);

			assert_int_equal(msg_option(other, SOL_SOCKET, SO_REUSEADDR, 1), 0);
			if (i % 2)
				assert_int_equal(msg_option(other, IPPROTO_IPV6, IPV6_V6ONLY, 1), 0);
			name.in.sin_port = htons(numbers[i / 2]); /* at the same place in both */
			if (one && i % 2)
				memcpy(&name.in6.sin6_addr, a.b, 16);
			else if (one)
				name.in.sin_addr.s_addr = a.w[3];
			assert_int_equal(bind(other, &name.sa, sizeof(name)), -1);
			assert_int_equal(errno, EADDRINUSE);
			close(other);
		}
	}
	/* Between the ports: from 4500 to 500. */
	for (unsigned i = 0; i < 2; i++) {
		struct ipsec_tx tx = tx_of(IPSEC_UDP_4500, &families[i], body, 60);
		struct ipsec_rx rx;

		tx.remote.port = 500;
		assert_int_equal(ipsec_sock_send(s[1][i], &tx, 1), 1);
		rx = must_come(s[0][i], IPSEC_RX_IKE, body, 60);
		assert_int_equal(rx.local.port, 500);
		assert_int_equal(rx.remote.port, 4500);
	}
	for (unsigned i = 0; i < 4; i++) {
		must_be_empty(s[i / 2][i % 2]);
		ipsec_sock_close(s[i / 2][i % 2]);
	}
}

/* The kernel holds back all of one source's ESP; IKE passes, and so does ESP when it is told to. */
static void test_policed(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		const struct family *f = &families[i % 2];
		enum ipsec_port port = i / 2 ? IPSEC_RAW : IPSEC_UDP_4500;
		struct ipsec_sock *s = open_sock(port, f);
		const struct msg_police p = {.source = test_addr(f->local), .keep = 0};
		struct ipsec_tx tx = tx_of(port, f, body, 100);

		assert_int_equal(msg_police(ipsec_sock_fd(s), &p, 1, port == IPSEC_UDP_4500), 0);
		assert_int_equal(ipsec_sock_send(s, &tx, 1), 1);
		if (port == IPSEC_UDP_4500) {
			uint8_t ike[60] = {0};

			assert_int_equal(ipsec_sock_send_ike(s, &tx.local, &tx.remote, ike, sizeof(ike)), 0);
			must_come(s, IPSEC_RX_IKE, ike, sizeof(ike));
		}
		must_be_empty(s);
		assert_int_equal(msg_police(ipsec_sock_fd(s), &p, 0, port == IPSEC_UDP_4500), 0);
		assert_int_equal(ipsec_sock_send(s, &tx, 1), 1);
		must_come(s, IPSEC_RX_ESP, body, 100);
		ipsec_sock_close(s);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_there_and_back),
		cmocka_unit_test(test_outer_header),
		cmocka_unit_test(test_merged),
		cmocka_unit_test(test_mixed),
		cmocka_unit_test(test_batches),
		cmocka_unit_test(test_sizes),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_one_fails),
		cmocka_unit_test(test_receive_queue_full),
		cmocka_unit_test(test_send_queue_full),
		cmocka_unit_test(test_send_ike),
		cmocka_unit_test(test_threads),
		cmocka_unit_test(test_ports),
		cmocka_unit_test(test_policed),
	};

	return cmocka_run_group_tests(tests, group_setup, NULL);
}
