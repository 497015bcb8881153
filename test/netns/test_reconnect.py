"""Links break and sessions stay: restarts, silent cuts, sudden deaths, new addresses.

      gateway 192.0.2.1 --+
        alice 192.0.2.2 --+--[ switch ]      inside: 10.100.0.0/24 and fd00:100::/64, the gateway's address first
          bob 192.0.2.3 --+        a cut: nftables in the switch drops what comes from and goes to one host

Timeouts are shortened by the config: a client calls a link dead after 2 s, the gateway after 3 s (30 s and 60 s else).
"""

import os
import re
import shutil
import signal

import pytest

from fake_gateway import FakeGateway
from lab import wait_for
from lan import Lan, Stream, inner_addresses
from plain import answering
from programs import OK, TOKENS, Client, Gateway

QUICK_GATEWAY = {"session": {"keepalive": "500ms", "link_timeout": "3s"}}
QUICK_CLIENT = {"reconnect": {"dead_after": "2s"}}


def quick_lan(lab, certificates, **settings):
    return Lan(lab, certificates, client_settings=QUICK_CLIENT, **{**QUICK_GATEWAY, **settings})


def detached(gateway, address):
    session = gateway.session(address)
    return session is not None and not session["attached"]


# --- the gateway goes away ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGKILL], ids=["stopped", "killed"])
def test_after_a_restart_of_the_gateway_all_are_back_with_the_same_addresses(lab, certificates, ending):
    lan = Lan(lab, certificates)
    alice, bob = lan
    before = [(client.status(), inner_addresses(client), client.host.index("VPN")) for client in lan]
    alice.host.wait_ping("10.100.0.3")
    lan.gateway.restart(ending)
    for client, (status, addresses, index) in zip(lan, before):
        client.wait_reconnected(status)
        assert inner_addresses(client) == addresses
        assert client.host.index("VPN") == index, "the interface was never taken down"
    for address in inner_addresses(bob):
        alice.host.wait_ping(address)
    for address in inner_addresses(alice):
        bob.host.wait_ping(address)
    assert lan.gateway.status()["totals"]["sessions_resumed"] >= 2


def test_addresses_survive_a_restart_in_which_the_clients_come_back_in_another_order(lab, certificates):
    lan = Lan(lab, certificates)
    alice, bob = lan
    before, bobs_before = alice.status(), bob.status()
    lan.gateway.kill()
    alice.process.signal(signal.SIGSTOP)
    lan.gateway.start()
    assert bob.wait_reconnected(bobs_before)["address"] == "10.100.0.3"
    alice.process.signal(signal.SIGCONT)
    assert alice.wait_reconnected(before)["address"] == "10.100.0.2"


def test_the_interface_stays_while_the_gateway_is_away(lab, certificates):
    lan = Lan(lab, certificates, members=("alice",))
    alice = lan.clients[0]
    index = alice.host.index("VPN")
    lan.gateway.kill()
    status = alice.wait_status(lambda s: s["state"] == "waiting" and s["reconnects"]["attempts"] > 3, "has tried again")
    assert status["last_error"] and status["outer"] is None
    assert alice.host.index("VPN") == index
    assert alice.host.addresses("VPN") == {"10.100.0.2", "fd00:100::2"}
    assert alice.host.routes()["10.100.0.0/24"] == "VPN"
    lan.gateway.start()
    alice.wait_connected()
    alice.host.wait_ping("10.100.0.1")


def test_a_tcp_connection_through_the_lan_survives_a_restart_of_the_gateway(lab, certificates):
    lan = Lan(lab, certificates)
    alice, bob = lan
    stream = Stream(lab, alice.host, bob.host, "10.100.0.3")
    assert stream.exchange()
    before = alice.status()
    lan.gateway.restart(signal.SIGKILL)
    assert stream.exchange()
    alice.wait_reconnected(before)


def test_the_wait_between_attempts_doubles_to_its_cap_and_starts_anew_after_a_success(lab, certificates):
    lan = Lan(lab, certificates, members=("alice",),
              client_settings={"reconnect": {"min_backoff": "100ms", "max_backoff": "400ms"}})
    alice = lan.clients[0]

    def waits_after(mark, count):
        """The first `count` logged waits, in seconds."""
        def logged():
            waits = re.findall(r"Connection failed, retrying in ([0-9.]+)s", alice.log()[mark:])
            return waits[:count] if len(waits) >= count else None

        return [float(seconds) for seconds in wait_for(logged, what=f"{count} attempts are logged")]

    def assert_doubling(waits):
        # Jitter takes up to a half of 0.1, 0.2, 0.4, 0.4, ... s, and the log rounds to tenths of a second.
        for wait, most in zip(waits, [0.1, 0.2, 0.4, 0.4, 0.4, 0.4]):
            assert most / 2 - 0.051 <= wait <= most + 0.051, waits

    mark = len(alice.log())
    lan.gateway.kill()
    assert_doubling(waits_after(mark, 6))
    alice.wait_status(lambda s: s["state"] == "waiting" and s["retry_in_seconds"] <= 0.4, "says when it tries again")
    before = alice.status()
    lan.gateway.start()
    alice.wait_reconnected(before)
    mark = len(alice.log())
    lan.gateway.kill()
    assert_doubling(waits_after(mark, 3))


