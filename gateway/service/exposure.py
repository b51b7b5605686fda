"""The exposure table: what a class lets a peer reach, built once per class.

A member is exposed by its name (`exposed_voltage` is reached as `voltage`) or by the decorator:

    class PowerSupply(Device):
        @exposed(unit="V")
        @property
        def voltage(self) -> float: ...

        @exposed(access="control")
        def set_voltage(self, volts: float) -> None: ...

Under the strict policy the table is all there is: a look-up in it is the authorisation.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Any, ClassVar, Final, TypeVar, overload
from weakref import WeakKeyDictionary

EXPOSED_PREFIX: Final = "exposed_"

T = TypeVar("T")


class Kind(StrEnum):
    """What reaching for the name gives."""

    METHOD = "method"
    PROPERTY = "property"
    STREAM = "stream"
    """A method that returns an iterator, read item by item or in blocks (BUFFITER)."""


class Access(StrEnum):
    """What a caller must be allowed to do, weakest first."""

    READ = "read"
    CONTROL = "control"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Exposure:
    """One row of the table."""

    name: str
    """What the peer says."""
    attribute: str
    """What `getattr` is asked for."""
    kind: Kind
    signature: str
    """`(volts: float) -> None` for a method, `-> float` for a property; empty where unknown."""
    doc: str
    unit: str | None
    access: Access
    """For a settable property: what reading needs; setting needs at least `control`."""
    settable: bool
    fixed: bool = False
    """A property that gives the same object whenever it is read: our clients ask for it once."""


@dataclass(frozen=True, slots=True)
class Mark:
    """What `@exposed` leaves on a member for the table to find."""

    prefix: str
    access: Access | None
    unit: str | None


class ExposedProperty(property):
    """A property that carries a `Mark`, also through `.setter` and `.deleter`."""

    __exposed__: Mark

    def getter(self, fget: Callable[[Any], Any]) -> ExposedProperty:
        return self._marked(super().getter(fget))

    def setter(self, fset: Callable[[Any, Any], None]) -> ExposedProperty:
        return self._marked(super().setter(fset))

    def deleter(self, fdel: Callable[[Any], None]) -> ExposedProperty:
        return self._marked(super().deleter(fdel))

    def _marked(self, new: property) -> ExposedProperty:
        return _mark(new, self.__exposed__)  # type: ignore[no-any-return]


def _mark(member: Any, mark: Mark) -> Any:
    if isinstance(member, property):
        marked = ExposedProperty(member.fget, member.fset, member.fdel, member.__doc__)
        marked.__exposed__ = mark
        return marked
    member.__exposed__ = mark
    return member


@overload
def exposed(member: str, /) -> Callable[[T], T]: ...
@overload
def exposed(member: T, /) -> T: ...
@overload
def exposed(*, access: str | None = None, unit: str | None = None) -> Callable[[T], T]: ...
def exposed(member: Any = None, /, *, access: str | None = None, unit: str | None = None) -> Any:
    """Expose a method, property or nested class: `@exposed`, `@exposed("prefix_")` or `@exposed(access=, unit=)`.

    `access` is `"read"`, `"control"` or `"admin"`; without it a property needs `read` and a method `control`.
    `unit` is the unit of what is returned, such as `"V"`.
    Raises TypeError for anything that is neither callable nor a descriptor.
    """
    prefix = member if isinstance(member, str) else EXPOSED_PREFIX
    mark = Mark(prefix, None if access is None else Access(access), unit)
    if member is None or isinstance(member, str):
        return lambda decorated: _mark(decorated, mark)
    if not callable(member) and not hasattr(member, "__get__"):
        raise TypeError(f"@exposed takes a callable, a descriptor or a prefix, not {member!r}")
    return _mark(member, mark)


def service(cls: type[T]) -> type[T]:
    """Class decorator: give every `@exposed` member its prefixed name too, as RPyC's attribute policy expects."""
    for name, member in list(vars(cls).items()):
        mark = _mark_of(member)
        if mark is None or name.startswith(mark.prefix):
            continue
        if isinstance(member, type):
            service(member)
        setattr(cls, mark.prefix + name, member)
    return cls


