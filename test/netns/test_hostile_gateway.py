"""A gateway that means harm, or merely takes less than others: what its words do to the client's machine.

      bob 192.0.2.2 --[ switch ]-- fake gateway 192.0.2.1:443      inner 10.100.0.3 and fd00:100::3

The client is the real one with a TUN device, the gateway is a socket of this process (fake_gateway.py). What the client
hands to its kernel is captured on the device; what its kernel sends is read at the gateway, where each rule of
"Batches" is asserted. The lies are those of test_batches.py, told of packets from 10.100.0.2 to the client.
"""

import itertools
import os
import random
import socket
import struct
import time

import pytest

import batches
import packets
from batches import ACK, PARTIAL, SYN, entry, super_entry
from fake_gateway import WELCOME, FakeGateway, frame
from lab import wait_for
from penstock_v1 import BINARY, CLOSE, TEXT
from plain import GATEWAY
from programs import OK, Client
from test_batches import ALICE, BOB, BOB6, FAMILIES, honest_supers, lies, no_entries
from test_hostile_peers import MIB, growing_less_than
from test_offload import UDP_SEGMENT, Capture, datagram_socket, without_fragments

MTU = WELCOME["mtu"]
QUIET = {"logging": {"level": "info"}}
IPV6 = {"assigned_ip6": BOB6, "subnet6": "fd00:100::/64", "server_ip6": "fd00:100::1"}
HOP_BY_HOP, FRAGMENT = 0, 44

offloads = pytest.mark.parametrize("offload", ["auto", "off"])


class Bob:
    """The real client, connected to a fake gateway; `receive` is what that says it can receive."""

    def __init__(self, lab, certificates, offload="auto", receive=None, answer=None, connected=True):
        self.receive = batches.receive(**(receive or {}))
        self.answer = answer or {**IPV6, "receive": self.receive}
        self.fake = FakeGateway(lab, lab.host("gateway"), certificates)
        self.client = Client(lab.host("bob"), self.fake, vpn={"offload": offload}, **QUIET).launch()
        self.host = self.client.host
        self.pings, self.heard, self._unanswered = [], [], set()
        if connected:
            self.come_in()

    def come_in(self):
        """The client's next connection; what it said of itself is `said`."""
        self.said = self.fake.admit(**self.answer)
        self.client.wait_connected()

    def drops(self):
        """How many packets were dropped, by those reasons for which there were any."""
        drops = self.client.status()["drops"]
        return {reason: count for reason, count in drops.items() if count}

    def send(self, *entries):
        self.fake.send_packet(b"".join(entries))

    def ping(self):
        """An entry with an honest packet, which the client's kernel answers."""
        number = len(self.pings) + 1
        self.pings.append(packets.echo_request(GATEWAY, BOB, number >> 16, number & 0xFFFF))
        self._unanswered.add((number >> 16, number & 0xFFFF))
        return entry(self.pings[-1])

    def listen(self):
        """Reads one message of the client's, which is as agreed; what is in it and answers no ping is `heard`."""
        message = self.fake.receive_packet()
        assert len(message) <= self.receive["batch_bytes"]
        for found in batches.read(message):
            assert len(found.packet) <= self.receive["max_packet"]
            assert found.kind == "plain" or found.kind in self.receive["gso"]
            for packet in taken_apart(found):
                assert len(packet) <= self.receive["mtu"]
                if packet[0] >> 4 == 4 and packet[9] == packets.ICMP and packet[20] == packets.ECHO_REPLY:
                    self._unanswered.discard(packets.parse_echo(packets.parse(packet))[1:3])
                else:
                    self.heard.append((found.kind, packet))

    def hear(self, condition):
        """Listens until `condition()` is true, and returns that."""
        while not (result := condition()):
            self.listen()
        return result

    def settle(self):
        """Waits for the answers to all pings. All that was sent before has reached the kernel by then."""
        self.hear(lambda: not self._unanswered)

    def answers(self):
        """Whether one more ping is answered soon."""
        self.send(self.ping())
        try:
            self.settle()
        except TimeoutError:
            self._unanswered.clear()
            return False
        return True

    def exchange(self, *before):
        """Sends `before` and then a ping, in messages of their own, and waits for the answer."""
        for message in before:
            self.fake.send_packet(message)
        self.send(self.ping())
        self.settle()


    def captured(self, capture, *messages, data=0):
        """Sends `messages`, and returns what the kernel got. It may answer with more than the device has room for.

        What is much work a ping overtakes: that is over when the kernel got `data` bytes of TCP or UDP.
        """
        for message in [*messages, self.ping()]:
            self.fake.send_packet(message)
        self._unanswered.clear()
        found = []

        def all_there():
            found.extend(capture.take())
            return self.pings[-1] in found and (data == 0 or payload_of(found) >= data)

        wait_for(all_there, 30, "all is in the kernel")
        found.remove(self.pings[-1])
        return found


