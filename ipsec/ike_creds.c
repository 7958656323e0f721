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

#include <credentials/certificates/x509.h>
#include <stdio.h>
#include <stdlib.h>

#define FILE_MAX (1u << 20)

/* ---- loading ---------------------------------------------------------------------------------------- */

/* A file's octets and a NUL behind them, to be freed; or NULL, and errno says why. */
static char *read_file(const char *path, size_t *len)
{
	FILE *f = fopen(path, "re");
	char *buf = f ? malloc(FILE_MAX + 1) : NULL;
	int err = errno;

	if (buf) {
		*len = fread(buf, 1, FILE_MAX, f);
		err = ferror(f) ? EIO : !feof(f) ? EFBIG : 0;
		buf[*len] = '\0';
	}
	if (f)
		(void)fclose(f);
	if (buf && err) {
		free(buf);
		buf = NULL;
	}
	errno = err;
	return buf;
}

static bool add_cert(array_t *list, const char *data, size_t len, bool pem)
{
	chunk_t c = chunk_create((u_char *)(uintptr_t)data, len);
	certificate_t *cert = lib->creds->create(lib->creds, CRED_CERTIFICATE, CERT_X509,
		pem ? BUILD_BLOB_PEM : BUILD_BLOB_ASN1_DER, c, BUILD_END);

	if (!cert)
		return false;
	array_insert(list, ARRAY_TAIL, cert);
	return true;
}

/* All certificates of a file, PEM one behind the other or one in DER, to list. */
static int load_certs(array_t *list, const char *path, const char *what, char *err, size_t errlen)
{
	static const char begin[] = "-----BEGIN CERTIFICATE-----", end[] = "-----END CERTIFICATE-----";
	size_t len = 0;
	char *text = read_file(path, &len), *at;
	int ret = -errno;
	bool good = true;

	if (!text) {
		snprintf(err, errlen, "%s '%s': %s", what, path, strerror(-ret));
		return ret;
	}
	at = strstr(text, begin);
	if (!at)
		good = add_cert(list, text, len, false);
	while (good && at) {
		char *stop = strstr(at, end);

		if (!stop) {
			good = false;
			break;
		}
		stop += sizeof(end) - 1;
		good = add_cert(list, at, (size_t)(stop - at), true);
		at = strstr(stop, begin);
	}
	free(text);
	if (good)
		return 0;
	snprintf(err, errlen, "%s '%s': not a certificate; X.509 in PEM or DER was expected", what, path);
	return -EINVAL;
}

/* Thousands of connections may name the same CA: one object is kept, by reference. */
static certificate_t *share_ca(struct ike *ike, certificate_t *ca)
{
	certificate_t *known, *found = NULL;

	pthread_mutex_lock(&ike->lock);
	for (int i = 0; i < array_count(ike->cas) && !found; i++) {
		array_get(ike->cas, i, &known);
		if (known->equals(known, ca))
			found = known->get_ref(known);
	}
	if (!found) {
		array_insert(ike->cas, ARRAY_TAIL, ca->get_ref(ca));
		found = ca->get_ref(ca);
	}
	pthread_mutex_unlock(&ike->lock);
	ca->destroy(ca);
	return found;
}

static int load_cas(struct ike *ike, struct conn *c, const char *path, char *err, size_t errlen)
{
	certificate_t *ca;
	int ret;

	c->certs.cas = array_create(0, 0);
	ret = load_certs(c->certs.cas, path, "ca_file", err, errlen);
	if (ret)
		return ret;
	for (int n = array_count(c->certs.cas); n > 0; n--) {
		x509_t *x;

		array_remove(c->certs.cas, ARRAY_HEAD, &ca);
		x = (x509_t *)ca;
		if (!(x->get_flags(x) & X509_CA)) {
			ca->destroy(ca);
			snprintf(err, errlen, "ca_file '%s': not the certificate of an authority (CA: TRUE)",
				path);
			return -EINVAL;
		}
		array_insert(c->certs.cas, ARRAY_TAIL, share_ca(ike, ca));
	}
	return 0;
}

static int load_key(struct conn *c, const char *path, char *err, size_t errlen)
{
	public_key_t *pub;
	bool belongs;

	c->certs.key =
		lib->creds->create(lib->creds, CRED_PRIVATE_KEY, KEY_ANY, BUILD_FROM_FILE, path, BUILD_END);
	if (!c->certs.key) {
		snprintf(err, errlen,
			"key_file '%s': not a private key that can be read; RSA, ECDSA or EdDSA in PEM or "
			"DER, not encrypted, was expected",
			path);
		return -EINVAL;
	}
	pub = c->certs.own->get_public_key(c->certs.own);
	belongs = pub && c->certs.key->belongs_to(c->certs.key, pub);
	if (pub)
		pub->destroy(pub);
	if (belongs)
		return 0;
	snprintf(err, errlen, "key_file '%s': not the key of the certificate in cert_file", path);
	return -EINVAL;
}

static int load_own(struct conn *c, const char *path, char *err, size_t errlen)
{
	char id[256];
	int ret;

	c->certs.chain = array_create(0, 0);
	ret = load_certs(c->certs.chain, path, "cert_file", err, errlen);
	if (ret)
		return ret;
	array_remove(c->certs.chain, ARRAY_HEAD, &c->certs.own);
	if (c->certs.own->has_subject(c->certs.own, c->local_id))
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
	ret = load_own(c, want->cert_file, err, errlen);
	if (!ret)
		ret = load_key(c, want->key_file, err, errlen);
	if (!ret)
		ret = load_cas(ike, c, want->ca_file, err, errlen);
	return ret;
}

void ike_creds_drop(struct conn *c)
{
	if (c->psk)
		c->psk->destroy(c->psk);
	if (c->certs.key)
		c->certs.key->destroy(c->certs.key);
	if (c->certs.own)
		c->certs.own->destroy(c->certs.own);
	array_destroy_offset(c->certs.chain, offsetof(certificate_t, destroy));
	array_destroy_offset(c->certs.cas, offsetof(certificate_t, destroy));
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

static void collect(
	linked_list_t *to, array_t *from, certificate_type_t type, key_type_t key, identification_t *id)
{
	for (int i = 0; i < array_count(from); i++) {
		certificate_t *cert;

		array_get(from, i, &cert);
		if (is_wanted(cert, type, key, id))
			to->insert_last(to, cert->get_ref(cert));
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
		if (!trusted) {
			if (c->certs.own && is_wanted(c->certs.own, type, key, id))
				list->insert_last(list, c->certs.own->get_ref(c->certs.own));
			collect(list, c->certs.chain, type, key, id);
		}
		ike_conn_put(ike, c);
	} else if (sa && !sa->get_peer_cfg(sa)) {
		pthread_mutex_lock(&ike->lock);
		collect(list, ike->cas, type, key, id);
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

	if (c && c->certs.key) {
		private_key_t *k = c->certs.key;

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
