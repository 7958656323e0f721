/* SPDX-License-Identifier: GPL-2.0-or-later */
/* gateway.c - the gateway's life: start, reload, stop, and its clock.
 *
 * The order of the start is a matter of safety. Marks, policy rules and the blackhole come first: while the
 * TUN does not exist, a reply of a flow of before must not fall to the machine's own networks. Then the flow
 * table: a fresh one means that nobody knows whose the kernel's connections are, so they are deleted before
 * traffic is accepted. The TUN and the sockets come last.
 */
#include "gateway/gateway.h"

#include "gateway/control.h"
#include "gateway/egress.h"
#include "gateway/flow_events.h"
#include "gateway/hostnet.h"
#include "gateway/ipsec.h"
#include "gateway/path.h"
#include "gateway/tun.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define TICK_MS 100

uint64_t gateway_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_BOOTTIME, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

/* ---- start ------------------------------------------------------------------------------------------- */

int gateway_lock(const char *dir, char *err, size_t errlen)
{
	char path[4096];
	int fd, r;

	if (mkdir(dir, 0755) < 0 && errno != EEXIST) {
		r = -errno;
		snprintf(err, errlen, "state_dir %s: %s", dir, strerror(-r));
		return r;
	}
	snprintf(path, sizeof(path), "%s/lock", dir);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0) {
		r = -errno;
		snprintf(err, errlen, "%s: %s", path, strerror(-r));
		return r;
	}
	if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		close(fd);
		snprintf(err, errlen, "%s: another arrd runs with this state_dir", dir);
		return -EBUSY;
	}
	return fd;
}

/* The boot's own id: an arena of another boot has another clock. */
static int read_boot_id(uint8_t id[16])
{
	char text[64] = "";
	FILE *f = fopen("/proc/sys/kernel/random/boot_id", "re");
	size_t n = 0;

	if (!f)
		return -errno;
	if (!fgets(text, sizeof(text), f))
		text[0] = 0;
	fclose(f);
	for (const char *c = text; *c && n < 32; c++) {
		int v = *c >= '0' && *c <= '9' ? *c - '0' : *c >= 'a' && *c <= 'f' ? *c - 'a' + 10 : -1;

		if (v < 0)
			continue;
		id[n / 2] = (uint8_t)(n % 2 ? id[n / 2] | v : v << 4);
		n++;
	}
	return n == 32 ? 0 : -EINVAL;
}

static void flow_config(const struct config *c, struct fs_config *f)
{
	f->max = c->flows.max;
	f->max_per_site = c->flows.max_per_site;
	f->max_new_per_site = c->flows.max_new_per_site;
	memcpy(f->timeout_s, c->flows.timeout_s, sizeof(f->timeout_s));
	f->tcp_loose = c->flows.tcp_loose;
	f->pool4 = c->egress.overlap_pool4;
	f->pool6 = c->egress.overlap_pool6;
	f->nat = c->egress.nat == NAT_NONE   ? FS_NAT_NONE
		 : c->egress.nat == NAT_POOL ? FS_NAT_POOL
					     : FS_NAT_KERNEL;
	memcpy(f->nat_pool, c->egress.nat_pool, sizeof(f->nat_pool));
	f->nat_share = c->egress.nat_share;
}

static void on_end(void *arg, uint32_t flow, bool at_once)
{
	struct gateway *gw = arg;
	struct fs_half h[2];

	/* A packet of it that waits to be written would make the kernel's entry anew. */
	path_write_joined(gw->path);
	fs_half(gw->fs, flow, FS_ORIG, &h[0]);
	fs_half(gw->fs, flow, FS_REPLY, &h[1]);
	/* What conntrack calls original is the first packet as the TUN showed it. */
	if (h[1].realm == gw->egress_id && egress_tracked(gw->egress, &h[1].t.dst)) {
		struct tuple t = tuple_turned(&h[1].t);

		egress_forget(gw->egress, &t);
	} else if (h[0].realm == gw->egress_id) {
		egress_forget_outside(gw->egress, &h[0].t);
	}
	if (at_once)
		egress_flush(gw->egress);
}

