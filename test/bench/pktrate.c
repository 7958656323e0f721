/* SPDX-License-Identifier: GPL-2.0-or-later */
/* pktrate.c - how many packets a second get from one socket to another.
 *
 *	sender [namespace A, address FROM] === ... === receiver [namespace B, address TO]
 *
 * usage: pktrate gre A B FROM TO SIZE SECONDS
 *        pktrate udp A B FROM TO SIZE SECONDS
 *        pktrate keys A TUNNELS FROM TO SIZE SECONDS
 *
 * gre: from raw socket to raw socket, the ceiling of a GRE endpoint that sends and receives packet by packet and does nothing
 * else. The payload is an IPv4 header around zeros, which no stack merges or answers. udp: through whatever lies between.
 * SIZE is that of the IPv4 packet: the outer one of GRE. Sender and receiver are threads, as two endpoints on two cores are.
 * Prints the packets a second that were received.
 *
 * keys: only sends, and prints how many a second: GRE with the keys 1 to TUNNELS by turns, around UDP from 10.0.0.5 to
 * 198.51.100.10, an IPv4 packet of SIZE.
 *
 * All work in batches of 64. Needs CAP_SYS_ADMIN (setns), CAP_NET_RAW, CAP_NET_ADMIN.
 */
#include "test/tools/tool.h"

#include <arpa/inet.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define BATCH      64
#define SOCKBUF    (8 << 20)
#define PACKET_MIN (20 + 8 + 20)
#define PACKET_MAX 9000
#define PORT       5001
#define WARM_UP_NS 300000000u

enum kind { GRE, UDP, KEYS, KINDS };
static const char *const kinds[KINDS] = {"gre", "udp", "keys"};

struct end {
	const char *ns;
	struct in_addr addr;
	int fd;
};

struct rig {
	enum kind kind;
	struct end from, to;
	uint32_t size, tunnels;
	double seconds;
	atomic_bool stop;
	double rate; /* packets a second */
};

static struct sockaddr_in name_of(const struct rig *r, const struct end *e)
{
	return (struct sockaddr_in){
		.sin_family = AF_INET, .sin_addr = e->addr, .sin_port = r->kind == UDP ? htons(PORT) : 0};
}

/* A socket that lives in the namespace; the calling thread stays there. */
static void open_end(const struct rig *r, struct end *e)
{
	int size = SOCKBUF;
	struct sockaddr_in sin = name_of(r, e);

	netns_enter(netns_open(e->ns));
	e->fd = r->kind == UDP ? socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)
			       : socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_GRE);
	if (e->fd < 0 || bind(e->fd, (struct sockaddr *)&sin, sizeof(sin)) < 0)
		fail_errno("socket");
	setsockopt(e->fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size));
	setsockopt(e->fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size));
}

/* GRE with a key, IPv4, UDP without a checksum. Returns its length. */
static size_t put_keyed(uint8_t *p, uint32_t size)
{
	static const uint8_t begin[] = {0x20, 0, 0x08, 0, 0, 0, 0, 0, 0x45, 0, 0, 0, 0, 0, 0x40, 0, 64,
		IPPROTO_UDP, 0, 0, 10, 0, 0, 5, 198, 51, 100, 10};

	memcpy(p, begin, sizeof(begin));
	put16(p + 10, (uint16_t)size);
	put16(p + 18, (uint16_t)~fold16(sum16(p + 8, 20)));
	put16(p + 28, 4000);
	put16(p + 30, PORT);
	put16(p + 32, (uint16_t)(size - 20));
	return 8 + size;
}

static void *send_all(void *arg)
{
	static uint8_t packet[BATCH][PACKET_MAX + 8];
	struct rig *r = arg;
	struct sockaddr_in to = name_of(r, &r->to);
	struct iovec iov[BATCH];
	struct mmsghdr mm[BATCH] = {0};
	uint64_t begin = now_ns();
	uint64_t sent = 0;
	int n;

	open_end(r, &r->from);
	if (connect(r->from.fd, (struct sockaddr *)&to, sizeof(to)) < 0)
		fail_errno("connect");
	for (int i = 0; i < BATCH; i++) {
		iov[i] = (struct iovec){packet[i], r->size - (r->kind == UDP ? 28 : 20)};
		if (r->kind == GRE) {
			memcpy(packet[i], "\0\0\x08\0\x45", 5);
			put16(packet[i] + 6, (uint16_t)(r->size - 24));
		} else if (r->kind == KEYS) {
			iov[i].iov_len = put_keyed(packet[i], r->size);
		}
		mm[i].msg_hdr.msg_iov = &iov[i];
		mm[i].msg_hdr.msg_iovlen = 1;
	}
	do {
		for (uint32_t i = 0; r->kind == KEYS && i < BATCH; i++)
			put16(packet[i] + 6, (uint16_t)((sent + i) % r->tunnels + 1));
		n = sendmmsg(r->from.fd, mm, BATCH, 0);
		if (n < 0 && errno != ENOBUFS)
			fail_errno("sendmmsg");
		sent += n > 0 ? (uint64_t)n : 0;
		if (r->kind == KEYS && (double)(now_ns() - begin) > r->seconds * 1e9)
			break;
	} while (!atomic_load(&r->stop));
	if (r->kind == KEYS)
		r->rate = (double)sent * 1e9 / (double)(now_ns() - begin);
	close(r->from.fd);
	return NULL;
}

static void *receive_all(void *arg)
{
	static uint8_t buf[BATCH][PACKET_MAX];
	struct rig *r = arg;
	struct iovec iov[BATCH];
	struct mmsghdr mm[BATCH] = {0};
	struct timeval second = {.tv_sec = 1};
	uint64_t begin = now_ns();
	uint64_t from = 0;
	uint64_t now;
	uint64_t count = 0;

	open_end(r, &r->to);
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
			fail_errno("recvmmsg");
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
	struct rig r = {.kind = KINDS};
	pthread_t a, b = 0;

	if (argc == 8)
		for (r.kind = 0; r.kind < KINDS && strcmp(kinds[r.kind], argv[1]) != 0; r.kind++)
			;
	if (r.kind == KINDS || !inet_aton(argv[4], &r.from.addr) || !inet_aton(argv[5], &r.to.addr)) {
		fprintf(stderr, "usage: pktrate gre|udp|keys A B|TUNNELS FROM TO SIZE SECONDS\n");
		return 2;
	}
	r.from.ns = argv[2];
	r.to.ns = argv[3];
	r.tunnels = r.kind == KEYS ? (uint32_t)number(argv[3], 65535) : 1;
	r.size = (uint32_t)number(argv[6], PACKET_MAX);
	r.seconds = strtod(argv[7], NULL);
	if (r.size < PACKET_MIN || r.seconds <= 0 || !r.tunnels)
		fail("SIZE is %d at least, SECONDS and TUNNELS are above 0", PACKET_MIN);
	if ((r.kind != KEYS && pthread_create(&b, NULL, receive_all, &r)) ||
		pthread_create(&a, NULL, send_all, &r))
		fail_errno("pthread_create");
	pthread_join(a, NULL);
	if (r.kind != KEYS)
		pthread_join(b, NULL);
	printf("%.0f\n", r.rate);
	return r.rate > 0 ? 0 : 1;
}
