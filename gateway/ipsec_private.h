/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ipsec_private.h - between the files of IPsec in the gateway. */
#ifndef ARRD_GATEWAY_IPSEC_PRIVATE_H
#define ARRD_GATEWAY_IPSEC_PRIVATE_H

#include "gateway/ipsec.h"
#include "gateway/peers.h"
#include "ipsec/esp.h"
#include "ipsec/ike.h"
#include "ipsec/sad.h"
#include "ipsec/sock.h"

#define ESPQ_LEN    128
#define ESPQ_OCTETS (256u << 10) /* what stays in a core's cache; one packet of the largest size fits, too */

/* Packets that wait to be sealed and sent, one right behind the other. */
struct espq {
	unsigned n;
	uint32_t used; /* octets of buf */
	struct esp_out out[ESPQ_LEN];
	struct tunnel *tunnel[ESPQ_LEN], *inner[ESPQ_LEN];
	uint32_t octets[ESPQ_LEN];
	uint8_t tos[ESPQ_LEN];
	bool df[ESPQ_LEN];
	uint8_t *buf;
	struct ipsec_tx tx[ESPQ_LEN];
	unsigned first[ESPQ_LEN + 1]; /* tx[i] is made of out[first[i]] up to out[first[i + 1]] */
};

struct ipsec {
	struct gateway *gw;
	struct sad *sad;
	struct crypto_keys *keys;
	struct crypto *crypto;
	struct mailbox *box;
	struct ike *ike;
	struct peers *peers;
	uv_async_t wake;
	bool closing, unlocked_told;
	unsigned handles;                        /* of the loop, that are open */
	struct ipsec_sock *sock[IPSEC_PORTS][2]; /* IPv4, IPv6; NULL where the machine does not have it */
	uv_poll_t poll[IPSEC_PORTS][2];
	uint32_t lost[IPSEC_PORTS][2]; /* as last read */
	struct police police[2];
	uint16_t generation; /* of the last connection's number */
	uint64_t written_ms; /* the last time that the peers' file was */
	uint64_t seen_ms;    /* the last time that branches that are up were looked for */
	struct log_limit unknown_log;

	/* of the batch that is being received */
	struct ipsec_rx rx[ESP_BATCH];
	struct esp_in in[ESP_BATCH];
	struct espq q;
};

/* ipsec_events.c: does what the key exchange told the loop. SAs may go: not while a batch refers to any. */
void ipsec_drain(struct ipsec *s);
/* ipsec_events.c: by which SA does the tunnel send now? To be called whenever that may have changed. */
void ipsec_refresh(struct ipsec *s, struct tunnel *t, uint64_t now);
/* ipsec_events.c: the running tunnel of a connection's number, or NULL. */
struct tunnel *ipsec_tunnel(const struct ipsec *s, uint32_t conn);
/* ipsec_events.c: writes the peers' file, if anything changed and it was not written just now. */
void ipsec_write_peers(struct ipsec *s, uint64_t now);

/* ipsec_conns.c: where a tunnel's branch is now, as its IKE_SA (which is up) says. */
void ipsec_seen(struct ipsec *s, const struct tunnel *t, const struct ike_status *st, uint64_t now);
/* ipsec_conns.c: the same of all that are up. */
void ipsec_seen_all(struct ipsec *s, uint64_t now);

/* ipsec_conns.c: about once a second: branches that were called back and did not come. */
void ipsec_call_again(struct ipsec *s, uint64_t now);
/* ipsec.c: an SA has carried a packet more, which is counted; perhaps it is to be renewed. */
void ipsec_used(struct ipsec *s, struct sa *sa);

/* rx_ipsec.c: takes a ready socket's packets. Returns how many datagrams came. */
unsigned rx_ipsec(struct ipsec *s, struct ipsec_sock *sock);
/* rx_ipsec.c: packets that were held for an SA which is there now. */
void rx_ipsec_held(struct ipsec *s, struct sa *sa, struct sad_held *list);

#endif
