/* SPDX-License-Identifier: GPL-2.0-or-later */
/* gateway_pathmodel_test.c - the packet path as a whole against a naive observer, over random packets at random times.
 *
 * Five sites use the same few addresses and ports, all at once, by a flow table that is always full; a server answers what
 * leaves by the TUN, also late, also by ICMP errors. Packets and fragments of all lie in one heap, and come out of it in any
 * order. What is held:
 *
 *   - to a tunnel goes only what was meant for its site, and no datagram has octets of two;
 *   - a tuple that answers must have was one site's when it was seen last, and stays closed to others for the quarantine;
 *   - no two live flows have a tuple in common in a realm;
 *   - addresses, ports and checksums are right on either side, and are as NAT says.
 *
 * ARRD_SEED repeats a run; ARRD_STEPS says how long it is.
 */
#include "test/unit/path_hosts.h"

#include <sodium.h>
#include <time.h>

#if defined(__SANITIZE_ADDRESS__)
#define STEPS 60000u
#else
#define STEPS 350000u
#endif

/* ---- operations ------------------------------------------------------------------------------------------ */

/* Reasons to drop that must be met; kinds as in path_hosts.h. */
static const struct {
	enum drop why;
	unsigned kinds;
} drops[] = {{DROP_FRAGMENT_OVERLAP, 15}, {DROP_FRAGMENT_TIMEOUT, 15}, {DROP_NO_FLOW, 15},
	{DROP_NOT_A_BEGINNING, 15}, {DROP_TCP_WINDOW, 15}, {DROP_ICMP_NO_FLOW, 15},
	{DROP_TUPLE_COLLISION, 15}, {DROP_FLOW_TABLE_FULL, 15}, {DROP_OTHER_SITE, 15},
	{DROP_NAT_EXHAUSTED, 14}, {DROP_NAT_SITE_LIMIT, 4}};

static struct tuple any_tuple(unsigned from)
{
	static const uint8_t protos[] = {IPPROTO_TCP, IPPROTO_TCP, IPPROTO_UDP, IPPROTO_ICMP, IPPROTO_SCTP,
		IPPROTO_GRE, IPPROTO_ESP, 89};
	static const char *const hosts[2][3] = {
		{"10.9.0.1", "10.9.0.2", "10.8.0.1"}, {"fd00:9::1", "fd00:9::2", "fd00:8::1"}};
	static const char *const servers[2][2] = {
		{"192.0.2.9", "192.0.2.10"}, {"2001:db8::9", "2001:db8::10"}};
	unsigned v6 = any(3) == 0;
	struct tuple t = {.proto = protos[any(sizeof(protos))]};
	bool ported = proto_has_ports(t.proto), icmp = t.proto == IPPROTO_ICMP;

	/* A packet without ports may be a question to one site as well as an answer to another. */
	bool between = any(4) == 0 && (ported || icmp || (from != SITE_C && from != SITE_D));

	t.src = test_addr(hosts[v6][any(3)]);
	t.dst = test_addr(between ? hosts[v6][any(3)] : servers[v6][any(2)]);
	if (icmp && v6)
		t.proto = IPPROTO_ICMPV6;
	if (ported || icmp)
		t.sport = htons((uint16_t)(5000 + any(3)));
	if (ported)
		t.dport = htons(any(2) ? 53 : 443);
	return t;
}

static void op_question(void)
{
	struct conv *c = &m.conv[any(80)];
	struct spec s;
	struct tag t;

	if (!c->t.proto || any(12) == 0) {
		*c = (struct conv){.site = any(SITES)};
		c->t = any_tuple(c->site);
	}
	if (!is_there(c->site))
		return;
	s = spec_of(&c->t);
	t = (struct tag){(uint8_t)c->site, (uint8_t)routed(c->site, &c->t.dst), tuple_number(&c->t)};
	if (c->t.proto == IPPROTO_TCP) {
		if (any(15) == 0)
			c->open = false;
		if (!c->open)
			c->seq = rnd(&m.random);
		s.flags = c->open || any(20) == 0 ? TCP_ACK : TCP_SYN; /* the one or other in mid-stream */
		if (c->open && any(20) == 0)
			s.flags |= any(2) ? TCP_FIN : TCP_RST;
		s.seq = c->seq;
		s.ack = c->open ? c->ack : 0;
	}
	if (c->t.proto == IPPROTO_SCTP)
		s.icmp_type = c->open && any(10) ? 0 : SCTP_INIT;
	say(tunnel_of(c->site), c->site, UINT64_MAX, &s, t);
}

