r"""A SCPI instrument's half of the wire (SCPI-99 on IEEE 488.2): bytes in, bytes out.

A subclass adds rows to the table of commands:

    def commands(self) -> Commands:
        return {"MEASure[:SCALar]:VOLTage[:DC]?": self.measure, "OUTPut[:STATe]": self.set_output}

Capitals are the short form of a word, brackets are what may be left out. Messages may be compounds (`VOLT 1;CURR 2`,
`:OUTP ON;*OPC?`), parameters may be numbers with units, words, strings and blocks. Errors go to the queue that
`SYST:ERR?` reads, oldest first, and set their bits in the standard event register that `*ESR?` reads.
"""

from __future__ import annotations

import itertools
import re
from collections import deque
from collections.abc import Callable, Iterator
from typing import Final

Parameters = list[bytes]
Handler = Callable[[Parameters], str | bytes | None]
Commands = dict[str, Handler]

MAX_INPUT: Final = 1024 * 1024
"""Bytes of one message that are kept; more is a -363."""
MAX_QUEUE: Final = 20

TEXTS: Final = {
    -102: "Syntax error",
    -104: "Data type error",
    -108: "Parameter not allowed",
    -109: "Missing parameter",
    -113: "Undefined header",
    -131: "Invalid suffix",
    -151: "Invalid string data",
    -161: "Invalid block data",
    -222: "Data out of range",
    -224: "Illegal parameter value",
    -350: "Queue overflow",
    -363: "Input buffer overrun",
}
"""SCPI-99 volume 2, 21.8."""

OPERATION_COMPLETE: Final = 0x01
EVENT_OF_CLASS: Final = {1: 0x20, 2: 0x10, 3: 0x08, 4: 0x04}
"""Hundreds of an error's number -> its bit in the standard event register (command, execution, device, query)."""
POWER_ON: Final = 0x80
QUEUE_NOT_EMPTY: Final = 0x04
EVENT_SUMMARY: Final = 0x20

_NUMBER: Final = re.compile(rb"([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*([a-zA-Z]*)")
_MULTIPLIERS: Final = {b"": 1.0, b"U": 1e-6, b"M": 1e-3, b"K": 1e3, b"MA": 1e6}


class ScpiError(Exception):
    """An error for the queue. A negative number of the -100s also ends the message."""

    def __init__(self, number: int, detail: str = "") -> None:
        super().__init__(number, detail)
        self.number = number
        self.detail = detail


