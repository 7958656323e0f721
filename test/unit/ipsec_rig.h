/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ipsec_rig.h - path_rig.h with IPsec: the real SA database and ESP on the gateway's side, and branches that have the same
 * keys on the other. A test plays the key exchange: it puts events into the mailbox.
 *
 *	p1: site P, ipsec, from anywhere      p2 (backup): site P, GRE
 *	q1: site Q, ipsec
 *	x1: site X, ipsec, tunnel mode        x2: site X2, GRE over x1
 *	y1: site Y, ipsec, transport mode     y2: site Y2, GRE over y1, key 9
 *
 * x2's ends are IPv6 addresses when rig_x2_v6 says so. All sites use the same addresses.
 *
 * What is sent to a branch is opened there at once, GRE inside is taken out, and the inner packet is among what came
 * out, as that of the tunnel that it came by.
 */
#ifndef ARRD_TEST_IPSEC_RIG_H
#define ARRD_TEST_IPSEC_RIG_H

#define RIG_MORE P1, P2, Q1, X1, X2, Y1, Y2,
#include "test/unit/path_rig.h"

#include "test/unit/ipsec_stub.h"

#include "gre/gre.h"

#define CHILDREN 64

/* A CHILD_SA: what both sides know of it. */
struct child {
	unsigned tunnel; /* P1, Q1, X1, Y1 */
	uint32_t conn;   /* its number when it was made */
	uint32_t ike;    /* unique id of its IKE_SA */
	bool initiator;  /* the gateway began the exchange */
	bool transport, esn;
	uint16_t tfc;
	const struct suite *suite;
	struct sa_end local, remote;            /* as the gateway sees them */
	const char *local_ts[2], *remote_ts[2]; /* from, to; NULL: everything of both families */
	uint8_t ts_proto;
	struct sa_limit time_s, octets, packets;
	uint32_t in_spi, out_spi; /* as the gateway sees them */
	uint8_t encr[2][64], integ[2][64];
	/* the branch's */
	struct sa send, recv;
	unsigned got; /* ESP packets, dummies among them */
};

static struct ipsec_rig {
	char dir[32]; /* state_dir */
	struct crypto_keys *keys;
	struct crypto *crypto;
	struct child child[CHILDREN];
	unsigned nchildren;
	struct child *of[TUNNELS]; /* what a branch sends by */
	uint32_t ikes;
	uint64_t seed;
	struct {
		uint8_t next;
		uint32_t inner_len; /* with TFC padding */
		const struct child *child;
	} last; /* that came to a branch */
} ir;

static bool rig_x2_v6; /* before ipsec_rig_up */

static const unsigned ipsec_tunnels[] = {P1, Q1, X1, Y1};
#define NIPSEC (sizeof(ipsec_tunnels) / sizeof(ipsec_tunnels[0]))

static void rig_more(void)
{
	static const struct {
		unsigned i;
		const char *name, *site;
		uint32_t mtu;
	} rows[] = {{P1, "p1", "P", 1438}, {P2, "p2", "P", 1476}, {Q1, "q1", "Q", 1438},
		{X1, "x1", "X", 1438}, {X2, "x2", "X2", 1414}, {Y1, "y1", "Y", 1438}, {Y2, "y2", "Y2", 1430}};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct conf_tunnel *c = &rig.ct[rows[i].i];

		rig_tunnel(rows[i].i, rows[i].name, rows[i].site, rows[i].mtu);
		if (rows[i].i == P2 || rows[i].i == X2 || rows[i].i == Y2)
			continue;
		c->type = TUNNEL_IPSEC;
		c->ike.remote_id = (char *)(uintptr_t)rows[i].name;
		c->ike.replay_window = 1024;
	}
	rig.ct[P1].remote = (struct addr){0};
	rig.ct[P1].remote_any = true;
	rig.ct[X2].over = (char *)(uintptr_t) "x1";
	rig.ct[X2].local = test_addr("192.0.2.50"); /* not the machine's own: inside, it may be any */
	if (rig_x2_v6) {
		rig.ct[X2].local = test_addr("2001:db8:50::1");
		rig.ct[X2].remote = test_addr("2001:db8:50::2");
	}
	rig.ct[Y1].ike.mode = IPSEC_TRANSPORT;
	rig.ct[Y2].over = (char *)(uintptr_t) "y1";
	rig.ct[Y2].remote = rig.ct[Y1].remote;
	rig.ct[Y2].gre_has_key = true;
	rig.ct[Y2].gre_key = 9;
}

