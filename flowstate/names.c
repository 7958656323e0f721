/* SPDX-License-Identifier: GPL-2.0-or-later */
/* names.c - sites, tunnels and egresses: names in the arena, ids of them, who refers to them.
 *
 * An id is slot and generation. The packet path compares ids; records hold only slots, since a slot cannot
 * change its meaning while a record refers to it: it becomes free when its name has been unbound and the last
 * reference is gone, and is then given another generation. Across a restart a record's checksum covers the
 * full ids (record.h), so that it never fits a slot that was used again.
 */
#include "flowstate/names.h"

#include <assert.h>
#include <string.h>

static uint32_t entry_mark(const struct name_entry *e)
{
	uint64_t w, m = mark_mix(e->id, e->site);
	m = mark_mix(m, e->kind);
	m = mark_mix(m, e->identity);
	for (unsigned i = 0; i < sizeof(e->text); i += 8) {
		memcpy(&w, e->text + i, 8);
		m = mark_mix(m, w);
	}
	return mark_end(m);
}

static uint16_t chain_of(const struct names *n, const char text[static FS_NAME_MAX + 1])
{
	uint64_t w[9];
	memcpy(w, text, FS_NAME_MAX + 1);
	w[8] = SIP_LAST(0, FS_NAME_MAX + 1);
	return (uint16_t)(sip_words(&n->key, w, 9) % NAME_CHAINS);
}

static void chain_in(struct names *n, uint16_t s)
{
	uint16_t *first = &n->chain[chain_of(n, n->arena->name[s].text)];
	n->slot[s].next = *first;
	*first = s;
}

static void chain_out(struct names *n, uint16_t s)
{
	uint16_t *at = &n->chain[chain_of(n, n->arena->name[s].text)];
	while (*at != s)
		at = &n->slot[*at].next;
	*at = n->slot[s].next;
}

static void free_in(struct names *n, uint16_t s)
{
	memset(&n->slot[s], 0, sizeof(n->slot[s]));
	if (n->free_last)
		n->slot[n->free_last].next = s;
	else
		n->free_first = s;
	n->free_last = s;
}

/* A slot for a new name, or 0. */
static uint16_t free_out(struct names *n)
{
	struct arena_header *h = n->arena->header;
	uint16_t s = n->free_first;
	if (s) {
		n->free_first = n->slot[s].next;
		if (!n->free_first)
			n->free_last = 0;
		n->slot[s].next = 0;
		return s;
	}
	uint32_t fresh = h->names_high ? h->names_high : 1;
	if (fresh >= FS_SLOTS || !arena_back_names(n->arena, fresh + 1))
		return 0;
	memset(&n->arena->name[fresh], 0, sizeof(struct name_entry));
	__atomic_store_n(&h->names_high, fresh + 1, __ATOMIC_RELEASE);
	return (uint16_t)fresh;
}

/* One reference to a slot less. When it is the last one to a tunnel that is gone, its site has one less, too. */
static void unref(struct names *n, uint16_t s)
{
	while (s) {
		struct slot *slot = &n->slot[s];
		assert(slot->refs > 0);
		if (--slot->refs || slot->status != SLOT_GONE)
			return;
		uint16_t site = slot->site;
		/* The entry keeps its id, from which the next generation is made. */
		mark_clear(&n->arena->name[s].mark);
		free_in(n, s);
		s = site;
	}
}

/* ---- adoption --------------------------------------------------------------------------------------- */

static bool entry_valid(const struct names *n, uint32_t s)
{
	const struct name_entry *e = &n->arena->name[s];
	if (e->mark != entry_mark(e) || FS_SLOT(e->id) != s || e->id >> 16 == 0)
		return false;
	if (e->kind < FS_SITE || e->kind > FS_EGRESS || e->gone > 1)
		return false;
	if ((e->kind == FS_TUNNEL) != (e->site != FS_ID_NONE))
		return false;
	return e->text[0] && memchr(e->text, 0, sizeof(e->text));
}

static bool tunnel_site_valid(const struct names *n, fs_id site)
{
	uint16_t s = FS_SLOT(site);
	return n->slot[s].status != SLOT_FREE && n->slot[s].kind == FS_SITE && n->arena->name[s].id == site;
}

