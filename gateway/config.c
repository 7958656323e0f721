/* SPDX-License-Identifier: GPL-2.0-or-later */
/* config.c - reads the configuration: all files, all problems, then all or nothing.
 *
 * A load goes on behind an error, so that one `arrd -t` names every problem; the result is only handed out
 * when there was none. In steps: read each file, section by section, into items (an item is one section with
 * its values and the lines where they stand); fill in defaults; compare items with each other
 * (config_check.c); move them into a struct config.
 */
#include "gateway/config.h"
#include "gateway/config_private.h"

#include <dirent.h>
#include <errno.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#define FILE_OCTETS (16 << 20) /* of a file */

/* ---- items --------------------------------------------------------------------------------------- */

static void item_free(struct item *it)
{
	if (!it)
		return;
	if (it->obj && sections[it->section].named) {
		options_free(it->section, it->obj);
		free((char *)it->name);
		if (it->section == SECTION_TUNNEL)
			free(((struct conf_tunnel *)it->obj)->file);
		free(it->obj);
	}
	free(it->key_line);
	free(it);
}

struct item *item_new(struct loader *l, enum section s, void *obj)
{
	size_t rows;
	struct item **items, *it = calloc(1, sizeof(*it));

	options_of(s, &rows);
	if (!it)
		return NULL;
	it->section = s;
	it->order = l->nitems;
	it->obj = obj ? obj : calloc(1, sections[s].size);
	it->key_line = calloc(rows, sizeof(*it->key_line));
	items = l->items;
	if ((l->nitems & (l->nitems - 1)) == 0) /* the room is the power of two at or above nitems */
		items = reallocarray(l->items, l->nitems ? 2 * l->nitems : 1, sizeof(struct item *));
	if (items)
		l->items = items;
	if (!it->obj || !it->key_line || !items) {
		item_free(it);
		return NULL;
	}
	l->items[l->nitems++] = it;
	return it;
}

/* ---- files --------------------------------------------------------------------------------------- */

__attribute__((format(printf, 3, 4))) static void file_error(
	struct loader *l, const char *file, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	config_say(&l->errors, NULL, file, 0, NULL, fmt, ap);
	va_end(ap);
}

/* path becomes the loader's. */
static void read_file(struct loader *l, char *path, bool main)
{
	char **files = reallocarray(l->files, l->nfiles + 1, sizeof(*files));
	char why[256], *text;
	struct stat st;
	size_t len;
	int err;

	if (files)
		l->files = files;
	if (!files || !path) {
		free(path);
		l->nomem = true;
		return;
	}
	l->files[l->nfiles++] = path;
	err = config_slurp(path, FILE_OCTETS, "a file of configuration", &text, &len, &st, why, sizeof(why));
	if (err == -ENOMEM)
		l->nomem = true;
	else if (err)
		file_error(l, path, "%s", why);
	if (err)
		return;
	l->exposed = config_exposed(l, &st);
	config_read_text(l, path, text, len, main);
	sodium_memzero(text, len); /* there may be keys in it */
	free(text);
}

static int is_conf(const struct dirent *d)
{
	size_t n = strlen(d->d_name);

	return d->d_name[0] != '.' && n > 5 && strcmp(d->d_name + n - 5, ".conf") == 0;
}

