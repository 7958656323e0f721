/* SPDX-License-Identifier: GPL-2.0-or-later */
/* config_messages.c - what the loader has to say: one line a problem, with file, line, section and key. */
#include "gateway/config_private.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#define TOLD_MAX 100 /* lines of a kind that are told; the rest is counted */

size_t item_row(const struct item *it, const char *key)
{
	size_t n;
	const struct option *o = options_of(it->section, &n);

	for (size_t i = 0; i < n; i++)
		if (strcmp(o[i].key, key) == 0)
			return i;
	return SIZE_MAX;
}

bool item_has(const struct item *it, const char *key)
{
	size_t row = item_row(it, key);

	return row != SIZE_MAX && it->key_line[row] != 0;
}

/* One line of the text, of printable ASCII: what files contain goes to terminals and logs. */
static void put(struct messages *m, char *s)
{
	if (++m->n > TOLD_MAX)
		return;
	for (unsigned char *p = (unsigned char *)s; *p; p++)
		if (*p < 0x20 || *p >= 0x7f)
			*p = '?';
	fprintf(m->f, "%s\n", s);
}

void config_say(struct messages *m, const struct item *it, const char *file, int line, const char *key,
	const char *fmt, va_list ap)
{
	char place[64] = "", section[128] = "", colon[96] = "", text[1024];
	char *whole;

	if (line)
		snprintf(place, sizeof(place), ":%d", line);
	if (it)
		snprintf(section, sizeof(section), " [%s%s%s]", sections[it->section].name,
			it->name ? " " : "", it->name ? it->name : "");
	if (key)
		snprintf(colon, sizeof(colon), " %.64s:", key);
	else if (it)
		snprintf(colon, sizeof(colon), ":");
	vsnprintf(text, sizeof(text), fmt, ap);
	if (asprintf(&whole, "%s%s:%s%s %s", file, place, section, colon, text) < 0)
		return; /* memory is out: noticed at the latest where the text is closed */
	put(m, whole);
	free(whole);
}

__attribute__((format(printf, 5, 0))) static void say_of_item(struct loader *l, struct messages *m,
	const struct item *it, const char *key, const char *fmt, va_list ap)
{
	size_t row = key ? item_row(it, key) : SIZE_MAX;
	int line = row != SIZE_MAX && it->key_line[row] ? it->key_line[row] : it->line;

	config_say(m, it, it->file ? it->file : l->c->path, line, key, fmt, ap);
}

void config_error(struct loader *l, const struct item *it, const char *key, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	say_of_item(l, &l->errors, it, key, fmt, ap);
	va_end(ap);
}

void config_warning(struct loader *l, const struct item *it, const char *key, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	say_of_item(l, &l->warnings, it, key, fmt, ap);
	va_end(ap);
}

int config_messages_open(struct messages *m)
{
	m->f = open_memstream(&m->text, &m->len);
	return m->f ? 0 : -ENOMEM;
}

int config_messages_close(struct messages *m)
{
	if (!m->f)
		return 0;
	if (m->n > TOLD_MAX)
		fprintf(m->f, "and %u more\n", m->n - TOLD_MAX);
	return fclose(m->f) == 0 ? 0 : -ENOMEM;
}
