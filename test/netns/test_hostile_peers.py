"""Peers that mean harm, or are merely slow, greedy or cut short: they cost the gateway little and the others nothing.

      alice 192.0.2.2 --[ switch ]-- gateway 192.0.2.1:443      inner 10.100.0.1/24

All plain clients, whatever their tokens, are sockets of alice's.
What floods runs at log level info: a line for every frame would be a flood of its own.
"""

import contextlib
import os
import re
import socket
import ssl
import time

import pytest

import packets
from lab import meanwhile, wait_for
from lan import SUBNET6, Lan
from penstock_v1 import BINARY, PING, TEXT, frame
from plain import GATEWAY, answering, echo, succeeded
from programs import OK, TOKENS, Gateway, penstock, token_record

MIB = 1 << 20
QUIET = {"logging": {"level": "info"}}


class SlowLine:
    """A socket that is read at 2 MB/s at most and whose buffer does not grow to make up for that."""

    def __init__(self, sock):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        self._sock = sock

    def recv(self, size):
        time.sleep(0.008)  # the slowness itself is what is tried here
        return self._sock.recv(min(size, 16384))

    def __getattr__(self, name):
        return getattr(self._sock, name)


def flooding(client, frames, pause=0.0):
    """Meanwhile `client` sends `frames` again and again."""
    return meanwhile(lambda: client.sock.sendall(frames), pause)


def elapse(seconds):
    """Some moments are defined by time alone."""
    begin = time.monotonic()
    wait_for(lambda: time.monotonic() - begin >= seconds, seconds + 1)


# --- memory ---------------------------------------------------------------------------------------------------------


def memory(gateway):
    """Bytes of RAM that the gateway holds, and the most that it ever held."""
    with open(f"/proc/{gateway.process.pid}/status") as lines:
        found = dict(re.findall(r"^Vm(RSS|HWM):\s*(\d+) kB", lines.read(), re.MULTILINE))
    return int(found["RSS"]) * 1024, int(found["HWM"]) * 1024


@contextlib.contextmanager
def growing_less_than(gateway, limit):
    """The peak of the gateway's memory in here is at most `limit` bytes above what it held before."""
    before, _ = memory(gateway)
    yield
    _, peak = memory(gateway)
    grown = (peak - before) / MIB
    assert grown < limit / MIB, f"the gateway grew by {grown:.1f} MiB"


def test_a_stranger_that_reads_no_replies_and_then_floods_does_not_fill_the_memory(place):
    gateway = place.gateway(**QUIET)
    member, stranger = place.member(), place.client()
    garbage, flood = frame(TEXT, b"x") * 10000, frame(BINARY, bytes(60000)) * 16
    begin = time.monotonic()
    with growing_less_than(gateway, 16 * MIB):
        with pytest.raises((ConnectionError, ssl.SSLError)):  # it is thrown out
            for _ in range(40):
                stranger.sock.sendall(garbage)
            while time.monotonic() - begin < 15:
                stranger.sock.sendall(flood)
    echo(member, GATEWAY)


def test_tiny_packets_for_a_member_that_reads_nothing_fill_its_queue_but_not_the_memory(place):
    gateway = place.gateway(session={"queue": "1MiB", "queue_packets": 65536}, **QUIET)
    sender, deaf = place.member("alice"), place.member("bob")
    tiny = packets.udp(sender.address, deaf.address, 5000, 6000, b"")
    assert len(tiny) == 28

    def full():
        """So many were dropped that the kernel's buffers must be full too, and the queue has reached its 1 MiB."""
        return gateway.drops("queue_full") > 500_000 and gateway.session(deaf.address)["queue_bytes"] > 0.9 * MIB

    with growing_less_than(gateway, 8 * MIB), flooding(sender, frame(BINARY, tiny) * 2000):
        wait_for(full, 20, "the queue is full")
    echo(sender, GATEWAY)


# --- signs of life --------------------------------------------------------------------------------------------------


def test_a_ping_is_answered_while_the_way_back_is_saturated(place):
    gateway = place.gateway(**QUIET)
    sender, reader = place.member("alice"), place.member("bob")
    reader.sock = SlowLine(reader.sock)
    packet = packets.udp(sender.address, reader.address, 5000, 6000, bytes(1372))
    with flooding(sender, frame(BINARY, packet) * 8, pause=0.001):
        while gateway.drops("queue_full") == 0:
            reader.receive_packet()
        reader.send_frame(PING, b"still there?")
        assert reader.receive_pong(timeout=5.0) == b"still there?"
        dropped = gateway.drops("queue_full")
        reader.receive_packet()
        wait_for(lambda: gateway.drops("queue_full") > dropped, what="it was saturated all the time")


def test_two_that_claim_the_address_of_a_slow_but_living_link_both_get_others(place):
    """The second claim comes while the gateway still waits for the answer to the first one's probe."""
    gateway = place.gateway()
    living, first, second = place.member(), place.client(), place.client()
    claim = {"type": "reconnect", "token": TOKENS["alice"], "previous_ip": living.address}
    first.send_json(claim)
    elapse(0.1)
    second.send_json(claim)
    elapse(0.5)  # what a ping takes on a bad line
    with answering(living):
        given = [succeeded(claimant.receive_json())["assigned_ip"] for claimant in (first, second)]
    assert sorted(given) == ["10.100.0.3", "10.100.0.4"] and living.address == "10.100.0.2"
    assert gateway.session(living.address)["attached"]
    echo(living, GATEWAY)


