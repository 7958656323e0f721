/* SPDX-License-Identifier: GPL-2.0-or-later */
/* base_mailbox_test.c - the mailbox: order, wake-ups, threads that hammer it. */
#include "gateway/base/mailbox.h"

#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

struct letter {
	struct mail mail; /* first */
	unsigned from, number;
};

static void count_wake(void *arg)
{
	++*(unsigned *)arg;
}

/* One wake-up for all that is put until it is taken, and the oldest comes first. */
static void test_order_and_wakes(void **state)
{
	static const unsigned puts[] = {1, 3, 0, 2, 0, 0, 7};
	struct letter l[7];
	struct mailbox *m;
	unsigned wakes = 0, want = 0;

	(void)state;
	assert_int_equal(mailbox_new(&m, count_wake, &wakes), 0);
	assert_null(mailbox_take(m));
	for (unsigned i = 0; i < sizeof(puts) / sizeof(puts[0]); i++) {
		struct mail *all;
		unsigned n = 0;

		for (unsigned k = 0; k < puts[i]; k++) {
			l[k].number = k;
			l[k].mail.next = (void *)&l[0]; /* whatever it was before */
			mailbox_put(m, &l[k].mail);
		}
		want += puts[i] > 0;
		assert_int_equal(wakes, want);
		for (all = mailbox_take(m); all; all = all->next)
			assert_int_equal(((struct letter *)all)->number, n++);
		assert_int_equal(n, puts[i]);
		assert_null(mailbox_take(m));
	}
	mailbox_free(m);
	mailbox_free(NULL);
}

/* ---- threads ------------------------------------------------------------------------------------------------ */

#define WRITERS 4
#define LETTERS 20000

/* Wakes are counted by a semaphore, as a loop would sleep on them: a wake-up that is missing is a letter that is not
 * read, and the test ends by time. */
struct loop {
	sem_t sem;
	_Atomic unsigned wakes;
	struct mailbox *box;
};

static void wake_loop(void *arg)
{
	struct loop *loop = arg;

	atomic_fetch_add(&loop->wakes, 1);
	sem_post(&loop->sem);
}

struct writer {
	struct mailbox *box;
	unsigned number;
};

static void *write_letters(void *arg)
{
	const struct writer *w = arg;

	for (unsigned i = 0; i < LETTERS; i++) {
		struct letter *l = calloc(1, sizeof(*l));

		if (!l)
			abort();
		l->from = w->number;
		l->number = i;
		mailbox_put(w->box, &l->mail);
	}
	return NULL;
}

static void test_threads(void **state)
{
	struct loop loop = {.wakes = 0};
	struct writer w[WRITERS];
	unsigned next[WRITERS] = {0}, got = 0, takes = 0;
	pthread_t th[WRITERS];
	struct timespec end;

	(void)state;
	sem_init(&loop.sem, 0, 0);
	assert_int_equal(mailbox_new(&loop.box, wake_loop, &loop), 0);
	for (unsigned i = 0; i < WRITERS; i++) {
		w[i] = (struct writer){loop.box, i};
		assert_int_equal(pthread_create(&th[i], NULL, write_letters, &w[i]), 0);
	}
	clock_gettime(CLOCK_REALTIME, &end);
	end.tv_sec += 30;
	while (got < WRITERS * LETTERS) {
		struct mail *all;

		assert_int_equal(sem_timedwait(&loop.sem, &end), 0);
		all = mailbox_take(loop.box);
		takes++;
		/* Whoever is woken finds something: what woke was put before, and nobody else takes. */
		assert_non_null(all);
		while (all) {
			struct letter *l = (struct letter *)all;

			all = all->next;
			assert_int_equal(l->number, next[l->from]++); /* each writer's in their order */
			free(l);
			got++;
		}
	}
	for (unsigned i = 0; i < WRITERS; i++)
		pthread_join(th[i], NULL);
	assert_null(mailbox_take(loop.box));
	assert_int_equal(loop.wakes, takes);
	mailbox_free(loop.box);
	sem_destroy(&loop.sem);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_order_and_wakes),
		cmocka_unit_test(test_threads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
