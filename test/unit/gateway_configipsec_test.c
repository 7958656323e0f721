/* SPDX-License-Identifier: GPL-2.0-or-later */
/* gateway_configipsec_test.c - tunnels of type ipsec: values, errors, what is taken. Keys and identities:
 * gateway_configvalue_test.c; what needs files: gateway_configsecret_test.c, gateway_configcert_test.c; GRE in such tunnels:
 * gateway_configover_test.c. */
#include "test/unit/config_text.h"

/* An ipsec tunnel without a key, in four lines. */
#define N "[tunnel a]\ntype = ipsec\nlocal = 198.51.100.1\nremote = 203.0.113.1\n"

#define MANY " stands for many peers; expected an identity of one"

static void defaults(void **state)
{
	struct config *c = good(I);
	const struct conf_tunnel *t = c->tunnels;
	const struct conf_ike *k = &t->ike;

	(void)state;
	assert_null(c->warnings);
	assert_int_equal(c->ipsec.threads, 16);
	assert_int_equal(c->ipsec.cookie_threshold, 30);
	assert_int_equal(c->ipsec.block_threshold, 10);
	assert_int_equal(c->ipsec.half_open_max, 5000);
	assert_int_equal(c->ipsec.crypto, CRYPTO_PROVIDER_AUTO);
	assert_int_equal(t->type, TUNNEL_IPSEC);
	assert_false(t->remote_any);
	assert_null(t->over);
	assert_true(!k->local_id && !k->remote_id);
	assert_string_equal(k->psk, KEY);
	assert_int_equal(k->psk_len, strlen(KEY));
	assert_true(!k->psk_file && !k->cert_file && !k->key_file && !k->ca_file);
	assert_int_equal(k->ike_proposals.n, 5);
	assert_string_equal(k->ike_proposals.s[0], "aes256gcm16-prfsha384-ecp384");
	assert_int_equal(k->esp_proposals.n, 5);
	assert_string_equal(k->esp_proposals.s[4], "aes128-sha256-esn-noesn");
	assert_int_equal(k->local_ts.n + k->remote_ts.n, 0);
	assert_int_equal(k->mode, IPSEC_TUNNEL);
	assert_false(k->initiate || k->force_encap);
	assert_true(k->mobike && k->fragmentation);
	assert_int_equal(k->ike_rekey, 14400);
	assert_int_equal(k->ike_reauth, 0);
	assert_int_equal(k->child_rekey, 3600);
	assert_int_equal(k->child_rekey_bytes, 0);
	assert_int_equal(k->child_rekey_packets, 0);
	assert_int_equal(k->dpd_delay, 30);
	assert_int_equal(k->replay_window, 1024);
	assert_int_equal(k->tfc_padding, TFC_OFF);
	assert_int_equal(t->ttl, 64);
	assert_int_equal(t->dscp, DSCP_INHERIT);
	assert_ptr_equal(config_tunnel(c, "a"), t);
	assert_null(config_tunnel(c, "b"));
	config_free(c);

	c = good(A); /* nothing of it in other tunnels */
	assert_int_equal(c->tunnels[0].ike.ike_proposals.n + c->tunnels[0].ike.esp_proposals.n, 0);
	config_free(c);
	c = good("");
	assert_null(config_tunnel(c, "a"));
	config_free(c);
}

