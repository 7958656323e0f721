/* SPDX-License-Identifier: GPL-2.0-or-later */
/* names.h - sites, tunnels and egresses: names in the arena, ids of them, who refers to them. */
#ifndef ARRD_FLOWSTATE_NAMES_H
#define ARRD_FLOWSTATE_NAMES_H

#include "flowstate/arena.h"
#include "flowstate/siphash.h"

/* A slot of the table. ASLEEP: adopted, not bound yet. GONE: unbound, and still referred to. Only a FREE slot
 * is used again. Slot 0 never is, so that FS_ID_NONE names nothing. */
enum slot_status { SLOT_FREE, SLOT_ASLEEP, SLOT_BOUND, SLOT_GONE };

struct slot {
	uint32_t refs;       /* by records, quarantined ones too (four a record), and by a site's tunnels */
	uint32_t flows;      /* live: charged to this site, or pinned to this tunnel or egress */
	uint32_t translated; /* of a site: of its flows, those to an egress that are translated */
	uint32_t limit;      /* of a site, 0: the general one */
	/* Of a site or egress: flows that may begin there, times UNITS_A_SECOND, and as of when. */
	uint32_t credit, credit_at;
	uint16_t site; /* of a tunnel: its slot */
	uint16_t next; /* with the same hash of its name, 0: none; of a free slot: the next free one */
	uint8_t status;
	uint8_t kind;
};

#define NAME_CHAINS 4096
struct names {
	struct arena *arena;
	struct sip_key key;
	fs_id bound[FS_SLOTS]; /* the id while it is bound, else 0: what the packet path reads */
	struct slot slot[FS_SLOTS];
	uint16_t chain[NAME_CHAINS];    /* first slot of each hash, 0: none */
	uint16_t free_first, free_last; /* used again in order of age */
};

/* Takes over what is in the arena: valid names sleep (or are gone), the others are erased. */
void names_adopt(struct names *n, struct arena *a);

/* See fs_bind, fs_unbind, fs_unbind_rest. The last two return whether flows may have to be ended. */
fs_id names_bind(struct names *n, enum fs_kind kind, const char *name, fs_id site, uint64_t identity);
bool names_unbind(struct names *n, fs_id id);
bool names_unbind_rest(struct names *n);

/* Frees the slots that nothing refers to: after adoption. */
void names_drop_unused(struct names *n);

fs_id names_lookup(const struct names *n, enum fs_kind kind, const char *name);
const char *names_text(const struct names *n, fs_id id);
const char *names_last_text(const struct names *n, fs_id id); /* see fs_last_name */
fs_id names_id(const struct names *n, uint16_t slot);         /* bound or not */

/* Is it bound, and is via a way into realm? */
bool names_attached(const struct names *n, fs_id realm, fs_id via);
/* The same of what an adopted record says, by slots: known, of the right kinds. */
bool names_plausible(const struct names *n, uint16_t realm, uint16_t via);

/* Both attachments are bound: the flow may be found. */
static inline bool names_alive(const struct names *n, const struct flow_head *h)
{
	return n->bound[h->via[0]] && n->bound[h->via[1]];
}

/* One of the attachments has been unbound: the flow is to end. */
static inline bool names_gone(const struct names *n, const struct flow_head *h)
{
	return n->slot[h->via[0]].status == SLOT_GONE || n->slot[h->via[1]].status == SLOT_GONE;
}

static inline bool names_begins_outside(const struct names *n, const struct flow_head *h)
{
	return n->slot[h->realm[0]].kind == FS_EGRESS;
}

/* From a site to an egress. */
static inline bool names_outward(const struct names *n, const struct flow_head *h)
{
	return n->slot[h->realm[0]].kind == FS_SITE && n->slot[h->realm[1]].kind == FS_EGRESS;
}

/* The site that a flow is charged to: its initiator's, or if that is an egress the other side's. 0: none. */
uint16_t names_charged(const struct names *n, const struct flow_head *h);

/* A record begins or ceases to refer to names; a flow begins or ceases to be live; an attachment moves. */
void names_ref(struct names *n, const struct flow_head *h);
void names_unref(struct names *n, const struct flow_head *h);
void names_count(struct names *n, const struct flow_head *h, int delta);
void names_move(struct names *n, struct flow_head *h, enum fs_dir dir, uint16_t via);

#endif
