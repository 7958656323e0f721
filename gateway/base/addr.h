/* SPDX-License-Identifier: GPL-2.0-or-later */
/* addr.h - IP addresses, prefixes and tuples, one form for both families.
 *
 * An IPv4 address is held as IPv4-mapped (::ffff:a.b.c.d, RFC 4291 2.5.5.2), so that tables, keys and
 * comparisons need no family of their own. A mapped address never appears on the wire as IPv6: the packet
 * parser drops IPv6 packets that carry one.
 */
#ifndef ARRD_BASE_ADDR_H
#define ARRD_BASE_ADDR_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define ADDR_STRLEN   46 /* longest text of an address, NUL included */
#define PREFIX_STRLEN 50

struct addr {
	union {
		uint8_t b[16];
		uint32_t w[4]; /* network order */
	};
};

/* len counts bits of the 16-octet form: an IPv4 /24 has len 120. Host bits of a are zero. */
struct prefix {
	struct addr a;
	uint8_t len;
};

/* Both ends belong to it, and differ in the last 64 bits at most. first none: there is no range. */
struct addr_range {
	struct addr first, last;
};

/* The ports are in network order. ICMP echo: the request has the id in sport and 0 in dport, the reply 0 in
 * sport and the id in dport, so that a reply's tuple is its request's tuple turned round and nothing else
 * is. Protocols without ports: both 0. */
struct tuple {
	struct addr src;
	struct addr dst;
	uint16_t sport;
	uint16_t dport;
	uint8_t proto;
	uint8_t pad[3]; /* zero, so that tuples compare as memory */
};
_Static_assert(sizeof(struct tuple) == 40, "a tuple is hashed as five words");

static inline bool addr_is4(const struct addr *a)
{
	return a->w[0] == 0 && a->w[1] == 0 && a->w[2] == htonl(0xffff);
}

static inline bool addr_eq(const struct addr *a, const struct addr *b)
{
	return memcmp(a, b, sizeof(*a)) == 0;
}

/* From four octets in network order, as they stand in a header. */
static inline struct addr addr_from4(uint32_t be)
{
	struct addr a = {.w = {0, 0, htonl(0xffff), be}};
	return a;
}

static inline struct addr addr_from6(const void *sixteen)
{
	struct addr a;
	memcpy(a.b, sixteen, 16);
	return a;
}

/* All zero: the IPv6 unspecified address, here also "none given". */
static inline bool addr_is_none(const struct addr *a)
{
	return (a->w[0] | a->w[1] | a->w[2] | a->w[3]) == 0;
}

static inline struct tuple tuple_turned(const struct tuple *t)
{
	struct tuple r = {
		.src = t->dst, .dst = t->src, .sport = t->dport, .dport = t->sport, .proto = t->proto};
	return r;
}

/* The protocols whose header begins with a source and a destination port. */
static inline bool proto_has_ports(uint8_t proto)
{
	return proto == IPPROTO_TCP || proto == IPPROTO_UDP || proto == IPPROTO_UDPLITE ||
	       proto == IPPROTO_SCTP || proto == IPPROTO_DCCP;
}

/* Reads the text of an IPv4 or IPv6 address (no zone, no blanks). Returns 0, or -EINVAL. */
int addr_parse(const char *s, struct addr *out);

/* Reads ADDRESS/LEN. Returns 0; -EINVAL when it is not of that form; -ERANGE when LEN does not fit the
 * family; -EDOM when bits are set beyond LEN (out then holds the prefix with these bits cleared). */
int prefix_parse(const char *s, struct prefix *out);

/* Like prefix_parse, but keeps the host bits: an interface address such as 10.213.0.1/31. */
int prefix_parse_host(const char *s, struct addr *host, struct prefix *net);

/* Text of an address or prefix into buf (ADDR_STRLEN, PREFIX_STRLEN); returns buf. */
const char *addr_str(const struct addr *a, char *buf);
const char *prefix_str(const struct prefix *p, char *buf);

bool prefix_has(const struct prefix *p, const struct addr *a);
bool prefix_overlap(const struct prefix *a, const struct prefix *b);
static inline bool prefix_eq(const struct prefix *a, const struct prefix *b)
{
	return a->len == b->len && addr_eq(&a->a, &b->a);
}

bool addr_range_has(const struct addr_range *r, const struct addr *a);
static inline bool addr_range_eq(const struct addr_range *a, const struct addr_range *b)
{
	return addr_eq(&a->first, &b->first) && addr_eq(&a->last, &b->last);
}
/* How many addresses it has, UINT64_MAX where they are more; 0: there is no range. */
uint64_t addr_range_count(const struct addr_range *r);
/* Address number n of it, from 0 on. */
struct addr addr_range_at(const struct addr_range *r, uint64_t n);
/* Those that hosts may have: a prefix without its lowest address (the network's, or the routers' anycast of RFC 4291
 * 2.6.1) and its highest (broadcast), where there are more than two. Its length must be 64 at least. */
struct addr_range addr_range_of_hosts(const struct prefix *p);
/* The largest prefix that begins at first and stays within last; first moves behind it. Returns false when that was
 * the last one. */
bool addr_range_next_prefix(struct addr_range *r, struct prefix *p);

#endif