static void values_arrive(void **state)
{
	struct config *c = good(
		"[ipsec]\nthreads = 8\ncookie_threshold = 1\nblock_threshold = 0\nhalf_open_max = 0\n"
		"crypto = openssl\n"
		"[tunnel a]\ntype = ipsec\nlocal = 2001:db8::1\nremote = any\n"
		"local_id = C=DE, O=Ex, CN=gw\nremote_id = b@example.net\n"
		"psk = 0x00112233445566778899aabbccddeeFF\n"
		"ike_proposals = aes256gcm16-prfsha384-ecp384\n"
		"ike_proposals = aes128-sha256-ecp256, aes256-sha256-ecp384\nesp_proposals = aes128gcm16\n"
		"local_ts = 10.1.0.0/16, fd00::/64\nremote_ts = 10.0.0.0/8\nmobike = no\n"
		"fragmentation = no\nforce_encap = yes\nike_rekey = 0\nike_reauth = 604800\n"
		"child_rekey = 300\nchild_rekey_bytes = 3G\nchild_rekey_packets = 4294967296\n"
		"dpd_delay = 0\nreplay_window = 4096\ntfc_padding = mtu\nttl = 3\ndscp = 46\n"
		"mtu = 1300\ninterface_address = 10.1.0.1/31\nroutes = 10.0.1.0/24\n");
	const struct conf_tunnel *t = c->tunnels;
	const struct conf_ike *k = &t->ike;
	char buf[PREFIX_STRLEN];

	(void)state;
	assert_null(c->warnings);
	assert_int_equal(c->ipsec.threads, 8);
	assert_int_equal(c->ipsec.cookie_threshold, 1);
	assert_int_equal(c->ipsec.block_threshold + c->ipsec.half_open_max, 0);
	assert_int_equal(c->ipsec.crypto, CRYPTO_PROVIDER_OPENSSL);
	assert_true(t->remote_any && addr_is_none(&t->remote));
	assert_string_equal(k->local_id, "C=DE, O=Ex, CN=gw");
	assert_string_equal(k->remote_id, "b@example.net");
	assert_int_equal(k->psk_len, 16);
	assert_memory_equal(
		k->psk, "\x00\x11\x22\x33\x44\x55\x66\x77\x88\x99\xaa\xbb\xcc\xdd\xee\xff\x00", 17);
	assert_int_equal(k->ike_proposals.n, 3); /* without the default, in their order */
	assert_string_equal(k->ike_proposals.s[1], "aes128-sha256-ecp256");
	assert_string_equal(k->ike_proposals.s[2], "aes256-sha256-ecp384");
	assert_int_equal(k->esp_proposals.n, 1);
	assert_int_equal(k->local_ts.n, 2);
	assert_string_equal(prefix_str(&k->remote_ts.p[0], buf), "10.0.0.0/8");
	assert_false(k->mobike || k->fragmentation);
	assert_true(k->force_encap);
	assert_int_equal(k->ike_rekey, 0);
	assert_int_equal(k->ike_reauth, 604800);
	assert_int_equal(k->child_rekey, 300);
	assert_true(k->child_rekey_bytes == (uint64_t)3 << 30);
	assert_true(k->child_rekey_packets == (uint64_t)1 << 32);
	assert_int_equal(k->dpd_delay, 0);
	assert_int_equal(k->replay_window, 4096);
	assert_int_equal(k->tfc_padding, TFC_MTU);
	assert_int_equal(t->mtu, 1300);
	config_free(c);
}

/* ---- single values ------------------------------------------------------------------------------- */

#define REKEY  " is not valid; expected 0, or seconds, 10 to 604800"
#define WINDOW " is not valid; expected 0, or a number, 64 to 4096"
#define TFC    " is not valid; expected off, mtu, or a number, 1 to 65500"
#define OCTETS " is not valid; expected 0, or a size in octets, k, M, G or T, of 1M and more"

static void bad_values(void **state)
{
	static const struct {
		const char *key, *value, *what;
	} cases[] = {
		{"remote", "somewhere", " is not an address; expected any, or an IPv4 or IPv6 address"},
		{"local", "any", " is not an address; expected an IPv4 or IPv6 address"},
		{"mode", "beet", " is not valid; expected tunnel or transport"},
		{"initiate", "start", " is not valid; expected yes or no"},
		{"local_id", "%any", MANY},
		{"remote_id", "*@example.net", MANY},
		/* IPv4 written as IPv6 stands for neither */
		{"local_ts", "::ffff:10.0.0.0/104",
			" is not an address with a prefix length; expected ADDRESS/LEN"},
		{"remote_ts", "::ffff:0:0/96",
			" is not an address with a prefix length; expected ADDRESS/LEN"},
		{"local_ts", "10.0.0.1/8", " has bits set beyond its prefix length; expected 10.0.0.0/8"},
		{"remote_ts", "any", " is not an address with a prefix length; expected ADDRESS/LEN"},
		{"ike_rekey", "9", REKEY},
		{"ike_rekey", "604801", REKEY},
		{"ike_reauth", "1", REKEY},
		{"child_rekey", "1h", REKEY},
		{"child_rekey", "-1", REKEY},
		{"child_rekey_bytes", "1048575", OCTETS},
		{"child_rekey_bytes", "1023k", OCTETS},
		{"child_rekey_bytes", "k", OCTETS},
		{"child_rekey_bytes", "1P", OCTETS},
		{"child_rekey_bytes", "1GG", OCTETS},
		{"child_rekey_bytes", "9223372036854775808", OCTETS},
		{"child_rekey_bytes", "99999999999999999999999", OCTETS},
		{"child_rekey_bytes", "16777216T", OCTETS},
		{"child_rekey_bytes", "8388608T", OCTETS},
		{"child_rekey_packets", "999", " is not valid; expected 0, or a number, 1000 and more"},
		{"child_rekey_packets", "1M", " is not valid; expected 0, or a number, 1000 and more"},
		{"dpd_delay", "86401", " is not valid; expected 0, or seconds, 1 to 86400"},
		{"replay_window", "63", WINDOW},
		{"replay_window", "4097", WINDOW},
		{"tfc_padding", "yes", TFC},
		{"tfc_padding", "0", TFC},
		{"tfc_padding", "65535", TFC},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const char *key = cases[i].key;
		char text[512], errors[512];

		snprintf(text, sizeof(text), "[tunnel a]\n%s = %s\ntype = ipsec\npsk = 12345678\n%s%s", key,
			cases[i].value, strcmp(key, "local") != 0 ? "local = 198.51.100.1\n" : "",
			strcmp(key, "remote") != 0 ? "remote = 203.0.113.1\n" : "");
		snprintf(errors, sizeof(errors), "x.conf:2: [tunnel a] %s: \"%s\"%s", key, cases[i].value,
			cases[i].what);
		check_bad(&(struct bad_case){text, errors}, 1);
	}
}

