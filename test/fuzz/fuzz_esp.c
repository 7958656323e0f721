/* SPDX-License-Identifier: GPL-2.0-or-later */
/* fuzz_esp.c - any octets as ESP packets, under keys that are known, so that what is inside can be anything as well.
 *
 * The input is a head (suite, provider, mode of the SA, where its numbers begin) and then steps of an octet for what to do,
 * an octet for how many octets follow, and these: a packet as it is; a text that is sealed under a number near the window
 * and opened; the same with a bit flipped; an inner packet there and back.
 *
 * Besides not crashing: what is said to be inside lies inside; only authentic packets are taken, none twice, and only these
 * move the window; text and trailer are judged once more in here; what esp_seal made, esp_open takes.
 */
#include "gateway/base/be.h"
#include "ipsec/esp.h"

#include <stdlib.h>
#include <string.h>

#define ROOM     1024
#define SEEN_MAX 256

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Made once: an engine costs milliseconds. */
static struct fixed {
	struct crypto_keys *keys[2];
	struct crypto *c[2];
	struct crypto_key *out[2][SUITE_COUNT], *in[2][SUITE_COUNT];
} fixed;

struct run {
	struct crypto *c;
	struct sa out, in;
	uint64_t seen[SEEN_MAX]; /* numbers that were taken */
	unsigned nseen;
	const uint8_t *data; /* what is left of the input */
	size_t size;
};

static void must(bool holds)
{
	if (!holds)
		abort();
}

static struct crypto_key *key_new(struct crypto_keys *ks, const struct suite *s)
{
	uint8_t encr[36], integ[64];
	struct crypto_key *k;
	memset(encr, 0x11, sizeof(encr));
	memset(integ, 0x22, sizeof(integ));
	must(crypto_key_new(&k, ks, s, encr, (uint32_t)s->key_len + s->salt_len, integ, s->integ_len) == 0);
	return k;
}

static void fixed_end(void)
{
	for (unsigned p = 0; p < 2; p++) {
		for (unsigned s = 0; s < SUITE_COUNT; s++) {
			crypto_key_free(fixed.out[p][s]);
			crypto_key_free(fixed.in[p][s]);
		}
		crypto_free(fixed.c[p]);
		crypto_keys_free(fixed.keys[p]);
	}
}

static void fixed_begin(void)
{
	if (fixed.c[0])
		return;
	for (unsigned p = 0; p < 2; p++) {
		must(crypto_keys_new(&fixed.keys[p], p ? CRYPTO_OPENSSL : CRYPTO_AUTO) == 0);
		must(crypto_new(&fixed.c[p], fixed.keys[p]) == 0);
		for (unsigned s = 0; s < SUITE_COUNT; s++) {
			fixed.out[p][s] = key_new(fixed.keys[p], &suites[s]);
			fixed.in[p][s] = key_new(fixed.keys[p], &suites[s]);
		}
	}
	must(atexit(fixed_end) == 0);
}

static uint8_t take(struct run *r)
{
	if (r->size == 0)
		return 0;
	r->size--;
	return *r->data++;
}

/* Up to n octets into p; returns how many there were. */
static uint32_t take_some(struct run *r, uint8_t *p, uint32_t n)
{
	if (n > r->size)
		n = (uint32_t)r->size;
	memcpy(p, r->data, n);
	r->data += n;
	r->size -= n;
	return n;
}

/* ---- opening, and what must hold of it -------------------------------------------------------------- */

static void note_seen(struct run *r, uint64_t seq)
{
	for (unsigned i = 0; i < r->nseen; i++)
		must(r->in.replay.window == 0 || r->seen[i] != seq);
	if (r->nseen < SEEN_MAX)
		r->seen[r->nseen++] = seq;
}

static bool authentic(enum drop d)
{
	return d == DROP_NONE || d == DROP_ESP_PADDING || d == DROP_ESP_NEXT_HEADER || d == DROP_ESP_DUMMY;
}

static struct esp_in open_exact(struct run *r, const uint8_t *pkt, uint32_t len)
{
	/* Exactly as large, so that a read or write behind it is seen. */
	uint8_t *exact = malloc(len + 1u);
	struct esp_in in = {.sa = &r->in, .data = exact, .len = len, .drop = DROP_COUNT};
	uint64_t top = r->in.replay.top, replayed = r->in.replayed, bad = r->in.bad_icv;
	must(exact != NULL);
	memcpy(exact, pkt, len);
	esp_open(r->c, &in, 1);
	if (authentic(in.drop)) {
		must(r->in.replay.top >= top && len >= ESP_HDR);
		must(memcmp(exact, pkt, ESP_HDR) == 0);
	} else {
		must(in.drop == DROP_ESP_TRUNCATED || in.drop == DROP_ESP_REPLAY || in.drop == DROP_ESP_AUTH);
		must(r->in.replay.top == top);
	}
	must(r->in.replayed == replayed + (in.drop == DROP_ESP_REPLAY));
	must(r->in.bad_icv == bad + (in.drop == DROP_ESP_AUTH));
	if (in.drop == DROP_NONE) {
		must(in.inner == exact + esp_inner_at(&r->in));
		must(in.inner_len + 2 + r->in.suite->icv_len <= len - esp_inner_at(&r->in));
		must(r->in.transport ? in.next != 59 : in.next == 4 || in.next == 41);
	}
	free(exact);
	return in;
}

