# SPDX-License-Identifier: GPL-2.0-or-later
"""Branches and the gateway die and come back; reload; what the operator asks for."""
import signal
import time

import between
import ipsec
import topo
from case_life import Downloads, RATE
from harness import case

DEFAULTS = {"plugins": None}  # a stock branch: strongSwan as Debian configures it


def slow_net(c, start=True, **more):
    net = ipsec.Net(c, tagserver=False, start=start, **more)
    net.tagserver(rate=RATE)
    net.wirewatch(private="10.0.0.0/8" if more.get("nat") == "masquerade" else None)
    return net


def restarted(c, net, act, seconds):
    """Streams of all branches go on after act() took the gateway away and brought it back; returns the longest gap."""
    streams = [between.Stream(net, i, pps=100, server=server).ready() for i in net.branches
               for server in (topo.SERVER, topo.SERVER6)]
    d = Downloads(c, net)
    routers = {i: {sa["initiator-spi"] for sa in r.sas()} for i, r in net.routers.items()}
    began = time.monotonic()
    act()
    for i, r in net.routers.items():
        c.wait(r.answers, 20, f"a ping of branch {i} to be answered again")
        c.check({sa["initiator-spi"] for sa in r.sas()} != routers[i],
                f"{r.name} has the IKE_SA of before, of which nobody knows")
    took = time.monotonic() - began
    d.go_on(15, "the downloads of before to go on")
    worst = 0
    for s in streams:
        s.process.send(signal.SIGTERM)
    for s in streams:
        j = s.end()
        c.equal(j["wrong"], 0, f"wrong datagrams: {j}")
        worst = max(worst, j["gap_ms"] / 1000)
    c.remark(f"traffic again after {worst:.1f} s ({took:.1f} s with all the rest)")
    c.check(worst <= seconds * c.scale, f"traffic again after {worst:.1f} s, expected {seconds} s at most")
    for r in net.routers.values():
        c.wait(lambda: len(r.children("INSTALLED")) == 1, 5, f"one CHILD_SA of {r.name} to be left")
    net.judged()


@case(limit=60, needs=ipsec.NEEDS)
def gateway_restarts(c):
    """
        br1: download, numbered datagrams -- rt1, strongSwan's defaults \\
                                                                          gw: SIGTERM, start again -- inet
        br2: download, numbered datagrams -- rt2, strongSwan's defaults /

    The gateway stops and starts. Nobody touches the branches, which have no DPD: their traffic passes again within five
    seconds, and the flows of before go on.
    """
    net = slow_net(c, nat="masquerade", branch=DEFAULTS)

    def act():
        net.gateway.stop()
        net.gateway.start()
    restarted(c, net, act, 5)


@case(limit=60, needs=ipsec.NEEDS)
def gateway_is_killed(c):
    """
        br1: download, numbered datagrams -- rt1, strongSwan's defaults \\
                                                                          gw: kill -9, start again -- inet
        br2: download, numbered datagrams -- rt2, strongSwan's defaults /

    The same after kill -9, which leaves no time to write anything.
    """
    net = slow_net(c, nat="masquerade", branch=DEFAULTS)

    def act():
        net.gateway.kill()
        net.gateway.start()
    restarted(c, net, act, 5)


@case(limit=60, needs=ipsec.NEEDS)
def gateway_restarts_behind_nat(c):
    """
        br1: download, numbered datagrams -- rt1, strongSwan's defaults -- NAT -- gw: remote = any; stop, start -- inet

    A branch behind a NAT is called back where it was seen last, through the NAT's mapping.
    """
    net = slow_net(c, sites=1, branch={**DEFAULTS, "between": between.Nat}, tunnel={"remote": "any"})

    def act():
        net.gateway.stop()
        net.gateway.start()
    restarted(c, net, act, 5)


