/* SPDX-License-Identifier: GPL-2.0-or-later */
/* msg.h - what the rooms' sockets have in common: options, ancillary data, batches of messages, and what ICMP said.
 *
 * The sockets are unconnected and non-blocking, one a family, and serve all peers: addresses, TTL and TOS of the outer
 * header travel with each message. Ports are in host order, 0 on raw sockets.
 *
 * References: ip(7), ipv6(7), RFC 3542.
 */
#ifndef ARRD_BASE_MSG_H
#define ARRD_BASE_MSG_H

#include "gateway/base/addr.h"
#include "gateway/base/drop.h"

#include <sys/socket.h>

#define MSG_CONTROL_MAX 256 /* octets of ancillary data a message */

union msg_name {
	struct sockaddr sa;
	struct sockaddr_in in;
	struct sockaddr_in6 in6;
};

union msg_control {
	struct cmsghdr align;
	uint8_t b[MSG_CONTROL_MAX];
};

/* ---- options ------------------------------------------------------------------------------------------ */

/* Sets an option that is an int. Returns 0 or -errno. */
int msg_option(int fd, int level, int name, int value);

/* The kernel's receive and send buffer, above the system's limit where CAP_NET_ADMIN allows it. 0: its default. */
void msg_buffers(int fd, uint32_t octets);

/* Whether the kernel may fragment what is sent from now on. With df it has no regard to what it believes of the path's
 * MTU, only the device's counts; without, DF is clear, and packets are fragmented here by what the kernel believes.
 * Returns 0 or -errno. */
int msg_set_df(int fd, int family, bool df);

/* Packets that the kernel threw away because the receive queue was full, since the socket was opened (modulo 2^32). */
uint32_t msg_lost(int fd);
/* How full its receive queue is, in percent of its buffer. */
unsigned msg_queued(int fd);

/* Has the kernel let pass only keep of 65536 packets from an outer source, before they are queued; of others all. What it
 * does not let pass it does not count. n is at most MSG_POLICED; 0: all pass. udp: what begins with the
 * marker of IKE (RFC 3948 2.2) always does. Returns 0 or -errno. */
#define MSG_POLICED 8u
struct msg_police {
	struct addr source;
	uint32_t keep;
};
int msg_police(int fd, const struct msg_police *p, unsigned n, bool udp);

/* ---- receiving ---------------------------------------------------------------------------------------- */

/* What is known of the outer header of a packet received. */
struct msg_outer {
	struct addr local, remote;
	uint16_t remote_port;
	uint8_t ttl, tos;
	uint16_t
		segment; /* octets of each part, but the last, of what the kernel's GRO has merged; 0: nothing merged */
};

/* recvmmsg without waiting. Returns how many came, 0: none is there, or -errno. */
int msg_recv(int fd, struct mmsghdr *m, unsigned n);

/* Reads name and ancillary data. Fields that the socket's options did not ask for stay 0. Returns DROP_OUTER_MALFORMED when
 * an address is missing. */
enum drop msg_outer(const struct msghdr *m, struct msg_outer *o);

/* The same from an IPv4 header, which comes along on a raw socket; moves data and len to what is behind it. */
enum drop msg_outer4(uint8_t **data, uint32_t *len, struct msg_outer *o);

/* ---- sending ------------------------------------------------------------------------------------------ */

/* Appends an item of ancillary data. msg_control has room for MSG_CONTROL_MAX octets: what msg_address puts there and
 * MSG_CONTROL_SPARE more. */
#define MSG_CONTROL_SPARE 64
void msg_put(struct msghdr *m, int level, int type, const void *data, size_t len);

/* Where m goes: fills msg_name and begins msg_control, both of which m points to. The family is that of remote; local none:
 * the kernel chooses. */
void msg_address(struct msghdr *m, const struct addr *local, const struct addr *remote, uint16_t port,
	uint8_t ttl, uint8_t tos);

/* sendmmsg without waiting. Returns how many of the first messages were sent, at least 1; or -errno, which is about m[0]
 * and no other: the caller may go on with the next one. But -EAGAIN says that the socket's buffer is full. */
int msg_send(int fd, struct mmsghdr *m, unsigned n);

/* Does the kernel know a way from local to remote now? mtu: that of the device it leads out by. Asks with a socket of its own,
 * that nothing else is reported to. Returns 0 or -errno. */
int msg_way(const struct addr *local, const struct addr *remote, uint32_t *mtu);

/* Whether an error of msg_send may, after all, be what ICMP reported of other packets of the socket; of raw sockets none is. */
bool msg_may_be_report(int err);

/* ---- errors ------------------------------------------------------------------------------------------- */

/* What came back by ICMP for a packet that was sent. Nothing of this is authenticated. */
struct msg_error {
	struct addr local, remote; /* of the packet that it quotes; local may be none */
	uint16_t remote_port;
	struct addr reporter;
	int err;      /* EMSGSIZE, EHOSTUNREACH, … */
	uint32_t mtu; /* with EMSGSIZE, else 0 */
	const uint8_t
		*quote; /* of what was sent, without outer headers (IP, UDP): as much as was quoted, at most
			       * MSG_QUOTE_MAX */
	uint32_t len;
};
#define MSG_QUOTE_MAX 64
typedef void msg_error_cb(void *arg, const struct msg_error *e);

/* Drains the error queue of a socket with IP_RECVERR or IPV6_RECVERR (and IPV6_RECVPKTINFO), at most max of it. Returns how
 * many errors were handed to cb. */
unsigned msg_errors(int fd, int family, unsigned max, msg_error_cb *cb, void *arg);

#endif
