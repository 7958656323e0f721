/* SPDX-License-Identifier: GPL-2.0-or-later */
/* egress_nft.c - the nftables table `inet arrd`.
 *
 * In the text TUN and OUT are the TUN device and the egress interface, BIT the configured mark bit. T is the
 * routing table of answers. The idea: a connection that a branch began by the TUN carries BIT in its conntrack
 * mark. Packets of its reply direction get BIT as packet mark, whichever interface they come by, and a policy
 * rule sends them to table T, which knows nothing but the TUN. So no route to a branch's prefix is needed, and
 * none is consulted: the machine's own network may be the same one. Which branch a reply belongs to is not the
 * kernel's business; arrd knows it from the flow.
 *
 * BIT means "begun by a branch", not "seen on the TUN". Both directions matter: when the machine itself
 * reports an ICMP error, conntrack gives it the reply direction if the packet that it complains of went from
 * the branch to the server, and the original direction if that packet was on its way to the branch. The first
 * must go to the TUN and the second to the server, so `ct state related` alone would misdirect one of them;
 * likewise for a connection that somebody outside began to a branch, where the two are the other way round.
 *
 * Everything is confined to the TUN, to BIT, and to the egress interface; the policy of every chain is
 * accept; bits of marks other than BIT are left alone.
 *
 * The table is not deleted and made anew when it is there already, but emptied of rules, in the transaction
 * that adds the new ones. Deleting a `ct timeout` object takes the timeouts away from all connections that
 * were begun under it, and they would fall back to the kernel's five days; so these objects are named by what
 * they say, and stay. Counters stay as well.
 *
 * Every packet of a tunnel crosses these chains from outside, one by one where nothing merges it, and a comparison of an
 * interface's name is what costs most. So what is for the TUN alone stands in chains of its own, behind one comparison; and
 * a rule asks for what is cheap, or rare, first.
 *
 * Protocols stand as numbers (6 TCP, 17 UDP, 47 GRE, 50 ESP): libnftables looks names up in /etc/protocols, which a
 * minimal system does not have.
 */
#include "gateway/egress_private.h"

#include <errno.h>
#include <nftables/libnftables.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

bool ruleset_name_ok(const char *name)
{
	size_t len = strlen(name);

	return len > 0 && len < IFNAMSIZ &&
	       strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-@:+") == len;
}

/* ---- the parts, in the order of the text --------------------------------------------------------------- */

/* Counters, sets and chains that are there already are kept, and the text may be loaded again and again. */
static void put_opening(FILE *f, const struct ruleset *r)
{
	static const char *const counters[] = {"branch_invalid", "branch_to_tunnel", "branch_elsewhere",
		"branch_to_gateway", "branch_untranslated", "server_tcp_invalid", "not_ours"};
	uint32_t bit = r->conf->egress.mark;

	fprintf(f, "define TUN = \"%s\"\n", r->conf->gateway.tun);
	fprintf(f, "define OUT = \"%s\"\n", r->interface);
	fprintf(f, "define BIT = 0x%08x\n", bit);
	fprintf(f, "define OTHER_BITS = 0x%08x\n", ~bit);
	fputs("add table inet arrd\n", f);
	fputs(r->replace ? "delete table inet arrd\nadd table inet arrd\n" : "flush table inet arrd\n", f);
	for (size_t i = 0; i < sizeof(counters) / sizeof(counters[0]); i++)
		fprintf(f, "add counter inet arrd %s\n", counters[i]);
}

static const char *timeout_name(const struct ruleset *r, uint8_t proto, char *buf, size_t len)
{
	const uint32_t *t = r->conf->flows.timeout_s;

	if (proto == IPPROTO_TCP)
		snprintf(buf, len, "tcp-%u-%u-%u-%u-%u-%u", t[FS_TCP_OPENING], t[FS_TCP_ESTABLISHED],
			t[FS_TCP_HALF_CLOSED], t[FS_TCP_STALLED], t[FS_TCP_CLOSING], t[FS_TCP_RESET]);
	else
		snprintf(buf, len, "udp-%u-%u", t[FS_UDP_ONE_WAY], t[FS_UDP_TWO_WAY]);
	return buf;
}

