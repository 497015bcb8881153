"""Somebody changes the MTU of an interface by hand while all is running: what goes on, what is said, what is lost.

      alice 192.0.2.2 --+--[ switch ]-- gateway 192.0.2.1 --wire-- beyond 198.51.100.2, 2001:db8:99::2
        bob 192.0.2.3 --+

Inside 10.100.0.0/24 and fd00:100::/64, with an MTU of 1420 that was agreed on at login and stays agreed on: the kernel
at whose interface the MTU was changed sends by the new one, and the gateway cuts for the others or says that it cannot.
"""

import contextlib
import hashlib
import os
import signal
import threading

import pytest

from lab import wait_for
from lan import SUBNET6, Lan, Stream
from programs import token_record
from test_offload import BEYOND, BEYOND6, MTU, PREFIXES, QUIET, beyond, both_families, exchange_datagrams

MIB = 1 << 20
GATEWAY, GATEWAY6, ALICE, ALICE6 = "10.100.0.1", "fd00:100::1", "10.100.0.2", "fd00:100::2"
BOB, BOB6 = "10.100.0.3", "fd00:100::3"
LOWER, HIGHER, HIGHEST = 1300, 9000, 65535

offloads = pytest.mark.parametrize("offload", ["auto", "off"])
changes = pytest.mark.parametrize("change", [
    ("client",), ("gateway",), ("client", "gateway")], ids=["client", "gateway", "both"])


def lan_of(lab, certificates, offload="auto", routes=(), **settings):
    """A LAN, all ends of which have this vpn.offload, and clients these routes."""
    return Lan(lab, certificates, vpn={"subnet6": SUBNET6, "offload": offload}, **QUIET, **settings,
               client_settings={"vpn": {"offload": offload, "routes": list(routes)}, **QUIET})


def set_mtu(program, mtu):
    program.host.run("ip", "link", "set", interface_of(program), "mtu", mtu)
    assert program.host.mtu(interface_of(program)) == mtu


def interface_of(program):
    return "tun0" if program.kind == "server" else program.interface


