/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ipsec_crypto_test.c - every provider against known packets and against each other, and the memory of keys. */
#include "gateway/base/be.h"
#include "ipsec/crypto_private.h"
#include "test/unit/ipsec_esp_help.h"
#include "test/unit/ipsec_vectors.h"

#include <errno.h>
#include <pthread.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define HDR   HDR_LEN
#define GUARD 64 /* octets before and behind a packet that nobody may touch */

static uint32_t unhex(const char *s, uint8_t *out)
{
	uint32_t n = 0;
	for (; s && *s; s += 2) {
		char two[3] = {s[0], s[1], 0};
		out[n++] = (uint8_t)strtoul(two, NULL, 16);
	}
	return n;
}

/* ---- known packets ---------------------------------------------------------------------------------- */

struct known {
	struct crypto_key *key;
	uint8_t plain[512], sealed[512]; /* whole packets; plain's ICV is zero */
	uint32_t len, text_len;
};

static void known_begin(struct known *k, struct party *p, const struct vector *v)
{
	const struct suite *s = &suites[v->suite];
	uint8_t encr[64], integ[64];
	uint32_t encr_len = unhex(v->encr, encr), integ_len = unhex(v->integ, integ), at;
	memset(k, 0, sizeof(*k));
	assert_int_equal(crypto_key_new(&k->key, p->keys, s, encr, encr_len, integ, integ_len), 0);
	at = unhex(v->head, k->plain);
	assert_int_equal(at, HDR + s->iv_len);
	memcpy(k->sealed, k->plain, at);
	k->text_len = unhex(v->text, k->plain + at);
	assert_int_equal(unhex(v->sealed, k->sealed + at), k->text_len);
	assert_int_equal(unhex(v->icv, k->sealed + at + k->text_len), s->icv_len);
	k->len = at + k->text_len + s->icv_len;
}

static void test_vectors(void **state)
{
	(void)state;
	struct party p[PARTIES];
	unsigned n = parties_begin(p), of_suite[SUITE_COUNT][2] = {{0}};
	for (unsigned i = 0; i < NVECTORS * n; i++) {
		const struct vector *v = &vectors[i / n];
		struct known k;
		uint8_t pkt[512];
		struct crypto_job j = {.pkt = pkt, .seq_hi = v->seq_hi, .esn = v->esn};
		known_begin(&k, &p[i % n], v);
		j.key = k.key;
		j.text_len = k.text_len;

		memcpy(pkt, k.plain, sizeof(pkt));
		crypto_seal(p[i % n].c, &j, 1);
		if (!j.ok || memcmp(pkt, k.sealed, sizeof(pkt)) != 0)
			fail_msg("%s, %s, party %u: sealed wrongly", v->from, suites[v->suite].name, i % n);
		j.ok = false;
		crypto_open(p[i % n].c, &j, 1);
		memset(pkt + k.len - suites[v->suite].icv_len, 0, suites[v->suite].icv_len);
		if (!j.ok || memcmp(pkt, k.plain, sizeof(pkt)) != 0)
			fail_msg("%s, %s, party %u: opened wrongly", v->from, suites[v->suite].name, i % n);
		of_suite[v->suite][v->esn]++;
		crypto_key_free(k.key);
	}
	for (unsigned i = 0; i < SUITE_COUNT; i++) /* AES-CBC-128 with SHA-2 without ESN is in RFC 3602's */
		if (!of_suite[i][0] || !of_suite[i][1])
			fail_msg("%s: no vector with or without ESN", suites[i].name);
	parties_end(p, n);
}

/* ---- one provider against the other ----------------------------------------------------------------- */

/* A packet as text and as both have sealed it, with guards. */
struct pair {
	const struct suite *s;
	struct crypto_key *key[PARTIES];
	uint8_t *buf[PARTIES], *plain;
	uint32_t text_len, len;
	uint32_t seq_hi;
	bool esn;
};

static void pair_begin(struct pair *q, struct party *p, unsigned n, struct rnd *r, const struct suite *s,
	uint32_t text_len, bool esn)
{
	struct material m = material_of(r);
	*q = (struct pair){.s = s, .text_len = text_len, .esn = esn, .seq_hi = (uint32_t)rnd64(r)};
	q->len = HDR + s->iv_len + text_len + s->icv_len;
	q->plain = malloc(q->len + 2 * GUARD);
	assert_non_null(q->plain);
	rnd_fill(r, q->plain, q->len + 2 * GUARD);
	for (unsigned i = 0; i < n; i++) {
		q->key[i] = key_of(&p[i], s, &m);
		q->buf[i] = malloc(q->len + 2 * GUARD);
		assert_non_null(q->buf[i]);
		memcpy(q->buf[i], q->plain, q->len + 2 * GUARD);
	}
}

