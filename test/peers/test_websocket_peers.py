"""Our WebSocket against other people's: Python's websockets and Node's `ws`, each as client and as server.

      websockets | ws  <--- loopback TCP, no TLS --->  websocket_peer (transport::Channel), which echoes

Run: ctest -R peers, or WEBSOCKET_PEER=build/test/websocket_peer /usr/bin/python3 -m pytest test/peers
"""

import pathlib
import random
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

from puppet import Pair  # noqa: E402

SIZES = [0, 1, 2, 124, 125, 126, 127, 128, 1000, 65534, 65535, 65536, 65537, 200_000, 1 << 20]
CHARACTERS = ["a", "\u00e9", "\u20ac", "\U0001f600"]  # one to four bytes


@pytest.fixture(params=["websockets", "ws"])
def library(request):
    return request.param


@pytest.fixture(params=["server", "client"])
def pair(request, library):
    """The library in the named role, connected with ours in the other."""
    pair = Pair(library, request.param)
    try:
        yield pair
    finally:
        pair.close()


def text_of(size):
    """`size` bytes of text, characters of every width."""
    text = "".join(CHARACTERS) * (size // 10)
    return text.encode() + b"." * (size % 10)


def echoes(pair, kind, payload):
    pair.do(kind, payload)
    assert pair.event() == (kind, payload)


def test_the_handshake_chooses_nothing_that_was_only_offered(pair):
    assert pair.opened == {"event": "open", "extensions": "", "protocol": ""}
    echoes(pair, "text", b"a" * 5000)  # which permessage-deflate would have compressed


def test_messages_of_every_length_class_come_back(pair):
    for size in SIZES:
        echoes(pair, "text", text_of(size))
        echoes(pair, "binary", random.Random(size).randbytes(size))


def test_many_messages_under_way_at_once_come_back_in_order(pair):
    dice = random.Random(1)
    sent = [dice.randbytes(dice.choice([0, 10, 130, 1400, 70_000])) for _ in range(300)]
    for payload in sent:
        pair.do("binary", payload)
    for payload in sent:
        assert pair.event() == ("binary", payload)


def test_fragments_come_back_as_one_message(pair):
    for count in [2, 3, 50]:
        dice = random.Random(count)
        parts = [dice.randbytes(dice.choice([0, 1, 125, 126, 5000])) for _ in range(count)]
        pair.do("fragments", parts=parts, binary=True, ping=False)
        assert pair.event() == ("binary", b"".join(parts))
        parts = [text_of(dice.choice([0, 10, 130, 70_000])) for _ in range(count)]
        pair.do("fragments", parts=parts, binary=False, ping=False)
        assert pair.event() == ("text", b"".join(parts))


def test_pings_between_fragments_disturb_nothing(pair):
    parts = [b"one ", b"two ", b"", b"three"]
    pair.do("fragments", parts=parts, binary=False, ping=True)
    events = [pair.event()]
    while events[-1][0] == "pong":  # `ws` tells of each pong, websockets of those that were waited for
        events.append(pair.event())
    assert events[-1] == ("text", b"one two three")
    assert events[:-1] in ([], [("pong", b"between %d" % number) for number in (1, 2, 3)])
    echoes(pair, "text", b"and on")


def test_text_comes_back_though_characters_are_cut_by_fragments(pair, library):
    if library == "websockets":
        pytest.skip("websockets cuts text between characters only")
    text = text_of(100)
    pair.do("fragments", parts=[text[i:i + 1] for i in range(len(text))], binary=False, ping=False)
    assert pair.event() == ("text", text)


def test_their_ping_gets_our_pong(pair):
    for payload in [b"", b"x", b"payload", bytes(range(125))]:
        pair.do("ping", payload)
        assert pair.event() == ("pong", payload)


def test_our_ping_gets_their_pong(pair):
    for payload in [b"", b"x", text_of(119)]:
        pair.do("text", b"!ping " + payload)
        assert pair.event() == ("text", b"!pong " + payload)


@pytest.mark.parametrize("code, reason", [(1000, ""), (1001, "going"), (1011, "broken"), (3000, "registered"),
                                          (4999, "\u20ac " * 30)])
def test_their_close_is_heard_and_echoed(pair, code, reason):
    echoes(pair, "text", b"before")
    pair.do("close", reason.encode(), code=code)
    kind, heard, _ = pair.event()
    assert (kind, heard) == ("closed", code)
    assert pair.our_ending().rstrip() == f"closed {code} {reason}".rstrip()


def test_a_close_without_a_code_is_answered_with_a_normal_one(pair, library):
    if library == "websockets":
        pytest.skip("websockets always sends a code")
    pair.do("close", code=0)
    assert pair.event()[:2] == ("closed", 1000)
    assert pair.our_ending().rstrip() == "closed 1005"


@pytest.mark.parametrize("code, reason", [(1000, ""), (1001, "going"), (1002, "broken"), (1007, "no text"),
                                          (1009, "too big"), (1013, "later"), (4000, "x" * 123)])
def test_our_close_is_heard_and_echoed(pair, code, reason):
    echoes(pair, "text", b"before")
    pair.do("text", f"!close {code} {reason}".encode())
    assert pair.event() == ("closed", code, reason)
    assert pair.our_ending().rstrip() == f"closing {code} {reason}".rstrip()


def test_what_they_send_before_their_close_is_heard(pair):
    for number in range(20):
        pair.do("text", b"%d" % number)
    pair.do("close", b"done", code=1000)
    heard = [pair.event() for _ in range(20)]
    assert heard == [("text", b"%d" % number) for number in range(20)]
    assert pair.event()[:2] == ("closed", 1000)


def test_a_peer_that_vanishes_is_noticed(pair):
    echoes(pair, "text", b"before")
    pair.do("vanish")
    assert pair.our_ending() == "lost"


# RFC 6455 section 4.2.2 lets a server leave the subprotocol out; section 4.1 lets a client go on without one. `ws` does not.
def test_a_subprotocol_that_is_offered_is_not_chosen(library):
    pair = Pair(library, "client", subprotocol="chat")
    try:
        if library == "ws":
            assert pair.opened == {"event": "error", "message": "Server sent no subprotocol"}
            return
        assert pair.opened["protocol"] == ""
        echoes(pair, "text", b"without one")
    finally:
        pair.close()
