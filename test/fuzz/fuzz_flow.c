/* SPDX-License-Identifier: GPL-2.0-or-later */
/* fuzz_flow.c - the flow table as a state machine: octets are operations on a small, full one.
 *
 * Besides not crashing, and what fs_check holds:
 *   - no two live flows have a tuple in common in a realm, and each is attached to ways into its realms;
 *   - what is found by a realm and a tuple is a flow with that half;
 *   - a tuple that was given up stays closed to all but whom it was open to, for as long as the shortest quarantine that was
 *     configured, also if its record made room and over restarts.
 */
#include "flowstate/flowstate.h"

#include <netinet/in.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { SITES = 3, REALMS = SITES + 1, EGRESS = SITES, WAYS = 2, PLACES = 4096, OPERATIONS = 600 };

/* What is known of a tuple in a realm. */
struct place {
	fs_id realm,
		other; /* other: whom it was open to, of those that it was closed behind; realm 0: free */
	struct tuple t;
	uint64_t last_ms; /* when it was held last, and closed from then on */
	unsigned round;   /* in which it was seen held last */
};

static struct {
	const uint8_t *at, *end;
	struct fs_config cfg;
	struct flowstate *fs;
	uint64_t now;
	fs_id realm[REALMS], way[REALMS][WAYS];
	uint64_t identity;
	uint32_t quarantine_s; /* the shortest */
	unsigned round;
	struct place place[PLACES];
	uint64_t random;
} f;

static void must(bool holds)
{
	if (!holds)
		abort();
}

/* ---- the same in each run ------------------------------------------------------------------------------------- */

static uint32_t any_word(void)
{
	f.random = f.random * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(f.random >> 32);
}

static void any_octets(void *const b, const size_t n)
{
	for (size_t i = 0; i < n; i++)
		((uint8_t *)b)[i] = (uint8_t)any_word();
}

static const char *any_name(void)
{
	return "repeatable";
}

/* ---- what an input says --------------------------------------------------------------------------------------- */

static unsigned next(void)
{
	return f.at < f.end ? *f.at++ : 0;
}

static struct addr address(unsigned n, bool v6)
{
	struct addr a = addr_from4(htonl(0x0a000001 + n));

	if (v6) {
		a = (struct addr){.b = {0x20, 1, 0xd, 0xb8}};
		a.b[15] = (uint8_t)(1 + n);
	}
	return a;
}

static struct tuple next_tuple(void)
{
	static const uint8_t protos[] = {IPPROTO_TCP, IPPROTO_UDP, IPPROTO_ICMP, IPPROTO_GRE};
	unsigned a = next(), b = next();
	bool v6 = a >> 6 & 1;
	struct tuple t = {
		.src = address(a & 3, v6), .dst = address(a >> 2 & 3, v6), .proto = protos[a >> 4 & 3]};

	if (t.proto == IPPROTO_ICMP && v6)
		t.proto = IPPROTO_ICMPV6;
	if (t.proto != IPPROTO_GRE)
		t.sport = htons((uint16_t)(1 + (b & 3)));
	if (proto_has_ports(t.proto))
		t.dport = htons((uint16_t)(1 + (b >> 2 & 3)));
	return b >> 7 ? tuple_turned(&t) : t;
}

static struct fs_packet next_packet(unsigned r, unsigned way, const struct tuple *t)
{
	struct fs_packet pk = {.key = {.t = *t, .realm = f.realm[r]},
		.via = f.way[r][way],
		.octets = 100,
		.packets = 1,
		.window = 1000};

	if (t->proto != IPPROTO_TCP)
		return pk;
	pk.tcp_flags = (uint8_t)(next() & 0x17);
	pk.seq = next() * 64;
	pk.ack = next() * 64;
	pk.tcp_len = next();
	pk.liberal = pk.tcp_len & 1;
	return pk;
}

/* ---- what must hold ------------------------------------------------------------------------------------------- */

static struct place *place_of(fs_id realm, const struct tuple *t)
{
	uint64_t h = realm;

