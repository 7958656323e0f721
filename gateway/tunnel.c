/* SPDX-License-Identifier: GPL-2.0-or-later */
/* tunnel.c - the running state of tunnels, and how a reload carries it over.
 *
 * What a tunnel *is* (its name, its site, where its packets come from) is its identity. While the identity
 * stays, a reload may change everything else and the tunnel's flows do not notice. When it changes, the
 * tunnel of before is gone and its flows end: the device at the new address may be another site's, and
 * replies to the old flows would reach it.
 */
#include "gateway/tunnel.h"

#include "ipsec/esp.h"

#include <errno.h>
#include <sodium.h>
#include <stdlib.h>

struct tunnels {
	uint32_t n;
	struct tunnel **v; /* in order of name */
	const struct config *conf;
	bool *kept; /* v[i] is still in the old table, until the commit */
	/* set by the commit; indexed by FS_SLOT */
	struct tunnel **by_slot;
	struct site {
		fs_id id;
		uint32_t first; /* tunnel of the site, as an index + 1 */
	} * sites;
	uint32_t *next; /* v[i]'s next tunnel of the same site, as an index + 1; 0: the last */
};

static uint64_t hash(const void *data, size_t len, uint8_t place)
{
	unsigned char key[crypto_shorthash_KEYBYTES] = "arrd tunnel id", out[crypto_shorthash_BYTES];
	uint64_t sum;

	key[crypto_shorthash_KEYBYTES - 1] = place;
	crypto_shorthash(out, data, len, key);
	memcpy(&sum, out, sizeof(sum));
	return sum;
}

/* In which place a text stands counts, also where others have none. */
static uint64_t hash_text(const char *s, uint8_t place)
{
	return s ? hash(s, strlen(s) + 1, place) : 0;
}

uint64_t tunnel_identity(const struct conf_tunnel *c)
{
	struct {
		struct addr local, remote;
		uint32_t type, has_key, gre_key;
	} id = {c->local, c->remote, c->type, c->gre_has_key, c->gre_has_key ? c->gre_key : 0};
	uint64_t h;

	_Static_assert(sizeof(id) == 44, "no padding may be hashed");
	h = hash(&id, sizeof(id), 0);
	/* Behind one address there may be many: who it is says the identity. */
	return h ^ hash_text(c->ike.local_id, 1) ^ hash_text(c->ike.remote_id, 2);
}

/* What must be equal for flows to be carried on, also over a restart. Where the tunnel that it travels in leads to another
 * device, it does, too; the name of that one does not matter. */
static uint64_t identity(const struct config *conf, const struct conf_tunnel *c)
{
	const struct conf_tunnel *over = c->over ? config_tunnel(conf, c->over) : NULL;
	uint64_t h = over ? tunnel_identity(over) : 0;

	return tunnel_identity(c) ^ (over ? hash(&h, sizeof(h), 3) : 0);
}

static struct tunnel *tunnel_new(const struct conf_tunnel *c)
{
	struct tunnel *t = calloc(1, sizeof(*t));

	if (!t)
		return NULL;
	t->conf = c;
	if (c->type != TUNNEL_IPSEC)
		return t;
	t->ipsec = calloc(1, sizeof(*t->ipsec));
	if (t->ipsec)
		return t;
	free(t);
	return NULL;
}

static void tunnel_free(struct tunnel *t)
{
	free(t->ipsec);
	free(t);
}

static bool same_identity(const struct config *ca, const struct conf_tunnel *a, const struct config *cb,
	const struct conf_tunnel *b)
{
	return strcmp(a->name, b->name) == 0 && strcmp(a->site, b->site) == 0 &&
	       identity(ca, a) == identity(cb, b);
}

int tunnels_new(struct tunnels **out, const struct config *c, struct tunnels *old)
{
	struct tunnels *t = calloc(1, sizeof(*t));

	if (!t)
		return -ENOMEM;
	t->conf = c;
	t->v = calloc(c->ntunnels + 1, sizeof(t->v[0]));
	t->kept = calloc(c->ntunnels + 1, sizeof(t->kept[0]));
	t->next = calloc(c->ntunnels + 1, sizeof(t->next[0]));
	t->sites = calloc(FS_SLOTS, sizeof(t->sites[0]));
	t->by_slot = calloc(FS_SLOTS, sizeof(t->by_slot[0]));
	if (!t->v || !t->kept || !t->next || !t->sites || !t->by_slot)
		goto fail;
	for (size_t i = 0; i < c->ntunnels; i++) {
		struct tunnel *o = old ? tunnels_by_name(old, c->tunnels[i].name) : NULL;

		if (o && same_identity(old->conf, o->conf, c, &c->tunnels[i])) {
			t->v[i] = o;
			t->kept[i] = true;
		} else {
			t->v[i] = tunnel_new(&c->tunnels[i]);
			if (!t->v[i])
				goto fail;
		}
		t->n++;
	}
	*out = t;
	return 0;
fail:
	tunnels_free(t);
	return -ENOMEM;
}

