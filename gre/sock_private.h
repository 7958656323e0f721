/* SPDX-License-Identifier: GPL-2.0-or-later */
/* sock_private.h - what the files of the GRE socket share: sock.c (opening, receiving), sock_send.c,
 * sock_errors.c. */
#ifndef ARRD_GRE_SOCK_PRIVATE_H
#define ARRD_GRE_SOCK_PRIVATE_H

#include "gateway/base/msg.h"
#include "gre/sock.h"

#define RX_SLOT (GRE_HEADROOM + 65536) /* an IPv4 datagram and an IPv6 payload have at most 65535 octets */

struct gre_sock {
	int fd, family;
	bool df; /* what the socket's path MTU option is set to */
	uint8_t *rx_buf;
	size_t rx_size;

	struct mmsghdr rx_msg[GRE_BATCH];
	struct iovec rx_iov[GRE_BATCH];
	union msg_name rx_name[GRE_BATCH];
	union msg_control rx_control[GRE_BATCH];

	struct mmsghdr tx_msg[GRE_BATCH];
	struct iovec tx_iov[GRE_BATCH][1 + GRE_TX_PARTS];
	union msg_name tx_name[GRE_BATCH];
	union msg_control tx_control[GRE_BATCH];
	uint8_t tx_hdr[GRE_BATCH][GRE_HDR_MAX];
};

/* sock_send.c: whether the kernel may fragment what is sent from now on. Returns 0 or -errno. */
int gre_sock_set_df(struct gre_sock *s, bool df);

#endif
