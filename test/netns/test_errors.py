"""What goes wrong is said in words that a person can act on, and the exit code tells the kinds apart.

      gateway 192.0.2.1 --+--[ switch ]--+-- alice 192.0.2.2

A gateway that cannot start ends with its reason; a client that cannot connect logs its reason and goes on trying.
"""

import contextlib
import fcntl
import os
import re
import struct
import subprocess
import sys

import pytest

from certificates import Certificates, pin_of
from programs import (IN_USE, NOT_PERMITTED, NOT_RUNNING, OK, REPOSITORY, TOKENS, UNPRIVILEGED, WITHOUT_NET_ADMIN,
                      WRONG_COMMAND, WRONG_CONFIG, Client, Gateway, penstock, token_record, unprivileged_gateway)


@pytest.fixture
def gateway_host(lab):
    return lab.host("gateway")


def assert_fails(program, exit_code, *words, options=()):
    """It ends with that code, soon, its last words match every pattern, and it leaves no interface."""
    before = program.host.interfaces()
    code, printed = program.run_to_its_end(*options)
    assert code == exit_code, printed
    for word in words:
        assert re.search(word, printed, re.IGNORECASE), f"{word!r} is not in:\n{printed}"
    assert program.host.interfaces() == before
    assert not program.status_socket.exists()


# --- ports and interfaces -------------------------------------------------------------------------------------------


def test_a_port_in_use_names_its_holder(gateway_host, certificates):
    holder = gateway_host.start(sys.executable, "-c", "import socket, signal; s = socket.create_server(('', 443));"
                                                      "print('holding', flush=True); signal.pause()")
    holder.wait_for_log("holding")
    assert_fails(Gateway(gateway_host, certificates), IN_USE, r"\b443\b", "in use", rf"\b{holder.pid}\b", "python3")


def test_a_second_gateway_on_the_same_port_names_the_first(gateway_host, certificates):
    first = Gateway(gateway_host, certificates, "first").start()
    second = Gateway(gateway_host, certificates, "second", vpn={"tun": "off"})
    assert_fails(second, IN_USE, r"\b443\b", rf"\b{first.process.pid}\b", "penstock")
    assert first.try_status()


def test_a_second_gateway_of_the_same_config_leaves_the_first_alone(gateway_host, certificates):
    first = Gateway(gateway_host, certificates).start()
    second = Gateway(gateway_host, certificates)
    code, printed = second.run_to_its_end()
    assert code == IN_USE, printed
    assert first.status()["process"]["pid"] == first.process.pid


def test_an_address_that_the_host_has_not_is_named(gateway_host, certificates):
    gateway = Gateway(gateway_host, certificates, server={"listen_addr": "203.0.113.9:443"})
    code, printed = gateway.run_to_its_end()
    assert code != OK and "203.0.113.9" in printed


def test_a_privileged_port_without_privilege_is_explained(gateway_host, certificates):
    gateway = unprivileged_gateway(gateway_host, certificates)
    gateway_host.run("sysctl", "-q", "-w", "net.ipv4.ip_unprivileged_port_start=1024")
    assert_fails(gateway, NOT_PERMITTED, r"\b443\b", "CAP_NET_BIND_SERVICE|root", "listen_addr")


def test_a_tun_device_that_is_not_permitted_is_explained(gateway_host, certificates):
    gateway = Gateway(gateway_host, certificates, wrapper=WITHOUT_NET_ADMIN)
    assert_fails(gateway, NOT_PERMITTED, "tun", "CAP_NET_ADMIN|root")


def test_a_client_without_permission_for_its_tun_device_is_told_so(lab, gateway_host, certificates):
    gateway = Gateway(gateway_host, certificates).start()
    client = Client(lab.host("alice"), gateway, wrapper=WITHOUT_NET_ADMIN)
    assert_fails(client, NOT_PERMITTED, "tun|VPN", "CAP_NET_ADMIN|root")


