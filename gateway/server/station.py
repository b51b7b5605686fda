"""Station: what a gateway knows of one of its devices, and what it lets calls do with it.

A call is admitted member by member, in this order: the caller's role, whether the device can be used at all, the
emergency stop, the lease, the limits, the interlock. Reading needs the first two only. What is refused was not done.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from threading import Lock
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, Protocol, Self

from gateway.config.common import DeviceCommon
from gateway.errors import (
    AccessDenied,
    Busy,
    CallTimeout,
    DeviceMissing,
    DeviceUnavailable,
    GatewayError,
    Interlocked,
    OutcomeUnknown,
)
from gateway.identity.principal import Principal, Role, explain
from gateway.server.bounds import Bound, bounds_of, check_safe_rows, safe_state_of
from gateway.server.interlock import Interlock, Read
from gateway.server.leasing.claims import State
from gateway.service.exposure import Access, Exposable, Exposure, exposed
from gateway.service.permit import Operation, Visit
from gateway.sync.calls import Calls, Task
from gateway.sync.connection import Connection
from gateway.sync.workers import WORKERS

if TYPE_CHECKING:
    from gateway.server.leasing import Lease
    from gateway.server.safety import SafeReport

_log: Final = logging.getLogger(__name__)

DEADLINE_S: Final = 20.0
"""A call may take so long, unless the device's config or its driver says otherwise: less than clients wait (30 s)."""
TRANSACTION_S: Final = 10.0
MAX_ROLES: Final = 1024
"""Roles that are remembered of a caller."""
_OBSERVE, _OPERATE, _ADMIN = (int(role) for role in (Role.OBSERVE, Role.OPERATE, Role.ADMIN))
# Looking a member of an enum up in its class takes longer than all the rest that is done with it.
_READ, _CONTROL, _SET = Access.READ, Access.CONTROL, Operation.SET
_ENDED: Final = State.ENDED
_SAFE: Final = "make_safe"
"""The member that is never refused for want of a lease's devices being in order: it makes nothing worse."""


class Custodian(Protocol):
    """Who knows the leases."""

    def enter(self, device: str, key: int, now: float) -> Lease:
        """The lease under which a call of `key` begins. Raises NotLeased and its kind."""

    def check(self, device: str, number: int) -> None:
        """Raises where that lease is over."""

    def shown(self, device: str) -> dict[str, Any] | None:
        """Who has the device, for people; None where nobody has."""


class Alarm(Protocol):
    """Who knows whether the emergency stop is latched."""

    stopped: Any
    """Not None while it is."""

    def refusal(self) -> GatewayError | None:
        """The error for every attempt to control something meanwhile."""


class _Silent:
    stopped = None

    def refusal(self) -> None:
        """Nobody has raised it."""


