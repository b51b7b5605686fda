"""What clients see of the observers: `conn.root.observers`.

A gateway's root mixes `ObservedService` in. It is an object of its own and no methods of the root, because calls of the
root take turns: a read that waits for one instrument would hold up those of others. Here they run side by side.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import Any, Final

from gateway.errors import BadRequest, Busy, GatewayError, NotFound
from gateway.protocol.netref import Netref
from gateway.server.observing.observers import Observers
from gateway.server.observing.outlet import BATCH, Outlet, to_inbox, to_peer
from gateway.server.observing.subscriber import Key, Subscriber
from gateway.service.exposure import Exposable, exposed
from gateway.sync.calls import Task
from gateway.sync.connection import Connection
from gateway.sync.lane import Lane

_TARGET_MAX: Final = 400
Admit = Callable[[str, str], Any]
"""`admit(device, property)` raises NotFound or AccessDenied where the caller may not read it; it runs in its thread."""


class OpenLane(Lane[Task]):
    """A lane in which nobody waits, for objects that take care of themselves. A connection's pending calls bound it."""

    __slots__ = ()

    def enter(self, task: Task) -> bool:
        return True

    def leave(self, task: Task) -> tuple[bool, None]:
        return True, None


class Subscription(Exposable):
    """A client's subscription. It ends with `cancel()`, and with its connection."""

    def __init__(self, client: _Client, subscriber: Subscriber) -> None:
        self._client = client
        self._subscriber = subscriber

    @exposed(access="read")
    def cancel(self) -> None:
        """Have no more readings. Idempotent."""
        self._client.cancel(self._subscriber)

    @property
    @exposed
    def dropped(self) -> int:
        """How many readings were dropped, because the callback was too slow."""
        return self._subscriber.dropped

    @property
    @exposed
    def ended(self) -> bool:
        """Whether nothing more will come."""
        return self._subscriber.ended


class Inbox(Exposable):
    """The subscriptions of a client of ours: one callback has all their readings, many in one call."""

    def __init__(self, observing: Observing, client: _Client, outlet: Outlet) -> None:
        self._observing = observing
        self._client = client
        self._outlet = outlet
        self._subscribers: dict[int, Subscriber] = {}

    @exposed(access="read")
    def subscribe(
        self,
        number: int,
        target: str,
        every_s: float = 1.0,
        on_change: bool = False,
        deadband: float = 0.0,
        max_queue: int = 100,
    ) -> None:
        """As the observers' `subscribe`. `number` is the client's name for it, and comes with each reading."""
        if type(number) is not int or not 0 <= number < 2**53 or number in self._subscribers:
            raise BadRequest("a subscription's number is a whole number that no other one has")
        self._subscribers = {each: subscriber for each, subscriber in self._subscribers.items() if not subscriber.ended}
        self._subscribers[number] = self._client.subscribe(
            self._observing.admitted(target), self._outlet, every_s, on_change, deadband, max_queue, number
        )

    @exposed(access="read")
    def cancel(self, number: int) -> None:
        """End the subscription of that number, if there is one."""
        subscriber = self._subscribers.pop(number, None) if type(number) is int else None
        if subscriber is not None:
            self._client.cancel(subscriber)