/* Into the next batch, some of what the branches have sent. */
static unsigned put_waiting(unsigned most)
{
	struct heap *h = &m.heap[BRANCHES];
	struct waiting w;
	unsigned n = 0;

	for (; most && h->n; most--) {
		heap_out(h, any(h->n), &w);
		if (w.until <= rig.now || m.site_of[w.via] != w.site)
			continue;
		put_branch(w.via, w.b, w.len);
		n++;
	}
	return n;
}

static void op_branches(void)
{
	unsigned n = put_waiting(1 + any(8));

	if (n)
		run_branch();
	m.alone = n == 1;
	receive();
}

/* An answer to the kernel's address: it gives it to whoever has the port by now, or to itself. Returns whether the former is
 * who it was for. */
static bool unmasked(const struct tuple *t, unsigned site)
{
	struct flowstate *fs = rig.gw.fs;
	struct place p;
	const struct flow_head *h;

	lookup_aim(fs, &p, FS_SLOT(rig.gw.egress_id), t, true);
	lookup(fs, &p);
	h = head_of(fs, REF_RECORD(p.ref == REF_NONE ? 0 : p.ref));
	if (rig.flows.nat != FS_NAT_KERNEL || p.ref == REF_NONE || !is_live(h) ||
		!names_alive(&fs->names, h)) {
		m.count[N_KERNEL_FORGOT]++;
		return false;
	}
	if (addr_eq(&h->addr[2], &t->dst))
		return true;
	m.count[N_KERNEL_GAVE]++;
	assert_int_equal(site_of_realm(names_id(&fs->names, h->realm[FS_ORIG])), site);
	return false;
}

static void op_server(void)
{
	struct heap *h = &m.heap[SERVER];
	struct waiting w;

	if (!h->n)
		return;
	heap_out(h, any(h->n), &w);
	if (w.until > rig.now && (!w.masked || unmasked(&w.t, w.site_for)))
		raw_from_egress(NULL, w.b, w.len);
	m.alone = true;
	receive();
}

static void op_wire(void)
{
	static uint8_t whole[MODEL_ROOM + 128];
	struct heap *h = &m.heap[WIRE];
	struct waiting w;
	uint32_t n;

	if (!h->n)
		return;
	heap_out(h, any(h->n), &w);
	if (w.until <= rig.now || w.until - WIRE_MS <= m.nat_since || any(10) == 0) {
		m.count[N_WIRE_LOST]++;
		return;
	}
	/* Behind masquerading all sources are one. */
	n = reassemble(0, rig.flows.nat == FS_NAT_KERNEL, w.b, w.len, whole);
	m.on_the_way = WIRE_MS - (w.until - rig.now);
	if (n)
		server_takes(whole, n, true);
	m.on_the_way = 0;
}

static struct seen *any_seen(void)
{
	struct seen *s = nseens ? &seens[any(nseens)] : NULL;

	return s && s->used && rig.now + SLACK_MS < s->last + QUARANTINE_MS ? s : NULL;
}

static void op_late(void)
{
	const struct seen *s = any_seen();

	if (!s)
		return;
	send_answer(s);
	m.count[N_LATE] += rig.now - s->last > 30000;
}

/* From outside, of any tuple: to whom it belongs by now; else it may begin something at C or D, of ports that no site sends
 * from. */
static void op_stray(void)
{
	struct tuple t = any_tuple(EGRESS), other;
	const struct seen *seen = any_seen();
	static uint8_t b[2048];
	struct spec s;
	unsigned to;

	t = tuple_turned(&t);
	if (any(2) && seen)
		t = seen->inner;
	to = flow_of(EGRESS, &t, &other);
	if (to == NOBODY && !proto_has_ports(t.proto))
		return;
	if (to == NOBODY) {
		t.dport = htons((uint16_t)(900 + any(2)));
		to = flow_of(EGRESS, &t, &other);
	}
	if (to == NOBODY)
		to = routed(EGRESS, &t.dst);
	s = spec_of(&t);
	s.flags = any(2) ? TCP_SYN : (uint8_t)any(32);
	s.icmp_type = t.proto == IPPROTO_SCTP ? (uint8_t)any(3) : s.icmp_type;
	raw_from_egress(NULL, b,
		tagged_make(b, &s, UNIT * (1 + any(9)),
			(struct tag){(uint8_t)(EGRESS |
					       (t.dport == htons(900) || t.dport == htons(901) ? 0 : ANSWER)),
				(uint8_t)to, tuple_number(&t)}));
	m.count[N_STRAY]++;
	m.alone = true;
	receive();
}

