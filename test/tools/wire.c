/* SPDX-License-Identifier: GPL-2.0-or-later */
/* wire.c - the judge: did each packet that left by a tunnel belong to the site at its other end? */
#include "test/tools/wire.h"

#include "test/tools/tool.h"
#include "test/tools/wireview.h"

#include <arpa/inet.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#define TUNNELS_MAX 512
#define PORTS_MAX   16
#define NOTES_MAX   64
#define NOTES_SAME  2 /* of one kind and site */
#define NOTE_LEN    256

struct key {
	uint8_t host[16], peer[16]; /* of the site; of the other side */
	uint32_t tag;
	uint16_t host_port, peer_port; /* echo: id and number */
	uint8_t proto, pad[7];
};

struct range { /* sequence numbers that a site has sent: first is its SYN's */
	bool valid;
	uint32_t first, end;
};

struct seen {
	struct key key;
	bool used, has_ack, has_peer_isn;
	struct range sent, before; /* of this connection, and of the last one with the same ports */
	uint32_t last_ack, peer_isn;
	uint64_t payload; /* echo: hash of it */
};

struct tunnel {
	uint8_t local[16], remote[16];
	bool has_key;
	uint32_t key, tag;
	uint64_t to_site, from_site, misdelivered, unverifiable;
};

/* What passed a place in one direction, in units that neither GSO nor GRO changes. */
struct volume {
	uint64_t tcp_octets, udp, echo;
};

struct wire {
	struct seen *table;
	size_t size, used;
	struct tunnel tunnels[TUNNELS_MAX];
	unsigned ntunnels;
	uint16_t ports[PORTS_MAX];
	unsigned nports;
	uint32_t private_net, private_mask;
	struct volume tunnel_in, egress_out, egress_in, tunnel_out;
	uint64_t checked, tag_octets, misdelivered, unsolicited, unverifiable, undecodable, outer_fragments;
	uint64_t fragments, multicast, bad_checksum, branch_rst, branch_unreachable, unknown_tunnel, leaked;
	char notes[NOTES_MAX][NOTE_LEN];
	unsigned nnotes;
};

struct wire *wire_new(void)
{
	struct wire *w = calloc(1, sizeof(*w));

	if (!w)
		fail("out of memory");
	w->size = 1 << 16;
	w->table = calloc(w->size, sizeof(*w->table));
	if (!w->table)
		fail("out of memory");
	return w;
}

void wire_free(struct wire *w)
{
	free(w->table);
	free(w);
}

bool wire_addr(const char *text, uint8_t out[16])
{
	uint8_t four[4];

	if (inet_pton(AF_INET, text, four) == 1) {
		map4(out, four);
		return true;
	}
	return inet_pton(AF_INET6, text, out) == 1;
}

void wire_add_tunnel(struct wire *w, const uint8_t local[16], const uint8_t remote[16], bool has_key,
	uint32_t key, uint32_t tag)
{
	if (w->ntunnels == TUNNELS_MAX)
		fail("more than %d tunnels", TUNNELS_MAX);
	struct tunnel *t = &w->tunnels[w->ntunnels++];
	*t = (struct tunnel){.has_key = has_key, .key = key, .tag = tag};
	memcpy(t->local, local, 16);
	memcpy(t->remote, remote, 16);
}

unsigned wire_add_inside(struct wire *w, uint32_t tag)
{
	static const uint8_t nowhere[16]; /* no packet on the underlay has this address */

	wire_add_tunnel(w, nowhere, nowhere, false, 0, tag);
	return w->ntunnels - 1;
}

void wire_add_tagged_port(struct wire *w, uint16_t port)
{
	if (w->nports == PORTS_MAX)
		fail("more than %d tagged ports", PORTS_MAX);
	w->ports[w->nports++] = port;
}

void wire_add_private(struct wire *w, uint32_t prefix, unsigned len)
{
	w->private_mask = len ? ~0u << (32 - len) : 0;
	w->private_net = prefix & w->private_mask;
}

