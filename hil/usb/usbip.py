"""Carrier: USB/IP into this machine's own kernel (vhci_hcd), as root: Linux's Documentation/usb/usbip_protocol.rst.

plug = UsbIp(model)     plugged in: the kernel enumerates it, its drivers and libusb see it
plug.close()            pulled out
"""

from __future__ import annotations

import socket
import struct
from collections import defaultdict, deque
from pathlib import Path
from threading import RLock, Thread
from typing import Any, Final

from hil.usb.model import IN, Setup, Stall, UsbModel

VHCI: Final = Path("/sys/devices/platform/vhci_hcd.0")
_HIGH_SPEED: Final = 3
_SUBMIT, _UNLINK, _SUBMITTED, _UNLINKED = 1, 2, 3, 4
_EPIPE, _ECONNRESET = -32, -104
_DEVICE: Final = 1 << 16 | 2


class UsbIp:
    """A model on a port of vhci_hcd. Raises OSError where the kernel has none, or this is not root."""

    def __init__(self, model: UsbModel, port: int = 0) -> None:
        self._model = model
        self._socket, kernels = socket.socketpair()
        self._lock = RLock()
        self._waiting: dict[int, deque[tuple[int, int]]] = defaultdict(deque)
        """Reads that wait, by endpoint: number and size."""
        self._coming: dict[int, deque[tuple[int, bytes]]] = defaultdict(deque)
        model.was_plugged()
        model.on_change.append(self._go_on)
        self._thread = Thread(target=self._run, name=f"usbip {model.serial_number}", daemon=True)
        self._thread.start()
        with kernels:
            (VHCI / "attach").write_text(f"{port} {kernels.fileno()} {_DEVICE} {_HIGH_SPEED}")

    def close(self) -> None:
        """Pull the device out. Idempotent."""
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            return
        self._thread.join()

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
                head = self._take(48)
                kind, number, _, incoming, endpoint = struct.unpack_from(">IIIII", head)
                if kind == _SUBMIT:
                    size = struct.unpack_from(">i", head, 24)[0]
                    data = self._take(size) if size and not incoming else b""
                    self._submit(number, endpoint | (IN if incoming else 0), size, head[40:48], data)
                elif kind == _UNLINK:
                    self._unlink(number, struct.unpack_from(">I", head, 20)[0])
        except (EOFError, OSError):
            pass
        finally:
            self._model.on_change.remove(self._go_on)
            self._model.was_unplugged()
            self._socket.close()

    def _submit(self, number: int, endpoint: int, size: int, setup: bytes, data: bytes) -> None:
        if endpoint & 15 == 0:
            request = Setup(*struct.unpack("<BBHHH", setup))
            try:
                answer = self._model.control(request, data)
            except Stall:
                self._answer(number, _EPIPE)
                return
            self._answer(number, 0, answer, None if request.kind & IN else len(data))
            return
        with self._lock:
            if endpoint & IN:
                self._waiting[endpoint].append((number, size))
            else:
                self._coming[endpoint].append((number, data))
        self._go_on()

    def _unlink(self, number: int, which: int) -> None:
        found = False
        with self._lock:
            queues: list[deque[Any]] = [*self._waiting.values(), *self._coming.values()]
            for queue in queues:
                for entry in [each for each in queue if each[0] == which]:
                    queue.remove(entry)
                    found = True
            status = _ECONNRESET if found else 0
            self._socket.sendall(struct.pack(">IIIIIi24x", _UNLINKED, number, 0, 0, 0, status))

    def _answer(self, number: int, status: int, data: bytes = b"", size: int | None = None) -> None:
        count = len(data) if size is None else size
        head = struct.pack(">IIIIIiIIII8x", _SUBMITTED, number, 0, 0, 0, status, count, 0, 0, 0)
        with self._lock:
            self._socket.sendall(head + data)

    def _go_on(self) -> None:
        """Something has changed: let go on what can."""
        try:
            with self._lock:
                for endpoint, reads in self._waiting.items():
                    self._read(endpoint, reads)
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
                self._answer(number, _EPIPE)
                continue
            with model.changed:
                data = model.take(endpoint, room)
            if data is None:
                return
            reads.popleft()
            self._answer(number, 0, data)

    def _write(self, endpoint: int, writes: deque[tuple[int, bytes]]) -> None:
        while writes:
            number, data = writes[0]
            if endpoint in self._model.halted:
                writes.popleft()
                self._answer(number, _EPIPE)
                continue
            if not self._model.has_room(endpoint):
                return
            writes.popleft()
            self._answer(number, 0, size=len(data))
            self._model.received(endpoint, data)
