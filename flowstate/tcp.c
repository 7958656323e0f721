/* SPDX-License-Identifier: GPL-2.0-or-later */
/* tcp.c - which TCP segments belong to a connection, by their sequence numbers.
 *
 * A segment that lies outside of what its receiver can accept is either old, damaged, or somebody's who guesses. None of
 * its flags may count, so it is dropped before they do. For each direction the table keeps the highest sequence number
 * sent (end), the highest that the other side has allowed (maxend), the largest window announced (maxwin), and the highest
 * acknowledgment sent (acked). A segment from S to R fits, if (Rooij, "Real stateful TCP packet filtering in IP Filter"):
 *
 *	seq          ≤  maxend of S                 it does not begin beyond R's window
 *	seq + length ≥  end of S − maxwin of R      nor end before it
 *	ack          ≤  end of R                    what was not sent cannot be acknowledged
 *	ack, SACK    ≥  end of R − maxwin of S      nor what is long past
 *
 * The last bound is 66,000 octets at least: hosts reorder acknowledgments by more than a small window. A super-packet has
 * the sequence number of its first segment and the length of all, so it moves the bounds as its segments would.
 *
 * What does not fit, and passes all the same, without counting:
 *   - a SYN within a connection: its receiver answers with a challenge (RFC 5961 4). It is remembered, since a receiver that
 *     knows nothing of the connection any more answers it with SYN|ACK or RST, by numbers that do not fit;
 *   - a SYN|ACK when the handshake is over and its numbers fit: it is answered by a challenge, too;
 *   - a bare acknowledgment from who has not yet answered a SYN: the challenge of a server that still has the last
 *     connection of this tuple; and the RST that it provokes, which ends that one (RFC 9293 3.10.7.3);
 *   - a RST just behind what its receiver has acknowledged: it answers a segment that was under way before, and its receiver
 *     pays no heed to it;
 *   - everything but RST, where the tunnel is liberal.
 *
 * A RST fits only if it lies within the window that its receiver has announced (RFC 5961 3). Which place within is the right
 * one only the receiver knows; so one that fits does not end the flow, see track.c.
 *
 * Who was picked up in mid-stream has windows of unknown scale: the largest there is (RFC 7323 2.3) is taken for it.
 *
 * References: RFC 9293 3.4 and 3.10, RFC 7323 2, RFC 5961, RFC 2018.
 */
#include "flowstate/state.h"

enum { FIN = 0x01, SYN = 0x02, RST = 0x04, ACK = 0x10 };

/* tcp_window.flags */
#define KNOWN  1u /* it has sent something that fits */
#define SCALES 2u /* its SYN had the option */
#define ACKED  4u /* acked is set */

/* flow_body.syn */
#define SYN_THERE 1u
#define SYN_REPLY 2u /* it was of direction FS_REPLY */

#define ACK_BEHIND  66000u
#define WINDOW_MAX  (UINT32_C(65535) << TCP_SCALE_MAX)
#define RETRANS_MAX 3u

static bool after(uint32_t a, uint32_t b)
{
	return (int32_t)(a - b) > 0;
}

static bool within(uint32_t x, uint32_t from, uint32_t to)
{
	return x - from <= to - from;
}

static uint32_t length(const struct fs_packet *pk)
{
	return pk->tcp_len + !!(pk->tcp_flags & SYN) + !!(pk->tcp_flags & FIN);
}

/* A SYN's window is never scaled. */
static uint32_t window(const struct tcp_window *w, const struct fs_packet *pk)
{
	return pk->tcp_flags & SYN ? pk->window : (uint32_t)pk->window << w->scale;
}

/* ---- beginnings ------------------------------------------------------------------------------------- */

/* Until the other side speaks, maxend is the lowest that it may acknowledge. */
static struct tcp_window by_syn(uint32_t seq, uint32_t len, uint32_t win, unsigned wscale)
{
	return (struct tcp_window){.end = seq + len,
		.maxend = seq + 1,
		.maxwin = win ? win : 1,
		.scale = (uint8_t)(wscale ? wscale - 1 : 0),
		.flags = (uint8_t)(KNOWN | (wscale ? SCALES : 0))};
}

static struct tcp_window by_packet(const struct fs_packet *pk)
{
	return by_syn(pk->seq, length(pk), pk->window, pk->wscale);
}

/* The same of who hears a SYN of the other's, and so knows how much it may send. */
static struct tcp_window by_answer(const struct tcp_window *other, const struct fs_packet *pk)
{
	struct tcp_window w = by_packet(pk);

	w.maxend = w.end + other->maxwin;
	return w;
}

