/* SPDX-License-Identifier: GPL-2.0-or-later */
/* config_lines.c - reads the lines of a file: sections, keys, values.
 *
 * inih splits lines into keys and values and strips comments. The rest of its ways would hurt, in the form in
 * which distributions compile it, so that each line passes next_line() before inih sees it:
 *   - its lines are 200 octets, and the rest of a longer one is taken for a line of its own. It is given room
 *     for LINE_OCTETS, and longer lines are refused here;
 *   - an indented line continues the value of the one before. Here leading blanks mean nothing;
 *   - names of sections are cut at 49 octets, and a section without keys is never reported. So sections are
 *     read here, and inih is given an empty line instead;
 *   - `key: value` is another form of `key = value`, and an IPv6 address that lacks its `=` looks like it.
 *     Refused;
 *   - it tells the line of the first error only. Lines without `=` are reported here, with all others.
 * What it does alone: `;` or `#` at the beginning of a line begins a comment, and so does `;` behind a blank.
 */
#include "gateway/config_private.h"

#include <errno.h>
#include <ini.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define LINE_OCTETS 4096 /* of a line, without its end */

/* At the line that is being read. */
__attribute__((format(printf, 3, 4))) static void line_error(
	struct loader *l, const char *key, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	config_say(&l->errors, l->item, l->file, l->line, key, fmt, ap);
	va_end(ap);
}

/* ---- sections ------------------------------------------------------------------------------------ */

static struct item *named_item(struct loader *l, enum section s, const char *name)
{
	struct item *it = item_new(l, s, NULL);
	char *copy;

	if (!it)
		return NULL;
	it->name = copy = strdup(name);
	if (!copy)
		return NULL;
	if (s == SECTION_SITE) {
		((struct conf_site *)it->obj)->name = copy;
	} else {
		struct conf_tunnel *t = it->obj;

		t->name = copy;
		t->line = l->line;
		t->file = strdup(l->file);
		if (!t->file)
			return NULL;
	}
	return it;
}

/* "[KIND]" or "[KIND NAME]", already checked, becomes the item that the next keys belong to. */
static void enter_section(struct loader *l, const char *kind, const char *name)
{
	int s;

	for (s = 0; s < SECTION_COUNT && strcmp(sections[s].name, kind) != 0; s++)
		;
	l->skip = true;
	l->item = NULL;
	if (s == SECTION_COUNT) {
		line_error(l, NULL,
			"unknown section [%.64s]; expected gateway, egress, flows, ipsec, site NAME or "
			"tunnel NAME",
			kind);
	} else if (!sections[s].named && !l->main) {
		line_error(l, NULL, "[%s] stands in a file of tunnels.d; expected tunnel NAME or site NAME",
			kind);
	} else if (s == SECTION_EGRESS && *name) {
		line_error(l, NULL,
			"[egress %.64s]: only the default egress exists in this version; expected [egress]",
			name);
	} else if (!sections[s].named && *name) {
		line_error(l, NULL, "[%s %.64s] has a name; expected [%s]", kind, name, kind);
	} else if (sections[s].named && !value_is_name(name)) {
		line_error(l, NULL, "[%s %.64s]: this is not a name; expected 1 to %d of A-Z a-z 0-9 _ . -",
			kind, name, VALUE_NAME_MAX);
	} else if (!sections[s].named && l->items[s]->line) {
		line_error(l, NULL, "[%s] was there in line %d; expected it once", kind, l->items[s]->line);
	} else {
		struct item *it = sections[s].named ? named_item(l, (enum section)s, name) : l->items[s];

		if (!it) {
			l->nomem = true;
			return;
		}
		it->file = l->file;
		it->exposed = l->exposed;
		it->line = l->line;
		l->item = it;
		l->skip = false;
	}
}

/* s is a line that begins with '['. */
static void section_line(struct loader *l, char *s)
{
	char *end = strchr(s, ']'), *behind, *kind, *name, *p;

	l->after_secret = false;
	l->item = NULL;
	l->skip = true;
	if (!end) {
		line_error(l, NULL, "a section without an end; expected [NAME]");
		return;
	}
	behind = end + 1 + strspn(end + 1, " \t");
	if (*behind && (*behind != ';' || behind == end + 1)) {
		line_error(l, NULL,
			"there is text behind the section; expected [NAME] alone, or a blank and a ; "
			"comment");
		return;
	}
	*end = '\0';
	kind = s + 1 + strspn(s + 1, " \t");
	p = kind + strcspn(kind, " \t");
	name = p + strspn(p, " \t");
	*p = '\0';
	for (p = name + strlen(name); p > name && (p[-1] == ' ' || p[-1] == '\t'); p--)
		p[-1] = '\0';
	enter_section(l, kind, name);
}

/* ---- lines and keys ------------------------------------------------------------------------------ */

/* May n octets of a line be shown? Not what may be a secret: one whose `=` was forgotten, which was broken into lines, which
 * ends in `=` as base64 does, or which is all that is in the file. An option's name is short, and of lower case. */