static bool tagged(const struct wire *w, uint16_t port)
{
	for (unsigned i = 0; i < w->nports; i++)
		if (w->ports[i] == port)
			return true;
	return false;
}

/* ---- memory of what sites sent ---------------------------------------------------------------------- */

static uint64_t hash(const void *p, size_t n)
{
	uint64_t h = 1469598103934665603ull; /* FNV-1a */

	for (const uint8_t *b = p; n--; b++)
		h = (h ^ *b) * 1099511628211ull;
	return h;
}

static struct seen *slot(struct seen *table, size_t size, const struct key *k)
{
	for (size_t i = hash(k, sizeof(*k)) & (size - 1);; i = (i + 1) & (size - 1))
		if (!table[i].used || memcmp(&table[i].key, k, sizeof(*k)) == 0)
			return &table[i];
}

static struct seen *find(struct wire *w, const struct key *k)
{
	struct seen *s = slot(w->table, w->size, k);

	return s->used ? s : NULL;
}

static struct seen *remember(struct wire *w, const struct key *k)
{
	if (w->used * 2 > w->size) {
		struct seen *bigger = calloc(w->size * 4, sizeof(*bigger));
		if (!bigger)
			fail("out of memory");
		for (size_t i = 0; i < w->size; i++)
			if (w->table[i].used)
				*slot(bigger, w->size * 4, &w->table[i].key) = w->table[i];
		free(w->table);
		w->table = bigger;
		w->size *= 4;
	}
	struct seen *s = slot(w->table, w->size, k);
	if (!s->used) {
		*s = (struct seen){.key = *k, .used = true};
		w->used++;
	}
	return s;
}

/* from_site: src is the site's host. Echo replies and requests have id and number in the place of ports. */
static struct key key_of(const struct view *v, uint32_t tag, bool from_site)
{
	struct key k;

	memset(&k, 0, sizeof(k));
	k.tag = tag;
	k.proto = v->proto;
	memcpy(k.host, from_site ? v->src : v->dst, 16);
	memcpy(k.peer, from_site ? v->dst : v->src, 16);
	k.host_port = from_site ? v->sport : v->dport;
	k.peer_port = from_site ? v->dport : v->sport;
	if ((v->proto == IPPROTO_ICMP || v->proto == IPPROTO_ICMPV6) && v->l4_len >= 8) {
		k.host_port = get16(v->l4 + 4);
		k.peer_port = get16(v->l4 + 6);
	}
	return k;
}

static void learn_tcp(struct seen *s, const struct view *v)
{
	uint32_t end = v->seq + (uint32_t)v->payload_len + !!(v->flags & SYN) + !!(v->flags & FIN);

	if ((v->flags & SYN) && !(s->sent.valid && s->sent.first == v->seq)) {
		s->before = s->sent;
		s->sent = (struct range){true, v->seq, end};
		s->has_peer_isn = false;
	} else if (!s->sent.valid) {
		s->sent = (struct range){true, v->seq - 1, end}; /* begun before we looked */
	} else if ((int32_t)(end - s->sent.end) > 0) {
		s->sent.end = end;
	}
	if (v->flags & ACK) {
		s->has_ack = true;
		s->last_ack = v->ack;
	}
}

static void learn(struct wire *w, const struct view *v, uint32_t tag)
{
	if (v->fragment)
		return;
	if (v->proto == IPPROTO_TCP && (v->flags & RST))
		w->branch_rst++;
	if (is_unreachable(v))
		w->branch_unreachable++;
	if (is_icmp_error(v) || is_echo(v, true))
		return;
	struct key k = key_of(v, tag, true);
	struct seen *s = remember(w, &k);
	if (v->proto == IPPROTO_TCP)
		learn_tcp(s, v);
	else if (is_echo(v, false))
		s->payload = hash(v->payload, v->payload_len);
}

/* ---- judging what goes to sites --------------------------------------------------------------------- */

