/* SPDX-License-Identifier: GPL-2.0-or-later */
/* egress_private.h - the parts of egress.c: sysctls, nftables, rules and routes. For egress*.c and their
 * tests.
 */
#ifndef ARRD_EGRESS_PRIVATE_H
#define ARRD_EGRESS_PRIVATE_H

#include "gateway/base/drop.h"
#include "gateway/base/log.h"
#include "gateway/config.h"

#include <net/if.h>

/* Branches' tuples live in a conntrack zone of their own (egress_nft.c says why). */
#define EGRESS_ZONE 2628

/* Metric of install_routes: behind every route of the machine's own, so that none is displaced. */
#define EGRESS_ROUTE_METRIC 4096

/* ---- egress_sysctl.c: values below /proc/sys, remembered before they are changed ----------------------- */

/* Paths are relative to /proc/sys, with slashes: net/ipv4/conf/eth0/forwarding. */
struct sysctls;

/* Reads what an earlier run of this boot and network namespace remembered in DIR/sysctl.saved; a file of
 * another boot or namespace counts for nothing. Returns 0 or -errno. */
int sysctls_load(struct sysctls **out, const char *dir, struct log *log);
void sysctls_free(struct sysctls *s);

/* The present value; -errno when it cannot be read (-ENOENT: this kernel does not have it). */
int sysctl_get(const char *path, long *value);

/* Writes without remembering: for what goes away with its device. Returns 0 or -errno. */
int sysctl_put(const char *path, long value);

/* The path of an interface's setting, in buf (128 octets are enough); family is ipv4 or ipv6. */
const char *sysctl_conf(char *buf, size_t len, const char *family, const char *interface, const char *key);

/* The reverse path filter that an interface has now: its own or that of "all", whichever is greater. */
long sysctl_rp_filter(const char *interface);

/* The value before arrd came: the remembered one, else the present one. */
int sysctl_was(const struct sysctls *s, const char *path, long *value);

/* Remembers the present value without changing it: for what another sysctl changes along. */
int sysctl_keep(struct sysctls *s, const char *path);

/* Wants path to have value: remembers (on disk, before anything is changed) and writes. Returns 0 or -errno. */
int sysctl_want(struct sysctls *s, const char *path, long value);

/* Between these two calls every value is wanted again; what is remembered and was not wanted is given back. */
void sysctls_begin(struct sysctls *s);
void sysctls_end(struct sysctls *s);

/* Gives everything back, last changed first, and removes the file. */
void sysctls_restore(struct sysctls *s);

/* ---- egress_check.c: what does not go with the configuration ---------------------------------------------- */

/* Logs what may keep branches from being heard. */
void check_underlay(const struct config *c, struct log *log);
/* The addresses of arrd's own NAT: none may be the machine's own (-EINVAL with err), and they should not be on a
 * network that it is connected to, which is logged. */
int check_pool(const struct config *c, struct log *log, char *err, size_t errlen);

/* ---- egress_nft.c: the table inet arrd ----------------------------------------------------------------- */

struct ruleset {
	const struct config *conf;
	const char *interface;    /* of the egress, never "auto" */
	bool forwarding4_is_ours; /* arrd switched IPv4 forwarding on, on that interface */
	bool forwarding6_is_ours; /* arrd switched IPv6 forwarding on */
	bool forwarding6_all;     /* ... and the kernel has only one switch for all interfaces */
	bool timeouts;            /* conntrack timeouts of the flows' own */
	bool replace;             /* delete the table first, instead of emptying its chains */
};

/* The ruleset as text for nft -f, one transaction. To be freed by the caller; NULL: out of memory. */
char *ruleset_text(const struct ruleset *r);

/* Loads it; tries less where the kernel cannot do all, and logs that. Returns 0, or -errno with err. */
int ruleset_load(struct ruleset *r, struct log *log, char *err, size_t errlen);

/* The TUN that the table was loaded for, if there is a table. */
bool ruleset_owner(char tun[static IFNAMSIZ]);

/* The egress interface that the table was loaded for, and whether it translates; false if there is no table. */
bool ruleset_egress(char interface[static IFNAMSIZ], bool *nat);

/* Deletes the table if it is there. Returns 0 or -errno. */
int ruleset_unload(void);

/* Whether no other arrd uses the table, the mark and the routing table, which are one of each in a network
 * namespace. own: our TUN, which is no other's; NULL: none is. Returns 0, or -EBUSY or another -errno with err. */
int ruleset_alone(const char *own, char *err, size_t errlen);

/* Whether a name can stand in a ruleset: an interface name may hold quotes and wildcards. */
bool ruleset_name_ok(const char *name);

/* ---- egress_watch.c: what others do to the table ------------------------------------------------------- */

struct mnl_socket;

/* A socket that hears of changes; to be closed by mnl_socket_close(). Returns 0 or -errno. */
int watch_open(struct mnl_socket **out);

/* Reads what is waiting, without blocking. Whether something of our table was taken away, by us or others. */
bool watch_read(struct mnl_socket *s);

/* ---- egress_counters.c ---------------------------------------------------------------------------------- */

/* Adds to drops (may be NULL) what the table's rules dropped since seen was filled by the last call. Where the
 * counters cannot be read nothing changes. */
void counters_add(uint64_t seen[static DROP_COUNT], uint64_t *drops);

/* ---- egress_netlink.c: policy rules, routes, addresses ------------------------------------------------- */

/* The blackhole routes of the table and, after them, the policy rules. Removes rules of other settings, and before
 * that the connections that carry their mark. IPv6 only if have6. Returns 1 if anything was missing, 0 if all was
 * there, or -errno with err. */
int policy_up(const struct conf_egress *c, bool have6, char *err, size_t errlen);

/* default dev TUN in the table. Returns as policy_up() does. */
int policy_attach(const struct conf_egress *c, const char *tun, bool have6, char *err, size_t errlen);

/* The routes of tunnels with install_routes by tun in the main table; removes those of ours that are no
 * longer wanted. */
int policy_install_routes(
	const struct config *c, const char *tun, bool have6, struct log *log, char *err, size_t errlen);

/* Gives tun the addresses now, takes before's away that are not among them. Either may hold "none". */
int policy_addresses(const char *tun, const struct conf_ifaddr before[2], const struct conf_ifaddr now[2],
	bool have6, char *err, size_t errlen);

/* Removes rules and routes of every run. Returns 0 or the first -errno. */
int policy_down(void);

#endif
