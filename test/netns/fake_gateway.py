"""A gateway by the hand of the test: what a client says to it, and how it takes what it is told, true or not.

      fake = FakeGateway(lab, lab.host("gateway"), certificates)
      client = Client(lab.host("alice"), fake).launch()
      fake.admit(receive=batches.receive())              # or accept(), receive() and send() one by one
      fake.send_packet(message)                          # bytes: a whole binary message
      message = fake.receive_packet()

What it sends is not looked at, so that lies can be told. Pings are answered whenever a receive function runs.
"""

import base64
import collections
import hashlib
import json
import re
import socket
import ssl
import struct
import time

import pytest

from penstock_v1 import BINARY, CLOSE, PING, PONG, TEXT, Closed

WELCOME = {"type": "auth_response", "success": True, "assigned_ip": "10.100.0.3", "subnet": "10.100.0.0/24",
           "server_ip": "10.100.0.1", "mtu": 1420}


def frame(opcode, payload):
    """A gateway's frame: never masked (RFC 6455, 5.2)."""
    size = len(payload)
    length = (struct.pack("!B", size) if size < 126 else struct.pack("!BH", 126, size) if size < 65536
              else struct.pack("!BQ", 127, size))
    return bytes([0x80 | opcode]) + length + payload


class FakeGateway:
    """Just enough of a gateway: one TLS listener, one WebSocket, JSON messages, binary messages as they come."""

    def __init__(self, lab, host, certificates):
        pair = certificates.issue("fake", [host.ipv4])
        self.host, self.ca = host, certificates.ca
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(pair.certificate, pair.key)
        with host.entered():
            self.listener = lab.closing(socket.create_server((host.ipv4, 443)))
        self.listener.settimeout(20)
        self.sock, self._closing = None, lab.closing

    def url(self, ipv6=False):
        return f"wss://{self.host.ipv4}/"

    def accept(self):
        """Waits for the client's next connection and answers its upgrade; the one before is over."""
        if self.sock:
            self.sock.close()
        self._received, self._texts, self._packets = bytearray(), collections.deque(), collections.deque()
        self.sock = self._closing(self.context.wrap_socket(self.listener.accept()[0], server_side=True))
        self.sock.settimeout(20)
        while b"\r\n\r\n" not in self._received:
            self._read_more()
        head, _, self._received = self._received.partition(b"\r\n\r\n")
        key = re.search(rb"Sec-WebSocket-Key: *(\S+)", head, re.IGNORECASE)[1]
        accept = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()).decode()
        self.sock.sendall(f"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                          f"Sec-WebSocket-Accept: {accept}\r\n\r\n".encode())

    def admit(self, **fields):
        """Accepts a connection and its login, with an answer of WELCOME and `fields`; returns what the client said."""
        self.accept()
        said = self.receive()
        self.send({**WELCOME, **fields})
        return said

    def send(self, message):
        self.send_frame(TEXT, json.dumps(message).encode())

    def send_packet(self, message):
        self.send_frame(BINARY, message)

    def send_frame(self, opcode, payload):
        self.sock.settimeout(20)
        self.sock.sendall(frame(opcode, payload))

    def receive(self, timeout=10.0):
        """The next text message of the client, parsed."""
        return json.loads(self._next(self._texts, timeout))

    def receive_packet(self, timeout=10.0):
        """The next binary message of the client."""
        return self._next(self._packets, timeout)

    def close_code(self, timeout=20.0):
        """The code with which the client ends the connection; what it sent before is skipped."""
        with pytest.raises(Closed) as closed:
            self._next(collections.deque(), timeout)
        return closed.value.code

    def _next(self, queue, timeout):
        end = time.monotonic() + timeout
        while not queue:
            while not self._take_frame():
                left = end - time.monotonic()
                if left <= 0:
                    raise TimeoutError("the client sent nothing of the kind in time")
                self.sock.settimeout(left)
                self._read_more()
        return queue.popleft()

    def _read_more(self):
        try:
            received = self.sock.recv(65536)
        except (ConnectionResetError, ssl.SSLEOFError):
            received = b""
        if not received:
            raise Closed(None, "the client hung up")
        self._received += received

    def _take_frame(self):
        """Handles one whole frame of what has been received; False if there is none yet."""
        data, start = self._received, 2
        if len(data) < 2:
            return False
        opcode, size = data[0] & 0x0F, data[1] & 0x7F
        assert data[0] & 0x80 and data[1] & 0x80, "a fragment, or a frame without a mask"
        if size >= 126:
            start = 4 if size == 126 else 10
            if len(data) < start:
                return False
            size = int.from_bytes(data[2:start], "big")
        if len(data) < start + 4 + size:
            return False
        key = (bytes(data[start:start + 4]) * (size // 4 + 1))[:size]
        masked = data[start + 4:start + 4 + size]
        payload = (int.from_bytes(masked, "big") ^ int.from_bytes(key, "big")).to_bytes(size, "big")
        del data[:start + 4 + size]
        if opcode == CLOSE:
            raise Closed(struct.unpack("!H", payload[:2])[0] if payload else None, payload[2:].decode())
        if opcode == PING:
            self.send_frame(PONG, payload)
        elif opcode in (TEXT, BINARY):
            (self._texts if opcode == TEXT else self._packets).append(payload)
        return True
