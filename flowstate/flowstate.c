/* SPDX-License-Identifier: GPL-2.0-or-later */
/* flowstate.c - the flow table.
 *
 * Theory
 *
 * What must outlive the process lies in a file (record.h): the records of the flows, and the names of sites,
 * tunnels and egresses that they refer to. Everything else is derived from it at start, in private memory:
 * the index, the wheel, the list of free records, the counts. So nothing that a crash could leave half done
 * has to be trusted, and the index can have a new key at each start.
 *
 *	arena.c      the file as a whole                  lookup.c     tuple → half of a flow, in batches
 *	record.c     one record, from free to free        translate.c  which reply tuple a new flow gets
 *	adopt.c      judging what an earlier run left     track.c      packet → state
 *	names.c      ids, and who refers to them          expire.c     the ends of flows, quarantine
 *	index.c      hash → half                          wheel.c      what is due when
 *	siphash.c    the hash                             crowd.c      flows that share a destination
 *	pressure.c   who makes room when there is none    closed.c     what stays closed without a record
 *	tcp.c        sequence numbers and windows         check.c      the invariants, by brute force
 *
 * The life of a record:
 *
 *	free ── fs_begin ──▶ live, in one of the protocol's states ── end ──▶ quarantine ── time ──▶ free
 *	                      both halves in the index                          reply half in the index; both,
 *	                                                                        but of a flow from a site to an egress
 *
 * Invariants
 *   - A tuple is in the index at most once a realm: of a live flow's half, or of a quarantined one. Masked (state.h), it is
 *     so without its destination.
 *   - A live flow's attachments are ways into its realms; that they are bound is asked at each look-up.
 *   - A record in the file is whole (its mark is its checksum), or it is not one.
 *   - Every record that is not free hangs in the wheel, in a second in which it is not overdue yet.
 *   - A slot of the name table is not used again while a record refers to it.
 *
 * References: RFC 4787, RFC 5382, RFC 5508, RFC 7857, RFC 6056, RFC 9293.
 */
#include "flowstate/state.h"

#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- states ------------------------------------------------------------------------------------------- */

static const struct {
	const char *name, *key;
	uint32_t seconds;
} states[] = {[FS_FREE] = {"free", "", 0},
#define X(id, name, key, dflt) [FS_##id] = {name, key, dflt},
	FS_STATES(X)
#undef X
};
_Static_assert(sizeof(states) / sizeof(states[0]) == FS_STATE_COUNT, "one row a state");

const char *fs_state_name(enum fs_state s)
{
	return s < FS_STATE_COUNT ? states[s].name : "";
}

const char *fs_state_key(enum fs_state s)
{
	return s < FS_STATE_COUNT ? states[s].key : "";
}

uint32_t fs_state_default_s(enum fs_state s)
{
	return s < FS_STATE_COUNT ? states[s].seconds : 0;
}

/* ---- opening and closing ------------------------------------------------------------------------------ */

/* Returns whether a timeout became shorter: records may hang in the wheel too late then. */
static bool set_limits(struct flowstate *fs, const struct fs_config *cfg)
{
	bool shorter = false;
	for (int s = 0; s < FS_STATE_COUNT; s++) {
		uint64_t units = (uint64_t)cfg->timeout_s[s] * UNITS_A_SECOND;
		uint32_t timeout = units > INT32_MAX ? INT32_MAX : (uint32_t)units;
		shorter |= timeout < fs->timeout[s];
		fs->timeout[s] = timeout;
	}
	fs->tcp_loose = cfg->tcp_loose;
	fs->max_per_site = cfg->max_per_site;
	fs->max_new_per_site = cfg->max_new_per_site;
	fs->nat = cfg->nat;
	memcpy(fs->nat_pool, cfg->nat_pool, sizeof(fs->nat_pool));
	fs->nat_share = cfg->nat_share ? cfg->nat_share : 100;
	return shorter;
}

