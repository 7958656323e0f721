/* SPDX-License-Identifier: GPL-2.0-or-later */
/* gateway.h - the context that everything of the process hangs off. */
#ifndef ARRD_GATEWAY_H
#define ARRD_GATEWAY_H

#include "flowstate/flowstate.h"
#include "gateway/base/log.h"
#include "gateway/config.h"
#include "gateway/tunnel.h"

#include <uv.h>

#define ARRD_VERSION "0.1.0"

struct control;
struct egress;
struct flow_events;
struct hostnet;
struct ipsec;
struct path;
struct tunnels;

struct gateway {
	uv_loop_t *loop;
	struct log *log;
	struct config *conf;
	struct flowstate *fs;
	fs_id egress_id;     /* realm and attachment of the one egress */
	bool nat_knows_dccp; /* the kernel's, if that is what egress.nat says */
	struct egress *egress;
	struct hostnet *hostnet;
	struct tunnels *tunnels;
	struct path *path;   /* the packet path: sockets, TUN, batches */
	struct ipsec *ipsec; /* NULL until there is a tunnel that needs it */
	struct control *control;
	struct flow_events *events; /* of flows: for the log, and for those who follow */
	struct counters
		count; /* what belongs to no tunnel: unknown senders, packets from the TUN without a flow */
	uint64_t started_ms;  /* CLOCK_BOOTTIME */
	uint64_t reloaded_ms; /* of the last good load */
	uint32_t reloads, failed_reloads;
	bool failed; /* the loop was ended by something that cannot be mended while running */
	uv_timer_t tick;
	uv_idle_t behind; /* runs while more flows are due than one tick takes */
	uint32_t ticks;
	uv_poll_t hostnet_poll, egress_poll;
	bool handles; /* these four are open */
	int lock_fd;  /* held on state_dir: one arrd each */
};

/* Milliseconds of CLOCK_BOOTTIME: the clock of everything that the arena outlives. */
uint64_t gateway_now(void);

/* Makes state_dir and takes the lock on it, which says that an arrd is there: as long as the descriptor is open. Returns
 * the descriptor; -EBUSY when somebody has the lock, or another -errno; a message is in err. */
int gateway_lock(const char *state_dir, char *err, size_t errlen);

/* Builds the whole gateway around conf (which becomes its own) on loop, from the kernel's rules to the
 * control socket; nothing is forwarded before everything stands. Returns 0, or -errno with a message in err.
 */
int gateway_start(struct gateway **out, uv_loop_t *loop, struct config *conf, struct log *log, char *err,
	size_t errlen);

/* Takes it down again, and runs the loop until its handles are closed. Flows stay in the arena, rules and
 * blackhole in the kernel, for the next start. */
void gateway_stop(struct gateway *gw);

/* Loads the configuration anew and applies the difference; on an error everything stays as it is. errors (may
 * be NULL) takes a text for the operator, to be freed by the caller. Returns 0 or -errno. */
int gateway_reload(struct gateway *gw, char **errors);

/* Ends flows of one tunnel, of one site, or of all (both FS_ID_NONE), a piece at a time: looks at a few records from *cursor
 * on (0 to begin), moves it behind them, and adds to *ended how many flows have ended. Returns whether there are more. */
bool gateway_flush(struct gateway *gw, fs_id tunnel, fs_id site, uint32_t *cursor, uint32_t *ended);

#endif
