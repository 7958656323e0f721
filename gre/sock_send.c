/* SPDX-License-Identifier: GPL-2.0-or-later */
/* sock_send.c - the GRE socket: sending.
 *
 * One unconnected socket serves all tunnels of its family; source address, TTL and TOS travel with each
 * packet as ancillary data. Whether the outer packet may be fragmented is an option of the socket and not of
 * the packet, and is switched between runs of packets that want it otherwise.
 *
 * References: ip(7), ipv6(7), RFC 3542, RFC 2784.
 */
#include "gre/sock_private.h"

#include <errno.h>

/* PROBE: DF set, and no regard to what the kernel believes of the path's MTU; the device's still counts.
 * DONT: DF clear, fragmented here where need be by what the kernel believes. */
int gre_sock_set_df(struct gre_sock *s, bool df)
{
	int discover = df ? IP_PMTUDISC_PROBE : IP_PMTUDISC_DONT;
	int discover6 = df ? IPV6_PMTUDISC_PROBE : IPV6_PMTUDISC_DONT;
	int dontfrag = df; /* in IPv6, PROBE by itself still fragments to the device's MTU */
	int err;

	if (s->family == AF_INET)
		err = setsockopt(s->fd, IPPROTO_IP, IP_MTU_DISCOVER, &discover, sizeof(discover));
	else
		err = setsockopt(s->fd, IPPROTO_IPV6, IPV6_MTU_DISCOVER, &discover6, sizeof(discover6)) ||
		      setsockopt(s->fd, IPPROTO_IPV6, IPV6_DONTFRAG, &dontfrag, sizeof(dontfrag));
	if (err)
		return -errno;
	s->df = df;
	return 0;
}

/* Appends an item of ancillary data; the buffer has room for what fill() puts there, see CONTROL_MAX. */
static void put_cmsg(struct msghdr *m, int level, int type, const void *data, size_t len)
{
	struct cmsghdr *c = (void *)((uint8_t *)m->msg_control + m->msg_controllen);

	c->cmsg_level = level;
	c->cmsg_type = type;
	c->cmsg_len = CMSG_LEN(len);
	memcpy(CMSG_DATA(c), data, len);
	m->msg_controllen += CMSG_SPACE(len);
}

_Static_assert(CMSG_SPACE(sizeof(struct in6_pktinfo)) + 2 * CMSG_SPACE(sizeof(int)) <= CONTROL_MAX,
	"source address, TTL and TOS");

static void fill4(struct msghdr *m, union sockaddr_any *name, const struct gre_tx *tx)
{
	struct in_pktinfo from = {.ipi_spec_dst.s_addr = tx->local.w[3]};
	int ttl = tx->ttl, tos = tx->tos;

	name->in = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = tx->remote.w[3]};
	m->msg_namelen = sizeof(name->in);
	put_cmsg(m, IPPROTO_IP, IP_PKTINFO, &from, sizeof(from));
	put_cmsg(m, IPPROTO_IP, IP_TTL, &ttl, sizeof(ttl));
	put_cmsg(m, IPPROTO_IP, IP_TOS, &tos, sizeof(tos));
}

static void fill6(struct msghdr *m, union sockaddr_any *name, const struct gre_tx *tx)
{
	struct in6_pktinfo from = {0};
	int ttl = tx->ttl, tos = tx->tos;

	memcpy(&from.ipi6_addr, tx->local.b, 16);
	name->in6 = (struct sockaddr_in6){.sin6_family = AF_INET6};
	memcpy(&name->in6.sin6_addr, tx->remote.b, 16);
	m->msg_namelen = sizeof(name->in6);
	put_cmsg(m, IPPROTO_IPV6, IPV6_PKTINFO, &from, sizeof(from));
	put_cmsg(m, IPPROTO_IPV6, IPV6_HOPLIMIT, &ttl, sizeof(ttl));
	put_cmsg(m, IPPROTO_IPV6, IPV6_TCLASS, &tos, sizeof(tos));
}

static void fill(struct gre_sock *s, unsigned i, const struct gre_tx *tx)
{
	struct msghdr *m = &s->tx_msg[i].msg_hdr;
	struct iovec *iov = s->tx_iov[i];

	iov[0].iov_base = s->tx_hdr[i];
	iov[0].iov_len = gre_encode(s->tx_hdr[i], &tx->hdr, tx->part, tx->nparts);
	memcpy(iov + 1, tx->part, tx->nparts * sizeof(*iov));
	*m = (struct msghdr){
		.msg_name = &s->tx_name[i],
		.msg_iov = iov,
		.msg_iovlen = 1u + tx->nparts,
		.msg_control = &s->tx_control[i],
	};
	if (s->family == AF_INET)
		fill4(m, &s->tx_name[i], tx);
	else
		fill6(m, &s->tx_name[i], tx);
}

/* Sends n packets, at most GRE_BATCH, that are alike in df. Sets err. sendmmsg stops at the first packet that fails, and
 * says why only when asked to begin with that one. (What ICMP reported of earlier packets never fails a packet here:
 * raw sockets tell that when receiving.) */
static unsigned send_run(struct gre_sock *s, struct gre_tx *tx, unsigned n)
{
	unsigned sent = 0;

	for (unsigned i = 0; i < n; i++)
		fill(s, i, &tx[i]);
	for (unsigned i = 0; i < n;) {
		int r = sendmmsg(s->fd, s->tx_msg + i, n - i, MSG_DONTWAIT);

		if (r < 0 &&
			errno == EAGAIN) { /* the socket's buffer is full: so it will be for the others */
			while (i < n)
				tx[i++].err = EAGAIN;
			break;
		}
		if (r < 0) {
			tx[i++].err = errno;
			continue;
		}
		sent += (unsigned)r;
		for (int k = 0; k < r; k++)
			tx[i++].err = 0;
	}
	return sent;
}

unsigned gre_sock_send(struct gre_sock *s, struct gre_tx *tx, unsigned n)
{
	unsigned sent = 0;

	for (unsigned i = 0, end; i < n; i = end) {
		int err = tx[i].df == s->df ? 0 : gre_sock_set_df(s, tx[i].df);

		for (end = i + 1; end < n && end - i < GRE_BATCH && tx[end].df == tx[i].df; end++)
			;
		if (!err)
			sent += send_run(s, tx + i, end - i);
		for (unsigned k = i; err && k < end; k++)
			tx[k].err = -err;
	}
	return sent;
}