/* ---- building and taking down ------------------------------------------------------------------------- */

static inline void ipsec_begin(void)
{
	char err[256] = "";

	assert_int_equal(ipsec_open(&rig.gw.ipsec, &rig.gw, err, sizeof(err)), 0);
	ipsec_enter(rig.gw.ipsec);
}

static inline void ipsec_end(void)
{
	ipsec_close(rig.gw.ipsec);
	rig.gw.ipsec = NULL;
	uv_run(&rig.loop, UV_RUN_NOWAIT);
	assert_int_equal(stub.opened, 0);
}

static inline int ipsec_rig_up(void **state)
{
	memset(&ir, 0, sizeof(ir));
	memset(&stub, 0, sizeof(stub));
	rig_up(state);
	snprintf(ir.dir, sizeof(ir.dir), "/tmp/arrd-unit-XXXXXX");
	assert_non_null(mkdtemp(ir.dir));
	rig.conf.gateway.state_dir = ir.dir;
	ir.seed = 4711;
	assert_int_equal(crypto_keys_new(&ir.keys, CRYPTO_OPENSSL), 0);
	assert_int_equal(crypto_new(&ir.crypto, ir.keys), 0);
	ipsec_begin();
	return 0;
}

static inline const char *peers_path(void)
{
	static char path[64];

	snprintf(path, sizeof(path), "%s/peers", ir.dir);
	return path;
}

static inline int ipsec_rig_down(void **state)
{
	ipsec_end();
	for (unsigned i = 0; i < ir.nchildren; i++) {
		crypto_key_free(ir.child[i].send.key);
		crypto_key_free(ir.child[i].recv.key);
	}
	assert_int_equal(crypto_keys_count(ir.keys), 0);
	crypto_free(ir.crypto);
	crypto_keys_free(ir.keys);
	unlink(peers_path());
	assert_int_equal(rmdir(ir.dir), 0);
	return rig_down(state);
}

/* As gateway_reload does it. next must last until the end. */
static inline void ipsec_rig_reload(struct rig_next *next)
{
	struct path_tables *tables;
	struct tunnels *t;
	char err[256] = "";

	assert_int_equal(tunnels_new(&t, &next->conf, rig.gw.tunnels), 0);
	assert_int_equal(path_prepare(rig.gw.path, t, &next->conf, &tables, err, sizeof(err)), 0);
	ipsec_leave(rig.gw.ipsec, rig.gw.tunnels, t, &next->conf);
	assert_int_equal(tunnels_commit(t, rig.gw.tunnels, rig.gw.fs), 0);
	tunnels_free(rig.gw.tunnels);
	rig.gw.tunnels = t;
	path_commit(rig.gw.path, tables);
	rig.gw.conf = &next->conf;
	ipsec_enter(rig.gw.ipsec);
}

/* ---- what the key exchange says ------------------------------------------------------------------------ */

static inline struct ike_event *event(enum ike_event_kind kind, uint32_t conn)
{
	struct ike_event *e = calloc(1, sizeof(*e));

	assert_non_null(e);
	e->kind = kind;
	e->tunnel = conn;
	return e;
}

static inline void say(struct ike_event *e)
{
	mailbox_put(stub.o.box, &e->mail);
}

/* The loop does what was said. */
static inline void heard(void)
{
	uv_run(&rig.loop, UV_RUN_NOWAIT);
}

static inline uint32_t conn_of(unsigned tunnel)
{
	return rig_at(tunnel)->ipsec->conn;
}

/* A CHILD_SA to be made, of the tunnel's newest IKE_SA, begun by the peer. */
static inline struct child *child_begin(unsigned tunnel)
{
	struct child *c = &ir.child[ir.nchildren++];

	assert_true(ir.nchildren < CHILDREN);
	*c = (struct child){.tunnel = tunnel,
		.conn = conn_of(tunnel),
		.ike = ir.of[tunnel] ? ir.of[tunnel]->ike : ++ir.ikes,
		.transport = tunnel == Y1,
		.suite = &suites[SUITE_AES_GCM_256],
		.local = {rig.ct[tunnel].local, IKE_PORT_NATT},
		.remote = {addr_from4(htonl(0xcb007101 + tunnel)), IKE_PORT_NATT}};
	return c;
}

