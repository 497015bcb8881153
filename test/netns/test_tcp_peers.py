"""TCP through the gateway between peers of ours, that close half, reset, stall, dribble, refuse, or are not there at all.

See internet.py for who is where, and tcp_peers.py for the three kinds of client.
"""

import contextlib
import errno
import os
import select
import socket
import struct
import threading
import time

import pytest

from internet import OTHER, OTHER6, OUTER, OUTER6, ROUTER, ROUTER6, SERVER, SERVER6
from lab import wait_for
from lan import Stream
from tcp_peers import (MIB, SERVERS, begin_to_connect, connect, content, digest_of, digest_of_rest, listen, modes, passes,
                       reset, send_and_end, tcp_lan, why_not)
from test_hostile_peers import growing_less_than

INNER, INNER6 = "10.100.0.1", "fd00:100::1"
AT_ONCE = 1.0


def streams(lab, lan):
    """A connection of each client by each family."""
    for client in lan.clients:
        for address in SERVERS:
            yield Stream(lab, client.host, lan.internet.server, address)


@modes
def test_either_end_closes_its_half_and_hears_the_rest(lab, certificates, mode):
    lan = tcp_lan(lab, certificates, mode)
    for first in ("near", "far"):
        for size in (0, 1, 3 * MIB + 1):
            for stream in streams(lab, lan):
                ends = (stream.near, stream.far) if first == "near" else (stream.far, stream.near)
                assert passes(*ends, size), "what was said before the end, and the end"
                assert passes(*reversed(ends), 2 * MIB + 5, number=1), "the other half"


@modes
def test_both_ends_send_and_close_at_once(lab, certificates, mode):
    lan = tcp_lan(lab, certificates, mode)
    for stream in streams(lab, lan):
        threads = [send_and_end(sock, content(4 * MIB + 3, number)) for number, sock in
                   enumerate((stream.near, stream.far))]
        assert digest_of_rest(stream.far) == digest_of(content(4 * MIB + 3, 0))
        assert digest_of_rest(stream.near) == digest_of(content(4 * MIB + 3, 1))
        for thread in threads:
            thread.join()


@modes
def test_a_reset_by_either_end_is_one_at_the_other(lab, certificates, mode):
    lan = tcp_lan(lab, certificates, mode)
    for busy in (False, True):
        for stream in streams(lab, lan):
            reset_while(stream.far, stream.near, busy)
        for stream in streams(lab, lan):
            reset_while(stream.near, stream.far, busy)
    if mode == "userspace":
        lan.gateway.wait_status(lambda status: status["internet"]["flows"] == 0, "nothing is left of them")


def reset_while(breaker, other, busy):
    """`breaker` breaks off, in silence or in the middle of what it says; the other notices by reading and by writing."""
    if busy:
        breaker.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            for block in content(64 * MIB):
                breaker.send(block)
        other.recv(1000)
    reset(breaker)
    with pytest.raises(ConnectionResetError):
        while other.recv(MIB):
            pass
    with pytest.raises((BrokenPipeError, ConnectionResetError)):
        other.send(b"are you there?")
    other.close()


@modes
def test_who_closes_without_having_read_resets(lab, certificates, mode):
    lan = tcp_lan(lab, certificates, mode)
    for of_server in (True, False):
        for stream in streams(lab, lan):
            closer, other = (stream.far, stream.near) if of_server else (stream.near, stream.far)
            other.sendall(b"never read")
            wait_for(lambda: select.select([closer], [], [], 0)[0], what="it is there to be read")
            closer.close()
            with pytest.raises((BrokenPipeError, ConnectionResetError)):
                for _ in range(500):
                    other.send(b"more of it")
                    time.sleep(0.01)


def fill(sock, most):
    """Sends until nothing more is taken for a second; how much that was."""
    sock.setblocking(False)
    sent, blocks = 0, b"".join(content(most))
    while sent < most and select.select([], [sock], [], 1.0)[1]:
        with contextlib.suppress(BlockingIOError):
            sent += sock.send(memoryview(blocks)[sent:sent + MIB])
    sock.setblocking(True)
    sock.settimeout(20)
    return sent


@modes
@pytest.mark.parametrize("direction", ["up", "down"])
def test_who_does_not_read_stops_the_other_and_loses_nothing(lab, certificates, mode, direction):
    lan = tcp_lan(lab, certificates, mode, members=("alice", "carol"))
    most = 48 * MIB
    with growing_less_than(lan.gateway, 16 * MIB):
        for client, address in zip(lan.clients, SERVERS):
            stream = Stream(lab, client.host, lan.internet.server, address)
            sender, receiver = (stream.near, stream.far) if direction == "up" else (stream.far, stream.near)
            sent = fill(sender, most)
            assert sent < most, "nobody takes that much for somebody who does not read"
            rest = b"".join(content(most))[sent:]
            thread = send_and_end(sender, [rest])
            assert digest_of_rest(receiver) == digest_of(content(most))
            thread.join()


