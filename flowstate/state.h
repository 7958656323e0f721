/* SPDX-License-Identifier: GPL-2.0-or-later */
/* state.h - what a flowstate consists of, and the verbs that its files have for each other. */
#ifndef ARRD_FLOWSTATE_STATE_H
#define ARRD_FLOWSTATE_STATE_H

#include "flowstate/arena.h"
#include "flowstate/crowd.h"
#include "flowstate/index.h"
#include "flowstate/names.h"
#include "flowstate/pressure.h"
#include "flowstate/siphash.h"
#include "flowstate/wheel.h"

/* Times are in units of 100 ms of the caller's clock, unless their name says otherwise. */
#define UNITS_A_SECOND 10u
#define UNIT_MS        (1000u / UNITS_A_SECOND)

struct flowstate {
	struct arena arena;
	struct index index;
	struct sip_key index_key;
	sip_many_fn *sip_many;
	uint32_t now;     /* the latest that anyone told us */
	uint32_t adopted; /* when records of an earlier run were taken over, 0: there were none */
	uint32_t timeout[FS_STATE_COUNT];
	bool tcp_loose;
	uint32_t max_per_site, max_new_per_site; /* the latter a second; 0: no limit */

	uint32_t free_first; /* of the records below the arena's high mark; linked in the wheel's links */
	uint32_t sweep_left; /* records below this are still to be looked at by the sweep (expire.c) */
	bool sweep_rehangs;  /* and hung in anew */
	bool behind;         /* the last tick's budget did not last for the wheel */

	struct addr_range overlap[2], nat_pool[2]; /* IPv4, IPv6 */
	enum fs_nat nat;
	/* The kernel gives all that leaves by an egress one address, so that whom an answer is for can be seen by its port alone. It
	 * is the NAT by which the arena's flows began: after a restart maybe not yet the one in use. */
	bool masks;
	uint32_t from_outside; /* records, live or quarantined, of flows that began at an egress */
	uint32_t nat_share;
	struct crowd crowd; /* of the flows to an egress */
	struct sip_key pool_key, shard_key, random_key;
	uint64_t random_count;
	uint16_t nshards, shard;

	struct fs_stats stats;
	fs_end_cb *on_end;
	void *on_end_arg;
	unsigned event_kinds; /* that somebody wants to hear of */
	fs_event_cb *event;
	void *event_arg;

	struct wheel wheel;
	struct pressure pressure;
	struct names names;
};

static inline struct flow_head *head_of(const struct flowstate *fs, uint32_t i)
{
	return arena_head(&fs->arena, i);
}

static inline struct flow_body *body_of(const struct flowstate *fs, uint32_t i)
{
	return arena_body(&fs->arena, i);
}

static inline bool is_live(const struct flow_head *h)
{
	return h->state != FS_FREE && h->state != FS_QUARANTINE;
}

/* ---- record.c: records, whole or not ---------------------------------------------------------------- */

/* Half dir of a record as a tuple. */
void record_tuple(const struct flow_head *h, enum fs_dir dir, struct tuple *t);
/* Is half dir of it that tuple in that realm? */
static inline bool record_half_is(
	const struct flow_head *h, enum fs_dir dir, uint16_t realm, const struct tuple *t)
{
	return memcmp(&h->addr[dir], t, 2 * sizeof(struct addr)) == 0 &&
	       memcmp(&h->port[dir], &t->sport, 4) == 0 && h->proto == t->proto && h->realm[dir] == realm;
}
bool record_translated(const struct flow_head *h);

/* Is the half's tuple closed to others while the record is in quarantine? Its reply half is. So is the original one, but of
 * a flow from a site to an egress: whoever else begins may be late, and find that he is routed to a site which has taken the
 * tuple for its own meanwhile. */
static inline bool record_closes(const struct flowstate *fs, const struct flow_head *h, enum fs_dir dir)
{
	return dir == FS_REPLY || !names_outward(&fs->names, h);
}
/* Is the half in the index? An original one in quarantine need not be: it may have given way. */
bool record_holds(const struct flowstate *fs, uint32_t i, enum fs_dir dir);

/* The checksum of what never changes in a record, and of the full ids of its realms. */
uint32_t record_mark(const struct flowstate *fs, const struct flow_head *h);

/* A free record, not yet written, or FS_NONE. */
uint32_t record_take(struct flowstate *fs);
/* Writes a new record into the file, and makes it whole. */
void record_write(struct flowstate *fs, uint32_t i, const struct flow_head *h, const struct flow_body *b);
/* Enters a record, live or quarantined, into all that is derived: index, wheel, counts. orig, reply: the hashes of
 * its halves; both: or the reply half alone. */
