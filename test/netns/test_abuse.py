"""A public port's worst day: whatever strangers and members do, two clients keep a ping and a transfer going without loss.

      gateway 192.0.2.1 --+
        alice 192.0.2.2 --+--[ switch ]      alice and bob: real clients, at peace
          bob 192.0.2.3 --+
      mallory 192.0.2.4 --+                  and 198.51.100.1 to .250 as well: as many strangers as a test wants

The gateway runs with its default limits. Its memory stays below BOUND, which SECURITY.md states.
"""

import collections
import contextlib
import os
import random
import re
import resource
import signal
import socket
import ssl
import struct
import threading
import time

import pytest

import packets
from lab import meanwhile, wait_for
from lan import Lan, Stream
from penstock_v1 import BINARY, PING, TEXT, frame
from programs import TOKENS, token_record

MIB = 1 << 20
BOUND = 256 * MIB  # SECURITY.md, "Memory"
MEMBERS = ("alice", "bob", "carol", "dave")
STRANGERS = [f"198.51.100.{n}" for n in range(1, 251)]
UPGRADE = (b"GET / HTTP/1.1\r\nHost: gateway.test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
           b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n")
LOGIN_DEADLINE = 10  # docs/PROTOCOL.md: TLS, upgrade and first message together


class Peace:
    """Alice pings bob and streams to him all the while; leaving the block looks that nothing was lost."""

    def __init__(self, lan):
        self.lan, (self.alice, self.bob) = lan, lan.clients
        self.bob_inside = self.bob.status()["address"]
        self.gateway = lan.gateway

    def __enter__(self):
        self.stream = Stream(self.lan.lab, self.alice.host, self.bob.host, self.bob_inside)
        self.done, self.bytes, self.broken = threading.Event(), 0, []
        self.transfer = threading.Thread(target=self._transfer)
        self.transfer.start()
        self.ping = self.alice.host.start("ping", "-n", "-q", "-i", "0.1", "-W", "5", self.bob_inside)
        self.links = [client.status()["reconnects"]["succeeded"] for client in self.lan]
        return self

    def _transfer(self):
        """Blocks of random bytes, each sent back by bob and compared."""
        try:
            while not self.done.is_set():
                block = os.urandom(32 * 1024)
                if not self.stream.exchange(block):
                    self.broken.append("a block came back changed")
                self.bytes += len(block)
        except Exception as error:  # noqa: BLE001  told by the thread that waits
            self.broken.append(repr(error))

    def __exit__(self, *_):
        with contextlib.suppress(AssertionError):  # told below
            wait_for(lambda: self.broken or self.bytes > MIB, 15)
        self.done.set()
        self.transfer.join()
        self.ping.signal(signal.SIGINT)  # it prints its summary
        self.ping.wait()
        assert not self.broken, self.broken
        assert self.bytes > MIB, f"only {self.bytes} bytes came through"
        sent, received = map(int, re.search(r"(\d+) packets transmitted, (\d+) received", self.ping.log()).groups())
        assert received >= sent - 1 > 0, self.ping.tail()  # the last may be on its way
        assert [client.status()["reconnects"]["succeeded"] for client in self.lan] == self.links, "a link was lost"
        assert self.peak() < BOUND, f"the gateway took {self.peak() / MIB:.0f} MiB"

    def peak(self):
        with open(f"/proc/{self.gateway.process.pid}/status") as lines:
            return int(re.search(r"^VmHWM:\s*(\d+) kB", lines.read(), re.MULTILINE).group(1)) * 1024


class Mallory:
    """Connections from as many addresses as wanted; all are closed with the lab."""

    def __init__(self, lab, gateway):
        self.lab, self.gateway, self.host = lab, gateway, lab.host("mallory")
        for address in STRANGERS:
            self.host.run("ip", "address", "add", f"{address}/24", "dev", "eth0")
        gateway.host.run("ip", "route", "add", "198.51.100.0/24", "dev", "eth0")
        self.tls = ssl.create_default_context(cafile=gateway.ca)

    def connect(self, source=None):
        with self.host.entered():
            sock = socket.create_connection((self.gateway.host.ipv4, 443), timeout=10,
                                            source_address=(source, 0) if source else None)
        return self.lab.closing(sock)

    def secure(self, source=None):
        return self.tls.wrap_socket(self.connect(source), server_hostname="gateway.test")

    def upgraded(self, source=None):
        sock = self.secure(source)
        sock.sendall(UPGRADE)
        return sock, read_head(sock)

    def login(self, token, source=None):
        """The head of the answer to the upgrade, and, if there was one, what came back to the login."""
        sock, head = self.upgraded(source)
        if not head.startswith(b"HTTP/1.1 101"):
            return head, b""
        sock.sendall(frame(TEXT, b'{"type":"auth","token":"' + token.encode() + b'"}'))
        return head, sock.recv(4096)

    def member(self, name, source=None):
        sock, head = self.upgraded(source)
        assert head.startswith(b"HTTP/1.1 101"), head
        sock.sendall(frame(TEXT, b'{"type":"auth","token":"' + TOKENS[name].encode() + b'"}'))
        answer = sock.recv(4096)
        sock.inner = re.search(rb'"assigned_ip":"([0-9.]+)"', answer).group(1).decode()
        return sock


def read_head(sock):
    received = b""
    while b"\r\n\r\n" not in received:
        chunk = sock.recv(4096)
        if not chunk:
            return received
        received += chunk
    return received


def is_closed(sock):
    """Whether the gateway has ended `sock`, asked without waiting."""
    sock.setblocking(False)
    try:
        while True:
            if not sock.recv(65536):
                return True
    except (BlockingIOError, ssl.SSLWantReadError):
        return False
    except OSError:
        return True


@pytest.fixture
def field(lab, certificates):
    """Alice and bob at peace, and mallory beside them."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    lan = Lan(lab, certificates, auth={"tokens": [token_record(name) for name in MEMBERS]}, logging={"level": "info"},
              client_settings={"logging": {"level": "info"}})
    mallory = Mallory(lab, lan.gateway)
    with Peace(lan) as peace:
        yield peace, mallory
    lan.gateway.stop()
    assert lan.gateway.process.popen.returncode == 0


def limits(gateway):
    return gateway.status()["limits"]


# --- those who never finish ------------------------------------------------------------------------------------------


class Drip(threading.Thread):
    """Sends each of `sockets` the next byte of its text every `pause` seconds."""

    def __init__(self, sockets, text, pause=0.25):
        super().__init__()
        self.sockets, self.text, self.pause, self.done = sockets, text, pause, threading.Event()
        self.start()

    def run(self):
        for byte in self.text:
            for sock in self.sockets:
                with contextlib.suppress(OSError):
                    sock.send(bytes([byte]))
            if self.done.wait(self.pause):
                return

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.done.set()
        self.join()


def client_hello():
    """The first flight of a real TLS client."""
    outgoing = ssl.MemoryBIO()
    tls = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="gateway.test")
    with contextlib.suppress(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


def test_whoever_sends_a_byte_now_and_then_is_gone_after_the_deadline(field):
    """In the middle of TLS, of the upgrade and of the login, all at once."""
    peace, mallory = field
    sources = [source for source in STRANGERS[:20] for _ in range(10)]
    login = frame(TEXT, b'{"type":"auth","token":"' + b"x" * 200 + b'"}')
    stages = [([mallory.connect(source) for source in sources], client_hello()),
              ([mallory.secure(source) for source in sources], UPGRADE),
              ([mallory.upgraded(source)[0] for source in sources], login)]
    with contextlib.ExitStack() as drips:
        for sockets, text in stages:
            drips.enter_context(Drip(sockets, text))
        wait_for(lambda: all(is_closed(sock) for sockets, _ in stages for sock in sockets), 2 * LOGIN_DEADLINE,
                 "all of them are closed", every=0.2)
    wait_for(lambda: limits(peace.gateway)["handshakes_now"] == 0, what="nothing of them is left")


def test_more_silent_connections_than_handshakes_may_be_under_way_keep_nobody_out(field):
    peace, mallory = field
    silent = [mallory.connect(source) for source in STRANGERS[:50] for _ in range(50)]
    assert len(silent) == 2500
    wait_for(lambda: limits(peace.gateway)["handshakes_now"] <= 2048, what="the oldest made room")
    assert mallory.member("carol").inner
    assert limits(peace.gateway)["handshakes_full"] > 0
    wait_for(lambda: all(map(is_closed, silent)), 2 * LOGIN_DEADLINE, "all of them are closed", every=0.2)


def test_a_flood_of_silent_connections_that_goes_on_keeps_nobody_out(field):
    """Whoever says nothing makes room before whoever does, however long a login takes."""
    peace, mallory = field
    done, begun = threading.Event(), []

    def flood(sources):
        silent = collections.deque()
        with mallory.host.entered():
            while not done.is_set():
                for source in sources:
                    with contextlib.suppress(OSError):
                        sock = socket.socket()
                        sock.setblocking(False)
                        sock.bind((source, 0))
                        sock.connect_ex((peace.gateway.host.ipv4, 443))
                        silent.append(sock)
                        begun.append(1)
                while len(silent) > 4000:
                    silent.popleft().close()

    flooders = [threading.Thread(target=flood, args=(STRANGERS[start::2][:100],)) for start in (0, 1)]
    for flooder in flooders:
        flooder.start()
    try:
        wait_for(lambda: limits(peace.gateway)["handshakes_full"] > 0, 20, "the flood has taken all there is")
        sock = mallory.secure()
        for part in (UPGRADE[:40], UPGRADE[40:]):  # somebody far away
            wait_for(lambda until=time.monotonic() + 1: time.monotonic() > until, 3)
            sock.sendall(part)
        assert read_head(sock).startswith(b"HTTP/1.1 101")
        sock.sendall(frame(TEXT, b'{"type":"auth","token":"' + TOKENS["carol"].encode() + b'"}'))
        assert b'"success":true' in sock.recv(4096)
    finally:
        done.set()
        for flooder in flooders:
            flooder.join()
    assert len(begun) > 4000


def test_logins_that_stop_in_the_middle_of_a_message_hold_little_memory(field):
    peace, mallory = field
    unfinished = frame(TEXT, bytes(16 * 1024))[:-1]
    for source in STRANGERS[:30]:
        for _ in range(30):
            sock, _head = mallory.upgraded(source)
            sock.sendall(frame(PING, b"x" * 8) * 500 + unfinished)
    assert peace.peak() < BOUND


def test_two_thousand_half_open_connections_keep_nobody_out(field):
    """SYNs from addresses that never answer: the kernel's part, which the gateway must not get in the way of."""
    peace, mallory = field
    peace.gateway.host.run("ip", "route", "add", "203.0.113.0/24", "dev", "eth0")
    with mallory.host.entered():
        raw = mallory.lab.closing(socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW))
    for number in range(2000):
        source = f"203.0.113.{number % 250 + 1}"
        segment = struct.pack("!HHIIBBHHH", 20000 + number, 443, number, 0, 5 << 4, 0x02, 64240, 0, 0)
        check = packets.checksum(packets.pseudo_header(source, peace.gateway.host.ipv4, 6, len(segment)) + segment)
        segment = segment[:16] + struct.pack("!H", check) + segment[18:]
        raw.sendto(packets.ip(source, peace.gateway.host.ipv4, 6, segment), (peace.gateway.host.ipv4, 0))
    assert mallory.member("carol").inner


