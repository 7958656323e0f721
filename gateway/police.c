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
 * Branches behind one address are thinned out together. What tunnels say to each other by IKE passes.
 *
 * A tunnel that is alone is let be: whose packets it loses by either way are its own.
 */
#include "gateway/police.h"

#define FULL       50u /* percent */
#define KEEP_ALL   65536u
#define KEEP_LEAST 256u
#define MORE       4096u

/* What a tunnel has brought. What was of no use counts twice; what others sent to it, not at all. */
static uint64_t brought(const struct tunnel *t)
{
	uint64_t n = t->count.rx_packets - t->dropped_out;

	for (unsigned d = 0; d < DROP_COUNT; d++)
		n += t->count.drops[d];
	return n;
}

/* The tunnel that brought most since the last look, if that is too much; NULL: nobody. */
static struct tunnel *offender(const struct gateway *gw, police_source_fn *source, int family)
{
	struct tunnel *t, *most = NULL;
	uint64_t all = 0, top = 0;
	unsigned active = 0;

	for (uint32_t i = 0; (t = tunnels_at(gw->tunnels, i)); i++) {
		uint64_t now = brought(t), n = now - t->police_seen;

		if (!source(t, family))
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
static bool tighten(struct gateway *gw, struct police *p, police_source_fn *source, int family)
{
	struct tunnel *t = offender(gw, source, family);
	struct msg_police *e = t && p->looked ? entry_of(p, source(t, family)) : NULL;

	p->looked = true; /* what was seen before the first look is of long ago */
	if (!e)
		return false;
	if (e->keep == KEEP_ALL)
		log_limited(gw->log, &t->loglim, gateway_now(), LOG_LEVEL_WARNING, "tunnel", t->conf->name,
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

void police_tick(struct gateway *gw, struct police *p, police_source_fn *source, int family, const int *fd,
	unsigned nfds, const bool *udp)
{
	bool full = false, changed;

	for (unsigned i = 0; i < nfds; i++)
		full |= fd[i] >= 0 && msg_queued(fd[i]) > FULL;
	changed = full ? tighten(gw, p, source, family) : loosen(p);
	for (unsigned i = 0; i < nfds && changed; i++)
		if (fd[i] >= 0)
			(void)msg_police(fd[i], p->entry, p->n, udp[i]); /* without it all are equal */
}
