"""LeaseTable: who may control which device, as a machine without a clock, a thread or a connection.

    table = LeaseTable(last_number=stored)
    lease = table.request(holder, ["psu1", "dmm1"], now, token=secrets.token_hex(16))    a Lease, or Waiting
    number = table.admit("psu1", key, now)          a call arrives: which number it may leave under
    table.check("psu1", number, now)                it leaves for the hardware
    table.use(number, running=1, until=now)         how the lease is used, to be said before anything else is asked
    table.take_events()                             what happened: bring to the safe state, tell, write down
    table.next_deadline()                           when to call handle_timeout though nobody asks anything

Whoever drives it holds one lock over it, and acts on the events in their order. `now` is any clock in seconds; one that
goes back counts as standing still.
"""

from __future__ import annotations

import hmac
import math
from collections.abc import Hashable, Iterable, Iterator, Mapping
from typing import Any, Final

from gateway.errors import Busy, LeaseConflict, NotFound, NotLeased, OutOfRange
from gateway.server.leasing import refusals
from gateway.server.leasing.claims import Cause, Holder, Lease, LeaseLimits, Waiting, Wanted, bounded_text, seconds
from gateway.server.leasing.events import Event, Queued
from gateway.server.leasing.line import Place
from gateway.server.leasing.register import Register
from gateway.server.leasing.views import shown_lease, shown_waiting

GATEWAY: Final = "the gateway"
_ORDER: Final = {cause: order for order, cause in enumerate(Cause)}


