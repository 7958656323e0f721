/* SPDX-License-Identifier: GPL-2.0-or-later */
/* gateway_config_test.c - every error of a configuration, as tables. */
#include "test/unit/config_text.h"

#define TOP "x.conf:1: [tunnel a] "

static void lines(void **state)
{
	static const struct bad_case cases[] = {
		{"x = 1\n", "x.conf:1: the line stands in no section; expected a line such as [tunnel NAME] "
			    "before it"},
		/* a file that is a key and nothing else, by mistake among those of tunnels */
		{"wFhZ2Tq3kOaYbRcdEfGhIjKlMnOpQrStUvWxYz0123=\n",
			"x.conf:1: the line stands in no section; expected a line such as [tunnel NAME] "
			"before it"},
		{"SECRETSECRET99\n", "x.conf:1: the line is neither a section nor a key with a value; "
				     "expected KEY = VALUE"},
		{"secret\n", "x.conf:1: the line is neither a section nor a key with a value; expected KEY = "
			     "VALUE"},
		{"\n[bogus]\nx = 1\n", "x.conf:2: unknown section [bogus]; expected gateway, egress, flows, "
				       "ipsec, site NAME or tunnel NAME"},
		{"[]\n", "x.conf:1: unknown section []; expected gateway, egress, flows, ipsec, site NAME or "
			 "tunnel NAME"},
		{"[gateway\ntun = x\n", "x.conf:1: a section without an end; expected [NAME]"},
		{"[gateway] tun = x\n", "x.conf:1: there is text behind the section; expected [NAME] alone, "
					"or a blank and a ; comment"},
		{"[gateway];x\n", "x.conf:1: there is text behind the section; expected [NAME] alone, or a "
				  "blank and a ; comment"},
		{"[gateway x]\n", "x.conf:1: [gateway x] has a name; expected [gateway]"},
		{"[gateway]\n[flows]\n[gateway]\ntun = x\n",
			"x.conf:3: [gateway] was there in line 1; expected it once"},
		{"[egress wan]\nbogus = 1\n", "x.conf:1: [egress wan]: only the default egress exists in "
					      "this version; expected [egress]"},
		{"[site]\n", "x.conf:1: [site ]: this is not a name; expected 1 to 63 of A-Z a-z 0-9 _ . -"},
		{"[tunnel a/b]\n",
			"x.conf:1: [tunnel a/b]: this is not a name; expected 1 to 63 of A-Z a-z 0-9 _ . -"},
		{"[tunnel a b]\n",
			"x.conf:1: [tunnel a b]: this is not a name; expected 1 to 63 of A-Z a-z 0-9 _ . -"},
		{"[tunnel 0123456789012345678901234567890123456789012345678901234567890123]\n",
			"x.conf:1: [tunnel "
			"0123456789012345678901234567890123456789012345678901234567890123]: this is "
			"not a name; expected 1 to 63 of A-Z a-z 0-9 _ . -"},
		{"[site s]\nbogus = 1\n" A "site = s\n",
			"x.conf:2: [site s] bogus: there is no such option; expected one of max_flows"},
		{"[flows]\nmax\n", "x.conf:2: [flows]: \"max\" is neither a section nor a key with a value; "
				   "expected KEY = VALUE"},
		{"[flows]\nmax: 5000\n", "x.conf:2: [flows]: \"max\" and what follows is neither a section "
					 "nor a key with a value; expected KEY = VALUE"},
		{A "[flows]\nmax ; = 5000\n", "x.conf:6: [flows] max: has no value; expected KEY = VALUE"},
		{"[flows]\n= 5000\n",
			"x.conf:2: [flows] : there is no such option; expected one of max, ..."},
		{"[flows]\nmax =\n",
			"x.conf:2: [flows] max: has no value; expected a number, 1024 to 100000000"},
		{"[flows]\nmax = ; 5000\n",
			"x.conf:2: [flows] max: has no value; expected a number, 1024 to 100000000"},
		{"[flows]\nmax = 5000;6\n", "x.conf:2: [flows] max: \"5000;6\" is not valid; expected a "
					    "number, 1024 to 100000000"},
		{"[flows]\nmax = 5000\n\nmax = 5000\n",
			"x.conf:4: [flows] max: was there in line 2; expected it once"},
		/* an indented line is a line like any other, not part of the value before it */
		{A "routes = 10.1.0.0/16\n  10.2.0.0/16\n",
			"x.conf:6: [tunnel a]: the line is neither a section nor a key with a value; "
			"expected KEY = VALUE"},
		{"[flows]\nmax = 50\x01\n",
			"x.conf:2: [flows]: the line has a control character, 0x01; expected text"},
		{"[flows]\nmax = 5000\rx\n",
			"x.conf:2: [flows]: the line has a control character, 0x0d; expected text"},
		{"[flows]\nm\xc3\xa4x = 5000\n",
			"x.conf:2: [flows]: there is no such option; expected one of max, ..."},
		{"[flows]\nmax = 5\xe2\x82\xac\n",
			"x.conf:2: [flows] max: \"5???\" is not valid; expected a number, 1024 to 100000000"},
		{A "routes = 10.1.0.0/16,, 10.2.0.0/16\n",
			"x.conf:5: [tunnel a] routes: there is nothing between two "
			"commas; expected a list of prefixes ADDRESS/LEN"},
		/* a repeated list key: the line that is wrong is told, not the first one */
		{A "interface_address = 10.0.0.1/31\ninterface_address = 10.0.0.3/31\n",
			"x.conf:6: [tunnel a] interface_address: \"10.0.0.3/31\" is the second of its "
			"family; ..."},
	};

	(void)state;
	CHECK_BAD(cases);
}

