"""A microcontroller in QEMU that runs real firmware: its host's line, its console, and faults of the chip.

    with PtyWire(baud=115200) as wire, QemuBoard("link.elf", wire.port(End.B)) as board:
        conn = gateway.connect(wire.channel_url(End.A, "baudrate=115200"))
        board.reset(); board.stop(); board.go_on()
        board.wait_for("safe")

The first UART is the host's line: a tty, such as the end of a wire, or without one a TCP port. The second one is a
console: each line that the firmware writes there is kept, with the time at which it came.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import Any, Final, NamedTuple, Self

QEMU: Final = "qemu-system-arm"
MACHINE: Final = "lm3s6965evb"
START_S: Final = 10.0
ANSWER_S: Final = 10.0


class Told(NamedTuple):
    """A line of the board's console."""

    at_s: float
    """By `time.monotonic()`, when it had come."""
    text: str


class QemuFailed(RuntimeError):
    """QEMU is missing, did not start, or refused a command. The message has its own words."""


def missing() -> str:
    """Why no board can be run here; empty if one can."""
    return "" if shutil.which(QEMU) else f"there is no {QEMU} here (Debian's package qemu-system-arm)"


class QemuBoard:
    """One board. It runs when this returns. Raises QemuFailed."""

    def __init__(self, image: str | Path, line: str | None = None, *, machine: str = MACHINE) -> None:
        problem = missing()
        if problem:
            raise QemuFailed(problem)
        self._folder = tempfile.TemporaryDirectory(prefix="hil-qemu-")
        root = Path(self._folder.name)
        self._port = 0 if line is not None else _free_port()
        first = (
            f"socket,id=line,host=127.0.0.1,port={self._port},server=on,wait=off,nodelay=on"
            if line is None
            else f"serial,id=line,path={line}"
        )
        self._told: list[Told] = []
        self._changed = threading.Condition()
        self._process = subprocess.Popen(
            [
                *(QEMU, "-M", machine, "-kernel", str(image), "-display", "none", "-monitor", "none", "-S"),
                *("-chardev", first, "-serial", "chardev:line"),
                *("-chardev", f"socket,id=console,path={root / 'console'},server=on,wait=off"),
                *("-serial", "chardev:console", "-qmp", f"unix:{root / 'qmp'},server=on,wait=off"),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        try:
            self._console = self._reach(root / "console")
            self._control = self._reach(root / "qmp")
            self._control.settimeout(ANSWER_S)
            self._answers = self._control.makefile("r", encoding="utf-8")
            self._answers.readline()  # the greeting
            self._ask("qmp_capabilities")
        except BaseException:
            self.close()
            raise
        self._reader = threading.Thread(target=self._read_console, name="hil-qemu-console", daemon=True)
        self._reader.start()
        self.go_on()

    @property
    def url(self) -> str:
        """Where the host's line is, as a channel URL, if it is no tty."""
        return f"socket://127.0.0.1:{self._port}"

    @property
    def address(self) -> tuple[str, int]:
        """The same as an address."""
        return "127.0.0.1", self._port

    # -- faults -----------------------------------------------------------------------------------------------------

    def reset(self) -> None:
        """Pull the reset line for a moment. RAM keeps what it holds."""
        self._ask("system_reset")

    def stop(self) -> None:
        """Stop the clock: the chip hangs, and knows nothing of it."""
        self._ask("stop")

    def go_on(self) -> None:
        """Let the clock run."""
        self._ask("cont")

    def kill(self) -> None:
        """Take the power away."""
        self._process.kill()
        self._process.wait()

    # -- the console ------------------------------------------------------------------------------------------------

    @property
    def told(self) -> list[Told]:
        """All lines of the console so far."""
        with self._changed:
            return list(self._told)

    def wait_for(self, text: str, timeout_s: float = 10.0, *, after: int = 0) -> Told:
        """The first line from number `after` on that has `text` in it. Raises TimeoutError."""
        with self._changed:
            found: list[Told] = []

            def there() -> bool:
                found.extend(told for told in self._told[after:] if text in told.text)
                return bool(found)

            if not self._changed.wait_for(there, timeout_s):
                raise TimeoutError(f"the board did not say {text!r} within {timeout_s:g} s, but {self._told[after:]}")
            return found[0]

    def _read_console(self) -> None:
        rest = b""
        with contextlib.suppress(OSError):
            while data := self._console.recv(4096):
                at_s = monotonic()
                *lines, rest = (rest + data).split(b"\n")
                with self._changed:
                    self._told += [Told(at_s, line.decode("ascii", "replace")) for line in lines]
                    self._changed.notify_all()

    # -- QEMU -------------------------------------------------------------------------------------------------------

    def _reach(self, path: Path) -> socket.socket:
        deadline = monotonic() + START_S
        pause = threading.Event()
        while True:
            sock = socket.socket(socket.AF_UNIX)
            try:
                sock.connect(str(path))
                return sock
            except OSError:
                sock.close()
                if self._process.poll() is not None or monotonic() > deadline:
                    raise QemuFailed(f"{QEMU} did not start: {self._complaint()}") from None
                pause.wait(0.005)

    def _complaint(self) -> str:
        if self._process.poll() is None or self._process.stdout is None:
            return f"nothing within {START_S:g} s"
        return self._process.stdout.read().decode("utf-8", "replace").strip() or f"exit code {self._process.returncode}"

    def _ask(self, command: str, **arguments: Any) -> Any:
        self._control.sendall(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
        while True:
            line = self._answers.readline()
            if not line:
                raise QemuFailed(f"{QEMU} has ended: {self._complaint()}")
            said = json.loads(line)
            if "return" in said:
                return said["return"]
            if "error" in said:
                raise QemuFailed(f"{command}: {said['error'].get('desc')}")

    def close(self) -> None:
        """End it. Idempotent."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        for name in ("_answers", "_control", "_console"):
            opened = getattr(self, name, None)
            if opened is not None:
                with contextlib.suppress(OSError):
                    if isinstance(opened, socket.socket):
                        opened.shutdown(socket.SHUT_RDWR)
                    opened.close()
        reader = getattr(self, "_reader", None)
        if reader is not None:
            reader.join(ANSWER_S)
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._folder.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        port: int = found.getsockname()[1]
        return port