class Observing(Exposable):
    """Readings for many: from a cache, or as they come. The instrument is asked once for all.

    A target is `DEVICE.PROPERTY`. A reading is the tuple `(value, unit, time, device, property, identity, lease,
    error_code, error)`: `time` in seconds since 1970 UTC by the gateway's clock, `lease` the fencing number of the
    lease that the device was under, or None.
    """

    def __init__(self, observers: Observers, admit: Admit) -> None:
        self._observers = observers
        self._admit = admit
        self._clients: dict[Connection, _Client] = {}
        self._lock = Lock()
        self.gateway_lane = OpenLane("observers", 1)

    @exposed(access="read")
    def read(self, target: str, max_age_s: float = 0.0) -> tuple[Any, ...]:
        """A reading of the target that is no older than `max_age_s`; with 0 one that begins now.

        Raises what reading it raises.
        """
        return self._observers.get(*self.admitted(target), max_age_s).as_tuple()

    @exposed(access="read")
    def subscribe(
        self,
        target: str,
        callback: Any,
        every_s: float = 1.0,
        on_change: bool = False,
        deadband: float = 0.0,
        max_queue: int = 100,
    ) -> Subscription:
        """Have `callback(reading)` called every `every_s` seconds, from now on and until the connection ends.

        With `on_change` only where the reading differs from the last one, for numbers by more than `deadband`. An error
        comes as a reading, once. While the callback is behind, `max_queue` readings wait for it, and the oldest are
        dropped; a callback that takes nothing for long is told so by a last reading, and is called no more.
        """
        client = self._client_of(callback)
        key = self.admitted(target)
        outlet = self._observers.outlet(to_peer(callback), route=callback.____conn__)
        return Subscription(client, client.subscribe(key, outlet, every_s, on_change, deadband, max_queue, 0))

    @exposed(access="read")
    def attach(self, deliver: Any) -> Inbox:
        """For clients of ours: `deliver(((reading, ((number, dropped, last one), ...)), ...))` has all readings."""
        client = self._client_of(deliver)
        outlet = self._observers.outlet(to_inbox(deliver), at_once=BATCH, route=deliver.____conn__)
        client.keep(outlet)
        return Inbox(self, client, outlet)

    def admitted(self, target: Any) -> Key:
        """The target as `(device, property)`, if the caller may read it. Raises BadRequest, NotFound, AccessDenied."""
        if type(target) is not str or len(target) > _TARGET_MAX:
            raise BadRequest(f"what to observe is a text such as 'psu1.voltage', not {target!r:.80}")
        device, _, name = target.rpartition(".")
        if not device or not name:
            raise NotFound(f"{target!r:.80} is not DEVICE.PROPERTY, such as psu1.voltage")
        self._admit(device, name)
        return device, name

    def _client_of(self, callback: Any) -> _Client:
        if not issubclass(type(callback), Netref):
            raise BadRequest("a callback is a function of the client's own")
        conn: Connection = callback.____conn__
        with self._lock:
            client = self._clients.get(conn)
            if client is None:
                client = self._clients[conn] = _Client(self._observers)
                conn.on_lost.append(self._forget)
        if conn.closed:  # before it could tell
            self._forget(conn)
        return client

    def _forget(self, conn: Connection) -> None:
        with self._lock:
            client = self._clients.pop(conn, None)
        if client is not None:
            client.close()


class _Client:
    """What one connection has subscribed."""

    def __init__(self, observers: Observers) -> None:
        self._observers = observers
        self._lock = Lock()
        self._subscribers: set[Subscriber] = set()
        self._inboxes: set[Outlet] = set()
        self._closed = False

    def keep(self, outlet: Outlet) -> None:
        """Count the outlet of an inbox. Raises Busy."""
        bound = self._observers.bounds.inboxes_per_client
        with self._lock:
            if len(self._inboxes) >= bound:
                raise Busy(f"this connection has {bound} inboxes already; nothing was done")
            self._inboxes.add(outlet)

    def subscribe(
        self,
        key: Key,
        outlet: Outlet,
        every_s: float,
        on_change: bool,
        deadband: float,
        max_queue: int,
        number: int,
    ) -> Subscriber:
        bound = self._observers.bounds.subscriptions_per_client
        with self._lock:
            self._subscribers = {each for each in self._subscribers if not each.ended}
            if len(self._subscribers) >= bound:
                raise Busy(f"this connection has {bound} subscriptions already; cancel one first")
            subscriber = self._observers.subscribe(
                *key, outlet, every_s, on_change=on_change, deadband=deadband, max_queue=max_queue, number=number
            )
            self._subscribers.add(subscriber)
            closed = self._closed
        if closed:  # meanwhile
            self.close()
        return subscriber

    def cancel(self, subscriber: Subscriber) -> None:
        with self._lock:
            self._subscribers.discard(subscriber)
        self._observers.cancel([subscriber])

    def close(self) -> None:
        with self._lock:
            self._closed = True
            subscribers, self._subscribers = self._subscribers, set()
            outlets = {*self._inboxes, *(subscriber.outlet for subscriber in subscribers)}
            self._inboxes.clear()
        self._observers.cancel(subscribers)
        for outlet in outlets:
            self._observers.close_outlet(outlet)


class ObservedService(Exposable):
    """For a gateway's root to mix in; `observe_by` gives it its observers."""

    _observing: Observing | None = None

    def observe_by(self, observers: Observers, admit: Admit) -> None:
        """From now on readings come from `observers`; `admit(device, property)` raises where the caller may not."""
        self._observing = Observing(observers, admit)

    @property
    @exposed
    def observers(self) -> Observing:
        """Readings for many: `read(target, max_age_s)` and `subscribe(target, callback, every_s)`."""
        if self._observing is None:
            raise GatewayError("this gateway has no observers")
        return self._observing