/* A conntrack entry that outlived its flow could be taken over by another site's flow of the same tuple. */
static void put_timeouts(FILE *f, const struct ruleset *r)
{
	const uint32_t *t = r->conf->flows.timeout_s;
	const uint32_t stalled =
		t[FS_TCP_ESTABLISHED] < t[FS_TCP_STALLED] ? t[FS_TCP_ESTABLISHED] : t[FS_TCP_STALLED];
	char name[64];

	fprintf(f, "add ct timeout inet arrd %s { protocol tcp; policy = {",
		timeout_name(r, IPPROTO_TCP, name, sizeof(name)));
	fprintf(f, " syn_sent : %u, syn_recv : %u,", t[FS_TCP_OPENING], t[FS_TCP_OPENING]);
	fprintf(f, " established : %u,", t[FS_TCP_ESTABLISHED]);
	fprintf(f, " fin_wait : %u, close_wait : %u,", t[FS_TCP_HALF_CLOSED], t[FS_TCP_HALF_CLOSED]);
	fprintf(f, " last_ack : %u, time_wait : %u,", t[FS_TCP_CLOSING], t[FS_TCP_CLOSING]);
	fprintf(f, " close : %u, retrans : %u, unack : %u }; }\n", t[FS_TCP_RESET], stalled, stalled);

	fprintf(f,
		"add ct timeout inet arrd %s { protocol udp; policy = { unreplied : %u, replied : %u }; }\n",
		timeout_name(r, IPPROTO_UDP, name, sizeof(name)), t[FS_UDP_ONE_WAY], t[FS_UDP_TWO_WAY]);
}

/* For connections that begin with a packet that crosses this chain. */
static void put_timeout_rules(FILE *f, const struct ruleset *r, const char *chain)
{
	char name[64];

	if (!r->timeouts)
		return;
	fprintf(f, "add rule inet arrd %s ct state new meta l4proto 6 ct timeout set \"%s\"\n", chain,
		timeout_name(r, IPPROTO_TCP, name, sizeof(name)));
	fprintf(f, "add rule inet arrd %s ct state new meta l4proto 17 ct timeout set \"%s\"\n", chain,
		timeout_name(r, IPPROTO_UDP, name, sizeof(name)));
}

static int cmp_pair(const void *a, const void *b)
{
	return memcmp(a, b, 2 * sizeof(struct addr));
}

/* The addresses of GRE tunnels, (ours, theirs). A pair that several tunnels share (keys) comes once. */
static int put_underlay_elements(FILE *f, const struct ruleset *r, bool is4)
{
	const struct config *c = r->conf;
	struct addr(*pair)[2] = calloc(c->ntunnels ? c->ntunnels : 1, sizeof(*pair));
	char ours[ADDR_STRLEN], theirs[ADDR_STRLEN];
	size_t n = 0;

	if (!pair)
		return -ENOMEM;
	for (size_t i = 0; i < c->ntunnels; i++) {
		const struct conf_tunnel *t = &c->tunnels[i];

		if (t->type != TUNNEL_GRE || t->over || addr_is4(&t->local) != is4 ||
			addr_is4(&t->remote) != is4)
			continue;
		pair[n][0] = t->local;
		pair[n++][1] = t->remote;
	}
	qsort(pair, n, sizeof(*pair), cmp_pair);
	for (size_t i = 0; i < n; i++) {
		if (i && cmp_pair(pair[i - 1], pair[i]) == 0)
			continue;
		fprintf(f, "add element inet arrd underlay%d { %s . %s }\n", is4 ? 4 : 6,
			addr_str(&pair[i][0], ours), addr_str(&pair[i][1], theirs));
	}
	free(pair);
	return 0;
}

