"""What can be reached of a device: its exposure table by every handler, and nothing that tells more than a name."""

from __future__ import annotations

import re
from typing import Any

import pytest

import gateway
from devices.console import ConsoleOptions, SerialConsole
from devices.multimeter import MultimeterOptions, ScpiMultimeter
from devices.power_supply import PowerSupplyOptions, ScpiPowerSupply
from gateway.channels import memory_pair
from gateway.protocol import brine
from gateway.server.registry import GatewayService
from gateway.service.exposure import exposure_table
from tests.hardening.hostile import EXCEPTION, REPLY, Hostile, boxes, by_value, message, ours, theirs, value
from tests.hardening.served import SECRET, Supply
from tests.hardening.siege import Siege

GETROOT, GETATTR, DELATTR, SETATTR, CALL, CALLATTR, REPR, STR, CMP, HASH, DIR = 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13
PICKLE, INSPECT, BUFFITER, OLDSLICING, CTXEXIT, INSTANCECHECK = 14, 16, 17, 18, 19, 20

DRIVERS: dict[str, Any] = {
    "psu": ScpiPowerSupply("psu", PowerSupplyOptions(port="/dev/null")),
    "dmm": ScpiMultimeter("dmm", MultimeterOptions(port="/dev/null")),
    "console": SerialConsole("console", ConsoleOptions(port="/dev/null")),
    "supply": Supply("supply"),
}
"""One of each class that is served. Closed: a call that gets through ends at `closed; open it first`."""
OTHERS = (
    "__array_interface__ __await__ __call__ __code__ __del__ __delitem__ __dict__ __enter__ __exit__ __getattr__"
    " __getattribute__ __getitem__ __getslice__ __globals__ __iter__ __len__ __mro__ __next__ __reduce__ __self__"
    " __setitem__ __subclasses__ __wrapped__ _rpyc_getattr ____conn__ ____id_pack__ exposed_ f_globals"
    " gi_frame mro nope"
).split()  # fmt: skip


class Wire:
    """A strict gateway with the drivers at the other end of a channel, spoken to in messages."""

    def __init__(self) -> None:
        self.channel, served = memory_pair()
        self._conn = gateway.connect_channel(served, GatewayService(DRIVERS), strict=True)
        self._seq = 0

    def ask(self, handler: int, box: Any) -> tuple[int, Any]:
        self._seq += 1
        self.channel.send(message(1, self._seq, (handler, box)))
        while True:
            answer = self.channel.recv()
            seq, args = brine.load(answer, 1)
            if seq == self._seq and answer[0] in (REPLY, EXCEPTION):
                return answer[0], args

    def device(self, name: str) -> Any:
        root = self.ask(GETROOT, by_value())[1]
        return self.ask(CALLATTR, boxes(ours(root[1]), value("device"), value((name,)), value(())))[1][1]

    def close(self) -> None:
        self.channel.close()


def names_of(device: Any) -> list[str]:
    """All that might be reached: what is there on the object, its class and any class, and what isn't."""
    names = {*dir(device), *dir(type(device)), *dir(type(type(device))), *dir(object), *vars(device), *OTHERS}
    return sorted(names)


@pytest.mark.parametrize("name", DRIVERS)
def test_the_names_reached_by_all_handlers_together_are_the_exposure_table(name: str) -> None:
    table = exposure_table(DRIVERS[name])
    settable = {row.name for row in table.values() if row.settable}
    callable_rows = {row.name for row in table.values() if row.kind != "property"}
    wire = Wire()
    try:
        target = ours(wire.device(name))

        def reached(handler: int, *after: Any, before: tuple[Any, ...] = ()) -> set[str]:
            """The names for which the handler gives anything but a denial."""
            found = set()
            for each in names_of(DRIVERS[name]):
                kind, payload = wire.ask(handler, boxes(target, *before, value(each), *after))
                if kind == REPLY or ("code", "access-denied") not in payload[2]:
                    found.add(each.removeprefix("exposed_"))
            return found

        assert reached(GETATTR) == set(table)
        assert reached(CALLATTR, value(("too", "many", "arguments") * 9), value(())) == callable_rows
        assert reached(SETATTR, value(None)) == settable
        assert reached(DELATTR) == set()
        assert reached(CMP, before=(value(1),)) == {"__eq__", "__ne__"}
        assert reached(OLDSLICING, value("nope"), value(0), value(1), value(())) == set()
        assert reached(OLDSLICING, value(0), value(1), value(()), before=(value("nope"),)) == set()
        assert set(wire.ask(DIR, boxes(target))[1][1]) == set(table)
        assert {row[0] for row in wire.ask(INSPECT, by_value(target[1]))[1][1]} == callable_rows
        for handler, after in (
            (CALL, (value(()), value(()))),
            (PICKLE, (value(2),)),
            (BUFFITER, (value(1),)),
            (CTXEXIT, (value(None),)),
            (INSTANCECHECK, (value(("builtins.object", 1, 1)),)),
        ):
            kind, payload = wire.ask(handler, boxes(target, *after))
            assert kind == EXCEPTION
            assert ("code", "access-denied") in payload[2], handler
    finally:
        wire.close()


