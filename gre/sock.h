/* SPDX-License-Identifier: GPL-2.0-or-later */
/* sock.h - GRE on a raw socket, one a family, in batches.
 *
 * Needs CAP_NET_RAW (socket), CAP_NET_ADMIN (SO_RCVBUFFORCE). All calls are non-blocking and made from the
 * loop. Buffers are 64 KiB a packet, since the kernel's GRO and reassembly hand over packets above any MTU.
 */
#ifndef ARRD_GRE_SOCK_H
#define ARRD_GRE_SOCK_H

#include "gateway/base/addr.h"
#include "gre/gre.h"

#define GRE_BATCH 64

struct gre_sock;

/* A packet received. payload lies in the socket's buffers until the next gre_sock_recv; there are at least
 * GRE_HEADROOM writable octets before it. drop: why it cannot be used (addresses may be unset then). */
#define GRE_HEADROOM 64
struct gre_rx {
	struct addr local, remote;
	struct gre_hdr hdr;
	uint8_t ttl, tos; /* of the outer header */
	uint8_t *payload;
	uint32_t len;
	enum drop drop;
};

/* A packet to send: outer addresses, GRE header, payload parts. err is set by gre_sock_send: 0, or a positive
 * errno. mtu: with err EMSGSIZE nothing is said of the path's MTU; errors of the path come by
 * gre_sock_errors. */
#define GRE_TX_PARTS 3
struct gre_tx {
	struct addr local, remote;
	struct gre_hdr hdr;
	uint8_t ttl, tos;
	bool df; /* false: the outer packet may be fragmented, here or on the way */
	uint8_t nparts;
	struct iovec part[GRE_TX_PARTS];
	int err;
};

/* What came back by ICMP for an outer packet that was sent: mtu 0 when it is not about size. */
struct gre_error {
	struct addr local, remote; /* of the packet that it quotes; local may be none */
	struct addr reporter;
	int err; /* EMSGSIZE, EHOSTUNREACH, … */
	uint32_t mtu;
	bool has_key; /* whether the quote was long enough to tell, and the quoted key */
	uint32_t key;
};

/* Opens the socket of one family (AF_INET, AF_INET6). Returns 0 or -errno. */
int gre_sock_open(struct gre_sock **out, int family);
void gre_sock_close(struct gre_sock *s);
int gre_sock_fd(const struct gre_sock *s);

/* Receives up to GRE_BATCH packets. Returns their number, 0 when there are none, or -errno. */
int gre_sock_recv(struct gre_sock *s, struct gre_rx out[static GRE_BATCH]);

/* Sends n packets with as few calls as possible; every item's err is set. Returns how many were sent. */
unsigned gre_sock_send(struct gre_sock *s, struct gre_tx *tx, unsigned n);

/* Drains the error queue. Returns how many errors were handed to cb. */
typedef void gre_error_cb(void *arg, const struct gre_error *e);
unsigned gre_sock_errors(struct gre_sock *s, gre_error_cb *cb, void *arg);

#endif
