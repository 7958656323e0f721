/* SPDX-License-Identifier: GPL-2.0-or-later */
/* toy_gateway.h - a gateway without a packet path: real flow table, real tunnels, made-up flows.
 *
 * Included by exactly one file of a program. gateway_now, gateway_reload and gateway_flush are defined here,
 * so that the linker does not take the real ones, which want the whole process.
 *
 * Tunnels branch-a and branch-c belong to site acme-berlin, branch-b to a site of its own name. Branches a
 * and b send the same tuples: the flows of b are translated.
 */
#ifndef ARRD_TEST_TOY_GATEWAY_H
#define ARRD_TEST_TOY_GATEWAY_H

#include "flowstate/flowstate.h"
#include "gateway/base/pkt.h"
#include "gateway/gateway.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define TOY_TUNNELS 3

struct toy {
	struct gateway gw;
	struct config conf;
	struct conf_tunnel tunnels[TOY_TUNNELS];
	int reload_result;
	const char *reload_errors;
	unsigned reloads, flushes;
	fs_id flushed_tunnel, flushed_site;
};

static uint64_t toy_now_ms = 1000000;

uint64_t gateway_now(void)
{
	return toy_now_ms;
}

int gateway_reload(struct gateway *gw, char **errors)
{
	struct toy *t = (struct toy *)gw;

	t->reloads++;
	if (errors && t->reload_errors)
		*errors = strdup(t->reload_errors);
	return t->reload_result;
}

uint32_t gateway_flush(struct gateway *gw, fs_id tunnel, fs_id site)
{
	struct toy *t = (struct toy *)gw;

	t->flushes++;
	t->flushed_tunnel = tunnel;
	t->flushed_site = site;
	return 42;
}

static void toy_close(struct toy *t)
{
	tunnels_free(t->gw.tunnels);
	if (t->gw.fs)
		fs_close(t->gw.fs);
}

/* Returns 0 or -errno. max: room for flows. */
static int toy_open(struct toy *t, uint32_t max)
{
	static char path[] = "/etc/arrd/arrd.conf", tun[] = "arr0", eth[] = "eth0", a[] = "branch-a",
		    b[] = "branch-b", c[] = "branch-c", site[] = "acme-berlin";
	struct fs_config fc = {.max = max, .tcp_loose = true, .nshards = 1};
	struct fs_open_report report;
	int err;

	*t = (struct toy){.reloads = 0};
	t->tunnels[0] = (struct conf_tunnel){
		.name = a, .site = site, .mtu = 1476, .priority = 100, .gre_has_key = true, .gre_key = 101};
	t->tunnels[1] = (struct conf_tunnel){.name = b, .site = b, .mtu = 1476, .priority = 100};
	t->tunnels[2] = (struct conf_tunnel){.name = c, .site = site, .mtu = 1400, .priority = 200};
	for (unsigned i = 0; i < TOY_TUNNELS; i++) {
		addr_parse("198.51.100.1", &t->tunnels[i].local);
		t->tunnels[i].remote = addr_from4(htonl(0xcb007100 + i)); /* 203.0.113.0 */
	}
	t->conf = (struct config){.path = path, .tunnels = t->tunnels, .ntunnels = TOY_TUNNELS};
	t->conf.gateway.tun = tun;
	t->conf.egress.interface = eth;
	t->conf.egress.nat = NAT_MASQUERADE;
	t->conf.flows.max = max;
	prefix_parse("100.64.0.0/16", &fc.pool4);
	prefix_parse("fd00:a44::/64", &fc.pool6);
	for (enum fs_state s = FS_FREE + 1; s < FS_STATE_COUNT; s++)
		fc.timeout_s[s] = fs_state_default_s(s);
	t->gw.conf = &t->conf;
	t->gw.started_ms = toy_now_ms - 90061000;
	err = fs_open(&t->gw.fs, &fc, toy_now_ms, &report);
	if (err)
		return err;
	t->gw.egress_id = fs_bind(t->gw.fs, FS_EGRESS, "default", FS_ID_NONE, 0);
	err = tunnels_new(&t->gw.tunnels, &t->conf, NULL);
	if (!err)
		err = tunnels_commit(t->gw.tunnels, NULL, t->gw.fs);
	if (err)
		toy_close(t);
	return err;
}

/* Begins a flow of tunnel number tn, a packet of 100 octets. proto TCP, UDP or ICMP: from 10.0.1.5, port n,
 * to 93.184.216.34 port 80; with n above 65535 from the following addresses. ICMPv6: from 2001:db8::5 with
 * the id n. Returns the flow, or FS_NONE. */
static uint32_t toy_flow(struct toy *t, unsigned tn, uint8_t proto, uint32_t n)
{
	const struct tunnel *tunnel = tunnels_at(t->gw.tunnels, tn);
	struct fs_packet pk = {.via = tunnel->id, .octets = 100, .packets = 1};
	bool echo = proto == IPPROTO_ICMP || proto == IPPROTO_ICMPV6;
	struct fs_hit hit;

	pk.key.realm = tunnel->site;
	pk.key.t.proto = proto;
	if (proto == IPPROTO_ICMPV6) {
		addr_parse("2001:db8::5", &pk.key.t.src);
		addr_parse("2001:db8:ffff::1", &pk.key.t.dst);
	} else {
		pk.key.t.src = addr_from4(htonl(0x0a000105 + (n >> 16)));
		pk.key.t.dst = addr_from4(htonl(0x5db8d822));
	}
	pk.key.t.sport = htons((uint16_t)n);
	pk.key.t.dport = echo ? 0 : htons(80);
	if (proto == IPPROTO_TCP)
		pk.tcp_flags = TCP_SYN;
	if (fs_begin(t->gw.fs, &pk, t->gw.egress_id, t->gw.egress_id, false, 0, toy_now_ms, &hit) !=
		DROP_NONE)
		return FS_NONE;
	return fs_pass(t->gw.fs, hit, &pk, toy_now_ms) == DROP_NONE ? hit.flow : FS_NONE;
}

#endif
