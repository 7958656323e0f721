# SPDX-License-Identifier: GPL-2.0-or-later
"""Keys are renewed under traffic, by either side and by both at once, and nothing is lost."""
import select
import socket
import struct

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

import between
import ipsec
import loss
import packets
import topo
from harness import case

CREATE_CHILD_SA, INFORMATIONAL = 36, 37  # RFC 7296 3.1
SAD_HOLD_MAX = 256  # packets that the gateway holds for an SA that is to come: ipsec/sad.h


class Rekeying:
    """Branches with streams of numbered datagrams, IPv4 and IPv6, each answered; and of branch 1 iperf3, so many datagrams a
    second each way (0: none) and TCP. Nothing of it may be lost whatever is rekeyed."""

    def __init__(self, c, sites=1, delay=False, tunnel=None, branch=None, pps=200, watch=False, iperf=2000, **more):
        self.c = c
        self.net = ipsec.Net(c, sites=sites, tunnel=tunnel,
                             branch={**(branch or {}), **({"between": between.Delay} if delay else {})}, **more)
        if watch:
            self.net.wirewatch(private="10.0.0.0/8" if self.net.gateway.egress["nat"] != "none" else None)
        self.streams = [between.Stream(self.net, i, pps, server=server, port=46000).ready()
                        for i in self.net.branches for server in (topo.SERVER, topo.SERVER6)]
        self.r = self.net.routers[1]
        self.iperf = loss.Iperf(self.net, 1, iperf) if iperf else None

    def ike(self):
        return {sa["initiator-spi"] for sa in self.r.sas() if sa["state"] == "ESTABLISHED"}

    def renewed(self, read, act, what):
        """After act() there is exactly one other than before, and it is in use by both sides."""
        before = read()
        act()
        self.c.wait(lambda: len(read()) == 1 and not read() & before, 10, f"{what}; before: {before}")
        if read == self.r.spis:
            self.r.wait_used()

    def lost(self):
        """{where to: datagrams} that are missing when all has ended. Of numbered datagrams nobody knows whether they were lost
        on the way there or back."""
        lost = {"there and back": 0}
        if self.iperf:
            lost |= {f"to the {who}": n["lost"] for who, n in self.iperf.end().items()}
        for s in self.streams:
            j = s.end()
            self.c.check(j["got"] > 40 and (j["wrong"], j["errors"]) == (0, 0), f"the stream: {j}")
            lost["there and back"] += j["lost"]
        return {where: n for where, n in lost.items() if n}

    def end(self):
        """Who lost what is told together: the gateway counts what it drops, and queues beside it what they do."""
        net = self.net
        lost = self.lost()
        beside = loss.beside(*net.branches.values(), net.inet, net.gw, *(r.ns for r in net.routers.values()))
        self.c.equal((lost, net.gateway.drops(), beside), ({}, {}, {}),
                     "lost, drop reasons of the gateway, queues beside it and before it that overflowed")


def child_by_branch(c, delay):
    t = Rekeying(c, delay=delay)
    for _ in range(8 if delay else 20):
        t.renewed(t.r.spis, t.r.rekey, "the CHILD_SA to be renewed by the branch")
    t.end()


def child_by_gateway(c, delay):
    t = Rekeying(c, delay=delay)
    for _ in range(8 if delay else 20):
        t.renewed(t.r.spis, lambda: t.net.gateway.rekey("t1"), "the CHILD_SA to be renewed by the gateway")
    t.end()


@case(needs=ipsec.NEEDS)
def child_by_the_branch(c):
    """
        br1: iperf3, 400 numbered datagrams a second -- rt1: swanctl --rekey --child -- gw -- inet: echo

    CREATE_CHILD_SA by the branch, which sends on the new SA as soon as it has it.
    """
    child_by_branch(c, False)


@case(needs=ipsec.NEEDS)
def child_by_the_branch_far_away(c):
    """
        br1: iperf3, 400 numbered datagrams a second -- rt1: swanctl --rekey --child ~~ 50 ms ~~ gw -- inet: echo

    The same, where a tenth of a second of traffic is under way on the old SAs.
    """
    child_by_branch(c, True)


@case(needs=ipsec.NEEDS)
def child_by_the_gateway(c):
    """
        br1: iperf3, 400 numbered datagrams a second -- rt1 -- gw: arrctl rekey --child -- inet: echo

    CREATE_CHILD_SA by the gateway: the branch has the new SA first.
    """
    child_by_gateway(c, False)


@case(needs=ipsec.NEEDS)
def child_by_the_gateway_far_away(c):
    """
        br1: iperf3, 400 numbered datagrams a second -- rt1 ~~ 50 ms ~~ gw: arrctl rekey --child -- inet: echo

    The same, 50 ms away.
    """
    child_by_gateway(c, True)