def payload_of(captured):
    """The bytes of TCP and UDP in some packets."""
    return sum(len(packet) - batches.payload_at(packet) for packet in captured
               if batches.protocol_of(packet) in (packets.TCP, packets.UDP))


def taken_apart(found):
    """The packets that an entry stands for, each right, where fragments and reports about groups are packets too."""
    packet = found.packet
    is_fragment = struct.unpack("!H", packet[6:8])[0] & 0x3FFF if batches.is_v4(packet) else packet[6] == FRAGMENT
    if not is_fragment and (batches.is_v4(packet) or packet[6] != HOP_BY_HOP):
        return batches.true_segments(found)
    assert (found.kind, found.flags) == ("plain", 0)
    return [packet]


def expanded(captured, segment_size):
    """The packets that the kernel got, some of them perhaps as super-packets of `segment_size`."""
    result = []
    for packet in captured:
        if batches.is_partial(packet) and len(packet) > batches.payload_at(packet) + segment_size:
            result += batches.segments(packet, segment_size)
        else:
            result.append(batches.finished(packet) if batches.is_partial(packet) else packet)
    return result


# --- what is honest arrives -----------------------------------------------------------------------------------------


@offloads
def test_super_packets_reach_the_kernel_as_the_packets_that_they_stand_for(lab, certificates, offload):
    bob = Bob(lab, certificates, offload)
    assert bob.said["receive"]["gso"] == ([] if offload == "off" else batches.ALL["gso"])
    capture = Capture(bob.host, "VPN")
    options = batches.with_ipv4(options_before(batches.tcp(ALICE, BOB, os.urandom(4000))))
    many = [(make(*ends, os.urandom(3000)), 3) for make in (batches.tcp, batches.udp) for ends in FAMILIES]
    largest = 0
    for packet, segment_size in [*itertools.chain(*itertools.starmap(honest_supers, FAMILIES)), *many, (options, 1000)]:
        captured = bob.captured(capture, super_entry(packet, segment_size), data=payload_of([packet]))
        if offload == "auto":
            captured, whole = expanded(captured, segment_size), captured
            largest = max(largest, *map(len, whole))
        assert captured == batches.segments(packet, segment_size)
    assert largest > 60000 or offload == "off", "this test is about nothing"
    assert not bob.drops()


def options_before(packet):
    """With four bytes of options in its IPv4 header."""
    longer = b"\x46" + packet[1:2] + struct.pack("!H", len(packet) + 4) + packet[4:20] + b"\1\1\1\0" + packet[20:]
    return batches.finished(longer)


