"""A link for each device that is found by what it is: its driver opens the link, wherever the device is plugged in.

    /run/instrument-gateway/ports-812-x3kd/psu1 -> /dev/serial/by-id/usb-FTDI_..._FT8X2Q-if00-port0

The driver's `port` stays the same while the device comes and goes under other names, so drivers need not be made anew
and clients keep what they hold. A device that is not there has no link: opening it fails, and reaches no other device.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from contextlib import suppress
from pathlib import Path

from gateway.errors import ConfigError


def runtime_folder() -> Path | None:
    """Where links may be: the service's `RuntimeDirectory=`, or the user's; None where there is neither."""
    for variable in ("RUNTIME_DIRECTORY", "XDG_RUNTIME_DIR"):
        value = os.environ.get(variable, "").partition(":")[0]
        if value and os.path.isdir(value) and os.access(value, os.W_OK):
            return Path(value) if variable == "RUNTIME_DIRECTORY" else Path(value, "instrument-gateway")
    return None


class PortLinks:
    """The links of one gateway. `close` takes them away."""

    def __init__(self, folder: Path | None = None) -> None:
        """In `folder`, or in a folder of this gateway alone. Raises ConfigError where none can be made."""
        try:
            if folder is None:
                base = runtime_folder()
                if base is not None:
                    base.mkdir(mode=0o700, exist_ok=True)
                    _sweep(base)
                # A folder of its own, which nobody else can write in: two gateways don't change each other's links.
                prefix = f"ports-{os.getpid()}-" if base else "instrument-gateway-ports-"
                folder = Path(tempfile.mkdtemp(prefix=prefix, dir=base))
            else:
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as problem:
            raise ConfigError(f"no folder for links to ports: {problem}; set XDG_RUNTIME_DIR") from None
        self.folder = folder
        # Also where nobody came to close it.
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        self._made: set[str] = set()

    def path(self, name: str) -> str:
        """The link of the device `name`, whether it is there or not: what its driver gets as `port`."""
        return str(self.folder / name)

    def point(self, name: str, target: str) -> None:
        """Let the link of `name` lead to `target`, at one stroke. Raises OSError."""
        link = self.path(name)
        if os.path.islink(link) and os.readlink(link) == target:
            return
        new = f"{link}.new"
        with suppress(FileNotFoundError):
            os.unlink(new)
        os.symlink(target, new)
        os.replace(new, link)
        self._made.add(name)

    def drop(self, name: str) -> None:
        """Take the link of `name` away, if it is there."""
        with suppress(FileNotFoundError):
            os.unlink(self.path(name))
        self._made.discard(name)

    def close(self) -> None:
        """Take all links and the folder away. Idempotent; never raises."""
        for name in list(self._made):
            with suppress(OSError):
                self.drop(name)
        with suppress(OSError):
            self.folder.rmdir()


def _sweep(base: Path) -> None:
    """Take away what gateways left that were killed."""
    for folder in base.glob("ports-*-*"):
        pid = folder.name.split("-")[1]
        if pid.isdigit() and not os.path.exists(f"/proc/{pid}"):
            for link in folder.iterdir():
                with suppress(OSError):
                    link.unlink()
            with suppress(OSError):
                folder.rmdir()
