"""Which USB device is meant, and what libusb's errors mean.

Every look makes a backend of its own: where no udev runs, as in a container, libusb sees only what was plugged in when
it was started.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import usb.backend.libusb1
import usb.core
import usb.util

from gateway.errors import Ambiguous, ConfigError, GatewayError, LinkDown, Unreachable
from gateway.systemd.udev import user_rule

MOST_SHOWN: Final = 8
GONE: Final = frozenset(
    {errno.EIO, errno.ENODEV, errno.ENXIO, errno.ENOENT, errno.ESHUTDOWN, errno.EPROTO, errno.EILSEQ}
)
"""What a device that was pulled out is known by: EIO for what waited just then, ENODEV afterwards."""


def libusb() -> Any:
    """A backend of pyusb that sees what is plugged in now. Raises ConfigError where there is no libusb."""
    usb.backend.libusb1._lib_object = None
    backend = usb.backend.libusb1.get_backend()
    if backend is None:
        raise ConfigError("USB devices need libusb: apt-get install libusb-1.0-0")
    return backend


find_backend: Callable[[], Any] = libusb
"""Where devices are looked for; tests with software devices put another one here."""


@dataclass(frozen=True, slots=True)
class WantedUsb:
    """Which device is meant: what is empty may be anything."""

    vid: int
    pid: int
    serial_number: str = ""
    place: str = ""
    """Such as `1-1.2`: the bus, and the ports from its root to the device."""
    interface: str = ""
    """What the interface calls itself."""

    def __str__(self) -> str:
        facts = [f"{self.vid:04x}:{self.pid:04x}", self.serial_number and f"serial number {self.serial_number}"]
        facts += [self.place and f"at {self.place}", self.interface and f"interface {self.interface!r}"]
        return ", ".join(fact for fact in facts if fact)


def find_device(wanted: WantedUsb) -> Any:
    """pyusb's object of the device. Raises Unreachable where it is not plugged in, Ambiguous where there are several,
    ConfigError where it may not be opened to be asked for its serial number.
    """
    backend = find_backend()
    candidates = [
        _tied(device, backend)
        for device in usb.core.find(find_all=True, backend=backend, idVendor=wanted.vid, idProduct=wanted.pid)
    ]
    if wanted.place:
        candidates = [device for device in candidates if place_of(device) == wanted.place]
    if wanted.serial_number:
        candidates = [device for device in candidates if _serial_number(device, wanted) == wanted.serial_number]
    if len(candidates) > 1:
        listed = ", ".join(f"at {place_of(device)}" for device in candidates[:MOST_SHOWN])
        raise Ambiguous(f"{len(candidates)} USB devices are {wanted}: {listed}; add the serial number, or ?path=...")
    if not candidates:
        everything = usb.core.find(find_all=True, backend=backend)
        there = sorted({f"{device.idVendor:04x}:{device.idProduct:04x}" for device in everything})
        shown = ", ".join(there[:MOST_SHOWN]) or "no USB device at all"
        raise Unreachable(f"no USB device is {wanted}; is it plugged in? There is: {shown} (gateway ports lists them)")
    return candidates[0]


def _tied(device: Any, backend: Any) -> Any:
    """The device, with a hold on its backend: pyusb would let go of libusb first, and of the device afterwards, which
    is no more then.
    """
    device._ctx.dev.backend = backend
    return device


def place_of(device: Any) -> str:
    """Where it is plugged in, such as `1-1.2`."""
    ports = ".".join(str(port) for port in device.port_numbers or ())
    return f"{device.bus}-{ports}"


def _serial_number(device: Any, wanted: WantedUsb) -> str | None:
    try:
        number: str | None = usb.util.get_string(device, device.iSerialNumber) if device.iSerialNumber else None
    except usb.core.USBError as error:
        if error.errno in (errno.EACCES, errno.EPERM):
            raise _forbidden(str(wanted), device) from None
        return None
    except ValueError:  # no right to open it, as pyusb tells that here
        raise _forbidden(str(wanted), device) from None
    finally:
        usb.util.dispose_resources(device)
    return number


def configuration_of(device: Any) -> Any:
    """The configuration that it has. Only where it has none it gets one: to configure it again makes it begin anew.

    Raises USBError.
    """
    try:
        return device.get_active_configuration()
    except usb.core.USBError as error:
        if error.errno is not None:
            raise
        device.set_configuration()
        return device.get_active_configuration()


# -------------------------------------------------------------------------------------------------------------- errors


def usb_error(name: str, error: Exception, device: Any) -> GatewayError:
    """The one error for what libusb said as a device was opened."""
    number = getattr(error, "errno", None)
    if number in (errno.EACCES, errno.EPERM):
        return _forbidden(name, device)
    if number == errno.EBUSY:
        return Unreachable(f"the USB device {name}: another program has it; close that one")
    if number in GONE:
        return Unreachable(f"the USB device {name} is gone; is it plugged in?")
    return Unreachable(f"the USB device {name}: {error}")


def _forbidden(name: str, device: Any) -> ConfigError:
    vid, pid = (f"{number:04x}" for number in (device.idVendor, device.idProduct))
    return ConfigError(
        f"the USB device {name}: permission denied. It takes this udev rule, which `sudo gateway udev {vid}:{pid}`"
        f" writes and loads: {user_rule(vid, pid)}"
    )


def usb_lost(name: str, error: BaseException) -> LinkDown:
    """The one error for all that the loss of an open device looks like."""
    number = getattr(error, "errno", None)
    if number == errno.EPIPE:
        return LinkDown(f"{name} was closed by the peer")
    if number in GONE:
        return LinkDown(f"{name} is gone: unplugged, or it began anew")
    return LinkDown(f"{name} was lost: {error}")
