"""The RPyC function on a USB device controller, through the kernel's FunctionFS: Linux's Documentation/usb/functionfs.

A folder where FunctionFS is mounted has a file for each endpoint. What is written to ep0 first describes the function;
afterwards it gives events: the host configured the device, or sent a control request.
"""

from __future__ import annotations

import contextlib
import errno
import os
import struct
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from gateway.channels import usb_session as session
from gateway.channels.usb_function import Function, FunctionStream, Piece
from gateway.errors import LinkDown

COMING: Final = 0x81
GOING: Final = 0x02
_DESCRIPTORS_V2, _STRINGS = 3, 2
_HAS_FULL_SPEED, _HAS_HIGH_SPEED, _HAS_SUPER_SPEED = 1, 2, 4
_BIND, _UNBIND, _ENABLE, _DISABLE, _SETUP = range(5)
_EVENT: Final = 12

_GONE: Final = frozenset({errno.ESHUTDOWN, errno.ENODEV, errno.ECONNRESET, errno.EPIPE})
_PACKETS: Final = {"full-speed": 64, "high-speed": 512, "super-speed": 1024, "super-speed-plus": 1024}
LEAST: Final = 4096
"""Bytes that the kernel must have memory for."""
HALT_S: Final = 1.0
HALT_STEP_S: Final = 0.005


def descriptors() -> bytes:
    """One interface with a bulk endpoint in each direction, at full, high and super speed."""
    interface = struct.pack("<BBBBBBBBB", 9, 4, 0, 0, 2, session.CLASS, session.SUBCLASS, session.PROTOCOL, 1)
    bodies = b""
    for packet, companion in ((64, b""), (512, b""), (1024, struct.pack("<BBBBH", 6, 0x30, 0, 0, 0))):
        ends = [struct.pack("<BBBBHB", 7, 5, address, 2, packet, 0) + companion for address in (COMING, GOING)]
        bodies += interface + b"".join(ends)
    flags = _HAS_FULL_SPEED | _HAS_HIGH_SPEED | _HAS_SUPER_SPEED
    counts = struct.pack("<III", 3, 3, 5)
    return struct.pack("<III", _DESCRIPTORS_V2, 12 + len(counts) + len(bodies), flags) + counts + bodies


def strings() -> bytes:
    """The name of the interface, in English."""
    text = struct.pack("<H", 0x409) + session.NAME.encode() + b"\0"
    return struct.pack("<IIII", _STRINGS, 16 + len(text), 1, 1) + text