static void __attribute__((format(printf, 4, 5)))
note(struct wire *w, const struct view *v, uint32_t tag, const char *fmt, ...)
{
	char src[INET6_ADDRSTRLEN], dst[INET6_ADDRSTRLEN], what[120];
	unsigned same = 0;
	va_list ap;

	int n = snprintf(what, sizeof(what), "site %" PRIu32 ": ", tag);
	va_start(ap, fmt);
	vsnprintf(what + n, sizeof(what) - (size_t)n, fmt, ap);
	va_end(ap);
	for (unsigned i = 0; i < w->nnotes; i++)
		same += strstr(w->notes[i], what) != NULL;
	if (same == NOTES_SAME || w->nnotes == NOTES_MAX)
		return;
	inet_ntop(AF_INET6, v->src, src, sizeof(src));
	inet_ntop(AF_INET6, v->dst, dst, sizeof(dst));
	snprintf(w->notes[w->nnotes++], NOTE_LEN, "%s: %s %u > %s %u proto %u len %zu", what, src, v->sport,
		dst, v->dport, v->proto, v->ip_len);
}

static bool in_range(const struct range *r, uint32_t ack)
{
	return r->valid && (int32_t)(ack - r->first) > 0 && (int32_t)(r->end - ack) >= 0;
}

/* Every octet of a tagged answer at offset `at` of its stream. */
static bool payload_right(const struct view *v, uint32_t tag, uint32_t at)
{
	for (size_t i = 0; i < v->payload_len; i++) {
		uint8_t block[TAG_BLOCK];
		struct tag t = {TAG_ANSWER, tag, v->dport, (uint32_t)(at + i) / TAG_BLOCK};
		tag_put(block, &t);
		size_t skip = (at + i) % TAG_BLOCK, n = TAG_BLOCK - skip;
		if (n > v->payload_len - i)
			n = v->payload_len - i;
		if (memcmp(block + skip, v->payload + i, n) != 0)
			return false;
		i += n - 1;
	}
	return true;
}

/* The judgement of one packet: NULL when it is right, else what is wrong with it. */
static const char *judge_tcp(struct wire *w, const struct view *v, uint32_t tag, bool *sure)
{
	struct key k = key_of(v, tag, false);
	struct seen *s = find(w, &k);

	if (!s)
		return "TCP of a connection that this site does not have";
	if (v->flags & ACK) {
		bool now = in_range(&s->sent, v->ack);
		if (!now && !in_range(&s->before, v->ack))
			return "TCP acknowledges what this site did not send";
		*sure = true;
		if (now && (v->flags & SYN)) {
			s->has_peer_isn = true;
			s->peer_isn = v->seq;
		}
		if (!now)
			return NULL; /* late, of the connection before: its stream is not known any more */
	} else if (v->flags & RST) {
		if (s->has_ack && (uint32_t)(v->seq - s->last_ack + (1u << 22)) > 1u << 23)
			return "RST far from what this site acknowledged";
		*sure = s->has_ack;
	}
	if (v->payload_len && s->has_peer_isn && tagged(w, v->sport)) {
		if (!payload_right(v, tag, v->seq - s->peer_isn - 1))
			return "TCP payload is not this site's";
		w->tag_octets += v->payload_len;
		*sure = true;
	}
	return NULL;
}

static const char *judge_udp(struct wire *w, const struct view *v, uint32_t tag, bool *sure)
{
	struct key k = key_of(v, tag, false);

	if (!find(w, &k))
		return "UDP from where this site sent nothing to";
	if (!tagged(w, v->sport))
		return NULL;
	for (size_t i = 0; i + TAG_BLOCK <= v->payload_len; i += TAG_BLOCK) {
		struct tag t;
		tag_get(v->payload + i, &t);
		if (t.mark != TAG_ANSWER || t.tag != tag || t.a != v->dport)
			return "UDP payload is not this site's";
	}
	w->tag_octets += v->payload_len;
	*sure = true;
	return NULL;
}

