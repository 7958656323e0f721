# SPDX-License-Identifier: GPL-2.0-or-later
"""Reload, restart and crash, under traffic."""
import json
import mmap
import os
import shutil
import signal
import socket
import struct
import time

import packets
import topo
from harness import case

RATE = 400_000  # octets a second of each download: enough to see a gap, little enough to leave the machine alone


class Downloads:
    """One-way downloads, one for each branch, from equal tuples; how far they are."""

    def __init__(self, c, net, server=topo.SERVER):
        self.c, self.net = c, net
        self.p = net.tagclient("--download", "--progress", "--count", 1, "--first-port", 45000, "--apart", 400,
                               port=topo.SLOW, server=server, name="download")
        self.go_on(10, "the downloads to begin")

    def octets(self):
        lines = [line for line in self.p.output().splitlines() if line.startswith("{") and line.endswith("}")]
        got = json.loads(lines[-1]) if lines else {}
        self.c.check(self.p.alive(), f"the downloads ended: {self.p.errors()[-500:]}")
        return {i: got.get(ns.name, 0) for i, ns in self.net.branches.items()}

    def go_on(self, seconds, what):
        """Waits until each has had a good deal more than now."""
        before = self.octets()
        self.c.wait(lambda: all(n > before[i] + RATE / 2 for i, n in self.octets().items()), seconds,
                    f"{what}; {before}, then {self.octets()}")


def slow_net(c, lan=False, **more):
    net = topo.Net(c, start=False, **more)
    ear = watch_lan(c, net) if lan else None
    # A router for its LAN already: forwarding is on, whatever arrd does.
    net.gw.sysctl({"net/ipv4/ip_forward": 1, "net/ipv6/conf/all/forwarding": 1})
    net.gateway.start()
    net.ear = ear
    net.tagserver(rate=RATE)
    net.wirewatch(private="10.0.0.0/8" if more.get("nat", "none") != "none" else None)
    return net


def one_is_translated(c, net, hosts=(topo.HOST,)):
    for host in hosts:
        flows = [f for f in net.gateway.flows_of(proto="tcp") if f["orig"]["dport"] == topo.SLOW
                 and f["orig"]["src"] == host]
        c.equal(sorted(f["translated"] for f in flows), [False, True],
                f"translated, of the two colliding downloads to {host}")


@case(limit=40)
def reload_under_traffic(c):
    """
        br1: download \\
                       gw -- inet
        br2: download /      reload: nothing changed; a tunnel more; a tunnel less; another log level

    Tunnels that a reload does not change do not notice it, and neither do their flows.
    """
    net = slow_net(c)
    d = Downloads(c, net)
    one_is_translated(c, net)
    before = {(f["site"], f["proto"], str(f["orig"])) for f in net.gateway.flows_of(proto="tcp")}
    net.gateway.reload()
    net.gateway.tunnels["t3"] = {**net.tunnel_options(3), "routes": "10.9.0.0/16"}
    net.gateway.reload()
    c.equal([t["name"] for t in net.gateway.json("tunnels")], ["t1", "t2", "t3"], "tunnels")
    net.gateway.gateway["log_level"] = "info"
    del net.gateway.tunnels["t3"]
    net.gateway.reload()
    c.equal([t["name"] for t in net.gateway.json("tunnels")], ["t1", "t2"], "tunnels")
    net.gateway.write()
    net.gateway.process.send(signal.SIGHUP)
    c.wait(lambda: net.gateway.json("status")["reloads"] >= 4, 5, "the reload by SIGHUP")
    d.go_on(10, "the downloads to go on")
    after = {(f["site"], f["proto"], str(f["orig"])) for f in net.gateway.flows_of(proto="tcp")}
    c.check(before <= after, f"flows lost by the reload: {before - after}")
    net.judged()


@case(limit=40)
def reload_swaps_two_sites(c):
    """
        br1: download -- 203.0.113.11 \\                t1 = site s1, remote .11        t1 = site s1, remote .12
                                       gw -- inet      t2 = site s2, remote .12   =>   t2 = site s2, remote .11
        br2: download -- 203.0.113.12 /                t3 = site s3, remote .13        t3 = site s3, remote .13

    After a reload that swaps the tunnels of two sites, no packet of an old flow reaches the other branch; the
    third site does not notice.
    """
    net = slow_net(c, sites=3)
    d = Downloads(c, net)
    t = net.gateway.tunnels
    for _ in range(3):
        t["t1"]["remote"], t["t2"]["remote"] = t["t2"]["remote"], t["t1"]["remote"]
        net.gateway.reload()
        before = d.octets()[3]
        c.wait(lambda: d.octets()[3] > before + RATE / 2, 10, "the third site's download to go on")
    # And by the name of the site instead of the address.
    t["t1"]["site"], t["t2"]["site"] = t["t2"]["site"], t["t1"]["site"]
    net.gateway.reload()
    p = net.tagclient("--count", 20, "--requests", 5, name="afterwards")
    c.equal(p.wait(20), 0, f"new connections after the swap: {p.output()[-300:]} {p.errors()[-300:]}")
    net.judged()


