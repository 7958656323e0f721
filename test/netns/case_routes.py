# SPDX-License-Identifier: GPL-2.0-or-later
"""Where packets without a flow go, and flows that change their tunnel."""
import json
import os
import socket

import packets
import topo
from case_egress import tcp_echo_once
from case_gre import upload_and_download
from case_life import RATE
from harness import case


@case()
def replies_follow_routes_when_told(c):
    """
        br1: 10.0.1.5 -- t1, automatic_return_routing = no, routes = 10.0.1.0/24, fd00:10:0:1::/64 \\
        br2: 10.0.1.5 -- t2, automatic_return_routing = no, no routes ---------------------------- gw -- inet
        br3: 10.0.1.5 -- t3, automatic_return_routing = yes ------------------------------------- /

    Without automatic return routing replies follow `routes` only: br1's come home, br2's are dropped by name and never
    reach br1, whose route would fit; br3 does not care.
    """
    def options(i):
        return ({"automatic_return_routing": "no", "routes": ["10.0.1.0/24", "fd00:10:0:1::/64"]},
                {"automatic_return_routing": "no"}, {})[i - 1]
    net = topo.Net(c, sites=3, tunnel=options)
    net.tagserver()
    net.wirewatch()
    for server in (topo.SERVER, topo.SERVER6):
        p = net.tagclient("--count", 5, "--timeout", 5, branches=[1, 3], server=server, name="home")
        c.equal(p.wait(20), 0, f"br1 and br3: {p.output()[-400:]} {p.errors()[-400:]}")
        p = net.tagclient("--count", 5, "--timeout", 1, "--first-port", 44000, branches=[2], server=server, proto="udp",
                          name="lost")
        p.wait(20)
        c.equal(p.json()["branches"][net.branches[2].name]["answers"], 0, "answers to br2, which has no route")
    drops = net.gateway.drops()
    c.check(drops.get("no_flow", 0) + drops.get("other_site", 0) >= 10,
            f"replies to br2 were not dropped by name: {drops}")
    net.judged()


@case()
def begun_outside(c):
    """
        br1: 10.0.1.5 (routes = 10.0.1.0/24, install_routes) \\
                                                               gw, nat = none -- inet begins connections to 10.0.1.5
        br2: 10.0.1.5 -----------------------------------------/

    A host behind the egress reaches the branch that `routes` names: TCP, UDP and ping; what begins otherwise than
    conversations do is dropped. br2 has the same address and hears nothing.
    """
    net = topo.Net(c, tunnel=lambda i: {"routes": ["10.0.1.0/24", "fd00:10:0:1::/64"], "install_routes": "yes"}
                   if i == 1 else {})
    ear2 = packets.Ear(net.branches[2], "tun0", lambda s: s.proto != packets.ICMP6 or s.icmp[0] < 130)
    for family, host, server in ((socket.AF_INET, topo.HOST, topo.SERVER), (socket.AF_INET6, topo.HOST6, topo.SERVER6)):
        listener = net.branches[1].socket(family, socket.SOCK_STREAM)
        listener.bind((host, 8000))
        listener.listen(1)
        client = net.inet.socket(family, socket.SOCK_STREAM)
        client.connect((host, 8000))
        accepted, (peer, *_) = listener.accept()
        accepted.settimeout(3 * c.scale)
        c.equal(peer, server, "who connected, as the branch sees it")
        c.equal(tcp_echo_once(accepted, client), b"FROM THE BRANCH", "echo")
        net.inet.run(["ping", "-c", "2", "-i", "0.1", "-W", "3", host])
        u, v = net.branches[1].socket(family, socket.SOCK_DGRAM), net.inet.socket(family, socket.SOCK_DGRAM)
        u.bind((host, 8001))
        v.connect((host, 8001))
        v.send(b"question")
        got, peer = u.recvfrom(100)
        u.sendto(got.upper(), peer)
        c.equal(v.recv(100), b"QUESTION", "answer by UDP")
    f = packets
    raw = net.inet.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    for p in (f.tcp(topo.SERVER, topo.HOST, 80, 8000, f.ACK), f.tcp(topo.SERVER, topo.HOST, 80, 8000, f.SYN | f.ACK),
              f.tcp(topo.SERVER, topo.HOST, 80, 8000, f.RST), f.tcp(topo.SERVER, topo.HOST, 80, 8000, f.FIN | f.ACK),
              f.echo(topo.SERVER, topo.HOST, ident=99, reply=True)):
        raw.sendto(p, (topo.HOST, 0))
    net.gateway.wait_drop("not_a_beginning", 4)
    c.equal([str(s) for s in ear2.listen()], [], "heard by the other branch")