static void pair_end(struct pair *q, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		crypto_key_free(q->key[i]);
		free(q->buf[i]);
	}
	free(q->plain);
}

static struct crypto_job job_of(const struct pair *q, unsigned key, unsigned buf)
{
	return (struct crypto_job){.key = q->key[key],
		.pkt = q->buf[buf] + GUARD,
		.text_len = q->text_len,
		.seq_hi = q->seq_hi,
		.esn = q->esn};
}

static void pair_is(const struct pair *q, unsigned n, bool sealed)
{
	uint32_t icv = q->s->icv_len;
	for (unsigned i = 0; i < n; i++) {
		const uint8_t *b = q->buf[i];
		if (sealed) {
			assert_memory_equal(b + GUARD, q->buf[0] + GUARD, q->len);
			assert_memory_not_equal(
				b + GUARD + q->len - icv, q->plain + GUARD + q->len - icv, icv);
			assert_memory_not_equal(b + GUARD + HDR + q->s->iv_len,
				q->plain + GUARD + HDR + q->s->iv_len, q->text_len);
		} else {
			assert_memory_equal(b + GUARD, q->plain + GUARD, q->len - icv);
		}
		assert_memory_equal(b, q->plain, GUARD + HDR + q->s->iv_len);
		assert_memory_equal(b + GUARD + q->len, q->plain + GUARD + q->len, GUARD);
	}
}

/* Each seals its copies, in batches; all copies must be equal; then each opens what another one sealed. */
static void run_pairs(struct party *p, unsigned n, struct pair *q, unsigned count)
{
	struct crypto_job *jobs = calloc(count, sizeof(*jobs));
	assert_non_null(jobs);
	for (unsigned i = 0; i < n; i++) {
		for (unsigned j = 0; j < count; j++)
			jobs[j] = job_of(&q[j], i, i);
		crypto_seal(p[i].c, jobs, count);
		for (unsigned j = 0; j < count; j++)
			assert_true(jobs[j].ok);
	}
	for (unsigned j = 0; j < count; j++)
		pair_is(&q[j], n, true);
	for (unsigned i = 0; i < n; i++) {
		for (unsigned j = 0; j < count; j++)
			jobs[j] = job_of(&q[j], i, (i + 1) % n);
		crypto_open(p[i].c, jobs, count);
		for (unsigned j = 0; j < count; j++)
			assert_true(jobs[j].ok);
	}
	for (unsigned j = 0; j < count; j++)
		pair_is(&q[j], n, false);
	free(jobs);
}

static void test_lengths(void **state)
{
	(void)state;
	static const uint32_t large[] = {1408, 9008, 65008};
	struct party p[PARTIES];
	unsigned n = parties_begin(p);
	struct rnd r = {1};
	for (unsigned i = 0; i < SUITE_COUNT * 2; i++) {
		const struct suite *s = &suites[i / 2];
		struct pair q;
		for (uint32_t len = s->align; len <= 304; len += s->align) {
			pair_begin(&q, p, n, &r, s, len, i % 2);
			run_pairs(p, n, &q, 1);
			pair_end(&q, n);
		}
		for (unsigned j = 0; j < sizeof(large) / sizeof(large[0]); j++) {
			pair_begin(&q, p, n, &r, s, large[j], i % 2);
			run_pairs(p, n, &q, 1);
			pair_end(&q, n);
		}
		pair_begin(&q, p, n, &r, s,
			(CRYPTO_PKT_MAX - HDR - s->iv_len - s->icv_len) / s->align * s->align, i % 2);
		run_pairs(p, n, &q, 1);
		pair_end(&q, n);
	}
	parties_end(p, n);
}

