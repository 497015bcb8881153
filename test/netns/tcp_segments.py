"""TCP segments by hand, past the kernel of a client, and wires on which segments get lost, late and doubled."""

import collections
import contextlib
import errno
import heapq
import itertools
import random
import select
import socket
import struct
import threading
import time

import packets

FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16
PACKET_OUTGOING, SO_RCVBUFFORCE = 4, 33
Segment = collections.namedtuple("Segment", "source source_port port sequence acknowledged flags window data")


def segment(source, destination, source_port, port, flags, sequence=0, acknowledged=0, window=65535, data=b"",
            options=b""):
    header = struct.pack("!HHIIBBHHH", source_port, port, sequence & 0xFFFFFFFF, acknowledged & 0xFFFFFFFF,
                         (20 + len(options)) << 2, flags, window, 0, 0) + options
    check = packets.checksum(packets.pseudo_header(source, destination, packets.TCP, len(header) + len(data)) + header +
                             data)
    return packets.ip(source, destination, packets.TCP, header[:16] + struct.pack("!H", check) + header[18:] + data)


def parse(packet):
    """None unless it is TCP. Checksums are not looked at: they may be unfinished so close to a kernel."""
    version = packet[0] >> 4
    header = (packet[0] & 0xF) * 4 if version == 4 else 40
    if packet[9 if version == 4 else 6] != packets.TCP:
        return None
    source = socket.inet_ntop(socket.AF_INET, packet[12:16]) if version == 4 else socket.inet_ntop(
        socket.AF_INET6, packet[8:24])
    tcp = packet[header:]
    source_port, port, sequence, acknowledged, offset, flags, window = struct.unpack("!HHIIBBH", tcp[:16])
    return Segment(source, source_port, port, sequence, acknowledged, flags, window, tcp[(offset >> 4) * 4:])


class Segments:
    """A client that says and hears segments by hand; of what comes back its kernel sees nothing, and so resets nothing."""

    def __init__(self, client):
        self.client, self.address = client, client.status()["address"]
        host, lab = client.host, client.host.lab
        with host.entered():
            self._out, self._in = (lab.closing(socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0)) for _ in "oi")
            self._in.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 64 << 20)
            self._in.bind((client.interface, 0x0800))
        self._in.setblocking(False)
        self._to = (client.interface, 0x0800)
        host.run("nft", f"add table inet hidden; add chain inet hidden input {{ type filter hook input priority -300; }};"
                        f" add rule inet hidden input iifname {client.interface} meta l4proto tcp drop")

    def send(self, server, source_port, port, flags, **more):
        packet = segment(self.address, server, source_port, port, flags, **more)
        for _ in range(1000):
            try:
                return self._out.sendto(packet, self._to)
            except OSError as error:  # the device's queue is full
                if error.errno != errno.ENOBUFS:
                    raise
                time.sleep(0.001)
        return None

    def receive(self, timeout=0.0):
        """What has come by now; waits so long for the first."""
        found = []
        select.select([self._in], [], [], timeout)
        with contextlib.suppress(BlockingIOError):
            while True:
                packet, (_, _, kind, _, _) = self._in.recvfrom(1 << 17)
                if kind != PACKET_OUTGOING and (heard := parse(packet)):
                    found.append(heard)
        return found

    def half_open(self, server, port, own_ports, deadline=30.0, window=65535):
        """Asks for connections and answers nothing: {own port: the server's first number}, of all `own_ports`."""
        open_ones, left, end = {}, set(own_ports), time.monotonic() + deadline
        while left:
            assert time.monotonic() < end, f"{len(left)} of {len(own_ports)} are not answered"
            for number, own_port in enumerate(list(left)):
                self.send(server, own_port, port, SYN, sequence=own_port, window=window)
                if number % 200 == 199:
                    self._take_answers(open_ones, left)
            quiet = time.monotonic() + 1.0
            while left and time.monotonic() < quiet:
                self._take_answers(open_ones, left, 0.05)
        return open_ones

    def _take_answers(self, open_ones, left, timeout=0.0):
        for heard in self.receive(timeout):
            if heard.flags & (SYN | ACK | RST) == SYN | ACK and heard.port in left:
                left.discard(heard.port)
                open_ones[heard.port] = heard.sequence


class BadWire:
    """Joins two interfaces of `host` and loses, delays and doubles TCP segments between them, each way by chance."""

    def __init__(self, lab, host, names, lost=0.02, late=0.03, doubled=0.01, seed=1):
        with host.entered():
            self._ends = [lab.closing(socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)) for _ in names]
            for sock, name in zip(self._ends, names):
                sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 16 << 20)
                sock.bind((name, 3))
                sock.setblocking(False)
        self._chances, self._dice, self._number = (lost, late, doubled), random.Random(seed), itertools.count()
        self._waiting = {sock: [] for sock in self._ends}  # of those that go there: (after which frame, number, frame)
        self.counts, self._passed = collections.Counter(), collections.Counter()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._work)
        self._thread.start()
        lab.closing(self)

    def _work(self):
        while not self._over.is_set():
            ready = select.select(self._ends, [], [], 0.005)[0]
            for sock in ready:
                with contextlib.suppress(BlockingIOError):
                    for _ in range(64):
                        frame, (_, _, kind, _, _) = sock.recvfrom(1 << 17)
                        if kind != PACKET_OUTGOING:
                            self._judge(frame, self._ends[sock is self._ends[0]])
            if not ready:
                for sock in self._ends:
                    self._release(sock, all_of_them=True)

    def _judge(self, frame, to):
        kind, protocol = frame[12:14], frame[23:24] if frame[12:14] == b"\x08\0" else frame[20:21]
        fate = self._dice.random() if kind in (b"\x08\0", b"\x86\xdd") and protocol == b"\x06" else 1.0
        lost, late, doubled = self._chances
        self._passed[to] += 1
        if fate < lost:
            self.counts["lost"] += 1
        elif fate < lost + late:
            self.counts["late"] += 1
            heapq.heappush(self._waiting[to], (self._passed[to] + self._dice.randrange(1, 12), next(self._number), frame))
        else:
            for _ in range(2 if fate < lost + late + doubled else 1):
                self._send(to, frame)
            self.counts["doubled"] += fate < lost + late + doubled
        self._release(to)

    def _release(self, to, all_of_them=False):
        waiting = self._waiting[to]
        while waiting and (all_of_them or waiting[0][0] <= self._passed[to]):
            self._send(to, heapq.heappop(waiting)[2])

    @staticmethod
    def _send(to, frame):
        with contextlib.suppress(OSError):  # one more that is lost
            to.send(frame)

    def close(self):
        self._over.set()
        self._thread.join()
