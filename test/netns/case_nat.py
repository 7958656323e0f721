# SPDX-License-Identifier: GPL-2.0-or-later
"""arrd's own NAT, and what each kind of NAT does with protocols that have no ports."""
import socket
import struct
import time

import packets
import topo
from case_home import ask_everything, equal_tuples
from case_frag import interleaved
from case_life import Downloads, RATE
from harness import case

GRE, ESP, AH, IPIP, OSPF, TEST = 47, 50, 51, 4, 89, 253
UDPLITE, SCTP, DCCP = 136, 132, 33
WITH_PORTS, PORTLESS = (UDPLITE, SCTP, DCCP), (GRE, ESP, AH, OSPF, TEST)


def segment(proto, src, dst, sport, dport, data, answer=False):
    """The first packet of a conversation, or its answer, that ends with data."""
    if proto == UDPLITE:
        return packets.l4(src, dst, proto, struct.pack("!HHHH", sport, dport, 0, 0) + data, 6)
    if proto == DCCP:  # a Request with a service code; a Response
        head = struct.pack("!HHBBHBBHIII", sport, dport, 6 + answer, 0, 0, (1 if answer else 0) << 1 | 1, 0, 0, 1, 42, 0)
        return packets.l4(src, dst, proto, head + (b"\0" * 4 if answer else b"") + data, 6)
    if proto == SCTP:  # INIT with a parameter that nobody knows; INIT ACK
        data += b"\0" * (-len(data) % 4)
        chunk = struct.pack("!BBHIIHHIHH", 1 + answer, 0, 24 + len(data), 7, 65536, 1, 1, 1, 0x8FFF, 4 + len(data)) + data
        s = struct.pack("!HHII", sport, dport, 7 if answer else 0, 0) + chunk
        return s[:8] + struct.pack("<I", packets.crc32c(s)) + s[12:]
    if proto == AH:  # conntrack looks at what follows it in IPv6
        return struct.pack("!BBHII", TEST, 4, 0, 1234, 1) + b"\0" * 12 + data
    if proto == GRE:
        return b"\0\0\x88\xb5" + data  # an EtherType for experiments
    return data


class Peer:
    """A host behind the egress that hears everything, and answers when told."""

    def __init__(self, net):
        self.net = net
        self.ear = packets.Ear(net.inet, "eth0")
        self.sockets = {f: net.inet.socket(f, socket.SOCK_RAW, socket.IPPROTO_RAW)
                        for f in (socket.AF_INET, socket.AF_INET6)}

    def send(self, packet, dst):
        self.sockets[socket.AF_INET6 if ":" in dst else socket.AF_INET].sendto(packet, (dst, 0))

    def wait(self, data):
        return self.ear.wait(lambda s: data in s.data, 3, f"{data} to come to the server")


def converse(c, net, br, peer, proto, six, refused=()):
    """Both branches ask with equal tuples; each gets its own answer, but those whose question is to be refused."""
    src, dst = (topo.HOST6, topo.SERVER6) if six else (topo.HOST, topo.SERVER)
    sport, dport = (4000, 9000) if proto in WITH_PORTS else (None, None)
    seen = {}

    def answer(i):
        return f"answer {src} {proto} {i}. ".encode()
    for i, b in enumerate(br, 1):
        b.forget()
        peer.ear.heard.clear()
        ask = f"question {src} {proto} {i}. ".encode()
        dropped = net.gateway.drops().get("nat_exhausted", 0)
        b.send(packets.ip_any(src, dst, proto, segment(proto, src, dst, sport, dport, ask)))
        if i in refused:
            net.gateway.wait_drop("nat_exhausted", dropped)
            continue
        seen[i] = peer.wait(ask)
    ends = {i: (s.src, s.l4[:2] if sport else b"") for i, s in seen.items()}
    c.equal(len(set(ends.values())), len(ends), f"protocol {proto}: different sources as the server sees them: {ends}")
    for i, s in seen.items():
        port = struct.unpack("!H", s.l4[:2])[0] if sport else None
        peer.send(packets.ip_any(s.dst, s.src, proto, segment(proto, s.dst, s.src, dport, port, answer(i), answer=True)),
                  s.src)
    for i, b in enumerate(br, 1):
        if i in seen:
            _, got = b.wait(lambda p, i=i: answer(i) in p.data, 3, f"the answer of protocol {proto} to come to br{i}")
            c.equal((got.src, got.dst, got.proto), (dst, src, proto), f"addresses of what br{i} got")
            c.equal(got.l4, segment(proto, dst, src, dport, sport, answer(i), answer=True),
                    f"what br{i} got of protocol {proto}, checksums and all")
        wrong = [p for _, p in b.heard() if b"answer" in p.data and answer(i) not in p.data]
        c.equal(wrong, [], f"what br{i} got that is another's")
    return {i: s.src for i, s in seen.items()}


