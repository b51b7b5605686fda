"""The ledger: how many bytes are in flight on a server, per host and in all.

In flight is what memory large messages take: while they come, until they are dealt with; as the arguments of a call
that waits for its turn; as an answer that waits until its peer reads. Small messages are not counted one by one: their
number is bounded.

    Ledger ── one per connection ──> Account <── take, give ── channel, calls and outbox of the connection
"""

from __future__ import annotations

from collections import Counter
from threading import Lock

from gateway.errors import LimitExceeded
from gateway.limits import Limits


class Ledger:
    """Keeps what all connections of a server hold within `in_flight_per_host` and `in_flight`."""

    def __init__(self, limits: Limits) -> None:
        self.per_host, self.in_all = (_for_what_stays(most) for most in (limits.in_flight_per_host, limits.in_flight))
        self.lock = Lock()
        self.by_host: Counter[str] = Counter()
        """Bytes in flight now, of each host that has any."""

    def open(self, host: str) -> Account:
        """The account of one more connection from `host`."""
        return Account(self, host)

    @property
    def total(self) -> int:
        """Bytes in flight now, of all hosts."""
        return self.by_host.total()


def _for_what_stays(limit: int) -> int:
    """A fifth is left for what is there for a moment only: pieces that are joined, what is not charged yet."""
    return limit * 4 // 5


class Account:
    """What one connection has in flight. Any thread may take and give."""

    __slots__ = ("_closed", "_held", "_host", "_ledger")

    def __init__(self, ledger: Ledger, host: str) -> None:
        self._ledger = ledger
        self._host = host
        self._held = 0
        self._closed = False

    def take(self, size: int) -> None:
        """Hold `size` bytes more. Raises LimitExceeded, and holds no more, where the host's or all are too many."""
        ledger = self._ledger
        with ledger.lock:
            if self._closed:
                return
            of_host, total = ledger.by_host[self._host] + size, ledger.total + size
            if of_host > ledger.per_host:
                raise LimitExceeded("in_flight_per_host", actual=of_host, allowed=ledger.per_host)
            if total > ledger.in_all:
                raise LimitExceeded("in_flight", actual=total, allowed=ledger.in_all)
            self._hold(size)

    def give(self, size: int) -> None:
        """Hold `size` bytes less."""
        with self._ledger.lock:
            if not self._closed:
                self._hold(-size)

    def close(self) -> None:
        """The connection is gone, and so is all that it held; what its threads still say is not counted. Idempotent."""
        with self._ledger.lock:
            self._hold(-self._held)
            self._closed = True

    def _hold(self, more: int) -> None:
        by_host = self._ledger.by_host
        self._held += more
        by_host[self._host] += more
        if not by_host[self._host]:
            del by_host[self._host]