/* About a packet that came to a site (or the server): says whom it must reach, NOBODY: whom the table says. */
static void send_error(unsigned site, const uint8_t *quote, uint32_t n, unsigned to)
{
	uint8_t b[700], copy[600];
	struct pkt q = {.data = copy, .len = n};
	struct error e = {.ver = quote[0] >> 4};
	unsigned i = m.errors++ % 4096, by, least = (e.ver == 4 ? 28 : 48), before = 0;
	struct tuple turned;

	memcpy(copy, quote, n);
	if (piece_read(copy, n).frag)
		be16_put(copy + 6, 0); /* to read its ports */
	if (pkt_parse(&q) != DROP_NONE || q.icmp_error)
		return;
	turned = tuple_turned(&q.t);
	m.error[i].quoted = no_tuple;
	by = flow_of(site, &turned, &m.error[i].quoted);
	if (to != NOBODY && by != NOBODY)
		assert_int_equal(by, to);
	m.error[i].from = site;
	m.error[i].to = by;
	e.type = e.ver == 4 ? (any(2) ? 3 : 11) : (uint8_t)(1 + any(3));
	e.rest = i << 16 | 1400;
	e.src = any(2) ? q.t.dst : test_addr(e.ver == 4 ? "192.0.2.77" : "2001:db8:9::77");
	e.dst = q.t.src;
	if (any(10) == 0) { /* to somebody who did not send what it quotes */
		e.dst.b[15] ^= 3;
		m.error[i].to = by = NOBODY;
	}
	least += any(n - least + 1);
	n = error_make(b, &e, quote, least > 500 ? 500 : least);
	if (site == EGRESS) {
		raw_from_egress(NULL, b, n);
	} else {
		/* In a batch with what may end the flow that it is about, and give its record to another one. */
		before = any(2) ? put_waiting(any(8)) : 0;
		raw_from_branch(tunnel_of(site), b, n);
	}
	if (by == NOBODY) {
		assert_true(before || !rig.nout);
		m.count[N_ERROR_LOST]++;
	}
	m.alone = !before;
	receive();
}

static void op_error(void)
{
	const struct seen *s = any_seen();
	const struct conv *c = &m.conv[any(80)];
	uint8_t b[256];
	unsigned site = any(SITES + 1);
	struct tuple t = any_tuple(site);
	struct spec x;

	switch (any(4)) {
	case 0:
		if (c->raw_len && is_there(c->site))
			send_error(c->site, c->raw, c->raw_len, NOBODY);
		return;
	case 1:
		if (site != EGRESS && !is_there(site))
			return;
		x = spec_of(&t);
		send_error(site, b, tagged_make(b, &x, 64, (struct tag){NOBODY, NOBODY, 0}), NOBODY);
		return;
	default:
		if (s && (s->where == EGRESS || is_there(s->where)) &&
			(!s->masked || unmasked(&s->inner, s->site)))
			send_error(s->where, s->raw, s->raw_len < 600 ? s->raw_len : 600, s->site);
	}
}

static void op_time(void)
{
	rig.now += any(40) ? any(800) : any(30000);
	path_second(rig.gw.path);
	fs_tick(rig.gw.fs, rig.now, any(2) ? FS_TICK_BUDGET : any(8));
	if (any(10) == 0)
		rig_at(any(2) ? A1 : A2)->down_until_ms = rig.now + any(5000);
}

static void op_flush(void)
{
	uint32_t cursor = any(FLOWS), flow;
	struct fs_info info;

	if (fs_next(rig.gw.fs, &cursor, FLOWS, &flow, &info) == 1 && info.state != FS_QUARANTINE) {
		fs_end(rig.gw.fs, flow, rig.now);
		m.count[N_FLUSHED]++;
	}
}

