"""Carrier: QEMU's usb-redir, by which a device of this process is plugged into a guest. Protocol: usbredir 0.7.

    plug = Redir(model, vm.redir("pi"))     plugged in, as soon as QEMU listens
    plug.close()                            pulled out

https://gitlab.freedesktop.org/spice/usbredir/-/blob/main/docs/usb-redirection-protocol.md
"""

from __future__ import annotations

import socket
import struct
from collections import defaultdict, deque
from pathlib import Path
from threading import RLock, Thread
from time import monotonic, sleep
from typing import Any, Final

from hil.usb.model import IN, INTERRUPT, Setup, Stall, UsbModel

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


class Redir:
    """A model that is plugged into a guest. Answers bulk reads as soon as the model has something."""

    def __init__(self, model: UsbModel, path: Path) -> None:
        self._model = model
        self._socket = _connected(path)
        self._wide = False
        self._lock = RLock()
        self._waiting: dict[int, deque[tuple[int, int]]] = defaultdict(deque)
        """Reads that wait, by endpoint: id and size."""
        self._coming: dict[int, deque[tuple[int, bytes]]] = defaultdict(deque)
        """Writes that the model has no room for: id and data."""
        self._interrupts: set[int] = set()
        self._send(_HELLO, 0, b"gateway hil".ljust(64, b"\0") + struct.pack("<I", _CAPABILITIES))
        model.was_plugged()
        model.on_change.append(self._go_on)
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
        with self._lock:
            self._socket.sendall(head + body)

    def _take(self, size: int) -> bytes:
        taken = bytearray()
        while len(taken) < size:
            chunk = self._socket.recv(size - len(taken))
            if not chunk:
                raise EOFError
            taken += chunk
        return bytes(taken)

    def _run(self) -> None:
        try:
            while True:
                layout = "<IIQ" if self._wide else "<III"
                kind, size, number = struct.unpack(layout, self._take(struct.calcsize(layout)))
                self._take_packet(kind, number, self._take(size))
        except (EOFError, OSError):
            pass
        finally:
            self._model.on_change.remove(self._go_on)
            self._model.was_unplugged()
            self._socket.close()

    # -- packets ----------------------------------------------------------------------------------------------------

    def _take_packet(self, kind: int, number: int, body: bytes) -> None:
        model = self._model
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
            with self._lock:
                (self._interrupts.add if kind == _START_INTERRUPT else self._interrupts.discard)(body[0])
            self._send(_INTERRUPT_STATUS, number, bytes([_OK, body[0]]))
            self._go_on()
        elif kind == _CANCEL:
            self._cancel(number)
        elif kind == _CONTROL:
            self._control(number, body)
        elif kind == _BULK:
            self._bulk(number, body)
        elif kind == _INTERRUPT:
            model.received(body[0], body[4:])
            self._send(_INTERRUPT, number, struct.pack("<BBH", body[0], _OK, len(body) - 4))

    def _describe(self, theirs: int) -> None:
        self._wide = bool(theirs & _IDS_OF_64_BITS)
        model = self._model
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
            answer = self._model.control(Setup(kind, request, value, index, length), body[10:])
            length = len(answer) if kind & IN else length
        except Stall:
            status, length = _STALLED, 0
        self._send(
            _CONTROL, number, struct.pack("<BBBBHHH", endpoint, request, kind, status, value, index, length) + answer
        )

    def _bulk(self, number: int, body: bytes) -> None:
        endpoint, _, low, _, high = struct.unpack_from("<BBHIH", body)
        with self._lock:
            if endpoint & IN:
                self._waiting[endpoint].append((number, low | high << 16))
            else:
                self._coming[endpoint].append((number, body[10:]))
        self._go_on()

    def _cancel(self, number: int) -> None:
        with self._lock:
            queues: list[tuple[int, deque[Any]]] = [*self._waiting.items(), *self._coming.items()]
            for endpoint, queue in queues:
                for entry in [each for each in queue if each[0] == number]:
                    queue.remove(entry)
                    self._answer_bulk(number, endpoint, _CANCELLED)

    def _answer_bulk(self, number: int, endpoint: int, status: int, data: bytes = b"", size: int | None = None) -> None:
        count = len(data) if size is None else size
        self._send(_BULK, number, struct.pack("<BBHIH", endpoint, status, count & 0xFFFF, 0, count >> 16) + data)

    # -- the model --------------------------------------------------------------------------------------------------

    def _go_on(self) -> None:
        """Something has changed: let go on what can."""
        try:
            with self._lock:
                for endpoint, reads in self._waiting.items():
                    self._read(endpoint, reads)
                for endpoint in self._interrupts:
                    self._interrupt(endpoint)
                for endpoint, writes in self._coming.items():
                    self._write(endpoint, writes)
        except OSError:
            pass  # it was pulled out just now

    def _read(self, endpoint: int, reads: deque[tuple[int, int]]) -> None:
        model = self._model
        while reads:
            number, room = reads[0]
            if endpoint in model.halted:
                reads.popleft()
                self._answer_bulk(number, endpoint, _STALLED)
                continue
            with model.changed:
                data = model.take(endpoint, room)
            if data is None:
                return
            reads.popleft()
            self._answer_bulk(number, endpoint, _OK, data)

    def _interrupt(self, endpoint: int) -> None:
        while True:
            with self._model.changed:
                data = self._model.take(endpoint, self._model.packet(endpoint))
            if data is None:
                return
            if data:
                self._send(_INTERRUPT, 0, struct.pack("<BBH", endpoint, _OK, len(data)) + data)

    def _write(self, endpoint: int, writes: deque[tuple[int, bytes]]) -> None:
        while writes:
            number, data = writes[0]
            if endpoint in self._model.halted:
                writes.popleft()
                self._answer_bulk(number, endpoint, _STALLED)
                continue
            if not self._model.has_room(endpoint):
                return
            writes.popleft()
            self._answer_bulk(number, endpoint, _OK, size=len(data))
            self._model.received(endpoint, data)


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
