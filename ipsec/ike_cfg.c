/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ike_cfg.c - what libcharon goes by for a connection: ike_cfg (addresses, proposals of IKE), peer_cfg (identities, how to
 * authenticate, lifetimes of IKE) and child_cfg (selectors, proposals and lifetimes of ESP).
 */
#include "ipsec/ike_private.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- ike_cfg, shared -------------------------------------------------------------------------------- */

static unsigned bucket(const struct addr *a)
{
	return chunk_hash(chunk_create((u_char *)(uintptr_t)a->b, 16)) & (IKE_BUCKETS - 1);
}

static struct ike_share **share_bucket(struct ike *ike, const struct addr *remote)
{
	return &ike->shares[bucket(remote)];
}

/* Everything that an ike_cfg is made of, in one line. The caller's. */
static char *share_key(const struct ike_conn *w)
{
	char local[ADDR_STRLEN], remote[ADDR_STRLEN];
	char *key = NULL;
	size_t len = 0;
	FILE *f = open_memstream(&key, &len);

	if (!f)
		return NULL;
	fprintf(f, "%s %s %d %d", addr_str(&w->local, local), addr_str(&w->remote, remote), w->force_encap,
		w->fragmentation);
	for (uint32_t i = 0; i < w->nike_proposals; i++)
		fprintf(f, " %s", w->ike_proposals[i]);
	if (fclose(f)) {
		free(key);
		return NULL;
	}
	return key;
}

/* Where it stands, or NULL at the place where it belongs. */
static struct ike_local **local_find(struct ike *ike, const struct addr *a)
{
	struct ike_local **p = &ike->locals[bucket(a)];

	while (*p && !addr_eq(&(*p)->a, a))
		p = &(*p)->next;
	return p;
}

bool ike_cfg_is_local(struct ike *ike, const struct addr *a)
{
	const struct ike_local *l = *local_find(ike, a);

	return l && l->users > 0;
}

bool ike_cfg_was_local(struct ike *ike, const struct addr *a)
{
	return *local_find(ike, a) != NULL;
}

static bool local_get(struct ike *ike, const struct addr *a)
{
	struct ike_local **p = local_find(ike, a);

	if (!*p) {
		*p = calloc(1, sizeof(**p));
		if (!*p)
			return false;
		(*p)->a = *a;
	}
	(*p)->users++;
	return true;
}

static void local_put(struct ike *ike, const struct addr *a)
{
	struct ike_local *l = *local_find(ike, a);

	assert(l && l->users); /* who puts has got it */
	l->users--;
}

void ike_cfg_free(struct ike *ike)
{
	for (unsigned i = 0; i < IKE_BUCKETS; i++) {
		struct ike_local *l;

		while ((l = ike->locals[i])) {
			ike->locals[i] = l->next;
			free(l);
		}
	}
}

static int share_new(struct ike_share **out, const struct ike_conn *w, char *err, size_t errlen)
{
	char local[ADDR_STRLEN], remote[ADDR_STRLEN] = "%any";
	ike_cfg_create_t create = {
		.version = IKEV2,
		.local = local,
		.local_port = IKE_PORT,
		.remote = remote,
		.remote_port = IKE_PORT,
		.force_encap = w->force_encap,
		.fragmentation = w->fragmentation ? FRAGMENTATION_YES : FRAGMENTATION_ACCEPT,
		.childless = CHILDLESS_ALLOW,
	};
	struct ike_share *s = calloc(1, sizeof(*s));

	if (!s)
		return -ENOMEM;
	addr_str(&w->local, local);
	if (!addr_is_none(&w->remote))
		addr_str(&w->remote, remote);
	s->local = w->local;
	s->remote = w->remote;
	s->cfg = ike_cfg_create(&create);
	for (uint32_t i = 0; i < w->nike_proposals; i++) {
		proposal_t *p = proposal_create_from_string(PROTO_IKE, w->ike_proposals[i]);

		if (!p) {
			snprintf(err, errlen, "ike proposal '%s' is refused by libstrongswan",
				w->ike_proposals[i]);
			s->cfg->destroy(s->cfg);
			free(s);
			return -EINVAL;
		}
		s->cfg->add_proposal(s->cfg, p);
	}
	*out = s;
	return 0;
}

static int share_get(
	struct ike *ike, struct ike_share **out, const struct ike_conn *w, char *err, size_t errlen)
{
	struct ike_share **head = share_bucket(ike, &w->remote), *s;
	char *key = share_key(w);
	int ret;

	if (!key)
		return -ENOMEM;
	for (s = *head; s; s = s->next)
		if (strcmp(s->key, key) == 0)
			break;
	if (s) {
		free(key);
		s->users++;
		*out = s;
		return 0;
	}
	if (!local_get(ike, &w->local)) {
		free(key);
		return -ENOMEM;
	}
	ret = share_new(&s, w, err, errlen);
	if (ret) {
		local_put(ike, &w->local);
		free(key);
		return ret;
	}
	s->key = key;
	s->users = 1;
	s->next = *head;
	*head = s;
	*out = s;
	return 0;
}

static void share_put(struct ike *ike, struct ike_share *s)
{
	struct ike_share **p;

	if (!s || --s->users)
		return;
	for (p = share_bucket(ike, &s->remote); *p != s; p = &(*p)->next)
		;
	*p = s->next;
	local_put(ike, &s->local);
	s->cfg->destroy(s->cfg);
	free(s->key);
	free(s);
}

/* ---- peer_cfg --------------------------------------------------------------------------------------- */

static uint32_t tenth(uint64_t v)
{
	return (uint32_t)((v + 9) / 10);
}

