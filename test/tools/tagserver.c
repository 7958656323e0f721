/* SPDX-License-Identifier: GPL-2.0-or-later */
/* tagserver.c - answers each request with as many octets as it asks for, all of which carry the asker's tag.
 *
 *	tagserver --bind ADDR --tcp PORT … --udp PORT … [--bind ADDR …] [--rate OCTETS_A_SECOND]
 *
 * Each --bind holds for the ports that follow it; the rate is that of each connection. A connection is closed
 * when the client has closed its side. It belongs to the tag of its first request: another tag on it means
 * that two sites' packets were spliced, and is counted. Prints "ready", and at the end (SIGTERM) its counters
 * as JSON.
 */
#include "test/tools/tool.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <unistd.h>

#define FDS_MAX 65536
#define UDP_MAX 65000u
#define CHUNK   (TAG_BLOCK * 1024u)
#define TICK_MS 10

enum kind { NOTHING, LISTENER, UDP, STREAM };

struct conn {
	enum kind kind;
	bool owned, want_out;
	uint32_t tag, port, block; /* block: of the next octet to be sent, is block * 16 + skip */
	uint32_t skip;
	uint64_t pending, budget;
	uint8_t req[TAG_BLOCK];
	unsigned have;
};

static struct conn conns[FDS_MAX]; /* by descriptor */
static int ep, top;
static uint64_t rate;
static struct {
	uint64_t connections, open, peak, requests, octets, udp_requests, spliced, malformed;
} count;

static void watch(int fd, enum kind kind)
{
	struct epoll_event ev = {.events = EPOLLIN, .data.fd = fd};

	if (fd >= FDS_MAX)
		fail("more than %d descriptors", FDS_MAX);
	conns[fd] = (struct conn){.kind = kind};
	if (fd >= top)
		top = fd + 1;
	if (epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev) < 0)
		fail_errno("epoll_ctl");
}

static void listen_on(const char *addr, const char *port, int type)
{
	int on = 1, buf = 16 << 20;
	struct sockaddr_storage sa;
	socklen_t len = address(addr, (uint16_t)number(port, 65535), &sa);
	int fd = socket(sa.ss_family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0)
		fail_errno("socket");
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (type == SOCK_DGRAM)
		setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &buf, sizeof(buf));
	if (bind(fd, (struct sockaddr *)&sa, len) < 0)
		fail_errno("bind to %s port %s", addr, port);
	if (type == SOCK_STREAM && listen(fd, 16384) < 0)
		fail_errno("listen");
	watch(fd, type == SOCK_STREAM ? LISTENER : UDP);
}

static void end_conn(int fd)
{
	close(fd);
	conns[fd].kind = NOTHING;
	count.open--;
}

static void poll_out(int fd, struct conn *c, bool want)
{
	struct epoll_event ev = {.events = EPOLLIN | (want ? EPOLLOUT : 0), .data.fd = fd};

	if (c->want_out != want) {
		c->want_out = want;
		epoll_ctl(ep, EPOLL_CTL_MOD, fd, &ev);
	}
}

/* Sends what is due and allowed. Returns false when the connection is gone. */
static bool push(int fd, struct conn *c)
{
	static uint8_t buf[CHUNK + TAG_BLOCK];

	while (c->pending && (!rate || c->budget)) {
		uint64_t n = c->pending < CHUNK ? c->pending : CHUNK;
		if (rate && n > c->budget)
			n = c->budget;
		for (uint32_t i = 0; i * TAG_BLOCK < n + c->skip; i++) {
			struct tag t = {TAG_ANSWER, c->tag, c->port, c->block + i};
			tag_put(buf + (size_t)i * TAG_BLOCK, &t);
		}
		ssize_t sent = send(fd, buf + c->skip, n, MSG_NOSIGNAL);
		if (sent < 0 && (errno == EAGAIN || errno == EINTR)) {
			poll_out(fd, c, true);
			return true;
		}
		if (sent < 0) {
			end_conn(fd);
			return false;
		}
		uint64_t at = c->skip + (uint64_t)sent;
		c->block += (uint32_t)(at / TAG_BLOCK);
		c->skip = (uint32_t)(at % TAG_BLOCK);
		c->pending -= (uint64_t)sent;
		c->budget -= rate ? (uint64_t)sent : 0;
		count.octets += (uint64_t)sent;
	}
	poll_out(fd, c, false);
	return true;
}

static bool take_request(int fd, struct conn *c)
{
	struct tag t;

	tag_get(c->req, &t);
	if (t.mark != TAG_REQUEST) {
		count.malformed++;
		end_conn(fd);
		return false;
	}
	if (c->owned && t.tag != c->tag) {
		count.spliced++;
		end_conn(fd);
		return false;
	}
	c->owned = true;
	c->tag = t.tag;
	c->port = t.b >> 16;
	c->pending += (t.a + TAG_BLOCK - 1) / TAG_BLOCK * (uint64_t)TAG_BLOCK;
	count.requests++;
	return push(fd, c);
}

