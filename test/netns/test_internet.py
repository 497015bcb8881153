"""The internet through the gateway: in user space by a process without any privilege, and by the kernel.

See internet.py for who is where.
"""

import errno
import json
import os
import re
import socket
import time

import pytest

import packets
from internet import (OTHER, OTHER6, OUTER, OUTER6, ROUTER, ROUTER6, SERVER, SERVER6, ask, internet_lan, udp_socket)
from lab import wait_for

modes = pytest.mark.parametrize("mode", ["userspace", "kernel"])
BOTH = ((SERVER, OTHER, ROUTER, OUTER), (SERVER6, OTHER6, ROUTER6, OUTER6))


@modes
def test_datagrams_pings_and_traceroutes_get_there_and_back(lab, certificates, mode):
    lan = internet_lan(lab, certificates, mode, members=("alice",))
    alice = lan.clients[0].host
    for server, _, router, outer in BOTH:
        heard = lan.internet.echo(7000, server)
        assert ask(alice, server, 7000) == (b"hello", (server, 7000))
        assert heard[0][0] == outer, "the internet sees the gateway's own address"
        for size in (0, 1, 1300, 4000, 30000):
            # Of fragments of IPv6 the kernel loses the first and tells the server what fits.
            tries = 3 if mode == "kernel" else 1
            assert ask(alice, server, 7000, bytes(size), timeout=1, tries=tries)[0] == bytes(size)
        for size in (56, 1300, 3000):
            assert "1 received" in alice.run("ping", "-n", f"-s{size}", "-c1", "-W3", server, check=False).stdout or (
                mode == "kernel" and "1 received" in alice.run("ping", "-n", f"-s{size}", "-c1", "-W3", server).stdout)
        for kind in ("-U", "-I"):
            printed = alice.run("traceroute", "-n", "-q1", "-w2", "-m6", kind, server).stdout
            hops = re.findall(r"^ *\d+ +(\S+)", printed, re.M)
            assert hops[-2:] == [router, server], printed
            assert len(hops) == 3, "the gateway is one hop"


@modes
def test_a_conversation_is_seen_from_one_port_by_everybody_and_answered_by_those_it_spoke_to(lab, certificates, mode):
    lan = internet_lan(lab, certificates, mode, members=("alice",))
    alice = lan.clients[0].host
    for server, other, _, outer in BOTH:
        heard = [lan.internet.echo(7000, server), lan.internet.echo(7001, server), lan.internet.echo(7000, other)]
        sock = lab.closing(udp_socket(alice, server))
        for address, port in ((server, 7000), (server, 7001), (other, 7000)):
            ask(alice, address, port, sock=sock)
        seen = {whom for service in heard for whom in service}
        assert len(seen) == 1, "one port for all"
        with lan.internet.server.entered():
            stranger = lab.closing(socket.socket(sock.family, socket.SOCK_DGRAM))
        stranger.sendto(b"let me in", seen.pop())
        ask(alice, server, 7000, b"after that", sock=sock)
        with pytest.raises(BlockingIOError):
            sock.setblocking(False)
            sock.recvfrom(100)


@modes
def test_what_is_refused_or_unreachable_is_reported_as_such(lab, certificates, mode):
    lan = internet_lan(lab, certificates, mode, members=("alice",))
    alice = lan.clients[0].host
    for server, nobody in ((SERVER, "46.46.46.99"), (SERVER6, "2a0f:46::99")):
        with pytest.raises(ConnectionRefusedError):
            ask(alice, server, 7999)
        with pytest.raises(OSError) as told:
            ask(alice, nobody, 7999, timeout=10)
        assert told.value.errno == errno.EHOSTUNREACH
    lan.internet.router.run("ip", "route", "add", "unreachable", "46.46.47.0/24")
    with pytest.raises(OSError) as told:
        ask(alice, "46.46.47.1", 7999)
    assert told.value.errno == errno.EHOSTUNREACH
    printed = alice.run("ping", "-n", "-c1", "-W5", "46.46.47.1", check=False).stdout
    assert f"From {ROUTER} icmp_seq=1 Destination Host Unreachable" in printed