@case()
def branch_to_branch(c):
    """
        br1: 10.1.0.5 -- t1, routes = 10.1.0.0/16 \\
                                                   gw
        br2: 10.2.0.5 -- t2, routes = 10.2.0.0/16 /
        br3: 10.2.0.5 -- t3, no routes           /

    Branches reach each other by `routes`, through the gateway and not by its egress; it is one hop. br3 has the same
    address as br2 and hears nothing of it; what br3 itself begins comes home.
    """
    net = topo.Net(c, sites=3, tunnel=lambda i: {"routes": f"10.{i}.0.0/16"} if i < 3 else {})
    for i, a in ((1, "10.1.0.5"), (2, "10.2.0.5"), (3, "10.2.0.5")):
        net.branches[i].ip(f"addr add {a}/32 dev tun0", f"route replace default dev tun0 src {a}")
    ear3 = packets.Ear(net.branches[3], "tun0", lambda s: s.dst == "10.2.0.5")
    out = packets.Ear(net.inet, "eth0", lambda s: s.dst.startswith("10.") or s.src.startswith("10."))
    at2 = packets.Ear(net.branches[2], "tun0", lambda s: s.src == "10.1.0.5")
    net.branches[1].run("ping -c 3 -i 0.1 -W 3 10.2.0.5")
    c.equal({s.ttl for s in at2.listen()}, {63}, "TTL at br2")
    listener = net.branches[2].socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.bind(("10.2.0.5", 8000))
    listener.listen(4)
    net.branches[3].run("ping -c 3 -i 0.1 -W 3 10.1.0.5")  # the same source address as br2's
    ear3.listen()
    ear3.heard.clear()
    client = net.branches[1].socket(socket.AF_INET, socket.SOCK_STREAM)
    client.connect(("10.2.0.5", 8000))
    accepted, _ = listener.accept()
    accepted.settimeout(3 * c.scale)
    c.equal(tcp_echo_once(accepted, client), b"FROM THE BRANCH", "echo")
    hop = net.branches[1].run("traceroute -n -q 1 -w 3 -m 4 10.2.0.5")
    c.check("1  10.213.0.1" in hop and "2  10.2.0.5" in hop and "\n 3" not in hop, f"not one hop: {hop}")
    c.equal([str(s) for s in ear3.listen()], [], "heard by br3")
    c.equal([str(s) for s in out.listen()], [], "heard outside")


def two_ways(c):
    """A site with two tunnels, each with a TUN device of its own in the branch; and another site, equal."""
    net = topo.Net(c, sites=3, cpe=False, start=False,
                   tunnel=lambda i: {"site": "two-ways" if i < 3 else "other", "priority": 10 * i})
    net.branch(1)
    net.branch(3)
    br = net.branches[1]
    br.ip("tuntap add dev tun1 mode tun", f"link set tun1 addrgenmode none mtu {net.mtu} up")
    net.branches[2] = br
    args = net.cpe_branch(1) + net.cpe_branch(2, "tun1") + net.cpe_branch(3)
    net.cpe = net.wan.tool("cpe", *args).ready()
    br.sysctl({"net/ipv4/conf/all/rp_filter": 0})
    net.gateway.start()
    net.tagserver(rate=RATE)
    del net.branches[2]
    # Both tunnels of the site lead to the same hosts, so they have the same tag.
    args = ["--wan", "wan0", "--egress", "eth0", "--tagged", topo.TAGGED, "--tagged", topo.SLOW]
    for i, tag in ((1, 1), (2, 1), (3, 3)):
        args += ["--tunnel", f"local={net.local},remote={net.remote(i)},tag={tag}"]
    net.watch = net.gw.tool("wirewatch", *args).ready()
    return net, br


def download(c, net):
    p = net.tagclient("--download", "--progress", "--first-port", 45000, port=topo.SLOW, name="download")

    def octets():
        c.check(p.alive(), f"the downloads ended: {p.errors()[-400:]}")
        lines = [x for x in p.output().splitlines() if x.startswith("{") and x.endswith("}")]
        return json.loads(lines[-1]) if lines else {}

    def goes_on(what, seconds=10):
        before = octets()
        c.wait(lambda: octets() and all(n > before.get(k, 0) + RATE / 2 for k, n in octets().items()), seconds, what)
    goes_on("the downloads to begin")
    return goes_on


def sent_by(net):
    return {t["name"]: t["tx_packets"] for t in net.gateway.json("tunnels")}


