# SPDX-License-Identifier: GPL-2.0-or-later
"""ipsec.py - branches that come by IPsec: stock strongSwan with its ESP in user space, and the network around them.

        br1: host 10.0.1.5 -- 10.0.1.1 rt1: charon-systemd, ipsec0 -- wan0 203.0.113.11 \\
        br2: host 10.0.1.5 -- 10.0.1.1 rt2: charon-systemd, ipsec0 -- wan0 203.0.113.12 -- wan: br0 -- wan0 gw -- ...

Each branch is two namespaces, its host and its router. The router is Debian's strongSwan with the plugin
kernel-libipsec, which always sends ESP in UDP and takes what its table 220 routes to ipsec0. Between rt and br0 there
may be a NAT or a delay (see between.py). What is not said here is as in topo.py.
"""
import os
import re
import shutil
import signal

import lab
import loss
import topo

NEEDS = ("charon-systemd", "swanctl")
LAN, LAN6 = "10.0.1.1", "fd00:10:0:1::1"  # the router on the branch's network
LAN_MAC, HOST_MAC = "02:00:0a:00:01:01", "02:00:0a:00:01:05"
LAN_NET, LAN_NET6 = "10.0.1.0/24", "fd00:10:0:1::/64"
ANYWHERE = "0.0.0.0/0,::/0"
GW_ID = "gw.example"
LIBIPSEC = "/usr/lib/ipsec/plugins/libstrongswan-kernel-libipsec.so"
PLUGINS = ("random nonce openssl aes sha1 sha2 hmac gcm chapoly curve25519 pem pkcs1 pkcs8 x509 revocation constraints pubkey "
           "kdf {kernel} kernel-netlink socket-default vici updown")
MARK = "0x42"


def branch_id(i):
    return f"branch{i}.example"


def psk(i):
    return f"a key of branch {i} that nobody else knows"


def settings(values, depth=0):
    """The syntax of strongswan.conf and swanctl.conf: one setting a line, sections are dicts, None is left out."""
    lines = []
    for key, value in values.items():
        if isinstance(value, dict):
            lines += ["  " * depth + key + " {", settings(value, depth + 1), "  " * depth + "}"]
        elif value is not None:
            lines.append("  " * depth + f"{key} = {value}")
    return "\n".join(line for line in lines if line)


def merged(base, more):
    """base with what more says, section by section."""
    out = dict(base)
    for key, value in more.items():
        out[key] = merged(out[key], value) if isinstance(value, dict) and isinstance(out.get(key), dict) else value
    return out


def parse_raw(text):
    """The events of `swanctl --raw`: [{...}] with nested dicts and lists."""
    tokens = re.findall(r"[{}]|\]|[^\s={}]+=\[|[^\s={}]+=(?:(?! [^\s={}\]]+(?:=| \{)|[}\]]).)*|[^\s{}\]]+", text)

    def section(i):
        out = {}
        while i < len(tokens) and tokens[i] != "}":
            t = tokens[i]
            if t.endswith("=["):
                end = tokens.index("]", i)
                out[t[:-2]] = tokens[i + 1:end]
                i = end + 1
            elif "=" in t:
                key, _, value = t.partition("=")
                out[key] = value
                i += 1
            elif i + 1 < len(tokens) and tokens[i + 1] == "{":
                out[t], i = section(i + 2)
                i += 1
            else:
                i += 1
        return out, i
    events, i = [], 0
    while i < len(tokens):
        if tokens[i] == "{":
            event, i = section(i + 1)
            events.append(event)
        i += 1
    return events