@offloads
def test_a_super_packet_of_datagrams_arrives_at_a_socket_one_by_one(lab, certificates, offload):
    bob = Bob(lab, certificates, offload)
    for source, destination in FAMILIES:
        sock = datagram_socket(bob.host, destination, 6000)
        for size, segment_size in ((1, 1), (1000, 1000), (1001, 1000), (4000, 1000), (60000, 1360), (2000, 3),
                                   (9000, 4000)):
            data = os.urandom(size)
            bob.exchange(super_entry(batches.udp(source, destination, data), segment_size))
            datagrams = [sock.recv(65536) for _ in range(-(-size // segment_size))]
            assert b"".join(datagrams) == data
            assert {len(datagram) for datagram in datagrams[:-1]} <= {segment_size}
        sock.setblocking(False)
        with pytest.raises(BlockingIOError):
            sock.recv(65536)
    assert not bob.heard and not bob.drops()


class Connection:
    """The other end, at the gateway, of a TCP connection that a program on bob's machine opens: no more than that."""

    OPTIONS = struct.pack("!BBHBBBB", 2, 4, MTU - 40, 1, 3, 3, 7)  # maximum segment size, window scale

    def __init__(self, bob, mine, theirs, port=7000):
        self.bob, self.mine, self.theirs = bob, mine, theirs
        with bob.host.entered():
            self.program = bob.host.lab.closing(
                socket.socket(socket.AF_INET6 if ":" in mine else socket.AF_INET, socket.SOCK_STREAM))
        self.program.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 200000)  # sendall() need not wait for us
        self.program.setblocking(False)
        self.program.connect_ex((mine, port))
        self.port, self.received, self.kinds, self.opening = port, bytearray(), set(), None
        bob.hear(self._take)
        self._send(b"", SYN | ACK, self.OPTIONS)
        self.sequence += 1
        self.program.settimeout(20)

    def _send(self, data, flags=ACK, options=b"", segment_size=None):
        packet = batches.tcp(self.mine, self.theirs, data, flags, self.sequence, (self.port, self.their_port), options,
                             acknowledgement=self.first + len(self.received) & 0xFFFFFFFF)
        self.bob.send(super_entry(packet, segment_size) if segment_size else entry(packet))

    def _take(self):
        """Takes the connection's segments out of what was heard. True if there were any."""
        taken = False
        for kind, packet in self.bob.heard:
            start = batches.transport_at(packet)
            if batches.protocol_of(packet) != packets.TCP or batches.is_v4(packet) != ("." in self.mine):
                continue
            taken, sequence = True, struct.unpack("!I", packet[start + 4:start + 8])[0]
            if packet[start + 13] & SYN:
                self.opening, self.sequence, self.first = packet, 1000, sequence + 1
                self.their_port = struct.unpack("!H", packet[start:start + 2])[0]
            else:
                self.kinds.add(kind)
                offset, data = sequence - self.first & 0xFFFFFFFF, packet[batches.payload_at(packet):]
                if offset <= len(self.received):  # else one before it is on its way again
                    self.received += data[len(self.received) - offset:]
        self.bob.heard.clear()
        return taken

    def receive(self, size):
        """What the program sends, up to `size` bytes, acknowledged."""
        while len(self.received) < size:
            self.bob.hear(self._take)
            self._send(b"")
        return bytes(self.received)

    def send(self, data, segment_size):
        """Sends `data` in one super-packet, and returns what the program reads."""
        self._send(data, segment_size=segment_size)
        self.sequence += len(data)
        read = b""
        while len(read) < len(data):
            read += self.program.recv(len(data) - len(read)) or pytest.fail("the connection ended")
        return read


@offloads
def test_a_program_reads_of_tcp_super_packets_what_was_sent(lab, certificates, offload):
    bob = Bob(lab, certificates, offload)
    for mine, theirs in FAMILIES:
        connection = Connection(bob, mine, theirs)
        for size, segment_size in ((1, 1), (1000, 1000), (4001, 1000), (20000, 1360), (20000, 1360), (3000, 5),
                                   (9999, 9000)):
            data = os.urandom(size)
            assert connection.send(data, segment_size) == data
    bob.exchange()
    assert not bob.drops()


# --- what the client sends is what the gateway takes ------------------------------------------------------------------


TAKES = {
    "everything": {},
    "no-super-packets": {"gso": []},
    "kinds-of-others": {"gso": ["tcp6", "udp4", "sctp4", "", "TCP4"]},
    "packets-of-3000": {"max_packet": 3000},
    "messages-of-3006": {"batch_bytes": 3006},
    "no-more-than-a-packet": {"max_packet": MTU, "batch_bytes": MTU + batches.ENTRY_HEADER},
}


@offloads
@pytest.mark.parametrize("takes", TAKES.values(), ids=TAKES)
def test_what_the_client_sends_is_what_the_gateway_takes(lab, certificates, takes, offload):
    bob = Bob(lab, certificates, offload, receive=takes)
    whole = offload == "auto" and min(bob.receive["max_packet"], bob.receive["batch_bytes"]) >= 65535
    for mine, theirs in FAMILIES:
        connection, data = Connection(bob, mine, theirs), os.urandom(60000)
        connection.program.sendall(data)
        assert connection.receive(len(data)) == data
        kind = "tcp6" if ":" in mine else "tcp4"
        assert kind in connection.kinds or not whole or kind not in bob.receive["gso"], "this test is about nothing"

        sender = datagram_socket(bob.host, theirs)
        sender.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, 1001)
        sender.sendto(data[:20097], (mine, 7001))  # 21 datagrams in one piece
        assert b"".join(hear_datagrams(bob, 21)) == data[:20097]
        sender.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, 0)
        sender.sendto(data[:20001], (mine, 7001))  # one datagram in many fragments
        assert hear_datagrams(bob, 1) == [data[:20001]]
    bob.exchange()
    assert not bob.drops()