#define MTU        " is not valid; expected a number, 1280 to 65520"
#define IFNAME     " is not valid; expected an interface name of 1 to 15 of A-Z a-z 0-9 _ . -"
#define SIZE       " is not valid; expected a size in octets, k, M or G, 65536 to 268435456"
#define NAT        " is not valid; expected masquerade, none, or ADDRESS[-ADDRESS]"
#define NOT_A_HOST " cannot be a host's address; expected a unicast address, neither loopback nor link-local"
#define PORT       " names no port; expected a number, 1 to 65535, behind the slash"
#define NETWORK                                                                                              \
	" is the address of the network itself, or its broadcast address; expected one of a host in it"
#define LENGTH                                                                                               \
	" has a prefix length that its family does not know; expected 0 to 32 for IPv4, 0 to 128 for IPv6"
#define POOL " is too large or too small; expected a length of 8 to 30 for IPv4, 16 to 120 for IPv6"
#define HOST " cannot be a host's address; expected a unicast address, neither loopback nor link-local"
#define TYPE ": tunnels of this type are not in this version; expected gre or ipsec"

/* One option with a bad value. The whole error is: its place, "value", and what. */
static const struct {
	const char *section, *key, *value, *what;
	const char *element; /* of a list: what is shown instead of the value */
} bad_values[] = {
	{"gateway", "tun", "arr/0", IFNAME},
	{"gateway", "tun", "arr%d", IFNAME},
	{"gateway", "tun", "0123456789abcdef", IFNAME},
	{"gateway", "tun", "..", IFNAME},
	{"gateway", "tun_mtu", "1279", MTU},
	{"gateway", "tun_mtu", "65521", MTU},
	{"gateway", "tun_mtu", "-1500", MTU},
	{"gateway", "tun_mtu", "0x", MTU},
	{"gateway", "tun_mtu", "0x5g", MTU},
	{"gateway", "tun_mtu", "4294968796", MTU},
	{"gateway", "tun_mtu", "18446744073709553116", MTU},
	{"gateway", "tun_mtu", "2k", MTU},
	{"gateway", "tun_address", "10.0.0.1",
		" is not an address with a prefix length; expected ADDRESS/LEN"},
	{"gateway", "control_socket", "arrd.sock",
		" is not valid; expected an absolute path of at most 107 octets"},
	{"gateway", "control_socket",
		"/xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
		"xxxxxxxxxxxxxxxx",
		" is not valid; expected an absolute path of at most 107 octets",
		"/xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"},
	{"gateway", "control_group", "a b", " is not valid; expected a name of 1 to 63 of A-Z a-z 0-9 _ . -"},
	{"gateway", "log_level", "loud", " is not valid; expected error, warning, notice, info or debug"},
	{"gateway", "socket_buffer", "1M2", SIZE},
	{"gateway", "socket_buffer", "1m", SIZE},
	{"gateway", "socket_buffer", "4194304G", SIZE},
	{"gateway", "socket_buffer", "1k", SIZE},
	{"gateway", "offload_uso", "maybe", " is not valid; expected yes or no"},
	{"egress", "interface", "arr0", " is arrd's own TUN; expected another interface"},
	{"egress", "nat", "yes", NAT},
	{"egress", "nat", "192.0.2.1-", NAT},
	{"egress", "nat", "-192.0.2.1", NAT},
	{"egress", "nat", "192.0.2.0/24", NAT},
	{"egress", "nat", "192.0.2.1-192.0.2.2-192.0.2.3", NAT},
	{"egress", "nat", "192.0.2.9-192.0.2.1", " ends before it begins; expected FIRST-LAST"},
	{"egress", "nat", "192.0.2.1-2001:db8::1", " has ends of two families; expected a range of one"},
	{"egress", "nat", "100.0.0.0-100.1.0.0", " is too large; expected at most 65536 addresses"},
	{"egress", "nat", "2001:db8::-2001:db8:0:1::", " is too large; expected at most 65536 addresses"},
	{"egress", "nat", "127.0.0.1", NOT_A_HOST},
	{"egress", "nat", "126.255.255.255-128.0.0.0", " is too large; expected at most 65536 addresses"},
	{"egress", "nat", "126.255.255.255-127.0.0.1", NOT_A_HOST},
	{"egress", "nat", "223.255.255.250-224.0.0.1", NOT_A_HOST},
	{"egress", "nat", "none, masquerade", " stands beside another; expected it alone", "masquerade"},
	{"egress", "nat", "192.0.2.1, none", " stands beside another; expected it alone", "none"},
	{"egress", "nat", "masquerade, 192.0.2.1",
		" stands beside masquerade or none; expected one or the other", "192.0.2.1"},
	{"egress", "nat", "192.0.2.1, 192.0.2.3",
		" is the second of its family; expected masquerade, none, or a list of at most one IPv4 and "
		"one IPv6 "
		"ADDRESS[-ADDRESS]",
		"192.0.2.3"},
	{"egress", "nat_share", "0", " is not valid; expected a number, 1 to 100"},
	{"egress", "nat_share", "101", " is not valid; expected a number, 1 to 100"},
	{"egress", "local_services", "tcp", " is not a service; expected icmp, tcp/PORT, udp/PORT or any"},
	{"egress", "local_services", "icmp, tcp/0", PORT, "tcp/0"},
	{"egress", "local_services", "udp/65536", PORT},
	{"egress", "local_services", "udp/5x", PORT},
	{"egress", "local_services", "tcp/", PORT},
	{"egress", "overlap_pool", "100.64.0.0/16, 100.65.0.0/16",
		" is the second of its family; expected a list of at most one IPv4 and one IPv6 prefix "
		"ADDRESS/LEN",
		"100.65.0.0/16"},
	{"egress", "overlap_pool", "100.64.0.0/31", POOL},
	{"egress", "overlap_pool", "0.0.0.0/0", POOL},
	{"egress", "overlap_pool", "::/0", POOL},
	{"egress", "overlap_pool", "fd00::/121", POOL},
	{"egress", "overlap_pool", "ff00::/64", " holds no addresses of hosts; expected a unicast prefix"},
	{"egress", "mark", "0x3", " is not valid; expected a number with exactly one bit set"},
	{"egress", "mark", "0", " is not valid; expected a number with exactly one bit set"},
	{"egress", "mark", "x", " is not valid; expected a number with exactly one bit set"},
	{"egress", "table", "253", " is one of the system's own tables; expected another"},
	{"egress", "table", "254", " is one of the system's own tables; expected another"},
	{"egress", "table", "255", " is one of the system's own tables; expected another"},
	{"egress", "table", "0", " is not valid; expected a number, 1 to 2147483647"},
	{"egress", "table", "2147483648", " is not valid; expected a number, 1 to 2147483647"},
	{"egress", "rule_priority", "32766", " is not valid; expected a number, 1 to 32765"},
	{"flows", "max", "1023", " is not valid; expected a number, 1024 to 100000000"},
	{"flows", "tcp_established", "0", " is not valid; expected seconds, 1 to 604800"},
	{"flows", "icmp", "604801", " is not valid; expected seconds, 1 to 604800"},
	{"tunnel", "site", "a b", " is not valid; expected a name of 1 to 63 of A-Z a-z 0-9 _ . -"},
	{"tunnel", "gre_key", "4294967296", " is not valid; expected a number, 0 to 4294967295"},
	{"tunnel", "ttl", "0", " is not valid; expected a number, 1 to 255"},
	{"tunnel", "ttl", "256", " is not valid; expected a number, 1 to 255"},
	{"tunnel", "dscp", "64", " is not valid; expected inherit, or a number, 0 to 63"},
	{"tunnel", "mtu", "575", " is not valid; expected auto, or a number, 576 to 65500"},
	{"tunnel", "mtu", "65501", " is not valid; expected auto, or a number, 576 to 65500"},
	{"tunnel", "mss", "535", " is not valid; expected auto, off, or a number, 536 to 65495"},
	{"tunnel", "interface_address", "10.0.0.1/33", LENGTH},
	{"tunnel", "interface_address", "10.0.0.0/24", NETWORK},
	{"tunnel", "interface_address", "10.0.0.255/24", NETWORK},
	{"tunnel", "interface_address", "10.0.0.4/30", NETWORK},
	{"tunnel", "interface_address", "10.0.0.7/30", NETWORK},
	{"tunnel", "interface_address", "fd00::4/126", NETWORK},
	{"tunnel", "interface_address", "fd00::/64", NETWORK},
	{"tunnel", "interface_address", "224.0.0.1/24", HOST},
	{"tunnel", "interface_address", "127.0.0.1/8", HOST},
	{"tunnel", "interface_address", "169.254.10.1/30", HOST},
	{"tunnel", "interface_address", "fe80::1/64", HOST},
	{"tunnel", "interface_address", "10.0.0.1/31, fd00::1/64, 10.0.0.3/31",
		" is the second of its family; expected a list of at most one IPv4 and one IPv6 ADDRESS/LEN",
		"10.0.0.3/31"},
	{"tunnel", "routes", "10.1.0.0/16, 10.2.0.1/16",
		" has bits set beyond its prefix length; expected 10.2.0.0/16", "10.2.0.1/16"},
	{"tunnel", "routes", "fd00::1/64", " has bits set beyond its prefix length; expected fd00::/64"},
	{"tunnel", "allowed_sources", "10.1.0.0/33", LENGTH},
	{"tunnel", "remote", "203.0.113.300", " is not an address; expected any, or an IPv4 or IPv6 address"},
	{"tunnel", "remote", "any", " needs type = ipsec; expected an IPv4 or IPv6 address"},
	{"tunnel", "remote", "0.0.0.0", HOST},
	{"tunnel", "remote", "0.1.2.3", HOST},
	{"tunnel", "remote", "239.1.1.1", HOST},
	{"tunnel", "remote", "255.255.255.255", HOST},
	{"tunnel", "remote", "::", HOST},
	{"tunnel", "remote", "fe80::1", HOST},
	{"tunnel", "remote", "127.0.0.1", HOST},
	{"tunnel", "remote", "::1", HOST},
	{"tunnel", "remote", "ff02::1", HOST},
	{"tunnel", "remote", "2001:db8::1",
		" and the local address are of different families; expected an IPv4 address"},
	{"tunnel", "remote", "198.51.100.1", " is the local address too; expected that of the branch"},
	{"tunnel", "type", "interconnect", TYPE},
	{"tunnel", "type", "vxlan", " is not valid; expected gre or ipsec"},
};

