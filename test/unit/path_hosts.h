/* SPDX-License-Identifier: GPL-2.0-or-later */
/* path_hosts.h - hosts of five sites that use the same addresses, and a server behind the gateway, all of them naive: they
 * believe what comes, answer it, and check that it was meant for them.
 *
 *	a1, a2: A   b1: B, or E after a reload   c1: C, routes 10.9.0.0/16   d1: D, routes 10.8.0.0/16, replies by routes only
 */
#ifndef ARRD_TEST_PATH_HOSTS_H
#define ARRD_TEST_PATH_HOSTS_H

#define RIG_MORE D1,
#include "test/unit/path_model.h"

#define FLOWS         64u
#define QUARANTINE_MS 60000u
#define WIRE_MS       4000u /* no fragment is longer on its way behind the gateway */
#define SLACK_MS      200u  /* flows keep times in units of 100 ms */

/* What has to happen at least once, in runs of these kinds of NAT (a bit each). */
#define COUNTS(X)                                                                                            \
	X(FROM_TCP, "TCP left", 15)                                                                          \
	X(FROM_UDP, "UDP left", 15)                                                                          \
	X(FROM_ECHO, "echo left", 15)                                                                        \
	X(FROM_SCTP, "SCTP left", 15)                                                                        \
	X(FROM_PORTLESS, "without ports left", 15)                                                           \
	X(FROM_6, "IPv6 left", 15)                                                                           \
	X(FROM_PIECES, "datagrams of fragments left", 15)                                                    \
	X(BACK_TCP, "TCP came home", 15)                                                                     \
	X(BACK_UDP, "UDP came home", 15)                                                                     \
	X(BACK_ECHO, "echo came home", 15)                                                                   \
	X(BACK_SCTP, "SCTP came home", 15)                                                                   \
	X(BACK_PORTLESS, "without ports came home", 15)                                                      \
	X(BACK_6, "IPv6 came home", 15)                                                                      \
	X(BACK_PIECES, "datagrams of fragments came home", 15)                                               \
	X(BACK_DATA, "TCP data came home", 15)                                                               \
	X(TRANSLATED, "source translated", 15)                                                               \
	X(NATURAL, "source as it was", 11)                                                                   \
	X(AGAIN, "tuple of another site after its quarantine", 15)                                           \
	X(BETWEEN, "site to site", 15)                                                                       \
	X(BETWEEN_BACK, "site to site, answers", 15)                                                         \
	X(BEGUN_OUTSIDE, "begun outside", 15)                                                                \
	X(BEGUN_OUTSIDE_BACK, "begun outside, answers", 15)                                                  \
	X(STRAY, "strays from outside", 15)                                                                  \
	X(LATE, "late answers", 15)                                                                          \
	X(ERROR_IN, "ICMP errors to a site", 15)                                                             \
	X(ERROR_OUT, "ICMP errors to the egress", 15)                                                        \
	X(ERROR_LOST, "ICMP errors of no flow", 15)                                                          \
	X(OVERLAPS, "overlapping fragments", 15)                                                             \
	X(WIRE_LOST, "fragments lost behind us", 15)                                                         \
	X(MOVED, "answers by the site's other tunnel", 15)                                                   \
	X(FLUSHED, "flows flushed", 15)                                                                      \
	X(RELOADS, "tunnel moved to another site", 15)                                                       \
	X(KERNEL_FORGOT, "late answers to the kernel's address, for nobody", 10)                             \
	X(KERNEL_GAVE, "late answers to it, for who has the port now", 0)                                    \
	X(NAT_CHANGES, "reloads with another NAT", 8)
enum {
#define X(id, text, kinds) N_##id,
	COUNTS(X)
#undef X
		N_COUNTS
};
static const struct {
	const char *text;
	unsigned kinds;
} counts[] = {
#define X(id, text, kinds) {text, kinds},
	COUNTS(X)
#undef X
};

/* What a host of a site talks about. */
struct conv {
	unsigned site;
	struct tuple t;
	bool open; /* TCP, SCTP: it was answered */
	uint32_t seq, ack;
	uint8_t raw[600]; /* the last that came for it */
	uint32_t raw_len;
};

