# SPDX-License-Identifier: GPL-2.0-or-later
"""peers.py - branch routers that are not ours: the GRE of a real Linux kernel, and that of Open vSwitch.

        br1: host 10.0.1.5 -- eth0 ~~ 10.0.1.1 Kernel or OpenVswitch 203.0.113.11 ~~ wan: br0 -- ...

Each takes the place of the test CPE for one branch of a topo.Net that was made with cpe=False. The host of the branch
is a namespace as with the test CPE, with the same addresses, but it sits on an Ethernet, and its router is one hop.
"""
import json
import os
import re
import subprocess

import lab
import topo

LAN, LAN6 = "10.0.1.1", "fd00:10:0:1::1"  # the router on the branch's network
IF_BRANCH, IF_BRANCH6 = "10.213.0.0", "fd00:213::"
LAN_MAC = "02:00:0a:00:01:01"
BOOT = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "uml", "boot")


def host(net, i):
    """The namespace of branch i's host; its device eth0 is still to come."""
    ns = net.branches[i] = net.case.ns(f"br{i}")
    return ns


def host_up(ns, mtu=1500):
    ns.ip(f"addr add {topo.HOST}/24 dev eth0", f"addr add {topo.HOST6}/64 dev eth0 nodad", f"link set eth0 mtu {mtu} up",
          f"route add default via {LAN}", f"route add ::/0 via {LAN6}")


def yield_address(net, i):
    """The router of branch i has the outer address itself; br0 of the underlay gives it up. Returns it."""
    address = net.outer_addr(i, net.outer)
    net.wan.ip(f"addr del {address.split()[0]} dev br0")
    return address