# --- those who talk nonsense -----------------------------------------------------------------------------------------


def test_garbage_on_the_port_is_answered_with_little_and_forgotten(field):
    peace, mallory = field
    dice = random.Random(7)
    openings = [lambda: dice.randbytes(500), lambda: b"GET / HTTP/1.0\r\n\r\n", lambda: b"SSH-2.0-OpenSSH_9.2\r\n",
                lambda: b"\x16\x03\x01\xff\xff" + dice.randbytes(2000), lambda: client_hello()[:-1] + b"\xff\xff",
                lambda: b"\x00" * 5000, lambda: b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n" + client_hello(),
                lambda: b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c" + bytes(12)]
    for number in range(400):
        sock = mallory.connect(STRANGERS[number % 40])
        with contextlib.suppress(OSError):
            sock.sendall(openings[number % len(openings)]())
            sock.shutdown(socket.SHUT_WR)
    wait_for(lambda: limits(peace.gateway)["handshakes_now"] == 0, 2 * LOGIN_DEADLINE, "all of them are gone")
    requests = [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"POST / HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n",
                b"GET /" + b"a" * 100000, b"\xff" * 10000, UPGRADE.replace(b"GET / ", b"GET /elsewhere "),
                UPGRADE.replace(b"Version: 13", b"Version: 12"), UPGRADE.replace(b"\r\n\r\n", b"\r\nX: y" * 5000)]
    for number in range(70):
        sock = mallory.secure(STRANGERS[number % 40])
        answer = b""
        with contextlib.suppress(OSError):  # it may hang up while the rest is on its way
            sock.sendall(requests[number % len(requests)])
            answer = read_head(sock)
        assert not answer.startswith(b"HTTP/1.1 101")
    wait_for(lambda: limits(peace.gateway)["handshakes_now"] == 0, 2 * LOGIN_DEADLINE, "all of them are gone")


def test_ten_thousand_invalid_packets_and_frames(field):
    peace, mallory = field
    dice = random.Random(11)
    member = mallory.member("carol")
    before = sum(peace.gateway.status()["drops"].values())
    good = packets.udp(member.inner, peace.bob_inside, 5000, 5001, bytes(100))
    for _ in range(100):
        burst = b""
        for _ in range(100):
            bad = bytearray(good)
            kind = dice.randrange(5)
            if kind == 0:
                bad = bad[:dice.randrange(20)]  # cut short
            elif kind == 1:
                bad[0] = dice.choice([0x00, 0x15, 0x41, 0x65, 0xF5])  # another version, a header too short
            elif kind == 2:
                bad[2:4] = dice.randbytes(2)  # a length that is not so (or by a rare chance is)
                bad[2] |= 0x80
            elif kind == 3:
                bad[12:16] = dice.randbytes(4)  # somebody else's address
            else:
                bad = dice.randbytes(dice.randrange(1, 1500))
            burst += frame(BINARY, bytes(bad))
        member.sendall(burst)
    wait_for(lambda: sum(peace.gateway.status()["drops"].values()) - before >= 9_900, 20, "they are counted as dropped")
    member.sendall(frame(TEXT, b'{"type":"ping"}'))
    assert b"pong" in member.recv(4096), "whoever sends bad packets is still a member"

    # Frames that break the protocol end their connection, so each of 200 connections gets to send one, and 49 more that
    # nobody reads.
    violations = [b"\xf2\x80aaaa", b"\x83\x80aaaa", b"\x82\x05hello", b"\x89\xfe\x00\x7eaaaa", b"\x09\x80aaaa",
                  b"\x80\x80aaaa", b"\x82\xff" + b"\xff" * 8 + b"aaaa", b"\x82\xfe\x00\x01aaaax",
                  frame(TEXT, b"\xc3\x28"), b"\x88\x81aaaax"]
    for number in range(200):
        sock, head = mallory.upgraded(STRANGERS[number % 100])
        assert head.startswith(b"HTTP/1.1 101"), head
        with contextlib.suppress(OSError):
            sock.sendall(violations[number % len(violations)] * 50)
    wait_for(lambda: limits(peace.gateway)["handshakes_now"] == 0, 2 * LOGIN_DEADLINE, "all of them are gone")


# --- those who guess -------------------------------------------------------------------------------------------------


def test_brute_force_from_one_address_is_told_to_wait_longer_and_longer(field):
    peace, mallory = field
    waits, refused = [], 0
    for attempt in range(60):
        head, answer = mallory.login(f"guess-{attempt}", STRANGERS[0])
        if head.startswith(b"HTTP/1.1 429"):
            seconds = int(re.search(rb"\r\nRetry-After: (\d+)\r\n", head).group(1))
            waits.append(seconds)
            if seconds > 2:
                break
            wait_for(lambda until=time.monotonic() + seconds: time.monotonic() > until, seconds + 5)
        else:
            assert b'"success":false' in answer
            refused += 1
    assert refused >= 5 and waits[-1] > waits[0] >= 1, (refused, waits)
    assert limits(peace.gateway)["login_blocked"] > 0
    assert mallory.member("carol").inner, "other addresses are not blamed"


def test_brute_force_from_many_addresses_costs_the_members_nothing(field):
    peace, mallory = field
    for attempt in range(300):
        mallory.login(f"guess-{attempt}", STRANGERS[attempt % 150])
    assert peace.gateway.status()["totals"]["logins_refused"] >= 300
    assert mallory.member("carol").inner


# --- those who are slow, or greedy -----------------------------------------------------------------------------------


@contextlib.contextmanager
def flooding(sock, data):
    with meanwhile(lambda: sock.sendall(data)):
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)


