# SPDX-License-Identifier: GPL-2.0-or-later
"""GRE itself: headers that are not ours, keepalives, unknown senders, input that the kernel merged."""
import hashlib
import os
import socket
import struct

import packets
import topo
from harness import case


def upload_and_download(c, net, branches, size, server=topo.SERVER):
    """Up and down at once, from equal addresses and ports; what arrives is what was sent."""
    content = {i: os.urandom(size) for i in branches}
    host, url_host = (topo.HOST6, f"[{server}]") if ":" in server else (topo.HOST, server)
    if not net.web_process:
        net.web({})
    receiver = net.inet.start(["/usr/bin/python3", "-u", "-c", RECEIVER, server, "7100"], "receiver").ready()
    procs = []
    for i in branches:
        br, down, up = net.branches[i], c.file(f"down{i}"), c.file(f"up{i}")
        for path in (up, f"{net.web_root}/down{i}"):
            with open(path, "wb") as f:
                f.write(content[i])
        procs.append((i, down, br.start(["curl", "-sS", "--max-time", "60", "--local-port", "42000", "--interface",
                                         host, "-o", down,
                                f"http://{url_host}/down{i}"], f"curl{i}")))
        procs.append((i, None, br.start(["/usr/bin/python3", "-c", SENDER, host, "43000", server, "7100", up],
                                        f"sender{i}")))
    for i, down, p in procs:
        c.equal(p.wait(60), 0, f"{p.name}: {p.errors()[-300:]}")
        if down:
            with open(down, "rb") as f:
                c.check(f.read() == content[i], f"the download of branch {i} is not what was sent")
    digests = {hashlib.sha256(content[i]).hexdigest() for i in branches}
    c.wait(lambda: len(receiver.output().split()) > len(branches), 10, "the uploads to end")
    c.equal(set(receiver.output().split()[1:]), digests, "digests of the uploads")
    receiver.kill()


RECEIVER = """
import hashlib, socket, sys, threading
s = socket.socket(socket.AF_INET6 if ':' in sys.argv[1] else socket.AF_INET)
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind((sys.argv[1], int(sys.argv[2]))); s.listen(16); print('ready', flush=True)
def take(k):
    h = hashlib.sha256()
    while b := k.recv(1 << 18): h.update(b)
    k.close(); print(h.hexdigest(), flush=True)
while True: threading.Thread(target=take, args=(s.accept()[0],), daemon=True).start()
"""
SENDER = """
import socket, sys
s = socket.socket(socket.AF_INET6 if ':' in sys.argv[1] else socket.AF_INET)
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind((sys.argv[1], int(sys.argv[2]))); s.settimeout(60); s.connect((sys.argv[3], int(sys.argv[4])))
s.sendall(open(sys.argv[5], 'rb').read()); s.shutdown(socket.SHUT_WR); s.recv(1)
"""


@case()
def unknown_sender(c):
    """
        nobody's router 203.0.113.2, and t1's with a wrong key -- GRE -- gw: t1 with key 7

    GRE that belongs to no tunnel is counted and logged, at a limited rate, and nothing of it goes anywhere.
    """
    net = topo.Net(c, sites=1, cpe=False, keys=[7])
    br = packets.Branch(net, 1)
    ear = packets.Ear(net.inet, "eth0", lambda s: s.proto == packets.ICMP)
    inner = packets.echo(topo.HOST, topo.SERVER)
    br.ask(inner, lambda i: i.icmp == (0, 0), 5, "the answer to a ping with the right key")
    ear.listen()
    ear.heard.clear()
    stranger = net.wan.socket(socket.AF_INET, socket.SOCK_RAW, packets.GRE)
    stranger.bind(("203.0.113.2", 0))
    for _ in range(200):
        stranger.sendto(packets.gre(inner, key=7), (topo.GW_WAN, 0))
        br.send_gre(packets.gre(inner, key=8))
        br.send_gre(packets.gre(inner))
    net.gateway.wait_drop("unknown_sender", 599)
    c.equal(net.gateway.drops()["unknown_sender"], 600, "drops unknown_sender")
    c.equal([str(s) for s in ear.listen()], [], "left by the egress")
    c.equal(net.gateway.tunnel_drops("t1"), {}, "drops of t1")
    lines = [line for line in net.gateway.process.errors().splitlines() if "no tunnel from" in line]
    c.check(1 <= len(lines) <= 20, f"{len(lines)} lines of log for 600 packets")
    br.ask(inner, lambda i: i.icmp == (0, 0), 5, "the answer to a ping afterwards")


