/* SPDX-License-Identifier: GPL-2.0-or-later */
/* frag.c - inner fragments: put together before the flow step, and cut again behind it. */
#include "gateway/frag.h"

#include "gateway/base/frag_cut.h"
#include "gateway/base/reass.h"
#include "gateway/egress.h"
#include "gateway/frag_id.h"
#include "gateway/rx.h"

#include <errno.h>
#include <sodium.h>
#include <stdlib.h>

/* As much as a busy network of sites may have under way at once, and an eighth of it for each. A datagram is waited for as
 * long as Linux does (RFC 791 says 15 s at least; hosts that send IPv6 expect up to 60 s, RFC 8200 4.5). */
#define DATAGRAMS 4096u
#define OCTETS    (64u << 20)
#define A_REALM   8u
#define WAIT_MS   FRAG_ID_WAIT_MS

struct frag {
	struct reass *reass;
	struct frag_ids *ids;
	uint32_t next6;
	uint8_t whole[PKT_MAX];
};

static void on_lost(void *arg, uint32_t via, enum drop why, uint32_t packets)
{
	struct path *path = arg;

	path_drop(path, tunnels_by_id(path->gw->tunnels, via), why, packets);
}

int frag_new(struct frag **out, struct path *path)
{
	const struct reass_limits limits = {.datagrams = DATAGRAMS,
		.datagrams_a_realm = DATAGRAMS / A_REALM,
		.octets = OCTETS,
		.octets_a_realm = OCTETS / A_REALM,
		.timeout_ms = WAIT_MS};
	struct frag *f = calloc(1, sizeof(*f));
	int r = f ? frag_ids_new(&f->ids) : -ENOMEM;

	if (r == 0)
		r = reass_new(&f->reass, &limits);
	if (r < 0) {
		frag_free(f);
		return r;
	}
	reass_on_lost(f->reass, on_lost, path);
	f->next6 = randombytes_random();
	*out = f;
	return 0;
}

void frag_free(struct frag *f)
{
	if (!f)
		return;
	reass_free(f->reass);
	frag_ids_free(f->ids);
	free(f);
}

enum drop frag_take(struct path *path, const struct item *it)
{
	fs_id egress = path->gw->egress_id;

	return reass_take(path->frag->reass, it->from ? it->from->site : egress,
		it->from ? it->from->id : egress, &it->p, path->now);
}

void frag_tick(struct path *path)
{
	reass_tick(path->frag->reass, path->now);
}

/* ---- whole datagrams -------------------------------------------------------------------------------- */

/* As far as a packet is judged that came in one piece. */
static enum drop judge(struct path *path, struct item *it, fs_id via, bool *is_item)
{
	enum drop d;

	it->from = via == path->gw->egress_id ? NULL : tunnels_by_id(path->gw->tunnels, via);
	if (!it->from && via != path->gw->egress_id)
		return DROP_TUNNEL_DOWN; /* removed meanwhile */
	d = pkt_parse(&it->p);
	if (d)
		return d;
	if (it->p.frag) /* a fragment of a fragment */
		return DROP_FRAGMENT_INVALID;
	/* What the outer headers said of congestion is in it. */
	if (it->from)
		return it->from->ipsec ? rx_ipsec_inner(path, it, it->from, 0, is_item)
				       : rx_take_parsed(path, it, 0, is_item);
	*is_item = true;
	d = pkt_check_csum(&it->p);
	return d == DROP_NONE && it->p.csum == PKT_CSUM_PARTIAL ? DROP_INNER_CHECKSUM : d;
}

bool frag_forward(struct path *path)
{
	struct item *it = &path->item[0];
	uint32_t realm, via, packets;
	bool is_item = false;
	enum drop d;

	if (!reass_next(path->frag->reass, path->frag->whole, &it->p, &realm, &via, &packets))
		return false;
	d = judge(path, it, via, &is_item);
	if (d)
		path_drop(path, it->from, d, packets);
	else if (is_item)
		forward_batch(path, 1);
	return true;
}

/* ---- on ------------------------------------------------------------------------------------------------ */

enum drop frag_number(struct path *path, struct pkt *p, fs_id site, fs_id realm)
{
	struct frag *f = path->frag;
	uint16_t id;

	if (p->ver == 6) {
		if (p->frag_max)
			p->frag_id = f->next6++;
		return DROP_NONE;
	}
	if (!p->frag_max) {
		if (!p->df)
			pkt_set_id(p, frag_ids_next(f->ids, realm, &p->t.dst, p->t.proto, pkt_segs(p)));
		return DROP_NONE;
	}
	if (!frag_ids_take(f->ids, realm, &p->t.dst, p->t.proto, site, path->now, &id))
		return DROP_FRAGMENT_ID;
	p->frag_id = id;
	return DROP_NONE;
}

enum drop frag_to_tun(struct path *path, const struct pkt *p)
{
	uint32_t hlen, plen;
	struct virtio_net_hdr vnet = {0};
	uint8_t hdr[FRAG_HDR_MAX];
	const uint8_t *payload;
	struct frag_cut c;

	if (!frag_cut_start(&c, p->ver, p->data, p->payload, p->data + p->payload, p->len - p->payload,
		    frag_limit(p, path->tun_mtu), p->frag_id, p->ver == 4 && p->df))
		return DROP_FRAGMENT_INVALID;
	egress_flush(path->gw->egress); /* what the kernel is to forget, before it sees this */
	while ((hlen = frag_cut_next(&c, hdr, &payload, &plen))) {
		struct iovec iov[3] = {
			{&vnet, VNET_HDR_LEN}, {hdr, hlen}, {(void *)(uintptr_t)payload, plen}};

		if (tun_write(path->tun, iov, 3) < 0)
			path_drop(path, NULL, DROP_TUN_WRITE, 1);
	}
	return DROP_NONE;
}
