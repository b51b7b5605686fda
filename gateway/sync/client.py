"""Opening connections, and RPyC's small tools around them: async_, timed, buffiter, restricted, BgServingThread."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from threading import Thread
from typing import Any
from weakref import WeakValueDictionary

from gateway.channels import memory_pair
from gateway.channels.base import Channel
from gateway.errors import LinkDown
from gateway.limits import DEFAULT_LIMITS, Limits
from gateway.protocol.constants import Handler
from gateway.service.service import Service, VoidService, instance_of
from gateway.sync.connection import Connection
from gateway.sync.netref import BaseNetref, remote_method
from gateway.sync.reactor import REACTOR
from gateway.sync.result import AsyncResult


def connect_channel(
    channel: Channel,
    service: Service | type[Service] = VoidService,
    config: dict[str, Any] | None = None,
    *,
    limits: Limits | None = None,
    strict: bool = False,
    background: bool = True,
) -> Connection:
    """A connection over `channel`, with `service` as this side's root.

    `background`: the process's reactor looks after it while no thread of the caller does, so that the peer's calls are
    answered and its end is noticed. Without it the caller serves (`serve`, `serve_all`, BgServingThread).
    """
    root = instance_of(service)
    conn = Connection(root, channel, config or {}, limits=limits, strict=strict)
    root.on_connect(conn)
    if background:
        REACTOR.add(conn)
    return conn


def connect_pair(
    service_a: Service | type[Service] = VoidService,
    service_b: Service | type[Service] = VoidService,
    config_a: dict[str, Any] | None = None,
    config_b: dict[str, Any] | None = None,
    *,
    limits: Limits | None = None,
) -> tuple[Connection, Connection]:
    """Two connections of this process that talk to each other, for tests and experiments; both served in the
    background.
    """
    channel_a, channel_b = memory_pair(limits or DEFAULT_LIMITS)
    conn_b = connect_channel(channel_b, service_b, config_b, limits=limits)
    return connect_channel(channel_a, service_a, config_a, limits=limits), conn_b


class Async:
    """A remote callable whose calls give an AsyncResult at once."""

    __slots__ = ("__weakref__", "_name", "_proxy", "_target")

    def __init__(self, target: Any) -> None:
        remote = remote_method(target)
        if remote is None and not isinstance(target, BaseNetref):
            raise TypeError(f"async_ takes a remote callable, not {type(target).__name__}")
        if not callable(target):
            raise TypeError("async_ takes a remote callable; this object can't be called")
        self._target = target
        self._proxy: BaseNetref = remote[0] if remote else target
        self._name: str | None = remote[1] if remote else None

    def __call__(self, *args: Any, **kwargs: Any) -> AsyncResult:
        conn: Connection = self._proxy.____conn__
        return conn.call_async(self._proxy, self._name, args, kwargs)

    def __repr__(self) -> str:
        return f"async_({self._target!r})"


def async_(target: Any) -> Async:
    """The asynchronous version of a remote callable: calling it does not wait, its result is an AsyncResult.

    Raises TypeError for what is not remote or not callable.
    """
    if isinstance(target, Async):
        return target
    # The same wrapper for the same callable as long as somebody holds it, as RPyC's users expect.
    key = (id(target.__self__), target.__name__) if remote_method(target) is not None else (id(target), None)
    wrapper = _wrappers.get(key)
    if wrapper is None:
        wrapper = _wrappers[key] = Async(target)
    return wrapper


_wrappers: WeakValueDictionary[tuple[int, str | None], Async] = WeakValueDictionary()


class timed:
    """A remote callable whose calls give an AsyncResult that expires after `timeout` seconds."""

    __slots__ = ("_call", "_timeout")

    def __init__(self, target: Any, timeout: float | None) -> None:
        self._call = async_(target)
        self._timeout = timeout

    def __call__(self, *args: Any, **kwargs: Any) -> AsyncResult:
        result = self._call(*args, **kwargs)
        result.set_expiry(self._timeout)
        return result

    def __repr__(self) -> str:
        return f"timed({self._call!r}, {self._timeout!r})"


def buffiter(obj: Iterable[Any], chunk: int = 10, max_chunk: int = 1000, factor: float = 2) -> Iterator[Any]:
    """Iterate a remote iterable in blocks: `chunk` items in the first request, `factor` times more in each next one.

    Raises ValueError for a factor below 1.
    """
    if factor < 1:
        raise ValueError(f"factor must be 1 or more, not {factor!r}")
    if not isinstance(obj, BaseNetref):
        yield from obj
        return
    iterator: Any = iter(obj)
    count = float(chunk)
    while True:
        items = iterator.____conn__.sync_request(Handler.BUFFITER, iterator, int(min(count, max_chunk)))
        if not items:
            return
        yield from items
        count = min(count * factor, max_chunk)


def restricted(obj: Any, attrs: Iterable[str], wattrs: Iterable[str] | None = None) -> Any:
    """A view of `obj` that shows only `attrs`, and lets only `wattrs` (default: the same) be set."""
    readable = frozenset(attrs)
    writable = readable if wattrs is None else frozenset(wattrs)
    return _Restricted(obj, readable, writable)


class _Restricted:
    __slots__ = ("__weakref__", "_obj", "_readable", "_writable")

    def __init__(self, obj: Any, readable: frozenset[str], writable: frozenset[str]) -> None:
        set_own = object.__setattr__
        set_own(self, "_obj", obj)
        set_own(self, "_readable", readable)
        set_own(self, "_writable", writable)

    def _rpyc_getattr(self, name: str) -> Any:
        if name not in object.__getattribute__(self, "_readable"):
            raise AttributeError(name)
        return getattr(object.__getattribute__(self, "_obj"), name)

    def _rpyc_setattr(self, name: str, value: Any) -> None:
        if name not in object.__getattribute__(self, "_writable"):
            raise AttributeError(name)
        setattr(object.__getattribute__(self, "_obj"), name, value)

    def _rpyc_delattr(self, name: str) -> None:
        raise AttributeError(f"cannot delete {name!r} through a restricted view")

    __getattr__ = _rpyc_getattr
    __setattr__ = _rpyc_setattr
    __delattr__ = _rpyc_delattr


class BgServingThread:
    """Serves a connection in a thread of its own until `stop`, or until it is gone: then `callback` is called."""

    SERVE_INTERVAL = 0.0
    SLEEP_INTERVAL = 0.1

    def __init__(
        self,
        conn: Connection,
        callback: Callable[[], None] | None = None,
        serve_interval: float = SERVE_INTERVAL,
        sleep_interval: float = SLEEP_INTERVAL,
    ) -> None:
        self._conn = conn
        self._callback = callback
        # Both intervals make one here: the thread waits for messages instead of sleeping past them.
        self._interval = serve_interval + sleep_interval
        self._active = True
        self._thread = Thread(target=self._serve, name="bg-serving", daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        try:
            while self._active:
                self._conn.serve(self._interval)
        except LinkDown:
            if self._active:
                self._active = False
                if self._callback is not None:
                    self._callback()

    def stop(self) -> None:
        """End the thread. Raises RuntimeError if it has ended."""
        if not self._active:
            raise RuntimeError("this BgServingThread has stopped")
        self._active = False
        self._thread.join()
