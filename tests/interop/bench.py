"""What every server of the matrix offers: plain classes, made a Service by `peer_rpyc.py` and `peer_ours.py`."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

ALLOW: dict[str, Any] = {"allow_setattr": True}
"""The server's config: properties can be set, everything else is as it comes."""


class OverloadError(Exception):
    """A custom exception: a client knows it by its name only."""

    def __init__(self, message: str, reading: float) -> None:
        super().__init__(message)
        self.reading = reading


class Supply:
    """An instrument that goes by reference."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._volts = 0.0

    @property
    def exposed_volts(self) -> float:
        return self._volts

    @exposed_volts.setter
    def exposed_volts(self, volts: float) -> None:
        self._volts = volts

    def exposed_name(self) -> str:
        return self._name

    def secret(self) -> str:
        return "out of reach"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Supply) and self._name == other._name

    def __lt__(self, other: Any) -> bool:
        return bool(self._name < other._name)

    def __hash__(self) -> int:
        return 1234

    def __len__(self) -> int:
        return len(self._name)

    def __add__(self, volts: float) -> float:
        return self._volts + volts

    def __str__(self) -> str:
        return f"supply {self._name}"

    def __repr__(self) -> str:
        return f"Supply({self._name!r})"


class Inner:
    """The service behind the bench, reached through a connection of the server's own."""

    def __init__(self) -> None:
        self.supply = Supply("inner")

    def exposed_supply(self) -> Supply:
        return self.supply

    def exposed_is_supply(self, thing: Any) -> bool:
        return thing is self.supply

    def exposed_call(self, function: Callable[..., Any], *args: Any) -> Any:
        return function(*args)


class Bench:
    """The service itself. `peer` is the server's peer module; `tell` reports to whoever started the server."""

    peer: Any = None
    live: ClassVar[set[int]] = set()
    """The connections that are open, as the ids of their services."""
    exposed_LIMIT = 42
    exposed_Supply = Supply

    @staticmethod
    def tell(event: str, **facts: Any) -> None:
        """Replaced by the server's process."""

    def __init__(self) -> None:
        self._conn: Any = None
        self._supplies: dict[str, Supply] = {}
        self._inner: Any = None
        self._volts = 1.5
        self._lent: list[weakref.ref[Any]] = []
        self._log: list[str] = []

    def on_connect(self, conn: Any) -> None:
        self._conn = conn
        self.live.add(id(self))
        self.tell("connected", live=len(self.live))

    def on_disconnect(self, conn: Any) -> None:
        if self._inner is not None:
            self._inner.close()
        self.live.discard(id(self))
        self.tell("disconnected", live=len(self.live))

    # calls

    def exposed_add(self, left: Any, right: Any = 10) -> Any:
        return left + right

    def exposed_echo(self, value: Any) -> Any:
        return value

    def exposed_arguments(self, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        return args, tuple(sorted(kwargs.items()))

    def exposed_named(self, *, volts: float, amps: float = 0.5) -> tuple[float, float]:
        return volts, amps

    @property
    def exposed_volts(self) -> float:
        return self._volts

    def exposed_count(self, data: bytes) -> int:
        return len(data)

    def exposed_type_of(self, value: Any) -> str:
        return type(value).__name__

    def exposed_wait(self, seconds: float) -> str:
        threading.Event().wait(seconds)
        return "waited"

    def exposed_pid(self) -> int:
        return os.getpid()

    # objects

    def exposed_supply(self, name: str) -> Supply:
        return self._supplies.setdefault(name, Supply(name))

    def exposed_is_supply(self, thing: Any, name: str) -> bool:
        return thing is self._supplies[name]

    def exposed_numbers(self, stop: int) -> list[int]:
        return list(range(stop))

    def exposed_table(self) -> dict[str, int]:
        return {"a": 1, "b": 2}

    def exposed_stream(self, stop: int) -> Iterator[int]:
        yield from range(stop)

    def exposed_total(self, numbers: Any) -> int:
        return sum(numbers)

    def exposed_lend(self) -> Supply:
        lent = Supply("lent")
        self._lent.append(weakref.ref(lent))
        return lent

    def exposed_lent(self) -> int:
        return sum(reference() is not None for reference in self._lent)

    def exposed_describe(self, thing: Any) -> tuple[str, int, tuple[str, ...]]:
        return str(thing), hash(thing), tuple(name for name in dir(thing) if name.startswith("exposed_"))

    # callbacks

    def exposed_call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    def exposed_catch(self, function: Callable[[], Any]) -> str:
        try:
            function()
        except ValueError as error:
            return f"caught {error.args[0]}"
        return "nothing to catch"

    def exposed_call_later(self, function: Callable[[int], Any], times: int) -> None:
        later = self.peer.async_(function)

        def call() -> None:
            for number in range(times):
                later(number)

        threading.Thread(target=call, daemon=True).start()

    # exceptions and context managers

    def exposed_divide(self, number: float, by: float) -> float:
        return number / by

    def exposed_overload(self) -> None:
        raise OverloadError("too much", 99.5)

    def exposed_stop(self) -> None:
        raise StopIteration

    @contextmanager
    def exposed_output(self, volts: float) -> Iterator[float]:
        self._log.append("on")
        try:
            yield volts * 2
        except Exception:
            self._log.append("tripped")
            raise
        finally:
            self._log.append("off")

    def exposed_log(self) -> tuple[str, ...]:
        return tuple(self._log)

    # other connections, and the end of this one

    def exposed_inner(self) -> Any:
        """The root of a service behind this one: a netref of the server's own, handed on."""
        if self._inner is None:
            self._inner = self.peer.connect_inner(Inner)
        return self._inner.root

    def exposed_hang_up(self) -> None:
        threading.Thread(target=self.peer.close, args=(self._conn,), daemon=True).start()