@pytest.mark.parametrize("kind", ["gateway", "client"])
def test_a_missing_tun_device_is_explained(lab, gateway_host, certificates, kind):
    empty = lab.directory / "empty"
    empty.mkdir()
    hidden = ["unshare", "--mount", "sh", "-c", f'mount --bind {empty} /dev/net && exec "$@"', "sh"]
    program = Gateway(gateway_host, certificates, wrapper=hidden if kind == "gateway" else ())
    if kind == "client":
        program = Client(lab.host("alice"), program.start(), wrapper=hidden)
    before = program.host.interfaces()
    code, printed = program.run_to_its_end()
    assert code not in (OK, WRONG_COMMAND), printed
    assert "/dev/net/tun" in printed and re.search("modprobe|module|mknod|tun: off|container", printed)
    assert program.host.interfaces() == before


def test_an_interface_name_that_something_else_has_is_refused(lab, gateway_host, certificates):
    gateway_host.run("ip", "link", "add", "tun0", "type", "bridge")
    assert_fails(Gateway(gateway_host, certificates), IN_USE, "tun0", "interface_name")
    assert "tun0" in gateway_host.interfaces()


def test_a_subnet_that_the_machine_stands_in_already_is_refused(lab, gateway_host, certificates):
    gateway_host.run("ip", "link", "add", "lan0", "type", "bridge")
    gateway_host.run("ip", "address", "add", "10.100.3.1/16", "dev", "lan0")
    assert_fails(Gateway(gateway_host, certificates), IN_USE, "vpn.subnet", "10.100.0.0/16", "lan0", "choose another")


def test_an_interface_that_another_process_holds_is_refused(lab, gateway_host, certificates):
    with gateway_host.entered():
        device = os.open("/dev/net/tun", os.O_RDWR)
        fcntl.ioctl(device, 0x400454CA, struct.pack("16sH22x", b"tun0", 0x1001))  # TUNSETIFF: IFF_TUN | IFF_NO_PI
    try:
        assert_fails(Gateway(gateway_host, certificates), IN_USE, "tun0")
    finally:
        os.close(device)


def test_a_clients_interface_name_that_is_taken_is_refused(lab, gateway_host, certificates):
    alice = lab.host("alice")
    alice.run("ip", "link", "add", "VPN", "type", "bridge")
    assert_fails(Client(alice, Gateway(gateway_host, certificates).start()), IN_USE, "VPN", "interface_name")


# --- the gateway's certificate --------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["tls_cert", "tls_key"])
def test_a_missing_certificate_or_key_is_named(gateway_host, certificates, key):
    gateway = Gateway(gateway_host, certificates, server={key: "/nowhere/at/all.pem"})
    assert_fails(gateway, WRONG_CONFIG, "/nowhere/at/all.pem", key, "no such file|does not exist|not found|is missing")


def test_an_unreadable_key_is_explained(gateway_host, certificates):
    gateway = unprivileged_gateway(gateway_host, certificates, server={"listen_addr": ":8443"})
    key = gateway.settings["server"]["tls_key"]
    os.chown(key, 0, 0)
    code, printed = gateway.run_to_its_end()
    assert code in (WRONG_CONFIG, NOT_PERMITTED), printed
    assert key in printed and re.search("permission|not readable|may not read", printed, re.IGNORECASE)


