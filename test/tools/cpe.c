/* SPDX-License-Identifier: GPL-2.0-or-later */
/* cpe.c - branch routers for the tests: GRE in user space, many branches in one process.
 *
 *	host's namespace                the namespace that cpe runs in (the underlay)
 *	[ applications ] -- TUN  ~~ cpe ~~ raw socket local -- … -- remote, the gateway
 *
 * Simple, slow and right: one read, one send a packet, no offload of any kind (the TUN device has no vnet
 * header, so the kernel hands over whole packets with complete checksums). The TUN devices exist already, with
 * their addresses; cpe only attaches to them. Prints "ready", and at the end (SIGTERM) its counters as JSON.
 *
 *	cpe --branch netns=NS,tun=DEV,local=ADDR,remote=ADDR[,key=N][,csum][,seq][,ttl=N][,tos=N][,df] …
 *
 * What comes in must have the key, and a checksum that is right where one is given; everything else is counted
 * and dropped. RFC 2784, RFC 2890.
 */
#include "test/tools/tool.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <linux/in6.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define BRANCHES_MAX 256
#define GRE_C        0x8000u
#define GRE_K        0x2000u
#define GRE_S        0x1000u
#define GRE_MAX      16u
#define BURST        64 /* packets of one descriptor before the next has its turn */

struct branch {
	char netns[64], tun[IFNAMSIZ];
	int family, tun_fd, raw_fd;
	bool has_key, csum, seq;
	uint32_t key, tx_seq, rx_seq;
	uint64_t in, out, wrong_key, bad, out_of_order, send_errors;
};

static struct branch branches[BRANCHES_MAX];
static unsigned nbranches;

static int open_tun(const struct branch *b)
{
	struct ifreq ifr = {.ifr_flags = IFF_TUN | IFF_NO_PI};
	int back = netns_here(), ns = netns_open(b->netns);

	netns_enter(ns);
	int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		fail_errno("/dev/net/tun");
	memcpy(ifr.ifr_name, b->tun, IFNAMSIZ);
	if (ioctl(fd, TUNSETIFF, &ifr) < 0)
		fail_errno("%s: TUNSETIFF %s", b->netns, b->tun);
	netns_enter(back);
	close(ns);
	close(back);
	return fd;
}

static void set(int fd, int level, int name, int value)
{
	if (setsockopt(fd, level, name, &value, sizeof(value)) < 0)
		fail_errno("setsockopt %d %d", level, name);
}

static int open_raw(struct branch *b, const char *local, const char *remote, int ttl, int tos, bool df)
{
	struct sockaddr_storage sa;
	socklen_t len = address(local, 0, &sa);
	bool v4 = sa.ss_family == AF_INET;

	b->family = sa.ss_family;
	int fd = socket(b->family, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_GRE);
	if (fd < 0)
		fail_errno("raw socket");
	if (bind(fd, (struct sockaddr *)&sa, len) < 0)
		fail_errno("bind %s", local);
	len = address(remote, 0, &sa);
	if (connect(fd, (struct sockaddr *)&sa, len) < 0)
		fail_errno("connect %s", remote);
	set(fd, SOL_SOCKET, SO_RCVBUFFORCE, 16 << 20);
	set(fd, SOL_SOCKET, SO_SNDBUFFORCE, 4 << 20);
	set(fd, v4 ? IPPROTO_IP : IPPROTO_IPV6, v4 ? IP_TTL : IPV6_UNICAST_HOPS, ttl);
	set(fd, v4 ? IPPROTO_IP : IPPROTO_IPV6, v4 ? IP_TOS : IPV6_TCLASS, tos);
	set(fd, v4 ? IPPROTO_IP : IPPROTO_IPV6, v4 ? IP_MTU_DISCOVER : IPV6_MTU_DISCOVER,
		df ? IP_PMTUDISC_DO : IP_PMTUDISC_DONT);
	return fd;
}

static void add_branch(char *list)
{
	if (nbranches == BRANCHES_MAX)
		fail("more than %d branches", BRANCHES_MAX);
	struct branch *b = &branches[nbranches++];
	char *local = NULL, *remote = NULL, *key, *value;
	int ttl = 64, tos = 0;
	bool df = false;

	while ((key = option_next(&list, &value))) {
		if (!strcmp(key, "netns"))
			snprintf(b->netns, sizeof(b->netns), "%s", value);
		else if (!strcmp(key, "tun"))
			snprintf(b->tun, sizeof(b->tun), "%s", value);
		else if (!strcmp(key, "local"))
			local = value;
		else if (!strcmp(key, "remote"))
			remote = value;
		else if (!strcmp(key, "key")) {
			b->has_key = true;
			b->key = (uint32_t)number(value, UINT32_MAX);
		} else if (!strcmp(key, "csum"))
			b->csum = true;
		else if (!strcmp(key, "seq"))
			b->seq = true;
		else if (!strcmp(key, "ttl"))
			ttl = (int)number(value, 255);
		else if (!strcmp(key, "tos"))
			tos = (int)number(value, 255);
		else if (!strcmp(key, "df"))
			df = true;
		else
			fail("unknown option of a branch: %s", key);
	}
	if (!local || !remote || !*b->netns || !*b->tun)
		fail("a branch wants netns, tun, local and remote");
	b->raw_fd = open_raw(b, local, remote, ttl, tos, df);
	b->tun_fd = open_tun(b);
}

