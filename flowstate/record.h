/* SPDX-License-Identifier: GPL-2.0-or-later */
/* record.h - what the arena file is made of. Facts only: whatever can be derived from them is private memory.
 *
 *	| struct arena_header, one page | struct name_entry × FS_SLOTS | two filters of closed.h | struct block × max/64 |
 *
 * The order of stores makes the file right after each single one of them, since a process may be killed
 * between any two: mark is 0 while an entry or record is being written, and its checksum when it is whole.
 * What changes later (state, via, times, counters) is outside the checksum, each a single aligned store.
 * A store that a killed process has made is in the file; the machine's own crash is told by the boot id.
 *
 * A change to anything here is a new ARENA_LAYOUT.
 */
#ifndef ARRD_FLOWSTATE_RECORD_H
#define ARRD_FLOWSTATE_RECORD_H

#include "flowstate/flowstate.h"

#include <stdatomic.h>

#define ARENA_MAGIC  "arrdflow"
#define ARENA_LAYOUT 5

struct arena_header {
	char magic[8];
	uint32_t layout;
	uint32_t record_octets, name_octets, names, per_block;
	uint32_t pad;
	uint8_t boot_id[16];
	uint8_t pool_key[16]; /* a host keeps its place in the overlap pool over a restart */
	uint64_t check;       /* of all the above */
	/* Grow only, before what lies below them is used. */
	uint32_t high;       /* records below were used at some time; above: never touched, no memory */
	uint32_t names_high; /* the same of names */
	/* 1 when a run was ready to take packets (fs_unbind_rest). Until then nobody has seen to what the flows
	 * of an arena before this one have left behind in the kernel. */
	uint32_t ready;
	/* closed.h: how many entries each filter has, which one takes new ones (0, 1), and since when. */
	uint32_t closed_count[2], closed_now, closed_since;
	uint32_t high_again;  /* the same as high, stored after it, 0 while that is lowered: one that is
			       damaged would hide what lies above */
	uint32_t nat;         /* enum fs_nat by which its flows to an egress began */
	uint32_t masks_since; /* when it became or ceased to be FS_NAT_KERNEL, in units of 100 ms; 0: never */
};
#define CLOSED_FILTER_OCTETS ((size_t)16 << 20)

struct name_entry {
	uint32_t mark;
	fs_id id;
	fs_id site;   /* of a tunnel, else FS_ID_NONE */
	uint8_t kind; /* enum fs_kind */
	uint8_t gone; /* unbound: its flows are to end */
	uint8_t pad[2];
	uint64_t identity; /* see fs_bind */
	char text[FS_NAME_MAX + 1];
};
_Static_assert(sizeof(struct name_entry) == 88, "a change of layout");

/* What a look-up reads: one cache line. Half d (enum fs_dir) has its addresses at addr[d], addr[d + 1], its
 * ports at port[d], port[d + 1], so that both halves are compared by the same code:
 *
 *	           addr[0]      addr[1]        addr[2]
 *	           initiator    responder      initiator as the other side sees it
 *	original   source       destination
 *	reply                   source         destination
 */
struct flow_head {
	struct addr addr[3];
	uint16_t port[3]; /* network order */
	uint8_t proto;
	uint8_t state;             /* enum fs_state */
	uint16_t realm[2], via[2]; /* slots of the name table */
};
_Static_assert(sizeof(struct flow_head) == 64, "one cache line");

#define TCP_SCALE_MAX 14 /* RFC 7323 2.3 */

/* What one direction of a TCP flow sends (RFC 9293 3.4; tcp.c, and track.c while a flow is on trial). Sequence numbers in
 * host order. */
struct tcp_window {
	uint32_t end;    /* highest sequence number sent, plus its length */
	uint32_t maxend; /* highest that the other side ever allowed */
	uint32_t maxwin; /* largest window announced, scaled */
	uint32_t acked;  /* highest acknowledgment sent */
	uint8_t scale;   /* shift of its announcements */
	uint8_t flags;
	uint8_t pad[2];
};

/* What its packets change. Times in units of 100 ms of the caller's clock. */
struct flow_body {
	uint32_t mark;
	uint32_t created, seen; /* seen: the last packet; in quarantine: when it began */
	uint16_t mss[2]; /* bound on the segments that the sender of each direction sends, 0: unknown */
	uint8_t track;   /* TCP: what was seen so far, by track.c */
	uint8_t retrans; /* of the next, too: tcp.c */
	uint8_t syn, syn_wscale;
	uint32_t syn_seq;
	uint64_t packets[2], octets[2];
	struct tcp_window window[2];
};
_Static_assert(sizeof(struct flow_body) == 96, "one and a half cache lines");

/* Heads and bodies apart, so that a head never straddles cache lines; in one block, so that the file's layout
 * does not depend on its length and flows.max may change over a restart. */
#define PER_BLOCK 64
struct block {
	struct flow_head head[PER_BLOCK];
	struct flow_body body[PER_BLOCK];
};
_Static_assert(sizeof(struct block) == PER_BLOCK * (64 + 96), "no padding");

/* Memory a flow, when flows.max are used:
 *	record                           160
 *	index: 2 entries of 8 octets      22   (index.h: three quarters of them are used)
 *	wheel: two links                   8   (wheel.h)
 *	its site's queue: two links        8   (pressure.h)
 * together                          198 octets, of 200 that are allowed. */
_Static_assert(
	sizeof(struct flow_head) + sizeof(struct flow_body) + 22 + 8 + 8 <= 200, "budget of memory a flow");

/* A mixing of words, not against malice: whoever may write to the file is root. Never 0 as a mark. */
static inline uint64_t mark_mix(uint64_t h, uint64_t w)
{
	h = (h ^ w) * 0x9e3779b97f4a7c15;
	return h ^ h >> 29;
}

static inline uint32_t mark_end(uint64_t h)
{
	uint32_t m = (uint32_t)(h >> 32);
	return m ? m : 1;
}

/* Nothing that stands before is moved behind, by the compiler or a reader's view: "now it is whole". */
static inline void mark_set(uint32_t *mark, uint32_t value)
{
	__atomic_store_n(mark, value, __ATOMIC_RELEASE);
}

/* "From here on it is not": nothing that follows is moved before. */
static inline void mark_clear(uint32_t *mark)
{
	__atomic_store_n(mark, 0, __ATOMIC_RELAXED);
	atomic_thread_fence(memory_order_release);
}

#endif
