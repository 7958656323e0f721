/* SPDX-License-Identifier: GPL-2.0-or-later */
/* mailbox.h - what other threads tell the loop: a locked list, and a wake-up that coalesces.
 *
 * Threads put, the loop takes everything at once. Nobody ever waits: the lock is held for a few instructions.
 */
#ifndef ARRD_BASE_MAILBOX_H
#define ARRD_BASE_MAILBOX_H

/* The first member of what is sent. It belongs to the mailbox from mailbox_put to mailbox_take. */
struct mail {
	struct mail *next;
};

struct mailbox;

/* wake is called by the thread that puts, once for all that lies there untaken; it must be callable from any thread
 * (uv_async_send is). Returns 0 or -ENOMEM. */
int mailbox_new(struct mailbox **out, void (*wake)(void *arg), void *arg);

/* Nobody may put any more. What is untaken is the caller's affair: take it first. */
void mailbox_free(struct mailbox *m);

/* From any thread. m owns mail until it is taken. */
void mailbox_put(struct mailbox *m, struct mail *mail);

/* From the loop: everything that was put, the oldest first, linked by next; NULL when there is nothing. */
struct mail *mailbox_take(struct mailbox *m);

#endif
