# SPDX-License-Identifier: GPL-2.0-or-later
"""kernel.py - the gateway's egress alone, with a probe in the place of the packet path; for case_kernel.

        branch packets, injected -- arr0 -- gw -- eth0 192.0.2.1 --- 192.0.2.9 inet, with servers at 203.0.113.80
                                            `--- eth1 10.0.1.1 --- 10.0.1.5 lan

The gateway's own network is the branch's. IPv6: fd00:1::/64 for 10.0.1.0/24, 2001:db8:2::/64 for 192.0.2.0/24,
2001:db8:80::80 for the server.
"""
import os
import select
import struct
import subprocess
import time

import lab
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6

HOST, HOST6 = "10.0.1.5", "fd00:1::5"
SERVER, SERVER6 = "203.0.113.80", "2001:db8:80::80"
GW, GW6 = "192.0.2.1", "2001:db8:2::1"
MARK = 0x10000
ETH_P_ALL = 3


def is_icmp(p):
    return ICMP in p or (IPv6 in p and p.nh == 58)


class Probe:
    """test/tools/egress_probe in the gateway's namespace: speaks to the TUN as the packet path would."""

    def __init__(self, net):
        self.c, self.buf = net.c, b""
        self.err = open(net.c.file("probe.err"), "wb")
        self.p = subprocess.Popen(["ip", "netns", "exec", net.gw.name, net.c.tool("egress_probe"), net.conf],
                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.err, env=net.c.env)
        ready = self.text()
        net.c.check(ready.startswith("ready "), f"probe said {ready!r}; see probe.err")
        self.max_flows = int(ready.split()[1])

    def take(self, n, until):
        while len(self.buf) < n:
            left = until - time.monotonic()
            if left <= 0 or not select.select([self.p.stdout], [], [], left)[0]:
                return None
            got = os.read(self.p.stdout.fileno(), 65536)
            if not got:
                raise lab.Failure("the probe ended: " + open(self.err.name, errors="replace").read()[-1500:])
            self.buf += got
        taken, self.buf = self.buf[:n], self.buf[n:]
        return taken

    def frame(self, until):
        """One whole frame, or None; nothing is taken from a frame that is not complete."""
        head = self.take(2, until)
        if head is None:
            return None
        n = struct.unpack(">H", head)[0]
        if n:
            return self.take(n, time.monotonic() + 5)
        n = struct.unpack(">H", self.take(2, time.monotonic() + 5))[0]
        return self.take(n, time.monotonic() + 5).decode()

    def send(self, packet):
        b = bytes(packet)
        self.p.stdin.write(struct.pack(">H", len(b)) + b)
        self.p.stdin.flush()

    def text(self):
        until = time.monotonic() + 10 * self.c.scale
        while True:
            f = self.frame(until)
            if f is None:
                raise lab.Failure("the probe does not answer")
            if isinstance(f, str):
                return f

    def command(self, text):
        self.p.stdin.write(b"\0\0" + struct.pack(">H", len(text)) + text.encode())
        self.p.stdin.flush()
        return self.text()

    def receive(self, want=lambda p: True, seconds=1.0):
        """The next packet to the TUN that is wanted; others are forgotten. None when there is none in time."""
        until = time.monotonic() + seconds * self.c.scale
        while True:
            f = self.frame(until)
            if f is None:
                return None
            p = IP(f) if f[0] >> 4 == 4 else IPv6(f)
            self.c.say("TUN: " + p.summary())
            if want(p):
                return p

    def ask(self, packet, want=lambda p: True, seconds=2.0):
        self.send(packet)
        return self.receive(want, seconds)

    def detach(self):
        self.p.stdin.close()
        self.c.equal(self.p.wait(10), 0, "the probe's exit status")

    def kill(self):
        self.p.kill()
        self.p.wait()


