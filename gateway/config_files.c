/* SPDX-License-Identifier: GPL-2.0-or-later */
/* config_files.c - files that the configuration consists of or points at, and who else can read them. */
#include "gateway/config_private.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PSK_FILE_MAX 4096 /* octets of a file that holds a key */

/* ---- reading ------------------------------------------------------------------------------------- */

/* Of size octets when it was looked at. */
static int read_whole(int fd, size_t size, char **text, size_t *len)
{
	char *t = malloc(size + 1);
	size_t n = 0;
	ssize_t r;

	if (!t)
		return -ENOMEM;
	while (n < size && (r = read(fd, t + n, size - n)) != 0) {
		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0) {
			int err = -errno;

			sodium_memzero(t, n);
			free(t);
			return err;
		}
		n += (size_t)r;
	}
	t[n] = '\0';
	*text = t;
	*len = n;
	return 0;
}

int config_slurp(const char *path, size_t max, const char *expected, char **text, size_t *len,
	struct stat *st, char *why, size_t whylen)
{
	/* O_NONBLOCK: a FIFO of that name shall not hold up the start. */
	int fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC), err = 0;

	*text = NULL;
	*st = (struct stat){0};
	if (fd < 0 || fstat(fd, st) < 0) {
		err = -errno;
	} else if (!S_ISREG(st->st_mode)) {
		snprintf(why, whylen, "is %s; expected a regular file",
			S_ISDIR(st->st_mode) ? "a directory" : "no regular file");
		err = -EINVAL;
		goto out;
	} else if ((uint64_t)st->st_size > max) {
		snprintf(why, whylen, "is larger than %zu octets; expected %s", max, expected);
		err = -EINVAL;
		goto out;
	} else {
		err = read_whole(fd, (size_t)st->st_size, text, len);
	}
	if (err && err != -ENOMEM) {
		snprintf(why, whylen, "cannot be read: %s; expected a readable file", strerror(-err));
		err = -EINVAL;
	}
out:
	if (fd >= 0)
		close(fd);
	return err;
}

/* ---- secrets ------------------------------------------------------------------------------------- */

/* arrd runs as its own user. `arrd -t` is also run by root, who then asks in the name of the group "arrd". */
static gid_t own_group(struct loader *l)
{
	struct group g, *found = NULL;
	char buf[4096];

	if (l->group_known)
		return l->group;
	l->group = getegid();
	if (geteuid() == 0 && getgrnam_r("arrd", &g, buf, sizeof(buf), &found) == 0 && found)
		l->group = found->gr_gid;
	l->group_known = true;
	return l->group;
}

const char *config_exposed(struct loader *l, const struct stat *st)
{
	if (st->st_mode & (S_IROTH | S_IWOTH))
		return "can be read or written by everybody; expected mode 0600, or 0640 and arrd's group";
	if (st->st_mode & S_IWGRP)
		return "can be written by its group; expected mode 0600, or 0640 and arrd's group";
	if (st->st_mode & S_IRGRP && st->st_gid != getegid() && st->st_gid != own_group(l))
		return "can be read by a group that is not arrd's; expected mode 0600, or 0640 and arrd's "
		       "group";
	return NULL;
}

struct psk_context {
	struct loader *l;
	const struct item *it;
};

static void say_of_psk_file(void *arg, const char *text)
{
	const struct psk_context *p = arg;

	config_error(p->l, p->it, "psk_file", "%s", text);
}

void config_read_psk(struct loader *l, struct item *it)
{
	struct conf_ike *ike = &((struct conf_tunnel *)it->obj)->ike;
	struct psk_context p = {l, it};
	const struct complaint c = {say_of_psk_file, &p};
	char why[256], *text;
	const char *exposed;
	struct stat st;
	size_t len = 0, n;
	int err = config_slurp(
		ike->psk_file, PSK_FILE_MAX, "a file that holds one key", &text, &len, &st, why, sizeof(why));

	n = len;
	if (err == -EINVAL)
		config_error(l, it, "psk_file", VALUE_SHOWN " %s", ike->psk_file, why);
	exposed = err ? NULL : config_exposed(l, &st);
	if (exposed) {
		config_error(l, it, "psk_file", VALUE_SHOWN " %s", ike->psk_file, exposed);
	} else if (!err) {
		if (n && text[n - 1] == '\n')
			n--;
		if (n && n < len && text[n - 1] == '\r')
			n--;
		err = value_psk_decode(text, n, PSK_FILE_MAX, &ike->psk, &ike->psk_len, &c);
	}
	if (err == -ENOMEM)
		l->nomem = true;
	if (text)
		sodium_memzero(text, len);
	free(text);
}

/* ---- paths --------------------------------------------------------------------------------------- */

int config_complete_path(const struct item *it, char **path)
{
	const char *slash = strrchr(it->file, '/');
	int dir = slash ? (int)(slash - it->file) + 1 : 0, n;
	char *whole, *here = NULL;

	if (**path == '/')
		return 0;
	if (it->file[0] != '/') {
		here = getcwd(NULL, 0);
		if (!here)
			return errno == ENOMEM ? -ENOMEM : 0; /* no such directory: so is the path */
	}
	n = asprintf(&whole, "%s%s%.*s%s", here ? here : "", here ? "/" : "", dir, it->file, *path);
	free(here);
	if (n < 0)
		return -ENOMEM;
	free(*path);
	*path = whole;
	return 0;
}
