#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""ipsec.py - TCP through pairs of arrds over IPsec, beside strongSwan's kernel-libipsec and wireguard-go, in one run;
and 1000 tunnels: handshakes a second, memory

  iperf3 10.31.0.1 - arr0 - arrd A - 10.92.N.1 ===veth=== 10.92.N.2 - arrd B - arr0 - 10.31.0.2 iperf3
      [namespace arrd-bench-uNa, arrd-bench-ea]               [namespace arrd-bench-uNb, arrd-bench-eb]
      A pair each for AES-256-GCM and AES-128-GCM in UDP, and AES-256-GCM as IP protocol 50.

  iperf3 10.31.0.1 - ipsec0 - charon A - 10.93.N.1 ===veth=== 10.93.N.2 - charon B - ipsec0 - 10.31.0.2 iperf3
      [namespace arrd-bench-sNa]                              [namespace arrd-bench-sNb]
      Two stock strongSwans with kernel-libipsec: ESP in user space, always in UDP. A pair for each cipher.

  iperf3 10.31.0.1 - wg - wireguard-go A - 10.94.0.1 ===veth=== 10.94.0.2 - wireguard-go B - wg - 10.31.0.2 iperf3
      [namespace arrd-bench-wa]                               [namespace arrd-bench-wb]

  pktrate 10.95.0.1 ===veth=== 10.95.0.2 pktrate   what raw sockets can do, for IP protocol 50
      [namespace arrd-bench-la]   [namespace arrd-bench-lb]

  arrd A, initiate = yes: 1000 tunnels - 10.96.1.1 to 10.96.4.250 ===veth=== 10.96.0.2 - arrd B, remote = any: 1000 tunnels
      [namespace arrd-bench-ha]                               [namespace arrd-bench-hb]

All pairs but the last stand the whole time; only one is under load at any moment. The measurements alternate: each round
takes every case once with each. See README.md for the method.

usage: ipsec.py BUILD [ROUNDS [SECONDS [PART]...]]      as root; BUILD holds arrd, arrctl, bench/pktrate;
       BUILD/bench/ipsec.json is written
       PART: udp_aes256gcm, udp_aes128gcm, esp_aes256gcm, handshakes, peers (no arrd: the peers alone); all but the last
