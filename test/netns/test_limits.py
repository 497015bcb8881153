"""What strangers and clients may take of a gateway, and that whoever is over a limit is told so, counted, and alone.

      alice 192.0.2.2 --+
        bob 192.0.2.3 --+--[ switch ]--+-- gateway 192.0.2.1:443      both in 2001:db8:77::/64

All clients are plain ones or bare sockets of this process.
"""

import contextlib
import re
import socket
import ssl
import time

import pytest

from lab import wait_for
from penstock_v1 import TEXT, frame
from plain import GATEWAY, close_code, echo, refused, succeeded
from programs import OK, TOKENS, penstock
from test_hostile_peers import MIB, QUIET, elapse, growing_less_than


@pytest.fixture
def bob(place):
    return place.lab.host("bob")


def connect(place, host=None, ipv6=False):
    """A connection that says nothing."""
    gateway = place.gateway_host
    with (host or place.alice).entered():
        address = gateway.ipv6 if ipv6 else gateway.ipv4
        return place.lab.closing(socket.create_connection((address, 443), timeout=5))


def is_closed(sock):
    sock.setblocking(False)
    try:
        return not sock.recv(1)
    except BlockingIOError:
        return False
    except OSError:
        return True


def closed_at_once(sock):
    with contextlib.suppress(AssertionError):
        wait_for(lambda: is_closed(sock), 1, "closed")
        return True
    return False


def upgraded(place, host=None, ipv6=False):
    """None if the upgrade was accepted, else the seconds of the Retry-After of its 429."""
    try:
        place.running.plain_client(host or place.alice, ipv6=ipv6).close()
        return None
    except ConnectionError as refusal:
        assert "HTTP/1.1 429 Too Many Requests" in str(refusal), refusal
        return int(re.search(r"\r\nRetry-After: (\d+)\r\n", str(refusal)).group(1))


def fail_login(place, host=None, ipv6=False):
    client = place.running.plain_client(host or place.alice, ipv6=ipv6)
    assert refused(client.login(TOKENS["wrong"])) == "invalid token"
    assert close_code(client) == 1008


def limit(place, name):
    return place.running.status()["limits"][name]


# --- failed logins --------------------------------------------------------------------------------------------------


def test_whoever_fails_too_often_is_told_to_wait_longer_each_time_and_others_are_not(place, bob):
    gateway = place.gateway(logging={"level": "info", "statistics_interval": "1s"})
    for _ in range(5):
        fail_login(place)
    assert upgraded(place) is None, "five are borne"
    waits = []
    for _ in range(3):
        fail_login(place)
        waits.append(upgraded(place))
        assert upgraded(place, bob) is None
        wait_for(lambda: limit(place, "addresses_blocked_now") == 0, 10, "the block is over", every=0.1)
    assert waits == [1, 2, 4]
    assert limit(place, "login_blocked") == 3
    succeeded(place.client().login(TOKENS["alice"]))
    gateway.process.wait_for_log(r"level=warn msg=\"?limits met\"? times=\"?.*login_blocked 1")
    shown = penstock("status", "--socket", gateway.status_socket)
    assert shown.returncode == OK and re.search(r"limits met:.*  login_blocked 3", shown.stdout), shown.stdout


def test_whoever_is_blocked_is_named_in_the_log_and_in_the_status(place, bob):
    gateway = place.gateway(logging={"level": "info"})
    for _ in range(6):
        fail_login(place, bob, ipv6=True)
    for failures in range(1, 10):
        wait_for(lambda: limit(place, "addresses_blocked_now") == 0, 10, "nobody waits", every=0.1)
        fail_login(place)
    blocked = limit(place, "blocked")
    assert [(entry["address"], entry["failures"]) for entry in blocked] == [(place.alice.ipv4, 9)]
    assert 0 < blocked[0]["seconds_left"] <= 8
    shown = penstock("status", "--socket", gateway.status_socket)
    assert re.search(rf"\n  address +waits +failed logins\n  {place.alice.ipv4} +[5-7]s +9\n", shown.stdout), shown.stdout
    blocked_line = 'level=warn msg="address blocked after failed logins" address='
    for line in (f"{place.alice.ipv4} for=1s failures=6", f"{place.alice.ipv4} for=8s failures=9",
                 "2001:db8:77::/64 for=1s failures=6"):
        assert blocked_line + line in gateway.log()


def test_all_addresses_of_one_ipv6_network_are_one(place, bob):
    place.gateway()
    for _ in range(6):
        fail_login(place, ipv6=True)
    assert upgraded(place, bob, ipv6=True) == 1
    assert upgraded(place, bob) is None


def test_failures_from_an_exempt_address_are_not_counted(place, bob):
    place.gateway(limits={"failed_logins": 1, "exempt": [f"{place.alice.ipv4}/32"]})
    for _ in range(10):
        fail_login(place)
    assert upgraded(place) is None
    fail_login(place, bob), fail_login(place, bob)
    assert upgraded(place, bob) == 1


# --- sessions -------------------------------------------------------------------------------------------------------