static void from_stream(int fd, struct conn *c)
{
	for (;;) {
		ssize_t n = recv(fd, c->req + c->have, TAG_BLOCK - c->have, 0);
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (n <= 0) {
			end_conn(fd);
			return;
		}
		c->have += (unsigned)n;
		if (c->have == TAG_BLOCK) {
			c->have = 0;
			if (!take_request(fd, c))
				return;
		}
	}
}

static void from_listener(int fd)
{
	int s;

	while ((s = accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
		watch(s, STREAM);
		count.connections++;
		if (++count.open > count.peak)
			count.peak = count.open;
	}
}

static void from_udp(int fd)
{
	static uint8_t req[UDP_MAX], buf[UDP_MAX];
	struct sockaddr_storage from;
	struct tag t;

	for (;;) {
		socklen_t len = sizeof(from);
		ssize_t n = recvfrom(fd, req, sizeof(req), MSG_TRUNC, (struct sockaddr *)&from, &len);
		if (n < 0)
			return;
		tag_get(req, &t);
		/* Every block is the same, or it was put together of two. */
		bool same = n >= (ssize_t)TAG_BLOCK && n <= (ssize_t)sizeof(req) && n % TAG_BLOCK == 0;
		for (ssize_t at = TAG_BLOCK; same && at < n; at += TAG_BLOCK)
			same = memcmp(req, req + at, TAG_BLOCK) == 0;
		if (!same || t.mark != TAG_REQUEST || t.a > sizeof(buf)) {
			count.malformed++;
			continue;
		}
		uint32_t want = t.a / TAG_BLOCK * TAG_BLOCK;
		struct tag answer = {TAG_ANSWER, t.tag, t.b >> 16, t.b & 0xffff};
		for (uint32_t i = 0; i < want; i += TAG_BLOCK)
			tag_put(buf + i, &answer);
		count.udp_requests++;
		if (sendto(fd, buf, want, 0, (struct sockaddr *)&from, len) < 0)
			count.malformed++;
	}
}

static void refill(void)
{
	for (int fd = 0; fd < top; fd++) {
		struct conn *c = &conns[fd];
		if (c->kind != STREAM)
			continue;
		c->budget = rate * TICK_MS / 1000;
		if (c->pending && !c->want_out)
			push(fd, c);
	}
}

int main(int argc, char **argv)
{
	static const struct option options[] = {{"bind", required_argument, NULL, 'b'},
		{"tcp", required_argument, NULL, 't'}, {"udp", required_argument, NULL, 'u'},
		{"rate", required_argument, NULL, 'r'}, {0}};
	struct rlimit files = {FDS_MAX, FDS_MAX};
	const char *addr = "0.0.0.0";
	int opt;

	setrlimit(RLIMIT_NOFILE, &files);
	ep = epoll_create1(EPOLL_CLOEXEC);
	while ((opt = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (opt == 'b')
			addr = optarg;
		else if (opt == 't')
			listen_on(addr, optarg, SOCK_STREAM);
		else if (opt == 'u')
			listen_on(addr, optarg, SOCK_DGRAM);
		else if (opt == 'r')
			rate = number(optarg, 1ull << 40);
		else
			return 1;
	}
	stop_on_signals();
	printf("ready\n");
	fflush(stdout);
	for (uint64_t tick = 0; !stop_asked();) {
		struct epoll_event ev[256];
		int n = epoll_wait(ep, ev, 256, rate ? TICK_MS : -1);
		for (int i = 0; i < n; i++) {
			int fd = ev[i].data.fd;
			struct conn *c = &conns[fd];
			if (c->kind == LISTENER)
				from_listener(fd);
			else if (c->kind == UDP)
				from_udp(fd);
			else if (c->kind == STREAM && (!(ev[i].events & EPOLLOUT) || push(fd, c)))
				from_stream(fd, c);
		}
		if (rate && now_ms() >= tick + TICK_MS) {
			tick = now_ms();
			refill();
		}
	}
	printf("{\"connections\":%llu,\"peak\":%llu,\"requests\":%llu,\"octets\":%llu,\"udp_requests\":%llu,"
	       "\"spliced\":%llu,\"malformed\":%llu}\n",
		(unsigned long long)count.connections, (unsigned long long)count.peak,
		(unsigned long long)count.requests, (unsigned long long)count.octets,
		(unsigned long long)count.udp_requests, (unsigned long long)count.spliced,
		(unsigned long long)count.malformed);
	return 0;
}
