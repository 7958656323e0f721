/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ike_creds.c - keys and certificates (credential_set_t).
 *
 * Whatever libcharon asks for is asked on behalf of the IKE_SA that its thread works on, and that one's connection
 * answers, alone: its pre-shared key, its private key, its CAs. So a key that is another connection's, or a certificate
 * of another one's CA, opens nothing.
 *
 * As responder libcharon names the CAs that it would trust before it knows who comes; then, and only then, all are listed.
 */
#include "ipsec/ike_private.h"

#include <stdio.h>
#include <stdlib.h>

#define CERTREQS 16 /* of 20 octets each */

/* ---- loading ---------------------------------------------------------------------------------------- */

/* Whether our own certificate speaks for our own identity. */
static int check_local_id(const struct conn *c, const char *path, char *err, size_t errlen)
{
	certificate_t *cert = ike_own_cert(c->certs.own);
	char id[256];

	if (cert->has_subject(cert, c->local_id))
		return 0;
	snprintf(err, errlen, "cert_file '%s': not for local_id '%s'; neither subject nor subjectAltName",
		path, ike_print(id, sizeof(id), "%Y", c->local_id));
	return -EINVAL;
}

int ike_creds_load(struct ike *ike, struct conn *c, const struct ike_conn *want, char *err, size_t errlen)
{
	int ret;

	if (want->psk) {
		c->psk = shared_key_create(SHARED_IKE, ike_chunk(want->psk, want->psk_len, 0));
		return 0;
	}
	if (!want->cert_file || !want->key_file || !want->ca_file) {
		snprintf(err, errlen, "neither a psk, nor cert_file, key_file and ca_file");
		return -EINVAL;
	}
	ret = ike_certs_load(ike, &c->certs, want, err, errlen);
	return ret ? ret : check_local_id(c, want->cert_file, err, errlen);
}

void ike_creds_drop(struct ike *ike, struct conn *c)
{
	if (c->psk)
		c->psk->destroy(c->psk);
	ike_certs_drop(ike, &c->certs);
}

/* ---- what libcharon asks for ------------------------------------------------------------------------ */

static struct ike *of_set(credential_set_t *s)
{
	return (struct ike *)(void *)((char *)s - offsetof(struct ike, creds));
}

static void certs_free(void *list)
{
	linked_list_t *l = list;
	l->destroy_offset(l, offsetof(certificate_t, destroy));
}

static bool is_wanted(certificate_t *cert, certificate_type_t type, key_type_t key, identification_t *id)
{
	public_key_t *pub;
	bool good;

	if (type != CERT_ANY && type != cert->get_type(cert))
		return false;
	if (key == KEY_ANY && (!id || cert->has_subject(cert, id)))
		return true;
	pub = cert->get_public_key(cert);
	if (!pub)
		return false;
	good = (key == KEY_ANY || key == pub->get_type(pub)) &&
	       (!id || cert->has_subject(cert, id) || pub->has_fingerprint(pub, id->get_encoding(id)));
	pub->destroy(pub);
	return good;
}

static void offer(
	linked_list_t *to, certificate_t *cert, certificate_type_t type, key_type_t key, identification_t *id)
{
	if (is_wanted(cert, type, key, id))
		to->insert_last(to, cert->get_ref(cert));
}

static void collect(linked_list_t *to, const struct ike_files *from, certificate_type_t type, key_type_t key,
	identification_t *id)
{
	for (int i = 0; from && i < array_count(from->certs); i++) {
		certificate_t *cert;

		array_get(from->certs, i, &cert);
		offer(to, cert, type, key, id);
	}
}

