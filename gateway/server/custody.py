"""Custody: the leases of a running gateway. Drives the `LeaseTable`, and acts on what happens in it.

What a lease's end means for a device begins under the same lock as the end itself: when the next call of that device
gets its turn, the device is safe. Who takes part is told by callbacks that never wait for a client.
"""

from __future__ import annotations

import contextlib
import logging
import math
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from threading import Condition, RLock
from time import monotonic
from typing import Any, Final

from gateway.errors import GatewayError, NotFound, NotLeased
from gateway.server.leasing import (
    Cause,
    Dropped,
    Ended,
    Event,
    Granted,
    HandOverAsked,
    HandOverOff,
    Holder,
    Lease,
    LeaseLimits,
    LeaseTable,
    Moved,
    Queued,
    Waiting,
)
from gateway.server.safety import Safety
from gateway.server.station import Caller, Station

_log: Final = logging.getLogger(__name__)

SILENT_S: Final = 4.0
"""A client of ours that holds a lease and has said nothing for so long is frozen, or its cable was pulled."""
LATE_S: Final = 1.0
"""A look around that comes so late says that the gateway itself stood still."""
PATIENCE_S: Final = 0.1
"""Who reads a device when its lease is given back may take so long to finish."""
MAX_WHY: Final = 200
Tell = Callable[[str, Mapping[str, Any]], None]
"""`tell(what, facts)`: something happened to a claim. Must not wait."""


class Claim:
    """A client's request for devices, waiting, held or over, and whom to tell about it."""

    def __init__(self, caller: Caller, tell: Tell) -> None:
        self.caller = caller
        self.tell = tell
        self.lease: Lease | None = None
        self.waiting: Waiting | None = None
        self.ended: tuple[str, str] | None = None
        """Through whom and why it is over."""

    @property
    def state(self) -> str:
        """`waiting`, `held`, `asked` or `ended`."""
        if self.ended is not None:
            return "ended"
        return str(self.lease.state.value if self.lease is not None else "waiting")