/* A packet on its way to the gateway, or a fragment behind it. */
struct waiting {
	unsigned via, site; /* TO_TUN: from the server */
	uint64_t until;
	bool masked; /* an answer to the kernel's own address; t: as it would be to its site */
	struct tuple t;
	unsigned site_for;
	uint32_t len;
	uint8_t b[1500];
};
struct heap {
	unsigned n;
	struct waiting at[400];
};

static const struct tuple no_tuple;
static struct {
	uint64_t random, gateways;      /* of the hosts; what the gateway gets */
	unsigned count[N_COUNTS], kind; /* of NAT */
	unsigned site_of[TUNNELS];
	struct conv conv[80];
	uint16_t id[SITES + 1];
	struct heap heap[3]; /* from branches, from the server, behind the gateway */
	struct {
		unsigned from, to;
		struct tuple quoted;
	} error[4096];
	unsigned errors;
	struct rig_next next[2];
	unsigned reloads;
	const struct seen *speaks; /* who answers, to what is masked */
	bool alone;                /* what arrives now left with nothing that came later */
	uint64_t on_the_way;       /* for so long what arrives now was */
	uint64_t nat_since;
} m;
enum { BRANCHES, SERVER, WIRE };

static struct prefix d_routes[2];

static unsigned any(unsigned n)
{
	return rnd(&m.random) % n;
}

static void rig_more(void)
{
	rig_tunnel(D1, "d1", "D", 1476);
	rig.ct[D1].automatic_return_routing = false;
	assert_int_equal(prefix_parse("10.8.0.0/16", &d_routes[0]), 0);
	assert_int_equal(prefix_parse("fd00:8::/64", &d_routes[1]), 0);
	rig.ct[D1].routes = (struct prefix_list){d_routes, 2};
	rig.offloads = (struct vnet_offloads){0};
	rig.flows.max = FLOWS;
	for (int i = 0; i < FS_STATE_COUNT; i++)
		rig.flows.timeout_s[i] = 20 + i * 4;
	rig.flows.timeout_s[FS_QUARANTINE] = QUARANTINE_MS / 1000;
	assert_int_equal(prefix_parse("100.64.0.0/29", &rig.flows.pool4), 0);
}

/* ---- who is where --------------------------------------------------------------------------------------- */

static unsigned tunnel_of(unsigned site)
{
	static const unsigned of[SITES] = {A1, B1, C1, D1, B1};

	if (site == SITE_A)
		return any(8) ? A1 : A2;
	return of[site];
}

static bool is_there(unsigned site)
{
	return m.site_of[tunnel_of(site)] == site;
}

static fs_id realm_of(unsigned site)
{
	return site == EGRESS ? rig.gw.egress_id : rig_at(tunnel_of(site))->site;
}

static unsigned site_of_realm(fs_id id)
{
	for (unsigned i = 0; i < TUNNELS; i++)
		if (rig_at(i)->site == id)
			return m.site_of[i];
	assert_int_equal(id, rig.gw.egress_id);
	return EGRESS;
}

/* Where what nobody knows of goes to, from a site or from outside. */
static unsigned routed(unsigned from, const struct addr *dst)
{
	for (unsigned i = 0; i < 2; i++) {
		if (prefix_has(&rig.c_routes[i], dst) && from != SITE_C)
			return SITE_C;
		if (prefix_has(&d_routes[i], dst) && from != SITE_D)
			return SITE_D;
	}
	return from == EGRESS ? NOBODY : EGRESS;
}

/* The flow that a tuple in a realm belongs to: whose the other half is, and how its sender sees what comes. */
static unsigned flow_of(unsigned site, const struct tuple *t, struct tuple *other)
{
	struct fs_key k = {.t = *t, .realm = realm_of(site)};
	struct fs_half h;
	struct fs_hit hit;

	fs_find(rig.gw.fs, &k, 1, &hit);
	if (hit.flow == FS_NONE)
		return NOBODY;
	fs_half(rig.gw.fs, hit.flow, !hit.dir, &h);
	*other = h.t;
	return site_of_realm(h.realm);
}

