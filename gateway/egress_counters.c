/* SPDX-License-Identifier: GPL-2.0-or-later */
/* egress_counters.c - what the rules of the table inet arrd dropped, read from its named counters.
 *
 * By netlink and not by libnftables, which reads the whole ruleset first: this is done each second.
 */
#include "gateway/egress_private.h"

#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <string.h>

/* The counters of egress_nft.c that are drops of branches' packets, and of answers to them. */
static const struct {
	const char *name;
	enum drop drop;
} counted[] = {
	{"branch_invalid", DROP_KERNEL_INVALID},
	{"branch_elsewhere", DROP_KERNEL_ELSEWHERE},
	{"branch_to_tunnel", DROP_DST_TUNNEL},
	{"branch_to_gateway", DROP_KERNEL_TO_GATEWAY},
	{"branch_untranslated", DROP_KERNEL_UNTRANSLATED},
	{"server_tcp_invalid", DROP_KERNEL_SERVER_TCP},
};

struct reading {
	const char *table, *name;
	uint64_t packets;
	bool valid;
};

static int on_counter(const struct nlattr *at, void *arg)
{
	struct reading *r = arg;

	if (mnl_attr_get_type(at) == NFTA_COUNTER_PACKETS && mnl_attr_validate(at, MNL_TYPE_U64) >= 0) {
		r->packets = be64toh(mnl_attr_get_u64(at));
		r->valid = true;
	}
	return MNL_CB_OK;
}

static int on_attribute(const struct nlattr *at, void *arg)
{
	struct reading *r = arg;

	switch (mnl_attr_get_type(at)) {
	case NFTA_OBJ_TABLE:
		if (mnl_attr_validate(at, MNL_TYPE_NUL_STRING) >= 0)
			r->table = mnl_attr_get_str(at);
		break;
	case NFTA_OBJ_NAME:
		if (mnl_attr_validate(at, MNL_TYPE_NUL_STRING) >= 0)
			r->name = mnl_attr_get_str(at);
		break;
	case NFTA_OBJ_DATA:
		mnl_attr_parse_nested(at, on_counter, r);
		break;
	}
	return MNL_CB_OK;
}

static int on_object(const struct nlmsghdr *nlh, void *arg)
{
	uint64_t *packets = arg;
	struct reading r = {0};

	mnl_attr_parse(nlh, sizeof(struct nfgenmsg), on_attribute, &r);
	if (!r.valid || !r.table || !r.name || strcmp(r.table, "arrd") != 0)
		return MNL_CB_OK;
	for (size_t i = 0; i < sizeof(counted) / sizeof(counted[0]); i++)
		if (strcmp(r.name, counted[i].name) == 0)
			packets[counted[i].drop] = r.packets;
	return MNL_CB_OK;
}

static int read_all(uint64_t packets[static DROP_COUNT])
{
	char buf[8192] __attribute__((aligned(8)));
	struct mnl_socket *s = mnl_socket_open2(NETLINK_NETFILTER, SOCK_CLOEXEC);
	struct nlmsghdr *nlh;
	struct nfgenmsg *nfg;
	ssize_t n;
	int rc;

	if (!s)
		return -errno;
	nlh = mnl_nlmsg_put_header(buf);
	nlh->nlmsg_type = NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETOBJ;
	nlh->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
	nfg = mnl_nlmsg_put_extra_header(nlh, sizeof(*nfg));
	nfg->nfgen_family = NFPROTO_INET;
	nfg->version = NFNETLINK_V0;
	mnl_attr_put_strz(nlh, NFTA_OBJ_TABLE, "arrd");
	mnl_attr_put_u32(nlh, NFTA_OBJ_TYPE, htonl(NFT_OBJECT_COUNTER));
	rc = mnl_socket_bind(s, 0, MNL_SOCKET_AUTOPID) < 0 || mnl_socket_sendto(s, nlh, nlh->nlmsg_len) < 0
		     ? -errno
		     : 1;
	while (rc > 0) {
		n = mnl_socket_recvfrom(s, buf, sizeof(buf));
		rc = n < 0 ? -errno
			   : mnl_cb_run(buf, (size_t)n, 0, mnl_socket_get_portid(s), on_object, packets);
		if (n >= 0 && rc < 0)
			rc = -errno;
	}
	mnl_socket_close(s);
	return rc;
}

void counters_add(uint64_t seen[static DROP_COUNT], uint64_t *drops)
{
	uint64_t now[DROP_COUNT] = {0};

	if (read_all(now))
		return;
	for (int d = 0; d < DROP_COUNT; d++) {
		/* Less than before: somebody deleted the table, and it is a new one. */
		if (drops)
			drops[d] += now[d] >= seen[d] ? now[d] - seen[d] : now[d];
		seen[d] = now[d];
	}
}
