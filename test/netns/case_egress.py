# SPDX-License-Identifier: GPL-2.0-or-later
"""What leaves by the egress, what never may, and the gateway's own networks."""
import errno
import socket
import struct

import packets
import topo
from case_home import all_home, ask_everything
from harness import case

LAN_GW, LAN_GW6 = "10.0.1.1", "fd00:10:0:1::1"


def own_lan(net):
    """A network of the gateway's own that equals the branches': a host with their very address is in it."""
    lan = net.case.ns("lan")
    net.case.veth(lan, "eth0", net.gw, "lan0")
    lan.ip(f"addr add {topo.HOST}/24 dev eth0", f"addr add {topo.HOST6}/64 dev eth0 nodad", "link set eth0 up",
           f"route add default via {LAN_GW}", f"route add ::/0 via {LAN_GW6}")
    net.gw.ip(f"addr add {LAN_GW}/24 dev lan0", f"addr add {LAN_GW6}/64 dev lan0 nodad", "link set lan0 up")
    return lan


def from_equal_port(s, family):
    """All branches use the same port, so that all flows but one are translated."""
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind((topo.HOST if family == socket.AF_INET else topo.HOST6, 47000))


def connect_error(c, ns, family, address, port):
    """The errno of a TCP connection attempt; 0 when it is established."""
    s = ns.socket(family, socket.SOCK_STREAM)
    try:
        from_equal_port(s, family)
        s.connect((address, port))
        return 0
    except OSError as e:
        return e.errno if not isinstance(e, TimeoutError) else errno.ETIMEDOUT
    finally:
        s.close()


def udp_error(c, ns, family, address, port):
    """The errno that an ICMP error brings to a connected UDP socket."""
    s = ns.socket(family, socket.SOCK_DGRAM)
    try:
        from_equal_port(s, family)
        s.connect((address, port))
        s.send(b"nobody there?")
        s.recv(100)
        return 0
    except OSError as e:
        return e.errno if not isinstance(e, TimeoutError) else errno.ETIMEDOUT
    finally:
        s.close()


def tcp_echo_once(server, client):
    """Both are connected sockets: a few octets each way."""
    client.sendall(b"from the branch")
    got = server.recv(100)
    server.sendall(got.upper())
    return client.recv(100)


def equals_own_lan(c, nat):
    net = topo.Net(c, nat=nat, start=False)
    lan = own_lan(net)
    net.gw.ip("route add unreachable 198.51.100.99/32", "route add unreachable 2001:db8:51::99/128")
    net.gateway.start()
    net.tagserver()
    net.gw.run(f"ping -c 1 -W 2 {topo.HOST}")  # the gateway reaches its LAN
    net.gw.run(f"ping -c 1 -W 2 {topo.HOST6}")
    ear = packets.Ear(lan, "eth0", lambda s: s.src not in (LAN_GW, LAN_GW6) and not s.src.startswith("fe80"))
    net.wirewatch(private="10.0.0.0/8" if nat != "none" else None)
    ask_everything(c, net)
    ask_everything(c, net, server=topo.SERVER6)
    # A branch gets resets and ICMP errors that concern it: from afar, and from the gateway's own kernel.
    for br in net.branches.values():
        for family, server, afar in ((socket.AF_INET, topo.SERVER, "198.51.100.99"),
                                     (socket.AF_INET6, topo.SERVER6, "2001:db8:51::99")):
            c.equal(connect_error(c, br, family, server, 9), errno.ECONNREFUSED, f"{br.short}: reset from {server}")
            c.equal(udp_error(c, br, family, server, 9), errno.ECONNREFUSED,
                    f"{br.short}: port unreachable from {server}")
            c.check(connect_error(c, br, family, afar, 9) in (errno.EHOSTUNREACH, errno.ENETUNREACH),
                    f"{br.short}: no unreachable from the gateway's kernel for {afar}")
    c.equal([str(s) for s in ear.listen()], [], "the LAN host with the branches' address got")
    translated = [f for f in net.gateway.flows_of(translated=True) if f["orig"]["sport"] == 47000]
    c.check(len(translated) >= 6, f"only {len(translated)} of the flows that failed were translated")
    all_home(c, net, net.judged(), up=False)


@case(limit=40)
def branches_equal_own_lan_masqueraded(c):
    """
        br1: 10.0.1.5 \\       lan0 10.0.1.1/24 -- lan: 10.0.1.5, a host of the gateway's own network
                       gw, masquerade ------------- inet
        br2: 10.0.1.5 /

    Echo, TCP, UDP, resets, ICMP errors from afar and from the gateway's kernel all come home; the host of the
    gateway's own network that has the branches' address hears none of it.
    """
    equals_own_lan(c, "masquerade")


