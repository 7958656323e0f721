/* SPDX-License-Identifier: GPL-2.0-or-later */
/* values_ipsec.c - option values of IPsec: identities, keys, files, proposals, limits of a lifetime. */
#include "gateway/config.h"
#include "gateway/values.h"
#include "ipsec/proposal.h"

#include <ctype.h>
#include <errno.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#define PROPOSALS_MAX 32 /* of a list */

/* ---- pre-shared keys ----------------------------------------------------------------------------- */

void value_psk_free(char *key, uint32_t len)
{
	if (key)
		sodium_memzero(key, len);
	free(key);
}

/* Into key, which has room for n octets and a NUL. */
static int decode(const char *s, size_t n, char *key, size_t *len)
{
	const char *end;

	if (n >= 2 && s[0] == '0' && s[1] == 'x')
		return sodium_hex2bin((unsigned char *)key, n, s + 2, n - 2, NULL, len, &end) == 0 &&
				       end == s + n
			       ? 0
			       : -EINVAL;
	if (n >= 2 && s[0] == '0' && s[1] == 's')
		return sodium_base642bin((unsigned char *)key, n, s + 2, n - 2, NULL, len, &end,
			       sodium_base64_VARIANT_ORIGINAL) == 0 &&
				       end == s + n
			       ? 0
			       : -EINVAL;
	memcpy(key, s, n);
	*len = n;
	return 0;
}

int value_psk_decode(
	const char *s, size_t n, size_t max, char **key, uint32_t *len, const struct complaint *c)
{
	size_t got = 0;
	char *k = calloc(1, n + 1);
	int err;

	if (!k)
		return -ENOMEM;
	if (n >= 2 && s[0] == '"' && s[n - 1] == '"')
		err = value_bad(c, "the key is in quotes, which would be part of it; expected it without");
	else if (decode(s, n, k, &got))
		err = value_bad(c,
			"the key is not valid; expected text, or 0x and an even number of hexadecimal "
			"digits, or 0s and base64");
	else if (got < VALUE_PSK_MIN || got > max)
		err = value_bad(c, "the key has %zu octets; expected %d to %zu", got, VALUE_PSK_MIN, max);
	else
		err = 0;
	if (err) {
		value_psk_free(k, (uint32_t)n);
		return err;
	}
	sodium_memzero(k + got, n - got);
	*key = k;
	*len = (uint32_t)got;
	return 0;
}

/* field is the struct conf_tunnel. */
static int parse_psk(void *field, const char *s, const struct value_type *t, const struct value_range *r,
	const struct complaint *c)
{
	struct conf_ike *ike = &((struct conf_tunnel *)field)->ike;

	(void)t;
	(void)r;
	return value_psk_decode(s, strlen(s), VALUE_PSK_MAX, &ike->psk, &ike->psk_len, c);
}

static bool eq_psk(const void *a, const void *b)
{
	const struct conf_ike *x = &((const struct conf_tunnel *)a)->ike;
	const struct conf_ike *y = &((const struct conf_tunnel *)b)->ike;

	if (!x->psk || !y->psk)
		return !x->psk && !y->psk;
	return x->psk_len == y->psk_len && memcmp(x->psk, y->psk, x->psk_len) == 0;
}

static void free_psk(void *field)
{
	struct conf_ike *ike = &((struct conf_tunnel *)field)->ike;

	value_psk_free(ike->psk, ike->psk_len);
}

/* ---- files --------------------------------------------------------------------------------------- */

/* A relative one is completed where the directory is known (config_files.c). */
static int parse_file(void *field, const char *s, const struct value_type *t, const struct value_range *r,
	const struct complaint *c)
{
	return strlen(s) <= r->max ? value_set_text(field, s) : value_invalid(s, t, r, c);
}

/* ---- identities ---------------------------------------------------------------------------------- */

static int parse_identity(void *field, const char *s, const struct value_type *t, const struct value_range *r,
	const struct complaint *c)
{
	char canon[VALUE_IDENTITY_CANON];
	int err = value_identity_canon(s, canon, c);

	(void)t;
	(void)r;
	return err ? err : value_set_text(field, s);
}

