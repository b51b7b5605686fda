"""Carrier: QEMU's usb-redir, by which a device of this process is plugged into a guest. Protocol: usbredir 0.7.

    plug = Redir(model, vm.redir("pi"))     plugged in, as soon as QEMU listens
    plug.close()                            pulled out

https://gitlab.freedesktop.org/spice/usbredir/-/blob/main/docs/usb-redirection-protocol.md
"""

from __future__ import annotations

import contextlib
import socket
import struct
from pathlib import Path
from threading import Thread
from time import monotonic, sleep
from typing import Final

from hil.usb.model import IN, INTERRUPT, Setup, Stall, UsbModel
from hil.usb.transfers import STALLED, Transfers, exactly

CONNECT_S: Final = 30.0
_HELLO, _CONNECT, _DISCONNECT, _RESET, _INTERFACES, _ENDPOINTS = range(6)
_SET_CONFIGURATION, _GET_CONFIGURATION, _CONFIGURATION, _SET_SETTING, _GET_SETTING, _SETTING = range(6, 12)
_START_INTERRUPT, _STOP_INTERRUPT, _INTERRUPT_STATUS = 15, 16, 17
_CANCEL: Final = 21
_CONTROL, _BULK, _INTERRUPT = 100, 101, 103
_OK, _CANCELLED, _STALLED = 0, 1, 4
_CAPABILITIES: Final = 1 << 1 | 1 << 4 | 1 << 5 | 1 << 6
"""The device's version, sizes of packets, ids of 64 bits, bulk transfers of more than 64 KiB."""
_IDS_OF_64_BITS: Final = 1 << 5
_HIGH_SPEED: Final = 2
_NO_ENDPOINT: Final = 255


