"""A pseudo serial port: a pty whose slave is the port, under names that come and go as those of a USB adapter do.

folder/ttyA0                  -> /dev/pts/7       the device node; another one after re-enumeration
folder/by-id/usb-hil-A-if00   -> ../ttyA0         stays the same, as under /dev/serial/by-id
"""

from __future__ import annotations

import os
import pty
import termios
import tty
from array import array
from fcntl import ioctl
from pathlib import Path
from typing import Final

TCGETS2: Final = 0x802C542A
"""<asm-generic/ioctls.h>. Unlike TCGETS it tells any speed as a number, also those without a name such as 250000."""
_CFLAG, _OSPEED = 2, 10
"""Places in struct termios2, in words of 4 bytes."""
_DATA_BITS: Final = {termios.CS5: 5, termios.CS6: 6, termios.CS7: 7, termios.CS8: 8}


class Tty:
    """One end of a wire, as the kernel's serial ports are seen by programs. Used by one thread at a time."""

    def __init__(self, folder: Path, label: str, name: str) -> None:
        self.folder = folder
        self.by_id = folder / "by-id" / f"usb-hil-{label}-if00"
        self.by_id.parent.mkdir(parents=True, exist_ok=True)
        self.name = name
        self.master = -1
        self._slave = -1
        self.plug()

    @property
    def node(self) -> Path:
        """What is opened as the port; not there while it is unplugged."""
        return self.folder / self.name

    @property
    def plugged(self) -> bool:
        return self.master >= 0

    def plug(self, name: str | None = None) -> None:
        """Let the port be there, raw, at the kernel's first speed; called `name` from now on. Idempotent."""
        if self.plugged:
            return
        self.name = name or self.name
        # The slave stays open here, or the master would fail with EIO between two users of the port.
        self.master, self._slave = pty.openpty()
        tty.setraw(self._slave)
        os.set_blocking(self.master, False)
        self.node.symlink_to(os.ttyname(self._slave))
        self.by_id.symlink_to(Path("..") / self.name)

    def unplug(self) -> None:
        """Take the port away: its names vanish, and whoever has it open sees it hang up. Idempotent."""
        if not self.plugged:
            return
        self.by_id.unlink(missing_ok=True)
        self.node.unlink(missing_ok=True)
        for descriptor in (self._slave, self.master):
            os.close(descriptor)
        self.master = self._slave = -1

    @property
    def settings(self) -> tuple[int, int]:
        """`(baud, bits)` as the port's owner set them last; bits of a character with start, parity and stop bits."""
        words = array("I", bytes(64))
        ioctl(self.master, TCGETS2, words)
        cflag = words[_CFLAG]
        data = _DATA_BITS[cflag & termios.CSIZE]
        return words[_OSPEED], 1 + data + bool(cflag & termios.PARENB) + 1 + bool(cflag & termios.CSTOPB)

    @property
    def waiting(self) -> int:
        """Bytes that the owner has written and nobody has taken; the kernel tells of the first 2 kB or so."""
        count = array("i", [0])
        ioctl(self.master, termios.FIONREAD, count)
        return count[0]