@modes
def test_iperf3_with_udp_both_ways(lab, certificates, mode):
    lan = internet_lan(lab, certificates, mode, members=("alice",))
    alice = lan.clients[0].host
    lan.internet.lead_tcp_past(alice)
    for server in (SERVER, SERVER6):
        service = lan.internet.server.start("iperf3", "-s", "-B", server, "--forceflush")
        service.wait_for_log("Server listening")
        for reverse in ((), ("-R",)):
            done = alice.run("iperf3", "-c", server, "-u", "-b", "50M", "-t", "2", "-l", "1300", "--json", *reverse,
                             check=False)
            assert done.returncode == 0, done.stdout + done.stderr
            end = json.loads(done.stdout)["end"]["sum"]
            assert end["packets"] > 5000 and end["lost_percent"] < 5, end
        service.stop()


def test_two_clients_that_both_begin_reach_each_other_by_their_outer_ends(lab, certificates):
    lan = internet_lan(lab, certificates)
    for server, _, _, outer in BOTH:
        heard, ends = lan.internet.echo(7100, server), []
        for client in lan.clients:
            ends.append(lab.closing(udp_socket(client.host, server)))
            ask(client.host, server, 7100, sock=ends[-1])
        for sock, towards in zip(ends, reversed(heard)):
            sock.sendto(b"open", towards)  # which the other hears if it has begun as well
        for here, there in ((0, 1), (1, 0)):
            wait_for(lambda: is_heard(ends[here], heard[there], ends[there], heard[here]), what="both hear each other")


def test_what_is_refused_by_a_client_at_its_outer_end_is_told_to_the_other(lab, certificates):
    lan = internet_lan(lab, certificates, internet={"forward": ["udp 5000 -> 10.100.0.3:6000"]})
    with pytest.raises(ConnectionRefusedError):
        ask(lan.clients[0].host, OUTER, 5000)


def test_clients_reach_each_other_by_their_outer_ends(lab, certificates):
    lan = internet_lan(lab, certificates, internet={"filtering": "none"})
    alice, bob = (client.host for client in lan.clients)
    heard = lan.internet.echo(7000)
    bobs = lab.closing(udp_socket(bob, SERVER))
    ask(bob, SERVER, 7000, sock=bobs)
    bobs_outer = heard[0]
    alices = lab.closing(udp_socket(alice, SERVER))
    alices.sendto(b"hello bob", bobs_outer)
    data, whom = bobs.recvfrom(100)
    assert data == b"hello bob"
    assert whom[0] == OUTER, "as from the outside"
    bobs.sendto(b"hello alice", whom)
    alices.settimeout(5)
    assert alices.recvfrom(100) == (b"hello alice", bobs_outer)


@modes
def test_a_forwarded_port_leads_to_a_client_from_outside_and_from_inside(lab, certificates, mode):
    lan = internet_lan(lab, certificates, mode, internet={"forward": ["udp 5000 -> 10.100.0.3:6000",
                                                                      "udp 5000 -> [fd00:100::3]:6000"]})
    alice, bob = (client.host for client in lan.clients)
    for outer, inner, servers in ((OUTER, "10.100.0.3", (SERVER,)), (OUTER6, "fd00:100::3", (SERVER6, OTHER6))):
        heard = lan.internet.echo(6000, inner, host=bob)
        assert ask(lan.internet.server, outer, 5000) == (b"hello", (outer, 5000))
        assert heard[0][0] in servers, "the client sees who asks"
        assert ask(alice, outer, 5000) == (b"hello", (outer, 5000))


@modes
def test_nobody_outside_speaks_with_an_address_from_inside(lab, certificates, mode):
    lan = internet_lan(lab, certificates, mode, internet={"forward": ["udp 5000 -> 10.100.0.3:6000"]})
    heard = lan.internet.echo(6000, "10.100.0.3", host=lan.clients[1].host)
    router = lan.internet.router
    with router.entered():
        raw = lab.closing(socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0))
    address = lan.gateway.host.show("link", "show", "dev", "wire0")[0]["address"]
    gateway_mac = bytes.fromhex(address.replace(":", ""))
    for source in ("10.100.0.2", "10.100.0.200", "10.100.0.1"):
        with router.entered():
            raw.sendto(packets.udp(source, OUTER, 5555, 5000, b"trust me"), ("wire0", 0x0800, 0, 0, gateway_mac))
    assert ask(lan.internet.server, OUTER, 5000)[0] == b"hello", "what comes after them"
    assert [address for address, _ in heard] == [SERVER]


