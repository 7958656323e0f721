/* SPDX-License-Identifier: GPL-2.0-or-later */
/* vnet.h - super-packets: the virtio-net header of the TUN device, cutting into segments, joining of segments.
 *
 * Segmenting and coalescing are inverse operations. Both are pure: no I/O, no allocation after init.
 * References: virtio 1.1 5.1.6; Linux Documentation/networking/segmentation-offloads; RFC 6864 (IPv4 ID).
 */
#ifndef ARRD_BASE_VNET_H
#define ARRD_BASE_VNET_H

#include "gateway/base/pkt.h"

#include <linux/virtio_net.h>
#include <sys/uio.h>

#define VNET_HDR_LEN 10 /* struct virtio_net_hdr, as the TUN device speaks it by default */

/* Which offloads are on, for reading and for writing; a switch of the configuration each. */
struct vnet_offloads {
	bool tcp4, tcp6; /* TSO read from and written to the TUN */
	bool udp;        /* USO */
	bool csum;       /* partial checksums */
};

/* Takes over what the header that came with a packet read from the TUN says (gso_size, partial checksum). p is
 * parsed already. hdr_len of the header is never trusted. Returns DROP_NONE or DROP_GSO_INVALID. */
enum drop vnet_to_pkt(const struct virtio_net_hdr *h, struct pkt *p);

/* The header for writing p (a super-packet, or ordinary with partial or complete checksum) to the TUN. */
void vnet_from_pkt(const struct pkt *p, struct virtio_net_hdr *h);

/* Cuts a super-packet into wire packets: complete headers and checksums, payload by reference. An ordinary
 * packet yields itself, its checksum completed if it was partial.
 *
 *	struct vnet_cut cut;
 *	for (vnet_cut_start(&cut, p); (hlen = vnet_cut_next(&cut, hdr, &payload, &plen)) > 0;) …
 *
 * hdr must have room for p->payload octets. IPv4 IDs count up from the super-packet's; FIN and PSH stand on the
 * last segment only, CWR on the first only. Returns the length of the headers written, 0 behind the last. */
struct vnet_cut {
	const struct pkt *p;
	uint64_t pseudo;    /* pseudo-header sum without the length */
	uint32_t at;        /* next payload octet */
	uint32_t n;         /* segments done */
	bool done;
};
void vnet_cut_start(struct vnet_cut *c, const struct pkt *p);
uint32_t vnet_cut_next(struct vnet_cut *c, uint8_t *hdr, const uint8_t **payload, uint32_t *payload_len);

/* Joins the packets of a batch into super-packets. owner tells flows apart (a flow id; packets of different
 * tunnels never have the same); packets of owner 0 are never joined. Rules: TCP with exactly ACK or ACK|PSH,
 * adjacent sequence numbers, equal acknowledgment number, TCP header length and option octets, equal TTL, TOS
 * and DF, no IPv4 options, IPv4 IDs that count up or DF; checksum known to be good; PSH or a
 * shorter segment ends a group. UDP: equal lengths but the last. The order of an owner's packets is kept. */
#define VNET_JOIN_GROUPS 64 /* groups, and so packets, of one batch */
#define VNET_JOIN_SEGS   64 /* packets in one group */

struct vnet_join;
int vnet_join_new(struct vnet_join **out, const struct vnet_offloads *off); /* 0 or -ENOMEM */
void vnet_join_free(struct vnet_join *j);

/* Takes p over by reference until the next flush. Returns false when the batch is full: flush first. */
bool vnet_join_add(struct vnet_join *j, struct pkt *p, uint64_t owner);

/* Hands every group out in order and empties j. The head's header octets are changed in place (length, checksum,
 * flags). iov[0] is left free by j for the caller's vnet header: it is filled in, iov[1..n) is the packet.
 * pkts/npkts: what the group was made of, for counting when the write fails. */
typedef void vnet_join_cb(void *arg, struct iovec *iov, unsigned n, struct pkt *const *pkts, unsigned npkts);
void vnet_join_flush(struct vnet_join *j, vnet_join_cb *cb, void *arg);

#endif
