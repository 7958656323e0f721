/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ipsec_stub.h - in place of IPsec's sockets and of the key exchange: what the gateway calls hands over what a test gives,
 * and keeps what it was told. To be included by ipsec_rig.h only, which says what becomes of a packet that is sent.
 */
#ifndef ARRD_TEST_IPSEC_STUB_H
#define ARRD_TEST_IPSEC_STUB_H

#include "gateway/ipsec_private.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <unistd.h>

#include <cmocka.h>

#define STUB_RX    256
#define STUB_CALLS 256
#define STUB_SENT  512

/* ---- sockets ------------------------------------------------------------------------------------------ */

struct ipsec_sock {
	int fd, reader; /* the writing end of a pipe: it says POLLERR when nobody reads any more */
	enum ipsec_port port;
	int family;
	struct ipsec_rx rx[STUB_RX];
	uint8_t *data[STUB_RX]; /* owned */
	unsigned n;             /* that wait */
	unsigned read, next;    /* of the last ipsec_sock_recv */
	struct ipsec_error errors[16];
	unsigned nerrors;
	uint32_t lost;
};

/* What was handed to ipsec_sock_send. */
struct stub_sent {
	struct ipsec_tx tx; /* without its data */
	enum ipsec_port port;
	int family;
	unsigned call; /* of ipsec_sock_send */
};

/* ---- the key exchange --------------------------------------------------------------------------------- */

enum stub_what {
	DID_ADD,
	DID_REMOVE,
	DID_INITIATE,
	DID_REKEY_IKE,
	DID_REKEY_CHILD,
	DID_TERMINATE,
	DID_RECEIVE,
	DID_SOFT,
	DID_HARD,
	DID_MAPPING
};

struct stub_call {
	enum stub_what what;
	uint32_t id;  /* of the connection */
	uint32_t spi; /* of an SA */
	struct sa_end remote;
	bool has_remote;
	uint16_t local_port;
	uint32_t len;
};

struct ike {
	int unused;
};

static struct stub {
	struct ipsec_sock *sock[IPSEC_PORTS][2];
	struct stub_sent sent[STUB_SENT];
	unsigned nsent, sends;
	int send_err;         /* what each item gets, not 0 ... */
	unsigned send_err_at; /* ... from this one of a call on */
	uint64_t send_failed; /* and these of its packets; 0: all */
	int open_err;         /* what ipsec_sock_open returns ... */
	unsigned open_err_at; /* ... the time after so many */
	unsigned opened, opens;

	struct ike ike;
	struct ike_options o;
	bool running;
	int start_err, add_err;
	struct stub_call call[STUB_CALLS];
	unsigned ncalls;
	enum drop receive_drop;
	struct ike_event *at_stop; /* comes while it stops */
} stub;

static void branch_got(const struct stub_sent *s, const uint8_t *data, uint32_t len);

int ipsec_sock_open(struct ipsec_sock **out, enum ipsec_port port, int family, uint32_t buffer)
{
	int p[2];

	(void)buffer;
	if (stub.open_err && stub.opens++ == stub.open_err_at)
		return stub.open_err;
	*out = calloc(1, sizeof(**out));
	assert_int_equal(pipe2(p, O_CLOEXEC), 0);
	(*out)->reader = p[0];
	(*out)->fd = p[1];
	(*out)->port = port;
	(*out)->family = family;
	stub.sock[port][family == AF_INET6] = *out;
	stub.opened++;
	return 0;
}

void ipsec_sock_close(struct ipsec_sock *s)
{
	if (!s)
		return;
	for (unsigned i = 0; i < s->n; i++)
		free(s->data[i]);
	if (s->reader >= 0)
		close(s->reader);
	close(s->fd);
	stub.opened--;
	stub.sock[s->port][s->family == AF_INET6] = NULL;
	free(s);
}

int ipsec_sock_fd(const struct ipsec_sock *s)
{
	return s->fd;
}

uint32_t ipsec_sock_lost(const struct ipsec_sock *s)
{
	return s->lost;
}

/* What was read before goes: nobody may look at it any more. */
int ipsec_sock_recv(struct ipsec_sock *s)
{
	unsigned got = s->n - s->read;

	for (unsigned i = 0; i < s->read; i++)
		free(s->data[i]);
	memmove(s->rx, s->rx + s->read, got * sizeof(s->rx[0]));
	memmove(s->data, s->data + s->read, got * sizeof(s->data[0]));
	s->n = s->read = got;
	s->next = 0;
	return (int)got;
}

bool ipsec_sock_next(struct ipsec_sock *s, struct ipsec_rx *rx)
{
	if (s->next == s->read)
		return false;
	*rx = s->rx[s->next++];
	return true;
}

/* Puts something into the next batch. Each packet lies by itself, at an odd place, and no octet before or behind it is
 * anybody's. */
static inline struct ipsec_rx *stub_put(enum ipsec_rx_kind kind, const struct sa_end *local,
	const struct sa_end *remote, const uint8_t *data, uint32_t len)
{
	enum ipsec_port port = !remote->port             ? IPSEC_RAW
			       : local->port == IKE_PORT ? IPSEC_UDP_500
							 : IPSEC_UDP_4500;
	struct ipsec_sock *s = stub.sock[port][!addr_is4(&remote->a)];
	struct ipsec_rx *rx = &s->rx[s->n];

	assert_true(s->n < STUB_RX);
	s->data[s->n] = malloc(len + 1);
	memcpy(s->data[s->n] + 1, data, len);
	*rx = (struct ipsec_rx){
		.kind = kind, .local = *local, .remote = *remote, .data = s->data[s->n] + 1, .len = len};
	s->n++;
	return rx;
}

