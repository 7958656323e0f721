/* SPDX-License-Identifier: GPL-2.0-or-later */
/* translate.c - the reply tuple of a new flow: one that nobody else has.
 *
 * By default it is the original tuple turned round: the other side sees source address and port as the branch
 * sent them. Only when another site holds that tuple (or READDRESS forbids it) is another one chosen:
 *
 *   1. another source port, random ones until one is free (RFC 6056 3.3.2); for ICMP echo another id;
 *   2. another source address from the overlap pool, with the own port if that is free there, else with
 *      others. The search begins at an address that depends on realm and source alone, so that a host keeps
 *      its address over its flows (RFC 4787 REQ-2, "paired") as long as it is free.
 *
 * By an egress whose NAT is ours, the source address is always one of the NAT's: the first to be tried is the same for
 * all hosts of a site (so each is paired), the own port is kept where it is free there (which keeps what the host did
 * for its ports to be random, RFC 6056 4), else another one as above. What has no ports gets no more addresses for a site
 * than its share, toward one destination.
 *
 * By one where the kernel masquerades, all sources become one address, and whoever answers sees nothing of a flow but its
 * port. So no two may have the same, whatever their sources are, and a port in quarantine is closed to other sites' hosts
 * as an address and port are elsewhere ("masked", state.h). Source addresses stay; the kernel, which finds each port free,
 * keeps it. Only what it would not keep gets another one here already: low ports, and that of its own NAT traversal
 * (RFC 3948). What has no ports it could not tell apart, and would drop the second of two without a word: that one is refused
 * here, by name.
 *
 * Every search is bounded, so there may be no tuple found though there is one.
 *
 * With several shards only those tuples may be taken whose packets will come to ours.
 */
#include "flowstate/closed.h"
#include "flowstate/state.h"

#include <string.h>

#define PORT_TRIES           128u /* for one address, of tuples in our shard */
#define ADDRESS_TRIES        64u
#define PORTS_A_POOL_ADDRESS 8u
#define PORT_LOW             1024u
#define PORT_IPSEC_NAT_T     4500u
#define PORT_HIGH            65535u

static uint64_t random_word(struct flowstate *fs)
{
	uint64_t w[2] = {fs->random_count++, SIP_LAST(0, 8)};
	return sip_words(&fs->random_key, w, 2);
}

/* Uniform enough below n, for n far below 2^32. */
static uint32_t random_below(struct flowstate *fs, uint32_t n)
{
	return (uint32_t)((random_word(fs) >> 32) * n >> 32);
}

/* ---- shards ------------------------------------------------------------------------------------------- */

static uint16_t shard_of(const struct sip_key *key, const struct tuple *t, uint16_t nshards)
{
	/* Both directions to one shard: the two ends in the order of their octets. */
	struct {
		struct addr a;
		uint16_t port, zero[3];
	} end[2] = {{.a = t->src, .port = t->sport}, {.a = t->dst, .port = t->dport}};
	int first = memcmp(&end[0], &end[1], sizeof(end[0])) > 0;
	uint64_t w[7];
	memcpy(w, &end[first], sizeof(end[0]));
	memcpy(w + 3, &end[!first], sizeof(end[0]));
	w[6] = SIP_LAST(t->proto, 49);
	return (uint16_t)((sip_words(key, w, 7) >> 32) * nshards >> 32);
}

uint16_t fs_shard_of(const uint8_t shard_key[16], uint16_t nshards, const struct tuple *t)
{
	struct sip_key key;
	if (nshards < 2)
		return 0;
	sip_key_from(&key, shard_key);
	return shard_of(&key, t, nshards);
}

/* masked: besides, no other shard may choose it for another source. */
static bool in_our_shard(const struct flowstate *fs, const struct tuple *t, bool masked)
{
	struct tuple m = *t;
	if (fs->nshards < 2)
		return true;
	m.dst = (struct addr){};
	return shard_of(&fs->shard_key, t, fs->nshards) == fs->shard &&
	       (!masked || shard_of(&fs->shard_key, &m, fs->nshards) == fs->shard);
}

/* ---- who holds a tuple --------------------------------------------------------------------------------- */

bool translate_closed(const struct flowstate *fs, const struct place *p, uint16_t other)
{
	fs_id to = names_id(&fs->names, other);

	if (p->ref != REF_NONE)
		return false;
	/* Either may have been closed by the one or the other. */
	return !closed_none(&fs->arena) &&
	       (closed_to(&fs->arena, lookup_closed_hash(fs, p->realm, &p->t, false), to) ||
		       closed_to(&fs->arena, lookup_closed_hash(fs, p->realm, &p->t, true), to));
}

