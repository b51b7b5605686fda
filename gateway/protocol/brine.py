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
namedtuple, an IntEnum or a subclass of str goes by reference.

This is the hot path: each call encodes and decodes a few small nested tuples. So the bounds of `Limits` cost them
nothing. `levels` says how many tuples may still open one inside the other; at 0 a tuple has to ask `_enter`.

- Decoding a message that is too short to hold more than `limits.items` values, `levels` starts at `limits.nesting` and
  nothing is counted. In a longer one it starts at 0 and goes below, so that each tuple asks and is counted.
- Encoding starts at `_SHALLOW` levels of at most 4 items. What is larger is encoded again, from 0, and counted.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable, Iterable
from itertools import repeat
from typing import Any, Final, TypeAlias

from gateway.errors import LimitExceeded, ProtocolError
from gateway.limits import Limits

DEFAULT: Final = Limits()


class BrineError(ProtocolError):
    """Bytes that are no brine. The message says what is wrong, and where it can `offset` says where."""

    code = "brine-error"


class NotBrine(TypeError):
    """The value, or an item of it, is of a type that brine has no tag for: it must go by reference."""


class Unencodable(ValueError):
    """A value of brine's types that can't be sent: a lone surrogate, or more digits, nesting or items than allowed."""


class _Counted:
    """The bounds of `Limits` with the counts of one message, for a message that could break them in sum."""

    __slots__ = ("collisions", "int_digits", "items", "long_digits", "nesting", "unordered_items", "values")

    def __init__(self, limits: Limits) -> None:
        self.nesting = limits.nesting
        self.items = limits.items
        self.int_digits = limits.int_digits
        self.unordered_items = limits.unordered_items
        self.values = 1
        self.long_digits = 0
        self.collisions = 0


_Bounds: TypeAlias = Limits | _Counted


def _enter(count: int, levels: int, bounds: _Bounds) -> None:
    """Count a tuple of `count` items, or raise LimitExceeded. To be asked where `levels` is below 1."""
    if not isinstance(bounds, _Counted) or -levels >= bounds.nesting:
        raise LimitExceeded("nesting", actual=bounds.nesting + 1, allowed=bounds.nesting)
    bounds.values += count
    if bounds.values > bounds.items:
        raise LimitExceeded("items", actual=bounds.values, allowed=bounds.items)


# ---------------------------------------------------------------------------------------------------------- encoding

_SHALLOW: Final = 8
_FEW: Final = 87_381  # values, where 8 levels of tuples hold 4 items each: 1 + 4 + 16 + ... + 4**8

_PACK_LENGTH: Final = struct.Struct(">BI").pack
_PACK_FLOAT: Final = struct.Struct(">Bd").pack
_PACK_COMPLEX: Final = struct.Struct(">Bdd").pack
_BYTES_HEADS: Final = (b"\x01", b"\x0a", b"\x0b", b"\x0c", b"\x0d", *(bytes((0x0E, n)) for n in range(5, 256)))
_STR_HEADS: Final = tuple(b"\x08" + head for head in _BYTES_HEADS)
_TUPLE_HEADS: Final = (b"\x02", b"\x10", b"\x11", b"\x12", b"\x13", *(bytes((0x14, n)) for n in range(5, 256)))
_INT_HEADS: Final = tuple(bytes((0x16, n)) for n in range(256))
_CONSTANTS: Final = {None: b"\x00", NotImplemented: b"\x05", Ellipsis: b"\x06"}
_SCALARS: Final = frozenset({int, str, float, bytes, bool, complex, *map(type, _CONSTANTS)})

_Append: TypeAlias = Callable[[bytes], None]


class _TooLarge(Exception):
    """The value has more than `_SHALLOW` levels or a tuple of more than 4 items: its values must be counted."""


def dump(value: object, limits: Limits = DEFAULT) -> bytes:
    """The encoding of `value`. Raises NotBrine or Unencodable."""
    pieces: list[bytes] = []
    dump_into(value, pieces, limits)
    return b"".join(pieces)


