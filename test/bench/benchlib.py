# SPDX-License-Identifier: GPL-2.0-or-later
"""benchlib.py - what the benchmarks of tunnels share: namespaces, processes, iperf3 between two ends, results

A rig takes away at its end whatever it made, also after a failure or a SIGTERM. Nothing sleeps for a guessed time.
"""
import contextlib
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

MTU = 1400
NICE = ("nice", "-n", "-10")  # as arrd.service starts arrd, and Open vSwitch's ovs-ctl its daemons


def run(*cmd, check=True, timeout=30, **env):
    r = subprocess.run(cmd, capture_output=True, text=True, timeout=timeout, stdin=subprocess.DEVNULL,
                       env={**os.environ, **env})
    if check and r.returncode != 0:
        raise RuntimeError(f"{' '.join(cmd)}: exit status {r.returncode}: {(r.stdout + r.stderr)[-600:]}")
    return r


def arguments(usage, *numbers):
    """Of a script with BUILD and then numbers, which have these defaults. Ends the program with usage when they are wrong."""
    given = sys.argv[2:]
    if len(sys.argv) < 2 or len(given) > len(numbers) or os.geteuid() != 0:
        sys.exit(usage)
    return os.path.abspath(sys.argv[1]), *(int(a) for a in given), *numbers[len(given):]


def wait_for(what, ready, seconds=15.0, every=0.05):
    end = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > end:
            raise RuntimeError(f"{what}: not within {seconds:g} s")
        time.sleep(every)


class Rig:
    """Namespaces and processes, all of which go away with close(). build: where our programs are."""

    def __init__(self, build):
        self.build = build
        self.dir = tempfile.mkdtemp(prefix="arrd-bench-")
        self.spaces, self.procs, self.files = [], [], []

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

    def folder(self, name):
        d = os.path.join(self.dir, name)
        os.makedirs(d)
        return d

    def start(self, ns, *cmd, log, **env):
        with open(os.path.join(self.dir, log), "wb") as out:
            p = subprocess.Popen(["ip", "netns", "exec", ns, *cmd], stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                                 env={**os.environ, **env})
        self.procs.append(p)
        return p

    def stop(self, *procs):
        for p in procs:
            p.terminate()
        for p in procs:
            try:
                p.wait(5)
            except subprocess.TimeoutExpired:
                p.kill()
                p.wait()
            self.procs.remove(p)

    def close(self):
        self.stop(*reversed(self.procs))
        for ns in self.spaces:
            run("ip", "netns", "del", ns, check=False)
        for path in self.files:  # that a process makes outside of our directory
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
        shutil.rmtree(self.dir, ignore_errors=True)

    def logs(self):
        for root, _, names in os.walk(self.dir):
            for n in sorted(names):
                if n.endswith(".log"):
                    with open(os.path.join(root, n), errors="replace") as f:
                        yield n, f.read()[-2000:]


@contextlib.contextmanager
def rig_of(script, build):
    """A rig for a `with`; what goes wrong in it ends the program, with the logs of all processes."""
    def end(*_):
        sys.exit(f"{script}: ended by a signal")

    signal.signal(signal.SIGTERM, end)
    rig = Rig(build)
    try:
        yield rig
    except (RuntimeError, subprocess.TimeoutExpired, OSError, LookupError, ValueError) as e:
        for name, text in rig.logs():
            print(f"--- {name}\n{text}", file=sys.stderr)
        sys.exit(f"{script}: {e}")
    finally:
        rig.close()


class Pair:
    """Two ends with iperf3 on each: client 10.31.0.1 in namespace a, server 10.31.0.2 in b."""

    def __init__(self, rig, name, net):
        self.rig, self.name = rig, name
        self.a, self.b = rig.pair(name, net)
        self.ends = ((self.a, 1, 2), (self.b, 2, 1))  # namespace, last octet of its addresses and of the other's

    def serve(self):
        wait_for("ping through the tunnel", lambda: run(
            "ip", "netns", "exec", self.a, "ping", "-q", "-c", "1", "-W", "1", "-I", "10.31.0.1", "10.31.0.2",
            check=False).returncode == 0)
        self.rig.start(self.b, "iperf3", "-s", log=f"iperf3-{self.b}.log")
        wait_for("iperf3 listens", lambda: "LISTEN" in run("ip", "netns", "exec", self.b, "ss", "-Htln", "sport = :5201").stdout)

    def tcp(self, streams, reverse, seconds):
        """Mb/s that the receiver got."""
        cmd = ["ip", "netns", "exec", self.a, "iperf3", "-J", "-c", "10.31.0.2", "-B", "10.31.0.1", "-t", str(seconds),
               "-P", str(streams)] + (["-R"] if reverse else [])
        out = json.loads(run(*cmd, timeout=seconds + 20).stdout)
        if "sum_received" not in out["end"]:
            raise RuntimeError(f"iperf3 in {self.a}: {out.get('error', 'no result')}")
        return out["end"]["sum_received"]["bits_per_second"] / 1e6

    def small(self, seconds):
        """UDP packets a second that the receiver got, while the sender sends as fast as it can."""
        return pktrate(self.rig.build, "udp", self.a, self.b, "10.31.0.1", "10.31.0.2", SMALL, seconds)