class Charon:
    """A charon-systemd in a namespace, with files of its own; told what to do by swanctl.

    conn, child: more of, or instead of, swanctl.conf's connection and child. settings: of strongswan.conf, within its
    main section. plugins: a list to load; None for what Debian's configuration loads, and kernel.
    """

    def __init__(self, case, ns, name, local, remote, local_id, remote_id, secret=None, local_ts="", remote_ts=ANYWHERE,
                 conn=None, child=None, more=None, kernel="kernel-libipsec", plugins=PLUGINS, secrets=None, directory=None):
        lab.need(*NEEDS)
        if kernel and not os.path.exists(LIBIPSEC):
            raise lab.Skip("strongSwan's plugin kernel-libipsec is not installed")
        self.case, self.ns, self.name = case, ns, name
        self.dir = directory or case.file(name)
        os.makedirs(self.dir, exist_ok=True)
        self.uri = f"unix://{self.dir}/vici"
        self.log = f"{self.dir}/charon.log"
        self.kernel, self.plugins, self.more = kernel, plugins, more or {}
        # Written out where strongSwan's defaults take too long for a test, or are not what is wanted of a branch.
        self.conn = merged({
            "version": 2, "local_addrs": local, "remote_addrs": remote,
            "local": {"auth": "psk" if secret else "pubkey", "id": local_id},
            "remote": {"auth": "psk" if secret else "pubkey", "id": remote_id},
            "children": {"net": merged({"local_ts": local_ts, "remote_ts": remote_ts, "start_action": "none"}, child or {})},
        }, conn or {})
        self.secrets = secrets or ({"ike-gw": {"id": remote_id, "secret": f'"{secret}"'}} if secret else {})
        self.process = None
        case.on_failure(self.tell)

    # ---- configuration

    def write(self):
        log = {"filelog": {"f": {"path": self.log, "default": 1, "ike": 2, "knl": 2, "net": 1, "enc": 0, "flush_line": "yes",
                                 "time_format": "%H:%M:%S"}}, "journal": {"default": -1}}
        plugins = {"vici": {"socket": self.uri}}
        if self.kernel:
            # What charon itself sends is marked, and its rule for table 220 leaves that out: so a default route into
            # ipsec0 does not catch its own packets.
            plugins |= {"kernel-netlink": {"fwmark": "!" + MARK}, "socket-default": {"fwmark": MARK},
                        "kernel-libipsec": {"load": "yes", "allow_peer_ts": "yes"}}
        base = {**log, "plugins": plugins}
        if self.plugins:
            base["load"] = self.plugins.format(kernel=self.kernel)
        else:
            base["load_modular"] = "yes"
        text = settings({"charon-systemd": merged(base, self.more),
                         "swanctl": {"load": "pem pkcs1 pkcs8 x509 revocation constraints pubkey openssl random"}})
        if not self.plugins:
            text = text.replace("  plugins {\n", "  plugins {\n    include /etc/strongswan.d/charon/*.conf\n", 1)
        with open(f"{self.dir}/strongswan.conf", "w") as f:
            f.write(text + "\n")
        with open(f"{self.dir}/swanctl.conf", "w") as f:
            f.write(settings({"connections": {"gw": self.conn}, "secrets": self.secrets}) + "\n")

    # ---- life

    def start(self):
        self.write()
        if os.path.exists(f"{self.dir}/vici"):
            os.unlink(f"{self.dir}/vici")
        self.process = self.ns.start(["env", f"STRONGSWAN_CONF={self.dir}/strongswan.conf", "charon-systemd"], self.name)
        return self

    def ready(self):
        """Listens, and has its configuration."""
        def there():
            if not self.process.alive():
                raise lab.Failure(f"{self.name} ended with {self.process.popen.returncode}: {self.process.errors()[-1500:]}")
            return os.path.exists(f"{self.dir}/vici") and self.swanctl("--stats", ok=None) is not None \
                and self.case.last.returncode == 0
        self.case.wait(there, 10, f"charon of {self.name} to listen")
        self.load()
        return self

    def load(self):
        self.write()
        said = self.swanctl("--load-all", "--clear", "--file", f"{self.dir}/swanctl.conf")
        self.case.check("loaded 1 connections" in said or "successfully loaded 1" in said, f"{self.name}: {said}")

    def swanctl(self, *args, ok=(0,), seconds=20):
        argv = ["env", f"STRONGSWAN_CONF={self.dir}/strongswan.conf", f"SWANCTL_DIR={self.dir}", "swanctl", *args,
                "--uri", self.uri]
        return self.ns.run(argv, seconds, ok)

    def initiate(self, seconds=10, ok=(0,), child="net"):
        """Returns whether the CHILD_SA came up; with ok=None a failure is no failure of the case."""
        self.swanctl("--initiate", "--child", child, "--timeout", str(int(seconds * self.case.scale)), ok=ok,
                     seconds=seconds + 10)
        return self.case.last.returncode == 0

    def up(self, seconds=10):
        self.initiate(seconds)
        return self

    def terminate(self, *how):
        self.swanctl("--terminate", *(how or ("--ike", "gw")))

    def rekey(self, child=True, reauth=False):
        self.swanctl("--rekey", *(("--child", "net") if child else ("--ike", "gw")), *(("--reauth",) if reauth else ()))

    def stop(self):
        self.case.equal(self.process.stop(signal.SIGTERM, 10), 0, f"exit status of {self.name}")

    def kill(self):
        self.process.kill()

    # ---- looking

    def sas(self):
        """[IKE_SA] as dicts of swanctl's raw output, the CHILD_SAs in "child-sas"."""
        return [sa | {"name": name} for event in parse_raw(self.swanctl("--list-sas", "--raw")) for name, sa in event.items()]

    def children(self, *states):
        """The CHILD_SAs of all IKE_SAs, by default those that carry traffic."""
        return [ch for sa in self.sas() for ch in sa.get("child-sas", {}).values()
                if ch["state"] in (states or ("INSTALLED", "REKEYED"))]

    def established(self):
        return any(sa["state"] == "ESTABLISHED" for sa in self.sas()) and bool(self.children("INSTALLED"))

    def said(self, pattern):
        """How often a line of its log matches."""
        if not os.path.exists(self.log):
            return 0
        with open(self.log, errors="replace") as f:
            return len(re.findall(pattern, f.read(), re.M))

    def child_keys(self):
        """[(SPI, key)] by which it sends, of each CHILD_SA that it made as responder; needs chd = 4 in its log, and an AEAD."""
        with open(self.log, errors="replace") as f:
            dumps = f.read().split("encryption responder key => ")[1:]
        made = [(re.search(r"inbound CHILD_SA .* with SPIs \w+_i (\w+)_o", text), text) for text in dumps]
        octets = r"\[CHD\] +\d+: ((?:[0-9A-F]{2} ?)+)"
        return [(int(m[1], 16), bytes.fromhex("".join(re.findall(octets, text)))[:int(text.split()[0])])
                for m, text in made if m]

    def wait_said(self, pattern, seconds, more_than=0):
        self.case.wait(lambda: self.said(pattern) > more_than, seconds, f"{self.name} to log {pattern!r}")

    def tell(self):
        if not os.path.exists(self.log):
            return f"{self.name} has no log"
        kept = os.path.join(self.case.dir, f"{self.name}.charon.log")
        if not os.path.exists(kept):
            shutil.copy(self.log, kept)
        with open(self.log, errors="replace") as f:
            return f"{self.name}: " + "".join(f.readlines()[-30:]) + (
                self.swanctl("--list-sas", ok=None) if self.process and self.process.alive() else "it does not run")


