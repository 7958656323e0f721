# SPDX-License-Identifier: GPL-2.0-or-later
"""One site floods the flow table; the others do not notice."""
import signal
import socket
import threading
import time

import packets
import topo
from case_life import Downloads, RATE
from harness import case

PORTS = "7100-7115"
MAX = 20000


class OwnConnections:
    """What the machine itself speaks with a server of its own: one long connection, and new ones all the time."""

    def __init__(self, c, net):
        self.c, self.failed, self.made, self.ends = c, [], 0, False
        self.listener = net.inet.socket(socket.AF_INET, socket.SOCK_STREAM)
        self.listener.bind((topo.SERVER, 5000))
        self.listener.listen(64)
        self.ns = net.gw
        self.long = self.connect()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def connect(self):
        s = self.ns.socket(socket.AF_INET, socket.SOCK_STREAM)
        s.settimeout(4 * self.c.scale)
        s.connect((topo.SERVER, 5000))
        server, _ = self.listener.accept()
        server.settimeout(4 * self.c.scale)
        return s, server

    def speak(self, pair):
        pair[1].sendall(b"are you there?")
        if pair[0].recv(100) != b"are you there?":
            raise OSError("another answer")

    def run(self):
        while not self.ends:
            try:
                self.speak(self.long)
                pair = self.connect()
                self.speak(pair)
                for s in pair:
                    s.close()
                self.made += 1
            except OSError as e:
                self.failed.append(str(e))
            time.sleep(0.02)

    def stop(self):
        self.ends = True
        self.thread.join(20)
        self.c.equal(self.failed, [], f"connections of the machine's own that failed, of {self.made}")
        self.c.check(self.made > 50, f"only {self.made} connections of the machine's own were made")


def left_in_the_kernel(net):
    """What conntrack has of branches' conversations, and the flow table has not: by protocol, addresses and ports."""
    kernel = set()
    for line in net.gw.run(["conntrack", "-L", "--mark", "0x100000/0x100000"]).splitlines():
        words = line.split()
        said = {}
        for word in words[2:]:
            key, equals, value = word.partition("=")
            if equals:
                said.setdefault(key, value)  # the original direction is named first
        port = said.get("sport", said.get("id", "0"))
        kernel.add((words[0], said["src"], said["dst"], port, said.get("dport", "0")))
    flows = {(f["proto"], f["reply"]["dst"], f["orig"]["dst"], str(f["reply"]["dport"]), str(f["orig"]["dport"]))
             for f in net.gateway.flows_of() if f["state"] != "quarantine"}
    net.case.check(len(kernel & flows) > len(flows) / 4, f"{len(kernel)} entries, {len(flows)} flows: nothing is compared")
    return kernel - flows