static void branch_sa(struct sa *sa, const struct child *c, bool send)
{
	unsigned k = send ? 0 : 1;

	*sa = (struct sa){.spi = send ? c->in_spi : c->out_spi,
		.inbound = !send,
		.transport = c->transport,
		.esn = c->esn,
		.suite = c->suite};
	replay_init(&sa->replay, 1024, c->esn);
	assert_int_equal(
		crypto_key_new(&sa->key, ir.keys, c->suite, c->encr[k],
			(uint32_t)c->suite->key_len + c->suite->salt_len, c->integ[k], c->suite->integ_len),
		0);
}

/* Reserves the SPI and works out keys; from here on the branch could send. */
static inline struct child *child_keyed(struct child *c)
{
	assert_int_equal(sad_reserve(stub.o.sad, c->conn, &c->in_spi), 0);
	c->out_spi = 0x51000000u + ir.nchildren;
	for (unsigned i = 0; i < 2; i++) {
		for (unsigned k = 0; k < sizeof(c->encr[0]); k++) {
			c->encr[i][k] = (uint8_t)rnd(&ir.seed);
			c->integ[i][k] = (uint8_t)rnd(&ir.seed);
		}
	}
	branch_sa(&c->send, c, true);
	branch_sa(&c->recv, c, false);
	return c;
}

static uint16_t selectors(struct sa_selector **out, const char *const ts[2], uint8_t proto)
{
	static const char *const all[2][2] = {
		{"0.0.0.0", "255.255.255.255"}, {"::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"}};
	uint16_t n = ts[0] ? 1 : 2;

	*out = calloc(n, sizeof(**out));
	assert_non_null(*out);
	for (uint16_t i = 0; i < n; i++)
		(*out)[i] = (struct sa_selector){.from = test_addr(ts[0] ? ts[0] : all[i][0]),
			.to = test_addr(ts[0] ? ts[1] : all[i][1]),
			.port_to = UINT16_MAX,
			.proto = proto};
	return n;
}

/* The gateway's SA, as the key exchange makes it. */
static inline struct sa *child_sa(const struct child *c, bool inbound)
{
	struct sa *sa = calloc(1, sizeof(*sa));
	unsigned k = inbound ? 0 : 1;

	assert_non_null(sa);
	*sa = (struct sa){.spi = inbound ? c->in_spi : c->out_spi,
		.tunnel = c->conn,
		.inbound = inbound,
		.initiator = c->initiator,
		.esn = c->esn,
		.transport = c->transport,
		.tfc = c->tfc,
		.suite = c->suite,
		.ike = c->ike,
		.time_s = c->time_s,
		.octets = c->octets,
		.packets = c->packets,
		.local = c->local,
		.remote = c->remote,
		.use = sa_use_new()};
	sa->nlocal_ts = selectors(&sa->local_ts, c->local_ts, c->ts_proto);
	sa->nremote_ts = selectors(&sa->remote_ts, c->remote_ts, c->ts_proto);
	if (inbound)
		replay_init(&sa->replay, 1024, c->esn);
	assert_int_equal(
		crypto_key_new(&sa->key, stub.o.keys, c->suite, c->encr[k],
			(uint32_t)c->suite->key_len + c->suite->salt_len, c->integ[k], c->suite->integ_len),
		0);
	return sa;
}

static inline void say_add(struct child *c, bool inbound)
{
	struct ike_event *e = event(IKE_EVENT_SA_ADD, c->conn);

	e->sa = child_sa(c, inbound);
	say(e);
	ir.of[c->tunnel] = c;
}

static inline void say_delete(const struct child *c, bool inbound)
{
	struct ike_event *e = event(IKE_EVENT_SA_DELETE, c->conn);

	e->inbound = inbound;
	e->spi = inbound ? c->in_spi : c->out_spi;
	say(e);
}

static inline void say_moved(struct child *c, const struct sa_end *remote)
{
	c->remote = *remote;
	for (unsigned i = 0; i < 2; i++) {
		struct ike_event *e = event(IKE_EVENT_SA_UPDATE, c->conn);

		e->inbound = i;
		e->spi = i ? c->in_spi : c->out_spi;
		e->local = c->local;
		e->remote = c->remote;
		say(e);
	}
}

static inline void say_status(const struct child *c, enum ike_state state, uint32_t ike, uint32_t old)
{
	struct ike_event *e = event(IKE_EVENT_STATUS, c->conn);

	e->status = calloc(1, sizeof(*e->status));
	assert_non_null(e->status);
	e->status->state = state;
	e->status->ike = ike;
	e->status->local = c->local;
	e->status->remote = c->remote;
	snprintf(e->status->remote_id, sizeof(e->status->remote_id), "%s", rig.ct[c->tunnel].name);
	e->old = old;
	say(e);
}

