/* SPDX-License-Identifier: GPL-2.0-or-later */
/* tagclient.c - hosts of many branches that ask the tagserver at once, from equal addresses and ports.
 *
 *	tagclient --branch NETNS:TAG … --bind ADDR --server ADDR --port PORT [--proto tcp|udp|ping]
 *	          [--first-port N] [--count N] [--requests N] [--octets N] [--timeout SECONDS] [--pace N]
 *	          [--apart MS] [--in-flight N] [--padded] [--download] [--progress]
 *
 * Each branch opens `count` sockets, bound to ADDR and the ports (for ping: ids) from first-port on: every
 * branch the same. TCP: nobody asks before all are connected, then each asks `requests` times for `octets`, and
 * checks every octet of the answers. UDP, ping: the next request goes out when the answer is there, or counts
 * as lost after `timeout`; nothing is sent again. pace: sockets opened a millisecond (0: all at once).
 * apart: so long between one and the next; one kernel's equal tuples have sequence numbers that differ by the time alone, 2^20
 * in 67 ms, where those of two hosts have nothing in common.
 * in-flight: requests not answered yet, over all connections (0: one for each), so that it is the gateway that
 * is tested and not the length of somebody's queue.
 *
 * --padded: UDP requests are as long as the answers, of nothing but the request over and over.
 * --download: one request for 4 GiB each, until SIGTERM. --progress: a line of JSON with the octets of each
 * branch every 100 ms. At the end counters as JSON; status 0 when every answer came and was right.
 */
#include "test/tools/tool.h"

#include <errno.h>
#include <getopt.h>
#include <netinet/icmp6.h>
#include <netinet/ip_icmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <unistd.h>

#define BRANCHES_MAX 256
#define REPORT_MAX   10
#define ICMP_HDR     8u

enum proto { TCP, UDP, PING };
enum state { CONNECTING, READY, ASKING, DONE, FAILED };

struct branch {
	char netns[64];
	uint32_t tag;
	uint64_t octets, answers, failed, wrong, lost;
};

struct conn {
	struct branch *b;
	int fd;
	uint16_t port;
	enum state state;
	uint32_t asked;     /* requests sent */
	uint64_t at, until; /* TCP: octets of the stream received, and wanted so far */
	uint64_t sent_ms;
};

static struct branch branches[BRANCHES_MAX];
static unsigned nbranches, nconns, begun, pending_connects, finished, reported;
static struct conn *conns;
static int ep;

/* Connections that may ask, in order; each is in it once at most. */
static struct conn **turn;
static unsigned turn_first, turn_count, in_flight;

static struct {
	enum proto proto;
	const char *bind, *server;
	uint16_t port, first_port;
	uint32_t count, requests, octets, pace, apart, in_flight;
	uint64_t timeout_ms;
	bool padded, download, progress;
} o = {.first_port = 40000, .count = 1, .requests = 1, .octets = 1024, .timeout_ms = 20000};

static void give_up(struct conn *c, const char *why, int err)
{
	if (reported++ < REPORT_MAX)
		fprintf(stderr, "%s port %u: %s%s%s\n", c->b->netns, c->port, why, err ? ": " : "",
			err ? strerror(err) : "");
	if (c->state == CONNECTING)
		pending_connects--;
	if (c->state == ASKING)
		in_flight--;
	c->state = FAILED;
	c->b->failed++;
	finished++;
	close(c->fd);
}

static void done(struct conn *c)
{
	c->state = DONE;
	finished++;
	close(c->fd);
}

static void wait_for_turn(struct conn *c)
{
	unsigned last = turn_first + turn_count++;

	c->state = READY;
	turn[last < nconns ? last : last - nconns] = c;
}

static bool is4(void)
{
	return !strchr(o.server, ':');
}

static void ask(struct conn *c)
{
	static uint8_t buf[ICMP_HDR + 65536];
	uint8_t *p = buf + ICMP_HDR;
	uint32_t want = o.download ? UINT32_MAX - TAG_BLOCK : o.octets;
	struct tag t = {TAG_REQUEST, c->b->tag, want, tag_request_b(c->port, c->asked)};
	size_t n = TAG_BLOCK;

	tag_put(p, &t);
	memset(buf, 0, ICMP_HDR);
	if (o.proto == PING) { /* the kernel fills in id and checksum */
		p = buf;
		n += ICMP_HDR;
		p[0] = is4() ? ICMP_ECHO : ICMP6_ECHO_REQUEST;
		put16(p + 6, (uint16_t)c->asked);
	}
	for (; o.padded && o.proto == UDP && n + TAG_BLOCK <= o.octets; n += TAG_BLOCK)
		tag_put(p + n, &t);
	c->asked++;
	in_flight++;
	c->until += (want + TAG_BLOCK - 1) / TAG_BLOCK * (uint64_t)TAG_BLOCK;
	c->sent_ms = now_ms();
	c->state = ASKING;
	if (send(c->fd, p, n, MSG_NOSIGNAL) != (ssize_t)n)
		give_up(c, "send", errno);
}

