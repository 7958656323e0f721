# SPDX-License-Identifier: GPL-2.0-or-later
"""Branch routers that nobody here wrote: the Linux kernel's GRE in User-Mode-Linux, and Open vSwitch."""
import hashlib
import json
import os
import shutil

import harness
import lab
import topo
from case_home import all_home
from harness import case


class Guest:
    """A User-Mode-Linux guest with its vec0 on a tap of the underlay's bridge. script runs in it as root, with /mnt/out
    as the one writable place; it ends when the script does."""

    def __init__(self, net, script, tap="uml0"):
        self.case = net.case
        if not os.path.isdir("/usr/lib/modules"):
            raise lab.Skip("there is no /usr/lib/modules for the guest to mount its own on")
        self.dir = net.case.file("guest")
        os.makedirs(self.dir)
        shutil.copy(os.path.join(harness.ROOT, "test", "uml", "init.sh"), self.dir + "/init.sh")
        with open(self.dir + "/guest.sh", "w") as f:
            f.write("set -e\n" + script)
        net.wan.ip(f"tuntap add dev {tap} mode tap", f"link set {tap} master br0", f"link set {tap} up")
        net.wan.no_offloads(tap)
        self.process = net.wan.start(
            ["linux.uml", "mem=192M", f"uml_dir={self.dir}/", "umid=u", "rootfstype=hostfs", "rootflags=/", "ro",
             f"init={self.dir}/init.sh", f"arrdout={self.dir}", "con=null", "con0=null,fd:1", "quiet",
             f"vec0:transport=tap,ifname={tap},depth=128,gro=1"], "uml")

    def log(self):
        return self.read("guest.log")

    def read(self, name):
        path = os.path.join(self.dir, name)
        if not os.path.exists(path):
            return ""
        with open(path, errors="replace") as f:
            return f.read()

    def wait(self, seconds):
        """The script's exit status."""
        self.case.wait(lambda: self.read("status") or not self.process.alive(), seconds, f"the guest to finish: {self.log()[-800:]}")
        status = self.read("status").strip()
        self.case.equal(status, "0", f"exit status in the guest: {self.log()[-1500:]} {self.process.output()[-800:]}")


# In the guest: a branch NAME whose tunnel device is moved into a namespace of its own, so that all have the same address.
BRANCH = """
ip netns add {name}
ip link add {name} type {kind} local {local} remote {remote} ttl 64 {options}
ip link set {name} netns {name}
ip -n {name} link set lo up
ip -n {name} addr add {host}/24 dev {name}
ip -n {name} addr add {host6}/64 dev {name} nodad
ip -n {name} link set {name} mtu {mtu} up
ip -n {name} route add default dev {name} src {host}
ip -n {name} route add ::/0 dev {name} src {host6}
ip netns exec {name} sysctl -qw net.ipv4.ping_group_range="0 2147483647"
"""


