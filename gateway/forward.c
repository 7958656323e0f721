/* SPDX-License-Identifier: GPL-2.0-or-later */
/* forward.c - the flow step: whose packet is this, and where does it go?
 *
 * Theory. A packet that belongs to a flow goes where the flow's other half is attached: for a reply that is
 * the tunnel that the flow began in, whatever the reply's destination address says. Only a packet that begins
 * a flow is routed, once. Between the look-up and the exit stands one check that no other code can go round:
 * the exit's site is the realm of the half that the packet is for (choose_exit).
 *
 * A batch is looked up as a whole, so that the flow table can prefetch. A packet whose flow an earlier packet
 * of the same batch began is found again by fs_begin; one whose flow an earlier one ended has none any more.
 */
#include "gateway/address.h"
#include "gateway/frag.h"
#include "gateway/hostnet.h"
#include "gateway/path.h"

#include <netinet/icmp6.h>
#include <netinet/ip_icmp.h>
#include <netinet/tcp.h>

static bool is_echo_request(const struct pkt *p)
{
	return (p->t.proto == IPPROTO_ICMP && p->icmp_type == ICMP_ECHO) ||
	       (p->t.proto == IPPROTO_ICMPV6 && p->icmp_type == ICMP6_ECHO_REQUEST);
}

/* Of the packets without a flow, which kinds may begin one? From the egress only what opens a conversation.
 */
static bool may_begin(const struct item *it)
{
	const struct pkt *p = &it->p;

	switch (p->t.proto) {
	case IPPROTO_TCP:
		return it->from || (p->tcp_flags & (TCP_SYN | TCP_ACK | TCP_RST | TCP_FIN)) == TCP_SYN;
	case IPPROTO_SCTP:
		return it->from || p->l4_type == SCTP_INIT;
	case IPPROTO_DCCP:
		return it->from || p->l4_type == DCCP_REQUEST;
	case IPPROTO_ICMP:
	case IPPROTO_ICMPV6:
		return is_echo_request(p);
	default:
		return true;
	}
}

static enum drop begin(struct path *path, struct item *it)
{
	struct gateway *gw = path->gw;
	fs_id realm, via;
	unsigned flags = 0;
	struct tunnel *t;
	enum drop d;

	if (!may_begin(it))
		return DROP_NOT_A_BEGINNING;
	d = destination_check(gw, &it->p.t.dst);
	if (d)
		return d;
	/* From outside it is a late answer, or a stranger's try: not for a branch that is our default route. From a branch it
	 * is meant for another one. */
	if (address_of_nat(&gw->conf->egress, &it->p.t.dst))
		return it->from ? DROP_DST_NAT : DROP_NO_FLOW;
	t = routes_find(path->routes, &it->p.t.dst, FS_ID_NONE, path->now);
	/* What is routed to the site that it comes from leaves by the egress, like everything a site has no
	 * route for: a branch that is our default route (we are the branch then) may well be asked for the
	 * Internet. */
	if (t && (!it->from || t->site != it->from->site)) {
		realm = t->site;
		via = t->id;
	} else if (it->from) {
		d = egress_check(gw, &it->p.t);
		if (d)
			return d;
		if (it->p.t.proto == IPPROTO_DCCP && gw->conf->egress.nat == NAT_MASQUERADE &&
			!gw->nat_knows_dccp)
			return DROP_NAT_EXHAUSTED;
		realm = via = gw->egress_id;
		/* The kernel would take it for a packet of its own that comes from outside, and drop it; answers to a
		 * broadcast address of its own it would keep. */
		if (hostnet_own(gw->hostnet, &it->p.t.src) || hostnet_broadcast(gw->hostnet, &it->p.t.src))
			flags |= FS_BEGIN_READDRESS;
	} else {
		return DROP_NO_FLOW;
	}
	return fs_begin(gw->fs, &it->fp, realm, via, !it->from, flags, path->now, &it->hit);
}

/* Where do packets for this half leave? *exit: a tunnel, or NULL for the TUN. */
static enum drop choose_exit(struct path *path, const struct item *it, const struct fs_half *to,
	const struct tuple *out, struct tunnel **exit)
{
	struct gateway *gw = path->gw;
	struct tunnel *t;

	*exit = NULL;
	if (to->realm == gw->egress_id)
		return it->from ? DROP_NONE : DROP_HAIRPIN;
	t = tunnels_by_id(gw->tunnels, to->via);
	if (t && it->hit.dir == FS_REPLY && !t->conf->automatic_return_routing) {
		/* Replies follow `routes` only; but never to another site. */
		t = routes_find(path->routes, &out->dst, FS_ID_NONE, path->now);
		if (!t)
			return DROP_NO_FLOW;
	} else if (!t || tunnel_state(t, path->now) != TUNNEL_UP) {
		t = tunnels_of_site(gw->tunnels, to->realm, path->now);
		if (!t)
			return DROP_TUNNEL_DOWN;
	}
#ifdef MUTATE_SWAP_ATTACHMENTS
	/* For the tests: a gateway that errs, to show that they would notice. */
	t = tunnels_at(gw->tunnels, t->index ^ 1) ? tunnels_at(gw->tunnels, t->index ^ 1) : t;
#else
	if (t->site != to->realm)
		return DROP_OTHER_SITE;
#endif
	*exit = t;
	return t == it->from ? DROP_HAIRPIN : DROP_NONE;
}