class LeaseTable:
    """The leases of one gateway. `last_number` is the greatest fencing number that was ever granted before.

    It does not know which devices there are: whoever asks has looked that up.
    """

    def __init__(self, limits: LeaseLimits | None = None, *, last_number: int = 0) -> None:
        self.limits = limits or LeaseLimits()
        self._register = Register(self.limits, last_number)
        self.held: Mapping[str, Lease] = self._register.held
        """The live lease of each device that has one."""
        self._tickets = 0
        self._now = -math.inf

    @property
    def last_number(self) -> int:
        """The greatest fencing number so far. The next run has to begin above it."""
        return self._register.last_number

    # -- asking for devices -----------------------------------------------------------------------------------------

    def request(
        self,
        holder: Holder,
        devices: Iterable[str],
        now: float,
        *,
        token: str,
        soft_s: float | None = None,
        hard_s: float | None = None,
        wait_s: float = math.inf,
    ) -> Lease | Waiting:
        """All of `devices` for `holder`: a lease where they are free and nobody waits for them, else a place in line.

        `token` must be unguessable. `wait_s` is how long to wait at most; 0 is not at all. Raises OutOfRange for a
        wrong argument, LeaseConflict where the key has one of them already, would wait for itself, or does not wait,
        and Busy where too many wait.
        """
        now = self._advance(now)
        wanted = self._wanted(holder, devices, now, token=token, soft_s=soft_s, hard_s=hard_s, wait_s=wait_s)
        self._register.past.forget(holder.key, wanted.devices)
        waiting = Waiting(wanted, position=0)
        first = next(self._register.line.in_the_way(waiting, self.held), None)
        if first is None:
            return self._register.grant(waiting, now, waited=False)
        if wait_s <= 0:
            raise refusals.conflict(*first, now)
        self._may_wait(waiting, first, now)
        waiting.position = self._register.line.position(waiting)
        self._register.line.add(waiting)
        self._register.events.append(Queued(waiting, waiting.position))
        return waiting

    def cancel(self, ticket: int, key: Hashable, now: float) -> None:
        """Wait no more. Raises NotFound where no request of `key` with that ticket waits."""
        now = self._advance(now)
        waiting = self._own_waiting(ticket, key)
        self._register.remove(waiting, Cause.CANCELLED, waiting.holder.principal, "cancelled")
        self._register.serve(now)

    def seize(
        self,
        holder: Holder,
        devices: Iterable[str],
        why: str,
        now: float,
        *,
        token: str,
        soft_s: float | None = None,
        hard_s: float | None = None,
    ) -> Lease:
        """All of `devices` at once, whoever has them or waits for them: an administrator's. Who waits goes on waiting.

        Raises OutOfRange for a wrong argument, above all for no reason; LeaseConflict where `holder` has one of them
        already.
        """
        now = self._advance(now)
        wanted = self._wanted(holder, devices, now, token=token, soft_s=soft_s, hard_s=hard_s, wait_s=math.inf)
        bounded_text("the reason", why)
        self._register.past.forget(holder.key, wanted.devices)
        for device in wanted.devices:
            if device in self.held:
                self._register.end(self.held[device], Cause.REVOKED, holder.principal, why)
        lease = self._register.grant(Waiting(wanted, position=0), now, waited=False)
        for other in list(self._register.leases.values()):
            # Who asks may have counted on a device that was free.
            if other.asker is not None and len(self._register.leases_in_the_way(other.asker)) > 1:
                self._register.no_hand_over(other, Cause.WITHDRAWN)
        self._register.serve(now)
        return lease

    def join(self, token: str, key: Hashable, now: float) -> Lease:
        """Let the calls of `key` use the lease with that token too.

        Raises NotLeased where there is none, Busy where as many use it as may.
        """
        self._advance(now)
        given = bounded_text("the token", token).encode("utf-8", "replace")
        for lease in self._register.leases.values():
            if hmac.compare_digest(lease.token.encode("utf-8", "replace"), given):
                if key not in lease.keys and len(lease.keys) >= self.limits.keys:
                    raise Busy(f"{len(lease.keys)} connections use lease {lease.number} already", what="lease")
                lease.keys.add(key)
                self._register.past.forget(key, lease.devices)
                return lease
        raise NotLeased("no lease has this token; it has ended, or there never was one")

    # -- using a lease ----------------------------------------------------------------------------------------------

    def admit(self, device: str, key: Hashable, now: float) -> int:
        """The number under which a call of `key` may control `device` now; changes nothing.

        Raises LeaseLost where the key's lease has ended without its doing and it has not asked again, LeaseConflict
        where somebody else has the device, NotLeased where nobody has it.
        """
        lease = self.held.get(device)
        if lease is not None and key in lease.keys:
            if now < lease.end:
                return lease.number
            raise refusals.over(device, lease)
        ending = self._register.past.lost(key, device)
        if ending is not None:
            raise refusals.lost(device, ending)
        raise refusals.not_leased(device) if lease is None else refusals.conflict(device, lease, now)

    def check(self, device: str, number: int, now: float) -> None:
        """Whether a command under `number` may leave for `device` now; changes nothing.

        Raises LeaseLost for a number that is not live any more, LeaseConflict or NotLeased for one that never held this
        device.
        """
        lease = self.held.get(device)
        if lease is None or lease.number != number:
            raise self._stale(device, number, now)
        if now >= lease.end:
            raise refusals.over(device, lease)

    def use(self, number: int, *, running: int, until: float) -> None:
        """So many calls run under a lease now, and the last one that is over ended at `until`.

        While any runs, the lease is not idle; afterwards its soft limit begins anew. Nothing to do where it is over.
        """
        lease = self._register.leases.get(number)
        if lease is not None:
            lease.running = running
            lease.used(until)

    def touch(self, number: int, now: float) -> None:
        """Something was done with the lease: its soft limit begins anew. Raises LeaseLost where it is over."""
        lease = self._live(number)
        if now >= lease.end:
            raise refusals.over(lease.devices[0], lease)
        lease.used(now)

    # -- ending a lease ---------------------------------------------------------------------------------------------

    def release(self, number: int, key: Hashable, now: float) -> None:
        """The holder is done. Raises LeaseLost where the lease is over, NotLeased where `key` is not the holder's."""
        now = self._advance(now)
        lease = self._own_lease(number, key)
        self._register.end(lease, Cause.RELEASED, lease.holder.principal, "released")
        self._register.serve(now)

    def revoke(self, what: str | int, by: str, why: str, now: float) -> Lease:
        """End the lease of a device, or of a number: an administrator's. The next in line gets it.

        Raises OutOfRange without a reason, NotFound where nobody has it.
        """
        now = self._advance(now)
        bounded_text("the reason", why)
        lease = self.held.get(what) if isinstance(what, str) else self._register.leases.get(what)
        if lease is None:
            raise NotFound(f"there is no lease of {what!r:.80}")
        self._register.end(lease, Cause.REVOKED, by, why)
        self._register.serve(now)
        return lease

    def holder_lost(self, key: Hashable, by: str, why: str, now: float) -> None:
        """`key` is gone: its leases end, its requests wait no more, and the leases that it joined go on without it."""
        now = self._advance(now)
        for waiting in self._register.line.of_key(key):
            self._register.remove(waiting, Cause.HOLDER_LOST, by, why)
        for lease in list(self._register.leases.values()):
            if lease.holder.key == key:
                self._register.end(lease, Cause.HOLDER_LOST, by, why)
            else:
                lease.keys.discard(key)
        self._register.serve(now)

    # -- handing over -----------------------------------------------------------------------------------------------

    def ask(self, ticket: int, key: Hashable, now: float) -> Lease:
        """Ask the holder to hand over to the request with that ticket, which must be next in line. The lease asked for.

        Raises NotFound where no request of `key` with that ticket waits, LeaseConflict where somebody else comes first
        or more than one lease is in its way, Busy where the holder is being asked, or has refused just now.
        """
        now = self._advance(now)
        asker = self._own_waiting(ticket, key)
        for device, other in self._register.line.in_the_way(asker, self.held):
            if isinstance(other, Waiting):
                raise refusals.conflict(device, other, now)
        leases = self._register.leases_in_the_way(asker)
        if len(leases) > 1:
            raise LeaseConflict(
                f"the request waits for {len(leases)} leases, of {' and '.join(str(each.holder) for each in leases)}; "
                "only one holder can be asked at a time: wait until one is left",
                device=next(device for device in asker.devices if device in leases[1].devices),
                holder=str(leases[1].holder),
                until_s=max(leases[1].end - now, 0.0),
            )
        (lease,) = leases
        if lease.asker is asker:
            return lease
        if lease.asker is not None:
            raise Busy(f"{lease.holder} is being asked by {lease.asker.holder} already", what="hand-over")
        if now < lease.quiet_until:
            raise Busy(
                f"{lease.holder} has refused; they can be asked again in {lease.quiet_until - now:.0f} s",
                what="hand-over",
                until_s=lease.quiet_until - now,
            )
        self._register.ask(lease, asker, self.limits.grace_s, now)
        return lease

    def agree(self, number: int, key: Hashable, now: float) -> Lease:
        """The holder hands over what the asker wants; the rest of the lease ends too. The asker's lease.

        Raises LeaseLost where the lease is over, NotLeased where `key` is not the holder's, NotFound where nobody asks.
        """
        now = self._advance(now)
        lease = self._own_lease(number, key)
        asker = self._register.asker_of(lease)
        return self._register.hand_over(
            lease, asker, Cause.AGREED, lease.holder.principal, f"handed over to {asker.holder}", now
        )

    def refuse(self, number: int, key: Hashable, now: float) -> None:
        """The holder keeps it, and is not asked again for a while. Raises as `agree` does."""
        now = self._advance(now)
        lease = self._own_lease(number, key)
        self._register.asker_of(lease)
        lease.quiet_until = now + self.limits.ask_again_s
        self._register.no_hand_over(lease, Cause.REFUSED)

    # -- time -------------------------------------------------------------------------------------------------------

    def next_deadline(self) -> float:
        """When `handle_timeout` has something to do, infinite if never.

        Ask again after everything but `use`, `touch` and `check`, which bring it no nearer.
        """
        return min(self._deadlines(), default=(math.inf,))[0]

    def handle_timeout(self, now: float) -> None:
        """End what is over by `now`, in the order of the times."""
        self._now = now = max(now, self._now)
        while (due := min(self._deadlines(), default=None)) is not None and due[0] <= now:
            _, _, ticket, cause = due
            waiting = self._register.line.get(ticket)
            if waiting is not None:
                waited = now - waiting.wanted.asked_at
                self._register.remove(waiting, cause, GATEWAY, f"not granted within {waited:.0f} s")
                self._register.serve(now)
                continue
            lease = next(lease for lease in self._register.leases.values() if lease.wanted.ticket == ticket)
            if cause is Cause.UNANSWERED:
                asker = self._register.asker_of(lease)
                why = f"{asker.holder} asked for it, and there was no answer within {self.limits.grace_s:g} s"
                self._register.hand_over(lease, asker, cause, asker.holder.principal, why, now)
            elif cause is Cause.IDLE and lease.running:
                lease.used(now)
            else:
                self._register.end(lease, cause, GATEWAY, refusals.why_over(lease))
                self._register.serve(now)

    # -- looking ----------------------------------------------------------------------------------------------------

    def take_events(self) -> list[Event]:
        """What has happened since the last time."""
        events, self._register.events = self._register.events, []
        return events

    def lease_of(self, device: str) -> Lease | None:
        """The live lease of a device."""
        return self.held.get(device)

    def leases(self) -> list[Lease]:
        """All live leases, oldest first."""
        return list(self._register.leases.values())

    def place(self, ticket: int, now: float) -> Place:
        """Where a waiting request stands. Raises NotFound where it does not wait."""
        places = self._register.line.places(self.held, max(now, self._now))
        if ticket not in places:
            raise NotFound(f"no request with the ticket {ticket} waits")
        return places[ticket]

    def status(self, device: str, now: float) -> dict[str, Any]:
        """What everybody may know about a device, as plain values; times are seconds from `now`.

        `{device, state, holder, number, devices, held_s, idle_end_s, hard_end_s, left_s, asked_by, grace_s, waiting}`.
        `state` is `free`, `held` or `asked`; when it is free all from `holder` to `grace_s` are None. A holder is
        `{principal, program, host, pid}`; `idle_end_s` is None while a call runs. An entry of `waiting` is a holder
        with `{ticket, devices, position, waited_s, estimate_s, at_most_s}`.
        """
        now = max(now, self._now)
        places = self._register.line.places(self.held, now)
        waiting = [shown_waiting(each, places[each.ticket], now) for each in self._register.line.of_device(device)]
        return {"device": device, **shown_lease(self.held.get(device), now), "waiting": waiting}

    # -- what the above is made of ----------------------------------------------------------------------------------

    def _advance(self, now: float) -> float:
        self.handle_timeout(now)
        return self._now

    def _deadlines(self) -> Iterator[tuple[float, int, int, Cause]]:
        """When, in which order at that time, of which ticket, what."""
        for lease in self._register.leases.values():
            ticket = lease.wanted.ticket
            cause = Cause.IDLE if lease.soft_end < lease.hard_end else Cause.TIME_OVER
            yield min(lease.soft_end, lease.hard_end), _ORDER[cause], ticket, cause
            if lease.asker is not None:
                yield lease.grace_end, _ORDER[Cause.UNANSWERED], ticket, Cause.UNANSWERED
        for waiting in self._register.line:
            if waiting.wanted.until < math.inf:
                yield waiting.wanted.until, _ORDER[Cause.WAITED_TOO_LONG], waiting.ticket, Cause.WAITED_TOO_LONG

    def _wanted(
        self,
        holder: Holder,
        devices: Iterable[str],
        now: float,
        *,
        token: str,
        soft_s: float | None,
        hard_s: float | None,
        wait_s: float,
    ) -> Wanted:
        limits = self.limits
        names = (devices,) if isinstance(devices, str) else tuple(dict.fromkeys(devices))
        if not 0 < len(names) <= limits.devices:
            raise OutOfRange(f"a lease is of 1 to {limits.devices} devices, not {len(names)}", what="devices")
        for name in names:
            bounded_text("a device's name", name)
        bounded_text("the token", token)
        if wait_s:
            seconds("wait_s", wait_s)
        hard_s = limits.hard_s if hard_s is None else seconds("hard_s", hard_s, limits.longest_hard_s)
        soft_s = limits.soft_s if soft_s is None else seconds("soft_s", soft_s, limits.longest_soft_s)
        for name in names:
            held = self.held.get(name)
            if held is not None and holder.key in held.keys:
                raise refusals.has_it(name, held, now)
        self._tickets += 1
        return Wanted(
            ticket=self._tickets,
            holder=holder,
            devices=names,
            token=token,
            soft_s=soft_s,
            hard_s=hard_s,
            asked_at=now,
            until=now + wait_s,
        )

    def _may_wait(self, waiting: Waiting, first: tuple[str, Lease | Waiting], now: float) -> None:
        limits = self.limits
        for device in waiting.devices:
            if len(self._register.line.of_device(device)) >= limits.waiting_per_device:
                raise refusals.full(device, limits.waiting_per_device)
        if len(self._register.line.of_key(waiting.holder.key)) >= limits.waiting_per_key:
            raise Busy(
                f"this connection waits for {limits.waiting_per_key} leases already; wait for them", what="leases"
            )
        if self._register.line.closes_a_circle(waiting, self.held):
            raise refusals.circle(*first, now)

    def _own_waiting(self, ticket: int, key: Hashable) -> Waiting:
        waiting = self._register.line.get(ticket)
        if waiting is None or waiting.holder.key != key:
            raise NotFound(f"this connection has no request with the ticket {ticket!r:.80} that waits")
        return waiting

    def _own_lease(self, number: int, key: Hashable) -> Lease:
        lease = self._live(number)
        if lease.holder.key != key:
            raise NotLeased(f"lease {number} is not this connection's: {lease.holder} has it", device=lease.devices[0])
        return lease

    def _live(self, number: int) -> Lease:
        lease = self._register.leases.get(number)
        if lease is None:
            if not self._was_granted(number):
                raise NotLeased(f"there never was a lease {number!r:.80}")
            ending = self._register.past.ending(number)
            raise refusals.lost(None, ending)
        return lease

    def _stale(self, device: str, number: int, now: float) -> NotLeased:
        """Why a command under `number` can't leave for `device`."""
        if number not in self._register.leases and self._was_granted(number):
            return refusals.lost(device, self._register.past.ending(number))
        lease = self.held.get(device)
        return refusals.not_leased(device) if lease is None else refusals.conflict(device, lease, now)

    def _was_granted(self, number: int) -> bool:
        return type(number) is int and 0 < number <= self.last_number
