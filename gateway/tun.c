/* SPDX-License-Identifier: GPL-2.0-or-later */
/* tun.c - the TUN device towards the egress, with virtio-net headers.
 *
 * Every packet that crosses the device has a struct virtio_net_hdr before it, which tells super-packets (TSO,
 * USO) and partial checksums. One crossing costs about as much for 64 KiB as for 1400 octets, so offloads are
 * worth ten times anything else on this path; but kernels differ: Debian 12's 6.1 has no USO, and some stable
 * kernels answer EINVAL to coalesced writes. So nothing is assumed, each offload is tried at start.
 */
#include "gateway/tun.h"

#include "gateway/base/csum.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef TUN_F_USO4
#define TUN_F_USO4 0x20
#define TUN_F_USO6 0x40
#endif

/* Packets that the device holds while we are at other work. The kernel's 500 are less than one burst of answers to
 * a few thousand connections, and what does not fit is lost without a trace. */
#define QUEUE_LEN 10000

#define BUF_HEADROOM 64 /* for a header that is pushed before the packet */
#define BUF_LEN      (BUF_HEADROOM + VNET_HDR_LEN + PKT_MAX + 1)

struct tun {
	int fd;
	char name[IFNAMSIZ];
	struct vnet_offloads write;
	uint8_t *buf; /* TUN_BATCH buffers of BUF_LEN */
};

static int ifreq_ioctl(const char *name, unsigned long req, struct ifreq *ifr)
{
	int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	int r;

	if (s < 0)
		return -errno;
	snprintf(ifr->ifr_name, sizeof(ifr->ifr_name), "%s", name);
	r = ioctl(s, req, ifr) < 0 ? -errno : 0;
	close(s);
	return r;
}

/* Which of the read offloads does the kernel take? TUN_F_CSUM first: the others stand on it. */
static void probe_read(struct tun *t, const struct vnet_offloads *want, struct vnet_offloads *got)
{
	unsigned bits = 0;

	memset(got, 0, sizeof(*got));
	if (!want->csum)
		goto set;
	if (ioctl(t->fd, TUNSETOFFLOAD, (unsigned long)TUN_F_CSUM) < 0)
		goto set;
	bits = TUN_F_CSUM;
	got->csum = true;
	if (want->tcp4 &&
		ioctl(t->fd, TUNSETOFFLOAD, (unsigned long)(bits | TUN_F_TSO4 | TUN_F_TSO_ECN)) == 0) {
		bits |= TUN_F_TSO4 | TUN_F_TSO_ECN;
		got->tcp4 = true;
	}
	if (want->tcp6 &&
		ioctl(t->fd, TUNSETOFFLOAD, (unsigned long)(bits | TUN_F_TSO6 | TUN_F_TSO_ECN)) == 0) {
		bits |= TUN_F_TSO6 | TUN_F_TSO_ECN;
		got->tcp6 = true;
	}
	if (want->udp && ioctl(t->fd, TUNSETOFFLOAD, (unsigned long)(bits | TUN_F_USO4 | TUN_F_USO6)) == 0) {
		bits |= TUN_F_USO4 | TUN_F_USO6;
		got->udp = true;
	}
set:
	/* A try that failed leaves the bits as they were before it; say the sum of the good ones once more.
	 */
	(void)ioctl(t->fd, TUNSETOFFLOAD, (unsigned long)bits);
}

/* Writes a super-packet of two segments while the device is down. EIO: the kernel understood the header and
 * only found the device down. EINVAL: it refuses such headers. */
static bool probe_write(struct tun *t, uint8_t ver, uint8_t proto)
{
	enum { SEG = 64 };
	uint8_t b[128 + 2 * SEG] = {0};
	struct pkt p = {.data = b, .gso_size = SEG, .csum = PKT_CSUM_PARTIAL, .ver = ver};
	struct virtio_net_hdr h;
	struct iovec iov[2] = {{&h, VNET_HDR_LEN}, {b, 0}};
	uint16_t l4hdr = proto == IPPROTO_TCP ? 20 : 8;

	p.l4 = ver == 4 ? 20 : 40;
	p.payload = (uint16_t)(p.l4 + l4hdr);
	p.len = p.payload + 2 * SEG;
	p.t.proto = proto;
	b[0] = (uint8_t)(ver << 4);
	if (ver == 4) {
		b[0] |= 5;
		b[2] = (uint8_t)(p.len >> 8);
		b[3] = (uint8_t)p.len;
		b[8] = 1;
		b[9] = proto;
		/* 192.0.2.1 and .2, documentation: never seen by anybody, the device is down */
		memcpy(b + 12, (const uint8_t[]){192, 0, 2, 1, 192, 0, 2, 2}, 8);
		uint16_t c = (uint16_t)~csum_fold(csum_add(0, b, 20));
		memcpy(b + 10, &c, 2);
	} else {
		b[4] = (uint8_t)((p.len - 40) >> 8);
		b[5] = (uint8_t)(p.len - 40);
		b[6] = proto;
		b[7] = 1;
		b[8] = b[24] = 0x20;
		b[9] = b[25] = 0x01;
		b[10] = b[26] = 0x0d;
		b[11] = b[27] = 0xb8;
		b[39] = 1;
	}
	if (proto == IPPROTO_TCP) {
		b[p.l4 + 12] = 5 << 4;
		b[p.l4 + 13] = TCP_ACK;
	} else {
		b[p.l4 + 4] = (uint8_t)((p.len - p.l4) >> 8);
		b[p.l4 + 5] = (uint8_t)(p.len - p.l4);
	}
	vnet_from_pkt(&p, &h);
	iov[1].iov_len = p.len;
	return writev(t->fd, iov, 2) >= 0 || errno == EIO;
}

