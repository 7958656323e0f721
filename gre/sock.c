/* SPDX-License-Identifier: GPL-2.0-or-later */
/* sock.c - the GRE socket: opening, receiving.
 *
 * A raw socket of protocol 47 gets every GRE packet for this machine, reassembled, and merged where the
 * kernel's GRO saw fit. In IPv4 the outer header comes along, in IPv6 only its fields as ancillary data.
 * There is no filter in the kernel: a packet for no tunnel is counted, and that takes user space.
 *
 * References: raw(7), ip(7), ipv6(7), RFC 3542.
 */
#include "gre/sock.h"

#include "gateway/base/be.h"
#include "gateway/base/pkt.h"
#include "gre/sock_private.h"

#include <errno.h>
#include <limits.h>
#include <linux/sock_diag.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define IP4_HDR 20

/* What ICMP reported of a packet that was sent comes out of the next call that receives, once. So a call that fails is
 * made again; more often than once, since another report can come in between. */
#define PENDING_ERRORS 4

static int set_int(int fd, int level, int name, int value)
{
	return setsockopt(fd, level, name, &value, sizeof(value)) < 0 ? -errno : 0;
}

/* Without CAP_NET_ADMIN the system's limit holds, which is no reason not to start. */
static void set_buffer(int fd, int forced, int limited, uint32_t octets)
{
	int value = octets < INT_MAX / 2 ? (int)octets
					 : INT_MAX / 2; /* the kernel doubles it, for its overhead */

	if (set_int(fd, SOL_SOCKET, forced, value) < 0)
		(void)set_int(fd, SOL_SOCKET, limited, value);
}

static int set_options(struct gre_sock *s, uint32_t buffer)
{
	int err;

	if (buffer) {
		set_buffer(s->fd, SO_RCVBUFFORCE, SO_RCVBUF, buffer);
		set_buffer(s->fd, SO_SNDBUFFORCE, SO_SNDBUF, buffer);
	}
	err = gre_sock_set_df(s, true);
	if (err)
		return err;
	if (s->family == AF_INET)
		return set_int(s->fd, IPPROTO_IP, IP_RECVERR, 1);
	err = set_int(s->fd, IPPROTO_IPV6, IPV6_RECVERR, 1);
	if (!err)
		err = set_int(s->fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, 1);
	if (!err)
		err = set_int(s->fd, IPPROTO_IPV6, IPV6_RECVTCLASS, 1);
	if (!err)
		err = set_int(s->fd, IPPROTO_IPV6, IPV6_RECVHOPLIMIT, 1);
	return err;
}

