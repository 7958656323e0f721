/* SPDX-License-Identifier: GPL-2.0-or-later */
/* control_follow.c - flows with follow: true: what happens to flows, a line an event, until somebody has enough.
 *
 * The lines are made of the ring (flow_events.c) when the client has its turn, a page's worth at once, by the same clock
 * as a page of a listing. A name in the filter is looked up anew for each page, since a follower may outlive many
 * a reload.
 */
#include "gateway/control_private.h"
#include "gateway/flow_events.h"
#include "gateway/gateway.h"

#include <errno.h>
#include <time.h>
#include <uv.h>

static uint64_t wall_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static char *two(char *p, int n)
{
	*p++ = (char)('0' + n / 10 % 10);
	*p++ = (char)('0' + n % 10);
	return p;
}

/* As of RFC 3339, UTC: 2026-01-31T12:00:00.123Z. By hand: there are three in a line, and printf would be half of the
 * cost of it. */
static void put_time(struct jsonw *w, const char *key, uint64_t ms)
{
	time_t s = (time_t)(ms / 1000);
	int milli = (int)(ms % 1000);
	char text[32], *p = text;
	struct tm tm;

	gmtime_r(&s, &tm);
	p = two(two(p, (tm.tm_year + 1900) / 100), tm.tm_year + 1900);
	*p++ = '-';
	p = two(p, tm.tm_mon + 1);
	*p++ = '-';
	p = two(p, tm.tm_mday);
	*p++ = 'T';
	p = two(p, tm.tm_hour);
	*p++ = ':';
	p = two(p, tm.tm_min);
	*p++ = ':';
	p = two(p, tm.tm_sec);
	*p++ = '.';
	*p++ = (char)('0' + milli / 100);
	p = two(p, milli);
	*p++ = 'Z';
	*p = '\0';
	jw_str(w, key, text);
}

static void line_begin(const struct control_request *r, struct jsonw *w, const char *event, uint64_t time_ms)
{
	if (w->len)
		jw_octet(w, '\n');
	control_answer_begin(r, w);
	jw_str(w, "event", event);
	put_time(w, "time", time_ms);
}

/* boot_ms: what is to be added to the flow table's times to get those of the calendar. */
static void put_event(
	const struct control_request *r, struct jsonw *w, const struct flow_event *ev, uint64_t boot_ms)
{
	static const char *const kinds[] = {[FS_EVENT_BEGIN] = "begin",
		[FS_EVENT_MOVE] = "move",
		[FS_EVENT_EXPIRE] = "expire",
		[FS_EVENT_EVICT] = "evict"};
	const struct flowstate *fs = r->gw->fs;
	const struct fs_info *f = &ev->flow;

	line_begin(r, w, kinds[ev->e.kind], ev->time_ms);
	jw_u64(w, "flow", ev->e.flow);
	control_put_flow(w, r->gw, f);
	control_put_flow_realms(w, r->gw, f);
	if (ev->e.kind == FS_EVENT_MOVE) {
		jw_str(w, "half", ev->e.dir == FS_ORIG ? "orig" : "reply");
		jw_str(w, "from", fs_last_name(fs, ev->e.from));
		jw_str(w, "to", fs_last_name(fs, f->half[ev->e.dir].via));
	}
	if (ev->e.kind == FS_EVENT_EVICT)
		jw_str(w, "reason", fs_end_name(ev->e.why));
	if (ev->e.kind != FS_EVENT_BEGIN) {
		put_time(w, "begun", f->created_ms + boot_ms);
		put_time(w, "last", f->seen_ms + boot_ms);
		control_put_flow_counters(w, f);
	}
	jw_close(w, '}');
}

static void put_lost(const struct control_request *r, struct jsonw *w, uint64_t time_ms, uint64_t lost)
{
	line_begin(r, w, "lost", time_ms);
	jw_u64(w, "count", lost);
	jw_close(w, '}');
}

/* A site or tunnel that went and came again has another id. While it is away the old one stands, for what is told of
 * its last flows. */
static void refresh(const struct control_request *r, struct flow_query *q)
{
	fs_id site = *q->site_name ? fs_lookup_name(r->gw->fs, FS_SITE, q->site_name) : FS_ID_NONE;
	fs_id tunnel = *q->tunnel_name ? fs_lookup_name(r->gw->fs, FS_TUNNEL, q->tunnel_name) : FS_ID_NONE;

	if (site)
		q->site = site;
	if (tunnel)
		q->tunnel = tunnel;
}

void control_follow(struct control_request *r, struct jsonw *w)
{
	int err = flow_events_join(r->gw->events, &r->follow_at);

	if (err) {
		control_error(r, w, err == -EBUSY ? "busy" : "failed", "%s",
			err == -EBUSY ? "too many follow already" : uv_strerror(err));
		return;
	}
	r->following = true;
	/* So it is known from when on nothing is missed. */
	line_begin(r, w, "follow", wall_ms());
	jw_close(w, '}');
}

static void put_end(const struct control_request *r, struct jsonw *w)
{
	if (w->len)
		jw_octet(w, '\n');
	control_result_begin(r, w);
	jw_u64(w, "events", r->flows.listed);
	jw_u64(w, "lost", r->flows.lost);
	control_result_end(w);
}

void control_follow_page(struct control_request *r, struct jsonw *w)
{
	uint64_t deadline_ns = uv_hrtime() + CONTROL_PAGE_NS, boot_ms = wall_ms() - gateway_now();
	struct flow_query *q = &r->flows;
	const struct flow_event *ev;
	unsigned looked = 0;
	uint64_t lost = 0;

	refresh(r, q);
	while ((ev = flow_events_next(r->gw->events, &r->follow_at, &lost))) {
		if (lost) {
			put_lost(r, w, ev->time_ms, lost);
			q->lost += lost;
			lost = 0;
		}
		if (control_flow_matches(q, &ev->flow)) {
			q->listed++;
			put_event(r, w, ev, boot_ms);
			if (q->limit && q->listed == q->limit) {
				put_end(r, w);
				control_follow_leave(r);
				return;
			}
		}
		if (w->len >= CONTROL_PAGE_MAX || (++looked % 8 == 0 && uv_hrtime() >= deadline_ns))
			return;
	}
}

uint64_t control_follow_waiting(const struct control_request *r)
{
	return r->following ? flow_events_waiting(r->gw->events, r->follow_at) : 0;
}

void control_follow_end(struct control_request *r, struct jsonw *w)
{
	put_end(r, w);
	control_follow_leave(r);
}

void control_follow_leave(struct control_request *r)
{
	if (r->following)
		flow_events_leave(r->gw->events);
	r->following = false;
}
