/* SPDX-License-Identifier: GPL-2.0-or-later */
/* config.h - the configuration, read and checked as a whole.
 *
 * A struct config is immutable once loaded. A reload loads a second one; whoever runs by the first goes on
 * until the second is known to be good. Running state is kept elsewhere (tunnel.h).
 */
#ifndef ARRD_CONFIG_H
#define ARRD_CONFIG_H

#include "flowstate/flowstate.h"
#include "gateway/base/addr.h"
#include "gateway/base/log.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct prefix_list {
	struct prefix *p;
	size_t n;
};

/* An address with the prefix length of its network, such as 10.213.0.1/31. (<net/if.h> has a struct ifaddr.) */
struct conf_ifaddr {
	struct addr a;
	struct prefix net;
};

struct conf_gateway {
	char *tun;                         /* device name */
	uint32_t tun_mtu;                  /* 1280 to 65520 (default 1500) */
	struct conf_ifaddr tun_address[2]; /* [0] IPv4, [1] IPv6; a is none where not given */
	char *control_socket;
	char *control_group; /* may read; NULL: root and arrd's own user only */
	char *state_dir;
	enum log_level log_level;
	uint32_t socket_buffer; /* octets asked for, each tunnel socket and direction */
	bool offload_tso4, offload_tso6, offload_uso, offload_checksum;
};

enum conf_nat { NAT_NONE, NAT_MASQUERADE };

/* A service of the machine itself that branches may reach: proto 0 with port 0 is "any". */
struct conf_service {
	uint8_t proto; /* IPPROTO_ICMP stands for that of either family */
	uint16_t port; /* host order; 0 for protocols without ports: all of it */
};

struct conf_egress {
	char *interface; /* "auto": the default route's */
	enum conf_nat nat;
	struct prefix_list private_destinations;
	struct conf_service *local_services;
	size_t nlocal_services;
	struct prefix overlap_pool4, overlap_pool6;
	uint32_t mark;  /* one bit */
	uint32_t table; /* routing table */
	uint32_t rule_priority;
};

struct conf_flows {
	uint32_t max, max_per_site;
	uint32_t timeout_s[FS_STATE_COUNT];
	bool tcp_loose;
};

struct conf_site {
	char *name;
	uint32_t max_flows; /* 0: flows.max_per_site */
};

enum conf_tunnel_type { TUNNEL_GRE };
#define DSCP_INHERIT 255
#define MTU_AUTO     0 /* only while it is read */
#define MSS_AUTO     0
#define MSS_OFF      UINT32_MAX

struct conf_tunnel {
	char *name, *site; /* site is never NULL */
	enum conf_tunnel_type type;
	struct addr local, remote;
	bool gre_has_key, gre_checksum, gre_sequence;
	uint32_t gre_key;
	uint8_t ttl;                             /* of the outer packet */
	uint8_t dscp;                            /* of the outer packet, or DSCP_INHERIT */
	struct conf_ifaddr interface_address[2]; /* [0] IPv4, [1] IPv6 */
	uint32_t mtu;                            /* of inner packets; never 0: "auto" has been worked out */
	uint32_t mss;                            /* MSS_AUTO: from the MTU; MSS_OFF; or a number */
	bool automatic_return_routing, install_routes;
	struct prefix_list routes, allowed_sources; /* allowed_sources empty: any */
	uint32_t priority;                          /* lower is better */
	char *file;                                 /* where it stands, for messages */
	int line;
};

struct config {
	char *path;     /* of the main file */
	char *warnings; /* what the loader found odd but not wrong, lines as those of errors; NULL: nothing */
	struct conf_gateway gateway;
	struct conf_egress egress;
	struct conf_flows flows;
	struct conf_site *sites; /* those that have a section, sorted by name */
	size_t nsites;
	struct conf_tunnel *tunnels; /* sorted by name */
	size_t ntunnels;
};

/* Reads path and the tunnels.d/ (all of its *.conf, in order of name) beside it. On success *out is the
 * caller's and *errors NULL. Otherwise *out is NULL. -EINVAL: *errors, to be freed by the caller, has a line for each
 * problem: FILE:LINE: [SECTION] KEY: what is wrong; what was expected. Or -ENOMEM. */
int config_load(const char *path, struct config **out, char **errors);

/* The same of a main file in memory, called name in messages; there is no tunnels.d/. For tests. */
int config_parse_text(const char *name, const char *text, size_t len, struct config **out, char **errors);
void config_free(struct config *c);

/* Whether two tunnels are the same in every option: an unchanged tunnel does not notice a reload. */
bool conf_tunnel_eq(const struct conf_tunnel *a, const struct conf_tunnel *b);

/* Octets that a tunnel puts before each inner packet: outer IP header and GRE header. */
uint32_t conf_tunnel_overhead(const struct conf_tunnel *t);

/* Names of the options that differ between the two and cannot be changed by a reload, comma-separated, into
 * buf; returns how many there are. */
size_t config_fixed_changes(const struct config *a, const struct config *b, char *buf, size_t len);

/* arrd --help-config: the table of options as text; and, machine-readable, section TAB key TAB type TAB
 * default TAB reloadable, by which the man page is checked. */
void config_help(FILE *f);
void config_dump_table(FILE *f);

#endif
