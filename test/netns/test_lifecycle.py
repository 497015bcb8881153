"""From start to end, many times: nothing is left behind, nothing secret is said, and what runs can be asked.

      gateway 192.0.2.1 --+--[ switch ]--+-- alice 192.0.2.2
                                         +-- bob 192.0.2.3
"""

import contextlib
import hashlib
import json
import os
import pathlib
import re
import shutil
import signal
import ssl
import subprocess
import sys
import time

import pytest

from certificates import pin_of
from lab import wait_for
from lan import Lan
from programs import (EXECUTABLE, NOT_PERMITTED, NOT_RUNNING, OK, REPOSITORY, TOKENS, WRONG_COMMAND, Client, Gateway,
                      penstock)

sys.path.insert(0, str(REPOSITORY / "tools"))
import check_texts


def files(lab):
    """What stands in the lab's directory, but for logs."""
    return {str(path.relative_to(lab.directory)) for path in lab.directory.rglob("*") if path.suffix != ".log"}


def traces(host):
    """The interfaces, addresses and routes of a host."""
    addresses = {a["local"] for link in host.show("address") for a in link["addr_info"]}
    return host.interfaces(), addresses, host.routes(), host.show("rule"), host.show("-6", "rule")


# --- nothing is left ------------------------------------------------------------------------------------------------


def test_fifty_starts_and_stops_leave_no_interface_route_file_or_process(lab, certificates):
    gateway = Gateway(lab.host("gateway"), certificates, vpn={"subnet6": "fd00:100::/64"})
    host, before = gateway.host, traces(gateway.host)
    gateway.start()
    assert gateway.stop() == OK
    kept = files(lab)  # the state directory may stay
    for _ in range(49):
        gateway.start()
        assert "tun0" in host.interfaces()
        assert gateway.stop() == OK
        assert traces(host) == before
    assert files(lab) == kept
    assert not gateway.status_socket.exists()
    assert host.pids() == []


def test_ten_starts_and_stops_of_a_client_leave_nothing(lab, certificates):
    gateway = Gateway(lab.host("gateway"), certificates, vpn={"subnet6": "fd00:100::/64"},
                      push={"routes": ["10.77.0.0/16"]})
    client = Client(lab.host("alice"), gateway.start())
    before = traces(client.host)
    for _ in range(10):
        client.start()
        assert client.status()["address"] == "10.100.0.2"
        assert client.stop() == OK
        assert traces(client.host) == before
    assert not client.status_socket.exists()


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_a_signal_in_the_middle_of_the_start_leaves_nothing(lab, certificates, ending):
    """Ever later, from the first millisecond to when it is ready; a signal before the handlers stand just ends it."""
    gateway = Gateway(lab.host("gateway"), certificates)
    client = Client(lab.host("alice"), gateway)
    for program in (gateway, client):
        before = traces(program.host)
        for milliseconds in range(0, 60, 3):
            program.launch()
            time.sleep(milliseconds / 1000)  # the moment itself is what is tried here
            program.process.signal(ending)
            assert program.process.wait() in (OK, -ending)
            assert traces(program.host) == before
            assert not program.status_socket.exists()


def test_a_signal_while_the_client_waits_for_its_next_attempt_ends_it_at_once(lab, certificates):
    gateway = Gateway(lab.host("gateway"), certificates)
    client = Client(lab.host("alice"), gateway, reconnect={"min_backoff": "60s", "max_backoff": "60s"}).launch()
    client.process.wait_for_log("retrying in")
    assert client.process.stop(deadline=2.0) == OK
    client.process.wait_for_log("stopped")


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_either_signal_stops_in_an_orderly_way(lab, certificates, ending):
    lan = Lan(lab, certificates, members=("alice",))
    alice, gateway = lan.clients[0], lan.gateway
    gateway.process.signal(ending)
    assert gateway.process.wait() == OK
    alice.process.wait_for_log("goodbye.*shutting down")
    alice.process.signal(ending)
    assert alice.process.wait() == OK
    for program in (gateway, alice):
        assert program.host.interfaces() == {"lo", "eth0"}
        assert not program.status_socket.exists()
        assert 'msg="stopped"' in program.log()


def test_killed_without_a_chance_it_starts_again_over_what_is_left(lab, certificates):
    gateway = Gateway(lab.host("gateway"), certificates).start()
    gateway.kill()
    assert gateway.host.interfaces() == {"lo", "eth0"}, "the kernel removes an interface whose holder is gone"
    gateway.start()
    assert gateway.stop() == OK


