# SPDX-License-Identifier: GPL-2.0-or-later
"""Who is let in by IPsec, and who is not: keys, certificates, identities."""
import os
import re
import signal

import between
import ipsec
import lab
import pki
import topo
from case_ipsec import everything_comes_home
from harness import case


def refused(c, net, r, says="AUTHENTICATION_FAILED"):
    """The router cannot come in, and is told why."""
    before = r.said(says)
    r.load()
    c.check(not r.initiate(ok=None), f"{r.name} was let in")
    c.check(r.said(says) > before, f"{r.name} was not told {says}")
    c.equal(r.children(), [], f"CHILD_SAs of {r.name}")
    r.swanctl("--terminate", "--ike", "gw", ok=None)


def undisturbed(c, net, i=1):
    """A stream through a tunnel that is up; its end() says that nothing happened to it."""
    return between.Stream(net, i, pps=100).ready()


@case(needs=ipsec.NEEDS)
def wrong_keys(c):
    """
        br1: rt1, up and in use ----------------------------------- \\
        rt2: a key that nobody has; the key of branch 1; its own key  gw -- inet
        rt3: an identity that nobody has, with a key of another ---- /

    A pre-shared key opens its own tunnel only. Who is refused is told so, the operator reads the tunnel's name, keys are
    not in the log, and the tunnels that are up do not notice.
    """
    net = ipsec.Net(c, sites=3, up=False)
    one, two, three = (net.routers[i] for i in (1, 2, 3))
    one.up()
    stream = undisturbed(c, net)
    for secret in ("not the key of anybody", ipsec.psk(1), ipsec.psk(3)):
        two.secrets["ike-gw"]["secret"] = f'"{secret}"'
        refused(c, net, two)
    net.gateway.wait_log("tunnel t2", "could not authenticate")
    three.conn["local"]["id"] = "nobody.example"
    refused(c, net, three)
    # The identity of another tunnel with one's own key, from one's own address.
    three.conn["local"]["id"] = ipsec.branch_id(2)
    refused(c, net, three)
    for r in (two, three):
        c.check(not r.answers(), f"a ping of {r.name} was answered")
    # Each by its own.
    two.secrets["ike-gw"]["secret"] = f'"{ipsec.psk(2)}"'
    three.conn["local"]["id"] = ipsec.branch_id(3)
    for r in (two, three):
        r.load()
        r.up()
        r.ping()
    stream.nothing_lost()
    text = net.gateway.process.errors()
    for i in (1, 2, 3):
        c.check(ipsec.psk(i) not in text and ipsec.psk(i).encode().hex() not in text.replace(":", "").lower(),
                "a pre-shared key is in the log")
    everything_comes_home(c, net, 0)


@case(needs=ipsec.NEEDS)
def what_the_readme_says(c):
    """
        br1: rt1, with the configuration of the README -- gw, with that of the README -- inet

    What stands there works as it stands there, but for addresses, names and the key; and in user space without the child lan.
    """
    with open(os.path.join(os.path.dirname(__file__), "../../README.md")) as f:
        conf = re.search(r"```\n(connections \{.*?)```", f.read(), re.S).group(1)
    net = ipsec.Net(c, sites=1, up=False, tunnel={"remote": "any"})
    r = net.routers[1]
    for old, new in (("198.51.100.1", net.local), ("oslo.example.net", ipsec.branch_id(1)), ("gw.example.net", ipsec.GW_ID),
                     ("what stands in oslo.psk", ipsec.psk(1)), ("10.0.1.0/24", ipsec.LAN_NET)):
        c.check(old in conf, f"the README has no {old}")
        conf = conf.replace(old, new)
    conf, n = re.subn(r"      lan \{.*?\}\n", "", conf, flags=re.S)
    c.equal(n, 1, "children lan")
    path = f"{r.dir}/readme.conf"
    with open(path, "w") as f:
        f.write(conf)
    r.swanctl("--load-all", "--clear", "--file", path)
    c.wait(r.established, 10, "the tunnel to come up by itself")
    r.ping()
    # Both ends stay with it when keys are renewed.
    before = r.spis()
    r.swanctl("--rekey", "--child", "all")
    c.wait(lambda: r.spis() and not r.spis() & before, 5, "new keys")
    r.ping()


