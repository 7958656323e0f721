/* SPDX-License-Identifier: GPL-2.0-or-later */
/* packet.h - makes inner packets for tests, with checksums by a slow method of its own. */
#ifndef ARRD_TEST_PACKET_H
#define ARRD_TEST_PACKET_H

#include "gateway/base/be.h"
#include "gateway/base/pkt.h"

#include <arpa/inet.h>
#include <stdlib.h>

/* What of the L4 checksum stands in the packet. */
enum spec_csum { CSUM_FULL, CSUM_HALF /* partial */, CSUM_NONE /* UDP: absent */, CSUM_BAD };

/* A packet to make. Zero means something reasonable: see packet_spec(). */
struct spec {
	uint8_t ver, proto, ttl, tos;
	struct addr src, dst;
	uint16_t sport, dport; /* host order; echo: sport is the id */
	bool df;
	uint16_t id;
	uint32_t flow_label;
	uint32_t seq, ack;
	uint8_t flags;
	uint16_t window;
	uint8_t options[40]; /* TCP */
	uint8_t noptions;
	uint8_t icmp_type, icmp_code;
	uint32_t fill; /* of the payload: octet i is fill + i * 7 mod 251 */
	uint32_t payload_len;
	const uint8_t *body; /* payload, instead of fill */
	enum spec_csum csum;
};

static inline struct addr test_addr(const char *s)
{
	struct addr a;

	if (addr_parse(s, &a) < 0)
		abort();
	return a;
}

static inline struct spec packet_spec(uint8_t ver, uint8_t proto)
{
	return (struct spec){
		.ver = ver,
		.proto = proto,
		.ttl = 64,
		.src = test_addr(ver == 4 ? "10.0.1.2" : "fd00:1::2"),
		.dst = test_addr(ver == 4 ? "198.51.100.7" : "2001:db8::7"),
		.sport = 40000,
		.dport = 443,
		.df = true,
		.id = 0x1234,
		.seq = 1000,
		.ack = 2000,
		.flags = TCP_ACK,
		.window = 501,
		.icmp_type = ver == 4 ? 8 : 128,
		.payload_len = 100,
	};
}

enum { TCP4, TCP6, UDP4, UDP6, ICMP4, ICMP6, GRE4, ESP6, KINDS };

static inline bool has_ports(unsigned kind)
{
	return kind <= UDP6;
}

static inline struct spec kind_spec(unsigned kind)
{
	static const struct {
		uint8_t ver, proto;
	} k[KINDS] = {{4, IPPROTO_TCP}, {6, IPPROTO_TCP}, {4, IPPROTO_UDP}, {6, IPPROTO_UDP},
		{4, IPPROTO_ICMP}, {6, IPPROTO_ICMPV6}, {4, IPPROTO_GRE}, {6, IPPROTO_ESP}};

	return packet_spec(k[kind].ver, k[kind].proto);
}

/* RFC 1071, 16 bits a time, big-endian, as slow as it is plain. */
static inline uint32_t slow_sum(uint32_t sum, const uint8_t *p, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		sum += i % 2 ? p[i] : (uint32_t)p[i] << 8;
		sum = (sum & 0xffff) + (sum >> 16);
	}
	return sum;
}

static inline uint32_t slow_pseudo(const struct spec *s, uint32_t l4_len)
{
	uint8_t b[8] = {0};
	uint32_t sum;

	be32_put(b, l4_len);
	b[7] = s->proto;
	sum = slow_sum(0, b, 8);
	sum = slow_sum(sum, s->src.b + (s->ver == 4 ? 12 : 0), s->ver == 4 ? 4 : 16);
	return slow_sum(sum, s->dst.b + (s->ver == 4 ? 12 : 0), s->ver == 4 ? 4 : 16);
}

/* Puts the L4 checksum of s->csum's kind into the L4 header at l4 (len octets, field zero). */
static inline void packet_l4_csum(const struct spec *s, uint8_t *l4, uint32_t len)
{
	int off = pkt_csum_offset(s->ver, s->proto);
	bool pseudo = s->proto != IPPROTO_ICMP;
	uint32_t sum = pseudo ? slow_pseudo(s, len) : 0;

	if (off < 0 || s->csum == CSUM_NONE)
		return;
	if (s->csum == CSUM_HALF) {
		be16_put(l4 + off, (uint16_t)sum);
		return;
	}
	sum = ~slow_sum(sum, l4, len) & 0xffff;
	if (s->proto == IPPROTO_UDP && sum == 0)
		sum = 0xffff;
	be16_put(l4 + off, (uint16_t)(s->csum == CSUM_BAD ? sum ^ 0x5555 : sum));
}

/* Puts an IPv4 header's checksum right. */
static inline void packet_ip_csum(uint8_t *ip)
{
	be16_put(ip + 10, 0);
	be16_put(ip + 10, (uint16_t)~slow_sum(0, ip, (ip[0] & 0xfu) * 4));
}

