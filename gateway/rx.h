/* SPDX-License-Identifier: GPL-2.0-or-later */
/* rx.h - between the files that receive from branches: rx.c (GRE, inner packets) and rx_ipsec.c. */
#ifndef ARRD_GATEWAY_RX_H
#define ARRD_GATEWAY_RX_H

#include "gateway/path.h"

/* In the table of GRE endpoints, on the number of a tunnel: packets for this endpoint come by another way. */
#define GRE_ELSEWHERE 0x80000000u

/* The tunnel of a GRE packet, by how it came, addresses and key; NULL: there is none. */
struct tunnel *rx_gre_tunnel(struct path *path, const struct gre_rx *rx);

/* One GRE packet whose header is decoded, up to the flow step; counts it, and what it drops. Returns true when it is the
 * item now. */
bool rx_take_gre(struct path *path, struct item *it, const struct gre_rx *rx);

/* What the outer header says of congestion is taken over into what it carries (RFC 6040 4.2). Returns DROP_NONE or
 * DROP_ECN_CE_NOT_ECT. */
enum drop rx_decap_ecn(struct pkt *p, uint8_t outer_tos);

/* rx_ipsec.c: an inner packet, parsed as it->p, that came by the ipsec tunnel t: GRE of a tunnel that says over is taken out,
 * all else is as by rx_take_parsed. */
enum drop rx_ipsec_inner(struct path *path, struct item *it, struct tunnel *t, uint8_t tos, bool *is_item);

/* An inner packet that is parsed as it->p and came by it->from, up to the flow step: checksums, ECN of the outer header, the
 * source, what is for the gateway itself; a fragment waits for the others. Returns DROP_NONE or why not; *is_item: whether it goes on. */
enum drop rx_take_parsed(struct path *path, struct item *it, uint8_t outer_tos, bool *is_item);

#endif
