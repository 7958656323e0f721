# SPDX-License-Identifier: GPL-2.0-or-later
"""A branch that sends whatever it can think of, and others whom that must not concern."""
import hashlib
import os
import random
import socket
import struct
import threading
import time

import lab
import packets as f
import topo
from case_gre import BAD_HEADERS
from harness import case

MIB = 1 << 20


def cut(octets):
    """The packet cut at every length."""
    return [octets[:n] for n in range(len(octets))]


def flipped(rng, octets, n):
    """n copies, each with one to four octets changed."""
    out = []
    for _ in range(n):
        b = bytearray(octets)
        for _ in range(rng.randint(1, 4)):
            b[rng.randrange(len(b))] = rng.randrange(256)
        out.append(bytes(b))
    return out


def good_ones(host, server):
    """One valid packet of each kind, to be spoilt."""
    quote = f.udp(host, server, 1111, 2222, b"quoted")
    return [f.tcp(host, server, 1, 80, f.SYN, options=b"\x02\x04\x05\xb4\x01\x03\x03\x07\x04\x02\x01\x01"),
            f.tcp(host, server, 1, 80, f.ACK, 1, 1, b"data" * 10), f.udp(host, server, 1111, 53, b"data" * 10),
            f.echo(host, server),
            f.icmp_error(host, server, *((3, 4) if ":" not in host else (2, 0)), quote, rest=1400),
            f.icmp_error(host, server, *((11, 0) if ":" not in host else (3, 0)), quote),
            f.ip_any(host, server, 132, b"sctp" * 8), f.ip_any(host, server, 4, quote),
            f.ip_any(host, server, f.GRE, f.gre(quote))]


