/* SPDX-License-Identifier: GPL-2.0-or-later */
/* config_certs.c - certificates and private keys that tunnels name: read, looked through, compared.
 *
 * The key exchange loads the files itself. Here they are read so that what is wrong with them is told by `arrd -t`, and
 * so that a reload notices that one has other contents. Thousands of tunnels name the same few files: each is read once
 * a load.
 */
#include "gateway/config_private.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <search.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#define CERT_FILE_MAX 65536 /* octets */
#define KEY_ID_MAX    64    /* octets of one that a certificate may have */

enum cred_kind { CERT, KEY, CA };

static const char *const options_of_kind[] = {[CERT] = "cert_file", [KEY] = "key_file", [CA] = "ca_file"};

/* A file that was read as one kind of thing. */
struct cred {
	enum cred_kind kind;
	char *path;
	char why[256];     /* it is of no use; empty: it is good */
	char warning[128]; /* it is odd; empty: it is not */
	X509 *cert;
	EVP_PKEY *key;
	unsigned char hash[CONF_HASH];
};

static int by_kind_and_path(const void *a, const void *b)
{
	const struct cred *x = a, *y = b;

	return x->kind != y->kind ? (int)x->kind - (int)y->kind : strcmp(x->path, y->path);
}

static void cred_free(void *cred)
{
	struct cred *c = cred;

	X509_free(c->cert);
	EVP_PKEY_free(c->key);
	free(c->path);
	free(c);
}

void config_certs_free(struct loader *l)
{
	tdestroy(l->certs, cred_free);
	l->certs = NULL;
}

/* ---- one file ------------------------------------------------------------------------------------ */

/* Instead of OpenSSL asking at the terminal. */
static int no_passphrase(char *buf, int size, int rwflag, void *arg)
{
	(void)buf;
	(void)size;
	(void)rwflag;
	*(bool *)arg = true;
	return -1;
}

static bool is_pem(const char *text)
{
	return strstr(text, "-----BEGIN ") != NULL;
}

static void judge_cert(struct cred *c, X509 *x)
{
	if (c->kind == CA && X509_check_ca(x) != 1)
		snprintf(c->why, sizeof(c->why),
			"has a certificate of no authority; expected the basic constraint CA:TRUE");
	if (X509_cmp_current_time(X509_get0_notAfter(x)) < 0)
		snprintf(c->warning, sizeof(c->warning), "has a certificate that has expired");
	else if (X509_cmp_current_time(X509_get0_notBefore(x)) > 0)
		snprintf(c->warning, sizeof(c->warning), "has a certificate that is not valid yet");
}

/* In PEM there may be several one behind the other: authorities, or, behind a certificate, those that signed it. */
static void take_certs(struct cred *c, const char *text, size_t len)
{
	const unsigned char *der = (const unsigned char *)text;
	BIO *bio = is_pem(text) ? BIO_new_mem_buf(text, (int)len) : NULL;
	X509 *x = bio ? PEM_read_bio_X509(bio, NULL, NULL, NULL) : d2i_X509(NULL, &der, (long)len);

	c->cert = x;
	while (x) {
		judge_cert(c, x);
		if (x != c->cert)
			X509_free(x);
		x = bio ? PEM_read_bio_X509(bio, NULL, NULL, NULL) : NULL;
	}
	if (!c->cert || (bio && ERR_GET_REASON(ERR_peek_last_error()) != PEM_R_NO_START_LINE))
		snprintf(c->why, sizeof(c->why), "has %s; expected X.509 in PEM or DER",
			c->cert ? "something behind its certificate that is none" : "no certificate");
	BIO_free(bio);
}