/* May it be had, as far as p->ref is concerned? */
static bool gives_way(struct flowstate *fs, struct place *p, uint16_t other)
{
	if (p->ref == REF_NONE)
		return true;
	uint32_t i = REF_RECORD(p->ref);
	const struct flow_head *h = head_of(fs, i);
	enum fs_dir dir = REF_DIR(p->ref);
	if (is_live(h)) {
		/* A flow whose tunnel was removed, and which the sweep has not reached yet. */
		if (!names_gone(&fs->names, h))
			return false;
		expire_end(fs, i, FS_END_REMOVED);
		if (h->state == FS_FREE || !record_closes(fs, h, dir)) {
			p->ref = REF_NONE;
			return true;
		}
	}
	/* What a site has in quarantine is closed to others, not to itself. */
	return h->realm[!dir] == other;
}

bool translate_free(struct flowstate *fs, struct place *p, uint16_t other)
{
	lookup(fs, p);
	uint32_t across = lookup_across(fs, p);
	bool alike = across != REF_NONE && !place_is(fs, p, across);
	if (p->ref == REF_NONE && !alike) {
		p->ref = across;
		across = REF_NONE;
	}
	if (!gives_way(fs, p, other))
		return false;
	/* What begins outside may be a late answer to another host of who has, or had, that port: with his own site it may. */
	if (across == REF_NONE || (alike && head_of(fs, REF_RECORD(across))->realm[FS_ORIG] == other))
		return true;
	/* One may make way for a flow, not two. */
	p->ref = across;
	return false;
}

struct search {
	struct flowstate *fs;
	const struct place *orig;
	struct place *reply;
	bool own_only; /* only what the site holds in quarantine itself */
};

/* May the new flow have the place that the reply is aimed at? */
static bool aimed_free(struct search *s)
{
	/* Within one realm (a packet from a site to itself) the two halves must differ, too. */
	if (s->orig->realm == s->reply->realm && memcmp(&s->orig->t, &s->reply->t, sizeof(s->reply->t)) == 0)
		return false;
	return translate_free(s->fs, s->reply, s->orig->realm) &&
	       !translate_closed(s->fs, s->reply, s->orig->realm) &&
	       (!s->own_only || s->reply->ref != REF_NONE);
}

/* Would the kernel's masquerade keep the port? It takes care of those below 1024 by itself, and has few of them. */
static bool port_stays(const struct tuple *t)
{
	uint16_t port = ntohs(t->dport);
	return !proto_has_ports(t->proto) ||
	       (port >= PORT_LOW && !(t->proto == IPPROTO_UDP && port == PORT_IPSEC_NAT_T));
}

static bool may_be_given(const struct search *s, const struct tuple *t)
{
	bool masked = s->reply->masked;
	return (!masked || port_stays(t)) && in_our_shard(s->fs, t, masked);
}

/* Aims the reply's place at the candidate, which is ours if it is free. */
static bool candidate_free(struct search *s, const struct tuple *t)
{
	s->reply->ref = REF_NONE; /* nobody here holds it */
	if (!may_be_given(s, t))
		return false;
	lookup_aim(s->fs, s->reply, s->reply->realm, t, s->reply->masked);
	return aimed_free(s);
}

static bool natural_free(struct search *s)
{
	return may_be_given(s, &s->reply->t) && aimed_free(s);
}

/* ---- ports and addresses ------------------------------------------------------------------------------- */

/* The range of source ports (or ids) to choose from; false: there is nothing to choose. */
static bool port_range(const struct tuple *orig, uint32_t *low, uint32_t *count)
{
	if (proto_has_ports(orig->proto)) {
		*low = PORT_LOW;
		*count = PORT_HIGH - PORT_LOW + 1;
		return true;
	}
	switch (orig->proto) {
	case IPPROTO_ICMP:
	case IPPROTO_ICMPV6:
		/* Not 0: with it a request's tuple is that of a reply (addr.h). */
		*low = 1;
		*count = 65535;
		return orig->dport == 0; /* the id of a request; that of a reply is its receiver's */
	default:
		return false;
	}
}

static bool other_port(struct search *s, struct tuple *t, uint32_t tries)
{
	uint32_t low, count;
	if (!port_range(&s->orig->t, &low, &count))
		return false;
	/* A new number for each try: from one onwards, what was taken before would grow into runs with no room in them. */
	tries *= s->fs->nshards * (s->reply->masked ? s->fs->nshards : 1u);
	for (; tries; tries--) {
		t->dport = htons((uint16_t)(low + random_below(s->fs, count)));
		if (candidate_free(s, t))
			return true;
	}
	return false;
}

#define OWN_LOOKED_AT 64u

