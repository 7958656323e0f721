/* SPDX-License-Identifier: GPL-2.0-or-later */
/* flowstate_model_test.c - the flow table against a naive one, over millions of random operations.
 *
 * The model is a list of records that is searched from end to end. Sites and egress use the same few addresses
 * and ports throughout, so that nearly every flow collides with another one. What the table decides freely
 * (which port or address a translation takes) the model does not predict: it checks that it was allowed to.
 *
 * ARRD_SEED repeats a run; it is printed when one fails.
 */
#include "test/unit/flowstate_model.h"

#include <time.h>

/* ---- evictions ------------------------------------------------------------------------------------------------ */

/* Who made room for a flow of the site, and whether he had to. before: records of the site. */
static void follow_evictions(struct model *m, unsigned s, unsigned site_uid, unsigned before)
{
	struct mevents *v = &m->events[s];
	for (unsigned k = 0; k < v->n; k++) {
		struct mrec *r = m->rec;
		while (!(r->used && !r->quarantined && r->shard == s && r->flow == v->e[k].flow))
			assert_true(++r < m->rec + SHARDS_MAX * FLOWS);
		bool own = site_of(r) == site_uid;
		m->evicted++;
		if (v->e[k].why == FS_END_SITE_LIMIT) {
			assert_true(own && v->e[k].unanswered);
			model_end(m, r);
			continue;
		}
		/* Its own answered flows a site does not end; another site's only from below, and only of one with more. */
		if (own)
			assert_true(v->e[k].unanswered);
		else
			assert_true(before < count(m, s, site_of(r), false));
		model_release(m, r);
	}
	v->n = 0;
}

/* ---- NAT ------------------------------------------------------------------------------------------------------ */

/* Is it refused because NAT has nothing for it? It must be, and must not be, by what is held. */
static bool refused_by_nat(struct model *m, unsigned s, enum mapping mapping, const struct tuple *t,
	bool readdress, unsigned ua, unsigned ub, enum drop d)
{
	const struct addr_range *pool = &m->pool[!addr_is4(&t->src)];
	uint64_t n = addr_range_count(pool), most = n * (m->share ? m->share : 100) / 100, own = 0;
	struct tuple reply = tuple_turned(t);
	bool certain = false, hope = false;
	if (mapping == MASKED && !readdress) {
		certain = is_free(m, s, &reply, true, ua, ub, false);
		hope = is_free(m, s, &reply, true, ua, ub, true);
	} else if (mapping == MASKED) {
		/* One of the overlap pool, if there is one of this shard: who has this address is not in its way. */
		enum fs_dir dir = FS_ORIG;
		bool two;
		const struct mrec *r = holder_of_reply(m, ub, &reply, true, &dir, &two);
		hope = !r || !is_masked(m, r, dir) || may_take(r, dir, ua);
	}
	for (uint64_t i = 0; mapping == POOLED && i < n; i++) {
		enum fs_dir dir = FS_ORIG;
		reply.dst = addr_range_at(pool, i);
		const struct mrec *r = holder(m, ub, &reply, &dir);
		own += r && r->shard == s && !r->quarantined && r->realm[FS_ORIG] == ua;
		certain |= is_free(m, s, &reply, false, ua, ub, false);
		hope |= is_free(m, s, &reply, false, ua, ub, true);
	}
	bool family = mapping == POOLED && !n,
	     limit = !has_choice(t) && mapping == POOLED && own >= (most ? most : 1);
	m->no_family += d == DROP_NAT_FAMILY;
	m->exhausted += d == DROP_NAT_EXHAUSTED;
	m->shared += d == DROP_NAT_SITE_LIMIT;
	if (family)
		assert_int_equal(d, DROP_NAT_FAMILY);
	else if (has_choice(t))
		assert_true(d == DROP_NONE || d == DROP_FLOW_TABLE_FULL);
	else if (limit)
		assert_int_equal(d, DROP_NAT_SITE_LIMIT);
	else if (certain)
		assert_true(d == DROP_NONE || d == DROP_FLOW_TABLE_FULL);
	else if (!hope)
		assert_int_equal(d, DROP_NAT_EXHAUSTED);
	return d == DROP_NAT_FAMILY || d == DROP_NAT_EXHAUSTED || d == DROP_NAT_SITE_LIMIT;
}

