/* SPDX-License-Identifier: GPL-2.0-or-later */
/* tun.h - the TUN device towards the egress, with virtio-net headers. */
#ifndef ARRD_TUN_H
#define ARRD_TUN_H

#include "gateway/base/log.h"
#include "gateway/base/vnet.h"

#include <stddef.h>
#include <sys/uio.h>

#define TUN_BATCH 32 /* packets a read round; 64 KiB each, so that a round stays in the cache */

struct tun;

/* Opens (or makes) the device, sets its MTU, and finds out which of the wanted offloads the kernel takes: for
 * reading by TUNSETOFFLOAD bit by bit, for writing by a super-packet written while the device is down, which
 * the kernel judges but cannot deliver. The device is still down. Needs CAP_NET_ADMIN. Returns 0 or -errno
 * with a message in err. */
int tun_open(struct tun **out, const char *name, uint32_t mtu, const struct vnet_offloads *want,
	struct log *log, char *err, size_t errlen);
int tun_up(struct tun *t);

/* Closes; the device goes away. */
void tun_close(struct tun *t);

int tun_fd(const struct tun *t);
const char *tun_name(const struct tun *t);

/* The offloads that writes may use. */
const struct vnet_offloads *tun_write_offloads(const struct tun *t);

/* A packet read: its octets lie in t's buffers until the next tun_read. */
struct tun_rx {
	struct virtio_net_hdr vnet;
	uint8_t *data;
	uint32_t len;
};

/* Reads up to TUN_BATCH packets without waiting. Returns their number, or -errno when not even one came (not
 * -EAGAIN: then 0). */
int tun_read(struct tun *t, struct tun_rx out[static TUN_BATCH]);

/* Packets that the device threw away because its queue was full, since it was made. */
uint64_t tun_lost(const struct tun *t);

/* Writes one packet; iov[0] is the caller's vnet header. Returns 0 or -errno. */
int tun_write(struct tun *t, const struct iovec *iov, unsigned n);

#endif