static int cmp_addr(const void *a, const void *b)
{
	return memcmp(a, b, sizeof(struct addr));
}

static bool has_ipsec(const struct config *c)
{
	for (size_t i = 0; i < c->ntunnels; i++)
		if (c->tunnels[i].type == TUNNEL_IPSEC)
			return true;
	return false;
}

/* A set of addresses: of all tunnels of a type one end, ours (local) or theirs. A branch's end of an IPsec tunnel may be any,
 * and moves. */
static int put_ends(
	FILE *f, const struct ruleset *r, const char *set, enum conf_tunnel_type type, bool local, bool is4)
{
	const struct config *c = r->conf;
	struct addr *a = calloc(c->ntunnels ? c->ntunnels : 1, sizeof(*a));
	char text[ADDR_STRLEN];
	size_t n = 0;

	if (!a)
		return -ENOMEM;
	fprintf(f, "add set inet arrd %s%d { type ipv%d_addr; }\nflush set inet arrd %s%d\n", set,
		is4 ? 4 : 6, is4 ? 4 : 6, set, is4 ? 4 : 6);
	for (size_t i = 0; i < c->ntunnels; i++) {
		const struct addr *end = local ? &c->tunnels[i].local : &c->tunnels[i].remote;

		if (c->tunnels[i].type == type && addr_is4(end) == is4)
			a[n++] = *end;
	}
	qsort(a, n, sizeof(*a), cmp_addr);
	for (size_t i = 0; i < n; i++)
		if (!i || !addr_eq(&a[i - 1], &a[i]))
			fprintf(f, "add element inet arrd %s%d { %s }\n", set, is4 ? 4 : 6,
				addr_str(&a[i], text));
	free(a);
	return 0;
}

/* The addresses of arrd's own NAT. */
static void put_pool(FILE *f, const struct ruleset *r, bool is4)
{
	const struct conf_egress *e = &r->conf->egress;
	const struct addr_range *pool = &e->nat_pool[!is4];
	char first[ADDR_STRLEN], last[ADDR_STRLEN];
	int v = is4 ? 4 : 6;

	fprintf(f,
		"add set inet arrd nat%d { type ipv%d_addr; flags interval; }\nflush set inet arrd nat%d\n",
		v, v, v);
	if (e->nat == NAT_POOL && addr_range_count(pool))
		fprintf(f, "add element inet arrd nat%d { %s-%s }\n", v, addr_str(&pool->first, first),
			addr_str(&pool->last, last));
}

/* Before conntrack.
 *
 * The zone: a host behind the machine (its own network, if it is a router for that too) may begin a connection
 * with the very tuple of a branch's. In one zone the second would join the first one's entry; tried, and one of
 * the two lost its answers to the other. With a zone for the original direction they are two; reply tuples
 * stay in the common zone, where NAT keeps them apart, and where answers are found without one.
 *
 * notrack: what arrd's own NAT has translated the kernel only forwards. GRE or ESP in conntrack would cost an entry and a look-up a packet for nothing. What a branch sends to these
 * ends is not tracked either, and dropped for that by the chain from_tun. */
