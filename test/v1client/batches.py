"""Batches and super-packets by hand, out of docs/PROTOCOL.md and Python's standard library alone.

    message = entry(super_packet(packet), "tcp4", PARTIAL, 1000) + entry(another)
    for found in read(message): ...

What makes packets here believes everything, so that lies can be told; what reads them (read(), true_segments())
believes nothing and asserts each rule of "Batches". A packet is bytes, as in packets.py.
"""

import collections
import struct

import packets

KINDS = {"plain": 0, "tcp4": 1, "tcp6": 2, "udp4": 3, "udp6": 4}
NAMES = {number: name for name, number in KINDS.items()}
PARTIAL = 0x01
ENTRY_HEADER = 6

FIN, SYN, RST, PSH, ACK, URG, ECE, CWR = (1 << bit for bit in range(8))

Entry = collections.namedtuple("Entry", "kind flags segment_size packet")

ALL = {"max_packet": 65535, "gso": ["tcp4", "tcp6", "udp4", "udp6"], "batch_bytes": 262144, "mtu": 1420}


def receive(**changes):
    """The field `receive` of somebody who takes all that there is, but for `changes`."""
    return {**ALL, **changes}


# --- entries --------------------------------------------------------------------------------------------------------


def entry(packet, kind="plain", flags=0, segment_size=0, length=None):
    number = KINDS.get(kind, kind)
    return struct.pack("!BBHH", number, flags, len(packet) if length is None else length, segment_size) + packet


def read(message):
    """The entries of a message that keeps all the rules of its form."""
    entries = []
    assert message, "an empty message"
    while message:
        assert len(message) >= ENTRY_HEADER, f"{len(message)} bytes behind the last entry"
        number, flags, length, segment_size = struct.unpack("!BBHH", message[:ENTRY_HEADER])
        packet, message = message[ENTRY_HEADER:ENTRY_HEADER + length], message[ENTRY_HEADER + length:]
        assert number in NAMES and flags & ~PARTIAL == 0, f"kind {number}, flags {flags:#x}"
        assert len(packet) == length, f"an entry of {length} bytes where {len(packet)} are left"
        assert (segment_size > 0) == (number != 0), f"kind {number} with segment size {segment_size}"
        entries.append(Entry(NAMES[number], flags, segment_size, packet))
    return entries


# --- packets --------------------------------------------------------------------------------------------------------


def is_v4(packet):
    return packet[0] >> 4 == 4


def transport_at(packet):
    """Where the TCP or UDP header begins."""
    return (packet[0] & 0xF) * 4 if is_v4(packet) else 40


def protocol_of(packet):
    return packet[9] if is_v4(packet) else packet[6]


def payload_at(packet):
    start = transport_at(packet)
    return start + (8 if protocol_of(packet) == packets.UDP else (packet[start + 12] >> 4) * 4)


def checksum_at(packet):
    return transport_at(packet) + (6 if protocol_of(packet) == packets.UDP else 16)


def put(packet, offset, piece):
    """`packet` with `piece` in place of what stood at `offset`."""
    return packet[:offset] + piece + packet[offset + len(piece):]


def with_header_checksum(packet):
    """With the right checksum in its IPv4 header; IPv6 has none."""
    if not is_v4(packet):
        return packet
    packet = put(packet, 10, bytes(2))
    return put(packet, 10, struct.pack("!H", packets.checksum(packet[:transport_at(packet)])))


def with_ipv4(packet, identification=1, fragment=0, ttl=64):
    fields = put(put(packet, 4, struct.pack("!HH", identification, fragment)), 8, bytes([ttl]))
    return with_header_checksum(fields)


def one_hop_on(packet):
    """What a router makes of it."""
    hops = 8 if is_v4(packet) else 7
    return with_header_checksum(put(packet, hops, bytes([packet[hops] - 1])))


def pseudo_header(packet):
    addresses = packet[12:20] if is_v4(packet) else packet[8:40]
    return addresses + struct.pack("!II", len(packet) - transport_at(packet), protocol_of(packet))