def test_a_token_has_so_many_sessions_and_whoever_has_one_may_resume_it(place):
    place.gateway(limits={"sessions_per_token": 2})
    first, second = place.member(), place.member()
    error = refused(place.client().login(TOKENS["alice"]))
    assert error == "too many sessions of this token (limits.sessions_per_token is 2)"
    assert place.member("bob").address
    first.close()
    wait_for(lambda: not place.running.session(first.address)["attached"], what="the first is away")
    assert refused(place.client().login(TOKENS["alice"])) == error
    back = place.client()
    back.address = succeeded(back.reconnect(TOKENS["alice"], first.address))["assigned_ip"]
    assert back.address == first.address
    assert limit(place, "sessions_per_token") == 2
    echo(back, GATEWAY), echo(second, GATEWAY)


# --- handshakes -----------------------------------------------------------------------------------------------------


def test_an_address_has_so_many_handshakes_under_way(place, bob):
    place.gateway(limits={"handshakes_per_address": 8})
    under_way = [connect(place) for _ in range(8)]
    assert closed_at_once(connect(place))
    assert not any(map(is_closed, under_way))
    assert not closed_at_once(connect(place, bob))
    assert limit(place, "handshakes_per_address") == 1
    under_way.pop().close()
    wait_for(lambda: limit(place, "handshakes_now") == 8, what="one of them has gone")
    place.member()


def test_an_address_begins_so_many_handshakes_a_second(place, bob):
    place.gateway(limits={"handshake_rate": 5})
    sockets = [connect(place) for _ in range(30)]
    wait_for(lambda: sum(map(is_closed, sockets)) == 20, what="ten at once, and the rest are too many")
    assert limit(place, "handshake_rate") == 20
    place.member("bob", bob)
    elapse(0.5)
    place.member()


def test_an_exempt_address_has_as_many_handshakes_as_it_likes(place):
    place.gateway(limits={"handshakes_per_address": 1, "handshake_rate": 1, "exempt": ["192.0.2.0/24"]})
    sockets = [connect(place) for _ in range(50)]
    wait_for(lambda: limit(place, "handshakes_now") == 50, what="all are under way")
    assert not any(map(is_closed, sockets))
    place.member()


def test_when_all_handshakes_are_taken_the_oldest_makes_room(place):
    place.gateway(limits={"handshakes": 20})
    member = place.member("bob")
    sockets = [connect(place) for _ in range(20)]
    wait_for(lambda: limit(place, "handshakes_now") == 20, what="all are under way")
    assert not any(map(is_closed, sockets))
    newcomer = place.member()
    assert closed_at_once(sockets[0])
    assert not any(map(is_closed, sockets[1:]))
    assert limit(place, "handshakes_full") == 1
    echo(newcomer, GATEWAY), echo(member, GATEWAY)


def test_two_thousand_connections_that_say_nothing_cost_next_to_nothing(place):
    gateway = place.gateway(limits={"exempt": ["192.0.2.0/24"]}, **QUIET)
    member = place.member()
    with growing_less_than(gateway, 3 * MIB):
        sockets = [connect(place) for _ in range(2000)]
        wait_for(lambda: limit(place, "handshakes_now") == 2000, what="all are there")
        echo(member, GATEWAY)
    for sock in sockets:
        sock.close()
    wait_for(lambda: limit(place, "handshakes_now") == 0, what="all are gone")


def test_a_client_hello_cut_in_pieces_is_waited_for_without_tls_and_one_too_long_is_not(place):
    gateway = place.gateway(limits={"exempt": ["192.0.2.0/24"]}, **QUIET)
    long = connect(place)
    long.sendall(b"\x16\x03\x01\x02\x00\x01\x02\x00\x00")
    assert closed_at_once(long)
    with growing_less_than(gateway, 5 * MIB):
        sockets = [connect(place) for _ in range(500)]
        for sock in sockets:
            sock.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc" + bytes(400))
        wait_for(lambda: limit(place, "handshakes_now") == 500, what="all are there")
        place.member()

    with place.alice.entered():
        context = ssl.create_default_context(cafile=gateway.ca)
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(incoming, outgoing, server_hostname=place.gateway_host.ipv4)
        slow = connect(place)
        with pytest.raises(ssl.SSLWantReadError):
            tls.do_handshake()
        slow.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in outgoing.read():
            slow.sendall(bytes([byte]))
        incoming.write(slow.recv(65536))
        tls.do_handshake()


# --- those who are in -----------------------------------------------------------------------------------------------


def test_a_member_that_asks_and_never_reads_is_thrown_out_and_counted(place):
    gateway = place.gateway(**QUIET)
    member, deaf = place.member("bob"), place.member()
    questions = frame(TEXT, b'{"type":"ping"}') * 1000
    begin = time.monotonic()
    with growing_less_than(gateway, 4 * MIB), pytest.raises((ConnectionError, ssl.SSLError, TimeoutError)):
        while time.monotonic() - begin < 20:
            deaf.sock.sendall(questions)
    wait_for(lambda: limit(place, "queue_messages") == 1, what="it is counted")
    echo(member, GATEWAY)


def test_a_flood_of_control_messages_delays_nobody_else(place):
    place.gateway(limits={"exempt": ["192.0.2.0/24"]}, **QUIET)
    member, flood = place.member("bob"), place.member()
    garbage = frame(TEXT, b'{"type":"pong"}') * 5000
    flood.sock.setblocking(False)
    slowest = 0.0
    for _ in range(100):
        with contextlib.suppress(ssl.SSLWantWriteError):
            while True:
                flood.sock.sendall(garbage)
        before = time.monotonic()
        echo(member, GATEWAY)
        slowest = max(slowest, time.monotonic() - before)
    assert slowest < 0.25, f"{slowest:.3f} s"
