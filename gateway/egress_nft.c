/* SPDX-License-Identifier: GPL-2.0-or-later */
/* egress_nft.c - the nftables table `inet arrd`.
 *
 * BIT is the configured mark bit, Z EGRESS_ZONE, T the routing table of replies. The idea: a connection that
 * a branch began by the TUN carries BIT in its conntrack mark. Packets of its reply direction get BIT as
 * packet mark, whichever interface they come by, and a policy rule sends them to table T, which knows nothing
 * but the TUN. So no route to a branch's prefix is needed, and none is consulted: the machine's own network
 * may be the same one. Which branch a reply belongs to is not the kernel's business; arrd knows it from the
 * flow.
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
 */
#include "gateway/egress_private.h"

#include <errno.h>
#include <nftables/libnftables.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool ruleset_name_ok(const char *name)
{
	size_t len = strlen(name);

	return len > 0 && len < IFNAMSIZ &&
	       strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-@:+") == len;
}

/* ---- the parts, in the order of the text --------------------------------------------------------------- */

/* Both can be repeated on a table that is there: chains, sets and counters that exist are kept. */
static void put_opening(FILE *f, const struct ruleset *r)
{
	fputs("add table inet arrd\n", f);
	fputs(r->replace ? "delete table inet arrd\nadd table inet arrd\n" : "flush table inet arrd\n", f);
}

static void put_counters(FILE *f)
{
	static const char *const names[] = {"branch_invalid", "branch_elsewhere", "branch_to_gateway",
		"branch_untranslated", "server_tcp_invalid", "not_ours"};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		fprintf(f, "add counter inet arrd %s\n", names[i]);
}

static const char *timeout_name(const struct ruleset *r, uint8_t proto, char *buf, size_t len)
{
	const uint32_t *t = r->conf->flows.timeout_s;

	if (proto == IPPROTO_TCP)
		snprintf(buf, len, "tcp-%u-%u-%u-%u-%u", t[FS_TCP_OPENING], t[FS_TCP_ESTABLISHED],
			t[FS_TCP_HALF_CLOSED], t[FS_TCP_CLOSING], t[FS_TCP_RESET]);
	else
		snprintf(buf, len, "udp-%u-%u", t[FS_UDP_ONE_WAY], t[FS_UDP_TWO_WAY]);
	return buf;
}

static uint32_t at_most(uint32_t a, uint32_t b)
{
	return a < b ? a : b;
}

/* A conntrack entry that outlived its flow could be taken over by another site's flow of the same tuple. */
static void put_timeouts(FILE *f, const struct ruleset *r)
{
	const uint32_t *t = r->conf->flows.timeout_s;
	char name[64];

	fprintf(f,
		"add ct timeout inet arrd %s { protocol tcp; policy = { syn_sent : %u, syn_recv : %u, "
		"established : %u, "
		"fin_wait : %u, close_wait : %u, last_ack : %u, time_wait : %u, close : %u, retrans : %u, "
		"unack : %u }; "
		"}\n",
		timeout_name(r, IPPROTO_TCP, name, sizeof(name)), t[FS_TCP_OPENING], t[FS_TCP_OPENING],
		t[FS_TCP_ESTABLISHED], t[FS_TCP_HALF_CLOSED], t[FS_TCP_HALF_CLOSED], t[FS_TCP_CLOSING],
		t[FS_TCP_CLOSING], t[FS_TCP_RESET], at_most(300, t[FS_TCP_ESTABLISHED]),
		at_most(300, t[FS_TCP_ESTABLISHED]));
	fprintf(f,
		"add ct timeout inet arrd %s { protocol udp; policy = { unreplied : %u, replied : %u }; }\n",
		timeout_name(r, IPPROTO_UDP, name, sizeof(name)), t[FS_UDP_ONE_WAY], t[FS_UDP_TWO_WAY]);
}

/* The addresses of GRE tunnels, (ours, theirs). A pair that several tunnels share (keys) comes once. */
static int cmp_pair(const void *a, const void *b)
{
	return memcmp(a, b, 2 * sizeof(struct addr));
}

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

		if (t->type != TUNNEL_GRE || addr_is4(&t->local) != is4 || addr_is4(&t->remote) != is4)
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

static int put_underlay_sets(FILE *f, const struct ruleset *r)
{
	fputs("add set inet arrd underlay4 { type ipv4_addr . ipv4_addr; comment \"GRE tunnels: ours . "
	      "theirs\"; }\n"
	      "add set inet arrd underlay6 { type ipv6_addr . ipv6_addr; comment \"GRE tunnels: ours . "
	      "theirs\"; }\n"
	      "flush set inet arrd underlay4\n"
	      "flush set inet arrd underlay6\n",
		f);
	return put_underlay_elements(f, r, true) || put_underlay_elements(f, r, false) ? -ENOMEM : 0;
}

