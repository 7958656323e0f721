# SPDX-License-Identifier: GPL-2.0-or-later
"""What the kernel around the TUN does: rules, marks, routes, conntrack. The topology of all is kernel.py's."""
import kernel
from kernel import HOST, HOST6, SERVER, SERVER6, is_icmp
from harness import case
from scapy.layers.inet import ICMP, IP, TCP, UDP, fragment
from scapy.layers.inet6 import ICMPv6PacketTooBig, IPv6


def talk_all(net, sport=40000):
    """Ping, UDP and TCP of both families come back to the TUN."""
    for v in (4, 6):
        host, server = (HOST, SERVER) if v == 4 else (HOST6, SERVER6)
        r = net.probe.ask(kernel.ping(v, sport & 0xfff), is_icmp)
        net.c.check(r is not None and r.src == server and r.dst == host, f"IPv{v} ping: {r and r.summary()}")
        r = net.probe.ask(kernel.udp(v, sport), lambda p: UDP in p)
        net.c.check(r is not None and bytes(r[UDP].payload) == b"datagram", f"IPv{v} UDP: {r and r.summary()}")
        kernel.Tcp(net, v, sport).echo(b"hello")


def sources(packets):
    return {p.src for p in packets}


@case(needs=("nft", "conntrack"))
def masquerade(c):
    """
        10.0.1.5 via arr0 -- gw -- eth0 --- server;  10.0.1.5 on eth1 is somebody else

    Ping, UDP, TCP, both families: answers come to the TUN, the host with the branch's address hears nothing.
    """
    net = kernel.Net(c)
    net.echo_server()
    lan, out = kernel.Sniffer(net.lan, "eth0"), kernel.Sniffer(net.inet, "eth0")
    talk_all(net)
    c.equal(lan.packets(), [], "packets on the gateway's own network")
    c.equal(sources(out.packets()), {SERVER, SERVER6, kernel.GW, kernel.GW6}, "sources on the egress")


@case(needs=("nft", "conntrack"))
def routed(c):
    """
        10.0.1.5 via arr0 -- gw, nat = none -- eth0 --- server, which has a route back

    The same without NAT: the mark brings answers to the TUN although 10.0.1.5 is on eth1.
    """
    net = kernel.Net(c, nat="none")
    net.echo_server()
    lan, out = kernel.Sniffer(net.lan, "eth0"), kernel.Sniffer(net.inet, "eth0")
    talk_all(net)
    c.equal(lan.packets(), [], "packets on the gateway's own network")
    c.equal(sources(out.packets()), {SERVER, SERVER6, HOST, HOST6}, "sources on the egress")


@case(needs=("nft", "conntrack"))
def icmp_errors(c):
    """
        arr0 -- gw -- eth0 --- server

    Errors from afar and the gateway's own: about packets from a branch to the branch, about answers to the server.
    """
    net = kernel.Net(c)
    net.echo_server()
    for nat in ("masquerade", "none"):
        if nat == "none":
            reconfigured(net, nat)
        for v in (4, 6):
            base = 5000 + 100 * v + (50 if nat == "none" else 0)
            server = SERVER if v == 4 else SERVER6
            r = net.probe.ask(kernel.udp(v, base, 9), is_icmp)
            c.check(r is not None and r.src == server, f"{nat}, IPv{v}: port unreachable of the server: {r and r.summary()}")
            c.check(r.dst == (HOST if v == 4 else HOST6), "the error has the branch's address")

            # The way out gets narrow: the gateway itself complains, to the branch, of a new and of a known connection.
            net.gw.ip("link set eth0 mtu 1400")
            for sport in (base + 1, base):
                big = kernel.ip(v, **({"flags": "DF"} if v == 4 else {})) / UDP(sport=sport, dport=9) / (b"x" * 1440)
                r = net.probe.ask(big, is_icmp)
                c.check(r is not None and (r[ICMP].code == 4 if v == 4 else ICMPv6PacketTooBig in r),
                        f"{nat}, IPv{v}: too big, port {sport}: {r and r.summary()}")
            net.gw.ip("link set eth0 mtu 1500")

            # The way back gets narrow: it complains to the server, not to the TUN.
            net.gw.ip("link set arr0 mtu 1400")
            out = kernel.Sniffer(net.inet, "eth0")
            big = kernel.ip(v) / UDP(sport=base + 2, dport=7) / (b"y" * 1430)
            net.probe.send(big)
            back = net.probe.receive(is_icmp, 0.5)
            c.equal(back, None, f"{nat}, IPv{v}: an error about an answer came to the branch")
            told = [p for p in out.packets() if is_icmp(p) and p.dst == server]
            c.check(len(told) == 1, f"{nat}, IPv{v}: errors to the server: {[p.summary() for p in told]}")
            net.gw.ip("link set arr0 mtu 1500")
            net.inet.ip("route flush cache")


