# SPDX-License-Identifier: GPL-2.0-or-later
"""Sizes, hops and markings on the way: PMTU, MSS, TTL, DSCP and ECN."""
import hashlib
import os
import re
import socket

import packets
import topo
from harness import case


def hops(output):
    """[(hop, address)] of traceroute -n."""
    return [(int(m[1]), m[2]) for m in re.finditer(r"^ *(\d+) +([0-9a-f.:]+|\*)", output, re.M)]


@case()
def gateway_is_one_hop(c):
    """
        br1: 10.0.1.5 \\
                       gw: interface_address 10.213.0.1 in both tunnels -- inet 198.18.0.2: server
        br2: 10.0.1.5 /

    traceroute, by UDP, ICMP and TCP, IPv4 and IPv6, shows the gateway as exactly one hop, under the address that it has
    in the tunnel, from both branches at once.
    """
    net = topo.Net(c, nat="masquerade")
    for kind in ("-U", "-I", "-T"):
        for server, gateway in ((topo.SERVER, topo.IF_GW), (topo.SERVER6, topo.IF_GW6)):
            ps = [br.start(["traceroute", "-n", kind, "-q", "1", "-w", "3", "-m", "5", server], f"traceroute{i}{kind}")
                  for i, br in net.branches.items()]
            for p in ps:
                p.wait(20)
                c.equal(hops(p.output()), [(1, gateway), (2, server)],
                        f"hops of {p.name} to {server}: {p.output()} {p.errors()}")
    # And to the gateway itself.
    for gateway in (topo.IF_GW, topo.IF_GW6):
        out = net.branches[1].run(["traceroute", "-n", "-q", "1", "-w", "3", "-m", "5", gateway])
        c.equal(hops(out), [(1, gateway)], f"hops to the gateway: {out}")


@case()
def interface_address_answers(c):
    """
        br1: 10.213.0.0 \\
                         gw: interface_address 10.213.0.1/31, fd00:213::1/127 in both tunnels
        br2: 10.213.0.0 /

    The gateway's address inside the tunnel answers ping of any size, although two tunnels use the same one; anything
    else to it is dropped by name.
    """
    net = topo.Net(c)
    net.wirewatch()
    for br in net.branches.values():
        for address in (topo.IF_GW, topo.IF_GW6):
            for size in (0, 56, 1400):
                br.run(["ping", "-c", "3", "-i", "0.1", "-W", "3", "-s", size, address])
    b = net.branches[1]
    s = b.socket(socket.AF_INET, socket.SOCK_STREAM)
    s.settimeout(0.3)
    c.check(s.connect_ex((topo.IF_GW, 22)) != 0, "TCP to the interface_address was accepted")
    net.gateway.wait_drop("dst_gateway")
    j = net.judged()
    c.check(j["checked"] >= 36, f"too few answers were checked: {j['checked']}")


@case()
def ttl(c):
    """
        br1: router in the hands of the test -- GRE, ttl = 37 -- gw, nat = none -- inet

    An inner TTL goes down by exactly one; at 1 the sender is told, from the interface_address and with the quoted
    packet as it sent it. The outer TTL is the configured one, whatever the inner.
    """
    net = topo.Net(c, sites=1, cpe=False, tunnel={"ttl": 37})
    br = packets.Branch(net, 1)
    ear = packets.Ear(net.inet, "eth0", lambda s: s.proto in (packets.ICMP, packets.ICMP6))
    for host, server, gateway, exceeded in ((topo.HOST, topo.SERVER, topo.IF_GW, (11, 0)),
                                            (topo.HOST6, topo.SERVER6, topo.IF_GW6, (3, 0))):
        for n in (2, 3, 64, 255):
            outer, _ = br.ask(packets.echo(host, server, seq=n, ttl=n), lambda i: i.icmp in ((0, 0), (129, 0)), 3,
                              f"the answer to a ping with TTL {n}")
            c.equal(outer.ttl, 37, "outer TTL")
            c.equal(ear.wait(lambda s: s.src == host and s.l4[6:8] == n.to_bytes(2, "big"), 3,
                             "the ping at the server").ttl, n - 1,
                    "TTL at the server")
        for n in (1, 0):
            sent = packets.echo(host, server, seq=1000 + n, ttl=n)
            _, told = br.ask(sent, lambda i: i.icmp == exceeded, 3, f"time exceeded for TTL {n}")
            c.equal((told.src, told.dst), (gateway, host), "who tells whom")
            c.equal(told.l4[8:8 + len(sent)], sent, "what is quoted")
    c.equal(net.gateway.drops().get("ttl_expired"), 4, "drops ttl_expired")