static void bad_values_of_section(void **state)
{
	static const struct bad_case cases[] = {
		{"[ipsec]\nthreads = 7\n",
			"x.conf:2: [ipsec] threads: \"7\" is not valid; expected a number, 8 to 64"},
		{"[ipsec]\ncrypto = aes\n",
			"x.conf:2: [ipsec] crypto: \"aes\" is not valid; expected auto, ipsec-mb or openssl"},
		{"[ipsec]\n[ipsec]\n", "x.conf:2: [ipsec] was there in line 1; expected it once"},
		{"[ipsec x]\n", "x.conf:1: [ipsec x] has a name; expected [ipsec]"},
		{"[ipsec]\nx = 1\n",
			"x.conf:2: [ipsec] x: there is no such option; expected one of threads, ..."},
	};

	(void)state;
	CHECK_BAD(cases);
}

static void proposals(void **state)
{
	char text[2048] = I "esp_proposals = aes256gcm16", errors[256];
	static const struct bad_case cases[] = {
		{I "ike_proposals = aes256-sha256-ecp384, bogus-sha256-ecp384, aes256-sha256\n",
			"x.conf:6: [tunnel a] ike_proposals: \"bogus-sha256-ecp384\": unknown algorithm "
			"'bogus'; "
			"encryption: aes128gcm16, aes192gcm16, aes256gcm16, ..."},
		{I "ike_proposals =\n",
			"x.conf:6: [tunnel a] ike_proposals: has no value; expected a list of proposals"},
		{I "esp_proposals = aes128-sha256\nesp_proposals =\n",
			"x.conf:7: [tunnel a] esp_proposals: has no value; expected a list of proposals"},
		{I "esp_proposals = 3des-sha256\n",
			"x.conf:6: [tunnel a] esp_proposals: \"3des-sha256\": ..."},
		{I "esp_proposals = null-sha256\n",
			"x.conf:6: [tunnel a] esp_proposals: \"null-sha256\": ..."},
		{I "esp_proposals = aes256gcm16,,aes128gcm16\n",
			"x.conf:6: [tunnel a] esp_proposals: there is nothing between two commas; expected a "
			"list of proposals"},
	};

	(void)state;
	CHECK_BAD(cases);
	for (int i = 1; i < 32; i++)
		strcat(text, ", aes256gcm16");
	config_free(good(text));
	strcat(text, ", aes128gcm16");
	snprintf(errors, sizeof(errors),
		"x.conf:6: [tunnel a] esp_proposals: \"aes128gcm16\" is one too many; expected at most 32 "
		"proposals");
	check_bad(&(struct bad_case){text, errors}, 1);
}

/* ---- options that go together, or do not ---------------------------------------------------------- */

#define TOP "x.conf:1: [tunnel a] "

