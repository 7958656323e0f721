# SPDX-License-Identifier: GPL-2.0-or-later
"""packets.py - packets made and read octet by octet, and a branch router that sends them as it likes."""
import socket
import struct
import time

TCP, UDP, ICMP, ICMP6, GRE = 6, 17, 1, 58, 47
FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16


def fold(data):
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def checksum(data):
    return ~fold(data) & 0xFFFF


def crc32c(data):
    crc = 0xFFFFFFFF
    for octet in data:
        crc ^= octet
        for _ in range(8):
            crc = crc >> 1 ^ 0x82F63B78 * (crc & 1)
    return crc ^ 0xFFFFFFFF


def packed(address):
    return socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)


def text(octets):
    return socket.inet_ntop(socket.AF_INET6 if len(octets) == 16 else socket.AF_INET, octets)


def ip(src, dst, proto, payload=b"", ttl=64, tos=0, ident=0, flags=2, offset=0, options=b"", length=None, ihl=None,
       bad_sum=0):
    """An IPv4 packet; flags: 2 is DF, 1 is MF."""
    n = ihl if ihl is not None else 5 + len(options) // 4
    total = length if length is not None else 20 + len(options) + len(payload)
    head = struct.pack("!BBHHHBBH4s4s", 4 << 4 | n, tos, total, ident, flags << 13 | offset, ttl, proto, 0, packed(src),
                       packed(dst)) + options
    return head[:10] + struct.pack("!H", checksum(head) ^ bad_sum) + head[12:] + payload


def ip6(src, dst, proto, payload=b"", ttl=64, tos=0, length=None):
    return struct.pack("!IHBB16s16s", 6 << 28 | tos << 20, len(payload) if length is None else length, proto, ttl,
                       packed(src),
                       packed(dst)) + payload


def ip_any(src, dst, proto, payload=b"", **more):
    return (ip6 if ":" in src else ip)(src, dst, proto, payload, **more)


def l4(src, dst, proto, segment, at):
    """Puts the checksum into a TCP, UDP or ICMPv6 segment."""
    pseudo = packed(src) + packed(dst) + struct.pack("!IHBB", len(segment), 0, 0, proto)
    c = checksum(pseudo + segment)
    return segment[:at] + struct.pack("!H", c or (0xFFFF if proto == UDP else 0)) + segment[at + 2:]


def udp(src, dst, sport, dport, payload=b"", **more):
    s = l4(src, dst, UDP, struct.pack("!HHHH", sport, dport, 8 + len(payload), 0) + payload, 6)
    return ip_any(src, dst, UDP, s, **more)