static void ask_in_turn(void)
{
	while (turn_count && (!o.in_flight || in_flight < o.in_flight)) {
		struct conn *c = turn[turn_first];
		turn_first = turn_first + 1 == nconns ? 0 : turn_first + 1;
		turn_count--;
		if (c->state == READY)
			ask(c);
	}
}

static void wrong(struct conn *c, const char *what, const struct tag *t)
{
	c->b->wrong++;
	if (reported++ < REPORT_MAX)
		fprintf(stderr, "%s port %u: %s: mark %x tag %u a %u b %u\n", c->b->netns, c->port, what,
			t->mark, t->tag, t->a, t->b);
}

/* All is there. The client closes first and keeps the connection in TIME-WAIT: a retransmission of the server's
 * that comes late is acknowledged then, and not answered by a reset. */
static void leave(struct conn *c)
{
	c->state = READY;
	shutdown(c->fd, SHUT_WR);
}

/* Every octet of a piece of the TCP stream. */
static bool check_stream(struct conn *c, const uint8_t *p, size_t n)
{
	while (n) {
		uint8_t block[TAG_BLOCK];
		struct tag t = {TAG_ANSWER, c->b->tag, c->port, (uint32_t)(c->at / TAG_BLOCK)};
		size_t skip = c->at % TAG_BLOCK, m = TAG_BLOCK - skip < n ? TAG_BLOCK - skip : n;
		tag_put(block, &t);
		if (memcmp(block + skip, p, m) != 0) {
			wrong(c, "wrong octets in the stream, expected", &t);
			return false;
		}
		c->at += m;
		c->b->octets += m;
		p += m;
		n -= m;
	}
	return true;
}

static void from_stream(struct conn *c)
{
	static uint8_t buf[1 << 18];

	for (;;) {
		ssize_t n = recv(c->fd, buf, sizeof(buf), 0);
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (n < 0) {
			give_up(c, "connection broke", errno);
			return;
		}
		if (n == 0) {
			if (c->state == ASKING || c->asked < o.requests)
				give_up(c, "server closed too early", 0);
			else
				done(c);
			return;
		}
		c->sent_ms = now_ms();
		if (!check_stream(c, buf, (size_t)n)) {
			give_up(c, "wrong answer", 0);
			return;
		}
		if (c->at < c->until)
			continue;
		c->b->answers++;
		in_flight--;
		if (c->asked < o.requests)
			wait_for_turn(c);
		else
			leave(c);
	}
}

static void next_dgram(struct conn *c)
{
	in_flight--;
	if (c->asked < o.requests)
		wait_for_turn(c);
	else
		done(c);
}

static void from_dgram(struct conn *c)
{
	static uint8_t buf[65536];
	uint8_t *p = buf;
	ssize_t n = recv(c->fd, buf, sizeof(buf), 0);
	uint32_t number = (c->asked - 1) & 0xffff;

	if (n < 0) {
		if (errno != EAGAIN && errno != EINTR)
			give_up(c, "receive", errno);
		return;
	}
	struct tag t = {0}, want = {TAG_ANSWER, c->b->tag, c->port, number};
	if (o.proto == PING) {
		p += ICMP_HDR;
		n -= ICMP_HDR;
		want = (struct tag){TAG_REQUEST, c->b->tag, o.octets, tag_request_b(c->port, number)};
	}
	bool late = false;
	if (n >= (ssize_t)TAG_BLOCK) {
		tag_get(p, &t);
		late = t.mark == want.mark && t.tag == want.tag && t.b != want.b; /* was counted as lost */
	}
	if (late || c->state != ASKING)
		return;
	ssize_t len = o.proto == PING ? (ssize_t)TAG_BLOCK : (ssize_t)(o.octets / TAG_BLOCK * TAG_BLOCK);
	bool right = n == len;
	for (ssize_t i = 0; right && i < n; i += TAG_BLOCK) {
		tag_get(p + i, &t);
		right = memcmp(&t, &want, sizeof(t)) == 0;
	}
	if (!right) {
		wrong(c, "wrong answer", &t);
		give_up(c, "wrong answer", 0);
		return;
	}
	c->b->octets += (uint64_t)n;
	c->b->answers++;
	next_dgram(c);
}

