"""Containers and arrays by value: the data of box label 5, `(kind, data)`.

| kind | Python | data |
|---|---|---|
| list, set, dict | list, set, dict | tuple of items; for a dict a tuple of (key, value) tuples |
| bytearray | bytearray | bytes |
| ndarray | numpy.ndarray | (dtype.str, shape, bytes in C order) |
| scalar | a number of numpy's | (the nearest number of Python's,) |
| numbers | list or tuple of 64 ints or floats, or more | ("list" or "tuple", dtype.str, little-endian bytes) |
| numbers | dict of as many, with str as keys | ("dict", dtype.str, bytes, the keys joined by NUL) |

`data` is boxed in turn, so an item that must go by reference still can. Numpy is used where it is loaded already; a
receiver without numpy gets an array as nested lists of numbers where `array` of the standard library knows the type.
`numbers` is for peers that both announced it: a waveform then costs its bytes, and not a value of its own per sample.
"""

from __future__ import annotations

import re
import sys
from array import array
from collections.abc import Iterable, Sequence
from math import prod
from types import ModuleType
from typing import Any, Final

from gateway.errors import BadRequest, LimitExceeded
from gateway.limits import DEFAULT_LIMITS, KIB, Limits
from gateway.protocol.brine import Raw, dumpable

_CODES: Final = {
    "f8": "d", "f4": "f", "i8": "q", "i4": "i", "i2": "h", "i1": "b", "u8": "Q", "u4": "I", "u2": "H", "u1": "B",
}  # fmt: skip
NUMBERS: Final = "numbers"
MANY: Final = 64
_LARGE: Final = 64 * KIB
_BYTES: Final = (bytes, memoryview)
"""What the bytes of an array come as: lent ones are copied here."""
_PACKED: Final = frozenset({"i1", "i2", "i4", "i8", "f8"})
_NUL: Final = "\0"
_PLAIN_KINDS: Final = frozenset("?biufcMmSU")
_DTYPE: Final = r"[<>|][biufcMmSU][0-9]{1,9}(\[[0-9]*[A-Za-z]+\])?"
"""What `numpy.dtype.str` writes for these kinds: nothing else of numpy's dtype language is taken from a peer."""
_LONG: Final = {"f": 8, "c": 16}
"""Items of these kinds that are larger hold padding, which is whatever the memory held before: they go as this size."""
_DIMENSIONS: Final = 32
_COLLISIONS: Final = 32
"""Keys that share their hash with another one: few do by chance (-1 and -2), and each is compared with all others."""
_SIMPLE: Final = frozenset({str, int, bytes, float, bool, type(None)})


def take(value: Any, limits: Limits = DEFAULT_LIMITS, *, packs: bool = False) -> tuple[str, Any] | None:
    """`(kind, data)` of what can go by value, else None. Exact types only: a subclass keeps its behaviour."""
    cls = type(value)
    if cls is list:
        packed = pack(value, limits) if packs else None
        return (NUMBERS, ("list", *packed)) if packed is not None else ("list", tuple(value))
    if cls is dict:
        if packs and len(value) >= MANY and (packed := pack(tuple(value.values()), limits)):
            keys = _joined(value)
            if keys is not None:
                return NUMBERS, ("dict", *packed, keys)
        return ("dict", tuple(value.items())) if _all_values(value) else None
    if cls is set:
        return ("set", tuple(value)) if _all_values(value) else None
    if cls is bytearray:
        return "bytearray", bytes(value)
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        if cls is numpy.ndarray and value.dtype.kind in _PLAIN_KINDS and value.itemsize:
            value = _without_padding(value)
            return "ndarray", (value.dtype.str, value.shape, _raw(value, numpy))
        if isinstance(value, numpy.generic) and value.dtype.kind in "?biufc":
            return "scalar", (_without_padding(value).item(),)
    return None


def _raw(array: Any, numpy: ModuleType) -> bytes | Raw:
    if array.nbytes < _LARGE or not array.flags.c_contiguous:
        return array.tobytes()  # type: ignore[no-any-return]
    return Raw(memoryview(array.reshape(-1).view(numpy.uint8)))


def pack(values: Sequence[Any], limits: Limits) -> tuple[str, bytes] | None:
    """`(dtype.str, bytes)` of many numbers of one type, as short as the largest allows; None where it is not that."""
    if not MANY <= len(values) <= limits.items:
        return None
    kind = type(values[0])
    if (kind is not int and kind is not float) or len({*map(type, values)}) > 1:
        return None
    code = "f8" if kind is float else _width(min(values), max(values))
    if not code:
        return None
    items = array(_CODES[code], values)
    if sys.byteorder == "big":
        items.byteswap()
    return "<" + code, items.tobytes()


def _width(low: int, high: int) -> str:
    """The shortest type that holds both; empty if there is none."""
    for code, bits in (("i1", 7), ("i2", 15), ("i4", 31), ("i8", 63)):
        if -(1 << bits) <= low and high < 1 << bits:
            return code
    return ""


def _joined(keys: dict[Any, Any]) -> str | None:
    if {*map(type, keys)} != {str}:
        return None
    joined = _NUL.join(keys)
    return joined if joined.count(_NUL) == len(keys) - 1 else None


