/* SPDX-License-Identifier: GPL-2.0-or-later */
/* base_addr_test.c - text of addresses and prefixes, what a prefix covers, tuples. */
#include "gateway/base/addr.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static const struct {
	const char *text;
	int err;
	const char *out; /* NULL: the same */
	bool is4;
} addrs[] = {
	{"10.0.1.2", 0, NULL, true},
	{"0.0.0.0", 0, NULL, true},
	{"255.255.255.255", 0, NULL, true},
	{"fd00::1", 0, NULL, false},
	{"::", 0, NULL, false},
	{"2001:DB8::0:1", 0, "2001:db8::1", false},
	{"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", 0, NULL, false},
	{"::ffff:10.0.0.1", -EINVAL, NULL, false},
	{"::ffff:a00:1", -EINVAL, NULL, false},
	{"", -EINVAL, NULL, false},
	{"10.0.1", -EINVAL, NULL, false},
	{"10.0.1.256", -EINVAL, NULL, false},
	{" 10.0.1.2", -EINVAL, NULL, false},
	{"10.0.1.2 ", -EINVAL, NULL, false},
	{"010.0.1.2", -EINVAL, NULL, false},
	{"fe80::1%eth0", -EINVAL, NULL, false},
	{"fd00:::1", -EINVAL, NULL, false},
	{"example.net", -EINVAL, NULL, false},
};

static void test_addr(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(addrs) / sizeof(addrs[0]); i++) {
		char buf[ADDR_STRLEN];
		struct addr a;

		assert_int_equal(addr_parse(addrs[i].text, &a), addrs[i].err);
		if (addrs[i].err)
			continue;
		assert_int_equal(addr_is4(&a), addrs[i].is4);
		assert_string_equal(addr_str(&a, buf), addrs[i].out ? addrs[i].out : addrs[i].text);
	}
}

static const struct {
	const char *text;
	int err, len; /* len as in the text's family */
	const char *out;
} prefixes[] = {
	{"10.0.1.0/24", 0, 24, "10.0.1.0/24"},
	{"0.0.0.0/0", 0, 0, "0.0.0.0/0"},
	{"10.0.1.2/32", 0, 32, "10.0.1.2/32"},
	{"::/0", 0, 0, "::/0"},
	{"fd00::/8", 0, 8, "fd00::/8"},
	{"fd00::1/128", 0, 128, "fd00::1/128"},
	{"10.0.1.7/24", -EDOM, 24, "10.0.1.0/24"},
	{"10.0.1.7/31", -EDOM, 31, "10.0.1.6/31"},
	{"255.255.255.255/0", -EDOM, 0, "0.0.0.0/0"},
	{"fd00::1/127", -EDOM, 127, "fd00::/127"},
	{"fd00::1/64", -EDOM, 64, "fd00::/64"},
	{"10.0.1.0/33", -ERANGE, 0, NULL},
	{"fd00::/129", -ERANGE, 0, NULL},
	{"10.0.1.0/1000", -ERANGE, 0, NULL},
	{"10.0.1.0/99999999999999999999", -ERANGE, 0, NULL},
	{"10.0.1.0", -EINVAL, 0, NULL},
	{"10.0.1.0/", -EINVAL, 0, NULL},
	{"/24", -EINVAL, 0, NULL},
	{"10.0.1.0/ 24", -EINVAL, 0, NULL},
	{"10.0.1.0/-1", -EINVAL, 0, NULL},
	{"10.0.1.0/+8", -EINVAL, 0, NULL},
	{"10.0.1.0/24/8", -EINVAL, 0, NULL},
	{"10.0.1.0/0x8", -EINVAL, 0, NULL},
	{"::ffff:10.0.0.0/104", -EINVAL, 0, NULL},
	{"1111111111111111111111111111111111111111111111111111/8", -EINVAL, 0, NULL},
};

