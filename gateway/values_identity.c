/* SPDX-License-Identifier: GPL-2.0-or-later */
/* values_identity.c - identities of IKE peers (RFC 7296 3.5), as strongSwan writes them.
 *
 * strongSwan takes any text for some identity: a misspelt distinguished name becomes a KEY_ID, "ipv4:10.0.0.1" eight
 * octets that are no address, and "%any" or "*.example.net" whoever comes. What would not mean what it looks like is
 * refused here, and so is every wildcard: an identity stands for one peer.
 *
 * For comparisons each is brought into one form, KIND:TEXT: names in lower case, as peers compare them (RFC 7296 leaves
 * it open, strongSwan does), KEY_ID in hexadecimal, distinguished names with one spelling of each attribute.
 */
#include "gateway/values.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

static int put_lower(char *buf, const char *kind, const char *s)
{
	size_t n = (size_t)snprintf(buf, VALUE_IDENTITY_CANON, "%s:", kind);

	for (; *s && n + 1 < VALUE_IDENTITY_CANON; s++)
		buf[n++] = (char)tolower((unsigned char)*s);
	buf[n] = '\0';
	return 0;
}

/* Octets in hexadecimal: those of s itself, or (hex) those that it writes as hexadecimal. */
static int put_octets(char *buf, const char *kind, const char *s, bool hex)
{
	size_t n;

	if (hex)
		return put_lower(buf, kind, s);
	n = (size_t)snprintf(buf, VALUE_IDENTITY_CANON, "%s:", kind);
	for (; *s && n + 2 < VALUE_IDENTITY_CANON; s++)
		n += (size_t)snprintf(buf + n, VALUE_IDENTITY_CANON - n, "%02x", (unsigned char)*s);
	return 0;
}

static bool is_hex(const char *s)
{
	size_t n = strspn(s, "0123456789abcdefABCDEF");

	return n > 0 && n % 2 == 0 && !s[n];
}

/* ---- distinguished names ------------------------------------------------------------------------- */

/* Attributes that strongSwan has a name for and that are met in certificates; aliases on one line. */
static const char *const attributes[][3] = {
	{"CN"},
	{"C"},
	{"ST"},
	{"L"},
	{"O"},
	{"OU"},
	{"E", "Email", "emailAddress"},
	{"DC"},
	{"UID"},
	{"SN"},
	{"serialNumber"},
	{"G"},
	{"N"},
	{"I"},
	{"T"},
	{"D"},
	{"STREET"},
	{"postalAddress"},
	{"postalCode"},
	{"dnQualifier"},
	{"pseudonym"},
	{"ID"},
	{"EN", "employeeNumber"},
	{"UN", "unstructuredName"},
	{"UA", "unstructuredAddress"},
};

static const char *attribute(const char *s, size_t n)
{
	for (size_t i = 0; i < sizeof(attributes) / sizeof(attributes[0]); i++)
		for (size_t k = 0; k < 3 && attributes[i][k]; k++)
			if (strlen(attributes[i][k]) == n && strncasecmp(attributes[i][k], s, n) == 0)
				return attributes[i][0];
	return NULL;
}

/* "C=DE, O=Example, CN=gw" or "/C=DE/O=Example/CN=gw". */
static int put_dn(char *buf, const char *s, const struct complaint *c)
{
	size_t n = (size_t)snprintf(buf, VALUE_IDENTITY_CANON, "dn:");
	char sep = *s == '/' ? '/' : ',';
	const char *p = s + (sep == '/');

	for (;;) {
		size_t key, value, part = strcspn(p, sep == '/' ? "/" : ",");
		const char *end = p + part, *name;

		for (; p < end && *p == ' '; p++)
			;
		key = strcspn(p, " =/,");
		name = attribute(p, key);
		if (!name || p + key >= end || !memchr(p, '=', (size_t)(end - p)))
			return value_bad(c,
				VALUE_SHOWN " is not a distinguished name because of \"%.*s\"; expected such "
					    "as C=DE, O=Example, CN=NAME, or keyid:TEXT for a text with =",
				s, (int)(end - p > 32 ? 32 : end - p), p);
		p += key;
		p += strspn(p, " =");
		for (value = p < end ? (size_t)(end - p) : 0; value && p[value - 1] == ' '; value--)
			;
		if (!value)
			return value_bad(c,
				VALUE_SHOWN
				" has a distinguished name's %s without a value; expected such as "
				"C=DE, O=Example, CN=NAME",
				s, name);
		n += (size_t)snprintf(buf + n, VALUE_IDENTITY_CANON - n, "/%s=", name);
		for (size_t i = 0; i < value && n + 1 < VALUE_IDENTITY_CANON; i++)
			buf[n++] = (char)tolower((unsigned char)p[i]);
		buf[n] = '\0';
		if (!*end)
			return 0;
		p = end + 1;
	}
}

/* ---- addresses ----------------------------------------------------------------------------------- */

static int put_address(char *buf, const char *s, const struct addr *a, const struct complaint *c)
{
	char text[ADDR_STRLEN];

	if (!value_is_host(a))
		return value_bad(c,
			VALUE_SHOWN " is not the address of one host; expected the peer's own identity", s);
	return put_lower(buf, "ip", addr_str(a, text));
}