/* Another NAT, or other addresses: whatever has none of them ends. */
static void op_nat(struct model *m)
{
	enum fs_nat before = m->nat;
	m->nat = (enum fs_nat)rnd(m, 3);
	bool other_mask = (before == FS_NAT_KERNEL) != (m->nat == FS_NAT_KERNEL);
	m->share = rnd(m, 3) * 40;
	memset(m->pool, 0, sizeof(m->pool));
	m->pool[0] = (struct addr_range){ip("203.0.113.1"), ip("203.0.113.1")};
	m->pool[0].last.b[15] += rnd(m, 4);
	if (rnd(m, 3)) {
		m->pool[1] = (struct addr_range){ip("2001:db8:5::1"), ip("2001:db8:5::1")};
		m->pool[1].last.b[15] += rnd(m, 4);
	}
	for (unsigned s = 0; s < m->nshards; s++) {
		struct world *w = &m->shard[s];
		w->cfg.nat = m->nat;
		w->cfg.nat_share = m->share;
		memcpy(w->cfg.nat_pool, m->pool, sizeof(m->pool));
		fs_reconfigure(w->fs, &w->cfg);
	}
	for (unsigned i = 0; i < SHARDS_MAX * FLOWS; i++) {
		struct mrec *r = &m->rec[i];
		bool v6 = !addr_is4(&r->t[1].dst);
		struct addr_range mine = overlap(m, v6);
		if (!r->used || !is_outward(r))
			continue;
		/* With another mask all of them; and what was not masked goes into the filters. */
		if (other_mask) {
			m->stale += !r->quarantined;
			if (!r->quarantined)
				model_end(m, r);
			if (m->nat == FS_NAT_KERNEL) {
				m->nat = before;
				model_release(m, r);
				m->nat = FS_NAT_KERNEL;
			}
			continue;
		}
		if (r->quarantined)
			continue;
		bool keeps = addr_eq(&r->t[0].src, &r->t[1].dst) || addr_range_has(&mine, &r->t[1].dst);
		if (m->nat == FS_NAT_POOL)
			keeps = addr_range_has(&m->pool[v6], &r->t[1].dst);
		if (keeps)
			continue;
		model_end(m, r);
		m->stale++;
	}
	if (other_mask)
		m->masks_since = units(m);
	m->nats++;
}

/* ---- beginnings ------------------------------------------------------------------------------------------------ */