/* ---- proposals ----------------------------------------------------------------------------------- */

static int parse_proposal(void *field, const char *s, const struct value_type *t, const struct value_range *r,
	const struct complaint *c)
{
	struct string_list *list = field;
	enum proposal_kind kind = t == &value_ike_proposals ? PROPOSAL_IKE : PROPOSAL_ESP;
	char why[400], *copy;
	int err;

	(void)r;
	if (proposal_check(kind, s, why, sizeof(why)))
		return value_bad(c, VALUE_SHOWN ": %s", s, why);
	if (list->n == PROPOSALS_MAX)
		return value_bad(
			c, VALUE_SHOWN " is one too many; expected at most %d proposals", s, PROPOSALS_MAX);
	copy = strdup(s);
	err = copy ? value_grow((void **)&list->s, list->n, sizeof(*list->s)) : -ENOMEM;
	if (err)
		free(copy);
	else
		list->s[list->n++] = copy;
	return err;
}

/* The order says what is preferred. */
static bool eq_strings(const void *a, const void *b)
{
	const struct string_list *x = a, *y = b;

	if (x->n != y->n)
		return false;
	for (size_t i = 0; i < x->n; i++)
		if (strcmp(x->s[i], y->s[i]) != 0)
			return false;
	return true;
}

static void free_strings(void *field)
{
	struct string_list *list = field;

	for (size_t i = 0; i < list->n; i++)
		free(list->s[i]);
	free((void *)list->s);
}

/* ---- limits of a lifetime ------------------------------------------------------------------------ */

/* Up to 2^63 - 1, with a unit where the type has some. */
static int parse_u64(void *field, const char *s, const struct value_type *t, const struct value_range *r,
	const struct complaint *c)
{
	const struct value_word *w = value_find_word(r, s);
	const char *p = s, *units = t == &value_octets ? "kMGT" : "", *unit;
	uint64_t v = 0;

	if (w) {
		*(uint64_t *)field = w->value;
		return 0;
	}
	for (; isdigit((unsigned char)*p); p++) {
		if (__builtin_mul_overflow(v, 10, &v) || __builtin_add_overflow(v, (uint64_t)(*p - '0'), &v))
			return value_invalid(s, t, r, c);
	}
	unit = p != s && *p ? strchr(units, *p) : NULL;
	if (unit) {
		if (__builtin_mul_overflow(v, (uint64_t)1 << (10 * (unit - units + 1)), &v))
			return value_invalid(s, t, r, c);
		p++;
	}
	if (p == s || *p || v < r->min || v > INT64_MAX)
		return value_invalid(s, t, r, c);
	*(uint64_t *)field = v;
	return 0;
}

static bool eq_u64(const void *a, const void *b)
{
	return *(const uint64_t *)a == *(const uint64_t *)b;
}

/* ---- the types ----------------------------------------------------------------------------------- */

const struct value_type value_psk = {
	.what = "a key of 8 to 256 octets, as text, 0x and hexadecimal, or 0s and base64",
	.parse = parse_psk,
	.eq = eq_psk,
	.free = free_psk};
const struct value_type value_file = {.what = "a path of at most 1024 octets",
	.parse = parse_file,
	.eq = value_eq_text,
	.free = value_free_text};
const struct value_type value_identity = {.what = "an identity of at most 255 characters",
	.parse = parse_identity,
	.eq = value_eq_text,
	.free = value_free_text};
const struct value_type value_ike_proposals = {.what = "a list of proposals",
	.list = true,
	.needs_one = true,
	.parse = parse_proposal,
	.eq = eq_strings,
	.free = free_strings};
const struct value_type value_esp_proposals = {.what = "a list of proposals",
	.list = true,
	.needs_one = true,
	.parse = parse_proposal,
	.eq = eq_strings,
	.free = free_strings};
const struct value_type value_octets = {
	.what = "a size in octets, k, M, G or T, of 1M and more", .parse = parse_u64, .eq = eq_u64};
const struct value_type value_packets = {.what = "a number, 1000 and more", .parse = parse_u64, .eq = eq_u64};
