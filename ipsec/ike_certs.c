/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ike_certs.c - certificates and private keys out of files.
 *
 * Thousands of connections name the same few files. What these contain is parsed once and kept for as long as a connection
 * has it; it is found by the digest of the contents, so a file that changed is another one, whatever its path, and a copy is
 * the same. An authority is listed for as long as one of the files that are in use has it: what nobody names any longer is
 * trusted by nobody.
 */
#include "ipsec/ike_private.h"

#include <credentials/certificates/x509.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define FILE_MAX (1u << 20)

enum kind { OWN, CAS };

/* ---- a file ------------------------------------------------------------------------------------------ */

/* A file's octets and a NUL behind them. */
struct text {
	char *s;
	size_t len;
};

static void text_free(struct text *t)
{
	if (t->s)
		sodium_memzero(t->s, t->len);
	free(t->s);
	*t = (struct text){0};
}

/* No stdio: its buffer would keep a private key. Returns 0 or -errno; text_free either way. */
static int text_read(struct text *t, const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC), ret = 0;
	ssize_t n = 1;

	*t = (struct text){0};
	if (fd < 0)
		return -errno;
	t->s = malloc(FILE_MAX + 1);
	if (!t->s)
		ret = -ENOMEM;
	while (!ret && n > 0) {
		n = read(fd, t->s + t->len, FILE_MAX + 1 - t->len);
		if (n < 0)
			ret = -errno;
		else if ((t->len += (size_t)n) > FILE_MAX)
			ret = -EFBIG;
	}
	close(fd);
	if (!ret)
		t->s[t->len] = '\0';
	return ret;
}

static int text_load(struct text *t, const char *path, const char *what, char *err, size_t errlen)
{
	int ret = text_read(t, path);

	if (ret)
		snprintf(err, errlen, "%s '%s': %s", what, path, strerror(-ret));
	return ret;
}

static void digest(uint8_t out[IKE_DIGEST], enum kind kind, const struct text *texts, size_t n)
{
	crypto_generichash_state all;
	uint8_t one[IKE_DIGEST] = {(uint8_t)kind};

	crypto_generichash_init(&all, NULL, 0, IKE_DIGEST);
	crypto_generichash_update(&all, one, sizeof(one));
	for (size_t i = 0; i < n; i++) {
		crypto_generichash(one, sizeof(one), (const uint8_t *)texts[i].s, texts[i].len, NULL, 0);
		crypto_generichash_update(&all, one, sizeof(one));
	}
	crypto_generichash_final(&all, out, IKE_DIGEST);
}

/* ---- what is in it ----------------------------------------------------------------------------------- */

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

/* All certificates of a text, PEM one behind the other or one in DER, to list. */
static bool parse_certs(array_t *list, const struct text *t)
{
	static const char begin[] = "-----BEGIN CERTIFICATE-----", end[] = "-----END CERTIFICATE-----";
	const char *at = strstr(t->s, begin), *stop;
	bool good = true;

	if (!at)
		return add_cert(list, t->s, t->len, false);
	while (good && at) {
		stop = strstr(at, end);
		if (!stop)
			return false;
		stop += sizeof(end) - 1;
		good = add_cert(list, at, (size_t)(stop - at), true);
		at = strstr(stop, begin);
	}
	return good;
}

static int load_certs(
	array_t *list, const struct text *t, const char *path, const char *what, char *err, size_t errlen)
{
	if (parse_certs(list, t))
		return 0;
	snprintf(err, errlen, "%s '%s': not a certificate; X.509 in PEM or DER was expected", what, path);
	return -EINVAL;
}

/* Where a key in PEM begins: other things may stand before it, such as the parameters of its curve. Else, the text. */
static size_t key_at(const struct text *t)
{
	static const char begin[] = "-----BEGIN ", key[] = "PRIVATE KEY-----";

	for (const char *at = strstr(t->s, begin); at; at = strstr(at + 1, begin)) {
		const char *name = strstr(at, key);

		if (name && !memchr(at, '\n', (size_t)(name - at)))
			return (size_t)(at - t->s);
	}
	return 0;
}

