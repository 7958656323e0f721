/* SPDX-License-Identifier: GPL-2.0-or-later */
/* egress.c - what arrd asks of the kernel around the TUN device.
 *
 * A packet of a branch goes TUN → routing → NAT → egress interface; the answer comes back egress interface →
 * NAT undone → mark → table T → TUN. arrd keeps no NAT table and the kernel knows no branch: the connection's
 * mark says "to the TUN", and which tunnel it is for arrd knows from the flow. egress_nft.c has the rules and
 * the reason for each.
 *
 * Invariants
 *	- While anything marks packets, T holds a blackhole, and the policy rule leads there: an answer for a
 *	  branch goes to the TUN or nowhere, never to a network of the machine's own with the same addresses.
 *	  Hence the order: blackhole, policy rule, nftables, forwarding; then the TUN. A stop, restart or crash
 *	  takes only the TUN away.
 *	- Forwarding goes on after the rules that bound it are there, and off before they go.
 *	- Whatever is changed outside of our table and T is remembered first (egress_sysctl.c).
 *	- Every step may be repeated on what an earlier run left, or what others left of it while we run.
 *
 * What an appliance must have and this file cannot give, it says in the log at start.
 */
#include "gateway/egress.h"

#include "gateway/conntrack.h"
#include "gateway/egress_private.h"
#include "gateway/hostnet.h"

#include <dirent.h>
#include <errno.h>
#include <libmnl/libmnl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NF "net/netfilter/nf_conntrack_"

struct egress {
	struct log *log;
	struct sysctls *sysctls;
	struct conntrack *conntrack;
	struct mnl_socket *watch;
	char interface[IFNAMSIZ];
	char tun[IFNAMSIZ];
	struct conf_ifaddr tun_address[2]; /* as given to the TUN */
	struct addr_range nat_pool[2];     /* as in the rules */
	bool have6, tun_has6;
	bool attached, knows_dccp;
	uint32_t max_flows;
	bool rules_missing; /* and could not be put back yet */
	struct log_limit troubles;
	uint64_t dropped[DROP_COUNT]; /* by the rules, as last read */
};

/* ---- sysctls ------------------------------------------------------------------------------------------- */

/* A setting that the data path needs: without it packets get lost, so the failure is said. */
static void want(struct egress *e, const char *path, long value, const char *why)
{
	long now;
	int rc = sysctl_want(e->sysctls, path, value);

	if (rc && (sysctl_get(path, &now) || now != value))
		log_warning(e->log, "egress", NULL, "sysctl %s cannot be set to %ld: %s; %s", path, value,
			strerror(-rc), why);
}

/* Calls fn for every interface that family has settings of, "default" among them, "all" and the TUN not. */
static void each_interface(
	struct egress *e, const char *family, void (*fn)(struct egress *e, const char *interface))
{
	char dir[64];
	DIR *d;

	snprintf(dir, sizeof(dir), "/proc/sys/net/%s/conf", family);
	d = opendir(dir);
	if (!d)
		return;
	for (struct dirent *de = readdir(d); de; de = readdir(d))
		if (de->d_name[0] != '.' && strlen(de->d_name) < IFNAMSIZ && strcmp(de->d_name, "all") != 0 &&
			strcmp(de->d_name, e->tun) != 0)
			fn(e, de->d_name);
	closedir(d);
}

static void keep_rp_filter(struct egress *e, const char *interface)
{
	char path[128];
	long all, own;

	sysctl_conf(path, sizeof(path), "ipv4", interface, "rp_filter");
	if (sysctl_was(e->sysctls, "net/ipv4/conf/all/rp_filter", &all) || sysctl_was(e->sysctls, path, &own))
		return;
	want(e, path, own > all ? own : all, "it would lose the filter that \"all\" gave it");
}

/* The greater of "all" and the interface's own counts (ip-sysctl). A branch's source has no route by the TUN,
 * so the TUN must have none: "all" becomes 0, and every other interface gets the value that it had by "all".
 */