def hear_datagrams(bob, count):
    """What is in the next `count` UDP datagrams of bob's kernel; nothing else is heard until then."""
    def all_there():
        try:
            found = [packets.parse(packet) for packet in without_fragments(packet for _, packet in bob.heard)
                     if packet[0] >> 4 == 4 or packet[6] != HOP_BY_HOP]
        except AssertionError:
            return None  # some fragments are on their way
        return found if len(found) >= count else None

    found = bob.hear(all_there)
    bob.heard.clear()
    assert {packet.protocol for packet in found} == {packets.UDP}
    return [packets.parse_udp(packet).data for packet in found]


def test_ordinary_packets_are_not_larger_than_the_gateway_takes(lab, certificates):
    bob = Bob(lab, certificates, receive={"mtu": 1000})
    sender = datagram_socket(bob.host, BOB)
    for size in (100, 972, 1392):
        sender.sendto(bytes(size), (ALICE, 7001))
    assert [len(data) for data in hear_datagrams(bob, 3)] == [100, 972, 1392]


def test_packets_that_the_gateway_does_not_take_are_counted(lab, certificates):
    bob = Bob(lab, certificates, receive={"max_packet": 1000})
    sender = datagram_socket(bob.host, BOB)
    for size in (973, 972, 1392, 0):
        sender.sendto(bytes(size), (ALICE, 7001))
    assert [len(data) for data in hear_datagrams(bob, 2)] == [972, 0]
    assert bob.drops() == {"too_big": 2}
    bob.exchange()


def test_a_gateway_that_says_nothing_of_what_it_receives_gets_single_finished_packets(lab, certificates):
    bob = Bob(lab, certificates, answer=IPV6)
    received, port = [], itertools.count(7001)
    for mine, theirs in FAMILIES:
        sender = datagram_socket(bob.host, theirs)
        sender.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, 1001)
        data = os.urandom(9009)
        sender.sendto(data, (mine, next(port)))
        while len(received) < 9:
            packet = bob.fake.receive_packet()
            if packet[0] >> 4 == 4 or packet[6] != HOP_BY_HOP:
                received.append(packets.parse_udp(packets.parse(packet)).data)
        assert b"".join(received) == data
        received.clear()


# --- what is not honest -----------------------------------------------------------------------------------------------


def lies_of_other_protocols():
    """As lies(): a kernel that believed these would write two bytes into the middle of something."""
    made, body = {}, bytes(2000)
    for source, destination in FAMILIES:
        for packet in (batches.udp(source, destination, body), packets.echo_request(source, destination, data=body)):
            name = f"protocol {batches.protocol_of(packet)} to {destination}"
            made[f"{name}, shorter than its entry"] = entry(packet + b"m")
            made[f"{name}, longer than its entry"] = entry(packet[:-1])
        for protocol in (2, 4, 33, 41, 47, 50, 51, 58, 59, 108, 115, 132, 136, 254, 255):
            packet, name = packets.ip(source, destination, protocol, body), f"protocol {protocol} to {destination}"
            made[f"{name} with a partial checksum"] = entry(packet, flags=PARTIAL)
            for kind in batches.ALL["gso"]:
                made[f"{name} called {kind}"] = entry(packet, kind, PARTIAL, 1000)
    return made