class Redir(Transfers):
    """A model that is plugged into a guest. Answers bulk reads as soon as the model has something."""

    def __init__(self, model: UsbModel, path: Path) -> None:
        self._socket = _connected(path)
        self._wide = False
        self._interrupts: set[int] = set()
        super().__init__(model)
        self._send(_HELLO, 0, b"gateway hil".ljust(64, b"\0") + struct.pack("<I", _CAPABILITIES))
        self._thread = Thread(target=self._run, name=f"usb-redir {model.serial_number}", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Pull the device out. Idempotent."""
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            return
        self._thread.join()

    # -- the socket -------------------------------------------------------------------------------------------------

    def _send(self, kind: int, number: int, body: bytes = b"") -> None:
        head = struct.pack("<IIQ" if self._wide and kind != _HELLO else "<III", kind, len(body), number)
        with self.lock:
            self._socket.sendall(head + body)

    def _run(self) -> None:
        try:
            while True:
                layout = "<IIQ" if self._wide else "<III"
                kind, size, number = struct.unpack(layout, exactly(self._socket, struct.calcsize(layout)))
                self._take_packet(kind, number, exactly(self._socket, size))
        except (EOFError, OSError):
            pass
        finally:
            self.end()
            self._socket.close()

    # -- packets ----------------------------------------------------------------------------------------------------

    def _take_packet(self, kind: int, number: int, body: bytes) -> None:
        model = self.model
        if kind == _HELLO:
            self._describe(struct.unpack_from("<I", body, 64)[0])
        elif kind == _RESET:
            model.reset()
        elif kind == _SET_CONFIGURATION:
            model.control(Setup(0, 9, body[0], 0, 0))
            self._send(_CONFIGURATION, number, bytes([_OK, body[0]]))
        elif kind == _GET_CONFIGURATION:
            self._send(_CONFIGURATION, number, bytes([_OK, model.configuration]))
        elif kind == _SET_SETTING:
            self._send(_SETTING, number, bytes([_OK, body[0], body[1]]))
        elif kind == _GET_SETTING:
            self._send(_SETTING, number, bytes([_OK, body[0], 0]))
        elif kind in (_START_INTERRUPT, _STOP_INTERRUPT):
            with self.lock:
                (self._interrupts.add if kind == _START_INTERRUPT else self._interrupts.discard)(body[0])
            self._send(_INTERRUPT_STATUS, number, bytes([_OK, body[0]]))
            self.go_on()
        elif kind == _CANCEL:
            endpoint = self.cancel(number)
            if endpoint is not None:
                self._answer(number, endpoint, _CANCELLED)
        elif kind == _CONTROL:
            self._control(number, body)
        elif kind == _BULK:
            self._bulk(number, body)
        elif kind == _INTERRUPT:
            model.received(body[0], body[4:])
            self._send(_INTERRUPT, number, struct.pack("<BBH", body[0], _OK, len(body) - 4))

    def _describe(self, theirs: int) -> None:
        self._wide = bool(theirs & _IDS_OF_64_BITS)
        model = self.model
        interfaces = model.interfaces
        fields = [[each.number, each.cls, each.subclass, each.protocol] for each in interfaces]
        columns = b"".join(bytes(row[place] for row in fields).ljust(32, b"\0") for place in range(4))
        self._send(_INTERFACES, 0, struct.pack("<I", len(interfaces)) + columns)
        kinds, intervals, owners, packets = bytearray([_NO_ENDPOINT] * 32), bytearray(32), bytearray(32), [0] * 32
        kinds[0] = kinds[16] = 0
        packets[0] = packets[16] = 64
        for interface in interfaces:
            for endpoint in interface.endpoints:
                place = endpoint.address & 15 | (16 if endpoint.address & IN else 0)
                kinds[place], owners[place], packets[place] = endpoint.kind, interface.number, endpoint.packet
                intervals[place] = 9 if endpoint.kind == INTERRUPT else 0
        self._send(_ENDPOINTS, 0, bytes(kinds + intervals + owners) + struct.pack("<32H", *packets))
        device = (_HIGH_SPEED, model.device_class, 0, 0, model.vid, model.pid, 0x0100)
        self._send(_CONNECT, 0, struct.pack("<BBBBHHH", *device))

    def _control(self, number: int, body: bytes) -> None:
        endpoint, request, kind, _, value, index, length = struct.unpack_from("<BBBBHHH", body)
        status, answer = _OK, b""
        try:
            answer = self.model.control(Setup(kind, request, value, index, length), body[10:])
            length = len(answer) if kind & IN else length
        except Stall:
            status, length = _STALLED, 0
        self._send(
            _CONTROL, number, struct.pack("<BBBBHHH", endpoint, request, kind, status, value, index, length) + answer
        )

    def _bulk(self, number: int, body: bytes) -> None:
        endpoint, _, low, _, high = struct.unpack_from("<BBHIH", body)
        if endpoint & IN:
            self.read(number, endpoint, low | high << 16)
        else:
            self.write(number, endpoint, body[10:])

    def answer(self, number: int, endpoint: int, status: int, data: bytes, size: int) -> None:
        """See Transfers."""
        self._answer(number, endpoint, _STALLED if status == STALLED else _OK, data, size)

    def _answer(self, number: int, endpoint: int, status: int, data: bytes = b"", size: int = 0) -> None:
        self._send(_BULK, number, struct.pack("<BBHIH", endpoint, status, size & 0xFFFF, 0, size >> 16) + data)

    def go_on(self) -> None:
        """See Transfers; and what has happened on the endpoints that the host is told of without asking."""
        super().go_on()
        with contextlib.suppress(OSError), self.lock:
            for endpoint in list(self._interrupts):
                self._interrupt(endpoint)

    def _interrupt(self, endpoint: int) -> None:
        while True:
            with self.model.changed:
                data = self.model.take(endpoint, self.model.packet(endpoint))
            if data is None:
                return
            if data:
                self._send(_INTERRUPT, 0, struct.pack("<BBH", endpoint, _OK, len(data)) + data)


def _connected(path: Path) -> socket.socket:
    deadline = monotonic() + CONNECT_S
    while True:
        made = socket.socket(socket.AF_UNIX)
        try:
            made.connect(str(path))
        except OSError:
            made.close()
            if monotonic() > deadline:
                raise
            sleep(0.01)
        else:
            return made
