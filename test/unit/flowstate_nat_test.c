/* SPDX-License-Identifier: GPL-2.0-or-later */
/* flowstate_nat_test.c - the source address and port that a flow gets by the NAT of its egress. */
#include "test/unit/flowstate_help.h"

static struct addr_range range(const char *first, const char *last)
{
	return (struct addr_range){ip(first), ip(last)};
}

static void nat(struct world *w, enum fs_nat kind, const char *first, const char *last)
{
	w->cfg.nat = kind;
	if (first)
		w->cfg.nat_pool[strchr(first, ':') != NULL] = range(first, last);
	fs_reconfigure(w->fs, &w->cfg);
}

static const struct {
	uint8_t proto;
	uint16_t sport, dport;
	bool has_ports;
} protocols[] = {{IPPROTO_TCP, 4000, 443, true}, {IPPROTO_UDP, 4000, 53, true}, {IPPROTO_SCTP, 4000, 9, true},
	{IPPROTO_DCCP, 4000, 9, true}, {IPPROTO_UDPLITE, 4000, 9, true}, {IPPROTO_ICMP, 77, 0, true},
	{IPPROTO_ICMPV6, 77, 0, true}, {IPPROTO_GRE, 0, 0, false}, {IPPROTO_ESP, 0, 0, false},
	{IPPROTO_AH, 0, 0, false}, {89, 0, 0, false}, {4, 0, 0, false}, {255, 0, 0, false}, {0, 0, 0, false}};

/* Every protocol, both families: two sites with the same tuple at once get two reply tuples on one pool of two, both of
 * its addresses; each reply leads to its own site. */
static void test_pool_every_protocol(void **state)
{
	static const char *const src[2] = {"10.0.0.5", "fd11::5"}, *const dst[2] = {
									   "192.0.2.9", "2001:db8::9"};
	struct world w;
	(void)state;

	world_new(&w, NULL, 1024);
	nat(&w, FS_NAT_POOL, "198.51.100.8", "198.51.100.9");
	nat(&w, FS_NAT_POOL, "2001:db8:5::8", "2001:db8:5::9");
	for (size_t i = 0; i < sizeof(protocols) / sizeof(protocols[0]); i++) {
		for (int v6 = 0; v6 < 2; v6++) {
			struct tuple t = tup(
				protocols[i].proto, src[v6], protocols[i].sport, dst[v6], protocols[i].dport);
			uint32_t a = begin(&w, w.site_a, w.a1, t, NULL),
				 b = begin(&w, w.site_b, w.b1, t, NULL);
			struct tuple ra = half(&w, a, FS_REPLY), rb = half(&w, b, FS_REPLY);

			assert_int_not_equal(memcmp(&ra, &rb, sizeof(ra)), 0);
			assert_true(addr_range_has(&w.cfg.nat_pool[v6], &ra.dst));
			assert_true(addr_range_has(&w.cfg.nat_pool[v6], &rb.dst));
			assert_int_equal(find(&w, w.egress, ra).flow, a);
			assert_int_equal(find(&w, w.egress, rb).flow, b);
			assert_true(fs_translated(w.fs, a) && fs_translated(w.fs, b));
			if (!protocols[i].has_ports)
				assert_false(addr_eq(&ra.dst, &rb.dst));
			else /* the first keeps what the host chose */
				assert_int_equal(ntohs(ra.dport), protocols[i].sport);
		}
	}
	assert_int_equal(fs_site_translated(w.fs, w.site_a), 2 * sizeof(protocols) / sizeof(protocols[0]));
	world_close(&w);
}

/* All hosts of a site have one address, as long as it has a port free. */
static void test_pool_pairs_a_site(void **state)
{
	struct world w;
	struct addr one = {};
	(void)state;

	world_new(&w, NULL, 4096);
	nat(&w, FS_NAT_POOL, "198.51.100.0", "198.51.100.255");
	for (unsigned i = 0; i < 1000; i++) {
		char src[16];
		snprintf(src, sizeof(src), "10.0.%u.%u", i / 200, i % 200 + 1);
		uint32_t f = begin(&w, w.site_a, w.a1, tup(IPPROTO_TCP, src, 4000, "192.0.2.9", 443), NULL);
		struct tuple r = half(&w, f, FS_REPLY);
		if (i)
			assert_true(addr_eq(&one, &r.dst));
		one = r.dst;
	}
	world_close(&w);
}