/* 1 to 200 packets of any suites and lengths together. */
static void test_batches(void **state)
{
	(void)state;
	struct party p[PARTIES];
	unsigned n = parties_begin(p);
	struct rnd r = {2};
	struct pair q[200];
	for (unsigned count = 1; count <= 200; count += ROUNDS(16) > 3 ? 1 : 23) {
		for (unsigned j = 0; j < count; j++) {
			const struct suite *s = &suites[rnd_to(&r, SUITE_COUNT)];
			uint32_t most = rnd_to(&r, 8) == 0 ? 9000 : 1500;
			uint32_t len = (1 + rnd_to(&r, most / s->align)) * s->align;
			pair_begin(&q[j], p, n, &r, s, len, rnd_to(&r, 2));
		}
		run_pairs(p, n, q, count);
		for (unsigned j = 0; j < count; j++)
			pair_end(&q[j], n);
	}
	parties_end(p, n);
}

/* ---- forgeries -------------------------------------------------------------------------------------- */

#define TAMPER_TEXT 48

/* One bit of each octet in turn, the high half of the number, its presence, another key: all fail, and an untouched one among
 * them does not. */
static void tamper(struct party *p, const struct suite *s, bool esn, struct rnd *r)
{
	static uint8_t bufs[256][256];
	struct crypto_job jobs[256];
	struct material m = material_of(r), m2 = material_of(r);
	struct crypto_key *key = key_of(p, s, &m), *other = key_of(p, s, &m2);
	uint32_t len = HDR + s->iv_len + TAMPER_TEXT + s->icv_len, n = 0;
	uint8_t pkt[256];
	struct crypto_job j = {.key = key, .pkt = pkt, .text_len = TAMPER_TEXT, .seq_hi = 7, .esn = esn};
	rnd_fill(r, pkt, sizeof(pkt));
	crypto_seal(p->c, &j, 1);
	for (n = 0; n < len + 4; n++) {
		memcpy(bufs[n], pkt, len);
		jobs[n] = j;
		jobs[n].pkt = bufs[n];
		jobs[n].ok = true;
		if (n < len)
			bufs[n][n] ^= (uint8_t)(1u << rnd_to(r, 8));
	}
	jobs[len + 1].key = other;
	jobs[len + 2].esn = !esn;
	jobs[len + 3].seq_hi ^= 0x80000000;
	crypto_open(p->c, jobs, n);
	for (unsigned i = 0; i < n; i++) {
		/* The high half counts with ESN only. */
		bool good = i == len || (i == len + 3 && !esn);
		if (jobs[i].ok != good)
			fail_msg("%s, esn %d, place %u of %u: %s", s->name, esn, i, len,
				good ? "refused" : "taken");
	}
	crypto_key_free(key);
	crypto_key_free(other);
}

static void test_tampered(void **state)
{
	(void)state;
	struct party p[PARTIES];
	unsigned n = parties_begin(p);
	struct rnd r = {3};
	for (unsigned round = 0; round < 4; round++)
		for (unsigned i = 0; i < n; i++)
			for (unsigned s = 0; s < SUITE_COUNT * 2; s++)
				tamper(&p[i], &suites[s / 2], s % 2, &r);
	parties_end(p, n);
}

/* A forged packet keeps its ICV, and what lies around it. */
static void test_refused_in_place(void **state)
{
	(void)state;
	struct party p[PARTIES];
	unsigned n = parties_begin(p);
	struct rnd r = {4};
	for (unsigned i = 0; i < n * SUITE_COUNT * 2; i++) {
		const struct suite *s = &suites[i / n / 2];
		struct pair q;
		struct crypto_job j;
		pair_begin(&q, p, n, &r, s, 64, i / n % 2);
		j = job_of(&q, i % n, i % n);
		crypto_open(p[i % n].c, &j, 1);
		assert_false(j.ok);
		assert_memory_equal(q.buf[i % n], q.plain, GUARD + HDR + s->iv_len);
		assert_memory_equal(q.buf[i % n] + GUARD + q.len - s->icv_len,
			q.plain + GUARD + q.len - s->icv_len, GUARD + s->icv_len);
		pair_end(&q, n);
	}
	parties_end(p, n);
}

/* ---- keys ------------------------------------------------------------------------------------------- */

static void test_providers(void **state)
{
	(void)state;
	struct crypto_keys *ks;
	assert_true(crypto_has(CRYPTO_OPENSSL));
	assert_true(crypto_has(CRYPTO_AUTO));
	assert_string_equal(crypto_provider_name(CRYPTO_OPENSSL), "openssl");
	assert_string_equal(crypto_provider_name(CRYPTO_MB), "ipsec-mb");
	assert_string_equal(
		crypto_provider_name(CRYPTO_AUTO), crypto_has(CRYPTO_MB) ? "ipsec-mb" : "openssl");
	if (!crypto_has(CRYPTO_MB))
		assert_int_equal(crypto_keys_new(&ks, CRYPTO_MB), -ENOTSUP);
	crypto_keys_free(NULL);
	crypto_key_free(NULL);
	crypto_free(NULL);
}