class Sniffer:
    """What passes an interface, read by a packet socket."""

    def __init__(self, ns, dev):
        with ns:
            import socket
            self.s = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_ALL))
            self.s.bind((dev, ETH_P_ALL))
        self.s.setblocking(False)

    def packets(self):
        """All since the last time, IP only, after a moment for what is under way."""
        time.sleep(0.3)
        got = []
        while True:
            try:
                b, where = self.s.recvfrom(65536)
            except BlockingIOError:
                return got
            if where[1] == 0x0800:
                got.append(IP(b))
            elif where[1] == 0x86dd and b[6] != 0 and not (b[6] == 58 and 130 <= b[40] <= 137):  # no ND, no MLD
                got.append(IPv6(b))


class Net:
    def __init__(self, c, nat="masquerade", egress="", tunnels="", gateway="", start=True, ip6=True):
        self.c, self.nat = c, nat
        self.inet, self.gw, self.lan = c.ns("inet"), c.ns("gw"), c.ns("lan")
        c.veth(self.gw, "eth0", self.inet, "eth0")
        c.veth(self.gw, "eth1", self.lan, "eth0")
        self.gw.ip(f"addr add {GW}/24 dev eth0", f"addr add {GW6}/64 dev eth0 nodad", "addr add 10.0.1.1/24 dev eth1",
                   "addr add fd00:1::1/64 dev eth1 nodad", "link set eth0 up", "link set eth1 up",
                   "route add default via 192.0.2.9", "route add ::/0 via 2001:db8:2::9")
        self.inet.ip("addr add 192.0.2.9/24 dev eth0", "addr add 2001:db8:2::9/64 dev eth0 nodad", "link set eth0 up",
                     f"addr add {SERVER}/32 dev lo", f"addr add {SERVER6}/128 dev lo nodad",
                     f"route add 10.0.0.0/8 via {GW}", f"route add fd00::/8 via {GW6}")
        self.lan.ip(f"addr add {HOST}/24 dev eth0", f"addr add {HOST6}/64 dev eth0 nodad", "link set eth0 up",
                    "route add default via 10.0.1.1", "route add ::/0 via fd00:1::1")
        if not ip6:
            self.gw.sysctl({"net/ipv6/conf/all/disable_ipv6": 1})
        self.state = c.file("state")
        os.makedirs(self.state)
        self.conf = c.file("arrd.conf")
        self.configure(egress, tunnels, gateway)
        self.probe = Probe(self) if start else None

    def configure(self, egress="", tunnels="", gateway="", nat=None):
        d = os.path.join(os.path.dirname(self.conf), "tunnels.d")
        os.makedirs(d, exist_ok=True)
        with open(self.conf, "w") as f:
            f.write(f"[gateway]\ntun = arr0\nstate_dir = {self.state}\n{gateway}\n"
                    f"[egress]\ninterface = eth0\nmark = {MARK:#x}\nnat = {nat or self.nat}\n{egress}\n")
        with open(os.path.join(d, "t.conf"), "w") as f:
            f.write(tunnels or "[tunnel t1]\ntype = gre\nlocal = 192.0.2.1\nremote = 198.51.100.7\n")

    def restart(self):
        self.probe = Probe(self)
        return self.probe

    def once(self, what):
        """The probe's `up` and `cleanup`."""
        return self.gw.run([self.c.tool("egress_probe"), self.conf, what])

    def counter(self, name):
        text = self.gw.run(["nft", "list", "counter", "inet", "arrd", name])
        return int(text.split("packets ")[1].split()[0])

    def connections(self, *more):
        return [line for line in self.gw.run(["conntrack", "-L", *more], ok=None).split("\n") if line]

    def state_of(self):
        """Everything of the kernel's that arrd could have changed."""
        out = {"nft": self.gw.run("nft list ruleset").split("\n")}
        for f in "46":
            out["rules" + f] = self.gw.ip(f"-{f} rule show").split("\n")
            out["routes" + f] = sorted(" ".join(x.split()) for x in self.gw.ip(f"-{f} route show table all").split("\n"))
        # Values that belong to the TUN, that count something, or that differ from one reading to the next.
        skip = (".arr0.", "nf_conntrack_count", ".stable_secret", "ipv6.route.flush", "net.ipv4.tcp_", "mtu_expires")
        out["sysctl"] = [x for x in self.gw.run("sysctl -a", ok=None).split("\n")
                         if x.startswith("net.") and not any(s in x for s in skip)]
        return out

    def no_trace(self, before, after=None):
        after = after or self.state_of()
        for what, lines in before.items():
            left = [x for x in after[what] if x not in lines]
            gone = [x for x in lines if x not in after[what]]
            self.c.check(not left and not gone, f"{what}: left {left}, gone {gone}")

    def echo_server(self):
        """TCP and UDP port 7 of the server give back what they get."""
        code = ("import socket,threading\n"
                "def serve(s):\n"
                "  c,a=s.accept()\n"
                "  threading.Thread(target=serve,args=(s,),daemon=True).start()\n"
                "  while True:\n"
                "    d=c.recv(9999)\n"
                "    if not d: break\n"
                "    c.sendall(d)\n"
                "def udp(s):\n"
                "  while True:\n"
                "    d,a=s.recvfrom(9999)\n"
                "    s.sendto(d,a)\n"
                f"for fam,host in ((socket.AF_INET,'{SERVER}'),(socket.AF_INET6,'{SERVER6}')):\n"
                "  t=socket.socket(fam,1); t.setsockopt(1,2,1); t.bind((host,7)); t.listen(9)\n"
                "  threading.Thread(target=serve,args=(t,),daemon=True).start()\n"
                "  u=socket.socket(fam,2); u.bind((host,7))\n"
                "  threading.Thread(target=udp,args=(u,),daemon=True).start()\n"
                "print('ready',flush=True); threading.Event().wait()\n")
        return self.inet.start(["/usr/bin/python3", "-c", code], "echo").ready()