/* Writes the packet to b; returns its length. */
static inline uint32_t packet_make(uint8_t *b, const struct spec *s)
{
	uint32_t l4 = s->ver == 4 ? 20 : 40, hlen, len;
	uint8_t *h = b + l4;

	switch (s->proto) {
	case IPPROTO_TCP:
		hlen = 20u + s->noptions;
		break;
	case IPPROTO_UDP:
	case IPPROTO_ICMP:
	case IPPROTO_ICMPV6:
		hlen = 8;
		break;
	default:
		hlen = 0;
	}
	len = l4 + hlen + s->payload_len;
	memset(b, 0, l4 + hlen);
	for (uint32_t i = 0; i < s->payload_len; i++)
		b[l4 + hlen + i] = s->body ? s->body[i] : (uint8_t)((s->fill + i * 7) % 251);
	if (s->ver == 4) {
		b[0] = 0x45;
		b[1] = s->tos;
		be16_put(b + 2, (uint16_t)len);
		be16_put(b + 4, s->id);
		be16_put(b + 6, s->df ? 0x4000 : 0);
		b[8] = s->ttl;
		b[9] = s->proto;
		memcpy(b + 12, &s->src.w[3], 4);
		memcpy(b + 16, &s->dst.w[3], 4);
		packet_ip_csum(b);
	} else {
		be32_put(b, 6u << 28 | (uint32_t)s->tos << 20 | s->flow_label);
		be16_put(b + 4, (uint16_t)(len - 40));
		b[6] = s->proto;
		b[7] = s->ttl;
		memcpy(b + 8, s->src.b, 16);
		memcpy(b + 24, s->dst.b, 16);
	}
	if (s->proto == IPPROTO_TCP || s->proto == IPPROTO_UDP) {
		be16_put(h, s->sport);
		be16_put(h + 2, s->dport);
	}
	if (s->proto == IPPROTO_TCP) {
		be32_put(h + 4, s->seq);
		be32_put(h + 8, s->ack);
		h[12] = (uint8_t)(hlen / 4 << 4);
		h[13] = s->flags;
		be16_put(h + 14, s->window);
		memcpy(h + 20, s->options, s->noptions);
	} else if (s->proto == IPPROTO_UDP) {
		be16_put(h + 4, (uint16_t)(len - l4));
	} else if (s->proto == IPPROTO_ICMP || s->proto == IPPROTO_ICMPV6) {
		h[0] = s->icmp_type;
		h[1] = s->icmp_code;
		be16_put(h + 4, s->sport);
	}
	packet_l4_csum(s, h, len - l4);
	return len;
}

/* Gives a UDP packet the payload body (s->payload_len octets), changed so that its checksum comes out as zero. */
static inline void packet_zero_sum(struct spec *s, uint8_t *body)
{
	uint8_t b[2048];

	s->csum = CSUM_FULL;
	s->body = body;
	be16_put(body, 0);
	packet_make(b, s);
	memcpy(body, b + (s->ver == 4 ? 20 : 40) + 6, 2);
}

/* Writes an ICMP error of a router on the way, of quoted's family, that quotes the n octets at q. rest: the field behind
 * the checksum. */
static inline uint32_t packet_error(
	uint8_t *b, const struct spec *quoted, uint8_t type, uint16_t rest, const uint8_t *q, uint32_t n)
{
	struct spec s = kind_spec(quoted->ver == 4 ? ICMP4 : ICMP6);

	s.dst = s.src;
	s.src = test_addr(s.ver == 4 ? "192.0.2.1" : "2001:db8:9::1");
	s.icmp_type = type;
	s.sport = rest;
	s.body = q;
	s.payload_len = n;
	return packet_make(b, &s);
}

/* An ICMP error; rest: the four octets behind the checksum. */
struct error {
	uint8_t ver, type, code;
	uint32_t rest;
	struct addr src, dst;
};

static inline uint32_t error_make(uint8_t *b, const struct error *e, const uint8_t *quote, uint32_t n)
{
	struct spec s = packet_spec(e->ver, e->ver == 4 ? IPPROTO_ICMP : IPPROTO_ICMPV6);
	uint8_t *h = b + (e->ver == 4 ? 20 : 40);
	uint32_t len;

	s.src = e->src;
	s.dst = e->dst;
	s.icmp_type = e->type;
	s.icmp_code = e->code;
	s.body = quote;
	s.payload_len = n;
	len = packet_make(b, &s);
	be32_put(h + 4, e->rest);
	be16_put(h + 2, 0);
	packet_l4_csum(&s, h, 8 + n);
	return len;
}

/* Random numbers that are the same in each run: xorshift64. */
static inline uint32_t rnd(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return (uint32_t)(*state >> 32);
}

#endif
