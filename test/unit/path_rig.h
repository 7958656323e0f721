/* SPDX-License-Identifier: GPL-2.0-or-later */
/* path_rig.h - the packet path on a bench: the real path, tunnels, routes and flow table; in place of sockets, TUN,
 * clock and the machine's addresses are these, which hand over what a test gives and keep what comes out.
 *
 *	a1, a2 (backup): site A   203.0.113.1, .2        \
 *	b1: site B                203.0.113.3, key 7      > gateway 198.51.100.1 ── TUN
 *	c1: site C, mtu 1400      203.0.113.4, routes    /
 *
 * A and B use the same addresses. To be included by one file of a program only; one that wants more tunnels names them
 * in RIG_MORE before, with a comma behind each, and has a function rig_more() to set them up; that one may change the flow
 * table's configuration and the TUN's offloads, too.
 */
#ifndef ARRD_TEST_PATH_RIG_H
#define ARRD_TEST_PATH_RIG_H

#include "gateway/egress.h"
#include "gateway/hostnet.h"
#include "gateway/path.h"
#include "test/unit/packet.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cmocka.h>

#ifdef RIG_MORE
static void rig_more(void);
#else
#define RIG_MORE
static void rig_more(void)
{
}
#endif

/* clang-format off */
enum { A1, A2, B1, C1, RIG_MORE TUNNELS };
/* clang-format on */
#define TO_TUN   100 /* in the place of a tunnel */
#define OUTS     512
#define OUT_ROOM (16u << 20)

/* A packet that came out. */
struct out {
	int to; /* a tunnel, or TO_TUN */
	uint8_t *data;
	uint32_t len;
	struct virtio_net_hdr vnet;
	struct gre_tx tx; /* without its parts */
	uint8_t gre_tos;  /* of the IP header before GRE that came in ESP */
};

struct tun {
	int fd;
	struct vnet_offloads write;
};
struct gre_sock {
	int fd;
};

static struct rig {
	struct gateway gw;
	uv_loop_t loop;
	struct config conf;
	struct conf_tunnel ct[TUNNELS];
	struct prefix c_routes[2], private_ok[1];
	struct fs_config flows;
	struct vnet_offloads offloads; /* that the TUN takes */
	uint64_t now;
	struct gre_rx in[GRE_BATCH];
	struct tun_rx in_tun[TUN_BATCH];
	unsigned nin, nin_tun;
	uint8_t *in_buf, *out_buf; /* in_buf: PKT_MAX and headroom a packet */
	size_t out_used;
	struct out out[OUTS];
	unsigned nout;
	struct gre_error errors[8]; /* that ICMP brought */
	unsigned nerrors;
	uint32_t lost;      /* in each queue of the kernel's */
	struct addr own[2]; /* addresses of the machine */
} rig;

/* ---- what the path calls ----------------------------------------------------------------------------- */

uint64_t gateway_now(void)
{
	return rig.now;
}

bool hostnet_own(const struct hostnet *h, const struct addr *a)
{
	(void)h;
	return addr_eq(a, &rig.own[0]) || addr_eq(a, &rig.own[1]);
}

bool hostnet_broadcast(const struct hostnet *h, const struct addr *a)
{
	(void)h;
	(void)a;
	return false;
}

bool hostnet_connected(const struct hostnet *h, const struct addr *a)
{
	(void)h;
	(void)a;
	return false;
}

int gre_sock_open(struct gre_sock **out, int family, uint32_t buffer)
{
	(void)family;
	(void)buffer;
	*out = calloc(1, sizeof(**out));
	(*out)->fd = eventfd(0, 0);
	return 0;
}

void gre_sock_close(struct gre_sock *s)
{
	close(s->fd);
	free(s);
}

int gre_sock_fd(const struct gre_sock *s)
{
	return s->fd;
}

unsigned gre_sock_errors(struct gre_sock *s, gre_error_cb *cb, void *arg)
{
	unsigned n = rig.nerrors;

	(void)s;
	for (unsigned i = 0; i < n; i++)
		cb(arg, &rig.errors[i]);
	rig.nerrors = 0;
	return n;
}

int gre_sock_recv(struct gre_sock *s, struct gre_rx out[static GRE_BATCH])
{
	unsigned n = rig.nin;

	(void)s;
	memcpy(out, rig.in, n * sizeof(*out));
	rig.nin = 0;
	return (int)n;
}

