/* SPDX-License-Identifier: GPL-2.0-or-later */
/* egress_sysctl.c - kernel settings that are changed, and given back.
 *
 * A value is written to DIR/sysctl.saved, and only then changed. The file outlives crashes and restarts, and the
 * first value remembered is the one that counts, so that arrd's own settings of an earlier run are never taken
 * for the machine's. It opens with the boot id and the network namespace: after a reboot, or in another
 * namespace, the kernel has fresh values and the file means nothing.
 *
 *	arrd sysctl 1 BOOT-ID NETNS
 *	net/ipv4/conf/eth0/forwarding 0
 *
 * Values are given back in reverse order: where writing "all" changes the interfaces' values along, those are
 * remembered before "all", and so get theirs back after it.
 */
#include "gateway/egress.h"
#include "gateway/egress_private.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PATH_LEN 128 /* the longest: net/ipv6/conf/ + 15 + /force_forwarding */

struct saved {
	char path[PATH_LEN];
	long value;
	bool wanted;
};

struct sysctls {
	struct log *log;
	char *file, *tmp;
	char header[128];
	struct saved *v;
	size_t n;
};

/* ---- one value -------------------------------------------------------------------------------------- */

static int open_sysctl(const char *path, int flags)
{
	char full[PATH_LEN + 16];

	snprintf(full, sizeof(full), "/proc/sys/%s", path);
	return open(full, flags | O_CLOEXEC);
}

int sysctl_get(const char *path, long *value)
{
	char buf[32], *end;
	int fd = open_sysctl(path, O_RDONLY);
	ssize_t n;

	if (fd < 0)
		return -errno;
	n = read(fd, buf, sizeof(buf) - 1);
	close(fd);
	if (n < 0)
		return -EIO;
	buf[n] = '\0';
	errno = 0;
	*value = strtol(buf, &end, 10);
	return end == buf || errno ? -EINVAL : 0;
}

int sysctl_put(const char *path, long value)
{
	char buf[32];
	int len = snprintf(buf, sizeof(buf), "%ld", value);
	int fd = open_sysctl(path, O_WRONLY);
	int rc = 0;

	if (fd < 0)
		return -errno;
	if (write(fd, buf, (size_t)len) != len)
		rc = errno ? -errno : -EIO;
	close(fd);
	return rc;
}

const char *sysctl_conf(char *buf, size_t len, const char *family, const char *interface, const char *key)
{
	snprintf(buf, len, "net/%s/conf/%s/%s", family, interface, key);
	return buf;
}

long sysctl_rp_filter(const char *interface)
{
	char path[128];
	long all = 0, own = 0;

	(void)sysctl_get("net/ipv4/conf/all/rp_filter", &all);
	(void)sysctl_get(sysctl_conf(path, sizeof(path), "ipv4", interface, "rp_filter"), &own);
	return all > own ? all : own;
}

/* ---- the file --------------------------------------------------------------------------------------- */

/* "arrd sysctl 1 BOOT-ID NETNS": what the values hold for. */
static int make_header(char *buf, size_t len)
{
	char id[64] = "";
	struct stat ns;
	int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
	ssize_t n = 0;

	if (fd >= 0) {
		n = read(fd, id, sizeof(id) - 1);
		close(fd);
	}
	if (n <= 0 || stat("/proc/self/ns/net", &ns))
		return -errno;
	id[strcspn(id, "\n")] = '\0';
	snprintf(buf, len, "arrd sysctl 1 %s %lu", id, (unsigned long)ns.st_ino);
	return 0;
}

static struct saved *find(const struct sysctls *s, const char *path)
{
	for (size_t i = 0; i < s->n; i++)
		if (strcmp(s->v[i].path, path) == 0)
			return &s->v[i];
	return NULL;
}

static struct saved *append(struct sysctls *s, const char *path, long value)
{
	struct saved *v = reallocarray(s->v, s->n + 1, sizeof(*v));

	if (!v)
		return NULL;
	s->v = v;
	v = &s->v[s->n++];
	*v = (struct saved){.value = value};
	snprintf(v->path, sizeof(v->path), "%s", path);
	return v;
}

/* Writes the file anew beside the old one and moves it there. Without values there is no file. */
static int store(const struct sysctls *s)
{
	FILE *f;
	int fd, rc = 0;

	if (!s->n)
		return unlink(s->file) && errno != ENOENT ? -errno : 0;
	/* The directory may be a less privileged user's, whose links are not followed. */
	fd = open(s->tmp, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0644);
	f = fd >= 0 ? fdopen(fd, "w") : NULL;
	if (!f) {
		rc = -errno;
		if (fd >= 0)
			close(fd);
		return rc;
	}
	fprintf(f, "%s\n", s->header);
	for (size_t i = 0; i < s->n; i++)
		fprintf(f, "%s %ld\n", s->v[i].path, s->v[i].value);
	if (ferror(f) || fflush(f) || fsync(fileno(f)))
		rc = -EIO;
	if (fclose(f) && !rc)
		rc = -errno;
	if (!rc && rename(s->tmp, s->file))
		rc = -errno;
	if (rc)
		unlink(s->tmp);
	return rc;
}

/* Reads PATH VALUE; ends the path in line. The path must be below net/ and not leave it: the file is only as
 * trustworthy as its directory. */
