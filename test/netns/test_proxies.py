"""Proxies on both sides of the gateway: nginx and HAProxy in front of it, tinyproxy and worse in front of clients.

      alice 192.0.2.2 --+             +-- gateway 192.0.2.1: nginx or HAProxy on port 443 (8443), and behind it,
        bob 192.0.2.3 --+--[ switch ]--+   on loopback or a Unix socket, the gateway
      proxy 192.0.2.4 --+

What nginx and HAProxy are told is packaging/proxies/*.example, word for word but for names and paths. That the gateway
knows its clients is read from the outer address in `penstock status`.
"""

import grp
import itertools
import os
import re
import socket
import stat
import threading

import pytest

from lab import wait_for
from lan import Stream, inner_addresses
from programs import OK, REPOSITORY, TOKENS, WRONG_CONFIG, Client, Gateway

EXAMPLES = REPOSITORY / "packaging/proxies"
FORGED = "203.0.113.66"
# Headers by way of the path, as a request smuggler would.
FORGED_PATH = f"/ HTTP/1.1\r\nX-Forwarded-For: {FORGED}\r\nX-Rest: "


def example(name, **changes):
    """The example, with each of `changes`' texts, which must be there, exchanged."""
    text = (EXAMPLES / name).read_text()
    for old, new in changes.items():
        assert old in text, f"{old} is not in {name}"
        text = text.replace(old, str(new))
    return text


def running(process, host, port, what):
    """Waits until `what` takes connections."""
    def answers():
        assert process.running(), process.log()
        with host.entered():
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return True
            except OSError:
                return False

    wait_for(answers, 10, f"{what} listens")
    return process


