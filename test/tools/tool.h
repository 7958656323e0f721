/* SPDX-License-Identifier: GPL-2.0-or-later */
/* tool.h - what the test tools share: namespaces, option lists, addresses, checksums, the tagged payload.
 *
 * The tools judge the gateway, so they share no code with it: a mistake in its checksum or parser must not be
 * repeated by those who look for it.
 *
 * The tagged payload. Everything that is sent for a site consists of blocks of 16 octets, four words in network
 * order: a mark, the site's tag, and two words that depend on the sender:
 *
 *	request, client to server  TAG_REQUEST  tag  octets wanted in answer  client's port, number of the request
 *	answer, server to client   TAG_ANSWER   tag  client's port            number
 *
 * The client's port is the one that the client has, whatever the way made of it. In a TCP answer, block n of
 * the stream has number n and begins at octet 16 n: each octet can be checked by whoever knows its place. In a
 * UDP answer all blocks have the number of the request. An echo request carries one request block, with its id
 * as port.
 */
#ifndef TEST_TOOL_H
#define TEST_TOOL_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#define TAG_BLOCK   16u
#define TAG_REQUEST 0x41525251u /* "ARRQ" */
#define TAG_ANSWER  0x41525241u /* "ARRA" */

struct tag {
	uint32_t mark, tag, a, b; /* host order */
};
/* Word b of a request: the client's port above, its number below. */
static inline uint32_t tag_request_b(uint16_t port, uint32_t n)
{
	return (uint32_t)port << 16 | (n & 0xffff);
}
void tag_put(uint8_t out[static TAG_BLOCK], const struct tag *t);
void tag_get(const uint8_t in[static TAG_BLOCK], struct tag *t);

/* Ends the program with a message (and what errno says, for fail_errno) and status 1. */
void fail(const char *fmt, ...) __attribute__((noreturn, format(printf, 1, 2)));
void fail_errno(const char *fmt, ...) __attribute__((noreturn, format(printf, 1, 2)));

/* The file descriptor of a namespace: a name as `ip netns` knows it. */
int netns_open(const char *name);
/* Enters a namespace; netns_here() before it allows going back. */
void netns_enter(int fd);
int netns_here(void);

/* Whole numbers of options; base 0, so that 0x is understood. */
uint64_t number(const char *s, uint64_t max);

/* Splits "a=1,b,c=x" in place: each call returns the next key, and its value or "". NULL at the end. */
char *option_next(char **list, char **value);

/* ADDRESS and port (0 if there is none) into a sockaddr; returns its length. */
socklen_t address(const char *text, uint16_t port, struct sockaddr_storage *out);

/* Sum of 16-bit words, not folded; of the RFC 1071 kind, one word at a time. */
uint64_t sum16(const uint8_t *p, size_t n);
uint16_t fold16(uint64_t sum);

uint16_t get16(const uint8_t *p);
uint32_t get32(const uint8_t *p);
void put16(uint8_t *p, uint16_t v);
void put32(uint8_t *p, uint32_t v);

/* The monotonic clock. */
uint64_t now_ms(void);
uint64_t now_ns(void);

/* Set by SIGTERM and SIGINT once stop_on_signals() was called. */
void stop_on_signals(void);
bool stop_asked(void);

#endif
