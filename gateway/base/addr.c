/* SPDX-License-Identifier: GPL-2.0-or-later */
/* addr.c - text of addresses and prefixes, and what a prefix covers. */
#include "gateway/base/addr.h"

#include <arpa/inet.h>
#include <endian.h>
#include <errno.h>
#include <stdio.h>

#define BITS4_OFFSET 96 /* an IPv4 prefix length in the 16-octet form */

int addr_parse(const char *s, struct addr *out)
{
	struct in_addr a4;
	struct in6_addr a6;

	if (inet_pton(AF_INET, s, &a4) == 1) {
		*out = addr_from4(a4.s_addr);
		return 0;
	}
	if (inet_pton(AF_INET6, s, &a6) != 1)
		return -EINVAL;
	*out = addr_from6(&a6);
	/* "::ffff:10.0.0.1" would silently become the IPv4 address. */
	return addr_is4(out) ? -EINVAL : 0;
}

/* Clears the bits of a from len on. Returns whether any was set. */
static bool clear_host_bits(struct addr *a, uint8_t len)
{
	bool any = false;

	for (unsigned i = len / 8u; i < 16; i++) {
		uint8_t keep = i == len / 8u ? (uint8_t)(0xff00 >> len % 8u) : 0;

		any |= (a->b[i] & ~keep) != 0;
		a->b[i] &= keep;
	}
	return any;
}

/* ADDRESS/LEN into the address as written and its length in the 16-octet form. */
static int split(const char *s, struct addr *a, uint8_t *len)
{
	const char *slash = strchr(s, '/');
	char text[ADDR_STRLEN];
	unsigned n = 0, digits = 0, max;
	int err;

	if (!slash || (size_t)(slash - s) >= sizeof(text))
		return -EINVAL;
	memcpy(text, s, (size_t)(slash - s));
	text[slash - s] = '\0';
	err = addr_parse(text, a);
	if (err)
		return err;
	for (const char *d = slash + 1; *d; d++) {
		if (*d < '0' || *d > '9')
			return -EINVAL;
		if (++digits > 3)
			return -ERANGE;
		n = n * 10 + (unsigned)(*d - '0');
	}
	if (!digits)
		return -EINVAL;
	max = addr_is4(a) ? 32 : 128;
	if (n > max)
		return -ERANGE;
	*len = (uint8_t)(n + (addr_is4(a) ? BITS4_OFFSET : 0));
	return 0;
}

int prefix_parse_host(const char *s, struct addr *host, struct prefix *net)
{
	struct addr a;
	uint8_t len;
	int err = split(s, &a, &len);

	if (err)
		return err;
	*host = a;
	net->a = a;
	net->len = len;
	clear_host_bits(&net->a, len);
	return 0;
}

int prefix_parse(const char *s, struct prefix *out)
{
	struct addr host;
	int err = prefix_parse_host(s, &host, out);

	if (err)
		return err;
	return addr_eq(&host, &out->a) ? 0 : -EDOM;
}

const char *addr_str(const struct addr *a, char *buf)
{
	const char *s = addr_is4(a) ? inet_ntop(AF_INET, &a->w[3], buf, ADDR_STRLEN)
				    : inet_ntop(AF_INET6, a->b, buf, ADDR_STRLEN);

	if (!s) /* cannot be: the family is known and the buffer holds the longest text */
		buf[0] = '\0';
	return buf;
}

/* IPv4 lies within the 16-octet space, at ::ffff:0:0/96; a shorter prefix around it, ::/0 above all, is IPv6
 * and has no IPv4 address in it. */
static bool prefix_is4(const struct prefix *p)
{
	return p->len >= BITS4_OFFSET && addr_is4(&p->a);
}

const char *prefix_str(const struct prefix *p, char *buf)
{
	unsigned len = p->len - (prefix_is4(p) ? BITS4_OFFSET : 0u);
	char text[ADDR_STRLEN];

	snprintf(buf, PREFIX_STRLEN, "%s/%u", addr_str(&p->a, text), len);
	return buf;
}

static bool same_bits(const struct addr *a, const struct addr *b, uint8_t len)
{
	uint8_t mask = (uint8_t)(0xff00 >> len % 8u);

	if (memcmp(a, b, len / 8u) != 0)
		return false;
	return len % 8u == 0 || ((a->b[len / 8u] ^ b->b[len / 8u]) & mask) == 0;
}

bool prefix_has(const struct prefix *p, const struct addr *a)
{
	return prefix_is4(p) == addr_is4(a) && same_bits(&p->a, a, p->len);
}

bool prefix_overlap(const struct prefix *a, const struct prefix *b)
{
	return prefix_is4(a) == prefix_is4(b) && same_bits(&a->a, &b->a, a->len < b->len ? a->len : b->len);
}

/* ---- ranges ---------------------------------------------------------------------------------------------- */

static uint64_t low64(const struct addr *a)
{
	uint64_t v;

	memcpy(&v, a->b + 8, sizeof(v));
	return be64toh(v);
}

static void set_low64(struct addr *a, uint64_t v)
{
	v = htobe64(v);
	memcpy(a->b + 8, &v, sizeof(v));
}

bool addr_range_has(const struct addr_range *r, const struct addr *a)
{
	uint64_t n = low64(a);

	return !addr_is_none(&r->first) && memcmp(r->first.b, a->b, 8) == 0 && n >= low64(&r->first) &&
	       n <= low64(&r->last);
}

uint64_t addr_range_count(const struct addr_range *r)
{
	uint64_t n = low64(&r->last) - low64(&r->first);

	if (addr_is_none(&r->first))
		return 0;
	return n == UINT64_MAX ? n : n + 1;
}

struct addr addr_range_at(const struct addr_range *r, uint64_t n)
{
	struct addr a = r->first;

	set_low64(&a, low64(&a) + n);
	return a;
}

struct addr_range addr_range_of_hosts(const struct prefix *p)
{
	unsigned bits = 128u - p->len;
	uint64_t highest = bits >= 64 ? UINT64_MAX : ((uint64_t)1 << bits) - 1;
	struct addr_range r = {p->a, p->a};

	set_low64(&r.first, low64(&p->a) + (highest > 2 ? 1 : 0));
	set_low64(&r.last, low64(&p->a) + highest - (highest > 2 ? 1 : 0));
	return r;
}

bool addr_range_next_prefix(struct addr_range *r, struct prefix *p)
{
	uint64_t first = low64(&r->first), last = low64(&r->last);
	unsigned bits = 0;

	/* Another bit is free while first has it clear and what it spans is still inside. */
	while (bits < 63 && !(first >> bits & 1) && last - first >= ((uint64_t)2 << bits) - 1)
		bits++;
	*p = (struct prefix){.a = r->first, .len = (uint8_t)(128 - bits)};
	if (last - first < (uint64_t)1 << bits)
		return false;
	set_low64(&r->first, first + ((uint64_t)1 << bits));
	return true;
}