def every_protocol(c, nat):
    net = topo.Net(c, nat=nat, cpe=False)
    br, peer = [packets.Branch(net, 1), packets.Branch(net, 2)], Peer(net)
    # Kernels up to 6.18 at least judge UDP-Lite by the pseudo-header of UDP, and take all of it for damaged.
    net.gw.sysctl({"net/netfilter/nf_conntrack_checksum": 0})
    # Kernels from 6.16 on have no NAT for DCCP: they change its addresses, and leave the checksum as it was.
    protocols = [p for p in WITH_PORTS + PORTLESS if (nat, p) != ("masquerade", DCCP)]
    sources = {}
    for six in (False, True):
        for proto in protocols:
            refused = (2,) if nat == "masquerade" and proto in PORTLESS else ()
            sources[proto, six] = converse(c, net, br, peer, proto, six, refused)
    # once more, by the same flows
    for proto in protocols:
        refused = (2,) if nat == "masquerade" and proto in PORTLESS else ()
        c.equal(converse(c, net, br, peer, proto, False, refused), sources[proto, False], "sources, the second time")
    c.check("other_site" not in net.gateway.drops(), f"drops: {net.gateway.drops()}")
    return sources


@case(limit=60)
def every_protocol_routed(c):
    """
        br1: 10.0.1.5 \\
                       UDP-Lite, SCTP, DCCP, GRE, ESP, AH, OSPF, 253 -- gw, nat = none -- inet
        br2: 10.0.1.5 /

    Two sites speak with one server at once, with equal tuples, IPv4 and IPv6. What has no ports gets another address.
    """
    for (proto, _), s in every_protocol(c, "none").items():
        c.check(proto in WITH_PORTS or s[2].startswith(("100.64.", "fd00:a44::")), f"protocol {proto}: source {s[2]}")


@case(limit=60)
def every_protocol_pool(c):
    """
        br1: 10.0.1.5 \\
                       UDP-Lite, SCTP, DCCP, GRE, ESP, AH, OSPF, 253 -- gw, arrd's own NAT -- inet
        br2: 10.0.1.5 /

    The same on two addresses of arrd's own NAT, and no other ever.
    """
    pool = {"192.0.2.8", "192.0.2.9", "2001:db8:2::8", "2001:db8:2::9"}
    for (proto, _), s in every_protocol(c, topo.POOL).items():
        c.check(set(s.values()) <= pool, f"protocol {proto}: sources {s}")


@case(limit=60)
def every_protocol_masqueraded(c):
    """
        br1: 10.0.1.5 \\
                       UDP-Lite, SCTP, DCCP, GRE, ESP, AH, OSPF, 253 -- gw, masquerade -- inet
        br2: 10.0.1.5 /

    On the kernel's one address what has no ports cannot be told apart: the second is dropped by name.
    """
    for (proto, _), s in every_protocol(c, "masquerade").items():
        c.check(set(s.values()) <= {topo.GW_EGRESS, topo.GW_EGRESS6}, f"protocol {proto}: sources {s}")