def nice_of(process):
    """Of each of its threads."""
    stats = [path.read_text() for path in pathlib.Path(f"/proc/{process.pid}/task").glob("*/stat")]
    return {int(stat.rpartition(")")[2].split()[16]) for stat in stats}


def test_it_goes_before_others_at_the_processor_unless_it_was_started_with_a_value_of_its_own(lab, certificates):
    gateway = Gateway(lab.host("gateway"), certificates, performance={"loops": 2}).start()
    alice = Client(lab.host("alice"), gateway, performance={"nice": -3}).start()
    assert nice_of(gateway.process) == {-10}
    assert nice_of(alice.process) == {-3}
    polite = Gateway(lab.host("polite"), certificates, "polite", wrapper=["nice", "-n", "5"]).start()
    assert nice_of(polite.process) == {5}


def congestion_controls(host):
    """Of its TCP connections to and from port 443."""
    shown = host.run("ss", "-Htin", "state", "established", "( sport = :443 or dport = :443 )").stdout
    return set(re.findall(r"^\s+([a-z]+) ", shown, re.MULTILINE))


def test_the_connection_has_the_congestion_control_that_is_configured(lab, certificates):
    reno = {"congestion_control": "reno"}
    gateway = Gateway(lab.host("gateway"), certificates, performance=reno).start()
    alice = Client(lab.host("alice"), gateway, performance=reno).start()
    assert congestion_controls(gateway.host) == {"reno"}
    assert congestion_controls(alice.host) == {"reno"}


def test_a_congestion_control_that_the_kernel_has_not_is_told_of_and_done_without(lab, certificates):
    gateway = Gateway(lab.host("gateway"), certificates, performance={"congestion_control": "none-such"}).start()
    assert gateway.process.logged("keep the system's congestion control.*none-such")
    Client(lab.host("alice"), gateway).start().host.wait_ping("10.100.0.1")


SEGMENTATION = """
import array, fcntl, socket, struct
SIOCETHTOOL, ETHTOOL_GTSO = 0x8946, 0x1E
answer = array.array("I", [ETHTOOL_GTSO, 0])
request = struct.pack("16sP", b"tun0", answer.buffer_info()[0])
fcntl.ioctl(socket.socket(socket.AF_INET, socket.SOCK_DGRAM), SIOCETHTOOL, request)
print("on" if answer[1] else "off")
"""


def test_a_persistent_tun_device_is_used_and_left(lab, certificates):
    host = lab.host("gateway")
    host.run("ip", "tuntap", "add", "dev", "tun0", "mode", "tun")

    def segmentation():
        return host.run("/usr/bin/python3", "-c", SEGMENTATION).stdout.strip()

    index = host.index("tun0")
    gateway = Gateway(host, certificates).start()
    client = Client(lab.host("alice"), gateway).start()
    client.host.wait_ping("10.100.0.1")
    assert host.index("tun0") == index
    assert segmentation() == "on"
    assert gateway.stop() == OK
    assert segmentation() == "off", "whoever opens it next may not know of super-packets"
    assert host.index("tun0") == index
    assert host.addresses("tun0") == set(), "the addresses that it gave are gone"


def test_two_gateways_with_different_configs_share_a_machine(lab, certificates):
    """State and status default to places named after the config; /run and /var/lib are private to this test."""
    host = lab.host("gateway")
    script = "mount -t tmpfs none /run && mount -t tmpfs none /var/lib && echo prepared && exec sleep infinity"
    room = host.start("unshare", "--mount", "sh", "-c", script)
    room.wait_for_log("prepared")
    inside = ["nsenter", "--mount", f"--target={room.pid}"]
    gateways = [
        Gateway(host, certificates, "first", wrapper=inside),
        Gateway(host, certificates, "second", wrapper=inside, server={"listen_addr": ":8443"},
                vpn={"subnet": "10.101.0.0/24", "interface_name": "tun1"})]
    for gateway in gateways:
        gateway.write_config(state_dir=None, status_socket=None)

    def status(gateway):
        done = subprocess.run(host.command(*inside, EXECUTABLE, "status", "--json", "--config", gateway.config_path),
                              capture_output=True, text=True, check=False)
        return json.loads(done.stdout) if done.returncode == OK else None

    for gateway in gateways:
        gateway.launch()
        gateway.process.wait_for_log("gateway ready")
    assert [status(gateway)["interface"] for gateway in gateways] == ["tun0", "tun1"]
    assert [status(gateway)["process"]["pid"] for gateway in gateways] == [gateway.process.pid for gateway in gateways]
    alice = Client(lab.host("alice"), gateways[0]).start()
    bob = Client(lab.host("bob"), gateways[1], "bob", server={"url": "wss://192.0.2.1:8443/"}).start()
    alice.host.wait_ping("10.100.0.1")
    bob.host.wait_ping("10.101.0.1")
    assert gateways[0].stop() == OK
    assert status(gateways[0]) is None and status(gateways[1])
    assert host.interfaces() == {"lo", "eth0", "tun1"}


