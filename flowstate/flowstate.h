/* SPDX-License-Identifier: GPL-2.0-or-later */
/* flowstate.h - the flow table: which conversation a packet belongs to, and whose it is.
 *
 * A flow has two halves. The original half is a tuple as its initiator sends it, in the realm (site or egress)
 * of the initiator; the reply half is the tuple that an answer must have, in the realm of the other side. Each
 * half has an attachment: the tunnel (or egress) that packets *to that half's sender* leave by. A packet is
 * looked up by (realm it arrived in, tuple); it is of direction FS_ORIG when that matches the original half,
 * FS_REPLY when it matches the reply half.
 *
 * Invariants, which the model test holds against random operations:
 *   - within a realm no two live flows have a tuple in common, original or reply; where the kernel masquerades, none of
 *     an egress's replies is like another in all but the destination;
 *   - a reply tuple freed by one site is closed to other sites for the quarantine time, and so is the original one of a
 *     flow that did not go from a site to an egress;
 *   - a packet that arrived in one realm never touches a flow that has no half in it.
 *
 * Pure: no I/O but the mapping of the arena file, no clock (now_ms is an argument and must not run backwards),
 * no allocation after fs_open. Not thread-safe: one instance is one shard of one loop.
 *
 * References: RFC 4787, 5382, 5508, 7857 (timeouts, NAT behaviour), RFC 6056 (port choice).
 */
#ifndef ARRD_FLOWSTATE_FLOWSTATE_H
#define ARRD_FLOWSTATE_FLOWSTATE_H

#include "gateway/base/addr.h"
#include "gateway/base/drop.h"

#include <stdbool.h>
#include <stdint.h>

struct flowstate;

/* ---- names: sites, tunnels, egresses --------------------------------------------------------------- */

/* (slot, generation): slot in the low 16 bits. A slot is used again only when no flow refers to it, and then
 * with another generation. FS_ID_NONE is never handed out. */
typedef uint32_t fs_id;
#define FS_ID_NONE  0
#define FS_SLOT(id) ((uint16_t)((id)&0xffff))
#define FS_SLOTS    65536
#define FS_NAME_MAX 63

enum fs_kind { FS_SITE = 1, FS_TUNNEL, FS_EGRESS };

/* ---- states and timeouts --------------------------------------------------------------------------- */

/* state, name, timeout key of [flows], default in seconds */
#define FS_STATES(X)                                                                                         \
	X(TCP_OPENING, "opening", "tcp_opening", 240)                                                        \
	X(TCP_ESTABLISHED, "established", "tcp_established", 7440)                                           \
	X(TCP_HALF_CLOSED, "half-closed", "tcp_half_closed", 7440)                                           \
	X(TCP_STALLED, "stalled", "tcp_stalled", 300)                                                        \
	X(TCP_CLOSING, "closing", "tcp_closing", 240)                                                        \
	X(TCP_RESET, "reset", "tcp_reset", 240)                                                              \
	X(UDP_ONE_WAY, "one-way", "udp_one_way", 120)                                                        \
	X(UDP_TWO_WAY, "two-way", "udp_two_way", 300)                                                        \
	X(ICMP_ECHO, "echo", "icmp", 60)                                                                     \
	X(OTHER, "other", "other", 600)                                                                      \
	X(QUARANTINE, "quarantine", "quarantine", 240)

enum fs_state {
	FS_FREE = 0,
#define X(id, name, key, dflt) FS_##id,
	FS_STATES(X)
#undef X
		FS_STATE_COUNT
};
const char *fs_state_name(enum fs_state s);
const char *fs_state_key(enum fs_state s);
uint32_t fs_state_default_s(enum fs_state s);

/* ---- NAT of the egresses ------------------------------------------------------------------------------- */

/* NONE: the other side of an egress sees what the branch sent, but where sites collide. KERNEL: so does the kernel, and
 * gives everything one address of its own. POOL: we give it an address of a range, and nobody else translates. */
enum fs_nat { FS_NAT_NONE, FS_NAT_KERNEL, FS_NAT_POOL };

/* ---- opening ---------------------------------------------------------------------------------------- */

