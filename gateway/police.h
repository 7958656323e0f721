/* SPDX-License-Identifier: GPL-2.0-or-later */
/* police.h - who fills the receive queue loses his own packets first. */
#ifndef ARRD_POLICE_H
#define ARRD_POLICE_H

#include "gateway/path.h"

/* Looks at the queues of the tunnels' sockets; to be called about ten times a second. */
void police_tick(struct path *path);

#endif
