/* SPDX-License-Identifier: GPL-2.0-or-later */
/* esp.c - the ESP codec.
 *
 *	SPI | sequence number | IV | inner packet | TFC padding | padding 1, 2, 3 … | its length | next header | ICV
 *	                           └──────────────────── the text, encrypted ────────────────────┘
 *
 * The order of an inbound packet (RFC 4303 3.4): lengths, life of the SA, window, ICV, window again, padding. Nothing
 * of a packet is believed, and the window does not move, before its ICV is right.
 */
#include "ipsec/esp.h"
#include "gateway/base/be.h"

#include <string.h>

#define TRAILER 2 /* pad length and next header */

static uint32_t text_at(const struct suite *s)
{
	return ESP_HDR + s->iv_len;
}

uint32_t esp_spi(const uint8_t *data, uint32_t len)
{
	return len < 4 ? 0 : be32_get(data);
}

/* ---- opening ---------------------------------------------------------------------------------------- */

/* What can be said before the ICV is checked. */
static enum drop examine(struct esp_in *p, struct crypto_job *j, uint64_t *seq)
{
	struct sa *sa = p->sa;
	const struct suite *s = sa->suite;
	uint32_t around = text_at(s) + s->icv_len;
	if (p->len < around + s->align || p->len > CRYPTO_PKT_MAX || (p->len - around) % s->align != 0)
		return DROP_ESP_TRUNCATED;
	if (sa->hard_done)
		return DROP_ESP_EXPIRED;
	if (!replay_check(&sa->replay, be32_get(p->data + 4), seq)) {
		sa->replayed++;
		return DROP_ESP_REPLAY;
	}
	*j = (struct crypto_job){.key = sa->key,
		.pkt = p->data,
		.text_len = p->len - around,
		.seq_hi = (uint32_t)(*seq >> 32),
		.esn = sa->esn};
	return DROP_NONE;
}

/* RFC 4303 2.4: padding is 1, 2, 3 …, which every suite of ours is checked for. */
static bool padding_is_good(const uint8_t *end, uint32_t pad)
{
	const uint8_t *p = end - pad;
	for (uint32_t i = 0; i < pad; i++)
		if (p[i] != i + 1)
			return false;
	return true;
}

static enum drop unwrap(struct esp_in *p, const struct crypto_job *j)
{
	uint32_t at = text_at(p->sa->suite), pad = p->data[at + j->text_len - 2];
	uint8_t next = p->data[at + j->text_len - 1];
	if (pad + TRAILER > j->text_len || !padding_is_good(p->data + at + j->text_len - TRAILER, pad))
		return DROP_ESP_PADDING;
	p->next = next;
	p->inner = p->data + at;
	p->inner_len = j->text_len - TRAILER - pad;
	if (next == ESP_NEXT_DUMMY)
		return DROP_ESP_DUMMY;
	if (!p->sa->transport && next != ESP_NEXT_IPV4 && next != ESP_NEXT_IPV6)
		return DROP_ESP_NEXT_HEADER;
	return DROP_NONE;
}

static enum drop conclude(struct esp_in *p, const struct crypto_job *j, uint64_t seq)
{
	if (!j->ok) {
		p->sa->bad_icv++;
		return DROP_ESP_AUTH;
	}
	p->newest = seq > p->sa->replay.top;
	if (!replay_accept(&p->sa->replay, seq)) { /* two copies in one batch, or overtaken by the batch */
		p->sa->replayed++;
		return DROP_ESP_REPLAY;
	}
	return unwrap(p, j);
}

static void open_batch(struct crypto *c, struct esp_in *p, unsigned n)
{
	struct crypto_job jobs[ESP_BATCH];
	uint64_t seq[ESP_BATCH];
	unsigned njobs = 0, done = 0;
	for (unsigned i = 0; i < n; i++) {
		p[i].newest = false;
		p[i].drop = examine(&p[i], &jobs[njobs], &seq[njobs]);
		njobs += p[i].drop == DROP_NONE;
	}
	crypto_open(c, jobs, njobs);
	for (unsigned i = 0; i < n; i++) {
		if (p[i].drop != DROP_NONE)
			continue;
		p[i].drop = conclude(&p[i], &jobs[done], seq[done]);
		done++;
	}
}

