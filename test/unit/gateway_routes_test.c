/* SPDX-License-Identifier: GPL-2.0-or-later */
/* gateway_routes_test.c - longest-prefix match against a naive search, and which tunnel of equals is taken.
 */
#include "gateway/routes.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define TUNNELS 40
#define EACH    6

struct world {
	struct config conf;
	struct conf_tunnel ct[TUNNELS];
	struct prefix p[TUNNELS][EACH];
	char name[TUNNELS][16];
	struct tunnels *t;
	struct routes *r;
};

static struct prefix pfx(const char *s)
{
	struct prefix p;

	assert_int_equal(prefix_parse(s, &p), 0);
	return p;
}

static struct addr adr(const char *s)
{
	struct addr a;

	assert_int_equal(addr_parse(s, &a), 0);
	return a;
}

static struct world *world_new(void)
{
	struct world *w = calloc(1, sizeof(*w));

	assert_non_null(w);
	w->conf.tunnels = w->ct;
	return w;
}

static void add(struct world *w, uint32_t priority, const char *const *routes)
{
	size_t i = w->conf.ntunnels++;

	snprintf(w->name[i], sizeof(w->name[i]), "t%02zu", i);
	w->ct[i] = (struct conf_tunnel){
		.name = w->name[i], .site = w->name[i], .priority = priority, .routes = {.p = w->p[i]}};
	for (; *routes; routes++)
		w->p[i][w->ct[i].routes.n++] = pfx(*routes);
}

static void build(struct world *w)
{
	assert_int_equal(tunnels_new(&w->t, &w->conf, NULL), 0);
	for (uint32_t i = 0; i < w->conf.ntunnels; i++)
		tunnels_at(w->t, i)->site = tunnels_at(w->t, i)->id = i + 1;
	assert_int_equal(routes_new(&w->r, w->t, &w->conf), 0);
}

static void world_free(struct world *w)
{
	routes_free(w->r);
	tunnels_free(w->t);
	free(w);
}

static const char *found(const struct world *w, const char *a, fs_id site)
{
	struct addr x = adr(a);
	struct tunnel *t = routes_find(w->r, &x, site, 1000);

	return t ? t->conf->name : "-";
}

static void longest_wins(void **state)
{
	static const struct {
		const char *addr, *tunnel;
	} row[] = {
		{"10.1.2.3", "t02"},
		{"10.1.2.200", "t03"},
		{"10.1.3.1", "t01"},
		{"10.2.0.1", "t00"},
		{"11.0.0.1", "-"},
		{"9.255.255.255", "-"},
		{"10.1.2.255", "t03"},
		{"10.255.255.255", "t00"},
		{"2001:db8::1", "t05"},
		{"2001:db8:1::1", "t04"},
		{"2001:db9::1", "t05"},
		{"192.0.2.7", "t06"},
		{"192.0.2.8", "-"},
	};
	struct world *w = world_new();

	(void)state;
	add(w, 100, (const char *[]){"10.0.0.0/8", NULL});
	add(w, 100, (const char *[]){"10.1.0.0/16", NULL});
	add(w, 100, (const char *[]){"10.1.2.0/24", NULL});
	add(w, 100, (const char *[]){"10.1.2.128/25", NULL});
	add(w, 100, (const char *[]){"2001:db8:1::/48", NULL});
	add(w, 100, (const char *[]){"::/0", NULL}); /* holds no IPv4, mapped though that is */
	add(w, 100, (const char *[]){"192.0.2.7/32", NULL});
	build(w);
	for (size_t i = 0; i < sizeof(row) / sizeof(row[0]); i++)
		if (strcmp(found(w, row[i].addr, FS_ID_NONE), row[i].tunnel) != 0)
			fail_msg("row %zu: %s went to %s, not to %s", i, row[i].addr,
				found(w, row[i].addr, FS_ID_NONE), row[i].tunnel);
	world_free(w);
}

static void equal_prefixes(void **state)
{
	struct world *w = world_new();

	(void)state;
	add(w, 200, (const char *[]){"10.0.0.0/8", NULL});
	add(w, 50, (const char *[]){"10.0.0.0/8", NULL});
	add(w, 100, (const char *[]){"10.0.0.0/8", "10.1.0.0/16", NULL});
	build(w);
	assert_string_equal(found(w, "10.9.9.9", FS_ID_NONE), "t01");
	tunnels_at(w->t, 1)->down_until_ms = 2000;
	assert_string_equal(found(w, "10.9.9.9", FS_ID_NONE), "t02");
	tunnels_at(w->t, 2)->down_until_ms = 2000;
	tunnels_at(w->t, 0)->down_until_ms = 2000;
	assert_string_equal(found(w, "10.9.9.9", FS_ID_NONE), "t01"); /* all are down: the best of them */
	/* of one site only, also when a longer prefix is another's */
	assert_string_equal(found(w, "10.1.9.9", 1), "t00");
	assert_string_equal(found(w, "10.1.9.9", 3), "t02");
	assert_string_equal(found(w, "10.1.9.9", 9), "-");
	world_free(w);
}

static struct tunnel *naive(const struct world *w, const struct addr *a)
{
	const struct conf_tunnel *best = NULL;
	struct tunnel *t = NULL;
	uint8_t len = 0;

	for (uint32_t i = 0; i < w->conf.ntunnels; i++)
		for (size_t k = 0; k < w->ct[i].routes.n; k++) {
			const struct prefix *p = &w->ct[i].routes.p[k];

			if (!prefix_has(p, a))
				continue;
			if (best && (p->len < len || (p->len == len && best->priority <= w->ct[i].priority)))
				continue;
			best = &w->ct[i];
			len = p->len;
			t = tunnels_at(w->t, i);
		}
	return t;
}

/* Few addresses of both families, all lengths: deep nesting and many equals. */
static struct addr random_addr(uint16_t mask)
{
	struct addr a = {0};

	if (random() % 2)
		return addr_from4((uint32_t)random() & htonl(0xc0a80000u | mask));
	a.w[0] = (uint32_t)random() & htonl(0x20010000u | mask);
	return a;
}

static struct prefix random_prefix(void)
{
	struct prefix p = {.a = random_addr(0x0303)};

	p.len = (uint8_t)(addr_is4(&p.a) ? 96 + random() % 33 : random() % 34);
	return p;
}

static void against_naive(void **state)
{
	(void)state;
	srandom(20);
	for (int round = 0; round < 300; round++) {
		struct world *w = world_new();

		for (int i = 0; i < TUNNELS; i++) {
			char text[EACH][PREFIX_STRLEN];
			const char *list[EACH + 1] = {NULL};

			for (int k = 0; k < EACH; k++) {
				struct prefix p = random_prefix();

				for (int bit = p.len; bit < 128; bit++)
					p.a.b[bit / 8] &= (uint8_t) ~(0x80 >> bit % 8);
				list[k] = prefix_str(&p, text[k]);
			}
			add(w, (uint32_t)(random() % 1000000), list);
		}
		build(w);
		for (int i = 0; i < 2000; i++) {
			struct addr a = random_addr(0x0f0f);
			char s[ADDR_STRLEN];

			if (routes_find(w->r, &a, FS_ID_NONE, 1000) != naive(w, &a))
				fail_msg("round %d: %s", round, addr_str(&a, s));
		}
		world_free(w);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(longest_wins), cmocka_unit_test(equal_prefixes),
		cmocka_unit_test(against_naive)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
