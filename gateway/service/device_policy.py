"""The device policy: an object's exposure table is all a peer can reach, whichever handler it asks.

What is denied is denied in the same words whether the name exists or not. Handles for methods, iterators and mappings
go under the builtin names that stock RPyC clients know without asking, so they cost a stock client no INSPECT.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import cache
from types import GeneratorType
from typing import Any, Final, NoReturn

from gateway.errors import AccessDenied
from gateway.limits import Limits
from gateway.protocol.brine import dumpable
from gateway.protocol.copies import degrade
from gateway.protocol.netref import FIXED_ATTRIBUTE, IdPack, Methods, Netref
from gateway.service import permit
from gateway.service.exposure import Access, Exposable, Exposure, Kind, exposed, exposure_table
from gateway.service.permit import Operation
from gateway.service.policy import Policy, bounded_items, raise_locally

# Looking a member of an enum up in its class takes longer than the policy's other questions.
_GET, _SET, _CALL, _PROPERTY = Operation.GET, Operation.SET, Operation.CALL, Kind.PROPERTY
_SALT: Final = os.urandom(16)


class Member:
    """An exposed method of one object, waiting to be called."""

    __slots__ = ("exposure", "target")

    def __init__(self, target: Any, exposure: Exposure) -> None:
        self.target = target
        self.exposure = exposure


class ItemStream(Exposable):
    """An iterator that a device returned: it can be iterated, in single items or in blocks, and closed.

    The device's code runs when an item is asked for, so that needs the `access` which getting the iterator needed.
    """

    access = Access.READ

    def __init__(self, items: Iterator[Any], access: Access = Access.READ) -> None:
        self._items = items
        self.access = access

    def exposures(self) -> Mapping[str, Exposure]:
        return _rows_for(self.access)

    def block(self, count: int, limits: Limits) -> tuple[Any, ...]:
        """The next items for one reply, at most `count`; none at the end."""
        return bounded_items(self._items, count, limits)

    @exposed(access="read")
    def __iter__(self) -> ItemStream:
        return self

    @exposed(access="read")
    def __next__(self) -> Any:
        return next(self._items)

    @exposed(access="read")
    def close(self) -> None:
        """End the stream early."""
        if isinstance(self._items, GeneratorType):
            self._items.close()


@cache
def _rows_for(access: Access) -> Mapping[str, Exposure]:
    """The table of an ItemStream of which each item needs that access."""
    rows = dict(ItemStream.__exposure__)
    return rows | {"__next__": replace(rows["__next__"], access=access)}


class MappingView(Exposable):
    """A dict that a device returned, read-only, for peers that take no dict by value."""

    def __init__(self, mapping: Mapping[Any, Any]) -> None:
        self._mapping = {key: plain(value) for key, value in mapping.items()}

    @exposed(access="read")
    def __getitem__(self, key: Any) -> Any:
        return self._mapping[key]

    @exposed(access="read")
    def __contains__(self, key: Any) -> bool:
        return key in self._mapping

    @exposed(access="read")
    def __len__(self) -> int:
        return len(self._mapping)

    @exposed(access="read")
    def __iter__(self) -> ItemStream:
        return ItemStream(iter(tuple(self._mapping)))

    @exposed(access="read")
    def get(self, key: Any, default: Any = None) -> Any:
        return self._mapping.get(key, default)

    @exposed(access="read")
    def keys(self) -> tuple[Any, ...]:
        return tuple(self._mapping)

    @exposed(access="read")
    def values(self) -> tuple[Any, ...]:
        return tuple(self._mapping.values())

    @exposed(access="read")
    def items(self) -> tuple[tuple[Any, Any], ...]:
        return tuple(self._mapping.items())

    def __repr__(self) -> str:
        # An object's own repr may tell its address.
        items = self._mapping.items()
        shown = (f"{key!r}: {repr(value) if dumpable(value) else _shown(value)}" for key, value in items)
        return f"{{{', '.join(shown)}}}"


for _cls, _name in ((Member, "method"), (ItemStream, "generator"), (MappingView, "dict")):
    _cls.__module__, _cls.__name__ = "builtins", _name


def plain(value: Any) -> Any:
    """A result for a peer that takes no containers by value: tuples for lists and arrays, a view for a dict."""
    value = degrade(value)
    if type(value) is dict:
        return MappingView(value)
    if type(value) is tuple:
        return tuple([plain(item) for item in value])
    return value


class DevicePolicy(Policy):
    """The strict gate. It reads no config: no key can open it."""

    copies = True

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.peer_takes_copies = False
        """Set once the peer said in HELLO that it understands containers by value."""
        self.peer_knows_fixed = False
        self.brief = False
        """Whether each byte takes long: methods are named and not described; `describe` is there for who asks."""
        """Set once the peer said in HELLO that it understands fixed attributes."""

    def get(self, obj: Any, name: str) -> Any:
        exposure = _find(obj, name)
        if exposure.kind is _PROPERTY:
            _admit(obj, exposure, _GET)
            return getattr(obj, exposure.attribute)
        return Member(obj, exposure)

    def set(self, obj: Any, name: str, value: Any) -> None:
        exposure = _table(obj).get(name)
        if exposure is None or not exposure.settable:
            _deny(obj, name, "set")
        _admit(obj, exposure, _SET, (value,))
        setattr(obj, exposure.attribute, value)

    def delete(self, obj: Any, name: str) -> None:
        _deny(obj, name, "delete")

    def call(self, obj: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if type(obj) is Member:
            _admit(obj.target, obj.exposure, _CALL, args, kwargs)
            return getattr(obj.target, obj.exposure.attribute)(*args, **kwargs)
        exposure = _table(obj).get("__call__")
        if exposure is None:
            _deny(obj, "__call__", "call")
        _admit(obj, exposure, _CALL, args, kwargs)
        return getattr(obj, exposure.attribute)(*args, **kwargs)

    def call_attr(self, obj: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if type(obj) is Member and name == "__call__":
            return self.call(obj, args, kwargs)
        exposure = _find(obj, name)
        if exposure.kind is _PROPERTY:
            _deny(obj, name, "call")
        visit = permit.here.visit
        if visit is not None:  # `_admit`, for what is called most
            visit.admit(obj, exposure, _CALL, args, kwargs)
        return getattr(obj, exposure.attribute)(*args, **kwargs)

    def repr_of(self, obj: Any) -> str:
        return _shown(obj)

    str_of = repr_of

    def hash_of(self, obj: Any) -> int:
        # Not the address, nor anything it could be computed from.
        from hashlib import blake2b  # a client has no use for it, and it takes a tenth of the import

        return int.from_bytes(blake2b(id(obj).to_bytes(8, "big"), key=_SALT, digest_size=7).digest(), "big")

    def compare(self, obj: Any, other: Any, operator: str) -> Any:
        if operator not in ("__eq__", "__ne__"):
            _deny(obj, operator, "call")
        return (obj is other) == (operator == "__eq__")

    def dir_of(self, obj: Any) -> tuple[str, ...]:
        return tuple(_table(obj))

    def methods(self, obj: Any) -> Methods:
        if type(obj) is Member:
            return (("__call__", _documentation(obj.exposure)),)
        rows = _table(obj).values()
        text: Callable[[Exposure], str | None] = (lambda _: None) if self.brief else _documentation
        methods: Methods = tuple((row.name, text(row)) for row in rows if row.kind is not _PROPERTY)
        if not self.peer_knows_fixed:
            return methods
        fixed: Any = tuple((row.name, text(row), FIXED_ATTRIBUTE) for row in rows if row.fixed)
        return methods + fixed  # type: ignore[no-any-return]

    def pickled(self, obj: Any, protocol: int) -> bytes:
        _deny(obj, "__reduce_ex__", "call")

    def take(self, obj: Any, count: int) -> tuple[Any, ...]:
        if not issubclass(type(obj), ItemStream):
            _deny(obj, "__next__", "call")
        _admit(obj, _find(obj, "__next__"), _CALL)
        return obj.block(count, self._limits)  # type: ignore[no-any-return]

    def slice_of(self, obj: Any, attempt: str, fallback: str, bounds: slice, args: tuple[Any, ...]) -> Any:
        _deny(obj, attempt, "call")

    def exit_context(self, obj: Any, error: Any) -> Any:
        exposure = _find(obj, "__exit__")
        _admit(obj, exposure, _CALL)
        leave = getattr(obj, exposure.attribute)
        return leave(None, None, None) if error is None else raise_locally(error, leave)

    def is_instance(self, cls: Any, other: Any, id_pack: IdPack) -> bool:
        _deny(cls, "__instancecheck__", "call")

    def result(self, value: Any) -> Any:
        if inspect.isgenerator(value) or (isinstance(value, Iterator) and not isinstance(value, Netref | Exposable)):
            visit = permit.current()
            return ItemStream(value, visit.access if visit is not None else Access.READ)
        return value if self.peer_takes_copies else plain(value)

    def shows_traceback(self) -> bool:
        return False


def _table(obj: Any) -> Mapping[str, Exposure]:
    # Members and proxies of third parties show nothing; a class shows nothing of its instances.
    return {} if isinstance(obj, Member | Netref | type) else exposure_table(obj)


def _find(obj: Any, name: str) -> Exposure:
    exposure = _table(obj).get(name)
    if exposure is None and name.startswith("exposed_"):
        exposure = _table(obj).get(name.removeprefix("exposed_"))
    if exposure is None:
        _deny(obj, name, "read")
    return exposure


def _admit(
    obj: Any,
    exposure: Exposure,
    operation: Operation,
    args: tuple[Any, ...] = (),
    kwargs: dict[str, Any] = {},  # noqa: B006 - never changed
) -> None:
    visit = permit.here.visit
    if visit is not None:
        visit.admit(obj, exposure, operation, args, kwargs)


def _deny(obj: Any, name: str, operation: str) -> NoReturn:
    raise AccessDenied(
        f"{_given_name(obj) or type(obj).__name__}: {name!r} is not exposed for {operation}; dir() lists what is",
        rule="exposure-table",
        member=name,
    )


def _given_name(obj: Any) -> str | None:
    """What the config calls a device. Looked for where it was put: a property of that name is not run."""
    name = vars(obj).get("name") if isinstance(obj, Exposable) else None
    return name if isinstance(name, str) else None


def _shown(obj: Any) -> str:
    if type(obj) is MappingView:
        return repr(obj)
    name = _given_name(obj)
    return f"<{type(obj).__name__} {name}>" if name else f"<{type(obj).__name__}>"


def _documentation(exposure: Exposure) -> str:
    return f"{exposure.name}{exposure.signature}\n\n{exposure.doc}".strip()
