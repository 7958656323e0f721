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

#include "gateway/base/pkt.h"
#include "gre/sock_private.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

static int set_options(struct gre_sock *s, uint32_t buffer)
{
	int err;

	msg_buffers(s->fd, buffer);
	err = gre_sock_set_df(s, true);
	if (err)
		return err;
	if (s->family == AF_INET)
		return msg_option(s->fd, IPPROTO_IP, IP_RECVERR, 1);
	err = msg_option(s->fd, IPPROTO_IPV6, IPV6_RECVERR, 1);
	if (!err)
		err = msg_option(s->fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, 1);
	if (!err)
		err = msg_option(s->fd, IPPROTO_IPV6, IPV6_RECVTCLASS, 1);
	if (!err)
		err = msg_option(s->fd, IPPROTO_IPV6, IPV6_RECVHOPLIMIT, 1);
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
	return msg_lost(s->fd);
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
	const struct msghdr *m = &s->rx_msg[i].msg_hdr;
	struct msg_outer o = {0};

	*rx = (struct gre_rx){.payload = s->rx_iov[i].iov_base, .len = s->rx_msg[i].msg_len};
	if (m->msg_flags & MSG_TRUNC)
		rx->drop = DROP_OUTER_MALFORMED;
	else
		rx->drop = s->family == AF_INET ? msg_outer4(&rx->payload, &rx->len, &o) : msg_outer(m, &o);
	if (rx->drop)
		return;
	rx->local = o.local;
	rx->remote = o.remote;
	rx->ttl = o.ttl;
	rx->tos = o.tos;
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
	n = msg_recv(s->fd, s->rx_msg, GRE_BATCH);
	for (int i = 0; i < n; i++)
		take(s, (unsigned)i, &out[i]);
	return n;
}
