/* SPDX-License-Identifier: GPL-2.0-or-later */
/* options.c - the one table of options, and what can be done with a row of it. */
#include "gateway/options.h"
#include "ipsec/proposal.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- the table ----------------------------------------------------------------------------------- */

#define SECTION(label, type, member)                                                                         \
	.name = (label), .size = sizeof(type), .offset = offsetof(struct config, member)

const struct section_info sections[SECTION_COUNT] = {
	[SECTION_GATEWAY] = {SECTION("gateway", struct conf_gateway, gateway),
		.help = "the process and its TUN device"},
	[SECTION_EGRESS] = {SECTION("egress", struct conf_egress, egress),
		.help = "how packets of branches leave the machine"},
	[SECTION_FLOWS] = {SECTION("flows", struct conf_flows, flows),
		.help = "the flow table; times are seconds without a packet until a flow of that state ends"},
	[SECTION_IPSEC] = {SECTION("ipsec", struct conf_ipsec, ipsec),
		.help = "the key exchange of IPsec as a whole"},
	[SECTION_SITE] = {SECTION("site", struct conf_site, sites), .named = true,
		.help = "what holds for all tunnels of a site; only needed to change a default"},
	[SECTION_TUNNEL] = {SECTION("tunnel", struct conf_tunnel, tunnels), .named = true,
		.help = "one tunnel of a branch"},
};

/* The first members of a row: an option KEY, which is the member of that name ... */
#define GATEWAY(k) SECTION_GATEWAY, #k, offsetof(struct conf_gateway, k)
#define EGRESS(k)  SECTION_EGRESS, #k, offsetof(struct conf_egress, k)
#define FLOWS(k)   SECTION_FLOWS, #k, offsetof(struct conf_flows, k)
#define IPSEC(k)   SECTION_IPSEC, #k, offsetof(struct conf_ipsec, k)
#define SITE(k)    SECTION_SITE, #k, offsetof(struct conf_site, k)
#define TUNNEL(k)  SECTION_TUNNEL, #k, offsetof(struct conf_tunnel, k)
#define IKE(k)     SECTION_TUNNEL, #k, offsetof(struct conf_tunnel, ike.k)
/* ... or which fills several members. */
#define WHOLE(section, k) section, #k, 0

static const struct value_word type_words[] = {{"gre", TUNNEL_GRE}, {"ipsec", TUNNEL_IPSEC}, {NULL, 0}};
static const struct value_word mtu_words[] = {{"auto", MTU_AUTO}, {NULL, 0}};
static const struct value_word mss_words[] = {{"auto", MSS_AUTO}, {"off", MSS_OFF}, {NULL, 0}};
static const struct value_word dscp_words[] = {{"inherit", DSCP_INHERIT}, {NULL, 0}};
static const struct value_word interface_words[] = {{"auto", 0}, {NULL, 0}};
static const struct value_word crypto_words[] = {{"auto", CRYPTO_PROVIDER_AUTO},
	{"ipsec-mb", CRYPTO_PROVIDER_MB}, {"openssl", CRYPTO_PROVIDER_OPENSSL}, {NULL, 0}};
static const struct value_word mode_words[] = {
	{"tunnel", IPSEC_TUNNEL}, {"transport", IPSEC_TRANSPORT}, {NULL, 0}};
static const struct value_word tfc_words[] = {{"off", TFC_OFF}, {"mtu", TFC_MTU}, {NULL, 0}};
static const struct value_word zero_words[] = {{"0", 0}, {NULL, 0}};

/* Below these times a NAT breaks what the RFC promises to applications. */
#define FLOOR_TCP_OPENING     .floor = 240, .rfc = "RFC 5382"
#define FLOOR_TCP_ESTABLISHED .floor = 7440, .rfc = "RFC 5382"
#define FLOOR_TCP_HALF_CLOSED .floor = 0
#define FLOOR_TCP_STALLED     .floor = 0
#define FLOOR_TCP_CLOSING     .floor = 240, .rfc = "RFC 5382"
#define FLOOR_TCP_RESET       .floor = 240, .rfc = "RFC 7857"
#define FLOOR_UDP_ONE_WAY     .floor = 120, .rfc = "RFC 4787"
#define FLOOR_UDP_TWO_WAY     .floor = 120, .rfc = "RFC 4787"
#define FLOOR_ICMP_ECHO       .floor = 60, .rfc = "RFC 5508"
#define FLOOR_OTHER           .floor = 0
#define FLOOR_QUARANTINE      .floor = 0

