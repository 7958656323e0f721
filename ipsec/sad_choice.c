/* SPDX-License-Identifier: GPL-2.0-or-later */
/* sad_choice.c - the SA database: which of its SAs a tunnel sends by.
 *
 * Theory. An SA may be used for sending when the peer has it. Who began the exchange knows that: the answer came. Who
 * answered does not know when the answer arrives, if at the first attempt at all (RFC 7296 2.8); what proves it is a good
 * packet on the inbound SA of the same exchange, its twin. Until then an older SA is good, if there is one: the peer does
 * not delete it before it has the new one, and says so when it does.
 *
 * Which SA is new is told by its era, the order in which the tunnel's IKE_SAs came up, and within an era by the order of
 * adding. An IKE_SA that replaces another by rekeying inherits its SAs, and so its era: nothing changes. One that comes
 * up by itself begins an era. There the older SA is not good by itself: perhaps the peer has restarted and knows nothing of
 * it; perhaps it only authenticates itself anew, and both are alive (make before break). What tells these apart is whether
 * the older IKE_SA's SAs are still heard:
 *
 *	an SA that is not proven, beside a proven one          is used
 *	of the same era, or the older is still heard           SAD_CONFIRM_MS after it was added
 *	of a newer era, the older was heard a second before    SAD_TAKEOVER_MS after it was added
 *	of a newer era, the older has been silent              at once
 *
 * and at once in any case when its twin is heard, or the older one goes. One that has been used counts as proven: no way leads
 * back but its end.
 *
 * Some orders of events (A: old pair, B: new pair; the peer began unless said otherwise):
 *	we rekey           out B, proven: used at once; del A
 *	peer rekeys        in B, out B: A is used; a packet on in B: B is used; del A
 *	peer rekeys, idle  in B, out B: A is used; del A: B is used
 *	charon does it so  in B; peer deletes A: out B, del out A: B is used; del in A seconds later
 *	both rekey         in/out B (ours), in C (peer's): B; one of them is deleted: the other
 *	peer restarted     A is silent; in/out B: B is used; A goes when charon finds out
 *	peer reauthenticates, make before break: A is heard; B is used when in B is heard, or A is deleted
 *
 * A tunnel's choice is kept until something changes or a time passes, so that a packet costs no search. A peer may have
 * several CHILD_SAs of narrow selectors; the same rules are then applied to those that the packet may travel in.
 *
 * References: RFC 7296 2.8 (rekeying), 2.8.1 (simultaneously), 1.4.1 (deleting), 2.4 (INITIAL_CONTACT); 7296 2.8.3
 * (reauthentication).
 */
#include "ipsec/sad_private.h"

#define NEVER UINT64_MAX

/* ---- the choice --------------------------------------------------------------------------------------- */

/* An SA may be chosen only for what it selects; t NULL: for anything. */
struct wanted {
	const struct tuple *t;
	bool ports_known;
};

static bool is_candidate(const struct sa *sa, const struct wanted *w)
{
	return !sa->hard_done && (!w->t || sa_selects(sa, w->t, w->ports_known));
}

/* a and b of one tunnel, a in front of b in the list; NULL is older than anything. */
static struct sa *newer(struct sa *a, struct sa *b)
{
	return !a || b->era > a->era ? b : a;
}

static uint64_t heard_ms(const struct sad_tunnel *t, uint32_t era)
{
	uint64_t ms = 0;

	for (const struct sa *sa = t->in; sa; sa = sa->next) {
		uint64_t last = atomic_load_explicit(&sa->use->last_ms, memory_order_relaxed);

		if (sa->era == era && last > ms)
			ms = last;
	}
	return ms;
}

/* From when on an SA that is not proven is used although a proven one is there, whose era was heard last at heard. */
static uint64_t used_from_ms(const struct sa *sa, const struct sa *proven, uint64_t heard, uint64_t now_ms)
{
	uint64_t confirm = sa->born_ms + SAD_CONFIRM_MS, takeover = sa->born_ms + SAD_TAKEOVER_MS;

	if (proven->era >= sa->era)
		return confirm;
	if (heard >= sa->born_ms && heard)
		return confirm;
	if (heard + SAD_HEARD_MS >= sa->born_ms && heard)
		return takeover;
	return now_ms;
}

/* Which one to use, and until when that holds. */
static struct sa *choose(struct sad_tunnel *t, const struct wanted *w, uint64_t now_ms, uint64_t *until_ms)
{
	struct sa *proven = NULL, *best = NULL;
	uint64_t heard;

	*until_ms = NEVER;
	for (struct sa *sa = t->out; sa; sa = sa->next)
		if (sa->proven && is_candidate(sa, w))
			proven = newer(proven, sa);
	heard = proven ? heard_ms(t, proven->era) : 0;
	for (struct sa *sa = t->out; sa; sa = sa->next) {
		uint64_t from = proven && !sa->proven ? used_from_ms(sa, proven, heard, now_ms) : now_ms;

		if (!is_candidate(sa, w))
			continue;
		if (from <= now_ms)
			best = newer(best, sa);
		else if (from < *until_ms)
			*until_ms = from;
	}
	if (best)
		best->proven = true;
	return best;
}

struct sa *sad_out(struct sad *d, uint32_t tunnel, uint64_t now_ms)
{
	static const struct wanted anything = {NULL, false};
	struct sad_tunnel *t = sad_tunnel_of(d, tunnel);

	if (!t)
		return NULL;
	if (now_ms >= t->until_ms)
		t->chosen = choose(t, &anything, now_ms, &t->until_ms);
	return t->chosen;
}

