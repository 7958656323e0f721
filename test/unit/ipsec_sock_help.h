/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ipsec_sock_help.h - IPsec sockets that send to themselves, on the loopback device of a network namespace. */
#ifndef ARRD_TEST_IPSEC_SOCK_HELP_H
#define ARRD_TEST_IPSEC_SOCK_HELP_H

#include "ipsec/sock_private.h"
#include "test/unit/loopback.h"

#include <poll.h>

static bool usable; /* we are root, in our own namespace */
static uint8_t body[70000];

static inline int group_setup(void **state)
{
	(void)state;
	usable = loopback_make("IPsec sockets");
	for (unsigned i = 0; i < sizeof(body); i++)
		body[i] = (uint8_t)(1 + i * 7 % 251); /* nowhere a zero, so everywhere an SPI */
	return 0;
}

static inline struct ipsec_sock *open_sock(enum ipsec_port port, const struct family *f)
{
	struct ipsec_sock *s;

	if (!usable)
		skip();
	assert_int_equal(ipsec_sock_open(&s, port, f->af, 4 << 20), 0);
	return s;
}

static const uint16_t numbers[] = {500, 4500, 0};

/* n octets out of the first address for the second. */
static inline struct ipsec_tx tx_of(
	enum ipsec_port port, const struct family *f, const uint8_t *data, uint32_t n)
{
	return (struct ipsec_tx){
		.local = {test_addr(f->local), numbers[port]},
		.remote = {test_addr(f->remote), numbers[port]},
		.ttl = 64,
		.df = true,
		.data = data,
		.len = n,
		.err = -1,
	};
}

/* Messages, as soon as there are any; waits a second at most. */
static inline int recv_some(struct ipsec_sock *s)
{
	struct pollfd pfd = {.fd = ipsec_sock_fd(s), .events = POLLIN};

	(void)poll(&pfd, 1, 1000);
	return ipsec_sock_recv(s);
}

/* The next packet, which must be there, be good and be these octets. */
static inline struct ipsec_rx must_come(
	struct ipsec_sock *s, enum ipsec_rx_kind kind, const uint8_t *data, uint32_t len)
{
	struct ipsec_rx rx;

	if (!ipsec_sock_next(s, &rx)) {
		assert_true(recv_some(s) > 0);
		assert_true(ipsec_sock_next(s, &rx));
	}
	assert_int_equal(rx.drop, DROP_NONE);
	assert_int_equal(rx.kind, kind);
	assert_int_equal(rx.len, len);
	assert_memory_equal(rx.data, data, len);
	return rx;
}

static inline void must_be_empty(struct ipsec_sock *s)
{
	struct ipsec_rx rx;

	assert_false(ipsec_sock_next(s, &rx));
	assert_int_equal(ipsec_sock_recv(s), 0);
	assert_false(ipsec_sock_next(s, &rx));
}

#endif
