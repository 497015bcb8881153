"""IP packets by hand: enough of IPv4, IPv6, ICMP and UDP to speak through a plain client.

Addresses are text ("10.100.0.2"), packets are bytes. parse() checks lengths and every checksum before it says anything.
"""

import collections
import ipaddress
import struct

ICMP, TCP, UDP, ICMP6 = 1, 6, 17, 58
ECHO_REQUEST, ECHO_REPLY = 8, 0
ECHO_REQUEST6, ECHO_REPLY6 = 128, 129

Packet = collections.namedtuple("Packet", "version source destination protocol ttl payload")
Echo = collections.namedtuple("Echo", "kind ident sequence data")
Datagram = collections.namedtuple("Datagram", "source_port destination_port data")


def checksum(data):
    """The Internet checksum (RFC 1071); over data that carries a right one it is 0."""
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def raw(address):
    return ipaddress.ip_address(address).packed


def pseudo_header(source, destination, protocol, size):
    """What TCP, UDP and ICMPv6 checksum beside themselves (RFC 793, RFC 8200 8.1)."""
    if len(raw(source)) == 4:
        return raw(source) + raw(destination) + struct.pack("!BBH", 0, protocol, size)
    return raw(source) + raw(destination) + struct.pack("!IHBB", size, 0, 0, protocol)


def ip(source, destination, protocol, payload, ttl=64):
    if len(raw(source)) == 16:
        return struct.pack("!IHBB", 6 << 28, len(payload), protocol, ttl) + raw(source) + raw(destination) + payload

    def header(check):
        fields = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), 1, 0, ttl, protocol, check)
        return fields + raw(source) + raw(destination)

    return header(checksum(header(0))) + payload


def echo_request(source, destination, ident=1, sequence=1, data=b"penstock"):
    if len(raw(source)) == 4:
        body = struct.pack("!BBHHH", ECHO_REQUEST, 0, 0, ident, sequence) + data
        return ip(source, destination, ICMP, body[:2] + struct.pack("!H", checksum(body)) + body[4:])
    body = struct.pack("!BBHHH", ECHO_REQUEST6, 0, 0, ident, sequence) + data
    check = checksum(pseudo_header(source, destination, ICMP6, len(body)) + body)
    return ip(source, destination, ICMP6, body[:2] + struct.pack("!H", check) + body[4:])


def udp(source, destination, source_port, destination_port, data):
    size = 8 + len(data)
    body = struct.pack("!HHHH", source_port, destination_port, size, 0) + data
    check = checksum(pseudo_header(source, destination, UDP, size) + body) or 0xFFFF
    return ip(source, destination, UDP, body[:6] + struct.pack("!H", check) + data)


def parse(packet):
    version = packet[0] >> 4
    if version == 4:
        header = (packet[0] & 0xF) * 4
        size, _, _, ttl, protocol = struct.unpack("!HHHBB", packet[2:10])
        assert checksum(packet[:header]) == 0, "wrong IPv4 header checksum"
        source, destination = packet[12:16], packet[16:20]
    else:
        header, (size, protocol, ttl) = 40, struct.unpack("!HBB", packet[4:8])
        size += 40
        source, destination = packet[8:24], packet[24:40]
    assert size == len(packet), f"the header says {size} bytes, the packet has {len(packet)}"
    source, destination = str(ipaddress.ip_address(source)), str(ipaddress.ip_address(destination))
    payload = packet[header:]
    covered = payload if protocol == ICMP else pseudo_header(source, destination, protocol, len(payload)) + payload
    assert checksum(covered) == 0, f"wrong checksum of protocol {protocol}"
    return Packet(version, source, destination, protocol, ttl, payload)


def parse_echo(packet):
    return Echo(packet.payload[0], *struct.unpack("!HH", packet.payload[4:8]), packet.payload[8:])


def parse_udp(packet):
    return Datagram(*struct.unpack("!HH", packet.payload[:4]), packet.payload[8:])
