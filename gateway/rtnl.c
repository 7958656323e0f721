/* SPDX-License-Identifier: GPL-2.0-or-later */
/* rtnl.c - requests to the kernel's route netlink (RFC 3549), by libmnl. */
#include "gateway/rtnl.h"

#include <errno.h>
#include <linux/rtnetlink.h>
#include <stdlib.h>
#include <sys/socket.h>

#define DUMP_TRIES 8 /* a dump that other people's changes disturb each time is given up */

struct rtnl {
	struct mnl_socket *s;
	uint32_t seq;
	uint32_t port;
};

int rtnl_open(struct rtnl **out)
{
	struct rtnl *r = calloc(1, sizeof(*r));
	int rc;

	if (!r)
		return -ENOMEM;
	r->s = mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC);
	if (!r->s || mnl_socket_bind(r->s, 0, MNL_SOCKET_AUTOPID) < 0) {
		rc = -errno;
		rtnl_close(r);
		return rc;
	}
	/* Old kernels ignore filters in dump requests without it. Nothing depends on it. */
	(void)mnl_socket_setsockopt(r->s, NETLINK_GET_STRICT_CHK, &(int){1}, sizeof(int));
	r->port = mnl_socket_get_portid(r->s);
	*out = r;
	return 0;
}

void rtnl_close(struct rtnl *r)
{
	if (!r)
		return;
	if (r->s)
		mnl_socket_close(r->s);
	free(r);
}

struct nlmsghdr *rtnl_msg(void *buf, uint16_t type, uint16_t flags, size_t size)
{
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(buf);

	nlh->nlmsg_type = type;
	nlh->nlmsg_flags = NLM_F_REQUEST | flags;
	mnl_nlmsg_put_extra_header(nlh, size);
	return nlh;
}

void rtnl_put_addr(struct nlmsghdr *nlh, uint16_t type, const struct addr *a)
{
	if (addr_is4(a))
		mnl_attr_put(nlh, type, 4, &a->w[3]);
	else
		mnl_attr_put(nlh, type, 16, a->b);
}

bool rtnl_get_addr(const struct nlattr *at, uint8_t family, struct addr *out)
{
	uint16_t len = mnl_attr_get_payload_len(at);
	uint32_t be;

	if (family == AF_INET && len == 4) {
		memcpy(&be, mnl_attr_get_payload(at), 4);
		*out = addr_from4(be);
		return true;
	}
	if (family == AF_INET6 && len == 16) {
		*out = addr_from6(mnl_attr_get_payload(at));
		return true;
	}
	return false;
}

/* Receives until the end of the answer. mnl_cb_run says 0 at the end and -1 with errno on an error. */
static int answer(struct rtnl *r, mnl_cb_t cb, void *arg)
{
	char buf[32768]; /* the kernel fills dump messages up to this size */
	ssize_t n;
	int rc;

	do {
		n = mnl_socket_recvfrom(r->s, buf, sizeof(buf));
		if (n < 0)
			return -errno;
		rc = mnl_cb_run(buf, (size_t)n, r->seq, r->port, cb, arg);
	} while (rc > 0);
	return rc < 0 ? -errno : 0;
}

static int send_request(struct rtnl *r, struct nlmsghdr *nlh)
{
	nlh->nlmsg_seq = ++r->seq;
	return mnl_socket_sendto(r->s, nlh, nlh->nlmsg_len) < 0 ? -errno : 0;
}

int rtnl_talk(struct rtnl *r, struct nlmsghdr *nlh)
{
	int rc;

	nlh->nlmsg_flags |= NLM_F_ACK;
	rc = send_request(r, nlh);
	return rc ? rc : answer(r, NULL, NULL);
}

/* Throws away what is left of an answer that was given up, so that it is not taken for the next one's. */
static void drain(struct rtnl *r)
{
	char buf[32768];

	while (recv(mnl_socket_get_fd(r->s), buf, sizeof(buf), MSG_DONTWAIT) > 0)
		;
}

int rtnl_dump(struct rtnl *r, struct nlmsghdr *nlh, mnl_cb_t cb, void (*restart)(void *arg), void *arg)
{
	int rc = -EINTR;

	nlh->nlmsg_flags |= NLM_F_DUMP;
	for (int i = 0; i < DUMP_TRIES && rc == -EINTR; i++) {
		if (i) {
			drain(r);
			if (restart)
				restart(arg);
		}
		rc = send_request(r, nlh);
		if (!rc)
			rc = answer(r, cb, arg);
	}
	if (rc)
		drain(r);
	return rc;
}