static void op_begin(struct model *m)
{
	unsigned a = rnd(m, REALMS), b = rnd(m, REALMS), ka = rnd(m, WAYS), kb = rnd(m, WAYS);
	unsigned ua = m->realm[a].uid, ub = m->realm[b].uid;
	struct tuple t = rnd(m, 3) ? any_tuple(m) : likely_tuple(m), natural = tuple_turned(&t);
	unsigned s = shard_of_tuple(m, &t);
	struct flowstate *fs = m->shard[s].fs;
	struct fs_packet pk = packet(m->realm[a].id[s], m->way[a][ka].id[s], t, FLAG_SYN);
	unsigned flags = rnd(m, 20) == 0 ? FS_BEGIN_READDRESS : 0;
	struct fs_hit hit;
	enum fs_dir dir, dir2;

	struct mrec *old = holder(m, ua, &t, &dir);
	bool own_answer = ua == ub && memcmp(&t, &natural, sizeof(t)) == 0;
	unsigned records = count(m, s, 0, false), site_records;
	uint32_t quarantine = m->shard[s].cfg.timeout_s[FS_QUARANTINE] * UNITS_A_SECOND;
	unsigned site = a == EGRESS ? b : a;
	bool limited = m->limit && site != EGRESS && count(m, s, m->realm[site].uid, true) >= m->limit;
	site_records = count(m, s, m->realm[site].uid, false);
	enum drop d =
		fs_begin(fs, &pk, m->realm[b].id[s], m->way[b][kb].id[s], a == EGRESS, flags, m->now, &hit);
	if (old && old->dead) {
		/* It was ended on sight; the limit had counted it. */
		assert_int_equal(old->shard, s);
		model_end(m, old);
		limited = m->limit && site != EGRESS && count(m, s, m->realm[site].uid, true) >= m->limit;
		if (!holds(old, dir))
			old = NULL;
	}
	bool limit_made_room = m->events[s].n && m->events[s].e[0].why == FS_END_SITE_LIMIT;
	follow_evictions(m, s, m->realm[site].uid, site_records);
	follow_dead(m, s, old && !old->quarantined ? FS_NONE : hit.flow);
	if (old && !old->quarantined) {
		assert_int_equal(d, DROP_NONE);
		assert_int_equal(hit.flow, old->flow);
		assert_int_equal(hit.dir, dir);
		return;
	}
	assert_int_equal(hit.flow == FS_NONE, d != DROP_NONE);
	bool to_egress = a != EGRESS && b == EGRESS;
	if (!to_egress && d == DROP_TUPLE_COLLISION && closed_for(m, s, 0, 0, &t) < CLOSED_AT_MOST) {
		m->refused++;
		return;
	}
	assert_true(to_egress || d != DROP_NONE || (old && old->quarantined) ||
		    closed_for(m, s, ua, ub, &t) >= quarantine);
	bool settles = a == EGRESS && m->masks_since && units(m) - m->masks_since < 10 * UNITS_A_SECOND;
	if (!may_take(old, dir, ub) || settles || hidden_from(m, s, ua, &t, ub)) {
		assert_int_equal(d, DROP_TUPLE_COLLISION);
		m->refused++;
		return;
	}
	if (limited && !limit_made_room) {
		assert_int_equal(d, DROP_SITE_LIMIT);
		m->limited++;
		return;
	}
	bool behind_kernel = to_egress && m->nat == FS_NAT_KERNEL, two;
	struct mrec *old_reply = holder_of_reply(m, ub, &natural, behind_kernel, &dir2, &two);
	bool natural_free = !flags && !own_answer && may_take(old_reply, dir2, ua) && !two &&
			    (behind_kernel || !hidden_from(m, s, ub, &natural, ua)) &&
			    shard_allows(m, s, &natural, behind_kernel) && (!behind_kernel || port_stays(&t));
	bool known = closed_for(m, s, 0, 0, &natural) >= CLOSED_AT_MOST;
	enum mapping mapping = to_egress ? mapping_of(m, &t) : BY_CHANCE;
	if (mapping != BY_CHANCE && refused_by_nat(m, s, mapping, &t, flags, ua, ub, d))
		return;
	if (d == DROP_TUPLE_COLLISION) {
		/* Only where there is little to choose from; never where there are ports. */
		assert_false(natural_free && known);
		assert_int_equal(mapping, BY_CHANCE);
		assert_false(has_choice(&t));
		m->refused++;
		return;
	}
	if (d == DROP_FLOW_TABLE_FULL) {
		assert_int_equal(records, FLOWS);
		assert_true(!old || dir == FS_ORIG);
		assert_true(mapping != BY_CHANCE || !natural_free || !old_reply || dir2 == FS_ORIG);
		m->full++;
		return;
	}
	assert_int_equal(d, DROP_NONE);
	assert_int_equal(hit.dir, FS_ORIG);

	struct fs_half h[2];
	fs_half(fs, hit.flow, FS_ORIG, &h[0]);
	fs_half(fs, hit.flow, FS_REPLY, &h[1]);
	assert_tuple(h[0].t, t);
	assert_int_equal(h[0].realm, m->realm[a].id[s]);
	assert_int_equal(h[1].realm, m->realm[b].id[s]);
	assert_int_equal(h[0].via, m->way[a][ka].id[s]);
	assert_int_equal(h[1].via, m->way[b][kb].id[s]);
	assert_true(addr_eq(&h[1].t.src, &t.dst));
	assert_int_equal(h[1].t.sport, t.dport);
	assert_int_equal(h[1].t.proto, t.proto);
	assert_int_equal(shard_of_tuple(m, &h[1].t), s);
	bool same = memcmp(&h[1].t, &natural, sizeof(natural)) == 0;
	if (mapping == POOLED)
		assert_true(addr_range_has(&m->pool[!addr_is4(&t.src)], &h[1].t.dst));
	else if (mapping == MASKED)
		assert_int_equal(same, !flags);
	else if (known)
		assert_int_equal(same, natural_free);
	m->pooled += mapping == POOLED;
	m->masked += mapping == MASKED;
	assert_int_equal(fs_translated(fs, hit.flow), !same);
	if (behind_kernel)
		assert_true(port_stays(&(struct tuple){.proto = t.proto, .sport = h[1].t.dport}));
	old_reply = holder_of_reply(m, ub, &h[1].t, behind_kernel, &dir2, &two);
	assert_true(may_take(old_reply, dir2, ua) && !two);
	assert_true(old_reply || closed_for(m, s, ub, ua, &h[1].t) >= quarantine);
	/* Both make room; they may be the same record only if it held both tuples. */
	if (old && dir == FS_REPLY)
		old->used = false;
	if (old_reply && dir2 == FS_REPLY)
		old_reply->used = false;
	m->taken_again += old_reply != NULL;
	m->begun++;
	m->translated += !same;
	/* Whose record was it, if there was none left? */
	for (unsigned i = 0; i < SHARDS_MAX * FLOWS; i++) {
		struct mrec *r = &m->rec[i];
		if (!r->used || r->shard != s || r->flow != hit.flow)
			continue;
		assert_true(r->quarantined && records == FLOWS);
		model_release(m, r);
		m->released++;
	}
	if (old && dir == FS_ORIG)
		old->gave_way = true;
	if (old_reply && dir2 == FS_ORIG)
		old_reply->gave_way = true;

	struct mrec *r = m->rec;
	while (r->used)
		r++;
	*r = (struct mrec){.used = true,
		.shard = s,
		.flow = hit.flow,
		.t = {h[0].t, h[1].t},
		.realm = {ua, ub},
		.via = {m->way[a][ka].uid, m->way[b][kb].uid},
		.state = head_of(fs, hit.flow)->state,
		.seen = units(m)};
}