@modes
@pytest.mark.parametrize("seconds", [5, *([30, 60] if os.environ.get("PENSTOCK_DEEP") else [])])
def test_after_a_cut_of_the_link_conversations_go_on_at_the_same_ports(lab, certificates, mode, seconds):
    lan = internet_lan(lab, certificates, mode, members=("alice",))
    client = lan.clients[0]
    wire = lan.internet.wire()
    heard = {server: lan.internet.echo(7000, server) for server in (SERVER, SERVER6)}
    socks = {server: lab.closing(udp_socket(client.host, server, told=False)) for server in heard}
    for server, sock in socks.items():
        ask(client.host, server, 7000, sock=sock)
    pings = [client.host.start("ping", "-n", "-i", "0.2", server) for server in (SERVER, SERVER6)]
    for ping in pings:
        ping.wait_for_log("icmp_seq=2 ")
    before = client.status()
    lab.cut(client.host)
    time.sleep(seconds)  # which is what is to be shown
    lab.heal(client.host)
    marks = [ping.mark() for ping in pings]
    for server, sock in socks.items():
        wait_for(lambda: is_answered(client.host, server, sock), 20, "the conversation goes on")
        assert len(set(heard[server])) == 1, "the same port outside"
    for ping, mark in zip(pings, marks):
        ping.wait_for_log("icmp_seq=", deadline=20, after=mark)
    assert client.status()["address"] == before["address"]
    icmp = [packet for packet in wire.take() if (packet[9] if packet[0] >> 4 == 4 else packet[6]) in (1, 58)]
    asked = [packets.parse_echo(packets.parse(packet)) for packet in icmp]
    identifiers = {(echo.kind, echo.ident) for echo in asked if echo.kind in (8, 128)}
    assert len(identifiers) == 2, "one of each family"


@modes
def test_an_exchange_of_many_sizes_both_ways_at_once(lab, certificates, mode):
    """As QUIC does it: one conversation, small and large datagrams in both directions, hundreds under way."""
    lan = internet_lan(lab, certificates, mode, members=("alice",))
    lan.internet.echo(4433)
    sock = lab.closing(udp_socket(lan.clients[0].host, SERVER))
    sock.settimeout(5)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    sent, heard = {}, {}
    for burst in range(20):
        for i in range(20):
            number = burst * 20 + i
            sent[number] = number.to_bytes(4, "big") + os.urandom((number * 37) % 1200)
            sock.sendto(sent[number], (SERVER, 4433))
        while len(heard) < len(sent):
            data = sock.recv(2000)
            heard[int.from_bytes(data[:4], "big")] = data
    assert heard == sent


def test_tftp_whose_answers_come_from_another_port_with_filtering_by_address(lab, certificates):
    lan = internet_lan(lab, certificates, members=("alice",), internet={"filtering": "address"})
    with lan.internet.server.entered():
        server, transfer = (lab.closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) for _ in range(2))
    server.bind((SERVER, 69))
    transfer.bind((SERVER, 0))
    alice = lab.closing(udp_socket(lan.clients[0].host, SERVER))
    content, got = os.urandom(5000), b""
    for sock in (server, transfer, alice):
        sock.settimeout(5)
    alice.sendto(b"\0\x01file\0octet\0", (SERVER, 69))
    _, whom = server.recvfrom(100)
    for block in range(1, 11):
        transfer.sendto(b"\0\x03" + block.to_bytes(2, "big") + content[(block - 1) * 512:block * 512], whom)
        data, answers_from = alice.recvfrom(600)
        assert answers_from == transfer.getsockname()
        got += data[4:]
        alice.sendto(b"\0\x04" + data[2:4], answers_from)
        assert transfer.recvfrom(100) == (b"\0\x04" + data[2:4], whom)
    assert got == content


