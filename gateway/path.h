/* SPDX-License-Identifier: GPL-2.0-or-later */
/* path.h - the packet path: what rx.c, tx.c, forward.c and answer.c share.
 *
 *	rx.c       branch → tunnel known, inner packet valid, source allowed      ─┐
 *	rx_ipsec.c branch → ESP opened → the same                                 ─┤
 *	tx.c       TUN → parsed                                                   ─┤ struct item, in batches
 *	forward.c  flow found or begun → exit chosen → translated → handed on     ◄┘
 *	tx.c       … to a tunnel: cut, encapsulated, sent     path.c: … to the TUN: joined, written
 *	tx_ipsec.c … by ESP: sealed, sent in runs
 *	answer.c   what the gateway says itself: echo replies, ICMP errors
 *
 * Everything works on batches: packets lie in the receiver's buffers from the beginning of a batch to
 * path_flush() at its end, and nothing is copied but headers.
 */
#ifndef ARRD_PATH_H
#define ARRD_PATH_H

#include "gateway/base/pkt.h"
#include "gateway/base/vnet.h"
#include "gateway/gateway.h"
#include "gateway/police.h"
#include "gateway/routes.h"
#include "gateway/tun.h"
#include "gre/demux.h"
#include "gre/sock.h"

#define BATCH      GRE_BATCH
#define ROUNDS     8   /* batches that one descriptor may take before the loop looks at the others */
#define TXQ_LEN    128 /* outer packets gathered for one sendmmsg */
#define TX_HDR_MAX 264 /* inner headers copied before a segment's payload */
#define ANSWERS    64  /* messages of our own a batch */
#define ANSWER_MAX 1280

/* A packet on its way through a batch. */
struct item {
	struct pkt p;
	struct tunnel *from; /* NULL: it came from the TUN */
	struct fs_packet fp;
	struct fs_hit hit;
};

/* Outer packets of one family that wait for path_flush. */
struct txq {
	unsigned n;
	struct gre_tx tx[TXQ_LEN];
	struct tunnel *tunnel[TXQ_LEN];
	uint32_t octets[TXQ_LEN]; /* of the inner packet */
	uint8_t hdr[TXQ_LEN][TX_HDR_MAX];
};

struct path {
	struct gateway *gw;
	uint64_t now; /* of this batch, ms */

	struct tun *tun;
	struct gre_sock *gre[2]; /* IPv4, IPv6; NULL where no tunnel needs it */
	struct gre_demux *demux; /* endpoint → index of the tunnel */
	struct routes *routes;
	uv_poll_t tun_poll, gre_poll[2];
	uint32_t tun_mtu;

	struct vnet_join *join;
	struct frag *frag;
	uint16_t next_id; /* for datagrams without an Identification that are cut */
	struct txq txq[2];
	struct item item[BATCH];
	struct fs_key key[BATCH];
	struct fs_hit hit[BATCH];
	struct gre_rx gre_rx[GRE_BATCH];
	struct tun_rx tun_rx[TUN_BATCH];
	struct pkt answer[ANSWERS];
	uint8_t answer_buf[ANSWERS][ANSWER_MAX];
	unsigned answers;
	uint32_t egress_tokens; /* of our own messages towards the egress */
	uint64_t egress_tokens_ms;
	uint32_t gre_lost[2]; /* as last read */
	struct police police[2];
	uint64_t tun_lost;
	struct log_limit unknown_log;
	bool closing;
};

/* rx.c, tx.c: take a ready descriptor's packets, batch by batch. Return how many came. */
unsigned rx_gre(struct path *path, struct gre_sock *s);
unsigned tx_tun(struct path *path);

/* forward.c: the flow step for the first n of path->item, to the exits. Counts what it drops. */
void forward_batch(struct path *path, unsigned n);

/* tx.c: queues a packet for a tunnel, cut into wire packets. It must fit the tunnel's MTU or be one that may
 * be fragmented. The octets must stay until path_flush. Returns DROP_NONE or why not. */
enum drop tx_tunnel(struct path *path, struct pkt *p, struct tunnel *t);
/* tx.c: queues bare GRE, without an inner packet (keepalives). */
void tx_gre_header(struct path *path, struct tunnel *t, const struct gre_hdr *h);
/* tx.c: a packet between these two was larger than the device that it would leave by takes: asks for its MTU, at most once a
 * second. */
void tx_ask_mtu(struct path *path, struct tunnel *t, const struct addr *local, const struct addr *remote);
/* tx.c: sends what is queued. */
void tx_flush(struct path *path);

/* path.c: joins a packet with its flow's others and writes it to the TUN by path_flush. owner as in vnet.h.
 */
void path_to_tun(struct path *path, struct pkt *p, uint64_t owner);
/* path.c: the end of a batch: everything joined is written, everything queued is sent. */
void path_flush(struct path *path);
/* path.c: counts a drop on the tunnel, or on the gateway where there is none. segs: packets that it stands
 * for. */
void path_drop(struct path *path, struct tunnel *t, enum drop d, uint32_t segs);
/* path.c: the same, for a packet that was to leave by the tunnel: others brought it. */
void path_drop_out(struct path *path, struct tunnel *t, enum drop d, uint32_t segs);
/* path.c: writes to the TUN what waits to be joined, when the kernel has forgotten what it was to forget. path may be NULL:
 * nothing waits before there is one. */
void path_write_joined(struct path *path);

/* path.c, ten times a second: who brings too much. */
void path_tick(struct path *path);
/* path.c: counts what the kernel threw away before we saw it, gives up what is too old. Call it about once a second. */
void path_second(struct path *path);

/* answer.c: an ICMP error to the sender of it (type and code of ICMPv4 or v6 are chosen by what).
 * Rate-limited; says nothing where RFC 1122 3.2.2 and RFC 4443 2.4(e) forbid it. mtu: for ANSWER_TOO_BIG. */
enum answer { ANSWER_TTL, ANSWER_TOO_BIG, ANSWER_PORT_UNREACHABLE };
void answer_error(struct path *path, const struct item *it, enum answer what, uint32_t mtu);
/* answer.c: a packet to the tunnel's own interface_address. Returns DROP_NONE if it was answered. */
enum drop answer_own(struct path *path, struct item *it);

/* path.c: opens TUN-side and tunnel-side and starts polling. tun becomes the path's. Returns 0 or -errno with
 * a message. */
int path_open(struct path **out, struct gateway *gw, struct tun *tun, char *err, size_t errlen);
/* The tables for the tunnels t of conf, which are not running yet: at start and at a reload. path_prepare
 * changes nothing that runs; then exactly one of path_commit and path_abandon. */
struct path_tables;
int path_prepare(struct path *path, const struct tunnels *t, const struct config *conf,
	struct path_tables **out, char *err, size_t errlen);
void path_commit(struct path *path, struct path_tables *tb);
void path_abandon(struct path_tables *tb);
/* Stops polling; the loop must run once more before path_free. */
void path_close(struct path *path);
void path_free(struct path *path);

#endif
