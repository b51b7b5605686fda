"""Station: what a gateway knows of one of its devices, and what it lets calls do with it.

A call is admitted member by member, in this order: the caller's role, whether the device can be used at all, the
emergency stop, the lease, the limits, the interlock. Reading needs the first two only. What is refused was not done.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from threading import Lock
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, Protocol, Self

from gateway.config.common import DeviceCommon
from gateway.errors import (
    AccessDenied,
    Busy,
    CallTimeout,
    ConfigError,
    DeviceUnavailable,
    GatewayError,
    Interlocked,
    LeaseLost,
    OutcomeUnknown,
    OutOfRange,
)
from gateway.identity.principal import Principal, explain
from gateway.server.interlock import Interlock, Read
from gateway.service.exposure import Access, Exposable, Exposure, Kind, exposed, exposure_table
from gateway.service.permit import Operation, Visit
from gateway.sync.calls import Calls, Task
from gateway.sync.connection import Connection
from gateway.sync.workers import WORKERS

if TYPE_CHECKING:
    from gateway.server.safety import SafeReport

DEADLINE_S: Final = 20.0
"""A call may take so long, unless the device's config or its driver says otherwise: less than clients wait (30 s)."""
TRANSACTION_S: Final = 10.0
_SAFE: Final = "make_safe"
"""The member that is never refused for want of a lease's devices being in order: it makes nothing worse."""


class Custodian(Protocol):
    """Who knows the leases."""

    def enter(self, device: str, key: int) -> int:
        """The number of the lease under which a call of `key` begins. Raises NotLeased and its kind."""

    def check(self, device: str, number: int) -> None:
        """Raises where that lease is over."""

    def leave(self, number: int) -> None:
        """The call is over."""

    def shown(self, device: str) -> dict[str, Any] | None:
        """Who has the device, for people; None where nobody has."""


@dataclass(frozen=True, slots=True)
class Caller:
    """A connection, and who is at its other end."""

    conn: Connection
    principal: Principal
    peer: str
    """Where it comes from, for people."""

    @property
    def key(self) -> int:
        """What distinguishes it from all other connections of this process."""
        return self.conn.token


