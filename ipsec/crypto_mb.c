/* SPDX-License-Identifier: GPL-2.0-or-later */
/* crypto_mb.c - ciphers by ipsec-mb, on x86-64.
 *
 * AES-GCM is called packet by packet: with wide registers one packet is parallel enough. CBC can be encrypted, and HMAC
 * computed, only block after block; so many packets are worked on side by side, as jobs: submit all, then flush.
 * ChaCha20-Poly1305 is a job, too: the calls for single packets are half as slow again.
 *
 * The library keeps pieces of packets and states of keys in its manager for the while of a batch, and wipes them itself
 * (SAFE_DATA, as Debian builds it).
 */
#ifdef HAVE_IPSEC_MB
#include "gateway/base/be.h"
#include "ipsec/crypto_private.h"

#include <intel-ipsec-mb.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#define HASH_BLOCK_MAX  IMB_SHA_512_BLOCK_SIZE
#define HASH_DIGEST_MAX IMB_SHA512_DIGEST_SIZE_IN_BYTES
#define CPU_NEEDED      IMB_CPUFLAGS_SSE

struct mb_key {
	struct crypto_key head;
	union {
		_Alignas(KEY_ALIGN) struct gcm_key_data gcm;
		uint8_t chacha[32];
		struct {
			uint8_t enc[16 * 15], dec[16 * 15]; /* round keys */
			_Alignas(64) uint8_t ipad[HASH_DIGEST_MAX];
			uint8_t opad[HASH_DIGEST_MAX];
		} cbc;
	} u;
};
_Static_assert(sizeof(struct mb_key) <= KEY_MAX, "a key fits its slot");

struct mb {
	IMB_MGR *mgr;
	struct gcm_context_data gcm;
	/* What the jobs of a batch point at until they are done. */
	struct {
		uint8_t nonce[16], aad[16];
		uint8_t came[CRYPTO_ICV_MAX], computed[HASH_DIGEST_MAX]; /* ICVs of inbound packets */
	} at[CRYPTO_BATCH];
};

static const struct mb_key *key_of(const struct crypto_job *j)
{
	return (const void *)j->key; /* the head of one of ours */
}

/* ---- engines ---------------------------------------------------------------------------------------- */

static bool there(void)
{
	return (imb_get_feature_flags() & CPU_NEEDED) == CPU_NEEDED;
}

static void engine_free(void *engine)
{
	struct mb *e = engine;
	free_mb_mgr(e->mgr);
	sodium_memzero(e, sizeof(*e));
	free(e);
}

static void *engine_new(void)
{
	struct mb *e = calloc(1, sizeof(*e));
	if (!e)
		return NULL;
	e->mgr = alloc_mb_mgr(0);
	if (!e->mgr) {
		free(e);
		return NULL;
	}
	init_mb_mgr_auto(e->mgr, NULL);
	if (imb_get_errno(e->mgr) == 0)
		return e;
	engine_free(e);
	return NULL;
}

/* ---- keys ------------------------------------------------------------------------------------------- */

static void hash_block(IMB_MGR *m, unsigned digest_len, const uint8_t *block, uint8_t *state)
{
	switch (digest_len) {
	case 20:
		IMB_SHA1_ONE_BLOCK(m, block, state);
		break;
	case 32:
		IMB_SHA256_ONE_BLOCK(m, block, state);
		break;
	case 48:
		IMB_SHA384_ONE_BLOCK(m, block, state);
		break;
	default:
		IMB_SHA512_ONE_BLOCK(m, block, state);
	}
}

/* The state after the key, padded to a block, xor octets of pad (RFC 2104 4). Keys are as long as the digest here. */
static void hash_pad(IMB_MGR *m, const struct suite *s, const uint8_t *key, uint8_t pad, uint8_t *state)
{
	uint8_t block[HASH_BLOCK_MAX];
	memset(block, pad, sizeof(block));
	for (unsigned i = 0; i < s->integ_len; i++)
		block[i] ^= key[i];
	hash_block(m, s->integ_len, block, state);
	sodium_memzero(block, sizeof(block));
}