def ip(v, **more):
    """The IP header of a branch's packet to the server."""
    return IP(src=HOST, dst=SERVER, **more) if v == 4 else IPv6(src=HOST6, dst=SERVER6)


def ping(v, ident, seq=1):
    return ip(v) / (ICMP(id=ident, seq=seq) if v == 4 else ICMPv6EchoRequest(id=ident, seq=seq)) / b"ping"


class Tcp:
    """A branch's TCP connection, by hand."""

    def __init__(self, net, v=4, sport=40000, dport=7):
        self.net, self.v, self.sport, self.dport = net, v, sport, dport
        self.seq = 1000
        r = net.probe.ask(self.segment("S", mss=1000), self.mine)
        net.c.check(r is not None and r[TCP].flags == "SA", f"no SYN-ACK came to the TUN, but {r and r.summary()}")
        self.seq += 1
        self.ack = r[TCP].seq + 1
        net.probe.send(self.segment("A"))

    def mine(self, p):
        return TCP in p and p.version == self.v and p[TCP].dport == self.sport and p[TCP].sport == self.dport

    @staticmethod
    def payload(p):
        return bytes(p[TCP].payload)

    def segment(self, flags, data=b"", seq=None, mss=None):
        t = TCP(sport=self.sport, dport=self.dport, flags=flags, seq=self.seq if seq is None else seq, window=60000,
                ack=0 if flags == "S" else self.ack, options=[("MSS", mss)] if mss else [])
        return ip(self.v) / t / data

    def echo(self, data):
        self.net.probe.send(self.segment("PA", data))
        self.seq += len(data)
        r = self.net.probe.receive(lambda p: self.mine(p) and p[TCP].seq == self.ack and self.payload(p), 2)
        self.net.c.check(r is not None and self.payload(r) == data, f"sent {data!r}, got {r and r.show(dump=True)}")
        self.ack = r[TCP].seq + len(data)
        self.net.probe.send(self.segment("A"))


def udp(v, sport, dport=7, data=b"datagram"):
    return ip(v) / UDP(sport=sport, dport=dport) / data
