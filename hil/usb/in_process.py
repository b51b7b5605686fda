"""Carrier: a backend of pyusb whose devices are models in this process. Its errors are those of Linux and libusb.

    bus = Bus()
    bus.plug(model)
    usb.core.find(backend=bus.backend(), idVendor=...)

What a real stack shows and a naive backend would not: a read that waits as the device is unplugged ends with EIO, and
everything after that with ENODEV; a handle stays dead when the device is back; a released interface ends its transfers.
"""

from __future__ import annotations

import array
import itertools
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock
from time import monotonic
from types import SimpleNamespace
from typing import Any, Final

import usb.backend
import usb.core

from gateway.usb import finding
from hil.usb.model import IN, Setup, Stall, UsbModel

HIGH_SPEED: Final = 3
OUT_PIECE: Final = 16384
"""Linux hands on what a host writes in pieces of this size."""


class Plug:
    """A device on a bus: plugged in anew it has another address."""

    def __init__(self, model: UsbModel, address: int) -> None:
        self.model = model
        self.address = address
        self.there = True


class Handle:
    """An open device."""

    def __init__(self, plug: Plug) -> None:
        self.plug = plug
        self.claimed: set[int] = set()
        self.open = True


class Bus:
    """A USB bus with models on it. Any thread may call any method."""

    def __init__(self, number: int = 1) -> None:
        self.number = number
        self._addresses = itertools.count(2)
        self._lock = Lock()
        self.plugs: list[Plug] = []
        self.handles: list[Handle] = []
        """Open ones."""
        self.grabbed: set[tuple[int, int]] = set()
        """Interfaces that a kernel driver has: address and number."""
        self.forbidden = False
        """Whether nobody may open a device."""

    def plug(self, model: UsbModel) -> Plug:
        """Plug a device in."""
        with self._lock:
            plug = Plug(model, next(self._addresses))
            self.plugs.append(plug)
        model.was_plugged()
        return plug

    def unplug(self, model: UsbModel) -> None:
        """Pull it out."""
        with self._lock:
            for plug in self.plugs:
                if plug.model is model:
                    plug.there = False
            self.plugs = [plug for plug in self.plugs if plug.there]
        model.was_unplugged()

    def claimed(self) -> set[tuple[int, int]]:
        """All interfaces that somebody has claimed."""
        with self._lock:
            return {(handle.plug.address, number) for handle in self.handles for number in handle.claimed}

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Whoever opens a USB device in this process meanwhile finds the devices of this bus, and no others."""
        before, finding.find_backend = finding.find_backend, self.backend
        try:
            yield
        finally:
            finding.find_backend = before

    def backend(self) -> usb.backend.IBackend:
        """A backend of pyusb that sees this bus."""
        return InProcessBackend(self)


def _error(number: int, text: str, code: int) -> usb.core.USBError:
    return usb.core.USBError(text, code, number)


def gone() -> usb.core.USBError:
    """ENODEV, as libusb has it."""
    return _error(19, "No such device (it may have been disconnected)", -4)


class InProcessBackend(usb.backend.IBackend):  # type: ignore[misc]  # pyusb is not typed
    """See the module."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    # -- what there is ----------------------------------------------------------------------------------------------

    def enumerate_devices(self) -> Iterator[Plug]:
        return iter(list(self._bus.plugs))

    def get_parent(self, dev: Plug) -> None:
        return None

    def get_device_descriptor(self, dev: Plug) -> Any:
        names = (
            "bLength bDescriptorType bcdUSB bDeviceClass bDeviceSubClass bDeviceProtocol bMaxPacketSize0 idVendor"
            " idProduct bcdDevice iManufacturer iProduct iSerialNumber bNumConfigurations"
        )
        values = struct.unpack("<BBHBBBBHHHBBBB", dev.model.device_descriptor())
        return SimpleNamespace(
            **dict(zip(names.split(), values, strict=True)),
            address=dev.address,
            bus=self._bus.number,
            port_number=dev.address,
            port_numbers=(dev.address,),
            speed=HIGH_SPEED,
        )

    def get_configuration_descriptor(self, dev: Plug, config: int) -> Any:
        if config:
            raise IndexError(f"there is no configuration {config}")
        names = (
            "bLength bDescriptorType wTotalLength bNumInterfaces bConfigurationValue iConfiguration bmAttributes"
            " bMaxPower"
        )
        values = struct.unpack_from("<BBHBBBBB", dev.model.configuration_descriptor())
        return SimpleNamespace(**dict(zip(names.split(), values, strict=True)), extra_descriptors=[])

    def get_interface_descriptor(self, dev: Plug, intf: int, alt: int, config: int) -> Any:
        if alt or intf >= len(dev.model.interfaces):
            raise IndexError(f"there is no interface {intf}, setting {alt}")
        interface = dev.model.interfaces[intf]
        texts = dev.model.strings()
        names = (
            "bLength bDescriptorType bInterfaceNumber bAlternateSetting bNumEndpoints bInterfaceClass"
            " bInterfaceSubClass bInterfaceProtocol iInterface"
        )
        values = struct.unpack_from(
            "<BBBBBBBBB", interface.descriptor(texts.index(interface.name, 3) + 1 if interface.name else 0)
        )
        return SimpleNamespace(
            **dict(zip(names.split(), values, strict=True)), extra_descriptors=array.array("B", interface.extra)
        )

    def get_endpoint_descriptor(self, dev: Plug, ep: int, intf: int, alt: int, config: int) -> Any:
        endpoint = dev.model.interfaces[intf].endpoints[ep]
        names = "bLength bDescriptorType bEndpointAddress bmAttributes wMaxPacketSize bInterval"
        values = struct.unpack("<BBBBHB", endpoint.descriptor())
        return SimpleNamespace(
            **dict(zip(names.split(), values, strict=True)), bRefresh=0, bSynchAddress=0, extra_descriptors=[]
        )

    # -- handles ----------------------------------------------------------------------------------------------------

    def open_device(self, dev: Plug) -> Handle:
        if self._bus.forbidden:
            raise _error(13, "Access denied (insufficient permissions)", -3)
        if not dev.there:
            raise gone()
        handle = Handle(dev)
        self._bus.handles.append(handle)
        return handle

    def close_device(self, dev_handle: Handle) -> None:
        dev_handle.open = False
        dev_handle.claimed.clear()
        self._bus.handles.remove(dev_handle)
        dev_handle.plug.model.tell()

    def claim_interface(self, dev_handle: Handle, intf: int) -> None:
        self._there(dev_handle)
        key = (dev_handle.plug.address, intf)
        if key in self._bus.grabbed or key in self._bus.claimed():
            raise _error(16, "Resource busy", -6)
        dev_handle.claimed.add(intf)

    def release_interface(self, dev_handle: Handle, intf: int) -> None:
        dev_handle.claimed.discard(intf)
        dev_handle.plug.model.tell()

    def is_kernel_driver_active(self, dev_handle: Handle, intf: int) -> bool:
        self._there(dev_handle)
        return (dev_handle.plug.address, intf) in self._bus.grabbed

    def detach_kernel_driver(self, dev_handle: Handle, intf: int) -> None:
        self._bus.grabbed.discard((dev_handle.plug.address, intf))

    def attach_kernel_driver(self, dev_handle: Handle, intf: int) -> None:
        self._bus.grabbed.add((dev_handle.plug.address, intf))

    def _there(self, handle: Handle) -> UsbModel:
        if not handle.plug.there:
            raise gone()
        return handle.plug.model

    # -- control ----------------------------------------------------------------------------------------------------

    def set_configuration(self, dev_handle: Handle, config_value: int) -> None:
        self._there(dev_handle).control(Setup(0, 9, config_value, 0, 0))

    def get_configuration(self, dev_handle: Handle) -> int:
        return self._there(dev_handle).configuration

    def set_interface_altsetting(self, dev_handle: Handle, intf: int, altsetting: int) -> None:
        self._there(dev_handle).control(Setup(1, 11, altsetting, intf, 0))

    def ctrl_transfer(
        self,
        dev_handle: Handle,
        bmRequestType: int,
        bRequest: int,
        wValue: int,
        wIndex: int,
        data: Any,
        timeout: int,
    ) -> int:
        model = self._there(dev_handle)
        setup = Setup(bmRequestType, bRequest, wValue, wIndex, len(data))
        try:
            answer = model.control(setup, b"" if bmRequestType & IN else bytes(data))
        except Stall:
            raise _error(32, "Pipe error", -9) from None
        if not bmRequestType & IN:
            return len(data)
        memoryview(data)[: len(answer)] = array.array("B", answer)
        return len(answer)

    def clear_halt(self, dev_handle: Handle, ep: int) -> None:
        self._there(dev_handle).clear_halt(ep)

    def reset_device(self, dev_handle: Handle) -> None:
        self._there(dev_handle).reset()

    # -- data -------------------------------------------------------------------------------------------------------

    def bulk_write(self, dev_handle: Handle, ep: int, intf: int, data: Any, timeout: int) -> int:
        model = self._there(dev_handle)
        whole = bytes(data)
        deadline = monotonic() + timeout / 1000 if timeout else None
        for offset in range(0, len(whole) or 1, OUT_PIECE):
            waited = self._wait(dev_handle, ep, intf, lambda: model.has_room(ep) or None, deadline)
            if waited is None:
                if offset:
                    return offset
                raise _timed_out()
            model.received(ep, whole[offset : offset + OUT_PIECE])
        return len(whole)

    def bulk_read(self, dev_handle: Handle, ep: int, intf: int, buff: Any, timeout: int) -> int:
        model = self._there(dev_handle)
        room = len(buff) * buff.itemsize
        deadline = monotonic() + timeout / 1000 if timeout else None
        data = self._wait(dev_handle, ep, intf, lambda: model.take(ep, room), deadline)
        if data is None:
            raise _timed_out()
        memoryview(buff).cast("B")[: len(data)] = data
        return len(data)

    intr_write = bulk_write
    intr_read = bulk_read

    def _wait(self, handle: Handle, ep: int, intf: int, look: Callable[[], Any], deadline: float | None) -> Any:
        """What `look` gives, as soon as that is not None; None at the deadline. `look` is called with the lock."""
        model = handle.plug.model
        with model.changed:
            while True:
                if not handle.plug.there:
                    raise _error(5, "Input/Output Error", -1)
                if not handle.open or intf not in handle.claimed:
                    raise _error(5, "Input/Output Error", -1)
                if ep in model.halted:
                    raise _error(32, "Pipe error", -9)
                found = look()
                if found is not None:
                    return found
                left = None if deadline is None else deadline - monotonic()
                if left is not None and left <= 0:
                    return None
                model.changed.wait(left)


def _timed_out() -> usb.core.USBError:
    return usb.core.USBTimeoutError("Operation timed out", -7, 110)
