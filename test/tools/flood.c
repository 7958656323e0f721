/* SPDX-License-Identifier: GPL-2.0-or-later */
/* flood.c - a branch that does its worst: as many new flows as it can, of one kind, through its GRE tunnel.
 *
 *	flood --local A --remote B --server S --ports FIRST-LAST --kind KIND
 *	flood --serve S --ports FIRST-LAST
 *
 * syn: to open ports, and never more. scan: UDP to any port. sweep: echo requests to many. frag: first fragments that never
 * complete. ask: UDP that is answered. tcp: connections that are opened and closed in good order (no TCP of a kernel's: each
 * answer is answered by what it says). Sources are random ones of 10.0.0.0/16. --serve answers ask and tcp. Prints "ready",
 * and at the end, as JSON, how many packets were sent, how many answers came, and how many were of no port that was asked:
 * another branch's.
 */
#include "test/tools/tool.h"

#include <errno.h>
#include <getopt.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#define BATCH 64u
#define LEN   96u

enum kind { SYN, SCAN, SWEEP, FRAG, ASK, TCP, KINDS };
static const char *const kinds[KINDS] = {"syn", "scan", "sweep", "frag", "ask", "tcp"};

struct flood {
	int fd;
	enum kind kind;
	uint8_t server[4], local[4];
	uint16_t first, ports;
	uint64_t random, sent, answers, foreign;
	unsigned n; /* packets of the batch */
	uint8_t packet[BATCH][LEN];
	struct iovec iov[BATCH];
	struct mmsghdr msg[BATCH];
};

static uint32_t rnd(struct flood *f)
{
	f->random ^= f->random << 13;
	f->random ^= f->random >> 7;
	f->random ^= f->random << 17;
	return (uint32_t)(f->random >> 16);
}

static void send_batch(struct flood *f)
{
	for (unsigned at = 0; at < f->n;) {
		int r = sendmmsg(f->fd, f->msg + at, f->n - at, 0);

		if (r < 0 && errno != ENOBUFS && errno != EAGAIN)
			fail_errno("sendmmsg");
		at += r > 0 ? (unsigned)r : 0;
	}
	f->sent += f->n;
	f->n = 0;
}

/* The IPv4 packet behind the four octets of GRE; l4 octets are there from 24 on. */
static void put(struct flood *f, uint8_t *p, const uint8_t src[4], const uint8_t dst[4], uint8_t proto,
	uint16_t l4, int sum_at, bool more)
{
	memcpy(p, "\0\0\x08\0\x45", 5);
	p[5] = 0;
	put16(p + 6, (uint16_t)(20 + l4));
	put16(p + 8, (uint16_t)rnd(f));
	put16(p + 10, more ? 0x2000 : 0x4000);
	p[12] = 64;
	p[13] = proto;
	put16(p + 14, 0);
	memcpy(p + 16, src, 4);
	memcpy(p + 20, dst, 4);
	put16(p + 14, (uint16_t)~fold16(sum16(p + 4, 20)));
	if (sum_at >= 0) {
		uint64_t sum = proto == IPPROTO_ICMP ? 0 : sum16(p + 16, 8) + proto + l4;

		put16(p + 24 + sum_at, 0);
		put16(p + 24 + sum_at, (uint16_t)~fold16(sum + sum16(p + 24, l4)));
	}
	f->iov[f->n] = (struct iovec){p, 24u + l4};
	f->msg[f->n].msg_hdr = (struct msghdr){.msg_iov = &f->iov[f->n], .msg_iovlen = 1};
	if (++f->n == BATCH)
		send_batch(f);
}

static void put_tcp(struct flood *f, const uint8_t src[4], uint16_t sport, const uint8_t dst[4],
	uint16_t dport, uint32_t seq, uint32_t ack, uint8_t flags)
{
	uint8_t *p = f->packet[f->n], *t = p + 24;

	memset(t, 0, 20);
	put16(t, sport);
	put16(t + 2, dport);
	put32(t + 4, seq);
	put32(t + 8, ack);
	t[12] = 5 << 4;
	t[13] = flags;
	put16(t + 14, 65535);
	put(f, p, src, dst, IPPROTO_TCP, 20, 16, false);
}

