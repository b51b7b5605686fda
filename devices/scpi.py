r"""The language of SCPI instruments (SCPI-99 on IEEE 488.2), pure: texts and bytes in, values out.

    number      +1.25  -3.  .5E-3  9.9E37 (overload)  -9.9E37  9.91E37 (not a number)
    boolean     0  1  ON  OFF
    string      "5"" disk"   '5" disk'      the quote is doubled inside
    block       #3100<100 bytes>      definite: one digit that counts the digits of the length, the length, the data
                #0<bytes>\n           indefinite: up to the end of the message
    error       -113,"Undefined header;VOLTS?"

Every parser is strict and raises ValueError on anything else: an answer that is nearly a number comes from a wrong baud
rate or a lost byte, and must not become a reading.
"""

from __future__ import annotations

import math
import re
from typing import Final, NamedTuple

OVERLOAD: Final = 9.9e37
"""SCPI-99 volume 1, 7.2.1.4: the number that means infinity; as a reading, an overload."""
NOT_A_NUMBER: Final = 9.91e37
LENGTH_DIGITS: Final = 9
"""A definite block tells its length in at most this many digits (IEEE 488.2, 7.7.6)."""

_NUMBER: Final = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")
_INTEGER: Final = re.compile(r"[+-]?[0-9]{1,9}")
_BOOLEANS: Final = {"0": False, "OFF": False, "1": True, "ON": True}


class Identity(NamedTuple):
    """The four fields of an answer to `*IDN?`."""

    manufacturer: str
    model: str
    serial: str
    firmware: str


class QueueEntry(NamedTuple):
    """One entry of an instrument's error queue. Number 0 means that the queue is empty."""

    number: int
    text: str

    def __str__(self) -> str:
        return f"{self.number} {self.text}"


def parse_identity(answer: str) -> Identity:
    """`"Acme,PS-1,123,1.0"` -> Identity. Further commas belong to the firmware's field."""
    fields = [field.strip() for field in answer.split(",", 3)]
    if len(fields) < 4 or not answer.isprintable():
        raise ValueError(f"{answer[:80]!r} is no answer to *IDN? (manufacturer,model,serial,firmware)")
    return Identity(*fields)


def parse_number(answer: str) -> float:
    """`inf` or `-inf` for an overload and `nan` for SCPI's not-a-number."""
    text = answer.strip(" ")
    value = float(text) if _NUMBER.fullmatch(text) else math.inf
    if math.isinf(value):
        raise ValueError(f"{answer[:80]!r} is not a number")
    return from_scpi(value)


def parse_numbers(answer: str) -> list[float]:
    """Numbers between commas."""
    return [parse_number(field) for field in answer.split(",")]


def from_scpi(value: float) -> float:
    """Turn the numbers that stand for infinity and not-a-number into them."""
    if abs(value) == OVERLOAD:
        return math.copysign(math.inf, value)
    return math.nan if value == NOT_A_NUMBER else value


def format_number(value: float) -> str:
    """A finite number as an instrument reads it, in ten digits: 3.3, 1e-05."""
    if not math.isfinite(value):
        raise ValueError(f"{value} can't be sent to an instrument")
    return f"{value:.10g}"


def parse_boolean(answer: str) -> bool:
    """`0`, `1`, `ON` or `OFF`."""
    try:
        return _BOOLEANS[answer.strip(" ").upper()]
    except KeyError:
        raise ValueError(f"{answer[:80]!r} is neither 0 nor 1") from None


def parse_string(answer: str) -> str:
    """A quoted string; inside, the quote is doubled."""
    text = answer.strip(" ")
    quote = text[:1]
    inside = text[1:-1]
    if len(text) < 2 or quote not in "\"'" or text[-1] != quote or quote in inside.replace(quote * 2, ""):
        raise ValueError(f"{answer[:80]!r} is not a quoted string")
    return inside.replace(quote * 2, quote)


def format_string(text: str) -> str:
    """A quoted string: double quotes around it, and doubled inside."""
    return '"' + text.replace('"', '""') + '"'


def parse_queue_entry(answer: str) -> QueueEntry:
    """An answer to `SYST:ERR?`."""
    number, _, text = answer.strip(" ").partition(",")
    if not _INTEGER.fullmatch(number):
        raise ValueError(f"{answer[:80]!r} is no entry of an error queue")
    return QueueEntry(int(number), parse_string(text))


def encode_block(data: bytes) -> bytes:
    """A definite-length block. Raises ValueError above 999 999 999 bytes."""
    length = b"%d" % len(data)
    if len(length) > LENGTH_DIGITS:
        raise ValueError(f"a block of {len(data)} bytes is too long for IEEE 488.2")
    return b"#%d%b%b" % (len(length), length, data)


def block_digits(head: bytes) -> int:
    """`b"#3"` -> 3, the digits of the length that follow; 0 for an indefinite block."""
    if len(head) != 2 or head[:1] != b"#" or not head[1:].isdigit():
        raise ValueError(f"{head!r} does not begin a block")
    return int(head[1:])


def block_length(digits: bytes) -> int:
    """`b"100"` -> 100."""
    if not digits.isdigit():
        raise ValueError(f"{digits!r} is not the length of a block")
    return int(digits)