class Kernel:
    """A Linux kernel of its own, in User-Mode Linux, as the router of some branches: ip_gre or ip6_gre.

        br1: eth0 -- lan1 ~~ vec1 -- gre1 \\
                                           vec0 ~~ wan1 -- wan: br0     in the guest a namespace for each branch
        br2: eth0 -- lan2 ~~ vec2 -- gre2 /

    branches: numbers; several have the same outer address, so each needs a key of its own. options: what `ip link add`
    takes beside addresses and key. mtu: of the tunnels, if it is not the network's. It boots in the background: see
    ready().
    """

    def __init__(self, net, *branches, options="", mtu=None):
        lab.need("linux.uml")
        self.case, self.net, self.options, self.mtu, self.branches = net.case, net, options, mtu or net.mtu, branches
        self.name, self.lines = f"uml{branches[0]}", 0
        self.outer = yield_address(net, branches[0])
        taps = [f"wan{branches[0]}"]
        net.wan.ip(f"tuntap add dev {taps[0]} mode tap", f"link set {taps[0]} master br0", f"link set {taps[0]} up")
        for i in branches:
            self.case.veth(net.wan, f"host{i}", host(net, i), "eth0")
            # A guest opens its taps in its own namespace, and does not bear that one goes down: hence a bridge.
            net.wan.ip(f"link add lan{i} type bridge", f"link set lan{i} addrgenmode none up",
                       f"tuntap add dev tap{i} mode tap", f"link set tap{i} master lan{i}", f"link set tap{i} up",
                       f"link set host{i} master lan{i}", f"link set host{i} up")
            host_up(net.branches[i])
            taps.append(f"tap{i}")
        directory = self.case.file(self.name)
        os.makedirs(directory)
        self.process = net.wan.start([BOOT, directory, *taps], self.name, stdin=subprocess.PIPE)
        self.case.on_failure(self.tell)

    def do(self, *lines, ok=True):
        """Each line is run by the guest's shell; returns what the last one wrote."""
        for line in lines:
            self.case.say(f"{self.name}: {line}")
            self.lines += 1
            before = len(self.process.output())
            self.process.popen.stdin.write(line.encode() + b"\n")
            self.process.popen.stdin.flush()

            def done():
                self.case.check(self.process.alive(), f"{self.name} died: {self.process.output()[-1500:]}")
                return re.search(rf"^== {self.lines} (\d+)\s*$", self.process.output()[before:], re.M)
            m = self.case.wait(done, 40, f"{self.name} to do {line!r}")
            said = self.process.output()[before:][:m.start()]
            if ok and m[1] != "0":
                raise lab.Failure(f"{self.name}: {line}: status {m[1]}: {said}")
        return said

    def ready(self):
        net, v6 = self.net, self.net.outer == 6
        self.process.ready("up: Linux", 20)
        self.do("modules ipv6 ip6_gre" if v6 else "modules ipv6 ip_gre", "echo 0 >/proc/sys/net/ipv6/conf/default/accept_dad",
                f"ip addr add {self.outer} dev vec0 && ip link set vec0 up")
        for n, i in enumerate(self.branches, 1):
            key = f"key {net.key(i)}" if net.key(i) is not None else ""
            dev, ip = f"gre{i}", f"ip -n b{i}"
            self.do(f"ip netns add b{i} && ip link set vec{n} netns b{i}",
                    # Before the device is up: later it would switch off that it takes super-packets.
                    f"ip netns exec b{i} sh -c 'cd /proc/sys/net; echo 1 >ipv4/ip_forward; echo 1 >ipv6/conf/all/forwarding'",
                    f"ip link add {dev} type {'ip6gre' if v6 else 'gre'} local {net.remote(i)} remote {net.local} "
                    f"ttl 64 {key} {self.options} && ip link set {dev} netns b{i}",
                    f"{ip} addr add {LAN}/24 dev vec{n} && {ip} addr add {LAN6}/64 dev vec{n} nodad && {ip} link set vec{n} up",
                    f"{ip} addr add {IF_BRANCH}/31 dev {dev} && {ip} addr add {IF_BRANCH6}/127 dev {dev} nodad",
                    f"{ip} link set {dev} mtu {self.mtu} up && {ip} route add default dev {dev} && {ip} -6 route add default dev {dev}")
        return self

    def ping(self, i, target):
        """From the router of branch i itself, so from its address in the tunnel."""
        self.do(f"ip netns exec b{i} ping -q -c 3 -i 0.05 -W 2 {target}")

    def errors(self):
        """What its tunnels counted as wrong: checksums, sequence numbers, lengths; none is expected."""
        found = {}
        for i in self.branches:
            stats = json.loads(self.do(f"ip -n b{i} -j -s link show dev gre{i}"))[0]["stats64"]
            self.case.check(stats["rx"]["packets"] and stats["tx"]["packets"], f"gre{i} of {self.name} was not used: {stats}")
            found.update({f"gre{i} {way} {k}": v for way, of in stats.items() for k, v in of.items()
                          if v and k not in ("packets", "bytes", "multicast")})
        return found

    def tell(self):
        look = "ip addr; ip -s -d link; ip route; ip -6 route; ip neigh"
        return f"{self.name}: " + self.do("uname -a; ip -s link; " + "; ".join(
            f"ip netns exec b{i} sh -c '{look}'" for i in self.branches), ok=False)