@case(needs=("conntrack",))
def equal_tuples_pool(c):
    """
        br1: 10.0.1.5:40000 \\
                             GRE over IPv4 -- gw, nat = 192.0.2.8-192.0.2.9 -- inet: server
        br2: 10.0.1.5:40000 /

    TCP, UDP and ping on arrd's own NAT: the kernel keeps no state of any of it, and status says who uses it.
    """
    net = equal_tuples(c, topo.POOL)
    said = [line for f in ("ipv4", "ipv6") for line in net.gw.run(["conntrack", "-L", "-f", f]).split("\n")
            if "192.0.2." in line or "2001:db8:2:" in line or topo.HOST in line or topo.HOST6 in line]
    c.equal(said, [], "what conntrack knows of branches")
    e = net.gateway.json("status")["egress"]
    c.equal((e["nat"], e["nat_pool"]), ("pool", topo.POOL), "nat as status shows it")
    c.check(e["nat_flows"] >= 96 and e["nat_busiest_site"] in ("s1", "s2") and e["nat_busiest_site_flows"] >= 48,
            f"its use as status shows it: {e}")


@case()
def interleaved_pool(c):
    """
        br1: fragments of 10.0.1.5:5000, id k \\
                                               by turns -- gw, arrd's own NAT -- inet: UDP server
        br2: fragments of 10.0.1.5:5000, id k /
    """
    interleaved(c, topo.POOL)


@case()
def pool_is_closed(c):
    """
        br1 -- gw, nat = 192.0.2.8-192.0.2.9, routes = 0.0.0.0/0 -- inet
        br2 /

    What a branch sends to an address of the NAT is dropped by name; what comes from outside without a flow reaches no
    branch, not even one whose route it would be; nobody sends from the pool but those that it translates.
    """
    net = topo.Net(c, nat=topo.POOL, cpe=False, tunnel=lambda i: {"routes": ["0.0.0.0/0", "::/0"]} if i == 1 else {})
    br, peer = [packets.Branch(net, 1), packets.Branch(net, 2)], Peer(net)
    for src, dst in ((topo.HOST, "192.0.2.8"), (topo.HOST6, "2001:db8:2::9")):
        before = net.gateway.drops().get("dst_nat", 0)
        br[1].send(packets.udp(src, dst, 5000, 5000, b"to another site"))
        br[1].send(packets.tcp(src, dst, 5000, 5000, packets.SYN))
        net.gateway.wait_drop("dst_nat", before + 1)
    for dst, src in (("192.0.2.8", topo.SERVER), ("2001:db8:2::9", topo.SERVER6)):
        before = net.gateway.drops().get("no_flow", 0)
        peer.send(packets.udp(src, dst, 53, 5000, b"stranger"), dst)
        peer.send(packets.tcp(src, dst, 53, 5000, packets.SYN), dst)
        peer.send(packets.echo(src, dst), dst)
        net.gateway.wait_drop("no_flow", before + 2)
    c.check(all(b.quiet() for b in br), "a branch heard of it")
    c.check(not [s for s in peer.ear.listen() if b"another site" in s.data], "it left by the egress")


@case()
def share_of_a_site(c):
    """
        br1: 1,000 ports to one server -- gw, nat = 192.0.2.8, nat_share = 1 -- inet
        br2: some more ----------------/

    A site has its share of what the NAT can tell apart to one destination, 645 flows; the rest is dropped by name, and
    another site does not notice.
    """
    net = topo.Net(c, nat="192.0.2.8", cpe=False, egress={"nat_share": 1})
    br, peer = [packets.Branch(net, 1), packets.Branch(net, 2)], Peer(net)
    for k in range(1000):
        br[0].send(packets.udp(topo.HOST, topo.SERVER, 2000 + k, 9000, b"of br1"))
    net.gateway.wait_drop("nat_site_limit", 354)
    for k in range(100):
        br[1].send(packets.udp(topo.HOST, topo.SERVER, 2000 + k, 9000, b"of br2, %d." % k))
    c.wait(lambda: sum(b"of br2" in s.data for s in peer.ear.listen()) == 100, 5, "the other site's to come through")
    mine = [s for s in peer.ear.heard if b"of br1" in s.data]
    c.equal((len(mine), {s.src for s in mine}), (645, {"192.0.2.8"}), "flows of br1, and their source")
    c.equal(len({s.sport for s in peer.ear.heard if s.src == "192.0.2.8"}), 745, "source ports")
    drops = net.gateway.tunnel_drops("t1")
    c.equal(drops.get("nat_site_limit"), 355, f"drops of t1: {drops}")
    c.check("nat_site_limit" not in net.gateway.tunnel_drops("t2"), "the other site was refused")
    before = net.gateway.drops().get("nat_family", 0)
    br[0].send(packets.udp(topo.HOST6, topo.SERVER6, 2000, 9000, b"IPv6"))
    net.gateway.wait_drop("nat_family", before)


