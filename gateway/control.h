/* SPDX-License-Identifier: GPL-2.0-or-later */
/* control.h - the control socket: newline-delimited JSON on a unix socket, for arrctl. */
#ifndef ARRD_CONTROL_H
#define ARRD_CONTROL_H

struct gateway;
struct control;

/* Listens on the configured path (a stale socket is replaced, a live one is an error). Returns 0 or -errno. */
int control_open(struct control **out, struct gateway *gw);

/* Closes listener and clients; the loop must run once more until they are gone. */
void control_close(struct control *c);

#endif