def reconfigured(net, nat):
    net.configure(nat=nat)
    net.c.equal(net.probe.command("reload").strip(), "reload 0", "reload")


@case(needs=("nft", "conntrack"))
def nat_changed(c):
    """
        arr0 -- gw, masquerade => none => masquerade, by a reload and by a restart -- eth0 --- server

    A conversation that goes on, from the same ports: what conntrack knows of it is of before, and must go. It would
    be dropped, untranslated as it is, for as long as the branch sends; or its answers go to the gateway itself.
    """
    net = kernel.Net(c)
    net.echo_server()
    out = kernel.Sniffer(net.inet, "eth0")

    def goes_on(nat):
        for v, source in ((4, kernel.GW if nat == "masquerade" else HOST),
                          (6, kernel.GW6 if nat == "masquerade" else HOST6)):
            r = net.probe.ask(kernel.udp(v, 41000), lambda p: UDP in p)
            c.check(r is not None and bytes(r[UDP].payload) == b"datagram", f"{nat}, IPv{v}: {r and r.summary()}")
            c.equal(sources(p for p in out.packets() if p.version == v and UDP in p and p.dport == 7), {source},
                    f"{nat}, IPv{v}: source on the egress")

    goes_on("masquerade")
    for nat in ("none", "masquerade"):
        reconfigured(net, nat)
        goes_on(nat)
    for nat in ("none", "masquerade"):
        net.configure(nat=nat)
        net.probe.detach()
        net.restart()
        goes_on(nat)
    before = net.connections()
    reconfigured(net, "masquerade")
    c.equal(len(net.connections()), len(before), "connections after a reload that changed nothing")


@case(needs=("nft", "conntrack"))
def out_of_window(c):
    """
        arr0 -- gw -- eth0 --- server

    Segments far out of window: the gateway answers none with a reset, and none leaves with its private source.
    """
    net = kernel.Net(c)
    net.echo_server()
    t = kernel.Tcp(net)
    t.echo(b"before")
    out = kernel.Sniffer(net.inet, "eth0")
    # From the branch: out of window, and of states that make no sense.
    for flags in ("A", "PA", "R", "FA"):
        net.probe.send(t.segment(flags, b"z" * 20, seq=(t.seq + 0x40000000) & 0xffffffff))
    for flags in (0, "SF", "SR", "FPU"):
        net.probe.send(t.segment(flags, seq=t.seq))
        net.probe.send(kernel.ip(4) / TCP(sport=41000, dport=7, flags=flags))
    # From the server, made by hand, to the port that NAT chose.
    outside = IP(src=SERVER, dst=kernel.GW)
    with net.inet:
        import socket
        raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    for flags in ("A", "PA", "FA", 0, "SF", "FPU"):
        raw.sendto(bytes(outside / TCP(sport=7, dport=t.sport, flags=flags, seq=(t.ack + 0x40000000) & 0xffffffff,
                                       ack=t.seq) / b"w"), (kernel.GW, 0))
    r = net.probe.receive(lambda p: t.mine(p) and t.payload(p) == b"w", 1)
    c.check(r is not None, "the packet path does not see the server's segment, though it is the one to judge windows")
    seen = out.packets()
    resets = [p.summary() for p in seen if TCP in p and p.src == kernel.GW and p.dst == SERVER and "R" in p[TCP].flags
              and p[TCP].sport == t.sport and p[TCP].seq != ((t.seq + 0x40000000) & 0xffffffff)]
    c.equal(resets, [], "resets by the gateway")
    c.equal({s for s in sources(seen) if s not in (kernel.GW, SERVER)}, set(), "other sources on the egress")
    c.check(net.counter("branch_invalid") > 0, "nothing was counted as invalid from the branch")
    c.check(net.counter("server_tcp_invalid") > 0, "nothing was counted as invalid from the server")
    c.equal(net.counter("branch_untranslated"), 0, "what only the last guard held back")
    t.echo(b"after")


