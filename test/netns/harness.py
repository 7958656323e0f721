# SPDX-License-Identifier: GPL-2.0-or-later
"""harness.py - finds the cases, runs each in a process and namespaces of its own, says what became of it.

A case is a function with @case in a file case_*.py. It takes a lab.Case, and its docstring begins with its
topology. It passes when it returns, and fails by an exception, when its time is over, when a gateway does not
end cleanly and without a trace, or when a sanitizer found something.
"""
import argparse
import fnmatch
import importlib
import json
import os
import select
import shutil
import signal
import sys
import tempfile
import time
import traceback

import lab

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
HARD = 15  # seconds that a case has beyond its limit, for collecting, before it is killed

cases = []


def case(limit=30, alone=False, needs=(), soak=False):
    """limit: seconds. alone: nothing else may run beside it. needs: commands without which it is skipped. soak: takes
    minutes, and is only run when --soak (make soak) or its whole name asks for it; other runs say that it was left out."""
    def register(function):
        topic = function.__module__.removeprefix("case_")
        cases.append({"name": f"{topic}.{function.__name__}", "function": function, "limit": limit, "alone": alone,
                      "needs": needs, "soak": soak})
        return function
    return register


def summary(function):
    """The first line of the docstring that is neither drawing nor blank."""
    lines = [line.strip() for line in (function.__doc__ or "").splitlines() if line and not line.startswith("        ")]
    return next((line for line in lines if line), "")


class Running:
    """A case under way, seen from the runner."""

    def __init__(self, entry, options, scale):
        self.entry, self.name = entry, entry["name"]
        self.dir = tempfile.mkdtemp(prefix="arrd-t-")
        self.began = time.monotonic()
        self.limit = entry["limit"] * scale
        self.reader, writer = os.pipe()
        sys.stdout.flush()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self.reader)
            os.setsid()
            result = run_case(entry, options, self.dir, scale, self.limit)
            os.write(writer, json.dumps(result).encode())
            os._exit(0)
        os.close(writer)

    def collect(self):
        """Called when the pipe has something, was closed, or time is over. Returns [status, message]."""
        if not select.select([self.reader], [], [], 0)[0]:
            os.kill(self.pid, signal.SIGKILL)
            got = b""
        else:
            got = b"".join(iter(lambda: os.read(self.reader, 65536), b""))
        os.close(self.reader)
        os.waitpid(self.pid, 0)
        lab.destroy(self.pid)
        return json.loads(got) if got else ["FAIL", f"hung, or died without a word; limit {self.limit} s"]

    def overdue(self):
        return time.monotonic() > self.began + self.limit + HARD


def run_case(entry, options, directory, scale, limit):
    """In the case's own process."""
    log = os.open(os.path.join(directory, "case.log"), os.O_WRONLY | os.O_CREAT, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)

    def too_long(*_):
        raise lab.Failure(f"took longer than its limit of {limit} s")
    signal.signal(signal.SIGALRM, too_long)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the runner decides
    c = lab.Case(entry["name"], options.build, directory, scale)
    try:
        lab.need(*entry["needs"])
        signal.alarm(int(limit))
        entry["function"](c)
        c.finish()
        return ["ok", "; ".join(c.remarks)]
    except lab.Skip as e:
        return ["SKIP", str(e)]
    except BaseException as e:  # whatever it is, it is told, and the runner cleans up
        signal.alarm(0)
        traceback.print_exc()
        sys.stderr.flush()
        c.diagnose()
        return ["FAIL", str(e) if isinstance(e, lab.Failure) else f"{type(e).__name__}: {e}"]


def tell_failure(r, message):
    for line in message.splitlines()[:25]:
        print("      " + line)
    for name in sorted(os.listdir(r.dir)):
        path = os.path.join(r.dir, name)
        if name.startswith("arrd") and name.endswith(".err") and os.path.getsize(path):
            print(f"      -- {name}, the end:")
            with open(path, errors="replace") as f:
                for line in f.read().splitlines()[-6:]:
                    print("      " + line)
    counted = [line for line in open(os.path.join(r.dir, "case.log"), errors="replace") if "-- drops: " in line]
    for line in counted:
        print("      " + line.strip())
    print(f"      everything of it: {r.dir}", flush=True)


