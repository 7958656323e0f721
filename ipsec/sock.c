/* SPDX-License-Identifier: GPL-2.0-or-later */
/* sock.c - the sockets of IPsec: opening, receiving.
 *
 * A descriptor serves one port and one family and all peers. The kernel's GRO (UDP_GRO) hands over a peer's run of equally
 * long datagrams as one: up to 64 KiB cost one crossing instead of 45. What is merged shares addresses and ports, but not
 * its kind: IKE and ESP of one peer come by the same ports, so each part is classified by itself.
 *
 * What a call reads should not have left the cache when it is decrypted: a second-level cache of 1 MiB holds 16 merged
 * datagrams. Measured, with a pass over the octets: of merged datagrams 0.27 ns an octet, be it 1 buffer or 64; of single ones
 * of 1400 octets 1.00 µs with 1, 0.86 with 16, 0.85 with 64. The local address costs 0.03 of these, TOS 0.07. But what one
 * call reads is also what is joined for the TUN. With 64 single ones a call, the whole path costs 8 % less than with 16 where
 * packets come faster than they are dealt with, and the same where they do not. So many are asked for when they are small,
 * and few when they are large; what will come is guessed by what came the last time.
 *
 * IKE sends by a descriptor of its own (fd_ike). Whether DF is set is an option of the descriptor and not of the message;
 * ESP wants it set, IKE clear, and they send from different threads. A second socket of the same port must not get what
 * comes for the first: it is bound to an address that nobody sends to, which does not keep it from naming another as
 * the source of each message. That two sockets may have the port is allowed for the moment of binding only, so that a
 * second key daemon is still refused.
 *
 * References: RFC 3948, udp(7), ip(7), ipv6(7), RFC 6666 (discard prefix).
 */
#include "ipsec/sock.h"

#include "ipsec/sock_private.h"

#include <errno.h>
#include <linux/udp.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define RX_LARGE 8192 /* octets of a message, on average, from which on fewer are read at a time */

static const uint16_t port_number[IPSEC_PORTS] = {
	[IPSEC_UDP_500] = IKE_PORT, [IPSEC_UDP_4500] = IKE_PORT_NATT, [IPSEC_RAW] = 0};

/* ---- opening ------------------------------------------------------------------------------------------ */

