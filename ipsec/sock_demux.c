/* SPDX-License-Identifier: GPL-2.0-or-later */
/* sock_demux.c - telling apart what came to the IPsec sockets: IKE, ESP, keepalives, one datagram or several merged. Pure.
 *
 * References: RFC 3948 2 (packet formats), RFC 7296 3.1 (IKE header), RFC 4303 2 (ESP).
 */
#include "gateway/base/be.h"
#include "ipsec/sock_private.h"

#define IKE_HDR    28
#define IKE_MARKER 4 /* octets of zero in front of IKE on port 4500, where ESP has its SPI */
#define ESP_SPI    4
#define ESP_MIN    8
#define KEEPALIVE  0xff

enum drop ipsec_classify(enum ipsec_port port, const uint8_t *data, uint32_t len, enum ipsec_rx_kind *kind)
{
	switch (port) {
	case IPSEC_UDP_500:
		*kind = IPSEC_RX_IKE;
		return len < IKE_HDR ? DROP_IPSEC_MALFORMED : DROP_NONE;
	case IPSEC_UDP_4500:
		if (len == 1 && data[0] == KEEPALIVE) {
			*kind = IPSEC_RX_KEEPALIVE;
			return DROP_NONE;
		}
		if (len < ESP_MIN)
			return DROP_IPSEC_MALFORMED;
		if (be32_get(data) != 0) {
			*kind = IPSEC_RX_ESP;
			return DROP_NONE;
		}
		*kind = IPSEC_RX_IKE;
		return len < IKE_MARKER + IKE_HDR ? DROP_IPSEC_MALFORMED : DROP_NONE;
	default:
		*kind = IPSEC_RX_ESP;
		return len < ESP_MIN ? DROP_ESP_TRUNCATED : DROP_NONE;
	}
}

uint32_t ipsec_cut_next(struct ipsec_cut *c)
{
	uint32_t n = c->segment && c->segment < c->len ? c->segment : c->len;

	c->data += n;
	c->len -= n;
	return n;
}

void ipsec_quoted(enum ipsec_port port, const uint8_t *quote, uint32_t len, bool *is_esp, uint32_t *spi)
{
	*spi = 0;
	switch (port) {
	case IPSEC_UDP_500:
		*is_esp = false;
		return;
	case IPSEC_UDP_4500:
		if (len <
			ESP_SPI) { /* a keepalive, or cut off: old routers quote no more than the UDP header */
			*is_esp = len == 0;
			return;
		}
		*spi = be32_get(quote);
		*is_esp = *spi != 0;
		return;
	default:
		*is_esp = true;
		if (len >= ESP_SPI)
			*spi = be32_get(quote);
	}
}