@case()
def services_by_the_pool(c):
    """
        br1, br2: 10.0.1.5:41000 -- gw, arrd's own NAT: TCP 8080, echo -- inet

    Services of the machine itself answer a branch by its translated address; what is not named stays closed.
    """
    net = topo.Net(c, nat=topo.POOL, egress={"local_services": ["tcp/8080", "icmp"]})
    for family, gateway, host in ((socket.AF_INET, topo.GW_EGRESS, topo.HOST), (socket.AF_INET6, topo.GW_EGRESS6, topo.HOST6)):
        listener = net.gw.socket(family, socket.SOCK_STREAM)
        listener.bind((gateway, 8080))
        listener.listen(4)
        kept = []
        for i, ns in net.branches.items():
            s = ns.socket(family, socket.SOCK_STREAM)
            s.settimeout(3 * c.scale)
            s.bind((host, 41000))
            s.connect((gateway, 8080))
            server, peer = listener.accept()
            server.sendall(b"for br%d" % i)
            c.equal(s.recv(100), b"for br%d" % i, f"what br{i} got of {gateway}")
            c.check(peer[0].startswith(("192.0.2.", "2001:db8:2::")), f"its address as the service sees it: {peer}")
            kept += [s, server]
            ns.run(f"ping -c 1 -W 3 {gateway}")
            s = ns.socket(family, socket.SOCK_STREAM)
            s.settimeout(0.3)
            c.check(s.connect_ex((gateway, 8081)) != 0, "a service that is not named was reached")


def away(c, end):
    net = topo.Net(c, nat="192.0.2.8", start=False, egress={"nat": ["192.0.2.8", "2001:db8:2::8"]})
    net.gateway.start()
    net.tagserver(rate=RATE)
    net.wirewatch(private="10.0.0.0/8")
    loads = [Downloads(c, net), Downloads(c, net, server=topo.SERVER6)]

    def ports():
        return sorted((f["reply"]["dst"], f["reply"]["dport"], f["site"]) for f in net.gateway.flows_of(proto="tcp")
                      if f["orig"]["dport"] == topo.SLOW)
    before = ports()
    c.equal((len(before), {p[0] for p in before}), (4, {"192.0.2.8", "2001:db8:2::8"}), "flows and their addresses")
    end(net)
    for d in loads:
        d.go_on(15, "the downloads to go on")
    c.equal(ports(), before, "the translations of the downloads")
    return net


@case(limit=60)
def crash_and_restart_pool(c):
    """
        br1: downloads \\
                        gw, arrd's own NAT (kill -9, start) -- inet
        br2: downloads /

    Downloads on two colliding sites, IPv4 and IPv6, go on after kill -9 and a start, by the same addresses and ports. While
    arrd is away, what comes for the pool falls nowhere.
    """
    def crash(net):
        ear = packets.Ear(net.gw, "wan0", lambda s: s.dst.startswith(("192.0.2.", "2001:db8:2::")), sent=True)
        net.gateway.kill()
        time.sleep(1)
        c.equal(ear.listen(), [], "what left by another interface for the pool")
        net.gateway.start()
    away(c, crash).judged()


