/* SPDX-License-Identifier: GPL-2.0-or-later */
/* gateway_egress_test.c - the egress ruleset as text, names that may stand in it, remembered sysctls. What the kernel
 * makes of it is the matter of the namespace tests. */
#include "gateway/egress_private.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/* ---- names ---------------------------------------------------------------------------------------------- */

static void names(void **state)
{
	static const struct {
		const char *name;
		bool ok;
	} table[] = {
		{"eth0", true},
		{"enp0s31f6.100", true},
		{"br-lan@x:1_2+", true},
		{"fifteen-letters", true},
		{"sixteen-letters-", false},
		{"", false},
		{"eth*", false}, /* a wildcard */
		{"e\" accept", false},
		{"e\"", false},
		{"e\\", false},
		{"$TUN", false},
		{"e\n", false},
		{"\xc3\xa9th0", false},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
		if (ruleset_name_ok(table[i].name) != table[i].ok)
			fail_msg("\"%s\" should be %s", table[i].name, table[i].ok ? "taken" : "refused");
}

/* ---- the ruleset ---------------------------------------------------------------------------------------- */

static struct addr address(const char *s)
{
	struct addr a;

	assert_int_equal(addr_parse(s, &a), 0);
	return a;
}

/* Two tunnels between the same addresses, one over IPv6; two services. */
struct fixture {
	struct config conf;
	struct conf_tunnel tunnels[4];
	struct conf_service services[3];
	char tun[8];
	struct ruleset r;
};

static void set_up(struct fixture *x)
{
	*x = (struct fixture){0};
	x->tunnels[0].local = x->tunnels[1].local = address("198.51.100.1");
	x->tunnels[0].remote = x->tunnels[1].remote = address("203.0.113.10");
	x->tunnels[2].local = address("2001:db8::1");
	x->tunnels[2].remote = address("2001:db8::a");
	x->services[0] = (struct conf_service){.proto = 17, .port = 53};
	x->services[1] = (struct conf_service){.proto = 1};
	strcpy(x->tun, "arr7");
	x->conf.gateway.tun = x->tun;
	x->conf.tunnels = x->tunnels;
	x->tunnels[3].type = TUNNEL_IPSEC;
	x->tunnels[3].local = address("198.51.100.2");
	x->conf.ntunnels = 4;
	x->conf.egress.local_services = x->services;
	x->conf.egress.nlocal_services = 2;
	x->conf.egress.mark = 0x400;
	x->conf.egress.table = 77;
	for (unsigned s = FS_TCP_OPENING; s < FS_STATE_COUNT; s++)
		x->conf.flows.timeout_s[s] = 1000 + s;
	x->r = (struct ruleset){.conf = &x->conf, .interface = "eth9", .timeouts = true};
}

static unsigned count(const char *text, const char *what)
{
	unsigned n = 0;

	for (const char *p = strstr(text, what); p; p = strstr(p + 1, what))
		n++;
	return n;
}

/* What is in the text, how often, by the settings. */
static void ruleset(void **state)
{
	enum {
		PLAIN = 0,
		NAT = 1,
		FORWARD4 = 2,
		FORWARD6 = 4,
		ALL6 = 8,
		NO_TIMEOUTS = 16,
		REPLACE = 32,
		ANY = 64,
		POOL = 128
	};
	static const struct {
		unsigned settings;
		const char *text;
		unsigned n;
	} table[] = {
		{PLAIN, "define TUN = \"arr7\"\n", 1},
		{PLAIN, "define OUT = \"eth9\"\n", 1},
		{PLAIN, "define BIT = 0x00000400\n", 1},
		{PLAIN, "define OTHER_BITS = 0xfffffbff\n", 1},
		{PLAIN, "{ 198.51.100.1 . 203.0.113.10 }", 1},
		{PLAIN, "underlay6 { 2001:db8::1 . 2001:db8::a }", 1},
		{PLAIN, "add element inet arrd ipsec4 { 198.51.100.2 }", 1},
		{PLAIN, "add element inet arrd ipsec6", 0},
		{PLAIN, "add element inet arrd gre_peers4 { 203.0.113.10 }", 1},
		{PLAIN, "add element inet arrd gre_peers6 { 2001:db8::a }", 1},
		{PLAIN, "l4proto 47 ip daddr @gre_peers4 counter name branch_to_tunnel drop", 1},
		{PLAIN, "l4proto 47 ip6 daddr @gre_peers6 counter name branch_to_tunnel drop", 1},
		{PLAIN, "udp sport { 500, 4500 } masquerade", 0},
		{NAT, "udp sport { 500, 4500 } masquerade to :10000-65535", 1},
		{PLAIN, "dport { 500, 4500 } ip daddr @ipsec4 notrack", 1},
		{PLAIN, "sport { 500, 4500 } ip saddr @ipsec4 notrack", 1},
		{PLAIN, "l4proto 50 ip daddr @ipsec4 notrack", 1},
		{PLAIN, "l4proto 50 ip6 saddr @ipsec6 notrack", 1},
		{PLAIN, "\t\tmeta l4proto 17 th dport 53 accept comment", 1},
		{PLAIN, "\t\tmeta l4proto { 1, 58 } accept comment", 1},
		{PLAIN, "iifname $TUN goto from_tun_to_us\n", 1},
		{PLAIN, "iifname $TUN goto from_tun\n", 1},
		{PLAIN, "oifname $TUN goto to_tun\n", 1},
		{PLAIN, "goto leaving", 0},
		{NAT, "iifname $TUN oifname $OUT goto leaving\n", 1},
		{PLAIN, "masquerade", 0},
		{PLAIN, "delete chain inet arrd nat", 1},
		{PLAIN, "branch_untranslated drop", 0},
		{PLAIN, "server_tcp_invalid drop", 0},
		{PLAIN, "not_ours drop", 0},
		{PLAIN, "\nflush table inet arrd\n", 1},
		{PLAIN, "delete table", 0},
		{PLAIN, "established : 1002", 1},
		{PLAIN, "ct timeout set \"tcp-1001-1002-1003-1004-1005-1006\"", 2},
		{PLAIN, "ct timeout set \"udp-1007-1008\"", 2},
		{NAT, "oifname $OUT masquerade\n", 1},
		{NAT, "delete chain", 0},
		{NAT, "branch_untranslated drop", 1},
		{NAT, "server_tcp_invalid drop", 1},
		{PLAIN, "@nat4", 0},
		{NAT, "@nat6", 0},
		{NAT, "add element inet arrd nat", 0},
		{NAT, "flush set inet arrd nat4", 1},
		{POOL, "add element inet arrd nat4 { 192.0.2.8-192.0.2.9 }\n", 1},
		{POOL, "add element inet arrd nat6", 0},
		{POOL, "iifname $TUN ip saddr @nat4 notrack", 1},
		{POOL, "\tip daddr @nat4 notrack", 2},
		{POOL, "\tip6 daddr @nat6 notrack", 2},
		{POOL, "l4proto 50 ip daddr @ipsec4 counter name branch_invalid drop", 1},
		{POOL, "\t\tip saddr @nat4 accept", 2},
		{POOL, "\t\tip6 saddr @nat6 accept", 2},
		{POOL, "ct status snat", 0},
		{POOL, "masquerade", 0},
		{POOL, "delete chain inet arrd nat", 1},
		{POOL, "branch_untranslated drop", 1},
		{POOL, "server_tcp_invalid drop", 0},
		{FORWARD4, "nfproto ipv4 iifname $OUT counter name not_ours drop", 1},
		{FORWARD4, "nfproto ipv6", 0},
		{FORWARD6, "nfproto ipv6 iifname $OUT counter name not_ours drop", 1},
		{FORWARD6 | ALL6, "nfproto ipv6 counter name not_ours drop", 1},
		{ALL6, "not_ours drop", 0},
		{NO_TIMEOUTS, "ct timeout", 0},
		{REPLACE, "delete table inet arrd\nadd table inet arrd\n", 1},
		{REPLACE, "flush table", 0},
		{ANY, "\t\taccept comment \"local service\"", 1},
	};
	struct fixture x;

	(void)state;
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		unsigned s = table[i].settings, n;
		char *text;

		set_up(&x);
		x.conf.egress.nat = s & NAT ? NAT_MASQUERADE : s & POOL ? NAT_POOL : NAT_NONE;
		x.conf.egress.nat_pool[0] = (struct addr_range){address("192.0.2.8"), address("192.0.2.9")};
		x.conf.egress.nlocal_services += s & ANY ? 1 : 0;
		x.r.forwarding4_is_ours = s & FORWARD4;
		x.r.forwarding6_is_ours = s & FORWARD6;
		x.r.forwarding6_all = s & ALL6;
		x.r.timeouts = !(s & NO_TIMEOUTS);
		x.r.replace = s & REPLACE;
		text = ruleset_text(&x.r);
		assert_non_null(text);
		n = count(text, table[i].text);
		if (n != table[i].n)
			fail_msg("settings %u: \"%s\" is there %u times, not %u, in\n%s", s, table[i].text, n,
				table[i].n, text);
		free(text);
	}
}

