# SPDX-License-Identifier: GPL-2.0-or-later
"""Branch routers whose ESP is that of a real Linux kernel, in User-Mode Linux."""
import socket

import between
import ipsec
import kernelesp
import packets
import topo
from case_ipsec import everything_comes_home
from harness import case

NEEDS = ipsec.NEEDS + ("linux.uml",)


@case(limit=40, needs=NEEDS)
def native_esp(c):
    """
        br1: 10.0.1.5 -- Linux kernel, ESP, protocol 50 ----- \\
                                                                gw, masquerade -- inet
        br2: 10.0.1.5 -- rt2: strongSwan in user space, UDP -- /

    Without a NAT a kernel sends protocol 50. Beside a branch with equal addresses; then its keys are renewed by both
    sides under traffic.
    """
    net = kernelesp.Net(c, {1: {}}, sites=2, nat="masquerade")
    g = net.guests[1]
    tap = between.Tap(net, match=lambda o: o.src == net.remote(1) and (o.is_esp or o.is_ike))
    g.ping(topo.SERVER)
    g.ping(topo.SERVER6)
    c.equal({o.proto for o in tap.listen() if not o.is_ike}, {50}, "protocols of ESP")
    c.equal(set(g.spis().values()), {False}, "encapsulation in the kernel")
    everything_comes_home(c, net)
    stream = between.Stream(net, 1).ready()
    for act in (g.rekey, lambda: net.gateway.rekey("t1")):
        before = set(g.spis())
        act()
        c.wait(lambda: len(set(g.spis()) - before) == 2, 10, "new SAs in the kernel")  # the old one inbound stays for a while
    g.rekey(child=False)
    g.ping(topo.SERVER)
    stream.nothing_lost()
    c.equal(g.errors(), {}, "what the kernel counted as wrong")


@case(limit=40, needs=NEEDS)
def esp_in_udp(c):
    """
        br1: 10.0.1.5 -- Linux kernel, encap = yes: ESP in UDP -- gw, masquerade -- inet

    The kernel's ESP in UDP (RFC 3948), with CBC and HMAC.
    """
    net = kernelesp.Net(c, {1: {"conn": {"encap": "yes"}, "child": {"esp_proposals": "aes256-sha256"}}}, nat="masquerade")
    g = net.guests[1]
    tap = between.Tap(net)
    g.ping(topo.SERVER)
    c.equal({o.proto for o in tap.listen()}, {packets.UDP}, "protocols of ESP")
    everything_comes_home(c, net)
    c.equal(g.errors(), {}, "what the kernel counted as wrong")


@case(limit=40, needs=NEEDS)
def outer_ipv6(c):
    """
        br1: 10.0.1.5 -- Linux kernel, ESP over IPv6, extended sequence numbers -- gw -- inet

    ESP as IPv6's next header, with ESN.
    """
    net = kernelesp.Net(c, {1: {"child": {"esp_proposals": "aes256gcm16-esn"}}}, outer=6)
    g = net.guests[1]
    g.ping(topo.SERVER)
    c.check("esn" in g.do("ip xfrm state"), "the kernel has no extended sequence numbers")
    everything_comes_home(c, net)
    c.equal(g.errors(), {}, "what the kernel counted as wrong")


@case(limit=120, needs=NEEDS)
def each_suite(c):
    """
        br1: 10.0.1.5 -- Linux kernel, one suite after another -- gw: all of them -- inet

    Every suite against the kernel's implementation. The guest now and then does not see a packet that lies at its device, so
    one of three is enough.
    """
    suites = ("aes128gcm16", "aes192gcm16", "aes256gcm16", "chacha20poly1305", "aes128-sha256", "aes256-sha384", "aes256-sha512",
              "aes128-sha1-esn")
    net = kernelesp.Net(c, {1: {}}, up=False, tunnel={"esp_proposals": ", ".join(suites)})
    g = net.guests[1].ready()
    host = net.branches[1]
    for suite in suites:
        g.charon.conn["children"]["net"]["esp_proposals"] = suite
        g.charon.write()
        g.do(g.swanctl("--load-all", "--file", f"{g.dir}/swanctl.conf"))
        g.up()
        for size in (0, 1, 15, 16, 1300):
            host.run(["ping", "-q", "-c", "3", "-i", "0.02", "-W", "3", "-s", str(size), topo.SERVER])
        host.run(["ping", "-q", "-c", "3", "-i", "0.02", "-W", "3", topo.SERVER6])
        g.do(g.swanctl("--terminate", "--ike", "gw"))
    c.check(not set(net.gateway.drops()) & {"esp_auth", "esp_replay", "esp_padding"}, f"{net.gateway.drops()}")
    c.equal(g.errors(), {}, "what the kernel counted as wrong")


