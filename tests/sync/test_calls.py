"""The peer's calls: whatever they do they are answered; who waits for whom; what is refused as too much."""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import gateway
from gateway.errors import AccessDenied, Busy, DeviceError, LimitExceeded
from gateway.limits import Limits
from gateway.protocol.constants import Handler
from gateway.server.registry import GatewayService
from gateway.service.exposure import Exposable, exposed
from tests.behaviour.conditions import eventually

Serve = Callable[..., gateway.Server]
Connect = Callable[..., Any]
Pair = Callable[..., tuple[Any, Any]]


class Mute(Exception):
    """An exception that can't be shown."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


class Shut(Exception):
    """An exception that can't be looked at."""

    def __dir__(self) -> list[str]:
        raise RuntimeError("no names")


class Moody(type):
    """Its classes can't be counted."""

    __hash__ = None  # type: ignore[assignment]

    def __eq__(cls, other: object) -> bool:
        return cls is other


class OfAMoodyClass(metaclass=Moody):
    pass


class Troubled(gateway.Service):
    """Everything that can go wrong when a call is answered."""

    def exposed_large(self) -> bytes:
        return b"x" * 70_000

    def exposed_large_error(self) -> None:
        raise ValueError(b"x" * 70_000, *range(1000))

    def exposed_huge_int(self) -> None:
        raise ValueError(10**5000)

    def exposed_surrogate(self) -> None:
        raise ValueError("\ud800", ("\ud800",))

    def exposed_mute(self) -> None:
        raise Mute

    def exposed_shut(self) -> None:
        raise Shut

    def exposed_odd_notes(self) -> None:
        error = ValueError("noted")
        error.__notes__ = 5  # type: ignore[assignment]
        raise error

    def exposed_moody(self) -> Any:
        return OfAMoodyClass()

    def exposed_object_and_surrogate(self) -> Any:
        return object(), "\ud800"

    def exposed_too_many(self) -> Any:
        return tuple(object() for _ in range(100))

    def exposed_endless(self) -> Any:
        endless: list[Any] = []
        endless.append(endless)
        return endless

    def exposed_recursion(self) -> Any:
        return self.exposed_recursion()

    def exposed_group(self) -> None:
        raise ExceptionGroup("two", [ValueError(), TypeError()])

    def exposed_unicode(self) -> None:
        b"\xff".decode("ascii")

    def exposed_base(self) -> None:
        raise GeneratorExit

    def exposed_stop(self) -> None:
        raise StopIteration

    def exposed_fine(self) -> str:
        return "fine"


TROUBLE = sorted(name.removeprefix("exposed_") for name in vars(Troubled) if name.startswith("exposed_"))


@pytest.mark.parametrize("strict", [True, False], ids=["strict", "seed"])
def test_whatever_a_call_does_it_is_answered(serve: Serve, connect: Connect, strict: bool) -> None:
    limits = Limits(frame=65_536, references=50)
    conn = connect(serve(Troubled, limits=limits, strict=strict), config={"sync_request_timeout": 5})
    root, answers = conn.root, dict[str, Any]()
    for name in TROUBLE:
        try:
            answers[name] = getattr(root, name)()
        except TimeoutError:
            raise
        except Exception as error:
            answers[name] = error
    assert answers["fine"] == "fine"
    errors = {name for name, answer in answers.items() if isinstance(answer, Exception)}
    # Under the seed's profile a list and an object of any class go by reference.
    assert set(TROUBLE) - errors <= {"fine", "endless"}
    assert isinstance(answers["large"], LimitExceeded)
    assert root.fine() == "fine"


def test_what_could_not_be_sent_is_not_lent_either(serve: Serve, connect: Connect) -> None:
    server = serve(Troubled, limits=Limits(references=50))
    conn = connect(server)
    for name in ("object_and_surrogate", "too_many") * 3:
        with pytest.raises(Exception):  # noqa: B017 - which one is the other tests' business
            getattr(conn.root, name)()
    (served,) = server._connections
    assert len(served._peer.boxing.loans) == 1


