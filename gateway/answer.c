/* SPDX-License-Identifier: GPL-2.0-or-later */
/* answer.c - what the gateway says itself: echo replies of a tunnel's interface_address, ICMP errors.
 *
 * An error goes back the way that the packet came: into its tunnel, or to the TUN. It quotes the packet as
 * its sender sent it, so it is made before the packet is translated.
 *
 * References: RFC 792, 1122 3.2.2, 1191, 1812 4.3.2 (IPv4); RFC 4443, 8201 (IPv6); RFC 7600 4.8 (192.0.0.8).
 */
#include "gateway/base/csum.h"
#include "gateway/path.h"

#include <netinet/icmp6.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <netinet/ip_icmp.h>

/* IPv4: as much as fits 576 octets (RFC 1812 4.3.2.3). IPv6: 1280 (RFC 4443 2.4(c)). */
#define QUOTE4 (576 - 20 - 8)
#define QUOTE6 (1280 - 40 - 8)

#define EGRESS_BURST 1000 /* messages to the egress at once, and a second */

static bool egress_may_answer(struct path *path)
{
	uint64_t gained = path->now - path->egress_tokens_ms; /* one a millisecond */

	path->egress_tokens_ms = path->now;
	path->egress_tokens = path->egress_tokens + gained > EGRESS_BURST
				      ? EGRESS_BURST
				      : (uint32_t)(path->egress_tokens + gained);
	if (!path->egress_tokens)
		return false;
	path->egress_tokens--;
	return true;
}

/* RFC 1122 3.2.2, RFC 4443 2.4(e): nothing is said about ICMP errors, to or about many, or to nobody. */
static bool may_be_told(const struct pkt *p)
{
	if (p->icmp_error || p->frag)
		return false;
	if (p->ver == 4)
		return (ntohl(p->t.src.w[3]) >> 28) < 14 && p->t.src.w[3] != 0 &&
		       (ntohl(p->t.dst.w[3]) >> 28) < 14;
	return !addr_is_none(&p->t.src) && p->t.src.b[0] != 0xff && (p->t.dst.b[0] != 0xff);
}

/* The address that speaks: the tunnel's own; without one, in IPv4 the dummy address of RFC 7600; towards the
 * egress the packet's destination, in whose name the kernel's NAT knows it. None: nobody can speak. */
static struct addr speaker(const struct item *it)
{
	struct addr none = {0};
	const struct conf_ifaddr *own;

	if (!it->from)
		return it->p.t.dst;
	own = &it->from->conf->interface_address[it->p.ver == 6];
	if (!addr_is_none(&own->a))
		return own->a;
	return it->p.ver == 4 ? addr_from4(htonl(0xc0000008)) : none;
}

static void send_back(struct path *path, const struct item *it, struct pkt *p)
{
	if (it->from)
		(void)tx_tunnel(path, p, it->from);
	else
		path_to_tun(path, p, 0);
}

static uint32_t error4(
	uint8_t *b, const struct item *it, enum answer what, uint32_t mtu, const struct addr *src)
{
	const struct pkt *q = &it->p;
	uint32_t n = q->len < QUOTE4 ? q->len : QUOTE4;
	struct ip ip = {.ip_v = 4,
		.ip_hl = 5,
		.ip_tos = 0xc0 /* RFC 1812 4.3.2.5: internetwork control */,
		.ip_ttl = 64,
		.ip_p = IPPROTO_ICMP,
		.ip_len = htons((uint16_t)(28 + n)),
		.ip_src.s_addr = src->w[3],
		.ip_dst.s_addr = q->t.src.w[3]};
	struct icmp ic = {0};

	switch (what) {
	case ANSWER_TTL:
		ic.icmp_type = ICMP_TIMXCEED;
		ic.icmp_code = ICMP_TIMXCEED_INTRANS;
		break;
	case ANSWER_TOO_BIG:
		ic.icmp_type = ICMP_UNREACH;
		ic.icmp_code = ICMP_UNREACH_NEEDFRAG;
		ic.icmp_nextmtu = htons((uint16_t)mtu);
		break;
	case ANSWER_PORT_UNREACHABLE:
		ic.icmp_type = ICMP_UNREACH;
		ic.icmp_code = ICMP_UNREACH_PORT;
		break;
	}
	ip.ip_sum = (uint16_t)~csum_fold(csum_add(0, &ip, 20));
	memcpy(b, &ip, 20);
	memcpy(b + 20, &ic, 8);
	memcpy(b + 28, q->data, n);
	ic.icmp_cksum = (uint16_t)~csum_fold(csum_add(0, b + 20, 8 + n));
	memcpy(b + 20, &ic, 8);
	return 28 + n;
}

