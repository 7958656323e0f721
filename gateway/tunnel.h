/* SPDX-License-Identifier: GPL-2.0-or-later */
/* tunnel.h - the running state of tunnels and sites, and the routes of packets without a flow. */
#ifndef ARRD_TUNNEL_H
#define ARRD_TUNNEL_H

#include "flowstate/flowstate.h"
#include "gateway/base/drop.h"
#include "gateway/base/log.h"
#include "gateway/config.h"

/* What is counted a tunnel, and once more for what no tunnel is known of. rx: from the branch, tx: to it; inner
 * packets and their IP octets, segments of super-packets each counted. */
struct counters {
	uint64_t rx_packets, rx_bytes, tx_packets, tx_bytes;
	uint64_t drops[DROP_COUNT];
};

enum tunnel_state { TUNNEL_UP, TUNNEL_DOWN };

struct tunnel {
	const struct conf_tunnel *conf; /* lies in the running configuration */
	fs_id id, site;
	uint32_t index;      /* in the table of tunnels, while it lives */
	uint16_t pmtu;       /* of the outer path as reported to us; 0: none lower than the MTU was */
	uint64_t pmtu_until_ms;
	uint64_t down_until_ms; /* sends fail: down until then, or until a packet comes */
	uint64_t rx_last_ms;
	uint32_t tx_seq, rx_seq;
	bool rx_seq_valid;
	struct counters count;
	struct log_limit loglim;
};

#endif