@case(limit=120, soak=True, needs=ipsec.NEEDS)
def branch_dies_and_returns(c):
    """
        br1: rt1, kill -9, later started again \\
                                                 gw: dpd_delay = 1 -- inet
        br2: rt2, numbered datagrams ---------- /

    The gateway finds out that a branch is dead, by asking it again and again for a minute, and takes its tunnel down; when
    the branch is back it comes up again, and the other one did not notice.
    """
    net = ipsec.Net(c, tunnel={"dpd_delay": 1})
    stream = between.Stream(net, 2, pps=100).ready()
    r = net.routers[1]
    r.ping()
    r.kill()
    began = time.monotonic()
    c.wait(lambda: not net.gateway.is_up("t1"), 90, "t1 to be down")
    c.remark(f"down after {time.monotonic() - began:.1f} s")
    c.check(net.gateway.is_up("t2"), "t2 is down too")
    r.start().ready().up()
    c.wait(r.answers, 5, "a ping of branch 1 to be answered again")
    stream.nothing_lost()


@case(needs=ipsec.NEEDS)
def branch_restarts(c):
    """
        br1: rt1: SIGTERM and start; kill -9 and start at once -- gw -- inet

    A branch that says good-bye, and one that just begins anew: its old IKE_SA is replaced (INITIAL_CONTACT), and what is
    left is one of each.
    """
    net = ipsec.Net(c, sites=1)
    r = net.routers[1]
    for end in (r.stop, r.kill):
        r.ping()
        end()
        r.start().ready().up()
        c.wait(r.answers, 5, "a ping to be answered again")
    c.wait(lambda: len(net.gateway.tunnel("t1")["children"]) == 2, 5,
           f"one SA each way to be left: {net.gateway.tunnel('t1')}")


@case(limit=40, needs=ipsec.NEEDS)
def reload(c):
    """
        br1: numbered datagrams -- rt1 \\
        br2: rt2 ----------------------- gw: t3 is added; the key of t2 changes; t3 goes -- inet
        br3: rt3 ---------------------- /

    A changed tunnel's SAs end, and those of the others do not notice.
    """
    net = ipsec.Net(c, sites=3, up=False)
    three = net.gateway.tunnels.pop("t3")
    net.gateway.reload()
    one, two, r3 = (net.routers[i] for i in (1, 2, 3))
    one.up()
    two.up()
    stream = between.Stream(net, 1).ready()
    spis = {ch["spi-in"] for ch in one.children()}
    c.check(not r3.initiate(ok=None), "a tunnel that is not configured came up")
    r3.swanctl("--terminate", "--ike", "gw", ok=None)

    net.gateway.tunnels["t3"] = three
    net.gateway.reload()
    r3.up()
    r3.ping()
    two.ping()

    net.gateway.tunnels["t2"]["psk"] = "another key of branch 2, which it does not have yet"
    net.gateway.reload()
    c.wait(lambda: not two.established(), 5, "the SAs of the changed tunnel to end at the branch")
    c.check(not two.answers(), "the changed tunnel still carries traffic")
    c.check(not two.initiate(ok=None), "the old key was taken")
    two.swanctl("--terminate", "--ike", "gw", ok=None)
    two.secrets["ike-gw"]["secret"] = '"another key of branch 2, which it does not have yet"'
    two.load()
    # Whose connection a reload has ended is called back, until it comes: a stock branch waits.
    c.wait(two.established, 25, "branch 2 to be called once more, now that it has the key")
    two.ping()
    r3.ping()
    before = len(net.gateway.log("tunnel t2", "IKE_SA established"))
    net.gateway.tunnels["t2"]["dpd_delay"] = 20
    net.gateway.reload()
    c.wait(lambda: len(net.gateway.log("tunnel t2", "IKE_SA established")) > before and two.established(), 5,
           "branch 2 to be called back")
    two.ping()

    # What has nothing to do with keys changes without their ending.
    before = {ch["spi-in"] for ch in two.children()}
    net.gateway.tunnels["t2"]["priority"] = 7
    net.gateway.reload()
    two.ping()
    c.equal({ch["spi-in"] for ch in two.children()}, before, "SPIs after a change of priority")

    del net.gateway.tunnels["t3"]
    net.gateway.reload()
    c.wait(lambda: not r3.established(), 5, "the SAs of the removed tunnel to end at the branch")
    c.check(not r3.answers(), "the removed tunnel still carries traffic")
    c.equal([t["name"] for t in net.gateway.json("tunnels")], ["t1", "t2"], "tunnels")
    stream.nothing_lost()
    c.equal({ch["spi-in"] for ch in one.children()}, spis, "SPIs of the tunnel that did not change")


