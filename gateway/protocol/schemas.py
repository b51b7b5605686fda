"""What each handler's arguments must be: one row per handler, checked before anything of a request is used.

A target is a reference to an object of ours that this connection was lent, never a value that the peer supplies: nobody
computes with our interpreter by sending numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from gateway.errors import BadRequest, LimitExceeded
from gateway.limits import Limits
from gateway.protocol.boxing import Boxing, Loan, id_pack_of, split
from gateway.protocol.constants import LABEL_LOCAL_REF, LABEL_TUPLE, LABEL_VALUE, Handler
from gateway.protocol.netref import Netref, Reference

Read = Callable[[Boxing, Any, list[Netref], Limits], Any]


def _target(boxing: Boxing, box: Any, new: list[Netref], limits: Limits) -> Loan:
    label, value = split(box)
    if label != LABEL_LOCAL_REF:
        raise BadRequest("the target of a request must be an object of this side, by reference")
    return boxing.lent(value)


def _released(boxing: Boxing, box: Any, new: list[Netref], limits: Limits) -> Reference:
    """A target that may be gone already: stock peers release what we never lent."""
    label, value = split(box)
    if label != LABEL_LOCAL_REF:
        raise BadRequest("only an object of this side can be released")
    return boxing.reference_of(value)


def _any(boxing: Boxing, box: Any, new: list[Netref], limits: Limits) -> Any:
    return boxing.unbox(box, new)


def _name(boxing: Boxing, box: Any, new: list[Netref], limits: Limits) -> str:
    label, value = split(box)
    if label == LABEL_VALUE and type(value) is bytes:
        try:
            value = value.decode()
        except UnicodeDecodeError:
            raise BadRequest("a name is str, or bytes in UTF-8") from None
    if label != LABEL_VALUE or type(value) is not str:
        raise BadRequest("a name is a str by value")
    if len(value) > limits.name:
        raise LimitExceeded("name", actual=len(value), allowed=limits.name)
    return value


def _count(boxing: Boxing, box: Any, new: list[Netref], limits: Limits) -> int:
    label, value = split(box)
    if label != LABEL_VALUE or type(value) is not int or value < 0:
        raise BadRequest("a count is an int from 0 on, by value")
    return value


def _protocol(boxing: Boxing, box: Any, new: list[Netref], limits: Limits) -> int:
    label, value = split(box)
    if label != LABEL_VALUE or type(value) is not int:
        raise BadRequest("a pickle protocol is an int by value")
    return value


def _id_pack(boxing: Boxing, box: Any, new: list[Netref], limits: Limits) -> Any:
    label, value = split(box)
    if label != LABEL_VALUE:
        raise BadRequest("this id_pack travels by value")
    return id_pack_of(value)


def _items_of(box: Any, what: str) -> list[Any]:
    """The boxes of a tuple, however it travelled."""
    label, value = split(box)
    if type(value) is tuple:
        if label == LABEL_VALUE:
            return [(LABEL_VALUE, item) for item in value]
        if label == LABEL_TUPLE:
            return list(value)
    raise BadRequest(f"{what} must be a tuple, by value or of boxes")


def _args(boxing: Boxing, box: Any, new: list[Netref], limits: Limits) -> tuple[Any, ...]:
    label, value = split(box)
    if type(value) is not tuple or label not in (LABEL_VALUE, LABEL_TUPLE):
        raise BadRequest("the arguments of a call must be a tuple, by value or of boxes")
    return value if label == LABEL_VALUE else tuple([boxing.unbox(item, new) for item in value])


def _kwargs(boxing: Boxing, box: Any, new: list[Netref], limits: Limits) -> dict[str, Any]:
    label, value = split(box)
    if label == LABEL_VALUE and value == ():
        return {}
    pairs = _items_of(box, "keyword arguments")
    if len(pairs) > limits.unordered_items:
        raise LimitExceeded("unordered_items", actual=len(pairs), allowed=limits.unordered_items)
    kwargs: dict[str, Any] = {}
    for pair in pairs:
        items = _items_of(pair, "a keyword argument")
        if len(items) != 2:
            raise BadRequest("a keyword argument is (name, value)")
        kwargs[_name(boxing, items[0], new, limits)] = boxing.unbox(items[1], new)
    if len(kwargs) != len(pairs):
        raise BadRequest("a keyword argument is given twice")
    return kwargs


class Schema:
    """The readers of one handler's arguments; from `required` on they may be left out."""

    __slots__ = ("_defaults", "_readers", "_required")

    def __init__(self, *readers: Read, defaults: tuple[Any, ...] = ()) -> None:
        self._readers = readers
        self._defaults = defaults
        self._required = len(readers) - len(defaults)

    def read(self, boxing: Boxing, box: Any, new: list[Netref], limits: Limits) -> list[Any]:
        """The checked, unboxed arguments. Raises BadRequest, LimitExceeded or NotFound (a released target)."""
        label, value = split(box)
        if type(value) is not tuple or not self._required <= len(value) <= len(self._readers):
            raise BadRequest(f"this handler takes {self._required} to {len(self._readers)} arguments")
        if label == LABEL_VALUE:
            value = [(LABEL_VALUE, item) for item in value]
        elif label != LABEL_TUPLE:
            raise BadRequest("the arguments of a request must be a tuple")
        # zip stops at the shorter: what was left out takes its default.
        read = [reader(boxing, item, new, limits) for reader, item in zip(self._readers, value, strict=False)]
        missing = len(self._readers) - len(read)
        return read + list(self._defaults[-missing:]) if missing else read


