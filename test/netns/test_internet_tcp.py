"""TCP through the gateway, between programs of others: a web server, SSH, HTTP/2, WebSockets, iperf3.

See internet.py for who is where, tcp_peers.py for the servers, and for the clients, which are of three kinds.
"""

import filecmp
import json
import re

import pytest

from internet import SERVER, SERVER6, internet_lan
from tcp_peers import (DEEP, MIB, QUIET, SERVERS, Files, Shell, curl, downloads, hold_websockets, modes, tcp_lan, uploads, url,
                       write_file)


def files_of(lab, certificates, lan):
    return Files(lab, lan.internet.server, certificates.issue("web", [SERVER, SERVER6]))


@modes
@pytest.mark.parametrize("direction", ["down", "up"])
def test_a_gigabyte_arrives_unharmed(lab, certificates, mode, direction):
    lan = tcp_lan(lab, certificates, mode, members=("alice",))
    files, alice = files_of(lab, certificates, lan), lan.clients[0].host
    whole = write_file(files.root / "whole", 1024 * MIB)
    if direction == "down":
        assert downloads(alice, SERVER, "whole", whole, timeout=300)
    else:
        assert uploads(alice, SERVER, whole, files.root, timeout=300)


@modes
def test_clients_of_all_kinds_get_and_give_files(lab, certificates, mode):
    lan = tcp_lan(lab, certificates, mode)
    files = files_of(lab, certificates, lan)
    some = write_file(files.root / "some", 12 * MIB + 1)
    for client in lan.clients:
        for address in SERVERS:
            assert downloads(client.host, address, "some", some), f"{client.name} from {address}"
            assert uploads(client.host, address, some, files.root), f"{client.name} to {address}"


@modes
@pytest.mark.parametrize("name, size", [("alice", 2 * MIB), ("bob", MIB // 4), ("carol", MIB // 4)])
def test_200_downloads_at_once_arrive_unharmed_each(lab, certificates, mode, name, size):
    lan = tcp_lan(lab, certificates, mode, members=(name,))
    files, host = files_of(lab, certificates, lan), lan.clients[0].host
    got = files.directory / "got"
    got.mkdir()
    originals = [write_file(files.root / f"file{number}", size + number, number) for number in range(200)]
    arguments = []
    for number in range(200):
        arguments += ["-o", got / f"file{number}", url(SERVERS[number % 2], f"file{number}")]
    curl(host, "-Z", "--parallel-immediate", "--parallel-max", 200, *arguments, timeout=180)
    for original in originals:
        assert filecmp.cmp(original, got / original.name, shallow=False), original.name


@modes
@pytest.mark.parametrize("closing", [False, True], ids=["kept", "closed"])
def test_5000_short_requests_without_an_error(lab, certificates, mode, closing):
    """By connections that are used again, and by one for each request."""
    lan = tcp_lan(lab, certificates, mode, limits={"flow_rate": 1000000})
    files_of(lab, certificates, lan)
    for client, address in zip(lan.clients, (SERVER, SERVER6, SERVER)):
        done = 0
        for _ in range(20):
            printed = client.host.run("wrk", "-t1", "-c50", "-d1s", "--timeout", "20s",
                                      *(["-H", "Connection: close"] if closing else []), url(address, "word")).stdout
            assert "Socket errors" not in printed and "Non-2xx" not in printed, printed
            done += int(re.search(r"(\d+) requests in", printed)[1])
            if done >= 5000:
                break
        assert done >= 5000


@modes
def test_http2_both_ways_and_with_many_streams_in_one_connection(lab, certificates, mode):
    lan = tcp_lan(lab, certificates, mode)
    files = files_of(lab, certificates, lan)
    some = write_file(files.root / "some", MIB + 7)
    for client, address in zip(lan.clients, (SERVER, SERVER6, SERVER)):
        got = files.directory / client.name
        got.mkdir()
        up, down = [], []
        for number in range(20):
            up += ["-T", some, "-o", "/dev/null", url(address, f"{client.name}-{number}", "https")]
            down += ["-o", got / f"{number}", url(address, "some", "https")]
        # Uploads side by side in one connection stand still now and then in curl 7.88 itself.
        for arguments in (up, ["-Z", "--parallel-max", 40, *down]):
            told = curl(client.host, "--http2", "--cacert", certificates.ca,
                        "-w", "%{http_version} %{num_connects}\\n", *arguments).split()
            assert set(told[::2]) == {"2"} and sum(map(int, told[1::2])) == 1, told
        for number in range(20):
            assert filecmp.cmp(some, got / f"{number}", shallow=False)
            assert filecmp.cmp(some, files.root / f"{client.name}-{number}", shallow=False)


@modes
def test_ssh_and_scp(lab, certificates, mode):
    lan = tcp_lan(lab, certificates, mode)
    shell = Shell(lab, lan.internet.server)
    some = write_file(lab.directory / "some", 8 * MIB + 3)
    for client, address in zip(lan.clients, (SERVER, SERVER6, SERVER)):
        there, back = lab.directory / f"there-{client.name}", lab.directory / f"back-{client.name}"
        remote = f"root@[{address}]:{there}"
        shell.copy(client.host, some, remote)
        shell.copy(client.host, remote, back)
        assert filecmp.cmp(some, there, shallow=False) and filecmp.cmp(some, back, shallow=False)
        session = shell.session(client.host, address)
        assert session.exchange(b"hello\n") and session.exchange(b"x" * 5000)
        assert session.end() == 0


@modes
def test_websockets_are_kept_open_with_messages_both_ways(lab, certificates, mode):
    lan = tcp_lan(lab, certificates, mode)
    for answered, told in hold_websockets(lan, seconds=120 if DEEP else 3):
        assert answered >= 5 and told >= 5


@modes
@pytest.mark.parametrize("name", ["alice", "bob", "carol"])
def test_iperf3_both_ways(lab, certificates, mode, name):
    lan = tcp_lan(lab, certificates, mode, members=(name,))
    host = lan.clients[0].host
    for server in SERVERS:
        service = lan.internet.server.start("iperf3", "-s", "-B", server, "--forceflush")
        service.wait_for_log("Server listening")
        for more in ((), ("-R",), ("-P", "4", "--bidir")):
            done = host.run("iperf3", "-c", server, "-n", "24M", "--json", *more, check=False)
            assert done.returncode == 0, done.stdout + done.stderr
            end = json.loads(done.stdout)["end"]
            # What is under way at the end is not counted.
            assert end["sum_sent"]["bytes"] > MIB and end["sum_received"]["bytes"] > MIB
        service.stop()


@pytest.mark.parametrize("settings", [{"performance": {"loops": 2}}, {"tun": True}], ids=["loops", "tun"])
def test_in_user_space_with_several_loops_and_with_a_tun_device(lab, certificates, settings):
    lan = internet_lan(lab, certificates, client_settings=QUIET, **QUIET, **settings)
    files = files_of(lab, certificates, lan)
    some = write_file(files.root / "some", 16 * MIB)
    for client in lan.clients:
        for address in SERVERS:
            assert downloads(client.host, address, "some", some)
            assert uploads(client.host, address, some, files.root)
