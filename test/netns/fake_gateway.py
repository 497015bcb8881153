"""A gateway that speaks plain v1 and no more, by the hand of the test: what a client says to it, and how it takes it.

      fake = FakeGateway(lab, lab.host("gateway"), certificates)
      client = Client(lab.host("alice"), fake).launch()
      fake.accept()
      assert fake.receive()["type"] == "auth"
"""

import base64
import hashlib
import json
import re
import socket
import ssl
import struct

import pytest


class FakeGateway:
    """Just enough of a gateway: one TLS listener, one WebSocket, JSON messages."""

    def __init__(self, lab, host, certificates):
        pair = certificates.issue("fake", [host.ipv4])
        self.host, self.ca = host, certificates.ca
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(pair.certificate, pair.key)
        with host.entered():
            self.listener = lab.closing(socket.create_server((host.ipv4, 443)))
        self.listener.settimeout(10)

    def url(self, ipv6=False):
        return f"wss://{self.host.ipv4}/"

    def accept(self):
        self.sock = self.context.wrap_socket(self.listener.accept()[0], server_side=True)
        self.sock.settimeout(5)
        head = b""
        while b"\r\n\r\n" not in head:
            head += self.sock.recv(4096)
        key = re.search(rb"Sec-WebSocket-Key: *(\S+)", head, re.IGNORECASE)[1]
        accept = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()).decode()
        self.sock.sendall(f"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                          f"Sec-WebSocket-Accept: {accept}\r\n\r\n".encode())

    def send(self, message):
        text = json.dumps(message).encode()
        self.sock.sendall(struct.pack("!BBH", 0x81, 126, len(text)) + text if len(text) > 125
                          else struct.pack("!BB", 0x81, len(text)) + text)

    def _exactly(self, size):
        data = b""
        while len(data) < size:
            data += self.sock.recv(size - len(data)) or pytest.fail("the client hung up")
        return data

    def receive(self):
        """The next text message of the client; packets and pings are skipped."""
        while True:
            first, second = self._exactly(2)
            size = second & 0x7F
            if size == 126:
                size = int.from_bytes(self._exactly(2), "big")
            mask = self._exactly(4)
            payload = bytes(b ^ mask[i % 4] for i, b in enumerate(self._exactly(size)))
            if first & 0x0F == 1:
                return json.loads(payload)
