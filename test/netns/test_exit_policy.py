"""What a client reaches through the gateway is the internet and nothing of the gateway's own side.

The packets are written into alice's tunnel as they are, so that also those go in that her kernel would not send. The
router plays all of the places: what reaches it from the gateway would reach them.
"""

import socket

import pytest

import packets
from internet import OUTER, OUTER6, ROUTER, ROUTER6, SERVER, SERVER6, ask, internet_lan
from lab import wait_for

modes = pytest.mark.parametrize("mode", ["userspace", "kernel"])
MARK = b"must not get there"

# By the reason that the gateway counts. Those in the second lists never leave a client's own sight in kernel mode:
# the kernel takes them for what they are before it asks anybody.
DENIED = {
    "own_address": ([OUTER, "192.0.2.1", OUTER6, "2001:db8:77::1"], []),
    "metadata": (["169.254.169.254", "fd00:ec2::254"], []),
    "private": (["10.9.9.9", "172.16.3.1", "192.168.7.1", "fd99::1"], []),
    "shared": (["100.64.0.1"], []),
    "link_local": (["169.254.3.4"], ["fe80::1"]),
    "reserved": (["198.18.0.1", "192.0.2.99", "203.0.113.5", "2001:db8:1::1"], ["240.0.0.1"]),
    "loopback": ([], ["127.0.0.1", "::1", "127.0.0.53"]),
    "unspecified": ([], ["0.0.0.0", "0.1.2.3", "::"]),
    "multicast": ([], ["239.1.2.3", "ff0e::1"]),
    "broadcast": ([], ["255.255.255.255", "45.45.45.255"]),
    "teredo": (["2001::53aa:64c"], []),
    "own_network": ([ROUTER, ROUTER6], []),
}
# IPv6 addresses by which one would reach an IPv4 address, and why that is refused in user space; the kernel's rules
# refuse them as a block.
EMBEDDED = {
    "::ffff:10.9.9.9": "private", "64:ff9b::10.9.9.9": "private", "64:ff9b::169.254.169.254": "metadata",
    "2002:a09:909::1": "private", "::10.9.9.9": "private", "64:ff9b:1::10.9.9.9": "private",
}


class Tunnel:
    """Alice's end of the tunnel, into which packets are written past her kernel."""

    def __init__(self, lan):
        self.alice, self.gateway = lan.clients[0], lan.gateway
        with self.alice.host.entered():
            self._sock = lan.lab.closing(socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0))
        status = self.alice.status()
        self.addresses = {4: status["address"], 6: status["address6"]}

    def send(self, destination, port=7000, data=MARK, protocol="udp"):
        version = 6 if ":" in destination else 4
        if protocol == "udp":
            packet = packets.udp(self.addresses[version], destination, 5000, port, data)
        else:
            syn = b"\x13\x88" + port.to_bytes(2, "big") + bytes(8) + b"\x50\x02\xff\xff" + bytes(4)
            check = packets.checksum(packets.pseudo_header(self.addresses[version], destination, 6, 20) + syn)
            packet = packets.ip(self.addresses[version], destination, 6, syn[:16] + check.to_bytes(2, "big") + syn[18:])
        with self.alice.host.entered():
            self._sock.sendto(packet, (self.alice.interface, 0x0800 if version == 4 else 0x86DD))

    def drops(self):
        status = self.gateway.status()
        return {**status["internet"]["drops"], **{f"router_{name}": count for name, count in status["drops"].items()}}


def policy_lan(lab, certificates, mode, **settings):
    lan = internet_lan(lab, certificates, mode, members=("alice",), **settings)
    # Without them the gateway's machine has no way to places of IPv6 that are on no link.
    lan.internet.gateway.run("ip", "-6", "route", "replace", "default", "via", ROUTER6)
    return lan, Tunnel(lan), lan.internet.wire()


@modes
def test_nothing_of_the_gateways_own_side_is_reached_by_default(lab, certificates, mode):
    # What goes to everybody on the LAN goes to the gateway's machine too, which is on it.
    lan, tunnel, wire = policy_lan(lab, certificates, mode, lan={"discovery": "off"})
    own = lan.internet.echo(7000, "::", host=lan.internet.gateway)  # of both families
    for reason, (told, untold) in DENIED.items():
        counted = told + untold if mode == "userspace" else told
        names = (f"denied_{reason}", "router_multicast", "router_discovery_off")
        before = sum(tunnel.drops()[name] for name in names)
        for address in told + untold:
            tunnel.send(address)
        wait_for(lambda: sum(tunnel.drops()[name] for name in names) >= before + len(counted),
                 what=f"all of {reason} are counted: {tunnel.drops()}")
    for address, reason in EMBEDDED.items():
        before = sum(count for name, count in tunnel.drops().items() if name.startswith("denied_"))
        of_reason = tunnel.drops()[f"denied_{reason}"]
        tunnel.send(address)
        wait_for(lambda: sum(count for name, count in tunnel.drops().items() if name.startswith("denied_")) > before,
                 what=address)
        assert mode == "kernel" or tunnel.drops()[f"denied_{reason}"] == of_reason + 1, address
    tunnel.send(SERVER, 25, protocol="tcp")
    wait_for(lambda: tunnel.drops()["denied_mail"] == 1, what="outgoing mail is refused")

    for server in (SERVER, SERVER6):  # what is allowed comes by, after all of them
        tunnel.send(server, data=b"may get there")
    seen = []

    def may_get_there():
        seen.extend(wire.take())
        return sum(b"may get there" in packet for packet in seen) == 2

    wait_for(may_get_there, what="the wire is looked at")
    assert not any(MARK in packet for packet in seen)
    assert own == []


