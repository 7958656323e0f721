/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ike_addr.c - addresses and texts: strongSwan's forms and ours. */
#include "ipsec/ike_private.h"

#include <stdarg.h>
#include <stdio.h>

struct addr ike_addr_from_chunk(chunk_t c)
{
	struct addr none = {0};

	if (c.len == 4) {
		uint32_t be;

		memcpy(&be, c.ptr, sizeof(be));
		return addr_from4(be);
	}
	return c.len == 16 ? addr_from6(c.ptr) : none;
}

struct sa_end ike_end_from_host(host_t *h)
{
	struct sa_end e = {ike_addr_from_chunk(h->get_address(h)), h->get_port(h)};
	return e;
}

host_t *ike_host(const struct addr *a, uint16_t port)
{
	struct addr copy = *a;

	if (addr_is_none(a))
		return host_create_any(AF_INET);
	if (addr_is4(a))
		return host_create_from_chunk(AF_INET, chunk_create(copy.b + 12, 4), port);
	return host_create_from_chunk(AF_INET6, chunk_create(copy.b, 16), port);
}

chunk_t ike_chunk(const void *data, size_t len, size_t room)
{
	chunk_t c = chunk_alloc(room + len);

	memset(c.ptr, 0, room);
	memcpy(c.ptr + room, data, len);
	return c;
}

/* The conversions are registered with the C library for the whole process; a compiler does not know them. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
const char *ike_print(char *buf, size_t len, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	if (vsnprintf(buf, len, fmt, args) < 0)
		buf[0] = '\0';
	va_end(args);
	return buf;
}
#pragma GCC diagnostic pop