def test_of_several_urls_one_that_answers_is_enough(lab, certificates):
    gateway = Gateway(lab.host("gateway"), certificates).start()
    nobody = lab.host("nobody")
    client = Client(lab.host("alice"), gateway, server={"url": None, "urls": [f"wss://{nobody.ipv4}/", gateway.url()]})
    client.start()
    assert client.status()["gateway"] == gateway.url()


def test_a_client_speaks_the_plain_protocol_to_a_plain_gateway(lab, certificates):
    fake = FakeGateway(lab, lab.host("gateway"), certificates)
    client = Client(lab.host("alice"), fake).launch()
    fake.accept()
    assert fake.receive()["token"] == TOKENS["alice"]
    welcome = {"type": "auth_response", "success": True, "assigned_ip": "10.100.0.9", "subnet": "10.100.0.0/24",
               "server_ip": "10.100.0.1", "mtu": 1400}
    fake.send(welcome)
    client.wait_connected()
    assert client.host.addresses("VPN") == {"10.100.0.9"} and client.host.mtu("VPN") == 1400
    fake.send({"type": "ping"})
    assert fake.receive() == {"type": "pong"}
    fake.sock.close()
    fake.accept()
    again = fake.receive()
    assert (again["type"], again["token"], again["previous_ip"]) == ("reconnect", TOKENS["alice"], "10.100.0.9")
    fake.send({**welcome, "assigned_ip": "10.100.0.10"})
    client.wait_status(lambda s: s["address"] == "10.100.0.10", "has the new address")
    assert client.host.addresses("VPN") == {"10.100.0.10"}
    assert client.stop() == OK


# --- the link goes away ---------------------------------------------------------------------------------------------


def test_a_silent_cut_is_noticed_at_both_ends_and_heals_with_everything_in_place(lab, certificates):
    lan = quick_lan(lab, certificates)
    alice, bob = lan
    stream = Stream(lab, alice.host, bob.host, "10.100.0.3")
    assert stream.exchange()
    before, bobs_before = alice.status(), bob.status()["reconnects"]
    lab.cut(alice.host)
    alice.wait_status(lambda s: s["state"] != "connected", "notices the cut", 6)
    wait_for(lambda: detached(lan.gateway, "10.100.0.2"), 8, "the gateway notices the cut")
    assert lan.gateway.session("10.100.0.3")["attached"], "bob is not concerned"
    assert lan.gateway.session("10.100.0.2")["outer"] is None
    alice.process.wait_for_log("connection lost")
    lan.gateway.process.wait_for_log("session detached")
    lab.heal(alice.host)
    assert alice.wait_reconnected(before)["address"] == "10.100.0.2"
    assert stream.exchange(), "the TCP connection inside has survived"
    bob.host.wait_ping("10.100.0.2")
    assert lan.gateway.status()["totals"]["links_lost"] >= 1
    assert bob.status()["reconnects"] == bobs_before


def test_a_cut_shorter_than_the_timeouts_costs_no_link(lab, certificates):
    lan = Lan(lab, certificates)
    alice = lan.clients[0]
    before = alice.status()["reconnects"]
    lab.cut(alice.host)
    assert not alice.host.ping("10.100.0.3", timeout=1)
    lab.heal(alice.host)
    alice.host.wait_ping("10.100.0.3")
    assert alice.status()["reconnects"] == before
    assert lan.gateway.status()["totals"]["links_lost"] == 0


@pytest.mark.skipif(not os.environ.get("PENSTOCK_DEEP"), reason="takes a minute: set PENSTOCK_DEEP=1 to run it")
def test_by_default_a_dead_link_is_noticed_within_30_s_by_the_client_and_60_s_by_the_gateway(lab, certificates):
    """The only test that waits for the real timeouts; both at once."""
    lan = Lan(lab, certificates)
    alice, bob = lan
    bobs_before = bob.status()["reconnects"]
    lab.cut(alice.host)
    alice.wait_status(lambda s: s["state"] != "connected", "notices the cut", 31)
    wait_for(lambda: detached(lan.gateway, "10.100.0.2"), 31, "the gateway notices the cut", every=0.2)
    assert bob.status()["reconnects"] == bobs_before


def test_a_client_that_moves_to_another_network_keeps_its_session(lab, certificates):
    lan = quick_lan(lab, certificates)
    alice, bob = lan
    stream = Stream(lab, bob.host, alice.host, "10.100.0.2")
    before = alice.status()
    alice.host.run("ip", "address", "delete", "192.0.2.2/24", "dev", "eth0")
    alice.host.run("ip", "address", "add", "192.0.2.200/24", "dev", "eth0")
    assert alice.wait_reconnected(before)["address"] == "10.100.0.2"
    assert stream.exchange()
    assert lan.gateway.session("10.100.0.2")["outer"].startswith("192.0.2.200:")