static struct out *keep(const struct iovec *iov, unsigned n)
{
	struct out *o = &rig.out[rig.nout++];

	assert_true(rig.nout < OUTS);
	*o = (struct out){.data = rig.out_buf + rig.out_used};
	for (unsigned i = 0; i < n; i++) {
		assert_true(rig.out_used + iov[i].iov_len <= OUT_ROOM);
		memcpy(o->data + o->len, iov[i].iov_base, iov[i].iov_len);
		o->len += (uint32_t)iov[i].iov_len;
		rig.out_used += iov[i].iov_len;
	}
	return o;
}

unsigned gre_sock_send(struct gre_sock *s, struct gre_tx *tx, unsigned n)
{
	(void)s;
	for (unsigned i = 0; i < n; i++) {
		struct out *o = keep(tx[i].part, tx[i].nparts);

		o->tx = tx[i];
		o->to = (int)(ntohl(tx[i].remote.w[3]) & 0xff) - 1;
		tx[i].err = 0;
	}
	return n;
}

void egress_flush(struct egress *e)
{
	(void)e;
}

uint32_t gre_sock_lost(const struct gre_sock *s)
{
	(void)s;
	return rig.lost;
}

uint64_t tun_lost(const struct tun *t)
{
	(void)t;
	return rig.lost;
}

int tun_fd(const struct tun *t)
{
	return t->fd;
}

const char *tun_name(const struct tun *t)
{
	(void)t;
	return "arr0";
}

const struct vnet_offloads *tun_write_offloads(const struct tun *t)
{
	return &t->write;
}

void tun_close(struct tun *t)
{
	if (!t)
		return;
	close(t->fd);
	free(t);
}

int tun_read(struct tun *t, struct tun_rx out[static TUN_BATCH])
{
	unsigned n = rig.nin_tun;

	(void)t;
	memcpy(out, rig.in_tun, n * sizeof(*out));
	rig.nin_tun = 0;
	return (int)n;
}

int tun_write(struct tun *t, const struct iovec *iov, unsigned n)
{
	struct out *o = keep(iov + 1, n - 1);

	(void)t;
	o->to = TO_TUN;
	assert_int_equal(iov[0].iov_len, VNET_HDR_LEN);
	memcpy(&o->vnet, iov[0].iov_base, VNET_HDR_LEN);
	return 0;
}

/* ---- building and taking down ------------------------------------------------------------------------ */

static void rig_tunnel(unsigned i, const char *name, const char *site, uint32_t mtu)
{
	struct conf_tunnel *c = &rig.ct[i];

	*c = (struct conf_tunnel){.name = (char *)(uintptr_t)name,
		.site = (char *)(uintptr_t)site,
		.local = test_addr("198.51.100.1"),
		.remote = addr_from4(htonl(0xcb007101 + i)),
		.ttl = 64,
		.dscp = DSCP_INHERIT,
		.interface_address = {{.a = test_addr("10.213.0.1")}, {.a = test_addr("fd00:213::1")}},
		.mtu = mtu,
		.mss = MSS_AUTO,
		.automatic_return_routing = true,
		.priority = 100 + i};
}

