/* SPDX-License-Identifier: GPL-2.0-or-later */
/* delay.c - a long line between two Ethernet interfaces: each frame that comes in by one leaves by the other later.
 *
 *	delay --between A,B --ms N
 *
 * Order is kept, nothing is changed and nothing is lost: a frame that cannot be kept or sent makes it fail. For machines
 * whose kernel has no netem. The interfaces belong to it alone, and have no offloads. Prints "ready"; at the end
 * (SIGTERM) the frames that passed, as JSON.
 */
#include "test/tools/tool.h"

#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define FRAMES    8192u /* under way, each direction */
#define FRAME_MAX 2048u
#define BUFFER    (16 << 20)

struct frame {
	uint64_t due_ms;
	size_t len;
	uint8_t data[FRAME_MAX];
};

struct way {
	int in, out;
	struct frame *frames; /* a ring */
	unsigned first, count;
	uint64_t passed;
};

static int packet_socket(const char *dev)
{
	struct sockaddr_ll sa = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL)};
	struct packet_mreq promiscuous = {.mr_type = PACKET_MR_PROMISC};
	int size = BUFFER, on = 1;

	sa.sll_ifindex = promiscuous.mr_ifindex = (int)if_nametoindex(dev);
	if (!sa.sll_ifindex)
		fail_errno("interface %s", dev);
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0 || setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &on, sizeof(on)) < 0 ||
		setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size)) < 0 ||
		setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size)) < 0 ||
		bind(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 ||
		setsockopt(fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &promiscuous, sizeof(promiscuous)) < 0)
		fail_errno("packet socket on %s", dev);
	return fd;
}

static void take(struct way *w, uint64_t ms)
{
	for (;;) {
		if (w->count == FRAMES)
			fail("more than %u frames are under way", FRAMES);
		struct frame *f = &w->frames[(w->first + w->count) % FRAMES];
		ssize_t n = recv(w->in, f->data, FRAME_MAX, MSG_TRUNC);
		if (n < 0 && (errno == EAGAIN || errno == ENETDOWN))
			return;
		if (n < 0)
			fail_errno("recv");
		if ((size_t)n > FRAME_MAX)
			fail("a frame of %zd octets: offloads are on", n);
		f->len = (size_t)n;
		f->due_ms = now_ms() + ms;
		w->count++;
	}
}

/* Sends what is due; returns for how many milliseconds nothing will be, -1: nothing is under way. */
static int give(struct way *w)
{
	uint64_t now = now_ms();

	while (w->count) {
		const struct frame *f = &w->frames[w->first];
		if (f->due_ms > now)
			return (int)(f->due_ms - now);
		if (send(w->out, f->data, f->len, 0) < 0 && errno != ENETDOWN)
			fail_errno("send of %zu octets", f->len);
		w->first = (w->first + 1) % FRAMES;
		w->count--;
		w->passed++;
	}
	return -1;
}

static uint64_t lost(int fd)
{
	struct tpacket_stats stats = {0};
	socklen_t len = sizeof(stats);

	getsockopt(fd, SOL_PACKET, PACKET_STATISTICS, &stats, &len);
	return stats.tp_drops;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {{"between", 1, NULL, 'b'}, {"ms", 1, NULL, 'm'}, {0}};
	char *between = NULL;
	uint64_t ms = 0;
	int opt;

	while ((opt = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (opt == 'b')
			between = optarg;
		else if (opt == 'm')
			ms = number(optarg, 60000);
		else
			return 1;
	}
	char *comma = between ? strchr(between, ',') : NULL;
	if (!comma)
		fail("--between A,B is needed");
	*comma = '\0';
	int a = packet_socket(between), b = packet_socket(comma + 1);
	struct way ways[2] = {{.in = a, .out = b}, {.in = b, .out = a}};
	for (unsigned i = 0; i < 2; i++)
		if (!(ways[i].frames = malloc(FRAMES * sizeof(struct frame))))
			fail("out of memory");
	stop_on_signals();
	printf("ready\n");
	fflush(stdout);
	while (!stop_asked()) {
		struct pollfd fds[2] = {{.fd = a, .events = POLLIN}, {.fd = b, .events = POLLIN}};
		int wait = 1000;
		for (unsigned i = 0; i < 2; i++) {
			int next = give(&ways[i]);
			if (next >= 0 && next < wait)
				wait = next;
		}
		if (poll(fds, 2, wait) < 0 && errno != EINTR)
			fail_errno("poll");
		for (unsigned i = 0; i < 2; i++)
			take(&ways[i], ms);
	}
	uint64_t dropped = lost(a) + lost(b);
	printf("{\"there\":%llu,\"back\":%llu,\"dropped\":%llu}\n", (unsigned long long)ways[0].passed,
		(unsigned long long)ways[1].passed, (unsigned long long)dropped);
	free(ways[0].frames);
	free(ways[1].frames);
	return dropped ? 1 : 0;
}
