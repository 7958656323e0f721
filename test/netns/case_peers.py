# SPDX-License-Identifier: GPL-2.0-or-later
"""Branch routers that are not ours: the Linux kernel's GRE, in User-Mode Linux, and Open vSwitch's."""
import os
import re

import peers
import topo
from case_gre import upload_and_download
from case_home import all_home, ask_everything
from case_path import fetch
from harness import case

SIZE = 4 << 20


def network(c, routers, keys=(7, 7), **more):
    """One branch for each of routers: a function of net and number that makes it, or None for the test CPE."""
    net = topo.Net(c, sites=len(routers), cpe=False, keys=keys and list(keys), **more)
    # Our own are started while the others boot.
    net.routers = [make(net, i) for i, make in enumerate(routers, 1) if make]
    theirs = dict(net.branches)
    net.branches.clear()
    for i, make in enumerate(routers, 1):
        if not make:
            net.branch(i)
    if net.branches:
        net.start_cpe()
    net.branches.update(theirs)
    net.tagserver()
    for r in net.routers:
        r.ready()
    return net


def everything_comes_home(c, net):
    """All protocols from equal addresses and ports at once, then files, up and down; judged on the wire."""
    net.wirewatch(private="10.0.0.0/8")
    for server in (topo.SERVER, topo.SERVER6):
        ask_everything(c, net, server=server)
    upload_and_download(c, net, net.branches, SIZE)
    content = os.urandom(SIZE)
    with open(os.path.join(c.dir, "web", "file6"), "wb") as f:
        f.write(content)
    for i in net.branches:
        fetch(c, net, i, "file6", content, server=topo.SERVER6)
    for i in net.branches:
        flows = net.gateway.flows_of(site=f"s{i}")
        c.check(any(f["orig"]["src"] == topo.HOST for f in flows) and any(f["orig"]["src"] == topo.HOST6 for f in flows),
                f"flows of site s{i}: {flows}")
    all_home(c, net, net.judged())
    for r in net.routers:
        c.equal(r.errors(), {}, f"what the router of {r.host.name} counted as wrong")
    # A kernel announces its multicast groups on its tunnel, too; that is nothing for the others.
    c.equal(set(net.gateway.drops()) - {"dst_multicast"}, set(), "drops")


@case(limit=40, needs=("linux.uml",))
def kernel_keyed(c):
    """
        br1: 10.0.1.5 -- Linux kernel, ip_gre with key 7 \\
                                                          gw, masquerade -- inet: server
        br2: 10.0.1.5 -- test CPE, key 7 --------------- /

    The GRE of a real kernel beside a branch with equal addresses: equal tuples in TCP, UDP and ping, files up and down.
    """
    everything_comes_home(c, network(c, [peers.Kernel, None], nat="masquerade"))
