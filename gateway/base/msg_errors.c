/* SPDX-License-Identifier: GPL-2.0-or-later */
/* msg_errors.c - what ICMP said about packets that were sent.
 *
 * The kernel hands over an ICMP error as the quoted packet's destination (message name), what it quotes of the packet
 * behind IP and UDP header (message body), and, as ancillary data, the error, who reported it, and the address that it
 * was sent to: the quoted packet's source. Nothing of this is authenticated; what is believed is the caller's decision.
 *
 * References: ip(7) IP_RECVERR, ipv6(7) IPV6_RECVERR.
 */
#include "gateway/base/msg.h"

#include <errno.h>
#include <time.h> /* linux/errqueue.h needs struct timespec */

#include <linux/errqueue.h>

/* The address that the error was sent to is asked for only while errors are read, where the socket does not ask for it
 * anyway: on the way of ordinary packets it would cost a route look-up each. Returns whether it was switched on. */
static bool ask_local(int fd, int family)
{
	int on = 0;
	socklen_t len = sizeof(on);

	if (family != AF_INET || (getsockopt(fd, IPPROTO_IP, IP_PKTINFO, &on, &len) == 0 && on))
		return false;
	return msg_option(fd, IPPROTO_IP, IP_PKTINFO, 1) == 0;
}

static struct addr addr_of(const union msg_name *n, uint16_t *port)
{
	struct addr none = {0};

	*port = 0;
	if (n->sa.sa_family == AF_INET) {
		*port = ntohs(n->in.sin_port);
		return addr_from4(n->in.sin_addr.s_addr);
	}
	if (n->sa.sa_family == AF_INET6) {
		*port = ntohs(n->in6.sin6_port);
		return addr_from6(&n->in6.sin6_addr);
	}
	return none;
}

/* The error, and behind it the address of who reported it. */
static bool take_error(const struct cmsghdr *c, struct msg_error *e)
{
	struct sock_extended_err ee;
	union msg_name reporter = {0};
	size_t len = c->cmsg_len - CMSG_LEN(0);
	uint16_t port;

	if (len < sizeof(ee))
		return false;
	memcpy(&ee, CMSG_DATA(c), sizeof(ee));
	if (ee.ee_origin != SO_EE_ORIGIN_ICMP && ee.ee_origin != SO_EE_ORIGIN_ICMP6)
		return false;
	len -= sizeof(ee);
	memcpy(&reporter, CMSG_DATA(c) + sizeof(ee), len < sizeof(reporter) ? len : sizeof(reporter));
	e->err = (int)ee.ee_errno;
	e->mtu = ee.ee_errno == EMSGSIZE ? ee.ee_info : 0;
	e->reporter = addr_of(&reporter, &port);
	return true;
}

static bool take(struct msghdr *m, size_t len, struct msg_error *e)
{
	bool found = false;

	*e = (struct msg_error){.quote = m->msg_iov->iov_base, .len = (uint32_t)len};
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
	e->remote = addr_of(m->msg_name, &e->remote_port);
	return true;
}

unsigned msg_errors(int fd, int family, unsigned max, msg_error_cb *cb, void *arg)
{
	bool asked = ask_local(fd, family);
	unsigned handed = 0;

	for (unsigned i = 0; i < max; i++) {
		uint8_t quote[MSG_QUOTE_MAX];
		union msg_name name;
		union msg_control control;
		struct iovec iov = {quote, sizeof(quote)};
		struct msghdr m = {
			.msg_name = &name,
			.msg_namelen = sizeof(name),
			.msg_iov = &iov,
			.msg_iovlen = 1,
			.msg_control = &control,
			.msg_controllen = sizeof(control),
		};
		ssize_t len = recvmsg(fd, &m, MSG_ERRQUEUE | MSG_DONTWAIT);
		struct msg_error e;

		if (len < 0) /* the queue is empty */
			break;
		if (take(&m, (size_t)len, &e)) {
			cb(arg, &e);
			handed++;
		}
	}
	if (asked)
		(void)msg_option(fd, IPPROTO_IP, IP_PKTINFO, 0);
	return handed;
}
