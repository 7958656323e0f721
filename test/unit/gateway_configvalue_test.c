/* SPDX-License-Identifier: GPL-2.0-or-later */
/* gateway_configvalue_test.c - pre-shared keys and identities as they stand in a configuration. */
#include "gateway/values.h"
#include "test/unit/config_text.h"

/* The same without a key, in four. */
#define N "[tunnel a]\ntype = ipsec\nlocal = 198.51.100.1\nremote = 203.0.113.1\n"

/* ---- keys ---------------------------------------------------------------------------------------- */

static void keys(void **state)
{
#define TEXT256                                                                                              \
	"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"   \
	"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"   \
	"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	static const struct {
		const char *value, *key;
		uint32_t len;
		const char *error;
	} cases[] = {
		{"a key, with = signs #;and so on", "a key, with = signs #;and so on", 31, NULL},
		{"a key with ; a comment", "a key with", 10, NULL},
		{"gr\xc3\xbc\xc3\x9f"
		 "e\tx",
			"gr\xc3\xbc\xc3\x9f"
			"e\tx",
			9, NULL},
		{"0sAAECAwQFBgcICQ==", "\0\1\2\3\4\5\6\7\10\11", 10, NULL},
		{"0X00112233", "0X00112233", 10, NULL}, /* as in swanctl.conf, only a small x is a prefix */
		{"\"quoted", "\"quoted", 7, "the key has 7 octets; expected 8 to 256"},
		{TEXT256, TEXT256, 256, NULL},
		{TEXT256 "x", NULL, 0, "the key has 257 octets; expected 8 to 256"},
		{"0x" TEXT256 TEXT256, NULL, 256, NULL},
		{"1234567", NULL, 0, "the key has 7 octets; expected 8 to 256"},
		{"0x00112233445566", NULL, 0, "the key has 7 octets; expected 8 to 256"},
		{"0x0011223344556677889", NULL, 0,
			"the key is not valid; expected text, or 0x and an even number of hexadecimal "
			"digits, or "
			"0s and base64"},
		{"0xsecretsecret", NULL, 0, "the key is not valid; ..."},
		{"0x", NULL, 0, "the key has 0 octets; ..."},
		{"0sAAECAwQFBgcICQ=", NULL, 0, "the key is not valid; ..."},
		{"0ssecret secret!", NULL, 0, "the key is not valid; ..."},
		{"\"12345678\"", NULL, 0,
			"the key is in quotes, which would be part of it; expected it without"},
		{"", NULL, 0,
			"has no value; expected a key of 8 to 256 octets, as text, 0x and hexadecimal, or 0s "
			"and "
			"base64"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char text[1024], errors[512];
		struct config *c;

		snprintf(text, sizeof(text), N "psk = %s\n", cases[i].value);
		if (cases[i].error) {
			snprintf(errors, sizeof(errors), "x.conf:5: [tunnel a] psk: %s", cases[i].error);
			check_bad(&(struct bad_case){text, errors}, 1);
			continue;
		}
		c = good(text);
		assert_int_equal(c->tunnels[0].ike.psk_len, cases[i].len);
		if (cases[i].key)
			assert_memory_equal(c->tunnels[0].ike.psk, cases[i].key, cases[i].len);
		config_free(c);
	}
}

/* Whatever is wrong with the lines around a key, no message shows it. */
static void keys_are_not_shown(void **state)
{
	static const char *const cases[] = {
		N "psk = s3\n",
		N "psk = 0xs3cretzz\n",
		N "psk = 0ss3cret!!!!!!!\n",
		N "psk = \"s3cret s3cret\"\n",
		N "psk = 12345678\npsk = s3crets3cret\n",
		N "psk: s3crets3cret\n",
		N "psk s3crets3cret\n",
		N "pskk = s3crets3cret\n",
		N "psk = \xff\xfe\x01s3crets3cret\n",
		N "psk = 12345678\n  s3crets3cret\n",
		N "psk = 0sAAECAwQFBgcICQAA\n  s3crets3cret==\n",
		N "psk = 0sAAECAwQFBgcICQAA\n  s3crets3cret\ns3crets3cret==\n",
		"psk = s3crets3cret\n",
		"[gateway]\npsk = s3crets3cret\n",
		"[nothing]\npsk: s3crets3cret\n",
		A "psk = s3crets3cret\n",
	};
	struct config *c;
	char *errors;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		load_text(cases[i], strlen(cases[i]), &c, &errors, -EINVAL);
		if (strstr(errors, "s3"))
			fail_msg("%s\n--- has the errors\n%s", cases[i], errors);
		free(errors);
	}
}

/* ---- identities ---------------------------------------------------------------------------------- */

static void say_to(void *arg, const char *text)
{
	snprintf(arg, 512, "%s", text);
}

