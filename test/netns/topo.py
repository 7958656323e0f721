# SPDX-License-Identifier: GPL-2.0-or-later
"""topo.py - the network that most cases use, and the gateway in it.

        br1: host 10.0.1.5 -- tun0 ~~ cpe ~~ 203.0.113.11 \\
        br2: host 10.0.1.5 -- tun0 ~~ cpe ~~ 203.0.113.12 -- wan: br0 -- wan0 203.0.113.1 gw -- eth0 198.18.0.1
        ...                                               /                                          |
                                                                             198.18.0.2 inet: 198.51.100.10

All branches have the same addresses. `wan` is the underlay: a bridge, which also holds the branches' outer
addresses; the one process cpe there is the router of all of them. With outer IPv6 2001:db8:113::/64 stands for
203.0.113.0/24; inside, IPv6 hosts are fd00:10:0:1::5, and the server is 2001:db8:51::10. The server is not on the
gateway's own link: networks that the gateway is connected to are closed to branches.
"""
import glob
import json
import os
import signal

import lab

SERVER, SERVER6 = "198.51.100.10", "2001:db8:51::10"
ROUTER, ROUTER6 = "198.18.0.2", "2001:db8:18::2"
GW_EGRESS, GW_EGRESS6 = "198.18.0.1", "2001:db8:18::1"
GW_WAN, GW_WAN6 = "203.0.113.1", "2001:db8:113::1"
HOST, HOST6 = "10.0.1.5", "fd00:10:0:1::5"
IF_GW, IF_GW6 = "10.213.0.1", "fd00:213::1"
POOL = ["192.0.2.8-192.0.2.9", "2001:db8:2::8-2001:db8:2::9"]  # of arrd's own NAT, routed to the gateway by inet
TAGGED = 7000     # port of the tagserver, TCP and UDP
SLOW = 7001       # of the one that answers at a limited rate
TUNNEL_MTU = {4: 1476, 6: 1456}  # plain GRE; each of key, checksum and sequence number takes 4 octets more
SYSCTLS = ("ipv4/ip_forward", "ipv4/conf/*/forwarding", "ipv4/conf/*/rp_filter", "ipv6/conf/*/forwarding",
           "ipv6/conf/*/accept_ra", "netfilter/nf_conntrack_tcp_be_liberal", "netfilter/nf_conntrack_tcp_loose")


