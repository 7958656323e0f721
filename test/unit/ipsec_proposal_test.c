/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ipsec_proposal_test.c - proposals: which are taken, what is said of the others, and that libstrongswan takes what passes */
#include "ipsec/ike.h"
#include "ipsec/proposal.h"
#include "ipsec/suite.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct good {
	enum proposal_kind kind;
	const char *s;
};

static const struct good good[] = {
	{PROPOSAL_IKE, "aes256gcm16-prfsha384-ecp384"},
	{PROPOSAL_IKE, "aes128gcm16-prfsha256-ecp256"},
	{PROPOSAL_IKE, "aes256gcm-prfsha512-curve25519"},
	{PROPOSAL_IKE, "aes192gcm128-prfsha1-x25519"},
	{PROPOSAL_IKE, "chacha20poly1305-prfsha256-x448"},
	{PROPOSAL_IKE, "aes256-sha256-modp2048"},
	{PROPOSAL_IKE, "aes128-sha1-modp4096"},
	{PROPOSAL_IKE, "aes192-sha512-ecp521"},
	{PROPOSAL_IKE, "aes256-aes128-sha384-sha256-prfsha384-prfsha256-ecp384-ecp256-modp3072"},
	{PROPOSAL_IKE, "aes256gcm16-sha384-ecp384"}, /* the hash stands for the function */
	{PROPOSAL_IKE, "aes-sha2_256-modp6144-modp8192-curve448"},
	{PROPOSAL_ESP, "aes256gcm16"},
	{PROPOSAL_ESP, "aes128gcm16-ecp256"},
	{PROPOSAL_ESP, "aes192gcm-esn"},
	{PROPOSAL_ESP, "aes256gcm16-aes128gcm16-chacha20poly1305-esn-noesn"},
	{PROPOSAL_ESP, "aes256-sha256"},
	{PROPOSAL_ESP, "aes128-sha1-modp2048"},
	{PROPOSAL_ESP, "aes256-aes128-sha512-sha384-sha256-ecp384-none"},
	{PROPOSAL_ESP, "chacha20poly1305-modpnone-noesn"},
	{PROPOSAL_ESP, "aes-sha2_512-esn"},
	{PROPOSAL_ESP, "aes-sha-sha2_384"},
};

struct bad {
	enum proposal_kind kind;
	const char *s, *says;
};

static const struct bad bad[] = {
	{PROPOSAL_IKE, "", "a keyword is missing"},
	{PROPOSAL_IKE, "aes256gcm16--ecp384", "a keyword is missing"},
	{PROPOSAL_IKE, "aes256gcm16-prfsha384-ecp384-", "a keyword is missing"},
	{PROPOSAL_IKE, "aes256gcm17-prfsha384-ecp384", "unknown algorithm 'aes256gcm17'; encryption: "},
	{PROPOSAL_IKE, "AES256GCM16-prfsha384-ecp384",
		"unknown algorithm 'AES256GCM16'; encryption: aes128gcm16, "},
	{PROPOSAL_IKE, "aes256 -sha256-ecp384", "unknown algorithm 'aes256 '"},
	{PROPOSAL_IKE, "3des-sha1-modp2048", "unknown algorithm '3des'"},
	{PROPOSAL_IKE, "aes128-md5-modp2048", "unknown algorithm 'md5'"},
	{PROPOSAL_IKE, "aes128-sha1-modp1024", "unknown algorithm 'modp1024'"},
	{PROPOSAL_IKE, "aes128-sha256-ecp256-esn", "not an algorithm of IKE: 'esn'"},
	{PROPOSAL_IKE, "sha256-ecp256", "no encryption algorithm"},
	{PROPOSAL_IKE, "aes256-prfsha256-ecp256", "no integrity algorithm"},
	{PROPOSAL_IKE, "aes256gcm16-ecp384", "no pseudo-random function"},
	{PROPOSAL_IKE, "aes256-sha256", "no key exchange"},
	{PROPOSAL_IKE, "aes256gcm16-aes256-sha256-ecp384", "two proposals were expected"},
	{PROPOSAL_ESP, "null-sha256", "unknown algorithm 'null'; encryption: aes128gcm16, aes192gcm16, "},
	{PROPOSAL_ESP, "aes128gmac", "unknown algorithm 'aes128gmac'"},
	{PROPOSAL_ESP, "aes256", "no integrity algorithm"},
	{PROPOSAL_ESP, "aes192-sha256", "not an algorithm of ESP: 'aes192'"},
	{PROPOSAL_ESP, "sha256-esn", "no encryption algorithm"},
	{PROPOSAL_ESP, "aes256gcm16-prfsha384", "not an algorithm of ESP: 'prfsha384'"},
	{PROPOSAL_ESP, "aes256gcm16-sha256", "none was expected"},
	{PROPOSAL_ESP, "aes256gcm8", "unknown algorithm 'aes256gcm8'"},
	{PROPOSAL_ESP, "aes256gcm16-aes128-sha256", "two proposals were expected"},
};

