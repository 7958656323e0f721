# SPDX-License-Identifier: GPL-2.0-or-later
"""ICMP errors through the gateway: traceroute, mtr, tracepath and path MTU discovery see what a plain router shows.

        h1: 10.0.1.5 -- rt1: 10.0.1.1 ~~ tunnel, MTU 1376 ~~ \\
                                                              gw 10.213.0.1 -- r1: 198.18.0.2 -- r2: 192.0.2.2 -- server
        h2: 10.0.1.5 -- rt2: 10.0.1.1 ~~ tunnel, MTU 1376 ~~ /                        MTU 1300

The same commands run at both sites at once, and at a host whose tunnel is a cable, and whose gateway is the kernel alone. Their
output is compared line by line, without times.
"""
import hashlib
import re
import socket

import ipsec
import packets
import topo
from harness import case

LAN, LAN6 = "10.0.1.1", "fd00:10:0:1::1"
MTU, FAR_MTU = 1376, 1300
FORWARDS = {"net/ipv4/ip_forward": 1, "net/ipv6/conf/all/forwarding": 1}
# Each error is wanted here, however quick they follow each other.
NO_LIMITS = {"net/ipv4/icmp_ratelimit": 0, "net/ipv6/icmp/ratelimit": 0}
COMMANDS = (
    "traceroute -n -q 1 -w 3 -m 8 -U", "traceroute -n -q 1 -w 3 -m 8 -I", "traceroute -n -q 1 -w 3 -m 8 -T",
    "mtr -r -n -c 2 -i 0.2 -G 1 -m 8", "mtr -r -n -c 2 -i 0.2 -G 1 -m 8 -u", "mtr -r -n -c 2 -i 0.2 -G 1 -m 8 -T",
    "tracepath -n -m 8",
)
# What is too large for the tunnel, then for the link behind, and what goes through; the second of each is known by then.
PINGS = tuple(f"ping -n -c 1 -W 3 -M do -s {size}" for size in (1400, 1400, 1320, 1320, 1240, 1400))
NEEDS = ("traceroute", "mtr", "tracepath")


def seen(output):
    """The lines of a command without what differs from run to run: times, and which run it was."""
    lines = []
    for line in output.splitlines():
        if line.startswith(("Start:", "HOST:", "---", "rtt", "round-trip")) or not line.strip():
            continue
        line = re.sub(r"(\d+\.\|-- \S+ +\S+).*", r"\1", line)  # mtr: hop, address, loss
        line = re.sub(r"[0-9.]+ ?ms|time[= ]\S+", "", line)
        lines.append(" ".join(line.split()))
    return lines


def far(c, r1, name="", mtu=1500):
    """Two hops behind r1; returns (r2, server)."""
    r2, server = c.ns(name + "r2"), c.ns(name + "server")
    for ns in (r1, r2):
        ns.sysctl({**FORWARDS, **NO_LIMITS})
    server.sysctl(NO_LIMITS)
    c.veth(r1, "far0", r2, "eth0")
    c.veth(r2, "far0", server, "eth0")
    r1.ip("addr add 192.0.2.1/24 dev far0", "addr add 2001:db8:2::1/64 dev far0 nodad", f"link set far0 mtu {mtu} up",
          f"route add {topo.SERVER}/32 via 192.0.2.2", f"route add {topo.SERVER6}/128 via 2001:db8:2::2")
    r2.ip("addr add 192.0.2.2/24 dev eth0", "addr add 2001:db8:2::2/64 dev eth0 nodad", f"link set eth0 mtu {mtu} up",
          "addr add 198.18.3.1/24 dev far0", "addr add 2001:db8:3::1/64 dev far0 nodad", "link set far0 up",
          f"route add {topo.SERVER}/32 via 198.18.3.2", f"route add {topo.SERVER6}/128 via 2001:db8:3::2",
          "route add default via 192.0.2.1", "route add ::/0 via 2001:db8:2::1")
    server.ip("addr add 198.18.3.2/24 dev eth0", "addr add 2001:db8:3::2/64 dev eth0 nodad", "link set eth0 up",
              f"addr add {topo.SERVER}/32 dev lo", f"addr add {topo.SERVER6}/128 dev lo nodad",
              f"route add default via 198.18.3.1 src {topo.SERVER}", f"route add ::/0 via 2001:db8:3::1 src {topo.SERVER6}")
    return r2, server


def lan(c, router, name):
    """A host behind a router; returns it."""
    host = c.ns(name)
    c.veth(host, "eth0", router, "lan0")
    router.sysctl({**FORWARDS, **NO_LIMITS})
    router.ip(f"addr add {LAN}/24 dev lan0", f"addr add {LAN6}/64 dev lan0 nodad", "link set lan0 up")
    host.ip(f"addr add {topo.HOST}/24 dev eth0", f"addr add {topo.HOST6}/64 dev eth0 nodad", "link set eth0 up",
            f"route add default via {LAN}", f"route add ::/0 via {LAN6}")
    return host


