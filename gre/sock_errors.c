/* SPDX-License-Identifier: GPL-2.0-or-later */
/* sock_errors.c - the GRE socket: what ICMP said about packets that were sent.
 *
 * The kernel hands over an ICMP error as the quoted packet's destination (message name), the quoted GRE
 * header (message body; the quoted IP header is gone), and, as ancillary data, the error, who reported it,
 * and the address that it was sent to: the quoted packet's source. Nothing of this is authenticated; what is
 * believed is the tunnel's decision.
 *
 * References: ip(7) IP_RECVERR, ipv6(7) IPV6_RECVERR.
 */
#include "gre/sock_private.h"

#include <errno.h>
#include <time.h> /* linux/errqueue.h needs struct timespec */

#include <linux/errqueue.h>

/* The address that the error was sent to is asked for only while errors are read: on the way of ordinary
 * packets it would cost a route look-up each. In IPv6 it is on anyway. */
static void ask_local(const struct gre_sock *s, int on)
{
	if (s->family == AF_INET)
		(void)setsockopt(s->fd, IPPROTO_IP, IP_PKTINFO, &on, sizeof(on));
}

static struct addr addr_of(const union sockaddr_any *a)
{
	struct addr none = {0};

	if (a->sa.sa_family == AF_INET)
		return addr_from4(a->in.sin_addr.s_addr);
	if (a->sa.sa_family == AF_INET6)
		return addr_from6(&a->in6.sin6_addr);
	return none;
}

/* The error, and behind it the address of who reported it. */
static bool take_error(const struct cmsghdr *c, struct gre_error *e)
{
	struct sock_extended_err ee;
	union sockaddr_any reporter = {0};
	size_t len = c->cmsg_len - CMSG_LEN(0);

	if (len < sizeof(ee))
		return false;
	memcpy(&ee, CMSG_DATA(c), sizeof(ee));
	if (ee.ee_origin != SO_EE_ORIGIN_ICMP && ee.ee_origin != SO_EE_ORIGIN_ICMP6)
		return false;
	len -= sizeof(ee);
	memcpy(&reporter, CMSG_DATA(c) + sizeof(ee), len < sizeof(reporter) ? len : sizeof(reporter));
	e->err = (int)ee.ee_errno;
	e->mtu = ee.ee_errno == EMSGSIZE ? ee.ee_info : 0;
	e->reporter = addr_of(&reporter);
	return true;
}

static bool take(struct msghdr *m, size_t len, struct gre_error *e)
{
	bool found = false;

	*e = (struct gre_error){0};
	for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
		struct in_pktinfo to4;
		struct in6_pktinfo to6;

		if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_PKTINFO) {
			memcpy(&to4, CMSG_DATA(c), sizeof(to4));
			e->local = addr_from4(to4.ipi_addr.s_addr);
		} else if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_PKTINFO) {
			memcpy(&to6, CMSG_DATA(c), sizeof(to6));
			e->local = addr_from6(&to6.ipi6_addr);
		} else if ((c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_RECVERR) ||
			   (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_RECVERR)) {
			found = take_error(c, e);
		}
	}
	if (!found || !m->msg_namelen)
		return false;
	e->remote = addr_of(m->msg_name);
	e->key_known = gre_peek_key(m->msg_iov->iov_base, (uint32_t)len, &e->has_key, &e->key);
	return true;
}

unsigned gre_sock_errors(struct gre_sock *s, gre_error_cb *cb, void *arg)
{
	unsigned handed = 0;

	ask_local(s, 1);
	for (unsigned i = 0; i < GRE_ERRORS; i++) {
		uint8_t quoted[GRE_HDR_MAX];
		union sockaddr_any name;
		union control control;
		struct iovec iov = {quoted, sizeof(quoted)};
		struct msghdr m = {
			.msg_name = &name,
			.msg_namelen = sizeof(name),
			.msg_iov = &iov,
			.msg_iovlen = 1,
			.msg_control = &control,
			.msg_controllen = sizeof(control),
		};
		ssize_t len = recvmsg(s->fd, &m, MSG_ERRQUEUE | MSG_DONTWAIT);
		struct gre_error e;

		if (len < 0) /* the queue is empty */
			break;
		if (take(&m, (size_t)len, &e)) {
			cb(arg, &e);
			handed++;
		}
	}
	ask_local(s, 0);
	return handed;
}
