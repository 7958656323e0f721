/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ike_socket.c - libcharon's socket: the loop reads, libcharon's sender writes.
 *
 * On port 4500 four zero octets stand before IKE (RFC 3948 2.2). libcharon goes by both ports: it adds and takes them away
 * unless one of the two is 500. That is wrong where a NAT has given a peer's 4500 the number 500 outside, so it is put
 * right here, by our own port alone.
 */
#include "ipsec/ike_admit.h"
#include "ipsec/ike_private.h"

#include <threading/condvar.h>
#include <threading/mutex.h>
#include <threading/thread.h>

#define MARKER       4
#define QUEUE_MAX    4096       /* messages */
#define QUEUE_OCTETS (8u << 20) /* of all of them */
#define MESSAGE_MAX  65535

struct message {
	struct sa_end local, remote;
	uint32_t len;
	struct message *next;
	uint8_t data[];
};

struct ike_socket {
	socket_t public;
	struct ike *ike;
	mutex_t *lock;
	condvar_t *filled;
	struct message *first, **last;
	uint32_t count, octets;
};

static bool has_marker(const uint8_t *data, uint32_t len)
{
	static const uint8_t zero[MARKER];
	return len >= MARKER && memcmp(data, zero, MARKER) == 0;
}

/* ---- receiving -------------------------------------------------------------------------------------- */

/* Takes m over, if there is room for it. */
static bool enqueue(struct ike_socket *s, struct message *m)
{
	bool room;

	s->lock->lock(s->lock);
	room = s->count < QUEUE_MAX && s->octets + m->len <= QUEUE_OCTETS;
	if (room) {
		*s->last = m;
		s->last = &m->next;
		s->count++;
		s->octets += m->len;
		s->filled->signal(s->filled);
	}
	s->lock->unlock(s->lock);
	return room;
}

/* Libcharon begins nothing at other addresses, but a peer that it knows could move to any that the machine has (RFC 4555 3.5):
 * to ones that it was not told of, and that packet filters and our own rules do not know as a tunnel's end. */
static bool is_for_us(struct ike *ike, const struct addr *local)
{
	bool is;

	pthread_mutex_lock(&ike->lock);
	is = ike_cfg_was_local(ike, local);
	pthread_mutex_unlock(&ike->lock);
	return is;
}

enum drop ike_receive(struct ike *ike, const struct sa_end *local, const struct sa_end *remote,
	const uint8_t *data, uint32_t len)
{
	uint32_t marker = local->port == IKE_PORT_NATT ? MARKER : 0;
	struct ike_socket *s = ike->socket;
	struct message *m;

	if (len > MESSAGE_MAX || (marker && !has_marker(data, len)) ||
		!ike_admit(data + marker, len - marker))
		return DROP_IKE_MALFORMED;
	if (!is_for_us(ike, &local->a))
		return DROP_IKE_LOCAL;
	if (!s || atomic_load(&ike->stopping))
		return DROP_IKE_QUEUE;
	/* What libcharon would take for a message without the octets; see above. */
	if (marker && remote->port == IKE_PORT) {
		data += MARKER;
		len -= MARKER;
	}
	m = malloc(sizeof(*m) + len);
	if (!m)
		return DROP_IKE_QUEUE;
	m->local = *local;
	m->remote = *remote;
	m->len = len;
	m->next = NULL;
	memcpy(m->data, data, len);

	if (enqueue(s, m))
		return DROP_NONE;
	free(m);
	return DROP_IKE_QUEUE;
}

static void unlock(void *lock)
{
	mutex_t *m = lock;
	m->unlock(m);
}

/* libcharon's receiver: waits for the next message. It may be cancelled while it waits, and nowhere else. */
static status_t receive(socket_t *public, packet_t **packet)
{
	struct ike_socket *s = (struct ike_socket *)public;
	struct message *m;
	host_t *local, *remote;

	s->lock->lock(s->lock);
	while (!s->first) {
		bool before;

		thread_cleanup_push(unlock, s->lock);
		before = thread_cancelability(TRUE);
		s->filled->wait(s->filled, s->lock);
		thread_cancelability(before);
		thread_cleanup_pop(FALSE);
	}
	m = s->first;
	s->first = m->next;
	if (!s->first)
		s->last = &s->first;
	s->count--;
	s->octets -= m->len;
	s->lock->unlock(s->lock);

	local = ike_host(&m->local.a, m->local.port);
	remote = ike_host(&m->remote.a, m->remote.port);
	*packet = packet_create_from_data(remote, local, ike_chunk(m->data, m->len, 0));
	free(m);
	return SUCCESS;
}

/* ---- sending ---------------------------------------------------------------------------------------- */

static status_t send_packet(socket_t *public, packet_t *packet)
{
	struct ike_socket *s = (struct ike_socket *)public;
	struct ike *ike = s->ike;
	struct sa_end local = ike_end_from_host(packet->get_source(packet));
	struct sa_end remote = ike_end_from_host(packet->get_destination(packet));
	struct ipsec_sock *sock =
		ike->sock[local.port == IKE_PORT_NATT ? IPSEC_UDP_4500 : IPSEC_UDP_500][!addr_is4(&remote.a)];
	chunk_t data = packet->get_data(packet), marked = chunk_empty;
	int err;

	/* A peer that is told of our end would not come back by itself, where the next start could take it up again. */
	if (atomic_load(&ike->stopping))
		return SUCCESS;
	if (!sock)
		return FAILED;
	if (local.port == IKE_PORT_NATT && remote.port == IKE_PORT && data.len > 1)
		data = marked = ike_chunk(data.ptr, data.len, MARKER);
	err = ipsec_sock_send_ike(sock, &local, &remote, data.ptr, (uint32_t)data.len);
	chunk_free(&marked);
	return err ? FAILED : SUCCESS;
}

static uint16_t get_port(socket_t *public, bool nat_t)
{
	return nat_t ? IKE_PORT_NATT : IKE_PORT;
}

static socket_family_t supported_families(socket_t *public)
{
	struct ike *ike = ((struct ike_socket *)public)->ike;
	socket_family_t f = SOCKET_FAMILY_NONE;

	for (int port = 0; port < 2; port++) {
		if (ike->sock[port][0])
			f |= SOCKET_FAMILY_IPV4;
		if (ike->sock[port][1])
			f |= SOCKET_FAMILY_IPV6;
	}
	return f;
}

/* ---- life ------------------------------------------------------------------------------------------- */

static void destroy(socket_t *public)
{
	struct ike_socket *s = (struct ike_socket *)public;
	struct message *m;

	s->ike->socket = NULL;
	while ((m = s->first)) {
		s->first = m->next;
		free(m);
	}
	s->filled->destroy(s->filled);
	s->lock->destroy(s->lock);
	free(s);
}

socket_t *ike_socket_create(void)
{
	struct ike_socket *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->public.receive = receive;
	s->public.send = send_packet;
	s->public.get_port = get_port;
	s->public.supported_families = supported_families;
	s->public.destroy = destroy;
	s->ike = ike_self();
	s->lock = mutex_create(MUTEX_TYPE_DEFAULT);
	s->filled = condvar_create(CONDVAR_TYPE_DEFAULT);
	s->last = &s->first;
	s->ike->socket = s;
	return &s->public;
}