@case(limit=60)
def pool_changes(c):
    """
        br1, br2: downloads -- gw, nat = 192.0.2.8, then 192.0.2.8-192.0.2.20, then masquerade, then 192.0.2.30 -- inet

    A pool that grows harms no flow; one that goes ends its flows, and new ones get the new NAT's addresses. Rules, sets
    and policy rules follow each time.
    """
    net = away(c, lambda net: (net.gateway.egress.update(nat=["192.0.2.8-192.0.2.20", "2001:db8:2::8"]),
                               net.gateway.reload()))
    own = (topo.HOST, "100.64.")
    for nat, rules, sources in (("masquerade", 0, own), ("192.0.2.30", 1, ("192.0.2.30",)),
                                ("192.0.2.32-192.0.2.33", 1, ("192.0.2.32", "192.0.2.33")), ("none", 0, own)):
        net.gateway.egress["nat"] = nat
        net.gateway.reload()
        left = [f for f in net.gateway.flows_of() if f["state"] != "quarantine" and f["orig"]["src"] == topo.HOST
                and not f["reply"]["dst"].startswith(sources)]
        c.equal(left, [], f"flows that are left of before with nat = {nat}")
        shown = [r for r in net.gw.ip("-4 rule show").split("\n") if "192.0.2." in r]
        c.equal(len(shown), rules, f"policy rules to the pool with nat = {nat}: {shown}")
        ask_everything(c, net)
    net.gateway.egress["nat"] = topo.GW_EGRESS
    net.gateway.reload(ok=(78,))
    c.check("is the machine's own address" in c.last.stderr + c.last.stdout, f"refused otherwise: {c.last.stderr}")
    ask_everything(c, net)


@case()
def low_ports_masqueraded(c):
    """
        br1: 511 hosts, UDP from port 123 to one server -- gw, masquerade -- inet
        br2: 100 hosts, the same --------------------- /

    The kernel keeps ports below 1024 among themselves unless it is told not to; there are few, and what finds none is dropped
    without a word.
    """
    net = topo.Net(c, nat="masquerade", cpe=False)
    br, peer = [packets.Branch(net, 1), packets.Branch(net, 2)], Peer(net)
    for k in range(511):
        br[0].send(packets.udp(f"10.0.{k // 250}.{k % 250 + 1}", topo.SERVER, 123, 123, b"of br1"))
    for k in range(100):
        br[1].send(packets.udp(f"10.9.0.{k + 1}", topo.SERVER, 123, 123, b"of br2"))
    for what, n in ((b"of br1", 511), (b"of br2", 100)):
        c.wait(lambda what=what, n=n: sum(what in s.data for s in peer.ear.listen()) == n, 5, f"all {what} at the server")


@case(limit=60, needs=("conntrack",))
def ends_in_the_kernel_too(c):
    """
        br1: 1,000 UDP flows that nobody answers -- gw, 1,024 flows, masquerade -- inet

    Flows that wait shorter because the table is nearly full end before the kernel's entries for them would, so these are
    deleted: a late packet would keep one until its tuple is another site's flow.
    """
    net = topo.Net(c, sites=2, nat="masquerade", cpe=False, flows={"max": 1024, "udp_one_way": 60})
    br, peer = [packets.Branch(net, 1), packets.Branch(net, 2)], Peer(net)
    br[1].send(packets.udp("10.0.7.7", topo.SERVER, 5001, 9000, b"of br2"))
    peer.wait(b"of br2")
    for k in range(1000):
        br[0].send(packets.udp("10.0.2.9", topo.SERVER, 2000 + k, 9001, b"of br1"))
    c.wait(lambda: net.gateway.json("stats")["flows"]["used"] > 900, 5, "the table to fill")
    started = time.monotonic()
    c.wait(lambda: net.gateway.json("stats")["flows"]["used"] < 10, 50, "the flows to end")
    c.check(time.monotonic() - started < 50, "they were not shortened, so nothing was tested")
    c.wait(lambda: net.gw.run(["conntrack", "-L", "-p", "udp"]).count("dport=9001") == 0, 3, "the kernel's entries to go")