def test_a_denial_reads_the_same_for_hidden_and_for_missing_names(peer: Hostile) -> None:
    psu = peer.device("psu1")
    for handler, after in ((GETATTR, ()), (DELATTR, ()), (SETATTR, (value(1),)), (CALLATTR, (value(()), value(())))):
        texts = set()
        for name in ("burn", "nope"):
            kind, payload = peer.ask(handler, boxes(ours(psu), value(name), *after))
            assert kind == EXCEPTION
            texts.add(repr(payload).replace(name, "NAME"))
        assert len(texts) == 1


def test_a_handle_of_a_method_shows_nothing_but_the_method(peer: Hostile) -> None:
    _, (_, method) = peer.ask(GETATTR, boxes(ours(peer.device("psu1")), value("waveform")))
    for name in ("__self__", "__func__", "__globals__", "target", "exposure", "__class__", "__dict__", "__reduce_ex__"):
        kind, payload = peer.ask(GETATTR, boxes(ours(method), value(name)))
        assert kind == EXCEPTION
        assert ("code", "access-denied") in payload[2]
    assert peer.ask(DIR, boxes(ours(method))) == (REPLY, value(()))
    assert peer.ask(CALL, boxes(ours(method), value((3,)), value(()))) == (REPLY, value(b"UUU"))


TELLING = re.compile(rf"0x[0-9a-fA-F]{{4,}}|\.py\b|(/[\w.-]+){{2,}}|{SECRET}|line \d+")


@pytest.mark.parametrize(
    "handler", [REPR, STR, CMP, HASH, DIR, PICKLE, INSPECT, BUFFITER, OLDSLICING, CTXEXIT, INSTANCECHECK]
)
def test_no_handler_tells_an_address_a_path_a_secret_or_a_traceback(peer: Hostile, handler: int) -> None:
    psu = peer.device("psu1")
    box = {
        CMP: boxes(ours(psu), value(1), value("__init__")),
        PICKLE: boxes(ours(psu), value(2)),
        INSPECT: by_value(psu),
        BUFFITER: boxes(ours(psu), value(10**9)),
        OLDSLICING: boxes(ours(psu), value("burn"), value("secret"), value(0), value(1), value(())),
        CTXEXIT: boxes(ours(psu), value(None)),
        INSTANCECHECK: boxes(ours(psu), value(("builtins.object", 1, 1))),
    }.get(handler, boxes(ours(psu)))
    _, payload = peer.ask(handler, box)
    assert not TELLING.search(repr(payload))


def test_ids_and_hashes_are_no_addresses(peer: Hostile) -> None:
    psu1, psu2 = peer.device("psu1"), peer.device("psu2")
    assert max(psu1[1:] + psu2[1:]) < 1000
    _, (_, one) = peer.ask(HASH, boxes(ours(psu1)))
    _, (_, other) = peer.ask(HASH, boxes(ours(psu2)))
    _, (_, again) = peer.ask(HASH, boxes(ours(psu1)))
    assert one == again != other
    assert abs(one - other) > 2**30, "the distance of two objects in memory"


def test_an_error_of_the_driver_tells_no_path_address_or_traceback(peer: Hostile) -> None:
    kind, payload = peer.answer_to(peer.call(peer.device("psu1"), "fail"))
    assert kind == EXCEPTION
    assert payload[0] == ("builtins", "FileNotFoundError")
    assert payload[3] == "<traceback denied>"
    assert not TELLING.search(repr(payload))


@pytest.mark.parametrize("args", [(), ("x",), (1, 2, 3), (theirs,)], ids=["none", "text", "many", "proxy"])
def test_wrong_arguments_tell_no_path_address_or_traceback(peer: Hostile, strict: Siege, args: tuple[Any, ...]) -> None:
    sent = [theirs(1) if arg is theirs else value(arg) for arg in args]
    seq = peer.request(CALLATTR, boxes(ours(peer.device("psu1")), value("set_voltage"), boxes(*sent), value(())))
    kind, payload = peer.answer_to(seq) if theirs not in args else answer_refusing(peer, seq)
    assert kind == EXCEPTION
    assert not TELLING.search(repr(payload))


def answer_refusing(peer: Hostile, wanted: int) -> tuple[int, Any]:
    """The answer to a request of ours; what the server asks meanwhile is refused."""
    while True:
        kind, seq, args = peer.receive()
        if kind == 1:
            peer.answer(3, seq, (("builtins", "TypeError"), ("no",), (), ""))
        elif seq == wanted:
            return kind, args