unsigned ipsec_sock_errors(struct ipsec_sock *s, ipsec_error_cb *cb, void *arg)
{
	unsigned n = s->nerrors;

	for (unsigned i = 0; i < n; i++)
		cb(arg, &s->errors[i]);
	s->nerrors = 0;
	return n;
}

unsigned ipsec_sock_send(struct ipsec_sock *s, struct ipsec_tx *tx, unsigned n)
{
	unsigned sent = 0;

	for (unsigned i = 0; i < n; i++) {
		struct stub_sent *to = &stub.sent[stub.nsent++];
		uint32_t step = tx[i].segment ? tx[i].segment : tx[i].len;

		assert_true(stub.nsent < STUB_SENT);
		*to = (struct stub_sent){tx[i], s->port, s->family, stub.sends};
		to->tx.data = NULL;
		/* what sock.h asks for */
		assert_true(tx[i].len > 0 && tx[i].len <= 65000 + (tx[i].segment ? 0u : 535u));
		assert_true(!tx[i].segment || (s->port != IPSEC_RAW && tx[i].segment < tx[i].len));
		assert_true((tx[i].len + step - 1) / step <= IPSEC_SEGMENTS);
		assert_int_equal(!addr_is4(&tx[i].remote.a), s->family == AF_INET6);
		assert_int_equal(tx[i].remote.port == 0, s->port == IPSEC_RAW);
		tx[i].err = i >= stub.send_err_at ? stub.send_err : 0;
		tx[i].failed = !tx[i].err ? 0 : stub.send_failed ? stub.send_failed : UINT64_MAX;
		sent += !tx[i].err;
		for (uint32_t at = 0, k = 0; at < tx[i].len; at += step, k++)
			if (!(tx[i].failed >> k & 1))
				branch_got(
					to, tx[i].data + at, tx[i].len - at < step ? tx[i].len - at : step);
	}
	stub.sends++;
	return sent;
}

/* ---- the key exchange --------------------------------------------------------------------------------- */

static struct stub_call *did(enum stub_what what, uint32_t id)
{
	struct stub_call *c = &stub.call[stub.ncalls++];

	assert_true(stub.ncalls < STUB_CALLS);
	*c = (struct stub_call){.what = what, .id = id};
	return c;
}

/* How often it was told so of a connection; 0: of any. */
static inline unsigned did_count(enum stub_what what, uint32_t id)
{
	unsigned n = 0;

	for (unsigned i = 0; i < stub.ncalls; i++)
		n += stub.call[i].what == what && (!id || stub.call[i].id == id);
	return n;
}

static inline const struct stub_call *did_last(enum stub_what what)
{
	for (unsigned i = stub.ncalls; i-- > 0;)
		if (stub.call[i].what == what)
			return &stub.call[i];
	fail_msg("the key exchange was not told so");
	return NULL;
}

int ike_start(struct ike **out, const struct ike_options *o, char *err, size_t errlen)
{
	assert_false(stub.running);
	if (stub.start_err) {
		snprintf(err, errlen, "no library");
		return stub.start_err;
	}
	stub.o = *o;
	stub.running = true;
	*out = &stub.ike;
	return 0;
}

void ike_stop(struct ike *ike)
{
	assert_ptr_equal(ike, &stub.ike);
	if (stub.at_stop)
		mailbox_put(stub.o.box, &stub.at_stop->mail);
	stub.at_stop = NULL;
	stub.running = false;
}

const char *ike_version(void)
{
	return "0";
}

void ike_event_free(struct ike_event *e)
{
	if (!e)
		return;
	sa_free(e->sa);
	free(e->status);
	free(e->text);
	free(e);
}

int ike_add(struct ike *ike, const struct ike_conn *want, char *err, size_t errlen)
{
	(void)ike;
	assert_int_not_equal(want->id, 0);
	did(DID_ADD, want->id)->remote.a = want->remote;
	if (stub.add_err)
		snprintf(err, errlen, "no such certificate");
	return stub.add_err;
}

void ike_remove(struct ike *ike, uint32_t id)
{
	(void)ike;
	did(DID_REMOVE, id);
}

int ike_initiate(struct ike *ike, uint32_t id, const struct sa_end *remote_end, uint16_t local_port)
{
	struct stub_call *c = did(DID_INITIATE, id);

	(void)ike;
	c->has_remote = remote_end != NULL;
	if (remote_end)
		c->remote = *remote_end;
	c->local_port = local_port;
	return 0;
}

int ike_rekey(struct ike *ike, uint32_t id, bool child)
{
	(void)ike;
	did(child ? DID_REKEY_CHILD : DID_REKEY_IKE, id);
	return 0;
}

int ike_terminate(struct ike *ike, uint32_t id)
{
	(void)ike;
	did(DID_TERMINATE, id);
	return 0;
}

enum drop ike_receive(struct ike *ike, const struct sa_end *local, const struct sa_end *remote,
	const uint8_t *data, uint32_t len)
{
	struct stub_call *c = did(DID_RECEIVE, 0);

	(void)ike;
	(void)data;
	c->local_port = local->port;
	c->remote = *remote;
	c->len = len;
	return stub.receive_drop;
}

void ike_expire(struct ike *ike, const struct sa *sa, bool hard)
{
	(void)ike;
	did(hard ? DID_HARD : DID_SOFT, sa->tunnel)->spi = sa->spi;
}

void ike_log_level(struct ike *ike, enum log_level level)
{
	(void)ike;
	(void)level;
}

void ike_mapping(struct ike *ike, const struct sa *inbound, const struct sa_end *remote)
{
	struct stub_call *c = did(DID_MAPPING, inbound->tunnel);

	(void)ike;
	c->spi = inbound->spi;
	c->remote = *remote;
}

#endif
