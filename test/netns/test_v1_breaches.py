"""What the gateway does with those who break the protocol, or do not speak it at all: it says so and closes, and nobody
else notices.

      alice 192.0.2.2 --+
        bob 192.0.2.3 --+--[ switch ]--+-- gateway 192.0.2.1:443      inner 10.100.0.1/24
      carol 192.0.2.4 --+
"""

import contextlib
import os
import socket
import ssl
import struct
import time

import pytest

import packets
import penstock_v1
from lab import wait_for
from penstock_v1 import BINARY, CLOSE, TEXT, Closed
from plain import GATEWAY, answering, close_code, echo, succeeded
from programs import TOKENS


# --- breaches of the protocol ---------------------------------------------------------------------------------------


def test_a_packet_before_the_login_closes_with_1008(place):
    place.gateway()
    client = place.client()
    client.send_packet(packets.udp("10.100.0.2", GATEWAY, 5000, 6000, b"hello"))
    assert close_code(client) == 1008


@pytest.mark.parametrize("opcode", [TEXT, BINARY], ids=["text", "binary"])
def test_a_message_above_the_limit_closes_with_1009(place, opcode):
    place.gateway()
    member = place.member()
    member.sock.sendall(penstock_v1.frame(opcode, b" " * (1 << 20))[:2000])
    assert close_code(member) == 1009


def test_fragments_that_grow_above_the_limit_close_with_1009(place):
    place.gateway()
    member = place.member()
    with contextlib.suppress(OSError):
        member.send_frame(BINARY, b"x" * 60000, final=False)
        for _ in range(4):
            member.send_frame(0, b"x" * 60000, final=False)
    assert close_code(member) == 1009


@pytest.mark.parametrize("breach", [
    b"\x81\x02hi",                                    # not masked
    b"\xc1\x80\0\0\0\0",                              # a reserved bit
    b"\x83\x80\0\0\0\0",                              # a reserved opcode
    b"\x8b\x80\0\0\0\0",                              # a reserved control opcode
    b"\x09\x80\0\0\0\0",                              # a ping in fragments
    b"\x89\xfe\x00\x7e\0\0\0\0" + bytes(126),         # a ping longer than 125
    b"\x80\x80\0\0\0\0",                              # a continuation of nothing
    b"\x01\x80\0\0\0\0\x81\x80\0\0\0\0",              # a new message inside one
    b"\x82\xff" + b"\xff" * 8 + b"\0\0\0\0",          # a length with its highest bit set
    b"\x88\x81\0\0\0\0\x03",                          # a close with half a code
], ids=["unmasked", "reserved-bit", "opcode-3", "opcode-11", "fragmented-ping", "long-ping", "continuation",
        "interleaved", "length", "close-payload"])
def test_a_malformed_frame_closes_with_1002(place, breach):
    place.gateway()
    member = place.member()
    member.sock.sendall(breach)
    assert close_code(member) == 1002


