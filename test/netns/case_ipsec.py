# SPDX-License-Identifier: GPL-2.0-or-later
"""Branches that come by IPsec, with stock strongSwan as their router."""
import os
import socket

import ipsec
import lab
import packets
import topo
from case_gre import upload_and_download
from case_home import all_home, ask_everything
from case_path import fetch
from harness import case

SIZE = 2 << 20


def everything_comes_home(c, net, size=SIZE, private="10.0.0.0/8"):
    """All protocols from equal addresses and ports at once, then files up and down, IPv4 and IPv6; judged at both ends."""
    net.wirewatch(private=private if net.gateway.egress["nat"] != "none" else None)
    for server in (topo.SERVER, topo.SERVER6):
        ask_everything(c, net, server=server)
    if size:
        for server in (topo.SERVER, topo.SERVER6):
            upload_and_download(c, net, net.branches, size, server)
    for i in net.branches:
        sources = {f["orig"]["src"] for f in net.gateway.flows_of(site=f"s{i}")}
        c.check({topo.HOST, topo.HOST6} <= sources, f"site s{i} has flows of {sources} only")
    j = net.judged()
    all_home(c, net, j)
    for t in j["tunnels"]:
        c.check(t["to"] > size / 1500 and t["from"] > 100, f"tunnel of site {t['tag']} was hardly used: {t}")
    return j


@case(needs=ipsec.NEEDS)
def psk_tunnel(c):
    """
        br1: 10.0.1.5 -- rt1: strongSwan as Debian installs it, kernel-libipsec -- IKEv2, PSK -- gw, masquerade -- inet

    Everything through one tunnel of a stock branch router: ping, TCP both ways, UDP, IPv4 and IPv6; the gateway is one
    hop and answers on its interface_address.
    """
    net = ipsec.Net(c, sites=1, nat="masquerade", branch={"plugins": None})
    br = net.branches[1]
    for target in (topo.IF_GW, topo.IF_GW6, topo.SERVER, topo.SERVER6):
        net.routers[1].ping(target)
    for server, router, gateway in ((topo.SERVER, ipsec.LAN, topo.IF_GW), (topo.SERVER6, ipsec.LAN6, topo.IF_GW6)):
        out = br.run(["traceroute", "-n", "-I", "-q", "1", "-w", "3", "-m", "5", server])
        hops = [line.split()[1] for line in out.splitlines()[1:]]
        c.equal(hops, [router, gateway, server], f"hops: {out}")
    everything_comes_home(c, net, 6 << 20)
    c.equal(net.gateway.drops(), {"ttl_expired": 2}, "drop reasons")


@case(needs=ipsec.NEEDS)
def exclude_route(c):
    """
        br1: 10.0.1.5 -- rt1: no fwmark, a route for the peer beside the default route into ipsec0 -- gw, nat = none -- inet

    The other way to keep a branch's own packets out of its default route into the tunnel, which kernel-libipsec takes by
    itself.
    """
    net = ipsec.Net(c, sites=1, branch={"exclude": True})
    net.routers[1].ping()
    net.routers[1].ping(topo.SERVER6)
    everything_comes_home(c, net, 0)


@case(needs=ipsec.NEEDS)
def outer_ipv6(c):
    """
        br1: 10.0.1.5 -- rt1 2001:db8:113::b \\
                                               IKEv2 and ESP in UDP over IPv6 -- gw 2001:db8:113::1 -- inet
        br2: 10.0.1.5 -- rt2 2001:db8:113::c /

    The underlay is IPv6; inside IPv4 and IPv6.
    """
    net = ipsec.Net(c, outer=6, nat="masquerade")
    everything_comes_home(c, net)


@case(needs=ipsec.NEEDS)
def two_branches_equal(c):
    """
        br1: 10.0.1.5:40000 -- rt1 \\
                                     selectors 10.0.1.0/24 and everything, both -- gw, nat = none -- inet
        br2: 10.0.1.5:40000 -- rt2 /

    Two branches with equal addresses, equal selectors and equal tuples at the same time; the egress only routes, so one
    of each pair is translated.
    """
    net = ipsec.Net(c)
    everything_comes_home(c, net)
    c.check(len(net.gateway.flows_of(translated=True)) >= 48, "flows translated, expected one of each equal pair")
    c.equal(net.gateway.drops(), {}, "drop reasons")