class CallSchema:
    """The arguments of CALL or CALLATTR. The usual form - all by value, no keywords - is read at once."""

    __slots__ = ("_general", "_named")

    def __init__(self, general: Schema, *, named: bool) -> None:
        self._general = general
        self._named = named

    def read(self, boxing: Boxing, box: Any, new: list[Netref], limits: Limits) -> list[Any]:
        try:
            if self._named:
                label, ((target, reference), (named, name), (given, args), keywords) = box
            else:
                label, ((target, reference), (given, args), keywords) = box
                named, name = LABEL_VALUE, ""
            if (
                (label, target, named, given) == _USUAL
                and keywords == _NO_KEYWORDS
                and type(name) is str
                and len(name) <= limits.name
                and type(args) is tuple
            ):
                loan = boxing.lent(reference)
                return [loan, name, args, {}] if self._named else [loan, args, {}]
        except (TypeError, ValueError):
            pass  # not of the usual form
        return self._general.read(boxing, box, new, limits)


_USUAL: Final = (LABEL_TUPLE, LABEL_LOCAL_REF, LABEL_VALUE, LABEL_VALUE)
_NO_KEYWORDS: Final = (LABEL_VALUE, ())

SCHEMAS: Final[dict[Handler, Schema | CallSchema]] = {
    Handler.PING: Schema(_any),
    Handler.CLOSE: Schema(),
    Handler.GETROOT: Schema(),
    Handler.GETATTR: Schema(_target, _name),
    Handler.DELATTR: Schema(_target, _name),
    Handler.SETATTR: Schema(_target, _name, _any),
    Handler.CALL: CallSchema(Schema(_target, _args, _kwargs, defaults=({},)), named=False),
    Handler.CALLATTR: CallSchema(Schema(_target, _name, _args, _kwargs, defaults=({},)), named=True),
    Handler.REPR: Schema(_target),
    Handler.STR: Schema(_target),
    Handler.CMP: Schema(_target, _any, _name, defaults=("__cmp__",)),
    Handler.HASH: Schema(_target),
    Handler.DIR: Schema(_target),
    Handler.PICKLE: Schema(_target, _protocol),
    Handler.DEL: Schema(_released, _count, defaults=(1,)),
    Handler.INSPECT: Schema(_id_pack),
    Handler.BUFFITER: Schema(_target, _count),
    Handler.OLDSLICING: Schema(_target, _name, _name, _any, _any, _args),
    Handler.CTXEXIT: Schema(_target, _any),
    Handler.INSTANCECHECK: Schema(_target, _id_pack),
    Handler.HELLO: Schema(_count, _args),
}