SMALL = 64  # octets of an IPv4 packet
SMALL_MARK = 2  # the least ratio to each peer that is wanted of them

# What each kind of pair is measured by: a name, its unit, and how.
CASES = [("tcp1_fwd", "Mb/s", lambda pair, seconds: pair.tcp(1, False, seconds)),
         ("tcp1_rev", "Mb/s", lambda pair, seconds: pair.tcp(1, True, seconds)),
         ("tcp4_fwd", "Mb/s", lambda pair, seconds: pair.tcp(4, False, seconds)),
         ("tcp4_rev", "Mb/s", lambda pair, seconds: pair.tcp(4, True, seconds)),
         ("udp64", "packets/s", lambda pair, seconds: pair.small(seconds))]


def start_arrd(rig, build, ns, me, tunnels, folder=None):
    """Starts an arrd whose TUN device has the address 10.31.0.ME; returns its process and its control socket. tunnels: text
    of a file in tunnels.d."""
    d = rig.folder(folder or ns)
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
    path = os.path.join(d, "tunnels.d", "tunnels.conf")
    with open(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "w") as f:  # there may be a key in it
        f.write(tunnels)
    p = rig.start(ns, *NICE, os.path.join(build, "arrd"), "-f", "-c", os.path.join(d, "arrd.conf"),
                  log=f"arrd-{folder or ns}.log")
    return p, f"{d}/control.sock"


class Arrd(Pair):
    """tunnel(ME, OTHER): the lines of the section [tunnel other] at the end whose address ends in ME."""

    def __init__(self, rig, build, name, net, tunnel):
        super().__init__(rig, name, net)
        self.procs = [start_arrd(rig, build, ns, me, "[tunnel other]\n" + tunnel(me, other))[0] for ns, me, other in self.ends]
        for ns, _, _ in self.ends:
            wait_for(f"arr0 in {ns}", lambda n=ns: run("ip", "-n", n, "link", "show", "arr0", "up", check=False).stdout)
        self.serve()


def rss_kib(p):
    with open(f"/proc/{p.pid}/status") as f:
        return int(next(line for line in f if line.startswith("VmRSS:")).split()[1])


def tunnels_up(build, control):
    r = run(os.path.join(build, "arrctl"), "-s", control, "--json", "status", check=False)
    return json.loads(r.stdout)["tunnels"]["up"] if r.returncode == 0 else -1


RAW_LIMIT = "raw socket to raw socket, one packet of this size a time"


def pktrate(build, *args):
    """Packets a second; see pktrate.c."""
    return float(run(os.path.join(build, "bench", "pktrate"), *map(str, args), timeout=60).stdout)


def raw_limit(build, a, b, net, more):
    """What raw sockets get from a to b, by the units of CASES, where a tunnel adds more octets to a packet: TCP payload in Mb/s that
    so many full packets a second would carry, and small packets a second."""
    def rate(size):
        return pktrate(build, "gre", a, b, f"{net}.1", f"{net}.2", size + more, 2)
    return {"Mb/s": rate(MTU) * (MTU - 52) * 8 / 1e6, "packets/s": rate(SMALL)}


def limit_of(limits, unit):
    """For a result: the median of what raw_limit said."""
    return {"limit": round(statistics.median(one[unit] for one in limits), 1), "limit_name": RAW_LIMIT}


def result(name, unit, ours, peer=None, peer_name=None, digits=1, **more):
    """ours and peer are lists of values; see README.md for what else a result may have."""
    med = statistics.median(ours)
    r = {"name": name, "unit": unit, "ours": round(med, digits)}
    if peer:
        r |= {"peer": round(statistics.median(peer), digits), "peer_name": peer_name}
    r |= more
    if peer:
        r["ratio"] = round(med / statistics.median(peer), 3)
    r["runs"] = [round(v, digits) for v in ours]
    if peer:
        r["peer_runs"] = [round(v, digits) for v in peer]
    return r


def write_results(build, group, results):
    os.makedirs(os.path.join(build, "bench"), exist_ok=True)
    with open(os.path.join(build, "bench", f"{group}.json"), "w") as f:
        json.dump(results, f, indent=1)
        f.write("\n")