@case(limit=30)
def bad_reload_changes_nothing(c):
    """
        br1: download \\
                       gw -- inet      reload: an unknown key, a bad address, a name twice, a missing value
        br2: download /

    A configuration with errors is refused as a whole, with file, line and key; what runs goes on.
    """
    net = slow_net(c)
    d = Downloads(c, net)
    good = {k: dict(v) for k, v in net.gateway.tunnels.items()}
    for key, value, expected in (("gre_kee", "7", "gre_kee"), ("remote", "300.1.2.3", "remote"), ("mtu", "12", "mtu"),
                                 ("remote", None, "remote"), ("allowed_sources", "10.0.1.0/33", "allowed_sources")):
        net.gateway.tunnels = {"t1": {**good["t1"], key: value}, "t2": good["t2"],
                               "t7": {**good["t1"], "remote": "203.0.113.77"}}
        net.gateway.reload(ok=None)
        said = c.last.stdout + c.last.stderr
        c.check(c.last.returncode != 0, f"reload with {key} = {value} was taken")
        c.check(expected in said and "t1.conf" in said, f"the message does not name file and key {expected}: {said!r}")
        c.equal([t["name"] for t in net.gateway.json("tunnels")], ["t1", "t2"], "tunnels")
    net.gateway.tunnels = {**good, "t9": dict(good["t1"])}
    net.gateway.reload(ok=None)
    c.check(c.last.returncode != 0, "two tunnels with the same addresses and key were taken")
    d.go_on(10, "the downloads to go on")
    net.gateway.tunnels = good
    net.gateway.reload()
    c.equal(net.gateway.json("status")["failed_reloads"], 6, "failed reloads")
    net.judged()


def watch_lan(c, net):
    """A host on the gateway's own LAN that has the branches' address, and hears everything sent to it."""
    lan = c.ns("lan")
    c.veth(lan, "eth0", net.gw, "lan0")
    lan.ip(f"addr add {topo.HOST}/24 dev eth0", f"addr add {topo.HOST6}/64 dev eth0 nodad", "link set eth0 up")
    net.gw.ip("addr add 10.0.1.1/24 dev lan0", "addr add fd00:10:0:1::1/64 dev lan0 nodad", "link set lan0 up")
    # The way to it is known: only arrd's rules keep a reply from taking it.
    net.gw.run(f"ping -c 1 -W 2 {topo.HOST}")
    net.gw.run(f"ping -c 1 -W 2 {topo.HOST6}")
    return packets.Ear(lan, "eth0", lambda s: s.src in (topo.SERVER, topo.SERVER6))


def away_and_back(c, nat, end):
    """Downloads run; arrd goes and comes back; nobody else hears a thing, and the downloads go on."""
    net = slow_net(c, nat=nat, lan=True, **({"build": installed(c)} if end is upgrade else {}))
    d, d6 = Downloads(c, net), Downloads(c, net, server=topo.SERVER6)
    one_is_translated(c, net, (topo.HOST, topo.HOST6))
    end(net)
    # Servers still send: what they have in flight and their retransmissions must not fall to the LAN.
    c.never(lambda: net.ear.listen(), 1.5,
            "the LAN host with the branch's address got a packet from the server while arrd was away")
    net.gateway.start()
    d.go_on(15, "the downloads to go on after the restart")
    d6.go_on(15, "the IPv6 downloads to go on after the restart")
    c.check(not net.ear.listen(), "the LAN host with the branch's address got a packet from the server")
    one_is_translated(c, net, (topo.HOST, topo.HOST6))
    net.judged()


def crash(net):
    net.gateway.kill()


def stop(net):
    net.gateway.stop()


def installed(c):
    """A folder with the programs, to be replaced while they run."""
    there = c.file("installed")
    os.makedirs(there)
    for program in ("arrd", "arrctl"):
        shutil.copy(os.path.join(c.build, program), there)
    return there


