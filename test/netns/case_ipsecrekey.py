# SPDX-License-Identifier: GPL-2.0-or-later
"""Keys are renewed under traffic, by either side and by both at once, and nothing is lost."""
import between
import ipsec
import topo
from harness import case


class Rekeying:
    """A branch with a stream of numbered datagrams each way, which must lose nothing whatever is rekeyed."""

    def __init__(self, c, sites=1, delay=False, tunnel=None, branch=None, pps=200, watch=False, **more):
        self.c = c
        self.net = ipsec.Net(c, sites=sites, tunnel=tunnel,
                             branch={**(branch or {}), **({"between": between.Delay} if delay else {})}, **more)
        if watch:
            self.net.wirewatch(private="10.0.0.0/8" if self.net.gateway.egress["nat"] != "none" else None)
        self.streams = [between.Stream(self.net, i, pps, server=server, port=46000).ready()
                        for i in self.net.branches for server in (topo.SERVER, topo.SERVER6)]
        self.r = self.net.routers[1]

    def ike(self):
        return {sa["initiator-spi"] for sa in self.r.sas() if sa["state"] == "ESTABLISHED"}

    def renewed(self, read, act, what):
        """After act() there is exactly one other than before, and it is in use by both sides."""
        before = read()
        act()
        self.c.wait(lambda: len(read()) == 1 and not read() & before, 10, f"{what}; before: {before}")
        if read == self.r.spis:
            self.r.wait_used()

    def end(self):
        for s in self.streams:
            s.nothing_lost()
        drops = self.net.gateway.drops()
        self.c.equal(drops, {}, "drop reasons")


def child_by_branch(c, delay):
    t = Rekeying(c, delay=delay)
    for _ in range(6):
        t.renewed(t.r.spis, t.r.rekey, "the CHILD_SA to be renewed by the branch")
    t.end()


def child_by_gateway(c, delay):
    t = Rekeying(c, delay=delay)
    for _ in range(6):
        t.renewed(t.r.spis, lambda: t.net.gateway.rekey("t1"), "the CHILD_SA to be renewed by the gateway")
    t.end()


@case(needs=ipsec.NEEDS)
def child_by_the_branch(c):
    """
        br1: 400 numbered datagrams a second -- rt1: swanctl --rekey --child -- gw -- inet: echo

    CREATE_CHILD_SA by the branch, which sends on the new SA as soon as it has it.
    """
    child_by_branch(c, False)


@case(needs=ipsec.NEEDS)
def child_by_the_branch_far_away(c):
    """
        br1: 400 numbered datagrams a second -- rt1: swanctl --rekey --child ~~ 50 ms ~~ gw -- inet: echo

    The same, where a tenth of a second of traffic is under way on the old SAs.
    """
    child_by_branch(c, True)


@case(needs=ipsec.NEEDS)
def child_by_the_gateway(c):
    """
        br1: 400 numbered datagrams a second -- rt1 -- gw: arrctl rekey --child -- inet: echo

    CREATE_CHILD_SA by the gateway: the branch has the new SA first.
    """
    child_by_gateway(c, False)


@case(needs=ipsec.NEEDS)
def child_by_the_gateway_far_away(c):
    """
        br1: 400 numbered datagrams a second -- rt1 ~~ 50 ms ~~ gw: arrctl rekey --child -- inet: echo

    The same, 50 ms away.
    """
    child_by_gateway(c, True)


@case(needs=ipsec.NEEDS)
def child_by_both(c):
    """
        br1: 400 numbered datagrams a second -- rt1: rekey ~~ 50 ms ~~ gw: rekey, at the same time -- inet: echo

    The collision of RFC 7296 2.8.1: both begin before they hear of the other.
    """
    t = Rekeying(c, delay=True)
    for _ in range(3):
        before = t.r.spis()
        t.net.gateway.rekey("t1")
        t.r.rekey()

        def settled():
            return len(t.r.spis()) == 1 and not t.r.spis() & before and not t.r.children("REKEYING", "REKEYED", "DELETING")
        c.wait(settled, 10, "one new CHILD_SA to be left")
        t.r.wait_used()
    t.end()


