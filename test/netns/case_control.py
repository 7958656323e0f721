# SPDX-License-Identifier: GPL-2.0-or-later
"""The control socket beside the packet path."""
import json
import os
import re
import socket
import struct
import time

import packets
import topo
from harness import case

FLOWS = 100_000


@case(limit=60, alone=True)
def listing_stops_nobody(c):
    """
        br1: 100,000 UDP flows, by a router in the hands of the test \\
                                                                      gw -- inet
        br2: ping, 100 a second ------------------------------------ /

    All flows are listed, in JSON and as a table, again and again, while another branch's pings come back as quickly as
    ever.
    """
    net = topo.Net(c, cpe=False, flows={"max": 200000, "max_new_per_site": 0}, start=False)
    net.branch(2)
    net.start_cpe()
    net.gw.run("nft add table inet quiet")  # the kernel and the server are spared: it is arrd's table that matters
    net.gw.run(["nft", "add chain inet quiet out { type filter hook prerouting priority -400; }"])
    net.gw.run(["nft", "add rule inet quiet out udp dport 9 drop"])
    net.gateway.start()
    br = packets.Branch(net, 1)
    br.ear.socket.close()
    # One packet is made; then only source port and address change, which the checksum allows to be left out in IPv4.
    head = packets.gre(b"")
    udp = struct.pack("!HHHH", 0, 9, 8, 0)
    made = 0
    while made < FLOWS:
        for port in range(1, 50001):
            br.send_gre(head + packets.ip(f"10.0.2.{made // 50000}", topo.SERVER, packets.UDP,
                                          struct.pack("!H", port) + udp[2:]))
        made += 50000
        c.wait(lambda: net.gateway.json("stats")["flows"]["used"] > made * 0.9, 10, "the flows to be there")
    used = net.gateway.json("stats")["flows"]["used"]
    ping = net.branches[2].start(["ping", "-i", "0.01", "-c", "400", "-q", "-W", "2", topo.SERVER], "ping")
    listings = 0
    while ping.alive():
        begin = time.monotonic()
        flows = net.gateway.json("flows", "--limit", "0", "--site", "s1")
        c.check(len(flows) >= used * 0.99, f"{len(flows)} flows listed of {used}")
        c.equal(len(net.gateway.ctl("flows", "--limit", "0", "--site", "s1").splitlines()) >= used * 0.99, True,
                "the table is whole")
        listings += 1
        c.say(f"listed twice in {time.monotonic() - begin:.2f} s")
    text = ping.output()
    c.check(listings >= 1 and " 0% packet loss" in text, text)
    worst = float(re.search(r"= [0-9.]+/[0-9.]+/([0-9.]+)/", text)[1])
    c.say(f"the worst ping took {worst} ms during {listings} listings")
    c.check(worst < 150 * c.scale, f"a ping took {worst} ms while flows were listed")


@case()
def filters(c):
    """
        br1: 10.0.1.5 \\
                       gw -- inet
        br2: 10.0.1.5 /

    arrctl lists what it is asked for, and nothing else; what it does not understand it says.
    """
    net = topo.Net(c)
    net.tagserver()
    for proto in ("tcp", "udp", "ping"):
        c.equal(net.tagclient("--count", 3, proto=proto).wait(10), 0, proto)
    g = net.gateway
    for args, n in (((), 18), (("--site", "s1"), 9), (("--tunnel", "t2"), 9), (("--proto", "tcp"), 6),
                    (("--proto", "udp", "--site", "s2"), 3),
                    (("--src", topo.HOST), 18), (("--src", "10.0.0.0/8"), 18), (("--src", "10.0.2.0/24"), 0),
                    (("--dst", topo.SERVER), 18),
                    (("--dst", topo.SERVER6), 0), (("--limit", "5"), 5), (("--site", "nobody"), None),
                    (("--proto", "nonsense"), None)):
        c.shell([os.path.join(g.build, "arrctl"), "-s", g.socket, "--json", "flows", *args],
                ok=(0,) if n is not None else None)
        if n is None:
            c.check(c.last.returncode != 0 or json.loads(c.last.stdout) == [], f"flows {args}: {c.last.stdout}")
        else:
            c.equal(len(json.loads(c.last.stdout)), n, f"flows {args}")
    flow = g.flows_of(proto="tcp", site="s1")[0]
    for key in ("site", "tunnel", "proto", "state", "orig", "reply", "translated", "age_s", "idle_s", "expires_s",
                "orig_packets",
                "orig_bytes", "reply_packets", "reply_bytes"):
        c.check(key in flow, f"a flow lacks {key}")
    c.equal(set(flow["orig"]), {"src", "sport", "dst", "dport"}, "members of orig")
    for t in g.json("tunnels"):
        for key in ("name", "type", "site", "state", "local", "remote", "flows", "rx_packets", "rx_bytes", "tx_packets",
                    "tx_bytes", "drops"):
            c.check(key in t, f"a tunnel lacks {key}")
    c.equal(set(g.json("stats")["flows"]) >= {"used", "max", "created", "expired", "evicted", "translated", "refused"},
            True, "stats")
    g.ctl("flush", "--tunnel", "t1")
    c.equal(len(g.flows_of()), 9, "flows after a flush of t1")
    g.ctl("flush", "--all")
    c.equal(len(g.flows_of()), 0, "flows after a flush of all")


@case()
def rude_clients(c):
    """
        a client that sends nonsense, one that never reads, one that leaves in the middle -- control socket -- gw
        br1: ping

    No client disturbs the gateway or another client.
    """
    net = topo.Net(c, sites=1)
    for line in (b"\n", b"{}\n", b"[]\n", b"\0\xff\n", b"{" * 5000 + b"\n", b'{"command": "flows", "limit": -1}\n',
                 b"x" * 100000, b"null\n" * 50):
        s = socket.socket(socket.AF_UNIX)
        s.settimeout(2)
        s.connect(net.gateway.socket)
        try:
            s.sendall(line)
            s.recv(65536)
        except OSError:
            pass  # it may cut us off
        s.close()
    silent = [socket.socket(socket.AF_UNIX) for _ in range(20)]
    for s in silent:
        s.connect(net.gateway.socket)
        s.sendall(b'{"command":"stats"}\n' * 50)
    net.gateway.json("status")
    net.branches[1].run(f"ping -c 5 -i 0.1 -W 2 {topo.SERVER}")
    for s in silent:
        s.close()
    net.gateway.json("status")
    c.check(net.gateway.process.alive(), "arrd died")


@case()
def one_at_a_time(c):
    """
        gw: arrd, and a second one with the same state directory and control socket

    A second arrd on the same directory gives up with a message and disturbs nothing.
    """
    net = topo.Net(c, sites=1)
    second = net.gw.start([os.path.join(c.build, "arrd"), "-c", net.gateway.conf, "-f"], "second")
    c.check(second.wait(10) != 0, "the second arrd started")
    c.check(second.errors().strip() != "", "the second arrd gave no reason")
    c.say(second.errors()[-300:])
    net.branches[1].run(f"ping -c 2 -i 0.1 -W 2 {topo.SERVER}")
    net.gateway.json("status")
