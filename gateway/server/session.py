"""Session: a host as it is reached now, from the first answer until its line is lost.

One connection controls: it asks what there is, and whether the host is still there. Each device has a connection of its
own, opened when it is first called, so that its transfers hold up no other device's calls. Where the trunk takes one
channel only, all share one connection.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from datetime import UTC, datetime
from threading import Event, Lock
from typing import Any, Final

from gateway.channels import Trunk
from gateway.errors import AccessDenied, CallTimeout, GatewayError, LinkDown, NotFound, ProtocolError
from gateway.limits import Limits
from gateway.server.border import ANSWER_S, Border, answer
from gateway.server.described import Summary, summaries
from gateway.server.ledger import Ledger
from gateway.server.relay import Neighbour
from gateway.service.service import VoidService
from gateway.sync.connection import Connection
from gateway.sync.netref import BaseNetref
from gateway.sync.reactor import REACTOR
from gateway.sync.workers import WORKERS

FIRST_S: Final = 1.0
"""The first answer on a line without an end of file: it must be asked for again if the host was not there yet."""
DEAD_S: Final = 4.0
DEAD_SHARED_S: Final = 30.0
"""A host that says nothing for so long is away. Where one connection is all there is, a large answer may be in front of
the one that is waited for."""
LINES: Final = 12
LINES_OF_THEIR_OWN: Final = 6
"""Connections for devices, to one host. It takes 16 of one peer. Where each has a way of its own, the host may not know
yet that those of the last session are gone."""
CLOSE_S: Final = 1.0


class Line:
    """A connection that one or several devices of a host share. `open_border` makes it, when it is needed."""

    def __init__(self, open_border: Callable[[], Border]) -> None:
        self._open = open_border
        self._lock = Lock()
        self._border: Border | None = None

    def border(self) -> Border:
        """Its connection, opened anew where there is none. Raises GatewayError."""
        with self._lock:
            if self._border is None or self._border.conn.closed:
                self._border = self._open()
            return self._border

    def close(self) -> None:
        """Say goodbye and close it."""
        with self._lock:
            if self._border is not None:
                self._border.conn.close()

    def abandon(self, reason: str) -> None:
        """Close it without a word."""
        with self._lock:
            if self._border is not None:
                self._border.conn.abandon(LinkDown(reason))


class Session:
    """What is known of a host, and the ways to it.

    A channel of `trunk` must open within `open_s` seconds. Making a session raises GatewayError where the host does not
    answer.
    """

    def __init__(self, host: Neighbour, trunk: Trunk, limits: Limits, ledger: Ledger, *, open_s: float) -> None:
        self.host = host
        self._trunk = trunk
        self._open_s = open_s
        self._limits = limits
        self._ledger = ledger
        self.ended = Event()
        """Set when the host is away."""
        self.reason = ""
        self.began_at = self.ended_at = datetime.now(UTC)
        self._asking = Lock()
        self._lines: list[Line] = []
        self.control = self._open_border(self._end)
        most = trunk.channels_at_most
        self.shared = most == 1
        """Whether there is one connection for everything."""
        lines = LINES_OF_THEIR_OWN if most is None else min(LINES, most - 1)
        self._lines = [Line(self._open_border) for _ in range(lines)]
        try:
            self._root: BaseNetref = self.control.conn.root
            self.devices: dict[str, Summary] = self._describe_all(ANSWER_S)
        except BaseException as error:
            self.control.conn.abandon(LinkDown("the host's devices could not be asked for"))
            if isinstance(error, AccessDenied | AttributeError):
                raise ProtocolError("what answers there is no instrument host: it has no describe()") from error
            raise

    # -- devices ----------------------------------------------------------------------------------------------------

    def reach(self, device: str) -> tuple[Border, BaseNetref]:
        """The way to a device, and its proxy. Raises GatewayError; then nothing was done."""
        border = self._border_for(device)
        return border, border.device(device)

    def describe(self, device: str) -> Any:
        """What the host says about one device. Raises GatewayError."""
        return answer(self.control.conn, self._root, "describe", (device,), ANSWER_S)

    def refresh(self, within_s: float) -> bool:
        """Ask anew in which state the devices are; whether there are others than before. Raises GatewayError."""
        if not self._asking.acquire(blocking=False):
            return False  # somebody else is at it
        try:
            before, self.devices = self.devices, self._describe_all(within_s)
        finally:
            self._asking.release()
        return before.keys() != self.devices.keys()

    def _describe_all(self, within_s: float) -> dict[str, Summary]:
        said = answer(self.control.conn, self._root, "describe", (), within_s)
        return summaries(said, self.host.name)

    def _border_for(self, device: str) -> Border:
        if not self._lines:
            return self.control
        place = list(self.devices).index(device) if device in self.devices else 0
        return self._lines[place % len(self._lines)].border()

    # -- connections ------------------------------------------------------------------------------------------------

    def _open_border(self, lost: Callable[[Connection], None] | None = None) -> Border:
        channel = self._trunk.open(self._open_s)
        first_s = max(ANSWER_S, self._open_s) if channel.ends_with_eof else FIRST_S
        config = {"connid": f"host {self.host.name}", "sync_request_timeout": first_s}
        conn = Connection(VoidService(), channel, config, limits=self._limits, strict=True)
        conn.calls.account = account = self._ledger.open(self.host.name)
        channel.charge_to(account)

        def gone(conn: Connection) -> None:
            conn.calls.forget()
            account.close()
            if lost is not None:
                lost(conn)

        conn.on_lost.append(gone)
        REACTOR.add(conn)
        try:
            _ = conn.root
        except BaseException:
            conn.abandon(LinkDown("the host did not answer"))
            raise
        # A device takes the time it needs, as it does where it is served; a host that hangs is found by `check`.
        conn.config["sync_request_timeout"] = None
        if self.ended.is_set():  # meanwhile
            conn.abandon(LinkDown(self.reason))
            raise LinkDown(self.reason)
        return Border(self.host, conn, self._limits)

    # -- the end ----------------------------------------------------------------------------------------------------

    def check(self) -> None:
        """See that the host is there and is the same; ends the session otherwise."""
        conn = self.control.conn
        received = conn.received
        try:
            answer(conn, self._root, "get_service_name", (), DEAD_SHARED_S if self.shared else DEAD_S)
        except NotFound:
            self.end("the host was started anew")
        except CallTimeout as error:
            if conn.received == received:
                self.end(f"the host does not answer: {error}")
        except LinkDown as error:
            self.end(str(error))
        except GatewayError:
            pass  # an answer is an answer

    def end(self, reason: str) -> None:
        """The host is away. Idempotent."""
        self.control.conn.abandon(LinkDown(reason))

    def _end(self, conn: Connection) -> None:
        try:
            conn.serve(0)
        except LinkDown as error:
            self.reason = str(error)
        self.ended_at = datetime.now(UTC)
        self.ended.set()
        for line in self._lines:  # by workers: somebody may be opening one
            WORKERS.submit(line.abandon, self.reason)

    def close(self) -> None:
        """Leave the host, which takes back what it lent; within about a second. Idempotent."""
        done = Event()
        WORKERS.submit(self._close, done)
        done.wait(CLOSE_S)
        self.end("closed by this side")

    def _close(self, done: Event) -> None:
        with contextlib.suppress(Exception):
            for line in self._lines:
                line.close()
            self.control.conn.close()
        done.set()