def test_status_finds_the_service_whoever_asks(lab, certificates):
    """The service of root's has its socket in /run/penstock, with others there; a user's own is in $XDG_RUNTIME_DIR."""
    host, user, stranger = lab.host("gateway"), 65500, 65502
    script = ("mount -t tmpfs none /run && mount -t tmpfs none /var/lib && install -d -o 65500 /run/mine /var/lib/mine && "
              "echo prepared && exec sleep infinity")
    room = host.start("unshare", "--mount", "sh", "-c", script)
    room.wait_for_log("prepared")
    inside = ["nsenter", "--mount", f"--target={room.pid}"]
    executable = lab.directory / "penstock"
    shutil.copy(EXECUTABLE, executable)

    def as_user(number, group=user):
        return [*inside, "setpriv", f"--reuid={number}", f"--regid={group}", "--clear-groups", "env",
                "XDG_RUNTIME_DIR=/run/mine", "XDG_STATE_HOME=/var/lib/mine"]

    def status(who, *options):
        return subprocess.run(host.command(*who, executable, "status", "--json", *options), capture_output=True, text=True,
                              check=False)

    def pid(done):
        assert done.returncode == OK, done.stderr
        return json.loads(done.stdout)["process"]["pid"]

    nobody = status(as_user(user))
    assert nobody.returncode == NOT_RUNNING and "in /run/penstock or /run/mine/penstock" in nobody.stderr
    service = Gateway(host, certificates, "service", wrapper=inside, process={"user": str(user)},
                      server={"listen_http": "unix:/run/penstock/http.sock"})
    service.write_config(state_dir=None, status_socket=None)
    host.run(*inside, "install", "-d", "/run/penstock")
    service.launch()
    service.process.wait_for_log("gateway ready")
    for who in (inside, as_user(user), as_user(stranger)):
        assert pid(status(who)) == service.process.pid
        assert pid(status(who, "--config", service.config_path)) == service.process.pid
    refused = status(as_user(stranger, stranger))
    assert refused.returncode == NOT_PERMITTED and "as a member of its group" in refused.stderr

    mine = Gateway(host, certificates, "mine", wrapper=as_user(user), vpn={"tun": "off"}, server={"listen_addr": ":8443"})
    mine.write_config(state_dir=None, status_socket=None)
    os.chown(mine.settings["server"]["tls_key"], user, user)
    mine.executable = executable
    mine.launch("--set", "status_socket=/run/mine/penstock/other.sock")
    mine.process.wait_for_log("gateway ready")
    several = status(as_user(user))
    assert several.returncode == WRONG_COMMAND
    assert re.findall(r"--socket (\S+)  # (\w+)", several.stderr) == [
        ("/run/mine/penstock/other.sock", "gateway"), (f"/run/penstock/{socket_name(service)}", "gateway")]
    other = ["--config", mine.config_path, "--set", "status_socket=/run/mine/penstock/other.sock"]
    assert pid(status(as_user(user), *other)) == mine.process.pid
    assert status(as_user(user), "--config", mine.config_path).returncode == NOT_RUNNING
    assert status(as_user(user), "--set", "vpn.mtu=1400").returncode == WRONG_COMMAND
    assert mine.stop() == OK
    assert pid(status(as_user(user))) == service.process.pid
    limits = json.loads(status(inside).stdout)["limits"]
    assert [limits[name] for name in ("proxy_header", "login_blocked", "addresses_blocked_now")] == [0] * 3, \
        "to look counts against nobody"


def socket_name(program):
    """Of the default status socket: the configuration's name, and eight digits that stand for where it is."""
    path = str(program.config_path)
    return f"{program.config_path.stem}-{hashlib.sha256(path.encode()).hexdigest()[:8]}.sock"


