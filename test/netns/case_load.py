# SPDX-License-Identifier: GPL-2.0-or-later
"""Many sites with the same addresses, many connections each with the same ports, and each packet is looked at."""
import os

import lab
import topo
from case_home import all_home
from harness import case

SITES, CONNECTIONS = 50, 200


def load(c, net, connections):
    """How many requests are under way is bounded: what is tested is where answers go, not how long a queue is."""
    gentle = 4 if c.scale > 1 else 1
    tcp = ("--count", connections, "--requests", 3, "--octets", 2048, "--pace", 20 // gentle, "--in-flight",
           500 // gentle)
    udp = ("--count", connections // 4, "--requests", 3, "--octets", 512, "--pace", 10, "--in-flight", 200 // gentle)
    ping = ("--count", connections // 20, "--requests", 3, "--pace", 5, "--in-flight", 100 // gentle)
    clients = [net.tagclient(*args, "--timeout", 30, proto=proto) for proto,
               args in (("tcp", tcp), ("udp", udp), ("ping", ping))]
    return [(p, p.wait(70)) for p in clients]


def everybody_at_home(c, nat, sites, connections):
    net = topo.Net(c, sites=sites, nat=nat)
    net.tagserver()
    net.wirewatch(private="10.0.0.0/8" if nat != "none" else None)
    for p, status in load(c, net, connections):
        c.equal(status, 0, f"{p.name}: {p.errors()[-600:]} {p.output()[-200:]}")
        if p.name == "tagclient-tcp":
            c.equal(p.json()["peak"], sites * connections, "connections open at the same time")
    stats = net.gateway.json("stats")
    c.say(str(stats))
    j = net.judged()
    all_home(c, net, j)
    c.check(j["tag_octets"] >= sites * connections * 3 * 2048, f"too few octets were checked: {j['tag_octets']}")
    net.tags.stop()
    t = net.tags.json()
    c.equal((t["spliced"], t["malformed"]), (0, 0), "requests of two sites on one connection, and malformed ones")


@case(limit=100, alone=True)
def fifty_sites_two_hundred_connections(c):
    """
        br1 ... br50: 10.0.1.5, TCP ports 40000-40199, 50 UDP ports, 10 ping ids each -- gw, nat = none -- inet

    10,000 connections at a time, every octet of every answer checked by the clients and by the judge on the wire:
    misdelivered = 0, lost = 0.
    """
    everybody_at_home(c, "none", SITES, CONNECTIONS)


@case(limit=60)
def twenty_sites_masqueraded(c):
    """
        br1 ... br20: 10.0.1.5, TCP ports 40000-40099, 25 UDP ports, 5 ping ids each -- gw, masquerade -- inet

    The same behind the kernel's NAT, which is a second state table that must not disagree.
    """
    everybody_at_home(c, "masquerade", 20, 100)


@case(limit=60)
def mutant_is_found_out(c):
    """
        br1 ... br4: 10.0.1.5 -- gw: an arrd built to send replies to the neighbour's tunnel -- tagserver

    Passes only if the judge says that packets were misdelivered: a test that cannot fail proves nothing.
    """
    mutant = os.path.join(os.path.dirname(c.build) if os.path.basename(c.build) == "san" else c.build, "mutant")
    if not os.path.exists(mutant + "/arrd"):
        raise lab.Failure(f"{mutant}/arrd is not built: make mutant")
    net = topo.Net(c, sites=4, build=mutant)
    net.tagserver()
    net.wirewatch()
    for proto in ("tcp", "udp", "ping"):
        net.tagclient("--count", 5, "--timeout", 2, proto=proto).wait(20)
    net.watch.stop()
    j = net.watch.json()
    notes = "\n".join(j["notes"])
    c.check(j["misdelivered"] > 0, f"packets went to the wrong sites, and nobody noticed: {j}")
    for proto in (" proto 6 ", " proto 17 ", " proto 1 "):
        c.check(proto in notes, f"nothing misdelivered of{proto}: {notes}")


@case(limit=60)
def twenty_sites_pool(c):
    """
        br1 ... br20: 10.0.1.5, TCP ports 40000-40099, 25 UDP ports, 5 ping ids each -- gw, arrd's own NAT -- inet

    The same on two addresses of arrd's own NAT.
    """
    everybody_at_home(c, topo.POOL, 20, 100)