static int open_flows(struct gateway *gw, uint32_t max, char *err, size_t errlen)
{
	char path[4096];
	struct fs_config f = {.path = path, .nshards = 1};
	struct fs_open_report rep = {0};
	int r;

	flow_config(gw->conf, &f);
	f.max = max;
	snprintf(path, sizeof(path), "%s/flows", gw->conf->gateway.state_dir);
	r = read_boot_id(f.boot_id);
	if (r == 0)
		r = fs_open(&gw->fs, &f, gateway_now(), &rep);
	if (r < 0) {
		snprintf(err, errlen, "flow table %s: %s", path, strerror(-r));
		return r;
	}
	if (rep.kind == FS_OPEN_ADOPTED)
		log_notice(gw->log, "flows", NULL,
			"%u flows of before the start taken over, %u torn records dropped%s%s", rep.flows,
			rep.torn, rep.why[0] ? "; " : "", rep.why);
	if (rep.kind == FS_OPEN_REFUSED)
		log_warning(gw->log, "flows", NULL, "%s cannot be used, begun anew: %s", path, rep.why);
	/* Nobody knows whose these are any more. A kill leaves one torn record at most. */
	if (rep.kind != FS_OPEN_ADOPTED || rep.torn > 1 || rep.damaged) {
		r = egress_forget_all(&gw->conf->egress);
		if (r < 0) {
			snprintf(err, errlen, "cannot delete the conntrack entries of an earlier run: %s",
				strerror(-r));
			return r;
		}
		if (r > 0)
			log_notice(
				gw->log, "flows", NULL, "%d conntrack entries of an earlier run deleted", r);
	}
	fs_on_end(gw->fs, on_end, gw);
	return flow_events_open(&gw->events, gw);
}

static void on_behind(uv_idle_t *h);

/* A million flows may be due in one second. They end in small pieces, one each turn of the loop, so that no packet
 * waits for more than one of them; without packets the turns follow at once. */
static void tick_flows(struct gateway *gw)
{
	fs_tick(gw->fs, gateway_now(), FS_TICK_BUDGET);
	egress_flush(gw->egress);
	if (fs_behind(gw->fs))
		uv_idle_start(&gw->behind, on_behind);
	else
		uv_idle_stop(&gw->behind);
}

static void on_behind(uv_idle_t *h)
{
	tick_flows(h->data);
}

static void on_tick(uv_timer_t *h)
{
	struct gateway *gw = h->data;

	tick_flows(gw);
	path_tick(gw->path);
	if (gw->ipsec)
		ipsec_tick(gw->ipsec);
	if (++gw->ticks % (1000 / TICK_MS) == 0) {
		path_second(gw->path);
		if (gw->ipsec)
			ipsec_second(gw->ipsec);
		egress_count_drops(gw->egress, gw->count.drops);
		egress_mend(gw->egress, gw->conf, gateway_now());
	}
}

static void on_hostnet(uv_poll_t *h, int status, int events)
{
	struct gateway *gw = h->data;

	(void)status;
	(void)events;
	if (hostnet_read(gw->hostnet))
		log_debug(gw->log, "gateway", NULL, "addresses of the machine changed");
	if (status < 0)
		uv_poll_start(h, UV_READABLE, on_hostnet);
}

static void on_egress(uv_poll_t *h, int status, int events)
{
	struct gateway *gw = h->data;

	(void)events;
	egress_read(gw->egress, gw->conf, gateway_now());
	if (status < 0) /* events were lost, and uv_poll stops at that */
		uv_poll_start(h, UV_READABLE, on_egress);
}

static int start_loop_handles(struct gateway *gw)
{
	int r;

	uv_timer_init(gw->loop, &gw->tick);
	uv_idle_init(gw->loop, &gw->behind);
	gw->tick.data = gw->behind.data = gw->hostnet_poll.data = gw->egress_poll.data = gw;
	r = uv_poll_init(gw->loop, &gw->hostnet_poll, hostnet_fd(gw->hostnet));
	if (r < 0) {
		uv_close((uv_handle_t *)&gw->tick, NULL);
		uv_close((uv_handle_t *)&gw->behind, NULL);
		return r;
	}
	r = uv_poll_init(gw->loop, &gw->egress_poll, egress_fd(gw->egress));
	if (r < 0) {
		uv_close((uv_handle_t *)&gw->tick, NULL);
		uv_close((uv_handle_t *)&gw->behind, NULL);
		uv_close((uv_handle_t *)&gw->hostnet_poll, NULL);
		return r;
	}
	gw->handles = true;
	r = uv_timer_start(&gw->tick, on_tick, TICK_MS, TICK_MS);
	if (r == 0)
		r = uv_poll_start(&gw->hostnet_poll, UV_READABLE, on_hostnet);
	if (r == 0)
		r = uv_poll_start(&gw->egress_poll, UV_READABLE, on_egress);
	return r;
}

static int start_tunnels(struct gateway *gw, char *err, size_t errlen)
{
	struct path_tables *tables = NULL;
	int r = tunnels_new(&gw->tunnels, gw->conf, NULL);

	if (r == 0)
		r = path_prepare(gw->path, gw->tunnels, gw->conf, &tables, err, errlen);
	if (r < 0)
		return r;
	r = tunnels_commit(gw->tunnels, NULL, gw->fs);
	if (r < 0) {
		path_abandon(tables);
		return r;
	}
	fs_unbind_rest(gw->fs);
	path_commit(gw->path, tables);
	return 0;
}