# --- certificates ---------------------------------------------------------------------------------------------------


def served_certificate(gateway, host):
    context = ssl.create_default_context(cafile=gateway.ca)
    with contextlib.closing(gateway.plain_client(host, context=context)) as client:
        return ssl.DER_cert_to_PEM_cert(client.sock.getpeercert(binary_form=True))


def replace_certificate(gateway, certificates):
    """A new pair under the old names, each file exchanged in one step; the new certificate as text."""
    fresh = certificates.issue("fresh", [gateway.host.ipv4])
    for new, old in ((fresh.key, gateway.settings["server"]["tls_key"]), (fresh.certificate, gateway.certificate)):
        shutil.copy(new, f"{old}.new")
        os.replace(f"{old}.new", old)
    return fresh.certificate.read_text()


@pytest.mark.parametrize("told", [True, False], ids=["on-SIGHUP", "by-itself"])
def test_a_replaced_certificate_is_served_and_no_session_notices(lab, certificates, told):
    lan = Lan(lab, certificates)
    alice, gateway = lan.clients[0], lan.gateway
    old = served_certificate(gateway, alice.host)
    links = alice.status()["reconnects"]
    new = replace_certificate(gateway, certificates)
    if told:
        gateway.process.signal(signal.SIGHUP)
    gateway.process.wait_for_log("certificate reloaded", deadline=15)
    assert served_certificate(gateway, alice.host) == new != old
    assert alice.status()["reconnects"] == links
    alice.host.wait_ping("10.100.0.3")


def test_a_broken_new_certificate_leaves_the_old_one_in_service(lab, certificates):
    lan = Lan(lab, certificates)
    gateway, host = lan.gateway, lan.clients[0].host
    old = served_certificate(gateway, host)
    mark = gateway.process.mark()
    gateway.certificate.write_text("half a certificate")
    gateway.process.signal(signal.SIGHUP)
    gateway.process.wait_for_log(r"level=(warn|error).*certificate", after=mark)
    assert served_certificate(gateway, host) == old
    host.wait_ping("10.100.0.3")


def test_the_documented_commands_make_certificates_that_work(lab, certificates):
    text = (REPOSITORY / "docs/operations.md").read_text()
    commands = re.findall(r"^sudo (openssl req -x509.*(?:\\\n.*)*?[^\\])$", text, re.MULTILINE)
    assert len(commands) == 2
    host, alice = lab.host("gateway"), lab.host("alice")
    for number, command in enumerate(commands):
        command = command.replace("/etc/penstock", str(lab.directory))
        subprocess.run(command, shell=True, check=True, capture_output=True)
        made = lab.directory / "server.crt"
        assert "CN = vpn-server" in host.run("openssl", "x509", "-in", made, "-noout", "-subject").stdout
        gateway = Gateway(host, certificates, f"gateway{number}",
                          server={"tls_cert": str(made), "tls_key": str(lab.directory / "server.key")}).start()
        client = Client(alice, gateway, server={"ca_file": None, "pin": pin_of(made)}).start()
        assert client.stop() == OK and gateway.stop() == OK


# --- status and logs ------------------------------------------------------------------------------------------------


def test_status_tells_people_and_programs_what_is_going_on(lab, certificates):
    lan = Lan(lab, certificates)
    alice, gateway = lan.clients[0], lan.gateway
    alice.host.wait_ping("10.100.0.3")
    status = gateway.status()
    assert status["role"] == "server" and status["version"] and status["uptime_seconds"] > 0
    assert (status["subnet"], status["server_ip"]) == ("10.100.0.0/24", "10.100.0.1")
    assert (status["subnet6"], status["server_ip6"]) == ("fd00:100::/64", "fd00:100::1")
    assert (status["interface"], status["mtu"]) == ("tun0", 1420)
    session = gateway.session("10.100.0.2")
    assert session["client"] == "alice" and session["attached"] and session["address6"] == "fd00:100::2"
    assert session["outer"].startswith("192.0.2.2:") and session["software"].startswith("penstock/")
    assert session["format"].startswith("batches,tcp4,tcp6")  # and UDP, from Linux 6.2 on
    assert session["up"]["packets"] >= 1 and session["down"]["bytes"] >= 84
    assert status["totals"]["sessions_created"] == 2 and status["totals"]["up"]["packets"] >= 2
    process = status["process"]
    assert process["pid"] == gateway.process.pid and process["resident_bytes"] > 1 << 20 and process["open_files"] > 5

    status = alice.status()
    assert status["role"] == "client" and status["state"] == "connected" and status["gateway"] == gateway.url()
    assert status["outer"] == "192.0.2.1:443" and status["connected_seconds"] >= 0
    assert status["up"]["packets"] >= 1 and status["reconnects"]["resumed"] == 0

    for program, words in ((gateway, ["alice", "bob", "10.100.0.2", "10.100.0.3", "192.0.2.2", "tun0"]),
                           (alice, ["connected", "10.100.0.2", gateway.url()])):
        for way in (["--socket", program.status_socket], ["--config", program.config_path]):
            done = penstock("status", *way)
            assert done.returncode == OK, done.stderr
            assert all(word in done.stdout for word in words), done.stdout


