"""Netrefs: proxies of the peer's objects. Using one is a request to its owner; dropping it gives the object back.

A proxy's class is made from the owner's method table. Special methods must be there, because Python looks them up on
the class; exposed methods are there too, so that `proxy.method(x)` is one CALLATTR and no GETATTR before it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from types import MethodType
from typing import Any, ClassVar

from gateway.errors import LinkDown
from gateway.protocol.constants import Handler
from gateway.protocol.netref import BUILTIN_CLASSES, LOCAL_NAMES, NEVER_REMOTE, IdPack, Methods, Netref, methods_of

_EXPOSED = "exposed_"
_SLICERS = {"__getslice__": "__getitem__", "__setslice__": "__setitem__", "__delslice__": "__delitem__"}


class NetrefMeta(type):
    """Gives netref classes a readable repr."""

    def __repr__(cls) -> str:
        return f"<netref class '{cls.__name__}'>"


class BaseNetref(Netref, metaclass=NetrefMeta):
    """What all proxies have in common. Made by `Connection`, never by hand."""

    __slots__ = ()

    ____local_class__: ClassVar[type | None] = None
    """The local class of the same name, for RPyC's builtin names only."""

    def __init__(self, conn: Any, id_pack: IdPack) -> None:
        set_local = object.__setattr__
        set_local(self, "____conn__", conn)
        set_local(self, "____id_pack__", id_pack)

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        local = type(self).____local_class__
        if local is None:
            return type(self)
        return type(local) if self.____id_pack__[2] == 0 else local

    def __getattr__(self, name: str) -> Any:
        if name in NEVER_REMOTE or name == "____boxes__":
            raise AttributeError(name)
        return self.____conn__.get_attribute(self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in LOCAL_NAMES:
            object.__setattr__(self, name, value)
        else:
            self.____conn__.sync_request(Handler.SETATTR, self, name, value)

    def __delattr__(self, name: str) -> None:
        self.____conn__.sync_request(Handler.DELATTR, self, name)

    def __dir__(self) -> list[str]:
        return list(self.____conn__.sync_request(Handler.DIR, self))

    def __hash__(self) -> int:
        return self.____conn__.sync_request(Handler.HASH, self)  # type: ignore[no-any-return]

    def __repr__(self) -> str:
        return _text(self, Handler.REPR)

    def __str__(self) -> str:
        return _text(self, Handler.STR)

    def __eq__(self, other: object) -> Any:
        return self.____conn__.sync_request(Handler.CMP, self, other, "__eq__")

    def __ne__(self, other: object) -> Any:
        return self.____conn__.sync_request(Handler.CMP, self, other, "__ne__")

    def __lt__(self, other: object) -> Any:
        return self.____conn__.sync_request(Handler.CMP, self, other, "__lt__")

    def __le__(self, other: object) -> Any:
        return self.____conn__.sync_request(Handler.CMP, self, other, "__le__")

    def __gt__(self, other: object) -> Any:
        return self.____conn__.sync_request(Handler.CMP, self, other, "__gt__")

    def __ge__(self, other: object) -> Any:
        return self.____conn__.sync_request(Handler.CMP, self, other, "__ge__")

    def __exit__(self, kind: object, error: object, traceback: object) -> Any:
        # The exception itself goes by reference: neither its class nor its traceback can travel.
        return self.____conn__.sync_request(Handler.CTXEXIT, self, error)

    def __instancecheck__(self, other: object) -> bool:
        if self.____id_pack__[2] != 0:
            raise TypeError("isinstance() arg 2 must be a class; this proxy is of an instance")
        if not isinstance(other, Netref):
            local = type(self).____local_class__
            return local is not None and isinstance(other, local)
        if other.____conn__ is not self.____conn__:
            return False  # an id means something on its own connection only, and a name proves nothing
        if other.____id_pack__[1] == self.____id_pack__[1]:
            return other.____id_pack__[2] != 0
        return bool(self.____conn__.sync_request(Handler.INSTANCECHECK, self, other.____id_pack__))

    def __reduce_ex__(self, protocol: Any) -> Any:
        if not self.____conn__.allows_pickle:
            raise TypeError("a netref can't be pickled or copied: its owner is elsewhere (allow_pickle is off here)")
        from pickle import loads  # not for the many programs that never do this

        return loads, (self.____conn__.sync_request(Handler.PICKLE, self, int(protocol)),)


def boxes_of(proxy: BaseNetref) -> dict[Any, Any]:
    """What was asked or encoded for this proxy before: it is the same every time."""
    try:
        return proxy.____boxes__
    except AttributeError:
        boxes: dict[Any, Any] = {}
        object.__setattr__(proxy, "____boxes__", boxes)
        return boxes


def _text(proxy: BaseNetref, handler: Handler) -> str:
    try:
        return proxy.____conn__.sync_request(handler, proxy)  # type: ignore[no-any-return]
    except LinkDown as error:
        return f"<proxy of {proxy.____id_pack__[0]}: {error}>"


class UnknownNetref(BaseNetref):
    """A proxy whose class has not been asked for yet; nobody outside the connection gets hold of one."""

    __slots__ = ()


@lru_cache(maxsize=512)
def make_class(
    name: str, methods: Methods, *, fixed: Methods = (), exact: bool = False, local: type | None = None
) -> type[BaseNetref]:
    """A netref class with the owner's methods, and with attributes that are `fixed`: read once.

    `exact`: every name in `methods` may be called. Otherwise the plain names are left to GETATTR, because the owner's
    policy may refuse them, and only prefixed (exposed) and special ones are put in.
    """
    members: dict[str, Any] = {
        "__slots__": (),
        "__module__": "gateway.netrefs",
        "__doc__": property(_remote_doc),
        "____known__": True,
        "____methods__": methods,
        "____local_class__": local,
    }
    for attribute, doc in fixed:
        if attribute not in LOCAL_NAMES:
            members[attribute] = _make_fixed(attribute, doc)
    for method, doc in methods:
        if method in LOCAL_NAMES:
            continue
        if method.startswith("__") or exact:
            members[method] = _make_method(method, doc)
        elif method.startswith(_EXPOSED):
            for name_of_it in (method, method.removeprefix(_EXPOSED)):
                members[name_of_it] = _make_method(name_of_it, doc)
    cls: type[BaseNetref] = NetrefMeta(name, (BaseNetref,), members)  # type: ignore[assignment]
    return cls


def _remote_doc(proxy: BaseNetref) -> Any:
    return proxy.____conn__.get_attribute(proxy, "__doc__")


def _make_fixed(name: str, doc: str | None) -> property:
    def read(self: BaseNetref) -> Any:
        boxes = boxes_of(self)
        if ("fixed", name) not in boxes:
            boxes["fixed", name] = self.____conn__.get_attribute(self, name)
        return boxes["fixed", name]

    return property(read, doc=doc)


def _make_method(name: str, doc: str | None) -> Callable[..., Any]:
    method: Callable[..., Any]
    if name == "__call__":

        def method(self: BaseNetref, /, *args: Any, **kwargs: Any) -> Any:
            return self.____conn__.call(self, args, kwargs)

    elif name == "__array__":

        def method(self: BaseNetref, /, *args: Any, **kwargs: Any) -> Any:
            from pickle import loads

            return loads(self.__reduce_ex__(4)[1][0]).__array__(*args, **kwargs)  # noqa: S301 - allow_pickle is on

    elif name in _SLICERS:

        def method(self: BaseNetref, /, start: Any, stop: Any, *args: Any) -> Any:
            return self.____conn__.sync_request(
                Handler.OLDSLICING, self, _SLICERS[name], name, start, None if stop == 2**63 - 1 else stop, args
            )

    else:

        def method(self: BaseNetref, /, *args: Any, **kwargs: Any) -> Any:
            return self.____conn__.call_method(self, name, args, kwargs)

    method.__name__ = method.__qualname__ = name
    method.__doc__ = doc
    method.____remote__ = name  # type: ignore[attr-defined]
    return method


def remote_method(value: object) -> tuple[BaseNetref, str] | None:
    """`(proxy, method name)` where `value` is what `proxy.method` gave without asking the owner, else None."""
    if type(value) is MethodType and isinstance(value.__self__, BaseNetref):
        name = getattr(value.__func__, "____remote__", None)
        if name is not None:
            return value.__self__, name
    return None


@lru_cache(maxsize=2 * len(BUILTIN_CLASSES))
def _builtin_netref(name: str, is_class: bool) -> type[BaseNetref]:
    cls = BUILTIN_CLASSES[name]
    methods = methods_of(cls)
    if not is_class:
        methods = tuple((method, doc) for method, doc in methods if _on_instances(cls, method))
    return make_class(name, methods, local=cls)


def builtin_netref(name: str, *, is_class: bool) -> type[BaseNetref] | None:
    """The netref class of a builtin class or its instances, which need no INSPECT; None for all other names."""
    return _builtin_netref(name, is_class) if name in BUILTIN_CLASSES else None


def _on_instances(cls: type, method: str) -> bool:
    """Not what only the metaclass has: a list isn't callable because the class list is."""
    return any(method in vars(base) for base in cls.__mro__)