@offloads
def test_an_entry_that_lies_reaches_no_kernel_is_counted_and_harms_no_other(lab, certificates, offload):
    """There is an honest packet in front of each lie and, where it does not end its message, one behind it."""
    bob = Bob(lab, certificates, offload)
    capture, told = Capture(bob.host, "VPN"), lies() | lies_of_other_protocols()
    for count, (name, lie) in enumerate(told.items(), 1):
        bob.exchange(bob.ping() + lie)
        assert bob.drops() == {"malformed": count}, name
        assert capture.take() == bob.pings, name
        bob.pings.clear()
    for some in batched((lie for name, lie in told.items() if "with a segment size" not in name), 20):
        bob.exchange(b"".join(bob.ping() + lie for lie in some) + bob.ping())
        count += len(some)
    assert bob.drops() == {"malformed": count}
    assert capture.take() == bob.pings


def batched(iterable, size):
    iterator = iter(iterable)
    while some := list(itertools.islice(iterator, size)):
        yield some


@offloads
def test_what_cannot_be_an_entry_takes_the_rest_of_its_message_along_and_no_more(lab, certificates, offload):
    bob = Bob(lab, certificates, offload)
    capture, hidden = Capture(bob.host, "VPN"), entry(batches.udp(ALICE, BOB, b"hidden"))
    one_short = entry(batches.udp(ALICE, BOB, b"hidden"), length=35)
    bad = no_entries()
    bad |= {f"the first {size} bytes of an entry": one_short[:size] for size in range(1, len(one_short) + 1)}
    for count, (name, message) in enumerate(bad.items(), 1):
        whole = message if name.startswith("the first") else message + hidden * 3
        bob.exchange(bob.ping() + whole)
        assert bob.drops() == {"malformed": count}, name
    bob.exchange(b"")
    assert bob.drops() == {"malformed": count + 1}, "an empty message"
    assert capture.take() == bob.pings


@offloads
def test_ten_thousand_entries_of_nothing_are_counted_one_by_one(lab, certificates, offload):
    bob = Bob(lab, certificates, offload)
    capture = Capture(bob.host, "VPN")
    bob.exchange(entry(b"") * 10000 + bob.ping(), entry(b"", "udp6", PARTIAL, 1) * 10000, b"", entry(b"") * 10000)
    assert bob.drops() == {"malformed": 30001}
    assert capture.take() == bob.pings


@offloads
def test_sixty_kilobytes_in_segments_of_one_byte_arrive_as_what_they_are_and_cost_no_memory(lab, certificates, offload):
    """True by the letter, and 60 000 packets each."""
    bob = Bob(lab, certificates, offload)
    capture, data = Capture(bob.host, "VPN"), os.urandom(60000)
    with growing_less_than(bob.client, 32 * MIB):
        for ends, make in itertools.product(FAMILIES, (batches.tcp, batches.udp)):
            captured = bob.captured(capture, super_entry(make(*ends, data), 1), data=len(data))
            assert b"".join(packet[batches.payload_at(packet):] for packet in captured) == data
            assert (len(captured) < 2000) == (offload == "auto")
    wait_for(bob.answers, 30, "pings are answered again")
    status = bob.client.status()
    assert status["down"]["packets"] == 4 * 60000 + len(bob.pings)
    assert status["drops"]["malformed"] == status["drops"]["interface_refused"] == 0


@offloads
def test_noise_in_honest_entries_makes_no_packet_that_cannot_be(lab, certificates, offload):
    """Bits turn over at random, and the same ones in each run. Checksums are the kernel's to verify."""
    bob = Bob(lab, certificates, offload)
    capture, chance = Capture(bob.host, "VPN"), random.Random(1)
    sent = [super_entry(make(*ends, bytes(2500)), 1000) for ends in FAMILIES for make in (batches.tcp, batches.udp)]
    noise = []
    for _ in range(1500):
        noisy = bytearray(chance.choice(sent))
        for _ in range(chance.randint(1, 3)):
            noisy[chance.randrange(70)] ^= 1 << chance.randrange(8)
        noise.append(bytes(noisy) + entry(b""))
    captured = bob.captured(capture, *noise)
    for packet in captured:
        size = struct.unpack("!H", packet[2:4] if batches.is_v4(packet) else packet[4:6])[0]
        assert size + (0 if batches.is_v4(packet) else 40) == len(packet)
    assert len(captured) > 100
    assert bob.drops()["malformed"] > 1000
    wait_for(bob.answers, 30, "pings are answered")


