"""Super-packets and batches by hand, honest and not: what a receiver gets of them, and that nobody is believed.

      alice 192.0.2.2 --[ switch ]-- gateway 192.0.2.1:443      inner 10.100.0.1/24 and fd00:100::1/64

All members, whatever their tokens, are sockets of alice's; what they say is made in test/v1client/batches.py, out of
docs/PROTOCOL.md alone.
"""

import collections
import itertools
import os
import random
import struct
import time

import pytest

import batches
import packets
from batches import ACK, CWR, FIN, PARTIAL, PSH, RST, SYN, URG, entry, super_entry
from lab import meanwhile, wait_for
from lan import SUBNET6
from penstock_v1 import BINARY, Closed
from plain import GATEWAY, close_code, echo, succeeded
from programs import TOKENS, Client
from test_hostile_peers import MIB, growing_less_than

ALICE, BOB, NOBODY = "10.100.0.2", "10.100.0.3", "10.100.0.77"
ALICE6, BOB6, NOBODY6 = "fd00:100::2", "fd00:100::3", "fd00:100::77"
FAMILIES = [(ALICE, BOB), (ALICE6, BOB6)]
QUIET = {"logging": {"level": "info"}}


@pytest.fixture(params=[1, 2], ids=["one-loop", "two-loops"])
def loops(request):
    return request.param


def start(place, loops=1, tun="off", **settings):
    return place.gateway(vpn={"tun": tun, "subnet6": SUBNET6}, performance={"loops": loops}, **settings)


def batching(place, token, **changes):
    """A member that says `receive`, which takes everything but for `changes`."""
    client = place.client()
    client.answer = succeeded(client.login(TOKENS[token], client="batches/1 test", receive=batches.receive(**changes)))
    client.address, client.address6 = client.answer["assigned_ip"], client.answer["assigned_ip6"]
    assert "receive" in client.answer
    return client


def ping_in_batch(client, sequence=1):
    """Pings the gateway. All that `client` sent before is settled then, since a connection is read in order."""
    client.send_packet(entry(packets.echo_request(client.address, GATEWAY, sequence=sequence)))
    while True:
        for found in batches.read(client.receive_packet()):
            packet = packets.parse(found.packet)
            if packet.protocol == packets.ICMP and packet.payload[0] == packets.ECHO_REPLY:
                assert (found.kind, packets.parse_echo(packet).sequence) == ("plain", sequence)
                return


def receive_segments(member, count, seen=None):
    """The next `count` packets for a batching member, super-packets as what they stand for, each checked.

    The entries that they came in are appended to `seen`.
    """
    found = []
    while len(found) < count:
        for one in batches.read(member.receive_packet()):
            found += batches.true_segments(one)
            if seen is not None:
                seen.append(one)
    return found


def honest_supers(source, destination):
    """(packet, segment size) of all shapes, of TCP and UDP."""
    data = os.urandom(60000)
    timestamps = b"\1\1\x08\x0a" + os.urandom(8)
    for size, segment_size in ((1, 1), (1, 1000), (999, 1000), (1000, 1000), (1001, 1000), (4000, 1000), (3999, 577),
                               (60000, 1360)):
        yield batches.udp(source, destination, data[:size]), segment_size
        yield batches.tcp(source, destination, data[:size]), segment_size
    yield batches.tcp(source, destination, data[:5000], flags=ACK | FIN | PSH | CWR, sequence=0xFFFFFF00,
                      options=timestamps), 1348
    if ":" not in source:
        for packet in (batches.tcp(source, destination, data[:5000]), batches.udp(source, destination, data[:5000])):
            yield batches.with_ipv4(packet, identification=0xFFFE, fragment=0x4000), 1000


# --- what is honest arrives -----------------------------------------------------------------------------------------


