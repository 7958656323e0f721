/* SPDX-License-Identifier: GPL-2.0-or-later */
/* reass.c - puts fragments together.
 *
 * A datagram is a list of pieces in order of their offset; a piece lies in one or more chunks of a pool. Datagrams hang in a
 * hash table, whose key is new at each start, and in the order in which they began. A datagram that is complete leaves both
 * for a queue of its own, until reass_next takes it out.
 */
#include "gateway/base/reass.h"

#include "gateway/base/be.h"
#include "gateway/base/csum.h"

#include <errno.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define CHUNK    2048u
#define NONE     UINT32_MAX
#define REALMS   65536u
#define DONE_MAX 64u  /* complete ones that may wait to be taken out, besides */
#define HDR_MAX  256u /* what stands before the pieces: IPv4 header, or IPv6 header and extension headers */
#define ECN_MASK 3

/* What tells datagrams apart. No padding: it is hashed and compared as memory. */
struct key {
	struct addr src, dst;
	uint32_t realm, id;
	uint8_t proto, ver, zero[6]; /* proto: IPv4 only, RFC 8200 4.5 */
};
_Static_assert(sizeof(struct key) == 48, "no padding");

struct piece {
	uint16_t off, len; /* octets of the fragmentable part */
	uint32_t chunk;    /* the first */
};

struct datagram {
	struct key key;
	uint32_t via, next, hash_next; /* next: in a list of free or complete ones */
	struct {
		uint32_t older, younger;
	} in[2]; /* the orders ALL and REALM */
	uint64_t since_ms;
	uint32_t have, total; /* octets of the fragmentable part; total 0: the last fragment has not come */
	uint32_t chunks;
	uint16_t frag_max, npieces, hlen;
	uint8_t next_header, ecn; /* ecn: which of the four were seen */
	bool first, dead;
	uint8_t hdr[HDR_MAX];
	struct piece piece[REASS_PIECES];
};

/* In the order in which they began. */
struct order {
	uint32_t oldest, youngest;
};
enum which { ALL, REALM };

struct reass {
	struct reass_limits limits;
	struct datagram *d;
	uint32_t *bucket, mask;
	struct order all;
	uint32_t free, high, done, done_last; /* high: those from there on were never used */
	uint8_t (*chunk)[CHUNK];
	uint32_t *chunk_next, chunk_free, chunks, chunks_used, chunks_a_realm, waiting, realms;
	uint8_t hash_key[crypto_shorthash_KEYBYTES];
	reass_lost_cb *lost;
	void *lost_arg;
	struct {
		uint32_t datagrams, chunks;
		struct order order; /* of its datagrams, when it has any */
	} realm[REALMS];
};

/* ---- memory ----------------------------------------------------------------------------------------- */

