/* SPDX-License-Identifier: GPL-2.0-or-later */
/* sock_errors.c - the sockets of IPsec: what ICMP said about packets that were sent. Which SA it was: by the SPI that is
 * quoted. What IKE's own descriptor has sent is reported to the port's first one, too. */
#include "ipsec/sock_private.h"

struct receiver {
	const struct ipsec_sock *s;
	ipsec_error_cb *cb;
	void *arg;
};

static void take(void *arg, const struct msg_error *m)
{
	const struct receiver *to = arg;
	struct ipsec_error e = {
		.local = {m->local, to->s->local_port},
		.remote = {m->remote, to->s->port == IPSEC_RAW ? 0 : m->remote_port},
		.reporter = m->reporter,
		.err = m->err,
		.mtu = m->mtu,
	};

	ipsec_quoted(to->s->port, m->quote, m->len, &e.is_esp, &e.spi);
	to->cb(to->arg, &e);
}

unsigned ipsec_sock_errors(struct ipsec_sock *s, ipsec_error_cb *cb, void *arg)
{
	struct receiver to = {s, cb, arg};

	return msg_errors(s->fd, s->family, IPSEC_ERRORS, take, &to);
}