def by_hand():
    """What has crashed somebody's stack some day."""
    h, s, h6, s6 = topo.HOST, topo.SERVER, topo.HOST6, topo.SERVER6
    u = f.udp(h, s, 1, 2, b"x" * 24)[20:]
    many_options = b"\x02\x04\x05\xb4" * 10
    yield from (
        # fragments: tiny, overlapping, the last one beyond 64 KiB, first one without the L4 header
        f.ip(h, s, f.UDP, u[:8], flags=1), f.ip(h, s, f.UDP, u[:24], flags=1), f.ip(h, s, f.UDP, u, flags=0, offset=1),
        f.ip(h, s, f.ICMP, b"x" * 1000, flags=0, offset=8190), f.ip(h, s, f.TCP, b"\0" * 8, flags=1),
        f.ip(h, s, f.UDP, u, flags=3), f.ip(h, s, f.UDP, u, flags=4),
        # from and to itself; through nobody's address; to the gateway
        f.tcp(s, s, 80, 80, f.SYN), f.tcp(h, h, 80, 80, f.SYN), f.tcp(topo.GW_WAN, topo.GW_WAN, 1, 1, f.SYN),
        f.tcp(topo.IF_GW, topo.IF_GW, 1, 1, f.SYN), f.udp(topo.IF_GW, h, 1, 1), f.echo(topo.IF_GW, topo.IF_GW),
        f.echo(h, s, ttl=0), f.echo(h, s, ttl=1), f.tcp(h6, s6, 1, 80, f.SYN, ttl=1), f.udp(h6, s6, 1, 2, ttl=0),
        # lengths that lie
        f.ip(h, s, f.UDP, u, length=19), f.ip(h, s, f.UDP, u, length=0), f.ip(h, s, f.UDP, u, length=65535),
        f.ip(h, s, f.UDP, u, ihl=15),
        f.ip(h, s, f.UDP, u, ihl=0), f.ip6(h6, s6, f.UDP, u, length=0), f.ip6(h6, s6, f.UDP, u, length=65535),
        f.ip6(h6, s6, 0, u, length=0), f.ip(h, s, f.UDP, struct.pack("!HHHH", 1, 2, 7, 0)),
        f.ip(h, s, f.UDP, struct.pack("!HHHH", 1, 2, 0, 0)),
        f.ip(h, s, f.UDP, struct.pack("!HHHH", 1, 2, 65535, 0) + b"x"),
        f.ip(h, s, f.TCP, struct.pack("!HHIIBBHHH", 1, 2, 3, 4, 0, 2, 5, 0, 0)),
        f.ip(h, s, f.TCP, struct.pack("!HHIIBBHHH", 1, 2, 3, 4, 0xF0, 2, 5, 0, 0)), f.tcp(h, s, 0, 0, f.SYN),
        f.udp(h, s, 0, 0),
        # options
        f.tcp(h, s, 1, 80, f.SYN, options=many_options), f.tcp(h, s, 1, 80, f.SYN, options=b"\x02\x00\x05\xb4"),
        f.tcp(h, s, 1, 80, f.SYN, options=b"\x02\x01\x05\xb4"), f.tcp(h, s, 1, 80, f.SYN, options=b"\x01\x01\x01\x02"),
        f.tcp(h, s, 1, 80, f.SYN, options=b"\x02\x04\0\0"), f.tcp(h, s, 1, 80, f.SYN, options=b"\x03\x03\xff\0"),
        f.ip(h, s, f.UDP, u, options=b"\x94\x04\0\0"), f.ip(h, s, f.UDP, u, options=b"\x07\x00\0\0"),
        f.ip(h, s, f.UDP, u, options=b"\x07\x28\0\0"),
        f.ip(h, s, f.UDP, u, options=b"\x44\x24\x0d\x01" + b"\0" * 32),
        f.ip(h, s, f.UDP, u, options=b"\x89\x07\x04" + b"\1\2\3\4\0"),
        # ICMP: short, of unknown types, errors that quote nothing, themselves, or each other
        f.ip(h, s, f.ICMP, b"\x08"), f.ip(h, s, f.ICMP, b"\x08\0\0\0"), f.icmp_error(h, s, 3, 4, b""),
        f.icmp_error(h, s, 3, 4, b"\x45"),
        f.icmp_error(h, s, 5, 1, f.udp(h, s, 1, 2)), f.icmp_error(h, s, 4, 0, f.udp(h, s, 1, 2)),
        f.icmp_error(h, s, 99, 0, b"x" * 64),
        f.icmp_error(h, s, 3, 3, f.icmp_error(h, s, 3, 3, f.icmp_error(h, s, 3, 3, f.udp(h, s, 1, 2)))),
        f.icmp_error(h, s, 3, 4, f.ip(s, h, f.TCP, b"", ihl=15)), f.icmp_error(h6, s6, 2, 0, b""),
        f.icmp_error(h6, s6, 2, 0, b"\x60" * 48),
        f.icmp_error(h6, s6, 135, 0, b"\xfe\x80" + b"\0" * 14), f.icmp_error(h6, s6, 134, 0, b"\0" * 8),
        f.icmp_error(h6, s6, 137, 0, b"\0" * 32),
        # packets in packets
        f.ip(h, s, 4, f.ip(h, s, 4, f.ip(h, s, 4, u))), f.ip(h, s, 41, f.ip6(h6, s6, 59)),
        f.ip(h, topo.GW_WAN, f.GRE, f.gre(f.echo(h, s))),
        f.ip("203.0.113.11", topo.GW_WAN, f.GRE, f.gre(f.echo(h, s))), f.ip6(h6, s6, 59, b"nothing"),
        f.ip6("::ffff:10.0.1.5", s6, f.UDP, u), f.ip6(h6, "::ffff:198.51.100.10", f.UDP, u),
        b"\x45", b"\x60", b"\x00" * 20, b"\xff" * 1400, b"\x4f" + b"\0" * 59, b"\x75" + f.echo(h, s)[1:],
    )


def extension_headers():
    """IPv6 chains: long, in no order, circular, cut, with lengths that lie."""
    h6, s6 = topo.HOST6, topo.SERVER6
    end = f.udp(h6, s6, 1, 2, b"x" * 16)[40:]

    def chain(kinds, size=0, tail=end, last=f.UDP):
        out = b""
        for this, following in zip(kinds, list(kinds[1:]) + [last]):
            out += bytes([following, 0 if this == 44 else size]) + b"\0" * 6
        return f.ip6(h6, s6, kinds[0] if kinds else last, out + tail)
    for kinds in ([0], [60], [43], [44], [0, 60, 43, 44, 51, 60], [0, 0], [60] * 9, [60] * 150, [0, 60] * 40, [44, 44],
                  [44] * 20, [43, 0],
                  [51], [50], [135], [139], [140], [253], [0, 44, 60]):
        for size in (0, 1, 255):
            yield chain(kinds, size)
        yield chain(kinds, tail=b"")
        yield from cut(chain(kinds))[40:70:3]
    yield f.ip6(h6, s6, 43, struct.pack("!BBBBI", f.UDP, 2, 0, 1, 0) + f.packed("2001:db8::1") + end)
    yield f.ip6(h6, s6, 43, struct.pack("!BBBBI", f.UDP, 2, 4, 1, 0) + f.packed("2001:db8::1") + end)


