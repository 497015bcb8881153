"""How machines find each other: what one client says to everybody, the others hear, and no more of it than the rate.

      gateway 192.0.2.1 --+
        alice 192.0.2.2 --+
          bob 192.0.2.3 --+--[ switch ]      inside: 10.100.0.0/24 and fd00:100::/64, the gateway's address first
        carol 192.0.2.4 --+
"""

import select
import shutil
import signal
import socket
import struct
import threading
import time

import pytest

from lab import wait_for
from lan import Lan, inner_addresses

MEMBERS = ("alice", "bob", "carol")

MDNS, MDNS6 = ("224.0.0.251", 5353), ("ff02::fb", 5353)
# What Windows and its neighbours ask with, as (group, port).
CALLS = {
    "mdns": MDNS,
    "mdns-ipv6": MDNS6,
    "llmnr": ("224.0.0.252", 5355),
    "llmnr-ipv6": ("ff02::1:3", 5355),
    "ssdp": ("239.255.255.250", 1900),
    "ssdp-ipv6": ("ff02::c", 1900),
    "ws-discovery": ("239.255.255.250", 3702),
    "netbios": ("10.100.0.255", 137),
    "game": ("255.255.255.255", 27015),
}


def is_group(address):
    return ":" in address or 224 <= int(address.split(".")[0]) < 240


class Ear:
    """Everything that arrives on one host for a group or a broadcast address and port."""

    def __init__(self, program, call):
        address, port = call
        host, interface = program.host, getattr(program, "interface", "tun0")
        index = host.index(interface)
        with host.entered():
            self.socket = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
        host.lab.closing(self.socket)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if ":" in address:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            member = socket.inet_pton(socket.AF_INET6, address) + struct.pack("@i", index)
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, member)
        elif is_group(address):
            member = struct.pack("=4s4si", socket.inet_aton(address), bytes(4), index)
            self.socket.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, member)
        self.socket.bind(("", port))

    def hear(self, timeout=5.0):
        """The next (words, sender's address), or None when nothing comes."""
        if not select.select([self.socket], [], [], timeout)[0]:
            return None
        words, sender = self.socket.recvfrom(65535)
        return words, sender[0]


class Voice:
    """Speaks to everybody from a program's inner address, as discovery does: by its interface, with a TTL of 255."""

    def __init__(self, program, call, port=0):
        address = call[0]
        self.to, self.source = call, inner_addresses(program)[":" in address]
        index = program.host.index(getattr(program, "interface", "tun0"))
        with program.host.entered():
            self.socket = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
        program.host.lab.closing(self.socket)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        if ":" in address:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_LOOP, 0)
        elif is_group(address):
            interface = struct.pack("=4s4si", bytes(4), bytes(4), index)
            self.socket.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, interface)
            self.socket.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 255)
            self.socket.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 0)
        self.socket.bind((self.source, port))

    def say(self, words):
        self.socket.sendto(words, self.to)


def received_by(client):
    """Packets that the gateway sent to `client`."""
    return client.status()["down"]["packets"]


@pytest.mark.parametrize("loops", [1, 2])
def test_what_one_says_to_all_arrives_at_every_other_and_the_gateway_but_not_at_its_sender(lab, certificates, loops):
    lan = Lan(lab, certificates, members=MEMBERS, performance={"loops": loops})
    alice, bob, carol = lan
    for name, call in CALLS.items():
        ears = [Ear(program, call) for program in (bob, carol, lan.gateway)]
        voice = Voice(alice, call)
        voice.say(name.encode())
        assert [ear.hear() for ear in ears] == [(name.encode(), voice.source)] * 3, name
    wait_for(lambda: received_by(bob) == len(CALLS), what="each of them once")
    assert received_by(carol) == len(CALLS)
    assert received_by(alice) == 0

    for name in ("mdns", "mdns-ipv6", "netbios", "game"):
        ears = [Ear(client, CALLS[name]) for client in lan]
        voice = Voice(lan.gateway, CALLS[name])
        voice.say(b"from the gateway's machine")
        assert [ear.hear() for ear in ears] == [(b"from the gateway's machine", voice.source)] * 3, name