@case(limit=40)
def branches_equal_own_lan_routed(c):
    """
        br1: 10.0.1.5 \\       lan0 10.0.1.1/24 -- lan: 10.0.1.5, a host of the gateway's own network
                       gw, nat = none ------------- inet
        br2: 10.0.1.5 /

    The same where the egress only routes.
    """
    equals_own_lan(c, "none")


@case(limit=30)
def local_services(c):
    """
        br1: 10.0.1.5 \\       lan0 10.0.1.1/24 -- lan: 10.0.1.5
                       gw: TCP 8080 and 8082 ------ inet
        br2: 10.0.1.5 /

    Branches reach a service of the gateway that the configuration names, on any of its addresses, both of them at
    once from equal ports; not another one. The host of the gateway's own network that has their address may use
    the same service at the same time.
    """
    net = topo.Net(c, nat="masquerade", start=False, egress={"local_services": ["tcp/8080"]})
    lan = own_lan(net)
    net.gateway.start()
    listeners = {}
    for port in (8080, 8082):
        listeners[port] = net.gw.socket(socket.AF_INET6, socket.SOCK_STREAM)
        listeners[port].bind(("::", port))
        listeners[port].listen(16)
    for family, gateway in ((socket.AF_INET, topo.GW_EGRESS), (socket.AF_INET6, topo.GW_EGRESS6),
                            (socket.AF_INET, LAN_GW)):
        open_sockets = []
        for ns in [lan] * (gateway == LAN_GW) + list(net.branches.values()):
            s = ns.socket(family, socket.SOCK_STREAM)
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            s.bind((topo.HOST if family == socket.AF_INET else topo.HOST6, 41000))
            s.connect((gateway, 8080))
            server, _ = listeners[8080].accept()
            server.settimeout(3 * c.scale)
            open_sockets += [(server, s)]
        for server, s in open_sockets:
            c.equal(tcp_echo_once(server, s), b"FROM THE BRANCH", f"service on {gateway}")
    before = net.gateway.drops().get("dst_gateway", 0)
    c.check(connect_error(c, net.branches[1], socket.AF_INET, topo.GW_EGRESS, 8082) != 0,
            "a service that is not named was reached")
    net.gateway.wait_drop("dst_gateway", before)


@case()
def out_of_window_segments(c):
    """
        br1: TCP connection -- gw, masquerade -- inet: server, which also sends segments far out of the window
        (and br1 does so as well)

    What conntrack takes for invalid skips NAT: a server's segment must not make the gateway answer with a reset, and
    a branch's must not leave with its private source. The connection lives on.
    """
    net = topo.Net(c, sites=1, nat="masquerade")
    br, f = net.branches[1], packets
    listener = net.inet.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.bind((topo.SERVER, 80))
    listener.listen(1)
    ear = packets.Ear(net.inet, "eth0", lambda s: s.proto == packets.TCP)
    from_server = net.inet.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    from_branch = br.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    odd = ((f.ACK, b""), (f.ACK | f.PSH, b"x" * 100), (f.RST, b""), (f.RST | f.ACK, b""), (f.SYN | f.ACK, b""),
           (f.SYN, b""),
           (f.FIN | f.ACK, b""), (f.FIN, b""), (0, b"null"), (f.SYN | f.FIN, b""), (63, b"xmas"))
    far = (0, 1 << 30, 1 << 31, 3 << 30)
    sent_resets = set()
    for side in ("server", "branch"):
        for flags, payload in odd:
            client = br.socket(socket.AF_INET, socket.SOCK_STREAM)
            client.connect((topo.SERVER, 80))
            server, (peer, port) = listener.accept()
            server.settimeout(3 * c.scale)
            c.equal(peer, topo.GW_EGRESS, "address of the branch as the server sees it")
            host_port = client.getsockname()[1]
            for seq in far:
                if side == "server":
                    from_server.sendto(f.tcp(topo.SERVER, peer, 80, port, flags, seq, seq + 77, payload), (peer, 0))
                else:
                    from_branch.sendto(f.tcp(topo.HOST, topo.SERVER, host_port, 80, flags, seq, seq + 77, payload),
                                       (topo.SERVER, 0))
                    if flags & f.RST:
                        sent_resets.add(port)
            c.equal(tcp_echo_once(server, client), b"FROM THE BRANCH",
                    f"echo after segments of the {side} with flags {flags:#x}")
            client.close()
            server.close()
    br.run(f"ping -c 1 -W 3 {topo.SERVER}")  # what was sent before this was dealt with
    heard = ear.listen()
    c.check(len(heard) > 100, "too little was heard at the server")
    c.equal([str(s) for s in heard if s.src.startswith("10.")], [], "left by the egress with a private source")
    c.equal([str(s) for s in heard if s.flags & f.RST and s.sport not in sent_resets], [], "resets from the gateway")
    net.gateway.wait_drop("kernel_server_tcp")
    # Flags that no stack sends are dropped before the kernel could call them invalid; an association without a beginning it
    # does call so.
    net.gateway.wait_drop("inner_l4")
    data = struct.pack("!HHIIBBHIHHI", 4000, 9000, 7, 0, 0, 3, 20, 1, 0, 0, 0) + b"data"
    data = data[:8] + struct.pack("<I", packets.crc32c(data)) + data[12:]
    from_branch.sendto(packets.ip(topo.HOST, topo.SERVER, 132, data), (topo.SERVER, 0))
    net.gateway.wait_drop("kernel_invalid")