/* ---- steps ------------------------------------------------------------------------------------------ */

static void step_raw(struct run *r, uint32_t n)
{
	uint8_t pkt[256];
	n = take_some(r, pkt, n);
	(void)open_exact(r, pkt, n);
}

static enum drop judge(const struct run *r, const uint8_t *text, uint32_t len)
{
	uint32_t pad = text[len - 2];
	if (pad > len - 2)
		return DROP_ESP_PADDING;
	for (uint32_t i = 1; i <= pad; i++)
		if (text[len - 2 - pad + i - 1] != i)
			return DROP_ESP_PADDING;
	if (text[len - 1] == 59)
		return DROP_ESP_DUMMY;
	if (!r->in.transport && text[len - 1] != 4 && text[len - 1] != 41)
		return DROP_ESP_NEXT_HEADER;
	return DROP_NONE;
}

static void step_text(struct run *r, uint32_t n, bool flip)
{
	const struct suite *s = r->in.suite;
	uint8_t pkt[ROOM] = {0}, plain[256] = {0};
	/* 300 below the top to 99 above it, or as far as the numbers go */
	uint64_t seq = r->in.replay.top + take(r) + take(r) - 300, top = r->in.replay.top;
	uint32_t at = esp_inner_at(&r->in), len;
	struct crypto_job j = {
		.key = r->out.key, .pkt = pkt, .esn = r->in.esn, .seq_hi = (uint32_t)(seq >> 32)};
	struct esp_in in;
	n = take_some(r, plain, n);
	j.text_len = (n + s->align) / s->align * s->align;
	if (j.text_len > sizeof(plain))
		j.text_len = sizeof(plain);
	memcpy(pkt + at, plain, j.text_len);
	be32_put(pkt, r->in.spi);
	be32_put(pkt + 4, (uint32_t)seq);
	crypto_seal(r->c, &j, 1);
	must(j.ok);
	len = at + j.text_len + s->icv_len;
	if (flip) {
		uint32_t bit = (uint32_t)(take(r) << 8 | take(r)) % (len * 8);
		pkt[bit / 8] ^= (uint8_t)(1u << bit % 8);
	}
	in = open_exact(r, pkt, len);
	if (flip) {
		must(!authentic(in.drop));
		return;
	}
	if (!authentic(in.drop)) {
		/* It was old, or seen, or of another round than it is held for. */
		must(in.drop == DROP_ESP_REPLAY || (in.drop == DROP_ESP_AUTH && r->in.esn));
		must(seq <= top || seq == 0 || r->in.esn || seq > UINT32_MAX);
		return;
	}
	note_seen(r, r->in.esn ? seq : (uint32_t)seq);
	must(in.drop == judge(r, plain, j.text_len));
}

static void step_inner(struct run *r, uint32_t n)
{
	uint8_t pkt[ROOM], inner[256];
	uint32_t pad_to = take(r) * 2u, whole;
	struct esp_out o = {.sa = &r->out, .data = pkt, .pad_to = pad_to, .next = take(r) % 2 ? 4 : 41};
	struct esp_in in;
	n = take_some(r, inner, n);
	o.inner_len = n;
	whole = n < pad_to && !r->out.transport ? pad_to : n;
	memset(pkt, 0xee, sizeof(pkt));
	memcpy(pkt + esp_inner_at(&r->out), inner, n);
	/* The other end goes on where this one is. */
	r->out.seq = r->in.replay.top;
	esp_seal(r->c, &o, 1);
	if (o.drop == DROP_ESP_SEQUENCE) {
		must(r->out.seq == (r->out.esn ? UINT64_MAX : UINT32_MAX));
		return;
	}
	must(o.drop == DROP_NONE && o.len == esp_sealed_len(r->out.suite, whole));
	for (uint32_t i = o.len; i < ROOM; i++)
		must(pkt[i] == 0xee);
	in = open_exact(r, pkt, o.len);
	must(in.drop == DROP_NONE && in.inner_len == whole && in.next == o.next);
	note_seen(r, r->out.seq);
}

static void run_begin(struct run *r)
{
	static const uint32_t windows[] = {0, 64, 192, 4096};
	uint8_t id = take(r), how = take(r), begin = take(r);
	unsigned p = how & 1;
	struct sa sa = {.spi = 0x01020304, .suite = &suites[id % SUITE_COUNT]};
	sa.esn = how & 2;
	sa.transport = how & 4;
	replay_init(&sa.replay, windows[how >> 3 & 3], sa.esn);
	/* at the beginning; around 2^32; at the end */
	if (begin)
		sa.replay.top = begin < 86 ? begin : UINT32_MAX - 256 + begin;
	if (sa.esn && begin >= 171)
		sa.replay.top = UINT64_MAX - 256 + begin;
	r->out = r->in = sa;
	r->c = fixed.c[p];
	r->out.key = fixed.out[p][id % SUITE_COUNT];
	r->in.key = fixed.in[p][id % SUITE_COUNT];
	r->in.inbound = true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct run r = {.data = data, .size = size};
	fixed_begin();
	run_begin(&r);
	while (r.size > 0) {
		uint8_t what = take(&r), n = take(&r);
		switch (what % 4) {
		case 0:
			step_raw(&r, n);
			break;
		case 1:
			step_text(&r, n, false);
			break;
		case 2:
			step_text(&r, n, true);
			break;
		default:
			step_inner(&r, n);
		}
	}
	return 0;
}