static void comparisons(void **state)
{
	static const struct bad_case cases[] = {
		/* options of the other type */
		{I "gre_key = 1\ngre_checksum = no\ngre_sequence = no\nover = b\n",
			"x.conf:6: [tunnel a] gre_key: is no option of a tunnel of type ipsec; expected it "
			"with "
			"type = gre\n"
			"x.conf:7: [tunnel a] gre_checksum: is no option of a tunnel of type ipsec; expected "
			"it "
			"with type = gre\n"
			"x.conf:8: [tunnel a] gre_sequence: is no option of a tunnel of type ipsec; expected "
			"it "
			"with type = gre\n"
			"x.conf:9: [tunnel a] over: is no option of a tunnel of type ipsec; expected it with "
			"type "
			"= gre"},
		{A "psk = 12345678\nlocal_ts = 10.0.0.0/8\nmobike = yes\n",
			"x.conf:5: [tunnel a] psk: is no option of a tunnel of type gre; expected it with "
			"type = "
			"ipsec\n"
			"x.conf:6: [tunnel a] local_ts: is no option of a tunnel of type gre; expected it "
			"with "
			"type "
			"= ipsec\n"
			"x.conf:7: [tunnel a] mobike: is no option of a tunnel of type gre; expected it "
			"with "
			"type = ipsec"},
		/* a type that was refused: nothing further is known */
		{"[tunnel a]\ntype = x\nlocal = 198.51.100.1\nremote = any\npsk = 12345678\n",
			"x.conf:2: [tunnel a] type: \"x\" is not valid; expected gre or ipsec\n"
			"..."},
		/* secrets */
		{N, TOP "psk: is missing; expected psk, psk_file, or cert_file, key_file and ca_file"},
		{I "psk_file = x\n",
			"x.conf:6: [tunnel a] psk_file: there is a psk too; expected one of them"},
		{I "key_file = x\n",
			"x.conf:6: [tunnel a] key_file: there is a psk too; expected either a key "
			"or certificates"},
		{N "psk_file = x\ncert_file = y\n",
			"x.conf:6: [tunnel a] cert_file: there is a psk_file too; expected either a key or "
			"certificates"},
		{N "cert_file = x\n", TOP "key_file: is missing; expected it with cert_file\n..."},
		{N "remote_id = b\ncert_file = x\nkey_file = y\n",
			TOP "ca_file: is missing; expected it with cert_file"},
		{N "remote_id = b\nca_file = x\n", TOP "cert_file: is missing; expected it with ca_file"},
		/* remote = any */
		{K("a", "any"),
			TOP "remote_id: is missing; expected the branch's identity, which tells it from "
			    "others where remote = any"},
		{K("a", "any") "remote_id = b\ninitiate = yes\n",
			"x.conf:7: [tunnel a] initiate: there is no address to begin at; expected initiate = "
			"no, "
			"or a remote that is not any"},
		{K("a", "any") "remote_id = *\n", "x.conf:6: [tunnel a] remote_id: \"*\"" MANY},
		/* transport mode */
		{I "mode = transport\nroutes = 10.0.0.0/8\ntfc_padding = mtu\n",
			"x.conf:7: [tunnel a] routes: there are no inner addresses in transport mode; "
			"expected "
			"mode = tunnel, or the option at the GRE tunnel over it\n"
			"x.conf:8: [tunnel a] tfc_padding: there are no inner addresses in transport mode; "
			"..."},
		{I "mode = transport\ninterface_address = 10.0.0.1/31\ninstall_routes = no\n"
		   "allowed_sources = 10.0.0.0/8\nlocal_ts = 10.0.0.0/8\nremote_ts = 10.0.0.0/8\n",
			"x.conf:7: [tunnel a] interface_address: there are no inner addresses in transport "
			"mode; "
			"expected mode = tunnel, or the option at the GRE tunnel over it\n"
			"x.conf:8: [tunnel a] install_routes: there are no inner addresses in transport "
			"mode; "
			"expected mode = tunnel, or the option at the GRE tunnel over it\n"
			"x.conf:9: [tunnel a] allowed_sources: there are no inner addresses in transport "
			"mode; "
			"expected mode = tunnel, or the option at the GRE tunnel over it\n"
			"x.conf:10: [tunnel a] local_ts: there are no inner addresses in transport mode; "
			"expected mode = tunnel, or the option at the GRE tunnel over it\n"
			"x.conf:11: [tunnel a] remote_ts: there are no inner addresses in transport mode; "
			"expected mode = tunnel, or the option at the GRE tunnel over it"},
	};

	(void)state;
	CHECK_BAD(cases);
}