ECN = (
    # inner ECN, outer ECN, ECN that comes out at the gateway (None: dropped); RFC 6040, figure 4
    (0, 0, 0), (0, 1, 0), (0, 2, 0), (0, 3, None),
    (1, 0, 1), (1, 1, 1), (1, 2, 1), (1, 3, 3),
    (2, 0, 2), (2, 1, 1), (2, 2, 2), (2, 3, 3),
    (3, 0, 3), (3, 1, 3), (3, 2, 3), (3, 3, 3),
)


@case()
def dscp_and_ecn(c):
    """
        br1: router in the hands of the test -- GRE, dscp = inherit -- \\
                                                                        gw, nat = none -- inet
        br2: router in the hands of the test -- GRE, dscp = 46 ------- /

    ECN by the table of RFC 6040 on the way in, and copied on the way out; the outer DSCP never changes the inner one,
    and is inherited or as configured on the way out.
    """
    net = topo.Net(c, sites=2, cpe=False, tunnel=lambda i: {"dscp": "inherit" if i == 1 else 46})
    ear = packets.Ear(net.inet, "eth0", lambda s: s.icmp in ((8, 0), (128, 0)))
    seq = 0
    for i in (1, 2):
        br = packets.Branch(net, i)
        for host, server in ((topo.HOST, topo.SERVER), (topo.HOST6, topo.SERVER6)):
            for inner, outer, wanted in ECN:
                seq += 1
                dscp = seq % 64
                before = net.gateway.drops().get("ecn_ce_not_ect", 0)
                br.forget()
                br.send(packets.echo(host, server, ident=i, seq=seq, tos=dscp << 2 | inner),
                        tos=(63 - dscp) << 2 | outer)
                if wanted is None:
                    c.wait(lambda: net.gateway.drops().get("ecn_ce_not_ect", 0) == before + 1, 3,
                           "CE on a packet without ECN to be dropped")
                    continue
                got = ear.wait(lambda s: s.l4[6:8] == seq.to_bytes(2, "big"), 3,
                               f"inner {inner} outer {outer} at the server")
                c.equal((got.tos >> 2, got.tos & 3), (dscp, wanted), f"DSCP and ECN for inner {inner}, outer {outer}")
                # Linux answers a ping with the TOS of the request.
                o, back = br.wait(lambda s: s.icmp in ((0, 0), (129, 0)), 3, "the answer")
                c.equal(back.tos & 3, o.tos & 3, "outer ECN of the answer")
                c.equal(o.tos >> 2, back.tos >> 2 if i == 1 else 46, "outer DSCP of the answer")


def fetch(c, net, i, name, content, server=topo.SERVER, seconds=30):
    """A download by curl, checked."""
    br = net.branches[i]
    path = c.file(name)
    host = f"[{server}]" if ":" in server else server
    br.run(["curl", "-sS", "--max-time", seconds, "-o", path, f"http://{host}/{name}"], seconds=seconds + 5)
    with open(path, "rb") as f:
        c.equal(hashlib.sha256(f.read()).hexdigest(), hashlib.sha256(content).hexdigest(), f"digest of {name}")


def syn_mss(seen):
    """The MSS option of a SYN."""
    options = seen.l4[20:(seen.l4[12] >> 4) * 4]
    while options:
        if options[0] == 2:
            return int.from_bytes(options[2:4], "big")
        options = options[1:] if options[0] == 1 else options[options[1]:]
    return None


