# SPDX-License-Identifier: GPL-2.0-or-later
"""lab.py - what a test case works with: network namespaces, processes in them, waiting for conditions.

Everything that a case makes is named after its process id (namespaces) or lies in its own directory, and every
process that it starts lives in one of its namespaces. So whatever happens to the case, destroy() can end exactly
these processes and remove exactly these namespaces.
"""
import ctypes
import json
import os
import shutil
import signal
import socket
import subprocess
import time

LIBC = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNET = 0x40000000
POLL = 0.02  # seconds between two looks at a condition


class Failure(Exception):
    """The case failed: something is not as it must be."""


class Skip(Exception):
    """The case cannot run here; the reason is told, and counts."""


def setns(path):
    fd = os.open(path, os.O_RDONLY)
    try:
        if LIBC.setns(fd, CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "setns " + path)
    finally:
        os.close(fd)


def need(*commands):
    for c in commands:
        if not shutil.which(c):
            raise Skip(f"{c} is not installed")


class Process:
    """A process in a namespace; what it writes goes into a file of the case's directory."""

    def __init__(self, case, ns, argv, name, stdin=None):
        self.case, self.argv, self.name = case, [str(a) for a in argv], name
        self.path = case.file(name + ".out")
        self.err_path = case.file(name + ".err")
        case.say(f"{ns.name}: {' '.join(self.argv)} &")
        with open(self.path, "wb") as out, open(self.err_path, "wb") as err:
            self.popen = subprocess.Popen(
                ["ip", "netns", "exec", ns.name] + self.argv, stdout=out, stderr=err, env=case.env,
                stdin=stdin or subprocess.DEVNULL)
        self.pid = self.popen.pid  # `ip netns exec` becomes the program

    def output(self):
        with open(self.path, errors="replace") as f:
            return f.read()

    def errors(self):
        with open(self.err_path, errors="replace") as f:
            return f.read()

    def json(self):
        """What it printed at its end: a JSON text, behind the line that said "ready" and any lines of progress."""
        text = self.output().replace("ready\n", "", 1)
        try:
            return json.loads(text)
        except ValueError as e:
            raise Failure(f"{self.name} printed no JSON: {text[-300:]!r} {self.errors()[-500:]!r}") from e

    def alive(self):
        return self.popen.poll() is None

    def ready(self, text="ready", seconds=10):
        def looks_ready():
            if not self.alive():
                raise Failure(f"{self.name} ended with {self.popen.returncode}: {self.errors()[-1500:]}")
            return text in self.output()
        self.case.wait(looks_ready, seconds, f"{self.name} to print {text!r}")
        return self

    def send(self, sig):
        if self.alive():
            self.popen.send_signal(sig)

    def wait(self, seconds=20):
        """Its exit status; a process that does not end in time is a failure."""
        try:
            return self.popen.wait(seconds * self.case.scale)
        except subprocess.TimeoutExpired as e:
            raise Failure(f"{self.name} did not end within {seconds * self.case.scale} s") from e

    def stop(self, sig=signal.SIGTERM, seconds=10):
        self.send(sig)
        return self.wait(seconds)

    def kill(self):
        self.send(signal.SIGKILL)
        return self.popen.wait()


class Namespace:
    """A network namespace of a case. As a context manager: this thread is in it."""

    def __init__(self, case, short):
        self.case, self.short = case, short
        self.name = f"arrd-{case.id}-{short}"
        self.path = "/run/netns/" + self.name
        case.shell(["ip", "netns", "add", self.name])
        self.sysctl({"net/ipv6/conf/default/accept_dad": 0, "net/ipv6/conf/all/accept_ra": 0,
                     "net/ipv6/conf/default/accept_ra": 0, "net/ipv6/conf/default/router_solicitations": 0,
                     "net/ipv4/ping_group_range": "0 2147483647"})
        self.ip("link set lo up")

    def remove(self):
        """Before its time: for cases that build a second network."""
        remove_namespaces([self.name])

    def __enter__(self):
        self.back = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        setns(self.path)
        return self

    def __exit__(self, *_):
        LIBC.setns(self.back, CLONE_NEWNET)
        os.close(self.back)

    def ip(self, *lines):
        """Commands of ip, such as "link set lo up"; several lines go as one batch."""
        if len(lines) == 1:
            return self.case.shell(["ip", "-n", self.name] + lines[0].split())
        return self.case.shell(["ip", "-n", self.name, "-batch", "-"], input="\n".join(lines) + "\n")

    def run(self, argv, seconds=20, ok=(0,), input=None):
        """Runs to the end; returns what it wrote to stdout. ok: the exit statuses expected, None: any."""
        if isinstance(argv, str):
            argv = argv.split()
        return self.case.shell(["ip", "netns", "exec", self.name] + [str(a) for a in argv], seconds, ok, input)

    def start(self, argv, name, **more):
        if isinstance(argv, str):
            argv = argv.split()
        return Process(self.case, self, argv, name, **more)

    def tool(self, tool, *args, name=None):
        """One of test/tools, in the background."""
        return self.start([self.case.tool(tool)] + [str(a) for a in args], name or tool)

    def socket(self, family, kind, proto=0):
        """A socket of this namespace, for use by the case itself."""
        with self:
            s = socket.socket(family, kind, proto)
        s.settimeout(3 * self.case.scale)
        return s

    def sysctl(self, values):
        with self:
            for name, value in values.items():
                with open("/proc/sys/" + name, "w") as f:
                    f.write(str(value))

    def get_sysctl(self, name):
        with self:
            with open("/proc/sys/" + name) as f:
                return f.read().strip()

    def sys_write(self, path, value):
        """A file below /sys, as this namespace sees it."""
        self.run(["sh", "-c", f"echo {value} >{path}"])

    def mac(self, dev):
        return json.loads(self.ip(f"-j link show dev {dev}"))[0]["address"]

    def no_offloads(self, dev):
        """What user-space peers without offloads need: no partial checksums, no super-packets."""
        self.run(f"ethtool -K {dev} tx off tso off gso off gro off")


