"""Reception: each connection of a gateway is met here. Who is it, and under which permit does each of its calls run?"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import Final

from gateway.channels.base import Channel
from gateway.errors import AccessDenied, GatewayError
from gateway.server.admission import Admission
from gateway.server.audit import AuditLog, Entry, shown_arguments
from gateway.server.keeper import Keeper
from gateway.server.station import Caller, DeviceVisit, RootVisit
from gateway.service.exposure import Access
from gateway.service.permit import Visit
from gateway.sync.calls import Task
from gateway.sync.connection import Connection

_log: Final = logging.getLogger(__name__)
_READ: Final = Access.READ
NOTED: Final = frozenset({"estop", "lease", "join_lease", "release", "agree", "refuse", "ask"})
"""What is written down though it takes no more than the right to read: who has what, and who pressed the button."""


class Reception:
    """Meets the connections of one server. `admission` knows who they are, `audit` is the log in which calls that
    control something are written down, and those that are refused.
    """

    def __init__(self, keeper: Keeper, admission: Admission | None = None, audit: AuditLog | None = None) -> None:
        self._keeper = keeper
        self._admission = admission or Admission()
        self._audit = audit

    def introduce(self, conn: Connection, channel: Channel) -> None:
        """Find out who is there, and watch over what they do. Raises Unauthenticated, ConfigError."""
        principal = self._admission.enter(conn, channel)
        endpoints = channel.endpoints
        peer = _shown(endpoints[1]) if endpoints else str(principal)
        caller = Caller(conn, principal, peer, None if self._audit is None else partial(self._write, self._audit))
        conn.config["credentials"] = principal
        conn.calls.open_visit = _visits_of(caller)
        conn.on_lost.append(lambda conn: self._keeper.client_lost(caller, conn.lost_why))

    def _write(self, audit: AuditLog, visit: DeviceVisit | RootVisit, error: BaseException | None) -> None:
        noted = isinstance(visit, RootVisit) and visit.member in NOTED
        if not noted and visit.access is _READ and not isinstance(error, AccessDenied):
            return
        entry = Entry(
            identity=visit.caller.principal.name,
            peer=visit.caller.peer,
            device=visit.station.name if isinstance(visit, DeviceVisit) else "",
            method=visit.member,
            arguments=shown_arguments(visit.args, visit.kwargs or {}),
            outcome=_outcome(error),
            duration_s=monotonic() - visit.began,
            number=visit.number or None if isinstance(visit, DeviceVisit) else None,
        )
        try:
            audit.write(entry)
        except GatewayError as problem:
            _log.error("a call was not written down: %s", problem)


def _visits_of(caller: Caller) -> Callable[[Task], Visit]:
    def visit(task: Task) -> Visit:
        lane = task.lane
        if lane is None or lane.station is None:
            return RootVisit(caller)
        return DeviceVisit(lane.station, caller, task)

    return visit


def _outcome(error: BaseException | None) -> str:
    if error is None:
        return "ok"
    return error.code if isinstance(error, GatewayError) else type(error).__name__


def _shown(address: object) -> str:
    return f"{address[0]}:{address[1]}" if isinstance(address, tuple) and len(address) > 1 else str(address)