static int put_raw(FILE *f, const struct ruleset *r)
{
	fputs("add set inet arrd underlay4 {\n"
	      "	type ipv4_addr . ipv4_addr; comment \"GRE tunnels: ours . theirs\"; }\n"
	      "add set inet arrd underlay6 {\n"
	      "	type ipv6_addr . ipv6_addr; comment \"GRE tunnels: ours . theirs\"; }\n"
	      "flush set inet arrd underlay4\n"
	      "flush set inet arrd underlay6\n",
		f);
	if (put_underlay_elements(f, r, true) || put_underlay_elements(f, r, false))
		return -ENOMEM;
	for (int is4 = 0; is4 < 2; is4++)
		if (put_ends(f, r, "ipsec", TUNNEL_IPSEC, true, is4) ||
			put_ends(f, r, "gre_peers", TUNNEL_GRE, false, is4))
			return -ENOMEM;
	put_pool(f, r, true);
	put_pool(f, r, false);
	fputs("table inet arrd {\n"
	      "	chain raw_in {\n"
	      "		type filter hook prerouting priority raw; policy accept;\n",
		f);
	fputs("		meta l4proto 47 ip daddr . ip saddr @underlay4 notrack accept comment \"underlay\"\n"
	      "		meta l4proto 47 ip6 daddr . ip6 saddr @underlay6 notrack accept comment "
	      "\"underlay\"\n"
	      "		meta l4proto 50 ip daddr @ipsec4 notrack accept comment \"underlay\"\n"
	      "		meta l4proto 50 ip6 daddr @ipsec6 notrack accept comment \"underlay\"\n"
	      "		udp dport { 500, 4500 } ip daddr @ipsec4 notrack accept comment \"underlay\"\n"
	      "		udp dport { 500, 4500 } ip6 daddr @ipsec6 notrack accept comment \"underlay\"\n",
		f);
	if (r->conf->egress.nat == NAT_POOL)
		fputs("		ip daddr @nat4 notrack accept comment \"to arrd's NAT\"\n"
		      "		ip6 daddr @nat6 notrack accept comment \"to arrd's NAT\"\n"
		      "		iifname $TUN ip saddr @nat4 notrack accept comment \"from arrd's NAT\"\n"
		      "		iifname $TUN ip6 saddr @nat6 notrack accept comment \"from arrd's NAT\"\n",
			f);
	fprintf(f, "		iifname $TUN ct original zone set %d comment \"apart from others' tuples\"\n",
		EGRESS_ZONE);
	fputs("	}\n"
	      "	chain raw_out {\n"
	      "		type filter hook output priority raw; policy accept;\n"
	      "		meta l4proto 47 ip saddr . ip daddr @underlay4 notrack accept comment \"underlay\"\n"
	      "		meta l4proto 47 ip6 saddr . ip6 daddr @underlay6 notrack accept comment "
	      "\"underlay\"\n"
	      "		meta l4proto 50 ip saddr @ipsec4 notrack accept comment \"underlay\"\n"
	      "		meta l4proto 50 ip6 saddr @ipsec6 notrack accept comment \"underlay\"\n"
	      "		udp sport { 500, 4500 } ip saddr @ipsec4 notrack accept comment \"underlay\"\n"
	      "		udp sport { 500, 4500 } ip6 saddr @ipsec6 notrack accept comment \"underlay\"\n",
		f);
	if (r->conf->egress.nat == NAT_POOL)
		fputs("		ip daddr @nat4 notrack accept comment \"to arrd's NAT\"\n"
		      "		ip6 daddr @nat6 notrack accept comment \"to arrd's NAT\"\n",
			f);
	fputs("	}\n"
	      "}\n",
		f);
	return 0;
}

/* What conntrack calls invalid skips NAT and would leave with the branch's own source: it ends here.
 *
 * unmark: other software may copy the whole connection mark to the packet ("restore mark"). Then a branch's
 * packet would carry BIT, and go straight back to the TUN. */