#define HELP_TCP_OPENING     "TCP, until the handshake is complete"
#define HELP_TCP_ESTABLISHED "TCP, established"
#define HELP_TCP_HALF_CLOSED "TCP, one side has sent FIN"
#define HELP_TCP_STALLED     "TCP, data was sent three times again and not acknowledged"
#define HELP_TCP_CLOSING     "TCP, both sides have sent FIN"
#define HELP_TCP_RESET       "TCP, after a reset"
#define HELP_UDP_ONE_WAY     "UDP, not answered yet"
#define HELP_UDP_TWO_WAY     "UDP, answered"
#define HELP_ICMP_ECHO       "ICMP echo (ping)"
#define HELP_OTHER           "all other protocols"
#define HELP_QUARANTINE      "how long the reply tuple of an ended flow stays closed to other sites"

static const struct option options[] = {
	{GATEWAY(tun), &value_ifname, .dflt = "arr0", .help = "name of the TUN device"},
	{GATEWAY(tun_mtu), &value_u32, {1280, 65520}, .dflt = "1500", .help = "MTU of the TUN device"},
	{GATEWAY(tun_address), &value_ifaddrs,
		.help = "addresses of the TUN device itself; only for an arrd that plays the branch"},
	{GATEWAY(control_socket), &value_path, {1, 107}, .dflt = "/run/arrd/control.sock",
		.help = "unix socket that arrctl talks to"},
	{GATEWAY(control_group), &value_name,
		.help = "system group whose members may look, but not change anything, by the control "
			"socket"},
	{GATEWAY(state_dir), &value_path, {1, 200}, .dflt = "/run/arrd",
		.help = "directory on a tmpfs, of this arrd alone, for the flow table"},
	{GATEWAY(log_level), &value_log_level, .dflt = "info", .reloadable = true,
		.help = "records of this level and above are logged"},
	{GATEWAY(socket_buffer), &value_size, {65536, 268435456}, .dflt = "7M",
		.help = "send and receive buffer of each tunnel socket"},
	{GATEWAY(offload_tso4), &value_bool, .dflt = "yes",
		.help = "use TCP segmentation offload of the TUN, IPv4"},
	{GATEWAY(offload_tso6), &value_bool, .dflt = "yes",
		.help = "use TCP segmentation offload of the TUN, IPv6"},
	{GATEWAY(offload_uso), &value_bool, .dflt = "yes", .help = "use UDP segmentation offload of the TUN"},
	{GATEWAY(offload_checksum), &value_bool, .dflt = "yes",
		.help = "use checksum offload of the TUN; without it there is no other offload either"},

	{EGRESS(interface), &value_ifname, {.words = interface_words}, .dflt = "auto", .reloadable = true,
		.help = "interface that packets of branches leave by; auto: the default route's"},
	{WHOLE(SECTION_EGRESS, nat), &value_nat, .dflt = "masquerade", .reloadable = true,
		.help = "masquerade: on the machine's own address; none: packets leave as they are; "
			"addresses: "
			"arrd's own NAT on these"},
	{EGRESS(nat_share), &value_u32, {1, 100}, .dflt = "50", .reloadable = true,
		.help = "percent of the flows that NAT can tell apart to one destination, for one site"},
	{EGRESS(private_destinations), &value_prefixes, .reloadable = true,
		.help = "prefixes of private space that branches may reach by this egress"},
	{WHOLE(SECTION_EGRESS, local_services), &value_services, .reloadable = true,
		.help = "services of the machine itself that branches may reach"},
	{WHOLE(SECTION_EGRESS, overlap_pool), &value_pools, .dflt = "100.64.0.0/16, fd00:a44::/64",
		.help = "source addresses for flows that ports cannot tell apart"},
	{EGRESS(mark), &value_bit, {1, UINT32_MAX}, .dflt = "0x00100000",
		.help = "bit of packet and conntrack marks that is arrd's"},
	{EGRESS(table), &value_u32, {1, INT32_MAX}, .dflt = "13187", .help = "routing table that is arrd's"},
	{EGRESS(rule_priority), &value_u32, {1, 32765}, .dflt = "1000",
		.help = "priority of arrd's routing rules"},

	{FLOWS(max), &value_u32, {1024, 100000000}, .dflt = "1000000", .help = "flows in the table"},
	{FLOWS(max_per_site), &value_u32, {0, 100000000}, .dflt = "0", .reloadable = true,
		.help = "flows of one site; 0: no limit of its own"},
	{FLOWS(max_new_per_site), &value_u32, {0, 100000000}, .dflt = "30000", .reloadable = true,
		.help = "flows that a site, or all outside, may begin in a second; 0: no limit"},
	{FLOWS(tcp_loose), &value_bool, .dflt = "yes", .reloadable = true,
		.help = "a TCP flow of a branch may begin in mid-stream"},
#define X(id, state, k, seconds)                                                                             \
	{SECTION_FLOWS, k, offsetof(struct conf_flows, timeout_s[FS_##id]), &value_seconds, {1, 604800},     \
		.dflt = #seconds, .reloadable = true, FLOOR_##id, .help = HELP_##id},
	FS_STATES(X)
#undef X

		{IPSEC(threads), &value_u32, {8, 64}, .dflt = "16", .help = "threads of the key exchange"},
	{IPSEC(cookie_threshold), &value_u32, {0, 1000000}, .dflt = "30",
		.help = "half-open IKE_SAs from which on an initiator is asked for a cookie first; 0: never"},
	{IPSEC(block_threshold), &value_u32, {0, 1000000}, .dflt = "10",
		.help = "half-open IKE_SAs of one address from which on it is ignored; 0: never"},
	{IPSEC(half_open_max), &value_u32, {0, 1000000}, .dflt = "5000",
		.help = "half-open IKE_SAs from which on no other initiator is answered; 0: no limit"},
	{IPSEC(crypto), &value_word, {.words = crypto_words}, .dflt = "auto",
		.help = "who enciphers ESP packets; auto: the fastest that the machine has"},

	{SITE(max_flows), &value_u32, {0, 100000000}, .dflt = "0", .reloadable = true,
		.help = "flows of this site; 0: max_per_site of [flows]"},

	{TUNNEL(type), &value_tunnel_type, {.words = type_words}, .required = true, .reloadable = true,
		.help = "kind of tunnel"},
	{TUNNEL(site), &value_name, .dflt_text = "the tunnel's name", .reloadable = true,
		.help = "site that the tunnel leads to; tunnels of one site are ways into the same address "
			"space"},
	{TUNNEL(local), &value_addr, .required = true, .reloadable = true,
		.help = "the gateway's end, outside"},
	{WHOLE(SECTION_TUNNEL, remote), &value_remote, .required = true, .reloadable = true,
		.help = "the branch's end, outside; any: unknown, or behind a NAT (ipsec)"},
	{WHOLE(SECTION_TUNNEL, gre_key), &value_gre_key, {0, UINT32_MAX}, .reloadable = true,
		.only = ONLY_GRE,
		.help = "GRE key (RFC 2890), both ways; without it, only packets without a key are the "
			"tunnel's"},
	{TUNNEL(gre_checksum), &value_bool, .dflt = "no", .reloadable = true, .only = ONLY_GRE,
		.help = "send GRE checksums; those received are always checked"},
	{TUNNEL(gre_sequence), &value_bool, .dflt = "no", .reloadable = true, .only = ONLY_GRE,
		.help = "send GRE sequence numbers, and drop what comes without one or late"},
	{TUNNEL(over), &value_name, .reloadable = true, .only = ONLY_GRE,
		.help = "the ipsec tunnel that the GRE packets travel in, and are accepted from"},
#define IPSEC_ONLY .reloadable = true, .only = ONLY_IPSEC
	{IKE(local_id), &value_identity, .dflt_text = "the local address", IPSEC_ONLY,
		.help = "the gateway's identity"},
	{IKE(remote_id), &value_identity, .dflt_text = "the remote address", IPSEC_ONLY,
		.help = "the branch's identity; required with remote = any"},
	{WHOLE(SECTION_TUNNEL, psk), &value_psk, IPSEC_ONLY,
		.help = "pre-shared key; the file must not be for others to read"},
	{IKE(psk_file), &value_file, {1, 1024}, IPSEC_ONLY,
		.help = "file that holds the pre-shared key instead"},
	{IKE(cert_file), &value_file, {1, 1024}, IPSEC_ONLY,
		.help = "the gateway's certificate, instead of a pre-shared key; PEM or DER"},
	{IKE(key_file), &value_file, {1, 1024}, IPSEC_ONLY, .help = "its private key; PEM or DER"},
	{IKE(ca_file), &value_file, {1, 1024}, IPSEC_ONLY,
		.help = "certificate of the authority that the branch's certificate is of; PEM or DER"},
	{IKE(ike_proposals), &value_ike_proposals, .dflt = PROPOSAL_IKE_DEFAULT, IPSEC_ONLY,
		.help = "algorithms of the key exchange, the preferred ones first"},
	{IKE(esp_proposals), &value_esp_proposals, .dflt = PROPOSAL_ESP_DEFAULT, IPSEC_ONLY,
		.help = "algorithms of the packets, the preferred ones first; with a group: forward secrecy "
			"when rekeying"},
	{IKE(local_ts), &value_prefixes, .dflt_text = "0.0.0.0/0, ::/0", IPSEC_ONLY,
		.help = "destinations that the branch may send to in the tunnel (traffic selectors)"},
	{IKE(remote_ts), &value_prefixes, .dflt_text = "0.0.0.0/0, ::/0", IPSEC_ONLY,
		.help = "sources that the branch may send from in the tunnel (traffic selectors)"},
	{IKE(mode), &value_word, {.words = mode_words}, .dflt = "tunnel", IPSEC_ONLY,
		.help = "transport: for GRE tunnels over it, between the outer addresses themselves"},
	{IKE(initiate), &value_bool, .dflt = "no", IPSEC_ONLY,
		.help = "bring the tunnel up, and again when it went down; no: wait for the branch"},
	{IKE(mobike), &value_bool, .dflt = "yes", IPSEC_ONLY, .help = "let the branch change its address"},
	{IKE(fragmentation), &value_bool, .dflt = "yes", IPSEC_ONLY,
		.help = "send large IKE messages in fragments of their own (RFC 7383)"},
	{IKE(force_encap), &value_bool, .dflt = "no", IPSEC_ONLY,
		.help = "put UDP around ESP also where no NAT is between"},
	{IKE(ike_rekey), &value_seconds, {10, 604800, zero_words}, .dflt = "14400", IPSEC_ONLY,
		.help = "time until the IKE_SA is renewed; 0: never"},
	{IKE(ike_reauth), &value_seconds, {10, 604800, zero_words}, .dflt = "0", IPSEC_ONLY,
		.help = "time until the peers authenticate anew; 0: never"},
	{IKE(child_rekey), &value_seconds, {10, 604800, zero_words}, .dflt = "3600", IPSEC_ONLY,
		.help = "time until the keys of the packets are renewed; 0: never"},
	{IKE(child_rekey_bytes), &value_octets, {1 << 20, 0, zero_words}, .dflt = "0", IPSEC_ONLY,
		.help = "the same, after so many octets; 0: no limit"},
	{IKE(child_rekey_packets), &value_packets, {1000, 0, zero_words}, .dflt = "0", IPSEC_ONLY,
		.help = "the same, after so many packets; 0: no limit but that of the sequence numbers"},
	{IKE(dpd_delay), &value_seconds, {1, 86400, zero_words}, .dflt = "30", IPSEC_ONLY,
		.help = "silence after which the branch is asked whether it is still there; 0: never"},
	{IKE(replay_window), &value_u32, {64, 4096, zero_words}, .dflt = "1024", IPSEC_ONLY,
		.help = "packets by which one may come late; 0: replays are not noticed"},
	{IKE(tfc_padding), &value_u32, {1, 65500, tfc_words}, .dflt = "off", IPSEC_ONLY,
		.help = "octets that inner packets are padded to; mtu: to the tunnel's mtu"},
#undef IPSEC_ONLY
	{TUNNEL(ttl), &value_u8, {1, 255}, .dflt = "64", .reloadable = true,
		.help = "TTL or hop limit of the outer packets"},
	{TUNNEL(dscp), &value_u8, {0, 63, dscp_words}, .dflt = "inherit", .reloadable = true,
		.help = "DSCP of the outer packets; inherit: that of the inner one"},
	{TUNNEL(interface_address), &value_ifaddrs, .reloadable = true,
		.help = "the gateway's addresses inside the tunnel"},
	{TUNNEL(mtu), &value_u32, {576, 65500, mtu_words}, .dflt = "auto", .reloadable = true,
		.help = "largest inner packet; auto: 1500 without all that is put around it"},
	{TUNNEL(mss), &value_u32, {536, 65495, mss_words}, .dflt = "auto", .reloadable = true,
		.help = "upper bound that TCP SYNs are clamped to; auto: from the MTU"},
	{TUNNEL(automatic_return_routing), &value_bool, .dflt = "yes", .reloadable = true,
		.help = "replies go to the tunnel that the flow came by; no: replies follow routes"},
	{TUNNEL(tcp_liberal), &value_bool, .dflt = "no", .reloadable = true,
		.help = "TCP segments outside of their connection's windows pass, but for resets"},
	{TUNNEL(install_routes), &value_bool, .dflt = "no", .reloadable = true,
		.help = "put routes into the kernel's main table, so that the machine reaches them by the "
			"TUN"},
	{TUNNEL(routes), &value_prefixes, .reloadable = true,
		.help = "prefixes behind the tunnel, for packets that belong to no flow"},
	{TUNNEL(allowed_sources), &value_prefixes, .dflt_text = "any", .reloadable = true,
		.help = "sources that packets from the branch may have"},
	{TUNNEL(priority), &value_u32, {0, UINT32_MAX}, .dflt = "100", .reloadable = true,
		.help = "among tunnels with the same route or site the lowest is taken"},
};
#define NOPTIONS (sizeof(options) / sizeof(options[0]))

/* ---- rows ---------------------------------------------------------------------------------------- */

const struct option *options_of(enum section s, size_t *n)
{
	size_t first = 0, end;

	while (first < NOPTIONS && options[first].section != s)
		first++;
	for (end = first; end < NOPTIONS && options[end].section == s; end++)
		;
	*n = end - first;
	return &options[first];
}

static void *field(const struct option *o, void *obj)
{
	return (char *)obj + o->offset;
}

static const void *const_field(const struct option *o, const void *obj)
{
	return (const char *)obj + o->offset;
}

static char *trimmed(char *s)
{
	char *end = s + strlen(s);

	while (end > s && (end[-1] == ' ' || end[-1] == '\t'))
		*--end = '\0';
	return s + strspn(s, " \t");
}

/* -EEXIST: the list has its one element of that family. */
static int set_element(const struct option *o, void *obj, const char *s, const struct complaint *c)
{
	if (*s)
		return o->type->parse(field(o, obj), s, o->type, &o->range, c);
	return value_bad(c, "there is nothing between two commas; expected %s", o->type->what);
}

int option_set(const struct option *o, void *obj, const char *value, const struct complaint *c)
{
	char expected[256], *copy, *rest, *element;
	int result = 0;

	if ((!o->type->list || o->type->needs_one) && !*value)
		return value_bad(c, "has no value; expected %s",
			value_describe(o->type, &o->range, expected, sizeof(expected)));
	if (!o->type->list)
		return o->type->parse(field(o, obj), value, o->type, &o->range, c);
	if (!*value)
		return 0;
	copy = rest = strdup(value);
	if (!copy)
		return -ENOMEM;
	while ((element = strsep(&rest, ",")) && result != -ENOMEM) {
		int err = set_element(o, obj, trimmed(element), c);

		if (err == -EEXIST)
			err = value_bad(c, VALUE_SHOWN " is the second of its family; expected %s",
				trimmed(element), o->type->what);
		if (err)
			result = err;
	}
	free(copy);
	return result;
}

static void say_nothing(void *arg, const char *text)
{
	(void)arg;
	(void)text;
}

bool option_applies(const struct option *o, const void *obj)
{
	const struct conf_tunnel *t = obj;

	return o->only == ONLY_NONE || (o->only == ONLY_IPSEC) == (t->type == TUNNEL_IPSEC);
}

int option_default(const struct option *o, void *obj, bool given)
{
	const struct complaint quiet = {say_nothing, NULL};

	if (!o->dflt || (given && !o->type->fills) || !option_applies(o, obj))
		return 0;
	return option_set(o, obj, o->dflt, &quiet) == -ENOMEM ? -ENOMEM : 0;
}

void options_finish(enum section s, void *obj)
{
	size_t n;
	const struct option *o = options_of(s, &n);

	for (size_t i = 0; i < n; i++)
		if (o[i].type->finish)
			o[i].type->finish(field(&o[i], obj));
}

void options_free(enum section s, void *obj)
{
	size_t n;
	const struct option *o = options_of(s, &n);

	for (size_t i = 0; i < n; i++)
		if (o[i].type->free)
			o[i].type->free(field(&o[i], obj));
}

bool options_equal(enum section s, const void *a, const void *b)
{
	size_t n;
	const struct option *o = options_of(s, &n);

	for (size_t i = 0; i < n; i++)
		if (!o[i].type->eq(const_field(&o[i], a), const_field(&o[i], b)))
			return false;
	return true;
}

bool conf_connection_eq(const struct conf_tunnel *a, const struct conf_tunnel *b)
{
	size_t n;
	const struct option *o = options_of(SECTION_TUNNEL, &n);

	for (size_t i = 0; i < n; i++)
		if (o[i].only == ONLY_IPSEC && !o[i].type->eq(const_field(&o[i], a), const_field(&o[i], b)))
			return false;
	return addr_eq(&a->local, &b->local) && addr_eq(&a->remote, &b->remote) &&
	       memcmp(a->ike.files_hash, b->ike.files_hash, CONF_HASH) == 0;
}

bool conf_tunnel_eq(const struct conf_tunnel *a, const struct conf_tunnel *b)
{
	return strcmp(a->name, b->name) == 0 && options_equal(SECTION_TUNNEL, a, b) &&
	       memcmp(a->ike.files_hash, b->ike.files_hash, CONF_HASH) == 0;
}

size_t config_fixed_changes(const struct config *a, const struct config *b, char *buf, size_t len)
{
	size_t changes = 0, used = 0;

	if (len)
		buf[0] = '\0';
	for (const struct option *o = options; o < options + NOPTIONS; o++) {
		const struct section_info *s = &sections[o->section];

		if (o->reloadable || s->named)
			continue;
		if (o->type->eq(const_field(o, (const char *)a + s->offset),
			    const_field(o, (const char *)b + s->offset)))
			continue;
		if (used < len)
			used += (size_t)snprintf(
				buf + used, len - used, "%s%s.%s", changes ? ", " : "", s->name, o->key);
		changes++;
	}
	return changes;
}

/* ---- the table as text --------------------------------------------------------------------------- */

static const char *default_text(const struct option *o)
{
	if (o->required)
		return "required";
	if (o->dflt)
		return o->dflt;
	return o->dflt_text ? o->dflt_text : "none";
}

void config_help(FILE *f)
{
	char type[256];

	for (int s = 0; s < SECTION_COUNT; s++) {
		size_t n;
		const struct option *o = options_of((enum section)s, &n);

		fprintf(f, "%s[%s%s]  %s\n", s ? "\n" : "", sections[s].name,
			sections[s].named ? " NAME" : "", sections[s].help);
		for (size_t i = 0; i < n; i++) {
			fprintf(f, "  %s\n      %s\n", o[i].key, o[i].help);
			fprintf(f, "      %s; default: %s%s\n",
				value_describe(o[i].type, &o[i].range, type, sizeof(type)),
				default_text(&o[i]), o[i].reloadable ? "" : "; a change needs a restart");
		}
	}
}

void config_dump_table(FILE *f)
{
	char type[256];

	for (const struct option *o = options; o < options + NOPTIONS; o++)
		fprintf(f, "%s\t%s\t%s\t%s\t%s\n", sections[o->section].name, o->key,
			value_describe(o->type, &o->range, type, sizeof(type)), default_text(o),
			o->reloadable ? "yes" : "no");
}
