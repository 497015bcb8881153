"""Who reaches whom on an isolated LAN, and the subnet behind a client.

      gateway 192.0.2.1 --+
        alice 192.0.2.2 --+--[ switch ]      inside: 10.100.0.0/24 and fd00:100::/64, the gateway's address first
          bob 192.0.2.3 --+
        carol 192.0.2.4 --+

      bob --site0--[ 10.50.0.0/24, fd50::/64 ]--site0-- printer 10.50.0.9, fd50::9
"""

import contextlib
import json
import signal
import socket

import pytest

import packets
from lab import ip, wait_for
from lan import Lan, Stream
from plain import succeeded
from programs import TOKENS, token_record

GATEWAY, ALICE, BOB, CAROL = ("10.100.0.1", "10.100.0.2", "10.100.0.3", "10.100.0.4")
GATEWAY6, ALICE6, BOB6, CAROL6 = ("fd00:100::1", "fd00:100::2", "fd00:100::3", "fd00:100::4")
SITES = ["10.50.0.0/24", "fd50::/64"]
PRINTER, PRINTER6 = "10.50.0.9", "fd50::9"


class Trio(Lan):
    """Alice and carol, and bob with a printer behind him if there are sites."""

    def __init__(self, lab, certificates, allow=None, sites=(), groups=None, **settings):
        self.groups, self.sites = groups or {}, list(sites)
        rules = {} if allow is None else {"lan": {"isolate": True, "allow": allow}}
        super().__init__(lab, certificates, members=(), auth=self.auth(), **rules, **settings)
        self.alice, self.bob, self.carol = (self.add(name) for name in ("alice", "bob", "carol"))

    def add(self, name):
        host = self.lab.host(name)
        if name == "bob" and self.sites:
            self.printer = site_behind(host)
        self.clients.append(self.join(name, host))
        return self.clients[-1]

    def auth(self):
        records = {name: {"groups": self.groups.get(name, [])} for name in ("alice", "bob", "carol")}
        records["bob"]["sites"] = self.sites
        return {"tokens": [token_record(name, **more) for name, more in records.items()]}

    def reload(self, **changes):
        """As an operator does: edits the file and sends SIGHUP."""
        mark = self.gateway.process.mark()
        self.gateway.write_config(**changes)
        self.gateway.process.signal(signal.SIGHUP)
        self.gateway.process.wait_for_log("tokens loaded", after=mark)

    def allow(self, *rules):
        self.reload(lan={"isolate": True, "allow": list(rules)})


def site_behind(client):
    """A host with no way anywhere but through `client`, which forwards."""
    printer = client.lab.host("printer", ipv4=False, ipv6=False)
    ip("-n", client.namespace, "link", "add", "site0", "type", "veth", "peer", "name", "site0", "netns",
       printer.namespace)
    for host, number in ((client, 1), (printer, 9)):
        ip("-n", host.namespace, "address", "add", f"10.50.0.{number}/24", "dev", "site0")
        ip("-n", host.namespace, "address", "add", f"fd50::{number}/64", "dev", "site0", "nodad")
        ip("-n", host.namespace, "link", "set", "site0", "up")
    ip("-n", printer.namespace, "route", "add", "default", "via", "10.50.0.1")
    ip("-n", printer.namespace, "-6", "route", "add", "default", "via", "fd50::1")
    forward(client)
    return printer


