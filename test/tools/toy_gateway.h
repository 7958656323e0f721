/* SPDX-License-Identifier: GPL-2.0-or-later */
/* toy_gateway.h - a gateway without a packet path: real flow table, real tunnels, made-up flows.
 *
 * Included by exactly one file of a program. gateway_now, gateway_reload, gateway_flush and what is asked of IPsec are
 * defined here, so that the linker does not take the real ones, which want the whole process, and libcharon.
 *
 * Tunnels branch-a and branch-c belong to site acme-berlin, branch-b to a site of its own name. Branches a
 * and b send the same tuples: the flows of b are translated. toy_ipsec() adds branch-d, of type ipsec with remote = any,
 * and branch-e, GRE over it, both of site acme-rome. The SA database is a real one, its SAs are made up.
 */
#ifndef ARRD_TEST_TOY_GATEWAY_H
#define ARRD_TEST_TOY_GATEWAY_H

#include "flowstate/flowstate.h"
#include "gateway/base/pkt.h"
#include "gateway/flow_events.h"
#include "gateway/gateway.h"
#include "gateway/ipsec_private.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TOY_TUNNELS 3
#define TOY_IPSEC   2 /* more of them, by toy_ipsec() */

struct toy {
	struct gateway gw;
	struct config conf;
	struct conf_tunnel tunnels[TOY_TUNNELS + TOY_IPSEC];
	int reload_result;
	const char *reload_errors;
	unsigned reloads, flushes;
	fs_id flushed_tunnel, flushed_site;
	int steer_result;
	unsigned steers;
	const struct tunnel *steered;
	enum ipsec_steer steered_what;
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

/* In pieces of 20 ms, longer than a page may take. */
bool gateway_flush(struct gateway *gw, fs_id tunnel, fs_id site, uint32_t *cursor, uint32_t *ended)
{
	struct toy *t = (struct toy *)gw;

	t->flushes += *cursor == 0;
	t->flushed_tunnel = tunnel;
	t->flushed_site = site;
	*ended += 21;
	usleep(20000);
	return ++*cursor < 2;
}

int ipsec_steer(struct ipsec *s, const struct tunnel *tunnel, enum ipsec_steer what)
{
	struct toy *t = (struct toy *)s->gw;

	t->steers++;
	t->steered = tunnel;
	t->steered_what = what;
	return t->steer_result;
}

const struct sa *ipsec_sas(const struct ipsec *s, const struct tunnel *t, bool inbound)
{
	return sad_first(s->sad, t->ipsec->conn, inbound);
}

const char *ipsec_crypto(const struct ipsec *s)
{
	(void)s;
	return "toy-cipher";
}

const char *ike_version(void)
{
	return "5.9.8";
}

static void toy_close(struct toy *t)
{
	if (t->gw.ipsec)
		sad_free(t->gw.ipsec->sad);
	free(t->gw.ipsec);
	tunnels_free(t->gw.tunnels);
	flow_events_close(t->gw.events);
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
	err = flow_events_open(&t->gw.events, &t->gw);
	if (err) {
		fs_close(t->gw.fs);
		return err;
	}
	t->gw.egress_id = fs_bind(t->gw.fs, FS_EGRESS, "default", FS_ID_NONE, 0);
	err = tunnels_new(&t->gw.tunnels, &t->conf, NULL);
	if (!err)
		err = tunnels_commit(t->gw.tunnels, NULL, t->gw.fs);
	if (err)
		toy_close(t);
	return err;
}

/* Adds the tunnels of IPsec, as a reload would; branch-d has a connection, and no SA. Returns 0 or -errno. */
static inline int toy_ipsec(struct toy *t)
{
	static char d[] = "branch-d", e[] = "branch-e", site[] = "acme-rome";
	struct tunnels *next;
	int err;

	t->tunnels[TOY_TUNNELS] = t->tunnels[TOY_TUNNELS + 1] =
		(struct conf_tunnel){.name = d, .site = site, .mtu = 1400, .priority = 100};
	addr_parse("198.51.100.1", &t->tunnels[TOY_TUNNELS].local);
	addr_parse("192.0.2.1", &t->tunnels[TOY_TUNNELS + 1].local);
	addr_parse("192.0.2.2", &t->tunnels[TOY_TUNNELS + 1].remote);
	t->tunnels[TOY_TUNNELS].type = TUNNEL_IPSEC;
	t->tunnels[TOY_TUNNELS].remote_any = true;
	t->tunnels[TOY_TUNNELS + 1].name = e;
	t->tunnels[TOY_TUNNELS + 1].over = d;
	t->conf.ntunnels = TOY_TUNNELS + TOY_IPSEC;
	err = tunnels_new(&next, &t->conf, t->gw.tunnels);
	if (err)
		return err;
	err = tunnels_commit(next, t->gw.tunnels, t->gw.fs);
	tunnels_free(t->gw.tunnels);
	t->gw.tunnels = next;
	if (!err)
		t->gw.ipsec = calloc(1, sizeof(*t->gw.ipsec));
	if (!t->gw.ipsec)
		return err ? err : -ENOMEM;
	t->gw.ipsec->gw = &t->gw;
	tunnels_at(next, TOY_TUNNELS)->ipsec->conn = 0x10000 | FS_SLOT(tunnels_at(next, TOY_TUNNELS)->id);
	return sad_new(&t->gw.ipsec->sad);
}

/* branch-d's IKE_SA number 1 is established, as a responder, with a branch behind a NAT. */
static inline void toy_ike_up(struct toy *t)
{
	struct tunnel_ipsec *i = tunnels_at(t->gw.tunnels, TOY_TUNNELS)->ipsec;

	i->status = (struct ike_status){.state = IKE_STATE_UP,
		.ike = 1,
		.nat_remote = true,
		.local.port = 4500,
		.remote.port = 1024,
		.local_id = "gw.example",
		.remote_id = "branch-d@example",
		.algorithms = "AES_GCM_16_256/PRF_HMAC_SHA2_384/ECP_384",
		.established_s_ago = 10,
		.rekey_in_s = 14000};
	addr_parse("198.51.100.1", &i->status.local.a);
	addr_parse("203.0.113.77", &i->status.remote.a);
	i->status_ms = toy_now_ms;
	i->suite = &suites[SUITE_AES_GCM_256];
}

/* Adds an SA of branch-d, in UDP, that is due for renewal after 3000 s and ends after 3300 s. Outbound: with this SPI;
 * inbound ones have SPIs of the database's own. initiator: we began it, so it is used at once. NULL: no memory, or the
 * SPI is in use. */
static inline struct sa *toy_sa(struct toy *t, bool inbound, uint32_t spi, bool initiator)
{
	const struct tunnel_ipsec *i = tunnels_at(t->gw.tunnels, TOY_TUNNELS)->ipsec;
	struct sa *sa = calloc(1, sizeof(*sa));

	if (!sa)
		return NULL;
	*sa = (struct sa){.spi = spi,
		.tunnel = i->conn,
		.inbound = inbound,
		.initiator = initiator,
		.esn = true,
		.suite = &suites[SUITE_AES_GCM_256],
		.time_s = {3000, 3300},
		.use = sa_use_new(),
		.ike = 1,
		.local = i->status.local,
		.remote = i->status.remote};
	if (inbound)
		replay_init(&sa->replay, 1024, true);
	if (sa->use && (!inbound || sad_reserve(t->gw.ipsec->sad, sa->tunnel, &sa->spi) == 0) &&
		sad_add(t->gw.ipsec->sad, sa, toy_now_ms) == 0)
		return sa;
	sa_free(sa);
	return NULL;
}

/* Begins a flow of tunnel number tn, a packet of 100 octets. proto TCP, UDP or ICMP: from 10.0.1.5, port n,
 * to 93.184.216.34 port 80; with n above 65535 from the following addresses. ICMPv6: from 2001:db8::5 with
 * the id n. Returns the flow, or FS_NONE. */
static inline uint32_t toy_flow(struct toy *t, unsigned tn, uint8_t proto, uint32_t n)
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
