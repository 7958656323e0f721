/* SPDX-License-Identifier: GPL-2.0-or-later */
/* gateway_configover_test.c - GRE tunnels that travel in ipsec tunnels, and the size of packets in both. */
#include "test/unit/config_text.h"

/* ---- GRE over IPsec -------------------------------------------------------------------------------- */

static void over(void **state)
{
	static const struct bad_case bad[] = {
		{T("g", "203.0.113.1") OVER_A, "x.conf:5: [tunnel g] over: there is no tunnel \"a\"; "
					       "expected the name of a tunnel of "
					       "type ipsec"},
		{A OVER_A,
			"x.conf:5: [tunnel a] over: this is tunnel \"a\"; expected the name of a tunnel of "
			"type ipsec"},
		{A T("g", "203.0.113.9") OVER_A, "x.conf:9: [tunnel g] over: tunnel \"a\" is of type gre; "
						 "expected the name of one of type "
						 "ipsec"},
		{I "mode = transport\n" G("198.51.100.2", "203.0.113.2"),
			"x.conf:9: [tunnel g] local: tunnel \"a\" is in transport mode and has another local "
			"address; expected 198.51.100.1\n"
			"x.conf:10: [tunnel g] remote: tunnel \"a\" is in transport mode and has another "
			"remote "
			"address; expected 203.0.113.1"},
		{I "local_ts = 10.0.0.0/8\nremote_ts = 10.0.0.0/8, fd00::/64\n" G("10.0.0.1", "11.0.0.1"),
			"x.conf:11: [tunnel g] remote: 11.0.0.1 is not in remote_ts of tunnel \"a\"; "
			"expected an "
			"address of these"},
		{I "local_ts = 10.0.0.0/8\nremote_ts = 10.0.0.0/8\n" G("11.0.0.1", "10.0.0.2"),
			"x.conf:10: [tunnel g] local: 11.0.0.1 is not in local_ts of tunnel \"a\"; expected "
			"an "
			"address of these"},
		{I G("10.0.0.1", "any"), "x.conf:9: [tunnel g] remote: \"any\" needs type = ipsec; ..."},
		/* equal endpoints in one tunnel */
		{I G("10.0.0.1",
			 "10.0.0.2") "[tunnel h]\ntype = gre\nlocal = 10.0.0.1\nremote = 10.0.0.2\n" OVER_A,
			"x.conf:14: [tunnel h] remote: local, remote and the missing gre_key are those of "
			"tunnel g "
			"at x.conf:6; expected a gre_key that tells them apart"},
		/* in transport mode addresses tell nothing apart */
		{ANY("a") "remote_id = x\nmode = transport\n" G("198.51.100.1", "203.0.113.1")
				T("h", "203.0.113.2") OVER_A,
			"x.conf:17: [tunnel h] over: in transport mode only keys differ, and the missing "
			"gre_key is that of tunnel g at x.conf:8; expected a gre_key that tells them apart"},
		{ANY("a") "remote_id = x\nmode = transport\n" G("198.51.100.1",
			 "203.0.113.1") "gre_key = 7\n" T("h", "203.0.113.2") OVER_A "gre_key = 7\n",
			"x.conf:18: [tunnel h] over: in transport mode only keys differ, and gre_key is that "
			"of tunnel g at x.conf:8; expected a gre_key that tells them apart"},
		{I "mtu = 599\n" G("10.0.0.1", "10.0.0.2"), "x.conf:11: [tunnel g] over: the mtu of \"a\" "
							    "leaves 575 octets for inner packets; ..."},
	};
	static const struct good_case good_cases[] = {
		{I G("10.0.0.1", "10.0.0.2"), NULL},
		{G("10.0.0.1", "10.0.0.2") I, NULL},
		/* the same endpoints in the clear, and in another tunnel */
		{I G("10.0.0.1", "10.0.0.2") "[tunnel h]\ntype = gre\nlocal = 10.0.0.1\nremote = 10.0.0.2\n",
			NULL},
		{I G("10.0.0.1", "10.0.0.2") J
			"[tunnel h]\ntype = gre\nlocal = 10.0.0.1\nremote = 10.0.0.2\nover = b\n",
			NULL},
		{I "mode = transport\n" G("198.51.100.1", "203.0.113.1"), NULL},
		{ANY("a") "remote_id = x\nmode = transport\n" G("198.51.100.1", "203.0.113.77"), NULL},
		{ANY("a") "remote_id = x\nmode = transport\n" G(
			 "198.51.100.1", "203.0.113.77") "gre_key = 1\n" T("h", "203.0.113.77") OVER_A,
			NULL},
		{I "mode = transport\n" G("198.51.100.1",
			 "203.0.113.1") "gre_key = 1\n"
					"[tunnel h]\ntype = gre\nlocal = 198.51.100.1\nremote = "
					"203.0.113.1\ngre_key = 2\n" OVER_A,
			NULL},
		{I "mtu = 1400\n" G("10.0.0.1", "10.0.0.2") "mtu = 1377\n",
			"x.conf:12: [tunnel g] mtu: 1377 octets and their headers do not fit into the mtu of "
			"tunnel "
			"\"a\"\n"},
		{I "mtu = 1400\n" G("10.0.0.1", "10.0.0.2") "mtu = 1376\n", NULL},
	};
	struct config *c = good(G("10.0.0.1", "10.0.0.2") I);

	(void)state;
	assert_string_equal(c->tunnels[1].over, "a");
	config_free(c);
	CHECK_BAD(bad);
	CHECK_GOOD(good_cases);
}

