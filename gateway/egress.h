/* SPDX-License-Identifier: GPL-2.0-or-later */
/* egress.h - what arrd asks of the kernel around the TUN device: nftables table `inet arrd`, policy rules, a
 * routing table, sysctls, conntrack.
 *
 * Life: egress_up() before the TUN exists (marks and blackhole first, so that no reply can fall to the VM's
 * own LAN), egress_attach() when the TUN is there, egress_detach() at a stop that will be followed by a
 * start: rules, marks and blackhole stay; egress_cleanup() at the final stop (arrd --cleanup): conntrack
 * entries first, then everything else. Needs CAP_NET_ADMIN. All calls may block for milliseconds: start, stop
 * and reload only, but for egress_forget().
 */
#ifndef ARRD_EGRESS_H
#define ARRD_EGRESS_H

#include "gateway/base/drop.h"
#include "gateway/base/log.h"
#include "gateway/config.h"

struct egress;

/* Puts rules, table and blackhole in place (or replaces those of an earlier run, in one transaction), sets
 * and remembers sysctls, checks what it cannot set (rp_filter, conntrack limits) and logs what it found.
 * Raises nf_conntrack_max to flows.max with headroom, or, where it cannot, lowers *max_flows and says so.
 * Returns 0, or -errno with a message in err. */
int egress_up(struct egress **out, const struct config *c, struct log *log, uint32_t *max_flows, char *err,
	size_t errlen);

/* The TUN exists and is still down: keeps the kernel from giving it a link-local address and soliciting routers on
 * it. Returns 0 or -errno; a failure does no harm. */
int egress_quiet_tun(const struct config *c);

/* The TUN exists and is up: routes by it, its sysctls, gateway.tun_address, install_routes of all tunnels. */
int egress_attach(struct egress *e, const struct config *c, char *err, size_t errlen);

/* After a reload: the new configuration's rules, in one transaction, and routes. Returns 0, or -errno with err; then
 * the rules and routes of before, the configuration in use, are in place again. */
int egress_reload(
	struct egress *e, const struct config *before, const struct config *c, char *err, size_t errlen);

/* Other programs may take away what is ours: `nft flush ruleset`, a network manager that removes rules and routes
 * which it did not make. egress_fd() is readable when nftables rules were changed; egress_read() then puts ours back
 * where they are missing. egress_mend() does the same for policy rules and routes, in 100 µs, to be called each
 * second. What cannot be put back is logged, and tried again by egress_mend(). now_ms as for log_limited(). */
int egress_fd(const struct egress *e);
void egress_read(struct egress *e, const struct config *c, uint64_t now_ms);
void egress_mend(struct egress *e, const struct config *c, uint64_t now_ms);

/* Adds what the rules dropped since the last call. Microseconds; about once a second. */
void egress_count_drops(struct egress *e, uint64_t drops[static DROP_COUNT]);

/* The interface in use, also where the configuration says auto. */
const char *egress_interface(const struct egress *e);

/* Frees; leaves the kernel's state for the next start. */
void egress_detach(struct egress *e);

/* Deletes every conntrack entry that carries our mark. Returns their number or -errno. */
int egress_forget_all(const struct conf_egress *c);

/* Deletes the conntrack entry of a flow that a branch began, by its original tuple as the kernel sees it
 * (source as sent to the TUN); egress_forget_outside: that of a flow that began outside. Queued, and sent in
 * batches by egress_flush(). */
void egress_forget(struct egress *e, const struct tuple *orig);
void egress_forget_outside(struct egress *e, const struct tuple *orig);
void egress_flush(struct egress *e);
/* Whether the kernel's NAT knows DCCP: Linux 6.16 and later change its addresses, and nothing else. */
bool egress_knows_dccp(const struct egress *e);
/* Whether the kernel tracks connections of such a source, as sent to the TUN: not those of arrd's own NAT. */
bool egress_tracked(const struct egress *e, const struct addr *src);

/* arrd --cleanup: removes everything that any run left behind. Returns 0 or -errno. */
int egress_cleanup(const struct config *c, struct log *log);

#endif
