# SPDX-License-Identifier: GPL-2.0-or-later
"""NAT between branch and gateway, and branches that move."""
import re

import between
import ipsec
import topo
from case_ipsec import everything_comes_home
from harness import case


def behind(i, router=None):
    return {"between": between.Nat}


@case(needs=ipsec.NEEDS)
def behind_nat(c):
    """
        br1: 10.0.1.5 -- rt1 192.168.77.2 -- NAT 203.0.113.11 \\
                                                                gw, masquerade -- inet
        br2: 10.0.1.5 -- rt2 192.168.77.2 -- NAT 203.0.113.12 /

    Both behind NATs, with equal addresses outside too.
    """
    everything_comes_home(c, ipsec.Net(c, nat="masquerade", branch=behind))


@case(needs=ipsec.NEEDS)
def behind_nat_ipv6(c):
    """
        br1: 10.0.1.5 -- rt1 fd00:77::2 -- NAT 2001:db8:113::b -- gw -- inet

    NAT between IPv6 addresses.
    """
    everything_comes_home(c, ipsec.Net(c, sites=1, outer=6, nat="masquerade", branch=behind))


class SharedNat(between.Nat):
    """The NAT of branch 1, with one more router behind it."""

    def __init__(self, net, i, router):
        first = net.routers.get(1)
        if not first:
            super().__init__(net, i, router)
            return
        nat = first.between
        self.ns, self.net, self.case = nat.ns, net, net.case
        net.case.veth(router, "wan0", self.ns, f"in{i}")
        self.ns.ip(f"addr add 192.168.{77 + i}.1/24 dev in{i}", f"link set in{i} up")
        self.mine = f"192.168.{77 + i}.2"
        router.ip(f"addr add {self.mine}/24 dev wan0", "link set wan0 up", f"route add default via 192.168.{77 + i}.1")
        router.no_offloads("wan0")
        self.ns.no_offloads(f"in{i}")

    def inner(self, family):
        return getattr(self, "mine", between.ROUTER)


@case(needs=ipsec.NEEDS)
def behind_one_nat(c):
    """
        br1: 10.0.1.5 -- rt1 192.168.77.2 \\
                                            NAT: both from 203.0.113.11, other ports -- gw: remote = any -- inet
        br2: 10.0.1.5 -- rt2 192.168.79.2 /

    Two branches at one address, told apart by identity, and their ESP by SPI only.
    """
    net = ipsec.Net(c, nat="masquerade", branch={"between": SharedNat}, tunnel={"remote": "any"})
    everything_comes_home(c, net)
    remotes = {net.gateway.remote_end(f"t{i}") for i in (1, 2)}
    c.check({a for a, _ in remotes} == {"203.0.113.11"} and len(remotes) == 2, f"remote ends: {remotes}")


@case(needs=ipsec.NEEDS)
def another_ones_spi(c):
    """
        br1: 10.0.1.5 -- rt1 192.168.77.2 \\
                                            NAT: both from 203.0.113.11 -- gw: remote = any, t2 renews after 1,000 packets
        br2: 10.0.1.5 -- rt2 192.168.79.2 /

    Branch 2 chooses for its own SA the SPI that branch 1 has, as read off the wire. Peers' SPIs are unique for an address only
    as long as everybody behaves; what is done to the one SA must not be done to the other. It is refused.
    """
    net = ipsec.Net(c, nat="masquerade", branch={"between": SharedNat}, up=False,
                    tunnel=lambda i: {"remote": "any"} | ({"child_rekey_packets": 1000} if i == 2 else {}))
    one, two = net.routers[1], net.routers[2]
    one.up()
    taken = one.children("INSTALLED")[0]["spi-in"]
    stream = between.Stream(net, 1).ready()
    two.stop()
    two.more = two.more | {"spi_min": "0x" + taken, "spi_max": "0x" + taken}
    two.start().ready()
    two.initiate(3, ok=None)
    c.wait(lambda: net.gateway.log("tunnel t2", "chose an SPI that another branch"), 5, "the gateway to refuse it")
    c.check(not net.gateway.is_up("t2"), "it was taken")
    stream.nothing_lost()
    c.equal([ch["spi-in"] for ch in one.children("INSTALLED")], [taken], "branch 1's SA")


