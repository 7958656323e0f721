# SPDX-License-Identifier: GPL-2.0-or-later
"""Branch routers that are not ours: the Linux kernel's GRE, in User-Mode Linux, and Open vSwitch's."""
import hashlib
import os
import re
import socket

import packets
import peers
import topo
from case_gre import RECEIVER, SENDER, upload_and_download
from case_home import all_home, ask_everything
from case_path import fetch
from harness import case

SIZE = 4 << 20
UML = ("linux.uml",)
OVS = ("ovs-vswitchd", "ovsdb-server", "ovsdb-tool", "ovs-vsctl", "ovs-ofctl")


def network(c, sites, make, keys=(7, 7), **more):
    """A topo.Net whose routers make(net) returns; the branches that these leave out get the test CPE."""
    net = topo.Net(c, sites=sites, cpe=False, keys=keys and list(keys), **more)
    net.routers = make(net)  # they boot while the rest is made
    theirs, net.branches = net.branches, {}
    for i in range(1, sites + 1):
        if i not in theirs:
            net.branch(i)
    if net.branches:
        net.start_cpe()
    net.branches.update(theirs)
    net.tagserver()
    for r in net.routers:
        r.ready()
    return net


def everything_comes_home(c, net, drops=()):
    """All protocols from equal addresses and ports at once, then files, up and down; judged on the wire."""
    net.wirewatch(private="10.0.0.0/8" if net.gateway.egress["nat"] != "none" else None)
    for server, bind in ((topo.SERVER, topo.HOST), (topo.SERVER6, topo.HOST6)):
        ask_everything(c, net, server=server, bind=bind)
    upload_and_download(c, net, net.branches, SIZE)
    content = os.urandom(SIZE)
    with open(os.path.join(c.dir, "web", "file6"), "wb") as f:
        f.write(content)
    for i in net.branches:
        fetch(c, net, i, "file6", content, server=topo.SERVER6)
    for i in net.branches:
        sources = {f["orig"]["src"] for f in net.gateway.flows_of(site=f"s{i}")}
        c.check({topo.HOST, topo.HOST6} <= sources, f"site s{i} has flows of {sources} only")
    j = net.judged()
    all_home(c, net, j)
    for t in j["tunnels"]:
        c.check(t["to"] > SIZE / net.mtu, f"tunnel of site {t['tag']} was hardly used: {t}")
    for r in net.routers:
        c.equal(r.errors(), {}, f"what a branch's router counted as wrong; {r.name}")
    # A kernel announces its multicast groups in its tunnels, too. That is nothing for anybody else.
    c.equal(set(net.gateway.drops()) - {"dst_multicast"}, set(drops), "drop reasons")


@case(limit=40, needs=UML)
def kernel_keyed(c):
    """
        br1: 10.0.1.5 -- Linux kernel, ip_gre with key 7 \\
                                                          gw, masquerade -- inet: server
        br2: 10.0.1.5 -- test CPE, key 7 --------------- /

    The GRE of a real kernel beside a branch with equal addresses: equal tuples in TCP, UDP and ping, files up and down.
    """
    everything_comes_home(c, network(c, 2, lambda n: [peers.Kernel(n, 1)], nat="masquerade"))


@case(limit=40, needs=UML)
def kernel_checksum(c):
    """
        br1: 10.0.1.5 -- Linux kernel, ip_gre with checksums \\
                                                              gw, nat = none -- inet: server
        br2: 10.0.1.5 -- test CPE, with checksums ---------- /

    Checksums of RFC 2784 that somebody else's code computes and verifies; no key.
    """
    everything_comes_home(c, network(c, 2, lambda n: [peers.Kernel(n, 1, options="csum")], keys=None, branch_options="csum",
                                     tunnel={"gre_checksum": "yes"}))


@case(limit=40, needs=UML)
def kernel_sequence(c):
    """
        br1: 10.0.1.5 -- Linux kernel, ip_gre with key, checksums, sequence numbers \\
                                                                                     gw, masquerade -- inet: server
        br2: 10.0.1.5 -- test CPE, the same --------------------------------------- /

    Sequence numbers of RFC 2890 in both directions: either side drops what is out of order, and nothing is.
    """
    everything_comes_home(c, network(c, 2, lambda n: [peers.Kernel(n, 1, options="csum seq")], nat="masquerade",
                                     branch_options="csum,seq", tunnel={"gre_checksum": "yes", "gre_sequence": "yes"}))


