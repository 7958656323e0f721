/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ipsec_espinside_test.c - what an authentic ESP packet may hold: padding, next headers, dummies, TFC padding.
 *
 * The texts are written by hand and sealed without esp.c.
 */
#include "gateway/base/be.h"
#include "test/unit/ipsec_esp_help.h"

struct rig {
	struct party p;
	struct sa out, in;
	uint32_t at;
	uint64_t seq;
	uint8_t before[2]; /* the last octets of the IV */
	uint8_t pkt[1024];
};

static void rig_begin(struct rig *r, enum suite_id id)
{
	struct rnd x = {id + 1u};
	struct material m = material_of(&x);
	party_begin(&r->p, CRYPTO_AUTO);
	sa_begin(&r->out, &r->p, &suites[id], &m, false, 0);
	sa_begin(&r->in, &r->p, &suites[id], &m, false, 64);
	r->at = esp_inner_at(&r->out);
	r->seq = 0;
}

static void rig_end(struct rig *r)
{
	sa_end_(&r->out);
	sa_end_(&r->in);
	party_end(&r->p);
}

/* Seals the text that stands at pkt + at, under the next number, and opens it. */
static struct esp_in pass(struct rig *r, uint32_t text_len)
{
	struct crypto_job j = {.key = r->out.key, .pkt = r->pkt, .text_len = text_len};
	struct esp_in in = {.sa = &r->in,
		.data = r->pkt,
		.len = r->at + text_len + r->in.suite->icv_len,
		.drop = DROP_COUNT};
	be32_put(r->pkt, r->in.spi);
	be32_put(r->pkt + 4, (uint32_t)++r->seq);
	memset(r->pkt + 8, 0x5a, r->at - 8);
	memcpy(r->pkt + r->at - 2, r->before, 2);
	crypto_seal(r->p.c, &j, 1);
	assert_true(j.ok);
	esp_open(r->p.c, &in, 1);
	/* Authentic packets have their place in the window, whatever is inside. */
	assert_int_equal(r->in.replay.top, r->seq);
	return in;
}

/* A text of len octets with so much padding. */
static uint8_t *write_text(struct rig *r, uint32_t len, uint8_t pad, uint8_t next)
{
	uint8_t *text = r->pkt + r->at;
	memset(text, 0xaa, len);
	for (uint32_t i = 0; i < pad && i + 2 < len; i++)
		text[len - 2 - pad + i] = (uint8_t)(i + 1);
	text[len - 2] = pad;
	text[len - 1] = next;
	return text;
}

static void for_suites(void (*test)(struct rig *r))
{
	static const enum suite_id ids[] = {
		SUITE_AES_GCM_256, SUITE_CHACHA20_POLY1305, SUITE_AES_CBC_128_SHA256};
	for (unsigned i = 0; i < sizeof(ids) / sizeof(ids[0]); i++) {
		static struct rig r;
		rig_begin(&r, ids[i]);
		test(&r);
		rig_end(&r);
	}
}

/* ---- padding ---------------------------------------------------------------------------------------- */

/* Each length of padding in a text that just holds it, and in longer ones; and one that claims an octet too much. */
static void pad_lengths(struct rig *r)
{
	uint32_t align = r->in.suite->align;
	for (uint32_t pad = 0; pad <= 255; pad++) {
		uint32_t least = (pad + 2 + align - 1) / align * align;
		for (uint32_t len = least; len < least + 2 * align; len += align) {
			struct esp_in in;
			write_text(r, len, (uint8_t)pad, ESP_NEXT_IPV4);
			in = pass(r, len);
			assert_int_equal(in.drop, DROP_NONE);
			assert_int_equal(in.inner_len, len - 2 - pad);
			assert_ptr_equal(in.inner, r->pkt + r->at);
			assert_int_equal(in.next, ESP_NEXT_IPV4);
		}
		if (pad + 2 > align) {
			uint32_t len = (pad + 1) / align * align; /* the largest that does not hold it */
			uint32_t lacks = pad + 2 - len;
			uint8_t *text = r->pkt + r->at;
			for (uint32_t i = 0; i < len; i++)
				text[i] = (uint8_t)(lacks + i + 1);
			/* What it lacks would stand before the text. */
			r->before[0] = (uint8_t)(lacks - 1);
			r->before[1] = (uint8_t)lacks;
			text[len - 2] = (uint8_t)pad;
			text[len - 1] = ESP_NEXT_IPV4;
			assert_int_equal(pass(r, len).drop, DROP_ESP_PADDING);
		}
	}
}

static void test_pad_lengths(void **state)
{
	(void)state;
	for_suites(pad_lengths);
}

