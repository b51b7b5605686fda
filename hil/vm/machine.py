"""Vm: the machine, started with one command that it runs; it is off when the command has ended."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path
from threading import Condition, Thread
from time import monotonic
from types import TracebackType
from typing import Final, Self

from hil.vm.image import FOLDER, build

START_S: Final = 60.0
MEMORY_MB: Final = 1024
OPTIONS: Final = (
    "console=ttyS0 quiet panic=-1 nokaslr mitigations=off tsc=reliable no_timer_check random.trust_cpu=on net.ifnames=0"
)


class Vm:
    """Runs `command`, a shell's line, in the guest: as root, in a copy of this machine's files.

    `redirs` are names of USB ports: `vm.redir(name)` is the socket that a carrier plugs a device into. `ports` are TCP
    ports of the guest: `vm.port(number)` is the one of 127.0.0.1 that leads there.
    """

    def __init__(
        self, command: str, *, redirs: Iterable[str] = (), ports: Iterable[int] = (), folder: Path = FOLDER
    ) -> None:
        image = build(folder)
        self._folder = Path(tempfile.mkdtemp(prefix="gateway-vm-"))
        self._ports = {number: _free_port() for number in ports}
        self.console = ""
        self._changed = Condition()
        self._over = False
        arguments = [
            *("qemu-system-x86_64", "-M", "q35", "-accel", "tcg", "-cpu", "max", "-smp", "1", "-m", str(MEMORY_MB)),
            *("-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-monitor", "none"),
            *("-serial", "stdio", "-kernel", str(image / "vmlinux"), "-initrd", str(image / "initrd")),
            *("-append", f"{OPTIONS} hilcmd={command}"),
            *("-virtfs", "local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap"),
            *("-device", "qemu-xhci,id=usb"),
        ]
        for name in redirs:
            arguments += ["-chardev", f"socket,id={name},path={self.redir(name)},server=on,wait=off"]
            arguments += ["-device", f"usb-redir,chardev={name},bus=usb.0"]
        if self._ports:
            forwards = "".join(f",hostfwd=tcp:127.0.0.1:{here}-:{there}" for there, here in self._ports.items())
            arguments += ["-netdev", f"user,id=net,restrict=on{forwards}", "-device", "virtio-net-pci,netdev=net"]
        self._process = subprocess.Popen(
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, "TMPDIR": str(self._folder)},
        )
        self._thread = Thread(target=self._read, name="vm console", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def redir(self, name: str) -> Path:
        """The socket of a USB port: connecting to it plugs a device in."""
        return self._folder / f"{name}.sock"

    def port(self, number: int) -> int:
        """The port of 127.0.0.1 that leads to that one in the guest."""
        return self._ports[number]

    def _read(self) -> None:
        stream = self._process.stdout
        assert stream is not None
        while chunk := os.read(stream.fileno(), 65536):
            with self._changed:
                self.console += chunk.decode(errors="replace").replace("\r", "")
                self._changed.notify_all()
        with self._changed:
            self._over = True
            self._changed.notify_all()

    def wait_for(self, text: str, timeout: float = START_S) -> None:
        """Until the console has shown a text. Raises AssertionError, with what it has shown, where that never comes."""
        self._wait(re.compile(re.escape(text)), timeout)

    def wait(self, timeout: float = START_S) -> int:
        """Until the command has ended: its exit code."""
        return int(self._wait(re.compile(r"\[vm\] exit (\d+)\n"), timeout)[1])

    def _wait(self, pattern: re.Pattern[str], timeout: float) -> re.Match[str]:
        deadline = monotonic() + timeout
        with self._changed:
            while (found := pattern.search(self.console)) is None:
                left = deadline - monotonic()
                if self._over or left <= 0:
                    how = "ended" if self._over else f"has not said {pattern.pattern!r} within {timeout:g} s"
                    raise AssertionError(f"the virtual machine {how}:\n{self.console[-4000:]}")
                self._changed.wait(left)
        return found

    def close(self) -> None:
        """Switch it off. Idempotent."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self._thread.join()
        if self._process.stdout is not None:
            self._process.stdout.close()
        shutil.rmtree(self._folder, ignore_errors=True)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])