/* One address, one destination: a site gets its share of the ports and no more; others have the rest, and a family without
 * addresses nothing. What ends makes room. */
static void test_pool_share(void **state)
{
	struct world w;
	enum drop d = DROP_NONE;
	uint32_t n = 0, flow = 0;
	(void)state;

	world_new(&w, NULL, 200000);
	w.cfg.nat_share = 50;
	w.cfg.timeout_s[FS_QUARANTINE] = 0;
	nat(&w, FS_NAT_POOL, "198.51.100.8", "198.51.100.8");
	for (uint32_t host = 1; d == DROP_NONE; host++) {
		for (uint32_t port = 1; port < 65536 && d == DROP_NONE; port += 13) {
			struct tuple t = tup(IPPROTO_UDP, "10.0.0.0", (uint16_t)port, "192.0.2.9", 53);
			t.src.b[15] = (uint8_t)host;
			uint32_t f = begin(&w, w.site_a, w.a1, t, &d);
			if (d == DROP_NONE) {
				flow = f;
				n++;
			}
		}
	}
	assert_int_equal(d, DROP_NAT_SITE_LIMIT);
	assert_int_equal(n, 64512 / 2);
	assert_int_equal(fs_site_translated(w.fs, w.site_a), n);
	for (uint16_t port = 2000; port < 3000; port++)
		begin(&w, w.site_b, w.b1, tup(IPPROTO_UDP, "10.0.0.1", port, "192.0.2.9", 53), NULL);
	/* another destination is another matter */
	begin(&w, w.site_a, w.a1, tup(IPPROTO_UDP, "10.0.0.1", 1, "192.0.2.10", 53), NULL);
	begin(&w, w.site_a, w.a1, tup(IPPROTO_TCP, "10.0.0.1", 1, "192.0.2.9", 53), NULL);
	fs_end(w.fs, flow, w.now);
	begin(&w, w.site_a, w.a1, tup(IPPROTO_UDP, "10.0.0.250", 999, "192.0.2.9", 53), NULL);
	begin(&w, w.site_a, w.a1, tup(IPPROTO_UDP, "fd11::1", 1, "2001:db8::9", 53), &d);
	assert_int_equal(d, DROP_NAT_FAMILY);
	world_close(&w);
}

/* Ports in quarantine are closed to others, so they count: a site that begins and ends flows all the time has no more than
 * its share either, and goes on with its own. */
static void test_pool_share_of_quarantine(void **state)
{
	struct world w;
	unsigned own = 0;
	(void)state;

	world_new(&w, NULL, 200000);
	w.cfg.nat_share = 50;
	nat(&w, FS_NAT_POOL, "198.51.100.8", "198.51.100.8");
	for (unsigned i = 0; i < 100000; i++) {
		enum drop d;
		struct tuple t = tup(IPPROTO_UDP, "10.0.0.0", (uint16_t)(1024 + i % 60000), "192.0.2.9", 53);
		t.src.b[15] = (uint8_t)(1 + i / 60000);
		uint32_t f = begin(&w, w.site_a, w.a1, t, &d);
		assert_true(d == DROP_NONE || d == DROP_NAT_SITE_LIMIT);
		if (d == DROP_NONE) {
			own += i >= 64512 / 2;
			fs_end(w.fs, f, w.now);
		}
	}
	assert_true(own > 60000);
	for (unsigned i = 0; i < 8000; i++)
		begin(&w, w.site_b, w.b1, tup(IPPROTO_UDP, "10.0.0.1", (uint16_t)(1024 + i), "192.0.2.9", 53),
			NULL);
	world_close(&w);
}

