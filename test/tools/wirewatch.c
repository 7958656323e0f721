/* SPDX-License-Identifier: GPL-2.0-or-later */
/* wirewatch.c - looks at every packet on the gateway's underlay and egress, and judges where it went.
 *
 *	wirewatch --wan DEV --tunnel local=ADDR,remote=ADDR[,key=N],tag=N … [--egress DEV] [--tagged PORT …]
 *	          [--private PREFIX/LEN] [--inside netns=NAME,dev=DEV,tag=N …]
 *
 * inside: an interface of a branch whose tunnel is encrypted. What the kernel received from it is to the site.
 *
 * Runs in the gateway's namespace, on AF_PACKET rings (TPACKET_V3) of 128 MB each (inside: 8 MB): a packet that it
 * missed would be a packet not judged, so drops are counted and make it fail. Prints "ready", and at the end
 * (SIGTERM) a JSON object; see wire.h for its words. Status 0 when nothing was dropped.
 */
#include "test/tools/tool.h"
#include "test/tools/wire.h"

#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

/* A block is handed over when it is full or RETIRE_MS old, so the ring holds at least BLOCKS * RETIRE_MS: five
 * seconds, for a machine that has much else to do. A block must take a super-packet of 64 KB. */
#define BLOCK_SIZE (1u << 18)
#define BLOCKS     512u
#define BLOCKS_IN  32u
#define RETIRE_MS  10
#define RINGS_MAX  66

enum place { UNDERLAY, EGRESS, INSIDE };

struct ring {
	int fd;
	uint8_t *map;
	unsigned next, blocks, site;
	enum place place;
	uint64_t packets, dropped, cut;
};

static void ring_open(struct ring *r, const char *dev, enum place place)
{
	unsigned blocks = place == INSIDE ? BLOCKS_IN : BLOCKS;
	struct tpacket_req3 req = {.tp_block_size = BLOCK_SIZE,
		.tp_block_nr = blocks,
		.tp_frame_size = 2048,
		.tp_frame_nr = BLOCK_SIZE / 2048 * blocks,
		.tp_retire_blk_tov = RETIRE_MS};
	struct sockaddr_ll sa = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL)};
	int version = TPACKET_V3;

	sa.sll_ifindex = (int)if_nametoindex(dev);
	if (!sa.sll_ifindex)
		fail_errno("interface %s", dev);
	r->fd = socket(AF_PACKET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (r->fd < 0 || setsockopt(r->fd, SOL_PACKET, PACKET_VERSION, &version, sizeof(version)) < 0 ||
		setsockopt(r->fd, SOL_PACKET, PACKET_RX_RING, &req, sizeof(req)) < 0)
		fail_errno("packet socket on %s", dev);
	r->map = mmap(NULL, (size_t)BLOCK_SIZE * blocks, PROT_READ | PROT_WRITE, MAP_SHARED, r->fd, 0);
	if (r->map == MAP_FAILED)
		fail_errno("ring of %s", dev);
	if (bind(r->fd, (struct sockaddr *)&sa, sizeof(sa)) < 0)
		fail_errno("bind to %s", dev);
	r->blocks = blocks;
	r->place = place;
}

static struct tpacket_block_desc *ring_block(const struct ring *r)
{
	return (struct tpacket_block_desc *)(void *)(r->map + (size_t)r->next * BLOCK_SIZE);
}

static void see(const struct ring *r, struct wire *w, const struct tpacket3_hdr *h, bool leaving)
{
	const uint8_t *p = (const uint8_t *)h + h->tp_net;

	switch (r->place) {
	case UNDERLAY:
		wire_underlay(w, p, h->tp_snaplen, leaving);
		break;
	case EGRESS:
		wire_egress(w, p, h->tp_snaplen, leaving);
		break;
	case INSIDE:
		wire_inside(w, r->site, p, h->tp_snaplen, !leaving, h->tp_status & TP_STATUS_CSUMNOTREADY);
		break;
	}
}

/* Hands over every packet of one block, if one is full. */
static bool ring_read(struct ring *r, struct wire *w)
{
	struct tpacket_block_desc *b = ring_block(r);

	if (!(__atomic_load_n(&b->hdr.bh1.block_status, __ATOMIC_ACQUIRE) & TP_STATUS_USER))
		return false;
	uint8_t *at = (uint8_t *)b + b->hdr.bh1.offset_to_first_pkt;
	for (uint32_t i = 0; i < b->hdr.bh1.num_pkts; i++) {
		const struct tpacket3_hdr *h = (const void *)at;
		const struct sockaddr_ll *ll = (const void *)(at + TPACKET_ALIGN(sizeof(*h)));
		uint16_t proto = ntohs(ll->sll_protocol);
		if (proto == ETH_P_IP || proto == ETH_P_IPV6) {
			r->packets++;
			r->cut += h->tp_snaplen < h->tp_len;
			see(r, w, h, ll->sll_pkttype == PACKET_OUTGOING);
		}
		at += h->tp_next_offset;
	}
	__atomic_store_n(&b->hdr.bh1.block_status, TP_STATUS_KERNEL, __ATOMIC_RELEASE);
	r->next = (r->next + 1) % r->blocks;
	return true;
}