/* Priority raw, before conntrack.
 *
 * The zone: a host behind the machine (its own network, if it is a router for that too) may begin a
 * connection with the very tuple of a branch's. In one zone the second would join the first one's entry:
 * tried, and the host's answers went to the branch. With a zone for the original direction they are two; the
 * reply tuples stay in the common zone, where NAT keeps them apart, and where replies need no zone to be
 * found.
 *
 * notrack: GRE in conntrack would cost an entry and a look-up a packet for nothing. */
static void put_raw(FILE *f, const struct ruleset *r)
{
	fputs("add chain inet arrd raw_in { type filter hook prerouting priority raw; policy accept; }\n"
	      "add chain inet arrd raw_out { type filter hook output priority raw; policy accept; }\n",
		f);
	fprintf(f,
		"add rule inet arrd raw_in iifname \"%s\" ct original zone set %d comment \"branches' tuples "
		"apart from others'\"\n",
		r->conf->gateway.tun, EGRESS_ZONE);
	fputs("add rule inet arrd raw_in meta l4proto gre ip daddr . ip saddr @underlay4 notrack comment "
	      "\"underlay\"\n"
	      "add rule inet arrd raw_in meta l4proto gre ip6 daddr . ip6 saddr @underlay6 notrack comment "
	      "\"underlay\"\n"
	      "add rule inet arrd raw_out meta l4proto gre ip saddr . ip daddr @underlay4 notrack comment "
	      "\"underlay\"\n"
	      "add rule inet arrd raw_out meta l4proto gre ip6 saddr . ip6 daddr @underlay6 notrack comment "
	      "\"underlay\"\n",
		f);
}

static void put_timeout_rules(FILE *f, const struct ruleset *r, const char *chain, const char *match)
{
	char name[64];

	if (!r->timeouts)
		return;
	fprintf(f, "add rule inet arrd %s %s \"%s\" ct state new meta l4proto tcp ct timeout set \"%s\"\n",
		chain, match, r->conf->gateway.tun, timeout_name(r, IPPROTO_TCP, name, sizeof(name)));
	fprintf(f, "add rule inet arrd %s %s \"%s\" ct state new meta l4proto udp ct timeout set \"%s\"\n",
		chain, match, r->conf->gateway.tun, timeout_name(r, IPPROTO_UDP, name, sizeof(name)));
}

/* What conntrack calls invalid skips NAT and would leave with the branch's own source: it ends here.
 *
 * unmark: other software may copy the whole connection mark to the packet (a "restore mark" in mangle). Then
 * a branch's packet would carry BIT, and go straight back to the TUN. */
static void put_prerouting(FILE *f, const struct ruleset *r)
{
	const char *tun = r->conf->gateway.tun;
	uint32_t bit = r->conf->egress.mark;

	fputs("add chain inet arrd prerouting { type filter hook prerouting priority mangle; policy accept; "
	      "}\n"
	      "add chain inet arrd unmark { type filter hook prerouting priority mangle + 10; policy accept; "
	      "}\n",
		f);
	fprintf(f,
		"add rule inet arrd prerouting iifname \"%s\" ct state invalid,untracked counter name "
		"branch_invalid drop "
		"comment \"would pass NAT by\"\n",
		tun);
	fprintf(f,
		"add rule inet arrd prerouting iifname \"%s\" ct direction original ct mark set ct mark | "
		"0x%08x "
		"comment \"begun by a branch\"\n",
		tun, bit);
	put_timeout_rules(f, r, "prerouting", "iifname");
	fprintf(f,
		"add rule inet arrd prerouting iifname != \"%s\" ct direction reply ct mark & 0x%08x == "
		"0x%08x "
		"meta mark set meta mark | 0x%08x comment \"answer to a branch: to table %u\"\n",
		tun, bit, bit, bit, r->conf->egress.table);
	fprintf(f,
		"add rule inet arrd unmark iifname \"%s\" meta mark & 0x%08x == 0x%08x meta mark set meta "
		"mark & 0x%08x "
		"comment \"whoever restored it from the connection\"\n",
		tun, bit, bit, ~bit);
}

/* Answers of the machine itself to a branch: services, resets, ICMP errors about packets on their way from
 * it. */
static void put_output(FILE *f, const struct ruleset *r)
{
	uint32_t bit = r->conf->egress.mark;

	fputs("add chain inet arrd output { type route hook output priority mangle; policy accept; }\n", f);
	fprintf(f,
		"add rule inet arrd output ct direction reply ct mark & 0x%08x == 0x%08x meta mark set meta "
		"mark | 0x%08x "
		"comment \"answer to a branch: to table %u\"\n",
		bit, bit, bit, r->conf->egress.table);
}

/* From the TUN to the machine: answers to what it began itself (arrd as a branch), and what the configuration
 * names. The packet path refuses the rest by name before it gets here; this holds if it should fail.
 *
 * server_tcp_invalid: a server's segment that conntrack calls invalid is not translated back, so it is
 * addressed to the machine, which would answer with a reset and end the branch's connection. */
