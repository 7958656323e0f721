/* SPDX-License-Identifier: GPL-2.0-or-later */
/* flowstate_model.h - the naive flow table of flowstate_model_test.c: a list of records that is searched from end to end. */
#ifndef ARRD_TEST_FLOWSTATE_MODEL_H
#define ARRD_TEST_FLOWSTATE_MODEL_H

#include "test/unit/flowstate_help.h"

#include <stdlib.h>

enum { SITES = 3, REALMS = SITES + 1, EGRESS = SITES, WAYS = 2, SHARDS_MAX = 4, FLOWS = 150 };

/* A name as it is bound now. uid: another one each time it is bound anew, which tells its realm. */
struct mname {
	unsigned uid;
	fs_id id[SHARDS_MAX];
};

struct mrec {
	bool used, quarantined, dead;
	bool gave_way; /* its original half, in quarantine, to a new flow */
	unsigned shard;
	uint32_t flow;
	struct tuple t[2];
	unsigned realm[2], via[2]; /* uids */
	enum fs_state state;
	uint32_t seen;
};

/* A reply tuple whose record was taken before its quarantine was over. */
struct mclosed {
	bool used, masked;
	unsigned shard, realm, but; /* uids; but: to flows to or from there it is open, 0: to none */
	struct tuple t;
	uint32_t since;
};
enum { CLOSED = 8192 };
/* Two quarantines, and what ticks that come late add. */
#define CLOSED_AT_MOST (6u * 240 * UNITS_A_SECOND)

/* What a table tells of evictions. */
struct mevents {
	struct model *m;
	unsigned n;
	struct {
		uint32_t flow;
		enum fs_end_why why;
		bool unanswered;
	} e[4];
};

struct model {
	uint64_t random;
	unsigned nshards;
	struct world shard[SHARDS_MAX];
	struct mname realm[REALMS], way[REALMS][WAYS];
	unsigned uids;
	uint32_t limit; /* of each site */
	enum fs_nat nat;
	struct addr_range pool[2];
	uint32_t share; /* percent, 0: all */
	uint64_t now;
	struct mrec rec[SHARDS_MAX * FLOWS];
	struct mclosed closed[CLOSED];
	struct mevents events[SHARDS_MAX];
	uint32_t masks_since; /* 0: never */
	uint32_t forgotten;   /* closed tuples of until then may be missing */
	unsigned nclosed, evicted, released, shortened;
	unsigned begun, translated, refused, full, limited, taken_again, passed, outside;
	unsigned nats, stale, pooled, masked, no_family, exhausted, shared;
};

static unsigned rnd(struct model *m, unsigned n)
{
	m->random ^= m->random << 13;
	m->random ^= m->random >> 7;
	m->random ^= m->random << 17;
	return (unsigned)((m->random >> 20) % n);
}

static uint32_t units(const struct model *m)
{
	return (uint32_t)(m->now / UNIT_MS);
}

/* ---- names ---------------------------------------------------------------------------------------------- */

static void bind_realm(struct model *m, unsigned r, unsigned s)
{
	struct flowstate *fs = m->shard[s].fs;
	char name[16];
	snprintf(name, sizeof(name), "realm%u", r);
	m->realm[r].id[s] = fs_bind(fs, r == EGRESS ? FS_EGRESS : FS_SITE, name, FS_ID_NONE, 0);
	for (unsigned k = 0; k < WAYS; k++) {
		snprintf(name, sizeof(name), "way%u.%u", r, k);
		m->way[r][k].id[s] =
			r == EGRESS ? m->realm[r].id[s] : fs_bind(fs, FS_TUNNEL, name, m->realm[r].id[s], 7);
		assert_int_not_equal(m->way[r][k].id[s], FS_ID_NONE);
	}
}

static void new_uids(struct model *m, unsigned r)
{
	m->realm[r].uid = ++m->uids * REALMS + r;
	for (unsigned k = 0; k < WAYS; k++)
		m->way[r][k].uid = r == EGRESS ? m->realm[r].uid : ++m->uids * REALMS + r;
}

