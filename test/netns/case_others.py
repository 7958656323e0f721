# SPDX-License-Identifier: GPL-2.0-or-later
"""What other programs, reloads that fail, and the lack of rights do to rules and routes."""
import os
import shutil

import topo
from case_home import all_home, ask_everything
from harness import case

MARK, OTHER_MARK = "0x00100000", "0x00200000"


def rules(net):
    """All that is ours in the kernel, as text without counters' values."""
    return [net.gw.run(argv) for argv in ("nft --stateless list table inet arrd", "ip rule show proto 164",
                                          "ip -6 rule show proto 164", "ip route show table 13187",
                                          "ip -6 route show table 13187")]


@case(limit=40)
def failed_reload(c):
    """
        br1, br2 -- gw: masquerade => none, which fails while arr0 is down -- inet

    A reload that fails after the rules were loaded puts those of before back: nothing leaves untranslated.
    """
    net = topo.Net(c, nat="masquerade")
    net.tagserver()
    before = rules(net)
    net.gw.ip("link set arr0 down")
    net.gateway.egress["nat"] = "none"
    said = net.gateway.reload(ok=range(1, 256))
    c.check("reloaded" not in said, said)
    c.equal(net.gateway.json("status")["egress"]["nat"], "masquerade", "nat in use")
    c.equal(*(sorted(text.splitlines()) for text in (rules(net)[0], before[0])), "nftables rules")
    net.gw.ip("link set arr0 up")
    c.wait(lambda: rules_are(net, before), 5, "the routes by arr0, which went when it went down")
    net.wirewatch(private="10.0.0.0/8")
    ask_everything(c, net)
    ask_everything(c, net, server=topo.SERVER6)
    all_home(c, net, net.judged(), up=False)


@case(limit=40)
def taken_away(c):
    """
        br1, br2 -- gw: nft flush ruleset; ip rule del; ip route flush -- inet

    A firewall script that begins with `flush ruleset`, or a network manager that removes what it did not make: arrd
    puts its own back, and says so.
    """
    net = topo.Net(c, nat="masquerade")
    net.tagserver()
    before = rules(net)
    for argv, said in (("nft flush ruleset", "nftables table inet arrd were taken away"),
                       ("nft flush chain inet arrd nat", "nftables table inet arrd were taken away"),
                       ("nft delete table inet arrd", "nftables table inet arrd were taken away"),
                       ("ip rule del fwmark 0x100000/0x100000", "policy rules or routes of table 13187 were taken"),
                       ("ip -6 rule del fwmark 0x100000/0x100000", "policy rules or routes of table 13187 were taken"),
                       ("ip route flush table 13187", "policy rules or routes of table 13187 were taken"),
                       ("ip -6 route flush table 13187", "policy rules or routes of table 13187 were taken")):
        times = net.gateway.process.errors().count(said)
        net.gw.run(argv)
        c.wait(lambda: rules_are(net, before), 3, f"rules to be there again after {argv}")
        c.equal(net.gateway.process.errors().count(said), times + 1, f"{argv}: records that say so")
    # What others do to their own is none of ours.
    times = net.gateway.process.errors().count("taken away")
    net.gw.run("nft add table inet other")
    net.gw.run(["nft", "add chain inet other x"])
    net.gw.run("nft delete table inet other")
    net.gateway.reload()
    c.never(lambda: net.gateway.process.errors().count("taken away") != times, 1.5, "rules mended without need")
    net.wirewatch(private="10.0.0.0/8")
    ask_everything(c, net)
    ask_everything(c, net, server=topo.SERVER6)
    all_home(c, net, net.judged(), up=False)


def rules_are(net, before):
    """The table may be away for a moment."""
    there = net.gw.run("nft list tables")
    return "inet arrd" in there and sorted("\n".join(rules(net)).split()) == sorted("\n".join(before).split())


@case(limit=40, needs=("conntrack",))
def another_mark(c):
    """
        br1, br2 -- gw: mark 0x00100000 => 0x00200000 over a restart -- inet

    Connections that carry the mark of before are forgotten before the rule goes that brings their answers home.
    """
    net = topo.Net(c, nat="masquerade", egress={"mark": MARK})
    net.tagserver()

    def marked(mark):
        return len(net.gw.run(["conntrack", "-L", "-m", f"{mark}/{mark}"]).splitlines())

    net.wirewatch(private="10.0.0.0/8")
    ask_everything(c, net)
    c.check(marked(MARK) > 0, "no connection is marked")
    net.gateway.stop()
    net.gateway.egress["mark"] = OTHER_MARK
    net.gateway.write()
    net.gateway.start()
    c.equal(marked(MARK), 0, "connections with the mark of before")
    c.check("fwmark 0x200000/0x200000" in net.gw.run("ip rule"), "no rule for the new mark")
    ask_everything(c, net)
    c.check(marked(OTHER_MARK) > 0, "no connection has the new mark")
    all_home(c, net, net.judged(), up=False)


@case(limit=40, needs=("setpriv",))
def as_its_own_user(c):
    """
        br1, br2 -- gw: arrd as another user than root, with CAP_NET_ADMIN and CAP_NET_RAW -- inet

    As the systemd unit starts it, it sets all that it needs, reloads, and takes all away again. Without the rights, a
    clean-up does not forget what there was to be given back.
    """
    net = topo.Net(c, nat="masquerade", start=False)
    g, user = net.gateway, 65534
    program = shutil.copy(os.path.join(g.build, "arrd"), g.dir)
    state = g.gateway["state_dir"]
    os.makedirs(state)
    os.chmod(os.path.dirname(g.dir), 0o755)
    for path in (g.dir, state):
        os.chown(path, user, user)

    def arrd(rights, *args):
        caps = "-all,+net_admin,+net_raw" if rights else "-all"
        return ["setpriv", "--reuid", str(user), "--regid", str(user), "--clear-groups", "--no-new-privs",
                "--inh-caps", caps, "--ambient-caps", caps, "--bounding-set", caps, program, "-c", g.conf, *args]

    g.before = g.traces()
    c.at_end(g.end)
    c.on_failure(g.tell)
    g.process = net.gw.start(arrd(True, "-f"), "arrd")
    g.wait_ready()
    net.tagserver()
    net.wirewatch(private="10.0.0.0/8")
    ask_everything(c, net)
    ask_everything(c, net, server=topo.SERVER6)
    g.reload()
    all_home(c, net, net.judged(), up=False)
    c.check("cannot be set" not in g.process.errors(), "a sysctl that arrd could not set")
    net.gw.run(arrd(True, "--cleanup"), ok=(69,))  # not under an arrd that runs
    g.kill()
    saved = os.path.join(state, "sysctl.saved")
    with open(saved) as f:
        values = f.read()
    net.gw.run(arrd(False, "--cleanup"), ok=(69,))
    with open(saved) as f:
        c.equal(f.read(), values, "values to be given back, after a clean-up without rights")
    net.gw.run(arrd(True, "--cleanup"))
    for what, lines in g.traces().items():
        c.equal([x for x in lines if x not in g.before[what]], [], f"{what} left by the clean-up")
    c.check(not os.path.exists(saved), "sysctl.saved is still there")