#define SHORT                                                                                                \
	" is so short that it can be guessed by whoever is called with it; expected 22 letters and digits, " \
	"or more, that a machine has drawn\n"

#define SOON "at a high rate the end comes before the key is renewed, and packets are lost; expected 0, or "

static void allowed(void **state)
{
	static const struct good_case cases[] = {
		{K("a", "any") "remote_id = b\n", NULL},
		{I "mode = transport\n",
			"x.conf:6: [tunnel a] mode: no GRE tunnel travels in this one: nothing "
			"can be sent by it\n"},
		{I "ike_rekey = 299\nchild_rekey = 10\nike_reauth = 300\n",
			"x.conf:6: [tunnel a] ike_rekey: every 299 seconds both ends are busy with new keys; "
			"expected 0, or 300 and more\n"
			"x.conf:7: [tunnel a] child_rekey: every 10 seconds both ends are busy with new "
			"keys; "
			"expected 0, or 300 and more\n"},
		{I "tfc_padding = 1401\nmtu = 1400\n",
			"x.conf:6: [tunnel a] tfc_padding: packets of 1401 octets do not fit into the mtu of "
			"1400\n"},
		{I "tfc_padding = 1400\nmtu = 1400\n", NULL},
		{I "local_ts = 10.0.0.0/8\ninterface_address = 10.0.0.1/31, fd00::1/64\n",
			"x.conf:7: [tunnel a] interface_address: fd00::1 is not in local_ts: the branch "
			"cannot "
			"reach it\n"},
		{I "remote_ts = 10.1.0.0/16\nroutes = 10.1.2.0/24, 10.0.0.0/8, fd00::/64\n",
			"x.conf:7: [tunnel a] routes: 10.0.0.0/8 is not in remote_ts: nothing can be sent "
			"there\n"
			"x.conf:7: [tunnel a] routes: fd00::/64 is not in remote_ts: nothing can be sent "
			"there\n"},
		{I "child_rekey_bytes = 255M\n",
			"x.conf:6: [tunnel a] child_rekey_bytes: " SOON "256M and more\n"},
		{I "child_rekey_packets = 199999\n",
			"x.conf:6: [tunnel a] child_rekey_packets: " SOON "200000 and more\n"},
		{I "child_rekey_bytes = 256M\nchild_rekey_packets = 200000\n", NULL},
		{I "local_ts = 0.0.0.0/0\nremote_ts = ::/0\nroutes = ::/0\ninterface_address = 10.0.0.1/31\n",
			NULL},
		/* keys that can be guessed, and their message tells nothing of them */
		{N "psk = 123456789012345678901\n", "x.conf:5: [tunnel a] psk:" SHORT},
		{N "psk = 0s" /* 15 octets */ "AAECAwQFBgcICQoLDA0O\n", "x.conf:5: [tunnel a] psk:" SHORT},
		{N "psk = 0s" /* 16 */ "AAECAwQFBgcICQoLDA0ODw==\n", NULL},
		{N "psk = 0x3132333435363738393031323334353637383930\n", "x.conf:5: [tunnel a] psk:" SHORT},
		/* IPsec and not, in one site */
		{I "site = s\n" T("b", "203.0.113.2") "site = s\n",
			"x.conf:11: [tunnel b] site: site \"s\" has IPsec, by tunnel a at x.conf:1, and this "
			"tunnel is in the clear: who forges its packets is in the site, and gets its "
			"replies\n"},
		{T("s", "203.0.113.2") I "site = s\n",
			"x.conf:1: [tunnel s]: site \"s\" has IPsec, by tunnel a at x.conf:5, and this "
			"tunnel "
			"is in the clear: who forges its packets is in the site, and gets its replies\n"},
		{I "site = s\n" T("b", "203.0.113.2") "site = s\n" OVER_A, NULL},
		{I "site = s\n" T("b", "203.0.113.2") "site = t\n" T("c", "203.0.113.3") "site = t\n", NULL},
		/* a GRE tunnel between the same outer addresses */
		{I T("b", "203.0.113.1"), NULL},
	};

	(void)state;
	CHECK_GOOD(cases);
}

/* ---- peers that cannot be told apart --------------------------------------------------------------- */

#define SAME(line, what)                                                                                     \
	"x.conf:" line ": [tunnel b] " what                                                                  \
	": local, remote and remote_id are those of tunnel a at x.conf:1; "                                  \
	"expected a remote_id that tells them apart"