static void put_new(struct flood *f)
{
	uint8_t *p = f->packet[f->n], *t = p + 24, dst[4];
	const uint8_t src[4] = {10, 0, (uint8_t)(2 + rnd(f) % 250), (uint8_t)(1 + rnd(f) % 250)};
	uint16_t sport = (uint16_t)(1024 + rnd(f) % 64000), dport = (uint16_t)(f->first + rnd(f) % f->ports);

	memcpy(dst, f->server, 4);
	memset(t, 0, 40);
	switch (f->kind) {
	case SYN:
	case TCP:
		put_tcp(f, src, sport, dst, dport, rnd(f), 0, TH_SYN);
		break;
	case SWEEP:
		dst[2] = (uint8_t)rnd(f);
		dst[3] = (uint8_t)(1 + rnd(f) % 254);
		t[0] = 8;
		put16(t + 4, sport);
		put(f, p, src, dst, IPPROTO_ICMP, 16, 2, false);
		break;
	default: /* UDP, or what claims to be its beginning */
		put16(t, sport);
		put16(t + 2, f->kind == SCAN ? (uint16_t)(1024 + rnd(f) % 64000) : dport);
		put16(t + 4, f->kind == FRAG ? 3000 : 16);
		put(f, p, src, dst, IPPROTO_UDP, f->kind == FRAG ? 40 : 16, f->kind == FRAG ? -1 : 6,
			f->kind == FRAG);
		break;
	}
}

/* The first one is shown. */
static void tell_foreign(struct flood *f, const uint8_t *b, size_t len)
{
	if (f->foreign++)
		return;
	fprintf(stderr, "not ours:");
	for (size_t i = 0; i < len && i < 96; i++)
		fprintf(stderr, " %02x", b[i]);
	fprintf(stderr, "\n");
}

/* What comes back: counted; TCP is answered. */
static void take_answers(struct flood *f)
{
	uint8_t b[2048];

	for (ssize_t len; (len = recv(f->fd, b, sizeof(b), MSG_DONTWAIT)) > 0;) {
		const uint8_t *ip = b + 20 + 4, *t = ip + 20;
		uint32_t seq;

		/* Before the socket was bound it heard what is for other branches, too. */
		if (len < 20 + 4 + 20 + 8 || memcmp(b + 16, f->local, 4) != 0)
			continue;
		f->answers++;
		/* Only from those ports does anybody answer what is sent here; to scan there are but errors. */
		if ((ip[9] == IPPROTO_TCP || ip[9] == IPPROTO_UDP) &&
			(get16(t) < f->first || get16(t) >= f->first + f->ports))
			tell_foreign(f, b, (size_t)len);
		if (f->kind != TCP || ip[9] != IPPROTO_TCP || len < 20 + 4 + 20 + 20 || (t[13] & TH_RST))
			continue;
		seq = get32(t + 4) + (t[13] & (TH_SYN | TH_FIN) ? 1 : 0);
		if (t[13] & TH_SYN) /* the handshake's end, and ours in one */
			put_tcp(f, ip + 16, get16(t + 2), ip + 12, get16(t), get32(t + 8), seq,
				TH_ACK | TH_FIN);
		else if (t[13] & TH_FIN)
			put_tcp(f, ip + 16, get16(t + 2), ip + 12, get16(t), get32(t + 8), seq, TH_ACK);
	}
}

static void run(struct flood *f)
{
	uint64_t begun = now_ms();

	while (!stop_asked()) {
		while (f->n < BATCH - 1)
			put_new(f);
		take_answers(f);
		if (f->n)
			send_batch(f);
	}
	printf("{\"sent\":%llu,\"answers\":%llu,\"foreign\":%llu,\"ms\":%llu}\n", (unsigned long long)f->sent,
		(unsigned long long)f->answers, (unsigned long long)f->foreign,
		(unsigned long long)(now_ms() - begun));
}

/* ---- the other side ------------------------------------------------------------------------------------- */

static void listen_on(int ep, const char *server, uint16_t port, int type)
{
	struct sockaddr_storage sa;
	socklen_t len = address(server, port, &sa);
	int fd = socket(sa.ss_family, type | SOCK_NONBLOCK, 0), size = 4 << 20;
	struct epoll_event e = {.events = EPOLLIN, .data.u64 = (uint64_t)fd << 1 | (type == SOCK_STREAM)};

	if (fd < 0 || bind(fd, (struct sockaddr *)&sa, len) < 0)
		fail_errno("%s port %u", server, port);
	setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size));
	if (type == SOCK_STREAM && listen(fd, 65535) < 0)
		fail_errno("listen");
	if (epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e) < 0)
		fail_errno("epoll_ctl");
}