/* ---- configurations --------------------------------------------------------------------------------------- */

static void set_nat(struct config *c, enum fs_nat nat)
{
	static const enum conf_nat conf[] = {NAT_NONE, NAT_MASQUERADE, NAT_POOL};
	unsigned more = any(3);

	rig.flows.nat = nat;
	rig.flows.nat_share = any(2) && m.kind == 3 ? 0 : 50;
	rig.flows.nat_pool[0] = (struct addr_range){test_addr("203.0.113.96"), test_addr("203.0.113.97")};
	rig.flows.nat_pool[1] = (struct addr_range){test_addr("2001:db8:a::1"), test_addr("2001:db8:a::2")};
	rig.flows.nat_pool[0].last.b[15] += more;
	c->egress.nat = conf[nat];
	memcpy(c->egress.nat_pool, rig.flows.nat_pool, sizeof(c->egress.nat_pool));
	m.nat_since = rig.now;
}

/* Nothing that lives is other than the NAT in use would have it, and nothing is there twice. */
static void check_flows(void)
{
	static struct fs_info f[FLOWS];
	uint32_t cursor = 0, flow, n = 0;

	while (fs_next(rig.gw.fs, &cursor, FLOWS, &flow, &f[n]) == 1)
		n += f[n].state != FS_QUARANTINE;
	for (uint32_t i = 0; i < n; i++) {
		const struct fs_half *out = &f[i].half[FS_REPLY];
		bool leaves = out->realm == rig.gw.egress_id;
		bool portless = !proto_has_ports(out->t.proto) && !out->t.dport;

		if (leaves && rig.flows.nat == FS_NAT_POOL)
			assert_true(addr_range_has(&rig.flows.nat_pool[!addr_is4(&out->t.dst)], &out->t.dst));
		for (uint32_t k = 0; k < 2 * i; k++) {
			const struct fs_half *o = &f[k / 2].half[k % 2];

			for (unsigned d = 0; d < 2; d++)
				assert_false(o->realm == f[i].half[d].realm &&
					     memcmp(&o->t, &f[i].half[d].t, sizeof(o->t)) == 0);
			/* The kernel could not tell them apart. */
			if (leaves && k % 2 && o->realm == out->realm && portless &&
				rig.flows.nat == FS_NAT_KERNEL && f[i].created_ms >= m.nat_since + SLACK_MS &&
				f[k / 2].created_ms >= m.nat_since + SLACK_MS)
				assert_false(o->t.proto == out->t.proto && addr_eq(&o->t.src, &out->t.src));
		}
	}
}

/* Another NAT, or b1 moves to the other site. */
static void op_reload(bool nat)
{
	struct rig_next *next = &m.next[m.reloads++ % 2];
	struct path_tables *tables;
	struct tunnels *t;
	char err[256] = "";

	rig_next_begin(next);
	next->conf.egress = rig.gw.conf->egress;
	if (nat)
		set_nat(&next->conf, (enum fs_nat)any(3));
	else
		m.site_of[B1] = m.site_of[B1] == SITE_B ? SITE_E : SITE_B;
	rig_next_at(next, "b1")->site = (char *)(uintptr_t)(m.site_of[B1] == SITE_B ? "B" : "E");
	assert_int_equal(tunnels_new(&t, &next->conf, rig.gw.tunnels), 0);
	assert_int_equal(path_prepare(rig.gw.path, t, &next->conf, &tables, err, sizeof(err)), 0);
	fs_reconfigure(rig.gw.fs, &rig.flows);
	assert_int_equal(tunnels_commit(t, rig.gw.tunnels, rig.gw.fs), 0);
	tunnels_free(rig.gw.tunnels);
	rig.gw.tunnels = t;
	path_commit(rig.gw.path, tables);
	rig.gw.conf = &next->conf;
	m.count[nat ? N_NAT_CHANGES : N_RELOADS]++;
}

