"""The USB device that a URL means, and its RPyC function, opened and claimed.

Every look makes a backend of its own: where no udev runs, as in a container, libusb sees only what was plugged in when
it was started.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import usb.backend.libusb1
import usb.core
import usb.util

from gateway.channels import usb_session as session
from gateway.errors import Ambiguous, ConfigError, GatewayError, LinkDown, Unreachable
from gateway.systemd.udev import user_rule

MOST_SHOWN: Final = 8
CONTROL_MS: Final = 1000
GONE: Final = frozenset(
    {errno.EIO, errno.ENODEV, errno.ENXIO, errno.ENOENT, errno.ESHUTDOWN, errno.EPROTO, errno.EILSEQ}
)
"""What a device that was pulled out is known by: EIO for what waited just then, ENODEV afterwards."""


def libusb() -> Any:
    """A backend of pyusb that sees what is plugged in now. Raises ConfigError where there is no libusb."""
    usb.backend.libusb1._lib_object = None
    backend = usb.backend.libusb1.get_backend()
    if backend is None:
        raise ConfigError("usb:// needs libusb: apt-get install libusb-1.0-0, or pip install libusb-package")
    return backend


find_backend: Callable[[], Any] = libusb
"""Where devices are looked for; tests with software devices put another one here."""


@dataclass(frozen=True, slots=True)
class WantedUsb:
    """Which device is meant: what is None or empty may be anything."""

    vid: int
    pid: int
    serial_number: str = ""
    place: str = ""
    """Such as `1-1.2`: the bus, and the ports from its root to the device."""
    interface: str = ""
    """What the interface calls itself; empty: the one that is an RPyC function."""

    def __str__(self) -> str:
        facts = [f"{self.vid:04x}:{self.pid:04x}", self.serial_number and f"serial number {self.serial_number}"]
        facts += [self.place and f"at {self.place}", self.interface and f"interface {self.interface!r}"]
        return ", ".join(fact for fact in facts if fact)


@dataclass(slots=True)
class Function:
    """An RPyC function that is ours."""

    device: Any
    number: int
    """Of the interface."""
    coming: int
    """The address of the endpoint to read."""
    going: int
    packet: int
    """Bytes of a full packet to the device."""
    name: str

    def release(self) -> None:
        """Give the interface back; transfers on it end."""
        with contextlib.suppress(usb.core.USBError):
            usb.util.release_interface(self.device, self.number)

    def close(self) -> None:
        """Close the device, when nobody uses it any more, and let go of libusb: who holds the rest holds no files."""
        with contextlib.suppress(usb.core.USBError):
            usb.util.dispose_resources(self.device)
        self.device = None

    def say(self, request: int, value: int = 0, data: bytes = b"", *, timeout_ms: int = CONTROL_MS) -> None:
        """A control request to the function. Raises USBError."""
        self.device.ctrl_transfer(session.TO_DEVICE, request, value, self.number, data, timeout_ms)


def open_function(wanted: WantedUsb, *, detach: bool) -> Function:
    """Find the device, claim its RPyC function and get it ready.

    Raises Unreachable where it is not plugged in or taken, Ambiguous where there are several, ConfigError where it may
    not be opened, a kernel driver has it, or it has no such function.
    """
    backend = find_backend()
    device = _find(backend, wanted)
    try:
        interface = _interface(device, wanted)
        coming, going = _endpoints(interface)
        number = int(interface.bInterfaceNumber)
        _take(device, number, wanted, detach=detach)
    except usb.core.USBError as error:
        usb.util.dispose_resources(device)
        raise usb_error(str(wanted), error, device) from None
    except GatewayError:
        usb.util.dispose_resources(device)
        raise
    return Function(
        device=device,
        number=number,
        coming=int(coming.bEndpointAddress),
        going=int(going.bEndpointAddress),
        packet=int(going.wMaxPacketSize),
        name=f"the USB device {wanted}",
    )


def _find(backend: Any, wanted: WantedUsb) -> Any:
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
        there = sorted(
            {
                f"{device.idVendor:04x}:{device.idProduct:04x}"
                for device in usb.core.find(find_all=True, backend=backend)
            }
        )
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
            raise usb_error(str(wanted), error, device) from None
        return None
    except ValueError:  # no right to open it, as pyusb tells that here
        raise _forbidden(str(wanted), device) from None
    finally:
        usb.util.dispose_resources(device)
    return number


def _interface(device: Any, wanted: WantedUsb) -> Any:
    # Configuring it again would make the device begin anew.
    try:
        configuration = device.get_active_configuration()
    except usb.core.USBError as error:
        if error.errno is not None:
            raise
        device.set_configuration()
        configuration = device.get_active_configuration()
    for interface in configuration:
        if wanted.interface:
            if interface.iInterface and usb.util.get_string(device, interface.iInterface) == wanted.interface:
                return interface
        elif (interface.bInterfaceClass, interface.bInterfaceSubClass) == (session.CLASS, session.SUBCLASS):
            return interface
    what = f"no interface {wanted.interface!r}" if wanted.interface else "no RPyC function"
    raise ConfigError(f"the USB device {wanted} has {what}; on the other end runs: gateway host --usb")


def _endpoints(interface: Any) -> tuple[Any, Any]:
    found: dict[int, Any] = {}
    for endpoint in interface:
        if usb.util.endpoint_type(endpoint.bmAttributes) == usb.util.ENDPOINT_TYPE_BULK:
            found.setdefault(usb.util.endpoint_direction(endpoint.bEndpointAddress), endpoint)
    if len(found) < 2:
        raise ConfigError("its interface has no pair of bulk endpoints; on the other end runs: gateway host --usb")
    return found[usb.util.ENDPOINT_IN], found[usb.util.ENDPOINT_OUT]


def _take(device: Any, number: int, wanted: WantedUsb, *, detach: bool) -> None:
    with contextlib.suppress(NotImplementedError):
        if device.is_kernel_driver_active(number):
            if not detach:
                raise ConfigError(
                    f"the USB device {wanted}: a kernel driver has its interface {number};"
                    " add ?detach=on to take it away"
                )
            device.detach_kernel_driver(number)
    usb.util.claim_interface(device, number)


# -------------------------------------------------------------------------------------------------------------- errors


def usb_error(name: str, error: Exception, device: Any = None) -> GatewayError:
    """The one error for what libusb said as a device was opened."""
    number = getattr(error, "errno", None)
    if number in (errno.EACCES, errno.EPERM):
        return _forbidden(name, device)
    if number == errno.EBUSY:
        return Unreachable(f"the USB device {name}: another program has it; close that one")
    if number in GONE:
        return Unreachable(f"the USB device {name} is gone; is it plugged in?")
    if number == errno.EPIPE:
        return ConfigError(f"the USB device {name} has no RPyC function; on the other end runs: gateway host --usb")
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