@case(needs=("nft", "conntrack"))
def overlap_router(c):
    """
        10.0.1.5:40000 via arr0 -- gw -- eth0 --- server
        10.0.1.5:40000 on eth1 ----´ (a router for its own network, too, with a masquerade of its own)

    The same tuple from the branch and from the gateway's own network at once: each gets its own answers.
    """
    net = kernel.Net(c, start=False)
    net.gw.sysctl({"net/ipv4/ip_forward": 1, "net/ipv6/conf/all/forwarding": 1})
    net.gw.run("nft add table inet own")
    net.gw.run(["nft", "add chain inet own post { type nat hook postrouting priority srcnat; }"])
    net.gw.run(["nft", 'add rule inet own post iifname "eth1" oifname "eth0" masquerade'])
    net.echo_server()
    net.restart()
    for family, server in (("", SERVER), ("6", SERVER6)):
        v = 6 if family else 4
        for first in ("lan", "branch"):
            port = 40000 if first == "lan" else 40001
            lan = net.lan.socket(10 if family else 2, 2)
            lan.bind(("", port))
            for who in (first, "branch" if first == "lan" else "lan", "lan", "branch"):
                if who == "lan":
                    lan.sendto(b"from the LAN", (server, 7))
                    c.equal(lan.recv(99), b"from the LAN", f"IPv{v}, {first} first: what the LAN host got")
                else:
                    r = net.probe.ask(kernel.udp(v, port), lambda p: UDP in p)
                    c.check(r is not None and bytes(r[UDP].payload) == b"datagram" and r[UDP].dport == port,
                            f"IPv{v}, {first} first: the branch got {r and r.summary()}")
            c.equal(net.probe.receive(seconds=0.2), None, "one more to the branch")
            lan.close()
    # Other forwarding on the box goes on as it did.
    lan = net.lan.socket(2, 2)
    lan.sendto(b"x", (SERVER, 7))
    c.equal(lan.recv(9), b"x", "the gateway as the router of its own network")


@case(limit=90, needs=("nft", "conntrack"))
def tun_away(c):
    """
        arr0 goes away -- gw -- eth0 --- server;  10.0.1.5 on eth1

    While arrd is away, by stop or kill -9, its answers go to nobody; after the start the connection goes on. The
    gateway is a router by itself, so that nothing but the blackhole holds them back.
    """
    net = kernel.Net(c, start=False)
    net.gw.sysctl({"net/ipv4/ip_forward": 1, "net/ipv6/conf/all/forwarding": 1})
    net.restart()
    net.echo_server()
    for nat, base in (("masquerade", 40000), ("none", 42000)):
        if nat == "none":
            again(net, nat)
        for n, end in enumerate(("kill", "detach")):
            conns = [kernel.Tcp(net, v, base + n) for v in (4, 6)]
            for t in conns:
                t.echo(b"one")
                # The answer to this one comes, but is never acknowledged: the server sends it again and again.
                r = net.probe.ask(t.segment("PA", b"two"), lambda p, t=t: t.mine(p) and t.payload(p) == b"two")
                c.check(r is not None, f"{nat}: IPv{t.v}: no answer")
                t.seq += 3
            getattr(net.probe, end)()
            lan = kernel.Sniffer(net.lan, "eth0")
            c.wait(lambda: "arr0" not in net.gw.ip("-o link"), 5, "arr0 to go")
            # A late answer by hand; the server's retransmissions come beside it.
            with net.inet:
                import socket
                raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
            to = kernel.GW if nat == "masquerade" else HOST
            for _ in range(3):
                raw.sendto(bytes(IP(src=SERVER, dst=to) / TCP(sport=7, dport=base + n, flags="PA", seq=conns[0].ack,
                                                              ack=conns[0].seq) / b"late"), (to, 0))
            c.equal(lan.packets(), [], f"{nat}: packets on the gateway's own network while the TUN is away")
            net.restart()
            missing = {4, 6}
            while missing:
                r = net.probe.receive(lambda p: any(t.mine(p) and t.payload(p) for t in conns), 15)
                c.check(r is not None, f"{nat}: IPv{missing}: the server's retransmission did not come to the new TUN")
                missing.discard(r.version)
        c.equal(lan.packets(), [], "packets on the gateway's own network")


