"""Ports: what a serial line is reached through, as a descriptor that carries bytes both ways.

    TtyPort       a tty of this machine, opened by pyserial
    SocketPort    a socket whose other end is a tty elsewhere, or what stands for one

However an unplugged port shows itself - an empty read, EIO from any call, a SerialException with a text only, a
termios.error - `port_lost` makes one LinkDown of it.
"""

from __future__ import annotations

import contextlib
import errno
import select
import socket
import struct
import termios
from abc import ABC, abstractmethod
from array import array
from collections.abc import Callable
from dataclasses import dataclass
from fcntl import ioctl
from time import monotonic
from typing import Final, TypeAlias

import serial

from gateway.errors import ConfigError, GatewayError, LinkDown, Unreachable

QUIET_S: Final = 0.02
DRAIN_S: Final = 0.5
"""How long closing lets the last frames leave the port."""
DRAIN_STEP_S: Final = 0.005
CHUNK: Final = 65536

PARITIES: Final = {
    "none": serial.PARITY_NONE,
    "even": serial.PARITY_EVEN,
    "odd": serial.PARITY_ODD,
    "mark": serial.PARITY_MARK,
    "space": serial.PARITY_SPACE,
}

_GONE: Final = frozenset({errno.EIO, errno.ENXIO, errno.ENODEV, errno.EBADF, errno.ENOENT})


class Port(ABC):
    """An open port, exclusively ours and not blocking. `close` once; the rest from any thread while it is open."""

    def __init__(self, name: str) -> None:
        self.name = name
        """How errors call it."""
        self.dtr = self.rts = True
        """The levels of its lines while it is open, as far as they were asked for."""

    @abstractmethod
    def fileno(self) -> int: ...

    @abstractmethod
    def discard_input(self) -> None:
        """Throw away what was received. Raises OSError if the port is gone."""

    def discard_output(self) -> None:
        """Throw away what was written and has not left, where that can be done."""

    def unsent(self) -> int:
        """Bytes that were written and have not left. Raises OSError if the port is gone."""
        count = array("i", [0])
        ioctl(self.fileno(), termios.TIOCOUTQ, count)
        return count[0]

    def set_lines(self, *, dtr: bool | None = None, rts: bool | None = None) -> None:
        """Raise or lower its lines; None leaves one alone.

        Raises ConfigError for a port without lines, OSError for one whose driver has none, or that is gone.
        """
        raise ConfigError(f"{self.name} has no control lines: what carries it passes on bytes only")

    def send_break(self, seconds: float) -> None:
        """Hold the line in a break. Raises as `set_lines`."""
        raise ConfigError(f"{self.name} can't send a break: what carries it passes on bytes only")

    @abstractmethod
    def close(self) -> None:
        """Give the port back, its lines at the levels that were asked for."""


OpenPort: TypeAlias = Callable[[float], Port]
"""Opens the port of a URL, given the seconds it may take. Raises Unreachable, ConfigError, Ambiguous, NotFound."""


def discard_input(port: Port, limit_s: float) -> None:
    """Throw input away until the line was quiet for `QUIET_S`: the rest of an answer to whoever had the port before.

    Raises OSError if the port is gone.
    """
    poller = select.poll()
    poller.register(port.fileno(), select.POLLIN)
    deadline = monotonic() + limit_s
    port.discard_input()
    while monotonic() < deadline and poller.poll(QUIET_S * 1000):
        port.discard_input()


def drain(port: Port) -> None:
    """Let what was written leave, for a moment; then drop it, lest flow control blocks the close for half a minute."""
    deadline = monotonic() + DRAIN_S
    idle = select.poll()
    with contextlib.suppress(OSError):
        while port.unsent() and monotonic() < deadline:
            idle.poll(DRAIN_STEP_S * 1000)
        if port.unsent():
            port.discard_output()


# --------------------------------------------------------------------------------------------------------------- a tty


@dataclass(frozen=True, slots=True, kw_only=True)
class PortSettings:
    """How a port is to be set. Of its lines, True raises one, False lowers it, None leaves it alone."""

    baudrate: int
    parity: str
    stopbits: int
    rtscts: bool
    xonxoff: bool
    dtr: bool | None
    rts: bool | None
    dtr_at_close: bool | None
    rts_at_close: bool | None

    @property
    def line_rate(self) -> float:
        """Bytes per second: a start bit, 8 bits, a parity bit where there is one, and the stop bits make one byte."""
        return self.baudrate / (9 + (self.parity != "none") + self.stopbits)

    def apply(self, port: serial.SerialBase) -> None:
        """Set a port of pyserial's that is not open yet."""
        port.baudrate = self.baudrate
        port.parity = PARITIES[self.parity]
        port.stopbits = self.stopbits
        port.rtscts = self.rtscts
        port.xonxoff = self.xonxoff
        port.dtr = bool(self.dtr)
        port.rts = bool(self.rts)


class LineKeeper:
    """Before a class of pyserial's, which sets DTR and RTS as it opens: leaves alone what is to be kept."""

    keeps_dtr = False
    keeps_rts = False

    def keep_lines(self, settings: PortSettings) -> None:
        self.keeps_dtr, self.keeps_rts = settings.dtr is None, settings.rts is None

    def _update_dtr_state(self) -> None:
        if not self.keeps_dtr:
            super()._update_dtr_state()  # type: ignore[misc]  # not in the stubs

    def _update_rts_state(self) -> None:
        if not self.keeps_rts:
            super()._update_rts_state()  # type: ignore[misc]


