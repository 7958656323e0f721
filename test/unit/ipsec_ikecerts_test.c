/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ipsec_ikecerts_test.c - certificates and keys that the key exchange loads: once for all connections whose files contain the
 * same, anew when a file changed, and an authority goes with the last connection that names it. */
#include "test/unit/certs.h"
#include "test/unit/ipsec_ike_help.h"

#include <errno.h>
#include <time.h>
#include <unistd.h>

#define LOADED  "certificate and private key were loaded"
#define TRUSTED "an authority that is trusted from now on"
#define GONE    "no authority any longer"

static char dir[64];

/* One of sixteen buffers, in turn. */
static const char *at(const char *name)
{
	static char path[16][256];
	static unsigned turn;
	char *p = path[++turn % 16];

	snprintf(p, sizeof(path[0]), "%s/%s", dir, name);
	return p;
}

/* NAME.pem and NAME.key. */
static void issue(const char *name, bool ca)
{
	EVP_PKEY *k = new_key(EC_KEY_TYPE);
	char file[64];

	snprintf(file, sizeof(file), "%s.pem", name);
	save_cert(at(file), new_cert(k, name, ca ? NULL : "DNS:gw.example.net", ca, -DAY, DAY), false);
	snprintf(file, sizeof(file), "%s.key", name);
	save_key(at(file), k, false, NULL);
	EVP_PKEY_free(k);
}

static int begin(void **state)
{
	snprintf(dir, sizeof(dir), "/tmp/arrd-certs-XXXXXX");
	assert_non_null(mkdtemp(dir));
	issue("gw", false);
	issue("ca", true);
	issue("ca2", true);
	return set_up(state);
}

static int end(void **state)
{
	char command[128];

	snprintf(command, sizeof(command), "rm -rf %s", dir);
	assert_int_equal(system(command), 0); /* NOLINT(cert-env33-c): a directory of our own */
	return tear_down(state);
}

static struct ike_conn cert_conn(uint32_t id, const char *remote_id, const char *ca)
{
	struct ike_conn c = conn_of(id, remote_id);

	c.psk = NULL;
	c.cert_file = at("gw.pem");
	c.key_file = at("gw.key");
	c.ca_file = at(ca);
	return c;
}

/* What was said since the last time of one kind. */
struct said {
	unsigned loaded, trusted, gone;
};

static void expect_said(struct rig *r, struct said want)
{
	struct said got = {0};
	struct mail *m = mailbox_take(r->o.box);

	while (m) {
		struct ike_event *e = (struct ike_event *)m;

		m = m->next;
		if (e->kind == IKE_EVENT_LOG && e->text) {
			got.loaded += strstr(e->text, LOADED) != NULL;
			got.trusted += strstr(e->text, TRUSTED) != NULL;
			got.gone += strstr(e->text, GONE) != NULL;
		}
		ike_event_free(e);
	}
	if (memcmp(&got, &want, sizeof(got)) != 0)
		fail_msg("%u loaded, %u trusted, %u gone; not %u, %u, %u", got.loaded, got.trusted, got.gone,
			want.loaded, want.trusted, want.gone);
}

static void copy(const char *from, const char *to)
{
	char command[600];

	snprintf(command, sizeof(command), "cp %s %s", at(from), at(to));
	assert_int_equal(system(command), 0); /* NOLINT(cert-env33-c): a directory of our own */
}