class StrongSwan(Charon):
    """The router of branch i. between: a class of between.py that stands before br0, or None. mtu: of ipsec0.

    Everything goes into the tunnel, but what a route of the main table other than the default leads elsewhere.
    """

    def __init__(self, net, i, between=None, id=None, secret=None, cert=None, mtu=None, exclude=False, ts=None, **more):
        case = net.case
        self.net, self.i, self.mtu, self.exclude = net, i, mtu, exclude
        self.host = net.branches[i] = case.ns(f"br{i}")
        ns = case.ns(f"rt{i}")
        # Before the addresses: a router for IPv6 forgets what it learned as a host.
        ns.sysctl({"net/ipv4/ip_forward": 1, "net/ipv6/conf/all/forwarding": 1, "net/ipv4/conf/all/rp_filter": 0,
                   "net/ipv4/conf/default/rp_filter": 0, "net/ipv4/conf/default/promote_secondaries": 1})
        case.veth(self.host, "eth0", ns, "lan0")
        # They know each other: the first question for a neighbour in a new network is not always answered.
        self.host.ip(f"addr add {topo.HOST}/24 dev eth0", f"addr add {topo.HOST6}/64 dev eth0 nodad",
                     f"link set eth0 address {HOST_MAC} up", f"route add default via {LAN}", f"route add ::/0 via {LAN6}",
                     f"neigh add {LAN} lladdr {LAN_MAC} dev eth0", f"neigh add {LAN6} lladdr {LAN_MAC} dev eth0")
        ns.ip(f"addr add {LAN}/24 dev lan0", f"addr add {LAN6}/64 dev lan0 nodad", f"link set lan0 address {LAN_MAC} up",
              f"neigh add {topo.HOST} lladdr {HOST_MAC} dev lan0", f"neigh add {topo.HOST6} lladdr {HOST_MAC} dev lan0",
              "rule add pref 219 lookup main suppress_prefixlength 0")
        ns.ip("-6 rule add pref 219 lookup main suppress_prefixlength 0")
        self.between = between(net, i, ns) if between else net.plug(ns, i)
        local = self.between.inner(net.outer) if between else net.remote(i)
        super().__init__(case, ns, f"rt{i}", local, net.local, id or branch_id(i), GW_ID,
                         secret=None if cert else secret or psk(i), local_ts=ts or f"{LAN_NET},{LAN_NET6}", **more)
        if cert:
            self.credentials(cert)

    def credentials(self, cert):
        """cert: (certificate, key, CA), paths."""
        self.conn = merged(self.conn, {"local": {"certs": cert[0]}, "remote": {"cacerts": cert[2]}})
        self.secrets = {}
        # swanctl takes every key that lies here.
        shutil.rmtree(f"{self.dir}/private", ignore_errors=True)
        os.makedirs(f"{self.dir}/private")
        shutil.copy(cert[1], f"{self.dir}/private/own.key")

    def write(self):
        super().write()
        if self.exclude:  # instead of marks: a route for the peer, which kernel-libipsec makes by itself
            with open(f"{self.dir}/strongswan.conf") as f:
                text = f.read()
            with open(f"{self.dir}/strongswan.conf", "w") as f:
                f.write(re.sub(r" *(fwmark|allow_peer_ts) = .*\n", "", text))

    def ready(self):
        super().ready()
        self.case.wait(lambda: "ipsec0" in self.ns.ip("-o link show"), 5, f"ipsec0 of {self.name}")
        # A router that does not come to run for a moment, because the machine has much else to do, loses nothing.
        self.ns.ip(f"link set ipsec0 txqueuelen {loss.TUN_QUEUE}")
        loss.roomy(self.process)
        if self.mtu:
            self.ns.ip(f"link set ipsec0 mtu {self.mtu}")
        return self

    def spis(self):
        """{(inbound, outbound)} of the CHILD_SAs by which it sends."""
        return {(ch["spi-in"], ch["spi-out"]) for ch in self.children("INSTALLED")}

    def wait_used(self, packets=20, seconds=5):
        """Until there is one CHILD_SA, and so many packets have passed it each way."""
        def both_ways():
            ch = self.children("INSTALLED")
            return len(ch) == 1 and int(ch[0]["packets-in"]) >= packets and int(ch[0]["packets-out"]) >= packets
        self.case.wait(both_ways, seconds, f"traffic on one CHILD_SA of {self.name} both ways")

    def ping(self, target=topo.SERVER, count=3, ok=(0,)):
        self.host.run(["ping", "-q", "-c", str(count), "-i", "0.05", "-W", "2", target], ok=ok)
        return self.case.last.returncode == 0

    def answers(self, target=topo.SERVER):
        """Whether one ping is answered at once."""
        self.host.run(["ping", "-q", "-c", "1", "-W", "0.5", target], ok=None)
        return self.case.last.returncode == 0


