/* SPDX-License-Identifier: GPL-2.0-or-later */
/* msg.c - what the rooms' sockets have in common: options, ancillary data, batches of messages.
 *
 * References: ip(7), ipv6(7), udp(7), RFC 3542.
 */
#include "gateway/base/msg.h"

#include "gateway/base/be.h"

#include <errno.h>
#include <limits.h>
#include <linux/filter.h>
#include <linux/sock_diag.h>
#include <linux/udp.h>
#include <unistd.h>

#define IP4_HDR 20

/* What ICMP reported of a packet that was sent comes out of the next call that receives, once; of a UDP socket also out
 * of the next one that sends. So a call that fails is made again; more often than once, since another report can come
 * in between. Who sends to where there is no way pays for that with each packet. */
#define RECV_AGAIN 4
#define SEND_AGAIN 2

/* ---- options ------------------------------------------------------------------------------------------ */

int msg_option(int fd, int level, int name, int value)
{
	return setsockopt(fd, level, name, &value, sizeof(value)) < 0 ? -errno : 0;
}

/* Without CAP_NET_ADMIN the system's limit holds, which is no reason not to start. */
static void set_buffer(int fd, int forced, int limited, uint32_t octets)
{
	int value = octets < INT_MAX / 2 ? (int)octets
					 : INT_MAX / 2; /* the kernel doubles it, for its overhead */

	if (msg_option(fd, SOL_SOCKET, forced, value) < 0)
		(void)msg_option(fd, SOL_SOCKET, limited, value);
}

void msg_buffers(int fd, uint32_t octets)
{
	if (!octets)
		return;
	set_buffer(fd, SO_RCVBUFFORCE, SO_RCVBUF, octets);
	set_buffer(fd, SO_SNDBUFFORCE, SO_SNDBUF, octets);
}

int msg_set_df(int fd, int family, bool df)
{
	int err;

	if (family == AF_INET)
		return msg_option(fd, IPPROTO_IP, IP_MTU_DISCOVER, df ? IP_PMTUDISC_PROBE : IP_PMTUDISC_DONT);
	err = msg_option(fd, IPPROTO_IPV6, IPV6_MTU_DISCOVER, df ? IPV6_PMTUDISC_PROBE : IPV6_PMTUDISC_DONT);
	/* RFC 3542 11.2: no fragments from here, whatever the other option is taken to mean. */
	return err ? err : msg_option(fd, IPPROTO_IPV6, IPV6_DONTFRAG, df);
}

static bool meminfo(int fd, uint32_t mem[static SK_MEMINFO_VARS])
{
	socklen_t len = SK_MEMINFO_VARS * sizeof(mem[0]);

	return getsockopt(fd, SOL_SOCKET, SO_MEMINFO, mem, &len) == 0 &&
	       len > SK_MEMINFO_DROPS * sizeof(mem[0]);
}

uint32_t msg_lost(int fd)
{
	uint32_t mem[SK_MEMINFO_VARS];

	return meminfo(fd, mem) ? mem[SK_MEMINFO_DROPS] : 0;
}

unsigned msg_queued(int fd)
{
	uint32_t mem[SK_MEMINFO_VARS];

	if (!meminfo(fd, mem) || !mem[SK_MEMINFO_RCVBUF])
		return 0;
	return (unsigned)((uint64_t)mem[SK_MEMINFO_RMEM_ALLOC] * 100 / mem[SK_MEMINFO_RCVBUF]);
}

/* A program of the classic kind: for each source, compare its words; on the first that differs go to the next source. */
int msg_police(int fd, const struct msg_police *p, unsigned n, bool udp)
{
	struct sock_filter code[3 + MSG_POLICED * 12 + 1];
	struct sock_fprog program = {.filter = code};
	unsigned at = 0;
	int none = 0;

	if (!n)
		return setsockopt(fd, SOL_SOCKET, SO_DETACH_FILTER, &none, sizeof(none)) < 0 &&
				       errno != ENOENT
			       ? -errno
			       : 0;
	if (udp) { /* data begins with the UDP header; a packet too short for it is a keepalive, and not missed */
		code[at++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 8);
		code[at++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 1);
		code[at++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, UINT32_MAX);
	}
	for (unsigned i = 0; i < n && i < MSG_POLICED; i++) {
		bool is4 = addr_is4(&p[i].source);
		unsigned words = is4 ? 1 : 4, end = at + 2 * words + 4;

		for (unsigned w = 0; w < words; w++) {
			uint32_t k = (uint32_t)SKF_NET_OFF + (is4 ? 12u : 8 + 4 * w);

			code[at++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, k);
			code[at] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K,
				ntohl(p[i].source.w[is4 ? 3 : w]), 0, (uint8_t)(end - at - 1));
			at++;
		}
		code[at++] = (struct sock_filter)BPF_STMT(
			BPF_LD | BPF_W | BPF_ABS, (uint32_t)(SKF_AD_OFF + SKF_AD_RANDOM));
		code[at++] = (struct sock_filter)BPF_STMT(BPF_ALU | BPF_AND | BPF_K, 0xffff);
		code[at++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, p[i].keep, 0, 1);
		code[at++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, 0);
	}
	code[at++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, UINT32_MAX);
	program.len = (unsigned short)at;
	return setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program)) < 0 ? -errno : 0;
}

