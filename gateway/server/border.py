"""Border: one connection to a host, and the one place that decides what may cross it.

    client's call ── outward(arguments) ──> host ── inward(result) ──> client
    host's callback ── inward(arguments) ──> client ── outward(result) ──> host

Values cross as they are, containers item by item. Of objects there cross, wrapped in relays: towards a client the
host's own, towards the host the caller's own. An object that comes back is unwrapped, and arrives at home as itself.
All else is refused: a local device, another client's object, another host's.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import EllipsisType, NoneType, NotImplementedType
from typing import Any, Final
from weakref import WeakValueDictionary

from gateway.errors import (
    AccessDenied,
    CallTimeout,
    LinkDown,
    NotFound,
    OutcomeUnknown,
    ProtocolError,
)
from gateway.limits import Limits
from gateway.protocol.constants import Handler
from gateway.protocol.netref import BUILTIN_CLASSES, IdPack, Netref
from gateway.protocol.vinegar import is_remote
from gateway.server.fair_lane import FairLane
from gateway.server.relay import (
    GENERATOR,
    ClientObject,
    HostObject,
    HostRelay,
    HostStream,
    Neighbour,
    call_far,
    client_class,
    host_class,
)
from gateway.sync.calls import Calls, Task
from gateway.sync.connection import Connection
from gateway.sync.lane import Lane
from gateway.sync.netref import BaseNetref

ANSWER_S: Final = 10.0
"""An answer about the devices may take so long."""
_VALUES: Final = frozenset(
    {NoneType, bool, int, float, complex, str, bytes, bytearray, slice, set, frozenset, EllipsisType}
    | {NotImplementedType}
)


class Border:
    """One connection to a host: relays requests over it, and turns what crosses it into what the other side may have.

    What crosses is decided here and nowhere else: `inward` towards the clients, `outward` towards the host.
    """

    def __init__(self, host: Neighbour, conn: Connection, limits: Limits) -> None:
        self.host = host
        self.conn = conn
        self._limits = limits
        self._classes: dict[tuple[int, str, int, bool], type[Any]] = {}
        """Classes of relays, by connection token, the name and id of the far class, and whether it is a class."""
        self._objects: WeakValueDictionary[IdPack, HostObject] = WeakValueDictionary()
        self._client_objects: WeakValueDictionary[tuple[int, IdPack], ClientObject] = WeakValueDictionary()
        """Relays that somebody holds, lest the same object becomes another one each time it crosses."""
        self._devices: dict[str, BaseNetref] = {}

    def device(self, name: str) -> BaseNetref:
        """The host's device of that name, over this connection. Raises GatewayError; then nothing was done."""
        far = self._devices.get(name)
        if far is None:
            far = self._devices[name] = answer(self.conn, self.conn.root, "device", (name,), ANSWER_S)
        return far

    # -- requests of clients ----------------------------------------------------------------------------------------

    def call(
        self, relay: HostRelay, far: BaseNetref, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """`far.method(*args, **kwargs)` at the host."""
        if method == "__exit__":  # of the exception nothing but its name travels, as on one hop
            error = args[1] if len(args) > 1 else None
            return self._ask(relay, lambda: self.conn.sync_request(Handler.CTXEXIT, far, error))
        lane, client = relay.gateway_lane, _client_of(relay)
        args = self.outward(args, client, lane)
        kwargs = {key: self.outward(value, client, lane) for key, value in kwargs.items()}
        return self._ask(relay, lambda: call_far(self.conn, far, method, args, kwargs))

    def read(self, relay: HostRelay, far: BaseNetref, name: str) -> Any:
        """`far.name` at the host."""
        return self._ask(relay, lambda: self.conn.get_attribute(far, name))

    def write(self, relay: HostRelay, far: BaseNetref, name: str, value: Any) -> None:
        """`far.name = value` at the host."""
        value = self.outward(value, _client_of(relay), relay.gateway_lane)
        self._ask(relay, lambda: self.conn.sync_request(Handler.SETATTR, far, name, value))

    def block(self, relay: HostRelay, far: BaseNetref, count: int) -> tuple[Any, ...]:
        """The next items of a stream of the host, at most `count`."""
        items = self._ask(relay, lambda: self.conn.sync_request(Handler.BUFFITER, far, count))
        if type(items) is not tuple or len(items) > count:
            raise ProtocolError(f"{self.host.name} answered a request for {count} items with something else")
        return items

    def _ask(self, relay: HostRelay, ask: Callable[[], Any]) -> Any:
        """Send one request to the host; nobody ever sends it again.

        Raises what the host raised; DeviceUnavailable where it did not leave, OutcomeUnknown where no answer came.
        """
        if self.conn.closed:
            raise self.host.unavailable(relay.what)
        try:
            return self.inward(ask(), relay.gateway_lane)
        except LinkDown as error:
            if is_remote(error):
                raise
            raise OutcomeUnknown(
                f"{relay.what}: the line to {self.host.name} was lost while the call was on its way, and it may or may"
                f" not have been done ({error})",
                host=self.host.name,
            ) from None
        except NotFound as error:
            if is_remote(error) and self.host.suspect(self.conn):
                raise self.host.unavailable(relay.what) from None
            raise

    # -- what crosses -----------------------------------------------------------------------------------------------

    def inward(self, value: Any, lane: Lane[Task] | None = None) -> Any:
        """What a client may have for `value` of the host. Raises AccessDenied for what is not the host's to give."""
        kind = type(value)
        if kind in _VALUES:
            return value
        if kind in (tuple, list):
            return value if _VALUES.issuperset(map(type, value)) else kind([self.inward(each, lane) for each in value])
        if kind is dict:
            return {key: self.inward(item, lane) for key, item in value.items()}
        if issubclass(kind, Netref) and value.____conn__ is self.conn:
            return self._host_object(value, lane)
        if issubclass(kind, ClientObject):
            # Its owner gets its own object; to anybody else a proxy shows nothing.
            return value.far
        if issubclass(kind, HostRelay) and value.host is self.host:
            return value
        if _is_array(kind):
            return value
        raise AccessDenied(f"{self.host.name} returned an object that is not its own", rule="bridge")

    def outward(self, value: Any, client: Calls | None, lane: Lane[Task] | None) -> Any:
        """What the host may have for `value` of `client`. Raises AccessDenied for what is neither's of the two."""
        kind = type(value)
        if kind in _VALUES:
            return value
        if kind in (tuple, list):
            if _VALUES.issuperset(map(type, value)):
                return value
            return kind([self.outward(each, client, lane) for each in value])
        if kind is dict:
            return {key: self.outward(item, client, lane) for key, item in value.items()}
        if issubclass(kind, Netref):
            if value.____conn__.calls is client:
                return self._client_object(value, lane)
        elif issubclass(kind, HostRelay):
            if value.host is self.host:
                return value.seen_from(self)
        elif _is_array(kind):
            return value
        raise AccessDenied(
            f"an instrument host can be given values, objects of your own, and objects of the same host; {_name(kind)}"
            " is none of these",
            rule="bridge",
        )

    def _host_object(self, far: BaseNetref, lane: Lane[Task] | None) -> HostObject:
        found = self._objects.get(far.____id_pack__)
        if found is None or found.far is not far:
            kind = self._class_of(far, self._host_class)
            found = self._objects[far.____id_pack__] = kind(far, self)
            found.gateway_lane = lane or FairLane(found.what, self._limits.pending_calls)
        return found

    def _client_object(self, far: BaseNetref, lane: Lane[Task] | None) -> ClientObject:
        key = (far.____conn__.token, far.____id_pack__)
        found = self._client_objects.get(key)
        if found is None or found.far is not far:
            found = self._client_objects[key] = self._class_of(far, client_class)(far, self, lane)
        return found

    def _class_of(self, far: BaseNetref, make: Callable[[BaseNetref], type[Any]]) -> type[Any]:
        name, class_id, instance_id = far.____id_pack__
        key = (far.____conn__.token, name, class_id, instance_id == 0)
        found = self._classes.get(key)
        if found is None:
            if len(self._classes) >= self._limits.remote_classes:
                self._classes.clear()
            found = self._classes[key] = make(far)
        return found

    def _host_class(self, far: BaseNetref) -> type[HostObject]:
        name = far.____id_pack__[0]
        if name == GENERATOR:
            return HostStream
        return host_class(far, dict(type(far).____methods__) if name in BUILTIN_CLASSES else self._dir(far))

    def _dir(self, far: BaseNetref) -> tuple[str, ...]:
        names = self.conn.sync_request(Handler.DIR, far)
        if type(names) is not tuple or len(names) > self._limits.methods:
            raise ProtocolError(f"{self.host.name} does not list an object's members as a short tuple")
        if not all(type(name) is str and len(name) <= self._limits.name for name in names):
            raise ProtocolError(f"{self.host.name} lists members whose names are none")
        return names


def answer(conn: Connection, target: BaseNetref, method: str, args: tuple[Any, ...], within_s: float) -> Any:
    """`target.method(*args)`, within a time of its own. Raises what it raises, CallTimeout, LinkDown.

    The class of what it gives is not asked for: that would be another round trip, and it is known what it shows.
    """
    result = conn.call_async(target, method, args, {})
    if not conn.wait_for(result, within_s):
        raise CallTimeout(f"no answer to {method}() within {within_s:g} s")
    if result.failure is not None:
        raise result.failure
    return result.answer


def _client_of(relay: HostRelay) -> Calls | None:
    """The client whose call has the relay's lane: a relay is entered through its lane only."""
    task = relay.gateway_lane.owner if relay.gateway_lane is not None else None
    return task.calls if task is not None else None


def _is_array(kind: type[Any]) -> bool:
    numpy = sys.modules.get("numpy")
    return numpy is not None and issubclass(kind, numpy.ndarray | numpy.generic)


def _name(kind: type[Any]) -> str:
    return "somebody else's object" if issubclass(kind, Netref | ClientObject) else f"this {kind.__name__}"
