"""The RPyC function in software: what `gateway host --usb` is, with a model instead of a controller."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from time import monotonic
from typing import Final

from gateway.channels import usb_session as session
from gateway.channels.stream import StreamChannel
from gateway.channels.usb_function import Function, FunctionStream, Piece
from gateway.errors import LinkDown
from gateway.limits import DEFAULT_LIMITS, Limits
from hil.usb.model import Endpoint, Interface, Setup, Stall, UsbModel

COMING: Final = 0x81
"""To the host."""
GOING: Final = 0x02
MOST_QUEUED: Final = 2 * session.LARGE
"""So much waits to be read by the host, at most; more than one read of its takes."""
DRAIN_S: Final = 1.0


class RpycFunction(UsbModel):
    """A device that is nothing but the function. `channels` gives the device's end of each session."""

    def __init__(
        self, serial_number: str = "HIL0001", *, vid: int = 0x1209, pid: int = 0x0001, limits: Limits = DEFAULT_LIMITS
    ) -> None:
        interface = Interface(
            0,
            session.CLASS,
            session.SUBCLASS,
            session.PROTOCOL,
            (Endpoint(COMING), Endpoint(GOING)),
            name=session.NAME,
        )
        super().__init__(
            vid=vid, pid=pid, serial_number=serial_number, product="RPyC function", interfaces=(interface,)
        )
        self.channels: queue.Queue[StreamChannel] = queue.Queue()
        self._limits = limits
        self._function = Function(_ModelWire(self), self._take, f"the USB host of {serial_number}")

    def _take(self, stream: FunctionStream) -> None:
        self.channels.put(StreamChannel(stream, self._limits))

    def request(self, setup: Setup, data: bytes) -> bytes:
        if setup.kind != session.TO_DEVICE:
            raise Stall
        if setup.request == session.OPEN and setup.value == session.VERSION and len(data) == session.NONCE:
            self._function.opened(data)
        elif setup.request == session.CLOSE:
            self._function.closed()
            self.halt(COMING)  # a read that waits is to end
        else:
            raise Stall
        return b""

    def received(self, address: int, data: bytes) -> None:
        self._function.received(data)

    def has_room(self, address: int) -> bool:
        return super().has_room(address) and self._function.has_room

    def reset(self) -> None:
        if self.plugged:
            self._function.lost()
        super().reset()

    def was_unplugged(self) -> None:
        self._function.lost()
        super().was_unplugged()


class _ModelWire:
    def __init__(self, model: RpycFunction) -> None:
        self._model = model
        self._session = 0

    def send(self, piece: Piece, progress_s: float, is_over: Callable[[], bool], *, ends: bool = True) -> None:
        model, data = self._model, b"".join(piece)
        deadline = monotonic() + progress_s
        with model.changed:
            while model.plugged and model.queued(COMING) > MOST_QUEUED:
                if is_over():
                    raise LinkDown("it is over")
                if not model.changed.wait(deadline - monotonic()) and monotonic() >= deadline:
                    raise LinkDown(f"the USB host took no data for {progress_s:g} s")
        if not model.plugged:
            raise LinkDown("the USB cable was pulled")
        model.send(COMING, data)
        if ends and len(data) % model.packet(COMING) == 0:
            model.send(COMING, b"")

    def wake(self) -> None:
        self._model.tell()

    def begin(self) -> None:
        with self._model.changed:
            self._session += 1

    def halt(self) -> None:
        self._model.halt(GOING)
        threading.Thread(target=self._halt, args=(self._session,), name="halt", daemon=True).start()

    def _halt(self, session: int) -> None:
        model = self._model
        deadline = monotonic() + DRAIN_S
        with model.changed:
            while model.plugged and model.queued(COMING) and monotonic() < deadline:
                model.changed.wait(0.05)
            if session != self._session:
                return
            model.halted.add(COMING)
        model.tell()