/* Everything that the arena implies; all of it is zero before. -ENOSPC: it holds more than max records. */
static int derive(struct flowstate *fs, struct fs_open_report *rep)
{
	fs->stats.max = fs->arena.max;
	fs->free_first = FS_NONE;
	sip_key_from(&fs->pool_key, fs->arena.header->pool_key);
	/* As the records there are; fs_unbind_rest sees to those that another NAT has left. */
	fs->masks = fs->arena.header->nat == FS_NAT_KERNEL;
	int err = wheel_open(&fs->wheel, fs->arena.max, fs->now / UNITS_A_SECOND);
	if (err)
		return err;
	err = index_open(&fs->index, fs->arena.max);
	if (!err)
		err = crowd_open(&fs->crowd);
	if (!err)
		err = pressure_open(&fs->pressure, fs->arena.max);
	if (err)
		return err;
	names_adopt(&fs->names, &fs->arena);
	return adopt_records(fs, rep);
}

static void forget(struct flowstate *fs)
{
	index_close(&fs->index);
	crowd_close(&fs->crowd);
	pressure_close(&fs->pressure);
	wheel_close(&fs->wheel);
}

int fs_open(struct flowstate **out, const struct fs_config *cfg, uint64_t now_ms, struct fs_open_report *rep)
{
	*out = NULL;
	memset(rep, 0, sizeof(*rep));
	if (!cfg->max || cfg->max > INT32_MAX - 1 || cfg->nshards > 1024 ||
		(cfg->nshards && cfg->shard >= cfg->nshards))
		return -EINVAL;
	if (sodium_init() < 0)
		return -ENOSYS;
	struct flowstate *fs = calloc(1, sizeof(*fs));
	if (!fs)
		return -ENOMEM;

	set_limits(fs, cfg);
	clock_set(fs, now_ms);
	fs->nshards = cfg->nshards ? cfg->nshards : 1;
	fs->shard = cfg->shard;
	if (cfg->pool4.len)
		fs->overlap[0] = addr_range_of_hosts(&cfg->pool4);
	if (cfg->pool6.len)
		fs->overlap[1] = addr_range_of_hosts(&cfg->pool6);
	fs->sip_many = sip_many_best();
	sip_key_random(&fs->index_key);
	sip_key_random(&fs->random_key);
	sip_key_from(&fs->shard_key, cfg->shard_key);

	int err = arena_open(&fs->arena, cfg, &rep->kind, rep->why, sizeof(rep->why));
	if (err)
		goto no_arena;
	err = derive(fs, rep);
	if (err == -ENOSPC) {
		/* Once more, with as many as there are: no flow is lost because flows.max was lowered. */
		struct fs_config larger = *cfg;
		larger.max = fs->arena.header->high;
		forget(fs);
		arena_close(&fs->arena);
		memset(&fs->stats, 0, sizeof(fs->stats));
		memset(&fs->names, 0, sizeof(fs->names));
		fs->from_outside = 0;
		rep->flows = 0;
		err = arena_open(&fs->arena, &larger, &rep->kind, rep->why, sizeof(rep->why));
		if (err)
			goto no_arena;
		err = derive(fs, rep);
		if (!err)
			snprintf(rep->why, sizeof(rep->why),
				"it holds more flows than flows.max; room for %u is kept", larger.max);
	}
	if (err)
		goto no_index;
	if (rep->kind == FS_OPEN_ADOPTED)
		fs->adopted = fs->now;
	*out = fs;
	return 0;

no_index:
	forget(fs);
	arena_close(&fs->arena);
no_arena:
	free(fs);
	return err;
}

void fs_close(struct flowstate *fs)
{
	if (!fs)
		return;
	forget(fs);
	arena_close(&fs->arena);
	free(fs);
}

void fs_reconfigure(struct flowstate *fs, const struct fs_config *cfg)
{
	bool nat = fs->nat != cfg->nat || memcmp(fs->nat_pool, cfg->nat_pool, sizeof(fs->nat_pool)) != 0;
	if (set_limits(fs, cfg))
		expire_sweep(fs, true);
	if (nat)
		expire_stale(fs);
}

/* ---- names -------------------------------------------------------------------------------------------- */