def test_status_watch_keeps_printing_until_it_is_ended(lab, certificates):
    gateway = Gateway(lab.host("gateway"), certificates).start()
    watch = lab.start([EXECUTABLE, "status", "--watch", "--socket", gateway.status_socket], "watch")
    wait_for(lambda: watch.log().count("10.100.0.0/24") >= 2, 8, "it prints again and again")
    watch.signal(signal.SIGINT)
    assert watch.wait(2.0) in (OK, -signal.SIGINT)


def test_the_status_socket_is_for_its_owner_only(lab, certificates):
    gateway = Gateway(lab.host("gateway"), certificates).start()
    assert gateway.status_socket.stat().st_mode & 0o007 == 0
    for path in gateway.state_dir.rglob("*"):
        assert path.is_dir() or path.stat().st_mode & 0o077 == 0, path


def test_no_log_file_or_status_tells_a_secret(lab, certificates):
    """At debug level, through logins, refusals, a restart, and both kinds of clients; leases are secrets, too."""
    lan = Lan(lab, certificates)
    alice, gateway = lan.clients[0], lan.gateway
    Client(lab.host("carol"), gateway, token="wrong").launch().process.wait_for_log("retrying in")
    plain = gateway.plain_client(lab.host("dave"))
    answer = plain.login(TOKENS["bob"], client="test/1.0", receive={"max_packet": 65535, "mtu": 1420})
    assert answer["lease"]
    before = alice.status()
    gateway.restart()
    alice.wait_reconnected(before)
    leases = [answer["lease"]]
    for path in alice.state_dir.rglob("*"):
        if path.is_file():
            leases += re.findall(rb"[A-Za-z0-9+/_=.-]{40,}", path.read_bytes())
    secrets = {secret.encode() for secret in TOKENS.values()}
    secrets |= {lease if isinstance(lease, bytes) else lease.encode() for lease in leases}
    said = [path.read_bytes() for path in lab.directory.glob("*.log")]
    said += [json.dumps(program.status()).encode() for program in (gateway, alice)]
    assert any(b"level=debug" in text for text in said)
    for secret in secrets:
        assert not any(secret in text for text in said), secret
    for token in TOKENS.values():
        for path in gateway.state_dir.rglob("*"):
            assert path.is_dir() or token.encode() not in path.read_bytes(), path


def test_logs_in_json_are_json_line_by_line(lab, certificates):
    lan = Lan(lab, certificates, logging={"format": "json"}, client_settings={"logging": {"format": "json"}})
    alice, gateway = lan.clients[0], lan.gateway
    assert alice.stop() == OK and gateway.stop() == OK
    for program, event in ((gateway, "gateway ready"), (alice, "connected")):
        lines = [json.loads(line) for line in program.log().splitlines()]
        assert all({"ts", "level", "msg"} <= line.keys() for line in lines)
        assert event in {line["msg"] for line in lines}
        assert {"stopped"} <= {line["msg"] for line in lines}


def test_the_log_tells_the_life_of_a_session(lab, certificates):
    lan = Lan(lab, certificates, logging={"level": "info", "statistics_interval": "1s"}, session={"grace": "500ms"})
    alice, gateway = lan.clients[0], lan.gateway
    alice.host.wait_ping("10.100.0.3")
    gateway.process.wait_for_log(r"statistics")
    alice.stop()
    for pattern in (r'msg="gateway ready".*listen=.*interface=tun0.*subnet=10\.100\.0\.0/24',
                    r'msg="address assigned".*client=alice.*address=10\.100\.0\.2',
                    r'msg="session attached".*client=alice.*outer="?192\.0\.2\.2:\d+',
                    r'msg="session (detached|ended)".*reason=.*up_bytes=\d+'):
        gateway.process.wait_for_log(pattern)
    gateway.process.wait_for_log(r'msg="session ended"')
    alice.process.wait_for_log(r'msg="?connected.*gateway=.*address=10\.100\.0\.2')
    gateway.stop()
    gateway.process.wait_for_log(r'(?s)msg="?stopping.*msg="?stopped')
    assert "level=debug" not in gateway.log()


