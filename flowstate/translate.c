/* SPDX-License-Identifier: GPL-2.0-or-later */
/* translate.c - the reply tuple of a new flow: one that nobody else has.
 *
 * By default it is the original tuple turned round: the other side sees source address and port as the branch
 * sent them. Only when another site holds that tuple (or READDRESS forbids it) is another one chosen:
 *
 *   1. another source port, from a random one upwards (RFC 6056 3.3.1); for ICMP echo another id;
 *   2. another source address from the overlap pool, with the own port if that is free there, else with
 *      others. The search begins at an address that depends on realm and source alone, so that a host keeps
 *      its address over its flows (RFC 4787 REQ-2, "paired") as long as it is free.
 *
 * Every search is bounded, so there may be no tuple found though there is one.
 *
 * With several shards only those tuples may be taken whose packets will come to ours.
 */
#include "flowstate/state.h"

#include <string.h>

#define PORT_TRIES           128u /* for one address, of tuples in our shard */
#define ADDRESS_TRIES        64u
#define PORTS_A_POOL_ADDRESS 8u
#define PORT_LOW             1024u
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

static bool in_our_shard(const struct flowstate *fs, const struct tuple *t)
{
	return fs->nshards < 2 || shard_of(&fs->shard_key, t, fs->nshards) == fs->shard;
}

/* ---- who holds a tuple --------------------------------------------------------------------------------- */

bool translate_free(struct flowstate *fs, struct place *p, uint16_t other)
{
	lookup(fs, p);
	if (p->ref == REF_NONE)
		return true;
	uint32_t i = REF_RECORD(p->ref);
	const struct flow_head *h = head_of(fs, i);
	if (is_live(h)) {
		/* A flow whose tunnel was removed, and which the sweep has not reached yet. */
		if (!names_gone(&fs->names, h))
			return false;
		enum fs_dir dir = REF_DIR(p->ref);
		expire_end(fs, i, true);
		if (dir == FS_ORIG || h->state == FS_FREE) {
			p->ref = REF_NONE;
			return true;
		}
	}
	/* What a site has in quarantine is closed to others, not to itself. */
	return h->realm[FS_ORIG] == other;
}

struct search {
	struct flowstate *fs;
	const struct place *orig;
	struct place *reply;
};

/* May the new flow have the place that the reply is aimed at? */
static bool aimed_free(struct search *s)
{
	/* Within one realm (a packet from a site to itself) the two halves must differ, too. */
	if (s->orig->realm == s->reply->realm && memcmp(&s->orig->t, &s->reply->t, sizeof(s->reply->t)) == 0)
		return false;
	return translate_free(s->fs, s->reply, s->orig->realm);
}

/* Aims the reply's place at the candidate, which is ours if it is free. */
static bool candidate_free(struct search *s, const struct tuple *t)
{
	if (!in_our_shard(s->fs, t))
		return false;
	lookup_aim(s->fs, s->reply, s->reply->realm, t);
	return aimed_free(s);
}

static bool natural_free(struct search *s)
{
	return in_our_shard(s->fs, &s->reply->t) && aimed_free(s);
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
	uint32_t at = random_below(s->fs, count);
	tries *= s->fs->nshards;
	for (uint32_t i = 0; i < tries; i++, at = at + 1 == count ? 0 : at + 1) {
		t->dport = htons((uint16_t)(low + at));
		if (candidate_free(s, t))
			return true;
	}
	return false;
}

/* Address number n of a pool: its host part. A pool has at most 2^64 addresses worth speaking of. */
static struct addr pool_address(const struct prefix *pool, uint64_t n)
{
	struct addr a = pool->a;
	for (int octet = 15, bits = 128 - pool->len; bits > 0 && octet > 7; octet--, bits -= 8, n >>= 8)
		a.b[octet] |= (uint8_t)(n & (bits < 8 ? (1u << bits) - 1 : 0xff));
	return a;
}

static bool other_address(struct search *s, struct tuple *t)
{
	struct flowstate *fs = s->fs;
	const struct tuple *orig = &s->orig->t;
	const struct prefix *pool = &fs->pool[!addr_is4(&orig->src)];
	if (addr_is_none(&pool->a))
		return false;
	/* Usable host parts: without the lowest (the network, the subnet-router anycast address of RFC 4291
	 * 2.6.1) and the highest (broadcast), where there are enough. */
	int bits = 128 - pool->len;
	uint64_t highest = bits >= 64 ? UINT64_MAX : ((uint64_t)1 << bits) - 1;
	uint64_t first = highest > 2 ? 1 : 0, count = highest > 2 ? highest - 1 : highest + 1;

	uint64_t w[3];
	memcpy(w, &orig->src, 16);
	w[2] = SIP_LAST(s->orig->realm, 18);
	uint64_t at = sip_words(&fs->pool_key, w, 3) % count;
	uint32_t low, ports, tries = ADDRESS_TRIES;
	bool has_ports = port_range(orig, &low, &ports);
	if (!has_ports)
		tries *= fs->nshards;
	for (uint32_t i = 0; i < tries && i < count; i++, at = at + 1 == count ? 0 : at + 1) {
		t->dst = pool_address(pool, first + at);
		if (addr_eq(&t->dst,
			    &orig->src)) /* the one that it has: a site may use the pool's addresses itself */
			continue;
		t->dport = orig->sport;
		if (candidate_free(s, t) || (has_ports && other_port(s, t, PORTS_A_POOL_ADDRESS)))
			return true;
	}
	return false;
}

bool translate_choose(struct flowstate *fs, const struct place *orig, bool readdress, struct place *reply)
{
	struct search s = {.fs = fs, .orig = orig, .reply = reply};
	struct tuple t = reply->t;
	if (!readdress && (natural_free(&s) || other_port(&s, &t, PORT_TRIES)))
		return true;
	return other_address(&s, &t);
}