static void take_key(struct cred *c, const char *text, size_t len)
{
	const unsigned char *der = (const unsigned char *)text;
	BIO *bio = is_pem(text) ? BIO_new_mem_buf(text, (int)len) : NULL;
	bool asked = false;
	int type;

	c->key = bio ? PEM_read_bio_PrivateKey(bio, NULL, no_passphrase, &asked)
		     : d2i_AutoPrivateKey(NULL, &der, (long)len);
	BIO_free(bio);
	type = c->key ? EVP_PKEY_base_id(c->key) : EVP_PKEY_NONE;
	if (!c->key && asked)
		snprintf(c->why, sizeof(c->why),
			"has a private key under a passphrase; expected one that needs none");
	else if (!c->key)
		snprintf(c->why, sizeof(c->why), "has no private key; expected one, in PEM or DER");
	else if (type != EVP_PKEY_RSA && type != EVP_PKEY_EC && type != EVP_PKEY_ED25519 &&
		 type != EVP_PKEY_ED448)
		snprintf(c->why, sizeof(c->why),
			"has a private key that IKE cannot sign with; expected RSA, ECDSA, Ed25519 or Ed448");
}

/* Reads the file. Returns 0 or -ENOMEM. */
static int cred_read(struct loader *l, struct cred *c)
{
	const char *exposed;
	char *text;
	struct stat st;
	size_t len = 0;
	int err = config_slurp(c->path, CERT_FILE_MAX, c->kind == KEY ? "a private key" : "a certificate",
		&text, &len, &st, c->why, sizeof(c->why));

	if (err)
		return err == -ENOMEM ? err : 0;
	exposed = c->kind == KEY ? config_exposed(l, &st) : NULL;
	if (exposed)
		snprintf(c->why, sizeof(c->why), "%s", exposed);
	else if (c->kind == KEY)
		take_key(c, text, len);
	else
		take_certs(c, text, len);
	ERR_clear_error(); /* the queue is the thread's, and what is in it was told */
	crypto_generichash(c->hash, sizeof(c->hash), (unsigned char *)text, len, NULL, 0);
	sodium_memzero(text, len);
	free(text);
	return 0;
}

/* What a path names, read when it is met for the first time. NULL: memory is out. */
static const struct cred *cred_get(struct loader *l, enum cred_kind kind, char *path)
{
	struct cred key = {.kind = kind, .path = path}, *c;
	void *node = tfind(&key, &l->certs, by_kind_and_path);

	if (node)
		return *(struct cred **)node;
	c = calloc(1, sizeof(*c));
	if (!c)
		return NULL;
	c->kind = kind;
	c->path = strdup(path);
	if (!c->path || cred_read(l, c) || !tsearch(c, &l->certs, by_kind_and_path)) {
		cred_free(c);
		return NULL;
	}
	return c;
}

/* ---- identities ---------------------------------------------------------------------------------- */

/* The subject in the form of value_identity_canon. False when it has attributes that cannot be written there. */
static bool subject_canon(const X509 *x, char buf[VALUE_IDENTITY_CANON])
{
	const X509_NAME *name = X509_get_subject_name(x);
	char text[VALUE_IDENTITY_MAX + 1];
	size_t n = 0;

	for (int i = 0; i < X509_NAME_entry_count(name); i++) {
		const X509_NAME_ENTRY *e = X509_NAME_get_entry(name, i);
		const ASN1_STRING *v = X509_NAME_ENTRY_get_data(e);
		const char *key = OBJ_nid2sn(OBJ_obj2nid(X509_NAME_ENTRY_get_object(e)));

		if (memchr(ASN1_STRING_get0_data(v), '/', (size_t)ASN1_STRING_length(v)))
			return false;
		if (n < sizeof(text))
			n += (size_t)snprintf(text + n, sizeof(text) - n, "/%s=%.*s",
				strcmp(key, "GN") == 0 ? "G" : key, ASN1_STRING_length(v),
				(const char *)ASN1_STRING_get0_data(v));
	}
	return n > 0 && n < sizeof(text) && value_identity_canon(text, buf, NULL) == 0;
}

static bool is_octets(const char *hex, const unsigned char *octets, size_t n)
{
	char text[2 * KEY_ID_MAX + 1];

	return n <= KEY_ID_MAX && strcmp(sodium_bin2hex(text, sizeof(text), octets, n), hex) == 0;
}

/* What libstrongswan takes a key id for: the digest of a certificate, its subjectKeyIdentifier, its serial number, the digest of
 * its public key with the algorithm's name around it or without. */
