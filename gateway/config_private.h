/* SPDX-License-Identifier: GPL-2.0-or-later */
/* config_private.h - between the parts of the loader: config.c reads files, config_check.c compares what they
 * say, config_ipsec.c what ipsec tunnels say, config_files.c and config_certs.c read what they point at. */
#ifndef ARRD_CONFIG_PRIVATE_H
#define ARRD_CONFIG_PRIVATE_H

#include "gateway/config.h"
#include "gateway/options.h"

#include <stdarg.h>
#include <sys/stat.h>

/* A section as it was read. */
struct item {
	enum section section;
	void *obj;           /* struct conf_...; of a named section the item's own until the load is good */
	const char *name;    /* of a named section; lies in obj */
	const char *file;    /* one of loader.files; NULL: no file has this section */
	const char *exposed; /* what config_exposed says of that file */
	int line;
	size_t order; /* in which it was read */
	bool carries; /* an ipsec tunnel that a GRE tunnel travels in */
	bool by_key; /* a GRE tunnel that travels in transport mode: gre_key alone tells it from others there */
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
	struct item **items; /* the first are the sections that exist once */
	size_t nitems;
	char **files; /* names of all files, kept for messages */
	size_t nfiles;
	void *certs; /* what was read of certificates and keys: config_certs.c */
	gid_t group; /* arrd's own */
	bool group_known;

	/* of the file that is being read */
	const char *file;
	const char *exposed;
	const char *text;
	size_t len, pos;
	int line;
	bool main;         /* the main file, not one of tunnels.d/ */
	bool skip;         /* the section was refused, and what it contains with it */
	bool after_secret; /* the key before was a secret, of which this line may be a part */
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

/* ---- files ------------------------------------------------------------------------------------------- */

/* The whole of a regular file of at most max octets. *text is the caller's, and has a NUL behind *len octets. Returns 0;
 * -EINVAL with what is wrong and expected in why; -ENOMEM. */
int config_slurp(const char *path, size_t max, const char *expected, char **text, size_t *len,
	struct stat *st, char *why, size_t whylen);

/* Who else can get at a file that has a secret: "can be read by others; expected ..."; NULL: nobody. */
const char *config_exposed(struct loader *l, const struct stat *st);

/* Makes a path absolute: it is relative to the directory of the file that names it. 0 or -ENOMEM. */
int config_complete_path(const struct item *it, char **path);

/* Reads psk_file into psk; complains. */
void config_read_psk(struct loader *l, struct item *it);

/* ---- certificates ------------------------------------------------------------------------------------ */

/* Reads what cert_file, key_file and ca_file name, each once in a load; complains. */
void config_read_certs(struct loader *l, struct item *it);
void config_certs_free(struct loader *l);

/* ---- checks ------------------------------------------------------------------------------------------ */

/* Everything that more than one option has a say in; fills in the defaults that depend on others. */
void config_check(struct loader *l);

/* The part of tunnels that are of type ipsec, or travel in one. tunnels: sorted by name, none twice. */
void config_check_ipsec(struct loader *l, struct item **tunnels, size_t n);

/* Whether a responder can tell them apart; config_peers.c. */
void config_check_peers(struct loader *l, struct item *const *tunnels, size_t n);

/* The tunnel of a name among these, or NULL. */
struct item *config_find_tunnel(struct item *const *tunnels, size_t n, const char *name);

/* The length of a tunnel's outer IP header. */
uint32_t config_ip_len(const struct conf_tunnel *t);

#endif
