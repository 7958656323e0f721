#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""gre.py - TCP through a pair of arrds over GRE, beside a pair of Open vSwitch, in one run

  iperf3 10.31.0.1 - arr0 - arrd A - 10.92.0.1 ===veth=== 10.92.0.2 - arrd B - arr0 - 10.31.0.2 iperf3
      [namespace arrd-bench-a]                                    [namespace arrd-bench-b]

  iperf3 10.31.0.1 - br-lan - OVS - br-phy 10.93.0.1 ===veth=== 10.93.0.2 br-phy - OVS - br-lan - 10.31.0.2 iperf3
      [namespace arrd-bench-oa]                                    [namespace arrd-bench-ob]

  pktrate 10.94.0.1 ===veth=== 10.94.0.2 pktrate     what raw sockets can do
      [namespace arrd-bench-la]   [namespace arrd-bench-lb]

Both pairs stand the whole time; only one is under load at any moment. The measurements alternate: each round takes
every case once with arrd, once with Open vSwitch, and once the limit. See README.md for the method.

usage: gre.py BUILD [ROUNDS [SECONDS]]      as root; BUILD holds arrd, arrctl, bench/pktrate; BUILD/bench/gre.json is written
"""
import os
import sys

from benchlib import (CASES, MTU, NICE, SMALL_MARK, Arrd, Pair, arguments, limit_of, raw_limit, result, rig_of, run, wait_for,
                      write_results)

KEY = 4242
MORE = 20 + 8  # octets: IPv4, GRE with key


def tunnel(me, other):
    return f"""type = gre
local = 10.92.0.{me}
remote = 10.92.0.{other}
gre_key = {KEY}
mtu = {MTU}
routes = 0.0.0.0/0
routes = ::/0
"""


class OpenVSwitch(Pair):
    """The userspace (netdev) datapath; IP in GRE (legacy_l3), so that the packets on the veth are arrd's."""

    def __init__(self, rig):
        super().__init__(rig, "o", "10.93.0")
        for end in self.ends:
            self.one(*end)
        self.serve()

    def one(self, ns, me, other):
        d = self.rig.folder(ns)
        env = {"OVS_RUNDIR": d, "OVS_LOGDIR": d, "OVS_DBDIR": d}
        db = f"unix:{d}/db.sock"
        run("ovsdb-tool", "create", f"{d}/conf.db", "/usr/share/openvswitch/vswitch.ovsschema")
        self.rig.start(ns, "ovsdb-server", f"{d}/conf.db", f"--remote=p{db}", f"--unixctl={d}/db.ctl",
                       log=f"ovsdb-{ns}.log", **env)
        wait_for("ovsdb-server", lambda: os.path.exists(f"{d}/db.sock"))

        def vsctl(*args):
            return run("ovs-vsctl", f"--db={db}", "--timeout=20", *args)

        def in_ns(*args):
            return run("ip", "netns", "exec", ns, *args)

        def no_offloads(dev):  # the netdev datapath wants complete checksums and no super-packets
            in_ns("ethtool", "-K", dev, "tx", "off", "tso", "off", "gso", "off", "gro", "off")

        vsctl("--no-wait", "init")
        self.rig.start(ns, *NICE, "ovs-vswitchd", db, f"--unixctl={d}/vsw.ctl", "--disable-system", log=f"vswitchd-{ns}.log", **env)
        run("ip", "-n", ns, "addr", "flush", "dev", "eth0")
        no_offloads("eth0")
        vsctl("add-br", "br-phy", "--", "set", "bridge", "br-phy", "datapath_type=netdev", "--", "add-port", "br-phy", "eth0")
        run("ip", "-n", ns, "addr", "add", f"10.93.0.{me}/24", "dev", "br-phy")
        run("ip", "-n", ns, "link", "set", "br-phy", "up")
        no_offloads("br-phy")
        vsctl("add-br", "br-lan", "--", "set", "bridge", "br-lan", "datapath_type=netdev", "--", "add-port", "br-lan", "gre0",
              "--", "set", "interface", "gre0", "type=gre", f"options:remote_ip=10.93.0.{other}", f"options:key={KEY}",
              "options:packet_type=legacy_l3")
        run("ip", "-n", ns, "addr", "add", f"10.31.0.{me}/24", "dev", "br-lan")
        run("ip", "-n", ns, "link", "set", "br-lan", "mtu", str(MTU), "up")
        no_offloads("br-lan")
        mac = in_ns("cat", "/sys/class/net/br-lan/address").stdout.strip()
        run("ip", "-n", ns, "neigh", "replace", f"10.31.0.{other}", "lladdr", "02:00:00:00:31:99", "dev", "br-lan")
        for flow in (f"in_port=gre0,ip,actions=mod_dl_dst:{mac},LOCAL", "in_port=LOCAL,ip,actions=output:gre0"):
            run("ovs-ofctl", "add-flow", f"unix:{d}/br-lan.mgmt", flow)


def main():
    build, rounds, seconds = arguments(__doc__, 3, 4)

    ours, peers = ({name: [] for name, _, _ in CASES} for _ in range(2))
    limits = []
    with rig_of("gre.py", build) as rig:
        arrd, ovs = Arrd(rig, build, "", "10.92.0", tunnel), OpenVSwitch(rig)
        la, lb = rig.pair("l", "10.94.0")
        for n in range(rounds):
            for name, unit, how in CASES:
                ours[name].append(how(arrd, seconds))
                peers[name].append(how(ovs, seconds))
                print(f"round {n + 1} of {rounds}: {name}: {ours[name][-1]:.0f} {unit}, Open vSwitch {peers[name][-1]:.0f}",
                      file=sys.stderr, flush=True)
            limits.append(raw_limit(build, la, lb, "10.94.0", MORE))
    write_results(build, "gre", [
        result(f"gre_{name}", unit, ours[name], peers[name], "Open vSwitch userspace GRE", **limit_of(limits, unit),
               **({"mark": SMALL_MARK} if name == "udp64" else {}))
        for name, unit, _ in CASES])


if __name__ == "__main__":
    main()
