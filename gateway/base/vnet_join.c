/* SPDX-License-Identifier: GPL-2.0-or-later */
/* vnet_join.c - joins the packets of a batch into super-packets.
 *
 * Packets are items, groups are chains of items; of each owner's groups only the newest can grow. Nothing is
 * moved or changed before the flush: then the head's header is made that of the whole, and the others lend
 * their payload.
 *
 * What joins here must come out of cutting as it went in: here, in the kernel when the TUN's reader is on the
 * far side of a segmenting device, or in the network card. So every header field that cutting copies must be
 * equal, and every one that it computes must be as it would compute it.
 */
#include "gateway/base/be.h"
#include "gateway/base/csum.h"
#include "gateway/base/vnet.h"

#include <errno.h>
#include <stdlib.h>

#define NO_ITEM     UINT8_MAX
#define IP4_HDR     20
#define IP6_HDR     40
#define TCP_OPTIONS 20 /* where they begin in the TCP header */

_Static_assert(VNET_JOIN_GROUPS < NO_ITEM, "items are named by an octet");

struct item {
	struct pkt *p;
	uint8_t next;
};

struct group {
	uint8_t first, last, n;
	bool open;         /* another packet may join */
	uint32_t len;      /* octets of the joined packet */
	uint32_t size;     /* payload octets of the head */
	uint32_t next_seq; /* TCP: of the packet that may join */
};

struct vnet_join {
	struct vnet_offloads off;
	unsigned nitems, ngroups;
	uint64_t owner[VNET_JOIN_GROUPS]; /* of the groups, by themselves because they are searched */
	struct group group[VNET_JOIN_GROUPS];
	struct item item[VNET_JOIN_GROUPS];
};

int vnet_join_new(struct vnet_join **out, const struct vnet_offloads *off)
{
	struct vnet_join *j = calloc(1, sizeof(*j));

	if (!j)
		return -ENOMEM;
	j->off = *off;
	*out = j;
	return 0;
}

void vnet_join_free(struct vnet_join *j)
{
	free(j);
}

/* May p be part of a super-packet at all? */
static bool is_joinable(const struct vnet_join *j, const struct pkt *p)
{
	const uint8_t *l4 = p->data + p->l4;

	if (p->gso_size || p->frag || p->len == p->payload || !j->off.csum)
		return false;
	if (p->l4 != (p->ver == 4 ? IP4_HDR : IP6_HDR))
		return false;
	if (p->csum != PKT_CSUM_GOOD && p->csum != PKT_CSUM_PARTIAL)
		return false;
	if (p->t.proto == IPPROTO_TCP)
		return (p->ver == 4 ? j->off.tcp4 : j->off.tcp6) && (p->tcp_flags & ~TCP_PSH) == TCP_ACK;
	return p->t.proto == IPPROTO_UDP && j->off.udp && raw16_get(l4 + 6) != 0 &&
	       be16_get(l4 + 4) == p->len - p->l4;
}

/* Are the fields of the IP header that cutting would copy equal, and is the ID the one that it would give? a
 * is the group's head, b would be packet number n of the group. */
static bool same_ip(const struct pkt *a, const struct pkt *b, unsigned n)
{
	const uint8_t *x = a->data, *y = b->data;

	if (a->ver != b->ver || a->ttl != b->ttl || memcmp(&a->t, &b->t, sizeof(a->t)) != 0)
		return false;
	if (a->ver == 6)
		return memcmp(x, y, 4) == 0; /* traffic class and flow label */
	return a->tos == b->tos && raw16_get(x + 6) == raw16_get(y + 6) &&
	       (a->df || be16_get(y + 4) == (uint16_t)(be16_get(x + 4) + n));
}

/* Does b continue the group's TCP stream? */
static bool same_tcp(const struct group *g, const struct pkt *a, const struct pkt *b)
{
	const uint8_t *x = a->data + a->l4, *y = b->data + b->l4;
	uint32_t hlen = a->payload - a->l4;

	return be32_get(y + 4) == g->next_seq && hlen == (uint32_t)(b->payload - b->l4) &&
	       memcmp(x + 8, y + 8, 5) == 0 && /* acknowledgment number, header length and reserved bits */
	       raw16_get(x + 14) == raw16_get(y + 14) && /* window */
	       raw16_get(x + 18) ==
		       raw16_get(y + 18) && /* urgent pointer: without URG it means nothing, but is there */
	       memcmp(x + TCP_OPTIONS, y + TCP_OPTIONS, hlen - TCP_OPTIONS) == 0;
}