@case()
def mss_is_clamped(c):
    """
        br1: MTU 1500 -- GRE, mtu = 1400 ------------- \\
                                                        gw -- inet
        br2: MTU 1500 -- GRE, mtu = 1400, mss = off -- /

    The MSS of SYNs is lowered to what the tunnel takes, in both directions and families; with mss = off it is left.
    """
    net = topo.Net(c, tunnel=lambda i: {"mtu": 1400, "mss": "auto" if i == 1 else "off"})
    net.web({"small": b"x" * 10000})
    for i, br in net.branches.items():
        br.ip("link set tun0 mtu 1500")
        at_server = packets.Ear(net.inet, "eth0", lambda s: s.proto == packets.TCP and s.flags & 2)
        at_branch = packets.Ear(br, "tun0", lambda s: s.proto == packets.TCP and s.flags & 2)
        for server, headers in ((topo.SERVER, 40), (topo.SERVER6, 60)):
            fetch(c, net, i, "small", b"x" * 10000, server=server)
            wanted = (1400 if i == 1 else 1500) - headers
            c.equal(syn_mss(at_server.wait(lambda s: s.dst == server, 2, "the SYN")), wanted,
                    f"MSS of br{i} to {server}")
            c.equal(syn_mss(at_branch.wait(lambda s: s.src == server, 2, "the SYN, ACK")), wanted,
                    f"MSS of {server} to br{i}")


@case(limit=60)
def download_without_mss_clamp(c):
    """
        br1: MTU 1500 -- GRE, mtu = 1300, mss = off -- gw, masquerade / none -- inet

    Without MSS clamping the server sends segments that the tunnel does not take: it is told so (fragmentation
    needed, packet too big), and the download is quick and right. Uploads learn the same from the tunnel's end.
    """
    content = os.urandom(6 << 20)
    net = topo.Net(c, nat="masquerade", tunnel={"mtu": 1300, "mss": "off"})
    net.web({"big": content})
    ear = packets.Ear(net.inet, "eth0", lambda s: s.icmp in ((3, 4), (2, 0)))
    for br in net.branches.values():
        br.ip("link set tun0 mtu 1500")
    for server in (topo.SERVER, topo.SERVER6):
        for i in net.branches:
            fetch(c, net, i, "big", content, server=server)
    c.check(net.gateway.drops().get("too_big", 0) > 0, "nothing was too big: this case proves nothing")
    kinds = {s.icmp for s in ear.listen()}
    c.equal(kinds, {(3, 4), (2, 0)}, "what the server was told")


@case(limit=60)
def tracepath_finds_every_mtu(c):
    """
        br1: MTU 1500 \\                                             MTU 1300
                       GRE, mtu = 1400 -- gw -- mid: 198.18.0.2 ----------------- far: 198.51.100.20
        br2: MTU 1500 /

    tracepath sees the tunnel's MTU (told by the gateway) and the smaller one of a hop behind the egress (told by that
    hop, and brought home to the branch that asked), IPv4 and IPv6, with NAT and without; large transfers work.
    """
    content = os.urandom(4 << 20)
    for nat in ("none", "masquerade"):
        net = topo.Net(c, nat=nat, gateway={"tun_mtu": 1400}, tunnel={"mss": "off"})
        far = c.ns("far")
        c.veth(net.inet, "far0", far, "eth0")
        net.inet.ip("addr add 192.0.2.1/24 dev far0", "addr add 2001:db8:2::1/64 dev far0 nodad",
                    "link set far0 mtu 1300 up")
        far.ip("addr add 192.0.2.2/24 dev eth0", "addr add 2001:db8:2::2/64 dev eth0 nodad",
               "link set eth0 mtu 1300 up",
               "addr add 198.51.100.20/32 dev lo", "addr add 2001:db8:51::20/128 dev lo nodad",
               "route add default via 192.0.2.1 src 198.51.100.20",
               "route add ::/0 via 2001:db8:2::1 src 2001:db8:51::20")
        net.inet.sysctl({"net/ipv4/ip_forward": 1, "net/ipv6/conf/all/forwarding": 1})
        net.inet.ip("route add 198.51.100.20/32 via 192.0.2.2", "route add 2001:db8:51::20/128 via 2001:db8:2::2")
        sink = far.start(["/usr/bin/python3", "-u", "-c", SINK], "sink").ready()
        for i, br in net.branches.items():
            br.ip("link set tun0 mtu 1500")
        for host in ("198.51.100.20", "2001:db8:51::20"):
            ps = [br.start(["tracepath", "-n", "-m", "6", host], f"tracepath{i}") for i, br in net.branches.items()]
            for p in ps:
                p.wait(30)
                c.check("pmtu 1400" in p.output(), f"the TUN's MTU was not found: {p.output()}")
                c.check(re.search(r"Resume: pmtu 1300", p.output()),
                        f"the MTU behind the egress was not found: {p.output()}")
            for i, br in net.branches.items():
                br.ip("route flush cache")
                got = br.run(["/usr/bin/python3", "-c", POUR, host], input=content.hex(), seconds=30)
                c.equal(got.strip(), hashlib.sha256(content).hexdigest(), f"digest of what {host} got from br{i}")
        sink.kill()
        net.gateway.end()
        c.finishers.clear()
        for ns in (far, net.inet, net.gw, net.wan, *net.branches.values()):
            ns.remove()