/* A rule that is not bound to the TUN, to our bit, to the egress interface or to our tunnels would change the life of
 * the whole machine. Chains without a hook get only what a rule that is bound sends there. The one exception says so: IPv6 forwarding where the kernel has one switch for all. */
static void confined_with(enum conf_nat nat)
{
	static const char *const bound[] = {"iifname $TUN", "oifname $TUN", "iifname $OUT",
		"ct mark & $BIT == $BIT", "@underlay", "@ipsec", "daddr @nat"};
	struct fixture x;
	unsigned rules = 0;
	bool hooked = false;
	char *text, *rest, *line;

	set_up(&x);
	x.conf.egress.nat = nat;
	x.r.forwarding4_is_ours = x.r.forwarding6_is_ours = true;
	text = ruleset_text(&x.r);
	assert_non_null(text);
	for (line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
		bool ok = strncmp(line, "\t\t", 2) == 0 && !hooked;

		if (strncmp(line, "\tchain ", 7) == 0)
			hooked = false;
		if (strstr(line, "\ttype "))
			hooked = true;
		if (strstr(line, " from_tun ct ") || strstr(line, " to_tun ct "))
			ok = true;
		if (strstr(line, "policy "))
			assert_true(strstr(line, "policy accept;") || strstr(line, "policy = {"));
		if (strncmp(line, "add rule ", 9) != 0 &&
			(strncmp(line, "\t\t", 2) != 0 || strstr(line, "\ttype ")))
			continue;
		rules++;
		for (size_t i = 0; i < sizeof(bound) / sizeof(bound[0]); i++)
			ok = ok || strstr(line, bound[i]);
		if (!ok)
			fail_msg("not confined: %s", line);
	}
	assert_true(rules > 20);
	free(text);
}