# --- logins ---------------------------------------------------------------------------------------------------------


def test_a_ping_while_the_login_waits_for_a_probe_is_answered_and_ends_nothing(place):
    place.gateway()
    slow, claimant = place.member(), place.client()
    claimant.send_json({"type": "reconnect", "token": TOKENS["alice"], "previous_ip": slow.address})
    claimant.send_json({"type": "ping"})
    assert claimant.receive_json()["type"] == "pong"
    with answering(slow):
        claimant.address = succeeded(claimant.receive_json())["assigned_ip"]
    assert (slow.address, claimant.address) == ("10.100.0.2", "10.100.0.3")
    echo(claimant, GATEWAY), echo(slow, GATEWAY)


def test_a_second_login_while_the_first_waits_for_a_probe_ends_both_and_holds_no_session(place):
    gateway = place.gateway()
    silent, hasty = place.member(), place.client()
    hasty.send_json({"type": "reconnect", "token": TOKENS["alice"], "previous_ip": silent.address})
    hasty.send_json({"type": "auth", "token": TOKENS["alice"]})
    answer = hasty.receive_json()
    assert (answer["success"], answer["error"]) == (False, "one login at a time")
    wait_for(lambda: not gateway.session(silent.address)["attached"], what="the session that was won by nobody waits")
    assert len(gateway.status()["sessions"]) == 1


@pytest.mark.skipif(not os.environ.get("PENSTOCK_DEEP"), reason="takes 11 seconds: set PENSTOCK_DEEP=1 to run it")
def test_a_reconnect_just_before_the_login_deadline_is_admitted_although_its_probe_ends_after_it(place):
    gateway = place.gateway()
    silent, late = place.member(), place.client()
    elapse(9.0)  # of 10; the silent one's probe takes 2
    late.address = succeeded(late.reconnect(TOKENS["alice"], silent.address))["assigned_ip"]
    assert late.address == silent.address
    assert gateway.session(late.address)["attached"]
    echo(late, GATEWAY)


@pytest.mark.parametrize("name", ["a" * 63 + "é", "a" * 62 + "€", "a" * 61 + "😀", "😀" * 20, "a\nb\0c"],
                         ids=["two-bytes", "three-bytes", "four-bytes", "many", "control"])
def test_a_client_name_that_does_not_fit_is_shown_as_plain_text(place, name):
    gateway = place.gateway()
    member = place.member(client=name)
    shown = gateway.session(member.address)["software"]
    assert 0 < len(shown) <= 64 and shown.isascii() and shown.isprintable()
    assert shown in gateway.process.log_path.read_text(encoding="utf-8", errors="strict")
    echo(member, GATEWAY)


# --- addresses ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [("alice", "bob"), ("bob", "alice")], ids=["ipv4-first", "ipv6-first"])
def test_a_fixed_ipv6_address_is_never_the_partner_of_somebody_elses_ipv4_address(place, order):
    gateway = place.gateway(vpn={"subnet6": "fd00::/64"}, auth={"tokens": [
        token_record("alice", address="10.100.0.5"), token_record("bob", address6="fd00::5")]})
    members = {name: place.member(name, client="test") for name in order}
    sessions = {name: gateway.session(member.address) for name, member in members.items()}
    assert sessions["alice"]["address"] == "10.100.0.5"
    assert sessions["bob"]["address6"] == "fd00::5"
    assert sessions["alice"]["address6"] != "fd00::5"
    for member in members.values():
        echo(member, GATEWAY)


@pytest.mark.parametrize("address", ["10.100.0.0", "10.100.0.255", "10.100.0.1", "10.100.1.2"],
                         ids=["network", "broadcast", "gateway", "outside"])
def test_a_profile_with_an_address_that_no_client_can_have_is_refused(lab, certificates, address):
    gateway = Gateway(lab.host("gateway"), certificates, server={"public_url": "wss://192.0.2.1/"})
    done = penstock("profile", "carol", "--config", gateway.config_path, "--address", address)
    assert done.returncode != OK and done.stdout == ""
    assert f"--address {address}" in done.stderr and "10.100.0.0/24" in done.stderr
    assert "carol" not in penstock("token", "list", "--config", gateway.config_path).stdout


def test_a_client_whose_mtu_is_too_small_for_ipv6_has_ipv4_and_one_session(lab, certificates):
    lan = Lan(lab, certificates, members=("alice",), vpn={"subnet6": SUBNET6}, client_settings={"vpn": {"mtu": 1000}})
    alice = lan.clients[0]
    alice.host.wait_ping("10.100.0.1")
    alice.process.wait_for_log(r"level=warn .*IPv6.* mtu=1000")
    assert alice.host.mtu("VPN") == 1000
    assert alice.host.addresses("VPN") == {"10.100.0.2"}
    assert [session["address"] for session in lan.gateway.status()["sessions"]] == ["10.100.0.2"]
    assert lan.gateway.status()["totals"]["sessions_created"] == 1