def test_a_plain_member_gets_the_segments_of_a_super_packet_with_right_checksums(place, loops):
    gateway = start(place, loops)
    alice, bob = batching(place, "alice"), place.member("bob")
    for packet, segment_size in honest_supers(ALICE, BOB):
        alice.send_packet(super_entry(packet, segment_size))
        expected = batches.segments(batches.one_hop_on(packet), segment_size)
        for one in expected:
            received = bob.receive_packet()
            packets.parse(received)
            assert received == one
    ping_in_batch(alice)
    assert not any(gateway.status()["drops"].values())


def test_a_batching_member_gets_super_packets_whole_and_unfinished(place, loops):
    gateway = start(place, loops)
    alice, bob = batching(place, "alice"), batching(place, "bob")
    for source, destination in FAMILIES:
        for packet, segment_size in honest_supers(source, destination):
            alice.send_packet(super_entry(packet, segment_size))
            sent, seen = batches.one_hop_on(packet), []
            expected = batches.segments(sent, segment_size)
            assert receive_segments(bob, len(expected), seen) == expected
            if len(expected) == 1 or len(packet) > 6000:
                continue  # one segment is as good without its kind; large ones may be sent in several pieces
            assert seen == [(batches.kind_of(packet), PARTIAL, segment_size, batches.partial(sent))]
    ping_in_batch(alice)
    assert not any(gateway.status()["drops"].values())


def test_a_partial_checksum_alone_is_finished_for_a_plain_member_and_kept_for_another(place, loops):
    start(place, loops)
    alice, bob, carol = batching(place, "alice"), place.member("bob"), batching(place, "bob")
    assert carol.address == "10.100.0.4"
    for make, size in itertools.product((batches.udp, batches.tcp), (0, 1, 2, 999, 1380)):
        data = os.urandom(size)
        for destination, receive in ((BOB, bob.receive_packet), (carol.address, lambda: receive_segments(carol, 1)[0])):
            packet = make(ALICE, destination, data)
            alice.send_packet(entry(batches.partial(packet), flags=PARTIAL))
            assert receive() == batches.one_hop_on(packet)


def test_a_udp_checksum_that_comes_out_as_zero_is_sent_as_all_ones(place):
    start(place)
    alice, bob = batching(place, "alice"), place.member("bob")
    blank = batches.udp(ALICE, BOB, bytes(2))
    word = ~packets.checksum(batches.pseudo_header(blank) + batches.put(blank[20:], 6, bytes(2))) & 0xFFFF
    packet = batches.udp(ALICE, BOB, struct.pack("!H", ~word & 0xFFFF))
    assert packet[26:28] == b"\xff\xff"
    alice.send_packet(entry(batches.partial(packet), flags=PARTIAL) + super_entry(packet, 2))
    assert [bob.receive_packet() for _ in range(2)] == [batches.one_hop_on(packet)] * 2


@pytest.mark.parametrize("gso", [[], ["udp4"], ["tcp6", "sctp4"], ["tcp4", "tcp6"]], ids="-".join)
def test_what_the_receiver_cannot_take_apart_is_cut_for_it(place, gso):
    start(place)
    alice, bob = batching(place, "alice"), batching(place, "bob", gso=gso)
    for source, destination in FAMILIES:
        for packet in (batches.udp(source, destination, os.urandom(4000)),
                       batches.tcp(source, destination, os.urandom(4000), flags=ACK | PSH)):
            alice.send_packet(super_entry(packet, 1000))
            seen, kind = [], batches.kind_of(packet)
            assert receive_segments(bob, 4, seen) == batches.segments(batches.one_hop_on(packet), 1000)
            assert [found.kind for found in seen] == ([kind] if kind in gso else ["plain"] * 4)


