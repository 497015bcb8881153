"""Real clients on a virtual LAN: they reach each other and the gateway, whatever the network outside and the MTU.

      gateway 192.0.2.1 --+
        alice 192.0.2.2 --+--[ switch ]      inside: 10.100.0.0/24 and fd00:100::/64, the gateway's address first
          bob 192.0.2.3 --+
"""

import json

import pytest

from lab import NOBODY, wait_for
from lan import SUBNET6, Lan, Stream, inner_addresses
from programs import TOKENS, Client, Gateway, token_record, unprivileged_gateway


def assert_all_reach_each_other(lan, gateway_too=True):
    programs = [*lan, lan.gateway] if gateway_too else list(lan)
    for client in lan:
        for program in programs:
            if program is not client:
                for address in inner_addresses(program):
                    client.host.wait_ping(address)


@pytest.mark.parametrize("tun", ["on", "off"])
def test_clients_reach_each_other_and_the_gateway_over_ipv4_and_ipv6(lab, certificates, tun):
    lan = Lan(lab, certificates, vpn={"subnet6": SUBNET6, "tun": tun})
    assert [inner_addresses(client) for client in lan] == [["10.100.0.2", "fd00:100::2"], ["10.100.0.3", "fd00:100::3"]]
    assert inner_addresses(lan.gateway) == ["10.100.0.1", "fd00:100::1"]
    assert_all_reach_each_other(lan)


def test_the_interfaces_carry_the_addresses_routes_and_names_of_the_config(lab, certificates):
    lan = Lan(lab, certificates, vpn={"subnet6": SUBNET6, "interface_name": "lan0"},
              push={"routes": ["10.77.0.0/16", "fd00:77::/48"]},
              client_settings={"vpn": {"interface_name": "work", "routes": ["10.88.0.0/16"]}})
    alice, gateway = lan.clients[0].host, lan.gateway.host
    assert gateway.addresses("lan0") == {"10.100.0.1", "fd00:100::1"}
    assert alice.addresses("work") == {"10.100.0.2", "fd00:100::2"}
    assert (alice.mtu("work"), gateway.mtu("lan0")) == (1420, 1420)
    routes = alice.routes()
    for destination in ("10.100.0.0/24", SUBNET6, "10.77.0.0/16", "fd00:77::/48", "10.88.0.0/16"):
        assert routes.get(destination) == "work", destination
    assert routes["192.0.2.0/24"] == "eth0"
    status = lan.clients[0].status()
    assert (status["interface"], status["mtu"], status["subnet"]) == ("work", 1420, "10.100.0.0/24")


def test_without_subnet6_there_is_no_ipv6_inside(lab, certificates):
    lan = Lan(lab, certificates, vpn={})
    assert inner_addresses(lan.gateway) == ["10.100.0.1"]
    assert lan.clients[0].host.addresses("VPN") == {"10.100.0.2"}
    assert_all_reach_each_other(lan)


@pytest.mark.parametrize("family", [0, 1], ids=["ipv4", "ipv6"])
def test_iperf3_moves_bytes_between_clients(lab, certificates, family):
    lan = Lan(lab, certificates, client_settings={"logging": {"level": "info"}}, logging={"level": "info"})
    alice, bob = lan.clients
    address = inner_addresses(bob)[family]
    server = bob.host.start("iperf3", "-s", "-1", "-B", address, "--forceflush")
    server.wait_for_log("Server listening")
    report = json.loads(alice.host.run("iperf3", "-c", address, "-t", "2", "--json").stdout)
    assert report["end"]["sum_received"]["bytes"] > 10 << 20
    assert server.wait() == 0
    up, down = alice.status()["up"], bob.status()["down"]
    assert min(up["bytes"], down["bytes"]) > 10 << 20
    session = lan.gateway.session("10.100.0.2")
    assert session["up"]["bytes"] > 10 << 20 and session["up"]["packets"] > 0


@pytest.mark.parametrize("family", [0, 1], ids=["ipv4", "ipv6"])
def test_a_large_file_arrives_whole(lab, certificates, family):
    lan = Lan(lab, certificates, client_settings={"logging": {"level": "info"}}, logging={"level": "info"})
    alice, bob = lan.clients
    assert Stream(lab, alice.host, bob.host, inner_addresses(bob)[family]).transfer(64 << 20)
    assert Stream(lab, lan.gateway.host, alice.host, inner_addresses(alice)[family]).transfer(32 << 20)
    assert Stream(lab, bob.host, lan.gateway.host, inner_addresses(lan.gateway)[family]).transfer(32 << 20)


@pytest.mark.parametrize("loops", [1, 2])
def test_twelve_clients_at_once_all_reach_each_other(lab, certificates, loops):
    names = [f"client{n}" for n in range(12)]
    for name in names:
        TOKENS.setdefault(name, f"{name}-token-Zb3kQ9")
    gateway = Gateway(lab.host("gateway"), certificates, performance={"loops": loops}, vpn={"subnet6": SUBNET6},
                      auth={"tokens": [token_record(name) for name in names]}).start()
    clients = [Client(lab.host(name), gateway, name).launch() for name in names]
    addresses = [client.wait_connected()["address"] for client in clients]
    assert sorted(addresses, key=lambda a: int(a.split(".")[3])) == [f"10.100.0.{n}" for n in range(2, 14)]
    for client, neighbour in zip(clients, addresses[1:] + addresses[:1]):
        client.host.wait_ping(neighbour)
        assert client.host.ping("10.100.0.1")
    status = gateway.status()
    assert sum(s["attached"] for s in status["sessions"]) == 12
    assert {s["loop"] for s in status["sessions"]} == set(range(loops))