@pytest.mark.parametrize("text", [b"\xff", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf5\x80\x80\x80", b"\xe2\x82"],
                         ids=["no-start", "overlong", "surrogate", "too-high", "cut-short"])
def test_text_that_is_no_utf8_closes_with_1007(place, text):
    place.gateway()
    member = place.member()
    member.send_frame(TEXT, b'{"type":"' + text + b'"}')
    assert close_code(member) == 1007


@pytest.mark.parametrize("text", [b"{", b"[]", b"17", b"null", b'{"type":7}', b"{}", b"[" * 5000, b""],
                         ids=["brace", "list", "number", "null", "type-7", "no-type", "deep", "empty"])
def test_text_that_is_no_control_message_harms_nobody(place, text):
    gateway = place.gateway()
    other, member = place.member(), place.member()
    member.send_frame(TEXT, text)
    with contextlib.suppress(Closed):
        assert member.receive_json()["type"] == "error"
    echo(other, GATEWAY)
    assert gateway.process.running()


def test_a_clients_close_is_answered_with_its_code(place):
    gateway = place.gateway()
    member = place.member()
    member.send_frame(CLOSE, struct.pack("!H", 1000) + b"done")
    assert close_code(member) == 1000
    wait_for(lambda: not (gateway.session(member.address) or {}).get("attached"), what="the link is gone")


# --- the door -------------------------------------------------------------------------------------------------------


def tls(place, maximum=None):
    """A TLS connection from alice, no WebSocket yet."""
    context = ssl.create_default_context(cafile=place.running.ca)
    if maximum:
        context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1, maximum
        context.set_ciphers("ALL:@SECLEVEL=0")
    with place.alice.entered():
        raw = socket.create_connection((place.gateway_host.ipv4, 443), timeout=5)
        return place.lab.closing(context.wrap_socket(raw, server_hostname=place.gateway_host.ipv4))


def read_all(sock):
    received = b""
    with contextlib.suppress(ssl.SSLEOFError, ConnectionResetError):
        while chunk := sock.recv(65536):
            received += chunk
    return received


@pytest.mark.parametrize("request_line", ["GET / HTTP/1.1", "GET /favicon.ico HTTP/1.1", "HEAD / HTTP/1.1",
                                          "POST / HTTP/1.1"])
def test_a_browser_gets_a_small_plain_404(place, request_line):
    place.gateway()
    browser = tls(place)
    browser.sendall(f"{request_line}\r\nHost: gateway.test\r\nUser-Agent: Mozilla/5.0\r\nAccept: text/html\r\n"
                    "Connection: close\r\n\r\n".encode())
    answer = read_all(browser)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 404 ")
    assert len(answer) < 1000
    assert b"penstock" not in answer.lower(), "it does not say what lives here"
    assert (body == b"") == request_line.startswith("HEAD")


def test_only_the_configured_path_is_a_door(place):
    gateway = place.gateway(server={"path": "/tunnel"})
    with pytest.raises(ConnectionError, match="404"):
        place.client()
    succeeded(gateway.plain_client(place.alice, path="/tunnel").login(TOKENS["alice"]))


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
def test_tls_1_2_is_enough_and_1_1_is_not(place):
    place.gateway()
    assert tls(place, ssl.TLSVersion.TLSv1_2).version() == "TLSv1.2"
    with pytest.raises((ssl.SSLError, ConnectionError)):
        tls(place, ssl.TLSVersion.TLSv1_1)


def test_noise_on_the_port_harms_nobody(place):
    gateway = place.gateway()
    member = place.member()
    for noise in (b"GET / HTTP/1.1\r\n\r\n", b"SSH-2.0-OpenSSH_9.2\r\n", bytes(4096), os.urandom(20000)):
        with place.alice.entered(), socket.create_connection((place.gateway_host.ipv4, 443), timeout=5) as visitor:
            with contextlib.suppress(OSError):
                visitor.sendall(noise)
                visitor.recv(100)
    echo(member, GATEWAY)
    assert gateway.process.running()


def test_who_has_not_logged_in_after_ten_seconds_is_closed(place):
    """One visitor stops after each step; all three wait at the same time."""
    gateway = place.gateway()
    member, begin = place.member(), time.monotonic()
    with place.alice.entered():
        silent = place.lab.closing(socket.create_connection((place.gateway_host.ipv4, 443), timeout=14))
    undecided, wordless = tls(place), place.client()
    undecided.settimeout(14)
    with answering(member):
        with contextlib.suppress(ConnectionResetError):
            assert silent.recv(1) == b""
        assert 8.0 < time.monotonic() - begin < 13.0
        read_all(undecided)
        close_code(wordless)
        assert time.monotonic() - begin < 14.0
    echo(member, GATEWAY)
    assert [s["address"] for s in gateway.status()["sessions"]] == [member.address]


def test_a_link_that_answers_no_ping_is_dead_after_the_link_timeout(place):
    gateway = place.gateway(session={"keepalive": "300ms", "link_timeout": "1s"})
    silent, alive = place.member("alice"), place.member("bob")
    with answering(alive):
        wait_for(lambda: not gateway.session(silent.address)["attached"], 5, "the silent link is detached")
        assert gateway.session(alive.address)["attached"]
    echo(alive, GATEWAY)
    assert gateway.status()["totals"]["links_lost"] >= 1