void names_adopt(struct names *n, struct arena *a)
{
	n->arena = a;
	sip_key_random(&n->key);
	uint32_t high = a->header->names_high;
	for (uint32_t s = 1; s < high; s++) {
		struct name_entry *e = &a->name[s];
		if (!entry_valid(n, s))
			continue;
		n->slot[s].kind = e->kind;
		n->slot[s].status = e->gone ? SLOT_GONE : SLOT_ASLEEP;
	}
	for (uint32_t s = 1; s < high; s++) {
		struct slot *slot = &n->slot[s];
		if (slot->status != SLOT_FREE && slot->kind == FS_TUNNEL) {
			if (tunnel_site_valid(n, a->name[s].site)) {
				slot->site = FS_SLOT(a->name[s].site);
				n->slot[slot->site].refs++;
			} else {
				slot->status = SLOT_FREE;
			}
		}
		if (slot->status == SLOT_FREE) {
			mark_clear(&a->name[s].mark);
			free_in(n, (uint16_t)s);
		} else if (slot->status == SLOT_ASLEEP) {
			chain_in(n, (uint16_t)s);
		}
	}
}

void names_drop_unused(struct names *n)
{
	for (uint32_t s = 1; s < n->arena->header->names_high; s++) {
		if (n->slot[s].status == SLOT_GONE && n->slot[s].refs == 0) {
			n->slot[s].refs = 1;
			unref(n, (uint16_t)s);
		}
	}
}

/* ---- binding ---------------------------------------------------------------------------------------- */

/* Pads a name to the form in which it is stored. Returns false if it cannot be. */
static bool text_of(const char *name, char text[static FS_NAME_MAX + 1])
{
	size_t len = strlen(name);
	if (len == 0 || len > FS_NAME_MAX)
		return false;
	memset(text, 0, FS_NAME_MAX + 1);
	memcpy(text, name, len + 1);
	return true;
}

fs_id names_bind(struct names *n, enum fs_kind kind, const char *name, fs_id site, uint64_t identity)
{
	char text[FS_NAME_MAX + 1];
	struct name_entry *e;
	if (!text_of(name, text) || kind < FS_SITE || kind > FS_EGRESS)
		return FS_ID_NONE;
	if (kind != FS_TUNNEL)
		site = FS_ID_NONE;
	else if (!site || n->bound[FS_SLOT(site)] != site || n->slot[FS_SLOT(site)].kind != FS_SITE)
		return FS_ID_NONE;

	for (uint16_t s = n->chain[chain_of(n, text)]; s; s = n->slot[s].next) {
		e = &n->arena->name[s];
		if (e->kind == kind && e->site == site && e->identity == identity &&
			memcmp(e->text, text, sizeof(text)) == 0) {
			n->slot[s].status = SLOT_BOUND;
			return n->bound[s] = e->id;
		}
	}

	uint16_t s = free_out(n);
	if (!s)
		return FS_ID_NONE;
	e = &n->arena->name[s];
	uint32_t generation = (e->id >> 16) + 1;
	if (generation > 0xffff)
		generation = 1;
	mark_clear(&e->mark);
	e->id = generation << 16 | s;
	e->site = site;
	e->kind = (uint8_t)kind;
	e->gone = 0;
	e->identity = identity;
	memcpy(e->text, text, sizeof(text));
	mark_set(&e->mark, entry_mark(e));
	n->slot[s] = (struct slot){.status = SLOT_BOUND, .kind = (uint8_t)kind, .site = FS_SLOT(site)};
	if (site)
		n->slot[FS_SLOT(site)].refs++;
	chain_in(n, s);
	return n->bound[s] = e->id;
}

/* Takes the name from a slot. Returns whether records refer to it. */
static bool slot_gone(struct names *n, uint16_t s)
{
	bool used = n->slot[s].refs > 0;
	n->bound[s] = 0;
	n->slot[s].status = SLOT_GONE;
	n->arena->name[s].gone = 1;
	chain_out(n, s);
	if (!used) {
		n->slot[s].refs = 1;
		unref(n, s);
	}
	return used;
}