def upgrade(net):
    """As a package does it: another file takes the program's name while the old one runs, then the service is restarted."""
    for program in ("arrd", "arrctl"):
        path = os.path.join(net.gateway.build, program)
        shutil.copy(path, path + ".new")
        os.rename(path + ".new", path)
    net.gateway.stop()


@case(limit=60)
def crash_and_restart_routed(c):
    """
        br1: downloads \\                  lan0 10.0.1.1 -- 10.0.1.5 a host of the gateway's own LAN
                        gw (kill -9, start) -- inet
        br2: downloads /

    One-way downloads on two colliding sites, IPv4 and IPv6, go on after kill -9 and a start: the flow table survived
    and nobody got the other's packets. While arrd is away, nothing falls to the LAN.
    """
    away_and_back(c, "none", crash)


@case(limit=60)
def crash_and_restart_masqueraded(c):
    """
        br1: downloads \\                  lan0 10.0.1.1 -- 10.0.1.5 a host of the gateway's own LAN
                        gw (kill -9, start) -- inet
        br2: downloads /

    The same with the kernel's NAT between, whose state must fit the flow table's after the restart.
    """
    away_and_back(c, "masquerade", crash)


@case(limit=60)
def stop_and_start_routed(c):
    """
        br1: downloads \\                  lan0 10.0.1.1 -- 10.0.1.5 a host of the gateway's own LAN
                        gw (SIGTERM, start) -- inet
        br2: downloads /

    The same with an orderly stop.
    """
    away_and_back(c, "none", stop)


@case(limit=60)
def stop_and_start_masqueraded(c):
    """
        br1: downloads \\                  lan0 10.0.1.1 -- 10.0.1.5 a host of the gateway's own LAN
                        gw (SIGTERM, start) -- inet
        br2: downloads /

    An orderly stop and a start, with the kernel's NAT between.
    """
    away_and_back(c, "masquerade", stop)


@case(limit=60)
def upgrade_routed(c):
    """
        br1: downloads \\                  lan0 10.0.1.1 -- 10.0.1.5 a host of the gateway's own LAN
                        gw (another arrd in its place, SIGTERM, start) -- inet
        br2: downloads /

    The program's file is replaced under the one that runs, which is stopped then; the new one takes over.
    """
    away_and_back(c, "none", upgrade)


@case(limit=60)
def upgrade_masqueraded(c):
    """
        br1: downloads \\                  lan0 10.0.1.1 -- 10.0.1.5 a host of the gateway's own LAN
                        gw (another arrd in its place, SIGTERM, start) -- inet
        br2: downloads /

    The same with the kernel's NAT between.
    """
    away_and_back(c, "masquerade", upgrade)


def nothing_is_inherited(c, harm):
    """Both branches have a connection from equal tuples; arrd is killed, its flow table harmed, and arrd started again."""
    net = topo.Net(c, nat="masquerade")
    net.tagserver()
    net.wirewatch(private="10.0.0.0/8")
    listener = net.inet.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.bind((topo.SERVER, 5000))
    listener.listen(2)
    hosts, servers = {}, {}
    for i, br in net.branches.items():
        # One kernel gives equal tuples nearly equal sequence numbers, that grow by 2^20 in 67 ms; two hosts would not.
        time.sleep(0.5)
        hosts[i] = br.socket(socket.AF_INET, socket.SOCK_STREAM)
        hosts[i].bind((topo.HOST, 45000))
        hosts[i].connect((topo.SERVER, 5000))
        servers[i], _ = listener.accept()
        hosts[i].sendall(b"before")
        servers[i].recv(100)
    ear = packets.Ear(net.branches[2], "tun0", lambda s: s.proto == packets.TCP and s.sport == 5000)
    net.gateway.kill()
    harm(net.gateway.dir + "/state/flows")
    servers[1].sendall(b"for br1 alone")  # is sent again and again, until somebody takes it
    net.gateway.start()
    hosts[2].sendall(b"from br2")
    c.wait(lambda: net.gateway.flows_of(site="s2", proto="tcp"), 5, "a flow of br2")
    p = net.tagclient("--count", 20, "--requests", 5, name="afterwards")
    c.equal(p.wait(20), 0, f"new connections: {p.output()[-300:]} {p.errors()[-300:]}")
    c.never(lambda: any(b"br1" in s.data for s in ear.listen()), 1, "br2 got what was for br1")
    net.judged()
    return net