@case(needs=ipsec.NEEDS)
def child_by_both(c):
    """
        br1: iperf3, 400 numbered datagrams a second -- rt1: rekey ~~ 50 ms ~~ gw: rekey, at the same time -- inet: echo

    The collision of RFC 7296 2.8.1: both begin before they hear of the other.
    """
    t = Rekeying(c, delay=True)
    for _ in range(6):
        before = t.r.spis()
        t.net.gateway.rekey("t1")
        t.r.rekey()

        def settled():
            return len(t.r.spis()) == 1 and not t.r.spis() & before and not t.r.children("REKEYING", "REKEYED", "DELETING")
        c.wait(settled, 10, "one new CHILD_SA to be left")
        t.r.wait_used()
    t.end()


def ike_by(c, delay, act):
    """The IKE_SA is renewed; the CHILD_SA goes over to the new one, is renewed there by either side, and ends with it."""
    t = Rekeying(c, delay=delay)
    for _ in range(2 if delay else 6):
        t.renewed(t.ike, lambda: act(t), "the IKE_SA to be renewed")
        t.renewed(t.r.spis, t.r.rekey, "the CHILD_SA to be renewed on it by the branch")
        t.renewed(t.r.spis, lambda: t.net.gateway.rekey("t1"), "the CHILD_SA to be renewed on it by the gateway")
    t.end()


@case(needs=ipsec.NEEDS)
def ike_by_the_branch(c):
    """
        br1: iperf3, 400 numbered datagrams a second -- rt1: swanctl --rekey --ike -- gw -- inet: iperf3, echo

    The branch renews the IKE_SA, and either side the CHILD_SA on the new one.
    """
    ike_by(c, False, lambda t: t.r.rekey(child=False))


@case(needs=ipsec.NEEDS)
def ike_by_the_branch_far_away(c):
    """
        br1: iperf3, 400 numbered datagrams a second -- rt1: swanctl --rekey --ike ~~ 50 ms ~~ gw -- inet: iperf3, echo

    The same, 50 ms away.
    """
    ike_by(c, True, lambda t: t.r.rekey(child=False))


@case(needs=ipsec.NEEDS)
def ike_by_the_gateway(c):
    """
        br1: iperf3, 400 numbered datagrams a second -- rt1 -- gw: arrctl rekey --ike -- inet: iperf3, echo

    The gateway renews the IKE_SA, and either side the CHILD_SA on the new one.
    """
    ike_by(c, False, lambda t: t.net.gateway.rekey("t1", child=False))


@case(needs=ipsec.NEEDS)
def ike_by_the_gateway_far_away(c):
    """
        br1: iperf3, 400 numbered datagrams a second -- rt1 ~~ 50 ms ~~ gw: arrctl rekey --ike -- inet: iperf3, echo

    The same, 50 ms away.
    """
    ike_by(c, True, lambda t: t.net.gateway.rekey("t1", child=False))


@case(needs=ipsec.NEEDS)
def with_perfect_forward_secrecy(c):
    """
        br1: iperf3, 400 numbered datagrams a second -- rt1 ~~ 50 ms ~~ gw: esp_proposals = aes256gcm16-ecp384 -- inet: echo

    A CHILD_SA's keys of an exchange of their own (PFS).
    """
    t = Rekeying(c, delay=True, tunnel={"esp_proposals": "aes256gcm16-ecp384"},
                 branch={"child": {"esp_proposals": "aes256gcm16-ecp384"}})
    for _ in range(3):
        t.renewed(t.r.spis, t.r.rekey, "the CHILD_SA to be renewed by the branch")
        t.renewed(t.r.spis, lambda: t.net.gateway.rekey("t1"), "the CHILD_SA to be renewed by the gateway")
    c.equal(t.r.children("INSTALLED")[0].get("dh-group"), "ECP_384", "group of the CHILD_SA")
    t.end()


