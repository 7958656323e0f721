/* SPDX-License-Identifier: GPL-2.0-or-later */
/* gateway_configcert_test.c - certificates and private keys that ipsec tunnels name. The test makes them itself. */
#include "test/unit/certs.h"
#include "test/unit/config_dir.h"

static void append(const char *name, const char *text)
{
	FILE *f = fopen(at(name), "a");

	assert_non_null(f);
	fputs(text, f);
	assert_int_equal(fclose(f), 0);
}

static void append_cert(const char *name, X509 *x)
{
	FILE *f = fopen(at(name), "a");

	assert_non_null(f);
	assert_int_equal(PEM_write_X509(f, x), 1);
	assert_int_equal(fclose(f), 0);
	X509_free(x);
}

#define CERTS "cert_file = gw.pem\nkey_file = gw.key\nca_file = ca.pem\n"
#define IDS   "local_id = gw.example.net\nremote_id = b.example.net\n"

/* Everything that a tunnel with certificates needs; the first of CERTS stands in line 7 behind BARE and IDS. */
static EVP_PKEY *good_files(void)
{
	EVP_PKEY *key = new_key(EC_KEY_TYPE), *ca = new_key(EC_KEY_TYPE);

	save_cert(at("gw.pem"),
		new_cert(key, "gw", "DNS:gw.example.net, email:gw@example.net, IP:198.51.100.1", false, -DAY,
			DAY),
		false);
	save_key(at("gw.key"), key, false, NULL);
	save_cert(at("ca.pem"), new_cert(ca, "ca", NULL, true, -DAY, DAY), false);
	write_text("x.conf", BARE IDS CERTS);
	EVP_PKEY_free(ca);
	return key;
}

static void certs_of_every_kind(void **state)
{
	(void)state;
	EVP_PKEY_free(good_files());
	for (int type = EC_KEY_TYPE; type <= RSA_KEY_TYPE; type++) {
		for (int der = 0; der < 2; der++) {
			EVP_PKEY *key = new_key((enum key_type)type);
			struct config *c;

			save_cert(at("gw.pem"), new_cert(key, "gw", "DNS:gw.example.net", false, -DAY, DAY),
				der);
			save_key(at("gw.key"), key, der, NULL);
			EVP_PKEY_free(key);
			c = load(NULL, NULL);
			assert_string_equal(c->tunnels[0].ike.cert_file, at("gw.pem"));
			assert_string_equal(c->tunnels[0].ike.key_file, at("gw.key"));
			assert_string_equal(c->tunnels[0].ike.ca_file, at("ca.pem"));
			assert_null(c->tunnels[0].ike.psk);
			config_free(c);
		}
	}
}

