/* SPDX-License-Identifier: GPL-2.0-or-later */
/* latency.c - round trips, one at a time.
 *
 * usage: latency echo ADDRESS COUNT	ICMP echo; who answers is a kernel, and this end never sleeps
 *        latency wake COUNT		from a write to an eventfd until the thread that slept on it runs, on another core
 *
 * Between two of them everybody has time to fall asleep. Prints the 50th and the 99th percentile in µs, and how many of COUNT
 * had no answer within a second. Needs CAP_NET_RAW.
 */
#include "test/tools/tool.h"

#include <arpa/inet.h>
#include <netinet/ip_icmp.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define PAUSE_NS   200000L
#define PATIENCE   1000000000u
#define COUNT_MAX  1000000
#define ECHO_LEN   64
#define IP_HDR_MAX 60

static void nap(void)
{
	nanosleep(&(struct timespec){.tv_nsec = PAUSE_NS}, NULL);
}

static void on_core(int core)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(core, &set);
	if (pthread_setaffinity_np(pthread_self(), sizeof(set), &set))
		fprintf(stderr, "latency: there is no core %d: not pinned\n", core);
}

static int by_size(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

	return (x > y) - (x < y);
}

static int report(int64_t *ns, unsigned n, unsigned lost)
{
	if (!n) {
		fprintf(stderr, "latency: no answer at all\n");
		return 1;
	}
	qsort(ns, n, sizeof(*ns), by_size);
	unsigned half = n / 2, high = (unsigned)((uint64_t)n * 99 / 100);
	printf("%.1f %.1f %u\n", (double)ns[half] / 1e3, (double)ns[high] / 1e3, lost);
	return 0;
}

/* Is there the answer to number seq of ours? */
static bool answered(int fd, uint16_t id, uint16_t seq)
{
	uint8_t b[IP_HDR_MAX + ECHO_LEN];
	struct icmphdr h;

	for (;;) {
		ssize_t n = recv(fd, b, sizeof(b), MSG_DONTWAIT);
		if (n < 0)
			return false;
		size_t at = (size_t)(b[0] & 15) * 4;
		if ((size_t)n < at + sizeof(h))
			continue;
		memcpy(&h, b + at, sizeof(h));
		if (h.type == ICMP_ECHOREPLY && h.un.echo.id == id && h.un.echo.sequence == seq)
			return true;
	}
}

static int echo(const char *to, int64_t *ns, unsigned count)
{
	struct sockaddr_in sin = {.sin_family = AF_INET};
	uint16_t id = (uint16_t)getpid();
	unsigned n = 0;
	int fd = socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_ICMP);

	if (fd < 0 || !inet_aton(to, &sin.sin_addr) || connect(fd, (struct sockaddr *)&sin, sizeof(sin)) < 0)
		fail_errno("%s", to);
	for (unsigned i = 0; i < count; i++) {
		uint8_t b[ECHO_LEN] = {0};
		struct icmphdr h = {.type = ICMP_ECHO, .un.echo = {.id = id, .sequence = (uint16_t)i}};
		bool got = false;

		memcpy(b, &h, sizeof(h));
		h.checksum = htons((uint16_t)~fold16(sum16(b, sizeof(b))));
		memcpy(b, &h, sizeof(h));
		nap();
		uint64_t begin = now_ns(), now = begin;
		if (send(fd, b, sizeof(b), 0) < 0)
			fail_errno("send");
		while (!got && now < begin + PATIENCE) {
			got = answered(fd, id, (uint16_t)i);
			now = now_ns();
		}
		if (got)
			ns[n++] = (int64_t)(now - begin);
	}
	close(fd);
	return report(ns, n, count - n);
}

struct sleeper {
	int fd;
	unsigned count;
	_Atomic uint64_t woke;
};

static void *sleeper(void *arg)
{
	struct sleeper *s = arg;
	uint64_t v;

	on_core(1);
	for (unsigned i = 0; i < s->count; i++) {
		struct pollfd p = {.fd = s->fd, .events = POLLIN};

		if (poll(&p, 1, -1) < 0)
			fail_errno("poll");
		atomic_store(&s->woke, now_ns());
		if (read(s->fd, &v, sizeof(v)) < 0)
			fail_errno("read");
	}
	return NULL;
}

static int wake(int64_t *ns, unsigned count)
{
	struct sleeper s = {.fd = eventfd(0, EFD_CLOEXEC), .count = count};
	uint64_t one = 1;
	pthread_t t;

	on_core(0);
	if (s.fd < 0 || pthread_create(&t, NULL, sleeper, &s))
		fail_errno("eventfd");
	for (unsigned i = 0; i < count; i++) {
		uint64_t begin, woke;

		nap();
		atomic_store(&s.woke, 0);
		begin = now_ns();
		if (write(s.fd, &one, sizeof(one)) < 0)
			fail_errno("write");
		while (!(woke = atomic_load(&s.woke)))
			;
		ns[i] = (int64_t)(woke - begin);
	}
	pthread_join(t, NULL);
	close(s.fd);
	return report(ns, count, 0);
}

int main(int argc, char **argv)
{
	bool wakes = argc == 3 && strcmp(argv[1], "wake") == 0,
	     echoes = argc == 4 && strcmp(argv[1], "echo") == 0;
	uint64_t count = wakes || echoes ? number(argv[argc - 1], COUNT_MAX) : 0;
	int64_t *ns;
	int status;

	if (!count) {
		fprintf(stderr, "usage: latency echo ADDRESS COUNT | latency wake COUNT\n");
		return 2;
	}
	ns = calloc(count, sizeof(*ns));
	if (!ns)
		fail_errno("calloc");
	status = wakes ? wake(ns, (unsigned)count) : echo(argv[2], ns, (unsigned)count);
	free(ns);
	return status;
}
