"""A peer that keeps to no rule: a socket, and frames made by hand."""

from __future__ import annotations

import itertools
import select
import socket
import struct
import time
from typing import Any, Final, Self
from urllib.parse import urlsplit

from gateway.protocol import brine

REQUEST, REPLY, EXCEPTION = 1, 2, 3
VALUE, TUPLE, LOCAL, REMOTE, COPY = 1, 2, 3, 4, 5
HOST: Final = "127.0.0.66"
"""Where the attacks come from, so that the limits per host are not the bystander's too."""

_HEADER: Final = struct.Struct("!LB")


def frame(data: bytes, *, length: int | None = None, flag: int = 0, end: bytes = b"\n") -> bytes:
    """A frame, true or false."""
    return _HEADER.pack(len(data) if length is None else length, flag) + data + end


def by_value(*values: Any) -> tuple[Any, ...]:
    """The argument box of values only."""
    return (VALUE, values)


def boxes(*items: tuple[Any, Any]) -> tuple[Any, ...]:
    """The argument box of boxes."""
    return (TUPLE, items)


def value(it: Any) -> tuple[Any, Any]:
    return (VALUE, it)


def ours(id_pack: tuple[str, int, int]) -> tuple[Any, Any]:
    """A reference to an object that the server owns."""
    return (LOCAL, id_pack)


def theirs(number: int, name: str = "bench.Probe", class_id: int = 7) -> tuple[Any, Any]:
    """A reference to an object that this side owns."""
    return (REMOTE, (name, class_id, number))


def message(kind: int, seq: int, args: Any) -> bytes:
    return bytes((kind,)) + brine.dump((seq, args))


class Hostile:
    """One connection. Nothing is read unless asked for."""

    def __init__(self, url: str, host: str = HOST, *, receive_buffer: int | None = None) -> None:
        parts = urlsplit(url)
        self.sock = socket.socket()
        if receive_buffer is not None:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.sock.bind((host, 0))
        self.sock.settimeout(10)
        self.sock.connect((parts.hostname, parts.port))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._seqs = itertools.count()
        self._received = b""
        self.asked: list[tuple[int, int, Any]] = []
        """What the server asked meanwhile: (seq, handler, box)."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.sock.close()

    # -- sending ----------------------------------------------------------------------------------------------------

    def send(self, data: bytes) -> None:
        """Raises OSError where the server has had enough."""
        self.sock.sendall(data)

    def pour(self, data: bytes, for_s: float) -> int:
        """Send as much of `data` as goes out in that time without waiting for more room; how much."""
        sent, deadline = 0, time.monotonic() + for_s
        view = memoryview(data)
        try:
            while sent < len(data) and time.monotonic() < deadline:
                if not select.select([], [self.sock], [], 0.05)[1]:
                    continue
                sent += self.sock.send(view[sent : sent + 262144], socket.MSG_DONTWAIT)
        except BlockingIOError:
            pass
        except OSError:
            return sent
        return sent

    def request(self, handler: int, box: Any = (VALUE, ())) -> int:
        """Send a request; its sequence number."""
        seq = next(self._seqs)
        self.send(frame(message(REQUEST, seq, (handler, box))))
        return seq

    def answer(self, kind: int, seq: int, args: Any) -> None:
        """Answer a request of the server: REPLY with a box, EXCEPTION with anything."""
        self.send(frame(message(kind, seq, args)))

    def hello(self, *features: str) -> Any:
        return self.ask(71, by_value(1, features))

    # -- receiving --------------------------------------------------------------------------------------------------

    def ask(self, handler: int, box: Any = (VALUE, ())) -> tuple[int, Any]:
        """Send a request and wait for its answer: (REPLY, box) or (EXCEPTION, payload)."""
        return self.answer_to(self.request(handler, box))

    def answer_to(self, seq: int) -> tuple[int, Any]:
        while True:
            kind, got, args = self.receive()
            if kind == REQUEST:
                self.asked.append((got, *args))
            elif got == seq:
                return kind, args

    def asks(self) -> tuple[int, int, Any]:
        """The next request of the server: (seq, handler, box)."""
        while not self.asked:
            kind, seq, args = self.receive()
            if kind == REQUEST:
                self.asked.append((seq, *args))
        return self.asked.pop(0)

    def receive(self) -> tuple[int, int, Any]:
        """The next message: (type, seq, args). Raises EOFError when the server has closed."""
        data = self.receive_raw()
        seq, args = brine.load(data, 1)
        return data[0], seq, args

    def receive_raw(self) -> bytes:
        """The bytes of the next message."""
        length, _ = _HEADER.unpack(self._take(5))
        return self._take(length + 1)[:-1]

    def _take(self, size: int) -> bytes:
        while len(self._received) < size:
            try:
                chunk = self.sock.recv(1 << 20)
            except ConnectionError:
                chunk = b""
            if not chunk:
                raise EOFError("the server closed the connection")
            self._received += chunk
        taken, self._received = self._received[:size], self._received[size:]
        return taken

    def discard(self) -> None:
        """Throw away what has come. Raises EOFError when the server has closed."""
        while select.select([self.sock], [], [], 0)[0]:
            if not self.sock.recv(1 << 20):
                raise EOFError("the server closed the connection")

    def is_dropped(self, within_s: float = 5.0) -> bool:
        """Whether the server closes the connection in that time; what it says before is thrown away."""
        deadline = time.monotonic() + within_s
        try:
            while (left := deadline - time.monotonic()) > 0:
                self.sock.settimeout(left)
                if not self.sock.recv(1 << 20):
                    return True
        except TimeoutError:
            return False
        except OSError:
            return True
        return False

    # -- the usual beginning ----------------------------------------------------------------------------------------

    def root(self) -> tuple[str, int, int]:
        """The id_pack of the root service."""
        kind, (label, id_pack) = self.ask(3)
        assert (kind, label) == (REPLY, REMOTE)
        return id_pack  # type: ignore[no-any-return]

    def device(self, name: str) -> tuple[str, int, int]:
        """The id_pack of a device of a strict server."""
        kind, (label, id_pack) = self.ask(8, boxes(ours(self.root()), value("device"), value((name,)), value(())))
        assert (kind, label) == (REPLY, REMOTE)
        return id_pack  # type: ignore[no-any-return]

    def call(self, target: tuple[str, int, int], name: str, *args: Any) -> int:
        """CALLATTR with values; the sequence number."""
        return self.request(8, boxes(ours(target), value(name), value(args), value(())))