"""
import os
import re
import statistics
import subprocess
import sys
import time

from benchlib import (CASES, MTU, SMALL_MARK, Arrd, Pair, limit_of, raw_limit, result, rig_of, rss_kib, run, start_arrd, tunnels_up,
                      wait_for, write_results)

# part of the name, ESP proposal, UDP around it, namespaces, network
OURS = [("udp_aes256gcm", "aes256gcm16", True, "u256", "10.92.1"), ("udp_aes128gcm", "aes128gcm16", True, "u128", "10.92.2"),
        ("esp_aes256gcm", "aes256gcm16", False, "e", "10.92.3")]
MORE = 20 + 8 + 8 + 4 + 16  # octets of ESP without UDP: IPv4, ESP header, IV, trailer, ICV
SWAN, WG = "kernel-libipsec", "wireguard-go"
MARKS = {SWAN: 3, WG: 2}  # the least ratio that is wanted
SECRET = "not a secret, only a benchmark"
TUNNELS = 1000


# ---- peers ----------------------------------------------------------------------------------------------


class Libipsec(Pair):
    """Stock strongSwan with kernel-libipsec; of the plugins that have AES the fastest there is, aesni, comes first."""

    LOAD = ("random nonce aesni aes sha1 sha2 hmac gcm openssl curve25519 gmp pem pkcs1 x509 revocation constraints pubkey "
            "kdf kernel-libipsec kernel-netlink socket-default vici updown")

    def __init__(self, rig, name, net, esp):
        super().__init__(rig, name, net)
        for ns, me, other in self.ends:
            run("ip", "-n", ns, "addr", "add", f"10.31.0.{me}/32", "dev", "lo")
            self.configure(rig.folder(ns), net, me, other, esp)
            rig.start(ns, "charon-systemd", log=f"charon-{ns}.log", STRONGSWAN_CONF=f"{rig.dir}/{ns}/strongswan.conf")
        for ns, _, _ in self.ends:
            wait_for(f"charon in {ns}", lambda n=ns: os.path.exists(f"{rig.dir}/{n}/vici"))
            self.swanctl(ns, "--load-all", "--file", f"{rig.dir}/{ns}/swanctl.conf")
        self.swanctl(self.a, "--initiate", "--child", "net", "--timeout", "10")
        for ns, _, _ in self.ends:
            run("ip", "-n", ns, "link", "set", "ipsec0", "mtu", str(MTU))
        self.serve()

    def swanctl(self, ns, *args):
        d = f"{self.rig.dir}/{ns}"
        return run("ip", "netns", "exec", ns, "swanctl", *args, "--uri", f"unix://{d}/vici",
                   STRONGSWAN_CONF=f"{d}/strongswan.conf").stdout

    def configure(self, d, net, me, other, esp):
        with open(f"{d}/strongswan.conf", "w") as f:  # its parser wants a setting a line
            f.write(f"""charon-systemd {{
  load = {self.LOAD}
  filelog {{
    f {{
      path = {d}/charon.log
      default = 1
      flush_line = yes
    }}
  }}
  journal {{
    default = -1
  }}
  plugins {{
    vici {{
      socket = unix://{d}/vici
    }}
  }}
}}
swanctl {{
  load = pem pkcs1 x509 revocation constraints pubkey openssl random
}}
""")
        with open(f"{d}/swanctl.conf", "w") as f:
            f.write(f"""connections {{
  other {{
    version = 2
    local_addrs = {net}.{me}
    remote_addrs = {net}.{other}
    proposals = aes128-sha256-modp2048
    local {{
      auth = psk
    }}
    remote {{
      auth = psk
    }}
    children {{
      net {{
        local_ts = 10.31.0.{me}/32
        remote_ts = 10.31.0.{other}/32
        esp_proposals = {esp}
      }}
    }}
  }}
}}
secrets {{
  ike-other {{
    secret = "{SECRET}"
  }}
}}
""")


class WireGuardGo(Pair):
    def __init__(self, rig):
        super().__init__(rig, "w", "10.94.0")
        keys = {}
        for ns, me, _ in self.ends:
            d = rig.folder(ns)
            keys[me] = run("wg", "genkey").stdout
            with open(os.open(f"{d}/key", os.O_WRONLY | os.O_CREAT, 0o600), "w") as f:
                f.write(keys[me])
            rig.files.append(f"/var/run/wireguard/arrdbench{me}.sock")  # its name is all that can be chosen
            rig.start(ns, "wireguard-go", "-f", f"arrdbench{me}", log=f"wireguard-{ns}.log", LOG_LEVEL="error")
        for ns, me, other in self.ends:
            dev = f"arrdbench{me}"
            wait_for(f"wireguard-go in {ns}", lambda n=ns, d=dev: run(
                "ip", "netns", "exec", n, "wg", "show", d, check=False).returncode == 0)
            run("ip", "netns", "exec", ns, "wg", "set", dev, "listen-port", "51820", "private-key", f"{rig.dir}/{ns}/key",
                "peer", public_key(keys[other]), "allowed-ips", f"10.31.0.{other}/32", "endpoint", f"10.94.0.{other}:51820")
            run("ip", "-n", ns, "addr", "add", f"10.31.0.{me}/24", "dev", dev)
            run("ip", "-n", ns, "link", "set", dev, "mtu", str(MTU), "up")
        self.serve()


def public_key(private):
    return subprocess.run(["wg", "pubkey"], input=private, capture_output=True, text=True, check=True, timeout=10).stdout.strip()


def notes(swan):
    """What has to be known of the peers' versions."""
    with open(f"{swan.rig.dir}/{swan.a}/charon.log") as f:
        log = f.read()
    version = swan.swanctl(swan.a, "--version", "--daemon").split()[1]
    plugins = re.search(r"loaded plugins: (.*)", log)[1].split()
    aes = next(p for p in plugins if p in ("aesni", "openssl", "gcm"))
    wg = run("wireguard-go", "--version").stdout.split()[1]
    return {SWAN: f"strongSwan {version}, AES by its plugin {aes}",
            WG: wg + (" (March 2022, from before its offloads for TUN and UDP)" if wg == "v0.0.20220316" else "")}


