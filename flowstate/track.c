/* SPDX-License-Identifier: GPL-2.0-or-later */
/* track.c - which state a packet leads to.
 *
 * TCP, as much as flags alone can tell (RFC 9293 3.3.2, RFC 7857 2.1 and 2.2, RFC 5382 REQ-5):
 *
 *	opening      until both sides have sent an ACK: the three-way handshake, a simultaneous open, or a flow
 *	             that was picked up in mid-stream
 *	established  from then on
 *	half-closed  one side has sent FIN
 *	stalled      either of these, and data was sent three times again without an answer: somebody is gone
 *	closing      both have sent FIN
 *	reset        a RST was seen. Anybody can forge one, so it only shortens the timeout: segments without RST
 *	             from both sides show that the connection lives, and bring it back
 *
 * A SYN in closing or reset begins anew on the same tuple (RFC 9293 3.6.1). A SYN elsewhere changes nothing: the
 * other side will challenge it (RFC 5961 4). Which segments count at all, tcp.c says.
 *
 * A flow that was picked up in mid-stream is on trial. Nobody knows whose connection its tuple is in the eyes of the
 * server: after the flow table was lost, a site's segments may look like those of another site's connection, which was
 * translated until then. So the other side must prove first that it speaks to this site: by acknowledging what the site
 * sent. Sequence spaces are random; a stranger's acknowledgment lies in the window of a trial once in four thousand, or
 * at worst (the site has sent much that was not answered) once in a thousand.
 */
#include "flowstate/state.h"

/* As in a TCP header. The packet's other bits say nothing of the state. */
enum { FIN = 0x01, SYN = 0x02, RST = 0x04, ACK = 0x10 };

/* flow_body.track: what each direction has sent. */
#define SENT_ACK(dir)    (1u << (dir))
#define SENT_FIN(dir)    (4u << (dir))
#define LIVES_ON(dir)    (16u << (dir)) /* a segment without RST since the last RST */
#define ON_TRIAL         64u
#define BOTH(bits, of)   (((bits) & (of(0) | of(1))) == (of(0) | of(1)))
#define EITHER(bits, of) (((bits) & (of(0) | of(1))) != 0)
#define NEITHER_OF(of)   ((uint8_t) ~(of(0) | of(1)))

enum fs_state track_first(uint8_t proto)
{
	switch (proto) {
	case IPPROTO_TCP:
		return FS_TCP_OPENING;
	case IPPROTO_UDP:
	case IPPROTO_UDPLITE:
		return FS_UDP_ONE_WAY;
	case IPPROTO_ICMP:
	case IPPROTO_ICMPV6:
		return FS_ICMP_ECHO;
	default:
		return FS_OTHER;
	}
}

bool track_fits(uint8_t proto, uint8_t state)
{
	if (state == FS_QUARANTINE)
		return true;
	switch (track_first(proto)) {
	case FS_TCP_OPENING:
		return state >= FS_TCP_OPENING && state <= FS_TCP_RESET;
	case FS_UDP_ONE_WAY:
		return state == FS_UDP_ONE_WAY || state == FS_UDP_TWO_WAY;
	default:
		return state == track_first(proto);
	}
}

bool track_begins(uint8_t tcp_flags, bool loose)
{
	switch (tcp_flags & (SYN | ACK | RST | FIN)) {
	case SYN:
		return true;
	case ACK:
	case ACK | FIN:
		return loose;
	default:
		return false;
	}
}

/* The state of a connection that is not reset. */
static enum fs_state tcp_by_bits(uint8_t bits, bool stalls)
{
	if (!BOTH(bits, SENT_ACK))
		return FS_TCP_OPENING;
	if (BOTH(bits, SENT_FIN))
		return FS_TCP_CLOSING;
	if (stalls)
		return FS_TCP_STALLED;
	return EITHER(bits, SENT_FIN) ? FS_TCP_HALF_CLOSED : FS_TCP_ESTABLISHED;
}

static enum fs_state tcp_next(enum fs_state state, uint8_t *bits, bool stalls, enum fs_dir dir, uint8_t flags)
{
	if (flags & RST) {
		*bits &= NEITHER_OF(LIVES_ON);
		return FS_TCP_RESET;
	}
	if (flags & SYN && !(flags & ACK)) /* what it means for the state, its verdict has said */
		return state;
	if (flags & ACK)
		*bits |= (uint8_t)SENT_ACK(dir);
	if (flags & FIN)
		*bits |= (uint8_t)SENT_FIN(dir);
	if (state == FS_TCP_RESET) {
		if (flags & SYN || !(flags & ACK))
			return state;
		*bits |= (uint8_t)LIVES_ON(dir);
		if (!BOTH(*bits, LIVES_ON))
			return state;
	}
	return tcp_by_bits(*bits, stalls);
}

