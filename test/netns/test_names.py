"""Names, asked of the gateway with dig: those of the LAN and, by way of a server on the internet, all others.

With a TUN device the gateway listens on its inner addresses; without one it answers packets. See internet.py for who
is where; on the server runs a name server of ours.
"""

import re
import socket
import socketserver
import struct
import threading

import pytest

from internet import SERVER, internet_lan

INNER, INNER6 = "10.100.0.1", "fd00:100::1"
modes = pytest.mark.parametrize("mode", ["userspace", "kernel"])


class NameServer:
    """Answers A queries with 203.0.113.7, of names with "none" in them NXDOMAIN; long.* has 60 TXT records."""

    def __init__(self, lab, host):
        self.queries, server = [], self

        class Datagram(socketserver.BaseRequestHandler):
            def handle(self):
                data, sock = self.request
                server.queries.append((self.client_address[1], data))
                sock.sendto(server.answer(data, 1232), self.client_address)

        class Stream(socketserver.StreamRequestHandler):
            def handle(self):
                size = self.rfile.read(2)
                if len(size) == 2:
                    answer = server.answer(self.rfile.read(struct.unpack("!H", size)[0]), 65535)
                    self.wfile.write(struct.pack("!H", len(answer)) + answer)

        with host.entered():
            servers = [socketserver.UDPServer((SERVER, 53), Datagram), socketserver.TCPServer((SERVER, 53), Stream)]
        for one in servers:
            threading.Thread(target=one.serve_forever, kwargs={"poll_interval": 0.05}).start()
            lab.closing(Closing(one))

    @staticmethod
    def answer(query, size):
        end = query.index(b"\0", 12) + 5
        name, kind = query[12:end - 4].lower(), struct.unpack("!H", query[end - 4:end - 2])[0]
        records = []
        if b"none" not in name:
            if kind == 1:
                records = [b"\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04\xcb\0\x71\x07"]
            elif kind == 16 and b"long" in name:
                records = [b"\xc0\x0c\0\x10\0\x01\0\0\0\x3c\0\x65\x64" + b"%100d" % i for i in range(60)]
        whole = sum(map(len, records)) + end <= size
        flags = 0x8180 | (0x0003 if b"none" in name else 0) | (0 if whole else 0x0200)
        # Without an SOA nobody keeps that there is none (RFC 2308 section 5).
        soa = [b"\0\0\x06\0\x01\0\0\0\x3c\0\x16\0\0" + struct.pack("!5I", 1, 60, 60, 60, 60)] * (b"none" in name)
        counts = (1, len(records) if whole else 0, len(soa), 0)
        body = records if whole else []
        return query[:2] + struct.pack("!5H", flags, *counts) + query[12:end] + b"".join(body + soa)


class Closing:
    def __init__(self, server):
        self.server = server

    def close(self):
        self.server.shutdown()
        self.server.server_close()


def names_lan(lab, certificates, mode, **settings):
    lan = internet_lan(lab, certificates, mode, dns={"upstream": [SERVER]}, **settings)
    return lan, NameServer(lab, lan.internet.server)


def dig(host, *question, at=INNER):
    return host.run("dig", f"@{at}", "+tries=1", "+time=4", *question, check=False).stdout


@modes
def test_names_of_the_internet_are_asked_of_the_server_once(lab, certificates, mode):
    lan, server = names_lan(lab, certificates, mode, members=("alice",))
    alice = lan.clients[0].host
    for at in (INNER, INNER6):
        assert dig(alice, "+short", "www.example.net", at=at).split() == ["203.0.113.7"]
    assert len(server.queries) == 1, "the second came from the cache"
    assert "status: NXDOMAIN" in dig(alice, "none.example.net")
    assert "status: NXDOMAIN" in dig(alice, "none.example.net")
    assert len(server.queries) == 2, "that there is none is kept too"
    for i in range(20):
        dig(alice, "+short", f"host{i}.example.net")
    assert len({port for port, _ in server.queries}) > 15, "ports of chance"
    assert len({query[:2] for _, query in server.queries}) > 15, "ids of chance"
    names = [query[12:query.index(b"\0", 12)] for _, query in server.queries]
    assert any(name != name.lower() and name != name.upper() for name in names), "letters of chance"


@modes
def test_members_are_found_by_name_and_by_address(lab, certificates, mode):
    lan, server = names_lan(lab, certificates, mode)
    alice = lan.clients[0].host
    assert dig(alice, "+short", "Bob.penstock.internal").split() == ["10.100.0.3"]
    assert dig(alice, "+short", "bob.penstock.internal", "AAAA").split() == ["fd00:100::3"]
    assert dig(alice, "+short", "-x", "10.100.0.3").split() == ["bob.penstock.internal."]
    assert dig(alice, "+short", "-x", "fd00:100::3").split() == ["bob.penstock.internal."]
    assert "status: NXDOMAIN" in dig(alice, "carol.penstock.internal")
    assert "status: NXDOMAIN" in dig(alice, "-x", "10.100.0.77")
    assert server.queries == [], "nothing of the LAN goes out"


def test_a_long_answer_is_cut_and_whole_by_tcp(lab, certificates):
    lan, _ = names_lan(lab, certificates, "kernel", members=("alice",))
    alice = lan.clients[0].host
    assert re.search(r"flags:[^;]* tc\b", dig(alice, "+ignore", "long.example.net", "TXT"))
    assert dig(alice, "+short", "long.example.net", "TXT").count('"') == 120
    assert dig(alice, "+short", "+tcp", "www.example.net").split() == ["203.0.113.7"]


def test_a_neighbour_of_the_gateway_is_not_served(lab, certificates):
    lan, _ = names_lan(lab, certificates, "kernel", members=("alice",))
    stranger = lab.host("stranger")
    stranger.route("10.100.0.0/24", lan.gateway.host.ipv4)
    assert "ANSWER: 1" not in dig(stranger, "bob.penstock.internal")
    assert "203.0.113.7" not in dig(stranger, "www.example.net")
    assert lan.gateway.status()["dns"]["strangers"] > 0


def test_the_gateways_machine_itself_is_served(lab, certificates):
    lan, _ = names_lan(lab, certificates, "kernel")
    assert dig(lan.gateway.host, "+short", "bob.penstock.internal").split() == ["10.100.0.3"]


def test_where_another_program_has_port_53_the_gateway_goes_without_names(lab, certificates):
    lan = internet_lan(lab, certificates, "kernel", members=("alice",))
    lan.gateway.stop()
    with lan.gateway.host.entered():
        taken = lab.closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    taken.bind(("0.0.0.0", 53))
    lan.gateway.start()
    assert lan.gateway.process.logged("clients are not served names.*in use")
    lan.clients[0].host.wait_ping(INNER, 15)


@modes
def test_with_dns_off_nothing_is_served(lab, certificates, mode):
    lan = internet_lan(lab, certificates, mode, members=("alice",), dns={"serve": "off"})
    assert "connection refused" in dig(lan.clients[0].host, "bob.penstock.internal")
    assert "dns" not in lan.gateway.status()