class Plain:
    """The same network with a kernel in the place of the gateway, and a cable in that of a tunnel."""

    def __init__(self, c, far_mtu):
        router, gw, r1 = (c.ns("plain" + n) for n in ("rt", "gw", "r1"))
        self.host = lan(c, router, "plainh")
        c.veth(router, "tun0", gw, "tun0")
        c.veth(gw, "eth0", r1, "eth0")
        gw.sysctl({**FORWARDS, **NO_LIMITS})
        router.ip("addr add 10.213.0.0/31 dev tun0", "addr add fd00:213::/127 dev tun0 nodad", f"link set tun0 mtu {MTU} up",
                  f"route add default via {topo.IF_GW}", f"route add ::/0 via {topo.IF_GW6}")
        gw.ip(f"addr add {topo.IF_GW}/31 dev tun0", f"addr add {topo.IF_GW6}/127 dev tun0 nodad",
              f"link set tun0 mtu {MTU} up", f"addr add {topo.GW_EGRESS}/24 dev eth0",
              f"addr add {topo.GW_EGRESS6}/64 dev eth0 nodad", "link set eth0 up", "route add 10.0.1.0/24 via 10.213.0.0",
              "route add fd00:10:0:1::/64 via fd00:213::", f"route add default via {topo.ROUTER}",
              f"route add ::/0 via {topo.ROUTER6}")
        r1.ip(f"addr add {topo.ROUTER}/24 dev eth0", f"addr add {topo.ROUTER6}/64 dev eth0 nodad", "link set eth0 up",
              f"route add default via {topo.GW_EGRESS}", f"route add ::/0 via {topo.GW_EGRESS6}")
        far(c, r1, "plain", far_mtu)


def behind(c, net, far_mtu):
    """Moves the server two hops away from net.inet, which is r1 then; returns where it is."""
    net.inet.ip(f"addr del {topo.SERVER}/32 dev lo", f"addr del {topo.SERVER6}/128 dev lo")
    net.inet.ip(f"route replace default via {topo.GW_EGRESS}", f"route replace ::/0 via {topo.GW_EGRESS6}")
    net.gw.sysctl(NO_LIMITS)
    return far(c, net.inet, mtu=far_mtu)[1]


def gre(c, nat, far_mtu):
    """[host of each site], server."""
    net = topo.Net(c, nat=nat, mtu=MTU, tunnel={"mss": "off"})
    hosts = []
    for i, router in net.branches.items():
        router.ip(f"addr del {topo.HOST}/24 dev tun0", f"addr del {topo.HOST6}/64 dev tun0")
        hosts.append(lan(c, router, f"h{i}"))
        router.ip("route replace default dev tun0", "route replace ::/0 dev tun0")
    return net, hosts, behind(c, net, far_mtu)


def run_both(hosts, command, server, n):
    ps = [h.start(command.split() + [server], f"{command.split()[0]}{n}-{h.short}") for h in hosts]
    for p in ps:
        p.wait(25)
    return [seen(p.output() + p.errors()) for p in ps]


def as_on_a_plain_router(c, hosts, plain, commands):
    for server in (topo.SERVER, topo.SERVER6):
        for h in (*hosts, plain.host):
            h.ip("route flush cache")
            h.ip("-6 route flush cache")
        for n, command in enumerate(commands):
            *got, wanted = run_both((*hosts, plain.host), command, server, n)
            for lines, h in zip(got, hosts):
                c.equal(lines, wanted, f"{command} {server} at {h.short}")
            c.say("\n".join(wanted))
            if command.startswith(("traceroute", "mtr")):
                hops = [LAN, topo.IF_GW, topo.ROUTER, "192.0.2.2", server] if server == topo.SERVER else \
                       [LAN6, topo.IF_GW6, topo.ROUTER6, "2001:db8:2::2", server]
                c.equal([a for line in wanted for a in re.findall(r"^\d+(?:\.\|--)? ([0-9a-f.:]+)", line)], hops,
                        f"hops of {command}")


@case(limit=120, needs=NEEDS)
def hops_as_on_a_plain_router(c):
    """
        h1, h2 ~~ GRE ~~ gw, nat = masquerade -- r1 -- r2 -- server

    Each hop answers under its own address, the gateway as exactly one, under that of the tunnel.
    """
    net, hosts, _ = gre(c, "masquerade", 1500)
    as_on_a_plain_router(c, hosts, Plain(c, 1500), COMMANDS)
    c.check("icmp_no_flow" not in net.gateway.drops(), f"drops: {net.gateway.drops()}")


