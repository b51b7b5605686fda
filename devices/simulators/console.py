"""A simulated board with a console: a banner when it boots, a prompt, an echo of every byte typed, a few commands."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

BANNER: Final = b"\r\nSimulated board 1.0\r\nType help and press Enter.\r\n"
PROMPT: Final = b"board> "
HELP: Final = (
    b"help            this list\r\n"
    b"uptime          seconds since boot\r\n"
    b"echo TEXT       print TEXT\r\n"
    b"reboot          boot again\r\n"
)
MAX_LINE: Final = 256
"""Bytes of a line that are kept; the board rings its bell for each one more."""
BELL: Final = b"\a"
ERASE: Final = b"\b \b"


class ConsoleBoard:
    """Ends a line at a carriage return or a newline, whichever comes; backspace and delete erase."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._line = bytearray()
        self._last = b""
        self._booted = False
        self._since = 0.0

    def receive(self, data: bytes) -> bytes:
        """Take what is typed, return what is printed."""
        printed = bytearray() if self._booted else bytearray(self._boot())
        for value in data:
            key = bytes([value])
            printed += self._press(key)
            self._last = key
        return bytes(printed)

    def _boot(self) -> bytes:
        self._booted = True
        self._since = self._clock()
        self._line.clear()
        return BANNER + PROMPT

    def _press(self, key: bytes) -> bytes:
        if key == b"\n" and self._last == b"\r":
            return b""
        if key in b"\r\n":
            line = bytes(self._line)
            self._line.clear()
            return b"\r\n" + self._run(line) + (b"" if line == b"reboot" else PROMPT)
        if key in b"\b\x7f":
            return ERASE if self._line and self._line.pop() is not None else b""
        if len(self._line) >= MAX_LINE:
            return BELL
        self._line += key
        return key

    def _run(self, line: bytes) -> bytes:
        command, _, rest = line.strip().partition(b" ")
        if command == b"":
            return b""
        if command == b"help":
            return HELP
        if command == b"uptime":
            return b"%.1f s\r\n" % (self._clock() - self._since)
        if command == b"echo":
            return rest + b"\r\n"
        if command == b"reboot":
            return self._boot()
        return b"unknown command: " + command + b"\r\n"