int gre_sock_open(struct gre_sock **out, int family, uint32_t buffer)
{
	struct gre_sock *s = calloc(1, sizeof(*s));
	int err;

	if (!s)
		return -ENOMEM;
	s->family = family;
	s->rx_size = (size_t)GRE_BATCH * RX_SLOT;
	/* Mapped, not allocated: only pages that a packet has reached take memory. */
	s->rx_buf = mmap(NULL, s->rx_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (s->rx_buf == MAP_FAILED) {
		err = -errno;
		goto fail_map;
	}
	s->fd = socket(family, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_GRE);
	if (s->fd < 0) {
		err = -errno;
		goto fail_socket;
	}
	err = set_options(s, buffer);
	if (err)
		goto fail_options;
	for (unsigned i = 0; i < GRE_BATCH; i++)
		s->rx_iov[i] = (struct iovec){
			s->rx_buf + (size_t)i * RX_SLOT + GRE_HEADROOM, RX_SLOT - GRE_HEADROOM};
	*out = s;
	return 0;

fail_options:
	close(s->fd);
fail_socket:
	munmap(s->rx_buf, s->rx_size);
fail_map:
	free(s);
	return err;
}

void gre_sock_close(struct gre_sock *s)
{
	if (!s)
		return;
	close(s->fd);
	munmap(s->rx_buf, s->rx_size);
	free(s);
}

int gre_sock_fd(const struct gre_sock *s)
{
	return s->fd;
}

uint32_t gre_sock_lost(const struct gre_sock *s)
{
	uint32_t mem[SK_MEMINFO_VARS] = {0};
	socklen_t len = sizeof(mem);

	if (getsockopt(s->fd, SOL_SOCKET, SO_MEMINFO, mem, &len) < 0 ||
		len <= SK_MEMINFO_DROPS * sizeof(mem[0]))
		return 0;
	return mem[SK_MEMINFO_DROPS];
}

/* The kernel has checked the outer header; here only that nothing is read behind the packet. */
static enum drop take_outer4(struct gre_rx *rx)
{
	uint32_t hlen, total, src, dst;

	if (rx->len < IP4_HDR)
		return DROP_OUTER_MALFORMED;
	hlen = (rx->payload[0] & 0xfu) * 4;
	total = be16_get(rx->payload + 2);
	if (hlen < IP4_HDR || total < hlen || total > rx->len)
		return DROP_OUTER_MALFORMED;
	memcpy(&src, rx->payload + 12, 4);
	memcpy(&dst, rx->payload + 16, 4);
	rx->remote = addr_from4(src);
	rx->local = addr_from4(dst);
	rx->tos = rx->payload[1];
	rx->ttl = rx->payload[8];
	rx->payload += hlen;
	rx->len = total - hlen;
	return DROP_NONE;
}

static uint8_t cmsg_octet(struct cmsghdr *c)
{
	int v;

	memcpy(&v, CMSG_DATA(c), sizeof(v));
	return (uint8_t)v;
}

static enum drop take_outer6(struct gre_rx *rx, struct msghdr *m)
{
	const union sockaddr_any *from = m->msg_name;
	struct in6_pktinfo to;
	bool have_to = false;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
		if (c->cmsg_level != IPPROTO_IPV6)
			continue;
		switch (c->cmsg_type) {
		case IPV6_PKTINFO:
			memcpy(&to, CMSG_DATA(c), sizeof(to));
			rx->local = addr_from6(&to.ipi6_addr);
			have_to = true;
			break;
		case IPV6_TCLASS:
			rx->tos = cmsg_octet(c);
			break;
		case IPV6_HOPLIMIT:
			rx->ttl = cmsg_octet(c);
			break;
		default:
			break;
		}
	}
	if (!have_to || m->msg_namelen < sizeof(from->in6))
		return DROP_OUTER_MALFORMED;
	rx->remote = addr_from6(&from->in6.sin6_addr);
	return DROP_NONE;
}

/* Did the kernel's GRO merge this packet? Then it has verified the GRE checksum of each part, and the one in
 * the header is the first part's. What tells is the inner TCP checksum: GRO leaves it partial. */
static bool is_merged(uint8_t *inner, uint32_t len)
{
	struct pkt p = {.data = inner, .len = len};

	return pkt_parse(&p) == DROP_NONE && p.t.proto == IPPROTO_TCP && pkt_check_csum(&p) == DROP_NONE &&
	       p.csum == PKT_CSUM_PARTIAL;
}

static void take(struct gre_sock *s, unsigned i, struct gre_rx *rx)
{
	struct msghdr *m = &s->rx_msg[i].msg_hdr;

	*rx = (struct gre_rx){.payload = s->rx_iov[i].iov_base, .len = s->rx_msg[i].msg_len};
	if (m->msg_flags & MSG_TRUNC)
		rx->drop = DROP_OUTER_MALFORMED;
	else
		rx->drop = s->family == AF_INET ? take_outer4(rx) : take_outer6(rx, m);
	if (rx->drop)
		return;
	rx->drop = gre_decode(rx->payload, rx->len, &rx->hdr);
	if (rx->drop == DROP_GRE_CHECKSUM && is_merged(rx->payload + rx->hdr.len, rx->len - rx->hdr.len))
		rx->drop = DROP_NONE;
	if (rx->drop)
		return;
	rx->payload += rx->hdr.len;
	rx->len -= rx->hdr.len;
}

int gre_sock_recv(struct gre_sock *s, struct gre_rx out[static GRE_BATCH])
{
	int n;

	for (unsigned i = 0; i < GRE_BATCH; i++) {
		struct msghdr *m = &s->rx_msg[i].msg_hdr;

		*m = (struct msghdr){.msg_iov = &s->rx_iov[i], .msg_iovlen = 1};
		if (s->family == AF_INET)
			continue;
		m->msg_name = &s->rx_name[i];
		m->msg_namelen = sizeof(s->rx_name[i]);
		m->msg_control = &s->rx_control[i];
		m->msg_controllen = sizeof(s->rx_control[i]);
	}
	for (unsigned tries = 0; (n = recvmmsg(s->fd, s->rx_msg, GRE_BATCH, MSG_DONTWAIT, NULL)) < 0;
		tries++) {
		if (errno == EAGAIN)
			return 0;
		if (tries == PENDING_ERRORS)
			return -errno;
	}
	for (int i = 0; i < n; i++)
		take(s, (unsigned)i, &out[i]);
	return n;
}