class Gateway(topo.Gateway):
    """arrd, with a section [ipsec]. Its files hold keys, so nobody else may read them."""
    ipsec = {}

    def write(self):
        super().write()
        with open(self.conf, "a") as f:
            f.write(self.section("ipsec", self.ipsec) if self.ipsec else "")
        for path in [self.conf] + [os.path.join(self.tunnels_d, name) for name in os.listdir(self.tunnels_d)]:
            os.chmod(path, 0o600)

    def is_up(self, name):
        return self.tunnel(name)["state"] == "up"

    def remote_end(self, name):
        """(address, port) where its branch is."""
        end = self.tunnel(name)["ike"]["remote"]
        return end["address"], end["port"]

    def rekey(self, name, child=True):
        self.ctl("rekey", "--tunnel", name, *([] if child else ["--ike"]))

    def initiate(self, name, ok=(0,)):
        self.ctl("initiate", "--tunnel", name, ok=ok)

    def terminate(self, name):
        self.ctl("terminate", "--tunnel", name)

    def log(self, *words):
        """Lines of its log with all of these."""
        text = self.process.errors() if self.process else ""
        return [line for line in text.splitlines() if all(w in line for w in words)]

    def end(self):
        """At the end of every case: whatever was done, at the level of debugging, its log tells nobody a key."""
        if self.process:
            text = self.process.errors()
            said = [line for line in text.splitlines() if re.search(r"=> \d+ bytes|SKEYSEED|Sk_|[Ss]ecret", line)]
            self.case.check(not said, f"octets that may be of a key, in the log: {[s[:60] for s in said[:5]]}")
            for secret in filter(None, (t.get("psk") for t in self.tunnels.values())):
                self.case.check(secret not in text, "a pre-shared key is in the log")
        super().end()

    def wait_log(self, *words, seconds=5):
        self.case.wait(lambda: self.log(*words), seconds, f"{self.name} to log {words}")