static void test_prefix(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(prefixes) / sizeof(prefixes[0]); i++) {
		char buf[PREFIX_STRLEN], text[ADDR_STRLEN + 4];
		struct addr host;
		struct prefix p, net;

		assert_int_equal(prefix_parse(prefixes[i].text, &p), prefixes[i].err);
		if (!prefixes[i].out)
			continue;
		assert_string_equal(prefix_str(&p, buf), prefixes[i].out);
		assert_int_equal(p.len, prefixes[i].len + (addr_is4(&p.a) ? 96 : 0));
		assert_int_equal(prefix_parse_host(prefixes[i].text, &host, &net), 0);
		assert_true(prefix_eq(&p, &net));
		addr_str(&host, text);
		assert_memory_equal(text, prefixes[i].text, strlen(text));
	}
}

static const struct {
	const char *prefix, *addr;
	bool has;
} members[] = {
	{"10.0.1.0/24", "10.0.1.0", true},
	{"10.0.1.0/24", "10.0.1.255", true},
	{"10.0.1.0/24", "10.0.2.0", false},
	{"10.0.1.6/31", "10.0.1.7", true},
	{"10.0.1.6/31", "10.0.1.8", false},
	{"10.0.1.2/32", "10.0.1.2", true},
	{"10.0.1.2/32", "10.0.1.3", false},
	{"128.0.0.0/1", "255.0.0.1", true},
	{"128.0.0.0/1", "127.0.0.1", false},
	{"0.0.0.0/0", "203.0.113.1", true},
	{"0.0.0.0/0", "2001:db8::1", false},
	{"0.0.0.0/0", "::", false},
	{"::/0", "2001:db8::1", true},
	{"::/0", "10.0.1.2", false}, /* the form holds IPv4 inside ::/0, the meaning does not */
	{"::/80", "10.0.1.2", false},
	{"fd00::/8", "fdff:ffff::1", true},
	{"fd00::/8", "fe00::1", false},
	{"2001:db8::/33", "2001:db8:7fff::1", true},
	{"2001:db8::/33", "2001:db8:8000::1", false},
};

static void test_prefix_has(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(members) / sizeof(members[0]); i++) {
		struct prefix p;
		struct addr a;

		assert_int_equal(prefix_parse(members[i].prefix, &p), 0);
		assert_int_equal(addr_parse(members[i].addr, &a), 0);
		if (prefix_has(&p, &a) != members[i].has)
			fail_msg("%s in %s", members[i].addr, members[i].prefix);
	}
}

static const struct {
	const char *a, *b;
	bool overlap;
} pairs[] = {
	{"10.0.0.0/8", "10.1.0.0/16", true},
	{"10.0.0.0/16", "10.1.0.0/16", false},
	{"10.1.0.0/16", "10.1.0.0/16", true},
	{"0.0.0.0/0", "10.1.0.0/16", true},
	{"::/0", "10.1.0.0/16", false},
	{"::/0", "0.0.0.0/0", false},
	{"::/0", "fd00::/8", true},
	{"fd00::/9", "fd80::/9", false},
};

static void test_prefix_overlap(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
		struct prefix a, b;

		assert_int_equal(prefix_parse(pairs[i].a, &a), 0);
		assert_int_equal(prefix_parse(pairs[i].b, &b), 0);
		assert_int_equal(prefix_overlap(&a, &b), pairs[i].overlap);
		assert_int_equal(prefix_overlap(&b, &a), pairs[i].overlap);
	}
}

static void test_tuple_turned(void **state)
{
	struct tuple t = {.sport = 1, .dport = 2, .proto = IPPROTO_TCP}, r, rr;

	(void)state;
	assert_int_equal(addr_parse("10.0.1.2", &t.src), 0);
	assert_int_equal(addr_parse("fd00::1", &t.dst), 0);
	r = tuple_turned(&t);
	rr = tuple_turned(&r);
	assert_true(addr_eq(&r.src, &t.dst) && addr_eq(&r.dst, &t.src));
	assert_true(r.sport == 2 && r.dport == 1 && r.proto == IPPROTO_TCP);
	assert_memory_equal(&t, &rr, sizeof(t));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_addr),
		cmocka_unit_test(test_prefix),
		cmocka_unit_test(test_prefix_has),
		cmocka_unit_test(test_prefix_overlap),
		cmocka_unit_test(test_tuple_turned),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
