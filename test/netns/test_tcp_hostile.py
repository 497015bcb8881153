"""TCP through the gateway in hard times: segments that get lost and late, links that are cut, and clients that mean harm.

See internet.py for who is where. Alice does the harm, by segments that are written into her tunnel past her kernel, and
bob must not notice. The bad wire is at a site behind alice:

    site 10.55.0.2 --[ bad wire ]-- 10.55.0.1 alice --tunnel-- gateway ...
         fd55::2                    fd55::1
"""

import contextlib
import time

import pytest

from internet import SERVER, SERVER6
from lab import meanwhile, wait_for
from lan import Stream
from programs import token_record
from tcp_peers import (DEEP, MIB, SERVERS, Files, Running, Shell, connect, listen, modes, passes, tcp_lan, write_file)
from tcp_segments import ACK, PSH, SYN, BadWire, Segments
from test_hostile_peers import growing_less_than
from test_offload import CUTTING, SCSUM, switch_off

seconds_of_cut = pytest.mark.parametrize("seconds", [5, *([30, 60] if DEEP else [])])


# --- a bad wire -----------------------------------------------------------------------------------------------------


@modes
@pytest.mark.parametrize("name", ["alice", "bob"])
def test_over_a_bad_wire_every_byte_arrives(lab, certificates, mode, name):
    lan = tcp_lan(lab, certificates, mode, members=(name,))
    client, prefixes = lan.clients[0], ("10.55.0.0/24", "fd55::/64")
    lan.gateway.stop()
    lan.gateway.write_config(auth={"tokens": [token_record(name, sites=list(prefixes))]})
    before = client.status()
    lan.gateway.start()
    client.wait_reconnected(before)
    site, between = (lab.host(host, ipv4=False, ipv6=False) for host in ("site", "between"))
    one, left = lab.wire(site, "10.55.0.2/24", between, None, "fd55::2/64", None)
    right, other = lab.wire(between, None, client.host, "10.55.0.1/24", None, "fd55::1/64")
    for host, wire in ((site, one), (between, left), (between, right), (client.host, other)):
        for command in (*CUTTING.values(), SCSUM):
            switch_off(host, wire, command)
    client.host.sysctl("net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
    site.route("default", "10.55.0.1")
    site.route("default", "fd55::1")
    wire = BadWire(lab, between, (left, right))
    for address in SERVERS:
        site.wait_ping(address)
        stream = Stream(lab, site, lan.internet.server, address)
        assert passes(stream.far, stream.near, 10 * MIB + 1), "down"
        assert passes(stream.near, stream.far, 10 * MIB + 1, number=1), "up"
    assert all(wire.counts[harm] > 50 for harm in ("lost", "late", "doubled")), wire.counts


# --- a cut link -----------------------------------------------------------------------------------------------------


@modes
@seconds_of_cut
def test_sessions_of_ssh_and_downloads_survive_a_cut_of_the_link(lab, certificates, mode, seconds):
    lan = tcp_lan(lab, certificates, mode, members=("alice",))
    client, server = lan.clients[0], lan.internet.server
    shell = Shell(lab, server)
    silent, speaking = (shell.session(client.host, address) for address in SERVERS)
    downloads = [Running(lab, client.host, server, address, rate=8 * MIB) for address in SERVERS]
    for session in (silent, speaking):
        assert session.exchange(b"before\n")
    address = client.status()["address"]
    lab.cut(client.host)
    speaking.say(b"in between\n")
    time.sleep(seconds)  # which is what is to be shown
    lab.heal(client.host)
    client.wait_connected(deadline=30)
    assert silent.exchange(b"after\n")
    # Who has asked in vain for so long, as kernels do, asks next after as long again.
    by_a_kernel = 20 + seconds
    for download in downloads:
        download.wait_for_more(4 * MIB, deadline=10 if mode == "userspace" else by_a_kernel)
    assert all(download.finish() for download in downloads)
    assert speaking.hear(11, deadline=by_a_kernel) == b"in between\n"
    assert speaking.exchange(b"after\n")
    assert client.status()["address"] == address
    assert all(session.end() == 0 for session in (silent, speaking))


# --- clients that mean harm -----------------------------------------------------------------------------------------


@contextlib.contextmanager
def bob_unharmed(lan):
    """Meanwhile bob has a download under way, and comes and goes with new connections; all of them are as ever."""
    bob, server = lan.clients[1].host, lan.internet.server
    listener = listen(server, SERVER, 9200)
    lasting = Running(lan.lab, bob, server)
    failures, done = [], []

    def come_and_go():
        try:
            near = connect(bob, SERVER, 9200, timeout=10)
            far = lan.lab.closing(listener.accept()[0])
            far.settimeout(20)
            assert passes(near, far, 100000) and passes(far, near, 100000, number=1)
            near.close()
            far.close()
            done.append(True)
        except (OSError, AssertionError) as error:
            failures.append(error)

    with meanwhile(come_and_go, pause=0.02):
        yield
        wait_for(lambda: failures or len(done) >= 20, 30, "new connections of bob's")
    assert not failures
    lasting.wait_for_more(4 * MIB)
    assert lasting.finish()


def memory_of(flows):
    """What the gateway may take for so many of a client's, queues included."""
    return 16 * MIB + flows * 3072


def harmed(lab, certificates, mode, **limits):
    lan = tcp_lan(lab, certificates, mode, members=("alice", "bob"), session={"grace": "1s"},
                  limits={"flow_rate": 1000000, **limits})
    return lan, Segments(lan.clients[0])


def assert_all_is_given_back(lan):
    """Once alice has left; in kernel mode the kernel does so in its own time."""
    lan.clients[0].stop()
    few = 40  # of bob's, some of which rest

    def given_back(status):
        left = all(session["client"] != "alice" for session in status["sessions"])
        return left and all(status["internet"].get(of, 0) <= few for of in ("mappings", "flows", "sockets"))

    lan.gateway.wait_status(given_back, "flows are few again", deadline=20)


@modes
def test_a_flood_and_a_scan_by_one_client_cost_another_nothing(lab, certificates, mode):
    lan, alice = harmed(lab, certificates, mode)
    listen(lan.internet.server, SERVER, 80)
    lan.internet.router.run("ip", "route", "add", "blackhole", "46.46.49.0/24")
    with growing_less_than(lan.gateway, memory_of(8192)), bob_unharmed(lan):
        for number in range(20000):
            server, port = ((SERVER, 80), (SERVER, 1 + number % 9000), ("46.46.49.1", 1 + number))[number % 3]
            alice.send(server, 1024 + number % 60000, port, SYN, sequence=number)
            if number % 500 == 0:
                alice.receive()
        lan.gateway.wait_status(lambda status: status["sessions"][0]["up"]["packets"] > 15000, "most have come")
        assert lan.gateway.status()["internet"].get("flows", 0) <= 8192 + 500, "hers are bounded, bob's are few"
    assert_all_is_given_back(lan)


@modes
def test_the_usual_rate_of_new_connections_holds_a_flood_back(lab, certificates, mode):
    lan, alice = harmed(lab, certificates, mode, flow_rate=500)
    lan.internet.router.run("ip", "route", "add", "blackhole", "46.46.49.0/24")
    with bob_unharmed(lan):
        for number in range(5000):
            alice.send("46.46.49.1", 1024 + number, 80, SYN)
        wait_for(lambda: lan.gateway.status()["internet"]["drops"]["flow_rate"] > 500, what="the rest is refused")


@modes
def test_ten_thousand_half_open_connections_of_one_client_cost_another_nothing(lab, certificates, mode):
    lan, alice = harmed(lab, certificates, mode, flows_per_session=12000)
    server = lan.internet.server
    server.sysctl("net.core.somaxconn=20000", "net.ipv4.tcp_max_syn_backlog=20000", "net.ipv4.tcp_syncookies=1")
    listen(server, SERVER, 80, backlog=20000)  # where nobody is ever taken in
    with growing_less_than(lan.gateway, memory_of(12000)), bob_unharmed(lan):
        assert len(alice.half_open(SERVER, 80, range(10000, 20000), deadline=60)) == 10000
        if mode == "userspace":
            assert lan.gateway.status()["internet"]["flows"] >= 9000
    assert_all_is_given_back(lan)


@modes
@pytest.mark.parametrize("window", [65535, 0], ids=["never-acks", "no-window"])
def test_who_asks_for_much_and_takes_nothing_costs_another_nothing(lab, certificates, mode, window):
    """Either nothing is ever acknowledged, or no byte of room is ever offered, which every probe is told again."""
    lan, alice = harmed(lab, certificates, mode)
    files = Files(lab, lan.internet.server, certificates.issue("web", [SERVER, SERVER6]))
    write_file(files.root / "much", 64 * MIB)
    request, seen, own_ports = b"GET /much HTTP/1.0\r\n\r\n", [], range(10000, 10200)

    def hear():
        for heard in alice.receive(0.05):
            seen.append((heard.port, len(heard.data)))
            if window == 0 and not heard.flags & SYN:
                alice.send(SERVER, heard.port, 80, ACK, sequence=heard.port + 1 + len(request), window=0,
                           acknowledged=open_ones[heard.port] + 1)

    with growing_less_than(lan.gateway, memory_of(len(own_ports)) + 8 * MIB):
        open_ones = alice.half_open(SERVER, 80, own_ports, window=window)
        for own_port, first in open_ones.items():
            alice.send(SERVER, own_port, 80, ACK | PSH, sequence=own_port + 1, acknowledged=first + 1, window=window,
                       data=request)
        with meanwhile(hear), bob_unharmed(lan):
            wait_for(lambda: len({own_port for own_port, _ in seen}) == len(own_ports), 20, "all hear something")
            begin = time.monotonic()
            wait_for(lambda: time.monotonic() - begin > (60 if DEEP else 2), 70)
    if window == 0:
        assert max(size for _, size in seen) <= 1, "what is sent without room is a probe"
    assert_all_is_given_back(lan)