class OpenVswitch:
    """Open vSwitch with its datapath in user space, as the router of branch i: IP in GRE (packet_type=legacy_l3).

        br1: eth0 --- lan br-lan gre1 ~~ br-phy wan --- ovs1 in wan: br0       all but the ends in the namespace ovs1

    It routes by flows: what the host sends to LAN_MAC goes into the tunnel. It knows nothing of MTUs, so the host has
    that of the tunnel. options: more of `ovs-vsctl set interface`, such as options:csum=true.
    """

    def __init__(self, net, i, *options):
        lab.need("ovs-vswitchd", "ovsdb-server", "ovsdb-tool", "ovs-vsctl", "ovs-ofctl")
        c = self.case = net.case
        self.net, self.i, self.options, self.name = net, i, options, f"ovs{i}"
        self.host = host(net, i)
        self.outer = yield_address(net, i)
        self.ns = c.ns(f"ovs{i}")
        c.veth(net.wan, f"ovs{i}", self.ns, "wan")
        c.veth(self.host, "eth0", self.ns, "lan")
        net.wan.ip(f"link set ovs{i} master br0", f"link set ovs{i} up")
        self.ns.ip("link set wan up", "link set lan up")
        for ns, dev in ((net.wan, f"ovs{i}"), (self.ns, "wan"), (self.ns, "lan"), (self.host, "eth0")):
            ns.no_offloads(dev)
        self.dir = c.file(f"ovs{i}")
        os.makedirs(self.dir)
        self.db = f"unix:{self.dir}/db.sock"
        # Sockets, logs and locks: all of it where the case is.
        self.env = ["env"] + [f"{name}={self.dir}" for name in ("OVS_RUNDIR", "OVS_LOGDIR", "OVS_DBDIR")]
        self.ns.run(self.env + ["ovsdb-tool", "create", f"{self.dir}/conf.db", "/usr/share/openvswitch/vswitch.ovsschema"])
        self.ns.start(self.env + ["ovsdb-server", f"{self.dir}/conf.db", f"--remote=p{self.db}"], f"ovsdb{i}")
        c.wait(lambda: os.path.exists(f"{self.dir}/db.sock"), 10, "ovsdb-server to listen")
        self.vsctl("--no-wait", "init")
        self.process = self.ns.start(self.env + ["ovs-vswitchd", self.db, "--disable-system"], f"vswitchd{i}")
        c.on_failure(self.tell)

    def vsctl(self, *args):
        return self.ns.run(self.env + ["ovs-vsctl", "--timeout=20", f"--db={self.db}"] + list(args), seconds=25)

    def ofctl(self, *args):
        return self.ns.run(self.env + ["ovs-ofctl"] + list(args))

    def ready(self):
        net, key = self.net, self.net.key(self.i)
        self.vsctl("add-br", "br-phy", "--", "set", "bridge", "br-phy", "datapath_type=netdev", "--", "add-port", "br-phy", "wan")
        self.vsctl("add-br", "br-lan", "--", "set", "bridge", "br-lan", "datapath_type=netdev", "fail-mode=secure",
                   "--", "add-port", "br-lan", "lan", "--", "add-port", "br-lan", "gre1", "--", "set", "interface", "gre1", "type=gre",
                   f"options:local_ip={net.remote(self.i)}", f"options:remote_ip={net.local}", "options:packet_type=legacy_l3",
                   *([f"options:key={key}"] if key is not None else []), *self.options)
        self.ns.ip(f"addr add {self.outer} dev br-phy", "link set br-phy up")
        self.ns.no_offloads("br-phy")
        host_mac = self.host.mac("eth0")
        for family in ("ip", "ipv6"):
            self.ofctl("add-flow", "br-lan", f"{family},in_port=lan,dl_dst={LAN_MAC},actions=dec_ttl,output:gre1")
            self.ofctl("add-flow", "br-lan", f"{family},in_port=gre1,"
                       f"actions=dec_ttl,mod_dl_src:{LAN_MAC},mod_dl_dst:{host_mac},output:lan")
        host_up(self.host, net.mtu)
        self.host.ip(f"neigh add {LAN} lladdr {LAN_MAC} dev eth0", f"neigh add {LAN6} lladdr {LAN_MAC} dev eth0")

        def passes():
            self.host.run(f"ping -c 1 -W 0.5 {topo.IF_GW}", ok=None)
            return self.case.last.returncode == 0
        # What it cannot send yet, for want of the gateway's link address, it does not keep.
        self.case.wait(passes, 10, f"a ping through {self.name}")
        return self

    def errors(self):
        """What its tunnel counted as wrong; none is expected."""
        said = self.vsctl("get", "interface", "gre1", "statistics")
        return {k: int(v) for k, v in re.findall(r"(\w+)=(\d+)", said) if int(v) and not re.search("packets|bytes", k)}

    def tell(self):
        return (self.vsctl("show") + self.vsctl("list", "interface", "gre1") + self.ofctl("dump-flows", "br-lan")
                + self.ofctl("dump-ports", "br-lan") + self.ns.run("ip addr"))
