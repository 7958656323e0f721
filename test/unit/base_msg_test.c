/* SPDX-License-Identifier: GPL-2.0-or-later */
/* base_msg_test.c - sending batches: whose an error is, and how often it is asked (the kernel is a script); and whether there is a way. */
#include "gateway/base/msg.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define SCRIPT 8

static struct {
	int result[SCRIPT]; /* of each call: messages, or -errno; the last one stays */
	unsigned n, calls;
} kernel;

/* In place of the system's. */
/* NOLINTNEXTLINE(readability-inconsistent-declaration-parameter-name) */
int sendmmsg(int fd, struct mmsghdr *m, unsigned n, int flags)
{
	int r = kernel.result[kernel.calls < kernel.n ? kernel.calls : kernel.n - 1];

	assert_int_equal(fd, 7);
	assert_non_null(m);
	assert_int_equal(n, 3);
	assert_true(flags & MSG_DONTWAIT);
	kernel.calls++;
	if (r > 0)
		return r;
	errno = -r;
	return -1;
}

static int send_three(void)
{
	struct mmsghdr m[3] = {{.msg_len = 0}};

	kernel.calls = 0;
	return msg_send(7, m, 3);
}

/* What can only be about the first message is said at once. */
static void errors_of_the_packet(void **state)
{
	static const int errors[] = {EAGAIN, EPERM, EINVAL, ENOBUFS, ENOMEM, EIO, EADDRNOTAVAIL, EAFNOSUPPORT,
		ENODEV, ENXIO, ENETDOWN, EDESTADDRREQ, EBADF, EFAULT};

	(void)state;
	for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
		kernel.n = 1;
		kernel.result[0] = -errors[i];
		assert_int_equal(send_three(), -errors[i]);
		assert_int_equal(kernel.calls, 1);
	}
}

/* What ICMP can have said of another packet is asked again, and believed in the end. */
static void errors_that_may_be_reports(void **state)
{
	static const int errors[] = {ENETUNREACH, EHOSTUNREACH, EHOSTDOWN, ENONET, ECONNREFUSED, ENOPROTOOPT,
		EOPNOTSUPP, EPROTO, EACCES, EMSGSIZE};

	(void)state;
	for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
		for (unsigned reports = 1; reports < 5; reports++) {
			kernel.n = reports + 1;
			for (unsigned k = 0; k < reports; k++)
				kernel.result[k] = -errors[i];
			kernel.result[reports] = 2;
			assert_int_equal(send_three(), reports < 3 ? 2 : -errors[i]);
			assert_int_equal(kernel.calls, reports < 3 ? reports + 1 : 3);
		}
	}
}

static void one_behind_the_other(void **state)
{
	static const struct {
		int result[SCRIPT];
		unsigned n;
		int want;
		unsigned calls;
	} rows[] = {
		{{3}, 1, 3, 1},
		{{-ECONNREFUSED, -EMSGSIZE, 3}, 3, 3, 3},
		{{-ECONNREFUSED, -EAGAIN, 3}, 3, -EAGAIN, 2},
		{{-EHOSTUNREACH, -EPERM, 3}, 3, -EPERM, 2},
		{{-EHOSTUNREACH, -ECONNREFUSED, -ENETUNREACH, 3}, 4, -ENETUNREACH, 3},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		memcpy(kernel.result, rows[i].result, sizeof(kernel.result));
		kernel.n = rows[i].n;
		assert_int_equal(send_three(), rows[i].want);
		assert_int_equal(kernel.calls, rows[i].calls);
	}
}

/* Of the machine's own addresses there is always one; from an address that is not there, none. */
static void ways(void **state)
{
	static const struct {
		const char *local, *remote;
		int want;
	} rows[] = {
		{"127.0.0.1", "127.0.0.1", 0},
		{"127.0.0.1", "127.1.2.3", 0},
		{"192.0.2.250", "127.0.0.1", -EADDRNOTAVAIL},
		{"2001:db8::250", "::1", -EADDRNOTAVAIL},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct addr local, remote;
		uint32_t mtu;
		int r;

		assert_int_equal(addr_parse(rows[i].local, &local), 0);
		assert_int_equal(addr_parse(rows[i].remote, &remote), 0);
		r = msg_way(&local, &remote, &mtu);
		if (r == -EAFNOSUPPORT) /* a machine without IPv6 */
			continue;
		assert_int_equal(r, rows[i].want);
		if (r == 0)
			assert_in_range(mtu, 1280, 1 << 20);
		else
			assert_int_equal(mtu, 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(errors_of_the_packet),
		cmocka_unit_test(errors_that_may_be_reports),
		cmocka_unit_test(one_behind_the_other),
		cmocka_unit_test(ways),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