@case(limit=40)
def branch_changes_its_tunnel(c):
    """
        br1: 10.0.1.5 == tun0 -- t1, site two-ways, priority 10 \\
                      == tun1 -- t2, site two-ways, priority 20 -- gw -- inet
        br3: 10.0.1.5 -- tun0 -- t3, site other --------------- /

    In the middle of a download the branch sends by its other tunnel: the flow follows, back and forth, and goes on. The
    other site, with the same addresses, does not notice.
    """
    net, br = two_ways(c)
    goes_on = download(c, net)
    for dev, tunnel, old in (("tun1", "t2", "t1"), ("tun0", "t1", "t2"), ("tun1", "t2", "t1")):
        br.ip(f"route replace default dev {dev} src {topo.HOST}")
        c.wait(lambda: net.gateway.tunnel(tunnel)["flows"] == 1 and net.gateway.tunnel(old)["flows"] == 0, 5,
               f"the flow to move to {tunnel}")
        before = sent_by(net)
        goes_on(f"the download to go on by {tunnel}")
        after = sent_by(net)
        c.check(after[tunnel] > before[tunnel] + 50, f"nothing was sent by {tunnel}: {before}, {after}")
        c.check(after[old] - before[old] < 5, f"still sent by {old}: {before}, {after}")
    net.judged()


@case(limit=40)
def tunnel_fails(c):
    """
        br1: 10.0.1.5 == tun0 -- t1, site two-ways, priority 10: its underlay fails \\
                      == tun1 -- t2, site two-ways, priority 20 --------------------- gw -- inet
        br3: 10.0.1.5 -- tun0 -- t3, site other ----------------------------------- /

    When sending by a tunnel fails, its flows take the other tunnel of their site at once, and never another site's;
    when a site has no other tunnel, it is tried with each packet: the first one that can be sent is.
    """
    net, br = two_ways(c)
    goes_on = download(c, net)
    net.gw.ip(f"route add unreachable {net.remote(1)}/32")
    c.wait(lambda: net.gateway.tunnel("t1")["state"] == "down", 5, "t1 to be down")
    before = sent_by(net)
    goes_on("the download to go on by t2")
    c.check(sent_by(net)["t2"] > before["t2"] + 50, "nothing was sent by t2")
    net.gw.ip(f"route add unreachable {net.remote(3)}/32")
    net.gateway.wait_drop("send_error")
    net.gw.ip(f"route del unreachable {net.remote(1)}/32", f"route del unreachable {net.remote(3)}/32")
    c.wait(lambda: all(t["state"] == "up" for t in net.gateway.json("tunnels")), 20, "all tunnels to be up again")
    goes_on("the downloads to go on", 20)
    net.judged()


@case(limit=60)
def arrd_as_the_branch(c):
    """
        br1: arrd, tun_address 10.0.1.5, routes = 0.0.0.0/0, ::/0 \\
                                                                  GRE -- gw: arrd, masquerade -- inet
        br2: arrd, tun_address 10.0.1.5, routes = 0.0.0.0/0, ::/0 /

    arrd plays the branch as well: what the machine sends goes into the tunnel, what is answered comes home; in bulk,
    with the offloads of both ends, from equal tuples.
    """
    net = topo.Net(c, nat="masquerade", cpe=False)
    for i in (1, 2):
        br = net.branches[i] = c.ns(f"br{i}")
        c.veth(net.wan, f"br{i}", br, "wan0")
        net.wan.ip(f"addr del {net.outer_addr(i, 4)} dev br0", f"link set br{i} master br0", f"link set br{i} up")
        br.ip(f"addr add {net.outer_addr(i, 4)} dev wan0", "link set wan0 up")
        gateway = topo.Gateway(
            c, br, name=f"arrd-br{i}", gateway={"tun_address": [f"{topo.HOST}/24", f"{topo.HOST6}/64"],
                                                "tun_mtu": net.mtu},
            egress={"interface": "wan0"},
            tunnels={"up": {"type": "gre", "local": net.remote(i), "remote": topo.GW_WAN, "install_routes": "yes",
                            "interface_address": ["10.213.0.0/31", "fd00:213::/127"], "routes": ["0.0.0.0/0", "::/0"]}})
        gateway.start()
        br.run(f"ping -c 1 -W 3 -I {topo.HOST} {topo.SERVER}")
    net.tagserver()
    for server in (topo.SERVER, topo.SERVER6):
        for proto in ("tcp", "udp", "ping"):
            p = net.tagclient("--count", 20, "--requests", 5, "--octets", 1024, proto=proto, server=server)
            c.equal(p.wait(25), 0, f"{proto} to {server}: {p.output()[-300:]} {p.errors()[-300:]}")
    upload_and_download(c, net, [1, 2], 16 << 20)
    c.check(os.path.exists(net.gateway.socket), "the gateway is gone")
