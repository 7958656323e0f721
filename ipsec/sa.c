/* SPDX-License-Identifier: GPL-2.0-or-later */
/* sa.c - one ESP security association: its end, its use counters, its selectors.
 *
 * References: RFC 4301 4.4.1.1 (selectors), 4.4.2.
 */
#include "ipsec/sa.h"

#include <stdlib.h>

/* ---- use ---------------------------------------------------------------------------------------------- */

struct sa_use *sa_use_new(void)
{
	struct sa_use *u = calloc(1, sizeof(*u));

	if (u)
		atomic_store_explicit(&u->refs, 1, memory_order_relaxed);
	return u;
}

struct sa_use *sa_use_get(struct sa_use *u)
{
	atomic_fetch_add_explicit(&u->refs, 1, memory_order_relaxed);
	return u;
}

void sa_use_put(struct sa_use *u)
{
	/* Who frees it must have seen what the others did. */
	if (u && atomic_fetch_sub_explicit(&u->refs, 1, memory_order_acq_rel) == 1)
		free(u);
}

/* ---- life --------------------------------------------------------------------------------------------- */

void sa_free(struct sa *sa)
{
	if (!sa)
		return;
	crypto_key_free(sa->key);
	free(sa->local_ts);
	free(sa->remote_ts);
	sa_use_put(sa->use);
	free(sa);
}

/* ---- selectors ---------------------------------------------------------------------------------------- */

/* One end of a packet. */
struct side {
	const struct addr *a;
	uint16_t port;
	bool port_known;
};

/* IPv4 lies within the 16-octet space, so one comparison serves both families; a range begins and ends in the same
 * one. */
static bool has_addr(const struct sa_selector *ts, const struct addr *a)
{
	return addr_is4(&ts->from) == addr_is4(a) && memcmp(a, &ts->from, sizeof(*a)) >= 0 &&
	       memcmp(a, &ts->to, sizeof(*a)) <= 0;
}

/* Behind a selector of some ports goes only what has ports. A range from 65535 to 0 stands for OPAQUE (RFC 7296 3.13.1):
 * what hides them. */
static bool has_port(const struct sa_selector *ts, const struct side *s)
{
	if (ts->port_from == 0 && ts->port_to == UINT16_MAX)
		return true;
	if (ts->port_from > ts->port_to)
		return !s->port_known;
	return s->port_known && s->port >= ts->port_from && s->port <= ts->port_to;
}

static bool any(const struct sa_selector *ts, unsigned n, const struct side *s, uint8_t proto)
{
	for (unsigned i = 0; i < n; i++)
		if ((!ts[i].proto || ts[i].proto == proto) && has_addr(&ts[i], s->a) && has_port(&ts[i], s))
			return true;
	return false;
}

/* Of ICMP, selectors of some ports mean types and codes, which a tuple does not have: nothing goes there. */
bool sa_selects(const struct sa *sa, const struct tuple *t, bool ports_known)
{
	bool known = ports_known && proto_has_ports(t->proto);
	struct side src = {&t->src, ntohs(t->sport), known}, dst = {&t->dst, ntohs(t->dport), known};

	return any(sa->local_ts, sa->nlocal_ts, sa->inbound ? &dst : &src, t->proto) &&
	       any(sa->remote_ts, sa->nremote_ts, sa->inbound ? &src : &dst, t->proto);
}
