/* SPDX-License-Identifier: GPL-2.0-or-later */
/* flow_text.c - names of protocols, and a flow in one line, for people. */
#include "gateway/flow_text.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>

static const struct {
	uint8_t proto;
	const char *name;
} protocols[] = {{IPPROTO_TCP, "tcp"}, {IPPROTO_UDP, "udp"}, {IPPROTO_ICMP, "icmp"},
	{IPPROTO_ICMPV6, "icmpv6"}, {IPPROTO_IPIP, "ipip"}, {IPPROTO_IPV6, "ipv6"}, {IPPROTO_GRE, "gre"},
	{IPPROTO_ESP, "esp"}, {IPPROTO_AH, "ah"}, {IPPROTO_SCTP, "sctp"}, {IPPROTO_UDPLITE, "udplite"},
	{IPPROTO_DCCP, "dccp"}};

const char *proto_name(uint8_t proto, char buf[static PROTO_STRLEN])
{
	for (size_t i = 0; i < sizeof(protocols) / sizeof(protocols[0]); i++)
		if (protocols[i].proto == proto)
			return protocols[i].name;
	snprintf(buf, PROTO_STRLEN, "%u", proto);
	return buf;
}

int proto_parse(const char *s)
{
	unsigned long n;
	char *end;

	for (size_t i = 0; i < sizeof(protocols) / sizeof(protocols[0]); i++)
		if (strcmp(protocols[i].name, s) == 0)
			return protocols[i].proto;
	if (*s < '0' || *s > '9')
		return -1;
	n = strtoul(s, &end, 10);
	return *end || n > 255 ? -1 : (int)n;
}

#define END_STRLEN (ADDR_STRLEN + 8)

/* Port 0: there is none. */
static const char *end_text(const struct addr *a, uint16_t port, char buf[static END_STRLEN])
{
	char text[ADDR_STRLEN];

	addr_str(a, text);
	if (!port)
		snprintf(buf, END_STRLEN, "%s", text);
	else
		snprintf(buf, END_STRLEN, addr_is4(a) ? "%s:%u" : "[%s]:%u", text, ntohs(port));
	return buf;
}

const char *flow_text(const struct fs_info *f, char buf[static FLOW_STRLEN])
{
	const struct tuple *orig = &f->half[FS_ORIG].t, *reply = &f->half[FS_REPLY].t;
	char proto[PROTO_STRLEN], src[END_STRLEN], dst[END_STRLEN], seen[END_STRLEN];

	snprintf(buf, FLOW_STRLEN, "%s %s > %s%s%s", proto_name(orig->proto, proto),
		end_text(&orig->src, orig->sport, src), end_text(&orig->dst, orig->dport, dst),
		f->translated ? ", seen as " : "",
		f->translated ? end_text(&reply->dst, reply->dport, seen) : "");
	return buf;
}
