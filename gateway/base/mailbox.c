/* SPDX-License-Identifier: GPL-2.0-or-later */
/* mailbox.c - what other threads tell the loop. */
#include "gateway/base/mailbox.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>

struct mailbox {
	pthread_mutex_t lock;
	struct mail *first, **last;
	void (*wake)(void *arg);
	void *arg;
};

int mailbox_new(struct mailbox **out, void (*wake)(void *arg), void *arg)
{
	struct mailbox *m = calloc(1, sizeof(*m));

	if (!m)
		return -ENOMEM;
	pthread_mutex_init(&m->lock, NULL);
	m->last = &m->first;
	m->wake = wake;
	m->arg = arg;
	*out = m;
	return 0;
}

void mailbox_free(struct mailbox *m)
{
	if (!m)
		return;
	pthread_mutex_destroy(&m->lock);
	free(m);
}

void mailbox_put(struct mailbox *m, struct mail *mail)
{
	bool was_empty;

	mail->next = NULL;
	pthread_mutex_lock(&m->lock);
	was_empty = !m->first;
	*m->last = mail;
	m->last = &mail->next;
	pthread_mutex_unlock(&m->lock);
	if (was_empty)
		m->wake(m->arg);
}

struct mail *mailbox_take(struct mailbox *m)
{
	struct mail *all;

	pthread_mutex_lock(&m->lock);
	all = m->first;
	m->first = NULL;
	m->last = &m->first;
	pthread_mutex_unlock(&m->lock);
	return all;
}