static void equal_contents_are_loaded_once(void **state)
{
	struct rig *r = *state;
	struct ike_conn c = cert_conn(1, "b1", "ca.pem");

	expect_add(r, &c, 0, "");
	expect_said(r, (struct said){.loaded = 1, .trusted = 1});
	for (uint32_t i = 2; i < 50; i++) {
		char name[16];

		snprintf(name, sizeof(name), "b%u", i);
		c = cert_conn(i, name, "ca.pem");
		expect_add(r, &c, 0, "");
	}
	/* A copy has the same contents. */
	copy("gw.pem", "copy.pem");
	copy("ca.pem", "copy.ca");
	c = cert_conn(50, "b50", "copy.ca");
	c.cert_file = at("copy.pem");
	expect_add(r, &c, 0, "");
	expect_said(r, (struct said){0});

	for (uint32_t i = 1; i < 50; i++)
		ike_remove(r->ike, i);
	expect_said(r, (struct said){0});
	ike_remove(r->ike, 50);
	expect_said(r, (struct said){.gone = 1});
	c = cert_conn(51, "b1", "ca.pem");
	expect_add(r, &c, 0, "");
	expect_said(r, (struct said){.loaded = 1, .trusted = 1});
}

static void files_that_changed_are_loaded_anew(void **state)
{
	struct rig *r = *state;
	struct ike_conn c = cert_conn(1, "b1", "ca.pem");

	expect_add(r, &c, 0, "");
	expect_said(r, (struct said){.loaded = 1, .trusted = 1});
	/* Certificate and key, by the same paths. */
	issue("gw", false);
	c = cert_conn(2, "b2", "ca.pem");
	expect_add(r, &c, 0, "");
	expect_said(r, (struct said){.loaded = 1});
	/* The key alone: it no longer fits, whatever was loaded before. */
	copy("ca.key", "gw.key");
	c = cert_conn(3, "b3", "ca.pem");
	expect_add(r, &c, -EINVAL, "not the key of the certificate");
	/* The authority. */
	issue("gw", false);
	issue("ca", true);
	c = cert_conn(4, "b4", "ca.pem");
	expect_add(r, &c, 0, "");
	expect_said(r, (struct said){.loaded = 1, .trusted = 1});
	/* The old one goes with who has it. */
	ike_remove(r->ike, 1);
	expect_said(r, (struct said){0});
	ike_remove(r->ike, 2);
	expect_said(r, (struct said){.gone = 1});
	ike_remove(r->ike, 4);
	expect_said(r, (struct said){.gone = 1});
}

/* An authority may be in several files: it is one, and goes with the last of them. */
static void authorities_of_several_files(void **state)
{
	struct rig *r = *state;
	char command[600];
	struct ike_conn c;

	snprintf(command, sizeof(command), "cat %s %s >%s", at("ca.pem"), at("ca2.pem"), at("both.pem"));
	assert_int_equal(system(command), 0); /* NOLINT(cert-env33-c): a directory of our own */
	c = cert_conn(1, "b1", "both.pem");
	expect_add(r, &c, 0, "");
	expect_said(r, (struct said){.loaded = 1, .trusted = 2});
	c = cert_conn(2, "b2", "ca2.pem");
	expect_add(r, &c, 0, "");
	expect_said(r, (struct said){0});
	ike_remove(r->ike, 1);
	expect_said(r, (struct said){.gone = 1});
	ike_remove(r->ike, 2);
	expect_said(r, (struct said){.gone = 1});
}

/* What was refused leaves nothing behind. */
static void refused_ones_are_not_kept(void **state)
{
	struct rig *r = *state;
	struct ike_conn c = cert_conn(1, "b1", "gw.pem");

	expect_add(r, &c, -EINVAL, "not the certificate of an authority");
	c = cert_conn(1, "b1", "ca.pem");
	c.local_id = "other.example.net";
	expect_add(r, &c, -EINVAL, "not for local_id 'other.example.net'");
	expect_said(r, (struct said){.loaded = 2, .trusted = 1, .gone = 1});
	c = cert_conn(1, "b1", "ca.pem");
	expect_add(r, &c, 0, "");
	c = cert_conn(2, "b1", "ca.pem");
	expect_add(r, &c, -EEXIST, "those of 'branch' too");
	expect_said(r, (struct said){.loaded = 1, .trusted = 1});
	c = cert_conn(3, "b3", "ca.pem");
	c.key_file = at("ca.pem");
	expect_add(r, &c, -EINVAL, "not a private key");
	c.key_file = at("none");
	expect_add(r, &c, -ENOENT, "key_file '");
	ike_remove(r->ike, 1);
	expect_said(r, (struct said){.gone = 1});
}

