/* SPDX-License-Identifier: GPL-2.0-or-later */
/* replay.h - the anti-replay window of an inbound SA, 64 to 4096 packets, with and without extended sequence numbers.
 *
 * References: RFC 4303 3.4.3 and appendix A (ESN), RFC 6479 (the window as a ring of words, no shifting).
 */
#ifndef ARRD_IPSEC_REPLAY_H
#define ARRD_IPSEC_REPLAY_H

#include <stdbool.h>
#include <stdint.h>

#define REPLAY_MAX   4096
#define REPLAY_WORDS (REPLAY_MAX / 64 + 1) /* one more than the window: RFC 6479 2 */

struct replay {
	uint64_t top;    /* highest sequence number that was authenticated; 0: none yet */
	uint32_t window; /* packets, 0: off, else a multiple of 64 */
	bool esn;
	uint64_t bits[REPLAY_WORDS];
};

/* window: 0 switches the check off, otherwise it is rounded up to a multiple of 64, at most REPLAY_MAX. */
void replay_init(struct replay *r, uint32_t window, bool esn);

/* Before the ICV is checked: works out the whole sequence number of one whose low half is on the wire (RFC 4303 A2.1;
 * without esn: itself). Returns false when it is 0 without ESN, older than the window, or seen before. */
bool replay_check(const struct replay *r, uint32_t seq_lo, uint64_t *seq);

/* After the ICV was right: marks it. Returns false when it has been seen meanwhile: two copies may be in one batch. */
bool replay_accept(struct replay *r, uint64_t seq);

#endif