@case(limit=120, needs=("linux.uml",))
def linux_kernel(c):
    """
        UML guest, Linux 6.1:  plain:  10.0.1.5 -- gre ----------------------------------- \\
                               keyed:  10.0.1.5 -- gre, key 7 ---------------------------- |
                               full:   10.0.1.5 -- gre, key 8, checksum, sequence number -- gw, masquerade -- inet
                               six:    10.0.1.5 -- ip6gre, outer IPv6 -------------------- /
        br5:                           10.0.1.5 -- test CPE ------------------------------ /

    Four branches whose GRE is the kernel's own, and one of the tests', all with equal tuples at once: TCP, UDP and
    ping, IPv4 and IPv6, every octet checked, on the wire as well.
    """
    net = topo.Net(c, sites=5, cpe=False, nat="masquerade", start=False)
    tunnels = net.gateway.tunnels
    outer, outer6 = net.remote(1), "2001:db8:113::b"
    net.wan.ip(f"addr del {outer}/24 dev br0", f"addr del {outer6}/64 dev br0")
    kinds = (("plain", 1476, "gre", {}, ""), ("keyed", 1472, "gre", {"gre_key": 7}, "key 7"),
             ("full", 1464, "gre", {"gre_key": 8, "gre_checksum": "yes", "gre_sequence": "yes"}, "key 8 csum seq"),
             ("six", 1456, "ip6gre", {"local": topo.GW_WAN6, "remote": outer6}, "encaplimit none"))
    script = (f"for m in ip_gre ip6_gre; do modprobe $m; done\nip addr add {outer}/24 dev vec0\nip addr add {outer6}/64 dev vec0 nodad\n"
              "ip link set vec0 up\n")
    watch = []
    for i, (name, mtu, kind, options, linux) in enumerate(kinds, 1):
        tunnels[f"t{i}"] = {**net.tunnel_options(i), "remote": outer, "mtu": mtu, **options}
        t = tunnels[f"t{i}"]
        script += BRANCH.format(name=name, kind=kind, local=t["remote"], remote=t["local"], options=linux, mtu=mtu, host=topo.HOST,
                                host6=topo.HOST6)
        key = f",key={t['gre_key']}" if t.get("gre_key") else ""
        watch += ["--tunnel", f"local={t['local']},remote={t['remote']}{key},tag={i}"]
    who = " ".join(f"--branch {name}:{i}" for i, (name, *_) in enumerate(kinds, 1))
    script += "touch /mnt/out/ready\nwhile [ ! -e /mnt/out/go ]; do sleep 0.1; done\n"
    for server, bind in ((topo.SERVER, topo.HOST), (topo.SERVER6, topo.HOST6)):
        for proto in ("tcp", "udp", "ping"):
            script += (f"{c.tool('tagclient', plain=True)} {who} --bind {bind} --server {server} --port {0 if proto == 'ping' else topo.TAGGED} "
                       f"--proto {proto} --count 5 --requests 5 --octets 4096 --timeout 20\n").replace(
                           "4096", "4096" if proto == "tcp" else "1024")
        h = f"[{server}]" if ":" in server else server
        for name, *_ in kinds:
            script += (f"ip netns exec {name} curl -sS --max-time 30 --interface {bind} --local-port 46000 http://{h}/big | "
                       "sha256sum >>/mnt/out/digests\n")
    net.branch(5)
    net.start_cpe()
    net.gateway.write()
    net.gateway.start()
    net.tagserver()
    content = os.urandom(1 << 20)
    net.web({"big": content})
    guest = Guest(net, script)
    c.wait(lambda: guest.read("status") or os.path.exists(guest.dir + "/ready"), 60, f"the guest: {guest.log()[-500:]}")
    net.watch = net.gw.tool("wirewatch", "--wan", "wan0", "--egress", "eth0", "--tagged", topo.TAGGED, "--private", "10.0.0.0/8", *watch,
                            "--tunnel", f"local={topo.GW_WAN},remote={net.remote(5)},tag=5").ready()
    ours = [net.tagclient("--count", 5, "--requests", 50, "--octets", 4096, branches=[5], server=s) for s in (topo.SERVER, topo.SERVER6)]
    open(guest.dir + "/go", "w").close()
    guest.wait(60)
    for p in ours:
        c.equal(p.wait(20), 0, f"the test CPE's branch: {p.errors()[-300:]}")

    wanted = hashlib.sha256(content).hexdigest()
    c.equal([line.split()[0] for line in guest.read("digests").splitlines()], [wanted] * 8, "digests of the downloads")
    j = net.judged()
    all_home(c, net, j)
    c.check(all(t["to"] > 100 for t in j["tunnels"]), f"not every tunnel was used: {j['tunnels']}")
    c.equal(net.gateway.drops().get("gre_checksum", 0) + net.gateway.drops().get("gre_sequence", 0), 0, "bad checksums and numbers")