static void put_input(FILE *f, const struct ruleset *r)
{
	const struct conf_egress *e = &r->conf->egress;
	const char *tun = r->conf->gateway.tun;

	fputs("add chain inet arrd input { type filter hook input priority filter; policy accept; }\n", f);
	fprintf(f, "add rule inet arrd input iifname \"%s\" ct state established,related accept\n", tun);
	for (size_t i = 0; i < e->nlocal_services; i++) {
		const struct conf_service *s = &e->local_services[i];

		fprintf(f, "add rule inet arrd input iifname \"%s\" ", tun);
		if (s->proto)
			fprintf(f, "meta l4proto %u ", s->proto);
		if (s->port)
			fprintf(f, "th dport %u ", s->port);
		fputs("accept comment \"local service\"\n", f);
	}
	fprintf(f, "add rule inet arrd input iifname \"%s\" counter name branch_to_gateway drop\n", tun);
	if (e->nat == NAT_MASQUERADE)
		fprintf(f,
			"add rule inet arrd input iifname \"%s\" meta l4proto tcp ct state invalid "
			"counter name server_tcp_invalid drop comment \"would be answered by a reset\"\n",
			r->interface);
}

/* A branch's packets leave by the egress interface and no other: there they would not be translated. What
 * arrives for the TUN is judged by arrd. The rest is forwarded if it was before arrd came. */
static void put_forward(FILE *f, const struct ruleset *r)
{
	const char *tun = r->conf->gateway.tun;

	fputs("add chain inet arrd forward { type filter hook forward priority filter; policy accept; }\n",
		f);
	fprintf(f,
		"add rule inet arrd forward iifname \"%s\" oifname != \"%s\" counter name branch_elsewhere "
		"drop "
		"comment \"not the egress interface\"\n",
		tun, r->interface);
	fprintf(f, "add rule inet arrd forward iifname \"%s\" accept\n", tun);
	fprintf(f, "add rule inet arrd forward oifname \"%s\" accept\n", tun);
	if (r->forwarding4_is_ours)
		fprintf(f,
			"add rule inet arrd forward meta nfproto ipv4 iifname \"%s\" counter name not_ours "
			"drop "
			"comment \"IPv4 forwarding was off here before arrd\"\n",
			r->interface);
	if (r->forwarding6_is_ours && r->forwarding6_all)
		fputs("add rule inet arrd forward meta nfproto ipv6 counter name not_ours drop "
		      "comment \"IPv6 forwarding was off before arrd\"\n",
			f);
	else if (r->forwarding6_is_ours)
		fprintf(f,
			"add rule inet arrd forward meta nfproto ipv6 iifname \"%s\" counter name not_ours "
			"drop "
			"comment \"IPv6 forwarding was off here before arrd\"\n",
			r->interface);
}

/* guard stands after srcnat. The accepted: translated connections, and answers to what somebody outside began
 * (who knows the address that he wrote to). All else from a branch was missed by NAT, for whatever reason.
 *
 * The kernel speaks multicast of its own on every interface (group reports, address detection, solicitations); on the
 * TUN that would only count as packets without a flow. */
static void put_postrouting(FILE *f, const struct ruleset *r)
{
	const char *tun = r->conf->gateway.tun;
	uint32_t bit = r->conf->egress.mark;

	fputs("add chain inet arrd guard { type filter hook postrouting priority srcnat + 10; policy accept; "
	      "}\n"
	      "add chain inet arrd nat { type nat hook postrouting priority srcnat; policy accept; }\n",
		f);
	fprintf(f,
		"add rule inet arrd guard oifname \"%s\" ip daddr 224.0.0.0/4 drop comment \"not for the "
		"TUN\"\n"
		"add rule inet arrd guard oifname \"%s\" ip6 daddr ff00::/8 drop comment \"not for the "
		"TUN\"\n",
		tun, tun);
	put_timeout_rules(f, r, "guard", "oifname");
	if (r->conf->egress.nat == NAT_NONE) {
		fputs("delete chain inet arrd nat\n", f);
		return;
	}
	fprintf(f, "add rule inet arrd nat ct mark & 0x%08x == 0x%08x oifname \"%s\" masquerade\n", bit, bit,
		r->interface);
	fprintf(f, "add rule inet arrd guard iifname \"%s\" oifname \"%s\" ct status snat accept\n", tun,
		r->interface);
	fprintf(f,
		"add rule inet arrd guard iifname \"%s\" oifname \"%s\" ct direction reply ct mark & 0x%08x "
		"== 0 accept\n",
		tun, r->interface, bit);
	fprintf(f,
		"add rule inet arrd guard iifname \"%s\" oifname \"%s\" counter name branch_untranslated "
		"drop "
		"comment \"no branch's source leaves\"\n",
		tun, r->interface);
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
	put_counters(f);
	if (r->timeouts)
		put_timeouts(f, r);
	rc = put_underlay_sets(f, r);
	put_raw(f, r);
	put_prerouting(f, r);
	put_output(f, r);
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

/* Runs a text as one transaction. Returns 0, or -errno with the first line of what nftables said. */
static int run(const char *text, char *err, size_t errlen)
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
	}
	nft_ctx_free(ctx);
	return rc;
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
		rc = run(text, err, errlen);
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

	return run("add table inet arrd\ndelete table inet arrd\n", err, sizeof(err));
}