static void want_rp_filter(struct egress *e)
{
	const char *all = "net/ipv4/conf/all/rp_filter";
	char path[128];
	long filter, own, vmark, vmark_all;

	if (sysctl_was(e->sysctls, all, &filter))
		return;
	if (filter > 0) {
		each_interface(e, "ipv4", keep_rp_filter);
		want(e, all, 0, "the kernel drops what branches send, as martian");
	}
	/* With src_valid_mark the mark counts in the look-up for the source, and a server's answer, marked,
	 * would have to come by the TUN: strict filtering then drops every answer. Loose finds a route and is
	 * content. */
	if (sysctl_was(e->sysctls, sysctl_conf(path, sizeof(path), "ipv4", e->interface, "rp_filter"), &own))
		return;
	if ((own > filter ? own : filter) != 1)
		return;
	if (sysctl_get("net/ipv4/conf/all/src_valid_mark", &vmark_all))
		vmark_all = 0;
	if (sysctl_get(sysctl_conf(path, sizeof(path), "ipv4", e->interface, "src_valid_mark"), &vmark))
		vmark = 0;
	if (vmark || vmark_all)
		want(e, sysctl_conf(path, sizeof(path), "ipv4", e->interface, "rp_filter"), 2,
			"with src_valid_mark the kernel drops every answer to a branch");
}

static void keep_accept_ra(struct egress *e, const char *interface)
{
	char path[128];
	long ra;

	/* Goes along with "all"; remembered so that it is given back after it. */
	(void)sysctl_keep(e->sysctls, sysctl_conf(path, sizeof(path), "ipv6", interface, "forwarding"));
	sysctl_conf(path, sizeof(path), "ipv6", interface, "accept_ra");
	if (!sysctl_was(e->sysctls, path, &ra) && ra == 1)
		want(e, path, 2, "the machine may lose its IPv6 default route");
}

/* Whether forwarding was off before arrd, so that its switching it on has to be bounded by rules. */
static bool was_off(const struct egress *e, const char *family, const char *key)
{
	char path[128];
	long all, own;

	snprintf(path, sizeof(path), "net/%s/conf/all/forwarding", family);
	if (!sysctl_was(e->sysctls, path, &all) && all)
		return false;
	sysctl_conf(path, sizeof(path), family, e->interface, key);
	return sysctl_was(e->sysctls, path, &own) || !own;
}

/* Linux 6.17 and later let one interface forward IPv6; before, there is only "all" (an interface's own
 * "forwarding" makes it behave as a router's, but lets nothing through). */
static bool has_force_forwarding(void)
{
	return access("/proc/sys/net/ipv6/conf/all/force_forwarding", F_OK) == 0;
}

static void want_forwarding(struct egress *e)
{
	char path[128];
	long all = 0;

	want(e, sysctl_conf(path, sizeof(path), "ipv4", e->interface, "forwarding"), 1,
		"IPv4 answers to branches are not forwarded");
	if (!e->have6 || (!sysctl_was(e->sysctls, "net/ipv6/conf/all/forwarding", &all) && all))
		return;
	if (has_force_forwarding()) {
		want(e, sysctl_conf(path, sizeof(path), "ipv6", e->interface, "force_forwarding"), 1,
			"IPv6 answers to branches are not forwarded");
		return;
	}
	/* A machine that forwards gives up the default routes that router advertisements gave it, and hears
	 * no more of them, unless accept_ra is 2 beforehand. */
	each_interface(e, "ipv6", keep_accept_ra);
	want(e, "net/ipv6/conf/all/forwarding", 1, "IPv6 is not forwarded");
}

/* What is not TCP or UDP has no timeouts by rule: the kernel's own must not be longer than the flow's. */
static void want_timeouts(struct egress *e, const struct config *c)
{
	static const struct {
		const char *path;
		enum fs_state state;
	} bound[] = {
		{NF "icmp_timeout", FS_ICMP_ECHO},
		{NF "icmpv6_timeout", FS_ICMP_ECHO},
		{NF "generic_timeout", FS_OTHER},
		{NF "gre_timeout", FS_OTHER},
		{NF "gre_timeout_stream", FS_OTHER},
		{NF "sctp_timeout_established", FS_OTHER},
	};

	for (size_t i = 0; i < sizeof(bound) / sizeof(bound[0]); i++) {
		long was, most = c->flows.timeout_s[bound[i].state];

		if (!sysctl_was(e->sysctls, bound[i].path, &was) && was > most)
			want(e, bound[i].path, most, "connections may outlive their flows");
	}
}

/* be_liberal: what is out of window would be invalid, and invalid passes NAT by; flowstate judges windows
 * itself. loose: connections whose entry was forgotten are picked up, as flowstate does. */
static void want_conntrack(struct egress *e)
{
	want(e, NF "tcp_be_liberal", 1, "segments out of window are dropped");
	want(e, NF "tcp_loose", 1, "connections are not picked up after a flush");
}

/* ---- conntrack's size ---------------------------------------------------------------------------------- */