class Net(topo.Net):
    """topo.Net whose tunnels 1 to `sites` are of type ipsec; those in gre are GRE, with the test CPE.

    tunnel: options of every IPsec tunnel, or a function from its number to them. ipsec: the section of that name.
    branch: more of every StrongSwan, or a function. The branches are made, started, and up when up is true.
    """
    gateway_class = Gateway

    def __init__(self, case, sites=2, tunnel=None, branch=None, gre=(), ipsec=None, start=True, up=True, routers=None,
                 tagserver=True, **more):
        self.gre, self.routers = set(gre), {}
        super().__init__(case, sites=sites, cpe=False, tunnel=tunnel, start=False, **more)
        self.gateway.ipsec = ipsec or {}
        self.gateway.write()
        of = branch if callable(branch) else lambda i: branch or {}
        for i in range(1, sites + 1):
            if i not in self.gre and (routers is None or i in routers):
                self.routers[i] = StrongSwan(self, i, **of(i)).start()  # they start while the rest is made
        for i in self.gre:
            self.branch(i)
        if self.gre:
            args = [a for i in sorted(self.gre) for a in self.cpe_branch(i)]
            self.cpe = self.wan.tool("cpe", *args).ready()
        if tagserver:
            self.tagserver()
        if start:
            self.gateway.start()
        for r in self.routers.values():
            r.ready()
        if start and up:
            self.up()

    def up(self):
        """All at once."""
        waiting = [(r, r.ns.start(["env", f"STRONGSWAN_CONF={r.dir}/strongswan.conf", "swanctl", "--initiate", "--child",
                                   "net", "--timeout", "15", "--uri", r.uri], f"initiate{i}"))
                   for i, r in self.routers.items()]
        for r, p in waiting:
            self.case.equal(p.wait(20), 0, f"{r.name}: {p.output()[-500:]} {p.errors()[-300:]}")

    def make_underlay(self):
        """The routers have the outer addresses themselves."""
        super().make_underlay()
        mine = {self.outer_addr(i, f) for i in range(1, self.n + 1) for f in (4, 6) if i not in self.gre}
        self.wan.ip(*[f"addr del {a.split()[0]} dev br0" for a in sorted(mine)])
        self.gw.no_offloads("wan0")

    def plug(self, ns, i, dev="wan0", port=None, bridge="br0"):
        """Connects a router to br0, and gives it the outer addresses of branch i."""
        port = port or f"rt{i}"
        self.case.veth(ns, dev, self.wan, port)
        self.wan.ip(f"link set {port} addrgenmode none up", *([f"link set {port} master {bridge}"] if bridge else []))
        ns.ip(*[f"addr add {self.outer_addr(i, f)} dev {dev}" for f in (4, 6)], f"link set {dev} up",
              "route add default via 203.0.113.2", "route add ::/0 via 2001:db8:113::2")
        # What is recorded and sent again, or delayed, has to be whole.
        ns.no_offloads(dev)
        self.wan.no_offloads(port)

    def tunnel_options(self, i):
        if i in self.gre:
            return super().tunnel_options(i)
        return {"type": "ipsec", "site": f"s{i}", "local": self.local, "remote": self.remote(i), "local_id": GW_ID,
                "remote_id": branch_id(i), "psk": psk(i),
                "interface_address": [topo.IF_GW + "/31", topo.IF_GW6 + "/127"], "automatic_return_routing": "yes"}

    def put_gre_over(self, i, mtu=1372, **ike):
        """The tunnel v{i} is what t{i} was, for GRE between the two ends, and t{i} is GRE over it. ike: options of v{i}."""
        tunnels = self.gateway.tunnels
        inner = ("site", "interface_address", "automatic_return_routing")
        tunnels[f"v{i}"] = {k: v for k, v in tunnels[f"t{i}"].items() if k not in inner} | ike
        tunnels[f"t{i}"] = {k: tunnels[f"t{i}"][k] for k in inner} | {
            "type": "gre", "local": self.local, "remote": self.remote(i), "over": f"v{i}", "mtu": mtu}

    def wirewatch(self, *more, private=None, **_):
        """Of IPsec branches the witness stands behind the router, at the host."""
        args = ["--wan", "wan0", "--egress", "eth0", "--tagged", topo.TAGGED, "--tagged", topo.SLOW]
        for i in sorted(self.gre):
            args += ["--tunnel", f"local={self.local},remote={self.remote(i)},tag={i}"]
        for i, r in self.routers.items():
            args += ["--inside", f"netns={r.host.name},dev=eth0,tag={i}"]
        if private:
            args += ["--private", private]
        self.watch = self.gw.tool("wirewatch", *args, *more).ready()
        return self.watch

    def judged(self, allow=()):
        """On the branch's network the router itself sends multicast."""
        return super().judged({"multicast", *allow})

    def remove(self):
        """Before its time: for cases that build a second network."""
        for ns in [self.inet, self.gw, self.wan, *self.branches.values(), *(r.ns for r in self.routers.values()),
                   *(r.between.ns for r in self.routers.values() if hasattr(r.between, "ns"))]:
            ns.remove()

    # ---- what the gateway says

    def drop(self, reason):
        return self.gateway.drops().get(reason, 0)