def floods(c, nat, kinds):
    # No witness captures it: it would take more of the machine than the gateway does. The clients check every octet that
    # they get, and the flood whether anything comes that is not its own.
    net = topo.Net(c, sites=3, nat=nat, flows={"max": MAX}, egress={"private_destinations": "198.51.0.0/16"})
    net.tagserver(rate=RATE)
    server = net.inet.tool("flood", "--serve", topo.SERVER, "--ports", PORTS, name="floodserver").ready()
    del net.branches[1]  # it is the flood's
    loads = [Downloads(c, net), Downloads(c, net, server=topo.SERVER6)]
    own = OwnConnections(c, net)
    tried = failed = fastest = 0
    for n, kind in enumerate(kinds):
        args = ["--local", net.remote(1), "--remote", net.local, "--server", topo.SERVER, "--ports", PORTS, "--kind", kind]
        flood = net.wan.tool("flood", *args, name=f"flood-{kind}").ready()
        before = net.gateway.json("stats")["flows"]
        clients = [net.tagclient("--count", 250, "--requests", 2, "--octets", 512, "--first-port", 20000 + 1000 * n, "--pace", 1,
                                 "--timeout", 15, server=s, name=f"new-{kind}-{k}")
                   for k, s in enumerate((topo.SERVER, topo.SERVER6))]
        for p in clients:
            p.wait(25)
            for b in p.json()["branches"].values():
                tried += 250
                failed += b["failed"] + b["wrong"] + b["lost"]
        for d in loads:
            d.go_on(15, f"the downloads to go on during {kind}")
        status = net.gateway.json("status")
        stats = net.gateway.json("stats")["flows"]
        flood.stop()
        f = flood.json()
        fastest = max(fastest, f["sent"] * 1000 // f["ms"])
        if kind in ("tcp", "ask") and n == 0:
            c.check(f["answers"] > 3000, f"the flood of {kind} was not answered: {f}")
        c.equal(f["foreign"], 0, f"packets of others that the flood's branch got during {kind}")
        t1 = net.gateway.tunnel_drops("t1")
        c.check("other_site" not in t1, f"nothing of the flood was for another site: {t1}")
        c.say(f"{kind}: {f['sent'] * 1000 // f['ms']} packets/s, {f['answers']} answers; table {status['flows']['used']} used, "
              f"{stats['quarantined']} quarantined; begun {stats['created'] - before['created']}, "
              f"evicted {stats['evicted'] - before['evicted']}; t1 dropped {t1}")
    own.stop()
    server.stop()
    if nat == "masquerade":
        c.wait(lambda: not left_in_the_kernel(net), 10, "the kernel to have no entry of a flow that has ended")
    c.remark(f"{tried - failed} of {tried} new connections succeeded, and {own.made} of the machine's own; up to {fastest} "
             "flood packets/s")
    c.check(failed * 1000 <= tried, f"{failed} of {tried} new connections of the other sites failed")
    for name in ("t2", "t3"):
        wrong = {k: v for k, v in net.gateway.tunnel_drops(name).items()
                 if k in ("flow_table_full", "site_limit", "nat_exhausted", "nat_site_limit", "tuple_collision", "fragment_limit")}
        c.equal(wrong, {}, f"what {name} was refused")
    return net


@case(limit=110, alone=True)
def floods_of_one_site_pool(c):
    """
        br1: SYN flood, UDP scan, ICMP sweep, fragments, answered UDP, completed TCP, at full rate \\
                                                                       gw, 20,000 flows, arrd's own NAT -- inet
        br2, br3: downloads that go on, and new connections ------------------------------------- /

    All the while the others' downloads go on, their new connections succeed, and so do the machine's own.
    """
    floods(c, topo.POOL, ("tcp", "ask", "syn", "scan", "sweep", "frag"))


@case(limit=110, alone=True)
def floods_of_one_site_masqueraded(c):
    """
        br1: SYN flood, UDP scan, ICMP sweep, fragments, answered UDP, completed TCP, at full rate \\
                                                                       gw, 20,000 flows, masquerade -- inet
        br2, br3: downloads that go on, and new connections ------------------------------------- /

    The same with the kernel's connection tracking behind it.
    """
    floods(c, "masquerade", ("ask", "tcp", "frag", "syn", "scan", "sweep"))


@case(needs=("conntrack",))
def makes_room_while_its_packet_waits(c):
    """
        br1: a packet of the flow that will have to go, and one that begins another flow, in one batch
             \\ gw, max_per_site = 20, masquerade -- inet

    What a flow still sends must not reach the kernel behind the deletion of its entry, and make that anew.
    """
    net = topo.Net(c, sites=1, cpe=False, nat="masquerade", flows={"max_per_site": 20})
    br = packets.Branch(net, 1)

    def send(port):
        br.send(packets.udp(topo.HOST, topo.SERVER, port, 9000, b"?"))
    for k in range(20):
        send(2000 + k)
    c.wait(lambda: net.gateway.json("stats")["flows"]["used"] == 20, 2, "20 flows")
    time.sleep(1.5)  # what is younger than a second does not go
    for k in range(5):
        net.gateway.process.send(signal.SIGSTOP)
        send(2000 + k)
        send(3000 + k)
        net.gateway.process.send(signal.SIGCONT)
        c.wait(lambda n=k: net.gateway.json("stats")["flows"]["evicted"] == n + 1, 2, "one to make room")
    c.equal(left_in_the_kernel(net), set(), "entries of the kernel whose flows have ended")