@modes
def test_a_client_begins_and_has_a_bounded_number_of_conversations(lab, certificates, mode):
    lan = internet_lan(lab, certificates, mode, limits={"flow_rate": 50, "flows_per_session": 80})
    alice, bob = (client.host for client in lan.clients)
    lan.internet.echo(7000)
    ends = [udp_socket(alice, SERVER, told=False) for _ in range(400)]
    for sock in ends:
        sock.sendto(b"?", (SERVER, 7000))
        sock.close()
    wait_for(lambda: lan.gateway.status()["internet"]["drops"]["flow_rate"] >= 200, what="the rest is refused")
    assert ask(bob, SERVER, 7000)[0] == b"hello", "another's begins at once"


def test_a_scan_of_all_ports_by_one_client_costs_another_nothing(lab, certificates):
    lan = internet_lan(lab, certificates, limits={"flow_rate": 1000000, "open_files": 1200})
    alice, bob = (client.host for client in lan.clients)
    heard = lan.internet.echo(7000)
    bobs = [lab.closing(udp_socket(bob, SERVER)) for _ in range(20)]
    for sock in bobs:
        ask(bob, SERVER, 7000, sock=sock)
    before = list(heard)
    scanner = lab.closing(udp_socket(alice, SERVER, told=False))
    for port in range(1, 65536):
        scanner.sendto(b"?", (SERVER, port))
    ends = [udp_socket(alice, SERVER, told=False) for _ in range(1000)]
    for sock in ends:
        sock.sendto(b"?", (SERVER, 9))
        sock.close()
    wait_for(lambda: lan.gateway.status()["limits"]["flows"] > 400, what="alice's own make room")
    internet = lan.gateway.status()["internet"]
    assert internet["sockets"] <= 600 and internet["flows"] <= 8192 + 20
    heard.clear()
    for sock in bobs:
        ask(bob, SERVER, 7000, sock=sock)
    assert [whom for whom in heard if whom in before] == before, "bob's are where they were"


def test_with_several_loops_everybody_gets_there(lab, certificates):
    lan = internet_lan(lab, certificates, performance={"loops": 2})
    lan.internet.echo(7000)
    for client in lan.clients:
        assert ask(client.host, SERVER, 7000)[0] == b"hello"
        assert "1 received" in client.host.run("ping", "-n", "-c1", "-W3", SERVER6).stdout


def test_with_a_tun_device_the_internet_goes_through_user_space_too(lab, certificates):
    lan = internet_lan(lab, certificates, tun=True)
    alice, gateway = lan.clients[0].host, lan.gateway.host
    for server, _, _, outer in BOTH:
        heard = lan.internet.echo(7000, server)
        assert ask(alice, server, 7000)[0] == b"hello"
        assert heard[0][0] == outer
        assert "1 received" in alice.run("ping", "-n", "-c1", "-W3", server).stdout
    assert gateway.run("sysctl", "-n", "net.ipv4.ip_forward").stdout.strip() == "0", "nothing of the kernel's"
    assert lan.gateway.status()["internet"]["mappings"] >= 4
    assert alice.ping("10.100.0.1") and alice.ping("10.100.0.3")


def test_without_a_way_to_the_ipv6_internet_it_is_refused_at_once(lab, certificates):
    lan = internet_lan(lab, certificates, members=("alice",), ipv6=False)
    with pytest.raises(OSError) as told:
        ask(lan.clients[0].host, SERVER6, 7000)
    assert told.value.errno == errno.ENETUNREACH
    assert lan.gateway.status()["internet"]["drops"]["no_outside"] > 0
    assert lan.gateway.status()["limits"]["outer_ports"] == 0, "no limit was met"


def test_pings_that_the_machine_forbids_are_explained_at_the_start(lab, certificates):
    lan = internet_lan(lab, certificates, members=("alice",))
    assert not lan.gateway.process.logged("clients cannot ping")
    lan.gateway.stop()
    lan.gateway.host.sysctl("net.ipv4.ping_group_range=0 0")  # root's group, which the gateway is not in
    lan.gateway.start()
    assert lan.gateway.process.logged("clients cannot ping the internet.*ping_group_range")