static void bad_certs(void **state)
{
	EVP_PKEY *key = good_files(), *other = new_key(EC_KEY_TYPE), *dh;

	(void)state;
	config_free(load(NULL, NULL));

	save_key(at("gw.key"), other, false, NULL);
	load_bad("~/x.conf:8: [tunnel a] key_file: \"~/gw.key\" is not the key of the certificate; expected "
		 "the one that "
		 "it was made for\n");
	save_key(at("gw.key"), key, false, "secret");
	load_bad("~/x.conf:8: [tunnel a] key_file: \"~/gw.key\" has a private key under a passphrase; "
		 "expected one that "
		 "needs none\n");
	dh = EVP_PKEY_Q_keygen(NULL, NULL, "X25519");
	save_key(at("gw.key"), dh, false, NULL);
	EVP_PKEY_free(dh);
	load_bad("~/x.conf:8: [tunnel a] key_file: \"~/gw.key\" has a private key that IKE cannot sign with; "
		 "expected RSA, "
		 "ECDSA, Ed25519 or Ed448\n");
	write_text("gw.key", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n");
	load_bad("~/x.conf:8: [tunnel a] key_file: \"~/gw.key\" has no private key; expected one, in PEM or "
		 "DER\n");
	save_key(at("gw.key"), key, false, NULL);
	assert_int_equal(chmod(at("gw.key"), 0644), 0);
	load_bad("~/x.conf:8: [tunnel a] key_file: \"~/gw.key\" " EVERYBODY "\n");
	save_key(at("gw.key"), key, false, NULL);

	/* all that is wrong at once; a private key is no certificate */
	save_key(at("gw.pem"), key, false, NULL);
	write_text("ca.pem", "");
	assert_int_equal(unlink(at("gw.key")), 0);
	load_bad(
		"~/x.conf:7: [tunnel a] cert_file: \"~/gw.pem\" has no certificate; expected X.509 in PEM or "
		"DER\n"
		"~/x.conf:8: [tunnel a] key_file: \"~/gw.key\" cannot be read: No such file or directory; "
		"expected a "
		"readable file\n"
		"~/x.conf:9: [tunnel a] ca_file: \"~/ca.pem\" has no certificate; expected X.509 in PEM or "
		"DER\n");
	save_key(at("gw.key"), key, false, NULL);
	save_cert(at("gw.pem"), new_cert(key, "gw", "DNS:gw.example.net", false, -DAY, DAY), false);
	save_cert(at("ca.pem"), new_cert(other, "ca", NULL, false, -DAY, DAY), false);
	load_bad("~/x.conf:9: [tunnel a] ca_file: \"~/ca.pem\" has a certificate of no authority; "
		 "expected the basic constraint CA:TRUE\n");
	assert_int_equal(truncate(at("ca.pem"), 65537), 0);
	load_bad("~/x.conf:9: [tunnel a] ca_file: \"~/ca.pem\" is larger than 65536 octets; expected a "
		 "certificate\n");

	/* the clock may be wrong: only a warning */
	save_cert(at("ca.pem"), new_cert(other, "ca", NULL, true, DAY, 2 * DAY), false);
	save_cert(at("gw.pem"), new_cert(key, "gw", "DNS:gw.example.net", false, -2 * DAY, -DAY), false);
	config_free(load(NULL,
		"~/x.conf:7: [tunnel a] cert_file: \"~/gw.pem\" has a certificate that has expired\n"
		"~/x.conf:9: [tunnel a] ca_file: \"~/ca.pem\" has a certificate that is not valid yet\n"));
	EVP_PKEY_free(key);
	EVP_PKEY_free(other);
}

/* PEM files of several certificates: authorities, and a certificate with those that signed it. */
static void several_certs(void **state)
{
	EVP_PKEY *key = good_files(), *ca = new_key(EC_KEY_TYPE), *other = new_key(ED_KEY_TYPE);

	(void)state;
	save_cert(at("ca.pem"), new_cert(ca, "ca", NULL, true, -DAY, DAY), false);
	append_cert("ca.pem", new_cert(other, "other ca", NULL, true, -DAY, DAY));
	append_cert("gw.pem", new_cert(ca, "ca", NULL, true, -DAY, DAY));
	config_free(load(NULL, NULL));
	append_cert("gw.pem", new_cert(other, "other ca", NULL, true, -2 * DAY, -DAY));
	config_free(load(
		NULL, "~/x.conf:7: [tunnel a] cert_file: \"~/gw.pem\" has a certificate that has expired\n"));
	append_cert("ca.pem", new_cert(other, "no ca", NULL, false, -DAY, DAY));
	load_bad("~/x.conf:9: [tunnel a] ca_file: \"~/ca.pem\" has a certificate of no authority; expected "
		 "the basic "
		 "constraint CA:TRUE\n");
	save_cert(at("ca.pem"), new_cert(ca, "ca", NULL, true, -DAY, DAY), false);
	append("ca.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
	load_bad("~/x.conf:9: [tunnel a] ca_file: \"~/ca.pem\" has something behind its certificate that is "
		 "none; expected "
		 "X.509 in PEM or DER\n");
	EVP_PKEY_free(key);
	EVP_PKEY_free(ca);
	EVP_PKEY_free(other);
}

#define NOT_IN_IT " is neither the subject of the certificate nor a subjectAltName; expected one of these\n"

/* A key id is the subjectKeyIdentifier, or a digest of the certificate or its key. */
static void key_ids(void)
{
	EVP_PKEY *key = new_key(EC_KEY_TYPE);
	X509 *x = new_cert(key, "gw", "DNS:gw.example.net", false, -DAY, DAY);
	unsigned char md[3][EVP_MAX_MD_SIZE], *spki = NULL;
	unsigned n;
	int len = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(x), &spki);

	assert_int_equal(X509_digest(x, EVP_sha1(), md[0], &n), 1);
	assert_int_equal(X509_pubkey_digest(x, EVP_sha1(), md[1], &n), 1);
	assert_int_equal(EVP_Digest(spki, (size_t)len, md[2], &n, EVP_sha1(), NULL), 1);
	OPENSSL_free(spki);
	save_cert(at("gw.pem"), x, false);
	save_key(at("gw.key"), key, false, NULL);
	EVP_PKEY_free(key);
	for (size_t i = 0; i < 6; i++) {
		char hex[2 * EVP_MAX_MD_SIZE + 1] = "", text[512], error[512];

		md[i / 2][0] ^= (unsigned char)(i % 2);
		for (unsigned k = 0; k < n; k++)
			snprintf(hex + 2 * (size_t)k, 3, "%02X", md[i / 2][k]);
		snprintf(text, sizeof(text), BARE "remote_id = b.example.net\n" CERTS "local_id = @#%s\n",
			hex);
		snprintf(error, sizeof(error), "~/x.conf:9: [tunnel a] local_id: \"@#%s\"" NOT_IN_IT, hex);
		write_text("x.conf", text);
		config_free(load(i % 2 ? error : NULL, NULL));
	}
}

/* Whose certificate the branch's can be. */
static void remote_ids(void **state)
{
	static const struct {
		const char *id;
		bool odd;
	} cases[] = {
		{"b.example.net", false},
		{"C=DE, CN=b", false},
		{"keyid:branch", true},
		{"@#0badcafe", true},
		{"@#000102030405060708090a0b0c0d0e0f10111213", false},
		{"keyid:#000102030405060708090a0b0c0d0e0f10111213", false},
		{"@#000102030405060708090a0b0c0d0e0f1011121314", true},
	};

	(void)state;
	EVP_PKEY_free(good_files());
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char text[512], warning[512];

		snprintf(text, sizeof(text), BARE "local_id = gw.example.net\n" CERTS "remote_id = %s\n",
			cases[i].id);
		snprintf(warning, sizeof(warning),
			"~/x.conf:9: [tunnel a] remote_id: \"%s\" is a key id, which no certificate has as a "
			"name; expected its subject or a subjectAltName, or @# and the 20 octets of its "
			"subjectKeyIdentifier\n",
			cases[i].id);
		write_text("x.conf", text);
		config_free(load(NULL, cases[i].odd ? warning : NULL));
	}
}