@modes
def test_what_is_refused_is_told_so(lab, certificates, mode):
    lan = internet_lan(lab, certificates, mode, members=("alice",),
                       client_settings={"vpn": {"routes": ["10.9.0.0/16", "fd99::/16"]}})
    alice = lan.clients[0].host
    for address in ("10.9.9.9", "fd99::1"):
        with pytest.raises(OSError, match="No route to host|Permission denied"):
            ask(alice, address, 7000)


@modes
def test_what_is_allowed_by_name_is_reached(lab, certificates, mode):
    places = ["10.9.9.9", "192.168.7.1", "100.64.0.1", "198.18.0.1", "169.254.169.254", "fd99::1"]
    closed = ["10.9.9.8", "192.168.8.1"]
    lan = internet_lan(lab, certificates, mode, members=("alice",), client_settings={"vpn": {"routes": [
        f"{address}/{128 if ':' in address else 32}" for address in [*places, *closed, OUTER]]}},
        internet={"allow": ["10.9.9.9/32", {"to": "192.168.7.0/24", "ports": ["udp 7000"]}, "100.64.0.0/10",
                            "198.18.0.0/15", "169.254.169.254/32", "fd99::/16", f"{OUTER}/32"]})
    alice, router, gateway = lan.clients[0].host, lan.internet.router, lan.internet.gateway
    for address in places + closed:
        router.run("ip", "address", "add", address, "dev", "wire0", *(["nodad"] if ":" in address else []))
        if ":" not in address:
            gateway.run("ip", "route", "add", address, "via", "45.45.45.254")
        lan.internet.echo(7000, address, host=router)
    for address in places:
        assert ask(alice, address, 7000)[0] == b"hello", address
    lan.internet.echo(7000, OUTER, host=gateway)
    assert ask(alice, OUTER, 7000)[0] == b"hello", "the gateway's own address, named as itself"
    for address, port in ((closed[0], 7000), (closed[1], 7000), ("192.168.7.1", 7001)):
        with pytest.raises(OSError, match="No route to host|Permission denied"):
            ask(alice, address, port)


@modes
def test_rules_change_while_the_gateway_runs(lab, certificates, mode):
    lan = internet_lan(lab, certificates, mode, members=("alice",))
    alice = lan.clients[0].host
    lan.internet.echo(7000)
    ask(alice, SERVER, 7000)
    mark = lan.gateway.process.mark()
    lan.gateway.write_config(internet={"deny": [{"to": f"{SERVER}/32", "ports": ["udp 7000"]}]})
    lan.gateway.process.signal(1)
    lan.gateway.process.wait_for_log("rules loaded.*internet_deny=1", after=mark)
    wait_for(lambda: is_refused(alice), what="the new rule holds")
    lan.gateway.write_config(internet={"deny": []})
    lan.gateway.process.signal(1)
    wait_for(lambda: not is_refused(alice), what="it is gone again")


def is_refused(alice):
    try:
        return ask(alice, SERVER, 7000)[0] != b"hello"
    except OSError:
        return True


@modes
def test_a_network_that_the_machine_joins_later_is_closed_from_then_on(lab, certificates, mode):
    lan = internet_lan(lab, certificates, mode, members=("alice",),
                       client_settings={"vpn": {"routes": ["47.47.0.0/16"]}})
    alice, gateway, router = lan.clients[0].host, lan.internet.gateway, lan.internet.router
    router.run("ip", "address", "add", "47.47.47.47/24", "dev", "wire0")
    lan.internet.echo(7000, "47.47.47.47", host=router)
    assert ask(alice, "47.47.47.47", 7000)[0] == b"hello", "somewhere on the internet"
    gateway.run("ip", "address", "add", "47.47.47.1/24", "dev", "wire0")

    def is_closed():
        try:
            return ask(alice, "47.47.47.47", 7000) is None
        except OSError:
            return True

    wait_for(is_closed, what="it is a network of the gateway's now")
    assert lan.gateway.status()["internet"]["drops"]["denied_own_network"] > 0
