/* SPDX-License-Identifier: GPL-2.0-or-later */
/* sock.h - the sockets of IPsec: UDP 500 and 4500, and protocol 50, each for IPv4 and IPv6, in batches.
 *
 * The loop receives and sends ESP; IKE's threads send by ipsec_sock_send_ike. What comes is told apart here, each segment
 * of a merged datagram for itself (RFC 3948 2): on 4500 four zero octets mean IKE, a single 0xFF is a keepalive, all else
 * is ESP; on 500 everything is IKE; on protocol 50 everything is ESP.
 *
 * Needs CAP_NET_BIND_SERVICE (500), CAP_NET_RAW (protocol 50), CAP_NET_ADMIN (SO_RCVBUFFORCE).
 * References: RFC 3948, 7296 2.23, 4303; udp(7) UDP_GRO, UDP_SEGMENT; ip(7), ipv6(7).
 */
#ifndef ARRD_IPSEC_SOCK_H
#define ARRD_IPSEC_SOCK_H

#include "gateway/base/drop.h"
#include "ipsec/sa.h"

#define IKE_PORT      500
#define IKE_PORT_NATT 4500

enum ipsec_port { IPSEC_UDP_500, IPSEC_UDP_4500, IPSEC_RAW, IPSEC_PORTS };

struct ipsec_sock; /* one descriptor: a port and a family */

/* family: AF_INET, AF_INET6. buffer: octets of the kernel's send and receive buffer, 0: its default. Returns 0 or
 * -errno (-EADDRINUSE: another key daemon runs here). */
int ipsec_sock_open(struct ipsec_sock **out, enum ipsec_port port, int family, uint32_t buffer);
void ipsec_sock_close(struct ipsec_sock *s); /* NULL is allowed */
int ipsec_sock_fd(const struct ipsec_sock *s);
/* Packets that the kernel threw away because the receive queue was full, since opening (modulo 2^32). */
uint32_t ipsec_sock_lost(const struct ipsec_sock *s);

/* ---- receiving -------------------------------------------------------------------------------------- */

enum ipsec_rx_kind { IPSEC_RX_ESP, IPSEC_RX_IKE, IPSEC_RX_KEEPALIVE };

struct ipsec_rx {
	enum ipsec_rx_kind kind;
	enum drop drop;              /* why it cannot be used; then kind means nothing */
	struct sa_end local, remote; /* ports 0 for protocol 50 */
	uint8_t tos;                 /* of the outer header (of the first one, of a merged datagram) */
	/* ESP: the SPI. IKE: the datagram's payload, on 4500 with the four zero octets. Writable, valid until the next
	 * ipsec_sock_recv. */
	uint8_t *data;
	uint32_t len;
};

/* Reads what is ready into the socket's own buffers, with one system call. Returns how many datagrams, 0: none is there,
 * or -errno. */
int ipsec_sock_recv(struct ipsec_sock *s);
/* The next packet of what was read; merged datagrams are taken apart. False: there is none left. */
bool ipsec_sock_next(struct ipsec_sock *s, struct ipsec_rx *rx);

/* The classification by itself, pure, of one datagram's payload on a port. For tests and fuzzing, too. */
enum drop ipsec_classify(enum ipsec_port port, const uint8_t *data, uint32_t len, enum ipsec_rx_kind *kind);

/* ---- sending ---------------------------------------------------------------------------------------- */

/* One or more ESP packets to one peer. With segment > 0 data holds several packets one behind the other, each of segment
 * octets, but the last, which may be shorter; only on UDP, at most IPSEC_SEGMENTS and 65,000 octets. Set by ipsec_sock_send:
 * failed, a bit for each packet that did not go, the first one's the lowest; and err, why (of the first of them): a positive
 * errno, or 0 when all went. */
#define IPSEC_SEGMENTS 64
struct ipsec_tx {
	struct sa_end local, remote;
	uint8_t ttl, tos;
	bool df; /* false: the outer packets may be fragmented, here or on the way */
	uint16_t segment;
	const uint8_t *data;
	uint32_t len;
	uint64_t failed;
	int err;
};

/* Sends n items in order with as few calls as possible. Where the device cannot segment (EIO, EINVAL), packets are sent
 * one by one, now and for a while after. When the socket's buffer is full the rest gets EAGAIN. The path's MTU is the
 * caller's affair: with df the kernel ignores what it believes. Returns how many items went out whole. */
unsigned ipsec_sock_send(struct ipsec_sock *s, struct ipsec_tx *tx, unsigned n);

/* One IKE message (on 4500 with its four zero octets), from any thread. tos 0, DF clear; local.a none: the kernel chooses, and
 * DF is as the last ESP packet had it. Not on IPSEC_RAW. Returns 0 or -errno. */
int ipsec_sock_send_ike(struct ipsec_sock *s, const struct sa_end *local, const struct sa_end *remote,
	const uint8_t *data, uint32_t len);

/* ---- errors ----------------------------------------------------------------------------------------- */

/* What came back by ICMP for a packet that was sent. */
struct ipsec_error {
	struct sa_end local, remote; /* of the packet that it quotes; local.a may be none */
	struct addr reporter;
	int err;      /* EMSGSIZE, EHOSTUNREACH, ECONNREFUSED … */
	uint32_t mtu; /* with EMSGSIZE: of the outer packet; else 0 */
	bool is_esp;  /* or may be: on 4500, when nothing of the payload was quoted */
	uint32_t spi; /* of an ESP packet, when the quote reached that far; else 0 */
};
#define IPSEC_ERRORS 256
typedef void ipsec_error_cb(void *arg, const struct ipsec_error *e);
/* Drains the error queue, at most IPSEC_ERRORS of it; returns how many were handed to cb. To be called on POLLERR. */
unsigned ipsec_sock_errors(struct ipsec_sock *s, ipsec_error_cb *cb, void *arg);

#endif
