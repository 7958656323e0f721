#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""many.py - what tunnels cost that are configured and idle

  pktrate keys, 100 tunnels - 10.98.N.1 ===veth=== 10.98.N.2 - arrd, 100 or 10,000 tunnels - arr0 - the kernel has no route
      [arrd-bench-mNa]                               [arrd-bench-mNb]

Both stand the whole time; only one is under load at any moment. See README.md for the method.

usage: many.py BUILD [ROUNDS [SECONDS]]     as root; BUILD holds arrd, arrctl, bench/pktrate; BUILD/bench/many.json is written
"""
import json
import os
import sys
import time

from benchlib import arguments, pktrate, result, rig_of, rss_kib, run, start_arrd, tunnels_up, wait_for, write_results

FEW, MANY, BUSY, SIZE = 100, 10000, 100, 512
MARK = 0.95
START_S, IDLE_PERCENT, TUNNEL_OCTETS = 2, 1, 4096  # at most
REST_S, WATCH_S = 5, 10  # after traffic, before it counts; for how long


class Hub:
    def __init__(self, rig, n, tunnels):
        self.net = f"10.98.{n}"
        self.a, self.b = rig.pair(f"m{n}", self.net)
        text = "".join(f"[tunnel branch-{k}]\ntype = gre\nlocal = {self.net}.2\nremote = {self.net}.1\ngre_key = {k}\n"
                       for k in range(1, tunnels + 1))
        begin = time.monotonic()
        self.process, control = start_arrd(rig, rig.build, self.b, 2, text)
        wait_for(f"{tunnels} tunnels", lambda: tunnels_up(rig.build, control) == tunnels, every=0.01)
        self.start_s = time.monotonic() - begin
        self.rss = rss_kib(self.process)
        # What reaches the kernel has come through the gateway.
        run("ip", "-n", self.b, "route", "add", "blackhole", "198.51.100.0/24")
        self.build = rig.build

    def arrived(self):
        link = json.loads(run("ip", "-n", self.b, "-s", "-j", "link", "show", "arr0").stdout)[0]
        return link["stats64"]["rx"]["packets"]

    def measure(self, seconds):
        """Packets a second that came through, of as many as can be sent."""
        before, begin = self.arrived(), time.monotonic()
        pktrate(self.build, "keys", self.a, BUSY, f"{self.net}.1", f"{self.net}.2", SIZE, seconds)
        return (self.arrived() - before) / (time.monotonic() - begin)

    def cpu_s(self):
        with open(f"/proc/{self.process.pid}/stat") as f:
            fields = f.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def idle_percent(self):
        """Of one processor, when traffic has ended a while ago."""
        time.sleep(REST_S)
        before = self.cpu_s()
        time.sleep(WATCH_S)
        return (self.cpu_s() - before) * 100 / WATCH_S


def at_most(name, unit, value, limit):
    return result(name, unit, [value], digits=2, limit=limit, limit_name="the most that is wanted", mark=1,
                  ratio=round(limit / max(value, 0.01), 3))


def main():
    build, rounds, seconds = arguments(__doc__, 7, 3)

    many, few = [], []
    with rig_of("many.py", build) as rig:
        hubs = ((few, Hub(rig, 1, FEW)), (many, Hub(rig, 2, MANY)))
        for n in range(rounds):
            for values, hub in hubs if n % 2 == 0 else hubs[::-1]:
                values.append(hub.measure(seconds))
            print(f"round {n + 1} of {rounds}: {MANY} tunnels {many[-1]:.0f} packets/s, {FEW} {few[-1]:.0f}", file=sys.stderr,
                  flush=True)
        idle = hubs[1][1].idle_percent()
        octets = (hubs[1][1].rss - hubs[0][1].rss) * 1024 / (MANY - FEW)
        start = hubs[1][1].start_s
    write_results(build, "many", [
        result("many_busy", "packets/s", many, few, f"the same {BUSY} busy tunnels, {FEW} configured", mark=MARK, digits=0),
        at_most("many_start", "s", start, START_S), at_most("many_idle", "% CPU", idle, IDLE_PERCENT),
        at_most("many_tunnel", "octets", octets, TUNNEL_OCTETS)])


if __name__ == "__main__":
    main()
