/* SPDX-License-Identifier: GPL-2.0-or-later */
/* control_peer.c - who is at the other end of a connection to the control socket, and what it may do. */
#include "gateway/control_private.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

/* Whether the peer had gid among its supplementary groups when it connected. The kernel is asked, not the
 * user database: that may be far away, and the loop waits for nobody. */
static bool peer_in_group(int fd, gid_t gid)
{
	socklen_t len = 0;
	gid_t *groups;
	bool in = false;

	if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, NULL, &len) == 0 || errno != ERANGE)
		return false;
	groups = malloc(len);
	if (groups && getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &len) == 0)
		for (size_t i = 0; i < len / sizeof(*groups); i++)
			in |= groups[i] == gid;
	free(groups);
	return in;
}

struct control_peer control_peer_of(int fd, bool has_group, gid_t group)
{
	struct ucred cred;
	socklen_t len = sizeof(cred);
	struct control_peer peer = {.access = CONTROL_REFUSED};

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0)
		return peer;
	peer.uid = cred.uid;
	peer.pid = cred.pid;
	if (cred.uid == 0 || cred.uid == geteuid())
		peer.access = CONTROL_ADMIN;
	else if (has_group && (cred.gid == group || peer_in_group(fd, group)))
		peer.access = CONTROL_READ;
	return peer;
}