/* 10.0.0.0/24 and 10.0.0.1-10.0.0.9 are identities too, of whoever has an address there. */
static bool is_address_range(const char *s)
{
	char first[ADDR_STRLEN];
	struct addr a;
	size_t n = strcspn(s, "/-");

	if (!s[n] || n >= sizeof(first))
		return false;
	memcpy(first, s, n);
	first[n] = '\0';
	return addr_parse(first, &a) == 0;
}

/* ---- all of them --------------------------------------------------------------------------------- */

enum kind { FQDN, EMAIL, KEYID, DER_DN, DER_GN, XMPP, ADDRESS, RANGE };

static const struct prefix_kind {
	const char *prefix;
	enum kind kind;
} prefixes[] = {{"fqdn:", FQDN}, {"dns:", FQDN}, {"email:", EMAIL}, {"rfc822:", EMAIL}, {"userfqdn:", EMAIL},
	{"keyid:", KEYID}, {"asn1dn:", DER_DN}, {"asn1gn:", DER_GN}, {"xmppaddr:", XMPP}, {"ipv4:", ADDRESS},
	{"ipv6:", ADDRESS}, {"ipv4net:", RANGE}, {"ipv6net:", RANGE}, {"ipv4range:", RANGE},
	{"ipv6range:", RANGE}};

static int put_of_kind(char *buf, enum kind kind, const char *whole, const char *s, const struct complaint *c)
{
	bool hex = *s == '#';

	if (!*s || (hex && !is_hex(s + 1)))
		return value_bad(c,
			VALUE_SHOWN
			" says nothing behind its prefix; expected text, or # and an even number of "
			"hexadecimal digits",
			whole);
	switch (kind) {
	case RANGE:
		return value_bad(c, VALUE_SHOWN " stands for many peers; expected an identity of one", whole);
	case ADDRESS: /* strongSwan would take the text for the octets of the address */
		return value_bad(
			c, VALUE_SHOWN " is not understood by every peer; expected the address alone", whole);
	case DER_DN:
	case DER_GN:
		if (!hex)
			return value_bad(c,
				VALUE_SHOWN " is not DER; expected # and hexadecimal digits, or a "
					    "distinguished name without a prefix",
				whole);
		return put_octets(buf, kind == DER_DN ? "der-dn" : "der-gn", s + 1, true);
	case KEYID:
		return put_octets(buf, "keyid", hex ? s + 1 : s, hex);
	case FQDN:
	case EMAIL:
	case XMPP:
		break;
	}
	if (hex)
		return value_bad(c, VALUE_SHOWN " hides a name in hexadecimal; expected it as text", whole);
	return put_lower(buf, kind == FQDN ? "fqdn" : kind == EMAIL ? "email" : "xmpp", s);
}

/* Without a prefix the text itself says what it is. */
static int put_bare(char *buf, const char *s, const struct complaint *c)
{
	struct addr a;

	if (strchr(s, '='))
		return put_dn(buf, s, c);
	if (s[0] == '@' && s[1] == '#')
		return put_of_kind(buf, KEYID, s, s + 1, c);
	if (s[0] == '@' && s[1] == '@')
		return put_of_kind(buf, EMAIL, s, s + 2, c);
	if (s[0] == '@')
		return put_of_kind(buf, FQDN, s, s + 1, c);
	if (strchr(s, '@'))
		return put_lower(buf, "email", s);
	if (addr_parse(s, &a) == 0)
		return put_address(buf, s, &a, c);
	if (!s[strspn(s, "0123456789.")])
		return value_bad(
			c, VALUE_SHOWN " is neither an address nor a domain name; expected one of them", s);
	if (strchr(s, ':'))
		return put_octets(buf, "keyid", s, false);
	return put_lower(buf, "fqdn", s);
}

int value_identity_canon(const char *s, char buf[VALUE_IDENTITY_CANON], const struct complaint *c)
{
	size_t n = strlen(s);

	if (n == 0 || n > VALUE_IDENTITY_MAX)
		return value_bad(
			c, "the identity has %zu characters; expected 1 to %d", n, VALUE_IDENTITY_MAX);
	for (const char *p = s; *p; p++)
		if (*p < 0x20 || *p >= 0x7f)
			return value_bad(c,
				VALUE_SHOWN
				" has characters that are not printable ASCII; expected only such",
				s);
	if (strchr(s, '*') || *s == '%' || is_address_range(s))
		return value_bad(c, VALUE_SHOWN " stands for many peers; expected an identity of one", s);
	if (*s == '{')
		return value_bad(
			c, VALUE_SHOWN " names a kind by number; expected a name such as keyid:TEXT", s);
	if (*s == '"')
		return value_bad(
			c, VALUE_SHOWN " is in quotes, which would be part of it; expected it without", s);
	for (size_t i = 0; i < sizeof(prefixes) / sizeof(prefixes[0]); i++) {
		size_t len = strlen(prefixes[i].prefix);

		if (strncasecmp(s, prefixes[i].prefix, len) == 0)
			return put_of_kind(buf, prefixes[i].kind, s, s + len, c);
	}
	return put_bare(buf, s, c);
}