/* Entries wanted for that many flows: some live a little longer than their flow, and the machine has
 * connections of its own. */
static long entries_for(uint32_t flows)
{
	return (long)flows + flows / 16 + 1024;
}

static uint32_t flows_for(long entries)
{
	return entries > 4096 ? (uint32_t)((entries - 1024) / 17 * 16)
			      : (uint32_t)(entries > 2 ? entries / 2 : 1);
}

/* What is not tracked needs no entries. The limit is the whole machine's: a network namespace other than the first cannot write it. */
static void check_size(struct egress *e, const struct config *c, uint32_t *max_flows)
{
	long need = entries_for(*max_flows), max, buckets;

	if (c->egress.nat == NAT_POOL)
		return;
	if (sysctl_was(e->sysctls, NF "max", &max)) {
		log_warning(e->log, "egress", NULL, "nf_conntrack_max cannot be read; it must be %ld or more",
			need);
		return;
	}
	if (max >= need || max == 0) /* 0: no limit */
		return;
	if (!sysctl_want(e->sysctls, NF "max", need)) {
		/* An entry a bucket, as the kernel has it by default; it rounds what is written up. */
		if (!sysctl_get(NF "buckets", &buckets))
			want(e, NF "buckets", buckets > need ? buckets : need, "look-ups get slower");
		return;
	}
	if (sysctl_get(NF "max", &max) || max >= need)
		return;
	log_warning(e->log, "egress", NULL,
		"nf_conntrack_max is %ld and cannot be raised to %ld: flows.max is lowered from %u to %u%s",
		max, need, *max_flows, flows_for(max),
		max_flows == &e->max_flows ? " with the next start" : "");
	*max_flows = flows_for(max);
}

/* ---- life ---------------------------------------------------------------------------------------------- */

static int find_interface(struct egress *e, const struct config *c, char *err, size_t errlen)
{
	if (strcmp(c->egress.interface, "auto") == 0) {
		/* At a reload the default route may be away for a moment: what was found stays. */
		if (hostnet_default_interface(e->interface, sizeof(e->interface)) && !e->interface[0]) {
			snprintf(err, errlen,
				"[egress] interface = auto: there is no default route to take it from; "
				"name the interface");
			return -ENODEV;
		}
		log_info(e->log, "egress", NULL, "interface %s, by the default route", e->interface);
	} else if (strlen(c->egress.interface) >= sizeof(e->interface) ||
		   !if_nametoindex(c->egress.interface)) {
		snprintf(err, errlen, "[egress] interface = %s: there is no such interface",
			c->egress.interface);
		return -ENODEV;
	} else {
		snprintf(e->interface, sizeof(e->interface), "%s", c->egress.interface);
	}
	if (!ruleset_name_ok(e->interface) || !ruleset_name_ok(c->gateway.tun)) {
		snprintf(err, errlen,
			"interface names %s, %s: only letters, digits and . _ - @ : + can be used",
			e->interface, c->gateway.tun);
		return -EINVAL;
	}
	snprintf(e->tun, sizeof(e->tun), "%s", c->gateway.tun);
	return 0;
}

static int load_rules(struct egress *e, const struct config *c, char *err, size_t errlen)
{
	struct ruleset r = {.conf = c, .interface = e->interface};
	int rc;

	r.forwarding4_is_ours = was_off(e, "ipv4", "forwarding");
	r.forwarding6_all = !has_force_forwarding();
	r.forwarding6_is_ours =
		e->have6 && was_off(e, "ipv6", r.forwarding6_all ? "forwarding" : "force_forwarding");
	rc = ruleset_load(&r, e->log, err, errlen);
	(void)watch_read(e->watch); /* what we took away ourselves */
	return rc;
}

/* Connections keep the translation, or none, that they began with. Where the rules now say otherwise they would be
 * dropped for as long as the branch sends, or their answers be taken for the machine's own. */
static void forget_untrue(struct egress *e, const struct config *c)
{
	int n = conntrack_forget_marked(c->egress.mark);

	if (n < 0)
		log_warning(e->log, "egress", NULL,
			"interface or nat changed, and connections of before cannot be deleted: %s",
			strerror(-n));
	else
		log_notice(e->log, "egress", NULL,
			"interface or nat changed: %d connections of before deleted", n);
}