def test_dhcp_and_other_groups_go_nowhere(lab, certificates):
    lan = Lan(lab, certificates, members=MEMBERS)
    alice, bob, _ = lan
    before = lan.gateway.drops("multicast")
    refused = [("255.255.255.255", 67), ("10.100.0.255", 68), ("ff02::1:2", 547), ("239.1.2.3", 5004)]
    for call in refused:
        Voice(alice, call).say(b"an offer")
    wait_for(lambda: lan.gateway.drops("multicast") >= before + len(refused), what="the drops are counted")
    assert received_by(bob) == 0


# --- Avahi

avahi = pytest.mark.skipif(not shutil.which("avahi-daemon"), reason="avahi-daemon is not installed")


def start_avahi(client, host_name):
    """A real mDNS responder on `client`, with a /run of its own, so that the machine's stays alone."""
    config = client.directory / f"avahi-{client.name}.conf"
    config.write_text(f"""
[server]
host-name={host_name}
allow-interfaces={client.interface}
allow-point-to-point=yes
enable-dbus=no
use-ipv4=yes
use-ipv6=yes
[publish]
publish-workstation=no
publish-hinfo=no
[reflector]
enable-reflector=no
""")
    # `ip netns exec` has made the mounts private already.
    script = (f"mount -t tmpfs tmpfs /run && mkdir /run/avahi-daemon && "
              f"exec avahi-daemon -f {config} --no-drop-root --no-rlimits --no-chroot --no-proc-title")
    return client.host.start("sh", "-c", script, log_name=f"{client.name}-avahi")


def query(name, kind):
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    return struct.pack("!6H", 0, 0, 1, 0, 0, 0) + labels + b"\0" + struct.pack("!2H", kind, 1)


def is_answer(words, *parts):
    """Whether `words` are a DNS response that carries all of `parts`."""
    flags, _, answers = struct.unpack("!3H", words[2:8])
    return flags & 0x8000 and answers >= 1 and all(part in words for part in parts)


def hears_answer(ear, sender, *parts, deadline=5.0):
    end = time.monotonic() + deadline
    while (left := end - time.monotonic()) > 0:
        heard = ear.hear(left)
        if heard and heard[1] == sender and is_answer(heard[0], *parts):
            return True
    return False


@avahi
def test_a_real_mdns_responder_answers_across_the_lan(lab, certificates):
    lan = Lan(lab, certificates, members=MEMBERS)
    alice, bob, carol = lan
    address, address6 = (socket.inet_aton("10.100.0.3"), socket.inet_pton(socket.AF_INET6, "fd00:100::3"))
    responder = start_avahi(bob, "bobs-machine")
    responder.wait_for_log(r"Server startup complete")

    # As another responder asks: from port 5353, so that the answer goes to the group and everybody hears it.
    ears = [Ear(client, MDNS) for client in (alice, carol)]
    Voice(alice, MDNS, port=5353).say(query("bobs-machine.local", kind=1))
    for ear in ears:
        assert hears_answer(ear, "10.100.0.3", address), responder.tail()

    # As a simple resolver asks (RFC 6762 section 6.7): from another port, and the answer comes back to it alone.
    voice = Voice(alice, MDNS)
    voice.say(query("bobs-machine.local", kind=1))
    assert select.select([voice.socket], [], [], 5)[0]
    words, sender = voice.socket.recvfrom(9000)
    assert sender[0] == "10.100.0.3" and is_answer(words, address)

    ears6 = [Ear(client, MDNS6) for client in (alice, carol)]
    Voice(alice, MDNS6, port=5353).say(query("bobs-machine.local", kind=28))
    for ear in ears6:
        assert hears_answer(ear, "fd00:100::3", address6), responder.tail()


@avahi
def test_two_real_mdns_responders_notice_that_they_want_one_name(lab, certificates):
    lan = Lan(lab, certificates)
    alice, bob = lan
    start_avahi(alice, "desktop").wait_for_log(r"Server startup complete.*desktop\.local")
    start_avahi(bob, "desktop").wait_for_log(r"Server startup complete.*desktop-2\.local", deadline=15)


# --- Bounds

def ping_without_loss(client, address, seconds):
    count = seconds * 50
    done = client.host.run("ping", "-n", "-q", "-i", "0.02", "-c", count, "-W", "5", address, timeout=seconds + 15)
    return f"{count} received, 0% packet loss" in done.stdout