@case(needs=ipsec.NEEDS)
def way_to_a_branch_vanishes(c):
    """
        br1: numbered datagrams -- rt1 \\
                                          gw: one site; the route to rt1 vanishes -- inet: echo
        br2 --------------------- rt2 /

    What cannot be sent by one tunnel of a site leaves by the other within a second, long before silence would tell that the
    first one's end is away.
    """
    net = ipsec.Net(c, tunnel=lambda i: {"site": "one", "priority": 10 * i})
    g = net.gateway
    stream = between.Stream(net, 1).ready()
    taps = {i: between.Tap(net, to_gateway=False, match=lambda o, i=i: o.is_esp and o.dst == net.outer_addr(i, 4, length=False))
            for i in (1, 2)}
    for tap in taps.values():
        tap.forget()
    c.wait(lambda: len(taps[1].listen()) > 50, 3, "answers by t1")
    c.equal(len(taps[2].listen()), 0, "answers by t2")
    net.gw.ip(f"route add unreachable {net.outer_addr(1, 4, length=False)}")
    c.wait(lambda: len(taps[2].listen()) > 50, 1, "answers by t2, when there is no way to t1")
    c.equal((g.is_up("t1"), g.is_up("t2")), (False, True), "who is up")
    c.equal(g.tunnel("t1")["ike"]["state"], "established", "the IKE_SA of t1")
    net.gw.ip(f"route del unreachable {net.outer_addr(1, 4, length=False)}")
    c.equal(stream.end()["wrong"], 0, "wrong datagrams")


@case(needs=ipsec.NEEDS)
def bad_reload(c):
    """
        br1: numbered datagrams -- rt1 -- gw: reloads with an unknown cipher, without a key, with a file that others can read

    A configuration that is wrong is refused as a whole, with file, line and key; no secret is in the message.
    """
    net = ipsec.Net(c, sites=1)
    stream = between.Stream(net, 1).ready()
    good = dict(net.gateway.tunnels["t1"])
    for key, value, expected in (("esp_proposals", "aes256gcm17", "aes256gcm16"),
                                 ("ike_proposals", "rot13-sha256-modp2048", "ike_proposals"), ("psk", None, "psk"),
                                 ("psk_file", "/nowhere/at/all", "psk_file"), ("remote_ts", "10.0.0.0/33", "remote_ts"),
                                 ("child_rekey", "1", "child_rekey"), ("cert_file", "/nowhere/cert.pem", "cert_file"),
                                 ("replay_window", "63", "replay_window"), ("gre_key", "7", "gre_key")):
        net.gateway.tunnels["t1"] = {**good, key: value}
        net.gateway.reload(ok=None)
        said = c.last.stdout + c.last.stderr
        c.check(c.last.returncode != 0, f"reload with {key} = {value} was taken")
        c.check(expected in said and "t1.conf" in said, f"the message does not name file and {expected}: {said!r}")
        c.check(ipsec.psk(1) not in said, f"the key is in the message: {said!r}")
    net.gateway.tunnels["t1"] = good
    net.gateway.write()
    path = f"{net.gateway.tunnels_d}/t1.conf"
    c.shell(["chmod", "644", path])
    net.gateway.ctl("reload", ok=None)
    said = c.last.stdout + c.last.stderr
    c.check(c.last.returncode != 0 and "t1.conf" in said and "psk" in said, f"a key that everybody can read was taken: {said!r}")
    c.check(ipsec.psk(1) not in said, "the key is in the message")
    stream.nothing_lost()
    net.gateway.reload()


