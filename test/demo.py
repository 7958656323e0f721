#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""demo.py - three branches with the same addresses and ports talk to the same server through one gateway.

Everything happens in network namespaces of its own, which are gone at the end, also after Ctrl-C. `make demo` builds
what is needed and runs this. Exit status 0 only if every answer went home.
"""
import argparse
import os
import shutil
import signal
import socket
import struct
import sys
import tempfile

sys.dont_write_bytecode = True
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "test", "netns"))

import ipsec  # noqa: E402
import lab  # noqa: E402
import topo  # noqa: E402

PICTURE = """
  branch A: host 10.0.1.5 ==== GRE from 203.0.113.11 ====\\
                                                          \\
  branch B: host 10.0.1.5 ==== GRE from 203.0.113.12 ====== gateway: arrd == NAT == "Internet": 198.51.100.10
                                                          /                         nginx, dnsmasq (real ones)
  branch C: host 10.0.1.5 == IPsec from 203.0.113.13 ====/
            (a stock strongSwan)

Three branches, one address: 10.0.1.5. No VRF, no NAT rule, no route to a branch is configured, only the three tunnels.
"""
HTTP_PORT, DNS_PORT, PING_ID = 40080, 40053, 4711
BRANCHES = {1: "A", 2: "B", 3: "C"}
IPSEC = 3  # the others are GRE
SIZE = 300_000

failed = []


def step(text):
    print(text, flush=True)


def result(branch, good, text):
    print(f"  branch {branch}: {text}" + ("" if good else "   <-- WRONG"), flush=True)
    if not good:
        failed.append(text)


def dns_query(name):
    labels = b"".join(bytes([len(x)]) + x.encode() for x in name.split("."))
    return struct.pack("!HHHHHH", 0x1234, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack("!HH", 16, 1)


def dns_text(reply):
    """The text of the one TXT record of the answer, which ends the message: a length and so many octets."""
    for n in range(1, 256):
        if len(reply) > n and reply[-n - 1] == n and reply[-n:].isascii():
            return reply[-n:].decode()
    return ""


def servers(net, case):
    net.web({f"branch-{x}": f"This page is for branch {x}.\n".encode() * (SIZE // 28) for x in BRANCHES.values()},
            rate="250k")
    lab.need("dnsmasq")
    net.inet.start(["dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts",
                    "--user=root", "--pid-file=", "--bind-interfaces", f"--listen-address={topo.SERVER}",
                    "--except-interface=eth0"]
                   + [f"--txt-record={x.lower()}.example,for branch {x}" for x in BRANCHES.values()], "dnsmasq")
    case.wait(lambda: ":53 " in net.inet.run("ss -Hlun"), 10, "dnsmasq to listen")


def fetch(net, case):
    step(f"All fetch a page by HTTP at the same time, from 10.0.1.5 port {HTTP_PORT}:")
    running = {}
    for i, x in BRANCHES.items():
        running[i] = net.branches[i].start(
            ["curl", "-sS", "--max-time", "10", "--interface", topo.HOST, "--local-port", str(HTTP_PORT),
             "-o", f"{case.dir}/page-{x}", "-w", "%{http_code} %{size_download}", f"http://{topo.SERVER}/branch-{x}"],
            f"curl-{x}")
    case.wait(lambda: len(net.gateway.flows_of(proto="tcp", state="established")) == len(BRANCHES), 5,
              "all connections to be there")
    during = net.gateway.ctl("flows", "--proto", "tcp")
    for i, x in BRANCHES.items():
        running[i].wait(12)
        content = open(f"{case.dir}/page-{x}").read() if os.path.exists(f"{case.dir}/page-{x}") else ""
        line = f"This page is for branch {x}.\n"
        result(x, content == line * (SIZE // 28),
               f"HTTP {running[i].output()} octets, each line says {content[:content.find('.') + 1]!r}")
    print("\nWhile they did, the gateway had these connections (arrctl flows --proto tcp):\n" + during.rstrip())


def ping(net):
    step(f"\nAll ping it, with the same id {PING_ID}:")
    command = ["ping", "-q", "-c", "5", "-i", "0.1", "-W", "2", "-e", str(PING_ID), topo.SERVER]
    procs = {i: net.branches[i].start(command, f"ping-{x}") for i, x in BRANCHES.items()}
    for i, x in BRANCHES.items():
        status = procs[i].wait(10)
        summary = [line for line in procs[i].output().splitlines() if "received" in line]
        result(x, status == 0 and " 5 received" in summary[0], summary[0] if summary else procs[i].errors().strip())


def ask(net):
    step(f"\nAll ask it by DNS, from UDP port {DNS_PORT}, each for a name of its own:")
    sockets = {}
    for i in BRANCHES:
        s = sockets[i] = net.branches[i].socket(socket.AF_INET, socket.SOCK_DGRAM)
        s.bind((topo.HOST, DNS_PORT))
        s.connect((topo.SERVER, 53))
    for i, x in BRANCHES.items():
        sockets[i].send(dns_query(f"{x.lower()}.example"))
    for i, x in BRANCHES.items():
        try:
            text = dns_text(sockets[i].recv(512))
        except OSError as e:
            text = str(e)
        result(x, text == f"for branch {x}", f"asked for {x.lower()}.example, got the text {text!r}")


def demo(case):
    net = ipsec.Net(case, sites=len(BRANCHES), gre=[i for i in BRANCHES if i != IPSEC], nat="masquerade",
                    names=[f"branch-{x}" for x in BRANCHES.values()], gateway={"log_level": "info"},
                    tunnel=lambda i: {"site": None}, tagserver=False)
    servers(net, case)
    fetch(net, case)
    ping(net)
    ask(net)
    print(f"\narrctl tunnels --tunnel branch-{BRANCHES[IPSEC]}:\n"
          + net.gateway.ctl("tunnels", "--tunnel", f"branch-{BRANCHES[IPSEC]}").rstrip())
    print("\narrctl tunnels:\n" + net.gateway.ctl("tunnels").rstrip())
    print("\narrctl flows:\n" + net.gateway.ctl("flows").rstrip())
    drops = net.gateway.drops()
    if set(drops) & {"other_site", "tuple_collision", "no_flow"}:
        failed.append(f"drops: {drops}")


def interrupted(*_):
    raise KeyboardInterrupt


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--build", default=os.path.join(ROOT, "build"), metavar="DIR",
                   help="where arrd and the tools are [build]")
    options = p.parse_args()
    if os.geteuid() != 0:
        sys.exit("demo: must run as root, to make network namespaces")
    signal.signal(signal.SIGTERM, interrupted)
    directory = tempfile.mkdtemp(prefix="arrd-demo-")
    case = lab.Case("demo", options.build, directory, 1, quiet=True)
    print(PICTURE, flush=True)
    try:
        demo(case)
        case.finish()
    except KeyboardInterrupt:
        failed.append("interrupted")
    except (lab.Failure, lab.Skip, OSError) as e:
        failed.append(str(e))
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        lab.destroy(case.id)
        shutil.rmtree(directory, ignore_errors=True)
    if failed:
        print("\nThe demo FAILED: " + "; ".join(failed))
        return 1
    print("\nEvery reply went home: to the branch that had asked, although all have the same address and port.\n"
          "The gateway has cleaned up after itself, and the namespaces are gone.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
