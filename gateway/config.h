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

enum conf_nat { NAT_NONE, NAT_MASQUERADE, NAT_POOL };

/* A service of the machine itself that branches may reach: proto 0 with port 0 is "any". */
struct conf_service {
	uint8_t proto; /* IPPROTO_ICMP stands for that of either family */
	uint16_t port; /* host order; 0 for protocols without ports: all of it */
};

struct conf_egress {
	char *interface; /* "auto": the default route's */
	enum conf_nat nat;
	bool nat_word;                 /* only while it is read: it is a word */
	struct addr_range nat_pool[2]; /* NAT_POOL: [0] IPv4, [1] IPv6, one of them may be missing */
	uint32_t nat_share;            /* percent */
	struct prefix_list private_destinations;
	struct conf_service *local_services;
	size_t nlocal_services;
	struct prefix overlap_pool4, overlap_pool6;
	uint32_t mark;  /* one bit */
	uint32_t table; /* routing table */
	uint32_t rule_priority;
};

struct conf_flows {
	uint32_t max, max_per_site, max_new_per_site;
	uint32_t timeout_s[FS_STATE_COUNT];
	bool tcp_loose;
};

struct conf_site {
	char *name;
	uint32_t max_flows; /* 0: flows.max_per_site */
};

/* The key exchange as a whole: [ipsec]. */
struct conf_ipsec {
	uint32_t threads;          /* of the key exchange */
	uint32_t cookie_threshold; /* half-open IKE_SAs from which on cookies are asked for */
	uint32_t block_threshold;  /* half-open IKE_SAs of one address from which on it is ignored */
	uint32_t half_open_max;    /* half-open IKE_SAs from which on none is begun for others; 0: no limit */
	enum conf_crypto { CRYPTO_PROVIDER_AUTO, CRYPTO_PROVIDER_MB, CRYPTO_PROVIDER_OPENSSL } crypto;
};

enum conf_tunnel_type { TUNNEL_GRE, TUNNEL_IPSEC };
enum conf_ipsec_mode { IPSEC_TUNNEL, IPSEC_TRANSPORT };
#define TFC_OFF 0
#define TFC_MTU UINT16_MAX

#define CONF_HASH 32 /* octets of a BLAKE2b hash */

struct string_list {
	char **s;
	size_t n;
};

/* What a tunnel of type ipsec has besides. Paths are absolute. */
struct conf_ike {
	char *local_id, *remote_id; /* NULL: the address */
	char *psk;                  /* the key itself, from psk or psk_file; NULL: certificates */
	uint32_t psk_len;           /* any octets may be in it, a NUL stands behind them */
	char *psk_file, *cert_file, *key_file, *ca_file;
	uint8_t files_hash[CONF_HASH]; /* over what cert_file, key_file and ca_file contained */
	struct string_list ike_proposals, esp_proposals;
	struct prefix_list local_ts, remote_ts;
	enum conf_ipsec_mode mode;
	bool initiate, mobike, fragmentation, force_encap;
	uint32_t ike_rekey, ike_reauth, child_rekey;     /* seconds; 0: never */
	uint64_t child_rekey_bytes, child_rekey_packets; /* 0: no limit */
	uint32_t dpd_delay;                              /* seconds; 0: never */
	uint32_t replay_window;
	uint32_t tfc_padding; /* TFC_OFF, octets, TFC_MTU */
};
#define DSCP_INHERIT 255
#define MTU_AUTO     0 /* only while it is read */
#define MSS_AUTO     0
#define MSS_OFF      UINT32_MAX

struct conf_tunnel {
	char *name, *site; /* site is never NULL */
	enum conf_tunnel_type type;
	struct addr local, remote; /* remote none: any (ipsec only) */
	bool remote_any;
	bool gre_has_key, gre_checksum, gre_sequence;
	uint32_t gre_key;
	char *over;                              /* gre: the ipsec tunnel that it travels in; NULL: none */
	struct conf_ike ike;                     /* ipsec */
	uint8_t ttl;                             /* of the outer packet */
	uint8_t dscp;                            /* of the outer packet, or DSCP_INHERIT */
	struct conf_ifaddr interface_address[2]; /* [0] IPv4, [1] IPv6 */
	uint32_t mtu;                            /* of inner packets; never 0: "auto" has been worked out */
	uint32_t mss;                            /* MSS_AUTO: from the MTU; MSS_OFF; or a number */
	bool automatic_return_routing, install_routes, tcp_liberal;
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
	struct conf_ipsec ipsec;
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

/* Whether what the key exchange and the security associations rest on is the same: if not, a reload ends them. What only the
 * packet path uses (routes, allowed_sources, priority, mss, …) does not count. */
bool conf_connection_eq(const struct conf_tunnel *a, const struct conf_tunnel *b);

/* Octets that a GRE tunnel puts before each inner packet: outer IP header and GRE header. What an ipsec tunnel that it
 * travels in adds is not among them. */
uint32_t conf_tunnel_overhead(const struct conf_tunnel *t);

/* Of an ipsec tunnel: the largest packet that each of its ESP proposals carries within path_mtu octets, with UDP around
 * it. In transport mode there is no inner IP header: octets behind it. 0: none fits. */
uint32_t conf_esp_mtu(const struct conf_tunnel *t, uint32_t path_mtu);

/* The tunnel of a name, or NULL. */
const struct conf_tunnel *config_tunnel(const struct config *c, const char *name);

/* Names of the options that differ between the two and cannot be changed by a reload, comma-separated, into
 * buf; returns how many there are. */
size_t config_fixed_changes(const struct config *a, const struct config *b, char *buf, size_t len);

/* arrd --help-config: the table of options as text; and, machine-readable, section TAB key TAB type TAB
 * default TAB reloadable, by which the man page is checked. */
void config_help(FILE *f);
void config_dump_table(FILE *f);

#endif