def partial(packet):
    """With the sum of its pseudo header, not complemented, as its TCP or UDP checksum."""
    return put(packet, checksum_at(packet), struct.pack("!H", ~packets.checksum(pseudo_header(packet)) & 0xFFFF))


def is_partial(packet):
    return packet == partial(packet)


def finished(packet):
    """With its TCP or UDP checksum as it goes over a wire."""
    blank = put(packet, checksum_at(packet), bytes(2))
    check = packets.checksum(pseudo_header(blank) + blank[transport_at(blank):])
    if check == 0 and protocol_of(packet) == packets.UDP:
        check = 0xFFFF
    return put(blank, checksum_at(packet), struct.pack("!H", check))


def tcp(source, destination, data, flags=ACK, sequence=1000, ports=(5000, 6000), options=b"", urgent=0,
        acknowledgement=7):
    header = struct.pack("!HHIIBBHHH", *ports, sequence, acknowledgement, (20 + len(options)) // 4 << 4, flags, 512, 0,
                         urgent)
    return finished(packets.ip(source, destination, packets.TCP, header + options + data))


def udp(source, destination, data, ports=(5000, 6000)):
    return packets.udp(source, destination, *ports, data)


def kind_of(packet):
    return ("udp" if protocol_of(packet) == packets.UDP else "tcp") + ("4" if is_v4(packet) else "6")


def super_entry(packet, segment_size, kind=None, flags=PARTIAL):
    """An entry that sends `packet` as a super-packet."""
    return entry(partial(packet), kind or kind_of(packet), flags, segment_size)


# --- what they stand for ----------------------------------------------------------------------------------------------


def segments(packet, segment_size):
    """The packets that a super-packet stands for, by the words of docs/PROTOCOL.md."""
    start, body = transport_at(packet), payload_at(packet)
    headers, payload = packet[:body], packet[body:]
    result = []
    for index, offset in enumerate(range(0, len(payload), segment_size)):
        piece = headers + payload[offset:offset + segment_size]
        last = offset + segment_size >= len(payload)
        if is_v4(piece):
            identification = struct.unpack("!H", packet[4:6])[0] + index & 0xFFFF
            piece = put(put(piece, 2, struct.pack("!H", len(piece))), 4, struct.pack("!H", identification))
        else:
            piece = put(piece, 4, struct.pack("!H", len(piece) - 40))
        if protocol_of(piece) == packets.UDP:
            piece = put(piece, start + 4, struct.pack("!H", len(piece) - start))
        else:
            sequence = struct.unpack("!I", packet[start + 4:start + 8])[0] + offset & 0xFFFFFFFF
            flags = packet[start + 13] & ~(0 if last else FIN | PSH) & ~(0 if index == 0 else CWR)
            piece = put(put(piece, start + 4, struct.pack("!I", sequence)), start + 13, bytes([flags]))
        result.append(finished(with_header_checksum(piece)))
    return result


def true_segments(found):
    """The packets that an entry stands for, which are right in every respect, or an AssertionError."""
    packet = found.packet
    size = struct.unpack("!H", packet[2:4])[0] if is_v4(packet) else 40 + struct.unpack("!H", packet[4:6])[0]
    assert size == len(packet), f"the header says {size} bytes, the packet has {len(packet)}"
    if found.flags & PARTIAL:
        assert is_partial(packet), "the checksum is not that of the pseudo header"
    if found.kind == "plain":
        whole = [finished(packet) if found.flags & PARTIAL else packet]
    else:
        assert found.kind == kind_of(packet) and found.flags & PARTIAL
        assert protocol_of(packet) == packets.UDP or not packet[transport_at(packet) + 13] & (SYN | RST | URG)
        assert len(packet) > payload_at(packet), "a super-packet without payload"
        assert not is_v4(packet) or packets.checksum(packet[:transport_at(packet)]) == 0, "IPv4 header checksum"
        whole = segments(packet, found.segment_size)
    for one in whole:
        packets.parse(one)
    return whole
