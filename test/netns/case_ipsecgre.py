# SPDX-License-Identifier: GPL-2.0-or-later
"""GRE over IPsec, as routers do it that run routing protocols; the IPsec is stock strongSwan's, in tunnel mode."""
import socket

import between
import ipsec
import packets
import topo
from case_home import all_home, ask_everything
from case_gre import upload_and_download
from harness import case

MTU = 1372


class GreOver(ipsec.Net):
    """Branches whose routers send GRE, from their outer address to the gateway's, and protect exactly that by IPsec.

        br1: 10.0.1.5 tun0 ~~ test CPE in rt1: GRE 203.0.113.11 > 203.0.113.1 -- ipsec0 -- wan0 203.0.113.11

    The gateway has two tunnels for each: v1 of type ipsec, and t1 of type gre over v1.
    """

    def __init__(self, case, sites=2, start=True, wide=(), **more):
        """wide: branches that may send from any address as far as IPsec is concerned."""
        gre = more.pop("gre", ())
        super().__init__(case, sites=sites, gre=gre, start=False, up=False, branch=lambda i: {
            "ts": "0.0.0.0/0" if i in wide else f"{self.remote(i)}/32", "remote_ts": f"{self.local}/32"}, **more)
        g = self.gateway
        self.cpes = {}
        for i, r in self.routers.items():
            self.put_gre_over(i, MTU, local_ts=f"{self.local}/32",
                              remote_ts="0.0.0.0/0" if i in wide else f"{self.remote(i)}/32")
            # The way to the peer leads into ipsec0, so nothing may be preferred to table 220.
            r.ns.ip("rule del pref 219")
            r.host.ip("link del eth0")
            self.mtu = MTU
            self.branch(i)
            self.cpes[i] = r.ns.tool("cpe", *self.cpe_branch(i), name=f"cpe{i}").ready()
        g.write()
        if start:
            g.start()
            self.up()

    def wirewatch(self, *more, private=None, **_):
        args = ["--wan", "wan0", "--egress", "eth0", "--tagged", topo.TAGGED, "--tagged", topo.SLOW]
        for i in self.routers:
            args += ["--inside", f"netns={self.branches[i].name},dev=tun0,tag={i}"]
        if private:
            args += ["--private", private]
        self.watch = self.gw.tool("wirewatch", *args, *more).ready()
        return self.watch


def gre_in_clear(net):
    return packets.Ear(net.wan, "br0", lambda s: s.proto == packets.GRE)


@case(needs=ipsec.NEEDS)
def in_tunnel_mode(c):
    """
        br1: 10.0.1.5 -- GRE 203.0.113.11 > 203.0.113.1 -- rt1: ESP \\
                                                                     gw: t1 over v1, t2 over v2, masquerade -- inet
        br2: 10.0.1.5 -- GRE 203.0.113.12 > 203.0.113.1 -- rt2: ESP /

    Equal addresses inside of GRE inside of ESP; everybody has his own answers, and no GRE is on the wire.
    """
    net = GreOver(c, nat="masquerade")
    ear = packets.Ear(net.gw, "wan0", lambda s: s.proto == packets.GRE, sent=True)
    came = packets.Ear(net.gw, "wan0", lambda s: s.proto == packets.GRE)
    net.wirewatch(private="10.0.0.0/8")
    for server in (topo.SERVER, topo.SERVER6):
        ask_everything(c, net, server=server)
    upload_and_download(c, net, net.branches, 2 << 20)
    all_home(c, net, net.judged())
    c.equal((ear.listen(), came.listen()), ([], []), "GRE in the clear")
    c.equal(net.gateway.drops(), {}, "drop reasons")


@case(needs=ipsec.NEEDS)
def never_in_the_clear(c):
    """
        somebody at 203.0.113.11: GRE without ESP \\
        br1: GRE in ESP of v1 --------------------- gw: t1 over v1, t2 over v2 -- inet
        br2: GRE of t1's addresses in ESP of v2 -- /
        br3: test CPE, GRE ---------------------- /

    A tunnel with over takes nothing but what came by that IPsec tunnel, and sends nothing while that is down.
    """
    net = GreOver(c, sites=3, gre=(3,), wide=(2,), tunnel=lambda i: {"mtu": MTU} if i == 3 else {})
    for br in net.branches.values():
        br.run(["ping", "-q", "-c", "2", "-i", "0.05", "-W", "3", topo.SERVER])
    ear = packets.Ear(net.inet, "eth0", lambda s: s.icmp == (8, 0))
    out = packets.Ear(net.gw, "wan0", lambda s: s.proto == packets.GRE, sent=True)
    inner = packets.gre(packets.echo(topo.HOST, topo.SERVER, ident=77))
    before = net.drop("gre_elsewhere")
    clear = net.routers[1].ns.socket(socket.AF_INET, socket.SOCK_RAW, packets.GRE)
    clear.setsockopt(socket.SOL_SOCKET, 36, int(ipsec.MARK, 16))  # SO_MARK: not by table 220
    clear.bind((net.remote(1), 0))
    for _ in range(10):
        clear.sendto(inner, (net.local, 0))
    net.gateway.wait_drop("gre_elsewhere", before + 9)
    # In the tunnel of another branch, whose selectors allow every address: an ordinary packet, to the gateway itself.
    before = net.drop("dst_gateway"), net.gateway.tunnel("t1")["rx_packets"]
    two = net.routers[2].ns.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    for _ in range(10):
        two.sendto(packets.ip(net.remote(1), net.local, packets.GRE,
                              packets.gre(packets.echo(topo.HOST, topo.SERVER, ident=78))), (net.local, 0))
    net.gateway.wait_drop("dst_gateway", before[0] + 9)
    c.equal(net.gateway.tunnel("t1")["rx_packets"], before[1], "packets that t1 received")
    c.equal([str(s) for s in ear.listen() if s.l4[4:6] in (b"\0\x4d", b"\0\x4e")], [], "left by the egress")
    net.gateway.terminate("v1")
    c.wait(lambda: net.gateway.tunnel("t1")["state"] == "down", 5, "t1 to be down with v1")
    br = net.branches[1]
    br.run(["ping", "-q", "-c", "1", "-W", "0.5", topo.SERVER], ok=None)
    c.check(c.last.returncode != 0, "a ping through a tunnel that is down was answered")
    c.equal(out.listen(), [], "GRE that the gateway sent in the clear")
    net.branches[2].run(["ping", "-q", "-c", "2", "-i", "0.05", "-W", "3", topo.SERVER])
    net.routers[1].up()
    br.run(["ping", "-q", "-c", "2", "-i", "0.05", "-W", "3", topo.SERVER])


@case(needs=ipsec.NEEDS)
def rekeyed(c):
    """
        br1: numbered datagrams -- GRE -- rt1: ESP, rekeyed by both -- gw: t1 over v1 -- inet: echo

    What is inside does not notice that keys are renewed below it.
    """
    net = GreOver(c, sites=1)
    stream = between.Stream(net, 1).ready()
    r = net.routers[1]
    for act in (r.rekey, lambda: net.gateway.rekey("v1"), lambda: r.rekey(child=False)):
        before = {ch["spi-in"] for ch in r.children("INSTALLED")}, {sa["initiator-spi"] for sa in r.sas()}
        act()
        c.wait(lambda: len(r.children()) == 1 and ({ch["spi-in"] for ch in r.children("INSTALLED")},
                                                   {sa["initiator-spi"] for sa in r.sas()}) != before, 10, "new keys")
    stream.nothing_lost()
