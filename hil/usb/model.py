"""UsbModel: a USB device in software. A carrier brings it to a host; what the device does, a subclass says.

Transfers are as on the bus: what the host sends comes in pieces of any size, and a piece that is no multiple of the
packet ends a transfer; what the device sends is in packets, and a short one or an empty one ends a transfer. A host's
read ends with the end of a transfer, or when its buffer is full, and not before.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Condition
from typing import Final

BULK: Final = 2
INTERRUPT: Final = 3
HIGH_SPEED_PACKET: Final = 512
IN: Final = 0x80
"""Set in the address of an endpoint that goes to the host, and in the type of a request whose data does."""
VENDOR: Final = 0x40
CLASS: Final = 0x20
TO_INTERFACE: Final = 1

_DEVICE, _CONFIGURATION, _STRING, _INTERFACE, _ENDPOINT, _QUALIFIER = 1, 2, 3, 4, 5, 6
_GET_STATUS, _CLEAR_FEATURE, _SET_FEATURE = 0, 1, 3
_GET_DESCRIPTOR, _GET_CONFIGURATION, _SET_CONFIGURATION, _SET_INTERFACE = 6, 8, 9, 11
_ENGLISH: Final = b"\x04\x03\x09\x04"


class Stall(Exception):
    """The device refuses a request: the host sees a stall."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An endpoint: `address` with its direction, `kind` BULK or INTERRUPT, `packet` bytes at most at once."""

    address: int
    kind: int = BULK
    packet: int = HIGH_SPEED_PACKET

    def descriptor(self) -> bytes:
        """USB 2.0, 9.6.6."""
        interval = 9 if self.kind == INTERRUPT else 0
        return struct.pack("<BBBBHB", 7, _ENDPOINT, self.address, self.kind, self.packet, interval)


@dataclass(frozen=True, slots=True)
class Interface:
    """An interface, with the class descriptors that stand between it and its endpoints."""

    number: int
    cls: int
    subclass: int
    protocol: int
    endpoints: tuple[Endpoint, ...]
    extra: bytes = b""
    name: str = ""

    def descriptor(self, string: int) -> bytes:
        """USB 2.0, 9.6.5; `string` is the index of its name."""
        head = struct.pack(
            "<BBBBBBBBB",
            9,
            _INTERFACE,
            self.number,
            0,
            len(self.endpoints),
            self.cls,
            self.subclass,
            self.protocol,
            string,
        )
        return head + self.extra + b"".join(endpoint.descriptor() for endpoint in self.endpoints)


@dataclass(frozen=True, slots=True)
class Setup:
    """The setup packet of a control request: USB 2.0, 9.3."""

    kind: int
    request: int
    value: int
    index: int
    length: int


