"""A serial port on TCP: raw bytes as ser2net gives them, or RFC 2217. One client at a time, loopback only.

The port that is served is a pty here, which has no modem lines and no parity. pyserial's server asks for both; so
`ModemlessPort` says what such a port would: inputs that nobody drives are off, outputs end nowhere, parity is refused.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import termios
import threading
from collections.abc import Callable
from typing import Any, Final

import serial
from serial.rfc2217 import PortManager

CHUNK: Final = 4096
JOIN_S: Final = 10.0


class ModemlessPort(serial.Serial):
    """A port with three wires: transmit, receive and ground. Raises ValueError for what its driver refuses."""

    @property
    def cts(self) -> bool:
        return False

    @property
    def dsr(self) -> bool:
        return False

    @property
    def ri(self) -> bool:
        return False

    @property
    def cd(self) -> bool:
        return False

    def _update_rts_state(self) -> None:
        """Nothing is connected there."""

    def _update_dtr_state(self) -> None:
        """Nothing is connected there."""

    def _update_break_state(self) -> None:
        """A pty has none."""

    def _reconfigure_port(self, force_update: bool = False) -> None:
        try:
            super()._reconfigure_port(force_update)  # type: ignore[misc]
        except termios.error as refused:
            raise ValueError(f"the driver refuses these settings: {refused}") from None


class Client:
    """One connection, and the port that it has."""

    def __init__(self, sock: socket.socket, port: str, *, settings: bool) -> None:
        """Raises OSError when the port is not there or taken."""
        self.sock = sock
        self.port = ModemlessPort(port, timeout=0, exclusive=True)
        self.to_port = b""
        self.to_client = b""
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.manager = PortManager(self.port, self) if settings else None  # type: ignore[arg-type]

    def write(self, data: bytes) -> None:
        """Answers of the port manager go between the data."""
        self.to_client += data

    def take_from_client(self) -> None:
        """Raises OSError when the client has gone."""
        data = self.sock.recv(CHUNK)
        if not data:
            raise ConnectionError("the client closed")
        self.to_port += b"".join(self.manager.filter(data)) if self.manager else data

    def take_from_port(self) -> None:
        """Raises OSError when the port has gone."""
        data = os.read(self.port.fileno(), CHUNK)
        if not data:
            raise ConnectionError("the port hung up")
        self.to_client += b"".join(self.manager.escape(data)) if self.manager else data

    def give(self, *, port: bool, client: bool) -> None:
        if port and self.to_port:
            self.to_port = self.to_port[os.write(self.port.fileno(), self.to_port) :]
        if client and self.to_client:
            self.to_client = self.to_client[self.sock.send(self.to_client) :]

    def close(self) -> None:
        self.sock.close()
        with contextlib.suppress(OSError, termios.error):
            self.port.close()


class PortServer:
    """Serves the port that `port()` names at that moment; with `settings` by RFC 2217, without as plain bytes."""

    def __init__(self, port: Callable[[], str], *, settings: bool) -> None:
        self._port = port
        self._settings = settings
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"{'rfc2217' if settings else 'socket'}://127.0.0.1:{self._listener.getsockname()[1]}"
        """For `serial.serial_for_url`."""
        self._wake_read, self._wake_write = os.pipe()
        self._client: Client | None = None
        self._thread = threading.Thread(target=self._run, name="hil-port-server", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Drop the client and free the TCP port. Idempotent."""
        if self._wake_write < 0:
            return
        os.write(self._wake_write, b"x")
        self._thread.join(JOIN_S)
        self._listener.close()
        os.close(self._wake_read)
        os.close(self._wake_write)
        self._wake_write = -1

    def _run(self) -> None:
        while True:
            client = self._client
            reads: list[Any] = [self._wake_read, self._listener]
            writes: list[Any] = []
            if client is not None:
                reads += [client.sock] if not client.to_port else []
                reads += [client.port] if len(client.to_client) < CHUNK else []
                writes += [client.port] if client.to_port else []
                writes += [client.sock] if client.to_client else []
            readable, writable, _ = select.select(reads, writes, [])
            if self._wake_read in readable:
                self._drop()
                return
            if client is not None:
                self._carry(client, readable, writable)
            if self._listener in readable:
                self._accept()

    def _carry(self, client: Client, readable: list[Any], writable: list[Any]) -> None:
        try:
            if client.sock in readable:
                client.take_from_client()
            if client.port in readable:
                client.take_from_port()
            client.give(port=client.port in writable, client=client.sock in writable)
        except BlockingIOError:
            pass
        except (OSError, serial.SerialException):
            self._drop()

    def _accept(self) -> None:
        sock, _ = self._listener.accept()
        if self._client is not None:
            sock.close()
            return
        try:
            self._client = Client(sock, self._port(), settings=self._settings)
        except (OSError, ValueError):
            sock.close()

    def _drop(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None
