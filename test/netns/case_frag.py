# SPDX-License-Identifier: GPL-2.0-or-later
"""Inner fragments: datagrams of several sites with equal addresses, ports and Identification are never put together."""
import socket

import packets
import topo
from harness import case


def large_datagrams(c, nat, server, octets=6000):
    """UDP of 6,000 octets both ways, from equal addresses and ports at once, by real stacks; the clients check each."""
    net = topo.Net(c, sites=3, nat=nat)
    net.tagserver()
    if ":" in server:  # its fragments are as large as its own link; the first ones teach it the tunnel's MTU
        net.tagclient("--octets", octets, "--padded", "--timeout", 1, proto="udp", server=server, name="first").wait(10)
        c.check(net.gateway.drops().pop("too_big", 0) > 0, "the server was told of no MTU")
    p = net.tagclient("--count", 10, "--requests", 30, "--octets", octets, "--padded", "--first-port", 40000, "--timeout", 5, proto="udp",
                      server=server)
    status = p.wait(40)
    c.equal(status, 0, f"{p.output()[-800:]} {p.errors()[-800:]}")
    drops = net.gateway.drops()
    c.check(not any("fragment" in k or k == "other_site" for k in drops), f"drops: {drops}")


@case()
def large_datagrams_routed(c):
    """
        br1, br2, br3: 10.0.1.5:40000, 6,000 octets, MTU 1476 -- gw, nat = none -- inet: server
    """
    large_datagrams(c, "none", topo.SERVER)


@case()
def large_datagrams_masqueraded(c):
    """
        br1, br2, br3: 10.0.1.5:40000, 6,000 octets, MTU 1476 -- gw, nat = masquerade -- inet: server

    Behind NAT all three have the same source address.
    """
    large_datagrams(c, "masquerade", topo.SERVER)


@case()
def large_datagrams_ipv6(c):
    """
        br1, br2, br3: fd00:10:0:1::5:40000, 6,000 octets, MTU 1476 -- gw, nat = masquerade -- inet: server
    """
    large_datagrams(c, "masquerade", topo.SERVER6)


def pieces(src, dst, sport, dport, payload, ident, size=1000):
    """A UDP datagram in IPv4 fragments."""
    whole = packets.udp(src, dst, sport, dport, payload, flags=0)[20:]
    parts = [whole[i:i + size] for i in range(0, len(whole), size)]
    return [packets.ip(src, dst, packets.UDP, p, ident=ident, flags=1 if i + 1 < len(parts) else 0, offset=i * size // 8)
            for i, p in enumerate(parts)]


class Received:
    """A UDP server that answers nothing and keeps everything."""

    def __init__(self, net, port):
        self.socket = net.inet.socket(socket.AF_INET, socket.SOCK_DGRAM, 0)
        self.socket.setsockopt(socket.SOL_SOCKET, 33, 1 << 24)  # SO_RCVBUFFORCE
        self.socket.bind((topo.SERVER, port))
        self.socket.setblocking(False)
        self.datagrams = []

    def so_far(self):
        while True:
            try:
                self.datagrams.append(self.socket.recv(70000))
            except BlockingIOError:
                return self.datagrams


def interleaved(c, nat):
    net = topo.Net(c, sites=2, nat=nat, cpe=False)
    br = [packets.Branch(net, 1), packets.Branch(net, 2)]
    server = Received(net, 9000)
    n = 200
    for k in range(n):
        both = [pieces(topo.HOST, topo.SERVER, 5000 + k, 9000, bytes([65 + i]) * 2500, ident=k) for i in range(2)]
        # by turns, and every other time backwards: what is behind sees the fragments of both mixed
        order = range(3) if k % 2 else range(2, -1, -1)
        for at in order:
            for i in range(2):
                br[i].send(both[i][at])
    c.wait(lambda: len(server.so_far()) >= 2 * n, 10, "all datagrams to come")
    heard = server.so_far()
    c.equal(len(heard), 2 * n, "datagrams that came")
    c.equal({len(d) for d in heard}, {2500}, "their lengths")
    mixed = [d for d in heard if len(set(d)) != 1]
    c.check(not mixed, f"{len(mixed)} of {len(heard)} datagrams are of both sites' octets")
    c.equal(sum(d[0] == 65 for d in heard), n, "datagrams of the first site")
    c.check("other_site" not in net.gateway.drops(), f"drops: {net.gateway.drops()}")


@case()
def interleaved_routed(c):
    """
        br1: fragments of 10.0.1.5:5000, id k \\
                                               by turns -- gw, nat = none -- inet: UDP server
        br2: fragments of 10.0.1.5:5000, id k /
    """
    interleaved(c, "none")


@case()
def interleaved_masqueraded(c):
    """
        br1: fragments of 10.0.1.5:5000, id k \\
                                               by turns -- gw, nat = masquerade -- inet: UDP server
        br2: fragments of 10.0.1.5:5000, id k /
    """
    interleaved(c, "masquerade")


@case()
def unfinished_harm_nobody(c):
    """
        br1: 40,000 first fragments that never complete --\\
                                                           gw, nat = masquerade -- inet: server
        br2: 6,000 octets a datagram ---------------------/
    """
    net = topo.Net(c, sites=2, nat="masquerade")
    net.tagserver()
    br = packets.Branch(net, 1)
    p = net.tagclient("--count", 5, "--requests", 200, "--octets", 6000, "--padded", "--first-port", 40000, "--timeout", 5, proto="udp",
                      branches=[2])
    sent = 0
    while p.alive() and sent < 40000:
        br.send(pieces(topo.HOST, topo.SERVER, 1, 2, b"x" * 2500, ident=sent & 0xFFFF)[0])
        sent += 1
    c.equal(p.wait(40), 0, f"{p.output()[-800:]} {p.errors()[-800:]}")
    c.check(sent > 1000, f"{sent} first fragments sent while the other branch was at work")
    c.check(net.gateway.tunnel_drops("t1").get("fragment_limit", 0) > 0, "the attacker's oldest were not dropped")
    c.check("fragment_limit" not in net.gateway.tunnel_drops("t2"), f"t2: {net.gateway.tunnel_drops('t2')}")
