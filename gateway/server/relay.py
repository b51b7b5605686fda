"""Relays: what stands at the gateway for an object that is further away, so that it can be used across two hops.

    LAN client ── connection ──> HostRelay  ── Border, connection ──> object of a host
    LAN client <── connection ── ClientObject <── Border, connection ── driver on the host

A proxy itself shows nothing under the device policy, and that stays so: proxies of the clients lie side by side in a
gateway, and what one of them shows must never depend on who lent it. So each object that crosses is wrapped in a relay,
which has an exposure table like everything else: the host's own, or for a client's object what the client's connection
told. A relay is made by a Border only, for a proxy of the Border's own connection, or of the client whose call is being
relayed. All else is refused: a local device, another client's object, another host's.

A relay does no more than pass the request on. What the owner's policy refuses is refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Protocol

from gateway.errors import DeviceUnavailable
from gateway.limits import Limits
from gateway.protocol.constants import Handler
from gateway.server.described import CALL, READ, row_of
from gateway.service.device_policy import ItemStream
from gateway.service.exposure import EXPOSED_PREFIX, Exposable, Exposure, Kind, exposed
from gateway.sync.calls import Calls, Task
from gateway.sync.connection import Connection
from gateway.sync.lane import Lane
from gateway.sync.netref import BaseNetref

if TYPE_CHECKING:
    from gateway.server.border import Border

GENERATOR: Final = "builtins.generator"
"""What a stream is called on the wire."""
_CLASS_NAME: Final = re.compile(r"[A-Za-z0-9_.<>]{1,200}")


class Neighbour(Protocol):
    """What relays need to know of the host that they lead to."""

    name: str

    def unavailable(self, what: str) -> DeviceUnavailable:
        """The error for a call of `what` while the host is away."""

    def suspect(self, conn: Connection) -> bool:
        """An object that was held is not there any more: whether the host was started anew without a word."""


# ------------------------------------------------------------------------------------------------ objects of a host


class HostRelay(Exposable):
    """An object of a host, as the gateway's clients reach it."""

    host: Neighbour
    what: str
    """What errors call it."""

    def reach(self) -> tuple[Border, BaseNetref]:
        """The way to it, and its proxy. Raises DeviceUnavailable; then nothing was done."""
        raise NotImplementedError

    def seen_from(self, border: Border) -> Any:
        """What stands for it in a call that crosses `border`."""
        raise NotImplementedError

    def __getattr__(self, attribute: str) -> Any:
        # Only asked for what no object of ours has: see `described.READ`.
        if attribute.startswith(READ):
            border, far = self.reach()
            return border.read(self, far, attribute.removeprefix(READ))
        if attribute.startswith(CALL):
            return partial(self._call, attribute.removeprefix(CALL))
        raise AttributeError(attribute)

    def __setattr__(self, attribute: str, value: Any) -> None:
        if attribute.startswith(READ):
            border, far = self.reach()
            border.write(self, far, attribute.removeprefix(READ), value)
        else:
            object.__setattr__(self, attribute, value)

    def _call(self, method: str, /, *args: Any, **kwargs: Any) -> Any:
        border, far = self.reach()
        return border.call(self, far, method, args, kwargs)


class HostObject(HostRelay):
    """An object that a host's device returned. It is lost with the connection that it came over."""

    def __init__(self, far: BaseNetref, border: Border) -> None:
        self.far = far
        self.border = border
        self.host = border.host
        self.what = f"an object of {border.host.name}"

    def reach(self) -> tuple[Border, BaseNetref]:
        if self.border.conn.closed:
            raise DeviceUnavailable(
                f"{self.what}: it was lost with the line to {self.host.name}; ask the device for it again, nothing was"
                " done",
                host=self.host.name,
            )
        return self.border, self.far

    def seen_from(self, border: Border) -> Any:
        self.reach()
        return self.far if border is self.border else self


class HostStream(HostObject, ItemStream):
    """A stream of a host's device: each request for items becomes one there."""

    def block(self, count: int, limits: Limits) -> tuple[Any, ...]:
        border, far = self.reach()
        return border.block(self, far, min(count, limits.buffiter_items))

    @exposed(access="read")
    def __next__(self) -> Any:
        return self._call("__next__")

    @exposed(access="read")
    def close(self) -> None:
        """End the stream early."""
        self._call("close")


HostStream.__module__, HostStream.__name__ = GENERATOR.split(".")


# ---------------------------------------------------------------------------------------------- objects of a client


