/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ike_private.h - what the files of the key exchange share. Only they include strongSwan's headers.
 *
 * Locking. One mutex, ike->lock, guards the tables of connections, of their IKE_SAs and of SAs. It is held for look-ups
 * and changes of lists, and while an event that must keep its order is put into the mailbox; never while libcharon is
 * called, except for identities, references and proposals, which take no lock of theirs. So it may be taken under any
 * lock of libcharon's.
 *
 * libcharon has one instance a process, and its constructors take no argument: struct ike is found by ike_self().
 */
#ifndef ARRD_IPSEC_IKE_PRIVATE_H
#define ARRD_IPSEC_IKE_PRIVATE_H

#include "ipsec/ike.h"

#include <collections/array.h>
#include <daemon.h>
#include <errno.h>
#include <library.h>
#include <pthread.h>
#include <stdatomic.h>

#define IKE_BUCKETS 8192 /* of each table; a power of two */

/* ---- connections ------------------------------------------------------------------------------------ */

/* An ike_cfg_t that all connections with equal local, remote and proposals share: a handshake looks at each. */
struct ike_share {
	char *key;
	struct addr local, remote; /* remote none: any */
	ike_cfg_t *cfg;
	uint32_t users;
	struct ike_share *next; /* of the same remote's bucket */
};

/* A local address of shares: peers are told that they may move to it, and nobody may speak to another one. It stays when it has
 * no users any more, since IKE_SAs that end speak from there. */
struct ike_local {
	struct addr a;
	uint32_t users;
	struct ike_local *next;
};

#define IKE_DIGEST 32 /* octets of a BLAKE2b hash */

/* What a ca_file, or a cert_file and its key_file, contained: of all connections whose files contain the same. */
struct ike_files {
	uint8_t digest[IKE_DIGEST];
	uint32_t users;
	array_t *
		certs; /* certificate_t: the authorities; or our own and what stands behind it in cert_file */
	private_key_t *key; /* NULL: of a ca_file */
	struct ike_files *next;
};

/* An authority that a connection names. */
struct ike_ca {
	certificate_t *cert;
	uint32_t users; /* struct ike_files that have it */
	struct ike_ca *next;
};

/* Certificates of one connection. */
struct ike_certs {
	struct ike_files *own, *cas;
};

/* One IKE_SA of a connection. */
struct ike_sa_ref {
	ike_sa_id_t *id;
	struct ike_status status;
	uint64_t since_ms;       /* established, CLOCK_MONOTONIC */
	bool replaced;           /* by another peer: its SAs go as soon as it does */
	struct ike_sa_ref *next; /* the newest first */
};

struct ike_entry; /* an SA, see ike_kernel.c */

struct conn {
	uint32_t id;
	uint32_t refs; /* 1 for the tables */
	char *name;
	struct addr local, remote;
	identification_t *local_id, *remote_id;
	peer_cfg_t *peer_cfg;
	child_cfg_t *child_cfg;
	struct ike_share *share;
	shared_key_t *psk; /* or */
	struct ike_certs certs;
	bool initiate;
	bool held; /* by the operator: it stays down until ike_initiate */
	/* ike_steer.c's: since when it is up; when it is tried again, when a CHILD_SA is asked for; on its way to a thread */
	uint64_t up_ms, next_try_ms, child_ms;
	bool ordered;
	uint32_t backoff_s;
	enum ike_state told; /* the loop, last */
	uint32_t told_ike;
	struct log_limit failed, remarked; /* what the loop is told of its handshakes */
	uint32_t children;                 /* inbound SAs and reservations, see ike_kernel.c */
	struct ike_sa_ref *sas;
	struct ike_entry *entries;
	struct conn *next_id, *next_cfg, *next_peer, *next_initiating;
};

struct ike_log;
struct ike_socket;

struct ike {
	struct mailbox *box;
	struct sad *sad;
	struct crypto_keys *keys;
	struct ipsec_sock *sock[2][2];
	struct ike_socket *socket; /* set and cleared by the loop's thread, in ike_start and ike_stop */
	atomic_bool stopping;

	pthread_mutex_t lock;
	struct conn *by_id[IKE_BUCKETS];
	struct conn *by_cfg[IKE_BUCKETS];       /* by peer_cfg: an IKE_SA says which connection it is of */
	struct conn *by_peer[IKE_BUCKETS];      /* by remote identity */
	struct conn *initiating;                /* those that are to be up */
	struct ike_share *shares[IKE_BUCKETS];  /* by remote address */
	struct ike_local *locals[IKE_BUCKETS];  /* by address */
	struct ike_entry *entries[IKE_BUCKETS]; /* by SPI */
	struct ike_files *files[IKE_BUCKETS];   /* by digest */
	struct ike_ca *cas;

	struct ike_log *logger;
	struct log_limit failed, remarked; /* of handshakes that are nobody's */
	listener_t listener;
	backend_t backend;
	credential_set_t creds;
};

static inline struct ike *ike_self(void)
{
	return lib->get(lib, "arrd");
}

