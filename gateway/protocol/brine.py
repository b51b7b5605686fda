"""Brine: immutable values as bytes, byte for byte what rpyc 6.x writes, and strict about what it reads.

    tag          then                                value
    00 .. 06                                         None, b"", (), True, False, NotImplemented, Ellipsis
    08           brine bytes                         str, in UTF-8
    0a .. 0d     1 to 4 bytes                        bytes
    0e, 0f       n as u8, as u32, then n bytes       bytes, shorter than 256, longer
    10 .. 13     1 to 4 values                       tuple
    14, 15       n as u8, as u32, then n values      tuple of fewer than 256 items, of more
    16, 17       n as u8, as u32, then n characters  int in ASCII decimal, shorter than 256 characters, longer
    18           f64                                 float
    19           brine tuple of 3                    slice: start, stop, step
    1a           brine tuple                         frozenset
    1b           f64, f64                            complex
    20 .. ef                                         int from -48 to 159: tag - 0x50

Numbers are big-endian; 07, 09, 1c to 1f and f0 to ff are not assigned. Only values of exactly these types are brine: a
namedtuple, an IntEnum or a subclass of str is not. A length may be written longer than it need be, a decimal may not.

This is the hot path, so the bounds of `Limits` cost a small message nothing: `levels` says how much may still open, and
a tuple for which it is too low asks `_enter`. Decoding starts with `limits.nesting` where a message is too short for
more than `limits.items` values; in a longer one with 0, and goes below, so that all are counted (sets and long ints
as several values). Encoding starts with `_BITS`, of which a tuple takes 2, 4 or 8; what is over starts again from 0.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, Final, TypeAlias

from gateway.errors import LimitExceeded, ProtocolError
from gateway.limits import Limits

DEFAULT: Final = Limits()


class BrineError(ProtocolError):
    """Bytes that are no brine."""


class NotBrine(TypeError):
    """The value, or an item of it, is of a type that brine has no tag for: it must go by reference."""


class Unencodable(ValueError):
    """A value of brine's types that can't be sent: a lone surrogate, or more digits, nesting or items than allowed."""


class Raw:
    """Bytes that are not copied before they are encoded: they go as `bytes` do, and come as such."""

    __slots__ = ("view",)

    def __init__(self, view: memoryview) -> None:
        self.view: Any = view


class _Counted:
    """The bounds of `Limits` with the counts of one message, for a message that could break them in sum."""

    def __init__(self, limits: Limits, items: int, *, lends: bool = False) -> None:
        self.lends = lends
        self.nesting, self.int_digits, self.unordered_items = limits.nesting, limits.int_digits, limits.unordered_items
        self.items, self.values, self.collisions = items, 1, 0


_Bounds: TypeAlias = Limits | _Counted
_Data: TypeAlias = bytes | bytearray


def _enter(values: int, levels: int, bounds: _Bounds) -> None:
    """Count `values` more, `-levels` tuples deep, or raise LimitExceeded. To be asked where `levels` is below 1."""
    if not isinstance(bounds, _Counted) or -levels >= bounds.nesting:
        raise LimitExceeded("nesting", actual=bounds.nesting + 1, allowed=bounds.nesting)
    bounds.values += values
    if bounds.values > bounds.items:
        raise LimitExceeded("items", actual=bounds.values, allowed=bounds.items)


_BITS: Final = 16
_PACK_LENGTH, _PACK_FLOAT, _PACK_COMPLEX = (struct.Struct(code).pack for code in (">BI", ">Bd", ">Bdd"))
_BYTES_HEADS: Final = (b"\x01", b"\x0a", b"\x0b", b"\x0c", b"\x0d", *(bytes((0x0E, n)) for n in range(5, 256)))
_STR_HEADS: Final = tuple(b"\x08" + head for head in _BYTES_HEADS)
_TUPLE_HEADS: Final = (b"\x02", b"\x10", b"\x11", b"\x12", b"\x13", *(bytes((0x14, n)) for n in range(5, 256)))
_INT_HEADS: Final = tuple(bytes((0x16, n)) for n in range(256))
_CONSTANTS: Final = {None: b"\x00", (): b"\x02", True: b"\x03", False: b"\x04", NotImplemented: b"\x05", ...: b"\x06"}
_SCALARS: Final = frozenset({int, str, float, bytes, bool, complex, type(None), type(NotImplemented), type(...)})

SMALL: Final = frozenset({int, str, float, bool, type(None)})
"""Types of which `dump` encodes most values without a list of pieces."""
TYPES: Final = _SCALARS | {tuple, slice, frozenset}
"""What may be brine, as far as its type says; all else goes by reference."""


def dump(value: object, limits: Limits = DEFAULT) -> bytes:
    """The encoding of `value`. Raises NotBrine or Unencodable."""
    if type(value) is not tuple or not value:  # the usual arguments and results
        if type(value) is int:
            return INTS[value] if -2049 < value < 4096 else _int(value, limits)
        if type(value) is str and value.isascii() and len(value) < 256:
            return _STR_HEADS[len(value)] + value.encode()
        if type(value) is float:
            return _PACK_FLOAT(0x18, value)
        if value is None or value is True or value is False or type(value) is tuple:
            return _CONSTANTS[value]
        if type(value) is bytes and len(value) < 256:
            return _BYTES_HEADS[len(value)] + value
    return b"".join(_pieces(value, limits))


def dump_into(value: object, out: list[bytes], limits: Limits = DEFAULT) -> None:
    """Append the encoding of `value` to `out` in pieces, all or none. Raises NotBrine or Unencodable."""
    out += _pieces(value, limits)


def dumpable(value: object) -> bool:
    """Is `value` of brine's types through and through? Then `dump` gives bytes or Unencodable, never NotBrine."""
    if type(value) in _SCALARS:
        return True
    pending: list[Any] = [value]
    seen: set[int] = set()  # what is an item of many is walked once
    for item in pending:  # which grows meanwhile
        kind = type(item)
        if kind in _SCALARS or id(item) in seen:
            continue
        seen.add(id(item))
        if kind is slice:
            pending += (item.start, item.stop, item.step)
        elif kind is not tuple and kind is not frozenset:
            return False
        elif not _SCALARS.issuperset(map(type, item)):
            pending += item
    return True