void tunnels_free(struct tunnels *t)
{
	if (!t)
		return;
	for (uint32_t i = 0; i < t->n; i++)
		if (!t->kept[i])
			tunnel_free(t->v[i]);
	free(t->v);
	free(t->kept);
	free(t->next);
	free(t->sites);
	free(t->by_slot);
	free(t);
}

/* Marks in the old table what the new one took over, and unbinds the tunnels that are left in it. */
static void leave(struct tunnels *t, struct tunnels *old, struct flowstate *fs)
{
	for (uint32_t i = 0; i < t->n; i++) {
		if (!t->kept[i])
			continue;
		old->kept[t->v[i]->index] = true;
		t->kept[i] = false;
	}
	for (uint32_t i = 0; i < old->n; i++)
		if (!old->kept[i])
			fs_unbind(fs, old->v[i]->id);
}

static struct site *site_of(const struct tunnels *t, fs_id id)
{
	struct site *s = &t->sites[FS_SLOT(id)];

	return s->first && s->id == id ? s : NULL;
}

/* Without a slot in fs a tunnel has no ids: nothing that comes by it begins a flow, and nothing finds it. */
static int bind_all(struct tunnels *t, struct flowstate *fs)
{
	int r = 0;

	for (uint32_t i = t->n; i-- > 0;) { /* backwards, so that a site's chain is in order of name */
		struct tunnel *tn = t->v[i];
		struct site *s;

		tn->conf = &t->conf->tunnels[i];
		tn->index = i;
		tn->site = fs_bind(fs, FS_SITE, tn->conf->site, FS_ID_NONE, 0);
		tn->id = fs_bind(fs, FS_TUNNEL, tn->conf->name, tn->site, identity(t->conf, tn->conf));
		if (tn->id == FS_ID_NONE) {
			if (tn->site && !site_of(t, tn->site))
				fs_unbind(fs, tn->site);
			tn->site = FS_ID_NONE;
			r = -ENOSPC;
			continue;
		}
		t->by_slot[FS_SLOT(tn->id)] = tn;
		s = &t->sites[FS_SLOT(tn->site)];
		t->next[i] = s->first;
		s->id = tn->site;
		s->first = i + 1;
		fs_set_site_limit(fs, tn->site, 0);
	}
	for (size_t i = 0; i < t->conf->nsites; i++) {
		fs_id id = fs_lookup_name(fs, FS_SITE, t->conf->sites[i].name);

		if (id != FS_ID_NONE)
			fs_set_site_limit(fs, id, t->conf->sites[i].max_flows);
	}
	return r;
}

static void link_over(struct tunnels *t)
{
	for (uint32_t i = 0; i < t->n; i++)
		t->v[i]->carries = false;
	for (uint32_t i = 0; i < t->n; i++) {
		struct tunnel *tn = t->v[i];

		tn->over = tn->conf->over ? tunnels_by_name(t, tn->conf->over) : NULL;
		if (tn->over)
			tn->over->carries = true;
	}
}

int tunnels_commit(struct tunnels *t, struct tunnels *old, struct flowstate *fs)
{
	int r;

	if (old)
		leave(t, old, fs);
	r = bind_all(t, fs);
	link_over(t);
	for (uint32_t i = 0; old && i < FS_SLOTS; i++)
		if (old->sites[i].first && !site_of(t, old->sites[i].id))
			fs_unbind(fs, old->sites[i].id);
	return r;
}

struct tunnel *tunnels_at(const struct tunnels *t, uint32_t index)
{
	return index < t->n ? t->v[index] : NULL;
}

uint32_t tunnels_count(const struct tunnels *t)
{
	return t->n;
}

struct tunnel *tunnels_by_id(const struct tunnels *t, fs_id id)
{
	struct tunnel *tn = t->by_slot[FS_SLOT(id)];

	return tn && tn->id == id ? tn : NULL;
}

struct tunnel *tunnels_by_conn(const struct tunnels *t, uint32_t conn)
{
	struct tunnel *tn = t->by_slot[FS_SLOT(conn)];

	return conn && tn && tn->ipsec && tn->ipsec->conn == conn ? tn : NULL;
}

bool tunnels_keeps(const struct tunnels *next, const struct tunnel *t)
{
	return tunnels_by_name(next, t->conf->name) == t;
}

struct tunnel *tunnels_by_name(const struct tunnels *t, const char *name)
{
	uint32_t lo = 0, hi = t->n;

	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;
		int c = strcmp(name, t->v[mid]->conf->name);