static void op_find(struct model *m)
{
	struct fs_key keys[100];
	struct fs_hit hits[100];
	unsigned n = 1 + rnd(m, rnd(m, 10) ? 10 : 100), s = rnd(m, m->nshards), realm[100];
	for (unsigned i = 0; i < n; i++) {
		realm[i] = rnd(m, REALMS);
		keys[i] = (struct fs_key){.t = likely_tuple(m), .realm = m->realm[realm[i]].id[s]};
	}
	fs_find(m->shard[s].fs, keys, n, hits);
	for (unsigned i = 0; i < n; i++) {
		enum fs_dir dir;
		const struct mrec *r = holder(m, m->realm[realm[i]].uid, &keys[i].t, &dir);
		if (!r || r->quarantined || r->dead || r->shard != s) {
			assert_int_equal(hits[i].flow, FS_NONE);
			continue;
		}
		assert_int_equal(hits[i].flow, r->flow);
		assert_int_equal(hits[i].dir, dir);
	}
}

static void op_pass(struct model *m)
{
	struct mrec *r = any_live(m);
	if (!r)
		return;
	static const uint8_t flags[] = {
		FLAG_SYN, FLAG_ACK, FLAG_SYN | FLAG_ACK, FLAG_FIN | FLAG_ACK, FLAG_RST, FLAG_ACK};
	struct flowstate *fs = m->shard[r->shard].fs;
	enum fs_dir dir = rnd(m, 2);
	unsigned realm = realm_of_uid(m, r->realm[dir]), via_realm = rnd(m, 10) ? realm : rnd(m, REALMS);
	unsigned packet_realm = rnd(m, 10) ? realm : rnd(m, REALMS), k = rnd(m, WAYS);
	assert_in_range(realm, 0, REALMS - 1);
	struct fs_packet pk = packet(m->realm[packet_realm].id[r->shard], m->way[via_realm][k].id[r->shard],
		r->t[dir], flags[rnd(m, sizeof(flags))]);
	bool fits = rnd(m, 4) > 0;
	if (fits)
		next_segment(&m->shard[r->shard], r->flow, dir, &pk);
	else
		pk.seq = pk.ack = rnd(m, UINT32_MAX);
	enum drop d = fs_pass(fs, (struct fs_hit){.flow = r->flow, .dir = dir}, &pk, m->now);
	if (packet_realm != realm || via_realm != realm) {
		assert_int_equal(d, DROP_OTHER_SITE);
		return;
	}
	/* Which segments fit is flowstate_tcp_test's affair: here, that those that do not have changed nothing. */
	if (d == DROP_TCP_WINDOW || d == DROP_TCP_UNPROVEN) {
		assert_int_equal(r->t[0].proto, IPPROTO_TCP);
		assert_int_equal(head_of(fs, r->flow)->state, r->state);
		m->outside++;
		return;
	}
	assert_int_equal(d, DROP_NONE);
	m->passed++;
	r->via[dir] = m->way[realm][k].uid;
	r->seen = units(m);
	r->state = head_of(fs, r->flow)->state;
	struct fs_half h;
	fs_half(fs, r->flow, dir, &h);
	assert_int_equal(h.via, m->way[realm][k].id[r->shard]);
}