def _pieces(value: Any, limits: Limits) -> list[bytes]:
    pieces: list[bytes] = []
    try:
        try:
            levels = _BITS if limits.items >= 87_381 and limits.nesting >= 8 else 0  # at most 1 + 4 + ... + 4**8 fit in
            if levels and type(value) is tuple and len(value) < 5:
                pieces.append(_TUPLE_HEADS[len(value)])
                _dump_items(value, pieces.append, levels - 2, limits)
            else:
                _dump_items((value,), pieces.append, levels, limits)
        except OverflowError:  # too large not to be counted
            pieces.clear()
            _dump_items((value,), pieces.append, 0, _Counted(limits, limits.items))
    except (ValueError, LimitExceeded, RecursionError, struct.error) as error:
        raise Unencodable(f"a value can't be sent: {error}") from None
    return pieces


def _dump_items(items: tuple[Any, ...], append: Callable[[bytes], None], levels: int, bounds: _Bounds) -> None:
    for item in items:
        kind = type(item)
        if kind is int:
            append(INTS[item] if -2049 < item < 4096 else _int(item, bounds))
        elif kind is tuple:
            count = len(item)
            if count < 5 and levels > 1:
                append(_TUPLE_HEADS[count])
                _dump_items(item, append, levels - 2, bounds)
            else:
                _dump_large(item, append, levels, bounds)
        elif kind is str:
            count = len(text := item.encode())
            append(_STR_HEADS[count] if count < 256 else b"\x08" + _PACK_LENGTH(0x0F, count))
            append(text)
        elif kind is float:
            append(_PACK_FLOAT(0x18, item))
        elif item is None:
            append(b"\x00")
        else:
            _dump_rare(item, kind, append, levels, bounds)