@case(needs=ipsec.NEEDS)
def ike_by_either(c):
    """
        br1: 400 numbered datagrams a second -- rt1: rekeys the IKE_SA ~~ 50 ms ~~ gw: rekeys the IKE_SA -- inet: echo

    The IKE_SA is renewed by either side; the CHILD_SA goes over to the new one, is renewed there, and ends with it.
    """
    t = Rekeying(c, delay=True)
    for act in (lambda: t.r.rekey(child=False), lambda: t.net.gateway.rekey("t1", child=False)):
        t.renewed(t.ike, act, "the IKE_SA to be renewed")
        t.renewed(t.r.spis, t.r.rekey, "the CHILD_SA to be renewed on it by the branch")
        t.renewed(t.r.spis, lambda: t.net.gateway.rekey("t1"), "the CHILD_SA to be renewed on it by the gateway")
    t.end()


@case(needs=ipsec.NEEDS)
def with_perfect_forward_secrecy(c):
    """
        br1: 400 numbered datagrams a second -- rt1 ~~ 50 ms ~~ gw: esp_proposals = aes256gcm16-ecp384 -- inet: echo

    A CHILD_SA's keys of an exchange of their own (PFS).
    """
    t = Rekeying(c, delay=True, tunnel={"esp_proposals": "aes256gcm16-ecp384"},
                 branch={"child": {"esp_proposals": "aes256gcm16-ecp384"}})
    t.renewed(t.r.spis, t.r.rekey, "the CHILD_SA to be renewed by the branch")
    t.renewed(t.r.spis, lambda: t.net.gateway.rekey("t1"), "the CHILD_SA to be renewed by the gateway")
    c.equal(t.r.children("INSTALLED")[0].get("dh-group"), "ECP_384", "group of the CHILD_SA")
    t.end()


@case(needs=ipsec.NEEDS)
def reauthentication(c):
    """
        br1: 400 numbered datagrams a second -- rt1: swanctl --rekey --ike --reauth, make before break -- gw -- inet: echo

    A new IKE_SA with new authentication and a new CHILD_SA beside the old one (RFC 7296 2.8.3): the tunnel is the same.
    The branch throws the old SAs away as soon as its DELETE is answered: what the gateway's loop sends by them in just
    that moment is lost, if anything.
    """
    t = Rekeying(c, branch={"more": {"make_before_break": "yes"}})
    for _ in range(2):
        t.renewed(t.ike, lambda: t.r.rekey(child=False, reauth=True), "reauthentication")
        c.wait(lambda: len(t.r.children()) == 1, 5, "one CHILD_SA to be left")
        t.r.wait_used()
    for stream in t.streams:
        j = stream.end()
        c.check(j["lost"] <= 5 + stream.overflowed() and j["wrong"] == 0, f"the stream: {j}")
    c.equal(t.net.gateway.drops(), {}, "drop reasons")


@case(needs=ipsec.NEEDS)
def reauthentication_as_strongswan_does(c):
    """
        br1: numbered datagrams -- rt1: swanctl --rekey --ike --reauth, break before make -- gw -- inet: echo

    What strongSwan does by default ends the IKE_SA before it makes another, so something is lost; it is a moment only.
    """
    # So near, an answer can come before the branch has the IKE_SA that it is for; it asks again, by default after 4 s.
    t = Rekeying(c, branch={"more": {"retransmit_timeout": "0.2"}})
    t.renewed(t.ike, lambda: t.r.rekey(child=False, reauth=True), "reauthentication")
    t.r.wait_used()
    for s in t.streams:
        j = s.end()
        c.equal(j["wrong"], 0, f"wrong datagrams: {j}")
        c.check(j["gap_ms"] < 1000, f"the gap: {j}")
        c.remark(f"gap {j['gap_ms']} ms")


@case(needs=ipsec.NEEDS)
def two_branches(c):
    """
        br1: numbered datagrams -- rt1 \\
                                         both rekey CHILD and IKE at once -- gw -- inet: echo
        br2: numbered datagrams -- rt2 /

    Equal addresses and ports, equal selectors: while keys are renewed everybody has his own answers.
    """
    t = Rekeying(c, sites=2, nat="masquerade", pps=100, watch=True)
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
    t = Rekeying(c, tunnel={"child_rekey_packets": 1000})
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