def run_all(chosen, options):
    scale = options.scale or (4 if os.path.basename(os.path.normpath(options.build)) == "san" else 1)
    count, failures = {"ok": 0, "FAIL": 0, "SKIP": 0}, []
    # Those that run beside others first; then one after another.
    waiting = sorted(chosen, key=lambda e: (e["alone"] or options.jobs == 1, cases.index(e)))
    running = []
    try:
        while waiting or running:
            while waiting and len(running) < options.jobs:
                if running and (waiting[0]["alone"] or running[0].entry["alone"]):
                    break
                running.append(Running(waiting.pop(0), options, scale))
            ready = select.select([r.reader for r in running], [], [], 0.2)[0]
            for r in [r for r in running if r.reader in ready or r.overdue()]:
                running.remove(r)
                status, message = r.collect()
                count[status] += 1
                seconds = time.monotonic() - r.began
                print(f"{status:<5} {r.name:<44} {seconds:5.1f} s" + (f"  {message}" if status != "FAIL" and message else ""),
                      flush=True)
                if status == "FAIL":
                    tell_failure(r, message)
                    failures.append((r.name, message))
                if status != "FAIL" and not options.keep:
                    shutil.rmtree(r.dir)
    finally:
        for r in running:  # interrupted
            os.kill(r.pid, signal.SIGKILL)
            r.collect()
    return count, failures


def main():
    p = argparse.ArgumentParser(prog="test/netns/run", description="Runs the namespace tests; needs root.")
    p.add_argument("--list", action="store_true", help="name the cases and what each is about")
    p.add_argument("--show", action="store_true", help="with --list: the whole description, topology included")
    p.add_argument("-k", action="append", metavar="PATTERN", help="only cases whose name contains or matches PATTERN")
    p.add_argument("--build", default=os.path.join(ROOT, "build"), metavar="DIR",
                   help="where arrd and the tools are [build]")
    p.add_argument("-j", "--jobs", type=int, default=2, help="cases at a time, of those that may [2]")
    p.add_argument("--scale", type=float, help="multiply time limits by this [1; 4 for a sanitizer build]")
    p.add_argument("--allow-skip", action="store_true", help="a skipped case is no failure")
    p.add_argument("--soak", action="store_true", help="those that take minutes, and only these")
    p.add_argument("--keep", action="store_true", help="keep the directories of cases that passed, too")
    options = p.parse_args()
    for f in sorted(os.listdir(HERE)):
        if fnmatch.fnmatch(f, "case_*.py"):
            importlib.import_module(f[:-3])
    chosen = [e for e in cases if not options.k or any(k in e["name"] or fnmatch.fnmatch(e["name"], k)
                                                       for k in options.k)]
    left_out = [e["name"] for e in chosen if e["soak"] and not options.soak and e["name"] not in (options.k or ())]
    chosen = [e for e in chosen if e["name"] not in left_out and (e["soak"] or not options.soak)]
    if options.list:
        for e in chosen:
            print(f"{e['name']:<40} {summary(e['function'])}")
            if options.show:
                print(e["function"].__doc__)
        for name in left_out:
            print(f"{name:<40} (takes minutes: --soak)")
        return 0
    if os.geteuid() != 0:
        print("test/netns/run: must run as root, to make network namespaces", file=sys.stderr)
        return 2
    if not chosen:
        print("test/netns/run: no case of that name" + (f", but with --soak: {', '.join(left_out)}" if left_out else ""),
              file=sys.stderr)
        return 2
    began = time.monotonic()
    try:
        count, failures = run_all(chosen, options)
    except KeyboardInterrupt:
        print("interrupted")
        return 130
    if left_out:
        print(f"left to `make soak`: {', '.join(left_out)}")
    for name, message in failures:  # once more, where one looks first
        print(f"failed: {name}: " + "\n        ".join(message.splitlines()[:4]))
    print(f"in {time.monotonic() - began:.0f} s")
    print(f"{count['ok']} passed, {count['FAIL']} failed" + (f", {count['SKIP']} skipped" if count["SKIP"] else ""))
    return 1 if count["FAIL"] or (count["SKIP"] and not options.allow_skip) else 0