# --- the client goes away -------------------------------------------------------------------------------------------


def test_a_client_that_dies_suddenly_is_detached_and_finds_its_address_kept(lab, certificates):
    lan = quick_lan(lab, certificates)
    alice = lan.clients[0]
    alice.kill()
    wait_for(lambda: detached(lan.gateway, "10.100.0.2"), 8, "the session is detached")
    assert "VPN" not in alice.host.interfaces()
    stranger = lan.gateway.plain_client(lab.host("carol"))
    assert stranger.login(TOKENS["bob"])["assigned_ip"] == "10.100.0.4", "the address waits for its owner"
    alice.start()
    assert inner_addresses(alice) == ["10.100.0.2", "fd00:100::2"]
    alice.host.wait_ping("10.100.0.3")


def test_a_client_that_is_restarted_gets_its_address_back(lab, certificates):
    lan = Lan(lab, certificates)
    alice, bob = lan
    assert alice.stop() == 0
    wait_for(lambda: not (lan.gateway.session("10.100.0.2") or {}).get("attached"), what="the link is gone")
    alice.start()
    assert alice.status()["address"] == "10.100.0.2"
    bob.host.wait_ping("10.100.0.2")


def test_a_session_whose_grace_is_over_ends(lab, certificates):
    lan = Lan(lab, certificates, session={"grace": "1s"})
    alice = lan.clients[0]
    alice.kill()
    wait_for(lambda: lan.gateway.session("10.100.0.2") is None, 6, "the session has ended")
    lan.gateway.process.wait_for_log("session ended")
    alice.start()
    alice.host.wait_ping("10.100.0.3")


def test_packets_to_a_detached_session_are_counted(lab, certificates):
    lan = quick_lan(lab, certificates)
    alice, bob = lan
    alice.kill()
    wait_for(lambda: detached(lan.gateway, "10.100.0.2"), 8, "the session is detached")
    bob.host.ping("10.100.0.2")
    wait_for(lambda: lan.gateway.drops("session_detached") >= 1, what="the drop is counted")


# --- the address changes --------------------------------------------------------------------------------------------


def test_a_client_takes_over_another_subnet_when_the_gateways_config_changed(lab, certificates):
    lan = Lan(lab, certificates)
    alice, bob = lan
    before = alice.status()
    lan.gateway.stop()
    lan.gateway.write_config(vpn={"subnet": "10.200.0.0/24", "subnet6": "fd00:200::/64", "mtu": 1300})
    lan.gateway.start()
    for client in lan:
        client.wait_reconnected(before)
        v4, v6 = inner_addresses(client)
        assert v4.startswith("10.200.0.") and v6.startswith("fd00:200::")
        assert client.host.addresses("VPN") == {v4, v6}
        routes = client.host.routes()
        assert routes.get("10.200.0.0/24") == routes.get("fd00:200::/64") == "VPN"
        assert "10.100.0.0/24" not in routes and "fd00:100::/64" not in routes
        assert client.host.mtu("VPN") == 1300
    alice.host.wait_ping(inner_addresses(bob)[0])


def test_a_client_whose_address_was_given_away_takes_another(lab, certificates):
    """The gateway has lost its state, and somebody else was quicker."""
    lan = Lan(lab, certificates, members=("alice",))
    alice, gateway = lan.clients[0], lan.gateway
    before = alice.status()
    alice.process.signal(signal.SIGSTOP)
    gateway.stop()
    shutil.rmtree(gateway.state_dir)
    gateway.start()
    quicker = gateway.plain_client(lab.host("bob"))
    assert quicker.login(TOKENS["alice"])["assigned_ip"] == "10.100.0.2"
    with answering(quicker):
        alice.process.signal(signal.SIGCONT)
        status = alice.wait_reconnected(before)
    assert status["address"] == "10.100.0.3"
    assert alice.host.addresses("VPN") == {status["address"], status["address6"]}
    alice.host.wait_ping("10.100.0.1")


# --- the credential changes -----------------------------------------------------------------------------------------


def test_a_client_whose_token_is_gone_is_refused_and_goes_on_trying(lab, certificates):
    lan = Lan(lab, certificates)
    alice, bob = lan
    before, records = bob.status(), lan.gateway.settings["auth"]["tokens"]
    lan.gateway.stop()
    lan.gateway.write_config(auth={"tokens": records[1:]})
    lan.gateway.start()
    bob.wait_reconnected(before)
    alice.wait_status(lambda s: s["reconnects"]["attempts"] >= 3, "tries again and again")
    assert "token" in alice.status()["last_error"]
    lan.gateway.stop()
    lan.gateway.write_config(auth={"tokens": records})
    lan.gateway.start()
    alice.wait_connected()
