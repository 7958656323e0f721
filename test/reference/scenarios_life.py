# SPDX-License-Identifier: GPL-2.0-or-later
"""scenarios_life.py - how connections begin and end, and begin once more on the same ports."""
import socket
import threading
import time

from corpus import ACK, FIN, SYN
from record import PORT, SERVER, both, close, read, read_end, reset, send, swallow, vanish
from scenarios import scenario, transfer

# ---- beginnings

@scenario()
def refused(r):
    for _ in range(2):
        a = r.client()
        try:
            a.connect((SERVER, PORT))
        except ConnectionRefusedError:
            pass
    r.settle()


@scenario()
def nobody_answers(r):
    r.rule(lambda s, half: "lose" if s.direction else None)
    a = r.client()
    a.settimeout(4)
    try:
        a.connect((SERVER, PORT))
    except TimeoutError:
        pass


@scenario()
def syn_lost(r):
    seen = []
    r.rule(lambda s, half: "lose" if half and s.flags & SYN and not seen.append(1) and len(seen) in (1, 3) else None)
    transfer(r, 5000)


@scenario()
def syn_answer_late(r):
    r.rule(lambda s, half: 1.4 if half == 0 and s.direction and s.flags & SYN else None)
    transfer(r, 5000)


@scenario()
def last_ack_of_handshake_lost(r):
    seen = []
    r.rule(lambda s, half: "lose" if half == 0 and not s.direction and not s.flags & SYN and not seen.append(1)
           and len(seen) < 3 else None)
    a, b = r.pair()
    send(b, a, 5000)
    close(r, a, b)


@scenario()
def given_up(r):
    r.legs(delay=0.1)
    r.listen()
    a = r.client()
    a.setblocking(False)
    a.connect_ex((SERVER, PORT))
    time.sleep(0.05)
    a.close()
    r.settle(0.5)


@scenario()
def simultaneous_open(r):
    for _ in range(2):
        r.legs(delay=0.1)
        a, b = r.client(), r.socket(1)
        b.bind((SERVER, PORT))
        for s, to in ((a, (SERVER, PORT)), (b, a.getsockname())):
            s.setblocking(False)
            s.connect_ex(to)
        r.settle(0.5)
        for s in (a, b):
            s.settimeout(10)
        send(a, b, 20000)
        send(b, a, 5000)
        close(r, a, b)
        r.legs(delay=0.1, loss=0.1)


@scenario()
def mid_stream(r):
    a, b = r.pair()
    for n in range(2):
        send(a, b, 5000)
        send(b, a, 5000)
        r.settle(0.1)
        r.middle.recorded.clear()
    both(a, b, 60000)
    close(r, a, b)


@scenario()
def mid_stream_download(r):
    r.legs(delay=0.02)
    a, b = r.pair()
    r.middle.recording = False
    send(b, a, 50000)
    r.settle(0.1)
    r.middle.recording = True
    send(a, b, 100)
    send(b, a, 200000)
    close(r, a, b)


@scenario()
def mid_stream_seen_from_the_server_first(r):
    a, b = r.pair()
    send(a, b, 5000)
    r.settle(0.1)
    r.middle.recorded.clear()
    send(b, a, 20000)
    send(a, b, 20000)
    close(r, a, b)


@scenario()
def mid_stream_bad_line(r):
    r.legs(delay=0.01, loss=0.05, jitter=0.01)
    a, b = r.pair()
    send(a, b, 20000)
    r.middle.recorded.clear()
    both(a, b, 40000)
    close(r, a, b)


# ---- ends

@scenario()
def half_closed_by_the_client(r):
    a, b = r.pair()
    send(a, b, 5000)
    a.shutdown(socket.SHUT_WR)
    read_end(b)
    send(b, a, 40000)
    close(r, b, a)


@scenario()
def half_closed_by_the_server(r):
    a, b = r.pair()
    b.shutdown(socket.SHUT_WR)
    read_end(a)
    send(a, b, 40000)
    close(r, a, b)


@scenario()
def simultaneous_close(r):
    r.legs(delay=0.05)
    a, b = r.pair()
    send(a, b, 1000)
    r.settle()
    close(r, a, b)


@scenario()
def end_lost(r):
    seen = []
    r.rule(lambda s, half: "lose" if half and s.flags & FIN and not seen.append(1) and len(seen) in (1, 2, 4) else None)
    a, b = r.pair()
    send(a, b, 3000)
    a.close()
    r.settle(0.5)
    b.close()
    r.settle(0.8)


@scenario()
def last_acks_lost(r):
    seen = []
    r.rule(lambda s, half: "lose" if half and not s.direction and seen and s.flags == ACK and not seen.append(1)
           and len(seen) < 4 else seen.append(1) if s.direction and s.flags & FIN and not seen else None)
    a, b = r.pair()
    send(b, a, 3000)
    b.close()
    time.sleep(0.1)
    a.close()
    r.settle(0.8)


@scenario()
def bad_line_to_the_end(r):
    for _ in range(6):
        r.legs()
        a, b = r.pair()
        r.legs(loss=0.15, jitter=0.01)
        a.sendall(bytes(3000))
        b.sendall(bytes(3000))
        read(b, 3000)
        read(a, 3000)
        a.close()
        b.close()
        r.settle(0.5, 4)