class OpenVSwitch:
    """A branch router: Open vSwitch with the user-space datapath, IP in GRE (legacy_l3); the host is its LOCAL port."""

    def __init__(self, net, i, key=None):
        c, self.net, self.remote = net.case, net, net.remote(i)
        self.dir = c.file("ovs")
        os.makedirs(self.dir)
        self.ns = ns = net.branches[i] = c.ns(f"br{i}")
        c.veth(net.wan, f"ovs{i}", ns, "phy0")
        net.wan.ip(f"addr del {self.remote}/24 dev br0", f"link set ovs{i} master br0", f"link set ovs{i} up")
        net.wan.no_offloads(f"ovs{i}")
        ns.ip("link set phy0 up")
        ns.no_offloads("phy0")
        c.env.update(OVS_RUNDIR=self.dir, OVS_LOGDIR=self.dir, OVS_DBDIR=self.dir)
        c.shell(["ovsdb-tool", "create", self.dir + "/conf.db", "/usr/share/openvswitch/vswitch.ovsschema"])
        ns.start(["ovsdb-server", self.dir + "/conf.db", f"--remote=punix:{self.dir}/db", "--no-chdir"], "ovsdb")
        c.wait(lambda: os.path.exists(self.dir + "/db"), 10, "the database of Open vSwitch")
        self.vsctl("--no-wait", "init")
        ns.start(["ovs-vswitchd", f"unix:{self.dir}/db", f"--unixctl={self.dir}/ctl", "--no-chdir", "--disable-system"], "vswitchd")
        self.vsctl("add-br", "br-phy", "--", "set", "bridge", "br-phy", "datapath_type=netdev", "--", "add-port", "br-phy", "phy0")
        ns.ip(f"addr add {self.remote}/24 dev br-phy", "link set br-phy up")
        ns.no_offloads("br-phy")
        self.vsctl("add-br", "br-lan", "--", "set", "bridge", "br-lan", "datapath_type=netdev", "--", "add-port", "br-lan", "gre0", "--",
                   "set", "interface", "gre0", "type=gre", f"options:remote_ip={topo.GW_WAN}", "options:packet_type=legacy_l3",
                   *([f"options:key={key}"] if key is not None else []))
        ns.no_offloads("br-lan")
        ns.ip(f"addr add {topo.HOST}/24 dev br-lan", f"addr add {topo.HOST6}/64 dev br-lan nodad", f"link set br-lan mtu {net.mtu} up",
              "neigh replace 10.0.1.1 lladdr 02:00:00:00:00:01 dev br-lan", "neigh replace fd00:10:0:1::1 lladdr 02:00:00:00:00:01 dev br-lan",
              f"route add default via 10.0.1.1 src {topo.HOST}", f"route add ::/0 via fd00:10:0:1::1 src {topo.HOST6}")
        c.shell(["ovs-ofctl", "del-flows", f"unix:{self.dir}/br-lan.mgmt"])
        for ip in ("ip", "ipv6"):
            for flow in (f"in_port=gre0,{ip},actions=mod_dl_dst:{ns.mac('br-lan')},LOCAL", f"in_port=LOCAL,{ip},actions=output:gre0"):
                c.shell(["ovs-ofctl", "add-flow", f"unix:{self.dir}/br-lan.mgmt", flow])

    def vsctl(self, *args):
        self.net.case.shell(["ovs-vsctl", f"--db=unix:{self.dir}/db", "--timeout=20", *args])


@case(limit=60, needs=("ovs-vswitchd", "ovsdb-server", "ovs-vsctl", "ovs-ofctl"))
def open_vswitch(c):
    """
        br1: 10.0.1.5 -- Open vSwitch, legacy_l3, key 4242 \\
                                                            gw, masquerade -- inet
        br2: 10.0.1.5 -- test CPE, key 4243 --------------- /

    A branch whose GRE is that of Open vSwitch, and one of the tests', with equal tuples at once.
    """
    net = topo.Net(c, nat="masquerade", cpe=False, mtu=1400, start=False)
    net.keys = [4242, 4243]
    for i, key in ((1, 4242), (2, 4243)):
        net.gateway.tunnels[f"t{i}"] = {**net.tunnel_options(i), "remote": f"203.0.113.{10 + i}", "gre_key": key}
    net.gateway.write()
    net.remote = lambda i: f"203.0.113.{10 + i}"
    net.wan.ip("addr replace 203.0.113.12/24 dev br0")
    OpenVSwitch(net, 1, key=4242)
    br1 = net.branches.pop(1)
    net.branch(2)
    net.start_cpe()
    net.branches = {1: br1, 2: net.branches[2]}
    net.gateway.start()
    br1.run(f"ping -c 1 -W 5 {topo.SERVER}")
    net.tagserver()
    net.wirewatch(private="10.0.0.0/8")
    for server in (topo.SERVER, topo.SERVER6):
        for proto in ("tcp", "udp", "ping"):
            p = net.tagclient("--count", 10, "--requests", 10, "--octets", 1024, proto=proto, server=server)
            c.equal(p.wait(25), 0, f"{proto} to {server}: {p.output()[-300:]} {p.errors()[-300:]}")
    all_home(c, net, net.judged())
    c.say(json.dumps(net.gateway.json("tunnels")))


@case(limit=40, needs=("linux.uml",))
def kernel_checksum(c):
    """
        br1: 10.0.1.5 -- Linux kernel, ip_gre with checksums \\
                                                              gw, nat = none -- inet: server
        br2: 10.0.1.5 -- test CPE, with checksums ---------- /

    Checksums of RFC 2784 that somebody else's code computed and verifies.
    """
    everything_comes_home(c, network(c, [lambda n, i: peers.Kernel(n, i, "csum"), None], keys=None, branch_options="csum",
                                     tunnel={"gre_checksum": "yes"}))


@case(limit=40, needs=("linux.uml",))
def kernel_sequence(c):
    """
        br1: 10.0.1.5 -- Linux kernel, ip_gre with key, checksums, sequence numbers \\
                                                                                     gw, masquerade -- inet: server
        br2: 10.0.1.5 -- test CPE, the same --------------------------------------- /

    Sequence numbers of RFC 2890 in both directions: either side drops what is out of order, and nothing is.
    """
    everything_comes_home(c, network(c, [lambda n, i: peers.Kernel(n, i, "csum seq"), None], branch_options="csum,seq",
                                     nat="masquerade", tunnel={"gre_checksum": "yes", "gre_sequence": "yes"}))