def test_the_log_sums_up_traffic_and_drops_once_an_interval(lab, certificates):
    lan = Lan(lab, certificates, logging={"level": "info", "statistics_interval": "1s"},
              client_settings={"logging": {"level": "info", "statistics_interval": "1s"}})
    alice, gateway = lan.clients[0], lan.gateway
    mark = gateway.process.mark()
    alice.host.ping("10.100.0.3", "-c20", "-i0.05")
    alice.host.ping("10.100.0.200")
    for program in (gateway, alice):
        program.process.wait_for_log(r'msg="statistics" .*up_bytes=[1-9]\d*.*down_bytes=[1-9]')
    gateway.process.wait_for_log(r'msg="statistics" .*up_packets_per_second=[1-9].*down_packets_per_second=[1-9]')
    gateway.process.wait_for_log(r'msg="statistics" .* dropped=[1-9]')
    gateway.process.wait_for_log(r'level=warn msg="packets dropped" packets=[1-9]\d* reasons="?.*no_session [1-9]', after=mark)
    gateway.process.wait_for_log(r'level=warn msg="packets went to an address that no client has" '
                                 r'last_address=10\.100\.0\.200', after=mark)


def test_at_debug_level_packets_frames_and_the_interface_are_logged(lab, certificates):
    lan = Lan(lab, certificates)
    alice, gateway = lan.clients[0], lan.gateway
    alice.host.wait_ping("10.100.0.3")
    for pattern in (r'level=debug msg="interface configured" interface=tun0 address=10\.100\.0\.1',
                    r'level=debug msg="packet from session" inner_from=10\.100\.0\.2 inner_to=10\.100\.0\.3',
                    r'level=debug msg="frame received" outer="?192\.0\.2\.2:\d+"? opcode=2 bytes=90',
                    r'msg="address assigned" client=alice address=10\.100\.0\.2',
                    r'msg="address assigned" client=bob address=10\.100\.0\.3'):
        gateway.process.wait_for_log(pattern, deadline=2)
    alice.process.wait_for_log(r'level=debug msg="interface configured".*address=10\.100\.0\.2', deadline=2)
    alice.process.wait_for_log(r'level=debug msg="frame received".*opcode=2', deadline=2)


@pytest.mark.parametrize("level, lowest", [("debug", 0), ("info", 1), ("warn", 2), ("error", 3)])
def test_the_level_of_the_config_holds_on_both_sides(lab, certificates, level, lowest):
    lan = Lan(lab, certificates, members=("alice",), logging={"level": level},
              client_settings={"logging": {"level": level}})
    alice, gateway = lan.clients[0], lan.gateway
    gateway.kill()  # a warning of the client's
    alice.wait_status(lambda s: s["state"] != "connected", "notices")
    assert alice.stop() == OK
    levels = ["debug", "info", "warn", "error"]
    for program, highest in ((gateway, 1), (alice, 2)):
        said = set(re.findall(r" level=(\w+) ", program.log()))
        assert said <= set(levels[lowest:])
        assert set(levels[lowest:highest + 1]) <= said


# --- tokens and profiles --------------------------------------------------------------------------------------------