bool names_unbind(struct names *n, fs_id id)
{
	uint16_t s = FS_SLOT(id);
	bool used = false;
	if (!id || n->bound[s] != id)
		return false;
	/* A site's tunnels go with it: no attachment without its realm. */
	if (n->slot[s].kind == FS_SITE) {
		for (uint32_t t = 1; t < n->arena->header->names_high; t++) {
			uint8_t status = n->slot[t].status;
			if (n->slot[t].site == s && (status == SLOT_BOUND || status == SLOT_ASLEEP))
				used |= slot_gone(n, (uint16_t)t);
		}
	}
	return slot_gone(n, s) || used;
}

bool names_unbind_rest(struct names *n)
{
	bool used = false;
	/* Tunnels before their sites, whose slots they hold. */
	for (int sites = 0; sites < 2; sites++) {
		for (uint32_t s = 1; s < n->arena->header->names_high; s++) {
			if (n->slot[s].status == SLOT_ASLEEP && (n->slot[s].kind == FS_SITE) == sites)
				used |= slot_gone(n, (uint16_t)s);
		}
	}
	return used;
}

/* ---- asking ----------------------------------------------------------------------------------------- */

fs_id names_lookup(const struct names *n, enum fs_kind kind, const char *name)
{
	char text[FS_NAME_MAX + 1];
	if (!text_of(name, text))
		return FS_ID_NONE;
	for (uint16_t s = n->chain[chain_of(n, text)]; s; s = n->slot[s].next) {
		const struct name_entry *e = &n->arena->name[s];
		if (n->bound[s] && e->kind == kind && memcmp(e->text, text, sizeof(text)) == 0)
			return e->id;
	}
	return FS_ID_NONE;
}

const char *names_text(const struct names *n, fs_id id)
{
	uint16_t s = FS_SLOT(id);
	if (!id || n->slot[s].status == SLOT_FREE || n->arena->name[s].id != id)
		return "";
	return n->arena->name[s].text;
}

const char *names_last_text(const struct names *n, fs_id id)
{
	uint16_t s = FS_SLOT(id);
	/* A slot that is free keeps what it had until it is taken again. */
	if (!s || s >= n->arena->header->names_high || n->arena->name[s].id != id)
		return "";
	return n->arena->name[s].text;
}

fs_id names_id(const struct names *n, uint16_t slot)
{
	return n->slot[slot].status == SLOT_FREE ? FS_ID_NONE : n->arena->name[slot].id;
}

bool names_plausible(const struct names *n, uint16_t realm, uint16_t via)
{
	const struct slot *r = &n->slot[realm], *v = &n->slot[via];
	if (r->status == SLOT_FREE || v->status == SLOT_FREE)
		return false;
	if (r->kind == FS_EGRESS)
		return via == realm;
	return r->kind == FS_SITE && v->kind == FS_TUNNEL && v->site == realm;
}

bool names_attached(const struct names *n, fs_id realm, fs_id via)
{
	if (!realm || !via || n->bound[FS_SLOT(realm)] != realm || n->bound[FS_SLOT(via)] != via)
		return false;
	return names_plausible(n, FS_SLOT(realm), FS_SLOT(via));
}

uint16_t names_charged(const struct names *n, const struct flow_head *h)
{
	for (int d = 0; d < 2; d++) {
		if (n->slot[h->realm[d]].kind == FS_SITE)
			return h->realm[d];
	}
	return 0;
}

/* ---- counting --------------------------------------------------------------------------------------- */

void names_ref(struct names *n, const struct flow_head *h)
{
	for (int d = 0; d < 2; d++) {
		n->slot[h->realm[d]].refs++;
		n->slot[h->via[d]].refs++;
	}
}

void names_unref(struct names *n, const struct flow_head *h)
{
	for (int d = 0; d < 2; d++) {
		unref(n, h->via[d]);
		unref(n, h->realm[d]);
	}
}

void names_count(struct names *n, const struct flow_head *h, int delta)
{
	uint16_t site = names_charged(n, h);
	if (site)
		n->slot[site].flows += (uint32_t)delta;
	n->slot[h->via[0]].flows += (uint32_t)delta;
	if (h->via[1] != h->via[0])
		n->slot[h->via[1]].flows += (uint32_t)delta;
}

void names_move(struct names *n, struct flow_head *h, enum fs_dir dir, uint16_t via)
{
	uint16_t from = h->via[dir];
	names_count(n, h, -1);
	n->slot[via].refs++;
	__atomic_store_n(&h->via[dir], via, __ATOMIC_RELAXED);
	names_count(n, h, 1);
	unref(n, from);
}