		if (c == 0)
			return t->v[mid];
		if (c < 0)
			hi = mid;
		else
			lo = mid + 1;
	}
	return NULL;
}

struct tunnel *tunnels_of_site(const struct tunnels *t, fs_id site, uint64_t now_ms)
{
	const struct site *s = site_of(t, site);
	struct tunnel *found = NULL;
	bool found_up = false;

	for (uint32_t i = s ? s->first : 0; i; i = t->next[i - 1]) {
		struct tunnel *tn = t->v[i - 1];
		bool up = tunnel_state(tn, now_ms) == TUNNEL_UP;

		if (!found || (up && !found_up) ||
			(up == found_up && tn->conf->priority < found->conf->priority)) {
			found = tn;
			found_up = up;
		}
	}
	return found;
}

static bool is_up_by_itself(const struct tunnel *t, uint64_t now_ms)
{
	return t->id != FS_ID_NONE && now_ms >= t->down_until_ms && (!t->ipsec || t->ipsec->suite);
}

enum tunnel_state tunnel_state(const struct tunnel *t, uint64_t now_ms)
{
	bool up = is_up_by_itself(t, now_ms) && (!t->over || is_up_by_itself(t->over, now_ms));

	return up ? TUNNEL_UP : TUNNEL_DOWN;
}

bool tunnel_is_transport(const struct tunnel *t)
{
	return t->ipsec->suite ? t->ipsec->transport : t->conf->ike.mode == IPSEC_TRANSPORT;
}

uint32_t tunnel_gre_overhead(const struct tunnel *t)
{
	uint32_t all = conf_tunnel_overhead(t->conf);

	if (t->over && tunnel_is_transport(t->over))
		return all - (addr_is4(&t->conf->local) ? 20 : 40);
	return all;
}

uint32_t tunnel_known_pmtu(const struct tunnel *t, uint64_t now_ms)
{
	return t->pmtu && now_ms < t->pmtu_until_ms ? t->pmtu : 0;
}

/* Octets that may be put into one outer packet of an ipsec tunnel, as far as the path is known; UINT32_MAX: it is not. */
static uint32_t esp_fits(const struct tunnel *t, uint64_t now_ms)
{
	uint32_t pmtu = tunnel_known_pmtu(t, now_ms), headers;

	if (!pmtu || !t->ipsec->suite)
		return UINT32_MAX;
	headers = (addr_is4(&t->ipsec->remote.a) ? 20 : 40) + (t->ipsec->remote.port ? 8 : 0);
	return esp_inner_max(t->ipsec->suite, pmtu - headers);
}

/* The same of GRE, in the clear or over an ipsec tunnel, whose own mtu counts then, too. */
static uint32_t gre_fits(const struct tunnel *t, uint64_t now_ms)
{
	uint32_t headers = tunnel_gre_overhead(t), fits = tunnel_known_pmtu(t, now_ms);

	if (t->over) {
		fits = esp_fits(t->over, now_ms);
		if (t->over->conf->mtu < fits)
			fits = t->over->conf->mtu;
	} else if (!fits) {
		return UINT32_MAX;
	}
	return fits > headers ? fits - headers : 0;
}

uint32_t tunnel_mtu(const struct tunnel *t, uint8_t ver, uint64_t now_ms)
{
	uint32_t mtu = t->conf->mtu, fits = t->ipsec ? esp_fits(t, now_ms) : gre_fits(t, now_ms);

	if (fits < mtu)
		mtu = fits;
	if (ver == 6 && mtu < 1280)
		return 1280;
	return mtu < 68 ? 68 : mtu; /* RFC 791: what every IPv4 link takes */
}

bool tunnel_path_mtu(struct tunnel *t, uint32_t mtu, uint64_t now_ms)
{
	uint32_t least = addr_is4(t->ipsec ? &t->ipsec->remote.a : &t->conf->local) ? 576 : 1280;
	bool news;

	if (mtu < least)
		mtu = least;
	if (t->pmtu && now_ms < t->pmtu_until_ms && t->pmtu < mtu)
		return false;
	news = t->pmtu != mtu || now_ms >= t->pmtu_until_ms;
	t->pmtu = mtu;
	t->pmtu_until_ms = now_ms + TUNNEL_PMTU_MS;
	return news;
}

bool tunnel_may_answer(struct tunnel *t, uint64_t now_ms)
{
	enum { BURST = 100, PER_S = 100 };
	uint64_t gained = (now_ms - t->answers_ms) * PER_S / 1000;

	if (gained) {
		t->answers = t->answers + gained > BURST ? BURST : (uint32_t)(t->answers + gained);
		t->answers_ms = now_ms;
	}
	if (!t->answers)
		return false;
	t->answers--;
	return true;
}