static void begin(struct conn *c)
{
	struct sockaddr_storage local, remote;
	int on = 1, type = o.proto == TCP ? SOCK_STREAM : SOCK_DGRAM;
	socklen_t llen = address(o.bind, c->port, &local), rlen = address(o.server, o.port, &remote);

	c->sent_ms = now_ms();
	c->fd = socket(local.ss_family, type | SOCK_NONBLOCK | SOCK_CLOEXEC,
		o.proto != PING ? 0
		: is4()         ? IPPROTO_ICMP
				: IPPROTO_ICMPV6);
	if (c->fd < 0)
		fail_errno("socket");
	setsockopt(c->fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (bind(c->fd, (struct sockaddr *)&local, llen) < 0)
		fail_errno("%s: bind to %s port %u", c->b->netns, o.bind, c->port);
	if (connect(c->fd, (struct sockaddr *)&remote, rlen) < 0 && errno != EINPROGRESS) {
		give_up(c, "connect", errno);
		return;
	}
	struct epoll_event ev = {.events = EPOLLIN | (o.proto == TCP ? EPOLLOUT : 0), .data.ptr = c};
	if (epoll_ctl(ep, EPOLL_CTL_ADD, c->fd, &ev) < 0)
		fail_errno("epoll_ctl");
	if (o.proto != TCP) {
		pending_connects--;
		wait_for_turn(c);
	}
}

/* Begins connections of all branches in turn, so that equal tuples meet. */
static void begin_some(unsigned n)
{
	static int ns_fd[BRANCHES_MAX];
	int back = netns_here();

	for (; n-- && begun < nconns; begun++) {
		struct conn *c = &conns[begun];
		size_t i = (size_t)(c->b - branches);
		if (!ns_fd[i])
			ns_fd[i] = netns_open(c->b->netns);
		netns_enter(ns_fd[i]);
		begin(c);
	}
	netns_enter(back);
	close(back);
}

static void connected(struct conn *c)
{
	int err = 0;
	socklen_t len = sizeof(err);
	struct epoll_event ev = {.events = EPOLLIN, .data.ptr = c};

	getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &err, &len);
	if (err) {
		give_up(c, "connect", err);
		return;
	}
	epoll_ctl(ep, EPOLL_CTL_MOD, c->fd, &ev);
	pending_connects--;
	c->state = READY;
}

static void check_timeouts(uint64_t now)
{
	for (unsigned i = 0; i < begun; i++) {
		struct conn *c = &conns[i];
		if (c->state >= DONE || now < c->sent_ms + o.timeout_ms)
			continue;
		if (o.proto == TCP) {
			if (!o.download && (c->state != READY || c->asked))
				give_up(c, "timed out", 0);
			continue;
		}
		if (c->state != ASKING)
			continue;
		c->b->lost++;
		next_dgram(c);
	}
}

static void progress(void)
{
	printf("{");
	for (unsigned i = 0; i < nbranches; i++)
		printf("%s\"%s\":%llu", i ? "," : "", branches[i].netns,
			(unsigned long long)branches[i].octets);
	printf("}\n");
	fflush(stdout);
}

static bool report(unsigned peak)
{
	uint64_t good = 0, expected = o.download ? 0 : (uint64_t)nconns * o.requests, bad = 0;

	printf("{\"connections\":%u,\"peak\":%u,\"branches\":{", nconns, peak);
	for (unsigned i = 0; i < nbranches; i++) {
		const struct branch *b = &branches[i];
		good += b->answers;
		bad += b->failed + b->wrong + b->lost;
		printf("%s\n "
		       "\"%s\":{\"tag\":%u,\"answers\":%llu,\"octets\":%llu,\"failed\":%llu,\"wrong\":%llu,"
		       "\"lost\":%llu}",
			i ? "," : "", b->netns, b->tag, (unsigned long long)b->answers,
			(unsigned long long)b->octets, (unsigned long long)b->failed,
			(unsigned long long)b->wrong, (unsigned long long)b->lost);
	}
	printf("\n},\"answers\":%llu,\"expected\":%llu,\"bad\":%llu}\n", (unsigned long long)good,
		(unsigned long long)expected, (unsigned long long)bad);
	return good == expected && !bad;
}

static void add_branch(char *arg)
{
	char *colon = strchr(arg, ':');

	if (!colon || nbranches == BRANCHES_MAX)
		fail("a branch is NETNS:TAG, and there are at most %d", BRANCHES_MAX);
	*colon = '\0';
	snprintf(branches[nbranches].netns, sizeof(branches[0].netns), "%s", arg);
	branches[nbranches++].tag = (uint32_t)number(colon + 1, UINT32_MAX);
}

