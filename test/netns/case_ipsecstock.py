# SPDX-License-Identifier: GPL-2.0-or-later
"""The IPsec tests' own rig, without arrd: stock strongSwan in its place, and the judge finds what that does wrong."""
import between
import ipsec
import kernelesp
import topo
from case_home import all_home
from harness import case


class StockGateway(ipsec.Gateway):
    """strongSwan with kernel-libipsec as the gateway: one way to 10.0.1.0/24, that of whoever came last."""

    def start(self, wait=True):
        secrets = {f"ike-{i}": {"id": ipsec.branch_id(i), "secret": f'"{ipsec.psk(i)}"'} for i in range(1, len(self.tunnels) + 1)}
        local = next(iter(self.tunnels.values()))["local"]
        self.ns.sysctl({"net/ipv4/ip_forward": 1, "net/ipv6/conf/all/forwarding": 1, "net/ipv4/conf/all/rp_filter": 0})
        self.charon = ipsec.Charon(self.case, self.ns, "hub", local, "%any", ipsec.GW_ID, "%any", secret="-", secrets=secrets,
                                   local_ts=ipsec.ANYWHERE, remote_ts=f"{ipsec.LAN_NET},{ipsec.LAN_NET6}")
        self.charon.start().ready()
        return self


class StockNet(kernelesp.Net):
    gateway_class = StockGateway


def served(c, net, allow=("multicast",)):
    net.wirewatch()
    for server in (topo.SERVER, topo.SERVER6):
        for proto in ("tcp", "udp", "ping"):
            p = net.tagclient("--count", 10, "--requests", 10, "--octets", 1200, proto=proto, server=server)
            c.equal(p.wait(20), 0, f"{proto} to {server}: {p.output()[-500:]} {p.errors()[-500:]}")
    j = net.judged(allow=allow)
    all_home(c, net, j)
    c.check(j["tunnel_out"]["udp"] == 200 and j["tunnel_out"]["echo"] == 200, f"wrong count: {j['tunnel_out']}")


@case(needs=ipsec.NEEDS)
def one_branch(c):
    """
        br1: 10.0.1.5 -- rt1: strongSwan -- gw: strongSwan -- inet: tagserver

    One branch alone: every answer comes, is right, and was checked inside of the branch; keys are renewed without a loss.
    """
    net = StockNet(c, {}, sites=1)
    served(c, net)
    stream = between.Stream(net, 1).ready()
    r = net.routers[1]
    before = r.spis()
    r.rekey()
    c.wait(lambda: r.spis() and not r.spis() & before, 5, "new keys")
    r.wait_used()
    stream.nothing_lost()


@case(needs=ipsec.NEEDS)
def one_branch_far_away(c):
    """
        br1: 10.0.1.5 -- rt1: strongSwan -- NAT -- gw: strongSwan -- inet: tagserver
        br1: 10.0.1.5 -- rt1: strongSwan ~~ 50 ms ~~ gw: strongSwan -- inet: tagserver

    What stands between works: a NAT with other ports, and a line that takes 50 ms each way.
    """
    for what, rtt in ((between.Nat, 0), (between.Delay, 100)):
        net = StockNet(c, {}, sites=1, branch={"between": what})
        tap = between.Tap(net)
        out = net.routers[1].host.run(["ping", "-q", "-c", "4", "-i", "0.1", "-W", "2", topo.SERVER])
        least = float(out.split("= ")[1].split("/")[0])
        c.check(rtt - 2 <= least <= rtt + 20, f"round trip of {least} ms, expected {rtt}")
        ports = {o.sport for o in tap.listen()}
        c.check(ports and all((20000 <= p < 21000) == (what is between.Nat) for p in ports), f"source ports {ports}")
        for f in c.finishers:
            f()
        c.finishers.clear()
        net.remove()


@case(limit=40, needs=ipsec.NEEDS + ("linux.uml",))
def kernel_branch(c):
    """
        br1: 10.0.1.5 -- Linux kernel, ESP in UDP -- gw: strongSwan -- inet: tagserver

    The branch router in User-Mode Linux, against another implementation in user space.
    """
    net = StockNet(c, {1: {"conn": {"encap": "yes"}}})
    served(c, net)
    c.equal(net.guests[1].errors(), {}, "what the kernel counted as wrong")


@case(needs=ipsec.NEEDS)
def judge_sees_wrong_site(c):
    """
        br1: 10.0.1.5 -- rt1: strongSwan \\
                                           gw: strongSwan -- inet: tagserver
        br2: 10.0.1.5 -- rt2: strongSwan /

    A stock gateway has one way to two branches with equal selectors. Its answers to one of them reach the other: the judge
    finds out, in TCP, UDP and ping.
    """
    net = StockNet(c, {}, sites=2)
    net.wirewatch()
    for proto in ("tcp", "udp", "ping"):
        for i in (1, 2):
            net.tagclient("--requests", 1, "--timeout", 1, branches=[i], proto=proto, name=f"{proto}{i}").wait(20)
    net.watch.stop()
    j = net.watch.json()
    notes = "\n".join(j["notes"])
    c.check(j["misdelivered"] > 0, f"packets went to the wrong site, and nobody noticed: {j}")
    # One of the two had conversations of its own with the same tuples before; the other had none.
    for proto in (" proto 6 ", " proto 17 ", " proto 1 "):
        c.check(proto in notes, f"nothing misdelivered of{proto}: {notes}")