static void put_prerouting(FILE *f, const struct ruleset *r)
{
	fputs("table inet arrd {\n"
	      "	chain from_tun {\n",
		f);
	/* What is addressed to the tunnels' own ends is not tracked either, and must not pass as translated. */
	if (r->conf->egress.nat == NAT_POOL)
		fputs("		meta l4proto 50 ip daddr @ipsec4 counter name branch_invalid drop\n"
		      "		meta l4proto 50 ip6 daddr @ipsec6 counter name branch_invalid drop\n"
		      "		udp dport { 500, 4500 } ip daddr @ipsec4 counter name branch_invalid drop\n"
		      "		udp dport { 500, 4500 } ip6 daddr @ipsec6 counter name branch_invalid drop\n"
		      "		ip saddr @nat4 accept comment \"translated by arrd\"\n"
		      "		ip6 saddr @nat6 accept comment \"translated by arrd\"\n",
			f);
	fputs("		ct state invalid,untracked counter name branch_invalid drop\n"
	      "		ct direction original ct mark set ct mark | $BIT comment \"begun by a branch\"\n"
	      "	}\n"
	      "	chain prerouting {\n"
	      "		type filter hook prerouting priority mangle; policy accept;\n"
	      "		iifname $TUN goto from_tun\n"
	      "		ct mark & $BIT == $BIT ct direction reply meta mark set meta mark | $BIT"
	      " comment \"answer to a branch\"\n"
	      "	}\n"
	      "	chain unmark {\n"
	      "		type filter hook prerouting priority mangle + 10; policy accept;\n"
	      "		meta mark & $BIT == $BIT iifname $TUN meta mark set meta mark & $OTHER_BITS"
	      " comment \"somebody restored it\"\n"
	      "	}\n"
	      "}\n",
		f);
	put_timeout_rules(f, r, "from_tun");
}

/* Answers of the machine itself to a branch: services, resets, ICMP errors about packets on their way from it. */
static void put_output(FILE *f)
{
	fputs("table inet arrd {\n"
	      "	chain output {\n"
	      "		type route hook output priority mangle; policy accept;\n"
	      "		ct direction reply ct mark & $BIT == $BIT meta mark set meta mark | $BIT"
	      " comment \"answer to a branch\"\n"
	      "	}\n"
	      "}\n",
		f);
}

static void put_service(FILE *f, const struct conf_service *s)
{
	fputs("		", f);
	if (s->proto == IPPROTO_ICMP)
		fputs("meta l4proto { 1, 58 } ", f); /* of either family */
	else if (s->proto)
		fprintf(f, "meta l4proto %u ", s->proto);
	if (s->port)
		fprintf(f, "th dport %u ", s->port);
	fputs("accept comment \"local service\"\n", f);
}

/* From the TUN to the machine: answers to what it began itself (arrd as a branch), and what the configuration
 * names. The packet path refuses the rest by name before it gets here; this holds if it should fail.
 *
 * server_tcp_invalid: a server's segment that conntrack calls invalid is not translated back, so it is
 * addressed to the machine, which would answer with a reset and end the branch's connection. */
static void put_input(FILE *f, const struct ruleset *r)
{
	const struct conf_egress *e = &r->conf->egress;

	fputs("table inet arrd {\n"
	      "	chain from_tun_to_us {\n"
	      "		ct state established,related accept\n",
		f);
	for (size_t i = 0; i < e->nlocal_services; i++)
		put_service(f, &e->local_services[i]);
	fputs("		counter name branch_to_gateway drop\n"
	      "	}\n"
	      "	chain input {\n"
	      "		type filter hook input priority filter; policy accept;\n"
	      "		iifname $TUN goto from_tun_to_us\n",
		f);
	if (e->nat == NAT_MASQUERADE)
		fputs("		meta l4proto 6 ct state invalid iifname $OUT"
		      " counter name server_tcp_invalid drop comment \"else a reset answers\"\n",
			f);
	fputs("	}\n"
	      "}\n",
		f);
}

/* A branch's packets leave by the egress interface and no other: there they would not be translated. What
 * arrives for the TUN is judged by arrd. The rest is forwarded if it was before arrd came. */
