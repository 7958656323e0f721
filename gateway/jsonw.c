/* SPDX-License-Identifier: GPL-2.0-or-later */
/* jsonw.c - writing JSON text into a buffer of fixed size. */
#include "gateway/jsonw.h"

#include <string.h>

static void put(struct jsonw *w, const char *s, size_t n)
{
	if (w->full || n > jw_room(w)) {
		w->full = true;
		return;
	}
	memcpy(w->buf + w->len, s, n);
	w->len += n;
}

void jw_octet(struct jsonw *w, char c)
{
	put(w, &c, 1);
}

/* The comma that the value before wants, and the key. */
static void begin(struct jsonw *w, const char *key)
{
	char last = w->len ? w->buf[w->len - 1] : '\n';

	if (last != '{' && last != '[' && last != '\n')
		put(w, ",", 1);
	if (key) {
		put(w, "\"", 1);
		put(w, key, strlen(key));
		put(w, "\":", 2);
	}
}

void jw_open(struct jsonw *w, const char *key, char bracket)
{
	begin(w, key);
	put(w, &bracket, 1);
}

void jw_close(struct jsonw *w, char bracket)
{
	put(w, &bracket, 1);
}

static char *digits(char *end, uint64_t v)
{
	do
		*--end = (char)('0' + v % 10);
	while (v /= 10);
	return end;
}

void jw_u64(struct jsonw *w, const char *key, uint64_t v)
{
	char b[20], *end = b + sizeof(b), *p = digits(end, v);

	begin(w, key);
	put(w, p, (size_t)(end - p));
}

void jw_bool(struct jsonw *w, const char *key, bool v)
{
	begin(w, key);
	put(w, v ? "true" : "false", v ? 4 : 5);
}

void jw_null(struct jsonw *w, const char *key)
{
	begin(w, key);
	put(w, "null", 4);
}

/* IPv4 by hand: four addresses a row, and inet_ntop() was half of a row's time. */
void jw_addr(struct jsonw *w, const char *key, const struct addr *a)
{
	char b[ADDR_STRLEN], *end = b + sizeof(b), *p = end;

	begin(w, key);
	put(w, "\"", 1);
	if (addr_is4(a)) {
		for (int i = 15; i >= 12; i--) {
			p = digits(p, a->b[i]);
			if (i > 12)
				*--p = '.';
		}
		put(w, p, (size_t)(end - p));
	} else {
		addr_str(a, b);
		put(w, b, strlen(b));
	}
	put(w, "\"", 1);
}

/* Length of the well-formed UTF-8 sequence at s (n octets, n > 0), 0 if there is none. RFC 3629. */
static size_t utf8_len(const unsigned char *s, size_t n)
{
	size_t len = s[0] < 0x80   ? 1
		     : s[0] < 0xc2 ? 0
		     : s[0] < 0xe0 ? 2
		     : s[0] < 0xf0 ? 3
		     : s[0] < 0xf5 ? 4
				   : 0;

	if (len > n)
		return 0;
	for (size_t i = 1; i < len; i++)
		if ((s[i] & 0xc0) != 0x80)
			return 0;
	/* overlong forms, surrogates, beyond U+10FFFF */
	if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) || (s[0] == 0xf0 && s[1] < 0x90) ||
		(s[0] == 0xf4 && s[1] > 0x8f))
		return 0;
	return len;
}

static void escaped(struct jsonw *w, const unsigned char *s, size_t n)
{
	static const char hex[] = "0123456789abcdef";
	size_t plain = 0; /* octets from s that are put as they are */

	while (plain < n && s[plain] >= 0x20 && s[plain] < 0x7f && s[plain] != '"' && s[plain] != '\\')
		plain++;
	put(w, (const char *)s, plain);
	for (size_t i = plain, len; i < n; i += len) {
		len = utf8_len(s + i, n - i);
		if (!len) {
			put(w, "\\ufffd", 6);
			len = 1;
		} else if (s[i] == '\n') {
			put(w, "\\n", 2);
		} else if (s[i] == '"' || s[i] == '\\') {
			char b[2] = {'\\', (char)s[i]};
			put(w, b, 2);
		} else if (s[i] < 0x20 || s[i] == 0x7f) {
			char b[6] = {'\\', 'u', '0', '0', hex[s[i] >> 4], hex[s[i] & 15]};
			put(w, b, 6);
		} else {
			put(w, (const char *)s + i, len);
		}
	}
}

void jw_text(struct jsonw *w, const char *key, const char *s, size_t max)
{
	size_t n = strnlen(s, max + 1);

	if (n > max) {
		const char *line = memrchr(s, '\n', max);
		n = line ? (size_t)(line - s) + 1 : max;
	}
	begin(w, key);
	put(w, "\"", 1);
	escaped(w, (const unsigned char *)s, n);
	put(w, "\"", 1);
}

void jw_str(struct jsonw *w, const char *key, const char *s)
{
	begin(w, key);
	put(w, "\"", 1);
	escaped(w, (const unsigned char *)s, strlen(s));
	put(w, "\"", 1);
}
