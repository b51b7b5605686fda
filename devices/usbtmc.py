"""A USBTMC instrument (USB Test and Measurement Class 1.0, with its subclass USB488), by libusb: the same reads and
writes as a serial line has, for the drivers of SCPI instruments.

    usbtmc://0957:0588            the one instrument with this vendor and product
    usbtmc://0957:0588/MY001234   the one with this serial number

Messages go out whole and come in as asked for; nothing is configured again, and an answer that does not come ends with
a device clear (INITIATE_CLEAR), after which the instrument can be used on.
"""

from __future__ import annotations

import errno
import re
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

import usb.core
import usb.util

from devices.instrument_line import InstrumentLine
from gateway.errors import CallTimeout, ConfigError, DeviceError, DeviceUnavailable, GatewayError, Unreachable
from gateway.usb.finding import WantedUsb, configuration_of, find_device, usb_error

_RESOURCE: Final = re.compile(r"usbtmc://([0-9A-Fa-f]{4}):([0-9A-Fa-f]{4})(?:/(.+))?")
CLASS: Final = 0xFE
SUBCLASS: Final = 3
HEADER: Final = 12
_OUT, _REQUEST_IN = 1, 2
_EOM: Final = 1
_INITIATE_CLEAR, _CHECK_CLEAR_STATUS, _READ_STATUS_BYTE = 5, 6, 128
_FROM_INTERFACE: Final = 0xA1
_SUCCESS, _PENDING = 1, 2
TRANSFER: Final = 256 * 1024
"""Bytes of a message in one transfer, and asked for at once."""
STEP_S: Final = 0.05
"""Waiting is interrupted within this time."""
CONTROL_MS: Final = 1000
CLEAR_S: Final = 2.0
BYTES_PER_S: Final = 1e6
"""What a full-speed instrument sends at least."""