/* A late answer of whoever has routes to a site may have begun a flow with it anew: then the site's next question is an
 * answer, and the tuple is none that is closed behind it. */
static bool begun_there(unsigned where, const struct tuple *t)
{
	struct fs_key k = {.t = *t, .realm = realm_of(where)};
	struct fs_hit hit;

	fs_find(rig.gw.fs, &k, 1, &hit);
	return hit.flow != FS_NONE && hit.dir == FS_ORIG;
}

/* What came, turned round, is the other half of what was sent: nothing is altered but what has to be. */
static void check_translation(unsigned site, const struct tuple *came, uint32_t sent)
{
	struct tuple t = tuple_turned(came), other;

	if (flow_of(site, &t, &other) != NOBODY)
		assert_int_equal(tuple_number(&other), sent);
	else /* it may have made room for another packet of the batch */
		assert_false(m.alone);
}

static void count_kind(unsigned first, const struct pkt *p, bool pieces)
{
	switch (p->t.proto) {
	case IPPROTO_TCP:
		m.count[first]++;
		break;
	case IPPROTO_UDP:
		m.count[first + 1]++;
		break;
	case IPPROTO_ICMP:
	case IPPROTO_ICMPV6:
		m.count[first + 2]++;
		break;
	case IPPROTO_SCTP:
		m.count[first + 3]++;
		break;
	default:
		m.count[first + 4]++;
	}
	m.count[first + 5] += p->ver == 6;
	m.count[first + 6] += pieces;
}

/* ---- sending --------------------------------------------------------------------------------------------- */

static struct waiting *heap_in(struct heap *h)
{
	struct waiting *w = h->n < 400 ? &h->at[h->n++] : &h->at[any(400)];

	*w = (struct waiting){.until = UINT64_MAX};
	return w;
}

static void heap_out(struct heap *h, unsigned i, struct waiting *w)
{
	*w = h->at[i];
	h->at[i] = h->at[--h->n];
}

static void put(unsigned via, unsigned site, uint64_t until, const uint8_t *b, uint32_t len)
{
	struct waiting *w = heap_in(&m.heap[via == TO_TUN ? SERVER : BRANCHES]);

	*w = (struct waiting){.via = via, .site = site, .until = until, .len = len};
	w->masked = m.speaks != NULL;
	if (m.speaks) {
		w->t = m.speaks->inner;
		w->site_for = m.speaks->site;
	}
	assert_true(len <= sizeof(w->b));
	memcpy(w->b, b, len);
}

/* A datagram from a site (EGRESS: the server), tagged: whole, or in fragments with an Identification that others use, too,
 * cut alike; now and then one of these is lost, or overlaps another. */
static void say(unsigned via, unsigned site, uint64_t until, struct spec *s, struct tag t)
{
	static uint8_t b[PKT_MAX];
	bool pieces = any(5) == 0, loses = any(8) == 0, overlaps = any(16) == 0;
	uint32_t n = UNIT * (pieces ? 160 * (1 + any(4)) : 1 + any(100)), hlen, plen;
	/* Of other sites at the same time, too. A host does not use one twice, nor would it know which fragment is whose. */
	uint32_t id = site == EGRESS ? ++m.id[site] : (++m.id[site] & 15u) | (uint32_t)s->proto << 8;
	struct pkt p = {.data = b, .len = tagged_make(b, s, n, t)};
	const uint8_t *payload;
	struct frag_cut cut;
	uint8_t piece[1500];

	if (!pieces) {
		put(via, site, until, b, p.len);
		return;
	}
	assert_int_equal(pkt_parse(&p), DROP_NONE);
	assert_true(frag_cut_start(
		&cut, p.ver, b, p.payload, b + p.payload, p.len - p.payload, any(2) ? 600 : 1280, id, false));
	for (unsigned k = 0; (hlen = frag_cut_next(&cut, piece, &payload, &plen)); k++) {
		memcpy(piece + hlen, payload, plen);
		if (loses && any(2))
			continue;
		put(via, site, until, piece, hlen + plen);
		if (overlaps && k == 1) {
			piece_shift(piece, -1);
			put(via, site, until, piece, hlen + plen);
			m.count[N_OVERLAPS]++;
		}
	}
}

