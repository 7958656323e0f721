/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ike_log.c - libcharon's log, to the loop: with the number of the tunnel that its thread works for, at a limited rate.
 *
 * libcharon's level 4 is key material and 3 is raw octets: they are never asked for. Level 1 of the groups that speak of
 * peers is information, that of the groups that speak of packets and jobs is for debugging, as is all of level 2.
 */
#include "ipsec/ike_private.h"

#include <stdio.h>
#include <stdlib.h>

/* Of each bucket. */
#define BURST 200 /* records */
#define RATE  50  /* a second */

/* A token bucket: what many handshakes say must not hold back that they came to something. */
struct bucket {
	uint64_t at_ms;
	uint32_t tokens, held;
};

struct ike_log {
	logger_t public;
	struct ike *ike;
	_Atomic enum log_level level;
	pthread_mutex_t lock;
	struct bucket important, chatty; /* up to notice; the rest */
};

static bool is_about_peers(debug_t group)
{
	return group == DBG_DMN || group == DBG_IKE || group == DBG_CHD || group == DBG_CFG ||
	       group == DBG_LIB;
}

/* At level 2 these speak of every field of a message and every second. */
static bool is_wordy(debug_t group)
{
	return group == DBG_ENC || group == DBG_JOB || group == DBG_ASN || group == DBG_LIB ||
	       group == DBG_MGR;
}

static enum log_level level_of(debug_t group, level_t level)
{
	if (level <= LEVEL_AUDIT)
		return LOG_LEVEL_NOTICE;
	return level == LEVEL_CTRL && is_about_peers(group) ? LOG_LEVEL_INFO : LOG_LEVEL_DEBUG;
}

static level_t get_level(logger_t *public, debug_t group)
{
	struct ike_log *l = (struct ike_log *)public;

	for (level_t level = is_wordy(group) ? LEVEL_CTRL : LEVEL_DIAG; level > LEVEL_SILENT; level--)
		if (level_of(group, level) <= l->level)
			return level;
	return LEVEL_SILENT;
}

/* Whether a record may go now, and how many were held back before it. */
static bool take(struct ike_log *l, enum log_level level, uint32_t *held)
{
	struct bucket *b = level <= LOG_LEVEL_NOTICE ? &l->important : &l->chatty;
	uint64_t now = ike_now_ms();
	uint64_t earned;
	bool ok;

	pthread_mutex_lock(&l->lock);
	earned = (now - b->at_ms) * RATE / 1000;
	if (earned) {
		b->at_ms = now;
		b->tokens = earned + b->tokens > BURST ? BURST : b->tokens + (uint32_t)earned;
	}
	ok = b->tokens > 0;
	*held = 0;
	if (ok) {
		b->tokens--;
		*held = b->held;
		b->held = 0;
	} else {
		b->held++;
	}
	pthread_mutex_unlock(&l->lock);
	return ok;
}

static void log_record(
	logger_t *public, debug_t group, level_t level, int thread, ike_sa_t *sa, const char *message)
{
	struct ike_log *l = (struct ike_log *)public;
	uint32_t tunnel = sa ? sa->get_if_id(sa, TRUE) : 0, held;
	enum log_level as = level_of(group, level);
	char line[64];

	if (as > l->level || !take(l, as, &held))
		return;
	if (held) {
		snprintf(line, sizeof(line), "%u records of the key exchange were held back", held);
		ike_post_text(l->ike, IKE_EVENT_LOG, 0, LOG_LEVEL_NOTICE, line);
	}
	ike_post_text(l->ike, IKE_EVENT_LOG, tunnel, as, message);
}

int ike_log_start(struct ike *ike, enum log_level level)
{
	struct ike_log *l = calloc(1, sizeof(*l));

	if (!l)
		return -ENOMEM;
	l->public.log = log_record;
	l->public.get_level = get_level;
	l->ike = ike;
	l->level = level;
	l->important = l->chatty = (struct bucket){.at_ms = ike_now_ms(), .tokens = BURST};
	pthread_mutex_init(&l->lock, NULL);
	ike->logger = l;
	charon->bus->add_logger(charon->bus, &l->public);
	return 0;
}

void ike_log_level(struct ike *ike, enum log_level level)
{
	ike->logger->level = level;
	/* Registered once more, it is asked again what it wants to hear. */
	charon->bus->add_logger(charon->bus, &ike->logger->public);
}

void ike_log_stop(struct ike *ike)
{
	struct ike_log *l = ike->logger;

	if (!l)
		return;
	charon->bus->remove_logger(charon->bus, &l->public);
	pthread_mutex_destroy(&l->lock);
	free(l);
	ike->logger = NULL;
}