def _dump_large(value: tuple[Any, ...], append: Callable[[bytes], None], levels: int, bounds: _Bounds) -> None:
    """Append a tuple that is long or deep. Raises OverflowError where it should be counted and nothing is."""
    count = len(value)
    if not isinstance(bounds, _Counted):
        levels -= 2 if count < 5 else 4 if count < 17 else 8 if count < 256 else _BITS + 1
        if levels < 0:
            raise OverflowError
    elif count:
        _enter(count, levels, bounds)
        levels -= 1
    append(_TUPLE_HEADS[count] if count < 256 else _PACK_LENGTH(0x15, count))
    kind = type(value[0]) if count > 7 else None
    if (kind is not int and kind is not float) or len({*map(type, value)}) > 1:
        _dump_items(value, append, levels, bounds)
    elif kind is int:
        append(b"".join([INTS[item] if -2049 < item < 4096 else _int(item, bounds) for item in value]))
    else:
        packed = struct.pack(f">{count}d", *value)
        run = bytearray(b"\x18") * (9 * count)
        for byte in range(8):
            run[byte + 1 :: 9] = packed[byte::8]
        append(bytes(run))


def _dump_rare(value: Any, kind: type, append: Callable[[bytes], None], levels: int, bounds: _Bounds) -> None:
    if kind is bytes:
        append(_BYTES_HEADS[len(value)] if len(value) < 256 else _PACK_LENGTH(0x0F, len(value)))
        append(value)
    elif kind is complex:
        append(_PACK_COMPLEX(0x1B, value.real, value.imag))
    elif kind is slice:
        append(b"\x19")
        _dump_items(((value.start, value.stop, value.step),), append, levels, bounds)
    elif kind is frozenset:
        if len(value) > bounds.unordered_items:
            raise LimitExceeded("unordered_items", actual=len(value), allowed=bounds.unordered_items)
        append(b"\x1a")
        _dump_items((tuple(value),), append, levels, bounds)
    elif kind in _SCALARS:
        append(_CONSTANTS[value])
    elif kind is Raw:
        count = len(value.view)
        append(_BYTES_HEADS[count] if count < 256 else _PACK_LENGTH(0x0F, count))
        append(value.view)
    else:
        raise NotBrine(f"brine has no tag for {kind.__module__}.{kind.__qualname__}: it must go by reference")


def _int(item: int, bounds: _Bounds) -> bytes:
    """The encoding of an int that is not in `INTS`. Raises Unencodable."""
    allowed = bounds.int_digits
    try:  # only what may be short enough: writing digits takes the square of their number
        count = len(text := b"%d" % item if item.bit_length() >> 2 <= allowed else b"")
    except ValueError:
        count = 0
    if 0 < count - (item < 0) <= allowed:
        return (_INT_HEADS[count] if count < 256 else _PACK_LENGTH(0x17, count)) + text
    raise Unencodable(f"an int of {item.bit_length()} bits has more digits than can be sent")


# What a converter of 12 bits gives, and the numbers of a young connection. Negative ints index from the end.
# Written out, for this is a third of what importing this module takes.
INTS: Final = [
    *[bytes((n + 80,)) for n in range(160)],
    *[b"\x16\x03%d" % n for n in range(160, 1000)],
    *[b"\x16\x04%d" % n for n in range(1000, 4096)],
    *[b"\x16\x05%d" % n for n in range(-2048, -999)],
    *[b"\x16\x04%d" % n for n in range(-999, -99)],
    *[b"\x16\x03%d" % n for n in range(-99, -48)],
    *[bytes((n + 80,)) for n in range(-48, 0)],
]

_LENGTH, _FLOAT, _COMPLEX = (struct.Struct(code).unpack_from for code in (">I", ">d", ">dd"))

# (data, position of the tag, levels, bounds) -> the value and the position of its last byte. A decoder need not look if
# its bytes are all there: if not, that position is behind the end, where the next tag isn't found or `load` sees it.
_Decoder: TypeAlias = Callable[[_Data, int, int, _Bounds], tuple[Any, int]]


def load(data: _Data, start: int = 0, limits: Limits = DEFAULT, *, lends: bool = False) -> Any:
    """The one value that `data` holds from `start` to its end. Raises BrineError, or LimitExceeded.

    `lends`: what is `bytes` may be a memoryview of `data`, where that is a large bytearray.
    """
    size = len(data)
    try:
        decode = _DECODERS[data[start]]
        if size - start <= limits.items:
            value, last = decode(data, start, limits.nesting, limits)
        else:
            value, last = decode(data, start, 0, _Counted(limits, limits.items, lends=lends))
    except (IndexError, ValueError, TypeError, RecursionError, struct.error) as error:
        raise BrineError(f"no brine value from offset {start} to {size}: {error}") from None
    if last + 1 != size:
        raise BrineError(f"a brine value of {last + 1 - start} bytes, where there are {size - start}")
    return value