def forward(host):
    host.run("sysctl", "-q", "-w", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")


def connects(lab, from_host, to_host, address, port):
    """Whether a TCP connection to a server that is there comes about, and carries bytes both ways."""
    with contextlib.ExitStack() as stack:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with to_host.entered():
            listener = stack.enter_context(socket.create_server((address, port), family=family))
        with from_host.entered():
            near = stack.enter_context(socket.socket(family))
        near.settimeout(1.5)
        try:
            near.connect((address, port))
        except TimeoutError:
            return False
        far = stack.enter_context(listener.accept()[0])
        far.settimeout(5)
        near.sendall(b"question")
        assert far.recv(100) == b"question"
        far.sendall(b"answer")
        return near.recv(100) == b"answer"


def test_on_an_isolated_lan_clients_reach_the_gateway_and_nobody_else(lab, certificates):
    lan = Trio(lab, certificates, allow=[])
    for client, others in ((lan.alice, (BOB, CAROL, BOB6)), (lan.bob, (ALICE, ALICE6)), (lan.carol, (ALICE, BOB6))):
        for address in (GATEWAY, GATEWAY6):
            client.host.wait_ping(address)
        for address in others:
            assert not client.host.ping(address), f"{client.name} reaches {address}"
    assert not connects(lab, lan.alice.host, lan.bob.host, BOB, 5201)
    for address in (ALICE, BOB6):
        lan.gateway.host.wait_ping(address)
    assert connects(lab, lan.gateway.host, lan.alice.host, ALICE, 22)
    assert connects(lab, lan.alice.host, lan.gateway.host, GATEWAY, 8022)
    assert lan.gateway.drops("access_denied") >= 8


@pytest.mark.parametrize("loops", [1, 2])
def test_a_rule_by_port_is_one_way_and_its_answers_come_back(lab, certificates, loops):
    lan = Trio(lab, certificates, allow=[{"from": "alice", "to": "bob", "ports": ["tcp 5201"]}],
               performance={"loops": loops})
    alice, bob = lan.alice.host, lan.bob.host
    for address in (BOB, BOB6):
        assert connects(lab, alice, bob, address, 5201)
        assert not connects(lab, alice, bob, address, 5202)
        assert not alice.ping(address)
    for address in (ALICE, ALICE6):
        assert not connects(lab, bob, alice, address, 5201)
    assert not connects(lab, lan.carol.host, bob, BOB, 5201)
    assert not connects(lab, alice, lan.carol.host, CAROL, 5201)
    assert Stream(lab, alice, bob, BOB, port=5201).transfer(8 << 20)


def test_the_other_end_may_send_as_much_as_it_likes_in_answer(lab, certificates):
    lan = Trio(lab, certificates, allow=[{"from": "alice", "to": "bob", "ports": ["tcp 5201"]}],
               logging={"level": "info"}, client_settings={"logging": {"level": "info"}})
    server = lan.bob.host.start("iperf3", "-s", "-1", "-B", BOB, "--forceflush")
    server.wait_for_log("Server listening")
    report = json.loads(lan.alice.host.run("iperf3", "-c", BOB, "-R", "-t", "2", "--json").stdout)
    assert report["end"]["sum_received"]["bytes"] > 10 << 20
    assert server.wait() == 0


def test_rules_by_group_by_prefix_and_for_ping(lab, certificates):
    lan = Trio(lab, certificates, groups={"alice": ["staff"], "carol": ["staff"], "bob": ["servers"]},
               allow=[{"from": "staff", "to": "servers"}])
    for host in (lan.alice.host, lan.carol.host):
        assert host.ping(BOB) and host.ping(BOB6), "and the echo reply is an answer"
    assert not lan.alice.host.ping(CAROL)
    assert not lan.bob.host.ping(ALICE)
    assert lan.alice.host.ping(BOB, "-s", "4000"), "fragments of both follow their first"

    lan.allow({"from": "10.100.0.4/32", "to": "10.100.0.2/31"})
    assert lan.carol.host.ping(ALICE) and lan.carol.host.ping(BOB)
    assert not lan.carol.host.ping(ALICE6), "a prefix is of one family"
    assert not lan.alice.host.ping(CAROL)
    assert not lan.alice.host.ping(BOB)


def test_a_fragmented_datagram_passes_by_the_port_of_its_first_fragment(lab, certificates):
    lan = Trio(lab, certificates, allow=[{"from": "alice", "to": "bob", "ports": ["udp 7000"]}])
    for address, port, passes in ((BOB, 7000, True), (BOB6, 7000, True), (BOB, 7001, False)):
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with contextlib.ExitStack() as stack:
            with lan.bob.host.entered():
                server = stack.enter_context(socket.socket(family, socket.SOCK_DGRAM))
                server.bind((address, port))
                server.settimeout(5 if passes else 1)
            with lan.alice.host.entered():
                client = stack.enter_context(socket.socket(family, socket.SOCK_DGRAM))
                client.settimeout(5)
            client.sendto(b"q" * 5000, (address, port))
            if not passes:
                with pytest.raises(TimeoutError):
                    server.recvfrom(9000)
                continue
            data, sender = server.recvfrom(9000)
            assert len(data) == 5000
            server.sendto(b"a" * 6000, sender)
            assert len(client.recv(9000)) == 6000


def test_icmp_errors_about_an_allowed_conversation_come_back(lab, certificates):
    lan = Trio(lab, certificates, allow=[{"from": "alice", "to": "bob", "ports": ["udp 7000"]}])
    with lan.alice.host.entered(), contextlib.closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as client:
        client.settimeout(5)
        client.connect((BOB, 7000))
        client.send(b"is anybody there?")
        with pytest.raises(ConnectionRefusedError):
            client.recv(100)


def test_new_rules_apply_at_once_to_who_is_connected(lab, certificates):
    lan = Trio(lab, certificates, allow=[])
    alice, bob = lan.alice.host, lan.bob.host
    before = lan.alice.status()
    assert not alice.ping(BOB)
    lan.allow({"from": "alice", "to": "bob"})
    wait_for(lambda: alice.ping(BOB), what="the new rule")
    stream = Stream(lab, alice, bob, BOB)
    assert stream.exchange()

    lan.allow({"from": "carol", "to": "bob"})
    wait_for(lambda: not alice.ping(BOB), what="the rule is gone")
    assert lan.carol.host.ping(BOB)
    stream.near.sendall(b"into the void")
    stream.far.sendall(b"and back")
    for end in (stream.near, stream.far):
        end.settimeout(1)
        with pytest.raises(TimeoutError):
            end.recv(100)

    lan.reload(lan={"isolate": False, "allow": None})
    wait_for(lambda: bob.ping(ALICE), what="everybody reaches everybody")
    stream.near.settimeout(10)
    assert stream.near.recv(100) == b"and back", "the connection itself had only been waiting"
    assert lan.alice.status()["reconnects"] == before["reconnects"]


def test_a_subnet_behind_a_client_is_reached_by_the_others_and_reaches_them(lab, certificates):
    lan = Trio(lab, certificates, sites=SITES)
    alice, printer = lan.alice.host, lan.printer
    assert {alice.routes().get(site) for site in SITES} == {"VPN"}
    assert {lan.bob.host.routes().get(site) for site in SITES} == {"site0"}
    for address in (PRINTER, PRINTER6):
        alice.wait_ping(address)
        lan.carol.host.wait_ping(address)
        lan.gateway.host.wait_ping(address)
    for address in (ALICE, ALICE6, CAROL, GATEWAY, GATEWAY6):
        printer.wait_ping(address)
    for address in (PRINTER, PRINTER6):
        assert Stream(lab, alice, printer, address).transfer(4 << 20)
    assert Stream(lab, printer, alice, ALICE).transfer(4 << 20)
    assert not lan.bob.process.logged("does not forward")


def test_a_source_outside_the_site_is_dropped(lab, certificates):
    lan = Trio(lab, certificates, sites=SITES)
    lan.printer.wait_ping(ALICE)
    for address in ("10.51.0.9/24", "fd51::9/64"):
        ip("-n", lan.printer.namespace, "address", "add", address, "dev", "site0",
           *(["nodad"] if ":" in address else []))
    assert not lan.printer.ping(ALICE, "-I", "10.51.0.9")
    assert not lan.printer.ping(ALICE6, "-I", "fd51::9")
    assert lan.gateway.drops("spoofed_source") >= 2
    # And nobody else may speak for the site.
    ip("-n", lan.alice.host.namespace, "address", "add", "10.50.0.77/32", "dev", "lo")
    before = lan.gateway.drops("spoofed_source")
    assert not lan.alice.host.ping(CAROL, "-I", "10.50.0.77")
    assert lan.gateway.drops("spoofed_source") > before


def test_while_its_client_is_away_a_site_leads_nowhere(lab, certificates):
    lan = Trio(lab, certificates, sites=SITES, session={"grace": "1s"})
    alice = lan.alice.host
    alice.wait_ping(PRINTER)
    lan.bob.stop()
    wait_for(lambda: len(lan.gateway.status()["sessions"]) == 2, what="the session is over")
    before = lan.gateway.drops("no_session")
    assert not alice.ping(PRINTER) and not alice.ping(PRINTER6)
    assert lan.gateway.drops("no_session") >= before + 2, "and not out by the gateway's default route"
    lan.bob.start()
    for address in (PRINTER, PRINTER6):
        alice.wait_ping(address)


def test_sites_that_change_reach_connected_clients_at_once(lab, certificates):
    lan = Trio(lab, certificates, sites=SITES)
    alice, before = lan.alice.host, lan.alice.status()
    alice.wait_ping(PRINTER)
    lan.sites = ["10.50.0.8/29"]
    lan.reload(auth=lan.auth())
    wait_for(lambda: alice.routes().get("10.50.0.8/29") == "VPN", what="the new route")
    assert not set(SITES) & set(alice.routes())
    alice.wait_ping(PRINTER)
    lan.sites = []
    lan.reload(auth=lan.auth())
    wait_for(lambda: "10.50.0.8/29" not in alice.routes(), what="no route any more")
    assert not alice.ping(PRINTER)
    assert lan.alice.status()["reconnects"] == before["reconnects"]


def test_on_an_isolated_lan_a_site_is_its_owner(lab, certificates):
    lan = Trio(lab, certificates, sites=SITES, allow=[{"from": "alice", "to": "bob", "ports": [80]},
                                                      {"from": "carol", "to": "10.50.0.0/24"}])
    alice, carol = lan.alice.host, lan.carol.host
    for address in (PRINTER, PRINTER6):
        assert connects(lab, alice, lan.printer, address, 80)
        assert not connects(lab, alice, lan.printer, address, 81)
    assert carol.ping(PRINTER)
    assert not carol.ping(BOB)
    assert not carol.ping(PRINTER6)
    assert not lan.printer.ping(CAROL)
    lan.printer.wait_ping(GATEWAY)


def test_a_client_that_does_not_forward_says_so_once(lab, certificates):
    lan = Lan(lab, certificates, members=("alice",), auth={"tokens": [token_record("alice", sites=SITES)]})
    alice = lan.clients[0]
    remedy = alice.process.wait_for_log(r"does not forward.*net\.ipv4\.ip_forward=1")
    before = alice.status()
    lan.gateway.restart()
    alice.wait_reconnected(before)
    assert alice.log().count("does not forward") == 1, remedy


def test_a_client_that_stands_in_the_network_itself_keeps_its_own_way(lab, certificates):
    lan = Lan(lab, certificates, auth={"tokens": [token_record("alice"), token_record("bob", sites=["10.50.0.0/24"])]},
              members=())
    host = lab.host("alice")
    site_behind(host)
    alice = lan.join("alice", host)
    alice.process.wait_for_log("stands in that network itself")
    assert host.routes()["10.50.0.0/24"] == "site0"
    host.wait_ping(GATEWAY)


def test_a_gateway_that_stands_in_a_sites_network_keeps_its_own_way_and_says_so(lab, certificates):
    lan = Trio(lab, certificates, sites=SITES)
    alice, gateway = lan.alice.host, lan.gateway.host
    for address in (PRINTER, PRINTER6):
        gateway.wait_ping(address)
    ip("-n", gateway.namespace, "link", "add", "office0", "type", "veth", "peer", "office1")
    ip("-n", gateway.namespace, "address", "add", "10.50.0.65/26", "dev", "office0")
    ip("-n", gateway.namespace, "link", "set", "office0", "up")
    lan.reload(auth=lan.auth())
    lan.gateway.process.wait_for_log(r"keeps its own way there.*bob.*10\.50\.0\.0/24.*10\.50\.0\.64/26.*office0")
    wait_for(lambda: "10.50.0.0/24" not in gateway.routes(), what="no route to the site any more")
    assert gateway.routes()["10.50.0.64/26"] == "office0"
    assert not gateway.ping(PRINTER)
    gateway.wait_ping(PRINTER6)
    assert lan.gateway.log().count("keeps its own way there") == 1, "the other site is nobody's but bob's"
    for address in (PRINTER, PRINTER6):
        alice.wait_ping(address)


def test_a_plain_client_is_told_nothing_of_sites_but_reaches_them(lab, certificates):
    lan = Trio(lab, certificates, sites=SITES)
    plain = lan.gateway.plain_client(lab.host("dave"))
    answer = succeeded(plain.login(TOKENS["carol"]))
    assert not {"routes", "sites"} & set(answer)
    plain.send_packet(packets.echo_request(answer["assigned_ip"], PRINTER))
    assert packets.parse(plain.receive_packet()).source == PRINTER