static const char *judge_icmp(struct wire *w, const struct view *v, uint32_t tag, bool *sure)
{
	if (is_echo(v, true)) {
		struct key k = key_of(v, tag, false);
		const struct seen *s = find(w, &k);
		if (!s)
			return "echo reply that this site did not ask for";
		if (s->payload != hash(v->payload, v->payload_len))
			return "echo reply with another payload than this site sent";
		*sure = true;
		return NULL;
	}
	if (is_icmp_error(v)) {
		struct view q;
		if (!view_ip(&q, v->payload, v->payload_len, true))
			return "ICMP error whose quote cannot be read";
		struct key k = key_of(&q, tag, true);
		const struct seen *s = find(w, &k);
		if (!s || memcmp(q.src, v->dst, 16) != 0)
			return "ICMP error that quotes what this site did not send";
		if (q.proto == IPPROTO_TCP && !in_range(&s->sent, q.seq + 1) &&
			!in_range(&s->before, q.seq + 1) && q.seq != s->sent.end)
			return "ICMP error that quotes a sequence number of another site";
		*sure = true;
	}
	return NULL;
}

static void judge(struct wire *w, const struct view *v, struct tunnel *to, bool partial)
{
	uint32_t tag = to->tag;
	const char *wrong = NULL;
	bool sure = false;

	if (!partial && !checksums_right(v)) {
		w->bad_checksum++;
		note(w, v, tag, "wrong checksum");
	}
	if (v->fragment) {
		w->fragments++;
		return;
	}
	if (is_multicast(v)) {
		w->multicast++;
		return;
	}
	if (is_echo(v, false) || (v->proto == IPPROTO_TCP && (v->flags & (SYN | ACK)) == SYN)) {
		w->unsolicited++;
		return;
	}
	if (v->proto == IPPROTO_TCP)
		wrong = judge_tcp(w, v, tag, &sure);
	else if (v->proto == IPPROTO_UDP)
		wrong = judge_udp(w, v, tag, &sure);
	else if (v->proto == IPPROTO_ICMP || v->proto == IPPROTO_ICMPV6)
		wrong = judge_icmp(w, v, tag, &sure);
	if (wrong) {
		w->misdelivered++;
		to->misdelivered++;
		note(w, v, tag, "%s", wrong);
	} else if (sure) {
		w->checked++;
	} else {
		w->unverifiable++;
		to->unverifiable++;
		note(w, v, tag, "nothing to compare");
	}
}

/* ---- the two places --------------------------------------------------------------------------------- */

/* port: the server's, by which tagged traffic is known. */
static void measure(const struct wire *w, struct volume *vol, const struct view *v, uint16_t port, bool reply)
{
	if (v->fragment)
		return;
	if (v->proto == IPPROTO_TCP && tagged(w, port))
		vol->tcp_octets += v->payload_len;
	else if (v->proto == IPPROTO_UDP && tagged(w, port))
		vol->udp++;
	else if (is_echo(v, reply))
		vol->echo++;
}

static struct tunnel *tunnel_of(
	struct wire *w, const struct view *outer, bool leaving, bool has_key, uint32_t key)
{
	const uint8_t *local = leaving ? outer->src : outer->dst, *remote = leaving ? outer->dst : outer->src;

	for (unsigned i = 0; i < w->ntunnels; i++) {
		struct tunnel *t = &w->tunnels[i];
		if (!memcmp(t->remote, remote, 16) && !memcmp(t->local, local, 16) && t->has_key == has_key &&
			(!has_key || t->key == key))
			return t;
	}
	return NULL;
}

static void pass(struct wire *w, struct tunnel *t, const struct view *v, bool to_site, bool partial)
{
	if (to_site) {
		t->to_site++;
		measure(w, &w->tunnel_out, v, v->sport, true);
		judge(w, v, t, partial);
	} else {
		t->from_site++;
		measure(w, &w->tunnel_in, v, v->dport, false);
		learn(w, v, t->tag);
	}
}