/* Everything but what needs the TUN, for the interface that was found. */
static int apply(struct egress *e, const struct config *c, char *err, size_t errlen)
{
	char interface[IFNAMSIZ];
	bool nat, before = ruleset_egress(interface, &nat);
	int rc;

	rc = check_pool(c, e->log, err, errlen);
	if (rc)
		return rc;
	e->have6 = access("/proc/sys/net/ipv6", F_OK) == 0;
	if (!e->have6)
		log_notice(e->log, "egress", NULL, "this kernel has no IPv6: branches get IPv4 only");
	rc = policy_up(&c->egress, e->have6, err, errlen);
	if (rc < 0)
		return rc;
	rc = load_rules(e, c, err, errlen);
	if (rc)
		return rc;
	memset(e->nat_pool, 0, sizeof(e->nat_pool));
	if (c->egress.nat == NAT_POOL)
		memcpy(e->nat_pool, c->egress.nat_pool, sizeof(e->nat_pool));
	if (before && (nat != (c->egress.nat == NAT_MASQUERADE) || strcmp(interface, e->interface) != 0))
		forget_untrue(e, c);
	e->knows_dccp = access("/proc/sys/net/netfilter/nf_conntrack_dccp_loose", F_OK) == 0;
	sysctls_begin(e->sysctls);
	want_conntrack(e);
	want_timeouts(e, c);
	want_rp_filter(e);
	want_forwarding(e);
	check_underlay(c, e->log);
	return 0;
}

int egress_up(struct egress **out, const struct config *c, struct log *log, uint32_t *max_flows, char *err,
	size_t errlen)
{
	struct egress *e = calloc(1, sizeof(*e));
	int rc;

	if (!e) {
		snprintf(err, errlen, "out of memory");
		return -ENOMEM;
	}
	e->log = log;
	rc = ruleset_alone(c->gateway.tun, err, errlen);
	if (rc)
		goto fail;
	rc = sysctls_load(&e->sysctls, c->gateway.state_dir, log);
	if (rc) {
		snprintf(err, errlen, "%s/sysctl.saved: %s", c->gateway.state_dir, strerror(-rc));
		goto fail;
	}
	rc = conntrack_open(&e->conntrack);
	if (rc) {
		snprintf(err, errlen, "conntrack netlink: %s", strerror(-rc));
		goto fail;
	}
	rc = watch_open(&e->watch);
	if (rc) {
		snprintf(err, errlen, "nftables netlink: %s", strerror(-rc));
		goto fail;
	}
	rc = find_interface(e, c, err, errlen);
	if (!rc)
		rc = apply(e, c, err, errlen);
	if (rc)
		goto fail;
	check_size(e, c, max_flows);
	e->max_flows = *max_flows;
	sysctls_end(e->sysctls);
	counters_add(e->dropped, NULL); /* what an earlier run counted is not this one's */
	*out = e;
	return 0;
fail:
	egress_detach(e);
	return rc;
}

/* The TUN's own settings need no remembering: they go with it. */
static void set_tun(struct egress *e)
{
	static const struct {
		const char *family, *key;
		long value;
	} keys[] = {
		{"ipv4", "rp_filter", 0}, /* sources are routed elsewhere, or nowhere */
		{"ipv4", "forwarding", 1},
		{"ipv4", "send_redirects", 0},
		{"ipv4", "accept_redirects", 0},
		{"ipv4", "accept_source_route", 0},
		{"ipv6", "force_forwarding", 1},
		{"ipv6", "accept_redirects", 0},
		{"ipv6", "accept_source_route", 0},
	};
	char path[128];

	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
		int rc = sysctl_put(
			sysctl_conf(path, sizeof(path), keys[i].family, e->tun, keys[i].key), keys[i].value);

		if (rc && rc != -ENOENT) /* no IPv6; no force_forwarding before 6.17 */
			log_warning(e->log, "egress", NULL, "sysctl %s cannot be set to %ld: %s", path,
				keys[i].value, strerror(-rc));
	}
	if (sysctl_rp_filter(e->tun) != 0)
		log_warning(e->log, "egress", NULL,
			"%s: rp_filter is not off; the kernel drops what branches send, as martian", e->tun);
}

/* Whether the TUN has IPv6: it may be switched off on interfaces while the kernel has it. */
static bool tun_has6(const struct egress *e)
{
	char path[128];
	long off;

	if (!e->have6 || sysctl_get(sysctl_conf(path, sizeof(path), "ipv6", e->tun, "disable_ipv6"), &off))
		return false;
	if (off)
		log_notice(
			e->log, "egress", NULL, "IPv6 is switched off on %s: branches get IPv4 only", e->tun);
	return !off;
}