static void values(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(bad_values) / sizeof(bad_values[0]); i++) {
		const char *key = bad_values[i].key, *value = bad_values[i].value;
		const char *shown = bad_values[i].element ? bad_values[i].element : value;
		bool tunnel = strcmp(bad_values[i].section, "tunnel") == 0;
		char text[1024], errors[1024];

		/* the option is in line 2, a tunnel's other required ones follow */
		snprintf(text, sizeof(text), "[%s%s]\n%s = %s\n%s%s%s", bad_values[i].section,
			tunnel ? " a" : "", key, value,
			tunnel && strcmp(key, "type") != 0 ? "type = gre\n" : "",
			tunnel ? "local = 198.51.100.1\n" : "",
			tunnel && strcmp(key, "remote") != 0 ? "remote = 203.0.113.1\n" : "");
		snprintf(errors, sizeof(errors), "x.conf:2: [%s%s] %s: \"%s\"%s", bad_values[i].section,
			tunnel ? " a" : "", key, shown, bad_values[i].what);
		check_bad(&(struct bad_case){text, errors}, 1);
	}
}

static void comparisons(void **state)
{
	static const struct bad_case cases[] = {
		{"[tunnel a]\n", TOP "type: is missing; expected gre or ipsec\n" TOP
				     "local: is missing; expected an IPv4 or IPv6 address\n" TOP
				     "remote: is missing; expected any, or an IPv4 or IPv6 address"},
		{A A, "x.conf:5: [tunnel a]: the name is taken by the section at x.conf:1; expected each "
		      "name once"},
		{"[site s]\n" A "site = s\n[site s]\n", "x.conf:7: [site s]: the name is taken by the "
							"section at x.conf:1; expected each name once"},
		/* addresses of arrd's own NAT are nobody's else */
		{"[gateway]\ntun_address = 192.0.2.8/24\n[egress]\nnat = 192.0.2.8\n",
			"x.conf:2: [gateway] tun_address: is an address of [egress] nat; expected another"},
		{"[egress]\nnat = 198.51.100.0-198.51.100.9, 2001:db8::1\n" A
		 "interface_address = 10.0.0.1/31\ninterface_address = 2001:db8::1/64\n",
			"x.conf:5: [tunnel a] local: \"198.51.100.1\" is an address of [egress] nat; "
			"expected another\n"
			"x.conf:7: [tunnel a] interface_address: \"2001:db8::1\" is an address of [egress] "
			"nat; "
			"expected another"},
		{"[egress]\nnat = 203.0.113.1\n" A, "x.conf:6: [tunnel a] remote: \"203.0.113.1\" is an "
						    "address of [egress] nat; expected another"},
		/* endpoints */
		{B T("a", "203.0.113.2"),
			"x.conf:8: [tunnel a] remote: local, remote and the missing gre_key are those of "
			"tunnel b at x.conf:1; expected a gre_key that tells them apart"},
		{B "gre_key = 7\n" T("a", "203.0.113.2") "gre_key = 0x7\n",
			"x.conf:9: [tunnel a] remote: local, remote and "
			"gre_key are those of tunnel b at x.conf:1; expected a gre_key that tells them "
			"apart"},
		/* a key that was refused is no missing key */
		{A T("b", "203.0.113.1") "gre_key = x\n", "x.conf:9: [tunnel b] gre_key: \"x\" is not valid; "
							  "expected a number, 0 to 4294967295"},
		/* routes */
		{A RELIES "routes = 10.1.0.0/16\n" B "routes = 10.9.0.0/16, 10.1.0.0/16\n",
			"x.conf:11: [tunnel b] routes: 10.1.0.0/16 is also a route of tunnel a of site a at "
			"x.conf:1, whose "
			"replies follow routes; expected it in one site, or automatic_return_routing = yes "
			"in both"},
		{A "routes = 0.0.0.0/0\n" B RELIES "routes = 0.0.0.0/0\n",
			"x.conf:5: [tunnel a] routes: 0.0.0.0/0 is also a route of tunnel b of site b at "
			"x.conf:6, whose "
			"replies follow routes; expected it in one site, or automatic_return_routing = yes "
			"in both"},
		{A RELIES "routes = ::/0\n" B RELIES "routes = ::/0\n",
			"x.conf:12: [tunnel b] routes: ::/0 is also ..."},
	};

	(void)state;
	CHECK_BAD(cases);
}