class Transfer:
    """Bytes that go one way until finish(), and are compared."""

    def __init__(self, near, far, address, port):
        self.stream, self.count, self._done = Stream(near.lab, near, far, address, port), 0, threading.Event()
        self._sent, self._received = hashlib.sha256(), hashlib.sha256()
        self._threads = [threading.Thread(target=work) for work in (self._send, self._receive)]
        for thread in self._threads:
            thread.start()

    def _send(self):
        with contextlib.suppress(OSError):
            while not self._done.is_set():
                block = os.urandom(1 << 16)
                self.stream.near.sendall(block)
                self._sent.update(block)
            self.stream.near.shutdown(1)

    def _receive(self):
        with contextlib.suppress(OSError):
            while chunk := self.stream.far.recv(1 << 20):
                self._received.update(chunk)
                self.count += len(chunk)

    def wait_for_more(self, size=MIB // 4):
        goal = self.count + size
        wait_for(lambda: self.count >= goal, 30, "the transfer goes on")

    def finish(self):
        """True if all that was sent has arrived unharmed."""
        self._done.set()
        for thread in self._threads:
            thread.join()
        return self.count > 0 and self._sent.digest() == self._received.digest()


@contextlib.contextmanager
def transfers(*ways):
    """Transfers by each of `ways`, (near, far, address), which have arrived byte for byte in the end."""
    running = []
    try:
        for port, way in enumerate(ways, 9001):
            running.append(Transfer(*way, port))
        yield running
    finally:
        arrived = [transfer.finish() for transfer in running]
    assert arrived == [True] * len(ways)


def pings(host, address, sizes, attempts=5):
    """Pings of packets of `sizes`; one that is answered by "too big" has further attempts."""
    def answered(data):
        done = host.run("ping", "-n", "-c1", "-W1", f"-s{data}", address, check=False)
        return f"{data + 8} bytes from {address}" in done.stdout

    for size in sizes:
        data = size - (48 if ":" in address else 28)
        assert any(answered(data) for _ in range(attempts)), f"{size} bytes to {address}"


def sizes_below(mtu):
    sizes = (60, 999, 1279, 1280, LOWER - 1, LOWER, LOWER + 1, MTU - 1, MTU, MTU + 1, 8999, HIGHER, 40000, HIGHEST - 8)
    return [size for size in sizes if size <= mtu]


# --- what goes on -----------------------------------------------------------------------------------------------------


@offloads
@changes
def test_transfers_and_pings_go_on_whatever_the_mtu_becomes(lab, certificates, offload, change):
    lan = lan_of(lab, certificates, offload)
    (alice, bob), gateway = lan, lan.gateway
    alice.host.wait_ping(BOB)
    changed = [program for program in (alice, gateway) if program.kind in change]
    ways = [(alice.host, gateway.host, GATEWAY), (gateway.host, alice.host, ALICE6), (alice.host, bob.host, BOB6),
            (bob.host, alice.host, ALICE)]
    with transfers(*ways) as running:
        for mtu in (LOWER, HIGHER, 1280, HIGHEST, MTU):
            for program in changed:
                set_mtu(program, mtu)
            for transfer in running:
                transfer.wait_for_more()
            for host, address in ((alice.host, GATEWAY6), (gateway.host, ALICE), (alice.host, BOB), (bob.host, ALICE6)):
                pings(host, address, (60, 1279, mtu))
    for program in (alice, bob, gateway):
        assert program.process.running()
    assert alice.status()["reconnects"]["attempts"] == bob.status()["reconnects"]["attempts"] == 0
    assert gateway.drops("malformed") == gateway.drops("interface_refused") == 0


@offloads
@changes
@pytest.mark.parametrize("mtu", [1280, LOWER, HIGHER, HIGHEST])
def test_pings_and_datagrams_of_all_sizes_arrive(lab, certificates, offload, change, mtu):
    lan = lan_of(lab, certificates, offload)
    (alice, bob), gateway = lan, lan.gateway
    alice.host.wait_ping(BOB)
    for program in (alice, gateway):
        if program.kind in change:
            set_mtu(program, mtu)
    for one, other in ((alice, gateway), (alice, bob)):
        for mine, theirs in both_families(one, other):
            pings(one.host, theirs, sizes_below(mtu))
            pings(other.host, mine, sizes_below(mtu))
            assert Stream(lab, one.host, other.host, theirs).transfer(MIB)
            assert Stream(lab, other.host, one.host, mine).transfer(MIB)


@offloads
@changes
def test_datagrams_one_by_one_and_in_one_piece_arrive_with_a_lower_mtu(lab, certificates, offload, change):
    lan = lan_of(lab, certificates, offload)
    (alice, bob), gateway = lan, lan.gateway
    alice.host.wait_ping(BOB)
    for program in (alice, gateway):
        if program.kind in change:
            set_mtu(program, LOWER)
    for one, other in ((alice, gateway), (alice, bob)):
        for mine, theirs in both_families(one, other):
            exchange_datagrams(one.host, mine, other.host, theirs)


# --- what is said -----------------------------------------------------------------------------------------------------


def told(host, address, size, by, mtu):
    """That a packet of `size` that nobody may cut cannot go on, is what `host` hears from `by`, and why."""
    ipv6, output = ":" in address, []
    words = f"Packet too big: mtu={mtu}" if ipv6 else f"Frag needed and DF set (mtu = {mtu})"

    def heard():
        forget_mtus(host)
        ping = ["ping", "-n", "-c1", "-W2", "-Mdo", f"-s{size - (48 if ipv6 else 28)}", address]
        output.append(host.run(*ping, check=False).stdout)
        return f"From {by} icmp_seq=1 {words}" in output[-1]

    assert any(heard() for _ in range(3)), "\n".join(output)


def forget_mtus(*hosts):
    """Makes these hosts forget what they have learnt of MTUs on the way."""
    for host in hosts:
        for family in ("-4", "-6"):
            host.run("ip", family, "route", "flush", "cache")


@offloads
def test_who_sends_more_than_the_receiver_agreed_to_is_told_so_by_the_gateway(lab, certificates, offload):
    lan = lan_of(lab, certificates, offload)
    (alice, _), gateway = lan, lan.gateway
    alice.host.wait_ping(BOB)
    for program in (alice, gateway):
        set_mtu(program, HIGHER)
    told(alice.host, BOB, MTU + 1, GATEWAY, MTU)
    told(alice.host, BOB6, HIGHER, GATEWAY6, MTU)
    told(gateway.host, BOB, HIGHER, BOB, MTU)  # a kernel drops what comes from its own address
    told(gateway.host, BOB6, MTU + 1, BOB6, MTU)
    pings(alice.host, GATEWAY, (HIGHER,))
    pings(alice.host, GATEWAY6, (HIGHER,))


@offloads
def test_a_network_behind_the_gateway_is_told_of_the_mtu_in_its_way(lab, certificates, offload):
    lan = lan_of(lab, certificates, offload, routes=PREFIXES, internet={"mode": "off"})
    alice, gateway = lan.clients[0], lan.gateway
    other = beyond(gateway.host)
    for host in (other, gateway.host):
        host.run("ip", "link", "set", "wire", "mtu", HIGHER)
    for address, near, theirs in ((ALICE, "198.51.100.1", BEYOND), (ALICE6, "2001:db8:99::1", BEYOND6)):
        other.wait_ping(address)
        set_mtu(gateway, LOWER)
        told(other, address, MTU, near, LOWER)
        assert Stream(lab, other, alice.host, address).transfer(MIB)
        forget_mtus(other, gateway.host)
        set_mtu(gateway, HIGHER)
        told(other, address, MTU + 1, address, MTU)
        assert Stream(lab, other, alice.host, address).transfer(MIB)
        set_mtu(alice, HIGHER)
        pings(alice.host, theirs, sizes_below(HIGHER))
        set_mtu(alice, MTU)
        forget_mtus(other, gateway.host)


@offloads
def test_a_network_behind_a_client_is_told_of_the_mtu_in_its_way(lab, certificates, offload):
    tokens = [token_record("alice", sites=PREFIXES), token_record("bob")]
    lan = lan_of(lab, certificates, offload, auth={"tokens": tokens})
    alice, bob = lan
    other = beyond(alice.host)
    for host in (other, alice.host):
        host.run("ip", "link", "set", "wire", "mtu", HIGHER)
    for address, near, by in ((BOB, "198.51.100.1", GATEWAY), (BOB6, "2001:db8:99::1", GATEWAY6)):
        other.wait_ping(address)
        set_mtu(alice, LOWER)
        told(other, address, MTU, near, LOWER)
        assert Stream(lab, other, bob.host, address).transfer(MIB)
        forget_mtus(other, alice.host)
        set_mtu(alice, HIGHER)
        told(other, address, MTU + 1, by, MTU)
        assert Stream(lab, other, bob.host, address).transfer(MIB)
        forget_mtus(other, alice.host)


# --- what is lost, and comes back -------------------------------------------------------------------------------------


def test_an_mtu_set_by_hand_outlives_a_reconnect(lab, certificates):
    lan = lan_of(lab, certificates)
    alice, gateway = lan.clients[0], lan.gateway
    for mtu in (LOWER, HIGHER):
        set_mtu(alice, mtu)
        before = alice.status()
        gateway.restart()
        alice.wait_reconnected(before)
        assert alice.host.mtu("VPN") == alice.status()["mtu"] == mtu
        pings(alice.host, GATEWAY, sizes_below(mtu))
        pings(alice.host, GATEWAY6, sizes_below(mtu))


def test_below_1280_ipv6_alone_is_gone(lab, certificates):
    lan = lan_of(lab, certificates)
    alice, gateway = lan.clients[0], lan.gateway
    with transfers((alice.host, gateway.host, GATEWAY), (gateway.host, alice.host, ALICE)) as running:
        for program in (alice, gateway):
            set_mtu(program, 1000)
        for transfer in running:
            transfer.wait_for_more()
        pings(alice.host, GATEWAY, (60, 999, 1000, 5000))
        pings(gateway.host, ALICE, (60, 999, 1000, 5000))
        assert alice.host.addresses("VPN") == {ALICE}
        status = alice.status()
        assert (status["mtu"], status["address"], status["address6"]) == (1000, ALICE, None)


def test_ipv6_that_a_low_mtu_took_away_is_back_with_the_next_login(lab, certificates):
    lan = lan_of(lab, certificates)
    alice = lan.clients[0]
    set_mtu(alice, 1000)
    set_mtu(alice, MTU)
    before = alice.status()
    lan.gateway.restart()
    alice.wait_reconnected(before)
    assert alice.host.addresses("VPN") == {ALICE, ALICE6}


def test_an_mtu_too_low_for_ipv6_keeps_no_client_from_logging_in(lab, certificates):
    lan = lan_of(lab, certificates)
    alice, gateway = lan.clients[0], lan.gateway
    set_mtu(alice, 1000)
    before = alice.status()
    gateway.stop()
    gateway.write_config(vpn={"subnet6": "fd00:200::/64"})  # so that there is something to configure
    gateway.start()
    alice.wait_reconnected(before, deadline=5)
    pings(alice.host, GATEWAY, (60, 1000, 5000))
    alice.process.wait_for_log("no IPv6 inside: it needs an MTU of 1280 or more")
    assert alice.host.mtu("VPN") == 1000

    set_mtu(alice, MTU)
    before = alice.status()
    gateway.restart()
    alice.wait_reconnected(before)
    assert alice.host.addresses("VPN") == {ALICE, "fd00:200::2"}
    pings(alice.host, "fd00:200::1", sizes_below(MTU))


def test_ipv6_that_a_low_mtu_took_away_from_the_gateway_is_back_with_a_reload(lab, certificates):
    lan = lan_of(lab, certificates)
    alice, gateway = lan.clients[0], lan.gateway
    set_mtu(gateway, 1000)
    set_mtu(gateway, MTU)
    assert gateway.host.addresses("tun0") == {GATEWAY}
    mark = len(gateway.log())
    gateway.process.signal(signal.SIGHUP)
    gateway.process.wait_for_log("tokens loaded", after=mark)
    wait_for(lambda: gateway.host.addresses("tun0") == {GATEWAY, GATEWAY6}, 5, "the address is back")
    pings(alice.host, GATEWAY6, sizes_below(MTU))
    pings(gateway.host, ALICE6, sizes_below(MTU))


def test_a_reload_of_a_gateway_whose_mtu_is_too_low_for_ipv6_changes_what_it_can(lab, certificates):
    lan = lan_of(lab, certificates)
    alice, gateway = lan.clients[0], lan.gateway
    set_mtu(gateway, 1000)
    gateway.write_config(auth={"tokens": [token_record("alice"), token_record("bob", sites=["10.50.0.0/24"])]})
    mark = len(gateway.log())
    gateway.process.signal(signal.SIGHUP)
    gateway.process.wait_for_log("tokens loaded", after=mark)
    wait_for(lambda: gateway.host.routes().get("10.50.0.0/24") == "tun0", 5, "the route to the site is there")
    assert gateway.host.addresses("tun0") == {GATEWAY} and gateway.host.mtu("tun0") == 1000
    pings(alice.host, GATEWAY, (60, 1000, 5000))