static bool continues(const struct vnet_join *j, const struct group *g, const struct pkt *p)
{
	const struct pkt *head = j->item[g->first].p;
	uint32_t n = p->len - p->payload;

	if (!g->open || g->n == VNET_JOIN_SEGS || n > g->size || g->len + n > PKT_MAX)
		return false;
	return same_ip(head, p, g->n) && (p->t.proto != IPPROTO_TCP || same_tcp(g, head, p));
}

/* The newest group of owner, or NULL. Linear: most batches have few flows, and the numbers lie side by side.
 */
static struct group *newest(struct vnet_join *j, uint64_t owner)
{
	for (unsigned i = j->ngroups; i > 0; i--)
		if (j->owner[i - 1] == owner)
			return &j->group[i - 1];
	return NULL;
}

bool vnet_join_add(struct vnet_join *j, struct pkt *p, uint64_t owner)
{
	uint32_t size = p->len - p->payload;
	bool joinable, ends;
	struct group *g;
	uint8_t i;

	if (j->nitems == VNET_JOIN_GROUPS)
		return false;
	i = (uint8_t)j->nitems++;
	j->item[i] = (struct item){.p = p, .next = NO_ITEM};
	joinable = owner != 0 && is_joinable(j, p);
	ends = p->t.proto == IPPROTO_TCP && (p->tcp_flags & TCP_PSH);
	g = joinable ? newest(j, owner) : NULL;
	if (g && continues(j, g, p)) {
		j->item[g->last].next = i;
		g->last = i;
		g->n++;
		g->len += size;
		g->next_seq += size;
		g->open = !ends && size == g->size;
		return true;
	}
	j->owner[j->ngroups] = owner;
	j->group[j->ngroups++] = (struct group){
		.first = i,
		.last = i,
		.n = 1,
		.open = joinable && !ends,
		.len = p->len,
		.size = size,
		.next_seq = joinable && p->t.proto == IPPROTO_TCP ? be32_get(p->data + p->l4 + 4) + size : 0,
	};
	return true;
}

/* Makes the head's header that of the whole group. */
static void widen_head(const struct vnet_join *j, const struct group *g)
{
	struct pkt *head = j->item[g->first].p;
	uint8_t *ip = head->data, *l4 = ip + head->l4;
	uint32_t l4_len = g->len - head->l4;

	if (head->ver == 4) {
		uint16_t old = raw16_get(ip + 2);

		be16_put(ip + 2, (uint16_t)g->len);
		raw16_put(ip + 10, csum_update16(raw16_get(ip + 10), old, raw16_get(ip + 2)));
	} else {
		be16_put(ip + 4, (uint16_t)l4_len);
	}
	if (head->t.proto == IPPROTO_TCP)
		l4[13] |= j->item[g->last].p->tcp_flags & TCP_PSH;
	else
		be16_put(l4 + 4, (uint16_t)l4_len);
	raw16_put(l4 + pkt_csum_offset(head->ver, head->t.proto),
		csum_fold(csum_pseudo(&head->t.src, &head->t.dst, head->t.proto, l4_len)));
}

static void flush_group(struct vnet_join *j, const struct group *g, vnet_join_cb *cb, void *arg)
{
	struct iovec iov[1 + VNET_JOIN_SEGS];
	struct pkt *pkts[VNET_JOIN_SEGS], *head = j->item[g->first].p;
	struct virtio_net_hdr h;
	unsigned n = 0;

	if (g->n == 1 && !head->gso_size && !j->off.csum)
		pkt_complete_csum(head);
	iov[0] = (struct iovec){&h, VNET_HDR_LEN};
	for (uint8_t i = g->first; i != NO_ITEM; i = j->item[i].next) {
		struct pkt *p = j->item[i].p;
		uint32_t skip = n ? p->payload : 0;

		pkts[n++] = p;
		iov[n] = (struct iovec){p->data + skip, p->len - skip};
	}
	if (n > 1) {
		struct pkt whole = *head;

		widen_head(j, g);
		whole.len = g->len;
		whole.gso_size = (uint16_t)g->size;
		whole.csum = PKT_CSUM_PARTIAL;
		vnet_from_pkt(&whole, &h);
	} else {
		vnet_from_pkt(head, &h);
	}
	cb(arg, iov, n + 1, pkts, n);
}

bool vnet_join_waits(const struct vnet_join *j)
{
	return j->ngroups > 0;
}

void vnet_join_flush(struct vnet_join *j, vnet_join_cb *cb, void *arg)
{
	for (unsigned i = 0; i < j->ngroups; i++)
		flush_group(j, &j->group[i], cb, arg);
	j->nitems = 0;
	j->ngroups = 0;
}