/* Without ports, a site gets its share of the addresses toward one destination. */
static void test_pool_portless_share(void **state)
{
	struct world w;
	enum drop d = DROP_NONE;
	unsigned n = 0;
	(void)state;

	world_new(&w, NULL, 4096);
	w.cfg.nat_share = 50;
	nat(&w, FS_NAT_POOL, "198.51.100.8", "198.51.100.15");
	for (unsigned host = 1; host < 20; host++) {
		struct tuple t = tup(IPPROTO_ESP, "10.0.0.0", 0, "192.0.2.9", 0);
		t.src.b[15] = (uint8_t)host;
		begin(&w, w.site_a, w.a1, t, &d);
		n += d == DROP_NONE;
	}
	assert_int_equal(d, DROP_NAT_SITE_LIMIT);
	assert_int_equal(n, 4);
	/* and all others together the rest */
	for (n = 0; n < 4; n++)
		begin(&w, w.site_b, w.b1,
			tup(IPPROTO_ESP, (const char *[]){"10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"}[n],
				0, "192.0.2.9", 0),
			NULL);
	world_close(&w);
}

/* Also when those that it has lie behind one that was another site's, and is free by now. */
static void test_pool_portless_share_behind(void **state)
{
	enum drop d;
	(void)state;

	for (unsigned i = 0; i < 16; i++) { /* in one half of them both sites begin with the same address */
		struct tuple t = tup(IPPROTO_ESP, "10.0.0.1", 0, "192.0.2.9", 0);
		struct world w;
		world_new(&w, NULL, 64);
		w.cfg.nat_share = 50;
		w.cfg.timeout_s[FS_QUARANTINE] = 0;
		nat(&w, FS_NAT_POOL, "198.51.100.8", "198.51.100.9");
		uint32_t b = begin(&w, w.site_b, w.b1, t, NULL);
		begin(&w, w.site_a, w.a1, t, NULL);
		fs_end(w.fs, b, w.now);
		t.src.b[15]++;
		begin(&w, w.site_a, w.a1, t, &d);
		assert_int_equal(d, DROP_NAT_SITE_LIMIT);
		begin(&w, w.site_b, w.b1, t, NULL);
		world_close(&w);
	}
}

/* What the kernel's one address cannot tell apart is refused by name: the second flow without ports to a destination, of
 * whichever site, and more flows to one than it finds ports for. */
static void test_kernel(void **state)
{
	struct world w;
	enum drop d = DROP_NONE;
	uint32_t n = 0;
	(void)state;

	world_new(&w, NULL, 200000);
	nat(&w, FS_NAT_KERNEL, NULL, NULL);
	for (size_t i = 0; i < sizeof(protocols) / sizeof(protocols[0]); i++) {
		struct tuple t = tup(
			protocols[i].proto, "10.0.0.5", protocols[i].sport, "192.0.2.9", protocols[i].dport);
		begin(&w, w.site_a, w.a1, t, NULL);
		begin(&w, w.site_b, w.b1, t, &d);
		assert_int_equal(d, protocols[i].has_ports ? DROP_NONE : DROP_NAT_EXHAUSTED);
		t.src = ip("10.0.0.6");
		begin(&w, w.site_a, w.a1, t, &d);
		assert_int_equal(d, protocols[i].has_ports ? DROP_NONE : DROP_NAT_EXHAUSTED);
		t.dst = ip("192.0.2.10");
		begin(&w, w.site_b, w.b1, t, NULL);
	}
	for (uint32_t i = 0; i < 70000; i++) {
		struct tuple t = tup(IPPROTO_UDP, "10.1.0.0", (uint16_t)(1024 + i % 60000), "192.0.2.77", 53);
		t.src.b[15] = (uint8_t)(1 + i / 60000);
		begin(&w, i % 2 ? w.site_a : w.site_b, i % 2 ? w.a1 : w.b1, t, &d);
		n += d == DROP_NONE;
	}
	assert_int_equal(d, DROP_NAT_EXHAUSTED);
	assert_int_equal(n, 64512 - 64512 / 16);
	world_close(&w);
}

static enum drop from_outside(struct world *w, struct tuple t, fs_id site, fs_id via, uint32_t *flow)
{
	struct fs_packet pk = packet(w->egress, w->egress, t, FLAG_SYN);
	struct fs_hit hit;
	enum drop d = fs_begin(w->fs, &pk, site, via, true, 0, w->now, &hit);

	if (flow)
		*flow = hit.flow;
	return d;
}

/* Whoever answers sees the kernel's one address, and tells flows apart by their ports alone: so no two have the same, of
 * whichever hosts, and one that a site gave up is closed to all hosts of others, also when its record had to make room. */
