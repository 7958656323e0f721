/* SPDX-License-Identifier: GPL-2.0-or-later */
/* egress_probe.c - the gateway's egress without its packet path, for tests of what the kernel does alone.
 *
 *	egress_probe CONF          egress_up, TUN, egress_attach; then packets and commands until stdin ends
 *	egress_probe CONF up       egress_up only, as before a crash
 *	egress_probe CONF cleanup  egress_cleanup
 *
 * On stdin and stdout: a length of two octets (network order), then a packet, from and to the TUN. Length 0
 * begins a text: again a length, then a command or its answer. "ready N" is said when the TUN is attached, N
 * being the number of flows that are left after the limits of conntrack.
 */
#include "gateway/config.h"
#include "gateway/egress.h"
#include "gateway/hostnet.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define FRAME 65535

struct probe {
	const char *path;
	struct config *conf;
	struct log *log;
	struct egress *egress;
	struct hostnet *hostnet;
	int tun;
};

static void die(const char *fmt, ...) __attribute__((format(printf, 1, 2), noreturn));
static void die(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	exit(1);
}

/* ---- frames ----------------------------------------------------------------------------------------- */

static void put(const void *p, size_t len)
{
	for (size_t done = 0; done < len;) {
		ssize_t n = write(STDOUT_FILENO, (const char *)p + done, len - done);

		if (n <= 0)
			die("stdout: %s", strerror(errno));
		done += (size_t)n;
	}
}

static void put_frame(const void *p, size_t len)
{
	uint16_t be = htons((uint16_t)len);

	put(&be, sizeof(be));
	put(p, len);
}

