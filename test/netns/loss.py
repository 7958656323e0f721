# SPDX-License-Identifier: GPL-2.0-or-later
"""loss.py - for cases in which not one packet may be lost: iperf3, and whatever else could lose one.

A packet can be lost by the gateway, which counts it under a drop reason; or beside it, in a queue of the test's own: of a
socket whose process does not come to run, or of a TUN device that nobody reads. The latter are made so large that they
hold seconds of traffic, and are looked at afterwards, so that a loss is put down to whom it belongs to.
"""
import ctypes
import errno
import json
import os
import re
import signal
import socket
import stat

import lab
import topo

SNDBUFFORCE, RCVBUFFORCE = 32, 33
PIDFD_GETFD = 438
ROOM = 32 << 20  # octets; a small datagram takes up to 1,280 of it
TUN_QUEUE = 20000
IPERF_PORT = 5201


def roomy(process):
    """Large buffers for the UDP sockets of a process that does not ask for them itself; returns how many it has."""
    pidfd, found = os.pidfd_open(process.pid), 0
    try:
        for fd in os.listdir(f"/proc/{process.pid}/fd"):
            got = lab.LIBC.syscall(PIDFD_GETFD, pidfd, int(fd), 0)
            if got < 0 and ctypes.get_errno() == errno.EBADF:
                continue  # closed meanwhile
            if got < 0:
                raise OSError(ctypes.get_errno(), f"pidfd_getfd of {process.name}")
            if not stat.S_ISSOCK(os.fstat(got).st_mode):
                os.close(got)
                continue
            with socket.socket(fileno=got) as s:
                if s.type == socket.SOCK_DGRAM and s.family in (socket.AF_INET, socket.AF_INET6):
                    s.setsockopt(socket.SOL_SOCKET, RCVBUFFORCE, ROOM)
                    s.setsockopt(socket.SOL_SOCKET, SNDBUFFORCE, ROOM)
                    found += 1
    finally:
        os.close(pidfd)
    return found


def beside(*namespaces):
    """{where: packets} that queues in these namespaces threw away: of UDP sockets, and of TUN devices."""
    lost = {}
    for ns in namespaces:
        said = ns.run(["nstat", "-asz", "UdpRcvbufErrors", "Udp6RcvbufErrors", "UdpSndbufErrors", "Udp6SndbufErrors"])
        for name, n in re.findall(r"(Udp6?(?:Rcv|Snd)bufErrors) +(\d+)", said):
            lost[f"{name} in {ns.short}"] = int(n)
        for link in json.loads(ns.ip("-j -s -d link show")):
            if link.get("linkinfo", {}).get("info_kind") == "tun":
                lost[f"queue of {link['ifname']} in {ns.short}"] = link["stats64"]["tx"]["dropped"]
    return {where: n for where, n in lost.items() if n}


class Iperf:
    """iperf3 from branch i to the server and back at the same time, until it is told to stop: UDP, pps datagrams a second
    each way, whose receivers count what is missing; and beside it TCP, 8 Mb/s each way, which must not stand still."""

    def __init__(self, net, i, pps=2000, octets=200):
        self.case, self.net, self.pps = net.case, net, pps
        lab.need("iperf3")
        with open("/proc/sys/net/core/rmem_max") as f:
            window = min(int(f.read()), 4 << 20)  # until roomy() has been there
        self.ends = {}
        for n, (kind, args) in enumerate((("udp", ["-u", "-b", pps * octets * 8, "-l", octets, "-w", window]),
                                          ("tcp", ["-b", 8000000, "-l", 8192, "-i", 0.5 * net.case.scale]))):
            port = IPERF_PORT + n
            server = net.inet.start(["iperf3", "-s", "-1", "-J", "-B", topo.SERVER, "-p", port], f"iperf3-{kind}-server{i}")
            self.case.wait(lambda: net.inet.run(f"ss -Hltn sport = {port}"), 5, f"iperf3 to listen on port {port}")
            client = net.branches[i].start(["iperf3", "-c", topo.SERVER, "-B", topo.HOST, "-p", port, "-J", "--bidir",
                                            "-t", 600, *args], f"iperf3-{kind}{i}")
            self.ends[kind] = (server, client)
        for process in reversed(self.ends["udp"]):  # a socket each way
            self.case.wait(lambda: self.living(process) and roomy(process) >= 2, 5, f"the sockets of {process.name}")

    @staticmethod
    def living(process):
        if not process.alive():
            raise lab.Failure(f"{process.name} ended: {process.output()[-500:]} {process.errors()[-500:]}")
        return True

    def stop(self, kind):
        """What server and client say of their receiving halves. Each speaks for itself: asked to stop, they do not exchange
        their results any more."""
        server, client = self.ends[kind]
        self.living(server)
        self.living(client)
        client.stop(signal.SIGTERM)
        server.wait(10)
        said = server.json(), client.json()
        for j in said:
            self.case.check("terminated" in j.get("error", ""), f"iperf3: {j.get('error')}")
        return said

    def end(self):
        """TCP moved all the time; of UDP returns {"server": {"came": datagrams, "lost": datagrams}, "branch": ...}, by where
        they went to."""
        for who, j in zip(("server", "branch"), self.stop("tcp")):
            # Without the first, in which it began, and the last, which was cut off.
            rates = [n["sum_bidir_reverse" if n["sum"]["sender"] else "sum"]["bytes"] for n in j["intervals"][1:-1]]
            self.case.check(min(rates, default=1) > 0, f"TCP to the {who} stood still; octets each half a second: {rates}")
        to = {}
        for who, j in zip(("server", "branch"), self.stop("udp")):
            got, = (s["udp"] for s in j["end"]["streams"] if not s["udp"]["sender"])
            to[who] = {"came": got["packets"] - got["lost_packets"], "lost": got["lost_packets"]}
        self.case.say(f"iperf3: {to}")
        self.case.remark("{} datagrams there, {} back".format(*(to[who]["came"] for who in to)))
        self.case.check(min(n["came"] for n in to.values()) >= self.pps // 2, f"too few datagrams to say anything: {to}")
        return to