static void send_answer(const struct seen *s)
{
	struct tag t = {(uint8_t)(s->where | ANSWER), (uint8_t)s->site, tuple_number(&s->inner)};
	struct spec a = s->answer;

	if (s->where != EGRESS && !is_there(s->where))
		return;
	if (a.proto == IPPROTO_TCP && !(a.flags & TCP_SYN) && any(40) == 0)
		a.flags |= any(2) ? TCP_RST : TCP_FIN;
	m.speaks = s->masked ? s : NULL;
	say(s->where == EGRESS ? TO_TUN : tunnel_of(s->where), s->where, s->last + QUARANTINE_MS - SLACK_MS,
		&a, t);
	m.speaks = NULL;
}

/* ---- receiving ------------------------------------------------------------------------------------------- */

static void check_error(const struct pkt *p, unsigned to)
{
	unsigned i = be32_get(p->data + p->l4 + 4) >> 16;

	assert_int_equal(m.error[i].to, to);
	assert_memory_equal(&m.error[i].quoted, &p->qt, sizeof(p->qt));
	assert_true(addr_eq(&p->t.dst, &p->qt.src));
	m.count[to == EGRESS ? N_ERROR_OUT : N_ERROR_IN]++;
}

/* Whoever gets p will answer; his answers are for the site that it is from. */
static struct seen *take_note(unsigned where, unsigned from, const struct pkt *p, bool masked, bool pieces)
{
	struct tuple t = tuple_turned(&p->t);
	struct seen *s = seen_find(where, &t, masked, 8 * QUARANTINE_MS);

	if (s->used && s->site != from) {
		if (rig.now - s->last < QUARANTINE_MS - SLACK_MS)
			fail_msg("a tuple of site %u is site %u's after %u ms", s->site, from,
				(unsigned)(rig.now - s->last));
		m.count[N_AGAIN]++;
	}
	s->used = true;
	s->site = from;
	s->inner = t;
	s->last = rig.now - m.on_the_way;
	s->answer = answer_to(p);
	s->answer.df = false;
	s->answer.window = UINT16_MAX;
	if (p->t.proto == IPPROTO_SCTP)
		s->answer.icmp_type = 2; /* INIT ACK, or anything */
	s->raw_len = p->len < sizeof(s->raw) ? p->len : sizeof(s->raw);
	memcpy(s->raw, p->data, s->raw_len);
	if (pieces && p->ver == 4) {
		be16_put(s->raw + 6, 0x2000);
		packet_ip_csum(s->raw);
	}
	return s;
}

/* By the TUN. */
static void server_takes(uint8_t *b, uint32_t len, bool pieces)
{
	struct pkt p = {.data = b, .len = len};
	struct tuple turned;
	struct tag t;
	bool masked;

	slow_check(b, len);
	assert_int_equal(pkt_parse(&p), DROP_NONE);
	if (p.icmp_error) {
		check_error(&p, EGRESS);
		return;
	}
	t = tag_read(b + tags_at(&p), len - tags_at(&p));
	assert_int_equal(t.to, EGRESS);
	assert_in_range(t.from & ~ANSWER, SITE_A, SITE_E);
	if (!pieces)
		check_translation(EGRESS, &p.t, t.sent);
	turned = tuple_turned(&p.t);
	if (t.from & ANSWER) {
		const struct seen *s = seen_find(EGRESS, &turned, false, 8 * QUARANTINE_MS);

		assert_true(!s->used || s->site == (t.from & ~ANSWER) ||
			    rig.now - s->last >= QUARANTINE_MS - SLACK_MS);
		m.count[N_BEGUN_OUTSIDE_BACK]++;
		return;
	}
	if (rig.flows.nat == FS_NAT_POOL && !pieces && !begun_there(EGRESS, &turned))
		assert_true(addr_range_has(&rig.flows.nat_pool[p.ver == 6], &p.t.src));
	count_kind(N_FROM_TCP, &p, pieces);
	m.count[t.sent == tuple_number(&p.t) ? N_NATURAL : N_TRANSLATED]++;
	/* What they say may be an answer to what had begun outside, and ended on its way. */
	if (pieces && (t.from == SITE_C || t.from == SITE_D) && rig.flows.nat == FS_NAT_KERNEL)
		return;
	masked = rig.flows.nat == FS_NAT_KERNEL && !begun_there(EGRESS, &turned);
	if (any(3))
		send_answer(take_note(EGRESS, t.from, &p, masked, pieces));
	else
		take_note(EGRESS, t.from, &p, masked, pieces);
}

