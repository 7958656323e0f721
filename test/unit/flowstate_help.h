/* SPDX-License-Identifier: GPL-2.0-or-later */
/* flowstate_help.h - what the tests of the flow table share: a table with two sites, and packets in one line.
 */
#ifndef ARRD_TEST_FLOWSTATE_HELP_H
#define ARRD_TEST_FLOWSTATE_HELP_H

#include "flowstate/state.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#if defined(__SANITIZE_ADDRESS__)
#define ROUNDS(n) ((n) / 8 + 1)
#else
#define ROUNDS(n) (n)
#endif

#define FLAG_FIN 0x01
#define FLAG_SYN 0x02
#define FLAG_RST 0x04
#define FLAG_ACK 0x10

/* Two sites (a has two tunnels), one egress. */
struct world {
	struct fs_config cfg;
	struct flowstate *fs;
	struct fs_open_report rep;
	uint64_t now;
	fs_id site_a, site_b, a1, a2, b1, egress;
};

static inline struct addr ip(const char *s)
{
	struct addr a;
	assert_int_equal(addr_parse(s, &a), 0);
	return a;
}

static inline struct prefix net(const char *s)
{
	struct prefix p;
	assert_int_equal(prefix_parse(s, &p), 0);
	return p;
}

static inline struct fs_config config(const char *path, uint32_t max)
{
	struct fs_config c = {.path = path,
		.boot_id = "0123456789abcde",
		.max = max,
		.tcp_loose = true,
		.pool4 = net("100.64.0.0/16"),
		.pool6 = net("fd00:a44::/64"),
		.nshards = 1};
	for (int s = 0; s < FS_STATE_COUNT; s++)
		c.timeout_s[s] = fs_state_default_s(s);
	return c;
}

static inline void bind_all(struct world *w)
{
	w->site_a = fs_bind(w->fs, FS_SITE, "a", FS_ID_NONE, 0);
	w->site_b = fs_bind(w->fs, FS_SITE, "b", FS_ID_NONE, 0);
	w->a1 = fs_bind(w->fs, FS_TUNNEL, "a1", w->site_a, 11);
	w->a2 = fs_bind(w->fs, FS_TUNNEL, "a2", w->site_a, 12);
	w->b1 = fs_bind(w->fs, FS_TUNNEL, "b1", w->site_b, 13);
	w->egress = fs_bind(w->fs, FS_EGRESS, "default", FS_ID_NONE, 0);
}

static inline void world_open(struct world *w)
{
	assert_int_equal(fs_open(&w->fs, &w->cfg, w->now, &w->rep), 0);
}

static inline void world_new(struct world *w, const char *path, uint32_t max)
{
	*w = (struct world){.cfg = config(path, max), .now = 1000000};
	if (path)
		unlink(path);
	world_open(w);
	bind_all(w);
	fs_unbind_rest(w->fs);
}

static inline void check(struct world *w)
{
	const char *wrong = fs_check(w->fs);
	if (wrong)
		fail_msg("%s", wrong);
}

static inline void world_close(struct world *w)
{
	check(w);
	fs_close(w->fs);
	w->fs = NULL;
}

static inline struct tuple tup(
	uint8_t proto, const char *src, uint16_t sport, const char *dst, uint16_t dport)
{
	return (struct tuple){
		.src = ip(src), .dst = ip(dst), .sport = htons(sport), .dport = htons(dport), .proto = proto};
}

static inline struct fs_packet packet(fs_id realm, fs_id via, struct tuple t, uint8_t flags)
{
	return (struct fs_packet){
		.key = {.t = t, .realm = realm}, .via = via, .octets = 100, .packets = 1, .tcp_flags = flags};
}

/* The numbers of a segment that comes next in its direction. */
static inline void next_segment(struct world *w, uint32_t flow, enum fs_dir dir, struct fs_packet *pk)
{
	const struct tcp_window *mine = &body_of(w->fs, flow)->window[dir],
				*other = &body_of(w->fs, flow)->window[!dir];

	pk->seq = mine->end - (mine->end && (pk->tcp_flags & (FLAG_SYN | FLAG_RST)) == FLAG_SYN);
	pk->ack = other->end;
	pk->window = UINT16_MAX;
}

static inline struct fs_hit find(struct world *w, fs_id realm, struct tuple t)
{
	struct fs_key k = {.t = t, .realm = realm};
	struct fs_hit hit;
	fs_find(w->fs, &k, 1, &hit);
	return hit;
}

/* A flow from a site to the egress; FS_NONE if it was refused with *drop. */
static inline uint32_t begin(struct world *w, fs_id site, fs_id via, struct tuple t, enum drop *drop)
{
	struct fs_packet pk = packet(site, via, t, FLAG_SYN);
	struct fs_hit hit;
	enum drop d = fs_begin(w->fs, &pk, w->egress, w->egress, false, 0, w->now, &hit);
	if (drop)
		*drop = d;
	else
		assert_int_equal(d, DROP_NONE);
	return hit.flow;
}

static inline struct tuple half(struct world *w, uint32_t flow, enum fs_dir dir)
{
	struct fs_half h;
	fs_half(w->fs, flow, dir, &h);
	return h.t;
}

/* Lets time pass as a loop would, in steps of a second. */
static inline unsigned sleep_s(struct world *w, unsigned seconds)
{
	unsigned ended = 0;
	for (unsigned i = 0; i < seconds; i++) {
		w->now += 1000;
		ended += fs_tick(w->fs, w->now, 1000000);
	}
	return ended;
}

static inline void assert_tuple(struct tuple a, struct tuple b)
{
	assert_memory_equal(&a, &b, sizeof(a));
}

#endif
