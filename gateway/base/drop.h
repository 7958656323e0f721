/* SPDX-License-Identifier: GPL-2.0-or-later */
/* drop.h - the one list of reasons why a packet was not forwarded.
 *
 * Each is an enum value, the counter's name as operators see it (arrctl stats, metrics), and a sentence for
 * arrctl explain and arrctl(8). DROP_NONE means that the packet goes on. Every tunnel has a counter for each;
 * what happened before a tunnel was known is counted on the gateway.
 */
#ifndef ARRD_BASE_DROP_H
#define ARRD_BASE_DROP_H

#include <stdint.h>

#define DROP_REASONS(X)                                                                                      \
	/* outer packet */                                                                                   \
	X(OUTER_MALFORMED, "outer_malformed", "outer IP header is damaged or shorter than it says")          \
	X(GRE_TRUNCATED, "gre_truncated", "GRE header is cut short")                                         \
	X(GRE_VERSION, "gre_version", "GRE version is not 0 (PPTP uses 1)")                                  \
	X(GRE_FLAGS, "gre_flags", "GRE routing, strict source route, recursion or reserved bits are set")    \
	X(GRE_CHECKSUM, "gre_checksum", "GRE checksum is wrong")                                             \
	X(GRE_PROTOCOL, "gre_protocol", "GRE carries something other than IPv4 or IPv6")                     \
	X(GRE_SEQUENCE, "gre_sequence", "GRE sequence number is old or missing where it is required")        \
	X(UNKNOWN_SENDER, "unknown_sender", "no tunnel has this remote, local address and key")              \
	X(GRE_ELSEWHERE, "gre_elsewhere", "GRE of a tunnel that says over, and came by another way")         \
	X(IPSEC_MALFORMED, "ipsec_malformed",                                                                \
		"UDP datagram on port 4500 is neither IKE nor long enough for ESP")                          \
	X(IKE_MALFORMED, "ike_malformed",                                                                    \
		"what came as IKE is not IKEv2, or a first message that answers something")                  \
	X(IKE_LOCAL, "ike_local", "IKE message to an address that no ipsec tunnel has as its local one")     \
	X(IKE_QUEUE, "ike_queue", "IKE message came faster than the key exchange can take them")             \
	X(ESP_TRUNCATED, "esp_truncated", "ESP packet is shorter than its parts, or not of whole blocks")    \
	X(ESP_UNKNOWN_SPI, "esp_unknown_spi", "no security association has this SPI")                        \
	X(ESP_HELD, "esp_held", "came before the key exchange was done, and too many or too long before")    \
	X(ESP_REPLAY, "esp_replay", "ESP sequence number was seen before or is older than the window")       \
	X(ESP_AUTH, "esp_auth", "ESP integrity check failed: damaged, forged, or another key")               \
	X(ESP_PADDING, "esp_padding", "ESP padding is longer than the packet or not as RFC 4303 says")       \
	X(ESP_NEXT_HEADER, "esp_next_header", "ESP carries something that its mode does not allow")          \
	X(ESP_DUMMY, "esp_dummy", "dummy packet against traffic analysis; nothing is lost")                  \
	X(ESP_SELECTOR, "esp_selector", "inner packet is outside of the selectors that were negotiated")     \
	X(ESP_EXPIRED, "esp_expired", "security association is past its hard lifetime")                      \
	X(ECN_CE_NOT_ECT, "ecn_ce_not_ect",                                                                  \
		"outer header says congestion, inner one is not ECN-capable (RFC 6040)")                     \
	/* inner packet */                                                                                   \
	X(INNER_TRUNCATED, "inner_truncated", "inner packet is shorter than its headers say")                \
	X(INNER_MALFORMED, "inner_malformed", "inner IP header is damaged, or its checksum is wrong")        \
	X(INNER_L4, "inner_l4", "inner TCP, UDP or ICMP header is cut short or contradicts itself")          \
	X(INNER_CHECKSUM, "inner_checksum", "inner TCP, UDP or ICMP checksum is wrong")                      \
	X(FRAGMENT_INVALID, "fragment_invalid", "inner fragment whose length, place or ECN makes no sense")  \
	X(FRAGMENT_OVERLAP, "fragment_overlap", "inner fragments overlap: the whole datagram is dropped")    \
	X(FRAGMENT_DUPLICATE, "fragment_duplicate", "inner fragment that is there already")                  \
	X(FRAGMENT_TIMEOUT, "fragment_timeout", "the datagram's other fragments did not come in time")       \
	X(FRAGMENT_LIMIT, "fragment_limit",                                                                  \
		"too many unfinished datagrams, of the site or of all; the oldest makes room")               \
	X(FRAGMENT_ID, "fragment_id",                                                                        \
		"no Identification is left that no other site's datagram to there may have just now")        \
	X(SOURCE_ROUTE, "source_route", "IPv4 source route option or IPv6 routing header")                   \
	X(EXTENSION_HEADERS, "extension_headers",                                                            \
		"IPv6 extension headers are too many or in no allowed order")                                \
	/* addresses */                                                                                      \
	X(SOURCE_INVALID, "source_invalid", "inner source is loopback, multicast, unspecified or the like")  \
	X(SOURCE_NOT_ALLOWED, "source_not_allowed", "inner source is not in the tunnel's allowed_sources")   \
	X(DST_INVALID, "dst_invalid", "destination is unspecified, reserved or the like")                    \
	X(DST_LOOPBACK, "dst_loopback", "destination is a loopback address")                                 \
	X(DST_LINK_LOCAL, "dst_link_local", "destination is link-local")                                     \
	X(DST_MULTICAST, "dst_multicast", "destination is multicast")                                        \
	X(DST_BROADCAST, "dst_broadcast", "destination is a broadcast address")                              \
	X(DST_METADATA, "dst_metadata", "destination is the cloud's metadata service")                       \
	X(DST_GATEWAY, "dst_gateway",                                                                        \
		"destination is the gateway itself, and no local service is allowed there")                  \
	X(DST_TUNNEL, "dst_tunnel",                                                                          \
		"GRE to the outer address of a tunnel: its branch would take it for the gateway's")          \
	X(DST_NAT, "dst_nat",                                                                                \
		"destination is an address of the egress's nat: from site to site nothing goes there")       \
	X(DST_PRIVATE, "dst_private",                                                                        \
		"private destination that neither routes nor private_destinations name")                     \
	/* flow */                                                                                           \
	X(NO_FLOW, "no_flow", "from the egress, belongs to no flow, and no route names the destination")     \
	X(NOT_A_BEGINNING, "not_a_beginning", "belongs to no flow and is of a kind that may not begin one")  \
	X(TCP_UNPROVEN, "tcp_unproven",                                                                      \
		"answers nothing that the site sent, on a TCP flow that was picked up in mid-stream")        \
	X(TCP_WINDOW, "tcp_window",                                                                          \
		"TCP segment outside of its connection's windows: old, damaged or guessed")                  \
	X(ICMP_NO_FLOW, "icmp_no_flow", "ICMP error that quotes no live flow")                               \
	X(TUPLE_COLLISION, "tuple_collision",                                                                \
		"another site owns this reply tuple and no other one is to be had")                          \
	X(NAT_FAMILY, "nat_family", "the egress's nat has no address of this family")                        \
	X(NAT_EXHAUSTED, "nat_exhausted",                                                                    \
		"the egress's nat has no address and port left for another flow to this destination")        \
	X(NAT_SITE_LIMIT, "nat_site_limit",                                                                  \
		"the site has its share (nat_share) of the flows that nat can tell apart to this "           \
		"destination")                                                                               \
	X(FLOW_TABLE_FULL, "flow_table_full", "flows.max is reached")                                        \
	X(SITE_LIMIT, "site_limit", "the site's own limit of flows is reached")                              \
	X(SITE_RATE, "site_rate",                                                                            \
		"the site, or all outside, begins more flows a second than max_new_per_site")                \
	X(OTHER_SITE, "other_site", "would have reached a tunnel of another site")                           \
	X(HAIRPIN, "hairpin", "would leave by the tunnel that it came in by")                                \
	/* leaving */                                                                                        \
	X(TTL_EXPIRED, "ttl_expired", "TTL or hop limit ran out; the sender was told if it can be")          \
	X(TOO_BIG, "too_big", "larger than the next MTU and must not be fragmented; the sender was told")    \
	X(TUNNEL_DOWN, "tunnel_down", "no tunnel of the site can carry it")                                  \
	X(GSO_INVALID, "gso_invalid", "super-packet whose parts contradict each other")                      \
	X(TUN_WRITE, "tun_write", "the TUN device did not take it")                                          \
	X(SEND_ERROR, "send_error",                                                                          \
		"the outer packet could not be sent (no route, no local address, filter)")                   \
	X(ESP_SEQUENCE, "esp_sequence",                                                                      \
		"no ESP sequence number is left; the security association has ended")                        \
	X(QUEUE_FULL, "queue_full", "the socket's send queue was full")                                      \
	X(KERNEL_INVALID, "kernel_invalid",                                                                  \
		"from a branch, and conntrack calls it invalid: it would pass NAT by")                       \
	X(KERNEL_ELSEWHERE, "kernel_elsewhere",                                                              \
		"from a branch, and would leave by another interface than the egress")                       \
	X(KERNEL_TO_GATEWAY, "kernel_to_gateway",                                                            \
		"from a branch to the machine itself, and no service allows it")                             \
	X(KERNEL_UNTRANSLATED, "kernel_untranslated",                                                        \
		"from a branch, and NAT missed it: its private source would leave")                          \
	X(KERNEL_SERVER_TCP, "kernel_server_tcp",                                                            \
		"invalid TCP from the egress, that the machine would answer with a reset")                   \
	X(RX_QUEUE, "rx_queue",                                                                              \
		"the tunnel socket's receive queue was full: more came than the gateway can take")           \
	X(TUN_QUEUE, "tun_queue", "the TUN device's queue was full: more came than the gateway can take")    \
	X(RATE_LIMITED, "rate_limited", "an answer of the gateway's own was not sent, to bound their rate")

/* The formatter would take DROP_COUNT for a continued line. */
/* clang-format off */
enum drop {
	DROP_NONE,
#define X(id, name, text) DROP_##id,
	DROP_REASONS(X)
#undef X
	DROP_COUNT
};
/* clang-format on */

/* Name and sentence of a reason; both are static text. "none" and "" for DROP_NONE. */
const char *drop_name(enum drop d);
const char *drop_text(enum drop d);

#endif