static void test_key_lengths(void **state)
{
	(void)state;
	struct party p[PARTIES];
	unsigned n = parties_begin(p);
	uint8_t octets[128] = {0};
	for (unsigned i = 0; i < n * SUITE_COUNT; i++) {
		const struct suite *s = &suites[i / n];
		for (uint32_t encr = 0; encr <= 64; encr++) {
			for (uint32_t integ = 0; integ <= 65; integ++) {
				struct crypto_key *k = NULL;
				bool good =
					encr == (uint32_t)s->key_len + s->salt_len && integ == s->integ_len;
				assert_int_equal(
					crypto_key_new(&k, p[i % n].keys, s, octets, encr, octets, integ),
					good ? 0 : -EINVAL);
				assert_int_equal(crypto_keys_count(p[i % n].keys), good);
				crypto_key_free(k);
			}
		}
	}
	parties_end(p, n);
}

/* Keys come and go in any order, of all sizes; each is its own to the end. */
static void test_many_keys(void **state)
{
	(void)state;
	enum { KEYS = 600 };
	struct party p[PARTIES];
	unsigned n = parties_begin(p);
	struct rnd r = {5};
	static struct pair q[KEYS];
	unsigned live = 0;
	for (unsigned round = 0; round < ROUNDS(40); round++) {
		while (live < KEYS)
			pair_begin(&q[live++], p, n, &r, &suites[rnd_to(&r, SUITE_COUNT)], 32, round % 2);
		for (unsigned i = 0; i < n; i++)
			assert_int_equal(crypto_keys_count(p[i].keys), KEYS);
		for (unsigned gone = rnd_to(&r, KEYS); gone > 0; gone--) {
			unsigned at = rnd_to(&r, live);
			pair_end(&q[at], n);
			q[at] = q[--live];
		}
		run_pairs(p, n, q, live);
		for (unsigned i = 0; i < live; i++) /* as they were: the next round seals again */
			for (unsigned j = 0; j < n; j++)
				memcpy(q[i].buf[j], q[i].plain, q[i].len + 2 * GUARD);
	}
	while (live > 0)
		pair_end(&q[--live], n);
	parties_end(p, n);
}

/* Slots of every size are apart, aligned, and zero, also when they held something before. */
static void test_arena(void **state)
{
	(void)state;
	static uint8_t *slot[200];
	struct key_arena *a;
	assert_int_equal(key_arena_new(&a), 0);
	for (unsigned round = 0; round < 2; round++) {
		for (size_t size = 1; size <= KEY_MAX; size += 13) {
			for (unsigned i = 0; i < 200; i++) {
				slot[i] = key_arena_get(a, size);
				assert_non_null(slot[i]);
				assert_int_equal((uintptr_t)slot[i] % KEY_ALIGN, 0);
				for (size_t k = 0; k < size; k++)
					assert_int_equal(slot[i][k], 0);
				memset(slot[i], (int)i + 1, size);
			}
			assert_int_equal(key_arena_count(a), 200);
			for (unsigned i = 0; i < 200; i++) {
				for (size_t k = 0; k < size; k++)
					assert_int_equal(slot[i][k], (uint8_t)(i + 1));
				key_arena_put(a, slot[i], size);
			}
			/* The last one that was given back is the next one. */
			assert_ptr_equal(key_arena_get(a, size), slot[199]);
			key_arena_put(a, slot[199], size);
		}
	}
	assert_int_equal(key_arena_count(a), 0);
	key_arena_free(a);
}

/* In a process that may lock nothing, keys work, and it is told. */
static int unlocked_child(void)
{
	struct rlimit none = {0, 0};
	struct crypto_keys *ks;
	struct crypto_key *k;
	uint8_t octets[36] = {0};
	bool before, after;
	if (setrlimit(RLIMIT_MEMLOCK, &none) < 0 || (geteuid() == 0 && setuid(65534) < 0))
		return 2;
	if (crypto_keys_new(&ks, CRYPTO_AUTO) < 0)
		return 3;
	before = crypto_keys_locked(ks);
	if (crypto_key_new(&k, ks, &suites[SUITE_AES_GCM_256], octets, 36, NULL, 0) < 0)
		return 4;
	after = crypto_keys_locked(ks);
	crypto_key_free(k);
	crypto_keys_free(ks);
	return before && !after ? 0 : 5;
}

