# SPDX-License-Identifier: GPL-2.0-or-later
"""scenarios.py - what is recorded: conversations of the kernel's TCP with itself, over lines good and bad.

Of options, lines and windows here; more in scenarios_life.py and scenarios_hand.py.
"""
import socket
import threading
import time

from record import PORT, SERVER, both, close, read, send

SOL, TCP = socket.SOL_SOCKET, socket.IPPROTO_TCP
all_of_them = []


def scenario(**how):
    def register(function):
        all_of_them.append((function.__name__.replace("_", "-"), function, how))
        return function
    return register


def transfer(r, n=60000, **sockets):
    a, b = r.pair(**sockets)
    send(a, b, n)
    send(b, a, n // 3)
    close(r, a, b)


# ---- options

@scenario()
def plain(r):
    transfer(r, 150000)


@scenario(sysctl={"tcp_window_scaling": 0})
def no_scaling(r):
    transfer(r, 100000)


@scenario(sides=({"tcp_window_scaling": 0}, {}))
def client_does_not_scale(r):
    transfer(r)


@scenario(sides=({}, {"tcp_window_scaling": 0}))
def server_does_not_scale(r):
    transfer(r)


@scenario(sysctl={"tcp_sack": 0})
def no_sack(r):
    r.legs(loss=0.03)
    transfer(r)


@scenario(sysctl={"tcp_timestamps": 0})
def no_timestamps(r):
    r.legs(loss=0.02)
    transfer(r)


@scenario(sysctl={"tcp_timestamps": 0, "tcp_sack": 0, "tcp_window_scaling": 0})
def no_options(r):
    r.legs(loss=0.02)
    transfer(r)


@scenario(mtu=9000)
def large_windows(r):
    r.legs(delay=0.02)
    a, b = r.pair()
    send(a, b, 1500000)
    close(r, a, b)


@scenario(sysctl={"tcp_rmem": "4096 6000000 6000000"}, mtu=9000)
def largest_scale(r):
    r.legs(delay=0.01, loss=0.005)
    a, b = r.pair(client=[(SOL, 33, 4 << 20)], server=[(SOL, 33, 4 << 20)])
    both(a, b, 400000)
    close(r, a, b)


@scenario(mtu=576)
def small_segments(r):
    r.legs(loss=0.01, jitter=0.002)
    transfer(r, 40000)


@scenario(sysctl={"tcp_ecn": 1})
def ecn(r):
    transfer(r, 20000)


@scenario(sysctl={"tcp_fastopen": 0x207})
def data_in_the_syn(r):
    r.listen([(TCP, 23, 5)])  # TCP_FASTOPEN
    for n in (300, 5000):
        a = r.client()
        sent = a.sendto(bytes(n), 0x20000000, (SERVER, PORT))  # MSG_FASTOPEN
        b = r.accept()
        read(b, sent)
        send(a, b, n)
        send(b, a, 5000)
        close(r, a, b)


@scenario(sides=({}, {"tcp_syncookies": 2}))
def cookies(r):
    transfer(r, 10000)


# ---- the line

@scenario()
def light_loss(r):
    r.legs(loss=0.01)
    a, b = r.pair()
    both(a, b, 150000)
    close(r, a, b)


@scenario()
def loss(r):
    r.legs(loss=0.10)
    transfer(r)


@scenario()
def heavy_loss(r):
    r.legs(loss=0.14)
    transfer(r, 20000)


@scenario()
def reordering(r):
    r.legs(jitter=0.01)
    transfer(r, 150000)


@scenario()
def reordering_and_loss(r):
    r.legs(jitter=0.02, loss=0.03)
    a, b = r.pair()
    both(a, b, 80000)
    close(r, a, b)


@scenario(sysctl={"tcp_window_scaling": 0})
def reordering_no_scaling(r):
    r.legs(jitter=0.02, loss=0.01)
    a, b = r.pair()
    both(a, b, 80000)
    close(r, a, b)


@scenario()
def duplicates(r):
    r.legs(twice=0.2)
    transfer(r, 80000)


@scenario()
def late_duplicates(r):
    r.legs(delay=0.02, twice=0.1, held=0.05, hold=0.08)
    transfer(r, 100000)


@scenario(sysctl={"tcp_rmem": "4096 4096 4096", "tcp_wmem": "4096 4096 4096"})
def late_and_small_buffers(r):
    r.legs(delay=0.002, held=0.1, hold=0.15, twice=0.05)
    transfer(r, 40000)


@scenario()
def everything_bad(r):
    r.legs(loss=0.05, twice=0.05, jitter=0.03, held=0.02, hold=0.3)
    a, b = r.pair()
    both(a, b, 60000)
    close(r, a, b)


# ---- windows

@scenario()
def zero_window(r):
    a, b = r.pair(server=[(SOL, socket.SO_RCVBUF, 8192)])
    t = threading.Thread(target=a.sendall, args=(bytes(60000),), daemon=True)
    t.start()
    time.sleep(1.8)  # probes
    read(b, 60000)
    t.join()
    close(r, a, b)


@scenario()
def zero_window_and_loss(r):
    r.legs(loss=0.1)
    a, b = r.pair(server=[(SOL, socket.SO_RCVBUF, 4096)])
    t = threading.Thread(target=a.sendall, args=(bytes(20000),), daemon=True)
    t.start()
    for _ in range(20):
        time.sleep(0.1)
        read(b, 1000)
    t.join()
    close(r, a, b)


@scenario(sysctl={"tcp_rmem": "4096 4096 4096", "tcp_wmem": "4096 4096 4096"})
def small_buffers(r):
    a, b = r.pair()
    both(a, b, 15000)
    close(r, a, b)


@scenario()
def slow_reader(r):
    a, b = r.pair(server=[(SOL, socket.SO_RCVBUF, 16384)])
    t = threading.Thread(target=a.sendall, args=(bytes(100000),), daemon=True)
    t.start()
    for _ in range(50):
        time.sleep(0.01)
        read(b, 2000)
    t.join()
    close(r, a, b)


@scenario()
def chatter(r):
    a, b = r.pair(client=[(TCP, socket.TCP_NODELAY, 1)], server=[(TCP, socket.TCP_NODELAY, 1)])
    for n in (1, 2, 100, 1, 700, 1, 3):
        send(a, b, n)
        send(b, a, n)
    close(r, a, b)


@scenario()
def urgent(r):
    a, b = r.pair()
    a.send(b"x", socket.MSG_OOB)
    send(b, a, 100)
    close(r, a, b)


@scenario()
def keepalives(r):
    options = [(SOL, socket.SO_KEEPALIVE, 1), (TCP, socket.TCP_KEEPIDLE, 1), (TCP, socket.TCP_KEEPINTVL, 1)]
    a, b = r.pair(client=options)
    send(a, b, 100)
    time.sleep(3.3)
    send(b, a, 100)
    close(r, a, b)