class UsbTmcLine(InstrumentLine):
    """One instrument, claimed for us alone. Used by one thread at a time, but for `interrupt`."""

    def __init__(self, resource: str, timeout_s: float, *, terminator: bytes = b"\n") -> None:
        """Raises ConfigError for a text that is no resource."""
        parts = _RESOURCE.fullmatch(resource)
        if parts is None:
            raise ConfigError(f"{resource!r:.80} is no usbtmc://VID:PID/SERIAL")
        super().__init__(resource, terminator)
        self._wanted = WantedUsb(int(parts[1], 16), int(parts[2], 16), parts[3] or "")
        self._timeout_s = timeout_s
        self._device: Any = None
        self._interface = 0
        self._in = self._out = self._status = 0
        self._tag = 0
        self._detached = False
        """The kernel's driver was sent away."""
        self._asked = False
        """The instrument has been asked for an answer that has not come."""

    # -- opening ----------------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Find and claim the instrument, and clear it.

        Raises DeviceUnavailable when it is missing or taken, ConfigError when it may not be opened or is none.
        """
        try:
            device = find_device(self._wanted)
        except Unreachable as missing:
            raise DeviceUnavailable(f"{self.port} can't be opened: {missing}", port=self.port) from missing
        try:
            self._claim(device)
        except usb.core.USBError as failed:
            usb.util.dispose_resources(device)
            refused = usb_error(str(self._wanted), failed, device)
            if isinstance(refused, ConfigError):
                raise refused from failed
            raise DeviceUnavailable(f"{self.port} can't be opened: {refused}", port=self.port) from failed
        except GatewayError:
            usb.util.dispose_resources(device)
            raise
        self._device = device
        self._asked = True  # by somebody before us, perhaps
        self.discard_input()

    def _claim(self, device: Any) -> None:
        for interface in configuration_of(device):
            if (interface.bInterfaceClass, interface.bInterfaceSubClass) == (CLASS, SUBCLASS):
                break
        else:
            raise ConfigError(f"{self.port} is no USBTMC instrument: it has no interface of that class")
        self._interface = int(interface.bInterfaceNumber)
        kinds = {
            (usb.util.endpoint_type(each.bmAttributes), usb.util.endpoint_direction(each.bEndpointAddress)): each
            for each in interface
        }
        bulk, interrupt = usb.util.ENDPOINT_TYPE_BULK, usb.util.ENDPOINT_TYPE_INTR
        if not {(bulk, usb.util.ENDPOINT_IN), (bulk, usb.util.ENDPOINT_OUT)} <= kinds.keys():
            raise ConfigError(f"{self.port} is no USBTMC instrument: it has no pair of bulk endpoints")
        self._in = int(kinds[bulk, usb.util.ENDPOINT_IN].bEndpointAddress)
        self._out = int(kinds[bulk, usb.util.ENDPOINT_OUT].bEndpointAddress)
        status = kinds.get((interrupt, usb.util.ENDPOINT_IN))
        self._status = int(status.bEndpointAddress) if status is not None else 0
        with suppress(NotImplementedError):
            if device.is_kernel_driver_active(self._interface):  # the kernel's usbtmc; at closing it gets it back
                device.detach_kernel_driver(self._interface)
                self._detached = True
        usb.util.claim_interface(device, self._interface)

    def close(self) -> None:
        """Give the instrument back. Idempotent, never raises."""
        device, self._device = self._device, None
        if device is not None:
            with suppress(usb.core.USBError):
                usb.util.release_interface(device, self._interface)
            if self._detached:
                self._detached = False
                with suppress(usb.core.USBError):
                    device.attach_kernel_driver(self._interface)
            with suppress(usb.core.USBError):
                usb.util.dispose_resources(device)

    def transfer_s(self, count: int) -> float:
        """The time that `count` bytes may need."""
        return count / BYTES_PER_S

    # -- writing ----------------------------------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Send `data` as one message.

        Raises DeviceUnavailable when the instrument is gone, CallTimeout when it takes nothing for `timeout_s`.
        """
        with self._instrument() as device:
            for start in range(0, len(data) or 1, TRANSFER):
                self._check()
                piece = data[start : start + TRANSFER]
                ends = start + TRANSFER >= len(data)
                head = self._header(_OUT, len(piece), _EOM if ends else 0)
                whole = head + piece + bytes(-len(piece) % 4)
                device.write(self._out, whole, int(self._timeout_s * 1000))

    def _header(self, kind: int, size: int, attributes: int) -> bytes:
        self._tag = self._tag % 255 + 1
        return struct.pack("<BBBxIB3x", kind, self._tag, ~self._tag & 255, size, attributes)

    # -- reading ----------------------------------------------------------------------------------------------------

    def read_until_quiet(self, *, timeout_s: float, quiet_s: float, max_bytes: int) -> bytes:
        """The rest of the message, without its terminator: here a message has an end of its own."""
        deadline = time.monotonic() + timeout_s
        while not self._fill(deadline, timeout_s):
            self._bound(len(self._buffer), max_bytes + len(self._terminator))
        return self._take(len(self._buffer)).removesuffix(self._terminator)

    def discard_input(self) -> None:
        """Forget what has come, and what the instrument still has to say: a device clear, if it was asked."""
        self._buffer.clear()
        if self._asked:
            with self._instrument():
                self._clear()

    def read_status(self) -> int:
        """The status byte (IEEE 488.2, 11.2), which can be had also while an answer is due. Raises as `write`."""
        with self._instrument() as device:
            self._tag = self._tag % 126 + 2  # 2 to 127: USB488, 4.3.1
            answer = device.ctrl_transfer(_FROM_INTERFACE, _READ_STATUS_BYTE, self._tag, self._interface, 3, CONTROL_MS)
            if len(answer) < 3 or answer[0] != _SUCCESS:
                raise DeviceError(f"{self.port} does not tell its status", number=None, text=bytes(answer).hex())
            if not self._status:
                return int(answer[2])
            deadline = time.monotonic() + self._timeout_s
            while time.monotonic() < deadline:
                told = device.read(self._status, 2, int(self._timeout_s * 1000))
                if len(told) == 2 and told[0] == 0x80 | self._tag:
                    return int(told[1])
            raise self._late(self._timeout_s)

    def _fill(self, deadline: float, timeout_s: float) -> bool:
        """Ask for more and add it to the buffer; whether the message ends there. Raises CallTimeout."""
        with self._instrument() as device:
            self._asked = True
            device.write(self._out, self._header(_REQUEST_IN, TRANSFER, 0), int(self._timeout_s * 1000))
            whole = bytearray(self._receive(device, deadline, timeout_s))
            if len(whole) < HEADER or whole[0] != _REQUEST_IN or whole[1] != self._tag or whole[2] != ~self._tag & 255:
                self._clear()
                raise DeviceError(f"{self.port} answered with no message", number=None, text=whole[:HEADER].hex())
            size = int.from_bytes(whole[4:8], "little")
            if size > TRANSFER:
                self._clear()
                raise DeviceError(f"{self.port} sends {size} bytes where {TRANSFER} were due", number=None, text="")
            while len(whole) - HEADER < size:
                whole += self._receive(device, deadline, timeout_s)
            self._buffer += whole[HEADER : HEADER + size]
            ends = bool(whole[8] & _EOM)
            self._asked = not ends
            return ends

    def _receive(self, device: Any, deadline: float, timeout_s: float) -> bytes:
        """One transfer, or a part of it."""
        while True:
            self._check_interrupt()
            left = deadline - time.monotonic()
            if left <= 0:
                raise self._late(timeout_s)
            try:
                return bytes(device.read(self._in, TRANSFER + HEADER + 4, max(1, int(min(left, STEP_S) * 1000))))
            except usb.core.USBTimeoutError:
                continue

    def _clear(self) -> None:
        """INITIATE_CLEAR and all that belongs to it (USBTMC 1.0, 4.2.1.6): both ends forget what they had to say."""
        device = self._device
        self._control(device, _INITIATE_CLEAR, 1)
        deadline = time.monotonic() + CLEAR_S
        while (answer := self._control(device, _CHECK_CLEAR_STATUS, 2))[0] == _PENDING:
            if len(answer) > 1 and answer[1] & 1:  # it has bytes to be read first
                with suppress(usb.core.USBTimeoutError):
                    device.read(self._in, TRANSFER, int(STEP_S * 1000))
            if time.monotonic() > deadline:
                raise CallTimeout(f"{self.port} does not finish a device clear", port=self.port, timeout_s=CLEAR_S)
        device.clear_halt(self._out)
        self._asked = False

    def _control(self, device: Any, request: int, size: int) -> Any:
        answer = device.ctrl_transfer(_FROM_INTERFACE, request, 0, self._interface, size, CONTROL_MS)
        if not len(answer) or answer[0] not in (_SUCCESS, _PENDING):
            raise DeviceError(f"{self.port} refuses a device clear", number=None, text=bytes(answer).hex())
        return answer

    @contextmanager
    def _instrument(self) -> Iterator[Any]:
        if self._device is None:
            raise DeviceUnavailable(f"{self.port} is not open", port=self.port)
        try:
            yield self._device
        except usb.core.USBTimeoutError as blocked:
            self._asked = True
            raise CallTimeout(
                f"{self.port} took nothing for {self._timeout_s:g} s", port=self.port, timeout_s=self._timeout_s
            ) from blocked
        except usb.core.USBError as gone:
            if gone.errno == errno.EPIPE:
                self._asked = True
                self._unstall()
                raise DeviceError(f"{self.port} refused a transfer (it stalled)", number=None, text="") from gone
            raise DeviceUnavailable(
                f"{self.port} is gone ({gone}); plug it back in and call again", port=self.port
            ) from gone

    def _unstall(self) -> None:
        for endpoint in (self._in, self._out):
            with suppress(usb.core.USBError):
                self._device.clear_halt(endpoint)