static int rig_up(void **state)
{
	struct path_tables *tables;
	struct fs_open_report rep;
	struct tun *tun = calloc(1, sizeof(*tun));
	char err[256] = "";

	(void)state;
	memset(&rig, 0, sizeof(rig));
	rig.now = 1000000;
	rig.in_buf = malloc((size_t)GRE_BATCH * (PKT_MAX + GRE_HEADROOM));
	rig.out_buf = malloc(OUT_ROOM);
	rig.own[0] = test_addr("198.51.100.1");
	rig.own[1] = test_addr("10.9.0.99"); /* where a route of C leads, too */
	rig_tunnel(A1, "a1", "A", 1476);
	rig_tunnel(A2, "a2", "A", 1476);
	rig_tunnel(B1, "b1", "B", 1472);
	rig_tunnel(C1, "c1", "C", 1400);
	rig.ct[B1].gre_has_key = true;
	rig.ct[B1].gre_key = 7;
	assert_int_equal(prefix_parse("10.9.0.0/16", &rig.c_routes[0]), 0);
	assert_int_equal(prefix_parse("fd00:9::/64", &rig.c_routes[1]), 0);
	rig.ct[C1].routes = (struct prefix_list){rig.c_routes, 2};
	rig.flows = (struct fs_config){.max = 4096, .nshards = 1, .tcp_loose = true};
	for (int i = 0; i < FS_STATE_COUNT; i++)
		rig.flows.timeout_s[i] = 100;
	assert_int_equal(prefix_parse("100.64.0.0/16", &rig.flows.pool4), 0);
	assert_int_equal(prefix_parse("fd00:a44::/64", &rig.flows.pool6), 0);
	rig.offloads = (struct vnet_offloads){true, true, true, true};
	rig_more();
	assert_int_equal(prefix_parse("10.50.0.0/16", &rig.private_ok[0]), 0);
	rig.conf.egress.private_destinations = (struct prefix_list){rig.private_ok, 1};
	rig.conf.gateway.tun_mtu = 1500;
	rig.conf.tunnels = rig.ct;
	rig.conf.ntunnels = TUNNELS;

	assert_int_equal(uv_loop_init(&rig.loop), 0);
	rig.gw.loop = &rig.loop;
	rig.gw.conf = &rig.conf;
	assert_int_equal(fs_open(&rig.gw.fs, &rig.flows, rig.now, &rep), 0);
	rig.gw.egress_id = fs_bind(rig.gw.fs, FS_EGRESS, "default", FS_ID_NONE, 0);
	tun->fd = eventfd(0, 0);
	tun->write = rig.offloads;
	assert_int_equal(path_open(&rig.gw.path, &rig.gw, tun, err, sizeof(err)), 0);
	assert_int_equal(tunnels_new(&rig.gw.tunnels, &rig.conf, NULL), 0);
	assert_int_equal(path_prepare(rig.gw.path, rig.gw.tunnels, &rig.conf, &tables, err, sizeof(err)), 0);
	assert_int_equal(tunnels_commit(rig.gw.tunnels, NULL, rig.gw.fs), 0);
	path_commit(rig.gw.path, tables);
	return 0;
}

static int rig_down(void **state)
{
	(void)state;
	path_close(rig.gw.path);
	uv_run(&rig.loop, UV_RUN_DEFAULT);
	path_free(rig.gw.path);
	fs_close(rig.gw.fs);
	tunnels_free(rig.gw.tunnels);
	uv_loop_close(&rig.loop);
	free(rig.in_buf);
	free(rig.out_buf);
	return 0;
}

static inline struct tunnel *rig_at(unsigned i)
{
	return tunnels_at(rig.gw.tunnels, i);
}

/* Drops of a reason, wherever they are counted. */
static inline uint64_t rig_drops(enum drop d)
{
	uint64_t n = rig.gw.count.drops[d];

	for (unsigned i = 0; i < tunnels_count(rig.gw.tunnels); i++)
		n += rig_at(i)->count.drops[d];
	return n;
}

/* A configuration to reload: a copy of what rig_up made, to be changed, tunnels in order of name. */
struct rig_next {
	struct config conf;
	struct conf_tunnel ct[TUNNELS];
};

static inline void rig_next_begin(struct rig_next *n)
{
	n->conf = rig.conf;
	memcpy(n->ct, rig.ct, sizeof(n->ct));
	n->conf.tunnels = n->ct;
}

static inline struct conf_tunnel *rig_next_at(struct rig_next *n, const char *name)
{
	for (size_t i = 0; i < n->conf.ntunnels; i++)
		if (strcmp(n->ct[i].name, name) == 0)
			return &n->ct[i];
	return NULL;
}

static inline void rig_next_remove(struct rig_next *n, const char *name)
{
	struct conf_tunnel *c = rig_next_at(n, name);

	memmove(c, c + 1, (size_t)(n->ct + n->conf.ntunnels - (c + 1)) * sizeof(*c));
	n->conf.ntunnels--;
}

/* ---- in and out -------------------------------------------------------------------------------------- */

static inline void rig_forget(void)
{
	rig.nout = 0;
	rig.out_used = 0;
}

