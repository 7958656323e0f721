# SPDX-License-Identifier: GPL-2.0-or-later
"""What others send to an IPsec gateway: repeated, damaged and made-up packets, floods, tunnels in tunnels."""
import os
import socket
import struct

import between
import ipsec
import packets
import topo
from harness import case

COOKIE = 16390  # RFC 7296 3.10.1


@case(needs=ipsec.NEEDS)
def replayed_and_damaged(c):
    """
        br1: rt1 ------------------------------------ \\
        somebody on the way: repeats, flips each octet  gw -- inet: hears every datagram once

    ESP that was recorded and is sent again, and ESP of which one bit is another, is counted under its name and nothing of
    it comes out at the other end.
    """
    net = ipsec.Net(c, sites=1)
    server = net.inet.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind((topo.SERVER, 7300))
    tap = between.Tap(net)
    sender = net.branches[1].socket(socket.AF_INET, socket.SOCK_DGRAM)
    sender.bind((topo.HOST, 45000))
    for n in range(50):
        sender.sendto(struct.pack("!I", n) + bytes(40), (topo.SERVER, 7300))
    c.equal([int.from_bytes(server.recv(100)[:4], "big") for _ in range(50)], list(range(50)), "datagrams at the server")
    heard = [o for o in tap.listen() if len(o.payload) > 60]
    c.check(len(heard) >= 50, f"{len(heard)} ESP packets heard")
    before = net.gateway.drops()
    tap.send(heard)
    net.gateway.wait_drop("esp_replay", before.get("esp_replay", 0) + len(heard) - 1)
    # A number that was not there yet, so that the ICV must say no. The number itself and the SPI are under it, too.
    base = heard[-1]
    fresh = base.payload[:4] + struct.pack("!I", base.seq + 1000) + base.payload[8:]
    fresh = between.Outer(base.with_payload(fresh))
    forged = [fresh.flipped(at, at % 8) for at in range(8, len(fresh.payload))]
    tap.send(forged)
    net.gateway.wait_drop("esp_auth", before.get("esp_auth", 0) + len(forged) - 1)
    # Cut short, and of an SPI that nobody has.
    short = [between.Outer(base.frame[:base.payload_at]).frame + base.payload[:n] for n in range(9, 24, 3)]
    for f in short:
        length = len(f) - 14
        ip = f[14:16] + struct.pack("!H", length) + f[18:24] + b"\0\0" + f[26:34]
        ip = ip[:10] + struct.pack("!H", packets.checksum(ip)) + ip[12:]
        udp = f[34:38] + struct.pack("!HH", length - 20, 0)
        tap.send([f[:14] + ip + udp + f[42:]])
    net.gateway.wait_drop("esp_truncated", before.get("esp_truncated", 0))
    tap.send([base.with_payload(b"\xff\xee\xdd\xcc" + base.payload[4:])])
    net.gateway.wait_drop("esp_unknown_spi", before.get("esp_unknown_spi", 0))
    sender.sendto(struct.pack("!I", 50) + bytes(40), (topo.SERVER, 7300))
    c.equal(int.from_bytes(server.recv(100)[:4], "big"), 50, "the next datagram at the server")
    c.equal(set(net.gateway.drops()) - {"source_invalid"}, {"esp_replay", "esp_auth", "esp_truncated", "esp_unknown_spi"},
            "drop reasons")


