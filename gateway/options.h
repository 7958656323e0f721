/* SPDX-License-Identifier: GPL-2.0-or-later */
/* options.h - the one table of options, and what can be done with a row of it.
 *
 * A new option is a member of a struct in config.h, a row in options.c, and an item in arrd.conf(5).
 */
#ifndef ARRD_OPTIONS_H
#define ARRD_OPTIONS_H

#include "gateway/config.h"
#include "gateway/values.h"

enum section {
	SECTION_GATEWAY,
	SECTION_EGRESS,
	SECTION_FLOWS,
	SECTION_IPSEC,
	SECTION_SITE,
	SECTION_TUNNEL,
	SECTION_COUNT
};

struct section_info {
	const char *name;
	bool named;    /* [tunnel NAME], any number of them, also in tunnels.d/ */
	size_t size;   /* of the struct that holds one */
	size_t offset; /* of that struct in struct config, where there is just one */
	const char *help;
};
extern const struct section_info sections[SECTION_COUNT];

struct option {
	enum section section;
	const char *key;
	size_t offset; /* of the field in the section's struct */
	const struct value_type *type;
	struct value_range range;
	const char *dflt;      /* as it would stand in a file; NULL: none */
	const char *dflt_text; /* where there is no such text: what holds then */
	bool required;
	bool reloadable;
	enum option_only { ONLY_NONE, ONLY_GRE, ONLY_IPSEC } only; /* of tunnels of that type */
	uint32_t floor;  /* a value below it is taken, with a warning; 0: none */
	const char *rfc; /* that says so */
	const char *help;
};

/* The rows of a section, in the order of the table; *n is their number. */
const struct option *options_of(enum section s, size_t *n);

/* Sets the option in obj, its section's struct, from the text of a value: a list element by element. Every
 * problem is told to c. Returns 0, -EINVAL, or -ENOMEM. */
int option_set(const struct option *o, void *obj, const char *value, const struct complaint *c);

/* Whether the option can be one of obj, its section's struct: false for those of another type of tunnel. */
bool option_applies(const struct option *o, const void *obj);

/* Sets what the file left open to the default: all of it, or (given) the elements of a list that it did not
 * name. Returns 0 or -ENOMEM. */
int option_default(const struct option *o, void *obj, bool given);

/* Once an object has all its values. */
void options_finish(enum section s, void *obj);
void options_free(enum section s, void *obj);
bool options_equal(enum section s, const void *a, const void *b);

#endif