@case(needs=ipsec.NEEDS)
def reauthentication(c):
    """
        br1: iperf3, 400 numbered datagrams a second -- rt1: swanctl --rekey --ike --reauth, make before break -- gw -- inet

    A new IKE_SA with new authentication and a new CHILD_SA beside the old one (RFC 7296 2.8.3): the tunnel is the same.
    Here strongSwan does not keep the old inbound SA for a while, as it does after a rekey: it throws it away when its DELETE
    is answered. Until then it may send by the old SA, and so may the gateway, which does not send by the new one before
    it has heard of it there, or was asked to delete the old one. So what is under way just then reaches a branch that has
    no key for it any more, which it logs. Nothing else is lost, and nothing in the other direction.
    """
    t = Rekeying(c, iperf=500, branch={"more": {"make_before_break": "yes", "filelog": {"f": {"esp": 2}}}})
    tap = between.Tap(t.net, to_gateway=None, match=lambda o: o.is_esp or o.is_ike and o.payload[22] == INFORMATIONAL)
    times = 6
    for _ in range(times):
        tap.forget()
        t.renewed(t.ike, lambda: t.r.rekey(child=False, reauth=True), "reauthentication")
        c.wait(lambda: len(t.r.children()) == 1, 5, "one CHILD_SA to be left")
        t.r.wait_used()
        (theirs, ours), = t.r.spis()
        heard = [(o.src == t.net.remote(1), o.spi if o.is_esp else "DELETE") for o in tap.listen()]
        asked = min(heard.index(what) for what in ((True, ours), (True, "DELETE")) if what in heard)
        c.check(asked < heard.index((False, theirs)), "the gateway sent by the new SA although the branch might not have it")
    lost = t.lost()
    keyless = t.r.said("ESP packet does not belong to an installed SA")
    c.remark(f"{sum(lost.values())} lost")
    c.check(set(lost) <= {"to the branch", "there and back"} and sum(lost.values()) <= keyless <= 100 * times,
            f"lost: {lost}; came to the branch when it had no key any more: {keyless}")
    c.equal(t.net.gateway.drops(), {}, "drop reasons")


@case(needs=ipsec.NEEDS)
def reauthentication_as_strongswan_does(c):
    """
        br1: numbered datagrams -- rt1: swanctl --rekey --ike --reauth, break before make -- gw -- inet

    What strongSwan does by default ends the IKE_SA before it makes another, so something is lost; it is a moment only.
    """
    # So near, the answer to IKE_SA_INIT can come before the branch has the IKE_SA that it is for; it asks again, by default
    # after 4 s. There is no other reason to.
    t = Rekeying(c, branch={"more": {"retransmit_timeout": "0.2"}}, iperf=0)
    t.renewed(t.ike, lambda: t.r.rekey(child=False, reauth=True), "reauthentication")
    t.r.wait_used()
    again = t.r.said("retransmit [0-9]+ of request")
    c.check(again <= 1, f"{again} messages of the branch had to be sent again")
    for s in t.streams:
        j = s.end()
        c.equal(j["wrong"], 0, f"wrong datagrams: {j}")
        c.check(j["gap_ms"] < (300 + 200 * again) * c.scale, f"the gap, with {again} retransmissions: {j}")
        c.remark(f"gap {j['gap_ms']} ms")


@case(needs=ipsec.NEEDS)
def two_branches(c):
    """
        br1: numbered datagrams -- rt1 \\
                                         both rekey CHILD and IKE at once -- gw -- inet: echo
        br2: numbered datagrams -- rt2 /

    Equal addresses and ports, equal selectors: while keys are renewed everybody has his own answers.
    """
    t = Rekeying(c, sites=2, nat="masquerade", pps=100, watch=True, iperf=0)
    for n in range(4):
        before = {i: {ch["spi-in"] for ch in r.children("INSTALLED")} for i, r in t.net.routers.items()}
        for i, r in t.net.routers.items():
            if (n + i) % 2:
                r.rekey()
            else:
                t.net.gateway.rekey(f"t{i}")
        for i, r in t.net.routers.items():
            c.wait(lambda: {ch["spi-in"] for ch in r.children("INSTALLED")}.isdisjoint(before[i]), 10, f"new keys of {r.name}")
            if n == 1:
                r.rekey(child=False)
    t.end()
    t.net.judged()


def seal(spi, seq, key, inner):
    """An ESP packet in tunnel mode around an IPv4 packet, AES-GCM with 16 octets of ICV (RFC 4106). key: with its salt."""
    head, iv = struct.pack("!II", spi, seq), struct.pack("!Q", seq)
    pad = -(len(inner) + 2) % 4
    text = inner + bytes(range(1, pad + 1)) + bytes([pad, 4])
    return head + iv + AESGCM(key[:-4]).encrypt(key[-4:] + iv, text, head)


class Far(between.Delay):
    MS = 300