@pytest.mark.parametrize("content", [b"", b"this is no certificate\n",
                                     b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"],
                         ids=["empty", "text", "damaged"])
def test_a_file_that_is_no_certificate_is_named(lab, gateway_host, certificates, content):
    path = lab.directory / "broken.pem"
    path.write_bytes(content)
    gateway = Gateway(gateway_host, certificates, server={"tls_cert": str(path)})
    assert_fails(gateway, WRONG_CONFIG, "broken.pem", "certificate")


def test_an_expired_certificate_is_refused_with_its_date(gateway_host, certificates):
    expired = certificates.issue("expired", ["192.0.2.1"], days=(-30, -1))
    gateway = Gateway(gateway_host, certificates, pair=expired)
    assert_fails(gateway, WRONG_CONFIG, "expired.pem", "expired", r"\b20\d\d\b")


def test_a_key_that_does_not_match_the_certificate_is_refused(gateway_host, certificates):
    other = certificates.issue("other", ["192.0.2.1"])
    gateway = Gateway(gateway_host, certificates, server={"tls_key": str(other.key)})
    assert_fails(gateway, WRONG_CONFIG, "other-key.pem", "match|belong")


# --- what the client sees -------------------------------------------------------------------------------------------


def assert_keeps_trying(client, *words):
    """Logs a reason that matches every pattern, twice: it does not give up."""
    client.launch()
    first = client.process.wait_for_log(r"Connection failed, retrying in .*")
    for word in words:
        assert re.search(word, first[0], re.IGNORECASE), f"{word!r} is not in: {first[0]}"
    client.process.wait_for_log(r"(?s)Connection failed, retrying in .*Connection failed, retrying in ")
    status = client.status()
    assert status["state"] != "connected" and status["last_error"]
    assert client.stop() == OK


def test_a_certificate_of_an_unknown_authority_is_not_trusted(lab, gateway_host, certificates):
    gateway = Gateway(gateway_host, certificates).start()
    directory = lab.directory / "other-authority"
    directory.mkdir()
    other = Certificates(directory, "Somebody else")
    assert_keeps_trying(Client(lab.host("alice"), gateway, server={"ca_file": str(other.ca)}), "certificate",
                        "ca_file|pin|authority|issuer")


def test_a_certificate_of_another_host_is_not_trusted(lab, gateway_host, certificates):
    pair = certificates.issue("elsewhere", ["elsewhere.test", "198.51.100.7"])
    client = Client(lab.host("alice"), Gateway(gateway_host, certificates, pair=pair).start())
    assert_keeps_trying(client, "certificate", r"192\.0\.2\.1|host ?name|IP address mismatch")


def test_a_self_signed_certificate_is_not_trusted_by_itself(lab, gateway_host, certificates):
    gateway = self_signed(gateway_host, certificates)
    assert_keeps_trying(Client(lab.host("alice"), gateway, server={"ca_file": None}), "certificate", "self.signed")


def self_signed(host, certificates):
    pair = certificates.issue("self-signed", ["vpn-server", host.ipv4], self_signed=True)
    return Gateway(host, certificates, pair=pair).start()


def test_a_pin_makes_a_self_signed_certificate_good(lab, gateway_host, certificates):
    gateway = self_signed(gateway_host, certificates)
    client = Client(lab.host("alice"), gateway, server={"ca_file": None, "pin": pin_of(gateway.certificate)}).start()
    client.host.wait_ping("10.100.0.1")
    assert "verify_tls" not in client.log()


def test_another_key_than_the_pinned_one_is_not_trusted(lab, gateway_host, certificates):
    gateway = Gateway(gateway_host, certificates).start()
    client = Client(lab.host("alice"), gateway, server={"pin": pin_of(certificates.ca)})
    assert_keeps_trying(client, "pin")


def test_without_verification_it_works_and_warns(lab, gateway_host, certificates):
    gateway = self_signed(gateway_host, certificates)
    client = Client(lab.host("alice"), gateway, server={"ca_file": None, "verify_tls": False}).start()
    assert re.search(r"level=warn.*verify_tls", client.log())


def test_a_self_signed_certificate_as_ca_file_is_trusted(lab, gateway_host, certificates):
    gateway = self_signed(gateway_host, certificates)
    Client(lab.host("alice"), gateway, server={"ca_file": str(gateway.certificate)}).start()


def test_a_wrong_token_is_named_and_tried_again(lab, gateway_host, certificates):
    gateway = Gateway(gateway_host, certificates).start()
    assert_keeps_trying(Client(lab.host("alice"), gateway, token="wrong"), "invalid token")
    gateway.process.wait_for_log("login refused")


def test_a_full_pool_is_named_and_tried_again(lab, gateway_host, certificates):
    gateway = Gateway(gateway_host, certificates, vpn={"subnet": "10.100.0.0/30"}, session={"grace": "200ms"}).start()
    first = Client(lab.host("first"), gateway, "alice").start()
    second = Client(lab.host("second"), gateway, "bob").launch()
    second.process.wait_for_log(r"Connection failed, retrying in .*address")
    gateway.process.wait_for_log("login refused")
    first.stop()
    assert second.wait_connected()["address"] == "10.100.0.2"


def test_nobody_at_home_is_named_and_tried_again(lab, gateway_host, certificates):
    gateway = Gateway(gateway_host, certificates)
    assert_keeps_trying(Client(lab.host("alice"), gateway), "refused", r"192\.0\.2\.1")


def test_a_server_that_is_no_penstock_is_named(lab, gateway_host, certificates):
    gateway = Gateway(gateway_host, certificates, server={"path": "/elsewhere"}).start()
    assert_keeps_trying(Client(lab.host("alice"), gateway), "404")


# --- the config -----------------------------------------------------------------------------------------------------

SERVER = """\
server:
  listen_addr: ":443"
  tls_cert: /etc/penstock/cert.pem
  tls_key: /etc/penstock/key.pem
vpn:
  subnet: 10.100.0.0/24
  mtu: 1420
auth:
  tokens:
    - name: alice
      sha256: {sha256}
session:
  grace: 5m
logging:
  level: info
"""

# What is changed in SERVER, the line where that is, and what the message must say beside FILE:LINE:COLUMN.
BAD = {
    "unknown key": ("  mtu: 1420", "  mtuu: 1420", 7, ["mtuu", "did you mean.*mtu|mtu\\b"]),
    "unknown section": ("logging:", "loging:", 14, ["loging", "logging"]),
    "wrong type": ("mtu: 1420", "mtu: [1420]", 7, [r"vpn\.mtu", "number|integer"]),
    "number out of range": ("mtu: 1420", "mtu: 12", 7, [r"vpn\.mtu", "12"]),
    "no prefix": ("10.100.0.0/24", "10.100.0.0/33", 6, [r"vpn\.subnet", "10.100.0.0/33"]),
    "prefix too small": ("10.100.0.0/24", "10.100.0.0/32", 6, [r"vpn\.subnet"]),
    "no duration": ("grace: 5m", "grace: 5 parsecs", 13, [r"session\.grace", "5 parsecs"]),
    "no listen address": ('":443"', '"443443"', 2, [r"server\.listen_addr", "443443"]),
    "unknown level": ("level: info", "level: loud", 15, [r"logging\.level", "loud", "debug.*info.*warn.*error"]),
    "no hash": ("sha256: {sha256}", "sha256: abc", 11, ["sha256"]),
    "twice the same key": ("  mtu: 1420", "  mtu: 1420\n  mtu: 1400", 8, ["mtu", "twice|duplicate|again|already"]),
    "missing key": ("  tls_key: /etc/penstock/key.pem\n", "", 1, [r"server\.tls_key", "required|missing"]),
    "no list": ("  tokens:\n    - name: alice\n      sha256: {sha256}", "  tokens: 17", 9, [r"auth\.tokens"]),
    "broken yaml": ("  mtu: 1420", "  mtu: 1420\n   subnet6: x", 8, []),
}


@pytest.mark.parametrize("case", BAD)
@pytest.mark.parametrize("command", ["server", "check-config"])
def test_a_bad_config_is_shown_with_file_line_and_column(tmp_path, case, command):
    old, new, line, words = BAD[case]
    assert old in SERVER
    path = tmp_path / "server.yaml"
    path.write_text(SERVER.replace(old, new).replace("{sha256}", token_record("alice")["sha256"]))
    done = penstock(command, "--config", path)
    printed = done.stdout + done.stderr
    assert done.returncode == WRONG_CONFIG, printed
    place = re.search(rf"{re.escape(str(path))}:(\d+):(\d+)", printed)
    assert place, printed
    assert int(place[1]) == line, printed
    for word in words:
        assert re.search(word, printed), f"{word!r} is not in: {printed}"


def test_checking_a_config_says_when_its_certificate_is_not_there(tmp_path):
    path = tmp_path / "server.yaml"
    path.write_text(SERVER.replace("{sha256}", token_record("alice")["sha256"]))
    done = penstock("check-config", "--config", path)
    assert done.returncode == OK
    assert "on this machine it would not start: server.tls_cert: /etc/penstock/cert.pem" in done.stderr


@pytest.mark.parametrize("settings, words", [
    (["process.user=no-such-user"], "on this machine it would not start: process.user: there is no user no-such-user"),
    (["process.group=no-such-group"], "on this machine it would not start: process.group: there is no group no-such-group"),
    (["server.proxies=[0.0.0.0/0]"], "server.proxies has 0.0.0.0/0: anybody may claim to be any address"),
    (["limits.handshakes=10"], "limits.handshakes (10) is less than limits.handshakes_per_address (64)"),
    (["server.listen_http=127.0.0.1:80"], "all clients behind a proxy there look like one"),
], ids=["user", "group", "proxies", "handshakes", "plain-http"])
def test_checking_a_config_warns_of_what_the_text_alone_does_not_show(tmp_path, settings, words):
    path = tmp_path / "server.yaml"
    path.write_text(SERVER.replace("{sha256}", token_record("alice")["sha256"]))
    done = penstock("check-config", "--config", path, *[word for setting in settings for word in ("--set", setting)])
    assert done.returncode == OK and words in done.stderr, done.stderr


def test_the_start_warns_of_settings_that_are_hardly_meant(gateway_host, certificates):
    gateway = Gateway(gateway_host, certificates, server={"proxies": ["::/0"]}, limits={"handshakes": 10})
    gateway.start()
    assert gateway.process.logged("level=warn.*server.proxies has ::/0")
    assert gateway.process.logged("level=warn.*limits.handshakes .10. is less than")


GATEWAY_OF_MISTAKES = "server: {listen_addr: 1, tls_crt: a, pth: b}\nvpm: {x: 1}\nauth: {token: []}\nsession: 1\nlimits: 2\n"
CLIENT_OF_MISTAKES = "server: {url: 1, verify: no, pn: a}\nvpm: {x: 1}\nauth: {tokens: 1}\nreconnect: 5\n"


@pytest.mark.parametrize("text, options, words, other", [
    (GATEWAY_OF_MISTAKES, [], "checked as a gateway's configuration; --kind client", "server.url"),
    (CLIENT_OF_MISTAKES, [], "checked as a client's configuration; --kind server", "tls_cert"),
    (CLIENT_OF_MISTAKES, ["--kind", "server"], "(checked as a gateway's configuration)", "auth.token:"),
], ids=["gateway", "client", "as-told"])
def test_a_config_full_of_mistakes_is_checked_as_what_it_is_meant_to_be(tmp_path, text, options, words, other):
    path = tmp_path / "config.yaml"
    path.write_text(text)
    done = penstock("check-config", "--config", path, *options)
    assert done.returncode == WRONG_CONFIG
    assert words in done.stderr and other not in done.stderr, done.stderr


def test_an_unknown_command_is_named_with_those_there_are():
    done = penstock("statu")
    assert done.returncode == WRONG_COMMAND
    assert '"statu"' in done.stderr and "status" in done.stderr


def test_a_good_config_is_called_good(tmp_path):
    path = tmp_path / "server.yaml"
    path.write_text(SERVER.replace("{sha256}", token_record("alice")["sha256"]))
    done = penstock("check-config", "--config", path)
    assert done.returncode == OK and done.stdout.startswith(f"{path}: ok"), done.stdout + done.stderr


SERVER_URL = "server:\n  url: wss://gateway.test/\n"
AUTH = f"auth:\n  token: {TOKENS['alice']}\n"


@pytest.mark.parametrize("text, words", [
    (AUTH, ["server.url"]),
    (SERVER_URL, ["auth.token"]),
    (SERVER_URL.replace("wss:", "http:") + AUTH, ["server.url", "wss://"]),
    (SERVER_URL + "  pin: abc\n" + AUTH, ["server.pin", "sha256//"]),
    (SERVER_URL + AUTH + "reconnect:\n  min_backoff: -1s\n", ["reconnect.min_backoff"]),
    (SERVER_URL + AUTH + "vpn:\n  interface_name: a-name-that-is-far-too-long\n", ["vpn.interface_name", "15"]),
], ids=["no-url", "no-token", "http", "pin", "negative", "long-name"])
def test_a_bad_client_config_is_refused_by_its_key(tmp_path, text, words):
    path = tmp_path / "client.yaml"
    path.write_text(text)
    done = penstock("client", "--config", path)
    assert done.returncode == WRONG_CONFIG, done.stderr
    for word in words:
        assert word in done.stderr, done.stderr
    assert TOKENS["alice"] not in done.stderr


def test_a_missing_config_file_is_named():
    done = penstock("server", "--config", "/nowhere/server.yaml")
    assert done.returncode == WRONG_CONFIG and "/nowhere/server.yaml" in done.stderr


def test_a_json_config_is_shown_with_line_and_column_too(tmp_path):
    path = tmp_path / "client.json"
    path.write_text('{\n  "server": {"url": "wss://gateway.test/"},\n  "auth": {"token": "x"},\n'
                    '  "vpn": {"mtu": "big"}\n}\n')
    done = penstock("check-config", "--config", path, "--kind", "client")
    assert done.returncode == WRONG_CONFIG
    assert re.search(rf"{re.escape(str(path))}:4:\d+.*vpn\.mtu", done.stdout + done.stderr)


@pytest.mark.parametrize("setting, word", [("vpn.mtuu=1400", "mtu"), ("vpn.mtu=big", r"vpn\.mtu"),
                                           ("nonsense", r"--set: expected section\.key=value"), ("vpm.mtu=1400", "vpn")])
def test_a_wrong_set_option_is_refused(tmp_path, setting, word):
    path = tmp_path / "server.yaml"
    path.write_text(SERVER.replace("{sha256}", token_record("alice")["sha256"]))
    done = penstock("check-config", "--config", path, "--set", setting)
    assert done.returncode in (WRONG_COMMAND, WRONG_CONFIG)
    assert re.search(word, done.stdout + done.stderr)


@pytest.mark.parametrize("arguments", [["serve"], ["server"], ["server", "--config"], ["client", "--colour"], []],
                         ids=["unknown", "no-config", "no-value", "no-option", "nothing"])
def test_a_wrong_command_line_has_an_exit_code_of_its_own(arguments):
    done = penstock(*arguments)
    assert done.returncode == WRONG_COMMAND, done.stdout + done.stderr
    assert done.stdout + done.stderr


def test_make_run_in_a_folder_of_roots_says_the_ways_out(lab):
    folder = lab.directory / "run"
    folder.mkdir(mode=0o750)
    done = subprocess.run([*UNPRIVILEGED, "env", f"RUN_DIR={folder}", "bash", "-s"],
                          input=(REPOSITORY / "tools/run.sh").read_text().replace('cd "$(dirname "$0")/.."', "cd /"),
                          capture_output=True, text=True, check=False)
    assert done.returncode == NOT_PERMITTED, done.stderr
    assert f"{folder} belongs to root" in done.stderr
    for way in ("sudo make run", "RUN_DIR=", f"sudo chown -R nobody {folder}"):
        assert way in done.stderr


def test_status_of_nobody_says_so(tmp_path):
    done = penstock("status", "--socket", tmp_path / "nobody.sock")
    assert done.returncode == NOT_RUNNING
    assert "nobody.sock" in done.stderr


def test_broken_issued_tokens_are_refused_with_what_to_do(gateway_host, certificates):
    gateway = Gateway(gateway_host, certificates)
    gateway.state_dir.mkdir()
    tokens = gateway.state_dir / "tokens.json"
    tokens.write_text('{"tokens": [')
    assert_fails(gateway, WRONG_CONFIG, rf"tokens\.json:1:\d+: .*; mend {tokens} or put a copy of it back")


def test_nobody_is_called_any(tmp_path):
    path = tmp_path / "server.yaml"
    path.write_text(SERVER.replace("{sha256}", token_record("alice")["sha256"]) + f"state_dir: {tmp_path}/state\n")
    done = penstock("profile", "any", "--config", path)
    assert done.returncode == WRONG_CONFIG and '"any" means everybody in the rules of lan.allow' in done.stderr


def test_a_status_socket_that_cannot_be_made_is_only_a_warning(lab, gateway_host, certificates):
    gateway = Gateway(gateway_host, certificates)
    gateway.write_config(status_socket="/proc/nowhere/gateway.sock")
    gateway.launch()
    gateway.process.wait_for_log("gateway ready")
    assert re.search(r"level=warn.*/proc/nowhere.*set status_socket to a path", gateway.log())
    with contextlib.closing(gateway.plain_client(lab.host("alice"))) as client:
        assert client.login(TOKENS["alice"])["success"]
    assert gateway.stop() == OK
