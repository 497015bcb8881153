"""The internet through the gateway: in user space by a process without any privilege, and by the kernel.

See internet.py for who is where.
"""

import re
import socket

import pytest

from internet import (OTHER, OTHER6, OUTER, OUTER6, ROUTER, ROUTER6, SERVER, SERVER6, ask, internet_lan, udp_socket)

MODES = ["userspace"]
modes = pytest.mark.parametrize("mode", MODES)
families = pytest.mark.parametrize("server", [SERVER, SERVER6], ids=["ipv4", "ipv6"])


def outer_of(server):
    return OUTER6 if ":" in server else OUTER


@modes
def test_udp_echo_and_ping_and_traceroute(lab, certificates, mode):
    lan = internet_lan(lab, certificates, mode, members=("alice",))
    alice = lan.clients[0].host
    for server, router, outer in ((SERVER, ROUTER, OUTER), (SERVER6, ROUTER6, OUTER6)):
        heard = lan.internet.echo(7000, server)
        assert ask(alice, server, 7000) == (b"hello", (server, 7000))
        assert heard[0][0] == outer, "the internet sees the gateway's own address"
        for size in (1, 1300, 4000):
            assert ask(alice, server, 7000, bytes(size))[0] == bytes(size)
        assert re.search(r"1 received", alice.run("ping", "-n", "-c1", "-W3", server).stdout)
        for kind in ("-U", "-I"):
            printed = alice.run("traceroute", "-n", "-q1", "-w2", "-m6", kind, server).stdout
            hops = re.findall(r"^ *\d+ +(\S+)", printed, re.M)
            assert hops[-2:] == [router, server], printed