def tcp(src, dst, sport, dport, flags, seq=0, ack=0, payload=b"", window=65535, options=b"", **more):
    s = struct.pack("!HHIIBBHHH", sport, dport, seq & 0xFFFFFFFF, ack & 0xFFFFFFFF, (5 + len(options) // 4) << 4, flags,
                    window,
                    0, 0) + options + payload
    return ip_any(src, dst, TCP, l4(src, dst, TCP, s, 16), **more)


def echo(src, dst, ident=1, seq=1, payload=b"0123456789abcdef", reply=False, **more):
    if ":" in src:
        s = struct.pack("!BBHHH", 129 if reply else 128, 0, 0, ident, seq) + payload
        return ip6(src, dst, ICMP6, l4(src, dst, ICMP6, s, 2), **more)
    s = struct.pack("!BBHHH", 0 if reply else 8, 0, 0, ident, seq) + payload
    return ip(src, dst, ICMP, s[:2] + struct.pack("!H", checksum(s)) + s[4:], **more)


def icmp_error(src, dst, kind, code, quote, rest=0):
    s = struct.pack("!BBHI", kind, code, 0, rest) + quote
    if ":" in src:
        return ip6(src, dst, ICMP6, l4(src, dst, ICMP6, s, 2))
    return ip(src, dst, ICMP, s[:2] + struct.pack("!H", checksum(s)) + s[4:])


def gre(inner, key=None, seq=None, csum=False, proto=None, flags=0, version=0):
    if proto is None:
        proto = 0x86DD if inner[:1] and inner[0] >> 4 == 6 else 0x0800
    flags |= (0x8000 if csum else 0) | (0x2000 if key is not None else 0) | (0x1000 if seq is not None else 0) | version
    head = struct.pack("!HH", flags, proto) + (b"\0\0\0\0" if csum else b"")
    head += (struct.pack("!I", key) if key is not None else b"") + (struct.pack("!I", seq) if seq is not None else b"")
    g = head + inner
    return g[:4] + struct.pack("!H", checksum(g)) + g[6:] if csum else g


class Seen:
    """An IP packet read back: addresses, tos, ttl, proto, l4 octets, and for TCP and UDP the ports."""

    def __init__(self, data):
        self.data = data
        if data[0] >> 4 == 4:
            n = (data[0] & 15) * 4
            self.tos, self.ttl, self.proto = data[1], data[8], data[9]
            self.df = bool(data[6] & 0x40)
            self.fragment = bool(struct.unpack("!H", data[6:8])[0] & 0x3FFF)
            self.src, self.dst, self.l4 = text(data[12:16]), text(data[16:20]), data[n:struct.unpack("!H",
                                                                                                     data[2:4])[0]]
        else:
            self.tos, self.ttl, self.proto = (data[0] & 15) << 4 | data[1] >> 4, data[7], data[6]
            self.df, self.fragment = True, self.proto == 44
            self.src, self.dst, self.l4 = text(data[8:24]), text(data[24:40]), data[40:]
        self.sport = self.dport = None
        if self.proto in (TCP, UDP) and len(self.l4) >= 4 and not self.fragment:
            self.sport, self.dport = struct.unpack("!HH", self.l4[:4])

    @property
    def flags(self):
        return self.l4[13]

    @property
    def icmp(self):
        """(type, code) of an ICMP message, else None."""
        return (self.l4[0], self.l4[1]) if self.proto in (ICMP, ICMP6) and len(self.l4) >= 2 else None

    def inner(self):
        """The packet that this GRE packet carries."""
        flags = struct.unpack("!H", self.l4[:2])[0]
        return Seen(self.l4[4 + 4 * bool(flags & 0x8000) + 4 * bool(flags & 0x2000) + 4 * bool(flags & 0x1000):])

    def __repr__(self):
        return (f"<{self.src} {self.sport} > {self.dst} {self.dport} proto {self.proto} {self.icmp} "
                f"{len(self.data)} octets>")


class Ear:
    """Hears every IP packet of an interface; keeps those that match until somebody asks."""

    def __init__(self, ns, dev, match=lambda seen: True, sent=False):
        self.case, self.match, self.sent = ns.case, match, sent
        self.socket = ns.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0)  # else it hears all interfaces until it is bound
        self.socket.setsockopt(socket.SOL_SOCKET, 33, 1 << 24)  # SO_RCVBUFFORCE
        self.socket.bind((dev, 3))
        self.socket.setblocking(False)
        self.heard = []

    def listen(self):
        """Everything heard so far that matches."""
        while True:
            try:
                data, where = self.socket.recvfrom(70000)
            except BlockingIOError:
                return self.heard
            if where[1] in (0x0800, 0x86DD) and (where[2] == 4) == self.sent:  # 4: PACKET_OUTGOING
                seen = Seen(data)
                if self.match(seen):
                    self.heard.append(seen)

    def wait(self, condition, seconds, what):
        """The first packet for which condition holds."""
        return self.case.wait(lambda: next((s for s in self.listen() if condition(s)), None), seconds, what)


class Branch:
    """The router of a branch in the hands of the test: sends GRE as it likes, hears what comes back."""

    def __init__(self, net, i):
        self.case, self.net, self.i = net.case, net, i
        self.family = socket.AF_INET if net.outer == 4 else socket.AF_INET6
        self.socket = net.wan.socket(self.family, socket.SOCK_RAW, GRE)
        self.socket.bind((net.remote(i), 0))
        self.socket.setsockopt(socket.SOL_SOCKET, 33, 1 << 23)
        self.socket.setblocking(False)
        self.ear = Ear(net.wan, "br0", lambda s: s.proto == GRE and s.dst == net.remote(i))

    def send_gre(self, octets, tos=0, ttl=64):
        level, t, h = ((0, 1, 2) if self.family == socket.AF_INET else (41, 67, 16))
        self.socket.setsockopt(level, t, tos)
        self.socket.setsockopt(level, h, ttl)
        self.socket.sendto(octets, (self.net.local, 0))

    def send(self, inner, tos=0, ttl=64, **more):
        key = self.net.key(self.i)
        self.send_gre(gre(inner, **({"key": key} if key is not None else {}), **more), tos, ttl)

    def heard(self):
        return [(outer, outer.inner()) for outer in self.ear.listen()]

    def wait(self, condition, seconds, what):
        """The first (outer, inner) for whose inner packet condition holds."""
        return self.case.wait(lambda: next(((o, i) for o, i in self.heard() if condition(i)), None), seconds, what)

    def forget(self):
        self.ear.listen()
        self.ear.heard.clear()

    def ask(self, inner, condition, seconds, what, **more):
        self.forget()
        self.send(inner, **more)
        return self.wait(condition, seconds, what)

    def quiet(self, seconds=0.3):
        """Nothing comes back for a while; the ear is asked, not the clock alone."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.heard():
                return False
            time.sleep(0.01)
        return True
