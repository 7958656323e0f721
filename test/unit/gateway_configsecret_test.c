/* SPDX-License-Identifier: GPL-2.0-or-later */
/* gateway_configsecret_test.c - files that hold keys of ipsec tunnels: what is in them, who may read them, what a reload sees
 * of them; and that keys are gone from memory when the configuration is. */
#include "test/unit/config_dir.h"

#include <errno.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/wait.h>

/* ---- keys in files --------------------------------------------------------------------------------- */

#define SHORT                                                                                                \
	"~/x.conf:5: [tunnel a] psk_file: is so short that it can be guessed by whoever is called with it; " \
	"expected 22 letters and digits, or more, that a machine has drawn\n"

static void psk_files(void **state)
{
	static const char big[4097];
	static const struct {
		const char *content;
		size_t n;
		const char *key;
		uint32_t len;
		const char *error;
	} cases[] = {
		{"12345678", 8, "12345678", 8, NULL},
		{"12345678\n", 9, "12345678", 8, NULL},
		{"12345678\r\n", 10, "12345678", 8, NULL},
		{"12345678\n\n", 10, "12345678\n", 9, NULL}, /* one line end, no more */
		{"a key ; with # \"it\"\n", 20, "a key ; with # \"it\"", 19, NULL},
		{"0x3132333435363738\n", 19, "12345678", 8, NULL},
		{"0sMTIzNDU2Nzg=\n", 15, "12345678", 8, NULL},
		{"\0\1\2\3\4\5\6\xff\n", 9, "\0\1\2\3\4\5\6\xff", 8, NULL},
		{"0123456789abcde\n", 16, "0123456789abcde", 15, NULL},
		{"0123456789abcdef\n", 17, "0123456789abcdef", 16, NULL},
		{big, 4096, big, 4096, NULL},
		{big, 4097, NULL, 0,
			"\"~/psk\" is larger than 4096 octets; expected a file that holds one key"},
		{"1234567\n", 8, NULL, 0, "the key has 7 octets; expected 8 to 4096"},
		{"", 0, NULL, 0, "the key has 0 octets; expected 8 to 4096"},
		{"\n", 1, NULL, 0, "the key has 0 octets; expected 8 to 4096"},
		{"\"12345678\"\n", 11, NULL, 0,
			"the key is in quotes, which would be part of it; expected it without"},
		{"0xsecretsecret", 14, NULL, 0,
			"the key is not valid; expected text, or 0x and an even number of hexadecimal "
			"digits, or "
			"0s and base64"},
	};

	(void)state;
	write_text("x.conf", BARE "psk_file = psk\n");
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char error[512];
		struct config *c;

		write_octets("psk", cases[i].content, cases[i].n, 0600);
		if (cases[i].error) {
			snprintf(error, sizeof(error), "~/x.conf:5: [tunnel a] psk_file: %s\n",
				cases[i].error);
			load_bad(error);
			continue;
		}
		c = load(NULL, cases[i].len < 22 ? SHORT : NULL);
		assert_int_equal(c->tunnels[0].ike.psk_len, cases[i].len);
		assert_memory_equal(c->tunnels[0].ike.psk, cases[i].key, cases[i].len);
		assert_string_equal(c->tunnels[0].ike.psk_file, at("psk"));
		config_free(c);
	}
	assert_int_equal(unlink(at("psk")), 0);
	load_bad("~/x.conf:5: [tunnel a] psk_file: \"~/psk\" cannot be read: No such file or directory; "
		 "expected a "
		 "readable file\n");
	assert_int_equal(mkfifo(at("psk"), 0600), 0); /* must not wait for a writer */
	load_bad("~/x.conf:5: [tunnel a] psk_file: \"~/psk\" is no regular file; expected a regular file\n");
}