@scenario()
def reset_by_the_client(r):
    a, b = r.pair()
    send(a, b, 3000)
    reset(a)
    r.settle()


@scenario()
def reset_in_the_midst(r):
    r.legs(delay=0.02)
    a, b = r.pair()
    t = threading.Thread(target=swallow, args=(b.sendall, bytes(1000000)), daemon=True)
    t.start()
    read(a, 60000)
    reset(a)
    t.join()
    r.settle()


@scenario()
def reset_by_the_server(r):
    r.legs(delay=0.02)
    a, b = r.pair()
    t = threading.Thread(target=swallow, args=(a.sendall, bytes(1000000)), daemon=True)
    t.start()
    read(b, 60000)
    reset(b)
    t.join()
    r.settle()


@scenario()
def reset_reordered(r):
    r.legs(delay=0.01, jitter=0.02)
    for _ in range(4):
        a, b = r.pair()
        t = threading.Thread(target=swallow, args=(b.sendall, bytes(1000000)), daemon=True)
        t.start()
        read(a, 30000)
        reset(a)
        t.join()
        r.settle()


@scenario()
def closed_with_data_unread(r):
    a, b = r.pair()
    a.sendall(bytes(5000))
    r.settle(0.1)
    b.close()
    r.settle()
    swallow(a.sendall, b"x")
    r.settle()


@scenario()
def data_to_who_has_closed(r):
    a, b = r.pair()
    b.close()
    r.settle(0.1)
    a.sendall(bytes(5000))
    r.settle()
    a.close()
    r.settle()


@scenario()
def server_was_switched_off(r):
    a, b = r.pair()
    send(a, b, 1000)
    r.settle(0.1)
    vanish(b)
    a.sendall(bytes(500))
    r.settle()


@scenario()
def nobody_there_any_more(r):
    a, b = r.pair()
    send(a, b, 1000)
    r.rule(lambda s, half: "lose" if half else None)
    a.sendall(bytes(5000))
    time.sleep(4)


# ---- once more on the same ports

@scenario()
def time_wait_at_the_server(r):
    port = None
    for n in range(4):
        a, b = r.pair(port=port)
        port = a.getsockname()[1]
        send(a, b, 2000 + n)
        b.close()
        read_end(a)
        a.close()
        r.settle(0.1)


@scenario(sides=({"tcp_tw_reuse": 1}, {}))
def time_wait_at_the_client(r):
    port = None
    for n in range(3):
        a, b = r.pair(port=port)
        port = a.getsockname()[1]
        send(a, b, 2000 + n)
        a.close()
        read_end(b)
        b.close()
        r.settle(1.2)


@scenario(sysctl={"tcp_timestamps": 0})
def time_wait_without_timestamps(r):
    port = None
    for n in range(4):
        a, b = r.pair(port=port)
        port = a.getsockname()[1]
        send(b, a, 70000 + n)
        b.close()
        read_end(a)
        a.close()
        r.settle(0.1)


@scenario()
def again_after_a_reset(r):
    port = None
    for n in range(4):
        a, b = r.pair(port=port)
        port = a.getsockname()[1]
        send(a, b, 2000 + n)
        reset((a, b)[n % 2])
        r.settle(0.1)
        (b, a)[n % 2].close()


@scenario()
def client_was_switched_off(r):
    a, b = r.pair()
    port = a.getsockname()[1]
    send(a, b, 2000)
    r.settle(0.1)
    vanish(a)
    a, b2 = r.pair(port=port)
    send(a, b2, 2000)
    close(r, a, b2)


@scenario()
def both_were_switched_off(r):
    a, b = r.pair()
    port = a.getsockname()[1]
    send(a, b, 2000)
    send(b, a, 90000)
    r.settle(0.1)
    vanish(a)
    vanish(b)
    a, b = r.pair(port=port)
    send(a, b, 2000)
    send(b, a, 2000)
    close(r, a, b)


@scenario()
def both_were_switched_off_nobody_listens(r):
    a, b = r.pair()
    port = a.getsockname()[1]
    send(a, b, 2000)
    r.settle(0.1)
    vanish(a)
    vanish(b)
    r.listener.close()
    a = r.client(port=port)
    swallow(a.connect, (SERVER, PORT))
    r.settle()


@scenario()
def forgotten_by_all_but_the_server(r):
    """The client was switched off, and who is in the middle has seen nothing of the connection."""
    a, b = r.pair()
    port = a.getsockname()[1]
    send(a, b, 2000)
    r.settle(0.1)
    vanish(a)
    r.middle.recorded.clear()
    a, b2 = r.pair(port=port)
    send(a, b2, 2000)
    close(r, a, b2)


@scenario()
def begun_anew_before_the_answer(r):
    """The server has answered a SYN; the client has forgotten it, and the answer was lost."""
    r.listen()
    r.rule(lambda s, half: "lose" if half == 0 and s.direction else None)
    a = r.client()
    port = a.getsockname()[1]
    a.setblocking(False)
    swallow(a.connect, (SERVER, PORT))
    r.settle(0.1)
    a.close()
    r.middle.rules.clear()
    a, b = r.pair(port=port)
    send(a, b, 2000)
    close(r, a, b)
