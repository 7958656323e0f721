/* SPDX-License-Identifier: GPL-2.0-or-later */
/* sock_errors.c - the GRE socket: what ICMP said about packets that were sent. Which tunnel it was: by the GRE header that
 * is quoted. */
#include "gre/sock_private.h"

struct receiver {
	gre_error_cb *cb;
	void *arg;
};

static void take(void *arg, const struct msg_error *m)
{
	const struct receiver *to = arg;
	struct gre_error e = {.local = m->local,
		.remote = m->remote,
		.reporter = m->reporter,
		.err = m->err,
		.mtu = m->mtu};

	e.key_known = gre_peek_key(m->quote, m->len, &e.has_key, &e.key);
	to->cb(to->arg, &e);
}

unsigned gre_sock_errors(struct gre_sock *s, gre_error_cb *cb, void *arg)
{
	struct receiver to = {cb, arg};

	return msg_errors(s->fd, s->family, GRE_ERRORS, take, &to);
}