void wire_underlay(struct wire *w, const uint8_t *p, size_t len, bool leaving)
{
	struct view outer, inner;

	if (!view_ip(&outer, p, len, false) || outer.proto != IPPROTO_GRE)
		return;
	if (outer.fragment) {
		w->outer_fragments++;
		return;
	}
	const uint8_t *g = outer.l4;
	size_t n = outer.l4_len;
	unsigned flags = n < 4 ? 0 : get16(g);
	size_t key_at = flags & 0x8000 ? 8 : 4,
	       at = key_at + (flags & 0x2000 ? 4 : 0) + (flags & 0x1000 ? 4 : 0);
	unsigned proto = n < 4 ? 0 : get16(g + 2);
	if (n < at || (flags & 0x4fff) || (proto != 0x0800 && proto != 0x86dd)) {
		w->undecodable++;
		return;
	}
	struct tunnel *t =
		tunnel_of(w, &outer, leaving, flags & 0x2000, flags & 0x2000 ? get32(g + key_at) : 0);
	if (!t) {
		w->unknown_tunnel++;
		return;
	}
	if (!view_ip(&inner, g + at, n - at, false)) {
		w->undecodable++;
		return;
	}
	pass(w, t, &inner, leaving, false);
}

void wire_inside(struct wire *w, unsigned site, const uint8_t *p, size_t len, bool to_site, bool partial)
{
	struct view v;

	if (!view_ip(&v, p, len, false))
		w->undecodable++;
	else if (!is_neighbour(&v)) /* the site's router and its hosts, among themselves */
		pass(w, &w->tunnels[site], &v, to_site, partial);
}

void wire_egress(struct wire *w, const uint8_t *p, size_t len, bool leaving)
{
	struct view v;

	if (!view_ip(&v, p, len, false))
		return;
	if (!leaving) {
		measure(w, &w->egress_in, &v, v.sport, true);
		return;
	}
	measure(w, &w->egress_out, &v, v.dport, false);
	if (w->private_mask && p[0] >> 4 == 4 && (get32(p + 12) & w->private_mask) == w->private_net) {
		w->leaked++;
		note(w, &v, 0, "left by the egress with a private source");
	}
}

static void report_volume(FILE *f, const char *name, const struct volume *v)
{
	fprintf(f, " \"%s\":{\"tcp_octets\":%" PRIu64 ",\"udp\":%" PRIu64 ",\"echo\":%" PRIu64 "},\n", name,
		v->tcp_octets, v->udp, v->echo);
}

void wire_report(const struct wire *w, FILE *f)
{
	report_volume(f, "tunnel_in", &w->tunnel_in);
	report_volume(f, "egress_out", &w->egress_out);
	report_volume(f, "egress_in", &w->egress_in);
	report_volume(f, "tunnel_out", &w->tunnel_out);
	const struct {
		const char *name;
		uint64_t n;
	} counts[] = {
		{"checked", w->checked},
		{"tag_octets", w->tag_octets},
		{"misdelivered", w->misdelivered},
		{"unsolicited", w->unsolicited},
		{"unverifiable", w->unverifiable},
		{"undecodable", w->undecodable},
		{"fragments", w->fragments},
		{"outer_fragments", w->outer_fragments},
		{"multicast", w->multicast},
		{"bad_checksum", w->bad_checksum},
		{"branch_rst", w->branch_rst},
		{"branch_unreachable", w->branch_unreachable},
		{"unknown_tunnel", w->unknown_tunnel},
		{"leaked", w->leaked},
	};
	for (size_t i = 0; i < sizeof(counts) / sizeof(*counts); i++)
		fprintf(f, " \"%s\":%" PRIu64 ",\n", counts[i].name, counts[i].n);
	fprintf(f, " \"tunnels\":[");
	for (unsigned i = 0; i < w->ntunnels; i++) {
		const struct tunnel *t = &w->tunnels[i];
		fprintf(f,
			"%s\n  {\"tag\":%" PRIu32 ",\"to\":%" PRIu64 ",\"from\":%" PRIu64
			",\"misdelivered\":%" PRIu64 ",\"unverifiable\":%" PRIu64 "}",
			i ? "," : "", t->tag, t->to_site, t->from_site, t->misdelivered, t->unverifiable);
	}
	fprintf(f, "],\n \"notes\":[");
	for (unsigned i = 0; i < w->nnotes; i++)
		fprintf(f, "%s\"%s\"", i ? ",\n  " : "", w->notes[i]);
	fprintf(f, "]");
}