@modes
def test_bytes_that_come_one_by_one_arrive_in_order_both_ways(lab, certificates, mode):
    lan = tcp_lan(lab, certificates, mode)
    both = [sock for stream in streams(lab, lan) for sock in (stream.near, stream.far)]
    text = os.urandom(400)

    def dribble(sock):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in text:
            sock.sendall(bytes([byte]))
            time.sleep(0.001)
        sock.shutdown(socket.SHUT_WR)

    threads = [threading.Thread(target=dribble, args=[sock]) for sock in both]
    for thread in threads:
        thread.start()
    assert all(b"".join(iter(lambda: sock.recv(7), b"")) == text for sock in both)
    for thread in threads:
        thread.join()


@modes
def test_a_question_and_an_answer_by_turns_hundreds_of_times(lab, certificates, mode):
    """Neither end waits for more, or for an acknowledgement: 40 ms each would make it twelve seconds at least."""
    lan = tcp_lan(lab, certificates, mode)
    for stream in streams(lab, lan):
        for sock in (stream.near, stream.far):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        begin = time.monotonic()
        assert all(stream.exchange(b"question %d" % number) for number in range(300))
        assert time.monotonic() - begin < 10


@modes
def test_urgent_data_disturbs_nothing(lab, certificates, mode):
    lan = tcp_lan(lab, certificates, mode, members=("alice",))
    for stream in streams(lab, lan):
        for sender, receiver in ((stream.near, stream.far), (stream.far, stream.near)):
            receiver.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
            sender.sendall(b"before")
            sender.send(b"!", socket.MSG_OOB)
            sender.sendall(b"after")
            heard = b""
            while len(heard) < len(b"before!after"):
                heard += receiver.recv(100)
            assert heard == b"before!after"
        assert passes(stream.near, stream.far, MIB)


# --- what is not there ----------------------------------------------------------------------------------------------


def wall_off(router):
    """Addresses of the server's network that the router says something of, or nothing. Routes of these kinds would be
    silent as well once a few have asked."""
    rules = {50: ("reject with icmp type host-unreachable", "reject with icmpv6 type addr-unreachable"),
             51: ("reject with icmp type net-unreachable", "reject with icmpv6 type no-route"),
             52: ("reject with icmp type admin-prohibited", "reject with icmpv6 type admin-prohibited"),
             53: ("reject with icmp type port-unreachable", "reject with icmpv6 type port-unreachable"),
             54: ("drop", "drop")}
    lines = "\n".join(f"ip daddr 46.46.46.{number} {rule}\nip6 daddr 2a0f:46::{number} {rule6}"
                      for number, (rule, rule6) in rules.items())
    router.run("nft", "-f", "-", stdin=f"""
        table inet walls {{
          chain walls {{
            type filter hook forward priority 0;
            {lines}
          }}
        }}
        """)


def assert_told_at_once(host, address, port, whys):
    """Once in three times: a busy machine loses packets of its namespaces, and then a kernel asks again after a second."""
    for _ in range(3):
        why, seconds = why_not(host, address, port)
        assert why in whys, f"{host.name} to {address} port {port}: {os.strerror(why)}"
        if seconds < AT_ONCE:
            return
    raise AssertionError(f"{host.name} to {address} port {port}: after {seconds:.1f} s")


@modes
def test_what_is_refused_prohibited_or_unreachable_is_told_at_once_as_what_it_is(lab, certificates, mode):
    lan = tcp_lan(lab, certificates, mode, internet={"deny": [{"to": f"{SERVER}/32", "ports": ["tcp 7777"]}]})
    wall_off(lan.internet.router)
    for server in SERVERS:
        lan.clients[0].host.wait_ping(server)  # routers know their neighbours
    for_nobody = [begin_to_connect(lan.clients[0].host, nobody, 80) for nobody in ("46.46.46.99", "2a0f:46::99")]
    for client in lan.clients:
        for address, port, whys in (
                (SERVER, 7999, [errno.ECONNREFUSED]), (SERVER6, 7999, [errno.ECONNREFUSED]),
                ("46.46.46.50", 80, [errno.EHOSTUNREACH]), ("2a0f:46::50", 80, [errno.EHOSTUNREACH]),
                ("46.46.46.51", 80, [errno.ENETUNREACH]), ("2a0f:46::51", 80, [errno.ENETUNREACH]),
                ("46.46.46.52", 80, [errno.EHOSTUNREACH]), ("2a0f:46::52", 80, [errno.EACCES]),
                ("46.46.46.53", 80, [errno.ECONNREFUSED]), ("2a0f:46::53", 80, [errno.ECONNREFUSED]),
                (SERVER, 25, [errno.EHOSTUNREACH]), (SERVER6, 25, [errno.EACCES]),
                (SERVER, 7777, [errno.EHOSTUNREACH])):
            assert_told_at_once(client.host, address, port, whys)
    for sock in for_nobody:  # whom the router asks for in vain for a while
        assert select.select([], [sock], [], 10)[1], "it is told"
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.EHOSTUNREACH


