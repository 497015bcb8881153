"""Plain clients (test/v1client) and the gateway that they talk to.

      alice 192.0.2.2 --+
        bob 192.0.2.3 --+--[ switch ]--+-- gateway 192.0.2.1:443      inner 10.100.0.1/24
      carol 192.0.2.4 --+

Plain clients are sockets of this process, made inside the hosts' namespaces. The gateway runs with `tun: off` but where
its kernel is the subject.
"""

import contextlib
import fcntl
import os
import struct
import time

import pytest

import packets
from lab import meanwhile
from penstock_v1 import Closed
from programs import TOKENS, Gateway

GATEWAY = "10.100.0.1"


class Place:
    """A gateway host and one host for plain clients, which may hold as many as a test wants."""

    def __init__(self, lab, certificates):
        self.lab, self.certificates = lab, certificates
        self.gateway_host, self.alice = lab.host("gateway"), lab.host("alice")

    def gateway(self, tun="off", **settings):
        settings.setdefault("vpn", {}).setdefault("tun", tun)
        self.running = Gateway(self.gateway_host, self.certificates, **settings).start()
        return self.running

    def client(self, host=None, **options):
        return self.running.plain_client(host or self.alice, **options)

    def member(self, token="alice", host=None, **fields):
        """A plain client that has logged in; its address is `address`."""
        client = self.client(host)
        client.address = succeeded(client.login(TOKENS[token], **fields))["assigned_ip"]
        return client


def succeeded(answer):
    assert answer["type"] == "auth_response" and answer["success"] is True, answer
    return answer


def refused(answer):
    """The words of a refused login."""
    assert answer["type"] == "auth_response" and answer["success"] is False, answer
    assert "assigned_ip" not in answer
    return answer["error"]


def close_code(client, timeout=5.0):
    """The code with which the server ends the connection; what it sent before is skipped."""
    end = time.monotonic() + timeout
    with pytest.raises(Closed) as closed:
        while True:
            client.receive_json(timeout=max(0.01, end - time.monotonic()))
    return closed.value.code


@contextlib.contextmanager
def answering(client):
    """Meanwhile somebody reads what the server sends `client`, so its pings are answered."""
    def read():
        with contextlib.suppress(TimeoutError):
            client.receive_json(timeout=0.1)

    with meanwhile(read, ends=(Closed, OSError)):
        yield


def echo(client, destination, data=b"penstock"):
    """Pings `destination` and returns the reply, parsed."""
    client.send_packet(packets.echo_request(client.address, destination, sequence=7, data=data))
    packet = packets.parse(client.receive_packet())
    reply = packets.parse_echo(packet)
    assert (packet.source, packet.destination) == (destination, client.address)
    assert (reply.kind, reply.ident, reply.sequence, reply.data) == (packets.ECHO_REPLY, 1, 7, data)
    return packet


@contextlib.contextmanager
def bridged(client, host, sizes):
    """Gives `client` a TUN device on `host`; the sizes of the packets that it receives are appended to `sizes`."""
    with host.entered():
        device = os.open("/dev/net/tun", os.O_RDWR)
        fcntl.ioctl(device, 0x400454CA, struct.pack("16sH22x", b"plain0", 0x1001))  # TUNSETIFF: IFF_TUN | IFF_NO_PI
    for command in (f"address add {client.address}/24 dev plain0", "link set plain0 mtu 1420 up"):
        host.run("ip", *command.split())
    os.set_blocking(device, False)

    def shovel():
        with contextlib.suppress(BlockingIOError):
            while True:
                client.send_packet(os.read(device, 65536))
        with contextlib.suppress(TimeoutError):
            packet = client.receive_packet(timeout=0.001)
            sizes.append(len(packet))
            os.write(device, packet)

    try:
        with meanwhile(shovel, ends=(Closed, OSError)):
            yield
    finally:
        os.close(device)