def test_what_is_larger_than_the_receiver_takes_is_cut_or_dropped(place):
    gateway = start(place)
    alice, bob = batching(place, "alice"), batching(place, "bob", max_packet=3000)
    whole, cut = (batches.tcp(ALICE, BOB, os.urandom(size)) for size in (2960, 2961))
    for packet in (whole, cut, batches.tcp(ALICE, BOB, os.urandom(50000))):
        alice.send_packet(super_entry(packet, 1000))
        expected, seen = batches.segments(batches.one_hop_on(packet), 1000), []
        assert receive_segments(bob, len(expected), seen) == expected
        assert max(len(found.packet) for found in seen) <= 3000
        assert packet is cut or len(packet) > 3001 or len(seen) == 1
    # What cannot be cut as a super-packet meets an MTU there, and its sender is told.
    narrow = batching(place, "alice", max_packet=1000)
    for size, fragment in ((973, 0x4000), (972, 0x4000), (973, 0)):
        alice.send_packet(entry(batches.with_ipv4(batches.udp(ALICE, narrow.address, bytes(size)), fragment=fragment)))
    told = packets.parse(receive_segments(alice, 1)[0])
    assert (told.source, told.protocol, told.payload[:2]) == (GATEWAY, packets.ICMP, b"\3\4")
    assert struct.unpack("!H", told.payload[6:8])[0] == 1000
    arrived = []
    while len(arrived) < 3:
        arrived += [len(found.packet) for found in batches.read(narrow.receive_packet())]
    assert arrived[0] == 1000 >= max(arrived), "the third packet comes in fragments"
    assert gateway.drops("too_big") == 1


def test_no_message_is_larger_than_the_receivers_batch_bytes(place):
    start(place)
    alice, bob = batching(place, "alice"), batching(place, "bob", batch_bytes=3006)
    small = [batches.udp(ALICE, BOB, os.urandom(200)) for _ in range(100)]
    large = [batches.tcp(ALICE, BOB, os.urandom(size)) for size in (2960, 2961, 20000)]
    alice.send_packet(b"".join([*map(entry, small), *(super_entry(packet, 1000) for packet in large)]))
    sent = map(batches.one_hop_on, small + large)
    expected = collections.Counter(one for packet in sent for one in batches.segments(packet, 1000))
    sizes, found = [], collections.Counter()
    while found.total() < expected.total():
        received = bob.receive_packet()
        sizes.append(len(received))
        found.update(one for each in batches.read(received) for one in batches.true_segments(each))
    assert found == expected
    assert max(sizes) <= 3006
    assert len(sizes) < expected.total(), "some travelled together"


def test_a_batch_may_come_in_fragments_and_be_as_large_as_the_gateway_said(place):
    start(place, session={"queue_packets": 65536})
    alice, bob = batching(place, "alice"), batching(place, "bob")
    most = alice.answer["receive"]["batch_bytes"]
    packet = batches.udp(ALICE, BOB, os.urandom(1000 - batches.ENTRY_HEADER - 28))
    count, left = divmod(most, 1000)
    filler = batches.udp(ALICE, BOB, bytes(left + 1000 - batches.ENTRY_HEADER - 28))
    message = entry(packet) * (count - 1) + entry(filler)
    assert len(message) == most
    for final, opcode, part in ((False, BINARY, message[:5]), (False, 0, message[5:70000]), (True, 0, message[70000:])):
        alice.send_frame(opcode, part, final)
    received = receive_segments(bob, count)
    assert received == [batches.one_hop_on(packet)] * (count - 1) + [batches.one_hop_on(filler)]

    alice.send_packet(message + b"\0")
    assert close_code(alice) == 1009
    ping_in_batch(bob)


def test_ten_thousand_tiny_packets_are_delivered_or_counted(place, loops):
    gateway = start(place, loops, session={"queue_packets": 65536}, **QUIET)
    alice, bob = batching(place, "alice"), batching(place, "bob")
    tiny = entry(batches.udp(ALICE, BOB, b""))
    for _ in range(4):
        alice.send_packet(tiny * 2500)
    ping_in_batch(alice)
    assert gateway.session(ALICE)["up"]["packets"] == 10001

    def all_there():
        try:
            while True:
                received.update(found.packet for found in batches.read(bob.receive_packet(timeout=0.05)))
        except TimeoutError:
            return received.total() + sum(gateway.status()["drops"].values()) == 10000

    received = collections.Counter()
    wait_for(all_there, what="all are accounted for")
    drops = gateway.status()["drops"]
    assert set(filter(drops.get, drops)) <= {"queue_full", "queue_delay", "crossing_full"}
    assert set(received) == {batches.one_hop_on(batches.udp(ALICE, BOB, b""))}


