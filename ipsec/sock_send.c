/* SPDX-License-Identifier: GPL-2.0-or-later */
/* sock_send.c - the sockets of IPsec: sending.
 *
 * A run of equally long packets to one peer goes as one message that the kernel, or the device, cuts (UDP_SEGMENT). When
 * that is refused, the packets go one by one:
 *	EIO       the device cannot compute checksums (kernels before 6.11)
 *	EINVAL    kernels before 6.14: a packet does not fit the device's MTU; or no segmentation at all
 *	EMSGSIZE  later ones: it does not fit
 * By themselves they either go, in fragments where df is false, or get the EMSGSIZE that says why not.
 *
 * Whether the packets may be fragmented is an option of the descriptor, and is switched between runs of items that want it
 * otherwise. IKE has a descriptor for itself: see sock.c.
 *
 * References: udp(7), RFC 3948.
 */
#include "ipsec/sock_private.h"

#include <errno.h>
#include <linux/udp.h>

#define IKE_TTL 64
/* Items that are sent packet by packet after a device has refused to segment, before it is asked again. */
#define APART_ITEMS 4096

_Static_assert(CMSG_SPACE(sizeof(uint16_t)) <= MSG_CONTROL_SPARE, "segment size");
_Static_assert(IPSEC_SEGMENTS <= TX_BATCH, "an item can be sent apart in one go");

/* Message i of the batch: len octets of an item. */
static void fill(
	struct ipsec_sock *s, unsigned i, const struct ipsec_tx *tx, const uint8_t *data, uint32_t len)
{
	struct msghdr *m = &s->tx_msg[i].msg_hdr;

	s->tx_iov[i] = (struct iovec){(void *)(uintptr_t)data, len};
	*m = (struct msghdr){
		.msg_name = &s->tx_name[i],
		.msg_iov = &s->tx_iov[i],
		.msg_iovlen = 1,
		.msg_control = &s->tx_control[i],
	};
	msg_address(m, &tx->local.a, &tx->remote.a, tx->remote.port, tx->ttl, tx->tos);
	if (tx->segment && tx->segment < len)
		msg_put(m, IPPROTO_UDP, UDP_SEGMENT, &tx->segment, sizeof(tx->segment));
}

static bool is_merged(const struct ipsec_tx *tx)
{
	return tx->segment && tx->segment < tx->len;
}

/* Sends an item's packets one by one. Those that fail do not keep the others from being sent. Returns 0, or the first error
 * as a positive errno; EAGAIN: the rest has not been tried. */
static int send_apart(struct ipsec_sock *s, const struct ipsec_tx *tx)
{
	unsigned n = 0;
	int err = 0;

	for (uint32_t at = 0; at < tx->len && n < TX_BATCH; at += tx->segment, n++) {
		uint32_t left = tx->len - at;

		fill(s, n, tx, tx->data + at, left < tx->segment ? left : tx->segment);
	}
	for (unsigned i = 0; i < n;) {
		int r = msg_send(s->fd, s->tx_msg + i, n - i);

		if (r == -EAGAIN)
			return EAGAIN;
		if (r < 0 && !err)
			err = -r;
		i += r < 0 ? 1 : (unsigned)r;
	}
	return err;
}

/* Sending an item in one message failed with err. Returns what came of it. */
static int try_apart(struct ipsec_sock *s, const struct ipsec_tx *tx, int err)
{
	int apart;

	if (!is_merged(tx) || (err != EIO && err != EINVAL && err != EMSGSIZE))
		return err;
	apart = send_apart(s, tx);
	/* Not the size was wrong, then, but the merging. (Without df it may still have been the size.) */
	if (err == EIO || (err == EINVAL && !apart && tx->df))
		s->apart = APART_ITEMS;
	return apart;
}

/* How many of the items from tx on go in one call: alike in df, and, while segmenting is off, not merged. At least 1. */
static unsigned run_length(const struct ipsec_sock *s, const struct ipsec_tx *tx, unsigned n)
{
	unsigned i = 1;

	while (i < n && i < TX_BATCH && tx[i].df == tx[0].df && !(s->apart && is_merged(&tx[i])))
		i++;
	return i;
}

/* Sends some of the items from tx on; returns how many have been dealt with, at least 1, and their err is set. */
static unsigned send_some(struct ipsec_sock *s, struct ipsec_tx *tx, unsigned n)
{
	int r;

	if (s->apart && is_merged(tx)) {
		s->apart--;
		tx->err = send_apart(s, tx);
		return 1;
	}
	n = run_length(s, tx, n);
	for (unsigned i = 0; i < n; i++)
		fill(s, i, &tx[i], tx[i].data, tx[i].len);
	r = msg_send(s->fd, s->tx_msg, n);
	for (int i = 0; i < r; i++)
		tx[i].err = 0;
	if (r > 0)
		return (unsigned)r;
	tx->err = try_apart(s, tx, -r);
	return 1;
}

static int want_df(struct ipsec_sock *s, bool df)
{
	int err = df == s->df ? 0 : msg_set_df(s->fd, s->family, df);

	if (!err)
		s->df = df;
	return err;
}

unsigned ipsec_sock_send(struct ipsec_sock *s, struct ipsec_tx *tx, unsigned n)
{
	unsigned sent = 0;

	for (unsigned i = 0, end; i < n; i = end) {
		int err = want_df(s, tx[i].df);

		end = i + 1;
		if (err)
			tx[i].err = -err;
		else
			end = i + send_some(s, tx + i, n - i);
		for (; i < end; i++)
			sent += tx[i].err == 0;
		if (tx[end - 1].err ==
			EAGAIN) { /* the socket's buffer is full: so it will be for the others */
			for (; end < n; end++)
				tx[end].err = EAGAIN;
		}
	}
	return sent;
}

int ipsec_sock_send_ike(struct ipsec_sock *s, const struct sa_end *local, const struct sa_end *remote,
	const uint8_t *data, uint32_t len)
{
	/* In IPv6, no source address given means the address that the descriptor is bound to. */
	int fd = addr_is_none(&local->a) ? s->fd : s->fd_ike, r;
	union msg_name name;
	union msg_control control;
	struct iovec iov = {(void *)(uintptr_t)data, len};
	struct mmsghdr m = {.msg_hdr = {
				    .msg_name = &name,
				    .msg_iov = &iov,
				    .msg_iovlen = 1,
				    .msg_control = &control,
			    }};

	msg_address(&m.msg_hdr, &local->a, &remote->a, remote->port, IKE_TTL, 0);
	r = msg_send(fd, &m, 1);
	return r < 0 ? r : 0;
}