NEVER = (
    # destination, reason
    ("127.0.0.1", "dst_loopback"), ("127.8.8.8", "dst_loopback"), ("::1", "dst_loopback"),
    ("169.254.1.1", "dst_link_local"), ("fe80::1", "dst_link_local"),
    ("224.0.0.5", "dst_multicast"), ("239.1.2.3", "dst_multicast"), ("ff02::1", "dst_multicast"),
    ("ff0e::1", "dst_multicast"),
    ("255.255.255.255", "dst_broadcast"), ("198.18.0.255", "dst_broadcast"),
    ("169.254.169.254", "dst_metadata"), ("fd00:ec2::254", "dst_metadata"),
    ("0.0.0.0", "dst_invalid"), ("0.1.2.3", "dst_invalid"), ("240.0.0.1", "dst_invalid"), ("::", "dst_invalid"),
    ("198.18.0.1", "dst_gateway"), ("203.0.113.1", "dst_gateway"), ("2001:db8:18::1", "dst_gateway"),
    ("10.9.9.9", "dst_private"), ("172.20.1.1", "dst_private"), ("192.168.7.7", "dst_private"),
    ("100.64.1.1", "dst_private"),
    ("fd12::1", "dst_private"), ("203.0.113.77", "dst_private"), ("198.18.0.2", "dst_private"),
    ("2001:db8:18::2", "dst_private"),
)
SOURCES = (
    ("127.0.0.1", "source_invalid"), ("0.0.0.0", "source_invalid"), ("224.1.1.1", "source_invalid"),
    ("255.255.255.255", "source_invalid"), ("169.254.3.3", "source_invalid"), ("::1", "source_invalid"),
    ("::", "source_invalid"),
    ("ff02::1", "source_invalid"), ("fe80::5", "source_invalid"),
)


@case()
def never_reached(c):
    """
        branch router in the hands of the test -- GRE -- gw, nat = none -- inet

    Destinations that no branch may reach, and sources that cannot be: each is dropped under its own name, and nothing
    of it leaves by the egress.
    """
    net = topo.Net(c, sites=1, cpe=False)
    br = packets.Branch(net, 1)
    ear = packets.Ear(net.inet, "eth0", lambda s: s.src in (topo.HOST, topo.HOST6) or s.dst in dict(NEVER))

    def expect(src, dst, reason):
        before = net.gateway.drops().get(reason, 0)
        for inner in (packets.udp(src, dst, 5000, 53, b"x"), packets.echo(src, dst),
                      packets.tcp(src, dst, 5000, 80, packets.SYN)):
            br.send(inner)
        c.wait(lambda: net.gateway.drops().get(reason, 0) >= before + 3, 3,
               f"three drops {reason} for {src} to {dst}; there are {net.gateway.drops()}, before {before}")

    for dst, reason in NEVER:
        expect(topo.HOST6 if ":" in dst else topo.HOST, dst, reason)
    for src, reason in SOURCES:
        expect(src, topo.SERVER6 if ":" in src else topo.SERVER, reason)
    c.equal([str(s) for s in ear.listen()], [], "left by the egress")
    c.equal(net.gateway.json("stats")["flows"]["used"], 0, "flows")


