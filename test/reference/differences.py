# SPDX-License-Identifier: GPL-2.0-or-later
"""differences.py - where the flow table and Linux conntrack may differ, a class each; README.md says why."""
from corpus import ACK, FIN, RST, SYN, signed

MAXIMUM = 66000  # octets that an acknowledgment may lie behind


class Case:
    """A segment that one of them lets pass and the other does not. before: the flow's state before it, "-" if there is none."""

    def __init__(self, conversation, number, segment, ours, before, theirs):
        self.conversation, self.number, self.segment = conversation, number, segment
        self.ours, self.before, self.theirs = ours, before, theirs
        self.flags = segment.flags & (FIN | SYN | RST | ACK)
        self.earlier = conversation.segments[:number]

    def __str__(self):
        return (f"{self.conversation.name} {self.number + 1}: {self.segment.line(self.conversation.bases)}: {self.ours} "
                f"(was {self.before}), conntrack: {self.theirs}")

    def only_ours(self):
        return self.ours == "pass" and self.theirs == "invalid"

    def only_theirs(self, reason):
        return self.ours == reason and self.theirs in ("new", "established")

    def sent(self, direction):
        """What the host of that direction has sent itself."""
        return [s for s in self.earlier if s.direction == direction and not injected(s)]

    def acknowledged(self, direction):
        """How far that direction's octets were acknowledged; None: not at all."""
        acks = [s.ack for s in self.sent(1 - direction) if s.flags & ACK]
        return max(acks, key=lambda a: signed(a - acks[0])) if acks else None

    def is_old(self):
        """All that it says was acknowledged, or it acknowledges what is long past."""
        s = self.segment
        mine, other = self.acknowledged(s.direction), self.sent(1 - s.direction)
        return (mine is not None and signed(s.end() - mine) <= 0
                or s.flags & ACK and other and signed(other[-1].end() - s.ack) > MAXIMUM)


def injected(s):
    """What no host has sent: see middle.py."""
    return s.window == 1000 and not any(kind == 8 for kind, _ in s.each_option())


classes = {}


def explained(f):
    classes[f.__name__.replace("_", "-")] = f


@explained
def nothing_begins_at_the_egress(d):
    return d.before == "-" and (d.only_theirs("no_flow") and d.segment.direction == 1
                                or d.only_theirs("not_a_beginning") and d.earlier and d.earlier[0].direction == 1)


@explained
def ends_without_a_beginning(d):
    first = d.conversation.segments[0]
    return d.only_ours() and d.before in ("-", "opening") and first.direction == 0 and first.flags == FIN | ACK


@explained
def old(d):
    return d.only_theirs("tcp_window") and not d.flags & (SYN | RST) and d.is_old()


@explained
def beyond_the_window(d):
    return d.only_theirs("tcp_window") and injected(d.segment) and not d.flags & (SYN | RST) and not d.is_old()


@explained
def reset_just_behind(d):
    at = d.acknowledged(d.segment.direction)
    return d.only_ours() and d.flags & RST and injected(d.segment) and at is not None and signed(d.segment.seq - at) < 0


@explained
def reset_after_a_reset(d):
    return d.only_theirs("tcp_window") and d.flags & RST and injected(d.segment) and d.before == "reset"


@explained
def syn_from_the_other_side(d):
    return d.only_ours() and d.flags == SYN and d.segment.direction == 1 and d.before not in ("-", "opening")


@explained
def syn_ack_in_the_midst(d):
    return d.flags == SYN | ACK and injected(d.segment) and d.before not in ("-", "opening") \
        and (d.only_ours() and d.segment.direction == 0 or d.only_theirs("tcp_window") and d.segment.direction == 1)


@explained
def answer_to_no_syn(d):
    """And what a host says to it, which conntrack let through to it."""
    if d.before != "opening" or not d.only_theirs("tcp_window"):
        return False
    return injected(d.segment) and d.segment.direction == 1 and d.flags in (SYN | ACK, RST | ACK) \
        or d.flags == RST and any(s.flags == SYN | ACK and injected(s) and s.ack == d.segment.seq for s in d.earlier)


@explained
def conntrack_was_misled(d):
    """By what was injected before: it holds a segment for invalid that a host has sent, and that the other took."""
    return d.only_ours() and not injected(d.segment) and any(map(injected, d.earlier)) and not d.flags & RST


@explained
def conntrack_took_a_wrong_answer(d):
    """A RST|ACK that acknowledges what was not sent ended the entry, so that nothing more may come without a beginning."""
    return d.only_ours() and d.before == "opening" and any(s.flags == RST | ACK and s.direction and injected(s)
                                                           for s in d.earlier)


def class_of(d):
    """The name of the class that explains it, or None."""
    return next((name for name, holds in classes.items() if holds(d)), None)