static bool cert_has_key_id(X509 *x, const char *hex)
{
	const ASN1_OCTET_STRING *ski = X509_get0_subject_key_id(x);
	const ASN1_INTEGER *serial = X509_get0_serialNumber(x);
	unsigned char md[EVP_MAX_MD_SIZE], *spki = NULL;
	unsigned n = 0;
	int len;

	if (ski && is_octets(hex, ASN1_STRING_get0_data(ski), (size_t)ASN1_STRING_length(ski)))
		return true;
	if (is_octets(hex, ASN1_STRING_get0_data(serial), (size_t)ASN1_STRING_length(serial)))
		return true;
	if (X509_digest(x, EVP_sha1(), md, &n) && is_octets(hex, md, n))
		return true;
	if (X509_pubkey_digest(x, EVP_sha1(), md, &n) && is_octets(hex, md, n))
		return true;
	len = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(x), &spki);
	if (len <= 0)
		return false;
	n = EVP_Digest(spki, (size_t)len, md, &n, EVP_sha1(), NULL) ? n : 0;
	OPENSSL_free(spki);
	return is_octets(hex, md, n);
}

/* Whether a certificate speaks for an identity, given in canonical form; true also where it cannot be told. */
static bool cert_names(X509 *x, const char *canon)
{
	const char *id = strchr(canon, ':') + 1;
	char subject[VALUE_IDENTITY_CANON];
	const unsigned flags = X509_CHECK_FLAG_NEVER_CHECK_SUBJECT | X509_CHECK_FLAG_NO_WILDCARDS;

	if (strncmp(canon, "fqdn:", 5) == 0)
		return X509_check_host(x, id, strlen(id), flags, NULL) == 1;
	if (strncmp(canon, "email:", 6) == 0)
		return X509_check_email(x, id, strlen(id), flags) == 1;
	if (strncmp(canon, "ip:", 3) == 0)
		return X509_check_ip_asc(x, id, flags) == 1;
	if (strncmp(canon, "dn:", 3) == 0)
		return !subject_canon(x, subject) || strcmp(subject, canon) == 0;
	if (strncmp(canon, "keyid:", 6) == 0)
		return cert_has_key_id(x, id);
	return true;
}

static void check_local_id(struct loader *l, const struct item *it, const struct cred *cert)
{
	const struct conf_tunnel *t = it->obj;
	char canon[VALUE_IDENTITY_CANON], text[ADDR_STRLEN];
	const char *id = t->ike.local_id ? t->ike.local_id : addr_str(&t->local, text);

	if (value_identity_canon(id, canon, NULL) == 0 && !cert_names(cert->cert, canon))
		config_error(l, it, "local_id",
			VALUE_SHOWN
			" is neither the subject of the certificate nor a subjectAltName; expected one "
			"of these",
			id);
}

/* ---- the three of a tunnel ----------------------------------------------------------------------- */

void config_read_certs(struct loader *l, struct item *it)
{
	struct conf_ike *ike = &((struct conf_tunnel *)it->obj)->ike;
	char *paths[] = {[CERT] = ike->cert_file, [KEY] = ike->key_file, [CA] = ike->ca_file};
	const struct cred *c[3];
	crypto_generichash_state hash;
	bool bad = false;

	crypto_generichash_init(&hash, NULL, 0, sizeof(ike->files_hash));
	for (int i = 0; i < 3; i++) {
		const char *key = options_of_kind[i];

		c[i] = cred_get(l, (enum cred_kind)i, paths[i]);
		if (!c[i]) {
			l->nomem = true;
			return;
		}
		if (c[i]->why[0])
			config_error(l, it, key, VALUE_SHOWN " %s", paths[i], c[i]->why);
		else if (c[i]->warning[0])
			config_warning(l, it, key, VALUE_SHOWN " %s", paths[i], c[i]->warning);
		bad = bad || c[i]->why[0];
		crypto_generichash_update(&hash, c[i]->hash, sizeof(c[i]->hash));
	}
	crypto_generichash_final(&hash, ike->files_hash, sizeof(ike->files_hash));
	if (bad)
		return;
	if (X509_check_private_key(c[CERT]->cert, c[KEY]->key) != 1)
		config_error(l, it, "key_file",
			VALUE_SHOWN
			" is not the key of the certificate; expected the one that it was made for",
			paths[KEY]);
	ERR_clear_error();
	check_local_id(l, it, c[CERT]);
}