def test_a_super_packet_counts_as_the_packets_that_it_stands_for(place):
    gateway = start(place)
    alice, bob = batching(place, "alice"), batching(place, "bob")
    packet = batches.tcp(ALICE, BOB, os.urandom(3500))
    alice.send_packet(super_entry(packet, 1000))
    receive_segments(bob, 4)
    expected = {"packets": 4, "bytes": 3500 + 4 * 40}
    traffic = gateway.session(ALICE)["up"], gateway.session(BOB)["down"]
    assert [{key: found[key] for key in expected} for found in traffic] == [expected] * 2


def test_one_error_answers_a_super_packet_whose_hops_are_used_up(place):
    start(place)
    alice = batching(place, "alice")
    batching(place, "bob")
    for packet in (batches.tcp(ALICE, BOB, os.urandom(3500)), batches.udp(ALICE, BOB, os.urandom(3500))):
        alice.send_packet(super_entry(batches.with_ipv4(packet, ttl=1), 1000))
        told = packets.parse(receive_segments(alice, 1)[0])
        assert (told.source, told.protocol, told.payload[0]) == (GATEWAY, packets.ICMP, 11)
    ping_in_batch(alice)


@pytest.mark.parametrize("reason", ["hop_limit", "no_session", "no_route", "access_denied", "session_detached"])
def test_a_super_packet_that_is_dropped_counts_as_the_packets_that_it_stands_for(place, reason):
    gateway = start(place, lan={"isolate": reason == "access_denied"}, internet={"mode": "off"})
    alice, bob = batching(place, "alice"), batching(place, "bob")
    to = {"no_session": NOBODY, "no_route": "203.0.113.1"}
    packet = batches.udp(ALICE, to.get(reason, BOB), bytes(3500))
    packet = batches.with_ipv4(packet, ttl=1 if reason == "hop_limit" else 64)
    if reason == "session_detached":
        bob.sock.close()
        wait_for(lambda: not gateway.session(BOB)["attached"], what="bob is away")
    alice.send_packet(super_entry(packet, 1000))
    ping_in_batch(alice)
    drops = gateway.status()["drops"]
    assert {name: count for name, count in drops.items() if count} == {reason: 4}


# --- who is asked, and what is answered -----------------------------------------------------------------------------


def test_the_gateway_says_what_it_receives_to_those_alone_that_said_it(place):
    start(place)
    for fields in ({}, {"client": "example/1.0"}, {"receive": batches.receive()}):
        client = place.client()
        answer = succeeded(client.login(TOKENS["alice"], **fields))
        assert "receive" not in answer, fields
        client.address = answer["assigned_ip"]
        echo(client, GATEWAY)  # in bare packets both ways
    receive = batching(place, "alice").answer["receive"]
    assert set(receive) == {"max_packet", "gso", "batch_bytes", "mtu"}
    assert min(receive["max_packet"], receive["batch_bytes"], receive["mtu"]) >= 576
    assert set(receive["gso"]) <= set(batches.ALL["gso"])


@pytest.mark.parametrize("field", ["max_packet", "batch_bytes", "mtu"])
def test_what_no_packet_fits_into_is_no_login(place, field):
    gateway = start(place)
    client = place.client()
    for value in (575, 0, -1, "large"):
        answer = client.login(TOKENS["alice"], client="batches/1 test", receive=batches.receive(**{field: value}))
        assert (answer["type"], field in answer["error"]) == ("error", True), answer
    assert not gateway.status()["sessions"]
    succeeded(client.login(TOKENS["alice"], client="batches/1 test", receive=batches.receive(**{field: 576})))


# --- what is not honest ---------------------------------------------------------------------------------------------


