"""An instrument that speaks USBTMC-USB488: what it says is up to a simulator, or anything else that takes bytes."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final

from hil.usb.model import INTERRUPT, Endpoint, Interface, Setup, Stall, UsbModel

COMING: Final = 0x81
GOING: Final = 0x02
STATUS: Final = 0x83
HEADER: Final = 12
_OUT, _REQUEST_IN = 1, 2
_INITIATE_CLEAR, _CHECK_CLEAR_STATUS, _GET_CAPABILITIES, _READ_STATUS_BYTE = 5, 6, 7, 128
_SUCCESS: Final = b"\x01"


class TmcInstrument(UsbModel):
    """`receive` gets each message that came and gives what there is to say. `status` is the status byte."""

    def __init__(
        self,
        receive: Callable[[bytes], bytes],
        serial_number: str = "TMC0001",
        *,
        vid: int = 0x1209,
        pid: int = 0x0002,
        status: Callable[[], int] = lambda: 0,
    ) -> None:
        endpoints = (Endpoint(COMING), Endpoint(GOING), Endpoint(STATUS, INTERRUPT, 64))
        super().__init__(
            vid=vid,
            pid=pid,
            serial_number=serial_number,
            product="USBTMC",
            interfaces=(Interface(0, 0xFE, 3, 1, endpoints),),
        )
        self._receive = receive
        self._status = status
        self._came = bytearray()
        self._message = bytearray()
        self._answer = bytearray()
        self._asked: tuple[int, int] | None = None
        self.clears = 0
        """How often it was cleared."""
        self.most = 1 << 30
        """Bytes that it gives in one transfer at most."""
        self.mute = False
        """Whether it gives no answer."""

    def request(self, setup: Setup, data: bytes) -> bytes:
        if setup.kind != 0xA1:
            raise Stall
        if setup.request == _GET_CAPABILITIES:
            return _SUCCESS + b"\0\x00\x01" + bytes(8) + b"\x00\x01\x04\x0f" + bytes(8)
        if setup.request == _INITIATE_CLEAR:
            self._clear()
            return _SUCCESS
        if setup.request == _CHECK_CLEAR_STATUS:
            return _SUCCESS + b"\0"
        if setup.request == _READ_STATUS_BYTE:
            self.send(STATUS, bytes([0x80 | setup.value & 0x7F, self._status()]))
            return _SUCCESS + bytes([setup.value & 0xFF, 0])
        raise Stall

    def _clear(self) -> None:
        self.clears += 1
        for each in (self._came, self._message, self._answer):
            each.clear()
        self._asked = None
        self.drop(COMING)

    def received(self, address: int, data: bytes) -> None:
        # A host may send one message in several transfers, of which only the first begins with a header.
        self._came += data
        while len(self._came) >= HEADER:
            kind, tag, size, attributes = struct.unpack_from("<BBxxIB", self._came)
            if kind == _REQUEST_IN:
                del self._came[:HEADER]
                self._asked = tag, size
            elif kind == _OUT and len(self._came) >= HEADER + size + -size % 4:
                self._message += self._came[HEADER : HEADER + size]
                del self._came[: HEADER + size + -size % 4]
                if attributes & 1:
                    message = bytes(self._message)
                    self._message.clear()
                    self._answer += self._receive(message)
            elif kind == _OUT:
                return
            else:
                self._came.clear()
                self.halt(COMING)
                return
        self._give()

    def say(self) -> None:
        """Give what was held back."""
        self.mute = False
        self._give()

    def _give(self) -> None:
        if self._asked is None or not self._answer or self.mute:
            return
        tag, most = self._asked
        self._asked = None
        piece = bytes(self._answer[: min(most, self.most)])
        del self._answer[: len(piece)]
        ends = not self._answer
        whole = struct.pack("<BBBxIB3x", _REQUEST_IN, tag, ~tag & 255, len(piece), ends) + piece
        whole += bytes(-len(whole) % 4)
        self.send(COMING, whole)
        if len(whole) % self.packet(COMING) == 0:
            self.send(COMING, b"")