@case()
def keepalive(c):
    """
        br1: router with keepalives -- GRE -- gw

    A Cisco keepalive is a GRE packet within a GRE packet, back to its sender, of protocol 0: it is answered, with and
    without a key; one that is for somebody else is not.
    """
    for keys in (None, [5]):
        net = topo.Net(c, sites=1, cpe=False, keys=keys)
        br = packets.Branch(net, 1)
        key = {"key": keys[0]} if keys else {}
        back = packets.gre(b"", proto=0, **key)

        def answered(inner_ip):
            br.forget()
            br.send(inner_ip)
            return c.wait(lambda: next((s for s in br.ear.listen()), None), 3, "the answer to a keepalive")

        got = answered(packets.ip(topo.GW_WAN, net.remote(1), packets.GRE, back, ttl=255))
        c.equal(got.l4, back, "the answer to a keepalive")
        c.equal((got.src, got.dst), (topo.GW_WAN, net.remote(1)), "addresses of the answer")
        br.forget()
        br.send(packets.ip(topo.GW_WAN, "203.0.113.99", packets.GRE, back))
        br.send(packets.ip("203.0.113.98", net.remote(1), packets.GRE, back))
        br.send(packets.gre(b"", proto=0)[:0] + packets.ip(topo.GW_WAN, net.remote(1), packets.GRE, back[:2]))
        c.check(br.quiet(), f"a keepalive for somebody else was answered: {br.ear.heard}")
        net.gateway.end()
        c.finishers.clear()
        for ns in (net.inet, net.gw, net.wan):
            ns.remove()


BAD_HEADERS = (
    # octets of the GRE packet, reason
    (b"", "gre_truncated"), (b"\0\0", "gre_truncated"), (b"\0\0\x08", "gre_truncated"),
    (struct.pack("!HH", 0x2000, 0x0800), "gre_truncated"), (struct.pack("!HHI", 0xB000, 0x0800, 0), "gre_truncated"),
    (struct.pack("!HHII", 0x3081, 0x880B, 0, 0), "gre_version"), (struct.pack("!HH", 0x0007, 0x0800), "gre_version"),
    (struct.pack("!HHI", 0x4000, 0x0800, 0), "gre_flags"), (struct.pack("!HH", 0x0800, 0x0800), "gre_flags"),
    (struct.pack("!HH", 0x0700, 0x0800), "gre_flags"), (struct.pack("!HH", 0x0400, 0x0800), "gre_flags"),
    (packets.gre(packets.echo("10.0.1.5", "198.51.100.10"), csum=True)[:-1] + b"!", "gre_checksum"),
    (struct.pack("!HHI", 0x8000, 0x0800, 0x12340000) + b"x" * 60, "gre_checksum"),
    (packets.gre(b"\x02" * 60, proto=0x6558), "gre_protocol"), (packets.gre(b"x" * 60, proto=0x8847), "gre_protocol"),
    (packets.gre(packets.echo("10.0.1.5", "198.51.100.10"), proto=0xFFFF), "gre_protocol"),
    (packets.gre(packets.echo("10.0.1.5", "198.51.100.10"), proto=0x86DD), "inner_malformed"),
    (packets.gre(packets.ip6("fd00::5", "2001:db8:51::10", 59), proto=0x0800), "inner_malformed"),
    (packets.gre(b"", proto=0x0800), "inner_truncated"), (packets.gre(b"\x45" + b"\0" * 18, proto=0x0800),
                                                          "inner_truncated"),
    (packets.gre(b"\x60" + b"\0" * 38, proto=0x86DD), "inner_truncated"),
    (packets.gre(packets.ip("10.0.1.5", "198.51.100.10", 17, b"x" * 20, length=2000)), "inner_truncated"),
    (packets.gre(packets.ip("10.0.1.5", "198.51.100.10", 17, b"x" * 20, bad_sum=1)), "inner_malformed"),
    (packets.gre(packets.ip("10.0.1.5", "198.51.100.10", 17, b"x" * 20, ihl=4)), "inner_malformed"),
    (packets.gre(packets.ip("10.0.1.5", "198.51.100.10", 17, b"x" * 4)), "inner_l4"),
    (packets.gre(packets.ip("10.0.1.5", "198.51.100.10", 6, b"x" * 19)), "inner_l4"),
    (packets.gre(packets.udp("10.0.1.5", "198.51.100.10", 1, 2, b"abc")[:-1] + b"!"), "inner_checksum"),
    (packets.gre(packets.tcp("10.0.1.5", "198.51.100.10", 1, 2, packets.SYN)[:-2] + b"!!"), "inner_checksum"),
    (packets.gre(packets.udp("10.0.1.5", "198.51.100.10", 1, 2, b"abcdefg", flags=1)), "fragment_invalid"),
    (packets.gre(packets.ip("10.0.1.5", "198.51.100.10", 17, b"x" * 16, flags=0, offset=5)), None),
    (packets.gre(packets.ip("10.0.1.5", "198.51.100.10", 17, b"x" * 16, flags=0, offset=5)), "fragment_duplicate"),
    (packets.gre(packets.ip("10.0.1.5", "198.51.100.10", 17, b"x" * 16, flags=1, offset=4)), "fragment_overlap"),
    (packets.gre(packets.ip("10.0.1.5", "198.51.100.10", 17, b"x" * 16, options=b"\x83\x07\x04\x01\x02\x03\x04\0")),
     "source_route"),
)


