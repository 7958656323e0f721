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
	uint32_t over; /* what it came in: 0 from a socket; see struct gre_endpoint */
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
	bool key_known; /* the quote was long enough to tell has_key and key */
	bool has_key;
	uint32_t key;
};

/* Opens the socket of one family (AF_INET, AF_INET6). buffer: octets of the kernel's send and receive buffer,
 * above the system's limit where CAP_NET_ADMIN allows it; 0 leaves the default. Returns 0 or -errno. */
int gre_sock_open(struct gre_sock **out, int family, uint32_t buffer);
void gre_sock_close(struct gre_sock *s);
int gre_sock_fd(const struct gre_sock *s);

/* Packets that the kernel threw away because the receive queue was full, since the socket was opened (modulo 2^32). */
uint32_t gre_sock_lost(const struct gre_sock *s);

/* Receives up to GRE_BATCH packets. Returns their number, 0 when there are none, or -errno. A packet with a
 * wrong GRE checksum is still good when the kernel's GRO has merged it of several, whose checksums it
 * verified: its inner TCP checksum is then a partial one. */
int gre_sock_recv(struct gre_sock *s, struct gre_rx out[static GRE_BATCH]);

/* Sends n packets, in order, with as few calls as possible; every item's err is set. A packet that fails does
 * not keep those behind it from being sent, but when the socket's buffer is full (EAGAIN), the rest fails,
 * too. Returns how many were sent.
 *
 * The path's MTU is not the kernel's affair but the tunnel's: with df the kernel ignores what ICMP told it
 * about the path. Only packets without df are fragmented by what it knows. Switching between the two costs a
 * call, so packets without df should be rare. */
unsigned gre_sock_send(struct gre_sock *s, struct gre_tx *tx, unsigned n);

/* Drains the error queue, at most GRE_ERRORS of it. Returns how many errors were handed to cb. To be called
 * when polling says POLLERR: as long as an error is queued, it goes on saying so (libuv's uv_poll reports a
 * POLLERR by itself as UV_EBADF). Errors that sending met at once are not among these: they are in
 * gre_tx.err. */
#define GRE_ERRORS 256
typedef void gre_error_cb(void *arg, const struct gre_error *e);
unsigned gre_sock_errors(struct gre_sock *s, gre_error_cb *cb, void *arg);

#endif
