"""docs/PROTOCOL.md is enough: a client written from that page alone (test/v1client) logs in, comes back, is answered.

      alice 192.0.2.2 --+
        bob 192.0.2.3 --+--[ switch ]--+-- gateway 192.0.2.1:443      inner 10.100.0.1/24
      carol 192.0.2.4 --+
"""

import time

import pytest

import packets
from lab import wait_for
from penstock_v1 import BINARY, PING, TEXT, Closed
from plain import GATEWAY, answering, close_code, echo, refused, succeeded
from programs import TOKENS, token_record


# --- logging in -----------------------------------------------------------------------------------------------------


def test_a_plain_client_logs_in_and_learns_its_network(place):
    place.gateway()
    answer = succeeded(place.client().login(TOKENS["alice"]))
    assert answer["assigned_ip"] == "10.100.0.2"
    assert answer["subnet"] == "10.100.0.0/24"
    assert answer["server_ip"] == GATEWAY
    assert answer["mtu"] == 1420


def test_addresses_are_given_in_order(place):
    place.gateway()
    addresses = [place.member(name).address for name in ("alice", "bob", "alice")]
    assert addresses == ["10.100.0.2", "10.100.0.3", "10.100.0.4"]


def test_a_second_login_while_the_first_lives_gets_another_address(place):
    gateway = place.gateway()
    first = place.member("alice")
    second = place.member("alice")
    assert (first.address, second.address) == ("10.100.0.2", "10.100.0.3")
    echo(first, GATEWAY), echo(second, GATEWAY)
    assert {s["address"] for s in gateway.status()["sessions"] if s["attached"]} == {"10.100.0.2", "10.100.0.3"}


def test_a_wrong_token_is_refused_in_words_and_closed(place):
    gateway = place.gateway()
    client = place.client()
    assert refused(client.login(TOKENS["wrong"])) == "invalid token"
    assert close_code(client) == 1008
    assert gateway.status()["totals"]["logins_refused"] == 1
    gateway.process.wait_for_log(r"login refused.*192\.0\.2\.2")


@pytest.mark.parametrize("message", [
    {"type": "auth"},
    {"type": "auth", "token": 17},
    {"type": "auth", "token": ""},
    {"type": "auth", "token": None},
    {"type": "reconnect", "previous_ip": "10.100.0.2"},
], ids=["none", "number", "empty", "null", "reconnect"])
def test_a_login_without_a_usable_token_lets_nobody_in(place, message):
    gateway = place.gateway()
    client = place.client()
    client.send_json(message)
    assert not client.receive_json().get("success")
    assert gateway.status()["sessions"] == []


def test_unknown_fields_are_ignored(place):
    place.gateway()
    answer = place.client().login(TOKENS["alice"], flavour={"deep": [1, None, "ä"]}, success=False, previous="x")
    assert succeeded(answer)["assigned_ip"] == "10.100.0.2"


def test_a_full_pool_refuses_with_a_clear_reason(place):
    gateway = place.gateway(vpn={"subnet": "10.100.0.0/29"})
    members = [place.member("alice") for _ in range(5)]
    assert [member.address for member in members] == [f"10.100.0.{n}" for n in range(2, 7)]
    sixth = place.client()
    error = refused(sixth.login(TOKENS["bob"]))
    assert "address" in error and "10.100.0.0/29" in error
    close_code(sixth)
    gateway.process.wait_for_log(r"login refused")
    for member in members:
        echo(member, GATEWAY)


def test_a_full_pool_takes_the_address_of_the_oldest_detached_session(place):
    gateway = place.gateway(vpn={"subnet": "10.100.0.0/29"})
    members = [place.member("alice") for _ in range(5)]
    for gone in (members[2], members[0]):
        gone.sock.close()
        wait_for(lambda: not gateway.session(gone.address)["attached"], what=f"{gone.address} is detached")
    assert place.member("bob").address == members[2].address


def test_a_fixed_address_goes_with_its_token_and_the_newer_login_wins(place):
    gateway = place.gateway(auth={"tokens": [token_record("alice", address="10.100.0.50"), token_record("bob")]})
    older = place.member("alice")
    newer = place.member("alice")
    assert (older.address, newer.address) == ("10.100.0.50", "10.100.0.50")
    close_code(older)
    echo(newer, GATEWAY)
    assert [s["address"] for s in gateway.status()["sessions"]] == ["10.100.0.50"]
    assert place.member("bob").address == "10.100.0.2"


def test_of_a_single_token_the_newer_login_wins(place):
    gateway = place.gateway(auth={"tokens": [token_record("alice", single=True)]})
    older = place.member("alice")
    newer = place.member("alice")
    close_code(older)
    echo(newer, GATEWAY)
    assert [s["attached"] for s in gateway.status()["sessions"]] == [True]