def again(net, nat):
    """Stops, cleans up, and starts with another NAT."""
    net.probe.detach()
    net.once("cleanup")
    net.configure(nat=nat)
    net.nat = nat
    net.restart()


@case(needs=("nft", "conntrack"))
def no_trace(c):
    """
        gw, before arrd and after it

    Starts, kills, reloads, and another interface's settings in between; --cleanup leaves everything as it was.
    """
    net = kernel.Net(c, start=False)
    # Values that arrd has to change, of kinds that are easily given back wrongly.
    net.gw.sysctl({"net/ipv4/conf/all/rp_filter": 1, "net/ipv4/conf/eth0/rp_filter": 0, "net/ipv4/conf/eth1/rp_filter": 2,
                   "net/ipv6/conf/eth0/accept_ra": 1, "net/netfilter/nf_conntrack_tcp_loose": 0,
                   "net/netfilter/nf_conntrack_generic_timeout": 5000})
    net.gw.run("nft add table inet other")
    net.gw.run("nft add chain inet other c { type filter hook forward priority 0; }")
    before = net.state_of()
    net.once("cleanup")
    net.no_trace(before)
    net.echo_server()
    net.once("up")
    net.restart()
    talk_all(net)
    c.equal(net.gw.get_sysctl("net/ipv4/conf/all/rp_filter"), "0", "rp_filter of all")
    c.equal(net.gw.get_sysctl("net/ipv4/conf/eth0/rp_filter"), "1", "rp_filter of eth0, which had it by \"all\"")
    c.equal(net.gw.get_sysctl("net/ipv4/conf/eth1/rp_filter"), "2", "rp_filter of eth1")
    c.equal(net.gw.get_sysctl("net/netfilter/nf_conntrack_generic_timeout"), "600", "generic timeout")
    up = rules_only(net.state_of())
    net.probe.kill()
    net.restart()
    net.no_trace(up, rules_only(net.state_of()))
    c.equal(net.probe.command("reload").strip(), "reload 0", "reload")
    net.no_trace(up, rules_only(net.state_of()))
    talk_all(net, 41000)
    net.probe.detach()
    c.check(net.connections("--mark", f"{kernel.MARK}/{kernel.MARK}"), "no marked connections are there to be deleted")
    net.once("cleanup")
    net.no_trace(before)
    c.equal(net.connections("--mark", f"{kernel.MARK}/{kernel.MARK}"), [], "marked connections")
    net.once("cleanup")
    net.no_trace(before)


def rules_only(state):
    """Without the counters' values."""
    return {what: [x for x in lines if "packets" not in x] for what, lines in state.items()}


@case(needs=("nft", "conntrack"))
def forwarding(c):
    """
        lan --- eth1 gw eth0 --- inet;  arr0

    What was not forwarded before arrd is not forwarded because of it; what was, still is.
    """
    net = kernel.Net(c)
    lan = kernel.Sniffer(net.lan, "eth0")
    for family, to in ((2, "10.0.1.5"), (10, "fd00:1::5")):
        s = net.inet.socket(family, 2)
        s.sendto(b"x", (to, 99))
        s = net.lan.socket(family, 2)
        s.sendto(b"x", (SERVER if family == 2 else SERVER6, 99))
    out = [p for p in lan.packets() if p.src not in (HOST, HOST6) and UDP in p]
    c.equal(out, [], "forwarded to the gateway's own network")
    c.check(net.counter("not_ours") >= 2, "not counted")
    # From the branch by another interface than the egress: that would leave without translation.
    net.probe.send(IP(src=HOST, dst="10.0.1.77") / UDP(sport=1, dport=2))
    net.probe.send(IP(src="10.9.9.9", dst=HOST) / UDP(sport=1, dport=2))
    c.equal([p for p in lan.packets() if UDP in p], [], "from the branch to the gateway's own network")
    c.check(net.counter("branch_elsewhere") >= 1, "branch_elsewhere not counted")
    # Forwarding that was on stays unhindered.
    net.probe.detach()
    net.once("cleanup")
    net.gw.sysctl({"net/ipv4/ip_forward": 1, "net/ipv6/conf/all/forwarding": 1})
    net.restart()
    for family, to in ((2, "10.0.1.5"), (10, "fd00:1::5")):
        s = net.inet.socket(family, 2)
        s.sendto(b"x", (to, 99))
    c.equal(len([p for p in lan.packets() if UDP in p and p[UDP].dport == 99]), 2, "forwarded when it was before")