def start_nginx(gateway, upstream, user="root"):
    """nginx in front of `gateway`, which listens on `upstream`; its workers are `user`."""
    directory = gateway.directory
    snippet = directory / "penstock-nginx.conf"
    snippet.write_text(example("nginx.conf.example", **{
        "server unix:/run/penstock/http.sock;": f"server {upstream};",
        "/etc/letsencrypt/live/vpn.example.org/fullchain.pem": gateway.settings["server"]["tls_cert"],
        "/etc/letsencrypt/live/vpn.example.org/privkey.pem": gateway.settings["server"]["tls_key"]}))
    main = directory / "nginx.conf"
    temporary = " ".join(f"{kind}_temp_path {directory}/{kind};"
                         for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    main.write_text(f"user {user}; daemon off; pid {directory}/nginx.pid; error_log stderr; events {{}}\n"
                    f"http {{ access_log off; {temporary} include {snippet}; }}\n")
    process = gateway.host.start("nginx", "-e", "stderr", "-p", directory, "-c", main, log_name="nginx")
    return running(process, gateway.host, 443, "nginx")


def start_haproxy(gateway, send_proxy="send-proxy-v2"):
    directory = gateway.directory
    both = directory / "haproxy.pem"
    both.write_text("".join(open(gateway.settings["server"][key]).read() for key in ("tls_cert", "tls_key")))
    config = directory / "haproxy.cfg"
    config.write_text(example("haproxy.cfg.example", **{
        "/etc/haproxy/vpn.example.org.pem": both, "send-proxy-v2": send_proxy}))
    process = gateway.host.start("haproxy", "-db", "-f", config, log_name="haproxy")
    return running(process, gateway.host, 8443, "HAProxy")


def behind_nginx(lab, certificates, way="unix", **settings):
    host = lab.host("gateway")
    if way == "unix":
        upstream = f"unix:{lab.directory}/http.sock"
        server = {"listen_addr": [], "listen_http": upstream}
    else:
        upstream = "127.0.0.1:8080"
        server = {"listen_addr": [], "listen_http": upstream, "proxies": ["127.0.0.1"]}
    gateway = Gateway(host, certificates, server=server, **settings).start()
    start_nginx(gateway, upstream)
    return gateway


def behind_haproxy(lab, certificates, send_proxy="send-proxy-v2"):
    gateway = Gateway(lab.host("gateway"), certificates, server={
        "listen_addr": "127.0.0.1:4443", "listen_http": "127.0.0.1:8080", "proxies": ["127.0.0.1"]}).start()
    start_haproxy(gateway, send_proxy)
    return gateway


def without_port(outer):
    """An HTTP proxy names its client without one."""
    return re.sub(r"^\[(.*)\]:\d+$|^([\d.]+):\d+$", r"\1\2", outer)


def outer_of(gateway, client):
    """The outer address that the gateway shows for the session named `client`, without its port."""
    session = next(s for s in gateway.status()["sessions"] if s["client"] == client and s["attached"])
    return without_port(session["outer"])


def members(lab, gateway, port=443):
    """Alice over IPv4 and bob over IPv6, both connected through what is in front of the gateway."""
    hosts = lab.host("alice"), lab.host("bob")
    urls = f"wss://{gateway.host.ipv4}:{port}/", f"wss://[{gateway.host.ipv6}]:{port}/"
    return [Client(host, gateway, token=host.name, server={"url": url}).start() for host, url in zip(hosts, urls)]


def assert_clients_are_known_and_served(lab, gateway, port=443):
    alice, bob = members(lab, gateway, port)
    assert outer_of(gateway, "alice") == alice.host.ipv4
    assert outer_of(gateway, "bob") == bob.host.ipv6
    address = inner_addresses(bob)[0]
    alice.host.wait_ping(address)
    assert Stream(lab, alice.host, bob.host, address).transfer(16 << 20)
    return alice, bob


# ---- in front of the gateway ----

@pytest.mark.parametrize("way", ["unix", "loopback"])
def test_clients_behind_nginx_are_known_by_their_addresses(lab, certificates, way):
    gateway = behind_nginx(lab, certificates, way)
    alice, _ = assert_clients_are_known_and_served(lab, gateway)
    expected = f"unix:{lab.directory}/http.sock" if way == "unix" else "http://127.0.0.1:8080"
    assert gateway.status()["listen"] == [expected]
    assert gateway.process.logged(f"gateway ready.*listen={re.escape(expected)}")

    # What a client writes itself stands to the left of what nginx appends.
    forger = gateway.plain_client(alice.host, path=FORGED_PATH)
    assert forger.login(TOKENS["bob"])["success"]
    outers = [s["outer"] for s in gateway.status()["sessions"]]
    assert not any(FORGED in outer for outer in outers), outers
    assert outers.count(alice.host.ipv4) == 2, "the proxy names no port"


@pytest.mark.parametrize("send_proxy", ["send-proxy", "send-proxy-v2", "send-proxy-v2 proxy-v2-options crc32c,unique-id"])
def test_clients_behind_haproxy_are_known_by_the_proxy_protocol(lab, certificates, send_proxy):
    gateway = behind_haproxy(lab, certificates, send_proxy)
    alice, _ = assert_clients_are_known_and_served(lab, gateway)
    # TLS ends in the gateway, so a header within is the client's own and no proxy's.
    forger = gateway.plain_client(alice.host, path=FORGED_PATH)
    assert forger.login(TOKENS["bob"])["success"]
    assert not any(FORGED in s["outer"] for s in gateway.status()["sessions"])


def test_clients_behind_haproxy_are_known_by_x_forwarded_for(lab, certificates):
    gateway = behind_haproxy(lab, certificates)
    alice, _ = assert_clients_are_known_and_served(lab, gateway, port=8443)
    forger = gateway.plain_client(alice.host, port=8443, path=FORGED_PATH)
    assert forger.login(TOKENS["bob"])["success"]
    assert not any(FORGED in s["outer"] for s in gateway.status()["sessions"])


def test_health_checks_of_haproxy_make_no_noise(lab, certificates):
    gateway = Gateway(lab.host("gateway"), certificates, logging={"level": "info"}, server={
        "listen_addr": "127.0.0.1:4443", "listen_http": "127.0.0.1:8080", "proxies": ["127.0.0.1"]}).start()
    haproxy = start_haproxy(gateway)
    mark = gateway.process.mark()
    with pytest.raises(AssertionError):  # it checks every two seconds
        wait_for(lambda: gateway.process.mark() != mark, 5)
    assert haproxy.running() and not haproxy.logged("DOWN")


def test_limits_of_an_address_count_clients_and_not_the_proxy(lab, certificates):
    gateway = behind_nginx(lab, certificates, "loopback", limits={"failed_logins": 3})
    if "limits" not in gateway.status():
        pytest.skip("no limits are counted yet")
    alice, bob = lab.host("alice"), lab.host("bob")
    blocked = False
    for _ in range(20):
        try:
            client = gateway.plain_client(alice)
        except ConnectionError as refusal:
            assert "429" in str(refusal) and "retry-after" in str(refusal).lower()
            blocked = True
            break
        client.login(TOKENS["wrong"])
    assert blocked, "nobody stopped alice"
    Client(bob, gateway, token="bob").start()
    assert gateway.status()["limits"]["login_blocked"] >= 1

    # The real client obeys, and says so.
    honest = Client(alice, gateway, token="alice").launch()
    honest.process.wait_for_log(r"Connection failed, retrying in \S+\".*answered 429.*it asks to be left alone for")
    honest.wait_connected(deadline=60)


def test_a_proxy_header_from_a_stranger_is_refused(lab, certificates):
    gateway = Gateway(lab.host("gateway"), certificates, server={"proxies": ["192.0.2.250"]}).start()
    alice = lab.host("alice")
    for header in (f"PROXY TCP4 {FORGED} 192.0.2.1 1 443\r\n".encode(),
                   b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c" + bytes(12)):
        with alice.entered():
            sock = socket.create_connection((gateway.host.ipv4, 443), 5)
        sock.sendall(header)
        assert sock.recv(4096) == b"", "not a word"
        sock.close()
    assert gateway.status()["limits"]["proxy_header"] == 2
    gateway.process.wait_for_log(rf"proxy refused.*not in server\.proxies.*add {re.escape(alice.ipv4)} there")
    forger = gateway.plain_client(alice, path=FORGED_PATH)
    assert forger.login(TOKENS["alice"])["success"]
    assert outer_of(gateway, "alice") == alice.ipv4, "X-Forwarded-For from a stranger counts as little"


def test_a_proxy_header_that_is_malformed_is_refused_and_counted(lab, certificates):
    gateway = Gateway(lab.host("gateway"), certificates, server={"proxies": ["192.0.2.0/24"]}).start()
    alice = lab.host("alice")
    with alice.entered():
        sock = socket.create_connection((gateway.host.ipv4, 443), 5)
    sock.sendall(b"PROXY TCP4 not an address\r\n")
    assert sock.recv(100) == b""
    sock.close()
    assert gateway.status()["limits"]["proxy_header"] == 1
    gateway.process.wait_for_log("malformed PROXY header")


def test_without_server_proxies_the_gateway_warns_and_sees_only_loopback(lab, certificates):
    gateway = Gateway(lab.host("gateway"), certificates, server={"listen_addr": [], "listen_http": "127.0.0.1:8080"}).start()
    assert gateway.process.logged(r"server\.proxies: \[127\.0\.0\.1\]"), "it says what to write"
    start_nginx(gateway, "127.0.0.1:8080")
    Client(lab.host("alice"), gateway).start()
    assert outer_of(gateway, "alice") == "127.0.0.1"


def test_the_file_of_a_unix_socket_is_private_made_anew_and_removed(lab, certificates):
    path = lab.directory / "http.sock"
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(path))
    stale.close()
    server = {"listen_addr": [], "listen_http": f"unix:{path}"}
    gateway = Gateway(lab.host("gateway"), certificates, server=server).start()
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o660

    other = Gateway(gateway.host, certificates, name="other", server=server)
    code, log = other.run_to_its_end()
    assert code != OK and "another process already serves" in log and "server.listen_http" in log

    assert gateway.stop() == OK
    assert not path.exists()
    nowhere = Gateway(gateway.host, certificates, name="nowhere", server={
        "listen_addr": [], "listen_http": f"unix:{lab.directory}/nowhere/http.sock"})
    code, log = nowhere.run_to_its_end()
    assert code != OK and f"there is no directory {lab.directory}/nowhere" in log


def test_nginx_opens_the_socket_by_its_group(lab, certificates):
    directory = lab.directory / "run"
    directory.mkdir()
    os.chown(directory, 65500, 65500)
    group = grp.getgrnam("www-data").gr_gid
    upstream = f"unix:{directory}/http.sock"
    gateway = Gateway(lab.host("gateway"), certificates, process={"user": "65500", "group": "65500"},
                      server={"listen_addr": [], "listen_http": upstream, "listen_http_group": "www-data"}, status_socket=f"{directory}/status.sock")
    gateway.status_socket = directory / "status.sock"
    gateway.start()
    file = os.stat(directory / "http.sock")
    assert (file.st_uid, file.st_gid, stat.S_IMODE(file.st_mode)) == (65500, group, 0o660)
    start_nginx(gateway, upstream, user="www-data")
    Client(lab.host("alice"), gateway).start()
    assert gateway.stop() == OK
    assert not (directory / "http.sock").exists(), "removed without root's power"


# ---- in front of clients ----

class Tinyproxy:
    def __init__(self, host, *lines):
        self.host, self.url = host, f"http://{host.ipv4}:3128"
        config = host.lab.directory / "tinyproxy.conf"
        config.write_text("\n".join(["Port 3128", "Timeout 600", "Allow 0.0.0.0/0", "Allow ::/0", "MaxClients 50", *lines, ""]))
        self.process = running(host.start("tinyproxy", "-d", "-c", config), host, 3128, "tinyproxy")

    def with_login(self, login):
        return self.url.replace("//", f"//{login}@")


def test_a_client_behind_a_proxy_with_a_password(lab, certificates):
    gateway = Gateway(lab.host("gateway"), certificates).start()
    proxy = Tinyproxy(lab.host("proxy"), "ConnectPort 443", "BasicAuth someone s3cr3t")
    alice_host = lab.host("alice")
    alice = Client(alice_host, gateway, server={"proxy": proxy.with_login("someone:s3cr%33t")}).start()
    assert outer_of(gateway, "alice") == proxy.host.ipv4
    status = alice.status()
    assert status["proxy"] == f"{proxy.host.ipv4}:3128" and status["outer"] == f"{proxy.host.ipv4}:3128"
    bob = Client(lab.host("bob"), gateway, token="bob").start()
    alice_host.wait_ping(inner_addresses(bob)[0])
    assert Stream(lab, alice_host, bob.host, inner_addresses(bob)[0]).transfer(16 << 20)

    # The proxy is gone for a while.
    before = alice.status()
    proxy.process.kill()
    alice.wait_status(lambda s: s["state"] == "waiting" and "the proxy" in s["last_error"], "misses the proxy")
    proxy = Tinyproxy(proxy.host, "ConnectPort 443", "BasicAuth someone s3cr3t")
    alice.wait_reconnected(before)
    assert "s3cr" not in alice.log(), "the password is in the log"


@pytest.mark.parametrize("login, lines, words", [
    ("", ["BasicAuth someone s3cr3t"], "wants a user and a password: write server.proxy as"),
    ("someone:wr0ng@", ["BasicAuth someone s3cr3t"], "refused the user and password of server.proxy"),
    ("", ["ConnectPort 563"], "answered 403"),
], ids=["no password", "wrong password", "port not allowed"])
def test_a_proxy_that_refuses_is_reported_in_words(lab, certificates, login, lines, words):
    gateway = Gateway(lab.host("gateway"), certificates).start()
    proxy = Tinyproxy(lab.host("proxy"), *lines)
    url = proxy.url.replace("//", f"//{login}")
    alice = Client(lab.host("alice"), gateway, server={"proxy": url}).launch()
    alice.wait_status(lambda s: words in s["last_error"], f"says {words!r}")
    assert "wr0ng" not in alice.log()


def test_the_environment_names_a_proxy_and_exceptions(lab, certificates):
    gateway = Gateway(lab.host("gateway"), certificates).start()
    proxy = Tinyproxy(lab.host("proxy"))
    alice, numbers = lab.host("alice"), itertools.count(1)

    def outer(*environment, **settings):
        client = Client(alice, gateway, name=f"alice{next(numbers)}", wrapper=["env", *environment], **settings).start()
        seen = outer_of(gateway, "alice")
        client.stop()
        return seen

    assert outer(f"https_proxy={proxy.url}") == proxy.host.ipv4
    assert outer(f"HTTPS_PROXY={proxy.host.ipv4}:3128") == proxy.host.ipv4
    assert outer(f"https_proxy={proxy.url}", "no_proxy=localhost,192.0.2.0/24") == alice.ipv4
    assert outer(f"https_proxy={proxy.url}", "NO_PROXY=*") == alice.ipv4
    assert outer(f"https_proxy={proxy.url}", server={"proxy": "none"}) == alice.ipv4
    wrong = Client(alice, gateway, name="wrong", wrapper=["env", "HTTPS_PROXY=socks5://u:s3cr3t@192.0.2.4:1080"])
    code, log = wrong.run_to_its_end()
    assert code == WRONG_CONFIG and "HTTPS_PROXY in the environment" in log and "server.proxy: none" in log
    assert "s3cr3t" not in log


class TestProxy:
    """A proxy that does to each connection what the next function of `script` says; the last one goes on for ever."""
    __test__ = False

    def __init__(self, host, script, names):
        self.host, self.script, self.names, self.asked = host, list(script), names, []
        with host.entered():
            self.listener = host.lab.closing(socket.create_server((host.ipv4, 3128)))
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            try:
                sock = self.listener.accept()[0]
            except OSError:
                return
            act = self.script.pop(0) if len(self.script) > 1 else self.script[0]
            threading.Thread(target=act, args=(self, sock), daemon=True).start()

    def read_request(self, sock):
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            chunk = sock.recv(1)
            if not chunk:
                return
            head += chunk
        self.asked.append(head.split()[1].decode())

    def silent(self, sock):
        self.read_request(sock)
        while sock.recv(100):
            pass

    def deaf(self, sock):
        sock.close()

    @staticmethod
    def says(answer, hang_up=True):
        def act(self, sock):
            self.read_request(sock)
            sock.sendall(answer)
            if hang_up:
                sock.close()
        return act

    def endless(self, sock):
        self.read_request(sock)
        try:
            sock.sendall(b"HTTP/1.1 200 OK\r\n")
            while True:
                sock.sendall(b"X-More: and more\r\n")
        except OSError:
            pass

    def good(self, sock):
        self.read_request(sock)
        name, _, port = self.asked[-1].rpartition(":")
        with self.host.entered():
            far = socket.create_connection((self.names[name], int(port)))
        sock.sendall(b"HTTP/1.1 200 Connection established\r\nVia: 1.1 test\r\n\r\n")
        threading.Thread(target=self._copy, args=(far, sock), daemon=True).start()
        self._copy(sock, far)

    @staticmethod
    def _copy(source, sink):
        try:
            while chunk := source.recv(65536):
                sink.sendall(chunk)
        except OSError:
            pass
        for sock in (source, sink):
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


def test_a_client_outlives_a_proxy_that_misbehaves(lab, certificates):
    gateway = Gateway(lab.host("gateway"), certificates).start()
    says = TestProxy.says
    proxy = TestProxy(lab.host("proxy"), [
        TestProxy.deaf, TestProxy.silent, TestProxy.endless,
        says(b"SSH-2.0-OpenSSH_9.2\r\n"), says(b"\0" * 9000), says(b"HTTP/1.1 200 OK\r\n"),
        says(b"HTTP/1.1 200 OK\r\n\r\n"), says(b"HTTP/1.1 200 OK\r\n\r\nand more"),
        says(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 5\r\n\r\nsorry", hang_up=False),
        says(b"HTTP/1.1 302 Found\r\nLocation: http://login.test/\r\n\r\n"), TestProxy.good,
    ], {"gateway.test": gateway.host.ipv4})
    # A name that only the proxy knows.
    alice = Client(lab.host("alice"), gateway, server={
        "url": "wss://gateway.test/", "proxy": f"http://{proxy.host.ipv4}:3128"}).launch()
    alice.wait_connected(deadline=40)
    assert set(proxy.asked) == {"gateway.test:443"}
    log = alice.log()
    for words in ("closed the connection without an answer", "did not answer CONNECT within 2s", "did not answer in HTTP",
                  "speaks out of turn", "answered 502", "answered 302"):
        assert words in log, words
    alice.host.wait_ping("10.100.0.1")
