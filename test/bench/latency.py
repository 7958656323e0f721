#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""latency.py - what the gateway adds to a round trip, beside plain forwarding and masquerade, in one run

The two paths are those of conns.py; the one who answers is the server's kernel. See README.md for the method.

usage: latency.py BUILD [ROUNDS [COUNT]]    as root; BUILD holds arrd, arrctl, bench/latency, bench/conns;
       BUILD/bench/latency.json is written
"""
import os
import statistics
import sys

from benchlib import arguments, result, rig_of, run, write_results
from conns import SERVER, Arrd, Plain

MORE_US = {"p50": 20, "p99": 150}  # that is allowed: beside two wake-ups; in all


def percentiles(build, *args, ns=None):
    """p50 and p99 in µs."""
    there = ["ip", "netns", "exec", ns] if ns else []
    p50, p99, lost = run(*there, os.path.join(build, "bench", "latency"), *args, timeout=120).stdout.split()
    if int(lost) * 1000 > int(args[-1]):
        raise RuntimeError(f"{lost} round trips of {args[-1]} were lost in {ns}")
    return float(p50), float(p99)


def main():
    build, rounds, count = arguments(__doc__, 5, 10000)

    arrd, plain, wake = [], [], []
    with rig_of("latency.py", build) as rig:
        paths = ((arrd, Arrd(rig, build).client), (plain, Plain(rig, build).client))
        for n in range(rounds):
            for values, ns in paths if n % 2 == 0 else paths[::-1]:
                values.append(percentiles(build, "echo", SERVER, str(count), ns=ns))
            wake.append(percentiles(build, "wake", str(count)))
            print(f"round {n + 1} of {rounds}: p50 and p99 in µs: arrd {arrd[-1]}, plain {plain[-1]}, a wake-up {wake[-1]}",
                  file=sys.stderr, flush=True)
    results = []
    for k, name in enumerate(("p50", "p99")):
        ours = [a[k] for a in arrd]
        added = [a[k] - p[k] for a, p in zip(arrd, plain)]
        may = MORE_US[name] + (2 * statistics.median(w[0] for w in wake) if name == "p50" else 0)
        results += [
            result(f"latency_{name}", "us", ours, limit=statistics.median(p[k] for p in plain),
                   limit_name="the kernel forwards and masquerades, no tunnel (latency)"),
            result(f"latency_{name}_added", "us", added, limit=round(may, 1), mark=1, ratio=round(may / statistics.median(added), 3),
                   limit_name="two wake-ups of a thread and 20 us; p99: 150 us (latency added)")]
    write_results(build, "latency", results + [result("latency_wake_up", "us", [w[0] for w in wake])])


if __name__ == "__main__":
    main()
