/* SPDX-License-Identifier: GPL-2.0-or-later */
/* flowverdict.c - what the flow table says of TCP segments: packets in, verdicts out.
 *
 *	flowverdict [--strict]    --strict: no flow begins in mid-stream
 *
 * On stdin, for each packet: milliseconds of the conversation (4 octets, network order), 0 from the site or 1 from the
 * egress (1 octet), length (2 octets), the packet. On stdout a line each: the drop reason, or "pass", and the flow's state.
 * All packets are of one site, which has one tunnel, and are not translated.
 */
#include "flowstate/flowstate.h"
#include "gateway/base/pkt.h"
#include "test/tools/tool.h"

#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>

#define FLOWS 65536u
#define HEAD  7u

struct table {
	struct flowstate *fs;
	fs_id site, tunnel, egress;
};

static void table_open(struct table *t, bool loose)
{
	struct fs_config c = {.max = FLOWS, .tcp_loose = loose, .nshards = 1};
	struct fs_open_report rep;

	for (int s = 0; s < FS_STATE_COUNT; s++)
		c.timeout_s[s] = fs_state_default_s(s);
	if (fs_open(&t->fs, &c, 0, &rep))
		fail("the flow table cannot be opened");
	t->site = fs_bind(t->fs, FS_SITE, "s", FS_ID_NONE, 0);
	t->tunnel = fs_bind(t->fs, FS_TUNNEL, "t", t->site, 1);
	t->egress = fs_bind(t->fs, FS_EGRESS, "default", FS_ID_NONE, 0);
	fs_unbind_rest(t->fs);
}

static struct fs_packet described(const struct table *t, const struct pkt *p, bool from_egress)
{
	struct fs_packet f = {.key = {.t = p->t, .realm = from_egress ? t->egress : t->site},
		.via = from_egress ? t->egress : t->tunnel,
		.octets = p->len,
		.packets = 1,
		.tcp_flags = p->tcp_flags,
		.wscale = p->wscale,
		.mss = p->mss,
		.sack = p->sack,
		.tcp_len = p->len - p->payload};
	struct tcphdr th;

	memcpy(&th, p->data + p->l4, sizeof(th));
	f.window = ntohs(th.th_win);
	f.seq = ntohl(th.th_seq);
	f.ack = ntohl(th.th_ack);
	return f;
}

static enum drop judge(const struct table *t, uint8_t *data, uint32_t len, bool from_egress, uint64_t now,
	struct fs_hit *hit)
{
	struct pkt p = {.data = data, .len = len};
	struct fs_packet f;
	enum drop d = pkt_parse(&p);

	hit->flow = FS_NONE;
	if (d)
		return d;
	if (p.t.proto != IPPROTO_TCP)
		fail("a packet that is not TCP");
	f = described(t, &p, from_egress);
	fs_find(t->fs, &f.key, 1, hit);
	if (hit->flow == FS_NONE && from_egress) /* as in gateway/forward.c, without routes */
		return DROP_NO_FLOW;
	if (hit->flow == FS_NONE)
		d = fs_begin(t->fs, &f, t->egress, t->egress, false, 0, now, hit);
	return d ? d : fs_pass(t->fs, *hit, &f, now);
}

static const char *state_of(const struct table *t, uint32_t flow)
{
	struct fs_info info;
	uint32_t at = flow, found;

	return flow != FS_NONE && fs_next(t->fs, &at, 1, &found, &info) == 1 ? fs_state_name(info.state)
									     : "-";
}

int main(int argc, char **argv)
{
	static uint8_t head[HEAD], data[PKT_MAX];
	struct table t;

	table_open(&t, !(argc > 1 && !strcmp(argv[1], "--strict")));
	while (fread(head, 1, HEAD, stdin) == HEAD) {
		uint32_t now = get32(head), len = get16(head + 5);
		struct fs_hit hit;
		enum drop d;

		if (fread(data, 1, len, stdin) != len)
			fail("a packet is cut short");
		fs_tick(t.fs, now, 1000);
		d = judge(&t, data, len, head[4], now, &hit);
		printf("%s %s\n", d ? drop_name(d) : "pass", state_of(&t, hit.flow));
	}
	fs_close(t.fs);
	return 0;
}