void esp_open(struct crypto *c, struct esp_in *p, unsigned n)
{
	for (unsigned done = 0; done < n; done += ESP_BATCH)
		open_batch(c, p + done, n - done < ESP_BATCH ? n - done : ESP_BATCH);
}

/* ---- sealing ---------------------------------------------------------------------------------------- */

uint32_t esp_inner_at(const struct sa *sa)
{
	return text_at(sa->suite);
}

/* Octets of the text around inner_len octets. */
static uint32_t text_len(const struct suite *s, uint32_t inner_len)
{
	return (inner_len + TRAILER + s->align - 1) / s->align * s->align;
}

uint32_t esp_sealed_len(const struct suite *s, uint32_t inner_len)
{
	return text_at(s) + text_len(s, inner_len) + s->icv_len;
}

uint32_t esp_inner_max(const struct suite *s, uint32_t len)
{
	uint32_t around = text_at(s) + s->icv_len;
	if (len < around + s->align)
		return 0;
	return (len - around) / s->align * s->align - TRAILER;
}

/* The next number, or that there is none: it must never begin again under the same key (RFC 4303 3.3.3). hard_done is left
 * to who tells IKE (sad_tick): it means that IKE knows. */
static enum drop take_number(struct sa *sa)
{
	if (sa->seq >= (sa->esn ? UINT64_MAX : UINT32_MAX))
		return DROP_ESP_SEQUENCE;
	if (sa->hard_done)
		return DROP_ESP_EXPIRED;
	sa->seq++;
	return DROP_NONE;
}

/* Octets inside, TFC padding included (RFC 4303 2.7: tunnel mode only). */
static uint32_t inside(const struct esp_out *p)
{
	return p->pad_to > p->inner_len && !p->sa->transport ? p->pad_to : p->inner_len;
}

static void wrap(struct crypto *c, struct esp_out *p, struct crypto_job *j)
{
	struct sa *sa = p->sa;
	const struct suite *s = sa->suite;
	uint8_t *text = p->data + text_at(s);
	uint32_t len = inside(p), whole = text_len(s, len);
	be32_put(p->data, sa->spi);
	be32_put(p->data + 4, (uint32_t)sa->seq);
	if (s->salt_len) { /* RFC 4106 3.1: unique under the key, and the number is */
		be32_put(p->data + 8, (uint32_t)(sa->seq >> 32));
		be32_put(p->data + 12, (uint32_t)sa->seq);
	} else {
		crypto_iv(c, p->data + ESP_HDR);
	}
	memset(text + p->inner_len, 0, len - p->inner_len);
	for (uint32_t i = len; i < whole - TRAILER; i++)
		text[i] = (uint8_t)(i - len + 1);
	text[whole - 2] = (uint8_t)(whole - TRAILER - len);
	text[whole - 1] = p->next;
	p->len = text_at(s) + whole + s->icv_len;
	*j = (struct crypto_job){.key = sa->key,
		.pkt = p->data,
		.text_len = whole,
		.seq_hi = (uint32_t)(sa->seq >> 32),
		.esn = sa->esn};
}

static void seal_batch(struct crypto *c, struct esp_out *p, unsigned n)
{
	struct crypto_job jobs[ESP_BATCH];
	unsigned njobs = 0, done = 0;
	for (unsigned i = 0; i < n; i++) {
		p[i].len = 0;
		p[i].drop = inside(&p[i]) > esp_inner_max(p[i].sa->suite, CRYPTO_PKT_MAX)
				    ? DROP_TOO_BIG
				    : take_number(p[i].sa);
		if (p[i].drop == DROP_NONE)
			wrap(c, &p[i], &jobs[njobs++]);
	}
	crypto_seal(c, jobs, njobs);
	for (unsigned i = 0; i < n; i++) {
		if (p[i].drop != DROP_NONE || jobs[done++].ok)
			continue;
		/* The provider failed. What lies there may still be readable. */
		p[i].drop = DROP_SEND_ERROR;
		p[i].len = 0;
	}
}

void esp_seal(struct crypto *c, struct esp_out *p, unsigned n)
{
	for (unsigned done = 0; done < n; done += ESP_BATCH)
		seal_batch(c, p + done, n - done < ESP_BATCH ? n - done : ESP_BATCH);
}
