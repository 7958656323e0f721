# SPDX-License-Identifier: GPL-2.0-or-later
"""What arrctl flows --follow tells, against what a server saw."""
import json
import os
import re
import socket
import struct
import time

import packets
import topo
from harness import case

PORT = 9999


class Follower:
    """arrctl flows --follow --json in the background, and the events that it printed."""

    def __init__(self, net, *args, name="follow"):
        self.case = net.case
        g = net.gateway
        self.process = g.ns.start([os.path.join(g.build, "arrctl"), "-s", g.socket, "--json", "flows", "--follow", *args],
                                  name)
        self.process.ready('"event":"follow"')

    def events(self):
        # A line that is not whole yet is left for the next time.
        return [json.loads(line) for line in self.process.output().split("\n")[:-1]][1:]

    def wait(self, n, **want):
        """n events with these members; they are all that there are of such."""
        def enough():
            found = [e for e in self.events() if all(e.get(k) == v for k, v in want.items())]
            return found if len(found) >= n else None
        found = self.case.wait(enough, 5, f"{n} events with {want}")
        self.case.equal(len(found), n, f"events with {want}: {found}")
        return found

    def end(self):
        self.case.equal(self.process.stop(2), 0, "exit status of arrctl after SIGINT: " + self.process.errors())


class Server:
    """A UDP server that answers, and remembers who said what."""

    def __init__(self, net):
        self.socket = net.inet.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((topo.SERVER, PORT))

    def hears(self):
        said, peer = self.socket.recvfrom(2000)
        self.socket.sendto(b"answer to " + said, peer)
        return said.decode(), peer


def say(branch, text, port=40000):
    branch.send(packets.udp(topo.HOST, topo.SERVER, port, PORT, text.encode()))