fs_id fs_bind(struct flowstate *fs, enum fs_kind kind, const char *name, fs_id site, uint64_t identity)
{
	return names_bind(&fs->names, kind, name, site, identity);
}

fs_id fs_lookup_name(const struct flowstate *fs, enum fs_kind kind, const char *name)
{
	return names_lookup(&fs->names, kind, name);
}

void fs_unbind(struct flowstate *fs, fs_id id)
{
	if (names_unbind(&fs->names, id))
		expire_sweep(fs, false);
}

void fs_unbind_rest(struct flowstate *fs)
{
	if (names_unbind_rest(&fs->names))
		expire_sweep(fs, false);
	if (fs->adopted)
		expire_stale(fs);
	__atomic_store_n(&fs->arena.header->ready, 1, __ATOMIC_RELEASE);
}

const char *fs_name(const struct flowstate *fs, fs_id id)
{
	return names_text(&fs->names, id);
}

const char *fs_last_name(const struct flowstate *fs, fs_id id)
{
	return names_last_text(&fs->names, id);
}

static bool is_bound(const struct flowstate *fs, fs_id id)
{
	return id && fs->names.bound[FS_SLOT(id)] == id;
}

void fs_set_site_limit(struct flowstate *fs, fs_id site, uint32_t max)
{
	if (is_bound(fs, site))
		fs->names.slot[FS_SLOT(site)].limit = max;
}

uint32_t fs_site_flows(const struct flowstate *fs, fs_id site)
{
	const struct slot *s = &fs->names.slot[FS_SLOT(site)];
	return is_bound(fs, site) && s->kind == FS_SITE ? s->flows : 0;
}

uint32_t fs_site_translated(const struct flowstate *fs, fs_id site)
{
	const struct slot *s = &fs->names.slot[FS_SLOT(site)];
	return is_bound(fs, site) && s->kind == FS_SITE ? s->translated : 0;
}

uint32_t fs_attach_flows(const struct flowstate *fs, fs_id tunnel_or_egress)
{
	const struct slot *s = &fs->names.slot[FS_SLOT(tunnel_or_egress)];
	return is_bound(fs, tunnel_or_egress) && s->kind != FS_SITE ? s->flows : 0;
}

/* ---- beginning of a flow ------------------------------------------------------------------------------ */

static bool site_is_full(const struct flowstate *fs, uint16_t site)
{
	const struct slot *s = &fs->names.slot[site];
	uint32_t limit = s->limit ? s->limit : fs->max_per_site;
	return site && limit && s->flows >= limit;
}

static enum drop refuse(struct flowstate *fs, enum drop why)
{
	fs->stats.refused++;
	return why;
}

/* For so long after answers were masked, or no more, one may be on its way that was told from others otherwise. */
#define CHANGE_SETTLES (10 * UNITS_A_SECOND)