static int load_key(struct ike_files *f, const struct text *t, const char *path, char *err, size_t errlen)
{
	certificate_t *cert = ike_own_cert(f);
	public_key_t *pub;
	size_t at = key_at(t);
	bool belongs;

	/* Despite its name it takes DER as well. */
	f->key = lib->creds->create(lib->creds, CRED_PRIVATE_KEY, KEY_ANY, BUILD_BLOB_PEM,
		chunk_create((u_char *)t->s + at, t->len - at), BUILD_END);
	if (!f->key) {
		snprintf(err, errlen,
			"key_file '%s': not a private key that can be read; RSA, ECDSA or EdDSA in PEM or "
			"DER, not encrypted, was expected",
			path);
		return -EINVAL;
	}
	pub = cert->get_public_key(cert);
	belongs = pub && f->key->belongs_to(f->key, pub);
	if (pub)
		pub->destroy(pub);
	if (belongs)
		return 0;
	snprintf(err, errlen, "key_file '%s': not the key of the certificate in cert_file", path);
	return -EINVAL;
}

static int check_cas(const struct ike_files *f, const char *path, char *err, size_t errlen)
{
	for (int i = 0; i < array_count(f->certs); i++) {
		certificate_t *ca;
		x509_t *x;

		array_get(f->certs, i, &ca);
		x = (x509_t *)ca;
		if (x->get_flags(x) & X509_CA)
			continue;
		snprintf(err, errlen, "ca_file '%s': not the certificate of an authority (CA: TRUE)", path);
		return -EINVAL;
	}
	return 0;
}

/* ---- shared ------------------------------------------------------------------------------------------ */

static struct ike_files **bucket(struct ike *ike, const uint8_t id[IKE_DIGEST])
{
	uint32_t h;

	memcpy(&h, id, sizeof(h));
	return &ike->files[h & (IKE_BUCKETS - 1)];
}

/* What has been parsed, referenced, or NULL. */
static struct ike_files *find(struct ike *ike, const uint8_t id[IKE_DIGEST])
{
	struct ike_files *f;

	pthread_mutex_lock(&ike->lock);
	for (f = *bucket(ike, id); f && memcmp(f->digest, id, IKE_DIGEST) != 0; f = f->next)
		;
	if (f)
		f->users++;
	pthread_mutex_unlock(&ike->lock);
	return f;
}

static struct ike_files *files_new(const uint8_t id[IKE_DIGEST])
{
	struct ike_files *f = calloc(1, sizeof(*f));

	if (!f)
		return NULL;
	memcpy(f->digest, id, IKE_DIGEST);
	f->users = 1;
	f->certs = array_create(0, 0);
	return f;
}

static void files_free(struct ike_files *f)
{
	if (!f)
		return;
	if (f->key)
		f->key->destroy(f->key);
	array_destroy_offset(f->certs, offsetof(certificate_t, destroy));
	free(f);
}

static void say(struct ike *ike, certificate_t *cert, const char *what)
{
	char name[256], line[sizeof(name) + 64];

	ike_print(name, sizeof(name), "%Y", cert->get_subject(cert));
	snprintf(line, sizeof(line), "%s: %s", name, what);
	ike_post_text(ike, IKE_EVENT_LOG, 0, LOG_LEVEL_DEBUG, line);
}

static bool list_ca(struct ike *ike, certificate_t *cert)
{
	struct ike_ca *ca;

	for (ca = ike->cas; ca && !cert->equals(cert, ca->cert); ca = ca->next)
		;
	if (!ca) {
		ca = calloc(1, sizeof(*ca));
		if (!ca)
			return false;
		ca->cert = cert->get_ref(cert);
		ca->next = ike->cas;
		ike->cas = ca;
		say(ike, cert, "an authority that is trusted from now on");
	}
	ca->users++;
	return true;
}

static void unlist_ca(struct ike *ike, certificate_t *cert)
{
	struct ike_ca **p, *ca;

	for (p = &ike->cas; *p && !cert->equals(cert, (*p)->cert); p = &(*p)->next)
		;
	ca = *p;
	if (!ca || --ca->users > 0)
		return;
	*p = ca->next;
	say(ike, cert, "no authority any longer");
	ca->cert->destroy(ca->cert);
	free(ca);
}