struct sa *sad_out_for(
	struct sad *d, uint32_t tunnel, const struct tuple *tuple, bool ports_known, uint64_t now_ms)
{
	struct sa *sa = sad_out(d, tunnel, now_ms);
	const struct wanted w = {tuple, ports_known};
	uint64_t until;

	if (!sa || sa_selects(sa, tuple, ports_known))
		return sa;
	return choose(sad_tunnel_of(d, tunnel), &w, now_ms, &until);
}

/* ---- twins -------------------------------------------------------------------------------------------- */

static bool same_selectors(const struct sa_selector *a, uint16_t na, const struct sa_selector *b, uint16_t nb)
{
	if (na != nb)
		return false;
	for (uint16_t i = 0; i < na; i++)
		if (!addr_eq(&a[i].from, &b[i].from) || !addr_eq(&a[i].to, &b[i].to) ||
			a[i].port_from != b[i].port_from || a[i].port_to != b[i].port_to ||
			a[i].proto != b[i].proto)
			return false;
	return true;
}

static bool are_alike(const struct sa *a, const struct sa *b)
{
	return a->ike == b->ike && a->initiator == b->initiator && a->suite == b->suite &&
	       same_selectors(a->local_ts, a->nlocal_ts, b->local_ts, b->nlocal_ts) &&
	       same_selectors(a->remote_ts, a->nremote_ts, b->remote_ts, b->nremote_ts);
}

/* Nobody says which two SAs are of one CHILD_SA; but an IKE_SA makes one at a time in each role, so that it is the newest one
 * that is alike and never had a twin. */
static void find_twin(const struct sad_tunnel *t, struct sa *sa)
{
	struct sa *o = sa->inbound ? t->out : t->in;

	while (o && (o->paired || !are_alike(o, sa)))
		o = o->next;
	if (!o)
		return;
	o->twin = sa;
	sa->twin = o;
	o->paired = sa->paired = true;
}

static void prove(struct sad_tunnel *t, struct sa *out)
{
	if (out->proven)
		return;
	out->proven = true;
	t->until_ms = 0;
}

void sad_confirm(struct sad *d, struct sa *inbound)
{
	if (inbound->proven)
		return;
	inbound->proven = true;
	if (inbound->twin)
		prove(sad_tunnel_of(d, inbound->tunnel), inbound->twin);
}

/* ---- eras --------------------------------------------------------------------------------------------- */

static struct sad_ike *find_ike(struct sad_tunnel *t, uint32_t id)
{
	for (unsigned i = 0; i < SAD_IKES; i++)
		if (id && t->ike[i].id == id)
			return &t->ike[i];
	return NULL;
}

/* Where the one is that came first, it is forgotten. */
static struct sad_ike *add_ike(struct sad_tunnel *t, uint32_t id)
{
	struct sad_ike *at = &t->ike[0];

	for (unsigned i = 1; i < SAD_IKES && at->id; i++)
		if (!t->ike[i].id || t->ike[i].era < at->era)
			at = &t->ike[i];
	*at = (struct sad_ike){.id = id, .era = ++t->era};
	return at;
}

/* Sets ike and era of the SAs that an IKE_SA has. */
static void relabel(struct sad_tunnel *t, uint32_t from, const struct sad_ike *to)
{
	for (unsigned i = 0; i < 2; i++) {
		for (struct sa *sa = i ? t->in : t->out; sa; sa = sa->next) {
			if (sa->ike != from)
				continue;
			sa->ike = to->id;
			sa->era = to->era;
		}
	}
	t->until_ms = 0;
}

/* new has replaced old, and inherits its era, or that in which SAs of its own have come already. */
static struct sad_ike *inherit(struct sad_tunnel *t, struct sad_ike *old, uint32_t id)
{
	struct sad_ike *ike = find_ike(t, id);
	uint32_t old_id = old->id;

	if (!ike) {
		old->id = id;
		ike = old;
	} else {
		ike->era = ike->era > old->era ? ike->era : old->era;
		ike->told |= old->told;
		*old = (struct sad_ike){0};
		relabel(t, id, ike);
	}
	relabel(t, old_id, ike);
	return ike;
}

void sad_ike_current(struct sad *d, uint32_t tunnel, uint32_t ike, uint32_t old)
{
	struct sad_tunnel *t = sad_tunnel_make(d, tunnel);
	struct sad_ike *was = t ? find_ike(t, old) : NULL, *is;

	if (!t || !ike)
		return;
	is = was && old != ike ? inherit(t, was, ike) : find_ike(t, ike);
	if (!is)
		is = add_ike(t, ike);
	/* Told again, or of one that had its time: nothing new. Told for the first time, it is the newest. */
	if (!is->told && is->era != t->era) {
		is->era = ++t->era;
		relabel(t, ike, is);
	}
	is->told = true;
}

/* ---- coming and going --------------------------------------------------------------------------------- */

void sad_choice_added(struct sad_tunnel *t, struct sa *sa)
{
	const struct sad_ike *ike = find_ike(t, sa->ike);

	if (!ike)
		ike = add_ike(t, sa->ike);
	sa->era = ike->era;
	sa->twin = NULL;
	sa->paired = false;
	find_twin(t, sa);
	if (sa->inbound) {
		sa->proven = false;
		return;
	}
	sa->proven = sa->initiator || (sa->twin && sa->twin->proven);
	t->until_ms = 0;
}

void sad_choice_gone(struct sad_tunnel *t, struct sa *sa)
{
	if (sa->twin)
		sa->twin->twin = NULL;
	sa->twin = NULL;
	t->until_ms = 0;
	t->chosen = NULL;
}