def test_another_outer_address_is_used_at_once_and_forwards_move_there(lab, certificates):
    lan = internet_lan(lab, certificates, members=("alice",), internet={"forward": ["udp 5000 -> 10.100.0.2:6000"]})
    alice, gateway = lan.clients[0].host, lan.gateway.host
    heard = lan.internet.echo(7000)
    lan.internet.echo(6000, "10.100.0.2", host=alice)
    sock = lab.closing(udp_socket(alice, SERVER))
    ask(alice, SERVER, 7000, sock=sock)
    assert ask(lan.internet.server, OUTER, 5000)[0] == b"hello"
    another = "45.45.45.9"
    gateway.run("ip", "address", "del", f"{OUTER}/24", "dev", "wire0")
    gateway.run("ip", "address", "add", f"{another}/24", "dev", "wire0")
    gateway.run("ip", "route", "replace", "default", "via", ROUTER)
    wait_for(lambda: lan.gateway.status()["internet"]["external4"] == another, what="the new address is known")
    assert ask(alice, SERVER, 7000, sock=sock)[0] == b"hello", "the same conversation, from there"
    assert heard[-1][0] == another
    assert ask(lan.internet.server, another, 5000)[0] == b"hello"
    lan.internet.echo(7002, another, host=gateway)
    with pytest.raises(OSError, match="No route to host|Permission denied"):
        ask(alice, another, 7002)


def test_a_public_ip_that_is_not_the_machines_is_refused_at_the_start(lab, certificates):
    lan = internet_lan(lab, certificates, members=())
    lan.gateway.stop()
    lan.gateway.write_config(internet={"public_ip": "203.0.113.7"})
    code, printed = lan.gateway.run_to_its_end()
    assert code != 0
    assert "internet.public_ip: 203.0.113.7 is no address of this machine" in printed


def test_the_public_ip_is_what_the_internet_sees(lab, certificates):
    lan = internet_lan(lab, certificates, members=("alice",))
    lan.internet.gateway.run("ip", "address", "add", "45.45.45.77/24", "dev", "wire0")
    lan.gateway.stop()
    lan.gateway.write_config(internet={"public_ip": "45.45.45.77"})
    lan.gateway.start()
    lan.clients[0].wait_connected()
    heard = lan.internet.echo(7000)
    wait_for(lambda: is_answered(lan.clients[0].host, SERVER, lab.closing(udp_socket(lan.clients[0].host, SERVER))))
    assert heard[0][0] == "45.45.45.77"


def test_a_route_that_is_lost_is_said_and_conversations_go_on_when_it_is_back(lab, certificates):
    lan = internet_lan(lab, certificates, members=("alice",))
    alice, gateway = lan.clients[0].host, lan.gateway.host
    heard = lan.internet.echo(7000)
    sock = lab.closing(udp_socket(alice, SERVER, told=False))
    ask(alice, SERVER, 7000, sock=sock)
    gateway.run("ip", "route", "del", "default")
    wait_for(lambda: lan.gateway.status()["internet"]["external4"] is None, what="status knows")
    assert lan.gateway.process.logged("the way to the internet has changed.*external4=none")
    gateway.route("default", ROUTER)
    assert ask(alice, SERVER, 7000, sock=sock)[0] == b"hello"
    assert len(set(heard)) == 1, "at the same port"


def test_a_rule_that_opens_nothing_is_doubted_at_the_start(lab, certificates):
    lan = internet_lan(lab, certificates, members=(), internet={"allow": [f"{SERVER}/32", "192.168.7.0/24"]})
    assert lan.gateway.process.logged(f"internet.allow has {SERVER}/32.*no whitelist")
    assert not lan.gateway.process.logged("internet.allow has 192.168")


def is_answered(host, server, sock):
    """False also while the client has taken its routes away, as it does after some vain attempts to reconnect."""
    try:
        return ask(host, server, 7000, sock=sock, timeout=1)[0] == b"hello"
    except OSError:
        return False


def is_heard(sock, towards, other, outer):
    """Whether what is said by `sock` at the outer end `outer` comes to `other`, whose outer end is `towards`."""
    sock.sendto(b"do you hear me", towards)
    other.settimeout(0.5)
    try:
        return other.recvfrom(100)[1][:2] == outer
    except TimeoutError:
        return False
