"""What a device is: something on a gateway that can be opened, named, made safe and let go.

              open()                 the port vanishes
    closed ----------> open ------------------------> faulty
       ^                | ^                             | |
       |    close()     | |   open(), or the next call  | |
       +----------------+ +-----------------------------+ |
       +--------------------------------------------------+

A driver subclasses `Device`, names its config options in a struct, and marks what a client may reach with `@exposed`.
The gateway runs the calls of one device one at a time, so a driver needs no locks against its callers. Two things come
from other threads: `interrupt`, which makes a call that waits for the hardware end, and `resume` after it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from enum import StrEnum
from types import TracebackType
from typing import Any, ClassVar, Self

import msgspec

from gateway.errors import DeviceUnavailable, OutcomeUnknown
from gateway.service import permit
from gateway.service.exposure import Exposable, exposed, exposure_table


class DeviceOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The config options of a driver that has none. A driver's own struct inherits from it and adds fields."""


class State(StrEnum):
    """Whether a device can be used."""

    CLOSED = "closed"
    """Not opened yet, or let go."""
    OPEN = "open"
    """Reached, and last heard of in working order."""
    FAULTY = "faulty"
    """It could not be opened, or its port vanished. The next call tries to open it again."""


class Device(Exposable, ABC):
    """Base of all drivers.

    A subclass says how to reach its hardware (`_connect`, `_disconnect`), who it is (`identify`) and what its safe
    condition is (`make_safe`). It sets `Options` to the struct of its config options, and is built from a name and an
    instance of that struct.
    """

    Options: ClassVar[type[DeviceOptions]] = DeviceOptions
    idn_patterns: ClassVar[tuple[str, ...]] = ()
    """Which answers to `*IDN?` the driver is for, with `*` and `?`, in any case: `gateway adopt` proposes it then."""
    adopted_as: ClassVar[str] = ""
    """What such a device is called, with a number: `psu` for psu1, psu2."""
    transports: ClassVar[tuple[str, ...]] = ("serial",)
    """What its `port` may be: `serial`, `usbtmc` (a path such as `/dev/usbtmc0`), `socket` (`socket://HOST:PORT`)."""

    safe_state: ClassVar[str] = ""
    """What `make_safe` leads to, in words, such as `output off, 0 V`; empty where a device has no safe state of its
    own. By default controlling a device that has one takes a lease."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        _refuse_unmarked_overrides(cls)

    def __init__(self, name: str, options: DeviceOptions) -> None:
        self.name = name
        self.options = options
        self._state = State.CLOSED
        self._reached = False

    @property
    @exposed(access="read")
    def state(self) -> str:
        """`"closed"`, `"open"` or `"faulty"`. Does not talk to the device."""
        return self._state.value

    @abstractmethod
    @exposed(access="read")
    def identify(self) -> str:
        """What the device says it is, in one line. Raises DeviceUnavailable."""

    @abstractmethod
    @exposed(access="control")
    def make_safe(self) -> None:
        """Bring the device to its safe condition and check that it is there. Idempotent.

        Raises DeviceUnavailable when the device is closed or can't be reached, DeviceError when it did not obey.
        """

    @exposed(access="control")
    def transaction(self) -> Any:
        """`with device.transaction():` keeps other clients' calls from getting between those in the block.

        It ends after 10 s in any case; then the end of the block raises CallTimeout. Raises Busy while another client
        is in one.
        """
        visit = permit.current()
        entered = visit.transaction() if visit is not None else None
        return nullcontext() if entered is None else entered

    def interrupt(self, error: Exception) -> None:
        """Have the call that runs now end with `error` soon, if it waits for the hardware, and any that begins.

        Until `resume`. Called by other threads; does not wait. A driver whose calls can take long should do it. `error`
        has the fact `interrupted`: the port is in order and stays open.
        """

    def resume(self) -> None:
        """Calls may wait for the hardware again: to be called by who interrupted, when nothing runs any more."""

    def distrust(self) -> None:
        """Let go of the port and open it anew at the next call: nobody knows what a call that hung has left there."""
        if self._state is State.OPEN:
            self._disconnect()
            self._state = State.FAULTY

    def open(self) -> None:
        """Reach the device. Does nothing when it is open; lets go first and starts afresh when it is faulty.

        Raises DeviceUnavailable when it is not there or does not answer, and leaves it faulty.
        """
        if self._state is State.OPEN:
            return
        try:
            self._disconnect()
            self._connect()
        except BaseException:
            self._disconnect()
            self._state = State.FAULTY
            raise
        self._state = State.OPEN
        self._reached = True

    def close(self) -> None:
        """Make the device safe and let go of it. Idempotent; the port is free afterwards, also when this raises.

        Raises what `make_safe` raises: a device that was open and got lost may not be safe, and that has to be told.
        One that never could be opened is only let go of.
        """
        try:
            if self._reached:
                self.make_safe()
        finally:
            self.let_go()

    def let_go(self) -> None:
        """Let go of the device as it is. Idempotent; the port is free afterwards."""
        self._disconnect()
        self._state = State.CLOSED
        self._reached = False

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r} {self._state.value}>"

    @abstractmethod
    def _connect(self) -> None:
        """Open the port and see that the right device is there. Raises DeviceUnavailable."""

    @abstractmethod
    def _disconnect(self) -> None:
        """Let go of the port. Idempotent, allowed before `_connect`, never raises."""

    @contextmanager
    def _reaching(self) -> Iterator[None]:
        """Around every talk to the hardware: a faulty device is opened again first, a lost one becomes faulty.

        Raises DeviceUnavailable when the device is closed or still can't be opened; then nothing was done.
        """
        if self._state is State.CLOSED:
            raise DeviceUnavailable(f"{self.name} is closed; open it first", device=self.name)
        self.open()
        permit.check()
        try:
            yield
        except (DeviceUnavailable, OutcomeUnknown) as error:
            if not error.facts.get("interrupted"):
                self._disconnect()
                self._state = State.FAULTY
            raise


def _refuse_unmarked_overrides(cls: type) -> None:
    # The table of a class remembers the base's member under its prefixed name: an override without the mark would leave
    # the base's version reachable in its place.
    inherited = {name for base in cls.__mro__[1:] for name in exposure_table(base)}
    for name, member in vars(cls).items():
        marked = hasattr(member, "__exposed__") or hasattr(getattr(member, "fget", None), "__exposed__")
        if name in inherited and not marked:
            raise TypeError(f"{cls.__qualname__}.{name} overrides an exposed member: mark it with @exposed too")