@case(needs=ipsec.NEEDS)
def spis_of_others(c):
    """
        br1: rt1 \\
                   gw -- inet
        br2: rt2 /    somebody: sends packets of branch 1 from the address of branch 2, and the other way

    Where ESP comes from says nothing: the SPI and the key do. A packet of one branch under another one's address and
    another one's SPI opens nothing.
    """
    net = ipsec.Net(c)
    for r in net.routers.values():
        r.ping()
    net.wirewatch()
    streams = [between.Stream(net, i, pps=100).ready() for i in net.branches]
    tap = between.Tap(net)
    c.wait(lambda: all(len([o for o in tap.listen() if o.src == net.remote(i)]) > 20 for i in (1, 2)), 5, "packets of both")
    of = {i: [o for o in tap.heard if o.src == net.remote(i)][-20:] for i in (1, 2)}
    crossed = []
    for i, other in ((1, 2), (2, 1)):
        for o, p in zip(of[i], of[other]):
            # As the other branch's; and the other one's header with this one's ciphertext, with a number to come.
            crossed.append(between.Outer(p.with_payload(o.payload)) if len(o.payload) == len(p.payload) else p)
            crossed.append(p.with_payload(p.payload[:4] + struct.pack("!I", p.seq + 5000) + o.payload[8:]))
    before = net.drop("esp_auth")
    tap.send(crossed)
    net.gateway.wait_drop("esp_auth", before + len(crossed) // 2 - 1)
    for s in streams:
        s.nothing_lost()
    net.judged()


@case(needs=ipsec.NEEDS)
def tunnels_in_tunnels(c):
    """
        br1: sends GRE and ESP inside of its tunnel, from the outer address of branch 2 and 3 \\
        br2: rt2, IPsec ----------------------------------------------------------------------- gw -- inet
        br3: test CPE, GRE ------------------------------------------------------------------- /

    What comes out of a tunnel is an ordinary packet of that site, whatever it looks like: it never counts as one of
    another tunnel.
    """
    net = ipsec.Net(c, sites=3, gre=(3,), branch={"ts": ipsec.ANYWHERE}, tunnel=lambda i: {"mtu": 1400} if i == 3 else {})
    for r in net.routers.values():
        r.ping()
    rt = net.routers[1].ns
    # What the LAN sends goes into the tunnel, whatever it is for.
    rt.ip("rule add pref 100 iif lan0 lookup 220")
    tap = between.Tap(net)
    net.routers[2].ping()
    esp = [o for o in tap.listen() if o.src == net.remote(2)]
    ear = packets.Ear(net.inet, "eth0", lambda s: s.icmp == (8, 0) or s.dport == 7300 or s.proto == packets.GRE)
    inner = packets.echo(topo.HOST, topo.SERVER, ident=99)
    gre = packets.gre(inner)
    bad = [packets.ip(net.remote(3), topo.GW_WAN, packets.GRE, gre),
           packets.ip(topo.HOST, topo.GW_WAN, packets.GRE, gre),
           packets.ip(net.remote(3), "203.0.113.2", packets.GRE, gre)]
    for o in esp[:3]:
        # With a number to come, too: only the tunnel that it comes in by says what it is.
        for payload in (o.payload, o.payload[:4] + struct.pack("!I", o.seq + 500) + o.payload[8:]):
            bad += [packets.ip(net.remote(2), topo.GW_WAN, 50, payload),
                    packets.udp(net.remote(2), topo.GW_WAN, 4500, 4500, payload),
                    packets.udp(topo.HOST, topo.GW_WAN, 4500, 4500, payload)]
    before = {t["name"]: t for t in net.gateway.json("tunnels")}
    host = net.branches[1].socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    host.bind(("eth0", 3))
    lan = bytes.fromhex(rt.mac("lan0").replace(":", "")) + bytes.fromhex(net.branches[1].mac("eth0").replace(":", "")) + b"\x08\0"
    ear.listen()
    ear.heard.clear()
    for p in bad:
        host.send(lan + p)
    # To a server it is what any site may send.
    host.send(lan + packets.ip(topo.HOST, topo.SERVER, packets.GRE, gre))
    host.send(lan + packets.udp(topo.HOST, topo.SERVER, 45000, 7300, b"last"))
    ear.wait(lambda s: s.dport == 7300, 3, "the last datagram")
    c.equal([(s.proto, s.src, s.l4) for s in ear.heard if s.dport != 7300], [(packets.GRE, topo.HOST, gre)],
            "what left by the egress")
    after = {t["name"]: t for t in net.gateway.json("tunnels")}
    for t in [*before.values(), *after.values()]:
        # A router's ipsec0 announces itself, from a link-local source.
        t["rx_packets"] -= t["drops"].pop("source_invalid", 0)
    for name in ("t2", "t3"):
        for what in ("rx_packets", "drops"):
            c.equal(after[name][what], before[name][what], f"{what} of {name}")
    was = before["t1"]["drops"]
    dropped = {k: v - was.get(k, 0) for k, v in after["t1"]["drops"].items() if v != was.get(k, 0)}
    c.equal(sum(dropped.values()), len(bad), f"drops of t1: {dropped}")
    c.check(not set(dropped) & {"esp_replay", "esp_auth", "esp_unknown_spi", "unknown_sender"}, f"it was looked into: {dropped}")


FLOOD = """
import os, socket, struct, sys, time
dev, rate, template = sys.argv[1], int(sys.argv[2]), bytes.fromhex(sys.argv[3])
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
s.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 22)
s.bind((dev, 0))
def fold(b):
    t = sum(struct.unpack(f'!{len(b) // 2}H', b))
    while t >> 16: t = (t & 0xffff) + (t >> 16)
    return ~t & 0xffff
ip, rest = template[14:34], template[34:]
n, start = -1, time.monotonic()
while True:
    n += 1
    if n % 100 == 0: time.sleep(max(0, start + n / rate - time.monotonic()))
    src = bytes((100, 64 + (n >> 16 & 63), n >> 8 & 255, n & 255))
    h = ip[:10] + b'\\0\\0' + src + ip[16:]
    h = h[:10] + struct.pack('!H', fold(h)) + h[12:]
    udp = rest[:6] + b'\\0\\0' + os.urandom(8) + rest[16:]
    s.send(template[:14] + h + udp)
    if n == 0: print('ready', flush=True)
"""


@case(limit=60, needs=ipsec.NEEDS)
def half_open_flood(c):
    """
        100.64.0.0/10: IKE_SA_INITs, each from an address of its own ------- \\
        br1: numbered datagrams -- rt1 --------------------------------------- gw: cookie_threshold = 30, half_open_max = 1000
        br2: rt2, comes up meanwhile ---------------------------------------- /

    Nobody holds more than a bounded number of half-open exchanges; most are asked for a cookie. What is up goes on, and
    a real branch gets in.
    """
    net = ipsec.Net(c, up=False, tunnel=lambda i: {"remote": "any"} if i == 2 else {},
                    branch={
                        "more": {"retransmit_timeout": "0.5"}, "conn": {"proposals": "aes256gcm16-prfsha384-ecp384"}},
                    ipsec={"cookie_threshold": 30, "half_open_max": 1000}, start=False)
    net.gw.ip("route add 100.64.0.0/10 via 203.0.113.2")
    net.gateway.start()
    one, two = net.routers[1], net.routers[2]
    tap = between.Tap(net, match=lambda o: o.is_ike)
    one.up()
    init = tap.wait(lambda o: o.dport == 500 and o.payload[18] == 34, 3, "the IKE_SA_INIT of branch 1")
    stream = between.Stream(net, 1, pps=100).ready()
    back = between.Tap(net, to_gateway=False, match=lambda o: o.is_ike and o.dst.startswith("100."))
    memory = resident(net)
    flood = net.wan.start(["/usr/bin/python3", "-c", FLOOD, "gw", "4000", init.frame.hex()], "flood").ready()
    c.wait(lambda: len(back.listen()) > 3000, 20, "answers to the flood")
    # libcharon makes new secrets for its cookies after 10,000 of them, and a stock branch does not try for ever.
    c.wait(lambda: two.initiate(10, ok=None), 30, "branch 2 to come up")
    two.ping()
    c.check(flood.alive(), f"the flood: {flood.errors()}")
    flood.kill()
    answers = back.listen()
    cookies = [o for o in answers if o.payload[16] == 41 and struct.unpack("!H", o.payload[34:36])[0] == COOKIE]
    c.check(len(cookies) > 100, f"{len(cookies)} cookies among {len(answers)} answers")
    c.check(len(answers) - len(cookies) <= 1100, f"{len(answers) - len(cookies)} exchanges were begun without a cookie")
    stream.nothing_lost()
    two.ping()
    grown = resident(net) - memory
    c.remark(f"{len(answers)} answers, {len(cookies)} of them cookies; {grown >> 20} MiB more")
    c.check(grown < (64 << 20) * c.scale, f"the gateway grew by {grown >> 20} MiB")
    c.check(len(net.gateway.process.errors()) < 1 << 21, "the log grew beyond bounds")


def resident(net):
    with open(f"/proc/{net.gateway.process.pid}/statm") as f:
        return int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@case(needs=ipsec.NEEDS)
def rubbish(c):
    """
        anybody: random octets to UDP 500, UDP 4500 and protocol 50 -- gw -- inet
        br1: numbered datagrams -- rt1 ---------------------------- /

    What is neither IKE nor ESP of anybody is counted and forgotten.
    """
    net = ipsec.Net(c, sites=1)
    stream = between.Stream(net, 1, pps=100).ready()
    frm = "203.0.113.2"
    for port in (500, 4500):
        s = net.wan.socket(socket.AF_INET, socket.SOCK_DGRAM)
        s.bind((frm, 4000))
        for n in range(0, 300):
            s.sendto(os.urandom(n), (topo.GW_WAN, port))
            s.sendto(bytes(4) + os.urandom(n), (topo.GW_WAN, port))
        s.sendto(b"\xff", (topo.GW_WAN, port))
        s.close()
    raw = net.wan.socket(socket.AF_INET, socket.SOCK_RAW, 50)
    raw.bind((frm, 0))
    for n in range(0, 300):
        raw.sendto(os.urandom(n), (topo.GW_WAN, 0))
    net.gateway.wait_drop("esp_unknown_spi", 100)
    c.wait(lambda: net.routers[1].answers(topo.SERVER6), 3, "a ping")
    net.routers[1].wait_used()
    stream.nothing_lost()
    expected = {"esp_unknown_spi", "esp_truncated", "ipsec_malformed", "ike_malformed", "ike_queue", "source_invalid"}
    c.check(set(net.gateway.drops()) <= expected, f"{net.gateway.drops()}")
    net.routers[1].ping()