# ---- arrd ---------------------------------------------------------------------------------------------------


def arrd_pair(rig, build, esp, encap, name, net):
    def tunnel(me, other):
        return f"""type = ipsec
local = {net}.{me}
remote = {net}.{other}
psk = {SECRET}
esp_proposals = {esp}
force_encap = {"yes" if encap else "no"}
initiate = {"yes" if me == 1 else "no"}
mtu = {MTU}
routes = 0.0.0.0/0
routes = ::/0
"""
    pair = Arrd(rig, build, name, net, tunnel)
    check_wire(pair, encap)
    return pair


def check_wire(pair, encap):
    """That what is measured is what the name says: IP protocol 50 or UDP on the veth."""
    p = pair.rig.start(pair.b, "tcpdump", "-n", "-l", "-i", "eth0", "-c", "4",
                       "udp port 4500 and greater 120" if encap else "esp", log=f"tcpdump-{pair.b}.log")

    def seen():
        run("ip", "netns", "exec", pair.a, "ping", "-q", "-c", "2", "-i", "0.01", "-W", "1", "-I", "10.31.0.1", "10.31.0.2",
            check=False)
        return p.poll() is not None
    wait_for(f"ESP {'in UDP' if encap else 'as IP protocol 50'} between {pair.a} and {pair.b}", seen, 5)
    pair.rig.procs.remove(p)


class Handshakes:
    """1000 branches, each with an address, an identity and a key of its own, all at once. Default options, but for MOBIKE:
    one machine plays all of them, and would offer each time all 1000 addresses."""

    def __init__(self, rig, build):
        self.rig, self.build = rig, build
        self.a, self.b = rig.pair("h", "10.96.0")
        batch = "".join(f"addr add {self.branch(i)}/16 dev eth0\n" for i in range(TUNNELS))
        subprocess.run(["ip", "-n", self.a, "-batch", "-"], input=batch, text=True, check=True, timeout=30)
        run("ip", "-n", self.b, "route", "add", "10.96.0.0/16", "dev", "eth0")
        self.runs = 0

    @staticmethod
    def branch(i):
        return f"10.96.{1 + i // 250}.{1 + i % 250}"

    def measure(self):
        """Handshakes a second; KiB of the responder before and after."""
        self.runs += 1
        there, control = self.start(self.b, 2, "".join(f"""[tunnel branch-{i}]
type = ipsec
local = 10.96.0.2
remote = any
local_id = gateway.example.net
remote_id = branch-{i}.example.net
psk = {SECRET} {i}
mtu = {MTU}
""" for i in range(TUNNELS)))
        wait_for("the responder", lambda: tunnels_up(self.build, control) == 0)
        before = rss_kib(there)
        begin = time.monotonic()
        here, here_control = self.start(self.a, 1, "".join(f"""[tunnel gateway-{i}]
type = ipsec
local = {self.branch(i)}
remote = 10.96.0.2
local_id = branch-{i}.example.net
remote_id = gateway.example.net
psk = {SECRET} {i}
mobike = no
initiate = yes
mtu = {MTU}
""" for i in range(TUNNELS)))
        wait_for(f"{TUNNELS} tunnels", lambda: tunnels_up(self.build, control) == TUNNELS, 60)
        wait_for(f"{TUNNELS} tunnels of the initiator", lambda: tunnels_up(self.build, here_control) == TUNNELS)
        seconds, after = time.monotonic() - begin, rss_kib(there)
        self.rig.stop(here, there)
        return TUNNELS / seconds, before, after

    def start(self, ns, me, tunnels):
        name = f"{ns}-{self.runs}"
        p, control = start_arrd(self.rig, self.build, ns, me, tunnels, folder=name)
        return p, control