static int key_begin(void *engine, struct crypto_key *key, const uint8_t *encr, const uint8_t *integ)
{
	struct mb_key *k = (void *)key; /* the head of one of ours */
	IMB_MGR *m = ((struct mb *)engine)->mgr;
	switch (key->suite->id) {
	case SUITE_AES_GCM_128:
		IMB_AES128_GCM_PRE(m, encr, &k->u.gcm);
		return 0;
	case SUITE_AES_GCM_192:
		IMB_AES192_GCM_PRE(m, encr, &k->u.gcm);
		return 0;
	case SUITE_AES_GCM_256:
		IMB_AES256_GCM_PRE(m, encr, &k->u.gcm);
		return 0;
	case SUITE_CHACHA20_POLY1305:
		memcpy(k->u.chacha, encr, sizeof(k->u.chacha));
		return 0;
	default:
		if (key->suite->key_len == 16)
			IMB_AES_KEYEXP_128(m, encr, k->u.cbc.enc, k->u.cbc.dec);
		else
			IMB_AES_KEYEXP_256(m, encr, k->u.cbc.enc, k->u.cbc.dec);
		hash_pad(m, key->suite, integ, 0x36, k->u.cbc.ipad);
		hash_pad(m, key->suite, integ, 0x5c, k->u.cbc.opad);
		return 0;
	}
}

static void key_end(struct crypto_key *key)
{
	(void)key; /* its memory is all that there is */
}

static size_t key_size(const struct suite *s)
{
	size_t at = offsetof(struct mb_key, u);
	if (s->integ_len)
		return at + sizeof(((struct mb_key *)0)->u.cbc);
	return at + (s->id == SUITE_CHACHA20_POLY1305 ? sizeof(((struct mb_key *)0)->u.chacha)
						      : sizeof(struct gcm_key_data));
}

/* ---- AES-GCM ---------------------------------------------------------------------------------------- */

static bool is_gcm(const struct crypto_job *j)
{
	return j->key->suite->id <= SUITE_AES_GCM_256;
}

static void gcm(struct mb *e, const struct crypto_job *j, bool enc, uint8_t *tag)
{
	/* Whole registers are read of both. */
	uint8_t nonce[16] = {0}, aad[16] = {0}, *text = job_text(j);
	uint32_t aad_len = job_aad(j, aad);
	aes_gcm_enc_dec_t fn;
	job_nonce(j, nonce);
	switch (j->key->suite->key_len) {
	case 16:
		fn = enc ? e->mgr->gcm128_enc : e->mgr->gcm128_dec;
		break;
	case 24:
		fn = enc ? e->mgr->gcm192_enc : e->mgr->gcm192_dec;
		break;
	default:
		fn = enc ? e->mgr->gcm256_enc : e->mgr->gcm256_dec;
	}
	fn(&key_of(j)->u.gcm, &e->gcm, text, text, j->text_len, nonce, aad, aad_len, tag, TAG_LEN);
}

/* ---- jobs ------------------------------------------------------------------------------------------- */

static IMB_HASH_ALG hash_alg(const struct suite *s)
{
	return s->integ_len == 20   ? IMB_AUTH_HMAC_SHA_1
	       : s->integ_len == 32 ? IMB_AUTH_HMAC_SHA_256
	       : s->integ_len == 48 ? IMB_AUTH_HMAC_SHA_384
				    : IMB_AUTH_HMAC_SHA_512;
}

static void note(const IMB_JOB *done)
{
	if (done)
		((struct crypto_job *)done->user_data)->ok = done->status == IMB_STATUS_COMPLETED;
}

/* What the digest is over: a high half that is not sent follows the text (RFC 4303 3.3.3.2.1). */
static uint32_t put_seq_hi(const struct crypto_job *j)
{
	if (j->esn)
		be32_put(job_icv(j), j->seq_hi);
	return HDR_LEN + j->key->suite->iv_len + j->text_len + (j->esn ? 4 : 0);
}

static void fill_cbc(IMB_JOB *b, const struct crypto_job *j, bool enc)
{
	const struct mb_key *k = key_of(j);
	const struct suite *s = k->head.suite;
	b->enc_keys = k->u.cbc.enc;
	b->dec_keys = k->u.cbc.dec;
	b->hash_start_src_offset_in_bytes = 0;
	b->msg_len_to_hash_in_bytes = put_seq_hi(j);
	b->iv = j->pkt + HDR_LEN;
	b->iv_len_in_bytes = s->iv_len;
	b->u.HMAC._hashed_auth_key_xor_ipad = k->u.cbc.ipad;
	b->u.HMAC._hashed_auth_key_xor_opad = k->u.cbc.opad;
	b->cipher_mode = IMB_CIPHER_CBC;
	b->hash_alg = hash_alg(s);
	b->chain_order = enc ? IMB_ORDER_CIPHER_HASH : IMB_ORDER_HASH_CIPHER;
}

