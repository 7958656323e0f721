/* SPDX-License-Identifier: GPL-2.0-or-later */
/* sock_send.c - the GRE socket: sending.
 *
 * One unconnected socket serves all tunnels of its family; source address, TTL and TOS travel with each
 * packet as ancillary data. Whether the outer packet may be fragmented is an option of the socket and not of
 * the packet, and is switched between runs of packets that want it otherwise.
 *
 * References: ip(7), ipv6(7), RFC 3542, RFC 2784.
 */
#include "gre/sock_private.h"

#include <errno.h>

int gre_sock_set_df(struct gre_sock *s, bool df)
{
	int err = msg_set_df(s->fd, s->family, df);

	if (!err)
		s->df = df;
	return err;
}

static void fill(struct gre_sock *s, unsigned i, const struct gre_tx *tx)
{
	struct msghdr *m = &s->tx_msg[i].msg_hdr;
	struct iovec *iov = s->tx_iov[i];

	iov[0].iov_base = s->tx_hdr[i];
	iov[0].iov_len = gre_encode(s->tx_hdr[i], &tx->hdr, tx->part, tx->nparts);
	memcpy(iov + 1, tx->part, tx->nparts * sizeof(*iov));
	*m = (struct msghdr){
		.msg_name = &s->tx_name[i],
		.msg_iov = iov,
		.msg_iovlen = 1u + tx->nparts,
		.msg_control = &s->tx_control[i],
	};
	msg_address(m, &tx->local, &tx->remote, 0, tx->ttl, tx->tos);
}

/* Sends n packets, at most GRE_BATCH, that are alike in df. Sets err. */
static unsigned send_run(struct gre_sock *s, struct gre_tx *tx, unsigned n)
{
	unsigned sent = 0;

	for (unsigned i = 0; i < n; i++)
		fill(s, i, &tx[i]);
	for (unsigned i = 0; i < n;) {
		int r = msg_send(s->fd, s->tx_msg + i, n - i);

		if (r == -EAGAIN) { /* the socket's buffer is full: so it will be for the others */
			while (i < n)
				tx[i++].err = EAGAIN;
			break;
		}
		if (r < 0) {
			tx[i++].err = -r;
			continue;
		}
		sent += (unsigned)r;
		for (int k = 0; k < r; k++)
			tx[i++].err = 0;
	}
	return sent;
}

unsigned gre_sock_send(struct gre_sock *s, struct gre_tx *tx, unsigned n)
{
	unsigned sent = 0;

	for (unsigned i = 0, end; i < n; i = end) {
		int err = tx[i].df == s->df ? 0 : gre_sock_set_df(s, tx[i].df);

		for (end = i + 1; end < n && end - i < GRE_BATCH && tx[end].df == tx[i].df; end++)
			;
		if (!err)
			sent += send_run(s, tx + i, end - i);
		for (unsigned k = i; err && k < end; k++)
			tx[k].err = -err;
	}
	return sent;
}