static void say(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static void say(const char *fmt, ...)
{
	char text[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	put("\0\0", 2);
	put_frame(text, strlen(text));
}

/* False at the end of stdin. */
static bool get(void *p, size_t len)
{
	for (size_t done = 0; done < len;) {
		ssize_t n = read(STDIN_FILENO, (char *)p + done, len - done);

		if (n <= 0)
			return false;
		done += (size_t)n;
	}
	return true;
}

static bool get_frame(char *buf, size_t *len)
{
	uint16_t be;

	if (!get(&be, sizeof(be)))
		return false;
	*len = ntohs(be);
	return get(buf, *len);
}

/* ---- commands --------------------------------------------------------------------------------------- */

static struct config *load(const char *path)
{
	struct config *c;
	char *errors;

	if (config_load(path, &c, &errors))
		die("%s", errors ? errors : "out of memory");
	free(errors);
	return c;
}

/* PROTO SRC SPORT DST DPORT */
static bool parse_tuple(char *s, struct tuple *t)
{
	char *word[5], *rest = s;

	for (size_t i = 0; i < 5; i++) {
		word[i] = strtok_r(NULL, " ", &rest);
		if (!word[i])
			return false;
	}
	*t = (struct tuple){.proto = (uint8_t)strtoul(word[0], NULL, 10),
		.sport = htons((uint16_t)strtoul(word[2], NULL, 10)),
		.dport = htons((uint16_t)strtoul(word[4], NULL, 10))};
	return addr_parse(word[1], &t->src) == 0 && addr_parse(word[3], &t->dst) == 0;
}

static void reload(struct probe *p)
{
	char err[512] = "";
	struct config *c = load(p->path);
	int rc = egress_reload(p->egress, p->conf, c, err, sizeof(err));

	config_free(rc ? c : p->conf);
	p->conf = rc ? p->conf : c;
	say("reload %d %s", rc, err);
}

static void command(struct probe *p, char *text)
{
	char *arg = strchr(text, ' ');
	struct tuple t;
	struct addr a;

	if (arg)
		*arg++ = '\0';
	if (strcmp(text, "reload") == 0) {
		reload(p);
	} else if (strcmp(text, "forget-all") == 0) {
		say("%d", egress_forget_all(&p->conf->egress));
	} else if (strcmp(text, "forget") == 0 && arg && parse_tuple(arg, &t)) {
		egress_forget(p->egress, &t);
		egress_flush(p->egress);
		say("ok");
	} else if (strcmp(text, "forget-outside") == 0 && arg && parse_tuple(arg, &t)) {
		egress_forget_outside(p->egress, &t);
		egress_flush(p->egress);
		say("ok");
	} else if (strcmp(text, "address") == 0 && arg && addr_parse(arg, &a) == 0) {
		bool changed = hostnet_read(p->hostnet);

		say("%s%s%s%s", hostnet_own(p->hostnet, &a) ? "own " : "",
			hostnet_broadcast(p->hostnet, &a) ? "broadcast " : "",
			hostnet_connected(p->hostnet, &a) ? "connected " : "", changed ? "changed" : "");
	} else {
		say("what?");
	}
}

/* ---- the TUN ---------------------------------------------------------------------------------------- */

static int open_tun(const struct config *c)
{
	struct ifreq ifr = {.ifr_flags = IFF_TUN | IFF_NO_PI};
	int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC), s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", c->gateway.tun);
	if (fd < 0 || s < 0 || ioctl(fd, TUNSETIFF, &ifr))
		die("%s: %s", c->gateway.tun, strerror(errno));
	ifr.ifr_mtu = (int)c->gateway.tun_mtu;
	if (ioctl(s, SIOCSIFMTU, &ifr))
		die("%s: MTU: %s", c->gateway.tun, strerror(errno));
	if (egress_quiet_tun(c))
		fprintf(stderr, "%s is not quiet\n", c->gateway.tun);
	ifr.ifr_flags = IFF_UP;
	if (ioctl(s, SIOCSIFFLAGS, &ifr))
		die("%s: up: %s", c->gateway.tun, strerror(errno));
	close(s);
	return fd;
}

static void bridge(struct probe *p)
{
	static char buf[FRAME + 1];
	struct pollfd fds[] = {{.fd = p->tun, .events = POLLIN}, {.fd = STDIN_FILENO, .events = POLLIN}};

	while (poll(fds, 2, -1) > 0) {
		size_t len;
		ssize_t n;

		if (fds[0].revents) {
			n = read(p->tun, buf, FRAME);
			if (n > 0)
				put_frame(buf, (size_t)n);
		}
		if (!fds[1].revents)
			continue;
		if (!get_frame(buf, &len))
			return;
		if (len) {
			n = write(p->tun, buf, len);
			if (n < 0)
				fprintf(stderr, "TUN write: %s\n", strerror(errno));
		} else if (get_frame(buf, &len)) {
			buf[len] = '\0';
			command(p, buf);
		}
	}
}

int main(int argc, char **argv)
{
	struct probe p = {.path = argv[1]};
	char err[512] = "";
	uint32_t max;
	int rc;

	if (argc < 2 || argc > 3)
		die("usage: egress_probe CONF [up|cleanup]");
	p.log = log_open(LOG_LEVEL_DEBUG);
	p.conf = load(p.path);
	max = p.conf->flows.max;
	if (argc == 3 && strcmp(argv[2], "cleanup") == 0) {
		rc = egress_cleanup(p.conf, p.log);
		config_free(p.conf);
		log_close(p.log);
		return rc ? 1 : 0;
	}
	if (egress_up(&p.egress, p.conf, p.log, &max, err, sizeof(err)))
		die("%s", err);
	if (argc == 2) {
		if (hostnet_open(&p.hostnet, p.conf->gateway.tun, p.log))
			die("hostnet: %s", strerror(errno));
		p.tun = open_tun(p.conf);
		if (egress_attach(p.egress, p.conf, err, sizeof(err)))
			die("%s", err);
		say("ready %u", max);
		bridge(&p);
		close(p.tun);
		hostnet_close(p.hostnet);
	}
	egress_detach(p.egress);
	config_free(p.conf);
	log_close(p.log);
	return 0;
}