@pytest.mark.parametrize("at_gateway, at_client, expected", [
    (1280, 1420, 1280),
    (1500, 1500, 1500),
    (1420, 1300, 1300),
    (9000, 9000, 9000),
])
def test_an_mtu_of_the_config_is_honoured_at_both_ends(lab, certificates, at_gateway, at_client, expected):
    lan = Lan(lab, certificates, vpn={"mtu": at_gateway, "subnet6": SUBNET6},
              client_settings={"vpn": {"mtu": at_client}})
    alice, bob = (client.host for client in lan)
    assert lan.gateway.host.mtu("tun0") == at_gateway
    assert {alice.mtu("VPN"), bob.mtu("VPN")} == {expected}
    assert lan.clients[0].status()["mtu"] == expected
    alice.wait_ping("10.100.0.3")
    assert alice.ping("10.100.0.3", "-Mdo", f"-s{expected - 28}"), "a packet of just the MTU passes whole"
    assert alice.ping("fd00:100::3", "-Mdo", f"-s{expected - 48}")
    assert not alice.ping("10.100.0.3", "-Mdo", f"-s{expected - 27}"), "one byte more does not"
    assert alice.ping("10.100.0.3", f"-s{expected + 500}"), "but in fragments it does"
    assert Stream(lab, alice, bob, "10.100.0.3").transfer(4 << 20)


def test_ipv6_alone_outside_carries_both_families_inside(lab, certificates):
    lan = Lan(lab, certificates, ipv4=False)
    assert lan.clients[0].status()["outer"] == "[2001:db8:77::1]:443"
    assert_all_reach_each_other(lan)


def test_one_gateway_serves_both_families_outside(lab, certificates):
    lan = Lan(lab, certificates, members=("alice",), auth={"tokens": [token_record("alice"), token_record("bob")]})
    lan.outside_ipv6 = True
    lan.clients.append(lan.join("bob", lab.host("bob", ipv4=False)))
    assert_all_reach_each_other(lan)
    outer = {s["client"]: s["outer"] for s in lan.gateway.status()["sessions"]}
    assert outer["alice"].startswith("192.0.2.2:") and outer["bob"].startswith("[2001:db8:77::3]:")


@pytest.mark.parametrize("listen", ["192.0.2.1:443", "[2001:db8:77::1]:443", ["192.0.2.1:443", "[::]:8443"]],
                         ids=["ipv4", "ipv6", "list"])
def test_the_gateway_listens_where_it_is_told(lab, certificates, listen):
    gateway = Gateway(lab.host("gateway"), certificates, server={"listen_addr": listen}).start()
    Client(lab.host("alice"), gateway, ipv6="2001" in listen).start()
    expected = [listen] if isinstance(listen, str) else listen
    assert sorted(gateway.status()["listen"]) == sorted(expected)


def test_a_gateway_without_tun_needs_no_privilege_at_all(lab, certificates):
    """Nobody, without a single capability, on a port above 1023, with no interface of its own."""
    gateway = unprivileged_gateway(lab.host("gateway"), certificates, vpn={"tun": "off", "subnet6": SUBNET6},
                                   server={"listen_addr": ":8443"}).start()

    with open(f"/proc/{gateway.process.pid}/status") as status:
        fields = dict(line.split(":\t", 1) for line in status.read().splitlines())
    assert fields["Uid"].split() == [str(NOBODY)] * 4
    assert all(int(fields[f"Cap{kind}"], 16) == 0 for kind in ("Eff", "Prm", "Inh", "Bnd", "Amb"))

    clients = [Client(lab.host(name), gateway, name, server={"url": "wss://192.0.2.1:8443/"}).start()
               for name in ("alice", "bob")]
    for client in clients:
        for address in ("10.100.0.1", "10.100.0.2", "10.100.0.3", "fd00:100::1", "fd00:100::2", "fd00:100::3"):
            client.host.wait_ping(address)
    assert Stream(lab, clients[0].host, clients[1].host, "10.100.0.3").transfer(16 << 20)
    assert gateway.host.interfaces() == {"lo", "eth0"}
    assert gateway.status()["interface"] is None


def test_a_named_client_with_a_fixed_address_has_it(lab, certificates):
    lan = Lan(lab, certificates, auth={"tokens": [token_record("alice", address="10.100.0.77", address6="fd00:100::77"),
                                                  token_record("bob")]})
    assert inner_addresses(lan.clients[0]) == ["10.100.0.77", "fd00:100::77"]
    assert inner_addresses(lan.clients[1]) == ["10.100.0.2", "fd00:100::2"]
    assert_all_reach_each_other(lan)
    assert {s["client"] for s in lan.gateway.status()["sessions"]} == {"alice", "bob"}


def test_packets_to_addresses_without_a_session_are_counted(lab, certificates):
    lan = Lan(lab, certificates)
    lan.clients[0].host.ping("10.100.0.200")
    wait_for(lambda: lan.gateway.drops("no_session") >= 1, what="the drop is counted")
    assert_all_reach_each_other(lan)