static void all_errors_at_once(void **state)
{
	static const struct bad_case one = {"[gateway]\ntun_mtu = 1\nbogus = 2\n[nothing]\nx = 1\n[tunnel "
					    "b]\nremote = 1.2.3\nroutes = 1, 2\n[flows]\nicmp = x\n",
		"x.conf:2: [gateway] tun_mtu: \"1\" is not valid; expected a number, 1280 to 65520\n"
		"x.conf:3: [gateway] bogus: there is no such option; expected one of tun, tun_mtu, "
		"tun_address, control_socket, "
		"control_group, state_dir, log_level, socket_buffer, offload_tso4, offload_tso6, "
		"offload_uso, offload_checksum\n"
		"x.conf:4: unknown section [nothing]; expected gateway, egress, flows, ipsec, site NAME or "
		"tunnel "
		"NAME\n"
		"x.conf:7: [tunnel b] remote: \"1.2.3\" is not an address; expected any, or an IPv4 or IPv6 "
		"address\n"
		"x.conf:8: [tunnel b] routes: \"1\" is not an address with a prefix length; expected "
		"ADDRESS/LEN\n"
		"x.conf:8: [tunnel b] routes: \"2\" is not an address with a prefix length; expected "
		"ADDRESS/LEN\n"
		"x.conf:10: [flows] icmp: \"x\" is not valid; expected seconds, 1 to 604800\n"
		"x.conf:6: [tunnel b] type: is missing; expected gre or ipsec\n"
		"x.conf:6: [tunnel b] local: is missing; expected an IPv4 or IPv6 address"};
	struct config *c;
	char *errors, text[4000] = "[flows]\n";

	(void)state;
	check_bad(&one, 1);
	for (int i = 0; i < 150; i++)
		strcat(text, "max = 1 x\n");
	load_text(text, strlen(text), &c, &errors, -EINVAL);
	assert_non_null(strstr(errors, "x.conf:101: "));
	assert_null(strstr(errors, "x.conf:102: "));
	assert_non_null(strstr(errors, "\nand 50 more\n"));
	free(errors);
}