static unsigned realm_of_uid(const struct model *m, unsigned uid)
{
	for (unsigned r = 0; r < REALMS; r++) {
		if (m->realm[r].uid == uid)
			return r;
	}
	return REALMS;
}

/* ---- the list -------------------------------------------------------------------------------------------- */

/* From a site to an egress? Of others both tuples are closed in quarantine. */
static bool is_outward(const struct mrec *r)
{
	return r->realm[FS_ORIG] % REALMS != EGRESS && r->realm[FS_REPLY] % REALMS == EGRESS;
}

static bool holds(const struct mrec *r, int d)
{
	return r->used && (d == FS_REPLY || !r->quarantined || (!is_outward(r) && !r->gave_way));
}

/* Behind the kernel's masquerade what answers have as destination is not to be told apart. */
static bool is_masked(const struct model *m, const struct mrec *r, int d)
{
	return m->nat == FS_NAT_KERNEL && d == FS_REPLY && is_outward(r);
}

static bool equal(const struct tuple *a, const struct tuple *b, bool masked)
{
	struct tuple u = *a;
	if (masked && addr_is4(&a->dst) == addr_is4(&b->dst))
		u.dst = b->dst;
	return memcmp(&u, b, sizeof(u)) == 0;
}

static struct mrec *holder(struct model *m, unsigned realm, const struct tuple *t, enum fs_dir *dir)
{
	for (unsigned i = 0; i < SHARDS_MAX * FLOWS; i++) {
		struct mrec *r = &m->rec[i];
		for (int d = 0; d < 2; d++) {
			if (holds(r, d) && r->realm[d] == realm && memcmp(&r->t[d], t, sizeof(*t)) == 0) {
				*dir = (enum fs_dir)d;
				return r;
			}
		}
	}
	return NULL;
}

/* Whose way a reply tuple is in. *two: there is another one besides, so that nobody can make way. */
static struct mrec *holder_of_reply(
	struct model *m, unsigned realm, const struct tuple *t, bool masked, enum fs_dir *dir, bool *two)
{
	struct mrec *found = holder(m, realm, t, dir);
	*two = false;
	if (!found)
		*dir = FS_ORIG;
	for (unsigned i = 0; masked && i < SHARDS_MAX * FLOWS; i++) {
		struct mrec *r = &m->rec[i];
		if (r == found || !holds(r, FS_REPLY) || r->realm[FS_REPLY] != realm ||
			!is_masked(m, r, FS_REPLY) || !equal(&r->t[FS_REPLY], t, true))
			continue;
		*two = found != NULL;
		*dir = FS_REPLY;
		found = r;
	}
	return found;
}

/* What is not masked, behind an egress that masks, may be a late answer to another host of who has, or had, that port. */
static bool hidden_from(
	struct model *m, unsigned shard, unsigned realm, const struct tuple *t, unsigned other)
{
	for (unsigned i = 0; i < SHARDS_MAX * FLOWS; i++) {
		const struct mrec *r = &m->rec[i];
		if (r->shard == shard && holds(r, FS_REPLY) && r->realm[FS_REPLY] == realm &&
			is_masked(m, r, FS_REPLY) && equal(&r->t[FS_REPLY], t, true) &&
			!equal(&r->t[FS_REPLY], t, false) && r->realm[FS_ORIG] != other)
			return true;
	}
	return false;
}

static void model_end(struct model *m, struct mrec *r)
{
	r->quarantined = true;
	r->dead = false;
	r->state = FS_QUARANTINE;
	r->seen = units(m);
}

static void model_close(struct model *m, const struct mrec *r, int d, unsigned but)
{
	struct mclosed *c = &m->closed[m->nclosed++ % CLOSED];
	uint32_t since = m->masks_since;
	bool changed = since && units(m) - since < m->shard[0].cfg.timeout_s[FS_QUARANTINE] * UNITS_A_SECOND;
	if (c->used)
		m->forgotten = c->since;
	*c = (struct mclosed){.used = true,
		.masked = is_masked(m, r, d) || (d == FS_REPLY && is_outward(r) && changed),
		.shard = r->shard,
		.realm = r->realm[d],
		.but = but,
		.t = r->t[d],
		.since = units(m)};
}