def dump_into(value: object, out: list[bytes], limits: Limits = DEFAULT) -> None:
    """Append the encoding of `value` to `out` in pieces, where large bytes are the value's own and not a copy.

    Raises NotBrine or Unencodable, and then `out` is as it was.
    """
    mark = len(out)
    try:
        try:
            _dump_items((value,), out.append, _SHALLOW if limits.items >= _FEW else 0, limits)
        except _TooLarge:
            del out[mark:]
            _dump_items((value,), out.append, 0, _Counted(limits))
    except BaseException as error:
        del out[mark:]
        if isinstance(error, UnicodeEncodeError):
            raise Unencodable(f"a str holds a lone surrogate at index {error.start}: UTF-8 has no bytes for it") from None
        if isinstance(error, LimitExceeded | RecursionError | struct.error):
            raise Unencodable(f"the value can't be sent: {error}") from None
        raise


def dumpable(value: object) -> bool:
    """Is `value` of brine's types through and through? Then `dump` gives bytes or Unencodable, never NotBrine."""
    if type(value) in _SCALARS:
        return True
    pending: list[Any] = [value]
    seen: set[int] = set()  # a tuple that is an item of many is walked once
    while pending:
        item = pending.pop()
        kind = type(item)
        if kind is tuple or kind is frozenset:
            if not _SCALARS.issuperset(map(type, item)) and id(item) not in seen:
                seen.add(id(item))
                pending.extend(item)
        elif kind is slice:
            pending += (item.start, item.stop, item.step)
        elif kind not in _SCALARS:
            return False
    return True


def _dump_items(items: Iterable[Any], append: _Append, levels: int, bounds: _Bounds) -> None:
    for item in items:
        kind = type(item)
        if kind is int:
            append(_INTS[item] if -2049 < item < 4096 else _int(item, bounds))
        elif kind is tuple:
            count = len(item)
            if count > 4 or levels < 1:
                _dump_large(item, append, levels, bounds)
            else:
                append(_TUPLE_HEADS[count])
                _dump_items(item, append, levels - 1, bounds)
        elif kind is str:
            text = item.encode()
            count = len(text)
            append(_STR_HEADS[count] if count < 256 else b"\x08" + _PACK_LENGTH(0x0F, count))
            append(text)
        elif kind is float:
            append(_PACK_FLOAT(0x18, item))
        else:
            _dump_rare(item, kind, append, levels, bounds)


def _dump_large(value: tuple[Any, ...], append: _Append, levels: int, bounds: _Bounds) -> None:
    if not isinstance(bounds, _Counted):
        raise _TooLarge
    count = len(value)
    if count:
        _enter(count, levels, bounds)
    append(_TUPLE_HEADS[count] if count < 256 else _PACK_LENGTH(0x15, count))
    kind = type(value[0]) if count > 7 else None
    if (kind is not int and kind is not float) or len({*map(type, value)}) > 1:
        _dump_items(value, append, levels - 1, bounds)
    elif kind is int:
        append(b"".join([_INTS[item] if -2049 < item < 4096 else _int(item, bounds) for item in value]))
    else:
        packed = struct.pack(f">{count}d", *value)
        run = bytearray(b"\x18") * (9 * count)
        for byte in range(8):
            run[byte + 1 :: 9] = packed[byte::8]
        append(bytes(run))


def _dump_rare(value: Any, kind: type, append: _Append, levels: int, bounds: _Bounds) -> None:
    if kind is bool:
        append(b"\x03" if value else b"\x04")
    elif kind is bytes:
        count = len(value)
        append(_BYTES_HEADS[count] if count < 256 else _PACK_LENGTH(0x0F, count))
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
    else:
        raise NotBrine(f"brine has no tag for {kind.__module__}.{kind.__qualname__}: it must go by reference")


