"""usb://VID:PID/SERIAL - RPyC over a pair of bulk endpoints: an instrument host that is plugged in by one USB cable.

    usb://1209:0001                     the one device with this vendor and product
    usb://1209:0001/PI0042              the one with this serial number
    usb://1209:0001?path=1-1.2          the one that is plugged in there
    usb://1209:0001?interface=Bench     the interface of that name, instead of the first RPyC function

The other end is a Linux board whose USB port can be a device (a Pi Zero, a Pi 4), running `gateway host --usb`. What is
on the wire stands in docs/reference/usb.md.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Final

from gateway.channels.base import Channel
from gateway.channels.stream import StreamChannel
from gateway.channels.url import READ, ChannelUrl, Options, Scheme, flag, text
from gateway.errors import ConfigError
from gateway.limits import Limits

_ID: Final = re.compile(r"([0-9A-Fa-f]{4}):([0-9A-Fa-f]{4})")
_PLACE: Final = re.compile(r"\d{1,3}-\d{1,3}(\.\d{1,3}){0,6}")


def place(value: str) -> str:
    """Where a device is plugged in."""
    if not _PLACE.fullmatch(value):
        raise ValueError("a place such as 1-1.2: the bus, and the ports from its root to the device")
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class UsbOptions(Options):
    path: str = field(default="", metadata={READ: place})
    """Where it is plugged in."""
    interface: str = field(default="", metadata={READ: text})
    """What the interface calls itself."""
    detach: bool = field(default=False, metadata={READ: flag})
    """Take the interface away from a kernel driver."""


SCHEME: Final = Scheme(
    options=UsbOptions, takes=frozenset({"id", "path"}), no_server="on the device's side runs gateway host --usb"
)


def check(url: ChannelUrl[UsbOptions]) -> None:
    if not _ID.fullmatch(url.host or ""):
        raise ConfigError(
            f"{url.shown!r}: after {url.scheme}:// comes VID:PID, four hexadecimal digits each, such as 1209:0001"
            " (gateway ports lists them)"
        )
    if "/" in serial_number(url):
        raise ConfigError(f"{url.shown!r}: after VID:PID comes /SERIAL, and no further /")


def ids(text: str) -> tuple[int, int]:
    """Vendor and product of VID:PID."""
    vid, pid = text.split(":")
    return int(vid, 16), int(pid, 16)


def serial_number(url: ChannelUrl[Any]) -> str:
    """The serial number; empty where the URL has none."""
    return url.path.removeprefix("/")


def connect(url: ChannelUrl[UsbOptions], limits: Limits, timeout: float) -> Channel:
    """Open the device for this process alone. Raises as `open_function` and `UsbStream`."""
    # libusb is looked for only where a device is to be opened.
    from gateway.channels.usb_devices import open_function
    from gateway.channels.usb_stream import UsbStream
    from gateway.usb.finding import WantedUsb

    wanted = WantedUsb(*ids(str(url.host)), serial_number(url), url.options.path, url.options.interface)
    function = open_function(wanted, detach=url.options.detach)
    return StreamChannel(UsbStream(function, timeout), limits, compress=bool(url.options.compress))