static void ring_close(struct ring *r)
{
	struct tpacket_stats_v3 stats;
	socklen_t len = sizeof(stats);

	if (getsockopt(r->fd, SOL_PACKET, PACKET_STATISTICS, &stats, &len) == 0)
		r->dropped = stats.tp_drops;
	munmap(r->map, (size_t)BLOCK_SIZE * r->blocks);
	close(r->fd);
}

static void add_tunnel(struct wire *w, char *list)
{
	uint8_t local[16], remote[16];
	uint32_t gre_key = 0, tag = 0;
	bool has_key = false, has_local = false, has_remote = false;
	char *name, *value;

	while ((name = option_next(&list, &value))) {
		if (!strcmp(name, "local"))
			has_local = wire_addr(value, local);
		else if (!strcmp(name, "remote"))
			has_remote = wire_addr(value, remote);
		else if (!strcmp(name, "tag"))
			tag = (uint32_t)number(value, UINT32_MAX);
		else if (!strcmp(name, "key")) {
			has_key = true;
			gre_key = (uint32_t)number(value, UINT32_MAX);
		} else
			fail("unknown option of a tunnel: %s", name);
	}
	if (!has_local || !has_remote || !tag)
		fail("a tunnel wants local, remote and tag");
	wire_add_tunnel(w, local, remote, has_key, gre_key, tag);
}

static void add_inside(struct wire *w, struct ring *r, char *list)
{
	char *name, *value, *netns = NULL, *dev = NULL;
	uint32_t tag = 0;

	while ((name = option_next(&list, &value))) {
		if (!strcmp(name, "netns"))
			netns = value;
		else if (!strcmp(name, "dev"))
			dev = value;
		else if (!strcmp(name, "tag"))
			tag = (uint32_t)number(value, UINT32_MAX);
		else
			fail("unknown option of an inside: %s", name);
	}
	if (!netns || !dev || !tag)
		fail("an inside wants netns, dev and tag");
	int here = netns_here(), there = netns_open(netns);
	netns_enter(there);
	ring_open(r, dev, INSIDE);
	netns_enter(here);
	close(here);
	close(there);
	r->site = wire_add_inside(w, tag);
}

static void add_private(struct wire *w, char *text)
{
	char *slash = strchr(text, '/');
	struct in_addr a;

	if (slash)
		*slash = '\0';
	if (!slash || inet_pton(AF_INET, text, &a) != 1)
		fail("not an IPv4 prefix: %s", text);
	wire_add_private(w, ntohl(a.s_addr), (unsigned)number(slash + 1, 32));
}

int main(int argc, char **argv)
{
	static const struct option options[] = {{"wan", 1, NULL, 'w'}, {"egress", 1, NULL, 'e'},
		{"tunnel", 1, NULL, 't'}, {"tagged", 1, NULL, 'g'}, {"private", 1, NULL, 'p'},
		{"inside", 1, NULL, 'i'}, {0}};
	struct wire *w = wire_new();
	struct ring rings[RINGS_MAX] = {0};
	struct pollfd fds[RINGS_MAX];
	unsigned n = 0;
	int opt;

	while ((opt = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (opt) {
		case 'w':
		case 'e':
			if (n == RINGS_MAX)
				fail("more than %d places", RINGS_MAX);
			ring_open(&rings[n++], optarg, opt == 'w' ? UNDERLAY : EGRESS);
			break;
		case 'i':
			if (n == RINGS_MAX)
				fail("more than %d places", RINGS_MAX);
			add_inside(w, &rings[n++], optarg);
			break;
		case 't':
			add_tunnel(w, optarg);
			break;
		case 'g':
			wire_add_tagged_port(w, (uint16_t)number(optarg, 65535));
			break;
		case 'p':
			add_private(w, optarg);
			break;
		default:
			return 1;
		}
	}
	setpriority(PRIO_PROCESS, 0, -10);
	stop_on_signals();
	printf("ready\n");
	fflush(stdout);
	/* After the signal one more retire timeout brings in what was under way. */
	for (bool last = false; !last;) {
		for (unsigned i = 0; i < n; i++)
			fds[i] = (struct pollfd){.fd = rings[i].fd, .events = POLLIN};
		last = stop_asked();
		if (last)
			usleep(RETIRE_MS * 4 * 1000);
		else if (poll(fds, n, 1000) < 0 && errno != EINTR)
			fail_errno("poll");
		for (unsigned i = 0; i < n; i++)
			while (ring_read(&rings[i], w))
				;
	}
	uint64_t packets = 0, dropped = 0, cut = 0;
	for (unsigned i = 0; i < n; i++) {
		ring_close(&rings[i]);
		packets += rings[i].packets;
		dropped += rings[i].dropped;
		cut += rings[i].cut;
	}
	printf("{\"packets\":%llu,\"dropped\":%llu,\"cut\":%llu,\n", (unsigned long long)packets,
		(unsigned long long)dropped, (unsigned long long)cut);
	wire_report(w, stdout);
	printf("}\n");
	wire_free(w);
	return dropped ? 1 : 0;
}
