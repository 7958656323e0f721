/* SPDX-License-Identifier: GPL-2.0-or-later */
/* conns.c - new TCP connections, as many as can be: connect, one octet each way, close. See README.md, conns.
 *
 * usage: conns server FIRST-PORT PORTS
 *        conns client ADDRESS FIRST-PORT PORTS SECONDS AT-A-TIME
 * The client prints connections a second that were closed in good order, and how many failed. The server closes
 * first, when it has read all that there is: no resets, and the client's ports are free again at once.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define EVENTS  256
#define BACKLOG 4096

static void die(const char *what)
{
	fprintf(stderr, "conns: %s: %s\n", what, strerror(errno));
	exit(1);
}

static double now_s(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void watch(int ep, int fd, uint32_t events, uint64_t data)
{
	struct epoll_event e = {.events = events, .data.u64 = data};
	if (epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e) < 0)
		die("epoll_ctl");
}

static void more_files(void)
{
	struct rlimit l;
	if (getrlimit(RLIMIT_NOFILE, &l) == 0) {
		l.rlim_cur = l.rlim_max;
		setrlimit(RLIMIT_NOFILE, &l);
	}
}

/* ---- server ----------------------------------------------------------------------------------------------- */

#define LISTENS ((uint64_t)1 << 32)

/* The octet comes with or after the handshake; answered and closed as soon as it is there. */
static void serve(int fd)
{
	char c;
	ssize_t n = recv(fd, &c, 1, MSG_DONTWAIT);
	if (n < 0 && errno == EAGAIN)
		return;
	if (n == 1)
		(void)!send(fd, &c, 1, MSG_NOSIGNAL);
	close(fd);
}

static void take(int ep, int listener)
{
	for (int fd; (fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0;)
		watch(ep, fd, EPOLLIN, (uint64_t)fd);
}

static void server(unsigned first, unsigned ports)
{
	struct epoll_event e[EVENTS];
	int ep = epoll_create1(EPOLL_CLOEXEC), on = 1;
	for (unsigned k = 0; k < ports; k++) {
		struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)(first + k))};
		int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
		if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0 ||
			bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0 || listen(fd, BACKLOG) < 0)
			die("listen");
		watch(ep, fd, EPOLLIN, LISTENS | (uint64_t)fd);
	}
	printf("ready\n");
	fflush(stdout);
	for (;;) {
		int n = epoll_wait(ep, e, EVENTS, -1);
		if (n < 0 && errno != EINTR)
			die("epoll_wait");
		for (int i = 0; i < n; i++) {
			if (e[i].data.u64 & LISTENS)
				take(ep, (int)(uint32_t)e[i].data.u64);
			else
				serve((int)e[i].data.u64);
		}
	}
}

/* ---- client ----------------------------------------------------------------------------------------------- */

struct client {
	int ep;
	struct sockaddr_in to;
	unsigned first, ports, next;
	uint64_t done, failed;
	unsigned open;
};

/* A connection that has sent its octet waits for the other one, and then for the end. */
#define SENT     ((uint64_t)1 << 32)
#define ANSWERED ((uint64_t)1 << 33)

static void start(struct client *c)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		die("socket");
	c->to.sin_port = htons((uint16_t)(c->first + c->next++ % c->ports));
	if (connect(fd, (struct sockaddr *)&c->to, sizeof(c->to)) < 0 && errno != EINPROGRESS)
		die("connect");
	watch(c->ep, fd, EPOLLOUT, (uint64_t)fd);
	c->open++;
}

static void finish(struct client *c, int fd, bool good)
{
	close(fd);
	c->open--;
	c->done += good;
	c->failed += !good;
}

static void step(struct client *c, uint64_t data)
{
	int fd = (int)(uint32_t)data;
	char b[2];
	if (!(data & SENT)) {
		struct epoll_event e = {.events = EPOLLIN, .data.u64 = SENT | data};
		if (send(fd, "x", 1, MSG_NOSIGNAL) != 1)
			finish(c, fd, false);
		else if (epoll_ctl(c->ep, EPOLL_CTL_MOD, fd, &e) < 0)
			die("epoll_ctl");
		return;
	}
	ssize_t n = recv(fd, b, sizeof(b), 0);
	if (n == 1) {
		/* The end has mostly come with it. */
		n = recv(fd, b, sizeof(b), 0);
		if (n < 0 && errno == EAGAIN) {
			struct epoll_event e = {.events = EPOLLIN, .data.u64 = ANSWERED | data};
			if (epoll_ctl(c->ep, EPOLL_CTL_MOD, fd, &e) < 0)
				die("epoll_ctl");
			return;
		}
		finish(c, fd, n == 0);
	} else if (!(n < 0 && errno == EAGAIN)) {
		finish(c, fd, n == 0 && data & ANSWERED);
	}
}

static void client(const char *address, unsigned first, unsigned ports, double seconds, unsigned at_a_time)
{
	struct client c = {.ep = epoll_create1(EPOLL_CLOEXEC),
		.to = {.sin_family = AF_INET},
		.first = first,
		.ports = ports};
	struct epoll_event e[EVENTS];
	if (inet_pton(AF_INET, address, &c.to.sin_addr) != 1)
		die("address");
	double begin = now_s(), end = begin + seconds, now = begin;
	while (c.open < at_a_time)
		start(&c);
	while (now < end) {
		int n = epoll_wait(c.ep, e, EVENTS, 100);
		for (int i = 0; i < n; i++)
			step(&c, e[i].data.u64);
		while (c.open < at_a_time)
			start(&c);
		now = now_s();
	}
	printf("%.1f %llu\n", (double)c.done / (now - begin), (unsigned long long)c.failed);
}

static unsigned number(const char *s)
{
	return (unsigned)strtoul(s, NULL, 10);
}

int main(int argc, char **argv)
{
	signal(SIGPIPE, SIG_IGN);
	more_files();
	if (argc == 4 && strcmp(argv[1], "server") == 0)
		server(number(argv[2]), number(argv[3]));
	else if (argc == 7 && strcmp(argv[1], "client") == 0)
		client(argv[2], number(argv[3]), number(argv[4]), strtod(argv[5], NULL), number(argv[6]));
	else
		return fprintf(stderr, "usage: see conns.c\n"), 2;
	return 0;
}