SINK = """
import hashlib, socket
s = socket.socket(socket.AF_INET6); s.setsockopt(41, 26, 0); s.bind(('::', 7200)); s.listen(8)
print('ready', flush=True)
while True:
    k, _ = s.accept(); h = hashlib.sha256()
    while b := k.recv(1 << 18): h.update(b)
    k.sendall(h.hexdigest().encode()); k.close()
"""
POUR = """
import socket, sys
d = bytes.fromhex(sys.stdin.read()); s = socket.create_connection((sys.argv[1], 7200), 20)
s.sendall(d); s.shutdown(socket.SHUT_WR); print(s.recv(100).decode())
"""


@case(limit=60)
def smaller_mtu_on_the_underlay(c):
    """
        br1: MTU 1500 -- cpe 192.0.2.11 -- MTU 1300, mid: router -- MTU 1500, gw: mtu = 1476, mss = off -- inet

    A hop between the gateway and the branch takes less than the tunnel was configured for. It tells the gateway about
    the outer packet, and the gateway tells the real sender about the inner one: the download is right.
    """
    content = os.urandom(4 << 20)
    net = topo.Net(c, sites=1, cpe=False, start=False, tunnel={"remote": "192.0.2.11", "mss": "off"}, nat="masquerade")
    mid = c.ns("mid")
    c.veth(net.wan, "mid", mid, "eth0")
    net.wan.ip("link set mid master br0", "link set mid up")
    far = c.ns("far")
    c.veth(mid, "eth1", far, "eth0")
    mid.ip("addr add 203.0.113.254/24 dev eth0", "link set eth0 up", "addr add 192.0.2.1/24 dev eth1",
           "link set eth1 mtu 1300 up")
    mid.sysctl({"net/ipv4/ip_forward": 1})
    far.ip("addr add 192.0.2.11/24 dev eth0", "link set eth0 mtu 1300 up", "route add default via 192.0.2.1")
    for ns, dev in ((mid, "eth0"), (mid, "eth1"), (far, "eth0")):
        ns.no_offloads(dev)
    net.gw.ip("route add 192.0.2.0/24 via 203.0.113.254")
    br = net.branch(1)
    br.ip("link set tun0 mtu 1500")
    far.tool("cpe", "--branch", f"netns={br.name},tun=tun0,local=192.0.2.11,remote={topo.GW_WAN}").ready()
    net.gateway.start()
    net.web({"big": content})
    ear = packets.Ear(net.inet, "eth0", lambda s: s.icmp in ((3, 4), (2, 0)))
    for server in (topo.SERVER, topo.SERVER6):
        fetch(c, net, 1, "big", content, server=server)
    t = net.gateway.tunnel("t1")
    c.equal(t.get("pmtu"), 1300, "path MTU of the tunnel, as arrctl tells it")
    c.check({s.icmp for s in ear.listen()} == {(3, 4), (2, 0)}, f"the server was told {ear.heard}")
