"""A serial console: raw bytes to and from a board, with a history that does not depend on anybody reading.

A thread of the device takes what the board says as it comes. Readers share one place in the stream: `read` and
`read_until` give out a byte once. `history` gives out any byte any number of times, by its offset.
"""

from __future__ import annotations

import logging
import threading
import time
from contextlib import suppress
from typing import Annotated, Final

from msgspec import Meta

from devices.base import Device, State
from devices.bounds import count_between, number_between
from devices.history import ByteHistory
from devices.line import CHUNK, LineOptions, SerialLine
from gateway.errors import CallTimeout, ConfigError, DeviceUnavailable
from gateway.service.exposure import exposed

MAX_WAIT_S: Final = 60.0
"""The longest a caller may wait for bytes in one call."""
MAX_HISTORY: Final = 8 * 1024 * 1024
MAX_WRITE: Final = 1024 * 1024
TAIL: Final = 200
"""Bytes of what came that an error repeats."""
IDLE_S: Final = 3600.0
"""How long the reader waits at a time; `cancel` ends it sooner."""

log = logging.getLogger(__name__)


class ConsoleOptions(LineOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Options of `serial-console`."""

    baudrate: Annotated[int, Meta(ge=50, le=4_000_000)] = 115_200
    history_bytes: Annotated[int, Meta(ge=1024, le=MAX_HISTORY)] = 256 * 1024
    """How many of the last bytes are kept."""
    reopen_s: Annotated[float, Meta(gt=0, le=60)] = 0.5
    """How often a port that vanished is looked for."""


class SerialConsole(Device):
    """A console on a serial port. A port that vanishes makes it faulty; it comes back by itself, history and all.

    Safe condition: none of its own, see `make_safe`.
    """

    Options = ConsoleOptions
    deadline_s = MAX_WAIT_S + 5.0
    """Longer than a caller may wait."""
    options: ConsoleOptions
    adopted_as = "console"

    def __init__(self, name: str, options: ConsoleOptions) -> None:
        super().__init__(name, options)
        self._line = SerialLine(options)
        self._history = ByteHistory(options.history_bytes)
        self._given = 0
        self._fault = ""
        self._interrupted: Exception | None = None
        self._changed = threading.Condition()
        self._port_lock = threading.Lock()
        self._stop = threading.Event()
        self._reader: threading.Thread | None = None

    @exposed(access="read")
    def identify(self) -> str:
        """`serial console on <port> at <baudrate> baud`. A console can't be asked who it is."""
        return f"serial console on {self.options.port} at {self.options.baudrate} baud"

    @exposed(access="control")
    def make_safe(self) -> None:
        """Does nothing, in every state: what is safe for the board at the other end is not for its console to know.

        Give the board's supply or its reset line a safe condition instead.
        """

    @exposed(access="control")
    def write(self, data: bytes) -> None:
        """Send `data` as it is, at most 1 MiB.

        Raises TypeError for anything but bytes, OutOfRange above 1 MiB, CallTimeout when flow control stops the line,
        DeviceUnavailable when the port is gone; in these two cases the beginning of `data` may have left.
        """
        if not isinstance(data, bytes):
            raise TypeError(f"{self.name}: a console takes bytes, not {type(data).__name__}; encode text first")
        count_between(f"{self.name}: the length of data", len(data), 0, MAX_WRITE)
        with self._port_lock:
            self._check()
            for start in range(0, len(data), CHUNK):
                self._check()
                self._line.write(data[start : start + CHUNK])

    @exposed(access="control")
    def read(self, max_bytes: int = CHUNK, timeout_s: float = 1.0) -> bytes:
        """Bytes that nobody has read yet, at most `max_bytes`; waits up to `timeout_s` for the first.

        Empty when none came. Bytes that left the history unread are skipped. Raises OutOfRange for numbers out of
        bounds (1 byte to 8 MiB, 0 to 60 s), DeviceUnavailable when the port is gone and all is read.
        """
        most = count_between(f"{self.name}: max_bytes", max_bytes, 1, MAX_HISTORY)
        deadline = self._deadline(timeout_s)
        with self._changed:
            while self._given >= self._history.end:
                if not self._wait(deadline):
                    return b""
            first, data = self._history.since(self._given, most)
            self._given = first + len(data)
            return data

    @exposed(access="control")
    def read_until(self, pattern: bytes, timeout_s: float = 10.0) -> bytes:
        """Bytes that nobody has read yet, up to and with the first `pattern` (taken literally).

        Raises CallTimeout when it does not come within `timeout_s`: what came stays to be read, and its end is the
        error's `tail`. Raises TypeError and OutOfRange for what can't be looked for, DeviceUnavailable as `read`.
        """
        if not isinstance(pattern, bytes):
            raise TypeError(f"{self.name}: a pattern is bytes, not {type(pattern).__name__}; encode text first")
        count_between(f"{self.name}: the length of pattern", len(pattern), 1, self.options.history_bytes)
        deadline = self._deadline(timeout_s)
        with self._changed:
            searched = self._given
            while (end := self._history.find(pattern, searched)) < 0:
                searched = max(self._given, self._history.end - len(pattern) + 1)
                if not self._wait(deadline):
                    tail = self._history.since(self._given)[1][-TAIL:]
                    raise CallTimeout(
                        f"{self.name}: no {pattern[:TAIL]!r} within {timeout_s:g} s; the last that came is {tail!r}",
                        device=self.name,
                        timeout_s=timeout_s,
                        tail=tail,
                    )
            first, data = self._history.since(self._given)
            self._given = end
            return data[: end - first]

    @exposed(access="read")
    def history(self, since: int = 0) -> tuple[int, bytes]:
        """`(offset, data)`: what came from offset `since` on, and the offset of its first byte.

        `offset` is above `since` when the bytes between are forgotten; continue with `since=offset + len(data)`.
        Offsets count all bytes since the device was made, also over a lost port. Takes nothing away from `read`.
        Raises OutOfRange when `since` lies beyond what ever came.
        """
        with self._changed:
            return self._history.since(count_between(f"{self.name}: since", since, 0, self._history.end))

    def interrupt(self, error: Exception) -> None:
        with self._changed:
            self._interrupted = error
            self._changed.notify_all()

    def resume(self) -> None:
        self._interrupted = None

    def distrust(self) -> None:
        """Nothing to do: the reader's thread has the port, whatever became of a call."""

    def open(self) -> None:
        """As for every device; a port that is not there raises DeviceUnavailable, and is then looked for."""
        if self._state is State.OPEN:
            return
        try:
            super().open()
        except DeviceUnavailable as missing:
            self._fault = str(missing)
            self._start_reader()
            raise
        self._start_reader()

    def _connect(self) -> None:
        self._line.open()

    def _disconnect(self) -> None:
        self._stop.set()
        with self._port_lock:
            self._line.cancel()
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.join()
        self._line.close()

    def close(self) -> None:
        super().close()
        with self._changed:
            self._changed.notify_all()

    def _start_reader(self) -> None:
        self._stop.clear()
        self._reader = threading.Thread(target=self._keep_history, name=f"console-{self.name}", daemon=True)
        self._reader.start()

    def _keep_history(self) -> None:
        """The reader's thread: takes what comes, and looks for the port when it is gone."""
        while not self._stop.is_set():
            try:
                if self._state is State.FAULTY:
                    self._look_for_port()
                else:
                    self._append(self._line.read_some(CHUNK, timeout_s=IDLE_S))
            except DeviceUnavailable as gone:
                self._lose(gone)

    def _append(self, data: bytes) -> None:
        with self._changed:
            self._history.append(data)
            self._changed.notify_all()

    def _lose(self, gone: DeviceUnavailable) -> None:
        log.warning("%s: %s", self.name, gone)
        with self._port_lock:
            self._line.close()
        with self._changed:
            self._fault = str(gone)
            self._state = State.FAULTY
            self._changed.notify_all()

    def _look_for_port(self) -> None:
        if self._stop.wait(self.options.reopen_s):
            return
        with self._port_lock, suppress(DeviceUnavailable, ConfigError):
            self._line.open()
            self._state = State.OPEN
            log.info("%s: %s is back", self.name, self._line.port)

    def _require_open(self) -> None:
        if self._state is State.CLOSED:
            raise DeviceUnavailable(f"{self.name} is closed; open it first", device=self.name)
        if self._state is State.FAULTY:
            raise DeviceUnavailable(f"{self.name} is waiting for its port: {self._fault}", device=self.name)

    def _check(self) -> None:
        self._require_open()
        interrupted = self._interrupted
        if interrupted is not None:
            raise interrupted.with_traceback(None)  # it may have been raised before

    def _deadline(self, timeout_s: float) -> float:
        return time.monotonic() + number_between(f"{self.name}: timeout_s", timeout_s, 0.0, MAX_WAIT_S, "s")

    def _wait(self, deadline: float) -> bool:
        """Wait for more to come. False when the time is over; raises DeviceUnavailable when nothing can come."""
        self._check()
        remaining_s = deadline - time.monotonic()
        if remaining_s <= 0:
            return False
        self._changed.wait(remaining_s)
        return True