static void step(unsigned i)
{
	unsigned what = any(1000);

	if (what < 250)
		op_question();
	else if (what < 500)
		op_branches();
	else if (what < 700)
		op_server();
	else if (what < 830)
		op_wire();
	else if (what < 860)
		op_late();
	else if (what < 890)
		op_stray();
	else if (what < 930)
		op_error();
	else if (what < 995)
		op_time();
	else if (what < 998)
		op_flush();
	else if (any(3) == 0)
		op_reload(m.kind == 3 && any(2));
	if (i % 16 == 0)
		check_flows();
	if (i % 1024 == 0)
		assert_ptr_equal(fs_check(rig.gw.fs), NULL);
}

/* ---- runs --------------------------------------------------------------------------------------------------- */

static const char *repeatable_name(void)
{
	return "repeatable";
}

static uint32_t repeatable_random(void)
{
	return rnd(&m.gateways);
}

static void repeatable_buf(void *const b, const size_t n)
{
	for (size_t i = 0; i < n; i++)
		((uint8_t *)b)[i] = (uint8_t)rnd(&m.gateways);
}

/* What the gateway takes for random comes from the seed, too, so that a run can be repeated. */
static int setup(void **state)
{
	const char *env = getenv("ARRD_SEED");
	uint64_t seed = env ? strtoull(env, NULL, 0) : (uint64_t)time(NULL) * 0x9e3779b97f4a7c15;

	print_message("ARRD_SEED=%#llx\n", (unsigned long long)seed);
	memset(&m, 0, sizeof(m));
	memset(wholes, 0, sizeof(wholes));
	nseens = 0;
	m.random = seed | 1;
	m.gateways = ~seed | 1;
	return rig_up(state);
}

/* kind: enum fs_nat, or 3 for each in turn. */
static void run(unsigned kind)
{
	const char *steps = getenv("ARRD_STEPS");
	unsigned n = steps ? (unsigned)strtoul(steps, NULL, 0) : STEPS;
	struct fs_stats st;

	m.kind = kind;
	for (unsigned i = 0; i < TUNNELS; i++)
		m.site_of[i] = (const unsigned[]){SITE_A, SITE_A, SITE_B, SITE_C, SITE_D}[i];
	set_nat(&rig.conf, (enum fs_nat)(kind % 3));
	fs_reconfigure(rig.gw.fs, &rig.flows);
	for (unsigned i = 0; i < n; i++)
		step(i);
	for (unsigned i = 0; i < N_COUNTS; i++) {
		print_message("%8u  %s\n", m.count[i], counts[i].text);
		if (!m.count[i] && counts[i].kinds >> kind & 1)
			fail_msg("never: %s", counts[i].text);
	}
	fs_get_stats(rig.gw.fs, &st);
	print_message(
		"flows: %llu begun, %llu moved, %llu refused, %llu made room, %llu not fit for another NAT\n",
		(unsigned long long)st.created, (unsigned long long)st.moved, (unsigned long long)st.refused,
		(unsigned long long)st.ended[FS_END_TABLE_FULL], (unsigned long long)st.ended[FS_END_NAT]);
	assert_true(st.moved && st.ended[FS_END_TABLE_FULL] && st.ended[FS_END_REMOVED]);
	assert_true(kind != 3 || st.ended[FS_END_NAT]);
	for (int d = 1; d < DROP_COUNT; d++)
		if (rig_drops((enum drop)d))
			print_message(
				"%8llu  %s\n", (unsigned long long)rig_drops((enum drop)d), drop_name(d));
	for (unsigned i = 0; i < sizeof(drops) / sizeof(drops[0]); i++)
		if (drops[i].kinds >> kind & 1 && !rig_drops(drops[i].why))
			fail_msg("never dropped: %s", drop_name(drops[i].why));
}

static void nat_none(void **state)
{
	(void)state;
	run(FS_NAT_NONE);
}

static void nat_kernel(void **state)
{
	(void)state;
	run(FS_NAT_KERNEL);
}

static void nat_pool(void **state)
{
	(void)state;
	run(FS_NAT_POOL);
}

static void nat_by_turns(void **state)
{
	(void)state;
	run(3);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, rig_down)

int main(void)
{
	struct randombytes_implementation repeatable = {
		.implementation_name = repeatable_name, .random = repeatable_random, .buf = repeatable_buf};
	const struct CMUnitTest tests[] = {
		CASE(nat_none),
		CASE(nat_kernel),
		CASE(nat_pool),
		CASE(nat_by_turns),
	};

	randombytes_set_implementation(&repeatable);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
