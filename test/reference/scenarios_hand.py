# SPDX-License-Identifier: GPL-2.0-or-later
"""scenarios_hand.py - segments that neither end has sent, and what the ends answer."""
import threading
import time

from corpus import ACK, FIN, PSH, RST, SYN
from record import PORT, SERVER, close, reset, send, swallow
from scenarios import scenario

# ---- by hand: what neither end has sent

@scenario()
def blind_resets(r):
    a, b = r.pair()
    send(a, b, 3000)
    send(b, a, 3000)
    r.settle(0.1)
    for d in (0, 1):
        for seq in (-1, -3001, -70000, 1, 1000, 30000, 1 << 20, 1 << 30, 1 << 31):
            r.inject(d, RST, seq=seq)
            r.inject(d, RST | ACK, seq=seq)
        send(a, b, 100)
        send(b, a, 100)
        r.settle(0.1)
    r.inject(1, RST)
    r.settle()
    swallow(b.sendall, b"x")
    r.settle()


@scenario()
def blind_syns(r):
    a, b = r.pair()
    send(a, b, 3000)
    send(b, a, 3000)
    r.settle(0.6)
    for d in (0, 1):
        for seq in (-1, -3002, 0, 1000, 1 << 20, 1 << 31):
            r.inject(d, SYN, seq=seq, options=b"\3\3\7")
            r.settle(0.6)  # challenges are limited to one each half a second
        send(a, b, 100)
        send(b, a, 100)
        r.settle(0.6)
    for d in (0, 1):
        for seq, ack in ((-1, 0), (0, 0), (-3102, -3100), (1000, 1000), (1 << 30, 1 << 30)):
            r.inject(d, SYN | ACK, seq=seq, ack=ack)
        send(a, b, 100)
        send(b, a, 100)
        r.settle(0.6)
    close(r, a, b)


@scenario()
def blind_data(r):
    a, b = r.pair()
    send(a, b, 3000)
    send(b, a, 3000)
    r.settle(0.1)
    for d in (0, 1):
        for seq, ack, n in ((-1, 0, 0), (-1, 0, 1), (-500, 0, 100), (-90000, 0, 100), (1 << 20, 0, 100), (1 << 30, 0, 100),
                            (1 << 31, 0, 100), (0, 1, 0), (0, 1000, 0), (0, 1 << 20, 0), (0, 1 << 30, 0), (0, -2000, 0),
                            (0, -65000, 0), (0, -67000, 0), (0, -90000, 0), (0, -(1 << 20), 100), (0, 1 << 31, 0),
                            (-100, -100, 100), (1 << 20, -90000, 10)):
            r.inject(d, ACK, seq=seq, ack=ack, length=n)
        send(a, b, 100)
        send(b, a, 100)
        r.settle(0.1)
    close(r, a, b)


@scenario()
def blind_ends(r):
    a, b = r.pair()
    send(a, b, 3000)
    send(b, a, 3000)
    r.settle(0.1)
    for d in (0, 1):
        for seq in (-1, -3000, 1 << 20, 1 << 30):
            r.inject(d, FIN | ACK, seq=seq)
        send(a, b, 100)
        send(b, a, 100)
        r.settle(0.1)
    close(r, a, b)


@scenario()
def odd_flags(r):
    a, b = r.pair()
    send(a, b, 3000)
    r.settle(0.1)
    for d in (0, 1):
        for flags in (0, FIN, PSH, SYN | FIN, SYN | RST, SYN | FIN | ACK, RST | FIN, FIN | PSH | 32, 255):
            r.inject(d, flags, seq=5000 if flags & RST else 0)
        send(a, b, 100)
        send(b, a, 100)
        r.settle(0.1)
    close(r, a, b)


@scenario()
def guesses_at_a_handshake(r):
    r.rule(lambda s, half: 0.6 if half == 0 and s.direction else None)
    r.listen()
    a = r.client()
    t = threading.Thread(target=a.connect, args=((SERVER, PORT),), daemon=True)
    t.start()
    time.sleep(0.1)
    r.middle.end[1] = 12345678
    for flags, ack in ((SYN | ACK, -1), (SYN | ACK, 1), (SYN | ACK, 1 << 20), (RST | ACK, 1), (RST | ACK, -1), (RST, 0),
                       (ACK, 5000), (ACK, -5000), (FIN | ACK, 0)):
        r.middle.inject(1, flags, ack=ack)
        time.sleep(0.02)
    t.join()
    b = r.accept()
    r.middle.rules.clear()
    send(a, b, 3000)
    close(r, a, b)


@scenario()
def after_the_end(r):
    for how in (lambda a, b: (a.close(), b.close()), lambda a, b: reset(a)):
        a, b = r.pair()
        send(a, b, 3000)
        send(b, a, 3000)
        r.settle(0.1)
        how(a, b)
        r.settle(0.1)
        for d in (0, 1):
            for flags, seq, n in ((ACK, 0, 0), (ACK, -1, 0), (ACK, 0, 100), (ACK, -1000, 500), (FIN | ACK, -1, 0), (RST, 0, 0),
                                  (RST, -1, 0), (SYN | ACK, 0, 0)):
                r.inject(d, flags, seq=seq, length=n)
    r.settle()


@scenario()
def strangers(r):
    """Segments of a connection that nobody knows."""
    r.listen()
    for flags in (SYN | ACK, ACK, FIN | ACK, RST, RST | ACK, FIN, 0, SYN | FIN, SYN | RST, PSH | ACK):
        for d in (0, 1):
            r.port += 1
            r.middle.ports, r.middle.end = (r.port, PORT), [1000000, 2000000]
            r.inject(d, flags, length=10 if flags & PSH else 0)
    r.settle()