static void forget(struct flow_body *b)
{
	b->window[0] = b->window[1] = (struct tcp_window){0};
	b->syn = b->retrans = 0;
}

void tcp_begin(struct flow_body *b, enum fs_dir dir, const struct fs_packet *pk)
{
	forget(b);
	b->window[dir] = by_packet(pk);
}

static struct tcp_window unscaled(uint32_t end, uint32_t maxend)
{
	return (struct tcp_window){
		.end = end, .maxend = maxend, .maxwin = WINDOW_MAX, .scale = TCP_SCALE_MAX, .flags = KNOWN};
}

void tcp_learn(struct flow_body *b, uint32_t site_end, const struct fs_packet *pk)
{
	uint32_t end = pk->seq + length(pk);

	forget(b);
	b->window[FS_ORIG] = unscaled(site_end, pk->ack + WINDOW_MAX);
	b->window[FS_REPLY] = unscaled(end, end + WINDOW_MAX);
}

/* ---- segments --------------------------------------------------------------------------------------- */

/* The highest that it acknowledges, selectively or not. */
static uint32_t top(const struct fs_packet *pk)
{
	return pk->sack && after(pk->sack, pk->ack) ? pk->sack : pk->ack;
}

static bool fits(const struct tcp_window *s, const struct tcp_window *r, const struct fs_packet *pk)
{
	uint32_t behind = s->maxwin > ACK_BEHIND ? s->maxwin : ACK_BEHIND;

	if (after(pk->seq, s->maxend) || after(s->end - r->maxwin, pk->seq + length(pk)))
		return false;
	return !(pk->tcp_flags & ACK) || (!after(pk->ack, r->end) && !after(r->end - behind, top(pk)));
}

static bool reset_fits(const struct tcp_window *s, const struct tcp_window *r, const struct fs_packet *pk)
{
	return r->flags & ACKED ? pk->seq - r->acked <= r->maxwin : fits(s, r, pk);
}

static unsigned retrans_shift(enum fs_dir dir)
{
	return dir == FS_ORIG ? 0 : 4;
}

static void count_retransmission(struct flow_body *b, enum fs_dir dir)
{
	if ((b->retrans >> retrans_shift(dir) & 15u) < RETRANS_MAX)
		b->retrans = (uint8_t)(b->retrans + (1u << retrans_shift(dir)));
}

static void advance_ack(struct flow_body *b, enum fs_dir dir, const struct fs_packet *pk)
{
	struct tcp_window *s = &b->window[dir], *r = &b->window[!dir];
	uint32_t win = window(s, pk);

	if (win > s->maxwin)
		s->maxwin = win;
	if (after(pk->ack + win, r->maxend))
		r->maxend = pk->ack + win;
	if (!(s->flags & ACKED) || after(pk->ack, s->acked)) {
		s->acked = pk->ack;
		s->flags |= ACKED;
		b->retrans &= (uint8_t) ~(15u << retrans_shift(!dir));
	}
}

static void advance(struct flow_body *b, enum fs_dir dir, const struct fs_packet *pk)
{
	struct tcp_window *s = &b->window[dir], *r = &b->window[!dir];
	uint32_t end = pk->seq + length(pk);

	if (length(pk) && !after(end, s->end) && (!(r->flags & ACKED) || after(end, r->acked)))
		count_retransmission(b, dir);
	if (after(end, s->end))
		s->end = end;
	if (after(end, s->maxend) && r->maxwin < WINDOW_MAX)
		r->maxwin += end - s->maxend;
	if (pk->tcp_flags & ACK)
		advance_ack(b, dir, pk);
}

/* Scaling is in use only if both SYNs said so (RFC 7323 2.2). */
static void agree_on_scale(struct flow_body *b)
{
	if (b->window[0].flags & b->window[1].flags & SCALES)
		return;
	b->window[0].scale = b->window[1].scale = 0;
}

/* ---- SYNs ------------------------------------------------------------------------------------------- */

static void remember(struct flow_body *b, enum fs_dir dir, const struct fs_packet *pk)
{
	b->syn_seq = pk->seq;
	b->syn_wscale = pk->wscale;
	b->syn = (uint8_t)(SYN_THERE | (dir == FS_REPLY ? SYN_REPLY : 0));
}

/* Does it answer the SYN that was remembered? */
static bool answers(const struct flow_body *b, enum fs_dir dir, const struct fs_packet *pk)
{
	enum fs_dir asked = b->syn & SYN_REPLY ? FS_REPLY : FS_ORIG;

	return b->syn & SYN_THERE && asked != dir && pk->tcp_flags & ACK && pk->ack == b->syn_seq + 1;
}