@case(needs=("nft", "conntrack"))
def to_the_gateway(c):
    """
        branch -- arr0 -- gw: 192.0.2.1, 10.0.1.1

    Of the gateway itself a branch reaches the services named, and answers to what the gateway began.
    """
    net = kernel.Net(c, egress="local_services = udp/53", gateway="tun_address = 10.255.0.1/24")
    addresses_of_it = (kernel.GW, "10.0.1.1")
    for dst in addresses_of_it:
        net.gw.start(["/usr/bin/python3", "-c", f"import socket\ns=socket.socket(2,2)\ns.bind(('{dst}',53))\n"
                      f"t=socket.socket(2,1)\nt.bind(('{dst}',22))\nt.listen(5)\nprint('ready',flush=True)\n"
                      "while True:\n d,a=s.recvfrom(99)\n s.sendto(d,a)\n"], "service").ready()
    for dst in addresses_of_it:
        r = net.probe.ask(IP(src=HOST, dst=dst) / UDP(sport=5000, dport=53) / b"q", lambda p: UDP in p)
        c.check(r is not None and r.src == dst, f"service at {dst}: {r and r.summary()}")
        for bad in (TCP(sport=5000, dport=22), UDP(sport=5000, dport=54), ICMP(id=9)):
            r = net.probe.ask(IP(src=HOST, dst=dst) / bad, seconds=0.2)
            c.equal(r, None, f"answer to {bad.summary()} at {dst}")
    c.check(net.counter("branch_to_gateway") >= 6, "not counted")
    # The gateway begins itself, as a branch router does; the answer comes in.
    s = net.gw.socket(2, 2)
    s.bind(("10.255.0.1", 6000))
    s.sendto(b"ask", ("10.255.0.9", 53))
    r = net.probe.receive(lambda p: UDP in p)
    c.check(r is not None and r.src == "10.255.0.1", f"from the gateway by the TUN: {r and r.summary()}")
    net.probe.send(IP(src=r.dst, dst=r.src) / UDP(sport=53, dport=6000) / b"answer")
    c.equal(s.recv(99), b"answer", "answer to the gateway")


@case(needs=("nft", "conntrack"))
def from_outside(c):
    """
        branch 10.7.0.5 -- arr0, install_routes -- gw -- eth0 --- 192.0.2.9 begins

    A connection begun outside to an installed route: there and back, and errors of the gateway go to who began it.
    """
    tunnel = ("[tunnel t1]\ntype = gre\nlocal = 192.0.2.1\nremote = 198.51.100.7\ninstall_routes = {}\n"
              "routes = 10.7.0.0/16, fd00:7::/32\n")
    net = kernel.Net(c, nat="none", tunnels=tunnel.format("yes"))
    for family, host in ((2, "10.7.0.5"), (10, "fd00:7::5")):
        s = net.inet.socket(family, 2)
        s.bind(("", 7000))
        s.sendto(b"hello", (host, 80))
        r = net.probe.receive(lambda p: UDP in p)
        c.check(r is not None and r.dst == host, f"to {host}: {r and r.summary()}")
        layer = IP if family == 2 else IPv6
        net.probe.send(layer(src=r.dst, dst=r.src) / UDP(sport=80, dport=7000) / b"back")
        c.equal(s.recv(99), b"back", f"from {host}")
        # Too big for the TUN: told to the sender outside, not to the TUN.
        net.gw.ip("link set arr0 mtu 1300")
        if family == 2:
            s.setsockopt(0, 10, 2)  # IP_MTU_DISCOVER, DO
        out = kernel.Sniffer(net.inet, "eth0")
        s.sendto(b"x" * 1400, (host, 80))
        c.equal(net.probe.receive(seconds=0.3), None, "an error came to the TUN")
        c.check([p for p in out.packets() if is_icmp(p)], "no error came to the sender")
        net.gw.ip("link set arr0 mtu 1500")
        proto = f"17 {r.src} 7000 {host} 80"
        c.equal(net.probe.command("forget-outside " + proto), "ok", "forget-outside")
        c.equal([x for x in net.connections("-f", "ipv4" if family == 2 else "ipv6") if "dport=80 " in x], [], "connections")
    net.configure(tunnels=tunnel.format("no"))
    c.equal(net.probe.command("reload").strip(), "reload 0", "reload")
    c.check("10.7.0.0/16" not in net.gw.ip("route show") and "fd00:7" not in net.gw.ip("-6 route show"), "routes are left")


