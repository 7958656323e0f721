/* SPDX-License-Identifier: GPL-2.0-or-later */
/* conntrack.c - forgetting connections in the kernel's table, by ctnetlink. */
#include "gateway/conntrack.h"

#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

#define BATCH_ROOM  32768
#define REQUEST_MAX 256 /* one request is at most about 170 octets */

struct conntrack {
	struct mnl_socket *s;
	uint32_t len; /* octets of requests that wait in batch */
	uint32_t seq;
	_Alignas(NLMSG_ALIGNTO) char batch[BATCH_ROOM];
};

static int open_socket(struct mnl_socket **out, int flags)
{
	struct mnl_socket *s = mnl_socket_open2(NETLINK_NETFILTER, flags | SOCK_CLOEXEC);
	int rc;

	if (!s)
		return -errno;
	if (mnl_socket_bind(s, 0, MNL_SOCKET_AUTOPID) < 0) {
		rc = -errno;
		mnl_socket_close(s);
		return rc;
	}
	*out = s;
	return 0;
}

static struct nlmsghdr *begin(void *buf, uint16_t type, uint16_t flags, uint8_t family)
{
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(buf);
	struct nfgenmsg *nfg;

	nlh->nlmsg_type = (uint16_t)((NFNL_SUBSYS_CTNETLINK << 8) | type);
	nlh->nlmsg_flags = NLM_F_REQUEST | flags;
	nfg = mnl_nlmsg_put_extra_header(nlh, sizeof(*nfg));
	nfg->nfgen_family = family;
	nfg->version = NFNETLINK_V0;
	return nlh;
}

int conntrack_open(struct conntrack **out)
{
	struct conntrack *ct = calloc(1, sizeof(*ct));
	int rc;

	if (!ct)
		return -ENOMEM;
	rc = open_socket(&ct->s, SOCK_NONBLOCK);
	if (rc) {
		free(ct);
		return rc;
	}
	*out = ct;
	return 0;
}

void conntrack_close(struct conntrack *ct)
{
	if (!ct)
		return;
	conntrack_flush(ct);
	mnl_socket_close(ct->s);
	free(ct);
}

/* ---- one connection ------------------------------------------------------------------------------------ */

/* CTA_TUPLE_PROTO. An echo request has its id in sport, a reply in dport (addr.h). */
static void put_proto(struct nlmsghdr *nlh, const struct tuple *t)
{
	struct nlattr *nest = mnl_attr_nest_start(nlh, CTA_TUPLE_PROTO);
	bool reply = t->sport == 0 && t->dport != 0;

	mnl_attr_put_u8(nlh, CTA_PROTO_NUM, t->proto);
	switch (t->proto) {
	case IPPROTO_ICMP:
		mnl_attr_put_u16(nlh, CTA_PROTO_ICMP_ID, reply ? t->dport : t->sport);
		mnl_attr_put_u8(nlh, CTA_PROTO_ICMP_TYPE, reply ? 0 : 8);
		mnl_attr_put_u8(nlh, CTA_PROTO_ICMP_CODE, 0);
		break;
	case IPPROTO_ICMPV6:
		mnl_attr_put_u16(nlh, CTA_PROTO_ICMPV6_ID, reply ? t->dport : t->sport);
		mnl_attr_put_u8(nlh, CTA_PROTO_ICMPV6_TYPE, reply ? 129 : 128);
		mnl_attr_put_u8(nlh, CTA_PROTO_ICMPV6_CODE, 0);
		break;
	default: /* without ports both are 0, as conntrack's generic tracker has them */
		mnl_attr_put_u16(nlh, CTA_PROTO_SRC_PORT, t->sport);
		mnl_attr_put_u16(nlh, CTA_PROTO_DST_PORT, t->dport);
		break;
	}
	mnl_attr_nest_end(nlh, nest);
}

