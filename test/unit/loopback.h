/* SPDX-License-Identifier: GPL-2.0-or-later */
/* loopback.h - a network namespace for tests of sockets, and packets as others would send them.
 *
 *	[ lo, MTU 1500: 127.0.0.1 and 127.0.0.2, fd00::1 and fd00::2 ]
 *
 * One socket sends to itself: what goes out of the first address for the second comes in again. Needs root.
 */
#ifndef ARRD_TEST_LOOPBACK_H
#define ARRD_TEST_LOOPBACK_H

#include "gateway/base/be.h"
#include "test/unit/packet.h"

#include <errno.h>
#include <linux/ipv6.h>
#include <net/if.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#define MTU 1500

static const struct family {
	int af;
	const char *local, *remote, *reporter, *unreachable, *foreign;
	uint32_t overhead; /* of the outer header */
} families[] = {
	{AF_INET, "127.0.0.1", "127.0.0.2", "127.0.0.9", "192.0.2.1", "198.51.100.9", 20},
	{AF_INET6, "fd00::1", "fd00::2", "fd00::2", "2001:db8::1", "2001:db8::9", 40},
};

/* A new address may be used when the kernel's work queue has looked at it, also on the loopback device. */
static inline void wait_for_address(const struct addr *a)
{
	struct sockaddr_in6 sin = {.sin6_family = AF_INET6};
	bool bound = false;

	memcpy(&sin.sin6_addr, a->b, 16);
	for (int i = 0; i < 5000 && !bound; i++) {
		int s = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);

		bound = bind(s, (struct sockaddr *)&sin, sizeof(sin)) == 0;
		close(s);
		if (!bound)
			usleep(1000);
	}
	assert_true(bound);
}

/* Makes the namespace, for the process. Returns whether it could: as root. */
static inline bool loopback_make(const char *test)
{
	struct ifreq ifr = {.ifr_name = "lo"};
	int s4, s6, index;

	if (unshare(CLONE_NEWNET) < 0) {
		fprintf(stderr, "%s: SKIPPED, cannot make a network namespace (not root?)\n", test);
		return false;
	}
	s4 = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	s6 = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	assert_true(s4 >= 0 && s6 >= 0);
	ifr.ifr_flags = IFF_UP | IFF_LOOPBACK | IFF_RUNNING;
	assert_int_equal(ioctl(s4, SIOCSIFFLAGS, &ifr), 0);
	ifr.ifr_mtu = MTU;
	assert_int_equal(ioctl(s4, SIOCSIFMTU, &ifr), 0);
	index = (int)if_nametoindex("lo");
	for (unsigned i = 1; i <= 2; i++) {
		struct in6_ifreq r = {.ifr6_prefixlen = 128, .ifr6_ifindex = index};
		struct addr a = test_addr(i == 1 ? "fd00::1" : "fd00::2");

		memcpy(&r.ifr6_addr, a.b, 16);
		assert_int_equal(ioctl(s6, SIOCSIFADDR, &r), 0);
		wait_for_address(&a);
	}
	close(s4);
	close(s6);
	return true;
}

/* Sends octets behind an outer header, as they are, from f->local to f->remote. */
static inline void send_raw(const struct family *f, uint8_t proto, const uint8_t *b, size_t n)
{
	struct addr to = test_addr(f->remote), from = test_addr(f->local);
	int s = socket(f->af, SOCK_RAW | SOCK_CLOEXEC, proto);

	assert_true(s >= 0);
	if (f->af == AF_INET) {
		struct sockaddr_in src = {.sin_family = AF_INET, .sin_addr.s_addr = from.w[3]};
		struct sockaddr_in dst = {.sin_family = AF_INET, .sin_addr.s_addr = to.w[3]};

		assert_int_equal(bind(s, (struct sockaddr *)&src, sizeof(src)), 0);
		assert_int_equal(sendto(s, b, n, 0, (struct sockaddr *)&dst, sizeof(dst)), n);
	} else {
		struct sockaddr_in6 src = {.sin6_family = AF_INET6}, dst = src;

		memcpy(&src.sin6_addr, from.b, 16);
		memcpy(&dst.sin6_addr, to.b, 16);
		assert_int_equal(bind(s, (struct sockaddr *)&src, sizeof(src)), 0);
		assert_int_equal(sendto(s, b, n, 0, (struct sockaddr *)&dst, sizeof(dst)), n);
	}
	close(s);
}

/* Sends an ICMP error from the reporter to f->local about a packet to f->remote that begins with n octets, at most 64, behind the
 * outer header. */
static inline void send_icmp(const struct family *f, uint8_t type, uint8_t code, uint32_t mtu, uint8_t proto,
	const uint8_t *quote, uint32_t n)
{
	struct addr from = test_addr(f->reporter), to = test_addr(f->local), quoted_to = test_addr(f->remote);
	uint8_t b[128] = {type, code}, *q = b + 8;
	int s = socket(f->af, SOCK_RAW | SOCK_CLOEXEC, f->af == AF_INET ? IPPROTO_ICMP : IPPROTO_ICMPV6);
	uint32_t len = 8 + f->overhead + n;

	assert_true(s >= 0);
	be32_put(b + 4, mtu);
	memcpy(q + f->overhead, quote, n);
	if (f->af == AF_INET) {
		struct sockaddr_in src = {.sin_family = AF_INET, .sin_addr.s_addr = from.w[3]};
		struct sockaddr_in dst = {.sin_family = AF_INET, .sin_addr.s_addr = to.w[3]};

		q[0] = 0x45;
		be16_put(q + 2, 1400);
		q[8] = 60;
		q[9] = proto;
		memcpy(q + 12, &to.w[3], 4);
		memcpy(q + 16, &quoted_to.w[3], 4);
		packet_ip_csum(q);
		be16_put(b + 2, (uint16_t)~slow_sum(0, b, len));
		assert_int_equal(bind(s, (struct sockaddr *)&src, sizeof(src)), 0);
		assert_int_equal(sendto(s, b, len, 0, (struct sockaddr *)&dst, sizeof(dst)), len);
	} else {
		struct sockaddr_in6 src = {.sin6_family = AF_INET6}, dst = src;

		q[0] = 0x60;
		be16_put(q + 4, 1400);
		q[6] = proto;
		q[7] = 60;
		memcpy(q + 8, to.b, 16);
		memcpy(q + 24, quoted_to.b, 16);
		memcpy(&src.sin6_addr, from.b, 16);
		memcpy(&dst.sin6_addr, to.b, 16);
		assert_int_equal(bind(s, (struct sockaddr *)&src, sizeof(src)), 0);
		assert_int_equal(sendto(s, b, len, 0, (struct sockaddr *)&dst, sizeof(dst)), len);
	}
	close(s);
}

#endif
