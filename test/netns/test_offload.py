"""What is left to kernels, at one end, at both or at none: the same bytes arrive, and no wire sees anything unfinished.

      alice 192.0.2.2 --+--[ switch ]-- gateway 192.0.2.1 --wire-- beyond 198.51.100.2, 2001:db8:99::2
        bob 192.0.2.3 --+

Inside 10.100.0.0/24 and fd00:100::/64. The gateway's machine forwards from its TUN device to the wire, a veth that
computes no checksum and cuts nothing, as if it were copper. What comes out of it at the other end is what was put in:
a kernel that gets a packet from a TUN device itself would believe that its checksum is going to be right.
"""

import contextlib
import ctypes
import fcntl
import os
import socket
import struct

import pytest

import packets
from lab import ip, merged
from lan import SUBNET6, Lan, Stream, inner_addresses
from programs import Client, token_record

MIB = 1 << 20
MTU = 1420
GATEWAY = "10.100.0.1"
QUIET = {"logging": {"level": "info"}}
BEYOND, BEYOND6 = "198.51.100.2", "2001:db8:99::2"
PREFIXES = ["198.51.100.0/24", "2001:db8:99::/64"]

# Linux: if_packet.h, socket.h, udp.h, sockios.h, ethtool.h
ETH_P_ALL, SOL_PACKET, PACKET_STATISTICS, PACKET_OUTGOING, SO_RCVBUFFORCE, UDP_SEGMENT = 3, 263, 6, 4, 33, 103
SIOCETHTOOL, SCSUM = 0x8946, 0x17
CUTTING = {"tso": 0x1F, "gso": 0x24, "gro": 0x2C}

# (the gateway's vpn.offload, what the clients' config says)
WHOLE, APART, PLAIN = {"vpn": {"offload": "auto"}}, {"vpn": {"offload": "off"}}, {"server": {"protocol": "v1"}}
ENDS = [("auto", WHOLE), ("auto", APART), ("off", WHOLE), ("off", APART), ("auto", PLAIN), ("off", PLAIN)]
NAMES = ["auto-auto", "auto-off", "off-auto", "off-off", "auto-v1", "off-v1"]

ends = pytest.mark.parametrize("ends", ENDS, ids=NAMES)


def connected(lab, certificates, ends):
    offload, settings = ends
    own = merged(settings, {"vpn": {"routes": PREFIXES}, **QUIET})
    return Lan(lab, certificates, internet={"mode": "off"}, vpn={"subnet6": SUBNET6, "offload": offload}, client_settings=own, **QUIET)


def exact(host, address, to_host, to_address, size=2 * MIB, port=9000):
    """One transfer each way, of content that is compared."""
    for near, far, target in ((host, to_host, to_address), (to_host, host, address)):
        assert Stream(host.lab, near, far, target, port).transfer(size), f"from {near.name} to {target}"


def both_families(program, other):
    """(address, other's address) of each family."""
    return list(zip(inner_addresses(program), inner_addresses(other), strict=True))


# --- datagrams ------------------------------------------------------------------------------------------------------


def datagram_socket(host, address, port=0):
    with host.entered():
        sock = host.lab.closing(socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM))
    sock.settimeout(5)
    sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 16 * MIB)
    sock.bind((address, port))
    return sock


def exchange_datagrams(host, address, to_host, to_address):
    """Datagrams of many sizes there and back one by one, then a run that the kernel may hand over in one piece."""
    near, far = datagram_socket(host, address), datagram_socket(to_host, to_address)
    for size in (0, 1, 2, 3, 999, 1000, MTU - 49, MTU - 48, MTU - 28, MTU - 27, 4000, 20001):
        data = os.urandom(size)
        near.sendto(data, far.getsockname()[:2])
        received, sender = far.recvfrom(65536)
        assert (received == data, sender[:2]) == (True, near.getsockname()[:2]), size
        far.sendto(data[::-1], sender)
        assert near.recv(65536) == data[::-1], size
    for sender, receiver in ((near, far), (far, near)):
        sender.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, 1001)
        data = os.urandom(20 * 1001 + 77)
        sender.sendto(data, receiver.getsockname()[:2])
        pieces = [receiver.recv(65536) for _ in range(21)]
        assert b"".join(pieces) == data and [len(piece) for piece in pieces] == [1001] * 20 + [77]


def pings_of_all_sizes(host, address):
    header = 48 if ":" in address else 28
    for size in (0, 1, 16, 56, 999, MTU - header - 1, MTU - header, MTU - header + 1, 5000, 30000):
        answer = host.run("ping", "-n", "-c1", "-W3", f"-s{size}", address, check=False).stdout
        assert f"{size + 8} bytes from {address}" in answer, answer
    for number, received in ((MTU - header, "1 received"), (MTU - header + 1, "0 received")):
        answer = host.run("ping", "-n", "-c1", "-W1", "-Mdo", f"-s{number}", address, check=False).stdout
        assert received in answer, answer