static bool needs_ipsec(const struct config *c)
{
	for (size_t i = 0; i < c->ntunnels; i++)
		if (c->tunnels[i].type == TUNNEL_IPSEC)
			return true;
	return false;
}

/* Opens IPsec if c needs it and it is not there yet. */
static int open_ipsec(struct gateway *gw, const struct config *c, char *err, size_t errlen)
{
	int r;

	if (gw->ipsec || !needs_ipsec(c))
		return 0;
	r = ipsec_open(&gw->ipsec, gw, err, errlen);
	if (r < 0) {
		ipsec_close(gw->ipsec);
		gw->ipsec = NULL;
	}
	return r;
}

int gateway_start(
	struct gateway **out, uv_loop_t *loop, struct config *conf, struct log *log, char *err, size_t errlen)
{
	const struct conf_gateway *g = &conf->gateway;
	struct vnet_offloads want = {g->offload_tso4, g->offload_tso6, g->offload_uso, g->offload_checksum};
	struct gateway *gw = calloc(1, sizeof(*gw));
	uint32_t max = conf->flows.max;
	struct tun *tun = NULL;
	int r;

	err[0] = 0;
	if (!gw) {
		config_free(conf);
		return -ENOMEM;
	}
	gw->loop = loop;
	gw->log = log;
	gw->conf = conf;
	gw->lock_fd = -1;
	gw->started_ms = gw->reloaded_ms = gateway_now();

	r = gw->lock_fd = gateway_lock(g->state_dir, err, errlen);
	/* Still down, and only to find out that nobody else has it before anything of his is changed. */
	if (r >= 0)
		r = tun_open(&tun, g->tun, g->tun_mtu, &want, log, err, errlen);
	if (r == 0)
		r = egress_up(&gw->egress, conf, log, &max, err, errlen);
	if (r == 0)
		r = open_flows(gw, max, err, errlen);
	if (r < 0)
		goto fail;
	gw->nat_knows_dccp = egress_knows_dccp(gw->egress);
	gw->egress_id = fs_bind(gw->fs, FS_EGRESS, "default", FS_ID_NONE, 0);
	if (gw->egress_id == FS_ID_NONE) {
		r = -ENOSPC;
		goto fail;
	}
	r = hostnet_open(&gw->hostnet, g->tun, log);
	if (r == 0) {
		(void)egress_quiet_tun(conf); /* without it the kernel's own chatter is counted, no more */
		r = tun_up(tun);
	}
	if (r == 0)
		r = egress_attach(gw->egress, conf, err, errlen);
	if (r == 0)
		r = path_open(&gw->path, gw, tun, err, errlen);
	if (r < 0)
		goto fail;
	tun = NULL;
	r = start_tunnels(gw, err, errlen);
	if (r == 0)
		r = open_ipsec(gw, conf, err, errlen);
	if (r == 0 && gw->ipsec)
		ipsec_enter(gw->ipsec);
	if (r == 0)
		r = start_loop_handles(gw);
	if (r == 0)
		r = control_open(&gw->control, gw);
	if (r < 0)
		goto fail;
	*out = gw;
	return 0;
fail:
	if (!err[0])
		snprintf(err, errlen, "%s", strerror(-r));
	tun_close(tun);
	gateway_stop(gw);
	return r;
}

void gateway_stop(struct gateway *gw)
{
	if (gw->control)
		control_close(gw->control);
	ipsec_close(gw->ipsec);
	gw->ipsec = NULL;
	if (gw->path)
		path_close(gw->path);
	if (gw->handles) {
		uv_close((uv_handle_t *)&gw->tick, NULL);
		uv_close((uv_handle_t *)&gw->behind, NULL);
		uv_close((uv_handle_t *)&gw->hostnet_poll, NULL);
		uv_close((uv_handle_t *)&gw->egress_poll, NULL);
	}
	uv_run(gw->loop, UV_RUN_DEFAULT);
	path_free(gw->path);
	flow_events_close(gw->events);
	if (gw->fs)
		fs_close(gw->fs);
	tunnels_free(gw->tunnels);
	if (gw->hostnet)
		hostnet_close(gw->hostnet);
	if (gw->egress) {
		egress_flush(gw->egress);
		egress_detach(gw->egress);
	}
	if (gw->lock_fd >= 0)
		close(gw->lock_fd);
	config_free(gw->conf);
	free(gw);
}

/* ---- reload ------------------------------------------------------------------------------------------ */

static int refuse(struct gateway *gw, char **errors, int r, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));