static void conv_answered(struct conv *c, const struct pkt *p)
{
	const uint8_t *tcp = p->data + p->l4;

	c->raw_len = p->len < sizeof(c->raw) ? p->len : sizeof(c->raw);
	memcpy(c->raw, p->data, c->raw_len);
	c->open = true;
	if (p->t.proto != IPPROTO_TCP)
		return;
	m.count[N_BACK_DATA] += !(p->tcp_flags & TCP_SYN);
	c->open = !(p->tcp_flags & TCP_RST);
	c->seq = be32_get(tcp + 8);
	c->ack = be32_get(tcp + 4) + p->len - p->payload + (p->tcp_flags & (TCP_SYN | TCP_FIN) ? 1 : 0);
}

/* By a tunnel. */
static void site_takes(unsigned tunnel, uint8_t *b, uint32_t len, bool pieces)
{
	unsigned site = m.site_of[tunnel], from;
	struct pkt p = {.data = b, .len = len};
	struct tuple turned;
	struct tag t;

	slow_check(b, len);
	assert_int_equal(pkt_parse(&p), DROP_NONE);
	if (p.icmp_error) {
		check_error(&p, site);
		return;
	}
	t = tag_read(b + tags_at(&p), len - tags_at(&p));
	from = t.from & ~ANSWER;
	if (t.to != site)
		fail_msg("tunnel %u of site %u gets what is from %u for %u", tunnel, site, from, t.to);
	check_translation(site, &p.t, t.sent);
	turned = tuple_turned(&p.t);
	if (!(t.from & ANSWER)) {
		const struct seen *s = take_note(site, from, &p, false, pieces);

		m.count[from == EGRESS ? N_BEGUN_OUTSIDE : N_BETWEEN]++;
		if (any(3))
			send_answer(s);
		return;
	}
	count_kind(N_BACK_TCP, &p, pieces);
	m.count[N_BETWEEN_BACK] += from != EGRESS;
	m.count[N_MOVED] += tunnel == A2;
	for (struct conv *c = m.conv; c < m.conv + 80; c++)
		if (c->site == site && memcmp(&c->t, &turned, sizeof(turned)) == 0)
			conv_answered(c, &p);
}

/* Where all that came out goes. Fragments behind the TUN are on their way for a while. */
static void receive(void)
{
	static uint8_t whole[MODEL_ROOM + 128];

	for (unsigned i = 0; i < rig.nout; i++) {
		const struct out *o = &rig.out[i];
		bool frag = piece_read(o->data, o->len).frag;
		struct waiting *w;
		uint32_t n;

		if (o->to != TO_TUN) {
			n = frag ? reassemble(1 + (unsigned)o->to, false, o->data, o->len, whole) : o->len;
			if (n)
				site_takes((unsigned)o->to, frag ? whole : o->data, n, frag);
		} else if (!frag) {
			server_takes(o->data, o->len, false);
		} else {
			w = heap_in(&m.heap[WIRE]);
			assert_true(o->len <= sizeof(w->b));
			w->until = rig.now + WIRE_MS;
			w->len = o->len;
			memcpy(w->b, o->data, o->len);
		}
	}
	rig_forget();
}

#endif