@case(needs=ipsec.NEEDS)
def wide_selectors(c):
    """
        br1: 10.0.1.5 -- rt1: 0.0.0.0/0, ::/0 both ways \\
                                                         gw, masquerade -- inet
        br2: 10.0.1.5 -- rt2: 0.0.0.0/0, ::/0 both ways /

    Branches that name everything on their own side too, as route-based routers do.
    """
    net = ipsec.Net(c, nat="masquerade", branch={"ts": ipsec.ANYWHERE})
    for r in net.routers.values():
        # kernel-libipsec takes ::/0 for the policy of 0.0.0.0/0 that it has already, and makes no route.
        r.ns.ip("-6 route replace default dev ipsec0 table 220")
    everything_comes_home(c, net, 0)


@case(limit=90, alone=True, needs=ipsec.NEEDS)
def twenty_branches(c):
    """
        br1 ... br20: 10.0.1.5, TCP 40000-40019, 8 UDP ports, 4 ping ids each -- rt1 ... rt20 -- gw, masquerade -- inet

    Twenty stock routers with equal selectors, equal addresses and equal ports inside, at the same time:
    misdelivered = 0, lost = 0.
    """
    net = ipsec.Net(c, sites=20, nat="masquerade", up=False)
    net.up()
    net.wirewatch(private="10.0.0.0/8")
    for server in (topo.SERVER, topo.SERVER6):
        clients = [net.tagclient("--count", n, "--requests", 5, "--octets", octets, "--pace", 5, "--in-flight", 60,
                                 "--timeout", 20, proto=proto, server=server)
                   for proto, n, octets in (("tcp", 20, 2048), ("udp", 8, 512), ("ping", 4, 64))]
        for p in clients:
            c.equal(p.wait(40), 0, f"{p.name}: {p.errors()[-600:]} {p.output()[-200:]}")
    j = net.judged()
    all_home(c, net, j)
    c.check(j["tag_octets"] >= 20 * 20 * 5 * 2048, f"too few octets were checked: {j['tag_octets']}")
    c.check(all(t["to"] > 100 for t in j["tunnels"]), f"a tunnel was hardly used: {j['tunnels']}")
    net.tags.stop()
    t = net.tags.json()
    c.equal((t["spliced"], t["malformed"]), (0, 0), "requests of two sites on one connection, and malformed ones")
    for r in net.routers.values():
        c.equal(len(r.children("INSTALLED")), 1, f"CHILD_SAs of {r.name}")


@case(needs=ipsec.NEEDS)
def beside_gre(c):
    """
        br1: 10.0.1.5 -- rt1, IPsec ------ \\
        br2: 10.0.1.5 -- test CPE, GRE ---- gw, masquerade -- inet
        br3: 10.0.1.5 -- rt3, IPsec ------ /
        br4: 10.0.1.5 -- test CPE, GRE -- /

    Tunnels of both kinds, with equal addresses everywhere.
    """
    net = ipsec.Net(c, sites=4, gre=(2, 4), nat="masquerade", tunnel=lambda i: {"mtu": 1400} if i in (2, 4) else {})
    everything_comes_home(c, net, 1 << 20)


@case(needs=ipsec.NEEDS)
def one_site_two_ways(c):
    """
        br1: 10.0.1.5 -- rt1, IPsec -- \\
                                        gw: both are site s1 -- inet
        br2: 10.0.1.5 -- test CPE, GRE /

    A site that has two tunnels of different kinds: its flows follow it from one to the other.
    """
    net = ipsec.Net(c, sites=2, gre=(2,), tunnel=lambda i: {"site": "s1", **({"mtu": 1400} if i == 2 else {})})
    server = net.inet.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind((topo.SERVER, 7200))
    a, b = (net.branches[i].socket(socket.AF_INET, socket.SOCK_DGRAM) for i in (1, 2))
    for s in (a, b):
        s.bind((topo.HOST, 45000))
    a.sendto(b"by ipsec", (topo.SERVER, 7200))
    data, back = server.recvfrom(100)
    server.sendto(b"one", back)
    c.equal((data, a.recv(100)), (b"by ipsec", b"one"), "first by IPsec")
    b.sendto(b"by gre", (topo.SERVER, 7200))
    c.equal(server.recvfrom(100), (b"by gre", back), "the same flow by GRE")
    server.sendto(b"two", back)
    c.equal(b.recv(100), b"two", "the answer after the move")
    a.sendto(b"back again", (topo.SERVER, 7200))
    c.equal(server.recvfrom(100), (b"back again", back), "the same flow by IPsec again")
    server.sendto(b"three", back)
    c.equal(a.recv(100), b"three", "the answer by IPsec")


