/* SPDX-License-Identifier: GPL-2.0-or-later */
/* gateway_configload_test.c - configurations that are good: defaults, values, warnings, files. */
#include "test/unit/config_text.h"

#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static void defaults(void **state)
{
	struct config *c = good(A);
	const struct conf_tunnel *t = c->tunnels;
	struct prefix p;

	(void)state;
	assert_string_equal(c->path, "x.conf");
	assert_null(c->warnings);
	assert_string_equal(c->gateway.tun, "arr0");
	assert_int_equal(c->gateway.tun_mtu, 1500);
	assert_true(addr_is_none(&c->gateway.tun_address[0].a) && addr_is_none(&c->gateway.tun_address[1].a));
	assert_string_equal(c->gateway.control_socket, "/run/arrd/control.sock");
	assert_null(c->gateway.control_group);
	assert_string_equal(c->gateway.state_dir, "/run/arrd");
	assert_int_equal(c->gateway.log_level, LOG_LEVEL_INFO);
	assert_int_equal(c->gateway.socket_buffer, 7340032);
	assert_true(c->gateway.offload_tso4 && c->gateway.offload_tso6 && c->gateway.offload_uso);
	assert_true(c->gateway.offload_checksum);
	assert_string_equal(c->egress.interface, "auto");
	assert_int_equal(c->egress.nat, NAT_MASQUERADE);
	assert_int_equal(c->egress.private_destinations.n, 0);
	assert_int_equal(c->egress.nlocal_services, 0);
	assert_int_equal(prefix_parse("100.64.0.0/16", &p), 0);
	assert_true(prefix_eq(&c->egress.overlap_pool4, &p));
	assert_int_equal(prefix_parse("fd00:a44::/64", &p), 0);
	assert_true(prefix_eq(&c->egress.overlap_pool6, &p));
	assert_int_equal(c->egress.mark, 0x00100000);
	assert_int_equal(c->egress.table, 13187);
	assert_int_equal(c->egress.rule_priority, 1000);
	assert_int_equal(c->flows.max, 1000000);
	assert_int_equal(c->flows.max_per_site, 0);
	assert_true(c->flows.tcp_loose);
#define X(id, name, key, seconds) assert_int_equal(c->flows.timeout_s[FS_##id], seconds);
	FS_STATES(X)
#undef X
	assert_int_equal(c->nsites, 0);
	assert_int_equal(c->ntunnels, 1);
	assert_string_equal(t->name, "a");
	assert_string_equal(t->site, "a");
	assert_int_equal(t->type, TUNNEL_GRE);
	assert_false(t->gre_has_key || t->gre_checksum || t->gre_sequence || t->install_routes);
	assert_true(t->automatic_return_routing);
	assert_int_equal(t->ttl, 64);
	assert_int_equal(t->dscp, DSCP_INHERIT);
	assert_int_equal(t->mtu, 1476);
	assert_int_equal(t->mss, MSS_AUTO);
	assert_int_equal(t->priority, 100);
	assert_int_equal(t->routes.n + t->allowed_sources.n, 0);
	assert_true(addr_is_none(&t->interface_address[0].a) && addr_is_none(&t->interface_address[1].a));
	assert_string_equal(t->file, "x.conf");
	assert_int_equal(t->line, 1);
	config_free(c);

	c = good(""); /* an empty file is a gateway without tunnels */
	assert_int_equal(c->ntunnels, 0);
	config_free(c);
}