static bool parse_line(char *line, long *value)
{
	char *blank = strchr(line, ' '), *end;

	if (!blank)
		return false;
	*blank = '\0';
	errno = 0;
	*value = strtol(blank + 1, &end, 10);
	if (end == blank + 1 || (*end && *end != '\n') || errno)
		return false;
	return strncmp(line, "net/", 4) == 0 && !strstr(line, "..") && strlen(line) < PATH_LEN;
}

static int parse(struct sysctls *s, FILE *f)
{
	char line[256];
	long value;

	if (!fgets(line, sizeof(line), f))
		return 0;
	line[strcspn(line, "\n")] = '\0';
	if (strcmp(line, s->header) != 0) {
		log_info(s->log, "egress", NULL, "%s is of another boot or network namespace, ignored",
			s->file);
		return 0;
	}
	while (fgets(line, sizeof(line), f))
		if (parse_line(line, &value) && !find(s, line) && !append(s, line, value))
			return -ENOMEM;
	return 0;
}

int sysctls_load(struct sysctls **out, const char *dir, struct log *log)
{
	struct sysctls *s = calloc(1, sizeof(*s));
	FILE *f;
	int rc;

	if (!s)
		return -ENOMEM;
	s->log = log;
	rc = make_header(s->header, sizeof(s->header));
	if (rc)
		goto fail;
	rc = -ENOMEM;
	if (asprintf(&s->file, "%s/sysctl.saved", dir) < 0) {
		s->file = NULL;
		goto fail;
	}
	if (asprintf(&s->tmp, "%s.new", s->file) < 0) {
		s->tmp = NULL;
		goto fail;
	}
	f = fopen(s->file, "re");
	rc = f ? parse(s, f) : 0;
	if (f)
		fclose(f);
	if (rc)
		goto fail;
	*out = s;
	return 0;
fail:
	sysctls_free(s);
	return rc;
}

void sysctls_free(struct sysctls *s)
{
	if (!s)
		return;
	free(s->file);
	free(s->tmp);
	free(s->v);
	free(s);
}

/* ---- wanting and giving back ------------------------------------------------------------------------ */

int sysctl_was(const struct sysctls *s, const char *path, long *value)
{
	const struct saved *v = find(s, path);

	if (!v)
		return sysctl_get(path, value);
	*value = v->value;
	return 0;
}

int sysctl_keep(struct sysctls *s, const char *path)
{
	struct saved *v = find(s, path);
	long now = 0;
	int rc;

	if (v) {
		v->wanted = true;
		return 0;
	}
	rc = sysctl_get(path, &now);
	if (rc)
		return rc;
	v = append(s, path, now);
	if (!v)
		return -ENOMEM;
	v->wanted = true;
	rc = store(s);
	if (rc)
		s->n--; /* not on disk: must not be changed */
	return rc;
}

int sysctl_want(struct sysctls *s, const char *path, long value)
{
	struct saved *v = find(s, path);
	long now = 0;
	int rc = sysctl_get(path, &now);

	if (rc)
		return rc;
	if (v)
		v->wanted = true;
	if (now == value)
		return 0;
	rc = sysctl_keep(s, path);
	if (rc)
		return rc;
	rc = sysctl_put(path, value);
	if (rc && !v) { /* not changed: nothing to give back */
		s->n--;
		(void)store(s);
	}
	if (!rc)
		log_info(s->log, "egress", NULL, "sysctl %s: %ld, was %ld", path, value, now);
	return rc;
}

/* Returns whether there is nothing left to be done: a later run may have the rights that this one lacks. */
static bool give_back(struct sysctls *s, const struct saved *v)
{
	int rc = sysctl_put(v->path, v->value);

	/* The interface may be gone, and its settings with it. */
	if (rc && rc != -ENOENT)
		log_warning(s->log, "egress", NULL, "sysctl %s: cannot be given back its %ld: %s", v->path,
			v->value, strerror(-rc));
	return rc != -EACCES && rc != -EPERM;
}

void sysctls_begin(struct sysctls *s)
{
	for (size_t i = 0; i < s->n; i++)
		s->v[i].wanted = false;
}

void sysctls_end(struct sysctls *s)
{
	size_t before = s->n;

	for (size_t i = s->n; i-- > 0;) {
		if (s->v[i].wanted || !give_back(s, &s->v[i]))
			continue;
		memmove(&s->v[i], &s->v[i + 1], (s->n - i - 1) * sizeof(s->v[0]));
		s->n--;
	}
	if (s->n != before && store(s))
		log_warning(s->log, "egress", NULL, "cannot write %s", s->file);
}

void sysctls_restore(struct sysctls *s)
{
	sysctls_begin(s);
	sysctls_end(s);
}

/* ---- the TUN ---------------------------------------------------------------------------------------- */

int egress_quiet_tun(const struct config *c)
{
	/* forwarding: an interface's own makes it join the routers' multicast groups, no more */
	static const char *const off[] = {"accept_ra", "router_solicitations", "forwarding"};
	char path[128];

	if (access("/proc/sys/net/ipv6", F_OK))
		return 0;
	for (size_t i = 0; i < sizeof(off) / sizeof(off[0]); i++)
		(void)sysctl_put(sysctl_conf(path, sizeof(path), "ipv6", c->gateway.tun, off[i]), 0);
	/* 1: none */
	return sysctl_put(sysctl_conf(path, sizeof(path), "ipv6", c->gateway.tun, "addr_gen_mode"), 1);
}
