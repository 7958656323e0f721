/* SPDX-License-Identifier: GPL-2.0-or-later */
/* arrctl_table.c - aligned tables, and numbers for people. */
#include "gateway/arrctl.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COLUMNS_MAX 16

struct cell {
	char *text;
	enum colour colour;
};

struct table {
	const struct column *columns;
	unsigned n;
	bool colours, begun;
	int width[COLUMNS_MAX];
	struct cell *cells; /* not printed yet */
	size_t ncells, max;
};

struct table *table_new(const struct column *columns, unsigned n, bool colours)
{
	struct table *t = n <= COLUMNS_MAX ? calloc(1, sizeof(*t)) : NULL;

	if (!t)
		abort();
	t->columns = columns;
	t->n = n;
	t->colours = colours;
	return t;
}

void table_cell(struct table *t, enum colour colour, const char *fmt, ...)
{
	struct cell *c;
	va_list ap;

	if (t->ncells == t->max) {
		t->max = t->max ? 2 * t->max : 64;
		t->cells = reallocarray(t->cells, t->max, sizeof(*t->cells));
		if (!t->cells)
			abort();
	}
	c = &t->cells[t->ncells++];
	c->colour = colour;
	va_start(ap, fmt);
	if (vasprintf(&c->text, fmt, ap) < 0)
		abort();
	va_end(ap);
}

static void settle(struct table *t)
{
	for (unsigned i = 0; i < t->n; i++) {
		t->width[i] = (int)strlen(t->columns[i].title);
		if (t->width[i] < t->columns[i].least)
			t->width[i] = t->columns[i].least;
	}
	for (size_t i = 0, col = 0; i < t->ncells; i++) {
		int len = (int)strlen(t->cells[i].text);

		if (len > t->width[col])
			t->width[col] = len;
		if (++col == t->n)
			col = 0;
	}
}

static void print(const struct table *t, unsigned col, const char *text, enum colour colour)
{
	static const char *const codes[] = {[GOOD] = "\033[32m", [BAD] = "\033[31m", [MARKED] = "\033[33m"};
	bool paint = t->colours && colour != PLAIN, last = col + 1 == t->n;
	int pad = t->width[col] - (int)strlen(text);

	pad = pad > 0 && !(last && !*text) ? pad : 0;
	if (t->columns[col].right)
		printf("%*s", pad, "");
	printf("%s%s%s", paint ? codes[colour] : "", text, paint ? "\033[0m" : "");
	if (last)
		putchar('\n');
	else
		printf("%*s", (t->columns[col].right ? 0 : pad) + 2, "");
}

void table_print(struct table *t)
{
	if (!t->begun) {
		t->begun = true;
		settle(t);
		for (unsigned i = 0; i < t->n; i++)
			print(t, i, t->columns[i].title, PLAIN);
	}
	for (unsigned i = 0, col = 0; i < t->ncells; i++) {
		print(t, col, t->cells[i].text, t->cells[i].colour);
		free(t->cells[i].text);
		if (++col == t->n)
			col = 0;
	}
	t->ncells = 0;
}

void table_free(struct table *t)
{
	if (!t)
		return;
	for (size_t i = 0; i < t->ncells; i++)
		free(t->cells[i].text);
	free(t->cells);
	free(t);
}

static const char *scaled(uint64_t n, unsigned base, const char *const *units, char *buf)
{
	double v = (double)n;
	unsigned u = 0;

	while (v >= base && units[u + 1]) {
		v /= base;
		u++;
	}
	snprintf(buf, HUMAN_LEN, u && v < 9.95 ? "%.1f%s" : "%.0f%s", v, units[u]);
	return buf;
}

const char *human_count(uint64_t n, char buf[static HUMAN_LEN])
{
	static const char *const units[] = {"", "k", "M", "G", "T", "P", "E", NULL};

	return scaled(n, 1000, units, buf);
}

const char *human_octets(uint64_t n, char buf[static HUMAN_LEN])
{
	static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB", NULL};

	return scaled(n, 1024, units, buf);
}

const char *human_seconds(uint64_t s, char buf[static HUMAN_LEN])
{
	if (s < 60)
		snprintf(buf, HUMAN_LEN, "%" PRIu64 "s", s);
	else if (s < 3600)
		snprintf(buf, HUMAN_LEN, "%" PRIu64 "m%02" PRIu64 "s", s / 60, s % 60);
	else if (s < 86400)
		snprintf(buf, HUMAN_LEN, "%" PRIu64 "h%02" PRIu64 "m", s / 3600, s / 60 % 60);
	else
		snprintf(buf, HUMAN_LEN, "%" PRIu64 "d%02" PRIu64 "h", s / 86400, s / 3600 % 24);
	return buf;
}
