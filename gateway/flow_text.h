/* SPDX-License-Identifier: GPL-2.0-or-later */
/* flow_text.h - names of protocols, and a flow in one line, for people. */
#ifndef ARRD_FLOW_TEXT_H
#define ARRD_FLOW_TEXT_H

#include "flowstate/flowstate.h"

/* "tcp" and the like, or the number. Returns buf, or a constant. */
#define PROTO_STRLEN 4
const char *proto_name(uint8_t proto, char buf[static PROTO_STRLEN]);
/* The protocol of a name or number, -1: it is neither. */
int proto_parse(const char *s);

/* "tcp 10.0.1.5:40000 > 93.184.216.34:80", and ", seen as 10.0.1.5:51234" if it is translated. Ports are left out where
 * the protocol has none; an ICMP echo has its identifier in their place. Returns buf. */
#define FLOW_STRLEN 256
const char *flow_text(const struct fs_info *f, char buf[static FLOW_STRLEN]);

#endif
