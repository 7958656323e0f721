/* SPDX-License-Identifier: GPL-2.0-or-later */
/* flowstate_kill_help.h - a process that works on an arena file and says in shared memory what it was promised, and
 * the judge of the file that it leaves when it is killed. */
#ifndef ARRD_TEST_FLOWSTATE_KILL_HELP_H
#define ARRD_TEST_FLOWSTATE_KILL_HELP_H

#include "test/unit/flowstate_arena_help.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/wait.h>

enum { SITES = 2, TUPLES = 64, GRANTS = 16384, FEW_S = 60, QUARANTINE_S = 10 };

/* Idle times are at least an eighth of what is configured (pressure.h). */
#define SOONEST_MS (FEW_S * 1000 / 8)

/* What is known of the flow that a site has from a tuple. DOUBTFUL: something goes on that may begin or end it. */
enum promise { NONE, DOUBTFUL, BEGUN, PASSED };

struct pledge {
	enum promise promise;
	int via, moves_to; /* number of the site's tunnel; equal unless a packet is moving it right now */
	struct tuple reply;
	uint64_t seen_ms;
};

/* Who had a reply tuple last, and until when it is closed to others. */
struct grant {
	struct tuple reply;
	fs_id realm; /* 0: nothing is here */
	int site;
	uint64_t closed_ms;
};

/* Written by the worker, in the order of events: before an operation what may become of it, afterwards what became of
 * it. Whatever was stored before a kill is there. */
struct shared {
	struct fs_config cfg;
	uint64_t now;
	bool ticks; /* what is overdue may end now */
	bool opens; /* the very first start: there are no promises yet */
	bool quick; /* no need to step through what goes on until the next stop */
	bool done;
	int begins; /* site that begins a flow, -1: none */
	fs_id egress;
	uint64_t operations, made_room, other_nat;
	char error[128];
	struct pledge pledge[SITES][TUPLES];
	struct grant grant[GRANTS];
};

struct worker {
	struct world w;
	struct shared *sh;
	struct gone { /* flows that made room in the operation that is going on */
		int site;
		unsigned n;
	} gone[4];
	unsigned ngone;
};

/* Nothing that stands before is moved behind, nor the other way round: not by the compiler either. */
#define IN_ORDER(store)                                                                                      \
	do {                                                                                                 \
		atomic_signal_fence(memory_order_seq_cst);                                                   \
		store;                                                                                       \
		atomic_signal_fence(memory_order_seq_cst);                                                   \
	} while (0)

static inline void work_fails(struct worker *k, const char *what)
{
	snprintf(k->sh->error, sizeof(k->sh->error), "%s", what);
	_exit(3);
}

