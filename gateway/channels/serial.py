"""serial:///dev/ttyX - RPyC over a serial port of this machine.

    serial:///dev/ttyUSB0                                       115200 baud, 8N1, framing=link
    serial:///dev/serial/by-id/usb-...?baudrate=921600&rtscts=on
    serial://?serial_number=A50285BI&baudrate=921600            whatever its name is today
    serial:///dev/ttyUSB0?framing=raw                           for a stock RPyC peer

With framing=raw neither end is told by the operating system that the other one closed: what follows from that stands in
docs/decisions/0004-raw-serial-close.md. The reliable link ends properly: docs/decisions/0010-serial-link-channel.md.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Final

from gateway.channels.base import Channel
from gateway.channels.line import connect_line, line_trunk, listen_line
from gateway.channels.line_options import PortOptions, check_port_options
from gateway.channels.listener import Listener
from gateway.channels.port_names import Wanted, find_port
from gateway.channels.ports import Port, open_tty
from gateway.channels.trunk import Trunk
from gateway.channels.url import READ, ChannelUrl, Scheme, text
from gateway.errors import ConfigError
from gateway.limits import Limits


def usb_id(text: str) -> int:
    """A USB vendor or product number: up to four hexadecimal digits."""
    try:
        if not 1 <= len(text.removeprefix("0x")) <= 4:
            raise ValueError(text)
        return int(text, 16)
    except ValueError:
        raise ValueError("up to four hexadecimal digits, such as 0403") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class SerialOptions(PortOptions):
    serial_number: str = field(default="", metadata={READ: text})
    """Instead of a path: the port of the USB device with this serial number."""
    vid: int | None = field(default=None, metadata={READ: usb_id})
    pid: int | None = field(default=None, metadata={READ: usb_id})

    @property
    def wanted(self) -> Wanted:
        return Wanted(self.serial_number, self.vid, self.pid)


SCHEME: Final = Scheme(options=SerialOptions, takes=frozenset({"path"}))


def check(url: ChannelUrl[SerialOptions]) -> None:
    names_path = len(url.path) > 1
    if names_path and url.options.wanted:
        raise ConfigError(f"{url.shown!r}: give a path, or serial_number, vid and pid; not both")
    if url.path.endswith("/") or not (names_path or url.options.wanted):
        raise ConfigError(
            f"{url.shown!r} names no port; write serial:///dev/ttyUSB0 or serial://?serial_number=... "
            "(gateway ports lists them)"
        )
    check_port_options(url)


def connect(url: ChannelUrl[SerialOptions], limits: Limits, timeout: float) -> Channel:
    """See `connect_line`."""
    return connect_line(url, partial(open_port, url), limits, timeout)


def listen(url: ChannelUrl[SerialOptions], limits: Limits) -> Listener:
    """See `listen_line`."""
    return listen_line(url, partial(open_port, url), limits, local_only=True)


def trunk(url: ChannelUrl[SerialOptions], limits: Limits) -> Trunk:
    """See `line_trunk`."""
    return line_trunk(url, partial(open_port, url), limits)


def open_port(url: ChannelUrl[SerialOptions], timeout: float) -> Port:
    """The port of `url` as it is called at this moment. See `open_tty` and `find_port` for what they raise."""
    wanted = url.options.wanted
    if not wanted:
        return open_tty(url.path, url.options.settings, url.path)
    path = find_port(wanted)
    return open_tty(path, url.options.settings, f"{path} ({wanted})")
