# SPDX-License-Identifier: GPL-2.0-or-later
"""Equal tuples of several branches at the same time, and everybody gets his own answers."""
import topo
from harness import case


def ask_everything(c, net, bind=topo.HOST, server=topo.SERVER):
    """TCP, UDP and ping at once, all from the same ports; every octet is checked, by the clients and on the wire."""
    clients = [net.tagclient("--count", 8, "--requests", 20, "--octets", 4096, "--first-port", 40000, proto="tcp",
                             server=server, bind=bind),
               net.tagclient("--count", 8, "--requests", 20, "--octets", 1024, "--first-port", 40000, "--timeout", 5,
                             proto="udp", server=server, bind=bind),
               net.tagclient("--count", 8, "--requests", 20, "--first-port", 40000, "--timeout", 5, proto="ping",
                             server=server, bind=bind)]
    for p in clients:
        status = p.wait(25)
        c.equal(status, 0, f"{p.name}: {p.output()[-600:]} {p.errors()[-600:]}")


def all_home(c, net, j, up=True):
    """Nothing was lost in the gateway: what came by the egress left by the tunnels, and the other way."""
    c.check(j["checked"] > 0, "nothing was checked on the wire")
    c.equal(j["unverifiable"], 0, f"packets that nothing could be said of: {j['notes']}")
    c.equal(j["tunnel_out"], j["egress_in"], "left by tunnels, against came by egress")
    if up:
        c.equal(j["egress_out"], j["tunnel_in"], "left by egress, against came by tunnels")


def equal_tuples(c, nat, outer=4, sites=2, keys=None, **more):
    net = topo.Net(c, sites=sites, nat=nat, outer=outer, keys=keys, **more)
    net.tagserver()
    net.wirewatch(private="10.0.0.0/8" if nat != "none" else None)
    ask_everything(c, net)
    ask_everything(c, net, server=topo.SERVER6)
    # Every branch's flows are there, with the addresses that its host has.
    for i in net.branches:
        mine = net.gateway.flows_of(site=f"s{i}")
        for proto in ("tcp", "udp", "icmp"):
            some = [f for f in mine if f["proto"] == proto and f["orig"]["src"] == topo.HOST]
            c.check(len(some) == 8, f"site s{i} has {len(some)} IPv4 flows of {proto}, expected 8")
    all_home(c, net, net.judged())
    return net


@case()
def equal_tuples_routed(c):
    """
        br1: 10.0.1.5:40000 \\
                             GRE over IPv4 -- gw, nat = none -- inet: server
        br2: 10.0.1.5:40000 /

    TCP, UDP and ping, IPv4 and IPv6, from equal addresses and ports at once; the egress only routes.
    """
    net = equal_tuples(c, "none")
    translated = net.gateway.flows_of(translated=True)
    c.check(len(translated) >= 48, f"{len(translated)} flows translated, expected one of each equal pair: 48")


@case()
def equal_tuples_masqueraded(c):
    """
        br1: 10.0.1.5:40000 \\
                             GRE over IPv4 -- gw, masquerade -- inet: server
        br2: 10.0.1.5:40000 /

    The same behind the kernel's NAT: no packet leaves the egress with a private source.
    """
    equal_tuples(c, "masquerade")


@case()
def equal_tuples_outer_ipv6(c):
    """
        br1: 10.0.1.5:40000 2001:db8:113::b \\
                                              GRE over IPv6 -- gw 2001:db8:113::1, masquerade -- inet: server
        br2: 10.0.1.5:40000 2001:db8:113::c /

    The underlay is IPv6; inside IPv4 and IPv6.
    """
    equal_tuples(c, "masquerade", outer=6)


@case()
def keyed_between_same_addresses(c):
    """
        br1: 10.0.1.5 -- key 101 \\
        br2: 10.0.1.5 -- key 102 -- all from 203.0.113.11 -- GRE -- gw 203.0.113.1 -- inet: server
        br3: 10.0.1.5 -- key 0   /

    Three tunnels between the same two addresses are told apart by nothing but the GRE key.
    """
    equal_tuples(c, "none", sites=3, keys=[101, 102, 0])


@case()
def checksum_and_sequence(c):
    """
        br1: 10.0.1.5 -- GRE with checksum, key and sequence number \\
                                                                     gw, nat = none -- inet: server
        br2: 10.0.1.5 -- GRE with checksum, key and sequence number /

    RFC 2784 checksums and RFC 2890 sequence numbers, in both directions.
    """
    net = equal_tuples(c, "none", keys=[7, 7], branch_options="csum,seq",
                       tunnel={"gre_checksum": "yes", "gre_sequence": "yes"})
    net.cpe.stop()
    for b in net.cpe.json():
        c.equal((b["bad"], b["out_of_order"], b["wrong_key"]), (0, 0, 0),
                f"bad, out of order and wrong key of {b['netns']}")