class ScpiEngine:
    """The parser, the queue, the registers and the common commands."""

    def __init__(self, identity: str) -> None:
        self._identity = identity
        self._input = bytearray()
        self._overrun = False
        self._queue: deque[tuple[int, str]] = deque()
        self._events = POWER_ON
        self._event_mask = 0
        self._table: Commands = {}
        for pattern, handler in {**self._common(), **self.commands()}.items():
            self._table |= dict.fromkeys(spellings(pattern), handler)

    def commands(self) -> Commands:
        """The instrument's own commands."""
        return {}

    def reset(self) -> None:
        """What `*RST` does: back to how the instrument wakes up."""

    def receive(self, data: bytes) -> bytes:
        """Take bytes, run the messages that are complete, return their answers."""
        self._input += data
        answers = bytearray()
        while (end := message_end(self._input)) is not None:
            message = bytes(self._input[:end])
            del self._input[: end + 1]
            if not self._overrun:
                answers += self._run(message)
            self._overrun = False
        if len(self._input) > MAX_INPUT:
            self._input.clear()
            if not self._overrun:
                self.report(ScpiError(-363))
            self._overrun = True
        return bytes(answers)

    def report(self, error: ScpiError) -> None:
        """Put an error into the queue. When it is full, its last entry becomes -350 and later errors are lost."""
        self._events |= EVENT_OF_CLASS.get(-error.number // 100, 0x08)
        text = TEXTS[error.number] + (f";{error.detail}" if error.detail else "")
        if len(self._queue) < MAX_QUEUE:
            self._queue.append((error.number, text))
        else:
            self._queue[-1] = (-350, TEXTS[-350])

    def _run(self, message: bytes) -> bytes:
        answers: list[bytes] = []
        path = ""
        for unit in split(message, b";"):
            head, *rest = unit.split(None, 1) or [b""]
            if not head:
                continue
            header, path = _resolved(head, path)
            try:
                answer = self._handler(header)([_trimmed(part) for part in split(rest[0], b",")] if rest else [])
            except ScpiError as error:
                self.report(error)
                if error.number > -200:
                    break
            else:
                if answer is not None:
                    answers.append(answer.encode("ascii") if isinstance(answer, str) else answer)
        return b";".join(answers) + b"\n" if answers else b""

    def _handler(self, header: str) -> Handler:
        try:
            return self._table[header]
        except KeyError:
            raise ScpiError(-113, header[:40]) from None

    def _common(self) -> Commands:
        return {
            "*IDN?": lambda _: self._identity,
            "*RST": lambda _: self.reset(),
            "*CLS": lambda _: self._clear(),
            "*ESR?": lambda _: self._take_events(),
            "*ESE": self._set_event_mask,
            "*ESE?": lambda _: str(self._event_mask),
            "*OPC": lambda _: self._complete(),
            "*OPC?": lambda _: "1",
            "*STB?": lambda _: str(self._status()),
            "*TST?": lambda _: "0",
            "*WAI": lambda _: None,
            "SYSTem:ERRor[:NEXT]?": lambda _: self._next_error(),
            "SYSTem:ERRor:COUNt?": lambda _: str(len(self._queue)),
            "SYSTem:VERSion?": lambda _: "1999.0",
        }

    def _clear(self) -> None:
        self._queue.clear()
        self._events = 0

    def _complete(self) -> None:
        self._events |= OPERATION_COMPLETE

    def _set_event_mask(self, parameters: Parameters) -> None:
        self._event_mask = int(number(parameters, lowest=0, highest=255))

    def _take_events(self) -> str:
        events, self._events = self._events, 0
        return str(events)

    def _status(self) -> int:
        return (QUEUE_NOT_EMPTY if self._queue else 0) | (EVENT_SUMMARY if self._events & self._event_mask else 0)

    def _next_error(self) -> str:
        error, text = self._queue.popleft() if self._queue else (0, "No error")
        return f"{error},{quoted(text)}"


def spellings(pattern: str) -> Iterator[str]:
    """Every way to write a header: `OUTPut[:STATe]?` -> OUTP?, OUTPUT?, OUTP:STAT?, OUTP:STATE?, ..."""
    query = "?" if pattern.endswith("?") else ""
    choices: list[list[str]] = []
    for optional, word in re.findall(r"(\[)?:?([*A-Za-z]+)\]?", pattern):
        forms = sorted({word.upper(), "".join(letter for letter in word if not letter.islower())})
        choices.append([*forms, ""] if optional else forms)
    for words in itertools.product(*choices):
        yield ":".join(word for word in words if word) + query


def _resolved(head: bytes, path: str) -> tuple[str, str]:
    """The full header of a unit below `path`, and the path for the unit after it (SCPI-99 volume 1, 6.2.4)."""
    header = head.decode("ascii", "backslashreplace").upper()
    if header.startswith("*"):
        return header, path
    full = header[1:] if header.startswith(":") else path + header
    above, colon, _ = full.rpartition(":")
    return full, above + colon


def message_end(data: bytes | bytearray) -> int | None:
    """The index of the newline that ends the first message (those inside blocks don't), or None."""
    if b"\n" not in data:
        return None
    return next((position for position, piece, _ in _pieces(data) if piece == b"\n"), None)


def split(data: bytes, separator: bytes) -> list[bytes]:
    """Split where `separator` is outside of strings and blocks."""
    parts = [bytearray()]
    for _, piece, inside in _pieces(data):
        if piece == separator and not inside:
            parts.append(bytearray())
        else:
            parts[-1] += piece
    return [bytes(part) for part in parts]


def _pieces(data: bytes | bytearray) -> Iterator[tuple[int, bytes, bool]]:
    """The bytes one by one and the blocks in one piece: (where it is, the piece, whether it is inside of a string)."""
    position = 0
    quote = b""
    while position < len(data):
        size = 1
        here = bytes(data[position : position + 1])
        if here in (quote, b"\n"):
            quote = b""
        elif not quote and here in b"\"'":
            quote = here
        elif not quote and here == b"#":
            size = _block_size(data, position) or 1
        yield position, bytes(data[position : position + size]), bool(quote)
        position += size


def _trimmed(parameter: bytes) -> bytes:
    # The end of a block may look like white space and is not.
    parameter = parameter.lstrip()
    size = _block_size(parameter, 0) if parameter.startswith(b"#") else 0
    return parameter[:size] + parameter[size:].rstrip()


def _block_size(data: bytes | bytearray, start: int) -> int:
    """How many bytes the definite block at `start` has, its head included; 0 when there is none."""
    digits = data[start + 1 : start + 2]
    if not digits.isdigit() or digits == b"0":
        return 0
    head = 2 + int(digits)
    length = data[start + 2 : start + head]
    if len(length) < int(digits):
        return len(data) - start
    return head + int(length) if length.isdigit() else 0


def one(parameters: Parameters) -> bytes:
    """The only parameter."""
    if len(parameters) != 1 or not parameters[0]:
        raise ScpiError(-108 if len(parameters) > 1 else -109)
    return parameters[0]


def number(
    parameters: Parameters, *, lowest: float, highest: float, default: float | None = None, unit: str = ""
) -> float:
    """The only parameter as a number between the two, MINimum, MAXimum or DEFault; `1.5`, `1.5 V`, `1500 mV`."""
    text = one(parameters).upper()
    if (word := _special(text, lowest, highest, default)) is not None:
        return word
    match = _NUMBER.fullmatch(text)
    if match is None:
        raise ScpiError(-104)
    prefix = match[2].removesuffix(unit.encode("ascii"))
    if prefix not in _MULTIPLIERS:
        raise ScpiError(-131)
    value = float(match[1]) * _MULTIPLIERS[prefix]
    if not lowest <= value <= highest:
        raise ScpiError(-222)
    return value


def _special(text: bytes, lowest: float, highest: float, default: float | None) -> float | None:
    if text in (b"MIN", b"MINIMUM"):
        return lowest
    if text in (b"MAX", b"MAXIMUM"):
        return highest
    return default if text in (b"DEF", b"DEFAULT") else None


def limit(parameters: Parameters, now: float, *, lowest: float, highest: float) -> str:
    """The answer to `VOLT?`, `VOLT? MIN` and `VOLT? MAX`."""
    if not parameters:
        return fixed(now)
    special = _special(one(parameters).upper(), lowest, highest, None)
    if special is None:
        raise ScpiError(-224)
    return fixed(special)


def word(parameters: Parameters, *allowed: str) -> str:
    """The only parameter as one of the words; capitals are the short form."""
    text = one(parameters).decode("ascii", "replace").upper()
    for choice in allowed:
        if text in spellings(choice):
            return choice
    raise ScpiError(-224)


def boolean(parameters: Parameters) -> bool:
    """The only parameter as ON, OFF, 1 or 0."""
    text = one(parameters).upper()
    if text not in (b"ON", b"OFF", b"1", b"0"):
        raise ScpiError(-224)
    return text in (b"ON", b"1")


def string(parameters: Parameters) -> str:
    """The only parameter as a quoted string."""
    text = one(parameters).decode("ascii", "replace")
    quote = text[0]
    if quote not in "\"'" or len(text) < 2 or text[-1] != quote:
        raise ScpiError(-151)
    return text[1:-1].replace(quote * 2, quote)


def block(parameters: Parameters) -> bytes:
    """The only parameter as a definite-length block."""
    data = one(parameters)
    if not data.startswith(b"#") or _block_size(data, 0) != len(data):
        raise ScpiError(-161)
    return data[2 + int(data[1:2]) :]


def fixed(value: float) -> str:
    """A number as instruments print it (NR3): +3.30000000E+00."""
    return f"{value:+.8E}"


def quoted(text: str) -> str:
    """A text as string response data."""
    return '"' + text.replace('"', '""') + '"'


def definite_block(data: bytes) -> bytes:
    """Data as a definite-length block."""
    digits = str(len(data))
    return f"#{len(digits)}{digits}".encode("ascii") + data