class Gateway:
    """arrd in a namespace. Options as in the configuration: {"key": value or [values]}, None leaves a default out."""

    def __init__(self, case, ns, tunnels, egress=None, gateway=None, flows=None, sites=None, name="arrd", build=None):
        self.case, self.ns, self.name, self.build = case, ns, name, build or case.build
        for program in ("arrd", "arrctl"):
            if not os.path.exists(os.path.join(self.build, program)):
                raise lab.Failure(f"{self.build}/{program} is not built")
        self.dir = case.file(name)
        self.socket = os.path.join(self.dir, "control.sock")
        self.conf = os.path.join(self.dir, "arrd.conf")
        self.tunnels_d = os.path.join(self.dir, "tunnels.d")
        os.makedirs(self.tunnels_d)
        self.gateway = {"control_socket": self.socket, "state_dir": os.path.join(self.dir, "state"),
                        "log_level": "debug", **(gateway or {})}
        self.egress = {"interface": "eth0", "nat": "none", **(egress or {})}
        self.flows, self.sites, self.tunnels = flows or {}, sites or {}, tunnels
        self.wrap = ()  # what to run it by
        self.process = None
        self.before = None
        self.write()

    # ---- configuration

    @staticmethod
    def section(name, options):
        lines = [f"[{name}]"]
        for key, value in options.items():
            for v in value if isinstance(value, (list, tuple)) else [value]:
                if v is not None:
                    lines.append(f"{key} = {v}")
        return "\n".join(lines) + "\n\n"

    def write(self):
        text = self.section("gateway", self.gateway) + self.section("egress", self.egress)
        if self.flows:
            text += self.section("flows", self.flows)
        for name, options in self.sites.items():
            text += self.section("site " + name, options)
        with open(self.conf, "w") as f:
            f.write(text)
        for old in os.listdir(self.tunnels_d):
            os.unlink(os.path.join(self.tunnels_d, old))
        for name, options in self.tunnels.items():
            with open(os.path.join(self.tunnels_d, name + ".conf"), "w") as f:
                f.write(self.section("tunnel " + name, options))

    # ---- life

    def traces(self):
        """What the kernel of this namespace holds that arrd may have changed."""
        n = self.ns
        routes = "".join(n.ip(f"-{f} route show table all") for f in "46")
        rules = "".join(n.ip(f"-{f} rule show") for f in "46")
        with n:
            sysctls = [f"{path} = {open(path).read().strip()}" for name in SYSCTLS
                       for path in glob.glob("/proc/sys/net/" + name)
                       if "/arr" not in path]
        return {"sysctls": sorted(sysctls), "nft": n.run("nft list ruleset").split("\n"),
                "rules": sorted(rules.split("\n")),
                # What the kernel adds by itself, when an address is no longer tentative, is not arrd's.
                "routes": sorted(" ".join(r.split()) for r in routes.split("\n")
                                 if "proto kernel" not in r or "arr" in r)}

    def start(self, wait=True):
        if self.before is None:
            self.before = self.traces()
            self.case.at_end(self.end)
            self.case.on_failure(self.tell)
        self.process = self.ns.start([*self.wrap, os.path.join(self.build, "arrd"), "-c", self.conf, "-f"], self.name)
        if wait:
            self.wait_ready()
        return self

    def wait_ready(self):
        def answers():
            if not self.process.alive():
                raise lab.Failure(f"{self.name} ended with {self.process.popen.returncode}: "
                                  + self.process.errors()[-1500:])
            self.ctl("status", ok=None)
            return self.case.last.returncode == 0
        self.case.wait(answers, 15, f"{self.name} to answer on its control socket")

    def stop(self):
        status = self.process.stop(signal.SIGTERM, 5)
        self.case.equal(status, 0, f"exit status of {self.name} after SIGTERM")
        self.process = None

    def kill(self):
        self.process.kill()
        self.process = None

    def cleanup(self):
        self.ns.run([os.path.join(self.build, "arrd"), "--cleanup", "-c", self.conf])

    def end(self):
        """At the end of each case: it stops when told, and cleans up after itself."""
        if self.process:
            self.case.check(self.process.alive(), f"{self.name} died: {self.process.popen.returncode}: "
                            + self.process.errors()[-1500:])
            self.stop()
        self.cleanup()
        after = self.traces()
        for what, before in self.before.items():
            left = [x for x in after[what] if x not in before]
            gone = [x for x in before if x not in after[what]]
            self.case.check(not left and not gone, f"arrd --cleanup: {what} left: {left}, gone: {gone}")

    def tell(self):
        """State for the log of a case that failed."""
        if not self.process or not self.process.alive():
            return f"{self.name} does not run"
        return (f"drops: {self.name} {self.drops()}\n" + self.ctl("tunnels") + self.ctl("flows", "--limit", "40")
                + self.ctl("stats") + self.ns.run("nft list ruleset") + self.ns.run("ip -s link"))

    # ---- looking and steering

    def ctl(self, *args, ok=(0,)):
        return self.case.shell([os.path.join(self.build, "arrctl"), "-s", self.socket] + list(args), ok=ok)

    def json(self, *args):
        return json.loads(self.ctl(*args, "--json"))

    def tunnel(self, name):
        return next(t for t in self.json("tunnels") if t["name"] == name)

    def tunnel_drops(self, name):
        return {k: v for k, v in self.tunnel(name)["drops"].items() if v}

    def drops(self):
        """All drop reasons that have counted anything, over all tunnels and what belongs to none."""
        return {k: v for k, v in self.json("stats")["drops"].items() if v}

    def flows_of(self, **want):
        return [f for f in self.json("flows", "--limit", "1000000") if all(f[k] == v for k, v in want.items())]

    def wait_drop(self, reason, more_than=0, seconds=5):
        self.case.wait(lambda: self.drops().get(reason, 0) > more_than, seconds, f"drop reason {reason} to count")

    def reload(self, ok=(0,)):
        self.write()
        return self.ctl("reload", ok=ok)


