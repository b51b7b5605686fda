"""Containers and arrays by value from a peer that lies about them."""

from __future__ import annotations

import sys
import time
from typing import Any

import pytest

from gateway.errors import BadRequest, LimitExceeded, ProtocolError
from gateway.limits import Limits
from gateway.protocol import copies
from gateway.protocol.netref import Netref
from tests.hardening.hostile import COPY, EXCEPTION, REPLY, Hostile, boxes, by_value, theirs, value
from tests.hardening.siege import Siege

PING = 1
COLLIDING = tuple(number * (2**61 - 1) for number in range(1, 1025))


def copy(kind: str, data: Any) -> tuple[int, Any]:
    return (COPY, (kind, data))


BUILTIN_LIST = theirs(5, name="builtins.list")
"""A proxy of a class that needs no INSPECT: whoever iterates or hashes it asks the peer at once."""

LIES: dict[str, Any] = {
    "a proxy as a key": copy("dict", boxes(boxes(BUILTIN_LIST, value(1)))),
    "a proxy in place of a pair": copy("dict", boxes(BUILTIN_LIST, BUILTIN_LIST)),
    "a proxy in a set": copy("set", boxes(BUILTIN_LIST)),
    "a proxy in place of a list": copy("list", BUILTIN_LIST),
    "a proxy in place of a set": copy("set", BUILTIN_LIST),
    "a proxy in place of an array": copy("ndarray", BUILTIN_LIST),
    "a proxy in place of a scalar": copy("scalar", BUILTIN_LIST),
    "a list as a key": copy("dict", boxes(boxes(copy("list", value((1,))), value(1)))),
    "a pair of three": copy("dict", value(((1, 2, 3),))),
    "text in place of items": copy("list", value("abc")),
    "colliding keys": copy("dict", value(tuple((key, 1) for key in COLLIDING))),
    "colliding members": copy("set", value(COLLIDING)),
    "too many members": copy("set", value(tuple(range(1025)))),
    "an unknown kind": copy("object", value(())),
    "an array of objects": copy("ndarray", value(("|O8", (1,), bytes(8)))),
    "an array of too few bytes": copy("ndarray", value(("<f8", (1000,), bytes(8)))),
    "an array of too many bytes": copy("ndarray", value(("<f8", (1,), bytes(16)))),
    "an array of 2**62 rows": copy("ndarray", value(("<f8", (2**62, 4), b""))),
    "an array of negative size": copy("ndarray", value(("<f8", (-1,), bytes(8)))),
    "an array of 10**9 empty rows": copy("ndarray", value(("<f8", (10**9, 0), b""))),
    "an array of 33 dimensions": copy("ndarray", value(("<f8", (1,) * 33, bytes(8)))),
    "a structured dtype": copy("ndarray", value(("<f8,<f8", (1,), bytes(16)))),
    "a dtype of 4000 digits": copy("ndarray", value(("<U" + "9" * 4000, (1,), bytes(8)))),
    "two scalars": copy("scalar", value((1, 2))),
}


@pytest.mark.parametrize("name", LIES)
def test_a_container_that_can_not_be_is_refused_and_the_peer_is_asked_nothing(strict: Siege, name: str) -> None:
    with Hostile(strict.url) as peer:
        assert peer.hello("copies")[0] == REPLY
        kind, payload = peer.ask(PING, boxes(LIES[name]))
        assert kind == EXCEPTION
        assert dict(payload[2])["code"] in ("bad-request", "limit-exceeded")
        assert peer.ask(PING, by_value("still here"))[0] == REPLY
        assert [handler for _, handler, _ in peer.asked if handler != 15] == [], "no request but releases"


def test_containers_that_can_be_are_taken(strict: Siege) -> None:
    with Hostile(strict.url) as peer:
        peer.hello("copies")
        pairs = (("a", -1), ("b", -2))
        for sent in (copy("list", value((1, 2))), copy("dict", value(pairs)), copy("set", value((-1,)))):
            assert peer.ask(PING, boxes(sent)) == (REPLY, sent)


def test_no_module_is_imported_for_a_peers_array(strict: Siege) -> None:
    with Hostile(strict.url) as peer:
        peer.hello("copies")
        sent = copy("ndarray", value(("<i4", (3,), bytes(12))))
        assert peer.ask(PING, boxes(sent)) == (REPLY, copy("list", value((0, 0, 0))))


def test_features_beyond_counting_are_not_kept(strict: Siege) -> None:
    with Hostile(strict.url) as peer:
        assert peer.hello("copies", *("f" * 40 + str(number) for number in range(50_000)))[0] == REPLY
        assert peer.ask(PING, by_value("still here"))[0] == REPLY


class Trap(Netref):
    """A proxy that says so when it is used."""

    def __iter__(self) -> Any:
        raise AssertionError("iterated")

    def __hash__(self) -> int:
        raise AssertionError("hashed")

    def __eq__(self, other: object) -> bool:
        raise AssertionError("compared")


@pytest.mark.parametrize("kind", ["list", "dict", "set", "bytearray", "scalar", "ndarray", "object"])
def test_rebuilding_never_uses_a_proxy(kind: str) -> None:
    for data in (Trap(), (Trap(),), ((Trap(), 1),), (Trap(), Trap(), Trap())):
        try:
            copies.rebuild(kind, data, Limits())
        except ProtocolError:
            pass
        else:
            assert kind in ("list", "scalar"), "these may hold anything"


def test_many_sets_of_colliding_keys_cost_next_to_nothing() -> None:
    sets = tuple(COLLIDING[:1024] for _ in range(200))
    began = time.thread_time()
    for each in sets:
        with pytest.raises(BadRequest):
            copies.rebuild("set", each, Limits())
    assert time.thread_time() - began < 1.0


def test_an_array_is_rebuilt_with_numpy_only_where_that_is_loaded_or_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("numpy")
    data = ("<i4", (2,), b"\1\0\0\0\2\0\0\0")
    assert copies.rebuild("ndarray", data, Limits()).tolist() == [1, 2]
    monkeypatch.delitem(sys.modules, "numpy")
    assert copies.rebuild("ndarray", data, Limits(), imports=False) == [1, 2]
    with pytest.raises(LimitExceeded):
        copies.rebuild("set", tuple(range(9)), Limits(unordered_items=8))
