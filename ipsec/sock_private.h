/* SPDX-License-Identifier: GPL-2.0-or-later */
/* sock_private.h - what the files of the IPsec sockets share: sock.c (opening, receiving), sock_demux.c (telling apart what
 * came), sock_send.c, sock_errors.c. */
#ifndef ARRD_IPSEC_SOCK_PRIVATE_H
#define ARRD_IPSEC_SOCK_PRIVATE_H

#include "gateway/base/msg.h"
#include "ipsec/sock.h"

#define RX_SLOT 65536u /* a datagram, merged or not, has at most 65535 octets with its header */
/* From one buffer to the next: further than a slot, so that the beginnings of the slots, which are all that packets of the
 * usual size need, do not compete for the same lines of the cache. */
#define RX_STRIDE       (RX_SLOT + 1600u)
#define RX_BATCH        64 /* messages a call: see sock.c */
#define RX_BATCH_MERGED 16 /* while they are large */
#define TX_BATCH        64

/* What is left of a datagram, merged of parts of segment octets (0: it is one) or not. */
struct ipsec_cut {
	uint8_t *data;
	uint32_t len;
	uint32_t segment;
};

/* Octets of the first part, none of which is longer than what is left; takes them off. */
uint32_t ipsec_cut_next(struct ipsec_cut *c);

/* Of an ICMP error's quote of what was sent by a port: was it ESP, and which SPI? */
void ipsec_quoted(enum ipsec_port port, const uint8_t *quote, uint32_t len, bool *is_esp, uint32_t *spi);

struct ipsec_sock {
	int fd;
	int fd_ike; /* for sending IKE, which may be fragmented; -1 where there is no IKE */
	int family;
	enum ipsec_port port;
	uint16_t local_port; /* 0: protocol 50 */
	bool df;             /* what the path MTU option of fd is set to */
	unsigned
		apart; /* merged items that are still to be sent packet by packet before merging is tried again */

	uint8_t *rx_buf;
	unsigned rx_batch;          /* messages that the next call asks for */
	unsigned rx_count, rx_next; /* messages read; the next one to be looked at */
	bool rx_open;               /* message rx_next - 1 is being taken apart */
	enum drop rx_drop;          /* of it */
	struct ipsec_cut rx_cut;
	struct msg_outer rx_outer;
	struct mmsghdr rx_msg[RX_BATCH];
	struct iovec rx_iov[RX_BATCH];
	union msg_name rx_name[RX_BATCH];
	union msg_control rx_control[RX_BATCH];

	struct mmsghdr tx_msg[TX_BATCH];
	struct iovec tx_iov[TX_BATCH];
	union msg_name tx_name[TX_BATCH];
	union msg_control tx_control[TX_BATCH];
};

#endif