static void parse(int argc, char **argv)
{
	static const struct option options[] = {{"branch", 1, NULL, 'b'}, {"bind", 1, NULL, 'l'},
		{"server", 1, NULL, 's'}, {"port", 1, NULL, 'p'}, {"proto", 1, NULL, 'P'},
		{"first-port", 1, NULL, 'f'}, {"count", 1, NULL, 'c'}, {"requests", 1, NULL, 'r'},
		{"octets", 1, NULL, 'o'}, {"timeout", 1, NULL, 't'}, {"pace", 1, NULL, 'a'},
		{"apart", 1, NULL, 'A'}, {"in-flight", 1, NULL, 'i'}, {"padded", 0, NULL, 'x'},
		{"download", 0, NULL, 'd'}, {"progress", 0, NULL, 'g'}, {0}};
	int opt;

	while ((opt = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (opt) {
		case 'b':
			add_branch(optarg);
			break;
		case 'l':
			o.bind = optarg;
			break;
		case 's':
			o.server = optarg;
			break;
		case 'p':
			o.port = (uint16_t)number(optarg, 65535);
			break;
		case 'P':
			o.proto = *optarg == 't' ? TCP : *optarg == 'u' ? UDP : PING;
			break;
		case 'f':
			o.first_port = (uint16_t)number(optarg, 65535);
			break;
		case 'c':
			o.count = (uint32_t)number(optarg, 10000);
			break;
		case 'r':
			o.requests = (uint32_t)number(optarg, 0xffff);
			break;
		case 'o':
			o.octets = (uint32_t)number(optarg, UINT32_MAX - TAG_BLOCK);
			break;
		case 't':
			o.timeout_ms = number(optarg, 3600) * 1000;
			break;
		case 'a':
			o.pace = (uint32_t)number(optarg, 10000);
			break;
		case 'A':
			o.apart = (uint32_t)number(optarg, 10000);
			break;
		case 'i':
			o.in_flight = (uint32_t)number(optarg, 100000);
			break;
		case 'x':
			o.padded = true;
			break;
		case 'd':
			o.download = true;
			break;
		case 'g':
			o.progress = true;
			break;
		default:
			exit(1);
		}
	}
	if (!o.bind || !o.server || !nbranches)
		fail("--branch, --bind and --server are wanted");
	if (!o.count)
		fail("--count is at least 1");
}

int main(int argc, char **argv)
{
	struct rlimit files = {65536, 65536};
	uint64_t shown = now_ms(), checked = shown, next = shown;
	unsigned peak = 0;
	bool asking = false;

	parse(argc, argv);
	setrlimit(RLIMIT_NOFILE, &files);
	nconns = nbranches * o.count;
	conns = calloc(nconns, sizeof(*conns));
	turn = calloc(nconns, sizeof(struct conn *));
	if (!conns || !turn)
		fail("out of memory");
	ep = epoll_create1(EPOLL_CLOEXEC);
	for (unsigned i = 0; i < nconns; i++)
		conns[i] = (struct conn){.b = &branches[i % nbranches],
			.port = (uint16_t)(o.first_port + i / nbranches),
			.fd = -1};
	pending_connects = nconns;
	stop_on_signals();
	while (finished < nconns && !stop_asked()) {
		struct epoll_event ev[256];
		if (!o.apart) {
			begin_some(o.pace ? o.pace : nconns);
		} else if (now_ms() >= next) {
			begin_some(1);
			next += o.apart;
		}
		int n = epoll_wait(ep, ev, 256, begun < nconns ? 1 : 50);
		for (int i = 0; i < n; i++) {
			struct conn *c = ev[i].data.ptr;
			if (c->state == CONNECTING && o.proto == TCP)
				connected(c);
			else if (c->state < DONE)
				o.proto == TCP ? from_stream(c) : from_dgram(c);
		}
		if (o.proto == TCP && !asking && begun == nconns && !pending_connects) {
			asking = true;
			for (unsigned i = 0; i < nconns; i++) {
				peak += conns[i].state == READY;
				if (conns[i].state == READY)
					wait_for_turn(&conns[i]);
			}
		}
		ask_in_turn();
		uint64_t now = now_ms();
		if (now >= checked + 100) {
			checked = now;
			check_timeouts(now);
		}
		if (o.progress && now >= shown + 100) {
			shown = now;
			progress();
		}
	}
	bool ok = report(peak);
	free(conns);
	free(turn);
	return ok ? 0 : 1;
}
