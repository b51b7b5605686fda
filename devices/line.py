"""A serial line to an instrument: pyserial, with bounded reads, deadlines and one error for a port that is gone.

pyserial tells of an unplugged port in many ways (a SerialException from read, write or a setter, a bare OSError, a
termios.error from a configure): here each becomes one `DeviceUnavailable` that names the port and what to do.
"""

from __future__ import annotations

import errno
import math
import os
import select
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Lock
from typing import Annotated, Final, Literal

import serial
from msgspec import Meta

from devices.base import DeviceOptions
from devices.instrument_line import InstrumentLine
from gateway.errors import CallTimeout, ConfigError, DeviceUnavailable

CHUNK: Final = 4096
"""Bytes taken from or given to the operating system at once."""
BITS_PER_BYTE: Final = 10
"""A start bit, eight data bits and a stop bit."""

_PARITY: Final = {"none": serial.PARITY_NONE, "even": serial.PARITY_EVEN, "odd": serial.PARITY_ODD}
_ADVICE: Final = {
    errno.ENOENT: "there is no such port; plug the device in or correct `port`",
    errno.EACCES: "permission denied; add the gateway's user to the group that owns the port (on Debian: dialout)",
    errno.EAGAIN: "another program holds it; close that program (ModemManager is a usual one)",
    errno.EBUSY: "another program holds it; close that program (ModemManager is a usual one)",
}