def _tuple1(data: _Data, pos: int, levels: int, bounds: _Bounds) -> tuple[Any, int]:
    if levels < 1:
        _enter(1, levels, bounds)
    if (a := _VALUES[tag := data[pos := pos + 1]]) is _MORE:
        a, pos = _DECODERS[tag](data, pos, levels - 1, bounds)
    return (a,), pos


def _tuple2(data: _Data, pos: int, levels: int, bounds: _Bounds) -> tuple[Any, int]:
    if levels < 1:
        _enter(2, levels, bounds)
    if (a := _VALUES[tag := data[pos := pos + 1]]) is _MORE:
        a, pos = _DECODERS[tag](data, pos, levels - 1, bounds)
    if (b := _VALUES[tag := data[pos := pos + 1]]) is _MORE:
        b, pos = _DECODERS[tag](data, pos, levels - 1, bounds)
    return (a, b), pos


def _tuple3(data: _Data, pos: int, levels: int, bounds: _Bounds) -> tuple[Any, int]:
    if levels < 1:
        _enter(3, levels, bounds)
    if (a := _VALUES[tag := data[pos := pos + 1]]) is _MORE:
        a, pos = _DECODERS[tag](data, pos, levels - 1, bounds)
    if (b := _VALUES[tag := data[pos := pos + 1]]) is _MORE:
        b, pos = _DECODERS[tag](data, pos, levels - 1, bounds)
    if (c := _VALUES[tag := data[pos := pos + 1]]) is _MORE:
        c, pos = _DECODERS[tag](data, pos, levels - 1, bounds)
    return (a, b, c), pos


def _tuple4(data: _Data, pos: int, levels: int, bounds: _Bounds) -> tuple[Any, int]:
    ab, pos = _tuple2(data, pos, levels, bounds)
    cd, pos = _tuple2(data, pos, levels, bounds)
    return ab + cd, pos


def _items(data: _Data, pos: int, count: int, levels: int, bounds: _Bounds) -> tuple[Any, int]:
    """The tuple of `count` items, the first of which is at `pos`."""
    if levels < 1:
        _enter(count, levels, bounds)
    if count > 7:
        if count > len(data) - pos:
            raise BrineError(f"a tuple of {count} items at offset {pos}, where the data ends at {len(data)}")
        end = pos + 9 * count
        if data[pos:end:9] == b"\x18" * count:
            run = bytearray(data[pos:end])
            del run[::9]
            return struct.unpack(f">{count}d", run), end - 1
    items: list[Any] = []
    short_int = 0x16 if bounds.int_digits > 254 else None  # then its length needs no check
    for _ in range(count):
        if (item := _VALUES[tag := data[pos]]) is not _MORE:
            pos += 1
        elif tag == short_int:
            start = pos + 2
            pos = start + data[pos + 1]
            text = data[start:pos]
            item = int(text) if text.isdigit() and text >= b"1" else _decimal(text, bounds)
        else:
            item, pos = _DECODERS[tag](data, pos, levels - 1, bounds)
            pos += 1
        items.append(item)
    return tuple(items), pos - 1


def _str(data: _Data, pos: int, levels: int, bounds: _Bounds) -> tuple[Any, int]:
    tag = data[pos + 1]
    if tag == 0x0E:
        end = pos + 3 + data[pos + 2]
        return data[pos + 3 : end].decode(), end - 1
    if 0x0A <= tag <= 0x0D:
        return data[pos + 2 : pos + tag - 7].decode(), pos + tag - 8
    if tag != 0x01 and tag != 0x0F:
        raise BrineError(f"tag {tag:#04x} at offset {pos + 1}, where the bytes of a str have to be")
    text, last = _DECODERS[tag](data, pos + 1, levels, bounds)
    return text.decode(), last


def _bytes(data: _Data, pos: int, levels: int, bounds: _Bounds) -> tuple[Any, int]:
    tag = data[pos]
    head, count = (1, tag - 9) if tag < 0x0E else (2, data[pos + 1]) if tag == 0x0E else (5, *_LENGTH(data, pos + 1))
    last = pos + head + count - 1
    if type(data) is bytes:
        return data[pos + head : last + 1], last
    view = memoryview(data)[pos + head : last + 1]  # of a large message, which is a bytearray
    return view if isinstance(bounds, _Counted) and bounds.lends else bytes(view), last