static void op_end(struct model *m)
{
	struct mrec *r = any_live(m);
	if (!r)
		return;
	fs_end(m->shard[r->shard].fs, r->flow, m->now);
	model_end(m, r);
}

static void op_tick(struct model *m)
{
	bool thorough = rnd(m, 2);
	bool full[SHARDS_MAX];
	m->now += rnd(m, 5) ? rnd(m, 3000) : rnd(m, 200000);
	for (unsigned s = 0; s < m->nshards; s++)
		full[s] = m->shard[s].fs->pressure.adapts || count(m, s, 0, false) >= FLOWS * 3 / 4;
	for (unsigned s = 0; s < m->nshards; s++)
		fs_tick(m->shard[s].fs, m->now, thorough ? 100000 : rnd(m, 10));
	for (unsigned i = 0; i < SHARDS_MAX * FLOWS; i++) {
		struct mrec *r = &m->rec[i];
		if (!r->used)
			continue;
		const struct world *w = &m->shard[r->shard];
		enum fs_state now = head_of(w->fs, r->flow)->state;
		uint32_t due = r->seen + w->cfg.timeout_s[r->state] * UNITS_A_SECOND;
		bool ended = now != r->state;
		bool transient = r->state == FS_TCP_OPENING || r->state == FS_TCP_CLOSING ||
				 r->state == FS_TCP_RESET || r->state == FS_UDP_ONE_WAY ||
				 r->state == FS_ICMP_ECHO || r->state == FS_OTHER;
		uint32_t least = r->seen + w->cfg.timeout_s[r->state] * UNITS_A_SECOND * (FLOWS / 8) / FLOWS;
		bool shortened = full[r->shard] && transient && least <= units(m);
		if (ended && due > units(m) && !r->dead && !shortened)
			fail_msg("%s ended %u units early; full %d", fs_state_name(r->state), due - units(m),
				full[r->shard]);
		m->shortened += ended && due > units(m) && !r->dead;
		if (!ended && thorough)
			assert_true(due + 2 * UNITS_A_SECOND > units(m) && !r->dead);
		if (!ended)
			continue;
		assert_int_equal(now, r->quarantined ? FS_FREE : FS_QUARANTINE);
		if (r->quarantined)
			r->used = false;
		else
			model_end(m, r);
	}
}