def test_a_profile_is_all_that_a_client_needs_until_its_token_is_revoked(lab, certificates):
    """No authority, only the pin: the profile is made on the gateway, which picks its token up while it runs."""
    gateway = Gateway(lab.host("gateway"), certificates, server={"public_url": "wss://192.0.2.1/"}).start()
    client = Client(lab.host("carol"), gateway, name="carol")
    profile = lab.directory / "carol.yaml"
    done = penstock("profile", "carol", "--config", gateway.config_path, "--output", profile)
    assert done.returncode == OK, done.stderr
    assert profile.stat().st_mode & 0o077 == 0, "it holds a token"
    assert "sha256//" in profile.read_text() and gateway.url() in profile.read_text()
    client.config_path = profile
    options = [word for setting in (f"state_dir={client.state_dir}", f"status_socket={client.status_socket}",
                                    "reconnect.max_backoff=400ms", "reconnect.min_backoff=100ms", "logging.level=debug")
               for word in ("--set", setting)]
    client.start(*options)
    client.host.wait_ping("10.100.0.1")
    assert gateway.session("10.100.0.2")["client"] == "carol"

    listed = penstock("token", "list", "--config", gateway.config_path)
    assert listed.returncode == OK and "carol" in listed.stdout
    assert penstock("token", "revoke", "carol", "--config", gateway.config_path).returncode == OK
    assert "carol" not in penstock("token", "list", "--config", gateway.config_path).stdout
    client.stop()
    client.launch(*options)
    client.process.wait_for_log("Connection failed, retrying in .*token")
    gateway.process.wait_for_log("login refused")
    assert gateway.session("10.100.0.2") is None or not gateway.session("10.100.0.2")["attached"]


def test_a_profile_may_fix_the_address(lab, certificates):
    gateway = Gateway(lab.host("gateway"), certificates, server={"public_url": "wss://192.0.2.1/"}).start()
    done = penstock("profile", "dave", "--config", gateway.config_path, "--address", "10.100.0.40")
    assert done.returncode == OK, done.stderr
    token = re.search(r"token: *\"?([^\s\"]+)", done.stdout)[1]
    host = lab.host("dave")

    def login():
        with contextlib.closing(gateway.plain_client(host)) as client:
            return client.login(token)

    wait_for(lambda: login()["success"], what="the gateway takes the token up", every=0.2)
    assert login()["assigned_ip"] == "10.100.0.40"
    assert token not in gateway.log()
    for path in gateway.state_dir.rglob("*"):
        assert path.is_dir() or token.encode() not in path.read_bytes()


def test_a_new_token_comes_with_its_record_and_works(lab, certificates):
    done = penstock("token", "new", "--name", "erin")
    assert done.returncode == OK
    hashed = re.search(r"\b[0-9a-f]{64}\b", done.stdout)[0]
    token = next(word for word in re.findall(r"[A-Za-z0-9_-]{20,}", done.stdout)
                 if hashlib.sha256(word.encode()).hexdigest() == hashed)
    gateway = Gateway(lab.host("gateway"), certificates, auth={"tokens": [{"name": "erin", "sha256": hashed}]}).start()
    assert gateway.plain_client(lab.host("erin")).login(token)["success"]
    assert gateway.session("10.100.0.2")["client"] == "erin"


def test_a_reload_takes_over_new_tokens_and_drops_no_session(lab, certificates):
    lan = Lan(lab, certificates, members=("alice",))
    alice, gateway = lan.clients[0], lan.gateway
    records = gateway.settings["auth"]["tokens"]
    gateway.write_config(auth={"tokens": [*records, TOKENS["carol"]]})
    gateway.process.signal(signal.SIGHUP)
    host = lab.host("carol")

    def carol_may_enter():
        with contextlib.closing(gateway.plain_client(host)) as client:
            return client.login(TOKENS["carol"])["success"]

    before = alice.status()["reconnects"]
    wait_for(carol_may_enter, 5, "the new token is taken", every=0.1)
    assert alice.status()["reconnects"] == before


@pytest.mark.parametrize("arguments, word", [(["version"], r"penstock.*\d+\.\d+"), (["--help"], "server"),
                                             (["server", "--help"], "--config")])
def test_it_says_what_it_is(arguments, word):
    done = penstock(*arguments)
    assert done.returncode == OK and re.search(word, done.stdout)


def test_every_link_of_the_installed_pages_leads_somewhere(tmp_path):
    installed = ["make", "-C", REPOSITORY, "install", f"BUILD={EXECUTABLE.parent}", f"DESTDIR={tmp_path}", "PREFIX=/usr"]
    subprocess.run(installed, check=True, capture_output=True)
    pages = tmp_path / "usr/share/doc/penstock"
    wrong = [(str(page), *found) for page in pages.rglob("*.md")
             for found in check_texts.wrong_links(page, page.read_text(encoding="utf-8"), pages)]
    assert not wrong
    for unit in (tmp_path / "usr/lib/systemd/system").iterdir():
        page = re.search("^Documentation=file://(.*)$", unit.read_text(encoding="utf-8"), re.MULTILINE)[1]
        assert (tmp_path / page.lstrip("/")).exists(), unit.name