@dataclass(frozen=True, slots=True)
class Bound:
    """One row of `limits`: `what` may be from `low` to `high`."""

    what: str
    position: int
    keyword: str
    low: float
    high: float
    unit: str

    def check(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Raises OutOfRange where the argument is given and is no number within the bounds."""
        if self.position < len(args):
            value = args[self.position]
        elif self.keyword in kwargs:
            value = kwargs[self.keyword]
        else:
            return
        if isinstance(value, int | float) and not isinstance(value, bool) and self.low <= value <= self.high:
            return
        raise OutOfRange(
            f"{self.what} must be from {self.low:g} to {self.high:g}{self.unit}, says the gateway's config, not"
            f" {value!r:.60}; nothing was done",
            low=self.low,
            high=self.high,
        )


class Station:
    """One device. `device` has a `gateway_lane`; `common` is what its config says beside the driver's options.

    Raises ConfigError for limits, a safe state or an interlock that do not fit the device.
    """

    def __init__(self, name: str, device: Any, common: DeviceCommon, custodian: Custodian | None = None) -> None:
        self.name = name
        self.device = device
        self.common = common
        self.custodian = custodian
        self.lane = device.gateway_lane
        self.lane.station = self
        self.safe_state = _safe_state(device, common)
        """What its safe state is, in words; empty where it has none."""
        self.needs_lease = bool(self.safe_state) if common.lease is None else common.lease
        self.deadline_s = common.deadline_s or getattr(device, "deadline_s", None) or DEADLINE_S
        self.interlock = None if common.allow is None else Interlock(common.allow)
        self.read: Read | None = None
        """Gives the readings that the interlock is about."""
        self._bounds = _bounds(name, device, common.limits)
        _check_safe_rows(name, device, common.safe)
        self.refusals: list[Callable[[], GatewayError | None]] = []
        """Each says why nothing may be controlled now, whatever the device: the emergency stop, a full disk."""
        self.absence: tuple[str, datetime] | None = None
        """Why the device can't be used, and since when."""
        self.at_host = False
        """The device is an instrument host's, reached over a line."""
        self.controller = 0
        """The key of who controlled something last."""
        self.active = False
        """Something was controlled since it was last made safe."""
        self.visit: DeviceVisit | None = None
        self.hung: DeviceVisit | None = None
        """A call that took too long, and runs still."""
        self.transaction: Transaction | None = None
        self.report: SafeReport | None = None
        """How it was made safe last."""
        self.gate = Lock()
        """Held for moments: to interrupt the device, or to begin to make it safe."""
        self.securing = False

    def follow(self, other: Station) -> None:
        """Take over what the config says from the station of the same device under another config."""
        self.common = other.common
        self.safe_state = other.safe_state
        self.needs_lease = other.needs_lease
        self.deadline_s = other.deadline_s
        self.interlock = other.interlock
        self._bounds = other._bounds

    # -- what a call may do -----------------------------------------------------------------------------------------

    def refuse_absent(self) -> None:
        """Raises DeviceUnavailable where nothing can be done with the device, not even read."""
        if self.common.disabled is not None:
            raise DeviceUnavailable(
                f"{self.name} is disabled: {self.common.disabled}; nothing was done", device=self.name, state="disabled"
            )
        if self.absence is not None:
            why, since = self.absence
            raise DeviceUnavailable(
                f"{self.name} has been missing since {shown_time(since)}: {why}; nothing was done",
                device=self.name,
                state="missing",
                since=shown_time(since),
            )
        hung = self.hung
        if hung is not None:
            raise DeviceUnavailable(
                f"{self.name}: a call of {hung.what} has not come back for {monotonic() - hung.began:.0f} s;"
                " nothing was done",
                device=self.name,
                state="faulty",
            )

    def refuse_now(self) -> None:
        """Raises for what forbids all control at the moment, whoever asks."""
        for refusal in self.refusals:
            error = refusal()
            if error is not None:
                raise error

    def check_values(self, operation: Operation, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Raises OutOfRange."""
        for bound in self._bounds.get((operation, name), ()):
            bound.check(args, kwargs)

    def check_interlock(self) -> None:
        """Raises Interlocked where the interlock does not hold."""
        term = self.failing_term()
        if term:
            raise Interlocked(
                f"{self.name} is interlocked: {term} does not permit it; nothing was done", device=self.name, term=term
            )

    def failing_term(self) -> str:
        """The part of the interlock that does not hold now; empty where all is well, or there is none."""
        if self.interlock is None:
            return ""
        if self.read is None:
            return f"{self.interlock.text} (nobody reads it)"
        return self.interlock.failing(self.read)

    # -- calls that take too long, or must end ----------------------------------------------------------------------

    def interrupt(self, why: str) -> None:
        """Make the call that runs now end soon, if it can be. Nothing to do while the device is being made safe."""
        error = OutcomeUnknown(
            f"{self.name}: the call was broken off ({why}); it may or may not have been carried out",
            device=self.name,
            interrupted=True,
        )
        with self.gate:
            if not self.securing:
                self._interrupt(error)

    def _interrupt(self, error: Exception) -> None:
        interrupt = getattr(self.device, "interrupt", None)
        if interrupt is not None and not isinstance(interrupt, property):
            interrupt(error)

    def resume(self) -> None:
        """Undo `interrupt`."""
        resume = getattr(self.device, "resume", None)
        if resume is not None:
            resume()

    def overdue(self, now: float) -> bool:
        """Give up a call that takes longer than the device's deadline; whether there was one."""
        visit = self.visit
        if visit is None or now - visit.began < self.deadline_s or self.hung is visit:
            return False
        self.hung = visit
        error = CallTimeout(
            f"{self.name}: {visit.what} took longer than {self.deadline_s:g} s and was given up; it may or may not have"
            " been carried out",
            device=self.name,
            timeout_s=self.deadline_s,
        )
        if not visit.task.abandon(error):
            self.hung = None  # it came to its end just now
            return False
        self.interrupt(f"it took longer than {self.deadline_s:g} s")
        return True

    def end_transaction(self, now: float) -> None:
        """End a transaction that takes too long, or whose client is gone."""
        transaction = self.transaction
        if transaction is not None and (now > transaction.until or transaction.is_orphaned):
            self.transaction = None
            transaction.end()

    def came_back(self, visit: DeviceVisit) -> None:
        """A call is over. One that was given up leaves the port in a state that nobody knows."""
        if self.visit is visit:
            self.visit = None
        if self.hung is visit:
            with self.gate:
                self.resume()
            distrust = getattr(self.device, "distrust", None)
            if distrust is not None:
                distrust()
            self.hung = None


class RootVisit(Visit):
    """A call of something that is no device: the gateway's root, a lease."""

    __slots__ = ("access", "caller")

    def __init__(self, caller: Caller) -> None:
        self.caller = caller
        self.access = Access.READ

    def admit(
        self, obj: Any, exposure: Exposure, operation: Operation, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        if exposure.access is not Access.READ:
            require(self.caller.principal, "the gateway", exposure.access)
            self.access = exposure.access

    def check(self) -> None:
        pass


class DeviceVisit(Visit):
    """A call of a device, or of something that a device handed out."""

    __slots__ = ("access", "args", "began", "caller", "number", "station", "task", "what")

    def __init__(self, station: Station, caller: Caller, task: Task) -> None:
        self.station = station
        self.caller = caller
        self.task = task
        self.access = Access.READ
        self.number = 0
        """Of the lease it runs under; 0 without one."""
        self.what = station.name
        self.args: tuple[tuple[Any, ...], dict[str, Any]] = ((), {})
        self.began = monotonic()
        station.visit = self

    def admit(
        self, obj: Any, exposure: Exposure, operation: Operation, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        station = self.station
        access = exposure.access
        if operation is Operation.SET and access is Access.READ:
            access = Access.CONTROL
        self.what = f"{station.name}.{exposure.name}"
        self.args = args, kwargs
        if access is Access.READ:
            if self.caller.principal.roles:
                require(self.caller.principal, station.name, access)
            station.refuse_absent()
            return
        self.access = access
        require(self.caller.principal, station.name, access)
        station.refuse_absent()
        is_device = obj is station.device
        if is_device and exposure.name == _SAFE:
            return
        station.refuse_now()
        if station.needs_lease and not self.number and station.custodian is not None:
            self.number = station.custodian.enter(station.name, self.caller.key)
        if is_device:
            station.check_values(operation, exposure.name, args, kwargs)
        if station.interlock is not None:
            station.check_interlock()
        station.controller = self.caller.key
        station.active = True

    def transaction(self) -> Transaction:
        station = self.station
        if not station.lane.reserve(self.task.calls):
            raise Busy(f"{station.name}: another client is in a transaction; nothing was done", device=station.name)
        station.transaction = Transaction(station.lane, self.task.calls)
        return station.transaction

    def check(self) -> None:
        station = self.station
        if self.number and station.custodian is not None:
            station.custodian.check(station.name, self.number)
        if station.hung is self:
            raise LeaseLost(
                f"{station.name}: the call was given up; nothing more is sent",
                device=station.name,
                by="the gateway",
                why="it took too long",
            )
        if self.access is not Access.READ and not self.what.endswith(_SAFE):
            station.refuse_now()


def require(principal: Principal, device: str, access: Access) -> None:
    """Raises AccessDenied where the principal's role does not permit that access."""
    allowed, rule = explain(principal, device, access.value)
    if not allowed:
        raise AccessDenied(f"{rule}; ask who runs the gateway for another role", rule="role", device=device)


def shown_time(moment: datetime) -> str:
    """A time for people and for JSON."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds")


class Transaction(Exposable):
    """A client's exclusive use of a device's lane, for a few seconds."""

    def __init__(self, lane: Any, client: Calls) -> None:
        self._lane = lane
        self._client = client
        self.until = monotonic() + TRANSACTION_S

    @exposed(access="read")
    def __enter__(self) -> Self:
        return self

    @exposed(access="read")
    def __exit__(self, *exc_info: object) -> None:
        self.end()

    @property
    def is_orphaned(self) -> bool:
        """Whether its client is gone."""
        return bool(self._client.is_over)

    def end(self) -> None:
        """Let the others have their turns. Idempotent."""
        following = self._lane.open_to_all(self._client)
        if following is not None:
            following.in_lane = True
            WORKERS.submit(following)


# -- what the config says must fit the device -------------------------------------------------------------------------


def _safe_state(device: Any, common: DeviceCommon) -> str:
    if common.safe:
        return ", ".join(f"{name} = {value}" for name, value in common.safe.items())
    return str(getattr(device, "safe_state", "") or "")


def _bounds(
    name: str, device: Any, limits: Mapping[str, tuple[float, float]]
) -> dict[tuple[Operation, str], tuple[Bound, ...]]:
    rows = exposure_table(device)
    found: dict[tuple[Operation, str], tuple[Bound, ...]] = {}

    def add(operation: Operation, member: str, bound: Bound) -> None:
        found[operation, member] = (*found.get((operation, member), ()), bound)

    for key, (low, high) in limits.items():
        member, dot, parameter = key.partition(".")
        row = rows.get(member)
        if dot:
            if row is None or row.kind is Kind.PROPERTY:
                raise ConfigError(f"limits of {name}: it has no method {member!r}", device=name)
            names = _parameters(device, row)
            if parameter not in names:
                known = ", ".join(names) or "none"
                raise ConfigError(
                    f"limits of {name}: {member} has no parameter {parameter!r}, only {known}", device=name
                )
            add(Operation.CALL, member, Bound(f"{name}.{key}", names.index(parameter), parameter, low, high, ""))
            continue
        setter = rows.get(f"set_{member}")
        if (row is None or not row.settable) and setter is None:
            raise ConfigError(f"limits of {name}: it has no property {member!r} that can be set", device=name)
        unit = f" {row.unit}" if row is not None and row.unit else ""
        if row is not None and row.settable:
            add(Operation.SET, member, Bound(f"{name}.{member}", 0, "", low, high, unit))
        if setter is not None:
            names = _parameters(device, setter)
            keyword = names[0] if names else ""
            add(Operation.CALL, setter.name, Bound(f"{name}.{member}", 0, keyword, low, high, unit))
    return found


def _parameters(device: Any, row: Exposure) -> list[str]:
    """The names of a method's parameters, in order."""
    try:
        return list(inspect.signature(getattr(device, row.attribute)).parameters)
    except (TypeError, ValueError):
        return []


def _check_safe_rows(name: str, device: Any, safe: Mapping[str, Any]) -> None:
    rows = exposure_table(device)
    for member in safe:
        row = rows.get(member)
        if row is None or row.kind is not Kind.PROPERTY or not row.settable:
            raise ConfigError(f"safe state of {name}: it has no property {member!r} that can be set", device=name)
