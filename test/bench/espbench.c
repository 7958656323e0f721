/* SPDX-License-Identifier: GPL-2.0-or-later */
/* espbench.c - what sealing and opening costs: each suite and provider, by esp_seal and esp_open.
 *
 * usage: espbench [OCTETS [SAS [PART OF A SUITE'S NAME]]]
 * Batches of 64 packets, OCTETS of inner packet each (1400), of as many SAs in turn (1). A line a suite and provider:
 * nanoseconds a packet and gigaoctets of inner packets a second, the best of several rounds.
 */
#include "ipsec/esp.h"

#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define ROUNDS  12
#define BATCHES 400 /* a round */
#define SAS_MAX 10000

struct rig {
	struct crypto_keys *keys;
	struct crypto *crypto;
	struct sa *out, *in;
	unsigned sas;
	uint32_t octets, room;
	uint8_t *data;
};

static void must(int err, const char *what)
{
	if (err == 0)
		return;
	fprintf(stderr, "espbench: %s: %s\n", what, strerror(-err));
	exit(1);
}

static double now_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static void sa_make(struct rig *r, struct sa *sa, const struct suite *s, const uint8_t *material)
{
	memset(sa, 0, sizeof(*sa));
	sa->spi = 0x1000;
	sa->suite = s;
	replay_init(&sa->replay, 1024, false);
	must(crypto_key_new(&sa->key, r->keys, s, material, (uint32_t)s->key_len + s->salt_len, material + 64,
		     s->integ_len),
		"key");
}

static void rig_begin(struct rig *r, const struct suite *s, enum crypto_provider p)
{
	uint8_t material[128];
	must(crypto_keys_new(&r->keys, p), "keys");
	must(crypto_new(&r->crypto, r->keys), "engine");
	for (unsigned i = 0; i < r->sas; i++) {
		randombytes_buf(material, sizeof(material));
		sa_make(r, &r->out[i], s, material);
		sa_make(r, &r->in[i], s, material);
	}
}

static void rig_end(struct rig *r)
{
	for (unsigned i = 0; i < r->sas; i++) {
		crypto_key_free(r->out[i].key);
		crypto_key_free(r->in[i].key);
	}
	crypto_free(r->crypto);
	crypto_keys_free(r->keys);
}

/* One batch; adds what it took. */
static void batch(struct rig *r, unsigned first, double *seal, double *open)
{
	struct esp_out out[ESP_BATCH];
	struct esp_in in[ESP_BATCH];
	double t0, t1, t2;
	for (unsigned i = 0; i < ESP_BATCH; i++) {
		out[i] = (struct esp_out){.sa = &r->out[(first + i) % r->sas],
			.data = r->data + (size_t)i * r->room,
			.inner_len = r->octets,
			.next = ESP_NEXT_IPV4};
	}
	t0 = now_ns();
	esp_seal(r->crypto, out, ESP_BATCH);
	t1 = now_ns();
	for (unsigned i = 0; i < ESP_BATCH; i++)
		in[i] = (struct esp_in){
			.sa = &r->in[(first + i) % r->sas], .data = out[i].data, .len = out[i].len};
	*seal += t1 - t0;
	t1 = now_ns();
	esp_open(r->crypto, in, ESP_BATCH);
	t2 = now_ns();
	*open += t2 - t1;
	for (unsigned i = 0; i < ESP_BATCH; i++)
		if (in[i].drop != DROP_NONE)
			must(-EBADMSG, drop_name(in[i].drop));
}

static void measure(struct rig *r, const struct suite *s, enum crypto_provider p)
{
	double seal = 1e18, open = 1e18;
	unsigned first = 0;
	rig_begin(r, s, p);
	for (unsigned round = 0; round < ROUNDS; round++) {
		double a = 0, b = 0;
		for (unsigned i = 0; i < BATCHES; i++, first += ESP_BATCH)
			batch(r, first, &a, &b);
		seal = a < seal ? a : seal;
		open = b < open ? b : open;
	}
	seal /= (double)BATCHES * ESP_BATCH;
	open /= (double)BATCHES * ESP_BATCH;
	printf("%-30s %-8s seal %7.0f ns %6.2f GB/s   open %7.0f ns %6.2f GB/s\n", s->name,
		crypto_provider_name(p), seal, r->octets / seal, open, r->octets / open);
	fflush(stdout);
	rig_end(r);
}

int main(int argc, char **argv)
{
	static const enum crypto_provider providers[] = {CRYPTO_MB, CRYPTO_OPENSSL};
	struct rig r = {.octets = 1400, .sas = 1};
	const char *part = argc > 3 ? argv[3] : "";
	if (argc > 1)
		r.octets = (uint32_t)strtoul(argv[1], NULL, 10);
	if (argc > 2)
		r.sas = (unsigned)strtoul(argv[2], NULL, 10);
	if (argc > 4 || r.octets < 20 || r.octets > 65535 || r.sas < 1 || r.sas > SAS_MAX) {
		fprintf(stderr,
			"usage: espbench [OCTETS (20 to 65535) [SAS (1 to 10000) [PART OF A NAME]]]\n");
		return 1;
	}
	r.room = (r.octets + ESP_OVERHEAD_MAX + 63) / 64 * 64;
	r.data = calloc(ESP_BATCH, r.room);
	r.out = calloc(r.sas, sizeof(*r.out));
	r.in = calloc(r.sas, sizeof(*r.in));
	if (!r.data || !r.out || !r.in)
		must(-ENOMEM, "memory");
	for (unsigned s = 0; s < SUITE_COUNT; s++)
		for (unsigned p = 0; p < 2; p++)
			if (crypto_has(providers[p]) && strstr(suites[s].name, part))
				measure(&r, &suites[s], providers[p]);
	free(r.data);
	free(r.out);
	free(r.in);
	return 0;
}
