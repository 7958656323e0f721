/* SPDX-License-Identifier: GPL-2.0-or-later */
/* config_private.h - between the parts of the loader: config.c reads files, config_check.c compares what they
 * say. */
#ifndef ARRD_CONFIG_PRIVATE_H
#define ARRD_CONFIG_PRIVATE_H

#include "gateway/config.h"
#include "gateway/options.h"

#include <stdarg.h>

/* A section as it was read. */
struct item {
	enum section section;
	void *obj;        /* struct conf_...; of a named section the item's own until the load is good */
	const char *name; /* of a named section; lies in obj */
	const char *file; /* one of loader.files; NULL: no file has this section */
	int line;
	size_t order;  /* in which it was read */
	bool twice;    /* the name is taken: left out of further checks */
	int *key_line; /* for each row of the section where it stands first; 0: it does not */
};

struct messages {
	FILE *f;
	char *text;
	size_t len; /* of text, once f is closed */
	unsigned n;
};

struct loader {
	struct config *c;
	struct messages errors, warnings;
	bool nomem;
	struct item **items; /* the first three are the sections that exist once */
	size_t nitems;
	char **files; /* names of all files, kept for messages */
	size_t nfiles;

	/* of the file that is being read */
	const char *file;
	const char *text;
	size_t len, pos;
	int line;
	bool main;         /* the main file, not one of tunnels.d/ */
	bool skip;         /* the section was refused, and what it contains with it */
	struct item *item; /* the section; NULL: none yet */
};

/* One problem, at a key (or NULL) of an item. It stands where the key does, else where the section begins. */
void config_error(struct loader *l, const struct item *it, const char *key, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
void config_warning(struct loader *l, const struct item *it, const char *key, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));

/* At a place of the caller's; line 0, it and key may be none. */
void config_say(struct messages *m, const struct item *it, const char *file, int line, const char *key,
	const char *fmt, va_list ap) __attribute__((format(printf, 6, 0)));
/* Both return 0 or -ENOMEM. */
int config_messages_open(struct messages *m);
int config_messages_close(struct messages *m);

/* A new item. obj: of a section that exists once, its place in the configuration; NULL: one of its own. NULL
 * when memory is out. */
struct item *item_new(struct loader *l, enum section s, void *obj);

/* The row of a key in the item's section, SIZE_MAX: there is none. */
size_t item_row(const struct item *it, const char *key);

/* Reads one file's text into items. file outlives the load. */
void config_read_text(struct loader *l, const char *file, const char *text, size_t len, bool main);

/* Whether the file has the key. */
bool item_has(const struct item *it, const char *key);

/* Everything that more than one option has a say in; fills in the defaults that depend on others. */
void config_check(struct loader *l);

#endif