/* All of it, as the first exchange of an IKE_SA says it. */
static inline struct child *child_up(struct child *c)
{
	child_keyed(c);
	say_add(c, true);
	say_add(c, false);
	say_status(c, IKE_STATE_UP, c->ike, 0);
	heard();
	return c;
}

static inline void all_up(void)
{
	for (size_t i = 0; i < NIPSEC; i++)
		child_up(child_begin(ipsec_tunnels[i]));
}

/* Whether the file of peers, as it lies there now, has the tunnel, and at a place that begins so. */
static inline bool peers_file_has(const char *name, const char *where)
{
	char have[256], tunnel[64], at[128];
	FILE *f = fopen(peers_path(), "r");
	bool found = false;

	while (f && fgets(have, sizeof(have), f)) {
		assert_int_equal(sscanf(have, "%63s %*x %127[^\n]", tunnel, at), 2);
		found |= strcmp(tunnel, name) == 0 && strncmp(at, where, strlen(where)) == 0;
	}
	if (f)
		fclose(f);
	return found;
}

/* The same a tenth of a second later, which is when it has been written at the latest. */
static inline bool peers_has(const char *name, const char *where)
{
	rig.now += 100;
	ipsec_tick(rig.gw.ipsec);
	return peers_file_has(name, where);
}

/* ---- the branches --------------------------------------------------------------------------------------- */

/* What came to a branch in ESP is a packet of this tunnel's; data and len: the inner packet in it. */
static int inside_gre(const struct child *c, uint8_t **data, uint32_t *len, struct out *o)
{
	unsigned tunnel = c->tunnel == X1 ? X2 : Y2;
	const struct conf_tunnel *ct = &rig.ct[tunnel];
	struct gre_hdr h;

	if (!c->transport) {
		struct pkt p = {.data = *data, .len = *len};

		assert_int_equal(pkt_parse(&p), DROP_NONE);
		if (p.t.proto != IPPROTO_GRE || !addr_eq(&p.t.src, &ct->local) ||
			!addr_eq(&p.t.dst, &ct->remote))
			return (int)c->tunnel;
		if (p.ver == 4)
			assert_int_equal(slow_sum(0, p.data, 20), 0xffff);
		assert_true(p.df);
		o->gre_tos = p.tos;
		o->tx.ttl = p.ttl;
		*data += p.l4;
		*len = p.len - p.l4;
	}
	assert_int_equal(gre_decode(*data, *len, &h), DROP_NONE);
	o->tx.hdr = h;
	assert_int_equal(h.has_key, ct->gre_has_key);
	assert_int_equal(h.key, ct->gre_key);
	*data += h.len;
	*len -= h.len;
	return (int)tunnel;
}

static void branch_got(const struct stub_sent *s, const uint8_t *data, uint32_t len)
{
	struct esp_in in = {.data = malloc(len), .len = len};
	struct child *c = NULL;
	struct out o = {0};
	uint8_t *inner;
	uint32_t n;

	memcpy(in.data, data, len);
	for (unsigned i = 0; i < ir.nchildren; i++)
		if (ir.child[i].out_spi == esp_spi(data, len))
			c = &ir.child[i];
	assert_non_null(c);
	assert_true(addr_eq(&s->tx.remote.a, &c->remote.a) && s->tx.remote.port == c->remote.port);
	assert_true(addr_eq(&s->tx.local.a, &c->local.a));
	in.sa = &c->recv;
	esp_open(ir.crypto, &in, 1);
	assert_int_equal(in.drop, DROP_NONE); /* a number that was used twice would be a replay */
	c->got++;
	ir.last.next = in.next;
	ir.last.inner_len = in.inner_len;
	ir.last.child = c;
	inner = in.inner;
	n = in.inner_len;
	o.to = (int)c->tunnel;
	if (c->tunnel == X1 || c->tunnel == Y1)
		o.to = inside_gre(c, &inner, &n, &o);
	if (n && inner[0] >> 4 == 4 && be16_get(inner + 2) < n) /* TFC padding */
		n = be16_get(inner + 2);
	{
		struct out *k = keep(&(struct iovec){inner, n}, 1);

		k->to = o.to;
		k->tx = o.tx;
		k->gre_tos = o.gre_tos;
		k->tx.tos = s->tx.tos;
		k->tx.df = s->tx.df;
	}
	free(in.data);
}