/* How far behind its first segment an acknowledgment of the site's data may lie (octets in flight when the flow was
 * picked up); how much of what the site sent is kept in mind; and how far from what the site acknowledged a reset may
 * lie. */
#define TRIAL_BEHIND (1u << 20)
#define TRIAL_MOST   (1u << 22)
#define TRIAL_RESET  (1u << 16)

void track_begin(struct flow_body *b, const struct fs_packet *pk)
{
	if (pk->tcp_flags & SYN) {
		tcp_begin(b, FS_ORIG, pk);
		return;
	}
	b->track |= ON_TRIAL;
	b->window[FS_ORIG].end = pk->seq;
	b->window[FS_ORIG].maxend = pk->seq - TRIAL_BEHIND; /* the lowest that may be acknowledged */
}

/* The site has sent seq to end. What may be acknowledged (maxend to end) grows by it; but whatever a site sends, it
 * never grows to be so much that a stranger's acknowledgment is in it: then the older part is given up. */
static void trial_sent(struct tcp_window *site, uint32_t seq, uint32_t end)
{
	if ((int32_t)(end - site->end) > 0) {
		site->end = end;
		if (end - site->maxend > TRIAL_MOST)
			site->maxend = end - TRIAL_MOST;
	} else if ((int32_t)(seq - site->maxend) < 0) { /* what was lost while nobody was here, once more */
		site->maxend = seq;
		if (site->end - seq > TRIAL_MOST)
			site->end = seq + TRIAL_MOST;
	}
}

/* A segment of a flow on trial. FITS from the other side: it is proof, and the trial is over, but for a reset. */
static enum tcp_verdict trial(struct flow_body *b, enum fs_dir dir, const struct fs_packet *pk)
{
	struct tcp_window *site = &b->window[FS_ORIG], *other = &b->window[FS_REPLY];
	uint32_t end = pk->seq + pk->tcp_len + (pk->tcp_flags & FIN ? 1 : 0);

	if (dir == FS_ORIG &&
		(pk->tcp_flags & (SYN | ACK)) == SYN) { /* nothing is in doubt of a new connection */
		b->track = 0;
		tcp_begin(b, FS_ORIG, pk);
		return TCP_ANEW;
	}
	if (dir == FS_ORIG) {
		trial_sent(site, pk->seq, end);
		if (pk->tcp_flags & ACK)
			other->end = pk->ack;
		return TCP_FITS;
	}
	if (pk->tcp_flags & ACK) {
		if (pk->ack - site->maxend > site->end - site->maxend)
			return TCP_OUTSIDE;
	} else if (!(pk->tcp_flags & RST) || pk->seq - other->end + TRIAL_RESET > 2 * TRIAL_RESET) {
		return TCP_OUTSIDE;
	}
	if (pk->tcp_flags & RST) /* it proves nothing, and its numbers are no windows */
		return TCP_FITS;
	b->track &= (uint8_t)~ON_TRIAL;
	tcp_learn(b, site->end, pk);
	return TCP_FITS;
}

static enum drop track_tcp(
	struct flow_body *b, enum fs_dir dir, const struct fs_packet *pk, enum fs_state *state)
{
	bool on_trial = b->track & ON_TRIAL;

	switch (on_trial ? trial(b, dir, pk) : tcp_segment(b, dir, pk, *state)) {
	case TCP_OUTSIDE:
		return on_trial ? DROP_TCP_UNPROVEN : DROP_TCP_WINDOW;
	case TCP_ASIDE:
		return DROP_NONE;
	case TCP_ANEW:
		b->track = 0;
		*state = FS_TCP_OPENING;
		break;
	case TCP_FITS:
		break;
	}
	*state = tcp_next(*state, &b->track, tcp_stalls(b), dir, pk->tcp_flags);
	return DROP_NONE;
}

enum drop track_packet(const struct flow_head *h, struct flow_body *b, enum fs_dir dir,
	const struct fs_packet *pk, enum fs_state *next)
{
	*next = h->state;
	if (h->proto == IPPROTO_TCP)
		return track_tcp(b, dir, pk, next);
	if (h->state == FS_UDP_ONE_WAY && dir == FS_REPLY)
		*next = FS_UDP_TWO_WAY;
	return DROP_NONE;
}