@case(needs=ipsec.NEEDS)
def keys_of_any_address(c):
    """
        br1: rt1, any address \\
                                gw: remote = any for both, told apart by identity and key -- inet
        br2: rt2, any address /

    Without addresses the identity says which tunnel it is, and only that tunnel's key opens it.
    """
    net = ipsec.Net(c, up=False, tunnel={"remote": "any"})
    two = net.routers[2]
    two.conn["local"]["id"] = ipsec.branch_id(1)
    refused(c, net, two)
    two.conn["local"]["id"] = ipsec.branch_id(2)
    two.secrets["ike-gw"]["secret"] = f'"{ipsec.psk(1)}"'
    refused(c, net, two)
    two.secrets["ike-gw"]["secret"] = f'"{ipsec.psk(2)}"'
    two.load()
    net.up()
    everything_comes_home(c, net, 1 << 20)


@case(needs=ipsec.NEEDS)
def certificates(c):
    """
        br1: rt1, EC certificate \\
        br2: rt2, RSA certificate  gw: EC certificate, the same authority for all -- inet
        br3: rt3, several that are not good /

    Certificates of one authority: each opens the tunnel of the identity that is in it. An expired one, one of another
    authority, and one of another branch are refused.
    """
    ca, other = pki.Authority(c), pki.Authority(c, "other")
    gw = ca.issue(ipsec.GW_ID)
    kind = {1: "ec", 2: "rsa", 3: "ec"}
    certs = {i: ca.issue(ipsec.branch_id(i), kind=kind[i]) for i in kind}
    files = {"psk": None, "cert_file": gw[0], "key_file": gw[1], "ca_file": ca.cert}
    net = ipsec.Net(c, sites=3, up=False, tunnel=files, branch=lambda i: {"cert": certs[i]})
    for i in (1, 2):
        net.routers[i].up()
    stream = undisturbed(c, net)
    r = net.routers[3]
    for what, cert, says in (("expired", ca.issue(ipsec.branch_id(3), days=-1), "AUTHENTICATION_FAILED"),
                             ("of another authority", other.issue(ipsec.branch_id(3)), "AUTHENTICATION_FAILED"),
                             ("of another branch, whose identity it says", certs[1], "AUTHENTICATION_FAILED"),
                             ("of somebody without a tunnel", ca.issue("nobody.example"), "AUTHENTICATION_FAILED")):
        c.say("a certificate " + what)
        # The gateway's certificate is good for everybody; it is the branch's that is not.
        r.credentials((cert[0], cert[1], ca.cert))
        r.conn["local"]["id"] = {"of another branch, whose identity it says": ipsec.branch_id(1),
                                 "of somebody without a tunnel": "nobody.example"}.get(what, ipsec.branch_id(3))
        refused(c, net, r, says)
    r.credentials(certs[3])
    r.conn["local"]["id"] = ipsec.branch_id(3)
    r.load()
    r.up()
    stream.nothing_lost()
    everything_comes_home(c, net, 1 << 20)


@case(needs=ipsec.NEEDS)
def revocation_is_not_looked_up(c):
    """
        br1: rt1, a certificate that says where CRL and OCSP are -- gw -- inet

    Such a certificate is taken as any other, nobody is asked, and the log has nothing of it. Who was removed, or whose
    remote_id is another one, is locked out.
    """
    ca = pki.Authority(c)
    gw = ca.issue(ipsec.GW_ID)
    cert = ca.issue(ipsec.branch_id(1), more=("crlDistributionPoints=URI:http://127.0.0.1:9/ca.crl",
                                              "authorityInfoAccess=OCSP;URI:http://127.0.0.1:9/ocsp"))
    files = {"psk": None, "cert_file": gw[0], "key_file": gw[1], "ca_file": ca.cert}
    net = ipsec.Net(c, sites=1, up=False, tunnel=files, branch={"cert": cert})
    g, r = net.gateway, net.routers[1]
    r.up()
    r.ping()
    text = g.process.errors()
    for word in ("certificate status", "fetching crl", "requesting ocsp", "127.0.0.1"):
        c.check(word not in text, f"the log has {word!r}")
    g.tunnels["t1"]["remote_id"] = "new." + ipsec.branch_id(1)
    g.reload()
    c.wait(lambda: not r.sas(), 5, "the IKE_SA to end")
    refused(c, net, r)
    g.tunnels["t1"]["remote_id"] = ipsec.branch_id(1)
    g.reload()
    r.up()
    r.ping()