/* One that the site has in quarantine towards the same destination, of the oldest of its quarantine. */
static bool own_port(struct search *s, struct tuple *t)
{
	struct flowstate *fs = s->fs;
	const struct tuple *orig = &s->orig->t;
	const struct pressure *p = &fs->pressure;
	uint32_t at = p->of[s->orig->realm][QUEUE_QUARANTINED].first;

	for (unsigned k = 0; at && k < OWN_LOOKED_AT; at = p->link[at - 1].next, k++) {
		const struct flow_head *h = head_of(fs, at - 1);
		if (h->realm[FS_REPLY] != s->reply->realm || h->proto != orig->proto ||
			h->port[1] != orig->dport || !addr_eq(&h->addr[1], &orig->dst))
			continue;
		if (!s->reply->masked && !addr_range_has(&fs->nat_pool[!addr_is4(&orig->src)], &h->addr[2]))
			continue; /* of a NAT before */
		t->dst = s->reply->masked ? orig->src : h->addr[2];
		t->dport = h->port[2];
		if (candidate_free(s, t))
			return true;
	}
	return false;
}

/* ---- what an egress's NAT can tell apart ---------------------------------------------------------------- */

bool translate_crowded(const struct flowstate *fs, const struct flow_head *h, struct crowd_at *at)
{
	if (!names_outward(&fs->names, h))
		return false;
	if (!proto_has_ports(h->proto) && h->proto != IPPROTO_ICMP && h->proto != IPPROTO_ICMPV6)
		return false;
	*at = crowd_at(&fs->pool_key, &h->addr[1], h->port[1], h->proto, h->realm[FS_ORIG]);
	return true;
}

static uint64_t share_of(const struct flowstate *fs, uint64_t n)
{
	n = n / 100 * fs->nat_share + n % 100 * fs->nat_share / 100;
	return n ? n : 1;
}

/* A sixteenth of the ports is left to the machine's own connections. */
static enum drop crowd_check(const struct flowstate *fs, const struct flow_head *h)
{
	uint32_t most = PORT_HIGH - PORT_LOW + 1;
	struct crowd_at at;

	if (!translate_crowded(fs, h, &at))
		return DROP_NONE;
	most -= most / 16;
	if (fs->crowd.all[at.all] >= most)
		return DROP_NAT_EXHAUSTED;
	return fs->crowd.site[at.site] >= share_of(fs, most) ? DROP_NAT_SITE_LIMIT : DROP_NONE;
}

/* Which ports towards a destination a site gets, of those that this many addresses have. Those in quarantine are as good as used,
 * for others: who has its share of all gets only what it has there itself, if anything; and where most are used it gets that
 * before free ones. */
enum use { ANY_PORT, OWN_FIRST, OWN_ONLY, NO_PORT };

static enum use use_of(const struct flowstate *fs, const struct flow_head *h, uint64_t addresses)
{
	uint64_t ports = (PORT_HIGH - PORT_LOW + 1) * (addresses < 65536 ? addresses : 65536);
	struct crowd_at at;

	if (!translate_crowded(fs, h, &at))
		return ANY_PORT;
	uint32_t held = fs->crowd.held[at.site], live = fs->crowd.site[at.site];
	if (held >= share_of(fs, ports))
		return held > live ? OWN_ONLY : NO_PORT;
	return held > live && fs->crowd.all_held[at.all] >= ports / 2 ? OWN_FIRST : ANY_PORT;
}

bool translate_stale(const struct flowstate *fs, const struct flow_head *h)
{
	bool is6 = !addr_is4(&h->addr[2]);

	if (!names_outward(&fs->names, h))
		return false;
	if (fs->nat == FS_NAT_POOL)
		return !addr_range_has(&fs->nat_pool[is6], &h->addr[2]);
	return !addr_eq(&h->addr[0], &h->addr[2]) && !addr_range_has(&fs->overlap[is6], &h->addr[2]);
}

/* ---- addresses ------------------------------------------------------------------------------------------ */

/* Which addresses of a range to try: of the first count, from number at on; and how many of them the own site may have,
 * where there are no ports; 0: all. */
struct addresses {
	const struct addr_range *range;
	uint64_t count, at, own;
	bool another; /* not the one that it has: a site may use the pool's addresses itself */
};

/* Returns DROP_NONE, DROP_NAT_SITE_LIMIT, or DROP_NAT_EXHAUSTED. */
static enum drop other_address(struct search *s, struct tuple *t, const struct addresses *a)
{
	struct flowstate *fs = s->fs;
	const struct tuple *orig = &s->orig->t;
	struct addr found = {};
	uint32_t low, ports, tries = ADDRESS_TRIES;
	bool has_ports = port_range(orig, &low, &ports);
	uint64_t own = 0;