@case(limit=40, needs=NEEDS)
def selectors_are_enforced(c):
    """
        br1: Linux kernel, selectors 10.0.1.0/24 negotiated; its policy then says 10.9.9.0/24, too -- gw -- inet

    A branch that seals more than was negotiated: what is outside of the selectors is dropped by name, what is inside
    passes.
    """
    net = kernelesp.Net(c, {1: {}})
    g = net.guests[1]
    host = net.branches[1]
    host.run(["ping", "-q", "-c", "1", "-W", "3", topo.SERVER])
    said = g.do("ip xfrm policy")
    reqid = said.split("reqid ")[1].split()[0]
    g.do(f"ip xfrm policy add src 10.9.9.0/24 dst 0.0.0.0/0 dir out tmpl src {net.remote(1)} dst {net.local} "
         f"proto esp reqid {reqid} mode tunnel")
    ear = packets.Ear(net.inet, "eth0", lambda s: s.src.startswith("10.9."))
    host.ip("addr add 10.9.9.9/32 dev lo")
    s = host.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.bind(("10.9.9.9", 45000))
    for _ in range(10):
        s.sendto(b"from outside of the selectors", (topo.SERVER, 7300))
    net.gateway.wait_drop("esp_selector", 9)
    c.equal([str(x) for x in ear.listen()], [], "left by the egress")
    host.run(["ping", "-q", "-c", "1", "-W", "3", topo.SERVER])
    c.equal(net.gateway.tunnel_drops("t1").get("esp_selector"), 10, "drops of t1")


class GreNet(kernelesp.Net):
    """t1 of type gre over v1 of type ipsec."""

    def __init__(self, case, mode, conn=None, sites=1, **more):
        guests = {i: {"gre": mode, "conn": conn or {}} for i in range(1, sites + 1)}
        super().__init__(case, guests, sites=sites, start=False, **more)
        for i in guests:
            hosts = {"local_ts": f"{self.local}/32", "remote_ts": f"{self.remote(i)}/32"}
            self.put_gre_over(i, mode=mode, **(hosts if mode == "tunnel" else {}))
        self.gateway.write()
        self.gateway.start()
        self.up()


def gre(c, mode, **more):
    net = GreNet(c, mode, nat="masquerade", **more)
    ears = [packets.Ear(net.gw, "wan0", lambda s: s.proto == packets.GRE, sent=sent) for sent in (True, False)]
    for g in net.guests.values():
        for target in (topo.IF_GW, topo.SERVER):
            g.do(f"ping -q -c 3 -i 0.05 -W 2 {target}")
        c.check(f"mode {mode}" in g.do("ip xfrm state"), "the kernel has another mode")
    everything_comes_home(c, net)
    c.equal([e.listen() for e in ears], [[], []], "GRE in the clear")
    for g in net.guests.values():
        c.equal(g.errors(), {}, "what the kernel counted as wrong")
    return net


@case(limit=40, needs=NEEDS)
def gre_in_tunnel_mode(c):
    """
        br1: 10.0.1.5 -- Linux kernel: ip_gre in ESP, tunnel mode -- gw: t1 over v1, masquerade -- inet

    GRE in ESP with an IP header between them.
    """
    gre(c, "tunnel")


@case(limit=40, needs=NEEDS)
def gre_in_transport_mode(c):
    """
        br1: 10.0.1.5 -- Linux kernel: ip_gre in ESP, transport mode \\
                                                                      gw: t1 over v1, t2 over v2, masquerade -- inet
        br2: 10.0.1.5 -- Linux kernel: the same -------------------- /

    What Cisco, MikroTik and VyOS call GRE with IPsec: one IP header, protocol 50. Two kernels with equal addresses.
    """
    gre(c, "transport", sites=2)


@case(limit=40, needs=NEEDS)
def gre_in_transport_mode_in_udp(c):
    """
        br1: 10.0.1.5 -- Linux kernel: ip_gre in ESP, transport mode, in UDP -- gw: t1 over v1, masquerade -- inet

    The same where UDP is asked for.
    """
    gre(c, "transport", conn={"encap": "yes"})