enum drop fs_begin(struct flowstate *fs, const struct fs_packet *pk, fs_id realm, fs_id via, bool from_egress,
	unsigned flags, uint64_t now_ms, struct fs_hit *out)
{
	uint16_t from = FS_SLOT(pk->key.realm), to = FS_SLOT(realm);
	const struct tuple *t = &pk->key.t, turned = tuple_turned(t);
	bool masked =
		fs->masks && fs->names.slot[from].kind == FS_SITE && fs->names.slot[to].kind == FS_EGRESS;
	struct place orig, reply;

	*out = (struct fs_hit){.flow = FS_NONE};
	clock_set(fs, now_ms);
	if (!names_attached(&fs->names, pk->key.realm, pk->via) || !names_attached(&fs->names, realm, via))
		return DROP_OTHER_SITE;
	lookup_aim(fs, &orig, from, t, false);
	lookup_aim(fs, &reply, to, &turned, masked);

	if (!translate_free(fs, &orig, to)) {
		const struct flow_head *h = head_of(fs, REF_RECORD(orig.ref));
		if (!is_live(h) || !names_alive(&fs->names, h) ||
			!record_half_is(h, REF_DIR(orig.ref), from, t))
			return refuse(fs, DROP_TUPLE_COLLISION);
		*out = (struct fs_hit){.flow = REF_RECORD(orig.ref), .dir = REF_DIR(orig.ref)};
		return DROP_NONE;
	}
	/* A late answer, maybe, which must not become a question to somebody else by his route. From a site to an egress anything
	 * may go: filters err, and then its flow had no other tuple to take. */
	if (from_egress && masks_changed(fs, CHANGE_SETTLES))
		return refuse(fs, DROP_TUPLE_COLLISION);
	if ((from_egress || fs->names.slot[to].kind == FS_SITE) && translate_closed(fs, &orig, to))
		return refuse(fs, DROP_TUPLE_COLLISION);
	if (t->proto == IPPROTO_TCP && !track_begins(pk->tcp_flags, fs->tcp_loose && !from_egress))
		return DROP_NOT_A_BEGINNING;

	struct flow_head h = {.addr = {t->src, t->dst},
		.port = {t->sport, t->dport},
		.proto = t->proto,
		.state = (uint8_t)track_first(t->proto),
		.realm = {from, to},
		.via = {FS_SLOT(pk->via), FS_SLOT(via)}};
	uint16_t site = names_charged(&fs->names, &h);
	if (!pressure_begins(fs, from))
		return refuse(fs, DROP_SITE_RATE);
	if (site_is_full(fs, site) && !pressure_site_room(fs, site))
		return refuse(fs, DROP_SITE_LIMIT);
	enum drop drop = translate_choose(fs, &h, &orig, flags & FS_BEGIN_READDRESS, &reply);
	if (drop)
		return refuse(fs, drop);
	h.addr[2] = reply.t.dst;
	h.port[2] = reply.t.dport;

	/* What the site has itself in quarantine makes way: a reply half with its record, for good, an original one alone, and
	 * only if the flow begins. */
	record_yield(fs, orig.ref, FS_REPLY);
	record_yield(fs, reply.ref, FS_REPLY);
	uint32_t i = record_take(fs);
	if (i == FS_NONE && pressure_make_room(fs, site))
		i = record_take(fs);
	if (i == FS_NONE)
		return refuse(fs, DROP_FLOW_TABLE_FULL);
	record_yield(fs, orig.ref, FS_ORIG);
	record_yield(fs, reply.ref, FS_ORIG);
	struct flow_body b = {.created = fs->now, .seen = fs->now};
	if (t->proto == IPPROTO_TCP)
		track_begin(&b, pk);
	record_write(fs, i, &h, &b);
	record_enter(fs, i, orig.hash, reply.hash, true);
	fs->stats.created++;
	fs->stats.translated += record_translated(&h);
	*out = (struct fs_hit){.flow = i, .dir = FS_ORIG};
	tell(fs, &(struct fs_event){.kind = FS_EVENT_BEGIN, .flow = i});
	return DROP_NONE;
}

/* ---- packets of a flow -------------------------------------------------------------------------------- */

static void move(struct flowstate *fs, uint32_t i, enum fs_dir dir, fs_id via)
{
	struct flow_head *h = head_of(fs, i);
	fs_id from = names_id(&fs->names, h->via[dir]);

	names_move(&fs->names, h, dir, FS_SLOT(via));
	fs->stats.moved++;
	tell(fs, &(struct fs_event){.kind = FS_EVENT_MOVE, .dir = dir, .from = from, .flow = i});
}

bool fs_still(const struct flowstate *fs, struct fs_hit hit, const struct fs_key *key)
{
	if (hit.flow >= fs->arena.header->high)
		return false;
	const struct flow_head *h = head_of(fs, hit.flow);
	return is_live(h) && record_half_is(h, hit.dir, FS_SLOT(key->realm), &key->t);
}

enum drop fs_pass(struct flowstate *fs, struct fs_hit hit, const struct fs_packet *pk, uint64_t now_ms)
{
	if (hit.flow >= fs->arena.header->high)
		return DROP_NO_FLOW;
	struct flow_head *h = head_of(fs, hit.flow);
	struct flow_body *b = body_of(fs, hit.flow);
	enum fs_dir dir = hit.dir;
	enum fs_state next;