static void test_locked(void **state)
{
	(void)state;
	int status;
	pid_t pid;
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0)
		_exit(unlocked_child());
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

struct maker {
	struct party *p;
	pthread_t thread;
	unsigned seed, made;
};

static void *make_keys(void *arg)
{
	struct maker *m = arg;
	struct rnd r = {m->seed};
	struct crypto_key *k[8] = {NULL};
	for (unsigned i = 0; i < ROUNDS(4000); i++) {
		const struct suite *s = &suites[rnd_to(&r, SUITE_COUNT)];
		struct material mat = material_of(&r);
		crypto_key_free(k[i % 8]);
		k[i % 8] = NULL;
		m->made += crypto_key_new(&k[i % 8], m->p->keys, s, mat.encr,
				   (uint32_t)s->key_len + s->salt_len, mat.integ, s->integ_len) == 0;
	}
	for (unsigned i = 0; i < 8; i++)
		crypto_key_free(k[i]);
	return NULL;
}

/* IKE's threads make keys while the loop seals. */
static void test_threads(void **state)
{
	(void)state;
	struct party p[PARTIES];
	unsigned n = parties_begin(p);
	struct rnd r = {6};
	for (unsigned i = 0; i < n; i++) {
		struct maker m[3];
		struct pair q[SUITE_COUNT];
		for (unsigned j = 0; j < SUITE_COUNT; j++)
			pair_begin(&q[j], &p[i], 1, &r, &suites[j], 256, j % 2);
		for (unsigned j = 0; j < 3; j++) {
			m[j] = (struct maker){.p = &p[i], .seed = 100 + j};
			assert_int_equal(pthread_create(&m[j].thread, NULL, make_keys, &m[j]), 0);
		}
		for (unsigned round = 0; round < ROUNDS(400); round++) {
			run_pairs(&p[i], 1, q, SUITE_COUNT);
			for (unsigned j = 0; j < SUITE_COUNT; j++)
				memcpy(q[j].buf[0], q[j].plain, q[j].len + 2 * GUARD);
		}
		for (unsigned j = 0; j < 3; j++) {
			pthread_join(m[j].thread, NULL);
			assert_int_equal(m[j].made, ROUNDS(4000));
		}
		for (unsigned j = 0; j < SUITE_COUNT; j++)
			pair_end(&q[j], 1);
	}
	parties_end(p, n);
}

static int by_octets(const void *a, const void *b)
{
	return memcmp(a, b, CRYPTO_IV_MAX);
}

/* No two alike, each bit about half of the time, and two engines have nothing in common. */
static void test_ivs(void **state)
{
	(void)state;
	enum { IVS = 8000 };
	static uint8_t iv[IVS][CRYPTO_IV_MAX];
	unsigned ones[CRYPTO_IV_MAX * 8] = {0};
	struct party p;
	struct crypto *second;
	party_begin(&p, CRYPTO_AUTO);
	assert_int_equal(crypto_new(&second, p.keys), 0);
	for (unsigned i = 0; i < IVS; i++) {
		crypto_iv(i % 2 ? second : p.c, iv[i]);
		for (unsigned b = 0; b < CRYPTO_IV_MAX * 8; b++)
			ones[b] += iv[i][b / 8] >> (b % 8) & 1;
	}
	for (unsigned b = 0; b < CRYPTO_IV_MAX * 8; b++)
		assert_in_range(ones[b], IVS / 2 - 400, IVS / 2 + 400); /* nearly nine standard deviations */
	qsort(iv, IVS, CRYPTO_IV_MAX, by_octets);
	for (unsigned i = 1; i < IVS; i++)
		assert_memory_not_equal(iv[i - 1], iv[i], CRYPTO_IV_MAX);
	crypto_free(second);
	party_end(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_vectors),
		cmocka_unit_test(test_lengths),
		cmocka_unit_test(test_batches),
		cmocka_unit_test(test_tampered),
		cmocka_unit_test(test_refused_in_place),
		cmocka_unit_test(test_providers),
		cmocka_unit_test(test_key_lengths),
		cmocka_unit_test(test_many_keys),
		cmocka_unit_test(test_arena),
		cmocka_unit_test(test_locked),
		cmocka_unit_test(test_threads),
		cmocka_unit_test(test_ivs),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
