# SPDX-License-Identifier: GPL-2.0-or-later
"""middle.py - a bad line between two hosts with real TCP, and a recorder in its midst.

        client: 10.0.0.2 -- tun0 -- leg 0 -- recorder -- leg 1 -- tun0 -- server: 10.9.0.2

Each leg loses, delays, reorders and duplicates by itself and in each direction: what is lost on the first leg the
recorder never sees, what is lost on the second it sees, and once more when it is sent again.
"""
import fcntl
import heapq
import os
import random
import select
import struct
import threading
import time

import packets
from corpus import Segment

CLIENT, SERVER = "10.0.0.2", "10.9.0.2"
TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 1, 0x1000


class Leg:
    """delay, jitter: seconds; what jitters may overtake. loss, twice: probabilities. held, hold: this share is held back for
    so long, and comes late."""

    def __init__(self, delay=0.001, jitter=0.0, loss=0.0, twice=0.0, held=0.0, hold=0.02):
        self.delay, self.jitter, self.loss, self.twice, self.held, self.hold = delay, jitter, loss, twice, held, hold


class Middle:
    def __init__(self, namespaces, seed):
        self.fds = [self.open_tun(ns) for ns in namespaces]
        self.legs = {(d, half): Leg() for d in (0, 1) for half in (0, 1)}
        self.rules = []  # rule(segment, half): "lose", seconds to hold it back, or None
        self.recorded, self.recording = [], True
        self.random = random.Random(seed)
        self.under_way, self.number = [], 0
        self.end, self.ack, self.window, self.ports = [0, 0], [0, 0], [0, 0], None
        self.lock = threading.RLock()
        self.wake, self.waker = os.pipe()
        self.stopped, self.last = False, time.monotonic()
        self.began = self.last
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    @staticmethod
    def open_tun(ns):
        with ns:
            fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
            fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", b"tun0", IFF_TUN | IFF_NO_PI))
        return fd

    def stop(self):
        self.stopped = True
        os.write(self.waker, b"x")
        self.thread.join()
        for fd in (*self.fds, self.wake, self.waker):
            os.close(fd)

    # ---- the line

    def run(self):
        while not self.stopped:
            with self.lock:
                wait = max(0, self.under_way[0][0] - time.monotonic()) if self.under_way else 1
            ready = select.select([*self.fds, self.wake], [], [], wait)[0]
            with self.lock:
                if self.wake in ready:
                    os.read(self.wake, 100)
                for d, fd in enumerate(self.fds):
                    if fd in ready:
                        self.take(d, fd)
                self.give()

    def take(self, d, fd):
        while True:
            try:
                data = os.read(fd, 65536)
            except BlockingIOError:
                return
            if data[0] >> 4 == 4 and data[9] == packets.TCP:
                self.enter(d, 0, data)

    def enter(self, d, half, data):
        """Onto a leg."""
        self.last = now = time.monotonic()
        leg, s = self.legs[d, half], Segment.read(0, d, data)
        late = leg.delay + self.random.random() * leg.jitter
        for rule in self.rules:
            what = rule(s, half)
            if what == "lose":
                return
            late += what or 0
        if self.random.random() < leg.loss:
            return
        if self.random.random() < leg.held:
            late += leg.hold
        for copy in range(1 + (self.random.random() < leg.twice)):
            self.number += 1
            heapq.heappush(self.under_way, (now + late * (1 + copy), self.number, d, half, data))

    def give(self):
        """Whatever has come to the end of a leg."""
        while self.under_way and self.under_way[0][0] <= time.monotonic():
            _, _, d, half, data = heapq.heappop(self.under_way)
            if half:
                self.last = time.monotonic()
                os.write(self.fds[1 - d], data)
                continue
            self.note(d, data)
            self.enter(d, 1, data)

    def note(self, d, data):
        s = Segment.read(int((time.monotonic() - self.began) * 1000), d, data)
        ports = struct.unpack("!HH", data[20:24])
        ports = ports if d == 0 else ports[::-1]
        if self.recording:
            self.recorded.append((ports, s))
        self.ports = ports
        if not s.flags & packets.RST:
            self.end[d], self.window[d] = s.end(), s.window
            if s.flags & packets.ACK:
                self.ack[d] = s.ack

    # ---- by hand

    def inject(self, d, flags, seq=0, ack=0, length=0, window=1000, options=b""):
        """A segment that neither end has sent, relative to what direction d would send next. It appears at the recorder."""
        with self.lock:
            s = Segment(0, d, flags, self.end[d] + seq, self.end[1 - d] + ack, window, length, options)
            data = s.packet(CLIENT, SERVER, *self.ports)
            before = list(self.end), list(self.ack), list(self.window)
            self.note(d, data)
            self.end, self.ack, self.window = before
            self.enter(d, 1, data)
            os.write(self.waker, b"x")

    def settle(self, quiet=0.25, most=20):
        """Until nothing has moved for a while."""
        until = time.monotonic() + most
        while time.monotonic() < until:
            with self.lock:
                if not self.under_way and time.monotonic() - self.last > quiet:
                    return
            time.sleep(0.01)
