# SPDX-License-Identifier: GPL-2.0-or-later
"""between.py - what stands between branches and the gateway, and who listens there: NAT, delay, a wire tap.

        rt1: wan0 192.168.77.2 -- in0 192.168.77.1 nat1, out0 203.0.113.11 -- wan: br0 -- gw
        rt1: wan0 203.0.113.11 -- wan: rt1 ~~ delay ~~ long1 -- br0 -- gw
"""
import json
import socket
import struct

import loss
import packets
import topo

IN, IN6 = "192.168.77.1", "fd00:77::1"  # the NAT's address towards the router
ROUTER, ROUTER6 = "192.168.77.2", "fd00:77::2"
PORT_NATT = 4500


class Nat:
    """A router that translates source addresses, IPv4 and IPv6. See move()."""

    def __init__(self, net, i, router):
        self.case, self.net, self.i = net.case, net, i
        ns = self.ns = net.case.ns(f"nat{i}")
        ns.sysctl({"net/ipv4/ip_forward": 1, "net/ipv6/conf/all/forwarding": 1})
        net.case.veth(router, "wan0", ns, "in0")
        net.plug(ns, i, dev="out0", port=f"nat{i}")
        ns.ip(f"addr add {IN}/24 dev in0", f"addr add {IN6}/64 dev in0 nodad", "link set in0 up")
        router.ip(f"addr add {ROUTER}/24 dev wan0", f"addr add {ROUTER6}/64 dev wan0 nodad", "link set wan0 up",
                  f"route add default via {IN}", f"route add ::/0 via {IN6}")
        router.no_offloads("wan0")
        ns.no_offloads("in0")
        self.address = {f: net.outer_addr(i, f, length=False) for f in (4, 6)}
        self.ports = "20000-20999"
        self.translate()

    @staticmethod
    def inner(family):
        return ROUTER if family == 4 else ROUTER6

    def translate(self):
        rules = "".join(f"add table {t} n\ndelete table {t} n\nadd table {t} n\n"
                        f"add chain {t} n post {{ type nat hook postrouting priority 100; }}\n"
                        f"add rule {t} n post oif out0 meta l4proto udp snat to {a}:{self.ports}\n"
                        f"add rule {t} n post oif out0 snat to {b}\n"
                        for t, a, b in (("ip", self.address[4], self.address[4]),
                                        ("ip6", f"[{self.address[6]}]", self.address[6])))
        self.ns.run("nft -f -", input=rules)

    def move(self, ports, address=None):
        """From now on everything has another source port, and address (IPv4) if one is given; as a NAT that was restarted."""
        self.ports = ports
        if address:
            self.ns.ip(f"addr add {address}/24 dev out0")
            self.address[4] = address
        self.translate()
        self.ns.run("conntrack -F")


class Delay:
    """A line that takes its time, each way."""
    MS = 50

    def __init__(self, net, i, router):
        net.plug(router, i, bridge=None)
        net.wan.ip(f"link add long{i} type veth peer name far{i}", f"link set far{i} master br0", f"link set far{i} up",
                   f"link set long{i} up", f"link set long{i} addrgenmode none")
        for dev in (f"long{i}", f"far{i}"):
            net.wan.no_offloads(dev)
        self.net, self.i = net, i
        self.process = net.wan.tool("delay", "--between", f"rt{i},long{i}", "--ms", self.MS, name=f"delay{i}").ready()
        net.case.at_end(self.end)

    def inner(self, family):
        return self.net.outer_addr(self.i, family, length=False)

    def end(self):
        self.net.case.equal(self.process.stop(), 0, f"exit status of the delay: {self.process.errors()}")


class Outer:
    """A frame with an IP packet around UDP or ESP."""

    def __init__(self, frame):
        self.frame = frame
        self.v4 = frame[12:14] == b"\x08\x00"
        self.v6 = frame[12:14] == b"\x86\xdd"
        if not self.v4 and not self.v6:
            self.proto = None
            return
        p = frame[14:]
        if self.v4:
            self.at = 14 + (p[0] & 15) * 4
            self.proto, self.src, self.dst = p[9], packets.text(p[12:16]), packets.text(p[16:20])
        else:
            self.at = 54
            self.proto, self.src, self.dst = p[6], packets.text(p[8:24]), packets.text(p[24:40])
        self.sport = self.dport = None
        if self.proto == packets.UDP:
            self.sport, self.dport = struct.unpack("!HH", frame[self.at:self.at + 4])

    @property
    def payload_at(self):
        return self.at + (8 if self.proto == packets.UDP else 0)

    @property
    def payload(self):
        return self.frame[self.payload_at:]

    @property
    def is_esp(self):
        if self.proto == 50:
            return True
        return self.proto == packets.UDP and PORT_NATT in (self.sport, self.dport) and len(self.payload) > 8 \
            and self.payload[:4] != b"\0\0\0\0"

    @property
    def is_ike(self):
        return self.proto == packets.UDP and (500 in (self.sport, self.dport) or
                                              PORT_NATT in (self.sport, self.dport) and self.payload[:4] == b"\0\0\0\0")

    @property
    def spi(self):
        return self.payload[:4].hex()

    @property
    def seq(self):
        return struct.unpack("!I", self.payload[4:8])[0]

    def with_payload(self, payload):
        """The same with other octets of the same number."""
        f = self.frame[:self.payload_at] + payload
        if self.proto == packets.UDP:
            head = f[self.at:self.at + 6]
            s = packets.l4(self.src, self.dst, packets.UDP, head + b"\0\0" + payload, 6)
            f = f[:self.at] + s
        return f

    def flipped(self, octet, bit=0):
        """One bit of the payload is another one. octet may count from the end."""
        p = bytearray(self.payload)
        p[octet] ^= 1 << bit
        return self.with_payload(bytes(p))

    def from_port(self, port):
        """The same from another port of its sender."""
        f = self.frame[:self.at] + struct.pack("!H", port) + self.frame[self.at + 2:]
        return Outer(f).with_payload(self.payload)