static auth_cfg_t *make_auth(const struct conn *c, bool local)
{
	auth_cfg_t *auth = auth_cfg_create();
	identification_t *id = local ? c->local_id : c->remote_id;

	auth->add(auth, AUTH_RULE_IDENTITY, id->clone(id));
	auth->add(auth, AUTH_RULE_AUTH_CLASS, c->psk ? AUTH_CLASS_PSK : AUTH_CLASS_PUBKEY);
	if (c->psk)
		return auth;
	if (local) {
		certificate_t *own = ike_own_cert(c->certs.own);

		auth->add(auth, AUTH_RULE_SUBJECT_CERT, own->get_ref(own));
	} else {
		for (int i = 0; i < array_count(c->certs.cas->certs); i++) {
			certificate_t *ca;

			array_get(c->certs.cas->certs, i, &ca);
			auth->add(auth, AUTH_RULE_CA_CERT, ca->get_ref(ca));
		}
	}
	return auth;
}

/* When both ends were to renew in the same second, they would do it twice: each draws a time out of the last tenth. */
static peer_cfg_t *make_peer(const struct conn *c, const struct ike_conn *w)
{
	uint32_t shortest = w->ike_rekey_s;
	peer_cfg_create_t create = {
		.cert_policy = CERT_ALWAYS_SEND,
		.unique = UNIQUE_REPLACE,
		.keyingtries = 1, /* ike_steer.c tries again */
		.rekey_time = w->ike_rekey_s,
		.reauth_time = w->ike_reauth_s,
		.no_mobike = !w->mobike,
		.dpd = w->dpd_s,
		.if_id_in = w->id,
		.if_id_out = w->id,
	};
	peer_cfg_t *peer;

	if (!shortest || (w->ike_reauth_s && w->ike_reauth_s < shortest))
		shortest = w->ike_reauth_s;
	create.jitter_time = create.over_time = tenth(shortest);
	peer = peer_cfg_create(c->name, c->share->cfg->get_ref(c->share->cfg), &create);
	peer->add_auth_cfg(peer, make_auth(c, true), true);
	peer->add_auth_cfg(peer, make_auth(c, false), false);
	return peer;
}

/* ---- child_cfg -------------------------------------------------------------------------------------- */

static traffic_selector_t *make_selector(const struct prefix *p, uint8_t proto)
{
	struct addr a = p->a;
	bool is4 = addr_is4(&p->a);
	host_t *net = ike_host(&a, 0);

	/* 0.0.0.0/0 is that; ::/0 has an address that ours takes for none. */
	if (!is4 && addr_is_none(&p->a)) {
		net->destroy(net);
		net = host_create_any(AF_INET6);
	}
	return traffic_selector_create_from_subnet(net, is4 ? p->len - 96 : p->len, proto, 0, 65535);
}

static void add_selectors(
	child_cfg_t *child, bool local, const struct prefix *p, uint32_t n, const struct ike_conn *w)
{
	static const struct prefix everything[] = {
		{.a = {.b = {[10] = 0xff, [11] = 0xff}}, .len = 96},
		{.len = 0},
	};

	if (!n && w->transport) {
		child->add_traffic_selector(
			child, local, traffic_selector_create_dynamic(w->ts_proto, 0, 65535));
		return;
	}
	if (!n) {
		p = everything;
		n = 2;
	}
	for (uint32_t i = 0; i < n; i++)
		child->add_traffic_selector(child, local, make_selector(&p[i], w->ts_proto));
}

static int make_child(struct conn *c, const struct ike_conn *w, char *err, size_t errlen)
{
	child_cfg_create_t create = {
		.options = OPT_NO_POLICIES,
		.reqid = w->id,
		.if_id_in = w->id,
		.if_id_out = w->id,
		.mode = w->transport ? MODE_TRANSPORT : MODE_TUNNEL,
		.tfc = w->tfc == UINT16_MAX ? UINT32_MAX : w->tfc,
		.lifetime =
			{
				.time = {w->child_rekey_s + tenth(w->child_rekey_s), w->child_rekey_s,
					tenth(w->child_rekey_s)},
				.bytes = {w->child_rekey_octets + w->child_rekey_octets / 10,
					w->child_rekey_octets, w->child_rekey_octets / 10},
				.packets = {w->child_rekey_packets + w->child_rekey_packets / 10,
					w->child_rekey_packets, w->child_rekey_packets / 10},
			},
	};
	child_cfg_t *child = child_cfg_create(c->name, &create);

	for (uint32_t i = 0; i < w->nesp_proposals; i++) {
		proposal_t *p = proposal_create_from_string(PROTO_ESP, w->esp_proposals[i]);

		if (!p) {
			snprintf(err, errlen, "esp proposal '%s' is refused by libstrongswan",
				w->esp_proposals[i]);
			child->destroy(child);
			return -EINVAL;
		}
		child->add_proposal(child, p);
	}
	child->set_replay_window(child, w->replay_window);
	add_selectors(child, true, w->local_ts, w->nlocal_ts, w);
	add_selectors(child, false, w->remote_ts, w->nremote_ts, w);
	c->child_cfg = child;
	return 0;
}

/* ---- together --------------------------------------------------------------------------------------- */

int ike_cfg_build(struct ike *ike, struct conn *c, const struct ike_conn *want, char *err, size_t errlen)
{
	int ret = share_get(ike, &c->share, want, err, errlen);

	if (!ret)
		ret = make_child(c, want, err, errlen);
	if (ret)
		return ret;
	c->peer_cfg = make_peer(c, want);
	c->peer_cfg->add_child_cfg(c->peer_cfg, c->child_cfg->get_ref(c->child_cfg));
	return 0;
}

void ike_cfg_drop(struct ike *ike, struct conn *c)
{
	share_put(ike, c->share);
	c->share = NULL;
}