static uint32_t error6(
	uint8_t *b, const struct item *it, enum answer what, uint32_t mtu, const struct addr *src)
{
	const struct pkt *q = &it->p;
	uint32_t n = q->len < QUOTE6 ? q->len : QUOTE6;
	struct ip6_hdr ip = {.ip6_nxt = IPPROTO_ICMPV6, .ip6_hlim = 64, .ip6_plen = htons((uint16_t)(8 + n))};
	struct icmp6_hdr ic = {0};

	ip.ip6_vfc = 6 << 4; /* not in the initialiser: a union with the above */

	switch (what) {
	case ANSWER_TTL:
		ic.icmp6_type = ICMP6_TIME_EXCEEDED;
		ic.icmp6_code = ICMP6_TIME_EXCEED_TRANSIT;
		break;
	case ANSWER_TOO_BIG:
		ic.icmp6_type = ICMP6_PACKET_TOO_BIG;
		ic.icmp6_mtu = htonl(mtu);
		break;
	case ANSWER_PORT_UNREACHABLE:
		ic.icmp6_type = ICMP6_DST_UNREACH;
		ic.icmp6_code = ICMP6_DST_UNREACH_NOPORT;
		break;
	}
	memcpy(&ip.ip6_src, src, 16);
	memcpy(&ip.ip6_dst, &q->t.src, 16);
	memcpy(b, &ip, 40);
	memcpy(b + 40, &ic, 8);
	memcpy(b + 48, q->data, n);
	ic.icmp6_cksum = (uint16_t)~csum_fold(
		csum_add(csum_pseudo(src, &q->t.src, IPPROTO_ICMPV6, 8 + n), b + 40, 8 + n));
	memcpy(b + 40, &ic, 8);
	return 48 + n;
}

void answer_error(struct path *path, const struct item *it, enum answer what, uint32_t mtu)
{
	struct addr src = speaker(it);
	struct pkt *p;
	uint8_t *b;

	if (!may_be_told(&it->p) || addr_is_none(&src))
		return;
	if (it->from ? !tunnel_may_answer(it->from, path->now) : !egress_may_answer(path)) {
		path_drop(path, it->from, DROP_RATE_LIMITED, 1);
		return;
	}
	if (path->answers == ANSWERS) {
		path_drop(path, it->from, DROP_RATE_LIMITED, 1);
		return;
	}
	b = path->answer_buf[path->answers];
	p = &path->answer[path->answers++];
	*p = (struct pkt){.data = b, .csum = PKT_CSUM_GOOD};
	p->len = it->p.ver == 4 ? error4(b, it, what, mtu, &src) : error6(b, it, what, mtu, &src);
	if (pkt_parse(p) != DROP_NONE)
		return; /* a quote cut where its own headers are not complete: not worth telling */
	send_back(path, it, p);
}

enum drop answer_own(struct path *path, struct item *it)
{
	struct pkt *p = &it->p;
	uint8_t request = p->ver == 4 ? ICMP_ECHO : ICMP6_ECHO_REQUEST;
	uint8_t reply = p->ver == 4 ? ICMP_ECHOREPLY : ICMP6_ECHO_REPLY;
	uint8_t icmp = p->ver == 4 ? IPPROTO_ICMP : IPPROTO_ICMPV6;
	struct addr src = p->t.src, dst = p->t.dst;
	uint16_t id = p->t.sport, sum;

	if (p->t.proto == IPPROTO_UDP) {
		answer_error(path, it, ANSWER_PORT_UNREACHABLE, 0); /* the end of a traceroute */
		return DROP_DST_GATEWAY;
	}
	if (p->t.proto != icmp || p->icmp_type != request)
		return DROP_DST_GATEWAY;
	if (!tunnel_may_answer(it->from, path->now))
		return DROP_RATE_LIMITED;
	if (p->csum == PKT_CSUM_PARTIAL)
		pkt_complete_csum(p);
	pkt_set_src(p, &dst, id);
	pkt_set_dst(p, &src, id);
	memcpy(&sum, p->data + p->l4 + 2, 2);
	/* type and code are one 16-bit word of the checksum; in memory the type comes first */
	sum = csum_update(sum, (uint8_t[]){request, 0}, (uint8_t[]){reply, 0}, 2);
	memcpy(p->data + p->l4 + 2, &sum, 2);
	p->data[p->l4] = reply;
	p->icmp_type = reply;
	pkt_set_ttl(p, 64);
	return tx_tunnel(path, p, it->from);
}
