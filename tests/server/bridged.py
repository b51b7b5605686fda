"""A gateway, an instrument host behind it, and devices for that host which count what is done to them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, Self
from weakref import WeakSet

import gateway
from gateway.errors import LinkDown
from gateway.server.bridge import Host
from gateway.server.registry import GatewayService
from gateway.service.exposure import Exposable, exposed

PATIENCE_S = 10.0


def wait_until(condition: Callable[[], bool], what: str, within_s: float = PATIENCE_S) -> None:
    """Poll until `condition` holds; fail naming `what` otherwise."""
    deadline = monotonic() + within_s
    pause = threading.Event()
    while not condition():
        assert monotonic() < deadline, f"not within {within_s:g} s: {what}"
        pause.wait(0.002)


class Trace(Exposable):
    """What a meter recorded."""

    def __init__(self, points: list[float]) -> None:
        self.points = points

    @exposed(access="read")
    @property
    def size(self) -> int:
        """How many points."""
        return len(self.points)

    @exposed(access="read")
    def total(self) -> float:
        """Their sum."""
        return sum(self.points)

    @exposed
    def __enter__(self) -> Self:
        return self

    @exposed
    def __exit__(self, kind: object, error: object, traceback: object) -> bool:
        self.points.append(-1.0)
        return isinstance(error, KeyError)

    def secret(self) -> str:
        return "hidden"


class Meter(Exposable):
    """A meter that counts.

    With more to say.
    """

    state = "open"

    def __init__(self) -> None:
        self.calls = 0
        self.reads = 0
        self._range = 1.0
        self.listener: Any = None
        self.noted: list[str] = []
        self.traces: WeakSet[Trace] = WeakSet()
        self.entered = threading.Event()
        self.release = threading.Event()

    @exposed(unit="V")
    @property
    def voltage(self) -> float:
        """The voltage."""
        self.reads += 1
        return 1.5

    @exposed(unit="V")
    @property
    def range(self) -> float:
        """The range."""
        return self._range

    @range.setter
    def range(self, volts: float) -> None:
        self._range = volts

    @exposed(access="admin")
    def calibrate(self, points: int = 3, *, fast: bool = False) -> str:
        """Adjust.

        Takes a while.
        """
        return f"{points} {fast}"

    @exposed
    def count(self) -> int:
        """One more."""
        self.calls += 1
        return self.calls

    @exposed
    def echo(self, *args: Any, **kwargs: Any) -> Any:
        return (*args, kwargs) if kwargs else args[0]

    @exposed
    def note(self, who: str) -> None:
        self.noted.append(who)

    @exposed
    def block(self) -> str:
        """Until `release` is set."""
        self.calls += 1
        self.entered.set()
        self.release.wait(PATIENCE_S)
        return "done"

    @exposed
    def each(self, function: Any, count: int) -> list[Any]:
        return [function(number) for number in range(count)]

    @exposed
    def listen(self, listener: Any) -> None:
        self.listener = listener

    @exposed
    def listened(self) -> Any:
        return self.listener

    @exposed
    def trace(self, *points: float) -> Trace:
        made = Trace(list(points))
        self.traces.add(made)
        return made

    @exposed
    def kind_of(self, thing: Any) -> str:
        return type(thing).__name__

    @exposed
    def samples(self, count: int) -> Iterator[int]:
        for number in range(count):
            self.calls += 1
            yield number

    @exposed
    def fail(self, kind: str) -> None:
        raise ERRORS[kind]


ERRORS: dict[str, Exception] = {
    "value": ValueError("no such range"),
    "zero": ZeroDivisionError("division by zero"),
    "os": OSError("[Errno 5] it smokes"),
    "range": gateway.errors.OutOfRange("psu1.voltage must be from 0 to 12 V", highest=12.0),
    "device": gateway.errors.DeviceError("-222 Data out of range", number=-222),
    "unknown": gateway.errors.OutcomeUnknown("the instrument's own line broke"),
    "away": gateway.errors.DeviceUnavailable("dmm1 is unplugged"),
}


@dataclass
class Bench:
    """One host behind one gateway. Everything can be stopped, started and cut."""

    stack: ExitStack
    url: str
    devices: Mapping[str, Any] = field(default_factory=lambda: {"dmm1": Meter(), "psu1": Meter()})
    host: Any = None
    front: Any = None
    front_service: Any = None
    bridge: Any = None

    def start(self) -> Bench:
        self.start_host()
        self.start_gateway()
        assert self.bridge.wait_up(PATIENCE_S)
        return self

    def start_host(self, service: Any = None, **how: Any) -> None:
        served = GatewayService(self.devices) if service is None else service
        self.host = gateway.Server(served, self.url, **{"strict": True, **how})
        self.host.start()
        self.url = self.host.url
        self.stack.callback(self.host.close)

    def stop_host(self) -> None:
        """As if its process had ended: nobody says goodbye."""
        self.host._closed = True  # whose line is cut first would come back, while others are still to be cut
        self.cut()
        self.host.close()

    def cut(self) -> None:
        """The line breaks under all connections."""
        for conn in list(self.host._connections):
            conn.abandon(LinkDown("cut"))

    def start_gateway(self, local: Mapping[str, Any] | None = None, **how: Any) -> None:
        self.bridge = Host("bench2", self.url, **how)
        self.stack.callback(self.bridge.close)
        self.bridge.start()
        self.front_service = GatewayService(local or {}, hosts=[self.bridge])
        self.front = gateway.Server(self.front_service, "tcp://127.0.0.1:0", strict=True)
        self.front.start()
        self.stack.callback(self.front.close)

    def client(self, service: Any = gateway.VoidService) -> gateway.Connection:
        conn = gateway.connect(self.front.url, service, {"sync_request_timeout": PATIENCE_S})
        self.stack.callback(conn.close)
        return conn

    def wait_away(self) -> None:
        wait_until(lambda: not self.bridge.is_up, "the gateway noticed")