class Exposable:
    """Base of classes whose table is built when the class is: services, devices and what they hand out."""

    __exposure__: ClassVar[Mapping[str, Exposure]] = MappingProxyType({})

    gateway_lane: Any = None
    """The queue in which calls of this object wait for their turn, where it is a device of a gateway."""
    gateway_identity: str = ""
    """What the device said it is when the gateway opened it."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        service(cls)
        cls.__exposure__ = _build(cls)

    def exposures(self) -> Mapping[str, Exposure]:
        """This object's table; by default its class's. Override where names are known only at run time."""
        return self.__exposure__


def exposure_table(obj: Any) -> Mapping[str, Exposure]:
    """The table of an object or class: name -> row. Never calls into the object unless it is `Exposable`."""
    kind = type(obj)  # isinstance would ask the object for its __class__
    if issubclass(kind, Exposable):
        return obj.exposures()  # type: ignore[no-any-return]
    cls = obj if issubclass(kind, type) else kind
    table = _tables.get(cls)
    if table is None:
        table = _tables[cls] = _build(cls)
    return table


_tables: WeakKeyDictionary[type, Mapping[str, Exposure]] = WeakKeyDictionary()


def _build(cls: type) -> Mapping[str, Exposure]:
    members: dict[str, tuple[int, Any]] = {}
    for rank, base in enumerate(reversed(cls.__mro__)):
        for name in inspect.get_annotations(base):
            members.setdefault(name, (rank, None))
        members.update((name, (rank, member)) for name, member in vars(base).items())
    rows: dict[str, Exposure] = {}
    taken: dict[str, tuple[int, bool]] = {}
    for attribute, (rank, member) in members.items():
        mark = _mark_of(member)
        if mark is None and not attribute.startswith(EXPOSED_PREFIX):
            continue
        row = _row(attribute, member, mark or Mark(EXPOSED_PREFIX, None, None))
        # Of two members for one name the derived class's counts, in one class the marked one.
        precedence = rank, mark is not None
        if precedence >= taken.get(row.name, (-1, False)):
            taken[row.name] = precedence
            rows[row.name] = row
    return MappingProxyType(rows)


def _mark_of(member: Any) -> Mark | None:
    """The mark on the member itself. That of its class or of a base class says nothing about it."""
    try:
        mark = vars(member).get("__exposed__")
    except TypeError:  # it has no attributes of its own
        mark = None
    if mark is None and isinstance(member, property):
        return _mark_of(member.fget)
    if mark is None and isinstance(member, staticmethod | classmethod):
        return _mark_of(member.__func__)
    return mark if isinstance(mark, Mark) else None


def _row(attribute: str, member: Any, mark: Mark) -> Exposure:
    function = member.__func__ if isinstance(member, staticmethod | classmethod) else member
    bound = isinstance(function, type) or isinstance(member, staticmethod)
    kind = _kind(function)
    access = mark.access or (Access.READ if kind is Kind.PROPERTY else Access.CONTROL)
    return Exposure(
        name=attribute.removeprefix(mark.prefix),
        attribute=attribute,
        kind=kind,
        signature=_signature(function, drop_self=not bound),
        doc=_doc(function),
        unit=mark.unit,
        access=access,
        settable=isinstance(member, property) and member.fset is not None,
    )


def _kind(function: Any) -> Kind:
    if isinstance(function, property) or not callable(function):
        return Kind.PROPERTY
    target = inspect.unwrap(function)
    return Kind.STREAM if inspect.isgeneratorfunction(target) and target is function else Kind.METHOD


def _signature(function: Any, *, drop_self: bool) -> str:
    try:
        if isinstance(function, property):
            returns = inspect.signature(function.fget).return_annotation if function.fget else inspect.Signature.empty
            return "" if returns is inspect.Signature.empty else f"-> {_annotation(returns)}"
        if not callable(function):
            return ""
        signature = inspect.signature(function)
        parameters = list(signature.parameters.values())[1 if drop_self else 0 :]
        return str(signature.replace(parameters=parameters)).replace("'", "")
    except (TypeError, ValueError):
        return ""


def _doc(function: Any) -> str:
    documented = function.fget if isinstance(function, property) else function
    return (inspect.getdoc(documented) or "") if callable(documented) else ""


def _annotation(annotation: Any) -> str:
    return annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