# ---- the run -------------------------------------------------------------------------------------------------


class Measured:
    def __init__(self):
        self.rates = {}  # (who, case): of each round; who is "arrd PART", "kernel-libipsec PROPOSAL", "wireguard-go"
        self.limits, self.handshakes, self.notes = [], [], {}


def measure(build, rounds, seconds, parts):
    tcp, m = [o for o in OURS if o[0] in parts or "peers" in parts], Measured()
    with rig_of("ipsec.py", build) as rig:
        who = {f"arrd {o[0]}": arrd_pair(rig, build, *o[1:]) for o in tcp if o[0] in parts}
        who |= {f"{SWAN} {esp}": Libipsec(rig, f"s{n}", f"10.93.{n}", esp) for n, esp in enumerate(sorted({o[1] for o in tcp}))}
        if tcp:
            who[WG] = WireGuardGo(rig)
            m.notes = notes(who[f"{SWAN} {tcp[0][1]}"])
        raw = rig.pair("l", "10.95.0") if "esp_aes256gcm" in parts else None
        many = Handshakes(rig, build) if "handshakes" in parts else None
        for n in range(rounds):
            def say(text, n=n):
                print(f"round {n + 1} of {rounds}: {text}", file=sys.stderr, flush=True)

            for case, unit, how in CASES if tcp else []:
                now = {name: how(pair, seconds) for name, pair in who.items()}
                for name, rate in now.items():
                    m.rates.setdefault((name, case), []).append(rate)
                say(f"{case}, {unit}: " + ", ".join(f"{name} {rate:.0f}" for name, rate in now.items()))
            if raw:
                m.limits.append(raw_limit(build, *raw, "10.95.0", MORE))
            if many:
                m.handshakes.append(many.measure())
                say("%.0f handshakes/s, responder %d KiB before, %d after" % m.handshakes[-1])
    return m


def results_of(m):
    results = []
    for name, esp, encap, *_ in [o for o in OURS if (f"arrd {o[0]}", CASES[0][0]) in m.rates]:
        for case, unit, _ in CASES:
            for peer, who in ((SWAN, f"{SWAN} {esp}"), (WG, WG)):
                results.append(result(f"ipsec_{name}_{case}", unit, m.rates[f"arrd {name}", case], m.rates[who, case], peer,
                                      mark=SMALL_MARK if case == "udp64" else MARKS[peer], peer_note=m.notes[peer],
                                      **({} if encap else limit_of(m.limits, unit))))
    if m.handshakes:
        rate, before, after = zip(*m.handshakes)
        results += [result("ipsec_handshakes_per_s", "1/s", rate),
                    result("ipsec_memory_1000_tunnels_kib", "KiB", after, digits=0),
                    result("ipsec_memory_1000_tunnels_before_kib", "KiB", before, digits=0),
                    result("ipsec_memory_per_tunnel_kib", "KiB", [(b - a) / TUNNELS for a, b in zip(before, after)], digits=2)]
    return results


def main():
    if len(sys.argv) < 2 or os.geteuid() != 0:
        sys.exit(__doc__)
    build = os.path.abspath(sys.argv[1])
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 3
    seconds = int(sys.argv[3]) if len(sys.argv) > 3 else 2
    begin = time.monotonic()
    m = measure(build, rounds, seconds, sys.argv[4:] or [o[0] for o in OURS] + ["handshakes"])
    results = results_of(m)
    if results:
        write_results(build, "ipsec", results)
    for peer, note in m.notes.items():
        print(f"{peer}: {note}", file=sys.stderr)
    for (name, case), v in sorted(m.rates.items()):
        print(f"{name:28} {case}: median {statistics.median(v):5.0f}, min {min(v):5.0f}, max {max(v):5.0f}",
              file=sys.stderr)
    print(f"in {time.monotonic() - begin:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