/* The first n of authorities are listed no longer. */
static void unlist_cas(struct ike *ike, const struct ike_files *f, int n)
{
	for (int i = 0; i < n; i++) {
		certificate_t *cert;

		array_get(f->certs, i, &cert);
		unlist_ca(ike, cert);
	}
}

/* Makes it known. 0 or -ENOMEM. */
static int publish(struct ike *ike, struct ike_files *f)
{
	struct ike_files **b = bucket(ike, f->digest);
	int n = f->key ? 0 : array_count(f->certs), ret = 0;

	pthread_mutex_lock(&ike->lock);
	for (int i = 0; i < n && !ret; i++) {
		certificate_t *cert;

		array_get(f->certs, i, &cert);
		if (!list_ca(ike, cert)) {
			unlist_cas(ike, f, i);
			ret = -ENOMEM;
		}
	}
	if (!ret) {
		f->next = *b;
		*b = f;
	}
	pthread_mutex_unlock(&ike->lock);
	return ret;
}

static void put(struct ike *ike, struct ike_files *f)
{
	struct ike_files **p;
	bool last;

	if (!f)
		return;
	pthread_mutex_lock(&ike->lock);
	last = --f->users == 0;
	if (last) {
		for (p = bucket(ike, f->digest); *p != f; p = &(*p)->next)
			;
		*p = f->next;
		unlist_cas(ike, f, f->key ? 0 : array_count(f->certs));
	}
	pthread_mutex_unlock(&ike->lock);
	if (last)
		files_free(f);
}

/* ---- a connection's ---------------------------------------------------------------------------------- */

static int load_own(
	struct ike *ike, struct ike_certs *c, const struct ike_conn *want, char *err, size_t errlen)
{
	struct text t[2] = {{0}};
	uint8_t id[IKE_DIGEST];
	struct ike_files *f = NULL;
	int ret = text_load(&t[0], want->cert_file, "cert_file", err, errlen);

	if (!ret)
		ret = text_load(&t[1], want->key_file, "key_file", err, errlen);
	if (ret)
		goto out;
	digest(id, OWN, t, 2);
	c->own = find(ike, id);
	if (c->own)
		goto out;
	f = files_new(id);
	ret = f ? load_certs(f->certs, &t[0], want->cert_file, "cert_file", err, errlen) : -ENOMEM;
	if (!ret)
		ret = load_key(f, &t[1], want->key_file, err, errlen);
	if (!ret)
		ret = publish(ike, f);
	if (!ret) {
		c->own = f;
		f = NULL;
		say(ike, ike_own_cert(c->own), "certificate and private key were loaded");
	}
out:
	files_free(f);
	text_free(&t[0]);
	text_free(&t[1]);
	return ret;
}

static int load_cas(
	struct ike *ike, struct ike_certs *c, const struct ike_conn *want, char *err, size_t errlen)
{
	struct text t;
	uint8_t id[IKE_DIGEST];
	struct ike_files *f = NULL;
	int ret = text_load(&t, want->ca_file, "ca_file", err, errlen);

	if (ret)
		goto out;
	digest(id, CAS, &t, 1);
	c->cas = find(ike, id);
	if (c->cas)
		goto out;
	f = files_new(id);
	ret = f ? load_certs(f->certs, &t, want->ca_file, "ca_file", err, errlen) : -ENOMEM;
	if (!ret)
		ret = check_cas(f, want->ca_file, err, errlen);
	if (!ret)
		ret = publish(ike, f);
	if (!ret) {
		c->cas = f;
		f = NULL;
	}
out:
	files_free(f);
	text_free(&t);
	return ret;
}

int ike_certs_load(
	struct ike *ike, struct ike_certs *c, const struct ike_conn *want, char *err, size_t errlen)
{
	int ret = load_own(ike, c, want, err, errlen);

	return ret ? ret : load_cas(ike, c, want, err, errlen);
}

void ike_certs_drop(struct ike *ike, struct ike_certs *c)
{
	put(ike, c->own);
	put(ike, c->cas);
	*c = (struct ike_certs){0};
}