	if (!has_ports)
		tries *= fs->nshards;
	for (uint64_t i = 0, at = a->at; i < tries && i < a->count;
		i++, at = at + 1 == a->count ? 0 : at + 1) {
		t->dst = addr_range_at(a->range, at);
		if (a->another && addr_eq(&t->dst, &orig->src))
			continue;
		t->dport = orig->sport;
		if (candidate_free(s, t) ||
			(has_ports && other_port(s, t, i ? PORTS_A_POOL_ADDRESS : PORT_TRIES))) {
			if (has_ports || !a->own)
				return DROP_NONE;
			/* Those that the site has already may lie behind it. */
			if (addr_is_none(&found))
				found = t->dst;
			continue;
		}
		if (has_ports || s->reply->ref == REF_NONE)
			continue;
		own += head_of(fs, REF_RECORD(s->reply->ref))->realm[FS_ORIG] == s->orig->realm;
		if (a->own && own == a->own)
			return DROP_NAT_SITE_LIMIT;
	}
	t->dst = found;
	return !addr_is_none(&found) && candidate_free(s, t) ? DROP_NONE : DROP_NAT_EXHAUSTED;
}

/* A number that stays the same for one host, or one site. */
static uint64_t place_of(const struct flowstate *fs, const struct addr *host, uint16_t realm)
{
	uint64_t w[3];
	memcpy(w, host, 16);
	w[2] = SIP_LAST(realm, 18);
	return sip_words(&fs->pool_key, w, 3);
}

static bool from_overlap_pool(struct search *s, struct tuple *t)
{
	struct flowstate *fs = s->fs;
	const struct tuple *orig = &s->orig->t;
	struct addresses a = {.range = &fs->overlap[!addr_is4(&orig->src)], .another = true};

	a.count = addr_range_count(a.range);
	if (addr_is_none(&a.range->first))
		return false;
	a.at = place_of(fs, &orig->src, s->orig->realm) % a.count;
	return other_address(s, t, &a) == DROP_NONE;
}

static enum drop from_nat_pool(struct search *s, const struct flow_head *h, struct tuple *t)
{
	static const struct addr nobody = {};
	struct flowstate *fs = s->fs;
	struct addresses a = {.range = &fs->nat_pool[!addr_is4(&s->orig->t.src)]};

	a.count = addr_range_count(a.range);
	if (!a.count)
		return DROP_NAT_FAMILY;
	a.at = place_of(fs, &nobody, s->orig->realm) % a.count;
	a.own = share_of(fs, a.count);
	enum use use = use_of(fs, h, a.count);
	if (use == NO_PORT)
		return DROP_NAT_SITE_LIMIT;
	if (use != ANY_PORT && own_port(s, t))
		return DROP_NONE;
	s->own_only = use == OWN_ONLY;
	enum drop d = other_address(s, t, &a);
	return d && s->own_only ? DROP_NAT_SITE_LIMIT : d;
}

enum drop translate_choose(struct flowstate *fs, const struct flow_head *h, const struct place *orig,
	bool readdress, struct place *reply)
{
	struct search s = {.fs = fs, .orig = orig, .reply = reply};
	const struct tuple natural = reply->t;
	struct tuple t = natural;
	enum use use = ANY_PORT;

	if (names_outward(&fs->names, h) && fs->nat == FS_NAT_POOL)
		return from_nat_pool(&s, h, &t);
	if (reply->masked) {
		enum drop d = crowd_check(fs, h);
		if (d)
			return d;
		use = use_of(fs, h, 1);
		if (use == NO_PORT)
			return DROP_NAT_SITE_LIMIT;
	}
	if (use != ANY_PORT && !readdress) {
		s.own_only = true;
		if (own_port(&s, &t) || candidate_free(&s, &natural) || other_port(&s, &t, PORT_TRIES))
			return DROP_NONE;
		if (use == OWN_ONLY)
			return DROP_NAT_SITE_LIMIT;
		lookup_aim(fs, reply, reply->realm, &natural, true);
	}
	s.own_only = use == OWN_ONLY;
	if (!readdress && (natural_free(&s) || other_port(&s, &t, PORT_TRIES)))
		return DROP_NONE;
	/* Another address makes no difference to who sees none. */
	if ((readdress || !reply->masked) && from_overlap_pool(&s, &t))
		return DROP_NONE;
	if (!reply->masked || (readdress && addr_is_none(&fs->overlap[!addr_is4(&orig->t.src)].first)))
		return DROP_TUPLE_COLLISION;
	return s.own_only ? DROP_NAT_SITE_LIMIT : DROP_NAT_EXHAUSTED;
}