struct fs_config {
	const char *path;    /* the arena file (a directory on tmpfs holds it), NULL: memory of the process */
	uint8_t boot_id[16]; /* of this boot: an arena of another one is refused */
	uint32_t max;        /* flows, quarantined ones included */
	uint32_t max_per_site;     /* 0: no limit; fs_set_site_limit overrides */
	uint32_t max_new_per_site; /* flows that may begin in a realm in a second, 0: no limit */
	uint32_t timeout_s[FS_STATE_COUNT];
	bool tcp_loose;             /* a TCP flow may begin in mid-stream, from a site */
	struct prefix pool4, pool6; /* overlap_pool: source addresses for what ports cannot tell apart */
	enum fs_nat nat;
	struct addr_range nat_pool[2]; /* IPv4, IPv6 */
	uint32_t nat_share; /* percent of what NAT can tell apart of one destination, for one site; 0: 100 */
	uint16_t nshards, shard; /* 1, 0 when there is one */
	uint8_t shard_key[16];   /* equal for all shards */
};

/* After NEW and REFUSED the owner must forget what earlier flows left behind in the kernel, before fs_unbind_rest: an
 * arena that did not come so far is refused by the next start, which thus sees to it again. */
enum fs_open_kind { FS_OPEN_NEW, FS_OPEN_ADOPTED, FS_OPEN_REFUSED };
struct fs_open_report {
	enum fs_open_kind kind; /* REFUSED: the file was not usable, a new one took its place */
	uint32_t flows;         /* adopted */
	uint32_t torn;          /* records dropped as torn or contradictory */
	uint32_t damaged;       /* of these, such as no kill can have left */
	char why[96];           /* REFUSED: the reason; ADOPTED: that there are more than max; for the log */
};

/* Opens the arena and rebuilds the index under a new key. Returns 0 or -errno (-EBUSY: another process has the
 * file open). Adopted flows stay asleep, are not found, until their names are bound: see fs_bind. */
int fs_open(struct flowstate **out, const struct fs_config *cfg, uint64_t now_ms, struct fs_open_report *rep);

/* Unmaps and leaves the file as it is, for the next start. */
void fs_close(struct flowstate *fs);

/* Applies new timeouts, limits and NAT. Flows with a source address that the NAT would not give any more end, and when
 * FS_NAT_KERNEL comes or goes all that lead to an egress. max, path, overlap pools and shards cannot change. */
void fs_reconfigure(struct flowstate *fs, const struct fs_config *cfg);

/* The id of a name: that of an earlier run if it is known and, for a tunnel, still belongs to the same site and has
 * the same identity; otherwise a new one. site: for FS_TUNNEL the site's id, else FS_ID_NONE. identity: a number of
 * the caller's that says what the name stands for (for a tunnel a fingerprint of its outer addresses and key: the
 * flows of a tunnel that points elsewhere after a restart must not be adopted); 0 where there is nothing to tell.
 * It is kept in the arena's name table. Binding again what is bound, with the same identity, returns the same id.
 * FS_ID_NONE when all slots are taken. */
fs_id fs_bind(struct flowstate *fs, enum fs_kind kind, const char *name, fs_id site, uint64_t identity);

/* The name is gone: its flows end (their reply tuples go into quarantine), found no more from this call on;
 * the records are worked off by fs_tick. */
void fs_unbind(struct flowstate *fs, fs_id id);

/* Call after the first round of fs_bind, before the first packet: every adopted name that was not bound is unbound.
 * From here on the arena is one that the next start may adopt. */
void fs_unbind_rest(struct flowstate *fs);

const char *fs_name(const struct flowstate *fs, fs_id id); /* "" if it is not known */
/* The same, but a name that is gone is still known until its slot is another's: for what is told afterwards. */
const char *fs_last_name(const struct flowstate *fs, fs_id id);
/* The id that a name is bound to now; FS_ID_NONE: to none. O(1). */
fs_id fs_lookup_name(const struct flowstate *fs, enum fs_kind kind, const char *name);
void fs_set_site_limit(struct flowstate *fs, fs_id site, uint32_t max); /* 0: as configured for all */
uint32_t fs_site_flows(const struct flowstate *fs, fs_id site);
uint32_t fs_site_translated(
	const struct flowstate *fs, fs_id site); /* of these, to an egress and translated */
uint32_t fs_attach_flows(const struct flowstate *fs, fs_id tunnel_or_egress); /* live flows pinned to it */

/* Which of nshards shards (at most 1024) a packet belongs to. Both directions of a tuple give the same; so does
 * every tuple that a shard translates to. An ICMP error belongs where the packet does that it quotes. */
uint16_t fs_shard_of(const uint8_t shard_key[16], uint16_t nshards, const struct tuple *t);

/* ---- the packet path -------------------------------------------------------------------------------- */

enum fs_dir { FS_ORIG, FS_REPLY };
#define FS_NONE UINT32_MAX

