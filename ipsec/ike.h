/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ike.h - the key exchange: strongSwan's libcharon behind a seam of plain C. Its headers stay in ike_*.c.
 *
 * Theory. libcharon brings its own threads. They reach the gateway's loop only by the mailbox (struct ike_event), and the
 * loop reaches them only by calls below that put a job into charon's queue and return. Nothing here waits for the other
 * side, but ike_start and ike_stop.
 *
 *	loop: UDP 500/4500 ── ike_receive ──► queue ──► charon's receiver
 *	charon's sender ──► ipsec_sock_send_ike (any thread)
 *	charon: get_spi ──► sad_reserve (any thread)
 *	charon: add_sa, update_sa, del_sa, state ──► struct ike_event ──► mailbox ──► loop
 *	loop: lifetimes, NAT mappings ──► ike_expire, ike_mapping ──► job
 *
 * A connection is known by the number that the caller gives it (a tunnel's id in the flow table): it is if_id and reqid of
 * every SA that comes of it, so an SA names its tunnel, also after rekeying, reauthentication and MOBIKE. A number is
 * never given to another connection while the process lives.
 *
 * References: RFC 7296 (IKEv2), 7383 (fragmentation), 4555 (MOBIKE), 6023 (childless), 3948 (NAT-T).
 */
#ifndef ARRD_IPSEC_IKE_H
#define ARRD_IPSEC_IKE_H

#include "gateway/base/drop.h"
#include "gateway/base/log.h"
#include "gateway/base/mailbox.h"
#include "ipsec/sad.h"
#include "ipsec/sock.h"

struct ike;

/* One connection: an [tunnel] of type ipsec. All pointers are read during ike_add only. */
struct ike_conn {
	uint32_t id;               /* not 0 */
	const char *name;          /* of the tunnel */
	struct addr local, remote; /* remote none: any */
	/* In strongSwan's syntax of identities. NULL: the address. Together they are of one connection only. */
	const char *local_id, *remote_id;
	const uint8_t *psk; /* NULL: certificates */
	uint32_t psk_len;
	const char *cert_file, *key_file, *ca_file;              /* paths, PEM or DER; with certificates */
	const char *const *ike_proposals, *const *esp_proposals; /* checked by proposal_check */
	uint32_t nike_proposals, nesp_proposals;
	const struct prefix *local_ts, *remote_ts; /* empty: 0.0.0.0/0 and ::/0; transport mode: the hosts */
	uint32_t nlocal_ts, nremote_ts;
	uint8_t ts_proto; /* 0: any; 47 for GRE alone */
	bool transport;   /* ask for transport mode as initiator, allow it as responder */
	bool initiate;    /* bring it up, and again when it goes down */
	bool mobike, fragmentation, force_encap; /* force_encap: UDP also without NAT */
	uint32_t ike_rekey_s, ike_reauth_s;      /* 0: never */
	uint32_t child_rekey_s;                  /* 0: never. Hard limits follow a tenth later */
	uint64_t child_rekey_octets, child_rekey_packets;
	uint32_t dpd_s;         /* seconds of silence until the peer is asked; 0: never */
	uint32_t replay_window; /* 0: off */
	uint16_t tfc;           /* 0, octets, or UINT16_MAX: to the MTU */
};

/* What one branch may have at a time, so that it cannot use up what is there for all: inbound SAs with those that are being
 * renewed (2^18 SPIs are there), and IKE_SAs. */
#define IKE_CHILDREN_MAX 128
#define IKE_SAS_MAX      8

/* ---- life ------------------------------------------------------------------------------------------- */

struct ike_options {
	struct log *log; /* only used inside of ike_start and ike_stop; later records come by IKE_EVENT_LOG */
	enum log_level log_level;
	struct mailbox *box;
	struct sad *sad;
	/* [IPSEC_UDP_500, IPSEC_UDP_4500][IPv4, IPv6]; NULL where there is none */
	struct ipsec_sock *sock[2][2];
	struct crypto_keys *keys;  /* where keys of ESP are made; outlives ike_stop and the last SA */
	uint32_t threads;          /* of charon; at least 8 */
	uint32_t cookie_threshold; /* half-open IKE_SAs from which on cookies are asked for */
	uint32_t block_threshold;  /* half-open IKE_SAs of one address from which on it is ignored */
	uint32_t half_open_max;    /* from which on no IKE_SA_INIT is answered; 0: no limit */
};

/* Starts charon. There is one a process. Returns 0, or -errno with a message in err: -ENOTSUP when the library is not of
 * the version that the headers were (the message names both). The caller's thread is used for nothing later. */
int ike_start(struct ike **out, const struct ike_options *o, char *err, size_t errlen);

/* Ends charon and its threads. Peers are not told (a DELETE would leave a stock branch down for good, where the next
 * start could take it up again). Events may still come until it returns: empty the mailbox with ike_event_free. */
void ike_stop(struct ike *ike);

/* What is logged from here on. */
void ike_log_level(struct ike *ike, enum log_level level);

/* "5.9.8": of the headers that this was built with. */
const char *ike_version(void);

/* ---- connections ------------------------------------------------------------------------------------ */

/* Adds a connection, and brings it up if it says initiate. Certificates and keys are loaded at once. Returns 0, or -errno
 * with a message in err: -EEXIST when its identities are those of another one, -EINVAL, or that of a file. */
int ike_add(struct ike *ike, const struct ike_conn *want, char *err, size_t errlen);
/* Forgets it. Its SAs' events of deletion are in the mailbox when this returns; its IKE_SAs are ended by a job (the peer is
 * told by DELETE), and of those nothing comes any more but records of the log. */
void ike_remove(struct ike *ike, uint32_t id);

/* Steering by the operator; jobs. Return 0 or -ENOENT. ike_initiate does nothing where an IKE_SA with a CHILD_SA is up or on
 * its way. remote_end (NULL: as configured): where to, for a connection with remote = any and for one behind a NAT; port 0
 * stands for local_port. local_port: 500 or 4500 to begin on. -EDESTADDRREQ: remote = any, and no remote_end. */
int ike_initiate(struct ike *ike, uint32_t id, const struct sa_end *remote_end, uint16_t local_port);
int ike_rekey(struct ike *ike, uint32_t id, bool child); /* child: the CHILD_SAs, else the IKE_SA */
/* With DELETE; its SAs go at once. A connection that is to be up stays down until ike_initiate. */
int ike_terminate(struct ike *ike, uint32_t id);

/* ---- from the loop ---------------------------------------------------------------------------------- */

/* An IKE message from a socket (on 4500 with its four zero octets). Copied. Returns DROP_NONE, DROP_IKE_MALFORMED (nothing
 * that libcharon ought to see, ike_admit.h), DROP_IKE_LOCAL (no connection has or had that local address), or
 * DROP_IKE_QUEUE. */
enum drop ike_receive(struct ike *ike, const struct sa_end *local, const struct sa_end *remote,
	const uint8_t *data, uint32_t len);
/* An SA reached a limit: renew it, or (hard) end it. */
void ike_expire(struct ike *ike, const struct sa *sa, bool hard);
/* Good ESP came from another address or port than the SA's (call it after ICV and replay check passed). If the peer is
 * behind a NAT, the connection follows, whoever began it (RFC 7296 2.23). */
void ike_mapping(struct ike *ike, const struct sa *inbound, const struct sa_end *remote);

/* ---- to the loop ------------------------------------------------------------------------------------ */

enum ike_state { IKE_STATE_DOWN, IKE_STATE_CONNECTING, IKE_STATE_UP };

/* What operators are shown of a connection's newest IKE_SA. */
struct ike_status {
	enum ike_state state;
	uint32_t ike; /* unique id */
	bool initiator, nat_local, nat_remote;
	struct sa_end local, remote;
	char local_id[256], remote_id[256]; /* printable */
	char algorithms[128];               /* as in a proposal: AES_GCM_16_256/PRF_HMAC_SHA2_384/ECP_384 */
	uint64_t established_s_ago, rekey_in_s, reauth_in_s; /* at the time of the event; 0: none */
};

enum ike_event_kind {
	IKE_EVENT_SA_ADD,    /* sa: the loop's from now on */
	IKE_EVENT_SA_UPDATE, /* new ends of an SA */
	IKE_EVENT_SA_DELETE, /* an SA, or a reservation, is gone */
	IKE_EVENT_STATUS, /* of a connection: state, or its IKE_SA is new, rekeyed (old: its predecessor), moved */
	IKE_EVENT_FAILED, /* authentication or negotiation failed; text says why. tunnel 0: nobody's. At most ten, and then
			   * one a second, of each tunnel; count: with those that were left out before it */
	IKE_EVENT_LOG, /* a record of charon's: level, text; tunnel 0: of none */
};

struct ike_event {
	struct mail mail;
	enum ike_event_kind kind;
	uint32_t tunnel;
	struct sa *sa;               /* ADD */
	bool inbound;                /* UPDATE, DELETE */
	uint32_t spi;                /* UPDATE, DELETE; host order */
	struct sa_end local, remote; /* UPDATE, DELETE */
	struct ike_status *status;   /* STATUS; owned */
	uint32_t old;                /* STATUS after a rekey: unique id of the predecessor, else 0 */
	enum log_level level;        /* LOG */
	char *text;                  /* LOG, FAILED; owned */
	uint32_t count;              /* FAILED */
};

/* Frees the event with everything that was not taken out of it (set to NULL). */
void ike_event_free(struct ike_event *e);

#endif