/* Is it small enough for the exit? If not, and it must not be fragmented, its sender is told. */
static enum drop check_size(struct path *path, const struct item *it, const struct tunnel *exit)
{
	uint32_t mtu = exit ? tunnel_mtu(exit, it->p.ver, path->now) : path->tun_mtu;

	if (pkt_wire_len(&it->p) <= mtu || !it->p.df)
		return DROP_NONE;
	answer_error(path, it, ANSWER_TOO_BIG, mtu);
	return DROP_TOO_BIG;
}

/* From tunnel to tunnel the gateway is a router like others; for what crosses the TUN the kernel is it. */
static enum drop take_hop(struct path *path, struct item *it, const struct tunnel *exit)
{
	if (!it->from || !exit)
		return DROP_NONE;
	if (it->p.ttl <= 1) {
		answer_error(path, it, ANSWER_TTL, 0);
		return DROP_TTL_EXPIRED;
	}
	pkt_decrement_ttl(&it->p);
	return DROP_NONE;
}

static void lower_mss(const struct path *path, uint32_t *mss, const struct tunnel *t, uint8_t ver)
{
	uint32_t mtu, m;

	if (!t || t->conf->mss == MSS_OFF)
		return;
	mtu = tunnel_mtu(t, ver, path->now);
	if (path->tun_mtu < mtu)
		mtu = path->tun_mtu;
	m = t->conf->mss == MSS_AUTO ? mtu - (ver == 4 ? 40 : 60) : t->conf->mss;
	if (m < *mss)
		*mss = m;
}

/* A SYN tells the other side how large its segments may be: no larger than every tunnel on the way takes, nor the TUN. */
static void clamp_mss(struct path *path, struct item *it, const struct tunnel *exit)
{
	uint32_t mss = UINT16_MAX;

	lower_mss(path, &mss, it->from, it->p.ver);
	lower_mss(path, &mss, exit, it->p.ver);
	if (pkt_clamp_mss(&it->p, (uint16_t)mss))
		fs_clamp_mss(path->gw->fs, it->hit.flow, it->hit.dir, (uint16_t)mss);
}

/* out: the packet's tuple as the other half's realm must see it. */
static void translate(struct pkt *p, const struct tuple *out)
{
	if (p->t.sport != out->sport || !addr_eq(&p->t.src, &out->src))
		pkt_set_src(p, &out->src, out->sport);
	if (p->t.dport != out->dport || !addr_eq(&p->t.dst, &out->dst))
		pkt_set_dst(p, &out->dst, out->dport);
}

/* Input that GRO merged does not say the size of its segments: whatever the peer was told that it may send.
 * Cutting it larger would be an error, smaller is none; but whoever gets a peer to announce next to nothing must not
 * have us make tens of thousands of packets of one. */
#define SEGMENT_MIN 64u

static void guess_gso(struct path *path, struct item *it)
{
	struct pkt *p = &it->p;
	uint32_t options, mss, mtu, payload = p->len - p->payload;

	if (!it->from || p->gso_size || p->csum != PKT_CSUM_PARTIAL || p->t.proto != IPPROTO_TCP)
		return;
	mtu = tunnel_mtu(it->from, p->ver, path->now);
	if (path->tun_mtu < mtu)
		mtu = path->tun_mtu;
	if (p->payload + SEGMENT_MIN > mtu)
		return; /* headers of such a length are not merged */
	options = p->payload - p->l4 - 20;
	mss = fs_mss(path->gw->fs, it->hit.flow, it->hit.dir);
	/* the option counts neither TCP options nor IP ones */
	mss = mss > options ? mss - options : 0;
	if (!mss || p->payload + mss > mtu)
		mss = mtu - p->payload;
	if (mss < SEGMENT_MIN)
		mss = SEGMENT_MIN;
	if (payload <= mss)
		return;
	p->gso_size = (uint16_t)mss;
	it->fp.packets = pkt_segs(p);
	it->from->count.rx_packets += it->fp.packets - 1;
}

static void depart(struct path *path, struct item *it, struct tunnel *exit)
{
	enum drop d = DROP_NONE;

	if (it->from)
		d = frag_number(path, &it->p, it->from->site, exit ? exit->site : path->gw->egress_id);
	if (d) {
		path_drop(path, it->from, d, 1);
	} else if (exit) {
		d = tx_tunnel(path, &it->p, exit);
		if (d)
			path_drop_out(path, exit, d, pkt_segs(&it->p));
	} else if (it->p.frag_max) {
		d = frag_to_tun(path, &it->p);
		if (d)
			path_drop(path, it->from, d, 1);
	} else {
		path_to_tun(path, &it->p, (uint64_t)it->hit.flow * 2 + it->hit.dir + 1);
	}
}

/* An ICMP error goes to the sender of the packet that it quotes, and changes nothing of the flow (RFC 5508
 * 4). The quoted packet was on its way to the realm that the error comes from, so turned round it is a packet
 * from there: that is the key that it was looked up by. */