def _int_u8(data: _Data, pos: int, levels: int, bounds: _Bounds) -> tuple[Any, int]:
    end = pos + 2 + data[pos + 1]
    text = data[pos + 2 : end]
    if text.isdigit() and text >= b"1" and len(text) <= bounds.int_digits:
        return int(text), end - 1
    return _decimal(text, bounds), end - 1


def _int_u32(data: _Data, pos: int, levels: int, bounds: _Bounds) -> tuple[Any, int]:
    end = pos + 5 + _LENGTH(data, pos + 1)[0]
    return _decimal(data[pos + 5 : end], bounds), end - 1


def _decimal(text: _Data, bounds: _Bounds) -> int:
    """The int that `text` writes in the one way there is."""
    count = len(digits := text.removeprefix(b"-"))
    if count > bounds.int_digits:
        raise LimitExceeded("int_digits", actual=count, allowed=bounds.int_digits)
    if not digits.isdigit() or (digits < b"1" and text != b"0"):
        raise BrineError(f"no canonical decimal: {text[:20]!r}")
    if count > 255 and isinstance(bounds, _Counted):
        _enter(count // 8, 0, bounds)  # reading it takes the square of its length
    return int(text)


def _slice(data: _Data, pos: int, levels: int, bounds: _Bounds) -> tuple[Any, int]:
    if data[pos + 1] != 0x12:
        raise BrineError(f"a slice at offset {pos} that is not of three values")
    parts, last = _tuple3(data, pos + 1, levels, bounds)
    return slice(*parts), last


def _frozenset(data: _Data, pos: int, levels: int, bounds: _Bounds) -> tuple[Any, int]:
    tag = data[pos + 1]
    if tag != 0x02 and not 0x10 <= tag <= 0x15:
        raise BrineError(f"a frozenset at offset {pos} that is not of a tuple")
    if not isinstance(bounds, _Counted):
        levels -= bounds.nesting
        bounds = _Counted(bounds, 9 * len(data))  # which is too short to break that
    members, last = _DECODERS[tag](data, pos + 1, levels, bounds)
    if len(members) > bounds.unordered_items:
        raise LimitExceeded("unordered_items", actual=len(members), allowed=bounds.unordered_items)
    _enter(4 + 4 * len(members), 0, bounds)  # a set costs as much as that many values more
    if collisions := len(members) - len({*map(hash, members)}):
        bounds.collisions += collisions
        if bounds.collisions**2 * (last - pos) > 1 << 26:  # they are compared each with each, and so are their members
            raise BrineError(f"a frozenset at offset {pos} has too many members of equal hash")
    return frozenset(members), last


def _value(data: _Data, pos: int, levels: int, bounds: _Bounds) -> tuple[Any, int]:
    value = _VALUES[data[pos]]
    if value is _MORE:
        raise BrineError(f"tag {data[pos]:#04x} at offset {pos} is not assigned")
    return value, pos


_MORE: Final = object()  # in _VALUES: the tag alone is no value
_VALUES: Final = (None, b"", (), True, False, NotImplemented, ..., *[_MORE] * 25, *range(-48, 160), *[_MORE] * 16)
_DECODERS: Final[list[_Decoder]] = [_value] * 256
_DECODERS[0x08] = _str
_DECODERS[0x0A:0x10] = [_bytes] * 6
_DECODERS[0x10:0x14] = _tuple1, _tuple2, _tuple3, _tuple4
_DECODERS[0x14] = lambda data, pos, levels, bounds: _items(data, pos + 2, data[pos + 1], levels, bounds)
_DECODERS[0x15] = lambda data, pos, levels, bounds: _items(data, pos + 5, _LENGTH(data, pos + 1)[0], levels, bounds)
_DECODERS[0x16:0x18] = _int_u8, _int_u32
_DECODERS[0x18] = lambda data, pos, levels, bounds: (_FLOAT(data, pos + 1)[0], pos + 8)
_DECODERS[0x19:0x1B] = _slice, _frozenset
_DECODERS[0x1B] = lambda data, pos, levels, bounds: (complex(*_COMPLEX(data, pos + 1)), pos + 16)