static enum tcp_verdict on_syn(
	struct flow_body *b, enum fs_dir dir, const struct fs_packet *pk, enum fs_state state)
{
	struct tcp_window *s = &b->window[dir], *r = &b->window[!dir];

	if (state == FS_TCP_CLOSING || state == FS_TCP_RESET) {
		tcp_begin(b, dir, pk);
		return TCP_ANEW;
	}
	if (state == FS_TCP_OPENING && !(s->flags & KNOWN)) { /* both at once */
		*s = by_answer(r, pk);
		r->maxend = r->end + s->maxwin;
		return TCP_FITS;
	}
	if (state == FS_TCP_OPENING &&
		!(r->flags & KNOWN)) { /* once more, or another one, which nobody has answered */
		if (pk->seq + length(pk) == s->end) {
			count_retransmission(b, dir);
			return TCP_FITS;
		}
		tcp_begin(b, dir, pk);
		return TCP_ANEW;
	}
	remember(b, dir, pk);
	return TCP_ASIDE;
}

/* The other side's SYN is not answered yet. */
static enum tcp_verdict first_answer(struct flow_body *b, enum fs_dir dir, const struct fs_packet *pk)
{
	struct tcp_window *s = &b->window[dir], *r = &b->window[!dir];
	bool right = pk->tcp_flags & ACK && within(pk->ack, r->maxend, r->end);

	if (right && pk->tcp_flags & RST)
		return TCP_FITS;
	if (right && pk->tcp_flags & SYN) {
		*s = by_answer(r, pk);
		agree_on_scale(b);
		advance_ack(b, dir, pk);
		return TCP_FITS;
	}
	if ((pk->tcp_flags & (SYN | RST | FIN | ACK)) != ACK || pk->tcp_len)
		return TCP_OUTSIDE;
	s->acked = pk->ack; /* where the RST will be that it provokes */
	s->flags |= ACKED;
	return TCP_ASIDE;
}

/* From who has sent nothing but a SYN, which is not answered yet. It may take the SYN back, and refuse a challenge. */
static enum tcp_verdict before_answer(
	const struct tcp_window *s, const struct tcp_window *r, const struct fs_packet *pk)
{
	if (!(pk->tcp_flags & RST))
		return TCP_ASIDE;
	if (pk->seq == s->end)
		return TCP_FITS;
	return r->flags & ACKED && pk->seq == r->acked ? TCP_ASIDE : TCP_OUTSIDE;
}

/* By a SYN that was remembered: who answers knows of no other connection. */
static enum tcp_verdict answer_anew(struct flow_body *b, enum fs_dir dir, const struct fs_packet *pk)
{
	struct tcp_window asked = by_syn(b->syn_seq, 1, UINT16_MAX, b->syn_wscale);

	if (pk->tcp_flags & RST)
		return TCP_FITS;
	forget(b);
	b->window[!dir] = asked;
	first_answer(b, dir, pk);
	return TCP_ANEW;
}

enum tcp_verdict tcp_segment(
	struct flow_body *b, enum fs_dir dir, const struct fs_packet *pk, enum fs_state state)
{
	struct tcp_window *s = &b->window[dir], *r = &b->window[!dir];
	enum tcp_verdict outside = pk->liberal && !(pk->tcp_flags & RST) ? TCP_ASIDE : TCP_OUTSIDE;

	if ((pk->tcp_flags & (SYN | ACK | RST)) == SYN)
		return on_syn(b, dir, pk, state);
	if (answers(b, dir, pk) && pk->tcp_flags & (SYN | RST))
		return answer_anew(b, dir, pk);
	if (!(r->flags & KNOWN))
		return before_answer(s, r, pk);
	if (!(s->flags & KNOWN)) {
		enum tcp_verdict v = first_answer(b, dir, pk);

		return v == TCP_OUTSIDE ? outside : v;
	}
	if (pk->tcp_flags & RST && !reset_fits(s, r, pk))
		return r->flags & ACKED && r->acked - pk->seq <= r->maxwin ? TCP_ASIDE : TCP_OUTSIDE;
	if (pk->tcp_flags & RST)
		return TCP_FITS;
	if (!fits(s, r, pk))
		return outside;
	if (pk->tcp_flags & SYN && state != FS_TCP_OPENING)
		return TCP_ASIDE;
	if (pk->tcp_flags & SYN)
		agree_on_scale(b);
	advance(b, dir, pk);
	return TCP_FITS;
}

bool tcp_stalls(const struct flow_body *b)
{
	return (b->retrans & 15u) >= RETRANS_MAX || b->retrans >> 4 >= RETRANS_MAX;
}
