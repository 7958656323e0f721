# SPDX-License-Identifier: GPL-2.0-or-later
"""corpus.py - recorded TCP segments: what is kept of each, as text and as the packet that it stands for.

A file is a run of conversations:

        conversation NAME ISS IRS
        MS DIRECTION FLAGS SEQ ACK WINDOW LENGTH [OPTION]...

MS: milliseconds since the conversation's first segment. DIRECTION: > from the client, < from the server. FLAGS: letters.
SEQ, ACK and SACK blocks are relative to ISS and IRS, which are the first numbers that each side was seen to use (hex).
Options: M MSS, W shift, K (SACK permitted), T (timestamps; their values are not kept), B left:right a SACK block, X hex: as
it was. Payload is not kept, only its length.
"""
import struct

import packets

LETTERS = "FSRPAUEC"
FIN, SYN, RST, PSH, ACK = packets.FIN, packets.SYN, packets.RST, packets.PSH, packets.ACK
MASK = 0xFFFFFFFF


def signed(x):
    x &= MASK
    return x - (1 << 32) if x >> 31 else x


class Segment:
    """One segment; numbers are absolute. direction: 0 from the client."""

    def __init__(self, ms, direction, flags, seq, ack, window, length, options=b""):
        self.ms, self.direction, self.flags, self.seq, self.ack = ms, direction, flags, seq & MASK, ack & MASK
        self.window, self.length, self.options = window, length, options

    @staticmethod
    def read(ms, direction, data):
        """Of an IPv4 packet."""
        tcp = data[(data[0] & 15) * 4:struct.unpack("!H", data[2:4])[0]]
        seq, ack, offset, flags, window = struct.unpack("!IIBBH", tcp[4:16])
        return Segment(ms, direction, flags, seq, ack if flags & ACK else 0, window, len(tcp) - (offset >> 4) * 4,
                       tcp[20:(offset >> 4) * 4])

    def packet(self, src, dst, sport, dport, shift=(0, 0)):
        """As a packet in its direction. shift: is added to the sequence numbers of each direction."""
        mine, other = shift[self.direction], shift[1 - self.direction]
        options = b"".join(self.option(kind, body, other) for kind, body in self.each_option())
        ends = [(src, sport), (dst, dport)]
        (s, sp), (d, dp) = ends[self.direction], ends[1 - self.direction]
        return packets.tcp(s, d, sp, dp, self.flags, self.seq + mine, self.ack + other if self.flags & ACK else 0,
                           bytes(self.length), self.window, options + b"\1" * (-len(options) % 4))

    def end(self):
        return self.seq + self.length + bool(self.flags & SYN) + bool(self.flags & FIN) & MASK

    def each_option(self):
        at = 0
        while at < len(self.options) and self.options[at]:
            if self.options[at] == 1:
                at += 1
                continue
            n = self.options[at + 1]
            yield self.options[at], self.options[at + 2:at + n]
            at += n

    @staticmethod
    def option(kind, body, shift):
        if kind == 5:
            edges = struct.unpack(f"!{len(body) // 4}I", body)
            body = struct.pack(f"!{len(edges)}I", *[e + shift & MASK for e in edges])
        return bytes((kind, len(body) + 2)) + body

    def line(self, bases):
        mine, other = bases[self.direction], bases[1 - self.direction]
        words = [str(self.ms), "<" if self.direction else ">",
                 "".join(c for i, c in enumerate(LETTERS) if self.flags >> i & 1) or "-", str(signed(self.seq - mine)),
                 str(signed(self.ack - other)) if self.flags & ACK else "0", str(self.window), str(self.length)]
        for kind, body in self.each_option():
            if kind == 2:
                words.append(f"M{struct.unpack('!H', body)[0]}")
            elif kind == 3:
                words.append(f"W{body[0]}")
            elif kind == 4:
                words.append("K")
            elif kind == 8:
                words.append("T")
            elif kind == 5:
                edges = struct.unpack(f"!{len(body) // 4}I", body)
                words += [f"B{signed(a - other)}:{signed(b - other)}" for a, b in zip(edges[::2], edges[1::2])]
            else:
                words.append(f"X{kind:02x}{body.hex()}")
        return " ".join(words)

    @staticmethod
    def parse(line, bases):
        ms, way, letters, seq, ack, window, length, *words = line.split()
        d = int(way == "<")
        flags = sum(1 << LETTERS.index(x) for x in letters if x != "-")
        options, blocks = b"", b""
        for w in words:
            kind, value = w[0], w[1:]
            if kind == "B":
                blocks += b"".join(struct.pack("!I", int(e) + bases[1 - d] & MASK) for e in value.split(":"))
                continue
            octets = bytes.fromhex(value) if kind == "X" else b""
            options += {"M": lambda v=value: struct.pack("!BBH", 2, 4, int(v)), "W": lambda v=value: bytes((3, 3, int(v))),
                        "K": lambda: b"\4\2", "T": lambda: b"\x08\x0a" + bytes(8),
                        "X": lambda o=octets: bytes((o[0], len(o) + 1)) + o[1:]}[kind]()
        if blocks:
            options += bytes((5, len(blocks) + 2)) + blocks
        return Segment(int(ms), d, flags, int(seq) + bases[d], int(ack) + bases[1 - d] if flags & ACK else 0, int(window),
                       int(length), options)


class Conversation:
    """What was recorded between two ends."""

    def __init__(self, name, segments, bases=None):
        self.name, self.segments, self.bases = name, segments, bases or self.first_numbers(segments)

    @staticmethod
    def first_numbers(segments):
        bases = []
        for d in (0, 1):
            own = [s.seq for s in segments if s.direction == d and (s.seq or not s.flags & RST)]
            told = [s.ack for s in segments if s.direction != d and s.flags & ACK]
            bases.append((own + told + [0])[0])
        return bases

    def text(self):
        began = self.segments[0].ms
        lines = [f"conversation {self.name} {self.bases[0]:08x} {self.bases[1]:08x}"]
        for s in self.segments:
            s.ms -= began
            lines.append(s.line(self.bases))
        return "\n".join(lines) + "\n"


def load(path):
    """[Conversation] of a file; lines that begin with # are comments."""
    found = []
    with open(path) as f:
        for line in f:
            if line.startswith("#") or not line.strip():
                continue
            if line.startswith("conversation "):
                _, name, iss, irs = line.split()
                found.append(Conversation(name, [], [int(iss, 16), int(irs, 16)]))
            else:
                found[-1].segments.append(Segment.parse(line, found[-1].bases))
    return found