# --- messages ---------------------------------------------------------------------------------------------------------


GARBAGE = [b"", b"{", b"null", b"[]", b"{}", b"42", b'"auth_response"', b"[" * 10000, b'{"type":' * 2000, b"{" * 16000,
           b'{"type":null}', b'{"type":"config"}', b'{"type":"config","routes":[1]}', b'{"type":"error"}',
           b'{"type":"config","routes":["10.0.0.1/8","::/129"]}', b'{"type":"notice","text":7}', b'{"type":"\\u0000"}',
           b'{"type":"goodbye","reconnect_after":-1}', b'{"type":"goodbye","reconnect_after":1e300}',
           b'{"type":"auth_response","success":"yes"}', b'{"type":"auth_response","success":false,"error":"no"}',
           b'{"type":"auth","token":"x"}', b'{"type":"pong"}', b'{"type":"error","error":"' + b"x" * 10000 + b'"}',
           b'{"a":' + b"1" * 15000 + b"}", b"[" + b"1," * 7000 + b"1]"]


@offloads
def test_garbage_in_text_messages_ends_nothing_and_changes_nothing(lab, certificates, offload):
    bob = Bob(lab, certificates, offload)
    before = bob.host.addresses("VPN"), bob.host.routes(), bob.host.mtu("VPN")
    with growing_less_than(bob.client, 16 * MIB):
        for text in GARBAGE * 20:
            bob.fake.send_frame(TEXT, text)
        bob.exchange()
    assert (bob.host.addresses("VPN"), bob.host.routes(), bob.host.mtu("VPN")) == before
    status = bob.client.status()
    assert (status["state"], status["reconnects"]["attempts"]) == ("connected", 0)
    assert bob.client.stop() == OK


def test_a_gateway_that_talks_and_talks_fills_no_log(lab, certificates):
    bob = Bob(lab, certificates)
    before, much = len(bob.client.log()), "\N{GRINNING FACE}" * 3000
    says = [{"type": "notice", "text": much}, {"type": "error", "error": much}, {"type": much},
            {"type": "goodbye", "reason": much}]
    for i in range(500):
        for message in says:
            bob.fake.send(message)
        # Networks in which the gateway lies, or in which this machine stands itself.
        bob.fake.send({"type": "config", "routes": [("0.0.0.0/0", "192.0.2.2/32")[i % 2]]})
    bob.exchange()
    log = bob.client.log()[before:]
    assert [log.count(words) for words in ("notice from the gateway", "the gateway reports an error", "not understood",
                                           "the gateway says goodbye", "route not used")] == [20, 20, 20, 20, 40]
    assert len(log.encode()) < 100 * 500


def test_a_gateway_that_asks_without_reading_the_answers_is_left(lab, certificates):
    """Its pings are answered as long as it reads; what it does not read must not fill the client's memory."""
    bob = Bob(lab, certificates)
    bob.exchange()
    pings, begin = frame(TEXT, b'{"type":"ping"}') * 10000, time.monotonic()
    with growing_less_than(bob.client, 16 * MIB):
        with pytest.raises(OSError):  # the client hangs up
            while time.monotonic() - begin < 30:
                bob.fake.sock.sendall(pings)
        bob.come_in()
    bob.client.process.wait_for_log("does not read its control messages")
    bob.exchange()


@offloads
def test_the_largest_message_arrives_and_a_larger_one_ends_the_connection(lab, certificates, offload):
    bob = Bob(lab, certificates, offload)
    most = bob.said["receive"]["batch_bytes"]
    sock = datagram_socket(bob.host, BOB, 6000)
    count, left = divmod(most - 2000, 1000)
    datagram = entry(batches.udp(ALICE, BOB, bytes(1000 - batches.ENTRY_HEADER - 28)))
    last = entry(batches.udp(ALICE, BOB, bytes(2000 + left - batches.ENTRY_HEADER - 28)))
    largest = datagram * count + last
    assert len(largest) == most
    bob.exchange(largest)
    assert [len(sock.recv(65536)) for _ in range(count + 1)] == [966] * count + [left + 1966]
    for too_large in (frame(BINARY, largest + b"\0"), frame(TEXT, b" " * (most + 1)),
                      b"\x02" + frame(0, largest)[1:] + frame(0, b"\0")):  # the last of them in two fragments
        with growing_less_than(bob.client, 4 * MIB):
            try:
                bob.fake.sock.sendall(too_large)
            except OSError:
                pass  # it had enough after the header
            assert bob.fake.close_code() in (1009, None)
            bob.come_in()
            bob.exchange()
    assert not bob.drops()