@case()
def bad_headers(c):
    """
        br1: router in the hands of the test -- GRE -- gw, nat = none -- inet

    Each GRE packet that cannot be used is dropped under the name of what is wrong with it, and nothing of it leaves.
    """
    net = topo.Net(c, sites=1, cpe=False)
    br = packets.Branch(net, 1)
    ear = packets.Ear(net.inet, "eth0", lambda s: s.src == topo.HOST)
    for octets, reason in BAD_HEADERS:
        before = net.gateway.drops().get(reason, 0)
        br.send_gre(octets)
        if not reason:  # it waits for others
            continue
        more = 2 if reason == "fragment_overlap" else 1  # with the one that it overlaps
        c.wait(lambda: net.gateway.drops().get(reason, 0) == before + more, 3,
               f"drop {reason} (was {before}) for {octets[:48].hex()}; there are {net.gateway.drops()}")
    c.equal([str(s) for s in ear.listen()], [], "left by the egress")
    # RFC 2784: the other reserved bits must be ignored.
    br.send(packets.echo(topo.HOST, topo.SERVER), flags=0x03F8)
    br.wait(lambda i: i.icmp == (0, 0), 3, "the answer to a packet with reserved bits 6 to 12 set")


@case()
def sequence_numbers(c):
    """
        br1: router in the hands of the test -- GRE with sequence numbers -- gw, gre_sequence = yes -- inet

    Old and repeated numbers, and packets without one, are dropped by name; the number wraps round (RFC 2890).
    """
    net = topo.Net(c, sites=1, cpe=False, tunnel={"gre_sequence": "yes", "mtu": 1472})
    br = packets.Branch(net, 1)
    n = 0
    for seq, good in ((0xFFFFFFF0, True), (0xFFFFFFF1, True), (0xFFFFFFF1, False), (0xFFFFFFF0, False),
                      (0xFFFFFFFF, True),
                      (0, True), (0xFFFFFFFE, False), (5, True), (4, False), (None, False), (6, True)):
        n += 1
        inner = packets.echo(topo.HOST, topo.SERVER, seq=n)
        before = net.gateway.drops().get("gre_sequence", 0)
        br.forget()
        br.send(inner, **({"seq": seq} if seq is not None else {}))
        if good:
            outer, _ = br.wait(lambda i: i.icmp == (0, 0), 3, f"the answer to the packet with sequence number {seq}")
            c.check(struct.unpack("!H", outer.l4[:2])[0] & 0x1000, "the answer has no sequence number")
        else:
            c.wait(lambda: net.gateway.drops().get("gre_sequence", 0) == before + 1, 3, f"number {seq} to be dropped")


def merged_by_the_kernel(c, **more):
    net = topo.Net(c, start=False, **more)
    net.gw.run("ethtool -K wan0 gro on")
    net.gw.sys_write("/sys/class/net/wan0/gro_flush_timeout", 2000000)
    net.gw.sys_write("/sys/class/net/wan0/napi_defer_hard_irqs", 5)
    net.gateway.start()
    net.wirewatch()
    for server in (topo.SERVER, topo.SERVER6):
        ear = packets.Ear(net.gw, "wan0", lambda s: s.proto == packets.GRE and len(s.data) > 2000)
        upload_and_download(c, net, [1, 2], 6 << 20, server)
        merged = ear.listen()
        c.check(len(merged) > 20, f"the kernel merged only {len(merged)} times: this case proves nothing")
        c.say(f"to {server}: merged {len(merged)} times, the largest {max(len(s.data) for s in merged)} octets")
    drops = net.gateway.drops()
    c.check(not set(drops) & {"inner_checksum", "gso_invalid", "gre_checksum"}, f"merged input was dropped: {drops}")
    net.judged()