def _int(item: int, bounds: _Bounds) -> bytes:
    """The encoding of an int that is not in the table."""
    bits = item.bit_length()
    if bits >> 2 > bounds.int_digits:  # writing out a number takes the square of its length
        raise LimitExceeded("int_digits", actual=bits * 3 // 10, allowed=bounds.int_digits)
    try:
        text = b"%d" % item
    except ValueError:
        raise LimitExceeded("int_digits", actual=bits * 3 // 10, allowed=sys.get_int_max_str_digits()) from None
    count = len(text)
    if count > bounds.int_digits and count - (item < 0) > bounds.int_digits:
        raise LimitExceeded("int_digits", actual=count - (item < 0), allowed=bounds.int_digits)
    return (_INT_HEADS[count] if count < 256 else _PACK_LENGTH(0x17, count)) + text


# What a converter of 12 bits gives, and the numbers of a young connection. Negative ints index from the end.
_INTS: Final = tuple(
    bytes((n + 0x50,)) if -48 <= n < 160 else _int(n, DEFAULT) for n in (*range(4096), *range(-2048, 0))
)

# ---------------------------------------------------------------------------------------------------------- decoding

_LONG_INTS: Final = 64  # The ints of over 255 characters in one message have this times Limits.int_digits together.
_COLLISION_WORK: Final = 1 << 26

_U32: Final = struct.Struct(">I").unpack_from
_FLOAT: Final = struct.Struct(">d").unpack_from
_COMPLEX: Final = struct.Struct(">dd").unpack_from

_Decoder: TypeAlias = Callable[[bytes, int, int, _Bounds], tuple[Any, int]]
"""`(data, pos, levels, bounds)`, where `pos` is the tag's position -> the value, and the position of its last byte.

No decoder looks whether its bytes are all there. If they aren't, the position that it returns lies behind the end, where
the next tag is not found or `load` sees it.
"""


def load(data: bytes, start: int = 0, limits: Limits = DEFAULT) -> Any:
    """The one value that `data` holds from `start` to its end.

    Raises BrineError where there is anything else, LimitExceeded (`nesting`, `items`, `int_digits`, `unordered_items`)
    where it is too large. Takes at most time and memory in proportion to the length of `data`.
    """
    size = len(data)
    try:
        decode = _DECODERS[data[start]]
        if size - start <= limits.items:
            value, last = decode(data, start, limits.nesting, limits)
        else:
            value, last = decode(data, start, 0, _Counted(limits))
    except (IndexError, struct.error):
        raise BrineError(f"brine is cut short: the data ends at offset {size}", offset=size) from None
    except UnicodeDecodeError as error:
        raise BrineError(f"a brine str is not UTF-8: {error.reason}") from None
    except RecursionError:
        raise BrineError("brine is nested deeper than the interpreter's stack") from None
    if last + 1 != size:
        raise BrineError(f"a brine value takes {last + 1 - start} bytes of {size - start}", offset=last + 1)
    return value


def _one_byte(data: bytes, pos: int, levels: int, bounds: _Bounds) -> tuple[Any, int]:
    return _VALUES[data[pos]], pos


def _tuple1(data: bytes, pos: int, levels: int, bounds: _Bounds) -> tuple[tuple[Any], int]:
    if levels < 1:
        _enter(1, levels, bounds)
    pos += 1
    if (a := _VALUES[tag := data[pos]]) is _MORE:
        a, pos = _DECODERS[tag](data, pos, levels - 1, bounds)
    return (a,), pos


def _tuple2(data: bytes, pos: int, levels: int, bounds: _Bounds) -> tuple[tuple[Any, Any], int]:
    if levels < 1:
        _enter(2, levels, bounds)
    pos += 1
    if (a := _VALUES[tag := data[pos]]) is _MORE:
        a, pos = _DECODERS[tag](data, pos, levels - 1, bounds)
    pos += 1
    if (b := _VALUES[tag := data[pos]]) is _MORE:
        b, pos = _DECODERS[tag](data, pos, levels - 1, bounds)
    return (a, b), pos


def _tuple3(data: bytes, pos: int, levels: int, bounds: _Bounds) -> tuple[tuple[Any, Any, Any], int]:
    if levels < 1:
        _enter(3, levels, bounds)
    pos += 1
    if (a := _VALUES[tag := data[pos]]) is _MORE:
        a, pos = _DECODERS[tag](data, pos, levels - 1, bounds)
    pos += 1
    if (b := _VALUES[tag := data[pos]]) is _MORE:
        b, pos = _DECODERS[tag](data, pos, levels - 1, bounds)
    pos += 1
    if (c := _VALUES[tag := data[pos]]) is _MORE:
        c, pos = _DECODERS[tag](data, pos, levels - 1, bounds)
    return (a, b, c), pos


def _tuple4(data: bytes, pos: int, levels: int, bounds: _Bounds) -> tuple[tuple[Any, Any, Any, Any], int]:
    if levels < 1:
        _enter(4, levels, bounds)
    pos += 1
    if (a := _VALUES[tag := data[pos]]) is _MORE:
        a, pos = _DECODERS[tag](data, pos, levels - 1, bounds)
    pos += 1
    if (b := _VALUES[tag := data[pos]]) is _MORE:
        b, pos = _DECODERS[tag](data, pos, levels - 1, bounds)
    pos += 1
    if (c := _VALUES[tag := data[pos]]) is _MORE:
        c, pos = _DECODERS[tag](data, pos, levels - 1, bounds)
    pos += 1
    if (d := _VALUES[tag := data[pos]]) is _MORE:
        d, pos = _DECODERS[tag](data, pos, levels - 1, bounds)
    return (a, b, c, d), pos


def _items(data: bytes, pos: int, count: int, levels: int, bounds: _Bounds) -> tuple[tuple[Any, ...], int]:
    """The tuple of the `count` items that follow `pos`."""
    if levels < 1:
        _enter(count, levels, bounds)
    pos += 1
    if count > len(data) - pos:
        raise BrineError(f"a tuple of {count} items at offset {pos}, where the data ends at {len(data)}", offset=pos)
    end = pos + 9 * count
    if count > 7 and data[pos:end:9] == b"\x18" * count:
        run = bytearray(data[pos:end])
        del run[::9]
        return struct.unpack(f">{count}d", run), end - 1
    items: list[Any] = []
    append = items.append
    int_digits = bounds.int_digits
    for _ in repeat(None, count):
        if (item := _VALUES[tag := data[pos]]) is _MORE:
            if tag == 0x16:
                pos += 1
                last = pos + data[pos]
                text = data[pos + 1 : last + 1]
                if text.isdigit() and text >= b"1" and len(text) <= int_digits:
                    item = int(text)
                else:
                    item = _decimal(text, pos + 1, bounds)
                pos = last
            else:
                item, pos = _DECODERS[tag](data, pos, levels - 1, bounds)
        append(item)
        pos += 1
    return tuple(items), pos - 1


def _tuple_u8(data: bytes, pos: int, levels: int, bounds: _Bounds) -> tuple[tuple[Any, ...], int]:
    return _items(data, pos + 1, data[pos + 1], levels, bounds)


def _tuple_u32(data: bytes, pos: int, levels: int, bounds: _Bounds) -> tuple[tuple[Any, ...], int]:
    return _items(data, pos + 4, _U32(data, pos + 1)[0], levels, bounds)


def _str(data: bytes, pos: int, levels: int, bounds: _Bounds) -> tuple[str, int]:
    tag = data[pos + 1]
    if tag == 0x0E:
        start = pos + 3
        end = start + data[pos + 2]
    elif 0x0A <= tag <= 0x0D:
        start = pos + 2
        end = start + tag - 9
    elif tag == 0x0F:
        start = pos + 6
        end = start + _U32(data, pos + 2)[0]
    elif tag == 0x01:
        return "", pos + 1
    else:
        raise BrineError(f"a str of tag {tag:#04x} at offset {pos}, where bytes have to be", offset=pos)
    return data[start:end].decode(), end - 1


def _bytes_of(count: int) -> _Decoder:
    return lambda data, pos, levels, bounds: (data[pos + 1 : pos + 1 + count], pos + count)


def _bytes_u8(data: bytes, pos: int, levels: int, bounds: _Bounds) -> tuple[bytes, int]:
    end = pos + 2 + data[pos + 1]
    return data[pos + 2 : end], end - 1


def _bytes_u32(data: bytes, pos: int, levels: int, bounds: _Bounds) -> tuple[bytes, int]:
    end = pos + 5 + _U32(data, pos + 1)[0]
    return data[pos + 5 : end], end - 1


def _int_u8(data: bytes, pos: int, levels: int, bounds: _Bounds) -> tuple[int, int]:
    end = pos + 2 + data[pos + 1]
    text = data[pos + 2 : end]
    if text.isdigit() and text >= b"1" and len(text) <= bounds.int_digits:
        return int(text), end - 1
    return _decimal(text, pos + 2, bounds), end - 1


def _int_u32(data: bytes, pos: int, levels: int, bounds: _Bounds) -> tuple[int, int]:
    count = _U32(data, pos + 1)[0]
    if count > bounds.int_digits + 1:
        raise LimitExceeded("int_digits", actual=count, allowed=bounds.int_digits)
    if isinstance(bounds, _Counted):  # reading a number takes the square of its length
        bounds.long_digits += count
        if bounds.long_digits > _LONG_INTS * bounds.int_digits:
            raise LimitExceeded("int_digits", actual=bounds.long_digits, allowed=_LONG_INTS * bounds.int_digits)
    return _decimal(data[pos + 5 : pos + 5 + count], pos + 5, bounds), pos + 4 + count


def _decimal(text: bytes, pos: int, bounds: _Bounds) -> int:
    """The int of which `text`, at `pos`, is the one way to write it."""
    digits = text[1:] if text[:1] == b"-" else text
    if not digits.isdigit() or (digits < b"1" and text != b"0"):
        raise BrineError(f"no canonical decimal at offset {pos}: {text[:20]!r}", offset=pos)
    if len(digits) > bounds.int_digits:
        raise LimitExceeded("int_digits", actual=len(digits), allowed=bounds.int_digits)
    try:
        return int(text)
    except ValueError:
        raise LimitExceeded("int_digits", actual=len(digits), allowed=sys.get_int_max_str_digits()) from None


def _float(data: bytes, pos: int, levels: int, bounds: _Bounds) -> tuple[float, int]:
    return _FLOAT(data, pos + 1)[0], pos + 8


def _complex(data: bytes, pos: int, levels: int, bounds: _Bounds) -> tuple[complex, int]:
    return complex(*_COMPLEX(data, pos + 1)), pos + 16


def _slice(data: bytes, pos: int, levels: int, bounds: _Bounds) -> tuple[slice, int]:
    count, head = _tuple_head(data, pos + 1)
    if count != 3:
        raise BrineError(f"a slice of {count} values at offset {pos}", offset=pos)
    parts, last = _tuple3(data, head, levels, bounds)
    return slice(*parts), last


def _frozenset(data: bytes, pos: int, levels: int, bounds: _Bounds) -> tuple[frozenset[Any], int]:
    count, head = _tuple_head(data, pos + 1)
    if not count:
        return frozenset(), head
    if count > bounds.unordered_items:
        raise LimitExceeded("unordered_items", actual=count, allowed=bounds.unordered_items)
    if not isinstance(bounds, _Counted):
        levels -= bounds.nesting
        bounds = _Counted(bounds)
    members, last = _items(data, head, count, levels, bounds)
    try:
        collisions = count - len({*map(hash, members)})
    except TypeError:
        raise BrineError(f"a frozenset at offset {pos} holds a slice", offset=pos) from None
    if collisions:
        # Members of equal hash are compared each with each, and in the sets that they hold again.
        bounds.collisions += collisions
        if bounds.collisions**2 * (last - pos) > _COLLISION_WORK:
            raise BrineError(f"a frozenset at offset {pos} has too many members of equal hash", offset=pos)
    return frozenset(members), last


def _tuple_head(data: bytes, pos: int) -> tuple[int, int]:
    """The number of items of the tuple at `pos`, and the position of the last byte before them."""
    tag = data[pos]
    if 0x10 <= tag <= 0x13:
        return tag - 0x0F, pos
    if tag == 0x14:
        return data[pos + 1], pos + 1
    if tag == 0x15:
        return _U32(data, pos + 1)[0], pos + 4
    if tag == 0x02:
        return 0, pos
    raise BrineError(f"tag {tag:#04x} at offset {pos}, where a tuple has to be", offset=pos)


def _unassigned(data: bytes, pos: int, levels: int, bounds: _Bounds) -> tuple[Any, int]:
    raise BrineError(f"tag {data[pos]:#04x} at offset {pos} is not assigned", offset=pos)


_MORE: Final = object()  # stands in _VALUES for a tag that more bytes follow, or none can
_VALUES: Final[tuple[Any, ...]] = (
    *(None, b"", (), True, False, NotImplemented, Ellipsis),
    *(_MORE,) * (0x20 - 7),
    *range(-48, 160),
    *(_MORE,) * 16,
)
_DECODERS: Final[list[_Decoder]] = [_unassigned if value is _MORE else _one_byte for value in _VALUES]
_DECODERS[0x08] = _str
_DECODERS[0x0A:0x10] = *map(_bytes_of, (1, 2, 3, 4)), _bytes_u8, _bytes_u32
_DECODERS[0x10:0x16] = _tuple1, _tuple2, _tuple3, _tuple4, _tuple_u8, _tuple_u32
_DECODERS[0x16:0x1C] = _int_u8, _int_u32, _float, _slice, _frozenset, _complex