static void values_arrive(void **state)
{
	static const char text[] =
		"\xef\xbb\xbf# a comment\r\n"
		"[gateway]\r\n"
		"\ttun = arr-1 ; a comment = with = signs\r\n"
		"  socket_buffer = 128k\r\n"
		"tun_address=fd00::1/64,10.0.0.1/24\r\n"
		"control_group = adm\n"
		"log_level = debug\n"
		"offload_uso = off\n"
		"[ egress ]   ; a comment\n"
		"nat = none\n"
		"private_destinations = 10.9.0.0/16\n"
		"private_destinations =\n"
		"private_destinations = 10.8.0.0/16,10.9.0.0/16 , fd01::/16\n"
		"local_services = udp/53, tcp/0022, icmp, tcp/22\n"
		"overlap_pool = 10.64.0.0/20\n"
		"mark = 1\n"
		"[flows]\n"
		"max=4096\n"
		"udp_two_way = 0x100\n"
		"[tunnel z]\n"
		"type = gre\nlocal = 2001:db8::1\nremote = 2001:db8::2\n"
		"gre_key = 0\ngre_checksum = yes\ngre_sequence = true\nsite = two\ndscp = 46\nmss = off\n"
		"[site two]\nmax_flows = 77\n"
		"[tunnel Y.y_y-1]\n"
		"type = gre\nlocal = 192.0.2.1\nremote = 192.0.2.2\ninterface_address = 10.0.0.0/31\nmtu = "
		"1400\nmss = 1000\n"
		"[site one]\n"; /* no line end at the end of the file */
	struct config *c = good(text);
	const struct conf_tunnel *t = c->tunnels;
	char buf[PREFIX_STRLEN];

	(void)state;
	assert_string_equal(c->gateway.tun, "arr-1");
	assert_int_equal(c->gateway.socket_buffer, 131072);
	assert_string_equal(addr_str(&c->gateway.tun_address[0].a, buf), "10.0.0.1");
	assert_string_equal(prefix_str(&c->gateway.tun_address[0].net, buf), "10.0.0.0/24");
	assert_string_equal(addr_str(&c->gateway.tun_address[1].a, buf), "fd00::1");
	assert_string_equal(c->gateway.control_group, "adm");
	assert_int_equal(c->gateway.log_level, LOG_LEVEL_DEBUG);
	assert_false(c->gateway.offload_uso);
	assert_int_equal(c->egress.nat, NAT_NONE);
	assert_int_equal(c->egress.private_destinations.n, 3);
	assert_string_equal(prefix_str(&c->egress.private_destinations.p[1], buf), "10.9.0.0/16");
	assert_int_equal(c->egress.nlocal_services, 3);
	assert_int_equal(c->egress.local_services[0].proto, IPPROTO_ICMP);
	assert_int_equal(c->egress.local_services[1].proto, IPPROTO_TCP);
	assert_int_equal(c->egress.local_services[1].port, 22);
	assert_int_equal(c->egress.local_services[2].port, 53);
	assert_string_equal(prefix_str(&c->egress.overlap_pool4, buf), "10.64.0.0/20");
	assert_string_equal(prefix_str(&c->egress.overlap_pool6, buf),
		"fd00:a44::/64"); /* the other family's default stays */
	assert_int_equal(c->egress.mark, 1);
	assert_int_equal(c->flows.max, 4096);
	assert_int_equal(c->flows.timeout_s[FS_UDP_TWO_WAY], 256);

	assert_int_equal(c->ntunnels, 2);
	assert_string_equal(t[0].name, "Y.y_y-1");
	assert_string_equal(addr_str(&t[0].interface_address[0].a, buf), "10.0.0.0");
	assert_int_equal(t[0].mtu, 1400);
	assert_int_equal(t[0].mss, 1000);
	assert_string_equal(t[1].name, "z");
	assert_string_equal(t[1].site, "two");
	assert_true(t[1].gre_has_key && t[1].gre_key == 0 && t[1].gre_checksum && t[1].gre_sequence);
	assert_int_equal(t[1].mtu, 1500 - 40 - 16);
	assert_int_equal(t[1].mss, MSS_OFF);
	assert_int_equal(t[1].dscp, 46);
	assert_int_equal(c->nsites, 2);
	assert_string_equal(c->sites[0].name, "one");
	assert_string_equal(c->sites[1].name, "two");
	assert_int_equal(c->sites[1].max_flows, 77);
	assert_string_equal(c->warnings, "x.conf:39: [site one]: no tunnel belongs to this site\n");
	config_free(c);
}

