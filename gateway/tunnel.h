/* SPDX-License-Identifier: GPL-2.0-or-later */
/* tunnel.h - the running state of tunnels and sites, and the routes of packets without a flow. */
#ifndef ARRD_TUNNEL_H
#define ARRD_TUNNEL_H

#include "flowstate/flowstate.h"
#include "gateway/base/drop.h"
#include "gateway/base/log.h"
#include "gateway/config.h"
#include "ipsec/ike.h"

/* What is counted a tunnel, and once more for what no tunnel is known of. rx: from the branch, tx: to it;
 * inner packets and their IP octets, segments of super-packets each counted. */
struct counters {
	uint64_t rx_packets, rx_bytes, tx_packets, tx_bytes;
	uint64_t drops[DROP_COUNT];
};

/* What a tunnel of type ipsec has besides. */
struct tunnel_ipsec {
	uint32_t conn; /* number of its connection, the tunnel's slot in the low 16 bits; 0: it has none */
	struct ike_status status;
	uint64_t status_ms;          /* when it came: its times count from then */
	const struct sa *sa;         /* that is sent by, when it was last looked; only to be compared */
	const struct suite *suite;   /* its suite; NULL: there is none, and the tunnel is down */
	bool transport;              /* its mode, whatever was asked for */
	struct sa_end local, remote; /* its ends */
	uint32_t call_wait_s;        /* it was called back and has not come: tried again at call_ms; 0: not */
	uint64_t call_ms;
	uint64_t mapping_until_ms; /* another end was reported to the key exchange: until then not again */
	uint64_t failures;         /* handshakes that failed */
	char last_failure[128];
};

/* IPsec is up when there is an SA to send by, and what travels over it with it; GRE has no handshake. Both are down for a
 * while when sending fails, and then tried again. That packets come from the branch says nothing of the way to it. */
enum tunnel_state { TUNNEL_UP, TUNNEL_DOWN };
#define TUNNEL_DOWN_MS 10000  /* how long a failure is remembered */
#define TUNNEL_PMTU_MS 600000 /* how long a path MTU is (RFC 1191 6.3) */

struct tunnel {
	const struct conf_tunnel *conf; /* lies in the running configuration */
	fs_id id, site;
	uint32_t index; /* in the table of tunnels, while it lives */
	uint32_t pmtu;  /* of the outer path, as reported to us, octets of the outer packet; 0: nothing
			   reported */
	uint64_t pmtu_until_ms;
	uint64_t down_until_ms;
	uint64_t dropped_out;    /* packets, of those that were to leave by it */
	uint64_t police_seen;    /* packets, when police.c last looked */
	uint64_t rx_last_ms;     /* something valid came */
	uint32_t tx_seq, rx_seq; /* RFC 2890 2.2 */
	uint32_t rx_seq_old;     /* the last number that was too old ... */
	uint8_t rx_seq_olds;     /* ... and how many before it led up to it */
	bool rx_seq_valid;
	uint32_t answers; /* token bucket of our own ICMP messages into this tunnel */
	uint64_t answers_ms;
	struct tunnel_ipsec *ipsec; /* of type ipsec, else NULL; owned */
	struct tunnel *over;        /* gre: the ipsec tunnel that it travels in, or NULL */
	bool carries;               /* ipsec: some GRE tunnel travels in it */
	struct counters count;
	struct log_limit loglim;
};

/* All running tunnels: by index in order of name, by id, by name. Owns them. */
struct tunnels;

/* Makes the table for a configuration, taking over from old (may be NULL) every tunnel whose place in the
 * network is unchanged: same name, site, type, outer addresses, key and identities, also of what it is over. Such a tunnel
 * keeps its struct, counters and flows, whatever else changed. All others are new, or gone: gone ones stay in old, for
 * tunnels_free. Nothing of old is changed before tunnels_commit. Returns 0, -ENOMEM, or -ENOSPC when
 * flowstate has no slots left. */
int tunnels_new(struct tunnels **out, const struct config *c, struct tunnels *old);

/* Makes t the running table: binds names in fs (unbinding those of tunnels and sites that are gone first,
 * which ends their flows) and points kept tunnels to their new configuration. old is emptied of what was
 * kept. */
int tunnels_commit(struct tunnels *t, struct tunnels *old, struct flowstate *fs);
void tunnels_free(struct tunnels *t);

/* index from 0, in order of name; NULL behind the last. */
struct tunnel *tunnels_at(const struct tunnels *t, uint32_t index);
uint32_t tunnels_count(const struct tunnels *t);
struct tunnel *tunnels_by_id(const struct tunnels *t, fs_id id);
struct tunnel *tunnels_by_name(const struct tunnels *t, const char *name);

/* The tunnel of a connection's number, or NULL. */
struct tunnel *tunnels_by_conn(const struct tunnels *t, uint32_t conn);

/* A number for what makes a tunnel that of one branch, whatever it is called: type, outer addresses, key and identities. The
 * same in every process. */
uint64_t tunnel_identity(const struct conf_tunnel *c);

/* Whether a reload to next keeps the tunnel (tunnels_new took it over). */
bool tunnels_keeps(const struct tunnels *next, const struct tunnel *t);

/* The best tunnel of the site: up before down, then the lowest priority, then by name. NULL: it has none. */
struct tunnel *tunnels_of_site(const struct tunnels *t, fs_id site, uint64_t now_ms);

enum tunnel_state tunnel_state(const struct tunnel *t, uint64_t now_ms);

/* Octets of an inner packet of family ver that fit into one outer packet now. Never below 1280 for IPv6:
 * below that the outer packet is fragmented (RFC 7676 3.3). */
uint32_t tunnel_mtu(const struct tunnel *t, uint8_t ver, uint64_t now_ms);

/* The path of the outer packets takes no more than mtu octets. Believed down to 576 (IPv4) or 1280 (IPv6). Returns
 * whether that is news. */
bool tunnel_path_mtu(struct tunnel *t, uint32_t mtu, uint64_t now_ms);

/* Octets that a GRE tunnel puts before an inner packet of what carries it: GRE header, and the IP header where there is one. */
uint32_t tunnel_gre_overhead(const struct tunnel *t);

/* Whether GRE over this ipsec tunnel has no IP header of its own. By the SA, or, where there is none, by the configuration: a
 * peer need not agree to transport mode (RFC 7296 1.3.1). */
bool tunnel_is_transport(const struct tunnel *t);

/* The MTU of the path that a report lowered, of outer packets, while it is believed; 0: nothing is known. */
uint32_t tunnel_known_pmtu(const struct tunnel *t, uint64_t now_ms);

/* May the gateway send a message of its own into this tunnel (100 at once, 100 a second)? Takes a token. */
bool tunnel_may_answer(struct tunnel *t, uint64_t now_ms);

#endif
