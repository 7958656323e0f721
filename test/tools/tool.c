/* SPDX-License-Identifier: GPL-2.0-or-later */
/* tool.c - what the test tools share. */
#include "test/tools/tool.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

void fail(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	exit(1);
}

void fail_errno(const char *fmt, ...)
{
	int e = errno;
	va_list ap;

	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fprintf(stderr, ": %s\n", strerror(e));
	exit(1);
}

void tag_put(uint8_t out[static TAG_BLOCK], const struct tag *t)
{
	put32(out, t->mark);
	put32(out + 4, t->tag);
	put32(out + 8, t->a);
	put32(out + 12, t->b);
}

void tag_get(const uint8_t in[static TAG_BLOCK], struct tag *t)
{
	t->mark = get32(in);
	t->tag = get32(in + 4);
	t->a = get32(in + 8);
	t->b = get32(in + 12);
}

int netns_open(const char *name)
{
	char path[256];

	snprintf(path, sizeof(path), "/run/netns/%s", name);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		fail_errno("network namespace %s", name);
	return fd;
}

void netns_enter(int fd)
{
	if (setns(fd, CLONE_NEWNET) < 0)
		fail_errno("setns");
}

int netns_here(void)
{
	int fd = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		fail_errno("/proc/self/ns/net");
	return fd;
}

uint64_t number(const char *s, uint64_t max)
{
	char *end;

	errno = 0;
	uint64_t v = strtoull(s, &end, 0);
	if (errno || end == s || *end != '\0' || *s == '-' || v > max)
		fail("not a number up to %llu: %s", (unsigned long long)max, s);
	return v;
}

char *option_next(char **list, char **value)
{
	static char nothing[1];
	char *item = strsep(list, ",");

	if (!item || *item == '\0')
		return NULL;
	char *eq = strchr(item, '=');
	*value = nothing;
	if (eq) {
		*eq = '\0';
		*value = eq + 1;
	}
	return item;
}

socklen_t address(const char *text, uint16_t port, struct sockaddr_storage *out)
{
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(port)};
	struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};

	memset(out, 0, sizeof(*out));
	if (inet_pton(AF_INET, text, &in.sin_addr) == 1) {
		memcpy(out, &in, sizeof(in));
		return sizeof(in);
	}
	if (inet_pton(AF_INET6, text, &in6.sin6_addr) == 1) {
		memcpy(out, &in6, sizeof(in6));
		return sizeof(in6);
	}
	fail("not an address: %s", text);
}

uint64_t sum16(const uint8_t *p, size_t n)
{
	uint64_t sum = 0;

	for (; n > 1; n -= 2, p += 2)
		sum += get16(p);
	if (n)
		sum += (uint64_t)p[0] << 8;
	return sum;
}

uint16_t fold16(uint64_t sum)
{
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)sum;
}

uint16_t get16(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}

uint32_t get32(const uint8_t *p)
{
	return (uint32_t)get16(p) << 16 | get16(p + 2);
}

void put16(uint8_t *p, uint16_t v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

void put32(uint8_t *p, uint32_t v)
{
	put16(p, (uint16_t)(v >> 16));
	put16(p + 2, (uint16_t)v);
}

uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

uint64_t now_ms(void)
{
	return now_ns() / 1000000;
}

static volatile sig_atomic_t stopped;

static void on_signal(int sig)
{
	(void)sig;
	stopped = 1;
}

void stop_on_signals(void)
{
	struct sigaction sa = {.sa_handler = on_signal}; /* no SA_RESTART: waits end with EINTR */

	sigaction(SIGTERM, &sa, NULL);
	sigaction(SIGINT, &sa, NULL);
	signal(SIGPIPE, SIG_IGN);
}

bool stop_asked(void)
{
	return stopped;
}
