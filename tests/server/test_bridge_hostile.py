"""A host that is broken or hostile harms neither the gateway nor the clients."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from typing import Any

import pytest

import gateway
from gateway.config import RESERVED_NAMES
from gateway.errors import AccessDenied, GatewayError, ProtocolError
from gateway.limits import MIB, Limits
from gateway.protocol.constants import Handler
from gateway.server.described import MAX_DEVICES, MAX_DOC, MAX_LINE, MAX_MEMBERS, members, row_of, summaries
from gateway.service.exposure import Access, Exposable, Kind, exposed
from gateway.service.service import Service
from tests.server.bridged import Bench, Meter, wait_until

LIMITS = Limits()
SUMMARY = {"name": "dmm1", "driver": "Meter", "doc": "A meter.", "state": "open", "waiting": 0}
MEMBER = {
    "name": "count",
    "kind": "method",
    "signature": "() -> int",
    "doc": "One more.",
    "unit": None,
    "access": "control",
    "settable": False,
}


# -- what it says about its devices ----------------------------------------------------------------------------------


@pytest.mark.parametrize("said", [None, [], "dmm1", 5, {f"d{number}": SUMMARY for number in range(MAX_DEVICES + 1)}])
def test_what_is_no_description_is_refused(said: Any) -> None:
    with pytest.raises(ProtocolError, match="bench2 does not describe its devices as a table of at most 64"):
        summaries(said, "bench2")


@pytest.mark.parametrize(
    "name",
    [
        "",
        "a b",
        "1st",
        "x" * 41,
        "a.b",
        "_x",
        "exposed_x",
        "class",
        "ä",
        "__class__",
        "x\n",
        5,
        None,
        *sorted(RESERVED_NAMES),
    ],
)
def test_a_device_whose_name_breaks_the_rules_is_left_out(name: Any, caplog: pytest.LogCaptureFixture) -> None:
    assert list(summaries({name: SUMMARY, "dmm1": SUMMARY}, "bench2")) == ["dmm1"]
    assert "a device of bench2 can't be served" in caplog.text


def test_a_summary_is_cut_and_made_showable() -> None:
    said = {"driver": "not a class", "doc": "\x1b[2J" + "x" * 5000, "state": "o\x07pen" * 99, "waiting": -5}
    told = summaries({"dmm1": said, "dmm2": {}, "dmm3": "text"}, "bench2")
    assert list(told) == ["dmm1", "dmm2"]
    assert (told["dmm1"].driver, told["dmm1"].waiting, told["dmm2"].state) == ("Device", 0, "open")
    assert len(told["dmm1"].doc) <= MAX_LINE
    assert "\x1b" not in told["dmm1"].doc + told["dmm1"].state
    assert len(told["dmm1"].state) <= 40


@pytest.mark.parametrize(
    "said",
    [
        None,
        {},
        {"members": "all"},
        {"members": [MEMBER] * (MAX_MEMBERS + 1)},
        {"members": [None]},
        {"members": [{**MEMBER, "name": "not a name"}]},
        {"members": [{**MEMBER, "name": "x" * 201}]},
        {"members": [{**MEMBER, "name": 5}]},
        {"members": [{**MEMBER, "kind": "door"}]},
        {"members": [{**MEMBER, "kind": ["method"]}]},
        {"members": [{**MEMBER, "access": "all"}]},
        {"members": [{**MEMBER, "access": None}]},
    ],
)
def test_a_table_that_can_not_be_used_is_refused(said: Any) -> None:
    with pytest.raises(ProtocolError):
        members(said, LIMITS)


def test_a_table_is_cut_and_made_showable() -> None:
    said = {**MEMBER, "signature": "(" + "x" * 9999, "doc": "a\x1b" * 9999, "unit": "V" * 99, "settable": True}
    row = members({"members": [said]}, LIMITS)["count"]
    assert (len(row.signature), len(row.doc)) == (MAX_LINE, MAX_DOC)
    assert "\x1b" not in row.doc
    assert (row.unit, row.settable, row.kind, row.access) == ("V" * 40, False, Kind.METHOD, Access.CONTROL)
    row = members({"members": [{**MEMBER, "signature": 5, "doc": None, "unit": 7}]}, LIMITS)["count"]
    assert (row.signature, row.doc, row.unit) == ("", "", None)


# -- hosts of all kinds ----------------------------------------------------------------------------------------------


@pytest.fixture
def bench() -> Iterator[Bench]:
    with ExitStack() as stack:
        yield Bench(stack, "tcp://127.0.0.1:0")


class FakeHost(Service):
    """Says what it is told to say."""

    def __init__(self, described: Any = None, described_one: Any = None, device: Any = None) -> None:
        self._described = {"dmm1": SUMMARY} if described is None else described
        self._one = {**SUMMARY, "members": [MEMBER]} if described_one is None else described_one
        self._device = Meter() if device is None else device

    @exposed
    def describe(self, name: str | None = None) -> Any:
        return self._described if name is None else self._one

    @exposed
    def device(self, name: str) -> Any:
        return self._device


def serve_fake(bench: Bench, host: Service) -> Any:
    bench.start_host(host)
    bench.start_gateway({"local": Meter()})
    return bench.client().root


@pytest.mark.parametrize(
    "said",
    [[], 5, {"a b": SUMMARY}, {"names": SUMMARY}, {5: 6}, Meter()],
    ids=["list", "number", "no name", "name of the root's", "no text", "object"],
)
def test_a_host_that_describes_nothing_of_use_has_no_devices_and_the_others_are_served(bench: Bench, said: Any) -> None:
    root = serve_fake(bench, FakeHost(said))
    bench.bridge.wait_up(1)
    assert root.names() == ["local"]
    assert root.local.count() == 1
    assert "bench2" in root.describe()


def test_a_device_whose_table_can_not_be_used_is_left_out(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    root = serve_fake(bench, FakeHost(described_one={"members": [{"name": "__class__"}]}))
    assert bench.bridge.wait_up(5)
    assert root.names() == ["local"]
    assert "bench2.dmm1 can't be served" in caplog.text


def test_members_named_like_the_relays_own_attributes_reach_the_host_only(bench: Bench) -> None:
    names = ("reach", "host", "rows", "__class__", "__init__", "__reduce_ex__", "gateway_lane", "exposures", "_call")
    listed = [{**MEMBER, "name": name} for name in names]
    listed += [{**MEMBER, "name": "summary", "kind": "property", "settable": True}]
    root = serve_fake(bench, FakeHost(described_one={**SUMMARY, "members": listed}))
    assert bench.bridge.wait_up(5)
    dmm, device = root.bench2.dmm1, bench.bridge.devices["dmm1"]
    lane, summary = device.gateway_lane, device.summary
    for name in names:
        with pytest.raises(AccessDenied, match="Meter: "):  # the host's words: it was asked, and does not have it
            dmm.____conn__.sync_request(Handler.CALLATTR, dmm, name, (), ())
    with pytest.raises(AccessDenied, match="Meter: "):
        dmm.summary = 5
    assert (device.gateway_lane, device.summary) == (lane, summary)


class Liar(Exposable):
    """Hands out objects whose classes and members are not what they seem."""

    handed: Any = None

    @exposed
    def count(self) -> Any:
        return self.handed


def liar(bench: Bench, handed: Any, **how: Any) -> Any:
    device = Liar()
    device.handed = handed
    root = serve_fake(bench, FakeHost(device=device, **how))
    assert bench.bridge.wait_up(5)
    return root


def named(name: str, **members: Any) -> Any:
    module, _, own = name.rpartition(".")
    return type(own, (Exposable,), {"__module__": module, **members})()


@pytest.mark.parametrize(
    "name", ["builtins.int", "gateway.service.device_policy.Member", "x" * 400 + ".y", "a\x00.b", "numpy.ndarray", "."]
)
def test_a_name_of_a_class_proves_nothing(bench: Bench, name: str) -> None:
    made = named("x.y", exposed_size=1)
    type(made).__module__, type(made).__qualname__ = name.rpartition(".")[0], "y"
    root = liar(bench, made)
    with suppress(ValueError, GatewayError):  # refused as a whole
        thing = root.bench2.dmm1.count()
        assert thing.____conn__.get_attribute(thing, "size") == 1
    assert root.local.count() == 1


def test_an_object_that_lists_names_of_ours_reaches_its_host_only(bench: Bench) -> None:
    names = ("far", "border", "__class__", "__init__", "__dict__", "reach", "host", "gateway_lane")

    class Listing(Exposable):
        def exposures(self) -> Any:
            return {name: row_of(name, Kind.METHOD) for name in names}

    root = liar(bench, Listing())
    thing = root.bench2.dmm1.count()
    for name in names:
        with pytest.raises(AttributeError, match=f"'Listing' object has no attribute 'call:{name}'"):
            thing.____conn__.sync_request(Handler.CALLATTR, thing, name, (), ())  # which is what the host says
    assert root.local.count() == 1


def test_a_host_that_lists_far_too_many_members_is_refused(bench: Bench) -> None:
    class Endless(Exposable):
        def exposures(self) -> Any:
            return {f"m{number}": row_of(f"m{number}", Kind.PROPERTY) for number in range(LIMITS.methods + 1)}

    root = liar(bench, Endless())
    with pytest.raises(ProtocolError, match="does not list an object's members as a short tuple"):
        root.bench2.dmm1.count()
    assert root.local.count() == 1


def test_a_host_that_gives_out_ever_more_objects_is_bounded(bench: Bench) -> None:
    many = [Meter() for _ in range(3000)]
    root = liar(bench, many)
    got = root.bench2.dmm1.count()
    assert len(got) == 3000
    with pytest.raises(GatewayError):
        for _ in range(5):
            many.extend(Meter() for _ in range(3000))
            got = root.bench2.dmm1.count()
    assert root.local.count() == 1


def test_a_host_that_asks_without_end_delays_nobody(bench: Bench) -> None:
    class Asking(Meter):
        @exposed
        def count(self) -> int:
            for _ in range(200):
                self.listener(1)
            return 1

    bench.devices = {"dmm1": Asking()}
    bench.start_host()
    bench.start_gateway({"local": Meter()})
    assert bench.bridge.wait_up(5)
    root, other = bench.client().root, bench.client().root
    heard: list[int] = []
    root.bench2.dmm1.listen(heard.append)
    asked = gateway.async_(root.bench2.dmm1.count)()
    for _ in range(20):
        other.local.count()
    assert asked.value == 1
    assert len(heard) == 200


def test_an_answer_over_the_limit_ends_that_connection_only(bench: Bench) -> None:
    bench.start_host()
    bench.start_gateway({"local": Meter()}, limits=Limits(frame=64 * 1024, inflated=64 * 1024))
    assert bench.bridge.wait_up(5)
    root = bench.client().root
    bench.devices["dmm1"].listener = b"x" * MIB
    with pytest.raises(GatewayError):
        root.bench2.dmm1.listened()
    assert root.bench2.psu1.count() == 1
    wait_until(lambda: _works(root.bench2.dmm1.count), "the device is reached again")
    assert bench.bridge.is_up


def _works(call: Callable[[], Any]) -> bool:
    try:
        return bool(call())
    except GatewayError:
        return False


def test_bytes_that_are_no_protocol_are_not_the_gateways_end(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as noise:
        bench.url = f"tcp://127.0.0.1:{noise.getsockname()[1]}"
        stop = threading.Event()

        def shout() -> None:
            noise.settimeout(0.1)
            while not stop.is_set():
                try:
                    peer, _ = noise.accept()
                except TimeoutError:
                    continue
                with peer:
                    peer.sendall(b"\xff" * 4096)

        shouting = threading.Thread(target=shout)
        shouting.start()
        with caplog.at_level(logging.ERROR):
            bench.start_gateway({"local": Meter()})
            root = bench.client().root
            wait_until(lambda: "over the limit" in root.describe()["bench2"]["problem"], "it is told")
            assert root.local.count() == 1
            bench.bridge.close()
        stop.set()
        shouting.join()
        assert caplog.records == []