	for (size_t i = 0; i < sizeof(*t); i++)
		h = (h ^ ((const uint8_t *)t)[i]) * 1099511628211u;
	for (unsigned k = 0; k < PLACES; k++) {
		struct place *p = &f.place[(h >> 20) + k & (PLACES - 1)];

		if (!p->realm) {
			p->realm = realm;
			p->t = *t;
		}
		if (p->realm == realm && memcmp(&p->t, t, sizeof(*t)) == 0)
			return p;
	}
	abort();
}

/* One that was unbound is no other realm's, either. */
static bool is_way(fs_id realm, fs_id via)
{
	for (unsigned r = 0; r < REALMS; r++)
		if (via == f.way[r][0] || via == f.way[r][1])
			return f.realm[r] == realm;
	return true;
}

static void look(void)
{
	uint32_t cursor = 0, flow;
	struct fs_info info;

	f.round++;
	while (fs_next(f.fs, &cursor, UINT32_MAX, &flow, &info) == 1) {
		if (info.state == FS_QUARANTINE)
			continue;
		bool outward = info.half[FS_REPLY].realm == f.realm[EGRESS] &&
			       info.half[FS_ORIG].realm != f.realm[EGRESS];
		for (int d = 0; d < 2; d++) {
			const struct fs_half *h = &info.half[d];
			struct place *p = place_of(h->realm, &h->t);
			fs_id other = info.half[!d].realm;

			must(p->round != f.round);
			p->round = f.round;
			must(is_way(h->realm, h->via));
			if (d == FS_ORIG && (outward || h->realm != f.realm[EGRESS]) && p->other != other)
				continue; /* a site may send what it likes */
			must(!p->last_ms || p->other == other ||
				f.now + 200 >= p->last_ms + f.quarantine_s * 1000);
			p->other = other;
			p->last_ms = f.now;
		}
	}
}

/* ---- operations ------------------------------------------------------------------------------------------------ */

static void bind_realm(unsigned r)
{
	char name[16];

	snprintf(name, sizeof(name), "realm%u", r);
	f.realm[r] = fs_bind(f.fs, r == EGRESS ? FS_EGRESS : FS_SITE, name, FS_ID_NONE, 0);
	for (unsigned k = 0; k < WAYS; k++) {
		snprintf(name, sizeof(name), "way%u.%u", r, k);
		f.way[r][k] = r == EGRESS ? f.realm[r] : fs_bind(f.fs, FS_TUNNEL, name, f.realm[r], 7);
		must(f.way[r][k] != FS_ID_NONE);
	}
}

static void open_table(enum fs_open_kind kind)
{
	struct fs_open_report rep;

	must(fs_open(&f.fs, &f.cfg, f.now, &rep) == 0);
	must(rep.kind == kind && rep.torn == 0);
	for (unsigned r = 0; r < REALMS; r++)
		bind_realm(r);
	fs_unbind_rest(f.fs);
}

static void configure(unsigned how)
{
	f.cfg.nat = (enum fs_nat)(how % 3);
	f.cfg.nat_share = how & 4 ? 50 : 0;
	f.cfg.max_per_site = how & 8 ? 10 : 0;
	f.cfg.tcp_loose = how & 16;
	f.cfg.timeout_s[FS_QUARANTINE] = how & 32 ? 20 : 40;
	if (f.cfg.timeout_s[FS_QUARANTINE] < f.quarantine_s)
		f.quarantine_s = f.cfg.timeout_s[FS_QUARANTINE];
	memset(f.cfg.nat_pool, 0, sizeof(f.cfg.nat_pool));
	f.cfg.nat_pool[0] = (struct addr_range){address(100, false), address(100 + (how >> 6), false)};
	if (how & 1)
		f.cfg.nat_pool[1] = (struct addr_range){address(100, true), address(101, true)};
}

static void begin(void)
{
	unsigned a = next(), from = a & 3, to = a >> 2 & 3;
	struct tuple t = next_tuple();
	struct fs_packet pk = next_packet(from, a >> 4 & 1, &t);
	struct fs_hit hit;
	struct fs_half h;

	if (!(a & 0x80)) /* most begin */
		pk.tcp_flags = 2;
	if (fs_begin(f.fs, &pk, f.realm[to], f.way[to][a >> 5 & 1], from == EGRESS,
		    a & 0x40 ? FS_BEGIN_READDRESS : 0, f.now, &hit) != DROP_NONE)
		return;
	fs_half(f.fs, hit.flow, hit.dir, &h);
	must(h.realm == f.realm[from] && memcmp(&h.t, &t, sizeof(t)) == 0);
	(void)fs_pass(f.fs, hit, &pk, f.now);
}

