"""serial:///dev/ttyX - plain RPyC frames over a serial port.

    serial:///dev/ttyUSB0                               115200 baud, 8N1
    serial:///dev/serial/by-id/usb-...?baudrate=921600&rtscts=on

A tty has no end of file: neither end is told by the operating system that the other one closed. So a channel over it
ends by RPyC's CLOSE message, by a damaged frame, or by unplugging, and closing it waits for nothing. What follows from
that stands in docs/decisions/0004-raw-serial-close.md. The serving side is `gateway.channels.serial_listener`.
"""

from __future__ import annotations

import contextlib
import errno
import select
import termios
from array import array
from dataclasses import dataclass, field
from fcntl import ioctl
from time import monotonic
from typing import Final

import serial

from gateway.channels.base import Channel
from gateway.channels.fds import FdStream
from gateway.channels.listener import Listener
from gateway.channels.stream import StreamChannel
from gateway.channels.url import READ, ChannelUrl, Options, Scheme, flag, one_of, whole
from gateway.errors import ConfigError, GatewayError, LinkDown, Unreachable
from gateway.limits import Limits

SLOW_BAUD: Final = 1_000_000
"""Up to this speed deflating a frame takes less time than sending what it saves."""
QUIET_S: Final = 0.02
STALE_S: Final = 1.0
"""At opening, input is thrown away until the line was quiet for `QUIET_S`, or for at most `STALE_S`."""
DRAIN_S: Final = 0.5
"""How long closing lets the last frames leave the port."""
DRAIN_STEP_S: Final = 0.005