def lies():
    """{name: entry}: each breaks one rule of what may be said of a packet, and each counts as one malformed packet."""
    made = {}
    data = os.urandom(3000)
    for source, destination in FAMILIES:
        tcp, udp = batches.tcp(source, destination, data), batches.udp(source, destination, data)
        ping = packets.echo_request(source, destination, data=data)
        for packet in (tcp, udp):
            kind = batches.kind_of(packet)
            for other in set(batches.ALL["gso"]) - {kind}:
                made[f"{kind} called {other}"] = super_entry(packet, 1000, kind=other)
            made[f"{kind} with a finished checksum"] = entry(packet, kind, 0, 1000)
            made[f"{kind} with segment size 0"] = super_entry(packet, 0)
            made[f"plain {kind} with a segment size"] = entry(packet, segment_size=1000)
            made[f"{kind} that is shorter than its entry"] = super_entry(packet + b"more", 1000, kind=kind)
            made[f"{kind} that is longer than its entry"] = entry(batches.partial(packet)[:-1], kind, PARTIAL, 1000)
            cut = batches.put(packet[:batches.transport_at(packet) + 7], 2 if batches.is_v4(packet) else 4,
                              struct.pack("!H", batches.transport_at(packet) + 7 if batches.is_v4(packet) else 7))
            made[f"{kind} with half a header"] = entry(cut, kind, PARTIAL, 1000)
            made[f"plain {kind} with half a header and a partial checksum"] = entry(cut, flags=PARTIAL)
        for name, header_size in (("4 words", 0x40), ("none", 0)):
            bad = batches.put(tcp, batches.transport_at(tcp) + 12, bytes([header_size]))
            made[f"{batches.kind_of(tcp)} whose header has {name}"] = entry(bad, batches.kind_of(tcp), PARTIAL, 1000)
        short = batches.tcp(source, destination, b"x" * 8)
        short = batches.put(short, batches.transport_at(short) + 12, b"\xf0")
        made[f"{batches.kind_of(tcp)} whose header leaves it"] = entry(short, batches.kind_of(tcp), PARTIAL, 1)
        for size in (0, 7, len(data) + 7, len(data) + 9, 0xFFFF):
            bad = batches.put(udp, batches.transport_at(udp) + 4, struct.pack("!H", size))
            made[f"{batches.kind_of(udp)} whose header says {size}"] = entry(bad, batches.kind_of(udp), PARTIAL, 1000)
            made[f"plain {batches.kind_of(udp)} whose header says {size}"] = entry(bad, flags=PARTIAL)
        for flags in (SYN, RST, URG, SYN | ACK, RST | ACK, 0xFF):
            made[f"{batches.kind_of(tcp)} with flags {flags:#x}"] = super_entry(
                batches.tcp(source, destination, data, flags=flags), 1000)
        for empty in (batches.tcp(source, destination, b""), batches.udp(source, destination, b"")):
            made[f"{batches.kind_of(empty)} without payload"] = super_entry(empty, 1000)
        for kind in ("tcp4", "udp4", "tcp6", "udp6"):
            made[f"IPv{4 if ':' not in source else 6} ping called {kind}"] = entry(ping, kind, PARTIAL, 1000)
        made[f"ping from {source} with a partial checksum"] = entry(ping, flags=PARTIAL)
    for fragment in (0x2000, 0x2001, 0x0001, 0x1FFF):
        for packet in (batches.tcp(ALICE, BOB, data), batches.udp(ALICE, BOB, data)):
            bad = batches.with_ipv4(packet, fragment=fragment)
            made[f"{batches.kind_of(packet)}, a fragment {fragment:#x}"] = super_entry(bad, 1000)
            made[f"plain {batches.kind_of(packet)}, a fragment {fragment:#x}"] = entry(batches.partial(bad),
                                                                                        flags=PARTIAL)
    for extension in (0, 43, 44, 60):
        for packet in (batches.tcp(ALICE6, BOB6, data), batches.udp(ALICE6, BOB6, data)):
            behind = bytes([batches.protocol_of(packet), 0]) + bytes(6) + batches.partial(packet)[40:]
            bad = packets.ip(ALICE6, BOB6, extension, behind)
            made[f"{batches.kind_of(packet)} behind extension {extension}"] = entry(bad, batches.kind_of(packet),
                                                                                    PARTIAL, 1000)
            made[f"plain {batches.kind_of(packet)} behind extension {extension}"] = entry(bad, flags=PARTIAL)
    tcp = batches.tcp(ALICE, BOB, data)
    for first in (0x00, 0x44, 0x55, 0x65):
        made[f"a first byte of {first:#x}"] = super_entry(batches.put(tcp, 0, bytes([first])), 1000, kind="tcp4")
    made |= {f"{size} bytes": entry(tcp[:size]) for size in (0, 1, 19)}
    made |= {f"{size} bytes of tcp4": entry(tcp[:size], "tcp4", PARTIAL, 1) for size in (0, 1, 19, 20)}
    return made