/* ---- the size of packets --------------------------------------------------------------------------- */

/* All octets of what is sent for an inner packet of n, by the layout of RFC 4303 and 3948 alone. */
static uint32_t on_the_wire(uint32_t ip, uint32_t iv, uint32_t icv, uint32_t align, uint32_t n)
{
	uint32_t text = (n + 2 + align - 1) / align * align;

	return ip + 8 + 8 + iv + text + icv;
}

static void sizes(void **state)
{
	static const struct {
		const char *esp; /* NULL: the default */
		bool six;
		uint32_t iv, icv, align; /* of the worst of them */
	} cases[] = {
		{"aes256gcm16", false, 8, 16, 4},
		{"aes128gcm16-esn", true, 8, 16, 4},
		{"chacha20poly1305-ecp384", false, 8, 16, 4},
		{"aes128-sha256", false, 16, 16, 16},
		{"aes256-sha384-ecp384", true, 16, 24, 16},
		{"aes256-sha512-ecp384", false, 16, 32, 16},
		{"aes128-sha1-modp2048", false, 16, 12, 16},
		{"aes256gcm16, aes256-sha512", false, 16, 32, 16},
		{"aes256-sha512, aes256gcm16", true, 16, 32, 16},
		{NULL, false, 16, 16, 16},
		{NULL, true, 16, 16, 16},
	};
	struct config *c;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		uint32_t ip = cases[i].six ? 40 : 20, mtu;
		char text[512];

		snprintf(text, sizeof(text),
			"[tunnel a]\ntype = ipsec\nlocal = %s1\nremote = %s2\npsk = 12345678\n%s%s\n",
			cases[i].six ? "2001:db8::" : "192.0.2.", cases[i].six ? "2001:db8::" : "192.0.2.",
			cases[i].esp ? "esp_proposals = " : "", cases[i].esp ? cases[i].esp : "");
		c = good(text);
		mtu = c->tunnels[0].mtu;
		if (on_the_wire(ip, cases[i].iv, cases[i].icv, cases[i].align, mtu) > 1500 ||
			on_the_wire(ip, cases[i].iv, cases[i].icv, cases[i].align, mtu + 1) <= 1500)
			fail_msg("%s: mtu %u", cases[i].esp ? cases[i].esp : "default", mtu);
		assert_int_equal(conf_esp_mtu(&c->tunnels[0], 1500), mtu);
		assert_int_equal(conf_esp_mtu(&c->tunnels[0], ip + 8), 0);
		assert_int_equal(conf_esp_mtu(&c->tunnels[0], 0), 0);
		config_free(c);
	}

	/* GRE in tunnel mode, with a key, and in transport mode */
	c = good(I "esp_proposals = aes256gcm16\n" G("10.0.0.1", "10.0.0.2") "gre_key = 1\n");
	assert_int_equal(c->tunnels[0].mtu, 1438);
	assert_int_equal(c->tunnels[1].mtu, 1438 - 20 - 8);
	config_free(c);
	c = good(I "esp_proposals = aes256gcm16\nmode = transport\n" G("198.51.100.1", "203.0.113.1"));
	assert_int_equal(c->tunnels[0].mtu, 1438);
	assert_int_equal(c->tunnels[1].mtu, 1438 - 4);
	config_free(c);
	c = good(I "esp_proposals = aes256gcm16\n" G("fd00::1", "fd00::2"));
	assert_int_equal(c->tunnels[1].mtu, 1438 - 40 - 4);
	config_free(c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(over),
		cmocka_unit_test(sizes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
