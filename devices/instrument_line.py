"""What every way to an instrument has in common: bytes out as they are, and in by lines or in counted bytes."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod

from gateway.errors import CallTimeout, DeviceError
from gateway.service import permit


class InstrumentLine(ABC):
    """One instrument's line, used by one thread at a time, but for `interrupt`.

    `port` names it in errors; `advice` says what to look at where an answer does not come or has no end.
    """

    advice = ""

    def __init__(self, port: str, terminator: bytes) -> None:
        self.port = port
        self._terminator = terminator
        self._buffer = bytearray()
        self._interrupted: Exception | None = None

    @abstractmethod
    def open(self) -> None:
        """Open it for us alone. Raises DeviceUnavailable, ConfigError."""

    @abstractmethod
    def close(self) -> None:
        """Give it back. Idempotent, never raises."""

    def interrupt(self, error: Exception) -> None:
        """Make a read or write that waits in another thread raise `error`, and each that begins, until `resume`."""
        self._interrupted = error

    def resume(self) -> None:
        """Reads and writes work again."""
        self._interrupted = None

    @abstractmethod
    def transfer_s(self, count: int) -> float:
        """The time that `count` bytes need on the way."""

    @abstractmethod
    def write(self, data: bytes) -> None:
        """Send all of `data`. Raises DeviceUnavailable when it is gone, CallTimeout when it takes nothing."""

    @abstractmethod
    def discard_input(self) -> None:
        """Forget what has come in."""

    def read_line(self, *, timeout_s: float, max_bytes: int) -> bytes:
        """One line without its terminator.

        Raises CallTimeout when it is not complete within `timeout_s`, DeviceError when it is longer than `max_bytes`.
        """
        deadline = time.monotonic() + timeout_s
        searched = 0
        while (end := self._buffer.find(self._terminator, searched)) < 0:
            self._bound(len(self._buffer), max_bytes)
            searched = max(0, len(self._buffer) - len(self._terminator) + 1)
            self._fill(deadline, timeout_s)
        self._bound(end, max_bytes)
        line = self._take(end)
        self._take(len(self._terminator))
        return line

    def read_exactly(self, count: int, *, timeout_s: float) -> bytes:
        """`count` bytes, whatever they are. Raises CallTimeout when they are not there within `timeout_s`."""
        deadline = time.monotonic() + timeout_s
        while len(self._buffer) < count:
            self._fill(deadline, timeout_s)
        return self._take(count)

    @abstractmethod
    def read_until_quiet(self, *, timeout_s: float, quiet_s: float, max_bytes: int) -> bytes:
        """What comes until a terminator is followed by `quiet_s` of silence, without that terminator.

        For data that may contain the terminator and does not tell its length. Raises like `read_line`.
        """

    @abstractmethod
    def _fill(self, deadline: float, timeout_s: float) -> object:
        """Add at least one byte to the buffer, or raise CallTimeout."""

    def _late(self, timeout_s: float) -> CallTimeout:
        received = len(self._buffer)
        return CallTimeout(
            f"{self.port}: no complete answer within {timeout_s:g} s, {received} bytes came; check that the device is"
            f" on{self.advice}",
            port=self.port,
            timeout_s=timeout_s,
            received=received,
        )

    def _bound(self, length: int, max_bytes: int) -> None:
        if length > max_bytes:
            raise DeviceError(
                f"{self.port}: {length} bytes without an end where at most {max_bytes} were due; check `terminator`"
                f"{self.advice}",
                number=None,
                text=bytes(self._buffer[:40]).decode("ascii", "backslashreplace"),
                port=self.port,
            )

    def _take(self, count: int) -> bytes:
        taken = bytes(self._buffer[:count])
        del self._buffer[:count]
        return taken

    def _check(self) -> None:
        """Here commands leave for the hardware. Raises the error for which they must not."""
        self._check_interrupt()
        permit.check()

    def _check_interrupt(self) -> None:
        interrupted = self._interrupted
        if interrupted is not None:
            raise interrupted.with_traceback(None)  # it may have been raised before