def test_an_entry_that_lies_is_dropped_counted_and_harms_no_other(place, loops):
    """Between each two lies there is an honest packet in the same message."""
    gateway = start(place, loops)
    alice, bob, other = batching(place, "alice"), batching(place, "bob"), place.member("alice")
    for count, (name, lie) in enumerate(lies().items(), 1):
        alice.send_packet(lie)
        ping_in_batch(alice, count)
        assert gateway.drops("malformed") == count, name
    honest = [batches.udp(ALICE, BOB, b"%d" % number) for number in range(count)]
    between = [lie for name, lie in lies().items() if "with a segment size" not in name]  # which may end a message
    mixed = [entry(honest[0])]
    for packet, lie in itertools.zip_longest(honest[1:], between, fillvalue=None):
        mixed += [lie] * (lie is not None) + [entry(packet)] * (packet is not None)
    send_in_messages(alice, mixed)
    ping_in_batch(alice)
    assert gateway.drops("malformed") == count + len(between)
    assert receive_segments(bob, len(honest)) == list(map(batches.one_hop_on, honest))
    echo(other, GATEWAY)
    assert gateway.session(BOB)["down"]["packets"] == len(honest), "nothing else has reached bob"
    drops = gateway.status()["drops"]
    assert set(filter(drops.get, drops)) == {"malformed"}
    assert gateway.process.running()


def send_in_messages(client, entries):
    """Sends entries in as few messages as the gateway takes them in."""
    most, message = client.answer["receive"]["batch_bytes"], b""
    for one in entries:
        if len(message) + len(one) > most:
            client.send_packet(message)
            message = b""
        message += one
    client.send_packet(message)


def no_entries():
    """{name: bytes} that cannot be an entry, whatever follows."""
    good = batches.udp(ALICE, BOB, b"hidden")
    return {
        **{f"kind {kind}": entry(good, kind) for kind in (5, 6, 127, 128, 255)},
        **{f"flags {flags:#x}": entry(good, flags=flags) for flags in (0x02, 0x03, 0x40, 0x80, 0xFF)},
        **{f"tcp4 with flags {flags:#x}": entry(good, "tcp4", flags, 1000) for flags in (0x02, 0x03, 0x81)},
        "a length of everything": entry(good, length=0xFFFF),
        "a super-packet with a length of everything": entry(good, "udp4", PARTIAL, 2, length=0xFFFF),
    }


def test_what_cannot_be_an_entry_takes_the_rest_of_its_message_along(place, loops):
    gateway = start(place, loops)
    alice, bob = batching(place, "alice"), batching(place, "bob")
    cases = no_entries()
    honest = [batches.udp(ALICE, BOB, b"%d" % number) for number in range(len(cases) + 6)]
    for count, (name, bad) in enumerate(cases.items(), 1):
        alice.send_packet(entry(honest[count - 1]) + bad + entry(batches.udp(ALICE, BOB, b"hidden")) * 3)
        ping_in_batch(alice, count)
        assert gateway.drops("malformed") == count, name
    one_short = entry(honest[0], length=len(honest[0]) + 1)
    for cut, packet in enumerate(honest[len(cases):]):
        alice.send_packet(entry(packet) + (one_short if cut == 0 else one_short[:cut]))
    ping_in_batch(alice)
    assert gateway.drops("malformed") == len(honest)
    assert receive_segments(bob, len(honest)) == list(map(batches.one_hop_on, honest))
    assert gateway.session(BOB)["down"]["packets"] == len(honest), "nothing else has reached bob"


