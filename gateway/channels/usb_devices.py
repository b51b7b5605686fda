"""The RPyC function of a USB device, opened and claimed."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any, Final

import usb.core
import usb.util

from gateway.channels import usb_session as session
from gateway.errors import ConfigError, GatewayError
from gateway.usb.finding import WantedUsb, configuration_of, find_device, usb_error

CONTROL_MS: Final = 1000
ADVICE: Final = "on the other end runs: gateway host --usb"


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

    Raises as `find_device`; Unreachable where it is taken, ConfigError where it may not be opened, a kernel driver has
    it, or it has no such function.
    """
    device = find_device(wanted)
    try:
        interface = _interface(configuration_of(device), wanted)
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


def _interface(configuration: Any, wanted: WantedUsb) -> Any:
    for interface in configuration:
        if wanted.interface:
            if interface.iInterface and usb.util.get_string(interface.device, interface.iInterface) == wanted.interface:
                return interface
        elif (interface.bInterfaceClass, interface.bInterfaceSubClass) == (session.CLASS, session.SUBCLASS):
            return interface
    what = f"no interface {wanted.interface!r}" if wanted.interface else "no RPyC function"
    raise ConfigError(f"the USB device {wanted} has {what}; {ADVICE}")


def _endpoints(interface: Any) -> tuple[Any, Any]:
    found: dict[int, Any] = {}
    for endpoint in interface:
        if usb.util.endpoint_type(endpoint.bmAttributes) == usb.util.ENDPOINT_TYPE_BULK:
            found.setdefault(usb.util.endpoint_direction(endpoint.bEndpointAddress), endpoint)
    if len(found) < 2:
        raise ConfigError(f"its interface has no pair of bulk endpoints; {ADVICE}")
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