static void good_ones_pass(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		char err[1024] = "";

		if (proposal_check(good[i].kind, good[i].s, err, sizeof(err)))
			fail_msg("%s: %s", good[i].s, err);
	}
}

static void bad_ones_are_explained(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		char err[1024] = "";
		int ret = proposal_check(bad[i].kind, bad[i].s, err, sizeof(err));

		if (ret != -EINVAL || !strstr(err, bad[i].says))
			fail_msg("'%s': %d '%s', not '%s'", bad[i].s, ret, err, bad[i].says);
	}
}

static void messages_are_cut_to_their_room(void **state)
{
	char err[16 + 1];

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		memset(err, 'x', sizeof(err));
		assert_int_equal(proposal_check(bad[i].kind, bad[i].s, err, 16), -EINVAL);
		assert_true(strlen(err) < 16);
		assert_int_equal(err[16], 'x');
	}
}

/* ---- what passes, libstrongswan takes ------------------------------------------------------------------ */

static void no_wake(void *arg)
{
	(void)arg;
}

static void add_and_remove(struct ike *ike, const struct good *g)
{
	static const char ike_default[] = "aes256gcm16-prfsha384-ecp384", esp_default[] = "aes256gcm16";
	const char *ike_one = g->kind == PROPOSAL_IKE ? g->s : ike_default;
	const char *esp_one = g->kind == PROPOSAL_ESP ? g->s : esp_default;
	struct ike_conn c = {.id = 1,
		.name = "t",
		.remote_id = "peer",
		.psk = (const uint8_t *)"secret",
		.psk_len = 6,
		.ike_proposals = &ike_one,
		.nike_proposals = 1,
		.esp_proposals = &esp_one,
		.nesp_proposals = 1};
	char err[512] = "";

	assert_int_equal(addr_parse("192.0.2.1", &c.local), 0);
	if (ike_add(ike, &c, err, sizeof(err)))
		fail_msg("%s: %s", g->s, err);
	ike_remove(ike, 1);
}

/* The defaults, which are lists with ", " between the proposals. */
static void add_defaults(struct ike *ike, enum proposal_kind kind, const char *defaults)
{
	char all[512], err[512], *rest = all, *one;
	int n = 0;

	snprintf(all, sizeof(all), "%s", defaults);
	while ((one = strsep(&rest, ","))) {
		struct good g = {kind, one + strspn(one, " ")};

		assert_int_equal(proposal_check(kind, g.s, err, sizeof(err)), 0);
		add_and_remove(ike, &g);
		n++;
	}
	assert_in_range(n, 3, 20);
}

static void libstrongswan_takes_them(void **state)
{
	struct ike_options o = {.log_level = LOG_LEVEL_ERROR, .threads = 8};
	struct crypto_keys *keys;
	char err[512] = "";
	struct mail *m;
	struct ike *ike;

	(void)state;
	assert_int_equal(mailbox_new(&o.box, no_wake, NULL), 0);
	assert_int_equal(sad_new(&o.sad), 0);
	assert_int_equal(crypto_keys_new(&keys, CRYPTO_AUTO), 0);
	o.keys = keys;
	if (ike_start(&ike, &o, err, sizeof(err)))
		fail_msg("%s", err);
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		add_and_remove(ike, &good[i]);
	add_defaults(ike, PROPOSAL_IKE, PROPOSAL_IKE_DEFAULT);
	add_defaults(ike, PROPOSAL_ESP, PROPOSAL_ESP_DEFAULT);
	ike_stop(ike);
	while ((m = mailbox_take(o.box)))
		while (m) {
			struct mail *next = m->next;

			ike_event_free((struct ike_event *)m);
			m = next;
		}
	crypto_keys_free(keys);
	sad_free(o.sad);
	mailbox_free(o.box);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(good_ones_pass),
		cmocka_unit_test(bad_ones_are_explained),
		cmocka_unit_test(messages_are_cut_to_their_room),
		cmocka_unit_test(libstrongswan_takes_them),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