@case(limit=40, needs=UML)
def kernel_outer_ipv6(c):
    """
        br1: 10.0.1.5 -- Linux kernel, ip6_gre with key 7 \\
                                                           GRE over IPv6 -- gw, masquerade -- inet: server
        br2: 10.0.1.5 -- test CPE, key 7 ---------------- /

    The underlay is IPv6. The kernel puts a tunnel encapsulation limit (RFC 2473) before each GRE header, as it does
    when it is not told otherwise; so less fits.
    """
    net = network(c, 2, lambda n: [peers.Kernel(n, 1)], outer=6, nat="masquerade", mtu=topo.TUNNEL_MTU[6] - 4 - 8)
    ear = packets.Ear(net.gw, "wan0", lambda seen: seen.src == net.remote(1) and seen.proto == socket.IPPROTO_DSTOPTS)
    net.routers[0].ping(1, topo.SERVER)
    ear.wait(lambda seen: True, 3, "a packet with the tunnel encapsulation limit")
    everything_comes_home(c, net)


@case(limit=40, needs=UML)
def two_kernels(c):
    """
        br1: 10.0.1.5 -- 10.0.1.1 Linux kernel 10.213.0.0 \\
                                                           gw, 10.213.0.1 in both tunnels, nat = none -- inet: server
        br2: 10.0.1.5 -- 10.0.1.1 Linux kernel 10.213.0.0 /

    Two kernels with the very same addresses inside, of hosts, routers and tunnels' ends; no key.
    """
    net = network(c, 2, lambda n: [peers.Kernel(n, 1), peers.Kernel(n, 2)], keys=None)
    for i, r in enumerate(net.routers, 1):
        for target in (topo.IF_GW, topo.IF_GW6, topo.SERVER, topo.SERVER6):
            r.ping(i, target)
    everything_comes_home(c, net)


@case(limit=40, needs=UML)
def kernel_with_three_tunnels(c):
    """
        br1: 10.0.1.5 -- gre1, key 101 \\
        br2: 10.0.1.5 -- gre2, key 102 -- Linux kernel 203.0.113.11 -- GRE -- gw 203.0.113.1, masquerade -- inet: server
        br3: 10.0.1.5 -- gre3, key 0   /

    One kernel has three tunnels to the gateway between the same two addresses, for three branches with equal addresses.
    """
    everything_comes_home(c, network(c, 3, lambda n: [peers.Kernel(n, 1, 2, 3)], keys=(101, 102, 0), nat="masquerade"))


@case(limit=40, needs=UML)
def kernel_path_mtu(c):
    """
        br1: MTU 1500 -- Linux kernel, gre1 MTU 1472 \\
                                                      gw: mtu = 1472, mss = off, tun_mtu = 1400 -- inet: server
        br2: MTU 1500 -- Linux kernel, gre1 MTU 1472 /

    tracepath sees the branch's router with the tunnel's MTU, then the gateway as one hop with the smaller one behind
    it; files larger than any of them go up and come down without MSS clamping.
    """
    net = network(c, 2, lambda n: [peers.Kernel(n, 1), peers.Kernel(n, 2)], nat="masquerade", gateway={"tun_mtu": 1400},
                  tunnel={"mss": "off"})
    for server, router, gateway in ((topo.SERVER, peers.LAN, topo.IF_GW), (topo.SERVER6, peers.LAN6, topo.IF_GW6)):
        ps = [br.start(["tracepath", "-n", "-m", "6", server], f"tracepath{i}") for i, br in net.branches.items()]
        for p in ps:
            p.wait(20)
            path = re.findall(r"^ *(\d+): +(\S+) +[0-9.]+ms *(pmtu \d+|reached)?", p.output(), re.M)
            # It shows the one who told beside the number of the hop behind.
            for want in (("1", router, ""), ("2", router, "pmtu 1472"), ("2", gateway, ""), ("3", gateway, "pmtu 1400"),
                         ("3", server, "reached")):
                c.check(want in path, f"{p.name} does not show {want}: {p.output()}")
            c.check("Resume: pmtu 1400 hops 3 back 3" in p.output(), f"{p.name}: {p.output()}")
    everything_comes_home(c, net, drops=("ttl_expired", "too_big"))