/* A path is relative to the file that names it, and in the configuration absolute. */
static void relative_paths(void **state)
{
	char here[4096], path[512];
	struct config *c;
	char *errors;

	(void)state;
	assert_int_equal(mkdir(at("tunnels.d"), 0700), 0);
	assert_int_equal(mkdir(at("psk"), 0700), 0);
	write_text("x.conf", "");
	write_text("psk/a", "the key of branch a and no other\n");
	write_text("tunnels.d/a.conf", BARE "psk_file = ../psk/a\n");
	c = load(NULL, NULL);
	snprintf(path, sizeof(path), "%s/tunnels.d/../psk/a", dir);
	assert_string_equal(c->tunnels[0].ike.psk_file, path);
	assert_string_equal(c->tunnels[0].ike.psk, "the key of branch a and no other");
	config_free(c);

	/* the file that names it is relative itself */
	assert_non_null(getcwd(here, sizeof(here)));
	assert_int_equal(chdir(dir), 0);
	assert_int_equal(config_load("x.conf", &c, &errors), 0);
	assert_string_equal(c->tunnels[0].ike.psk_file, path);
	config_free(c);
	assert_int_equal(chdir(here), 0);

	snprintf(path, sizeof(path), BARE "psk_file = %s/psk/a\n", dir);
	write_text("tunnels.d/a.conf", path);
	c = load(NULL, NULL);
	assert_string_equal(c->tunnels[0].ike.psk_file, at("psk/a"));
	config_free(c);
}

/* ---- who may read them ----------------------------------------------------------------------------- */

#define BY_GROUP  "can be written by its group; expected mode 0600, or 0640 and arrd's group"
#define ITS_GROUP "can be read by a group that is not arrd's; expected mode 0600, or 0640 and arrd's group"

/* A file of each mode and group, as a configuration with a key and as a file that holds one. */
static void modes(void **state)
{
	static const struct {
		mode_t mode;
		bool other_group;
		const char *error;
	} cases[] = {
		{0600, false, NULL},
		{0400, false, NULL},
		{0640, false, NULL},
		{0440, false, NULL},
		{0710, false, NULL},
		{0601, false, NULL},
		{0604, false, EVERYBODY},
		{0602, false, EVERYBODY},
		{0644, false, EVERYBODY},
		{0660, false, BY_GROUP},
		{0620, false, BY_GROUP},
		{0600, true, NULL},
		{0640, true, ITS_GROUP},
		{0660, true, BY_GROUP},
		{0644, true, EVERYBODY},
	};
	char error[512];

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		static const char psk[] = "1234567890123456789012",
				  conf[] = BARE "psk = 1234567890123456789012\n";
		gid_t group = cases[i].other_group ? 54321 : getegid();

		if (cases[i].other_group && geteuid() != 0) {
			print_message("not root: no file of another group\n");
			break;
		}
		write_text("x.conf", BARE "psk_file = psk\n");
		write_octets("psk", psk, sizeof(psk) - 1, cases[i].mode);
		assert_int_equal(chown(at("psk"), (uid_t)-1, group), 0);
		snprintf(error, sizeof(error), "~/x.conf:5: [tunnel a] psk_file: \"~/psk\" %s\n",
			cases[i].error ? cases[i].error : "");
		config_free(load(cases[i].error ? error : NULL, NULL));

		write_octets("x.conf", conf, sizeof(conf) - 1, cases[i].mode);
		assert_int_equal(chown(at("x.conf"), (uid_t)-1, group), 0);
		snprintf(error, sizeof(error), "~/x.conf:5: [tunnel a] psk: stands in a file that %s\n",
			cases[i].error ? cases[i].error : "");
		config_free(load(cases[i].error ? error : NULL, NULL));
		assert_int_equal(chown(at("x.conf"), (uid_t)-1, getegid()), 0);
	}
	/* without a key in it, anybody may read it */
	write_text("psk", "1234567890123456789012");
	assert_int_equal(chown(at("psk"), (uid_t)-1, getegid()), 0);
	write_octets("x.conf", BARE "psk_file = psk\n", sizeof(BARE "psk_file = psk\n") - 1, 0666);
	config_free(load(NULL, NULL));
}