def by_scapy(rng):
    """Scapy's own ideas of random fields."""
    import logging
    logging.getLogger("scapy.runtime").setLevel(logging.ERROR)
    try:
        from scapy.all import ICMP, IP, TCP, UDP, IPv6, fuzz, raw, conf
        from scapy.layers.inet6 import (IPv6ExtHdrDestOpt, IPv6ExtHdrFragment, IPv6ExtHdrHopByHop, IPv6ExtHdrRouting,
                                        ICMPv6EchoRequest, ICMPv6PacketTooBig)
    except ImportError as e:
        raise lab.Skip("python3-scapy is not installed") from e
    conf.verb = 0
    random.seed(rng.random())
    h, s, h6, s6 = topo.HOST, topo.SERVER, topo.HOST6, topo.SERVER6
    kinds = [lambda: fuzz(IP(src=h, dst=s)) / fuzz(TCP()), lambda: fuzz(IP(src=h, dst=s)) / fuzz(UDP()),
             lambda: fuzz(IP(src=h, dst=s)) / fuzz(ICMP()),
             lambda: IP(src=h, dst=s) / fuzz(TCP()), lambda: IP(src=h, dst=s) / fuzz(ICMP()) / fuzz(IP()) / fuzz(TCP()),
             lambda: IPv6(src=h6, dst=s6) / fuzz(TCP()),
             lambda: IPv6(src=h6, dst=s6) / fuzz(IPv6ExtHdrHopByHop()) / fuzz(UDP()),
             lambda: IPv6(src=h6, dst=s6) / fuzz(IPv6ExtHdrDestOpt()) / fuzz(IPv6ExtHdrFragment()) / fuzz(UDP()),
             lambda: IPv6(src=h6, dst=s6) / fuzz(IPv6ExtHdrRouting()) / fuzz(TCP()),
             lambda: IPv6(src=h6, dst=s6) / fuzz(ICMPv6EchoRequest()),
             lambda: IPv6(src=h6, dst=s6) / fuzz(ICMPv6PacketTooBig()) / fuzz(IPv6()) / fuzz(UDP())]
    out = []
    while len(out) < 600:
        try:
            out.append(raw(rng.choice(kinds)()))
        except Exception:  # a combination that Scapy itself cannot build
            continue
    return out


def forgeries(flow):
    """Packets with the very tuple of the other site's download, and errors that quote it."""
    h, s, port = topo.HOST, topo.SERVER, flow["orig"]["sport"]
    for seq in (0, 1, 1 << 31, 0xFFFFFFFF):
        for flags in (f.RST, f.RST | f.ACK, f.FIN | f.ACK, f.SYN, f.SYN | f.ACK, f.ACK, 0, 63):
            yield f.tcp(h, s, port, 80, flags, seq, seq, b"forged" if flags & f.ACK else b"")
            yield f.tcp(s, h, 80, port, flags, seq, seq, b"forged" if flags & f.ACK else b"")
    for quote in (f.tcp(s, h, 80, port, f.ACK, 1, 1), f.tcp(h, s, port, 80, f.ACK, 1, 1)):
        for kind, code, rest in ((3, 4, 68), (3, 4, 0), (3, 3, 0), (3, 1, 0), (11, 0, 0), (12, 0, 0), (5, 0, 0)):
            yield f.icmp_error(h, s, kind, code, quote, rest)
            yield f.icmp_error(s, h, kind, code, quote, rest)