static int new_fd(const struct ipsec_sock *s)
{
	int fd = s->port == IPSEC_RAW
			 ? socket(s->family, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_ESP)
			 : socket(s->family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	return fd < 0 ? -errno : fd;
}

static int set_options4(const struct ipsec_sock *s)
{
	int err = msg_option(s->fd, IPPROTO_IP, IP_RECVERR, 1);

	if (s->port == IPSEC_RAW) /* the header comes along */
		return err;
	if (!err)
		err = msg_option(s->fd, IPPROTO_IP, IP_PKTINFO, 1);
	if (!err)
		err = msg_option(s->fd, IPPROTO_IP, IP_RECVTOS, 1);
	return err;
}

static int set_options6(const struct ipsec_sock *s)
{
	int err = msg_option(s->fd, IPPROTO_IPV6, IPV6_RECVERR, 1);

	if (!err)
		err = msg_option(s->fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, 1);
	if (!err)
		err = msg_option(s->fd, IPPROTO_IPV6, IPV6_RECVTCLASS, 1);
	return err;
}

static int set_options(struct ipsec_sock *s, uint32_t buffer)
{
	int err;

	msg_buffers(s->fd, buffer);
	err = msg_set_df(s->fd, s->family, true);
	if (err)
		return err;
	s->df = true;
	if (s->port != IPSEC_RAW) {
		err = msg_option(s->fd, IPPROTO_UDP, UDP_GRO, 1);
		if (err)
			return err;
	}
	return s->family == AF_INET ? set_options4(s) : set_options6(s);
}

/* v4, v6: the address in text; NULL: all. */
static int bind_to(const struct ipsec_sock *s, int fd, const char *text)
{
	union msg_name name = {0};
	struct addr a = {0};
	socklen_t len;
	int err;

	if (text && addr_parse(text, &a) < 0)
		return -EINVAL;
	if (s->family == AF_INET) {
		name.in.sin_family = AF_INET;
		name.in.sin_port = htons(s->local_port);
		name.in.sin_addr.s_addr = a.w[3];
		len = sizeof(name.in);
	} else {
		err = msg_option(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1);
		if (err)
			return err;
		name.in6.sin6_family = AF_INET6;
		name.in6.sin6_port = htons(s->local_port);
		memcpy(&name.in6.sin6_addr, a.b, 16);
		len = sizeof(name.in6);
	}
	return bind(fd, &name.sa, len) < 0 ? -errno : 0;
}

/* The address that nobody sends to: one of loopback that is not in use, one of the discard prefix. */
static int bind_apart(const struct ipsec_sock *s)
{
	int err = s->family == AF_INET ? msg_option(s->fd_ike, IPPROTO_IP, IP_FREEBIND, 1)
				       : msg_option(s->fd_ike, IPPROTO_IPV6, IPV6_FREEBIND, 1);

	return err ? err : bind_to(s, s->fd_ike, s->family == AF_INET ? "127.255.255.254" : "100::1");
}

static int open_ike(struct ipsec_sock *s)
{
	int err;

	s->fd_ike = new_fd(s);
	if (s->fd_ike < 0)
		return s->fd_ike;
	err = msg_set_df(s->fd_ike, s->family, false);
	if (!err)
		err = msg_option(s->fd, SOL_SOCKET, SO_REUSEADDR, 1);
	if (!err)
		err = msg_option(s->fd_ike, SOL_SOCKET, SO_REUSEADDR, 1);
	if (!err)
		err = bind_apart(s);
	(void)msg_option(s->fd, SOL_SOCKET, SO_REUSEADDR, 0);
	if (err) {
		close(s->fd_ike);
		s->fd_ike = -1;
	}
	return err;
}

int ipsec_sock_open(struct ipsec_sock **out, enum ipsec_port port, int family, uint32_t buffer)
{
	struct ipsec_sock *s = calloc(1, sizeof(*s));
	int err;

	if (!s)
		return -ENOMEM;
	s->family = family;
	s->port = port;
	s->local_port = port_number[port];
	s->fd_ike = -1;
	/* Mapped, not allocated: only pages that a packet has reached take memory. */
	s->rx_buf = mmap(NULL, (size_t)RX_BATCH * RX_STRIDE, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (s->rx_buf == MAP_FAILED) {
		err = -errno;
		goto fail_map;
	}
	s->fd = new_fd(s);
	if (s->fd < 0) {
		err = s->fd;
		goto fail_socket;
	}
	err = set_options(s, buffer);
	if (!err && port != IPSEC_RAW)
		err = bind_to(s, s->fd, NULL);
	if (!err && port != IPSEC_RAW)
		err = open_ike(s);
	if (err)
		goto fail_options;
	s->rx_batch = RX_BATCH;
	for (unsigned i = 0; i < RX_BATCH; i++)
		s->rx_iov[i] = (struct iovec){s->rx_buf + (size_t)i * RX_STRIDE, RX_SLOT};
	*out = s;
	return 0;

fail_options:
	close(s->fd);
fail_socket:
	munmap(s->rx_buf, (size_t)RX_BATCH * RX_STRIDE);
fail_map:
	free(s);
	return err;
}

void ipsec_sock_close(struct ipsec_sock *s)
{
	if (!s)
		return;
	if (s->fd_ike >= 0)
		close(s->fd_ike);
	close(s->fd);
	munmap(s->rx_buf, (size_t)RX_BATCH * RX_STRIDE);
	free(s);
}

int ipsec_sock_fd(const struct ipsec_sock *s)
{
	return s->fd;
}

uint32_t ipsec_sock_lost(const struct ipsec_sock *s)
{
	return msg_lost(s->fd);
}

/* ---- receiving ---------------------------------------------------------------------------------------- */

int ipsec_sock_recv(struct ipsec_sock *s)
{
	uint32_t octets = 0;
	int n;

	for (unsigned i = 0; i < s->rx_batch; i++)
		s->rx_msg[i].msg_hdr = (struct msghdr){
			.msg_iov = &s->rx_iov[i],
			.msg_iovlen = 1,
			.msg_name = &s->rx_name[i],
			.msg_namelen = sizeof(s->rx_name[i]),
			.msg_control = &s->rx_control[i],
			.msg_controllen = sizeof(s->rx_control[i]),
		};
	n = msg_recv(s->fd, s->rx_msg, s->rx_batch);
	s->rx_next = 0;
	s->rx_open = false;
	s->rx_count = n > 0 ? (unsigned)n : 0;
	for (unsigned i = 0; i < s->rx_count; i++)
		octets += s->rx_msg[i].msg_len;
	if (n > 0)
		s->rx_batch = octets > s->rx_count * RX_LARGE ? RX_BATCH_MERGED : RX_BATCH;
	return n;
}

/* Begins with the next message. */
static void open_message(struct ipsec_sock *s)
{
	const struct mmsghdr *m = &s->rx_msg[s->rx_next];

	s->rx_cut = (struct ipsec_cut){.data = s->rx_iov[s->rx_next].iov_base, .len = m->msg_len};
	s->rx_outer = (struct msg_outer){0};
	s->rx_next++;
	s->rx_open = true;
	if (m->msg_hdr.msg_flags & MSG_TRUNC)
		s->rx_drop = DROP_OUTER_MALFORMED;
	else if (s->port == IPSEC_RAW && s->family == AF_INET)
		s->rx_drop = msg_outer4(&s->rx_cut.data, &s->rx_cut.len, &s->rx_outer);
	else
		s->rx_drop = msg_outer(&m->msg_hdr, &s->rx_outer);
	/* A raw IPv6 socket puts the protocol's number where a port would be. */
	if (s->port == IPSEC_RAW)
		s->rx_outer.remote_port = 0;
	s->rx_cut.segment = s->rx_outer.segment;
}

bool ipsec_sock_next(struct ipsec_sock *s, struct ipsec_rx *rx)
{
	if (!s->rx_open) {
		if (s->rx_next == s->rx_count)
			return false;
		open_message(s);
	}
	*rx = (struct ipsec_rx){
		.drop = s->rx_drop,
		.local = {s->rx_outer.local, s->local_port},
		.remote = {s->rx_outer.remote, s->rx_outer.remote_port},
		.tos = s->rx_outer.tos,
		.data = s->rx_cut.data,
	};
	rx->len = ipsec_cut_next(&s->rx_cut);
	s->rx_open = s->rx_cut.len > 0;
	if (!rx->drop)
		rx->drop = ipsec_classify(s->port, rx->data, rx->len, &rx->kind);
	return true;
}
