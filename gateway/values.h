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
	bool needs_one;   /* a list that stands in a file must not be empty there */
	bool fills;       /* a list: the default adds the elements that the file did not name */
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
	value_ifaddrs, value_prefixes, value_pools, value_services, value_gre_key, value_word, value_remote,
	value_identity, value_psk, value_file, value_ike_proposals, value_esp_proposals, value_octets,
	value_packets;

/* A value in a message; what is longer is cut. */
#define VALUE_SHOWN "\"%.64s\""

/* For the types: complains and returns -EINVAL, so that a check is one line. c NULL: nobody is told. */
int value_bad(const struct complaint *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* The same, of a value that is none: "VALUE" is not valid; expected what value_describe says. */
int value_invalid(
	const char *s, const struct value_type *t, const struct value_range *r, const struct complaint *c);

/* For the types that are texts. */
int value_set_text(char **field, const char *s);
bool value_eq_text(const void *a, const void *b);
void value_free_text(void *field);

/* Room for one more element of a list of n: the room is always the power of two at or above n. 0 or -ENOMEM. */
int value_grow(void **list, size_t n, size_t size);

/* The word of a value, or NULL. */
const struct value_word *value_find_word(const struct value_range *r, const char *s);

/* For the types: reads decimal or 0x hexadecimal, up to 2^32 - 1 (a leading 0 does not mean octal); *end is
 * what stands behind the digits. False when there is no such number. */
bool value_number(const char *s, const char **end, uint64_t *out);

/* "a number, 1 to 255", "inherit, or a number, 0 to 63": into buf, for messages, help and man page. */
const char *value_describe(const struct value_type *t, const struct value_range *r, char *buf, size_t len);

/* A pre-shared key as it stands in a file: text, or 0x and hexadecimal, or 0s and base64. *key is allocated, and is to be
 * wiped by whoever frees it. max: octets of the key at most. Returns 0, -EINVAL after a complaint that does not show the
 * value, -ENOMEM. */
#define VALUE_PSK_MIN 8
#define VALUE_PSK_MAX 256
int value_psk_decode(
	const char *s, size_t n, size_t max, char **key, uint32_t *len, const struct complaint *c);
void value_psk_free(char *key, uint32_t len);

/* An identity in strongSwan's syntax: an address, a domain name, user@domain, a distinguished name, keyid:TEXT and so on.
 * Identities are equal when what is written to buf is. Returns 0, or -EINVAL after a complaint. */
#define VALUE_IDENTITY_MAX   255
#define VALUE_IDENTITY_CANON (2 * VALUE_IDENTITY_MAX + 16)
int value_identity_canon(const char *s, char buf[VALUE_IDENTITY_CANON], const struct complaint *c);

/* Names of tunnels, sites, groups: 1 to 63 of [A-Za-z0-9_.-]. */
#define VALUE_NAME_MAX 63
bool value_is_name(const char *s);

/* Whether an address can be that of one host: not unspecified, multicast, broadcast, nor link-local IPv6
 * (which would need an interface with it). */
bool value_is_host(const struct addr *a);

#endif