static int refuse(struct gateway *gw, char **errors, int r, const char *fmt, ...)
{
	char text[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	gw->failed_reloads++;
	log_error(gw->log, "config", NULL, "not reloaded, everything stays as it was: %s", text);
	if (errors)
		*errors = strdup(text);
	return r;
}

/* Everything that can fail, before anything is changed. */
static int prepare(
	struct gateway *gw, struct config *c, struct tunnels **t, struct path_tables **tables, char **errors)
{
	char err[512] = "";
	int r = tunnels_new(t, c, gw->tunnels);

	if (r < 0)
		return refuse(gw, errors, r, "%s", strerror(-r));
	r = path_prepare(gw->path, *t, c, tables, err, sizeof(err));
	if (r < 0) {
		tunnels_free(*t);
		return refuse(gw, errors, r, "%s", err);
	}
	r = open_ipsec(gw, c, err, sizeof(err));
	if (r < 0) {
		path_abandon(*tables);
		tunnels_free(*t);
		return refuse(gw, errors, r, "%s", err);
	}
	r = egress_reload(gw->egress, gw->conf, c, err, sizeof(err));
	if (r < 0) {
		path_abandon(*tables);
		tunnels_free(*t);
		return refuse(gw, errors, r, "%s", err);
	}
	return 0;
}

int gateway_reload(struct gateway *gw, char **errors)
{
	struct path_tables *tables = NULL;
	struct fs_config f = {0};
	struct tunnels *t;
	struct config *c;
	char fixed[512], *text = NULL;
	int r;

	if (errors)
		*errors = NULL;
	r = config_load(gw->conf->path, &c, &text);
	if (r < 0) {
		gw->failed_reloads++;
		log_error(gw->log, "config", NULL, "not reloaded, everything stays as it was");
		log_lines(gw->log, LOG_LEVEL_ERROR, "config", NULL, text ? text : strerror(-r));
		if (errors)
			*errors = text;
		else
			free(text);
		return r;
	}
	if (config_fixed_changes(gw->conf, c, fixed, sizeof(fixed)) > 0) {
		config_free(c);
		return refuse(gw, errors, -EINVAL, "these options change only with a restart: %s", fixed);
	}
	r = prepare(gw, c, &t, &tables, errors);
	if (r < 0) {
		config_free(c);
		return r;
	}

	gw->nat_knows_dccp = egress_knows_dccp(gw->egress);
	flow_config(c, &f);
	fs_reconfigure(gw->fs, &f);
	if (gw->ipsec)
		ipsec_leave(gw->ipsec, gw->tunnels, t, c);
	r = tunnels_commit(t, gw->tunnels, gw->fs);
	if (r < 0) /* no slots left for names: such tunnels have no id, and no packet finds a way to them */
		log_error(gw->log, "tunnels", NULL,
			"some stay down: their names find no room in the flow table beside those of tunnels "
			"and sites "
			"that went away, while these have flows; reload again when those have ended");
	tunnels_free(gw->tunnels);
	gw->tunnels = t;
	path_commit(gw->path, tables);
	log_set_level(gw->log, c->gateway.log_level);
	flow_events_level(gw->events);
	if (gw->ipsec && c->gateway.log_level != gw->conf->gateway.log_level)
		ipsec_log_level(gw->ipsec, c->gateway.log_level);
	config_free(gw->conf);
	gw->conf = c;
	if (gw->ipsec)
		ipsec_enter(gw->ipsec);
	if (c->warnings)
		log_lines(gw->log, LOG_LEVEL_WARNING, "config", NULL, c->warnings);
	gw->reloads++;
	gw->reloaded_ms = gateway_now();
	log_notice(gw->log, "config", NULL, "reloaded: %u tunnels", tunnels_count(t));
	return 0;
}

#define FLUSH_PIECE 64

bool gateway_flush(struct gateway *gw, fs_id tunnel, fs_id site, uint32_t *cursor, uint32_t *ended)
{
	uint32_t flow, last = *cursor + FLUSH_PIECE;
	uint64_t now = gateway_now();
	struct fs_info info;
	int found = 0;

	while (*cursor < last && (found = fs_next(gw->fs, cursor, last - *cursor, &flow, &info)) == 1) {
		bool hit = tunnel == FS_ID_NONE && site == FS_ID_NONE;

		if (info.state == FS_QUARANTINE)
			continue;
		for (int h = 0; h < 2 && !hit; h++)
			hit = (tunnel != FS_ID_NONE && info.half[h].via == tunnel) ||
			      (site != FS_ID_NONE && info.half[h].realm == site);
		if (!hit)
			continue;
		fs_end(gw->fs, flow, now);
		++*ended;
	}
	egress_flush(gw->egress);
	return found >= 0;
}