@case(limit=40, needs=("conntrack",))
def expires_in_the_kernel_too(c):
    """
        br1: a connection -- gw, tcp_reset = 3 s, masquerade -- inet: RST in the window, but not at its edge

    Linux goes on with such a connection when the branch has asked whether it is meant, and would for hours; arrd waits for an
    answer to that. An entry that
    stayed would take up the next flow with that tuple, whosever it is: with the flow the entry goes.
    """
    net = topo.Net(c, sites=1, nat="masquerade", cpe=False, flows={"tcp_reset": 3})
    br, peer, server = packets.Branch(net, 1), Peer(net), "198.51.100.99"  # which is nobody's: no TCP answers

    def entries():
        return [line for line in net.gw.run(["conntrack", "-L", "-p", "tcp"]).splitlines() if "dport=9000" in line]
    br.send(packets.tcp(topo.HOST, server, 4000, 9000, packets.SYN, seq=1000))
    seen = peer.ear.wait(lambda s: s.dst == server, 3, "the SYN to arrive")
    for flags, seq, ack in ((packets.SYN | packets.ACK, 1, 1001), (packets.RST, 502, 0)):
        peer.send(packets.tcp(server, seen.src, 9000, seen.sport, flags, seq=seq, ack=ack), seen.src)
        if flags & packets.SYN:
            br.send(packets.tcp(topo.HOST, server, 4000, 9000, packets.ACK, seq=1001, ack=2))
            c.wait(lambda: "ESTABLISHED" in "".join(entries()), 2, "the connection")
    c.wait(lambda: any(f["state"] == "reset" for f in net.gateway.flows_of()), 2, "arrd to have seen the reset")
    br.send(packets.tcp(topo.HOST, server, 4000, 9000, packets.ACK, seq=1001, ack=2))  # a challenge, RFC 5961
    c.wait(lambda: any(int(e.split()[2]) > 60 for e in entries()), 2, "the kernel to go on for long, or nothing is tested")
    c.wait(lambda: all(f["state"] == "quarantine" for f in net.gateway.flows_of()), 6, "the flow to end")
    c.wait(lambda: not entries(), 1, "the kernel's entry to go")


def late_answers(c, nat):
    """br1's flow ends, and br2's begins with the same port, from another address where the kernel masquerades. What the
    server still sends to the first must reach nobody, and the same is tried with a flow that ended in between."""
    net = topo.Net(c, nat=nat, cpe=False)
    br, peer = [packets.Branch(net, 1), packets.Branch(net, 2)], Peer(net)
    for six in (False, True):
        hosts = ("fd00:9::9", "fd00:9::5") if six else ("10.9.9.9", topo.HOST)
        dst = topo.SERVER6 if six else topo.SERVER
        for host in hosts:
            port = 5000 + 10 * six + hosts.index(host)
            first, second = (f"{n} {host} ".encode() for n in ("first", "second"))
            br[0].send(packets.udp(topo.HOST6 if six else topo.HOST, dst, port, 9000, first))
            a = peer.wait(first)
            net.gateway.ctl("flush", "--all")
            br[1].send(packets.udp(host, dst, port, 9000, second))
            b = peer.wait(second)
            c.check((a.src, a.sport) != (b.src, b.sport), f"both are {a.src} port {a.sport} to the server")
            for s, text in ((a, b"late"), (b, b"answer")):
                peer.send(packets.udp(dst, s.src, 9000, s.sport, text), s.src)
            br[1].wait(lambda p: b"answer" in p.data, 3, "the answer to br2")
            c.equal([p.data for b in br for _, p in b.heard() if b"late" in p.data], [], "what came late")
            for b in br:
                b.forget()


@case()
def late_answers_masqueraded(c):
    """
        br1, br2: UDP from the same port, one after the other -- gw, masquerade -- inet: answers late

    The server sees nothing of a flow but its port, so this is what is closed to others for a while.
    """
    late_answers(c, "masquerade")


@case()
def late_answers_pool(c):
    """
        br1, br2: UDP from the same port, one after the other -- gw, arrd's own NAT -- inet: answers late
    """
    late_answers(c, topo.POOL)


@case()
def late_answers_routed(c):
    """
        br1, br2: UDP from the same port, one after the other -- gw, nat = none -- inet: answers late
    """
    late_answers(c, "none")
