"""What clients see of leases: `conn.root.lease(...)`, and the handle that it gives."""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Mapping
from threading import Lock
from typing import Any, Final

from gateway.errors import BadRequest, LeaseConflict, LeaseLost
from gateway.protocol.netref import Netref
from gateway.server.custody import Claim, Custody, Tell
from gateway.server.observed_service import OpenLane
from gateway.server.station import Caller, RootVisit, require
from gateway.service import permit
from gateway.service.exposure import Access, Exposable, exposed
from gateway.sync.client import async_
from gateway.sync.workers import WORKERS

_log: Final = logging.getLogger(__name__)

MAX_WAIT_S: Final = 25.0
"""A call waits so long at most: less than a client's patience. Who wants to wait longer asks again."""
MAX_DEVICES: Final = 32
MAX_TOLD: Final = 16
"""What waits to be told to a client; older things are dropped. It can always ask for `status`."""


class LeaseHandle(Exposable):
    """A claim on devices: a lease, or a place in the queue for one. It ends with its connection.

    It must be used through the connection that asked for it; `token` lets others in.
    """

    def __init__(self, custody: Custody, claim: Claim, heartbeat_s: float | None) -> None:
        self._custody = custody
        self._claim = claim
        self._heartbeat_s = heartbeat_s
        self.gateway_lane = OpenLane("lease", 1)

    @exposed(access="read")
    def status(self) -> dict[str, Any]:
        """`{state, number, devices, position, estimate_s, at_most_s, by, why, heartbeat_s}`; None is not known.

        `state` is `waiting`, `held`, `asked` (held, and somebody asks for it) or `ended` (`by` and `why`).
        """
        claim = self._claim
        state, lease, ended, place = self._custody.standing(claim)
        by, why = ended or (None, None)
        wanted = lease.wanted if lease is not None else claim.waiting.wanted if claim.waiting is not None else None
        return {
            "state": state,
            "number": None if lease is None else lease.number,
            "devices": list(wanted.devices) if wanted is not None else [],
            "position": place.get("position"),
            "estimate_s": _finite(place.get("estimate_s")),
            "at_most_s": _finite(place.get("at_most_s")),
            "by": by,
            "why": why,
            "heartbeat_s": self._heartbeat_s,
        }

    @exposed(access="read")
    def wait(self, timeout_s: float = MAX_WAIT_S) -> bool:
        """Wait until it is granted, for 25 s at most; whether it is. Raises LeaseConflict where it waits no more."""
        self._custody.wait(self._claim, max(0.0, min(float(timeout_s), MAX_WAIT_S)))
        if self._claim.ended is not None and self._claim.lease is None:
            by, why = self._claim.ended
            raise LeaseConflict(f"not granted: {why}", by=by, why=why)
        return self._claim.lease is not None

    @exposed(access="read")
    def release(self) -> None:
        """Give it back; the devices are brought to their safe state. Idempotent."""
        self._custody.give_up(self._claim)

    @exposed(access="read")
    def touch(self) -> None:
        """It is in use though nothing is called: its soft limit begins anew. Raises LeaseLost."""
        self._own()
        self._custody.touch(self._claim)

    @exposed(access="read")
    def ask(self) -> None:
        """Ask who has the devices to hand them over. Raises LeaseConflict, Busy."""
        self._own()
        self._custody.ask(self._claim)

    @exposed(access="read")
    def agree(self) -> None:
        """Hand the devices over, as they are, to who asked."""
        self._own()
        self._custody.answer(self._claim, agree=True)

    @exposed(access="read")
    def refuse(self) -> None:
        """Keep the devices though somebody asked."""
        self._own()
        self._custody.answer(self._claim, agree=False)

    @property
    @exposed
    def token(self) -> str:
        """Whoever has it may use the lease: for the children of `gateway lease`. Raises LeaseLost."""
        self._own()
        return "" if self._claim.lease is None else self._claim.lease.token

    def _own(self) -> None:
        if self._claim.ended is not None:
            by, why = self._claim.ended
            raise LeaseLost(f"the lease is over: {why}", by=by, why=why)