@dataclass
class UsbModel:
    """A device. `vid`, `pid` and `serial_number` are what a host finds it by.

    Thread safe: `changed` is notified of all that may let a waiting transfer go on, and every callback of `on_change`
    is called then, without its lock.
    """

    vid: int = 0x1209
    pid: int = 0x0001
    serial_number: str = "HIL0001"
    manufacturer: str = "hil"
    product: str = "software device"
    interfaces: tuple[Interface, ...] = ()
    device_class: int = 0
    configuration: int = 0
    halted: set[int] = field(default_factory=set)
    """Endpoints that answer with a stall, until the host clears it."""
    asleep: set[int] = field(default_factory=set)
    """Endpoints that answer NAK for now: transfers wait."""
    plugged: bool = False
    requests: deque[Setup] = field(default_factory=lambda: deque(maxlen=1000))
    """The control requests that came last."""
    on_change: list[Callable[[], None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.changed = Condition()
        self._going: dict[int, deque[bytes]] = {
            endpoint.address: deque() for endpoint in self.endpoints() if endpoint.address & IN
        }

    # -- what it is -------------------------------------------------------------------------------------------------

    def endpoints(self) -> list[Endpoint]:
        """All endpoints but the one for control requests."""
        return [endpoint for interface in self.interfaces for endpoint in interface.endpoints]

    def packet(self, address: int) -> int:
        """The bytes of a full packet."""
        return next(endpoint.packet for endpoint in self.endpoints() if endpoint.address == address)

    def strings(self) -> list[str]:
        """The texts, from index 1 on."""
        names = [interface.name for interface in self.interfaces if interface.name]
        return [self.manufacturer, self.product, self.serial_number, *names]

    def device_descriptor(self) -> bytes:
        """USB 2.0, 9.6.1."""
        return struct.pack(
            "<BBHBBBBHHHBBBB",
            18,
            _DEVICE,
            0x0200,
            self.device_class,
            0,
            0,
            64,
            self.vid,
            self.pid,
            0x0100,
            1,
            2,
            3,
            1,
        )

    def configuration_descriptor(self) -> bytes:
        """USB 2.0, 9.6.3, with all that belongs to it."""
        names = self.strings()
        body = b"".join(
            interface.descriptor(names.index(interface.name, 3) + 1 if interface.name else 0)
            for interface in self.interfaces
        )
        head = struct.pack("<BBHBBBBB", 9, _CONFIGURATION, 9 + len(body), len(self.interfaces), 1, 0, 0x80, 50)
        return head + body

    def _descriptor(self, kind: int, index: int) -> bytes:
        if kind == _DEVICE:
            return self.device_descriptor()
        if kind == _CONFIGURATION:
            return self.configuration_descriptor()
        if kind == _QUALIFIER:
            return struct.pack("<BBHBBBBBB", 10, _QUALIFIER, 0x0200, 0, 0, 0, 64, 1, 0)
        if kind == _STRING and index == 0:
            return _ENGLISH
        if kind == _STRING and index <= len(self.strings()):
            text = self.strings()[index - 1].encode("utf-16le")
            return bytes([2 + len(text), _STRING]) + text
        raise Stall

    # -- control ----------------------------------------------------------------------------------------------------

    def control(self, setup: Setup, data: bytes = b"") -> bytes:
        """Answer a control request; `data` is what the host sent with it. Raises Stall."""
        self.requests.append(setup)
        kind = setup.kind & 0x60
        if kind:
            return self.request(setup, data)[: setup.length]
        if setup.request == _GET_DESCRIPTOR:
            return self._descriptor(setup.value >> 8, setup.value & 255)[: setup.length]
        if setup.request == _SET_CONFIGURATION:
            self.reset()
            self.configuration = setup.value
            self.configured()
        elif setup.request == _GET_CONFIGURATION:
            return bytes([self.configuration])
        elif setup.request == _GET_STATUS:
            return bytes([(setup.index & 255) in self.halted and setup.kind & 31 == 2, 0])
        elif setup.request == _CLEAR_FEATURE and setup.kind & 31 == 2:
            self.clear_halt(setup.index & 255)
        elif setup.request not in (_CLEAR_FEATURE, _SET_FEATURE, _SET_INTERFACE):
            raise Stall
        return b""

    def request(self, setup: Setup, data: bytes) -> bytes:
        """Answer a request of a class or a vendor. Raises Stall."""
        raise Stall

    def configured(self) -> None:
        """The host has chosen a configuration."""

    def halt(self, address: int) -> None:
        """Have an endpoint answer with a stall."""
        with self.changed:
            self.halted.add(address)
        self.tell()

    def clear_halt(self, address: int) -> None:
        """The host has seen a stall, and wants to go on."""
        with self.changed:
            self.halted.discard(address)
        self.tell()

    # -- data -------------------------------------------------------------------------------------------------------

    def received(self, address: int, data: bytes) -> None:
        """A piece of what the host sends to a bulk endpoint."""

    def has_room(self, address: int) -> bool:
        """Whether a piece can be taken now; else the host waits."""
        return address not in self.asleep

    def send(self, address: int, data: bytes) -> None:
        """Send packets: full ones, and a short one at the end if `data` is no multiple of them. Empty: an empty one."""
        with self.changed:
            self._going[address].append(data)
        self.tell()

    def queued(self, address: int) -> int:
        """Bytes that wait to be read."""
        with self.changed:
            return sum(map(len, self._going[address]))

    def drop(self, address: int) -> None:
        """Forget what waits to be read."""
        with self.changed:
            self._going[address].clear()

    def take(self, address: int, room: int) -> bytes | None:
        """What a host's read of `room` bytes gives; None while that is to wait. `changed` is held."""
        going = self._going[address]
        packet = self.packet(address)
        taken, size, ends = 0, 0, False
        while taken < len(going) and size < room and not ends:
            size += len(going[taken])
            ends = not going[taken] or len(going[taken]) % packet != 0
            taken += 1
        if address in self.asleep or (size < room and not ends):
            return None
        self.changed.notify_all()
        whole = going.popleft() if taken == 1 else b"".join([going.popleft() for _ in range(taken)])
        if len(whole) > room:
            going.appendleft(whole[room:])
            return whole[:room]
        if len(whole) == room and ends and room % packet == 0:
            going.appendleft(b"")  # the end of the transfer is another packet
        return whole

    def tell(self) -> None:
        """Something has changed that transfers may wait for."""
        with self.changed:
            self.changed.notify_all()
        for each in list(self.on_change):
            each()

    # -- the bus ----------------------------------------------------------------------------------------------------

    def reset(self) -> None:
        """The host resets the device, or configures it anew: all endpoints begin anew."""
        with self.changed:
            self.halted.clear()
            for going in self._going.values():
                going.clear()
        self.tell()

    def was_plugged(self) -> None:
        """It is on a bus now."""
        self.configuration = 0
        self.reset()
        self.plugged = True

    def was_unplugged(self) -> None:
        """It is on no bus any more."""
        self.plugged = False
        self.tell()