/* A tunnel, or a whole realm, goes, and comes back under its name. */
static void op_unbind(struct model *m)
{
	unsigned r = rnd(m, REALMS), k = rnd(m, WAYS);
	bool whole = r == EGRESS || rnd(m, 3) == 0;
	for (unsigned s = 0; s < m->nshards; s++)
		fs_unbind(m->shard[s].fs, whole ? m->realm[r].id[s] : m->way[r][k].id[s]);
	for (unsigned i = 0; i < SHARDS_MAX * FLOWS; i++) {
		struct mrec *c = &m->rec[i];
		for (int d = 0; c->used && !c->quarantined && d < 2; d++)
			c->dead |= whole ? c->realm[d] == m->realm[r].uid : c->via[d] == m->way[r][k].uid;
	}
	if (whole)
		new_uids(m, r);
	else
		m->way[r][k].uid = ++m->uids * REALMS + r;
	for (unsigned s = 0; s < m->nshards; s++) {
		fs_id before = whole ? m->realm[r].id[s] : m->way[r][k].id[s];
		bind_realm(m, r, s);
		assert_int_not_equal(whole ? m->realm[r].id[s] : m->way[r][k].id[s], before);
	}
}

static void op_reopen(struct model *m)
{
	unsigned s = rnd(m, m->nshards);
	struct world *w = &m->shard[s];
	if (!w->cfg.path)
		return;
	struct mname realm[REALMS], way[REALMS][WAYS];
	memcpy(realm, m->realm, sizeof(realm));
	memcpy(way, m->way, sizeof(way));
	fs_close(w->fs);
	w->now = m->now;
	world_open(w);
	listen_to(m, s);
	assert_int_equal(w->rep.kind, FS_OPEN_ADOPTED);
	assert_int_equal(w->rep.torn, 0);
	assert_int_equal(w->rep.flows, count(m, s, 0, true));
	for (unsigned r = 0; r < REALMS; r++)
		bind_realm(m, r, s);
	fs_unbind_rest(w->fs);
	for (unsigned r = 0; r < REALMS; r++)
		fs_set_site_limit(w->fs, m->realm[r].id[s], m->limit);
	/* What gave way is closed again if nobody has it by now. */
	for (unsigned i = 0; i < SHARDS_MAX * FLOWS; i++)
		if (m->rec[i].used && m->rec[i].quarantined && m->rec[i].shard == s)
			m->rec[i].gave_way = !record_holds(w->fs, m->rec[i].flow, FS_ORIG);
	assert_memory_equal(realm, m->realm, sizeof(realm));
	assert_memory_equal(way, m->way, sizeof(way));
}

static void verify(struct model *m)
{
	for (unsigned s = 0; s < m->nshards; s++) {
		struct fs_stats st;
		const char *wrong = fs_check(m->shard[s].fs);
		if (wrong)
			fail_msg("%s", wrong);
		fs_get_stats(m->shard[s].fs, &st);
		assert_int_equal(st.used, count(m, s, 0, true));
		assert_int_equal(st.used + st.quarantined, count(m, s, 0, false));
		for (unsigned r = 0; r < SITES; r++)
			assert_int_equal(fs_site_flows(m->shard[s].fs, m->realm[r].id[s]),
				count(m, s, m->realm[r].uid, true));
	}
	/* Over all shards no tuple is held twice, by whoever. */
	for (unsigned i = 0; i < SHARDS_MAX * FLOWS; i++) {
		struct mrec *r = &m->rec[i];
		for (int d = 0; d < 2; d++) {
			enum fs_dir dir;
			bool two;
			if (!holds(r, d))
				continue;
			assert_ptr_equal(
				holder_of_reply(m, r->realm[d], &r->t[d], is_masked(m, r, d), &dir, &two), r);
			assert_int_equal(dir, d);
			assert_false(two);
		}
	}
}

