"""The kinds of wires that a suite can run over, each with its quirks.

pty       two pseudo serial ports (hil.pty_wire)
socket    the same, with end A served as raw bytes on TCP, as a serial device server does
rfc2217   the same, with end A served by RFC 2217: its settings reach the port
real      two ports of this computer that a cable joins (--hil-serial)
"""

from __future__ import annotations

import time
from typing import Any, Final, Protocol

import serial

from hil.faults import End
from hil.port_server import PortServer
from hil.pty_wire import PtyWire
from hil.quirks import Quirk

PROBE: Final = bytes(range(256))
PROBE_S: Final = 2.0


class Wire(Protocol):
    """What every kind has. What else it has, faults for one, is left to it: ask its quirks."""

    quirks: frozenset[Quirk]

    def address(self, end: End) -> str:
        """What `serial.serial_for_url` opens as this end."""

    def channel_url(self, end: End, options: str = "") -> str:
        """What `gateway.channels.open_channel` opens; `options` such as `baudrate=9600&framing=raw`."""

    def close(self) -> None:
        """Let go of it. Idempotent."""


class SocketWire(PtyWire):
    """End A is `socket://`: what is set there goes nowhere; the port at the server keeps the kernel's first speed."""

    def __init__(self, baud: Any = None, **settings: Any) -> None:
        super().__init__(baud, **settings)
        self.quirks = frozenset({*self.quirks - {Quirk.NO_EOF}, Quirk.NO_SETTINGS, Quirk.NO_NODE})
        self._server = PortServer(lambda: self.by_id(End.A), settings=False)

    def address(self, end: End) -> str:
        return self._server.url if end is End.A else super().address(end)

    def close(self) -> None:
        self._server.close()
        super().close()


class Rfc2217Wire(PtyWire):
    """End A is `rfc2217://`."""

    def __init__(self, baud: Any = None, **settings: Any) -> None:
        super().__init__(baud, **settings)
        self.quirks = frozenset({*self.quirks - {Quirk.NO_EOF}, Quirk.NO_NODE})
        self._server = PortServer(lambda: self.by_id(End.A), settings=True)

    def address(self, end: End) -> str:
        return self._server.url if end is End.A else super().address(end)

    def close(self) -> None:
        self._server.close()
        super().close()


class RealWire:
    """Two ports of this computer and the cable between them."""

    def __init__(self, a: str, b: str) -> None:
        """Raises ValueError when what is written to one does not come out of the other."""
        self._ports = a, b
        quirks = {Quirk.REAL, Quirk.NO_FAULTS, Quirk.NO_EOF}
        with (
            serial.Serial(a, timeout=PROBE_S, exclusive=True) as one,
            serial.Serial(b, timeout=PROBE_S, exclusive=True) as other,
        ):
            for source, target in ((one, other), (other, one)):
                source.write(PROBE)
                if target.read(len(PROBE)) != PROBE:
                    raise ValueError(f"{source.port} and {target.port} are not joined: join TX with RX, and ground")
            if not _modem_lines_cross(one, other):
                quirks.add(Quirk.NO_MODEM_LINES)
        self.quirks = frozenset(quirks)

    def address(self, end: End) -> str:
        return self._ports[end]

    def channel_url(self, end: End, options: str = "") -> str:
        return f"serial://{self._ports[end]}?{options}" if options else f"serial://{self._ports[end]}"

    def close(self) -> None:
        """Nothing to let go of."""


def _modem_lines_cross(one: serial.Serial, other: serial.Serial) -> bool:
    try:
        for level in (False, True):
            one.rts = level
            deadline = time.monotonic() + 0.2
            while other.cts is not level:
                if time.monotonic() > deadline:
                    return False
    except OSError:
        return False
    return True


KINDS: Final[dict[str, type[PtyWire]]] = {"pty": PtyWire, "socket": SocketWire, "rfc2217": Rfc2217Wire}
"""The kinds that can be made here."""