/* The tuple is one that it is likely to find: of a flow. */
static void pass(void)
{
	unsigned a = next(), r = a & 3;
	uint32_t cursor = next(), flow;
	struct fs_info info;
	struct tuple t;
	struct fs_packet pk;
	struct fs_hit hit;
	struct fs_half h;

	if (fs_next(f.fs, &cursor, 4, &flow, &info) == 1) {
		t = info.half[a >> 2 & 1].t;
		for (unsigned k = 0; k < REALMS && !(a & 8); k++)
			if (f.realm[k] == info.half[a >> 2 & 1].realm)
				r = k;
	} else {
		t = next_tuple();
	}
	pk = next_packet(r, a >> 4 & 1, &t);
	fs_find(f.fs, &pk.key, 1, &hit);
	if (hit.flow == FS_NONE)
		return;
	fs_half(f.fs, hit.flow, hit.dir, &h);
	must(h.realm == f.realm[r] && memcmp(&h.t, &t, sizeof(t)) == 0);
	if (a & 0x40) { /* as another site: it must not pass */
		pk.key.realm = f.realm[(r + 1) % REALMS];
		must(fs_pass(f.fs, hit, &pk, f.now) == DROP_OTHER_SITE);
		return;
	}
	(void)fs_pass(f.fs, hit, &pk, f.now);
}

static void unbind(void)
{
	unsigned a = next(), r = a & 3;
	bool whole = a & 4 || r == EGRESS;

	fs_unbind(f.fs, whole ? f.realm[r] : f.way[r][a >> 3 & 1]);
	bind_realm(r);
}

static void operate(void)
{
	unsigned what = next() & 31;

	if (what < 13)
		begin();
	else if (what < 21)
		pass();
	else if (what < 23)
		fs_end(f.fs, next() % f.cfg.max, f.now);
	else if (what < 26)
		fs_tick(f.fs, f.now += next() * (what == 25 ? 1000u : 20u),
			what == 23 ? next() : FS_TICK_BUDGET);
	else if (what == 26)
		unbind();
	else if (what == 27) {
		configure(next());
		fs_reconfigure(f.fs, &f.cfg);
	} else if (what == 28 && f.cfg.path) {
		fs_close(f.fs);
		open_table(FS_OPEN_ADOPTED);
	} else if (what == 29)
		fs_set_site_limit(f.fs, f.realm[next() & 3], next() & 15);
	else if (what == 30)
		must(!fs_check(f.fs));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct randombytes_implementation repeatable = {
		.implementation_name = any_name, .random = any_word, .buf = any_octets};
	static char path[64];

	randombytes_set_implementation(&repeatable);
	memset(&f, 0, sizeof(f));
	f.at = data;
	f.end = data + size;
	f.now = 1000000;
	f.quarantine_s = UINT32_MAX;
	f.cfg = (struct fs_config){.boot_id = "0123456789abcde", .nshards = 1};
	must(prefix_parse("100.64.0.0/29", &f.cfg.pool4) == 0 &&
		prefix_parse("fd00::/125", &f.cfg.pool6) == 0);
	for (int s = 0; s < FS_STATE_COUNT; s++)
		f.cfg.timeout_s[s] = 10 + 5 * (uint32_t)s;
	configure(next());
	unsigned how = next();
	f.cfg.max = how & 1 ? 12 : 40;
	if (how & 2) {
		snprintf(path, sizeof(path), "/dev/shm/arrd-fuzz-flow.%d", (int)getpid());
		unlink(path);
		f.cfg.path = path;
	}
	open_table(FS_OPEN_NEW);
	for (unsigned n = 0; n < OPERATIONS && f.at < f.end; n++) {
		operate();
		look();
	}
	must(!fs_check(f.fs));
	fs_close(f.fs);
	if (f.cfg.path)
		unlink(path);
	return 0;
}