/* Whom the certificate speaks for. */
static void local_ids(void **state)
{
	static const struct {
		const char *id;
		bool in_it;
	} cases[] = {
		{"gw.example.net", true}, {"@GW.example.net", true}, {"other.example.net", false},
		{"gw", false}, /* a common name is no identity */
		{"gw@example.net", true}, {"x@example.net", false}, {"198.51.100.1", true},
		{"198.51.100.2", false}, {"/C=DE/O=Example, Ltd/CN=gw", true},
		{"/c=de/o=example, ltd/cn=gw", true}, {"C=DE, CN=gw", false}, {"keyid:whatever", false},
		{"@#00", false}, /* nothing that the certificate has */
		{"@#01", true},  /* its serial number */
		{NULL, true},    /* the local address */
	};
	EVP_PKEY *key;

	(void)state;
	EVP_PKEY_free(good_files());
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char text[512], error[512];

		snprintf(text, sizeof(text), BARE "remote_id = b.example.net\n" CERTS "%s%s\n",
			cases[i].id ? "local_id = " : "", cases[i].id ? cases[i].id : "");
		snprintf(error, sizeof(error), "~/x.conf:9: [tunnel a] local_id: \"%s\"" NOT_IN_IT,
			cases[i].id ? cases[i].id : "");
		write_text("x.conf", text);
		config_free(load(cases[i].in_it ? NULL : error, NULL));
	}
	key_ids();
	/* without a subjectAltName no common name stands for one */
	key = new_key(EC_KEY_TYPE);
	save_cert(at("gw.pem"), new_cert(key, "gw.example.net", NULL, false, -DAY, DAY), false);
	save_key(at("gw.key"), key, false, NULL);
	EVP_PKEY_free(key);
	write_text("x.conf", BARE IDS CERTS);
	load_bad("~/x.conf:5: [tunnel a] local_id: \"gw.example.net\"" NOT_IN_IT);

	EVP_PKEY_free(good_files());
	write_text("x.conf", BARE "local_id = gw.example.net\n" CERTS);
	config_free(load(NULL,
		"~/x.conf:1: [tunnel a] remote_id: is missing: the branch's certificate must be one of its "
		"address; expected the identity that is in the certificate\n"));
}