/* The GRE header for the packet of len octets at p, written so that it ends at p. Returns where it begins. */
static uint8_t *encapsulate(struct branch *b, uint8_t *p, size_t len)
{
	uint8_t *h = p - 4 - (b->csum ? 4 : 0) - (b->has_key ? 4 : 0) - (b->seq ? 4 : 0), *at = h + 4;

	put16(h, (uint16_t)((b->csum ? GRE_C : 0) | (b->has_key ? GRE_K : 0) | (b->seq ? GRE_S : 0)));
	put16(h + 2, p[0] >> 4 == 6 ? 0x86dd : 0x0800);
	if (b->csum) {
		put32(at, 0);
		at += 4;
	}
	if (b->has_key) {
		put32(at, b->key);
		at += 4;
	}
	if (b->seq)
		put32(at, b->tx_seq++);
	if (b->csum)
		put16(h + 4, (uint16_t)~fold16(sum16(h, (size_t)(p - h) + len)));
	return h;
}

static bool from_host(struct branch *b)
{
	static uint8_t buf[GRE_MAX + 65536];
	uint8_t *p = buf + GRE_MAX;
	ssize_t n = read(b->tun_fd, p, 65536);

	if (n <= 0)
		return false;
	uint8_t *h = encapsulate(b, p, (size_t)n);
	if (send(b->raw_fd, h, (size_t)(p - h + n), 0) < 0)
		b->send_errors++;
	else
		b->out++;
	return true;
}

/* Checks the GRE packet of n octets; returns the offset of the inner packet, or 0 and has counted why not. */
static size_t decapsulate(struct branch *b, const uint8_t *g, size_t n)
{
	if (n < 4) {
		b->bad++;
		return 0;
	}
	unsigned flags = get16(g);
	size_t at = 4u + (flags & GRE_C ? 4 : 0),
	       len = at + (flags & GRE_K ? 4 : 0) + (flags & GRE_S ? 4 : 0);
	if (flags & ~(GRE_C | GRE_K | GRE_S) || n < len + 20) {
		b->bad++;
		return 0;
	}
	if (b->has_key != !!(flags & GRE_K) || (b->has_key && get32(g + at) != b->key)) {
		b->wrong_key++;
		return 0;
	}
	if ((flags & GRE_C) && fold16(sum16(g, n)) != 0xffff) {
		b->bad++;
		return 0;
	}
	if (flags & GRE_S) {
		uint32_t seq = get32(g + len - 4);
		if (b->in && (int32_t)(seq - b->rx_seq) <= 0)
			b->out_of_order++;
		b->rx_seq = seq;
	}
	return len;
}

static bool from_gateway(struct branch *b)
{
	static uint8_t buf[65536];
	ssize_t got = recv(b->raw_fd, buf, sizeof(buf), 0);

	/* ICMP errors for what was sent show as errors of the socket: the next call has the next packet. */
	if (got < 0)
		return errno != EAGAIN;
	size_t n = (size_t)got, ip = b->family == AF_INET && n ? (buf[0] & 15u) * 4 : 0;
	if (n < ip) {
		b->bad++;
		return true;
	}
	size_t off = decapsulate(b, buf + ip, n - ip);
	if (!off)
		return true;
	b->in++;
	if (write(b->tun_fd, buf + ip + off, n - ip - off) < 0)
		b->bad++;
	return true;
}

static void report(void)
{
	printf("[");
	for (unsigned i = 0; i < nbranches; i++) {
		const struct branch *b = &branches[i];
		printf("%s\n "
		       "{\"netns\":\"%s\",\"tun\":\"%s\",\"in\":%llu,\"out\":%llu,\"wrong_key\":%llu,\"bad\":"
		       "%llu,"
		       "\"out_of_order\":%llu,\"send_errors\":%llu}",
			i ? "," : "", b->netns, b->tun, (unsigned long long)b->in, (unsigned long long)b->out,
			(unsigned long long)b->wrong_key, (unsigned long long)b->bad,
			(unsigned long long)b->out_of_order, (unsigned long long)b->send_errors);
	}
	printf("\n]\n");
}

int main(int argc, char **argv)
{
	static const struct option options[] = {{"branch", required_argument, NULL, 'b'}, {0}};
	int opt;

	while ((opt = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (opt != 'b')
			return 1;
		add_branch(optarg);
	}
	int ep = epoll_create1(EPOLL_CLOEXEC);
	for (unsigned i = 0; i < nbranches; i++) {
		struct epoll_event tun = {.events = EPOLLIN, .data.u32 = i * 2};
		struct epoll_event raw = {.events = EPOLLIN, .data.u32 = i * 2 + 1};
		if (epoll_ctl(ep, EPOLL_CTL_ADD, branches[i].tun_fd, &tun) < 0 ||
			epoll_ctl(ep, EPOLL_CTL_ADD, branches[i].raw_fd, &raw) < 0)
			fail_errno("epoll_ctl");
	}
	stop_on_signals();
	printf("ready\n");
	fflush(stdout);
	while (!stop_asked()) {
		struct epoll_event ev[64];
		int n = epoll_wait(ep, ev, 64, -1);
		for (int i = 0; i < n; i++) {
			struct branch *b = &branches[ev[i].data.u32 / 2];
			bool raw = ev[i].data.u32 & 1;
			for (int k = 0; k < BURST && (raw ? from_gateway(b) : from_host(b)); k++)
				;
		}
	}
	report();
	return 0;
}