class ClientTable(Mapping[str, Exposure]):
    """What a client's object shows: its methods by name, and as a property whatever else it may have.

    The client's own policy decides about each request.
    """

    def __init__(self, far: BaseNetref) -> None:
        self._methods = {}
        for method, doc in type(far).____methods__:
            for name in {method, method.removeprefix(EXPOSED_PREFIX)}:
                self._methods[name] = row_of(name, Kind.METHOD, doc=doc or "")

    def __getitem__(self, name: str) -> Exposure:
        if name in self._methods:
            return self._methods[name]
        if name.startswith("_"):
            raise KeyError(name)
        return row_of(name, Kind.PROPERTY, settable=True)

    def __iter__(self) -> Iterator[str]:
        return iter(self._methods)

    def __len__(self) -> int:
        return len(self._methods)


class ClientObject(Exposable):
    """An object of a client, such as a callback, as a host's driver reaches it."""

    table: Mapping[str, Exposure]

    def __init__(self, far: BaseNetref, border: Border, lane: Lane[Task] | None) -> None:
        self.far = far
        self._border = border
        self._lane = lane

    def exposures(self) -> Mapping[str, Exposure]:
        return self.table

    def __getattr__(self, attribute: str) -> Any:
        if attribute.startswith(READ):
            return self._ask(lambda conn: conn.get_attribute(self.far, attribute.removeprefix(READ)))
        if attribute.startswith(CALL):
            return partial(self._call, attribute.removeprefix(CALL))
        raise AttributeError(attribute)

    def __setattr__(self, attribute: str, value: Any) -> None:
        if attribute.startswith(READ):
            name, value = attribute.removeprefix(READ), self._border.inward(value)
            self._ask(lambda conn: conn.sync_request(Handler.SETATTR, self.far, name, value))
        else:
            object.__setattr__(self, attribute, value)

    def _call(self, method: str, /, *args: Any, **kwargs: Any) -> Any:
        args = self._border.inward(args)
        kwargs = {key: self._border.inward(value) for key, value in kwargs.items()}
        return self._ask(lambda conn: call_far(conn, self.far, method, args, kwargs))

    def _ask(self, ask: Callable[[Connection], Any]) -> Any:
        conn: Connection = self.far.____conn__
        with self._noting_who_waits(conn.calls):
            return self._border.outward(ask(conn), conn.calls, self._lane)

    @contextmanager
    def _noting_who_waits(self, client: Calls) -> Iterator[None]:
        """The client's own call, which holds the device, waits for the client now: a further one would wait for ever,
        and is refused.
        """
        task = self._lane.owner if self._lane is not None else None
        if task is None or task.calls is not client or task.waits_for_peer:
            yield
            return
        task.waits_for_peer = True
        try:
            yield
        finally:
            task.waits_for_peer = False


# -------------------------------------------------------------------------------------------------------- classes


def host_class(far: BaseNetref, names: Iterable[str]) -> type[HostObject]:
    """The class of relays for objects like `far`, of which the host says that they have `names`."""
    methods = dict(type(far).____methods__)
    rows = {name: _host_row(name, methods) for name in names}
    return _named(HostObject, far, "__exposure__", MappingProxyType(rows))


def client_class(far: BaseNetref) -> type[ClientObject]:
    """The class of relays for objects like `far`."""
    return _named(ClientObject, far, "table", ClientTable(far))


def _host_row(name: str, methods: dict[str, str | None]) -> Exposure:
    if name not in methods:
        return row_of(name, Kind.PROPERTY, settable=True)
    # A host's method table has the signature in front of the docstring.
    head, _, doc = (methods[name] or "").partition("\n\n")
    signature = head.removeprefix(name) if head.startswith(f"{name}(") else ""
    return row_of(name, Kind.METHOD, signature=signature, doc=doc if signature else methods[name] or "")


def _named(base: type[Any], far: BaseNetref, attribute: str, table: Mapping[str, Exposure]) -> type[Any]:
    """A class of relays with that table, called as the far object's class: stock clients go by the name."""
    name = far.____id_pack__[0]
    module, _, own = (name if _CLASS_NAME.fullmatch(name) else "gateway.Object").rpartition(".")
    made = type(own or "Object", (base,), {"__module__": module or "gateway"})
    setattr(made, attribute, table)
    return made


def call_far(conn: Connection, far: BaseNetref, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """`far.method(*args, **kwargs)` over `conn`."""
    return conn.call(far, args, kwargs) if method == "__call__" else conn.call_method(far, method, args, kwargs)
