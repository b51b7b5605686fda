"""Leases from the client's side: `with conn.lease("psu1", "dmm1") as bench: bench.psu1.set_voltage(3.3)`."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from threading import Event, Lock
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, Self

from gateway.errors import Busy, GatewayError, LeaseConflict, LeaseLost, LinkDown
from gateway.sync.connection import _CLOSED_HERE
from gateway.sync.reactor import REACTOR
from gateway.sync.workers import WORKERS

if TYPE_CHECKING:
    from gateway.sync.connection import Connection

LEASE_VARIABLE: Final = "INSTRUMENT_GATEWAY_LEASE"
"""Environment variable with the token of a lease: its connections join it."""
LOOK_S: Final = 5.0
"""While waiting, the gateway is asked so often, in case that what it told got lost."""
BEATS: Final = 3
"""Heartbeats within the time in which one must come."""

OnWait = Callable[[int, float | None], Any]
"""`on_wait(position, seconds it will take as far as is known)`."""


class Lease:
    """The right to control some devices of a gateway. Made by `Connection.lease`; ends with `release()` or the `with`.

    Its devices are its attributes. `number` is its fencing number. When it is lost, each call that needs it raises
    LeaseLost, and `lost` says why.
    """

    def __init__(
        self,
        conn: Connection,
        devices: tuple[str, ...],
        *,
        wait: float | bool = True,
        soft: float | None = None,
        hard: float | None = None,
        force: str = "",
        ask: bool = False,
        program: str = "",
        on_wait: OnWait | None = None,
        on_ask: Callable[[str], bool] | None = None,
        on_lost: Callable[[LeaseLost], Any] | None = None,
    ) -> None:
        self.devices = devices
        self.number = 0
        self.lost: LeaseLost | None = None
        """Why it is over, if that was not this side's doing."""
        self._conn = conn
        self._on_wait, self._on_ask, self._on_lost = on_wait, on_ask, on_lost
        self._changed = Event()
        self._lock = Lock()
        self._released = False
        wait_s = -1.0 if wait is True else float(wait)
        self._handle: Any = conn.root.lease(
            *devices,
            wait_s=wait_s,
            soft_s=soft,
            hard_s=hard,
            who=identity(program),
            tell=self._told,
            force=force,
        )
        conn.on_lost.append(self._link_lost)
        try:
            if ask:
                self._ask()
            self._await_grant(None if wait_s < 0 else monotonic() + wait_s)
        except BaseException:
            with suppress(GatewayError):
                self.release()
            raise
        self._beat_every_s = (self._handle.status()["heartbeat_s"] or 0.0) / BEATS
        if self._beat_every_s:
            self._beat()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.release()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name not in self.devices:
            raise AttributeError(f"{name!r} is not among the devices of this lease: {', '.join(self.devices)}")
        return getattr(self._conn.root, name)

    def __getitem__(self, name: str) -> Any:
        """The device of that name, which may be `HOST.DEVICE`."""
        if name not in self.devices:
            raise KeyError(name)
        return self._conn.root.device(name)

    def __repr__(self) -> str:
        state = "released" if self._released else "lost" if self.lost else "held"
        return f"<Lease {self.number} of {', '.join(self.devices)} ({state})>"

    @property
    def token(self) -> str:
        """Lets other connections use this lease: see `join`. Raises LeaseLost."""
        return str(self._handle.token)

    def status(self) -> dict[str, Any]:
        """As the gateway sees it: see LeaseHandle.status."""
        return dict(self._handle.status())

    def touch(self) -> None:
        """Say that it is in use though nothing is called. Raises LeaseLost."""
        self._handle.touch()

    def release(self) -> None:
        """Give it back; the gateway brings the devices to their safe state. Idempotent."""
        with self._lock:
            if self._released:
                return
            self._released = True
        if not self._conn.closed:
            with suppress(ValueError):
                self._conn.on_lost.remove(self._link_lost)
            with suppress(LinkDown):
                self._handle.release()

    # -- waiting ----------------------------------------------------------------------------------------------------

    def _ask(self) -> None:
        """Ask who has the devices to hand them over; where nobody can be asked now, wait like everybody else."""
        with suppress(LeaseConflict, Busy):
            self._handle.ask()

    def _await_grant(self, deadline: float | None) -> None:
        while True:
            self._changed.clear()
            status = self._handle.status()
            if status["state"] in ("held", "asked"):
                self.number = int(status["number"])
                return
            if status["state"] == "ended":
                names = ", ".join(self.devices)
                raise LeaseConflict(f"{names}: {status['why']}", by=status["by"], why=status["why"])
            if self._on_wait is not None:
                self._on_wait(status["position"], status["estimate_s"])
            left = None if deadline is None else deadline - monotonic()
            self._changed.wait(LOOK_S if left is None else max(0.05, min(LOOK_S, left + 1.0)))

    # -- what the gateway tells -------------------------------------------------------------------------------------

    def _told(self, what: str, facts: dict[str, Any]) -> None:
        if what == "asked":
            WORKERS.submit(self._answer, str(facts["by"]))
        elif what == "ended":
            self._lose(str(facts["by"]), str(facts["why"]))
        self._changed.set()

    def _lose(self, by: str, why: str) -> None:
        with self._lock:
            if self._released or self.lost is not None:
                return
            self.lost = LeaseLost(f"the lease of {', '.join(self.devices)} is over: {why} (by {by})", by=by, why=why)
        if self._on_lost is not None and self.number:
            WORKERS.submit(self._on_lost, self.lost)

    def _link_lost(self, conn: Connection) -> None:
        """Without the connection there is no lease; the gateway sees that too."""
        if conn.lost_why != _CLOSED_HERE:
            self._lose("the link", conn.lost_why)
        self._changed.set()

    def _answer(self, by: str) -> None:
        """Somebody asks for it; without `on_ask` nothing is answered, and it goes over after the grace time."""
        if self._on_ask is not None:
            with suppress(GatewayError):
                if self._on_ask(by):
                    self._handle.agree()
                else:
                    self._handle.refuse()

    def _beat(self) -> None:
        if not self._released and self.lost is None and not self._conn.closed:
            self._conn.beat()
            REACTOR.call_later(self._beat_every_s, self._beat)


def identity(program: str = "") -> dict[str, Any]:
    """Who this program (or `program`) is, for others to see who has a device: `{program, host, pid}`."""
    own = os.path.basename(sys.argv[0] or "python") if sys.argv else "python"
    return {"program": program or own or "python", "host": socket.gethostname(), "pid": os.getpid()}


def join(conn: Connection, token: str) -> int:
    """Let `conn` use the lease of that token; its number. Raises NotLeased where there is none."""
    return int(conn.root.join_lease(token))