/* Texts that look like an error and are none. */
static void allowed(void **state)
{
	static const struct good_case cases[] = {
		{A T("b", "203.0.113.1") "gre_key = 0\n", NULL},
		{A "gre_key = 1\n" T("b", "203.0.113.1") "gre_key = 2\n", NULL},
		{A "interface_address = 10.0.0.1/31\n" B "interface_address = 10.0.0.1/31\n", NULL},
		{A "routes = 0.0.0.0/0, ::/0\n" B "routes = 0.0.0.0/0, ::/0\n", NULL},
		{A RELIES "site = s\nroutes = 10.0.0.0/8\n" B "site = s\nroutes = 10.0.0.0/8\n", NULL},
		{A RELIES "routes = 10.0.0.0/8\n" B RELIES "routes = 10.1.0.0/16\n", NULL},
		{A RELIES "routes = 0.0.0.0/0\n" B RELIES "routes = ::/0\n", NULL},
		{A "mtu = 1279\nroutes = fd00::/64\n",
			"x.conf:5: [tunnel a] mtu: 1279 is too small for IPv6, whose packets "
			"of up to 1280 octets are sent all the same\n"},
		{A "interface_address = fd00::1/64\nmtu = 1279\n",
			"x.conf:6: [tunnel a] mtu: 1279 is too small for IPv6, "
			"whose packets of up to 1280 octets are sent all the same\n"},
		{A "mtu = 1280\nroutes = fd00::/64\n", NULL},
		{A "mtu = 1279\nroutes = 10.0.0.0/8\ninterface_address = 10.0.0.1/31\n", NULL},
		{A RELIES, "x.conf:5: [tunnel a] automatic_return_routing: replies follow routes, and this "
			   "tunnel has none: "
			   "nothing returns to it\n"},
		{A "mtu = 1400\nmss = 1361\n", "x.conf:6: [tunnel a] mss: segments of 1361 octets do not fit "
					       "into the mtu of 1400\n"},
		{"[flows]\ntcp_opening = 239\nicmp = 60\nother = 1\n",
			"x.conf:2: [flows] tcp_opening: 239 is below the 240 seconds of RFC 5382; "
			"applications may lose "
			"connections\n"},
		{"[gateway]\noffload_checksum = no\n", NULL},
		{"[gateway]\noffload_checksum = no\noffload_uso = yes\n",
			"x.conf:2: [gateway] offload_checksum: without "
			"checksum offload the TUN has no segmentation offload either\n"},
	};

	(void)state;
	CHECK_GOOD(cases);
}

/* Names of sections are compared in full, and one without keys is not forgotten. */
static void long_section_names(void **state)
{
#define LONG "01234567890123456789012345678901234567890123456789012345678901"
	struct config *c = good(T(LONG "a", "203.0.113.1") T(LONG "b", "203.0.113.2"));

	(void)state;
	assert_int_equal(c->ntunnels, 2);
	assert_string_equal(c->tunnels[0].name, LONG "a");
	assert_string_equal(c->tunnels[1].name, LONG "b");
	config_free(c);
}

/* ---- files --------------------------------------------------------------------------------------- */

static char dir[64];

static void write_file(const char *name, const char *text)
{
	char path[256];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	f = fopen(path, "w");
	assert_non_null(f);
	fputs(text, f);
	assert_int_equal(fclose(f), 0);
}

static void remove_files(void)
{
	char command[128];

	snprintf(command, sizeof(command), "rm -rf %s/*", dir);
	assert_int_equal(system(command), 0); /* NOLINT(cert-env33-c): a directory of our own */
}