class FfsFunction:
    """The function whose FunctionFS is mounted at `folder`. `on_stream` gets each session's bytes; it must not wait."""

    def __init__(
        self, folder: Path, on_stream: Callable[[FunctionStream], None], name: str, speed: Callable[[], str]
    ) -> None:
        """`speed` is the controller's `current_speed`, such as `high-speed`."""
        self._speed = speed
        self._ep0 = os.open(folder / "ep0", os.O_RDWR | os.O_CLOEXEC)
        self._wire = FfsWire()
        self._function = Function(self._wire, on_stream, name)
        self._enabled = threading.Event()
        self._closed = False
        self._coming = self._going = -1
        self._events = threading.Thread(target=self._take_events, name=f"events of {name}", daemon=True)
        self._data = threading.Thread(target=self._take_data, name=f"data of {name}", daemon=True)
        try:
            os.write(self._ep0, descriptors())
            os.write(self._ep0, strings())
            self._coming = os.open(folder / "ep1", os.O_RDWR | os.O_CLOEXEC)
            self._going = os.open(folder / "ep2", os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            self.close()
            raise
        self._wire.fd = self._coming

    def start(self) -> None:
        """Take events and data. Before the controller is bound: the host comes at once."""
        self._events.start()
        self._data.start()

    def _take_events(self) -> None:
        while not self._closed:
            try:
                events = os.read(self._ep0, 8 * _EVENT)
            except OSError as error:
                if error.errno == errno.EINTR:
                    continue
                return
            for at in range(0, len(events) - _EVENT + 1, _EVENT):
                self._take_event(events[at : at + 8], events[at + 8])

    def _take_event(self, setup: bytes, kind: int) -> None:
        if kind == _ENABLE:
            self._wire.packet = _PACKETS.get(self._speed(), _PACKETS["high-speed"])
            self._wire.enabled = True
            self._enabled.set()
        elif kind in (_DISABLE, _UNBIND):
            self._wire.enabled = False
            self._enabled.clear()
            self._function.lost()
        elif kind == _SETUP:
            with contextlib.suppress(OSError):  # the host gave it up, or asks for something else already
                self._answer(*struct.unpack("<BBHHH", setup))

    def _answer(self, kind: int, request: int, value: int, index: int, length: int) -> None:
        opens = request == session.OPEN and value == session.VERSION and length == session.NONCE
        if kind != session.TO_DEVICE or not (opens or (request == session.CLOSE and not length)):
            # To go in the wrong direction is to stall.
            os.read(self._ep0, 0) if kind & 0x80 else os.write(self._ep0, b"")
            return
        if opens:
            self._wire.begin()  # before the host hears that it is done
            self._function.opened(os.read(self._ep0, length))
            return
        os.read(self._ep0, 0)
        self._function.closed()
        self._wire.halt()  # a read of the host's that waits is to end

    def _take_data(self) -> None:
        size = session.DEVICE
        while not self._closed:
            self._enabled.wait()
            if self._closed:
                return
            try:
                data = os.read(self._going, size)
            except OSError as error:
                if error.errno == errno.ENOMEM and size > LEAST:
                    size //= 2  # the kernel's buffer is one piece of memory
                    continue
                if error.errno not in _GONE and error.errno != errno.EINTR:
                    return
                time.sleep(HALT_STEP_S)  # until the event that says so has come
                continue
            self._function.received(data)

    def close(self) -> None:
        """End what runs. The controller is unbound before, so that no thread waits for the host. Idempotent."""
        if self._closed:
            return
        self._closed = True
        self._enabled.set()
        self._function.lost()
        if self._data.is_alive():
            self._data.join(HALT_S)  # so that it reads no file that gets the number of its own
        for fd in (self._coming, self._going, self._ep0):
            if fd >= 0:
                os.close(fd)


class FfsWire:
    """The endpoint that goes to the host."""

    def __init__(self) -> None:
        self.fd = -1
        self.enabled = False
        self.packet = _PACKETS["high-speed"]
        self._lock = threading.Lock()
        self._session = 0
        self._size = session.DEVICE

    def send(self, piece: Piece, progress_s: float, is_over: Callable[[], bool], *, ends: bool = True) -> None:
        """See Wire. The kernel has no time limit here: who waits does so until the host reads, or is gone."""
        size = sum(map(len, piece))
        with self._lock:
            if is_over():
                raise LinkDown("it is over")
            try:
                if size <= self._size:
                    self._write(piece)
                else:
                    self._write_less(b"".join(piece))
                if ends and size % self.packet == 0:
                    os.write(self.fd, b"")  # the end of the transfer
            except OSError as error:
                raise LinkDown(f"the USB host is gone: {error.strerror}") from None

    def _write(self, piece: Piece) -> None:
        try:
            os.writev(self.fd, piece)  # the kernel takes all of it, or fails
        except OSError as error:
            if error.errno != errno.ENOMEM:
                raise
            self._write_less(b"".join(piece))

    def _write_less(self, data: bytes) -> None:
        """Less in one go: the kernel's buffer is one piece of memory, and there is none of that size."""
        sent = 0
        while sent < len(data):
            try:
                sent += os.write(self.fd, data[sent : sent + self._size])
            except OSError as error:
                if error.errno != errno.ENOMEM or self._size <= LEAST:
                    raise
                self._size //= 2

    def wake(self) -> None:
        """Nobody waits in a way that could be woken."""

    def begin(self) -> None:
        self._session += 1

    def halt(self) -> None:
        threading.Thread(target=self._halt, args=(self._session,), name="halt", daemon=True).start()

    def _halt(self, number: int) -> None:
        deadline = time.monotonic() + HALT_S
        while self.enabled and time.monotonic() < deadline:
            # While somebody writes, the kernel would have us wait, and halt a later session then.
            if self._lock.acquire(blocking=False):
                try:
                    if number != self._session or self._halt_now():
                        return
                finally:
                    self._lock.release()
            time.sleep(HALT_STEP_S)

    def _halt_now(self) -> bool:
        """Halt the endpoint, if all that was sent has been read; whether there is nothing more to do."""
        try:
            os.read(self.fd, 0)  # the wrong direction
        except OSError as error:
            return error.errno != errno.EAGAIN  # EBADMSG: it is halted
        return False
