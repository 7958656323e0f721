# SPDX-License-Identifier: GPL-2.0-or-later
"""The flow table's verdicts on recorded TCP segments against those of Linux conntrack: test/reference/README.md."""
import collections
import fcntl
import os
import select
import struct
import sys

import lab
import packets
from harness import case

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.append(os.path.join(os.path.dirname(HERE), "reference"))

import corpus  # noqa: E402
import differences  # noqa: E402

CORPUS = os.path.join(os.path.dirname(HERE), "reference", "corpus")
README = os.path.join(os.path.dirname(HERE), "reference", "README.md")
TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 1, 0x1000
# What `ct state` a packet has is told by its DSCP when it comes out.
STATES = {1: "invalid", 2: "new", 3: "established"}
RULES = """
table ip reference {
        chain forward {
                type filter hook forward priority 0; policy drop;
                ct state invalid ip dscp set 1 accept
                ct state new ip dscp set 2 accept
                ct state established ip dscp set 3 accept
        }
}
"""


def ends(n):
    """Addresses and ports of conversation n: (client, server, client's port, server's)."""
    return f"10.{n >> 8}.{n & 255}.2", "10.200.0.2", 40000 + n, 80


class Conntrack:
    """
        client side -- tun0 -- kernel, forwarding, nf_conntrack -- tun1 -- server side
    """

    def __init__(self, c, name, loose):
        self.case, self.ns = c, c.ns(name)
        self.fds = []
        with self.ns:
            for dev in ("tun0", "tun1"):
                fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
                fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", dev.encode(), IFF_TUN | IFF_NO_PI))
                self.fds.append(fd)
        self.ns.run("nft -f -", input=RULES)
        self.ns.sysctl({"net/ipv4/ip_forward": 1, "net/ipv4/conf/all/rp_filter": 0, "net/ipv4/conf/default/rp_filter": 0,
                        "net/netfilter/nf_conntrack_tcp_loose": int(loose),
                        "net/netfilter/nf_conntrack_tcp_be_liberal": 0})
        self.ns.ip("link set tun0 mtu 9000 up", "link set tun1 mtu 9000 up", "route add 10.0.0.0/8 dev tun0",
                   "route add 10.200.0.0/16 dev tun1")
        self.drain()

    def drain(self):
        for fd in self.fds:
            while select.select([fd], [], [], 0.05)[0]:
                os.read(fd, 65536)

    def verdict(self, direction, packet):
        """invalid, new, established, or "dropped" when it does not come out at all."""
        os.write(self.fds[direction], packet)
        until = 1.0
        while select.select([self.fds[1 - direction]], [], [], until)[0]:
            out = os.read(self.fds[1 - direction], 65536)
            if out[0] >> 4 == 4 and out[9] == packets.TCP:
                return STATES.get(out[1] >> 2, "unmarked")
        return "dropped"


def flow_table(c, stream, *args):
    """[(verdict, state)] of flowverdict."""
    path = c.file("packets")
    with open(path, "wb") as f:
        for ms, direction, packet in stream:
            f.write(struct.pack("!IBH", ms, direction, len(packet)) + packet)
    with open(path, "rb") as f:
        p = c.ns_of_tools.start([c.tool("flowverdict"), *args], "flowverdict", stdin=f)
        c.equal(p.wait(30), 0, f"exit status of flowverdict: {p.errors()}")
    return [tuple(line.split()) for line in p.output().splitlines()]


def packets_of(conversations, first=None):
    """[(milliseconds, direction, packet)], one conversation behind the other. first: other numbers to begin with."""
    began = 1000000
    for n, conversation in enumerate(conversations):
        last, shift = began, [f - b for f, b in zip(first or conversation.bases, conversation.bases)]
        for s in conversation.segments:
            last = max(last, began + s.ms)
            yield last, s.direction, s.packet(*ends(n), shift=shift)
        began = last + 1


def compare(c, conversations, loose):
    """[differences.Case] where both do not agree on whether a packet passes."""
    stream = list(packets_of(conversations))
    ours = flow_table(c, stream, *([] if loose else ["--strict"]))
    c.equal(len(ours), len(stream), "verdicts of the flow table")
    kernel = Conntrack(c, "loose" if loose else "strict", loose)
    theirs = [kernel.verdict(direction, packet) for _, direction, packet in stream]
    c.check("unmarked" not in theirs, "a packet has come out by no rule")
    found, at = [], 0
    for conversation in conversations:
        for n, s in enumerate(conversation.segments):
            mine, theirs_ = ours[at], theirs[at]
            before = ours[at - 1][1] if n else "-"
            at += 1
            if (mine[0] == "pass") != (theirs_ in ("new", "established")):
                found.append(differences.Case(conversation, n, s, mine[0], before, theirs_))
    count = collections.Counter((mine[0] == "pass", t in ("new", "established")) for mine, t in zip(ours, theirs))
    c.say(f"tcp_loose {loose}: {len(stream)} packets; both pass {count[True, True]}, both drop {count[False, False]}, "
          f"only the flow table passes {count[True, False]}, only conntrack passes {count[False, True]}")
    return len(stream), found


@case(limit=60)
def verdicts_agree(c):
    """
        recorded segments -- flow table, tcp_loose = yes, no
                          `- Linux conntrack, tcp_loose = 1, 0

    Each segment passes both or neither, but for the classes of differences that test/reference explains.
    """
    lab.need("nft")
    c.ns_of_tools = c.ns("tools")
    conversations = corpus.load(CORPUS)
    by_class = collections.defaultdict(list)
    for loose in (True, False):
        n, found = compare(c, conversations, loose)
        c.remark(f"{n} segments, {len(found)} differences, tcp_loose {int(loose)}")
        for d in found:
            by_class[differences.class_of(d)].append(d)
    for name, those in by_class.items():
        c.say(f"{name or 'NOT EXPLAINED'}: {len(those)}")
        for d in those:
            c.say(f"    {d}")
    strange = by_class.pop(None, [])
    c.check(not strange, f"{len(strange)} differences that nobody has explained: " + "; ".join(map(str, strange[:10])))
    c.equal(set(differences.classes) - set(by_class), set(), "classes of differences that do not occur any more")
    with open(README) as f:
        text = f.read()
    unsaid = [name for name in by_class if f"`{name}`" not in text]
    c.equal(unsaid, [], "classes that test/reference/README.md does not explain")


@case(limit=60)
def numbers_do_not_matter(c):
    """
        recorded segments, and the same with other sequence numbers -- flow table

    The verdicts and states are the same when the sequence numbers go over 2^32 or 2^31 in the midst.
    """
    c.ns_of_tools = c.ns("tools")
    conversations = corpus.load(CORPUS)
    as_recorded = flow_table(c, packets_of(conversations))
    for first in ((0xFFFFFE00, 0x7FFFFE00), (0x7FFFF000, 0xFFFFF000), (0xFFFF8000, 0xFFFF8000)):
        c.equal(flow_table(c, packets_of(conversations, first)), as_recorded, f"verdicts with first numbers {first}")