_PARITIES: Final = {
    "none": serial.PARITY_NONE,
    "even": serial.PARITY_EVEN,
    "odd": serial.PARITY_ODD,
    "mark": serial.PARITY_MARK,
    "space": serial.PARITY_SPACE,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SerialOptions(Options):
    baudrate: int = field(default=115200, metadata={READ: whole(50, 12_000_000)})
    framing: str = field(default="raw", metadata={READ: one_of("raw", "link")})
    bytesize: int = field(default=8, metadata={READ: whole(5, 8)})
    parity: str = field(default="none", metadata={READ: one_of(*_PARITIES)})
    stopbits: int = field(default=1, metadata={READ: whole(1, 2)})
    rtscts: bool = field(default=False, metadata={READ: flag})
    xonxoff: bool = field(default=False, metadata={READ: flag})
    dtr: bool = field(default=True, metadata={READ: flag})
    """Level of DTR while open. Many boards reset when it changes."""
    rts: bool = field(default=True, metadata={READ: flag})

    @property
    def deflates(self) -> bool:
        return self.baudrate <= SLOW_BAUD if self.compress is None else self.compress


SCHEME: Final = Scheme(options=SerialOptions, takes=frozenset({"path"}))


def check(url: ChannelUrl[SerialOptions]) -> None:
    options = url.options
    if len(url.path) < 2 or url.path.endswith("/"):
        raise ConfigError(f"{url.shown!r} names no port; write serial:///dev/ttyUSB0 (gateway ports lists them)")
    if options.framing == "link":
        raise ConfigError(f"{url.shown!r}: framing=link is not in this version; framing=raw is what there is")
    if options.bytesize != 8:
        raise ConfigError(f"{url.shown!r}: RPyC frames need bytesize=8")
    if options.xonxoff:
        raise ConfigError(f"{url.shown!r}: raw frames contain the bytes XON and XOFF; use rtscts for flow control")


def connect(url: ChannelUrl[SerialOptions], limits: Limits, timeout: float) -> Channel:
    """Open the port for this process alone. Input from before is thrown away, up to the first short silence.

    Raises Unreachable if the port is not there or taken, ConfigError if it can't be opened like this.
    """
    port = open_port(url)
    try:
        discard_input(port.fileno(), min(STALE_S, timeout))
        stream = SerialStream(port.fileno(), name=url.path, port=port)
    except OSError as error:
        port.close()
        raise port_error(url, error) from None
    return StreamChannel(stream, limits, compress=url.options.deflates)


def listen(url: ChannelUrl[SerialOptions], limits: Limits) -> Listener:
    """See `SerialListener`. Raises as `connect` does."""
    from gateway.channels.serial_listener import SerialListener

    return SerialListener(url, limits)


# ------------------------------------------------------------------------------------------------------------ the port


def open_port(url: ChannelUrl[SerialOptions]) -> serial.Serial:
    """The port, exclusively ours, raw, with the settings of `url`."""
    options = url.options
    port = serial.Serial()
    port.port = url.path
    port.baudrate = options.baudrate
    port.parity = _PARITIES[options.parity]
    port.stopbits = options.stopbits
    port.rtscts = options.rtscts
    port.dtr = options.dtr
    port.rts = options.rts
    port.exclusive = True
    try:
        port.open()
        _finish_raw(port.fileno())
    except (OSError, termios.error, ValueError) as error:
        port.close()
        raise port_error(url, error) from None
    with contextlib.suppress(ValueError, OSError):
        # A USB adapter otherwise keeps the last bytes of a frame for up to 16 ms.
        port.set_low_latency_mode(True)
    return port


def _finish_raw(fd: int) -> None:
    """What pyserial leaves as it finds it: a break must not flush, and no input must not look like an end of file."""
    settings = termios.tcgetattr(fd)
    settings[0] &= ~(termios.BRKINT | termios.INPCK | termios.ISTRIP)
    settings[6][termios.VMIN] = 1
    settings[6][termios.VTIME] = 0
    termios.tcsetattr(fd, termios.TCSANOW, settings)


def port_error(url: ChannelUrl[SerialOptions], error: Exception) -> GatewayError:
    """The one error for what pyserial (SerialException), termios or the system said about the port."""
    number = _error_number(error) or (_error_number(error.__context__) if error.__context__ else None)
    if number in {errno.ENOENT, errno.ENXIO, errno.ENODEV, errno.EIO}:
        return Unreachable(f"{url.path}: there is no such port; is it plugged in? (gateway ports lists them)")
    if number in {errno.EAGAIN, errno.EBUSY}:
        return Unreachable(f"{url.path}: another program has the port open; close that one")
    if number in {errno.EACCES, errno.EPERM}:
        return ConfigError(f"{url.path}: permission denied; add this user to the port's group, often dialout")
    if number == errno.ENOTTY:
        return ConfigError(f"{url.path} is no serial port")
    if number == errno.EINVAL or isinstance(error, ValueError):
        return ConfigError(f"{url.path}: its driver refuses these settings (baudrate, parity, stopbits, rtscts)")
    return Unreachable(f"{url.path}: {error}")


def _error_number(error: BaseException) -> int | None:
    # pyserial hands some errors on as text only: then the cause still has the number.
    return error.args[0] if error.args and isinstance(error.args[0], int) else None


def discard_input(fd: int, limit_s: float) -> None:
    """Throw input away until the line was quiet for `QUIET_S`: the rest of an answer to whoever had the port before."""
    poller = select.poll()
    poller.register(fd, select.POLLIN)
    deadline = monotonic() + limit_s
    flush_input(fd)
    while monotonic() < deadline and poller.poll(QUIET_S * 1000):
        flush_input(fd)


def flush_input(fd: int) -> None:
    """Throw away what was received. Raises OSError if the port is gone."""
    try:
        termios.tcflush(fd, termios.TCIFLUSH)
    except termios.error as error:
        raise OSError(*error.args) from None


class SerialStream(FdStream):
    """The bytes of a port. Owns `fd`, or `port` where it is given and `fd` is its own."""

    def __init__(self, fd: int, *, name: str, port: serial.Serial | None = None) -> None:
        super().__init__(fd, fd, name=name)
        self._port = port

    @property
    def ends_with_eof(self) -> bool:
        return False

    def _ended(self) -> LinkDown:
        return LinkDown(f"{self._name} is gone: unplugged, or hung up")

    def _lost(self, error: OSError) -> LinkDown:
        if error.errno in {errno.EIO, errno.ENXIO, errno.ENODEV, errno.EBADF}:
            return self._ended()
        return super()._lost(error)

    def _release(self) -> None:
        if self._port is None:
            super()._release()
        else:
            _drain(self._read_fd)
            self._port.close()


def _drain(fd: int) -> None:
    """Let what was written leave, for a moment; then drop it, lest flow control blocks the close for half a minute."""
    deadline = monotonic() + DRAIN_S
    idle = select.poll()
    with contextlib.suppress(OSError, termios.error):
        while _waiting_to_leave(fd) and monotonic() < deadline:
            idle.poll(DRAIN_STEP_S * 1000)
        if _waiting_to_leave(fd):
            termios.tcflush(fd, termios.TCOFLUSH)


def _waiting_to_leave(fd: int) -> int:
    """Bytes in the driver's output queue."""
    count = array("i", [0])
    ioctl(fd, termios.TIOCOUTQ, count)
    return count[0]