def test_a_plain_client_is_not_bothered_with_ipv6(place):
    place.gateway(vpn={"subnet6": "fd00:100::/64"})
    answer = succeeded(place.client().login(TOKENS["alice"]))
    assert answer["assigned_ip"] == "10.100.0.2" and answer["subnet"] == "10.100.0.0/24"
    assert answer.get("assigned_ip6", "fd00:100::2").startswith("fd00:100::")


# --- coming back ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("leave", [lambda client: client.close(), lambda client: client.sock.close()],
                         ids=["after-goodbye", "after-silence"])
def test_a_reconnecting_client_gets_its_address_back(place, leave):
    gateway = place.gateway()
    first, other = place.member("alice"), place.member("bob")
    leave(first)
    wait_for(lambda: not (gateway.session("10.100.0.2") or {}).get("attached"), what="the link is gone")
    again = place.client()
    assert succeeded(again.reconnect(TOKENS["alice"], "10.100.0.2"))["assigned_ip"] == "10.100.0.2"
    again.address = "10.100.0.2"
    echo(again, GATEWAY)
    assert other.address == "10.100.0.3"


def test_a_reconnect_after_a_restart_of_the_gateway_gets_the_address_back(place):
    gateway = place.gateway()
    place.member("alice"), place.member("bob")
    gateway.restart()
    again = place.client()
    assert succeeded(again.reconnect(TOKENS["bob"], "10.100.0.3"))["assigned_ip"] == "10.100.0.3"


def test_an_old_link_that_still_answers_keeps_its_address(place):
    place.gateway()
    old = place.member("alice")
    with answering(old):
        assert succeeded(place.client().reconnect(TOKENS["alice"], old.address))["assigned_ip"] == "10.100.0.3"
    echo(old, GATEWAY)


def test_an_old_link_that_is_silent_gives_its_address_up_after_two_seconds(place):
    place.gateway()
    old = place.member("alice")
    new, begin = place.client(), time.monotonic()
    answer = succeeded(new.reconnect(TOKENS["alice"], old.address))
    assert answer["assigned_ip"] == old.address
    assert 1.0 < time.monotonic() - begin < 4.5
    new.address = old.address
    echo(new, GATEWAY)
    close_code(old)


def test_nobody_gets_an_address_of_another_token(place):
    gateway = place.gateway()
    alice = place.member("alice")
    alice.sock.close()
    wait_for(lambda: not gateway.session(alice.address)["attached"], what="alice is detached")
    assert succeeded(place.client().reconnect(TOKENS["bob"], alice.address))["assigned_ip"] == "10.100.0.3"


@pytest.mark.parametrize("previous", ["10.100.0.1", "10.100.0.0", "10.100.0.255", "10.99.0.2", "fd00::2", ""])
def test_a_previous_address_that_cannot_be_is_answered_with_the_next_free_one(place, previous):
    place.gateway()
    assert succeeded(place.client().reconnect(TOKENS["alice"], previous))["assigned_ip"] == "10.100.0.2"


# --- control messages -----------------------------------------------------------------------------------------------


def test_json_pings_are_answered(place):
    place.gateway()
    member = place.member()
    for _ in range(3):
        member.send_json({"type": "ping", "unknown": 1})
        assert member.receive_json() == {"type": "pong"}


def test_websocket_pings_are_answered_with_their_payload(place):
    place.gateway()
    member = place.member()
    for payload in (b"", b"are you there?", bytes(range(125))):
        member.send_frame(PING, payload)
        assert member.receive_pong() == payload


def test_a_message_in_fragments_with_a_ping_between_is_whole(place):
    place.gateway()
    member = place.member()
    member.send_frame(TEXT, b'{"ty', final=False)
    member.send_frame(PING, b"between")
    member.send_frame(0, b'pe":"pi', final=False)
    member.send_frame(0, b'ng"}')
    assert member.receive_pong() == b"between"
    assert member.receive_json() == {"type": "pong"}
    packet = packets.echo_request(member.address, GATEWAY)
    member.send_frame(BINARY, packet[:10], final=False)
    member.send_frame(0, packet[10:])
    assert packets.parse(member.receive_packet()).source == GATEWAY


def test_an_unknown_type_is_answered_with_an_error(place):
    place.gateway()
    member = place.member()
    member.send_json({"type": "dance"})
    answer = member.receive_json()
    assert answer["type"] == "error" and answer["error"]
    echo(member, GATEWAY)


def test_an_error_is_never_answered(place):
    place.gateway()
    member = place.member()
    member.send_json({"type": "error", "error": "something"})
    member.send_json({"type": "ping"})
    assert member.receive_json() == {"type": "pong"}


def test_a_gateway_that_shuts_down_closes_with_1001_and_sends_plain_clients_nothing_else(place):
    gateway = place.gateway()
    member = place.member()
    assert gateway.stop() == 0
    with pytest.raises(Closed) as closed:
        member.receive_json()
    assert closed.value.code == 1001
