/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ike_version.h - is the library that would be used the one that the headers were of? Without strongSwan's headers. */
#ifndef ARRD_IPSEC_IKE_VERSION_H
#define ARRD_IPSEC_IKE_VERSION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

/* Whether a Debian package's version, such as 1:5.9.8-5+deb12u2, is of upstream version headers. */
bool ike_version_equal(const char *headers, const char *package);

/* The installed version of libcharon's package in dpkg's status file. Returns 0 or -ENOENT. */
int ike_version_find(FILE *f, char *version, size_t len);

/* Together. Returns 0, or -ENOTSUP with a message. */
int ike_version_check_file(const char *path, const char *headers, char *err, size_t errlen);

#endif
