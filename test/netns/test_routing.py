"""The gateway as a router: it is a hop, says what it cannot deliver and why, and fits packets to whoever takes less.

      gateway 192.0.2.1 --+
        alice 192.0.2.2 --+--[ switch ]      inside: 10.100.0.0/24 and fd00:100::/64, the gateway's address first
          bob 192.0.2.3 --+                  bob's interface has an MTU of NARROW where a test says so
"""

import re
import socket

import pytest

from lab import wait_for
from lan import Lan, Stream, inner_addresses
from programs import Client

NARROW = 1300
BOB, BOB6 = "10.100.0.3", "fd00:100::3"
GATEWAY, GATEWAY6 = "10.100.0.1", "fd00:100::1"


def with_narrow_bob(lab, certificates, **settings):
    """A LAN whose bob takes packets of up to NARROW bytes, which he tells the gateway as he logs in."""
    lan = Lan(lab, certificates, members=("alice", "bob"), **settings)
    alice, bob = lan
    bob.stop()
    lan.clients[1] = Client(bob.host, lan.gateway, token="bob", vpn={"mtu": NARROW}).start()
    assert [inner_addresses(client) for client in lan] == [["10.100.0.2", "fd00:100::2"], [BOB, BOB6]]
    return lan


def ping(host, address, *options):
    """What one ping prints that waits for its answer at most two seconds."""
    return host.run("ping", "-n", "-c1", "-W2", *options, address, check=False).stdout


def path_mtu(host, address):
    """The MTU that the kernel has learned for the way to `address`; None while it goes by that of the interface."""
    metrics = host.show("route", "get", address)[0].get("metrics", [])
    return next((metric["mtu"] for metric in metrics if "mtu" in metric), None)


@pytest.mark.parametrize("loops", [1, 2])
@pytest.mark.parametrize("tun", ["on", "off"])
def test_the_gateway_is_the_hop_between_two_clients(lab, certificates, tun, loops):
    lan = Lan(lab, certificates, performance={"loops": loops}, vpn={"subnet6": "fd00:100::/64", "tun": tun})
    alice = lan.clients[0].host
    alice.wait_ping(BOB)
    for bob, gateway in ((BOB, GATEWAY), (BOB6, GATEWAY6)):
        assert re.search(rf"From {gateway} icmp_seq=1 Time (to live )?exceeded", ping(alice, bob, "-t1"))
        answer = ping(alice, bob, "-t2")
        assert f"bytes from {bob}" in answer
        assert re.search(r"ttl=63\b", answer), "the answer came by the same hop"
        assert re.search(r"ttl=64\b", ping(alice, gateway, "-t1")), "the gateway itself is no hop away"
    assert lan.gateway.drops("hop_limit") == 2


def test_to_and_from_the_machine_of_the_gateway_there_is_no_hop(lab, certificates):
    lan = Lan(lab, certificates)
    lan.gateway.host.wait_ping(BOB)
    for bob in (BOB, BOB6):
        assert re.search(r"ttl=64\b", ping(lan.gateway.host, bob, "-t1"))


@pytest.mark.parametrize("tun", ["on", "off"])
def test_whoever_asks_for_an_address_that_nobody_has_is_told_at_once(lab, certificates, tun):
    lan = Lan(lab, certificates, vpn={"subnet6": "fd00:100::/64", "tun": tun})
    alice = lan.clients[0].host
    answer = ping(alice, "10.100.0.50")
    assert f"From {GATEWAY} icmp_seq=1 Destination Host Unreachable" in answer, answer
    answer = ping(alice, "fd00:100::50")
    assert f"From {GATEWAY6} icmp_seq=1 Destination unreachable: Address unreachable" in answer, answer
    with alice.entered():
        caller = lab.closing(socket.socket())
    caller.settimeout(10)
    with pytest.raises(OSError, match="No route to host"):
        caller.connect(("10.100.0.50", 80))


def test_the_machine_of_the_gateway_is_told_too(lab, certificates):
    gateway = Lan(lab, certificates).gateway.host
    answer = ping(gateway, "10.100.0.50")
    assert "From 10.100.0.50 icmp_seq=1 Destination Host Unreachable" in answer, answer
    answer = ping(gateway, "fd00:100::50")
    assert "From fd00:100::50 icmp_seq=1 Destination unreachable: Address unreachable" in answer, answer