@case(needs=ipsec.NEEDS)
def new_sa_used_at_once(c):
    """
        br1: rt1: its answer ~~ 300 ms ~~ \
                                            gw: arrctl rekey --child -- inet: hears each datagram once
        somebody who has rt1's new keys -- /

    strongSwan as responder sends by the old SA until that is deleted; RFC 7296 2.8 lets it send by the new one at once. So
    this is done for it, with the keys from its log: ESP by the new SA is there long before the answer with which
    the gateway makes its own keys. It waits for them; nothing is lost, doubled or out of order.
    """
    net = ipsec.Net(c, sites=1, tunnel={"esp_proposals": "aes256gcm16"}, branch={
        "between": Far, "child": {"esp_proposals": "aes256gcm16"}, "more": {"filelog": {"f": {"chd": 4}}}})
    g, r = net.gateway, net.routers[1]
    server = net.inet.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.setsockopt(socket.SOL_SOCKET, loss.RCVBUFFORCE, loss.ROOM)
    server.bind((topo.SERVER, 7300))
    tap, answer = between.Tap(net), between.Tap(net, match=lambda o: o.is_ike and o.payload[22] == CREATE_CHILD_SA)
    r.ping()
    sample = next(o for o in tap.listen() if o.is_esp)
    before, count = g.drops(), SAD_HOLD_MAX
    for n in range(3):
        answer.forget()
        known = len(r.child_keys())
        g.rekey("t1")
        c.wait(lambda: len(r.child_keys()) > known, 5, "the new keys of the branch")
        spi, key = r.child_keys()[-1]
        # As long as the pings.
        esp = [seal(spi, seq, key, packets.udp(topo.HOST, topo.SERVER, 45000, 7300, struct.pack("!II48x", n, seq)))
               for seq in range(1, count + 1)]
        tap.send([sample.with_payload(p) for p in esp])
        c.equal(answer.listen(), [], "the branch's answer, before all of these were sent")
        c.wait(lambda: select.select([server], [], [], 0)[0], 3, f"datagrams at the server; drops: {g.drops()}")
        c.equal([struct.unpack("!II48x", server.recv(100)) for _ in esp], [(n, seq) for seq in range(1, count + 1)],
                "datagrams at the server")
        c.equal(g.drops(), before, "drop reasons")
        c.wait(lambda: len(r.spis()) == 1 and len(r.children()) == 1, 10, "one CHILD_SA to be left")
    r.rekey()
    c.wait(lambda: len(r.child_keys()) > known + 1 and len(r.spis()) == 1, 5, "another CHILD_SA")
    r.ping()


@case(needs=ipsec.NEEDS)
def sent_before_the_keys_are_there(c):
    """
        br1: 2000 datagrams a second -- rt1 -- gw: arrctl initiate, terminate, again and again -- inet: echo

    Where the gateway begins, the branch has its SAs first, and sends by them at once: what comes before the gateway's key
    exchange is done waits for it. Nothing is dropped.
    """
    net = ipsec.Net(c, sites=1, up=False)
    g, r = net.gateway, net.routers[1]
    stream = between.Stream(net, 1, pps=2000)
    for _ in range(6):
        before = {k: n for k, n in g.drops().items() if k.startswith("esp")}
        g.initiate("t1")
        c.wait(lambda: g.is_up("t1"), 5, "t1 to be up")
        r.wait_used()
        c.equal({k: n for k, n in g.drops().items() if k.startswith("esp")}, before, "drops")
        g.terminate("t1")
        c.wait(lambda: not r.sas() and not g.is_up("t1"), 5, "t1 to be down")
        # From here on the branch sends nothing; what it still sent came after its SA had ended.
    j = stream.end()
    c.check(j["got"] > 100 and j["wrong"] == 0, f"the stream: {j}")


@case(needs=ipsec.NEEDS)
def by_volume(c):
    """
        br1: numbered datagrams -- rt1 -- gw: child_rekey_packets = 1000 -- inet: echo

    The gateway renews a CHILD_SA because of what passed it: again and again, without a loss.
    """
    t = Rekeying(c, tunnel={"child_rekey_packets": 1000}, iperf=0)
    seen = set()
    c.wait(lambda: seen.update(t.r.spis()) or len(seen) >= 4, 20, "the third renewal because of 1000 packets")
    t.end()


@case(limit=150, soak=True, needs=ipsec.NEEDS)
def by_time(c):
    """
        br1: numbered datagrams -- rt1: rekey_time = 11 s ~~ 50 ms ~~ gw: child_rekey = 10 s, ike_rekey = 25 s -- inet: echo

    Two minutes in which both sides renew CHILD and IKE_SAs by the clock, in all orders that come about.
    """
    t = Rekeying(c, delay=True, tunnel={"child_rekey": 10, "ike_rekey": 25},
                 branch={"child": {"rekey_time": "11s"}, "conn": {"rekey_time": "30s"}})
    seen, ikes = set(), set()
    c.wait(lambda: seen.update(t.r.spis()) or ikes.update(t.ike()) or (len(seen) >= 8 and len(ikes) >= 4), 120,
           f"seven renewals of CHILD_SAs and three of IKE_SAs: {len(seen)}, {len(ikes)}")
    t.end()