class Tap:
    """Hears and repeats what goes to the gateway from br0, or back (to_gateway=None: both), frame by frame."""

    def __init__(self, net, dev="gw", to_gateway=True, match=lambda o: o.is_esp):
        self.case, self.net, self.match, self.to_gateway = net.case, net, match, to_gateway
        self.dev = dev
        self.socket = net.wan.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        self.socket.setsockopt(socket.SOL_SOCKET, 33, 1 << 24)  # SO_RCVBUFFORCE
        self.socket.bind((dev, 3))
        self.socket.setblocking(False)
        self.heard = []

    def listen(self):
        """Everything so far, as Outer."""
        while True:
            try:
                frame, where = self.socket.recvfrom(70000)
            except BlockingIOError:
                return self.heard
            if self.to_gateway is None or (where[2] == 4) == self.to_gateway:  # PACKET_OUTGOING
                o = Outer(frame)
                if o.proto is not None and self.match(o):
                    self.heard.append(o)

    def forget(self):
        self.listen()
        self.heard.clear()

    def send(self, frames):
        for f in frames:
            self.socket.send(f.frame if isinstance(f, Outer) else f)
        # What was sent is heard as well; it is not the branches'.
        self.forget()

    def wait(self, condition, seconds, what):
        return self.case.wait(lambda: next((o for o in self.listen() if condition(o)), None), seconds, what)


STREAM = """
import json, select, signal, socket, struct, sys, time
server, port, bind, bport, tag, pps, octets = sys.argv[1:8]
port, bport, tag, pps, octets = int(port), int(bport), int(tag), int(pps), int(octets)
s = socket.socket(socket.AF_INET6 if ':' in server else socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET, 33, 1 << 24) # SO_RCVBUFFORCE: seconds of it
s.bind((bind, bport)); s.connect((server, port)); s.setblocking(False)
stop = []
signal.signal(signal.SIGTERM, lambda *_: stop.append(1))
got, wrong, sent, last, gap, when, said, errors = set(), 0, 0, None, 0, {}, False, 0
LEAST = 50 # before that it does not end: fewer would say nothing
start = time.monotonic()
quiet_from = None
def take():
    global wrong, last, gap
    while True:
        try: d = s.recv(65536)
        except BlockingIOError: return
        except OSError: continue
        now = time.monotonic()
        if last is not None: gap = max(gap, now - last)
        last = now
        blocks = [struct.unpack('!IIII', d[i:i + 16]) for i in range(0, len(d) - 15, 16)]
        if len(d) < octets or any(b[:3] != (0x41525241, tag, bport) for b in blocks): wrong += 1
        else: got.add(blocks[0][3])
while True:
    now = time.monotonic()
    if not stop or sent < LEAST:
        while sent < (now - start) * pps:
            n = sent & 0xffff
            try: s.send(struct.pack('!IIII', 0x41525251, tag, octets, bport << 16 | n))
            except OSError: errors += 1
            when[n] = now
            sent += 1
    elif quiet_from is None: quiet_from = now
    if quiet_from is not None and (len(got) == sent or now - max(quiet_from, last or 0) > 2): break
    select.select([s], [], [], 0.001 if not stop else 0.05)
    take()
    if not said and got: said = True; print('ready', flush=True)
lost = sorted(n for n in when if n not in got)
print(json.dumps({'sent': sent, 'got': len(got), 'lost': len(lost), 'first_lost': lost[:8], 'wrong': wrong, 'errors': errors,
    'gap_ms': round(gap * 1000, 1), 'lost_at_s': [round(when[n] - start, 3) for n in lost[:8]]}))
"""


class Stream:
    """Numbered datagrams from branch i to the tagserver and back, at a steady rate, until it is told to stop.

    Of the 65,536 numbers none comes twice in a test's time; each answer names its request and its site."""

    def __init__(self, net, i, pps=200, octets=96, server=topo.SERVER, port=46000):
        self.case, self.i, self.net = net.case, i, net
        host = topo.HOST6 if ":" in server else topo.HOST
        self.process = net.branches[i].start(["/usr/bin/python3", "-u", "-c", STREAM, server, topo.TAGGED, host, port, i, pps,
                                              octets], f"stream{i}")

    def ready(self, seconds=5):
        self.process.ready(seconds=seconds)
        return self

    def end(self):
        """What became of it: sent, got, lost, first_lost, wrong, gap_ms."""
        self.process.stop(seconds=10)
        text = [line for line in self.process.output().splitlines() if line.startswith("{")]
        self.case.check(text, f"{self.process.name}: {self.process.errors()[-500:]}")
        j = json.loads(text[-1])
        self.case.say(f"stream of branch {self.i}: {j}")
        return j

    def beside(self):
        """{where: packets} that queues beside the gateway threw away. They are made so large that there is nothing."""
        router = getattr(self.net, "routers", {}).get(self.i)
        return loss.beside(self.net.branches[self.i], self.net.inet, *([router.ns] if router else []))

    def overflowed(self):
        return sum(self.beside().values())

    def nothing_lost(self, at_least=40):
        j = self.end()
        self.case.check((j["lost"], j["wrong"], j["errors"]) == (0, 0, 0),
                        f"datagrams of branch {self.i}: {j}; lost beside the gateway: {self.beside()}")
        self.case.check(j["got"] >= at_least, f"too few datagrams to say anything: {j}")
        return j