class Net:
    """The standard topology. sites: how many branches; egress, gateway, flows: options of arrd.

    outer: 4 or 6. cpe: False if the case brings its own branch routers. keys: a GRE key for each tunnel; different ones
    put all tunnels between the same two addresses. tunnel: options of every tunnel, or a function from its number to
    them. names: of the tunnels [t1, t2 ...], which belong to the sites s1, s2 ... start: whether arrd is started.
    """
    gateway_class = Gateway

    def __init__(self, case, sites=2, outer=4, cpe=True, keys=None, nat="none", tunnel=None, egress=None, gateway=None,
                 flows=None, build=None, branch_options="", mtu=None, names=None, start=True):
        self.case, self.outer, self.n, self.keys = case, outer, sites, keys
        more = [keys is not None, "csum" in branch_options, "seq" in branch_options]
        self.mtu = mtu or TUNNEL_MTU[outer] - 4 * sum(more)
        self.inet, self.gw, self.wan = case.ns("inet"), case.ns("gw"), case.ns("wan")
        self.branches = {}
        self.cpe = self.web_process = None
        self.branch_options = branch_options
        self.make_egress()
        self.make_underlay()
        options = tunnel or {}
        tunnels = {}
        for i in range(1, sites + 1):
            if cpe:
                self.branch(i)
            name = names[i - 1] if names else f"t{i}"
            tunnels[name] = {**self.tunnel_options(i), **(options(i) if callable(options) else options)}
        if cpe:
            self.start_cpe()
        self.gateway = self.gateway_class(case, self.gw, tunnels, egress={"nat": nat, **(egress or {})}, gateway=gateway,
                                          flows=flows, build=build)
        if start:
            self.gateway.start()

    def make_egress(self):
        c = self.case
        # Thousands connect at once.
        self.inet.sysctl({"net/core/somaxconn": 65535, "net/ipv4/tcp_max_syn_backlog": 65535})
        c.veth(self.inet, "eth0", self.gw, "eth0")
        # A queue, as a server's network card has one: without it the kernel tells TCP of every packet that the other side is
        # too busy for, and a connection whose SYN-ACK is told so when it is sent again is forgotten, and reset later.
        self.inet.run("tc qdisc add dev eth0 root pfifo limit 1000".split())
        self.inet.ip(f"addr add {SERVER}/32 dev lo", f"addr add {SERVER6}/128 dev lo nodad",
                     f"addr add {ROUTER}/24 dev eth0", f"addr add {ROUTER6}/64 dev eth0 nodad", "link set eth0 up",
                     f"route add default via {GW_EGRESS} src {SERVER}",
                     f"route add ::/0 via {GW_EGRESS6} src {SERVER6}")
        self.gw.ip(f"addr add {GW_EGRESS}/24 dev eth0", f"addr add {GW_EGRESS6}/64 dev eth0 nodad", "link set eth0 up",
                   f"route add default via {ROUTER}", f"route add ::/0 via {ROUTER6}")

    def make_underlay(self):
        self.wan.ip("link add br0 type bridge", "link set br0 up")
        self.case.veth(self.wan, "gw", self.gw, "wan0")
        self.wan.ip("link set gw master br0", "link set gw up")
        self.gw.ip(f"addr add {GW_WAN}/24 dev wan0", f"addr add {GW_WAN6}/64 dev wan0 nodad", "link set wan0 up")
        self.wan.ip("addr add 203.0.113.2/24 dev br0", "addr add 2001:db8:113::2/64 dev br0 nodad")
        # The test CPE sends inner packets with complete checksums, but the outer device must not aggregate either.
        self.wan.no_offloads("gw")
        addresses = {self.outer_addr(i, f) for i in range(1, self.n + 1) for f in (4, 6)}
        self.wan.ip(*[f"addr add {a} dev br0" for a in sorted(addresses)])

    def outer_addr(self, i, family, length=True):
        if self.keys and len(set(self.keys)) > 1:
            i = 1  # all tunnels between the same two addresses
        a = f"203.0.113.{10 + i}" if family == 4 else f"2001:db8:113::{10 + i:x}"
        return a + ("/24" if family == 4 else "/64 nodad") if length else a

    def remote(self, i):
        return self.outer_addr(i, self.outer, length=False)

    @property
    def local(self):
        return GW_WAN if self.outer == 4 else GW_WAN6

    def key(self, i):
        return self.keys[i - 1] if self.keys else None

    def tunnel_options(self, i):
        return {"type": "gre", "site": f"s{i}", "local": self.local, "remote": self.remote(i), "gre_key": self.key(i),
                "interface_address": [IF_GW + "/31", IF_GW6 + "/127"], "mtu": self.mtu,
                "automatic_return_routing": "yes"}

    # ---- branches

    def branch(self, i, tun="tun0"):
        """The host of branch i, in a namespace of its own, with a TUN device that the test CPE will serve."""
        ns = self.branches.setdefault(i, None) or self.case.ns(f"br{i}")
        self.branches[i] = ns
        ns.ip(f"tuntap add dev {tun} mode tun", f"addr add {HOST}/24 dev {tun}", f"addr add {HOST6}/64 dev {tun} nodad",
              "addr add 10.213.0.0/31 dev " + tun, f"addr add fd00:213::/127 dev {tun} nodad",
              f"link set {tun} addrgenmode none mtu {self.mtu} txqueuelen 20000 up",
              f"route add default dev {tun} src {HOST}", f"route add ::/0 dev {tun} src {HOST6}")
        return ns

    def cpe_branch(self, i, tun="tun0"):
        key = f",key={self.key(i)}" if self.key(i) is not None else ""
        more = "," + self.branch_options if self.branch_options else ""
        outer = f"local={self.remote(i)},remote={self.local}"
        return ["--branch", f"netns={self.branches[i].name},tun={tun},{outer}{key}{more}"]

    def start_cpe(self):
        args = [a for i in self.branches for a in self.cpe_branch(i)]
        self.cpe = self.wan.tool("cpe", *args).ready()

    # ---- servers

    def tagserver(self, rate=None):
        def args(port):
            return [x for a in (SERVER, SERVER6) for x in ("--bind", a, "--tcp", port, "--udp", port)]
        self.tags = self.inet.tool("tagserver", *args(TAGGED)).ready()
        if rate:
            self.slow = self.inet.tool("tagserver", *args(SLOW), "--rate", rate, name="slowserver").ready()

    def web(self, files, rate=0):
        """nginx, serving files: {name: content}; rate: of each download, as nginx writes it, 0: unlimited."""
        lab.need("nginx")
        d = self.web_root = self.case.file("web")
        os.makedirs(d)
        for name, content in files.items():
            with open(os.path.join(d, name), "wb") as f:
                f.write(content)
        with open(os.path.join(d, "nginx.conf"), "w") as f:
            f.write(f"""daemon off; master_process off; pid {d}/pid; error_log stderr; worker_rlimit_nofile 4096;
events {{ worker_connections 1024; }}
http {{
  access_log off; default_type application/octet-stream; sendfile on;
  client_body_temp_path {d}/b; proxy_temp_path {d}/p; fastcgi_temp_path {d}/f;
  uwsgi_temp_path {d}/u; scgi_temp_path {d}/s;
  server {{ listen 80; listen [::]:80; root {d}; limit_rate {rate}; }}
}}
""")
        self.web_process = self.inet.start(["nginx", "-e", "stderr", "-c", d + "/nginx.conf"], "nginx")
        self.case.wait(lambda: "LISTEN" in self.inet.run("ss -Hltn sport = 80"), 10, "nginx to listen")

    # ---- clients

    def tagclient(self, *args, branches=None, proto="tcp", server=SERVER, bind=HOST, port=TAGGED, name=None):
        who = [a for i in branches or self.branches for a in ("--branch", f"{self.branches[i].name}:{i}")]
        if ":" in server and bind == HOST:
            bind = HOST6
        return self.wan.tool("tagclient", *who, "--bind", bind, "--server", server, "--port",
                             0 if proto == "ping" else port,
                             "--proto", proto, *args, name=name or f"tagclient-{proto}")

    def wirewatch(self, *more, private=None):
        args = ["--wan", "wan0", "--egress", "eth0", "--tagged", TAGGED, "--tagged", SLOW]
        for i in range(1, self.n + 1):
            key = f",key={self.key(i)}" if self.key(i) is not None else ""
            args += ["--tunnel", f"local={self.local},remote={self.remote(i)}{key},tag={i}"]
        if private:
            args += ["--private", private]
        self.watch = self.gw.tool("wirewatch", *args, *more).ready()
        return self.watch

    def judged(self, allow=()):
        """Ends wirewatch and returns its judgement; what must never be is a failure, but for what allow names."""
        status = self.watch.stop()
        j = self.watch.json()
        self.case.say(json.dumps(j))
        self.case.equal(status, 0, "wirewatch lost packets, so it cannot judge: " + json.dumps(j)[:300])
        for wrong in {"misdelivered", "bad_checksum", "leaked", "branch_rst", "branch_unreachable", "undecodable",
                      "unknown_tunnel", "multicast"} - set(allow):
            self.case.check(j[wrong] == 0, f"{wrong} = {j[wrong]}: {j['notes']}")
        return j