static bool may_be_shown(const struct loader *l, const char *s, size_t n)
{
	if (l->after_secret || !l->item || n > 32)
		return false;
	for (size_t i = 0; i < n; i++)
		if ((s[i] < 'a' || s[i] > 'z') && (s[i] < '0' || s[i] > '9') && s[i] != '_')
			return false;
	return true;
}

/* s is neither a section nor KEY = VALUE. */
static void no_key(struct loader *l, const char *s)
{
	size_t word = strcspn(s, ": \t");

	if (l->skip)
		return;
	if (strncasecmp(s, "psk", 3) == 0)
		l->after_secret = true;
	if (!may_be_shown(l, s, word))
		line_error(l, NULL,
			"the line is neither a section nor a key with a value; expected KEY = VALUE");
	else
		line_error(l, NULL,
			"\"%.*s\"%s is neither a section nor a key with a value; expected KEY = VALUE",
			(int)word, s, s[word] ? " and what follows" : "");
}

/* The reader that inih is given. Hands it every line that it may see as it is, and an empty one for all
 * others. */
static char *next_line(char *buf, int size, void *arg)
{
	struct loader *l = arg;
	const char *s = l->text + l->pos, *end;
	size_t n, sep;

	if (l->pos >= l->len || l->nomem || size < LINE_OCTETS + 2) {
		sodium_memzero(buf, (size_t)size); /* lines with keys were in it */
		return NULL;
	}
	end = memchr(s, '\n', l->len - l->pos);
	n = end ? (size_t)(end - s) : l->len - l->pos;
	l->pos += n + (end ? 1 : 0);
	l->line++;
	strcpy(buf, "\n");

	if (l->line == 1 && n >= 3 && memcmp(s, "\xef\xbb\xbf", 3) == 0) { /* byte order mark of UTF-8 */
		s += 3;
		n -= 3;
	}
	if (n && s[n - 1] == '\r')
		n--;
	if (n > LINE_OCTETS) {
		line_error(l, NULL, "the line has %zu octets; expected at most %d", n, LINE_OCTETS);
		return buf;
	}
	for (size_t i = 0; i < n; i++) {
		unsigned char b = (unsigned char)s[i];

		if ((b < 0x20 && b != '\t') || b == 0x7f) {
			line_error(l, NULL, "the line has a control character, 0x%02x; expected text", b);
			return buf;
		}
	}
	for (; n && (*s == ' ' || *s == '\t'); n--)
		s++;
	memcpy(buf, s, n);
	buf[n] = '\0';
	sep = strcspn(buf, "=:");
	if (buf[0] == '[') {
		section_line(l, buf);
		buf[0] = '\0';
	} else if (buf[0] && !strchr(";#", buf[0]) && buf[sep] != '=') {
		no_key(l, buf);
		buf[0] = '\0';
	}
	strcat(buf, "\n");
	return buf;
}

struct key_context {
	struct loader *l;
	const char *key;
};

static void say_of_value(void *arg, const char *text)
{
	const struct key_context *k = arg;

	line_error(k->l, k->key, "%s", text);
}

static void unknown_key(struct loader *l, const char *key)
{
	char known[800] = "";
	size_t n, used = 0;
	const struct option *o = options_of(l->item->section, &n);

	for (size_t i = 0; i < n && used < sizeof(known); i++)
		used += (size_t)snprintf(known + used, sizeof(known) - used, "%s%s", i ? ", " : "", o[i].key);
	line_error(l, may_be_shown(l, key, strlen(key)) ? key : NULL,
		"there is no such option; expected one of %s", known);
}

/* The handler that inih is given. Returns 1: inih shall go on. */
static int take_key(void *arg, const char *section, const char *key, const char *value)
{
	struct loader *l = arg;
	struct key_context k = {l, key};
	const struct complaint c = {say_of_value, &k};
	const struct option *o;
	size_t row, rows;

	(void)section; /* read by section_line, whole */
	if (l->skip)
		return 1;
	if (!l->item) {
		line_error(l, NULL,
			"the line stands in no section; expected a line such as [tunnel NAME] before it");
		return 1;
	}
	row = item_row(l->item, key);
	if (row == SIZE_MAX) {
		unknown_key(l, key);
		return 1;
	}
	o = &options_of(l->item->section, &rows)[row];
	l->after_secret = o->type == &value_psk;
	if (!value) {
		line_error(l, key, "has no value; expected KEY = VALUE");
	} else if (l->item->key_line[row] && !o->type->list) {
		line_error(l, key, "was there in line %d; expected it once", l->item->key_line[row]);
	} else {
		if (!l->item->key_line[row])
			l->item->key_line[row] = l->line;
		if (option_set(o, l->item->obj, value, &c) == -ENOMEM)
			l->nomem = true;
	}
	return 1;
}

void config_read_text(struct loader *l, const char *file, const char *text, size_t len, bool main)
{
	l->file = file;
	l->text = text;
	l->len = len;
	l->pos = 0;
	l->line = 0;
	l->main = main;
	l->skip = false;
	l->after_secret = false;
	l->item = NULL;

	/* The library's settings are variables of the whole process; nobody else in it uses the library. */
	ini_max_line = LINE_OCTETS + 2;
	ini_allow_multiline = false;
	ini_allow_no_value = true;
	ini_parse_stream(next_line, l, take_key, l);
}
