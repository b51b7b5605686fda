"""A serial port on USB (CDC-ACM), as a board with native USB has: the kernel makes /dev/ttyACM0 of it."""

from __future__ import annotations

import os
import pty
import struct
import threading
import tty
from typing import Final

from hil.usb.model import INTERRUPT, Endpoint, Interface, Setup, Stall, UsbModel

COMING: Final = 0x81
GOING: Final = 0x02
NOTIFICATION: Final = 0x83
_SET_LINE_CODING, _GET_LINE_CODING, _SET_CONTROL_LINE_STATE, _SEND_BREAK = 0x20, 0x21, 0x22, 0x23
_FUNCTIONAL: Final = bytes([5, 0x24, 0, 0x10, 1, 5, 0x24, 1, 0, 1, 4, 0x24, 2, 6, 5, 0x24, 6, 0, 1])
"""Header, call management, abstract control, union: CDC 1.2, 5.2.3, and PSTN 1.2, 5.3."""


class AcmPort(UsbModel):
    """A port whose other end is `received_bytes` and `put`, or a pty that `join_pty` makes."""

    def __init__(self, serial_number: str = "ACM0001", *, vid: int = 0x1209, pid: int = 0x0003) -> None:
        control = Interface(0, 2, 2, 1, (Endpoint(NOTIFICATION, INTERRUPT, 16),), extra=_FUNCTIONAL)
        data = Interface(1, 10, 0, 0, (Endpoint(COMING), Endpoint(GOING)))
        super().__init__(
            vid=vid, pid=pid, serial_number=serial_number, product="CDC-ACM", interfaces=(control, data), device_class=2
        )
        self.baudrate = 9600
        self.dtr = self.rts = False
        self.breaks: list[int] = []
        """The milliseconds of each break; 65535 and 0 are its beginning and end."""
        self._coding = struct.pack("<IBBB", 9600, 0, 0, 8)
        self._far: int | None = None

    def request(self, setup: Setup, data: bytes) -> bytes:
        if setup.kind == 0x21 and setup.request == _SET_LINE_CODING and len(data) == 7:
            self._coding = data
            self.baudrate = struct.unpack("<I", data[:4])[0]
        elif setup.kind == 0xA1 and setup.request == _GET_LINE_CODING:
            return self._coding
        elif setup.kind == 0x21 and setup.request == _SET_CONTROL_LINE_STATE:
            self.dtr, self.rts = bool(setup.value & 1), bool(setup.value & 2)
        elif setup.kind == 0x21 and setup.request == _SEND_BREAK:
            self.breaks.append(setup.value)
        else:
            raise Stall
        return b""

    def lines(self, *, dcd: bool = False, dsr: bool = False, ring: bool = False) -> None:
        """Set the modem lines, as the host sees them (PSTN 1.2, 6.5.4)."""
        self._tell(dcd | dsr << 1 | ring << 3)

    def line_error(self, *, framing: bool = False, parity: bool = False, overrun: bool = False) -> None:
        """Have the host see errors of the line: each puts a zero byte into what it reads."""
        self._tell(framing << 4 | parity << 5 | overrun << 6)

    def _tell(self, state: int) -> None:
        self.send(NOTIFICATION, bytes([0xA1, 0x20, 0, 0, 0, 0, 2, 0]) + struct.pack("<H", state))

    def put(self, data: bytes) -> None:
        """Bytes for the host to read."""
        self.send(COMING, data)
        if data and len(data) % self.packet(COMING) == 0:
            self.send(COMING, b"")

    def received(self, address: int, data: bytes) -> None:
        if self._far is not None and data:
            os.write(self._far, data)

    def join_pty(self) -> str:
        """Make a pty whose bytes are those of the port; its path. What runs there is the board."""
        master, slave = pty.openpty()
        tty.setraw(slave)
        self._far = master
        threading.Thread(target=self._carry, args=(master,), name="acm pty", daemon=True).start()
        return os.ttyname(slave)

    def _carry(self, master: int) -> None:
        while True:
            try:
                data = os.read(master, 4096)
            except OSError:
                return
            if data:
                self.put(data)