static inline struct shared *shared_new(uint32_t max)
{
	struct shared *sh =
		mmap(NULL, sizeof(*sh), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_true(sh != MAP_FAILED);
	sh->cfg = config(path, max);
	sh->cfg.timeout_s[FS_QUARANTINE] = 2 * QUARANTINE_S;
	sh->now = 1000000;
	sh->begins = -1;
	return sh;
}

/* The same tuples for both sites, so that nearly every flow finds its reply tuple taken. */
static inline struct tuple any_of(unsigned n)
{
	static const uint8_t protos[2][4] = {
		{IPPROTO_TCP, IPPROTO_UDP, IPPROTO_ICMP, 47}, {IPPROTO_TCP, IPPROTO_UDP, IPPROTO_ICMPV6, 47}};
	bool v6 = n / 4 % 2;
	char host[32];
	struct tuple t;
	snprintf(host, sizeof(host), v6 ? "2001:db8::%u" : "10.0.1.%u", n / 8 + 1);
	t = tup(protos[v6][n % 4], host, 0, v6 ? "2001:db8:1::80" : WEB, 0);
	if (n % 4 != 3)
		t.sport = htons(5000);
	if (n % 4 < 2)
		t.dport = htons(443);
	return t;
}

static inline fs_id site_id(const struct world *w, int site)
{
	return site ? w->site_b : w->site_a;
}

/* Site b has one tunnel only. */
static inline fs_id way_id(const struct world *w, int site, int via)
{
	return site ? w->b1 : via ? w->a2 : w->a1;
}

/* ---- grants --------------------------------------------------------------------------------------------- */

static inline struct grant *grant_of(struct shared *sh, const struct tuple *reply, fs_id realm)
{
	uint64_t w[5], m = realm;
	memcpy(w, reply, sizeof(w));
	for (int i = 0; i < 5; i++)
		m = mark_mix(m, w[i]);
	for (unsigned at = (unsigned)(m >> 40), n = 0; n < GRANTS; at++, n++) {
		struct grant *g = &sh->grant[at % GRANTS];
		if (!g->realm || (g->realm == realm && memcmp(&g->reply, reply, sizeof(*reply)) == 0))
			return g;
	}
	abort();
}

static inline void grant(struct shared *sh, const struct tuple *reply, fs_id realm, int site)
{
	*grant_of(sh, reply, realm) = (struct grant){.reply = *reply, .realm = realm, .site = site};
}

static inline unsigned number_of(const struct tuple *t)
{
	for (unsigned n = 0; n < TUPLES; n++) {
		struct tuple u = any_of(n);
		if (memcmp(t, &u, sizeof(u)) == 0)
			return n;
	}
	fail_msg("a tuple that nobody sent");
	return 0;
}

/* ---- the worker's operations ------------------------------------------------------------------------------ */

static inline void work_bind(struct worker *k)
{
	bind_all(&k->w);
	k->sh->egress = k->w.egress;
}

/* Somebody has to go for another flow. */
static inline void work_evicts(void *arg, const struct fs_event *e)
{
	struct worker *k = arg;
	struct fs_info info;
	if (e->why != FS_END_TABLE_FULL && e->why != FS_END_SITE_LIMIT)
		return;
	/* Of names that went it was over before, and its tuple may be promised anew. */
	if (names_gone(&k->w.fs->names, head_of(k->w.fs, e->flow)))
		return;
	fs_describe(k->w.fs, e->flow, &info);
	int site = fs_name(k->w.fs, info.half[0].realm)[0] - 'a';
	unsigned n = number_of(&info.half[0].t);
	if (k->ngone == 4)
		work_fails(k, "too many make room for one");
	k->gone[k->ngone++] = (struct gone){site, n};
	IN_ORDER(k->sh->pledge[site][n].promise = DOUBTFUL);
}

static inline void work_open(struct worker *k)
{
	k->w.cfg = k->sh->cfg;
	k->w.now = k->sh->now;
	if (fs_open(&k->w.fs, &k->w.cfg, k->w.now, &k->w.rep) < 0)
		work_fails(k, "cannot open the file");
	work_bind(k);
	fs_unbind_rest(k->w.fs);
	fs_on_event(k->w.fs, FS_EVENT_BIT(FS_EVENT_EVICT), work_evicts, k);
}

static inline void work_restart(struct worker *k, uint32_t max)
{
	fs_close(k->w.fs);
	k->sh->cfg.max = max;
	work_open(k);
	if (k->w.rep.kind != FS_OPEN_ADOPTED || k->w.rep.torn)
		work_fails(k, "the file was not taken over");
}

static inline struct fs_packet work_packet(const struct worker *k, int site, unsigned n, int via)
{
	return packet(site_id(&k->w, site), way_id(&k->w, site, via), any_of(n), FLAG_SYN);
}

static inline void work_pass(struct worker *k, int site, unsigned n, int via)
{
	struct pledge *p = &k->sh->pledge[site][n];
	struct fs_packet pk = work_packet(k, site, n, via);
	struct fs_hit hit;
	IN_ORDER(p->moves_to = via);
	fs_find(k->w.fs, &pk.key, 1, &hit);
	if (hit.flow == FS_NONE)
		work_fails(k, "a flow that was begun is not found");
	if (fs_pass(k->w.fs, hit, &pk, k->w.now) == DROP_NONE) {
		IN_ORDER(p->promise = PASSED);
		p->seen_ms = k->w.now;
		IN_ORDER(p->via = via);
	}
	IN_ORDER(p->moves_to = p->via);
}

static inline void over(struct worker *k, int site, unsigned n)
{
	struct pledge *p = &k->sh->pledge[site][n];
	/* Times are kept in units of 100 ms. */
	grant_of(k->sh, &p->reply, k->w.egress)->closed_ms = k->w.now + QUARANTINE_S * 1000 - UNIT_MS;
	IN_ORDER(p->promise = NONE);
}

static inline void work_begin(struct worker *k, int site, unsigned n, int via, unsigned flags)
{
	struct pledge *p = &k->sh->pledge[site][n];
	struct fs_packet pk = work_packet(k, site, n, via);
	struct fs_hit hit;
	struct fs_half h;
	fs_find(k->w.fs, &pk.key, 1, &hit);
	if (hit.flow != FS_NONE)
		work_fails(k, "a flow is found that had ended");
	IN_ORDER(p->via = p->moves_to = via);
	IN_ORDER(p->promise = DOUBTFUL);
	IN_ORDER(k->sh->begins = site);
	if (fs_begin(k->w.fs, &pk, k->w.egress, k->w.egress, false, flags, k->w.now, &hit) == DROP_NONE) {
		fs_half(k->w.fs, hit.flow, FS_REPLY, &h);
		grant(k->sh, &h.t, k->w.egress, site);
		p->reply = h.t;
		p->seen_ms = k->w.now;
		IN_ORDER(p->promise = BEGUN);
	} else {
		IN_ORDER(p->promise = NONE);
	}
	for (; k->ngone; k->ngone--) {
		over(k, k->gone[k->ngone - 1].site, k->gone[k->ngone - 1].n);
		k->sh->made_room++;
	}
	IN_ORDER(k->sh->begins = -1);
}

static inline void work_end(struct worker *k, int site, unsigned n)
{
	struct pledge *p = &k->sh->pledge[site][n];
	struct fs_hit hit = find(&k->w, site_id(&k->w, site), any_of(n));
	IN_ORDER(p->promise = DOUBTFUL);
	fs_end(k->w.fs, hit.flow, k->w.now);
	over(k, site, n);
}

static inline void work_tick(struct worker *k, uint64_t ms, unsigned budget)
{
	IN_ORDER(k->sh->ticks = true);
	k->sh->now = k->w.now += ms;
	fs_tick(k->w.fs, k->w.now, budget);
	for (int site = 0; site < SITES; site++) {
		for (unsigned n = 0; n < TUPLES; n++) {
			if (k->sh->pledge[site][n].promise >= BEGUN &&
				find(&k->w, site_id(&k->w, site), any_of(n)).flow == FS_NONE)
				over(k, site, n);
		}
	}
	IN_ORDER(k->sh->ticks = false);
}

static inline void work_reconfigure(struct worker *k, uint32_t quarantine_s, uint32_t max_per_site)
{
	k->sh->cfg.timeout_s[FS_QUARANTINE] = k->w.cfg.timeout_s[FS_QUARANTINE] = quarantine_s;
	k->sh->cfg.max_per_site = k->w.cfg.max_per_site = max_per_site;
	fs_reconfigure(k->w.fs, &k->w.cfg);
}

/* Would a flow with this reply tuple have to end? */
static inline bool unfit(const struct fs_config *c, const struct tuple *orig, const struct tuple *reply)
{
	bool v6 = !addr_is4(&orig->src);
	struct addr_range mine = addr_range_of_hosts(v6 ? &c->pool6 : &c->pool4);
	if (c->nat == FS_NAT_POOL)
		return !addr_range_has(&c->nat_pool[v6], &reply->dst);
	return !addr_eq(&orig->src, &reply->dst) && !addr_range_has(&mine, &reply->dst);
}

/* Another NAT, which the judge will begin with, too: what does not fit it ends now, or at his start. */
static inline void work_nat(struct worker *k, enum fs_nat nat, uint8_t addresses)
{
	struct fs_config *c = &k->w.cfg;
	/* To or from the kernel's: all flows end, and what is closed is so in a way that says nothing now. */
	bool other_mask = (c->nat == FS_NAT_KERNEL) != (nat == FS_NAT_KERNEL);
	c->nat = nat;
	c->nat_pool[0] = (struct addr_range){ip("203.0.113.200"), ip("203.0.113.200")};
	c->nat_pool[1] = (struct addr_range){ip("2001:db8:9::1"), ip("2001:db8:9::1")};
	for (int v6 = 0; v6 < 2; v6++)
		c->nat_pool[v6].last.b[15] = (uint8_t)(c->nat_pool[v6].last.b[15] + addresses);
	for (int site = 0; site < SITES; site++) {
		for (unsigned n = 0; n < TUPLES; n++) {
			struct pledge *p = &k->sh->pledge[site][n];
			struct tuple t = any_of(n);
			if (p->promise != NONE && (other_mask || unfit(c, &t, &p->reply)))
				IN_ORDER(p->promise = DOUBTFUL);
		}
	}
	for (unsigned i = 0; other_mask && i < GRANTS; i++)
		k->sh->grant[i].closed_ms = 0;
	IN_ORDER(k->sh->cfg = *c);
	fs_reconfigure(k->w.fs, c);
	for (int site = 0; site < SITES; site++) {
		for (unsigned n = 0; n < TUPLES; n++) {
			if (k->sh->pledge[site][n].promise != DOUBTFUL)
				continue;
			if (find(&k->w, site_id(&k->w, site), any_of(n)).flow != FS_NONE)
				work_fails(k, "a flow has not ended that does not fit the NAT");
			if (other_mask)
				IN_ORDER(k->sh->pledge[site][n].promise = NONE);
			else
				over(k, site, n);
			k->sh->other_nat++;
		}
	}
}

/* A tunnel (of site a: via), a site (via -1) or the egress (site -1) goes, and comes back as another one. Its flows' reply
 * tuples are closed from when the sweep comes by: later than now. */
static inline void work_unbind(struct worker *k, int site, int via)
{
	for (int s = 0; s < SITES; s++) {
		for (unsigned n = 0; n < TUPLES; n++) {
			struct pledge *p = &k->sh->pledge[s][n];
			if (p->promise != NONE && (site < 0 || (s == site && (via < 0 || p->via == via))))
				IN_ORDER(p->promise = DOUBTFUL);
		}
	}
	fs_unbind(k->w.fs, site < 0  ? k->w.egress
			   : via < 0 ? site_id(&k->w, site)
				     : way_id(&k->w, site, via));
	work_bind(k);
	for (int s = 0; s < SITES; s++) {
		for (unsigned n = 0; n < TUPLES; n++) {
			if (k->sh->pledge[s][n].promise == DOUBTFUL)
				IN_ORDER(k->sh->pledge[s][n].promise = NONE);
		}
	}
}

/* ---- the judge ----------------------------------------------------------------------------------------------- */

static inline void judge_record(struct world *w, struct shared *sh, const struct fs_info *info)
{
	const char *site_name = fs_name(w->fs, info->half[0].realm), *way = fs_name(w->fs, info->half[0].via);
	int site = site_name[0] - 'a';
	struct pledge *p = &sh->pledge[site != 0][number_of(&info->half[0].t)];
	struct grant *g = grant_of(sh, &info->half[1].t, info->half[1].realm);
	assert_in_range(site, 0, 1);
	assert_int_equal(site_name[1], 0);
	assert_int_equal(way[0], site_name[0]);
	assert_string_equal(fs_name(w->fs, info->half[1].realm), "default");
	assert_string_equal(fs_name(w->fs, info->half[1].via), "default");

	/* Its reply tuple was given to the site, or is just being given to it. */
	bool given = g->realm && g->site == site, beginning = p->promise == DOUBTFUL && sh->begins == site;
	if (!given && (!beginning || info->state == FS_QUARANTINE || (g->realm && g->closed_ms > w->now)))
		fail_msg("a record of site %s has a reply tuple that it never was given", site_name);
	/* Nothing of what its record held before is left. */
	if (!given) {
		assert_int_equal(info->seen_ms, w->now / UNIT_MS * UNIT_MS);
		assert_int_equal(info->created_ms, info->seen_ms);
		assert_int_equal(info->packets[0] + info->packets[1], 0);
	}
}

/* A flow that ends right now is closed to others from now on, not from when it was last heard of. */
static inline void judge_end(struct world *w, struct shared *sh, const struct fs_info *info)
{
	const struct pledge *p =
		&sh->pledge[fs_name(w->fs, info->half[0].realm)[0] - 'a'][number_of(&info->half[0].t)];
	if (info->state == FS_QUARANTINE && p->promise == DOUBTFUL && sh->begins < 0 &&
		info->half[1].realm == sh->egress &&
		memcmp(&p->reply, &info->half[1].t, sizeof(p->reply)) == 0)
		assert_true(info->expires_ms > w->now);
}

/* Every flow that was promised is there, for its site, by both of its tuples. */
static inline void judge_promises(struct world *w, struct shared *sh)
{
	for (int site = 0; site < SITES; site++) {
		for (unsigned n = 0; n < TUPLES; n++) {
			struct pledge *p = &sh->pledge[site][n];
			struct fs_hit there = find(w, site_id(w, site), any_of(n));
			if (p->promise == NONE && there.flow != FS_NONE)
				fail_msg("a flow is there that had ended");
			if (p->promise < BEGUN)
				continue;
			struct fs_hit back = find(w, w->egress, p->reply);
			bool overdue = p->seen_ms + SOONEST_MS <= w->now;
			if (there.flow == FS_NONE && sh->ticks && overdue)
				continue;
			if (there.flow == FS_NONE)
				fail_msg("a flow is lost that %s",
					p->promise == PASSED ? "passed a packet" : "was begun");
			assert_int_equal(there.dir, FS_ORIG);
			assert_tuple(half(w, there.flow, FS_REPLY), p->reply);
			struct fs_half h;
			fs_half(w->fs, there.flow, FS_ORIG, &h);
			int via = fs_name(w->fs, h.via)[1] - '1';
			assert_true(via == p->via || via == p->moves_to);
			assert_int_equal(back.flow, there.flow);
			assert_int_equal(back.dir, FS_REPLY);
		}
	}
}

/* What is closed to others is held by the site that it is open to, or its record made room and the filters know of it. */
static inline void judge_closed(struct world *w, struct shared *sh)
{
	for (unsigned i = 0; i < GRANTS; i++) {
		const struct grant *g = &sh->grant[i];
		if (!g->realm || g->closed_ms <= w->now || sh->begins == g->site)
			continue;
		struct place p;
		lookup_aim(w->fs, &p, FS_SLOT(g->realm), &g->reply, w->fs->masks);
		lookup(w->fs, &p);
		if (translate_closed(w->fs, &p, FS_SLOT(site_id(w, !g->site))))
			continue;
		if (p.ref == REF_NONE)
			fail_msg("a reply tuple is open again before its time");
		assert_string_equal(
			fs_name(w->fs, names_id(&w->fs->names, head_of(w->fs, REF_RECORD(p.ref))->realm[0])),
			g->site ? "b" : "a");
	}
}

/* Opens the file that a worker left, with room for max flows, and judges it; w stays open, with its names bound. */
static inline void judge(struct world *w, struct shared *sh, const char *file, uint32_t max)
{
	uint32_t cursor = 0, flow;
	struct fs_info info;
	*w = (struct world){.cfg = sh->cfg, .now = sh->now};
	w->cfg.path = file;
	w->cfg.max = max;
	world_open(w);
	if (sh->opens) {
		assert_int_equal(w->rep.flows, 0);
		if (w->rep.kind == FS_OPEN_REFUSED)
			assert_true(strstr(w->rep.why, "not finished") || strstr(w->rep.why, "not a flow") ||
				    strstr(w->rep.why, "version") || strstr(w->rep.why, "layout") ||
				    strstr(w->rep.why, "damaged") || strstr(w->rep.why, "boot"));
		return;
	}
	if (w->rep.kind != FS_OPEN_ADOPTED)
		fail_msg("%s", w->rep.why);
	assert_true(w->rep.torn <= 1);
	check(w);
	while (fs_next(w->fs, &cursor, UINT32_MAX, &flow, &info) == 1) {
		judge_record(w, sh, &info);
		judge_end(w, sh, &info);
	}
	bind_all(w);
	fs_unbind_rest(w->fs);
	judge_promises(w, sh);
	judge_closed(w, sh);
	check(w);
}

#endif