/* Puts a packet of a branch into the next batch. */
static inline struct gre_rx *put_branch(unsigned from, const uint8_t *data, uint32_t len)
{
	uint8_t *b = rig.in_buf + (size_t)rig.nin * (PKT_MAX + GRE_HEADROOM) + GRE_HEADROOM;
	const struct conf_tunnel *c = &rig.ct[from];
	struct gre_rx *rx = &rig.in[rig.nin++];

	memcpy(b, data, len);
	*rx = (struct gre_rx){.local = c->local,
		.remote = c->remote,
		.hdr = {.proto = data[0] >> 4 == 4 ? GRE_PROTO_IPV4 : GRE_PROTO_IPV6,
			.has_key = c->gre_has_key,
			.key = c->gre_key},
		.payload = b,
		.len = len};
	return rx;
}

static inline void run_branch(void)
{
	assert_int_equal(rx_gre(rig.gw.path, rig.gw.path->gre[0]) > 0, true);
}

static inline void from_branch(unsigned from, const struct spec *s)
{
	static uint8_t b[PKT_MAX];

	put_branch(from, b, packet_make(b, s));
	run_branch();
}

static inline void raw_from_branch(unsigned from, const uint8_t *b, uint32_t len)
{
	put_branch(from, b, len);
	run_branch();
}

static inline void raw_from_egress(const struct virtio_net_hdr *h, const uint8_t *b, uint32_t len)
{
	memcpy(rig.in_buf, b, len);
	rig.in_tun[0] = (struct tun_rx){.data = rig.in_buf, .len = len};
	if (h)
		rig.in_tun[0].vnet = *h;
	rig.nin_tun = 1;
	assert_int_equal(tx_tun(rig.gw.path), 1);
}

static inline void from_egress(const struct spec *s)
{
	static uint8_t b[PKT_MAX];

	raw_from_egress(NULL, b, packet_make(b, s));
}

/* Packet number i that came out went there; parsed, its checksums are right. */
static inline struct pkt out_pkt(unsigned i, int to)
{
	struct pkt p = {.data = rig.out[i].data, .len = rig.out[i].len};

	assert_true(i < rig.nout);
	assert_int_equal(rig.out[i].to, to);
	assert_int_equal(pkt_parse(&p), DROP_NONE);
	if (!p.frag)
		assert_int_equal(pkt_check_csum(&p), DROP_NONE);
	if (to != TO_TUN) /* nobody behind would complete it */
		assert_int_not_equal(p.csum, PKT_CSUM_PARTIAL);
	return p;
}

/* The only packet that came out. */
static inline struct pkt only_out(int to)
{
	assert_int_equal(rig.nout, 1);
	return out_pkt(0, to);
}

/* p carries the payload of s. */
static inline void assert_same_payload(const struct pkt *p, const struct spec *s)
{
	static uint8_t b[PKT_MAX];
	struct pkt q = {.data = b, .len = packet_make(b, s)};

	assert_int_equal(pkt_parse(&q), DROP_NONE);
	assert_int_equal(p->len - p->payload, q.len - q.payload);
	assert_memory_equal(p->data + p->payload, q.data + q.payload, q.len - q.payload);
}

/* What a server answers to a packet that came to it. */
static inline struct spec answer_to(const struct pkt *p)
{
	struct spec s = packet_spec(p->ver, p->t.proto);

	s.src = p->t.dst;
	s.dst = p->t.src;
	s.sport = ntohs(p->t.dport);
	s.dport = ntohs(p->t.sport);
	if (p->t.proto == IPPROTO_ICMP || p->t.proto == IPPROTO_ICMPV6) {
		s.icmp_type = p->ver == 4 ? 0 : 129;
		s.sport = ntohs(p->t.sport); /* the id */
	}
	if (p->t.proto == IPPROTO_TCP) {
		const uint8_t *tcp = p->data + p->l4;

		s.seq = p->tcp_flags & TCP_ACK ? be32_get(tcp + 8) : 2000;
		s.ack = be32_get(tcp + 4) + p->len - p->payload +
			(p->tcp_flags & (TCP_SYN | TCP_FIN) ? 1 : 0);
		if (p->tcp_flags & TCP_SYN)
			s.flags = TCP_SYN | TCP_ACK;
	}
	return s;
}

/* Sends what a server answers to a SYN; returns what it sends next. */
static inline struct spec server_next(const struct spec *syn_ack)
{
	struct spec s = *syn_ack;

	from_egress(syn_ack);
	rig_forget();
	s.flags = TCP_ACK;
	s.seq += 1 + s.payload_len;
	return s;
}

#endif
