"""Transfers of a host that wait for a model: what carriers have in common that get them one by one from a kernel."""

from __future__ import annotations

import contextlib
import socket
from abc import ABC, abstractmethod
from collections import defaultdict, deque
from threading import RLock
from typing import Final

from hil.usb.model import IN, UsbModel

DONE, STALLED = 0, 1
"""How a transfer went."""
_ANY: Final = b""


class Transfers(ABC):
    """Bulk transfers by their number; a model is plugged in as one is made, and pulled out by `end`.

    Those of an endpoint are answered in their order, each as soon as the model has something, or room.
    """

    def __init__(self, model: UsbModel) -> None:
        self.model = model
        self.lock = RLock()
        """Held while transfers are answered."""
        self._waiting: dict[int, deque[tuple[int, int, bytes]]] = defaultdict(deque)
        """By endpoint: number, size, and what a write brings."""
        model.was_plugged()
        model.on_change.append(self.go_on)

    @abstractmethod
    def answer(self, number: int, endpoint: int, status: int, data: bytes, size: int) -> None:
        """Tell the host. Raises OSError where it is gone."""

    def read(self, number: int, endpoint: int, size: int) -> None:
        """The host wants to read."""
        self._add(endpoint, (number, size, _ANY))

    def write(self, number: int, endpoint: int, data: bytes) -> None:
        """The host has written."""
        self._add(endpoint, (number, len(data), data))

    def _add(self, endpoint: int, transfer: tuple[int, int, bytes]) -> None:
        with self.lock:
            self._waiting[endpoint].append(transfer)
        self.go_on()

    def cancel(self, number: int) -> int | None:
        """The host takes a transfer back: its endpoint, None where it was answered already."""
        with self.lock:
            for endpoint, waiting in self._waiting.items():
                for transfer in list(waiting):
                    if transfer[0] == number:
                        waiting.remove(transfer)
                        return endpoint
        return None

    def go_on(self) -> None:
        """Something has changed: answer what can be answered."""
        with contextlib.suppress(OSError), self.lock:  # it may be pulled out just now
            for endpoint, waiting in list(self._waiting.items()):
                while waiting and self._answered(endpoint, *waiting[0]):
                    pass

    def _answered(self, endpoint: int, number: int, size: int, data: bytes) -> bool:
        model, waiting = self.model, self._waiting[endpoint]
        if endpoint in model.halted:
            waiting.popleft()
            self.answer(number, endpoint, STALLED, b"", 0)
        elif endpoint & IN:
            with model.changed:
                taken = model.take(endpoint, size)
            if taken is None:
                return False
            waiting.popleft()
            self.answer(number, endpoint, DONE, taken, len(taken))
        elif model.has_room(endpoint):
            waiting.popleft()
            self.answer(number, endpoint, DONE, b"", size)
            model.received(endpoint, data)
        else:
            return False
        return True

    def end(self) -> None:
        """The host is gone, or the cable was pulled."""
        self.model.on_change.remove(self.go_on)
        self.model.was_unplugged()


def exactly(sock: socket.socket, size: int) -> bytes:
    """So many bytes of a socket. Raises EOFError where it ends before, OSError."""
    taken = bytearray()
    while len(taken) < size:
        chunk = sock.recv(size - len(taken))
        if not chunk:
            raise EOFError
        taken += chunk
    return bytes(taken)