@case(limit=40)
def lost_table_inherits_nothing(c):
    """
        br1: 10.0.1.5:45000, its connection as it is \\
                                                      gw, masquerade (kill -9, flow table deleted, start) -- inet
        br2: 10.0.1.5:45000, its own translated ---- /

    Without its flow table arrd starts empty, and so must the kernel: br2, which speaks first, gets nothing of br1's
    connection, although its segments look like br1's now. New connections work.
    """
    nothing_is_inherited(c, os.unlink)


@case(limit=40)
def damaged_table_inherits_nothing(c):
    """
        br1: 10.0.1.5:45000, its connection as it is \\
                                                      gw, masquerade (kill -9, br1's record damaged, start) -- inet
        br2: 10.0.1.5:45000, its own translated ---- /

    A record that was damaged is dropped, as the log says, and no kill leaves one like that: so the kernel's entries go, too.
    br2 gets nothing of br1's connection.
    """
    ports = struct.pack("!HHH", 45000, 5000, 45000)  # initiator, responder, initiator as the other side sees it

    def harm(path):
        with open(path, "r+b") as f, mmap.mmap(f.fileno(), 0) as octets:
            at = octets.find(ports)
            c.check(at > 0 and octets.find(ports, at + 1) < 0, "br1's record is not the one that has these ports")
            octets[at + 2] ^= 1
    net = nothing_is_inherited(c, harm)
    log = net.gateway.process.errors()
    c.check("1 torn records dropped" in log, f"the log does not tell of the record: {log[-500:]}")


@case()
def quarantine(c):
    """
        br1: 10.0.1.5:40000, its flow is ended, and the server still answers \\
                                                                              gw, nat = none -- inet
        br2: 10.0.1.5:40000, wants the same tuple -------------------------- /

    A reply tuple that one site's flow had stays closed to other sites: what the server sends late reaches nobody, and
    the other site gets another port. The same site has it again at once.
    """
    net = topo.Net(c)
    server = net.inet.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind((topo.SERVER, 5000))
    hosts = {}
    for i, br in net.branches.items():
        hosts[i] = br.socket(socket.AF_INET, socket.SOCK_DGRAM)
        hosts[i].bind((topo.HOST, 40000))
        hosts[i].connect((topo.SERVER, 5000))

    def ask(i):
        hosts[i].send(f"of {i}".encode())
        got, peer = server.recvfrom(100)
        c.equal(got, f"of {i}".encode(), "what the server got")
        server.sendto(got, peer)
        c.equal(hosts[i].recv(100), got, f"what br{i} got")
        return peer

    first = ask(1)
    c.equal(first, (topo.HOST, 40000), "br1 as the server sees it")
    net.gateway.ctl("flush", "--site", "s1")
    c.equal(net.gateway.flows_of(site="s1"), [], "flows of s1")
    ears = [packets.Ear(br, "tun0", lambda s: b"late" in s.data) for br in net.branches.values()]
    # Late, before anybody else wants the tuple; and again when br2 uses it.
    server.sendto(b"late", first)
    second = ask(2)
    c.check(second != first, f"br2 got the tuple that is closed: {second}")
    server.sendto(b"late", first)
    c.equal(ask(2), second, "br2 again")
    c.equal(ask(1), first, "br1 has its own tuple again")
    c.equal([str(s) for ear in ears for s in ear.listen()], [], "late answers that came to a branch")


@case(limit=30)
def one_gateway_a_namespace(c):
    """
        br1 \\
             gw: an arrd, and another one beside it with a state_dir and a TUN of its own -- inet
        br2 /

    The table, the mark and the routing table are there once. A second arrd, or its --cleanup, is refused before it
    changes anything; the first one's flows do not notice.
    """
    net = slow_net(c, nat="masquerade")
    loads = Downloads(c, net)
    everything = net.gateway.traces()
    for tun, says in (("arr1", "an arrd with the TUN arr0 runs"), ("arr0", "belongs to another process")):
        other = topo.Gateway(c, net.gw, {}, name=f"other-{tun}", gateway={"tun": tun})
        program = ["ip", "netns", "exec", net.gw.name, os.path.join(other.build, "arrd"), "-c", other.conf]
        c.shell(program + ["-f"], ok=(69,))
        c.check(says in c.last.stderr, f"refused for another reason: {c.last.stderr}")
        c.shell(program + ["--cleanup"], ok=(69,))
    c.equal(net.gateway.traces(), everything, "rules, routes and sysctls")
    loads.go_on(10, "the downloads to go on")
    net.judged()