@case(needs=ipsec.NEEDS)
def gateway_with_a_bad_certificate(c):
    """
        br1: rt1 -- gw: an expired certificate; one of another authority -- inet

    The branch refuses a gateway that cannot show who it is; with the right certificate, after a reload, it comes in.
    """
    ca, other = pki.Authority(c), pki.Authority(c, "other")
    cert = ca.issue(ipsec.branch_id(1))
    files = {"psk": None, "ca_file": ca.cert}
    bad, good = other.issue(ipsec.GW_ID), ca.issue(ipsec.GW_ID)
    net = ipsec.Net(c, sites=1, up=False, tunnel={**files, "cert_file": bad[0], "key_file": bad[1]}, branch={"cert": cert})
    r = net.routers[1]
    c.check(not r.initiate(ok=None), "a gateway with a certificate of another authority was believed")
    c.check(r.said("no trusted .* public key found|no issuer certificate found"), "the branch did not say why")
    r.swanctl("--terminate", "--ike", "gw", ok=None)
    net.gateway.tunnels["t1"] |= {"cert_file": good[0], "key_file": good[1]}
    net.gateway.reload()
    c.wait(r.established, 10, "the branch to be called back")
    r.ping()


@case(needs=ipsec.NEEDS)
def identities_of_every_kind(c):
    """
        br1: rt1 -- address; FQDN; e-mail; key id; distinguished name -- gw -- inet

    Identities in all the forms that branches use.
    """
    net = ipsec.Net(c, sites=1, up=False)
    r = net.routers[1]
    for kind, mine, theirs in (("address", net.remote(1), net.remote(1)), ("FQDN", "br.example", "br.example"),
                               ("e-mail", "br@example.org", "br@example.org"),
                               ("key id", "keyid:branch one", '"keyid:branch one"'),
                               ("name", "C=CH, O=Example, CN=branch 1", '"C=CH, O=Example, CN=branch 1"')):
        c.say("identity: " + kind)
        net.gateway.tunnels["t1"]["remote_id"] = mine
        net.gateway.reload()
        r.conn["local"]["id"] = theirs
        r.load()
        r.up()
        r.ping()
        r.terminate()
        c.wait(lambda: not r.sas(), 5, "the IKE_SA to end")


@case(needs=ipsec.NEEDS)
def a_second_peer_takes_over(c):
    """
        br1: rt1, identity and key of branch 1 -- \\
                                                     gw: t1, remote = any -- inet
        br2: rt2, the same identity and key ------ /

    A tunnel has one peer: the second one replaces the first, the operator is told, and the first gets nothing more. (As
    when a broken router was replaced, and the old one comes back.)
    """
    net = ipsec.Net(c, sites=2, up=False, tunnel=lambda i: {"remote": "any"},
                    branch=lambda i: {"id": ipsec.branch_id(1), "secret": ipsec.psk(1)})
    one, two = net.routers[1], net.routers[2]
    one.up()
    c.check(one.answers(), "no ping by the first")
    two.up()
    c.wait(two.answers, 3, "a ping by the second")
    c.check(net.gateway.log("tunnel t1", net.remote(2)), "the operator was not told of the second one's address")
    c.check(not one.answers(), "the first still has answers")
    one.stop()
    one.start().ready().up()
    c.wait(one.answers, 3, "a ping by the first, come back")
    c.check(not two.answers(), "the second still has answers")
    c.equal(net.gateway.drops().get("other_site"), None, "packets for another site")
    c.equal(topo.HOST, net.gateway.flows_of(site="s1")[0]["orig"]["src"], "whose flows they are")


@case(needs=ipsec.NEEDS)
def nobody_reads_its_memory(c):
    """
        br1: rt1 -- gw, run by a user of its own with the rights that the unit gives it -- inet

    Keys are in the gateway's memory. Its user cannot trace it, it leaves no core file, and it works all the same.
    """
    lab.need("setpriv")
    net = ipsec.Net(c, sites=1, up=False)
    g, r = net.gateway, net.routers[1]
    g.stop()
    user, caps = 65534, "+net_admin,+net_raw,+net_bind_service"
    os.chmod(c.dir, 0o711)
    c.shell(["chown", "-R", f"{user}:{user}", g.dir])
    g.wrap = ("sh", "-c", f'cd "{g.dir}" && ulimit -c unlimited && exec "$@"', "sh", "setpriv", f"--reuid={user}",
              f"--regid={user}", "--clear-groups", f"--inh-caps={caps}", f"--ambient-caps={caps}", f"--bounding-set={caps}",
              "--no-new-privs")
    g.start()
    r.up()
    r.ping()
    c.equal(os.stat(f"/proc/{g.process.pid}/mem").st_uid, 0, "whose its memory is")
    g.process.send(signal.SIGABRT)
    how = os.waitid(os.P_PID, g.process.pid, os.WEXITED | os.WNOWAIT).si_code
    c.equal(how, os.CLD_KILLED, "how it ended; 3 is with a core file")
    g.process.wait()
    g.wrap = ()
    g.start()
