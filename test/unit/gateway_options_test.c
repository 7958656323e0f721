/* SPDX-License-Identifier: GPL-2.0-or-later */
/* gateway_options_test.c - the table of options: sound in itself, and every difference of values is seen. */
#include "gateway/options.h"
#include "test/unit/config_text.h"

/* A value for each option that is not its default and not that of the base below. A new option needs one here. more:
 * lines that it needs beside it. */
static const struct {
	enum section section;
	const char *key, *value, *more;
} others[] = {
	{SECTION_GATEWAY, "tun", "arr7"},
	{SECTION_GATEWAY, "tun_mtu", "9000"},
	{SECTION_GATEWAY, "tun_address", "10.7.0.1/24"},
	{SECTION_GATEWAY, "control_socket", "/tmp/x"},
	{SECTION_GATEWAY, "control_group", "adm"},
	{SECTION_GATEWAY, "state_dir", "/tmp/y"},
	{SECTION_GATEWAY, "log_level", "debug"},
	{SECTION_GATEWAY, "socket_buffer", "1M"},
	{SECTION_GATEWAY, "offload_tso4", "no"},
	{SECTION_GATEWAY, "offload_tso6", "no"},
	{SECTION_GATEWAY, "offload_uso", "no"},
	{SECTION_GATEWAY, "offload_checksum", "no"},
	{SECTION_EGRESS, "interface", "eth7"},
	{SECTION_EGRESS, "nat", "2001:db8::7"},
	{SECTION_EGRESS, "nat_share", "77"},
	{SECTION_EGRESS, "private_destinations", "10.7.0.0/16"},
	{SECTION_EGRESS, "local_services", "tcp/22"},
	{SECTION_EGRESS, "overlap_pool", "fd07::/64"},
	{SECTION_EGRESS, "mark", "2"},
	{SECTION_EGRESS, "table", "7"},
	{SECTION_EGRESS, "rule_priority", "7"},
	{SECTION_FLOWS, "max", "7777"},
	{SECTION_FLOWS, "max_per_site", "7"},
	{SECTION_FLOWS, "max_new_per_site", "7"},
	{SECTION_FLOWS, "tcp_loose", "no"},
#define X(id, name, key, seconds) {SECTION_FLOWS, key, "7777"},
	FS_STATES(X)
#undef X
		{SECTION_IPSEC, "threads", "9"},
	{SECTION_IPSEC, "cookie_threshold", "7"},
	{SECTION_IPSEC, "block_threshold", "7"},
	{SECTION_IPSEC, "half_open_max", "7"},
	{SECTION_IPSEC, "crypto", "openssl"},
	{SECTION_SITE, "max_flows", "7"},
	{SECTION_TUNNEL, "type", "ipsec", "psk = 12345678\n"},
	{SECTION_TUNNEL, "site", "other"},
	{SECTION_TUNNEL, "local", "198.51.100.7"},
	{SECTION_TUNNEL, "remote", "203.0.113.7"},
	{SECTION_TUNNEL, "gre_key", "0"},
	{SECTION_TUNNEL, "gre_checksum", "yes"},
	{SECTION_TUNNEL, "gre_sequence", "yes"},
	{SECTION_TUNNEL, "over", "z",
		"[tunnel z]\ntype = ipsec\nlocal = 198.51.100.9\nremote = 203.0.113.9\npsk = 12345678\n"},
	{SECTION_TUNNEL, "local_id", "gw.example.net"},
	{SECTION_TUNNEL, "remote_id", "b.example.net"},
	{SECTION_TUNNEL, "psk", "another one"},
	{SECTION_TUNNEL, "psk_file", NULL}, /* what needs files: gateway_configsecret_test.c */
	{SECTION_TUNNEL, "cert_file", NULL},
	{SECTION_TUNNEL, "key_file", NULL},
	{SECTION_TUNNEL, "ca_file", NULL},
	{SECTION_TUNNEL, "ike_proposals", "aes256-sha256-ecp256"},
	{SECTION_TUNNEL, "esp_proposals", "aes256gcm16"},
	{SECTION_TUNNEL, "local_ts", "10.7.0.0/16"},
	{SECTION_TUNNEL, "remote_ts", "10.7.0.0/16"},
	{SECTION_TUNNEL, "mode", "transport"},
	{SECTION_TUNNEL, "initiate", "yes"},
	{SECTION_TUNNEL, "mobike", "no"},
	{SECTION_TUNNEL, "fragmentation", "no"},
	{SECTION_TUNNEL, "force_encap", "yes"},
	{SECTION_TUNNEL, "ike_rekey", "777"},
	{SECTION_TUNNEL, "ike_reauth", "777"},
	{SECTION_TUNNEL, "child_rekey", "777"},
	{SECTION_TUNNEL, "child_rekey_bytes", "7T"},
	{SECTION_TUNNEL, "child_rekey_packets", "7777"},
	{SECTION_TUNNEL, "dpd_delay", "7"},
	{SECTION_TUNNEL, "replay_window", "0"},
	{SECTION_TUNNEL, "tfc_padding", "mtu"},
	{SECTION_TUNNEL, "ttl", "7"},
	{SECTION_TUNNEL, "dscp", "7"},
	{SECTION_TUNNEL, "interface_address", "fd00:7::1/64"},
	{SECTION_TUNNEL, "mtu", "1400"},
	{SECTION_TUNNEL, "mss", "700"},
	{SECTION_TUNNEL, "automatic_return_routing", "no"},
	{SECTION_TUNNEL, "tcp_liberal", "yes"},
	{SECTION_TUNNEL, "install_routes", "yes"},
	{SECTION_TUNNEL, "routes", "10.7.0.0/16"},
	{SECTION_TUNNEL, "allowed_sources", "10.7.0.0/16"},
	{SECTION_TUNNEL, "priority", "7"},
};
#define NOTHERS (sizeof(others) / sizeof(others[0]))

