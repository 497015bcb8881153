"""Plain clients send each other packets, and to the gateway: what is delivered, how, and what is dropped and counted.

      alice 192.0.2.2 --+
        bob 192.0.2.3 --+--[ switch ]--+-- gateway 192.0.2.1:443      inner 10.100.0.1/24
      carol 192.0.2.4 --+
"""

import contextlib
import os
import socket
import time

import pytest

import packets
import penstock_v1
from lan import Stream
from penstock_v1 import BINARY
from plain import GATEWAY, bridged, echo
from programs import Client


@pytest.mark.parametrize("loops", [1, 2])
@pytest.mark.parametrize("tun", ["on", "off"])
def test_packets_travel_between_two_plain_clients(place, tun, loops):
    place.gateway(tun, performance={"loops": loops})
    alice, bob = place.member("alice"), place.member("bob", host=place.lab.host("bob"))
    for sender, receiver in ((alice, bob), (bob, alice)):
        for size in (0, 1, 1000, 1392):
            data = os.urandom(size)
            sender.send_packet(packets.udp(sender.address, receiver.address, 5000, 6000, data))
            packet = packets.parse(receiver.receive_packet())
            assert (packet.source, packet.destination) == (sender.address, receiver.address)
            assert packets.parse_udp(packet) == (5000, 6000, data)


@pytest.mark.parametrize("tun", ["on", "off"])
def test_the_gateway_answers_ping_on_its_inner_address(place, tun):
    place.gateway(tun)
    member = place.member()
    for size in (0, 8, 1392):
        echo(member, GATEWAY, os.urandom(size))

# Codes of ICMP type 3 (RFC 792).
NETWORK_UNREACHABLE, HOST_UNREACHABLE = 0, 1


def test_what_is_outside_the_subnet_goes_to_the_gateways_kernel(place):
    gateway = place.gateway("on", internet={"mode": "off"})
    echo(place.member(), gateway.host.ipv4)


def test_what_the_gateways_kernel_sends_arrives_with_finished_checksums(place):
    """The kernel leaves checksums of what it writes to a TUN device to the device's reader."""
    gateway = place.gateway("on")
    member = place.member()
    with gateway.host.entered(), contextlib.closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as server:
        server.settimeout(5)
        server.bind((GATEWAY, 7))
        for size in (1, 2, 999, 1392):
            member.send_packet(packets.udp(member.address, GATEWAY, 5000, 7, b"q" * size))
            data, sender = server.recvfrom(2000)
            server.sendto(data[::-1], sender)
            assert packets.parse_udp(packets.parse(member.receive_packet())) == (7, 5000, b"q" * size)


def test_a_stream_from_the_gateways_kernel_reaches_a_plain_client_in_packets_no_larger_than_the_mtu(place):
    """The kernel hands out super-packets of up to 64 KiB, which a plain client must never see."""
    gateway = place.gateway("on")
    member = place.member()
    sizes = []
    with bridged(member, place.alice, sizes):
        assert Stream(place.lab, gateway.host, place.alice, member.address).transfer(8 << 20)
    assert max(sizes) <= 1420
    assert max(sizes) > 1300, "and they are filled"


def test_a_plain_client_and_a_penstock_client_reach_each_other(place):
    gateway = place.gateway()
    plain = place.member("alice")
    bob = Client(place.lab.host("bob"), gateway, "bob").start()
    with bob.host.entered(), contextlib.closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as at_bob:
        at_bob.settimeout(5)
        at_bob.bind(("10.100.0.3", 6000))
        plain.send_packet(packets.udp(plain.address, "10.100.0.3", 5000, 6000, b"hello"))
        data, sender = at_bob.recvfrom(2000)
        assert (data, sender) == (b"hello", (plain.address, 5000))
        at_bob.sendto(b"good day", sender)
        assert packets.parse_udp(packets.parse(plain.receive_packet())).data == b"good day"


def test_a_packet_with_another_source_is_dropped_and_counted(place):
    gateway = place.gateway()
    alice, bob = place.member("alice"), place.member("bob")
    for source in (bob.address, GATEWAY, "10.100.0.77", "192.0.2.2", "127.0.0.1", "0.0.0.0", "fd00::2"):
        target = bob.address if ":" not in source else "fd00::3"
        alice.send_packet(packets.udp(source, target, 5000, 6000, b"I am somebody else"))
    alice.send_packet(packets.udp(alice.address, bob.address, 5000, 6000, b"honest"))
    assert packets.parse_udp(packets.parse(bob.receive_packet())).data == b"honest"
    assert gateway.drops("spoofed_source") == 7


def test_packets_that_are_none_are_dropped_and_counted(place):
    gateway = place.gateway(logging={"statistics_interval": "1s"})
    member = place.member()
    good = packets.udp(member.address, GATEWAY, 5000, 6000, b"x" * 40)
    broken = [b"", b"\x45", good[:19], good[:-1], good + b"more", b"\x00" + good[1:], b"\x55" + good[1:],
              b"\x41" + good[1:], b"\x4f" + good[1:24], b"\x60" * 39, os.urandom(3)]
    for packet in broken:
        member.send_packet(packet)
    echo(member, GATEWAY)
    assert gateway.drops("malformed") == len(broken)
    gateway.process.wait_for_log(r'msg="packets dropped" .*malformed [1-9]')


def test_packets_to_nobody_are_dropped_and_counted(place):
    gateway = place.gateway(internet={"mode": "off"})
    member = place.member()
    member.send_packet(packets.udp(member.address, "10.100.0.99", 5000, 6000, b"?"))
    member.send_packet(packets.udp(member.address, "198.51.100.1", 5000, 6000, b"?"))
    for code in (HOST_UNREACHABLE, NETWORK_UNREACHABLE):
        told = packets.parse(member.receive_packet())
        assert (told.source, told.protocol, told.payload[0], told.payload[1]) == (GATEWAY, 1, 3, code)
    echo(member, GATEWAY)
    assert (gateway.drops("no_session"), gateway.drops("no_route")) == (1, 1)


def test_a_slow_reader_costs_bounded_memory_and_nobody_elses_time(place):
    gateway = place.gateway(session={"queue": "256KiB"}, logging={"level": "info"})
    slow, sender, other = place.member(), place.member(), place.member()
    echo(sender, GATEWAY)
    before = gateway.status()["process"]["resident_bytes"]
    packet = packets.udp(sender.address, slow.address, 5000, 6000, b"x" * 1300)
    frames = b"".join(penstock_v1.frame(BINARY, packet) for _ in range(100))
    for _ in range(300):
        sender.sock.sendall(frames)
    begin = time.monotonic()
    echo(other, GATEWAY)
    assert time.monotonic() - begin < 1.0
    echo(sender, GATEWAY)
    assert gateway.drops("queue_full") > 1000
    assert gateway.status()["process"]["resident_bytes"] - before < 24 << 20
