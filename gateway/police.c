/* SPDX-License-Identifier: GPL-2.0-or-later */
/* police.c - who fills the receive queue loses his own packets first.
 *
 * All branches share a socket and its queue. When more comes than we can take, the queue is full and the kernel drops
 * whatever comes next, whosever it is: one site's flood would cost the others their packets. So when a queue is more than
 * half full, the tunnel that brings more than half of all packets, or far more than its share, is policed: the kernel drops
 * a part of them before they are queued, by a filter that knows the outer source. Each time the queue is still half full,
 * half of what it keeps; in quieter times a sixteenth more of all, until nothing is held back. The kernel does not
 * count what it drops by a filter: the log says who is thinned out, not by how much.
 *
 * A tunnel that is alone is let be: whose packets it loses by either way are its own.
 */
#include "gateway/police.h"

#define FULL       50u /* percent */
#define KEEP_ALL   65536u
#define KEEP_LEAST 256u
#define MORE       4096u

/* What a tunnel has brought. What was of no use counts twice. */
static uint64_t brought(const struct tunnel *t)
{
	uint64_t n = t->count.rx_packets;

	for (unsigned d = 0; d < DROP_COUNT; d++)
		n += t->count.drops[d];
	return n;
}

/* The tunnel of the socket that brought most since the last look, if that is too much; NULL: nobody. */
static struct tunnel *offender(struct path *path, bool is4)
{
	struct tunnel *t, *most = NULL;
	uint64_t all = 0, top = 0;
	unsigned active = 0;

	for (uint32_t i = 0; (t = tunnels_at(path->gw->tunnels, i)); i++) {
		uint64_t now = brought(t), n = now - t->police_seen;

		if (t->conf->type != TUNNEL_GRE || t->over || addr_is4(&t->conf->local) != is4)
			continue;
		t->police_seen = now;
		all += n;
		active += n > 0;
		if (n > top) {
			top = n;
			most = t;
		}
	}
	return active > 1 && (top > all / 2 || top > 4 * all / active) ? most : NULL;
}

static struct msg_police *entry_of(struct police *p, const struct addr *source)
{
	for (unsigned i = 0; i < p->n; i++)
		if (addr_eq(&p->entry[i].source, source))
			return &p->entry[i];
	if (p->n == MSG_POLICED)
		return NULL;
	p->entry[p->n] = (struct msg_police){.source = *source, .keep = KEEP_ALL};
	return &p->entry[p->n++];
}

/* Returns whether anything has changed. */
static bool tighten(struct path *path, struct police *p, bool is4)
{
	struct tunnel *t = offender(path, is4);
	struct msg_police *e = t && p->looked ? entry_of(p, &t->conf->remote) : NULL;

	p->looked = true; /* what was seen before the first look is of long ago */
	if (!e)
		return false;
	if (e->keep == KEEP_ALL)
		log_limited(path->gw->log, &t->loglim, gateway_now(), LOG_LEVEL_WARNING, "tunnel",
			t->conf->name,
			"brings more than can be taken: its packets are thinned out before they reach "
			"others'");
	e->keep = e->keep / 2 > KEEP_LEAST ? e->keep / 2 : KEEP_LEAST;
	return true;
}

static bool loosen(struct police *p)
{
	bool changed = p->n > 0;
	unsigned n = 0;

	p->looked = false;
	for (unsigned i = 0; i < p->n; i++) {
		p->entry[i].keep += MORE;
		if (p->entry[i].keep < KEEP_ALL)
			p->entry[n++] = p->entry[i];
	}
	p->n = n;
	return changed;
}

void police_tick(struct path *path)
{
	for (int f = 0; f < 2; f++) {
		struct police *p = &path->police[f];
		bool changed;

		if (!path->gre[f])
			continue;
		changed = msg_queued(gre_sock_fd(path->gre[f])) > FULL ? tighten(path, p, f == 0) : loosen(p);
		if (changed)
			(void)msg_police(
				gre_sock_fd(path->gre[f]), p->entry, p->n); /* without it all are equal */
	}
}
