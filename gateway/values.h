/* SPDX-License-Identifier: GPL-2.0-or-later */
/* values.h - the types of option values: how each is read, compared, freed and described.
 *
 * options.c names a type in each row of its table; nobody else needs them one by one. A field is the member
 * of a configuration struct that the row points at. A type that fills several members (overlap_pool,
 * local_services, gre_key) is given the whole struct as its field.
 */
#ifndef ARRD_VALUES_H
#define ARRD_VALUES_H

#include "gateway/base/addr.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Who is told what is wrong with a value: "what is wrong; what was expected", one call a problem. */
struct complaint {
	void (*say)(void *arg, const char *text);
	void *arg;
};

/* A word that stands for a number: {"inherit", DSCP_INHERIT}. */
struct value_word {
	const char *name;
	uint32_t value;
};

/* What the type needs to know of the option: bounds of numbers (or of the length of a text), words. */
struct value_range {
	uint32_t min, max;
	const struct value_word *words; /* ends with a NULL name; NULL: none */
};

struct value_type {
	const char *what; /* "a number", "an interface name" */
	bool list;        /* comma-separated, may be repeated, parse gets one element at a time */
	bool bounded;     /* min and max are part of the description */
	bool words_only;
	/* Reads s (not empty, no blanks around) into field. Returns 0; -EINVAL after a complaint; -EEXIST
	 * when the one place that a list has for such an element is taken (no complaint); -ENOMEM. */
	int (*parse)(void *field, const char *s, const struct value_type *t, const struct value_range *r,
		const struct complaint *c);
	bool (*eq)(const void *a, const void *b);
	void (*finish)(void *field); /* once all elements are there; may be NULL */
	void (*free)(void *field);   /* may be NULL */
};

extern const struct value_type value_bool, value_u8, value_u32, value_size, value_seconds, value_bit,
	value_nat, value_tunnel_type, value_log_level, value_ifname, value_path, value_name, value_addr,
	value_ifaddrs, value_prefixes, value_pools, value_services, value_gre_key;

/* A value in a message; what is longer is cut. */
#define VALUE_SHOWN "\"%.64s\""

/* For the types: complains and returns -EINVAL, so that a check is one line. */
int value_bad(const struct complaint *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* For the types: reads decimal or 0x hexadecimal, up to 2^32 - 1 (a leading 0 does not mean octal); *end is
 * what stands behind the digits. False when there is no such number. */
bool value_number(const char *s, const char **end, uint64_t *out);

/* "a number, 1 to 255", "inherit, or a number, 0 to 63": into buf, for messages, help and man page. */
const char *value_describe(const struct value_type *t, const struct value_range *r, char *buf, size_t len);

/* Names of tunnels, sites, groups: 1 to 63 of [A-Za-z0-9_.-]. */
#define VALUE_NAME_MAX 63
bool value_is_name(const char *s);

/* Whether an address can be that of one host: not unspecified, multicast, broadcast, nor link-local IPv6
 * (which would need an interface with it). */
bool value_is_host(const struct addr *a);

#endif
