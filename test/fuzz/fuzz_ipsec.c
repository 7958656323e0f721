/* SPDX-License-Identifier: GPL-2.0-or-later */
/* fuzz_ipsec.c - any octets as what came to an IPsec socket: a datagram, merged or not, an IPv4 packet, an ICMP quote.
 *
 * The first octet says which socket, the next two the size of the segments. Besides not crashing: the parts of a merged
 * datagram are all of it, in order, none longer than the segment; and each is what RFC 3948 says.
 */
#include "gateway/base/be.h"
#include "ipsec/sock_private.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool holds)
{
	if (!holds)
		abort();
}

/* RFC 3948 2, once more. */
static void check_kind(enum ipsec_port port, const uint8_t *p, uint32_t len)
{
	enum ipsec_rx_kind kind = IPSEC_RX_KEEPALIVE;
	enum drop drop = ipsec_classify(port, p, len, &kind);
	bool zeros = len >= 4 && (p[0] | p[1] | p[2] | p[3]) == 0;

	must(drop == DROP_NONE || drop == (port == IPSEC_RAW ? DROP_ESP_TRUNCATED : DROP_IPSEC_MALFORMED));
	if (drop != DROP_NONE) {
		must(len < 32);
		return;
	}
	switch (kind) {
	case IPSEC_RX_KEEPALIVE:
		must(port == IPSEC_UDP_4500 && len == 1 && p[0] == 0xff);
		return;
	case IPSEC_RX_IKE:
		must(port == IPSEC_UDP_500 ? len >= 28 : port == IPSEC_UDP_4500 && zeros && len >= 32);
		return;
	default:
		must(len >= 8 && (port == IPSEC_RAW || (port == IPSEC_UDP_4500 && !zeros)));
	}
}

static void check_parts(enum ipsec_port port, uint8_t *b, uint32_t len, uint32_t segment)
{
	struct ipsec_cut c = {b, len, segment};
	uint32_t at = 0;

	do {
		uint8_t *part = c.data;
		uint32_t n = ipsec_cut_next(&c);
		bool is_last = c.len == 0;

		must(part == b + at && c.data == part + n && n + c.len == len - at);
		must(is_last ? !segment || n <= segment : n == segment);
		must(n > 0 || len == 0);
		check_kind(port, part, n);
		at += n;
	} while (c.len);
	must(at == len);
}

static void check_outer(uint8_t *b, uint32_t len)
{
	uint8_t *p = b;
	uint32_t n = len;
	struct msg_outer o;

	if (msg_outer4(&p, &n, &o) != DROP_NONE)
		return;
	must(p >= b + 20 && p + n <= b + len);
	must(addr_is4(&o.local) && addr_is4(&o.remote) && o.segment == 0);
	check_parts(IPSEC_RAW, p, n, 0);
}

static void check_quote(enum ipsec_port port, const uint8_t *b, uint32_t len)
{
	bool is_esp;
	uint32_t spi;

	ipsec_quoted(port, b, len, &is_esp, &spi);
	must(is_esp || !spi);
	must(!spi || (len >= 4 && spi == be32_get(b)));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	enum ipsec_port port;
	uint32_t segment, len;
	uint8_t *b;

	if (size < 3 || size > 65535)
		return 0;
	port = data[0] % IPSEC_PORTS;
	segment = be16_get(data + 1);
	len = (uint32_t)size - 3;
	b = malloc(len ? len : 1); /* to the octet, so that reading behind it is found out */
	must(b != NULL);
	memcpy(b, data + 3, len);
	check_parts(port, b, len, port == IPSEC_RAW ? 0 : segment);
	check_quote(port, b, len);
	check_outer(b, len);
	free(b);
	return 0;
}