class Case:
    """One running test case."""

    def __init__(self, name, build, directory, scale, quiet=False):
        self.name, self.build, self.dir, self.scale, self.quiet = name, os.path.abspath(build), directory, scale, quiet
        self.id = os.getpid()
        self.finishers, self.witnesses, self.remarks = [], [], []
        self.env = dict(os.environ, LC_ALL="C.UTF-8", PATH="/usr/sbin:/usr/bin:/sbin:/bin",
                        ASAN_OPTIONS=f"log_path={directory}/sanitizer:exitcode=99:detect_stack_use_after_return=1:check_printf=0",
                        UBSAN_OPTIONS=f"log_path={directory}/sanitizer:print_stacktrace=1",
                        LSAN_OPTIONS="exitcode=99")

    # ---- saying, running, waiting

    def say(self, text):
        if not self.quiet:
            print(f"{time.monotonic():.3f} {text}", flush=True)

    def remark(self, text):
        """A measured figure, shown beside the result of a case that passes."""
        self.say("remark: " + text)
        self.remarks.append(text)

    def shell(self, argv, seconds=20, ok=(0,), input=None):
        limit = seconds * self.scale
        self.say(" ".join(argv))
        try:
            r = subprocess.run(argv, capture_output=True, text=True, errors="replace", input=input, timeout=limit,
                               env=self.env, stdin=None if input is not None else subprocess.DEVNULL)
        except subprocess.TimeoutExpired as e:
            raise Failure(f"{' '.join(argv)}: not done within {limit} s") from e
        if ok is not None and r.returncode not in ok:
            raise Failure(f"{' '.join(argv)}: exit status {r.returncode}\n{r.stdout[-2000:]}{r.stderr[-2000:]}")
        self.last = r
        return r.stdout

    def wait(self, condition, seconds, what):
        """Until condition() gives something true, which is returned. Never longer than needed."""
        end = time.monotonic() + seconds * self.scale
        while True:
            got = condition()
            if got:
                return got
            if time.monotonic() > end:
                raise Failure(f"waited {seconds * self.scale} s in vain for {what}")
            time.sleep(POLL)

    def never(self, condition, seconds, what):
        """For what must not happen: watches for as long as it takes to be believed."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if condition():
                raise Failure(f"happened: {what}")
            time.sleep(POLL)

    def check(self, truth, message):
        if not truth:
            raise Failure(message)

    def equal(self, got, wanted, what):
        if got != wanted:
            raise Failure(f"{what}: {got!r}, expected {wanted!r}")

    # ---- things

    def file(self, name):
        """A path in the case's directory that is not there yet."""
        path, n = os.path.join(self.dir, name), 1
        while os.path.exists(path):
            n += 1
            path = os.path.join(self.dir, f"{name}.{n}")
        return path

    def tool(self, name):
        path = os.path.join(self.build, "tools", name)
        if not os.path.exists(path):
            raise Failure(f"{path} is not built: make tools")
        return path

    def ns(self, short):
        return Namespace(self, short)

    def veth(self, ns_a, dev_a, ns_b, dev_b):
        self.shell(["ip", "link", "add", dev_a, "netns", ns_a.name, "type", "veth", "peer", "name", dev_b, "netns",
                    ns_b.name])

    def at_end(self, check):
        """check() runs when the case's own function is through, the last one first, while all still stands."""
        self.finishers.append(check)

    def on_failure(self, tell):
        """tell() returns a text about the state of things, for the log of a case that failed."""
        self.witnesses.append(tell)

    def diagnose(self):
        for tell in self.witnesses:
            try:
                self.say("-- " + tell())
            except Exception as e:  # the failure itself matters more than what cannot be told of it
                self.say(f"-- {tell.__qualname__}: {e}")

    def finish(self):
        while self.finishers:
            self.finishers.pop()()
        reports = sorted(f for f in os.listdir(self.dir) if f.startswith("sanitizer"))
        if reports:
            with open(os.path.join(self.dir, reports[0]), errors="replace") as f:
                raise Failure(f"sanitizer report, {reports[0]}:\n{f.read()[:4000]}")


def remove_namespaces(names):
    """Ends every process in these namespaces, by its id, and removes them."""
    for n in names:
        for pid in subprocess.run(["ip", "netns", "pids", n], capture_output=True, text=True).stdout.split():
            if int(pid) != os.getpid():
                try:
                    os.kill(int(pid), signal.SIGKILL)
                except ProcessLookupError:
                    pass
    for n in names:
        subprocess.run(["ip", "netns", "del", n], capture_output=True)


def destroy(case_id):
    """Whatever a case left."""
    prefix = f"arrd-{case_id}-"
    remove_namespaces(sorted(n for n in (os.listdir("/run/netns") if os.path.isdir("/run/netns") else [])
                             if n.startswith(prefix)))