/* ---- receiving ---------------------------------------------------------------------------------------- */

int msg_recv(int fd, struct mmsghdr *m, unsigned n)
{
	for (unsigned tries = 0;; tries++) {
		int r = recvmmsg(fd, m, n, MSG_DONTWAIT, NULL);

		if (r >= 0)
			return r;
		if (errno == EAGAIN)
			return 0;
		if (tries == RECV_AGAIN)
			return -errno;
	}
}

static uint16_t cmsg_int(const struct cmsghdr *c)
{
	int v;

	if (c->cmsg_len < CMSG_LEN(sizeof(v))) {
		/* IP_TOS comes as a single octet. */
		return c->cmsg_len > CMSG_LEN(0) ? CMSG_DATA(c)[0] : 0;
	}
	memcpy(&v, CMSG_DATA(c), sizeof(v));
	return (uint16_t)v;
}

static void take4(const struct cmsghdr *c, struct msg_outer *o)
{
	struct in_pktinfo to;

	switch (c->cmsg_type) {
	case IP_PKTINFO:
		memcpy(&to, CMSG_DATA(c), sizeof(to));
		o->local = addr_from4(to.ipi_addr.s_addr);
		break;
	case IP_TOS:
		o->tos = (uint8_t)cmsg_int(c);
		break;
	case IP_TTL:
		o->ttl = (uint8_t)cmsg_int(c);
		break;
	default:
		break;
	}
}

static void take6(const struct cmsghdr *c, struct msg_outer *o)
{
	struct in6_pktinfo to;

	switch (c->cmsg_type) {
	case IPV6_PKTINFO:
		memcpy(&to, CMSG_DATA(c), sizeof(to));
		o->local = addr_from6(&to.ipi6_addr);
		break;
	case IPV6_TCLASS:
		o->tos = (uint8_t)cmsg_int(c);
		break;
	case IPV6_HOPLIMIT:
		o->ttl = (uint8_t)cmsg_int(c);
		break;
	default:
		break;
	}
}

enum drop msg_outer(const struct msghdr *m, struct msg_outer *o)
{
	const union msg_name *from = m->msg_name;
	/* CMSG_NXTHDR wants it writable, for no reason. */
	struct msghdr *all = (void *)(uintptr_t)m;

	*o = (struct msg_outer){0};
	for (struct cmsghdr *c = CMSG_FIRSTHDR(all); c; c = CMSG_NXTHDR(all, c)) {
		if (c->cmsg_level == IPPROTO_IP)
			take4(c, o);
		else if (c->cmsg_level == IPPROTO_IPV6)
			take6(c, o);
		else if (c->cmsg_level == IPPROTO_UDP && c->cmsg_type == UDP_GRO)
			o->segment = cmsg_int(c);
	}
	if (m->msg_namelen >= sizeof(from->in6) && from->sa.sa_family == AF_INET6) {
		o->remote = addr_from6(&from->in6.sin6_addr);
		o->remote_port = ntohs(from->in6.sin6_port);
	} else if (m->msg_namelen >= sizeof(from->in) && from->sa.sa_family == AF_INET) {
		o->remote = addr_from4(from->in.sin_addr.s_addr);
		o->remote_port = ntohs(from->in.sin_port);
	}
	return addr_is_none(&o->local) || addr_is_none(&o->remote) ? DROP_OUTER_MALFORMED : DROP_NONE;
}

/* The kernel has checked the outer header; here only that nothing is read behind the packet. */
enum drop msg_outer4(uint8_t **data, uint32_t *len, struct msg_outer *o)
{
	const uint8_t *h = *data;
	uint32_t hlen, total, src, dst;

	if (*len < IP4_HDR)
		return DROP_OUTER_MALFORMED;
	hlen = (h[0] & 0xfu) * 4;
	total = be16_get(h + 2);
	if (hlen < IP4_HDR || total < hlen || total > *len)
		return DROP_OUTER_MALFORMED;
	memcpy(&src, h + 12, 4);
	memcpy(&dst, h + 16, 4);
	*o = (struct msg_outer){
		.local = addr_from4(dst), .remote = addr_from4(src), .ttl = h[8], .tos = h[1]};
	*data += hlen;
	*len = total - hlen;
	return DROP_NONE;
}