struct fs_key {
	struct tuple t;
	fs_id realm;
};

struct fs_hit {
	uint32_t flow; /* FS_NONE: not found */
	enum fs_dir dir;
};

/* Looks up n keys: hashes all, prefetches, then compares. No effect on the flows. n may be any number. */
void fs_find(struct flowstate *fs, const struct fs_key *keys, unsigned n, struct fs_hit *out);

/* Is what was found for the key still its flow? Each fs_begin since then may have ended it to make room, and made another
 * flow, even another site's, of its record. */
bool fs_still(const struct flowstate *fs, struct fs_hit hit, const struct fs_key *key);

/* What fs_pass and fs_begin are told of a packet. */
struct fs_packet {
	struct fs_key key;
	fs_id via;         /* the tunnel or egress that it came by */
	uint32_t octets;   /* IP length (of all the segments of a super-packet, as one) */
	uint32_t packets;  /* that it stands for, at least 1 */
	uint8_t tcp_flags; /* TCP only, as are the next */
	uint8_t wscale;    /* of a SYN: shift + 1, 0: no option */
	uint16_t window;
	uint32_t seq, ack; /* host order */
	uint32_t tcp_len;  /* payload octets, of all the segments of a super-packet */
	uint32_t sack;     /* highest right edge of a SACK block (RFC 2018), 0: none */
	uint16_t mss;      /* MSS option of a SYN, 0: none */
	bool liberal;      /* what lies outside of the windows passes, but for RST */
};

#define FS_BEGIN_READDRESS 1u /* the source must be replaced from the pool, even without a collision */

/* Begins a flow: its original half is pk->key, attached to pk->via; the reply half lies in realm, attached to
 * via. The kind of packet has been judged by the caller, but for TCP rules that tcp_loose governs
 * (from_egress: never loose). If the key has a flow already, that is the answer.
 * The reply tuple is the key's turned round where that is free; else another source port (random, RFC 6056),
 * else another source address from the pool; or as the NAT of an egress has it. Does not account the packet:
 * fs_pass does.
 * Returns DROP_NONE, DROP_TUPLE_COLLISION, DROP_NAT_FAMILY, DROP_NAT_EXHAUSTED, DROP_NAT_SITE_LIMIT, DROP_FLOW_TABLE_FULL,
 * DROP_SITE_LIMIT, DROP_SITE_RATE, DROP_NOT_A_BEGINNING, or DROP_OTHER_SITE when an id is not bound or an attachment is no way into its
 * realm. */
enum drop fs_begin(struct flowstate *fs, const struct fs_packet *pk, fs_id realm, fs_id via, bool from_egress,
	unsigned flags, uint64_t now_ms, struct fs_hit *out);

/* Accounts a packet to the flow that was found for it: time, counters, state, and the move of the attachment
 * when it came by another tunnel of its realm. Returns DROP_NONE; DROP_OTHER_SITE when pk->key.realm is not the
 * half's realm or pk->via no way into it; DROP_NO_FLOW when the flow has ended since it was found, also when its
 * record is another flow's by now; DROP_TCP_UNPROVEN (track.c), DROP_TCP_WINDOW (tcp.c). */
enum drop fs_pass(struct flowstate *fs, struct fs_hit hit, const struct fs_packet *pk, uint64_t now_ms);

/* Fetches the record into the cache. */
void fs_prefetch(const struct flowstate *fs, uint32_t flow);

/* What the packet path needs of a flow. */
struct fs_half {
	struct tuple t; /* as its sender sends it */
	fs_id realm;    /* of its sender */
	fs_id via;      /* what packets to its sender leave by */
};
void fs_half(const struct flowstate *fs, uint32_t flow, enum fs_dir dir, struct fs_half *out);
bool fs_translated(const struct flowstate *fs, uint32_t flow);
/* The largest TCP payload that the sender of dir may be sending: the smaller of what the other side announced
 * and what fs_clamp_mss recorded; 0 if never seen. */
uint16_t fs_mss(const struct flowstate *fs, uint32_t flow, enum fs_dir dir);
/* Records that the MSS option of a SYN in direction dir was lowered to mss on its way. */
void fs_clamp_mss(struct flowstate *fs, uint32_t flow, enum fs_dir dir, uint16_t mss);

/* ---- upkeep and looking ----------------------------------------------------------------------------- */

/* Expires what is due and works off unbound names; does at most as much as budget records that come up take. Returns how
 * many flows ended. Call it every 100 ms or more often; with FS_TICK_BUDGET it takes well below 100 µs, also
 * of ten million flows. */