def test_a_reader_that_stops_reading_fills_its_own_queue_alone(field):
    peace, mallory = field
    deaf, sender = mallory.member("carol"), mallory.member("dave")
    packet = packets.udp(sender.inner, deaf.inner, 5000, 5001, bytes(1300))
    with flooding(sender, frame(BINARY, packet) * 200):
        wait_for(lambda: peace.gateway.drops("queue_full") > 50_000, 30, "the queue of the deaf one is full")
    pings = frame(PING, bytes(125)) * 500
    with flooding(mallory.member("dave"), pings):  # whose pongs nobody reads
        wait_for(lambda until=time.monotonic() + 2: time.monotonic() > until, 4)


def test_a_sender_at_full_speed_to_a_reader_at_1_mbit(field):
    peace, mallory = field
    slow = mallory.member("carol")
    slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32768)
    sender, received = mallory.member("dave"), []
    packet = packets.udp(sender.inner, slow.inner, 5000, 5001, bytes(1300))
    with meanwhile(lambda: received.append(len(slow.recv(12_500))), pause=0.1), flooding(sender, frame(BINARY, packet) * 50):
        wait_for(lambda until=time.monotonic() + 8: time.monotonic() > until, 10)
        queued = peace.gateway.session(slow.inner)["queue_bytes"]
    assert sum(received) > 300_000, "the slow one is served at its own pace"
    assert queued <= 8 * MIB, "and what waits for it is bounded"
    assert peace.gateway.drops("queue_full") > 0