@case(needs=("nft", "conntrack"))
def forgetting(c):
    """
        branch -- arr0 -- gw -- eth0 --- server

    Connections are deleted one by one by their tuple, and all by their mark; the gateway's own stay.
    """
    net = kernel.Net(c)
    net.echo_server()
    talk_all(net)
    own = net.gw.socket(2, 2)
    own.sendto(b"x", (SERVER, 7))
    own.recv(9)

    def marked():
        return len(net.connections("-f", "ipv4", "--mark", f"{kernel.MARK}/{kernel.MARK}")
                   + net.connections("-f", "ipv6", "--mark", f"{kernel.MARK}/{kernel.MARK}"))
    c.equal(marked(), 6, "marked connections")
    for n, t in enumerate((f"6 {HOST} 40000 {SERVER} 7", f"17 {HOST} 40000 {SERVER} 7", f"1 {HOST} {40000 & 0xfff} {SERVER} 0",
                           f"6 {HOST6} 40000 {SERVER6} 7", f"58 {HOST6} {40000 & 0xfff} {SERVER6} 0")):
        c.equal(net.probe.command("forget " + t), "ok", t)
        c.equal(marked(), 5 - n, f"marked connections after forgetting {t}")
    c.equal(net.probe.command(f"forget 6 {HOST} 1 {SERVER} 1"), "ok", "one that is not there")
    c.equal(net.probe.command("forget-all"), "1", "the rest")
    c.equal(marked(), 0, "marked connections")
    c.check(net.connections(), "the gateway's own connection went too")


@case(needs=("nft", "conntrack"))
def timeouts(c):
    """
        branch -- arr0 -- gw -- eth0 --- server

    Branches' connections get the flows' timeouts, also after a reload and a restart; the gateway's own keep theirs.
    """
    net = kernel.Net(c)
    net.echo_server()
    t = kernel.Tcp(net)
    t.echo(b"x")
    net.probe.ask(kernel.udp(4, 40000), lambda p: UDP in p)
    own = net.gw.socket(2, 1)
    own.connect((SERVER, 7))

    def left(*what):
        return int(net.connections(*what)[0].split()[2])
    branch, machine = ("-p", "tcp", "--orig-src", HOST), ("-p", "tcp", "--orig-src", kernel.GW)
    c.check(7000 < left(*branch) <= 7440, f"branch's TCP: {left(*branch)} s")
    c.check(100 < left("-p", "udp", "--orig-src", HOST) <= 120, "branch's UDP")
    c.check(left(*machine) > 400000, f"the gateway's own TCP: {left(*machine)} s")
    for turn in ("reload", "restart"):
        if turn == "reload":
            c.equal(net.probe.command("reload").strip(), "reload 0", "reload")
        else:
            net.probe.kill()
            net.restart()
        t.echo(b"y")
        c.check(7000 < left(*branch) <= 7440, f"branch's TCP after {turn}: {left(*branch)} s")


@case(needs=("nft", "conntrack"))
def foreign_marks(c):
    """
        branch -- arr0 -- gw, whose firewall restores marks -- eth0 --- server

    Software that copies connection marks to packets and back, and uses other bits: both go on working.
    """
    net = kernel.Net(c, start=False)
    net.gw.sysctl({"net/ipv4/conf/all/src_valid_mark": 1, "net/ipv4/conf/eth0/rp_filter": 1})
    for line in ("add table inet own", "add chain inet own pre { type filter hook prerouting priority mangle; }",
                 "add chain inet own post { type filter hook postrouting priority mangle; }",
                 "add rule inet own pre meta mark set ct mark", "add rule inet own pre meta mark set meta mark or 0x5",
                 "add rule inet own post ct mark set ct mark or 0x300 counter"):
        net.gw.run(["nft", line])
    net.echo_server()
    net.restart()
    talk_all(net)
    c.equal(net.gw.get_sysctl("net/ipv4/conf/eth0/rp_filter"), "2", "rp_filter of eth0, strict with src_valid_mark")
    talk_all(net, 41000)
    c.check(net.connections("--mark", f"{0x300 | kernel.MARK}/{0x300 | kernel.MARK}"), "the other software's bits are gone")