	if (!is_live(h))
		return DROP_NO_FLOW;
	if (!is_bound(fs, pk->key.realm) || FS_SLOT(pk->key.realm) != h->realm[dir] || !is_bound(fs, pk->via))
		return DROP_OTHER_SITE;
	bool moves = FS_SLOT(pk->via) != h->via[dir];
	if (moves && !names_attached(&fs->names, pk->key.realm, pk->via))
		return DROP_OTHER_SITE;
	if (!record_half_is(h, dir, h->realm[dir], &pk->key.t)) /* another flow's by now */
		return DROP_NO_FLOW;
	enum drop drop = track_packet(h, b, dir, pk, &next);
	if (drop)
		return drop;

	enum queue_kind queue = pressure_kind(h, b);
	if (moves)
		move(fs, hit.flow, dir, pk->via);
	clock_set(fs, now_ms);
	b->seen = fs->now;
	b->packets[dir] += pk->packets;
	b->octets[dir] += pk->octets;
	if (pk->mss)
		b->mss[!dir] = pk->mss;
	if (next != h->state)
		expire_set_state(fs, hit.flow, next);
	if (pressure_kind(h, b) != queue)
		pressure_move(fs, hit.flow, queue);
	return DROP_NONE;
}

void fs_prefetch(const struct flowstate *fs, uint32_t flow)
{
	if (flow >= fs->arena.max)
		return;
	__builtin_prefetch(head_of(fs, flow), 1);
	__builtin_prefetch(body_of(fs, flow), 1);
	__builtin_prefetch((const uint8_t *)body_of(fs, flow) + sizeof(struct flow_body) - 1, 1);
}

void fs_half(const struct flowstate *fs, uint32_t flow, enum fs_dir dir, struct fs_half *out)
{
	const struct flow_head *h = head_of(fs, flow);
	record_tuple(h, dir, &out->t);
	out->realm = names_id(&fs->names, h->realm[dir]);
	out->via = names_id(&fs->names, h->via[dir]);
}

bool fs_translated(const struct flowstate *fs, uint32_t flow)
{
	return record_translated(head_of(fs, flow));
}

uint16_t fs_mss(const struct flowstate *fs, uint32_t flow, enum fs_dir dir)
{
	return body_of(fs, flow)->mss[dir];
}

void fs_clamp_mss(struct flowstate *fs, uint32_t flow, enum fs_dir dir, uint16_t mss)
{
	uint16_t *bound = &body_of(fs, flow)->mss[!dir];
	if (!*bound || mss < *bound)
		*bound = mss;
}

/* ---- looking ------------------------------------------------------------------------------------------ */

void fs_describe(const struct flowstate *fs, uint32_t flow, struct fs_info *info)
{
	const struct flow_body *b = body_of(fs, flow);
	*info = (struct fs_info){.state = head_of(fs, flow)->state,
		.translated = fs_translated(fs, flow),
		.created_ms = (uint64_t)b->created * UNIT_MS,
		.seen_ms = (uint64_t)b->seen * UNIT_MS,
		.expires_ms = expire_due(fs, flow) * UNIT_MS};
	for (int d = 0; d < 2; d++) {
		fs_half(fs, flow, d, &info->half[d]);
		info->packets[d] = b->packets[d];
		info->octets[d] = b->octets[d];
	}
}

int fs_next(
	const struct flowstate *fs, uint32_t *cursor, unsigned budget, uint32_t *flow, struct fs_info *info)
{
	uint32_t high = fs->arena.header->high;
	for (; *cursor < high; budget--) {
		if (!budget)
			return 0;
		uint32_t i = (*cursor)++;
		if (head_of(fs, i)->state == FS_FREE)
			continue;
		*flow = i;
		fs_describe(fs, i, info);
		return 1;
	}
	return -1;
}

void fs_get_stats(const struct flowstate *fs, struct fs_stats *out)
{
	*out = fs->stats;
}
