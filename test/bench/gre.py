#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""gre.py - TCP through a pair of arrds over GRE, beside a pair of Open vSwitch, in one run

  iperf3 10.31.0.1 - arr0 - arrd A - 10.92.0.1 ===veth=== 10.92.0.2 - arrd B - arr0 - 10.31.0.2 iperf3
      [namespace arrd-bench-a]                                    [namespace arrd-bench-b]

  iperf3 10.31.0.1 - br-lan - OVS - br-phy 10.93.0.1 ===veth=== 10.93.0.2 br-phy - OVS - br-lan - 10.31.0.2 iperf3
      [namespace arrd-bench-oa]                                    [namespace arrd-bench-ob]

  rawlim 10.94.0.1 ===veth=== 10.94.0.2 rawlim
      [namespace arrd-bench-la]   [namespace arrd-bench-lb]

Both pairs stand the whole time; only one is under load at any moment. The measurements alternate: each round takes
every case once with arrd, once with Open vSwitch, and once the limit. See README.md for the method.

usage: gre.py BUILD [ROUNDS [SECONDS]]      as root; BUILD holds arrd, arrctl, bench/rawlim; BUILD/bench/gre.json is written
"""
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

MTU = 1400
KEY = 4242
TCP_SHARE = (MTU - 52) / (MTU + 20 + 8)  # TCP payload in an outer packet: IPv4 and TCP with timestamps; IPv4, GRE with key
CASES = [("gre_tcp1_fwd", 1, False), ("gre_tcp1_rev", 1, True), ("gre_tcp4_fwd", 4, False), ("gre_tcp4_rev", 4, True)]


def run(*cmd, check=True, timeout=30):
    r = subprocess.run(cmd, capture_output=True, text=True, timeout=timeout, stdin=subprocess.DEVNULL)
    if check and r.returncode != 0:
        raise RuntimeError(f"{' '.join(cmd)}: exit status {r.returncode}: {(r.stdout + r.stderr)[-600:]}")
    return r


def wait_for(what, ready, seconds=15.0):
    end = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > end:
            raise RuntimeError(f"{what}: not within {seconds:g} s")
        time.sleep(0.05)


class Rig:
    """Namespaces and processes, all of which go away with close()."""

    def __init__(self):
        self.dir = tempfile.mkdtemp(prefix="arrd-bench-")
        self.spaces, self.procs = [], []

    def pair(self, name, net):
        """Two namespaces NAMEa and NAMEb, a veth between them; returns their names."""
        a, b = f"arrd-bench-{name}a", f"arrd-bench-{name}b"
        for ns in (a, b):
            run("ip", "netns", "add", ns)
            self.spaces.append(ns)
            run("ip", "-n", ns, "link", "set", "lo", "up")
        run("ip", "link", "add", "eth0", "netns", a, "type", "veth", "peer", "name", "eth0", "netns", b)
        for i, ns in ((1, a), (2, b)):
            run("ip", "-n", ns, "addr", "add", f"{net}.{i}/24", "dev", "eth0")
            run("ip", "-n", ns, "link", "set", "eth0", "up")
        return a, b

    def start(self, ns, *cmd, log, **env):
        with open(os.path.join(self.dir, log), "wb") as out:
            p = subprocess.Popen(["ip", "netns", "exec", ns, *cmd], stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                                 env={**os.environ, **env})
        self.procs.append(p)
        return p

    def close(self):
        for p in reversed(self.procs):
            p.terminate()
        for p in self.procs:
            try:
                p.wait(5)
            except subprocess.TimeoutExpired:
                p.kill()
                p.wait()
        for ns in self.spaces:
            run("ip", "netns", "del", ns, check=False)
        shutil.rmtree(self.dir, ignore_errors=True)

    def logs(self):
        for root, _, names in os.walk(self.dir):
            for n in sorted(names):
                if n.endswith(".log"):
                    with open(os.path.join(root, n), errors="replace") as f:
                        yield n, f.read()[-2000:]


class Pair:
    """Two ends with iperf3 on each: client in namespace a, server in b."""

    def __init__(self, rig, a, b):
        self.rig, self.a, self.b = rig, a, b

    def serve(self):
        wait_for("ping through the tunnel", lambda: run(
            "ip", "netns", "exec", self.a, "ping", "-q", "-c", "1", "-W", "1", "10.31.0.2", check=False).returncode == 0)
        self.rig.start(self.b, "iperf3", "-s", log=f"iperf3-{self.b}.log")
        wait_for("iperf3 listens", lambda: "LISTEN" in run("ip", "netns", "exec", self.b, "ss", "-Htln", "sport = :5201").stdout)

    def measure(self, streams, reverse, seconds):
        """Mb/s that the receiver got."""
        cmd = ["ip", "netns", "exec", self.a, "iperf3", "-J", "-c", "10.31.0.2", "-B", "10.31.0.1", "-t", str(seconds),
               "-O", "0.5", "-P", str(streams)] + (["-R"] if reverse else [])
        out = json.loads(run(*cmd, timeout=seconds + 20).stdout)
        return out["end"]["sum_received"]["bits_per_second"] / 1e6


class Arrd(Pair):
    def __init__(self, rig, build):
        super().__init__(rig, *rig.pair("", "10.92.0"))
        for ns, me, other in ((self.a, 1, 2), (self.b, 2, 1)):
            d = os.path.join(rig.dir, ns)
            os.makedirs(os.path.join(d, "tunnels.d"))
            with open(os.path.join(d, "arrd.conf"), "w") as f:
                f.write(f"""[gateway]