@case()
def private_destinations(c):
    """
        br1: 10.0.1.5 \\
                       gw, private_destinations = 192.168.50.0/24, fd50::/64 -- inet: 192.168.50.1, 192.168.51.1
        br2: 10.0.1.5 /

    Private networks behind the egress are closed, but for those that the configuration names.
    """
    net = topo.Net(c, nat="masquerade", egress={"private_destinations": ["192.168.50.0/24", "fd50::/64"]})
    net.inet.ip("addr add 192.168.50.1/32 dev lo", "addr add 192.168.51.1/32 dev lo",
                "addr add fd50::1/128 dev lo nodad")
    for br in net.branches.values():
        for dst in ("192.168.50.1", "fd50::1"):
            br.run(f"ping -c 1 -W 3 {dst}")
        br.run("ping -c 1 -W 1 192.168.51.1", ok=(1,))
    c.equal(net.gateway.drops().get("dst_private"), 2, "drops dst_private")


@case()
def allowed_sources(c):
    """
        br1: 10.0.1.5, 10.0.2.5 -- GRE, allowed_sources = 10.0.1.0/24 -- gw -- inet

    A source that the tunnel does not allow is dropped by name; the others pass.
    """
    net = topo.Net(c, sites=1, tunnel={"allowed_sources": ["10.0.1.0/24", "10.213.0.0/31"]})
    br = net.branches[1]
    br.ip("addr add 10.0.2.5/32 dev tun0")
    br.run(f"ping -c 1 -W 3 -I {topo.HOST} {topo.SERVER}")
    br.run(f"ping -c 1 -W 1 -I 10.0.2.5 {topo.SERVER}", ok=(1,))
    br.run(f"ping -c 1 -W 1 {topo.SERVER6}", ok=(1,))
    c.equal(net.gateway.tunnel_drops("t1").get("source_not_allowed"), 2, "drops source_not_allowed")


@case()
def source_is_gateways_own(c):
    """
        br1: 198.18.0.1, the gateway's own address \\
                                                    gw 198.18.0.1 -- inet
        br2: 203.0.113.1, also the gateway's own   /

    A branch may have numbered its hosts with the gateway's own addresses: the kernel would drop such packets as
    martians, so their source is replaced from the overlap pool; answers come home.
    """
    net = topo.Net(c)
    for i, own in ((1, topo.GW_EGRESS), (2, topo.GW_WAN)):
        net.branches[i].ip(f"addr add {own}/32 dev tun0")
        net.branches[i].run(f"ping -c 1 -W 3 -I {own} {topo.SERVER}")
        f = [f for f in net.gateway.flows_of(site=f"s{i}") if f["orig"]["src"] == own]
        c.check(f and f[0]["translated"] and f[0]["reply"]["dst"].startswith("100.64."), f"flow of {own}: {f}")


@case()
def unasked_from_egress(c):
    """
        br1: 10.0.1.5 \\
                       gw, nat = none -- inet sends to 10.0.1.5 by way of the gateway
        br2: 10.0.1.5 /

    What comes by the egress without a flow, to a destination that no route names, reaches no branch. The kernel is
    told that 10.0.1.0/24 lies behind the TUN, so that arrd gets to judge it.
    """
    net = topo.Net(c)
    net.gw.ip("route add 10.0.1.0/24 dev arr0", f"route add {topo.HOST6}/128 dev arr0")
    ears = [packets.Ear(br, "tun0", lambda s: s.src in (topo.SERVER, topo.SERVER6)) for br in net.branches.values()]
    raw = net.inet.socket(socket.AF_PACKET, socket.SOCK_DGRAM)
    raw.bind(("eth0", 0))
    mac = bytes.fromhex(net.gw.mac("eth0").replace(":", ""))
    f = packets
    for src, dst in ((topo.SERVER, topo.HOST), (topo.SERVER6, topo.HOST6)):
        for p in (f.tcp(src, dst, 80, 40000, f.SYN), f.tcp(src, dst, 80, 40000, f.ACK),
                  f.tcp(src, dst, 80, 40000, f.SYN | f.ACK),
                  f.tcp(src, dst, 80, 40000, f.RST), f.udp(src, dst, 53, 40000, b"x"), f.echo(src, dst),
                  f.echo(src, dst, reply=True)):
            raw.sendto(p, ("eth0", 0x86DD if ":" in src else 0x0800, 0, 0, mac))
    c.wait(lambda: sum(net.gateway.drops().get(r, 0) for r in ("no_flow", "not_a_beginning")) >= 14, 5,
           "all to be dropped by name")
    for ear in ears:
        c.equal([str(s) for s in ear.listen()], [], "a branch got")
    c.equal(net.gateway.json("stats")["flows"]["used"], 0, "flows")