/* By octets, not by the locale. */
static int by_file_name(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

/* The *.conf of the tunnels.d/ beside path. That there is none is no error: no tunnels yet. */
static void read_tunnels(struct loader *l, const char *path)
{
	const char *slash = strrchr(path, '/');
	int n, head = slash ? (int)(slash - path) + 1 : 0;
	struct dirent **names = NULL;
	char *dir, *file;

	if (asprintf(&dir, "%.*stunnels.d", head, path) < 0) {
		l->nomem = true;
		return;
	}
	n = scandir(dir, &names, is_conf, by_file_name);
	if (n < 0 && errno != ENOENT)
		file_error(l, dir, "cannot be read: %s; expected a directory", strerror(errno));
	for (int i = 0; i < n; i++) {
		if (asprintf(&file, "%s/%s", dir, names[i]->d_name) < 0)
			file = NULL;
		read_file(l, file, false);
		free(names[i]);
	}
	free((void *)names);
	free(dir);
}

/* ---- the whole ----------------------------------------------------------------------------------- */

static int loader_open(struct loader *l, const char *path)
{
	*l = (struct loader){0};
	l->c = calloc(1, sizeof(*l->c));
	if (!l->c)
		return -ENOMEM;
	l->c->path = strdup(path);
	if (!l->c->path || config_messages_open(&l->errors) || config_messages_open(&l->warnings))
		return -ENOMEM;
	for (int s = 0; !sections[s].named; s++)
		if (!item_new(l, (enum section)s, (char *)l->c + sections[s].offset))
			return -ENOMEM;
	return 0;
}

static void fill_defaults(struct loader *l, struct item *it)
{
	size_t n;
	const struct option *o = options_of(it->section, &n);

	for (size_t i = 0; i < n; i++)
		if (option_default(&o[i], it->obj, it->key_line[i] != 0))
			l->nomem = true;
	options_finish(it->section, it->obj);
}

static int by_name(const void *a, const void *b)
{
	const struct item *x = *(struct item *const *)a, *y = *(struct item *const *)b;
	int order;

	if (x->section != y->section)
		return x->section < y->section ? -1 : 1;
	order = x->name && y->name ? strcmp(x->name, y->name) : 0;
	if (order)
		return order;
	return x->order < y->order ? -1 : x->order > y->order;
}

/* Moves sites and tunnels out of the items, in order of name. */
static int hand_over(struct loader *l)
{
	struct config *c = l->c;

	c->sites = calloc(l->nitems, sizeof(*c->sites));
	c->tunnels = calloc(l->nitems, sizeof(*c->tunnels));
	if (!c->sites || !c->tunnels)
		return -ENOMEM;
	for (size_t i = 0; i < l->nitems; i++) {
		struct item *it = l->items[i];

		if (it->section == SECTION_SITE)
			c->sites[c->nsites++] = *(struct conf_site *)it->obj;
		else if (it->section == SECTION_TUNNEL)
			c->tunnels[c->ntunnels++] = *(struct conf_tunnel *)it->obj;
		else
			continue;
		free(it->obj);
		it->obj = NULL;
	}
	return 0;
}

/* Frees the loader; what it found goes to the caller, or is freed. */
static int loader_close(struct loader *l, int err, struct config **out, char **errors)
{
	if (config_messages_close(&l->errors) || config_messages_close(&l->warnings) || l->nomem)
		err = -ENOMEM;
	if (!err && l->errors.n)
		err = -EINVAL;
	if (!err)
		err = hand_over(l);
	for (size_t i = 0; i < l->nitems; i++)
		item_free(l->items[i]);
	free((void *)l->items);
	for (size_t i = 0; i < l->nfiles; i++)
		free(l->files[i]);
	free((void *)l->files);
	config_certs_free(l);
	if (l->c && l->warnings.n) {
		l->c->warnings = l->warnings.text;
		l->warnings.text = NULL;
	}
	free(l->warnings.text);
	if (err == -EINVAL) {
		*errors = l->errors.text;
		l->errors.text = NULL;
	}
	free(l->errors.text);
	if (err)
		config_free(l->c);
	else
		*out = l->c;
	return err;
}

static void finish(struct loader *l)
{
	if (l->nomem)
		return;
	for (size_t i = 0; i < l->nitems; i++)
		fill_defaults(l, l->items[i]);
	qsort((void *)l->items, l->nitems, sizeof(*l->items), by_name);
	if (!l->nomem)
		config_check(l);
}

int config_load(const char *path, struct config **out, char **errors)
{
	struct loader l;
	int err = loader_open(&l, path);

	*out = NULL;
	*errors = NULL;
	if (!err) {
		read_file(&l, strdup(path), true);
		read_tunnels(&l, path);
		finish(&l);
	}
	return loader_close(&l, err, out, errors);
}

int config_parse_text(const char *name, const char *text, size_t len, struct config **out, char **errors)
{
	struct loader l;
	int err = loader_open(&l, name);

	*out = NULL;
	*errors = NULL;
	if (!err) {
		config_read_text(&l, l.c->path, text, len, true);
		finish(&l);
	}
	return loader_close(&l, err, out, errors);
}

static int tunnel_by_name(const void *name, const void *tunnel)
{
	return strcmp(name, ((const struct conf_tunnel *)tunnel)->name);
}

const struct conf_tunnel *config_tunnel(const struct config *c, const char *name)
{
	return c->ntunnels ? bsearch(name, c->tunnels, c->ntunnels, sizeof(*c->tunnels), tunnel_by_name)
			   : NULL;
}

void config_free(struct config *c)
{
	if (!c)
		return;
	for (int s = 0; !sections[s].named; s++)
		options_free((enum section)s, (char *)c + sections[s].offset);
	for (size_t i = 0; i < c->nsites; i++) {
		options_free(SECTION_SITE, &c->sites[i]);
		free(c->sites[i].name);
	}
	for (size_t i = 0; i < c->ntunnels; i++) {
		options_free(SECTION_TUNNEL, &c->tunnels[i]);
		free(c->tunnels[i].name);
		free(c->tunnels[i].file);
	}
	free(c->sites);
	free(c->tunnels);
	free(c->warnings);
	free(c->path);
	free(c);
}