# Proposal; what swanctl calls it: cipher, bits, integrity.
SUITES = (
    ("aes128gcm16", "AES_GCM_16", "128", None), ("aes192gcm16", "AES_GCM_16", "192", None),
    ("aes256gcm16", "AES_GCM_16", "256", None), ("chacha20poly1305", "CHACHA20_POLY1305", None, None),
    ("aes128-sha256", "AES_CBC", "128", "HMAC_SHA2_256_128"), ("aes256-sha384", "AES_CBC", "256", "HMAC_SHA2_384_192"),
    ("aes256-sha512", "AES_CBC", "256", "HMAC_SHA2_512_256"), ("aes256-sha1", "AES_CBC", "256", "HMAC_SHA1_96"),
)


def each_suite(c, outer):
    net = ipsec.Net(c, sites=1, outer=outer, up=False, tunnel={"esp_proposals": ", ".join(s[0] for s in SUITES)})
    r = net.routers[1]
    content = os.urandom(1 << 20)
    net.web({"file": content})
    for esp, cipher, bits, integrity in SUITES:
        r.conn["children"]["net"]["esp_proposals"] = esp
        r.load()
        r.up()
        child, = r.children("INSTALLED")
        c.equal((child["encr-alg"], child.get("encr-keysize"), child.get("integ-alg")), (cipher, bits, integrity),
                f"suite of {esp}")
        for size in (0, 1, 7, 15, 16, 17, 64, 1300):
            r.host.run(["ping", "-q", "-c", "1", "-W", "3", "-s", str(size), topo.SERVER])
        r.ping(topo.SERVER6)
        fetch(c, net, 1, "file", content)
        p = net.tagclient("--count", 4, "--requests", 5, "--octets", 1200, "--timeout", 3, proto="udp")
        c.equal(p.wait(10), 0, f"UDP with {esp}: {p.errors()[-300:]}")
        r.terminate()
        c.wait(lambda: not r.sas(), 5, "the IKE_SA to end")
    c.equal({k: v for k, v in net.gateway.drops().items() if k not in ("tunnel_down", "esp_unknown_spi")}, {}, "drop reasons")


@case(needs=ipsec.NEEDS)
def each_suite_outer_ipv4(c):
    """
        br1: 10.0.1.5 -- rt1: one suite after another -- gw: all of them -- inet

    Every ESP suite against another implementation, with payloads of lengths around the block, and full packets.
    """
    each_suite(c, 4)


@case(needs=ipsec.NEEDS)
def each_suite_outer_ipv6(c):
    """
        br1: 10.0.1.5 -- rt1: one suite after another -- IPv6 -- gw: all of them -- inet

    The same over IPv6.
    """
    each_suite(c, 6)


@case(needs=ipsec.NEEDS)
def proposals_that_do_not_match(c):
    """
        br1: 10.0.1.5 -- rt1: other proposals than the gateway's, and NULL encryption -- gw: aes256gcm16 -- inet

    What is not configured is not negotiated, neither for IKE nor for ESP, and the operator is told; NULL encryption cannot
    even be configured.
    """
    net = ipsec.Net(c, sites=1, up=False, tunnel={"ike_proposals": "aes256-sha256-ecp256", "esp_proposals": "aes256gcm16"})
    r = net.routers[1]
    for ike, esp, says in (("aes128-sha1-modp2048", "aes256gcm16", "NO_PROPOSAL_CHOSEN"),
                           ("aes256-sha256-ecp256", "aes128gcm16", "NO_PROPOSAL_CHOSEN"),
                           ("aes256-sha256-ecp256", "null-sha256", "NO_PROPOSAL_CHOSEN")):
        before = r.said(says)
        r.conn["proposals"] = ike
        r.conn["children"]["net"]["esp_proposals"] = esp
        r.load()
        c.check(not r.initiate(ok=None), f"{ike} and {esp} were taken")
        c.check(r.said(says) > before, f"{r.name} was not told {says}")
        c.equal(r.children(), [], "CHILD_SAs of the branch")
        r.swanctl("--terminate", "--ike", "gw", ok=None)
    c.check(not r.answers(), "a ping came through")
    r.conn["proposals"], r.conn["children"]["net"]["esp_proposals"] = "aes256-sha256-ecp256", "aes256gcm16"
    r.load()
    r.up()
    r.ping()
    c.wait(lambda: any("t1" in line and "roposal" in line for line in net.gateway.process.errors().splitlines()), 3,
           "the gateway to log the refusals with the tunnel's name")
    for esp in ("null-sha256", "aes256gcm16, null"):
        net.gateway.tunnels["t1"]["esp_proposals"] = esp
        net.gateway.reload(ok=None)
        said = c.last.stdout + c.last.stderr
        c.check(c.last.returncode != 0 and "esp_proposals" in said and "t1.conf" in said, f"esp_proposals = {esp}: {said}")
    net.gateway.tunnels["t1"]["esp_proposals"] = "aes256gcm16"
    net.gateway.write()
    r.ping()


