"""The real `gateway` command in a process of its own, as a bench runs it.

with GatewayProcess(["serve", "bench.toml"]) as running:
    running.document["url"], running.connect()
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from time import monotonic
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

if TYPE_CHECKING:
    import gateway

START_S: Final = 30.0
STOP_S: Final = 20.0
RETRY_S: Final = 0.05
COMMAND: Final = (sys.executable, "-m", "gateway")


class GatewayFailed(RuntimeError):
    """The command ended, or said nothing; the message has what it wrote to stderr."""


class GatewayProcess:
    """`gateway WORDS --json`, from the moment it serves. A context manager."""

    def __init__(self, words: Sequence[str], environment: dict[str, str] | None = None) -> None:
        """Returns when the command has printed its JSON line. Raises GatewayFailed when it does not.

        mDNS stays on the loopback interface unless `environment` says otherwise.
        """
        self._words = list(words)
        self._errors = tempfile.TemporaryFile(mode="w+", encoding="utf-8")  # noqa: SIM115 - closed by close()
        self._process = subprocess.Popen(
            [*COMMAND, *self._words, "--json"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env={**os.environ, "INSTRUMENT_GATEWAY_INTERFACES": "127.0.0.1", **(environment or {})},
        )
        try:
            self.document: dict[str, Any] = self._read_document()
        except BaseException:
            self.close()
            raise

    @property
    def url(self) -> str:
        """Where it serves."""
        url: str = self.document["url"]
        return url

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    @property
    def complaints(self) -> str:
        """What it has written to stderr so far."""
        self._errors.seek(0)
        return self._errors.read()

    def connect(self) -> gateway.Connection:
        """A connection to it. The caller closes it."""
        import gateway

        return gateway.connect(self.url)

    def wait_for(self, name: str, timeout_s: float = START_S) -> None:
        """Wait until the device `name` can be reached: one behind an instrument host may come later.

        Raises GatewayFailed with the last reason when it does not come.
        """
        deadline, pause = monotonic() + timeout_s, threading.Event()
        with self.connect() as connection:
            while True:
                try:
                    connection.root.device(name).identify()
                except (LookupError, ConnectionError, TimeoutError) as error:
                    if monotonic() > deadline:
                        raise GatewayFailed(f"{self._shown}: no {name} within {timeout_s:g} s: {error}") from error
                    pause.wait(RETRY_S)
                else:
                    return

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Ask it to end, and wait: devices are made safe. Its exit code. Raises GatewayFailed when it goes on."""
        self._process.send_signal(number)
        try:
            return self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            raise GatewayFailed(
                f"{self._shown} still runs {STOP_S:g} s after signal {number}: {self.complaints}"
            ) from None

    def kill(self) -> None:
        """Let it die without a word, as in a power cut."""
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        """End it, if need be by force. Idempotent."""
        if self.running:
            with contextlib.suppress(GatewayFailed):
                self.stop()
        if self.running:
            self.kill()
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._errors.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def _shown(self) -> str:
        return f"gateway {' '.join(self._words)}"

    def _read_document(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        descriptor, printed, deadline = self._process.stdout.fileno(), b"", monotonic() + START_S
        while not printed.endswith(b"\n"):
            ready, _, _ = select.select([descriptor], [], [], max(0.0, deadline - monotonic()))
            if not ready:
                raise GatewayFailed(f"{self._shown} said nothing within {START_S:g} s: {self.complaints}")
            data = os.read(descriptor, 65536)
            if not data:
                code = self._process.wait(STOP_S)
                raise GatewayFailed(f"{self._shown} ended with code {code}: {self.complaints or printed.decode()}")
            printed += data
        document: dict[str, Any] = json.loads(printed)
        if "error" in document:
            code = self._process.wait(STOP_S)
            raise GatewayFailed(f"{self._shown} ended with code {code}: {document['error']['message']}")
        return document