static void test_kernel_ports(void **state)
{
	static const char *const src[2] = {"10.0.0.5", "fd11::5"}, *const other[2] = {"10.9.9.9", "fd99::9"},
				 *const dst[2] = {"192.0.2.9", "2001:db8::9"};
	(void)state;

	for (int v6 = 0; v6 < 2; v6++) {
		for (int squeezed = 0; squeezed < 2; squeezed++) {
			struct world w;
			world_new(&w, NULL, 64);
			nat(&w, FS_NAT_KERNEL, NULL, NULL);
			struct tuple t = tup(IPPROTO_UDP, src[v6], 4000, dst[v6], 53),
				     o = tup(IPPROTO_UDP, other[v6], 4000, dst[v6], 53);
			uint32_t a = begin(&w, w.site_a, w.a1, t, NULL),
				 a2 = begin(&w, w.site_a, w.a1, o, NULL);
			struct tuple ra = half(&w, a, FS_REPLY), ra2 = half(&w, a2, FS_REPLY);
			assert_false(fs_translated(w.fs, a));
			assert_true(addr_eq(&ra2.dst, &o.src) && ra2.dport != htons(4000));
			assert_int_equal(find(&w, w.egress, ra).flow, a);
			assert_int_equal(find(&w, w.egress, ra2).flow, a2);
			ra.dst = o.src; /* nobody's, though the port is a's */
			assert_int_equal(find(&w, w.egress, ra).flow, FS_NONE);
			fs_end(w.fs, a, w.now);
			for (unsigned k = 0; squeezed && k < 500; k++) {
				struct tuple f = tup(IPPROTO_UDP, src[v6], (uint16_t)(5000 + k), dst[v6], 54);
				begin(&w, w.site_a, w.a1, f, NULL);
				w.now += 50;
			}
			assert_int_equal(head_of(w.fs, a)->state == FS_QUARANTINE, !squeezed);
			sleep_s(&w, 11);
			ra.dst = t.src;
			assert_int_equal(from_outside(&w, ra, w.site_b, w.b1, NULL), DROP_TUPLE_COLLISION);
			uint32_t b = begin(&w, w.site_b, w.b1, o, NULL);
			assert_int_not_equal(half(&w, b, FS_REPLY).dport, htons(4000));
			o.src.b[15]++;
			uint32_t own = begin(&w, w.site_a, w.a1, o, NULL);
			if (!squeezed)
				assert_int_equal(half(&w, own, FS_REPLY).dport, htons(4000));
			world_close(&w);
		}
	}
}

/* Ports that the kernel's masquerade would not keep are not given to it. */
static void test_kernel_low_ports(void **state)
{
	static const struct {
		uint8_t proto;
		uint16_t port;
		bool stays;
	} rows[] = {{IPPROTO_UDP, 123, false}, {IPPROTO_TCP, 1023, false}, {IPPROTO_UDP, 500, false},
		{IPPROTO_UDP, 4500, false}, {IPPROTO_SCTP, 0, false}, {IPPROTO_TCP, 4500, true},
		{IPPROTO_TCP, 1024, true}, {IPPROTO_ICMP, 7, true}};
	struct world w;
	(void)state;

	world_new(&w, NULL, 64);
	nat(&w, FS_NAT_KERNEL, NULL, NULL);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct tuple t = tup(rows[i].proto, "10.0.0.5", rows[i].port, "192.0.2.9",
			rows[i].proto == IPPROTO_ICMP ? 0 : 9);
		uint32_t f = begin(&w, w.site_a, w.a1, t, NULL);
		struct tuple r = half(&w, f, FS_REPLY);
		assert_int_equal(ntohs(r.dport) == rows[i].port, rows[i].stays);
		if (!rows[i].stays)
			assert_true(ntohs(r.dport) >= 1024);
	}
	world_close(&w);
}

/* What begins outside and what answers a branch are told apart by the whole tuple; but what may be a late answer to one site's
 * host begins nothing with another site. */