@case(limit=120, needs=NEEDS)
def hops_without_nat(c):
    """
        h1, h2 ~~ GRE ~~ gw, nat = none -- r1 -- r2 -- server
    """
    net, hosts, _ = gre(c, "none", FAR_MTU)
    as_on_a_plain_router(c, hosts, Plain(c, FAR_MTU), COMMANDS)
    c.check("icmp_no_flow" not in net.gateway.drops(), f"drops: {net.gateway.drops()}")


@case(limit=120, needs=(*NEEDS, *ipsec.NEEDS))
def hops_over_ipsec(c):
    """
        h1, h2 ~~ IPsec ~~ gw, nat = masquerade -- r1 -- r2 -- server
    """
    net = ipsec.Net(c, nat="masquerade", tunnel={"mtu": MTU, "mss": "off"}, branch={"mtu": MTU}, tagserver=False)
    behind(c, net, FAR_MTU)
    for r in net.routers.values():
        r.ns.sysctl(NO_LIMITS)
    as_on_a_plain_router(c, list(net.branches.values()), Plain(c, FAR_MTU), PINGS + COMMANDS)
    c.check("icmp_no_flow" not in net.gateway.drops(), f"drops: {net.gateway.drops()}")


ANSWER = """
import hashlib, socket, sys
s = socket.socket(socket.AF_INET6); s.setsockopt(41, 26, 0); s.bind(('::', 7200)); s.listen(8)
print('ready', flush=True)
while True:
    k, _ = s.accept(); h = hashlib.sha256()
    while b := k.recv(1 << 18): h.update(b)
    k.sendall(h.hexdigest().encode() + bytes(1 << 20)); k.close()
"""
ASK = """
import socket, sys
s = socket.create_connection((sys.argv[1], 7200), 20)
s.sendall(bytes(range(256)) * 4096); s.shutdown(socket.SHUT_WR); got = b''
while b := s.recv(1 << 18): got += b
print(got[:64].decode(), len(got), got[64:].count(0))
"""


def path_mtu(c, nat, far_mtu):
    net, hosts, server = gre(c, nat, far_mtu)
    plain = Plain(c, far_mtu)
    for commands in (PINGS, COMMANDS[-1:]):
        as_on_a_plain_router(c, hosts, plain, commands)
    server.start(["/usr/bin/python3", "-u", "-c", ANSWER], "answer").ready()
    ear = packets.Ear(server, "eth0", lambda s: s.icmp in ((3, 4), (2, 0)))
    for address in (topo.SERVER, topo.SERVER6):
        for h in hosts:
            h.ip("route flush cache")
            h.ip("-6 route flush cache")
        ps = [h.start(["/usr/bin/python3", "-c", ASK, address], f"ask-{h.short}") for h in hosts]
        digest = hashlib.sha256(bytes(range(256)) * 4096).hexdigest()
        for p in ps:
            c.equal(p.wait(30), 0, f"{p.name}: {p.errors()[-500:]}")
            c.equal(p.output().split(), [digest, str(64 + (1 << 20)), str(1 << 20)], f"what {p.name} got from {address}")
    told = {int.from_bytes(s.l4[4:8], "big") & 0xFFFF for s in ear.listen()}
    c.check(min(MTU, far_mtu) in told, f"MTUs that the server was told: {told}")
    c.check("icmp_no_flow" not in net.gateway.drops(), f"drops: {net.gateway.drops()}")


@case(limit=120, needs=NEEDS)
def path_mtu_masqueraded(c):
    """
        h1, h2 ~~ GRE, MTU 1376 ~~ gw, nat = masquerade -- r1 -- MTU 1300, r2 -- server

    Who sends with DF learns the tunnel's MTU from his router and the smaller one from r1, the server from r2: ping, tracepath, TCP.
    """
    path_mtu(c, "masquerade", FAR_MTU)


@case(limit=120, needs=NEEDS)
def path_mtu_routed(c):
    """
        h1, h2 ~~ GRE, MTU 1376 ~~ gw, nat = none -- r1 -- r2 -- server

    The server learns the tunnel's MTU from the gateway.
    """
    path_mtu(c, "none", 1500)


# Type, highest code of it, and what stands behind the checksum.
ERRORS = {4: ((3, 15, 1300), (4, 0, 0), (11, 1, 0), (12, 2, 20 << 24)), 6: ((1, 8, 0), (2, 0, 1280), (3, 1, 0), (4, 10, 40))}


def quoted(seen):
    """What an error quotes, without what changes on the way: TTL and, in IPv4, the header's checksum."""
    q = bytearray(seen.l4[8:])
    if q[0] >> 4 == 4:
        q[8] = q[10] = q[11] = 0
    else:
        q[7] = 0
    return bytes(q)