/* ---- sending ------------------------------------------------------------------------------------------ */

_Static_assert(CMSG_SPACE(sizeof(struct in6_pktinfo)) + 2 * CMSG_SPACE(sizeof(int)) + MSG_CONTROL_SPARE <=
		       MSG_CONTROL_MAX,
	"source address, TTL and TOS");

void msg_put(struct msghdr *m, int level, int type, const void *data, size_t len)
{
	struct cmsghdr *c = (void *)((uint8_t *)m->msg_control + m->msg_controllen);

	c->cmsg_level = level;
	c->cmsg_type = type;
	c->cmsg_len = CMSG_LEN(len);
	memcpy(CMSG_DATA(c), data, len);
	m->msg_controllen += CMSG_SPACE(len);
}

static void address4(struct msghdr *m, const struct addr *local, const struct addr *remote, uint16_t port,
	int ttl, int tos)
{
	union msg_name *name = m->msg_name;
	struct in_pktinfo from = {.ipi_spec_dst.s_addr = local->w[3]};

	name->in = (struct sockaddr_in){
		.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = remote->w[3]};
	m->msg_namelen = sizeof(name->in);
	msg_put(m, IPPROTO_IP, IP_PKTINFO, &from, sizeof(from));
	msg_put(m, IPPROTO_IP, IP_TTL, &ttl, sizeof(ttl));
	msg_put(m, IPPROTO_IP, IP_TOS, &tos, sizeof(tos));
}

static void address6(struct msghdr *m, const struct addr *local, const struct addr *remote, uint16_t port,
	int ttl, int tos)
{
	union msg_name *name = m->msg_name;
	struct in6_pktinfo from = {0};

	memcpy(&from.ipi6_addr, local->b, 16);
	name->in6 = (struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_port = htons(port)};
	memcpy(&name->in6.sin6_addr, remote->b, 16);
	m->msg_namelen = sizeof(name->in6);
	msg_put(m, IPPROTO_IPV6, IPV6_PKTINFO, &from, sizeof(from));
	msg_put(m, IPPROTO_IPV6, IPV6_HOPLIMIT, &ttl, sizeof(ttl));
	msg_put(m, IPPROTO_IPV6, IPV6_TCLASS, &tos, sizeof(tos));
}

void msg_address(struct msghdr *m, const struct addr *local, const struct addr *remote, uint16_t port,
	uint8_t ttl, uint8_t tos)
{
	m->msg_controllen = 0;
	if (addr_is4(remote))
		address4(m, local, remote, port, ttl, tos);
	else
		address6(m, local, remote, port, ttl, tos);
}

/* These are what the kernel makes of ICMP's errors (icmp_err_convert, icmpv6_err_convert). All others are about the packet at
 * hand: a filter, an address that the machine does not have any more. */
bool msg_may_be_report(int err)
{
	switch (err) {
	case ENETUNREACH:
	case EHOSTUNREACH:
	case EHOSTDOWN:
	case ENONET:
	case ECONNREFUSED:
	case ENOPROTOOPT:
	case EOPNOTSUPP:
	case EPROTO:
	case EACCES:
	case EMSGSIZE:
		return true;
	default:
		return false;
	}
}

/* sendmmsg stops at the first message that fails, and says why only when asked to begin with that one. */
int msg_send(int fd, struct mmsghdr *m, unsigned n)
{
	for (unsigned tries = 0;; tries++) {
		int r = sendmmsg(fd, m, n, MSG_DONTWAIT);

		if (r > 0)
			return r;
		if (tries == SEND_AGAIN || !msg_may_be_report(errno))
			return -errno;
	}
}

int msg_way(const struct addr *local, const struct addr *remote, uint32_t *mtu)
{
	bool v4 = addr_is4(remote);
	union msg_name from, to;
	union msg_control unused;
	struct msghdr m = {.msg_control = &unused, .msg_name = &from};
	int value = 0, err = 0, fd = socket(v4 ? AF_INET : AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	socklen_t len = sizeof(value);

	if (fd < 0)
		return -errno;
	msg_address(&m, local, local, 0, 0, 0);
	m.msg_name = &to;
	msg_address(&m, local, remote, 9, 0, 0); /* discard; nothing is sent */
	if (bind(fd, &from.sa, m.msg_namelen) < 0 || connect(fd, &to.sa, m.msg_namelen) < 0 ||
		getsockopt(fd, v4 ? IPPROTO_IP : IPPROTO_IPV6, v4 ? IP_MTU : IPV6_MTU, &value, &len) < 0)
		err = -errno;
	close(fd);
	*mtu = value > 0 ? (uint32_t)value : 0;
	return err;
}
