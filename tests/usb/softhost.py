"""An instrument host in software that is plugged in by USB: its devices count what is done to them."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from queue import Empty
from typing import Any

import gateway
from gateway.server.registry import GatewayService
from gateway.service.exposure import Exposable, exposed
from hil.usb.function import RpycFunction


class Counter(Exposable):
    """A device that counts its calls, and remembers whose they were."""

    state = "open"

    def __init__(self) -> None:
        self.calls: list[int] = []
        self.entered = threading.Event()
        self.release = threading.Event()

    @exposed
    def count(self, number: int) -> int:
        """Remember a number."""
        self.calls.append(number)
        return len(self.calls)

    @exposed
    def block(self, number: int) -> int:
        """Remember a number, and wait until `release` is set."""
        self.calls.append(number)
        self.entered.set()
        self.release.wait(20.0)
        return len(self.calls)

    @exposed(access="read")
    def echo(self, data: bytes) -> bytes:
        """The same bytes."""
        return data


class SoftHost:
    """Serves a `Counter` called `box` to whoever opens the function. A carrier has to plug `function` in."""

    def __init__(self, stack: ExitStack, serial_number: str = "HIL0001") -> None:
        self.function = RpycFunction(serial_number)
        self.box = Counter()
        self._server = gateway.Server(GatewayService({"box": self.box}), strict=True)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="soft host", daemon=True)
        self._thread.start()
        stack.callback(self._close)

    def _serve(self) -> None:
        while not self._ended.is_set():
            try:
                channel = self.function.channels.get(timeout=0.05)
            except Empty:
                continue
            self._server.serve_channel(channel)

    def _close(self) -> None:
        self.box.release.set()
        self._ended.set()
        self._thread.join()
        self._server.close()


def numbers_once(box: Counter) -> Any:
    """Whether no number came twice."""
    return len(box.calls) == len(set(box.calls))
