"""A gateway with a few clients on hosts of their own, and what is said between them.

      gateway 192.0.2.1 --+
        alice 192.0.2.2 --+--[ switch ]      inside: 10.100.0.0/24 and fd00:100::/64, the gateway's address first
          bob 192.0.2.3 --+
"""

import contextlib
import hashlib
import os
import socket
import threading

from programs import Client, Gateway, token_record

SUBNET6 = "fd00:100::/64"


class Lan:
    """`members` clients, each with a token of its own name, connected one after the other: .2, .3, ..."""

    def __init__(self, lab, certificates, members=("alice", "bob"), ipv4=True, ipv6=True, client_settings=None,
                 gateway_wrapper=(), **settings):
        self.lab, self.certificates, self.outside_ipv6 = lab, certificates, not ipv4
        self.client_settings = client_settings or {}
        self.gateway = Gateway(lab.host("gateway", ipv4, ipv6), certificates, wrapper=gateway_wrapper, **{
            "vpn": {"subnet6": SUBNET6}, "auth": {"tokens": [token_record(name) for name in members]}, **settings})
        self.gateway.start()
        self.clients = [self.join(name, lab.host(name, ipv4, ipv6)) for name in members]

    def join(self, name, host, **settings):
        settings = {**self.client_settings, **settings}
        return Client(host, self.gateway, token=name, ipv6=self.outside_ipv6, **settings).start()

    def __iter__(self):
        return iter(self.clients)


def inner_addresses(program):
    """The IPv4 and IPv6 address inside of a client or a gateway, without None."""
    status = program.status()
    keys = ("address", "address6") if status["role"] == "client" else ("server_ip", "server_ip6")
    return [status[key] for key in keys if status[key]]


class Stream:
    """A TCP connection between programs of this process on two hosts."""

    def __init__(self, lab, from_host, to_host, to_address, port=9000):
        with to_host.entered():
            family = socket.AF_INET6 if ":" in to_address else socket.AF_INET
            listener = lab.closing(socket.create_server((to_address, port), family=family))
        with from_host.entered():
            self.near = lab.closing(socket.create_connection((to_address, port), timeout=20))
        self.far = lab.closing(listener.accept()[0])
        self.far.settimeout(20)
        listener.close()

    def exchange(self, word=b"still here?"):
        """Sends `word` there and back, however long that takes within the time limit."""
        self.near.sendall(word)
        self._copy(self.far, len(word))
        return self._copy(self.near, len(word), answer=False) == word

    @staticmethod
    def _copy(sock, size, answer=True):
        received = b""
        while len(received) < size:
            chunk = sock.recv(size - len(received))
            assert chunk, "the connection ended"
            received += chunk
        if answer:
            sock.sendall(received)
        return received

    def transfer(self, size):
        """Sends `size` random bytes one way; true if they arrive unharmed."""
        block = os.urandom(1 << 20)
        sent, received, count = hashlib.sha256(), hashlib.sha256(), 0

        def send():
            with contextlib.suppress(OSError):
                for _ in range(size >> 20):
                    sent.update(block)
                    self.near.sendall(block)
                self.near.shutdown(socket.SHUT_WR)

        sender = threading.Thread(target=send)
        sender.start()
        while chunk := self.far.recv(1 << 20):
            received.update(chunk)
            count += len(chunk)
        sender.join()
        return count == size and sent.digest() == received.digest()