static void fill_chacha(IMB_JOB *b, const struct crypto_job *j, bool enc, uint8_t *nonce, uint8_t *aad)
{
	const struct mb_key *k = key_of(j);
	b->enc_keys = k->u.chacha;
	b->dec_keys = k->u.chacha;
	b->hash_start_src_offset_in_bytes = HDR_LEN + k->head.suite->iv_len;
	b->msg_len_to_hash_in_bytes = j->text_len;
	job_nonce(j, nonce);
	b->iv = nonce;
	b->iv_len_in_bytes = NONCE_LEN;
	b->u.CHACHA20_POLY1305.aad = aad;
	b->u.CHACHA20_POLY1305.aad_len_in_bytes = job_aad(j, aad);
	b->cipher_mode = IMB_CIPHER_CHACHA20_POLY1305;
	b->hash_alg = IMB_AUTH_CHACHA20_POLY1305;
	b->chain_order = enc ? IMB_ORDER_CIPHER_HASH : IMB_ORDER_HASH_CIPHER;
}

/* at: the job's place in the batch. */
static void submit(struct mb *e, struct crypto_job *j, unsigned at, bool enc)
{
	const struct suite *s = j->key->suite;
	IMB_JOB *b = IMB_GET_NEXT_JOB(e->mgr);
	j->ok = false;
	if (s->integ_len)
		fill_cbc(b, j, enc);
	else
		fill_chacha(b, j, enc, e->at[at].nonce, e->at[at].aad);
	b->key_len_in_bytes = s->key_len;
	b->src = j->pkt;
	b->dst = job_text(j);
	b->cipher_start_src_offset_in_bytes = HDR_LEN + s->iv_len;
	b->msg_len_to_cipher_in_bytes = j->text_len;
	b->cipher_direction = enc ? IMB_DIR_ENCRYPT : IMB_DIR_DECRYPT;
	b->auth_tag_output = enc ? job_icv(j) : e->at[at].computed;
	b->auth_tag_output_len_in_bytes = s->icv_len;
	b->user_data = j;
	note(IMB_SUBMIT_JOB_NOCHECK(e->mgr));
}

/* Every job that was submitted is done when this returns. */
static void flush(struct mb *e)
{
	IMB_JOB *done;
	while ((done = IMB_FLUSH_JOB(e->mgr)) != NULL)
		note(done);
}

/* ---- batches ---------------------------------------------------------------------------------------- */

static void seal_batch(struct mb *e, struct crypto_job *jobs, unsigned n)
{
	bool submitted = false;
	for (unsigned i = 0; i < n; i++) {
		struct crypto_job *j = &jobs[i];
		if (is_gcm(j)) {
			gcm(e, j, true, job_icv(j));
			j->ok = true;
		} else {
			submit(e, j, i, true);
			submitted = true;
		}
	}
	if (submitted)
		flush(e);
}

static void open_batch(struct mb *e, struct crypto_job *jobs, unsigned n)
{
	bool submitted = false;
	for (unsigned i = 0; i < n; i++) {
		struct crypto_job *j = &jobs[i];
		if (is_gcm(j)) {
			gcm(e, j, false, e->at[i].computed);
			j->ok = sodium_memcmp(e->at[i].computed, job_icv(j), TAG_LEN) == 0;
		} else {
			/* The high half of the number may come to stand there. */
			memcpy(e->at[i].came, job_icv(j), j->key->suite->icv_len);
			submit(e, j, i, false);
			submitted = true;
		}
	}
	if (!submitted)
		return;
	flush(e);
	for (unsigned i = 0; i < n; i++) {
		struct crypto_job *j = &jobs[i];
		uint32_t len = j->key->suite->icv_len;
		if (is_gcm(j))
			continue;
		memcpy(job_icv(j), e->at[i].came, len);
		j->ok = j->ok && sodium_memcmp(e->at[i].computed, e->at[i].came, len) == 0;
	}
}

static void seal(void *engine, struct crypto_job *jobs, unsigned n)
{
	for (unsigned done = 0; done < n; done += CRYPTO_BATCH)
		seal_batch(engine, jobs + done, n - done < CRYPTO_BATCH ? n - done : CRYPTO_BATCH);
}

static void open_(void *engine, struct crypto_job *jobs, unsigned n)
{
	for (unsigned done = 0; done < n; done += CRYPTO_BATCH)
		open_batch(engine, jobs + done, n - done < CRYPTO_BATCH ? n - done : CRYPTO_BATCH);
}

const struct crypto_ops crypto_mb = {
	.name = "ipsec-mb",
	.there = there,
	.engine_new = engine_new,
	.engine_free = engine_free,
	.key_size = key_size,
	.key_begin = key_begin,
	.key_end = key_end,
	.seal = seal,
	.open = open_,
};
#else
typedef int crypto_mb_is_not_there; /* C wants a declaration in each file */
#endif