void record_enter(struct flowstate *fs, uint32_t i, uint64_t orig, uint64_t reply, bool both);
/* A flow begins (1) or ceases (-1) to be live. */
void record_count(struct flowstate *fs, const struct flow_head *h, int delta);
/* The same of what shares its destination: whether it is live, and whether it has a tuple at all. */
void record_crowd(struct flowstate *fs, const struct flow_head *h, int live, int held);
/* Out of all of them again, and free. */
void record_free(struct flowstate *fs, uint32_t i);
/* If ref is a half dir in quarantine, it gives way to a flow that it is not closed to: a reply half with its record. */
void record_yield(struct flowstate *fs, uint32_t ref, enum fs_dir dir);
/* Puts an empty record on the list of free ones. */
void record_list_free(struct flowstate *fs, uint32_t i);

/* ---- lookup.c ---------------------------------------------------------------------------------------- */

/* Masked is the reply half of a flow from a site to an egress behind which the kernel masquerades: its destination is one
 * and the same address to whoever answers, so that no two may be equal in all else. It is hashed without it. */
static inline bool half_masked(const struct flowstate *fs, const struct flow_head *h, enum fs_dir dir)
{
	return fs->masks && dir == FS_REPLY && names_outward(&fs->names, h);
}

/* Has it begun or ceased to be so within the last units of time? Known over a restart, too. */
static inline bool masks_changed(const struct flowstate *fs, uint32_t units)
{
	uint32_t since = fs->arena.header->masks_since;
	return since && fs->now - since < units;
}

/* A tuple in a realm, and which half has it. */
struct place {
	struct tuple t;
	uint16_t realm; /* slot */
	bool masked;    /* whoever has all but the destination address has it */
	uint64_t hash;
	uint32_t ref; /* REF_NONE: nobody */
};

/* Says which place is meant, and asks for the memory that looking there will need. */
void lookup_aim(
	const struct flowstate *fs, struct place *p, uint16_t realm, const struct tuple *t, bool masked);
/* Aims at both halves of each of n records, hashing many at a time. */
void lookup_aim_records(
	const struct flowstate *fs, const uint32_t *records, unsigned n, struct place (*half)[2]);
/* Sets p->ref: a half of a live flow (findable or not), or of a quarantined one, masked or not as the place is. */
void lookup(const struct flowstate *fs, struct place *p);
/* Of the other kind, which the index does not lead to from there: who has p's tuple if p is masked, and if it is not, the masked
 * half that would be its, whatever its destination. */
uint32_t lookup_across(const struct flowstate *fs, const struct place *p);
static inline bool place_is(const struct flowstate *fs, const struct place *p, uint32_t ref)
{
	return record_half_is(head_of(fs, REF_RECORD(ref)), REF_DIR(ref), p->realm, &p->t);
}
uint64_t lookup_hash(const struct flowstate *fs, uint16_t realm, const struct tuple *t, bool masked);
/* The same over restarts: of the filters of closed.h. */
uint64_t lookup_closed_hash(const struct flowstate *fs, uint16_t realm, const struct tuple *t, bool masked);
uint64_t lookup_record_hash(const struct flowstate *fs, const struct flow_head *h, enum fs_dir dir);

/* ---- translate.c ------------------------------------------------------------------------------------- */

/* Chooses the place of the reply half of the flow h, which begins at orig. reply is aimed at orig turned round, in the
 * realm of the other side; it is left there if NAT allows it, that is free and readdress is not set. Only places are
 * chosen that nobody holds, or that orig's own site holds in quarantine. Returns DROP_NONE, or why none is to be had. */
enum drop translate_choose(struct flowstate *fs, const struct flow_head *h, const struct place *orig,
	bool readdress, struct place *reply);
/* Is it a flow that uses up ports of an egress? Then *at is where it is counted. */
bool translate_crowded(const struct flowstate *fs, const struct flow_head *h, struct crowd_at *at);
/* A live flow whose source address the NAT in use would not give. */
bool translate_stale(const struct flowstate *fs, const struct flow_head *h);
/* Nobody holds it, but it is closed after somebody whose record is gone; to flows to or from the realm other, that is. */
bool translate_closed(const struct flowstate *fs, const struct place *p, uint16_t other);
/* May a flow to or from the realm other have place p? Then p->ref is who must leave quarantine for it. If it
 * may not, p->ref is who holds it. */
bool translate_free(struct flowstate *fs, struct place *p, uint16_t other);

/* ---- track.c: states ---------------------------------------------------------------------------------- */