@case(limit=40, needs=UML)
def kernel_sends_fragments(c):
    """
        br1: MTU 1500 -- Linux kernel, gre1 MTU 1500, fragments outside \\
                                                                         gw: mtu = 1476, mss = off, nat = none -- inet: server
        br2: MTU 1500 -- the same -------------------------------------- /

    A router that sends what is too big for the underlay in fragments, as some are told to: uploads of full packets
    come by outer fragments, are put together and arrive, while downloads keep to the gateway's MTU.
    """
    net = network(c, 2, lambda n: [peers.Kernel(n, i, options="nopmtudisc ignore-df", mtu=1500) for i in (1, 2)], keys=None,
                  tunnel={"mss": "off"})
    receiver = net.inet.start(["/usr/bin/python3", "-u", "-c", RECEIVER, topo.SERVER, "7100"], "receiver").ready()
    # Before anything goes down, from which the server would learn how much fits, and offer no more.
    content, ps = {}, []
    for i, br in net.branches.items():
        content[i], path = os.urandom(SIZE), c.file(f"up{i}")
        with open(path, "wb") as f:
            f.write(content[i])
        ps.append(br.start(["/usr/bin/python3", "-c", SENDER, topo.HOST, "43000", topo.SERVER, "7100", path], f"sender{i}"))
    for p in ps:
        c.equal(p.wait(30), 0, f"{p.name}: {p.errors()[-300:]}")
    c.wait(lambda: len(receiver.output().split()) > len(ps), 10, "the uploads to end")
    c.equal(set(receiver.output().split()[1:]), {hashlib.sha256(x).hexdigest() for x in content.values()}, "digests of the uploads")
    joined = int(re.search(r"IpReasmOKs +(\d+)", net.gw.run("nstat -asz IpReasmOKs"))[1])
    c.check(joined > 2 * SIZE / 1500, f"few came by fragments: {joined}")
    net.wirewatch()  # which cannot say of fragments what a site sent
    net.web({f"down{i}": content[i] for i in content})
    for i in net.branches:
        for server in (topo.SERVER, topo.SERVER6):
            fetch(c, net, i, f"down{i}", content[i], server=server)
    all_home(c, net, net.judged())
    c.equal(set(net.gateway.drops()) - {"dst_multicast"}, {"too_big"}, "drop reasons")


@case(limit=40, needs=OVS)
def open_vswitch(c):
    """
        br1: 10.0.1.5 -- Open vSwitch, legacy_l3, key 7, sequence numbers \\
                                                                           gw, masquerade -- inet: server
        br2: 10.0.1.5 -- test CPE, key 7, sequence numbers -------------- /

    The GRE of Open vSwitch's datapath in user space, with IPv4 and IPv6 in it.
    """
    net = network(c, 2, lambda n: [peers.OpenVswitch(n, 1, "options:seq=true")], nat="masquerade", branch_options="seq",
                  tunnel={"gre_sequence": "yes"})
    everything_comes_home(c, net)


@case(limit=40, needs=OVS + UML)
def open_vswitch_beside_kernel(c):
    """
        br1: 10.0.1.5 -- Open vSwitch, legacy_l3, key 7, checksums \\
                                                                    gw, nat = none -- inet: server
        br2: 10.0.1.5 -- Linux kernel, key 7, checksums ---------- /

    Nothing of ours at any branch. (Open vSwitch 3.1 with checksums and sequence numbers together sends wrong sums: it
    computes them before it writes the number.)
    """
    net = network(c, 2, lambda n: [peers.OpenVswitch(n, 1, "options:csum=true"), peers.Kernel(n, 2, options="csum")],
                  branch_options="csum", tunnel={"gre_checksum": "yes"})
    everything_comes_home(c, net)
