/* SPDX-License-Identifier: GPL-2.0-or-later */
/* egress_watch.c - hears of it when somebody takes rules out of the table inet arrd.
 *
 * `flush ruleset` stands at the beginning of most firewall scripts, and takes the tables of everybody away. From
 * then on branches' packets would leave with their own sources, and answers would not be marked: neither may wait
 * until somebody notices.
 */
#include "gateway/egress_private.h"

#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <string.h>
#include <sys/socket.h>

#define EVENT_BUF 32768

_Static_assert((int)NFTA_TABLE_NAME == (int)NFTA_RULE_TABLE && (int)NFTA_TABLE_NAME == (int)NFTA_CHAIN_TABLE,
	"the name of the table is the same attribute in each of them");

int watch_open(struct mnl_socket **out)
{
	struct mnl_socket *s = mnl_socket_open2(NETLINK_NETFILTER, SOCK_NONBLOCK | SOCK_CLOEXEC);
	int group = NFNLGRP_NFTABLES, rc;

	if (!s)
		return -errno;
	if (mnl_socket_bind(s, 0, MNL_SOCKET_AUTOPID) < 0 ||
		mnl_socket_setsockopt(s, NETLINK_ADD_MEMBERSHIP, &group, sizeof(group)) < 0) {
		rc = -errno;
		mnl_socket_close(s);
		return rc;
	}
	*out = s;
	return 0;
}

static int on_event(const struct nlmsghdr *nlh, void *arg)
{
	const struct nfgenmsg *nfg = mnl_nlmsg_get_payload(nlh);
	bool *taken = arg;
	const struct nlattr *at;

	if (nlh->nlmsg_type != (NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_DELTABLE) &&
		nlh->nlmsg_type != (NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_DELCHAIN) &&
		nlh->nlmsg_type != (NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_DELRULE))
		return MNL_CB_OK;
	if (mnl_nlmsg_get_payload_len(nlh) < sizeof(*nfg) || nfg->nfgen_family != NFPROTO_INET)
		return MNL_CB_OK;
	mnl_attr_for_each(at, nlh, sizeof(*nfg))
	{
		if (mnl_attr_get_type(at) == NFTA_TABLE_NAME &&
			mnl_attr_validate(at, MNL_TYPE_NUL_STRING) == 0 &&
			strcmp(mnl_attr_get_str(at), "arrd") == 0)
			*taken = true;
	}
	return MNL_CB_OK;
}

bool watch_read(struct mnl_socket *s)
{
	bool taken = false, lost = false;
	char buf[EVENT_BUF], tun[IFNAMSIZ];
	ssize_t n;

	while ((n = mnl_socket_recvfrom(s, buf, sizeof(buf))) > 0 || (n < 0 && errno == ENOBUFS)) {
		if (n < 0)
			lost = true;
		else
			(void)mnl_cb_run(buf, (size_t)n, 0, 0, on_event, &taken);
	}
	/* Others may change more than the socket holds: then the table itself is asked for. */
	return taken || (lost && !ruleset_owner(tun));
}
