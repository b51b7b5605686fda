"""What the cases of the matrix stand on: the session they are run in, and their list."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final, NamedTuple

KIB = 1024


class Session:
    """A client under test and its connection, opened at first use."""

    def __init__(self, peer: Any, url: str) -> None:
        self.peer = peer
        self.url = url
        self.is_serial = url.startswith("serial:")
        self._conn: Any = None

    @property
    def conn(self) -> Any:
        if self._conn is None:
            self._conn = self.peer.connect(self.url)
        return self._conn

    @property
    def root(self) -> Any:
        return self.conn.root

    @property
    def big(self) -> int:
        """Bytes of a big payload: what a serial line carries in about the time TCP carries sixteen times as much."""
        return 64 * KIB if self.is_serial else 1024 * KIB

    def forget(self) -> None:
        """Let the next case connect anew."""
        self._conn = None


class Case(NamedTuple):
    run: Callable[[Session], None]
    serial: bool
    """Whether it can be run on a serial line too."""


CASES: Final[dict[str, Case]] = {}


def case(*, serial: bool = True) -> Callable[[Callable[[Session], None]], Callable[[Session], None]]:
    def register(run: Callable[[Session], None]) -> Callable[[Session], None]:
        CASES[run.__name__] = Case(run, serial)
        return run

    return register


def raised(expected: type[BaseException], function: Callable[..., Any], *args: Any) -> Any:
    """The exception of that class which the call raises; AssertionError when it raises none."""
    try:
        function(*args)
    except expected as error:
        return error
    raise AssertionError(f"{expected.__name__} was not raised")


def eventually(condition: Callable[[], object], within_s: float = 5.0) -> bool:
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline:
            return False
    return True
