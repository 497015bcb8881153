"""A Penstock v1 client in one file, out of docs/PROTOCOL.md and Python's standard library alone.

    with Client("vpn.example.org") as client:
        print(client.login("token")["assigned_ip"])
        client.send_packet(packet)          # bytes: one whole IP packet
        answer = client.receive_packet()

One WebSocket (RFC 6455) over TLS. Text messages are JSON control messages, a binary message is one IP packet. Pings, of
WebSocket and of JSON, are answered whenever a receive_ function runs; there is no thread in here.
"""

import base64
import collections
import hashlib
import json
import os
import socket
import ssl
import struct
import time

TEXT, BINARY, CLOSE, PING, PONG = 0x1, 0x2, 0x8, 0x9, 0xA


class Closed(Exception):
    """The server ended the connection; `code` is that of its close frame, None if it sent none."""

    def __init__(self, code, reason=""):
        super().__init__(f"closed with {code} {reason}")
        self.code, self.reason = code, reason


def frame(opcode, payload, final=True):
    """A client's frame: always masked (RFC 6455, 5.2 and 5.3)."""
    size = len(payload)
    if size < 126:
        length = struct.pack("!B", 0x80 | size)
    elif size < 65536:
        length = struct.pack("!BH", 0x80 | 126, size)
    else:
        length = struct.pack("!BQ", 0x80 | 127, size)
    mask = os.urandom(4)
    key = (mask * (size // 4 + 1))[:size]
    masked = (int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")).to_bytes(size, "big")
    return bytes([(0x80 if final else 0) | opcode]) + length + mask + masked


class Client:
    def __init__(self, host, port=443, path="/", ca_file=None, timeout=5.0, context=None):
        self.timeout, self._received, self._fragments = timeout, bytearray(), bytearray()
        self.texts, self.packets, self.pongs = collections.deque(), collections.deque(), collections.deque()
        context = context or ssl.create_default_context(cafile=ca_file)
        self.sock = context.wrap_socket(socket.create_connection((host, port), timeout), server_hostname=host)
        key = base64.b64encode(os.urandom(16)).decode()
        name = f"[{host}]" if ":" in host else host
        self.sock.sendall(f"GET {path} HTTP/1.1\r\nHost: {name}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                          f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode())
        while b"\r\n\r\n" not in self._received:
            self._read_more()
        head, _, self._received = self._received.partition(b"\r\n\r\n")
        accept = base64.b64encode(hashlib.sha1(f"{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode()).digest())
        if not head.startswith(b"HTTP/1.1 101") or accept not in head:
            raise ConnectionError(f"no upgrade: {head.decode(errors='replace')}")

    def login(self, token, **more):
        self.send_json({"type": "auth", "token": token, **more})
        return self.receive_json()

    def reconnect(self, token, previous_ip, **more):
        self.send_json({"type": "reconnect", "token": token, "previous_ip": previous_ip, **more})
        return self.receive_json()

    def send_json(self, message):
        self.send_frame(TEXT, json.dumps(message).encode())

    def send_packet(self, packet):
        self.send_frame(BINARY, packet)

    def send_frame(self, opcode, payload=b"", final=True):
        self.sock.sendall(frame(opcode, payload, final))

    def receive_json(self, timeout=None):
        return json.loads(self._receive(self.texts, timeout))

    def receive_packet(self, timeout=None):
        return self._receive(self.packets, timeout)

    def receive_pong(self, timeout=None):
        return self._receive(self.pongs, timeout)

    def close(self, code=1000):
        """Says goodbye, waits a moment for the server's, and hangs up."""
        try:
            self.send_frame(CLOSE, struct.pack("!H", code))
            self._receive(collections.deque(), timeout=1.0)
        except (Closed, OSError):
            pass
        self.sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _receive(self, queue, timeout):
        deadline = time.monotonic() + (self.timeout if timeout is None else timeout)
        while not queue:
            while not self._take_frame():
                left = deadline - time.monotonic()
                if left <= 0:
                    raise TimeoutError("the server sent nothing of the kind in time")
                self.sock.settimeout(left)
                self._read_more()
        return queue.popleft()

    def _read_more(self):
        try:
            received = self.sock.recv(65536)
        except (ConnectionResetError, ssl.SSLEOFError):
            received = b""
        if not received:
            raise Closed(None, "without a close frame")
        self._received += received

    def _take_frame(self):
        """Handles one whole frame of what has been received; False if there is none yet."""
        data, start = self._received, 2
        if len(data) < 2:
            return False
        final, opcode, size = data[0] & 0x80, data[0] & 0x0F, data[1] & 0x7F
        if size >= 126:
            start = 4 if size == 126 else 10
            if len(data) < start:
                return False
            size = int.from_bytes(data[2:start], "big")
        if len(data) < start + size:
            return False
        payload = bytes(data[start:start + size])
        del data[:start + size]
        if opcode == CLOSE:
            code = struct.unpack("!H", payload[:2])[0] if payload else None
            raise Closed(code, payload[2:].decode())
        if opcode == PING:
            self.send_frame(PONG, payload)
        elif opcode == PONG:
            self.pongs.append(payload)
        else:
            self._fragments += payload
            self._kind = opcode or self._kind
            if final:
                message, self._fragments = bytes(self._fragments), bytearray()
                self._take_message(message)
        return True

    def _take_message(self, message):
        if self._kind == BINARY:
            self.packets.append(message)
        elif json.loads(message).get("type") == "ping":
            self.send_json({"type": "pong"})
        else:
            self.texts.append(message)
