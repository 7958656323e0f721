# SPDX-License-Identifier: GPL-2.0-or-later
"""case_samewire.py - a gateway with one interface: what leaves for the Internet has the address that tunnels have, too."""
import socket
import struct

import packets
import topo
from harness import case

GW, A, B = "203.0.113.1", "203.0.113.11", "203.0.113.12"


def ipv4(src, dst, proto, payload):
    h = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(payload), 1, 0x4000, 64, proto, 0,
                    socket.inet_aton(src), socket.inet_aton(dst))
    return h[:10] + struct.pack("!H", packets.checksum(h)) + h[12:] + payload


def gre_seen(sock):
    """The senders of all GRE that lies in a raw socket."""
    senders = []
    sock.setblocking(False)
    while True:
        try:
            senders.append(sock.recvfrom(65536)[1][0])
        except BlockingIOError:
            return senders


@case(limit=30)
def gre_to_another_branch(c):
    """
        br1: 203.0.113.11 \\
                           wan: br0 -- eth0 203.0.113.1 gw: arrd, tunnels and Internet by the same interface
        br2: 203.0.113.12 /

    A branch sends inner GRE to another branch's outer address: masqueraded, it would look like the gateway's own.
    """
    wan, gw, a, b = (c.ns(x) for x in ("wan", "gw", "br1", "br2"))
    wan.ip("link add br0 type bridge", "link set br0 up")
    for ns, address in ((gw, GW), (a, A), (b, B)):
        c.veth(ns, "eth0", wan, ns.short)
        wan.ip(f"link set {ns.short} master br0", f"link set {ns.short} up")
        ns.ip(f"addr add {address}/24 dev eth0", "link set eth0 up")
    gw.ip("route add default via 203.0.113.254")
    tunnels = {f"t{i}": {"type": "gre", "site": f"s{i}", "local": GW, "remote": r} for i, r in ((1, A), (2, B))}
    # Its own network is one that branches may reach here: so nothing but the check of tunnels' ends stands in the way.
    arrd = topo.Gateway(c, gw, tunnels, egress={"nat": "masquerade", "private_destinations": "203.0.113.0/24"}).start()
    sender, witness = (ns.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_GRE) for ns in (a, b))

    into_b = packets.gre(ipv4("10.0.1.66", "10.0.1.5", 17, struct.pack("!HHHH", 5555, 5555, 8 + 4, 0) + b"evil"))
    sender.sendto(into_b, (B, 0))
    seen = []
    c.wait(lambda: seen.extend(gre_seen(witness)) or A in seen, 5, "the witness to see GRE at all")
    for _ in range(5):
        sender.sendto(packets.gre(ipv4("10.0.1.5", B, 47, into_b)), (GW, 0))
    seen = []
    c.wait(lambda: seen.extend(gre_seen(witness)) or GW in seen or arrd.drops().get("dst_tunnel", 0) == 5, 5,
           "all of it to be dropped by name")
    c.check(GW not in seen, f"GRE of a branch reached another branch as the gateway's: {seen}")