@dataclass(frozen=True, slots=True)
class Caller:
    """A connection, and who is at its other end."""

    conn: Connection
    principal: Principal
    peer: str
    """Where it comes from, for people."""
    note: Callable[[Any, BaseException | None], None] | None = None
    """Told of each visit that is over, and how it ended, if anybody writes that down."""
    key: int = field(init=False, compare=False)
    """What distinguishes it from all other connections of this process."""
    roles: dict[str, int] = field(default_factory=dict, compare=False, repr=False)
    """Its role by device, as far as it was asked for: a principal never changes."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "key", self.conn.token)

    def role(self, device: str) -> int:
        """Its role on the device."""
        role = int(self.principal.role(device))
        if len(self.roles) < MAX_ROLES:
            self.roles[device] = role
        return role


class Station:
    """One device. `device` has a `gateway_lane`; `common` is what its config says beside the driver's options.

    `on_trial` is one that no call ever meets: it only shows whether a config fits. Raises ConfigError for limits, a
    safe state or an interlock that do not fit the device.
    """

    def __init__(
        self,
        name: str,
        device: Any,
        common: DeviceCommon,
        custodian: Custodian | None = None,
        *,
        on_trial: bool = False,
    ) -> None:
        self.name = name
        self.device = device
        self.common = common
        self.custodian = custodian
        self.lane = device.gateway_lane
        if not on_trial:
            self.lane.station = self
        self.safe_state = safe_state_of(device, common)
        """What its safe state is, in words; empty where it has none."""
        self.is_disabled = common.disabled is not None
        self.needs_lease = bool(self.safe_state) if common.lease is None else common.lease
        self.deadline_s = common.deadline_s or getattr(device, "deadline_s", None) or DEADLINE_S
        self.interlock = None if common.allow is None else Interlock(common.allow)
        self.read: Read | None = None
        """Gives the readings that the interlock is about."""
        self.bounds = bounds_of(name, device, common.limits)
        check_safe_rows(name, device, common.safe)
        self.alarm: Alarm = _Silent()
        """The emergency stop, for which not even a call that has begun may go on."""
        self.refusals: list[Callable[[], GatewayError | None]] = []
        """Each says why nothing may be controlled now, whatever the device: a full disk."""
        self.absence: tuple[str, datetime] | None = None
        """Why the device can't be used, and since when."""
        self.at_host = False
        """The device is an instrument host's, reached over a line."""
        self.controller = 0
        """The key of who controlled something last."""
        self.active = False
        """Something was controlled since it was last made safe."""
        self.visit: Occupant | None = None
        """Who is in the lane."""
        self.lease: Lease | None = None
        """Under which it was last controlled; it may be over."""
        self.used_at = -math.inf
        """When the last call that had a lease was over."""
        self.hung: Occupant | None = None
        """Who took too long, was given up, and has not come back."""
        self.transaction: Transaction | None = None
        self.report: SafeReport | None = None
        """How it was made safe last."""
        self.owed = ""
        """Why it may not be in its safe state though it should be: nothing is controlled until it is."""
        self.gate = Lock()
        """Held for moments: to interrupt the device, to begin to make it safe, and when somebody leaves it."""
        self.securing: object = None
        """What made it safe last, or does it now."""
        self.waits: object = None
        """What will make the device safe, as long as it waits for its turn."""

    def follow(self, other: Station) -> None:
        """Take over what the config says from the station of the same device under another config."""
        self.common = other.common
        self.is_disabled = other.is_disabled
        self.safe_state = other.safe_state
        self.needs_lease = other.needs_lease
        self.deadline_s = other.deadline_s
        self.interlock = other.interlock
        self.bounds = other.bounds

    # -- what a call may do -----------------------------------------------------------------------------------------

    def refuse_absent(self) -> None:
        """Raises DeviceUnavailable where nothing can be done with the device, not even read."""
        if self.common.disabled is not None:
            raise DeviceUnavailable(
                f"{self.name} is disabled: {self.common.disabled}; nothing was done", device=self.name, state="disabled"
            )
        if self.absence is not None:
            why, since = self.absence
            raise DeviceMissing(
                f"{self.name} has been missing since {shown_time(since)}: {why}; nothing was done",
                device=self.name,
                state="missing",
                since=shown_time(since),
                reason=why,
            )
        hung = self.hung
        if hung is not None:
            raise DeviceUnavailable(
                f"{self.name}: a call of {hung.what} has not come back for {monotonic() - hung.began:.0f} s;"
                " nothing was done",
                device=self.name,
                state="faulty",
            )

    def refuse_owed(self) -> None:
        """Raises DeviceUnavailable where the device could not be made safe when it should have been."""
        if self.owed:
            raise DeviceUnavailable(
                f"{self.name} could not be made safe ({self.owed}); this is tried again, and make_safe may be called;"
                " nothing was done",
                device=self.name,
                state="unsafe",
            )

    def refuse_now(self) -> None:
        """Raises for what forbids all control at the moment, whoever asks."""
        self.refuse_stopped()
        for refusal in self.refusals:
            error = refusal()
            if error is not None:
                raise error

    def refuse_stopped(self) -> None:
        """Raises EmergencyStop while that is latched."""
        error = self.alarm.refusal()
        if error is not None:
            raise error

    def bounds_of(self, operation: Operation, name: str) -> tuple[Bound, ...]:
        """The config's limits for the arguments of a member."""
        return self.bounds.get((operation, name), ())

    def check_values(self, operation: Operation, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Raises OutOfRange."""
        for bound in self.bounds_of(operation, name):
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

    def runs_under(self, lease: Lease) -> bool:
        """Whether a call runs now that this lease permitted, and that was not given up."""
        visit = self.visit
        return isinstance(visit, DeviceVisit) and visit.lease is lease and self.hung is not visit

    # -- calls that take too long, or must end ----------------------------------------------------------------------

    def interrupt_for(self, errand: object, why: str) -> None:
        """Make who is in the lane leave it soon, as far as that can be done, unless `errand` has its turn by now."""
        barred: DeviceVisit | None = None
        with self.gate:
            if self.waits is not errand:
                return
            visit = self.visit
            if isinstance(visit, DeviceVisit) and visit.looks_around:
                visit.barred, barred = True, visit
            self._interrupt(why)
            if self.at_host and visit is not errand and visit is not None:
                self.device.secure_at_host()
        if barred is not None:
            barred.abandon(barred.broken_off(why))

    def _interrupt(self, why: str) -> None:
        """The gate is held: who began meanwhile must not meet it, and somebody has to resume."""
        interrupt = getattr(self.device, "interrupt", None)
        if interrupt is None or self.at_host:
            return
        try:
            interrupt(
                OutcomeUnknown(
                    f"{self.name}: the call was broken off ({why}); it may or may not have been carried out",
                    device=self.name,
                    interrupted=True,
                )
            )
        except Exception:
            _log.exception("%s: a call can't be interrupted", self.name)

    def resume(self) -> None:
        """Undo the interruption. The gate is held."""
        resume = getattr(self.device, "resume", None)
        if resume is None or self.at_host:
            return
        try:
            resume()
        except Exception:
            _log.exception("%s: the driver does not resume", self.name)

    def overdue(self, now: float) -> bool:
        """Give up whoever is in the lane for longer than the device's deadline; whether there was somebody."""
        visit = self.visit
        if visit is None or now - visit.began < self.deadline_s:
            return False
        with self.gate:
            if self.hung is not None:
                return False
            self.hung = visit  # first of all: the next in the lane is to find it
            if visit.over:
                self.hung = None
                return False
        why = f"it took longer than {self.deadline_s:g} s"
        given_up = visit.abandon(
            CallTimeout(
                f"{self.name}: {visit.what} took longer than {self.deadline_s:g} s and was given up; it may or may not"
                " have been carried out",
                device=self.name,
                timeout_s=self.deadline_s,
            )
        )
        with self.gate:
            if not visit.over:
                self._interrupt(why)
        return given_up

    def end_transaction(self, now: float) -> None:
        """End a transaction that takes too long, or whose client is gone."""
        transaction = self.transaction
        if transaction is not None and (now > transaction.until or transaction.is_orphaned):
            self.lapse()

    def lapse(self) -> None:
        """End the transaction, if there is one: its time is over, or its client may not control the device any more."""
        transaction, self.transaction = self.transaction, None
        if transaction is not None:
            transaction.lapsed = True
            transaction.end()

    def came_back(self, visit: Occupant) -> None:
        """Somebody leaves the device. Who was given up leaves the port in a state that nobody knows."""
        # Without the gate, for this is the end of each call. Who gives a call up names it as `hung` before it looks
        # whether it is `over`, so that one of the two sees the other.
        visit.over = True
        if self.visit is visit:
            self.visit = None
        if self.hung is not visit:
            return
        with self.gate:
            self.resume()
        try:
            distrust = getattr(self.device, "distrust", None)
            if distrust is not None and not self.at_host:
                distrust()
        except Exception:
            _log.exception("%s: its port can't be let go of", self.name)
        finally:
            self.hung = None
        _log.warning("%s: %s has come back", self.name, visit.what)


class Occupant(Protocol):
    """Who is in a device's lane: a client's call, or an errand of the gateway."""

    began: float
    over: bool

    @property
    def what(self) -> str:
        """What it does, for people."""

    def abandon(self, error: Exception) -> bool:
        """Answer with `error`, and let the next one in; whether it was in the lane still."""


class RootVisit(Visit):
    """A call of something that is no device: the gateway's root, a lease."""

    access = _READ
    member = ""
    """What it reached last."""
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] | None = None

    def __init__(self, caller: Caller) -> None:
        self.caller = caller
        self.began = monotonic()

    def admit(
        self, obj: Any, exposure: Exposure, operation: Operation, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        self.member, self.args, self.kwargs = exposure.name, args, kwargs
        if exposure.access is not _READ:
            require(self.caller.principal, "the gateway", exposure.access)
            self.access = exposure.access

    def check(self) -> None:
        pass

    def close(self, error: BaseException | None) -> None:
        if self.caller.note is not None:
            self.caller.note(self, error)


class DeviceVisit(Visit):
    """A call of a device, or of something that a device handed out."""

    # One is made for every call, and slots are what is made, set and read soonest.
    __slots__ = (
        "access",
        "args",
        "barred",
        "began",
        "caller",
        "is_safe",
        "kwargs",
        "lease",
        "looks_around",
        "member",
        "number",
        "over",
        "station",
        "task",
    )

    def __init__(self, station: Station, caller: Caller, task: Task) -> None:
        self.station = station
        self.caller = caller
        self.task = task
        self.access = _READ
        self.lease: Lease | None = None
        self.number = 0
        """Of the lease it runs under; 0 without one."""
        self.member = ""
        """What it reached last, with `args` and `kwargs`."""
        self.args: tuple[Any, ...] = ()
        self.kwargs: dict[str, Any] | None = None
        self.over = False
        """It has left the device."""
        self.is_safe = False
        """It is `make_safe` of the device itself."""
        self.looks_around = False
        """It waits for readings of other devices, and has not come to its own."""
        self.barred = False
        """It lost its turn meanwhile."""
        self.began = monotonic()
        station.visit = self  # from here on others see it

    def admit(
        self, obj: Any, exposure: Exposure, operation: Operation, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        station = self.station
        access = exposure.access
        if operation is _SET and access is _READ:
            access = _CONTROL
        self.member = exposure.name
        self.args = args
        self.kwargs = kwargs
        caller = self.caller
        role = caller.roles.get(station.name) or caller.role(station.name)
        # The quick way for what is permitted: this is asked in every call.
        if role < (_OBSERVE if access is _READ else _OPERATE if access is _CONTROL else _ADMIN):
            require(caller.principal, station.name, access)
        if station.hung is not None or station.absence is not None or station.is_disabled:
            station.refuse_absent()
        if access is _READ:
            return
        self.access = access
        is_device = obj is station.device
        if is_device and exposure.name == _SAFE:
            self.is_safe = True
            return
        self.is_safe = False
        if station.alarm.stopped is not None or station.refusals:
            station.refuse_now()
        if station.owed:
            station.refuse_owed()
        if station.needs_lease and not self.number and station.custodian is not None:
            lease = station.lease
            # The quick way here too: most calls run under the lease of the one before.
            if lease is None or lease.state is _ENDED or caller.key not in lease.keys or self.began >= lease.hard_end:
                lease = station.lease = station.custodian.enter(station.name, caller.key, self.began)
            self.lease = lease
            self.number = lease.number
        if is_device and station.bounds:
            station.check_values(operation, exposure.name, args, kwargs)
        if station.interlock is not None:
            self._look_around()
        station.controller = caller.key
        station.active = True

    def _look_around(self) -> None:
        """See that the interlock holds. The lane may be taken away meanwhile, for this may take long."""
        with self.station.gate:
            self.looks_around = True
        try:
            self.station.check_interlock()
        finally:
            with self.station.gate:
                self.looks_around = False
        if self.barred:
            raise self.broken_off("it lost its turn")

    def broken_off(self, why: str) -> DeviceUnavailable:
        """The error of a call that lost its turn before it did anything."""
        return DeviceUnavailable(
            f"{self.station.name}: the call was broken off ({why}) before it began; nothing was done",
            device=self.station.name,
        )

    @property
    def what(self) -> str:
        """See Occupant."""
        return f"{self.station.name}.{self.member}" if self.member else self.station.name

    def abandon(self, error: Exception) -> bool:
        """See Occupant."""
        return self.task.abandon(error)

    def transaction(self) -> Transaction:
        station = self.station
        if not station.lane.reserve(self.task.calls):
            raise Busy(f"{station.name}: another client is in a transaction; nothing was done", device=station.name)
        station.transaction = Transaction(station.lane, self.task.calls)
        return station.transaction

    def check(self) -> None:
        station = self.station
        lease = self.lease
        # While it runs, only the hard limit ends a lease by itself.
        if lease is not None and (lease.state is _ENDED or monotonic() >= lease.hard_end):
            assert station.custodian is not None  # who gave the lease
            station.custodian.check(station.name, self.number)
        if station.hung is self:
            raise CallTimeout(
                f"{self.what} took longer than {station.deadline_s:g} s and was given up; nothing more is sent",
                device=station.name,
                timeout_s=station.deadline_s,
            )
        if station.alarm.stopped is not None and self.access is not _READ and not self.is_safe:
            station.refuse_stopped()

    def close(self, error: BaseException | None) -> None:
        station = self.station
        if self.lease is not None:
            station.used_at = monotonic()
        # Without the gate, as this is the end of each call: see `Station.came_back`.
        self.over = True
        if station.visit is self:
            station.visit = None
        if station.hung is self:
            station.came_back(self)
        note = self.caller.note
        if note is not None and (error is not None or self.access is not _READ):
            note(self, error)


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
        self.lapsed = False

    @exposed(access="read")
    def __enter__(self) -> Self:
        return self

    @exposed(access="read")
    def __exit__(self, *exc_info: object) -> None:
        if self.lapsed:
            raise CallTimeout(
                f"{self._lane.name}: the transaction was over before, after {TRANSACTION_S:g} s or with its lease;"
                " calls of others may have got between its last ones",
                device=self._lane.name,
                timeout_s=TRANSACTION_S,
            )
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
