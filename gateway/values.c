/* SPDX-License-Identifier: GPL-2.0-or-later */
/* values.c - the types of option values: how each is read, compared, freed and described. */
#include "gateway/values.h"
#include "gateway/config.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <net/if.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int value_bad(const struct complaint *c, const char *fmt, ...)
{
	char text[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (c)
		c->say(c->arg, text);
	return -EINVAL;
}

int value_invalid(
	const char *s, const struct value_type *t, const struct value_range *r, const struct complaint *c)
{
	char expected[256];

	return value_bad(c, VALUE_SHOWN " is not valid; expected %s", s,
		value_describe(t, r, expected, sizeof(expected)));
}

const struct value_word *value_find_word(const struct value_range *r, const char *s)
{
	for (const struct value_word *w = r->words; w && w->name; w++)
		if (strcmp(w->name, s) == 0)
			return w;
	return NULL;
}

int value_grow(void **list, size_t n, size_t size)
{
	void *p;

	if (n & (n - 1))
		return 0;
	p = reallocarray(*list, n ? 2 * n : 1, size);
	if (!p)
		return -ENOMEM;
	*list = p;
	return 0;
}

bool value_number(const char *s, const char **end, uint64_t *out)
{
	int base = 10;
	uint64_t v = 0;
	const char *first;

	if (s[0] == '0' && (s[1] == 'x' || s[1] == 'X')) {
		base = 16;
		s += 2;
	}
	for (first = s; base == 16 ? isxdigit((unsigned char)*s) : isdigit((unsigned char)*s); s++) {
		int digit = isdigit((unsigned char)*s) ? *s - '0' : tolower((unsigned char)*s) - 'a' + 10;

		v = v * (uint64_t)base + (uint64_t)digit;
		if (v > UINT32_MAX)
			return false;
	}
	*end = s;
	*out = v;
	return s != first;
}

static int to_number(const char *s, const struct value_type *t, const struct value_range *r,
	const struct complaint *c, uint32_t *out)
{
	const struct value_word *w = value_find_word(r, s);
	const char *end;
	uint64_t v;

	if (w) {
		*out = w->value;
		return 0;
	}
	if (t->words_only || !value_number(s, &end, &v))
		return value_invalid(s, t, r, c);
	if (t == &value_size && *end && !end[1]) {
		const char *unit = strchr("kMG", *end);

		if (unit) {
			v <<= 10 * (unit - "kMG" + 1);
			end++;
		}
	}
	if (*end || v < r->min || v > r->max)
		return value_invalid(s, t, r, c);
	*out = (uint32_t)v;
	return 0;
}

/* ---- numbers and words --------------------------------------------------------------------------- */

static int parse_u32(void *field, const char *s, const struct value_type *t, const struct value_range *r,
	const struct complaint *c)
{
	return to_number(s, t, r, c, field);
}

static int parse_u8(void *field, const char *s, const struct value_type *t, const struct value_range *r,
	const struct complaint *c)
{
	uint32_t v = 0;
	int err = to_number(s, t, r, c, &v);

	if (!err)
		*(uint8_t *)field = (uint8_t)v;
	return err;
}

static int parse_bool(void *field, const char *s, const struct value_type *t, const struct value_range *r,
	const struct complaint *c)
{
	static const struct value_word words[] = {
		{"yes", 1}, {"true", 1}, {"on", 1}, {"no", 0}, {"false", 0}, {"off", 0}, {NULL, 0}};
	const struct value_word *w = value_find_word(&(struct value_range){.words = words}, s);

	if (!w)
		return value_invalid(s, t, r, c);
	*(bool *)field = w->value;
	return 0;
}

static int parse_bit(void *field, const char *s, const struct value_type *t, const struct value_range *r,
	const struct complaint *c)
{
	uint32_t v = 0;
	int err = to_number(s, t, r, c, &v);

	if (err)
		return err;
	if (v == 0 || (v & (v - 1)) != 0)
		return value_invalid(s, t, r, c);
	*(uint32_t *)field = v;
	return 0;
}

static int parse_tunnel_type(void *field, const char *s, const struct value_type *t,
	const struct value_range *r, const struct complaint *c)
{
	uint32_t v = 0;
	int err;

	if (strcmp(s, "interconnect") == 0)
		return value_bad(c,
			VALUE_SHOWN ": tunnels of this type are not in this version; expected gre or ipsec",
			s);
	err = to_number(s, t, r, c, &v);
	if (!err)
		*(enum conf_tunnel_type *)field = (enum conf_tunnel_type)v;
	return err;
}

static int parse_log_level(void *field, const char *s, const struct value_type *t,
	const struct value_range *r, const struct complaint *c)
{
	int level = log_level_parse(s);

	if (level < 0)
		return value_invalid(s, t, r, c);
	*(enum log_level *)field = (enum log_level)level;
	return 0;
}

static int parse_gre_key(void *field, const char *s, const struct value_type *t, const struct value_range *r,
	const struct complaint *c)
{
	struct conf_tunnel *tunnel = field;
	int err = to_number(s, t, r, c, &tunnel->gre_key);

	tunnel->gre_has_key = !err;
	return err;
}

static bool eq_bool(const void *a, const void *b)
{
	return *(const bool *)a == *(const bool *)b;
}

static bool eq_u8(const void *a, const void *b)
{
	return *(const uint8_t *)a == *(const uint8_t *)b;
}

static bool eq_u32(const void *a, const void *b)
{
	return *(const uint32_t *)a == *(const uint32_t *)b;
}

static_assert(sizeof(enum conf_tunnel_type) == 4 && sizeof(enum log_level) == 4 &&
		      sizeof(enum conf_ipsec_mode) == 4 && sizeof(enum conf_crypto) == 4,
	"eq_u32 compares enums too");

static bool eq_gre_key(const void *a, const void *b)
{
	const struct conf_tunnel *x = a, *y = b;

	return x->gre_has_key == y->gre_has_key && (!x->gre_has_key || x->gre_key == y->gre_key);
}

/* ---- texts --------------------------------------------------------------------------------------- */

static_assert(VALUE_NAME_MAX == FS_NAME_MAX, "the flow table keeps names of tunnels and sites");

bool value_is_name(const char *s)
{
	size_t n = strspn(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-");

	return n >= 1 && n <= VALUE_NAME_MAX && !s[n];
}

int value_set_text(char **field, const char *s)
{
	char *copy = strdup(s);

	if (!copy)
		return -ENOMEM;
	free(*field);
	*field = copy;
	return 0;
}

static int parse_name(void *field, const char *s, const struct value_type *t, const struct value_range *r,
	const struct complaint *c)
{
	return value_is_name(s) ? value_set_text(field, s) : value_invalid(s, t, r, c);
}

/* The kernel takes more, but '%' makes it choose a number, and nftables gives '*' and '"' a meaning. */
static int parse_ifname(void *field, const char *s, const struct value_type *t, const struct value_range *r,
	const struct complaint *c)
{
	if (!value_is_name(s) || strlen(s) >= IFNAMSIZ || strcmp(s, ".") == 0 || strcmp(s, "..") == 0)
		return value_invalid(s, t, r, c);
	return value_set_text(field, s);
}

static int parse_path(void *field, const char *s, const struct value_type *t, const struct value_range *r,
	const struct complaint *c)
{
	if (s[0] != '/' || strlen(s) > r->max)
		return value_invalid(s, t, r, c);
	return value_set_text(field, s);
}

bool value_eq_text(const void *a, const void *b)
{
	const char *x = *(char *const *)a, *y = *(char *const *)b;

	return x && y ? strcmp(x, y) == 0 : x == y;
}

void value_free_text(void *field)
{
	free(*(char **)field);
}

/* ---- the types ----------------------------------------------------------------------------------- */

const struct value_type value_bool = {.what = "yes or no", .parse = parse_bool, .eq = eq_bool};
const struct value_type value_u8 = {.what = "a number", .bounded = true, .parse = parse_u8, .eq = eq_u8};
const struct value_type value_u32 = {.what = "a number", .bounded = true, .parse = parse_u32, .eq = eq_u32};
const struct value_type value_size = {
	.what = "a size in octets, k, M or G", .bounded = true, .parse = parse_u32, .eq = eq_u32};
const struct value_type value_seconds = {
	.what = "seconds", .bounded = true, .parse = parse_u32, .eq = eq_u32};
const struct value_type value_bit = {
	.what = "a number with exactly one bit set", .parse = parse_bit, .eq = eq_u32};
const struct value_type value_tunnel_type = {.words_only = true, .parse = parse_tunnel_type, .eq = eq_u32};
const struct value_type value_log_level = {
	.what = "error, warning, notice, info or debug", .parse = parse_log_level, .eq = eq_u32};
const struct value_type value_ifname = {.what = "an interface name of 1 to 15 of A-Z a-z 0-9 _ . -",
	.parse = parse_ifname,
	.eq = value_eq_text,
	.free = value_free_text};
const struct value_type value_path = {.what = "an absolute path",
	.bounded = true,
	.parse = parse_path,
	.eq = value_eq_text,
	.free = value_free_text};
const struct value_type value_name = {.what = "a name of 1 to 63 of A-Z a-z 0-9 _ . -",
	.parse = parse_name,
	.eq = value_eq_text,
	.free = value_free_text};
const struct value_type value_word = {.words_only = true, .parse = parse_u32, .eq = eq_u32};
const struct value_type value_gre_key = {
	.what = "a number", .bounded = true, .parse = parse_gre_key, .eq = eq_gre_key};

const char *value_describe(const struct value_type *t, const struct value_range *r, char *buf, size_t len)
{
	size_t n = 0;

	buf[0] = '\0';
	for (const struct value_word *w = r->words; w && w->name && n < len; w++) {
		const char *sep = w == r->words ? "" : t->words_only && !w[1].name ? " or " : ", ";

		n += (size_t)snprintf(buf + n, len - n, "%s%s", sep, w->name);
	}
	if (t->what && n < len)
		n += (size_t)snprintf(buf + n, len - n, "%s%s", n ? ", or " : "", t->what);
	if (t == &value_path && n < len)
		snprintf(buf + n, len - n, " of at most %u octets", r->max);
	else if (t->bounded && n < len)
		snprintf(buf + n, len - n, ", %u to %u", r->min, r->max);
	return buf;
}
