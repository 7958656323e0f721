/* SPDX-License-Identifier: GPL-2.0-or-later */
/* sock_private.h - what the files of the GRE socket share: sock.c (opening, receiving), sock_send.c,
 * sock_errors.c. */
#ifndef ARRD_GRE_SOCK_PRIVATE_H
#define ARRD_GRE_SOCK_PRIVATE_H

#include "gre/sock.h"

#include <netinet/in.h>
#include <sys/socket.h>

#define RX_SLOT     (GRE_HEADROOM + 65536) /* an IPv4 datagram and an IPv6 payload have at most 65535 octets */
#define CONTROL_MAX 256                    /* octets of ancillary data a message */

union sockaddr_any {
	struct sockaddr sa;
	struct sockaddr_in in;
	struct sockaddr_in6 in6;
};

union control {
	struct cmsghdr align;
	uint8_t b[CONTROL_MAX];
};

struct gre_sock {
	int fd, family;
	bool df; /* what the socket's path MTU option is set to */
	uint8_t *rx_buf;
	size_t rx_size;

	struct mmsghdr rx_msg[GRE_BATCH];
	struct iovec rx_iov[GRE_BATCH];
	union sockaddr_any rx_name[GRE_BATCH];
	union control rx_control[GRE_BATCH];

	struct mmsghdr tx_msg[GRE_BATCH];
	struct iovec tx_iov[GRE_BATCH][1 + GRE_TX_PARTS];
	union sockaddr_any tx_name[GRE_BATCH];
	union control tx_control[GRE_BATCH];
	uint8_t tx_hdr[GRE_BATCH][GRE_HDR_MAX];
};

/* sock_send.c: whether the kernel may fragment what is sent from now on. Returns 0 or -errno. */
int gre_sock_set_df(struct gre_sock *s, bool df);

#endif