/* A configuration in which one option has another value; NULL: none. */
static struct config *with(enum section s, bool ipsec, const char *key, const char *value, const char *more)
{
	char text[1024] = "";

	if (s == SECTION_TUNNEL) {
		const char *const required[][2] = {{"type", ipsec ? "ipsec" : "gre"},
			{"local", "198.51.100.1"}, {"remote", "203.0.113.1"}, {"psk", "12345678"}};
		size_t n = (size_t)sprintf(text, "[tunnel a]\n");

		if (key)
			n += (size_t)sprintf(text + n, "%s = %s\n", key, value);
		for (size_t i = 0; i < (ipsec ? 4 : 3); i++)
			if (!key || strcmp(required[i][0], key) != 0)
				n += (size_t)sprintf(text + n, "%s = %s\n", required[i][0], required[i][1]);
		sprintf(text + n, "%s", more ? more : "");
	} else {
		sprintf(text, A "[%s%s]\n%s = %s\n", sections[s].name, sections[s].named ? " a" : "", key,
			value);
	}
	return good(text);
}

/* Each option's difference is seen, by conf_tunnel_eq where it is a tunnel's, by config_fixed_changes where it is
 * fixed; and nowhere else. */
static void every_difference_is_seen(void **state)
{
	struct config *gre = good(A), *ipsec = with(SECTION_TUNNEL, true, NULL, NULL, NULL);
	size_t rows = 0, n;

	(void)state;
	for (int s = 0; s < SECTION_COUNT; s++) {
		const struct option *o = options_of((enum section)s, &n);

		for (size_t i = 0; i < n; i++, rows++) {
			char changed[256], expected[64] = "";
			const struct config *base = o[i].only == ONLY_IPSEC ? ipsec : gre;
			struct config *c;

			assert_true(rows < NOTHERS);
			assert_int_equal(others[rows].section, s);
			assert_string_equal(others[rows].key, o[i].key);
			if (!others[rows].value)
				continue;
			c = with((enum section)s, base == ipsec, o[i].key, others[rows].value,
				others[rows].more);
			if (conf_tunnel_eq(&base->tunnels[0], &c->tunnels[0]) != (s != SECTION_TUNNEL))
				fail_msg("conf_tunnel_eq and %s", o[i].key);
			if (!o[i].reloadable)
				snprintf(expected, sizeof(expected), "%s.%s", sections[s].name, o[i].key);
			assert_int_equal(
				config_fixed_changes(base, c, changed, sizeof(changed)), !o[i].reloadable);
			assert_string_equal(changed, expected);
			assert_int_equal(config_fixed_changes(c, c, changed, sizeof(changed)), 0);
			assert_true(conf_tunnel_eq(&c->tunnels[0], &c->tunnels[0]));
			config_free(c);
		}
	}
	assert_int_equal(rows, NOTHERS);
	config_free(gre);
	config_free(ipsec);
}