/* Its record has been given to somebody else. */
static void model_release(struct model *m, struct mrec *r)
{
	model_close(m, r, FS_REPLY, 0);
	r->quarantined = true;
	if (holds(r, FS_ORIG))
		model_close(m, r, FS_ORIG, r->realm[FS_REPLY]);
	r->used = false;
}

/* How long ago the tuple was closed to flows to or from the realm other, at least; UINT32_MAX: not that anybody knows.
 * realm 0: in any and to whomsoever, since filters go by slots, which others may have by now. */
static uint32_t closed_for(
	const struct model *m, unsigned shard, unsigned realm, unsigned other, const struct tuple *t)
{
	uint32_t age = realm ? UINT32_MAX : units(m) - m->forgotten;
	for (unsigned i = 0; i < CLOSED; i++) {
		const struct mclosed *c = &m->closed[i];
		bool open = realm && (c->realm != realm || c->but == other);
		if (c->used && c->shard == shard && !open && equal(&c->t, t, c->masked) &&
			units(m) - c->since < age)
			age = units(m) - c->since;
	}
	/* Somebody else's entry may say that it is open to the other. */
	for (unsigned i = 0; realm && i < CLOSED; i++) {
		const struct mclosed *c = &m->closed[i];
		if (c->used && c->shard == shard && c->realm == realm && c->but == other &&
			units(m) - c->since < CLOSED_AT_MOST && equal(&c->t, t, c->masked))
			return UINT32_MAX;
	}
	return age;
}

static void on_event(void *arg, const struct fs_event *e)
{
	struct mevents *v = arg;
	const struct flowstate *fs = v->m->shard[v - v->m->events].fs;
	if (e->why != FS_END_TABLE_FULL && e->why != FS_END_SITE_LIMIT)
		return;
	assert_true(v->n < 4);
	v->e[v->n].flow = e->flow;
	v->e[v->n].unanswered = pressure_kind(head_of(fs, e->flow), body_of(fs, e->flow)) == QUEUE_UNANSWERED;
	v->e[v->n++].why = e->why;
}

static void listen_to(struct model *m, unsigned s)
{
	m->events[s].m = m;
	fs_on_event(m->shard[s].fs, FS_EVENT_BIT(FS_EVENT_EVICT), on_event, &m->events[s]);
}

static struct mrec *any_live(struct model *m)
{
	unsigned at = rnd(m, SHARDS_MAX * FLOWS);
	for (unsigned i = 0; i < SHARDS_MAX * FLOWS; i++) {
		struct mrec *r = &m->rec[(at + i) % (SHARDS_MAX * FLOWS)];
		if (r->used && !r->quarantined && !r->dead)
			return r;
	}
	return NULL;
}

/* Dead flows end when the table gets round to it: the model follows. A record that was taken again at once, by
 * the flow taken, must have ended before. */
static void follow_dead(struct model *m, unsigned shard, uint32_t taken)
{
	for (unsigned i = 0; i < SHARDS_MAX * FLOWS; i++) {
		struct mrec *r = &m->rec[i];
		if (!r->used || !r->dead)
			continue;
		enum fs_state now = head_of(m->shard[r->shard].fs, r->flow)->state;
		if (now == FS_QUARANTINE || now == FS_FREE || (r->shard == shard && r->flow == taken))
			model_end(m, r);
	}
}

static unsigned count(const struct model *m, unsigned shard, unsigned site_uid, bool live_only)
{
	unsigned n = 0;
	for (unsigned i = 0; i < SHARDS_MAX * FLOWS; i++) {
		const struct mrec *r = &m->rec[i];
		if (!r->used || r->shard != shard || (live_only && r->quarantined))
			continue;
		unsigned egress_first = r->realm[0] % REALMS == EGRESS;
		n += !site_uid || r->realm[egress_first] == site_uid;
	}
	return n;
}

/* ---- random things ----------------------------------------------------------------------------------------- */

