# SPDX-License-Identifier: GPL-2.0-or-later
"""The tests' own tools, without arrd: they agree with each other, and the judge finds what is wrong."""
import topo
from harness import case


def kernel_gateway(c, sites):
    """A gateway made of the test CPE and kernel routes, which knows only one way to 10.0.1.0/24."""
    net = topo.Net.__new__(topo.Net)
    net.case, net.outer, net.n, net.keys, net.mtu, net.branch_options = c, 4, sites, None, topo.TUNNEL_MTU[4], ""
    net.inet, net.gw, net.wan, net.branches = c.ns("inet"), c.ns("gw"), c.ns("wan"), {}
    net.make_egress()
    net.make_underlay()
    args = []
    for i in range(1, sites + 1):
        net.branch(i)
        net.gw.ip(f"tuntap add dev gre{i} mode tun", f"link set gre{i} addrgenmode none mtu {net.mtu} up")
        args += ["--branch", f"netns={net.gw.name},tun=gre{i},local={net.local},remote={net.remote(i)}"]
    net.start_cpe()
    net.gw.tool("cpe", *args, name="cpe-gw").ready()
    net.gw.ip("route add 10.0.1.0/24 dev gre1", "route add fd00:10:0:1::/64 dev gre1")
    net.gw.sysctl({"net/ipv4/ip_forward": 1, "net/ipv6/conf/all/forwarding": 1, "net/ipv4/conf/all/rp_filter": 0})
    net.tagserver()
    net.wirewatch()
    return net


@case()
def one_site(c):
    """
        br1: 10.0.1.5 -- tun0 ~~ cpe -- GRE -- cpe ~~ gre1 -- gw (kernel routes) -- inet: tagserver

    One branch alone: every answer comes, is right, and was checked on the wire.
    """
    net = kernel_gateway(c, 1)
    for server in (topo.SERVER, topo.SERVER6):
        for proto in ("tcp", "udp", "ping"):
            p = net.tagclient("--count", 20, "--requests", 10, "--octets", 1360, proto=proto, server=server)
            c.equal(p.wait(20), 0, f"{proto} to {server}: {p.output()[-500:]} {p.errors()[-500:]}")
    j = net.judged(allow=["multicast"])  # the kernel asks for groups on its TUN device
    c.equal(j["unverifiable"], 0, f"packets that nothing could be said of: {j['notes']}")
    c.equal(j["tunnel_out"], j["egress_in"], "left by tunnels, against came by egress")
    c.check(j["tunnel_out"]["udp"] == 400 and j["tunnel_out"]["echo"] == 400, f"wrong count: {j['tunnel_out']}")
    c.check(j["tag_octets"] >= 2 * (20 * 10 * 1360 * 2), f"too few octets checked: {j['tag_octets']}")


@case()
def judge_sees_wrong_site(c):
    """
        br1: 10.0.1.5 -- tun0 ~~ cpe -- GRE -- cpe ~~ gre1 \\
                                                            gw (kernel routes: all to gre1) -- inet: tagserver
        br2: 10.0.1.5 -- tun0 ~~ cpe -- GRE -- cpe ~~ gre2 /

    A gateway that sends br2's answers to br1, in TCP, UDP and ping: each is found out, with and without payload.
    """
    net = kernel_gateway(c, 2)
    kinds = {}
    for proto, message in (("tcp", "connection that this site does not have"), ("udp", "sent nothing to"),
                           ("ping", "did not ask for")):
        p = net.tagclient("--requests", 1, "--timeout", 1, branches=[2], proto=proto)
        p.wait(20)
        kinds[proto] = message
    # Now br1 has had the same conversations, too: only numbers and payload tell.
    for proto, message in (("tcp", "acknowledges what this site did not send"), ("udp", "payload is not this site's"),
                           ("ping", "another payload")):
        for i in (1, 2):
            p = net.tagclient("--requests", 1, "--timeout", 1, "--first-port", 41000, branches=[i], proto=proto)
            c.equal(p.wait(20), i - 1, f"{proto} of br{i}")
        kinds[proto + ", equal tuples"] = message
    net.watch.stop()
    j = net.watch.json()
    notes = "\n".join(j["notes"])
    for proto, message in kinds.items():
        c.check(message in notes, f"{proto} to the wrong site was not seen: {notes}")
