"""What a wire can't do, so that a test that needs it is skipped with a reason instead of failing on it."""

from __future__ import annotations

from enum import Enum


class Quirk(Enum):
    """The value is the reason that is printed."""

    NO_MODEM_LINES = "it has no modem lines (RTS, CTS, DTR, DSR)"
    NO_PARITY = "it has neither parity nor 7 data bits"
    NO_EOF = "neither end is told when the other one closes"
    FLUSH_DOES_NOT_WAIT = "flush returns before the bytes have left, and out_waiting is always 0"
    NO_SETTINGS = "the speed that is set at this end goes nowhere"
    NO_NODE = "it is no device node: nothing vanishes when it is unplugged"
    NO_FAULTS = "no fault can be put on it"
    REAL = "it is real hardware: nobody can pull its plug"