@case(limit=40, needs=("linux.uml",))
def kernel_outer_ipv6(c):
    """
        br1: 10.0.1.5 -- Linux kernel, ip6_gre with key 7 \\
                                                           GRE over IPv6 -- gw, masquerade -- inet: server
        br2: 10.0.1.5 -- test CPE, key 7 ---------------- /

    The underlay is IPv6; the kernel puts a tunnel encapsulation limit (RFC 2473) before each GRE header, as it does
    unless it is told otherwise.
    """
    everything_comes_home(c, network(c, [peers.Kernel, None], outer=6, nat="masquerade"))


@case(limit=40, needs=("linux.uml",))
def two_kernels(c):
    """
        br1: 10.0.1.5 -- 10.0.1.1 Linux kernel 10.213.0.0 \\
                                                           gw, 10.213.0.1 in both tunnels, nat = none -- inet: server
        br2: 10.0.1.5 -- 10.0.1.1 Linux kernel 10.213.0.0 /

    Two kernels with the very same addresses inside, of hosts, routers and tunnel interfaces; no key.
    """
    net = network(c, [peers.Kernel, peers.Kernel], keys=None)
    # The routers themselves ping the gateway's address in their tunnels, and the server from the tunnel's.
    for r in net.routers:
        for target in (topo.IF_GW, topo.IF_GW6, topo.SERVER):
            r.do(f"ping -q -c 3 -i 0.05 -W 2 {target}")
    everything_comes_home(c, net)


@case(limit=40, needs=("linux.uml",))
def kernel_path_mtu(c):
    """
        br1: MTU 1500 -- Linux kernel, gre1 MTU 1472 \\
                                                      gw: mtu = 1472, mss = off, tun_mtu = 1400 -- inet: server
        br2: MTU 1500 -- Linux kernel, gre1 MTU 1472 /

    tracepath sees the branch's router with the tunnel's MTU, then the gateway as one hop with the smaller one behind
    it; files larger than any of them go up and come down without MSS clamping.
    """
    net = network(c, [peers.Kernel, peers.Kernel], nat="masquerade", gateway={"tun_mtu": 1400}, tunnel={"mss": "off"})
    for server, router, gateway in ((topo.SERVER, peers.LAN, topo.IF_GW), (topo.SERVER6, peers.LAN6, topo.IF_GW6)):
        ps = [br.start(["tracepath", "-n", "-m", "6", server], f"tracepath{i}") for i, br in net.branches.items()]
        for p in ps:
            p.wait(20)
            path = re.findall(r"^ *(\d+): +(\S+) +[0-9.]+ms *(?:(pmtu \d+|reached).*)?$", p.output(), re.M)
            for want in (("1", router, "pmtu 1472"), ("2", gateway, "pmtu 1400"), ("3", server, "reached")):
                c.check(want in path, f"{p.name} does not show {want}: {p.output()}")
            c.check("Resume: pmtu 1400 hops 3 back 3" in p.output(), f"{p.name}: {p.output()}")
    everything_comes_home(c, net)


OVS = ("ovs-vswitchd",)


@case(limit=40, needs=OVS)
def open_vswitch(c):
    """
        br1: 10.0.1.5 -- Open vSwitch, legacy_l3, key 7 \\
                                                         gw, masquerade -- inet: server
        br2: 10.0.1.5 -- test CPE, key 7 -------------- /

    The GRE of Open vSwitch's datapath in user space, IPv4 and IPv6 within it.
    """
    everything_comes_home(c, network(c, [peers.OpenVswitch, None], nat="masquerade"))


@case(limit=40, needs=OVS + ("linux.uml",))
def open_vswitch_beside_kernel(c):
    """
        br1: 10.0.1.5 -- Open vSwitch, legacy_l3, key 7, checksums, sequence numbers \\
                                                                                      gw, nat = none -- inet: server
        br2: 10.0.1.5 -- Linux kernel, the same ------------------------------------ /

    Nothing of ours at any branch. Open vSwitch sends sequence numbers and checks checksums.
    """
    everything_comes_home(c, network(c, [lambda n, i: peers.OpenVswitch(n, i, ("options:csum=true", "options:seq=true")),
                                         lambda n, i: peers.Kernel(n, i, "csum seq")], branch_options="csum,seq",
                                     tunnel={"gre_checksum": "yes", "gre_sequence": "yes"}))
