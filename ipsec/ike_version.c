/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ike_version.c - is the library that would be used the one that the headers were of?
 *
 * Between upstream versions libcharon's structures change without notice, and the libraries do not say which version they
 * are. Debian's package database does.
 */
#include "ipsec/ike_version.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PACKAGE "strongswan-libcharon"

bool ike_version_equal(const char *headers, const char *package)
{
	const char *colon = strchr(package, ':'), *dash;
	size_t len;

	if (colon)
		package = colon + 1;
	dash = strrchr(package, '-');
	len = dash ? (size_t)(dash - package) : strlen(package);
	return len == strlen(headers) && strncmp(package, headers, len) == 0;
}

/* Stanzas are parted by empty lines; fields begin in the first column. */
int ike_version_find(FILE *f, char *version, size_t len)
{
	char *line = NULL;
	size_t size = 0;
	bool ours = false, installed = false;
	int ret = -ENOENT;

	version[0] = '\0';
	while (getline(&line, &size, f) >= 0) {
		line[strcspn(line, "\n")] = '\0';
		if (!line[0]) {
			if (ours)
				break;
			installed = false;
		} else if (strcmp(line, "Package: " PACKAGE) == 0) {
			ours = true;
			version[0] = '\0';
		} else if (ours && strncmp(line, "Version: ", 9) == 0) {
			snprintf(version, len, "%s", line + 9);
		} else if (strncmp(line, "Status: ", 8) == 0) {
			installed = strstr(line, " installed") != NULL;
		}
	}
	free(line);
	if (ours && installed && version[0])
		ret = 0;
	return ret;
}

int ike_version_check_file(const char *path, const char *headers, char *err, size_t errlen)
{
	char version[64];
	FILE *f = fopen(path, "re");
	int ret = f ? ike_version_find(f, version, sizeof(version)) : -errno;

	if (f)
		(void)fclose(f);
	if (ret) {
		snprintf(err, errlen,
			"the version of libcharon is not known: no package " PACKAGE
			" in %s; %s was expected",
			path, headers);
		return -ENOTSUP;
	}
	if (!ike_version_equal(headers, version)) {
		snprintf(err, errlen, "libcharon is of version %s; built for %s, and works with no other",
			version, headers);
		return -ENOTSUP;
	}
	return 0;
}
