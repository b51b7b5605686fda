"""An I2C adapter on USB (i2c-tiny-usb): the kernel makes /dev/i2c-N of it, and what hangs on the bus is Python."""

from __future__ import annotations

import struct
from typing import Final, Protocol

from hil.usb.model import IN, Setup, Stall, UsbModel

_ECHO, _FUNCTIONS, _SET_DELAY, _STATUS, _TRANSFER = 0, 1, 2, 3, 4
_I2C_AND_SMBUS: Final = 0x0EFF0001
_ACKNOWLEDGED, _REFUSED = 1, 2
_READ: Final = 1


class Target(Protocol):
    """Something on the bus."""

    def write(self, data: bytes) -> None: ...

    def read(self, count: int) -> bytes: ...


class Memory:
    """256 bytes behind a pointer, as an EEPROM has them: the first byte that is written sets it."""

    def __init__(self) -> None:
        self.data = bytearray(256)
        self._at = 0

    def write(self, data: bytes) -> None:
        if data:
            self._at = data[0]
            for byte in data[1:]:
                self.data[self._at] = byte
                self._at = (self._at + 1) & 255

    def read(self, count: int) -> bytes:
        read = bytes(self.data[(self._at + place) & 255] for place in range(count))
        self._at = (self._at + count) & 255
        return read


class I2cAdapter(UsbModel):
    """`targets` are what is on the bus, by address; every other address is not acknowledged."""

    def __init__(self, targets: dict[int, Target], serial_number: str = "I2C0001") -> None:
        super().__init__(vid=0x0403, pid=0xC631, serial_number=serial_number, product="i2c-tiny-usb")
        self._targets = targets
        self._status = 0

    def configuration_descriptor(self) -> bytes:
        # One interface without endpoints: everything goes by control requests.
        return struct.pack("<BBHBBBBB", 9, 2, 18, 1, 1, 0, 0x80, 50) + bytes([9, 4, 0, 0, 0, 0xFF, 0, 0, 0])

    def request(self, setup: Setup, data: bytes) -> bytes:
        if setup.request == _ECHO:
            return struct.pack("<H", setup.value)
        if setup.request == _FUNCTIONS:
            return struct.pack("<I", _I2C_AND_SMBUS)
        if setup.request == _SET_DELAY:
            return b""
        if setup.request == _STATUS:
            return bytes([self._status])
        if _TRANSFER <= setup.request < _TRANSFER + 4:
            return self._transfer(setup, data)
        raise Stall

    def _transfer(self, setup: Setup, data: bytes) -> bytes:
        target = self._targets.get(setup.index)
        if target is None:
            self._status = _REFUSED
            return bytes(setup.length) if setup.kind & IN else b""
        self._status = _ACKNOWLEDGED
        if setup.value & _READ:
            return target.read(setup.length)
        target.write(data)
        return b""
