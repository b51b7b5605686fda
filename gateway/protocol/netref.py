"""What both ends know of proxies without asking: their slots, their local names, RPyC's builtin class names."""

from __future__ import annotations

import inspect
import types
from typing import Any, ClassVar, Final
from weakref import WeakKeyDictionary

IdPack = tuple[str, int, int]
"""`(name, class id, instance id)`; the instance id is 0 where the object is itself a class."""

Reference = IdPack | int
"""An object in the words of its owner's connection: its id_pack, or its number where both ends agreed on that."""

Methods = tuple[tuple[str, str | None], ...]
"""An INSPECT answer: `((method name, docstring or None), ...)`."""

FIXED_ATTRIBUTE: Final = 1
"""Third item of an entry of an INSPECT answer, only between peers that agreed on it: an attribute, no method, which
gives the same object whenever it is read."""


class Netref:
    """The slots of every proxy. What is to be done when one dies is `boxing.Borrowed`'s, so it has no finalizer."""

    __slots__ = ("____conn__", "____id_pack__", "____boxes__", "__weakref__")

    ____conn__: Any
    ____id_pack__: IdPack
    ____boxes__: dict[Any, Any]
    """Encoded beginnings of the requests that were made on this proxy."""

    ____known__: ClassVar[bool] = False
    """Whether this class was made from the owner's method table."""
    ____methods__: ClassVar[Methods] = ()


LOCAL_NAMES: Final = frozenset(
    """____conn__ ____id_pack__ ____boxes__ __class__ __cmp__ __del__ __delattr__ __dir__ __doc__
    __getattr__ __getattribute__ __hash__ __instancecheck__ __init__ __init_subclass__ __subclasshook__ __metaclass__
    __module__ __new__ __reduce__ __reduce_ex__ __getstate__ __repr__ __setattr__ __sizeof__ __slots__ __str__
    __weakref__ __dict__ __methods__ __exit__ __eq__ __ne__ __lt__ __gt__ __le__ __ge__ __array_struct__
    __array_interface__""".split()
)
"""Names that a proxy answers itself: an owner's method of that name never replaces them."""

NEVER_REMOTE: Final = frozenset({"__array_struct__", "__array_interface__"})
"""Numpy would read memory through these; a proxy has no memory to show."""


def methods_of(obj: object) -> Methods:
    """The routines of an object's class, for INSPECT: a class shows its metaclass's and its own."""
    is_class = isinstance(obj, type)
    known = _class_methods if is_class else _instance_methods
    cls = obj if isinstance(obj, type) else type(obj)
    methods = known.get(cls)
    if methods is None:
        methods = known[cls] = _routines(cls, with_metaclass=is_class)
    return methods


# Reading docstrings is slow, and every client asks for the same classes.
_instance_methods: WeakKeyDictionary[type, Methods] = WeakKeyDictionary()
_class_methods: WeakKeyDictionary[type, Methods] = WeakKeyDictionary()


def _routines(cls: type, *, with_metaclass: bool) -> Methods:
    members: dict[str, Any] = {}
    bases = list(reversed(type.mro(cls)))
    if with_metaclass:
        bases = [*reversed(type.mro(type(cls))), *bases]
    for base in bases:
        members.update(vars(base))
    return tuple(
        (name, inspect.getdoc(member))
        for name, member in members.items()
        if name not in LOCAL_NAMES and inspect.isroutine(member)
    )


_BUILTIN_TYPES: Final[tuple[type, ...]] = (
    type, object, bool, complex, dict, float, int, list, slice, str, tuple, set, frozenset, BaseException, Exception,
    type(None), types.BuiltinFunctionType, types.GeneratorType, types.MethodType, types.CodeType, types.FrameType,
    types.TracebackType, types.ModuleType, types.FunctionType, types.MappingProxyType, types.WrapperDescriptorType,
    types.MethodWrapperType, type(iter([])), type(iter(())), type(iter(set())), bytes, bytearray,
    type(iter(range(1))), memoryview,
)  # fmt: skip

BUILTIN_CLASSES: Final = {f"{cls.__module__}.{cls.__name__}": cls for cls in _BUILTIN_TYPES}
"""The 34 names that RPyC peers resolve without INSPECT (WIRE: builtin names)."""
