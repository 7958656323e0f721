# SPDX-License-Identifier: GPL-2.0-or-later
"""arrd against arrd: one is the gateway, the others are branches."""
import os

import between
import ipsec
import topo
from case_gre import upload_and_download
from harness import case


class ArrdBranch:
    """arrd as the router and the host of branch i, which calls the gateway."""

    def __init__(self, net, i, tunnel=None, **more):
        c, net.branches[i] = net.case, net.case.ns(f"br{i}")
        self.ns = net.branches[i]
        net.plug(self.ns, i)
        self.ns.ip("route del default", "route del ::/0")
        options = {"type": "ipsec", "local": net.remote(i), "remote": net.local, "local_id": ipsec.branch_id(i),
                   "remote_id": ipsec.GW_ID, "psk": ipsec.psk(i), "initiate": "yes", "install_routes": "yes",
                   "interface_address": ["10.213.0.0/31", "fd00:213::/127"], "routes": ["0.0.0.0/0", "::/0"], **(tunnel or {})}
        self.gateway = ipsec.Gateway(c, self.ns, {"up": options}, name=f"arrd-br{i}", egress={"interface": "wan0"}, gateway={
            "tun_address": [f"{topo.HOST}/24", f"{topo.HOST6}/64"], "tun_mtu": 1400}, **more)

    def start(self):
        self.gateway.start()
        return self

    def is_up(self):
        return self.gateway.is_up("up")


def pair(c, sites=2, branch=None, start=True, **more):
    net = ipsec.Net(c, sites=sites, routers=(), up=False, start=start, **more)
    net.arrds = {i: ArrdBranch(net, i, branch).start() for i in range(1, sites + 1)}
    return net


def through(c, net):
    for br in net.branches.values():
        for target in (topo.IF_GW, topo.IF_GW6, topo.SERVER, topo.SERVER6):
            br.run(["ping", "-q", "-c", "2", "-i", "0.05", "-W", "3", target])
    for server in (topo.SERVER, topo.SERVER6):
        for proto in ("tcp", "udp", "ping"):
            p = net.tagclient("--count", 20, "--requests", 5, "--octets", 1024, proto=proto, server=server)
            c.equal(p.wait(25), 0, f"{proto} to {server}: {p.output()[-300:]} {p.errors()[-300:]}")
    upload_and_download(c, net, net.branches, 8 << 20)
    c.check(not set(net.gateway.drops()) & {"esp_auth", "esp_replay", "esp_padding", "esp_selector", "other_site"},
            f"{net.gateway.drops()}")


@case(needs=())
def two_branches(c):
    """
        br1: arrd, initiate = yes, tun_address 10.0.1.5 \\
                                                          ESP, protocol 50 -- gw: arrd, masquerade -- inet
        br2: arrd, initiate = yes, tun_address 10.0.1.5 /

    arrd as initiator and as responder; without a NAT it is native ESP. In bulk, with all offloads, from equal tuples.
    """
    net = pair(c, nat="masquerade")
    for a in net.arrds.values():
        c.wait(a.is_up, 10, "the branch's tunnel to be up")
    tap = between.Tap(net)
    through(c, net)
    c.equal({o.proto for o in tap.listen()}, {50}, "protocols of ESP")


@case(needs=())
def in_udp_over_ipv6(c):
    """
        br1: arrd, force_encap \\
                                 ESP in UDP over IPv6 -- gw: arrd, masquerade -- inet
        br2: arrd, force_encap /

    The same over IPv6, encapsulated because it is asked for.
    """
    net = pair(c, nat="masquerade", outer=6, branch={"force_encap": "yes"})
    for a in net.arrds.values():
        c.wait(a.is_up, 10, "the branch's tunnel to be up")
    tap = between.Tap(net)
    through(c, net)
    c.equal({o.proto for o in tap.listen()}, {17}, "protocols of ESP")


@case(needs=())
def each_suite(c):
    """
        br1: arrd, one suite after another -- gw: arrd: all of them -- inet

    Both directions of every suite against each other, ESN included.
    """
    suites = ("aes128gcm16-esn", "aes192gcm16", "aes256gcm16-esn", "chacha20poly1305-esn", "aes128-sha256-esn", "aes256-sha384",
              "aes256-sha512-esn", "aes128-sha1")
    net = pair(c, sites=1, tunnel={"esp_proposals": ", ".join(suites)}, branch={"esp_proposals": suites[0]})
    br, a = net.branches[1], net.arrds[1]
    content = os.urandom(1 << 20)
    net.web({"file": content})
    for suite in suites:
        a.gateway.tunnels["up"]["esp_proposals"] = suite
        a.gateway.reload()
        c.wait(a.is_up, 10, f"the tunnel to be up with {suite}")
        br.run(["ping", "-q", "-c", "3", "-i", "0.05", "-W", "3", topo.SERVER])
        path = c.file("file")
        br.run(["curl", "-sS", "--max-time", "20", "-o", path, f"http://{topo.SERVER}/file"], 30)
        with open(path, "rb") as f:
            c.check(f.read() == content, f"the download with {suite} is not what was sent")


@case(limit=40, needs=())
def initiator_tries_again(c):
    """
        br1: arrd, initiate = yes; started before the gateway -- gw: arrd, started later, stopped, started -- inet

    A branch that is to begin goes on trying, and comes back after the gateway went away.
    """
    net = pair(c, sites=1, start=False, branch={"dpd_delay": 1})
    a = net.arrds[1]
    c.never(a.is_up, 0.3, "up without a gateway")
    net.gateway.start()
    c.wait(a.is_up, 15, "the branch's tunnel to be up")
    br = net.branches[1]
    for end in (net.gateway.stop, net.gateway.kill):
        stream = between.Stream(net, 1, pps=50).ready()
        end()
        net.gateway.start()

        def passes():
            br.run(["ping", "-q", "-c", "1", "-W", "0.3", topo.SERVER], ok=None)
            return c.last.returncode == 0
        c.wait(passes, 15, "traffic again")
        c.remark(f"gap {stream.end()['gap_ms'] / 1000:.1f} s")