def test_strict_shows_an_errors_own_words_only_where_it_is_the_gateways(serve: Serve, connect: Connect) -> None:
    class Faulty(gateway.Service):
        def exposed_ours(self) -> None:
            raise DeviceError("-222 at /dev/ttyUSB0", number=-222)

        def exposed_theirs(self) -> None:
            raise OSError(5, "Input/output error", "/dev/ttyUSB0")

        def exposed_odd(self) -> None:
            raise UnicodeDecodeError("ascii", b"\xff", 0, 1, "in /var/lib/secret/file")

    root = connect(serve(Faulty, strict=True)).root
    with pytest.raises(DeviceError, match="/dev/ttyUSB0") as raised:
        root.ours()
    assert raised.value.number == -222
    with pytest.raises(OSError, match=r"Input/output error: '\.\.\.'") as hidden:
        root.theirs()
    assert hidden.value.filename is None
    with pytest.raises(Exception, match=r"in \.\.\.") as odd:
        root.odd()
    assert "secret" not in str(odd.value)


def test_exceptions_are_logged_where_there_is_a_logger_but_for_ends_of_iteration(
    pair: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    conn, _ = pair(there=Troubled, remote_config={"logger": logging.getLogger("bench"), "connid": "bench-1"})
    root = conn.root
    with caplog.at_level(logging.DEBUG, "bench"):
        with pytest.raises(UnicodeDecodeError):
            root.unicode()
        with pytest.raises(StopIteration):
            root.stop()
    assert [record.getMessage() for record in caplog.records if record.name == "bench"] == [
        "bench-1: exception in CALLATTR"
    ]


# -- who waits for whom ------------------------------------------------------------------------------------------------


class Meter(Exposable):
    def __init__(self, name: str = "meter") -> None:
        self.name = name
        self.entered, self.gate = threading.Event(), threading.Event()
        self.inside = 0

    @exposed
    def read(self) -> str:
        return self.name

    @exposed
    def hold(self) -> str:
        self.inside += 1
        self.entered.set()
        assert self.gate.wait(20)
        self.inside -= 1
        return self.name

    @exposed
    def tell(self, function: Callable[[], Any]) -> Any:
        return function()

    @exposed
    def part(self) -> Part:
        return Part(self)


class Part(Exposable):
    """Something that belongs to a device: calls to it are calls to the device."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter

    @exposed
    def read(self) -> int:
        return self._meter.inside

    @exposed
    def hold(self) -> str:
        return self._meter.hold()


@pytest.fixture
def meters() -> Iterator[dict[str, Meter]]:
    meters = {name: Meter(name) for name in ("a", "b")}
    yield meters
    for meter in meters.values():
        meter.gate.set()


def test_what_a_device_hands_out_waits_for_the_device(serve: Serve, connect: Connect, meters: dict[str, Meter]) -> None:
    server = serve(GatewayService(meters), strict=True)
    one, other = connect(server), connect(server)
    part = one.root.a.part()
    held = gateway.async_(other.root.a.hold)()
    assert meters["a"].entered.wait(5)
    result = gateway.async_(part.read)()
    assert one.root.b.read() == "b"
    assert not result.ready
    meters["a"].gate.set()
    assert held.value == "a"
    assert result.value == 0, "it never ran while the device was held"


def test_a_device_that_waits_for_the_caller_can_not_be_called_by_it(
    serve: Serve, connect: Connect, meters: dict[str, Meter]
) -> None:
    conn = connect(serve(GatewayService(meters), strict=True))
    a, b = conn.root.a, conn.root.b
    assert a.tell(lambda: b.read()) == "b", "another device can"
    with pytest.raises(Busy, match="a waits for an answer of yours"):
        a.tell(lambda: a.read())
    assert a.read() == "a"


def test_under_the_seeds_profile_a_method_that_calls_back_gives_up_its_turn(pair: Pair) -> None:
    class Nesting(gateway.Service):
        def exposed_down(self, function: Callable[[int], int], depth: int) -> int:
            return function(depth - 1) if depth else 0

    conn, _ = pair(there=Nesting)
    down = conn.root.down

    def again(depth: int) -> int:
        return int(down(again, depth)) + 1

    assert down(again, 8) == 8


def test_calls_back_and_forth_are_as_deep_as_the_limits_say(serve: Serve, connect: Connect) -> None:
    class Nesting(gateway.Service):
        def exposed_down(self, function: Callable[[int], int], depth: int) -> int:
            return function(depth - 1) if depth else 0

    down = connect(serve(Nesting, limits=Limits(callback_depth=4))).root.down

    def again(depth: int) -> int:
        return int(down(again, depth)) + 1

    assert down(again, 3) == 3
    with pytest.raises(Busy, match="nothing was done"):
        down(again, 20)
    assert down(again, 3) == 3


@pytest.mark.parametrize("where", ["at one device", "of one connection"])
def test_no_more_calls_wait_or_run_than_the_limits_say(serve: Serve, connect: Connect, where: str) -> None:
    meters = {f"meter{number}": Meter() for number in range(6)}
    limits = Limits(pending_calls=4)
    server = serve(GatewayService(meters, limits), limits=limits, strict=True)
    # At one device each call is of a connection of its own, and the first one runs.
    conns = [connect(server) for _ in range(6)] if where == "at one device" else [connect(server)] * 6
    devices = [
        conn.root.meter0 if where == "at one device" else conn.root.device(f"meter{number}")
        for number, conn in enumerate(conns)
    ]
    results = []
    for device in devices:
        results.append(gateway.async_(device.hold)())
        device.____conn__.ping()  # answered in order: by then the call has been accepted or refused
    for meter in meters.values():
        meter.gate.set()
    for result in results:
        result.wait()
    allowed = 5 if where == "at one device" else 4
    assert [result.error for result in results] == [False] * allowed + [True] * (6 - allowed)
    for result in results[allowed:]:
        with pytest.raises(Busy, match="nothing was done"):
            result.value  # noqa: B018


def test_a_device_goes_on_with_the_next_client_when_one_leaves_while_waiting(
    serve: Serve, connect: Connect, meters: dict[str, Meter]
) -> None:
    server = serve(GatewayService(meters), strict=True)
    first, leaver, last = (connect(server) for _ in range(3))
    held = gateway.async_(first.root.a.hold)()
    assert meters["a"].entered.wait(5)
    lost = gateway.async_(leaver.root.a.hold)()
    lane = meters["a"].gateway_lane
    assert eventually(lambda: lane.waiting == 1)
    kept = gateway.async_(last.root.a.read)()
    assert eventually(lambda: lane.waiting == 2)
    leaver.close()
    assert eventually(lambda: server.connections == 2)
    meters["a"].entered.clear()
    meters["a"].gate.set()
    assert held.value == "a"
    assert kept.value == "a"
    assert lost.error
    assert not meters["a"].entered.is_set(), "a call of a client that left is not made"


def test_callbacks_run_on_workers_and_with_nested_callbacks_in_the_thread_that_called(pair: Pair) -> None:
    class Caller(gateway.Service):
        def exposed_call(self, function: Callable[[], int]) -> int:
            return function()

    me = threading.get_ident()
    plain, _ = pair(there=Caller)
    assert plain.root.call(threading.get_ident) != me
    nested, _ = pair(there=Caller, config={"nested_callbacks": True})
    assert nested.root.call(threading.get_ident) == me
    inner = nested.root.call
    assert inner(lambda: inner(threading.get_ident)) == me


# -- third parties -----------------------------------------------------------------------------------------------------


def test_the_reading_thread_asks_a_third_party_nothing(serve: Serve, connect: Connect) -> None:
    """A gateway that hands on another gateway's object must not wait for its owner while it reads."""
    asked: list[str] = []

    class Backend(gateway.Service):
        def _rpyc_getattr(self, name: str) -> Any:
            asked.append(name)
            raise AttributeError(name)

    backend = connect(serve(Backend))

    class Front(gateway.Service):
        def exposed_backend(self) -> Any:
            return backend.root

    conn = connect(serve(Front, strict=True))
    proxy = conn.root.backend()
    asked.clear()
    for handler in (Handler.REPR, Handler.STR, Handler.HASH, Handler.DIR):
        conn.sync_request(handler, proxy)
    with pytest.raises(AccessDenied):
        conn.sync_request(Handler.GETATTR, proxy, "volts")
    assert asked == []


# -- the conversation --------------------------------------------------------------------------------------------------


def test_a_ping_is_answered_while_a_call_runs_and_whatever_its_size(
    serve: Serve, connect: Connect, meters: dict[str, Meter]
) -> None:
    conn = connect(serve(GatewayService(meters), strict=True))
    held = gateway.async_(conn.root.a.hold)()
    assert meters["a"].entered.wait(5)
    conn.ping(b"x" * 10)
    conn.ping(b"x" * 100_000)
    assert not held.done


def test_an_unknown_handler_and_wrong_arguments_are_errors_of_that_call(pair: Pair) -> None:
    conn, _ = pair(there=Troubled)
    for handler, args in (
        (99, ()),
        (Handler.GETATTR, (5, "x")),
        (Handler.INSPECT, (("a", 1, 2),)),
        (Handler.CLOSE, (1,)),
    ):
        with pytest.raises((TypeError, LookupError)):
            conn.sync_request(handler, *args)
    assert conn.root.fine() == "fine"


def test_instances_are_told_apart_and_a_stranger_is_no_instance(pair: Pair) -> None:
    class Kinds(gateway.Service):
        def exposed_kind(self) -> type:
            return Meter

        def exposed_make(self) -> Meter:
            return Meter()

        def exposed_other(self) -> Part:
            return Part(Meter())

    conn, _ = pair(there=Kinds)
    kind = conn.root.kind()
    assert isinstance(conn.root.make(), kind)
    assert not isinstance(conn.root.other(), kind)
    assert conn.sync_request(Handler.INSTANCECHECK, kind, ("tests.sync.test_calls.Meter", 98, 99)) is False


@pytest.mark.parametrize("quiet", [True, False], ids=["both-ours", "stock-peer"])
def test_a_release_is_answered_only_to_a_peer_that_did_not_say_it_wants_no_answer(pair: Pair, quiet: bool) -> None:
    class Maker(gateway.Service):
        def exposed_make(self) -> object:
            return object()

        def exposed_fine(self) -> str:
            return "fine"

    conn, remote = pair(there=Maker)
    root = conn.root
    assert conn._peer.quiet
    assert remote._peer.quiet
    conn._peer.quiet = remote._peer.quiet = quiet
    for _ in range(3):
        root.make()  # dropped at once: its release leaves in front of the next call
    before = conn.received
    assert root.fine() == "fine"
    assert eventually(lambda: len(remote._peer.boxing.loans) == 1 and not conn._outbox.unanswered_releases)
    assert conn.received - before == (1 if quiet else 2), "the call's answer, and that of the last release"


def test_releases_of_any_number_are_answered(pair: Pair) -> None:
    conn, remote = pair(there=Troubled)
    root = conn.root
    for times in (0, 1, 10**6):
        conn.note_release(("a.B", 1, 999), times)
    assert root.fine() == "fine"
    assert eventually(lambda: conn._outbox.unanswered_releases == 0)
    assert len(remote._peer.boxing.loans) == 1


def test_what_the_exceptions_of_one_call_do_stays_with_that_call(pair: Pair) -> None:
    conn, _ = pair(there=Troubled)
    root = conn.root
    for name, _ in itertools.product(("mute", "shut", "unicode"), range(3)):
        with pytest.raises(Exception):  # noqa: B017
            getattr(root, name)()
        assert root.fine() == "fine"
