"""A serial line that ends in a simulator: a pseudo terminal whose slave is the port that pyserial opens.

    driver -- pyserial -- /dev/pts/7  |  master -- serve() -- Instrument.receive

The simulator keeps the slave open too: without that its master end would fail with EIO whenever no one has the port
open. There are no modem lines, no parity and no baud rate on a pty. Each direction holds about 20 kB before it blocks.
"""

from __future__ import annotations

import os
import pty
import select
import threading
import tty
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from devices.simulators.instrument import Instrument, Unplugged

CHUNK: Final = 4096
MAX_UNSENT: Final = 64 * 1024 * 1024
"""An instrument whose reader takes nothing may have this much to say; then it is not listened to until that is read."""


class SimulatedLine:
    """A pseudo serial port: `path` for pyserial, `master` for the simulator. A context manager.

    With `link`, a symbolic link of that name leads to the port and is `path`: it stays the same over unplug and replug.
    """

    def __init__(self, link: Path | None = None) -> None:
        self.master, self._slave = pty.openpty()
        tty.setraw(self._slave)
        os.set_blocking(self.master, False)
        self._link = link
        self.path = os.ttyname(self._slave)
        if link is not None:
            link.unlink(missing_ok=True)
            link.symlink_to(self.path)
            self.path = str(link)
        self._closed = False

    def close(self) -> None:
        """Pull the plug: whoever has the port open sees it hang up. Idempotent."""
        if self._closed:
            return
        self._closed = True
        if self._link is not None:
            self._link.unlink(missing_ok=True)
        os.close(self._slave)
        os.close(self.master)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def serve(line: SimulatedLine, instrument: Instrument, *, stop: tuple[int, ...]) -> None:
    """Carry bytes between `line` and `instrument` until one of the descriptors in `stop` is readable or it leaves."""
    try:
        unsent = bytearray(instrument.receive(b""))
        while True:
            listening = [line.master] if len(unsent) < MAX_UNSENT else []
            readable, writable, _ = select.select([*stop, *listening], [line.master] if unsent else [], [])
            if set(stop) & set(readable):
                return
            if writable:
                # A pty takes what it has room for, at least one byte when it says so.
                del unsent[: os.write(line.master, unsent[:CHUNK])]
            if readable:
                unsent += instrument.receive(os.read(line.master, CHUNK))
    except Unplugged:
        return


class Simulator:
    """An instrument on its own line, served by a thread. A context manager.

    `unplug` takes the port away, `replug` brings it back: under the same path when there is a `link`.
    """

    def __init__(self, instrument: Instrument, *, link: Path | None = None) -> None:
        self.instrument = instrument
        self._link = link
        self._stop_read, self._stop_write = os.pipe()
        self.gone = threading.Event()
        """Set while the port is not there."""
        self.replug()

    @property
    def path(self) -> str:
        """The port for pyserial."""
        return self._line.path

    def replug(self) -> None:
        """Make the port, and serve it."""
        self.gone.clear()
        self._line = SimulatedLine(self._link)
        self._thread = threading.Thread(target=self._serve, args=(self._line,), name="simulator", daemon=True)
        self._thread.start()

    def unplug(self) -> None:
        """Take the port away. Idempotent; returns when it is gone."""
        if self._thread.is_alive():
            os.write(self._stop_write, b"x")
            self._thread.join()
            # The thread may have left by itself in the meantime.
            if select.select([self._stop_read], [], [], 0)[0]:
                os.read(self._stop_read, CHUNK)

    def close(self) -> None:
        """Take the port away for good. Call once."""
        self.unplug()
        os.close(self._stop_read)
        os.close(self._stop_write)

    def _serve(self, line: SimulatedLine) -> None:
        with line:
            serve(line, self.instrument, stop=(self._stop_read,))
        self.gone.set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