def arsenal(rng):
    """All of it, as GRE packets."""
    out = [octets for octets, _ in BAD_HEADERS]
    for host, server in ((topo.HOST, topo.SERVER), (topo.HOST6, topo.SERVER6)):
        for p in good_ones(host, server):
            out += [f.gre(x) for x in cut(p) + flipped(rng, p, 60)] + flipped(rng, f.gre(p), 40)
            out += cut(f.gre(p, csum=True, key=5, seq=9))
    out += [f.gre(p) for p in by_hand()] + [f.gre(p) for p in by_scapy(rng)]
    out += [f.gre(p, proto=0x86DD) for p in extension_headers()]
    out += [rng.randbytes(rng.randrange(1, 1400)) for _ in range(300)]
    out += [f.gre(rng.randbytes(rng.randrange(1, 200)), proto=rng.choice((0x0800, 0x86DD, 0x880B, 0x6558)))
            for _ in range(300)]
    return out


class Download:
    """Fetches one file over and over in a thread; every copy is checked."""

    def __init__(self, c, net, i, content):
        self.c, self.br, self.i = c, net.branches[i], i
        self.digest, self.size = hashlib.sha256(content).digest(), len(content)
        self.done, self.wrong, self.running = 0, [], True
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def fetch(self):
        s = self.br.socket(socket.AF_INET, socket.SOCK_STREAM)
        s.settimeout(20)
        s.connect((topo.SERVER, 80))
        s.sendall(b"GET /big HTTP/1.0\r\n\r\n")
        got = b"".join(iter(lambda: s.recv(1 << 18), b""))
        s.close()
        return got[got.index(b"\r\n\r\n") + 4:]

    def run(self):
        while self.running:
            try:
                if hashlib.sha256(self.fetch()).digest() != self.digest:
                    self.wrong.append("wrong content")
                self.done += 1
            except (OSError, ValueError) as e:
                self.wrong.append(str(e))

    def rate(self, seconds, act):
        """Octets a second while act() is called over and over."""
        begin, done = time.monotonic(), self.done
        while time.monotonic() < begin + seconds or self.done == done:
            act()
            self.c.check(time.monotonic() < begin + seconds + 30, "not one download in 30 seconds")
        return (self.done - done) * self.size / (time.monotonic() - begin)

    def stop(self):
        self.running = False
        self.thread.join()


def resident(pid):
    with open(f"/proc/{pid}/statm") as statm:
        return int(statm.read().split()[1]) * 4096


MUST_COUNT = {"gre_truncated", "gre_version", "gre_flags", "gre_checksum", "gre_protocol", "unknown_sender",
              "inner_truncated", "inner_malformed",
              "inner_l4", "inner_checksum", "fragment_invalid", "source_route", "extension_headers", "icmp_no_flow",
              "site_limit", "ttl_expired"}