static void test_kernel_both_ways(void **state)
{
	struct world w;
	uint32_t a, in_flow, f;
	(void)state;

	world_new(&w, NULL, 64);
	nat(&w, FS_NAT_KERNEL, NULL, NULL);
	struct tuple in = tup(IPPROTO_UDP, "192.0.2.9", 53, "10.0.0.6", 4000),
		     out = tup(IPPROTO_UDP, "10.0.0.5", 4000, "192.0.2.9", 53);
	assert_int_equal(from_outside(&w, in, w.site_a, w.a1, NULL), DROP_TUPLE_COLLISION); /* it settles */
	sleep_s(&w, 11);
	a = begin(&w, w.site_a, w.a1, out, NULL);
	assert_int_equal(from_outside(&w, in, w.site_b, w.b1, NULL), DROP_TUPLE_COLLISION);
	assert_int_equal(from_outside(&w, in, w.site_a, w.a1, &in_flow), DROP_NONE);
	assert_int_equal(find(&w, w.egress, tuple_turned(&out)).flow, a);
	assert_int_equal(find(&w, w.egress, in).flow, in_flow);
	/* Its answer is one; that port is not to be had by the same host of others. */
	out.src = ip("10.0.0.6");
	assert_int_equal(begin(&w, w.site_a, w.a1, out, NULL), in_flow);
	f = begin(&w, w.site_b, w.b1, out, NULL);
	assert_int_not_equal(half(&w, f, FS_REPLY).dport, htons(4000));
	assert_int_equal(from_outside(&w, half(&w, a, FS_REPLY), w.site_b, w.b1, &f), DROP_NONE);
	assert_int_equal(f, a);
	world_close(&w);
}

/* Sites that ask one server without end use the ports again that they have in quarantine, and leave some to others. */
static void test_kernel_resolver(void **state)
{
	struct world w;
	unsigned got = 0;
	(void)state;

	world_new(&w, NULL, 400000);
	w.cfg.nat_share = 50;
	w.cfg.timeout_s[FS_UDP_ONE_WAY] = 120;
	nat(&w, FS_NAT_KERNEL, NULL, NULL);
	for (unsigned k = 0; k < 600; k++) {
		for (unsigned i = 0; i < 400; i++) {
			struct tuple t = tup(IPPROTO_UDP, "10.0.0.5",
				(uint16_t)(1024 + (k * 7919 + i * 31) % 64000), "192.0.2.9", 53);
			enum drop d;
			begin(&w, i % 2 ? w.site_a : w.site_b, i % 2 ? w.a1 : w.b1, t, &d);
		}
		sleep_s(&w, 1);
	}
	fs_id c = fs_bind(w.fs, FS_SITE, "c", FS_ID_NONE, 0), c1 = fs_bind(w.fs, FS_TUNNEL, "c1", c, 14);
	for (unsigned i = 0; i < 1000; i++) {
		enum drop d;
		begin(&w, c, c1, tup(IPPROTO_UDP, "10.0.0.5", (uint16_t)(2000 + i * 11), "192.0.2.9", 53),
			&d);
		got += d == DROP_NONE;
	}
	assert_int_equal(got, 1000);
	world_close(&w);
}

static void count_ends(void *arg, uint32_t flow, bool at_once)
{
	(void)flow;
	*(unsigned *)arg += at_once;
}

/* Of an earlier run's flow the kernel may still have its connection: it is told before the port is another host's. */
static void test_kernel_port_of_before(void **state)
{
	struct tuple t = tup(IPPROTO_UDP, "10.0.0.5", 4000, "192.0.2.9", 53);
	unsigned told = 0;
	struct world w;
	char path[64];
	(void)state;

	snprintf(path, sizeof(path), "/dev/shm/arrd-nat-%d", getpid());
	world_new(&w, path, 64);
	nat(&w, FS_NAT_KERNEL, NULL, NULL);
	fs_end(w.fs, begin(&w, w.site_a, w.a1, t, NULL), w.now);
	world_close(&w);
	world_open(&w);
	bind_all(&w);
	fs_unbind_rest(w.fs);
	fs_on_end(w.fs, count_ends, &told);
	t.src = ip("10.0.0.6");
	assert_false(fs_translated(w.fs, begin(&w, w.site_a, w.a1, t, NULL)));
	assert_int_equal(told, 1);
	world_close(&w);
	unlink(path);
}