# --- inside ---------------------------------------------------------------------------------------------------------


@ends
def test_streams_arrive_byte_by_byte(lab, certificates, ends):
    lan = connected(lab, certificates, ends)
    (alice, bob), gateway = lan, lan.gateway
    alice.host.wait_ping(GATEWAY)
    for mine, theirs in both_families(alice, gateway):
        exact(alice.host, mine, gateway.host, theirs)
    for mine, theirs in both_families(alice, bob):
        exact(alice.host, mine, bob.host, theirs)


@ends
def test_pings_and_datagrams_of_all_sizes_arrive(lab, certificates, ends):
    lan = connected(lab, certificates, ends)
    (alice, bob), gateway = lan, lan.gateway
    alice.host.wait_ping(GATEWAY)
    for other in (gateway, bob):
        for mine, theirs in both_families(alice, other):
            pings_of_all_sizes(alice.host, theirs)
            exchange_datagrams(alice.host, mine, other.host, theirs)
    drops = gateway.status()["drops"]
    assert drops["malformed"] == drops["interface_refused"] == 0


@pytest.mark.parametrize("offload", ["auto", "gso", "uso", "off"])
def test_clients_of_all_kinds_reach_each_other_by_one_gateway(lab, certificates, offload):
    lan = Lan(lab, certificates, members=(), vpn={"subnet6": SUBNET6, "offload": offload}, **QUIET,
              auth={"tokens": [token_record(name) for name in ("alice", "bob", "carol", "dave")]})
    kinds = {"alice": WHOLE, "bob": APART, "carol": PLAIN, "dave": {"vpn": {"offload": "gso"}}}
    alice, bob, carol, dave = (Client(lab.host(name), lan.gateway, name, **settings, **QUIET).start()
                               for name, settings in kinds.items())
    alice.host.wait_ping(GATEWAY)
    for one, other in ((alice, bob), (bob, carol), (carol, alice), (dave, alice), (carol, dave)):
        for mine, theirs in both_families(one, other):
            exact(one.host, mine, other.host, theirs, size=MIB)
            exchange_datagrams(one.host, mine, other.host, theirs)


# --- on a wire ------------------------------------------------------------------------------------------------------


def switch_off(host, interface, command):
    """Switches a feature of `interface` off, as ethtool does."""
    with host.entered(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        value = ctypes.create_string_buffer(struct.pack("II", command, 0))
        fcntl.ioctl(asking, SIOCETHTOOL, struct.pack("16sP16x", interface.encode(), ctypes.addressof(value)))


def beyond(gateway, as_copper=True):
    """A host at the other end of a wire to the gateway's machine, which forwards there."""
    host = gateway.lab.host("beyond", ipv4=False, ipv6=False)
    ip("-n", gateway.namespace, "link", "add", "wire", "type", "veth", "peer", "name", "wire", "netns", host.namespace)
    for end, number in ((gateway, 1), (host, 2)):
        ip("-n", end.namespace, "address", "add", f"198.51.100.{number}/24", "dev", "wire")
        ip("-n", end.namespace, "address", "add", f"2001:db8:99::{number}/64", "dev", "wire", "nodad")
        for command in [*CUTTING.values(), SCSUM] * as_copper:  # first what needs the checksums
            switch_off(end, "wire", command)
        ip("-n", end.namespace, "link", "set", "wire", "mtu", str(MTU), "up")  # as inside: no datagram has to find out
    ip("-n", host.namespace, "route", "add", "10.100.0.0/24", "via", "198.51.100.1")
    ip("-n", host.namespace, "-6", "route", "add", "fd00:100::/64", "via", "2001:db8:99::1")
    gateway.run("sysctl", "-q", "-w", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
    return host


class Capture:
    """What comes in by an interface from now on, IP packets as they were on the wire, and not one of them missed."""

    def __init__(self, host, interface):
        with host.entered():
            self._sock = host.lab.closing(socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0))
        self._sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 256 * MIB)
        with host.entered():
            self._sock.bind((interface, ETH_P_ALL))
        self._sock.setblocking(False)

    def take(self):
        """The IP packets that have come in. They are here before those that they are for get to see them."""
        found = []
        with contextlib.suppress(BlockingIOError):
            while True:
                packet, (_, _, kind, _, _) = self._sock.recvfrom(1 << 17)
                if kind != PACKET_OUTGOING and packet[0] >> 4 in (4, 6):
                    found.append(packet)
        statistics = self._sock.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8)
        assert struct.unpack("II", statistics)[1] == 0, "the capture lost packets"
        return found