#define PAIR(line, what)                                                                                     \
	"x.conf:" line ": [tunnel b] " what ": local_id and remote_id are those of tunnel a at x.conf:1; "   \
	"expected another of one of them, or each would end the other's connections"

static void peers(void **state)
{
	static const struct bad_case bad[] = {
		{I K("b", "203.0.113.1"), SAME("9", "remote")},
		{I "remote_id = b\n" K("b", "203.0.113.1") "remote_id = b\n", SAME("12", "remote_id")},
		{ANY("a") "remote_id = b.net\n" ANY("b") "remote_id = @B.net\nlocal_id = other\n",
			SAME("12", "remote_id")},
		{ANY("a") "remote_id = CN=x,O=y\n" ANY("b") "remote_id = cn=X, o=Y\n",
			SAME("12", "remote_id")},
		/* the default is the address */
		{I "remote_id = 203.0.113.1\n" K("b", "203.0.113.1"), SAME("10", "remote")},
		{ANY("a") "remote_id = 2001:db8::1\n" ANY("b") "remote_id = 2001:DB8:0:0::1\n",
			SAME("12", "remote_id")},
		/* one pair of identities at two places */
		{ANY("a") "remote_id = x\n" K("b", "203.0.113.1") "remote_id = x\n", PAIR("12", "remote_id")},
		{I "remote_id = x\nlocal_id = g\n" J "remote_id = x\nlocal_id = G\n",
			PAIR("13", "remote_id")},
		{I "remote_id = 203.0.113.2\nlocal_id = 198.51.100.1\n" J "local_id = 198.51.100.1\n",
			PAIR("13", "local_id")},
	};
	static const struct good_case allowed_peers[] = {
		{I J, NULL},
		{I "local_id = g\n" J "local_id = g\n", NULL},
		{ANY("a") "remote_id = x\n" ANY("b") "remote_id = y\n", NULL},
		{ANY("a") "remote_id = x\n" K("b", "203.0.113.1") "remote_id = x\nlocal_id = g\n", NULL},
		{ANY("a") "remote_id = x\n" ANY("b") "remote_id = keyid:x\n", NULL},
		{ANY("a") "remote_id = keyid:x\n" ANY("b") "remote_id = keyid:X\n", NULL},
		{I "remote_id = x\n" J "remote_id = x\nlocal_id = g\n", NULL},
		{ANY("a") "remote_id = x\n[tunnel b]\ntype = ipsec\nlocal = 198.51.100.2\nremote = any\n"
			  "remote_id = x\npsk = " KEY "\n",
			NULL},
	};

	(void)state;
	CHECK_BAD(bad);
	CHECK_GOOD(allowed_peers);
}

/* ---- differences ----------------------------------------------------------------------------------- */

static void equal_is_what_means_the_same(void **state)
{
	struct config *a =
		good(I "esp_proposals = aes256gcm16, aes128gcm16\nlocal_ts = 10.0.0.0/8, fd00::/64\n");
	struct config *b = good("\n[tunnel a]\nlocal_ts = fd00::/64\nlocal_ts = 10.0.0.0/8\n"
				"esp_proposals = aes256gcm16\nesp_proposals = aes128gcm16\nmobike = on\n"
				"type = ipsec\nlocal = 198.51.100.1\nremote = 203.0.113.1\n"
				"psk = 0x31323334353637383930313233343536373839303132\n");
	struct config *other =
		good(I "esp_proposals = aes128gcm16, aes256gcm16\nlocal_ts = 10.0.0.0/8, fd00::/64\n");
	struct config *any = good(ANY("a") "remote_id = 203.0.113.1\n");
	struct config *one = good(I "remote_id = 203.0.113.1\n");

	(void)state;
	assert_true(conf_tunnel_eq(a->tunnels, b->tunnels));
	assert_false(conf_tunnel_eq(a->tunnels, other->tunnels)); /* another order of preference */
	assert_false(conf_tunnel_eq(any->tunnels, one->tunnels));
	config_free(a);
	config_free(b);
	config_free(other);
	config_free(any);
	config_free(one);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(defaults),
		cmocka_unit_test(values_arrive),
		cmocka_unit_test(bad_values),
		cmocka_unit_test(bad_values_of_section),
		cmocka_unit_test(proposals),
		cmocka_unit_test(comparisons),
		cmocka_unit_test(allowed),
		cmocka_unit_test(peers),
		cmocka_unit_test(equal_is_what_means_the_same),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