@case()
def events_name_the_site(c):
    """
        br1: 10.0.1.5:40000 -- t1 \\
                           \\--- t3 > site s1   gw -- inet: server
        br2: 10.0.1.5:40000 -- t2 -- site s2 /

    Two sites speak from equal addresses and ports. For each datagram the server knows an address and a port, and the
    event with these names the site that it came from. Then a flow of s1 moves to its other tunnel, one is ended by
    command, the others with their tunnel; each is told, once.
    """
    net = topo.Net(c, sites=3, cpe=False, tunnel=lambda i: {"site": "s1"} if i == 3 else {})
    branches = {i: packets.Branch(net, i) for i in (1, 2, 3)}
    server = Server(net)
    of_all, of_s2 = Follower(net), Follower(net, "--site", "s2", name="follow-s2")
    began = time.time()
    seen = {}
    for i, port in ((1, 40000), (2, 40000), (2, 40001), (1, 40001)):
        say(branches[i], f"s{i}", port)
        said, peer = server.hears()
        seen[peer] = said
        branches[i].wait(lambda p: p.proto == packets.UDP and p.l4[8:] == b"answer to " + said.encode(), 5,
                         "the answer at its branch")
    c.equal(len(seen), 4, "peers that the server told apart")
    events = of_all.wait(4, event="begin")
    for (addr, port), said in seen.items():
        mine = [e for e in events if (e["reply"]["dst"], e["reply"]["dport"]) == (addr, port)
                and (e["reply"]["src"], e["reply"]["sport"]) == (topo.SERVER, PORT) and e["proto"] == "udp"]
        c.equal(len(mine), 1, f"events of what the server saw as {addr}:{port}")
        c.equal(mine[0]["site"], said, f"the site of {addr}:{port}")
        c.equal(mine[0]["orig"]["src"], topo.HOST, "its own source")
        c.equal(mine[0]["translated"], mine[0]["orig"]["sport"] != port, "translated")
    c.equal(sorted(e["site"] for e in events if e["translated"]), ["s1", "s2"], "sites whose flow was translated")
    for e in events:
        c.check(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", e["time"]), e["time"])
        t = time.mktime(time.strptime(e["time"][:19], "%Y-%m-%dT%H:%M:%S")) - time.timezone
        c.check(began - 2 < t < time.time() + 2, f"{e['time']} is not now")

    say(branches[3], "s1")
    c.equal(server.hears()[0], "s1", "the flow goes on")
    branches[3].wait(lambda p: p.l4[8:] == b"answer to s1", 5, "the answer at the other tunnel")
    moved, = of_all.wait(1, event="move")
    c.equal((moved["site"], moved["from"], moved["to"], moved["tunnel"]), ("s1", "t1", "t3", "t3"), "the move")
    c.equal(moved["flow"], next(e["flow"] for e in events if e["site"] == "s1" and e["orig"]["sport"] == 40000),
            "the flow that moved")

    net.gateway.ctl("flush", "--tunnel", "t3")
    flushed, = of_all.wait(1, event="evict")
    c.equal((flushed["reason"], flushed["flow"]), ("flushed", moved["flow"]), "what was flushed")
    c.equal((flushed["orig_packets"], flushed["reply_packets"]), (2, 2), "its packets")
    del net.gateway.tunnels["t2"]
    net.gateway.reload()
    for e in of_all.wait(2, event="evict", reason="removed"):
        c.equal((e["site"], e["tunnel"]), ("s2", "t2"), "what went with its tunnel")
    # The other follower had those of s2, and nothing else.
    of_s2.wait(2, event="evict", reason="removed")
    c.equal([(e["event"], e["site"]) for e in of_s2.events()], [("begin", "s2")] * 2 + [("evict", "s2")] * 2, "of s2")
    stats = net.gateway.json("stats")["flows"]
    c.equal((stats["created"], stats["moved"], stats["evicted_by"]["flushed"], stats["evicted_by"]["removed"]),
            (4, 1, 1, 2), f"counters: {stats}")
    log = net.gateway.process.errors()
    c.check(re.search(r" info tunnel t3: flow of site s1 has moved here from tunnel t1: udp 10\.0\.1\.5:40000 > ", log),
            "the move is not in the log")
    of_s2.end()
    net.gateway.stop()
    c.equal(of_all.process.wait(5), 69, "exit status of arrctl when the gateway has gone: " + of_all.process.errors())
    net.gateway.start()


@case(limit=60, alone=True)
def a_flood_of_events_stops_nobody(c):
    """
        br1: 200,000 UDP flows, by a router in the hands of the test \\
                                                                      gw -- inet
        br2: ping, 100 a second ------------------------------------ /

    One follower reads, one is stopped. Pings of another branch come back as quickly as ever; what the follower got and
    what it was told to have lost are all that there was.
    """
    net = topo.Net(c, cpe=False, flows={"max": 400000}, gateway={"log_level": "info"}, start=False)
    net.branch(2)
    net.start_cpe()
    net.gw.run("nft add table inet quiet")  # the kernel and the server are spared
    net.gw.run(["nft", "add chain inet quiet out { type filter hook prerouting priority -400; }"])
    net.gw.run(["nft", "add rule inet quiet out udp dport 9 drop"])
    net.gateway.start()
    reads, stands = Follower(net, "--site", "s1", name="reads"), Follower(net, name="stands")
    stands.process.send(19)  # SIGSTOP
    br = packets.Branch(net, 1)
    br.ear.socket.close()
    ping = net.branches[2].start(["ping", "-i", "0.01", "-c", "300", "-q", "-W", "2", topo.SERVER], "ping")
    head, udp = packets.gre(b""), struct.pack("!HHHH", 0, 9, 8, 0)
    begin = time.monotonic()
    for host in range(4):
        for port in range(1, 50001):
            br.send_gre(head + packets.ip(f"10.0.2.{host}", topo.SERVER, packets.UDP, struct.pack("!H", port) + udp[2:]))
    took = time.monotonic() - begin
    c.wait(lambda: not ping.alive(), 20, "the pings")
    text = ping.output()
    c.check(" 0% packet loss" in text, text)
    worst = float(re.search(r"= [0-9.]+/[0-9.]+/([0-9.]+)/", text)[1])
    created = net.gateway.json("stats")["flows"]["created"]
    c.say(f"{created} flows began in {took:.1f} s; the worst ping took {worst} ms")
    c.check(worst < 150 * c.scale, f"a ping took {worst} ms")

    def all_told(f, total):
        def told():
            events = f.events()
            lost = sum(e["count"] for e in events if e["event"] == "lost")
            got = [e for e in events if e["event"] == "begin"]
            return (len(got), lost) if len(got) + lost >= total else None
        return c.wait(told, 20, "what began to be told, or to be said lost")

    s1 = sum(f["site"] == "s1" for f in net.gateway.json("flows", "--limit", "0"))
    got, lost = all_told(reads, s1)
    c.say(f"the follower got {got} events and lost {lost}")
    c.check(got > s1 / 2, f"only {got} of {s1} events came")
    stands.process.send(18)  # SIGCONT
    got, lost = all_told(stands, created)
    c.say(f"the one that stood still got {got} events and lost {lost}")
    c.check(lost > 0, "who does not read loses something")
    c.equal(got + lost, created, "events and lost ones")
    reads.end()
    stands.end()