static void equal_is_what_means_the_same(void **state)
{
	struct config *a = good("\n\n" A "routes = 10.1.0.0/16, 10.2.0.0/16\nmss = auto\ngre_key = 16\n");
	struct config *b =
		good(A "routes = 10.2.0.0/16\nroutes = 10.1.0.0/16, 10.1.0.0/16\nsite = a\ngre_key = 0x10\n");
	struct config *other =
		good(T("b", "203.0.113.1") "routes = 10.1.0.0/16, 10.2.0.0/16\nsite = a\ngre_key = 16\n");
	struct config *moved = good("[gateway]\ntun = x\nstate_dir = /x\n[egress]\nnat = none\n");
	char buf[64];

	(void)state;
	assert_true(conf_tunnel_eq(a->tunnels, b->tunnels));
	assert_false(conf_tunnel_eq(a->tunnels, other->tunnels)); /* another name */
	assert_int_equal(config_fixed_changes(a, b, buf, sizeof(buf)), 0);
	assert_string_equal(buf, "");
	assert_int_equal(config_fixed_changes(a, moved, buf, sizeof(buf)), 2);
	assert_string_equal(buf, "gateway.tun, gateway.state_dir");
	assert_int_equal(config_fixed_changes(a, moved, buf, 8), 2); /* a buffer that is too short is cut */
	assert_string_equal(buf, "gateway");
	assert_int_equal(config_fixed_changes(a, moved, NULL, 0), 2);
	config_free(a);
	config_free(b);
	config_free(other);
	config_free(moved);
}

/* Every default reads back without a complaint, no key is there twice, each has its help. */
static void table_is_sound(void **state)
{
	size_t n;

	(void)state;
	for (int s = 0; s < SECTION_COUNT; s++) {
		const struct option *o = options_of((enum section)s, &n);

		assert_true(n > 0);
		for (size_t i = 0; i < n; i++) {
			for (size_t k = 0; k < i; k++)
				assert_string_not_equal(o[i].key, o[k].key);
			assert_non_null(o[i].help);
			assert_true(o[i].offset < sections[s].size);
			assert_false(o[i].required && o[i].dflt);
			assert_int_equal(o[i].floor != 0, o[i].rfc != NULL);
			if (o[i].dflt)
				config_free(with(
					(enum section)s, o[i].only == ONLY_IPSEC, o[i].key, o[i].dflt, NULL));
		}
	}
}

static void table_as_text(void **state)
{
	char *text, *help, *line, *rest;
	size_t len, rows = 0;
	FILE *f = open_memstream(&text, &len);

	(void)state;
	assert_non_null(f);
	config_dump_table(f);
	assert_int_equal(fclose(f), 0);
	f = open_memstream(&help, &len);
	assert_non_null(f);
	config_help(f);
	assert_int_equal(fclose(f), 0);
	assert_non_null(strstr(text, "gateway\ttun_mtu\ta number, 1280 to 65520\t1500\tno\n"));
	assert_non_null(strstr(text, "tunnel\tremote\tany, or an IPv4 or IPv6 address\trequired\tyes\n"));
	for (rest = text; (line = strsep(&rest, "\n")) && *line; rows++) {
		int tabs = 0;

		for (const char *p = line; *p; p++)
			tabs += *p == '\t';
		assert_int_equal(tabs, 4);
		strsep(&line, "\t");
		assert_non_null(strstr(help, strsep(&line, "\t")));
	}
	assert_int_equal(rows, NOTHERS);
	assert_non_null(strstr(help, "[tunnel NAME]"));
	free(text);
	free(help);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_difference_is_seen),
		cmocka_unit_test(equal_is_what_means_the_same),
		cmocka_unit_test(table_is_sound),
		cmocka_unit_test(table_as_text),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