class LeasedService(Exposable):
    """The part of a gateway's root that is about leases."""

    _custody: Custody

    @exposed(access="read")
    def lease(
        self,
        *devices: str,
        wait_s: float = 0.0,
        soft_s: float | None = None,
        hard_s: float | None = None,
        who: Mapping[str, Any] | None = None,
        tell: Any = None,
        force: str = "",
    ) -> LeaseHandle:
        """The right to control `devices`, all of them or none.

        While somebody else has one of them it waits in a queue: for `wait_s` seconds, 0 is not at all and -1 without
        end. With `tell` it returns at once, and `tell(what, facts)` is called for what happens: `moved`, `granted`,
        `asked`, `refused`, `ended`. The lease ends after `soft_s` seconds in which nothing is called, after `hard_s` in
        any case, when it is released, and when this connection ends. `who` is `{program, host, pid}`, which others see.
        `force` is an administrator's reason to take it from whoever has it.

        Raises LeaseConflict where it is not to be had in time, NotFound for a device that there is not.
        """
        caller = caller_now()
        names = tuple(devices[0]) if len(devices) == 1 and isinstance(devices[0], list | tuple) else devices
        if not names or len(names) > MAX_DEVICES or not all(type(name) is str for name in names):
            raise BadRequest(f"lease takes the names of 1 to {MAX_DEVICES} devices")
        for name in names:
            require(caller.principal, name, Access.ADMIN if force else Access.CONTROL)
        claim = self._custody.request(
            caller,
            names,
            who if isinstance(who, dict) else {},
            _teller(tell),
            soft_s=soft_s,
            hard_s=hard_s,
            wait_s=math.inf if wait_s < 0 else wait_s,
            force=force,
        )
        handle = LeaseHandle(self._custody, claim, self._custody.heartbeat_of(names))
        if tell is None and wait_s:
            longest_s = MAX_WAIT_S if wait_s < 0 else min(wait_s, MAX_WAIT_S)
            if not handle.wait(longest_s):
                self._custody.give_up(claim)
                raise LeaseConflict(f"{', '.join(names)}: not free within {longest_s:g} s", device=names[0])
        return handle

    @exposed(access="read")
    def join_lease(self, token: str) -> int:
        """Let this connection use the lease of that token; its number. Raises NotLeased where there is none."""
        return self._custody.join(caller_now(), token).number

    @exposed(access="read")
    def lease_status(self, device: str) -> dict[str, Any]:
        """Who has a device, since when, for how long, and who waits for it."""
        self._custody.known(device)
        return self._custody.status(device)

    @exposed(access="admin")
    def revoke_lease(self, device: str, reason: str) -> None:
        """End the lease of a device, whoever has it. Raises OutOfRange without a reason."""
        self._custody.revoke(device, caller_now().principal.name, reason)


def caller_now() -> Caller:
    """Who makes the call that this thread runs. Raises BadRequest where it is no client's."""
    visit = permit.current()
    if not isinstance(visit, RootVisit):
        raise BadRequest("this can only be called by a client of a gateway")
    return visit.caller


def _teller(tell: Any) -> Tell:
    if tell is None:
        return lambda what, facts: None
    if not isinstance(tell, Netref):
        raise BadRequest("tell is a function of the client's")
    return Teller(tell)


class Teller:
    """Tells a client what happens to its claim, one thing after the other, and never keeps anybody waiting.

    The next thing is told when the client has taken the last one. Where it takes nothing, the newest ones wait for it.
    """

    def __init__(self, tell: Any) -> None:
        self._send = async_(tell)
        self._waiting: deque[tuple[str, dict[str, Any]]] = deque(maxlen=MAX_TOLD)
        self._lock = Lock()
        self._busy = False

    def __call__(self, what: str, facts: Mapping[str, Any]) -> None:
        with self._lock:
            if what == "moved":  # only where it stands now is of use
                self._waiting = deque((each for each in self._waiting if each[0] != "moved"), MAX_TOLD)
            self._waiting.append((what, dict(facts)))
            if self._busy:
                return
            self._busy = True
        WORKERS.submit(self._next)

    def _next(self, _: object = None) -> None:
        """Send the next one. In a worker, for a client may take nothing; again when its answer has come."""
        with self._lock:
            if not self._waiting:
                self._busy = False
                return
            what, facts = self._waiting.popleft()
        try:
            self._send(what, facts).add_callback(lambda _: WORKERS.submit(self._next))
        except Exception as error:  # the client is gone, or its connection full
            _log.debug("a client is not told %r: %s", what, error)
            with self._lock:
                self._busy = False


def _finite(seconds: float | None) -> float | None:
    return seconds if seconds is not None and math.isfinite(seconds) else None