/* More flows than there is room for now, some of which began outside. */
static void test_smaller(void **state)
{
	struct world w;
	char path[64];
	(void)state;

	snprintf(path, sizeof(path), "/dev/shm/arrd-nat-%d", getpid());
	world_new(&w, path, 512);
	for (uint16_t i = 0; i < 200; i++)
		assert_int_equal(from_outside(&w, tup(IPPROTO_UDP, "192.0.2.9", i, "10.0.0.5", 22), w.site_a,
					 w.a1, NULL),
			DROP_NONE);
	world_close(&w);
	w.cfg.max = 100;
	world_open(&w);
	bind_all(&w);
	fs_unbind_rest(w.fs);
	assert_int_equal(w.fs->from_outside, 200);
	world_close(&w);
	unlink(path);
}

/* To masquerading and back: all flows end, and what a site had stays closed to others when it is masked again. */
static void test_kernel_and_back(void **state)
{
	const struct tuple t = tup(IPPROTO_UDP, "10.0.0.5", 4000, "192.0.2.9", 53),
			   o = tup(IPPROTO_UDP, "10.0.0.6", 4000, "192.0.2.9", 53);
	char path[64];
	(void)state;

	snprintf(path, sizeof(path), "/dev/shm/arrd-nat-%d", getpid());
	for (int restarts = 0; restarts < 2; restarts++) {
		struct world w;
		world_new(&w, path, 64);
		for (int k = 0; k < 6; k++) {
			w.cfg.nat = k % 2 ? FS_NAT_KERNEL : FS_NAT_NONE;
			if (restarts) {
				world_close(&w);
				world_open(&w);
				bind_all(&w);
				fs_unbind_rest(w.fs);
			} else {
				fs_reconfigure(w.fs, &w.cfg);
			}
			check(&w);
			assert_int_equal(find(&w, w.site_a, t).flow, FS_NONE);
			assert_int_equal(find(&w, w.site_b, o).flow, FS_NONE);
			uint32_t f = begin(&w, w.site_b, w.b1, o, NULL);
			assert_int_equal(fs_translated(w.fs, f), k > 0); /* the filters know no site */
			f = begin(&w, w.site_a, w.a1, t, NULL);
			if (k % 2)
				assert_int_not_equal(half(&w, f, FS_REPLY).dport, htons(4000));
			check(&w);
		}
		world_close(&w);
	}
	unlink(path);
}

/* Another NAT: flows that still have an address of it stay, the others end; over a restart, too. */
static void test_change(void **state)
{
	struct world w;
	const struct tuple t = tup(IPPROTO_UDP, "10.0.0.5", 4000, "192.0.2.9", 53),
			   t6 = tup(IPPROTO_UDP, "fd11::5", 4000, "2001:db8::9", 53);
	char path[64];
	(void)state;

	snprintf(path, sizeof(path), "/dev/shm/arrd-nat-%d", getpid());
	world_new(&w, path, 4096);
	nat(&w, FS_NAT_POOL, "198.51.100.8", "198.51.100.8");
	nat(&w, FS_NAT_POOL, "2001:db8:5::8", "2001:db8:5::8");
	uint32_t f4 = begin(&w, w.site_a, w.a1, t, NULL), f6 = begin(&w, w.site_a, w.a1, t6, NULL);
	nat(&w, FS_NAT_POOL, "198.51.100.8", "198.51.100.20");
	nat(&w, FS_NAT_POOL, "2001:db8:5::9", "2001:db8:5::9");
	assert_int_equal(find(&w, w.site_a, t).flow, f4);
	assert_int_equal(find(&w, w.site_a, t6).flow, FS_NONE);
	(void)f6;
	check(&w);
	world_close(&w);
	w.cfg.nat = FS_NAT_KERNEL;
	world_open(&w);
	bind_all(&w);
	fs_unbind_rest(w.fs);
	assert_int_equal(w.rep.flows, 1);
	assert_int_equal(find(&w, w.site_a, t).flow, FS_NONE);
	/* untranslated flows end when a pool comes */
	begin(&w, w.site_b, w.b1, t, NULL);
	nat(&w, FS_NAT_POOL, "198.51.100.8", "198.51.100.8");
	assert_int_equal(find(&w, w.site_b, t).flow, FS_NONE);
	world_close(&w);
	unlink(path);
}