static void answer(int fd, bool stream, uint64_t *answers)
{
	for (unsigned n = 0; n < 256; n++) {
		struct sockaddr_storage sa;
		socklen_t len = sizeof(sa);
		char b[64];

		if (stream) {
			int c = accept(fd, NULL, NULL);

			if (c < 0)
				return;
			close(c);
		} else {
			ssize_t got = recvfrom(fd, b, sizeof(b), 0, (struct sockaddr *)&sa, &len);

			if (got < 0)
				return;
			(void)!sendto(fd, b, (size_t)got, 0, (struct sockaddr *)&sa, len);
		}
		++*answers;
	}
}

static void serve(const char *server, uint16_t first, uint16_t ports)
{
	struct epoll_event e[64];
	int ep = epoll_create1(EPOLL_CLOEXEC);
	uint64_t answers = 0;

	for (uint16_t p = 0; p < ports; p++) {
		listen_on(ep, server, (uint16_t)(first + p), SOCK_DGRAM);
		listen_on(ep, server, (uint16_t)(first + p), SOCK_STREAM);
	}
	printf("ready\n");
	fflush(stdout);
	while (!stop_asked()) {
		int n = epoll_wait(ep, e, 64, 100);

		for (int i = 0; i < n; i++)
			answer((int)(e[i].data.u64 >> 1), e[i].data.u64 & 1, &answers);
	}
	printf("{\"answers\":%llu}\n", (unsigned long long)answers);
}

int main(int argc, char **argv)
{
	static const struct option options[] = {{"local", 1, NULL, 'l'}, {"remote", 1, NULL, 'r'},
		{"server", 1, NULL, 's'}, {"ports", 1, NULL, 'p'}, {"kind", 1, NULL, 'k'},
		{"serve", 1, NULL, 'S'}, {NULL, 0, NULL, 0}};
	static struct flood f = {.random = 88172645463325252u, .kind = KINDS};
	const char *local = NULL, *remote = NULL, *server = NULL;
	bool serves = false;

	for (int c; (c = getopt_long(argc, argv, "", options, NULL)) >= 0;) {
		switch (c) {
		case 'l':
			local = optarg;
			break;
		case 'r':
			remote = optarg;
			break;
		case 'S':
			serves = true;
			server = optarg;
			break;
		case 's':
			server = optarg;
			break;
		case 'p': {
			char *dash = strchr(optarg, '-');

			if (!dash)
				fail("--ports FIRST-LAST");
			*dash = 0;
			f.first = (uint16_t)number(optarg, 65535);
			f.ports = (uint16_t)(number(dash + 1, 65535) - f.first + 1);
			break;
		}
		case 'k':
			for (f.kind = SYN; f.kind < KINDS && strcmp(kinds[f.kind], optarg) != 0; f.kind++)
				;
			break;
		default:
			fail("see the head of flood.c");
		}
	}
	stop_on_signals();
	if (!server || !f.ports)
		fail("see the head of flood.c");
	if (serves) {
		serve(server, f.first, f.ports);
		return 0;
	}
	if (!local || !remote || f.kind == KINDS)
		fail("see the head of flood.c");

	struct sockaddr_storage here, there;
	socklen_t here_len = address(local, 0, &here), there_len = address(remote, 0, &there);
	struct sockaddr_storage to;
	int size = 16 << 20;

	(void)address(server, 0, &to);
	memcpy(f.server, &((struct sockaddr_in *)(void *)&to)->sin_addr, 4);
	memcpy(f.local, &((struct sockaddr_in *)(void *)&here)->sin_addr, 4);
	f.fd = socket(here.ss_family, SOCK_RAW, IPPROTO_GRE);
	if (f.fd < 0 || bind(f.fd, (struct sockaddr *)&here, here_len) < 0 ||
		connect(f.fd, (struct sockaddr *)&there, there_len) < 0)
		fail_errno("GRE socket");
	setsockopt(f.fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size));
	printf("ready\n");
	fflush(stdout);
	run(&f);
	return 0;
}
