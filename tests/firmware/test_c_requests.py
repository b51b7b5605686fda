"""Requests to the C library, byte by byte: what each handler answers, and that nothing a peer sends does any harm."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.limits import DEFAULT_LIMITS
from gateway.protocol.brine import dump, load
from tests.firmware.conftest import Harness

MESSAGES = json.loads((Path(__file__).parents[1] / "vectors" / "messages.json").read_text(encoding="utf-8"))["rpyc6"]
PING, GETROOT, GETATTR, SETATTR, CALL, CALLATTR, REPR, CMP, HASH, DIR = 1, 3, 4, 6, 7, 8, 9, 11, 12, 13
DEL, INSPECT, INSTANCECHECK, HELLO = 15, 16, 20, 71
ROOT, DEVICE = (3, ("board.Root", 1, 1)), (3, ("board.Device", 2, 2))


def request(handler: int, *boxes: Any, seq: int = 5) -> str:
    """A REQUEST whose arguments are these boxes."""
    return (b"\x01" + dump((seq, (handler, (2, tuple(boxes)))), DEFAULT_LIMITS)).hex()


def by_value(handler: int, *values: Any) -> str:
    """A REQUEST whose arguments are these values."""
    return (b"\x01" + dump((5, (handler, (1, values))), DEFAULT_LIMITS)).hex()


def answer(harness: Harness, message: str) -> tuple[int, Any]:
    """Type of the answer and its box, or its exception: class, text, code."""
    said = bytes.fromhex(harness.ask("rpc", message))
    seq, args = load(said[1:], limits=DEFAULT_LIMITS)
    assert seq == 5
    if said[0] == 3:
        (module, name), (text,), attributes, traceback = args
        assert (module, traceback) == ("builtins", "<traceback denied>")
        return 3, (name, text, dict(attributes)["code"])
    return said[0], args


def call(harness: Harness, method: str, *args: Any, **kwargs: Any) -> tuple[int, Any]:
    """CALLATTR of the device."""
    return answer(harness, request(CALLATTR, DEVICE, (1, method), (1, args), (1, tuple(kwargs.items()))))


def test_the_conversation(harness: Harness) -> None:
    assert answer(harness, by_value(PING, ("x", 1.5, (None, b"")))) == (2, (1, ("x", 1.5, (None, b""))))
    assert answer(harness, by_value(GETROOT)) == (2, (4, ("board.Root", 1, 1)))
    kind, (label, (version, features, methods)) = answer(harness, by_value(HELLO, 1, ("copies", "short-references")))
    assert (kind, label, version, features) == (2, 1, 1, ("device-profile", "short-references"))
    assert [name for name, _ in methods] == ["describe", "device", "get_service_name", "test_safe"]
    assert harness.ask("rpc", by_value(2)) == "-"  # CLOSE
    assert answer(harness, request(DEL, DEVICE, (1, 3))) == (2, (1, None))


@pytest.mark.parametrize("root", [ROOT, (3, 1)], ids=["whole id", "number alone"])
def test_attributes_of_the_root(harness: Harness, root: Any) -> None:
    assert answer(harness, request(GETATTR, root, (1, "board"))) == (2, (4, ("board.Device", 2, 2)))
    assert answer(harness, request(GETATTR, root, (1, "exposed_board"))) == (2, (4, ("board.Device", 2, 2)))
    assert answer(harness, request(CALLATTR, root, (1, "device"), (1, ("board",)), (1, ()))) == (
        2,
        (4, ("board.Device", 2, 2)),
    )
    kind, (label, (name, _, number)) = answer(harness, request(GETATTR, root, (1, "get_service_name")))
    assert (kind, label, name) == (2, 4, "builtins.method")
    assert answer(harness, request(CALL, (3, (name, 3, number)), (1, ()), (1, ()))) == (2, (1, "BOARD"))
    assert answer(harness, request(CALL, (3, number), (1, ()), (1, ()))) == (2, (1, "BOARD"))
    assert answer(harness, request(CALLATTR, root, (1, "test_safe"), (1, ()), (1, ()))) == (2, (1, True))
    assert answer(harness, request(CALLATTR, root, (1, "test_safe"), (1, ("board",)), (1, ()))) == (2, (1, True))
    assert answer(harness, request(CALLATTR, root, (1, "describe"), (1, ("other",)), (1, ()))) == (
        3,
        ("LookupError", "no such device here; there is: board", "not-found"),
    )
    assert answer(harness, request(DIR, root))[1][1][-1] == "board"


def test_the_description_says_everything(harness: Harness) -> None:
    _, (_, devices) = answer(harness, request(CALLATTR, ROOT, (1, "describe"), (1, ()), (1, ())))
    assert dict(dict(devices)["board"]) == {
        "driver": "Harness",
        "doc": "For tests.",
        "state": "open",
        "identity": "firmware 0",
        "safe_state": "level 0",
        "needs_lease": True,
        "sole": True,
    }
    _, (_, described) = answer(harness, request(CALLATTR, ROOT, (1, "describe"), (1, ("board",)), (1, ())))
    members = {row["name"]: row for row in map(dict, dict(described)["members"])}
    assert list(members) == ["add", "keep", "scale", "invert", "level", "fixed"]
    assert members["scale"] == {
        "name": "scale",
        "kind": "method",
        "access": "read",
        "signature": "(up: bool, by: float) -> float",
        "doc": "Scale.\n\nby: -2.5 to 1e6",
        "unit": "V",
        "settable": False,
    }
    assert (members["level"]["kind"], members["level"]["settable"], members["level"]["unit"]) == (
        "property",
        True,
        "mA",
    )
    assert (members["fixed"]["settable"], members["fixed"]["signature"]) == (False, "-> int")
    _, (_, methods) = answer(harness, by_value(INSPECT, ("board.Device", 2, 2)))
    assert dict(methods)["scale"] == "scale(up: bool, by: float) -> float\n\nScale.\n\nby: -2.5 to 1e6"
    assert "level" not in dict(methods)


def test_calls_and_their_values(harness: Harness) -> None:
    assert call(harness, "add", 2, 3) == (2, (1, 5))
    assert call(harness, "add", b=-7, a=3) == (2, (1, -4))
    assert call(harness, "add", 2000000000, b=1) == (2, (1, 2000000001))
    assert call(harness, "keep", "grün") == (2, (1, "grün"))
    assert call(harness, "keep", "") == (2, (1, ""))
    assert call(harness, "scale", False, 2) == (2, (1, -2.0))
    assert call(harness, "scale", True, 0.1) == (2, (1, 0.1))
    assert call(harness, "invert", b"\x00\xff") == (2, (1, b"\xff\x00"))
    kind, (label, (_, _, number)) = answer(harness, request(GETATTR, DEVICE, (1, "add")))
    assert (kind, label) == (2, 4)
    assert answer(harness, request(CALL, (3, number), (1, (1, 1)), (1, ()))) == (2, (1, 2))
    assert answer(harness, request(CALLATTR, (3, number), (1, "__call__"), (1, (1, 1)), (1, ()))) == (2, (1, 2))
    assert answer(harness, request(CALL, (3, number), (1, (1, 1)))) == (2, (1, 2))


def test_properties(harness: Harness) -> None:
    assert answer(harness, request(SETATTR, DEVICE, (1, "level"), (1, 7))) == (2, (1, None))
    assert answer(harness, request(GETATTR, DEVICE, (1, "level"))) == (2, (1, 7))
    assert answer(harness, request(SETATTR, DEVICE, (1, "level"), (1, 10))) == (
        3,
        ("ValueError", "level: level must be from 0 to 9", "out-of-range"),
    )
    assert answer(harness, request(SETATTR, DEVICE, (1, "fixed"), (1, 1)))[1][2] == "access-denied"
    assert answer(harness, request(GETATTR, DEVICE, (1, "fixed"))) == (2, (1, 7))
    assert answer(harness, request(CALLATTR, DEVICE, (1, "level"), (1, ()), (1, ())))[1][2] == "access-denied"


@pytest.mark.parametrize(
    ("args", "kwargs", "error"),
    [
        ((1,), {}, ("TypeError", "add: b is missing", "type-error")),
        ((1, 2, 3), {}, ("TypeError", "add: too many arguments", "type-error")),
        ((1, "2"), {}, ("TypeError", "add: b must be of type int", "type-error")),
        ((1, True), {}, ("TypeError", "add: b must be of type int", "type-error")),
        ((1, 2.0), {}, ("TypeError", "add: b must be of type int", "type-error")),
        ((1, None), {}, ("TypeError", "add: b must be of type int", "type-error")),
        ((1,), {"a": 2}, ("TypeError", "add: 'a' is no argument, or given twice", "type-error")),
        ((1,), {"c\x1b": 2}, ("TypeError", "add: 'c?' is no argument, or given twice", "type-error")),
        ((1, 2**40), {}, ("TypeError", "add: arguments are bool, int, float, str or bytes, by value", "bad-request")),
        ((1, (2,)), {}, ("TypeError", "add: arguments are bool, int, float, str or bytes, by value", "bad-request")),
        ((1, 2j), {}, ("TypeError", "add: arguments are bool, int, float, str or bytes, by value", "bad-request")),
    ],
)
def test_ill_typed_arguments_are_refused(
    harness: Harness, args: tuple[Any, ...], kwargs: dict[str, Any], error: tuple[str, str, str]
) -> None:
    assert call(harness, "add", *args, **kwargs) == (3, error)


@pytest.mark.parametrize("by", [-2.6, 1000000.1, float("inf"), float("nan"), 2000000])
def test_a_number_out_of_range_is_refused(harness: Harness, by: float) -> None:
    assert call(harness, "scale", True, by) == (3, ("ValueError", "scale: by must be from -2.5 to 1e6", "out-of-range"))


@pytest.mark.parametrize("by", [-2.5, 1e6, 0.0, -0.0, -1, 1000000])
def test_the_bounds_are_in_range(harness: Harness, by: float) -> None:
    assert call(harness, "scale", True, by) == (2, (1, float(by)))


def test_a_function_can_fail(harness: Harness) -> None:
    assert call(harness, "keep", "x" * 65) == (3, ("RuntimeError", "that is too long", "device-error"))


@pytest.mark.parametrize("name", ["nope", "_private", "__class__", "", "x" * 60])
@pytest.mark.parametrize("handler", [GETATTR, SETATTR, CALLATTR])
def test_what_is_not_in_the_table_is_denied(harness: Harness, handler: int, name: str) -> None:
    kind, (error, text, code) = answer(harness, request(handler, DEVICE, (1, name), (1, ()), (1, ())))
    assert (kind, error, code) == (3, "AttributeError", "access-denied")
    assert text.startswith(f"board: '{name[:24]}' is not exposed for ")


def test_objects_compare_by_what_they_are(harness: Harness) -> None:
    assert answer(harness, request(CMP, DEVICE, DEVICE, (1, "__eq__"))) == (2, (1, True))
    assert answer(harness, request(CMP, DEVICE, ROOT, (1, "__eq__"))) == (2, (1, False))
    assert answer(harness, request(CMP, DEVICE, (1, 5), (1, "__ne__"))) == (2, (1, True))
    assert answer(harness, request(CMP, DEVICE, (4, ("a.b", 9, 9)), (1, "__eq__"))) == (2, (1, False))
    assert answer(harness, request(CMP, DEVICE, ROOT, (1, "__lt__")))[1][2] == "access-denied"
    assert answer(harness, request(HASH, DEVICE)) == (2, (1, 2))
    assert answer(harness, request(REPR, DEVICE)) == (2, (1, "<board>"))
    assert answer(harness, request(DIR, DEVICE))[1][1] == ("add", "keep", "scale", "invert", "level", "fixed")


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (by_value(99), "bad-request"),
        (by_value(-1), "bad-request"),
        (request(GETATTR, (1, 5), (1, "x")), "bad-request"),
        (request(GETATTR, (4, ("a.b", 1, 1)), (1, "x")), "bad-request"),
        (request(GETATTR, DEVICE, (1, 5)), "bad-request"),
        (request(GETATTR, (3, ("board.Device", 2, 77)), (1, "x")), "not-found"),
        (request(GETATTR, (3, 5000), (1, "x")), "not-found"),
        (request(GETATTR, (3, ("a", 1)), (1, "x")), "not-found"),
        (request(CALLATTR, DEVICE, (1, "add"), (2, ((4, ("a.b", 1, 1)), (1, 2))), (1, ())), "bad-request"),
        (request(CALLATTR, DEVICE, (1, "add"), (1, 5), (1, ())), "bad-request"),
        (request(CALLATTR, DEVICE, (1, "add"), (1, (1,)), (1, (("b",),))), "bad-request"),
        (request(CALLATTR, DEVICE, (1, "add")), "bad-request"),
        (request(CALL, DEVICE, (1, ()), (1, ())), "access-denied"),
        (request(INSTANCECHECK, DEVICE, (1, ("a.b", 1, 1))), "access-denied"),
        (request(14, DEVICE, (1, 2)), "access-denied"),
        (by_value(INSPECT, ("nobody", 7, 7)), "not-found"),
        ("0111555105", "bad-request"),
    ],
)
def test_a_request_that_can_not_be_is_answered_with_an_error(harness: Harness, message: str, code: str) -> None:
    kind, (_, _, said) = answer(harness, message)
    assert (kind, said) == (3, code)


@pytest.mark.parametrize("message", ["-", "01", "0211505102", "03115055", "0111", "07", "12515011", "ff" * 40])
def test_what_is_no_request_is_not_answered(harness: Harness, message: str) -> None:
    assert harness.ask("rpc", message) == "-"


def from_clients() -> list[bytes]:
    """What stock clients were heard to say."""
    named = [each for group in MESSAGES["plain"].values() for each in group if each["from"] == "client"]
    return [bytes.fromhex(each["frame"])[5:-1] for each in named]


def test_stock_messages_cut_short_or_damaged_do_no_harm(harness: Harness) -> None:
    generator, messages = random.Random(3), [each for each in from_clients() if len(each) < 300]
    messages += [bytes.fromhex(request(CALLATTR, DEVICE, (1, "scale"), (1, (True, 1.5)), (1, ())))]
    messages += [bytes.fromhex(request(CALLATTR, DEVICE, (1, "add"), (1, (1,)), (1, (("b", 300),))))]
    answered = 0
    for message in messages:
        for end in range(len(message)):
            answered += harness.ask("rpc", message[:end].hex() or "-") != "-"
        for _ in range(20):
            place = generator.randrange(len(message))
            damaged = message[:place] + bytes((generator.randrange(256),)) + message[place + 1 :]
            answered += harness.ask("rpc", damaged.hex()) != "-"
    assert answered > 100


# -- plain frames ------------------------------------------------------------------------------------------------------


def frame(message: str, compressed: int = 0) -> bytes:
    data = bytes.fromhex(message)
    return len(data).to_bytes(4, "big") + bytes((compressed,)) + data + b"\n"


def poll(harness: Harness, at_ms: int, data: bytes = b"") -> tuple[int, bytes]:
    """How often the outputs were made safe, and what was written."""
    safes, written = harness.ask("poll", at_ms, data.hex() or "-").split(" ")
    return int(safes), bytes.fromhex(written)


def test_plain_frames_are_answered_in_plain_frames_and_nothing_is_said_unasked(harness: Harness) -> None:
    assert harness.ask("board", "raw") == "1 "
    assert poll(harness, 1000) == (1, b"")
    ping = by_value(PING, "x" * 200)
    echo = b"\x02" + dump((5, (1, "x" * 200)), DEFAULT_LIMITS)
    assert poll(harness, 1001, frame(ping)) == (1, frame(echo.hex()))
    several = frame(by_value(GETROOT)) * 3 + frame(by_value(PING, 1))
    _, written = poll(harness, 1002, several)
    assert written.count(b"board.Root") == 3
    _, described = poll(harness, 1003, frame(request(CALLATTR, ROOT, (1, "describe"), (1, ("board",)), (1, ()))))
    assert len(described) == int.from_bytes(described[:4], "big") + 6 > 600


@pytest.mark.parametrize(
    "noise",
    [
        b"\x00" * 7,
        b"\xff" * 300,
        frame(by_value(PING, 1), compressed=1),
        b"\x00\x00\x00\x04\x00ab",
    ],
)
def test_what_is_no_frame_for_it_is_skipped_until_the_line_is_quiet(harness: Harness, noise: bytes) -> None:
    harness.ask("board", "raw")
    assert poll(harness, 10, noise)[1] == b""
    assert poll(harness, 200, frame(by_value(PING, 1)))[1] == frame("021155115151")


def test_a_request_that_is_too_long_is_refused(harness: Harness) -> None:
    harness.ask("board", "raw")
    _, written = poll(harness, 1, frame(by_value(PING, "x" * 300)) + frame(by_value(PING, 1)))
    assert b"too long a one" in written
    assert written.endswith(frame("021155115151"))


def test_the_dead_man_of_a_raw_line(harness: Harness) -> None:
    harness.ask("board", "raw")
    assert poll(harness, 100, frame(by_value(PING, 1)))[0] == 1
    assert poll(harness, 2099)[0] == 1
    assert poll(harness, 2100)[0] == 2
    assert poll(harness, 9000)[0] == 2  # once is enough
    assert poll(harness, 9001, frame(by_value(PING, 1)))[0] == 2
    assert poll(harness, 11001)[0] == 3


@pytest.mark.parametrize("settings", [(), ("-DBOARD_DEAD_MAN_MS=0",)])
def test_the_dead_man_can_be_switched_off(start_harness: Callable[..., Harness], settings: tuple[str, ...]) -> None:
    harness = start_harness(*settings)
    harness.ask("board", "raw")
    poll(harness, 100, frame(by_value(PING, 1)))
    assert poll(harness, 60_000)[0] == (1 if settings else 2)