static enumerator_t *create_cert_enumerator(
	credential_set_t *s, certificate_type_t type, key_type_t key, identification_t *id, bool trusted)
{
	struct ike *ike = of_set(s);
	ike_sa_t *sa = charon->bus->get_sa(charon->bus);
	linked_list_t *list = linked_list_create();
	struct conn *c = ike_conn_current(ike);

	if (c) {
		collect(list, c->certs.cas, type, key, id);
		if (!trusted)
			collect(list, c->certs.own, type, key, id);
		ike_conn_put(ike, c);
	} else if (sa && !sa->get_peer_cfg(sa)) {
		/* To name them in the first answer, which has to fit into a datagram, whoever asks: some. They are a hint (RFC
		 * 7296 3.7), and that a certificate is asked for at all is what stock peers heed. */
		unsigned n = 0;

		pthread_mutex_lock(&ike->lock);
		for (const struct ike_ca *ca = ike->cas; ca && (id || n < CERTREQS); ca = ca->next, n++)
			offer(list, ca->cert, type, key, id);
		pthread_mutex_unlock(&ike->lock);
	}
	return enumerator_create_cleaner(list->create_enumerator(list), certs_free, list);
}

static void key_free(void *key)
{
	private_key_t *k = key;
	k->destroy(k);
}

static enumerator_t *create_private_enumerator(credential_set_t *s, key_type_t type, identification_t *id)
{
	struct ike *ike = of_set(s);
	struct conn *c = ike_conn_current(ike);
	private_key_t *key = NULL;

	if (c && c->certs.own) {
		private_key_t *k = c->certs.own->key;

		if ((type == KEY_ANY || type == k->get_type(k)) &&
			(!id || k->has_fingerprint(k, id->get_encoding(id))))
			key = k->get_ref(k);
	}
	ike_conn_put(ike, c);
	return key ? enumerator_create_single(key, key_free) : NULL;
}

/* Of one key and how well the identities match. */
struct shared_enumerator {
	enumerator_t public;
	shared_key_t *key;
	bool done;
};

static bool shared_next(enumerator_t *public, va_list args)
{
	struct shared_enumerator *e = (struct shared_enumerator *)public;
	id_match_t *me, *other;
	shared_key_t **key;

	/* Who gets nothing must not touch args: the next set's enumerator reads them. */
	if (e->done)
		return false;
	e->done = true;
	key = va_arg(args, shared_key_t **);
	me = va_arg(args, id_match_t *);
	other = va_arg(args, id_match_t *);
	*key = e->key;
	if (me)
		*me = ID_MATCH_PERFECT;
	if (other)
		*other = ID_MATCH_PERFECT;
	return true;
}

static void shared_destroy(enumerator_t *public)
{
	struct shared_enumerator *e = (struct shared_enumerator *)public;

	e->key->destroy(e->key);
	free(e);
}

/* A peer need not say whom it wants to reach: libcharon asks for any identity of ours then. Its own has to be there. */
static bool is_pair(const struct conn *c, identification_t *me, identification_t *other)
{
	if (!other || !c->remote_id->equals(c->remote_id, other))
		return false;
	return !me || me->get_type(me) == ID_ANY || c->local_id->equals(c->local_id, me);
}

static enumerator_t *create_shared_enumerator(
	credential_set_t *s, shared_key_type_t type, identification_t *me, identification_t *other)
{
	struct ike *ike = of_set(s);
	struct shared_enumerator *e = NULL;
	struct conn *c;

	if (type != SHARED_IKE && type != SHARED_ANY)
		return NULL;
	c = ike_conn_current(ike);
	if (c && c->psk && is_pair(c, me, other))
		e = calloc(1, sizeof(*e));
	if (e) {
		e->public.enumerate = enumerator_enumerate_default;
		e->public.venumerate = shared_next;
		e->public.destroy = shared_destroy;
		e->key = c->psk->get_ref(c->psk);
	}
	ike_conn_put(ike, c);
	return e ? &e->public : NULL;
}

static enumerator_t *create_cdp_enumerator(credential_set_t *s, certificate_type_t type, identification_t *id)
{
	return NULL;
}

static void cache_cert(credential_set_t *s, certificate_t *cert)
{
}

void ike_creds_init(struct ike *ike)
{
	ike->creds = (credential_set_t){
		.create_private_enumerator = create_private_enumerator,
		.create_cert_enumerator = create_cert_enumerator,
		.create_shared_enumerator = create_shared_enumerator,
		.create_cdp_enumerator = create_cdp_enumerator,
		.cache_cert = cache_cert,
	};
}
