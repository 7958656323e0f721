# SPDX-License-Identifier: GPL-2.0-or-later
"""What one branch may have of what is there for all: CHILD_SAs, IKE_SAs, and the gateway's attention for its failures."""
import between
import ipsec
from harness import case

CHILDREN, MOST = 140, 128


@case(limit=90, needs=ipsec.NEEDS)
def children_without_end(c):
    """
        br1: 140 CHILD_SAs of one IKE_SA -- rt1 ---- gw -- inet
        br2: numbered datagrams -- rt2 ---------- /

    128 is what a branch may have. Those that are up go on, renewing them does too, and nobody else notices.
    """
    net = ipsec.Net(c, up=False)
    one, two = net.routers[1], net.routers[2]
    # A stock strongSwan asks for nothing twice.
    one.conn["children"].update({f"m{k}": one.conn["children"]["net"] | {"remote_ts": f"198.51.100.{100 + k}/32"}
                                 for k in range(CHILDREN)})
    for router in (one, two):
        router.load()
        router.up()
    stream = between.Stream(net, 2, pps=100).ready()
    came = [one.initiate(5, ok=None, child=f"m{k}") for k in range(CHILDREN)]
    c.equal(came, [k < MOST - 1 for k in range(CHILDREN)], "which of them came up, beside the first one")
    c.equal(len(one.children("INSTALLED")), MOST, "CHILD_SAs of the branch")
    # Ten are told at once, then one a second; its number is that of all.
    def counted():
        one.initiate(5, ok=None, child="m135")
        return net.gateway.tunnel("t1")["ike"]["failures"] > CHILDREN - MOST + 1
    c.wait(counted, 5, f"{CHILDREN - MOST + 1} failures to be counted")
    c.check(net.gateway.log("tunnel t1", "as many CHILD_SAs as it may"), "the log does not say why")
    one.ping()
    # With fewer there is room again, also for the two that a renewal has for a moment.
    for k in range(5):
        one.terminate("--child", f"m{k}")
    c.wait(lambda: len(one.children("INSTALLED")) == MOST - 5, 5, "five to be gone")
    one.rekey()
    one.wait_said("CHILD_SA .*net.* established", 5, more_than=1)
    c.check(one.initiate(5, child="m0"), "there is no room for m0 any more")
    one.ping()
    stream.nothing_lost()


@case(limit=90, needs=ipsec.NEEDS)
def ike_sas_without_end(c):
    """
        br1: renews its IKE_SA, and never deletes an old one -- rt1 ---- gw -- inet
        br2: numbered datagrams -- rt2 ------------------------------- /

    The gateway ends the oldest above eight by itself, and the newest goes on.
    """
    net = ipsec.Net(c, branch={"conn": {"mobike": "no"}})  # it would tell of its addresses in between
    stream = between.Stream(net, 2, pps=100).ready()
    one = net.routers[1]
    # The exchange type stands in the clear: 37 is INFORMATIONAL, which is how a DELETE comes.
    one.ns.run("nft -f -", input="table ip t { chain c { type filter hook output priority 0; "
                                 "udp dport 4500 @th,240,8 37 drop; }; }")
    for n in range(14):
        before = len(net.gateway.log("tunnel t1", "IKE_SA renewed"))
        one.swanctl("--rekey", "--ike-id", next(sa for sa in one.sas() if sa["state"] == "ESTABLISHED")["uniqueid"])
        c.wait(lambda: len(net.gateway.log("tunnel t1", "IKE_SA renewed")) > before, 5, f"renewal {n}")
    c.wait(lambda: len(net.gateway.log("deleting IKE_SA")) >= 5, 5, "the gateway to end the oldest")
    one.ping()
    stream.nothing_lost()