static void put_tuple(struct nlmsghdr *nlh, const struct tuple *t, uint16_t zone)
{
	struct nlattr *tuple = mnl_attr_nest_start(nlh, CTA_TUPLE_ORIG);
	struct nlattr *ip = mnl_attr_nest_start(nlh, CTA_TUPLE_IP);

	if (addr_is4(&t->src)) {
		mnl_attr_put_u32(nlh, CTA_IP_V4_SRC, t->src.w[3]);
		mnl_attr_put_u32(nlh, CTA_IP_V4_DST, t->dst.w[3]);
	} else {
		mnl_attr_put(nlh, CTA_IP_V6_SRC, 16, t->src.b);
		mnl_attr_put(nlh, CTA_IP_V6_DST, 16, t->dst.b);
	}
	mnl_attr_nest_end(nlh, ip);
	put_proto(nlh, t);
	if (zone)
		mnl_attr_put_u16(nlh, CTA_TUPLE_ZONE, htons(zone));
	mnl_attr_nest_end(nlh, tuple);
}

void conntrack_forget(struct conntrack *ct, const struct tuple *orig, uint16_t zone)
{
	struct nlmsghdr *nlh;

	if (ct->len + REQUEST_MAX > sizeof(ct->batch))
		conntrack_flush(ct);
	nlh = begin(ct->batch + ct->len, IPCTNL_MSG_CT_DELETE, 0, addr_is4(&orig->src) ? AF_INET : AF_INET6);
	nlh->nlmsg_seq = ++ct->seq;
	put_tuple(nlh, orig, zone);
	ct->len += nlh->nlmsg_len;
}

void conntrack_flush(struct conntrack *ct)
{
	char buf[BATCH_ROOM];

	if (!ct->len)
		return;
	/* The kernel works the batch off before this returns. */
	(void)mnl_socket_sendto(ct->s, ct->batch, ct->len);
	ct->len = 0;
	/* Only failures are answered, and "no such entry" is the usual one: it expired by itself. ENOBUFS:
	 * more of them than the socket holds. */
	while (mnl_socket_recvfrom(ct->s, buf, sizeof(buf)) > 0 || errno == ENOBUFS)
		;
}

/* ---- all that carry the mark --------------------------------------------------------------------------- */

static int count_cb(const struct nlmsghdr *nlh, void *arg)
{
	(void)nlh;
	++*(int *)arg;
	return MNL_CB_OK;
}

static int talk(struct mnl_socket *s, struct nlmsghdr *nlh, mnl_cb_t cb, void *arg)
{
	char buf[BATCH_ROOM];
	ssize_t n;
	int rc;

	if (mnl_socket_sendto(s, nlh, nlh->nlmsg_len) < 0)
		return -errno;
	do {
		n = mnl_socket_recvfrom(s, buf, sizeof(buf));
		if (n < 0)
			return -errno;
		rc = mnl_cb_run(buf, (size_t)n, nlh->nlmsg_seq, mnl_socket_get_portid(s), cb, arg);
	} while (rc > 0);
	return rc < 0 ? -errno : 0;
}

/* Both requests carry the mark and the mask: the kernel looks only at entries that have the bit. */
static struct nlmsghdr *marked(char *buf, uint16_t type, uint16_t flags, uint32_t seq, uint32_t mark)
{
	struct nlmsghdr *nlh = begin(buf, type, flags, AF_UNSPEC);

	nlh->nlmsg_seq = seq;
	mnl_attr_put_u32(nlh, CTA_MARK, htonl(mark));
	mnl_attr_put_u32(nlh, CTA_MARK_MASK, htonl(mark));
	return nlh;
}

int conntrack_forget_marked(uint32_t mark)
{
	char buf[REQUEST_MAX];
	struct mnl_socket *s = NULL;
	int n = 0, rc = mark ? open_socket(&s, 0) : -EINVAL; /* a mask of 0 would mean all */

	if (rc)
		return rc;
	rc = talk(s, marked(buf, IPCTNL_MSG_CT_GET, NLM_F_DUMP, 1, mark), count_cb, &n);
	if (!rc)
		rc = talk(s, marked(buf, IPCTNL_MSG_CT_DELETE, NLM_F_ACK, 2, mark), NULL, NULL);
	mnl_socket_close(s);
	return rc ? rc : n;
}