def test_a_broadcast_storm_is_held_to_its_rate_while_others_do_not_notice(lab, certificates):
    rate, storm, pace = 20, 20_000, 5_000
    lan = Lan(lab, certificates, members=(*MEMBERS, "dave"), lan={"discovery_rate": rate},
              logging={"level": "info"}, client_settings={"logging": {"level": "info"}})
    alice, bob, carol, dave = lan
    ear = Ear(carol, CALLS["netbios"])
    voice = Voice(dave, CALLS["netbios"])
    times = []

    def rage():
        begin = time.monotonic()
        for burst in range(storm // 100):
            for _ in range(100):
                voice.say(b"a" * 200)
            time.sleep(max(0.0, begin + (burst + 1) * 100 / pace - time.monotonic()))

    def listen():
        while ear.hear(2.0):
            times.append(time.monotonic())

    threads = [threading.Thread(target=work) for work in (rage, listen)]
    for thread in threads:
        thread.start()
    assert ping_without_loss(alice, "10.100.0.3", seconds=storm // pace)
    assert ping_without_loss(bob, "fd00:100::2", seconds=1)
    for thread in threads:
        thread.join()

    elapsed = times[-1] - times[0]
    assert elapsed > 2, "the storm lasted"
    assert 2 * rate + 0.8 * rate * elapsed <= len(times) <= 2 * rate + rate * elapsed + 2
    assert lan.gateway.drops("discovery_rate") > storm // 2
    lines = [line for line in lan.gateway.log().splitlines() if "discovery" in line]
    assert len(lines) < 10, "dropped packets are summed up, not logged one by one"


def test_switched_off_nothing_arrives_until_a_reload_switches_it_on(lab, certificates):
    lan = Lan(lab, certificates, members=MEMBERS, lan={"discovery": False})
    alice, bob, _ = lan
    ears = {name: Ear(bob, call) for name, call in CALLS.items()}
    for call in CALLS.values():
        Voice(alice, call).say(b"anybody?")
    wait_for(lambda: lan.gateway.drops("discovery_off") >= len(CALLS), what="each is counted")
    assert received_by(bob) == 0
    alice.host.wait_ping("10.100.0.3")

    lan.gateway.write_config(lan={"discovery": True})
    lan.gateway.process.signal(signal.SIGHUP)
    voice = Voice(alice, MDNS)

    def gets_through():
        voice.say(b"and now?")
        return ears["mdns"].hear(0.2)

    assert wait_for(gets_through, what="discovery is on after the reload") == (b"and now?", "10.100.0.2")


def test_isolated_only_those_hear_it_whom_a_rule_lets_the_sender_reach(lab, certificates):
    lan = Lan(lab, certificates, members=(*MEMBERS, "dave"),
              lan={"isolate": True, "allow": [{"from": "alice", "to": "bob"},
                                              {"from": "alice", "to": "carol", "ports": ["udp 137"]}]})
    alice, bob, carol, dave = lan
    for name in ("mdns", "mdns-ipv6", "netbios", "game"):
        ear = Ear(bob, CALLS[name])
        Voice(alice, CALLS[name]).say(name.encode())
        assert ear.hear()[0] == name.encode(), name
    wait_for(lambda: received_by(bob) == 4, what="bob may be reached by all")
    assert received_by(carol) == 1, "only the port of the rule"
    assert received_by(dave) == 0

    ear = Ear(lan.gateway, MDNS)
    Voice(bob, MDNS).say(b"from bob")
    assert ear.hear() == (b"from bob", "10.100.0.3"), "the gateway's machine is everybody's neighbour"
    assert (received_by(alice), received_by(carol), received_by(dave)) == (0, 1, 0)


def test_the_tunnel_leaves_the_hosts_own_broadcasts_and_groups_alone(lab, certificates):
    lan = Lan(lab, certificates)
    alice = lan.clients[0].host
    addresses = alice.show("-4", "address", "show", "dev", "VPN")[0]
    assert addresses["addr_info"][0]["broadcast"] == "10.100.0.255"
    assert {"UP", "MULTICAST"} <= set(addresses["flags"])
    routes = alice.show("route", "show", "table", "all")
    assert [r["dev"] for r in routes if r["dst"] == "10.100.0.255"] == ["VPN"]
    assert not [r for r in routes if r["dst"].startswith(("224.", "255.")) or r["dst"] == "default"]