def without_fragments(captured):
    """What was captured, with fragments put together; those that lack a part are an AssertionError."""
    waiting = {}
    for packet in captured:
        if packet[0] >> 4 == 4:
            header, (ident, field) = (packet[0] & 0xF) * 4, struct.unpack("!HH", packet[4:8])
            assert packets.checksum(packet[:header]) == 0, "wrong IPv4 header checksum"
            more, offset, protocol, data = field & 0x2000, (field & 0x1FFF) * 8, packet[9], packet[header:]
            ends, fragment = (packet[12:16], packet[16:20]), field & 0x3FFF
        else:
            protocol, data, ends, fragment = packet[6], packet[40:], (packet[8:24], packet[24:40]), packet[6] == 44
            if fragment:
                protocol, field, ident = struct.unpack("!BxHI", data[:8])
                more, offset, data = field & 1, field & 0xFFF8, data[8:]
        if not fragment:
            yield packet
            continue
        parts = waiting.setdefault((ends, protocol, ident), {})
        parts[offset] = (data, more)
        ordered = sorted(parts.items())
        whole = b"".join(part for _, (part, _) in ordered)
        if not ordered[-1][1][1] and ordered[-1][0] + len(ordered[-1][1][0]) == len(whole):
            del waiting[ends, protocol, ident]
            source, destination = (socket.inet_ntop(socket.AF_INET if len(end) == 4 else socket.AF_INET6, end)
                                   for end in ends)
            yield packets.ip(source, destination, protocol, whole)
    assert not waiting


def verify(captured, *sources):
    """Each packet is as it has to be on a wire; how many there were of each protocol from `sources`."""
    assert max(map(len, captured)) <= MTU, "larger than the sender's interface takes"
    counts = {}
    for packet in without_fragments(captured):
        if packet[0] >> 4 == 6 and packet[6] == 0:
            continue  # a report about groups, behind an extension header
        parsed = packets.parse(packet)
        if parsed.source in sources:
            counts[parsed.protocol] = counts.get(parsed.protocol, 0) + 1
            if parsed.protocol == packets.UDP and parsed.version == 4:
                assert parsed.payload[6:8] != bytes(2), "the sender's kernel had put one in"
    return counts


@ends
def test_what_the_gateways_machine_forwards_is_cut_and_finished(lab, certificates, ends):
    lan = connected(lab, certificates, ends)
    alice, gateway = lan.clients[0], lan.gateway.host
    other = beyond(gateway)
    for address, far in zip(inner_addresses(alice), (BEYOND, BEYOND6), strict=True):
        alice.host.wait_ping(far)
        wire, tun = Capture(other, "wire"), Capture(gateway, "tun0")
        exact(alice.host, address, other, far)
        counts = verify(wire.take(), address)
        assert counts[packets.TCP] >= 2 * MIB / (MTU - 40)
        handed_over = max(map(len, tun.take()))
        assert (handed_over > MTU) == (ends[0] == "auto"), "this test is about nothing"

        pings_of_all_sizes(alice.host, far)
        exchange_datagrams(alice.host, address, other, far)
        counts = verify(wire.take(), address)
        assert counts[packets.UDP] == 12 + 21
        assert counts[packets.ICMP6 if ":" in far else packets.ICMP] >= 11


@ends
def test_what_a_client_forwards_is_cut_and_finished(lab, certificates, ends):
    """The same at the other end: what comes to a network behind alice, from the gateway's machine and from bob."""
    sites = token_record("alice", sites=PREFIXES)
    offload, settings = ends
    lan = Lan(lab, certificates, vpn={"subnet6": SUBNET6, "offload": offload}, client_settings={**settings, **QUIET},
              **QUIET, auth={"tokens": [sites, token_record("bob")]})
    alice, bob = lan
    other = beyond(alice.host)
    for program in (bob, lan.gateway):
        for address, far, prefix in zip(inner_addresses(program), (BEYOND, BEYOND6), PREFIXES, strict=True):
            if program is lan.gateway:
                ip("-n", program.host.namespace, "route", "replace", prefix, "dev", "tun0", "src", address)
            program.host.wait_ping(far)
            wire = Capture(other, "wire")
            exact(program.host, address, other, far)
            exchange_datagrams(program.host, address, other, far)
            counts = verify(wire.take(), address)
            assert counts[packets.TCP] >= 2 * MIB / (MTU - 40)
            assert counts[packets.UDP] == 12 + 21
    if ends == ("auto", WHOLE):
        tun = Capture(alice.host, "VPN")
        assert Stream(lab, bob.host, other, BEYOND).transfer(2 * MIB)
        assert max(map(len, tun.take())) > MTU, "this test is about nothing"


def test_a_wire_that_computes_shows_that_the_capture_would_have_seen_it(lab, certificates):
    """The control of the two above: the kernel leaves to such a veth what they say was done before the wire."""
    lan = connected(lab, certificates, ENDS[0])
    alice, other = lan.clients[0], beyond(lan.gateway.host, as_copper=False)
    alice.host.wait_ping(BEYOND)
    wire = Capture(other, "wire")
    assert Stream(lab, alice.host, other, BEYOND).transfer(MIB)
    captured = wire.take()
    assert max(map(len, captured)) > MTU
    with pytest.raises(AssertionError, match="wrong checksum of protocol 6"):
        verify([packet for packet in captured if len(packet) <= MTU], "10.100.0.2")