static inline uint64_t ike_now_ms(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* ---- ike_event.c: to the loop; no lock is needed ------------------------------------------------------ */

/* NULL: no memory. ike_event_free frees it. */
struct ike_event *ike_event_new(enum ike_event_kind kind, uint32_t tunnel);
void ike_post(struct ike *ike, struct ike_event *e);
/* An event of one line. */
void ike_post_text(
	struct ike *ike, enum ike_event_kind kind, uint32_t tunnel, enum log_level level, const char *text);
/* The same of a failure (IKE_EVENT_FAILED) of c, or of nobody's (NULL), at a limited rate; what was left out is counted in the
 * next one. Whoever sends handshakes that fail must not fill the mailbox. With ike->lock held. */
void ike_post_failure(struct ike *ike, struct conn *c, const char *text);

/* ---- ike_addr.c: strongSwan's forms and ours ---------------------------------------------------------- */

struct addr ike_addr_from_chunk(chunk_t c); /* of 4 or 16 octets; else none */
struct sa_end ike_end_from_host(host_t *h);
host_t *ike_host(const struct addr *a, uint16_t port);
/* room zero octets and a copy of data, which libcharon's objects take over. */
chunk_t ike_chunk(const void *data, size_t len, size_t room);
/* The text of strongSwan's own printf conversions (%H %Y %P …), for which the compiler has no check. Returns buf. */
const char *ike_print(char *buf, size_t len, const char *fmt, ...);

/* ---- ike_conn.c --------------------------------------------------------------------------------------- */

/* With the lock held. */
struct conn *ike_conn_by_id(struct ike *ike, uint32_t id);
struct conn *ike_conn_by_cfg(struct ike *ike, peer_cfg_t *cfg);
uint32_t ike_hash_identity(identification_t *id);
/* The connection of the IKE_SA that the calling thread works on, referenced, or NULL. Takes the lock. */
struct conn *ike_conn_current(struct ike *ike);
void ike_conn_put(struct ike *ike, struct conn *c); /* takes the lock; NULL is allowed */
void ike_conns_free(struct ike *ike);               /* all of them, when libcharon has ended */

/* ---- ike_cfg.c: a connection's objects of libcharon's ------------------------------------------------- */

/* Fills c->share, c->peer_cfg and c->child_cfg. With the lock held. Returns 0 or -errno with a message in err. */
int ike_cfg_build(struct ike *ike, struct conn *c, const struct ike_conn *want, char *err, size_t errlen);
/* Gives the share back. With the lock held. */
void ike_cfg_drop(struct ike *ike, struct conn *c);
/* Whether it is the local address of some connection; or was. With the lock held. */
bool ike_cfg_is_local(struct ike *ike, const struct addr *a);
bool ike_cfg_was_local(struct ike *ike, const struct addr *a);
/* At the end. */
void ike_cfg_free(struct ike *ike);

/* ---- ike_creds.c -------------------------------------------------------------------------------------- */

void ike_creds_init(struct ike *ike);
/* Loads the key or certificates of a connection. Both take the lock. Returns 0 or -errno with a message. */
int ike_creds_load(struct ike *ike, struct conn *c, const struct ike_conn *want, char *err, size_t errlen);
void ike_creds_drop(struct ike *ike, struct conn *c);

/* ---- ike_certs.c -------------------------------------------------------------------------------------- */

/* Our own certificate: what stands first in cert_file. */
static inline certificate_t *ike_own_cert(const struct ike_files *own)
{
	certificate_t *cert;
	array_get(own->certs, ARRAY_HEAD, &cert);
	return cert;
}

/* What the files of a connection contain, shared with others. By the loop's thread. Takes the lock, but not while it parses.
 * Returns 0, or -errno with a message (-ENOMEM: without); ike_certs_drop either way. */
int ike_certs_load(
	struct ike *ike, struct ike_certs *c, const struct ike_conn *want, char *err, size_t errlen);
/* Gives them back; who is the last frees them. Takes the lock. */
void ike_certs_drop(struct ike *ike, struct ike_certs *c);

/* ---- the rest: what libcharon calls ------------------------------------------------------------------- */

void ike_backend_init(struct ike *ike);
void ike_bus_init(struct ike *ike);
kernel_ipsec_t *ike_kernel_create(void);
kernel_net_t *ike_net_create(void);
socket_t *ike_socket_create(void);

/* The SAs of a connection go at once, whatever the peer answers. With the lock held. */
void ike_kernel_forget(struct ike *ike, struct conn *c);
/* The same of one IKE_SA, by the thread that works on it. With the lock held. */
void ike_kernel_forget_children(struct ike *ike, struct conn *c, ike_sa_t *sa);
void ike_kernel_free(struct ike *ike);

int ike_log_start(struct ike *ike, enum log_level level); /* 0 or -ENOMEM */
void ike_log_stop(struct ike *ike);

/* The IKE_SAs of a connection, newest first, and what became of them. With the lock held. */
void ike_bus_drop(struct conn *c);

/* ---- ike_steer.c: jobs -------------------------------------------------------------------------------- */

/* Ends an IKE_SA, whatever it is doing. id is copied. From any thread, also with the lock held. */
void ike_steer_end(struct ike *ike, ike_sa_id_t *id);
/* Ends one of two, after a while, if both are up then; the other end chooses the same one. As above. */
void ike_steer_end_one(struct ike *ike, ike_sa_id_t *a, ike_sa_id_t *b);
/* With the lock held. */
void ike_steer_is_up(struct conn *c);
void ike_steer_is_down(struct conn *c); /* no IKE_SA, or no CHILD_SA any more */
/* Looks after connections that are to be up. */
void ike_steer_start(struct ike *ike);

#endif
