/* SPDX-License-Identifier: GPL-2.0-or-later */
/* log.c - five levels, objects named, to the journal or stderr.
 *
 * Under systemd the service manager connects stderr to the journal and says so in JOURNAL_STREAM, by device and
 * inode. When stderr still is that stream (nobody redirected it), records go by the journal's own protocol and
 * keep their priority and fields. Otherwise each record is one line on stderr, in one write(), so that lines of
 * several threads do not mix:
 *
 *	2026-01-31T12:00:00.123Z warning tunnel branch-a: text
 *
 * A record never contains control characters: what it quotes may come from a file or from the network.
 * A struct log holds nothing that changes but the level, an atomic; so every thread may log.
 */
#include "gateway/base/log.h"

/* Otherwise each record would carry the line of this file that called the journal. */
#define SD_JOURNAL_SUPPRESS_LOCATION

#include <assert.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <syslog.h>
#include <systemd/sd-journal.h>
#include <time.h>
#include <unistd.h>

#define TEXT_MAX 1024 /* octets of a record's text; what is longer is cut */
#define BURST    10   /* records at once that log_limit_ok lets pass */
#define STEP_MS  1000 /* and then one in that time */

struct log {
	bool journal;
	_Atomic int level;
};

static const struct {
	const char *name;
	int priority; /* of syslog(3) */
} levels[] = {
	[LOG_LEVEL_ERROR] = {"error", LOG_ERR},
	[LOG_LEVEL_WARNING] = {"warning", LOG_WARNING},
	[LOG_LEVEL_NOTICE] = {"notice", LOG_NOTICE},
	[LOG_LEVEL_INFO] = {"info", LOG_INFO},
	[LOG_LEVEL_DEBUG] = {"debug", LOG_DEBUG},
};
static_assert(sizeof(levels) / sizeof(levels[0]) == LOG_LEVEL_DEBUG + 1, "every level has a name");

/* Whether stderr is the stream to the journal that the service manager made. Needs fstat(2). */
static bool stderr_is_journal(void)
{
	const char *s = getenv("JOURNAL_STREAM");
	unsigned long long dev, ino;
	struct stat st;
	char *end;

	if (!s || fstat(STDERR_FILENO, &st) < 0)
		return false;
	dev = strtoull(s, &end, 10);
	if (end == s || *end != ':')
		return false;
	s = end + 1;
	ino = strtoull(s, &end, 10);
	return end != s && !*end && st.st_dev == dev && st.st_ino == ino;
}

struct log *log_open(enum log_level level)
{
	struct log *l = calloc(1, sizeof(*l));

	if (!l)
		return NULL;
	l->journal = stderr_is_journal();
	atomic_init(&l->level, (int)level);
	return l;
}

void log_close(struct log *l)
{
	free(l);
}

void log_set_level(struct log *l, enum log_level level)
{
	if (l)
		atomic_store_explicit(&l->level, (int)level, memory_order_relaxed);
}

bool log_wants(const struct log *l, enum log_level level)
{
	return l && (int)level <= atomic_load_explicit(&l->level, memory_order_relaxed);
}

static void to_journal(enum log_level level, const char *kind, const char *name, const char *text)
{
	char message[TEXT_MAX + 256], priority[16], object[256];
	struct iovec iov[3];
	int n = 0;

	snprintf(priority, sizeof(priority), "PRIORITY=%d", levels[level].priority);
	snprintf(message, sizeof(message), "MESSAGE=%s%s%s: %s", kind, name ? " " : "", name ? name : "",
		text);
	iov[n++] = (struct iovec){priority, strlen(priority)};
	iov[n++] = (struct iovec){message, strlen(message)};
	if (name && (strcmp(kind, "tunnel") == 0 || strcmp(kind, "site") == 0)) {
		snprintf(object, sizeof(object), "ARRD_%s=%s", *kind == 't' ? "TUNNEL" : "SITE", name);
		iov[n++] = (struct iovec){object, strlen(object)};
	}
	sd_journal_sendv(iov, n);
}

static void to_stderr(enum log_level level, const char *kind, const char *name, const char *text)
{
	char line[TEXT_MAX + 256], stamp[32];
	struct timespec now;
	struct tm tm;
	int n;

	clock_gettime(CLOCK_REALTIME, &now);
	gmtime_r(&now.tv_sec, &tm);
	strftime(stamp, sizeof(stamp), "%Y-%m-%dT%H:%M:%S", &tm);
	n = snprintf(line, sizeof(line), "%s.%03ldZ %s %s%s%s: %s\n", stamp, now.tv_nsec / 1000000,
		levels[level].name, kind, name ? " " : "", name ? name : "", text);
	if (n >= (int)sizeof(line)) {
		n = sizeof(line) - 1;
		line[n - 1] = '\n';
	}
	/* A log that cannot be written has nowhere to say so. */
	if (write(STDERR_FILENO, line, (size_t)n) < 0)
		return;
}

static void emit(struct log *l, enum log_level level, const char *kind, const char *name, char *text)
{
	for (char *p = text; *p; p++)
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			*p = *p == '\n' || *p == '\t' ? ' ' : '?';
	if (l->journal)
		to_journal(level, kind, name, text);
	else
		to_stderr(level, kind, name, text);
}

void log_msg(struct log *l, enum log_level level, const char *kind, const char *name, const char *fmt, ...)
{
	char text[TEXT_MAX];
	va_list ap;

	if (!log_wants(l, level))
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	emit(l, level, kind, name, text);
}

void log_lines(struct log *l, enum log_level level, const char *kind, const char *name, const char *text)
{
	size_t n;

	for (; *text; text += n + (text[n] == '\n')) {
		n = strcspn(text, "\n");
		if (n)
			log_msg(l, level, kind, name, "%.*s", (int)n, text);
	}
}

bool log_limit_ok(struct log_limit *lim, uint64_t now_ms)
{
	uint64_t earned;

	if (lim->at_ms == 0) { /* never used: the burst is there from the first record on */
		lim->tokens = BURST;
		lim->at_ms = now_ms ? now_ms : 1;
	}
	earned = now_ms > lim->at_ms ? (now_ms - lim->at_ms) / STEP_MS : 0;
	if (lim->tokens + earned >= BURST) {
		lim->tokens = BURST;
		lim->at_ms = now_ms > lim->at_ms ? now_ms : lim->at_ms;
	} else {
		lim->tokens += (uint32_t)earned;
		lim->at_ms += earned * STEP_MS;
	}
	if (lim->tokens == 0) {
		lim->held += lim->held < UINT32_MAX;
		return false;
	}
	lim->tokens--;
	return true;
}

void log_limited(struct log *l, struct log_limit *lim, uint64_t now_ms, enum log_level level,
	const char *kind, const char *name, const char *fmt, ...)
{
	char text[TEXT_MAX];
	va_list ap;
	int n;

	if (!log_wants(l, level) || !log_limit_ok(lim, now_ms))
		return;
	va_start(ap, fmt);
	n = vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (lim->held && n >= 0 && n < (int)sizeof(text) - 40) {
		snprintf(text + n, sizeof(text) - (size_t)n, " (%u more records held back)", lim->held);
		lim->held = 0;
	}
	emit(l, level, kind, name, text);
}

const char *log_level_name(enum log_level level)
{
	return levels[level].name;
}

int log_level_parse(const char *s)
{
	for (int i = 0; i <= LOG_LEVEL_DEBUG; i++)
		if (strcmp(s, levels[i].name) == 0)
			return i;
	return -1;
}