/* The library's own view of a key id, which the check of a configuration goes by. */
static void key_ids(void **state)
{
	EVP_PKEY *key = new_key(EC_KEY_TYPE);
	X509 *x = new_cert(key, "gw", "DNS:gw.example.net", false, -DAY, DAY);
	unsigned char md[3][EVP_MAX_MD_SIZE], *spki = NULL;
	struct rig *r = *state;
	struct ike_conn c;
	unsigned n;
	int len = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(x), &spki);

	assert_int_equal(X509_digest(x, EVP_sha1(), md[0], &n), 1);
	assert_int_equal(X509_pubkey_digest(x, EVP_sha1(), md[1], &n), 1);
	assert_int_equal(EVP_Digest(spki, (size_t)len, md[2], &n, EVP_sha1(), NULL), 1);
	OPENSSL_free(spki);
	save_cert(at("gw.pem"), x, false);
	save_key(at("gw.key"), key, false, NULL);
	EVP_PKEY_free(key);
	for (uint32_t i = 0; i < 6; i++) {
		char id[2 * EVP_MAX_MD_SIZE + 3] = "@#";

		md[i / 2][0] ^= (unsigned char)(i % 2);
		for (unsigned k = 0; k < n; k++)
			snprintf(id + 2 + 2 * (size_t)k, 3, "%02x", md[i / 2][k]);
		c = cert_conn(i + 1, "b", "ca.pem");
		c.local_id = id;
		expect_add(r, &c, i % 2 ? -EINVAL : 0, i % 2 ? "not for local_id" : "");
	}
	c = cert_conn(7, "b", "ca.pem");
	c.local_id = "@#01"; /* the serial number */
	expect_add(r, &c, 0, "");
	c = cert_conn(8, "b", "ca.pem");
	c.local_id = "keyid:whatever";
	expect_add(r, &c, -EINVAL, "not for local_id");
}

static void many(void **state)
{
	struct timespec t0, t1;
	struct rig *r = *state;

	clock_gettime(CLOCK_MONOTONIC, &t0);
	for (uint32_t i = 1; i <= 2000; i++) {
		char name[16];
		struct ike_conn c;

		snprintf(name, sizeof(name), "b%u", i);
		c = cert_conn(i, name, "ca.pem");
		expect_add(r, &c, 0, "");
	}
	clock_gettime(CLOCK_MONOTONIC, &t1);
	print_message("2000 connections with one certificate in %ld ms\n",
		(t1.tv_sec - t0.tv_sec) * 1000 + (t1.tv_nsec - t0.tv_nsec) / 1000000);
	expect_said(r, (struct said){.loaded = 1, .trusted = 1});
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, begin, end)

/* As `openssl ecparam -genkey` writes it: the parameters of the curve stand before the key. */
static void a_key_behind_parameters(void **state)
{
	struct rig *r = *state;
	struct ike_conn c = cert_conn(1, "b1", "ca.pem");
	EVP_PKEY *k = new_key(EC_KEY_TYPE);
	BIO *bio;

	save_cert(at("gw.pem"), new_cert(k, "gw", "DNS:gw.example.net", false, -DAY, DAY), false);
	bio = BIO_new_file(at("gw.key"), "w");
	assert_non_null(bio);
	assert_int_equal(PEM_write_bio_Parameters(bio, k), 1);
	assert_int_equal(PEM_write_bio_PrivateKey_traditional(bio, k, NULL, NULL, 0, NULL, NULL), 1);
	BIO_free(bio);
	EVP_PKEY_free(k);
	expect_add(r, &c, 0, "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(equal_contents_are_loaded_once),
		CASE(files_that_changed_are_loaded_anew),
		CASE(authorities_of_several_files),
		CASE(refused_ones_are_not_kept),
		CASE(key_ids),
		CASE(a_key_behind_parameters),
		CASE(many),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