unsigned fs_tick(struct flowstate *fs, uint64_t now_ms, unsigned budget);
#define FS_TICK_BUDGET 64
/* More is due than the last call's budget lasted for: call again as soon as packets have been seen to. */
bool fs_behind(const struct flowstate *fs);

/* Called for each flow that ends, before its record changes: the owner deletes the kernel's conntrack entry. The kernel has
 * timeouts of its own, but what it takes for a sign of life, and for which state, is not always what we do; and an entry that
 * outlived its flow would take up the next one with that tuple, whosever it is. Also called for each adopted record, before its
 * tuple is open to other sites again: nobody knows whether that was done in the earlier run. at_once: the record will be
 * another flow's when this returns, so the entry must be gone by then: a kill would leave nobody who knows of it. */
typedef void fs_end_cb(void *arg, uint32_t flow, bool at_once);
void fs_on_end(struct flowstate *fs, fs_end_cb *cb, void *arg);

/* Ends one flow now; its reply tuple goes into quarantine. */
void fs_end(struct flowstate *fs, uint32_t flow, uint64_t now_ms);

/* A copy of a record, for listings and events. */
struct fs_info {
	enum fs_state state;
	bool translated;
	struct fs_half half[2];
	uint64_t created_ms, seen_ms, expires_ms;
	uint64_t packets[2], octets[2]; /* by direction */
};
/* The next flow at or behind *cursor (0 to begin) that is not free, into flow and info; moves *cursor behind it;
 * looks at no more than budget records. Returns 1; 0 when the budget ran out (call again); -1 at the end.
 * A listing thus stays valid while flows come and go. Quarantined records are shown with their state. */
int fs_next(
	const struct flowstate *fs, uint32_t *cursor, unsigned budget, uint32_t *flow, struct fs_info *info);
/* The same of one flow, which must be there. */
void fs_describe(const struct flowstate *fs, uint32_t flow, struct fs_info *info);

/* ---- events ----------------------------------------------------------------------------------------- */

/* Why a flow ended before its time: reason, name, a sentence */
#define FS_EVICTIONS(X)                                                                                      \
	X(REMOVED, "removed", "its tunnel or site is not configured any more, or has moved")                 \
	X(NAT, "nat", "the egress's nat has changed, and would not give it its address any more")            \
	X(FLUSHED, "flushed", "somebody asked for it")                                                       \
	X(SITE_LIMIT, "site_limit", "it made room: its site had as many flows as it may have")               \
	X(TABLE_FULL, "table_full", "it made room: there were flows.max of them")

enum fs_end_why {
	FS_END_EXPIRED, /* nothing came for as long as its state may wait: not an eviction */
#define X(id, name, text) FS_END_##id,
	FS_EVICTIONS(X)
#undef X
		FS_END_COUNT
};
const char *fs_end_name(enum fs_end_why why); /* "expired" and the names above */

enum fs_event_kind { FS_EVENT_BEGIN, FS_EVENT_MOVE, FS_EVENT_EXPIRE, FS_EVENT_EVICT, FS_EVENT_COUNT };
#define FS_EVENT_BIT(kind) (1u << (kind))

/* What happened to a flow. */
struct fs_event {
	enum fs_event_kind kind;
	enum fs_end_why why; /* of EVICT; of EXPIRE FS_END_EXPIRED */
	enum fs_dir dir;     /* of MOVE: the half whose attachment moved, */
	fs_id from;          /* and where from */
	uint32_t flow;
};

/* Has cb called for each event of these kinds (FS_EVENT_BIT; 0: none), in place of who was told before. That is in the
 * middle of fs_begin, fs_pass, fs_tick and fs_end: cb must be quick, may look at the flow (fs_describe), and must
 * change nothing. The flow is there: a new one with no packet yet, one that moved at its new place, one that ends as it
 * was until then. Nothing is told of flows that are adopted. */
typedef void fs_event_cb(void *arg, const struct fs_event *e);
void fs_on_event(struct flowstate *fs, unsigned kinds, fs_event_cb *cb, void *arg);

struct fs_stats {
	uint32_t used, quarantined, max; /* used: live flows, without the quarantined */
	uint64_t created, moved, expired, evicted, translated, refused;
	uint64_t ended[FS_END_COUNT]; /* expired, and what evicted is the sum of */
};
void fs_get_stats(const struct flowstate *fs, struct fs_stats *out);

/* Checks every invariant of arena, index and lists by brute force; for tests. Returns NULL or what is wrong. */
const char *fs_check(const struct flowstate *fs);

#endif