static void put_forward(FILE *f, const struct ruleset *r)
{
	fputs("table inet arrd {\n"
	      "	chain forward {\n"
	      "		type filter hook forward priority filter; policy accept;\n"
	      "		iifname $TUN meta l4proto 47 ip daddr @gre_peers4 counter name branch_to_tunnel "
	      "drop\n"
	      "		iifname $TUN meta l4proto 47 ip6 daddr @gre_peers6 counter name branch_to_tunnel "
	      "drop\n"
	      "		iifname $TUN oifname != $OUT counter name branch_elsewhere drop\n"
	      "		iifname $TUN accept\n"
	      "		oifname $TUN accept\n",
		f);
	if (r->forwarding4_is_ours)
		fputs("		meta nfproto ipv4 iifname $OUT counter name not_ours drop"
		      " comment \"was not forwarded before arrd\"\n",
			f);
	if (r->forwarding6_is_ours)
		fprintf(f,
			"		meta nfproto ipv6 %scounter name not_ours drop"
			" comment \"was not forwarded before arrd\"\n",
			r->forwarding6_all ? "" : "iifname $OUT ");
	fputs("	}\n"
	      "}\n",
		f);
}

/* guard stands after srcnat. The accepted: translated connections, and answers to what somebody outside began
 * (who knows the address that he wrote to). All else from a branch was missed by NAT, for whatever reason.
 *
 * The kernel speaks multicast of its own on every interface (group reports, address detection, solicitations);
 * on the TUN that would only count as packets without a flow. */
static void put_postrouting(FILE *f, const struct ruleset *r)
{
	bool nat = r->conf->egress.nat == NAT_MASQUERADE, guarded = r->conf->egress.nat != NAT_NONE;

	fputs("table inet arrd {\n"
	      "	chain nat {\n"
	      "		type nat hook postrouting priority srcnat; policy accept;\n"
	      "	}\n"
	      "	chain to_tun {\n"
	      "		ip daddr 224.0.0.0/4 drop comment \"not for the TUN\"\n"
	      "		ip6 daddr ff00::/8 drop comment \"not for the TUN\"\n"
	      "	}\n",
		f);
	if (guarded)
		fprintf(f,
			"	chain leaving {\n"
			"%s"
			"		ct direction reply ct mark & $BIT == 0 accept\n"
			"		counter name branch_untranslated drop"
			" comment \"no branch's source leaves\"\n"
			"	}\n",
			nat ? "		ct status snat accept\n"
			    : "		ip saddr @nat4 accept\n		ip6 saddr @nat6 accept\n");
	fprintf(f,
		"	chain guard {\n"
		"		type filter hook postrouting priority srcnat + 10; policy accept;\n"
		"		oifname $TUN goto to_tun\n"
		"%s"
		"	}\n"
		"}\n",
		guarded ? "		iifname $TUN oifname $OUT goto leaving\n" : "");
	put_timeout_rules(f, r, "to_tun");
	/* From our own IKE ports a branch's packets would speak as the gateway, and their answers be taken for its. The flow table
	 * gives none of these; this is for answers of a branch that have lost their connection here. */
	if (nat && has_ipsec(r->conf))
		fputs("add rule inet arrd nat ct mark & $BIT == $BIT oifname $OUT udp sport { 500, 4500 }"
		      " masquerade to :10000-65535\n",
			f);
	fputs(nat ? "add rule inet arrd nat ct mark & $BIT == $BIT oifname $OUT masquerade\n"
		  : "delete chain inet arrd nat\n",
		f);
}

char *ruleset_text(const struct ruleset *r)
{
	char *text = NULL;
	size_t len;
	FILE *f = open_memstream(&text, &len);
	int rc;

	if (!f)
		return NULL;
	put_opening(f, r);
	if (r->timeouts)
		put_timeouts(f, r);
	rc = put_raw(f, r);
	put_prerouting(f, r);
	put_output(f);
	put_input(f, r);
	put_forward(f, r);
	put_postrouting(f, r);
	if (ferror(f))
		rc = -ENOMEM;
	if (fclose(f) || rc) {
		free(text);
		return NULL;
	}
	return text;
}

/* ---- loading ------------------------------------------------------------------------------------------- */

/* Runs a text as one transaction. Returns 0, or -errno with the first line of what nftables said. out (may be NULL) gets
 * the beginning of what it printed. */