/* Loads dir/x.conf; @ in expected stands for dir. NULL: it is good. */
static struct config *load_files(const char *expected)
{
	char path[128], text[4096];
	size_t n = 0;
	struct config *c;
	char *errors;
	int err;

	snprintf(path, sizeof(path), "%s/x.conf", dir);
	err = config_load(path, &c, &errors);
	if (!expected) {
		if (err)
			fail_msg("%d: %s", err, errors ? errors : "");
		return c;
	}
	assert_int_equal(err, -EINVAL);
	assert_null(c);
	for (const char *p = expected; *p; p++)
		n += (size_t)snprintf(
			text + n, sizeof(text) - n, *p == '@' ? "%s" : "%.1s", *p == '@' ? dir : p);
	assert_string_equal(errors, text);
	free(errors);
	return NULL;
}

static void files(void **state)
{
	struct config *c;
	char path[128];

	(void)state;
	assert_null(load_files(
		"@/x.conf: cannot be read: No such file or directory; expected a readable file\n"));

	write_file("x.conf", "[gateway]\ntun = t1\n" A);
	c = load_files(NULL); /* no tunnels.d */
	assert_int_equal(c->ntunnels, 1);
	config_free(c);

	snprintf(path, sizeof(path), "%s/tunnels.d", dir);
	write_file("tunnels.d", "a file");
	assert_null(load_files("@/tunnels.d: cannot be read: Not a directory; expected a directory\n"));
	assert_int_equal(unlink(path), 0);
	assert_int_equal(mkdir(path, 0700), 0);
	write_file("tunnels.d/z.conf", T("z", "203.0.113.9"));
	write_file("tunnels.d/b.conf", B "[site b]\n");
	write_file("tunnels.d/.hidden.conf", "x");
	write_file("tunnels.d/b.conf~", "x");
	write_file("tunnels.d/example.conf.example", "x");
	write_file("tunnels.d/.conf", "x");
	c = load_files(NULL);
	assert_int_equal(c->ntunnels, 3);
	assert_string_equal(c->tunnels[1].name, "b");
	assert_string_equal(c->tunnels[1].file + strlen(dir), "/tunnels.d/b.conf");
	assert_int_equal(c->nsites, 1);
	config_free(c);

	/* names and endpoints across files, and sections that belong in the main file; all in one text */
	write_file("tunnels.d/b.conf", B "[gateway]\ntun = x\n");
	write_file("tunnels.d/c.conf", "\n" A);
	write_file("tunnels.d/z.conf", T("z", "203.0.113.2"));
	snprintf(path, sizeof(path), "%s/tunnels.d/y.conf", dir);
	assert_int_equal(mkdir(path, 0700), 0);
	assert_null(load_files(
		"@/tunnels.d/b.conf:5: [gateway] stands in a file of tunnels.d; expected tunnel NAME or site "
		"NAME\n"
		"@/tunnels.d/y.conf: is a directory; expected a regular file\n"
		"@/tunnels.d/c.conf:2: [tunnel a]: the name is taken by the section at @/x.conf:3; expected "
		"each "
		"name once\n"
		"@/tunnels.d/z.conf:4: [tunnel z] remote: local, remote and the missing gre_key are those of "
		"tunnel b at @/tunnels.d/b.conf:1; expected a gre_key that tells them apart\n"));
	remove_files();

	snprintf(path, sizeof(path), "%s/x.conf", dir);
	assert_int_equal(mkfifo(path, 0600), 0); /* must not wait for a writer */
	assert_null(load_files("@/x.conf: is no regular file; expected a regular file\n"));
	remove_files();
	assert_int_equal(symlink("nowhere", path), 0);
	assert_null(load_files(
		"@/x.conf: cannot be read: No such file or directory; expected a readable file\n"));
	remove_files();
	write_file("x.conf", "");
	assert_int_equal(truncate(path, (16 << 20) + 1), 0);
	assert_null(
		load_files("@/x.conf: is larger than 16777216 octets; expected a file of configuration\n"));
	remove_files();
}