static struct tuple any_tuple(struct model *m)
{
	static const uint8_t protos[] = {IPPROTO_TCP, IPPROTO_UDP, IPPROTO_ICMP, 47};
	struct tuple t = {.proto = protos[rnd(m, 4)]};
	bool v6 = rnd(m, 3) == 0;
	for (int k = 0; k < 2; k++) {
		struct addr a = addr_from4(htonl(0x0a000001 + rnd(m, 3)));
		if (v6) {
			a = (struct addr){.b = {0x20, 1, 0xd, 0xb8}};
			a.b[15] = (uint8_t)(1 + rnd(m, 3));
		}
		*(k ? &t.dst : &t.src) = a;
	}
	if (v6 && t.proto == IPPROTO_ICMP)
		t.proto = IPPROTO_ICMPV6;
	if (t.proto != 47)
		t.sport = htons((uint16_t)(1023 + rnd(m, 3)));
	if (t.proto == IPPROTO_TCP || t.proto == IPPROTO_UDP)
		t.dport = htons((uint16_t)(1023 + rnd(m, 3)));
	return t;
}

/* A tuple of a record, turned or not, or any: so that look-ups hit as often as they miss. */
static struct tuple likely_tuple(struct model *m)
{
	const struct mrec *r = &m->rec[rnd(m, SHARDS_MAX * FLOWS)];
	return r->used && rnd(m, 4) ? r->t[rnd(m, 2)] : any_tuple(m);
}

static unsigned shard_of_tuple(const struct model *m, const struct tuple *t)
{
	return fs_shard_of(m->shard[0].cfg.shard_key, (uint16_t)m->nshards, t);
}

/* May a flow to or from the realm other have what r holds as its half dir? */
static bool may_take(const struct mrec *r, enum fs_dir dir, unsigned other)
{
	return !r || (r->quarantined && r->realm[!dir] == other);
}

static unsigned site_of(const struct mrec *r)
{
	return r->realm[r->realm[0] % REALMS == EGRESS];
}

/* ---- NAT ----------------------------------------------------------------------------------------------------- */

/* How a flow from a site to the egress gets its reply tuple: by the rules for tuples that collide; with an address of the
 * pool; as it is or not at all, since the kernel could not tell it apart. */
enum mapping { BY_CHANCE, POOLED, MASKED };

static bool has_choice(const struct tuple *t)
{
	if (t->proto == IPPROTO_ICMP || t->proto == IPPROTO_ICMPV6)
		return !t->dport;
	return t->proto != 47;
}

static enum mapping mapping_of(const struct model *m, const struct tuple *t)
{
	if (m->nat == FS_NAT_POOL)
		return POOLED;
	return m->nat == FS_NAT_KERNEL && !has_choice(t) ? MASKED : BY_CHANCE;
}

static struct addr_range overlap(const struct model *m, bool v6)
{
	return addr_range_of_hosts(v6 ? &m->shard[0].cfg.pool6 : &m->shard[0].cfg.pool4);
}

/* Only of one shard, whatever the destination. */
static bool shard_allows(const struct model *m, unsigned s, const struct tuple *reply, bool masked)
{
	struct tuple any = *reply;
	any.dst = (struct addr){};
	return shard_of_tuple(m, reply) == s && (!masked || shard_of_tuple(m, &any) == s);
}

/* Would the kernel keep the source port? */
static bool port_stays(const struct tuple *t)
{
	return (t->proto != IPPROTO_TCP && t->proto != IPPROTO_UDP) || ntohs(t->sport) >= 1024;
}

/* May a flow of the realm ua have it? Where that is not known, it is true for hopes. */
static bool is_free(struct model *m, unsigned s, const struct tuple *reply, bool masked, unsigned ua,
	unsigned ub, bool hopes)
{
	enum fs_dir dir;
	bool two;
	const struct mrec *r = holder_of_reply(m, ub, reply, masked, &dir, &two);
	if (!shard_allows(m, s, reply, masked) || !may_take(r, dir, ua) || two)
		return false;
	return hopes || closed_for(m, s, 0, 0, reply) >= CLOSED_AT_MOST;
}

#endif