static void identities(void **state)
{
#define MANY " stands for many peers; expected an identity of one"
	static const struct {
		const char *id, *canon;
		const char *error; /* its beginning, without the identity in quotes */
	} cases[] = {
		{"branch.example.net", "fqdn:branch.example.net", NULL},
		{"Branch.Example.NET", "fqdn:branch.example.net", NULL},
		{"@branch", "fqdn:branch", NULL},
		{"fqdn:branch", "fqdn:branch", NULL},
		{"DNS:branch", "fqdn:branch", NULL},
		{"u@example.net", "email:u@example.net", NULL},
		{"@@u@example.net", "email:u@example.net", NULL},
		{"email:u@Example.net", "email:u@example.net", NULL},
		{"userfqdn:u", "email:u", NULL},
		{"203.0.113.1", "ip:203.0.113.1", NULL},
		{"2001:DB8:0::1", "ip:2001:db8::1", NULL},
		{"keyid:Branch A", "keyid:4272616e63682041", NULL},
		{"keyid:#4272616E63682041", "keyid:4272616e63682041", NULL},
		{"@#4272", "keyid:4272", NULL},
		{"a:b", "keyid:613a62", NULL}, /* neither an address nor a name */
		{"keyid:a=b", "keyid:613d62", NULL},
		{"C=DE, O=Example Ltd, CN=gw.example.net", "dn:/C=de/O=example ltd/CN=gw.example.net", NULL},
		{"c=DE,o = Example Ltd ,  cn=gw.example.net", "dn:/C=de/O=example ltd/CN=gw.example.net",
			NULL},
		{"/C=DE/O=Example, Ltd/emailAddress=a@b", "dn:/C=de/O=example, ltd/E=a@b", NULL},
		{"CN=a, Email=x", "dn:/CN=a/E=x", NULL},
		{"asn1dn:#3000", "der-dn:3000", NULL},
		{"xmppaddr:a@b", "xmpp:a@b", NULL},
		{"%any", NULL, MANY},
		{"%any6", NULL, MANY},
		{"*", NULL, MANY},
		{"*.example.net", NULL, MANY},
		{"*@example.net", NULL, MANY},
		{"C=DE, O=Example, CN=*", NULL, MANY},
		{"10.0.0.0/8", NULL, MANY},
		{"10.0.0.1-10.0.0.9", NULL, MANY},
		{"fd00::/64", NULL, MANY},
		{"ipv4net:10.0.0.0/8", NULL, MANY},
		{"IPV6RANGE:#00", NULL, MANY},
		{"0.0.0.0", NULL, " is not the address of one host; expected the peer's own identity"},
		{"::", NULL, " is not the address of one host; "},
		{"255.255.255.255", NULL, " is not the address of one host; "},
		{"10.0.0.300", NULL, " is neither an address nor a domain name; expected one of them"},
		{"ipv4:10.0.0.1", NULL, " is not understood by every peer; expected the address alone"},
		{"asn1dn:CN=a", NULL, " is not DER; expected # and hexadecimal digits"},
		{"fqdn:#41", NULL, " hides a name in hexadecimal; expected it as text"},
		{"fqdn:", NULL, " says nothing behind its prefix; "},
		{"@", NULL, " says nothing behind its prefix; "},
		{"@@", NULL, " says nothing behind its prefix; "},
		{"@#", NULL, " says nothing behind its prefix; "},
		{"@#123", NULL, " says nothing behind its prefix; "},
		{"keyid:#xy", NULL, " says nothing behind its prefix; "},
		{"{11}:x", NULL, " names a kind by number; expected a name such as keyid:TEXT"},
		{"\"CN=a\"", NULL, " is in quotes, which would be part of it; expected it without"},
		{"CN=a,", NULL, " is not a distinguished name because of \"\"; "},
		{"CN=a, XX=b", NULL,
			" is not a distinguished name because of \"XX=b\"; expected such as C=DE, O=Example, "
			"CN=NAME, or keyid:TEXT for a text with ="},
		{"CN=a, b", NULL, " is not a distinguished name because of \"b\"; "},
		{"CN=a, O", NULL, " is not a distinguished name because of \"O\"; "},
		{"O, CN=a", NULL, " is not a distinguished name because of \"O\"; "},
		{"@a=b", NULL, " is not a distinguished name because of \"@a=b\"; "},
		{"CN=, O=b", NULL, " has a distinguished name's CN without a value; "},
		{"CN = ", NULL, " has a distinguished name's CN without a value; "},
		{"gr\xc3\xbc"
		 "n",
			NULL, " has characters that are not printable ASCII; expected only such"},
	};
	char canon[VALUE_IDENTITY_CANON], got[512], wanted[512], longest[258];
	const struct complaint c = {say_to, got};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		int err = value_identity_canon(cases[i].id, canon, &c);

		if (cases[i].canon) {
			if (err || strcmp(canon, cases[i].canon) != 0)
				fail_msg("%s: %d, %s", cases[i].id, err, err ? got : canon);
			continue;
		}
		snprintf(wanted, sizeof(wanted), "\"%s\"%s", cases[i].id, cases[i].error);
		if (err != -EINVAL || strncmp(got, wanted, strlen(wanted)) != 0)
			fail_msg("%s: %d, %s\nexpected %s", cases[i].id, err, err ? got : canon, wanted);
	}
	/* the longest of each kind that grows */
	for (size_t i = 0; i < 4; i++) {
		static const char *const begin[] = {"keyid:", "CN=", "fqdn:", "a:"};

		memset(longest, 'x', sizeof(longest));
		memcpy(longest, begin[i], strlen(begin[i]));
		longest[255] = '\0';
		assert_int_equal(value_identity_canon(longest, canon, &c), 0);
		longest[255] = 'x';
		longest[256] = '\0';
		assert_int_equal(value_identity_canon(longest, canon, &c), -EINVAL);
		assert_string_equal(got, "the identity has 256 characters; expected 1 to 255");
	}
	assert_int_equal(value_identity_canon("", canon, &c), -EINVAL);
	assert_int_equal(value_identity_canon("*", canon, NULL), -EINVAL); /* nobody is told */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(keys),
		cmocka_unit_test(keys_are_not_shown),
		cmocka_unit_test(identities),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