@case(needs=ipsec.NEEDS)
def steering(c):
    """
        br1: rt1 -- gw: arrctl terminate, initiate, rekey -- inet

    The operator ends a tunnel, the gateway calls a stock branch, and keys are renewed.
    """
    net = ipsec.Net(c, sites=1)
    g, r = net.gateway, net.routers[1]
    r.ping()
    g.terminate("t1")
    c.wait(lambda: not r.sas(), 5, "the branch to be told")
    c.wait(lambda: not g.is_up("t1"), 3, "t1 to be down")
    c.check(not r.answers(), "a ping was answered")
    g.initiate("t1")
    c.wait(r.established, 5, "the branch to be called")
    r.ping()
    sa, = r.sas()
    c.equal(sa.get("initiator"), None, "who began: the branch says that it did")
    before = r.spis()
    g.rekey("t1")
    c.wait(lambda: len(r.spis()) == 1 and not r.spis() & before, 5, "new keys")
    r.ping()
    g.rekey("t1", child=False)
    c.wait(lambda: len(r.sas()) == 1 and r.sas()[0]["initiator-spi"] != sa["initiator-spi"], 5, "another IKE_SA")
    r.ping()
    for command in ("rekey", "initiate", "terminate"):
        g.ctl(command, "--tunnel", "nobody", ok=None)
        c.check(c.last.returncode != 0, f"{command} of an unknown tunnel succeeded")


@case(needs=ipsec.NEEDS)
def what_is_shown(c):
    """
        br1: rt1 -- NAT -- gw: arrctl tunnels -- inet

    State, algorithms, identity and address of the peer, NAT, ages; and no key.
    """
    net = ipsec.Net(c, sites=1, branch={"between": between.Nat}, tunnel={"remote": "any", "esp_proposals": "aes256gcm16"})
    r = net.routers[1]
    r.ping()
    t = net.gateway.tunnel("t1")
    ike, children = t["ike"], {ch["direction"]: ch for ch in t["children"]}
    c.equal((t["type"], t["state"]), ("ipsec", "up"), "type and state of t1")
    c.equal((ike["state"], ike["role"], ike["remote_id"], ike["local_id"], ike["nat"]),
            ("established", "responder", ipsec.branch_id(1), ipsec.GW_ID, "remote"), "the IKE_SA")
    c.check(ike["remote"]["address"] == "203.0.113.11" and 20000 <= ike["remote"]["port"] < 21000, f"remote end: {ike}")
    c.check(0 < ike["rekey_in_s"] <= 14400 and ike["age_s"] < 10, f"ages of the IKE_SA: {ike}")
    theirs, = r.children("INSTALLED")
    for way, other, packets in (("in", "spi-out", "packets-out"), ("out", "spi-in", "packets-in")):
        ch = children[way]
        c.equal((ch["suite"], ch["mode"], ch["udp"], ch["spi"]), ("AES-GCM-16-256", "tunnel", True, theirs[other]),
                f"the SA {way}")
        c.check(0 < ch["rekey_in_s"] <= 3600 and ch["rekey_in_s"] < ch["expires_in_s"], f"ages of the SA {way}: {ch}")
        c.equal(ch["packets"], int(theirs[packets]), f"packets of the SA {way}, against what the branch says")
    text = net.gateway.ctl("tunnels", "--tunnel", "t1") + net.gateway.ctl("tunnels") + str(t)
    c.check(ipsec.branch_id(1) in text and "AES" in text, f"arrctl tunnels: {text}")
    c.check(ipsec.psk(1) not in text, "the key is in what arrctl shows")
    # What charon says of the tunnel comes with its name.
    c.check(net.gateway.log("notice tunnel t1: ike: CHILD_SA t1{"), "charon's line about the CHILD_SA lacks the tunnel's name")
    r.terminate()
    c.wait(lambda: not net.gateway.is_up("t1"), 5, "t1 to be down")
