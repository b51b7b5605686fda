"""Raw sockets under the benchmark: the floor that no protocol can beat, and a relay that counts bytes.

The floor is a blocking ping-pong of `REQUEST_BYTES` up and `REPLY_BYTES` down over TCP: the sizes of rpyc's cached
method call and of its answer.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Self

REQUEST_BYTES = 81
REPLY_BYTES = 17


def serve_floor() -> str:
    """Answer ping-pongs on a new loopback port, from daemon threads; return its URL."""
    listener = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=_accept, args=(listener, _answer), daemon=True).start()
    return f"tcp://127.0.0.1:{listener.getsockname()[1]}"


def serve_bulk(path: str, blob: bytes) -> str:
    """Answer each byte on a Unix socket with `blob`, from daemon threads; return its URL. The floor of bulk."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(path)
    listener.listen()

    def answer(client: socket.socket) -> None:
        with client:
            while client.recv(1):
                client.sendall(blob)

    threading.Thread(target=_accept, args=(listener, answer), daemon=True).start()
    return f"unix://{path}"


def _accept(listener: socket.socket, handle: Callable[[socket.socket], None]) -> None:
    while True:
        try:
            client, _ = listener.accept()
        except OSError:
            return
        threading.Thread(target=handle, args=(client,), daemon=True).start()


def _answer(client: socket.socket) -> None:
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    reply = bytes(REPLY_BYTES)
    with client:
        while True:
            received = 0
            while received < REQUEST_BYTES:
                data = client.recv(4096)
                if not data:
                    return
                received += len(data)
            client.sendall(reply)


def ping_pong(sock: socket.socket, count: int) -> None:
    """Make `count` round trips against `serve_floor`. Raises EOFError when the other end is gone."""
    request = bytes(REQUEST_BYTES)
    for _ in range(count):
        sock.sendall(request)
        received = 0
        while received < REPLY_BYTES:
            data = sock.recv(4096)
            if not data:
                raise EOFError("the floor server closed the connection")
            received += len(data)


class TappingRelay:
    """A Unix socket that passes everything on to another one and counts the bytes of each direction.

    A Unix socket, because on TCP a relay would also move the stalls that Nagle and delayed acknowledgements cause.
    """

    def __init__(self, path: str, target: str) -> None:
        self.path = path
        self.up = 0
        """Bytes from the client to the server so far."""
        self.down = 0
        self._target = target
        self._sockets: list[socket.socket] = []
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(path)
        self._listener.listen()

    def __enter__(self) -> Self:
        threading.Thread(target=_accept, args=(self._listener, self._relay), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for sock in (self._listener, *self._sockets):
            with suppress(OSError):  # Already gone from the other end.
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()

    def _relay(self, client: socket.socket) -> None:
        server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        server.connect(self._target)
        self._sockets += [client, server]
        threading.Thread(target=self._pump, args=(server, client, "down"), daemon=True).start()
        self._pump(client, server, "up")

    def _pump(self, source: socket.socket, sink: socket.socket, direction: str) -> None:
        try:
            while data := source.recv(65536):
                # Counted before it is passed on: whoever sees the answer sees the count of its request too.
                setattr(self, direction, getattr(self, direction) + len(data))
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            return  # One of the two ends closed; the other pump notices by itself.