class _Tty(LineKeeper, serial.Serial):
    pass


class TtyPort(Port):
    """A tty of this machine."""

    def __init__(self, port: serial.Serial, settings: PortSettings, name: str) -> None:
        super().__init__(name)
        self._port = port
        self._settings = settings
        self.dtr, self.rts = settings.dtr is not False, settings.rts is not False

    def fileno(self) -> int:
        return int(self._port.fileno())

    def discard_input(self) -> None:
        self._flush(termios.TCIFLUSH)

    def discard_output(self) -> None:
        self._flush(termios.TCOFLUSH)

    def _flush(self, which: int) -> None:
        try:
            termios.tcflush(self.fileno(), which)
        except termios.error as error:
            raise OSError(*error.args) from None

    def set_lines(self, *, dtr: bool | None = None, rts: bool | None = None) -> None:
        for line, level in ((termios.TIOCM_DTR, dtr), (termios.TIOCM_RTS, rts)):
            if level is not None:
                ioctl(self.fileno(), termios.TIOCMBIS if level else termios.TIOCMBIC, struct.pack("I", line))

    def send_break(self, seconds: float) -> None:
        self._port.send_break(seconds)

    def close(self) -> None:
        settings = self._settings
        if not settings_drop_lines(settings):
            # Each by itself: the port may be gone, or a pty, which has no such lines.
            with contextlib.suppress(OSError):
                self.set_lines(dtr=settings.dtr_at_close)
            with contextlib.suppress(OSError):
                self.set_lines(rts=settings.rts_at_close)
        self._port.close()


def settings_drop_lines(settings: PortSettings) -> bool:
    """Whether the driver may lower both lines at the last close, as it does by itself: also if this process dies."""
    return settings.dtr_at_close is False and settings.rts_at_close is False


def open_tty(path: str, settings: PortSettings, name: str) -> Port:
    """The tty at `path`, exclusively ours, raw, with these settings.

    Raises Unreachable if the port is not there or taken, ConfigError if it can't be opened like this.
    """
    port = _Tty()
    port.keep_lines(settings)
    port.port = path
    port.exclusive = True
    settings.apply(port)
    try:
        port.open()
        _finish(port.fileno(), drop_lines=settings_drop_lines(settings))
    except (OSError, termios.error, ValueError) as error:
        port.close()
        raise port_error(name, error) from None
    with contextlib.suppress(ValueError, OSError):
        # A USB adapter otherwise keeps the last bytes of a frame for up to 16 ms.
        port.set_low_latency_mode(True)
    return TtyPort(port, settings, name)


def _finish(fd: int, *, drop_lines: bool) -> None:
    """What pyserial leaves as it finds it: a break must not flush, no input must not look like an end of file, and the
    lines at the last close.
    """
    attributes = termios.tcgetattr(fd)
    attributes[0] &= ~(termios.BRKINT | termios.INPCK | termios.ISTRIP)
    attributes[2] = attributes[2] | termios.HUPCL if drop_lines else attributes[2] & ~termios.HUPCL
    attributes[6][termios.VMIN] = 1
    attributes[6][termios.VTIME] = 0
    termios.tcsetattr(fd, termios.TCSANOW, attributes)


# ------------------------------------------------------------------------------------------------------------ a socket


class SocketPort(Port):
    """A socket that stands for a tty."""

    def __init__(self, sock: socket.socket, name: str) -> None:
        """Takes ownership of `sock`."""
        super().__init__(name)
        sock.setblocking(False)
        self._sock = sock

    def fileno(self) -> int:
        return self._sock.fileno()

    def discard_input(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while not self._sock.recv(CHUNK):
                raise OSError(errno.EIO, "closed by the other side")

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)
        self._sock.close()


# -------------------------------------------------------------------------------------------------------------- errors


def port_error(name: str, error: Exception) -> GatewayError:
    """The one error for what pyserial (SerialException), termios or the system said as the port was opened."""
    number = _error_number(error) or (_error_number(error.__context__) if error.__context__ else None)
    if number in {errno.ENOENT, errno.ENXIO, errno.ENODEV, errno.EIO}:
        return Unreachable(f"{name}: there is no such port; is it plugged in? (gateway ports lists them)")
    if number in {errno.EAGAIN, errno.EBUSY}:
        return Unreachable(f"{name}: another program has the port open; close that one")
    if number in {errno.EACCES, errno.EPERM}:
        return ConfigError(f"{name}: permission denied; add this user to the port's group, often dialout")
    if number in {errno.ENOTTY, errno.EISDIR}:
        return ConfigError(f"{name} is no serial port")
    if number == errno.EINVAL or isinstance(error, ValueError):
        return ConfigError(f"{name}: its driver refuses these settings (baudrate, parity, stopbits, rtscts)")
    return Unreachable(f"{name}: {error}")


def port_lost(name: str, error: BaseException | None = None) -> LinkDown:
    """The one error for all that an open port's loss looks like; None: an empty read, or a hang-up."""
    number = None if error is None else _error_number(error)
    if error is None or number in _GONE or (number is None and isinstance(error, OSError | termios.error)):
        return LinkDown(f"{name} is gone: unplugged, or hung up")
    return LinkDown(f"{name} was lost: {getattr(error, 'strerror', None) or error}")


def _error_number(error: BaseException) -> int | None:
    # pyserial hands some errors on as text only: then the cause still has the number.
    return error.args[0] if error.args and isinstance(error.args[0], int) else None