@case(needs=ipsec.NEEDS)
def sizes(c):
    """
        br1: rt1: ipsec0 MTU 1400 -- gw: mtu = 1300 \
                                                      inet
        br2: rt2: ipsec0 MTU 1400 -- gw: mtu = auto /

    TCP is clamped to what fits, a too big answer is refused with the tunnel's MTU, one that fits exactly passes whole, and
    nothing is fragmented outside. By itself a tunnel is as large as its ciphers leave room for.
    """
    net = ipsec.Net(c, tunnel=lambda i: {"esp_proposals": "aes256gcm16", "mtu": 1300 if i == 1 else "auto"})
    c.equal(net.gateway.tunnel("t2")["mtu"], 1500 - 20 - 8 - 8 - 8 - 2 - 16, "mtu of t2")
    ear = packets.Ear(net.gw, "wan0", lambda s: s.fragment and s.dst == net.remote(1), sent=True)
    told = packets.Ear(net.inet, "eth0", lambda s: s.icmp in ((3, 4), (2, 0)))
    for family, server, host in ((socket.AF_INET, topo.SERVER, topo.HOST), (socket.AF_INET6, topo.SERVER6, topo.HOST6)):
        a, b = net.inet.socket(family, socket.SOCK_DGRAM), net.branches[1].socket(family, socket.SOCK_DGRAM)
        a.setsockopt(socket.IPPROTO_IP, 10, 3)     # IP_MTU_DISCOVER, IP_PMTUDISC_PROBE: DF, whatever is known of the path
        if family == socket.AF_INET6:
            a.setsockopt(socket.IPPROTO_IPV6, 23, 3)
        a.bind((server, 7300))
        b.bind((host, 45000))
        over = 28 if family == socket.AF_INET else 48
        b.sendto(bytes(1340 - over), (server, 7300))
        _, back = a.recvfrom(2000)
        a.sendto(bytes(1301 - over), back)
        e = told.wait(lambda s: s.dst == server, 3, f"'too big' to {server}")
        c.equal(int.from_bytes(e.l4[6:8], "big"), 1300, f"MTU that {server} is told")
        a.sendto(bytes(1300 - over), back)
        c.equal(len(b.recv(2000)), 1300 - over, "octets of what fits exactly")
    content = os.urandom(SIZE)
    net.web({"file": content})
    for i in net.branches:
        for server in (topo.SERVER, topo.SERVER6):
            fetch(c, net, i, "file", content, server=server)
    c.equal([str(s) for s in ear.listen()], [], "fragments that the gateway sent")
    c.equal(net.gateway.drops(), {"too_big": 2}, "drop reasons")


@case(needs=ipsec.NEEDS)
def mutant_is_found_out(c):
    """
        br1: 10.0.1.5 -- rt1 \\
                               gw: an arrd built to send replies to the neighbour's tunnel -- inet: tagserver
        br2: 10.0.1.5 -- rt2 /

    Passes only if the judge says that packets were misdelivered, IPsec or not.
    """
    mutant = os.path.join(os.path.dirname(c.build) if os.path.basename(c.build) == "san" else c.build, "mutant")
    if not os.path.exists(mutant + "/arrd"):
        raise lab.Failure(f"{mutant}/arrd is not built: make mutant")
    net = ipsec.Net(c, build=mutant)
    net.wirewatch()
    for proto in ("tcp", "udp", "ping"):
        net.tagclient("--count", 5, "--timeout", 2, proto=proto).wait(20)
    net.watch.stop()
    j = net.watch.json()
    c.check(j["misdelivered"] > 0, f"packets went to the wrong sites, and nobody noticed: {j}")
    for proto in (" proto 6 ", " proto 17 ", " proto 1 "):
        c.check(any(proto in n for n in j["notes"]), f"nothing misdelivered of{proto}: {j['notes']}")
