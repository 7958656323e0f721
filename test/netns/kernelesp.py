# SPDX-License-Identifier: GPL-2.0-or-later
"""kernelesp.py - a real Linux kernel's ESP, in User-Mode Linux, with stock strongSwan for its keys, as a branch's router.

        br1: host 10.0.1.5 -- eth0 ~~ vec1 10.0.1.1 [guest: charon, kernel-netlink, xfrm] vec0 203.0.113.11 ~~ wan: br0
"""
import os
import re

import ipsec
import peers

MODULES = "ipv6 esp4 esp6 xfrm_user xfrm4_tunnel xfrm6_tunnel ip_gre"


class Guest(peers.Kernel):
    """A guest for branch i. conn, child: as for ipsec.StrongSwan. gre: "tunnel" or "transport": GRE in ESP of that mode.

    Files lie in the case's directory, which the guest can read; what it writes lies in its /run.
    """

    def __init__(self, net, i, conn=None, child=None, gre=None):
        super().__init__(net, i)
        self.i, self.gre = i, gre
        d = self.dir = self.case.file(f"guest{i}")
        os.makedirs(d)
        if gre:
            child = {"local_ts": f"{net.remote(i)}[gre]", "remote_ts": f"{net.local}[gre]", "mode": gre, **(child or {})}
        self.charon = ipsec.Charon(self.case, net.wan, f"guest{i}", net.remote(i), net.local, ipsec.branch_id(i), ipsec.GW_ID,
                                   secret=ipsec.psk(i), local_ts=f"{ipsec.LAN_NET},{ipsec.LAN_NET6}", conn=conn, child=child,
                                   kernel="", directory=d)
        if not gre:
            # The kernel's policies hold for everything: without this one neighbour discovery on the LAN is encrypted, too.
            lan = f"{ipsec.LAN_NET},{ipsec.LAN_NET6}"
            self.charon.conn["children"]["lan"] = {"local_ts": lan, "remote_ts": lan, "mode": "pass", "start_action": "trap"}
        self.charon.uri, self.charon.log = "unix:///run/vici", "/run/charon.log"

    def ready(self):
        self.process.ready("up: Linux", 20)
        self.charon.write()
        # The kernel itself asks for ciphers.
        with open(f"{self.dir}/modprobe", "w") as f:
            f.write('#!/bin/sh\nexec /sbin/modprobe -d /run/uml "$@"\n')
        os.chmod(f"{self.dir}/modprobe", 0o755)
        self.do(f"echo {self.dir}/modprobe >/proc/sys/kernel/modprobe", "modules " + MODULES,
                "sh -c 'cd /proc/sys/net; echo 1 >ipv4/ip_forward; echo 1 >ipv6/conf/all/forwarding'",
                "echo 0 >/proc/sys/net/ipv6/conf/default/accept_dad",
                f"ip addr add {self.outer} dev vec0 && ip link set vec0 up",
                f"ip addr add {ipsec.LAN}/24 dev vec1 && ip addr add {ipsec.LAN6}/64 dev vec1 nodad && ip link set vec1 up",
                "ip route add default via 203.0.113.2 dev vec0 onlink && ip route add ::/0 via 2001:db8:113::2 dev vec0 onlink")
        # strongSwan's table 220 has a default route when the selector is everything, the branch's own network included.
        self.do("ip rule add pref 219 lookup main suppress_prefixlength 0",
                "ip -6 rule add pref 219 lookup main suppress_prefixlength 0")
        if self.gre:
            n, mtu = self.net, 1372
            self.do(f"ip link add gre1 type gre local {n.remote(self.i)} remote {n.local} ttl 64",
                    f"ip addr add {peers.IF_BRANCH}/31 dev gre1 && ip addr add {peers.IF_BRANCH6}/127 dev gre1 nodad",
                    # What it would join behind ESP in transport mode, the guest's own network driver sends on with wrong octets.
                    "ethtool -K gre1 gro off",
                    f"ip link set gre1 mtu {mtu} up && ip route replace default dev gre1 && ip -6 route replace default dev gre1")
        self.do(f"STRONGSWAN_CONF={self.dir}/strongswan.conf charon-systemd >/run/charon.err 2>&1 &",
                "for t in $(seq 100); do [ -S /run/vici ] && break; sleep 0.05; done; [ -S /run/vici ]",
                self.swanctl("--load-all", "--file", f"{self.dir}/swanctl.conf"))
        return self

    def swanctl(self, *args):
        return f"STRONGSWAN_CONF={self.dir}/strongswan.conf swanctl {' '.join(args)} --uri unix:///run/vici"

    def up(self):
        self.do(self.swanctl("--initiate", "--child", "net", "--timeout", "15"))
        return self

    def rekey(self, child=True):
        self.do(self.swanctl("--rekey", *(("--child", "net") if child else ("--ike", "gw"))))

    def spis(self):
        """{SPI: encapsulation in UDP} of what the kernel has."""
        said = self.do("ip xfrm state")
        return {m[1]: "encap type espinudp" in m[0]
                for m in re.finditer(r"proto esp spi (0x[0-9a-f]+)(?:(?!\nsrc).)*", said, re.S)}

    def errors(self):
        """What the kernel's IPsec counted as wrong."""
        said = self.do("cat /proc/net/xfrm_stat")
        return {m[1]: int(m[2]) for m in re.finditer(r"^(\w+)\s+(\d+)", said, re.M) if int(m[2])}

    def ping(self, target):
        self.do(f"ping -q -c 3 -i 0.05 -W 2 -I {ipsec.LAN6 if ':' in target else ipsec.LAN} {target}")

    def tell(self):
        return f"{self.name}: " + self.do("cat /proc/net/xfrm_stat; ip xfrm state | sed 's/0x[0-9a-f]\\{32,\\}/(key)/'; "
                                          "ip xfrm policy; ip -s link; ip route; ip route show table 220; "
                                          "tail -40 /run/charon.log", ok=False)


class Net(ipsec.Net):
    """ipsec.Net in which some branches have a Guest: guests is {i: options of it}."""

    def __init__(self, case, guests, sites=1, start=True, up=True, **more):
        self.guests, self.guest_options = {}, guests
        super().__init__(case, sites=sites, routers=set(range(1, sites + 1)) - set(guests), start=False, up=False, **more)
        for i, options in guests.items():
            self.guests[i] = Guest(self, i, **options)
        if start:
            self.gateway.start()
            if up:
                self.up()

    def up(self):
        super().up()
        for g in self.guests.values():
            g.ready().up()

    def make_underlay(self):
        super().make_underlay()
        # A guest takes the address from br0 when it is made.
        back = {self.outer_addr(i, f) for i in self.guest_options for f in (4, 6)}
        self.wan.ip(*[f"addr add {a} dev br0" for a in sorted(back)])

    def wirewatch(self, *more, private=None, **_):
        inside = [x for i in self.guests for x in ("--inside", f"netns={self.branches[i].name},dev=eth0,tag={i}")]
        return super().wirewatch(*inside, *more, private=private)
