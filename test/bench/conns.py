#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""conns.py - new TCP connections a second through the gateway, beside plain forwarding and masquerade, in one run

  client 10.1.0.5 - GRE - 10.96.0.1 ===veth=== 10.96.0.2 - arrd - arr0 - masquerade - 198.18.0.1 ===veth=== server
   [arrd-bench-tc]                        [arrd-bench-tg]                                      [arrd-bench-ts]

  client - 10.97.0.1 ===veth=== 10.97.0.2 - the kernel forwards, masquerade - 198.18.0.1 ===veth=== server
   [arrd-bench-pc]                        [arrd-bench-pg]                                      [arrd-bench-ps]

Both stand the whole time; only one is under load at any moment. See README.md for the method.

usage: conns.py BUILD [ROUNDS [SECONDS]]    as root; BUILD holds arrd, arrctl, bench/conns; BUILD/bench/conns.json is written
"""
import os
import sys

from benchlib import NICE, arguments, result, rig_of, run, wait_for, write_results

SERVER = "198.51.100.10"  # not on the gateway's own link, whose networks are closed to branches
PORTS = ("7000", "64")
AT_A_TIME = "100"
CLOSING_S = 10  # of what has been closed, in the flow table and in both conntracks
MARK = 0.5


class Path:
    """Three namespaces in a row: client, gateway, server."""

    def __init__(self, rig, build, name, net):
        self.rig, self.build = rig, build
        self.client, self.gw, self.server = (f"arrd-bench-{name}{x}" for x in "cgs")
        for ns in (self.client, self.gw, self.server):
            run("ip", "netns", "add", ns)
            rig.spaces.append(ns)
            run("ip", "-n", ns, "link", "set", "lo", "up")
        self.link(self.client, "eth0", f"{net}.1/24", self.gw, "wan0", f"{net}.2/24")
        self.link(self.gw, "eth0", "198.18.0.1/24", self.server, "eth0", "198.18.0.2/24")
        run("ip", "-n", self.server, "addr", "add", f"{SERVER}/32", "dev", "lo")
        run("ip", "-n", self.gw, "route", "add", "default", "via", "198.18.0.2")
        for ns in (self.client, self.server):
            self.sysctl(ns, "net.ipv4.ip_local_port_range=1024 65535", "net.core.somaxconn=4096",
                        "net.ipv4.tcp_max_syn_backlog=4096")

    @staticmethod
    def link(a, dev_a, addr_a, b, dev_b, addr_b):
        run("ip", "link", "add", dev_a, "netns", a, "type", "veth", "peer", "name", dev_b, "netns", b)
        for ns, dev, addr in ((a, dev_a, addr_a), (b, dev_b, addr_b)):
            run("ip", "-n", ns, "addr", "add", addr, "dev", dev)
            run("ip", "-n", ns, "link", "set", dev, "up")

    @staticmethod
    def sysctl(ns, *settings):
        for s in settings:
            run("ip", "netns", "exec", ns, "sysctl", "-qw", s)

    def serve(self):
        wait_for(f"ping from {self.client}", lambda: run(
            "ip", "netns", "exec", self.client, "ping", "-q", "-c", "1", "-W", "1", SERVER, check=False).returncode == 0)
        self.rig.start(self.server, f"{self.build}/bench/conns", "server", *PORTS, log=f"server-{self.server}.log")
        wait_for("the server listens", lambda: run("ip", "netns", "exec", self.server, "ss", "-Htln").stdout.count("\n") >= 64)

    def measure(self, seconds):
        """Connections a second."""
        out = run("ip", "netns", "exec", self.client, f"{self.build}/bench/conns", "client", SERVER, *PORTS,
                  str(seconds), AT_A_TIME, timeout=seconds + 20).stdout.split()
        if out[1] != "0":
            raise RuntimeError(f"{out[1]} connections from {self.client} failed")
        return float(out[0])


class Arrd(Path):
    def __init__(self, rig, build):
        super().__init__(rig, build, "t", "10.96.0")
        run("tc", "-n", self.client, "qdisc", "add", "dev", "eth0", "clsact")
        for way, section in (("egress", "out"), ("ingress", "in")):
            run("tc", "-n", self.client, "filter", "add", "dev", "eth0", way, "bpf", "direct-action", "object-file",
                f"{build}/bench/branch.o", "section", section)
        run("ip", "-n", self.client, "addr", "add", "10.1.0.5/32", "dev", "lo")
        run("ip", "-n", self.client, "route", "add", "default", "via", "10.96.0.2", "src", "10.1.0.5")
        d = rig.folder("arrd")
        os.makedirs(os.path.join(d, "tunnels.d"))
        with open(os.path.join(d, "arrd.conf"), "w") as f:
            f.write(f"""[gateway]
control_socket = {d}/control.sock
state_dir = {d}/state
[egress]
interface = eth0
nat = masquerade
[flows]
max = 1000000
max_per_site = 1000000
tcp_closing = {CLOSING_S}
quarantine = {CLOSING_S}
""")
        with open(os.path.join(d, "tunnels.d", "branch.conf"), "w") as f:
            f.write("[tunnel branch]\ntype = gre\nlocal = 10.96.0.2\nremote = 10.96.0.1\n")
        self.process = rig.start(self.gw, *NICE, os.path.join(build, "arrd"), "-f", "-c", os.path.join(d, "arrd.conf"),
                                 log="arrd.log")
        self.serve()


class Plain(Path):
    def __init__(self, rig, build):
        super().__init__(rig, build, "p", "10.97.0")
        run("ip", "-n", self.client, "route", "add", "default", "via", "10.97.0.2")
        run("ip", "netns", "exec", self.gw, "nft",
            "table ip nat { chain post { type nat hook postrouting priority 100; oifname eth0 masquerade; }; }")
        self.sysctl(self.gw, "net.ipv4.ip_forward=1", *(
            f"net.netfilter.nf_conntrack_tcp_timeout_{s}={CLOSING_S}" for s in ("time_wait", "last_ack", "close_wait", "fin_wait")))
        self.serve()


def main():
    build, rounds, seconds = arguments(__doc__, 5, 4)

    ours, plain = [], []
    with rig_of("conns.py", build) as rig:
        pairs = ((ours, Arrd(rig, build)), (plain, Plain(rig, build)))
        for n in range(rounds):
            for values, path in pairs if n % 2 == 0 else pairs[::-1]:
                values.append(path.measure(seconds))
            print(f"round {n + 1} of {rounds}: arrd {ours[-1]:.0f}/s, plain {plain[-1]:.0f}/s", file=sys.stderr, flush=True)
    write_results(build, "conns", [
        result("conns_gre_masquerade", "conn/s", ours, plain, "the kernel forwards and masquerades, no tunnel", mark=MARK)])


if __name__ == "__main__":
    main()