class Custody:
    """Who may control which device. Its `enter` and `check` are what stations ask."""

    def __init__(
        self,
        safety: Safety,
        limits: LeaseLimits | None = None,
        *,
        told: Callable[[Event], None] = lambda event: None,
    ) -> None:
        self._safety = safety
        self._told = told
        # Greater than any number of an earlier run: no gateway grants a thousand leases a second.
        self._table = LeaseTable(limits, last_number=int(time.time() * 1000))
        self._held = self._table.held
        self._lock = RLock()
        self._changed = Condition(self._lock)
        self._stations: dict[str, Station] = {}
        self._claims: dict[int, Claim] = {}
        """By ticket: waiting, or held."""
        self._callers: dict[int, Caller] = {}
        """Who has a claim, by key: they are watched."""
        self._ticked_at = monotonic()

    def look_after(self, station: Station) -> None:
        """From now on the station's device can be leased."""
        self._stations[station.name] = station
        station.custodian = self

    def take_away(self, device: str, why: str) -> bool:
        """End the lease of a device, if somebody has it; whether that was so. The device is made safe then."""
        with self._changing() as now:
            if self._table.lease_of(device) is None:
                return False
            self._table.revoke(device, "the gateway", why[:MAX_WHY] or "no reason given", now)
            return True

    def forget(self, device: str) -> None:
        """The device is gone for good."""
        with self._lock:
            self._stations.pop(device, None)

    # -- for stations -----------------------------------------------------------------------------------------------

    def enter(self, device: str, key: int, now: float) -> Lease:
        # Without the lock, which every call would have to take. That it uses the lease is seen later: see `_see_use`.
        lease = self._held.get(device)
        if lease is None or key not in lease.keys or now >= lease.hard_end:
            with self._lock:
                self._see_use()
                self._table.admit(device, key, now)
                lease = self._held[device]
        return lease

    def check(self, device: str, number: int) -> None:
        self._table.check(device, number, monotonic())  # reads only; a lock would be waited for at every command

    # -- for clients ------------------------------------------------------------------------------------------------

    def request(
        self,
        caller: Caller,
        devices: Iterable[str],
        who: Mapping[str, Any],
        tell: Tell,
        *,
        soft_s: float | None = None,
        hard_s: float | None = None,
        wait_s: float = math.inf,
        force: str = "",
    ) -> Claim:
        """Ask for devices; `force` is an administrator's reason not to wait.

        Raises as `LeaseTable.request`; NotFound; NotLeased for a device that demands heartbeats of a client that sends
        none: nobody would notice that it is frozen.
        """
        names = tuple(devices)
        for name in names:
            station = self.known(name)
            if station.common.heartbeat_s is not None and not caller.conn.peer_beats:
                raise NotLeased(
                    f"{name} is only for clients that send heartbeats (heartbeat_s in its config): use this package's"
                    " gateway.connect, with the connection served in the background",
                    device=name,
                )
        holder = Holder(
            key=caller.key,
            principal=caller.principal.name[:200] or "unknown",
            program=_word(who, "program"),
            host=_word(who, "host"),
            pid=_number(who, "pid"),
        )
        claim = Claim(caller, tell)
        token = secrets.token_urlsafe(24)
        with self._changing() as now:
            if force:
                granted: Lease | Waiting = self._table.seize(
                    holder, names, force, now, token=token, soft_s=soft_s, hard_s=hard_s
                )
            else:
                granted = self._table.request(
                    holder, names, now, token=token, soft_s=soft_s, hard_s=hard_s, wait_s=wait_s
                )
            if isinstance(granted, Lease):
                claim.lease = granted
                self._claims[granted.wanted.ticket] = claim
            else:
                claim.waiting = granted
                self._claims[granted.ticket] = claim
            self._callers[caller.key] = caller
            if caller.conn.closed:  # since it asked; who tells us may have been here before
                self._lose(caller, caller.conn.lost_why, now)
        return claim

    def wait(self, claim: Claim, timeout_s: float) -> bool:
        """Wait until the claim is no longer waiting; whether that is so."""
        deadline = monotonic() + timeout_s
        with self._changed:
            while claim.state == "waiting":
                left = deadline - monotonic()
                if left <= 0:
                    return False
                self._changed.wait(left)
        return True

    def give_up(self, claim: Claim) -> None:
        """Release the lease, or wait no more. Nothing to do where it is over."""
        with contextlib.suppress(GatewayError), self._changing() as now:
            if claim.lease is not None:
                self._table.release(claim.lease.number, claim.caller.key, now)
            elif claim.waiting is not None:
                self._table.cancel(claim.waiting.ticket, claim.caller.key, now)

    def ask(self, claim: Claim) -> None:
        """Ask the holder to hand over. Raises as `LeaseTable.ask`."""
        with self._changing() as now:
            if claim.waiting is not None and claim.lease is None:
                self._table.ask(claim.waiting.ticket, claim.caller.key, now)

    def answer(self, claim: Claim, *, agree: bool) -> None:
        """The holder's answer. Raises as `LeaseTable.agree`."""
        if claim.lease is None:
            raise NotFound("nobody can ask for a lease that is not granted yet")
        with self._changing() as now:
            act = self._table.agree if agree else self._table.refuse
            act(claim.lease.number, claim.caller.key, now)

    def touch(self, claim: Claim) -> None:
        """The lease is in use though nothing is called. Raises LeaseLost."""
        if claim.lease is not None:
            with self._lock:
                self._see_use()
                self._table.touch(claim.lease.number, monotonic())

    def join(self, caller: Caller, token: str) -> Lease:
        """Let this connection use the lease of that token. Raises NotLeased."""
        with self._changing() as now:
            lease = self._table.join(token, caller.key, now)
            if caller.conn.closed:
                self._lose(caller, caller.conn.lost_why, now)
            return lease

    def revoke(self, device: str, by: str, why: str) -> None:
        """End a lease by force. Raises NotFound, OutOfRange without a reason."""
        with self._changing() as now:
            self._table.revoke(device, by, why, now)

    def lost(self, caller: Caller, why: str) -> None:
        """The caller is gone."""
        with self._changing() as now:
            self._lose(caller, why, now)

    def _lose(self, caller: Caller, why: str, now: float) -> None:
        self._callers.pop(caller.key, None)
        self._table.holder_lost(caller.key, "the gateway", why[:MAX_WHY] or "the connection was lost", now)

    def known(self, device: str) -> Station:
        """The station of a device. Raises NotFound."""
        if device not in self._stations:
            known = ", ".join(self._stations) or "none"
            raise NotFound(f"no device {device!r:.80} here; there are: {known}", device=str(device)[:80])
        return self._stations[device]

    def heartbeat_of(self, devices: Iterable[str]) -> float | None:
        """How often who controls these must be heard from, where one of them says so."""
        wanted = [self._stations[name].common.heartbeat_s for name in devices]
        return min((seconds for seconds in wanted if seconds is not None), default=None)

    def may_disturb(self, device: str, key: int) -> None:
        """Raises LeaseConflict where somebody else than `key` has the device."""
        with self._lock:
            lease = self._table.lease_of(device)
            if lease is not None and key not in lease.keys:
                self._table.admit(device, key, monotonic())

    # -- looking ----------------------------------------------------------------------------------------------------

    def status(self, device: str) -> dict[str, Any]:
        """See `LeaseTable.status`."""
        with self._lock:
            self._see_use()
            return self._table.status(device, monotonic())

    def place(self, claim: Claim) -> dict[str, Any]:
        """`{position, estimate_s, at_most_s}` of a claim that waits; empty for others."""
        with self._lock:
            if claim.waiting is None or claim.state != "waiting":
                return {}
            place = self._table.place(claim.waiting.ticket, monotonic())
        return {"position": place.position, "estimate_s": place.estimate_s, "at_most_s": place.at_most_s}

    def standing(self, claim: Claim) -> tuple[str, Lease | None, tuple[str, str] | None, dict[str, Any]]:
        """State, lease, ending and place of a claim, all of one moment."""
        with self._lock:
            self._see_use()
            return claim.state, claim.lease, claim.ended, self.place(claim)

    def number_of(self, device: str) -> int | None:
        """The fencing number under which the device is now."""
        lease = self._table.lease_of(device)
        return None if lease is None else lease.number

    def shown(self, device: str) -> dict[str, Any] | None:
        """Who holds the device, briefly; None where nobody does."""
        if self._table.lease_of(device) is None:
            return None
        status = self.status(device)
        return (
            None
            if status["state"] == "free"
            else {
                **status["holder"],
                "number": status["number"],
                "held_s": status["held_s"],
                "left_s": status["left_s"],
                "waiting": len(status["waiting"]),
            }
        )

    # -- time -------------------------------------------------------------------------------------------------------

    def tick(self) -> None:
        """To be called several times a second: ends what is over, and the leases of clients that went silent."""
        with self._changing() as now:
            was_late = now - self._ticked_at > LATE_S
            self._ticked_at = now
            if self._table.next_deadline() <= now:
                self._table.handle_timeout(now)
            for caller in list(self._callers.values()):
                patience = self._patience(caller)
                if patience is None:
                    continue
                if was_late:  # it was this process that stood still: what came meanwhile has not been looked at
                    caller.conn.pardon_silence(now)
                elif caller.conn.silent_s(now) > patience:
                    self._lose(caller, f"silent for more than {patience:g} s", now)

    def _patience(self, caller: Caller) -> float | None:
        """How long the caller may be silent; None where it does not send heartbeats or has no lease."""
        if not caller.conn.peer_beats:
            return None
        held = [lease for lease in self._table.leases() if lease.holder.key == caller.key]
        if not held:
            return None
        names = [name for lease in held for name in lease.devices if name in self._stations]
        wanted = [self._stations[name].common.heartbeat_s for name in names]
        return min([SILENT_S, *(seconds for seconds in wanted if seconds is not None)])

    # -- what happened ----------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _changing(self) -> Iterator[float]:
        """Around all that may change the table. What happened is acted on even where the change itself was refused:
        any look at the table may end what was over.
        """
        with self._lock:
            self._see_use()
            try:
                yield monotonic()
            finally:
                self._act()

    def _see_use(self) -> None:
        """Tell the table how the leases are used. The calls do not say so themselves: it would cost each of them."""
        for lease in self._table.leases():
            stations = [self._stations[name] for name in lease.devices if name in self._stations]
            running = sum(station.runs_under(lease) for station in stations)  # a call that ends now has told until when
            until = max((station.used_at for station in stations), default=-math.inf)
            self._table.use(lease.number, running=running, until=until)

    def _act(self) -> None:
        """Act on the table's events, in their order. The lock is held."""
        events = self._table.take_events()
        for event in events:
            try:
                self._act_on(event)
            except Exception:  # the others are not to be missed for it
                _log.exception("unexpected error; going on")
        if events:
            self._changed.notify_all()
        for event in events:
            try:
                self._told(event)
            except Exception:
                _log.exception("unexpected error; going on")

    def _act_on(self, event: Event) -> None:
        match event:
            case Ended(lease=lease, cause=cause, by=by, why=why, safe=safe):
                # Nobody who only reads has to be interrupted where a holder is simply done.
                patience_s = PATIENCE_S if cause is Cause.RELEASED else 0.0
                for name in lease.devices:
                    if name in self._stations and self._stations[name].needs_lease:
                        self._stations[name].lapse()
                self._secure(safe, f"lease {lease.number} of {lease.holder} ended: {why}", patience_s)
                self._finish(lease.wanted.ticket, by, why)
            case Granted(lease=lease, waiting=Waiting()):
                claim = self._claims.get(lease.wanted.ticket)
                if claim is not None:
                    claim.lease = lease
                    claim.tell("granted", {"number": lease.number})
            case Dropped(waiting=waiting, by=by, why=why):
                self._finish(waiting.ticket, by, why)
            case Moved(waiting=waiting, position=position) | Queued(waiting=waiting, position=position):
                self._tell(waiting.ticket, "moved", {"position": position})
            case HandOverAsked(lease=lease, asker=asker, grace_s=grace_s):
                self._tell(lease.wanted.ticket, "asked", {"by": str(asker.holder), "grace_s": grace_s})
            case HandOverOff(lease=lease, asker=asker, cause=cause):
                self._tell(asker.ticket, "refused", {"why": cause.value, "by": str(lease.holder)})

    def _secure(self, devices: Iterable[str], why: str, patience_s: float) -> None:
        for name in devices:
            station = self._stations.get(name)
            if station is not None:
                try:
                    self._safety.secure(station, why, patience_s=patience_s)
                except Exception:
                    _log.exception("%s could not be made safe", name)

    def _finish(self, ticket: int, by: str, why: str) -> None:
        claim = self._claims.pop(ticket, None)
        if claim is not None:
            claim.ended = by, why
            claim.tell("ended", {"by": by, "why": why})
            if not any(other.caller.key == claim.caller.key for other in self._claims.values()):
                self._callers.pop(claim.caller.key, None)

    def _tell(self, ticket: int, what: str, facts: Mapping[str, Any]) -> None:
        claim = self._claims.get(ticket)
        if claim is not None:
            claim.tell(what, facts)


def _word(who: Mapping[str, Any], key: str) -> str:
    word = who.get(key)
    shown = "".join(each if each.isprintable() else "?" for each in word[:200]) if isinstance(word, str) else ""
    return shown or "unknown"


def _number(who: Mapping[str, Any], key: str) -> int:
    number = who.get(key)
    return number if type(number) is int and 0 <= number < 2**31 else 0