static void confined(void **state)
{
	(void)state;
	confined_with(NAT_MASQUERADE);
	confined_with(NAT_POOL);
}

/* ---- remembered sysctls --------------------------------------------------------------------------------- */

#define KEPT "net/core/somaxconn"

static char dir[64], file[96];

static int make_dir(void **state)
{
	(void)state;
	snprintf(dir, sizeof(dir), "/tmp/arrd-egress-test.XXXXXX");
	if (!mkdtemp(dir))
		return -1;
	snprintf(file, sizeof(file), "%s/sysctl.saved", dir);
	return 0;
}

static int remove_dir(void **state)
{
	(void)state;
	unlink(file);
	return rmdir(dir);
}

static void read_file(char *buf, size_t len)
{
	FILE *f = fopen(file, "r");
	size_t n;

	assert_non_null(f);
	n = fread(buf, 1, len - 1, f);
	buf[n] = '\0';
	fclose(f);
}

static void write_file(const char *header, const char *rest)
{
	FILE *f = fopen(file, "w");

	assert_non_null(f);
	fprintf(f, "%s\n%s", header, rest);
	fclose(f);
}

/* What the file says counts before the present value, but only in this boot and namespace, and only below net/. */
static void remembered(void **state)
{
	char text[512], header[256];
	struct sysctls *s;
	long now, was;

	(void)state;
	assert_int_equal(sysctl_get(KEPT, &now), 0);
	assert_int_equal(sysctls_load(&s, dir, NULL), 0);
	assert_int_equal(access(file, F_OK), -1); /* nothing remembered: no file */
	assert_int_equal(sysctl_keep(s, KEPT), 0);
	assert_int_equal(sysctl_keep(s, KEPT), 0);
	sysctls_free(s);
	read_file(text, sizeof(text));
	assert_int_equal(sscanf(text, "%255[^\n]", header), 1);
	assert_int_equal(count(text, KEPT), 1);

	write_file(header, KEPT " 7\n" KEPT " 8\nkernel/pid_max 9\nnet/../kernel/pid_max 9\nnot a line\n\n");
	assert_int_equal(sysctls_load(&s, dir, NULL), 0);
	assert_int_equal(sysctl_was(s, KEPT, &was), 0);
	assert_int_equal(was, 7);
	assert_int_equal(sysctl_was(s, "kernel/pid_max", &was), 0);
	assert_int_not_equal(was, 9);
	assert_int_equal(sysctl_was(s, "net/../kernel/pid_max", &was), 0);
	assert_int_not_equal(was, 9);
	sysctls_free(s);

	header[strlen(header) - 1] ^= 1; /* another namespace */
	write_file(header, KEPT " 7\n");
	assert_int_equal(sysctls_load(&s, dir, NULL), 0);
	assert_int_equal(sysctl_was(s, KEPT, &was), 0);
	assert_int_equal(was, now);
	sysctls_free(s);

	write_file("", "");
	assert_int_equal(sysctls_load(&s, dir, NULL), 0);
	assert_int_equal(sysctl_was(s, KEPT, &was), 0);
	assert_int_equal(was, now);
	assert_int_equal(sysctl_was(s, "net/no/such/thing", &was), -ENOENT);
	sysctls_free(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names),
		cmocka_unit_test(ruleset),
		cmocka_unit_test(confined),
		cmocka_unit_test_setup_teardown(remembered, make_dir, remove_dir),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