/* Puts what a branch's ESP carries into the next batch. pad_to: TFC. Returns where it waits, sealed. */
static inline struct ipsec_rx *put_esp(
	struct child *c, uint8_t next, const uint8_t *data, uint32_t len, uint32_t pad_to)
{
	static uint8_t b[PKT_MAX + ESP_OVERHEAD_MAX];
	struct esp_out out = {.sa = &c->send, .data = b, .inner_len = len, .next = next, .pad_to = pad_to};

	memcpy(b + esp_inner_at(&c->send), data, len);
	esp_seal(ir.crypto, &out, 1);
	assert_int_equal(out.drop, DROP_NONE);
	return stub_put(IPSEC_RX_ESP, &c->local, &c->remote, b, out.len);
}

/* A GRE packet of a branch, with the header that goes before it in tunnel mode. Returns its length. */
static inline uint32_t gre_make(uint8_t *b, const struct conf_tunnel *c, bool ip, const struct gre_hdr *h,
	const uint8_t *data, uint32_t len)
{
	struct iovec iov = {(void *)(uintptr_t)data, len};
	uint8_t g[GRE_HDR_MAX];
	uint32_t n = gre_encode(g, h, &iov, 1);
	struct spec s = packet_spec(addr_is4(&c->local) ? 4 : 6, IPPROTO_GRE);
	static uint8_t body[PKT_MAX];

	memcpy(body, g, n);
	memcpy(body + n, data, len);
	if (!ip) {
		memcpy(b, body, n + len);
		return n + len;
	}
	s.src = c->remote;
	s.dst = c->local;
	s.body = body;
	s.payload_len = n + len;
	return packet_make(b, &s);
}

static inline struct gre_hdr gre_hdr_of(const struct conf_tunnel *c, const uint8_t *data)
{
	return (struct gre_hdr){.proto = data[0] >> 4 == 4 ? GRE_PROTO_IPV4 : GRE_PROTO_IPV6,
		.has_key = c->gre_has_key,
		.key = c->gre_key};
}

/* Puts an inner packet of a branch into the next batch, by whatever tunnel. */
static inline struct ipsec_rx *put_ipsec(unsigned from, const uint8_t *data, uint32_t len)
{
	static uint8_t b[PKT_MAX];
	uint8_t v = data[0] >> 4 == 4 ? ESP_NEXT_IPV4 : ESP_NEXT_IPV6;
	struct gre_hdr h = gre_hdr_of(&rig.ct[from], data);

	switch (from) {
	case X2:
		len = gre_make(b, &rig.ct[X2], true, &h, data, len);
		return put_esp(ir.of[X1], rig_x2_v6 ? ESP_NEXT_IPV6 : ESP_NEXT_IPV4, b, len, 0);
	case Y2:
		len = gre_make(b, &rig.ct[Y2], !ir.of[Y1]->transport, &h, data, len);
		return put_esp(ir.of[Y1], ir.of[Y1]->transport ? IPPROTO_GRE : ESP_NEXT_IPV4, b, len, 0);
	default:
		return put_esp(ir.of[from], v, data, len, 0);
	}
}

/* What waits at all of IPsec's sockets is received. */
static inline void run_ipsec(void)
{
	for (unsigned p = 0; p < IPSEC_PORTS; p++)
		for (unsigned f = 0; f < 2; f++)
			while (rx_ipsec(rig.gw.ipsec, rig.gw.ipsec->sock[p][f]) > 0)
				;
}

static inline bool is_plain_gre(unsigned tunnel)
{
	return tunnel <= C1 || tunnel == P2;
}

static inline void from_any(unsigned from, const struct spec *s)
{
	static uint8_t b[PKT_MAX];
	uint32_t len = packet_make(b, s);

	if (is_plain_gre(from)) {
		raw_from_branch(from, b, len);
		return;
	}
	put_ipsec(from, b, len);
	run_ipsec();
}

/* The flow of a branch, by which the gateway's choice is asked for. */
static inline struct spec begin_flow(unsigned from)
{
	struct spec s = kind_spec(UDP4);
	struct pkt p;

	rig_forget();
	from_any(from, &s);
	p = only_out(TO_TUN);
	rig_forget();
	return answer_to(&p);
}

/* The branch's end of the SA that a packet of the flow goes by; NULL: it does not go. */
static inline const struct child *sends_by(const struct spec *back)
{
	ir.last.child = NULL;
	rig_forget();
	from_egress(back);
	return ir.last.child;
}

#define IPSEC_CASE(f) cmocka_unit_test_setup_teardown(f, ipsec_rig_up, ipsec_rig_down)

#endif