def follows(c, net, ports, address=None):
    """A stream of branch 1 goes on while its NAT maps it anew: nothing is lost but what was under way to the old mapping."""
    r = net.routers[1]
    nat = r.between
    stream = between.Stream(net, 1).ready()
    tap = between.Tap(net, to_gateway=False)
    low, high = (int(p) for p in ports.split("-"))
    nat.move(ports, address)
    c.wait(lambda: len([o for o in tap.listen() if low <= o.dport <= high]) > 100, 5, f"ESP to ports {ports}")
    j = stream.end()
    first = next(n for n, o in enumerate(tap.heard) if low <= o.dport <= high)
    c.equal({(o.dst, low <= o.dport <= high) for o in tap.heard[first:]}, {(nat.address[4], True)},
            "where ESP went after the first to the new mapping")
    c.check(j["lost"] <= first + 8 + stream.overflowed() and j["wrong"] == 0, f"{first} to the old mapping; the stream: {j}")
    c.equal(len(r.children("INSTALLED")), 1, "CHILD_SAs")
    r.ping()


@case(needs=ipsec.NEEDS)
def rebinding(c):
    """
        br1: numbered datagrams -- rt1 -- NAT: other ports; another address -- gw: remote = any -- inet: echo

    The NAT forgets its mappings in mid-stream. The branch's next packets come from elsewhere, are good, and from then on
    answers go there: none is lost but those that were under way to the old mapping.
    """
    net = ipsec.Net(c, sites=1, branch=behind, tunnel={"remote": "any"})
    for ports, address in (("30000-30999", None), ("40000-40999", "203.0.113.111")):
        follows(c, net, ports, address)


class BothWays(between.Nat):
    """The branch knows the gateway by another address, too: as behind a NAT that forwards ports to it."""

    def translate(self):
        super().translate()
        self.ns.run("nft -f -", input="add chain ip n pre { type nat hook prerouting priority -100; }\n"
                    f"add rule ip n pre iif in0 ip daddr {between.IN} udp dport {{ 500, 4500 }} dnat to {self.net.local}\n")


def called_back(c, nat, **conn):
    """The gateway is restarted, calls the branch through the NAT, and so becomes the original initiator."""
    net = ipsec.Net(c, sites=1, branch={"plugins": None, "between": nat, "conn": conn}, tunnel={"remote": "any"})
    r = net.routers[1]
    r.ping()
    net.gateway.stop()
    net.gateway.start()
    c.wait(r.answers, 10, "a ping to be answered again")
    c.equal(net.gateway.tunnel("t1")["ike"]["role"], "initiator", "the gateway's role")
    c.wait(lambda: len(r.children("INSTALLED")) == 1, 5, "one CHILD_SA to be left")
    return net


@case(needs=ipsec.NEEDS)
def rebinding_of_one_that_was_called(c):
    """
        br1: numbered datagrams -- rt1, strongSwan's defaults -- NAT: other ports; another address -- gw: stop, start -- inet

    The same when the gateway had called the branch back.
    """
    net = called_back(c, between.Nat)
    for ports, address in (("30000-30999", None), ("40000-40999", "203.0.113.111")):
        follows(c, net, ports, address)


@case(needs=ipsec.NEEDS)
def rebinding_between_two_nats(c):
    """
        br1: numbered datagrams -- rt1, strongSwan's defaults -- NAT: other ports -- port forwarding -- gw: stop, start -- inet

    The same with a gateway that is behind a NAT as well. Its own is a static one, or no branch would ever reach it: so
    it follows even so (RFC 7296 2.23 would rather not, for those whose NAT may forget them).
    """
    net = called_back(c, BothWays, remote_addrs=between.IN)
    c.equal(net.gateway.tunnel("t1")["ike"]["nat"], "both", "who is behind a NAT")
    # The first time the branch may happen to have something to say by IKE, which would be enough (RFC 4555 3.8).
    for ports in ("30000-30999", "40000-40999"):
        follows(c, net, ports)


@case(needs=ipsec.NEEDS)
def rebinding_is_not_for_everybody(c):
    """
        br1: numbered datagrams -- rt1 -- gw -- inet: echo
        somebody: repeats and changes rt1's packets, from another port

    Only what is new and genuine moves a tunnel's end: replayed, damaged and made-up ESP from elsewhere does not.
    """
    net = ipsec.Net(c, sites=1)
    stream = between.Stream(net, 1).ready()
    tap = between.Tap(net)
    c.wait(lambda: len(tap.listen()) > 100, 3, "packets to repeat")
    heard = list(tap.heard)
    back = between.Tap(net, to_gateway=False)
    # The last octet is of the ICV; the one behind the header is ciphertext; the number decides the window.
    bad = [between.Outer(o.from_port(5555)) for o in heard[-20:]]
    tap.send(bad)
    tap.send([between.Outer(f.flipped(-1)) for f in bad] + [between.Outer(f.flipped(20)) for f in bad])
    future = [between.Outer(f.with_payload(f.payload[:4] + (f.seq + 100000).to_bytes(4, "big") + f.payload[8:])) for f in bad]
    tap.send(future)
    net.gateway.wait_drop("esp_replay", 19)
    net.gateway.wait_drop("esp_auth", 19)
    c.wait(lambda: len(back.listen()) > 100, 3, "answers")
    c.equal({o.dport for o in back.heard}, {4500}, "ports that ESP went to")
    stream.nothing_lost()