enum fs_state track_first(uint8_t proto);
/* Is it a state that a flow of the protocol can be in? */
bool track_fits(uint8_t proto, uint8_t state);
/* May a packet with these TCP flags begin a flow? loose: also in mid-stream. */
bool track_begins(uint8_t tcp_flags, bool loose);
/* What the first packet of a TCP flow leaves in its record: on trial, if it is one in mid-stream. */
void track_begin(struct flow_body *b, const struct fs_packet *pk);
/* Takes a packet of direction dir into the flow's tracking. Returns DROP_NONE and its next state, or the
 * reason to drop the packet, which then has changed nothing. */
enum drop track_packet(const struct flow_head *h, struct flow_body *b, enum fs_dir dir,
	const struct fs_packet *pk, enum fs_state *next);

/* ---- tcp.c: sequence numbers -------------------------------------------------------------------------- */

enum tcp_verdict {
	TCP_FITS,    /* its flags count */
	TCP_ANEW,    /* the same, and what was before is over: a connection begins */
	TCP_ASIDE,   /* it passes, and says nothing */
	TCP_OUTSIDE, /* it must not pass; it has changed nothing */
};
/* The first segment of a connection, a SYN of direction dir. */
void tcp_begin(struct flow_body *b, enum fs_dir dir, const struct fs_packet *pk);
/* Windows of a connection that was picked up in mid-stream, once it is known to be the site's: the site has sent up to
 * site_end, and pk, of direction FS_REPLY, acknowledges some of it. */
void tcp_learn(struct flow_body *b, uint32_t site_end, const struct fs_packet *pk);
enum tcp_verdict tcp_segment(
	struct flow_body *b, enum fs_dir dir, const struct fs_packet *pk, enum fs_state state);
/* Data is sent again and again, and not acknowledged. */
bool tcp_stalls(const struct flow_body *b);

/* ---- expire.c: when flows end -------------------------------------------------------------------------- */

/* When a record is due, by its state and time. */
uint64_t expire_due(const struct flowstate *fs, uint32_t i);
uint32_t expire_second(const struct flowstate *fs, uint32_t i);
/* The one setter of the state of a record that is in its place. */
void expire_set_state(struct flowstate *fs, uint32_t i, enum fs_state next);
/* A live flow ends now. Its reply tuple goes into quarantine. */
void expire_end(struct flowstate *fs, uint32_t i, enum fs_end_why why);
/* A record in quarantine is free from now on, whatever its time. */
void expire_release(struct flowstate *fs, uint32_t i);
/* Ends all flows that the NAT in use would not translate as they are, in one go: packets wait for as long as it takes to
 * read every record. From here on the arena is of that NAT. */
void expire_stale(struct flowstate *fs);
/* Names went or timeouts became shorter: every record is to be looked at. */
void expire_sweep(struct flowstate *fs, bool shorter);

/* ---- pressure.c: who makes room ------------------------------------------------------------------------- */

/* The queue that a record belongs into, as it is now. */
enum queue_kind pressure_kind(const struct flow_head *h, const struct flow_body *b);
/* A record gets one, leaves it (kind: the one that it is in), or has changed so that it belongs into another. */
void pressure_in(struct flowstate *fs, uint32_t i);
void pressure_out(struct flowstate *fs, uint32_t i, enum queue_kind kind);
void pressure_move(struct flowstate *fs, uint32_t i, enum queue_kind from);
/* A record in quarantine is free from now on; its tuples stay closed. False: the filters have no room for them. */
bool pressure_release(struct flowstate *fs, uint32_t i);
/* Frees a record for a site, when there is no other. Returns whether there is one now. */
bool pressure_make_room(struct flowstate *fs, uint16_t site);
/* May a flow begin in a realm now, by the rate that is allowed? Counts it. */
bool pressure_begins(struct flowstate *fs, uint16_t realm);
/* A site is at its own limit: one of its flows ends for another one. Returns whether one did. */
bool pressure_site_room(struct flowstate *fs, uint16_t site);
/* The idle timeout of a record, as long as times are short maybe less than its state's. */
uint32_t pressure_timeout(const struct flowstate *fs, uint32_t i);
void pressure_tick(struct flowstate *fs);

/* ---- adopt.c ------------------------------------------------------------------------------------------- */

/* Takes over the records of an earlier run; each is judged. Returns 0; -ENOSPC when more are in use than max. */
int adopt_records(struct flowstate *fs, struct fs_open_report *rep);

/* Tells of an event if somebody wants to hear of its kind. */
static inline void tell(const struct flowstate *fs, const struct fs_event *e)
{
	if (fs->event_kinds & FS_EVENT_BIT(e->kind))
		fs->event(fs->event_arg, e);
}

static inline void clock_set(struct flowstate *fs, uint64_t now_ms)
{
	uint32_t now = (uint32_t)(now_ms / UNIT_MS);
	if (now > fs->now)
		fs->now = now;
}

#endif
