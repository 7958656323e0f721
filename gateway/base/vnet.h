/* SPDX-License-Identifier: GPL-2.0-or-later */
/* vnet.h - super-packets: the virtio-net header of the TUN device, cutting into segments, joining of
 * segments.
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

#ifndef VIRTIO_NET_HDR_GSO_UDP_L4 /* headers before Linux 6.2 */
#define VIRTIO_NET_HDR_GSO_UDP_L4 5
#endif

/* Which offloads are on, for reading and for writing; a switch of the configuration each. */
struct vnet_offloads {
	bool tcp4, tcp6; /* TSO read from and written to the TUN */
	bool udp;        /* USO */
	bool csum;       /* partial checksums */
};

/* Takes over what the header that came with a packet read from the TUN says (gso_size, partial checksum). p
 * is parsed already. hdr_len of the header is never trusted, F_DATA_VALID is not relied on. A super-packet of
 * a single segment becomes an ordinary packet. Returns DROP_NONE or DROP_GSO_INVALID: what the header says
 * does not fit the packet (offsets, protocol, no partial checksum, SYN or RST in a super-packet, UDP length).
 */
enum drop vnet_to_pkt(const struct virtio_net_hdr *h, struct pkt *p);

/* The header for writing p (a super-packet, or ordinary with partial or complete checksum) to the TUN. Reads
 * gso_size, csum, ver, l4, payload, tcp_flags and t.proto of p only. */
void vnet_from_pkt(const struct pkt *p, struct virtio_net_hdr *h);

/* Cuts a super-packet into wire packets: complete headers and checksums, payload by reference. An ordinary
 * packet yields itself, its checksum completed if it was partial. p is not changed.
 *
 *	struct vnet_cut cut;
 *	for (vnet_cut_start(&cut, p); (hlen = vnet_cut_next(&cut, hdr, &payload, &plen)) > 0;) …
 *
 * hdr must have room for p->payload octets. IPv4 IDs count up from the super-packet's; FIN and PSH stand on
 *the last segment only, CWR on the first only. Returns the length of the headers written, 0 behind the last.
*/
struct vnet_cut {
	const struct pkt *p;
	uint64_t ip_sum; /* of the IPv4 header without length, ID and checksum */
	uint64_t l4_sum; /* of pseudo-header and L4 header without what differs between segments */
	uint32_t at;     /* next payload octet, from p->data */
	uint32_t n;      /* segments done */
	uint32_t size;   /* payload octets of a segment; 0: p is an ordinary packet */
	bool done;
};
void vnet_cut_start(struct vnet_cut *c, const struct pkt *p);
uint32_t vnet_cut_next(struct vnet_cut *c, uint8_t *hdr, const uint8_t **payload, uint32_t *payload_len);

/* Joins the packets of a batch into super-packets. owner tells flows apart (a flow id; packets of different
 * tunnels never have the same); packets of owner 0 are never joined.
 *
 * Two packets of an owner that follow each other are joined when all of this holds:
 *   - same addresses, ports, TTL, TOS, IPv6 flow label, DF; no IPv4 options, no extension headers, no
 * fragments;
 *   - the L4 checksum is known to be right, or partial; UDP: not absent;
 *   - IPv4 IDs count up, or DF is set (the ID then means nothing, RFC 6864);
 *   - the second has payload, no more than the first of its group, and all between had as much as the first;
 *   - TCP: flags exactly ACK or ACK|PSH, no PSH before the last, sequence numbers adjacent, equal
 * acknowledgment number, window, header length and option octets;
 *   - the whole stays within PKT_MAX octets, and the offload is on.
 * What does not join begins a new group, and only the newest group of an owner is ever added to: the order of
 * an owner's packets is kept. A packet that is a super-packet already is a group of its own; where its
 * offload is off, it must be cut before. Partial checksums of ordinary packets are completed where off->csum
 * is not set. */
#define VNET_JOIN_GROUPS 64 /* groups, and so packets, of one batch */
#define VNET_JOIN_SEGS   64 /* packets in one group */

struct vnet_join;
int vnet_join_new(struct vnet_join **out, const struct vnet_offloads *off); /* 0 or -ENOMEM */
void vnet_join_free(struct vnet_join *j);

/* Takes p over by reference until the next flush. Returns false when the batch is full: flush first. */
bool vnet_join_add(struct vnet_join *j, struct pkt *p, uint64_t owner);

/* Is there anything to flush? */
bool vnet_join_waits(const struct vnet_join *j);

/* Hands every group out in the order in which they began, and empties j. iov[0] is the virtio-net header
 * (VNET_HDR_LEN octets), iov[1..n) the packet. The head's header octets have been changed in place (lengths,
 * checksums, PSH). pkts, npkts: what the group was made of, as it was added, for counting when the write
 * fails. */
typedef void vnet_join_cb(void *arg, struct iovec *iov, unsigned n, struct pkt *const *pkts, unsigned npkts);
void vnet_join_flush(struct vnet_join *j, vnet_join_cb *cb, void *arg);

#endif