@case(needs=("nft", "conntrack"))
def no_ipv6(c):
    """
        branch -- arr0 -- gw, IPv6 switched off -- eth0 --- server

    A machine with IPv6 disabled serves IPv4.
    """
    net = kernel.Net(c, ip6=False)
    net.echo_server()
    kernel.Tcp(net).echo(b"x")
    net.probe.detach()
    net.once("cleanup")


@case(needs=("nft", "conntrack"))
def fragments(c):
    """
        branch -- arr0 -- gw -- eth0 --- server

    A branch's datagram in fragments is translated whole, and no fragment leaves with its own source.
    """
    net = kernel.Net(c)
    net.echo_server()
    out = kernel.Sniffer(net.inet, "eth0")
    for f in fragment(kernel.ip(4, id=77) / UDP(sport=4000, dport=7) / (b"f" * 3000), 1000):
        net.probe.send(f)
    c.check(net.probe.receive(lambda p: p.proto == 17, 2) is not None, "no answer")
    for f in fragment(kernel.ip(4, id=78) / UDP(sport=4000, dport=7) / (b"f" * 3000), 1000)[1:]:
        net.probe.send(f)
    c.equal(sources(out.packets()), {kernel.GW, SERVER}, "sources on the egress")


@case(needs=("nft", "conntrack"))
def underlay_untracked(c):
    """
        gw 192.0.2.1 === GRE === 192.0.2.9 inet

    GRE of a tunnel makes no conntrack entry; other GRE does, as it always did.
    """
    net = kernel.Net(c, tunnels="[tunnel t1]\ntype = gre\nlocal = 192.0.2.1\nremote = 192.0.2.9\n")
    gre = bytes.fromhex("00000800") + bytes(kernel.ping(4, 1))
    for src, entries in (("192.0.2.9", 0), (SERVER, 1)):
        with net.inet:
            import socket
            raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, 47)
            raw.bind((src, 0))
        raw.sendto(gre, (kernel.GW, 0))
        with net.gw:
            back = socket.socket(socket.AF_INET, socket.SOCK_RAW, 47)
        back.sendto(gre, (src, 0))
        c.equal(len(net.connections("-p", "gre")), entries, f"GRE connections with {src}")


@case()
def addresses(c):
    """
        gw: eth0 192.0.2.1/24, eth1 10.0.1.1/24, arr0 10.255.0.1/24; addresses come and go

    Own, broadcast and connected addresses are known, and kept current.
    """
    net = kernel.Net(c, gateway="tun_address = 10.255.0.1/24, fd00:255::1/64")
    for a, want in (("192.0.2.1", "own connected"), ("192.0.2.255", "broadcast connected"), ("192.0.2.7", "connected"),
                    ("192.0.3.1", ""), ("10.0.1.5", "connected"), (HOST6, "connected"), ("fd00:1::1", "own connected"),
                    ("10.255.0.1", "own"), ("10.255.0.2", ""), ("fd00:255::1", "own"), ("fd00:255::2", ""),
                    ("127.0.0.1", "own connected"), ("192.0.1.255", "")):
        c.equal(net.probe.command("address " + a).replace("changed", "").strip(), want, a)
    net.gw.ip("addr add 172.16.0.1/30 dev eth1", "addr add 172.17.0.1/31 dev eth1",
              "addr add 172.18.0.1 peer 172.18.0.2 dev eth1")
    for a, want in (("172.16.0.1", "own connected"), ("172.16.0.3", "broadcast connected"), ("172.17.0.0", "connected"),
                    ("172.18.0.1", "own"), ("172.18.0.2", "connected"), ("172.18.0.3", "")):
        c.wait(lambda a=a, want=want: net.probe.command("address " + a).replace("changed", "").strip() == want, 2,
               f"{a} to be {want!r}")
    net.gw.ip("link del eth1")
    c.wait(lambda: net.probe.command("address 10.0.1.5").replace("changed", "").strip() == "", 2, "eth1's network to go")
    c.equal(net.probe.command("address 192.0.2.7").strip(), "connected", "eth0's network")
    # The kernel says nothing of its own on the TUN.
    c.check("fe80" not in net.gw.ip("-6 addr show dev arr0"), "a link-local address on the TUN")
    c.equal(net.probe.receive(seconds=0.5), None, "a packet of the kernel's own on the TUN")
