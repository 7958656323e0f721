/* SPDX-License-Identifier: GPL-2.0-or-later */
/* rawlim.c - what the kernel lets through from one raw GRE socket to another: the ceiling of a GRE endpoint
 * that sends and receives packet by packet and does nothing else.
 *
 *	sender [namespace A, address FROM] === veth === receiver [namespace B, address TO]
 *
 * usage: rawlim A B FROM TO SIZE SECONDS	SIZE: of the outer IPv4 packet, octets
 *
 * Sender and receiver are threads, as two endpoints on two cores are; both work in batches of 64. Prints the
 * packets a second that were received. The payload is GRE around an IPv4 header around zeros, which no
 * stack merges or answers. Needs CAP_SYS_ADMIN (setns), CAP_NET_RAW, CAP_NET_ADMIN.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define BATCH      64
#define SOCKBUF    (8 << 20)
#define OUTER_MIN  (20 + 4 + 20)
#define OUTER_MAX  9000
#define WARM_UP_NS 300000000L

struct end {
	const char *ns;
	struct in_addr addr;
	int fd;
};

struct rig {
	struct end from, to;
	uint32_t size;
	double seconds;
	atomic_bool stop;
	double rate; /* packets a second, set by the receiver */
};

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static int64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* A raw GRE socket that lives in the namespace; the calling thread stays there. */
static void open_end(struct end *e)
{
	char path[128];
	int size = SOCKBUF;
	struct sockaddr_in sin = {.sin_family = AF_INET, .sin_addr = e->addr};

	snprintf(path, sizeof(path), "/var/run/netns/%s", e->ns);
	int ns = open(path, O_RDONLY | O_CLOEXEC);
	if (ns < 0 || setns(ns, CLONE_NEWNET) < 0)
		die(path);
	close(ns);
	e->fd = socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_GRE);
	if (e->fd < 0 || bind(e->fd, (struct sockaddr *)&sin, sizeof(sin)) < 0)
		die("raw socket");
	setsockopt(e->fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size));
	setsockopt(e->fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size));
}

static void *send_all(void *arg)
{
	struct rig *r = arg;
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr = r->to.addr};
	uint8_t packet[OUTER_MAX] = {0, 0, 0x08, 0x00, 0x45};
	uint16_t inner = htons((uint16_t)(r->size - 24));
	struct iovec iov = {packet, r->size - 20};
	struct mmsghdr mm[BATCH] = {0};

	open_end(&r->from);
	if (connect(r->from.fd, (struct sockaddr *)&to, sizeof(to)) < 0)
		die("connect");
	memcpy(packet + 6, &inner, sizeof(inner));
	for (int i = 0; i < BATCH; i++) {
		mm[i].msg_hdr.msg_iov = &iov;
		mm[i].msg_hdr.msg_iovlen = 1;
	}
	while (!atomic_load(&r->stop))
		if (sendmmsg(r->from.fd, mm, BATCH, 0) < 0 && errno != ENOBUFS)
			die("sendmmsg");
	close(r->from.fd);
	return NULL;
}

static void *receive_all(void *arg)
{
	static uint8_t buf[BATCH][OUTER_MAX];
	struct rig *r = arg;
	struct iovec iov[BATCH];
	struct mmsghdr mm[BATCH] = {0};
	struct timeval second = {.tv_sec = 1};
	int64_t begin = now_ns();
	int64_t from = 0;
	int64_t now;
	uint64_t count = 0;

	open_end(&r->to);
	setsockopt(r->to.fd, SOL_SOCKET, SO_RCVTIMEO, &second, sizeof(second));
	for (int i = 0; i < BATCH; i++) {
		iov[i] = (struct iovec){buf[i], sizeof(buf[i])};
		mm[i].msg_hdr.msg_iov = &iov[i];
		mm[i].msg_hdr.msg_iovlen = 1;
	}
	do {
		int n = recvmmsg(r->to.fd, mm, BATCH, MSG_WAITFORONE, NULL);
		now = now_ns();
		if (n < 0 && errno != EAGAIN)
			die("recvmmsg");
		if (from && n > 0)
			count += (uint64_t)n;
		else if (!from && now - begin > WARM_UP_NS)
			from = now;
	} while (!from || (double)(now - from) < r->seconds * 1e9);
	r->rate = (double)count * 1e9 / (double)(now - from);
	atomic_store(&r->stop, true);
	close(r->to.fd);
	return NULL;
}

int main(int argc, char **argv)
{
	struct rig r = {0};
	pthread_t a, b;

	if (argc != 7 || !inet_aton(argv[3], &r.from.addr) || !inet_aton(argv[4], &r.to.addr)) {
		fprintf(stderr, "usage: rawlim A B FROM TO SIZE SECONDS\n");
		return 2;
	}
	r.from.ns = argv[1];
	r.to.ns = argv[2];
	r.size = (uint32_t)strtoul(argv[5], NULL, 10);
	r.seconds = strtod(argv[6], NULL);
	if (r.size < OUTER_MIN || r.size > OUTER_MAX || r.seconds <= 0) {
		fprintf(stderr, "rawlim: SIZE is %d to %d, SECONDS above 0\n", OUTER_MIN, OUTER_MAX);
		return 2;
	}
	if (pthread_create(&b, NULL, receive_all, &r) || pthread_create(&a, NULL, send_all, &r))
		die("pthread_create");
	pthread_join(a, NULL);
	pthread_join(b, NULL);
	printf("%.0f\n", r.rate);
	return r.rate > 0 ? 0 : 1;
}