int tun_open(struct tun **out, const char *name, uint32_t mtu, const struct vnet_offloads *want,
	struct log *log, char *err, size_t errlen)
{
	struct tun *t = calloc(1, sizeof(*t));
	struct vnet_offloads got;
	struct ifreq ifr = {0};
	int r;

	if (!t)
		return -ENOMEM;
	t->buf = MAP_FAILED;
	t->fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
	if (t->fd < 0) {
		r = -errno;
		snprintf(err, errlen, "/dev/net/tun: %s", strerror(-r));
		goto fail;
	}
	snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", name);
	ifr.ifr_flags = IFF_TUN | IFF_NO_PI | IFF_VNET_HDR;
	if (ioctl(t->fd, TUNSETIFF, &ifr) < 0) {
		r = -errno;
		snprintf(err, errlen, "%s: %s", name,
			r == -EBUSY ? "the device exists already and belongs to another process"
				    : strerror(-r));
		goto fail;
	}
	memcpy(t->name, ifr.ifr_name, sizeof(t->name));
	ifr = (struct ifreq){.ifr_mtu = (int)mtu};
	r = ifreq_ioctl(t->name, SIOCSIFMTU, &ifr);
	if (r < 0) {
		snprintf(err, errlen, "%s: cannot set the MTU to %u: %s", t->name, mtu, strerror(-r));
		goto fail;
	}
	ifr = (struct ifreq){.ifr_qlen = QUEUE_LEN};
	r = ifreq_ioctl(t->name, SIOCSIFTXQLEN, &ifr);
	if (r < 0)
		log_warning(log, "tun", t->name, "the queue stays short: %s", strerror(-r));
	t->buf = mmap(NULL, (size_t)TUN_BATCH * BUF_LEN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
		-1, 0);
	if (t->buf == MAP_FAILED) {
		r = -ENOMEM;
		goto fail;
	}

	probe_read(t, want, &got);
	t->write.csum = got.csum;
	t->write.tcp4 = want->tcp4 && got.csum && probe_write(t, 4, IPPROTO_TCP);
	t->write.tcp6 = want->tcp6 && got.csum && probe_write(t, 6, IPPROTO_TCP);
	t->write.udp = want->udp && got.csum && got.udp && probe_write(t, 4, IPPROTO_UDP) &&
		       probe_write(t, 6, IPPROTO_UDP);
	log_info(log, "tun", t->name, "MTU %u; super-packets read:%s%s%s%s, written:%s%s%s%s", mtu,
		got.tcp4 ? " TSO4" : "", got.tcp6 ? " TSO6" : "", got.udp ? " USO" : "",
		got.tcp4 || got.tcp6 || got.udp ? "" : " none", t->write.tcp4 ? " TSO4" : "",
		t->write.tcp6 ? " TSO6" : "", t->write.udp ? " USO" : "",
		t->write.tcp4 || t->write.tcp6 || t->write.udp ? "" : " none");
	*out = t;
	return 0;
fail:
	tun_close(t);
	return r;
}

int tun_up(struct tun *t)
{
	struct ifreq ifr = {0};
	int r = ifreq_ioctl(t->name, SIOCGIFFLAGS, &ifr);

	if (r < 0)
		return r;
	ifr.ifr_flags |= IFF_UP;
	return ifreq_ioctl(t->name, SIOCSIFFLAGS, &ifr);
}

void tun_close(struct tun *t)
{
	if (!t)
		return;
	if (t->fd >= 0)
		close(t->fd);
	if (t->buf != MAP_FAILED)
		munmap(t->buf, (size_t)TUN_BATCH * BUF_LEN);
	free(t);
}

int tun_fd(const struct tun *t)
{
	return t->fd;
}

const char *tun_name(const struct tun *t)
{
	return t->name;
}

const struct vnet_offloads *tun_write_offloads(const struct tun *t)
{
	return &t->write;
}

int tun_read(struct tun *t, struct tun_rx out[static TUN_BATCH])
{
	int n = 0;

	while (n < TUN_BATCH) {
		uint8_t *b = t->buf + (size_t)n * BUF_LEN + BUF_HEADROOM;
		ssize_t len = read(t->fd, b, BUF_LEN - BUF_HEADROOM);

		if (len < 0) {
			if (errno == EINTR)
				continue;
			if (n > 0 || errno == EAGAIN)
				return n;
			return -errno;
		}
		if (len < VNET_HDR_LEN)
			continue;
		memcpy(&out[n].vnet, b, VNET_HDR_LEN);
		out[n].data = b + VNET_HDR_LEN;
		out[n].len = (uint32_t)len - VNET_HDR_LEN;
		n++;
	}
	return n;
}

uint64_t tun_lost(const struct tun *t)
{
	char path[64], text[32] = "";
	FILE *f;

	snprintf(path, sizeof(path), "/sys/class/net/%s/statistics/tx_dropped", t->name);
	f = fopen(path, "re");
	if (!f)
		return 0;
	if (!fgets(text, sizeof(text), f))
		text[0] = 0;
	fclose(f);
	return strtoull(text, NULL, 10);
}

int tun_write(struct tun *t, const struct iovec *iov, unsigned n)
{
	ssize_t r;

	do
		r = writev(t->fd, iov, (int)n);
	while (r < 0 && errno == EINTR);
	return r < 0 ? -errno : 0;
}