static enum drop forward_error(struct path *path, struct item *it)
{
	struct gateway *gw = path->gw;
	struct pkt *p = &it->p;
	struct fs_half to, from;
	struct tunnel *exit;
	struct tuple sent;
	enum drop d;

	if (it->hit.flow == FS_NONE)
		return DROP_ICMP_NO_FLOW;
	/* RFC 5508 4: it must be addressed to the sender of what it quotes */
	if (!addr_eq(&p->t.dst, &p->qt.src))
		return DROP_ICMP_NO_FLOW;
	fs_half(gw->fs, it->hit.flow, !it->hit.dir, &to);
	fs_half(gw->fs, it->hit.flow, it->hit.dir, &from);
	sent = to.t; /* what the quoted packet was when it was sent */
	d = choose_exit(path, it, &to, &(struct tuple){.dst = to.t.src}, &exit);
	if (!d)
		d = take_hop(path, it, exit);
	if (d)
		return d;
	if (p->qt.sport != sent.sport || !addr_eq(&p->qt.src, &sent.src)) {
		pkt_set_quote_src(p, &sent.src, sent.sport);
		pkt_set_dst(p, &sent.src, 0);
	}
	if (p->qt.dport != sent.dport || !addr_eq(&p->qt.dst, &sent.dst)) {
		/* The reporter may be the quoted packet's receiver itself. */
		if (addr_eq(&p->t.src, &from.t.src))
			pkt_set_src(p, &sent.dst, 0);
		pkt_set_quote_dst(p, &sent.dst, sent.dport);
	}
	depart(path, it, exit);
	return DROP_NONE;
}

/* Windows of a flow are taken lightly if either tunnel's branch says so. */
static bool is_liberal(const struct gateway *gw, const struct item *it, const struct fs_half *to)
{
	const struct tunnel *t;

	if (it->p.t.proto != IPPROTO_TCP)
		return false;
	if (it->from && it->from->conf->tcp_liberal)
		return true;
	t = tunnels_by_id(gw->tunnels, to->via);
	return t && t->conf->tcp_liberal;
}

static enum drop forward_one(struct path *path, struct item *it)
{
	struct gateway *gw = path->gw;
	struct tunnel *exit;
	struct fs_half to;
	struct tuple out;
	enum drop d;

	if (it->p.icmp_error)
		return forward_error(path, it);
	if (it->hit.flow == FS_NONE) {
		d = begin(path, it);
		if (d)
			return d;
	}
	guess_gso(path, it);
	fs_half(gw->fs, it->hit.flow, !it->hit.dir, &to);
	it->fp.liberal = is_liberal(gw, it, &to);
	d = fs_pass(gw->fs, it->hit, &it->fp, path->now);
	if (d)
		return d;
	out = tuple_turned(&to.t);
	d = choose_exit(path, it, &to, &out, &exit);
	if (d)
		return d;
	d = check_size(path, it, exit);
	if (!d)
		d = take_hop(path, it, exit);
	if (d)
		return d;
	translate(&it->p, &out);
	if (it->p.mss)
		clamp_mss(path, it, exit);
	depart(path, it, exit);
	return DROP_NONE;
}

/* What flowstate is told of a packet. */
static void describe(const struct gateway *gw, struct item *it)
{
	const struct pkt *p = &it->p;
	struct fs_packet *f = &it->fp;

	memset(f, 0, sizeof(*f));
	f->key.t = p->icmp_error ? tuple_turned(&p->qt) : p->t;
	f->key.realm = it->from ? it->from->site : gw->egress_id;
	f->via = it->from ? it->from->id : gw->egress_id;
	f->octets = p->len;
	f->packets = pkt_segs(p);
	if (p->t.proto == IPPROTO_TCP) {
		struct tcphdr th;

		memcpy(&th, p->data + p->l4, sizeof(th));
		f->tcp_flags = p->tcp_flags;
		f->window = ntohs(th.th_win);
		f->seq = ntohl(th.th_seq);
		f->ack = ntohl(th.th_ack);
		f->tcp_len = p->len - p->payload;
		f->mss = p->mss;
		f->wscale = p->wscale;
		f->sack = p->sack;
	}
}

void forward_batch(struct path *path, unsigned n)
{
	struct flowstate *fs = path->gw->fs;

	for (unsigned i = 0; i < n; i++) {
		describe(path->gw, &path->item[i]);
		path->key[i] = path->item[i].fp.key;
	}
	fs_find(fs, path->key, n, path->hit);
	for (unsigned i = 0; i < n; i++) {
		path->item[i].hit = path->hit[i];
		if (path->hit[i].flow != FS_NONE)
			fs_prefetch(fs, path->hit[i].flow);
	}
	for (unsigned i = 0; i < n; i++) {
		struct item *it = &path->item[i];
		enum drop d;

		if (!fs_still(fs, it->hit, &it->fp.key))
			it->hit.flow = FS_NONE;
		d = forward_one(path, it);
		if (d)
			path_drop(path, it->from, d, it->fp.packets);
	}
}
