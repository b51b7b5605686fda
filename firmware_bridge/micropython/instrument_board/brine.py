"""Brine, RPyC's encoding of immutable values, for what a board can hold: no complex numbers, slices or frozensets."""

import struct

DEPTH = 8


class BrineError(ValueError):
    """These bytes are no value, or none that a board can hold."""


def dump(value, out):
    """Append the encoding of `value` to the bytearray `out`. Raises TypeError for what can't go by value."""
    kind = type(value)
    if value is None:
        out.append(0)
    elif kind is bool:
        out.append(3 if value else 4)
    elif kind is int:
        if -48 <= value <= 159:
            out.append(value + 0x50)
        else:
            digits = str(value)
            _head(out, 0x16, len(digits))
            out.extend(digits.encode())
    elif kind is float:
        out.append(0x18)
        out.extend(struct.pack(">d", value))
    elif kind is str:
        out.append(8)
        _bytes(value.encode(), out)
    elif kind is bytes or kind is bytearray:
        _bytes(value, out)
    elif kind is tuple or kind is list:
        count = len(value)
        if count == 0:
            out.append(2)
        elif count <= 4:
            out.append(0x0F + count)
        else:
            _head(out, 0x14, count)
        for each in value:
            dump(each, out)
    else:
        raise TypeError("a result goes by value: None, bool, int, float, str, bytes, or a tuple of these")


def _bytes(value, out):
    size = len(value)
    if size == 0:
        out.append(1)
    elif size <= 4:
        out.append(9 + size)
    else:
        _head(out, 0x0E, size)
    out.extend(value)


def _head(out, tag, count):
    if count < 256:
        out.append(tag)
        out.append(count)
    else:
        out.append(tag + 1)
        out.extend(struct.pack(">I", count))


def load(data, at=0):
    """The one value in `data` from `at` to its end. Raises BrineError."""
    try:
        value, at = _load(data, at, DEPTH)
    except (IndexError, ValueError, UnicodeError) as problem:
        raise BrineError("no brine value: %s" % problem)
    if at != len(data):
        raise BrineError("bytes behind the value")
    return value


_CONSTANTS = {0: None, 1: b"", 2: (), 3: True, 4: False}


def _load(data, at, depth):
    tag = data[at]
    at += 1
    if tag in _CONSTANTS:
        return _CONSTANTS[tag], at
    if 0x20 <= tag <= 0xEF:
        return tag - 0x50, at
    if tag == 8:
        raw, at = _load(data, at, depth)
        if type(raw) is not bytes:
            raise BrineError("text is made of bytes")
        return raw.decode(), at
    if 0x0A <= tag <= 0x0D:
        return _take(data, at, tag - 9)
    if tag == 0x0E or tag == 0x0F:
        size, at = _length(data, at, tag == 0x0F)
        return _take(data, at, size)
    if 0x10 <= tag <= 0x15:
        if tag <= 0x13:
            count = tag - 0x0F
        else:
            count, at = _length(data, at, tag == 0x15)
        if depth == 0 or count > len(data) - at:
            raise BrineError("too deep, or cut short")
        items = []
        for _ in range(count):
            item, at = _load(data, at, depth - 1)
            items.append(item)
        return tuple(items), at
    if tag == 0x16 or tag == 0x17:
        size, at = _length(data, at, tag == 0x17)
        digits, at = _take(data, at, size)
        text = digits.decode()
        number = text[1:] if text.startswith("-") else text
        if size > 40 or not number.isdigit() or (number[0] == "0" and text != "0"):
            raise BrineError("sloppy digits, or too many")
        return int(text), at
    if tag == 0x18:
        raw, at = _take(data, at, 8)
        return struct.unpack(">d", raw)[0], at
    raise BrineError("a value that a board can't hold")


def _length(data, at, is_long):
    if not is_long:
        return data[at], at + 1
    raw, at = _take(data, at, 4)
    return struct.unpack(">I", raw)[0], at


def _take(data, at, size):
    if size > len(data) - at:
        raise BrineError("cut short")
    return bytes(data[at : at + size]), at + size