static int run(const char *text, char *out, size_t outlen, char *err, size_t errlen)
{
	struct nft_ctx *ctx = nft_ctx_new(NFT_CTX_DEFAULT);
	const char *said;
	int rc = 0;

	if (!ctx)
		return -ENOMEM;
	if (nft_ctx_buffer_error(ctx) || nft_ctx_buffer_output(ctx)) {
		nft_ctx_free(ctx);
		return -ENOMEM;
	}
	errno = 0;
	if (nft_run_cmd_from_buffer(ctx, text)) {
		rc = errno == EPERM ? -EPERM : -EIO;
		said = nft_ctx_get_error_buffer(ctx);
		snprintf(err, errlen, "nftables: %.*s", (int)strcspn(said, "\n"), said);
	} else if (out) {
		snprintf(out, outlen, "%s", nft_ctx_get_output_buffer(ctx));
	}
	nft_ctx_free(ctx);
	return rc;
}

/* The name in quotes that comes first behind "before" in the answer to a command. */
static bool listed_name(const char *command, const char *before, char name[static IFNAMSIZ])
{
	char text[4096] = "", err[160];
	const char *s;
	size_t len;

	if (run(command, text, sizeof(text), err, sizeof(err)))
		return false;
	s = strstr(text, before);
	if (!s)
		return false;
	s += strlen(before);
	len = strcspn(s, "\"");
	if (len == 0 || len >= IFNAMSIZ || s[len] != '"')
		return false;
	memcpy(name, s, len);
	name[len] = 0;
	return true;
}

bool ruleset_owner(char tun[static IFNAMSIZ])
{
	return listed_name("list chain inet arrd raw_in", "iifname \"", tun);
}

bool ruleset_egress(char interface[static IFNAMSIZ], bool *nat)
{
	char ignored[IFNAMSIZ];

	*nat = listed_name("list chain inet arrd nat", "oifname \"", ignored);
	return listed_name("list chain inet arrd forward", "oifname != \"", interface);
}

/* The other arrd's TUN exists as long as it does, and runs. */
int ruleset_alone(const char *own, char *err, size_t errlen)
{
	struct ifreq ifr = {0};
	int s, r;

	if (!ruleset_owner(ifr.ifr_name) || (own && strcmp(ifr.ifr_name, own) == 0))
		return 0;
	s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (s < 0)
		return -errno;
	r = ioctl(s, SIOCGIFFLAGS, &ifr);
	close(s);
	if (r < 0 || !(ifr.ifr_flags & IFF_RUNNING))
		return 0;
	snprintf(err, errlen, "an arrd with the TUN %s runs in this network namespace; there can be one",
		ifr.ifr_name);
	return -EBUSY;
}

int ruleset_load(struct ruleset *r, struct log *log, char *err, size_t errlen)
{
	/* A table of another version of arrd may have chains of another kind under our names: replace it
	 * whole. A kernel may lack ct timeout objects. */
	static const struct {
		bool replace, timeouts;
	} tries[] = {{false, true}, {true, true}, {true, false}};
	int rc = -EIO;

	for (size_t i = 0; i < sizeof(tries) / sizeof(tries[0]) && rc; i++) {
		char *text;

		r->replace = tries[i].replace;
		r->timeouts = tries[i].timeouts;
		text = ruleset_text(r);
		if (!text) {
			snprintf(err, errlen, "nftables: out of memory");
			return -ENOMEM;
		}
		rc = run(text, NULL, 0, err, errlen);
		free(text);
		if (rc == -EPERM)
			break;
		if (rc)
			log_debug(log, "egress", NULL, "%s (attempt %zu)", err, i + 1);
	}
	if (!rc && !r->timeouts)
		log_warning(log, "egress", NULL,
			"the kernel takes no conntrack timeouts of our own: keep "
			"net.netfilter.nf_conntrack_*_timeout_* at or "
			"below those of [flows]");
	return rc;
}

int ruleset_unload(void)
{
	char err[160];

	return run("add table inet arrd\ndelete table inet arrd\n", NULL, 0, err, sizeof(err));
}
