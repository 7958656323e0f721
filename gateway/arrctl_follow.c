/* SPDX-License-Identifier: GPL-2.0-or-later */
/* arrctl_follow.c - arrctl flows --follow: prints what comes, for as long as it comes. */
#include "gateway/arrctl.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

/* SIGINT and SIGTERM as a descriptor to be waited for. Whoever asked to stop is not to lose what was printed. */
static int signals(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
		return -1;
	return signalfd(-1, &set, SFD_CLOEXEC);
}

enum woken { ANSWER, STOP, NO_READER };

/* Waits for the daemon, without an end; for a signal; or for the reader of a pipe to go away. */
static enum woken wait_for(const struct conn *c, int sig)
{
	struct pollfd p[] = {{conn_fd(c), POLLIN, 0}, {sig, POLLIN, 0}, {STDOUT_FILENO, 0, 0}};

	while (poll(p, 3, -1) < 0)
		if (errno != EINTR)
			return STOP;
	if (p[1].revents)
		return STOP;
	return p[0].revents || !(p[2].revents & POLLERR) ? ANSWER : NO_READER;
}

static int tell(struct view *v, bool json, const struct reply *a)
{
	json_t *event;

	if (json) {
		fwrite(a->event, 1, a->event_len, stdout);
		fputc('\n', stdout);
		return EX_OK;
	}
	event = json_loadb(a->event, a->event_len, 0, NULL);
	if (!event)
		return conn_not_understood();
	view_event(v, event);
	json_decref(event);
	return EX_OK;
}

int follow(struct conn *c, struct view *v, bool json)
{
	int sig = signals(), status = EX_OK;
	enum woken woken = ANSWER;

	if (sig < 0) {
		fprintf(stderr, "arrctl: signals: %s\n", strerror(errno));
		return EX_OSERR;
	}
	while (status == EX_OK && !ferror(stdout)) {
		struct reply a;

		if (!conn_has_answer(c)) {
			if (v->table)
				table_print(v->table);
			fflush(stdout);
			woken = wait_for(c, sig);
			if (woken != ANSWER)
				break;
		}
		status = conn_answer(c, &a);
		if (status == EX_OK && a.result) {
			json_decref(a.result);
			break;
		}
		if (status == EX_OK)
			status = a.event ? tell(v, json, &a) : conn_not_understood();
	}
	if (v->table)
		table_print(v->table);
	close(sig);
	return woken == NO_READER ? EX_IOERR : status;
}
