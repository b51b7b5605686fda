"""Visits: what one call of a peer may do, asked where it enters and again where its commands leave for the hardware.

The gateway opens a `Visit` for each call that it runs for a peer; while the call runs it is the thread's current one.
The policy asks it to `admit` each member that the call reaches. A driver calls `check()` right before it sends a
command: a call whose lease ended while it ran sends nothing more. Where no visit is current, as in a script that uses a
driver by itself, everything is permitted.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import Any

from gateway.errors import GatewayError
from gateway.service.exposure import Access, Exposure


class Operation(StrEnum):
    """What is done with a member."""

    GET = "get"
    SET = "set"
    CALL = "call"


class Visit(ABC):
    """One call of a peer, for as long as it runs. `access` is the highest that was asked for so far."""

    __slots__ = ()
    access: Access

    @abstractmethod
    def admit(
        self, obj: Any, exposure: Exposure, operation: Operation, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        """Raises the GatewayError for which this call must not reach that member now; then nothing was done."""

    def transaction(self) -> Any:
        """A `with` block for the client: nobody else's calls of the device get between its own. None where none can."""
        return None

    @abstractmethod
    def check(self) -> None:
        """Raises the GatewayError for which no command of this call may leave any more. Called often: must be quick."""

    @abstractmethod
    def close(self, error: BaseException | None) -> None:
        """The call is over; `error` is what it raised."""


class _Here(threading.local):
    visit: Visit | None = None


here = _Here()
"""`here.visit` is the visit that this thread runs. Who sets it, sets it back: see `visiting`."""


def current() -> Visit | None:
    """The visit that this thread runs."""
    return here.visit


def check() -> None:
    """To be called by whatever sends to hardware, right before.

    Raises what `Visit.check` raises, with the fact `interrupted`: the port is in order and stays open.
    """
    visit = here.visit
    if visit is not None:
        try:
            visit.check()
        except GatewayError as refused:
            refused.facts["interrupted"] = True
            raise


@contextmanager
def visiting(visit: Visit | None) -> Iterator[None]:
    """Make `visit` this thread's current one; None for what the gateway does by itself."""
    outer, here.visit = here.visit, visit
    try:
        yield
    finally:
        here.visit = outer