static void *map(size_t octets)
{
	void *p = mmap(
		NULL, octets, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

static uint32_t to_chunks(uint32_t octets)
{
	return (octets + CHUNK - 1) / CHUNK;
}

int reass_new(struct reass **out, const struct reass_limits *l)
{
	struct reass *r;
	uint32_t buckets = 1;

	if (sodium_init() < 0)
		return -ENOSYS;
	r = calloc(1, sizeof(*r));
	if (!r)
		return -ENOMEM;
	r->limits = *l;
	r->chunks = to_chunks(l->octets);
	r->chunks_a_realm = to_chunks(l->octets_a_realm);
	while (buckets < l->datagrams)
		buckets *= 2;
	r->mask = buckets - 1;
	r->bucket = malloc(buckets * sizeof(r->bucket[0]));
	r->chunk_next = malloc(r->chunks * sizeof(r->chunk_next[0]));
	/* Untouched as long as nobody sends fragments. */
	r->d = map(((size_t)l->datagrams + DONE_MAX) * sizeof(r->d[0]));
	r->chunk = map((size_t)r->chunks * CHUNK);
	if (!r->bucket || !r->chunk_next || !r->d || !r->chunk) {
		reass_free(r);
		return -ENOMEM;
	}
	memset(r->bucket, 0xff, buckets * sizeof(r->bucket[0]));
	for (uint32_t i = 0; i < r->chunks; i++)
		r->chunk_next[i] = i + 1 < r->chunks ? i + 1 : NONE;
	r->all.oldest = r->all.youngest = r->free = r->done = r->done_last = NONE;
	randombytes_buf(r->hash_key, sizeof(r->hash_key));
	*out = r;
	return 0;
}

void reass_free(struct reass *r)
{
	if (!r)
		return;
	if (r->d)
		munmap(r->d, ((size_t)r->limits.datagrams + DONE_MAX) * sizeof(r->d[0]));
	if (r->chunk)
		munmap(r->chunk, (size_t)r->chunks * CHUNK);
	free(r->bucket);
	free(r->chunk_next);
	free(r);
}

void reass_on_lost(struct reass *r, reass_lost_cb *cb, void *arg)
{
	r->lost = cb;
	r->lost_arg = arg;
}

static uint16_t slot(const struct datagram *d)
{
	return (uint16_t)d->key.realm;
}

static void free_pieces(struct reass *r, struct datagram *d)
{
	for (unsigned i = 0; i < d->npieces; i++) {
		uint32_t c = d->piece[i].chunk, last = c;

		while (r->chunk_next[last] != NONE)
			last = r->chunk_next[last];
		r->chunk_next[last] = r->chunk_free;
		r->chunk_free = c;
	}
	r->chunks_used -= d->chunks;
	r->realm[slot(d)].chunks -= d->chunks;
	d->npieces = 0;
	d->chunks = 0;
}

/* ---- the table -------------------------------------------------------------------------------------- */

static uint32_t *bucket_of(struct reass *r, const struct key *k)
{
	uint64_t h;

	crypto_shorthash((uint8_t *)&h, (const uint8_t *)k, sizeof(*k), r->hash_key);
	return &r->bucket[h & r->mask];
}

static uint32_t find(struct reass *r, const struct key *k)
{
	uint32_t i = *bucket_of(r, k);

	while (i != NONE && memcmp(&r->d[i].key, k, sizeof(*k)) != 0)
		i = r->d[i].hash_next;
	return i;
}

static void order_in(struct reass *r, struct order *o, enum which w, uint32_t i)
{
	r->d[i].in[w].older = o->youngest;
	r->d[i].in[w].younger = NONE;
	*(o->youngest == NONE ? &o->oldest : &r->d[o->youngest].in[w].younger) = i;
	o->youngest = i;
}

static void order_out(struct reass *r, struct order *o, enum which w, uint32_t i)
{
	uint32_t older = r->d[i].in[w].older, younger = r->d[i].in[w].younger;

	*(older == NONE ? &o->oldest : &r->d[older].in[w].younger) = younger;
	*(younger == NONE ? &o->youngest : &r->d[younger].in[w].older) = older;
}

/* Out of the table and of both orders; its memory stays. */
static void unlink_datagram(struct reass *r, uint32_t i)
{
	struct datagram *d = &r->d[i];
	uint32_t *p = bucket_of(r, &d->key);

	while (*p != i)
		p = &r->d[*p].hash_next;
	*p = d->hash_next;
	order_out(r, &r->all, ALL, i);
	order_out(r, &r->realm[slot(d)].order, REALM, i);
	r->realms -= --r->realm[slot(d)].datagrams == 0;
	r->waiting--;
}

static void put_free(struct reass *r, uint32_t i)
{
	r->d[i].next = r->free;
	r->free = i;
}

static void give_up(struct reass *r, uint32_t i, enum drop why)
{
	struct datagram *d = &r->d[i];

	if (d->npieces && r->lost)
		r->lost(r->lost_arg, d->via, why, d->npieces);
	free_pieces(r, d);
	unlink_datagram(r, i);
	put_free(r, i);
}

static uint32_t oldest_of(const struct reass *r, uint16_t realm)
{
	return r->realm[realm].datagrams ? r->realm[realm].order.oldest : NONE;
}

/* The oldest of somebody who has as much as everybody would have, were it shared out evenly. There is one: not all can have
 * less than the average. */
static uint32_t oldest_of_greedy(const struct reass *r, bool by_chunks)
{
	uint32_t average = r->realms ? (by_chunks ? r->chunks_used : r->waiting) / r->realms : 0;

	for (uint32_t i = r->all.oldest; i != NONE; i = r->d[i].in[ALL].younger) {
		uint32_t has =
			by_chunks ? r->realm[slot(&r->d[i])].chunks : r->realm[slot(&r->d[i])].datagrams;

		if (has >= average && has)
			return i;
	}
	return r->all.oldest;
}

/* Makes room for one more datagram, or for n more chunks, of a realm. except: it must stay. False: there is none. */
static bool make_room(struct reass *r, uint16_t realm, uint32_t n, uint32_t except)
{
	while (n ? r->realm[realm].chunks + n > r->chunks_a_realm
		 : r->realm[realm].datagrams >= r->limits.datagrams_a_realm) {
		uint32_t i = oldest_of(r, realm);

		if (i == NONE || i == except)
			return false;
		give_up(r, i, DROP_FRAGMENT_LIMIT);
	}
	while (n ? r->chunks_used + n > r->chunks : r->waiting >= r->limits.datagrams) {
		uint32_t i = oldest_of_greedy(r, n > 0);

		if (i == NONE || i == except)
			return false;
		give_up(r, i, DROP_FRAGMENT_LIMIT);
	}
	return true;
}

static uint32_t take_free(struct reass *r)
{
	uint32_t i = r->free;

	if (i != NONE)
		r->free = r->d[i].next;
	else if (r->high < r->limits.datagrams + DONE_MAX)
		i = r->high++;
	return i;
}

static uint32_t begin(struct reass *r, const struct key *k, uint32_t via, uint64_t now_ms)
{
	uint32_t i = make_room(r, (uint16_t)k->realm, 0, NONE) ? take_free(r) : NONE, *b;
	struct datagram *d;

	if (i == NONE)
		return NONE;
	d = &r->d[i];
	memset(d, 0, offsetof(struct datagram, hdr));
	d->key = *k;
	d->via = via;
	d->since_ms = now_ms;
	b = bucket_of(r, k);
	d->hash_next = *b;
	*b = i;
	order_in(r, &r->all, ALL, i);
	if (r->realm[slot(d)].datagrams++ == 0) {
		r->realm[slot(d)].order = (struct order){NONE, NONE};
		r->realms++;
	}
	order_in(r, &r->realm[slot(d)].order, REALM, i);
	r->waiting++;
	return i;
}

/* ---- pieces ----------------------------------------------------------------------------------------- */

/* Copies n octets into chunks. There is room. Returns the first. */
static uint32_t store(struct reass *r, struct datagram *d, const uint8_t *from, uint32_t n)
{
	uint32_t first = r->chunk_free, c = first, used = 0;

	for (;;) {
		uint32_t part = n < CHUNK ? n : CHUNK;

		memcpy(r->chunk[c], from, part);
		from += part;
		n -= part;
		used++;
		if (!n)
			break;
		c = r->chunk_next[c];
	}
	r->chunk_free = r->chunk_next[c];
	r->chunk_next[c] = NONE;
	d->chunks += used;
	r->chunks_used += used;
	r->realm[slot(d)].chunks += used;
	return first;
}

enum place { PLACE_FREE, PLACE_SAME, PLACE_OVERLAPS };

/* Where a piece belongs: mostly at the end. */
static enum place place(const struct datagram *d, uint32_t off, uint32_t len, unsigned *at)
{
	unsigned i = d->npieces;

	while (i > 0 && d->piece[i - 1].off >= off)
		i--;
	*at = i;
	if (i < d->npieces && d->piece[i].off == off && d->piece[i].len == len)
		return PLACE_SAME;
	if (i < d->npieces && off + len > d->piece[i].off)
		return PLACE_OVERLAPS;
	if (i > 0 && (uint32_t)d->piece[i - 1].off + d->piece[i - 1].len > off)
		return PLACE_OVERLAPS;
	return PLACE_FREE;
}

/* From here on what comes of it is dropped, until its time is over. */
static void spoil(struct reass *r, struct datagram *d)
{
	if (d->npieces && r->lost)
		r->lost(r->lost_arg, d->via, DROP_FRAGMENT_OVERLAP, d->npieces);
	free_pieces(r, d);
	d->dead = true;
}

/* The header that the whole datagram will have: the first fragment's. */
static void keep_header(struct datagram *d, const struct pkt *p)
{
	d->hlen = p->ver == 4 ? p->l4 : p->frag_hdr;
	memcpy(d->hdr, p->data, d->hlen);
	if (p->ver == 6)
		d->next_header = p->data[p->frag_hdr];
	d->first = true;
}

/* RFC 3168 5.3: a mark on any fragment is one on the whole; with fragments of both kinds, whoever sent them is broken. */
static bool ecn_agrees(uint8_t seen)
{
	return !(seen & 1) || seen == 1;
}

static bool sizes_agree(const struct datagram *d, uint32_t off, uint32_t len, bool more)
{
	uint32_t last =
		d->npieces ? (uint32_t)d->piece[d->npieces - 1].off + d->piece[d->npieces - 1].len : 0;

	if (more)
		return !d->total || off + len < d->total;
	return d->total ? d->total == off + len : last <= off + len;
}

static enum drop add(struct reass *r, uint32_t i, const struct pkt *p)
{
	struct datagram *d = &r->d[i];
	uint32_t off = p->frag_off, len = p->len - p->l4, hlen = p->ver == 4 ? p->l4 : p->frag_hdr;
	uint8_t ecn = d->ecn | (uint8_t)(1u << (p->tos & ECN_MASK));
	unsigned at;

	if (d->dead)
		return DROP_FRAGMENT_OVERLAP;
	switch (place(d, off, len, &at)) {
	case PLACE_SAME:
		return DROP_FRAGMENT_DUPLICATE;
	case PLACE_OVERLAPS:
		spoil(r, d);
		return DROP_FRAGMENT_OVERLAP;
	case PLACE_FREE:
		break;
	}
	if (!sizes_agree(d, off, len, p->frag_more) || !ecn_agrees(ecn) || hlen > HDR_MAX ||
		(off == 0 && hlen + off + len > PKT_MAX))
		return DROP_FRAGMENT_INVALID;
	if (d->npieces == REASS_PIECES || !make_room(r, slot(d), to_chunks(len), i))
		return DROP_FRAGMENT_LIMIT;
	memmove(&d->piece[at + 1], &d->piece[at], (d->npieces - at) * sizeof(d->piece[0]));
	d->piece[at] = (struct piece){(uint16_t)off, (uint16_t)len, store(r, d, p->data + p->l4, len)};
	d->npieces++;
	d->have += len;
	d->ecn = ecn;
	if (!p->frag_more)
		d->total = off + len;
	if (off == 0)
		keep_header(d, p);
	if (p->len > d->frag_max)
		d->frag_max = (uint16_t)p->len;
	if (d->total && d->have == d->total && d->hlen + d->total > PKT_MAX) {
		spoil(r, d);
		return DROP_FRAGMENT_INVALID;
	}
	if (d->total && d->have == d->total) {
		unlink_datagram(r, i);
		d->next = NONE;
		*(r->done == NONE ? &r->done : &r->d[r->done_last].next) = i;
		r->done_last = i;
	}
	return DROP_NONE;
}

enum drop reass_take(struct reass *r, uint32_t realm, uint32_t via, const struct pkt *p, uint64_t now_ms)
{
	struct key k = {.src = p->t.src,
		.dst = p->t.dst,
		.realm = realm,
		.id = p->frag_id,
		.proto = p->ver == 4 ? p->t.proto : 0,
		.ver = p->ver};
	uint32_t len = p->len - p->l4, i;

	/* All but the last are of whole units of 8 octets, and none is empty. */
	if (!len || (p->frag_more && len % 8) || p->frag_off + len > PKT_MAX)
		return DROP_FRAGMENT_INVALID;
	reass_tick(r, now_ms);
	i = find(r, &k);
	if (i == NONE)
		i = begin(r, &k, via, now_ms);
	return i == NONE ? DROP_FRAGMENT_LIMIT : add(r, i, p);
}

/* ---- whole datagrams -------------------------------------------------------------------------------- */

static uint32_t write_header(const struct datagram *d, uint8_t *b)
{
	uint32_t len = d->hlen + d->total, at = 6;

	memcpy(b, d->hdr, d->hlen);
	if (d->key.ver == 4) {
		be16_put(b + 2, (uint16_t)len);
		b[6] &= 0x40; /* DF as it was; neither offset nor more to come */
		b[7] = 0;
		if (d->ecn & 1u << ECN_MASK)
			b[1] |= ECN_MASK;
		be16_put(b + 10, 0);
		raw16_put(b + 10, (uint16_t)~csum_fold(csum_add(0, b, d->hlen)));
		return len;
	}
	be16_put(b + 4, (uint16_t)(len - 40));
	if (d->ecn & 1u << ECN_MASK)
		b[1] |= ECN_MASK << 4;
	/* The header before the fragment header names what stood behind it. */
	if (d->hlen > 40) {
		for (at = 40; at + (b[at + 1] + 1u) * 8 < d->hlen; at += (b[at + 1] + 1u) * 8)
			;
	}
	b[at] = d->next_header;
	return len;
}

bool reass_next(
	struct reass *r, uint8_t *buf, struct pkt *p, uint32_t *realm, uint32_t *via, uint32_t *packets)
{
	uint32_t i = r->done, at;
	struct datagram *d;

	if (i == NONE)
		return false;
	d = &r->d[i];
	r->done = d->next;
	*p = (struct pkt){
		.data = buf, .len = write_header(d, buf), .frag_max = d->frag_max, .frag_id = d->key.id};
	at = d->hlen;
	for (unsigned k = 0; k < d->npieces; k++) {
		uint32_t c = d->piece[k].chunk, n = d->piece[k].len;

		for (; n; c = r->chunk_next[c]) {
			uint32_t part = n < CHUNK ? n : CHUNK;

			memcpy(buf + at, r->chunk[c], part);
			at += part;
			n -= part;
		}
	}
	*realm = d->key.realm;
	*via = d->via;
	*packets = d->npieces;
	free_pieces(r, d);
	put_free(r, i);
	return true;
}

/* ---- time ------------------------------------------------------------------------------------------- */

void reass_tick(struct reass *r, uint64_t now_ms)
{
	while (r->all.oldest != NONE && now_ms - r->d[r->all.oldest].since_ms >= r->limits.timeout_ms)
		give_up(r, r->all.oldest, DROP_FRAGMENT_TIMEOUT);
}

uint32_t reass_waiting(const struct reass *r)
{
	return r->waiting;
}

uint32_t reass_octets(const struct reass *r)
{
	return r->chunks_used * CHUNK;
}