BAD_FRAMES = {
    "masked": (b"\x82\x84" + bytes(8), 1002),
    "reserved bit": (b"\xc2\x00", 1002),
    "unknown opcode": (b"\x83\x00", 1002),
    "continuation of nothing": (b"\x80\x00", 1002),
    "fragmented ping": (b"\x09\x00", 1002),
    "ping of 126 bytes": (b"\x89\x7e\x00\x7e" + bytes(126), 1002),
    "length of 1 in two bytes": (b"\x82\x7e\x00\x01\x00", 1002),
    "length of 2 to the 63rd": (b"\x82\x7f\x80" + bytes(7), 1002),
    "length of 2 GiB": (b"\x82\x7f" + bytes(4) + b"\x7f\xff\xff\xff", 1009),
    "text that is none": (b"\x81\x01\xff", 1007),
    "impossible close code": (b"\x88\x02\x03\xed", 1002),
}


def test_a_frame_that_breaks_the_rules_ends_the_connection_and_not_the_client(lab, certificates):
    bob = Bob(lab, certificates)
    for name, (bad, code) in BAD_FRAMES.items():
        with growing_less_than(bob.client, 4 * MIB):
            bob.fake.sock.sendall(bad)
            assert bob.fake.close_code() == code, name
            bob.come_in()
            bob.exchange()


# --- answers to a login -----------------------------------------------------------------------------------------------


ODD_FIELDS = [
    {"assigned_ip": ""}, {"assigned_ip": BOB6}, {"assigned_ip": "10.100.0.300"}, {"subnet": "10.100.0.1/24"},
    {"subnet": "10.100.0.0/33"}, {"mtu": -1}, {"mtu": 1}, {"mtu": 70000}, {"mtu": "1420"}, {"assigned_ip6": BOB6},
    {**IPV6, "assigned_ip6": BOB}, {"routes": "0.0.0.0/0"}, {"routes": ["0.0.0.0/0"] * 2000}, {"dns": []}, {"lease": 7},
    {"keepalive": -5}, {"gateways": 7}, {"success": "yes"}, {"success": None}, {"assigned_ip": None},
]
ODD_RECEIVES = [
    None, {}, [], "all", 7, {"max_packet": 0}, {"batch_bytes": 0}, {"mtu": 0}, {"batch_bytes": 575},
    {"batch_bytes": -1},
    {"max_packet": 1e300}, {"max_packet": 1 << 64}, {"gso": "tcp4"}, {"gso": [1]}, {"gso": {}}, {"mtu": 1 << 31},
]


def test_an_odd_answer_to_a_login_keeps_nobody_from_the_next_connection(lab, certificates):
    """Whether the client takes it or not: it lives, and with an honest answer all is well."""
    bob = Bob(lab, certificates, connected=False)
    for answer in ODD_FIELDS + [{"receive": receive} for receive in ODD_RECEIVES]:
        bob.fake.admit(**answer)
        bob.fake.send_frame(CLOSE, struct.pack("!H", 1001))
        assert bob.client.process.running(), answer
    bob.come_in()
    bob.exchange()
    assert bob.host.addresses("VPN") == {BOB, BOB6} and bob.host.mtu("VPN") == MTU


def test_a_second_answer_to_a_login_changes_nothing(lab, certificates):
    bob = Bob(lab, certificates)
    bob.fake.send({**WELCOME, "assigned_ip": "10.100.0.66", "mtu": 600, "receive": batches.receive(batch_bytes=576)})
    bob.exchange()
    assert bob.host.addresses("VPN") == {BOB, BOB6} and bob.host.mtu("VPN") == MTU
    datagram_socket(bob.host, BOB).sendto(bytes(1392), (ALICE, 7001))
    assert hear_datagrams(bob, 1) == [bytes(1392)]