tun = arr0
tun_mtu = {MTU}
tun_address = 10.31.0.{me}/24
control_socket = {d}/control.sock
state_dir = {d}
[egress]
interface = eth0
nat = none
private_destinations = 10.31.0.0/24
local_services = any
[flows]
max = 10000
""")
            with open(os.path.join(d, "tunnels.d", "other.conf"), "w") as f:
                f.write(f"""[tunnel other]
type = gre
local = 10.92.0.{me}
remote = 10.92.0.{other}
gre_key = {KEY}
mtu = {MTU}
routes = 0.0.0.0/0
routes = ::/0
""")
            rig.start(ns, os.path.join(build, "arrd"), "-f", "-c", os.path.join(d, "arrd.conf"), log=f"arrd-{ns}.log")
        for ns in (self.a, self.b):
            wait_for(f"arr0 in {ns}", lambda n=ns: run("ip", "-n", n, "link", "show", "arr0", "up", check=False).stdout)
        self.serve()


class OpenVSwitch(Pair):
    """The userspace (netdev) datapath; IP in GRE (legacy_l3), so that the packets on the veth are arrd's."""

    def __init__(self, rig):
        super().__init__(rig, *rig.pair("o", "10.93.0"))
        for ns, me, other in ((self.a, 1, 2), (self.b, 2, 1)):
            self.one(ns, me, other)
        self.serve()

    def one(self, ns, me, other):
        d = os.path.join(self.rig.dir, ns)
        os.makedirs(d)
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
        self.rig.start(ns, "ovs-vswitchd", db, f"--unixctl={d}/vsw.ctl", "--disable-system", log=f"vswitchd-{ns}.log", **env)
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
    if len(sys.argv) not in (2, 3, 4) or os.geteuid() != 0:
        sys.exit(__doc__)
    build = os.path.abspath(sys.argv[1])
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 3
    seconds = int(sys.argv[3]) if len(sys.argv) > 3 else 4

    rig = Rig()
    ours, peers, limits = ({name: [] for name, _, _ in CASES} for _ in range(3))
    try:
        arrd, ovs = Arrd(rig, build), OpenVSwitch(rig)
        la, lb = rig.pair("l", "10.94.0")
        for n in range(rounds):
            for name, streams, reverse in CASES:
                ours[name].append(arrd.measure(streams, reverse, seconds))
                peers[name].append(ovs.measure(streams, reverse, seconds))
                print(f"round {n + 1} of {rounds}: {name}: {ours[name][-1]:.0f} Mb/s, Open vSwitch {peers[name][-1]:.0f}",
                      file=sys.stderr, flush=True)
            pps = float(run(os.path.join(build, "bench", "rawlim"), la, lb, "10.94.0.1", "10.94.0.2", str(MTU + 28), "2").stdout)
            for name, _, _ in CASES:
                limits[name].append(pps * (MTU + 28) * 8 * TCP_SHARE / 1e6)
    except (RuntimeError, subprocess.TimeoutExpired, KeyError, ValueError) as e:
        for name, text in rig.logs():
            print(f"--- {name}\n{text}", file=sys.stderr)
        sys.exit(f"gre.py: {e}")
    finally:
        rig.close()

    results = []
    for name, _, _ in CASES:
        med, peer = statistics.median(ours[name]), statistics.median(peers[name])
        results.append({
            "name": name, "unit": "Mb/s", "ours": round(med, 1), "peer": round(peer, 1),
            "peer_name": "Open vSwitch userspace GRE", "limit": round(statistics.median(limits[name]), 1),
            "limit_name": "raw socket to raw socket, one packet of this size a time",
            "ratio": round(med / peer, 3), "runs": [round(v, 1) for v in ours[name]],
            "peer_runs": [round(v, 1) for v in peers[name]]})
    with open(os.path.join(build, "bench", "gre.json"), "w") as f:
        json.dump(results, f, indent=1)
        f.write("\n")


if __name__ == "__main__":
    main()