static void run(unsigned nshards, const char *path, unsigned operations)
{
	struct model *m = calloc(1, sizeof(*m));
	char paths[SHARDS_MAX][64];
	const char *seed = getenv("ARRD_SEED");
	m->random = seed ? strtoull(seed, NULL, 0) : (uint64_t)time(NULL) * 0x9e3779b97f4a7c15 + nshards;
	print_message("ARRD_SEED=%#llx\n", (unsigned long long)m->random);
	m->nshards = nshards;
	m->now = 5000000;
	for (unsigned s = 0; s < nshards; s++) {
		struct world *w = &m->shard[s];
		snprintf(paths[s], sizeof(paths[s]), "%s.%d.%u", path ? path : "", (int)getpid(), s);
		w->cfg = config(path ? paths[s] : NULL, FLOWS);
		w->cfg.pool4 = net("100.64.0.0/29");
		w->cfg.nshards = (uint16_t)nshards;
		w->cfg.shard = (uint16_t)s;
		memcpy(w->cfg.shard_key, "shardshardshard", 16);
		w->now = m->now;
		world_open(w);
		listen_to(m, s);
		assert_int_equal(w->rep.kind, FS_OPEN_NEW);
	}
	for (unsigned r = 0; r < REALMS; r++) {
		new_uids(m, r);
		for (unsigned s = 0; s < nshards; s++)
			bind_realm(m, r, s);
	}
	for (unsigned s = 0; s < nshards; s++)
		fs_unbind_rest(m->shard[s].fs);
	for (unsigned i = 0; i < operations; i++) {
		unsigned what = rnd(m, 1000);
		if (what < 400)
			op_begin(m);
		else if (what < 600)
			op_find(m);
		else if (what < 800)
			op_pass(m);
		else if (what < 900)
			op_end(m);
		else if (what < 994)
			op_tick(m);
		else if (what < 996)
			op_unbind(m);
		else if (what < 998)
			op_nat(m);
		else
			op_reopen(m);
		if (i % 1000 == 0) {
			m->limit = rnd(m, 3) ? 0 : 10 + rnd(m, 30);
			verify(m);
		}
		/* After each unbind there are new ids, without the limit. */
		if (i % 1000 == 0 || what >= 994) {
			for (unsigned k = 0; k < SITES * nshards; k++)
				fs_set_site_limit(m->shard[k % nshards].fs,
					m->realm[k / nshards].id[k % nshards], m->limit);
		}
	}
	verify(m);
	print_message("begun %u, translated %u, taken again %u, refused %u, full %u, site limit %u\n",
		m->begun, m->translated, m->taken_again, m->refused, m->full, m->limited);
	print_message(
		"evicted %u, released %u, timeouts shortened %u\n", m->evicted, m->released, m->shortened);
	if (nshards == 1) /* with more they never fill */
		assert_true(m->evicted && m->released && m->shortened);
	print_message("%u changes of NAT, %u stale, %u of a pool, %u masked, %u of no family, %u "
		      "exhausted, "
		      "%u shares\n",
		m->nats, m->stale, m->pooled, m->masked, m->no_family, m->exhausted, m->shared);
	assert_true(m->stale && m->pooled && m->masked && m->no_family && m->exhausted);
	if (nshards == 1 && operations > 100000) /* else it is too rare to be relied on */
		assert_true(m->shared);
	assert_true(m->translated > m->begun / 20);
	assert_true(m->passed > 2 * m->outside && m->outside > 0);
	for (unsigned s = 0; s < nshards; s++) {
		fs_close(m->shard[s].fs);
		if (path)
			unlink(paths[s]);
	}
	free(m);
}

#define ARENA "/dev/shm/arrd-flowstate-model"

static void test_memory(void **state)
{
	(void)state;
	run(1, NULL, ROUNDS(450000));
}

static void test_file(void **state)
{
	(void)state;
	run(1, ARENA, ROUNDS(450000));
}

static void test_four_shards(void **state)
{
	(void)state;
	run(4, ARENA "4", ROUNDS(450000));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_memory),
		cmocka_unit_test(test_file),
		cmocka_unit_test(test_four_shards),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
