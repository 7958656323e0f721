/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ipsec_ike_help.h - for tests of the key exchange without a peer: one that runs, connections for it, what it says. Under the
 * sanitizers everything must be freed. */
#ifndef ARRD_TEST_IPSEC_IKE_HELP_H
#define ARRD_TEST_IPSEC_IKE_HELP_H

#include "ipsec/ike.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct rig {
	struct ike_options o;
	struct ike *ike;
};

static inline void no_wake(void *arg)
{
	(void)arg;
}

static inline int set_up(void **state)
{
	struct rig *r = calloc(1, sizeof(*r));
	char err[512] = "";

	assert_non_null(r);
	*state = r;
	r->o.log_level = LOG_LEVEL_DEBUG;
	r->o.threads = 8;
	r->o.cookie_threshold = 30;
	r->o.block_threshold = 10;
	assert_int_equal(mailbox_new(&r->o.box, no_wake, NULL), 0);
	assert_int_equal(sad_new(&r->o.sad), 0);
	assert_int_equal(crypto_keys_new(&r->o.keys, CRYPTO_AUTO), 0);
	if (ike_start(&r->ike, &r->o, err, sizeof(err)))
		fail_msg("%s", err);
	return 0;
}

/* Frees what lies in the mailbox; returns how many events of a kind were there whose text has says in it. */
static inline unsigned drain(struct rig *r, enum ike_event_kind kind, const char *says)
{
	unsigned found = 0;
	struct mail *m = mailbox_take(r->o.box);

	while (m) {
		struct ike_event *e = (struct ike_event *)m;

		m = m->next;
		found += e->kind == kind && (!says || (e->text && strstr(e->text, says)));
		ike_event_free(e);
	}
	return found;
}

static inline int tear_down(void **state)
{
	struct rig *r = *state;

	ike_stop(r->ike);
	drain(r, IKE_EVENT_LOG, NULL);
	assert_int_equal(crypto_keys_count(r->o.keys), 0);
	crypto_keys_free(r->o.keys);
	sad_free(r->o.sad);
	mailbox_free(r->o.box);
	free(r);
	return 0;
}

static inline struct ike_conn conn_of(uint32_t id, const char *remote_id)
{
	static const char *const ike_one = "aes256gcm16-prfsha384-ecp384", *const esp_one = "aes256gcm16";
	struct ike_conn c = {.id = id,
		.name = "branch",
		.local_id = "gw.example.net",
		.remote_id = remote_id,
		.psk = (const uint8_t *)"secret",
		.psk_len = 6,
		.ike_proposals = &ike_one,
		.nike_proposals = 1,
		.esp_proposals = &esp_one,
		.nesp_proposals = 1,
		.ike_rekey_s = 14400,
		.child_rekey_s = 3600,
		.dpd_s = 30,
		.replay_window = 256};

	assert_int_equal(addr_parse("192.0.2.1", &c.local), 0);
	return c;
}

static inline void expect_add(struct rig *r, const struct ike_conn *c, int ret, const char *says)
{
	char err[512] = "";
	int got = ike_add(r->ike, c, err, sizeof(err));

	if (got != ret || !strstr(err, says))
		fail_msg("%s: %d '%s', not %d '%s'", c->remote_id, got, err, ret, says);
}

#endif