/* A path without a directory: tunnels.d is looked for in the working directory. */
static void path_without_directory(void **state)
{
	char here[4096];
	struct config *c;
	char *errors;

	(void)state;
	assert_non_null(getcwd(here, sizeof(here)));
	assert_int_equal(chdir(dir), 0);
	assert_int_equal(mkdir("tunnels.d", 0700), 0);
	write_file("y.conf", "");
	write_file("tunnels.d/a.conf", A);
	assert_int_equal(config_load("y.conf", &c, &errors), 0);
	assert_int_equal(c->ntunnels, 1);
	assert_string_equal(c->tunnels[0].file, "tunnels.d/a.conf");
	config_free(c);
	assert_int_equal(chdir(here), 0);
	remove_files();
}

/* Nothing that is done to tunnels may be quadratic: this takes about 0.1 s, and minutes if it is. */
static void many_tunnels(void **state)
{
	struct timespec t0, t1;
	char name[64], text[256], path[128];
	struct config *c;
	int n = 10000;

	(void)state;
	snprintf(path, sizeof(path), "%s/tunnels.d", dir);
	assert_int_equal(mkdir(path, 0700), 0);
	write_file("x.conf", "");
	for (int i = 0; i < n; i++) {
		snprintf(name, sizeof(name), "tunnels.d/%05d.conf", i);
		snprintf(text, sizeof(text),
			"[tunnel t%d]\ntype = gre\nlocal = 198.51.100.1\nremote = 203.0.%d.%d\n"
			"routes = 10.1.0.0/16, 10.2.0.0/16\n[site t%d]\nmax_flows = %d\n",
			i, i / 256, i % 256, i, i);
		write_file(name, text);
	}
	clock_gettime(CLOCK_MONOTONIC, &t0);
	c = load_files(NULL);
	clock_gettime(CLOCK_MONOTONIC, &t1);
	assert_int_equal(c->ntunnels, n);
	assert_int_equal(c->nsites, n);
	print_message("%d tunnels in %ld ms\n", n,
		(t1.tv_sec - t0.tv_sec) * 1000 + (t1.tv_nsec - t0.tv_nsec) / 1000000);
	assert_true(t1.tv_sec - t0.tv_sec < 10);
	config_free(c);
	remove_files();
}

/* The flow table has 65,536 slots for names: nobody gets the first, and the egress has one. */
static void too_many_names(void **state)
{
	struct config *c;
	char *errors, *text;
	size_t len;

	(void)state;
	for (int n = 32767; n <= 32768; n++) { /* each a site of its own */
		FILE *f = open_memstream(&text, &len);

		for (int i = 0; i < n; i++)
			fprintf(f, "[tunnel t%d]\ntype = gre\nlocal = 198.51.100.1\nremote = 203.0.%d.%d\n",
				i, i / 256, i % 256);
		assert_int_equal(fclose(f), 0);
		if (n == 32767) {
			assert_int_equal(config_parse_text("x.conf", text, len, &c, &errors), 0);
			config_free(c);
		} else {
			assert_int_equal(config_parse_text("x.conf", text, len, &c, &errors), -EINVAL);
			assert_non_null(strstr(
				errors, "there are 32768 tunnels of 32768 sites; expected at most 65534"));
			free(errors);
		}
		free(text);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(defaults),
		cmocka_unit_test(values_arrive),
		cmocka_unit_test(allowed),
		cmocka_unit_test(long_section_names),
		cmocka_unit_test(files),
		cmocka_unit_test(path_without_directory),
		cmocka_unit_test(many_tunnels),
		cmocka_unit_test(too_many_names),
	};
	int failed;

	snprintf(dir, sizeof(dir), "/tmp/arrd-config-XXXXXX");
	if (!mkdtemp(dir))
		return 1;
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	remove_files();
	rmdir(dir);
	return failed;
}