def test_without_an_exit_there_is_no_way_to_elsewhere(lab, certificates):
    lan = Lan(lab, certificates, vpn={"subnet6": "fd00:100::/64", "tun": "off"}, internet={"mode": "off"},
              push={"routes": ["198.51.100.0/24", "2001:db8:5::/48"]})
    alice = lan.clients[0].host
    assert f"From {GATEWAY} icmp_seq=1 Destination Net Unreachable" in ping(alice, "198.51.100.1")
    assert f"From {GATEWAY6} icmp_seq=1 Destination unreachable: No route" in ping(alice, "2001:db8:5::1")


def test_a_flood_to_nobody_brings_a_few_answers_a_second(lab, certificates):
    lan = Lan(lab, certificates, members=("alice",))
    printed = lan.clients[0].host.run("ping", "-n", "-i0.002", "-c300", "-W1", "10.100.0.50", check=False).stdout
    told, milliseconds = map(int, re.search(r"\+(\d+) errors.* time (\d+)ms", printed).groups())
    assert 20 <= told <= 21 + 10 * milliseconds / 1000, printed[-300:]
    assert lan.gateway.drops("no_session") == 300


@pytest.mark.parametrize("loops", [1, 2])
def test_the_kernel_learns_what_a_narrow_client_takes(lab, certificates, loops):
    lan = with_narrow_bob(lab, certificates, performance={"loops": loops})
    alice = lan.clients[0].host
    alice.wait_ping(BOB)
    answer = ping(alice, BOB, "-Mdo", f"-s{NARROW - 27}")
    assert f"From {GATEWAY} icmp_seq=1 Frag needed and DF set (mtu = {NARROW})" in answer, answer
    assert path_mtu(alice, BOB) == NARROW
    assert f"bytes from {BOB}" in ping(alice, BOB, "-Mdo", f"-s{NARROW - 28}")

    answer = ping(alice, BOB6, "-Mdo", f"-s{NARROW - 47}")
    assert f"From {GATEWAY6} icmp_seq=1 Packet too big: mtu={NARROW}" in answer, answer
    assert path_mtu(alice, BOB6) == NARROW
    assert f"bytes from {BOB6}" in ping(alice, BOB6, "-Mdo", f"-s{NARROW - 48}")
    assert lan.gateway.drops("too_big") == 2


def test_the_kernel_of_the_gateway_learns_it_too(lab, certificates):
    lan = with_narrow_bob(lab, certificates)
    gateway = lan.gateway.host
    gateway.wait_ping(BOB)
    assert f"Frag needed and DF set (mtu = {NARROW})" in ping(gateway, BOB, "-Mdo", "-s1392")
    assert path_mtu(gateway, BOB) == NARROW
    assert f"Packet too big: mtu={NARROW}" in ping(gateway, BOB6, "-Mdo", "-s1372")
    assert path_mtu(gateway, BOB6) == NARROW


def test_what_may_be_fragmented_reaches_a_narrow_client_in_fragments(lab, certificates):
    lan = with_narrow_bob(lab, certificates)
    alice, bob = (client.host for client in lan)
    alice.wait_ping(BOB)
    assert f"1400 bytes from {BOB}" in ping(alice, BOB, "-Mdont", "-s1392")
    assert f"5008 bytes from {BOB}" in ping(alice, BOB, "-Mdont", "-s5000"), "fragments are cut once more"
    assert lan.gateway.drops("too_big") == 0
    assert path_mtu(alice, BOB) is None
    before = int(re.search(r"IpReasmOKs\s+(\d+)", bob.run("nstat", "-asz", "IpReasmOKs").stdout)[1])
    ping(alice, BOB, "-Mdont", "-s1392")
    wait_for(lambda: int(re.search(r"IpReasmOKs\s+(\d+)", bob.run("nstat", "-asz", "IpReasmOKs").stdout)[1]) > before,
             what="bob put it together")


@pytest.mark.parametrize("address", [BOB, BOB6])
def test_tcp_to_a_narrow_client_never_sends_what_is_too_big(lab, certificates, address):
    lan = with_narrow_bob(lab, certificates, client_settings={"logging": {"level": "info"}})
    alice, bob = (client.host for client in lan)
    alice.wait_ping(BOB)
    stream = Stream(lab, alice, bob, address)
    headers = 60 if address == BOB6 else 40
    assert stream.near.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG) <= NARROW - headers
    assert stream.transfer(8 << 20)
    assert Stream(lab, bob, alice, inner_addresses(lan.clients[0])[address == BOB6]).transfer(8 << 20)
    assert Stream(lab, lan.gateway.host, bob, address).transfer(4 << 20)
    assert lan.gateway.drops("too_big") == 0
