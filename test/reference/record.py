#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""record.py - makes the corpus anew: test/reference/record.py [-k PATTERN] [-o FILE]; needs root, takes minutes.

Each scenario has two hosts of its own (network namespaces with the kernel's TCP), and a bad line between them: middle.py.
"""
import argparse
import importlib
import os
import socket
import sys
import tempfile
import threading
import time

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(os.path.dirname(HERE), "netns")]

import corpus  # noqa: E402
import lab  # noqa: E402
import middle  # noqa: E402
from middle import CLIENT, SERVER, Leg  # noqa: E402

PORT = 80
TCP_REPAIR, LINGER_NOT = 19, b"\1\0\0\0\0\0\0\0"
ADDRESS = (CLIENT, SERVER)


class Run:
    """One scenario under way."""

    def __init__(self, case, name, seed, mtu=1500, sysctl=(), sides=((), ())):
        self.case, self.name = case, name
        self.ns = [case.ns(f"{name}{i}") for i in (0, 1)]
        for ns, own in zip(self.ns, sides):
            ns.sysctl({f"net/ipv4/{k}": v for k, v in {"tcp_syn_retries": 3, **dict(sysctl), **dict(own)}.items()})
        self.middle = middle.Middle(self.ns, seed)
        for i, ns in enumerate(self.ns):
            ns.ip(f"addr add {ADDRESS[i]}/32 dev tun0", f"link set tun0 mtu {mtu} up", "route add default dev tun0")
        self.port, self.open = 40000, []

    def legs(self, **what):
        for key in self.middle.legs:
            self.middle.legs[key] = Leg(**what)

    def rule(self, rule):
        self.middle.rules.append(rule)

    def socket(self, side, options=()):
        s = self.ns[side].socket(socket.AF_INET, socket.SOCK_STREAM)
        s.settimeout(30)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        for level, option, value in options:
            s.setsockopt(level, option, value)
        self.open.append(s)
        return s

    def listen(self, options=()):
        self.listener = self.socket(1, options)
        self.listener.bind((SERVER, PORT))
        self.listener.listen(16)

    def client(self, options=(), port=None):
        self.port += port is None
        s = self.socket(0, options)
        s.bind((CLIENT, port or self.port))
        return s

    def pair(self, client=(), server=(), port=None):
        """A connection: (client's socket, server's)."""
        if not hasattr(self, "listener"):
            self.listen(server)
        a = self.client(client, port)
        a.connect((SERVER, PORT))
        b = self.accept()
        return a, b

    def accept(self):
        b = self.listener.accept()[0]
        b.settimeout(30)
        self.open.append(b)
        return b

    def settle(self, *args, **more):
        self.middle.settle(*args, **more)

    def inject(self, *args, **more):
        """And what it leads to."""
        self.middle.inject(*args, **more)
        self.settle(0.03)

    def conversations(self):
        self.middle.stop()
        for s in self.open:
            s.close()
        for ns in self.ns:
            ns.remove()
        by_ports = {}
        for ports, segment in self.middle.recorded:
            by_ports.setdefault(ports, []).append(segment)
        found = []
        for n, segments in enumerate(by_ports.values()):
            found.append(corpus.Conversation(self.name + (f".{n + 1}" if n else ""), segments))
        return found


def send(a, b, n, pause=0.0, piece=65536):
    """n octets from a, all of which b reads."""
    def pour():
        left = n
        while left:
            left -= a.send(bytes(min(left, piece)))
            time.sleep(pause)
    t = threading.Thread(target=pour, daemon=True)
    t.start()
    read(b, n)
    t.join()


def read(s, n):
    while n:
        got = len(s.recv(min(n, 1 << 16)))
        if not got:
            raise EOFError(f"{n} octets are missing")
        n -= got


def both(a, b, n):
    t = threading.Thread(target=send, args=(b, a, n), daemon=True)
    t.start()
    send(a, b, n)
    t.join()


def close(r, *sockets):
    for s in sockets:
        s.close()
    r.settle()


def vanish(s):
    """The host forgets the connection without a word, as if it had been switched off."""
    s.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 1)
    s.close()


def reset(s):
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NOT)
    s.close()


def read_end(s):
    if s.recv(1):
        raise EOFError("there is more")


def swallow(call, *args):
    try:
        call(*args)
    except OSError:
        pass


def main():
    import scenarios
    for more in ("scenarios_life", "scenarios_hand"):
        importlib.import_module(more)
    p = argparse.ArgumentParser(prog="test/reference/record.py", description=__doc__.split("\n")[0])
    p.add_argument("-k", metavar="PATTERN", help="only scenarios whose name contains it, and nothing is written")
    p.add_argument("-o", default=os.path.join(HERE, "corpus"), metavar="FILE", help="[test/reference/corpus]")
    options = p.parse_args()
    if os.geteuid() != 0:
        sys.exit("test/reference/record.py: must run as root, to make network namespaces")
    text = f"# Made by test/reference/record.py, Linux {os.uname().release.split('-')[0]}; corpus.py says how to read it.\n"
    with tempfile.TemporaryDirectory(prefix="arrd-ref-") as directory:
        case = lab.Case("record", ".", directory, 1, quiet=True)
        try:
            for n, (name, function, how) in enumerate(scenarios.all_of_them):
                if options.k and options.k not in name:
                    continue
                began = time.monotonic()
                r = Run(case, name, n, **how)
                try:
                    function(r)
                except (OSError, EOFError) as e:
                    raise lab.Failure(f"scenario {name}: {e}") from e
                found = r.conversations()
                print(f"{name}: " + ", ".join(f"{len(c.segments)}" for c in found)
                      + f" segments, {time.monotonic() - began:.1f} s", flush=True)
                text += "".join(c.text() for c in found)
        finally:
            lab.destroy(os.getpid())
    if options.k:
        print(text)
        return
    with open(options.o, "w") as f:
        f.write(text)


if __name__ == "__main__":
    sys.modules["record"] = sys.modules["__main__"]
    main()