def _unpacked(data: tuple[Any, ...], limits: Limits) -> Any:
    kind, dtype, raw, *keys = data
    code = dtype[1:] if type(dtype) is str and dtype[:1] == "<" and len(dtype) == 3 else ""
    if code not in _PACKED or type(raw) not in _BYTES:
        raise BadRequest(f"many numbers by value are (kind, dtype, bytes), not ({kind!r:.20}, {dtype!r:.30}, ...)")
    count = len(raw) // int(code[1])
    if count > limits.items:
        raise LimitExceeded("items", actual=count, allowed=limits.items)
    numbers = _items(dtype, raw)
    if kind == "list" and not keys:
        return numbers
    if kind == "tuple" and not keys:
        return tuple(numbers)
    if kind == "dict" and len(keys) == 1 and type(keys[0]) is str:
        names = keys[0].split(_NUL)
        if len(names) == count:
            return dict(zip(names, numbers, strict=True))
    raise BadRequest(f"no such container of {count} numbers: {kind!r:.50}")


def _without_padding(value: Any) -> Any:
    size = _LONG.get(value.dtype.kind, value.itemsize)
    return value if value.itemsize <= size else value.astype(f"{value.dtype.kind}{size}")


def rebuild(kind: Any, data: Any, limits: Limits, *, imports: bool = True) -> Any:
    """The container or array of `(kind, data)`. Raises BadRequest or LimitExceeded for what `take` never makes.

    `imports`: numpy may be imported for an array. A client wants that; a gateway imports nothing at the word of a peer.
    """
    try:
        if kind == "list" and type(data) is tuple:
            return list(data)
        if kind == NUMBERS and type(data) is tuple:
            return _unpacked(data, limits)
        if kind == "dict" and type(data) is tuple:
            # A pair is looked at before it is taken apart: a proxy in its place would be iterated at the peer.
            if not all(type(pair) is tuple and len(pair) == 2 for pair in data):
                raise BadRequest("a dict by value is a tuple of (key, value) tuples")
            _hashable(tuple([key for key, _ in data]), limits)
            return dict(data)
        if kind == "set" and type(data) is tuple:
            return set(_hashable(data, limits))
        if kind == "bytearray" and type(data) is bytes:
            return bytearray(data)
        if kind == "scalar" and type(data) is tuple:
            (value,) = data
            return value
        if kind == "ndarray" and type(data) is tuple:
            dtype, shape, raw = data
            return _array(dtype, shape, raw, limits, imports)
    except (TypeError, ValueError) as error:
        raise BadRequest(f"a {kind!r:.20} by value can't be rebuilt: {error}") from None
    raise BadRequest(f"no such container by value: {kind!r:.50}")


def _all_values(keys: Iterable[Any]) -> bool:
    return all(type(key) in _SIMPLE or dumpable(key) for key in keys)


def _hashable(keys: tuple[Any, ...], limits: Limits) -> tuple[Any, ...]:
    """Refuse keys whose hashing would call a peer (proxies) or take for ever (many that collide)."""
    if len(keys) > limits.unordered_items and not all(type(key) in (str, bytes) for key in keys):
        raise LimitExceeded("unordered_items", actual=len(keys), allowed=limits.unordered_items)
    if not _all_values(keys):
        raise BadRequest("a key of a container by value must be an immutable value")
    if len(keys) - len({*map(hash, keys)}) > _COLLISIONS:
        raise BadRequest("too many keys of a container by value have the same hash")
    return keys


def _array(dtype: Any, shape: Any, raw: Any, limits: Limits, imports: bool) -> Any:
    if type(dtype) is not str or not re.fullmatch(_DTYPE, dtype) or type(raw) not in _BYTES or type(shape) is not tuple:
        raise BadRequest(f"an array by value is (dtype, shape, bytes), not ({dtype!r:.30}, {shape!r:.30}, ...)")
    if len(shape) > _DIMENSIONS or not all(type(size) is int and size >= 0 for size in shape):
        raise BadRequest(f"an array by value has no shape {shape!r:.80}")
    if 0 in shape and prod(size or 1 for size in shape) > limits.items:
        raise BadRequest(f"an array by value without items has no shape {shape!r:.80}: as a list it would be huge")
    numpy = sys.modules.get("numpy") or (_imported() if imports else None)
    if numpy is None:
        return _nested(_items(dtype, raw), shape)
    return numpy.frombuffer(raw, numpy.dtype(dtype)).reshape(shape).copy()


def _imported() -> ModuleType | None:
    try:
        import numpy
    except ImportError:
        return None
    return numpy


def _items(dtype: str, raw: bytes) -> list[Any]:
    code = _CODES.get(dtype[1:])
    if code is None:
        raise BadRequest(f"numpy is needed to receive an array of dtype {dtype}; install instrument-gateway[numpy]")
    items = array(code)
    items.frombytes(raw)
    if dtype[0] == (">" if sys.byteorder == "little" else "<"):
        items.byteswap()
    return items.tolist()


def _nested(items: list[Any], shape: tuple[int, ...]) -> Any:
    if prod(shape) != len(items):
        raise BadRequest(f"{len(items)} items don't fill an array of shape {shape}")
    for size in reversed(shape[1:]):
        items = [items[start : start + size] for start in range(0, len(items), size)] if size else []
    return items if shape else items[0]


def degrade(value: Any) -> Any:
    """The nearest plain value for a peer that knows no containers by value.

    A list or array becomes a (nested) tuple, a set a frozenset, a bytearray bytes, a numpy scalar a number; all other
    objects, dicts too, are given back as they are.
    """
    cls = type(value)
    if cls is tuple or cls is list:
        return tuple([degrade(item) for item in value])
    if cls is set:
        return frozenset(value)
    if cls is bytearray:
        return bytes(value)
    numpy = sys.modules.get("numpy")
    if numpy is not None and (cls is numpy.ndarray or isinstance(value, numpy.generic)):
        return degrade(_without_padding(value).tolist())
    return value