@case(limit=90, alone=True)
def everything_malformed(c):
    """
        br1: downloads ------------------------------------ \\
                                                             gw, max_per_site = 2000 -- inet: nginx
        br2: a router that sends all that is malformed ---- /

    Thousands of packets: cut at every length, with octets changed, with lengths that lie, fragments, chains of
    extension headers, what Scapy makes of random fields, forgeries of the other site's very connection, and a flood of
    new flows. The other branch's downloads are right and not much slower, its flow is not touched, nothing reaches it
    that it did not ask for, and every packet is accounted for by name.
    """
    seed = int(os.environ.get("ARRD_TEST_SEED", time.time_ns() % 1000000))
    c.say(f"ARRD_TEST_SEED={seed}")
    rng = random.Random(seed)
    content = os.urandom(2 * MIB)
    net = topo.Net(c, cpe=False, flows={"max_per_site": 2000}, gateway={"log_level": "info"})
    net.branch(1)
    net.start_cpe()
    net.web({"big": content})
    net.wirewatch()
    mallory = f.Branch(net, 2)
    mallory.ear.socket.close()  # what comes back is wirewatch's to see
    weapons = arsenal(rng)
    c.say(f"{len(weapons)} packets")
    d = Download(c, net, 1, content)
    try:
        alone = d.rate(2, lambda: time.sleep(0.05))
        grown = resident(net.gateway.process.pid)
        flow = next(fl for fl in net.gateway.flows_of(site="s1", proto="tcp"))
        forged = list(forgeries(flow))

        def attack():
            for w in rng.sample(weapons, 200):
                mallory.send_gre(w, tos=rng.choice((0, 3)))
            for w in forged:
                mallory.send(w)
            for _ in range(50):
                mallory.send(f.tcp(topo.HOST, topo.SERVER, rng.randrange(1, 65536), rng.randrange(1, 65536), f.SYN))
                mallory.send(f.udp(topo.HOST, topo.SERVER, rng.randrange(1, 65536), rng.randrange(1, 65536)))
        for w in weapons:  # each at least once
            mallory.send_gre(w)
        during = d.rate(6, attack)
    finally:
        d.stop()
    c.say(f"alone {alone / MIB:.1f} MiB/s, during the attack {during / MIB:.1f} MiB/s, {d.done} downloads")
    c.equal(d.wrong, [], "downloads that went wrong")
    c.check(during > alone / 10,
            f"the download collapsed: {alone / MIB:.1f} MiB/s alone, {during / MIB:.1f} during the attack")
    drops = net.gateway.drops()
    c.check(MUST_COUNT <= set(drops), f"drop reasons that counted nothing: {MUST_COUNT - set(drops)}; {drops}")
    c.equal({k: v for k, v in net.gateway.tunnel_drops("t1").items()}, {}, "drops of the innocent branch")
    used = len(net.gateway.flows_of(site="s2"))
    c.check(used <= 2000, f"site s2 has {used} flows, its limit is 2000")
    if c.scale == 1:
        grown = resident(net.gateway.process.pid) - grown
        c.check(grown < 32 * MIB, f"arrd grew by {grown / MIB:.0f} MiB")
    net.branches[1].run(f"ping -c 1 -W 3 {topo.SERVER}")
    # Towards mallory goes what mallory asked for by packets that the judge cannot read; br1 is what counts.
    net.watch.stop()
    j = net.watch.json()
    innocent = next(t for t in j["tunnels"] if t["tag"] == 1)
    c.equal((innocent["misdelivered"], innocent["unverifiable"]), (0, 0),
            f"packets to br1 that were not its own: {j['notes']}")
    c.check(innocent["to"] > 1000, f"too little went to br1: {innocent}")


@case()
def told_about_the_underlay(c):
    """
        br1: download -- GRE -- gw: mtu = 1476 -- inet
        mallory, on the underlay: ICMP errors about outer packets

    Somebody on the underlay tells the gateway of tiny path MTUs and of a branch that is unreachable. Errors that quote
    no tunnel are not believed; none makes a tunnel's MTU fall below 576; the download goes on.
    """
    content = os.urandom(2 * MIB)
    net = topo.Net(c, sites=1, tunnel={"mss": "off"})
    net.web({"big": content})
    d = Download(c, net, 1, content)
    try:
        c.wait(lambda: d.done, 20, "the first download")
        raw = net.wan.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
        for quote_src, quote_dst in ((topo.GW_WAN, "203.0.113.200"), ("203.0.113.200", net.remote(1)),
                                     (topo.GW_WAN, net.remote(1))):
            quote = f.ip(quote_src, quote_dst, f.GRE, f.gre(f.echo(topo.SERVER, topo.HOST, reply=True)))
            for mtu in (0, 1, 67, 68, 100, 575):
                for n in (28, 24, 20, 8, 1):
                    raw.sendto(f.icmp_error("203.0.113.2", topo.GW_WAN, 3, 4, quote[:n], rest=mtu), (topo.GW_WAN, 0))
                raw.sendto(f.icmp_error("203.0.113.2", topo.GW_WAN, 3, 4, quote, rest=mtu), (topo.GW_WAN, 0))
            pmtu = net.gateway.tunnel("t1").get("pmtu")
            c.check(pmtu is None or pmtu >= 576, f"the tunnel's path MTU became {pmtu}")
        for code in (0, 1, 2, 3):
            raw.sendto(f.icmp_error("203.0.113.2", topo.GW_WAN, 3, code, quote), (topo.GW_WAN, 0))
        done = d.done
        c.wait(lambda: d.done > done + 1, 20, "another download")
    finally:
        d.stop()
    c.equal(d.wrong, [], "downloads that went wrong")
