"""Carrier: USB/IP into this machine's own kernel (vhci_hcd), as root: Linux's Documentation/usb/usbip_protocol.rst.

plug = UsbIp(model)     plugged in: the kernel enumerates it, its drivers and libusb see it
plug.close()            pulled out
"""

from __future__ import annotations

import socket
import struct
from pathlib import Path
from threading import Thread
from typing import Final

from hil.usb.model import IN, Setup, Stall, UsbModel
from hil.usb.transfers import DONE, STALLED, Transfers, exactly

VHCI: Final = Path("/sys/devices/platform/vhci_hcd.0")
_HIGH_SPEED: Final = 3
_SUBMIT, _UNLINK, _SUBMITTED, _UNLINKED = 1, 2, 3, 4
_EPIPE, _ECONNRESET = -32, -104
_DEVICE: Final = 1 << 16 | 2


class UsbIp(Transfers):
    """A model on a port of vhci_hcd. Raises OSError where the kernel has none, or this is not root."""

    def __init__(self, model: UsbModel, port: int = 0) -> None:
        self._socket, kernels = socket.socketpair()
        super().__init__(model)
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

    def _run(self) -> None:
        try:
            while True:
                head = exactly(self._socket, 48)
                kind, number, _, incoming, endpoint = struct.unpack_from(">IIIII", head)
                if kind == _SUBMIT:
                    size = struct.unpack_from(">i", head, 24)[0]
                    data = exactly(self._socket, size) if size and not incoming else b""
                    self._submit(number, endpoint | (IN if incoming else 0), size, head[40:48], data)
                elif kind == _UNLINK:
                    self._unlink(number, struct.unpack_from(">I", head, 20)[0])
        except (EOFError, OSError):
            pass
        finally:
            self.end()
            self._socket.close()

    def _submit(self, number: int, endpoint: int, size: int, setup: bytes, data: bytes) -> None:
        if endpoint & 15 == 0:
            request = Setup(*struct.unpack("<BBHHH", setup))
            try:
                answer = self.model.control(request, data)
            except Stall:
                self.answer(number, endpoint, STALLED, b"", 0)
                return
            self.answer(number, endpoint, DONE, answer, len(answer) if request.kind & IN else len(data))
        elif endpoint & IN:
            self.read(number, endpoint, size)
        else:
            self.write(number, endpoint, data)

    def _unlink(self, number: int, which: int) -> None:
        with self.lock:
            status = 0 if self.cancel(which) is None else _ECONNRESET
            self._socket.sendall(struct.pack(">IIIIIi24x", _UNLINKED, number, 0, 0, 0, status))

    def answer(self, number: int, endpoint: int, status: int, data: bytes, size: int) -> None:
        """See Transfers."""
        code = _EPIPE if status == STALLED else 0
        head = struct.pack(">IIIIIiIIII8x", _SUBMITTED, number, 0, 0, 0, code, size, 0, 0, 0)
        with self.lock:
            self._socket.sendall(head + data)
