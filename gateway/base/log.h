/* SPDX-License-Identifier: GPL-2.0-or-later */
/* log.h - five levels, objects named, to the journal or stderr.
 *
 * Each record begins with the object that it is about: "tunnel branch-a: …", "egress: …". In the journal the
 * fields ARRD_TUNNEL and ARRD_SITE carry the names again, so that `journalctl ARRD_TUNNEL=branch-a` works.
 * The packet path logs only through log_limited().
 */
#ifndef ARRD_BASE_LOG_H
#define ARRD_BASE_LOG_H

#include <stdbool.h>
#include <stdint.h>

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARNING, LOG_LEVEL_NOTICE, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

struct log;

/* Opens the log: to the journal when stderr is connected to it (JOURNAL_STREAM), else to stderr.
 * Returns NULL only when memory is out. Freed by log_close. */
struct log *log_open(enum log_level level);
void log_close(struct log *l);
void log_set_level(struct log *l, enum log_level level);
bool log_wants(const struct log *l, enum log_level level);

/* One record. kind and name say the object ("tunnel", "branch-a"); name may be NULL ("egress", NULL). A NULL
 * log swallows the record: library-like parts are testable without one. */
void log_msg(struct log *l, enum log_level level, const char *kind, const char *name, const char *fmt, ...)
	__attribute__((format(printf, 5, 6)));

/* The same of each line of a text that is not empty: a list of errors is not cut to the length of one record. */
void log_lines(struct log *l, enum log_level level, const char *kind, const char *name, const char *text);

/* A token bucket for records on the packet path: burst of 10, then one a second; when records were held
 * back, the next one says how many. now_ms is the loop's clock. */
struct log_limit {
	uint64_t at_ms;
	uint32_t tokens;
	uint32_t held;
};
bool log_limit_ok(struct log_limit *lim, uint64_t now_ms);
void log_limited(struct log *l, struct log_limit *lim, uint64_t now_ms, enum log_level level,
	const char *kind, const char *name, const char *fmt, ...) __attribute__((format(printf, 7, 8)));

#define log_error(l, kind, name, ...)   log_msg(l, LOG_LEVEL_ERROR, kind, name, __VA_ARGS__)
#define log_warning(l, kind, name, ...) log_msg(l, LOG_LEVEL_WARNING, kind, name, __VA_ARGS__)
#define log_notice(l, kind, name, ...)  log_msg(l, LOG_LEVEL_NOTICE, kind, name, __VA_ARGS__)
#define log_info(l, kind, name, ...)    log_msg(l, LOG_LEVEL_INFO, kind, name, __VA_ARGS__)
#define log_debug(l, kind, name, ...)   log_msg(l, LOG_LEVEL_DEBUG, kind, name, __VA_ARGS__)

/* Level by name ("error" … "debug"), or -1. */
int log_level_parse(const char *s);
const char *log_level_name(enum log_level level);

#endif