int egress_attach(struct egress *e, const struct config *c, char *err, size_t errlen)
{
	bool has6 = tun_has6(e);
	int rc;

	e->tun_has6 = has6;
	set_tun(e);
	rc = policy_attach(&c->egress, e->tun, has6, err, errlen);
	if (rc < 0)
		return rc;
	rc = policy_addresses(e->tun, e->tun_address, c->gateway.tun_address, has6, err, errlen);
	if (rc)
		return rc;
	memcpy(e->tun_address, c->gateway.tun_address, sizeof(e->tun_address));
	rc = policy_install_routes(c, e->tun, has6, e->log, err, errlen);
	if (rc)
		return rc;
	e->attached = true;
	return 0;
}

static int change(struct egress *e, const struct config *c, char *err, size_t errlen)
{
	int rc = apply(e, c, err, errlen);

	if (rc)
		return rc;
	check_size(e, c, &e->max_flows); /* unless it was lowered at start */
	sysctls_end(e->sysctls);
	return e->attached ? egress_attach(e, c, err, errlen) : 0;
}

int egress_reload(
	struct egress *e, const struct config *before, const struct config *c, char *err, size_t errlen)
{
	char interface[IFNAMSIZ], again[256];
	int rc;

	memcpy(interface, e->interface, sizeof(interface));
	rc = find_interface(e, c, err, errlen);
	if (!rc)
		rc = change(e, c, err, errlen);
	if (!rc)
		return 0;
	/* Some of it may be done, and the configuration of before stays in use. */
	memcpy(e->interface, interface, sizeof(interface));
	if (change(e, before, again, sizeof(again)))
		log_warning(e->log, "egress", NULL, "putting back what was before: %s", again);
	return rc;
}

/* ---- what others took away ----------------------------------------------------------------------------- */

int egress_fd(const struct egress *e)
{
	return mnl_socket_get_fd(e->watch);
}

static void trouble(struct egress *e, uint64_t now_ms, const char *what, const char *err)
{
	log_limited(e->log, &e->troubles, now_ms, LOG_LEVEL_ERROR, "egress", NULL,
		"%s were taken away by somebody, and cannot be put back: %s", what, err);
}

static void mend_rules(struct egress *e, const struct config *c, uint64_t now_ms)
{
	char err[256];

	e->rules_missing = load_rules(e, c, err, sizeof(err)) != 0;
	if (e->rules_missing)
		trouble(e, now_ms, "nftables rules", err);
	else
		log_warning(e->log, "egress", NULL,
			"rules of the nftables table inet arrd were taken away by somebody, and are put "
			"back");
}

void egress_read(struct egress *e, const struct config *c, uint64_t now_ms)
{
	if (watch_read(e->watch))
		mend_rules(e, c, now_ms);
}

void egress_mend(struct egress *e, const struct config *c, uint64_t now_ms)
{
	char err[256];
	int missing, more = 0;

	if (e->rules_missing)
		mend_rules(e, c, now_ms);
	missing = policy_up(&c->egress, e->have6, err, sizeof(err));
	if (missing >= 0 && e->attached)
		more = policy_attach(&c->egress, e->tun, e->tun_has6, err, sizeof(err));
	if (missing < 0 || more < 0)
		trouble(e, now_ms, "policy rules or routes", err);
	else if (missing || more)
		log_warning(e->log, "egress", NULL,
			"policy rules or routes of table %u were taken away by somebody, and are put back",
			c->egress.table);
}

void egress_count_drops(struct egress *e, uint64_t drops[static DROP_COUNT])
{
	counters_add(e->dropped, drops);
}

const char *egress_interface(const struct egress *e)
{
	return e->interface;
}

void egress_detach(struct egress *e)
{
	if (!e)
		return;
	conntrack_close(e->conntrack);
	if (e->watch)
		mnl_socket_close(e->watch);
	sysctls_free(e->sysctls);
	free(e);
}

/* ---- connections --------------------------------------------------------------------------------------- */

void egress_forget(struct egress *e, const struct tuple *orig)
{
	conntrack_forget(e->conntrack, orig, EGRESS_ZONE);
}

void egress_forget_outside(struct egress *e, const struct tuple *orig)
{
	conntrack_forget(e->conntrack, orig, 0);
}

bool egress_knows_dccp(const struct egress *e)
{
	return e->knows_dccp;
}

bool egress_tracked(const struct egress *e, const struct addr *src)
{
	return !addr_range_has(&e->nat_pool[!addr_is4(src)], src);
}

void egress_flush(struct egress *e)
{
	conntrack_flush(e->conntrack);
}