@modes
def test_of_a_black_hole_nothing_is_heard(lab, certificates, mode):
    lan = tcp_lan(lab, certificates, mode)
    wall_off(lan.internet.router)
    waiting = [begin_to_connect(client.host, address, 80) for client in lan.clients
               for address in ("46.46.46.54", "2a0f:46::54")]
    with pytest.raises(TimeoutError):
        connect(lan.clients[0].host, "46.46.46.54", 80, timeout=3.0)
    assert select.select(waiting, waiting, waiting, 0) == ([], [], []), "neither a connection nor an error"
    assert lan.clients[0].host.ping(SERVER)


# --- from outside ---------------------------------------------------------------------------------------------------


@modes
def test_a_forwarded_port_leads_to_a_client_from_outside_and_from_inside(lab, certificates, mode):
    lan = tcp_lan(lab, certificates, mode, internet={
        "forward": ["tcp 5000 -> 10.100.0.3:6000", "tcp 5000 -> [fd00:100::3]:6000", "tcp 5001 -> 10.100.0.3:6001",
                    "tcp 5001 -> [fd00:100::3]:6001", "tcp 5002 -> 10.100.0.4:6000"],
        "allow": [f"{ROUTER}/32", f"{ROUTER6}/128"]})
    alice, bob, carol = (client.host for client in lan.clients)
    outside = lan.internet.server, lan.internet.router
    for host, outer, inner, port in ((bob, OUTER, "10.100.0.3", 5000), (bob, OUTER6, "fd00:100::3", 5000),
                                     (carol, OUTER, "10.100.0.4", 5002)):
        listener = listen(host, inner, 6000)
        for caller in (*outside, alice):
            near = connect(caller, outer, port)
            far, whom = listener.accept()
            lab.closing(far).settimeout(20)
            if caller is lan.internet.server:
                assert whom[0] in (*SERVERS, OTHER, OTHER6), "the client sees who asks"
            assert passes(near, far, 4 * MIB + 1) and passes(far, near, 4 * MIB + 1, number=1)
        listener.close()
    for caller in (*outside, alice):  # where nobody listens
        for outer in (OUTER, OUTER6):
            with pytest.raises((ConnectionRefusedError, ConnectionResetError)) as told:
                connect(caller, outer, 5001).recv(1)
            assert mode == "userspace" or told.type is ConnectionRefusedError


@modes
def test_a_connection_by_a_forwarded_port_is_reset_from_either_end(lab, certificates, mode):
    lan = tcp_lan(lab, certificates, mode, members=("alice",), internet={"forward": ["tcp 5000 -> 10.100.0.2:6000"]})
    listener = listen(lan.clients[0].host, "10.100.0.2", 6000)
    for by_client in (True, False):
        near = connect(lan.internet.server, OUTER, 5000)
        far = lab.closing(listener.accept()[0])
        far.settimeout(20)
        reset_while(*((far, near) if by_client else (near, far)), busy=True)


# --- the gateway itself ---------------------------------------------------------------------------------------------


@modes
def test_the_gateway_answers_questions_for_names_by_tcp(lab, certificates, mode):
    """Also several in one connection, and each with its length in pieces."""
    lan = tcp_lan(lab, certificates, mode)
    name = b"\x05alice\x08penstock\x08internal\0"
    for client in lan.clients:
        for inner in (INNER, INNER6):
            answer = client.host.run("dig", "+tcp", "+short", f"@{inner}", "alice.penstock.internal", "AAAA").stdout
            assert answer.split() == ["fd00:100::2"]
            sock = connect(client.host, inner, 53)
            queries = b"".join(struct.pack("!HHHHHHH", 16 + len(name), number, 0x0100, 1, 0, 0, 0) + name +
                               b"\0\x01\0\x01" for number in range(20))
            for piece in (queries[:1], queries[1:30], queries[30:]):
                sock.sendall(piece)
                time.sleep(0.02)
            heard, numbers = b"", set()
            while len(numbers) < 20:
                heard += sock.recv(65536)
                while len(heard) >= 2 and len(heard) >= 2 + int.from_bytes(heard[:2], "big"):
                    size = int.from_bytes(heard[:2], "big")
                    numbers.add(int.from_bytes(heard[2:4], "big"))
                    assert heard[2:2 + size].endswith(bytes([10, 100, 0, 2]))
                    heard = heard[2 + size:]
            sock.close()


@modes
def test_other_ports_of_the_gateway_are_closed_to_clients(lab, certificates, mode):
    lan = tcp_lan(lab, certificates, mode)
    for client in lan.clients:
        for inner in (INNER, INNER6):
            assert_told_at_once(client.host, inner, 81, [errno.ECONNREFUSED])
        assert_told_at_once(client.host, OUTER, 8443, [errno.EHOSTUNREACH])
        assert_told_at_once(client.host, OUTER6, 8443, [errno.EACCES])