static void octets_that_are_no_text(void **state)
{
	static const char nul[] = "[flows]\nmax = 5000\0x\nmax_per_site = 1 x\n";
	struct config *c;
	char *errors;

	(void)state;
	load_text(nul, sizeof(nul) - 1, &c, &errors, -EINVAL);
	assert_string_equal(errors,
		"x.conf:2: [flows]: the line has a control character, 0x00; expected text\n"
		"x.conf:3: [flows] max_per_site: \"1 x\" is not valid; expected a number, 0 to 100000000\n");
	free(errors);
}

static void long_lines(void **state)
{
	char text[8192], *errors;
	struct config *c;
	size_t n;

	(void)state;
	/* 4096 octets: prefixes, blanks, and a last prefix that must not be lost */
	n = (size_t)sprintf(text, A "routes = ");
	for (int i = 0; i < 200; i++)
		n += (size_t)sprintf(text + n, "%s10.%d.0.0/16", i ? "," : "", i);
	sprintf(text + n, "%*s", (int)(strlen(A) + 4096 - n), ",10.255.0.0/16");
	assert_int_equal(strlen(text), strlen(A) + 4096);
	c = good(text);
	assert_int_equal(c->tunnels[0].routes.n, 201);
	config_free(c);

	strcat(text, "\r\n");
	c = good(text);
	config_free(c);

	strcpy(text + strlen(text) - 2, " \nttl = 0\n");
	load_text(text, strlen(text), &c, &errors, -EINVAL);
	assert_string_equal(errors,
		"x.conf:5: [tunnel a]: the line has 4097 octets; expected at most 4096\n"
		"x.conf:6: [tunnel a] ttl: \"0\" is not valid; expected a number, 1 to 255\n");
	free(errors);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lines),
		cmocka_unit_test(values),
		cmocka_unit_test(comparisons),
		cmocka_unit_test(all_errors_at_once),
		cmocka_unit_test(octets_that_are_no_text),
		cmocka_unit_test(long_lines),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