def test_an_empty_message_is_no_batch(place):
    gateway = start(place)
    alice = batching(place, "alice")
    alice.send_packet(b"")
    ping_in_batch(alice)
    assert gateway.drops("malformed") == 1


def test_ten_thousand_entries_of_nothing_are_counted_one_by_one(place):
    gateway = start(place, **QUIET)
    alice, other = batching(place, "alice"), place.member("alice")
    alice.send_packet(entry(b"") * 10000)
    alice.send_packet(entry(b"", "tcp4", PARTIAL, 1) * 10000)
    ping_in_batch(alice)
    echo(other, GATEWAY)
    assert gateway.drops("malformed") == 20000


def test_a_spoofed_source_in_a_super_packet_is_counted_for_each_segment(place, loops):
    gateway = start(place, loops)
    alice, bob = batching(place, "alice"), batching(place, "bob")
    for source, destination in ((BOB, BOB), (GATEWAY, BOB), (NOBODY, BOB), ("192.0.2.2", BOB), ("127.0.0.1", GATEWAY),
                                (BOB6, BOB6), (NOBODY6, BOB6), ("fd00:100::1", BOB6), ("::1", BOB6)):
        alice.send_packet(super_entry(batches.tcp(source, destination, bytes(3000)), 1000) +
                          super_entry(batches.udp(source, destination, bytes(3001)), 1000))
        alice.send_packet(entry(batches.partial(batches.udp(source, destination, b"spoofed")), flags=PARTIAL))
    honest = batches.udp(ALICE, BOB, b"honest")
    alice.send_packet(entry(honest))
    ping_in_batch(alice)
    assert gateway.drops("spoofed_source") == 9 * (3 + 4 + 1)
    assert receive_segments(bob, 1) == [batches.one_hop_on(honest)]
    assert gateway.session(BOB)["down"]["packets"] == 1, "nothing else has reached bob"
    drops = gateway.status()["drops"]
    assert set(filter(drops.get, drops)) == {"spoofed_source"}


@pytest.mark.parametrize("to", ["plain", "batching", "gateway", "nobody"])
def test_sixty_kilobytes_in_segments_of_one_byte_cost_neither_memory_nor_the_others_their_ping(place, to):
    """True by the letter, and 60 000 packets each. For a plain member two of them are cut in one turn."""
    gateway = start(place, tun="on", **QUIET)
    alice, other = batching(place, "alice"), place.member("alice")
    bob = batching(place, "bob") if to == "batching" else place.member("bob")
    destination = {"gateway": GATEWAY, "nobody": NOBODY}.get(to, bob.address)
    echo(other, GATEWAY)
    before = sum(gateway.status()["drops"].values())
    supers = [super_entry(make(ALICE, destination, bytes(60000)), 1) for make in (batches.tcp, batches.udp)]
    with growing_less_than(gateway, 80 * MIB):
        for message in supers * 4:
            alice.send_packet(message)
        echo(other, GATEWAY)
        ping_in_batch(alice)
    assert gateway.session(ALICE)["up"]["packets"] == 8 * 60000 + 1

    arrived = 0
    if to in ("plain", "batching"):
        def settled():
            nonlocal arrived
            try:
                while True:
                    message = bob.receive_packet(timeout=0.05)
                    if to == "plain":
                        assert len(packets.parse(message).payload) in (9, 21)
                        arrived += 1
                    else:
                        arrived += sum(len(found.packet) - batches.payload_at(found.packet)
                                       for found in batches.read(message))
            except TimeoutError:
                return arrived + sum(gateway.status()["drops"].values()) - before == 8 * 60000

        wait_for(settled, 30, "each segment has arrived or is counted")
        assert arrived > 0
    elif to == "nobody":
        assert gateway.drops("no_session") == 8 * 60000
    echo(other, GATEWAY)