/* What begins at the egress is not translated, whatever its NAT is. */
static void test_from_egress(void **state)
{
	struct world w;
	struct fs_hit hit;
	(void)state;

	world_new(&w, NULL, 1024);
	nat(&w, FS_NAT_POOL, "198.51.100.8", "198.51.100.8");
	struct fs_packet pk =
		packet(w.egress, w.egress, tup(IPPROTO_TCP, "192.0.2.9", 999, "10.0.0.5", 22), FLAG_SYN);
	assert_int_equal(fs_begin(w.fs, &pk, w.site_a, w.a1, true, 0, w.now, &hit), DROP_NONE);
	assert_false(fs_translated(w.fs, hit.flow));
	/* nor is what one site sends to another */
	pk = packet(w.site_a, w.a1, tup(IPPROTO_TCP, "10.0.0.5", 999, "10.0.0.5", 22), FLAG_SYN);
	assert_int_equal(fs_begin(w.fs, &pk, w.site_b, w.b1, false, 0, w.now, &hit), DROP_NONE);
	assert_false(fs_translated(w.fs, hit.flow));
	world_close(&w);
}

static void test_ranges(void **state)
{
	static const struct {
		const char *first, *last, *prefixes;
		uint64_t count;
	} rows[] = {
		{"192.0.2.1", "192.0.2.1", "192.0.2.1/32", 1},
		{"192.0.2.1", "192.0.2.6", "192.0.2.1/32 192.0.2.2/31 192.0.2.4/31 192.0.2.6/32", 6},
		{"192.0.2.0", "192.0.2.255", "192.0.2.0/24", 256},
		{"192.0.1.254", "192.0.2.1", "192.0.1.254/31 192.0.2.0/31", 4},
		{"2001:db8::", "2001:db8::ffff", "2001:db8::/112", 65536},
		{"2001:db8::ff", "2001:db8::100", "2001:db8::ff/128 2001:db8::100/128", 2},
		{"2001:db8::", "2001:db8::ffff:ffff:ffff:ffff", "2001:db8::/65 2001:db8:0:0:8000::/65",
			UINT64_MAX},
	};
	(void)state;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct addr_range r = range(rows[i].first, rows[i].last);
		char text[256] = "", buf[PREFIX_STRLEN];
		struct prefix p;
		bool more = true;

		assert_true(addr_range_count(&r) == rows[i].count);
		assert_true(addr_range_has(&r, &r.first) && addr_range_has(&r, &r.last));
		struct addr last =
			addr_range_at(&r, rows[i].count == UINT64_MAX ? UINT64_MAX : rows[i].count - 1);
		assert_true(addr_eq(&last, &r.last));
		while (more) {
			more = addr_range_next_prefix(&r, &p);
			snprintf(text + strlen(text), sizeof(text) - strlen(text), "%s%s", text[0] ? " " : "",
				prefix_str(&p, buf));
		}
		assert_string_equal(text, rows[i].prefixes);
	}
	struct addr_range none = {}, r = range("192.0.2.1", "192.0.2.2");
	struct addr out = ip("192.0.2.3"), other = ip("2001:db8::192.0.2.1");
	assert_true(addr_range_count(&none) == 0 && !addr_range_has(&none, &out));
	assert_false(addr_range_has(&r, &out) || addr_range_has(&r, &other));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pool_every_protocol),
		cmocka_unit_test(test_pool_pairs_a_site),
		cmocka_unit_test(test_pool_share),
		cmocka_unit_test(test_pool_share_of_quarantine),
		cmocka_unit_test(test_pool_portless_share),
		cmocka_unit_test(test_pool_portless_share_behind),
		cmocka_unit_test(test_kernel),
		cmocka_unit_test(test_kernel_ports),
		cmocka_unit_test(test_kernel_low_ports),
		cmocka_unit_test(test_kernel_both_ways),
		cmocka_unit_test(test_kernel_resolver),
		cmocka_unit_test(test_kernel_port_of_before),
		cmocka_unit_test(test_kernel_and_back),
		cmocka_unit_test(test_smaller),
		cmocka_unit_test(test_change),
		cmocka_unit_test(test_from_egress),
		cmocka_unit_test(test_ranges),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