@case(limit=60)
def merged_keyed(c):
    """
        br1: upload and download, GRE with key \\
                                                wan0 with GRO -- gw -- inet
        br2: upload and download, GRE with key /

    The kernel's GRO merges GRE packets into ones of up to 64 KB whose inner TCP checksum is not complete, as a
    physical NIC under load has it. Uploads and downloads, IPv4 and IPv6, are intact while it happens, and it is shown
    to happen.
    """
    merged_by_the_kernel(c, keys=[11, 12])


@case(limit=60)
def merged_plain_masqueraded(c):
    """
        br1: upload and download, plain GRE \\
                                             wan0 with GRO -- gw, masquerade -- inet
        br2: upload and download, plain GRE /

    The same without keys, and behind the kernel's NAT.
    """
    merged_by_the_kernel(c, nat="masquerade")


@case(limit=60)
def merged_with_checksums(c):
    """
        br1: upload and download, GRE with checksum \\
                                                     wan0 with GRO -- gw -- inet
        br2: upload and download, GRE with checksum /

    The same with GRE checksums, which the kernel verifies when it merges, and which then fit no longer.
    """
    merged_by_the_kernel(c, branch_options="csum", tunnel={"gre_checksum": "yes"})


@case(limit=60)
def merged_outer_ipv6(c):
    """
        br1: upload and download, GRE over IPv6 \\
                                                 wan0 with GRO -- gw -- inet
        br2: upload and download, GRE over IPv6 /

    The same over an IPv6 underlay.
    """
    merged_by_the_kernel(c, outer=6)


@case()
def genuine_large_packets(c):
    """
        br1: sends packets of up to 9,000 octets in GRE, outer fragments -- gw, tun_mtu = 9200 -- inet, MTU 9200

    The kernel reassembles outer fragments into large packets, too, but these have complete checksums and pass as they
    are; one with a wrong checksum does not.
    """
    net = topo.Net(c, sites=1, cpe=False, gateway={"tun_mtu": 9200}, tunnel={"mtu": 9100}, start=False)
    net.inet.ip("link set eth0 mtu 9200")
    net.gw.ip("link set eth0 mtu 9200")
    net.gateway.start()
    br = packets.Branch(net, 1)
    br.socket.setsockopt(socket.IPPROTO_IP, 10, 0)  # IP_MTU_DISCOVER: IP_PMTUDISC_DONT
    # The tunnel's MTU is more than its underlay takes: the first large answer is spent on finding that out.
    br.send(packets.echo(topo.HOST, topo.SERVER, payload=bytes(3000), flags=0))
    c.wait(lambda: net.gateway.tunnel("t1").get("pmtu") == 1500, 5, "the path MTU of the underlay to be known")
    for size in (1400, 3000, 9000):
        payload = os.urandom(size)
        _, inner = br.ask(packets.echo(topo.HOST, topo.SERVER, payload=payload, flags=0, seq=size),
                          lambda i: i.proto == packets.ICMP and i.icmp == (0, 0) or i.fragment, 5,
                          f"the answer to a ping of {size}")
        if not inner.fragment:
            c.equal(inner.l4[8:], payload, f"payload of {size} octets")
    ear = packets.Ear(net.inet, "eth0", lambda s: s.proto in (packets.UDP, packets.TCP))
    for make in (lambda p: packets.udp(topo.HOST, topo.SERVER, 1000, 2000, p),
                 lambda p: packets.tcp(topo.HOST, topo.SERVER, 1000, 2000, packets.ACK | packets.PSH, 1, 1, p)):
        good = make(os.urandom(4000))
        bad = good[:-1] + bytes([good[-1] ^ 0x55])
        before = net.gateway.drops().get("inner_checksum", 0)
        br.send(bad)
        c.wait(lambda: net.gateway.drops().get("inner_checksum", 0) == before + 1, 3,
               f"a wrong checksum to be dropped: {net.gateway.drops()}")
        br.send(good)
        got = ear.wait(lambda s: s.proto == good[9], 3, "the large packet at the server")
        c.equal(got.l4[-4000:], good[-4000:], "payload of the large packet")