/* Any octet of it may be wrong (RFC 4303 2.4). */
static void pad_octets(struct rig *r)
{
	for (uint32_t pad = 1; pad <= 30; pad++) {
		for (uint32_t i = 0; i < pad; i++) {
			uint8_t *text = write_text(r, 64, (uint8_t)pad, ESP_NEXT_IPV4);
			text[64 - 2 - pad + i] ^= (uint8_t)(1u << (pad + i) % 8);
			assert_int_equal(pass(r, 64).drop, DROP_ESP_PADDING);
		}
	}
	memset(write_text(r, 64, 12, ESP_NEXT_IPV4) + 64 - 2 - 12, 0, 12);
	assert_int_equal(pass(r, 64).drop, DROP_ESP_PADDING);
}

static void test_pad_octets(void **state)
{
	(void)state;
	for_suites(pad_octets);
}

/* ---- next header ------------------------------------------------------------------------------------ */

static void next_headers(struct rig *r)
{
	for (uint32_t next = 0; next < 512; next++) {
		struct esp_in in;
		enum drop want = DROP_NONE;
		r->in.transport = next >= 256;
		write_text(r, 64, 2, (uint8_t)next);
		in = pass(r, 64);
		if ((uint8_t)next == ESP_NEXT_DUMMY)
			want = DROP_ESP_DUMMY;
		else if (!r->in.transport && next != 4 && next != 41)
			want = DROP_ESP_NEXT_HEADER;
		assert_int_equal(in.drop, want);
		if (want == DROP_NONE)
			assert_int_equal(in.next, (uint8_t)next);
	}
}

static void test_next_headers(void **state)
{
	(void)state;
	for_suites(next_headers);
}

/* A dummy is sealed like any other, may hold anything, even nothing, and cannot be played again. */
static void dummies(struct rig *r)
{
	uint8_t copy[256];
	for (uint32_t len = 0; len < 40; len++) {
		struct esp_out o = {.sa = &r->out,
			.data = r->pkt,
			.inner_len = len,
			.next = ESP_NEXT_DUMMY,
			.pad_to = len % 3 * 40};
		struct esp_in in = {.sa = &r->in, .data = r->pkt};
		memset(r->pkt + r->at, 0xd1, len);
		esp_seal(r->p.c, &o, 1);
		assert_int_equal(o.drop, DROP_NONE);
		memcpy(copy, r->pkt, o.len);
		in.len = o.len;
		esp_open(r->p.c, &in, 1);
		assert_int_equal(in.drop, DROP_ESP_DUMMY);
		assert_int_equal(r->in.replay.top, len + 1);
		memcpy(r->pkt, copy, o.len);
		esp_open(r->p.c, &in, 1);
		assert_int_equal(in.drop, DROP_ESP_REPLAY);
	}
	assert_int_equal(r->in.replayed, 40);
	assert_int_equal(r->in.bad_icv, 0);
}

static void test_dummies(void **state)
{
	(void)state;
	for_suites(dummies);
}

/* ---- TFC padding ------------------------------------------------------------------------------------ */

/* Zeros up to the size asked for, so that all packets look alike; not in transport mode, where no length inside says where
 * the packet ends. */
static void tfc(struct rig *r)
{
	for (uint32_t k = 0; k < 400; k++) {
		uint32_t len = k % 200, pad_to = 150, want;
		struct esp_out o = {.sa = &r->out,
			.data = r->pkt,
			.inner_len = len,
			.next = ESP_NEXT_IPV4,
			.pad_to = pad_to};
		struct esp_in in = {.sa = &r->in, .data = r->pkt};
		r->out.transport = r->in.transport = k >= 200;
		want = len < pad_to && !r->out.transport ? pad_to : len;
		memset(r->pkt, 0xcc, sizeof(r->pkt));
		memset(r->pkt + r->at, 0x11, len);
		esp_seal(r->p.c, &o, 1);
		assert_int_equal(o.drop, DROP_NONE);
		assert_int_equal(o.len, esp_sealed_len(r->out.suite, want));
		in.len = o.len;
		esp_open(r->p.c, &in, 1);
		assert_int_equal(in.drop, DROP_NONE);
		assert_int_equal(in.inner_len, want);
		for (uint32_t i = 0; i < want; i++)
			assert_int_equal(in.inner[i], i < len ? 0x11 : 0);
	}
}

static void test_tfc(void **state)
{
	(void)state;
	for_suites(tfc);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pad_lengths),
		cmocka_unit_test(test_pad_octets),
		cmocka_unit_test(test_next_headers),
		cmocka_unit_test(test_dummies),
		cmocka_unit_test(test_tfc),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
