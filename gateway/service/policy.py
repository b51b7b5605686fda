"""The one gate: whatever a peer asks of one of our objects, it asks through a Policy.

One method per kind of request. `SeedPolicy` follows RPyC's config keys, `DevicePolicy` the exposure table and nothing
else.
"""

from __future__ import annotations

import builtins
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Any, Final

from gateway.limits import Limits
from gateway.protocol.netref import IdPack, Methods, Netref
from gateway.protocol.vinegar import GenericException
from gateway.protocol.weight import weight

COMPARISONS: Final = frozenset({"__eq__", "__ne__", "__lt__", "__le__", "__gt__", "__ge__", "__cmp__"})


class Policy(ABC):
    """Decides and does. Every method raises AttributeError (AccessDenied if strict) for what it refuses."""

    copies: bool
    """Whether containers and arrays may go by value to peers that understand it."""

    @abstractmethod
    def get(self, obj: Any, name: str) -> Any: ...

    @abstractmethod
    def set(self, obj: Any, name: str, value: Any) -> None: ...

    @abstractmethod
    def delete(self, obj: Any, name: str) -> None: ...

    @abstractmethod
    def call(self, obj: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any: ...

    @abstractmethod
    def call_attr(self, obj: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any: ...

    @abstractmethod
    def repr_of(self, obj: Any) -> str: ...

    @abstractmethod
    def str_of(self, obj: Any) -> str: ...

    @abstractmethod
    def hash_of(self, obj: Any) -> int: ...

    @abstractmethod
    def compare(self, obj: Any, other: Any, operator: str) -> Any: ...

    @abstractmethod
    def dir_of(self, obj: Any) -> tuple[str, ...]: ...

    @abstractmethod
    def methods(self, obj: Any) -> Methods: ...

    @abstractmethod
    def pickled(self, obj: Any, protocol: int) -> bytes: ...

    @abstractmethod
    def take(self, obj: Any, count: int) -> tuple[Any, ...]:
        """The next items of an iterator, at most `count` and within the limits of one reply."""

    @abstractmethod
    def slice_of(self, obj: Any, attempt: str, fallback: str, bounds: slice, args: tuple[Any, ...]) -> Any: ...

    @abstractmethod
    def exit_context(self, obj: Any, error: Any) -> Any:
        """Leave a `with`: `error` is None or whatever the peer sent for its exception."""

    @abstractmethod
    def is_instance(self, cls: Any, other: Any, id_pack: IdPack) -> bool:
        """`other` is our object of that id_pack, or None where it is none of ours."""

    @abstractmethod
    def result(self, value: Any) -> Any:
        """What is sent for a result."""

    @abstractmethod
    def shows_traceback(self) -> bool:
        """Whether an exception's traceback may leave this side."""


def bounded_items(items: Iterable[Any], count: int, limits: Limits) -> tuple[Any, ...]:
    """Items for one reply: fewer than `count` where they would be too many or too large for it."""
    taken: list[Any] = []
    room = limits.buffiter_bytes
    most = min(count, limits.buffiter_items)
    if most == 0:
        return ()
    for item in items:
        taken.append(item)
        if type(item) in (str, bytes):
            room -= len(item)
        elif type(item) in (tuple, list):
            room -= weight(item, 0)
        if len(taken) >= most or room <= 0:
            break
    return tuple(taken)


def raise_locally(error: Any, leave: Callable[..., Any]) -> Any:
    """Call `__exit__` as if the peer's exception had been raised here.

    The peer's exception object stays with the peer; here its builtin class, or a GenericException named after it,
    stands in.
    """
    stand_in: Exception
    name = error.____id_pack__[0] if isinstance(error, Netref) else type(error).__name__
    module, _, cls_name = name.rpartition(".")
    cls = getattr(builtins, cls_name, None) if module in ("", "builtins") else None
    if isinstance(cls, type) and issubclass(cls, Exception):
        stand_in = cls()
    else:
        stand_in = GenericException()
        stand_in.remote_class = name
    try:
        raise stand_in
    except Exception as raised:
        return leave(type(raised), raised, raised.__traceback__)