/* ---- what a reload sees ---------------------------------------------------------------------------- */

static void contents_that_changed(void **state)
{
	EVP_PKEY *key = good_files(), *other = new_key(EC_KEY_TYPE);
	struct config *c = load(NULL, NULL);

	(void)state;
	assert_change(c, false);
	save_cert(at("gw.pem"), new_cert(key, "gw", "DNS:gw.example.net", false, -DAY, 2 * DAY), false);
	assert_change(c, true);
	config_free(c);
	c = load(NULL, NULL);
	save_cert(at("ca.pem"), new_cert(other, "ca", NULL, true, -DAY, DAY), false);
	assert_change(c, true);
	config_free(c);
	c = load(NULL, NULL);
	save_key(at("gw.key"), key, true, NULL); /* the same key, in another form: the file is another one */
	assert_change(c, true);
	save_key(at("gw2.key"), key, true, NULL);
	write_text("x.conf", BARE IDS "cert_file = gw.pem\nkey_file = gw2.key\nca_file = ca.pem\n");
	assert_change(c, true);
	config_free(c);
	EVP_PKEY_free(key);
	EVP_PKEY_free(other);
}

/* ---- many ------------------------------------------------------------------------------------------ */

/* Nothing that is done to tunnels may be quadratic: this takes about 0.1 s, several times as much under a sanitizer, and
 * minutes if it is. */
static void many_tunnels(void **state)
{
	char name[64], text[512];
	int n = 10000;
	long ms;

	(void)state;
	assert_int_equal(mkdir(at("tunnels.d"), 0700), 0);
	EVP_PKEY_free(good_files());
	write_text("x.conf", "");
	for (int i = 0; i < n; i++) {
		snprintf(name, sizeof(name), "tunnels.d/%05d.conf", i);
		snprintf(text, sizeof(text),
			"[tunnel t%d]\ntype = ipsec\nlocal = 198.51.100.1\nremote = any\ncert_file = "
			"../gw.pem\n"
			"key_file = ../gw.key\nca_file = ../ca.pem\n"
			"local_id = gw.example.net\nremote_id = b%d.example.net\nroutes = 10.1.0.0/16\n",
			i, i);
		write_text(name, text);
	}
	ms = load_ms((size_t)n);
	print_message("%d tunnels with certificates in %ld ms\n", n, ms);
	assert_true(ms < 10000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(certs_of_every_kind, remove_files),
		cmocka_unit_test_teardown(bad_certs, remove_files),
		cmocka_unit_test_teardown(several_certs, remove_files),
		cmocka_unit_test_teardown(local_ids, remove_files),
		cmocka_unit_test_teardown(remote_ids, remove_files),
		cmocka_unit_test_teardown(contents_that_changed, remove_files),
		cmocka_unit_test_teardown(many_tunnels, remove_files),
	};

	RUN_IN_DIRECTORY(tests);
}
