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
_Static_assert(IPSEC_SEGMENTS <= 64, "a bit for each packet of an item");

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

/* Nothing of an item went (err), or all of it (0). */
static void set_all(struct ipsec_tx *tx, int err)
{
	uint32_t n = is_merged(tx) ? (tx->len + tx->segment - 1) / tx->segment : 1;

	tx->err = err;
	tx->failed = err ? UINT64_MAX >> (64 - n) : 0;
}

/* Sends an item's packets one by one. Those that fail do not keep the others from being sent; but when the buffer is full, it
 * is so for the rest. */
static void send_apart(struct ipsec_sock *s, struct ipsec_tx *tx)
{
	unsigned n = 0;

	for (uint32_t at = 0; at < tx->len && n < TX_BATCH; at += tx->segment, n++) {
		uint32_t left = tx->len - at;

		fill(s, n, tx, tx->data + at, left < tx->segment ? left : tx->segment);
	}
	set_all(tx, 0);
	for (unsigned i = 0; i < n && tx->err != EAGAIN;) {
		int r = msg_send(s->fd, s->tx_msg + i, n - i);

		if (r > 0) {
			i += (unsigned)r;
			continue;
		}
		if (!tx->err || r == -EAGAIN)
			tx->err = -r;
		tx->failed |= r == -EAGAIN ? UINT64_MAX >> (64 - n) & UINT64_MAX << i : UINT64_C(1) << i;
		i++;
	}
}

/* Sending an item in one message failed with err. */
static void try_apart(struct ipsec_sock *s, struct ipsec_tx *tx, int err)
{
	if (!is_merged(tx) || (err != EIO && err != EINVAL && err != EMSGSIZE)) {
		set_all(tx, err);
		return;
	}
	send_apart(s, tx);
	/* Not the size was wrong, then, but the merging. (Without df it may still have been the size.) */
	if (err == EIO || (err == EINVAL && !tx->err && tx->df))
		s->apart = APART_ITEMS;
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
		send_apart(s, tx);
		return 1;
	}
	n = run_length(s, tx, n);
	for (unsigned i = 0; i < n; i++)
		fill(s, i, &tx[i], tx[i].data, tx[i].len);
	r = msg_send(s->fd, s->tx_msg, n);
	for (int i = 0; i < r; i++)
		set_all(&tx[i], 0);
	if (r > 0)
		return (unsigned)r;
	try_apart(s, tx, -r);
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
			set_all(&tx[i], -err);
		else
			end = i + send_some(s, tx + i, n - i);
		for (; i < end; i++)
			sent += tx[i].err == 0;
		if (tx[end - 1].err ==
			EAGAIN) { /* the socket's buffer is full: so it will be for the others */
			for (; end < n; end++)
				set_all(&tx[end], EAGAIN);
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