def announced(r):
    """Addresses of the gateway's that it told the branch of, until now."""
    with open(r.log, errors="replace") as f:
        return set(re.findall(r"got additional MOBIKE peer address: (\S+)", f.read()))


def tracked(gw):
    """What conntrack knows of the outer packets of IPsec."""
    said = "".join(gw.run(["conntrack", "-L", "-f", family]) for family in ("ipv4", "ipv6"))
    return [line for line in said.splitlines() if re.search(r"\b[sd]port=(500|4500)\b|\besp\b|^unknown +50 ", line)]


@case(needs=(*ipsec.NEEDS, "conntrack"))
def mobike(c):
    """
        br1: numbered datagrams -- rt1: 203.0.113.11, then .61, then 2001:db8:113::3d, then .11 -- gw -- inet: echo

    The branch changes its outer address, also from IPv4 to IPv6 and back; the IKE_SA and the tunnel stay (RFC 4555). It is
    told of what other tunnels have as local, also since a reload, and of nothing else that the gateway's interface has.
    Wherever the branch goes, conntrack sees nothing of its outer packets.
    """
    net = ipsec.Net(c, sites=1, up=False, tunnel={"local": "203.0.113.1", "remote": "any"}, branch={
        "conn": {"mobike": "yes", "local_addrs": "%any"}})
    r, g = net.routers[1], net.gateway
    net.gw.ip("addr add 172.31.9.1/24 dev wan0", "addr add 203.0.113.9/24 dev wan0", "addr add fd00:99::1/64 dev wan0 nodad")
    # Without an IPv4 address for a moment, strongSwan would find its way by IPv6, and stay there.
    r.ns.ip("addr del 2001:db8:113::b/64 dev wan0")
    net.up()
    r.ping()
    c.equal(announced(r), set(), "addresses that the branch was told of, with one tunnel")
    r.terminate()
    c.wait(lambda: not r.sas() and not g.is_up("t1"), 5, "t1 to be down")
    g.tunnels["other"] = {**g.tunnels["t1"], "local": "2001:db8:113::1", "remote_id": "other.example", "site": "other",
                          "psk": "a key of another branch that nobody has"}
    g.reload()
    net.up()
    c.equal(announced(r), {"2001:db8:113::1"}, "addresses that the branch was told of, with two")
    ike = {sa["initiator-spi"] for sa in r.sas()}
    both = between.Stream(net, 1).ready()

    def at(address, seconds=10):
        def moved():
            sas = [sa for sa in r.sas() if sa["state"] == "ESTABLISHED"]
            return len(sas) == 1 and sas[0]["local-host"] == address and r.answers()
        c.wait(moved, seconds, f"the branch to be at {address}")
        c.equal({sa["initiator-spi"] for sa in r.sas()}, ike, "IKE_SA")
        c.wait(lambda: net.gateway.remote_end("t1")[0] == address, 5, f"arrctl to show {address}")
        c.equal(tracked(net.gw), [], f"what conntrack knows of IPsec, with the branch at {address}")

    r.ns.ip("addr add 203.0.113.61/24 dev wan0", f"addr del {net.outer_addr(1, 4)} dev wan0",
            "route replace default via 203.0.113.2")
    at("203.0.113.61")
    r.ns.ip("addr add 2001:db8:113::3d/64 dev wan0 nodad", "addr del 203.0.113.61/24 dev wan0")
    r.ns.ip("-6 route replace default via 2001:db8:113::2")
    at("2001:db8:113::3d", 20)
    r.ping(topo.SERVER6)
    r.ns.ip(f"addr add {net.outer_addr(1, 4)} dev wan0", "addr del 2001:db8:113::3d/64 dev wan0")
    r.ns.ip("route replace default via 203.0.113.2")
    at(net.outer_addr(1, 4, length=False), 20)
    j = both.end()
    c.equal(j["wrong"], 0, f"wrong datagrams: {j}")
    c.remark(f"longest gap {j['gap_ms']} ms")


@case(needs=ipsec.NEEDS)
def begun_on_4500(c):
    """
        br1: rt1: remote_port = 4500, so IKE begins there -- gw -- inet

    A branch whose provider drops port 500.
    """
    net = ipsec.Net(c, sites=1, up=False, branch={"conn": {"remote_port": "4500", "local_port": "4500"}})
    tap = between.Tap(net, match=lambda o: o.is_ike)
    net.up()
    c.equal({o.dport for o in tap.listen()}, {4500}, "ports of IKE")
    everything_comes_home(c, net, 0)