class LineOptions(DeviceOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Options of every device on a serial line."""

    port: Annotated[str, Meta(min_length=1, max_length=4096)]
    """Path of the port. Prefer a name under /dev/serial/by-id: it survives replugging."""
    baudrate: Annotated[int, Meta(ge=50, le=4_000_000)] = 9600
    bytesize: Literal[7, 8] = 8
    parity: Literal["none", "even", "odd"] = "none"
    stopbits: Literal[1, 2] = 1
    flow: Literal["none", "xonxoff", "rtscts", "dsrdtr"] = "none"
    """Flow control."""
    timeout_s: Annotated[float, Meta(gt=0, le=60)] = 2.0
    """Time for the port to take what is written, and for an answer to come."""


class SerialLine(InstrumentLine):
    """One exclusively opened serial port, read in lines, in counted bytes, or in whatever is there.

    Used by one thread at a time, except that one may read while another writes, and that `cancel` may be called by any.
    """

    advice = ", the cable, and `baudrate`"

    def __init__(self, options: LineOptions, *, terminator: bytes = b"\n") -> None:
        super().__init__(options.port, terminator)
        self._options = options
        self._serial: serial.Serial | None = None
        self._wake: tuple[int, int] | None = None
        self._waking = Lock()
        """Held to write to the pipe: a number that is closed may be somebody else's the next moment."""

    def open(self) -> None:
        """Open the port for us alone. What had come in before is discarded.

        Raises DeviceUnavailable when it is missing, held by another program or not permitted, ConfigError when the port
        can't do what the options ask for.
        """
        options = self._options
        try:
            self._serial = serial.Serial(
                options.port,
                baudrate=options.baudrate,
                bytesize=options.bytesize,
                parity=_PARITY[options.parity],
                stopbits=options.stopbits,
                xonxoff=options.flow == "xonxoff",
                rtscts=options.flow == "rtscts",
                dsrdtr=options.flow == "dsrdtr",
                # Reads never wait inside pyserial: changing its timeout would configure the port anew each time.
                timeout=0,
                write_timeout=options.timeout_s,
                exclusive=True,
            )
        except (ValueError, termios.error) as refused:
            raise ConfigError(
                f"{self.port} can't be set to {options.baudrate} baud, {options.bytesize} bits, "
                f"parity {options.parity}, {options.stopbits} stop bits: {refused}; correct the device's options",
                port=self.port,
            ) from refused
        except OSError as failed:
            advice = _ADVICE.get(failed.errno or 0, f"{failed}; check that `port` is a serial port that works")
            raise DeviceUnavailable(f"{self.port} can't be opened: {advice}", port=self.port) from failed
        self._wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._buffer.clear()

    def close(self) -> None:
        """Free the port. Idempotent, never raises."""
        port, self._serial = self._serial, None
        if port is not None:
            # A port that was unplugged may fail to close; its descriptor is free all the same.
            with suppress(OSError, termios.error):
                port.close()
        with self._waking:
            wake, self._wake = self._wake, None
            for descriptor in wake or ():
                os.close(descriptor)

    def cancel(self) -> None:
        """Make a `read_some` that waits in another thread, or the next one, return at once."""
        with self._waking, suppress(BlockingIOError):  # a full pipe wakes as well
            if self._wake is not None:
                os.write(self._wake[1], b"x")

    def interrupt(self, error: Exception) -> None:
        """Make a read or write that waits in another thread raise `error`, and each that begins, until `resume`."""
        super().interrupt(error)
        self.cancel()

    def resume(self) -> None:
        """Reads and writes work again."""
        super().resume()
        # What was meant to wake a call that had ended already would look like silence to the next one.
        with self._waking, suppress(BlockingIOError):
            while self._wake is not None and os.read(self._wake[0], CHUNK):
                pass

    def transfer_s(self, count: int) -> float:
        """The time that `count` bytes need on the wire."""
        return count * BITS_PER_BYTE / self._options.baudrate

    def write(self, data: bytes) -> None:
        """Hand all of `data` to the port.

        Raises DeviceUnavailable when the port is gone: then the end of `data` has not left. Raises CallTimeout when the
        port takes nothing for `timeout_s`.
        """
        with self._port() as port:
            for start in range(0, len(data), CHUNK):
                self._check()
                port.write(data[start : start + CHUNK])

    def read_some(self, max_bytes: int, *, timeout_s: float) -> bytes:
        """What is there, at most `max_bytes`; waits up to `timeout_s` for the first byte. Empty when none came."""
        if self._buffer:
            return self._take(min(max_bytes, len(self._buffer)))
        return self._receive(max_bytes, timeout_s)

    def read_until_quiet(self, *, timeout_s: float, quiet_s: float, max_bytes: int) -> bytes:
        """What comes until a terminator is followed by `quiet_s` of silence, without that terminator.

        For data that may contain the terminator and does not tell its length. Raises like `read_line`.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            self._bound(len(self._buffer), max_bytes + len(self._terminator))
            if not self._buffer.endswith(self._terminator):
                self._fill(deadline, timeout_s)
                continue
            more = self._receive(CHUNK, quiet_s)
            if not more:
                return self._take(len(self._buffer))[: -len(self._terminator)]
            self._buffer += more
            if time.monotonic() >= deadline:
                raise self._late(timeout_s)

    def discard_input(self) -> None:
        """Forget what has come in."""
        self._buffer.clear()
        with self._port() as port:
            port.reset_input_buffer()

    def _fill(self, deadline: float, timeout_s: float) -> None:
        """Add at least one byte to the buffer, or raise CallTimeout."""
        while not (data := self._receive(CHUNK, deadline - time.monotonic())):
            if time.monotonic() >= deadline:
                raise self._late(timeout_s)
        self._buffer += data

    def _receive(self, max_bytes: int, timeout_s: float) -> bytes:
        with self._port() as port:
            if self._wake is None:
                return b""
            self._check_interrupt()
            readable = select.poll()
            readable.register(port.fileno(), select.POLLIN)
            readable.register(self._wake[0], select.POLLIN)
            ready = {descriptor for descriptor, _ in readable.poll(math.ceil(max(0.0, timeout_s) * 1000))}
            if self._wake[0] in ready:
                with suppress(BlockingIOError):
                    os.read(self._wake[0], CHUNK)
                self._check_interrupt()
                return b""
            return port.read(max_bytes) if ready else b""

    @contextmanager
    def _port(self) -> Iterator[serial.Serial]:
        if self._serial is None:
            raise DeviceUnavailable(f"{self.port} is not open", port=self.port)
        try:
            yield self._serial
        except serial.SerialTimeoutException as blocked:
            raise CallTimeout(
                f"{self.port} took nothing for {self._options.timeout_s:g} s; check `flow` and that the device is on",
                port=self.port,
                timeout_s=self._options.timeout_s,
            ) from blocked
        except (OSError, termios.error) as gone:
            raise DeviceUnavailable(
                f"{self.port} is gone ({gone}); plug it back in and call again", port=self.port
            ) from gone