def sums_to_nothing(c, seen):
    """ICMP's checksum is right, and that of a quoted IPv4 header."""
    pseudo = b""
    if seen.proto == packets.ICMP6:
        pseudo = packets.packed(seen.src) + packets.packed(seen.dst) + len(seen.l4).to_bytes(4, "big") + b"\0\0\0\x3a"
    else:
        c.equal(packets.checksum(seen.l4[8:28]), 0, f"sum of the header that {seen} quotes")
    c.equal(packets.checksum(pseudo + seen.l4), 0, f"sum of {seen}")


def told_all(c, send, wait, errors, about, by, to):
    """Sends an error of each kind about a packet, and returns what came of each."""
    for kind, codes, rest in errors:
        for code in range(codes + 1):
            send(packets.icmp_error(by, to, kind, code, about, rest))
    heard = []
    for kind, codes, rest in errors:
        for code in range(codes + 1):
            s = wait(lambda s, k=kind, n=code: s.icmp == (k, n))
            sums_to_nothing(c, s)
            c.equal(int.from_bytes(s.l4[4:8], "big"), rest, f"what stands behind the checksum of {s}")
            heard.append(s)
    return heard


def every_error(c, nat):
    net = topo.Net(c, nat=nat, cpe=False)
    branches = [packets.Branch(net, i) for i in (1, 2)]
    net.gw.sysctl(NO_LIMITS)
    net.inet.no_offloads("eth0")  # the sums of what it sends are looked at
    there, back = packets.Ear(net.inet, "eth0"), packets.Ear(net.inet, "eth0", sent=True)
    for family, host, server, router, lan_router in ((4, topo.HOST, topo.SERVER, topo.ROUTER, LAN),
                                                     (6, topo.HOST6, topo.SERVER6, topo.ROUTER6, LAN6)):
        af = socket.AF_INET if family == 4 else socket.AF_INET6
        raw = net.inet.socket(af, socket.SOCK_RAW, socket.IPPROTO_RAW)
        sink = net.inet.socket(af, socket.SOCK_DGRAM)
        sink.bind((server, 9000))
        for n, br in enumerate(branches):
            sent = packets.udp(host, server, 5000, 9000, b"x" * 40 + bytes((n,)))
            br.send(sent)
            out = there.wait(lambda s: s.dst == server and s.data.endswith(b"x" + bytes((n,))), 3, "the datagram")
            sink.sendto(b"y" * 40, (out.src, out.sport))
            answer = back.wait(lambda s: s.proto == packets.UDP and (s.dst, s.dport) == (out.src, out.sport), 3, "the answer")
            _, home = br.wait(lambda s: s.proto == packets.UDP and s.src == server, 3, "the answer")

            told = told_all(c, lambda p: raw.sendto(p, (out.src, 0)), lambda f: br.wait(f, 3, "an error")[1], ERRORS[family],
                            out.data, router, out.src)
            for s in told:
                c.equal((s.src, s.dst), (router, host), f"who tells whom in {s}")
                c.equal(quoted(s), quoted(packets.Seen(packets.icmp_error(router, host, 3, 1, sent))), f"what {s} quotes")
            there.listen()
            there.heard.clear()
            told = told_all(c, br.send, lambda f: there.wait(lambda s: s.dst == server and f(s), 3, "an error"), ERRORS[family],
                            home.data, lan_router, server)
            for s in told:
                c.equal(quoted(s), quoted(packets.Seen(packets.icmp_error(router, server, 3, 1, answer.data))),
                        f"what {s} quotes")
            br.forget()
        flows = net.gateway.flows_of()
        c.equal(len(flows), 2, f"flows: {flows}")
        # What quotes nobody's packet is dropped by name. From the egress none comes so far: the kernel knows no way.
        before = net.gateway.drops().get("icmp_no_flow", 0)
        kinds = [(k, n, rest) for k, codes, rest in ERRORS[family] for n in range(codes + 1)]
        for k, n, rest in kinds:
            branches[0].send(packets.icmp_error(lan_router, server, k, n, packets.udp(server, host, 9000, 5001, b"y"), rest))
        c.wait(lambda: net.gateway.drops().get("icmp_no_flow", 0) == before + len(kinds), 3, f"{len(kinds)} drops icmp_no_flow")
        net.gateway.ctl("flush", "--all")


@case()
def every_error_routed(c):
    """
        br1, br2: routers in the hands of the test -- GRE -- gw, nat = none -- inet: r1 198.18.0.2, server

    ICMP errors of every type and code, about what two sites with equal addresses and ports sent, and about the answers.
    """
    every_error(c, "none")


@case()
def every_error_masqueraded(c):
    """
        br1, br2: routers in the hands of the test -- GRE -- gw, nat = masquerade -- inet: r1 198.18.0.2, server
    """
    every_error(c, "masquerade")