/* Root checks in the name of the group "arrd", where there is one: here, in a process that has another /etc/group. */
static void group_of_arrd(void **state)
{
	int status;
	pid_t pid;

	(void)state;
	if (geteuid() != 0) {
		print_message("not root: no other /etc/group\n");
		skip();
	}
	write_text("x.conf", BARE "psk_file = psk\n");
	write_octets("psk", "1234567890123456789012", 22, 0640);
	assert_int_equal(chown(at("psk"), 0, 54321), 0);
	load_bad("~/x.conf:5: [tunnel a] psk_file: \"~/psk\" " ITS_GROUP "\n");
	write_text("group", "root:x:0:\narrd:x:54321:\n");
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		struct config *c = NULL;
		char *errors = NULL;
		bool same = unshare(CLONE_NEWNS) == 0 &&
			    mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
			    mount(at("group"), "/etc/group", NULL, MS_BIND, NULL) == 0 &&
			    config_load(at("x.conf"), &c, &errors) == 0;

		_exit(same ? 0 : 1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

/* ---- what a reload sees ---------------------------------------------------------------------------- */

static void keys_that_changed(void **state)
{
	static const struct timespec old[2] = {{1, 0}, {1, 0}};
	struct config *c;

	(void)state;
	write_text("x.conf", BARE "psk_file = psk\n");
	write_text("psk", "1234567890123456789012");
	c = load(NULL, NULL);
	assert_change(c, false);
	write_text("psk", "1234567890123456789012\n");
	assert_int_equal(utimensat(AT_FDCWD, at("psk"), old, 0), 0);
	assert_change(c, false); /* the same key */
	write_text("psk", "1234567890123456789013");
	assert_int_equal(utimensat(AT_FDCWD, at("psk"), old, 0), 0);
	assert_change(c, true);
	write_text("psk", "1234567890123456789012");
	write_text("x.conf", BARE "psk = 1234567890123456789012\n");
	assert_change(c, true); /* another option */
	config_free(c);
}

/* ---- keys in memory -------------------------------------------------------------------------------- */

#define SECRET_LEN 24

/* The test itself must not hold the secret anywhere: it is made, octet by octet, when it is compared. */
static unsigned char secret_octet(size_t i)
{
	return (unsigned char)('A' + (i * 7 + i * i * 3 + 5) % 26);
}

static bool is_secret(const unsigned char *p)
{
	for (size_t i = 0; i < SECRET_LEN; i++)
		if (p[i] != secret_octet(i))
			return false;
	return true;
}

/* Writes text with each $ replaced by the secret. */
static void write_secret(const char *name, const char *text)
{
	unsigned char buf[512];
	size_t n = 0;

	for (; *text; text++)
		if (*text == '$')
			for (size_t i = 0; i < SECRET_LEN; i++)
				buf[n++] = secret_octet(i);
		else
			buf[n++] = (unsigned char)*text;
	write_octets(name, buf, n, 0600);
	explicit_bzero(buf, sizeof(buf));
}

/* How often the secret stands in the writable memory of this process. */
static unsigned count_secrets(void)
{
	static unsigned char chunk[65536];
	FILE *maps = fopen("/proc/self/maps", "r");
	int mem = open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
	unsigned found = 0;
	char line[512];

	assert_true(maps && mem >= 0);
	while (fgets(line, sizeof(line), maps)) {
		unsigned long from, to;
		char perm[5];

		/* what a sanitizer reserves is terabytes large, and no memory of the program */
		if (sscanf(line, "%lx-%lx %4s", &from, &to, perm) != 3 ||
			perm[1] != 'w' || /* NOLINT(cert-err34-c) */
			to - from > 1ul << 30)
			continue;
		for (; from + SECRET_LEN < to; from += sizeof(chunk) - SECRET_LEN + 1) {
			size_t n = to - from < sizeof(chunk) ? to - from : sizeof(chunk);
			ssize_t got = pread(mem, chunk, n, (off_t)from);

			for (ssize_t i = 0; i + SECRET_LEN <= got; i++)
				found += chunk[i] == secret_octet(0) && is_secret(chunk + i);
			explicit_bzero(chunk, sizeof(chunk));
		}
	}
	fclose(maps);
	close(mem);
	return found;
}

/* Before the secret: where free() writes into what it is given, a trace of that would hide what is left. */
#define LONG "012345678901234567890129abcdef012345678901234567890129abcdef"

static void keys_are_wiped(void **state)
{
	struct config *c;
	char *errors;

	(void)state;
	write_secret("x.conf", BARE "psk = " LONG "$\n");
	assert_int_equal(count_secrets(), 0);
	c = load(NULL, NULL);
	assert_int_equal(count_secrets(), 1);
	config_free(c);
	assert_int_equal(count_secrets(), 0);

	write_secret("psk", LONG "$\n");
	write_text("x.conf", BARE "psk_file = psk\n");
	c = load(NULL, NULL);
	assert_int_equal(count_secrets(), 1);
	config_free(c);
	assert_int_equal(count_secrets(), 0);

	/* a key twice, a load that fails, a file that others can read, a key that is none */
	write_secret("x.conf", BARE "psk = " LONG "$\npsk = " LONG "$\nx = y\n");
	assert_int_equal(config_load(at("x.conf"), &c, &errors), -EINVAL);
	free(errors);
	assert_int_equal(count_secrets(), 0);
	write_text("x.conf", BARE "psk_file = psk\n");
	assert_int_equal(chmod(at("psk"), 0644), 0);
	assert_int_equal(config_load(at("x.conf"), &c, &errors), -EINVAL);
	free(errors);
	assert_int_equal(count_secrets(), 0);
	write_secret("x.conf", BARE "psk = \"" LONG "$\"\n[tunnel b]\npsk: $\npsk $\n$\n$ = $\n");
	assert_int_equal(config_load(at("x.conf"), &c, &errors), -EINVAL);
	free(errors);
	assert_int_equal(count_secrets(), 0);
	write_secret("psk", "0x" LONG "$\n");
	write_text("x.conf", BARE "psk_file = psk\n");
	assert_int_equal(config_load(at("x.conf"), &c, &errors), -EINVAL);
	free(errors);
	assert_int_equal(count_secrets(), 0);
}

/* ---- many ------------------------------------------------------------------------------------------ */

/* Nothing that is done to tunnels may be quadratic: this takes about 0.1 s, several times as much under a sanitizer, and
 * minutes if it is. */
static void many_tunnels(void **state)
{
	char name[64], text[512];
	int n = 10000;
	long ms;

	(void)state;
	assert_int_equal(mkdir(at("tunnels.d"), 0700), 0);
	write_text("x.conf", "");
	for (int i = 0; i < n; i++) {
		snprintf(name, sizeof(name), "tunnels.d/%05d.conf", i);
		snprintf(text, sizeof(text),
			"[tunnel t%d]\ntype = ipsec\nlocal = 198.51.100.1\nremote = any\npsk = a drawn key "
			"of tunnel "
			"%d\n"
			"local_id = gw.example.net\nremote_id = b%d.example.net\nroutes = 10.1.0.0/16\n",
			i, i, i);
		write_text(name, text);
	}
	ms = load_ms((size_t)n);
	print_message("%d tunnels with keys in %ld ms\n", n, ms);
	assert_true(ms < 10000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(psk_files, remove_files),
		cmocka_unit_test_teardown(relative_paths, remove_files),
		cmocka_unit_test_teardown(modes, remove_files),
		cmocka_unit_test_teardown(group_of_arrd, remove_files),
		cmocka_unit_test_teardown(keys_that_changed, remove_files),
		cmocka_unit_test_teardown(keys_are_wiped, remove_files),
		cmocka_unit_test_teardown(many_tunnels, remove_files),
	};

	RUN_IN_DIRECTORY(tests);
}