def flooding(client, message, every=0.02):
    """Meanwhile `client` sends `message` as often as that, or as often as it is taken."""
    return meanwhile(lambda: client.send_packet(message), every, ends=(Closed, OSError))


def assert_pings_come_back(client, destination, count=60, most=0.2):
    """Nineteen of twenty do within `most` seconds, and the others within echo()'s patience."""
    delays = []
    for _ in range(count):
        begin = time.monotonic()
        echo(client, destination)
        delays.append(time.monotonic() - begin)
        time.sleep(max(0.0, 0.05 - delays[-1]))
    delays.sort()
    assert delays[count * 19 // 20 - 1] < most, [f"{delay * 1000:.0f} ms" for delay in delays]


@pytest.mark.parametrize("offload", ["auto", "gso", "off"])
@pytest.mark.parametrize("make", [batches.tcp, batches.udp], ids=["tcp", "udp"])
def test_a_flood_of_them_to_the_gateways_kernel_holds_up_nobodys_ping(place, offload, make):
    """Three million packets a second, in 24 Mbit/s: more than a kernel takes one by one."""
    gateway = place.gateway(vpn={"tun": "on", "offload": offload, "subnet6": SUBNET6}, **QUIET)
    alice, other = batching(place, "alice"), place.member("alice")
    with flooding(alice, super_entry(make(ALICE, GATEWAY, bytes(60000)), 1)):
        assert_pings_come_back(other, GATEWAY)
    assert gateway.session(ALICE)["up"]["packets"] > 20 * 60000, "this test is about nothing"


@pytest.mark.parametrize(("offload", "most"), [("auto", 0.2), ("gso", 0.2), ("off", 1.0)])
def test_a_flood_of_them_to_a_client_holds_up_nobodys_ping_to_it(place, offload, most):
    """To "off" go single packets, more than it takes: those that its kernel has received go before the ping."""
    gateway = start(place, **QUIET)
    bob = Client(place.lab.host("bob"), gateway, token="bob", vpn={"offload": offload}, **QUIET).start()
    alice, other = batching(place, "alice"), place.member("alice")
    address = bob.status()["address"]
    with flooding(alice, super_entry(batches.udp(alice.address, address, bytes(60000)), 1)):
        assert_pings_come_back(other, address, most=most)
    assert bob.status()["down"]["packets"] > 10 * 60000, "this test is about nothing"


def test_noise_in_honest_entries_reaches_nobody_as_something_that_cannot_be(place, loops):
    """Bits turn over at random, and the same ones in each run. Checksums are the receiver's to verify."""
    gateway = start(place, loops, **QUIET)
    alice, bob, other = batching(place, "alice"), batching(place, "bob"), place.member("alice")
    chance = random.Random(1)
    sent = [super_entry(make(*ends, bytes(2500)), 1000) for ends in FAMILIES for make in (batches.tcp, batches.udp)]
    for _ in range(1500):
        noisy = bytearray(chance.choice(sent))
        for _ in range(chance.randint(1, 3)):
            noisy[chance.randrange(70)] ^= 1 << chance.randrange(8)
        alice.send_packet(bytes(noisy) + entry(b""))
    mark = batches.udp(ALICE, BOB, b"the end", ports=(1, 1))
    alice.send_packet(entry(mark))
    seen = []
    while not any(found.packet == batches.one_hop_on(mark) for found in seen):
        for found in batches.read(bob.receive_packet()):
            seen.append(found)
            assert found.kind in ("plain", batches.kind_of(found.packet))
    assert 100 < len(seen) < 1500
    assert gateway.drops("malformed") > 1000
    echo(other, GATEWAY)
